#!/bin/sh
# The demo: one gst-launch-1.0 line learns a video, scores it, and keeps only the anomalies.
#   run.sh [--plain] [VIDEO [DURATION]]   VIDEO: path, URI or /dev/videoN (default: a rendered street scene);
#                               DURATION: seconds to record a live source (default: until Ctrl-C);
#                               --plain: no second video with the overlay
# `make demo` builds what this needs and runs it.
set -eu

plain=""
if [ "${1:-}" = --plain ]; then
  plain=yes
  shift
fi
video=${1:-}
duration=${2:-}
target=${CARGO_TARGET_DIR:-target}
bin=$target/release
# Constant quality, so that both recordings look the same; a key frame every two seconds.
encoder="x264enc pass=qual quantizer=23 speed-preset=veryfast bframes=0 key-int-max=20 ! h264parse ! matroskamux"

if [ -z "$video" ]; then
  out=$target/demo
  video=$out/street.mp4
  if [ ! -s "$out/events.csv" ] || [ ! -s "$video" ]; then
    echo "Rendering a street with planted anomalies ..."
    "$bin/street_scene" --out "$out" --lead-in 90
  fi
  truth="--events $out/events.csv"
else
  out=$target/demo/own
  truth=""
fi
mkdir -p "$out"
kept=$out/kept.mkv
full=$out/full.mkv
overlay=$out/overlay.mkv
rm -f "$kept" "$full" "$overlay"

absolute() { # a path as a file URI
  path=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
  printf 'file://%s' "$path" | sed 's/%/%25/g; s/ /%20/g; s/#/%23/g; s/?/%3F/g'
}

live=""
case $video in
  /dev/video*) source="v4l2src device=$video ! decodebin"; live=--live ;;
  rtsp://* | rtsps://* | rtspt://*) source="uridecodebin uri='$video'"; live=--live ;;
  *://*) uri=$video; source="uridecodebin uri='$uri'" ;;
  *)
    [ -r "$video" ] || { echo "$video is not readable" >&2; exit 1; }
    uri=$(absolute "$video"); source="uridecodebin uri='$uri'" ;;
esac

if [ -n "$plain" ]; then
  drawn=""
  analyse="vaeanomaly drop-normal=true post-messages=all ! $encoder ! filesink location=$kept"
else
  drawn="--overlay $overlay"
  analyse="vaeanomaly drop-normal=true post-messages=all attach-map=true attach-reconstruction=true ! tee name=found \
! queue ! $encoder ! filesink location=$kept found. ! queue \
! vaeanomalyoverlay show=boxes+map+strip+state+ignored+reconstruction ! $encoder ! filesink location=$overlay"
fi
if [ -n "$live" ]; then
  # A live source cannot be read twice, so the full recording for the comparison is made at the same time.
  uri=$(absolute "$full")
  line="gst-launch-1.0 -e -m $source ! videoconvert ! video/x-raw,format=I420 ! tee name=all ! queue ! $analyse \
all. ! queue ! $encoder ! filesink location=$full"
else
  line="gst-launch-1.0 -e -m $source ! videoconvert ! video/x-raw,format=I420 ! $analyse"
fi

echo
echo "GST_PLUGIN_PATH=$bin $line"
echo
[ -z "$duration" ] || [ -z "$live" ] || line="timeout --foreground --signal=INT $duration $line"
GST_PLUGIN_PATH=$(cd "$bin" && pwd)${GST_PLUGIN_PATH:+:$GST_PLUGIN_PATH}
export GST_PLUGIN_PATH
# Ctrl-C ends the pipeline only: the summary ignores it and reads on to the end of the output.
LC_ALL=C sh -c "$line" | (
  trap '' INT
  exec "$bin/demo_summary" --source "$uri" --kept "$kept" --full "$full" --encoder "$encoder" --out "$out" $drawn $truth $live
)
