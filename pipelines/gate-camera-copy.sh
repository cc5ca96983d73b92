#!/bin/sh
# Keep the events of a camera's own H.264, bit for bit: one branch is decoded for analysis only, nothing is transcoded.
#   IN      rtsp:// address of the camera
#   SOURCE  instead of IN: launch fragment that gives H.264 (say filesrc location=street.mp4 ! qtdemux)
#   OUT     file to write    PRE_ROLL  nanoseconds kept before an event
# A key frame every half minute shows that the recorder lives: key frames are large, more of them cost what is saved.
set -eu
if [ -z "${SOURCE:-}" ]; then
  IN=${IN:?"set IN to the camera, for example IN=rtsp://user:password@192.168.1.20/stream"}
  SOURCE="rtspsrc location=$IN latency=200 protocols=tcp ! rtph264depay"
fi
OUT=${OUT:-events.mkv}
PRE_ROLL=${PRE_ROLL:-5000000000}

gst-launch-1.0 -e $SOURCE ! h264parse ! tee name=camera \
  camera. ! queue ! avdec_h264 ! videoconvert ! video/x-raw,format=I420 \
  ! vaeanomaly name=eye ! fakesink sync=false \
  camera. ! queue ! vaeanomalygate follow=eye pre-roll="$PRE_ROLL" post-roll=2000000000 keepalive-interval=30000000000 \
  ! matroskamux ! filesink location="$OUT"
