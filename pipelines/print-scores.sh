#!/bin/sh
# Print the score of every frame.
#   SOURCE  launch fragment of the video source (default: a test pattern)
set -eu
SOURCE=${SOURCE:-"videotestsrc pattern=ball is-live=true ! video/x-raw,width=320,height=180,framerate=10/1"}

LC_ALL=C gst-launch-1.0 -e -m $SOURCE ! videoconvert ! vaeanomaly post-messages=all ! fakesink sync=false |
  sed -n 's/.*vaeanomaly, event=(string)frame,/frame:/p'
