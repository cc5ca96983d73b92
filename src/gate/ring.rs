//! The newest frames, held back until it is known whether an event follows: what `vaeanomalygate` does.

use std::{collections::VecDeque, time::Duration};

use super::{Mark, Outlet, Reason, Span, Timeline, Verdict};

/// What a gate keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GatePolicy {
    /// Frames that start at most this long before an event are kept.
    pub pre_roll: Duration,
    /// Frames that start less than this after the end of an event's last anomalous frame are kept.
    pub post_roll: Duration,
    /// While dropping, a key frame passes this often; 0 = none. See [`Outlet::decide`].
    pub keepalive_interval: Duration,
    /// Most bytes held back.
    pub max_bytes: u64,
    /// Keep everything.
    pub keep_all: bool,
}

/// What a gate must know of a frame; the payload it never looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameInfo {
    /// When it is on the screen.
    pub span: Span,
    /// When it is decoded, where that is known: no frame after it is shown earlier.
    pub decode: Option<Duration>,
    /// Its size.
    pub bytes: u64,
    /// It can be decoded without any frame before it.
    pub key: bool,
    /// Every frame of this stream can be: raw video, JPEG.
    pub intra: bool,
}

/// What leaves a gate, in the order it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output<T> {
    /// A frame goes on.
    Keep {
        /// The frame.
        item: T,
        /// Why.
        reason: Reason,
        /// The frame before it was dropped.
        discont: bool,
        /// A clip starts here: more than a keep-alive follows after dropped frames.
        resumes: bool,
    },
    /// A frame goes no further.
    Drop {
        /// The frame.
        item: T,
        /// The part of its time that no frame that passed covers; `None` when there is none.
        gap: Option<Span>,
        /// It should have been kept, but it cannot be decoded: the key frame before it was not there any more.
        lost: bool,
    },
    /// Something that is no frame, at its place between the frames.
    Pass(T),
}

#[derive(Debug, Clone)]
struct Entry<T> {
    frame: Option<FrameInfo>,
    item: T,
}

/// What the frames after the front one in the same group of pictures say about it.
struct Group {
    /// One of them is to be kept.
    wanted: bool,
    /// None of them can be claimed by an event that is not known yet, and no more will come.
    settled: bool,
    /// Start of the key frame after them, or else the end of the last one shown.
    end: Duration,
}

/// Holds frames back in decoding order and gives out, for every event, all from the key frame at or before its
/// pre-roll to the end of its post-roll. Anomalous frames that make no event are normal frames here.
///
/// One rule makes this: a frame goes on when it, or a frame after it in its group of pictures, is to be kept. So what
/// goes on is always the front part of a group: it starts with a key frame and misses no reference. Frames sent after
/// one that is shown later go with it, so that no picture is missing in between. A frame is dropped only when its
/// group is complete and no event still to come can reach back to it. Pictures that lead a key frame (shown before it,
/// sent after it) count for the group before it too.
///
/// Push frames and marks, then take outputs until there is none:
///
/// ```text
/// note(mark)*  push(frame)  while let Some(output) = next(policy)
/// ```
#[derive(Debug, Clone)]
pub struct Gate<T> {
    queue: VecDeque<Entry<T>>,
    bytes: u64,
    timeline: Timeline,
    outlet: Outlet,
    finished: bool,
    /// The group at the front has lost its key frame.
    broken: bool,
    /// Start of the key frame that passed last, when the frame before it did not pass.
    fresh_key: Option<Duration>,
    dropped_last: bool,
    kept_until: Duration,
    /// Start of the frame that passed and is shown last.
    last_shown: Duration,
    newest: Duration,
    /// No frame to come is shown before this, less `reorder`.
    floor: Duration,
    /// How far frames were shown before what was thought to be the floor.
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
            outlet: Outlet::new(),
            finished: false,
            broken: true,
            fresh_key: None,
            dropped_last: false,
            kept_until: Duration::ZERO,
            last_shown: Duration::ZERO,
            newest: Duration::ZERO,
            floor: Duration::ZERO,
            reorder: Duration::ZERO,
            longest_hold: Duration::ZERO,
            overflows: 0,
        }
    }
}

impl<T> Gate<T> {
    /// An empty gate that knows nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes what was found out about a frame, which may be one that is held, has passed or is still to come.
    pub fn note(&mut self, mark: &Mark) {
        self.timeline.note(mark);
    }

    /// What is known of the stream, to tell more about it.
    pub fn timeline_mut(&mut self) -> &mut Timeline {
        &mut self.timeline
    }

    /// Takes the next frame in decoding order.
    pub fn push(&mut self, frame: FrameInfo, item: T) {
        let start = frame.span.start;
        self.reorder = self.reorder.max(self.floor.saturating_sub(start));
        self.floor = self.floor.max(frame.decode.unwrap_or(frame.span.end));
        self.newest = self.newest.max(start);
        self.bytes += frame.bytes;
        self.queue.push_back(Entry {
            frame: Some(frame),
            item,
        });
    }

    /// Takes something that is no frame and keeps its place.
    pub fn push_other(&mut self, item: T) {
        self.queue.push_back(Entry { frame: None, item });
    }

    /// The item pushed last, while it is held.
    pub fn newest_mut(&mut self) -> Option<&mut T> {
        self.queue.back_mut().map(|entry| &mut entry.item)
    }

    /// No frame and no mark will follow: [`Gate::next`] empties the gate.
    pub fn finish(&mut self) {
        self.finished = true;
        self.timeline.finish();
    }

    /// Forgets everything, also what it holds: after a flush or a stop.
    pub fn restart(&mut self) {
        let mut timeline = std::mem::take(&mut self.timeline);
        timeline.restart();
        *self = Gate {
            timeline,
            longest_hold: self.longest_hold,
            ..Self::default()
        };
    }

    /// Bytes held back.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Frames held back.
    pub fn frames(&self) -> usize {
        self.queue.iter().filter(|entry| entry.frame.is_some()).count()
    }

    /// The longest any frame was held back so far, in stream time.
    pub fn longest_hold(&self) -> Duration {
        self.longest_hold
    }

    /// How often the bound on bytes cost a frame that had to be held longer.
    pub fn overflows(&self) -> u64 {
        self.overflows
    }

    /// Whether `bytes` more do not fit while marks could still make room: better wait for these than push.
    pub fn waits_for_marks(&self, policy: &GatePolicy, bytes: u64) -> bool {
        !policy.keep_all && self.bytes.saturating_add(bytes) > policy.max_bytes && !self.is_judged()
    }

    /// Whether every frame held back was judged.
    pub fn is_judged(&self) -> bool {
        self.queue.is_empty() || self.timeline.is_judged(self.newest)
    }

    /// What leaves next, if anything can.
    pub fn next(&mut self, policy: &GatePolicy) -> Option<Output<T>> {
        let Some(frame) = self.queue.front()?.frame else {
            return self.queue.pop_front().map(|entry| Output::Pass(entry.item));
        };
        let verdict = self.judge(policy, &frame);
        if verdict.is_none() {
            self.longest_hold = self
                .longest_hold
                .max(self.newest.saturating_sub(frame.span.start));
        }
        let verdict = verdict?;
        let entry = self.queue.pop_front()?;
        self.bytes -= frame.bytes;
        self.timeline.forget(frame.span.start, policy.post_roll);
        Some(match verdict {
            Verdict::Keep { reason, resumes } => self.keep(&frame, entry.item, reason, resumes),
            Verdict::Drop => self.drop(policy, &frame, entry.item),
        })
    }

    fn judge(&mut self, policy: &GatePolicy, frame: &FrameInfo) -> Option<Verdict> {
        if !frame.key && self.broken || self.leads_into_nothing(frame) {
            return Some(Verdict::Drop);
        }
        if let Some(reason) = self.reason(policy, frame.span.start) {
            return Some(self.outlet.decide(frame.span, Some(reason), Duration::ZERO));
        }
        let group = self.group(policy, frame);
        let fills_hole = !frame.key && frame.span.start < self.last_shown;
        if group.wanted || fills_hole {
            return Some(
                self.outlet
                    .decide(frame.span, Some(Reason::Reference), Duration::ZERO),
            );
        }
        let until_next_chance = Span {
            end: group.end,
            ..frame.span
        };
        if frame.key && self.outlet.is_due(until_next_chance, policy.keepalive_interval) {
            return Some(
                self.outlet
                    .decide(until_next_chance, None, policy.keepalive_interval),
            );
        }
        let overfull = self.bytes > policy.max_bytes;
        if overfull && !self.timeline.is_judged(frame.span.start) && self.timeline.is_keeping() {
            return Some(
                self.outlet
                    .decide(frame.span, Some(Reason::Event), Duration::ZERO),
            );
        }
        self.overflows += u64::from(overfull && !group.settled);
        (overfull || group.settled).then(|| self.outlet.decide(frame.span, None, Duration::ZERO))
    }

    /// Whether the frame is shown before the key frame it follows, and the group it needs besides did not pass.
    fn leads_into_nothing(&self, frame: &FrameInfo) -> bool {
        !frame.key && !self.broken && self.fresh_key.is_some_and(|key| frame.span.start < key)
    }

    fn reason(&self, policy: &GatePolicy, at: Duration) -> Option<Reason> {
        let reason = self.timeline.reason(at, policy.pre_roll, policy.post_roll);
        reason.or(policy.keep_all.then_some(Reason::NotDropping))
    }

    /// Looks at the frames in the group of the front one, `front` included.
    fn group(&self, policy: &GatePolicy, front: &FrameInfo) -> Group {
        // Marks on encoded frames come in decoding order: an earlier frame may still begin an event.
        let out_of_reach = self
            .timeline
            .frontier()
            .min(self.floor.saturating_sub(self.reorder));
        let is_settled = |at: Duration| {
            self.finished || self.timeline.is_judged(at) && at.saturating_add(policy.pre_roll) < out_of_reach
        };
        let mut group = Group {
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

    fn keep(&mut self, frame: &FrameInfo, item: T, reason: Reason, resumes: bool) -> Output<T> {
        let discont = std::mem::take(&mut self.dropped_last);
        if frame.key {
            self.broken = false;
            self.fresh_key = discont.then_some(frame.span.start);
        }
        self.kept_until = self.kept_until.max(frame.span.end);
        self.last_shown = self.last_shown.max(frame.span.start);
        Output::Keep {
            item,
            reason,
            discont,
            resumes,
        }
    }

    fn drop(&mut self, policy: &GatePolicy, frame: &FrameInfo, item: T) -> Output<T> {
        let lost = self.reason(policy, frame.span.start).is_some();
        if !self.leads_into_nothing(frame) {
            // What depends on a dropped frame is of no use until the next key frame.
            self.broken = true;
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
#[path = "ring_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "ring_props.rs"]
mod props;

#[cfg(test)]
#[path = "told_props.rs"]
mod told;
