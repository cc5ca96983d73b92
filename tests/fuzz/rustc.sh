#!/bin/sh
# Compiles a crate of the workspace with the counters that libFuzzer reads. Build scripts and dependencies are compiled as
# always.
for argument; do
    case $argument in
    build_script_*) exec "$@" ;;
    esac
done
compares=${COMPARES--Cllvm-args=-sanitizer-coverage-trace-compares}
exec "$@" -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    $compares --cfg fuzzing
