//! Encodes images into a file: appsrc, x264, a muxer.

use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, bail};
use gst::prelude::*;

/// Settings of a recording.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `.mp4` or `.mkv`.
    pub file: PathBuf,
    pub width: u32,
    pub height: u32,
    pub fps: gst::Fraction,
    /// kbit/s.
    pub bitrate: u32,
}

/// A running encoder that takes one image at a time.
pub struct Recorder {
    pipeline: gst::Pipeline,
    source: gst_app::AppSrc,
    fps: gst::Fraction,
    frame: u64,
}

impl Recorder {
    pub fn new(settings: &Settings) -> Result<Self> {
        let muxer = match settings.file.extension().and_then(|e| e.to_str()) {
            Some("mkv") => "matroskamux",
            _ => "mp4mux faststart=true",
        };
        // Two seconds between key frames, as surveillance cameras do.
        let keys = (2 * settings.fps.numer() / settings.fps.denom()).max(1);
        let description = format!(
            "appsrc name=source format=time block=true max-buffers=8 ! videoconvert ! video/x-raw,format=I420 \
             ! x264enc bitrate={} key-int-max={keys} speed-preset=faster bframes=0 ! h264parse ! {muxer} \
             ! filesink name=sink",
            settings.bitrate
        );
        let pipeline = gst::parse::launch(&description)
            .context("the encoder needs x264enc (gstreamer1.0-plugins-ugly) and the muxers of plugins-good")?
            .downcast::<gst::Pipeline>()
            .map_err(|_| anyhow!("the description is not a pipeline"))?;
        let element = |name: &str| pipeline.by_name(name).ok_or_else(|| anyhow!("no element {name}"));
        element("sink")?.set_property("location", settings.file.to_string_lossy().as_ref());
        let source = element("source")?
            .downcast::<gst_app::AppSrc>()
            .map_err(|_| anyhow!("the source is not an appsrc"))?;
        source.set_caps(Some(
            &gst::Caps::builder("video/x-raw")
                .field("format", "RGBx")
                .field("width", settings.width as i32)
                .field("height", settings.height as i32)
                .field("framerate", settings.fps)
                .build(),
        ));
        pipeline
            .set_state(gst::State::Playing)
            .context("the encoder does not start")?;
        Ok(Self {
            pipeline,
            source,
            fps: settings.fps,
            frame: 0,
        })
    }

    /// Encodes one image: RGBx rows without padding.
    pub fn push(&mut self, image: &[u8]) -> Result<()> {
        let mut buffer = gst::Buffer::from_slice(image.to_vec());
        let time = |frame: u64| {
            let second = gst::ClockTime::SECOND.nseconds();
            frame.mul_div_round(second * self.fps.denom() as u64, self.fps.numer() as u64)
        };
        let (from, to) = (time(self.frame), time(self.frame + 1));
        let (Some(from), Some(to)) = (from, to) else {
            bail!("frame {} is beyond the range of timestamps", self.frame)
        };
        let buffer_ref = buffer.get_mut().context("the new buffer is shared")?;
        buffer_ref.set_pts(gst::ClockTime::from_nseconds(from));
        buffer_ref.set_duration(gst::ClockTime::from_nseconds(to - from));
        self.frame += 1;
        match self.source.push_buffer(buffer) {
            Ok(_) => Ok(()),
            Err(flow) => Err(self
                .failure()
                .unwrap_or_else(|| anyhow!("the encoder rejected a frame: {flow}"))),
        }
    }

    /// Completes and closes the file.
    pub fn finish(self) -> Result<()> {
        self.source.end_of_stream()?;
        let bus = self.pipeline.bus().context("the pipeline has no bus")?;
        let types = [gst::MessageType::Eos, gst::MessageType::Error];
        let message = bus.timed_pop_filtered(gst::ClockTime::NONE, &types);
        if let Some(gst::MessageView::Error(error)) = message.as_ref().map(|m| m.view()) {
            bail!("recording: {}", error.error());
        }
        Ok(())
    }

    /// The pending error message of the pipeline, if any.
    fn failure(&self) -> Option<anyhow::Error> {
        let message = self.pipeline.bus()?.pop_filtered(&[gst::MessageType::Error])?;
        match message.view() {
            gst::MessageView::Error(error) => Some(anyhow!("recording: {}", error.error())),
            _ => None,
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        // Nothing can be done if stopping fails.
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}
