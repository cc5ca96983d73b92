//! Videos through one element, as one stream.

use std::path::Path;

use anyhow::{Context, Result, anyhow, bail, ensure};
use gst::prelude::*;
use gstvaeanomaly::FrameResult;
use gstvaeanomaly::detector::{Label, State};

/// How long to wait for a frame before checking for an error.
const PATIENCE: gst::ClockTime = gst::ClockTime::from_mseconds(200);
/// Time between two videos, and of a frame whose duration is unknown.
const PAUSE: gst::ClockTime = gst::ClockTime::from_seconds(1);
const UNKNOWN: gst::ClockTime = gst::ClockTime::from_mseconds(40);

/// What became of the frames of a video.
#[derive(Debug, Default)]
pub struct Summary {
    pub frames: u64,
    pub labelled: u64,
    /// Frames labelled as anomalies.
    pub alarms: u64,
    /// Life-cycle state after the last frame.
    pub state: &'static str,
    /// Raw scores of the labelled frames.
    scores: Vec<f64>,
}

impl Summary {
    pub fn add(&mut self, other: Self) {
        self.frames += other.frames;
        self.labelled += other.labelled;
        self.alarms += other.alarms;
        self.state = other.state;
        self.scores.extend(other.scores);
    }

    /// The threshold that this share of the labelled frames exceeds.
    pub fn threshold(&self, rate: f64) -> Option<f64> {
        let mut scores = self.scores.clone();
        scores.sort_by(f64::total_cmp);
        let above = (rate * scores.len() as f64).floor() as usize;
        // Rounded up to what is printed.
        let score = scores.get(scores.len().checked_sub(above + 1)?)?;
        Some((score * 100.0).ceil() / 100.0)
    }
}

/// The element with a source and a sink.
pub struct Stream {
    pipeline: gst::Pipeline,
    source: gst_app::AppSrc,
    sink: gst_app::AppSink,
    /// End of the last frame.
    end: gst::ClockTime,
    state: &'static str,
}

impl Stream {
    /// `settings` are properties as in a gst-launch-1.0 line.
    pub fn open(settings: &str, model: &Path) -> Result<Self> {
        let line = format!(
            "appsrc name=source format=time ! vaeanomaly name=detector max-lateness=0 {settings} drop-normal=false \
             ! appsink name=sink sync=false"
        );
        let (pipeline, sink) = parse(&line)?;
        let detector = pipeline.by_name("detector").context("no detector")?;
        // A location is no pattern here.
        let location = model
            .to_str()
            .context("the model's path is not UTF-8")?
            .replace('%', "%%");
        detector.set_property("model-location", location);
        let source = pipeline
            .by_name("source")
            .and_then(|e| e.downcast::<gst_app::AppSrc>().ok());
        let stream = Self {
            source: source.context("no source")?,
            pipeline,
            sink,
            end: gst::ClockTime::ZERO,
            state: "warming-up",
        };
        if stream.pipeline.set_state(gst::State::Playing).is_err() {
            check(&stream.pipeline)?;
            bail!("the element does not start");
        }
        Ok(stream)
    }

    /// Sends all frames of a video.
    pub fn play(&mut self, video: &Path) -> Result<Summary> {
        let line = "filesrc name=file ! decodebin ! videoconvert ! video/x-raw,format={I420,GRAY8} \
             ! appsink name=sink sync=false max-buffers=4";
        let (decoder, frames) = parse(line)?;
        let file = decoder.by_name("file").context("no file source")?;
        file.set_property("location", video.to_string_lossy().as_ref());
        decoder
            .set_state(gst::State::Playing)
            .with_context(|| format!("cannot play {}", video.display()))?;
        let played = self.play_frames(&decoder, &frames);
        decoder.set_state(gst::State::Null)?;
        let summary = played.with_context(|| video.display().to_string())?;
        ensure!(summary.frames > 0, "{} has no video", video.display());
        self.end += PAUSE;
        self.state = summary.state;
        Ok(summary)
    }

    fn play_frames(&mut self, decoder: &gst::Pipeline, frames: &gst_app::AppSink) -> Result<Summary> {
        let mut summary = Summary::default();
        let begin = self.end;
        let mut first = None;
        while let Some(sample) = pull(decoder, frames)? {
            let mut buffer = sample.buffer_owned().context("a frame without a buffer")?;
            let duration = buffer.duration().unwrap_or(UNKNOWN);
            let time = match buffer.pts() {
                Some(pts) => begin + pts.saturating_sub(*first.get_or_insert(pts)),
                None => self.end,
            };
            self.end = time + duration;
            {
                let buffer = buffer.make_mut();
                buffer.set_pts(time);
                buffer.set_dts(gst::ClockTime::NONE);
            }
            let caps = sample.caps_owned().context("a frame without caps")?;
            let sample = gst::Sample::builder().buffer(&buffer).caps(&caps).build();
            self.source
                .push_sample(&sample)
                .map_err(|e| anyhow!("the element takes no frame: {e}"))?;
            let scored = pull(&self.pipeline, &self.sink)?.context("the element has ended")?;
            let result = scored
                .buffer()
                .and_then(FrameResult::read)
                .context("a frame was not scored")?;
            let prediction = result.prediction;
            summary.frames += 1;
            summary.state = prediction.state.as_str();
            if prediction.label.is_some() && matches!(prediction.state, State::Detecting | State::Frozen) {
                summary.labelled += 1;
                summary.alarms += u64::from(prediction.label == Some(Label::Anomaly));
                summary.scores.push(prediction.raw_score);
            }
        }
        Ok(summary)
    }

    /// Stops the element, which writes what it has learnt. Returns the life-cycle state.
    pub fn close(self) -> Result<&'static str> {
        self.pipeline.set_state(gst::State::Null)?;
        Ok(self.state)
    }
}

/// A pipeline and its `appsink name=sink`.
fn parse(line: &str) -> Result<(gst::Pipeline, gst_app::AppSink)> {
    let pipeline = gst::parse::launch(line)?;
    let pipeline = pipeline
        .downcast::<gst::Pipeline>()
        .map_err(|_| anyhow!("no pipeline"))?;
    let sink = pipeline
        .by_name("sink")
        .and_then(|e| e.downcast::<gst_app::AppSink>().ok());
    Ok((pipeline, sink.context("no sink")?))
}

/// The next frame; `None` at the end of the stream.
fn pull(pipeline: &gst::Pipeline, sink: &gst_app::AppSink) -> Result<Option<gst::Sample>> {
    loop {
        if let Some(sample) = sink.try_pull_sample(PATIENCE) {
            return Ok(Some(sample));
        }
        check(pipeline)?;
        if sink.is_eos() {
            return Ok(None);
        }
    }
}

/// Fails with the error on the bus, and with the warning that a model was not written or not read.
fn check(pipeline: &gst::Pipeline) -> Result<()> {
    let Some(bus) = pipeline.bus() else { return Ok(()) };
    while let Some(message) = bus.pop_filtered(&[gst::MessageType::Error]) {
        if let gst::MessageView::Error(error) = message.view() {
            let source = error.src().map(|s| s.name().to_string()).unwrap_or_default();
            bail!("{source}: {}", error.error());
        }
    }
    Ok(())
}
