use candle_core::Result;
use candle_nn::Init;
use rand::Rng as _;

use super::super::parameters::fan_in_uniform;
use super::super::{Activation, Parameters};
use super::{dense, rng};

/// Parameters of two layers and a constant.
fn layers(seed: u64) -> Result<Parameters> {
    let params = Parameters::new(rng(seed));
    let vb = params.var_builder();
    dense([3, 2], Activation::Identity, &params, "z");
    vb.get_with_hints((2, 2), "constant", Init::Const(-4.0))?;
    dense([2, 1], Activation::Identity, &params, "a.b");
    params.add("base", (1, 2), vec![7.0, 8.0])?;
    Ok(params)
}

#[test]
fn are_in_the_order_of_their_creation_and_drawn_from_the_seed() {
    let params = layers(5).unwrap();
    let names: Vec<String> = params.iter().map(|(name, _)| name).collect();
    let want = ["z.weight", "z.bias", "constant", "a.b.weight", "a.b.bias", "base"];
    assert_eq!(names, want);
    let mut rng = rng(5);
    let mut uniform = |count: usize, fan_in: f32| -> Vec<f32> {
        let bound = 1.0 / fan_in.sqrt();
        (0..count).map(|_| rng.random_range(-bound..bound)).collect()
    };
    let want = [uniform(8, 3.0), vec![-4.0; 4], uniform(3, 2.0), vec![7.0, 8.0]];
    assert_eq!(params.values().unwrap(), want.concat());
    assert_eq!(params.count(), 17);
    assert_ne!(layers(6).unwrap().values().unwrap(), want.concat());
}

#[test]
fn values_can_be_replaced_by_as_many() {
    let (params, other) = (layers(1).unwrap(), layers(2).unwrap());
    params.set_values(&other.values().unwrap()).unwrap();
    assert_eq!(params.values().unwrap(), other.values().unwrap());
    let error = params.set_values(&[0.0; 16]).unwrap_err().to_string();
    assert!(error.contains("16 values do not fit 17 parameters"), "{error}");
}

#[test]
fn a_name_stands_for_one_parameter() {
    let params = layers(1).unwrap();
    let vb = params.var_builder();
    assert!(vb.contains_tensor("base") && !vb.contains_tensor("z"));
    let shared = vb
        .pp("z")
        .get_with_hints((3, 2), "weight", fan_in_uniform(3))
        .unwrap();
    assert!(params.iter().any(|(_, var)| var.as_tensor().id() == shared.id()));
    assert_eq!(params.count(), 17);
    let error = vb.pp("z").get((2, 3), "weight").unwrap_err().to_string();
    assert!(error.contains("z.weight has shape"), "{error}");
    assert!(params.add("base", 2, vec![0.0; 2]).is_err());
    let normal = Init::Randn {
        mean: 0.0,
        stdev: 1.0,
    };
    assert!(vb.get_with_hints(2, "normal", normal).is_err());
}
