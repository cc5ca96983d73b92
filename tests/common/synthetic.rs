//! A synthetic fixed camera: a textured street with slow walkers and sensor noise, and things that happen on it.
//! Everything is a function of time, so that any frame rate shows the same scene.

use std::ops::Range;
use std::time::Duration;

use gstvaeanomaly::detector::{
    ColorModel, ColorRange, Detector, FrameReport, ImageView, PixelFormat, Prediction, Tuning,
};

/// Width and height of the pictures.
pub const SIZE: (usize, usize) = (96, 48);

/// Shows a detector a picture, `at` seconds after the first.
pub fn see(detector: &mut Detector, picture: &[u8], at: f64, tuning: &Tuning) -> Processed {
    let view = ImageView {
        format: PixelFormat::Gray8,
        width: SIZE.0,
        height: SIZE.1,
        planes: &[picture],
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

/// Everything that the detector says about a frame.
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

/// Something that is not always there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happening {
    /// Something large and bright runs in from the left and to and fro, ten times as fast as the walkers.
    Runner,
    /// A box stands where nothing stood, at [`PARCEL`].
    Parcel,
    /// The lens is covered.
    Covered,
    /// The light is half as strong.
    Dark,
    /// The camera looks elsewhere.
    Turned,
}

/// Row, pixels a second, start and brightness of who is always there.
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

    /// The same with something happening during these seconds.
    pub fn with(mut self, seconds: Range<f64>, what: Happening) -> Self {
        self.0.push((seconds, what));
        self
    }

    /// The 8-bit grey picture at `t` seconds, row by row.
    pub fn picture(&self, t: f64) -> Vec<u8> {
        let since = |what| {
            let current = self.0.iter().find(|(when, w)| *w == what && when.contains(&t));
            current.map(|(when, _)| t - when.start)
        };
        let happens = |what| since(what).is_some();
        let mut picture = background(happens(Happening::Turned));
        for (row, speed, start, value) in WALKERS {
            let left = to_and_fro(start + speed * t, 5.0);
            rectangle(&mut picture, (left, row, 5.0, 9.0), value);
        }
        if happens(Happening::Parcel) {
            let (x, y, w, h) = PARCEL;
            rectangle(&mut picture, (x as f64, y as f64, w as f64, h as f64), 235.0);
        }
        if let Some(running) = since(Happening::Runner) {
            let left = to_and_fro(50.0 * running, -9.0) - 9.0;
            rectangle(&mut picture, (left, 16.0, 9.0, 14.0), 220.0);
        }
        if happens(Happening::Covered) {
            picture.fill(30.0);
        }
        let light = if happens(Happening::Dark) { 0.5 } else { 1.0 };
        let moment = (t * 1e6).round() as u64;
        // Little noise comes with little light.
        let grain = if happens(Happening::Covered) { 2.0 } else { 8.0 };
        let noisy = picture.iter().zip(0u64..).map(|(value, i)| {
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

/// Tiles and stripes; elsewhere other tiles of more contrast.
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

/// The left edge of something `wide` that has gone `way` pixels and turns round at the picture's edges;
/// behind them where `wide` is negative.
fn to_and_fro(way: f64, wide: f64) -> f64 {
    let room = SIZE.0 as f64 - wide;
    let place = way.rem_euclid(2.0 * room);
    place.min(2.0 * room - place)
}

/// Draws over whatever part of each pixel the rectangle covers, so that slow motion is smooth.
fn rectangle(picture: &mut [f64], (left, top, width, height): (f64, f64, f64, f64), value: f64) {
    let cover = |i: usize, low: f64, size: f64| {
        let i = i as f64;
        ((i + 1.0).min(low + size) - i.max(low)).clamp(0.0, 1.0)
    };
    for (y, row) in picture.chunks_exact_mut(SIZE.0).enumerate() {
        let high = cover(y, top, height);
        for (x, pixel) in row.iter_mut().enumerate() {
            *pixel += high * cover(x, left, width) * (value - *pixel);
        }
    }
}
