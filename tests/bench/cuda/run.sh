#!/bin/sh
# Runs what `make bench-cuda` packed, on a machine with an NVIDIA GPU: the tests of the GPU's side, PyTorch's nets, the
# table, and NVIDIA's sanitizers where they are installed. It needs the driver, no cargo and no GStreamer, and takes less
# than four minutes. A step that fails or takes too long is reported, and the others run.
#
#     sh run.sh               everything; log.txt, table.txt and torch.json go to the folder that OUT names, or to logs/
#     sh run.sh soak 10       ten minutes of one camera, and the GPU's memory
#
# CAMERAS=256 limits the cameras of a process, each of which is a thread.
# TORCH_PYTHON names a Python that has PyTorch with CUDA; without one the table lacks the ratios to it.
set -u
cd "$(dirname "$0")" || exit
logs=${OUT:-$PWD/logs}
mkdir -p "$logs"
: >"$logs/log.txt"
failed=''

if [ "${1:-}" = soak ]; then
    exec ./vaeanomaly-bench-cuda soak "${2:-10}"
fi

# step NAME SECONDS COMMAND...: runs a command, prints its output and appends it to the log.
step() {
    name=$1 limit=$2
    shift 2
    {
        echo
        echo "=== $name: $*"
    } | tee -a "$logs/log.txt"
    start=$(date +%s)
    timeout "$limit" "$@" >"$logs/step.txt" 2>&1
    status=$?
    {
        cat "$logs/step.txt"
        echo "=== $name: status $status after $(($(date +%s) - start)) s"
    } | tee -a "$logs/log.txt"
    [ $status = 0 ] || failed="$failed $name"
    return $status
}

step machine 20 nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm,pcie.link.gen.max,pcie.link.width.max --format=csv
step gpu-tests 90 ./tests-parts engine::cuda::tests::gpu --nocapture --test-threads 1
python=${TORCH_PYTHON:-python3}
set --
if step torch 60 sh -c "'$python' torch_cuda.py --seconds 0.7 >'$logs/torch.json' && cat '$logs/torch.json'"; then
    set -- "$logs/torch.json"
else
    echo "No PyTorch with CUDA in $python: the table lacks the ratios to it." >&2
fi
step table 130 ./vaeanomaly-bench-cuda table "$@"
cp "$logs/step.txt" "$logs/table.txt"
step detector-tests 60 ./tests-whole --nocapture --test-threads 4
step full-memory 40 ./tests-parts a_full_gpu --ignored --nocapture
step faulting-kernel 40 ./tests-parts a_faulting_kernel --ignored --nocapture
sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null)
if [ -n "$sanitizer" ]; then
    for tool in memcheck racecheck; do
        step $tool 40 "$sanitizer" --tool $tool --error-exitcode 9 ./tests-parts small_nets_on_a_gpu --test-threads 1
    done
else
    echo "compute-sanitizer is not installed: no memcheck, no racecheck."
fi
if command -v ncu >/dev/null; then
    step profile 60 ncu --section SpeedOfLight --section WarpStateStats --section MemoryWorkloadAnalysis -k regex:step -s 20 -c 2 \
        ./vaeanomaly-bench-cuda nets
else
    echo "ncu is not installed: no profile."
fi
rm -f "$logs/step.txt"
echo
if [ -n "$failed" ]; then
    echo "=== FAILED:$failed" | tee -a "$logs/log.txt"
else
    echo "=== all steps passed" | tee -a "$logs/log.txt"
fi
[ -z "$failed" ]
