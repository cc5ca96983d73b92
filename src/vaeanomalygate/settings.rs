//! The properties: their specifications, their values, and what the state machine makes of them.

use std::sync::LazyLock;
use std::time::Duration;

use gst::glib;
use gst::prelude::*;

use super::Retain;
use crate::events::GatePolicy;
use crate::gstutil::{boolean, clock_time, get, string, text, time};

/// A snapshot of all properties.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) pre_roll: gst::ClockTime,
    pub(super) post_roll: gst::ClockTime,
    pub(super) max_pre_roll_bytes: u64,
    pub(super) keepalive_interval: gst::ClockTime,
    pub(super) gap_events: bool,
    pub(super) retain: Retain,
    pub(super) follow: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            pre_roll: gst::ClockTime::from_seconds(5),
            post_roll: gst::ClockTime::from_seconds(2),
            max_pre_roll_bytes: 64 << 20,
            keepalive_interval: gst::ClockTime::from_seconds(1),
            gap_events: true,
            retain: Retain::Event,
            follow: None,
        }
    }
}

impl Settings {
    pub(super) fn policy(&self) -> GatePolicy {
        GatePolicy {
            pre_roll: Duration::from(self.pre_roll),
            post_roll: Duration::from(self.post_roll),
            keepalive_interval: Duration::from(self.keepalive_interval),
            max_bytes: self.max_pre_roll_bytes,
            keep_all: self.retain == Retain::All,
        }
    }

    /// Sets a property; GLib has checked type and range.
    pub(super) fn set(&mut self, name: &str, value: &glib::Value) {
        match name {
            "pre-roll" => self.pre_roll = clock_time(value),
            "post-roll" => self.post_roll = clock_time(value),
            "max-pre-roll-bytes" => self.max_pre_roll_bytes = get(value),
            "keepalive-interval" => self.keepalive_interval = clock_time(value),
            "gap-events" => self.gap_events = get(value),
            "retain" => self.retain = get(value),
            "follow" => self.follow = Some(string(value)).filter(|name| !name.is_empty()),
            _ => unreachable!("no writable property {name}"),
        }
    }

    /// The value of a writable property.
    pub(super) fn get(&self, name: &str) -> glib::Value {
        match name {
            "pre-roll" => self.pre_roll.nseconds().to_value(),
            "post-roll" => self.post_roll.nseconds().to_value(),
            "max-pre-roll-bytes" => self.max_pre_roll_bytes.to_value(),
            "keepalive-interval" => self.keepalive_interval.nseconds().to_value(),
            "gap-events" => self.gap_events.to_value(),
            "retain" => self.retain.to_value(),
            "follow" => self.follow.to_value(),
            _ => unreachable!("no readable property {name}"),
        }
    }

    /// Specifications of all properties, in the order of the documentation.
    pub(super) fn properties() -> &'static [glib::ParamSpec] {
        static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> =
            LazyLock::new(|| specifications(&Settings::default()));
        &PROPERTIES
    }
}

fn specifications(d: &Settings) -> Vec<glib::ParamSpec> {
    vec![
        time(
            "pre-roll",
            "Pre-roll",
            "Time in ns for which frames are kept before an anomaly; encoded video starts at the key frame before that",
            d.pre_roll,
        ),
        time(
            "post-roll",
            "Post-roll",
            "Time in ns for which frames are kept after an anomaly",
            d.post_roll,
        ),
        glib::ParamSpecUInt64::builder("max-pre-roll-bytes")
            .nick("Maximum pre-roll bytes")
            .blurb("Maximum number of bytes held back; the pre-roll is shortened to fit")
            .default_value(d.max_pre_roll_bytes)
            .mutable_playing()
            .build(),
        time(
            "keepalive-interval",
            "Keep-alive interval",
            "Interval in ns at which one frame (encoded video: one key frame) is passed on while dropping (0 = never)",
            d.keepalive_interval,
        ),
        boolean(
            "gap-events",
            "GAP events",
            "Send GAP events downstream for dropped frames",
            d.gap_events,
        ),
        glib::ParamSpecEnum::builder_with_default("retain", d.retain)
            .nick("Retain")
            .blurb("Which frames are kept")
            .mutable_playing()
            .build(),
        text(
            "follow",
            "Follow",
            "Name of a vaeanomaly element elsewhere in the pipeline to follow by running time (unset = use the metadata \
             and events of this stream)",
            None,
        ),
        glib::ParamSpecBoxed::builder::<gst::Structure>("stats")
            .nick("Statistics")
            .blurb("Counts of frames and bytes in, out, dropped, lost, discarded (by a flush or a failure downstream) and held, \
                 of clips, and the longest hold in ns")
            .read_only()
            .build(),
    ]
}
