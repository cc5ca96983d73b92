#!/bin/sh
# Makes a chroot with Debian 13, installs the Debian package in it, and runs the recipes with the GStreamer of that release.
# Then builds the plugin and its package there, which turns on the feature v1_24, and tests the analytics metadata.
#
# usage: debian13.sh PACKAGE.deb [FOLDER]
# The working tree is built. FOLDER is the chroot: made where it does not exist, and kept. Without it, one is made and removed.
# Needs root, debootstrap, Rust, network, about 5 GB and a quarter of an hour. MIRROR is the Debian mirror, where it is not
# debootstrap's default.
set -eu

deb=$1
chroot=${2:-}
[ -f "$deb" ] || {
    echo "PACKAGE.deb must be a file, got '$deb'; make deb builds it" >&2
    exit 2
}
[ "$(id -u)" = 0 ] && command -v debootstrap >/dev/null || {
    echo "Needs root and the Debian package debootstrap" >&2
    exit 2
}
root=$(cd "$(dirname "$0")/.." && pwd)
keep=yes
if [ -z "$chroot" ]; then
    chroot=$(mktemp -d)
    keep=
fi
# What is mounted is mounted read-only, and nothing is removed while something is.
clean_up() {
    for folder in proc source rust cargo/registry; do
        ! mountpoint -q "$chroot/$folder" || umount "$chroot/$folder" || keep=yes
    done
    if [ -n "$keep" ]; then
        rm -rf "$chroot/build"
    else
        rm -rf "$chroot"
    fi
}
trap clean_up EXIT
trap 'exit 1' INT TERM
[ -x "$chroot/usr/bin/dpkg" ] || debootstrap --variant=minbase trixie "$chroot" ${MIRROR:-}
cp "$deb" "$chroot/tmp/vaeanomaly.deb"

run() {
    chroot "$chroot" /usr/bin/env -i PATH=/rust/bin:/usr/sbin:/usr/bin HOME=/root LC_ALL=C DEBIAN_FRONTEND=noninteractive \
        CARGO_HOME=/cargo CARGO_NET_OFFLINE=true CARGO_TARGET_DIR=/build "$@"
}
run apt-get update -q
run apt-get install -y -q --no-install-recommends --reinstall /tmp/vaeanomaly.deb gstreamer1.0-tools \
    gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly \
    gstreamer1.0-libav >/dev/null
version=$(run gst-inspect-1.0 --version | sed -n 's/^gst-inspect-1.0 version //p')
echo "Debian $(cat "$chroot/etc/debian_version"), GStreamer $version"
run gst-inspect-1.0 vaeanomaly >/dev/null
run gst-inspect-1.0 vaeanomalygate >/dev/null
run gst-inspect-1.0 vaeanomalyoverlay >/dev/null

failed=
# recipe NAME VARIABLE=VALUE...: runs a recipe; a file or folder that OUT names must have content afterwards.
recipe() {
    name=$1
    shift
    out=
    for variable; do
        case $variable in OUT=*) out=${variable#OUT=} ;; esac
    done
    log=$chroot/tmp/$name.log
    if run env "$@" sh "/usr/share/doc/gstreamer1.0-vaeanomaly/pipelines/$name.sh" >"$log" 2>&1 &&
        ! grep -q ERROR "$log" && { [ -z "$out" ] || [ -n "$(ls -A "$chroot$out")" ]; }; then
        echo "$name: passed"
    else
        echo "$name: FAILED"
        tail -n 5 "$log"
        failed="$failed $name"
    fi
}

frames="video/x-raw,width=160,height=120,framerate=10/1"
source="videotestsrc num-buffers=150 pattern=ball ! $frames"
coded="$source ! x264enc tune=zerolatency key-int-max=20"
recipe print-scores SOURCE="$source"
recipe keep-anomalies SOURCE="$source" OUT=/tmp/kept.mp4
recipe gate-after-encoder SOURCE="$source" OUT=/tmp/events.mkv
recipe gate-camera-copy SOURCE="$coded" OUT=/tmp/copy.mkv
recipe gpu-camera-copy SOURCE="$coded" OUT=/tmp/gpu.mkv DEVICE=cpu DECODER="avdec_h264 ! videoconvert"
recipe gate-beside-viewer SOURCE="$source" SINK=fakesink OUT=/tmp/beside.mkv
recipe two-cameras SOURCE_A="$source" SOURCE_B="$source" OUT_A=/tmp/a.mkv OUT_B=/tmp/b.mkv
recipe restart SOURCE="$source" MODELS=/tmp/models
recipe restart SOURCE="$source" MODELS=/tmp/models
recipe train-then-freeze SOURCE="$source" MODEL=/tmp/camera.safetensors
recipe train-then-freeze SOURCE="$source" MODEL=/tmp/camera.safetensors LEARN=false
recipe masks SOURCE="$source"
recipe snapshots SOURCE="$source" OUT=/tmp/snapshots
recipe overlay SOURCE="$source" SINK="jpegenc ! matroskamux ! filesink location=/tmp/overlay.mkv" OUT=/tmp/overlay.mkv
recipe event-images SOURCE="$source" OUT=/tmp/images
recipe webcam SOURCE="$source" SINK=fakesink
recipe rtsp-to-hls IN=file:///tmp/kept.mp4 OUT=/tmp/hls

# Compilers and crates are those of the machine.
cargo fetch --locked --manifest-path "$root/Cargo.toml" --target "$(rustc -vV | sed -n 's/^host: //p')"
registry=${CARGO_HOME:-$HOME/.cargo}
mkdir -p "$chroot/proc" "$chroot/source" "$chroot/rust" "$chroot/cargo/registry"
[ ! -f "$registry/config.toml" ] || cp "$registry/config.toml" "$chroot/cargo/"
mountpoint -q "$chroot/proc" || mount -t proc proc "$chroot/proc"
for pair in "$root:source" "$(rustc --print sysroot):rust" "$registry/registry:cargo/registry"; do
    mount --bind "${pair%%:*}" "$chroot/${pair#*:}"
    mount -o remount,bind,ro "$chroot/${pair#*:}"
done
run apt-get install -y -q --no-install-recommends make g++ >/dev/null
run make -C /source deb
run sh -c 'dpkg-deb --field /build/deb/*.deb Depends' | grep -q libgstreamer-plugins-bad1.0-0 || {
    echo "The package that was built on Debian 13 does not depend on the analytics library" >&2
    exit 1
}
echo "a package of its own, with the analytics library: passed"
run sh -c 'apt-get install -y -q --no-install-recommends --reinstall --allow-downgrades /build/deb/*.deb' >/dev/null
run gst-launch-1.0 -q $source ! vaeanomaly ! objectdetectionoverlay ! fakesink
echo "objectdetectionoverlay behind vaeanomaly: passed"
run env -C /source G_DEBUG=fatal_warnings cargo test --locked --release --features v1_24 --test analytics
run env -C /source cargo test --locked --release --features v1_24 --lib vaeanomaly::analytics
echo "tests of the analytics metadata: passed"
[ -z "$failed" ] || {
    echo "Failed:$failed" >&2
    exit 1
}
echo "All passed with GStreamer $version"
