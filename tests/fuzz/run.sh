#!/bin/sh
# `make fuzz`: runs every fuzz target for some minutes, and prints how often each ran.
#
# usage: run.sh MINUTES [TARGET...]
# What libFuzzer finds interesting is kept in target/fuzz/TARGET; an input that panics is left beside it, as
# target/fuzz/TARGET-crash-*. Copied to tests/fuzz/corpus/TARGET, it is replayed by every `cargo test`. Stable Rust is enough.
set -eu

minutes=$1
shift
[ "$minutes" -ge 1 ] || {
    echo "MINUTES must be a whole number from 1, got '$minutes'" >&2
    exit 2
}
root=$(cd "$(dirname "$0")/../.." && pwd)
mkdir -p "${CARGO_TARGET_DIR:-$root/target}/fuzz"
out=$(cd "${CARGO_TARGET_DIR:-$root/target}" && pwd)

# What is private to a crate has property tests there, which run over and over.
properties() {
    name=$1
    count=$2
    shift 2
    log=$out/fuzz/$name.log
    status=passed
    cases=0
    end=$(($(date +%s) + 60 * minutes))
    : >"$log"
    while [ "$(date +%s)" -lt "$end" ] && [ $status = passed ]; do
        PROPTEST_CASES=2000 ${CARGO:-cargo} test --manifest-path "$root/Cargo.toml" --workspace "$@" >>"$log" 2>&1 ||
            status=FAILED
        cases=$((cases + 2000 * count))
    done
    report "$name" "$cases" $status
}

report() {
    printf '%-14s %10s executions in %s min: %s\n' "$1" "${2:-no}" "$minutes" "$3"
    [ "$3" = passed ] || {
        failed="$failed $1"
        grep -E 'panicked at|^SUMMARY|Test unit written|minimal failing input' -A2 "$log" || tail -5 "$log"
    }
}

# The program with counters; the arguments are libFuzzer's.
program() {
    case ${TARGET:-} in
    detector | image-view) wrapper=counters.sh ;;
    *) wrapper=rustc.sh ;;
    esac
    RUSTC_WORKSPACE_WRAPPER=$root/tests/fuzz/$wrapper ${CARGO:-cargo} test --manifest-path "$root/Cargo.toml" \
        --workspace --test fuzz --features fuzz/libfuzzer "$@"
}

[ $# -gt 0 ] || set -- $(ls "$root/tests/fuzz/corpus") kernels programs
failed=
for target; do
    case $target in
    kernels)
        properties kernels 2 --lib nn::tests::sizes
        continue
        ;;
    programs)
        properties programs 4 --bin evaluate any_text
        continue
        ;;
    esac
    mkdir -p "$out/fuzz/$target"
    log=$out/fuzz/$target.log
    status=passed
    TARGET=$target program --no-run
    TARGET=$target program -- "$out/fuzz/$target" "$root/tests/fuzz/corpus/$target" \
        -max_total_time=$((60 * minutes)) -timeout=120 -rss_limit_mb=3000 -max_len=4096 -print_final_stats=1 \
        -artifact_prefix="$out/fuzz/$target-" >"$log" 2>&1 || status=FAILED
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    report "$target" "$runs" $status
done
[ -z "$failed" ] || {
    echo "Failed:$failed; logs are in $out/fuzz" >&2
    exit 1
}
