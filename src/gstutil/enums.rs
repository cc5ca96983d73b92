//! GStreamer enumerations that mirror those of the core.

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
