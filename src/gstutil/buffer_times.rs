//! Running times of buffers, as [`crate::events`] needs them.

use std::time::Duration;

use gst::prelude::*;

use crate::events::{FrameClock, Span};

type Segment = gst::FormattedSegment<gst::ClockTime>;

/// A decoding time that goes back by more than this is a new start.
const JUMP: Duration = Duration::from_secs(1);

/// Follows a stream's segment and frame rate, and converts every buffer's times to running time.
#[derive(Debug, Default)]
pub(crate) struct BufferTimes {
    clock: FrameClock,
    segment: Segment,
    frame_duration: Option<gst::ClockTime>,
    last_decode: Option<Duration>,
}

impl BufferTimes {
    /// Sets a new segment; `false` when its format is not TIME.
    pub(crate) fn set_segment(&mut self, segment: &gst::Segment) -> bool {
        let Some(segment) = segment.downcast_ref::<gst::ClockTime>() else {
            return false;
        };
        self.segment = segment.clone();
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

    /// When the buffer's frame is presented.
    pub(crate) fn span(&mut self, buffer: &gst::BufferRef) -> Span {
        let duration = self.duration(buffer);
        let position = buffer.pts().or(buffer.dts());
        let time = position.and_then(|position| self.running_time(position, duration));
        let mut span = match time {
            Some((at, duration)) => self.clock.span(Some(at), Some(duration)),
            None => self
                .clock
                .span(None, duration.map(|duration| self.stretched(duration))),
        };
        if let Some(decode) = self.decode(buffer) {
            // Frames of long duration are reordered by more than a second; decoding times only grow.
            span.jump = self
                .last_decode
                .is_some_and(|last| decode.saturating_add(JUMP) < last);
            self.last_decode = Some(decode);
        }
        span
    }

    /// Whether this buffer would set [`Span::jump`].
    pub(crate) fn would_jump(&self, buffer: &gst::BufferRef) -> bool {
        match (self.decode(buffer), self.last_decode) {
            (Some(decode), Some(last)) => decode.saturating_add(JUMP) < last,
            _ => {
                let time = buffer.pts().and_then(|pts| self.running_time(pts, None));
                time.is_some_and(|(at, _)| self.clock.would_jump(at))
            }
        }
    }

    /// When the buffer's frame is decoded, where that is known.
    pub(crate) fn decode(&self, buffer: &gst::BufferRef) -> Option<Duration> {
        let running_time = self.segment.to_running_time_full(buffer.dts()?)?;
        Some(not_before_zero(running_time))
    }

    /// The time that a GAP event covers.
    pub(crate) fn gap(&self, start: gst::ClockTime, duration: Option<gst::ClockTime>) -> Option<Span> {
        let (start, duration) = self.running_time(start, duration)?;
        Some(Span::new(start, duration))
    }

    /// The position in the segment at this running time.
    pub(crate) fn position(&self, running_time: Duration) -> Option<gst::ClockTime> {
        let running_time = gst::ClockTime::try_from(running_time).ok()?;
        self.segment.position_from_running_time(running_time)
    }

    /// Clears the time base after a flush.
    pub(crate) fn restart(&mut self) {
        self.clock.restart();
        self.last_decode = None;
        self.segment = Segment::default();
    }

    fn stretched(&self, duration: gst::ClockTime) -> Duration {
        Duration::from(duration).div_f64(self.segment.rate().abs())
    }

    /// Start and duration in running time, also when the segment runs backwards.
    fn running_time(
        &self,
        position: gst::ClockTime,
        duration: Option<gst::ClockTime>,
    ) -> Option<(Duration, Duration)> {
        let length = self.stretched(duration.unwrap_or_default());
        let running_time = not_before_zero(self.segment.to_running_time_full(position)?);
        let backwards = self.segment.rate() < 0.0;
        Some((
            if backwards {
                running_time.saturating_sub(length)
            } else {
                running_time
            },
            length,
        ))
    }
}

fn not_before_zero(running_time: gst::Signed<gst::ClockTime>) -> Duration {
    Duration::from(running_time.positive().unwrap_or_default())
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
        let span = times.span(&buffer(Some(12_000), None, Some(40)));
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
        let span = times.span(&buffer(Some(9_000), None, Some(1000)));
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
            times.span(&buffer(Some(1000), None, None)),
            Span::new(ms(1000), ms(40))
        );
        assert_eq!(times.span(&buffer(None, None, None)), Span::new(ms(1040), ms(40)));
    }

    #[test]
    fn reordered_frames_of_a_slow_stream_do_not_jump() {
        let mut times = times(|_| ());
        assert!(!times.span(&buffer(Some(9000), Some(1000), Some(2000))).jump);
        assert!(!times.span(&buffer(Some(3000), Some(3000), Some(2000))).jump);
        assert!(times.span(&buffer(Some(100), Some(100), Some(2000))).jump);
    }

    #[test]
    fn segments_in_other_formats_are_rejected() {
        gst::init().expect("GStreamer starts");
        let bytes = gst::FormattedSegment::<gst::format::Bytes>::new();
        assert!(!BufferTimes::default().set_segment(bytes.upcast_ref()));
    }
}
