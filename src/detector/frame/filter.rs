//! Small filters over row-major `f32` images; borders are mirrored without repeating the edge
//! (OpenCV's `BORDER_REFLECT_101`).

/// Mirrors an index into `0..len`.
pub(crate) fn reflect(i: isize, len: usize) -> usize {
    let last = len as isize - 1;
    if last <= 0 {
        return 0;
    }
    let period = 2 * last;
    let i = i.rem_euclid(period);
    (if i > last { period - i } else { i }) as usize
}

/// Mean over `side x side` boxes around every `step`-th pixel, the first at `offset`.
///
/// # Shapes
/// `[height, width]` -> `[out.len() / columns, columns]`, `columns = ceil((width - offset) / step)`
pub(crate) fn box_mean_sampled(
    image: &[f32],
    (width, height): (usize, usize),
    side: usize,
    (offset, step): (usize, usize),
    sums: &mut Vec<f32>,
    out: &mut Vec<f32>,
) {
    let reach = side / 2;
    let scale = 1.0 / (side * side) as f32;
    out.clear();
    // The sums of a column's rows with what is mirrored at both ends, then those of whole boxes.
    sums.resize(2 * (width + reach), 0.0);
    let (columns, boxes) = sums.split_at_mut(width + 2 * reach);
    for y in (offset..height).step_by(step) {
        let inner = &mut columns[reach..reach + width];
        inner.fill(0.0);
        for dy in 0..side {
            let row = reflect((y + dy) as isize - reach as isize, height) * width;
            add(inner, &image[row..row + width]);
        }
        for i in 0..reach {
            columns[i] = columns[reach + reflect(i as isize - reach as isize, width)];
            columns[reach + width + i] = columns[reach + reflect((width + i) as isize, width)];
        }
        boxes.fill(0.0);
        for dx in 0..side {
            add(boxes, &columns[dx..dx + width]);
        }
        out.extend(boxes.iter().skip(offset).step_by(step).map(|total| total * scale));
    }
}

fn add(sums: &mut [f32], values: &[f32]) {
    sums.iter_mut().zip(values).for_each(|(sum, v)| *sum += v);
}

/// Mean over `side x side` boxes around every pixel.
pub(crate) fn box_mean(
    image: &[f32],
    size: (usize, usize),
    side: usize,
    sums: &mut Vec<f32>,
    out: &mut Vec<f32>,
) {
    box_mean_sampled(image, size, side, (0, 1), sums, out);
}

/// Strength of the edges: `sqrt(gx^2 + gy^2) / 8` with 3x3 Sobel kernels.
pub(crate) fn edges(image: &[f32], (width, height): (usize, usize), out: &mut Vec<f32>) {
    out.clear();
    out.resize(width * height, 0.0);
    for (y, out) in out.chunks_exact_mut(width.max(1)).enumerate() {
        let row = |dy: isize| {
            let start = reflect(y as isize + dy, height) * width;
            &image[start..start + width]
        };
        let (above, here, below) = (row(-1), row(0), row(1));
        let at = |l: usize, m: usize, r: usize| {
            let gx = (above[r] - above[l]) + 2.0 * (here[r] - here[l]) + (below[r] - below[l]);
            let gy = (below[l] - above[l]) + 2.0 * (below[m] - above[m]) + (below[r] - above[r]);
            (gx * gx + gy * gy).sqrt() / 8.0
        };
        let last = width - 1;
        out[0] = at(reflect(-1, width), 0, reflect(1, width));
        out[last] = at(
            reflect(last as isize - 1, width),
            last,
            reflect(width as isize, width),
        );
        if width > 2 {
            inner_edges(&mut out[1..last], above, here, below);
        }
    }
}

/// The edges of a row but for its ends. Views of equal length, one pixel apart, let the compiler fill registers.
fn inner_edges(out: &mut [f32], above: &[f32], here: &[f32], below: &[f32]) {
    let n = out.len();
    let (al, am, ar) = (&above[..n], &above[1..][..n], &above[2..][..n]);
    let (hl, hr) = (&here[..n], &here[2..][..n]);
    let (bl, bm, br) = (&below[..n], &below[1..][..n], &below[2..][..n]);
    for x in 0..n {
        let gx = (ar[x] - al[x]) + 2.0 * (hr[x] - hl[x]) + (br[x] - bl[x]);
        let gy = (bl[x] - al[x]) + 2.0 * (bm[x] - am[x]) + (br[x] - ar[x]);
        out[x] = (gx * gx + gy * gy).sqrt() / 8.0;
    }
}

/// The value below which a share of the values lies, linear between ranks. `scratch` is overwritten.
pub(crate) fn percentile(values: &[f32], share: f64, scratch: &mut Vec<f32>) -> f32 {
    scratch.clear();
    scratch.extend_from_slice(values);
    if scratch.is_empty() {
        return 0.0;
    }
    let rank = share * (scratch.len() - 1) as f64;
    let (low, part) = (rank.floor() as usize, rank.fract() as f32);
    let (_, &mut below, above) = scratch.select_nth_unstable_by(low, f32::total_cmp);
    match above.iter().copied().min_by(f32::total_cmp) {
        Some(next) if part > 0.0 => below + part * (next - below),
        _ => below,
    }
}

/// Arithmetic mean, 0 of nothing.
pub(crate) fn mean(values: &[f32]) -> f32 {
    if values.is_empty() {
        return 0.0;
    }
    (values.iter().map(|&v| f64::from(v)).sum::<f64>() / values.len() as f64) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    // import cv2, numpy as np
    // a = np.array([[(x * 7 + y * 13) % 11 for x in range(6)] for y in range(5)], np.float32)
    // cv2.blur(a, (3, 3), borderType=cv2.BORDER_REFLECT_101)[[0, 2, 4]][:, [0, 3, 5]]
    // np.hypot(cv2.Sobel(a, cv2.CV_32F, 1, 0), cv2.Sobel(a, cv2.CV_32F, 0, 1))[[0, 2, 4]][:, [0, 3, 5]] / 8
    // np.percentile(a, 20)
    fn image() -> Vec<f32> {
        (0..5)
            .flat_map(|y| (0..6).map(move |x| ((x * 7 + y * 13) % 11) as f32))
            .collect()
    }

    fn naive_box(p: &[f32], (w, h): (usize, usize), side: usize, x: usize, y: usize) -> f32 {
        let r = (side / 2) as isize;
        let mut sum = 0.0;
        for dy in -r..=r {
            for dx in -r..=r {
                sum += p[reflect(y as isize + dy, h) * w + reflect(x as isize + dx, w)];
            }
        }
        sum / (side * side) as f32
    }

    #[test]
    fn mirrors_without_repeating_the_edge() {
        let mirrored: Vec<usize> = (-4..9).map(|i| reflect(i, 5)).collect();
        assert_eq!(mirrored, [4, 3, 2, 1, 0, 1, 2, 3, 4, 3, 2, 1, 0]);
        assert_eq!(reflect(-3, 1), 0);
    }

    #[test]
    fn box_means_at_every_pixel_and_sampled() {
        let p = image();
        let (mut sums, mut out) = (Vec::new(), Vec::new());
        for side in [3, 5, 9] {
            box_mean(&p, (6, 5), side, &mut sums, &mut out);
            assert_eq!(out.len(), 30);
            for y in 0..5 {
                for x in 0..6 {
                    let want = naive_box(&p, (6, 5), side, x, y);
                    assert!((out[y * 6 + x] - want).abs() < 1e-4, "side {side} at {x},{y}");
                }
            }
        }
        box_mean_sampled(&p, (6, 5), 3, (2, 4), &mut sums, &mut out);
        assert_eq!(out.len(), 1);
        assert!((out[0] - naive_box(&p, (6, 5), 3, 2, 2)).abs() < 1e-5);
    }

    #[test]
    fn edge_strength_of_a_ramp_is_its_gradient() {
        let ramp: Vec<f32> = (0..5)
            .flat_map(|y| (0..6).map(move |x| (3 * x + 4 * y) as f32))
            .collect();
        let mut out = Vec::new();
        edges(&ramp, (6, 5), &mut out);
        assert_eq!(out.len(), 30);
        assert!(
            (out[2 * 6 + 3] - 5.0).abs() < 1e-5,
            "gradients 3 and 4 make 5, got {}",
            out[15]
        );
        assert!(
            (out[2 * 6] - 4.0).abs() < 1e-5,
            "no gradient across the mirrored border"
        );
    }

    #[test]
    fn edges_at_every_pixel_of_every_width() {
        for (width, height) in [(1, 1), (1, 4), (2, 3), (3, 2), (17, 4), (40, 5)] {
            let p: Vec<f32> = (0..width * height).map(|i| (i * i % 23) as f32 / 7.0).collect();
            let mut out = Vec::new();
            edges(&p, (width, height), &mut out);
            assert_eq!(out.len(), p.len());
            for (i, got) in out.into_iter().enumerate() {
                let (x, y) = ((i % width) as isize, (i / width) as isize);
                let at = |dx, dy| p[reflect(y + dy, height) * width + reflect(x + dx, width)];
                let column = |dx| at(dx, -1) + 2.0 * at(dx, 0) + at(dx, 1);
                let row = |dy| at(-1, dy) + 2.0 * at(0, dy) + at(1, dy);
                let want = (column(1) - column(-1)).hypot(row(1) - row(-1)) / 8.0;
                assert!(
                    (got - want).abs() < 1e-5,
                    "{x},{y} of {width}x{height}: {got}, {want}"
                );
            }
        }
    }

    #[test]
    fn percentiles_lie_between_ranks_as_numpys() {
        let mut scratch = Vec::new();
        assert!((percentile(&image(), 0.2, &mut scratch) - 2.0).abs() < 1e-6);
        assert!((percentile(&[1.0, 2.0, 4.0, 8.0], 0.5, &mut scratch) - 3.0).abs() < 1e-6);
        assert_eq!(percentile(&[7.0], 0.2, &mut scratch), 7.0);
    }
}
