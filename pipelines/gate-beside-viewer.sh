#!/bin/sh
# Watch everything live, record only the events: the viewer's branch is neither thinned nor delayed.
#   SOURCE  launch fragment that gives video (default: the first camera)
#   SINK    where the live picture goes (default: a window)
#   OUT     file to write    PRE_ROLL  nanoseconds kept before an event
# A key frame every half minute shows that the recorder lives: key frames are large, more of them cost what is saved.
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
