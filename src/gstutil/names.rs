//! Names and times in metadata, messages and events, and the enumerations that GStreamer shows for those of the core.

use std::time::Duration;

use crate::detector::Label;

/// Converts between two enumerations with the same variants, in both directions.
macro_rules! same_variants {
    ($gst:ty, $core:ty: $($variant:ident),+ $(,)?) => {
        impl From<$gst> for $core {
            fn from(value: $gst) -> Self {
                match value {
                    $(<$gst>::$variant => Self::$variant),+
                }
            }
        }

        impl From<$core> for $gst {
            fn from(value: $core) -> Self {
                match value {
                    $(<$core>::$variant => Self::$variant),+
                }
            }
        }
    };
}
pub(crate) use same_variants;

/// The nick of an enumeration's value.
#[cfg(test)]
pub(crate) fn nick(value: impl Into<gst::glib::Value>) -> String {
    let value = value.into();
    let (_, value) = gst::glib::EnumValue::from_value(&value).expect("the value of an enumeration");
    value.nick().to_owned()
}

/// Name of a frame without a label.
const UNKNOWN: &str = "unknown";

/// The name of a label in metadata and messages; `None` is `unknown`.
pub(crate) fn label_name(label: Option<Label>) -> &'static str {
    label.map_or(UNKNOWN, Label::as_str)
}

/// The label of this name; `Some(None)` for `unknown`, `None` for any other string.
pub(crate) fn parse_label(name: &str) -> Option<Option<Label>> {
    match name {
        UNKNOWN => Some(None),
        name => name.parse().ok().map(Some),
    }
}

/// A time as GStreamer has it; the longest there is where it does not fit.
pub(crate) fn to_clock_time(time: Duration) -> gst::ClockTime {
    gst::ClockTime::try_from(time).unwrap_or(gst::ClockTime::MAX)
}

/// The time in a field, where the field is set.
pub(crate) fn time_field(structure: &gst::StructureRef, name: &str) -> Option<Duration> {
    let time = structure.get::<Option<gst::ClockTime>>(name).ok().flatten();
    time.map(Duration::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_round_trip_and_other_names_are_none() {
        for label in Label::ALL.iter().copied().map(Some).chain([None]) {
            assert_eq!(parse_label(label_name(label)), Some(label));
        }
        assert_eq!(parse_label("Anomaly"), None);
        assert_eq!(parse_label(""), None);
    }
}
