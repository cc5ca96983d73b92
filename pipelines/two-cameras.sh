#!/bin/sh
# Analyse two cameras in one process, each with its own model and recording; print the events of both.
#   SOURCE_A, SOURCE_B  launch fragments of the video sources (default: the first two cameras)
#   OUT_A, OUT_B        files to write
set -eu
SOURCE_A=${SOURCE_A:-"v4l2src device=/dev/video0 ! decodebin"}
SOURCE_B=${SOURCE_B:-"v4l2src device=/dev/video2 ! decodebin"}
OUT_A=${OUT_A:-camera-a.mkv}
OUT_B=${OUT_B:-camera-b.mkv}
RECORD="videoconvert ! x264enc pass=qual quantizer=23 bframes=0 speed-preset=veryfast ! h264parse ! matroskamux"

LC_ALL=C gst-launch-1.0 -e -m \
  $SOURCE_A ! videoconvert ! queue ! vaeanomaly name=camera-a drop-normal=true ! $RECORD ! filesink location="$OUT_A" \
  $SOURCE_B ! videoconvert ! queue ! vaeanomaly name=camera-b drop-normal=true ! $RECORD ! filesink location="$OUT_B" |
  sed -n 's/.*from element "\(camera-[ab]\)".*vaeanomaly, event=(string)\([a-z-]*\),/\1 \2:/p'
