#!/bin/sh
# What `make bench-cuda` does: packs programs and scripts into target/cuda/bench/, for a machine that has a GPU but
# neither cargo nor GStreamer, and runs them where there is a driver.
set -eu

target=${CARGO_TARGET_DIR:-target}/cuda
pack=$target/bench
rm -rf "$pack"
mkdir -p "$pack"

sh src/cuda_link/toolkit.sh ${CARGO:-cargo} test --no-run --release --target-dir "$target" \
    --no-default-features --features cuda,mimalloc --lib --test cuda --bench cuda \
    --message-format json-render-diagnostics >"$pack/messages"
program() {
    sed -n "s/.*\"kind\":\[$1\].*\"executable\":\"\([^\"]*\)\".*/\1/p" "$pack/messages"
}
strip -o "$pack/vaeanomaly-bench-cuda" "$(program '"bench"')"
strip -o "$pack/tests-parts" "$(program '"cdylib","rlib"')"
strip -o "$pack/tests-whole" "$(program '"test"')"
rm "$pack/messages"
cp tests/bench/cuda/run.sh tests/bench/torch_nets.py tests/bench/torch_cuda.py "$pack"
du -h "$pack"/*

if ldconfig -p 2>/dev/null | grep -q 'libcuda\.so\.1'; then
    exec sh "$pack/run.sh"
fi
echo "There is no NVIDIA driver here. Copy $pack to a machine that has one and run there:"
echo "    sh run.sh            # tests, and the table"
echo "    sh run.sh soak 10    # ten minutes of one camera: does the GPU's memory grow?"
