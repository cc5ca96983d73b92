//! Pixel formats and the borrowed view of a frame.

use crate::detector::{Error, Result};

/// Layout of the pixels; names as GStreamer's `GstVideoFormat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are the documentation")]
pub enum PixelFormat {
    Gray8,
    Gray16Le,
    I420,
    Yv12,
    Nv12,
    Nv21,
    Nv16,
    Y42b,
    Y444,
    Yuy2,
    Uyvy,
    P010Le,
    Rgb,
    Bgr,
    Rgbx,
    Bgrx,
    Xrgb,
    Xbgr,
    Rgba,
    Bgra,
    Argb,
    Abgr,
}

impl PixelFormat {
    /// Every format that the detector reads.
    pub const ALL: [Self; 22] = [
        Self::Gray8,
        Self::Gray16Le,
        Self::I420,
        Self::Yv12,
        Self::Nv12,
        Self::Nv21,
        Self::Nv16,
        Self::Y42b,
        Self::Y444,
        Self::Yuy2,
        Self::Uyvy,
        Self::P010Le,
        Self::Rgb,
        Self::Bgr,
        Self::Rgbx,
        Self::Bgrx,
        Self::Xrgb,
        Self::Xbgr,
        Self::Rgba,
        Self::Bgra,
        Self::Argb,
        Self::Abgr,
    ];

    /// The name in GStreamer's caps.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gray8 => "GRAY8",
            Self::Gray16Le => "GRAY16_LE",
            Self::I420 => "I420",
            Self::Yv12 => "YV12",
            Self::Nv12 => "NV12",
            Self::Nv21 => "NV21",
            Self::Nv16 => "NV16",
            Self::Y42b => "Y42B",
            Self::Y444 => "Y444",
            Self::Yuy2 => "YUY2",
            Self::Uyvy => "UYVY",
            Self::P010Le => "P010_10LE",
            Self::Rgb => "RGB",
            Self::Bgr => "BGR",
            Self::Rgbx => "RGBx",
            Self::Bgrx => "BGRx",
            Self::Xrgb => "xRGB",
            Self::Xbgr => "xBGR",
            Self::Rgba => "RGBA",
            Self::Bgra => "BGRA",
            Self::Argb => "ARGB",
            Self::Abgr => "ABGR",
        }
    }

    /// The format of that name in GStreamer's caps.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }

    /// Number of planes, 1 to 3.
    pub const fn plane_count(self) -> usize {
        match self {
            Self::I420 | Self::Yv12 | Self::Y42b | Self::Y444 => 3,
            Self::Nv12 | Self::Nv21 | Self::Nv16 | Self::P010Le => 2,
            _ => 1,
        }
    }

    /// Smallest number of bytes that a row of `plane` takes in an image of `width` pixels. Subsampled
    /// chroma is rounded up.
    ///
    /// # Panics
    /// If the format has no such plane.
    pub const fn row_bytes(self, plane: usize, width: usize) -> usize {
        assert!(plane < self.plane_count(), "no such plane");
        let half = width.div_ceil(2);
        match self {
            Self::Gray8 | Self::Y444 => width,
            Self::Gray16Le => 2 * width,
            Self::I420 | Self::Yv12 | Self::Y42b if plane > 0 => half,
            Self::Nv12 | Self::Nv21 | Self::Nv16 if plane > 0 => 2 * half,
            Self::I420 | Self::Yv12 | Self::Y42b | Self::Nv12 | Self::Nv21 | Self::Nv16 => width,
            Self::P010Le if plane > 0 => 4 * half,
            Self::P010Le => 2 * width,
            Self::Yuy2 | Self::Uyvy => 4 * half,
            Self::Rgb | Self::Bgr => 3 * width,
            _ => 4 * width,
        }
    }

    /// Rows of `plane` in an image of `height` pixels. Subsampled chroma is rounded up.
    ///
    /// # Panics
    /// If the format has no such plane.
    pub const fn plane_rows(self, plane: usize, height: usize) -> usize {
        assert!(plane < self.plane_count(), "no such plane");
        match self {
            Self::I420 | Self::Yv12 | Self::Nv12 | Self::Nv21 | Self::P010Le if plane > 0 => {
                height.div_ceil(2)
            }
            _ => height,
        }
    }

    /// Smallest number of bytes that `plane` takes with rows `stride` bytes apart: the last row may end after
    /// its last pixel.
    ///
    /// # Panics
    /// If the format has no such plane.
    pub const fn plane_bytes(self, plane: usize, width: usize, height: usize, stride: usize) -> usize {
        let rows = self.plane_rows(plane, height);
        if rows == 0 {
            return 0;
        }
        stride
            .saturating_mul(rows - 1)
            .saturating_add(self.row_bytes(plane, width))
    }
}

impl std::fmt::Display for PixelFormat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// Range of the stored values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColorRange {
    /// 0..255 for all components (or the format's full depth).
    Full,
    /// Luma 16..235, chroma 16..240 (scaled to the format's depth).
    Limited,
}

/// Weights of red and blue in luma: what turns stored Y'CbCr into R'G'B'.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ColorModel {
    /// Range of the stored values; ignored for RGB and for grey 16 bit.
    pub range: ColorRange,
    /// Weight of red in luma, 0.299 for BT.601.
    pub kr: f32,
    /// Weight of blue in luma, 0.114 for BT.601.
    pub kb: f32,
}

impl ColorModel {
    /// BT.601 in limited range, the usual of standard definition.
    pub const BT601: Self = Self {
        range: ColorRange::Limited,
        kr: 0.299,
        kb: 0.114,
    };
    /// BT.709 in limited range, the usual of high definition.
    pub const BT709: Self = Self {
        range: ColorRange::Limited,
        kr: 0.2126,
        kb: 0.0722,
    };
    /// BT.601 in full range, as in JPEG.
    pub const JPEG: Self = Self {
        range: ColorRange::Full,
        kr: 0.299,
        kb: 0.114,
    };
}

/// A frame that somebody else owns. Strides are in bytes, a plane's last row may end after its last pixel.
#[derive(Clone, Copy, Debug)]
pub struct ImageView<'a> {
    /// Layout of the pixels.
    pub format: PixelFormat,
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// Bytes of each plane (one to three), in the order of the format (`Yv12` stores V before U).
    pub planes: &'a [&'a [u8]],
    /// Bytes from one row to the next, of each plane.
    pub strides: &'a [usize],
    /// How stored numbers become colours.
    pub color: ColorModel,
}

impl ImageView<'_> {
    /// Smallest width and height, in pixels.
    pub const MIN_SIDE: usize = 16;
    /// Largest width and height, in pixels.
    pub const MAX_SIDE: usize = 16_384;

    /// Checks that the planes are large enough for the view's format and size.
    pub fn validate(&self) -> Result<()> {
        let mut lengths = [0; 4];
        let count = self.planes.len().min(lengths.len());
        for (length, plane) in lengths.iter_mut().zip(self.planes) {
            *length = plane.len();
        }
        let size = (self.width, self.height);
        Self::validate_planes(self.format, size, &lengths[..count], self.strides, self.color)
    }

    /// The same for planes of `lengths` bytes, wherever they are.
    pub(super) fn validate_planes(
        format: PixelFormat,
        (width, height): (usize, usize),
        lengths: &[usize],
        strides: &[usize],
        color: ColorModel,
    ) -> Result<()> {
        validate_size(width, height)?;
        validate_color(color)?;
        let count = format.plane_count();
        if lengths.len() != count || strides.len() != count {
            return Err(Error::Image(format!(
                "{format} has {count} planes, got {} planes and {} strides",
                lengths.len(),
                strides.len()
            )));
        }
        for (index, (&length, &stride)) in lengths.iter().zip(strides).enumerate() {
            let row_bytes = format.row_bytes(index, width);
            if stride < row_bytes {
                return Err(Error::Image(format!(
                    "stride of plane {index} must be at least {row_bytes} bytes for {format} \
                     {width}x{height}, got {stride}"
                )));
            }
            let bytes = format.plane_bytes(index, width, height, stride);
            if length < bytes {
                return Err(Error::Image(format!(
                    "plane {index} must hold at least {bytes} bytes for {format} {width}x{height} with \
                     stride {stride}, got {length}"
                )));
            }
        }
        Ok(())
    }
}

fn validate_size(width: usize, height: usize) -> Result<()> {
    let allowed = ImageView::MIN_SIDE..=ImageView::MAX_SIDE;
    if allowed.contains(&width) && allowed.contains(&height) {
        return Ok(());
    }
    Err(Error::Image(format!(
        "width and height must be {}..={} pixels, got {width}x{height}",
        ImageView::MIN_SIDE,
        ImageView::MAX_SIDE
    )))
}

fn validate_color(ColorModel { kr, kb, .. }: ColorModel) -> Result<()> {
    let valid = kr >= 0.0 && kb >= 0.0 && kr + kb < 1.0;
    if valid {
        return Ok(());
    }
    Err(Error::Image(format!(
        "weights of red and blue in luma must be at least 0 and their sum below 1, got {kr} and {kb}"
    )))
}

#[cfg(test)]
#[path = "format_tests.rs"]
mod tests;
