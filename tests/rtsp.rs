//! An RTSP server behind the gate, and a client that reads from it over the loopback interface.

use std::sync::{Arc, Mutex, mpsc};

use gst::glib;
use gst::prelude::*;
use gst_rtsp_server::prelude::*;

mod gated;
use gated::{Label, Seen};

/// 5 s of live video; the gate is between the encoder and the payloader.
const CAMERA: &str = "( videotestsrc is-live=true num-buffers=125 pattern=ball \
    ! video/x-raw,format=I420,width=64,height=64,framerate=25/1 ! identity name=eye \
    ! x264enc tune=zerolatency key-int-max=10 ! h264parse \
    ! vaeanomalygate name=gate pre-roll=400000000 post-roll=400000000 keepalive-interval=1000000000 \
    ! rtph264pay name=pay0 config-interval=-1 pt=96 )";

/// A server with a thread of its own; it stops when dropped.
struct Server {
    main_loop: glib::MainLoop,
    thread: Option<std::thread::JoinHandle<()>>,
    port: i32,
}

impl Server {
    /// Starts the server; `prepare` is called with the pipeline of every client's media.
    fn start(launch: &str, prepare: impl Fn(&gst::Bin) + Send + Sync + 'static) -> Self {
        gated::init();
        let context = glib::MainContext::new();
        let server = gst_rtsp_server::RTSPServer::new();
        server.set_address("127.0.0.1");
        server.set_service("0");
        let factory = gst_rtsp_server::RTSPMediaFactory::new();
        factory.set_launch(launch);
        factory.connect_media_constructed(move |_, media| {
            prepare(media.element().downcast_ref::<gst::Bin>().expect("a bin"));
        });
        server
            .mount_points()
            .expect("mount points")
            .add_factory("/camera", factory);
        let main_loop = glib::MainLoop::new(Some(&context), false);
        let runner = main_loop.clone();
        let (ready, started) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let _source = server.attach(Some(&context)).expect("it listens");
            ready.send(server.bound_port()).expect("the test waits");
            runner.run();
        });
        let port = started.recv().expect("the server starts");
        Server {
            main_loop,
            thread: Some(thread),
            port,
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.main_loop.quit();
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the server's thread ends");
        }
    }
}

#[test]
fn a_client_receives_every_frame_that_passes() {
    let passed: Arc<Mutex<Vec<Seen>>> = Arc::default();
    let list = Arc::clone(&passed);
    let server = Server::start(CAMERA, move |media| {
        gated::label_frames(media, "eye", |frame| match frame {
            0..10 => Label::Unknown,
            60..80 => Label::Anomaly(1),
            _ => Label::Normal,
        });
        let gate = media
            .by_name("gate")
            .and_then(|gate| gate.static_pad("src"))
            .expect("the gate");
        gated::watch_into(&gate, &list);
    });
    let client = gated::pipeline(&format!(
        "rtspsrc location=rtsp://127.0.0.1:{}/camera protocols=tcp latency=100 buffer-mode=none ! rtph264depay ! h264parse name=parse \
         ! avdec_h264 ! fakesink name=out sync=false",
        server.port
    ));
    let units = gated::watch_pad(&client, "parse", "src");
    let frames = gated::watch_pad(&client, "out", "sink");
    gated::play(&client);
    let (passed, units, frames) = (
        passed.lock().unwrap(),
        units.lock().unwrap(),
        frames.lock().unwrap(),
    );
    assert!(passed.len() < 125, "something was dropped");
    assert!(units[0].key);
    assert_eq!(units.len(), passed.len(), "every frame that passed is received");
    assert_eq!(frames.len(), passed.len(), "every received frame is decoded");
    let spacing = |frames: &[Seen]| -> Vec<u64> {
        frames
            .windows(2)
            .map(|pair| pair[1].pts.expect("a time") - pair[0].pts.expect("a time"))
            .collect()
    };
    let longest = |frames: &[Seen]| spacing(frames).into_iter().max();
    let (sent, seen) = (
        longest(&passed).expect("frames"),
        longest(&frames).expect("frames"),
    );
    assert!(sent >= 400, "the longest gap is {sent} ms");
    assert!(
        seen.abs_diff(sent) <= 100,
        "the client received a gap of {seen} ms, sent was one of {sent} ms"
    );
}
