//! The metadata on every buffer: a `GstStructure` that every language can read, with a typed reader and writer.

use std::num::NonZeroU64;

use gst::glib;
use gst_video::prelude::*;

use crate::detector::{AnomalousRegion, AnomalyMap, Prediction, Region};
use crate::gstutil::{label_name, parse_label};

/// Name of the custom metadata and of its structure.
///
/// Since: 0.1
pub const META_NAME: &str = "VaeAnomalyMeta";

/// Sides of small images in pixels, at most. Larger ones are not read.
const LARGEST_SIDE: u32 = 4096;

/// A small image in the metadata, with one byte a sample.
///
/// Since: 0.1
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SmallImage {
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Row by row, without padding; the samples of a pixel one after the other.
    pub pixels: Vec<u8>,
}

impl SmallImage {
    /// Scores from 0 to 1 as 1 to 255, so that 128 is at the threshold. Cells without a score, because what they show is
    /// ignored, are 0.
    pub(crate) fn from_map(map: &AnomalyMap) -> Self {
        let grey = |&score: &f32| match score > 0.0 {
            true => 1 + (254.0 * score.min(1.0)).round() as u8,
            false => 0,
        };
        Self {
            width: map.width as u32,
            height: map.height as u32,
            pixels: map.values.iter().map(grey).collect(),
        }
    }

    fn to_sample(&self, format: gst_video::VideoFormat) -> Option<gst::Sample> {
        let info = gst_video::VideoInfo::builder(format, self.width, self.height)
            .build()
            .ok()?;
        let row = self.pixels.len().checked_div(self.height as usize)?;
        let stride = usize::try_from(info.stride()[0]).ok()?;
        let mut rows = vec![0; info.size()];
        for (padded, pixels) in rows.chunks_mut(stride).zip(self.pixels.chunks_exact(row.max(1))) {
            padded.get_mut(..row)?.copy_from_slice(pixels);
        }
        let caps = info.to_caps().ok()?;
        let buffer = gst::Buffer::from_mut_slice(rows);
        Some(gst::Sample::builder().buffer(&buffer).caps(&caps).build())
    }

    /// `None` for another format, too large an image, or a buffer that is too short.
    fn from_sample(sample: &gst::SampleRef, format: gst_video::VideoFormat) -> Option<Self> {
        let info = gst_video::VideoInfo::from_caps(sample.caps()?).ok()?;
        let (width, height) = (info.width(), info.height());
        if info.format() != format || width.min(height) == 0 || width.max(height) > LARGEST_SIDE {
            return None;
        }
        let frame = gst_video::VideoFrameRef::from_buffer_ref_readable(sample.buffer()?, &info).ok()?;
        let row = (width * info.comp_pstride(0).unsigned_abs()) as usize;
        let stride = usize::try_from(frame.plane_stride()[0])
            .ok()
            .filter(|&stride| stride >= row)?;
        let rows = frame.plane_data(0).ok()?.chunks(stride);
        let rows = rows.take(height as usize).map(|padded| padded.get(..row));
        let pixels = rows.collect::<Option<Vec<_>>>()?.concat();
        (pixels.len() == row * height as usize).then_some(Self {
            width,
            height,
            pixels,
        })
    }
}

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
    /// With `attach-map`, the score of every cell of a grid over the image, on the scale of `score`: 1 to 255, 128 at the
    /// threshold, 0 where what the cell shows is ignored. It is of this frame alone, while `score` is smoothed over time.
    pub anomaly_map: Option<SmallImage>,
    /// With `attach-reconstruction`, what the appearance model expected to see: packed RGB, stretched over the image.
    pub reconstruction: Option<SmallImage>,
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

    /// The strongest region in the pixels of an image that was scaled to this width and height after the analysis.
    ///
    /// Elements that crop, rotate or mirror report nothing of this to metadata: behind `videocrop` or `videoflip` the region
    /// is still that of the analysed image. (GStreamer 1.22 drops regions of interest at `videocrop`, and leaves them where
    /// they were at `videoflip`.) Analyse behind such elements, or apply the same change to the region.
    pub fn region_in(&self, width: u32, height: u32) -> Region {
        self.scale_region(self.prediction.region, width, height)
    }

    /// All regions of an anomalous frame, the strongest first, in the pixels of an image that was scaled to this width and
    /// height after the analysis. See [`AnomalousRegion`].
    pub fn regions_in(&self, width: u32, height: u32) -> Vec<AnomalousRegion> {
        let scaled = |region: &AnomalousRegion| AnomalousRegion {
            region: self.scale_region(region.region, width, height),
            ..*region
        };
        self.prediction.regions.iter().map(scaled).collect()
    }

    fn scale_region(&self, region: Region, width: u32, height: u32) -> Region {
        let scale = |value: u32, to: u32, from: u32| {
            let scaled = u64::from(value) * u64::from(to) / u64::from(from.max(1));
            u32::try_from(scaled).unwrap_or(u32::MAX)
        };
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
        s.set("regions", regions_array(&p.regions));
        for (name, image, format) in [
            ("anomaly-map", &self.anomaly_map, MAP_FORMAT),
            ("reconstruction", &self.reconstruction, RECONSTRUCTION_FORMAT),
        ] {
            if let Some(sample) = image.as_ref().and_then(|image| image.to_sample(format)) {
                s.set(name, sample);
            }
        }
    }

    fn from_structure(s: &gst::StructureRef) -> Option<Self> {
        let regions = s.get::<gst::ArrayRef>("regions").ok()?;
        let regions = regions.iter().map(|value| {
            let region = value.get::<gst::Structure>().ok()?;
            Some(AnomalousRegion {
                id: region.get("id").ok()?,
                region: read_region(&region)?,
                score: region.get("score").ok()?,
                cue: region.get::<&str>("cue").ok()?.parse().ok()?,
            })
        });
        let image = |name: &str, format: gst_video::VideoFormat| match s.has_field(name) {
            true => SmallImage::from_sample(s.get::<&gst::SampleRef>(name).ok()?, format).map(Some),
            false => Some(None),
        };
        Some(Self {
            anomaly_map: image("anomaly-map", MAP_FORMAT)?,
            reconstruction: image("reconstruction", RECONSTRUCTION_FORMAT)?,
            prediction: Prediction {
                frame: s.get("frame").ok()?,
                raw_score: s.get("raw-score").ok()?,
                threshold: s.get("threshold").ok()?,
                score: s.get("score").ok()?,
                label: parse_label(s.get("label").ok()?)?,
                cue: s.get::<&str>("cue").ok()?.parse().ok()?,
                region: read_region(s)?,
                regions: regions.collect::<Option<_>>()?,
                state: s.get::<&str>("state").ok()?.parse().ok()?,
            },
            event_id: NonZeroU64::new(s.get("event-id").ok()?),
            scored: s.get("scored").ok()?,
            image_size: (s.get("image-width").ok()?, s.get("image-height").ok()?),
        })
    }
}

/// Formats of the small images.
const MAP_FORMAT: gst_video::VideoFormat = gst_video::VideoFormat::Gray8;
const RECONSTRUCTION_FORMAT: gst_video::VideoFormat = gst_video::VideoFormat::Rgb;

/// The field `regions` of metadata and messages.
pub(super) fn regions_array(regions: &[AnomalousRegion]) -> gst::Array {
    gst::Array::new(regions.iter().map(|found| {
        gst::Structure::builder("region")
            .field("id", found.id)
            .field("score", found.score)
            .field("cue", found.cue.as_str())
            .field("x", found.region.x)
            .field("y", found.region.y)
            .field("width", found.region.width)
            .field("height", found.region.height)
            .build()
    }))
}

fn read_region(s: &gst::StructureRef) -> Option<Region> {
    Some(Region {
        x: s.get("x").ok()?,
        y: s.get("y").ok()?,
        width: s.get("width").ok()?,
        height: s.get("height").ok()?,
    })
}

/// Attaches the regions of an anomaly for overlays and other analysers.
pub(super) fn add_regions_of_interest(buffer: &mut gst::BufferRef, result: &FrameResult) {
    for (i, found) in result.prediction.regions.iter().enumerate() {
        let Region { x, y, width, height } = found.region;
        let mut roi = gst_video::VideoRegionOfInterestMeta::add(buffer, "anomaly", (x, y, width, height));
        // The strongest region stands for the frame, whose score is smoothed over time.
        let score = if i == 0 {
            result.prediction.score
        } else {
            found.score
        };
        roi.add_param(
            gst::Structure::builder("vaeanomaly")
                .field("score", score)
                .field("event-id", result.event_id.map_or(0, NonZeroU64::get))
                .field("region-id", found.id)
                .field("cue", found.cue.as_str())
                .build(),
        );
    }
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
                regions: vec![
                    AnomalousRegion {
                        id: 7,
                        region: Region {
                            x: 1,
                            y: 2,
                            width: 3,
                            height: 4,
                        },
                        score: 0.875,
                        cue: CueKind::Appearance,
                    },
                    AnomalousRegion {
                        id: 5,
                        region: Region {
                            x: 100,
                            y: 200,
                            width: 30,
                            height: 40,
                        },
                        score: 0.625,
                        cue: CueKind::Motion,
                    },
                ],
            },
            event_id: NonZeroU64::new(3),
            scored: true,
            image_size: (640, 480),
            // Rows of five and nine bytes are padded in a sample.
            anomaly_map: Some(SmallImage {
                width: 5,
                height: 2,
                pixels: (0..10).collect(),
            }),
            reconstruction: Some(SmallImage {
                width: 3,
                height: 2,
                pixels: (0..18).collect(),
            }),
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
    fn all_regions_scale_with_the_image() {
        let scaled = result().regions_in(320, 120);
        let boxes: Vec<_> = scaled
            .iter()
            .map(|found| (found.id, found.region.x, found.region.y))
            .collect();
        assert_eq!(boxes, [(7, 0, 0), (5, 50, 50)]);
        assert_eq!(result().regions_in(640, 480), result().prediction.regions);
    }

    #[test]
    fn a_map_keeps_its_scale_and_what_has_no_score() {
        let map = AnomalyMap {
            width: 5,
            height: 1,
            values: vec![0.0, 1e-6, 0.5, 1.0, f32::NAN],
        };
        assert_eq!(SmallImage::from_map(&map).pixels, [0, 1, 128, 255, 0]);
    }

    #[test]
    fn samples_that_are_no_such_image_are_no_result() {
        gst::init().unwrap();
        let complete = structure(&result());
        let buffer = gst::Buffer::from_slice([0; 16]);
        let sample = |format: &str, width: i32| {
            let caps = gst::Caps::builder("video/x-raw")
                .field("format", format)
                .field("width", width)
                .field("height", 2)
                .field("framerate", gst::Fraction::new(0, 1))
                .build();
            gst::Sample::builder().buffer(&buffer).caps(&caps).build()
        };
        let with = |sample: gst::Sample| {
            let mut other = complete.clone();
            other.set("anomaly-map", sample);
            FrameResult::from_structure(&other)
        };
        assert!(with(sample("GRAY8", 8)).is_some());
        assert_eq!(with(sample("RGB", 2)), None, "another format");
        assert_eq!(with(sample("GRAY8", 20)), None, "the buffer is too short");
        assert_eq!(with(sample("GRAY8", 30_000)), None, "too large");
        assert_eq!(with(gst::Sample::builder().build()), None, "empty");
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
            if matches!(name.as_str(), "anomaly-map" | "reconstruction") {
                assert!(
                    FrameResult::from_structure(&incomplete).is_some(),
                    "{name} is optional"
                );
                continue;
            }
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
