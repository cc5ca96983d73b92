//! A fixed camera's pictures: a textured wall, sensor noise, and things that move in circles.

use gstvaeanomaly::detector::{ColorModel, ImageView, PixelFormat};

/// Pictures of a loop: as far apart in memory as a decoder's. In 1080p three times what a last cache of 36 MB holds, so
/// that one camera finds no more of them there than eight do.
pub const LOOP: usize = 36;

/// I420 pictures that can be shown again and again without a cut.
pub struct Pictures {
    pub width: usize,
    pub height: usize,
    frames: Vec<Vec<u8>>,
}

impl Pictures {
    /// `seed` makes another camera.
    pub fn new(width: usize, height: usize, seed: usize) -> Self {
        assert!(
            width.is_multiple_of(4) && height.is_multiple_of(2),
            "strides without padding"
        );
        let frames = (0..LOOP).map(|i| picture(width, height, seed, i)).collect();
        Self {
            width,
            height,
            frames,
        }
    }

    /// Picture `i` of the endless loop: luma, then the two chroma planes, without padding.
    pub fn bytes(&self, i: usize) -> &[u8] {
        &self.frames[i % LOOP]
    }

    /// The same for the detector.
    pub fn with_view<R>(&self, i: usize, look: impl FnOnce(&ImageView<'_>) -> R) -> R {
        let (luma, chroma) = self.bytes(i).split_at(self.width * self.height);
        let (u, v) = chroma.split_at(chroma.len() / 2);
        look(&ImageView {
            format: PixelFormat::I420,
            width: self.width,
            height: self.height,
            planes: &[luma, u, v],
            strides: &[self.width, self.width / 2, self.width / 2],
            color: ColorModel::BT709,
        })
    }
}

fn picture(width: usize, height: usize, seed: usize, i: usize) -> Vec<u8> {
    let mut noise = (seed * 7919 + i) as u32 | 1;
    let mut random = move || {
        noise ^= noise << 13;
        noise ^= noise >> 17;
        noise ^= noise << 5;
        noise
    };
    let turn = std::f64::consts::TAU * i as f64 / LOOP as f64;
    let walkers = [0.25, 0.5, 0.75].map(|place| {
        let (dx, dy) = (0.02 * turn.cos(), 0.02 * turn.sin());
        ((place + dx) * width as f64, (0.6 + dy) * height as f64)
    });
    let radius = height as f64 / 12.0;
    let mut bytes = Vec::with_capacity(width * height * 3 / 2);
    for y in 0..height {
        for x in 0..width {
            let tile = (x * 16 / width * 5 + y * 9 / height * 3 + seed) % 7;
            let near = |&(cx, cy): &(f64, f64)| (x as f64 - cx).hypot(y as f64 - cy) < radius;
            let light = if walkers.iter().any(near) {
                40
            } else {
                80 + 16 * tile as u32
            };
            bytes.push((light + random() % 5) as u8);
        }
    }
    bytes.resize(width * height * 3 / 2, 128);
    bytes
}
