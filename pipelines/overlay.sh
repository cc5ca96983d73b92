#!/bin/sh
# Show or record live video with boxes, heat map, last scores and state drawn over it.
#   SOURCE  launch fragment of the video source (default: the first camera)
#   SHOW    what is drawn: boxes, map, strip, state, reconstruction, ignored, joined by +
#   SINK    launch fragment that takes raw video (default: a window)
set -eu
SOURCE=${SOURCE:-"v4l2src ! decodebin"}
SHOW=${SHOW:-boxes+map+strip+state+ignored}
SINK=${SINK:-"videoconvert ! autovideosink"}

exec gst-launch-1.0 -e $SOURCE ! videoconvert \
  ! vaeanomaly attach-map=true attach-reconstruction=true \
  ! vaeanomalyoverlay show="$SHOW" ! $SINK
