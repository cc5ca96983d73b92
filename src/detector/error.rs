//! Errors of the core: sentences that name the value and the allowed range.

/// Error of the detector core.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting is outside its allowed range.
    #[error("{name} must be {allowed}, got {got}")]
    Setting {
        /// Name of the setting, as the element's property is called.
        name: &'static str,
        /// The allowed values in words or as a range.
        allowed: String,
        /// The offending value.
        got: String,
    },
    /// A device that was asked for by name cannot be used.
    #[error("device is {asked}, but {reason}; use auto or cpu")]
    Device {
        /// As it was asked for: `cuda` or `cuda:N`.
        asked: String,
        /// What is missing.
        reason: String,
    },
    /// A frame's planes are too small for its format and size.
    #[error("image: {0}")]
    Image(String),
    /// Learnt state cannot be continued from.
    #[error("saved state: {0}")]
    Learnt(String),
    /// A file cannot be read or written.
    #[error("{}: {error}", path.display())]
    File {
        /// The file.
        path: std::path::PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// An operation of the tensor library failed.
    #[error("model: {0}")]
    Model(#[from] candle_core::Error),
}

/// Result of the detector core.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn setting(
        name: &'static str,
        allowed: impl Into<String>,
        got: impl std::fmt::Display,
    ) -> Self {
        Self::Setting {
            name,
            allowed: allowed.into(),
            got: got.to_string(),
        }
    }
}

/// The message of one of Candle's errors, without its backtrace.
pub(crate) fn message(error: candle_core::Error) -> String {
    match error {
        candle_core::Error::WithBacktrace { inner, .. } => message(*inner),
        error => error.to_string(),
    }
}
