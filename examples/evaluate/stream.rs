//! The clips through the real element, in a pipeline, every frame scored before it is learnt.

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use gst::prelude::*;

use crate::args::Setting;
use crate::clips::{Frame, Frames, fail_on_bus_error};

/// Settings of the element that one run is made with.
#[derive(Clone, Debug)]
pub struct ElementSettings {
    /// `device` property.
    pub device: String,
    /// `seed` property.
    pub seed: u64,
    /// Everything else.
    pub others: Vec<Setting>,
}

/// What the element said about one frame.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// Position of its clip in the list.
    pub clip: usize,
    /// Its number within the clip.
    pub index: usize,
    /// Time in the stream, seconds.
    pub time: f64,
    /// 0..1, 0.5 at the threshold.
    pub score: f64,
    /// Fused, smoothed, calibrated score.
    pub raw_score: f64,
    /// Threshold on the raw score.
    pub threshold: f64,
    /// Label `anomaly`.
    pub flagged: bool,
    /// State `detecting` or `frozen`: the threshold is trusted.
    pub trusted: bool,
    /// Which cue decided.
    pub cue: String,
    /// Strongest place in pixels: x, y, width, height.
    pub place: [u32; 4],
}

/// One pass of the whole stream.
#[derive(Clone, Debug, Default)]
pub struct Pass {
    /// All frames, the warm-up clips' too.
    pub verdicts: Vec<Verdict>,
    /// Time spent within the element.
    pub busy: Duration,
    /// Frame rate of the last frame.
    pub frame_rate: f64,
}

impl Pass {
    /// Frames that the element gets through in a second of its own time.
    pub fn frames_per_second(&self) -> Option<f64> {
        let seconds = self.busy.as_secs_f64();
        (seconds > 0.0).then(|| self.verdicts.len() as f64 / seconds)
    }
}

/// Makes the element and sets its properties.
///
/// # Errors
/// An unknown property or a value that it does not take is named.
pub fn make_element(settings: &ElementSettings) -> Result<gst::Element> {
    let element = gst::ElementFactory::make("vaeanomaly").build().context("the element vaeanomaly is missing")?;
    set(&element, "device", &settings.device)?;
    set(&element, "seed", &settings.seed.to_string())?;
    for Setting { name, value } in &settings.others {
        set(&element, name, value)?;
    }
    Ok(element)
}

/// Sets one property from text, as gst-launch does, but says what is wrong.
pub fn set(element: &gst::Element, name: &str, value: &str) -> Result<()> {
    let Some(property) = element.find_property(name) else {
        bail!("--set {name}: vaeanomaly has no such property");
    };
    ensure!(property.flags().contains(gst::glib::ParamFlags::WRITABLE), "--set {name}: the property is read-only");
    let refused = || format!("--set {name}: the property does not take the value '{value}'");
    if property.value_type() == gst::glib::Type::STRING {
        element.set_property(name, value);
        return Ok(());
    }
    let mut parsed = gst::glib::Value::deserialize_with_pspec(value, &property).with_context(refused)?;
    // `validate` clamps into the range and says so.
    ensure!(!bool::from(property.value_validate(&mut parsed)), refused());
    element.set_property_from_value(name, &parsed);
    Ok(())
}

/// Streams `frames` through the element; `look` gets every frame as it leaves, with its verdict.
pub fn run(
    frames: Frames,
    settings: &ElementSettings,
    mut look: impl FnMut(&Frame, &Verdict) -> Result<()>,
) -> Result<Pass> {
    let element = make_element(settings)?;
    let busy = measure(&element)?;
    let mut pass = Pass::default();
    through(frames, &[element], |frame| {
        let verdict = read_verdict(&frame)?;
        look(&frame, &verdict)?;
        pass.frame_rate = frame.frame_rate();
        pass.verdicts.push(verdict);
        Ok(())
    })?;
    pass.busy = busy.lock().map_or(Duration::ZERO, |clock| clock.total);
    Ok(pass)
}

/// Streams `frames` through a chain of elements that keep buffers' offsets, and hands on what comes out.
///
/// A frame is put in by a thread of its own; `take` runs in the calling thread.
pub fn through(
    frames: Frames,
    chain: &[gst::Element],
    mut take: impl FnMut(Frame) -> Result<()>,
) -> Result<()> {
    let pipeline = gst::Pipeline::new();
    let source = gst_app::AppSrc::builder().format(gst::Format::Time).block(true).max_buffers(4).build();
    source.set_max_bytes(0);
    let sink = gst_app::AppSink::builder().sync(false).max_buffers(4).build();
    let mut all = vec![source.clone().upcast::<gst::Element>()];
    all.extend_from_slice(chain);
    all.push(sink.clone().upcast());
    pipeline.add_many(&all)?;
    gst::Element::link_many(&all)?;

    let started = pipeline.set_state(gst::State::Playing);
    let result = started.map_err(anyhow::Error::from).and_then(|_| {
        let positions = Arc::new(Mutex::new(std::collections::VecDeque::new()));
        let feeder = thread::spawn({
            let positions = positions.clone();
            move || feed(frames, &source, &positions)
        });
        let taken = take_all(&sink, &positions, &mut take);
        if taken.is_err() {
            // Unblocks the feeder.
            let _ = pipeline.set_state(gst::State::Null);
        }
        let fed = feeder.join().map_err(|_| anyhow::anyhow!("the thread that decodes has panicked"))?;
        taken.and(fed)
    });
    let bus = fail_on_bus_error(&pipeline);
    let _ = pipeline.set_state(gst::State::Null);
    bus.and(result)
}

type Positions = Mutex<std::collections::VecDeque<(u64, usize, usize)>>;

/// Puts all frames in, then end-of-stream, also after an error.
fn feed(frames: Frames, source: &gst_app::AppSrc, positions: &Positions) -> Result<()> {
    let mut result = Ok(());
    for frame in frames {
        match frame {
            Ok(frame) => {
                if let Ok(mut queue) = positions.lock() {
                    queue.push_back((frame.number(), frame.clip, frame.index));
                }
                // Refused when the pipeline has stopped: its bus knows why.
                if source.push_sample(&frame.sample).is_err() {
                    return Ok(());
                }
            }
            Err(error) => {
                result = Err(error);
                break;
            }
        }
    }
    let _ = source.end_of_stream();
    result
}

fn take_all(
    sink: &gst_app::AppSink,
    positions: &Positions,
    take: &mut impl FnMut(Frame) -> Result<()>,
) -> Result<()> {
    while let Ok(sample) = sink.pull_sample() {
        let info = gst_video::VideoInfo::from_caps(sample.caps().context("a frame without caps")?)?;
        let number = sample.buffer().map(gst::BufferRef::offset).context("a frame without a buffer")?;
        let mut queue = positions.lock().map_err(|_| anyhow::anyhow!("the thread that decodes has panicked"))?;
        let (clip, index) = loop {
            let (known, clip, index) = queue.pop_front().context("more frames came out than went in")?;
            if known == number {
                break (clip, index);
            }
        };
        drop(queue);
        take(Frame { clip, index, sample, info })?;
    }
    Ok(())
}

/// Reads the metadata as any application would.
fn read_verdict(frame: &Frame) -> Result<Verdict> {
    let buffer = frame.sample.buffer().context("a frame without a buffer")?;
    let missing = || format!("frame {} carries no VaeAnomalyMeta", frame.number());
    let meta = gst::meta::CustomMeta::from_buffer(buffer, "VaeAnomalyMeta").with_context(missing)?;
    let fields = meta.structure();
    let text = |name: &str| fields.get::<String>(name);
    let state = text("state")?;
    let mut place = [0; 4];
    for (value, name) in place.iter_mut().zip(["x", "y", "width", "height"]) {
        *value = fields.get::<u32>(name)?;
    }
    Ok(Verdict {
        clip: frame.clip,
        index: frame.index,
        time: buffer.pts().map_or(0.0, |pts| pts.nseconds() as f64 * 1e-9),
        score: fields.get("score")?,
        raw_score: fields.get("raw-score")?,
        threshold: fields.get("threshold")?,
        flagged: text("label")? == "anomaly",
        trusted: state == "detecting" || state == "frozen",
        cue: text("cue")?,
        place,
    })
}

/// Time between a buffer's arrival at the element and its departure.
#[derive(Default)]
struct Stopwatch {
    started: Option<Instant>,
    total: Duration,
}

fn measure(element: &gst::Element) -> Result<Arc<Mutex<Stopwatch>>> {
    let watch = Arc::new(Mutex::new(Stopwatch::default()));
    for name in ["sink", "src"] {
        let pad = element.static_pad(name).with_context(|| format!("vaeanomaly has no {name} pad"))?;
        let watch = watch.clone();
        let arriving = name == "sink";
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
            if let Ok(mut watch) = watch.lock() {
                if arriving {
                    watch.started = Some(Instant::now());
                } else if let Some(started) = watch.started.take() {
                    watch.total += started.elapsed();
                }
            }
            gst::PadProbeReturn::Ok
        });
    }
    Ok(watch)
}
