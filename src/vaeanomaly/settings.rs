//! The properties: their specifications, their values, and what the core makes of them.

use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use gst::glib;
use gst::prelude::*;

use super::{Cues, PostMessages, Stabilise, State, Temporal, ThresholdMode};
use crate::detector::{ComputeDevice, Config, DeviceChoice, IgnoredRegions, NetArch, Result, Tuning};
use crate::events::{EventPolicy, RetentionPolicy};
use crate::gstutil::{
    Mutable, boolean, clock_time, double, get, mutable_text, string, text, time, to_clock_time, uint,
};

/// Interval of `anomaly-update` while an event is open.
const UPDATE_INTERVAL: Duration = Duration::from_secs(1);

/// A snapshot of all properties; copied once a frame.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Settings {
    pub(super) device: String,
    pub(super) cues: Cues,
    pub(super) net_arch: String,
    pub(super) latent_dim: u32,
    pub(super) model_width: u32,
    pub(super) temporal: Temporal,
    pub(super) seed: u64,
    pub(super) warm_up: u32,
    pub(super) tuning: Tuning,
    pub(super) drop_normal: bool,
    pub(super) keepalive_interval: gst::ClockTime,
    pub(super) gap_events: bool,
    pub(super) post_roll: gst::ClockTime,
    pub(super) min_anomaly: gst::ClockTime,
    pub(super) merge_gap: gst::ClockTime,
    pub(super) max_lateness: gst::ClockTime,
    pub(super) post_messages: PostMessages,
    pub(super) roi_meta: bool,
    pub(super) attach_map: bool,
    pub(super) attach_reconstruction: bool,
    pub(super) model_location: String,
    pub(super) save_interval: gst::ClockTime,
    pub(super) mask_location: String,
    pub(super) ignore_regions: String,
    /// What the two say, once it was read.
    pub(super) ignored: IgnoredRegions,
}

impl Default for Settings {
    fn default() -> Self {
        let config = Config::default();
        Self {
            device: DeviceChoice::default().to_string(),
            cues: config.cues.iter().copied().collect(),
            net_arch: config.net_arch.to_string(),
            latent_dim: config.latent_dim as u32,
            model_width: config.model_width as u32,
            temporal: config.temporal.into(),
            seed: config.seed,
            warm_up: config.warm_up,
            tuning: Tuning::default(),
            drop_normal: false,
            keepalive_interval: gst::ClockTime::SECOND,
            gap_events: true,
            post_roll: 2 * gst::ClockTime::SECOND,
            min_anomaly: 800 * gst::ClockTime::MSECOND,
            merge_gap: 2 * gst::ClockTime::SECOND,
            max_lateness: 100 * gst::ClockTime::MSECOND,
            post_messages: PostMessages::Events,
            roi_meta: true,
            attach_map: false,
            attach_reconstruction: false,
            model_location: String::new(),
            save_interval: gst::ClockTime::from_seconds(60),
            mask_location: String::new(),
            ignore_regions: String::new(),
            ignored: IgnoredRegions::none(),
        }
    }
}

impl Settings {
    /// The detector's configuration.
    ///
    /// # Errors
    /// A value that no model can be built with, with its name and the allowed range.
    pub(super) fn config(&self) -> Result<Config> {
        let config = Config {
            cues: self.cues.kinds(),
            net_arch: self.net_arch.parse::<NetArch>()?,
            latent_dim: self.latent_dim as usize,
            model_width: self.model_width as usize,
            temporal: self.temporal.into(),
            seed: self.seed,
            warm_up: self.warm_up,
            ..Config::default()
        };
        config.validate()?;
        Ok(config)
    }

    /// Opens the compute device.
    ///
    /// # Errors
    /// A string that names no device, or a device that was requested by name and cannot be used.
    pub(super) fn open_device(&self) -> Result<ComputeDevice> {
        self.device.parse::<DeviceChoice>()?.open()
    }

    /// Reads what is to be ignored.
    ///
    /// # Errors
    /// The mask cannot be read or is no image, or the polygons are of another form.
    pub(super) fn read_ignored(&self) -> Result<IgnoredRegions> {
        let mask = match self.mask_location.as_str() {
            "" => IgnoredRegions::none(),
            path => IgnoredRegions::from_file(Path::new(path))?,
        };
        let regions = IgnoredRegions::from_polygons(&self.ignore_regions)?;
        Ok(mask.and(regions))
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

    /// Sets a property; GLib has checked type and range.
    pub(super) fn set(&mut self, name: &str, value: &glib::Value) {
        match name {
            "device" => self.device = string(value),
            "cues" => self.cues = get(value),
            "net-arch" => self.net_arch = string(value),
            "latent-dim" => self.latent_dim = get(value),
            "model-width" => self.model_width = get(value),
            "temporal" => self.temporal = get(value),
            "seed" => self.seed = get(value),
            "warm-up" => self.warm_up = get(value),
            "learn" => self.tuning.learn = get(value),
            "learning-rate" => self.tuning.learning_rate = get(value),
            "memory" => self.tuning.memory = clock_time(value).into(),
            "absorb-after" => self.tuning.absorb_after = clock_time(value).into(),
            "stabilise" => self.tuning.stabilise = get::<Stabilise>(value).into(),
            "train-interval" => self.tuning.train_interval = get(value),
            "kl-weight" => self.tuning.kl_weight = get(value),
            "dropout" => self.tuning.dropout = get(value),
            "threshold-mode" => self.tuning.threshold_mode = get::<ThresholdMode>(value).into(),
            "threshold" => self.tuning.threshold = get(value),
            "sigma" => self.tuning.sigma = get(value),
            "false-alarm-rate" => self.tuning.false_alarm_rate = get(value),
            "window" => self.tuning.window = get(value),
            "drop-normal" => self.drop_normal = get(value),
            "keepalive-interval" => self.keepalive_interval = clock_time(value),
            "gap-events" => self.gap_events = get(value),
            "post-roll" => self.post_roll = clock_time(value),
            "min-anomaly" => self.min_anomaly = clock_time(value),
            "merge-gap" => self.merge_gap = clock_time(value),
            "max-lateness" => self.max_lateness = clock_time(value),
            "post-messages" => self.post_messages = get(value),
            "roi-meta" => self.roi_meta = get(value),
            "attach-map" => self.attach_map = get(value),
            "attach-reconstruction" => self.attach_reconstruction = get(value),
            "model-location" => self.model_location = string(value),
            "save-interval" => self.save_interval = clock_time(value),
            "mask-location" => self.mask_location = string(value),
            "ignore-regions" => self.ignore_regions = string(value),
            _ => unreachable!("no writable property {name}"),
        }
    }

    /// The value of a writable property.
    pub(super) fn get(&self, name: &str) -> glib::Value {
        match name {
            "device" => self.device.to_value(),
            "cues" => self.cues.to_value(),
            "net-arch" => self.net_arch.to_value(),
            "latent-dim" => self.latent_dim.to_value(),
            "model-width" => self.model_width.to_value(),
            "temporal" => self.temporal.to_value(),
            "seed" => self.seed.to_value(),
            "warm-up" => self.warm_up.to_value(),
            "learn" => self.tuning.learn.to_value(),
            "learning-rate" => self.tuning.learning_rate.to_value(),
            "memory" => (self.tuning.memory.as_nanos() as u64).to_value(),
            "absorb-after" => (self.tuning.absorb_after.as_nanos() as u64).to_value(),
            "stabilise" => Stabilise::from(self.tuning.stabilise).to_value(),
            "train-interval" => self.tuning.train_interval.to_value(),
            "kl-weight" => self.tuning.kl_weight.to_value(),
            "dropout" => self.tuning.dropout.to_value(),
            "threshold-mode" => ThresholdMode::from(self.tuning.threshold_mode).to_value(),
            "threshold" => self.tuning.threshold.to_value(),
            "sigma" => self.tuning.sigma.to_value(),
            "false-alarm-rate" => self.tuning.false_alarm_rate.to_value(),
            "window" => self.tuning.window.to_value(),
            "drop-normal" => self.drop_normal.to_value(),
            "keepalive-interval" => self.keepalive_interval.nseconds().to_value(),
            "gap-events" => self.gap_events.to_value(),
            "post-roll" => self.post_roll.nseconds().to_value(),
            "min-anomaly" => self.min_anomaly.nseconds().to_value(),
            "merge-gap" => self.merge_gap.nseconds().to_value(),
            "max-lateness" => self.max_lateness.nseconds().to_value(),
            "post-messages" => self.post_messages.to_value(),
            "roi-meta" => self.roi_meta.to_value(),
            "attach-map" => self.attach_map.to_value(),
            "attach-reconstruction" => self.attach_reconstruction.to_value(),
            "model-location" => self.model_location.to_value(),
            "save-interval" => self.save_interval.nseconds().to_value(),
            "mask-location" => self.mask_location.to_value(),
            "ignore-regions" => self.ignore_regions.to_value(),
            _ => unreachable!("no readable property {name}"),
        }
    }

    /// Specifications of all properties, in the order of the documentation.
    pub(super) fn properties() -> &'static [glib::ParamSpec] {
        static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
            let d = Settings::default();
            [
                model(&d),
                learning(&d),
                threshold(&d),
                dropping(&d),
                model_file(&d),
                ignoring(&d),
                reporting(&d),
            ]
            .concat()
        });
        &PROPERTIES
    }
}

fn model(d: &Settings) -> Vec<glib::ParamSpec> {
    let latent = 1..=Config::MAX_LATENT_DIM as u32;
    let width = *Config::MODEL_WIDTH.start() as u32..=*Config::MODEL_WIDTH.end() as u32;
    vec![
        text(
            "device",
            "Device",
            "Compute device: auto (first CUDA device that is faster than the CPU, else the CPU), cpu, cuda or cuda:N",
            Some(&d.device),
        ),
        glib::ParamSpecFlags::builder::<Cues>("cues")
            .nick("Cues")
            .blurb("Cues to compute, train and fuse, at least one")
            .default_value(d.cues)
            .mutable_ready()
            .build(),
        text(
            "net-arch",
            "Network architecture",
            "Stages of the appearance encoder as a list of (filters, kernel, pooling); the decoder mirrors them",
            Some(&d.net_arch),
        ),
        uint(
            "latent-dim",
            "Latent dimension",
            "Latent size of the appearance model",
            latent,
            d.latent_dim,
            Mutable::Ready,
        ),
        uint(
            "model-width",
            "Model width",
            "Width of the appearance model's input image in pixels; its height follows the aspect ratio",
            width,
            d.model_width,
            Mutable::Ready,
        ),
        glib::ParamSpecEnum::builder_with_default("temporal", d.temporal)
            .nick("Temporal")
            .blurb("Recurrent layer between encoder and latent layers of both models")
            .mutable_ready()
            .build(),
        glib::ParamSpecUInt64::builder("seed")
            .nick("Seed")
            .blurb("Random seed; the same input, seed and device give the same scores")
            .default_value(d.seed)
            .mutable_ready()
            .build(),
        uint(
            "warm-up",
            "Warm-up",
            "Frames before the state 'calibrating' ends (0 = automatic: 8 s)",
            0..=u32::MAX,
            d.warm_up,
            Mutable::Ready,
        ),
    ]
}

fn learning(d: &Settings) -> Vec<glib::ParamSpec> {
    let t = &d.tuning;
    vec![
        boolean(
            "learn",
            "Learn",
            "Learn online (false = weights and statistics stay as they are)",
            t.learn,
        ),
        double(
            "learning-rate",
            "Learning rate",
            "Learning rate of the appearance model after its first 1000 steps; the motion model uses twice as much",
            0.0..=0.1,
            t.learning_rate,
        ),
        time(
            "memory",
            "Memory",
            "How far back replay, background and calibration reach, in ns; at least 1 s",
            to_clock_time(t.memory),
        ),
        time(
            "absorb-after",
            "Absorb after",
            "Time in ns after which a static change counts as normal (0 = never, below 1 s = 1 s)",
            to_clock_time(t.absorb_after),
        ),
        glib::ParamSpecEnum::builder_with_default("stabilise", Stabilise::from(t.stabilise))
            .nick("Stabilise")
            .blurb("Whether frames are aligned with the background while the camera shakes")
            .mutable_playing()
            .build(),
        uint(
            "train-interval",
            "Train interval",
            "Interval between training steps in frames, after the first 1500 steps",
            1..=100_000,
            t.train_interval,
            Mutable::Playing,
        ),
        double(
            "kl-weight",
            "KL weight",
            "Weight of the Kullback-Leibler term in the appearance loss; the motion loss uses 10/3 of it",
            0.0..=1000.0,
            t.kl_weight,
        ),
        double(
            "dropout",
            "Dropout",
            "Fraction of the encoder features zeroed in training (0 = no dropout)",
            0.0..=0.9,
            t.dropout,
        ),
    ]
}

fn threshold(d: &Settings) -> Vec<glib::ParamSpec> {
    let t = &d.tuning;
    vec![
        glib::ParamSpecEnum::builder_with_default("threshold-mode", ThresholdMode::from(t.threshold_mode))
            .nick("Threshold mode")
            .blurb("How the threshold on the raw score is determined")
            .mutable_playing()
            .build(),
        double(
            "threshold",
            "Threshold",
            "How far the score must be above the camera's own history, mode calibrated (1.5 = sensitive, 2.0 = quiet)",
            -100.0..=100.0,
            t.threshold,
        ),
        double(
            "sigma",
            "Sigma",
            "Threshold in standard deviations above the moving average, mode sigma",
            0.0..=1000.0,
            t.sigma,
        ),
        double(
            "false-alarm-rate",
            "False alarm rate",
            "Fraction of normal frames that may be labelled as anomalies, modes evt and quantile",
            1e-6..=0.5,
            t.false_alarm_rate,
        ),
        uint(
            "window",
            "Window",
            "Sliding-window length in frames, modes sigma, evt and quantile",
            10..=100_000,
            t.window,
            Mutable::Playing,
        ),
    ]
}

fn dropping(d: &Settings) -> Vec<glib::ParamSpec> {
    vec![
        boolean(
            "drop-normal",
            "Drop normal frames",
            "Drop frames that belong to no anomaly, in the states 'detecting' and 'frozen'",
            d.drop_normal,
        ),
        time(
            "keepalive-interval",
            "Keep-alive interval",
            "Interval in ns at which one frame is passed on while dropping, for muxers and viewers (0 = never)",
            d.keepalive_interval,
        ),
        boolean(
            "gap-events",
            "GAP events",
            "Send GAP events downstream for dropped frames",
            d.gap_events,
        ),
        time(
            "post-roll",
            "Post-roll",
            "Time in ns for which frames are kept after an anomaly",
            d.post_roll,
        ),
        time(
            "min-anomaly",
            "Minimum anomaly",
            "Minimum duration of an anomaly to be reported as an event, in ns",
            d.min_anomaly,
        ),
        time(
            "merge-gap",
            "Merge gap",
            "Anomalies closer together than this belong to one event, in ns",
            d.merge_gap,
        ),
    ]
}

fn model_file(d: &Settings) -> Vec<glib::ParamSpec> {
    vec![
        text(
            "model-location",
            "Model location",
            "File that the model is loaded from at start and saved to at EOS, at stop and every save-interval \
             (%s = name of the element, %% = %; empty = the model is not kept)",
            Some(&d.model_location),
        ),
        time(
            "save-interval",
            "Save interval",
            "Interval in ns at which the model is saved to model-location (0 = only at EOS and at stop)",
            d.save_interval,
        ),
    ]
}

fn ignoring(d: &Settings) -> Vec<glib::ParamSpec> {
    vec![
        mutable_text(
            "mask-location",
            "Mask location",
            "Grey PNG or PGM image of any size, stretched over the frame: what is black is ignored (empty = none)",
            Some(&d.mask_location),
            Mutable::Playing,
        ),
        mutable_text(
            "ignore-regions",
            "Ignore regions",
            "Polygons to ignore, corners in fractions of width and height: 'x,y x,y x,y; x,y x,y x,y' (empty = none)",
            Some(&d.ignore_regions),
            Mutable::Playing,
        ),
    ]
}

fn reporting(d: &Settings) -> Vec<glib::ParamSpec> {
    vec![
        time(
            "max-lateness",
            "Maximum lateness",
            "Lateness in ns after which load is shed: training stops first, then every other frame is left unscored \
             (0 = disabled)",
            d.max_lateness,
        ),
        glib::ParamSpecEnum::builder_with_default("post-messages", d.post_messages)
            .nick("Post messages")
            .blurb("Which element messages 'vaeanomaly' are posted on the bus")
            .mutable_playing()
            .build(),
        boolean(
            "roi-meta",
            "ROI meta",
            "Attach a GstVideoRegionOfInterestMeta 'anomaly' for each region of frames labelled as anomalies",
            d.roi_meta,
        ),
        boolean(
            "attach-map",
            "Attach map",
            "Attach the score of every cell of a grid over the frame to the metadata, as a grey image",
            d.attach_map,
        ),
        boolean(
            "attach-reconstruction",
            "Attach reconstruction",
            "Attach what the appearance model expected to see to the metadata, as a small RGB image",
            d.attach_reconstruction,
        ),
        glib::ParamSpecEnum::builder::<State>("state")
            .nick("State")
            .blurb("Current life-cycle state")
            .read_only()
            .build(),
        glib::ParamSpecBoxed::builder::<gst::Structure>("stats")
            .nick("Statistics")
            .blurb("Frame and byte counts, losses, and times per stage in ms since start")
            .read_only()
            .build(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_architecture_is_rejected_with_value_and_range() {
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
