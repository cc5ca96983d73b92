#!/bin/sh
# Watch a webcam on the screen, with the newest event as text on the terminal.
#   SOURCE  launch fragment (default: DEVICE)    DEVICE  camera (default: /dev/video0)
#   SINK    launch fragment for the picture (default: a window)
set -eu
DEVICE=${DEVICE:-/dev/video0}
SOURCE=${SOURCE:-"v4l2src device=$DEVICE ! decodebin"}
SINK=${SINK:-"autovideosink sync=false"}

LC_ALL=C gst-launch-1.0 -e -m $SOURCE ! videoconvert ! queue max-size-buffers=2 leaky=downstream \
  ! vaeanomaly post-messages=events ! videoconvert ! $SINK |
  sed -n 's/.*vaeanomaly, event=(string)\(anomaly-[a-z]*\|state-changed\|scene-change\|view-blocked\),/\1:/p'
