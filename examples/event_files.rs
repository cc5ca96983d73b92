//! Records one file per event, with the seconds before and after it, named by its start time.
//!
//! ```text
//! cargo run --release --example event_files -- --source 'v4l2src ! decodebin' --out events
//! ```
//!
//! Shows how an application receives clips from `vaeanomalygate`: a clip starts with a buffer that has the flag DISCONT
//! and ends with the element message `clip-end`. Each clip is muxed by a small pipeline of its own, so its file is
//! complete at the end of the event, not at the begin of the next one.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, anyhow, bail};
use clap::Parser;
use gst::glib;
use gst::prelude::*;
use gstvaeanomaly::FrameResult;

/// Record one MP4 file per event.
#[derive(Parser, Debug)]
#[command(version, about)]
struct Args {
    /// Launch fragment of the video source
    #[arg(long, default_value = "v4l2src ! decodebin")]
    source: String,
    /// Folder for the files, created if missing
    #[arg(long, default_value = "events")]
    out: PathBuf,
    /// Seconds kept before an event
    #[arg(long, default_value_t = 5.0)]
    pre_roll: f64,
    /// Seconds kept after an event
    #[arg(long, default_value_t = 2.0)]
    post_roll: f64,
    /// Properties of vaeanomaly, for example "threshold=2 cues=motion"
    #[arg(long, default_value = "")]
    detector: String,
}

/// The file of the current clip.
struct Clip {
    pipeline: gst::Pipeline,
    input: gst_app::AppSrc,
    file: PathBuf,
}

impl Clip {
    /// Opens a file for a clip that starts with `sample`, a key frame.
    fn create(file: PathBuf, sample: &gst::Sample) -> Result<Self> {
        let pipeline = gst::Pipeline::new();
        let input = gst_app::AppSrc::builder()
            .format(gst::Format::Time)
            .handle_segment_change(true)
            .build();
        input.set_caps(sample.caps_owned().as_ref());
        let muxer = gst::ElementFactory::make("mp4mux").build()?;
        let output = gst::ElementFactory::make("filesink")
            .property("location", file.to_str())
            .build()?;
        pipeline.add_many([input.upcast_ref(), &muxer, &output])?;
        input.link_pads(Some("src"), &muxer, Some("video_%u"))?;
        muxer.link(&output)?;
        pipeline
            .set_state(gst::State::Playing)
            .with_context(|| format!("cannot write {}", file.display()))?;
        Ok(Clip {
            pipeline,
            input,
            file,
        })
    }

    fn write(&self, sample: &gst::Sample) -> Result<()> {
        self.input
            .push_sample(sample)
            .map(|_| ())
            .with_context(|| format!("cannot write {}", self.file.display()))
    }

    /// Completes the file.
    fn finish(self) -> Result<()> {
        self.input.end_of_stream().context("the clip has stopped")?;
        let bus = self.pipeline.bus().context("a pipeline has a bus")?;
        let ends = [gst::MessageType::Eos, gst::MessageType::Error];
        let message = bus.timed_pop_filtered(gst::ClockTime::from_seconds(10), &ends);
        self.pipeline.set_state(gst::State::Null)?;
        match message.as_ref().map(|message| message.view()) {
            Some(gst::MessageView::Eos(_)) => println!("{}", self.file.display()),
            Some(gst::MessageView::Error(error)) => bail!("{}: {}", self.file.display(), error.error()),
            _ => bail!("{} could not be completed", self.file.display()),
        }
        Ok(())
    }
}

/// Writes the gate's clips to files.
struct Recorder {
    folder: PathBuf,
    /// Date and time of running time 0, for live sources.
    began: Option<glib::DateTime>,
    clip: Option<Clip>,
}

impl Recorder {
    fn write(&mut self, sample: &gst::Sample) -> Result<()> {
        let buffer = sample.buffer().context("a sample has a buffer")?;
        if buffer.flags().contains(gst::BufferFlags::DISCONT) {
            self.end_clip()?;
        }
        if self.clip.is_none() {
            // Frames that pass because the detector is still learning belong to no event.
            let labelled = FrameResult::read(buffer).is_some_and(|found| found.prediction.label.is_some());
            if !labelled || buffer.flags().contains(gst::BufferFlags::DELTA_UNIT) {
                return Ok(());
            }
            let segment = sample
                .segment()
                .and_then(|segment| segment.downcast_ref::<gst::ClockTime>());
            let at = segment
                .and_then(|segment| segment.to_running_time(buffer.pts()))
                .unwrap_or_default();
            self.clip = Some(Clip::create(self.file(at)?, sample)?);
        }
        self.clip.as_ref().map_or(Ok(()), |clip| clip.write(sample))
    }

    fn end_clip(&mut self) -> Result<()> {
        self.clip.take().map_or(Ok(()), Clip::finish)
    }

    fn file(&self, at: gst::ClockTime) -> Result<PathBuf> {
        let name = match &self.began {
            Some(began) => began
                .add(glib::TimeSpan::from_microseconds(at.useconds() as i64))?
                .format("%Y-%m-%d_%H-%M-%S")?
                .to_string(),
            None => {
                let (minutes, ms) = (at.mseconds() / 60_000, at.mseconds() % 60_000);
                format!(
                    "{:02}-{:02}-{:02}.{:03}",
                    minutes / 60,
                    minutes % 60,
                    ms / 1000,
                    ms % 1000
                )
            }
        };
        Ok(self.folder.join(name + ".mp4"))
    }
}

fn build(args: &Args) -> Result<(gst::Pipeline, gst_app::AppSink)> {
    let nanoseconds = |seconds: f64| gst::ClockTime::from_seconds_f64(seconds).nseconds();
    // No keep-alive: a file holds its event only.
    let line = format!(
        "{} ! videoconvert ! video/x-raw,format=I420 ! vaeanomaly {} \
         ! x264enc pass=qual quantizer=23 bframes=0 speed-preset=veryfast key-int-max=20 ! h264parse \
         ! video/x-h264,stream-format=avc,alignment=au \
         ! vaeanomalygate keepalive-interval=0 pre-roll={} post-roll={} \
         ! appsink name=clips sync=false async=false",
        args.source,
        args.detector,
        nanoseconds(args.pre_roll),
        nanoseconds(args.post_roll),
    );
    let pipeline = gst::parse::launch(&line)?
        .downcast::<gst::Pipeline>()
        .map_err(|_| anyhow!("not a pipeline"))?;
    let clips = pipeline.by_name("clips").context("the element exists")?;
    let clips = clips.downcast().map_err(|_| anyhow!("clips is not an appsink"))?;
    Ok((pipeline, clips))
}

fn record(args: &Args, folder: &Path) -> Result<()> {
    let (pipeline, clips) = build(args)?;
    let recorder = Arc::new(Mutex::new(Recorder {
        folder: folder.into(),
        began: None,
        clip: None,
    }));
    let failed = Arc::new(Mutex::new(None));
    let (writer, failure) = (Arc::clone(&recorder), Arc::clone(&failed));
    let take = move |sink: &gst_app::AppSink| {
        let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
        let taken = writer
            .lock()
            .expect("no thread panics while it writes")
            .write(&sample);
        taken.map(|()| gst::FlowSuccess::Ok).map_err(|error| {
            failure
                .lock()
                .expect("no thread panics while it writes")
                .get_or_insert(error);
            gst::FlowError::Error
        })
    };
    clips.set_callbacks(gst_app::AppSinkCallbacks::builder().new_sample(take).build());

    let bus = pipeline.bus().context("a pipeline has a bus")?;
    // Runs in the streaming thread, so between the last frame of a clip and the first of the next.
    let ender = Arc::clone(&recorder);
    bus.set_sync_handler(move |_, message| {
        let fields = message
            .structure()
            .filter(|fields| fields.name() == "vaeanomalygate");
        if fields.is_some_and(|fields| fields.get::<&str>("event") == Ok("clip-end"))
            && let Err(error) = ender.lock().expect("no thread panics while it writes").end_clip()
        {
            eprintln!("{error:#}");
        }
        gst::BusSyncReply::Pass
    });
    let stop = bus.clone();
    ctrlc::set_handler(move || {
        let message = gst::message::Application::new(gst::Structure::new_empty("stop"));
        // Fails only while the pipeline is shutting down.
        let _ = stop.post(message);
    })?;

    if pipeline.set_state(gst::State::Paused)? == gst::StateChangeSuccess::NoPreroll {
        recorder.lock().expect("no thread panics while it writes").began = Some(glib::DateTime::now_local()?);
    }
    pipeline.set_state(gst::State::Playing)?;
    let ended = watch(&pipeline, &bus);
    pipeline.set_state(gst::State::Null)?;
    recorder
        .lock()
        .expect("no thread panics while it writes")
        .end_clip()?;
    failed
        .lock()
        .expect("no thread panics while it writes")
        .take()
        .map_or(ended, Err)
}

/// Runs until EOS, an error, or Ctrl-C.
fn watch(pipeline: &gst::Pipeline, bus: &gst::Bus) -> Result<()> {
    for message in bus.iter_timed(gst::ClockTime::NONE) {
        match message.view() {
            gst::MessageView::Eos(_) => break,
            gst::MessageView::Error(error) => bail!("{} {:?}", error.error(), error.debug()),
            gst::MessageView::Latency(_) => pipeline.recalculate_latency()?,
            gst::MessageView::Application(_) => {
                pipeline.send_event(gst::event::Eos::new());
            }
            _ => {}
        }
    }
    Ok(())
}

fn main() -> Result<()> {
    let args = Args::parse();
    gst::init()?;
    gstvaeanomaly::plugin_register_static()?;
    std::fs::create_dir_all(&args.out).with_context(|| format!("cannot create {}", args.out.display()))?;
    record(&args, &args.out)
}
