//! The properties: their specifications, and how they are read from and written to [`Settings`].

use std::ops::RangeInclusive;
use std::sync::LazyLock;

use gst::glib;
use gst::prelude::*;

use super::settings::Settings;
use super::{Cues, State};
use crate::detector::Config;

/// All properties, in the order of the contract.
pub(super) static SPECS: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
    let d = Settings::default();
    [
        model(&d),
        learning(&d),
        threshold(&d),
        dropping(&d),
        reporting(&d),
    ]
    .concat()
});

/// When a property may be written.
#[derive(Clone, Copy)]
enum Mutable {
    Ready,
    Playing,
}

fn uint(
    name: &str,
    nick: &str,
    blurb: &str,
    range: RangeInclusive<u32>,
    default: u32,
    when: Mutable,
) -> glib::ParamSpec {
    let builder = glib::ParamSpecUInt::builder(name)
        .nick(nick)
        .blurb(blurb)
        .minimum(*range.start())
        .maximum(*range.end())
        .default_value(default);
    match when {
        Mutable::Ready => builder.mutable_ready().build(),
        Mutable::Playing => builder.mutable_playing().build(),
    }
}

fn double(name: &str, nick: &str, blurb: &str, range: RangeInclusive<f64>, default: f64) -> glib::ParamSpec {
    glib::ParamSpecDouble::builder(name)
        .nick(nick)
        .blurb(blurb)
        .minimum(*range.start())
        .maximum(*range.end())
        .default_value(default)
        .mutable_playing()
        .build()
}

/// A length of time in nanoseconds.
fn time(name: &str, nick: &str, blurb: &str, default: gst::ClockTime) -> glib::ParamSpec {
    glib::ParamSpecUInt64::builder(name)
        .nick(nick)
        .blurb(blurb)
        .maximum(u64::MAX - 1)
        .default_value(default.nseconds())
        .mutable_playing()
        .build()
}

fn boolean(name: &str, nick: &str, blurb: &str, default: bool) -> glib::ParamSpec {
    glib::ParamSpecBoolean::builder(name)
        .nick(nick)
        .blurb(blurb)
        .default_value(default)
        .mutable_playing()
        .build()
}

fn text(name: &str, nick: &str, blurb: &str, default: &str) -> glib::ParamSpec {
    glib::ParamSpecString::builder(name)
        .nick(nick)
        .blurb(blurb)
        .default_value(default)
        .mutable_ready()
        .build()
}

fn model(d: &Settings) -> Vec<glib::ParamSpec> {
    let latent = 1..=Config::MAX_LATENT_DIM as u32;
    let width = *Config::MODEL_WIDTH.start() as u32..=*Config::MODEL_WIDTH.end() as u32;
    vec![
        text(
            "device",
            "Device",
            "Where to compute: auto (the first usable CUDA device, else the CPU), cpu, cuda or cuda:N; a device that \
             is not there is an error, never a silent fallback",
            &d.device,
        ),
        glib::ParamSpecFlags::builder::<Cues>("cues")
            .nick("Cues")
            .blurb("Which cues are computed, trained and fused, at least one")
            .default_value(d.cues())
            .mutable_ready()
            .build(),
        text(
            "net-arch",
            "Network architecture",
            "The appearance encoder as 1 to 6 stages of (filters 1-256, kernel 1, 3, 5 or 7, pooling 1-4); the \
             decoder mirrors it; the poolings must divide model-width",
            &d.net_arch,
        ),
        uint(
            "latent-dim",
            "Latent dimension",
            "Latent size of the appearance net",
            latent,
            d.latent_dim,
            Mutable::Ready,
        ),
        uint(
            "model-width",
            "Model width",
            "Width of the appearance picture in pixels; its height follows the aspect",
            width,
            d.model_width,
            Mutable::Ready,
        ),
        glib::ParamSpecUInt64::builder("seed")
            .nick("Seed")
            .blurb("Same input, seed and device: same scores")
            .default_value(d.seed)
            .mutable_ready()
            .build(),
        uint(
            "warm-up",
            "Warm-up",
            "Frames before the state 'calibrating' ends (0 = as long as the statistics need: 8 s for motion, 200 \
             training steps for appearance)",
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
            "Train online; false freezes weights and statistics",
            t.learn,
        ),
        double(
            "learning-rate",
            "Learning rate",
            "Step size of the appearance net after its first 1000 steps, which are twice as large; the motion net \
             takes 2 times this (6 in its first 20 s); smaller = less weight on the most recent frames",
            0.0..=0.1,
            t.learning_rate,
        ),
        uint(
            "train-interval",
            "Train interval",
            "Frames from one training step to the next, once 1500 steps were made; until then ten steps a second, or \
             every frame where frames are rarer",
            1..=100_000,
            t.train_interval,
            Mutable::Playing,
        ),
        double(
            "kl-weight",
            "KL weight",
            "Weight of the Kullback-Leibler term in the appearance loss; the motion loss takes 10/3 of it",
            0.0..=1000.0,
            t.kl_weight,
        ),
        double(
            "dropout",
            "Dropout",
            "Share of the encoders' features zeroed in training",
            0.0..=0.9,
            t.dropout,
        ),
    ]
}

fn threshold(d: &Settings) -> Vec<glib::ParamSpec> {
    let t = &d.tuning;
    vec![
        glib::ParamSpecEnum::builder_with_default("threshold-mode", d.threshold_mode)
            .nick("Threshold mode")
            .blurb("How the threshold on the raw score is found")
            .mutable_playing()
            .build(),
        double(
            "threshold",
            "Threshold",
            "Mode calibrated: how many deviations of its own history make an anomaly (1.6 = sensitive, 2.0 = quiet)",
            -100.0..=100.0,
            t.threshold,
        ),
        double(
            "sigma",
            "Sigma",
            "Mode sigma: deviations above the moving average",
            0.0..=1000.0,
            t.sigma,
        ),
        double(
            "false-alarm-rate",
            "False alarm rate",
            "Modes evt and quantile: share of normal frames that may be flagged",
            1e-6..=0.5,
            t.false_alarm_rate,
        ),
        uint(
            "window",
            "Window",
            "Modes sigma, evt and quantile: frames that the statistics reach back",
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
            "Drop frames that belong to no anomaly; nothing is dropped while warming up, calibrating or adapting",
            d.drop_normal,
        ),
        time(
            "keepalive-interval",
            "Keep-alive interval",
            "While dropping, let a frame through this often, in ns (0 = never); keeps muxers and viewers alive",
            d.keepalive_interval,
        ),
        boolean(
            "gap-events",
            "GAP events",
            "Announce dropped time downstream with GAP events",
            d.gap_events,
        ),
        time(
            "post-roll",
            "Post-roll",
            "How long frames are kept after an anomaly, in ns",
            d.post_roll,
        ),
        time(
            "min-anomaly",
            "Minimum anomaly",
            "Shorter anomalies open no event, in ns",
            d.min_anomaly,
        ),
        time(
            "merge-gap",
            "Merge gap",
            "Anomalies closer together than this are one event, in ns",
            d.merge_gap,
        ),
    ]
}

fn reporting(d: &Settings) -> Vec<glib::ParamSpec> {
    vec![
        time(
            "max-lateness",
            "Maximum lateness",
            "When frames of a live source (or, by the reports of a sink that keeps time, of any other) keep coming \
             later than this, in ns, training stops, and if that is not enough every other frame passes unscored, \
             until they are on time again (0 = whatever happens, all is done)",
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
            "Add a GstVideoRegionOfInterestMeta 'anomaly' to frames labelled as anomalies",
            d.roi_meta,
        ),
        glib::ParamSpecEnum::builder::<State>("state")
            .nick("State")
            .blurb("Where the element is in its life")
            .read_only()
            .build(),
        glib::ParamSpecBoxed::builder::<gst::Structure>("stats")
            .nick("Statistics")
            .blurb("Counts, losses and milliseconds per stage since the start")
            .read_only()
            .build(),
    ]
}

impl Settings {
    fn cues(&self) -> Cues {
        let mut cues = Cues::empty();
        cues.set(Cues::APPEARANCE, self.appearance);
        cues.set(Cues::MOTION, self.motion);
        cues
    }

    /// Takes a property's value; GLib has checked type and range.
    pub(super) fn set(&mut self, name: &str, value: &glib::Value) {
        match name {
            "device" => self.device = string(value),
            "cues" => {
                let cues = get::<Cues>(value);
                (self.appearance, self.motion) =
                    (cues.contains(Cues::APPEARANCE), cues.contains(Cues::MOTION));
            }
            "net-arch" => self.net_arch = string(value),
            "latent-dim" => self.latent_dim = get(value),
            "model-width" => self.model_width = get(value),
            "seed" => self.seed = get(value),
            "warm-up" => self.warm_up = get(value),
            "learn" => self.tuning.learn = get(value),
            "learning-rate" => self.tuning.learning_rate = get(value),
            "train-interval" => self.tuning.train_interval = get(value),
            "kl-weight" => self.tuning.kl_weight = get(value),
            "dropout" => self.tuning.dropout = get(value),
            "threshold-mode" => self.threshold_mode = get(value),
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
            _ => unreachable!("no writable property {name}"),
        }
    }

    /// The value of a writable property.
    pub(super) fn get(&self, name: &str) -> glib::Value {
        match name {
            "device" => self.device.to_value(),
            "cues" => self.cues().to_value(),
            "net-arch" => self.net_arch.to_value(),
            "latent-dim" => self.latent_dim.to_value(),
            "model-width" => self.model_width.to_value(),
            "seed" => self.seed.to_value(),
            "warm-up" => self.warm_up.to_value(),
            "learn" => self.tuning.learn.to_value(),
            "learning-rate" => self.tuning.learning_rate.to_value(),
            "train-interval" => self.tuning.train_interval.to_value(),
            "kl-weight" => self.tuning.kl_weight.to_value(),
            "dropout" => self.tuning.dropout.to_value(),
            "threshold-mode" => self.threshold_mode.to_value(),
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
            _ => unreachable!("no settable property {name}"),
        }
    }
}

fn get<T: for<'v> glib::value::FromValue<'v> + 'static>(value: &glib::Value) -> T {
    value.get().expect("GLib checks the type")
}

fn string(value: &glib::Value) -> String {
    get::<Option<String>>(value).unwrap_or_default()
}

fn clock_time(value: &glib::Value) -> gst::ClockTime {
    gst::ClockTime::from_nseconds(get(value))
}
