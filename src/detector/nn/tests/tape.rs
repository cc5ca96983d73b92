use candle_core::{Result, Tensor};

use super::super::{Parameters, Tape, add_to_each, clamp, reshape, student_t_loss, weighted_sum};
use super::{random, rng, values};

/// A set with one parameter, and that.
fn one_parameter(shape: &[usize]) -> (Parameters, Tensor) {
    let params = Parameters::new(rng(1));
    let start = values(&random(shape, &mut rng(1)));
    let w = params.add("w", shape, start).unwrap();
    (params, w)
}

/// All gradients by the tape, compared with those of Candle's walk.
#[track_caller]
fn gradients(params: &Parameters, forward: impl FnOnce() -> Result<Tensor>) -> Vec<f32> {
    let (loss, tape) = Tape::record(forward).unwrap();
    let gradients = params.backward(tape, &loss).unwrap();
    assert_eq!(gradients, params.backward_by_candle(&loss).unwrap());
    gradients
}

#[test]
fn gradients_of_several_uses_are_summed() {
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
    let target = target.reshape((1, 2, 3)).unwrap();
    let twice = gradients(&params, || student_t_loss(&add_to_each(&w, &w)?, &target, 1.0));
    assert!(twice.iter().all(|g| *g != 0.0));
    // The same for a tensor that is not a parameter.
    let again = gradients(&params, || {
        let x = reshape(&w, (1, 2, 3))?;
        student_t_loss(&add_to_each(&x, &x)?, &target, 1.0)
    });
    assert_eq!(again, twice);
}

#[test]
fn an_operation_that_is_not_recorded_is_an_error_and_not_a_gradient_of_zero() {
    let (params, w) = one_parameter(&[2, 3]);
    let target = random(&[2, 3], &mut rng(2));
    let differentiate = |forward: &dyn Fn() -> Result<Tensor>| {
        let (loss, tape) = Tape::record(forward).unwrap();
        params.backward(tape, &loss).unwrap_err().to_string()
    };
    let before = differentiate(&|| student_t_loss(&w.sqr()?, &target, 1.0));
    assert!(before.contains("before they reach a parameter"), "{before}");
    let behind = differentiate(&|| student_t_loss(&w, &target, 1.0)?.sqr());
    assert!(behind.contains("before they reach a parameter"), "{behind}");

    let loss = student_t_loss(&w, &target, 1.0).unwrap();
    let ((), tape) = Tape::record(|| Ok::<_, ()>(())).unwrap();
    assert!(params.backward(tape, &loss).is_err(), "made before the recording");
}

#[test]
fn a_recording_ends_with_an_error_or_a_panic() {
    let (_, w) = one_parameter(&[2, 3]);
    assert!(Tape::record(|| Err::<(), _>(())).is_err());
    assert!(!clamp(&w, 0.0, 1.0).unwrap().track_op());
    let panicked = std::panic::catch_unwind(|| Tape::record(|| -> Result<()> { panic!("in a recording") }));
    assert!(panicked.is_err());
    assert!(!clamp(&w, 0.0, 1.0).unwrap().track_op());
}
