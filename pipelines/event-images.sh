#!/bin/sh
# Write one JPEG per second during anomalies, with boxes, heat map and what was expected instead. The example event_images
# writes the strongest frame of each event only.
#   SOURCE  launch fragment of the video source (default: the first camera)
#   OUT     folder for the images
set -eu
SOURCE=${SOURCE:-"v4l2src ! decodebin"}
OUT=${OUT:-event-images}
mkdir -p "$OUT"

exec gst-launch-1.0 -e $SOURCE ! videoconvert ! video/x-raw,format=I420 \
  ! vaeanomaly drop-normal=true keepalive-interval=0 post-roll=0 attach-map=true attach-reconstruction=true \
  ! videorate drop-only=true max-rate=1 ! vaeanomalyoverlay show=boxes+map+state+reconstruction \
  ! jpegenc quality=88 ! multifilesink location="$OUT/anomaly-%05d.jpg"
