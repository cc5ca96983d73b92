use candle_core::{Device, Result, Tensor};

use super::super::conv::{crop, upsample2x};
use super::super::simd::tests::on_every_level;
use super::super::{Activation, Conv, ConvSpec, Parameters};
use super::{assert_close, assert_slopes, random, random_var, rng, values, weighted};

/// What [`Conv::forward_enlarged`] promises, step by step.
fn stepwise(conv: &Conv, x: &Tensor, size: [usize; 2], extra: Option<&Tensor>) -> Result<Tensor> {
    let picture = crop(&upsample2x(x)?, size[0], size[1])?;
    match extra {
        Some(extra) => conv.forward(&Tensor::cat(&[&picture, extra], 3)?),
        None => conv.forward(&picture),
    }
}

struct Case {
    small: [usize; 3],
    size: [usize; 2],
    extra: usize,
    outputs: usize,
    kernel: usize,
    padding: usize,
    activation: Activation,
}

impl Case {
    fn conv(&self, params: &mut Parameters) -> Conv {
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
        Conv::new(params, "conv", spec, &mut rng(1)).unwrap()
    }

    fn check(&self, batch: usize) {
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
        let mut params = Parameters::new(&Device::Cpu);
        let conv = self.conv(&mut params);
        let x = random_var(&[batch, h, w, c], &mut rng(2));
        let behind = (extra > 0).then(|| random(&[batch, size[0], size[1], extra], &mut rng(3)));
        let want = stepwise(&conv, &x, size, behind.as_ref()).unwrap();
        let pull = random(want.dims(), &mut rng(4));
        let loss = |y: &Tensor| (y * &pull).unwrap().sum_all().unwrap();
        let wanted = params.backward_by_candle(&loss(&want)).unwrap().clone();
        let wanted_x = values(loss(&want).backward().unwrap().get(&x).unwrap());

        on_every_level(|| {
            let got = conv.forward_enlarged(&x, size, behind.as_ref()).unwrap();
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
fn is_the_same_as_step_by_step_for_kernels_paddings_sizes_and_channels() {
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
fn is_the_same_as_step_by_step_on_the_nets_shapes() {
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
fn gradients_are_slopes() {
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
    let mut params = Parameters::new(&Device::Cpu);
    let conv = case.conv(&mut params);
    let x = random_var(&[2, 3, 4, 3], &mut rng(2));
    let extra = random(&[2, 5, 8, 2], &mut rng(3));
    let forward = || conv.forward_enlarged(&x, case.size, Some(&extra));
    let pull = random(forward().unwrap().dims(), &mut rng(4));
    let loss = (forward().unwrap() * &pull).unwrap().sum_all().unwrap();
    let all = params.backward_by_candle(&loss).unwrap().clone();
    let dx = values(loss.backward().unwrap().get(&x).unwrap());
    let slope = || Ok(weighted(&forward()?, &pull));
    assert_slopes(&x, &dx, slope, "input");
    let mut start = 0;
    for (name, var) in params.iter() {
        let end = start + var.elem_count();
        assert_slopes(var, &all[start..end], slope, name);
        start = end;
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let mut params = Parameters::new(&Device::Cpu);
    let case = Case {
        small: [3, 4, 3],
        size: [5, 8],
        extra: 2,
        outputs: 4,
        kernel: 3,
        padding: 1,
        activation: ACT,
    };
    let conv = case.conv(&mut params);
    let (x, extra) = (
        random(&[2, 3, 4, 3], &mut rng(2)),
        random(&[2, 5, 8, 2], &mut rng(3)),
    );
    assert!(conv.forward_enlarged(&x, [5, 8], Some(&extra)).is_ok());
    for (size, extra) in [([5, 8], None), ([4, 8], Some(&extra)), ([5, 9], Some(&extra))] {
        let error = conv.forward_enlarged(&x, size, extra).unwrap_err().to_string();
        assert!(error.contains("[2, 3, 4, 3]"), "{error}");
    }
    let tracked = random_var(&[2, 5, 8, 2], &mut rng(3));
    assert!(conv.forward_enlarged(&x, [5, 8], Some(&tracked)).is_err());
}
