//! Images of a fixed camera: a textured wall, sensor noise, and discs that move in circles.

use gstvaeanomaly::detector::{ColorModel, ImageView, PixelFormat};

/// Images of a loop. In 1080p they take 112 MB, three times a last-level cache of 36 MB, so that one camera finds no more
/// of them cached than eight cameras do.
pub const LOOP: usize = 36;

/// I420 images that can be repeated endlessly without a cut.
pub struct Images {
    pub width: usize,
    pub height: usize,
    frames: Vec<Vec<u8>>,
}

impl Images {
    /// Each `seed` is another camera.
    pub fn new(width: usize, height: usize, seed: usize) -> Self {
        assert!(
            width.is_multiple_of(4) && height.is_multiple_of(2),
            "strides without padding"
        );
        let frames = (0..LOOP).map(|i| image(width, height, seed, i)).collect();
        Self {
            width,
            height,
            frames,
        }
    }

    /// Image `i` of the endless loop: luma, then the two chroma planes, without padding.
    pub fn bytes(&self, i: usize) -> &[u8] {
        &self.frames[i % LOOP]
    }

    /// Calls `visit` with image `i` as the detector takes it.
    pub fn with_view<R>(&self, i: usize, visit: impl FnOnce(&ImageView<'_>) -> R) -> R {
        let (luma, chroma) = self.bytes(i).split_at(self.width * self.height);
        let (u, v) = chroma.split_at(chroma.len() / 2);
        visit(&ImageView {
            format: PixelFormat::I420,
            width: self.width,
            height: self.height,
            planes: &[luma, u, v],
            strides: &[self.width, self.width / 2, self.width / 2],
            color: ColorModel::BT709,
        })
    }
}

fn image(width: usize, height: usize, seed: usize, i: usize) -> Vec<u8> {
    let mut noise = (seed * 7919 + i) as u32 | 1;
    let mut random = move || {
        noise ^= noise << 13;
        noise ^= noise >> 17;
        noise ^= noise << 5;
        noise
    };
    let angle = std::f64::consts::TAU * i as f64 / LOOP as f64;
    let centres = [0.25, 0.5, 0.75].map(|x| {
        let (dx, dy) = (0.02 * angle.cos(), 0.02 * angle.sin());
        ((x + dx) * width as f64, (0.6 + dy) * height as f64)
    });
    let radius = height as f64 / 12.0;
    let mut bytes = Vec::with_capacity(width * height * 3 / 2);
    for y in 0..height {
        for x in 0..width {
            let tile = (x * 16 / width * 5 + y * 9 / height * 3 + seed) % 7;
            let in_disc = |&(cx, cy): &(f64, f64)| (x as f64 - cx).hypot(y as f64 - cy) < radius;
            let light = if centres.iter().any(in_disc) {
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
