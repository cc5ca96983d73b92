//! The element in a harness that records all output in order.

use std::str::FromStr;
use std::sync::{Arc, Mutex, Once};

use gst::prelude::*;
use gstvaeanomaly::FrameResult;

use super::synthetic::{SIZE, Scene};

/// Initialises GStreamer with the plugin; may be called from every test.
pub fn init() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        gst::init().unwrap();
        gstvaeanomaly::plugin_register_static().unwrap();
    });
}

/// Settings with which the element soon drops frames: one cue, a short warm-up, a high threshold.
pub const DROPPING: [(&str, &str); 6] = [
    ("cues", "motion"),
    ("warm-up", "80"),
    ("threshold", "4"),
    ("seed", "7"),
    ("post-messages", "all"),
    ("drop-normal", "true"),
];

/// A new element with these properties, as gst-launch-1.0 takes them.
pub fn element(properties: &[(&str, &str)]) -> gst::Element {
    init();
    let element = gst::ElementFactory::make("vaeanomaly").build().unwrap();
    for (name, value) in properties {
        element.set_property_from_str(name, value);
    }
    element
}

/// An output of the element.
#[derive(Clone, Debug)]
pub enum Item {
    Buffer(gst::Buffer),
    Event(gst::Event),
}

/// The element between the test as its source and a recorder.
pub struct Rig {
    pub harness: gst_check::Harness,
    pub element: gst::Element,
    pub bus: gst::Bus,
    items: Arc<Mutex<Vec<Item>>>,
}

impl Rig {
    pub fn new(properties: &[(&str, &str)]) -> Self {
        let element = element(properties);
        let bus = gst::Bus::new();
        element.set_bus(Some(&bus));
        let items = Arc::new(Mutex::new(Vec::new()));
        let record = Arc::clone(&items);
        let src = element.static_pad("src").unwrap();
        let kinds =
            gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM | gst::PadProbeType::EVENT_FLUSH;
        src.add_probe(kinds, move |_, info| {
            let item = match &info.data {
                Some(gst::PadProbeData::Buffer(buffer)) => Item::Buffer(buffer.clone()),
                Some(gst::PadProbeData::Event(event)) => Item::Event(event.clone()),
                _ => return gst::PadProbeReturn::Ok,
            };
            record.lock().unwrap().push(item);
            gst::PadProbeReturn::Ok
        });
        let mut harness = gst_check::Harness::with_element(&element, Some("sink"), Some("src"));
        harness.set_drop_buffers(true);
        Self {
            harness,
            element,
            bus,
            items,
        }
    }

    /// As [`Rig::new`], negotiated to grey video of the synthetic scene's size.
    pub fn grey(properties: &[(&str, &str)], fps: u32) -> Self {
        let mut rig = Self::new(properties);
        rig.harness.set_src_caps(grey_caps(fps));
        rig
    }

    /// Pushes one frame; panics if it is not accepted.
    pub fn push(&mut self, buffer: gst::Buffer) {
        assert_eq!(self.harness.push(buffer), Ok(gst::FlowSuccess::Ok));
    }

    /// Pushes the frames of a scene with these numbers.
    pub fn push_scene(&mut self, scene: &Scene, fps: u32, frames: std::ops::Range<u64>) {
        for i in frames {
            self.push(grey_frame(scene, fps, i));
        }
    }

    /// All output since the last call, in order.
    pub fn take_items(&self) -> Vec<Item> {
        std::mem::take(&mut self.items.lock().unwrap())
    }

    /// The buffers that were output since the last call.
    pub fn take_buffers(&self) -> Vec<gst::Buffer> {
        let buffers = self.take_items().into_iter().filter_map(|item| match item {
            Item::Buffer(buffer) => Some(buffer),
            Item::Event(_) => None,
        });
        buffers.collect()
    }

    /// The metadata of the buffers that were output since the last call.
    pub fn take_results(&self) -> Vec<FrameResult> {
        let read = |buffer: &gst::Buffer| FrameResult::read(buffer).expect("every buffer has metadata");
        self.take_buffers().iter().map(read).collect()
    }

    /// The element messages since the last call.
    pub fn take_messages(&self) -> Vec<gst::Structure> {
        element_messages(&self.bus)
    }

    pub fn stats(&self) -> gst::Structure {
        self.element.property("stats")
    }
}

impl Drop for Rig {
    /// The bus would keep its messages' source alive.
    fn drop(&mut self) {
        self.bus.set_flushing(true);
    }
}

/// The structures of the element messages on a bus.
pub fn element_messages(bus: &gst::Bus) -> Vec<gst::Structure> {
    std::iter::from_fn(|| bus.pop_filtered(&[gst::MessageType::Element]))
        .filter_map(|message| message.structure().map(|s| s.to_owned()))
        .collect()
}

/// The messages of one kind.
pub fn of_kind<'a>(messages: &'a [gst::Structure], event: &str) -> Vec<&'a gst::Structure> {
    let is_kind = |s: &&gst::Structure| s.get::<&str>("event") == Ok(event);
    messages.iter().filter(is_kind).collect()
}

/// Caps of the synthetic scene.
pub fn grey_caps(fps: u32) -> gst::Caps {
    let (width, height) = SIZE;
    gst::Caps::from_str(&format!(
        "video/x-raw,format=GRAY8,width={width},height={height},framerate={fps}/1"
    ))
    .unwrap()
}

/// Frame `i` of the scene with its timestamps.
pub fn grey_frame(scene: &Scene, fps: u32, i: u64) -> gst::Buffer {
    let start = frame_time(fps, i);
    let mut buffer = gst::Buffer::from_mut_slice(scene.image(start.nseconds() as f64 / 1e9));
    let buffer_mut = buffer.get_mut().unwrap();
    buffer_mut.set_pts(start);
    buffer_mut.set_duration(frame_time(fps, i + 1) - start);
    buffer
}

/// Timestamp of frame `i`.
pub fn frame_time(fps: u32, i: u64) -> gst::ClockTime {
    gst::ClockTime::SECOND.mul_div_floor(i, u64::from(fps)).unwrap()
}

/// Plays a pipeline to the end of the stream, with the scene's frames as input of its `appsrc name=source`, and returns it
/// stopped.
pub fn play(description: &str, scene: &Scene, fps: u32, frames: std::ops::Range<u64>) -> gst::Pipeline {
    play_watched(description, scene, fps, frames, |_| {})
}

/// As [`play`]; calls `look` before the pipeline starts.
pub fn play_watched(
    description: &str,
    scene: &Scene,
    fps: u32,
    frames: std::ops::Range<u64>,
    look: impl FnOnce(&gst::Pipeline),
) -> gst::Pipeline {
    init();
    let pipeline = gst::parse::launch(description).unwrap();
    let pipeline = pipeline.downcast::<gst::Pipeline>().unwrap();
    let source = pipeline.by_name("source").unwrap();
    let source = source.downcast::<gst_app::AppSrc>().unwrap();
    source.set_format(gst::Format::Time);
    source.set_caps(Some(&grey_caps(fps)));
    source.set_max_bytes(0);
    for i in frames {
        source.push_buffer(grey_frame(scene, fps, i)).unwrap();
    }
    source.end_of_stream().unwrap();
    look(&pipeline);
    run_to_end(&pipeline);
    pipeline
}

/// Plays a pipeline to the end of the stream and stops it.
pub fn run_to_end(pipeline: &gst::Pipeline) {
    pipeline.set_state(gst::State::Playing).unwrap();
    let wanted = [gst::MessageType::Eos, gst::MessageType::Error];
    let bus = pipeline.bus().unwrap();
    let message = bus.timed_pop_filtered(gst::ClockTime::NONE, &wanted).unwrap();
    assert_eq!(message.type_(), gst::MessageType::Eos, "{message:?}");
    drop(message);
    pipeline.set_state(gst::State::Null).unwrap();
}
