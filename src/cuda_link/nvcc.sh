#!/bin/sh
# nvcc without the kernels of quantised networks: the plugin has none, and they take by far the most of the time.
# toolkit.sh puts it before the real one, $VAEANOMALY_NVCC. Of the objects only names are left, of the PTX its head.
set -eu

source='' output='' folder=.
previous=''
for argument; do
    case $previous in
    -o) output=$argument ;;
    --output-directory) folder=$argument ;;
    esac
    case $argument in
    *.cu) source=${argument##*/} ;;
    esac
    previous=$argument
done

case $source in
mmq_* | mmvq_* | moe_*)
    echo '' | ${CC:-cc} -x c -c -o "$output" -
    ;;
quantized.cu)
    printf '.version 6.4\n.target sm_75\n.address_size 64\n' >"$folder/quantized.ptx"
    ;;
*)
    exec "$VAEANOMALY_NVCC" "$@"
    ;;
esac
