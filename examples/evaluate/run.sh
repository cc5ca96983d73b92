#!/bin/sh
# What `make evaluate` does: the own street scene and, where given, a data set, clean and disturbed.
#
# usage: run.sh [DATA]
# DATA = a folder with labels.csv and clips; clips may also lie in DATA/test, and normal ones to learn from
# in DATA/train.
set -eu

programs=${CARGO_TARGET_DIR:-target}/release
out=${CARGO_TARGET_DIR:-target}/evaluate
scene=$out/scene
mkdir -p "$out"

if [ ! -f "$scene/labels.csv" ]; then
    echo "Rendering a street with planted anomalies into $scene"
    "$programs/street_scene" --out "$scene" --lead-in 120 --events 8
fi

measure() {
    name=$1
    shift
    echo
    echo "== $name: clean, disturbed, and with parts taken away =="
    "$programs/evaluate" "$@" --robustness --ablate --json "$out/$name.json" --report "$out/$name.html"
    echo "Figures: $out/$name.json"
    echo "Report:  $out/$name.html"
}

measure street --clips "$scene/*.mp4" --labels "$scene/labels.csv" --skip 300

data=${1:-}
if [ -n "$data" ]; then
    clips=$data
    [ -d "$data/test" ] && clips=$data/test
    set -- --clips "$clips/*.mp4" --labels "$data/labels.csv"
    if [ -d "$data/train" ]; then
        set -- "$@" --warm "$data/train/*.mp4"
    else
        set -- "$@" --skip 200
    fi
    measure "$(basename "$data")" "$@"
fi
