//! The kernels of convolutions on any sizes. `make fuzz` runs these with many more cases.

use proptest::prelude::*;

use super::super::{Activation, ConvSpec};
use super::{conv, upsample_conv};

/// Without a kink: a sum near zero may round to either side of it.
const ACTIVATION: Activation = Activation::Identity;

/// Mostly small, and around the lengths of vectors.
fn channels() -> impl Strategy<Value = usize> {
    prop_oneof![4 => 1usize..=9, 1 => 10usize..=40]
}

proptest! {
    #[test]
    fn convolutions_of_any_size_agree_with_candle(
        (inputs, outputs) in (channels(), channels()), kernel in 1usize..=7, stride in 1usize..=5, padding in 0usize..=6,
        (height, width) in (1usize..=20, 1usize..=20), batch in 1usize..=3,
    ) {
        let padding = padding.min(kernel);
        prop_assume!(height.min(width) + 2 * padding >= kernel);
        let spec = ConvSpec { inputs, outputs, kernel, stride, padding, activation: ACTIVATION };
        conv::check(spec, batch, height, width);
    }

    #[test]
    fn upsampled_convolutions_of_any_size_agree_with_single_steps(
        small in (1usize..=10, 1usize..=10, channels()), odd in any::<(bool, bool)>(), extra in 0usize..=4, outputs in channels(),
        kernel in 1usize..=7, padding in 0usize..=6, batch in 1usize..=3,
    ) {
        let (height, width, inputs) = small;
        let size = [2 * height - usize::from(odd.0), 2 * width - usize::from(odd.1)];
        let padding = padding.min(kernel - 1);
        prop_assume!(size[0].min(size[1]) + 2 * padding >= kernel);
        let case = upsample_conv::Case {
            small: [height, width, inputs], size, extra, outputs, kernel, padding, activation: ACTIVATION,
        };
        case.check(batch);
    }
}
