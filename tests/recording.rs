//! Kept frames, encoded and muxed, decode completely.

mod common;

use std::path::Path;
use std::sync::{Arc, Mutex};

use common::rig;
use common::synthetic::{Happening, Scene};
use gst::prelude::*;
use gstvaeanomaly::FrameResult;
use gstvaeanomaly::detector::Label;

/// Presentation time, and whether the frame can be decoded by itself.
type Unit = (Option<gst::ClockTime>, bool);

/// A kept frame.
struct Kept {
    time: gst::ClockTime,
    number: u64,
    /// It is known to be normal.
    normal: bool,
}

/// Two runners.
fn two_runners() -> Scene {
    Scene::quiet()
        .with(12.0..14.0, Happening::Runner)
        .with(22.0..24.0, Happening::Runner)
}

/// Calls `record_buffer` with every buffer that comes into an element.
fn watch(
    pipeline: &gst::Pipeline,
    name: &str,
    record_buffer: impl Fn(&gst::BufferRef) + Send + Sync + 'static,
) {
    let pad = pipeline.by_name(name).unwrap().static_pad("sink").unwrap();
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        if let Some(buffer) = info.buffer() {
            record_buffer(buffer);
        }
        gst::PadProbeReturn::Ok
    });
}

/// Times and key frames of a pipeline's `fakesink name=sink`.
fn units(description: &str) -> Vec<Unit> {
    let pipeline = gst::parse::launch(description).unwrap();
    let pipeline = pipeline.downcast::<gst::Pipeline>().unwrap();
    let list = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&list);
    watch(&pipeline, "sink", move |buffer| {
        let whole = !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
        seen.lock().unwrap().push((buffer.pts(), whole));
    });
    rig::run_to_end(&pipeline);
    list.lock().unwrap().clone()
}

/// Records the scene and returns the kept frames. The encoder inserts no key frames by itself after the first.
fn record(muxer: &str, file: &Path) -> Vec<Kept> {
    rig::init();
    let description = format!(
        "appsrc name=source ! videoconvert ! video/x-raw,format=I420 \
         ! vaeanomaly cues=motion warm-up=80 threshold=4 seed=7 drop-normal=true post-roll=500000000 \
         ! identity name=kept ! x264enc key-int-max=1000 bframes=0 speed-preset=ultrafast option-string=scenecut=0 \
         ! h264parse ! {muxer} ! filesink location={}",
        file.display()
    );
    let list = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&list);
    rig::play_watched(&description, &two_runners(), 10, 0..280, move |pipeline| {
        watch(pipeline, "kept", move |buffer| {
            let found = FrameResult::read(buffer).expect("every frame has metadata");
            kept.lock().unwrap().push(Kept {
                time: buffer.pts().expect("raw frames have times"),
                number: found.prediction.frame,
                normal: found.prediction.label == Some(Label::Normal),
            });
        });
    });
    std::mem::take(&mut list.lock().unwrap())
}

/// Which frames must be key frames: every one that is not normal and before which something was dropped since the last
/// one that was not. Frames that only keep the stream alive in between are none.
fn key_frames(kept: &[Kept]) -> Vec<u64> {
    let mut dropped = true;
    let mut next = 0;
    let starts = kept.iter().filter(|frame| {
        dropped |= frame.number > next;
        next = frame.number + 1;
        !frame.normal && std::mem::take(&mut dropped)
    });
    starts.map(|frame| frame.number).collect()
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
        let coded = units(&format!("{source} ! fakesink name=sink"));
        let decoded = units(&format!("{source} ! avdec_h264 ! fakesink name=sink"));
        assert_eq!(coded.len(), kept.len(), "{muxer}");
        assert_eq!(decoded.len(), kept.len(), "{muxer}: decoded to the end");

        let decoded: Vec<gst::ClockTime> = decoded.iter().map(|d| d.0.expect("a time")).collect();
        for (time, original) in decoded.iter().zip(&kept) {
            let (time, original) = (*time - decoded[0], original.time - kept[0].time);
            assert!(
                time.absdiff(original) <= gst::ClockTime::MSECOND,
                "{muxer}: {time} instead of {original}"
            );
        }
        let pairs = coded.iter().zip(&kept);
        let keys: Vec<u64> = pairs
            .filter(|(unit, _)| unit.1)
            .map(|(_, frame)| frame.number)
            .collect();
        let wanted = key_frames(&kept);
        assert!(wanted.len() >= 3, "{muxer}: a clip for each runner, {wanted:?}");
        assert_eq!(keys, wanted, "{muxer}");
    }
}
