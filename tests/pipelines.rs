//! Runs every recipe of `pipelines/` on a short scene, the network ones through a real RTSP server.

mod common;

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use common::{command, frame_times, scratch, short_scene, uri};
use gst::prelude::*;
use gst_rtsp_server::prelude::*;

/// A recipe that hangs is killed after this time and fails.
const WATCHDOG: Duration = Duration::from_secs(300);

/// Frames after which a recipe on a camera is stopped; the short scene has more.
const ENOUGH: u64 = 180;

fn recipe(name: &str) -> Command {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut recipe = command("sh");
    recipe.arg(root.join("pipelines").join(format!("{name}.sh")));
    recipe
}

/// Runs to the end and gives what was printed.
fn finish(command: Command) -> String {
    let (output, text) = run(command, None);
    assert!(output.status.success(), "{}\n{text}", output.status);
    text
}

/// Runs until the camera has sent enough, then stops the recipe as Ctrl-C does.
fn finish_by_interrupt(command: Command, enough: mpsc::Receiver<()>) {
    let (output, text) = run(command, Some(enough));
    assert_ne!(
        output.status.signal(),
        Some(9),
        "the recipe did not end by itself:\n{text}"
    );
}

fn run(mut command: Command, interrupt: Option<mpsc::Receiver<()>>) -> (Output, String) {
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let child = child.spawn().expect("the recipe starts");
    let pid = child.id().to_string();
    let (done, watch) = mpsc::channel::<()>();
    let guard = std::thread::spawn(move || {
        let kill = |signal: &str| {
            let sent = Command::new("kill").args([signal, &pid]).status();
            assert!(sent.is_ok(), "kill {signal} {pid}: {sent:?}");
        };
        if interrupt.is_some_and(|enough| enough.recv_timeout(WATCHDOG).is_ok()) {
            kill("-INT");
        }
        if watch.recv_timeout(WATCHDOG) == Err(mpsc::RecvTimeoutError::Timeout) {
            kill("-KILL");
        }
    });
    let output = child.wait_with_output().expect("the recipe ends");
    drop(done);
    guard.join().expect("the watchdog ends");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!errors.contains("ERROR"), "{errors}");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (output, text)
}

fn file_source() -> String {
    format!("filesrc location={} ! decodebin", short_scene().0.display())
}

/// An empty folder for one test.
fn folder(name: &str) -> PathBuf {
    let folder = scratch("pipelines").join(name);
    if folder.exists() {
        std::fs::remove_dir_all(&folder).expect("the last run's folder goes away");
    }
    std::fs::create_dir_all(&folder).expect("a folder can be made");
    folder
}

/// The first frames are all there (learning), later ones are missing, and gaps stay within the keep-alive interval.
fn assert_thinned(times: &[f64], frames: usize) {
    assert!(
        times.len() < frames * 9 / 10,
        "{} of {frames} frames were kept",
        times.len()
    );
    assert!(
        times.len() > 30,
        "only {} of {frames} frames were kept",
        times.len()
    );
    assert!(
        times.windows(2).all(|pair| pair[0] < pair[1]),
        "times do not rise"
    );
    let gap = times.windows(2).map(|pair| pair[1] - pair[0]).fold(0.0, f64::max);
    assert!(gap > 0.5, "nothing was dropped in a row: longest gap {gap} s");
    assert!(gap < 1.3, "the keep-alive interval of 1 s was broken: {gap} s");
}

#[test]
fn every_recipe_has_a_test() {
    let tests = include_str!("pipelines.rs");
    let readme = include_str!("../pipelines/README.md");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines");
    for entry in std::fs::read_dir(folder).expect("pipelines/ is there") {
        let path = entry.expect("pipelines/ can be read").path();
        if path.extension().is_some_and(|e| e == "sh") {
            let name = path.file_stem().and_then(|n| n.to_str()).expect("a plain name");
            assert!(
                tests.contains(&format!("recipe(\"{name}\")")),
                "no test runs {name}.sh"
            );
            assert!(
                readme.contains(&format!("({name}.sh)")),
                "README.md does not list {name}.sh"
            );
        }
    }
}

#[test]
fn print_scores() {
    let (_, labels) = short_scene();
    let mut run = recipe("print-scores");
    run.env("SOURCE", file_source());
    let out = finish(run);
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.len(), labels.frames.len(), "{out}");
    assert!(
        lines
            .iter()
            .all(|line| line.starts_with("frame:") && line.contains("score=(double)")),
        "{out}"
    );
}

#[test]
fn keep_anomalies() {
    let (_, labels) = short_scene();
    let file = folder("keep").join("kept.mp4");
    let mut run = recipe("keep-anomalies");
    run.env("SOURCE", file_source()).env("OUT", &file);
    finish(run);
    assert_thinned(&frame_times(&uri(&file)), labels.frames.len());
}

#[test]
fn snapshots() {
    let (_, labels) = short_scene();
    let folder = folder("snapshots");
    let mut run = recipe("snapshots");
    run.env("SOURCE", file_source()).env("OUT", &folder);
    finish(run);
    let pictures: Vec<_> = std::fs::read_dir(&folder).expect("the folder").collect();
    let seconds = labels.frames.len() / common::FPS as usize;
    assert!(
        // One at the start and one a second.
        (2..=seconds + 1).contains(&pictures.len()),
        "{} pictures in {seconds} s",
        pictures.len()
    );
    for picture in pictures {
        let path = picture.expect("the folder can be read").path();
        let picture = image::open(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        assert_eq!((picture.width(), picture.height()), (320, 180));
    }
}

#[test]
fn webcam() {
    let mut run = recipe("webcam");
    run.env("SOURCE", file_source())
        .env("SINK", "fakesink sync=false");
    let out = finish(run);
    assert!(out.contains("state-changed:"), "{out}");
}

#[test]
fn two_cameras() {
    let (_, labels) = short_scene();
    let folder = folder("two");
    let files = ["a.mkv", "b.mkv"].map(|name| folder.join(name));
    let mut run = recipe("two-cameras");
    run.env("SOURCE_A", file_source()).env("SOURCE_B", file_source());
    run.env("OUT_A", &files[0]).env("OUT_B", &files[1]);
    let out = finish(run);
    assert!(
        out.contains("camera-a state-changed:") && out.contains("camera-b state-changed:"),
        "{out}"
    );
    let times = files.map(|file| frame_times(&uri(&file)));
    assert_thinned(&times[0], labels.frames.len());
    assert_eq!(times[0], times[1], "equal streams must be judged equally");
}

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
    finish_by_interrupt(run, enough);
    let received = server.received.load(Ordering::SeqCst) as usize;
    assert!(
        (30..short_scene().1.frames.len()).contains(&received),
        "{received} frames arrived"
    );
}

/// The access units of an H.264 file as they are.
fn access_units(file: &Path, demuxer: &str) -> Vec<Vec<u8>> {
    gst::init().expect("GStreamer starts");
    let line = format!(
        "filesrc location={} ! {demuxer} ! h264parse ! video/x-h264,stream-format=avc,alignment=au \
         ! appsink name=sink sync=false",
        file.display()
    );
    let pipeline = gst::parse::launch(&line).expect("the pipeline is built");
    let bin = pipeline.downcast_ref::<gst::Bin>().expect("a pipeline");
    let sink = bin
        .by_name("sink")
        .and_downcast::<gst_app::AppSink>()
        .expect("the sink");
    pipeline
        .set_state(gst::State::Playing)
        .expect("the pipeline plays");
    let samples = std::iter::from_fn(|| sink.pull_sample().ok());
    let bytes = |sample: gst::Sample| {
        let buffer = sample.buffer().expect("a sample has a buffer");
        buffer.map_readable().expect("it can be read").to_vec()
    };
    let units = samples.map(bytes).collect();
    pipeline.set_state(gst::State::Null).expect("the pipeline stops");
    units
}

#[test]
fn gate_after_encoder() {
    let (_, labels) = short_scene();
    let file = folder("gate-after").join("events.mkv");
    let mut run = recipe("gate-after-encoder");
    run.env("SOURCE", file_source())
        .env("OUT", &file)
        .env("PRE_ROLL", "500000000");
    finish(run);
    // Key frames every 2 s are the only keep-alive here.
    let times = frame_times(&uri(&file));
    assert!(
        (30..labels.frames.len()).contains(&times.len()),
        "{} frames",
        times.len()
    );
    assert!(
        times.windows(2).all(|pair| pair[0] < pair[1]),
        "times do not rise"
    );
}

#[test]
fn gate_camera_copy() {
    let (scene, labels) = short_scene();
    let file = folder("gate-copy").join("events.mkv");
    let mut run = recipe("gate-camera-copy");
    run.env(
        "SOURCE",
        format!("filesrc location={} ! matroskademux", scene.display()),
    );
    run.env("OUT", &file).env("PRE_ROLL", "500000000");
    finish(run);
    let camera = access_units(scene, "matroskademux");
    let kept = access_units(&file, "matroskademux");
    assert_eq!(camera.len(), labels.frames.len());
    assert!(
        (30..camera.len()).contains(&kept.len()),
        "{} of {} units",
        kept.len(),
        camera.len()
    );
    let mut left = camera.iter();
    assert!(
        kept.iter().all(|unit| left.any(|original| original == unit)),
        "a unit is not the camera's, or out of order"
    );
}

#[test]
fn gate_event_files() {
    let program = std::env::current_exe().expect("the test knows its path");
    let examples = program
        .ancestors()
        .nth(2)
        .expect("tests lie in deps/")
        .join("examples");
    assert!(
        examples.join("event_files").exists(),
        "cargo test builds the examples"
    );
    let folder = folder("gate-files");
    let mut run = recipe("gate-event-files");
    run.env("SOURCE", file_source())
        .env("OUT", &folder)
        .env("BIN", examples);
    let out = finish(run);
    let files: Vec<_> = std::fs::read_dir(&folder)
        .expect("the folder")
        .map(|file| file.expect("a file").path())
        .collect();
    assert_eq!(out.lines().count(), files.len(), "{out}");
    assert!(!files.is_empty(), "no event was recorded");
    for file in files {
        let name = file
            .file_name()
            .and_then(|name| name.to_str())
            .expect("a plain name");
        assert!(name.starts_with("00-00-") && name.ends_with(".mp4"), "{name}");
        // 5 s before, 2 s after, less where the video starts or ends.
        let times = frame_times(&uri(&file));
        assert!(times.len() > 20, "{name}: {} frames", times.len());
        assert!(
            times.windows(2).all(|pair| pair[1] - pair[0] < 0.2),
            "{name} has a hole"
        );
    }
}

#[test]
fn gate_beside_viewer() {
    let (_, labels) = short_scene();
    let file = folder("gate-beside").join("events.mkv");
    let mut run = recipe("gate-beside-viewer");
    let shown = folder("gate-beside-shown").join("shown.mkv");
    run.env("SOURCE", file_source())
        .env("OUT", &file)
        .env("PRE_ROLL", "500000000");
    run.env(
        "SINK",
        format!("jpegenc ! matroskamux ! filesink location={}", shown.display()),
    );
    finish(run);
    assert_eq!(
        frame_times(&uri(&shown)).len(),
        labels.frames.len(),
        "the viewer sees everything"
    );
    let recorded = frame_times(&uri(&file)).len();
    assert!((30..labels.frames.len()).contains(&recorded), "{recorded} frames");
}

/// An RTSP server on the loopback interface: `/camera` plays the short scene, `/published` takes a recording.
struct Server {
    server: gst_rtsp_server::RTSPServer,
    main_loop: gst::glib::MainLoop,
    thread: Option<std::thread::JoinHandle<()>>,
    /// Frames published so far.
    received: Arc<AtomicU64>,
}

impl Server {
    /// The server, and what tells when the camera has sent [`ENOUGH`] frames.
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
        let (tell, enough) = mpsc::channel();
        camera.connect_media_configure(move |_, media| {
            let bin = media
                .element()
                .downcast::<gst::Bin>()
                .expect("the factory makes a bin");
            let pad = bin
                .by_name("pay0")
                .and_then(|p| p.static_pad("sink"))
                .expect("the payloader has a pad");
            let (tell, frames) = (tell.clone(), AtomicU64::new(0));
            pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
                if frames.fetch_add(1, Ordering::SeqCst) + 1 == ENOUGH {
                    // Nobody listens any more when the test has failed already.
                    let _ = tell.send(());
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
