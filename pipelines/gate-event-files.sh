#!/bin/sh
# One MP4 an event, named by when it starts: into the video for a file, by date and time for a camera.
#   SOURCE  launch fragment that gives video (default: the first camera)
#   OUT     folder for the files
set -eu
SOURCE=${SOURCE:-"v4l2src ! decodebin"}
OUT=${OUT:-events}
BIN=${BIN:-target/release/examples}

"$BIN/event_files" --source "$SOURCE" --out "$OUT"
