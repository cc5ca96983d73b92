//! Running times of buffers, as [`crate::events`] needs them.

use std::time::Duration;

use gst::prelude::*;

use crate::events::{FrameClock, Span};

type Segment = gst::FormattedSegment<gst::ClockTime>;

/// A time this close to the end of the last frame continues the stream.
const CONTINUES: Duration = Duration::from_secs(1);

/// Assumed maximum reordering of frames without decoding times.
const REORDER: Duration = Duration::from_millis(200);

/// Maximum plausible time from decoding to presentation, and the same in frames.
const MAX_REORDER: Duration = Duration::from_secs(10);
const REORDER_FRAMES: u32 = 16;

/// When a buffer's frame is presented and decoded, in running time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct BufferTime {
    /// When the frame is presented.
    pub(crate) span: Span,
    /// When the frame is decoded, where that is known.
    pub(crate) decode: Option<Duration>,
}

/// Follows a stream's segment and frame rate, and converts every buffer's times to running time.
///
/// Encoders forward a new segment at once, and after it the frames that they still hold. Such a buffer continues the
/// stream in the previous segment, but not in the new one; that is how it is recognised.
#[derive(Debug, Default)]
pub(crate) struct BufferTimes {
    clock: FrameClock,
    segment: Segment,
    /// The segment before, until the first buffer of the current one.
    previous: Option<Segment>,
    frame_duration: Option<gst::ClockTime>,
    decode_clock: FrameClock,
    /// From decoding to presentation of the last frame whose times are plausible.
    delay: Option<Duration>,
}

impl BufferTimes {
    /// Sets a new segment; `false` when its format is not TIME.
    pub(crate) fn set_segment(&mut self, segment: &gst::Segment) -> bool {
        let Some(segment) = segment.downcast_ref::<gst::ClockTime>() else {
            return false;
        };
        let mut segment = segment.clone();
        // Elements track their position in the segment there.
        segment.set_position(self.segment.position());
        if segment != self.segment {
            let old = std::mem::replace(&mut self.segment, segment);
            self.previous.get_or_insert(old);
        }
        true
    }

    /// Sets the frame rate of new caps.
    pub(crate) fn set_caps(&mut self, caps: &gst::CapsRef) {
        let rate = caps
            .structure(0)
            .and_then(|fields| fields.get::<gst::Fraction>("framerate").ok());
        self.set_frame_rate(rate);
    }

    /// Sets a new frame rate; without one, or with 0/1, only buffers state a duration.
    pub(crate) fn set_frame_rate(&mut self, rate: Option<gst::Fraction>) {
        self.frame_duration = rate.filter(|rate| rate.numer() > 0).and_then(|rate| {
            gst::ClockTime::SECOND.mul_div_round(
                u64::try_from(rate.denom()).ok()?,
                u64::try_from(rate.numer()).ok()?,
            )
        });
    }

    /// Frame duration at the frame rate, where there is one.
    pub(crate) fn frame_duration(&self) -> Option<gst::ClockTime> {
        self.frame_duration
    }

    /// Duration of a buffer's frame in the segment: the buffer's own, or else that of the frame rate.
    pub(crate) fn duration(&self, buffer: &gst::BufferRef) -> Option<gst::ClockTime> {
        buffer.duration().or(self.frame_duration)
    }

    /// The times of the next buffer.
    pub(crate) fn next(&mut self, buffer: &gst::BufferRef) -> BufferTime {
        if !self.is_of_previous_segment(buffer) && self.previous.take().is_some() {
            self.clock.start_segment();
            self.decode_clock.start_segment();
        }
        let segment = self.previous.as_ref().unwrap_or(&self.segment);
        let duration = self.duration(buffer);
        let length = duration.map(|duration| stretched(segment, duration));
        let start = buffer.pts().and_then(|pts| start_time(segment, pts, duration));
        let Some(decode) = buffer.dts().and_then(|dts| running_time(segment, dts)) else {
            return BufferTime {
                span: self.clock.span(start, length),
                decode: None,
            };
        };
        // Frames of long duration are reordered by more than a second; decoding times only grow.
        let decoded = self.decode_clock.span(Some(decode), length);
        let limit = MAX_REORDER.max(REORDER_FRAMES * length.unwrap_or_default());
        let delay = start
            .map(|start| start.saturating_sub(decode))
            .filter(|delay| !self.decode_clock.is_suspect() && *delay <= limit);
        let delay = match (start, delay) {
            (None, _) => Duration::ZERO,
            (_, Some(delay)) => *self.delay.insert(delay),
            (_, None) => self.delay.unwrap_or_default(),
        };
        let span = Span {
            jump: decoded.jump,
            ..Span::new(decoded.start.saturating_add(delay), length.unwrap_or_default())
        };
        self.clock.set(span);
        BufferTime {
            span,
            decode: Some(decoded.start),
        }
    }

    /// Whether the last buffer had implausible times and got the expected ones.
    pub(crate) fn is_suspect(&self) -> bool {
        self.clock.is_suspect() || self.decode_clock.is_suspect()
    }

    /// The time that a GAP event covers.
    pub(crate) fn gap(&mut self, start: gst::ClockTime, duration: Option<gst::ClockTime>) -> Option<Span> {
        let length = stretched(&self.segment, duration.unwrap_or_default());
        let span = Span::new(start_time(&self.segment, start, duration)?, length);
        self.clock.skip(span);
        self.decode_clock.skip(span);
        Some(span)
    }

    /// The position in the segment at this running time.
    pub(crate) fn position(&self, running_time: Duration) -> Option<gst::ClockTime> {
        let running_time = gst::ClockTime::try_from(running_time).ok()?;
        self.segment.position_from_running_time(running_time)
    }

    /// Clears the time base after a flush.
    pub(crate) fn restart(&mut self) {
        *self = BufferTimes {
            frame_duration: self.frame_duration,
            ..Self::default()
        };
    }

    fn is_of_previous_segment(&self, buffer: &gst::BufferRef) -> bool {
        let expected = self.decode_clock.last_end().or_else(|| self.clock.last_end());
        let (Some(previous), Some(expected), Some(position)) =
            (&self.previous, expected, buffer.dts_or_pts())
        else {
            return false;
        };
        let time = |segment| running_time(segment, position);
        let continues = |time: Duration| time.abs_diff(expected) <= CONTINUES;
        // Decoding times only grow; frames without them may be reordered.
        let follows = |time: Duration| time.saturating_add(REORDER) >= expected && continues(time);
        time(previous).is_some_and(follows) && !time(&self.segment).is_some_and(continues)
    }
}

fn running_time(segment: &Segment, position: gst::ClockTime) -> Option<Duration> {
    if segment.rate() < 0.0 && segment.stop().or(segment.duration()).is_none() {
        // Running time counts back from an end that is not known.
        return None;
    }
    let running_time = segment.to_running_time_full(position)?;
    Some(Duration::from(running_time.positive().unwrap_or_default()))
}

/// Start of a frame in running time, also in a segment of negative rate.
fn start_time(
    segment: &Segment,
    position: gst::ClockTime,
    duration: Option<gst::ClockTime>,
) -> Option<Duration> {
    let time = running_time(segment, position)?;
    if segment.rate() < 0.0 {
        Some(time.saturating_sub(stretched(segment, duration.unwrap_or_default())))
    } else {
        Some(time)
    }
}

fn stretched(segment: &Segment, duration: gst::ClockTime) -> Duration {
    Duration::from(duration).div_f64(segment.rate().abs())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    use gst::glib;

    use super::*;

    fn buffer(pts: Option<u64>, dts: Option<u64>, duration: Option<u64>) -> gst::Buffer {
        let mut buffer = gst::Buffer::new();
        let fields = buffer.get_mut().expect("a new buffer");
        fields.set_pts(pts.map(gst::ClockTime::from_mseconds));
        fields.set_dts(dts.map(gst::ClockTime::from_mseconds));
        fields.set_duration(duration.map(gst::ClockTime::from_mseconds));
        buffer
    }

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn times(change: impl FnOnce(&mut Segment)) -> BufferTimes {
        gst::init().expect("GStreamer starts");
        let mut segment = Segment::default();
        change(&mut segment);
        let mut times = BufferTimes::default();
        assert!(times.set_segment(segment.upcast_ref()));
        times
    }

    #[test]
    fn segments_shift_and_stretch() {
        let mut times = times(|segment| {
            segment.set_start(gst::ClockTime::from_seconds(10));
            segment.set_base(gst::ClockTime::from_seconds(3));
            segment.set_rate(2.0);
        });
        let span = times.next(&buffer(Some(12_000), None, Some(40))).span;
        assert_eq!((span.start, span.end), (ms(4000), ms(4020)));
        assert_eq!(times.position(ms(4000)), Some(gst::ClockTime::from_seconds(12)));
    }

    #[test]
    fn frames_of_a_reverse_segment_start_at_the_end_of_their_buffer() {
        let mut times = times(|segment| {
            segment.set_start(gst::ClockTime::ZERO);
            segment.set_stop(gst::ClockTime::from_seconds(10));
            segment.set_rate(-1.0);
        });
        let span = times.next(&buffer(Some(9_000), None, Some(1000))).span;
        assert_eq!((span.start, span.end), (ms(0), ms(1000)));
    }

    /// GStreamer cannot compute times then, and its warnings would end an application that makes them fatal.
    #[test]
    fn a_reverse_segment_without_an_end_is_no_programming_error() {
        let warnings = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&warnings);
        let this = std::thread::current().id();
        let handler = glib::log_set_handler(
            Some("GStreamer"),
            glib::LogLevels::LEVEL_CRITICAL | glib::LogLevels::LEVEL_WARNING,
            false,
            false,
            move |_, _, _| {
                count.fetch_add(u64::from(std::thread::current().id() == this), Relaxed);
            },
        );
        let mut times = times(|segment| segment.set_rate(-1.0));
        for _ in 0..3 {
            let span = times.next(&buffer(Some(9_000), Some(9_000), Some(1000))).span;
            times.position(span.start);
        }
        times.gap(gst::ClockTime::from_seconds(8), None);
        glib::log_remove_handler(Some("GStreamer"), handler);
        assert_eq!(warnings.load(Relaxed), 0);
    }

    #[test]
    fn the_frame_rate_replaces_missing_durations() {
        let mut times = times(|_| ());
        let caps = gst::Caps::builder("video/x-raw")
            .field("framerate", gst::Fraction::new(25, 1))
            .build();
        times.set_caps(&caps);
        assert_eq!(
            times.next(&buffer(Some(1000), None, None)).span,
            Span::new(ms(1000), ms(40))
        );
        assert_eq!(
            times.next(&buffer(None, None, None)).span,
            Span::new(ms(1040), ms(40))
        );
    }

    #[test]
    fn reordered_frames_of_a_slow_stream_do_not_jump() {
        let mut times = times(|_| ());
        assert!(!times.next(&buffer(Some(9000), Some(1000), Some(2000))).span.jump);
        assert!(!times.next(&buffer(Some(3000), Some(3000), Some(2000))).span.jump);
        assert!(!times.next(&buffer(Some(100), Some(100), Some(2000))).span.jump);
        assert!(!times.next(&buffer(Some(2100), Some(2100), Some(2000))).span.jump);
        assert!(times.next(&buffer(Some(4100), Some(4100), Some(2000))).span.jump);
    }

    #[test]
    fn one_frame_with_wrong_times_gets_the_expected_ones() {
        for wrong in [
            (0, 0),
            (36_000_000, 36_000_000),
            (36_000_000, 5200),
            (5400, 36_000_000),
        ] {
            let mut times = times(|_| ());
            for index in 0..2 {
                times.next(&buffer(
                    Some(5200 + 100 * index),
                    Some(5000 + 100 * index),
                    Some(100),
                ));
            }
            let outlier = times.next(&buffer(Some(wrong.0), Some(wrong.1), Some(100)));
            assert_eq!(outlier.decode, Some(ms(5200)), "{wrong:?}");
            assert_eq!(outlier.span, Span::new(ms(5400), ms(100)), "{wrong:?}");
            let next = times.next(&buffer(Some(5500), Some(5300), Some(100)));
            assert_eq!(
                (next.span.start, next.decode),
                (ms(5500), Some(ms(5300))),
                "{wrong:?}"
            );
        }
    }

    #[test]
    fn a_segment_with_another_position_is_the_same() {
        let mut times = times(|_| ());
        for index in 0..3 {
            times.next(&buffer(Some(100 * index), None, Some(100)));
            let mut same = Segment::default();
            same.set_position(gst::ClockTime::from_mseconds(100 * index));
            times.set_segment(same.upcast_ref());
        }
        times.next(&buffer(Some(36_000_000), None, Some(100)));
        assert!(times.is_suspect());
    }

    #[test]
    fn frames_of_the_previous_segment_may_follow_the_new_one() {
        let mut times = times(|_| ());
        for index in 0..10 {
            times.next(&buffer(Some(100 * index), Some(100 * index), Some(100)));
        }
        let mut next = Segment::default();
        next.set_base(gst::ClockTime::from_seconds(10));
        assert!(times.set_segment(next.upcast_ref()));
        let old = times.next(&buffer(Some(1000), Some(1000), Some(100)));
        assert_eq!(
            (old.span, old.decode),
            (Span::new(ms(1000), ms(100)), Some(ms(1000)))
        );
        let new = times.next(&buffer(Some(0), Some(0), Some(100)));
        assert_eq!(
            (new.span, new.decode),
            (Span::new(ms(10_000), ms(100)), Some(ms(10_000)))
        );
        let new = times.next(&buffer(Some(1100), Some(1100), Some(100))).span;
        assert_eq!(new.start, ms(11_100), "the previous segment is over");
    }

    #[test]
    fn segments_in_other_formats_are_rejected() {
        gst::init().expect("GStreamer starts");
        let bytes = gst::FormattedSegment::<gst::format::Bytes>::new();
        assert!(!BufferTimes::default().set_segment(bytes.upcast_ref()));
    }
}
