#!/bin/sh
# Runs a command with all that a build with feature `cuda` needs in its environment:
#
#     sh src/cuda_link/toolkit.sh cargo build --release --features cuda
#
# The compiler is nvcc: the one that NVCC names, else an installed one that is not newer than 13.0 (what a newer one
# makes is refused by drivers of CUDA 13.0), else NVIDIA's Python packages, unpacked into target/cuda/toolkit. No GPU and
# no driver are needed. Exit status 3: there is no compiler and none can be fetched.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
folder=$(cd "$here/../.." && pwd)/target
mkdir -p "${CARGO_TARGET_DIR:-$folder}/cuda/bin"
folder=$(cd "${CARGO_TARGET_DIR:-$folder}/cuda" && pwd)
toolkit=$folder/toolkit
NEWEST=1300

# Release of a compiler as a number, 13.0 as 1300; nothing where it does not run.
release() {
    "$1" --version 2>/dev/null | sed -n 's/.*release \([0-9]*\)\.\([0-9]*\).*/\1 \2/p' | {
        read -r major minor && echo $((major * 100 + minor))
    }
}

installed() {
    for nvcc in "$(command -v nvcc || true)" "${CUDA_HOME:-/usr/local/cuda}/bin/nvcc" /usr/local/cuda/bin/nvcc; do
        [ -n "$nvcc" ] && [ -x "$nvcc" ] && [ "${nvcc#"$folder"}" = "$nvcc" ] || continue
        number=$(release "$nvcc") || continue
        if [ "$number" -le "$NEWEST" ]; then
            echo "$nvcc"
            return
        fi
        echo "$nvcc is newer than CUDA 13.0; its output needs a newer driver, so 13.0 is fetched." >&2
    done
}

fetch() {
    echo "Fetching NVIDIA's compiler 13.0 into $toolkit (105 MB)" >&2
    rm -rf "$toolkit" "$folder/wheels"
    python3 -m pip download --quiet --no-deps --only-binary :all: --dest "$folder/wheels" \
        'nvidia-cuda-nvcc==13.0.*' 'nvidia-nvvm==13.0.*' 'nvidia-cuda-crt==13.0.*' \
        'nvidia-cuda-cccl==13.0.*' 'nvidia-cuda-runtime==13.0.*' >&2 || return 1
    for wheel in "$folder"/wheels/*.whl; do
        python3 -m zipfile -e "$wheel" "$folder/unpacked"
    done
    rm -rf "$folder/wheels"
    chmod +x "$folder"/unpacked/nvidia/cu13/bin/* "$folder"/unpacked/nvidia/cu13/nvvm/bin/*
    mv "$folder/unpacked/nvidia/cu13" "$toolkit"
    rm -rf "$folder/unpacked"
}

if [ -z "${VAEANOMALY_NVCC:-}" ]; then
    VAEANOMALY_NVCC=${NVCC:-$(installed)}
fi
if [ -z "$VAEANOMALY_NVCC" ]; then
    VAEANOMALY_NVCC=$toolkit/bin/nvcc
    [ -x "$VAEANOMALY_NVCC" ] || fetch || {
        echo "No nvcc up to 13.0 is installed, and NVIDIA's Python packages cannot be fetched." >&2
        exit 3
    }
fi
echo "CUDA compiler: $VAEANOMALY_NVCC ($("$VAEANOMALY_NVCC" --version | sed -n 's/.*release //p'))" >&2

cmp -s "$here/nvcc.sh" "$folder/bin/nvcc" || install -m 755 "$here/nvcc.sh" "$folder/bin/nvcc"
# Candle's and our kernels as PTX that runs from compute capability 7.5 upwards. CUDA_HOME: without libraries, so that
# the linker finds only what build.rs puts in their place.
unset CUDA_PATH CUDA_ROOT CUDA_TOOLKIT_ROOT_DIR CUDNN_LIB
export VAEANOMALY_NVCC NVCC="$folder/bin/nvcc" PATH="$folder/bin:$PATH" CUDA_HOME="$folder" CUDA_COMPUTE_CAP=75
exec "$@"
