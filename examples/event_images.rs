//! Writes one JPEG per event: its strongest frame with boxes and heat map, and what was expected instead as an inset.
//!
//! ```text
//! cargo run --release --example event_images -- --source 'v4l2src ! decodebin' --out images
//! ```
//!
//! Shows how an application picks frames by their metadata: the frames of an event carry its number, and the one with the
//! highest score is kept until the event is over.

use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use clap::Parser;
use gst::prelude::*;
use gstvaeanomaly::FrameResult;

/// Write the strongest frame of every event as JPEG.
#[derive(Parser, Debug)]
#[command(version, about)]
struct Args {
    /// Launch fragment of the video source
    #[arg(long, default_value = "v4l2src ! decodebin")]
    source: String,
    /// Folder for the files, created if missing
    #[arg(long, default_value = "images")]
    out: PathBuf,
    /// What is drawn, as the property show of vaeanomalyoverlay
    #[arg(long, default_value = "boxes+map+state+reconstruction")]
    show: String,
    /// Properties of vaeanomaly, for example "threshold=2 cues=motion"
    #[arg(long, default_value = "")]
    detector: String,
}

/// The strongest frame of an event so far.
struct Strongest {
    event: NonZeroU64,
    score: f64,
    frame: gst::Sample,
}

impl Strongest {
    fn write(&self, folder: &Path) -> Result<()> {
        let caps = gst::Caps::builder("image/jpeg").build();
        let jpeg = gst_video::convert_sample(&self.frame, &caps, Some(gst::ClockTime::from_seconds(10)))
            .context("a frame cannot be encoded as JPEG")?;
        let content = jpeg.buffer().context("a JPEG without content")?.map_readable()?;
        let path = folder.join(format!("event-{:04}.jpg", self.event));
        std::fs::write(&path, content.as_slice()).with_context(|| path.display().to_string())?;
        println!("{}  score {:.2}", path.display(), self.score);
        Ok(())
    }
}

fn main() -> Result<()> {
    let args = Args::parse();
    gst::init()?;
    gstvaeanomaly::plugin_register_static()?;
    std::fs::create_dir_all(&args.out).with_context(|| args.out.display().to_string())?;

    let line = format!(
        "{} ! videoconvert ! vaeanomaly attach-map=true attach-reconstruction=true {} \
         ! vaeanomalyoverlay show={} ! appsink name=sink sync=false max-buffers=4",
        args.source, args.detector, args.show
    );
    let pipeline = gst::parse::launch(&line)?
        .downcast::<gst::Pipeline>()
        .map_err(|_| anyhow!("not a pipeline: {line}"))?;
    let sink = pipeline
        .by_name("sink")
        .and_downcast::<gst_app::AppSink>()
        .context("no sink")?;
    pipeline.set_state(gst::State::Playing)?;
    let mut strongest: Option<Strongest> = None;
    while let Ok(frame) = sink.pull_sample() {
        let result = frame.buffer().and_then(FrameResult::read);
        let Some(result) = result else { continue };
        if let Some(ended) = strongest.take_if(|best| Some(best.event) != result.event_id) {
            ended.write(&args.out)?;
        }
        let score = result.prediction.score;
        match result.event_id {
            Some(event) if strongest.as_ref().is_none_or(|best| score > best.score) => {
                strongest = Some(Strongest { event, score, frame });
            }
            _ => {}
        }
    }
    if let Some(last) = strongest {
        last.write(&args.out)?;
    }
    let error = pipeline
        .bus()
        .and_then(|bus| bus.pop_filtered(&[gst::MessageType::Error]));
    pipeline.set_state(gst::State::Null)?;
    match error.as_ref().map(|message| message.view()) {
        Some(gst::MessageView::Error(error)) => bail!("{}", error.error()),
        _ => Ok(()),
    }
}
