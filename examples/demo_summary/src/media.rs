//! Small pipelines: length and frames of a video, the full recording for comparison, images.

use std::path::Path;

use anyhow::{Context, Result, bail};
use gst::prelude::*;

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

/// Length of a video in seconds and its frame rate, each if known.
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
    // The pipeline is discarded; nothing is lost if it does not stop cleanly.
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

/// Decodes a video and passes each frame with its running time in seconds to `visit`; returns the number of frames.
pub fn for_each_frame(uri: &str, mut visit: impl FnMut(f64, &gst::Sample) -> Result<()>) -> Result<u64> {
    let description =
        "uridecodebin name=source ! videoconvert ! video/x-raw ! appsink name=sink sync=false max-buffers=4";
    let pipeline = gst::parse::launch(description)?;
    let bin = pipeline
        .downcast_ref::<gst::Bin>()
        .context("the description is not a pipeline")?;
    bin.by_name("source")
        .context("no source")?
        .set_property("uri", uri);
    let sink = bin
        .by_name("sink")
        .and_downcast::<gst_app::AppSink>()
        .context("no sink")?;
    pipeline
        .set_state(gst::State::Playing)
        .context("the decoder does not start")?;
    let bus = pipeline.bus().context("the pipeline has no bus")?;
    let mut count = 0;
    while !sink.is_eos() {
        if let Some(sample) = sink.try_pull_sample(gst::ClockTime::from_mseconds(100)) {
            count += 1;
            visit(running_time(&sample).unwrap_or(0.0), &sample)?;
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

/// Running time of a sample in seconds.
fn running_time(sample: &gst::Sample) -> Option<f64> {
    let segment = sample.segment()?.downcast_ref::<gst::ClockTime>()?;
    let time = segment.to_running_time(sample.buffer()?.pts()?)?;
    Some(time.nseconds() as f64 / 1e9)
}

/// Width and height of a raw or encoded image in pixels.
pub fn size(sample: &gst::Sample) -> Result<(i32, i32)> {
    let structure = sample
        .caps()
        .and_then(|caps| caps.structure(0))
        .context("a sample without caps")?;
    Ok((structure.get("width")?, structure.get("height")?))
}

/// Renders an SVG document of the given size in pixels and writes it as PNG.
pub fn write_svg_as_png(svg: &str, (width, height): (i32, i32), file: &Path) -> Result<()> {
    let description = format!(
        "appsrc name=source caps=image/svg+xml,width={width},height={height},framerate=0/1 ! rsvgdec \
         ! videoconvert ! video/x-raw,format=RGB ! pngenc ! filesink name=sink"
    );
    let pipeline = gst::parse::launch(&description)
        .context("images need rsvgdec (gstreamer1.0-plugins-bad) and pngenc (gstreamer1.0-plugins-good)")?;
    let bin = pipeline
        .downcast_ref::<gst::Bin>()
        .context("the description is not a pipeline")?;
    bin.by_name("sink")
        .context("no sink")?
        .set_property("location", file.to_string_lossy().as_ref());
    let source = bin
        .by_name("source")
        .and_downcast::<gst_app::AppSrc>()
        .context("no source")?;
    source.push_buffer(gst::Buffer::from_slice(svg.to_owned().into_bytes()))?;
    source.end_of_stream()?;
    run(&pipeline).with_context(|| format!("cannot write {}", file.display()))
}
