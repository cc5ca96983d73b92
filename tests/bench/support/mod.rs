//! What the benches share: clocks of work done, medians, moving pictures, an element that is fed by hand.
#![allow(dead_code, reason = "each bench uses its part")]

pub mod feed;
pub mod pictures;

use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::time::{ClockId, clock_gettime};

/// Time that this thread has spent on a processor.
pub fn thread_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)
        .expect("the system has this clock")
        .into()
}

/// Time that all threads of this process have spent on processors, in the kernel too.
pub fn process_time() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("the system counts");
    let microseconds = |t: nix::sys::time::TimeVal| t.tv_sec() as u64 * 1_000_000 + t.tv_usec() as u64;
    Duration::from_micros(microseconds(usage.user_time()) + microseconds(usage.system_time()))
}

/// Memory of this process that lies in RAM, in MB of 10^6 bytes.
pub fn resident_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: f64 = line
        .and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok())
        .expect("a number of kB");
    kib * 1024.0 / 1e6
}

/// The value in the middle.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Milliseconds of this thread that one call takes, over as many calls as fill `least`.
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
