//! The metadata on every buffer: a `GstStructure` that every language can read, with a typed reader and writer.

use std::num::NonZeroU64;

use gst::glib;

use crate::detector::{Prediction, Region};
use crate::gstutil::{label_name, parse_label};

/// Name of the custom metadata and of its structure.
///
/// Since: 0.1
pub const META_NAME: &str = "VaeAnomalyMeta";

/// The result for one frame, as in its metadata.
///
/// ```
/// # gst::init().unwrap();
/// # gstvaeanomaly::plugin_register_static().unwrap();
/// use gstvaeanomaly::FrameResult;
/// # let buffer = gst::Buffer::new();
/// if let Some(result) = FrameResult::read(&buffer) {
///     println!("{:.2} {:?}", result.prediction.score, result.prediction.label);
/// }
/// ```
///
/// Since: 0.1
#[derive(Clone, Debug, PartialEq)]
pub struct FrameResult {
    /// Score, label, location and state.
    pub prediction: Prediction,
    /// The event that the frame belongs to (in the metadata 0 = none).
    pub event_id: Option<NonZeroU64>,
    /// `false` if the frame came too late to be scored and carries the prediction of the previous frame.
    pub scored: bool,
    /// Width and height in pixels of the image that the region refers to. Elements downstream may have scaled it since.
    pub image_size: (u32, u32),
}

/// Registers the metadata with GStreamer; may be called more than once and from several threads.
pub(crate) fn register() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        // Another copy of the plugin in this process may have registered it.
        if !gst::meta::CustomMeta::is_registered(META_NAME) {
            // Without tags: elements that crop drop what has the tag `size`, and scalers only transform that.
            gst::meta::CustomMeta::register(META_NAME, &[]);
        }
    });
}

impl FrameResult {
    /// Reads a buffer's metadata. `None` if there is none, if a field is missing, or if the name of a label, cue or state
    /// is unknown.
    pub fn read(buffer: &gst::BufferRef) -> Option<Self> {
        let meta = gst::meta::CustomMeta::from_buffer(buffer, META_NAME).ok()?;
        Self::from_structure(meta.structure())
    }

    /// The region in the pixels of an image that was scaled to this width and height after the analysis.
    ///
    /// Elements that crop, rotate or mirror report nothing of this to metadata: behind `videocrop` or `videoflip` the region
    /// is still that of the analysed image. (GStreamer 1.22 drops regions of interest at `videocrop`, and leaves them where
    /// they were at `videoflip`.) Analyse behind such elements, or apply the same change to the region.
    pub fn region_in(&self, width: u32, height: u32) -> Region {
        let scale = |value: u32, to: u32, from: u32| {
            let scaled = u64::from(value) * u64::from(to) / u64::from(from.max(1));
            u32::try_from(scaled).unwrap_or(u32::MAX)
        };
        let region = self.prediction.region;
        Region {
            x: scale(region.x, width, self.image_size.0),
            y: scale(region.y, height, self.image_size.1),
            width: scale(region.width, width, self.image_size.0),
            height: scale(region.height, height, self.image_size.1),
        }
    }

    /// Attaches the result to a buffer; replaces an earlier one.
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
        let p = &self.prediction;
        s.set("score", p.score);
        s.set("raw-score", p.raw_score);
        s.set("threshold", p.threshold);
        s.set("label", label_name(p.label));
        s.set("cue", p.cue.as_str());
        s.set("state", p.state.as_str());
        s.set("event-id", self.event_id.map_or(0, NonZeroU64::get));
        s.set("frame", p.frame);
        s.set("x", p.region.x);
        s.set("y", p.region.y);
        s.set("width", p.region.width);
        s.set("height", p.region.height);
        s.set("scored", self.scored);
        s.set("image-width", self.image_size.0);
        s.set("image-height", self.image_size.1);
    }

    fn from_structure(s: &gst::StructureRef) -> Option<Self> {
        Some(Self {
            prediction: Prediction {
                frame: s.get("frame").ok()?,
                raw_score: s.get("raw-score").ok()?,
                threshold: s.get("threshold").ok()?,
                score: s.get("score").ok()?,
                label: parse_label(s.get("label").ok()?)?,
                cue: s.get::<&str>("cue").ok()?.parse().ok()?,
                region: Region {
                    x: s.get("x").ok()?,
                    y: s.get("y").ok()?,
                    width: s.get("width").ok()?,
                    height: s.get("height").ok()?,
                },
                state: s.get::<&str>("state").ok()?.parse().ok()?,
            },
            event_id: NonZeroU64::new(s.get("event-id").ok()?),
            scored: s.get("scored").ok()?,
            image_size: (s.get("image-width").ok()?, s.get("image-height").ok()?),
        })
    }
}

/// Attaches the location of an anomaly for overlays and other analysers.
pub(super) fn add_region_of_interest(buffer: &mut gst::BufferRef, result: &FrameResult) {
    let Region { x, y, width, height } = result.prediction.region;
    let mut roi = gst_video::VideoRegionOfInterestMeta::add(buffer, "anomaly", (x, y, width, height));
    roi.add_param(
        gst::Structure::builder("vaeanomaly")
            .field("score", result.prediction.score)
            .field("event-id", result.event_id.map_or(0, NonZeroU64::get))
            .build(),
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detector::{CueKind, Label, State};

    fn result() -> FrameResult {
        FrameResult {
            prediction: Prediction {
                score: 0.75,
                raw_score: 2.85,
                threshold: 1.75,
                label: Some(Label::Anomaly),
                cue: CueKind::Appearance,
                state: State::Detecting,
                frame: 1234,
                region: Region {
                    x: 1,
                    y: 2,
                    width: 3,
                    height: 4,
                },
            },
            event_id: NonZeroU64::new(3),
            scored: true,
            image_size: (640, 480),
        }
    }

    #[test]
    fn the_region_scales_with_the_image() {
        let mut result = result();
        result.prediction.region = Region {
            x: 320,
            y: 240,
            width: 64,
            height: 48,
        };
        let scaled = result.region_in(320, 120);
        assert_eq!(
            (scaled.x, scaled.y, scaled.width, scaled.height),
            (160, 60, 32, 12)
        );
        assert_eq!(result.region_in(640, 480), result.prediction.region);
    }

    fn structure(result: &FrameResult) -> gst::Structure {
        let mut s = gst::Structure::new_empty(META_NAME);
        result.fill(&mut s);
        s
    }

    #[test]
    fn a_written_result_is_read_back_and_replaced() {
        gst::init().unwrap();
        register();
        register();
        let mut buffer = gst::Buffer::new();
        assert_eq!(FrameResult::read(&buffer), None);
        let buffer_mut = buffer.get_mut().unwrap();
        let mut first = result();
        first.prediction.label = None;
        first.event_id = None;
        first.write(buffer_mut).unwrap();
        assert_eq!(FrameResult::read(buffer_mut), Some(first));
        result().write(buffer_mut).unwrap();
        assert_eq!(FrameResult::read(&buffer), Some(result()));
        assert_eq!(buffer.iter_meta::<gst::Meta>().count(), 1);
    }

    #[test]
    fn every_name_round_trips() {
        gst::init().unwrap();
        for state in State::ALL {
            for cue in CueKind::ALL {
                for label in Label::ALL.iter().copied().map(Some).chain([None]) {
                    let mut result = result();
                    result.prediction.state = *state;
                    result.prediction.cue = *cue;
                    result.prediction.label = label;
                    assert_eq!(FrameResult::from_structure(&structure(&result)), Some(result));
                }
            }
        }
    }

    #[test]
    fn a_missing_field_or_an_unknown_name_is_no_result() {
        gst::init().unwrap();
        let complete = structure(&result());
        assert!(FrameResult::from_structure(&complete).is_some());
        for name in complete.fields() {
            let mut incomplete = complete.clone();
            incomplete.remove_field(name);
            assert_eq!(FrameResult::from_structure(&incomplete), None, "without {name}");
        }
        for (name, value) in [
            ("label", "abnormal"),
            ("cue", "sound"),
            ("state", "Detecting"),
            ("state", ""),
        ] {
            let mut unknown = complete.clone();
            unknown.set(name, value);
            assert_eq!(FrameResult::from_structure(&unknown), None, "{name}={value}");
        }
    }
}
