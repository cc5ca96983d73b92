//! The state of one stream: from buffers and events to frames and verdicts, and back to actions.

use std::time::Duration;

use gst::prelude::*;

use super::{
    actions::{Action, Clip, Gaps},
    follow::Update,
    key_frames::KeyFrames,
    remote::{RemoteEvent, read_verdict},
    settings::Settings,
};
use crate::events::{FrameInfo, FrameVerdict, Gate, GatePolicy, KeepReason, Output, Span, Tally};
use crate::gstutil::{BufferTime, BufferTimes, to_clock_time};

/// Latency is reported in steps of this, so that it does not change with every frame.
const LATENCY_STEP: gst::ClockTime = gst::ClockTime::from_mseconds(500);

/// Latency is announced for groups of pictures up to this long. Every sink of a live pipeline would wait for longer ones.
pub(super) const LONGEST_GROUP: gst::ClockTime = gst::ClockTime::from_seconds(5);

/// How long, in time of the followed branch, a jump of one branch waits for that of the other.
const JUMP_PATIENCE: Duration = Duration::from_secs(60);

/// Where the verdicts come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum VerdictSource {
    /// There was none yet.
    Unknown,
    /// Metadata on the buffers; the last one.
    Metadata(FrameVerdict),
    /// Events in the stream.
    Events,
    /// Another branch.
    Followed,
}

/// Which branch is in a new time base after time went back: the one that the gate is in, or the followed one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Jumps {
    /// Both are in the same time base.
    Aligned,
    /// The followed branch has jumped first.
    FollowedAhead,
    /// The gate has jumped first. Verdicts do not concern its frames; the first of them started then.
    GateAhead { since: Option<Duration> },
}

#[derive(Debug)]
enum Item {
    Frame(gst::Buffer, Span),
    /// A stream header, which is not a frame.
    Header(gst::Buffer),
    Event(gst::Event),
}

/// Counts in `stats`.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    tally: Tally,
    lost: u64,
    /// Frames that were held at a flush, or that could not be output.
    discarded: u64,
    copied: u64,
    clips: u64,
    overflows: u64,
}

/// What the gate knows between two buffers.
#[derive(Debug)]
pub(super) struct StreamState {
    gate: Gate<Item>,
    times: BufferTimes,
    /// Times in the segment that was last sent downstream.
    sent: BufferTimes,
    source: VerdictSource,
    /// The followed branch sends nothing.
    lost: bool,
    jumps: Jumps,
    /// Updates from after a jump of the followed branch, until the gate jumps too.
    ahead: Vec<Update>,
    /// Every frame can be decoded alone.
    intra: bool,
    /// The frames are not encoded.
    raw: bool,
    key_frames: KeyFrames,
    now: Duration,
    counts: Counts,
    gaps: Gaps,
    clip_until: Option<Duration>,
    key_requested: bool,
    reported_latency: gst::ClockTime,
    /// The warning about a hold beyond the latency is due at most once.
    reported_long_hold: bool,
}

impl StreamState {
    /// A stream before its start; `follows` is whether another branch is followed.
    pub(super) fn new(follows: bool) -> Self {
        StreamState {
            gate: Gate::new(),
            times: BufferTimes::default(),
            sent: BufferTimes::default(),
            source: if follows {
                VerdictSource::Followed
            } else {
                VerdictSource::Unknown
            },
            lost: false,
            jumps: Jumps::Aligned,
            ahead: Vec::new(),
            intra: false,
            raw: false,
            key_frames: KeyFrames::default(),
            now: Duration::ZERO,
            counts: Counts::default(),
            gaps: Gaps::default(),
            clip_until: None,
            key_requested: false,
            reported_latency: gst::ClockTime::ZERO,
            reported_long_hold: false,
        }
    }

    /// Applies an update from the followed branch, when both branches are in the same time base.
    pub(super) fn update(&mut self, update: Update) {
        match (update, self.jumps) {
            (Update::Restart, _) => {
                self.ahead.clear();
                self.jumps = Jumps::Aligned;
            }
            (Update::Verdict(verdict), Jumps::Aligned) if verdict.span.jump => {
                // The frames held have all their verdicts.
                self.gate.timeline_mut().finish();
                self.jumps = Jumps::FollowedAhead;
                return self.ahead.push(update);
            }
            (Update::Verdict(verdict), Jumps::GateAhead { since }) if !verdict.span.jump => {
                let since = since.unwrap_or(verdict.span.start);
                self.jumps = Jumps::GateAhead { since: Some(since) };
                if verdict.span.start.saturating_sub(since) < JUMP_PATIENCE {
                    return;
                }
                self.jumps = Jumps::Aligned;
            }
            (Update::Verdict(_), Jumps::GateAhead { .. }) => self.jumps = Jumps::Aligned,
            (_, Jumps::FollowedAhead) => {
                self.ahead.push(update);
                let start = |update: &Update| match update {
                    Update::Verdict(verdict) => verdict.span.start,
                    _ => Duration::ZERO,
                };
                let first = self.ahead.first().map_or(Duration::ZERO, start);
                if start(&update).saturating_sub(first) >= JUMP_PATIENCE {
                    self.align();
                }
                return;
            }
            _ => {}
        }
        self.apply(&update);
    }

    /// Both branches are in the new time base.
    fn align(&mut self) {
        self.jumps = Jumps::Aligned;
        let mut ahead = std::mem::take(&mut self.ahead).into_iter();
        if let Some(first) = ahead.next() {
            self.apply(&first);
        }
        ahead.for_each(|update| self.update(update));
    }

    fn apply(&mut self, update: &Update) {
        match update {
            Update::Verdict(verdict) => {
                self.lost = false;
                self.gate.add_verdict(verdict);
            }
            Update::Restart => self.gate.timeline_mut().restart(),
            Update::End => self.gate.timeline_mut().finish(),
        }
    }

    /// The times of the next buffer; `None` for a stream header, which is not a frame.
    pub(super) fn next_time(&mut self, buffer: &gst::BufferRef) -> Option<BufferTime> {
        let is_header = buffer.flags().contains(gst::BufferFlags::HEADER) && buffer.dts_or_pts().is_none();
        (!is_header).then(|| self.times.next(buffer))
    }

    /// The followed branch is gone: no verdict is expected. Returns `false` if that was known, or if all frames are labelled.
    pub(super) fn lose_followed(&mut self) -> bool {
        let news = !self.lost && !self.gate.is_labelled();
        if news {
            self.lost = true;
            self.gate.timeline_mut().finish();
        }
        news
    }

    /// Adds the next buffer.
    pub(super) fn push_buffer(&mut self, buffer: gst::Buffer, time: Option<BufferTime>) {
        let Some(BufferTime { span, decode }) = time else {
            // All frames that are kept later need the headers.
            return self.gate.push_other(Item::Header(buffer));
        };
        self.now = span.start;
        if let Some(verdict) = self.verdict(&buffer, span) {
            self.gate.add_verdict(&verdict);
        }
        let key = self.raw || self.key_frames.is_key(&buffer, to_clock_time(span.start));
        let decode = decode.filter(|_| !self.intra);
        let bytes = buffer.size() as u64;
        self.gate.push(
            FrameInfo {
                span,
                decode,
                bytes,
                key,
                intra: self.intra,
            },
            Item::Frame(buffer, span),
        );
    }

    fn verdict(&mut self, buffer: &gst::BufferRef, span: Span) -> Option<FrameVerdict> {
        if self.source == VerdictSource::Followed {
            return None;
        }
        if let Some(verdict) = read_verdict(buffer, span) {
            if self.source == VerdictSource::Events {
                // Metadata is complete: what events left open ends here.
                self.gate.timeline_mut().close(span.start);
            }
            self.source = VerdictSource::Metadata(verdict);
        }
        match self.source {
            VerdictSource::Unknown => Some(FrameVerdict::unknown(span)),
            // A frame that an encoder inserted is like the previous one.
            VerdictSource::Metadata(verdict) => Some(FrameVerdict { span, ..verdict }),
            VerdictSource::Events => Some(FrameVerdict::normal(span)),
            VerdictSource::Followed => None,
        }
    }

    /// Adds the next serialised event.
    pub(super) fn push_event(&mut self, event: gst::Event) {
        match event.view() {
            gst::EventView::Segment(segment) => {
                self.times.set_segment(segment.segment());
            }
            gst::EventView::Caps(caps) => self.set_caps(caps.caps()),
            gst::EventView::Gap(gap) => self.add_gap(gap.get()),
            gst::EventView::CustomDownstream(custom) => self.add_remote_event(custom),
            _ => {}
        }
        self.gate.push_other(Item::Event(event));
    }

    fn set_caps(&mut self, caps: &gst::CapsRef) {
        let name = caps.structure(0).map_or("", |fields| fields.name().as_str());
        self.raw = name == "video/x-raw";
        self.intra = self.raw || name.starts_with("image/");
        self.key_frames.set_caps(caps);
        self.times.set_caps(caps);
    }

    /// Without frames there is no anomaly: a gap counts as normal.
    fn add_gap(&mut self, (start, duration): (gst::ClockTime, Option<gst::ClockTime>)) {
        let labelled = matches!(self.source, VerdictSource::Metadata(_) | VerdictSource::Events);
        if let Some(span) = self.times.gap(start, duration)
            && labelled
        {
            self.gate.add_verdict(&FrameVerdict::normal(span));
        }
    }

    fn add_remote_event(&mut self, event: &gst::EventRef) {
        if !matches!(self.source, VerdictSource::Unknown | VerdictSource::Events) {
            return;
        }
        if let Some(event) = RemoteEvent::read(event) {
            self.source = VerdictSource::Events;
            event.apply(self.gate.timeline_mut(), self.now);
        }
    }

    /// No buffer will follow: the next [`StreamState::next_actions`] empties the gate.
    pub(super) fn finish(&mut self) {
        self.gate.finish();
    }

    /// Clears the frames held and all times after a flush, but not the counts.
    pub(super) fn restart(&mut self) {
        while let Some(item) = self.gate.discard() {
            if let Item::Frame(buffer, _) = item {
                self.discard(&buffer);
            }
        }
        self.gate.restart();
        self.times.restart();
        self.gaps = Gaps::default();
        self.clip_until = None;
        self.now = Duration::ZERO;
        self.ahead.clear();
        self.jumps = Jumps::Aligned;
        if self.source != VerdictSource::Followed {
            self.source = VerdictSource::Unknown;
        }
    }

    /// Counts a frame that came too late to be decided about: downstream is flushing, at its end or has failed.
    pub(super) fn discard(&mut self, frame: &gst::BufferRef) {
        self.counts.tally.count(frame.size() as u64, false);
        self.counts.discarded += 1;
    }

    /// Counts a frame that was to be output and could not be.
    pub(super) fn fail_output(&mut self, bytes: u64) {
        self.counts.tally.frames_out -= 1;
        self.counts.tally.bytes_out -= bytes;
        self.counts.discarded += 1;
    }

    /// Clears all times before a buffer whose time goes back; the frames held were output. Keeps segment and source.
    pub(super) fn start_over(&mut self) {
        self.gate.start_over();
        self.now = Duration::ZERO;
        match self.jumps {
            Jumps::FollowedAhead => self.align(),
            _ if self.source == VerdictSource::Followed => self.jumps = Jumps::GateAhead { since: None },
            _ => {}
        }
    }

    /// Whether every frame held is labelled.
    pub(super) fn is_labelled(&self) -> bool {
        self.gate.is_labelled()
    }

    /// Whether a buffer does not fit while the followed branch could still make room.
    pub(super) fn should_wait(&self, policy: &GatePolicy, buffer: &gst::BufferRef) -> bool {
        self.source == VerdictSource::Followed && self.gate.should_wait(policy, buffer.size() as u64)
    }

    /// The actions that are due, in order.
    pub(super) fn next_actions(&mut self, settings: &Settings) -> Vec<Action> {
        let policy = settings.policy();
        let mut actions = Vec::new();
        while let Some(output) = self.gate.next(&policy) {
            match output {
                Output::Pass(Item::Event(event)) => {
                    if let gst::EventView::Segment(segment) = event.view() {
                        self.end_gap(settings, &mut actions);
                        self.sent.set_segment(segment.segment());
                    }
                    actions.push(Action::Event(event));
                }
                Output::Pass(Item::Header(header) | Item::Frame(header, _)) => {
                    actions.push(Action::Header(header));
                }
                Output::Keep {
                    item,
                    reason,
                    discont,
                    resumes,
                } => {
                    self.end_gap(settings, &mut actions);
                    self.keep(item, reason, discont, resumes, &mut actions);
                }
                Output::Drop { item, gap, lost } => self.drop(settings, &item, gap, lost, &mut actions),
            }
        }
        self.end_gap(settings, &mut actions);
        self.spare_pool();
        self.check_overflow(settings, &mut actions);
        self.check_latency(settings, &mut actions);
        actions
    }

    fn keep(
        &mut self,
        item: Item,
        reason: KeepReason,
        discont: bool,
        resumes: bool,
        actions: &mut Vec<Action>,
    ) {
        let Item::Frame(mut buffer, span) = item else {
            return;
        };
        if discont {
            buffer.make_mut().set_flags(gst::BufferFlags::DISCONT);
        }
        self.counts.tally.count(buffer.size() as u64, true);
        self.key_requested = false;
        if resumes && self.raw {
            actions.push(Action::ForceKeyDownstream(to_clock_time(span.start)));
        }
        if reason != KeepReason::KeepAlive {
            if self.clip_until.is_none() {
                self.counts.clips += 1;
                actions.push(Action::Clip(Clip::Begin {
                    at: span.start,
                    reason,
                }));
            }
            self.clip_until = Some(self.clip_until.unwrap_or_default().max(span.end));
        }
        actions.push(Action::Frame(buffer));
    }

    fn drop(
        &mut self,
        settings: &Settings,
        item: &Item,
        gap: Option<Span>,
        lost: bool,
        actions: &mut Vec<Action>,
    ) {
        if let Item::Frame(buffer, _) = item {
            self.counts.tally.count(buffer.size() as u64, false);
        }
        actions.extend(self.end_clip());
        if lost {
            self.counts.lost += 1;
            if !std::mem::replace(&mut self.key_requested, true) {
                actions.push(Action::ForceKeyUpstream);
            }
        }
        if let Some(span) = gap.and_then(|gap| self.gaps.add(gap)) {
            actions.extend(self.gap(settings, span));
        }
    }

    fn end_gap(&mut self, settings: &Settings, actions: &mut Vec<Action>) {
        if let Some(span) = self.gaps.take() {
            actions.extend(self.gap(settings, span));
        }
    }

    fn gap(&self, settings: &Settings, span: Span) -> Option<Action> {
        let start = self.sent.position(span.start).filter(|_| settings.gap_events)?;
        let end = self.sent.position(span.end)?;
        Some(Action::Gap(
            start.min(end),
            if start < end { end - start } else { start - end },
        ))
    }

    /// Ends the clip that is open, if there is one.
    pub(super) fn end_clip(&mut self) -> Option<Action> {
        self.clip_until.take().map(|at| Action::Clip(Clip::End { at }))
    }

    /// Copies the newest frame if it is held and comes from a pool that could run dry.
    fn spare_pool(&mut self) {
        let Some(Item::Frame(buffer, _) | Item::Header(buffer)) = self.gate.newest_mut() else {
            return;
        };
        if is_of_limited_pool(buffer)
            && let Ok(copy) = buffer.copy_deep()
        {
            *buffer = copy;
            self.counts.copied += 1;
        }
    }

    fn check_overflow(&mut self, settings: &Settings, actions: &mut Vec<Action>) {
        let overflows = self.gate.overflows();
        if overflows > 0 && self.counts.overflows == 0 {
            actions.push(Action::Overflow {
                max_bytes: settings.max_pre_roll_bytes,
            });
        }
        self.counts.overflows = overflows;
    }

    fn check_latency(&mut self, settings: &Settings, actions: &mut Vec<Action>) {
        let latency = self.latency(settings);
        if latency != self.reported_latency {
            self.reported_latency = latency;
            actions.push(Action::Latency);
        }
        let hold = to_clock_time(self.gate.longest_hold());
        let is_long = hold > latency.max(settings.pre_roll + LONGEST_GROUP);
        if is_long && !settings.policy().keep_all && !std::mem::replace(&mut self.reported_long_hold, true) {
            actions.push(Action::LongHold { hold, latency });
        }
    }

    /// The longest time for which frames are held back, as far as known, but no more than the pre-roll and
    /// [`LONGEST_GROUP`].
    pub(super) fn latency(&self, settings: &Settings) -> gst::ClockTime {
        if settings.policy().keep_all {
            return gst::ClockTime::ZERO;
        }
        let bound = settings.pre_roll + LONGEST_GROUP;
        let held = to_clock_time(self.gate.longest_hold()).min(bound);
        let steps = held.nseconds().div_ceil(LATENCY_STEP.nseconds());
        (LATENCY_STEP * steps).clamp(settings.pre_roll, bound)
    }

    /// The structure of the property `stats`.
    pub(super) fn stats(&self) -> gst::Structure {
        let tally = self.counts.tally;
        gst::Structure::builder("application/x-vaeanomalygate-stats")
            .field("frames-in", tally.frames_in)
            .field("frames-out", tally.frames_out)
            .field("bytes-in", tally.bytes_in)
            .field("bytes-out", tally.bytes_out)
            .field(
                "frames-dropped",
                tally.frames_in - tally.frames_out - self.counts.discarded,
            )
            .field("frames-lost", self.counts.lost)
            .field("frames-discarded", self.counts.discarded)
            .field("frames-copied", self.counts.copied)
            .field("frames-held", self.gate.frames() as u64)
            .field("bytes-held", self.gate.bytes())
            .field("overflows", self.counts.overflows)
            .field("clips", self.counts.clips)
            .field("longest-hold", to_clock_time(self.gate.longest_hold()))
            .build()
    }
}

/// Whether the buffer, or one that it is a part of, goes back to a pool with a maximum number of buffers.
fn is_of_limited_pool(buffer: &gst::BufferRef) -> bool {
    let of_limited_pool = |buffer: &gst::BufferRef| {
        pool(buffer).is_some_and(|pool| {
            let params = pool.config().params();
            params.is_some_and(|(_, _, _, max_buffers)| max_buffers > 0)
        })
    };
    of_limited_pool(buffer)
        || buffer
            .iter_meta::<gst::meta::ParentBufferMeta>()
            .any(|meta| of_limited_pool(meta.parent()))
}

#[expect(unsafe_code, reason = "the bindings have no getter for a buffer's pool")]
fn pool(buffer: &gst::BufferRef) -> Option<gst::BufferPool> {
    // SAFETY: a buffer holds a reference to its pool, or a null pointer, for its whole lifetime.
    unsafe { gst::glib::translate::from_glib_none((*buffer.as_ptr()).pool) }
}
