#!/bin/sh
# What `make sanitize-cuda` does: the kernels' tests with the C++ build under AddressSanitizer,
# UndefinedBehaviorSanitizer, and, on three threads a block, ThreadSanitizer. Needs GCC's libraries of them.
set -eu

for sanitizer in address undefined thread; do
    case $sanitizer in
    address) library=libasan.so ;;
    undefined) library=libubsan.so ;;
    thread) library=libtsan.so ;;
    esac
    export VAEANOMALY_SANITIZE=$sanitizer
    program=$(${CARGO:-cargo} test --lib --no-default-features --no-run --message-format json |
        sed -n 's/.*"kind":\["cdylib","rlib"\].*"executable":"\([^"]*\)".*/\1/p')
    echo "== $sanitizer: $program"
    # Rust's part is not built with it, so the library comes first by force; what Rust does not free at the end is fine.
    # Some versions need addresses that are not randomised.
    setarch -R env LD_PRELOAD="$(${CC:-cc} -print-file-name=$library)" ASAN_OPTIONS=detect_leaks=0 \
        TSAN_OPTIONS="halt_on_error=1 ignore_noninstrumented_modules=1" "$program" engine::cuda::tests::kernels --test-threads 1
done
