//! What was let through, encoded and muxed, plays in full.

mod common;

use std::path::Path;
use std::sync::{Arc, Mutex};

use common::rig;
use common::synthetic::{Happening, Scene};
use gst::prelude::*;

/// Presentation time, and whether the frame can be decoded by itself.
type Shown = (Option<gst::ClockTime>, bool);

/// Calm, a runner, calm, a runner, calm.
fn two_runners() -> Scene {
    Scene::quiet()
        .with(12.0..14.0, Happening::Runner)
        .with(22.0..24.0, Happening::Runner)
}

/// Times and key frames of a pipeline's `fakesink name=sink`.
fn shown(description: &str) -> Vec<Shown> {
    let pipeline = gst::parse::launch(description).unwrap();
    let pipeline = pipeline.downcast::<gst::Pipeline>().unwrap();
    let list = Arc::new(Mutex::new(Vec::new()));
    watch(&pipeline, "sink", &list);
    rig::run_to_end(&pipeline);
    list.lock().unwrap().clone()
}

/// Notes what comes into an element.
fn watch(pipeline: &gst::Pipeline, name: &str, list: &Arc<Mutex<Vec<Shown>>>) {
    let list = Arc::clone(list);
    let pad = pipeline.by_name(name).unwrap().static_pad("sink").unwrap();
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        if let Some(buffer) = info.buffer() {
            let whole = !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
            list.lock().unwrap().push((buffer.pts(), whole));
        }
        gst::PadProbeReturn::Ok
    });
}

/// Records the scene and returns the times of the frames that were let through.
fn record(muxer: &str, file: &Path) -> Vec<gst::ClockTime> {
    rig::init();
    let description = format!(
        "appsrc name=source ! videoconvert ! video/x-raw,format=I420 \
         ! vaeanomaly cues=motion warm-up=80 threshold=4 seed=7 drop-normal=true post-roll=500000000 \
         ! identity name=kept ! x264enc key-int-max=1000 bframes=0 speed-preset=ultrafast ! h264parse \
         ! {muxer} ! filesink location={}",
        file.display()
    );
    let list = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&list);
    rig::play_watched(&description, &two_runners(), 10, 0..280, move |pipeline| {
        watch(pipeline, "kept", &kept);
    });
    list.lock()
        .unwrap()
        .iter()
        .map(|shown| shown.0.expect("raw frames have times"))
        .collect()
}

#[test]
fn recordings_play_in_full_and_clips_start_with_key_frames() {
    let folder = tempfile::tempdir().unwrap();
    for (muxer, demuxer) in [
        ("mp4mux", "qtdemux"),
        ("mp4mux fragment-duration=1000", "qtdemux"),
        ("matroskamux", "matroskademux"),
    ] {
        let file = folder.path().join("kept");
        let kept = record(muxer, &file);
        assert!(
            (120..240).contains(&kept.len()),
            "{muxer}: {} of 280 frames kept",
            kept.len()
        );

        let source = format!("filesrc location={} ! {demuxer} ! h264parse", file.display());
        let coded = shown(&format!("{source} ! fakesink name=sink"));
        let decoded = shown(&format!("{source} ! avdec_h264 ! fakesink name=sink"));
        assert_eq!(coded.len(), kept.len(), "{muxer}");
        assert_eq!(decoded.len(), kept.len(), "{muxer}: decoded to the end");

        let decoded: Vec<gst::ClockTime> = decoded.iter().map(|d| d.0.expect("a time")).collect();
        for (time, original) in decoded.iter().zip(&kept) {
            let (time, original) = (*time - decoded[0], *original - kept[0]);
            assert!(
                time.absdiff(original) <= gst::ClockTime::MSECOND,
                "{muxer}: {time} was {original}"
            );
        }
        // Each clip: the first frame after a pause that is followed by another at once. A kept-alive frame may come
        // just before it, and is no part of it.
        let mut coded_times: Vec<Shown> = coded;
        coded_times.sort();
        for i in 1..kept.len() - 1 {
            let pause = kept[i] - kept[i - 1] > 150 * gst::ClockTime::MSECOND;
            let goes_on = kept[i + 1] - kept[i] < 150 * gst::ClockTime::MSECOND;
            if pause && goes_on {
                assert!(
                    coded_times[i].1 || coded_times[i + 1].1,
                    "{muxer}: the clip at {} starts with a key frame",
                    kept[i]
                );
            }
        }
    }
}
