//! A street seen by a fixed camera, with planted anomalies and the ground truth of every frame.
//!
//! [`scene`] renders it, [`record`] encodes what it renders.

pub mod record;
pub mod scene;
