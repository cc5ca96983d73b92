//! The core: frames in, scores out. No clock, no lock, no GStreamer.
//!
//! A frame's way, one module a station:
//!
//! ```text
//! ImageView --image--> two small pictures --observer, scene--> Frame (background, edges, cuts)
//!   --cue--> what its net is shown --exchange--> CPU or GPU and back: a map a cue, its peak the raw score
//!   --calibration--> deviations from its own history --fusion--> raw score of all
//!   --threshold, lifecycle--> Prediction; then, and only then, --cue::learn--> weights and statistics
//! ```

#[doc(hidden)]
pub mod bench_support;
mod calibration;
mod channel;
mod clock;
mod config;
mod cue;
mod device;
mod engine;
#[cfg(test)]
mod engine_tests;
mod error;
mod exchange;
mod filter;
mod fusion;
mod image;
mod judge;
mod lifecycle;
mod map;
mod names;
mod net_arch;
mod nn;
mod observer;
mod scene;
mod threshold;
mod vae;

pub use config::{Config, Cues, Networks, ThresholdMode, Tuning};
#[cfg(test)]
pub(crate) use cue::Fault;
pub use cue::{CueKind, StepReport};
pub use device::{ComputeDevice, DeviceChoice};
pub use engine::{Detector, FrameReport, Label, Prediction, SceneChange, Timings};
pub use error::{Error, Result};
pub use image::{ColorModel, ColorRange, ImageView, PixelFormat};
pub use lifecycle::State;
pub use map::{AnomalyMap, Region};
pub use net_arch::{NetArch, Stage};
