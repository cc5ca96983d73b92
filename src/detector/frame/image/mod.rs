//! From any pixel format to two small images.

mod cells;
mod colour;
mod columns;
mod format;
mod layout;
mod pass;
mod reduce;
#[cfg(target_arch = "x86_64")]
mod wide;

pub use format::{ColorModel, ColorRange, ImageView, PixelFormat};
pub(crate) use reduce::{ReducedFrame, ReducedSizes, Reducer};

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
