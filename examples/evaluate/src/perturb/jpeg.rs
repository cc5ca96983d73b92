//! JPEG compression and decompression with GStreamer's elements.

use anyhow::{Context, Result};
use gst::prelude::*;

use crate::clips::{Frame, fail_on_bus_error};

/// A pipeline with one output frame per input frame.
pub struct JpegRoundTrip {
    pipeline: gst::Pipeline,
    source: gst_app::AppSrc,
    sink: gst_app::AppSink,
    frames: u64,
}

impl JpegRoundTrip {
    /// `quality` as in `jpegenc`, 1..=100.
    pub fn new(quality: u32) -> Result<Self> {
        let description = format!(
            "appsrc name=source format=time ! jpegenc quality={quality} ! jpegdec ! videoconvert \
             ! video/x-raw,format={{I420,GRAY8}} ! appsink name=sink sync=false"
        );
        let pipeline = gst::parse::launch(&description)
            .context("jpegenc and jpegdec (gstreamer1.0-plugins-good) are needed for jpeg:QUALITY")?
            .downcast::<gst::Pipeline>()
            .map_err(|_| anyhow::anyhow!("the JPEG stage is not a pipeline"))?;
        let by_name = |name| pipeline.by_name(name);
        let source = by_name("source")
            .and_then(|e| e.downcast().ok())
            .context("no application source")?;
        let sink = by_name("sink")
            .and_then(|e| e.downcast().ok())
            .context("no application sink")?;
        pipeline
            .set_state(gst::State::Playing)
            .context("cannot start the JPEG stage")?;
        Ok(Self {
            pipeline,
            source,
            sink,
            frames: 0,
        })
    }

    /// Compresses and decompresses. The caps stay unchanged: the stage does not convert the sample values.
    pub fn apply(&mut self, frame: Frame) -> Result<Frame> {
        let caps = frame.sample.caps_owned().context("a frame without caps")?;
        let mut buffer = frame.sample.buffer_owned().context("a frame without a buffer")?;
        // Clips restart at zero, but this stage needs continuous times.
        buffer
            .make_mut()
            .set_pts(gst::ClockTime::from_mseconds(40) * self.frames);
        buffer.make_mut().set_dts(gst::ClockTime::NONE);
        self.frames += 1;
        let sample = gst::Sample::builder().buffer(&buffer).caps(&caps).build();
        self.source
            .push_sample(&sample)
            .context("the JPEG stage rejected a frame")?;
        let Ok(decoded) = self.sink.pull_sample() else {
            fail_on_bus_error(&self.pipeline)?;
            anyhow::bail!("the JPEG stage ended");
        };
        let buffer = decoded.buffer_owned().context("a frame without a buffer")?;
        let sample = gst::Sample::builder().buffer(&buffer).caps(&caps).build();
        Ok(Frame { sample, ..frame })
    }
}

impl Drop for JpegRoundTrip {
    fn drop(&mut self) {
        // Nothing can be done if stopping fails.
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}
