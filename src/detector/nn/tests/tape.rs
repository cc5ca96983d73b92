use candle_core::{Device, Result, Tensor};

use super::super::{Parameters, Tape, add_to_each, clamp, reshape, student_t_loss, weighted_sum};
use super::{random, rng, values};

/// A set with one parameter, and that.
fn one_parameter(shape: &[usize]) -> (Parameters, Tensor) {
    let mut params = Parameters::new(&Device::Cpu);
    let start = values(&random(shape, &mut rng(1)));
    let w = params.add_values("w", shape, start).unwrap();
    (params, w)
}

/// All gradients by the tape, compared with those of Candle's walk.
#[track_caller]
fn gradients(params: &Parameters, forward: impl FnOnce() -> Result<Tensor>) -> Vec<f32> {
    let (loss, tape) = Tape::record(forward).unwrap();
    let gradients = params.backward(tape, &loss).unwrap().clone();
    assert_eq!(gradients, *params.backward_by_candle(&loss).unwrap());
    gradients
}

#[test]
fn what_is_used_several_times_gets_the_sum() {
    let (params, w) = one_parameter(&[1, 2, 3]);
    let target = random(&[2, 3], &mut rng(2));
    let both = gradients(&params, || {
        let x = reshape(&w, (2, ()))?;
        let bounded = clamp(&x, -0.5, 0.5)?;
        let near = student_t_loss(&x, &target, 1.0)?;
        weighted_sum([(&near, 1.0), (&student_t_loss(&bounded, &target, 1.0)?, 3.0)])
    });
    let one = gradients(&params, || student_t_loss(&reshape(&w, (2, ()))?, &target, 1.0));
    for ((both, one), w) in both.iter().zip(&one).zip(values(&w)) {
        let uses = if w.abs() <= 0.5 { 4.0 } else { 1.0 };
        assert!(
            (both - uses * one).abs() < 1e-6,
            "{w}: {both}, not {uses} * {one}"
        );
    }
    let twice = gradients(&params, || {
        student_t_loss(&add_to_each(&w, &w)?, &target.reshape((1, 2, 3))?, 1.0)
    });
    assert!(twice.iter().all(|g| *g != 0.0));
}

#[test]
fn an_operation_that_is_not_recorded_is_an_error_and_not_a_gradient_of_zero() {
    let (params, w) = one_parameter(&[2, 3]);
    let target = random(&[2, 3], &mut rng(2));
    let differentiate = |forward: &dyn Fn() -> Result<Tensor>| {
        let (loss, tape) = Tape::record(forward).unwrap();
        params.backward(tape, &loss).map(|_| ()).unwrap_err().to_string()
    };
    let before = differentiate(&|| student_t_loss(&w.sqr()?, &target, 1.0));
    assert!(before.contains("before they reach a parameter"), "{before}");
    let behind = differentiate(&|| student_t_loss(&w, &target, 1.0)?.sqr());
    assert!(behind.contains("before they reach a parameter"), "{behind}");

    let loss = student_t_loss(&w, &target, 1.0).unwrap();
    let ((), tape) = Tape::record(|| Ok::<_, ()>(())).unwrap();
    assert!(params.backward(tape, &loss).is_err(), "made before the recording");
}
