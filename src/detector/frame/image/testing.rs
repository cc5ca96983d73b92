//! Frames for tests, and the area average as one would write it down, in double precision.

use super::{ColorModel, ColorRange, ImageView, PixelFormat};
use PixelFormat as F;

/// A frame that owns its bytes.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) format: PixelFormat,
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) planes: Vec<Vec<u8>>,
    pub(crate) strides: Vec<usize>,
    pub(crate) color: ColorModel,
}

/// SplitMix64.
fn noise(seed: u64) -> u64 {
    let mut z = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Frame {
    /// All bytes `filler`, rows `padding` bytes longer than needed except for the last.
    pub(crate) fn new(format: PixelFormat, size: (usize, usize), padding: usize, filler: u8) -> Self {
        let (width, height) = size;
        let strides: Vec<usize> = (0..format.plane_count())
            .map(|plane| format.row_bytes(plane, width) + padding)
            .collect();
        let planes = strides
            .iter()
            .enumerate()
            .map(|(plane, &stride)| vec![filler; format.plane_bytes(plane, width, height, stride)])
            .collect();
        Self {
            format,
            width,
            height,
            planes,
            strides,
            color: ColorModel::BT601,
        }
    }

    /// Every pixel of its own random colour; the same whatever the padding.
    pub(crate) fn random(format: PixelFormat, size: (usize, usize), padding: usize, seed: u64) -> Self {
        let mut frame = Self::new(format, size, padding, padding as u8);
        for y in 0..size.1 {
            for x in 0..size.0 {
                for component in 0..3 {
                    let position = ((y * size.0 + x) * 3 + component) as u64;
                    frame.store(x, y, component, noise(position + (seed << 32)) as u16);
                }
            }
        }
        frame
    }

    /// One colour everywhere, `red, green, blue` in 0..1, rounded as an encoder rounds.
    pub(super) fn solid(format: PixelFormat, size: (usize, usize), rgb: [f64; 3], color: ColorModel) -> Self {
        let mut frame = Self::new(format, size, 5, 77);
        frame.color = color;
        let stored = frame.encode(rgb);
        for y in 0..size.1 {
            for x in 0..size.0 {
                for (component, value) in stored.into_iter().enumerate() {
                    frame.store(x, y, component, value);
                }
            }
        }
        frame
    }

    pub(super) fn is_rgb(&self) -> bool {
        !self.is_grey() && locate(self.format, 0, 0, 1).is_some_and(|location| location.rgb)
    }

    pub(super) fn is_grey(&self) -> bool {
        matches!(self.format, F::Gray8 | F::Gray16Le)
    }

    pub(crate) fn view<R>(&self, then: impl FnOnce(&ImageView<'_>) -> R) -> R {
        let planes: Vec<&[u8]> = self.planes.iter().map(Vec::as_slice).collect();
        then(&ImageView {
            format: self.format,
            width: self.width,
            height: self.height,
            planes: &planes,
            strides: &self.strides,
            color: self.color,
        })
    }

    /// Offset and unit of luma, and of chroma, in the numbers that `load` gives.
    fn levels(&self) -> ((f64, f64), (f64, f64)) {
        let limited = self.color.range == ColorRange::Limited;
        match self.format {
            F::Gray16Le => ((0.0, 65_535.0), (0.0, 1.0)),
            F::P010Le if limited => ((64.0, 876.0), (512.0, 896.0)),
            F::P010Le => ((0.0, 1023.0), (512.0, 1023.0)),
            _ if limited => ((16.0, 219.0), (128.0, 224.0)),
            _ => ((0.0, 255.0), (128.0, 255.0)),
        }
    }

    fn encode(&self, [red, green, blue]: [f64; 3]) -> [u16; 3] {
        if self.is_rgb() {
            return [red, green, blue].map(|value| (255.0 * value).round() as u16);
        }
        let (kr, kb) = (f64::from(self.color.kr), f64::from(self.color.kb));
        let y = kr * red + (1.0 - kr - kb) * green + kb * blue;
        let chroma = [(blue - y) / (2.0 - 2.0 * kb), (red - y) / (2.0 - 2.0 * kr)];
        let ((black, luma), (zero, unit)) = self.levels();
        // Full range cannot store a chroma of exactly one half.
        let [cb, cr] = chroma.map(|value| (zero + unit * value).round().min(2.0 * zero - 1.0));
        [black + luma * y, cb, cr].map(|value| value.round() as u16)
    }

    /// The stored number of a pixel's component (Y, Cb, Cr or R, G, B).
    fn load(&self, x: usize, y: usize, component: usize) -> f64 {
        let Some(location) = locate(self.format, x, y, component) else {
            return 0.0;
        };
        let bytes =
            &self.planes[location.plane][location.row * self.strides[location.plane] + location.byte..];
        match self.format {
            F::P010Le => f64::from(u16::from_le_bytes([bytes[0], bytes[1]]) >> 6),
            F::Gray16Le => f64::from(u16::from_le_bytes([bytes[0], bytes[1]])),
            _ => f64::from(bytes[0]),
        }
    }

    fn store(&mut self, x: usize, y: usize, component: usize, value: u16) {
        let Some(location) = locate(self.format, x, y, component) else {
            return;
        };
        let bytes =
            &mut self.planes[location.plane][location.row * self.strides[location.plane] + location.byte..];
        match self.format {
            F::P010Le => bytes[..2].copy_from_slice(&(value << 6).to_le_bytes()),
            F::Gray16Le => bytes[..2].copy_from_slice(&value.to_le_bytes()),
            _ => bytes[0] = value as u8,
        }
    }

    /// Area average of one value a pixel, on a grid that is displaced `by` pixels; NaN where a cell is not entirely in the
    /// frame.
    fn average(
        &self,
        (width, height): (usize, usize),
        by: (isize, isize),
        value: impl Fn(usize, usize) -> f64,
    ) -> Vec<f64> {
        let value = |x: usize, y: usize| {
            let (x, y) = (x.checked_add_signed(by.0), y.checked_add_signed(by.1));
            match (x.filter(|x| *x < self.width), y.filter(|y| *y < self.height)) {
                (Some(x), Some(y)) => value(x, y),
                _ => f64::NAN,
            }
        };
        let overlaps = |cell: usize, cells: usize, extent: usize| {
            let (from, to) = (cell * extent, (cell + 1) * extent);
            (from / cells..to.div_ceil(cells)).map(move |pixel| {
                let overlap = to.min((pixel + 1) * cells) - from.max(pixel * cells);
                (pixel, overlap as f64 / extent as f64)
            })
        };
        let mut small = Vec::new();
        for row in 0..height {
            for column in 0..width {
                let mut mean = 0.0;
                for (y, share_y) in overlaps(row, height, self.height) {
                    for (x, share_x) in overlaps(column, width, self.width) {
                        mean += share_y * share_x * value(x, y);
                    }
                }
                small.push(mean);
            }
        }
        small
    }

    /// What the grey image should be.
    pub(super) fn expected_grey(&self, size: (usize, usize), by: (isize, isize)) -> Vec<f64> {
        let ((black, white), _) = self.levels();
        let small = self.average(size, by, |x, y| {
            if self.is_rgb() {
                let [red, green, blue] = [0, 1, 2].map(|component| self.load(x, y, component));
                (0.299 * red + 0.587 * green + 0.114 * blue) / 255.0
            } else {
                (self.load(x, y, 0) - black) / white
            }
        });
        small.into_iter().map(|value| value.clamp(0.0, 1.0)).collect()
    }

    /// What the colour image should be.
    pub(super) fn expected_colour(&self, size: (usize, usize), by: (isize, isize)) -> Vec<f64> {
        let [first, second, third] =
            [0, 1, 2].map(|component| self.average(size, by, |x, y| self.load(x, y, component)));
        let ((black, luma), (zero, unit)) = self.levels();
        let (kr, kb) = (f64::from(self.color.kr), f64::from(self.color.kb));
        let pixel = |((a, b), c): ((f64, f64), f64)| {
            let y = (a - black) / luma * 255.0;
            if self.is_grey() {
                return if y.is_nan() {
                    [y; 3]
                } else {
                    [y.clamp(0.0, 255.0), 128.0, 128.0]
                };
            }
            let mut rgb = [a, b, c];
            if !self.is_rgb() {
                let [cb, cr] = [b, c].map(|value| (value - zero) / unit * 255.0);
                let green = y - (2.0 * kb * (1.0 - kb) * cb + 2.0 * kr * (1.0 - kr) * cr) / (1.0 - kr - kb);
                rgb = [y + 2.0 * (1.0 - kr) * cr, green, y + 2.0 * (1.0 - kb) * cb];
            }
            full_range_ycrcb(rgb.map(|value| value.clamp(0.0, 255.0)))
        };
        first.into_iter().zip(second).zip(third).flat_map(pixel).collect()
    }
}

/// Y, Cr, Cb of R', G', B', all in 0..255.
pub(super) fn full_range_ycrcb([red, green, blue]: [f64; 3]) -> [f64; 3] {
    let y = 0.299 * red + 0.587 * green + 0.114 * blue;
    [y, (red - y) * 0.713 + 128.0, (blue - y) * 0.564 + 128.0].map(|value| value.clamp(0.0, 255.0))
}

struct ByteLocation {
    plane: usize,
    row: usize,
    byte: usize,
    rgb: bool,
}

/// Where the component of a pixel is stored; nothing for the chroma of grey video.
fn locate(format: PixelFormat, x: usize, y: usize, component: usize) -> Option<ByteLocation> {
    let yuv = |plane, row, byte| {
        Some(ByteLocation {
            plane,
            row,
            byte,
            rgb: false,
        })
    };
    let rgb = |step, offsets: [usize; 3]| {
        Some(ByteLocation {
            plane: 0,
            row: y,
            byte: step * x + offsets[component],
            rgb: true,
        })
    };
    match (format, component) {
        (F::Gray8, 0) => yuv(0, y, x),
        (F::Gray16Le, 0) => yuv(0, y, 2 * x),
        (F::Gray8 | F::Gray16Le, _) => None,
        (F::Yuy2, 0) => yuv(0, y, 2 * x),
        (F::Yuy2, 1) => yuv(0, y, x / 2 * 4 + 1),
        (F::Yuy2, _) => yuv(0, y, x / 2 * 4 + 3),
        (F::Uyvy, 0) => yuv(0, y, 2 * x + 1),
        (F::Uyvy, 1) => yuv(0, y, x / 2 * 4),
        (F::Uyvy, _) => yuv(0, y, x / 2 * 4 + 2),
        (F::P010Le, 0) => yuv(0, y, 2 * x),
        (F::P010Le, c) => yuv(1, y / 2, x / 2 * 4 + 2 * (c - 1)),
        (F::Rgb, _) => rgb(3, [0, 1, 2]),
        (F::Bgr, _) => rgb(3, [2, 1, 0]),
        (F::Rgbx | F::Rgba, _) => rgb(4, [0, 1, 2]),
        (F::Bgrx | F::Bgra, _) => rgb(4, [2, 1, 0]),
        (F::Xrgb | F::Argb, _) => rgb(4, [1, 2, 3]),
        (F::Xbgr | F::Abgr, _) => rgb(4, [3, 2, 1]),
        (_, 0) => yuv(0, y, x),
        (F::I420, c) => yuv(c, y / 2, x / 2),
        (F::Yv12, c) => yuv(3 - c, y / 2, x / 2),
        (F::Y42b, c) => yuv(c, y, x / 2),
        (F::Y444, c) => yuv(c, y, x),
        (F::Nv12, c) => yuv(1, y / 2, x / 2 * 2 + c - 1),
        (F::Nv21, c) => yuv(1, y / 2, x / 2 * 2 + 2 - c),
        (F::Nv16, c) => yuv(1, y, x / 2 * 2 + c - 1),
    }
}
