//! A GPU that fails under the element; the CPU stands in for it.

use gst::prelude::*;
use gst::subclass::prelude::*;

use super::super::VaeAnomaly;
use super::super::state::StreamState;
use crate::detector::Config;
use crate::detector::online_tests::failing;

const SIZE: usize = 64 * 48;

fn frame(i: u64) -> gst::Buffer {
    let pixels: Vec<u8> = (0..SIZE).map(|n| (n as u64 * 7 + i * 31) as u8).collect();
    let mut buffer = gst::Buffer::from_slice(pixels);
    let time = gst::ClockTime::from_mseconds(100 * i);
    buffer.get_mut().expect("a new buffer").set_pts(time);
    buffer
}

#[test]
fn one_warning_is_posted_and_every_frame_is_passed_on() {
    gst::init().expect("GStreamer starts");
    let element: VaeAnomaly = gst::glib::Object::new();
    let bus = gst::Bus::new();
    let mut harness = gst_check::Harness::with_element(&element, Some("sink"), Some("src"));
    element.set_bus(Some(&bus));
    harness.set_src_caps_str("video/x-raw,format=GRAY8,width=64,height=48,framerate=10/1");
    for i in 0..10 {
        if i == 5 {
            // It fails on the second frame from here.
            let detector = failing(2, false, Config::default(), (64, 48));
            let replace = |state: &mut StreamState| {
                *state = StreamState::with_detector(detector, state.info().clone());
            };
            element.imp().state.with(replace).expect("the caps created it");
        }
        let frame = frame(i);
        let pixels = frame.map_readable().expect("memory").to_vec();
        harness.push(frame).expect("the frame is accepted");
        let out = harness.pull().expect("every frame is passed on");
        assert_eq!(
            out.map_readable().expect("memory").as_slice(),
            pixels,
            "frame {i}"
        );
    }
    let stats: gst::Structure = element.property("stats");
    assert_eq!(stats.get::<&str>("device"), Ok("cpu"));
    assert_eq!(stats.get::<u64>("frames"), Ok(10));
    assert_eq!(stats.get::<u64>("unscored"), Ok(0));
    let warnings: Vec<String> = bus
        .iter_filtered(&[gst::MessageType::Warning])
        .map(|message| match message.view() {
            gst::MessageView::Warning(warning) => warning.debug().expect("the reason").to_string(),
            other => panic!("{other:?}"),
        })
        .collect();
    let [warning] = &warnings[..] else {
        panic!("one warning, not {warnings:?}");
    };
    assert!(
        warning.ends_with("cpu failed; continuing on the CPU: injected fault"),
        "{warning}"
    );
}
