//! The element's implementation: a bin around `overlaycomposition`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{LazyLock, Mutex};

use gst::glib;
use gst::prelude::*;
use gst::subclass::prelude::*;

use super::Show;
use super::draw::{History, Layer, layers};
use crate::gstutil::{clock_time, get, lock, time};
use crate::vaeanomaly::FrameResult;

static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new(
        "vaeanomalyoverlay",
        gst::DebugColorFlags::empty(),
        Some("Overlay of video anomalies"),
    )
});

/// The element that negotiates, attaches and blends.
const COMPOSITOR: &str = "overlaycomposition";

/// Pixels of an overlay in memory: ARGB in the machine's byte order.
const FORMAT: gst_video::VideoFormat = if cfg!(target_endian = "little") {
    gst_video::VideoFormat::Bgra
} else {
    gst_video::VideoFormat::Argb
};

#[derive(Clone, Copy, Debug)]
struct Settings {
    show: Show,
    strip_duration: gst::ClockTime,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            show: Show::BOXES | Show::MAP | Show::STRIP | Show::STATE | Show::IGNORED,
            strip_duration: gst::ClockTime::from_seconds(10),
        }
    }
}

/// The element's private part.
#[derive(Default)]
pub struct VaeAnomalyOverlay {
    settings: Mutex<Settings>,
    history: Mutex<History>,
}

#[glib::object_subclass]
impl ObjectSubclass for VaeAnomalyOverlay {
    const NAME: &'static str = "GstVaeAnomalyOverlay";
    type Type = super::VaeAnomalyOverlay;
    type ParentType = gst::Bin;
}

impl ObjectImpl for VaeAnomalyOverlay {
    fn properties() -> &'static [glib::ParamSpec] {
        static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
            let d = Settings::default();
            vec![
                glib::ParamSpecFlags::builder::<Show>("show")
                    .nick("Show")
                    .blurb("What is drawn over the frames")
                    .default_value(d.show)
                    .mutable_playing()
                    .build(),
                time(
                    "strip-duration",
                    "Strip duration",
                    "Time in ns that the strip of the last scores covers; at least 1 s",
                    d.strip_duration,
                ),
            ]
        });
        &PROPERTIES
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        let mut settings = lock(&self.settings);
        match pspec.name() {
            "show" => settings.show = get(value),
            "strip-duration" => settings.strip_duration = clock_time(value).max(gst::ClockTime::SECOND),
            name => unreachable!("no writable property {name}"),
        }
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        let settings = *lock(&self.settings);
        match pspec.name() {
            "show" => settings.show.to_value(),
            "strip-duration" => settings.strip_duration.nseconds().to_value(),
            name => unreachable!("no readable property {name}"),
        }
    }

    fn constructed(&self) {
        self.parent_constructed();
        let obj = self.obj();
        let compositor = match gst::ElementFactory::make(COMPOSITOR).build() {
            Ok(compositor) => compositor,
            Err(e) => return gst::error!(CAT, imp = self, "no element {COMPOSITOR}: {e}"),
        };
        if let Err(e) = obj.add(&compositor) {
            return gst::error!(CAT, imp = self, "{e}");
        }
        for template in Self::pad_templates() {
            let target = compositor.static_pad(template.name_template());
            let pad =
                target.and_then(|target| gst::GhostPad::from_template_with_target(template, &target).ok());
            if let Some(Err(e)) = pad.map(|pad| obj.add_pad(&pad)) {
                gst::error!(CAT, imp = self, "{e}");
            }
        }
        let overlay = obj.downgrade();
        compositor.connect("draw", false, move |values| {
            let sample = values.get(1).and_then(|value| value.get::<gst::Sample>().ok());
            let composition = overlay.upgrade().zip(sample).and_then(|(overlay, sample)| {
                let overlay = overlay.imp();
                // The caller is C.
                let drawn = catch_unwind(AssertUnwindSafe(|| overlay.draw(&sample)));
                drawn.unwrap_or_else(|_| {
                    gst::error!(CAT, imp = overlay, "a panic while drawing");
                    None
                })
            });
            Some(composition.to_value())
        });
    }
}

impl GstObjectImpl for VaeAnomalyOverlay {}

impl ElementImpl for VaeAnomalyOverlay {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "Overlay of video anomalies",
                "Filter/Editor/Video",
                "Draws what vaeanomaly found: boxes, heat map, last scores, state, reconstruction",
                "The vaeanomaly authors",
            )
        });
        Some(&METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
            // Video in any memory: outside the system's, only where downstream takes the drawing as metadata.
            let mut caps = gst_video::VideoCapsBuilder::new().build();
            caps.merge(gst_video::VideoCapsBuilder::new().any_features().build());
            [("sink", gst::PadDirection::Sink), ("src", gst::PadDirection::Src)]
                .into_iter()
                .filter_map(|(name, direction)| {
                    gst::PadTemplate::new(name, direction, gst::PadPresence::Always, &caps).ok()
                })
                .collect()
        });
        &TEMPLATES
    }

    fn change_state(
        &self,
        transition: gst::StateChange,
    ) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
        if transition == gst::StateChange::NullToReady && self.obj().static_pad("src").is_none() {
            gst::element_imp_error!(
                self,
                gst::CoreError::MissingPlugin,
                ["The element {COMPOSITOR} is missing; it belongs to gst-plugins-base"]
            );
            return Err(gst::StateChangeError);
        }
        let changed = self.parent_change_state(transition)?;
        if transition == gst::StateChange::PausedToReady {
            lock(&self.history).clear();
        }
        Ok(changed)
    }
}

impl BinImpl for VaeAnomalyOverlay {}

impl VaeAnomalyOverlay {
    /// What is drawn over a frame; `None` for nothing.
    fn draw(&self, sample: &gst::Sample) -> Option<gst_video::VideoOverlayComposition> {
        let Settings { show, strip_duration } = *lock(&self.settings);
        if show.is_empty() {
            return None;
        }
        let buffer = sample.buffer()?;
        let result = FrameResult::read(buffer)?;
        let size = gst_video::VideoInfo::from_caps(sample.caps()?).ok()?;
        let length = strip_duration.seconds_f64();
        let mut history = lock(&self.history);
        // Without times, ten frames a second.
        let time = buffer
            .pts()
            .map_or(result.prediction.frame as f64 / 10.0, |pts| pts.seconds_f64());
        history.add(time, result.prediction.score, length);
        let layers = layers(&result, &history, (size.width(), size.height()), show, length);
        drop(history);
        let rectangles: Vec<_> = layers.iter().filter_map(|layer| self.rectangle(layer)).collect();
        gst_video::VideoOverlayComposition::new(&rectangles).ok()
    }

    fn rectangle(&self, layer: &Layer) -> Option<gst_video::VideoOverlayRectangle> {
        let (width, height) = (layer.width, layer.height);
        let argb = |rgba: &[u8]| u32::from_be_bytes([rgba[3], rgba[0], rgba[1], rgba[2]]).to_ne_bytes();
        let bytes: Vec<u8> = layer.rgba.chunks_exact(4).flat_map(argb).collect();
        let mut buffer = gst::Buffer::from_mut_slice(bytes);
        let flags = gst_video::VideoFrameFlags::empty();
        let meta = gst_video::VideoMeta::add(buffer.get_mut()?, flags, FORMAT, width, height);
        if let Err(e) = meta {
            gst::error!(CAT, imp = self, "{e}");
            return None;
        }
        let target = layer.target;
        Some(gst_video::VideoOverlayRectangle::new_raw(
            &buffer,
            target.x as i32,
            target.y as i32,
            target.width,
            target.height,
            gst_video::VideoOverlayFormatFlags::empty(),
        ))
    }
}
