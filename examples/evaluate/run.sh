#!/bin/sh
# `make evaluate`: evaluates a rendered street and, if given, a data set; clean, disturbed, and with parts removed.
#
# usage: run.sh [DATA]
# DATA: a folder with labels.csv and clips. The clips may also be in DATA/test, and normal clips for the warm-up in
# DATA/train; where the anomalies are in DATA/boxes.csv, and as videos of masks in DATA/masks. Or a folder of such folders, one or more cameras each, with the clips in warm/ and eval/: then one table.
set -eu

programs=${CARGO_TARGET_DIR:-target}/release
out=${CARGO_TARGET_DIR:-target}/evaluate
scene=$out/scene
mkdir -p "$out"

if [ ! -f "$scene/boxes.csv" ]; then
    echo "Rendering a street with planted anomalies into $scene"
    "$programs/street_scene" --out "$scene" --lead-in 120 --events 8
fi

measure() {
    name=$1
    shift
    echo
    echo "== $name: clean, disturbed, with parts removed =="
    "$programs/evaluate" "$@" --robustness --ablate --json "$out/$name.json" --report "$out/$name.html"
    echo "Figures: $out/$name.json"
    echo "Report:  $out/$name.html"
}

measure street --clips "$scene/*.mp4" --labels "$scene/labels.csv" --boxes "$scene/boxes.csv" --skip 300

data=${1:-}
if [ -n "$data" ] && { [ ! -f "$data/labels.csv" ] || [ -d "$data/eval" ]; }; then
    echo
    echo "== cameras of $data: as they are, with the nets frozen, without nets; means of three seeds =="
    "$programs/evaluate" cameras "$data" --seeds 1,2,3 --ablate | tee "$out/cameras.txt"
elif [ -n "$data" ]; then
    clips=$data
    [ -d "$data/test" ] && clips=$data/test
    set -- --clips "$clips/*.mp4" --labels "$data/labels.csv"
    [ -f "$data/boxes.csv" ] && set -- "$@" --boxes "$data/boxes.csv"
    [ -d "$data/masks" ] && set -- "$@" --masks "$data/masks/*"
    if [ -d "$data/train" ]; then
        set -- "$@" --warm "$data/train/*.mp4"
    else
        set -- "$@" --skip 200
    fi
    measure "$(basename "$data")" "$@"
fi
