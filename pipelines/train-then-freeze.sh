#!/bin/sh
# Learn a week, then freeze: run with LEARN=true for as long as it takes, then with LEARN=false. The frozen model scores
# from the first frame on, and no later event changes it.
#   SOURCE  launch fragment that gives video (default: the first camera)
#   MODEL   model file
#   LEARN   true or false
set -eu
SOURCE=${SOURCE:-"v4l2src ! decodebin"}
MODEL=${MODEL:-camera.safetensors}
LEARN=${LEARN:-true}

LC_ALL=C gst-launch-1.0 -e -m $SOURCE ! videoconvert \
  ! vaeanomaly model-location="$MODEL" learn="$LEARN" ! fakesink |
  sed -n 's/.*vaeanomaly, event=(string)\([a-z-]*\),/\1:/p'
