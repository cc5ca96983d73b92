#!/bin/sh
# Ignore parts of the image: what is black in MASK, and the polygons in REGIONS (corners in fractions of the image).
#   SOURCE   launch fragment that gives video (default: the first camera)
#   MASK     PNG or PGM image of any size; empty = none
#   REGIONS  polygons, separated by semicolons; empty = none (default: a strip at the top, where cameras write the time)
set -eu
SOURCE=${SOURCE:-"v4l2src ! decodebin"}
MASK=${MASK:-}
REGIONS=${REGIONS-"0,0 1,0 1,0.1 0,0.1"}

set --
[ -z "$MASK" ] || set -- "$@" mask-location="$MASK"
[ -z "$REGIONS" ] || set -- "$@" ignore-regions="$REGIONS"

LC_ALL=C gst-launch-1.0 -e -m $SOURCE ! videoconvert \
  ! vaeanomaly "$@" post-messages=all ! fakesink |
  sed -n 's/.*vaeanomaly, event=(string)\([a-z-]*\),/\1:/p'
