//! Maps against sums by hand.

use candle_core::{Device, Tensor};

use super::super::{Staging, append, box_mean, motion_score, read, squared_error};
use super::values;

fn tensor(values: &[f32], shape: &[usize]) -> Tensor {
    Tensor::from_slice(values, shape, &Device::Cpu).unwrap()
}

#[test]
fn errors_are_summed_over_channels() {
    let x = tensor(&[1.0, 2.0, 3.0, 0.0, 0.0, 1.0], &[1, 1, 2, 3]);
    let expected = tensor(&[1.0, 0.0, 0.0, 0.0, 0.0, -1.0], &[1, 1, 2, 3]);
    let error = squared_error(&x, &expected).unwrap();
    assert_eq!(error.dims(), [1, 2]);
    assert_eq!(values(&error), [13.0, 4.0]);
}

#[test]
fn each_cell_takes_the_divergence_of_the_latent_cell_that_it_lies_in() {
    // Three columns and three rows: the last latent cells are cut.
    let target: Vec<f32> = (0..9).flat_map(|i| [i as f32, i as f32 + 2.0]).collect();
    let prediction = [4.0, 6.0].repeat(9);
    let divergence = tensor(&[10.0, 20.0, 30.0, 40.0], &[1, 2, 2]);
    let shape = [1, 3, 3, 2];
    let score = motion_score(
        &tensor(&target, &shape),
        &tensor(&prediction, &shape),
        &divergence,
        0.5,
    )
    .unwrap();
    assert_eq!(score.dims(), [3, 3]);
    let latent = [5.0, 5.0, 10.0, 5.0, 5.0, 10.0, 15.0, 15.0, 20.0];
    let want: Vec<f32> = (0..9).map(|i| (i as f32 + 1.0) + 5.0 + latent[i]).collect();
    assert_eq!(values(&score), want);
}

#[test]
fn boxes_are_mirrored_at_the_border() {
    let map = tensor(&[9.0, 0.0, 0.0, 0.0], &[1, 4]);
    assert_eq!(values(&box_mean(&map, 3).unwrap()), [3.0, 3.0, 0.0, 0.0]);
}

#[test]
fn arrays_keep_their_order_and_their_ends() {
    let arrays: [&[f32]; 3] = [&[1.0, 2.0], &[], &[3.0]];
    let there = Staging::default().upload(&arrays, &Device::Cpu).unwrap();
    assert_eq!(read(&there).unwrap(), arrays);
    assert_eq!(values(&append(&there[0], &there[2]).unwrap()), [1.0, 2.0, 3.0]);
    assert_eq!(values(&append(&there[0], &there[1]).unwrap()), [1.0, 2.0]);
}
