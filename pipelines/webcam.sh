#!/bin/sh
# Show a webcam in a window and print its events.
#   DEVICE  camera (default: /dev/video0)
#   SOURCE  launch fragment of the video source (default: DEVICE)
#   SINK    launch fragment of the display (default: a window)
set -eu
DEVICE=${DEVICE:-/dev/video0}
SOURCE=${SOURCE:-"v4l2src device=$DEVICE ! decodebin"}
SINK=${SINK:-"autovideosink sync=false"}

LC_ALL=C gst-launch-1.0 -e -m $SOURCE ! videoconvert ! queue max-size-buffers=2 leaky=downstream \
  ! vaeanomaly post-messages=events ! videoconvert ! $SINK |
  sed -n 's/.*vaeanomaly, event=(string)\(anomaly-[a-z]*\|state-changed\|scene-change\|view-blocked\),/\1:/p'
