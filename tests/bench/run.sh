#!/bin/sh
# `make bench`: measures everything in one run, prints a table, and writes target/bench/summary.json.
#
# TORCH_PYTHON: a Python with PyTorch. Without it, PyTorch is installed into the virtual environment target/bench/venv.
# TORCH_INDEX: optional address of a package index with CPU-only PyTorch wheels, which are much smaller.
# Without PyTorch the table lacks the comparison with it.
set -eu

target=${CARGO_TARGET_DIR:-target}
venv=$target/bench/venv
mkdir -p "$target/bench"

if [ -z "${TORCH_PYTHON:-}" ]; then
    TORCH_PYTHON=$venv/bin/python
    if ! "$TORCH_PYTHON" -c 'import torch' 2>/dev/null; then
        echo "Installing PyTorch for CPUs into $venv"
        python3 -m venv "$venv"
        "$TORCH_PYTHON" -m pip install --quiet ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch numpy \
            || echo "PyTorch cannot be installed: the comparison with it is left out" >&2
    fi
fi
export TORCH_PYTHON

${CARGO:-cargo} bench --bench machine -- table
