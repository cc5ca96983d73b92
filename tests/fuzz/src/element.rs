//! Both elements: properties from any text, and a gate with any buffers and events.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arbitrary::{Result, Unstructured};
use gst::glib;
use gst::prelude::*;
use gstvaeanomaly::{ACCEPT_NAME, Cues, EVENT_NAME};

use crate::structure::{attach_meta, event, init};
use crate::values::{optional_clock_time, with_input};

/// Properties that name files, other elements, or nothing of ours.
const LEFT_OUT: [&str; 5] = ["model-location", "mask-location", "follow", "name", "parent"];

fn writable(element: &gst::Element) -> Vec<glib::ParamSpec> {
    let own = |property: &glib::ParamSpec| {
        property.flags().contains(glib::ParamFlags::READWRITE) && !LEFT_OUT.contains(&property.name())
    };
    element
        .list_properties()
        .iter()
        .filter(|p| own(p))
        .cloned()
        .collect()
}

/// Whether GLib accepts a number for the property.
fn is_in_range(property: &glib::ParamSpec, value: &glib::Value) -> bool {
    macro_rules! check {
        ($($spec:ty as $number:ty),*) => {$(
            if let (Some(spec), Ok(value)) = (property.downcast_ref::<$spec>(), value.get::<$number>()) {
                return (spec.minimum()..=spec.maximum()).contains(&value);
            }
        )*};
    }
    check!(
        glib::ParamSpecDouble as f64,
        glib::ParamSpecUInt as u32,
        glib::ParamSpecUInt64 as u64
    );
    true
}

/// Sets a property from a text, as `gst-launch-1.0` does.
fn set_from_text(element: &gst::Element, property: &glib::ParamSpec, text: &str) {
    let value = glib::Value::deserialize_with_pspec(text, property);
    if let Some(mut value) = value.ok().filter(|value| is_in_range(property, value)) {
        if let Ok(cues) = value.get::<Cues>() {
            // Without unknown bits.
            value = cues.to_value();
        }
        element.set_property_from_value(property.name(), &value);
        let _ = element.property_value(property.name());
    }
}

/// Lines `element-number property-number text`: the element starts or says why not.
pub fn properties(data: &[u8]) {
    init();
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let mut lines = text.lines();
    let name = match lines.next() {
        Some("gate") => "vaeanomalygate",
        _ => "vaeanomaly",
    };
    let element = gst::ElementFactory::make(name).build().expect("the element");
    let properties = writable(&element);
    for line in lines.take(32) {
        let Some((name, value)) = line.split_once('=') else {
            continue;
        };
        let named = properties.iter().find(|property| property.name() == name);
        let numbered = || name.parse::<usize>().ok().and_then(|i| properties.get(i));
        if let Some(property) = named.or_else(numbered) {
            set_from_text(&element, property, &value.replace('\0', ""));
        }
    }
    let _ = element.set_state(gst::State::Paused);
    element
        .set_state(gst::State::Null)
        .expect("stopping always works");
}

const CAPS: [&str; 4] = [
    "video/x-raw,format=GRAY8,width=16,height=16,framerate=10/1",
    "video/x-raw,format=GRAY8,width=32,height=16,framerate=0/1",
    "video/x-h264,stream-format=avc,alignment=au,width=16,height=16,framerate=10/1",
    "image/jpeg,width=16,height=16,framerate=10/1",
];

/// No frame gets lost in the gate without being counted.
pub fn gate(data: &[u8]) {
    init();
    with_input(data, stream);
}

fn stream(u: &mut Unstructured<'_>) -> Result<()> {
    let gate = gst::ElementFactory::make("vaeanomalygate")
        .build()
        .expect("the element");
    let properties = writable(&gate);
    let passed = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&passed);
    let pad = gate.static_pad("src").expect("a source pad");
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
        count.fetch_add(1, Ordering::Relaxed);
        gst::PadProbeReturn::Ok
    });
    let mut harness = gst_check::Harness::with_element(&gate, Some("sink"), Some("src"));
    harness.set_drop_buffers(true);
    harness.set_src_caps_str(CAPS[u.int_in_range(0..=3)?]);
    let mut sent = Sent::default();
    let result = run(u, &mut harness, &properties, &mut sent);
    harness.push_event(gst::event::Eos::new());
    let stats: gst::Structure = gate.property("stats");
    let stat = |name: &str| stats.get::<u64>(name).expect("a count");
    assert_eq!(stat("frames-held"), 0, "the end empties the gate");
    let decided = stat("frames-out") + stat("frames-dropped") + stat("frames-discarded");
    assert_eq!(
        (stat("frames-in"), decided),
        (sent.frames, sent.frames),
        "{stats}"
    );
    if !sent.flushed {
        let passed = passed.load(Ordering::Relaxed);
        assert_eq!(stat("frames-out") + sent.headers, passed, "{stats}");
        assert_eq!(stat("frames-discarded"), 0, "{stats}");
    }
    result
}

/// What the gate got.
#[derive(Default)]
struct Sent {
    frames: u64,
    headers: u64,
    flushed: bool,
}

fn run(
    u: &mut Unstructured<'_>,
    harness: &mut gst_check::Harness,
    properties: &[glib::ParamSpec],
    sent: &mut Sent,
) -> Result<()> {
    let mut now = gst::ClockTime::ZERO;
    while !u.is_empty() {
        match u.int_in_range(0..=23)? {
            0 => {
                let structure = event(ACCEPT_NAME, u)?;
                harness.push_upstream_event(gst::event::CustomUpstream::new(structure));
            }
            1..=3 => {
                let structure = event(EVENT_NAME, u)?;
                harness.push_event(gst::event::CustomDownstream::new(structure));
            }
            4 => {
                let mut segment = gst::FormattedSegment::<gst::ClockTime>::new();
                segment.set_start(optional_clock_time(u)?);
                segment.set_base(optional_clock_time(u)?);
                segment.set_rate(*u.choose(&[1.0, 0.5, -1.0, 4.0])?);
                harness.push_event(gst::event::Segment::new(&segment));
            }
            5 => {
                let start = optional_clock_time(u)?.unwrap_or_default();
                let gap = gst::event::Gap::builder(start).duration(optional_clock_time(u)?);
                harness.push_event(gap.build());
            }
            6 if u.ratio(1, 4)? => {
                sent.flushed = true;
                harness.push_event(gst::event::FlushStart::new());
                harness.push_event(gst::event::FlushStop::new(u.arbitrary()?));
                let segment = gst::FormattedSegment::<gst::ClockTime>::new();
                harness.push_event(gst::event::Segment::new(&segment));
            }
            7 => harness.set_src_caps_str(CAPS[u.int_in_range(0..=3)?]),
            8 => {
                let property = u.choose(properties)?;
                let text = match u.arbitrary::<bool>()? {
                    true => u.arbitrary::<u64>()?.to_string(),
                    false => (*u.choose(&["0", "all", "event", "true", "300000000"])?).to_owned(),
                };
                let element = harness.element().expect("the element");
                set_from_text(&element, property, &text);
            }
            _ => {
                // In H.264, the first byte after the length of a NAL unit is its type.
                let size = u.int_in_range(0..=64u8)?;
                let mut buffer = gst::Buffer::from_mut_slice(vec![size; usize::from(size)]);
                let buffer_mut = buffer.make_mut();
                let (pts, dts) = match u.int_in_range(0..=7)? {
                    0 => (optional_clock_time(u)?, optional_clock_time(u)?),
                    1 => (None, None),
                    _ => {
                        now += gst::ClockTime::from_mseconds(u.int_in_range(0..=200)?);
                        (Some(now), Some(now))
                    }
                };
                buffer_mut.set_pts(pts);
                buffer_mut.set_dts(dts);
                buffer_mut.set_duration(optional_clock_time(u)?);
                for flag in [
                    gst::BufferFlags::DELTA_UNIT,
                    gst::BufferFlags::DISCONT,
                    gst::BufferFlags::HEADER,
                    gst::BufferFlags::GAP,
                ] {
                    if u.ratio(1, 4)? {
                        buffer_mut.set_flags(flag);
                    }
                }
                if u.arbitrary()? {
                    attach_meta(buffer_mut, u)?;
                }
                // Headers without a time are no frames.
                let is_header =
                    buffer.flags().contains(gst::BufferFlags::HEADER) && buffer.dts_or_pts().is_none();
                if harness.push(buffer).is_ok() {
                    match is_header {
                        true => sent.headers += 1,
                        false => sent.frames += 1,
                    }
                }
            }
        }
    }
    Ok(())
}
