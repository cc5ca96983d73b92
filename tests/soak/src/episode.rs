//! Short streams one after the other, each with a random pipeline: changes of caps and frame rate, flushes, jumps in time,
//! single wrong times, key-frame distances, and changes of properties.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use gst::prelude::*;
use rand::Rng;
use rand::seq::IndexedRandom;

use crate::account::{Account, Counter};
use crate::camera::{self, Camera, Random, SIZE, Shutter};
use crate::changes;

/// Frames of an episode.
const FRAMES: u64 = 400;
/// Frames in a second of wall time: several times as fast as the stream.
const SPEED: u32 = 60;
/// Frames that may wait in the source.
const BACKLOG: u64 = 50;

/// Frames from a change of caps on, until all elements have negotiated: more than may wait in the source. A flush that comes
/// earlier can interrupt an ALLOCATION query that waits in a queue, whereupon `videoscale` fails ("Failed to configure the
/// buffer pool", GStreamer 1.22), also without elements of this project.
const NEGOTIATION: u64 = BACKLOG + 10;

const HOUR: gst::ClockTime = gst::ClockTime::from_seconds(3600);

/// How the gate learns about anomalies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// From metadata on raw frames.
    Raw,
    /// Behind an encoder.
    Encoded,
    /// From a detector on another branch.
    Follow,
}

/// A random pipeline.
#[derive(Debug)]
struct Plan {
    layout: Layout,
    encoder: String,
    sink: String,
    /// Writes a file: times must rise and the format must stay.
    writes: bool,
    fps: i32,
}

impl Plan {
    fn new(random: &mut Random, folder: &Path) -> Result<Self> {
        let layout = *[Layout::Raw, Layout::Encoded, Layout::Encoded, Layout::Follow]
            .choose(random)
            .context("layouts")?;
        let distance = [5, 20, 60, 250][random.random_range(0..4)];
        let encoders = [
            format!(
                "x264enc threads=1 tune=zerolatency speed-preset=ultrafast key-int-max={distance} ! h264parse"
            ),
            format!(
                "x264enc threads=1 bframes=3 b-adapt=false rc-lookahead=5 sync-lookahead=0 speed-preset=ultrafast \
                 option-string=open-gop=1 key-int-max={distance} ! h264parse"
            ),
            format!("vp8enc deadline=1 keyframe-max-dist={distance}"),
            "jpegenc".to_owned(),
        ];
        let kind = if layout == Layout::Raw {
            3
        } else {
            random.random_range(0..encoders.len())
        };
        let file = folder.display();
        let sinks = [
            format!(
                "splitmuxsink muxer=matroskamux max-size-time=5000000000 max-files=3 location={file}/part-%02d.mkv"
            ),
            format!("splitmuxsink max-size-time=5000000000 max-files=3 location={file}/part-%02d.mp4"),
        ];
        // Only H.264 goes into MP4.
        let sink = &sinks[if kind > 1 { 0 } else { random.random_range(0..2) }];
        let writes = random.random_bool(0.4);
        Ok(Plan {
            layout,
            encoder: encoders[kind].clone(),
            sink: if writes {
                sink.clone()
            } else {
                "appsink name=sink sync=false async=false max-buffers=5".into()
            },
            writes,
            fps: *[5, 10, 25].choose(random).context("rates")?,
        })
    }

    fn description(&self) -> String {
        let Plan { encoder, sink, .. } = self;
        let source = "appsrc name=camera format=time ! videoconvert ! videoscale \
                      ! capsfilter name=format caps=video/x-raw,format=I420";
        let eye = "vaeanomaly name=eye warm-up=60 cues=motion";
        let gate = "vaeanomalygate name=gate pre-roll=500000000 keepalive-interval=1000000000";
        match self.layout {
            Layout::Raw => format!("{source} ! {eye} ! {gate} ! queue ! videoconvert ! {encoder} ! {sink}"),
            Layout::Encoded => {
                format!("{source} ! {eye} ! queue ! videoconvert ! {encoder} ! {gate} ! queue ! {sink}")
            }
            Layout::Follow => format!(
                "{source} ! tee name=t t. ! queue ! {eye} ! fakesink sync=false async=false \
                 t. ! queue ! videoconvert ! {encoder} ! {gate} follow=eye ! queue ! {sink}"
            ),
        }
    }
}

/// Plays one episode.
///
/// # Errors
/// An element has failed, or the pipeline hangs.
pub fn run(seed: u64, number: u64, folder: &Path, verbose: bool) -> Result<Account> {
    let mut random = camera::random(seed, 1000 + number);
    let plan = Plan::new(&mut random, folder)?;
    let description = plan.description();
    if verbose {
        println!("{description}");
    }
    let pipeline = crate::parse(&description)?;
    if let Some(sink) = pipeline.by_name("sink").and_downcast::<gst_app::AppSink>() {
        let pull = gst_app::AppSinkCallbacks::builder().new_sample(|sink| {
            sink.pull_sample()
                .map(|_| gst::FlowSuccess::Ok)
                .map_err(|_| gst::FlowError::Eos)
        });
        sink.set_callbacks(pull.build());
    }
    crate::make_seekable(&pipeline);
    let counters = ["eye", "gate"].map(|name| Counter::new(&pipeline, name));
    pipeline.set_state(gst::State::Playing)?;
    let result = send(&pipeline, &plan, seed.wrapping_add(number), &mut random, verbose)
        .and_then(|()| crate::wait_for_end(&pipeline))
        .with_context(|| format!("episode {number} ({description})"));
    let mut account = Account::default();
    counters.iter().for_each(|counter| account += counter.account());
    pipeline.set_state(gst::State::Null)?;
    result.map(|()| account)
}

/// What is sent next.
#[derive(Debug)]
struct Stream {
    at: gst::ClockTime,
    fps: i32,
    /// Frames since caps were set.
    frames: u64,
}

/// Sends all frames, with changes between them.
fn send(pipeline: &gst::Pipeline, plan: &Plan, seed: u64, random: &mut Random, verbose: bool) -> Result<()> {
    let source = crate::source(pipeline);
    let mut camera = Camera::new(seed);
    let mut shutter = Shutter::new(Duration::from_secs(1) / SPEED);
    let mut stream = Stream {
        at: gst::ClockTime::from_seconds(10 * 3600),
        fps: plan.fps,
        frames: 0,
    };
    source.set_caps(Some(&camera::caps(stream.fps)));
    for frame in 0..FRAMES {
        shutter.wait();
        crate::drain_bus(pipeline)?;
        let full = Instant::now();
        while source.current_level_buffers() > BACKLOG {
            if full.elapsed() > crate::PATIENCE {
                bail!("hangs at frame {frame}: {}", levels(pipeline));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        if random.random_range(0..8) == 0 {
            changes::change(pipeline, "eye", plan.layout == Layout::Encoded, &["gate"], random);
        }
        if random.random_range(0..160) == 0 {
            changes::reset_model(pipeline, "eye");
        }
        let mut stamp = stream.at;
        if !plan.writes {
            let what = disturb(pipeline, &source, &mut stream, &mut stamp, random)?;
            if let Some(what) = what.filter(|_| verbose) {
                println!("frame {frame}: {what}");
            }
        }
        let duration = gst::ClockTime::SECOND / stream.fps as u64;
        source.push_buffer(camera::buffer(camera.next(frame), stamp, duration))?;
        stream.at += duration;
        stream.frames += 1;
    }
    source.end_of_stream()?;
    Ok(())
}

/// Where frames wait: the levels of all queues, and the statistics of the gate.
fn levels(pipeline: &gst::Pipeline) -> String {
    let mut levels = Vec::new();
    for element in pipeline.iterate_recurse().into_iter().flatten() {
        if element.has_property("current-level-buffers") {
            let level = element.property_value("current-level-buffers");
            levels.push(format!("{} {level:?}", element.name()));
        }
    }
    if let Some(gate) = pipeline.by_name("gate") {
        levels.push(gate.property::<gst::Structure>("stats").to_string());
    }
    levels.join(", ")
}

/// Now and then disturbs the stream.
fn disturb(
    pipeline: &gst::Pipeline,
    source: &gst_app::AppSrc,
    stream: &mut Stream,
    stamp: &mut gst::ClockTime,
    random: &mut Random,
) -> Result<Option<&'static str>> {
    let Stream { at, fps, frames } = stream;
    let far = HOUR * random.random_range(1..5);
    let what = match random.random_range(0..400) {
        0 => {
            let scale = *[1, 2].choose(random).context("scales")?;
            let caps = gst::Caps::builder("video/x-raw")
                .field("format", *["I420", "NV12"].choose(random).context("formats")?)
                .field("width", (SIZE.0 * scale) as i32)
                .field("height", (SIZE.1 * scale) as i32);
            let filter = pipeline.by_name("format").context("the filter")?;
            filter.set_property("caps", caps.build());
            *frames = 0;
            "other caps"
        }
        1 => {
            *fps = *[5, 10, 25].choose(random).context("rates")?;
            source.set_caps(Some(&camera::caps(*fps)));
            *frames = 0;
            "another frame rate"
        }
        2 if *frames > NEGOTIATION => {
            source.seek_simple(gst::SeekFlags::FLUSH, *at)?;
            "flush"
        }
        3 => {
            *at += far;
            *stamp = *at;
            "jump ahead"
        }
        4 => {
            *at = at.saturating_sub(far);
            *stamp = *at;
            "jump back"
        }
        5 => {
            *stamp += far;
            "one frame ahead"
        }
        6 => {
            *stamp = stamp.saturating_sub(far);
            "one frame back"
        }
        7 => {
            *at += gst::ClockTime::from_seconds(random.random_range(1..20));
            *stamp = *at;
            "frames missing"
        }
        _ => return Ok(None),
    };
    Ok(Some(what))
}
