//! The core: frames in, scores out. No clock, no lock, no GStreamer.

mod error;
mod image;
mod nn;

pub use error::{Error, Result};
pub use image::{ColorModel, ColorRange, ImageView, PixelFormat};
