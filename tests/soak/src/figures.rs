//! What is measured over time, and how it grows.

use anyhow::{Context, Result};

/// The normal distribution is below this with a probability of 0.95.
const NORMAL_95: f64 = 1.645;

/// How a quantity grows in a second.
#[derive(Clone, Copy, Debug)]
pub struct Trend {
    /// The best estimate.
    pub slope: f64,
    /// The slope is larger than this with a certainty of 95 % (Sen 1968, for independent periods).
    pub at_least: f64,
}

/// A quantity over time, as the medians of equal periods.
#[derive(Clone, Debug)]
pub struct Series {
    period: f64,
    /// Middle times and medians of the periods that are over.
    medians: Vec<(f64, f64)>,
    /// The values of the current period, which has this number.
    current: (u64, Vec<f64>),
    last: f64,
    max: f64,
}

impl Series {
    /// A series with periods of this many seconds.
    pub fn new(period: f64) -> Self {
        Series {
            period,
            medians: Vec::new(),
            current: (0, Vec::new()),
            last: 0.0,
            max: 0.0,
        }
    }

    /// Adds a value at this time in seconds; times rise.
    pub fn push(&mut self, seconds: f64, value: f64) {
        let number = (seconds / self.period) as u64;
        if number != self.current.0 {
            self.medians.extend(self.current_median());
            self.current.0 = number;
            self.current.1.clear();
        }
        self.current.1.push(value);
        self.last = value;
        self.max = self.max.max(value);
    }

    /// The last value; 0 where there is none.
    pub fn last(&self) -> f64 {
        self.last
    }

    /// The largest value; 0 where there is none.
    pub fn max(&self) -> f64 {
        self.max
    }

    /// How the quantity grows from `start` on: the median of the slopes between all pairs of periods (Theil 1950, Sen 1968),
    /// which single outliers do not move. `None` with less than three periods.
    pub fn trend(&self, start: f64) -> Option<Trend> {
        let medians = self.medians.iter().copied().chain(self.current_median());
        let medians: Vec<_> = medians.filter(|(at, _)| *at >= start).collect();
        let n = medians.len();
        if n < 3 {
            return None;
        }
        let slopes = medians.iter().enumerate().flat_map(|(i, (at, value))| {
            let later = medians[i + 1..].iter();
            later.map(move |(later, then)| (then - value) / (later - at))
        });
        let mut slopes: Vec<f64> = slopes.collect();
        slopes.sort_by(f64::total_cmp);
        let deviation = ((n * (n - 1) * (2 * n + 5)) as f64 / 18.0).sqrt();
        let lowest = (slopes.len() as f64 - NORMAL_95 * deviation) / 2.0;
        Some(Trend {
            slope: slopes[slopes.len() / 2],
            at_least: slopes[lowest.max(0.0) as usize],
        })
    }

    fn current_median(&self) -> Option<(f64, f64)> {
        let (number, values) = &self.current;
        let value = median(values.clone())?;
        Some(((*number as f64 + 0.5) * self.period, value))
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// Memory of this process in MB of 10^6 bytes.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Resident.
    pub resident: f64,
    /// Allocated with C's malloc and not freed: GStreamer, its elements and codecs.
    pub in_use_of_c: f64,
    /// Allocated by Rust and not freed: this project's elements and this program. Memory that another thread freed counts
    /// until the thread that allocated it ends or calls [`return_freed_memory`].
    pub in_use_of_rust: f64,
}

impl Memory {
    /// Measures it.
    ///
    /// # Errors
    /// There is no procfs.
    pub fn measure() -> Result<Self> {
        let status = std::fs::read_to_string("/proc/self/status").context("/proc/self/status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<f64>().ok());
        Ok(Memory {
            resident: kib.context("VmRSS is no number of kB")? * 1024.0 / 1e6,
            in_use_of_c: allocators::in_use_of_c() as f64 / 1e6,
            in_use_of_rust: allocators::in_use_of_rust() as f64 / 1e6,
        })
    }
}

pub use allocators::{return_freed_memory, use_one_arena};

/// The process has two allocators: glibc's for C, mimalloc for Rust.
#[expect(unsafe_code, reason = "functions of C without a binding")]
mod allocators {
    use std::ffi::{c_int, c_void};
    use std::ptr::null_mut;

    const M_ARENA_MAX: c_int = -8;

    /// `struct mallinfo2` of glibc's malloc.h.
    #[repr(C)]
    struct MallocInfo {
        arena: usize,
        ordblks: usize,
        smblks: usize,
        hblks: usize,
        hblkhd: usize,
        usmblks: usize,
        fsmblks: usize,
        uordblks: usize,
        fordblks: usize,
        keepcost: usize,
    }

    /// `mi_heap_area_t` of mimalloc.h, version 3: blocks of one size.
    #[repr(C)]
    struct Area {
        blocks: *mut c_void,
        reserved: usize,
        committed: usize,
        used: usize,
        block_size: usize,
        full_block_size: usize,
        reserved1: *mut c_void,
    }

    type Visitor = extern "C" fn(*const c_void, *const Area, *mut c_void, usize, *mut c_void) -> bool;

    unsafe extern "C" {
        safe fn mallopt(param: c_int, value: c_int) -> c_int;
        safe fn mallinfo2() -> MallocInfo;
        safe fn malloc_trim(pad: usize) -> c_int;
        safe fn mi_collect(force: bool);
        /// The heap is that of all threads if null. Calls the visitor for each area, with the last argument.
        fn mi_heap_visit_blocks(
            heap: *mut c_void,
            visit_blocks: bool,
            visitor: Visitor,
            argument: *mut c_void,
        ) -> bool;
    }

    /// Lets all threads allocate from one arena. By default, glibc has up to eight a core, and each keeps what its threads
    /// once needed: threads that come and go make resident memory grow for hours while no more is in use.
    pub fn use_one_arena() {
        mallopt(M_ARENA_MAX, 1);
    }

    /// Frees what this thread allocated with Rust and other threads have freed, and returns free pages to the system. What is
    /// resident then is in use, or shares a page with what is.
    pub fn return_freed_memory() {
        mi_collect(true);
        malloc_trim(0);
    }

    pub fn in_use_of_c() -> usize {
        let info = mallinfo2();
        info.uordblks + info.hblkhd
    }

    /// While other threads allocate, this is about right.
    pub fn in_use_of_rust() -> usize {
        extern "C" fn add(
            _: *const c_void,
            area: *const Area,
            _: *mut c_void,
            _: usize,
            sum: *mut c_void,
        ) -> bool {
            // SAFETY: both are valid during the call, and the sum is that of the caller.
            unsafe { *sum.cast::<usize>() += (*area).used * (*area).full_block_size };
            true
        }
        let mut sum = 0usize;
        // SAFETY: the signature is that of mimalloc.h, and the sum outlives the call. Without the blocks, only the
        // descriptions of the areas are read, which stay mapped.
        unsafe { mi_heap_visit_blocks(null_mut(), false, add, (&raw mut sum).cast()) };
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slope_is_that_of_most_periods() {
        let mut series = Series::new(10.0);
        for i in 0..900 {
            let at = f64::from(i);
            let outlier = if i % 100 < 12 { 1000.0 } else { 0.0 };
            series.push(at, 2.0 * at + f64::from(i * 7 % 5) + outlier);
        }
        let trend = series.trend(0.0).unwrap();
        assert!((trend.slope - 2.0).abs() < 0.01, "{trend:?}");
        assert!((1.9..=trend.slope).contains(&trend.at_least), "{trend:?}");
        assert!(series.trend(880.0).is_none());
        assert_eq!((series.last(), series.max() > 1000.0), (1801.0, true));
    }

    #[test]
    fn noise_is_no_certain_growth() {
        let mut series = Series::new(1.0);
        (0..50).for_each(|i| series.push(f64::from(i), f64::from(i * 37 % 50) + 0.01 * f64::from(i)));
        let trend = series.trend(0.0).unwrap();
        assert!(trend.at_least < 0.0 && trend.at_least > -1.0, "{trend:?}");
        (50..100).for_each(|i| series.push(f64::from(i), f64::from(i * 37 % 50) + f64::from(i)));
        let trend = series.trend(0.0).unwrap();
        assert!(trend.at_least > 0.5 && trend.at_least < trend.slope, "{trend:?}");
    }

    #[test]
    fn memory_that_is_not_freed_is_in_use_and_resident() {
        gst::init().unwrap();
        drop(gst::Buffer::with_size(1));
        let before = Memory::measure().unwrap();
        let mut of_c = gst::Buffer::with_size(40_000_000).unwrap();
        of_c.make_mut().map_writable().unwrap().fill(1);
        let of_rust = vec![1u8; 40_000_000];
        let used = Memory::measure().unwrap();
        drop((of_c, of_rust));
        return_freed_memory();
        let after = Memory::measure().unwrap();
        println!("{before:?} {used:?} {after:?}");
        assert!(used.resident > before.resident + 75.0 && after.resident < before.resident + 10.0);
        for (before, used, after) in [
            (before.in_use_of_c, used.in_use_of_c, after.in_use_of_c),
            (before.in_use_of_rust, used.in_use_of_rust, after.in_use_of_rust),
        ] {
            assert!(used > before + 39.0 && used < before + 45.0 && after < before + 5.0);
        }

        // What another thread frees is free when it is collected. Larger blocks are returned to the system at once.
        let blocks: Vec<_> = (0..400).map(|_| vec![1u8; 50_000]).collect();
        std::thread::spawn(|| drop(blocks)).join().unwrap();
        return_freed_memory();
        let collected = Memory::measure().unwrap().in_use_of_rust;
        assert!(collected < after.in_use_of_rust + 2.0, "{collected} MB");
    }
}
