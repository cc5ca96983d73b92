//! The element's implementation: life cycle, negotiation and data flow.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{LazyLock, Mutex};

use gst::glib;
use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_base::prelude::*;
use gst_base::subclass::base_transform::BaseTransformMode;
use gst_base::subclass::prelude::*;

use super::lateness::LatenessMeter;
use super::message::{Context, EVENT_NAME, MESSAGE_NAME, Notification};
use super::settings::Settings;
use super::state::{Outcome, StreamState, Times};
use super::stats::Stats;
use super::{PostMessages, State, meta, view};
use crate::detector::{ComputeDevice, Label};
use crate::events::Decision;
use crate::gstutil::lock;

static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new(
        "vaeanomaly",
        gst::DebugColorFlags::empty(),
        Some("Online video anomaly detector"),
    )
});

/// The element's private part.
#[derive(Default)]
pub struct VaeAnomaly {
    settings: Mutex<Settings>,
    /// Opened at start, for the state that the first caps create.
    device: Mutex<Option<ComputeDevice>>,
    /// `None` without caps, and while the streaming thread works with it: no lock is held during training.
    state: Mutex<Option<StreamState>>,
    stats: Mutex<Stats>,
    lateness: LatenessMeter,
    /// Whether a warning about unscored frames was posted since start.
    warned: AtomicBool,
}

#[glib::object_subclass]
impl ObjectSubclass for VaeAnomaly {
    const NAME: &'static str = "GstVaeAnomaly";
    type Type = super::VaeAnomaly;
    type ParentType = gst_base::BaseTransform;
}

impl ObjectImpl for VaeAnomaly {
    fn properties() -> &'static [glib::ParamSpec] {
        Settings::properties()
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        lock(&self.settings).set(pspec.name(), value);
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        match pspec.name() {
            "state" => State::from(lock(&self.stats).state).to_value(),
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
                "Scores every frame of a fixed camera for anomalies with variational autoencoders that it trains online",
                "The vaeanomaly authors",
            )
        });
        Some(&METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
            let caps = view::caps();
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
        self.lateness.set_latency(gst::ClockTime::ZERO);
        self.warned.store(false, Ordering::Relaxed);
        Ok(())
    }

    fn stop(&self) -> Result<(), gst::ErrorMessage> {
        *lock(&self.state) = None;
        *lock(&self.device) = None;
        Ok(())
    }

    fn set_caps(&self, incaps: &gst::Caps, _outcaps: &gst::Caps) -> Result<(), gst::LoggableError> {
        let info = gst_video::VideoInfo::from_caps(incaps)
            .map_err(|e| gst::loggable_error!(CAT, "caps {incaps} are not raw video: {e}"))?;
        let settings = lock(&self.settings).clone();
        let state = lock(&self.state).take();
        let state = match state {
            Some(mut state) => state.renegotiate(info).map(|()| state),
            None => {
                let device = lock(&self.device).clone().unwrap_or_else(ComputeDevice::cpu);
                StreamState::new(&settings, device, info)
            }
        };
        let state = state.map_err(|e| gst::loggable_error!(CAT, "{e}"))?;
        gst::debug!(CAT, imp = self, "negotiated {:?}", state.info());
        *lock(&self.state) = Some(state);
        Ok(())
    }

    fn sink_event(&self, event: gst::Event) -> bool {
        match event.view() {
            gst::EventView::Eos(_) => self.finish(),
            gst::EventView::Segment(_) => self.lateness.reset(),
            gst::EventView::Gap(gap) => {
                if let Some(state) = lock(&self.state).as_mut() {
                    state.skip(gap);
                }
            }
            gst::EventView::FlushStop(_) => {
                self.finish();
                if let Some(state) = lock(&self.state).as_mut() {
                    state.restart();
                }
            }
            _ => {}
        }
        self.parent_sink_event(event)
    }

    fn src_event(&self, event: gst::Event) -> bool {
        match event.view() {
            gst::EventView::Qos(qos) => self.lateness.add_qos(qos),
            gst::EventView::Latency(event) => self.lateness.set_latency(event.latency()),
            _ => {}
        }
        self.parent_src_event(event)
    }

    fn transform_ip(&self, buffer: &mut gst::BufferRef) -> Result<gst::FlowSuccess, gst::FlowError> {
        let settings = lock(&self.settings).clone();
        let mut state = lock(&self.state).take().ok_or(gst::FlowError::NotNegotiated)?;
        let segment = self.time_segment();
        let times = state.times(buffer, &segment);
        let lateness = if settings.max_lateness.is_zero() {
            None
        } else {
            self.lateness.measure(&*self.obj(), times.running_time())
        };
        let outcome = state.process(buffer, times, lateness, &settings);
        let decision = match &outcome {
            Ok(outcome) => outcome.decision,
            Err(_) => state.decide_unscored(times, &settings),
        };
        *lock(&self.state) = Some(state);

        match outcome {
            Ok(outcome) => self.publish(buffer, &outcome, &segment, times, &settings),
            Err(reason) => self.report_unscored(&reason),
        }
        let size = buffer.size() as u64;
        lock(&self.stats).tally.count(size, decision.keeps());
        self.forward_or_drop(decision, times, &segment, &settings)
    }
}

impl VaeAnomaly {
    /// The stream's segment; other formats than TIME have no running time.
    fn time_segment(&self) -> gst::FormattedSegment<gst::ClockTime> {
        self.obj()
            .segment()
            .downcast::<gst::ClockTime>()
            .unwrap_or_default()
    }

    /// Attaches the metadata, updates the statistics, then posts and pushes without a lock.
    fn publish(
        &self,
        buffer: &mut gst::BufferRef,
        outcome: &Outcome,
        segment: &gst::FormattedSegment<gst::ClockTime>,
        times: Times,
        settings: &Settings,
    ) {
        let Outcome {
            result,
            notifications,
            ..
        } = outcome;
        gst::log!(CAT, imp = self, "{result:?}");
        if let Some(reason) = &outcome.report.device_failure {
            self.report_device_failure(reason);
        }
        if let Err(e) = result.write(buffer) {
            gst::error!(CAT, imp = self, "cannot attach metadata: {e}");
        }
        if settings.roi_meta && result.prediction.label == Some(Label::Anomaly) {
            meta::add_region_of_interest(buffer, result);
        }
        let tally = {
            let mut stats = lock(&self.stats);
            stats.add(outcome);
            notifications.iter().for_each(|n| stats.add_notification(n));
            stats.tally
        };
        let context = Context {
            segment,
            times,
            result: Some(result),
            tally,
        };
        for notification in notifications {
            self.report(notification, &context, settings);
        }
    }

    /// Posts a message, pushes an event, and notifies of properties, as the notification requires.
    fn report(&self, notification: &Notification, context: &Context<'_>, settings: &Settings) {
        let wanted = match notification {
            Notification::Frame => settings.post_messages == PostMessages::All,
            _ => settings.post_messages != PostMessages::None,
        };
        if wanted {
            let structure = notification.structure(MESSAGE_NAME, context);
            gst::debug!(CAT, imp = self, "{structure}");
            let message = gst::message::Element::builder(structure)
                .src(&*self.obj())
                .build();
            if self.obj().post_message(message).is_err() {
                gst::debug!(CAT, imp = self, "Could not post message: no bus");
            }
        }
        if let Notification::LoadChanged { from, load } = notification {
            gst::debug!(
                CAT,
                imp = self,
                "load level {} after {}, lateness {:?}",
                load.level.as_str(),
                from.as_str(),
                load.lateness
            );
        }
        if notification.goes_downstream() {
            let mut structure = notification.structure(EVENT_NAME, context);
            // A begin is reported at most this long after its start: a gate holds frames back for that much longer.
            structure.set("min-anomaly", settings.min_anomaly);
            self.obj()
                .src_pad()
                .push_event(gst::event::CustomDownstream::new(structure));
        }
        if matches!(notification, Notification::StateChanged { .. }) {
            self.obj().notify("state");
        }
    }

    /// The GPU failed; the detector continues on the CPU and no frame is lost.
    fn report_device_failure(&self, reason: &str) {
        let failed = lock(&self.stats).device.replace("cpu".to_owned());
        *lock(&self.device) = Some(ComputeDevice::cpu());
        gst::element_imp_warning!(
            self,
            gst::ResourceError::Failed,
            [
                "{} failed; continuing on the CPU: {reason}",
                failed.unwrap_or_default()
            ]
        );
    }

    /// A frame that cannot be scored is passed on; a warning is posted for the first one.
    fn report_unscored(&self, reason: &str) {
        lock(&self.stats).add_unscored();
        gst::warning!(CAT, imp = self, "frame not scored: {reason}");
        if !self.warned.swap(true, Ordering::Relaxed) {
            gst::element_imp_warning!(
                self,
                gst::StreamError::Failed,
                ["Frames are passed on unscored: {reason}"]
            );
        }
    }

    /// Passes the frame on or drops it; requests a key frame before the first frame of a clip.
    fn forward_or_drop(
        &self,
        decision: Decision,
        times: Times,
        segment: &gst::FormattedSegment<gst::ClockTime>,
        settings: &Settings,
    ) -> Result<gst::FlowSuccess, gst::FlowError> {
        let obj = self.obj();
        let src = obj.src_pad();
        match decision {
            Decision::Keep { resumes, .. } => {
                if resumes {
                    // Without repeated headers: nothing behind the encoder was dropped, and muxers for Ogg cannot take them
                    // in mid-stream.
                    let event = gst_video::DownstreamForceKeyUnitEvent::builder()
                        .timestamp(times.position)
                        .stream_time(segment.to_stream_time(times.position))
                        .running_time(times.running_time())
                        .all_headers(false)
                        .build();
                    src.push_event(event);
                }
                Ok(gst::FlowSuccess::Ok)
            }
            Decision::Drop => {
                if let Some(start) = times.position.filter(|_| settings.gap_events) {
                    src.push_event(gst::event::Gap::builder(start).duration(times.duration).build());
                }
                Ok(gst_base::BASE_TRANSFORM_FLOW_DROPPED)
            }
        }
    }

    /// Ends an open event at the end of the stream or at a flush.
    fn finish(&self) {
        let notification = lock(&self.state).as_mut().and_then(StreamState::finish);
        let Some(notification) = notification else { return };
        let settings = lock(&self.settings).clone();
        let tally = lock(&self.stats).tally;
        let segment = self.time_segment();
        let context = Context {
            segment: &segment,
            times: Times::default(),
            result: None,
            tally,
        };
        self.report(&notification, &context, &settings);
    }
}

#[cfg(test)]
#[path = "failure_tests.rs"]
mod failure_tests;
