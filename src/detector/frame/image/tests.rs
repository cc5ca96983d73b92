use super::testing::{Frame, full_range_ycrcb};
use super::{ColorModel, ColorRange, PixelFormat, ReducedFrame, ReducedSizes, Reducer};
use crate::detector::Error;

const BOTH: ReducedSizes = ReducedSizes {
    grey: Some((45, 28)),
    colour: Some((16, 8)),
};

fn reduce(frame: &Frame, sizes: ReducedSizes) -> ReducedFrame {
    reduce_displaced(frame, sizes, (0, 0))
}

/// On grids that are displaced by pixels of the frame.
fn reduce_displaced(frame: &Frame, sizes: ReducedSizes, by: (isize, isize)) -> ReducedFrame {
    let mut out = ReducedFrame::default();
    let displacement = [
        by.0 as f32 / frame.width as f32,
        by.1 as f32 / frame.height as f32,
    ];
    frame.view(|view| {
        let mut reducer = Reducer::new(view, sizes, displacement).unwrap();
        reducer.reduce(view, &mut out).unwrap();
    });
    out
}

fn assert_close(what: &str, got: &[f32], expected: &[f64], tolerance: f64) {
    assert_eq!(got.len(), expected.len(), "{what}: length");
    for (index, (got, expected)) in got.iter().zip(expected).enumerate() {
        let error = (f64::from(*got) - expected).abs();
        assert!(
            error <= tolerance || (got.is_nan() && expected.is_nan()),
            "{what}: value {index} is {got}, not {expected}"
        );
    }
}

fn assert_as_reference(frame: &Frame, sizes: ReducedSizes) {
    assert_displaced_as_reference(frame, sizes, (0, 0));
}

fn assert_displaced_as_reference(frame: &Frame, sizes: ReducedSizes, by: (isize, isize)) {
    let out = reduce_displaced(frame, sizes, by);
    let what = format!(
        "{} {}x{} {:?} {sizes:?} displaced by {by:?}",
        frame.format, frame.width, frame.height, frame.color
    );
    let grey = sizes
        .grey
        .map(|size| frame.expected_grey(size, by))
        .unwrap_or_default();
    assert_close(&format!("grey of {what}"), &out.grey, &grey, 2e-6);
    let colour = sizes
        .colour
        .map(|size| frame.expected_colour(size, by))
        .unwrap_or_default();
    assert_close(&format!("colour of {what}"), &out.colour, &colour, 5e-4);
}

#[test]
fn all_formats_and_odd_sizes_are_averaged_as_by_the_reference() {
    let colors = [ColorModel::BT601, ColorModel::BT709, ColorModel::JPEG];
    for (index, format) in PixelFormat::ALL.into_iter().enumerate() {
        for (size, padding) in [
            ((16, 16), 0),
            ((17, 19), 3),
            ((64, 33), 32),
            ((101, 77), 1),
            ((130, 16), 7),
        ] {
            let mut frame = Frame::random(format, size, padding, index as u64);
            for color in colors {
                frame.color = color;
                assert_as_reference(&frame, BOTH);
            }
        }
    }
}

#[test]
fn displaced_grids_average_other_pixels() {
    for (index, format) in PixelFormat::ALL.into_iter().enumerate() {
        for (size, by) in [
            ((64, 48), (2, 0)),
            ((101, 77), (-3, 5)),
            ((101, 77), (1, -7)),
            ((33, 130), (-4, -11)),
            ((64, 48), (90, 0)),
        ] {
            let frame = Frame::random(format, size, index % 3, index as u64);
            assert_displaced_as_reference(&frame, BOTH, by);
            assert_displaced_as_reference(&frame, ReducedSizes { colour: None, ..BOTH }, by);
        }
    }
}

#[test]
fn either_picture_alone_is_the_same() {
    for format in PixelFormat::ALL {
        let frame = Frame::random(format, (75, 61), 0, 1);
        let both = reduce(&frame, BOTH);
        let grey = reduce(&frame, ReducedSizes { colour: None, ..BOTH });
        let colour = reduce(&frame, ReducedSizes { grey: None, ..BOTH });
        assert!(grey.colour.is_empty() && colour.grey.is_empty());
        assert_as_reference(&frame, ReducedSizes { colour: None, ..BOTH });
        assert_as_reference(&frame, ReducedSizes { grey: None, ..BOTH });
        let both_grey: Vec<f64> = both.grey.into_iter().map(f64::from).collect();
        let both_colour: Vec<f64> = both.colour.into_iter().map(f64::from).collect();
        assert_close("grey", &grey.grey, &both_grey, 1e-6);
        assert_close("colour", &colour.colour, &both_colour, 2e-4);
    }
}

#[test]
fn usual_grids_enlarge_small_frames_and_shrink_large_ones() {
    let usual = ReducedSizes {
        grey: Some((180, 100)),
        colour: Some((64, 40)),
    };
    for format in [
        PixelFormat::I420,
        PixelFormat::Yuy2,
        PixelFormat::P010Le,
        PixelFormat::Bgr,
    ] {
        for size in [(16, 16), (23, 161), (401, 301)] {
            assert_as_reference(&Frame::random(format, size, 9, 2), usual);
        }
    }
}

#[test]
fn one_cell_takes_more_rows_than_a_sum_of_sixteen_bits_holds() {
    let one = ReducedSizes {
        grey: Some((1, 1)),
        colour: Some((1, 1)),
    };
    for format in [
        PixelFormat::Gray8,
        PixelFormat::Gray16Le,
        PixelFormat::Rgb,
        PixelFormat::Nv12,
    ] {
        let mut frame = Frame::new(format, (700, 600), 0, 255);
        frame.color = ColorModel::JPEG;
        let out = reduce(&frame, one);
        assert!((out.grey[0] - 1.0).abs() < 1e-6, "{format}: {}", out.grey[0]);
        assert_as_reference(&Frame::random(format, (300, 523), 0, 3), one);
    }
}

#[test]
fn padding_changes_nothing() {
    for format in PixelFormat::ALL {
        let tight = Frame::random(format, (67, 45), 0, 4);
        let mut out = ReducedFrame::default();
        let mut reducer = tight.view(|view| Reducer::new(view, BOTH, [0.0; 2])).unwrap();
        tight.view(|view| reducer.reduce(view, &mut out)).unwrap();
        let expected = out.clone();
        for padding in [1, 13, 64] {
            let padded = Frame::random(format, (67, 45), padding, 4);
            padded.view(|view| reducer.reduce(view, &mut out)).unwrap();
            assert_eq!(out.grey, expected.grey, "{format} with {padding}");
            assert_eq!(out.colour, expected.colour, "{format} with {padding}");
        }
    }
}

#[test]
fn known_colours_come_out_of_every_format() {
    let colours = [
        [1.0, 0.0, 0.0],
        [0.0, 1.0, 0.0],
        [0.0, 0.0, 1.0],
        [1.0, 1.0, 1.0],
        [0.0, 0.0, 0.0],
        [0.5, 0.25, 0.75],
        [0.9, 0.8, 0.1],
    ];
    let full = |color| ColorModel {
        range: ColorRange::Full,
        ..color
    };
    let colors = [
        ColorModel::BT601,
        ColorModel::BT709,
        ColorModel::JPEG,
        full(ColorModel::BT709),
    ];
    for format in PixelFormat::ALL {
        for rgb in colours {
            for color in colors {
                let frame = Frame::solid(format, (33, 21), rgb, color);
                let out = reduce(&frame, BOTH);
                let luma = f64::from(color.kr) * rgb[0]
                    + f64::from(color.kb) * rgb[2]
                    + f64::from(1.0 - color.kr - color.kb) * rgb[1];
                let [y, cr, cb] = full_range_ycrcb(rgb.map(|value| 255.0 * value));
                let (grey, colour) = match (frame.is_rgb(), frame.is_grey()) {
                    (true, _) => (y / 255.0, [y, cr, cb]),
                    (_, true) => (luma, [255.0 * luma, 128.0, 128.0]),
                    _ => (luma, [y, cr, cb]),
                };
                let what = format!("{format} {rgb:?} {color:?}");
                assert_close(&what, &out.grey, &vec![grey; out.grey.len()], 0.6 / 219.0);
                // Half a step of each stored component, through the matrix.
                let expected: Vec<f64> = colour.into_iter().cycle().take(out.colour.len()).collect();
                assert_close(&what, &out.colour, &expected, 2.0);
            }
        }
    }
}

#[test]
fn constant_pictures_stay_constant() {
    for format in PixelFormat::ALL {
        for filler in [16, 100, 192] {
            for size in [(16, 16), (97, 55)] {
                let out = reduce(&Frame::new(format, size, 0, filler), BOTH);
                let spread = |values: &mut dyn Iterator<Item = f32>| {
                    let (low, high) = values.fold((f32::MAX, f32::MIN), |(l, h), v| (l.min(v), h.max(v)));
                    high - low
                };
                assert!(
                    spread(&mut out.grey.iter().copied()) < 2e-6,
                    "{format} {filler} {size:?}"
                );
                for component in 0..3 {
                    let mut values = out.colour.iter().copied().skip(component).step_by(3);
                    assert!(
                        spread(&mut values) < 5e-4,
                        "{format} {filler} {size:?} {component}"
                    );
                }
            }
        }
    }
}

/// ```python
/// import cv2, numpy as np
/// y, x = np.mgrid[0:23, 0:37]
/// grey = ((7 * x + 13 * y + x * y) % 256).astype(np.float32)
/// print(np.round(cv2.resize(grey, (6, 4), interpolation=cv2.INTER_AREA), 4).tolist())
/// rgb = np.stack([grey, (5 * x + 3 * y) % 256, (255 - 2 * x - 9 * y) % 256], -1).astype(np.float32)
/// small = cv2.resize(rgb, (4, 3), interpolation=cv2.INTER_AREA)
/// r, g, b = small[..., 0], small[..., 1], small[..., 2]
/// luma = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
/// print(np.round(np.stack([luma, (r - luma) * 0.713 + 128, (b - luma) * 0.564 + 128], -1), 3).tolist())
/// ```
#[test]
fn averages_are_those_of_opencv() {
    #[rustfmt::skip]
    let grey = [
        55.4536, 113.3243, 157.6580, 135.5100, 129.6064, 134.5323,
        144.9530, 151.5523, 94.0764, 143.3925, 132.5441, 127.1104,
        155.9377, 110.0623, 146.3114, 117.8837, 129.4654, 127.5100,
        93.2209, 147.6886, 129.0564, 119.1480, 129.9965, 123.6980,
    ];
    #[rustfmt::skip]
    let colour = [
        68.532, 140.677, 211.510, 109.919, 150.194, 177.741, 131.608, 126.784, 155.082, 158.784, 112.545, 129.329,
        93.303, 168.674, 158.697, 109.967, 136.862, 138.872, 137.963, 123.995, 112.655, 158.944, 99.401, 90.396,
        89.742, 149.309, 121.863, 117.840, 136.611, 95.589, 142.700, 118.500, 71.142, 171.726, 96.561, 66.740,
    ];
    let (width, height) = (37_u32, 23_u32);
    let mut frame = Frame::new(PixelFormat::Rgb, (37, 23), 0, 0);
    let mut luma = Frame::new(PixelFormat::Gray8, (37, 23), 0, 0);
    luma.color = ColorModel::JPEG;
    for (x, y) in (0..height).flat_map(|y| (0..width).map(move |x| (x, y))) {
        let pixel = (y * width + x) as usize;
        let red = 7 * x + 13 * y + x * y;
        let rgb = [red, 5 * x + 3 * y, (512 + 255 - 2 * x) - 9 * y].map(|value| (value % 256) as u8);
        frame.planes[0][3 * pixel..][..3].copy_from_slice(&rgb);
        luma.planes[0][pixel] = rgb[0];
    }
    let out = reduce(
        &luma,
        ReducedSizes {
            grey: Some((6, 4)),
            colour: None,
        },
    );
    assert_close("grey", &out.grey, &grey.map(|value| value / 255.0), 1e-6);
    let out = reduce(
        &frame,
        ReducedSizes {
            grey: None,
            colour: Some((4, 3)),
        },
    );
    assert_close("colour", &out.colour, &colour, 1e-3);
}

#[test]
fn other_frames_and_empty_grids_are_refused() {
    let frame = Frame::new(PixelFormat::I420, (64, 48), 0, 0);
    let mut out = ReducedFrame::default();
    let mut reducer = frame.view(|view| Reducer::new(view, BOTH, [0.0; 2])).unwrap();
    for other in [
        Frame::new(PixelFormat::Yv12, (64, 48), 0, 0),
        Frame::new(PixelFormat::I420, (66, 48), 0, 0),
        Frame::new(PixelFormat::I420, (64, 46), 0, 0),
    ] {
        let error = other
            .view(|view| reducer.reduce(view, &mut out))
            .unwrap_err()
            .to_string();
        let got = format!("got {} {}x{}", other.format, other.width, other.height);
        assert!(error.contains("I420 64x48") && error.contains(&got), "{error}");
    }
    let mut short = frame.clone();
    short.planes[2].pop();
    let error = short.view(|view| reducer.reduce(view, &mut out)).unwrap_err();
    assert!(
        matches!(&error, Error::Image(text) if text.contains("plane 2")),
        "{error}"
    );

    let empty = ReducedSizes {
        grey: Some((45, 0)),
        colour: None,
    };
    let error = frame
        .view(|view| Reducer::new(view, empty, [0.0; 2]))
        .unwrap_err()
        .to_string();
    assert!(error.contains("45x0"), "{error}");
}
