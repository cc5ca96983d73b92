//! Audio muxed with gated video: how far the muxer lets it fall behind, in stream time, so that the speed of the machine
//! does not matter.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use gst::prelude::*;

mod gated;
use gated::Label;

/// Frames a second.
const FPS: u64 = 10;
const FRAME: gst::ClockTime = gst::ClockTime::from_mseconds(1000 / FPS);
const KEEP_ALIVE: gst::ClockTime = gst::ClockTime::from_mseconds(500);
/// The keep-alive and a frame.
const MAX_WAIT: gst::ClockTime = gst::ClockTime::from_mseconds(500 + 1000 / FPS);
/// Ten frames have no label, then nothing happens for five seconds.
const LEARNING: u64 = 10;
const FRAMES: u64 = 60;
/// If the audio makes no progress for this long, it waits for a video frame.
const WATCHDOG: Duration = Duration::from_secs(30);

const RATE: u64 = 44_100;

/// How much audio the muxer has consumed.
#[derive(Default)]
struct Progress {
    /// Starts of the last two buffers that were pushed. A muxer queues one buffer: everything before the first of the two
    /// is muxed.
    offered: Mutex<[gst::ClockTime; 2]>,
    changed: Condvar,
}

impl Progress {
    fn watch(self: &Arc<Self>, pad: &gst::Pad) {
        let progress = Arc::clone(self);
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            if let Some(pts) = info.buffer().and_then(|buffer| buffer.pts()) {
                let mut offered = progress.offered.lock().unwrap();
                *offered = [offered[1], pts];
                progress.changed.notify_all();
            }
            gst::PadProbeReturn::Ok
        });
    }

    /// Waits until the audio before `time` is muxed.
    fn wait(&self, time: gst::ClockTime) -> bool {
        let offered = self.offered.lock().unwrap();
        let behind = |offered: &mut [gst::ClockTime; 2]| offered[0] < time;
        let (_offered, waited) = self
            .changed
            .wait_timeout_while(offered, WATCHDOG, behind)
            .unwrap();
        !waited.timed_out()
    }
}

fn video_frame(number: u64) -> gst::Buffer {
    let mut buffer = gst::Buffer::from_mut_slice(vec![128u8; 64 * 64 * 3 / 2]);
    let fields = buffer.get_mut().expect("a new buffer");
    fields.set_pts(FRAME * number);
    fields.set_duration(FRAME);
    let label = if number < LEARNING {
        Label::Unknown
    } else {
        Label::Normal
    };
    label.attach(fields);
    buffer
}

/// Silence of the duration of one video frame.
fn silence(number: u64) -> gst::Buffer {
    let mut buffer = gst::Buffer::from_mut_slice(vec![0u8; (4 * RATE / FPS) as usize]);
    let fields = buffer.get_mut().expect("a new buffer");
    fields.set_pts(FRAME * number);
    fields.set_duration(FRAME);
    buffer
}

/// The video branch: before the encoder one frame passes per interval, behind it one key frame.
fn video_branch(gate_first: bool, keep_alive: gst::ClockTime) -> String {
    let gate = format!(
        "vaeanomalygate pre-roll=0 post-roll=0 keepalive-interval={}",
        keep_alive.nseconds()
    );
    let group = keep_alive.nseconds() / FRAME.nseconds();
    let encoder = format!("x264enc tune=zerolatency key-int-max={group} ! h264parse");
    if gate_first {
        format!("{gate} ! {encoder}")
    } else {
        format!("{encoder} ! {gate}")
    }
}

/// Plays video and audio side by side. The next frame is pushed only when all audio more than [`MAX_WAIT`] before it is
/// muxed, so a muxer that waits longer blocks everything.
fn check_wait(video: &str, muxer: &str) {
    let pipeline = gated::pipeline(&format!(
        "appsrc name=eye format=time caps=video/x-raw,format=I420,width=64,height=64,framerate={FPS}/1 \
         ! {video} ! {muxer} name=mux ! fakesink sync=false async=false \
         appsrc name=ear format=time caps=audio/x-raw,format=F32LE,layout=interleaved,channels=1,rate={RATE} \
         ! avenc_aac ! aacparse ! queue name=sound max-size-time=0 max-size-bytes=0 max-size-buffers=0 ! mux."
    ));
    let by_name = |name: &str| pipeline.by_name(name).expect("it is in the line");
    let source = |name| by_name(name).downcast::<gst_app::AppSrc>().expect("an appsrc");
    let (eye, ear) = (source("eye"), source("ear"));
    let progress = Arc::new(Progress::default());
    progress.watch(&by_name("sound").static_pad("src").expect("a pad"));

    pipeline.set_state(gst::State::Playing).expect("it starts");
    for number in 0..FRAMES {
        ear.push_buffer(silence(number)).expect("it is taken");
        eye.push_buffer(video_frame(number)).expect("it is taken");
        let now = FRAME * number;
        let due = now.saturating_sub(MAX_WAIT);
        assert!(
            progress.wait(due),
            "{video} ! {muxer}: at {now} the audio of {due} is not muxed, only that before {}",
            progress.offered.lock().unwrap()[0]
        );
    }
    ear.end_of_stream().expect("it ends");
    eye.end_of_stream().expect("it ends");
    let ended = gated::wait(&pipeline);
    pipeline.set_state(gst::State::Null).expect("it stops");
    ended.unwrap();
}

#[test]
fn audio_waits_for_the_keep_alive_and_a_frame_at_most() {
    for muxer in ["matroskamux", "mpegtsmux", "flvmux"] {
        check_wait(&video_branch(true, KEEP_ALIVE), muxer);
        check_wait(&video_branch(false, KEEP_ALIVE), muxer);
    }
}

/// `mp4mux` needs the next sample to time the current one, and muxes audio only up to the sample before that: audio waits
/// for two intervals.
#[test]
fn mp4_needs_half_the_interval() {
    for muxer in ["mp4mux", "mp4mux fragment-duration=1000"] {
        check_wait(&video_branch(true, KEEP_ALIVE / 2), muxer);
        check_wait(&video_branch(false, KEEP_ALIVE / 2), muxer);
    }
}
