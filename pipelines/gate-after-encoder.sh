#!/bin/sh
# Record events with the 5 s before them: encode everything, then keep only what belongs to an event. Holding the pre-roll
# back costs a few megabytes here, not half a gigabyte as with raw frames.
#   SOURCE  launch fragment that gives video (default: the first camera)
#   OUT     file to write    PRE_ROLL  nanoseconds kept before an event
# A key frame every half minute shows that the recorder lives: key frames are large, more of them cost what is saved.
set -eu
SOURCE=${SOURCE:-"v4l2src ! decodebin"}
OUT=${OUT:-events.mkv}
PRE_ROLL=${PRE_ROLL:-5000000000}

gst-launch-1.0 -e $SOURCE ! videoconvert ! video/x-raw,format=I420 \
  ! vaeanomaly \
  ! x264enc pass=qual quantizer=23 bframes=0 speed-preset=veryfast key-int-max=20 ! h264parse \
  ! vaeanomalygate pre-roll="$PRE_ROLL" post-roll=2000000000 keepalive-interval=30000000000 \
  ! matroskamux ! filesink location="$OUT"
