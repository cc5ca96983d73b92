#!/bin/sh
# Runs what pack_gstreamer.sh packed, on a machine with an NVIDIA GPU and its NVDEC: do frames that stay on the GPU get the
# scores of downloaded ones, and how many frames a second go through 1, 16 and 64 elements of one process? It needs the
# driver alone and takes less than four minutes. A step that fails or takes too long is reported, and the others run.
#
#     sh run.sh         everything; logs go to the folder that OUT names, or to logs/
#
# DECODER, UPLOAD: another decoder, and what follows it for CUDA memory. BRANCHES: other numbers of elements, up to 16 or multiples of it.
set -u
here=$(cd "$(dirname "$0")" && pwd)
cd "$here" || exit
logs=${OUT:-$here/logs}
mkdir -p "$logs"
decoder=${DECODER:-nvh264dec}
upload=${UPLOAD:-}
failed=''
begin=$(date +%s)

export GST_PLUGIN_SYSTEM_PATH="$here/plugins" GST_PLUGIN_PATH='' GST_REGISTRY="$logs/registry.bin"
# Plugins are looked at in this process: a scanner would be one program more to pack.
export GST_REGISTRY_FORK=no GST_DEBUG_NO_COLOR=1 GST_PLUGIN_SCANNER=/nonexistent
libraries="$here/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"

# With the machine's own C library, or, where that is too old, with the packed one.
loader=''
if ! LD_LIBRARY_PATH="$libraries" bin/gst-inspect-1.0 --version >"$logs/loader.txt" 2>&1; then
    loader="$here/libc/$(ls libc | grep ld-linux)"
    libraries="$here/libc:$libraries"
    echo "The machine's C library is too old; the packed one is used."
fi
gst() {
    program=$1
    shift
    if [ -n "$loader" ]; then
        timeout "$limit" "$loader" --library-path "$libraries" "bin/$program" "$@"
    else
        LD_LIBRARY_PATH="$libraries" timeout "$limit" "bin/$program" "$@"
    fi
}

# step NAME SECONDS PROGRAM ARGUMENTS...: runs a program of GStreamer; its output goes to a log, whose end is printed.
step() {
    name=$1 limit=$2
    shift 2
    start=$(date +%s)
    gst "$@" >"$logs/$name.txt" 2>&1
    status=$?
    if [ $status != 0 ] || grep -q -E '^(ERROR|WARNING)' "$logs/$name.txt"; then
        echo "=== $name: status $status after $(($(date +%s) - start)) s"
        grep -v 'Got message' "$logs/$name.txt" | tail -n 15
        failed="$failed $name"
    fi
    return $status
}

nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>&1 | tee "$logs/machine.txt"
nproc

echo
echo "=== the element's caps"
step inspect 40 gst-inspect-1.0 vaeanomaly
sed -n '/^Pad Templates/,/^Element has/p' "$logs/inspect.txt" | grep -E 'SINK|SRC|video/x-raw'
step decoder 20 gst-inspect-1.0 "${decoder%% *}" && echo "${decoder%% *} is there"
if ! grep -q CUDAMemory "$logs/inspect.txt"; then
    echo "vaeanomaly does not offer CUDA memory here"
    failed="$failed caps"
fi

# What follows the decoder, for each kind of memory.
on_gpu="$upload ! video/x-raw(memory:CUDAMemory)"
case $upload in
'') in_system="! video/x-raw(memory:CUDAMemory) ! cudadownload ! video/x-raw" ;;
*) in_system="! identity" ;;
esac

raw_scores() {
    sed -n '/event=(string)frame/s/.*raw-score=(double)\([-+.0-9e]*\).*/\1/p' "$logs/$1.txt"
}
# compare A B: the largest difference of two runs' raw scores, which are to be equal.
compare() {
    raw_scores "$1" >"$logs/$1.scores"
    raw_scores "$2" >"$logs/$2.scores"
    paste "$logs/$1.scores" "$logs/$2.scores" | awk -v a="$1" -v b="$2" '
        NF == 2 { d = $1 - $2; if (d < 0) d = -d; if (d > most) { most = d; at = NR }
                  if (n == 0 || $1 < low) low = $1; if (n == 0 || $1 > high) high = $1; n++ }
        NF == 1 { odd++ }
        END { if (n == 0 || odd) { printf "%s and %s: %d and %d frames more: NOT comparable\n", a, b, n, odd; exit 1 }
              printf "%s and %s: %d frames, raw scores %.3f .. %.3f, largest difference %.2e (frame %d): %s\n", a, b, n, low, high, most, at - 1, most == 0 ? "equal" : "NOT EQUAL"
              exit most != 0 }' || failed="$failed compare-$1-$2"
}

echo
echo "=== scores of frames in CUDA memory and of downloaded ones"
for device in cuda cpu; do
    for memory in cuda system; do
        case $memory in cuda) way=$on_gpu ;; *) way=$in_system ;; esac
        # shellcheck disable=SC2086
        step "scores-$memory-memory-device-$device" 40 gst-launch-1.0 -m filesrc location=clip.h264 ! h264parse ! $decoder $way \
            ! vaeanomaly device=$device post-messages=all max-lateness=0 ! fakesink sync=false
    done
    compare "scores-cuda-memory-device-$device" "scores-system-memory-device-$device"
done

# branches COUNT DEVICE MEMORY: one process with so many elements, up to sixteen or a multiple of that, sixteen behind each
# decoder; frames/s of all of them.
branches() {
    count=$1 device=$2 memory=$3
    case $memory in cuda) way=$on_gpu ;; *) way=$in_system ;; esac
    decoders=$(((count + 15) / 16)) set_of=$count line='' d=0
    [ "$count" -gt 16 ] && set_of=16
    while [ $d -lt $decoders ]; do
        line="$line filesrc location=clip.h264 ! h264parse ! $decoder $way ! tee name=t$d"
        i=0
        while [ $i -lt $set_of ]; do
            line="$line t$d. ! queue max-size-buffers=4 max-size-bytes=0 max-size-time=0 ! vaeanomaly device=$device post-messages=none max-lateness=0 ! fakesink sync=false"
            i=$((i + 1))
        done
        d=$((d + 1))
    done
    name="branches-$count-$memory-memory-device-$device"
    # shellcheck disable=SC2086
    step "$name" 45 gst-launch-1.0 $line
    sed -n 's/^Execution ended after \(.*\):\(.*\):\(.*\)/\1 \2 \3/p' "$logs/$name.txt" | awk \
        -v c="$count" -v dec="$decoders" -v m="$memory" -v dev="$device" -v frames="$frames" \
        '{ s = 3600 * $1 + 60 * $2 + $3; printf "%4d elements  %-6s memory  device=%-4s  %3d decoders  %7.2f s  %8.0f frames/s\n", c, m, dev, dec, s, c * frames / s }' |
        tee -a "$logs/branches.txt"
}

frames=$(raw_scores scores-cuda-memory-device-cuda | wc -l)
[ "$frames" -gt 0 ] || frames=$(raw_scores scores-system-memory-device-cpu | wc -l)
echo
echo "=== 1080p in one process, $frames frames an element, the decoded frames shared by the elements behind a decoder"
: >"$logs/branches.txt"
for count in ${BRANCHES:-1 16 64}; do
    for device in cuda cpu; do
        for memory in cuda system; do
            if [ $(($(date +%s) - begin)) -gt "${LIMIT:-190}" ]; then
                echo "$count elements, $memory memory, device=$device: no time left"
                continue
            fi
            branches "$count" $device $memory
        done
    done
done

echo
echo "$(($(date +%s) - begin)) s"
if [ -n "$failed" ]; then echo "=== FAILED:$failed"; else echo "=== all steps passed"; fi
[ -z "$failed" ]
