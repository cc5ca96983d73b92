//! `GstAnalyticsRelationMeta` beside the plugin's own metadata. Needs GStreamer 1.24 and the feature `v1_24`;
//! `tests/debian13.sh` runs it on Debian 13.

mod common;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use common::rig::{self, Rig};
use common::synthetic::{Happening, SIZE, Scene};
use gst::glib::Quark;
use gst::prelude::*;
use gst_analytics::prelude::*;
use gst_analytics::{
    AnalyticsAnyMtd, AnalyticsClassificationMtd, AnalyticsODLocation, AnalyticsODMtd, AnalyticsRelationMeta,
    AnalyticsTrackingMtd, RelTypes,
};
use gstvaeanomaly::FrameResult;
use gstvaeanomaly::detector::{Label, Region};

const QUICK: [(&str, &str); 3] = [("warm-up", "100"), ("threshold", "4"), ("seed", "7")];

/// A runner for three seconds, then nothing.
fn runner() -> Scene {
    Scene::quiet().with(15.0..18.0, Happening::Runner)
}

fn relation_meta(buffer: &gst::Buffer) -> Option<gst::MetaRef<'_, AnalyticsRelationMeta>> {
    assert!(buffer.iter_meta::<AnalyticsRelationMeta>().count() <= 1);
    buffer.meta::<AnalyticsRelationMeta>()
}

fn is_at(location: AnalyticsODLocation, region: Region) -> bool {
    let AnalyticsODLocation { x, y, w, h, .. } = location;
    [x, y, w, h].map(|v| v as u32) == [region.x, region.y, region.width, region.height]
}

#[test]
fn analytics_metadata_says_what_the_own_metadata_says() {
    let mut rig = Rig::grey(&QUICK, 10);
    rig.push_scene(&runner(), 10, 0..200);
    let (mut labelled, mut objects) = (0, 0);
    for buffer in rig.take_buffers() {
        let found = FrameResult::read(&buffer).unwrap().prediction;
        let Some(label) = found.label else {
            assert!(relation_meta(&buffer).is_none(), "frame {}", found.frame);
            continue;
        };
        labelled += 1;
        let meta = relation_meta(&buffer).expect("a frame with a label has the metadata");
        let frames: Vec<_> = meta.iter::<AnalyticsClassificationMtd>().collect();
        assert_eq!(frames.len(), 1);
        let mut classes: Vec<(Quark, f32)> = frames[0].iterate().collect();
        assert_eq!(
            classes,
            [
                (Quark::from_str("anomaly"), found.score as f32),
                (Quark::from_str("normal"), 1.0 - found.score as f32)
            ]
        );
        classes.sort_by(|a, b| b.1.total_cmp(&a.1));
        assert_eq!(classes[0].0.as_str(), label.as_str(), "frame {}", found.frame);

        let detections: Vec<_> = meta.iter::<AnalyticsODMtd>().collect();
        assert_eq!(detections.len(), found.regions.len());
        for (object, region) in detections.iter().zip(&found.regions) {
            assert_eq!(object.obj_type(), Some(Quark::from_str("anomaly")));
            assert!(is_at(object.location().unwrap(), region.region));
            assert_eq!(object.confidence_level(), region.score as f32);
            assert_eq!(meta.relation(frames[0].id(), object.id()), RelTypes::CONTAIN);
            assert_eq!(meta.relation(object.id(), frames[0].id()), RelTypes::IS_PART_OF);
            let tracks: Vec<_> = meta
                .iter_direct_related::<AnalyticsTrackingMtd>(object.id(), RelTypes::RELATE_TO)
                .collect();
            assert_eq!(tracks.len(), 1);
            assert_eq!(tracks[0].info().0, region.id);
            objects += 1;
        }
        assert_eq!(meta.len(), 1 + 2 * detections.len());
    }
    assert!(
        labelled > 60 && objects > 10,
        "{labelled} labels, {objects} objects"
    );
}

#[test]
fn metadata_of_elements_upstream_is_joined() {
    let mut rig = Rig::grey(&QUICK, 10);
    for i in 0..170 {
        let mut buffer = rig::grey_frame(&runner(), 10, i);
        let mut meta = AnalyticsRelationMeta::add(buffer.get_mut().unwrap());
        meta.add_od_mtd(Quark::from_str("car"), 1, 2, 3, 4, 0.75).unwrap();
        rig.push(buffer);
    }
    let mut joined = 0;
    for buffer in rig.take_buffers() {
        let found = FrameResult::read(&buffer).unwrap().prediction;
        let meta = relation_meta(&buffer).expect("it had the metadata before");
        let car = meta.mtd::<AnalyticsODMtd>(0).unwrap();
        assert_eq!(car.obj_type(), Some(Quark::from_str("car")));
        let region = Region {
            x: 1,
            y: 2,
            width: 3,
            height: 4,
        };
        assert!(is_at(car.location().unwrap(), region) && car.confidence_level() == 0.75);
        let own = if found.label.is_some() { 1 } else { 0 } + 2 * found.regions.len();
        assert_eq!(meta.iter::<AnalyticsAnyMtd>().count(), 1 + own);
        let is_related = |other: u32| meta.relation(0, other) != RelTypes::NONE;
        assert!(
            !(1..meta.len() as u32).any(is_related),
            "the car is not part of it"
        );
        joined += own;
    }
    assert!(joined > 80, "{joined}");
}

#[test]
fn a_track_lasts_as_long_as_its_region() {
    let mut rig = Rig::grey(&QUICK, 10);
    rig.push_scene(&runner(), 10, 0..200);
    // Frames, and the first time, of each track.
    let mut tracks: HashMap<u64, (usize, gst::ClockTime)> = HashMap::new();
    for buffer in rig.take_buffers() {
        let now = buffer.pts().unwrap();
        let Some(meta) = relation_meta(&buffer) else {
            continue;
        };
        for track in meta.iter::<AnalyticsTrackingMtd>() {
            let (id, first, last, lost) = track.info();
            let (frames, begin) = tracks.entry(id).or_insert((0, now));
            *frames += 1;
            assert_eq!((first, last, lost), (*begin, now, false), "track {id}");
        }
    }
    let longest = tracks.values().map(|(frames, _)| *frames).max();
    assert!(longest > Some(5), "{tracks:?}");
}

/// The element is in the plugin set bad.
#[test]
fn objectdetectionoverlay_draws_the_regions() {
    gst::init().unwrap();
    if gst::ElementFactory::find("objectdetectionoverlay").is_none() {
        eprintln!("SKIPPED: there is no objectdetectionoverlay");
        return;
    }
    let line = "appsrc name=source ! vaeanomaly warm-up=100 threshold=4 seed=7 ! tee name=both \
        both. ! queue max-size-buffers=0 max-size-time=0 ! fakesink name=plain async=false \
        both. ! queue max-size-buffers=0 max-size-time=0 ! objectdetectionoverlay draw-labels=false ! fakesink name=drawn async=false";
    let lists: [Arc<Mutex<Vec<gst::Buffer>>>; 2] = Default::default();
    let records = lists.clone();
    rig::play_watched(line, &runner(), 10, 0..170, move |pipeline| {
        for (name, list) in ["plain", "drawn"].into_iter().zip(records) {
            let pad = pipeline.by_name(name).unwrap().static_pad("sink").unwrap();
            pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
                list.lock().unwrap().push(info.buffer().unwrap().clone());
                gst::PadProbeReturn::Ok
            });
        }
    });
    let [plain, drawn] = lists.map(|list| std::mem::take(&mut *list.lock().unwrap()));
    assert_eq!((plain.len(), drawn.len()), (170, 170));
    let mut anomalous = 0;
    for (plain, drawn) in plain.iter().zip(&drawn) {
        let found = FrameResult::read(plain).unwrap().prediction;
        let (before, after) = (plain.map_readable().unwrap(), drawn.map_readable().unwrap());
        let is_drawn = |x: usize, y: usize| before[y * SIZE.0 + x] != after[y * SIZE.0 + x];
        let count = (0..SIZE.0 * SIZE.1)
            .filter(|&i| is_drawn(i % SIZE.0, i / SIZE.0))
            .count();
        if found.label != Some(Label::Anomaly) {
            assert_eq!(count, 0, "frame {}", found.frame);
            continue;
        }
        anomalous += 1;
        // White lines on the left edge of each region, and nothing beyond the lines around all of them.
        for region in &found.regions {
            let Region { x, y, width, height } = region.region;
            let middle = (y + height / 2).min(SIZE.1 as u32 - 1) as usize;
            assert!(
                (x.saturating_sub(1)..=x + 1).any(|x| is_drawn(x as usize, middle)),
                "frame {}: no line at {region:?}",
                found.frame
            );
            assert!(width > 0);
        }
        let inside = |x: usize, y: usize| {
            found.regions.iter().any(|found| {
                let near = |at: usize, from: u32, length: u32| {
                    (from.saturating_sub(2) as usize..(from + length + 2) as usize).contains(&at)
                };
                let r = found.region;
                near(x, r.x, r.width) && near(y, r.y, r.height)
            })
        };
        let beyond = (0..SIZE.0 * SIZE.1)
            .map(|i| (i % SIZE.0, i / SIZE.0))
            .filter(|&(x, y)| is_drawn(x, y) && !inside(x, y))
            .count();
        assert_eq!(beyond, 0, "frame {}", found.frame);
    }
    assert!(anomalous > 10, "{anomalous}");
}
