//! What the gate saves: encoded bytes with and without it, and what became of the events.
//!
//! ```text
//! cargo run --release --example bandwidth -- street.mp4 --labels labels.csv
//! ```
//!
//! One run over the video, three recordings with the same encoder settings: everything; normal frames dropped before
//! the encoder (as `drop-normal` of `vaeanomaly` does); everything encoded, then gated with a pre-roll. With
//! `labels.csv` (`clip,frame,label`) it also tells how many labelled events were found and kept whole.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, anyhow, bail};
use clap::Parser;
use gst::prelude::*;
use gstvaeanomaly::{FrameResult, State};

/// Measure what dropping normal frames saves.
#[derive(Parser, Debug)]
#[command(version, about)]
struct Args {
    /// Video file
    video: PathBuf,
    /// Ground truth, `clip,frame,label`
    #[arg(long)]
    labels: Option<PathBuf>,
    /// Which clip of the ground truth the video is; may be left out where there is only one
    #[arg(long)]
    clip: Option<String>,
    /// Settings of vaeanomaly, say "threshold=2 cues=motion"
    #[arg(long, default_value = "")]
    detector: String,
    /// Encoder and parser; key frames may come at most every pre-roll
    #[arg(
        long,
        default_value = "x264enc pass=qual quantizer=23 speed-preset=veryfast bframes=0 key-int-max=20 ! h264parse"
    )]
    encoder: String,
    /// Seconds kept before an event by the gate
    #[arg(long, default_value_t = 5.0)]
    pre_roll: f64,
    /// Seconds kept after an event
    #[arg(long, default_value_t = 2.0)]
    post_roll: f64,
}

/// What went by at one place.
#[derive(Default)]
struct Seen {
    /// Running times in ns.
    times: Vec<u64>,
    bytes: u64,
}

/// What the detector said of each frame.
#[derive(Default)]
struct Found {
    times: Vec<u64>,
    in_event: Vec<bool>,
    /// First frame that was judged.
    ready: Option<usize>,
}

fn watch(
    pipeline: &gst::Pipeline,
    element: &str,
    look: impl Fn(&gst::BufferRef, Option<u64>) + Send + Sync + 'static,
) -> Result<()> {
    let pad = pipeline
        .by_name(element)
        .and_then(|element| element.static_pad("sink"));
    let pad = pad.with_context(|| format!("no pad at {element}"))?;
    pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
        if let Some(gst::PadProbeData::Buffer(buffer)) = &info.data {
            // Encoders shift timestamps together with the segment: only the running time stays.
            let segment = pad.sticky_event::<gst::event::Segment>(0);
            let segment = segment.and_then(|event| event.segment().clone().downcast::<gst::ClockTime>().ok());
            let at = segment.and_then(|segment| segment.to_running_time(buffer.pts()));
            look(buffer, at.map(gst::ClockTime::nseconds));
        }
        gst::PadProbeReturn::Ok
    });
    Ok(())
}

fn count(pipeline: &gst::Pipeline, element: &str) -> Result<Arc<Mutex<Seen>>> {
    let seen = Arc::new(Mutex::new(Seen::default()));
    let list = Arc::clone(&seen);
    watch(pipeline, element, move |buffer, at| {
        let mut seen = list.lock().expect("no watcher panics");
        seen.times.extend(at);
        seen.bytes += buffer.size() as u64;
    })?;
    Ok(seen)
}

fn find(pipeline: &gst::Pipeline) -> Result<Arc<Mutex<Found>>> {
    let found = Arc::new(Mutex::new(Found::default()));
    let list = Arc::clone(&found);
    watch(pipeline, "judged", move |buffer, at| {
        let mut found = list.lock().expect("no watcher panics");
        let result = FrameResult::read(buffer);
        let judged = result
            .as_ref()
            .is_some_and(|r| matches!(r.state, State::Detecting | State::Frozen));
        if judged && found.ready.is_none() {
            found.ready = Some(found.times.len());
        }
        found.times.extend(at);
        found.in_event.push(result.is_some_and(|r| r.event_id.is_some()));
    })?;
    Ok(found)
}

fn pipeline(args: &Args) -> Result<gst::Pipeline> {
    let Args {
        encoder, detector, ..
    } = args;
    let nanoseconds = |seconds: f64| gst::ClockTime::from_seconds_f64(seconds).nseconds();
    let (pre, post) = (nanoseconds(args.pre_roll), nanoseconds(args.post_roll));
    let line = format!(
        "filesrc name=video ! decodebin ! videoconvert ! video/x-raw,format=I420 ! vaeanomaly {detector} \
         ! identity name=judged ! tee name=all \
         all. ! queue ! {encoder} ! identity name=everything ! vaeanomalygate pre-roll={pre} post-roll={post} \
         ! fakesink name=gated sync=false async=false \
         all. ! queue ! vaeanomalygate pre-roll=0 post-roll={post} ! {encoder} ! fakesink name=dropped sync=false async=false"
    );
    let pipeline = gst::parse::launch(&line)?;
    let pipeline = pipeline
        .downcast::<gst::Pipeline>()
        .map_err(|_| anyhow!("not a pipeline"))?;
    let video = args.video.to_str().context("the path is no text")?;
    pipeline
        .by_name("video")
        .context("it is in the line")?
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
            bail!("{} has several clips: say which one with --clip", file.display());
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

/// What became of the labelled events.
fn report_events(events: &[Range<usize>], found: &Found, kept: &Seen) {
    let is_kept = |frame: &usize| {
        found
            .times
            .get(*frame)
            .is_some_and(|time| kept.times.contains(time))
    };
    let ready = found.ready.unwrap_or(found.times.len());
    let judged: Vec<_> = events.iter().filter(|event| event.end > ready).collect();
    let detected = |event: &Range<usize>| {
        found
            .in_event
            .get(event.clone())
            .is_some_and(|flags| flags.contains(&true))
    };
    let hits: Vec<_> = judged.iter().filter(|event| detected(event)).collect();
    let whole = hits
        .iter()
        .filter(|event| (event.start..event.end).all(|frame| is_kept(&frame)))
        .count();
    println!();
    println!(
        "labelled events: {} (of these {} after the warm-up)",
        events.len(),
        judged.len()
    );
    println!(
        "found: {} of {}, kept from first to last frame: {whole}",
        hits.len(),
        judged.len()
    );
}

fn main() -> Result<()> {
    let args = Args::parse();
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
        ("everything", "everything"),
        ("normal frames dropped before the encoder", "dropped"),
        ("gated behind the encoder", "gated"),
    ];
    let seen: Vec<_> = rows
        .iter()
        .map(|(_, element)| count(&pipeline, element))
        .collect::<Result<_>>()?;
    play(&pipeline)?;

    let all = seen[0].lock().expect("no watcher panics").bytes;
    println!("| what is kept | frames | bytes | share | times smaller |");
    println!("|---|---:|---:|---:|---:|");
    for ((name, _), seen) in rows.iter().zip(&seen) {
        let seen = seen.lock().expect("no watcher panics");
        let share = seen.bytes as f64 / all.max(1) as f64;
        println!(
            "| {name} | {} | {} | {:.1} % | {:.1} |",
            seen.times.len(),
            seen.bytes,
            100.0 * share,
            1.0 / share
        );
    }
    if let Some(events) = events {
        report_events(
            &events,
            &found.lock().expect("no watcher panics"),
            &seen[2].lock().expect("no watcher panics"),
        );
    }
    Ok(())
}
