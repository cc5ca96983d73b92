use candle_core::{Result, Tensor};
use candle_nn::Module;

use super::super::simd::tests::on_every_level;
use super::super::{Activation, Conv, ConvSpec, Parameters};
use super::{assert_close, assert_gradients, random, random_var, recorded, rng, values, weighted};

/// Nearest-neighbour upsampling by two, of Candle's own operations.
///
/// # Shapes
/// `[B, H, W, C]` -> `[B, 2 H, 2 W, C]`
fn upsample2x(x: &Tensor) -> Result<Tensor> {
    let (b, h, w, c) = x.dims4()?;
    x.reshape((b, h, 1, w, 1, c))?
        .broadcast_as((b, h, 2, w, 2, c))?
        .reshape((b, 2 * h, 2 * w, c))
}

/// The upper left part of an image.
///
/// # Shapes
/// `[B, H, W, C]` -> `[B, height, width, C]`
fn crop(x: &Tensor, height: usize, width: usize) -> Result<Tensor> {
    x.narrow(1, 0, height)?.narrow(2, 0, width)
}

/// [`Conv::forward_upsampled`] step by step.
fn stepwise(conv: &Conv, x: &Tensor, size: [usize; 2], extra: Option<&Tensor>) -> Result<Tensor> {
    let image = crop(&upsample2x(x)?, size[0], size[1])?;
    match extra {
        Some(extra) => conv.forward(&Tensor::cat(&[&image, extra], 3)?),
        None => conv.forward(&image),
    }
}

#[test]
fn the_reference_repeats_pixels_and_has_gradients() {
    let x = random_var(&[2, 3, 4, 2], &mut rng(4));
    let up = upsample2x(&x).unwrap();
    let rows: Vec<Vec<Vec<Vec<f32>>>> = (0..2).map(|b| up.get(b).unwrap().to_vec3().unwrap()).collect();
    let source: Vec<Vec<Vec<Vec<f32>>>> = (0..2).map(|b| x.get(b).unwrap().to_vec3().unwrap()).collect();
    for (b, i, j) in [(0, 0, 0), (1, 5, 7), (0, 3, 2), (1, 2, 5)] {
        assert_eq!(rows[b][i][j], source[b][i / 2][j / 2]);
    }
    let part = crop(&up, 5, 7).unwrap();
    assert_eq!(part.dims(), [2, 5, 7, 2]);
    let pull = random(part.dims(), &mut rng(5));
    let store = (&part * &pull).unwrap().sum_all().unwrap().backward().unwrap();
    let value = || Ok(weighted(&crop(&upsample2x(&x)?, 5, 7)?, &pull));
    assert_gradients(&x, &values(store.get(&x).unwrap()), value, "input");
}

pub(super) struct Case {
    pub(super) small: [usize; 3],
    pub(super) size: [usize; 2],
    pub(super) extra: usize,
    pub(super) outputs: usize,
    pub(super) kernel: usize,
    pub(super) padding: usize,
    pub(super) activation: Activation,
}

impl Case {
    fn conv(&self, params: &Parameters) -> Conv {
        let &Self {
            small,
            extra,
            outputs,
            kernel,
            padding,
            activation,
            ..
        } = self;
        let spec = ConvSpec {
            inputs: small[2] + extra,
            outputs,
            kernel,
            stride: 1,
            padding,
            activation,
        };
        super::conv(spec, params)
    }

    pub(super) fn check(&self, batch: usize) {
        let &Self {
            small: [h, w, c],
            size,
            extra,
            outputs,
            kernel,
            padding,
            ..
        } = self;
        let what = format!(
            "{batch}x{h}x{w}x{c} -> {size:?}+{extra} -> {outputs}, kernel {kernel}, padding {padding}"
        );
        let params = Parameters::new(rng(1));
        let conv = self.conv(&params);
        let x = random_var(&[batch, h, w, c], &mut rng(2));
        let appended = (extra > 0).then(|| random(&[batch, size[0], size[1], extra], &mut rng(3)));
        let want = recorded(|| stepwise(&conv, &x, size, appended.as_ref()));
        let pull = random(want.dims(), &mut rng(4));
        let loss = |y: &Tensor| (y * &pull).unwrap().sum_all().unwrap();
        let wanted = params.backward_by_candle(&loss(&want)).unwrap();
        let wanted_x = values(loss(&want).backward().unwrap().get(&x).unwrap());

        on_every_level(|| {
            let got = recorded(|| conv.forward_upsampled(&x, size, appended.as_ref()));
            assert_eq!(got.dims(), want.dims(), "{what}");
            assert_close(&values(&got), &values(&want), 1e-5, &what);
            let got = loss(&got);
            assert_close(
                &params.backward_by_candle(&got).unwrap(),
                &wanted,
                1e-4,
                &format!("weights of {what}"),
            );
            let dx = values(got.backward().unwrap().get(&x).unwrap());
            assert_close(&dx, &wanted_x, 1e-4, &format!("input of {what}"));
        });
    }
}

const ACT: Activation = Activation::LeakyRelu(0.1);

#[test]
fn agrees_with_single_steps_for_kernels_paddings_sizes_and_channels() {
    for kernel in 1..=5 {
        for padding in 0..kernel {
            for (size, extra, outputs) in [
                ([8, 10], 0, 3),
                ([8, 10], 0, 1),
                ([7, 9], 2, 5),
                ([8, 9], 0, 17),
                ([7, 10], 1, 2),
            ] {
                let small = [4, 5, 3];
                Case {
                    small,
                    size,
                    extra,
                    outputs,
                    kernel,
                    padding,
                    activation: ACT,
                }
                .check(1 + kernel % 2);
            }
        }
    }
}

#[test]
fn agrees_with_single_steps_on_the_nets_shapes() {
    for (small, size, extra, outputs) in [
        ([17, 23, 24], [33, 45], 2, 16),
        ([13, 23, 24], [25, 45], 2, 16),
        ([5, 8, 32], [10, 16], 0, 24),
        ([10, 16, 24], [20, 32], 0, 12),
        ([20, 32, 12], [40, 64], 0, 3),
        ([1, 1, 4], [1, 1], 0, 4),
        ([1, 2, 4], [2, 3], 1, 4),
    ] {
        Case {
            small,
            size,
            extra,
            outputs,
            kernel: 3,
            padding: 1,
            activation: ACT,
        }
        .check(2);
    }
}

#[test]
fn gradients_agree_with_finite_differences() {
    let activation = Activation::Identity;
    let case = Case {
        small: [3, 4, 3],
        size: [5, 8],
        extra: 2,
        outputs: 4,
        kernel: 3,
        padding: 1,
        activation,
    };
    let params = Parameters::new(rng(1));
    let conv = case.conv(&params);
    let x = random_var(&[2, 3, 4, 3], &mut rng(2));
    let extra = random(&[2, 5, 8, 2], &mut rng(3));
    let forward = || conv.forward_upsampled(&x, case.size, Some(&extra));
    let y = recorded(forward);
    let pull = random(y.dims(), &mut rng(4));
    let loss = (y * &pull).unwrap().sum_all().unwrap();
    let all = params.backward_by_candle(&loss).unwrap();
    let dx = values(loss.backward().unwrap().get(&x).unwrap());
    let value = || Ok(weighted(&forward()?, &pull));
    assert_gradients(&x, &dx, value, "input");
    let mut start = 0;
    for (name, var) in params.iter() {
        let end = start + var.elem_count();
        assert_gradients(&var, &all[start..end], value, &name);
        start = end;
    }
}

#[test]
fn inputs_that_do_not_fit_are_rejected() {
    let params = Parameters::new(rng(1));
    let case = Case {
        small: [3, 4, 3],
        size: [5, 8],
        extra: 2,
        outputs: 4,
        kernel: 3,
        padding: 1,
        activation: ACT,
    };
    let conv = case.conv(&params);
    let (x, extra) = (
        random(&[2, 3, 4, 3], &mut rng(2)),
        random(&[2, 5, 8, 2], &mut rng(3)),
    );
    assert!(conv.forward_upsampled(&x, [5, 8], Some(&extra)).is_ok());
    for (size, extra) in [([5, 8], None), ([4, 8], Some(&extra)), ([5, 9], Some(&extra))] {
        let error = conv.forward_upsampled(&x, size, extra).unwrap_err().to_string();
        assert!(error.contains("[2, 3, 4, 3]"), "{error}");
    }
    let tracked = random_var(&[2, 5, 8, 2], &mut rng(3));
    assert!(conv.forward_upsampled(&x, [5, 8], Some(&tracked)).is_err());
}
