#!/bin/sh
# The demo: one gst-launch line learns a video, scores it, and keeps only what is unusual.
#   demo.sh [VIDEO [DURATION]]   VIDEO: path, URI or /dev/videoN (none: the rendered street scene);
#                                DURATION: seconds to watch a live source (none: until Ctrl-C)
# Run it through `make demo`, which builds what it needs.
set -eu

video=${1:-}
duration=${2:-}
bin=target/release/examples
# Constant quality, so that both recordings look the same; a key frame every two seconds.
encoder="x264enc pass=qual quantizer=23 speed-preset=veryfast bframes=0 key-int-max=20 ! h264parse ! matroskamux"

if [ -z "$video" ]; then
  out=target/demo
  video=$out/street.mp4
  if [ ! -s "$out/events.csv" ] || [ ! -s "$video" ]; then
    echo "Rendering a street with planted anomalies ..."
    "$bin/street_scene" --out "$out" --lead-in 90
  fi
  truth="--events $out/events.csv"
else
  out=target/demo/own
  truth=""
fi
mkdir -p "$out"
kept=$out/kept.mkv
full=$out/full.mkv
rm -f "$kept" "$full"

absolute() { # a path as a file URI that gst-launch can read
  path=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
  printf 'file://%s' "$path" | sed 's/%/%25/g; s/ /%20/g; s/#/%23/g; s/?/%3F/g'
}

live=""
case $video in
  /dev/video*) source="v4l2src device=$video ! decodebin"; live=--live ;;
  rtsp://* | rtsps://* | rtspt://*) source="uridecodebin uri='$video'"; live=--live ;;
  *://*) uri=$video; source="uridecodebin uri='$uri'" ;;
  *)
    [ -r "$video" ] || { echo "$video cannot be read" >&2; exit 1; }
    uri=$(absolute "$video"); source="uridecodebin uri='$uri'" ;;
esac

watch="vaeanomaly drop-normal=true post-messages=all ! $encoder ! filesink location=$kept"
if [ -n "$live" ]; then
  # A live source cannot be read twice: the full recording, to compare with, runs beside it.
  uri=file://$(pwd)/$full
  line="gst-launch-1.0 -e -m $source ! videoconvert ! video/x-raw,format=I420 ! tee name=all ! queue ! $watch \
all. ! queue ! $encoder ! filesink location=$full"
else
  line="gst-launch-1.0 -e -m $source ! videoconvert ! video/x-raw,format=I420 ! $watch"
fi

echo
echo "GST_PLUGIN_PATH=target/release $line"
echo
[ -z "$duration" ] || [ -z "$live" ] || line="timeout --foreground --signal=INT $duration $line"
GST_PLUGIN_PATH=$(pwd)/target/release${GST_PLUGIN_PATH:+:$GST_PLUGIN_PATH}
export GST_PLUGIN_PATH
LC_ALL=C sh -c "$line" | "$bin/demo_summary" --source "$uri" --kept "$kept" --full "$full" \
  --encoder "$encoder" --out "$out" $truth $live
