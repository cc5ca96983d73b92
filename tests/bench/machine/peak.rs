//! The arithmetic peak of one core: independent fused multiply-adds at the widest instruction set of the kernels.

use std::hint::black_box;
use std::time::Duration;

use crate::support::milliseconds;

/// Independent sums: enough to hide a latency of four cycles on two units, few enough to stay in sixteen registers.
const SUMS: usize = 12;
/// Multiply-adds per sum and call.
const STEPS: usize = 1 << 15;

/// What a core reaches at best.
#[derive(Clone, Copy)]
pub struct Peak {
    pub instructions: &'static str,
    /// Single-precision operations per second; a multiply-add counts as two.
    pub flops: f64,
}

impl Peak {
    /// Measures with the instructions that the detector's kernels choose on this machine.
    pub fn measure() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") {
                // SAFETY: the processor has AVX-512F.
                return Self::of("AVX-512", 16, |x, y| unsafe { x86::avx512(x, y) });
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                // SAFETY: the processor has AVX2 and FMA.
                return Self::of("AVX2", 8, |x, y| unsafe { x86::avx2(x, y) });
            }
        }
        Self::of("portable", PORTABLE_LANES, portable)
    }

    /// `work` does [`STEPS`] multiply-adds on [`SUMS`] vectors of `lanes` values.
    fn of(instructions: &'static str, lanes: usize, work: impl Fn(f32, f32) -> f32) -> Self {
        let ms = milliseconds(Duration::from_millis(50), || {
            // The sums converge to 1, whatever the number of steps.
            black_box(work(black_box(0.5), black_box(0.5)));
        });
        Self {
            instructions,
            flops: (2 * SUMS * STEPS * lanes) as f64 / (ms * 1e-3),
        }
    }
}

const PORTABLE_LANES: usize = 4;

fn portable(x: f32, y: f32) -> f32 {
    let mut sums = [[0f32; PORTABLE_LANES]; SUMS];
    for _ in 0..STEPS {
        for lane in sums.iter_mut().flatten() {
            *lane = if cfg!(any(target_arch = "aarch64", target_feature = "fma")) {
                lane.mul_add(x, y)
            } else {
                *lane * x + y
            };
        }
    }
    sums.iter().flatten().sum()
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{STEPS, SUMS};

    /// # Safety
    /// The processor has AVX-512F.
    #[target_feature(enable = "avx512f")]
    pub unsafe fn avx512(x: f32, y: f32) -> f32 {
        let (x, y) = (_mm512_set1_ps(x), _mm512_set1_ps(y));
        let mut sums = [_mm512_setzero_ps(); SUMS];
        for _ in 0..STEPS {
            for sum in &mut sums {
                *sum = _mm512_fmadd_ps(*sum, x, y);
            }
        }
        sums.iter().map(|sum| _mm512_reduce_add_ps(*sum)).sum()
    }

    /// # Safety
    /// The processor has AVX2 and FMA.
    #[target_feature(enable = "avx2,fma")]
    pub unsafe fn avx2(x: f32, y: f32) -> f32 {
        let (x, y) = (_mm256_set1_ps(x), _mm256_set1_ps(y));
        let mut sums = [_mm256_setzero_ps(); SUMS];
        for _ in 0..STEPS {
            for sum in &mut sums {
                *sum = _mm256_fmadd_ps(*sum, x, y);
            }
        }
        sums.iter().map(|sum| _mm256_cvtss_f32(*sum)).sum()
    }
}
