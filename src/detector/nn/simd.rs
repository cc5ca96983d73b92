//! Vector registers behind one trait, and the choice of the widest instruction set that the processor has.
//!
//! Kernels are generic over [`Simd`] and always inlined; [`dispatch`] compiles one copy for each instruction set and picks
//! one at run time, so that the crate can be built for the plainest target.
//!
//! `pulp` 0.22 offers the same. With its vectors behind this trait the nets' convolutions take 3 to 6 % longer with AVX-512,
//! and 3 to 9 times as long on x86-64 without AVX2, where `pulp` has only scalars; the bits are the same with AVX-512 and
//! AVX2. To repeat that, implement [`Simd`] for `S: pulp::Simd` (feature `x86-v4`) and compare `cargo bench --bench nets`.

#![allow(
    unsafe_code,
    reason = "vector loads and stores take pointers, and calling a function that was compiled for an instruction set is \
              sound only where the processor has it; both are checked here and nowhere else"
)]

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

/// One instruction set's view of `f32` vectors.
pub(super) trait Simd: Copy {
    /// A register of [`Simd::LANES`] values.
    type V: Copy;
    const LANES: usize;
    /// Whether there are 32 registers instead of 16.
    const WIDE_FILE: bool;

    /// `x` in every lane.
    fn splat(self, x: f32) -> Self::V;
    /// # Safety
    /// `x` points to [`Simd::LANES`] values.
    unsafe fn load_ptr(self, x: *const f32) -> Self::V;
    /// The first [`Simd::LANES`] values of `x`.
    #[inline(always)]
    fn load(self, x: &[f32]) -> Self::V {
        let x = &x[..Self::LANES];
        // SAFETY: it is as long as that.
        unsafe { self.load_ptr(x.as_ptr()) }
    }
    /// Writes the first [`Simd::LANES`] values of `x`.
    fn store(self, x: &mut [f32], v: Self::V);
    /// Writes the first lanes to all of `x`, which is shorter than a register.
    fn store_part(self, x: &mut [f32], v: Self::V);
    /// `a + b`
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b`
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    /// The larger of `a` and `b`, `b` where one is NaN.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// All lanes added up.
    fn sum(self, v: Self::V) -> f32;
}

/// Work that is compiled once for each instruction set.
pub(super) trait WithSimd {
    /// Result of the work.
    type Output;
    /// Does the work with the vectors of `simd`.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

/// Arrays, which the compiler turns into the vectors of its baseline (SSE2, NEON).
#[derive(Clone, Copy)]
pub(super) struct Portable;

const PORTABLE_LANES: usize = 4;

impl Simd for Portable {
    type V = [f32; PORTABLE_LANES];
    const LANES: usize = PORTABLE_LANES;
    const WIDE_FILE: bool = cfg!(target_arch = "aarch64");

    #[inline(always)]
    fn splat(self, x: f32) -> Self::V {
        [x; PORTABLE_LANES]
    }
    #[inline(always)]
    unsafe fn load_ptr(self, x: *const f32) -> Self::V {
        // SAFETY: as the caller promises; an array of floats needs no more alignment than a float.
        unsafe { *x.cast() }
    }
    #[inline(always)]
    fn store(self, x: &mut [f32], v: Self::V) {
        x[..PORTABLE_LANES].copy_from_slice(&v);
    }
    #[inline(always)]
    fn store_part(self, x: &mut [f32], v: Self::V) {
        x.copy_from_slice(&v[..x.len()]);
    }
    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        std::array::from_fn(|i| a[i] + b[i])
    }
    #[inline(always)]
    fn mul(self, a: Self::V, b: Self::V) -> Self::V {
        std::array::from_fn(|i| a[i] * b[i])
    }
    #[inline(always)]
    fn max(self, a: Self::V, b: Self::V) -> Self::V {
        std::array::from_fn(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        // Without the instruction, a fused product is a slow call into the C library.
        if cfg!(target_arch = "aarch64") {
            std::array::from_fn(|i| a[i].mul_add(b[i], c[i]))
        } else {
            std::array::from_fn(|i| a[i] * b[i] + c[i])
        }
    }
    #[inline(always)]
    fn sum(self, v: Self::V) -> f32 {
        (v[0] + v[2]) + (v[1] + v[3])
    }
}

/// Proof that the processor has AVX2 and FMA.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(super) struct Avx2(());

/// Proof that the processor has AVX-512F.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(super) struct Avx512(());

#[cfg(target_arch = "x86_64")]
macro_rules! x86_simd {
    ($name:ident, $v:ty, $lanes:literal, $wide:literal, $splat:ident, $load:ident, $store:ident,
     $add:ident, $mul:ident, $max:ident, $fma:ident, $store_part:ident, $sum:ident) => {
        // SAFETY (every block): the token exists only where the instructions do, and the slices are as
        // long as the registers.
        impl Simd for $name {
            type V = $v;
            const LANES: usize = $lanes;
            const WIDE_FILE: bool = $wide;

            #[inline(always)]
            fn splat(self, x: f32) -> $v {
                unsafe { $splat(x) }
            }
            #[inline(always)]
            unsafe fn load_ptr(self, x: *const f32) -> $v {
                unsafe { $load(x) }
            }
            #[inline(always)]
            fn store(self, x: &mut [f32], v: $v) {
                let x = &mut x[..$lanes];
                unsafe { $store(x.as_mut_ptr(), v) }
            }
            #[inline(always)]
            fn store_part(self, x: &mut [f32], v: $v) {
                assert!(x.len() < $lanes);
                unsafe { $store_part(x, v) }
            }
            #[inline(always)]
            fn add(self, a: $v, b: $v) -> $v {
                unsafe { $add(a, b) }
            }
            #[inline(always)]
            fn mul(self, a: $v, b: $v) -> $v {
                unsafe { $mul(a, b) }
            }
            #[inline(always)]
            fn max(self, a: $v, b: $v) -> $v {
                unsafe { $max(a, b) }
            }
            #[inline(always)]
            fn mul_add(self, a: $v, b: $v, c: $v) -> $v {
                unsafe { $fma(a, b, c) }
            }
            #[inline(always)]
            fn sum(self, v: $v) -> f32 {
                unsafe { $sum(v) }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
x86_simd!(
    Avx2,
    __m256,
    8,
    false,
    _mm256_set1_ps,
    _mm256_loadu_ps,
    _mm256_storeu_ps,
    _mm256_add_ps,
    _mm256_mul_ps,
    _mm256_max_ps,
    _mm256_fmadd_ps,
    store_part_avx2,
    sum_avx2
);
#[cfg(target_arch = "x86_64")]
x86_simd!(
    Avx512,
    __m512,
    16,
    true,
    _mm512_set1_ps,
    _mm512_loadu_ps,
    _mm512_storeu_ps,
    _mm512_add_ps,
    _mm512_mul_ps,
    _mm512_max_ps,
    _mm512_fmadd_ps,
    store_part_avx512,
    _mm512_reduce_add_ps
);

/// # Safety
/// `x` is shorter than a register and the processor has AVX2.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn store_part_avx2(x: &mut [f32], v: __m256) {
    let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    let mask = _mm256_cmpgt_epi32(_mm256_set1_epi32(x.len() as i32), lanes);
    // SAFETY: the mask covers the slice and no more.
    unsafe { _mm256_maskstore_ps(x.as_mut_ptr(), mask, v) }
}

/// # Safety
/// The processor has AVX2.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn sum_avx2(v: __m256) -> f32 {
    let halves = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
    let pairs = _mm_add_ps(halves, _mm_movehl_ps(halves, halves));
    _mm_cvtss_f32(_mm_add_ss(pairs, _mm_movehdup_ps(pairs)))
}

/// # Safety
/// `x` is shorter than a register and the processor has AVX-512F.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn store_part_avx512(x: &mut [f32], v: __m512) {
    let mask = (1u16 << x.len()) - 1;
    // SAFETY: the mask covers the slice and no more.
    unsafe { _mm512_mask_storeu_ps(x.as_mut_ptr(), mask, v) }
}

/// An instruction set that kernels exist for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Level {
    /// All levels that this processor has, the best first.
    pub(super) fn available() -> impl Iterator<Item = Self> {
        #[cfg(target_arch = "x86_64")]
        let wide = [
            is_x86_feature_detected!("avx512f").then_some(Self::Avx512),
            (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")).then_some(Self::Avx2),
        ];
        #[cfg(not(target_arch = "x86_64"))]
        let wide = [None; 0];
        wide.into_iter().flatten().chain([Self::Portable])
    }
}

/// The level that work is dispatched to.
#[inline]
fn best() -> Level {
    #[cfg(test)]
    if let Some(level) = tests::forced() {
        return level;
    }
    Level::available().next().unwrap_or(Level::Portable)
}

/// Lanes of the vectors that work is dispatched to.
pub(super) fn best_lanes() -> usize {
    match best() {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => Avx512::LANES,
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => Avx2::LANES,
        Level::Portable => Portable::LANES,
    }
}

/// Runs `work` with the best instructions of this processor.
#[inline]
pub(super) fn dispatch<W: WithSimd>(work: W) -> W::Output {
    dispatch_to(best(), work)
}

fn dispatch_to<W: WithSimd>(level: Level, work: W) -> W::Output {
    match level {
        // SAFETY: levels come from `Level::available`.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => unsafe { run_avx512(work) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => unsafe { run_avx2(work) },
        Level::Portable => work.run(Portable),
    }
}

/// # Safety
/// The processor has AVX-512F.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx2,fma")]
unsafe fn run_avx512<W: WithSimd>(work: W) -> W::Output {
    work.run(Avx512(()))
}

/// # Safety
/// The processor has AVX2 and FMA.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn run_avx2<W: WithSimd>(work: W) -> W::Output {
    work.run(Avx2(()))
}

/// Defines a function whose plain loop is compiled once for each instruction set; the compiler makes the vectors.
macro_rules! vectorized {
    ($(#[$doc:meta])* $vis:vis fn $name:ident<$life:lifetime>($($arg:ident: $type:ty),* $(,)?) -> $result:ty $body:block) => {
        $(#[$doc])*
        $vis fn $name<$life>($($arg: $type),*) -> $result {
            struct Loop<$life> { $($arg: $type),* }
            impl<$life> $crate::detector::nn::simd::WithSimd for Loop<$life> {
                type Output = $result;
                #[inline(always)]
                fn run<S: $crate::detector::nn::simd::Simd>(self, _: S) -> $result {
                    let Self { $($arg),* } = self;
                    $body
                }
            }
            $crate::detector::nn::simd::dispatch(Loop { $($arg),* })
        }
    };
}
pub(super) use vectorized;

#[cfg(test)]
pub(super) mod tests {
    use std::cell::Cell;

    use super::Level;

    thread_local!(static FORCED: Cell<Option<Level>> = const { Cell::new(None) });

    pub(super) fn forced() -> Option<Level> {
        FORCED.get()
    }

    /// Runs a test's body once with each instruction set.
    pub(in crate::detector::nn) fn on_every_level(mut body: impl FnMut()) {
        for level in Level::available() {
            FORCED.set(Some(level));
            body();
        }
        FORCED.set(None);
    }
}
