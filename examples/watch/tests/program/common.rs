//! What the tests share: a short street, a running program, and waiting for things to happen.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Once, OnceLock};
use std::time::{Duration, Instant};

use street_scene::record::{Recorder, Settings};
use street_scene::scene::{Config as SceneConfig, Scene};
use watch::config::Config;
use watch::program::Program;
use watch::state::Notice;

/// Nothing takes this long, also on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(240);

/// Initialises GStreamer with the plugin.
pub fn init() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        gst::init().expect("GStreamer starts");
        gstvaeanomaly::plugin_register_static().expect("the plugin can be registered");
    });
}

/// A street of half a minute in H.264: 12 s of normal traffic, then one anomaly. Recorded once.
pub fn street() -> &'static Path {
    static FILE: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, file) = FILE.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let file = folder.path().join("street.mp4");
        record_street(&file, 1);
        (folder, file)
    });
    file
}

/// Records a street with this many anomalies.
pub fn record_street(file: &Path, events: usize) {
    init();
    let config = SceneConfig {
        width: 320,
        height: 180,
        seed: 9,
        lead_in: 12.0,
        events,
        spacing: 8.0,
        ..SceneConfig::default()
    };
    let mut scene = Scene::new(&config).expect("the configuration is good");
    let settings = Settings {
        file: file.to_owned(),
        width: 320,
        height: 180,
        fps: gst::Fraction::new(10, 1),
        bitrate: 300,
    };
    let mut recorder = Recorder::new(&settings).expect("the encoder starts");
    for frame in 0..(scene.duration() * 10.0) as u64 {
        recorder
            .push(scene.render(frame as f64 / 10.0))
            .expect("the encoder takes a frame");
    }
    recorder.finish().expect("the file is complete");
}

/// A configuration with its storage in a folder.
pub fn config(text: &str, folder: &Path) -> Config {
    init();
    let text = format!(
        "[storage]\nfolder = {}\nmin-free = 0\n[web]\nlisten = off\n{text}",
        folder.display()
    );
    Config::parse(&text, folder).unwrap_or_else(|(line, reason)| panic!("line {line}: {reason}\n{text}"))
}

/// Starts the program without printing.
pub fn start(text: &str, folder: &Path) -> Program {
    Program::start(config(text, folder), None).expect("the program starts")
}

/// A port that nothing listens on.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// Waits until something is so.
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    wait_for(what, || is_so().then_some(()));
}

/// Waits for something and returns it. What was found does not change any more, unlike what it is read from.
pub fn wait_for<T>(what: &str, mut find: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = find() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// All notices of a program from now on, read with [`Notices::take`].
pub struct Notices(tokio::sync::broadcast::Receiver<Arc<Notice>>);

impl Notices {
    pub fn of(program: &Program) -> Self {
        Self(program.watch.notices())
    }

    /// What came since the last call.
    pub fn take(&mut self) -> Vec<Arc<Notice>> {
        std::iter::from_fn(|| self.0.try_recv().ok()).collect()
    }
}

/// Number of frames in a video, and whether the first one can be decoded.
pub fn frames(file: &Path) -> usize {
    use gst::prelude::*;
    init();
    let uri = gst::glib::filename_to_uri(file, None).expect("an absolute path");
    let pipeline = gst::parse::launch(&format!(
        "uridecodebin uri={uri} ! fakesink name=sink signal-handoffs=true sync=false"
    ))
    .expect("the pipeline is built");
    let count = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let bin = pipeline.downcast_ref::<gst::Bin>().expect("a bin");
    let sink = bin.by_name("sink").expect("the sink");
    sink.connect("handoff", false, move |_| {
        counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        None
    });
    pipeline
        .set_state(gst::State::Playing)
        .expect("the pipeline plays");
    let bus = pipeline.bus().expect("a bus");
    let ends = [gst::MessageType::Eos, gst::MessageType::Error];
    let message = bus
        .timed_pop_filtered(gst::ClockTime::from_seconds(60), &ends)
        .expect("it ends");
    pipeline.set_state(gst::State::Null).expect("it stops");
    assert_eq!(
        message.type_(),
        gst::MessageType::Eos,
        "{}: {message:?}",
        file.display()
    );
    count.load(std::sync::atomic::Ordering::Relaxed)
}

/// Converts a video to Motion JPEG.
pub fn transcode(from: &Path, to: &Path) {
    use gst::prelude::*;
    init();
    let description = format!(
        "filesrc location={} ! qtdemux ! avdec_h264 ! videoconvert ! jpegenc quality=90 ! avimux ! filesink location={}",
        from.display(),
        to.display()
    );
    let pipeline = gst::parse::launch(&description).expect("the pipeline is built");
    pipeline.set_state(gst::State::Playing).expect("it plays");
    let ends = [gst::MessageType::Eos, gst::MessageType::Error];
    let message = pipeline
        .bus()
        .expect("a bus")
        .timed_pop_filtered(gst::ClockTime::NONE, &ends);
    assert_eq!(message.expect("it ends").type_(), gst::MessageType::Eos);
    pipeline.set_state(gst::State::Null).expect("it stops");
}
