//! From what a net expected to where it was wrong: maps, without gradients.

use candle_core::{Result, Tensor};

use super::pass::pass;
use crate::detector::filter;

/// Sum of the channels' squared errors.
///
/// # Shapes
/// `[1, H, W, C]` twice -> `[H, W]`
pub(crate) fn squared_error(x: &Tensor, expected: &Tensor) -> Result<Tensor> {
    let (_, height, width, channels) = x.dims4()?;
    pass(&(height, width).into(), [x, expected], |[x, expected]| {
        let pixels = x.chunks_exact(channels).zip(expected.chunks_exact(channels));
        let error = |(x, e): (&[f32], &[f32])| x.iter().zip(e).map(|(x, e)| (x - e).powi(2)).sum();
        pixels.map(error).collect()
    })
}

/// Mean of both channels of `target` and of `prediction`, and `share` of the divergence, which has half the size.
///
/// # Shapes
/// `[1, H, W, 2]` twice, `[1, ceil(H/2), ceil(W/2)]` -> `[H, W]`
pub(crate) fn motion_score(
    target: &Tensor,
    prediction: &Tensor,
    divergence: &Tensor,
    share: f32,
) -> Result<Tensor> {
    let (_, height, width, _) = target.dims4()?;
    pass(
        &(height, width).into(),
        [target, prediction, divergence],
        |[target, prediction, divergence]| {
            let mean = |values: &[f32], i: usize| 0.5 * (values[2 * i] + values[2 * i + 1]);
            let latent = |i: usize| i / width / 2 * width.div_ceil(2) + i % width / 2;
            (0..height * width)
                .map(|i| mean(target, i) + (mean(prediction, i) + share * divergence[latent(i)]))
                .collect()
        },
    )
}

/// Mean over `side x side` boxes around every place; borders are mirrored.
///
/// # Shapes
/// `[H, W]` -> the same
pub(crate) fn box_mean(map: &Tensor, side: usize) -> Result<Tensor> {
    let (height, width) = map.dims2()?;
    pass(map.shape(), [map], |[map]| {
        let mut out = Vec::with_capacity(map.len());
        filter::box_mean(map, (width, height), side, &mut Vec::new(), &mut out);
        out
    })
}
