//! A GPU that fails under the element, with the CPU in its place.

use gst::prelude::*;
use gst::subclass::prelude::*;

use super::super::{VaeAnomaly, lock};
use super::Session;
use crate::detector::Config;
use crate::detector::online_tests::failing;

const SIZE: usize = 64 * 48;

fn frame(i: u64) -> gst::Buffer {
    let pixels: Vec<u8> = (0..SIZE).map(|n| (n as u64 * 7 + i * 31) as u8).collect();
    let mut buffer = gst::Buffer::from_slice(pixels);
    let time = gst::ClockTime::from_mseconds(100 * i);
    buffer.get_mut().expect("nobody else has it").set_pts(time);
    buffer
}

#[test]
fn the_application_is_warned_once_and_every_frame_goes_on() {
    gst::init().expect("GStreamer starts");
    let element: VaeAnomaly = gst::glib::Object::new();
    let bus = gst::Bus::new();
    let mut harness = gst_check::Harness::with_element(&element, Some("sink"), Some("src"));
    element.set_bus(Some(&bus));
    harness.set_src_caps_str("video/x-raw,format=GRAY8,width=64,height=48,framerate=10/1");
    for i in 0..10 {
        if i == 5 {
            let mut session = lock(&element.imp().session);
            let session = session.as_mut().expect("caps made it");
            // It fails on the second frame from here.
            let detector = failing(2, false, Config::default(), (64, 48));
            *session = Session::with_detector(detector, session.info().clone());
        }
        let frame = frame(i);
        let pixels = frame.map_readable().expect("memory").to_vec();
        harness.push(frame).expect("it flows");
        let out = harness.pull().expect("every frame goes on");
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
            gst::MessageView::Warning(warning) => warning.debug().expect("it says why").to_string(),
            other => panic!("{other:?}"),
        })
        .collect();
    let [warning] = &warnings[..] else {
        panic!("one warning, not {warnings:?}");
    };
    assert!(
        warning.ends_with("cpu failed, the model has moved to the CPU and goes on: injected fault"),
        "{warning}"
    );
}
