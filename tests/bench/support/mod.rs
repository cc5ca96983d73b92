//! Shared by the benches: CPU time, medians, synthetic images, an element that is fed without a pipeline.
#![allow(dead_code, reason = "each bench uses a part")]

pub mod feed;
pub mod images;

use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::time::{ClockId, clock_gettime};

/// CPU time of this thread.
pub fn thread_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)
        .expect("the clock exists")
        .into()
}

/// CPU time of all threads of this process, in the kernel too.
pub fn process_time() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("getrusage cannot fail");
    let microseconds = |t: nix::sys::time::TimeVal| t.tv_sec() as u64 * 1_000_000 + t.tv_usec() as u64;
    Duration::from_micros(microseconds(usage.user_time()) + microseconds(usage.system_time()))
}

/// Resident memory of this process, in MB of 10^6 bytes.
pub fn resident_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("procfs is mounted");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: f64 = line
        .and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok())
        .expect("VmRSS is a number of kB");
    kib * 1024.0 / 1e6
}

/// The upper median.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// CPU milliseconds of one call in this thread, over as many calls as fill `least`.
pub fn milliseconds(least: Duration, mut work: impl FnMut()) -> f64 {
    let (mut calls, from) = (0u32, thread_time());
    loop {
        work();
        calls += 1;
        let spent = thread_time() - from;
        if spent >= least {
            return 1e3 * spent.as_secs_f64() / f64::from(calls);
        }
    }
}
