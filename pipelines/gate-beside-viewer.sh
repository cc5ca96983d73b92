#!/bin/sh
# Show live video and record only the events. The displayed video is neither thinned out nor delayed.
#   SOURCE    launch fragment of the video source (default: the first camera)
#   SINK      launch fragment of the display (default: a window)
#   OUT       file to write
#   PRE_ROLL  time kept before an event, in ns
# The keep-alive is one key frame every 30 s. It shows that the recorder is running; key frames are large, so a shorter
# interval costs much of what the gate saves.
set -eu
SOURCE=${SOURCE:-"v4l2src ! decodebin"}
SINK=${SINK:-"autovideosink"}
OUT=${OUT:-events.mkv}
PRE_ROLL=${PRE_ROLL:-5000000000}

gst-launch-1.0 -e $SOURCE ! videoconvert ! video/x-raw,format=I420 ! vaeanomaly ! tee name=all \
  all. ! queue ! videoconvert ! $SINK \
  all. ! queue ! x264enc tune=zerolatency pass=qual quantizer=23 speed-preset=veryfast key-int-max=20 ! h264parse \
  ! vaeanomalygate pre-roll="$PRE_ROLL" post-roll=2000000000 keepalive-interval=30000000000 \
  ! matroskamux ! filesink location="$OUT"
