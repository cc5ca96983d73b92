#!/bin/sh
# `make deb`: builds a Debian package with the plugin, the recipes and the licences of all that is linked into the plugin.
#
# usage: deb.sh PLUGIN FOLDER
# Prints the path of the package, which is written to FOLDER. Needs dpkg-dev, and cargo for the list of crates.
set -eu

plugin=$1
out=$2
root=$(cd "$(dirname "$0")/.." && pwd)
package=gstreamer1.0-vaeanomaly
version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$root/Cargo.toml" | head -n 1)
architecture=$(dpkg --print-architecture)
[ -f "$plugin" ] || {
    echo "PLUGIN must be the plugin's file, got '$plugin'" >&2
    exit 2
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tree=$work/tree
docs=$tree/usr/share/doc/$package
umask 022
mkdir -p "$work/debian" "$tree/DEBIAN" "$docs"

library=$(sh "$root/packaging/install.sh" "$plugin" /usr "$tree")
strip --strip-unneeded "$library"

install -D -m 755 -t "$docs/pipelines" "$root"/pipelines/*.sh
install -m 644 "$root/pipelines/README.md" "$docs/pipelines/"
install -m 644 "$root/README.md" "$docs/"
gzip -9nc "$root/CHANGELOG.md" >"$docs/changelog.gz"
chmod 644 "$docs/changelog.gz"

# Without the crates that only run at compile time.
case $plugin in
*/cuda/release/*) set -- --features cuda ;;
*) set -- ;;
esac
if grep -q libgstanalytics "$plugin"; then
    set -- "$@" --features v1_24
fi
${CARGO:-cargo} tree "$@" --locked --manifest-path "$root/Cargo.toml" -p gst-plugin-vaeanomaly --edges normal --prefix none --no-dedupe \
    --format '{p} {l}' >"$work/crates"
# The licence of the plugin, then of each crate that is linked into it.
{
    echo "vaeanomaly is licensed under MIT or Apache-2.0, at your option. The text of the Apache licence is in"
    echo "/usr/share/common-licenses/Apache-2.0. The licences of the crates that are linked into the plugin follow; Rust's"
    echo "standard library is licensed under MIT or Apache-2.0."
    echo
    cat "$root/LICENSE-MIT"
    sources=${CARGO_HOME:-$HOME/.cargo}/registry/src
    sed -n 's/^\([^ ]*\) v\([^ ]*\) \([^(].*\)/\1 \2 \3/p' "$work/crates" | sort -u | while read -r name number licence; do
        printf '\n----------------------------------------\n%s %s: %s\n' "$name" "$number" "$licence"
        for text in "$sources"/*/"$name-$number"/LICEN[CS]E* "$sources"/*/"$name-$number"/COPYING*; do
            case $text in
            *'*'* | *APACHE* | *Apache* | *apache*) ;;
            *) [ ! -f "$text" ] || { echo && cat "$text"; } ;;
            esac
        done
    done
    printf '\n----------------------------------------\nThe font of vaeanomalyoverlay:\n\n'
    cat "$root/src/vaeanomalyoverlay/font.LICENSE"
} >"$docs/copyright"

# dpkg-shlibdeps reads the names of packages from debian/control.
printf 'Source: %s\n\nPackage: %s\nArchitecture: any\n' "$package" "$package" >"$work/debian/control"
(cd "$work" && dpkg-shlibdeps -Tdepends "$library")
depends=$(sed -n 's/^shlibs:Depends=//p' "$work/depends")
size=$(du -sk "$tree" | cut -f 1)
cat >"$tree/DEBIAN/control" <<CONTROL
Package: $package
Version: $version
Architecture: $architecture
Maintainer: The vaeanomaly authors <vaeanomaly@localhost>
Installed-Size: $size
Section: video
Priority: optional
Depends: $depends
Recommends: gstreamer1.0-tools, gstreamer1.0-plugins-base, gstreamer1.0-plugins-good
Suggests: gstreamer1.0-plugins-bad, gstreamer1.0-plugins-ugly, gstreamer1.0-libav, gstreamer1.0-rtsp
Description: GStreamer plugin for online anomaly detection on live video
 The element vaeanomaly learns what is normal for a fixed camera while the
 video plays, and scores, labels and on request drops frames. The element
 vaeanomalygate keeps the encoded frames of anomalies and the seconds before,
 vaeanomalyoverlay draws what was found.
CONTROL

mkdir -p "$out"
dpkg-deb --root-owner-group --build "$tree" "$out/${package}_${version}_$architecture.deb" >/dev/null
echo "$out/${package}_${version}_$architecture.deb"
