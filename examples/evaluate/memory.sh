#!/bin/sh
# How `memory`, `learning-rate` and `window` act together: what is flagged of normal video after the light has changed, and
# what after it has changed back.
#
# usage: memory.sh [PROGRAMS]
# PROGRAMS: folder of street_scene and evaluate (default: target/release). Three minutes of a rendered street, three in half
# the light, three as at first. Prints one row for each setting.
set -eu

programs=${1:-${CARGO_TARGET_DIR:-target}/release}
out=${CARGO_TARGET_DIR:-target}/evaluate/memory

# The same street, which ends with the second part and with the third.
for seconds in 360 540; do
    [ -f "$out/$seconds/labels.csv" ] || "$programs/street_scene" --out "$out/$seconds" --width 320 --height 180 \
        --no-anomalies --duration $seconds >/dev/null
done

# The share of the frames of the last part that is flagged.
flagged() {
    seconds=$1
    shift
    "$programs/evaluate" --clips "$out/$seconds/*.mp4" --labels "$out/$seconds/labels.csv" --no-baselines --no-bytes \
        --perturb brightness:0.5@180-360 --skip $((10 * seconds - 1800)) "$@" 2>/dev/null |
        awk '/normal frames flagged/ { print $4 " %" }'
}

row() {
    name=$1
    shift
    changed=$(flagged 360 "$@")
    echo "| $name | $changed | $(flagged 540 "$@") |"
}

echo "| setting | flagged in half the light | flagged in the first light again |"
echo "|---|---|---|"
for seconds in 60 604800; do
    for rate in 0.00005 0.0005 0.005; do
        row "\`memory\` $seconds s, \`learning-rate\` $rate" --set memory=${seconds}000000000 --set learning-rate=$rate
    done
done
for window in 100 3000; do
    row "\`threshold-mode=sigma\`, \`window\` $window" --set threshold-mode=sigma --set sigma=3 --set window=$window
done
