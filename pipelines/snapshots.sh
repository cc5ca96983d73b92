#!/bin/sh
# Write one JPEG per second during anomalies. All other frames are dropped: no keep-alive, no post-roll.
#   SOURCE  launch fragment of the video source (default: the first camera)
#   OUT     folder for the images
set -eu
SOURCE=${SOURCE:-"v4l2src ! decodebin"}
OUT=${OUT:-snapshots}
mkdir -p "$OUT"

exec gst-launch-1.0 -e $SOURCE ! videoconvert ! video/x-raw,format=I420 \
  ! vaeanomaly drop-normal=true keepalive-interval=0 post-roll=0 \
  ! videorate drop-only=true max-rate=1 ! jpegenc quality=88 ! multifilesink location="$OUT/anomaly-%05d.jpg"
