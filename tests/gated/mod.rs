//! What the tests of the gate share: labelled frames without a detector, and watching pads.
#![allow(dead_code, reason = "every test program uses a part of this")]

pub mod harness;

use std::sync::{Arc, Mutex, Once, mpsc};

use gst::glib::object::IsA;
use gst::prelude::*;

pub const META: &str = "VaeAnomalyMeta";

/// Initialises GStreamer with the plugin.
pub fn init() {
    static INIT: Once = Once::new();
    INIT.call_once(|| {
        gst::init().expect("GStreamer starts");
        gstvaeanomaly::plugin_register_static().expect("the plugin registers");
    });
}

/// The label of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Label {
    Unknown,
    Normal,
    /// In the event with this id; 0 = none yet.
    Anomaly(u64),
    /// Normal, but inside the open event with this id.
    Inside(u64),
}

impl Label {
    /// The metadata as `vaeanomaly` writes it.
    pub fn attach(self, buffer: &mut gst::BufferRef) {
        let (label, event) = match self {
            Label::Unknown => ("unknown", 0),
            Label::Normal => ("normal", 0),
            Label::Anomaly(event) => ("anomaly", event),
            Label::Inside(event) => ("normal", event),
        };
        let mut meta = gst::meta::CustomMeta::add(buffer, META).expect("the metadata is registered");
        meta.mut_structure().set("label", label);
        meta.mut_structure().set("event-id", event);
    }
}

/// Attaches labels to the output frames of the element `name`, by frame number.
pub fn label_frames(
    pipeline: &impl IsA<gst::Bin>,
    name: &str,
    label: impl Fn(u64) -> Label + Send + Sync + 'static,
) {
    let pad = pipeline
        .by_name(name)
        .and_then(|element| element.static_pad("src"))
        .expect("a source pad");
    let frame = std::sync::atomic::AtomicU64::new(0);
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        let number = frame.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        if let Some(gst::PadProbeData::Buffer(buffer)) = &mut info.data {
            label(number).attach(buffer.make_mut());
        }
        gst::PadProbeReturn::Ok
    });
}

/// Parses a pipeline.
pub fn pipeline(description: &str) -> gst::Pipeline {
    init();
    let element = gst::parse::launch(description).unwrap_or_else(|error| panic!("{description}: {error}"));
    element.downcast().expect("a pipeline")
}

/// Plays to the end of the stream; any error fails the test.
pub fn play(pipeline: &gst::Pipeline) {
    pipeline.set_state(gst::State::Playing).expect("it starts");
    let result = wait(pipeline);
    pipeline.set_state(gst::State::Null).expect("it stops");
    result.unwrap();
}

/// Receives one item when the end of the stream arrives at the sink `name`.
pub fn watch_end(pipeline: &gst::Pipeline, name: &str) -> mpsc::Receiver<()> {
    let (send, ended) = mpsc::channel();
    let pad = pipeline.by_name(name).and_then(|sink| sink.static_pad("sink"));
    pad.expect("a sink pad")
        .add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
            if info
                .event()
                .is_some_and(|event| event.type_() == gst::EventType::Eos)
            {
                // The receiver is gone where the test has ended already.
                let _ = send.send(());
            }
            gst::PadProbeReturn::Ok
        });
    ended
}

/// Waits for the end of the stream or an error.
pub fn wait(pipeline: &gst::Pipeline) -> Result<(), String> {
    let bus = pipeline.bus().expect("a pipeline has a bus");
    let ends = [gst::MessageType::Eos, gst::MessageType::Error];
    let message = bus.timed_pop_filtered(gst::ClockTime::from_seconds(60), &ends);
    match message.as_ref().map(|message| message.view()) {
        Some(gst::MessageView::Eos(_)) => Ok(()),
        Some(gst::MessageView::Error(error)) => Err(format!(
            "{}: {} {:?}",
            error.src().map(|src| src.path_string()).unwrap_or_default(),
            error.error(),
            error.debug()
        )),
        _ => Err("no end within a minute".into()),
    }
}

/// One frame that passed a pad.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub pts: Option<u64>,
    pub key: bool,
    pub discont: bool,
    pub bytes: Vec<u8>,
}

/// Records the frames that pass a pad.
pub fn watch_into(pad: &gst::Pad, list: &Arc<Mutex<Vec<Seen>>>) {
    let list = Arc::clone(list);
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        if let Some(gst::PadProbeData::Buffer(buffer)) = &info.data {
            list.lock().unwrap().push(Seen {
                pts: buffer.pts().map(gst::ClockTime::mseconds),
                key: !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT),
                discont: buffer.flags().contains(gst::BufferFlags::DISCONT),
                bytes: buffer.map_readable().expect("readable").to_vec(),
            });
        }
        gst::PadProbeReturn::Ok
    });
}

/// Records the frames that pass the pad `pad` of the element `name`.
pub fn watch_pad(pipeline: &gst::Pipeline, name: &str, pad: &str) -> Arc<Mutex<Vec<Seen>>> {
    let seen = Arc::default();
    let pad = pipeline.by_name(name).and_then(|element| element.static_pad(pad));
    watch_into(&pad.expect("that pad"), &seen);
    seen
}
