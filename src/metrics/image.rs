//! How close a reconstruction is to its image.

/// Mean squared error; `None` for images that are empty or differ in length.
///
/// `MSE = 1/n sum (a - b)^2`
#[must_use]
pub fn mse(a: &[f32], b: &[f32]) -> Option<f64> {
    if a.is_empty() || a.len() != b.len() {
        return None;
    }
    let sum: f64 = a
        .iter()
        .zip(b)
        .map(|(&x, &y)| (f64::from(x) - f64::from(y)).powi(2))
        .sum();
    Some(sum / a.len() as f64)
}

/// Peak signal-to-noise ratio in dB, `+inf` for equal images; `None` as for [`mse`].
///
/// `PSNR = 10 log10(range^2 / MSE)`; `range` is the difference of the largest and the smallest
/// possible value (255 for 8 bit).
#[must_use]
pub fn psnr(a: &[f32], b: &[f32], range: f64) -> Option<f64> {
    mse(a, b).map(|error| 10.0 * (range * range / error).log10())
}

/// Side of the window of [`ssim`].
const WINDOW: usize = 7;

/// Mean structural similarity of two grey images of `width` columns, 1 for equal images.
///
/// Wang et al. 2004 with a uniform 7x7 window, sample covariance, `K1 = 0.01`, `K2 = 0.03`, the mean over all
/// whole windows: the defaults of scikit-image. `range` as in [`psnr`]. `None` where the lengths differ, are no
/// multiple of `width`, or a side is shorter than the window.
///
/// `SSIM = (2 ma mb + C1)(2 cov + C2) / ((ma^2 + mb^2 + C1)(va + vb + C2))`, `Ci = (Ki range)^2`
#[must_use]
pub fn ssim(a: &[f32], b: &[f32], width: usize, range: f64) -> Option<f64> {
    let height = a.len().checked_div(width)?;
    if a.len() != b.len() || width * height != a.len() || width < WINDOW || height < WINDOW {
        return None;
    }
    let mut sum = 0.0;
    for top in 0..=height - WINDOW {
        for left in 0..=width - WINDOW {
            sum += window_ssim(a, b, width, top * width + left, range);
        }
    }
    Some(sum / ((height - WINDOW + 1) * (width - WINDOW + 1)) as f64)
}

/// Similarity of the window whose first pixel is at `origin`.
fn window_ssim(a: &[f32], b: &[f32], width: usize, origin: usize, range: f64) -> f64 {
    let pixels = || (0..WINDOW).flat_map(|y| (0..WINDOW).map(move |x| origin + y * width + x));
    let count = (WINDOW * WINDOW) as f64;
    let (mut sum_a, mut sum_b) = (0.0, 0.0);
    for i in pixels() {
        sum_a += f64::from(a[i]);
        sum_b += f64::from(b[i]);
    }
    let (mean_a, mean_b) = (sum_a / count, sum_b / count);
    let (mut var_a, mut var_b, mut cov) = (0.0, 0.0, 0.0);
    for i in pixels() {
        let (da, db) = (f64::from(a[i]) - mean_a, f64::from(b[i]) - mean_b);
        var_a += da * da;
        var_b += db * db;
        cov += da * db;
    }
    let free = count - 1.0;
    let (var_a, var_b, cov) = (var_a / free, var_b / free, cov / free);
    let (c1, c2) = ((0.01 * range).powi(2), (0.03 * range).powi(2));
    ((2.0 * mean_a * mean_b + c1) * (2.0 * cov + c2))
        / ((mean_a * mean_a + mean_b * mean_b + c1) * (var_a + var_b + c2))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A structured image that both Rust and Python can generate.
    fn image(width: usize, height: usize, shift: usize) -> Vec<f32> {
        (0..width * height)
            .map(|i| ((i * i * 31 + i * 17 + shift * 7) % (200 + shift)) as f32)
            .collect()
    }

    #[test]
    fn agrees_with_scikit_image() {
        // import numpy as np
        // from skimage.metrics import *
        // def image(w, h, shift):
        //     i = np.arange(w * h)
        //     return ((i * i * 31 + i * 17 + shift * 7) % (200 + shift)).astype(float).reshape(h, w)
        // a, b = image(16, 11, 0), image(16, 11, 3)
        // c = 0.9 * a + 0.1 * b
        // for x in (b, c):
        //     print(repr((mean_squared_error(a, x), peak_signal_noise_ratio(a, x, data_range=255),
        //                 structural_similarity(a, x, data_range=255))))
        let (a, b) = (image(16, 11, 0), image(16, 11, 3));
        let c: Vec<f32> = a.iter().zip(&b).map(|(x, y)| 0.9 * x + 0.1 * y).collect();
        for (other, expected) in [(&b, REFERENCE[0]), (&c, REFERENCE[1])] {
            let got = [
                mse(&a, other).unwrap(),
                psnr(&a, other, 255.0).unwrap(),
                ssim(&a, other, 16, 255.0).unwrap(),
            ];
            for (g, e) in got.iter().zip(expected) {
                assert!(
                    (g - e).abs() < 1e-5 * e.abs().max(1.0),
                    "{got:?} is not {expected:?}"
                );
            }
        }
    }

    const REFERENCE: [[f64; 3]; 2] = [
        [6656.369318181818, 9.89842950770523, 0.05720435712553244],
        [66.56369318181815, 29.89842950770523, 0.9891304972724904],
    ];

    #[test]
    fn equal_images() {
        let a = image(8, 8, 1);
        assert_eq!(mse(&a, &a), Some(0.0));
        assert_eq!(psnr(&a, &a, 255.0), Some(f64::INFINITY));
        assert_eq!(ssim(&a, &a, 8, 255.0), Some(1.0));
    }

    #[test]
    fn images_that_do_not_match_are_none() {
        assert_eq!(mse(&[], &[]), None);
        assert_eq!(mse(&[1.0], &[1.0, 2.0]), None);
        assert_eq!(
            ssim(&[0.0; 48], &[0.0; 48], 8, 1.0),
            None,
            "6 rows are less than a window"
        );
        assert_eq!(ssim(&[0.0; 65], &[0.0; 65], 8, 1.0), None);
        assert_eq!(ssim(&[0.0; 64], &[0.0; 64], 0, 1.0), None);
    }
}
