use candle_core::{Device, Result, Tensor};

use super::super::conv::{crop, upsample2x};
use super::super::simd::tests::on_every_level;
use super::super::{Activation, Conv, ConvSpec, Linear, Parameters};
use super::{assert_close, assert_slopes, random, random_var, rng, values, weighted};

/// Every `step`-th place of one dimension.
fn every(x: &Tensor, dim: usize, step: usize) -> Result<Tensor> {
    let places: Vec<u32> = (0..x.dim(dim)? as u32).step_by(step).collect();
    x.index_select(&Tensor::new(places, &Device::Cpu)?, dim)
}

/// What [`Conv::forward`] promises, with Candle's own operations.
fn stock(spec: ConvSpec, weight: &Tensor, bias: &Tensor, x: &Tensor) -> Result<Tensor> {
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
    // Candle's gradient of a strided convolution fails on some sizes: leave places out instead.
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
fn check(spec: ConvSpec, batch: usize, height: usize, width: usize) {
    let what = format!("{spec:?} on {batch}x{height}x{width}");
    let mut rng = rng(7);
    let mut params = Parameters::new(&Device::Cpu);
    let conv = Conv::new(&mut params, "conv", spec, &mut rng).unwrap();
    let vars: Vec<_> = params.iter().map(|(_, v)| v.clone()).collect();
    let x = random_var(&[batch, height, width, spec.inputs], &mut rng);

    let want = stock(spec, &vars[0], &vars[1], &x).unwrap();
    let pull = random(want.dims(), &mut rng);
    let wanted = (&want * &pull).unwrap().sum_all().unwrap().backward().unwrap();
    let gradient = |of: &Tensor| values(wanted.get(of).unwrap());

    on_every_level(|| {
        let got = conv.forward(&x).unwrap();
        assert_eq!(got.dims(), want.dims(), "{what}");
        assert_close(&values(&got), &values(&want), 1e-5, &what);

        let loss = (&got * &pull).unwrap().sum_all().unwrap();
        let all = params.backward_by_candle(&loss).unwrap().clone();
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
fn gradients_are_slopes() {
    for (spec, batch, height, width) in [
        (spec(3, 4, 3, 1, 1), 2, 5, 7),
        (spec(2, 5, 4, 2, 1), 1, 7, 6),
        (spec(3, 18, 5, 2, 2), 2, 6, 9),
    ] {
        let spec = ConvSpec {
            activation: Activation::Identity,
            ..spec
        };
        let mut rng = rng(3);
        let mut params = Parameters::new(&Device::Cpu);
        let conv = Conv::new(&mut params, "conv", spec, &mut rng).unwrap();
        let x = random_var(&[batch, height, width, spec.inputs], &mut rng);
        let y = conv.forward(&x).unwrap();
        let pull = random(y.dims(), &mut rng);
        let loss = (y * &pull).unwrap().sum_all().unwrap();
        let all = params.backward_by_candle(&loss).unwrap().clone();
        let store = loss.backward().unwrap();
        let slope = || Ok(weighted(&conv.forward(&x)?, &pull));
        assert_slopes(&x, &values(store.get(&x).unwrap()), slope, "input");
        let mut start = 0;
        for (name, var) in params.iter() {
            let end = start + var.elem_count();
            assert_slopes(var, &all[start..end], slope, name);
            start = end;
        }
    }
}

#[test]
fn a_dense_layer_agrees_with_candle() {
    for (batch, inputs, outputs) in [(4, 1024, 16), (4, 16, 1024), (1, 7, 3), (3, 300, 33)] {
        let what = format!("{batch}x{inputs} -> {outputs}");
        let mut rng = rng(5);
        let mut params = Parameters::new(&Device::Cpu);
        let activation = Activation::LeakyRelu(0.1);
        let layer = Linear::new(&mut params, "dense", inputs, outputs, activation, &mut rng).unwrap();
        let vars: Vec<_> = params.iter().map(|(_, v)| v.clone()).collect();
        let x = random_var(&[batch, inputs], &mut rng);
        let sum = x.matmul(&vars[0]).unwrap().broadcast_add(&vars[1]).unwrap();
        let want = sum.maximum(&(&sum * 0.1).unwrap()).unwrap();
        let pull = random(&[batch, outputs], &mut rng);
        let wanted = (&want * &pull).unwrap().sum_all().unwrap().backward().unwrap();
        on_every_level(|| {
            let got = layer.forward(&x).unwrap();
            assert_close(&values(&got), &values(&want), 1e-5, &what);
            let loss = (got * &pull).unwrap().sum_all().unwrap();
            let all = params.backward_by_candle(&loss).unwrap().clone();
            let (weight, bias) = all.split_at(inputs * outputs);
            assert_close(weight, &values(wanted.get(&vars[0]).unwrap()), 1e-4, &what);
            assert_close(bias, &values(wanted.get(&vars[1]).unwrap()), 1e-4, &what);
            let dx = values(loss.backward().unwrap().get(&x).unwrap());
            assert_close(&dx, &values(wanted.get(&x).unwrap()), 1e-4, &what);
        });
    }
}

#[test]
fn data_gets_no_gradient_and_detached_layers_build_no_graph() {
    let mut rng = rng(1);
    let mut params = Parameters::new(&Device::Cpu);
    let conv = Conv::new(&mut params, "conv", spec(3, 4, 3, 1, 1), &mut rng).unwrap();
    let x = random(&[1, 5, 5, 3], &mut rng);
    let y = conv.forward(&x).unwrap();
    assert!(y.sum_all().unwrap().backward().unwrap().get(&x).is_none());
    let scored = conv.detached().forward(&x).unwrap();
    assert!(y.track_op() && !scored.track_op());
    assert_eq!(values(&y), values(&scored));

    let (_, weight) = params.iter().next().unwrap();
    weight.set(&weight.zeros_like().unwrap()).unwrap();
    assert_ne!(values(&conv.detached().forward(&x).unwrap()), values(&scored));
}

#[test]
fn a_layer_used_twice_sums_its_gradients() {
    let mut rng = rng(2);
    let mut params = Parameters::new(&Device::Cpu);
    let conv = Conv::new(&mut params, "conv", spec(3, 3, 3, 1, 1), &mut rng).unwrap();
    let x = random(&[1, 4, 4, 3], &mut rng);
    let once = conv.forward(&x).unwrap().sum_all().unwrap();
    let single = params.backward_by_candle(&once).unwrap().clone();
    let twice = (conv.forward(&x).unwrap() + conv.forward(&x).unwrap())
        .unwrap()
        .sum_all()
        .unwrap();
    let double: Vec<f32> = single.iter().map(|g| 2.0 * g).collect();
    assert_close(
        &params.backward_by_candle(&twice).unwrap(),
        &double,
        1e-6,
        "two uses",
    );
}

#[test]
fn sizes_that_do_not_fit_are_refused_with_numbers() {
    let mut params = Parameters::new(&Device::Cpu);
    let conv = Conv::new(&mut params, "conv", spec(3, 4, 5, 1, 0), &mut rng(1)).unwrap();
    let x = random(&[1, 4, 9, 3], &mut rng(1));
    assert!(
        conv.forward(&x)
            .unwrap_err()
            .to_string()
            .contains("5x5 convolution of 3 channels")
    );
}

#[test]
fn upsampling_and_cropping_have_gradients() {
    let x = random_var(&[2, 3, 4, 2], &mut rng(4));
    let up = upsample2x(&x).unwrap();
    let picture = up.to_dtype(candle_core::DType::F32).unwrap();
    let rows: Vec<Vec<Vec<Vec<f32>>>> = (0..2)
        .map(|b| picture.get(b).unwrap().to_vec3().unwrap())
        .collect();
    let source: Vec<Vec<Vec<Vec<f32>>>> = (0..2).map(|b| x.get(b).unwrap().to_vec3().unwrap()).collect();
    for (b, i, j) in [(0, 0, 0), (1, 5, 7), (0, 3, 2), (1, 2, 5)] {
        assert_eq!(rows[b][i][j], source[b][i / 2][j / 2]);
    }
    let part = crop(&up, 5, 7).unwrap();
    assert_eq!(part.dims(), [2, 5, 7, 2]);
    let pull = random(part.dims(), &mut rng(5));
    let store = (&part * &pull).unwrap().sum_all().unwrap().backward().unwrap();
    let slope = || Ok(weighted(&crop(&upsample2x(&x)?, 5, 7)?, &pull));
    assert_slopes(&x, &values(store.get(&x).unwrap()), slope, "input");
}
