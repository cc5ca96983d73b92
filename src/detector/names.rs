//! Enumerations with fixed names: in metadata, messages, properties and the programs' options.

/// Gives an enumeration its names in one place: `ALL`, `as_str`, `Display` and `FromStr`.
macro_rules! names {
    ($type:ty, $what:literal: $($variant:ident = $name:literal),+ $(,)?) => {
        impl $type {
            /// All values, in the order of their declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The name, as in metadata, messages and properties.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name),+
                }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $type {
            type Err = $crate::detector::Error;

            fn from_str(name: &str) -> std::result::Result<Self, Self::Err> {
                let found = Self::ALL.iter().copied().find(|value| value.as_str() == name);
                found.ok_or_else(|| {
                    let allowed = [$($name),+].join(", ");
                    $crate::detector::Error::setting($what, format!("one of {allowed}"), format!("\"{name}\""))
                })
            }
        }
    };
}
pub(crate) use names;

#[cfg(test)]
mod tests {
    use crate::detector::{CueKind, Label, Stabilise, State, Temporal, ThresholdMode};

    fn round_trip<T>(all: &[T])
    where
        T: Copy
            + std::fmt::Debug
            + PartialEq
            + std::fmt::Display
            + std::str::FromStr<Err = crate::detector::Error>,
    {
        for value in all {
            assert_eq!(value.to_string().parse::<T>().unwrap(), *value);
        }
        let unknown = "no-such-name".parse::<T>().unwrap_err().to_string();
        for value in all {
            assert!(unknown.contains(&value.to_string()), "{unknown}");
        }
        assert!(unknown.ends_with("got \"no-such-name\""), "{unknown}");
    }

    #[test]
    fn names_round_trip_and_unknown_names_are_errors() {
        round_trip(State::ALL);
        round_trip(Label::ALL);
        round_trip(CueKind::ALL);
        round_trip(Temporal::ALL);
        round_trip(ThresholdMode::ALL);
        round_trip(Stabilise::ALL);
    }
}
