//! What the properties hold.

use std::time::Duration;

use super::{PostMessages, ThresholdMode};
use crate::detector::{Config, Cues, NetArch, Result, Tuning};
use crate::gate::{EventPolicy, RetentionPolicy};

/// Once a second an open event is told again.
const UPDATE_INTERVAL: Duration = Duration::from_secs(1);

/// A snapshot of all properties; copied once a frame.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Settings {
    pub(super) device: String,
    pub(super) appearance: bool,
    pub(super) motion: bool,
    pub(super) net_arch: String,
    pub(super) latent_dim: u32,
    pub(super) model_width: u32,
    pub(super) seed: u64,
    pub(super) warm_up: u32,
    pub(super) tuning: Tuning,
    pub(super) threshold_mode: ThresholdMode,
    pub(super) drop_normal: bool,
    pub(super) keepalive_interval: gst::ClockTime,
    pub(super) gap_events: bool,
    pub(super) post_roll: gst::ClockTime,
    pub(super) min_anomaly: gst::ClockTime,
    pub(super) merge_gap: gst::ClockTime,
    pub(super) max_lateness: gst::ClockTime,
    pub(super) post_messages: PostMessages,
    pub(super) roi_meta: bool,
}

impl Default for Settings {
    fn default() -> Self {
        let config = Config::default();
        Self {
            device: "auto".to_owned(),
            appearance: config.cues.appearance,
            motion: config.cues.motion,
            net_arch: config.net_arch.to_string(),
            latent_dim: config.latent_dim as u32,
            model_width: config.model_width as u32,
            seed: config.seed,
            warm_up: config.warm_up,
            tuning: Tuning::default(),
            threshold_mode: ThresholdMode::default(),
            drop_normal: false,
            keepalive_interval: gst::ClockTime::SECOND,
            gap_events: true,
            post_roll: 2 * gst::ClockTime::SECOND,
            min_anomaly: 800 * gst::ClockTime::MSECOND,
            merge_gap: 2 * gst::ClockTime::SECOND,
            max_lateness: 100 * gst::ClockTime::MSECOND,
            post_messages: PostMessages::Events,
            roi_meta: true,
        }
    }
}

impl Settings {
    /// The detector's configuration.
    ///
    /// # Errors
    /// A value that no net can be made of, with its name and the allowed range.
    pub(super) fn config(&self) -> Result<Config> {
        let config = Config {
            cues: Cues {
                appearance: self.appearance,
                motion: self.motion,
            },
            net_arch: self.net_arch.parse::<NetArch>()?,
            latent_dim: self.latent_dim as usize,
            model_width: self.model_width as usize,
            seed: self.seed,
            warm_up: self.warm_up,
            ..Config::default()
        };
        config.validate()?;
        Ok(config)
    }

    /// What the detector may change between frames.
    pub(super) fn tuning(&self) -> Tuning {
        Tuning {
            threshold_mode: self.threshold_mode.into(),
            ..self.tuning
        }
    }

    pub(super) fn event_policy(&self) -> EventPolicy {
        EventPolicy {
            min_anomaly: self.min_anomaly.into(),
            merge_gap: self.merge_gap.into(),
            update_interval: UPDATE_INTERVAL,
        }
    }

    pub(super) fn retention_policy(&self) -> RetentionPolicy {
        RetentionPolicy {
            drop_normal: self.drop_normal,
            post_roll: self.post_roll.into(),
            keepalive_interval: self.keepalive_interval.into(),
        }
    }
}

/// Refuses a device that is not there; nothing falls back silently.
///
/// # Errors
/// A sentence with the value and what is allowed.
pub(super) fn check_device(device: &str) -> std::result::Result<(), String> {
    let is_cuda = device == "cuda"
        || device
            .strip_prefix("cuda:")
            .is_some_and(|n| n.parse::<u32>().is_ok());
    match device {
        "auto" | "cpu" => Ok(()),
        _ if is_cuda => Err(format!(
            "device is {device}, but this build has no CUDA support; use auto or cpu"
        )),
        _ => Err(format!(
            "device must be auto, cpu, cuda or cuda:N, got \"{device}\""
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_refused_by_name() {
        assert_eq!(check_device("auto"), Ok(()));
        assert_eq!(check_device("cpu"), Ok(()));
        for (device, words) in [
            ("cuda", "no CUDA"),
            ("cuda:1", "cuda:1"),
            ("gpu", "cuda:N, got \"gpu\""),
            ("cuda:x", "got \"cuda:x\""),
        ] {
            let message = check_device(device).unwrap_err();
            assert!(message.contains(words), "{message}");
        }
    }

    #[test]
    fn a_wrong_net_is_refused_with_value_and_range() {
        let settings = Settings {
            net_arch: "[(12,3,3)]".to_owned(),
            ..Settings::default()
        };
        let message = settings.config().unwrap_err().to_string();
        assert!(
            message.contains("net-arch") && message.contains("pooling 3 of stage 1"),
            "{message}"
        );
    }
}
