//! The element: maps formats, properties, messages and metadata to the core in [`crate::detector`] and the
//! state machine in [`crate::gate`].
//!
//! ```text
//! imp::transform_ip -> Session::process -> picture (map, no copy) -> Detector::process
//!                                       -> EventTracker, Retention -> Outcome
//!                   -> meta -> stats -> messages, events -> kept or dropped
//! ```

mod imp;
mod lateness;
mod message;
mod meta;
mod picture;
mod properties;
mod session;
mod settings;
mod stats;
mod types;

use std::sync::{Mutex, MutexGuard, PoisonError};

use gst::glib;
use gst::prelude::*;

pub use message::{EVENT_NAME, MESSAGE_NAME};
pub use meta::{FrameResult, META_NAME};
pub use types::{Cues, PostMessages, State, ThresholdMode};

glib::wrapper! {
    /// The `vaeanomaly` element.
    pub struct VaeAnomaly(ObjectSubclass<imp::VaeAnomaly>)
        @extends gst_base::BaseTransform, gst::Element, gst::Object;
}

/// Registers the element, its metadata and its types.
pub(crate) fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    meta::register();
    for type_ in [
        State::static_type(),
        ThresholdMode::static_type(),
        PostMessages::static_type(),
        Cues::static_type(),
    ] {
        type_.mark_as_plugin_api(gst::PluginAPIFlags::empty());
    }
    gst::Element::register(
        Some(plugin),
        "vaeanomaly",
        gst::Rank::NONE,
        VaeAnomaly::static_type(),
    )
}

/// A poisoned lock still holds whole values here: each is written in one piece.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
