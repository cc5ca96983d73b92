//! Frames and anomaly maps as images for the page.

use anyhow::{Context, Result};
use gst_video::VideoFrameExt;
use gstvaeanomaly::detector::{AnomalyMap, IgnoredRegions};
use image::{ImageEncoder, Rgb, RgbImage, imageops};

use crate::clips::Frame;

/// Width of the images in pixels.
const WIDTH: u32 = 360;
const JPEG_QUALITY: u8 = 82;
const BOX_COLOUR: Rgb<u8> = Rgb([255, 214, 10]);

/// The frame in colour, scaled down.
pub fn thumbnail(frame: &Frame) -> Result<RgbImage> {
    let full = to_rgb(frame)?;
    let width = WIDTH.min(full.width());
    let height = (full.height() * width / full.width()).max(1);
    Ok(imageops::thumbnail(&full, width, height))
}

/// I420 or GRAY8 to R'G'B' by the frame's own colorimetry.
fn to_rgb(frame: &Frame) -> Result<RgbImage> {
    let mapped = frame.map()?;
    let colorimetry = frame.info.colorimetry();
    let full = colorimetry.range() == gst_video::VideoColorRange::Range0_255;
    let (kr, kb) = match colorimetry.matrix() {
        gst_video::VideoColorMatrix::Bt709 => (0.2126, 0.0722),
        _ => (0.299, 0.114),
    };
    let (black, luma_gain, chroma_gain) = if full {
        (0.0, 1.0, 1.0)
    } else {
        (16.0, 255.0 / 219.0, 255.0 / 224.0)
    };
    let grey = mapped.n_components() < 3;
    let planes = (0..if grey { 1 } else { 3 })
        .map(|c| {
            mapped
                .comp_data(c)
                .context("a plane is missing")
                .map(|d| (d, mapped.comp_stride(c) as usize))
        })
        .collect::<Result<Vec<_>>>()?;
    let at = |plane: usize, x: u32, y: u32| {
        let (data, stride) = planes[plane];
        f32::from(data[y as usize * stride + x as usize])
    };
    Ok(RgbImage::from_fn(mapped.width(), mapped.height(), |x, y| {
        let luma = (at(0, x, y) - black) * luma_gain;
        let (cb, cr) = if grey {
            (0.0, 0.0)
        } else {
            (
                (at(1, x / 2, y / 2) - 128.0) * chroma_gain,
                (at(2, x / 2, y / 2) - 128.0) * chroma_gain,
            )
        };
        let red = luma + 2.0 * (1.0 - kr) * cr;
        let blue = luma + 2.0 * (1.0 - kb) * cb;
        let green = (luma - kr * red - kb * blue) / (1.0 - kr - kb);
        Rgb([red, green, blue].map(|v| v.round().clamp(0.0, 255.0) as u8))
    }))
}

/// Darkens what is ignored.
pub fn darken(image: &mut RgbImage, ignored: &IgnoredRegions) {
    let ignored = ignored.pixels((image.width() as usize, image.height() as usize));
    for (pixel, _) in image.pixels_mut().zip(ignored).filter(|(_, ignored)| *ignored) {
        pixel.0 = pixel.0.map(|value| value / 3);
    }
}

/// Draws the outline of a rectangle; `scale`: pixels of `image` per pixel of the rectangle.
pub fn draw_box(image: &mut RgbImage, [x, y, width, height]: [u32; 4], scale: f64) {
    let scaled = |v: u32| (f64::from(v) * scale).round() as u32;
    let (right, bottom) = (image.width() - 1, image.height() - 1);
    let (left, top) = (scaled(x).min(right), scaled(y).min(bottom));
    let (right, bottom) = (scaled(x + width).min(right), scaled(y + height).min(bottom));
    for thick in 0..2 {
        for px in left..=right {
            for py in [top + thick, bottom.saturating_sub(thick)] {
                put(image, px, py);
            }
        }
        for py in top..=bottom {
            for px in [left + thick, right.saturating_sub(thick)] {
                put(image, px, py);
            }
        }
    }
}

fn put(image: &mut RgbImage, x: u32, y: u32) {
    if x < image.width() && y < image.height() {
        image.put_pixel(x, y, BOX_COLOUR);
    }
}

/// The map as a heat map over the image in grey: transparent at 0, the threshold at 0.5.
pub fn heat(map: &AnomalyMap, image: &RgbImage) -> RgbImage {
    let (width, height) = image.dimensions();
    RgbImage::from_fn(width, height, |x, y| {
        let value = sample(
            map,
            f64::from(x) / f64::from(width),
            f64::from(y) / f64::from(height),
        );
        let p = image.get_pixel(x, y);
        let grey =
            0.55 * (0.299 * f64::from(p[0]) + 0.587 * f64::from(p[1]) + 0.114 * f64::from(p[2])) + 40.0;
        let colour = heat_colour(value);
        let alpha = (1.6 * value).clamp(0.0, 0.85);
        Rgb(colour.map(|c| ((1.0 - alpha) * grey + alpha * c).round().clamp(0.0, 255.0) as u8))
    })
}

/// Bilinear interpolation at a point of the unit square.
fn sample(map: &AnomalyMap, u: f64, v: f64) -> f64 {
    if map.values.is_empty() {
        return 0.0;
    }
    let neighbours = |unit: f64, cells: usize| {
        let at = (unit * cells as f64 - 0.5).clamp(0.0, (cells - 1) as f64);
        (at as usize, (at as usize + 1).min(cells - 1), at.fract())
    };
    let (x0, x1, fx) = neighbours(u, map.width);
    let (y0, y1, fy) = neighbours(v, map.height);
    let at = |x: usize, y: usize| f64::from(map.values[y * map.width + x]);
    let (upper, lower) = (
        at(x0, y0) * (1.0 - fx) + at(x1, y0) * fx,
        at(x0, y1) * (1.0 - fx) + at(x1, y1) * fx,
    );
    upper * (1.0 - fy) + lower * fy
}

/// Blue over yellow to red, yellow at the threshold.
fn heat_colour(value: f64) -> [f64; 3] {
    let (from, to, t) = if value < 0.5 {
        ([40.0, 70.0, 200.0], [255.0, 220.0, 60.0], value / 0.5)
    } else {
        ([255.0, 220.0, 60.0], [215.0, 25.0, 28.0], (value - 0.5) / 0.5)
    };
    [0, 1, 2].map(|i| from[i] + (to[i] - from[i]) * t.clamp(0.0, 1.0))
}

/// The image as a data URI.
pub fn data_uri(image: &RgbImage) -> Result<String> {
    let mut bytes = Vec::new();
    image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY).write_image(
        image,
        image.width(),
        image.height(),
        image::ExtendedColorType::Rgb8,
    )?;
    Ok(format!(
        "data:image/jpeg;base64,{}",
        gst::glib::base64_encode(&bytes)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ignored_is_dark() {
        let mut image = RgbImage::from_pixel(2, 1, Rgb([90, 60, 30]));
        darken(
            &mut image,
            &IgnoredRegions::from_polygons("0,0 0.5,0 0.5,1 0,1").unwrap(),
        );
        assert_eq!(image.into_raw(), [30, 20, 10, 90, 60, 30]);
    }

    #[test]
    fn maps_are_interpolated_between_cells() {
        let map = AnomalyMap {
            width: 2,
            height: 1,
            values: vec![0.0, 1.0],
        };
        assert_eq!(sample(&map, 0.0, 0.5), 0.0);
        assert_eq!(sample(&map, 0.5, 0.5), 0.5);
        assert_eq!(sample(&map, 1.0, 0.5), 1.0);
    }
}
