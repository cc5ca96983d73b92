#!/bin/sh
# Makes a chroot with Debian 13, installs the Debian package in it, and runs the recipes with the GStreamer of that release.
#
# usage: debian13.sh PACKAGE.deb [FOLDER]
# FOLDER is the chroot: made where it does not exist, and kept. Without it, one is made and removed. Needs root, debootstrap,
# network, about 1.5 GB and some minutes. MIRROR is the Debian mirror, where it is not debootstrap's default.
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
if [ -z "$chroot" ]; then
    chroot=$(mktemp -d)
    trap 'rm -rf "$chroot"' EXIT
fi
[ -x "$chroot/usr/bin/dpkg" ] || debootstrap --variant=minbase trixie "$chroot" ${MIRROR:-}
cp "$deb" "$chroot/tmp/vaeanomaly.deb"

run() {
    chroot "$chroot" /usr/bin/env -i PATH=/usr/sbin:/usr/bin HOME=/root LC_ALL=C DEBIAN_FRONTEND=noninteractive "$@"
}
run apt-get update -q
run apt-get install -y -q --no-install-recommends --reinstall /tmp/vaeanomaly.deb gstreamer1.0-tools \
    gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly \
    gstreamer1.0-libav >/dev/null
run gst-inspect-1.0 --version | head -n 1
run gst-inspect-1.0 vaeanomaly >/dev/null
run gst-inspect-1.0 vaeanomalygate >/dev/null

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
recipe webcam SOURCE="$source" SINK=fakesink
recipe rtsp-to-hls IN=file:///tmp/kept.mp4 OUT=/tmp/hls
[ -z "$failed" ] || {
    echo "Failed:$failed" >&2
    exit 1
}
