#!/bin/sh
# Record events with the 5 s before them: encode everything, then keep only the frames of events. Holding back encoded
# frames for the pre-roll takes a few megabytes; raw frames would take half a gigabyte.
#   SOURCE    launch fragment of the video source (default: the first camera)
#   OUT       file to write
#   PRE_ROLL  time kept before an event, in ns
# The keep-alive is one key frame every 30 s. It shows that the recorder is running; key frames are large, so a shorter
# interval costs much of what the gate saves.
set -eu
SOURCE=${SOURCE:-"v4l2src ! decodebin"}
OUT=${OUT:-events.mkv}
PRE_ROLL=${PRE_ROLL:-5000000000}

gst-launch-1.0 -e $SOURCE ! videoconvert ! video/x-raw,format=I420 \
  ! vaeanomaly \
  ! x264enc pass=qual quantizer=23 bframes=0 speed-preset=veryfast key-int-max=20 ! h264parse \
  ! vaeanomalygate pre-roll="$PRE_ROLL" post-roll=2000000000 keepalive-interval=30000000000 \
  ! matroskamux ! filesink location="$OUT"
