#!/bin/sh
# What `make sanitize-cuda` does: the kernels' C++ build under AddressSanitizer with UndefinedBehaviorSanitizer, and, on
# three threads a block and on teams of four blocks, under ThreadSanitizer. They are in a `libcuda.so.1` (src/driver.cpp) below the tests of a GPU.
# Needs GCC's sanitizer libraries.
#
#     sh tests/emulated_kernels/sanitize.sh [PROGRAM]     # PROGRAM: the crate's unit tests, built with feature cuda
set -eu

target=${CARGO_TARGET_DIR:-target}
program=${1:-}
if [ -z "$program" ]; then
    program=$(sh src/cuda_link/toolkit.sh ${CARGO:-cargo} test --lib --no-default-features --features cuda --no-run \
        --target-dir "$target/cuda" --message-format json-render-diagnostics |
        sed -n 's/.*"kind":\["cdylib","rlib"\].*"executable":"\([^"]*\)".*/\1/p')
fi

# check NAME FLAGS LIBRARIES TEST
check() {
    echo "== $1"
    folder=$target/sanitized_driver/$1
    mkdir -p "$folder"
    # shellcheck disable=SC2086 # flags are several words
    ${CXX:-c++} -O1 -g -std=c++17 -shared -fPIC -Wno-unknown-pragmas -fno-sanitize-recover=all $2 \
        -I src/detector/engine/cuda/kernels -o "$folder/libcuda.so.1" tests/emulated_kernels/src/driver.cpp
    preload=''
    for library in $3; do
        preload=$preload:$(${CXX:-c++} -print-file-name="$library")
    done
    # Rust's part is not built with the sanitizer: its library comes first by force, what Rust allocates is ignored. Some
    # versions of ThreadSanitizer need addresses that are not randomised.
    setarch -R env LD_PRELOAD="${preload#:}" LD_LIBRARY_PATH="$folder" ASAN_OPTIONS=detect_leaks=0 \
        TSAN_OPTIONS="halt_on_error=1 ignore_noninstrumented_modules=1" "$program" "$4" --nocapture --test-threads 1 \
        >"$folder/log.txt" 2>&1 || { cat "$folder/log.txt"; exit 1; }
    cat "$folder/log.txt"
    # A test that finds no device passes.
    if grep -q skipped "$folder/log.txt"; then exit 1; fi
}

check memory "-fsanitize=address,undefined" "libasan.so libubsan.so" engine::cuda::tests::gpu::nets_of_any_shape
check threads "-fsanitize=thread -DEMULATED_THREADS=3" libtsan.so engine::cuda::tests::gpu::nets_of_any_shape
check teams "-fsanitize=thread -DTEAM=4 -DEMULATED_THREADS=8" libtsan.so engine::cuda::tests::gpu::small_nets
