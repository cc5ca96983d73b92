//! What several example programs share. Not an example itself.
#![allow(dead_code, reason = "each program uses its part")]

pub mod chart;
pub mod raster;
