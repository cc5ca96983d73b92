//! An element between two pads, without a pipeline: a push does all of its work in the calling thread.

use gst::prelude::*;

use super::images::{Images, LOOP};

/// A playing element.
pub struct Feed {
    pub element: gst::Element,
    source: gst::Pad,
    _sink: gst::Pad,
    pushed: u64,
    fps: u64,
}

impl Feed {
    /// Starts `element` with `caps`; its output is discarded. `output_caps` are the caps accepted downstream, by default any.
    pub fn new(element: gst::Element, caps: &gst::Caps, output_caps: Option<&gst::Caps>) -> Self {
        let any = gst::Caps::new_any();
        let template = gst::PadTemplate::new(
            "sink",
            gst::PadDirection::Sink,
            gst::PadPresence::Always,
            output_caps.unwrap_or(&any),
        );
        let sink = gst::Pad::builder_from_template(&template.expect("the template is valid"))
            .chain_function(|_, _, _| Ok(gst::FlowSuccess::Ok))
            .build();
        let source = gst::Pad::builder(gst::PadDirection::Src).build();
        let (input, output) = (element.static_pad("sink"), element.static_pad("src"));
        source
            .link(&input.expect("the element has a sink pad"))
            .expect("the pads link");
        output
            .expect("the element has a source pad")
            .link(&sink)
            .expect("the pads link");
        sink.set_active(true).expect("the sink starts");
        source.set_active(true).expect("the source starts");
        element.set_state(gst::State::Playing).expect("the element plays");
        source.push_event(gst::event::StreamStart::new("bench"));
        let mut feed = Self {
            element,
            source,
            _sink: sink,
            pushed: 0,
            fps: 1,
        };
        feed.renegotiate(caps);
        let segment = gst::FormattedSegment::<gst::ClockTime>::new();
        feed.source.push_event(gst::event::Segment::new(&segment));
        feed
    }

    /// Continues with other caps.
    pub fn renegotiate(&mut self, caps: &gst::Caps) {
        let rate = caps
            .structure(0)
            .and_then(|s| s.get::<gst::Fraction>("framerate").ok());
        self.fps = rate.map_or(1, |rate| rate.numer() as u64);
        assert!(self.source.push_event(gst::event::Caps::new(caps)), "{caps}");
    }

    /// Pushes one frame; its memory is shared, not copied.
    pub fn push(&mut self, frame: &gst::Buffer) {
        let mut buffer = frame.copy();
        let interval = gst::ClockTime::SECOND / self.fps;
        {
            let buffer = buffer.get_mut().expect("a copy is writable");
            buffer.set_pts(interval * self.pushed);
            buffer.set_duration(interval);
        }
        self.pushed += 1;
        self.source.push(buffer).expect("the element accepts the frame");
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        // Nothing is left to do on failure.
        let _ = self.source.set_active(false);
        let _ = self.element.set_state(gst::State::Null);
    }
}

/// Caps of raw video.
pub fn caps(format: &str, width: usize, height: usize, fps: i32) -> gst::Caps {
    gst::Caps::builder("video/x-raw")
        .field("format", format)
        .field("width", width as i32)
        .field("height", height as i32)
        .field("framerate", gst::Fraction::new(fps, 1))
        .build()
}

/// The images as buffers.
pub fn buffers(images: &Images) -> Vec<gst::Buffer> {
    (0..LOOP)
        .map(|i| gst::Buffer::from_slice(images.bytes(i).to_vec()))
        .collect()
}
