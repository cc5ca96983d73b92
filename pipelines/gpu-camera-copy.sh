#!/bin/sh
# Keep the events of a camera's own H.264 stream bit for bit, analysed on an NVIDIA GPU: decoded, reduced and scored there,
# no frame is downloaded, nothing is transcoded.
#   IN        rtsp:// address of the camera
#   SOURCE    alternative to IN: launch fragment of an H.264 source, such as filesrc location=street.mp4 ! qtdemux
#   OUT       file to write
#   PRE_ROLL  time kept before an event, in ns
#   DECODER   launch fragment of a decoder
#   DEVICE    where the nets compute: auto, cpu, cuda, cuda:N
# The plugin is that of make cuda; nvh264dec is in the Debian package gstreamer1.0-plugins-bad and needs NVIDIA's driver.
set -eu
if [ -z "${SOURCE:-}" ]; then
  IN=${IN:?"set IN to the camera, for example IN=rtsp://user:password@192.168.1.20/stream"}
  SOURCE="rtspsrc location=$IN latency=200 protocols=tcp ! rtph264depay"
fi
OUT=${OUT:-events.mkv}
PRE_ROLL=${PRE_ROLL:-5000000000}
DECODER=${DECODER:-"nvh264dec ! video/x-raw(memory:CUDAMemory)"}
DEVICE=${DEVICE:-cuda}

gst-launch-1.0 -e $SOURCE ! h264parse ! tee name=camera \
  camera. ! queue ! $DECODER \
  ! vaeanomaly name=detector device="$DEVICE" ! fakesink sync=false \
  camera. ! queue ! vaeanomalygate follow=detector pre-roll="$PRE_ROLL" post-roll=2000000000 keepalive-interval=30000000000 \
  ! matroskamux ! filesink location="$OUT"
