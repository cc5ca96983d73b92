//! SECTION:element-vaeanomalyoverlay
//!
//! Draws what `vaeanomaly` found: a heat map, boxes with id, cue and score, a strip of the last scores with the threshold,
//! state and event, and what the appearance model expected to see. It reads the metadata of the buffers only, so it may be
//! anywhere behind `vaeanomaly`, also behind elements that scale the frames. Heat map and reconstruction need
//! `attach-map` and `attach-reconstruction` there.
//!
//! All scales are fixed: a colour means the same score in every frame, and the threshold is at half the height of the
//! strip. What is ignored is shaded and never hot.
//!
//! The drawing is attached as `GstVideoOverlayCompositionMeta` where downstream takes that, and blended into the frames
//! otherwise, in every raw format that GStreamer can blend. Frames over which nothing is drawn pass untouched.
//!
//! ## Example pipeline
//!
//! ```shell
//! gst-launch-1.0 videotestsrc num-buffers=100 pattern=ball ! video/x-raw,width=320,height=240,framerate=10/1 \
//!     ! vaeanomaly attach-map=true ! vaeanomalyoverlay show=boxes+map+strip+state ! fakesink
//! ```
//!
//! Since: 0.1
//!
//! # Implementation
//!
//! A bin around GStreamer's `overlaycomposition`, which negotiates and blends; its signal `draw` is answered with the
//! layers of [`draw`].

use gst::glib;
use gst::prelude::*;

mod draw;
mod imp;
mod text;

pub use flags::Show;

mod flags {
    #![allow(missing_docs, reason = "glib::flags makes undocumented items")]

    use gst::glib;

    /// What a `vaeanomalyoverlay` draws.
    ///
    /// Since: 0.1
    #[glib::flags(name = "GstVaeAnomalyOverlayShow")]
    pub enum Show {
        /// A box around each region of an anomalous frame.
        #[flags_value(name = "Boxes around the regions, with id, cue and score", nick = "boxes")]
        BOXES = 1 << 0,
        /// The anomaly map as heat.
        #[flags_value(name = "Heat map (needs attach-map)", nick = "map")]
        MAP = 1 << 1,
        /// The last scores.
        #[flags_value(name = "Strip of the last scores with the threshold", nick = "strip")]
        STRIP = 1 << 2,
        /// Life-cycle state, score and event.
        #[flags_value(name = "State, score and event", nick = "state")]
        STATE = 1 << 3,
        /// What the appearance model expected to see.
        #[flags_value(
            name = "Inset with the reconstruction (needs attach-reconstruction)",
            nick = "reconstruction"
        )]
        RECONSTRUCTION = 1 << 4,
        /// What is ignored.
        #[flags_value(name = "Shade over what is ignored (needs attach-map)", nick = "ignored")]
        IGNORED = 1 << 5,
    }
}

glib::wrapper! {
    /// The `vaeanomalyoverlay` element.
    ///
    /// Since: 0.1
    pub struct VaeAnomalyOverlay(ObjectSubclass<imp::VaeAnomalyOverlay>)
        @extends gst::Bin, gst::Element, gst::Object,
        @implements gst::ChildProxy;
}

/// Registers the element with `plugin`.
pub(crate) fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    Show::static_type().mark_as_plugin_api(gst::PluginAPIFlags::empty());
    gst::Element::register(
        Some(plugin),
        "vaeanomalyoverlay",
        gst::Rank::NONE,
        VaeAnomalyOverlay::static_type(),
    )
}
