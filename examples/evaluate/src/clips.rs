//! Decodes clips one after the other into one stream with continuous timestamps.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use gst::prelude::*;

use crate::args::Clip;
use crate::perturb::{Perturbation, Perturber};

/// Formats that are passed on as decoded; all others are converted to one of them.
const FORMATS: &str = "video/x-raw,format={I420,GRAY8}";

/// One decoded frame and its position in the stream.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Position of its clip in the list.
    pub clip: usize,
    /// Its number within the clip, from 0 as in the labels.
    pub index: usize,
    /// The image with its caps; the buffer has the time in the stream, and the frame's number in the stream as its offset.
    pub sample: gst::Sample,
    /// Format and size of the image.
    pub info: gst_video::VideoInfo,
}

impl Frame {
    /// Number in the stream, from 0.
    pub fn number(&self) -> u64 {
        self.sample.buffer().map_or(0, gst::BufferRef::offset)
    }

    /// Time in the stream.
    pub fn time(&self) -> Option<Duration> {
        let pts = self.sample.buffer().and_then(gst::BufferRef::pts);
        pts.map(|time| Duration::from_nanos(time.nseconds()))
    }

    /// Frames per second; 25 if the file does not specify it.
    pub fn frame_rate(&self) -> f64 {
        match self.info.fps() {
            fps if fps.numer() > 0 => f64::from(fps.numer()) / f64::from(fps.denom()),
            _ => 25.0,
        }
    }

    /// The image, mapped for reading.
    pub fn map(&self) -> Result<gst_video::VideoFrameRef<&gst::BufferRef>> {
        let buffer = self.sample.buffer().context("a frame without a buffer")?;
        gst_video::VideoFrameRef::from_buffer_ref_readable(buffer, &self.info)
            .context("cannot map a frame for reading")
    }
}

/// Checks a clip given its number of frames.
type ClipCheck = dyn FnMut(&Clip, usize) -> Result<()> + Send;

/// All frames of the clips, in order; ends after the first error.
pub struct Frames {
    clips: Vec<Clip>,
    next_clip: usize,
    current: Option<Decoder>,
    perturber: Perturber,
    begin: gst::ClockTime,
    number: u64,
    counted_from: Option<gst::ClockTime>,
    on_clip_end: Box<ClipCheck>,
}

impl Frames {
    /// The frames of `clips` with `perturbations` applied.
    pub fn new(clips: &[Clip], perturbations: &[Perturbation]) -> Self {
        Self {
            clips: clips.to_vec(),
            next_clip: 0,
            current: None,
            perturber: Perturber::new(perturbations),
            begin: gst::ClockTime::ZERO,
            number: 0,
            counted_from: None,
            on_clip_end: Box::new(|_, _| Ok(())),
        }
    }

    /// Calls `check` at the end of every clip with its number of frames.
    pub fn checking_ends(mut self, check: impl FnMut(&Clip, usize) -> Result<()> + Send + 'static) -> Self {
        self.on_clip_end = Box::new(check);
        self
    }

    fn advance(&mut self) -> Result<Option<Frame>> {
        loop {
            let Some(decoder) = &mut self.current else {
                let Some(clip) = self.clips.get(self.next_clip) else {
                    return Ok(None);
                };
                self.current = Some(Decoder::open(clip)?);
                if clip.counted && self.counted_from.is_none() {
                    self.counted_from = Some(self.begin);
                }
                self.next_clip += 1;
                continue;
            };
            let clip = self.next_clip - 1;
            let Some((sample, index)) = decoder.pull()? else {
                (self.on_clip_end)(&self.clips[clip], decoder.frames)?;
                self.begin = decoder.end(self.begin);
                self.current = None;
                continue;
            };
            let time = decoder.time(self.begin, index, &sample);
            let since = self.counted_from.map(|from| time.saturating_sub(from));
            if let Some(mut frame) = self.perturber.apply(&sample, clip, index, since)? {
                stamp(&mut frame, time, self.number);
                self.number += 1;
                return Ok(Some(frame));
            }
        }
    }
}

impl Iterator for Frames {
    type Item = Result<Frame>;

    fn next(&mut self) -> Option<Self::Item> {
        let result = self.advance();
        if result.is_err() {
            self.clips.clear();
            self.current = None;
        }
        result.transpose()
    }
}

/// Sets the time and number of a frame in the stream.
fn stamp(frame: &mut Frame, time: gst::ClockTime, number: u64) {
    let fps = frame.info.fps();
    let Some(mut buffer) = frame.sample.buffer_owned() else {
        return;
    };
    let duration = (fps.numer() > 0)
        .then(|| gst::ClockTime::SECOND.mul_div_round(fps.denom() as u64, fps.numer() as u64))
        .flatten();
    let meta = buffer.make_mut();
    meta.set_pts(time);
    meta.set_dts(gst::ClockTime::NONE);
    meta.set_duration(duration);
    meta.set_offset(number);
    meta.set_offset_end(number + 1);
    meta.unset_flags(gst::BufferFlags::DISCONT);
    let caps = frame.sample.caps_owned();
    let mut builder = gst::Sample::builder().buffer(&buffer);
    if let Some(caps) = &caps {
        builder = builder.caps(caps);
    }
    frame.sample = builder.build();
}

/// How long to wait for a frame before checking for an error.
const PULL_TIMEOUT: gst::ClockTime = gst::ClockTime::from_mseconds(200);

/// A pipeline that decodes one file at the pace of its consumer.
struct Decoder {
    pipeline: gst::Pipeline,
    sink: gst_app::AppSink,
    name: String,
    frames: usize,
    first_pts: Option<gst::ClockTime>,
    last_pts: gst::ClockTime,
    fps: gst::Fraction,
}

impl Decoder {
    fn open(clip: &Clip) -> Result<Self> {
        let description = format!(
            "filesrc name=file ! decodebin ! videoconvert ! {FORMATS} ! appsink name=sink sync=false max-buffers=4"
        );
        let pipeline = gst::parse::launch(&description)
            .context("cannot build the decoder")?
            .downcast::<gst::Pipeline>()
            .map_err(|_| anyhow::anyhow!("the decoder is not a pipeline"))?;
        let file = pipeline.by_name("file").context("no file source")?;
        file.set_property("location", clip.path.to_string_lossy().as_ref());
        let sink = pipeline
            .by_name("sink")
            .and_then(|sink| sink.downcast::<gst_app::AppSink>().ok())
            .context("no application sink")?;
        let decoder = Self {
            pipeline,
            sink,
            name: clip.path.display().to_string(),
            frames: 0,
            first_pts: None,
            last_pts: gst::ClockTime::ZERO,
            fps: gst::Fraction::new(0, 1),
        };
        decoder
            .pipeline
            .set_state(gst::State::Playing)
            .with_context(|| format!("cannot play {}", decoder.name))?;
        Ok(decoder)
    }

    /// The next frame and its number, `None` at the end of the file.
    fn pull(&mut self) -> Result<Option<(gst::Sample, usize)>> {
        loop {
            if let Some(sample) = self.sink.try_pull_sample(PULL_TIMEOUT) {
                let index = self.frames;
                self.frames += 1;
                return Ok(Some((sample, index)));
            }
            // A failed decoder may never send EOS; the error is on the bus.
            fail_on_bus_error(&self.pipeline).with_context(|| format!("cannot decode {}", self.name))?;
            if self.sink.is_eos() {
                ensure!(self.frames > 0, "{} has no video", self.name);
                return Ok(None);
            }
        }
    }

    /// Time in the stream of frame `index`, for a clip that starts at `begin`.
    fn time(&mut self, begin: gst::ClockTime, index: usize, sample: &gst::Sample) -> gst::ClockTime {
        if let Some(fps) = sample
            .caps()
            .and_then(|c| c.structure(0)?.get::<gst::Fraction>("framerate").ok())
        {
            self.fps = fps;
        }
        if let Some(pts) = sample.buffer().and_then(gst::BufferRef::pts) {
            let first = *self.first_pts.get_or_insert(pts);
            self.last_pts = self.last_pts.max(pts.saturating_sub(first));
        }
        match frame_span(self.fps, index as u64) {
            Some(span) => begin + span,
            None => begin + self.last_pts,
        }
    }

    /// Start time of the next clip.
    fn end(&self, begin: gst::ClockTime) -> gst::ClockTime {
        frame_span(self.fps, self.frames as u64).map_or_else(
            || begin + self.last_pts + gst::ClockTime::from_mseconds(40),
            |span| begin + span,
        )
    }
}

impl Drop for Decoder {
    fn drop(&mut self) {
        // Nothing can be done if stopping fails.
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

/// Duration of `frames` frames; `None` for a variable frame rate.
fn frame_span(fps: gst::Fraction, frames: u64) -> Option<gst::ClockTime> {
    (fps.numer() > 0)
        .then(|| gst::ClockTime::SECOND.mul_div_round(frames * fps.denom() as u64, fps.numer() as u64))
        .flatten()
}

/// Returns an error message pending on the pipeline's bus as an error.
pub fn fail_on_bus_error(pipeline: &gst::Pipeline) -> Result<()> {
    let Some(bus) = pipeline.bus() else { return Ok(()) };
    while let Some(message) = bus.pop_filtered(&[gst::MessageType::Error]) {
        if let gst::MessageView::Error(error) = message.view() {
            let source = error.src().map(|s| s.name().to_string()).unwrap_or_default();
            bail!("{source}: {}", error.error());
        }
    }
    Ok(())
}
