#!/bin/sh
# Record only anomalies as MP4. Nothing is dropped until the element has learnt the scene.
#   SOURCE  launch fragment of the video source (default: the first camera)
#   OUT     file to write
set -eu
SOURCE=${SOURCE:-"v4l2src ! decodebin"}
OUT=${OUT:-anomalies.mp4}

exec gst-launch-1.0 -e $SOURCE ! videoconvert ! video/x-raw,format=I420 \
  ! vaeanomaly drop-normal=true post-roll=2000000000 \
  ! x264enc pass=qual quantizer=23 bframes=0 speed-preset=veryfast ! h264parse ! mp4mux ! filesink location="$OUT"
