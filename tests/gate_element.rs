//! Flush, caps, latency, buffer pools, bounds, properties and messages of the gate.

use gst::prelude::*;

mod gated;
use gated::harness::*;
use gated::{Label, init};

#[test]
fn the_end_of_the_stream_drains_and_a_flush_discards() {
    for flush in [false, true] {
        let mut harness = harness("pre-roll=1000000000 keepalive-interval=0", RAW);
        feed(&mut harness, 0, "NNN");
        let mut header = gst::Buffer::new();
        header.make_mut().set_flags(gst::BufferFlags::HEADER);
        harness.push(header).expect("it is accepted");
        assert_eq!(stat(&harness, "frames-held"), 3);
        if flush {
            harness.push_event(gst::event::FlushStart::new());
            harness.push_event(gst::event::FlushStop::new(true));
        } else {
            harness.push_event(gst::event::Eos::new());
        }
        assert_eq!(stat(&harness, "frames-held"), 0);
        assert_eq!(stat(&harness, "frames-in"), 3, "no frame is in no count");
        assert_eq!(stat(&harness, "frames-dropped"), if flush { 0 } else { 3 });
        assert_eq!(stat(&harness, "frames-discarded"), if flush { 3 } else { 0 });
        let headers = std::iter::from_fn(|| harness.try_pull()).count();
        assert_eq!(headers, usize::from(!flush), "a header is not a frame");
        let ended = events(&mut harness)
            .iter()
            .any(|event| event.type_() == gst::EventType::Eos);
        assert_eq!(ended, !flush);
    }
}

/// What downstream does not accept is neither passed on nor dropped.
#[test]
fn frames_that_cannot_be_output_are_counted() {
    let mut harness = harness("pre-roll=300000000 keepalive-interval=0", RAW);
    feed(&mut harness, 0, "NNN");
    let pad = harness.element().and_then(|element| element.static_pad("src"));
    let peer = pad.and_then(|pad| pad.peer()).expect("the harness is linked");
    peer.send_event(gst::event::Eos::new());
    assert_eq!(
        harness.push(frame(3, true, Some(Label::Anomaly(1)))),
        Err(gst::FlowError::Eos)
    );
    assert_eq!(
        harness.push(frame(4, true, Some(Label::Anomaly(1)))),
        Err(gst::FlowError::Eos)
    );
    for (name, count) in [
        ("in", 5),
        ("out", 0),
        ("dropped", 0),
        ("discarded", 5),
        ("held", 0),
    ] {
        assert_eq!(stat(&harness, &format!("frames-{name}")), count, "{name}");
    }
    assert_eq!(stat(&harness, "bytes-out"), 0);
}

#[test]
fn a_stream_continues_after_a_flush() {
    let mut harness = harness("pre-roll=100000000 post-roll=0 keepalive-interval=0", RAW);
    feed(&mut harness, 50, "NNN");
    harness.push_event(gst::event::FlushStart::new());
    harness.push_event(gst::event::FlushStop::new(true));
    harness.push_event(gst::event::Segment::new(
        &gst::FormattedSegment::<gst::ClockTime>::new(),
    ));
    feed(&mut harness, 0, "NNNANN");
    harness.push_event(gst::event::Eos::new());
    assert_eq!(passed(&mut harness), [2, 3]);
}

#[test]
fn a_jump_back_in_time_starts_over() {
    let mut harness = harness("pre-roll=100000000 post-roll=0 keepalive-interval=0", RAW);
    feed(&mut harness, 100, "NNNAN");
    feed(&mut harness, 0, "NNNAN");
    harness.push_event(gst::event::Eos::new());
    assert_eq!(passed(&mut harness), [102, 103, 2, 3]);
}

#[test]
fn new_caps_keep_their_position_between_frames() {
    let mut harness = harness("pre-roll=1000000000 post-roll=0 keepalive-interval=0", RAW);
    feed(&mut harness, 0, "N");
    let wider = RAW
        .replace("width=16", "width=32")
        .parse::<gst::Caps>()
        .expect("caps");
    harness.push_event(gst::event::Caps::new(&wider));
    let pad = harness
        .element()
        .and_then(|element| element.static_pad("src"))
        .expect("a source pad");
    let order = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let list = std::sync::Arc::clone(&order);
    let mask = gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM;
    pad.add_probe(mask, move |_, info| {
        match &info.data {
            Some(gst::PadProbeData::Buffer(buffer)) => {
                list.lock().unwrap().push(format!("{}", number(buffer)))
            }
            Some(gst::PadProbeData::Event(event)) if event.type_() == gst::EventType::Caps => {
                list.lock().unwrap().push("caps".into());
            }
            _ => {}
        }
        gst::PadProbeReturn::Ok
    });
    feed(&mut harness, 1, "A");
    assert_eq!(*order.lock().unwrap(), ["0", "caps", "1"]);
}

#[test]
fn the_latency_is_the_longest_hold() {
    let mut harness = harness("pre-roll=2000000000 keepalive-interval=0", H264);
    let latency = |harness: &gst_check::Harness| {
        let pad = harness
            .element()
            .and_then(|element| element.static_pad("src"))
            .expect("a source pad");
        let mut query = gst::query::Latency::new();
        assert!(pad.query(&mut query));
        query.result().1
    };
    assert_eq!(latency(&harness), 2000 * MS);
    // One group of 4 s: its first frame waits until the next group is old enough.
    feed(
        &mut harness,
        0,
        &format!("N{}N{}", "n".repeat(39), "n".repeat(39)),
    );
    assert!(
        latency(&harness) >= 4000 * MS && latency(&harness) <= 6500 * MS,
        "{}",
        latency(&harness)
    );
    harness
        .element()
        .expect("an element")
        .set_property_from_str("retain", "all");
    assert_eq!(latency(&harness), gst::ClockTime::ZERO);

    let gate = harness.element().expect("an element");
    let hold = || {
        let stats: gst::Structure = gate.property("stats");
        stats
            .get::<gst::ClockTime>("longest-hold")
            .expect("that statistic")
    };
    assert!(hold() >= 4000 * MS);
    for state in [gst::State::Null, gst::State::Paused] {
        gate.set_state(state).expect("it restarts");
    }
    assert_eq!(hold(), gst::ClockTime::ZERO, "a restart forgets it");
    gate.set_state(gst::State::Null).expect("it stops");
}

/// A camera with a key frame every 30 s would delay every sink of the pipeline by that.
#[test]
fn the_latency_is_bounded_and_a_warning_is_posted() {
    let mut harness = harness("pre-roll=2000000000 keepalive-interval=0", H264);
    let bus = gst::Bus::new();
    harness.element().expect("an element").set_bus(Some(&bus));
    feed(&mut harness, 0, &format!("N{}", "n".repeat(299)).repeat(2));
    let pad = harness
        .element()
        .and_then(|element| element.static_pad("src"))
        .expect("a source pad");
    let mut query = gst::query::Latency::new();
    assert!(pad.query(&mut query));
    assert_eq!(query.result().1, 7000 * MS);
    let warnings = std::iter::from_fn(|| bus.pop_filtered(&[gst::MessageType::Warning])).count();
    assert_eq!(warnings, 1);
}

#[test]
fn retain_can_change_while_playing() {
    let mut harness = harness("pre-roll=200000000 keepalive-interval=0", H264);
    feed(&mut harness, 0, "NnnNn");
    harness
        .element()
        .expect("an element")
        .set_property_from_str("retain", "all");
    feed(&mut harness, 5, "n");
    assert_eq!(
        passed(&mut harness),
        [0, 1, 2, 3, 4, 5],
        "frames that were held pass too"
    );
}

#[test]
fn the_bound_on_bytes_shortens_the_pre_roll_with_a_warning() {
    let mut harness = harness(
        "pre-roll=10000000000 max-pre-roll-bytes=40 keepalive-interval=0",
        RAW,
    );
    let bus = gst::Bus::new();
    harness.element().expect("an element").set_bus(Some(&bus));
    feed(&mut harness, 0, "NNNNNNNNNNA");
    assert!(stat(&harness, "bytes-held") <= 40);
    assert_eq!(passed(&mut harness), [5, 6, 7, 8, 9, 10]);
    let warnings = std::iter::from_fn(|| bus.pop_filtered(&[gst::MessageType::Warning])).count();
    assert_eq!(warnings, 1, "once, not for every frame");
}

/// A buffer that shares the memory of another one and keeps it alive, as from an element that splits buffers.
fn sub_buffer(buffer: &gst::Buffer) -> gst::Buffer {
    let mut part = gst::Buffer::new();
    let fields = part.get_mut().expect("a new buffer");
    let all = gst::BufferCopyFlags::MEMORY | gst::BufferCopyFlags::TIMESTAMPS | gst::BufferCopyFlags::META;
    buffer.copy_into(fields, all, ..).expect("it can be shared");
    gst::meta::ParentBufferMeta::add(fields, buffer);
    part
}

#[test]
fn buffers_of_a_limited_pool_are_copied() {
    check_limited_pool(gst::Buffer::clone);
    check_limited_pool(sub_buffer);
}

fn check_limited_pool(pass_on: impl Fn(&gst::Buffer) -> gst::Buffer) {
    let mut harness = harness("pre-roll=2000000000 keepalive-interval=0", RAW);
    let pool = gst::BufferPool::new();
    let mut config = pool.config();
    let caps = RAW.parse::<gst::Caps>().expect("caps");
    config.set_params(Some(&caps), 256, 0, 3);
    pool.set_config(config).expect("a valid configuration");
    pool.set_active(true).expect("it starts");
    let params = gst::BufferPoolAcquireParams::with_flags(gst::BufferPoolAcquireFlags::DONTWAIT);
    for index in 0..10u64 {
        let mut buffer = pool.acquire_buffer(Some(&params)).expect("a free buffer");
        let fields = buffer.get_mut().expect("a free buffer is writable");
        fields
            .copy_from_slice(0, &index.to_le_bytes())
            .expect("it is large enough");
        fields.set_pts(100 * index * MS);
        fields.set_duration(100 * MS);
        let label = if index == 9 {
            Label::Anomaly(1)
        } else {
            Label::Normal
        };
        label.attach(fields);
        let passed_on = pass_on(&buffer);
        drop(buffer);
        harness.push(passed_on).expect("the frame is accepted");
    }
    assert_eq!(passed(&mut harness), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    assert_eq!(stat(&harness, "frames-copied"), 9);
    pool.set_active(false).expect("it stops");
}

#[test]
fn buffers_without_a_pool_are_held_by_reference() {
    let mut harness = harness("pre-roll=2000000000", RAW);
    feed(&mut harness, 0, "NNNN");
    assert_eq!(stat(&harness, "frames-copied"), 0);
}

#[test]
fn defaults_read_back_and_every_property_can_be_set() {
    init();
    let gate = gst::ElementFactory::make("vaeanomalygate")
        .build()
        .expect("the element");
    let changes = [
        ("pre-roll", "5000000000", "7"),
        ("post-roll", "2000000000", "7"),
        ("max-pre-roll-bytes", "67108864", "7"),
        ("keepalive-interval", "1000000000", "7"),
        ("gap-events", "true", "false"),
        ("retain", "event", "all"),
        ("follow", "NULL", "eye"),
    ];
    let text = |name: &str| {
        let value = gate.property_value(name);
        let known = value
            .get::<Option<String>>()
            .map(|text| text.unwrap_or_else(|| "NULL".into()));
        known.unwrap_or_else(|_| value.serialize().expect("a plain value").to_string())
    };
    for (name, default, other) in changes {
        assert_eq!(text(name), default, "{name}");
        gate.set_property_from_str(name, other);
        assert_eq!(text(name), other, "{name}");
    }
}

#[test]
fn audio_and_streams_in_other_formats_are_rejected() {
    init();
    for (description, reason) in [
        (
            "audiotestsrc num-buffers=3 ! vaeanomalygate ! fakesink",
            "Only video is supported, got audio/x-raw",
        ),
        (
            "fakesrc num-buffers=3 format=bytes ! vaeanomalygate ! fakesink",
            "Only TIME segments are supported, got Bytes",
        ),
    ] {
        let pipeline = gated::pipeline(description);
        pipeline.set_state(gst::State::Playing).ok();
        let error = gated::wait(&pipeline).expect_err(description);
        assert!(error.contains(reason), "{description}: {error}");
        pipeline.set_state(gst::State::Null).expect("it stops");
    }
}

/// Parsers mark every frame with an intra slice as a key frame. What follows it may need frames before it.
#[test]
fn a_clip_starts_at_an_idr_frame() {
    let mut harness = harness("pre-roll=0 post-roll=0 keepalive-interval=0", H264);
    let kinds = [0x65, 0x41, 0x61, 0x41, 0x65, 0x41, 0x61, 0x41, 0x61, 0x41];
    for (number, kind) in (0..).zip(kinds) {
        let label = if number == 7 {
            Label::Anomaly(1)
        } else {
            Label::Normal
        };
        let is_intra = kind != 0x41;
        let mut buffer = frame(number, is_intra, Some(label));
        let content = gst::Memory::from_slice([0, 0, 0, 4, kind, 0x88, number as u8, 0]);
        buffer.make_mut().replace_all_memory(content);
        harness.push(buffer).expect("the frame is accepted");
    }
    harness.push_event(gst::event::Eos::new());
    let passed = std::iter::from_fn(|| harness.try_pull());
    let numbers: Vec<_> = passed
        .map(|buffer| buffer.pts().expect("a time") / 100 / MS)
        .collect();
    assert_eq!(numbers, [4, 5, 6, 7]);
}

#[test]
fn clips_are_reported() {
    let mut harness = harness("pre-roll=100000000 post-roll=0 keepalive-interval=0", RAW);
    let bus = gst::Bus::new();
    harness.element().expect("an element").set_bus(Some(&bus));
    feed(&mut harness, 0, "NNNANNNA");
    harness.push_event(gst::event::Eos::new());
    let reported: Vec<_> = std::iter::from_fn(|| bus.pop_filtered(&[gst::MessageType::Element]))
        .filter_map(|message| {
            let fields = message.structure()?.to_owned();
            Some((
                fields.get::<String>("event").ok()?,
                fields.get::<gst::ClockTime>("running-time").ok()?.mseconds(),
            ))
        })
        .collect();
    let expected = [
        ("clip-begin", 200),
        ("clip-end", 400),
        ("clip-begin", 600),
        ("clip-end", 800),
    ];
    assert_eq!(reported, expected.map(|(name, at)| (name.to_string(), at)));
}
