//! The gate in a harness, with frames of a tenth of a second.

use gst::prelude::*;

use super::{Label, init};

pub const MS: gst::ClockTime = gst::ClockTime::from_mseconds(1);
pub const RAW: &str = "video/x-raw,format=GRAY8,width=16,height=16,framerate=10/1";
pub const H264: &str = "video/x-h264,stream-format=avc,alignment=au,width=16,height=16,framerate=10/1";

pub fn harness(settings: &str, caps: &str) -> gst_check::Harness {
    init();
    let gate = gst::ElementFactory::make("vaeanomalygate")
        .build()
        .expect("the element");
    for (name, value) in settings
        .split_whitespace()
        .filter_map(|setting| setting.split_once('='))
    {
        gate.set_property_from_str(name, value);
    }
    let mut harness = gst_check::Harness::with_element(&gate, Some("sink"), Some("src"));
    harness.set_src_caps_str(caps);
    harness
}

/// A frame of 100 ms at `number` * 100 ms, its number as content.
pub fn frame(number: u64, key: bool, label: Option<Label>) -> gst::Buffer {
    let mut buffer = gst::Buffer::from_slice(number.to_le_bytes());
    let fields = buffer.get_mut().expect("a new buffer");
    fields.set_pts(100 * number * MS);
    fields.set_dts(100 * number * MS);
    fields.set_duration(100 * MS);
    if !key {
        fields.set_flags(gst::BufferFlags::DELTA_UNIT);
    }
    if let Some(label) = label {
        label.attach(fields);
    }
    buffer
}

pub fn number(buffer: &gst::BufferRef) -> u64 {
    let map = buffer.map_readable().expect("readable");
    u64::from_le_bytes(map[..8].try_into().expect("eight bytes"))
}

/// Pushes one frame for each letter: `a` anomalous, `n` normal, `u` unknown, `.` without metadata; capitals are key frames.
pub fn feed(harness: &mut gst_check::Harness, from: u64, letters: &str) {
    for (index, letter) in letters.chars().enumerate() {
        let label = match letter.to_ascii_lowercase() {
            'a' => Some(Label::Anomaly(1)),
            'n' => Some(Label::Normal),
            'u' => Some(Label::Unknown),
            _ => None,
        };
        let key = letter.is_ascii_uppercase() || letter == '.';
        harness
            .push(frame(from + index as u64, key, label))
            .expect("the frame is accepted");
    }
}

pub fn passed(harness: &mut gst_check::Harness) -> Vec<u64> {
    std::iter::from_fn(|| harness.try_pull())
        .map(|buffer| number(&buffer))
        .collect()
}

pub fn events(harness: &mut gst_check::Harness) -> Vec<gst::Event> {
    std::iter::from_fn(|| harness.try_pull_event()).collect()
}

pub fn stat(harness: &gst_check::Harness, name: &str) -> u64 {
    let stats: gst::Structure = harness.element().expect("an element").property("stats");
    stats.get(name).expect("that statistic")
}
