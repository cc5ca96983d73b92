//! A synthetic fixed camera: a textured street with slow walkers, sensor noise and planted anomalies. Everything is a
//! function of time, so that the scene is the same at any frame rate.

use std::ops::Range;
use std::time::Duration;

use gstvaeanomaly::detector::{
    ColorModel, ColorRange, Detector, FrameReport, ImageView, PixelFormat, Prediction, Tuning,
};

/// Width and height of the images.
pub const SIZE: (usize, usize) = (96, 48);

/// Processes an image, `at` seconds after the first one.
pub fn see(detector: &mut Detector, image: &[u8], at: f64, tuning: &Tuning) -> Processed {
    let view = ImageView {
        format: PixelFormat::Gray8,
        width: SIZE.0,
        height: SIZE.1,
        planes: &[image],
        strides: &[SIZE.0],
        color: ColorModel {
            range: ColorRange::Full,
            kr: 0.299,
            kb: 0.114,
        },
    };
    let time = Some(Duration::from_secs_f64(at));
    let (prediction, report) = detector.process(&view, time, None, tuning).unwrap();
    assert!(
        prediction.raw_score.is_finite() && prediction.threshold.is_finite() && prediction.score.is_finite()
    );
    Processed { prediction, report }
}

/// All output of the detector for one frame.
#[derive(Clone, Debug)]
pub struct Processed {
    pub prediction: Prediction,
    pub report: FrameReport,
}

impl std::ops::Deref for Processed {
    type Target = Prediction;

    fn deref(&self) -> &Prediction {
        &self.prediction
    }
}

/// A planted anomaly or disturbance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happening {
    /// A large bright object that enters from the left and runs to and fro, ten times as fast as the walkers.
    Runner,
    /// A new static object at [`PARCEL`].
    Parcel,
    /// The lens is covered.
    Covered,
    /// The light is half as strong.
    Dark,
    /// The light fades to a half within a second.
    Dusk,
    /// The camera is turned to another view.
    Turned,
}

/// Row, speed in pixels/s, start and brightness of the walkers.
const WALKERS: [(f64, f64, f64, f64); 4] = [
    (2.0, 4.5, 10.0, 85.0),
    (14.0, -5.0, 70.0, 175.0),
    (26.0, 5.5, 40.0, 90.0),
    (37.0, -4.7, 20.0, 170.0),
];

/// Left, top, width and height of the parcel.
pub const PARCEL: (usize, usize, usize, usize) = (60, 4, 14, 12);

/// The camera's view over time.
#[derive(Clone, Debug, Default)]
pub struct Scene(Vec<(Range<f64>, Happening)>);

impl Scene {
    /// Walkers and nothing else.
    pub fn quiet() -> Self {
        Self::default()
    }

    /// Adds an anomaly during these seconds.
    pub fn with(mut self, seconds: Range<f64>, what: Happening) -> Self {
        self.0.push((seconds, what));
        self
    }

    /// The 8-bit grey image at `t` seconds, row by row.
    pub fn image(&self, t: f64) -> Vec<u8> {
        let since = |what| {
            let current = self.0.iter().find(|(when, w)| *w == what && when.contains(&t));
            current.map(|(when, _)| t - when.start)
        };
        let happens = |what| since(what).is_some();
        let mut image = background(happens(Happening::Turned));
        for (row, speed, start, value) in WALKERS {
            let left = to_and_fro(start + speed * t, 5.0);
            rectangle(&mut image, (left, row, 5.0, 9.0), value);
        }
        if happens(Happening::Parcel) {
            let (x, y, w, h) = PARCEL;
            rectangle(&mut image, (x as f64, y as f64, w as f64, h as f64), 235.0);
        }
        if let Some(running) = since(Happening::Runner) {
            let left = to_and_fro(50.0 * running, -9.0) - 9.0;
            rectangle(&mut image, (left, 16.0, 9.0, 14.0), 220.0);
        }
        if happens(Happening::Covered) {
            image.fill(30.0);
        }
        let fading = since(Happening::Dusk).map_or(1.0, |time| 1.0 - 0.5 * time.min(1.0));
        let light = if happens(Happening::Dark) { 0.5 } else { fading };
        let moment = (t * 1e6).round() as u64;
        // Little noise comes with little light.
        let grain = if happens(Happening::Covered) { 2.0 } else { 8.0 };
        let noisy = image.iter().zip(0u64..).map(|(value, i)| {
            let noise = grain * (unit(moment.wrapping_mul(0x9e37_79b9).wrapping_add(i)) - 0.5);
            (value * light + noise).round().clamp(0.0, 255.0) as u8
        });
        noisy.collect()
    }
}

/// 0..1, by the finaliser of SplitMix64.
fn unit(x: u64) -> f64 {
    let mut z = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

/// Tiles and stripes; in the other view other tiles with more contrast.
fn background(elsewhere: bool) -> Vec<f64> {
    let (first, contrast) = if elsewhere { (999, 140.0) } else { (0, 40.0) };
    let pixel = |x: usize, y: usize| {
        let tile = unit((first + (x / 6) * 1000 + y / 5) as u64);
        130.0 + contrast * (tile - 0.5) + 8.0 * (0.9 * x as f64).sin()
    };
    (0..SIZE.1)
        .flat_map(|y| (0..SIZE.0).map(move |x| pixel(x, y)))
        .collect()
}

/// The left edge of an object of width `wide` that has moved `way` pixels and reverses at the image borders; beyond them if
/// `wide` is negative.
fn to_and_fro(way: f64, wide: f64) -> f64 {
    let room = SIZE.0 as f64 - wide;
    let position = way.rem_euclid(2.0 * room);
    position.min(2.0 * room - position)
}

/// Draws an anti-aliased rectangle, so that slow motion is smooth.
fn rectangle(image: &mut [f64], (left, top, width, height): (f64, f64, f64, f64), value: f64) {
    let cover = |i: usize, low: f64, size: f64| {
        let i = i as f64;
        ((i + 1.0).min(low + size) - i.max(low)).clamp(0.0, 1.0)
    };
    for (y, row) in image.chunks_exact_mut(SIZE.0).enumerate() {
        let high = cover(y, top, height);
        for (x, pixel) in row.iter_mut().enumerate() {
            *pixel += high * cover(x, left, width) * (value - *pixel);
        }
    }
}
