#!/bin/sh
# Runs what `make bench-cuda` packed, on a machine with an NVIDIA GPU: the table, PyTorch's nets, the tests of the GPU's
# side, and NVIDIA's sanitizers where they are installed; and, where the folder gstreamer is beside this file (see
# pack_gstreamer.sh), the real element. It needs the driver, no cargo and no GStreamer, and takes less than four minutes.
# Every step is a process of its own: one that fails or takes too long is reported, and the others run.
#
#     sh run.sh               everything; eight files of logs go to the folder that OUT names, or to logs/
#     sh run.sh temporal      the temporal layer alone: its tests, and what it costs
#     sh run.sh soak 10       ten minutes of one camera, and the GPU's memory
#
# LIMIT: seconds in all; what has not begun by then is left out. CAMERAS=256 limits the cameras of a process. TORCH_PYTHON names a Python that has PyTorch with CUDA.
set -u
cd "$(dirname "$0")" || exit
logs=${OUT:-$PWD/logs}
mkdir -p "$logs"
begin=$(date +%s)
all=${LIMIT:-235}
failed=''

if [ "${1:-}" = soak ]; then
    exec ./vaeanomaly-bench-cuda soak "${2:-10}"
fi

# step LOG NAME SECONDS COMMAND...: runs a command; its output goes to a log, and here.
step() {
    log=$logs/$1.txt name=$2 limit=$3
    shift 3
    left=$((all - $(date +%s) + begin))
    if [ "$left" -lt 5 ]; then
        echo "=== $name: no time left" | tee -a "$log"
        failed="$failed $name"
        return 1
    fi
    [ "$limit" -le "$left" ] || limit=$left
    start=$(date +%s)
    printf '\n=== %s: %s\n' "$name" "$*" | tee -a "$log"
    timeout -k 3 "$limit" "$@" >"$logs/step.txt" 2>&1
    status=$?
    cat "$logs/step.txt" >>"$log"
    tail -n 40 "$logs/step.txt"
    echo "=== $name: status $status after $(($(date +%s) - start)) s" | tee -a "$log"
    [ $status = 0 ] || failed="$failed $name"
    return $status
}
bench() {
    step "$1" "$1" "$2" ./vaeanomaly-bench-cuda "$1"
}

if [ "${1:-}" = temporal ]; then
    all=${LIMIT:-110}
    rm -f "$logs"/*.txt
    step tests temporal 60 ./tests-parts nets_of_any_shape --nocapture --test-threads 1
    bench nets 40
    rm -f "$logs/step.txt"
    [ -z "$failed" ]
    exit
fi

# What is asked of a GPU first: one camera, thousands of them, the same bits everywhere.
rm -f "$logs"/*.txt
step nets machine 10 nvidia-smi --query-gpu=name,driver_version,memory.total,memory.used,clocks.max.sm,pcie.link.gen.max,pcie.link.width.max --format=csv
bench nets 30
bench live 55
step tests same-images 20 ./tests-parts frames_of_every_format a_team_of_blocks_gives --nocapture --test-threads 1
step tests same-bits 30 ./tests-parts a_camera_gets_the_same_bits_alone_and_among_hundreds --nocapture
step tests same-scores 30 ./tests-whole frames_in_cuda_memory --nocapture
if [ -d gstreamer ]; then
    step gstreamer gstreamer 50 env OUT="$PWD/gstreamer/logs" LIMIT=35 BRANCHES="${BRANCHES:-64 1}" sh gstreamer/run.sh
fi
sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null)
sanitize() {
    step sanitizers "$1" 30 "$sanitizer" --tool "$1" --error-exitcode 9 ./tests-parts small_nets_on_a_gpu --test-threads 1
}
if [ -n "$sanitizer" ]; then
    sanitize memcheck
else
    echo "compute-sanitizer is not installed: no memcheck, no racecheck."
fi
step nets memory 20 ./vaeanomaly-bench-cuda memory
bench crowd 40
step tests gpu-tests 45 ./tests-parts engine::cuda::tests::gpu --nocapture --test-threads 1
bench camera 50
if step nets torch 45 sh -c "'${TORCH_PYTHON:-python3}' torch_cuda.py --seconds 0.4 >'$logs/torch.json' && cat '$logs/torch.json'"; then
    step nets ratios 30 ./vaeanomaly-bench-cuda nets "$logs/torch.json"
fi
if [ -n "$sanitizer" ]; then sanitize racecheck; fi
step nets gpu 15 ./vaeanomaly-bench-cuda gpu
step tests faulting-kernel 20 ./tests-parts a_faulting_kernel --ignored --nocapture
step tests full-memory 30 ./tests-parts a_full_gpu --ignored --nocapture
step tests detector-tests 60 ./tests-whole --nocapture --test-threads 4
if command -v ncu >/dev/null; then
    step nets profile 40 ncu --section SpeedOfLight --section WarpStateStats --section MemoryWorkloadAnalysis -k regex:step -s 20 -c 2 \
        ./vaeanomaly-bench-cuda profile
fi
rm -f "$logs/step.txt"
echo
echo "$(($(date +%s) - begin)) s"
if [ -n "$failed" ]; then
    echo "=== FAILED:$failed" | tee -a "$logs/nets.txt"
else
    echo "=== all steps passed" | tee -a "$logs/nets.txt"
fi
[ -z "$failed" ]
