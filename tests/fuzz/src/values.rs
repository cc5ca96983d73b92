//! Values that are often at the edge of what is allowed.

use std::time::Duration;

use arbitrary::{Result, Unstructured};

/// A time: some milliseconds, or any number of nanoseconds that a 64-bit number holds.
pub fn duration(u: &mut Unstructured<'_>) -> Result<Duration> {
    Ok(match u.int_in_range(0..=7)? {
        0..=4 => Duration::from_millis(u.arbitrary::<u16>()?.into()),
        5 => Duration::from_nanos(u.arbitrary()?),
        6 => Duration::from_nanos(u64::MAX - u64::from(u.arbitrary::<u32>()?)),
        _ => Duration::ZERO,
    })
}

/// A time or none.
pub fn optional_duration(u: &mut Unstructured<'_>) -> Result<Option<Duration>> {
    match u.ratio(1, 8)? {
        true => Ok(None),
        false => duration(u).map(Some),
    }
}

/// The same for GStreamer.
pub fn optional_clock_time(u: &mut Unstructured<'_>) -> Result<Option<gst::ClockTime>> {
    let time = optional_duration(u)?;
    Ok(time.and_then(|time| gst::ClockTime::try_from(time).ok()))
}

/// A number of any size, or a usual one.
pub fn number(u: &mut Unstructured<'_>) -> Result<f64> {
    const EDGES: [f64; 8] = [
        0.0,
        -1.0,
        1.0,
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::MAX,
        f64::MIN_POSITIVE,
    ];
    match u.int_in_range(0..=3)? {
        0 => u.choose(&EDGES).copied(),
        1 => u.arbitrary(),
        _ => Ok(f64::from(u.arbitrary::<i16>()?) / 1000.0),
    }
}

/// Runs a target's body; input that ends too early ends it.
pub fn with_input(data: &[u8], run: impl FnOnce(&mut Unstructured<'_>) -> Result<()>) {
    // The only error is that there are no more bytes.
    let _ = run(&mut Unstructured::new(data));
}
