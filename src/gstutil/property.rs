//! Specifications and values of properties.

use std::ops::RangeInclusive;

use gst::glib;
use gst::prelude::*;

/// Up to which state a property may be changed.
#[derive(Clone, Copy)]
pub(crate) enum Mutable {
    Ready,
    Playing,
}

/// A count.
pub(crate) fn uint(
    name: &str,
    nick: &str,
    blurb: &str,
    range: RangeInclusive<u32>,
    default: u32,
    mutable: Mutable,
) -> glib::ParamSpec {
    let builder = glib::ParamSpecUInt::builder(name)
        .nick(nick)
        .blurb(blurb)
        .minimum(*range.start())
        .maximum(*range.end())
        .default_value(default);
    match mutable {
        Mutable::Ready => builder.mutable_ready().build(),
        Mutable::Playing => builder.mutable_playing().build(),
    }
}

/// A real number.
pub(crate) fn double(
    name: &str,
    nick: &str,
    blurb: &str,
    range: RangeInclusive<f64>,
    default: f64,
) -> glib::ParamSpec {
    glib::ParamSpecDouble::builder(name)
        .nick(nick)
        .blurb(blurb)
        .minimum(*range.start())
        .maximum(*range.end())
        .default_value(default)
        .mutable_playing()
        .build()
}

/// A duration in nanoseconds.
pub(crate) fn time(name: &str, nick: &str, blurb: &str, default: gst::ClockTime) -> glib::ParamSpec {
    glib::ParamSpecUInt64::builder(name)
        .nick(nick)
        .blurb(blurb)
        .maximum(i64::MAX as u64)
        .default_value(default.nseconds())
        .mutable_playing()
        .build()
}

/// A switch.
pub(crate) fn boolean(name: &str, nick: &str, blurb: &str, default: bool) -> glib::ParamSpec {
    glib::ParamSpecBoolean::builder(name)
        .nick(nick)
        .blurb(blurb)
        .default_value(default)
        .mutable_playing()
        .build()
}

/// A string that is read when the element starts.
pub(crate) fn text(name: &str, nick: &str, blurb: &str, default: Option<&str>) -> glib::ParamSpec {
    mutable_text(name, nick, blurb, default, Mutable::Ready)
}

/// A string.
pub(crate) fn mutable_text(
    name: &str,
    nick: &str,
    blurb: &str,
    default: Option<&str>,
    mutable: Mutable,
) -> glib::ParamSpec {
    let builder = glib::ParamSpecString::builder(name)
        .nick(nick)
        .blurb(blurb)
        .default_value(default);
    match mutable {
        Mutable::Ready => builder.mutable_ready().build(),
        Mutable::Playing => builder.mutable_playing().build(),
    }
}

/// A property's new value.
pub(crate) fn get<T: for<'v> glib::value::FromValue<'v> + 'static>(value: &glib::Value) -> T {
    value.get().expect("GLib checks the type")
}

/// The new value of a [`text`]; empty for NULL.
pub(crate) fn string(value: &glib::Value) -> String {
    get::<Option<String>>(value).unwrap_or_default()
}

/// The new value of a [`time`].
pub(crate) fn clock_time(value: &glib::Value) -> gst::ClockTime {
    gst::ClockTime::from_nseconds(get(value))
}
