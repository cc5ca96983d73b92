//! The detector core on the same frames in the same order, without the element.
//!
//! For what the element does not provide: ablations, anomaly maps, reconstructions.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use gst::prelude::*;
use gst_video::VideoFrameExt;
use gstvaeanomaly::detector::{
    ColorModel, ColorRange, Config, CueKind, Detector, IgnoredRegions, ImageView, Networks, PixelFormat,
    Prediction, Stabilise, Temporal, ThresholdMode, Tuning,
};

use crate::clips::{Frame, Frames};
use crate::stream::{self, ElementSettings};

/// The settings with which the core equals the element with `settings`.
pub fn mirror(settings: &ElementSettings) -> Result<(Config, Tuning)> {
    let element = stream::make_element(settings)?;
    let cues: gstvaeanomaly::Cues = element.property("cues");
    let number = |name: &str| element.property::<u32>(name);
    let real = |name: &str| element.property::<f64>(name);
    let config = Config {
        cues: [
            (CueKind::Motion, gstvaeanomaly::Cues::MOTION),
            (CueKind::Appearance, gstvaeanomaly::Cues::APPEARANCE),
        ]
        .into_iter()
        .filter_map(|(kind, flag)| cues.contains(flag).then_some(kind))
        .collect(),
        net_arch: element.property::<String>("net-arch").parse()?,
        latent_dim: number("latent-dim") as usize,
        model_width: number("model-width") as usize,
        temporal: match element.property("temporal") {
            gstvaeanomaly::Temporal::None => Temporal::None,
            gstvaeanomaly::Temporal::ConvLstm => Temporal::ConvLstm,
            other => bail!("temporal {other:?} is not supported"),
        },
        seed: element.property("seed"),
        warm_up: number("warm-up"),
        networks: Networks::Trained,
    };
    let tuning = Tuning {
        learn: element.property("learn"),
        train: true,
        learning_rate: real("learning-rate"),
        train_interval: number("train-interval"),
        kl_weight: real("kl-weight"),
        dropout: real("dropout"),
        threshold_mode: match element.property("threshold-mode") {
            gstvaeanomaly::ThresholdMode::Calibrated => ThresholdMode::Calibrated,
            gstvaeanomaly::ThresholdMode::Sigma => ThresholdMode::Sigma,
            gstvaeanomaly::ThresholdMode::Evt => ThresholdMode::Evt,
            gstvaeanomaly::ThresholdMode::Quantile => ThresholdMode::Quantile,
            other => bail!("threshold-mode {other:?} is not supported"),
        },
        threshold: real("threshold"),
        sigma: real("sigma"),
        false_alarm_rate: real("false-alarm-rate"),
        window: number("window"),
        memory: Duration::from_nanos(element.property("memory")),
        stabilise: match element.property("stabilise") {
            gstvaeanomaly::Stabilise::Off => Stabilise::Off,
            gstvaeanomaly::Stabilise::Auto => Stabilise::Auto,
            other => bail!("stabilise {other:?} is not supported"),
        },
        absorb_after: Duration::from_nanos(element.property("absorb-after")),
    };
    Ok((config, tuning))
}

/// Streams `frames` through a detector that ignores `ignored`; `visit` is called for every frame before the next one is
/// processed.
pub fn run(
    frames: Frames,
    (config, tuning): (&Config, &Tuning),
    ignored: &IgnoredRegions,
    mut visit: impl FnMut(&Frame, &Prediction, &mut Detector) -> Result<()>,
) -> Result<()> {
    let mut detector = None;
    for frame in frames {
        let frame = frame?;
        let size = (frame.info.width() as usize, frame.info.height() as usize);
        let detector = match &mut detector {
            Some(detector) => detector,
            none => {
                let detector = none.insert(Detector::new(config.clone(), size)?);
                detector.ignore(ignored);
                detector
            }
        };
        let prediction = process(detector, &frame, tuning)?;
        visit(&frame, &prediction, detector)?;
    }
    Ok(())
}

fn process(detector: &mut Detector, frame: &Frame, tuning: &Tuning) -> Result<Prediction> {
    let mapped = frame.map()?;
    let format = match frame.info.format() {
        gst_video::VideoFormat::I420 => PixelFormat::I420,
        gst_video::VideoFormat::Gray8 => PixelFormat::Gray8,
        other => bail!("frames of format {other} are not supported"),
    };
    let planes = (0..mapped.n_planes())
        .map(|plane| mapped.plane_data(plane).context("a plane is missing"))
        .collect::<Result<Vec<_>>>()?;
    let strides: Vec<usize> = mapped.plane_stride().iter().map(|&s| s as usize).collect();
    let view = ImageView {
        format,
        width: frame.info.width() as usize,
        height: frame.info.height() as usize,
        planes: &planes,
        strides: &strides[..planes.len()],
        color: color_model(&frame.info),
    };
    let buffer = frame.sample.buffer();
    let seconds = |time: gst::ClockTime| Duration::from_nanos(time.nseconds());
    let nominal = buffer.and_then(gst::BufferRef::duration).map(seconds);
    Ok(detector.process(&view, frame.time(), nominal, tuning)?.0)
}

/// Colour model of the caps.
fn color_model(info: &gst_video::VideoInfo) -> ColorModel {
    let colorimetry = info.colorimetry();
    let weights = match colorimetry.matrix() {
        gst_video::VideoColorMatrix::Bt709 => ColorModel::BT709,
        _ => ColorModel::BT601,
    };
    let range = match colorimetry.range() {
        gst_video::VideoColorRange::Range0_255 => ColorRange::Full,
        _ => ColorRange::Limited,
    };
    ColorModel { range, ..weights }
}
