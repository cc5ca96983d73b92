//! From any pixel format to two small images.

mod cells;
mod colour;
mod columns;
#[cfg(any(feature = "cuda", test))]
mod cuda;
mod format;
mod layout;
mod pass;
mod reduce;
#[cfg(target_arch = "x86_64")]
mod wide;

#[cfg(feature = "cuda")]
pub(crate) use cuda::{CudaImage, Reduction};
pub use format::{ColorModel, ColorRange, ImageView, PixelFormat};
pub(crate) use reduce::{ReducedFrame, ReducedSizes, Reducer};

#[cfg(test)]
mod testing;
#[cfg(all(test, feature = "cuda"))]
pub(crate) use testing::Frame as OwnedFrame;
#[cfg(test)]
mod tests;
