//! The detector with nets, images and settings of any size, and with everything that can happen between two frames.

use std::time::Duration;

use arbitrary::{Result, Unstructured};
use gstvaeanomaly::detector::store::{self, Model};
use gstvaeanomaly::detector::{
    ColorModel, Config, CueKind, Detector, IgnoredRegions, ImageView, NetArch, Networks, PixelFormat,
    Stabilise, Stage, Temporal, ThresholdMode, Tuning,
};

use crate::values::{number, optional_duration, with_input};

/// Nothing is ever not finite, and what was learnt can always be saved.
pub fn detector(data: &[u8]) {
    with_input(data, run);
}

/// A number from `least` to `usual`, and now and then one up to `most`: with counters in every loop, large nets take most of
/// the time.
fn number_of(u: &mut Unstructured<'_>, [least, usual, most]: [usize; 3]) -> Result<usize> {
    match u.ratio(1, 8)? {
        true => u.int_in_range(least..=most),
        false => u.int_in_range(least..=usual),
    }
}

fn config(u: &mut Unstructured<'_>) -> Result<Config> {
    let stages = (0..u.int_in_range(1..=4)?).map(|_| {
        Ok(Stage {
            filters: number_of(u, [1, 5, 20])?,
            kernel: *u.choose(&[1, 3, 5, 7])?,
            pooling: u.int_in_range(1..=4)?,
        })
    });
    let stages = stages.collect::<Result<Vec<_>>>()?;
    let net_arch = NetArch::new(stages).expect("all values are in their ranges");
    let unit = net_arch.reduction();
    let model_width = match u.ratio(1, 16)? {
        true => u.int_in_range(0..=80)?,
        false => {
            let cells = [16usize, 32, 64].map(|width| width.div_ceil(unit));
            unit * number_of(u, cells)?
        }
    };
    let cues = match u.int_in_range(0..=3)? {
        0 => vec![CueKind::Motion],
        1 => vec![CueKind::Appearance],
        _ => CueKind::ALL.to_vec(),
    };
    let latent_dim = number_of(u, [1, 8, 40])?;
    let seed: u64 = u.arbitrary()?;
    Ok(Config {
        cues,
        net_arch,
        latent_dim,
        model_width,
        // From the seed, so that older inputs keep their meaning.
        temporal: match seed % 3 {
            2 => Temporal::ConvLstm,
            _ => Temporal::None,
        },
        seed,
        warm_up: u.int_in_range(0..=3)?,
        networks: *u.choose(&[
            Networks::Trained,
            Networks::Trained,
            Networks::FrozenAtRandom,
            Networks::Off,
        ])?,
    })
}

fn tuning(u: &mut Unstructured<'_>) -> Result<Tuning> {
    let default = Tuning::default();
    let within = |u: &mut Unstructured<'_>, low: f64, high: f64, usual: f64| {
        let value = number(u)?;
        Ok(match value.is_finite() {
            true => value.clamp(low, high),
            false => usual,
        })
    };
    Ok(Tuning {
        learn: u.ratio(7, 8)?,
        train: u.ratio(7, 8)?,
        learning_rate: within(u, 0.0, 0.1, default.learning_rate)?,
        train_interval: u.int_in_range(1..=5)?,
        kl_weight: within(u, 0.0, 1000.0, default.kl_weight)?,
        dropout: within(u, 0.0, 0.9, 0.0)?,
        threshold_mode: *u.choose(&[
            ThresholdMode::Calibrated,
            ThresholdMode::Sigma,
            ThresholdMode::Evt,
            ThresholdMode::Quantile,
        ])?,
        threshold: within(u, -100.0, 100.0, default.threshold)?,
        sigma: within(u, 0.0, 100.0, default.sigma)?,
        false_alarm_rate: within(u, 1e-6, 0.5, default.false_alarm_rate)?,
        window: u.int_in_range(10..=400)?,
        memory: optional_duration(u)?.unwrap_or_default(),
        absorb_after: optional_duration(u)?.unwrap_or_default(),
        stabilise: *u.choose(Stabilise::ALL)?,
    })
}

/// Width and height. Larger images are those of another target.
fn size(u: &mut Unstructured<'_>) -> Result<(usize, usize)> {
    let side = |u: &mut Unstructured<'_>| match u.ratio(1, 8)? {
        true => u.int_in_range(0..=2000),
        false => u.int_in_range(16..=100),
    };
    let (width, height) = (side(u)?, side(u)?);
    Ok((width, height.min((1 << 14) / width.max(1))))
}

fn run(u: &mut Unstructured<'_>) -> Result<()> {
    let config = config(u)?;
    let mut size = self::size(u)?;
    let Ok(mut detector) = Detector::new(config.clone(), size) else {
        assert!(config.validate().is_err());
        return Ok(());
    };
    let mut tuning = tuning(u)?;
    let mut pixels = Vec::new();
    for _ in 0..u.int_in_range(2..=8)? {
        match u.int_in_range(0..=15)? {
            0 => detector.restart(),
            1 => detector.reset().expect("the settings are valid"),
            2 => drop(detector.skip()),
            3 => drop(detector.accept(0..=u.arbitrary()?)),
            4 => tuning = self::tuning(u)?,
            5 => size = self::size(u)?,
            6 => detector.ignore(&match u.int_in_range(0..=2)? {
                0 => IgnoredRegions::none(),
                1 => IgnoredRegions::from_polygons("0,0 1,0 1,1 0,1").expect("a polygon"),
                _ => IgnoredRegions::from_polygons("0,0 0.7,0 0.7,1 0,1").expect("a polygon"),
            }),
            7 => save_and_load(&mut detector),
            _ => {}
        }
        fill(u, &mut pixels, size.0.max(1) * size.1.max(1))?;
        let view = ImageView {
            format: PixelFormat::Gray8,
            width: size.0,
            height: size.1,
            planes: &[&pixels],
            strides: &[size.0],
            color: ColorModel::BT601,
        };
        let time = match u.ratio(1, 4)? {
            true => optional_duration(u)?,
            false => Some(Duration::from_millis(100 * u.int_in_range(0..=10u64)?)),
        };
        let Ok((p, _)) = detector.process(&view, time, optional_duration(u)?, &tuning) else {
            assert!(view.validate().is_err(), "{size:?}");
            return Ok(());
        };
        assert!(
            p.raw_score.is_finite() && p.threshold.is_finite() && (0.0..=1.0).contains(&p.score),
            "{p:?}"
        );
        let region = p.region;
        let (right, lower) = (region.x + region.width, region.y + region.height);
        assert!(right as usize <= size.0 && lower as usize <= size.1, "{p:?}");
        let map = detector.anomaly_map(p.threshold);
        assert!(map.values.iter().all(|v| (0.0..=1.0).contains(v)));
    }
    save_and_load(&mut detector);
    Ok(())
}

/// A flat image, one image again, a ramp, or any bytes.
fn fill(u: &mut Unstructured<'_>, pixels: &mut Vec<u8>, len: usize) -> Result<()> {
    match u.int_in_range(0..=3)? {
        0 => {
            pixels.clear();
            pixels.resize(len, u.arbitrary()?);
        }
        1 => pixels.resize(len, 0),
        2 => {
            let factor = u.arbitrary::<u32>()?;
            pixels.clear();
            pixels.extend((0..len as u32).map(|i| (i.wrapping_mul(factor) >> 16) as u8));
        }
        _ => {
            let count = u.int_in_range(1..=32)?;
            let bytes = u.bytes(count.min(u.len()))?;
            pixels.clear();
            pixels.extend((0..len).map(|i| bytes.get(i % count).copied().unwrap_or_default()));
        }
    }
    Ok(())
}

fn save_and_load(detector: &mut Detector) {
    let learnt = detector.learnt().expect("the CPU does not fail");
    let content = store::write(Model {
        learnt: learnt.clone(),
        next_event: std::num::NonZeroU64::MIN,
        began: 0,
        saved: 0,
    });
    let content = content.expect("all numbers are finite");
    let read = store::read(&content).expect("what was written is read").learnt;
    assert_eq!(read.frames(), learnt.frames());
    detector.replace(read).expect("it is the same detector's");
}
