//! Metadata and events with any fields.

use std::sync::Once;

use arbitrary::{Result, Unstructured};
use gst::glib;
use gstvaeanomaly::{FrameResult, META_NAME};

use crate::values::{number, optional_clock_time, with_input};

/// Initialises GStreamer with the plugin.
pub fn init() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // What an element uses in a way that GLib or GStreamer does not allow ends the process too.
        glib::log_set_always_fatal(glib::LogLevels::LEVEL_CRITICAL | glib::LogLevels::LEVEL_ERROR);
        gst::init().expect("GStreamer starts");
        gstvaeanomaly::plugin_register_static().expect("the plugin registers");
    });
}

/// Texts that mean something in metadata and events.
const WORDS: [&str; 16] = [
    "normal",
    "anomaly",
    "unknown",
    "motion",
    "appearance",
    "warming-up",
    "calibrating",
    "detecting",
    "adapting",
    "frozen",
    "anomaly-begin",
    "anomaly-update",
    "anomaly-end",
    "state-changed",
    "",
    "Anomaly",
];

/// Fields of the metadata.
const META_FIELDS: [&str; 15] = [
    "score",
    "raw-score",
    "threshold",
    "label",
    "cue",
    "state",
    "event-id",
    "frame",
    "x",
    "y",
    "width",
    "height",
    "scored",
    "image-width",
    "image-height",
];

/// Fields of a region of the metadata.
const REGION_FIELDS: [&str; 7] = ["id", "score", "cue", "x", "y", "width", "height"];

/// Fields of the events.
const EVENT_FIELDS: [&str; 6] = [
    "event",
    "event-id",
    "running-time",
    "duration",
    "min-anomaly",
    "state",
];

/// A field with a value of any type.
fn set(s: &mut gst::StructureRef, name: &str, u: &mut Unstructured<'_>) -> Result<()> {
    match u.int_in_range(0..=11)? {
        0 => s.set(name, number(u)?),
        1 => s.set(name, number(u)? as f32),
        2 => s.set(name, u.arbitrary::<u64>()?),
        3 => s.set(name, u.arbitrary::<i64>()?),
        4 => s.set(name, u.arbitrary::<u32>()?),
        5 => s.set(name, u.arbitrary::<i32>()?),
        6 => s.set(name, u.arbitrary::<bool>()?),
        7 => s.set(name, *u.choose(&WORDS)?),
        8 => s.set(name, u.arbitrary::<&str>()?.replace('\0', "")),
        9 => s.set(name, optional_clock_time(u)?),
        10 => s.set(name, gst::Fraction::new(u.int_in_range(0..=9)?, 1)),
        _ => s.set(name, None::<String>),
    }
    Ok(())
}

/// The value that a field usually has.
fn set_usual(s: &mut gst::StructureRef, name: &str, u: &mut Unstructured<'_>) -> Result<()> {
    match name {
        "score" | "raw-score" | "threshold" => s.set(name, number(u)?),
        "label" | "cue" | "state" | "event" => s.set(name, *u.choose(&WORDS)?),
        "event-id" | "frame" | "id" => s.set(name, u64::from(u.arbitrary::<u8>()?)),
        "scored" => s.set(name, u.arbitrary::<bool>()?),
        "running-time" | "duration" | "min-anomaly" => s.set(name, optional_clock_time(u)?),
        _ => s.set(name, u.arbitrary::<u32>()?),
    }
    Ok(())
}

fn fill(s: &mut gst::StructureRef, fields: &[&str], u: &mut Unstructured<'_>) -> Result<()> {
    for name in fields {
        match u.int_in_range(0..=15)? {
            0 => {}
            1 => set(s, name, u)?,
            _ => set_usual(s, name, u)?,
        }
    }
    Ok(())
}

/// Attaches metadata to a buffer.
pub fn attach_meta(buffer: &mut gst::BufferRef, u: &mut Unstructured<'_>) -> Result<()> {
    let mut meta = gst::meta::CustomMeta::add(buffer, META_NAME).expect("the metadata is registered");
    let s = meta.mut_structure();
    fill(s, &META_FIELDS, u)?;
    match u.int_in_range(0..=15)? {
        1 => set(s, "regions", u)?,
        2 => {}
        _ => s.set("regions", regions(u)?),
    }
    match u.int_in_range(0..=7)? {
        1 => set(s, "anomaly-map", u)?,
        2..=4 => s.set("anomaly-map", small_image(u)?),
        _ => {}
    }
    Ok(())
}

fn regions(u: &mut Unstructured<'_>) -> Result<gst::Array> {
    let mut regions = Vec::new();
    for _ in 0..u.int_in_range(0..=3)? {
        let mut region = gst::Structure::new_empty("region");
        fill(&mut region, &REGION_FIELDS, u)?;
        regions.push(region);
    }
    Ok(gst::Array::new(regions))
}

/// A sample of a small image, or nearly.
fn small_image(u: &mut Unstructured<'_>) -> Result<gst::Sample> {
    let format = *u.choose(&["GRAY8", "GRAY8", "RGB", "I420", "ENCODED"])?;
    let size = |u: &mut Unstructured<'_>| match u.int_in_range(0..=15)? {
        0 => u.arbitrary::<i32>(),
        _ => u.int_in_range(1..=40),
    };
    let caps = gst::Caps::builder("video/x-raw")
        .field("format", format)
        .field("width", size(u)?)
        .field("height", size(u)?)
        .field("framerate", gst::Fraction::new(0, 1))
        .build();
    let buffer = gst::Buffer::from_mut_slice(vec![u.arbitrary::<u8>()?; u.int_in_range(0..=2000)?]);
    Ok(gst::Sample::builder().buffer(&buffer).caps(&caps).build())
}

/// A custom event.
pub fn event(name: &str, u: &mut Unstructured<'_>) -> Result<gst::Structure> {
    let mut s = gst::Structure::new_empty(name);
    fill(&mut s, &EVENT_FIELDS, u)?;
    Ok(s)
}

/// What can be read from metadata can be written and is read again.
pub fn metadata(data: &[u8]) {
    init();
    with_input(data, |u| {
        let mut buffer = gst::Buffer::new();
        let buffer = buffer.make_mut();
        attach_meta(buffer, u)?;
        let Some(result) = FrameResult::read(buffer) else {
            return Ok(());
        };
        for (width, height) in [(0, 0), (1, u32::MAX), (u.arbitrary()?, u.arbitrary()?)] {
            let _ = (result.region_in(width, height), result.regions_in(width, height));
        }
        result.write(buffer).expect("the metadata is registered");
        let again = FrameResult::read(buffer).expect("a result");
        // Not a number is not equal to itself.
        assert_eq!(format!("{again:?}"), format!("{result:?}"));
        Ok(())
    });
}
