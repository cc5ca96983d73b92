//! Streams the clips through the element in a pipeline.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use gst::prelude::*;
use gstvaeanomaly::detector::Region;
use gstvaeanomaly::{FrameResult, SmallImage};

use crate::args::Setting;
use crate::clips::{Frame, Frames, fail_on_bus_error};

/// Settings of the element for one run.
#[derive(Clone, Debug)]
pub struct ElementSettings {
    /// `device` property.
    pub device: String,
    /// `seed` property.
    pub seed: u64,
    /// All other properties.
    pub others: Vec<Setting>,
    /// `attach-map` property.
    pub attach_map: bool,
}

/// The element's result for one frame.
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
    /// The decisive cue.
    pub cue: String,
    /// Strongest region in pixels: x, y, width, height.
    pub region: [u32; 4],
    /// All regions with their scores, the strongest first.
    pub regions: Vec<(Region, f64)>,
    /// With the property `attach-map`.
    pub map: Option<SmallImage>,
    /// Width and height of the image that regions and map refer to.
    pub image_size: (u32, u32),
    /// The event that it belongs to; 0 = none.
    pub event: u64,
}

/// One pass of the whole stream.
#[derive(Clone, Debug, Default)]
pub struct Pass {
    /// All frames, including the warm-up clips.
    pub verdicts: Vec<Verdict>,
    /// Time spent in the element.
    pub busy: Duration,
    /// Frame rate of the last frame.
    pub frame_rate: f64,
}

impl Pass {
    /// Frames per second of the time spent in the element.
    pub fn frames_per_second(&self) -> Option<f64> {
        let seconds = self.busy.as_secs_f64();
        (seconds > 0.0).then(|| self.verdicts.len() as f64 / seconds)
    }
}

/// Creates the element and sets its properties.
///
/// # Errors
/// An unknown property or an invalid value; the error names it.
pub fn make_element(settings: &ElementSettings) -> Result<gst::Element> {
    let element = gst::ElementFactory::make("vaeanomaly")
        .build()
        .context("the element vaeanomaly is missing")?;
    set(&element, "device", &settings.device)?;
    set(&element, "seed", &settings.seed.to_string())?;
    element.set_property("attach-map", settings.attach_map);
    for Setting { name, value } in &settings.others {
        set(&element, name, value)?;
    }
    Ok(element)
}

/// Sets a property from text like gst-launch-1.0, but with precise errors.
pub fn set(element: &gst::Element, name: &str, value: &str) -> Result<()> {
    let Some(property) = element.find_property(name) else {
        bail!("--set {name}: vaeanomaly has no such property");
    };
    ensure!(
        property.flags().contains(gst::glib::ParamFlags::WRITABLE),
        "--set {name}: the property is read-only"
    );
    let invalid = || format!("--set {name}: the property does not accept the value '{value}'");
    if property.value_type() == gst::glib::Type::STRING {
        element.set_property(name, value);
        return Ok(());
    }
    let parsed = gst::glib::Value::deserialize_with_pspec(value, &property).with_context(invalid)?;
    check_range(&property, &parsed)?;
    element.set_property_from_value(name, &parsed);
    Ok(())
}

/// Fails for a number outside the property's range.
fn check_range(property: &gst::glib::ParamSpec, value: &gst::glib::Value) -> Result<()> {
    use gst::glib::{ParamSpecDouble, ParamSpecInt, ParamSpecUInt, ParamSpecUInt64};
    let name = property.name();
    macro_rules! check {
        ($($spec:ty as $number:ty),*) => {$(
            if let (Some(spec), Ok(got)) = (property.downcast_ref::<$spec>(), value.get::<$number>()) {
                let (low, high) = (spec.minimum(), spec.maximum());
                ensure!((low..=high).contains(&got), "--set {name} must be {low}..={high}, got {got}");
            }
        )*};
    }
    check!(
        ParamSpecDouble as f64,
        ParamSpecInt as i32,
        ParamSpecUInt as u32,
        ParamSpecUInt64 as u64
    );
    Ok(())
}

/// Streams `frames` through the element; `visit` is called for every frame with its verdict.
pub fn run(
    frames: Frames,
    settings: &ElementSettings,
    visit: impl FnMut(&Frame, &Verdict) -> Result<()>,
) -> Result<Pass> {
    run_element(make_element(settings)?, frames, visit)
}

/// As [`run`], with an element from [`make_element`].
pub fn run_element(
    element: gst::Element,
    frames: Frames,
    mut visit: impl FnMut(&Frame, &Verdict) -> Result<()>,
) -> Result<Pass> {
    let busy = measure(&element)?;
    let mut pass = Pass::default();
    pump(frames, &[element], |id, sample| {
        let info = gst_video::VideoInfo::from_caps(sample.caps().context("a frame without caps")?)?;
        let frame = Frame {
            clip: id.clip,
            index: id.index,
            sample,
            info,
        };
        let verdict = read_verdict(&frame)?;
        visit(&frame, &verdict)?;
        pass.frame_rate = frame.frame_rate();
        pass.verdicts.push(verdict);
        Ok(())
    })?;
    pass.busy = busy.lock().map_or(Duration::ZERO, |clock| clock.total);
    Ok(pass)
}

/// Identifies the frame of a buffer.
#[derive(Clone, Copy, Debug)]
pub struct FrameId {
    /// Its number in the stream.
    pub number: u64,
    clip: usize,
    index: usize,
    time: gst::ClockTime,
}

type PendingFrames = Mutex<VecDeque<FrameId>>;

/// Streams `frames` through a chain of elements that keep order and time; `take` is called with every output.
///
/// Another thread pushes the frames; `take` runs in the calling thread. The chain may drop frames.
pub fn pump(
    frames: Frames,
    chain: &[gst::Element],
    mut take: impl FnMut(FrameId, gst::Sample) -> Result<()>,
) -> Result<()> {
    let pipeline = gst::Pipeline::new();
    let source = gst_app::AppSrc::builder()
        .format(gst::Format::Time)
        .block(true)
        .max_bytes(0)
        .max_buffers(4)
        .build();
    let sink = gst_app::AppSink::builder().sync(false).max_buffers(4).build();
    let mut all = vec![source.clone().upcast::<gst::Element>()];
    all.extend_from_slice(chain);
    all.push(sink.clone().upcast());
    pipeline.add_many(&all)?;
    gst::Element::link_many(&all)?;

    let started = pipeline
        .set_state(gst::State::Playing)
        .map_err(anyhow::Error::from);
    let result = started.and_then(|_| {
        let pending = Arc::new(PendingFrames::default());
        let feeder = thread::spawn({
            let pending = pending.clone();
            move || feed(frames, &source, &pending)
        });
        let taken = take_all(&sink, &pending, &mut take);
        if taken.is_err() {
            // Unblocks the other thread; nothing can be done if stopping fails.
            let _ = pipeline.set_state(gst::State::Null);
        }
        let fed = feeder
            .join()
            .map_err(|_| anyhow::anyhow!("the thread that decodes panicked"))?;
        fed.and(taken)
    });
    let on_bus = fail_on_bus_error(&pipeline);
    // Nothing can be done if stopping fails.
    let _ = pipeline.set_state(gst::State::Null);
    on_bus.and(result)
}

/// Pushes all frames, then EOS, also after an error.
fn feed(frames: Frames, source: &gst_app::AppSrc, pending: &PendingFrames) -> Result<()> {
    let mut result = Ok(());
    for frame in frames {
        let frame = match frame {
            Ok(frame) => frame,
            Err(error) => {
                result = Err(error);
                break;
            }
        };
        let time = frame
            .sample
            .buffer()
            .and_then(gst::BufferRef::pts)
            .unwrap_or_default();
        let id = FrameId {
            number: frame.number(),
            clip: frame.clip,
            index: frame.index,
            time,
        };
        if let Ok(mut queue) = pending.lock() {
            queue.push_back(id);
        }
        // Fails if the pipeline has stopped; the reason is on its bus.
        if source.push_sample(&frame.sample).is_err() {
            return Ok(());
        }
    }
    // As above.
    let _ = source.end_of_stream();
    result
}

/// Pulls all outputs until EOS or an error.
fn take_all(
    sink: &gst_app::AppSink,
    pending: &PendingFrames,
    take: &mut impl FnMut(FrameId, gst::Sample) -> Result<()>,
) -> Result<()> {
    while let Ok(sample) = sink.pull_sample() {
        let pts = sample
            .buffer()
            .and_then(gst::BufferRef::pts)
            .context("a buffer without a time")?;
        // Encoders may shift timestamps together with the segment.
        let time = sample
            .segment()
            .and_then(|s| s.downcast_ref::<gst::ClockTime>())
            .and_then(|s| s.to_running_time(pts))
            .context("a buffer outside its segment")?;
        let id = {
            let mut queue = pending
                .lock()
                .map_err(|_| anyhow::anyhow!("the thread that decodes panicked"))?;
            std::iter::from_fn(|| queue.pop_front())
                .find(|id| id.time.absdiff(time) < gst::ClockTime::from_useconds(500))
                .with_context(|| format!("a buffer at {time}, a time without a frame"))?
        };
        take(id, sample)?;
    }
    Ok(())
}

/// Reads the metadata as an application would.
fn read_verdict(frame: &Frame) -> Result<Verdict> {
    let buffer = frame.sample.buffer().context("a frame without a buffer")?;
    let missing = || format!("frame {} has no VaeAnomalyMeta", frame.number());
    let meta = gst::meta::CustomMeta::from_buffer(buffer, "VaeAnomalyMeta").with_context(missing)?;
    let fields = meta.structure();
    let text = |name: &str| fields.get::<String>(name);
    let state = text("state")?;
    let mut region = [0; 4];
    for (value, name) in region.iter_mut().zip(["x", "y", "width", "height"]) {
        *value = fields.get::<u32>(name)?;
    }
    let typed = FrameResult::read(buffer).with_context(missing)?;
    let regions = typed.prediction.regions.iter();
    Ok(Verdict {
        regions: regions.map(|found| (found.region, found.score)).collect(),
        map: typed.anomaly_map,
        image_size: typed.image_size,
        clip: frame.clip,
        index: frame.index,
        time: buffer.pts().map_or(0.0, |pts| pts.nseconds() as f64 * 1e-9),
        score: fields.get("score")?,
        raw_score: fields.get("raw-score")?,
        threshold: fields.get("threshold")?,
        flagged: text("label")? == "anomaly",
        trusted: state == "detecting" || state == "frozen",
        cue: text("cue")?,
        region,
        event: fields.get("event-id")?,
    })
}

/// Time between the arrival of a buffer at the element and its departure.
#[derive(Default)]
struct Stopwatch {
    started: Option<Instant>,
    total: Duration,
}

fn measure(element: &gst::Element) -> Result<Arc<Mutex<Stopwatch>>> {
    let watch = Arc::new(Mutex::new(Stopwatch::default()));
    for name in ["sink", "src"] {
        let pad = element
            .static_pad(name)
            .with_context(|| format!("vaeanomaly has no {name} pad"))?;
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
