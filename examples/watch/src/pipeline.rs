//! The pipeline of a camera.
//!
//! ```text
//! encoded:  source - parsebin - tee - decodebin - detector - tee - fakesink
//!                                |                        |- overlay - jpegenc - live images, thumbnails
//!                                +- gate (follows the detector) - recorder
//! raw:      source - detector - tee - fakesink
//!                                |- overlay - jpegenc - live images, thumbnails
//!                                +- encoder - gate (follows the detector) - recorder
//! ```
//!
//! H.264 and H.265 are recorded as the camera sent them. Everything else is encoded as H.264 first.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use gst::prelude::*;

use crate::config::{CameraConfig, Source};
use crate::recorder::Sink;
use crate::street;

/// What the program does with frames.
pub trait Observer: Send + Sync + 'static {
    /// A frame leaves the detector, in the streaming thread. Returns whether its image is wanted.
    fn frame(&self, buffer: &gst::BufferRef, running_time: Option<gst::ClockTime>) -> bool;
    /// The image of a wanted frame, as JPEG with the overlay.
    fn image(&self, pts: Option<gst::ClockTime>, jpeg: &[u8]);
}

/// A pipeline that has not started yet.
#[derive(Debug)]
pub struct Pipeline {
    pub pipeline: gst::Pipeline,
    pub detector: gst::Element,
    pub overlay: gst::Element,
    pub gate: Option<gst::Element>,
}

/// Elements that the source is linked to once its format is known.
#[derive(Clone, Debug)]
struct Parts {
    pipeline: gst::glib::WeakRef<gst::Pipeline>,
    /// Sink of the analysis: raw video in any format.
    analysis: gst::Pad,
    /// Behind the detector; for recording of raw sources.
    analysed: gst::Element,
    /// Sink of the recording: encoded video.
    gate: Option<gst::Element>,
    /// Set when the video stream was found; others are ignored.
    linked: Arc<AtomicBool>,
}

/// Builds the pipeline of a camera.
///
/// # Errors
/// An element is missing.
pub fn build(
    config: &CameraConfig,
    observer: &Arc<impl Observer>,
    recorder: Option<Sink>,
) -> Result<Pipeline> {
    let pipeline = gst::Pipeline::new();
    let convert = make("videoconvert")?;
    let format = gst::ElementFactory::make("capsfilter")
        .property(
            "caps",
            gst::Caps::builder("video/x-raw").field("format", "I420").build(),
        )
        .build()?;
    let detector = gst::ElementFactory::make("vaeanomaly").name("detector").build()?;
    detector.set_property("attach-map", true);
    let tee = gst::ElementFactory::make("tee")
        .property("allow-not-linked", true)
        .build()?;
    // A file is played in the time of its frames; live sources have their own pace.
    let paced = config.realtime && matches!(config.source, Source::Uri(_));
    let end = gst::ElementFactory::make("fakesink")
        .property("sync", paced)
        .build()?;
    end.set_property("enable-last-sample", false);
    let end_queue = make("queue")?;
    pipeline.add_many([&convert, &format, &detector, &tee, &end_queue, &end])?;
    let first = match config.max_rate {
        Some(rate) => {
            let limiter = limiter(&pipeline, rate)?;
            limiter.1.link(&convert)?;
            limiter.0
        }
        None => convert.clone(),
    };
    gst::Element::link_many([&convert, &format, &detector, &tee, &end_queue, &end])?;
    let overlay = view(config, &pipeline, &tee, &detector, observer)?;
    let gate = recorder.map(|recorder| record(&pipeline, recorder)).transpose()?;
    let parts = Parts {
        pipeline: pipeline.downgrade(),
        analysis: first.static_pad("sink").context("a converter has a sink")?,
        analysed: tee,
        gate: gate.clone(),
        linked: Arc::default(),
    };
    source(config, &pipeline, &parts)?;
    Ok(Pipeline {
        pipeline,
        detector,
        overlay,
        gate,
    })
}

fn make(factory: &str) -> Result<gst::Element> {
    gst::ElementFactory::make(factory)
        .build()
        .with_context(|| format!("the element {factory} is not installed"))
}

/// The end of a branch, which calls `take` in its streaming thread.
fn sink(take: impl Fn(gst::Sample) + Send + 'static) -> gst_app::AppSink {
    let take = move |sink: &gst_app::AppSink| {
        take(sink.pull_sample().map_err(|_| gst::FlowError::Eos)?);
        Ok(gst::FlowSuccess::Ok)
    };
    gst_app::AppSink::builder()
        .sync(false)
        .async_(false)
        .enable_last_sample(false)
        .callbacks(gst_app::AppSinkCallbacks::builder().new_sample(take).build())
        .build()
}

/// At most `rate` frames a second: the first and the last element.
fn limiter(pipeline: &gst::Pipeline, rate: f64) -> Result<(gst::Element, gst::Element)> {
    let limiter = gst::ElementFactory::make("videorate")
        .property("drop-only", true)
        .build()?;
    let most = gst::Fraction::approximate_f64(rate).context("a rate is a number")?;
    let rates = gst::FractionRange::new(gst::Fraction::new(0, 1), most);
    let caps = gst::Caps::builder("video/x-raw")
        .field("framerate", rates)
        .build();
    let filter = gst::ElementFactory::make("capsfilter")
        .property("caps", caps)
        .build()?;
    pipeline.add_many([&limiter, &filter])?;
    limiter.link(&filter)?;
    Ok((limiter, filter))
}

/// The branch of live images and thumbnails. Returns the overlay.
fn view(
    config: &CameraConfig,
    pipeline: &gst::Pipeline,
    tee: &gst::Element,
    detector: &gst::Element,
    observer: &Arc<impl Observer>,
) -> Result<gst::Element> {
    let queue = gst::ElementFactory::make("queue")
        .property("max-size-buffers", 2_u32)
        .build()?;
    queue.set_property_from_str("leaky", "downstream");
    let scale = make("videoscale")?;
    let size = gst::ElementFactory::make("capsfilter")
        .property(
            "caps",
            gst::Caps::builder("video/x-raw")
                .field("width", gst::IntRange::new(1, config.live_width as i32))
                .field("pixel-aspect-ratio", gst::Fraction::new(1, 1))
                .build(),
        )
        .build()?;
    let overlay = gst::ElementFactory::make("vaeanomalyoverlay").build()?;
    let convert = make("videoconvert")?;
    let encoder = gst::ElementFactory::make("jpegenc")
        .property("quality", 75_i32)
        .build()?;
    let show = Arc::clone(observer);
    let sink = sink(move |sample| {
        if let Some(buffer) = sample.buffer()
            && let Ok(jpeg) = buffer.map_readable()
        {
            show.image(buffer.pts(), &jpeg);
        }
    });
    let elements = [
        &queue,
        &scale,
        &size,
        &overlay,
        &convert,
        &encoder,
        sink.upcast_ref(),
    ];
    pipeline.add_many(elements)?;
    gst::Element::link_many(elements)?;
    let wanted = Arc::new(AtomicBool::new(false));
    // Both probes run in the detector's streaming thread, one after the other for each frame.
    let (set, look) = (Arc::clone(&wanted), Arc::clone(observer));
    let output = detector
        .static_pad("src")
        .context("the detector has a source pad")?;
    output.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
        if let Some(buffer) = info.buffer() {
            let running_time = pad.sticky_event::<gst::event::Segment>(0).and_then(|segment| {
                let segment = segment.segment().downcast_ref::<gst::ClockTime>()?;
                segment.to_running_time(buffer.pts())
            });
            set.store(look.frame(buffer, running_time), Ordering::Relaxed);
        }
        gst::PadProbeReturn::Ok
    });
    let input = queue.static_pad("sink").context("a queue has a sink")?;
    input.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
        match wanted.load(Ordering::Relaxed) {
            true => gst::PadProbeReturn::Ok,
            false => gst::PadProbeReturn::Handled,
        }
    });
    tee.link(&queue)?;
    Ok(overlay)
}

/// The branch of the clips. Returns the gate.
fn record(pipeline: &gst::Pipeline, recorder: Sink) -> Result<gst::Element> {
    let gate = gst::ElementFactory::make("vaeanomalygate")
        .property("follow", "detector")
        .property("keepalive-interval", 0_u64)
        .build()?;
    let frames = recorder.clone();
    let sink = sink(move |sample| frames.frame(sample));
    pipeline.add_many([&gate, sink.upcast_ref()])?;
    gate.link(&sink)?;
    // In the gate's streaming thread, so in the order of the frames.
    let bus = pipeline.bus().context("a pipeline has a bus")?;
    bus.set_sync_handler(move |_, message| match message.structure() {
        Some(fields) if fields.name() == "vaeanomalygate" => {
            recorder.message(fields);
            gst::BusSyncReply::Drop
        }
        _ => gst::BusSyncReply::Pass,
    });
    Ok(gate)
}

/// Adds the source; it is linked when its format is known.
fn source(config: &CameraConfig, pipeline: &gst::Pipeline, parts: &Parts) -> Result<()> {
    match &config.source {
        Source::Device(path) => {
            let source = make("v4l2src")?;
            source.set_property("device", path.to_string_lossy().as_ref());
            pipeline.add(&source)?;
            let output = source.static_pad("src").context("a camera has a source pad")?;
            parts.decode(&output, false)
        }
        Source::Rtsp(uri) => {
            let source = make("rtspsrc")?;
            source.set_property("location", uri);
            source.set_property("latency", config.latency.as_millis() as u32);
            if !uri.starts_with("rtspu") {
                source.set_property_from_str("protocols", "tcp");
            }
            pipeline.add(&source)?;
            parts.parse_pads(&source);
            Ok(())
        }
        Source::Uri(uri) => {
            let source = make("urisourcebin")?;
            source.set_property("uri", uri);
            pipeline.add(&source)?;
            parts.parse_pads(&source);
            Ok(())
        }
        Source::Street { seed } => {
            let source = street::source(pipeline, *seed, config.realtime)?;
            let output = source.static_pad("src").context("a source has a source pad")?;
            parts.raw(&output)
        }
    }
}

impl Parts {
    fn pipeline(&self) -> Result<gst::Pipeline> {
        self.pipeline.upgrade().context("the pipeline is gone")
    }

    /// Adds an element to the playing pipeline.
    fn add(&self, factory: &str) -> Result<gst::Element> {
        let element = make(factory)?;
        self.pipeline()?.add(&element)?;
        Ok(element)
    }

    /// Posts a failure that was found in a streaming thread.
    fn fail(&self, result: Result<()>) {
        if let (Err(error), Ok(pipeline)) = (result, self.pipeline()) {
            gst::element_error!(pipeline, gst::CoreError::Negotiation, ("{error:#}"));
        }
    }

    /// Sends every pad that the source adds through a parser of its own.
    fn parse_pads(&self, source: &gst::Element) {
        let parts = self.clone();
        source.connect_pad_added(move |_, pad| {
            let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
            let media = caps
                .structure(0)
                .and_then(|fields| fields.get::<&str>("media").ok());
            if pad.direction() == gst::PadDirection::Src && media.is_none_or(|media| media == "video") {
                parts.fail(parts.parse(pad));
            }
        });
    }

    fn parse(&self, pad: &gst::Pad) -> Result<()> {
        let parser = self.add("parsebin")?;
        let parts = self.clone();
        parser.connect_pad_added(move |_, pad| parts.fail(parts.stream(pad)));
        pad.link(&parser.static_pad("sink").context("a parser has a sink")?)?;
        parser.sync_state_with_parent()?;
        Ok(())
    }

    /// An elementary stream: takes the first one of video.
    fn stream(&self, pad: &gst::Pad) -> Result<()> {
        let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
        let name = caps
            .structure(0)
            .map_or("", |fields| fields.name().as_str())
            .to_owned();
        let is_video = name.starts_with("video/") || name.starts_with("image/");
        if !is_video || self.linked.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        let parser = match name.as_str() {
            "video/x-h264" => "h264parse",
            "video/x-h265" => "h265parse",
            "video/x-raw" => return self.raw(pad),
            _ => return self.decode(pad, false),
        };
        let Some(gate) = &self.gate else {
            return self.decode(pad, true);
        };
        let tee = self.add("tee")?;
        pad.link(&tee.static_pad("sink").context("a tee has a sink")?)?;
        let copy = self.add("queue")?;
        let parser = self.add(parser)?;
        parser.set_property("config-interval", -1_i32);
        tee.link(&copy)?;
        self.gated(&[&copy, &parser], &name, gate)?;
        let analysed = self.add("queue")?;
        tee.link(&analysed)?;
        self.decode(
            &analysed.static_pad("src").context("a queue has a source pad")?,
            true,
        )?;
        for element in [&analysed, &parser, &copy, &tee] {
            element.sync_state_with_parent()?;
        }
        Ok(())
    }

    /// Links the last of these elements to the gate, in the form that MP4 takes.
    fn gated(&self, elements: &[&gst::Element], name: &str, gate: &gst::Element) -> Result<()> {
        let form = if name == "video/x-h265" { "hvc1" } else { "avc" };
        let caps = gst::Caps::builder(name)
            .field("stream-format", form)
            .field("alignment", "au")
            .build();
        gst::Element::link_many(elements.iter().copied())?;
        let last = elements.last().context("there is an element")?;
        Ok(last.link_filtered(gate, &caps)?)
    }

    /// Decodes a stream for the analysis. `copied`: it is recorded as it is; otherwise what is decoded is encoded again.
    fn decode(&self, pad: &gst::Pad, copied: bool) -> Result<()> {
        let decoder = self.add("decodebin")?;
        let parts = self.clone();
        decoder.connect_pad_added(move |_, pad| {
            let result = match copied {
                true => pad.link(&parts.analysis).map(drop).map_err(Into::into),
                false => parts.raw(pad),
            };
            parts.fail(result);
        });
        pad.link(&decoder.static_pad("sink").context("a decoder has a sink")?)?;
        decoder.sync_state_with_parent()?;
        Ok(())
    }

    /// Raw video: analysed, and encoded behind the detector for the recording.
    fn raw(&self, pad: &gst::Pad) -> Result<()> {
        pad.link(&self.analysis)?;
        let Some(gate) = &self.gate else {
            return Ok(());
        };
        let queue = self.add("queue")?;
        let convert = self.add("videoconvert")?;
        let encoder = self.encoder()?;
        let parser = self.add("h264parse")?;
        let elements = [&queue, &convert, &encoder, &parser];
        self.gated(&elements, "video/x-h264", gate)?;
        for element in elements.into_iter().rev() {
            element.sync_state_with_parent()?;
        }
        Ok(self.analysed.link(&queue)?)
    }

    /// The first installed encoder, with a key frame every two seconds at 10 frames/s.
    fn encoder(&self) -> Result<gst::Element> {
        if let Ok(encoder) = self.add("x264enc") {
            encoder.set_property_from_str("tune", "zerolatency");
            encoder.set_property_from_str("speed-preset", "ultrafast");
            encoder.set_property_from_str("pass", "qual");
            encoder.set_property("quantizer", 25_u32);
            encoder.set_property("key-int-max", 20_u32);
            encoder.set_property("threads", 1_u32);
            return Ok(encoder);
        }
        let encoder = self
            .add("openh264enc")
            .context("recording a raw source needs x264enc or openh264enc")?;
        encoder.set_property("gop-size", 20_u32);
        Ok(encoder)
    }
}
