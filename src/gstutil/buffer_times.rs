//! Running times of buffers, as [`crate::events`] needs them.

use std::time::Duration;

use gst::prelude::*;

use crate::events::{FrameClock, Span};

type Segment = gst::FormattedSegment<gst::ClockTime>;

/// A decoding time that goes back by more than this is a new start.
const JUMP: Duration = Duration::from_secs(1);

/// Assumed maximum reordering of frames without decoding times.
const REORDER: Duration = Duration::from_millis(200);

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
    last_decode: Option<Duration>,
}

impl BufferTimes {
    /// Sets a new segment; `false` when its format is not TIME.
    pub(crate) fn set_segment(&mut self, segment: &gst::Segment) -> bool {
        let Some(segment) = segment.downcast_ref::<gst::ClockTime>() else {
            return false;
        };
        if *segment != self.segment {
            let old = std::mem::replace(&mut self.segment, segment.clone());
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
        if !self.is_of_previous_segment(buffer) {
            self.previous = None;
        }
        let segment = self.previous.as_ref().unwrap_or(&self.segment);
        let duration = self.duration(buffer);
        let decode = buffer.dts().and_then(|dts| running_time(segment, dts));
        let presented = buffer
            .pts()
            .or(buffer.dts())
            .and_then(|position| running_span(segment, position, duration));
        let stretched = duration.map(|duration| stretched(segment, duration));
        let mut span = match presented {
            Some((start, duration)) => self.clock.span(Some(start), Some(duration)),
            None => self.clock.span(None, stretched),
        };
        if let Some(decode) = decode {
            // Frames of long duration are reordered by more than a second; decoding times only grow.
            span.jump = self
                .last_decode
                .is_some_and(|last| decode.saturating_add(JUMP) < last);
            self.last_decode = Some(decode);
        }
        BufferTime { span, decode }
    }

    /// The time that a GAP event covers.
    pub(crate) fn gap(&self, start: gst::ClockTime, duration: Option<gst::ClockTime>) -> Option<Span> {
        let (start, duration) = running_span(&self.segment, start, duration)?;
        Some(Span::new(start, duration))
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
        let expected = self.last_decode.or_else(|| self.clock.last_end());
        let (Some(previous), Some(expected), Some(position)) =
            (&self.previous, expected, buffer.dts_or_pts())
        else {
            return false;
        };
        let time = |segment| running_time(segment, position);
        let continues = |time: Duration| time.abs_diff(expected) <= JUMP;
        // Decoding times only grow; frames without them may be reordered.
        let follows = |time: Duration| time.saturating_add(REORDER) >= expected && continues(time);
        time(previous).is_some_and(follows) && !time(&self.segment).is_some_and(continues)
    }
}

fn running_time(segment: &Segment, position: gst::ClockTime) -> Option<Duration> {
    let running_time = segment.to_running_time_full(position)?;
    Some(Duration::from(running_time.positive().unwrap_or_default()))
}

/// Start and duration in running time, also in a segment of negative rate.
fn running_span(
    segment: &Segment,
    position: gst::ClockTime,
    duration: Option<gst::ClockTime>,
) -> Option<(Duration, Duration)> {
    let length = stretched(segment, duration.unwrap_or_default());
    let time = running_time(segment, position)?;
    let start = if segment.rate() < 0.0 {
        time.saturating_sub(length)
    } else {
        time
    };
    Some((start, length))
}

fn stretched(segment: &Segment, duration: gst::ClockTime) -> Duration {
    Duration::from(duration).div_f64(segment.rate().abs())
}

#[cfg(test)]
mod tests {
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
        assert!(times.next(&buffer(Some(100), Some(100), Some(2000))).span.jump);
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
