#!/bin/sh
# `make images`: the images of the demo that README shows.
set -eu

demo=${CARGO_TARGET_DIR:-target}/demo
folder=$(dirname "$0")

gst-launch-1.0 -q filesrc location="$demo/anomalies.png" ! pngdec ! videoconvert ! video/x-raw,format=I420 \
  ! jpegenc quality=70 ! filesink location="$folder/anomalies.jpg"
cp "$demo/score.png" "$demo/anomalies.webp" "$folder/"
