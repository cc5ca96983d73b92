//! The metadata on every buffer: a plain `GstStructure` for every language, and a typed reader and writer.

use std::num::NonZeroU64;

use gst::glib;

use super::State;
use crate::detector::{CueKind, Label, Region};

/// Name of the custom metadata and of its structure.
pub const META_NAME: &str = "VaeAnomalyMeta";

/// What the element found on a frame.
///
/// ```
/// # gst::init().unwrap();
/// # gstvaeanomaly::plugin_register_static().unwrap();
/// use gstvaeanomaly::FrameResult;
/// # let buffer = gst::Buffer::new();
/// if let Some(found) = FrameResult::read(&buffer) {
///     println!("{:.2} {:?}", found.score, found.label);
/// }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct FrameResult {
    /// 0..1, 0.5 at the threshold; comparable between cameras and over time.
    pub score: f64,
    /// Fused, calibrated score in deviations from the camera's own history.
    pub raw_score: f64,
    /// Threshold on the raw score.
    pub threshold: f64,
    /// `None` (in the metadata `unknown`) while no label can be trusted.
    pub label: Option<Label>,
    /// The cue that decided.
    pub cue: CueKind,
    /// Where the element is in its life.
    pub state: State,
    /// The event that the frame belongs to (in the metadata 0 = none).
    pub event_id: Option<NonZeroU64>,
    /// Number of the frame, from 0.
    pub frame: u64,
    /// The strongest place, in the picture's pixels.
    pub region: Region,
    /// False where the frame came too late to be looked at and carries the result of the frame before.
    pub scored: bool,
}

/// The label's name in metadata and messages.
pub(super) fn label_name(label: Option<Label>) -> &'static str {
    match label {
        Some(Label::Normal) => "normal",
        Some(Label::Anomaly) => "anomaly",
        None => "unknown",
    }
}

/// The state's nick, as in metadata, messages and gst-launch-1.0.
pub(super) fn state_name(state: State) -> &'static str {
    match state {
        State::WarmingUp => "warming-up",
        State::Calibrating => "calibrating",
        State::Detecting => "detecting",
        State::Adapting => "adapting",
        State::Frozen => "frozen",
    }
}

/// Makes the metadata known to GStreamer; may be called more than once.
pub(crate) fn register() {
    if !gst::meta::CustomMeta::is_registered(META_NAME) {
        gst::meta::CustomMeta::register(META_NAME, &[]);
    }
}

impl FrameResult {
    /// Reads a buffer's metadata; `None` where there is none, or it is incomplete.
    pub fn read(buffer: &gst::BufferRef) -> Option<Self> {
        let meta = gst::meta::CustomMeta::from_buffer(buffer, META_NAME).ok()?;
        Self::from_structure(meta.structure())
    }

    /// Attaches the result to a buffer, in place of an older one.
    ///
    /// # Errors
    /// The metadata is not registered: the plugin was not loaded.
    pub fn write(&self, buffer: &mut gst::BufferRef) -> Result<(), glib::BoolError> {
        if let Ok(old) = gst::meta::CustomMeta::from_mut_buffer(buffer, META_NAME) {
            old.remove()?;
        }
        let mut meta = gst::meta::CustomMeta::add(buffer, META_NAME)?;
        self.fill(meta.mut_structure());
        Ok(())
    }

    fn fill(&self, s: &mut gst::StructureRef) {
        s.set("score", self.score);
        s.set("raw-score", self.raw_score);
        s.set("threshold", self.threshold);
        s.set("label", label_name(self.label));
        s.set("cue", self.cue.as_str());
        s.set("state", state_name(self.state));
        s.set("event-id", self.event_id.map_or(0, NonZeroU64::get));
        s.set("frame", self.frame);
        s.set("x", self.region.x);
        s.set("y", self.region.y);
        s.set("width", self.region.width);
        s.set("height", self.region.height);
        s.set("scored", self.scored);
    }

    fn from_structure(s: &gst::StructureRef) -> Option<Self> {
        Some(Self {
            score: s.get("score").ok()?,
            raw_score: s.get("raw-score").ok()?,
            threshold: s.get("threshold").ok()?,
            label: match s.get::<&str>("label").ok()? {
                "normal" => Some(Label::Normal),
                "anomaly" => Some(Label::Anomaly),
                _ => None,
            },
            cue: match s.get::<&str>("cue").ok()? {
                "appearance" => CueKind::Appearance,
                _ => CueKind::Motion,
            },
            state: match s.get::<&str>("state").ok()? {
                "calibrating" => State::Calibrating,
                "detecting" => State::Detecting,
                "adapting" => State::Adapting,
                "frozen" => State::Frozen,
                _ => State::WarmingUp,
            },
            event_id: NonZeroU64::new(s.get("event-id").ok()?),
            frame: s.get("frame").ok()?,
            region: Region {
                x: s.get("x").ok()?,
                y: s.get("y").ok()?,
                width: s.get("width").ok()?,
                height: s.get("height").ok()?,
            },
            scored: s.get("scored").unwrap_or(true),
        })
    }
}

/// Marks the place for overlays and other analysers.
pub(super) fn add_region_of_interest(buffer: &mut gst::BufferRef, result: &FrameResult) {
    let Region { x, y, width, height } = result.region;
    let mut roi = gst_video::VideoRegionOfInterestMeta::add(buffer, "anomaly", (x, y, width, height));
    roi.add_param(
        gst::Structure::builder("vaeanomaly")
            .field("score", result.score)
            .field("event-id", result.event_id.map_or(0, NonZeroU64::get))
            .build(),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result() -> FrameResult {
        FrameResult {
            score: 0.75,
            raw_score: 2.85,
            threshold: 1.75,
            label: Some(Label::Anomaly),
            cue: CueKind::Appearance,
            state: State::Detecting,
            event_id: NonZeroU64::new(3),
            frame: 1234,
            region: Region {
                x: 1,
                y: 2,
                width: 3,
                height: 4,
            },
            scored: true,
        }
    }

    #[test]
    fn reads_what_it_wrote_and_replaces_it() {
        gst::init().unwrap();
        register();
        register();
        let mut buffer = gst::Buffer::new();
        assert_eq!(FrameResult::read(&buffer), None);
        let buffer_mut = buffer.get_mut().unwrap();
        FrameResult {
            label: None,
            event_id: None,
            ..result()
        }
        .write(buffer_mut)
        .unwrap();
        result().write(buffer_mut).unwrap();
        assert_eq!(FrameResult::read(&buffer), Some(result()));
        assert_eq!(buffer.iter_meta::<gst::Meta>().count(), 1);
    }

    #[test]
    fn an_incomplete_structure_is_no_result() {
        gst::init().unwrap();
        let s = gst::Structure::builder(META_NAME).field("score", 0.5).build();
        assert_eq!(FrameResult::from_structure(&s), None);
    }
}
