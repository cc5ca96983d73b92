#!/bin/sh
# Builds the Debian package from a plugin that was built before, installs it, uses it as a user would, and removes it again.
# Installing needs root or sudo without a password.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
package=gstreamer1.0-vaeanomaly

# The newest one; cargo test builds that of debug/.
plugin=$(ls -t "$target/cuda/release/libgstvaeanomaly.so" "$target/release/libgstvaeanomaly.so" \
    "$target/debug/deps/libgstvaeanomaly.so" 2>/dev/null | head -n 1)
work=$(mktemp -d)
installed=
clean_up() {
    [ -z "$installed" ] || $sudo dpkg --purge $package >/dev/null
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 1' INT TERM

fail() {
    echo "FAILED: $*" >&2
    exit 1
}

# Other folders.
sh "$root/packaging/install.sh" "$plugin" /opt/prefix "$work/destdir" >"$work/path" 2>"$work/hint"
[ -f "$work/destdir/opt/prefix/lib/gstreamer-1.0/libgstvaeanomaly.so" ] || fail "installed as $(cat "$work/path")"
grep -q 'GST_PLUGIN_PATH=/opt/prefix/lib/gstreamer-1.0' "$work/hint" || fail "no hint: $(cat "$work/hint")"
! sh "$root/packaging/install.sh" "$plugin" relative 2>/dev/null || fail "a relative prefix was accepted"

command -v dpkg-shlibdeps >/dev/null || {
    echo "SKIPPED: the Debian package (no dpkg-dev)"
    exit 0
}
deb=$(sh "$root/packaging/deb.sh" "$plugin" "$work")
depends=$(dpkg-deb --field "$deb" Depends)
case $depends in
*libgstreamer1.0-0*) ;;
*) fail "Depends: $depends" ;;
esac
copyright=$(dpkg-deb --fsys-tarfile "$deb" | tar -xO ./usr/share/doc/$package/copyright)
for name in candle-core gstreamer mimalloc; do
    echo "$copyright" | grep -q "^$name [0-9]" || fail "the copyright file does not name $name"
done

sudo=
[ "$(id -u)" = 0 ] || sudo="sudo -n"
if dpkg-query -W -f='${Status}' $package 2>/dev/null | grep -q ' installed'; then
    echo "SKIPPED: installing the Debian package (one is installed already)"
    exit 0
elif ! $sudo true 2>/dev/null; then
    echo "SKIPPED: installing the Debian package (needs root, or sudo without a password)"
    exit 0
fi
installed=yes
$sudo dpkg --install "$deb" >"$work/log" 2>&1 || fail "dpkg: $(cat "$work/log")"
unset GST_PLUGIN_PATH GST_PLUGIN_PATH_1_0
export GST_REGISTRY="$work/registry.bin" LC_ALL=C
for element in vaeanomaly vaeanomalygate vaeanomalyoverlay; do
    gst-inspect-1.0 $element >"$work/log" 2>&1 || fail "$element: $(cat "$work/log")"
    grep -Eq "Filename +(/usr)?/lib/[^ ]*/gstreamer-1.0/libgstvaeanomaly.so" "$work/log" || fail "$element comes from elsewhere"
done
frames=$(SOURCE="videotestsrc num-buffers=20 ! video/x-raw,width=64,height=48,framerate=10/1" \
    sh /usr/share/doc/$package/pipelines/print-scores.sh | grep -c '^frame:')
[ "$frames" = 20 ] || fail "$frames of 20 frames have a score"
echo "Debian package: installed, used and removed ($(basename "$deb"), $(du -k "$deb" | cut -f 1) KiB)"
