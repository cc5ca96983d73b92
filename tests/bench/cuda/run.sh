#!/bin/sh
# Runs what `make bench-cuda` packed, on a machine with an NVIDIA GPU: the tests of the GPU's side, PyTorch's nets, and
# the table. It needs the driver, CUDA's cublas and curand (those of a PyTorch with CUDA will do), no cargo, no GStreamer.
#
#     sh run.sh               tests and table; the table is also in table.txt
#     sh run.sh soak 10       ten minutes of one camera, and the GPU's memory
#
# TORCH_PYTHON names a Python that has PyTorch with CUDA; without one the table lacks the ratios to it.
set -eu
cd "$(dirname "$0")"
python=${TORCH_PYTHON:-python3}

# Where PyTorch's packages keep NVIDIA's libraries.
libraries=$("$python" - 2>/dev/null <<'PYTHON' || true
import glob, os, site, sys
places = site.getsitepackages() + [site.getusersitepackages()]
found = [d for p in places for d in glob.glob(os.path.join(p, "nvidia", "*", "lib"))]
print(":".join(found))
PYTHON
)
export LD_LIBRARY_PATH="${LD_LIBRARY_PATH:-}${libraries:+:$libraries}"

if [ "${1:-}" = soak ]; then
    exec ./vaeanomaly-bench-cuda soak "${2:-10}"
fi

./tests-parts cuda placed --nocapture --test-threads 1
./tests-whole --nocapture --test-threads 1
if "$python" torch_cuda.py >torch.json; then
    set -- torch.json
else
    echo "No PyTorch with CUDA in $python: the table lacks the ratios to it." >&2
    set --
fi
# The status of the program, not of tee.
./vaeanomaly-bench-cuda table "$@" >table.txt || { status=$?; cat table.txt; exit $status; }
cat table.txt
