#!/bin/sh
# Runs a command with a `libcuda.so.1` that needs no GPU: see src/driver.cpp.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$here/../..
target=${CARGO_TARGET_DIR:-$root/target}/emulated_driver
mkdir -p "$target"
${CXX:-c++} -O2 -std=c++17 -shared -fPIC -Wall -Wextra -Wno-unknown-pragmas -ffp-contract=off \
    -I "$root/src/detector/engine/cuda/kernels" -o "$target/libcuda.so.1" "$here/src/driver.cpp"
LD_LIBRARY_PATH=$target${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} exec "$@"
