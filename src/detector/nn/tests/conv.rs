use candle_core::{Device, Result, Tensor};
use candle_nn::Module;

use super::super::simd::tests::on_every_level;
use super::super::{Activation, ConvSpec, Parameters, Tape, student_t_loss, weighted_sum};
use super::{
    assert_close, assert_gradients, conv, dense, random, random_var, recorded, rng, values, weighted,
};

/// Every `step`-th index of one dimension.
fn every(x: &Tensor, dim: usize, step: usize) -> Result<Tensor> {
    let indices: Vec<u32> = (0..x.dim(dim)? as u32).step_by(step).collect();
    x.index_select(&Tensor::new(indices, &Device::Cpu)?, dim)
}

/// What [`Conv::forward`] promises, with Candle's own operations.
pub(super) fn stock(spec: ConvSpec, weight: &Tensor, bias: &Tensor, x: &Tensor) -> Result<Tensor> {
    let ConvSpec {
        inputs,
        outputs,
        kernel,
        stride,
        padding,
        activation,
    } = spec;
    let weight = weight
        .reshape((kernel, kernel, inputs, outputs))?
        .permute((3, 2, 0, 1))?
        .contiguous()?;
    // Candle's gradient of a strided convolution fails on some sizes: drop outputs of one without stride.
    let y = x
        .permute((0, 3, 1, 2))?
        .contiguous()?
        .conv2d(&weight, padding, 1, 1, 1)?
        .permute((0, 2, 3, 1))?
        .contiguous()?;
    let y = every(&every(&y, 1, stride)?, 2, stride)?.broadcast_add(bias)?;
    match activation {
        Activation::Identity => Ok(y),
        Activation::LeakyRelu(slope) => y.maximum(&(&y * f64::from(slope))?),
    }
}

fn spec(inputs: usize, outputs: usize, kernel: usize, stride: usize, padding: usize) -> ConvSpec {
    ConvSpec {
        inputs,
        outputs,
        kernel,
        stride,
        padding,
        activation: Activation::LeakyRelu(0.1),
    }
}

/// Output and all gradients of one convolution.
pub(super) fn check(spec: ConvSpec, batch: usize, height: usize, width: usize) {
    let what = format!("{spec:?} on {batch}x{height}x{width}");
    let params = Parameters::new(rng(7));
    let mut rng = rng(8);
    let layer = conv(spec, &params);
    let vars: Vec<_> = params.iter().map(|(_, var)| var).collect();
    let x = random_var(&[batch, height, width, spec.inputs], &mut rng);

    let want = stock(spec, &vars[0], &vars[1], &x).unwrap();
    let pull = random(want.dims(), &mut rng);
    let wanted = (&want * &pull).unwrap().sum_all().unwrap().backward().unwrap();
    let gradient = |of: &Tensor| values(wanted.get(of).unwrap());

    on_every_level(|| {
        let got = recorded(|| layer.forward(&x));
        assert_eq!(got.dims(), want.dims(), "{what}");
        assert_close(&values(&got), &values(&want), 1e-5, &what);

        let loss = (&got * &pull).unwrap().sum_all().unwrap();
        let all = params.backward_by_candle(&loss).unwrap();
        let (weight, bias) = all.split_at(vars[0].elem_count());
        assert_close(weight, &gradient(&vars[0]), 1e-4, &format!("weight of {what}"));
        assert_close(bias, &gradient(&vars[1]), 1e-4, &format!("bias of {what}"));
        let store = loss.backward().unwrap();
        let dx = values(store.get(&x).unwrap());
        assert_close(&dx, &gradient(&x), 1e-4, &format!("input of {what}"));
    });
}

#[test]
fn agrees_with_candle_for_kernels_strides_paddings_sizes_and_batches() {
    for kernel in 1..=5 {
        for stride in 1..=3 {
            for padding in 0..=kernel / 2 {
                check(spec(3, 5, kernel, stride, padding), 1 + kernel % 3, 9, 7);
                check(spec(2, 17, kernel, stride, padding), 1, 6, 11);
            }
        }
    }
}

#[test]
fn agrees_with_candle_on_the_nets_shapes() {
    for (spec, batch, height, width) in [
        (spec(4, 16, 3, 1, 1), 2, 25, 45),
        (spec(16, 24, 3, 2, 1), 2, 33, 45),
        (spec(24, 24, 3, 1, 1), 2, 17, 23),
        (spec(24, 4, 1, 1, 0), 2, 17, 23),
        (spec(26, 16, 3, 1, 1), 2, 25, 45),
        (spec(16, 2, 3, 1, 1), 1, 33, 45),
        (spec(16, 1, 3, 1, 1), 2, 6, 9),
        (spec(9, 3, 4, 2, 1), 2, 8, 13),
        (spec(7, 4, 5, 1, 0), 1, 9, 8),
        (spec(3, 12, 3, 2, 1), 4, 40, 64),
        (spec(24, 32, 3, 2, 1), 4, 10, 16),
        (spec(32, 24, 3, 1, 1), 3, 10, 16),
        (spec(3, 40, 7, 4, 3), 2, 13, 17),
    ] {
        check(spec, batch, height, width);
        check(
            ConvSpec {
                activation: Activation::Identity,
                ..spec
            },
            batch,
            height,
            width,
        );
    }
}

#[test]
fn gradients_agree_with_finite_differences() {
    for (spec, batch, height, width) in [
        (spec(3, 4, 3, 1, 1), 2, 5, 7),
        (spec(2, 5, 4, 2, 1), 1, 7, 6),
        (spec(3, 18, 5, 2, 2), 2, 6, 9),
    ] {
        let spec = ConvSpec {
            activation: Activation::Identity,
            ..spec
        };
        let params = Parameters::new(rng(3));
        let layer = conv(spec, &params);
        let mut rng = rng(4);
        let x = random_var(&[batch, height, width, spec.inputs], &mut rng);
        let y = recorded(|| layer.forward(&x));
        let pull = random(y.dims(), &mut rng);
        let loss = (y * &pull).unwrap().sum_all().unwrap();
        let dx = values(loss.backward().unwrap().get(&x).unwrap());
        let value = || Ok(weighted(&layer.forward(&x)?, &pull));
        assert_gradients(&x, &dx, value, "input");
        let all = params.backward_by_candle(&loss).unwrap();
        let mut start = 0;
        for (name, var) in params.iter() {
            let end = start + var.elem_count();
            assert_gradients(&var, &all[start..end], value, &name);
            start = end;
        }
    }
}

#[test]
fn a_dense_layer_agrees_with_candle() {
    for (batch, inputs, outputs) in [(4, 1024, 16), (4, 16, 1024), (1, 7, 3), (3, 300, 33)] {
        let what = format!("{batch}x{inputs} -> {outputs}");
        let params = Parameters::new(rng(5));
        let mut rng = rng(6);
        let activation = Activation::LeakyRelu(0.1);
        let layer = dense([inputs, outputs], activation, &params, "dense");
        let vars: Vec<_> = params.iter().map(|(_, var)| var).collect();
        let x = random_var(&[batch, inputs], &mut rng);
        let sum = x.matmul(&vars[0]).unwrap().broadcast_add(&vars[1]).unwrap();
        let want = sum.maximum(&(&sum * 0.1).unwrap()).unwrap();
        let pull = random(&[batch, outputs], &mut rng);
        let wanted = (&want * &pull).unwrap().sum_all().unwrap().backward().unwrap();
        on_every_level(|| {
            let got = recorded(|| layer.forward(&x));
            assert_close(&values(&got), &values(&want), 1e-5, &what);
            let loss = (got * &pull).unwrap().sum_all().unwrap();
            let all = params.backward_by_candle(&loss).unwrap();
            let (weight, bias) = all.split_at(inputs * outputs);
            assert_close(weight, &values(wanted.get(&vars[0]).unwrap()), 1e-4, &what);
            assert_close(bias, &values(wanted.get(&vars[1]).unwrap()), 1e-4, &what);
            let dx = values(loss.backward().unwrap().get(&x).unwrap());
            assert_close(&dx, &values(wanted.get(&x).unwrap()), 1e-4, &what);
        });
    }
}

#[test]
fn data_gets_no_gradient_and_nothing_has_one_outside_a_recording() {
    let params = Parameters::new(rng(1));
    let layer = conv(spec(3, 4, 3, 1, 1), &params);
    let linear = dense([3, 4], Activation::Identity, &params, "dense");
    let x = random(&[1, 5, 5, 3], &mut rng(2));
    let (trained, tape) = Tape::record(|| layer.forward(&x)).unwrap();
    let loss = trained.sum_all().unwrap();
    assert!(loss.backward().unwrap().get(&x).is_none());
    // `sum_all` is Candle's own.
    assert!(params.backward(tape, &loss).is_err());

    let scored = layer.forward(&x).unwrap();
    assert!(trained.track_op() && !scored.track_op());
    assert_eq!(values(&trained), values(&scored));
    let pixels = x.reshape((25, 3)).unwrap();
    assert!(!linear.forward(&pixels).unwrap().track_op());
    let x = random_var(&[1, 5, 5, 3], &mut rng(2));
    assert!(!layer.forward(&x).unwrap().track_op());
}

#[test]
fn a_layer_used_twice_sums_its_gradients() {
    let params = Parameters::new(rng(2));
    let layer = conv(spec(3, 3, 3, 1, 1), &params);
    let x = random(&[1, 4, 4, 3], &mut rng(3));
    let target = x.zeros_like().unwrap();
    let grads = |forward: &dyn Fn() -> Result<Tensor>| {
        let (loss, tape) = Tape::record(forward).unwrap();
        let grads = params.backward(tape, &loss).unwrap();
        assert_close(&grads, &params.backward_by_candle(&loss).unwrap(), 1e-6, "walks");
        grads
    };
    let loss = || student_t_loss(&layer.forward(&x)?, &target, 1.0);
    let double: Vec<f32> = grads(&loss).iter().map(|g| 2.0 * g).collect();
    let twice = grads(&|| weighted_sum([(&loss()?, 1.0), (&loss()?, 1.0)]));
    assert_close(&twice, &double, 1e-6, "two uses");
}

#[test]
fn sizes_that_do_not_fit_are_rejected_with_numbers() {
    let params = Parameters::new(rng(1));
    let layer = conv(spec(3, 4, 5, 1, 0), &params);
    let error = layer.forward(&random(&[1, 4, 9, 3], &mut rng(1))).unwrap_err();
    assert!(error.to_string().contains("5x5 convolution of 3 channels"));
    let linear = dense([3, 4], Activation::Identity, &params, "dense");
    let error = linear.forward(&random(&[2, 4], &mut rng(1))).unwrap_err();
    assert!(error.to_string().contains("dense layer of 3 inputs"));
}
