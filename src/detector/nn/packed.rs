//! The enlarging convolution with few outputs: all four parities of row and column in one vector.

use super::enlarge::Enlarge;
use super::frame::{Scratch, leading, sized, with_scratch};
use super::kernel::{Cells, Correlate, Windows};
use super::parity::Parity;
use super::simd::{self, dispatch};

/// One axis: both parities, and a window that has room for either.
struct Axis {
    parities: [Parity; 2],
    window: usize,
    taps: usize,
}

impl Axis {
    fn new(kinds: &[Parity]) -> Option<Self> {
        let &[even, odd] = kinds else {
            return None;
        };
        let window = even.window.min(odd.window);
        let end = (even.window + even.taps).max(odd.window + odd.taps);
        let regular = even.missing.or(odd.missing).is_none() && even.count == odd.count;
        regular.then_some(Self {
            parities: [even, odd],
            window,
            taps: end - window,
        })
    }

    /// Which tap of the window the layer's tap `t` is added to.
    fn place(&self, parity: usize, t: usize) -> usize {
        let kind = &self.parities[parity];
        kind.window - self.window + kind.place(t).expect("no tap is missing")
    }

    fn count(&self) -> usize {
        self.parities[0].count
    }
}

impl Enlarge {
    /// As [`Enlarge::forward`] where four times the outputs fit a vector and all parities are alike.
    ///
    /// Windows are larger than those of single parities, and some of their weights zero, but each is
    /// multiplied once instead of four times.
    pub(super) fn forward_packed(&self, input: &[f32], weight: &[f32], bias: &[f32]) -> Option<Vec<f32>> {
        if 4 * self.outputs > simd::best_lanes() || self.extra > 0 {
            return None;
        }
        let (y, x) = (Axis::new(&self.parities(0))?, Axis::new(&self.parities(1))?);
        let (rows, cols) = (y.count(), x.count());
        let outputs = 4 * self.outputs;
        let ld = leading(outputs);
        let size = rows * cols * outputs;
        let mut out = vec![0.0; self.batch * size];
        with_scratch(
            |Scratch {
                 inputs,
                 kernel,
                 bias: four,
                 sums: packed,
                 ..
             }| {
                let small = self.small_frame();
                let inputs = small.copy(inputs, input, (self.batch, self.input));
                let kernel = self.packed_kernel(weight, ld, (&y, &x), kernel);
                let four = sized(four, ld);
                four.fill(0.0);
                for four in four[..outputs].chunks_exact_mut(self.outputs) {
                    four.copy_from_slice(bias);
                }
                let packed = sized(packed, size);
                for (inputs, out) in inputs.chunks_exact(small.len()).zip(out.chunks_exact_mut(size)) {
                    let windows = Windows {
                        values: inputs,
                        start: y.window * small.pitch() + x.window * self.inputs,
                        step: [small.pitch(), self.inputs],
                        runs: y.taps,
                        run: x.taps * self.inputs,
                        pitch: small.pitch(),
                    };
                    dispatch(Correlate {
                        inputs: &[(windows, kernel)],
                        ld,
                        bias: four,
                        slope: self.slope,
                        rows,
                        cols,
                        outputs,
                        out: packed,
                        cells: Cells {
                            start: 0,
                            step: [cols * outputs, outputs],
                        },
                    });
                    self.unpack(packed, cols, out);
                }
            },
        );
        Some(out)
    }

    /// `[taps, taps, inputs, (parity of row, parity of column, output)]`, rows padded to `ld`.
    fn packed_kernel<'a>(
        &self,
        weight: &[f32],
        ld: usize,
        (y, x): (&Axis, &Axis),
        out: &'a mut Vec<f32>,
    ) -> &'a [f32] {
        let block = self.inputs * ld;
        let out = sized(out, y.taps * x.taps * block);
        out.fill(0.0);
        for (tap, weight) in weight.chunks_exact(self.inputs * self.outputs).enumerate() {
            let (ty, tx) = (tap / self.kernel, tap % self.kernel);
            for (py, px) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                let place = y.place(py, ty) * x.taps + x.place(px, tx);
                let column = (2 * py + px) * self.outputs;
                let rows = out[place * block..][..block].chunks_exact_mut(ld);
                for (row, weight) in rows.zip(weight.chunks_exact(self.outputs)) {
                    row[column..].iter_mut().zip(weight).for_each(|(r, w)| *r += w);
                }
            }
        }
        out
    }

    /// `[rows, cols, parity of row, (parity of column, output)]` -> `[2 rows, 2 cols, output]`
    fn unpack(&self, packed: &[f32], cols: usize, out: &mut [f32]) {
        let pair = 2 * self.outputs;
        let rows = packed
            .chunks_exact(2 * cols * pair)
            .zip(out.chunks_exact_mut(2 * cols * pair));
        for (packed, out) in rows {
            let (even, odd) = out.split_at_mut(cols * pair);
            let places = even.chunks_exact_mut(pair).zip(odd.chunks_exact_mut(pair));
            for (packed, (even, odd)) in packed.chunks_exact(2 * pair).zip(places) {
                let (upper, lower) = packed.split_at(pair);
                even.copy_from_slice(upper);
                odd.copy_from_slice(lower);
            }
        }
    }
}
