//! The entry point of the shared library.
#![allow(missing_docs, reason = "plugin_define! makes undocumented items")]

fn plugin_init(plugin: &gst::Plugin) -> Result<(), gst::glib::BoolError> {
    #[cfg(feature = "mimalloc")]
    crate::allocator::reserve();
    crate::vaeanomaly::register(plugin)?;
    crate::vaeanomalygate::register(plugin)?;
    crate::vaeanomalyoverlay::register(plugin)
}

gst::plugin_define!(
    vaeanomaly,
    env!("CARGO_PKG_DESCRIPTION"),
    plugin_init,
    concat!(env!("CARGO_PKG_VERSION"), "-", env!("COMMIT_ID")),
    "MIT/X11",
    env!("CARGO_PKG_NAME"),
    env!("CARGO_PKG_NAME"),
    env!("CARGO_PKG_NAME"),
    env!("BUILD_REL_DATE")
);
