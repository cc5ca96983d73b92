//! What the properties hold.

use std::time::Duration;

use super::{PostMessages, ThresholdMode};
use crate::detector::{ComputeDevice, Config, CueKind, DeviceChoice, NetArch, Result, Tuning};
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
            device: DeviceChoice::default().to_string(),
            appearance: config.cues.contains(&CueKind::Appearance),
            motion: config.cues.contains(&CueKind::Motion),
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
            cues: [
                (CueKind::Motion, self.motion),
                (CueKind::Appearance, self.appearance),
            ]
            .into_iter()
            .filter_map(|(kind, on)| on.then_some(kind))
            .collect(),
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

    /// Readies the device.
    ///
    /// # Errors
    /// A word that names no device, or a device by name that is not there; nothing falls back silently.
    pub(super) fn open_device(&self) -> Result<ComputeDevice> {
        self.device.parse::<DeviceChoice>()?.open()
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

#[cfg(test)]
mod tests {
    use super::*;

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
