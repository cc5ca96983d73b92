#!/bin/sh
# What `make bench` does: one table of figures from one run, and target/bench/summary.json.
#
# TORCH_PYTHON names a Python that has PyTorch; without it a virtual environment is made in target/bench/venv.
# TORCH_INDEX, if given, is the address of a package index that has PyTorch's wheels for CPUs alone, which are much
# smaller than the usual ones. Where PyTorch cannot be had, the table lacks the ratios to it.
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
            || echo "PyTorch cannot be installed: no ratios to it" >&2
    fi
fi
export TORCH_PYTHON

${CARGO:-cargo} bench --bench machine -- table
