//! A camera on the network.

use std::sync::mpsc;

use gst::glib;
use gst::prelude::*;
use gst_rtsp_server::prelude::*;

use crate::common::init;

/// Ten small frames a second.
pub const CAMERA: &str = "( videotestsrc is-live=true pattern=ball ! video/x-raw,width=64,height=64,framerate=10/1 \
    ! identity name=eye ! x264enc tune=zerolatency key-int-max=10 ! rtph264pay name=pay0 config-interval=-1 pt=96 )";

/// A camera on the loopback interface; it stops when dropped.
pub struct Server {
    main_loop: glib::MainLoop,
    thread: Option<std::thread::JoinHandle<()>>,
    pub port: i32,
}

impl Server {
    /// Starts it on a port, 0 = a free one; `prepare` is called with the pipeline of every client.
    pub fn start(port: i32, launch: &str, prepare: impl Fn(&gst::Bin) + Send + Sync + 'static) -> Self {
        init();
        let context = glib::MainContext::new();
        let server = gst_rtsp_server::RTSPServer::new();
        server.set_address("127.0.0.1");
        server.set_service(&port.to_string());
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
            let source = server.attach(Some(&context)).expect("it listens");
            ready.send(server.bound_port()).expect("the test waits");
            runner.run();
            context
                .find_source_by_id(&source)
                .expect("it was attached")
                .destroy();
            // Clients are cut off, as by a camera that loses its power.
            server.client_filter(Some(&mut |_, _| gst_rtsp_server::RTSPFilterResult::Remove));
        });
        let port = started.recv().expect("the server starts");
        Self {
            main_loop,
            thread: Some(thread),
            port,
        }
    }

    pub fn uri(&self) -> String {
        format!("rtsp://127.0.0.1:{}/camera", self.port)
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
