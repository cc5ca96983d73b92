#!/bin/sh
# Record one MP4 file per event, named by its start: the position in a video file, or date and time of a live source.
# Build the program first: cargo build --release --example event_files
#   SOURCE  launch fragment of the video source (default: the first camera)
#   OUT     folder for the files
#   BIN     folder of the program event_files
set -eu
SOURCE=${SOURCE:-"v4l2src ! decodebin"}
OUT=${OUT:-events}
BIN=${BIN:-target/release/examples}

"$BIN/event_files" --source "$SOURCE" --out "$OUT"
