//! Runs the scripts of `pipelines/` for IP cameras, with an RTSP server.

mod common;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};

use common::recipe::{finish_by_interrupt, folder, recipe, stop};
use common::{frame_times, short_scene, uri};
use gst::prelude::*;
use gst_rtsp_server::prelude::*;

/// Frames after which a recipe on a camera is stopped; the short scene has more.
const ENOUGH: u64 = 180;

#[test]
fn rtsp_to_hls() {
    let (server, enough) = Server::start();
    let folder = folder("hls");
    let mut run = recipe("rtsp-to-hls");
    run.env("IN", server.address("rtspt", "camera"))
        .env("OUT", &folder);
    finish_by_interrupt(run, enough);
    let playlist = folder.join("playlist.m3u8");
    let text = std::fs::read_to_string(&playlist).expect("the playlist is written");
    assert!(text.contains("#EXT-X-ENDLIST"), "{text}");
    let times = frame_times(&uri(&playlist));
    assert!(
        (30..short_scene().1.frames.len()).contains(&times.len()),
        "{} frames",
        times.len()
    );
}

#[test]
fn rtsp_to_rtsp() {
    let (server, enough) = Server::start();
    let mut run = recipe("rtsp-to-rtsp");
    run.env("IN", server.address("rtspt", "camera"))
        .env("OUT", server.address("rtsp", "published"));
    // At the end of the stream rtspclientsink 1.22 sometimes deadlocks with its own RTCP thread, or finds its connection
    // closed. Only what it published before matters here.
    stop(run, enough);
    let received = server.received.load(Ordering::SeqCst) as usize;
    assert!(
        (30..short_scene().1.frames.len()).contains(&received),
        "{received} frames arrived"
    );
}

/// An RTSP server on the loopback interface: `/camera` plays the short scene, `/published` accepts a recording.
struct Server {
    server: gst_rtsp_server::RTSPServer,
    main_loop: gst::glib::MainLoop,
    thread: Option<std::thread::JoinHandle<()>>,
    /// Frames published so far.
    received: Arc<AtomicU64>,
}

impl Server {
    /// Starts a server; the receiver gets a message once the camera has sent [`ENOUGH`] frames.
    fn start() -> (Self, mpsc::Receiver<()>) {
        gst::init().expect("GStreamer starts");
        let context = gst::glib::MainContext::new();
        let server = gst_rtsp_server::RTSPServer::new();
        server.set_address("127.0.0.1");
        server.set_service("0");
        let mounts = server.mount_points().expect("a new server has mount points");

        let camera = gst_rtsp_server::RTSPMediaFactory::new();
        camera.set_launch(&format!(
            "( filesrc location={} ! matroskademux ! h264parse ! rtph264pay name=pay0 pt=96 config-interval=-1 )",
            short_scene().0.display()
        ));
        let (sender, enough) = mpsc::channel();
        camera.connect_media_configure(move |_, media| {
            let bin = media
                .element()
                .downcast::<gst::Bin>()
                .expect("the factory makes a bin");
            let pad = bin
                .by_name("pay0")
                .and_then(|p| p.static_pad("sink"))
                .expect("the payloader has a pad");
            let (sender, frames) = (sender.clone(), AtomicU64::new(0));
            pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
                if frames.fetch_add(1, Ordering::SeqCst) + 1 == ENOUGH {
                    // The receiver is gone if the test has failed already.
                    let _ = sender.send(());
                }
                gst::PadProbeReturn::Ok
            });
        });
        mounts.add_factory("/camera", camera);

        let published = gst_rtsp_server::RTSPMediaFactory::new();
        published.set_launch(
            "( rtph264depay name=depay0 ! h264parse ! video/x-h264,alignment=au ! fakesink name=sink sync=false )",
        );
        published.set_transport_mode(gst_rtsp_server::RTSPTransportMode::RECORD);
        let received = Arc::new(AtomicU64::new(0));
        let count = received.clone();
        published.connect_media_configure(move |_, media| {
            let bin = media
                .element()
                .downcast::<gst::Bin>()
                .expect("the factory makes a bin");
            let pad = bin
                .by_name("sink")
                .and_then(|s| s.static_pad("sink"))
                .expect("the sink has a pad");
            let count = count.clone();
            pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
                count.fetch_add(1, Ordering::SeqCst);
                gst::PadProbeReturn::Ok
            });
        });
        mounts.add_factory("/published", published);

        server.attach(Some(&context)).expect("the server listens");
        let main_loop = gst::glib::MainLoop::new(Some(&context), false);
        let thread = std::thread::spawn({
            let main_loop = main_loop.clone();
            move || main_loop.run()
        });
        let server = Self {
            server,
            main_loop,
            thread: Some(thread),
            received,
        };
        (server, enough)
    }

    /// An address for `scheme`: `rtspt` is RTSP over TCP alone.
    fn address(&self, scheme: &str, mount: &str) -> String {
        format!("{scheme}://127.0.0.1:{}/{mount}", self.server.bound_port())
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
