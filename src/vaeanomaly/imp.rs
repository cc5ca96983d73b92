//! The subclass: life cycle, negotiation and the way of a buffer.

use std::sync::{LazyLock, Mutex};

use gst::glib;
use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_base::prelude::*;
use gst_base::subclass::base_transform::BaseTransformMode;
use gst_base::subclass::prelude::*;

use super::lateness::Lateness;
use super::message::{Context, EVENT_NAME, MESSAGE_NAME};
use super::session::{Notice, Outcome, Session, Times};
use super::settings::Settings;
use super::stats::Stats;
use super::{PostMessages, State, lock, meta, picture, properties};
use crate::detector::ComputeDevice;
use crate::gate::{Tally, Verdict};

static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new(
        "vaeanomaly",
        gst::DebugColorFlags::empty(),
        Some("Online video anomaly detection"),
    )
});

/// What runs while the element is started. The session is taken out while it works, so that no lock is held
/// across training; only the streaming thread takes it.
#[derive(Default)]
pub struct VaeAnomaly {
    settings: Mutex<Settings>,
    /// Readied at the start, for the session that the first caps make.
    device: Mutex<Option<ComputeDevice>>,
    session: Mutex<Option<Session>>,
    stats: Mutex<Stats>,
    lateness: Lateness,
    /// Whether the application was told that frames cannot be scored.
    warned: std::sync::atomic::AtomicBool,
}

#[glib::object_subclass]
impl ObjectSubclass for VaeAnomaly {
    const NAME: &'static str = "GstVaeAnomaly";
    type Type = super::VaeAnomaly;
    type ParentType = gst_base::BaseTransform;
}

impl ObjectImpl for VaeAnomaly {
    fn properties() -> &'static [glib::ParamSpec] {
        &properties::SPECS
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        lock(&self.settings).set(pspec.name(), value);
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        match pspec.name() {
            "state" => lock(&self.stats).state.to_value(),
            "stats" => lock(&self.stats).structure().to_value(),
            name => lock(&self.settings).get(name),
        }
    }
}

impl GstObjectImpl for VaeAnomaly {}

impl ElementImpl for VaeAnomaly {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "Online video anomaly detector",
                "Filter/Analyzer/Video",
                "Learns what is normal for a fixed camera with convolutional variational autoencoders while the video \
                 plays, scores every frame before it learns from it, and can drop the normal ones",
                "The vaeanomaly authors",
            )
        });
        Some(&METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
            let caps = picture::caps();
            [("sink", gst::PadDirection::Sink), ("src", gst::PadDirection::Src)]
                .into_iter()
                .filter_map(|(name, direction)| {
                    gst::PadTemplate::new(name, direction, gst::PadPresence::Always, &caps).ok()
                })
                .collect()
        });
        &TEMPLATES
    }
}

impl BaseTransformImpl for VaeAnomaly {
    const MODE: BaseTransformMode = BaseTransformMode::AlwaysInPlace;
    const PASSTHROUGH_ON_SAME_CAPS: bool = false;
    const TRANSFORM_IP_ON_PASSTHROUGH: bool = false;

    fn start(&self) -> Result<(), gst::ErrorMessage> {
        let settings = lock(&self.settings).clone();
        settings
            .config()
            .map_err(|e| gst::error_msg!(gst::LibraryError::Settings, ("{e}")))?;
        let device = settings
            .open_device()
            .map_err(|e| gst::error_msg!(gst::ResourceError::NotFound, ("{e}")))?;
        match device.note() {
            Some(note) => gst::info!(CAT, imp = self, "device {}: {note}", settings.device),
            None => gst::info!(CAT, imp = self, "computing on {}", device.name()),
        }
        *lock(&self.stats) = Stats::on(device.name());
        *lock(&self.device) = Some(device);
        self.lateness.reset();
        self.warned.store(false, std::sync::atomic::Ordering::Relaxed);
        Ok(())
    }

    fn stop(&self) -> Result<(), gst::ErrorMessage> {
        *lock(&self.session) = None;
        *lock(&self.device) = None;
        Ok(())
    }

    fn set_caps(&self, incaps: &gst::Caps, _outcaps: &gst::Caps) -> Result<(), gst::LoggableError> {
        let info = gst_video::VideoInfo::from_caps(incaps)
            .map_err(|e| gst::loggable_error!(CAT, "caps {incaps} are no raw video: {e}"))?;
        let settings = lock(&self.settings).clone();
        let session = lock(&self.session).take();
        let session = match session {
            Some(mut session) => session.renegotiate(info).map(|()| session),
            None => {
                let device = lock(&self.device).clone().unwrap_or_else(ComputeDevice::cpu);
                Session::new(&settings, device, info)
            }
        };
        let session = session.map_err(|e| gst::loggable_error!(CAT, "{e}"))?;
        gst::debug!(CAT, imp = self, "learning {:?}", session.info());
        *lock(&self.session) = Some(session);
        Ok(())
    }

    fn sink_event(&self, event: gst::Event) -> bool {
        match event.view() {
            gst::EventView::Eos(_) => self.finish(),
            gst::EventView::Segment(_) => self.lateness.reset(),
            gst::EventView::FlushStop(_) => {
                self.finish();
                if let Some(session) = lock(&self.session).as_mut() {
                    session.restart();
                }
            }
            _ => {}
        }
        self.parent_sink_event(event)
    }

    fn src_event(&self, event: gst::Event) -> bool {
        match event.view() {
            gst::EventView::Qos(qos) => self.lateness.report(qos),
            gst::EventView::Latency(_) => self.lateness.reset(),
            _ => {}
        }
        self.parent_src_event(event)
    }

    fn transform_ip(&self, buffer: &mut gst::BufferRef) -> Result<gst::FlowSuccess, gst::FlowError> {
        let settings = lock(&self.settings).clone();
        let mut session = lock(&self.session).take().ok_or(gst::FlowError::NotNegotiated)?;
        let segment = self.time_segment();
        let times = session.times(buffer, &segment);
        let lateness = match settings.max_lateness.is_zero() {
            true => None,
            false => self.lateness.measure(&*self.obj(), times.running_time()),
        };
        let outcome = session.process(buffer, times, lateness, &settings);
        let verdict = match &outcome {
            Ok(outcome) => outcome.verdict,
            Err(_) => session.pass_unscored(times, &settings),
        };
        *lock(&self.session) = Some(session);

        match outcome {
            Ok(outcome) => self.tell(buffer, &outcome, &segment, times, &settings),
            Err(reason) => self.tell_unscored(&reason),
        }
        let size = buffer.size() as u64;
        lock(&self.stats).tally.count(size, verdict.keeps());
        self.let_through(verdict, times, &segment, &settings)
    }
}

impl VaeAnomaly {
    /// The stream's segment; streams in other formats have no times.
    fn time_segment(&self) -> gst::FormattedSegment<gst::ClockTime> {
        self.obj()
            .segment()
            .downcast::<gst::ClockTime>()
            .unwrap_or_default()
    }

    /// Attaches the metadata, counts, posts and pushes; no lock is held across the latter.
    fn tell(
        &self,
        buffer: &mut gst::BufferRef,
        outcome: &Outcome,
        segment: &gst::FormattedSegment<gst::ClockTime>,
        times: Times,
        settings: &Settings,
    ) {
        let Outcome { result, notices, .. } = outcome;
        gst::log!(CAT, imp = self, "{result:?}");
        if let Some(reason) = &outcome.report.device_failure {
            self.tell_device_failure(reason);
        }
        if let Err(e) = result.write(buffer) {
            gst::error!(CAT, imp = self, "cannot attach metadata: {e}");
        }
        let anomalous = result.label == Some(crate::detector::Label::Anomaly);
        if anomalous && settings.roi_meta {
            meta::add_region_of_interest(buffer, result);
        }
        let tally = {
            let mut stats = lock(&self.stats);
            stats.count(outcome);
            notices.iter().for_each(|n| stats.count_notice(n));
            stats.tally
        };
        let context = Context {
            segment,
            times,
            result: Some(result),
            tally,
        };
        for notice in notices {
            self.announce(notice, &context, settings);
        }
    }

    fn announce(&self, notice: &Notice, context: &Context<'_>, settings: &Settings) {
        let wanted = match notice {
            Notice::Frame => settings.post_messages == PostMessages::All,
            _ => settings.post_messages != PostMessages::None,
        };
        if wanted {
            let structure = notice.structure(MESSAGE_NAME, context);
            gst::debug!(CAT, imp = self, "{structure}");
            let message = gst::message::Element::builder(structure)
                .src(&*self.obj())
                .build();
            let _ = self.obj().post_message(message);
        }
        if let Notice::EffortChanged { from, pace } = notice {
            let (from, to) = (from.as_str(), pace.effort.as_str());
            gst::debug!(
                CAT,
                imp = self,
                "effort {to} after {from}, lateness {:?}",
                pace.lateness
            );
        }
        if notice.goes_downstream() {
            let mut structure = notice.structure(EVENT_NAME, context);
            // So late begins are told at most: a gate holds frames back for that much longer.
            structure.set("min-anomaly", settings.min_anomaly);
            self.obj()
                .src_pad()
                .push_event(gst::event::CustomDownstream::new(structure));
        }
        if matches!(notice, Notice::StateChanged { .. }) {
            self.obj().notify("state");
        }
    }

    /// The GPU failed; not a frame is lost.
    fn tell_device_failure(&self, reason: &str) {
        let was = lock(&self.stats).device.replace("cpu".to_owned());
        *lock(&self.device) = Some(ComputeDevice::cpu());
        gst::element_imp_warning!(
            self,
            gst::ResourceError::Failed,
            [
                "{} failed, the model has moved to the CPU and goes on: {reason}",
                was.unwrap_or_default()
            ]
        );
    }

    /// A frame that cannot be scored goes on; the application is told once.
    fn tell_unscored(&self, reason: &str) {
        lock(&self.stats).count_unscored();
        gst::warning!(CAT, imp = self, "frame not scored: {reason}");
        if !self.warned.swap(true, std::sync::atomic::Ordering::Relaxed) {
            gst::element_imp_warning!(self, gst::StreamError::Failed, ["Frames pass unscored: {reason}"]);
        }
    }

    /// Passes or drops the frame; before the first frame of a clip a key frame is asked for.
    fn let_through(
        &self,
        verdict: Verdict,
        times: Times,
        segment: &gst::FormattedSegment<gst::ClockTime>,
        settings: &Settings,
    ) -> Result<gst::FlowSuccess, gst::FlowError> {
        let obj = self.obj();
        let src = obj.src_pad();
        match verdict {
            Verdict::Keep { resumes, .. } => {
                if resumes {
                    let event = gst_video::DownstreamForceKeyUnitEvent::builder()
                        .timestamp(times.position)
                        .stream_time(segment.to_stream_time(times.position))
                        .running_time(times.running_time())
                        .all_headers(true)
                        .build();
                    src.push_event(event);
                }
                Ok(gst::FlowSuccess::Ok)
            }
            Verdict::Drop => {
                if let Some(start) = times.position.filter(|_| settings.gap_events) {
                    src.push_event(gst::event::Gap::builder(start).duration(times.duration).build());
                }
                Ok(gst_base::BASE_TRANSFORM_FLOW_DROPPED)
            }
        }
    }

    /// Ends an open event at the end of the stream.
    fn finish(&self) {
        let notice = lock(&self.session).as_mut().and_then(Session::finish);
        let Some(notice) = notice else { return };
        let settings = lock(&self.settings).clone();
        let (tally, state): (Tally, State) = {
            let stats = lock(&self.stats);
            (stats.tally, stats.state)
        };
        gst::debug!(CAT, imp = self, "stream ends in state {state:?}");
        let segment = self.time_segment();
        self.announce(
            &notice,
            &Context {
                segment: &segment,
                times: Times::default(),
                result: None,
                tally,
            },
            &settings,
        );
    }
}

#[cfg(test)]
#[path = "failure_tests.rs"]
mod failure_tests;
