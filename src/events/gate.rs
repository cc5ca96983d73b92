//! The newest frames, held back until it is known whether an event follows (`vaeanomalygate`).

use std::{collections::VecDeque, time::Duration};

use super::{Decision, FrameVerdict, KeepFilter, KeepReason, Span, Timeline};

/// What a gate keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GatePolicy {
    /// Frames that start at most this long before an event are kept.
    pub pre_roll: Duration,
    /// Frames that start less than this after the end of an event's last anomalous frame are kept.
    pub post_roll: Duration,
    /// While dropping, a key frame is kept this often; 0 = none. See [`KeepFilter::decide`].
    pub keepalive_interval: Duration,
    /// Maximum number of bytes held back.
    pub max_bytes: u64,
    /// Keep everything.
    pub keep_all: bool,
}

/// What a gate needs to know about a frame; it never looks at the payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameInfo {
    /// When the frame is presented.
    pub span: Span,
    /// When it is decoded, where that is known: no later frame is presented before this.
    pub decode: Option<Duration>,
    /// Size in bytes.
    pub bytes: u64,
    /// It can be decoded without any earlier frame.
    pub key: bool,
    /// Every frame of this stream is a key frame: raw video, JPEG.
    pub intra: bool,
}

/// Output of a gate, in input order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output<T> {
    /// A frame is passed on.
    Keep {
        /// The frame.
        item: T,
        /// Why.
        reason: KeepReason,
        /// The previous frame was dropped.
        discont: bool,
        /// A clip starts here: frames were dropped, and this is more than a keep-alive.
        resumes: bool,
    },
    /// A frame is dropped.
    Drop {
        /// The frame.
        item: T,
        /// The part of its time that no kept frame covers; `None` where there is none.
        gap: Option<Span>,
        /// It should have been kept, but cannot be decoded: the key frame before it is gone.
        lost: bool,
    },
    /// Something other than a frame, at its position between the frames.
    Pass(T),
}

#[derive(Debug, Clone)]
struct Entry<T> {
    frame: Option<FrameInfo>,
    /// [`Gate::elapsed`] when it came.
    elapsed: Duration,
    item: T,
}

/// What the frames after the front one in the same group of pictures imply for it.
struct GroupState {
    /// One of them is to be kept.
    wanted: bool,
    /// The group is complete, and no event that is not known yet can reach back to any of them.
    settled: bool,
    /// Start of the next key frame, or else the end of the last frame in presentation order.
    end: Duration,
}

/// A step between two frames counts up to this for the hold of a frame, unless steps of this stream are longer.
const LONGEST_STEP: Duration = Duration::from_secs(1);

/// Holds frames back in decoding order and outputs, for every event, all from the key frame at or before its pre-roll to
/// the end of its post-roll. Anomalous frames that form no event are normal frames here.
///
/// One rule achieves this: a frame is kept when it, or a later frame in its group of pictures, is to be kept. So the kept
/// part of a group is always its front: it starts with a key frame and lacks no reference. Frames that are decoded after
/// one that is presented later are kept with it, so that no frame is missing in between. A frame is dropped only when
/// its group is complete and no event still to come can reach back to it. Leading frames (decoded after a key frame,
/// presented before it) count for the previous group too.
///
/// Push frames and verdicts, then take outputs until there is none:
///
/// ```text
/// add_verdict(verdict)*  push(frame)  while let Some(output) = next(policy)
/// ```
#[derive(Debug, Clone)]
pub struct Gate<T> {
    queue: VecDeque<Entry<T>>,
    bytes: u64,
    timeline: Timeline,
    filter: KeepFilter,
    finished: bool,
    /// The key frame of the group at the front was dropped.
    undecodable: bool,
    /// Start of the key frame that was kept last, if the frame before it was dropped.
    first_key: Option<Duration>,
    dropped_last: bool,
    kept_until: Duration,
    /// Start of the kept frame that is presented last.
    last_presented: Duration,
    newest: Duration,
    /// Time that passed while frames came: the sum of the steps between them, without gaps.
    elapsed: Duration,
    /// The last step between two frames.
    step: Duration,
    /// No later frame is presented before this, less `reorder`.
    floor: Duration,
    /// How far frames were presented before the floor so far.
    reorder: Duration,
    longest_hold: Duration,
    overflows: u64,
}

impl<T> Default for Gate<T> {
    fn default() -> Self {
        Gate {
            queue: VecDeque::new(),
            bytes: 0,
            timeline: Timeline::new(),
            filter: KeepFilter::new(),
            finished: false,
            undecodable: true,
            first_key: None,
            dropped_last: false,
            kept_until: Duration::ZERO,
            last_presented: Duration::ZERO,
            newest: Duration::ZERO,
            elapsed: Duration::ZERO,
            step: Duration::ZERO,
            floor: Duration::ZERO,
            reorder: Duration::ZERO,
            longest_hold: Duration::ZERO,
            overflows: 0,
        }
    }
}

impl<T> Gate<T> {
    /// An empty gate.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the verdict on a frame, which may be held, already output, or still to come.
    pub fn add_verdict(&mut self, verdict: &FrameVerdict) {
        self.timeline.add_verdict(verdict);
    }

    /// What is known of the stream by time.
    pub fn timeline_mut(&mut self) -> &mut Timeline {
        &mut self.timeline
    }

    /// Adds the next frame in decoding order.
    pub fn push(&mut self, frame: FrameInfo, item: T) {
        let start = frame.span.start;
        self.reorder = self.reorder.max(self.floor.saturating_sub(start));
        self.floor = self.floor.max(frame.decode.unwrap_or(frame.span.end));
        self.finished = false;
        let step = start.saturating_sub(self.newest);
        self.elapsed += step.min(LONGEST_STEP.max(self.step).max(frame.span.duration()));
        self.step = step;
        self.newest = self.newest.max(start);
        self.bytes += frame.bytes;
        self.queue.push_back(Entry {
            frame: Some(frame),
            elapsed: self.elapsed,
            item,
        });
    }

    /// Adds something other than a frame, which keeps its position.
    pub fn push_other(&mut self, item: T) {
        self.queue.push_back(Entry {
            frame: None,
            elapsed: self.elapsed,
            item,
        });
    }

    /// The newest item, while it is held.
    pub fn newest_mut(&mut self) -> Option<&mut T> {
        self.queue.back_mut().map(|entry| &mut entry.item)
    }

    /// No frame and no verdict will follow: [`Gate::next`] empties the gate. Frames without a label are kept.
    pub fn finish(&mut self) {
        self.finished = true;
        self.timeline.finish();
    }

    /// Takes the front item without a decision about it.
    pub fn discard(&mut self) -> Option<T> {
        let entry = self.queue.pop_front()?;
        self.bytes -= entry.frame.map_or(0, |frame| frame.bytes);
        Some(entry.item)
    }

    /// Clears everything, including the frames held, after a flush or a stop.
    pub fn restart(&mut self) {
        let mut timeline = std::mem::take(&mut self.timeline);
        timeline.restart();
        *self = Gate {
            timeline,
            longest_hold: self.longest_hold,
            ..Self::default()
        };
    }

    /// Clears all times when time goes back without a flush, after the frames held were output. The next frame can still
    /// depend on the last one.
    pub fn start_over(&mut self) {
        let (undecodable, dropped_last) = (self.undecodable, self.dropped_last);
        let mut filter = std::mem::take(&mut self.filter);
        filter.start_over();
        let mut timeline = std::mem::take(&mut self.timeline);
        timeline.start_over();
        self.restart();
        self.timeline = timeline;
        (self.undecodable, self.dropped_last) = (undecodable, dropped_last);
        self.filter = filter;
    }

    /// Bytes held back.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Frames held back.
    pub fn frames(&self) -> usize {
        self.queue.iter().filter(|entry| entry.frame.is_some()).count()
    }

    /// The longest time that any frame was held back so far, in stream time without gaps. Waiting for late verdicts does not
    /// count: how late they are can depend on the latency that this time leads to.
    pub fn longest_hold(&self) -> Duration {
        self.longest_hold
    }

    /// Number of times that the bound on bytes decided about a frame that should have been held for longer.
    pub fn overflows(&self) -> u64 {
        self.overflows
    }

    /// Whether `bytes` more do not fit while verdicts could still make room: better wait for these than push.
    pub fn should_wait(&self, policy: &GatePolicy, bytes: u64) -> bool {
        !policy.keep_all && self.bytes.saturating_add(bytes) > policy.max_bytes && !self.is_labelled()
    }

    /// Whether every frame held back is labelled.
    pub fn is_labelled(&self) -> bool {
        self.queue.is_empty() || self.timeline.is_labelled(self.newest)
    }

    /// The next output, if there can be one yet.
    pub fn next(&mut self, policy: &GatePolicy) -> Option<Output<T>> {
        let Some(frame) = self.queue.front()?.frame else {
            return self.queue.pop_front().map(|entry| Output::Pass(entry.item));
        };
        let decision = self.decide(policy, &frame);
        if decision.is_none() {
            self.longest_hold = self.longest_hold.max(self.hold());
        }
        let decision = decision?;
        let entry = self.queue.pop_front()?;
        self.bytes -= frame.bytes;
        self.timeline.prune(frame.span.start, policy.post_roll);
        Some(match decision {
            Decision::Keep { reason, resumes } => self.keep(&frame, entry.item, reason, resumes),
            Decision::Drop => self.drop(policy, &frame, entry.item),
        })
    }

    /// For how long the front frame is held, without the time for which verdicts are late.
    fn hold(&self) -> Duration {
        let is_labelled = |entry: &&Entry<T>| {
            let frame = entry.frame.as_ref();
            frame.is_some_and(|frame| self.timeline.is_labelled(frame.span.start))
        };
        let labelled = self.queue.iter().rev().find(is_labelled);
        match (labelled, self.queue.front()) {
            (Some(labelled), Some(front)) => labelled.elapsed.saturating_sub(front.elapsed),
            _ => Duration::ZERO,
        }
    }

    /// The decision about the front frame; `None` while it must be held.
    fn decide(&mut self, policy: &GatePolicy, frame: &FrameInfo) -> Option<Decision> {
        if !policy.keep_all && (!frame.key && self.undecodable || self.lacks_previous_group(frame)) {
            return Some(Decision::Drop);
        }
        if let Some(reason) = self.reason(policy, frame.span.start) {
            return Some(self.keep_for(frame.span, reason));
        }
        let group = self.group(policy, frame);
        let fills_hole = !frame.key && frame.span.start < self.last_presented;
        if group.wanted || fills_hole {
            return Some(self.keep_for(frame.span, KeepReason::Reference));
        }
        let until_next_chance = Span {
            end: group.end,
            ..frame.span
        };
        if frame.key && self.filter.is_due(until_next_chance, policy.keepalive_interval) {
            return Some(
                self.filter
                    .decide(until_next_chance, None, policy.keepalive_interval),
            );
        }
        let full = self.bytes > policy.max_bytes;
        if full && !self.timeline.is_labelled(frame.span.start) && self.timeline.is_keeping() {
            return Some(self.keep_for(frame.span, KeepReason::Event));
        }
        self.overflows += u64::from(full && !group.settled);
        (full || group.settled).then(|| self.filter.decide(frame.span, None, Duration::ZERO))
    }

    fn keep_for(&mut self, span: Span, reason: KeepReason) -> Decision {
        self.filter.decide(span, Some(reason), Duration::ZERO)
    }

    /// Whether the frame is presented before the key frame it follows, and the previous group, which it needs too, was
    /// dropped.
    fn lacks_previous_group(&self, frame: &FrameInfo) -> bool {
        !frame.key && !self.undecodable && self.first_key.is_some_and(|key| frame.span.start < key)
    }

    fn reason(&self, policy: &GatePolicy, at: Duration) -> Option<KeepReason> {
        let reason = self.timeline.reason(at, policy.pre_roll, policy.post_roll);
        reason.or(policy.keep_all.then_some(KeepReason::NotDropping))
    }

    /// The state of the group of pictures of the front frame.
    fn group(&self, policy: &GatePolicy, front: &FrameInfo) -> GroupState {
        // Verdicts on encoded frames come in decoding order: an earlier frame may still begin an event.
        let earliest_new_event = self
            .timeline
            .earliest_new_event()
            .min(self.floor.saturating_sub(self.reorder));
        let is_settled = |at: Duration| {
            self.finished
                || self.timeline.is_labelled(at) && at.saturating_add(policy.pre_roll) < earliest_new_event
        };
        let mut group = GroupState {
            wanted: false,
            settled: is_settled(front.span.start),
            end: front.span.end,
        };
        if front.intra {
            return group;
        }
        let mut complete = self.finished;
        let mut next_key = None;
        for frame in self.queue.iter().skip(1).filter_map(|entry| entry.frame) {
            let at = frame.span.start;
            match next_key {
                None if frame.key => {
                    next_key = Some(at);
                    continue;
                }
                Some(key) if frame.key || at > key => {
                    complete = true;
                    break;
                }
                _ => {}
            }
            group.end = group.end.max(frame.span.end);
            group.wanted |= self.reason(policy, at).is_some();
            group.settled &= is_settled(at);
        }
        group.end = next_key.unwrap_or(group.end);
        group.settled &= complete;
        group
    }

    fn keep(&mut self, frame: &FrameInfo, item: T, reason: KeepReason, resumes: bool) -> Output<T> {
        let discont = std::mem::take(&mut self.dropped_last);
        if frame.key {
            self.undecodable = false;
            self.first_key = discont.then_some(frame.span.start);
        }
        self.kept_until = self.kept_until.max(frame.span.end);
        self.last_presented = self.last_presented.max(frame.span.start);
        Output::Keep {
            item,
            reason,
            discont,
            resumes,
        }
    }

    fn drop(&mut self, policy: &GatePolicy, frame: &FrameInfo, item: T) -> Output<T> {
        let lost = self.reason(policy, frame.span.start).is_some();
        if !self.lacks_previous_group(frame) {
            // Frames that depend on a dropped one are of no use until the next key frame.
            self.undecodable = true;
            self.dropped_last = true;
        }
        let span = Span {
            start: frame.span.start.max(self.kept_until),
            ..frame.span
        };
        Output::Drop {
            item,
            gap: (span.start < span.end).then_some(span),
            lost,
        }
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod props;

#[cfg(test)]
mod event_props;
