//! The core: frames in, predictions out. It knows no GStreamer.
//!
//! A frame's way, in one direction ([`Detector::process`]):
//!
//! ```text
//! ImageView --frame--> two small images, background, edges, cuts (frame::Frame, SceneReport)
//!   --cue--> features, the inputs of each cue's net (cue::CueSet::score)
//!   --engine--> one anomaly map a net, on the CPU or on a GPU (engine::Engine::infer, vae::Learner)
//!   --cue--> raw scores --decision--> calibration, fusion, threshold, life cycle
//!   --regions--> the locations in an anomalous frame (regions::RegionTracker) --> Prediction
//!   and only then: --cue--> training batches --engine--> one training step a net --> FrameReport
//! ```
//!
//! - *cue*: a way in which a frame can be unusual (motion, appearance), with features, net, score and replay of its own
//! - *net*: a conditional convolutional VAE, described by `VaeConfig`; *engine*: what runs nets
//! - *calibration*: a score against its own history, in units of its spread; *raw score*: all cues fused
//! - *tick*: a tenth of a second, the unit of all rates; *prequential*: scored first, then learnt
//! - *learnt*: what a struct has learnt, apart from its settings and scratch, serialisable: [`Detector::learnt`]; [`store`]
//!   makes a file of it

#[doc(hidden)]
pub mod bench_support;
mod config;
mod cue;
mod decision;
mod device;
mod engine;
mod error;
mod frame;
mod map;
mod names;
mod net_arch;
mod nn;
mod online;
#[cfg(test)]
pub(crate) mod online_tests;
mod regions;
pub mod store;
mod vae;

pub use config::{Config, Networks, Stabilise, Temporal, ThresholdMode, Tuning};
pub use cue::{CueKind, StepReport};
pub use decision::State;
pub use device::{ComputeDevice, DeviceChoice};
#[cfg(all(feature = "cuda", feature = "plugin"))]
pub(crate) use engine::cuda::CudaReducer;
pub use error::{Error, Result};
#[cfg(all(feature = "cuda", feature = "plugin"))]
pub(crate) use frame::CudaImage;
pub use frame::{ColorModel, ColorRange, IgnoredRegions, ImageView, PixelFormat};
pub(crate) use map::connected;
pub use map::{AnomalyMap, Region};
pub use net_arch::{NetArch, Stage};
pub use online::{Detector, FrameReport, Label, Learnt, Prediction, SceneChange, Timings};
pub use regions::AnomalousRegion;
