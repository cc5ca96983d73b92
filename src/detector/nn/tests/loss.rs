use candle_core::{D, Result, Tensor, Var};

use super::super::simd::tests::on_every_level;
use super::super::{
    add_to_each, apply_mask, clamp, kl, kl_loss, reparameterize, student_t_loss, upsample, weighted_sum,
};
use super::{assert_close, random, random_var, recorded, rng, values};

/// Value and gradients of an operation, against those of `want`.
fn check(what: &str, vars: &[&Var], got: impl Fn() -> Result<Tensor>, want: impl Fn() -> Result<Tensor>) {
    let want = want().unwrap();
    let pull = random(want.dims(), &mut rng(9));
    let gradients = |y: &Tensor| {
        let store = (y * &pull).unwrap().sum_all().unwrap().backward().unwrap();
        vars.iter()
            .map(|v| values(store.get(v).unwrap()))
            .collect::<Vec<_>>()
    };
    let wanted = gradients(&want);
    on_every_level(|| {
        let got = recorded(&got);
        assert_eq!(got.dims(), want.dims(), "{what}");
        assert_close(&values(&got), &values(&want), 2e-6, what);
        for (i, (got, want)) in gradients(&got).iter().zip(&wanted).enumerate() {
            assert_close(got, want, 5e-6, &format!("gradient {i} of {what}"));
        }
    });
}

#[test]
fn operations_agree_with_candle() {
    let r = &mut rng(1);
    let shape = [2, 13, 11, 7];
    let (a, b) = (random_var(&shape, r), random_var(&shape, r));
    let c = random(&shape, r);
    let big = Var::from_tensor(&(b.as_tensor() * 9.0).unwrap()).unwrap();

    let stock = |scale: f64| {
        let square = (a.as_tensor() - &c)?.sqr()?;
        ((square / (3.0 * scale * scale))? + 1.0)?.log()?.mean_all()? * 2.0
    };
    for scale in [1.0, 0.2] {
        check(
            "Student t",
            &[&a],
            || student_t_loss(&a, &c, scale),
            || stock(scale),
        );
    }
    check(
        "sample",
        &[&a, &big],
        || reparameterize(&a, &big, &c),
        || a.as_tensor() + ((big.as_tensor() * 0.5)?.exp()? * &c)?,
    );
    let stock_kl = || {
        let terms = (((a.sqr()? + b.exp()?)? - 1.0)? - b.as_tensor())?;
        (terms * 0.5)?.sum(D::Minus1)?.mean_all()
    };
    check("KL", &[&a, &b], || kl_loss(&a, &b), stock_kl);
    let each = kl(&a, &b).unwrap();
    assert_eq!(each.dims(), [2, 13, 11]);
    let mean = values(&each.mean_all().unwrap());
    assert_close(&mean, &values(&kl_loss(&a, &b).unwrap()), 1e-6, "mean of KLs");
    check(
        "clamp",
        &[&a],
        || clamp(&a, -0.5, 0.25),
        || a.clamp(-0.5f32, 0.25f32),
    );
    let image = random_var(&[1, 13, 11, 7], r);
    check(
        "sum",
        &[&a, &image],
        || add_to_each(&a, &image),
        || a.broadcast_add(&image),
    );
    check("mask", &[&a], || apply_mask(&a, &c), || a.as_tensor() * &c);
    let (p, q) = (random_var(&[], r), random_var(&[], r));
    check(
        "weighted sum",
        &[&p, &q],
        || weighted_sum([(&p, 2.0), (&q, 0.03)]),
        || (p.as_tensor() * 2.0)? + (q.as_tensor() * 0.03)?,
    );
}

#[test]
fn upsampling_agrees_with_candle() {
    let x = random_var(&[2, 3, 4, 5], &mut rng(4));
    for factor in 1..=4 {
        let stock = || {
            x.reshape((2, 3, 1, 4, 1, 5))?
                .broadcast_as((2, 3, factor, 4, factor, 5))?
                .reshape((2, 3 * factor, 4 * factor, 5))
        };
        check("upsampling", &[&x], || upsample(&x, factor), stock);
    }
}

#[test]
fn nan_and_infinity_are_kept() {
    let r = &mut rng(2);
    let (x, zero) = (random(&[1, 40], r), random(&[1, 40], r).zeros_like().unwrap());
    for bad in [f64::NAN, f64::INFINITY, 1e30] {
        let spoiled = Tensor::cat(&[&x, &Tensor::new(&[[bad as f32]], x.device()).unwrap()], 1).unwrap();
        let target = spoiled.zeros_like().unwrap();
        let loss = student_t_loss(&spoiled, &target, 1.0).unwrap();
        assert!(!loss.to_scalar::<f32>().unwrap().is_finite(), "{bad}");
    }
    let nan = (&zero + f64::NAN).unwrap();
    assert!(
        values(&reparameterize(&zero, &nan, &x).unwrap())
            .iter()
            .all(|v| v.is_nan())
    );
    assert!(kl_loss(&zero, &nan).unwrap().to_scalar::<f32>().unwrap().is_nan());
    assert!(
        values(&clamp(&nan, -1.0, 1.0).unwrap())
            .iter()
            .all(|v| v.is_nan())
    );
}

#[test]
fn shapes_that_differ_are_rejected() {
    let r = &mut rng(3);
    let (a, b) = (random(&[2, 3], r), random(&[3, 2], r));
    assert!(
        student_t_loss(&a, &b, 1.0)
            .unwrap_err()
            .to_string()
            .contains("[2, 3] and [3, 2]")
    );
    assert!(kl_loss(&a, &b).is_err() && reparameterize(&a, &a, &b).is_err() && add_to_each(&a, &b).is_err());
    assert!(apply_mask(&a, &b).is_err() && weighted_sum([(&a, 1.0), (&a, 1.0)]).is_err());
    assert!(student_t_loss(&a, &random_var(&[2, 3], r), 1.0).is_err());
}
