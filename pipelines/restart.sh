#!/bin/sh
# Keep what was learnt over restarts: the model is saved every minute, at the end and at Ctrl-C, and loaded at the start.
#   SOURCE  launch fragment that gives video (default: the first camera)
#   NAME    name of the camera
#   MODELS  folder of the model files, one for each name
set -eu
SOURCE=${SOURCE:-"v4l2src ! decodebin"}
NAME=${NAME:-camera}
MODELS=${MODELS:-models}
mkdir -p "$MODELS"

LC_ALL=C gst-launch-1.0 -e -m $SOURCE ! videoconvert \
  ! vaeanomaly name="$NAME" model-location="$MODELS/%s.safetensors" ! fakesink |
  sed -n 's/.*vaeanomaly, event=(string)\([a-z-]*\),/\1:/p'
