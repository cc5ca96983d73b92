//! The shape of the appearance encoder, as users write it: `[(12,3,2),(24,3,2),(32,3,2)]`.

use std::fmt;
use std::str::FromStr;

use super::{Error, Result};

/// One stage of the encoder; the decoder mirrors it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stage {
    /// Channels that the stage puts out, 1..=256.
    pub filters: usize,
    /// Side of the square kernel: 1, 3, 5 or 7.
    pub kernel: usize,
    /// Reduction of width and height, 1..=4, done by the convolution's stride.
    pub pooling: usize,
}

/// The stages of the encoder, one to six.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetArch(Vec<Stage>);

const NAME: &str = "net-arch";

impl Default for NetArch {
    fn default() -> Self {
        let stage = |filters| Stage {
            filters,
            kernel: 3,
            pooling: 2,
        };
        Self(vec![stage(12), stage(24), stage(32)])
    }
}

impl NetArch {
    /// Checks the stages.
    ///
    /// # Errors
    /// [`Error::Setting`] names the stage, the value and the allowed range.
    pub fn new(stages: Vec<Stage>) -> Result<Self> {
        if !(1..=6).contains(&stages.len()) {
            return Err(Error::setting(
                NAME,
                "a list of 1 to 6 stages",
                format!("{} stages", stages.len()),
            ));
        }
        for (i, s) in stages.iter().enumerate() {
            let invalid = |what: &str, allowed: &str, got: usize| {
                Err(Error::setting(
                    NAME,
                    format!("a list with {what} {allowed} in every stage"),
                    format!("{what} {got} in stage {}", i + 1),
                ))
            };
            if !(1..=256).contains(&s.filters) {
                return invalid("filters", "1..=256", s.filters);
            }
            if ![1, 3, 5, 7].contains(&s.kernel) {
                return invalid("kernel", "1, 3, 5 or 7", s.kernel);
            }
            if !(1..=4).contains(&s.pooling) {
                return invalid("pooling", "1..=4", s.pooling);
            }
        }
        Ok(Self(stages))
    }

    /// The stages in the order of the encoder.
    pub fn stages(&self) -> &[Stage] {
        &self.0
    }

    /// By how much the encoder reduces width and height in all.
    pub fn reduction(&self) -> usize {
        self.0.iter().map(|s| s.pooling).product()
    }

    /// Checks that the poolings divide an image of that width.
    pub(crate) fn check_width(&self, width: usize) -> Result<()> {
        let mut left = width;
        for (i, s) in self.0.iter().enumerate() {
            if !left.is_multiple_of(s.pooling) {
                return Err(Error::setting(
                    NAME,
                    format!("a list whose poolings divide the model-width {width}"),
                    format!(
                        "pooling {} of stage {}, which does not divide {left}",
                        s.pooling,
                        i + 1
                    ),
                ));
            }
            left /= s.pooling;
        }
        Ok(())
    }
}

impl fmt::Display for NetArch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (i, s) in self.0.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            write!(f, "{comma}({},{},{})", s.filters, s.kernel, s.pooling)?;
        }
        f.write_str("]")
    }
}

impl FromStr for NetArch {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let invalid = || {
            let allowed = "a list of (filters,kernel,pooling) like [(12,3,2),(24,3,2),(32,3,2)]";
            Error::setting(NAME, allowed, format!("\"{text}\""))
        };
        let compact: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        let list = compact
            .strip_prefix("[(")
            .and_then(|rest| rest.strip_suffix(")]").or_else(|| rest.strip_suffix("),]")))
            .ok_or_else(invalid)?;
        let stages = list
            .split("),(")
            .map(|stage| {
                let numbers = stage
                    .split(',')
                    .map(str::parse)
                    .collect::<std::result::Result<Vec<_>, _>>();
                match numbers.as_deref() {
                    Ok(&[filters, kernel, pooling]) => Ok(Stage {
                        filters,
                        kernel,
                        pooling,
                    }),
                    _ => Err(invalid()),
                }
            })
            .collect::<Result<_>>()?;
        Self::new(stages)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        let text = "[(12,3,2),(24,3,2),(32,3,2)]";
        assert_eq!(NetArch::default().to_string(), text);
        assert_eq!(text.parse::<NetArch>().unwrap(), NetArch::default());
        let classic: NetArch = " [ (32, 5, 2), (8, 3, 2) ] ".parse().unwrap();
        assert_eq!(classic.to_string(), "[(32,5,2),(8,3,2)]");
        assert_eq!(classic.reduction(), 4);
    }

    #[test]
    fn errors_name_the_value_and_what_is_allowed() {
        for (text, words) in [
            ("", vec!["net-arch", "(filters,kernel,pooling)", "\"\""]),
            ("[]", vec!["(filters,kernel,pooling)", "\"[]\""]),
            ("[(12,3)]", vec!["\"[(12,3)]\""]),
            ("[(12,3,2),(-1,3,2)]", vec!["(-1,3,2)"]),
            ("[(0,3,2)]", vec!["filters 0 in stage 1", "1..=256"]),
            ("[(12,3,2),(24,4,2)]", vec!["kernel 4 in stage 2", "1, 3, 5 or 7"]),
            ("[(12,3,9)]", vec!["pooling 9 in stage 1", "1..=4"]),
            (
                "[(1,1,1),(1,1,1),(1,1,1),(1,1,1),(1,1,1),(1,1,1),(1,1,1)]",
                vec!["7 stages", "1 to 6"],
            ),
        ] {
            let message = text.parse::<NetArch>().unwrap_err().to_string();
            for word in words {
                assert!(message.contains(word), "{text:?}: {message:?} lacks {word:?}");
            }
        }
    }

    #[test]
    fn a_pooling_must_divide_the_width() {
        let arch: NetArch = "[(8,3,2),(8,3,3)]".parse().unwrap();
        assert!(arch.check_width(48).is_ok());
        let message = arch.check_width(64).unwrap_err().to_string();
        assert!(
            message.contains("pooling 3 of stage 2") && message.contains("does not divide 32"),
            "{message}"
        );
    }
}
