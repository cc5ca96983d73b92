//! The element: pads, states, properties. What it knows of the stream is in [`Stream`].

use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use gst::glib;
use gst::prelude::*;
use gst::subclass::prelude::*;

use super::{
    Retain,
    actions::Action,
    follow::{Follower, Inbox, News},
    settings::Settings,
    stream::Stream,
};

static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new(
        "vaeanomalygate",
        gst::DebugColorFlags::empty(),
        Some("Keeps the frames of anomalies"),
    )
});

/// The element's private side.
#[derive(Debug)]
pub struct VaeAnomalyGate {
    sinkpad: gst::Pad,
    srcpad: gst::Pad,
    settings: Mutex<Settings>,
    /// `None` when stopped.
    stream: Mutex<Option<Stream>>,
    follower: Mutex<Option<Follower>>,
}

/// Locks, also after a panic elsewhere: everything behind these locks is valid at all times.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
            stream: Mutex::default(),
            follower: Mutex::default(),
        }
    }
}

impl ObjectImpl for VaeAnomalyGate {
    fn properties() -> &'static [glib::ParamSpec] {
        static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(Settings::properties);
        PROPERTIES.as_ref()
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        let old_pre_roll = lock(&self.settings).pre_roll;
        lock(&self.settings).set(pspec.name(), value);
        if lock(&self.settings).pre_roll != old_pre_roll && lock(&self.stream).is_some() {
            self.post(gst::message::Latency::builder().src(&*self.obj()).build());
        }
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        match pspec.name() {
            "stats" => {
                let stream = lock(&self.stream);
                stream
                    .as_ref()
                    .map_or_else(|| Stream::new(false).stats(), Stream::stats)
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
                "VAE anomaly gate",
                "Filter/Video",
                "Keeps the frames of anomalies, raw or encoded, with the seconds before and after them",
                env!("CARGO_PKG_NAME"),
            )
        });
        Some(&*METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
            let template = |name, direction| {
                let caps = gst::Caps::new_any();
                gst::PadTemplate::new(name, direction, gst::PadPresence::Always, &caps)
                    .expect("a valid pad template")
            };
            vec![
                template("sink", gst::PadDirection::Sink),
                template("src", gst::PadDirection::Src),
            ]
        });
        TEMPLATES.as_ref()
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
            gst::StateChange::PausedToReady => self.close_inbox(true),
            _ => {}
        }
        let success = self.parent_change_state(transition)?;
        if transition == gst::StateChange::PausedToReady {
            *lock(&self.stream) = None;
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
            .map(|name| Follower::new(element.upcast_ref(), &name))
            .transpose()?;
        *lock(&self.stream) = Some(Stream::new(follower.is_some()));
        *lock(&self.follower) = follower;
        Ok(())
    }

    fn inbox(&self) -> Option<Arc<Inbox>> {
        lock(&self.follower).as_ref().map(Follower::inbox)
    }

    fn close_inbox(&self, closed: bool) {
        if let Some(inbox) = self.inbox() {
            inbox.close(closed);
        }
    }

    fn sink_chain(&self, buffer: gst::Buffer) -> Result<gst::FlowSuccess, gst::FlowError> {
        let settings = lock(&self.settings).clone();
        if lock(&self.stream)
            .as_ref()
            .is_some_and(|stream| stream.jumps(&buffer))
        {
            gst::info!(CAT, imp = self, "Time jumps back, starting over");
            self.drain(&settings)?;
            if let Some(stream) = &mut *lock(&self.stream) {
                stream.start_over();
            }
        }
        let inbox = self.inbox();
        if let Some(inbox) = &inbox {
            self.wait_for_room(&settings, inbox, &buffer)?;
        }
        self.with_stream(|stream| stream.push_buffer(buffer))?;
        self.proceed(&settings, inbox.as_deref())?;
        Ok(gst::FlowSuccess::Ok)
    }

    /// Waits while the gate is full of frames that the other branch has not judged yet. A live source cannot wait:
    /// there the oldest frames are decided without being judged.
    fn wait_for_room(
        &self,
        settings: &Settings,
        inbox: &Inbox,
        buffer: &gst::BufferRef,
    ) -> Result<(), gst::FlowError> {
        let policy = settings.policy();
        while self.with_stream(|stream| stream.waits_for_marks(&policy, buffer))? {
            if self.is_live() || !inbox.wait() {
                break;
            }
            self.proceed(settings, Some(inbox))?;
        }
        Ok(())
    }

    fn sink_event(&self, pad: &gst::Pad, event: gst::Event) -> bool {
        gst::log!(CAT, imp = self, "Event {event:?}");
        match event.view() {
            gst::EventView::FlushStart(_) => {
                self.close_inbox(true);
                gst::Pad::event_default(pad, Some(&*self.obj()), event)
            }
            gst::EventView::FlushStop(_) => {
                if let Some(stream) = &mut *lock(&self.stream) {
                    stream.restart();
                }
                self.close_inbox(false);
                gst::Pad::event_default(pad, Some(&*self.obj()), event)
            }
            gst::EventView::Segment(segment) if segment.segment().format() != gst::Format::Time => {
                gst::element_imp_error!(
                    self,
                    gst::StreamError::Format,
                    [
                        "Segments must be in time, got {:?}: put a parser before",
                        segment.segment().format()
                    ]
                );
                false
            }
            gst::EventView::Caps(caps) if !is_video(caps.caps()) => {
                gst::error!(CAT, imp = self, "Not a video: {}", caps.caps());
                false
            }
            gst::EventView::Eos(_) | gst::EventView::SegmentDone(_) => {
                let settings = lock(&self.settings).clone();
                // What downstream makes of the last frames does not change that this is the end.
                let _ = self.drain(&settings);
                gst::Pad::event_default(pad, Some(&*self.obj()), event)
            }
            _ if event.is_serialized() => self.queue_event(event),
            _ => gst::Pad::event_default(pad, Some(&*self.obj()), event),
        }
    }

    fn queue_event(&self, event: gst::Event) -> bool {
        let settings = lock(&self.settings).clone();
        let queued = self.with_stream(|stream| stream.push_event(event));
        queued
            .and_then(|()| self.proceed(&settings, self.inbox().as_deref()))
            .is_ok()
    }

    /// Decides about all that is held: nothing more will come.
    fn drain(&self, settings: &Settings) -> Result<(), gst::FlowError> {
        let inbox = self.inbox();
        if let Some(inbox) = &inbox {
            while !self.with_stream(|stream| stream.is_judged())? && inbox.wait() {
                self.proceed(settings, Some(inbox))?;
            }
        }
        self.with_stream(Stream::finish)?;
        self.proceed(settings, inbox.as_deref())?;
        let end = self.with_stream(Stream::end_clip)?;
        end.map_or(Ok(()), |action| self.perform(action))
    }

    /// Takes the news of the other branch and does all that can be done.
    fn proceed(&self, settings: &Settings, inbox: Option<&Inbox>) -> Result<(), gst::FlowError> {
        let news = inbox.map(Inbox::take).unwrap_or_default();
        let actions = self.with_stream(|stream| {
            for news in &news {
                match news {
                    News::Mark(mark) => stream.note(mark),
                    News::Restart => stream.forget_marks(),
                    News::End => stream.finish_marks(),
                }
            }
            stream.next_actions(settings)
        })?;
        actions.into_iter().try_for_each(|action| self.perform(action))
    }

    fn perform(&self, action: Action) -> Result<(), gst::FlowError> {
        match action {
            Action::Frame(buffer) => return self.srcpad.push(buffer).map(drop),
            Action::Event(event) => {
                self.srcpad.push_event(event);
            }
            Action::Gap(start, duration) => {
                self.srcpad
                    .push_event(gst::event::Gap::builder(start).duration(duration).build());
            }
            Action::ForceKeyDownstream(at) => {
                let event = gst_video::DownstreamForceKeyUnitEvent::builder()
                    .running_time(at)
                    .all_headers(true);
                self.srcpad.push_event(event.build());
            }
            Action::ForceKeyUpstream => {
                let event = gst_video::UpstreamForceKeyUnitEvent::builder().all_headers(true);
                self.sinkpad.push_event(event.build());
            }
            Action::Clip(clip) => {
                let obj = self.obj();
                self.post(
                    gst::message::Element::builder(clip.to_structure())
                        .src(&*obj)
                        .build(),
                );
            }
            Action::Overflow { max_bytes } => gst::element_imp_warning!(
                self,
                gst::ResourceError::NoSpaceLeft,
                ["The pre-roll does not fit into max-pre-roll-bytes={max_bytes} and gets shorter"]
            ),
            Action::Latency => {
                let obj = self.obj();
                self.post(gst::message::Latency::builder().src(&*obj).build());
            }
        }
        Ok(())
    }

    fn post(&self, message: gst::Message) {
        if self.obj().post_message(message).is_err() {
            gst::debug!(CAT, imp = self, "Nobody listens to messages");
        }
    }

    fn with_stream<T>(&self, work: impl FnOnce(&mut Stream) -> T) -> Result<T, gst::FlowError> {
        lock(&self.stream)
            .as_mut()
            .map(work)
            .ok_or(gst::FlowError::Flushing)
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
        let stream = lock(&self.stream);
        let own = match &*stream {
            Some(stream) => stream.latency(&settings),
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
