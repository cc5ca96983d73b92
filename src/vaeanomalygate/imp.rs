//! The element's implementation: pads, element states and data flow. What it knows of a stream is in [`StreamState`].

use std::sync::{Arc, LazyLock, Mutex};

use gst::glib;
use gst::prelude::*;
use gst::subclass::prelude::*;

use super::{
    Retain,
    actions::Action,
    follow::{Follower, Mailbox},
    settings::Settings,
    state::StreamState,
};
use crate::gstutil::{BufferTime, lock};

pub(super) static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new(
        "vaeanomalygate",
        gst::DebugColorFlags::empty(),
        Some("Video anomaly gate"),
    )
});

/// The element's private part.
#[derive(Debug)]
pub struct VaeAnomalyGate {
    sinkpad: gst::Pad,
    srcpad: gst::Pad,
    settings: Mutex<Settings>,
    /// `None` when stopped.
    state: Mutex<Option<StreamState>>,
    follower: Mutex<Option<Follower>>,
    /// Held while frames are output: by the streaming thread, and with `follow` by the follower's task.
    output: gst::TaskLock,
    /// What downstream returned to the follower's task.
    task_flow: Mutex<Result<(), gst::FlowError>>,
}

#[glib::object_subclass]
impl ObjectSubclass for VaeAnomalyGate {
    const NAME: &'static str = "GstVaeAnomalyGate";
    type Type = super::VaeAnomalyGate;
    type ParentType = gst::Element;

    fn with_class(class: &Self::Class) -> Self {
        let sink_template = class.pad_template("sink").expect("registered in pad_templates");
        let sinkpad = gst::Pad::builder_from_template(&sink_template)
            .chain_function(|_, parent, buffer| {
                Self::catch_panic_pad_function(
                    parent,
                    || Err(gst::FlowError::Error),
                    |this| this.sink_chain(buffer),
                )
            })
            .event_function(|pad, parent, event| {
                Self::catch_panic_pad_function(parent, || false, |this| this.sink_event(pad, event))
            })
            .flags(gst::PadFlags::PROXY_CAPS | gst::PadFlags::PROXY_ALLOCATION)
            .build();
        let src_template = class.pad_template("src").expect("registered in pad_templates");
        let srcpad = gst::Pad::builder_from_template(&src_template)
            .query_function(|pad, parent, query| {
                Self::catch_panic_pad_function(parent, || false, |this| this.src_query(pad, query))
            })
            .flags(gst::PadFlags::PROXY_CAPS)
            .build();
        VaeAnomalyGate {
            sinkpad,
            srcpad,
            settings: Mutex::default(),
            state: Mutex::default(),
            follower: Mutex::default(),
            output: gst::TaskLock::new(),
            task_flow: Mutex::new(Ok(())),
        }
    }
}

impl ObjectImpl for VaeAnomalyGate {
    fn properties() -> &'static [glib::ParamSpec] {
        Settings::properties()
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        let old_pre_roll = lock(&self.settings).pre_roll;
        lock(&self.settings).set(pspec.name(), value);
        if lock(&self.settings).pre_roll != old_pre_roll && lock(&self.state).is_some() {
            self.post(gst::message::Latency::builder().src(&*self.obj()).build());
        }
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        match pspec.name() {
            "stats" => {
                let state = lock(&self.state);
                state
                    .as_ref()
                    .map_or_else(|| StreamState::new(false).stats(), StreamState::stats)
                    .to_value()
            }
            name => lock(&self.settings).get(name),
        }
    }

    fn constructed(&self) {
        self.parent_constructed();
        let obj = self.obj();
        obj.add_pad(&self.sinkpad).expect("a new element has no pads");
        obj.add_pad(&self.srcpad).expect("a new element has no pads");
    }
}

impl GstObjectImpl for VaeAnomalyGate {}

impl ElementImpl for VaeAnomalyGate {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "Video anomaly gate",
                "Filter/Video",
                "Passes on the raw or encoded frames of anomalies, from some time before to some time after them",
                "The vaeanomaly authors",
            )
        });
        Some(&METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
            let caps = gst::Caps::new_any();
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
        match transition {
            gst::StateChange::ReadyToPaused => self
                .start()
                .inspect_err(|error| {
                    self.post_error_message(error.clone());
                })
                .map_err(|_| gst::StateChangeError)?,
            gst::StateChange::PausedToPlaying => self.set_mailbox_playing(true),
            gst::StateChange::PlayingToPaused => self.set_mailbox_playing(false),
            gst::StateChange::PausedToReady => self.set_mailbox_closed(true),
            _ => {}
        }
        let success = self.parent_change_state(transition)?;
        if transition == gst::StateChange::PausedToReady {
            *lock(&self.state) = None;
            let follower = lock(&self.follower).take();
            drop(follower);
        }
        Ok(success)
    }
}

impl VaeAnomalyGate {
    fn start(&self) -> Result<(), gst::ErrorMessage> {
        let settings = lock(&self.settings).clone();
        let element = self.obj();
        let follower = settings
            .follow
            .map(|name| {
                let gate = element.downgrade();
                Follower::new(element.upcast_ref(), &name, &self.output, move || {
                    if let Some(gate) = gate.upgrade() {
                        gate.imp().react();
                    }
                })
            })
            .transpose()?;
        *lock(&self.task_flow) = Ok(());
        *lock(&self.state) = Some(StreamState::new(follower.is_some()));
        *lock(&self.follower) = follower;
        Ok(())
    }

    fn mailbox(&self) -> Option<Arc<Mailbox>> {
        lock(&self.follower).as_ref().map(Follower::mailbox)
    }

    fn set_mailbox_closed(&self, closed: bool) {
        if let Some(mailbox) = self.mailbox() {
            mailbox.set_closed(closed);
        }
    }

    fn set_mailbox_playing(&self, playing: bool) {
        if let Some(mailbox) = self.mailbox() {
            mailbox.set_playing(playing);
        }
    }

    /// Stops waiting for a followed branch that is gone: all frames are kept until it continues.
    fn check_followed(&self, mailbox: &Mailbox) -> Result<(), gst::FlowError> {
        if mailbox.is_silent() && self.with_state(StreamState::lose_followed)? {
            gst::element_imp_warning!(
                self,
                gst::ResourceError::Read,
                ["The followed element sends nothing; keeping all frames until it continues"]
            );
        }
        Ok(())
    }

    fn sink_chain(&self, buffer: gst::Buffer) -> Result<gst::FlowSuccess, gst::FlowError> {
        let settings = lock(&self.settings).clone();
        let mailbox = self.mailbox();
        let time = self.with_state(|state| state.next_time(&buffer))?;
        let ready = self.prepare_for(&settings, mailbox.as_deref(), &buffer, time);
        self.with_state(|state| match (&ready, time) {
            (Ok(()), _) => state.push_buffer(buffer, time),
            (Err(_), Some(_)) => state.discard(&buffer),
            (Err(_), None) => {}
        })?;
        ready?;
        self.proceed(&settings, mailbox.as_deref())?;
        Ok(gst::FlowSuccess::Ok)
    }

    /// Outputs what must be output before this buffer is added.
    fn prepare_for(
        &self,
        settings: &Settings,
        mailbox: Option<&Mailbox>,
        buffer: &gst::BufferRef,
        time: Option<BufferTime>,
    ) -> Result<(), gst::FlowError> {
        (*lock(&self.task_flow))?;
        if time.is_some_and(|time| time.span.jump) {
            gst::info!(CAT, imp = self, "Time jumps back, starting over");
            // The followed branch may have jumped already: then the frames held get no verdict any more.
            self.finish(settings)?;
            self.with_state(StreamState::start_over)?;
        }
        mailbox.map_or(Ok(()), |mailbox| self.wait_for_room(settings, mailbox, buffer))
    }

    /// Waits while the gate is full of frames that the followed branch has not labelled yet. A live source cannot wait:
    /// then the oldest frames are decided about without a label.
    fn wait_for_room(
        &self,
        settings: &Settings,
        mailbox: &Mailbox,
        buffer: &gst::BufferRef,
    ) -> Result<(), gst::FlowError> {
        let policy = settings.policy();
        loop {
            let count = mailbox.count();
            self.proceed(settings, Some(mailbox))?;
            if !self.with_state(|state| state.should_wait(&policy, buffer))? {
                break;
            }
            if self.is_live() || !mailbox.wait(count) {
                break;
            }
        }
        self.check_followed(mailbox)
    }

    fn sink_event(&self, pad: &gst::Pad, event: gst::Event) -> bool {
        gst::log!(CAT, imp = self, "Event {event:?}");
        match event.view() {
            gst::EventView::FlushStart(_) => {
                self.set_mailbox_closed(true);
                gst::Pad::event_default(pad, Some(&*self.obj()), event)
            }
            gst::EventView::FlushStop(_) => {
                let output = self.output.lock();
                if let Some(state) = &mut *lock(&self.state) {
                    state.restart();
                }
                *lock(&self.task_flow) = Ok(());
                drop(output);
                self.set_mailbox_closed(false);
                gst::Pad::event_default(pad, Some(&*self.obj()), event)
            }
            gst::EventView::Segment(segment) if segment.segment().format() != gst::Format::Time => {
                gst::element_imp_error!(
                    self,
                    gst::StreamError::Format,
                    [
                        "Only TIME segments are supported, got {:?}; add a parser upstream",
                        segment.segment().format()
                    ]
                );
                false
            }
            gst::EventView::Caps(caps) if !is_video(caps.caps()) => {
                let name = caps.caps().structure(0).map_or("no caps", |fields| fields.name());
                gst::element_imp_error!(
                    self,
                    gst::StreamError::WrongType,
                    ["Only video is supported, got {name}"]
                );
                false
            }
            gst::EventView::Eos(_) | gst::EventView::SegmentDone(_) => {
                let settings = lock(&self.settings).clone();
                // The stream ends whatever downstream returns for the last frames.
                let _ = self.drain(&settings);
                gst::Pad::event_default(pad, Some(&*self.obj()), event)
            }
            _ if event.is_serialized() => self.queue_event(event),
            _ => gst::Pad::event_default(pad, Some(&*self.obj()), event),
        }
    }

    fn queue_event(&self, event: gst::Event) -> bool {
        let settings = lock(&self.settings).clone();
        let queued = self.with_state(|state| state.push_event(event));
        queued
            .and_then(|()| self.proceed(&settings, self.mailbox().as_deref()))
            .is_ok()
    }

    /// Decides about all frames held, once they are labelled: no buffer will follow.
    fn drain(&self, settings: &Settings) -> Result<(), gst::FlowError> {
        let mailbox = self.mailbox();
        if let Some(mailbox) = &mailbox {
            loop {
                let count = mailbox.count();
                self.proceed(settings, Some(mailbox))?;
                if self.with_state(|state| state.is_labelled())? || !mailbox.wait(count) {
                    break;
                }
            }
            self.check_followed(mailbox)?;
        }
        self.finish(settings)
    }

    /// Decides about all frames held at once; those without a label are kept.
    fn finish(&self, settings: &Settings) -> Result<(), gst::FlowError> {
        self.with_state(StreamState::finish)?;
        self.proceed(settings, self.mailbox().as_deref())?;
        let end = self.with_state(StreamState::end_clip)?;
        end.map_or(Ok(()), |action| self.perform(action))
    }

    /// Outputs what updates of the followed branch make due, in the follower's task.
    fn react(&self) {
        let settings = lock(&self.settings).clone();
        let Err(error) = self.proceed(&settings, self.mailbox().as_deref()) else {
            return;
        };
        *lock(&self.task_flow) = Err(error);
        if !matches!(error, gst::FlowError::Flushing | gst::FlowError::Eos) {
            gst::element_imp_error!(
                self,
                gst::StreamError::Failed,
                ["Streaming stopped, reason {error}"]
            );
        }
    }

    /// Applies the updates of the followed branch and performs all actions that are due.
    fn proceed(&self, settings: &Settings, mailbox: Option<&Mailbox>) -> Result<(), gst::FlowError> {
        let _output = self.output.lock();
        let updates = mailbox.map(Mailbox::take).unwrap_or_default();
        let (actions, labelled) = self.with_state(|state| {
            updates.into_iter().for_each(|update| state.update(update));
            (state.next_actions(settings), state.is_labelled())
        })?;
        if let Some(mailbox) = mailbox {
            mailbox.set_pending(!labelled);
        }
        let mut flow = Ok(());
        for action in actions {
            let frame_size = match &action {
                Action::Frame(buffer) => Some(buffer.size() as u64),
                _ => None,
            };
            if flow.is_ok() {
                flow = self.perform(action);
            }
            if flow.is_err()
                && let Some(bytes) = frame_size
            {
                self.with_state(|state| state.fail_output(bytes))?;
            }
        }
        flow
    }

    fn perform(&self, action: Action) -> Result<(), gst::FlowError> {
        match action {
            Action::Frame(buffer) | Action::Header(buffer) => return self.srcpad.push(buffer).map(drop),
            Action::Event(event) => {
                self.srcpad.push_event(event);
            }
            Action::Gap(start, duration) => {
                self.srcpad
                    .push_event(gst::event::Gap::builder(start).duration(duration).build());
            }
            // Without repeated headers: those of the start were passed on, and muxers for Ogg cannot take them in mid-stream.
            Action::ForceKeyDownstream(at) => {
                let event = gst_video::DownstreamForceKeyUnitEvent::builder()
                    .running_time(at)
                    .all_headers(false);
                self.srcpad.push_event(event.build());
            }
            Action::ForceKeyUpstream => {
                let event = gst_video::UpstreamForceKeyUnitEvent::builder().all_headers(false);
                self.sinkpad.push_event(event.build());
            }
            Action::Clip(clip) => {
                let obj = self.obj();
                self.post(
                    gst::message::Element::builder(clip.structure())
                        .src(&*obj)
                        .build(),
                );
            }
            Action::Overflow { max_bytes } => gst::element_imp_warning!(
                self,
                gst::ResourceError::NoSpaceLeft,
                ["The pre-roll does not fit into max-pre-roll-bytes={max_bytes} and is shortened"]
            ),
            Action::LongHold { hold, latency } => {
                if self.is_live() {
                    gst::element_imp_warning!(
                        self,
                        gst::CoreError::Clock,
                        [
                            "Frames are held for {hold}, longer than the announced latency of {latency}; synchronised sinks \
                             behind the gate are late: use a shorter key-frame distance"
                        ]
                    );
                }
            }
            Action::Latency => {
                let obj = self.obj();
                self.post(gst::message::Latency::builder().src(&*obj).build());
            }
        }
        Ok(())
    }

    fn post(&self, message: gst::Message) {
        if self.obj().post_message(message).is_err() {
            gst::debug!(CAT, imp = self, "Could not post message: no bus");
        }
    }

    /// Calls `f` with the state locked; fails when the element is stopped.
    fn with_state<T>(&self, f: impl FnOnce(&mut StreamState) -> T) -> Result<T, gst::FlowError> {
        lock(&self.state).as_mut().map(f).ok_or(gst::FlowError::Flushing)
    }

    fn is_live(&self) -> bool {
        let mut query = gst::query::Latency::new();
        self.sinkpad.peer_query(&mut query) && query.result().0
    }

    fn src_query(&self, pad: &gst::Pad, query: &mut gst::QueryRef) -> bool {
        let gst::QueryViewMut::Latency(query) = query.view_mut() else {
            return gst::Pad::query_default(pad, Some(&*self.obj()), query);
        };
        let mut upstream = gst::query::Latency::new();
        if !self.sinkpad.peer_query(&mut upstream) {
            return false;
        }
        let settings = lock(&self.settings).clone();
        let state = lock(&self.state);
        let own = match &*state {
            Some(state) => state.latency(&settings),
            None if settings.retain == Retain::All => gst::ClockTime::ZERO,
            None => settings.pre_roll,
        };
        let (live, min, max) = upstream.result();
        query.set(live, min + own, max.map(|max| max + own));
        true
    }
}

fn is_video(caps: &gst::CapsRef) -> bool {
    let names = || caps.iter().map(|fields| fields.name().as_str());
    names().all(|name| name.starts_with("video/") || name.starts_with("image/"))
}
