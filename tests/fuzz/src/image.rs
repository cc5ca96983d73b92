//! Frames and masks.

use arbitrary::{Arbitrary, Result, Unstructured};
use gstvaeanomaly::detector::bench_support::Preprocessor;
use gstvaeanomaly::detector::{
    ColorModel, ColorRange, Config, CueKind, Detector, IgnoredRegions, ImageView, Label, PixelFormat, Tuning,
};

use crate::values::{number, with_input};

/// Polygons: what can be read covers whole images of any size.
pub fn regions(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(regions) = IgnoredRegions::from_polygons(text) {
        cover(&regions, text.len());
    }
}

/// PNG and PGM images.
pub fn mask(data: &[u8]) {
    if let Ok(regions) = IgnoredRegions::from_image(data) {
        cover(&regions, data.len());
    }
}

/// Uses the regions as an image, and those of every eighth length in a detector, which takes longer.
fn cover(regions: &IgnoredRegions, len: usize) {
    for size in [(0, 0), (1, 1), (7, 3), (40, 64)] {
        assert_eq!(regions.pixels(size).len(), size.0 * size.1);
    }
    if !len.is_multiple_of(8) {
        return;
    }
    let config = Config {
        cues: vec![CueKind::Motion],
        warm_up: 1,
        ..Config::default()
    };
    let mut detector = Detector::new(config, (24, 16)).expect("the settings are valid");
    detector.ignore(regions);
    let all = regions.pixels((500, 500)).iter().all(|&ignored| ignored);
    for i in 0..3u8 {
        let pixels: Vec<u8> = (0..24 * 16u32)
            .map(|p| (p as u8).wrapping_mul(91 + 13 * i))
            .collect();
        let view = ImageView {
            format: PixelFormat::Gray8,
            width: 24,
            height: 16,
            planes: &[&pixels],
            strides: &[24],
            color: ColorModel::BT601,
        };
        let (prediction, _) = detector
            .process(&view, None, None, &Tuning::default())
            .expect("a frame");
        assert!(prediction.score.is_finite(), "{prediction:?}");
        assert!(!all || prediction.label != Some(Label::Anomaly), "{prediction:?}");
    }
}

/// A frame of any format, size, strides and plane sizes. What is valid is reduced to images of any size.
pub fn view(data: &[u8]) {
    with_input(data, reduce);
}

fn reduce(u: &mut Unstructured<'_>) -> Result<()> {
    let format = *u.choose(&PixelFormat::ALL)?;
    let side = |u: &mut Unstructured<'_>| {
        Ok(match u.int_in_range(0..=7)? {
            0 => usize::arbitrary(u)?,
            1 => usize::from(u16::arbitrary(u)?),
            _ => u.int_in_range(0..=100)?,
        })
    };
    let (width, height) = (side(u)?, side(u)?);
    let mut sizes: Vec<(usize, usize)> = Vec::new();
    // Buffers larger than this are too slow for a fuzzer.
    let most = 1 << 18;
    let planes = match u.ratio(1, 8)? {
        true => u.int_in_range(0..=4)?,
        false => format.plane_count(),
    };
    for plane in 0..planes {
        let plane = plane.min(format.plane_count() - 1);
        let least = format.row_bytes(plane, width.min(1 << 20));
        let stride = match u.int_in_range(0..=7)? {
            0 => usize::arbitrary(u)?,
            1 => least.wrapping_sub(1),
            2 => least,
            _ => least + u.int_in_range(0..=40)?,
        };
        let bytes = format.plane_bytes(plane, width.min(1 << 20), height.min(1 << 20), stride);
        let bytes = match u.int_in_range(0..=7)? {
            0 => bytes.saturating_sub(1),
            1 => u.int_in_range(0..=5000)?,
            _ => bytes,
        };
        sizes.push((bytes.min(most), stride));
    }
    let color = ColorModel {
        range: *u.choose(&[ColorRange::Full, ColorRange::Limited])?,
        ..match u.int_in_range(0..=3)? {
            0 => ColorModel {
                kr: number(u)? as f32,
                kb: number(u)? as f32,
                ..ColorModel::BT601
            },
            1 => ColorModel::BT709,
            _ => ColorModel::JPEG,
        }
    };
    let grey = Some((u.int_in_range(1..=200)?, u.int_in_range(1..=200)?)).filter(|_| width % 5 != 4);
    let colour = Some((u.int_in_range(1..=80)?, u.int_in_range(1..=80)?)).filter(|_| height % 5 != 4);
    let content = u.bytes(u.len())?;
    let byte = |i: usize| content.get(i % content.len().max(1)).copied().unwrap_or(i as u8);
    let pixels: Vec<Vec<u8>> = sizes
        .iter()
        .map(|(bytes, _)| (0..*bytes).map(byte).collect())
        .collect();
    let planes: Vec<&[u8]> = pixels.iter().map(Vec::as_slice).collect();
    let strides: Vec<usize> = sizes.iter().map(|(_, stride)| *stride).collect();
    let view = ImageView {
        format,
        width,
        height,
        planes: &planes,
        strides: &strides,
        color,
    };
    let is_valid = view.validate().is_ok();
    match Preprocessor::new(&view, grey, colour) {
        Ok(mut preprocessor) => {
            let reduced = preprocessor.run(&view);
            assert_eq!(reduced.is_ok(), is_valid, "{reduced:?}");
        }
        Err(_) => assert!(!is_valid, "{format} {width}x{height} {strides:?}"),
    }
    Ok(())
}
