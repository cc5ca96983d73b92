//! What a CUDA kernel is called with; without the feature as well, so that callers need not ask.

/// Name of a CUDA kernel, and what it takes behind its arrays and their length.
#[cfg_attr(not(feature = "cuda"), allow(dead_code, reason = "the CUDA side reads it"))]
#[derive(Clone, Copy, Debug)]
pub(super) struct Kernel<'a>(pub(super) &'static str, pub(super) &'a [Argument]);

/// An argument of a kernel that is no array.
#[cfg_attr(not(feature = "cuda"), allow(dead_code, reason = "the CUDA side reads it"))]
#[derive(Clone, Copy, Debug)]
pub(super) enum Argument {
    /// A count.
    Size(usize),
    /// A factor or bound.
    Number(f32),
}
