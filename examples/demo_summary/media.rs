//! Small pipelines of the demo itself: how long a video is, its frames, the full recording to compare with.

use std::path::Path;

use anyhow::{Context, Result, bail};
use gst::prelude::*;

/// A decoded picture.
pub struct Picture {
    /// Presentation time in seconds.
    pub time: f64,
    pub width: u32,
    pub height: u32,
    /// RGBA rows without padding.
    pub data: Vec<u8>,
}

/// Runs a pipeline to its end, or until an error.
fn run(pipeline: &gst::Element) -> Result<()> {
    pipeline
        .set_state(gst::State::Playing)
        .context("the pipeline does not start")?;
    let bus = pipeline.bus().context("the pipeline has no bus")?;
    let types = [gst::MessageType::Eos, gst::MessageType::Error];
    let message = bus.timed_pop_filtered(gst::ClockTime::NONE, &types);
    pipeline
        .set_state(gst::State::Null)
        .context("the pipeline does not stop")?;
    match message.as_ref().map(|m| m.view()) {
        Some(gst::MessageView::Error(error)) => bail!("{}", error.error()),
        _ => Ok(()),
    }
}

/// The video's length in seconds and its frame rate, each where it is known.
pub fn probe(uri: &str) -> (Option<f64>, Option<f64>) {
    let description = "uridecodebin name=source ! videoconvert ! fakesink name=sink";
    let Ok(pipeline) = gst::parse::launch(description) else {
        return (None, None);
    };
    let Some(bin) = pipeline.downcast_ref::<gst::Bin>() else {
        return (None, None);
    };
    let (Some(source), Some(sink)) = (bin.by_name("source"), bin.by_name("sink")) else {
        return (None, None);
    };
    source.set_property("uri", uri);
    let prerolled = pipeline.set_state(gst::State::Paused).is_ok()
        && pipeline.state(gst::ClockTime::from_seconds(10)).0 == Ok(gst::StateChangeSuccess::Success);
    let length = if prerolled {
        pipeline.query_duration::<gst::ClockTime>()
    } else {
        None
    };
    let caps = sink.static_pad("sink").and_then(|pad| pad.current_caps());
    let rate = caps.and_then(|caps| caps.structure(0)?.get::<gst::Fraction>("framerate").ok());
    // The pipeline is thrown away; nothing is lost when it does not stop cleanly.
    let _ = pipeline.set_state(gst::State::Null);
    let rate = rate
        .filter(|r| r.numer() > 0)
        .map(|r| f64::from(r.numer()) / f64::from(r.denom()));
    (length.map(|l| l.nseconds() as f64 / 1e9), rate)
}

/// Encodes the whole video with `encoder` (a launch fragment up to and including the muxer).
pub fn encode(uri: &str, encoder: &str, file: &Path) -> Result<()> {
    let description = format!(
        "uridecodebin name=source ! videoconvert ! video/x-raw,format=I420 ! {encoder} ! filesink name=sink"
    );
    let pipeline = gst::parse::launch(&description).with_context(|| format!("cannot build {description}"))?;
    let bin = pipeline
        .downcast_ref::<gst::Bin>()
        .context("the description is not a pipeline")?;
    bin.by_name("source")
        .context("no source")?
        .set_property("uri", uri);
    bin.by_name("sink")
        .context("no sink")?
        .set_property("location", file.to_string_lossy().as_ref());
    run(&pipeline)
}

/// Decodes a video from the start to its end; gives the number of frames. `wanted` says for each time (seconds)
/// whether the picture is of use; `keep` gets it.
pub fn decode(uri: &str, wanted: impl Fn(f64) -> bool, mut keep: impl FnMut(Picture)) -> Result<u64> {
    let description = "uridecodebin name=source ! videoconvert ! video/x-raw,format=RGBA \
                       ! appsink name=sink sync=false max-buffers=4";
    let pipeline = gst::parse::launch(description)?;
    let bin = pipeline
        .downcast_ref::<gst::Bin>()
        .context("the description is not a pipeline")?;
    bin.by_name("source")
        .context("no source")?
        .set_property("uri", uri);
    let sink = bin
        .by_name("sink")
        .and_then(|s| s.downcast::<gst_app::AppSink>().ok())
        .context("no sink")?;
    pipeline
        .set_state(gst::State::Playing)
        .context("the decoder does not start")?;
    let bus = pipeline.bus().context("the pipeline has no bus")?;
    let mut count = 0;
    while !sink.is_eos() {
        if let Some(sample) = sink.try_pull_sample(gst::ClockTime::from_mseconds(100)) {
            count += 1;
            let time = running_time(&sample).unwrap_or(0.0);
            if wanted(time) {
                keep(picture(&sample, time)?);
            }
        }
        let message = bus.pop_filtered(&[gst::MessageType::Error]);
        if let Some(gst::MessageView::Error(error)) = message.as_ref().map(|m| m.view()) {
            bail!("decoding {uri}: {}", error.error());
        }
    }
    pipeline
        .set_state(gst::State::Null)
        .context("the decoder does not stop")?;
    Ok(count)
}

fn running_time(sample: &gst::Sample) -> Option<f64> {
    let segment = sample.segment()?.downcast_ref::<gst::ClockTime>()?;
    let time = segment.to_running_time(sample.buffer()?.pts()?)?;
    Some(time.nseconds() as f64 / 1e9)
}

fn picture(sample: &gst::Sample, time: f64) -> Result<Picture> {
    let structure = sample
        .caps()
        .and_then(|caps| caps.structure(0))
        .context("a picture without caps")?;
    let (width, height) = (
        structure.get::<i32>("width")? as u32,
        structure.get::<i32>("height")? as u32,
    );
    let map = sample
        .buffer()
        .context("a sample without a picture")?
        .map_readable()?;
    // RGBA rows are four bytes a pixel, so that GStreamer adds no padding.
    Ok(Picture {
        time,
        width,
        height,
        data: map.as_slice().to_vec(),
    })
}
