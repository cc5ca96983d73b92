//! From GStreamer's video frame to the core's view of an image, without a copy.

use gst_video::prelude::*;

use super::cuda_memory;
use crate::detector::{ColorModel, ColorRange, ImageView, PixelFormat};

/// The formats of the caps, in order of preference.
const FORMATS: [(gst_video::VideoFormat, PixelFormat); 22] = {
    use gst_video::VideoFormat as V;
    [
        (V::I420, PixelFormat::I420),
        (V::Nv12, PixelFormat::Nv12),
        (V::Yv12, PixelFormat::Yv12),
        (V::Nv21, PixelFormat::Nv21),
        (V::Nv16, PixelFormat::Nv16),
        (V::Y42b, PixelFormat::Y42b),
        (V::Y444, PixelFormat::Y444),
        (V::Yuy2, PixelFormat::Yuy2),
        (V::Uyvy, PixelFormat::Uyvy),
        (V::P01010le, PixelFormat::P010Le),
        (V::Gray8, PixelFormat::Gray8),
        (V::Gray16Le, PixelFormat::Gray16Le),
        (V::Rgb, PixelFormat::Rgb),
        (V::Bgr, PixelFormat::Bgr),
        (V::Rgbx, PixelFormat::Rgbx),
        (V::Bgrx, PixelFormat::Bgrx),
        (V::Xrgb, PixelFormat::Xrgb),
        (V::Xbgr, PixelFormat::Xbgr),
        (V::Rgba, PixelFormat::Rgba),
        (V::Bgra, PixelFormat::Bgra),
        (V::Argb, PixelFormat::Argb),
        (V::Abgr, PixelFormat::Abgr),
    ]
};

/// Raw video of the sizes that the core processes, at any frame rate, in system memory and, where that can be read, in CUDA
/// memory.
pub(super) fn caps() -> gst::Caps {
    let mut caps = builder().format_list(FORMATS.map(|(video, _)| video)).build();
    caps.merge(cuda_memory::caps());
    caps
}

/// Caps of all sizes that the core processes.
pub(super) fn builder() -> gst_video::VideoCapsBuilder<gst::caps::NoFeature> {
    let sides = ImageView::MIN_SIDE as i32..=ImageView::MAX_SIDE as i32;
    gst_video::VideoCapsBuilder::new()
        .width_range(sides.clone())
        .height_range(sides)
}

/// The core's equivalent of a format of the caps.
///
/// # Errors
/// A sentence: it is not in the caps.
pub(super) fn pixel_format(format: gst_video::VideoFormat) -> Result<PixelFormat, String> {
    FORMATS
        .iter()
        .find(|(video, _)| *video == format)
        .map(|(_, pixel)| *pixel)
        .ok_or_else(|| format!("format {format:?} is not supported"))
}

pub(super) fn color_model(info: &gst_video::VideoInfo) -> ColorModel {
    let colorimetry = info.colorimetry();
    let (kr, kb) = colorimetry.matrix().kr_kb().unwrap_or((0.299, 0.114));
    let range = match colorimetry.range() {
        gst_video::VideoColorRange::Range0_255 => ColorRange::Full,
        _ => ColorRange::Limited,
    };
    ColorModel {
        range,
        kr: kr as f32,
        kb: kb as f32,
    }
}

/// Calls `process` with a view of a mapped frame.
///
/// # Errors
/// A sentence: the format is not in the caps, a plane is missing, or `process` fails.
pub(super) fn with_view<T>(
    frame: &gst_video::VideoFrameRef<&gst::BufferRef>,
    process: impl FnOnce(&ImageView<'_>) -> crate::detector::Result<T>,
) -> Result<T, String> {
    let format = pixel_format(frame.format())?;
    let mut planes: [&[u8]; 3] = [&[]; 3];
    let mut strides = [0; 3];
    let count = (frame.n_planes() as usize).min(planes.len());
    for (i, plane) in planes.iter_mut().enumerate().take(count) {
        *plane = frame.plane_data(i as u32).map_err(|e| e.to_string())?;
        strides[i] = usize::try_from(frame.plane_stride()[i])
            .map_err(|_| format!("stride {} of plane {i} is negative", frame.plane_stride()[i]))?;
    }
    process(&ImageView {
        format,
        width: frame.width() as usize,
        height: frame.height() as usize,
        planes: &planes[..count],
        strides: &strides[..count],
        color: color_model(frame.info()),
    })
    .map_err(|e| e.to_string())
}
