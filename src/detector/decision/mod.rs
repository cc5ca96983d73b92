//! From the cues' scores to a label: calibration, fusion, threshold, life cycle.

mod calibration;
mod fusion;
mod lifecycle;
mod post_processor;
mod threshold;

pub(crate) use calibration::{Calibration, CalibrationConfig, CalibrationLearnt, Prior};
pub(crate) use fusion::to_unit;
pub use lifecycle::State;
pub(crate) use post_processor::{PostProcessor, PostProcessorLearnt};
