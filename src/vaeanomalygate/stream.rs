//! The stream through the gate: from buffers and events to frames and marks, and back to things to do.

use std::time::Duration;

use super::{
    actions::{Action, Clip, Gaps},
    findings::{Finding, Told},
    settings::Settings,
};
use crate::buffer_times::BufferTimes;
use crate::gate::{FrameInfo, Gate, GatePolicy, Mark, Output, Reason, Span, Tally};

/// Latency is told in steps of this, so that it is not told anew with every frame.
const LATENCY_STEP: gst::ClockTime = gst::ClockTime::from_mseconds(500);

/// Who tells where anomalies are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    /// Nobody so far.
    Unknown,
    /// Metadata on the buffers.
    Metadata(Finding),
    /// Events in the stream.
    Events,
    /// Another branch.
    Followed,
}

#[derive(Debug)]
enum Item {
    Frame(gst::Buffer, Span),
    Event(gst::Event),
}

/// Counts that `stats` shows besides the tally.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    lost: u64,
    copied: u64,
    clips: u64,
    overflows: u64,
}

/// Everything the gate knows between two buffers.
#[derive(Debug)]
pub(super) struct Stream {
    gate: Gate<Item>,
    times: BufferTimes,
    /// The segment downstream is in.
    sent: BufferTimes,
    source: Source,
    /// Every frame can be decoded alone.
    intra: bool,
    /// Frames are not encoded.
    raw: bool,
    now: Duration,
    tally: Tally,
    counts: Counts,
    gaps: Gaps,
    clip_until: Option<Duration>,
    key_wanted: bool,
    told_latency: gst::ClockTime,
}

impl Stream {
    /// A stream that has not begun; it listens to another branch when `follows`.
    pub fn new(follows: bool) -> Self {
        Stream {
            gate: Gate::new(),
            times: BufferTimes::default(),
            sent: BufferTimes::default(),
            source: if follows {
                Source::Followed
            } else {
                Source::Unknown
            },
            intra: false,
            raw: false,
            now: Duration::ZERO,
            tally: Tally::default(),
            counts: Counts::default(),
            gaps: Gaps::default(),
            clip_until: None,
            key_wanted: false,
            told_latency: gst::ClockTime::ZERO,
        }
    }

    /// Takes what another branch found out.
    pub fn note(&mut self, mark: &Mark) {
        self.gate.note(mark);
    }

    /// Starts over with what another branch finds out.
    pub fn forget_marks(&mut self) {
        self.gate.timeline_mut().restart();
    }

    /// No mark will follow.
    pub fn finish_marks(&mut self) {
        self.gate.timeline_mut().finish();
    }

    /// Takes the next buffer.
    pub fn push_buffer(&mut self, buffer: gst::Buffer) {
        if buffer.flags().contains(gst::BufferFlags::HEADER) && buffer.dts_or_pts().is_none() {
            // Stream headers are no frames: whatever passes later needs them.
            return self.gate.push_other(Item::Frame(buffer, Span::default()));
        }
        let span = self.times.span(&buffer);
        self.now = span.start;
        if let Some(mark) = self.mark(&buffer, span) {
            self.gate.note(&mark);
        }
        let key = self.raw || !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
        let decode = self.times.decode(&buffer).filter(|_| !self.intra);
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

    fn mark(&mut self, buffer: &gst::BufferRef, span: Span) -> Option<Mark> {
        if self.source == Source::Followed {
            return None;
        }
        if let Some(finding) = Finding::read(buffer) {
            if self.source == Source::Events {
                // The metadata say it all, frame by frame: what events left open ends here.
                self.gate.timeline_mut().close(span.start);
            }
            self.source = Source::Metadata(finding);
        }
        let finding = match self.source {
            Source::Unknown => Finding::UNKNOWN,
            // A frame that an encoder made up between others is like the one before it.
            Source::Metadata(finding) => finding,
            Source::Events | Source::Followed => Finding::default(),
        };
        Some(finding.mark(span))
    }

    /// Takes the next serialised event.
    pub fn push_event(&mut self, event: gst::Event) {
        match event.view() {
            gst::EventView::Segment(segment) => {
                self.times.set_segment(segment.segment());
            }
            gst::EventView::Caps(caps) => self.set_caps(caps.caps()),
            gst::EventView::Gap(gap) => self.skip(gap.get()),
            gst::EventView::CustomDownstream(custom) => self.listen(custom),
            _ => {}
        }
        self.gate.push_other(Item::Event(event));
    }

    fn set_caps(&mut self, caps: &gst::CapsRef) {
        let name = caps.structure(0).map_or("", |fields| fields.name().as_str());
        self.raw = name == "video/x-raw";
        self.intra = self.raw || name.starts_with("image/");
        self.times.set_caps(caps);
    }

    /// Nothing comes for a time, so nothing anomalous comes.
    fn skip(&mut self, (start, duration): (gst::ClockTime, Option<gst::ClockTime>)) {
        let judged = matches!(self.source, Source::Metadata(_) | Source::Events);
        if let Some(span) = self.times.gap(start, duration).filter(|_| judged) {
            self.gate.note(&Mark {
                span,
                ..Mark::default()
            });
        }
    }

    fn listen(&mut self, event: &gst::EventRef) {
        if !matches!(self.source, Source::Unknown | Source::Events) {
            return;
        }
        if let Some(told) = Told::read(event) {
            self.source = Source::Events;
            told.tell(self.gate.timeline_mut(), self.now);
        }
    }

    /// Whether time went back without a flush: what is held belongs to the time before.
    pub fn jumps(&self, buffer: &gst::BufferRef) -> bool {
        self.times.would_jump(buffer)
    }

    /// Nothing more comes: what follows [`Stream::next_actions`] empties the gate.
    pub fn finish(&mut self) {
        self.gate.finish();
    }

    /// Forgets what is held and all times, but not the counts.
    pub fn restart(&mut self) {
        self.gate.restart();
        self.times.restart();
        self.gaps = Gaps::default();
        self.clip_until = None;
        self.now = Duration::ZERO;
        if self.source != Source::Followed {
            self.source = Source::Unknown;
        }
    }

    /// After a jump in time: forgets what is known, keeps segment and source.
    pub fn start_over(&mut self) {
        self.gate.restart();
        self.now = Duration::ZERO;
    }

    /// Whether every frame held was judged.
    pub fn is_judged(&self) -> bool {
        self.gate.is_judged()
    }

    /// Whether a buffer does not fit while another branch could still make room.
    pub fn waits_for_marks(&self, policy: &GatePolicy, buffer: &gst::BufferRef) -> bool {
        self.source == Source::Followed && self.gate.waits_for_marks(policy, buffer.size() as u64)
    }

    /// What is to be done now, in order.
    pub fn next_actions(&mut self, settings: &Settings) -> Vec<Action> {
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
                Output::Pass(Item::Frame(header, _)) => actions.push(Action::Frame(header)),
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
        self.watch_bounds(settings, &mut actions);
        actions
    }

    fn keep(&mut self, item: Item, reason: Reason, discont: bool, resumes: bool, actions: &mut Vec<Action>) {
        let Item::Frame(mut buffer, span) = item else {
            return;
        };
        if discont {
            buffer.make_mut().set_flags(gst::BufferFlags::DISCONT);
        }
        self.tally.count(buffer.size() as u64, true);
        self.key_wanted = false;
        if resumes && self.raw {
            let at = gst::ClockTime::try_from(span.start).unwrap_or(gst::ClockTime::ZERO);
            actions.push(Action::ForceKeyDownstream(at));
        }
        if reason != Reason::KeepAlive {
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
            self.tally.count(buffer.size() as u64, false);
        }
        if let Some(at) = self.clip_until.take() {
            actions.push(Action::Clip(Clip::End { at }));
        }
        if lost {
            self.counts.lost += 1;
            if !std::mem::replace(&mut self.key_wanted, true) {
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

    /// The end of the clip that is open when the stream ends.
    pub fn end_clip(&mut self) -> Option<Action> {
        self.clip_until.take().map(|at| Action::Clip(Clip::End { at }))
    }

    /// Copies the newest frame when it is held and comes from a pool that could run dry.
    fn spare_pool(&mut self) {
        let Some(Item::Frame(buffer, _)) = self.gate.newest_mut() else {
            return;
        };
        if super::pool::is_of_limited_pool(buffer)
            && let Ok(copy) = buffer.copy_deep()
        {
            *buffer = copy;
            self.counts.copied += 1;
        }
    }

    fn watch_bounds(&mut self, settings: &Settings, actions: &mut Vec<Action>) {
        let overflows = self.gate.overflows();
        if overflows > 0 && self.counts.overflows == 0 {
            actions.push(Action::Overflow {
                max_bytes: settings.max_pre_roll_bytes,
            });
        }
        self.counts.overflows = overflows;
        let latency = self.latency(settings);
        if latency != self.told_latency {
            self.told_latency = latency;
            actions.push(Action::Latency);
        }
    }

    /// How long frames are held back at most, as far as known.
    pub fn latency(&self, settings: &Settings) -> gst::ClockTime {
        if settings.policy().keep_all {
            return gst::ClockTime::ZERO;
        }
        let held = gst::ClockTime::try_from(self.gate.longest_hold()).unwrap_or(gst::ClockTime::ZERO);
        let steps = held.nseconds().div_ceil(LATENCY_STEP.nseconds());
        settings.pre_roll.max(LATENCY_STEP * steps)
    }

    /// What the property `stats` shows.
    pub fn stats(&self) -> gst::Structure {
        let tally = self.tally;
        let hold = gst::ClockTime::try_from(self.gate.longest_hold()).unwrap_or(gst::ClockTime::ZERO);
        gst::Structure::builder("application/x-vaeanomalygate-stats")
            .field("frames-in", tally.frames_in)
            .field("frames-out", tally.frames_out)
            .field("bytes-in", tally.bytes_in)
            .field("bytes-out", tally.bytes_out)
            .field("frames-dropped", tally.frames_in - tally.frames_out)
            .field("frames-lost", self.counts.lost)
            .field("frames-copied", self.counts.copied)
            .field("frames-held", self.gate.frames() as u64)
            .field("bytes-held", self.gate.bytes())
            .field("overflows", self.counts.overflows)
            .field("clips", self.counts.clips)
            .field("longest-hold", hold)
            .build()
    }
}
