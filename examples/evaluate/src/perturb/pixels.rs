//! Disturbances of the pixels of an 8-bit planar image.

use anyhow::{Context, Result};
use gst_video::VideoFrameExt;
use rand::{Rng, RngCore};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::SeedableRng;

use crate::clips::Frame;

/// Luma of the covering rectangle.
const COVER_LUMA: u8 = 60;

/// Precomputed normal deviates: an image needs millions.
pub struct NoiseTable(Vec<f32>);

impl NoiseTable {
    /// The same table every time.
    pub fn new() -> Self {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(0x6e6f_6973);
        // Box and Muller 1958
        let deviate = |_| {
            let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
            (radius * (std::f64::consts::TAU * rng.random::<f64>()).cos()) as f32
        };
        Self((0..1 << 16).map(deviate).collect())
    }
}

/// One plane, tightly packed.
#[derive(Clone, Debug, PartialEq)]
struct Plane {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
}

/// A copy of a frame's planes: luma, then chroma if any.
#[derive(Clone, Debug, PartialEq)]
pub struct Planes {
    planes: Vec<Plane>,
    full_range: bool,
}

impl Planes {
    /// Copies I420 or GRAY8.
    pub fn copy_of(frame: &Frame) -> Result<Self> {
        let mapped = frame.map()?;
        let planes = (0..frame.info.n_components())
            .map(|component| {
                let (width, height) = (
                    mapped.comp_width(component) as usize,
                    mapped.comp_height(component) as usize,
                );
                let stride = mapped.comp_stride(component) as usize;
                let data = mapped.comp_data(component).context("a plane is missing")?;
                let pixels = data
                    .chunks(stride)
                    .take(height)
                    .flat_map(|row| &row[..width])
                    .copied()
                    .collect();
                Ok(Plane {
                    width,
                    height,
                    pixels,
                })
            })
            .collect::<Result<_>>()?;
        let full_range = frame.info.colorimetry().range() == gst_video::VideoColorRange::Range0_255;
        Ok(Self { planes, full_range })
    }

    /// The planes as a frame that replaces `original`.
    pub fn into_frame(self, original: &Frame) -> Result<Frame> {
        let info = gst_video::VideoInfo::from_caps(original.sample.caps().context("a frame without caps")?)?;
        let mut bytes = vec![0; info.size()];
        for (plane, (&offset, &stride)) in self.planes.iter().zip(info.offset().iter().zip(info.stride())) {
            let rows = bytes[offset..].chunks_mut(stride as usize);
            for (row, pixels) in rows.zip(plane.pixels.chunks(plane.width)) {
                row[..plane.width].copy_from_slice(pixels);
            }
        }
        let buffer = gst::Buffer::from_mut_slice(bytes);
        let caps = original.sample.caps_owned().context("a frame without caps")?;
        let sample = gst::Sample::builder().buffer(&buffer).caps(&caps).build();
        Ok(Frame {
            sample,
            info,
            ..original.clone()
        })
    }

    /// Adds Gaussian noise of `sigma` grey levels to luma.
    pub fn add_noise(&mut self, sigma: f64, table: &NoiseTable, rng: &mut Xoshiro256PlusPlus) {
        let sigma = sigma as f32;
        for four in self.planes[0].pixels.chunks_mut(4) {
            let mut random = rng.next_u64();
            for pixel in four {
                let deviate = table.0[(random & 0xffff) as usize];
                random >>= 16;
                *pixel = (f32::from(*pixel) + sigma * deviate).round() as u8;
            }
        }
    }

    /// Multiplies the R'G'B' values by `factor`.
    pub fn scale_light(&mut self, factor: f64) {
        let black = if self.full_range { 0.0 } else { 16.0 };
        for (component, plane) in self.planes.iter_mut().enumerate() {
            let zero = if component == 0 { black } else { 128.0 };
            let scaled: Vec<u8> = (0..=255u8)
                .map(|v| (zero + (f64::from(v) - zero) * factor).round() as u8)
                .collect();
            plane.pixels.iter_mut().for_each(|p| *p = scaled[usize::from(*p)]);
        }
    }

    /// Displaces the image by luma pixels; border pixels are repeated.
    pub fn displace(&mut self, dx: i32, dy: i32) {
        let (luma_width, luma_height) = (self.planes[0].width, self.planes[0].height);
        for plane in &mut self.planes {
            let scaled = |d: i32, size: usize, luma: usize| {
                (f64::from(d) * size as f64 / luma as f64).round() as isize
            };
            let dx = scaled(dx, plane.width, luma_width);
            let dy = scaled(dy, plane.height, luma_height);
            let source = plane.pixels.clone();
            for (y, row) in plane.pixels.chunks_mut(plane.width).enumerate() {
                let from_y = (y as isize - dy).clamp(0, plane.height as isize - 1) as usize;
                let from = &source[from_y * plane.width..][..plane.width];
                for (x, pixel) in row.iter_mut().enumerate() {
                    *pixel = from[(x as isize - dx).clamp(0, plane.width as isize - 1) as usize];
                }
            }
        }
    }

    /// Covers `share` of the area, lower left, with a rectangle of the image's aspect ratio.
    pub fn cover(&mut self, share: f64) {
        let scale = share.sqrt();
        for (component, plane) in self.planes.iter_mut().enumerate() {
            let value = if component == 0 { COVER_LUMA } else { 128 };
            let width = (plane.width as f64 * scale).round() as usize;
            let height = (plane.height as f64 * scale).round() as usize;
            for row in plane.pixels.chunks_mut(plane.width).skip(plane.height - height) {
                row[..width].fill(value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ramp(width: usize, height: usize) -> Planes {
        let plane = |w: usize, h: usize| Plane {
            width: w,
            height: h,
            pixels: (0..w * h).map(|i| (i % 251) as u8).collect(),
        };
        Planes {
            planes: vec![
                plane(width, height),
                plane(width / 2, height / 2),
                plane(width / 2, height / 2),
            ],
            full_range: false,
        }
    }

    #[test]
    fn noise_has_its_sigma_and_leaves_chroma_alone() {
        let plane = Plane {
            width: 100,
            height: 100,
            pixels: vec![128; 10_000],
        };
        let mut image = Planes {
            planes: vec![plane.clone(), plane.clone()],
            full_range: true,
        };
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
        image.add_noise(10.0, &NoiseTable::new(), &mut rng);
        let deviations: Vec<f64> = image.planes[0]
            .pixels
            .iter()
            .map(|&p| f64::from(p) - 128.0)
            .collect();
        let sigma = (deviations.iter().map(|d| d * d).sum::<f64>() / 10_000.0).sqrt();
        assert!((sigma - 10.0).abs() < 0.3, "sigma {sigma}");
        assert_eq!(image.planes[1], plane);
    }

    #[test]
    fn light_is_scaled_around_black_and_grey() {
        let plane = |value| Plane {
            width: 1,
            height: 1,
            pixels: vec![value],
        };
        let mut limited = Planes {
            planes: vec![plane(116), plane(78)],
            full_range: false,
        };
        limited.scale_light(0.5);
        assert_eq!(limited.planes, [plane(66), plane(103)]);
        let mut full = Planes {
            planes: vec![plane(200)],
            full_range: true,
        };
        full.scale_light(2.0);
        assert_eq!(full.planes, [plane(255)]);
    }

    #[test]
    fn displacement_moves_pixels_and_repeats_edges() {
        let before = ramp(8, 8);
        let mut after = before.clone();
        after.displace(2, -2);
        let at = |p: &Planes, plane: usize, x: usize, y: usize| {
            p.planes[plane].pixels[y * p.planes[plane].width + x]
        };
        assert_eq!(at(&after, 0, 5, 3), at(&before, 0, 3, 5));
        assert_eq!(at(&after, 0, 0, 0), at(&before, 0, 0, 2));
        assert_eq!(at(&after, 1, 2, 1), at(&before, 1, 1, 2));
    }

    #[test]
    fn a_cover_takes_its_share_of_the_area() {
        let mut image = ramp(100, 100);
        image.planes[0].pixels.fill(255);
        image.cover(0.25);
        let covered = image.planes[0]
            .pixels
            .iter()
            .filter(|&&p| p == COVER_LUMA)
            .count();
        assert_eq!(covered, 2500);
        assert_eq!(image.planes[0].pixels[99 * 100], COVER_LUMA, "lower left");
        assert_eq!(image.planes[0].pixels[99], 255, "upper right");
    }
}
