//! `GstAnalyticsRelationMeta`, the metadata that GStreamer's own analysers and overlays read and write.
//!
//! A frame with a label has a classification, an object detection for each region, and a tracking for each of these. Elements
//! such as `objectdetectionoverlay` and `ioutracker` expect an object detection to relate to its tracking, and to a
//! classification only if that is of the object alone: the detections are parts of what the frame's classification contains.

use std::collections::VecDeque;
use std::sync::LazyLock;

use gst::glib;
use gst_analytics::prelude::*;
use gst_analytics::{AnalyticsRelationMeta, AnalyticsTrackingMtd, RelTypes};

use super::meta::FrameResult;
use crate::detector::{AnomalousRegion, Region};

/// Tracks that are remembered. Regions are eight at most in a frame, and have another id after a second.
const TRACKS: usize = 256;

static NORMAL: LazyLock<glib::Quark> = LazyLock::new(|| glib::Quark::from_str("normal"));
static ANOMALY: LazyLock<glib::Quark> = LazyLock::new(|| glib::Quark::from_str("anomaly"));

/// When a region was seen, in running time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Track {
    id: u64,
    first_seen: gst::ClockTime,
    last_seen: gst::ClockTime,
}

/// The tracks of the last regions.
#[derive(Clone, Debug, Default)]
pub(super) struct Tracks(VecDeque<Track>);

impl Tracks {
    /// The tracks of the regions of a frame at a running time, in their order. In a frame that was not scored the regions are
    /// those of the previous one, and were not seen again.
    pub(super) fn follow(
        &mut self,
        regions: &[AnomalousRegion],
        now: gst::ClockTime,
        scored: bool,
    ) -> Vec<Track> {
        let follow = |region: &AnomalousRegion| {
            let known = self.0.iter().position(|track| track.id == region.id);
            let mut track = known.and_then(|i| self.0.remove(i)).unwrap_or(Track {
                id: region.id,
                first_seen: now,
                last_seen: now,
            });
            if scored {
                track.last_seen = now;
            }
            self.0.push_front(track);
            self.0.truncate(TRACKS);
            track
        };
        regions.iter().map(follow).collect()
    }
}

/// Adds a frame's label and regions to the buffer's analytics metadata. `tracks` are those of the regions. Nothing is added
/// to a frame without a label.
///
/// # Errors
/// The metadata has no room, or is not the one it was added to.
pub(super) fn attach(
    buffer: &mut gst::BufferRef,
    result: &FrameResult,
    tracks: &[Track],
) -> Result<(), glib::BoolError> {
    let prediction = &result.prediction;
    if prediction.label.is_none() {
        return Ok(());
    }
    if buffer.meta::<AnalyticsRelationMeta>().is_none() {
        AnalyticsRelationMeta::add(buffer);
    }
    let score = prediction.score as f32;
    let frame = meta(buffer)?
        .add_cls_mtd(&[score, 1.0 - score], &[*ANOMALY, *NORMAL])?
        .id();
    for (found, track) in prediction.regions.iter().zip(tracks) {
        let [x, y, width, height] = pixels(found.region);
        let mut meta = meta(buffer)?;
        let object = meta
            .add_od_mtd(*ANOMALY, x, y, width, height, found.score as f32)?
            .id();
        let tracking = meta.add_tracking_mtd(track.id, track.first_seen)?.id();
        meta.set_relation(RelTypes::CONTAIN, frame, object)?;
        meta.set_relation(RelTypes::IS_PART_OF, object, frame)?;
        meta.set_relation(RelTypes::RELATE_TO, object, tracking)?;
        if let Some(mut tracking) = meta.mtd_mut::<AnalyticsTrackingMtd>(tracking) {
            tracking.update_last_seen(track.last_seen)?;
        }
    }
    Ok(())
}

/// The metadata that was there, of an element upstream, or that was added.
fn meta(
    buffer: &mut gst::BufferRef,
) -> Result<gst::MetaRefMut<'_, AnalyticsRelationMeta, gst::meta::Standalone>, glib::BoolError> {
    let meta = buffer.meta_mut::<AnalyticsRelationMeta>();
    meta.ok_or_else(|| glib::bool_error!("there is no analytics metadata"))
}

fn pixels(region: Region) -> [i32; 4] {
    [region.x, region.y, region.width, region.height].map(|v| i32::try_from(v).unwrap_or(i32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detector::CueKind;

    fn region(id: u64) -> AnomalousRegion {
        AnomalousRegion {
            id,
            region: Region::default(),
            score: 0.8,
            cue: CueKind::Motion,
        }
    }

    #[test]
    fn a_track_remembers_when_its_region_was_seen_first_and_last() {
        let mut tracks = Tracks::default();
        let mut times = |ids: &[u64], seconds: u64, scored: bool| -> Vec<(u64, u64)> {
            let regions: Vec<_> = ids.iter().copied().map(region).collect();
            let tracks = tracks.follow(&regions, gst::ClockTime::from_seconds(seconds), scored);
            let times = tracks
                .iter()
                .map(|track| (track.first_seen.seconds(), track.last_seen.seconds()));
            times.collect()
        };
        assert_eq!(times(&[1], 5, true), [(5, 5)]);
        assert_eq!(times(&[2, 1], 6, true), [(6, 6), (5, 6)]);
        assert_eq!(times(&[1], 7, false), [(5, 6)], "it was not seen again");
        assert_eq!(times(&[1, 2], 8, true), [(5, 8), (6, 8)]);
        for other in 10..10 + TRACKS as u64 {
            times(&[other], 9, true);
        }
        assert_eq!(times(&[1], 10, true), [(10, 10)], "only the last tracks are kept");
    }
}
