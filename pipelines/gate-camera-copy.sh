#!/bin/sh
# Keep the events of a camera's own H.264 stream bit for bit: one branch is decoded for analysis only, nothing is
# transcoded.
#   IN        rtsp:// address of the camera
#   SOURCE    alternative to IN: launch fragment of an H.264 source, such as filesrc location=street.mp4 ! qtdemux
#   OUT       file to write
#   PRE_ROLL  time kept before an event, in ns
# The keep-alive is one key frame every 30 s. It shows that the recorder is running; key frames are large, so a shorter
# interval costs much of what the gate saves.
set -eu
if [ -z "${SOURCE:-}" ]; then
  IN=${IN:?"set IN to the camera, for example IN=rtsp://user:password@192.168.1.20/stream"}
  SOURCE="rtspsrc location=$IN latency=200 protocols=tcp ! rtph264depay"
fi
OUT=${OUT:-events.mkv}
PRE_ROLL=${PRE_ROLL:-5000000000}

gst-launch-1.0 -e $SOURCE ! h264parse ! tee name=camera \
  camera. ! queue ! avdec_h264 ! videoconvert ! video/x-raw,format=I420 \
  ! vaeanomaly name=detector ! fakesink sync=false \
  camera. ! queue ! vaeanomalygate follow=detector pre-roll="$PRE_ROLL" post-roll=2000000000 keepalive-interval=30000000000 \
  ! matroskamux ! filesink location="$OUT"
