//! GStreamer plugin: online anomaly detection on live video with convolutional variational autoencoders.

pub mod detector;
pub mod gate;
pub mod metrics;
