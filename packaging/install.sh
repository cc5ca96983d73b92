#!/bin/sh
# `make install`: puts the plugin where the GStreamer of this prefix looks for it.
#
# usage: install.sh PLUGIN PREFIX [DESTDIR]
# Debian's folders have the architecture in their names; LIBDIR overrides PREFIX/lib or PREFIX/lib/ARCHITECTURE. Static
# linking through pkg-config: `cargo cinstall`.
set -eu

plugin=$1
prefix=$2
destdir=${3:-}
[ -f "$plugin" ] || {
    echo "PLUGIN must be the plugin's file, got '$plugin'" >&2
    exit 2
}
case $prefix in
/*) ;;
*)
    echo "PREFIX must be an absolute path, got '$prefix'" >&2
    exit 2
    ;;
esac
prefix=${prefix%/}
libdir=${LIBDIR:-$prefix/lib}
if [ -z "${LIBDIR:-}" ] && command -v dpkg-architecture >/dev/null; then
    case $prefix in
    /usr | /usr/local) libdir=$prefix/lib/$(dpkg-architecture -qDEB_HOST_MULTIARCH) ;;
    esac
fi
folder=$libdir/gstreamer-1.0
install -D -m 644 "$plugin" "$destdir$folder/libgstvaeanomaly.so"
echo "$destdir$folder/libgstvaeanomaly.so"
if command -v pkg-config >/dev/null && [ "$(pkg-config --variable=pluginsdir gstreamer-1.0)" != "$folder" ]; then
    echo "GStreamer does not look there by itself: export GST_PLUGIN_PATH=$folder" >&2
fi
