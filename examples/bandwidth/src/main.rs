//! Measures what the gate saves: encoded bytes with and without it, and whether the events are kept.
//!
//! ```text
//! cargo run --release -p bandwidth -- street.mp4 --labels labels.csv
//! ```
//!
//! One run over the video makes three recordings with the same encoder settings: all frames; normal frames dropped
//! before the encoder (like `drop-normal` of `vaeanomaly`); all frames encoded, then gated with a pre-roll. With
//! `labels.csv` (`clip,frame,label`) it also reports for every event whether it was found, and how much of it and of
//! the time around it was kept. The gate must keep every frame of the detected events including pre- and post-roll;
//! this is checked separately from what the detector missed.

use std::collections::HashSet;
use std::num::NonZeroU64;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, anyhow, bail};
use gst::prelude::*;
use gstvaeanomaly::FrameResult;
use gstvaeanomaly::detector::Label;
use lexopt::prelude::*;

const HELP: &str = "\
Measures how many bytes dropping and gating normal frames save on a video, and whether the events are kept.

Usage: bandwidth VIDEO [OPTIONS]

Options:
  --labels FILE         Ground truth as CSV: clip,frame,label
  --clip NAME           The clip of the ground truth that VIDEO shows, if it has several
  --detector SETTINGS   Properties of vaeanomaly, for example \"threshold=2 cues=motion\"
  --encoder FRAGMENT    Encoder and parser; key frames must not be further apart than the pre-roll
                        [default: x264enc pass=qual quantizer=23 speed-preset=veryfast bframes=0 key-int-max=20
                        ! h264parse]
  --pre-roll SECONDS    Time kept before an event by the gate [default: 5]
  --post-roll SECONDS   Time kept after an event [default: 2]
  --keepalive SECONDS   Interval at which one normal frame passes (a key frame behind the encoder); 0 = never
                        [default: 30]
  -h, --help            Print this help
";

struct Args {
    video: PathBuf,
    labels: Option<PathBuf>,
    clip: Option<String>,
    detector: String,
    encoder: String,
    /// Seconds, as are the next two.
    pre_roll: f64,
    post_roll: f64,
    keepalive: f64,
}

impl Args {
    /// Parses the command line; `None` if it asks for help.
    fn parse() -> Result<Option<Self>> {
        let mut args = Self {
            video: PathBuf::new(),
            labels: None,
            clip: None,
            detector: String::new(),
            encoder:
                "x264enc pass=qual quantizer=23 speed-preset=veryfast bframes=0 key-int-max=20 ! h264parse"
                    .into(),
            pre_roll: 5.0,
            post_roll: 2.0,
            keepalive: 30.0,
        };
        let mut parser = lexopt::Parser::from_env();
        while let Some(arg) = parser.next()? {
            match arg {
                Value(video) if args.video.as_os_str().is_empty() => args.video = video.into(),
                Long("labels") => args.labels = Some(parser.value()?.into()),
                Long("clip") => args.clip = Some(parser.value()?.string()?),
                Long("detector") => args.detector = parser.value()?.string()?,
                Long("encoder") => args.encoder = parser.value()?.string()?,
                Long("pre-roll") => args.pre_roll = parser.value()?.parse()?,
                Long("post-roll") => args.post_roll = parser.value()?.parse()?,
                Long("keepalive") => args.keepalive = parser.value()?.parse()?,
                Short('h') | Long("help") => return Ok(None),
                _ => return Err(arg.unexpected().into()),
            }
        }
        if args.video.as_os_str().is_empty() {
            bail!("VIDEO is missing; see --help");
        }
        Ok(Some(args))
    }
}

/// Frames and bytes that passed one pad.
#[derive(Default)]
struct Passed {
    /// Running times in ns.
    times: HashSet<u64>,
    bytes: u64,
}

/// The result of the detector for a frame.
#[derive(Clone, Copy)]
struct Frame {
    /// Running time in ns.
    at: u64,
    labelled: bool,
    anomalous: bool,
    /// The event to which it belongs.
    event: Option<u64>,
}

fn watch(
    pipeline: &gst::Pipeline,
    element: &str,
    visit: impl Fn(&gst::BufferRef, Option<u64>) + Send + Sync + 'static,
) -> Result<()> {
    let pad = pipeline
        .by_name(element)
        .and_then(|element| element.static_pad("sink"));
    let pad = pad.with_context(|| format!("no pad at {element}"))?;
    pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
        if let Some(gst::PadProbeData::Buffer(buffer)) = &info.data {
            // Encoders may shift timestamps together with the segment; the running time is unchanged.
            let segment = pad.sticky_event::<gst::event::Segment>(0);
            let segment = segment.and_then(|event| event.segment().clone().downcast::<gst::ClockTime>().ok());
            let at = segment.and_then(|segment| segment.to_running_time(buffer.pts()));
            visit(buffer, at.map(gst::ClockTime::nseconds));
        }
        gst::PadProbeReturn::Ok
    });
    Ok(())
}

fn count(pipeline: &gst::Pipeline, element: &str) -> Result<Arc<Mutex<Passed>>> {
    let passed = Arc::new(Mutex::new(Passed::default()));
    let list = Arc::clone(&passed);
    watch(pipeline, element, move |buffer, at| {
        let mut passed = list.lock().expect("no pad probe panics");
        passed.times.extend(at);
        passed.bytes += buffer.size() as u64;
    })?;
    Ok(passed)
}

fn find(pipeline: &gst::Pipeline) -> Result<Arc<Mutex<Vec<Frame>>>> {
    let found = Arc::new(Mutex::new(Vec::new()));
    let list = Arc::clone(&found);
    watch(pipeline, "labelled", move |buffer, at| {
        let result = FrameResult::read(buffer);
        let label = result.as_ref().and_then(|result| result.prediction.label);
        list.lock().expect("no pad probe panics").push(Frame {
            at: at.unwrap_or(0),
            labelled: label.is_some(),
            anomalous: label == Some(Label::Anomaly),
            event: result.and_then(|result| result.event_id).map(NonZeroU64::get),
        });
    })?;
    Ok(found)
}

fn pipeline(args: &Args) -> Result<gst::Pipeline> {
    let Args {
        encoder, detector, ..
    } = args;
    let nanoseconds = |seconds: f64| gst::ClockTime::from_seconds_f64(seconds).nseconds();
    let (pre, post) = (nanoseconds(args.pre_roll), nanoseconds(args.post_roll));
    let alive = nanoseconds(args.keepalive);
    let line = format!(
        "filesrc name=video ! decodebin ! videoconvert ! video/x-raw,format=I420 ! vaeanomaly {detector} \
         ! identity name=labelled ! tee name=all \
         all. ! queue ! {encoder} ! identity name=everything \
         ! vaeanomalygate pre-roll={pre} post-roll={post} keepalive-interval={alive} ! fakesink name=gated sync=false async=false \
         all. ! queue ! vaeanomalygate pre-roll=0 post-roll={post} keepalive-interval={alive} ! {encoder} \
         ! fakesink name=dropped sync=false async=false"
    );
    let pipeline = gst::parse::launch(&line)?;
    let pipeline = pipeline
        .downcast::<gst::Pipeline>()
        .map_err(|_| anyhow!("not a pipeline"))?;
    let video = args.video.to_str().context("the path is not UTF-8")?;
    pipeline
        .by_name("video")
        .context("the element exists")?
        .set_property("location", video);
    Ok(pipeline)
}

fn play(pipeline: &gst::Pipeline) -> Result<()> {
    let bus = pipeline.bus().context("a pipeline has a bus")?;
    pipeline.set_state(gst::State::Playing)?;
    let ends = [gst::MessageType::Eos, gst::MessageType::Error];
    let message = bus.timed_pop_filtered(gst::ClockTime::NONE, &ends);
    pipeline.set_state(gst::State::Null)?;
    match message.as_ref().map(|message| message.view()) {
        Some(gst::MessageView::Error(error)) => bail!("{} {:?}", error.error(), error.debug()),
        _ => Ok(()),
    }
}

/// Runs of frames labelled 1.
fn read_events(file: &Path, clip: Option<&str>) -> Result<Vec<Range<usize>>> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let mut events: Vec<Range<usize>> = Vec::new();
    let mut only: Option<&str> = clip;
    for (number, line) in text
        .lines()
        .enumerate()
        .skip(1)
        .filter(|(_, line)| !line.trim().is_empty())
    {
        let wrong = || {
            anyhow!(
                "{} line {}: expected clip,frame,label, got {line}",
                file.display(),
                number + 1
            )
        };
        let fields: Vec<_> = line.split(',').map(str::trim).collect();
        let [name, frame, label] = fields[..] else {
            return Err(wrong());
        };
        if clip.is_none() && only.is_some_and(|only| only != name) {
            bail!("{} has several clips: select one with --clip", file.display());
        }
        if *only.get_or_insert(name) != name || label != "1" {
            continue;
        }
        let frame: usize = frame.parse().map_err(|_| wrong())?;
        match events.last_mut() {
            Some(event) if event.end == frame => event.end += 1,
            _ => events.push(frame..frame + 1),
        }
    }
    Ok(events)
}

/// The frames of the detector's own events, each from its first to its last anomalous frame.
fn flagged(frames: &[Frame]) -> Vec<Range<usize>> {
    let mut events: Vec<(u64, Range<usize>)> = Vec::new();
    let mut run = None;
    for (index, frame) in frames.iter().enumerate() {
        if !frame.anomalous {
            run = None;
            continue;
        }
        // The first frames of a run come before its event opens.
        let start = *run.get_or_insert(index);
        match (frame.event, events.last_mut()) {
            (Some(id), Some((last, event))) if id == *last => event.end = index + 1,
            (Some(id), _) => events.push((id, start..index + 1)),
            (None, _) => {}
        }
    }
    events.into_iter().map(|(_, event)| event).collect()
}

/// Number of frames that the gate had to keep for the detected events, and how many of them it dropped.
fn check_gate(args: &Args, frames: &[Frame], kept: &Passed) -> (usize, usize) {
    let rolls = |event: &Range<usize>| {
        let start = frames[event.start].at as f64 / 1e9 - args.pre_roll;
        let end = frames
            .get(event.end)
            .map_or(f64::MAX, |next| next.at as f64 / 1e9);
        start..end + args.post_roll
    };
    let spans: Vec<_> = flagged(frames).iter().map(rolls).collect();
    let required = |frame: &&Frame| {
        let at = frame.at as f64 / 1e9;
        frame.event.is_some() || spans.iter().any(|span| span.contains(&at))
    };
    let required: Vec<_> = frames.iter().filter(required).collect();
    let dropped = required.iter().filter(|frame| !kept.times.contains(&frame.at));
    (required.len(), dropped.count())
}

/// Whether every frame of an event was kept.
fn is_whole(event: &Range<usize>, frames: &[Frame], kept: &Passed) -> bool {
    let event = frames.get(event.clone()).unwrap_or_default();
    !event.is_empty() && event.iter().all(|frame| kept.times.contains(&frame.at))
}

/// Prints for a labelled event when it was found, and how much of it and of the time around it was kept.
fn report_event(event: &Range<usize>, frames: &[Frame], kept: &Passed) {
    let seconds = |index: usize| frames.get(index).map_or(0.0, |frame| frame.at as f64 / 1e9);
    let is_kept = |frame: &&Frame| kept.times.contains(&frame.at);
    let during = &frames[event.start.min(frames.len())..event.end.min(frames.len())];
    let found = during
        .iter()
        .position(|frame| frame.event.is_some() && frame.anomalous);
    let found = found.map_or("not found".into(), |after| {
        format!(
            "found after {:.1} s",
            seconds(event.start + after) - seconds(event.start)
        )
    });
    let before = frames[..event.start].iter().rev().take_while(is_kept).count();
    let after = frames[event.end.min(frames.len())..]
        .iter()
        .take_while(is_kept)
        .count();
    println!(
        "  {:.1} to {:.1} s: {found}, {} of {} frames kept, with {:.1} s before and {:.1} s after",
        seconds(event.start),
        seconds(event.end - 1),
        during.iter().filter(is_kept).count(),
        during.len(),
        seconds(event.start) - seconds(event.start - before),
        seconds(event.end - 1 + after) - seconds(event.end - 1),
    );
}

fn main() -> Result<()> {
    let Some(args) = Args::parse()? else {
        print!("{HELP}");
        return Ok(());
    };
    gst::init()?;
    gstvaeanomaly::plugin_register_static()?;
    let events = args
        .labels
        .as_deref()
        .map(|file| read_events(file, args.clip.as_deref()))
        .transpose()?;
    let pipeline = pipeline(&args)?;
    let found = find(&pipeline)?;
    let rows = [
        ("all frames", "everything"),
        ("normal frames dropped before the encoder", "dropped"),
        ("gated behind the encoder", "gated"),
    ];
    let passed: Vec<_> = rows
        .iter()
        .map(|(_, element)| count(&pipeline, element))
        .collect::<Result<_>>()?;
    play(&pipeline)?;

    let frames = std::mem::take(&mut *found.lock().expect("no pad probe panics"));
    let ready = frames
        .iter()
        .position(|frame| frame.labelled)
        .unwrap_or(frames.len());
    let labelled = |event: &Range<usize>| event.start >= ready && event.end <= frames.len();
    let events: Option<Vec<_>> = events.map(|events| events.into_iter().filter(labelled).collect());
    let passed: Vec<Passed> = passed
        .iter()
        .map(|passed| std::mem::take(&mut *passed.lock().expect("no pad probe panics")))
        .collect();

    println!("| what is kept | frames | bytes | share | times smaller | events kept whole |");
    println!("|---|---:|---:|---:|---:|---:|");
    for ((name, _), kept) in rows.iter().zip(&passed) {
        let share = kept.bytes as f64 / passed[0].bytes.max(1) as f64;
        let whole = |events: &Vec<_>| {
            let whole = events
                .iter()
                .filter(|event| is_whole(event, &frames, kept))
                .count();
            format!("{whole} of {}", events.len())
        };
        println!(
            "| {name} | {} | {} | {:.1} % | {:.1} | {} |",
            kept.times.len(),
            kept.bytes,
            100.0 * share,
            1.0 / share,
            events.as_ref().map_or("unknown".into(), whole),
        );
    }
    report(&args, &frames, events.as_deref().unwrap_or_default(), &passed[2]);
    Ok(())
}

/// Prints the detection results and the check of the gate.
fn report(args: &Args, frames: &[Frame], events: &[Range<usize>], gated: &Passed) {
    let flagged = flagged(frames);
    let (required, dropped) = check_gate(args, frames, gated);
    println!();
    println!(
        "{} events were detected; of their {required} frames, pre- and post-roll included, the gate dropped {dropped}.",
        flagged.len()
    );
    if events.is_empty() {
        return;
    }
    let overlaps = |a: &Range<usize>, b: &Range<usize>| a.start < b.end && b.start < a.end;
    let hits = events
        .iter()
        .filter(|event| flagged.iter().any(|found| overlaps(event, found)));
    let alarms = flagged
        .iter()
        .filter(|found| !events.iter().any(|event| overlaps(event, found)));
    println!(
        "Labelled events after the warm-up: {} of {} found; {} false alarms.",
        hits.count(),
        events.len(),
        alarms.count()
    );
    events.iter().for_each(|event| report_event(event, frames, gated));
}
