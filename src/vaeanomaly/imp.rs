//! The element's implementation: life cycle, negotiation and data flow.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{LazyLock, Mutex};

use gst::glib;
use gst::glib::subclass::Signal;
use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_base::prelude::*;
use gst_base::subclass::base_transform::BaseTransformMode;
use gst_base::subclass::prelude::*;

use super::cuda_memory::SharedContext;
use super::lateness::LatenessMeter;
use super::message::{ACCEPT_NAME, Context, EVENT_NAME, MESSAGE_NAME, Notification};
use super::model::{self, ModelFile, ModelReport};
use super::settings::Settings;
use super::state::{Outcome, StateSlot, StreamState, Times};
use super::stats::Stats;
use super::{PostMessages, State, meta, view};
use crate::detector::store::{self, Model, Refusal};
use crate::detector::{self, ComputeDevice, DeviceChoice, Label};
use crate::events::Decision;
use crate::gstutil::lock;

pub(super) static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
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
    state: StateSlot,
    /// `None` without `model-location`, and when stopped.
    model_file: Mutex<Option<ModelFile>>,
    stats: Mutex<Stats>,
    lateness: LatenessMeter,
    cuda_context: SharedContext,
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
        if matches!(pspec.name(), "mask-location" | "ignore-regions") && lock(&self.device).is_some() {
            self.follow_ignored();
        }
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        match pspec.name() {
            "state" => State::from(lock(&self.stats).state).to_value(),
            "stats" => lock(&self.stats).structure().to_value(),
            name => lock(&self.settings).get(name),
        }
    }

    fn signals() -> &'static [Signal] {
        static SIGNALS: LazyLock<Vec<Signal>> = LazyLock::new(|| {
            /// The element that a signal is emitted on, and its only argument.
            fn arguments<T: for<'a> glib::value::FromValue<'a>>(
                values: &[glib::Value],
            ) -> Option<(super::VaeAnomaly, T)> {
                Some((values.first()?.get().ok()?, values.get(1)?.get().ok()?))
            }
            vec![
                Signal::builder("save-model")
                    .action()
                    .param_types([String::static_type()])
                    .return_type::<bool>()
                    .class_handler(|values| {
                        let (element, location) = arguments::<String>(values)?;
                        Some(element.imp().save_model(&location).to_value())
                    })
                    .build(),
                Signal::builder("load-model")
                    .action()
                    .param_types([String::static_type()])
                    .return_type::<bool>()
                    .class_handler(|values| {
                        let (element, location) = arguments::<String>(values)?;
                        Some(element.imp().load_model(&location).to_value())
                    })
                    .build(),
                Signal::builder("accept-event")
                    .action()
                    .param_types([u64::static_type()])
                    .return_type::<bool>()
                    .class_handler(|values| {
                        let (element, event_id) = arguments::<u64>(values)?;
                        Some(element.imp().accept_event(event_id).to_value())
                    })
                    .build(),
                Signal::builder("reset-model")
                    .action()
                    .class_handler(|values| {
                        let element: super::VaeAnomaly = values.first()?.get().ok()?;
                        element.imp().reset_model();
                        None
                    })
                    .build(),
            ]
        });
        &SIGNALS
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

    fn set_context(&self, context: &gst::Context) {
        self.cuda_context
            .set(self.obj().upcast_ref(), context, self.cuda_device());
        self.parent_set_context(context);
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
        let ignored = settings
            .read_ignored()
            .map_err(|e| gst::error_msg!(gst::ResourceError::Settings, ("{e}")))?;
        lock(&self.settings).ignored = ignored;
        *lock(&self.stats) = Stats::on(device.name());
        *lock(&self.device) = Some(device);
        self.lateness.set_latency(gst::ClockTime::ZERO);
        self.warned.store(false, Ordering::Relaxed);
        self.open_model_file(&settings)
            .map_err(|e| gst::error_msg!(gst::ResourceError::Settings, ("{e}")))
    }

    fn stop(&self) -> Result<(), gst::ErrorMessage> {
        self.save_now();
        let model_file = lock(&self.model_file).take();
        if let Some(model_file) = model_file {
            model_file.close();
        }
        self.state.clear();
        *lock(&self.device) = None;
        self.cuda_context.clear();
        Ok(())
    }

    fn query(&self, direction: gst::PadDirection, query: &mut gst::QueryRef) -> bool {
        self.cuda_context.answer(self.obj().upcast_ref(), query)
            || BaseTransformImplExt::parent_query(self, direction, query)
    }

    fn set_caps(&self, incaps: &gst::Caps, _outcaps: &gst::Caps) -> Result<(), gst::LoggableError> {
        let info = gst_video::VideoInfo::from_caps(incaps)
            .map_err(|e| gst::loggable_error!(CAT, "caps {incaps} are not raw video: {e}"))?;
        self.cuda_context.negotiated(self.obj().upcast_ref(), incaps);
        let settings = lock(&self.settings).clone();
        let state = match self.state.clear() {
            Some(mut state) => {
                if !state.keeps_learnt(&info) {
                    self.keep_model_aside(&mut state);
                }
                state.renegotiate(info).map(|()| state)
            }
            None => {
                let device = lock(&self.device).clone().unwrap_or_else(ComputeDevice::cpu);
                StreamState::new(&settings, device, info).map(Box::new)
            }
        };
        let mut state = state.map_err(|e| gst::loggable_error!(CAT, "{e}"))?;
        gst::debug!(CAT, imp = self, "negotiated {:?}", state.info());
        let report = self.continue_from_file(&mut state);
        lock(&self.stats).set_began(state.began());
        self.state.put(state);
        if let Some(report) = report {
            self.report_model(&report);
        }
        Ok(())
    }

    fn sink_event(&self, event: gst::Event) -> bool {
        match event.view() {
            gst::EventView::Eos(_) => {
                self.finish();
                self.save_now();
            }
            gst::EventView::Segment(_) => self.lateness.reset(),
            gst::EventView::Gap(gap) => {
                self.state.with(|state| state.skip(gap));
            }
            gst::EventView::FlushStop(_) => {
                self.finish();
                self.state.with(StreamState::restart);
            }
            _ => {}
        }
        self.parent_sink_event(event)
    }

    fn src_event(&self, event: gst::Event) -> bool {
        match event.view() {
            gst::EventView::Qos(qos) => self.lateness.add_qos(qos),
            gst::EventView::Latency(event) => self.lateness.set_latency(event.latency()),
            gst::EventView::CustomUpstream(custom) => {
                let id = custom
                    .structure()
                    .filter(|s| s.name() == ACCEPT_NAME)
                    .and_then(|s| s.get::<u64>("event-id").ok());
                if let Some(id) = id {
                    return self.accept_event(id);
                }
            }
            _ => {}
        }
        self.parent_src_event(event)
    }

    fn transform_ip(&self, buffer: &mut gst::BufferRef) -> Result<gst::FlowSuccess, gst::FlowError> {
        let settings = lock(&self.settings).clone();
        let mut state = self.state.take().ok_or(gst::FlowError::NotNegotiated)?;
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
        if self.is_save_due(&settings) {
            self.save(|| state.unsaved_model());
        }
        self.state.put(state);

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
    /// The number of the CUDA device that the settings name.
    fn cuda_device(&self) -> Option<usize> {
        match lock(&self.settings).device.parse() {
            Ok(DeviceChoice::Cuda(number)) => number,
            _ => None,
        }
    }

    /// What is to be ignored was changed after the start. What cannot be read changes nothing.
    fn follow_ignored(&self) {
        let settings = lock(&self.settings).clone();
        match settings.read_ignored() {
            Ok(ignored) => {
                let mut settings = lock(&self.settings);
                // The detector holds the mask that it uses: another one of the same content would take memory twice.
                if settings.ignored != ignored {
                    settings.ignored = ignored;
                }
            }
            Err(e) => {
                gst::element_imp_warning!(
                    self,
                    gst::ResourceError::Settings,
                    ["What is ignored stays as it is: {e}"]
                );
            }
        }
    }

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
            meta::add_regions_of_interest(buffer, result);
        }
        #[cfg(feature = "v1_24")]
        if let Err(e) = super::analytics::attach(buffer, result, &outcome.tracks) {
            gst::error!(CAT, imp = self, "cannot attach analytics metadata: {e}");
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
        let notification = self.state.with(StreamState::finish).flatten();
        self.report_end(notification);
    }

    /// Reports the end of an event that ended between two frames.
    fn report_end(&self, notification: Option<Notification>) {
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

/// The model and its file.
impl VaeAnomaly {
    /// Loads the model at `model-location`; it is used once the caps are known.
    fn open_model_file(&self, settings: &Settings) -> detector::Result<()> {
        if settings.model_location.is_empty() {
            return Ok(());
        }
        let location = model::expand(&settings.model_location, &self.obj().name())?;
        let element = self.obj().downgrade();
        let (model_file, refused) = ModelFile::open(location, move |report| {
            if let Some(element) = element.upgrade() {
                element.imp().report_model(&report);
            }
        })?;
        *lock(&self.model_file) = Some(model_file);
        for refusal in refused {
            self.report_model(&ModelReport::Refused(refusal));
        }
        Ok(())
    }

    /// Lets a new stream continue from the model that was loaded at start. One of other settings or of another aspect ratio
    /// is kept aside.
    fn continue_from_file(&self, state: &mut StreamState) -> Option<ModelReport> {
        let mut model_file = lock(&self.model_file);
        let model_file = model_file.as_mut()?;
        let (model, bytes) = model_file.take_loaded()?;
        let loaded = ModelReport::loaded(model_file.location(), &model, bytes);
        Some(match state.continue_from(model) {
            Ok(()) => loaded,
            Err(e) => model_file.refuse(e.to_string()),
        })
    }

    /// The caps change to another aspect ratio: what was learnt so far is written and kept aside.
    fn keep_model_aside(&self, state: &mut StreamState) {
        self.save(|| state.unsaved_model());
        if let Some(model_file) = lock(&self.model_file).as_mut() {
            model_file.set_aside("the aspect ratio of the frames has changed".to_owned());
        }
    }

    fn is_save_due(&self, settings: &Settings) -> bool {
        let interval = settings.save_interval.into();
        lock(&self.model_file)
            .as_ref()
            .is_some_and(|model_file| model_file.is_due(interval))
    }

    /// Saves in the background, where there is a location to save to.
    fn save(&self, model: impl FnOnce() -> Option<detector::Result<Model>>) {
        if lock(&self.model_file).is_none() {
            return;
        }
        match model() {
            Some(Ok(model)) => {
                if let Some(model_file) = lock(&self.model_file).as_mut() {
                    model_file.save(model);
                }
            }
            Some(Err(e)) => gst::warning!(CAT, imp = self, "model not saved: {e}"),
            None => {}
        }
    }

    /// Saves in the background what was learnt up to now.
    fn save_now(&self) {
        let again = lock(&self.model_file).as_ref().is_some_and(ModelFile::has_failed);
        self.save(|| match again {
            true => self.state.with(StreamState::model),
            false => self.state.with(StreamState::unsaved_model).flatten(),
        });
    }

    /// The signal `save-model`.
    fn save_model(&self, location: &str) -> bool {
        let Some(location) = self.location(location) else {
            return false;
        };
        let model = match self.state.with(StreamState::model) {
            Some(Ok(model)) => model,
            Some(Err(e)) => {
                gst::warning!(CAT, imp = self, "model not saved: {e}");
                return false;
            }
            None => {
                gst::warning!(CAT, imp = self, "model not saved: there are no caps yet");
                return false;
            }
        };
        let (saved, report) = match model::write(&location, model) {
            Ok(report) => (true, report),
            Err((_, reason)) => (false, ModelReport::Failed { location, reason }),
        };
        self.report_model(&report);
        saved
    }

    /// The signal `load-model`.
    fn load_model(&self, location: &str) -> bool {
        let Some(location) = self.location(location) else {
            return false;
        };
        let loaded = store::open(&location).and_then(|(model, bytes)| {
            let report = ModelReport::loaded(&location, &model, bytes);
            let ended = self.replace_model(|state| state.load(model))?;
            Ok((report, ended))
        });
        let (loaded, report) = match loaded {
            Ok((report, ended)) => {
                self.report_end(ended);
                (true, report)
            }
            Err(e) => {
                let reason = e.to_string();
                let refusal = Refusal {
                    location,
                    reason,
                    kept_as: None,
                };
                (false, ModelReport::Refused(refusal))
            }
        };
        self.report_model(&report);
        loaded
    }

    /// The signal `accept-event`, and the upstream event.
    fn accept_event(&self, event_id: u64) -> bool {
        let accepted = self.state.with(|state| state.accept(event_id)) == Some(true);
        gst::info!(CAT, imp = self, "event {event_id} accepted: {accepted}");
        accepted
    }

    /// The signal `reset-model`.
    fn reset_model(&self) {
        match self.replace_model(StreamState::reset) {
            Ok(ended) => self.report_end(ended),
            Err(e) => gst::warning!(CAT, imp = self, "model not reset: {e}"),
        }
    }

    /// Gives the stream another model between two frames. Returns the end of an event.
    fn replace_model(
        &self,
        replace: impl FnOnce(&mut StreamState) -> detector::Result<Option<Notification>>,
    ) -> detector::Result<Option<Notification>> {
        let replaced = self.state.with(|state| (replace(state), state.began()));
        let Some((ended, began)) = replaced else {
            return Err(detector::Error::Learnt("there are no caps yet".to_owned()));
        };
        lock(&self.stats).set_began(began);
        ended
    }

    /// A location as the application writes it; an empty one is `model-location`.
    fn location(&self, location: &str) -> Option<PathBuf> {
        let location = match location {
            "" => lock(&self.settings).model_location.clone(),
            location => location.to_owned(),
        };
        if location.is_empty() {
            gst::warning!(CAT, imp = self, "there is no location");
            return None;
        }
        match model::expand(&location, &self.obj().name()) {
            Ok(location) => Some(location),
            Err(e) => {
                gst::warning!(CAT, imp = self, "{e}");
                None
            }
        }
    }

    /// Posts a message or a warning, and updates the statistics. Also called by the thread that writes the file.
    fn report_model(&self, report: &ModelReport) {
        gst::info!(CAT, imp = self, "{report:?}");
        lock(&self.stats).add_model(report);
        if let ModelReport::Failed { location, reason } = report {
            gst::element_imp_warning!(
                self,
                gst::ResourceError::Write,
                ["The model could not be saved to {}: {reason}", location.display()]
            );
        }
        let wanted = lock(&self.settings).post_messages != PostMessages::None;
        if let Some(structure) = report.structure().filter(|_| wanted) {
            let message = gst::message::Element::builder(structure)
                .src(&*self.obj())
                .build();
            if self.obj().post_message(message).is_err() {
                gst::debug!(CAT, imp = self, "Could not post message: no bus");
            }
        }
    }
}

#[cfg(test)]
#[path = "failure_tests.rs"]
mod failure_tests;
