//! A fixed camera: what it sees, and the source that sends it.

use std::time::{Duration, Instant};

use gst::prelude::*;
use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

/// Random numbers that are the same for the same seed.
pub type Random = Xoshiro256PlusPlus;

/// The numbers for part `part` of a run with this seed.
pub fn random(seed: u64, part: u64) -> Random {
    Random::seed_from_u64(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(part))
}

/// Width and height of the image.
pub const SIZE: (usize, usize) = (96, 64);

/// A yard with a texture, noise and slow walkers; from time to time something fast and bright.
#[derive(Debug)]
pub struct Camera {
    background: Vec<u8>,
    random: Random,
    /// Frames until the next anomaly begins (negative while there is one) and how many it lasts.
    until_anomaly: i32,
    lasts: i32,
}

impl Camera {
    /// A camera whose images are those of this seed.
    pub fn new(seed: u64) -> Self {
        let mut random = random(seed, 0);
        let background = (0..SIZE.0 * SIZE.1).map(|i| {
            let (x, y) = (i % SIZE.0, i / SIZE.0);
            let tile = ((x / 6) * 31 + (y / 5) * 17) % 7;
            100 + 6 * tile as u8 + random.random_range(0..4)
        });
        Camera {
            background: background.collect(),
            random,
            until_anomaly: 150,
            lasts: 20,
        }
    }

    /// The next image, 8-bit grey.
    pub fn next(&mut self, frame: u64) -> Vec<u8> {
        let mut image = self.background.clone();
        let frame = frame as usize;
        for (row, speed) in [(4, 1), (44, 2)] {
            rectangle(&mut image, (frame * speed / 2 % (SIZE.0 - 6), row, 6, 10), 190);
        }
        self.until_anomaly -= 1;
        if self.until_anomaly < 0 {
            rectangle(&mut image, (frame * 9 % (SIZE.0 - 14), 22, 14, 16), 240);
        }
        if self.until_anomaly < -self.lasts {
            self.until_anomaly = self.random.random_range(40..200);
            self.lasts = self.random.random_range(5..40);
        }
        for pixel in &mut image {
            *pixel = pixel.saturating_add(self.random.random_range(0..5));
        }
        image
    }
}

fn rectangle(image: &mut [u8], (left, top, width, height): (usize, usize, usize, usize), value: u8) {
    for row in image.chunks_exact_mut(SIZE.0).skip(top).take(height) {
        row[left..left + width].fill(value);
    }
}

/// Caps of the images at this frame rate.
pub fn caps(fps: i32) -> gst::Caps {
    gst::Caps::builder("video/x-raw")
        .field("format", "GRAY8")
        .field("width", SIZE.0 as i32)
        .field("height", SIZE.1 as i32)
        .field("framerate", gst::Fraction::new(fps, 1))
        .build()
}

/// A buffer with this image.
pub fn buffer(image: Vec<u8>, pts: gst::ClockTime, duration: gst::ClockTime) -> gst::Buffer {
    let mut buffer = gst::Buffer::from_mut_slice(image);
    if let Some(fields) = buffer.get_mut() {
        fields.set_pts(pts);
        fields.set_duration(duration);
    }
    buffer
}

/// Returns at regular times, as a camera takes images.
#[derive(Debug)]
pub struct Shutter {
    next: Instant,
    interval: Duration,
}

impl Shutter {
    /// The first image is due at once.
    pub fn new(interval: Duration) -> Self {
        Shutter {
            next: Instant::now(),
            interval,
        }
    }

    /// Waits until the next image is due; images that could not be taken in time are skipped.
    pub fn wait(&mut self) {
        let now = Instant::now();
        match self.next.checked_duration_since(now) {
            Some(rest) => std::thread::sleep(rest),
            None => self.next = now,
        }
        self.next += self.interval;
    }
}

/// Ends a program that uses an element's pad: panics with the name of what is missing.
pub fn pad(bin: &gst::Pipeline, element: &str, pad: &str) -> gst::Pad {
    bin.by_name(element)
        .and_then(|element| element.static_pad(pad))
        .unwrap_or_else(|| panic!("{element} has no pad {pad}"))
}
