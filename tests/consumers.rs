//! Muxers, segmenters and files behind the gate.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use gst::prelude::*;

mod gated;
use gated::{Label, Seen};

/// 15 s at 10 frames/s with events in the 8th and the 12th second.
const SOURCE: &str = "videotestsrc num-buffers=150 pattern=ball \
    ! video/x-raw,format=I420,width=64,height=64,framerate=10/1 ! identity name=eye";
const GATE: &str =
    "vaeanomalygate name=gate pre-roll=1000000000 post-roll=500000000 keepalive-interval=2000000000";

const H264: &str = "x264enc key-int-max=10 bframes=0 tune=zerolatency ! h264parse";
const H264_REORDERED: &str = "x264enc key-int-max=10 bframes=2 b-adapt=false ! h264parse";
const H265_OPEN: &str = "x265enc key-int-max=10 option-string=open-gop=1:bframes=2:b-adapt=0 ! h265parse";
/// Parameter sets in the stream, but only before the first frame; see [`send_headers_once`].
const H264_HEADERS_ONCE: &str = "x264enc key-int-max=10 bframes=0 \
    ! video/x-h264,stream-format=byte-stream,alignment=au ! identity name=once";
const H265_HEADERS_ONCE: &str = "x265enc key-int-max=10 option-string=repeat-headers=0:bframes=2:b-adapt=0 \
    ! video/x-h265,stream-format=byte-stream ! h265parse config-interval=0 ! video/x-h265,stream-format=byte-stream,alignment=au";

fn two_events(frame: u64) -> Label {
    match frame {
        70..80 => Label::Anomaly(1),
        110..120 => Label::Anomaly(2),
        _ => Label::Normal,
    }
}

/// Presentation times in ms of the frames that passed the gate, relative to the first frame of the source.
fn record(encoder: &str, consumer: &str) -> Vec<u64> {
    record_gated(encoder, GATE, consumer)
}

fn record_gated(encoder: &str, gate: &str, consumer: &str) -> Vec<u64> {
    let pipeline = gated::pipeline(&format!("{SOURCE} ! {encoder} ! {gate} ! {consumer}"));
    gated::label_frames(&pipeline, "eye", two_events);
    if let Some(once) = pipeline.by_name("once") {
        send_headers_once(&once);
    }
    let came = gated::watch_pad(&pipeline, "gate", "sink");
    let passed = gated::watch_pad(&pipeline, "gate", "src");
    gated::play(&pipeline);
    let times = times_from(
        came.lock().unwrap()[0].pts.expect("a time"),
        &passed.lock().unwrap(),
    );
    let wanted = (60..85).chain(100..125).map(|frame| frame * 100);
    for time in wanted {
        assert!(
            times.contains(&time),
            "the frame at {time} ms is missing: {times:?}"
        );
    }
    assert!(times.len() < 100, "something was dropped");
    times
}

/// Removes sequence and picture parameter sets (ITU-T H.264, table 7-1) from all buffers but the first: some cameras do
/// not repeat them.
fn send_headers_once(element: &gst::Element) {
    let first = AtomicBool::new(true);
    let pad = element.static_pad("src").expect("a source pad");
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        if let Some(gst::PadProbeData::Buffer(buffer)) = &mut info.data
            && !first.swap(false, Ordering::SeqCst)
        {
            let bytes = buffer.map_readable().expect("readable").to_vec();
            let starts = (0..bytes.len() - 3).filter(|at| bytes[*at..].starts_with(&[0, 0, 1]));
            let starts: Vec<_> = starts.chain([bytes.len()]).collect();
            let units = starts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]);
            let kept: Vec<u8> = units
                .filter(|unit| !matches!(unit[3] & 31, 7 | 8))
                .flatten()
                .copied()
                .collect();
            let buffer = buffer.make_mut();
            buffer.remove_all_memory();
            buffer.append_memory(gst::Memory::from_mut_slice(kept));
        }
        gst::PadProbeReturn::Ok
    });
}

fn times_from(first: u64, frames: &[Seen]) -> Vec<u64> {
    let mut times: Vec<_> = frames
        .iter()
        .map(|frame| frame.pts.expect("a time") - first)
        .collect();
    times.sort_unstable();
    times
}

/// Decodes a file to its end and returns the presentation times in ms; any error fails the test.
fn decode(file: &Path) -> Vec<u64> {
    let pipeline = gated::pipeline(&format!(
        "filesrc location={} ! decodebin ! fakesink name=out sync=false",
        file.display()
    ));
    let frames = gated::watch_pad(&pipeline, "out", "sink");
    gated::play(&pipeline);
    let frames = frames.lock().unwrap();
    let times: Vec<_> = frames
        .iter()
        .map(|frame| frame.pts.expect("a decoded frame has a time"))
        .collect();
    assert!(times.is_sorted(), "{times:?}");
    times
}

/// The first unit in a file is a key frame.
fn check_start(file: &Path) {
    let pipeline = gated::pipeline(&format!(
        "filesrc location={} ! parsebin ! fakesink name=out sync=false",
        file.display()
    ));
    let units = gated::watch_pad(&pipeline, "out", "sink");
    gated::play(&pipeline);
    assert!(
        units.lock().unwrap()[0].key,
        "{} starts in the middle of a group",
        file.display()
    );
}

fn check_times(presented: &[u64], passed: &[u64]) {
    let from_start = |times: &[u64]| times.iter().map(|time| time - times[0]).collect::<Vec<_>>();
    for (presented, passed) in from_start(presented).into_iter().zip(from_start(passed)) {
        assert!(
            presented.abs_diff(passed) <= 1,
            "presented at {presented} ms, passed at {passed} ms"
        );
    }
}

fn write(encoder: &str, muxer: &str) -> (tempfile::TempDir, PathBuf, Vec<u64>) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("clips");
    let passed = record(
        encoder,
        &format!("{muxer} ! filesink location={}", file.display()),
    );
    check_start(&file);
    (folder, file, passed)
}

/// A file contains every frame that passed, at its time.
fn check_muxer(encoder: &str, muxer: &str) {
    let (_folder, file, passed) = write(encoder, muxer);
    let decoded = decode(&file);
    assert_eq!(decoded.len(), passed.len(), "{decoded:?} of {passed:?}");
    check_times(&decoded, &passed);
}

#[test]
fn matroska() {
    check_muxer(H264, "matroskamux");
    check_muxer(H264_REORDERED, "matroskamux");
    check_muxer(H265_OPEN, "matroskamux");
}

/// Encoders with frames that are decoded but not presented.
#[test]
fn alternate_reference_frames() {
    let vp9 =
        "vp9enc deadline=1 cpu-used=8 keyframe-max-dist=10 auto-alt-ref=true lag-in-frames=8 ! vp9parse";
    check_muxer(vp9, "matroskamux");
    let av1 = "av1enc cpu-used=8 keyframe-max-dist=10 lag-in-frames=8 ! av1parse";
    check_muxer(av1, "matroskamux");
    let vp8 = "vp8enc deadline=1 keyframe-max-dist=10 auto-alt-ref=true lag-in-frames=8";
    check_muxer(vp8, "matroskamux");
}

/// Presentation times of a transport stream's only programme, from its PES headers (ISO/IEC 13818-1, 2.4.3.7).
fn transport_times(file: &Path) -> Vec<u64> {
    let bytes = std::fs::read(file).expect("a file");
    let starts = bytes.chunks_exact(188).filter(|packet| packet[1] & 0x40 != 0);
    let payload = |packet: &'_ [u8]| {
        let adaptation = if packet[3] & 0x20 != 0 {
            1 + usize::from(packet[4])
        } else {
            0
        };
        packet[4 + adaptation..].to_vec()
    };
    let time = |pes: Vec<u8>| {
        let field = |index: usize| u64::from(pes[index]);
        (pes.starts_with(&[0, 0, 1]) && pes[7] & 0x80 != 0).then(|| {
            (field(9) >> 1 & 7) << 30
                | field(10) << 22
                | (field(11) >> 1) << 15
                | field(12) << 7
                | field(13) >> 1
        })
    };
    let mut times: Vec<_> = starts
        .map(payload)
        .filter_map(time)
        .map(|ticks| ticks / 90)
        .collect();
    times.sort_unstable();
    times
}

#[test]
fn mpeg_transport_stream() {
    for encoder in [H264, H264_REORDERED, H264_HEADERS_ONCE, H265_HEADERS_ONCE] {
        let (_folder, file, passed) = write(encoder, "mpegtsmux");
        assert_eq!(decode(&file).len(), passed.len());
        // Demuxers close the gaps, where clock references are missing: what counts are the times in the file.
        let written = transport_times(&file);
        assert_eq!(written.len(), passed.len());
        check_times(&written, &passed);
    }
}

/// No frame passes before the first event, so neither do the parameter sets at the start: a parser repeats them.
#[test]
fn parameter_sets_that_are_sent_once() {
    let gate = GATE.replace("keepalive-interval=2000000000", "keepalive-interval=0");
    for (encoder, codec) in [(H264_HEADERS_ONCE, "h264"), (H265_HEADERS_ONCE, "h265")] {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("clips");
        let repeated = format!("{encoder} ! {codec}parse config-interval=-1");
        let muxed = format!("mpegtsmux ! filesink async=false location={}", file.display());
        let passed = record_gated(&repeated, &gate, &muxed);
        assert!(passed[0] >= 2000, "{passed:?}");
        check_start(&file);
        assert_eq!(decode(&file).len(), passed.len());
        check_times(&transport_times(&file), &passed);
    }
}

#[test]
fn mp4() {
    check_muxer(H264, "mp4mux");
    check_muxer(H264_REORDERED, "mp4mux");
    check_muxer(H265_OPEN, "mp4mux");
    check_muxer(H264_HEADERS_ONCE, "h264parse ! mp4mux");
}

#[test]
fn fragmented_mp4() {
    check_muxer(H264, "mp4mux fragment-duration=1000");
    // The demuxer of GStreamer 1.22 clips the last frames of such a file if they are reordered, with or without a gate.
    let (_folder, file, passed) = write(H264_REORDERED, "mp4mux fragment-duration=1000");
    let decoded = decode(&file);
    assert!(passed.len() - decoded.len() <= 2, "{decoded:?} of {passed:?}");
    check_times(&decoded, &passed);
}

#[test]
fn flash_video() {
    check_muxer(H264, "flvmux");
    check_muxer(H264_REORDERED, "flvmux");
}

fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path());
    let mut files: Vec<_> = entries
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect();
    files.sort();
    files
}

/// Every file of a folder can be decoded by itself, with its frames at their `times`; together they contain all frames that
/// passed.
fn check_segments(folder: &Path, extension: &str, passed: &[u64], times: impl Fn(&Path) -> Vec<u64>) {
    let files = files(folder, extension);
    assert!(files.len() > 1, "{files:?}");
    let mut left = passed;
    for file in &files {
        check_start(file);
        let (decoded, times) = (decode(file), times(file));
        assert_eq!(decoded.len(), times.len(), "{}", file.display());
        assert!(
            times.len() <= left.len(),
            "more than the {} frames that passed",
            passed.len()
        );
        check_times(&times, &left[..times.len()]);
        left = &left[times.len()..];
    }
    assert!(left.is_empty(), "{left:?} of {passed:?} are in no file");
}

#[test]
fn http_live_streaming() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().display();
    let passed = record(
        H264,
        &format!(
            "hlssink2 location={path}/%05d.ts playlist-location={path}/list.m3u8 target-duration=2 max-files=0 playlist-length=0"
        ),
    );
    check_segments(folder.path(), "ts", &passed, transport_times);
    let playlist = std::fs::read_to_string(folder.path().join("list.m3u8")).expect("a playlist");
    assert_eq!(playlist.matches(".ts").count(), files(folder.path(), "ts").len());
}

#[test]
fn files_split_by_time() {
    let folder = tempfile::tempdir().expect("a folder");
    let location = folder.path().join("%05d.mp4");
    let passed = record(
        H264_REORDERED,
        &format!(
            "splitmuxsink location={} max-size-time=2000000000",
            location.display()
        ),
    );
    check_segments(folder.path(), "mp4", &passed, decode);
}

/// The key frames that the gate requests from the encoder come without new headers: Ogg has them at the start only.
#[test]
fn theora_behind_the_gate() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("clips.ogg");
    let pipeline = gated::pipeline(&format!(
        "{SOURCE} ! {GATE} ! theoraenc keyframe-freq=1000 keyframe-force=1000 ! oggmux ! filesink location={}",
        file.display()
    ));
    gated::label_frames(&pipeline, "eye", two_events);
    let passed = gated::watch_pad(&pipeline, "gate", "src");
    gated::play(&pipeline);
    let passed = passed.lock().unwrap().len();
    assert!((50..100).contains(&passed), "{passed}");
    assert_eq!(decode(&file).len(), passed);
}

/// No IDR frame comes after the first one. More than five seconds later, a recording starts at a recovery point.
#[test]
fn recordings_that_start_at_a_recovery_point_decode_in_full() {
    let gate = "vaeanomalygate name=gate pre-roll=1000000000 post-roll=500000000 keepalive-interval=0";
    for encoder in [
        "x264enc key-int-max=10 bframes=2 b-adapt=false option-string=open-gop=1 ! h264parse",
        "x264enc key-int-max=10 bframes=0 intra-refresh=true tune=zerolatency ! h264parse",
        H265_OPEN,
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("clip");
        let writer = format!("matroskamux ! filesink location={}", file.display());
        let passed = record_gated(encoder, gate, &writer);
        assert!(passed[0] > 5000, "{encoder}: frames before the pre-roll pass");
        assert_eq!(decode(&file).len(), passed.len(), "{encoder}");
    }
}
