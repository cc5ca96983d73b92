//! From averages of stored components to the numbers that the cues look at.

use super::layout::Family;
use super::{ColorModel, ColorRange, PixelFormat};

/// Turns averages of stored components into full-range values.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expansion {
    family: Family,
    /// Stored black and stored white minus black.
    pub(super) luma: (f32, f32),
    /// Stored zero, and the distance that stands for 1 (from -0.5 to 0.5).
    pub(super) chroma: (f32, f32),
    pub(super) kr: f32,
    pub(super) kb: f32,
}

impl Expansion {
    pub(super) fn new(format: PixelFormat, family: Family, color: ColorModel) -> Self {
        let (range, one, full) = match format {
            PixelFormat::Gray16Le => (ColorRange::Full, 256.0, 65_535.0),
            // Ten bits at the top of sixteen.
            PixelFormat::P010Le => (color.range, 256.0, 1023.0 * 64.0),
            _ => (color.range, 1.0, 255.0),
        };
        let (luma, chroma_span) = match range {
            ColorRange::Full => ((0.0, full), full),
            ColorRange::Limited => ((16.0 * one, 219.0 * one), 224.0 * one),
        };
        Self {
            family,
            luma,
            chroma: (128.0 * one, chroma_span),
            kr: color.kr,
            kb: color.kb,
        }
    }

    /// Turns averages of the grey component into 0..1.
    pub(super) fn grey(&self, image: &mut [f32]) {
        let (black, span) = match self.family {
            Family::Rgb => (0.0, 255.0),
            Family::Grey | Family::Yuv => self.luma,
        };
        let factor = 1.0 / span;
        for value in image {
            *value = ((*value - black) * factor).clamp(0.0, 1.0);
        }
    }

    /// Turns averages of Y, Cb, Cr or R, G, B (or grey and two more) into full-range BT.601 Y, Cr, Cb,
    /// 0..255.
    pub(super) fn colour(&self, image: &mut [f32]) {
        let (pixels, _) = image.as_chunks_mut::<3>();
        for pixel in pixels {
            *pixel = match self.family {
                Family::Grey => [self.stored_luma(pixel[0]), 128.0, 128.0],
                Family::Rgb => ycrcb(*pixel),
                Family::Yuv => ycrcb(self.rgb(*pixel)),
            };
        }
    }

    fn stored_luma(&self, value: f32) -> f32 {
        let (black, span) = self.luma;
        ((value - black) * (255.0 / span)).clamp(0.0, 255.0)
    }

    /// Inverse of Y' = kr R' + kg G' + kb B', Cb = (B' - Y') / (2 - 2 kb), Cr = (R' - Y') / (2 - 2 kr)
    /// (ITU-T H.273).
    fn rgb(&self, [y, cb, cr]: [f32; 3]) -> [f32; 3] {
        let (black, span) = self.luma;
        let (zero, one) = self.chroma;
        let (kr, kb) = (self.kr, self.kb);
        let y = (y - black) * (255.0 / span);
        let cb = (cb - zero) * (255.0 / one);
        let cr = (cr - zero) * (255.0 / one);
        let red = y + 2.0 * (1.0 - kr) * cr;
        let blue = y + 2.0 * (1.0 - kb) * cb;
        let green = (y - kr * red - kb * blue) / (1.0 - kr - kb);
        [red, green, blue].map(|value| value.clamp(0.0, 255.0))
    }
}

/// As OpenCV's `COLOR_RGB2YCrCb`, saturated as there.
fn ycrcb([red, green, blue]: [f32; 3]) -> [f32; 3] {
    let y = 0.299 * red + 0.587 * green + 0.114 * blue;
    let cr = (red - y) * 0.713 + 128.0;
    let cb = (blue - y) * 0.564 + 128.0;
    [y, cr, cb].map(|value| value.clamp(0.0, 255.0))
}
