//! What users can set.

use std::time::Duration;

use gst::glib;
use gst::prelude::*;

use super::Retain;
use crate::gate::GatePolicy;

/// A snapshot of the properties.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Settings {
    pub pre_roll: gst::ClockTime,
    pub post_roll: gst::ClockTime,
    pub max_pre_roll_bytes: u64,
    pub keepalive_interval: gst::ClockTime,
    pub gap_events: bool,
    pub retain: Retain,
    pub follow: Option<String>,
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
    /// The same for the state machine.
    pub fn policy(&self) -> GatePolicy {
        GatePolicy {
            pre_roll: Duration::from(self.pre_roll),
            post_roll: Duration::from(self.post_roll),
            keepalive_interval: Duration::from(self.keepalive_interval),
            max_bytes: self.max_pre_roll_bytes,
            keep_all: self.retain == Retain::All,
        }
    }

    pub fn properties() -> Vec<glib::ParamSpec> {
        let defaults = Settings::default();
        let time = |name: &'static str, nick: &'static str, blurb: &'static str, default: gst::ClockTime| {
            glib::ParamSpecUInt64::builder(name)
                .nick(nick)
                .blurb(blurb)
                .maximum(i64::MAX as u64)
                .default_value(default.nseconds())
                .mutable_playing()
                .build()
        };
        vec![
            time(
                "pre-roll",
                "Pre-roll",
                "How much before an anomaly is kept, in nanoseconds; encoded video starts at the key frame before that",
                defaults.pre_roll,
            ),
            time(
                "post-roll",
                "Post-roll",
                "How much after an anomaly is kept, in nanoseconds",
                defaults.post_roll,
            ),
            glib::ParamSpecUInt64::builder("max-pre-roll-bytes")
                .nick("Maximum pre-roll bytes")
                .blurb("Most bytes held back; with more, the pre-roll gets shorter")
                .default_value(defaults.max_pre_roll_bytes)
                .mutable_playing()
                .build(),
            time(
                "keepalive-interval",
                "Keep-alive interval",
                "While dropping, one frame (a key frame when encoded) passes this often, in nanoseconds (0 = never)",
                defaults.keepalive_interval,
            ),
            glib::ParamSpecBoolean::builder("gap-events")
                .nick("Gap events")
                .blurb("Announce dropped time downstream with GAP events")
                .default_value(defaults.gap_events)
                .mutable_playing()
                .build(),
            glib::ParamSpecEnum::builder_with_default("retain", defaults.retain)
                .nick("Retain")
                .blurb("What passes")
                .mutable_playing()
                .build(),
            glib::ParamSpecString::builder("follow")
                .nick("Follow")
                .blurb("Name of a vaeanomaly element elsewhere in the pipeline to follow by running time (unset = metadata and events of this stream)")
                .mutable_ready()
                .build(),
            glib::ParamSpecBoxed::builder::<gst::Structure>("stats")
                .nick("Statistics")
                .blurb("Frames and bytes in, out, dropped, lost and held, clips, longest hold")
                .read_only()
                .build(),
        ]
    }

    /// Takes a property's new value.
    pub fn set(&mut self, name: &str, value: &glib::Value) {
        let time = || gst::ClockTime::from_nseconds(value.get().expect("type checked upstream"));
        match name {
            "pre-roll" => self.pre_roll = time(),
            "post-roll" => self.post_roll = time(),
            "keepalive-interval" => self.keepalive_interval = time(),
            "max-pre-roll-bytes" => self.max_pre_roll_bytes = value.get().expect("type checked upstream"),
            "gap-events" => self.gap_events = value.get().expect("type checked upstream"),
            "retain" => self.retain = value.get().expect("type checked upstream"),
            "follow" => {
                let name: Option<String> = value.get().expect("type checked upstream");
                self.follow = name.filter(|name| !name.is_empty());
            }
            _ => unreachable!("no writable property {name}"),
        }
    }

    /// A property's value.
    pub fn get(&self, name: &str) -> glib::Value {
        match name {
            "pre-roll" => self.pre_roll.nseconds().to_value(),
            "post-roll" => self.post_roll.nseconds().to_value(),
            "keepalive-interval" => self.keepalive_interval.nseconds().to_value(),
            "max-pre-roll-bytes" => self.max_pre_roll_bytes.to_value(),
            "gap-events" => self.gap_events.to_value(),
            "retain" => self.retain.to_value(),
            "follow" => self.follow.to_value(),
            _ => unreachable!("no readable property {name}"),
        }
    }
}
