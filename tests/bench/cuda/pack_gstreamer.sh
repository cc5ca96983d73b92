#!/bin/sh
# Packs the plugin with its GStreamer for a machine that has an NVIDIA GPU with NVDEC but neither cargo nor GStreamer:
# gst-launch-1.0, the plugins of a decoding pipeline, their libraries, a rendered clip in H.264, and the script that checks
# and measures the element with frames that stay on the GPU. One folder of some 40 MB, for x86-64.
#
#     sh tests/bench/cuda/pack_gstreamer.sh           builds the plugin as `make cuda` does, and packs it
#     sh tests/bench/cuda/pack_gstreamer.sh PLUGIN    packs that one
#
# On the other machine: sh run.sh; or as the folder gstreamer in that of `make bench-cuda`, whose run.sh then runs it too.
set -eu

target=${CARGO_TARGET_DIR:-target}/cuda
pack=$target/bench-gstreamer
plugin=${1:-$target/release/libgstvaeanomaly.so}
if [ $# = 0 ]; then
    sh src/cuda_link/toolkit.sh ${CARGO:-cargo} build --release --lib --features cuda --target-dir "$target"
fi
clip=$target/bench-gstreamer.h264

rm -rf "$pack"
mkdir -p "$pack/bin" "$pack/plugins" "$pack/lib" "$pack/libc"
system=$(pkg-config --variable=pluginsdir gstreamer-1.0)
cp "$(command -v gst-launch-1.0)" "$(command -v gst-inspect-1.0)" "$pack/bin"
for name in coreelements videoparsersbad nvcodec videotestsrc videoconvertscale typefindfunctions; do
    cp "$system/libgst$name.so" "$pack/plugins"
done
strip -o "$pack/plugins/libgstvaeanomaly.so" "$plugin"

# What all of them need, and libgstcuda, which the plugin looks for at run time. The C library and its loader are apart: they
# are used only where the machine's own are older.
cuda=$(ldd "$system/libgstnvcodec.so" | sed -n 's/.*=> \(.*libgstcuda[^ ]*\).*/\1/p')
ldd "$pack"/bin/* "$pack"/plugins/* "$cuda" | sed -n 's/.*=> \(\/[^ ]*\).*/\1/p; s/^[[:space:]]*\(\/[^ ]*ld-linux[^ ]*\).*/\1/p' |
    sort -u | while read -r library; do
    case ${library##*/} in
    ld-linux* | libc.so* | libm.so* | libpthread.so* | libdl.so* | librt.so* | libresolv.so*) cp -L "$library" "$pack/libc" ;;
    libcuda.so* | libnvcuvid.so*) ;;
    *) cp -L "$library" "$pack/lib" ;;
    esac
done
cp -L "$cuda" "$pack/lib"
# The driver's libraries ask for these, which must be the C library's own.
for name in libdl.so.2 librt.so.1 libpthread.so.0; do
    cp -L "$(dirname "$(ldd "$cuda" | sed -n 's/.*=> \(.*\/libc\.so[^ ]*\).*/\1/p')")/$name" "$pack/libc"
done

# Sixteen seconds of 1080p: a ball over a moving pattern.
if [ ! -s "$clip" ]; then
    gst-launch-1.0 -q videotestsrc num-buffers=400 pattern=ball animation-mode=frames motion=sweep \
        background-color=0xff405060 ! video/x-raw,format=I420,width=1920,height=1080,framerate=25/1 \
        ! x264enc speed-preset=superfast key-int-max=50 bitrate=2000 ! video/x-h264,profile=high,stream-format=byte-stream \
        ! filesink location="$clip.part"
    mv "$clip.part" "$clip"
fi
cp "$clip" "$pack/clip.h264"
cp tests/bench/cuda/run_gstreamer.sh "$pack/run.sh"
du -sh "$pack"
echo "Copy $pack to a machine with an NVIDIA GPU and run there: sh run.sh"
