#!/bin/sh
# Read an RTSP camera and publish the thinned stream to an RTSP server that accepts recordings.
#   IN   rtsp:// address of the camera (rtspt:// for TCP only)
#   OUT  rtsp:// address to publish to
set -eu
IN=${IN:?"set IN to the camera, for example IN=rtsp://user:password@192.168.1.20/stream"}
OUT=${OUT:?"set OUT to the server, for example OUT=rtsp://localhost:8554/anomalies"}

exec gst-launch-1.0 -e uridecodebin uri="$IN" ! videoconvert ! video/x-raw,format=I420 \
  ! vaeanomaly drop-normal=true keepalive-interval=1000000000 \
  ! x264enc tune=zerolatency speed-preset=veryfast bitrate=1000 key-int-max=20 ! h264parse \
  ! rtspclientsink protocols=tcp location="$OUT"
