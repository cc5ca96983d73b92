//! Pixel formats and the borrowed view of a frame.

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
