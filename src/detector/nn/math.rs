//! Logarithm and exponential without branches, for loops that the compiler turns into vectors.

/// Both halves of `ln 2`: the first has so few digits that whole multiples of it are exact.
const LN_2: (f32, f32) = (0.693_359_4, -2.121_944_4e-4);

#[inline(always)]
fn horner(x: f32, coefficients: &[f32]) -> f32 {
    coefficients.iter().fold(0.0, |sum, c| sum * x + c)
}

/// Natural logarithm of a normal number from 1 up, within 2 units of the last place; NaN of infinity and NaN.
///
/// Branch-free, for loops that the compiler vectorises (polynomial: Cephes, `logf`).
#[inline(always)]
pub(super) fn ln(x: f32) -> f32 {
    const ROOT_HALF_BITS: u32 = 0x3f35_04f3;
    const COEFFICIENTS: [f32; 9] = [
        7.037_683_6e-2,
        -1.151_461e-1,
        1.167_699_9e-1,
        -1.242_014_1e-1,
        1.424_932_3e-1,
        -1.666_805_8e-1,
        2.000_071_5e-1,
        -2.499_999_4e-1,
        3.333_333e-1,
    ];
    // x = 2^exponent * (1 + f), 1 + f from the root of a half to the root of two.
    let bits = x.to_bits().wrapping_sub(ROOT_HALF_BITS);
    let exponent = ((bits as i32) >> 23) as f32;
    let f = f32::from_bits((bits & 0x007f_ffff) + ROOT_HALF_BITS) - 1.0;
    let square = f * f;
    let rest = horner(f, &COEFFICIENTS) * f * square + exponent * LN_2.1 - 0.5 * square;
    rest + f + exponent * LN_2.0 + 0.0 * x
}

/// Exponential of a number, which is limited to -87..=88 first, within 2 units of the last place;
/// NaN of NaN. Branch-free, as [`ln`] (Cephes, `expf`).
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    const COEFFICIENTS: [f32; 6] = [
        1.987_569_2e-4,
        1.398_2e-3,
        8.333_452e-3,
        4.166_579_6e-2,
        1.666_666_5e-1,
        5e-1,
    ];
    /// Adding it leaves the nearest whole number in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    let x = if x < -87.0 { -87.0 } else { x };
    let x = if x > 88.0 { 88.0 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let whole = shifted - ROUND;
    let r = x - whole * LN_2.0 - whole * LN_2.1;
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(1f32.to_bits()));
    (horner(r, &COEFFICIENTS) * r * r + r + 1.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithm_and_exponential_are_exact_to_the_last_digits() {
        let mut x = 1.0f32;
        while x < 1e30 {
            let want = f64::from(x).ln();
            assert!(
                (f64::from(ln(x)) - want).abs() <= 2.5e-7 * want.max(0.3),
                "ln {x}: {}",
                ln(x)
            );
            x *= 1.003;
        }
        for i in -86_999..88_000 {
            let x = i as f32 * 1e-3;
            let want = f64::from(x).exp();
            assert!(
                (f64::from(exp(x)) - want).abs() <= 2.5e-7 * want,
                "exp {x}: {}",
                exp(x)
            );
        }
        assert_eq!((ln(1.0), exp(0.0)), (0.0, 1.0));
        assert!(ln(f32::INFINITY).is_nan() && ln(f32::NAN).is_nan() && exp(f32::NAN).is_nan());
        assert!(exp(-1e9) < 1e-37 && exp(1e9).is_finite());
    }
}
