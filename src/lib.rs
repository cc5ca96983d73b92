//! GStreamer plugin: online anomaly detection on live video with convolutional variational autoencoders.

pub mod detector;
pub mod gate;
pub mod metrics;
#[cfg(feature = "plugin")]
pub mod vaeanomalygate;

#[cfg(feature = "plugin")]
fn plugin_init(plugin: &gst::Plugin) -> Result<(), gst::glib::BoolError> {
    if !gst::meta::CustomMeta::is_registered("VaeAnomalyMeta") {
        gst::meta::CustomMeta::register("VaeAnomalyMeta", &[]);
    }
    vaeanomalygate::register(plugin)
}

#[cfg(feature = "plugin")]
gst::plugin_define!(
    vaeanomaly,
    env!("CARGO_PKG_DESCRIPTION"),
    plugin_init,
    env!("CARGO_PKG_VERSION"),
    "MIT",
    env!("CARGO_PKG_NAME"),
    env!("CARGO_PKG_NAME"),
    "https://github.com/",
    "2026-01-01"
);
