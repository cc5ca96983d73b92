#!/bin/sh
# Read an RTSP camera and write HLS for any web server. While all is normal, one frame per second is kept.
#   IN   rtsp:// address of the camera (rtspt:// for TCP only)
#   OUT  folder for playlist and segments
set -eu
IN=${IN:?"set IN to the camera, for example IN=rtsp://user:password@192.168.1.20/stream"}
OUT=${OUT:-hls}
mkdir -p "$OUT"

exec gst-launch-1.0 -e uridecodebin uri="$IN" ! videoconvert ! video/x-raw,format=I420 \
  ! vaeanomaly drop-normal=true keepalive-interval=1000000000 \
  ! x264enc tune=zerolatency speed-preset=veryfast bitrate=1000 key-int-max=20 ! h264parse \
  ! hlssink2 target-duration=4 max-files=0 playlist-length=0 \
      location="$OUT/segment%05d.ts" playlist-location="$OUT/playlist.m3u8"
