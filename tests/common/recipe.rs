//! Running the recipes of `pipelines/`.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use gst::prelude::*;

use super::{command, frame_times, scratch, short_scene, uri};

/// A recipe that hangs is killed after this time and fails.
pub const WATCHDOG: Duration = Duration::from_secs(300);
/// An interrupted recipe that has not ended after this long never will.
const STOPPING: Duration = Duration::from_secs(45);

/// The command that runs `pipelines/NAME.sh` with this build's plugin.
pub fn recipe(name: &str) -> Command {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut recipe = command("sh");
    recipe.arg(root.join("pipelines").join(format!("{name}.sh")));
    recipe
}

/// Runs to the end and gives what was printed.
pub fn finish(command: Command) -> String {
    let (output, text) = run(command, None);
    assert_no_error(&output);
    assert!(output.status.success(), "{}\n{text}", output.status);
    text
}

/// Runs until the camera has sent enough, then stops the recipe as Ctrl-C does, or harder when that does not help. Errors are
/// only printed: they may come from the stop.
pub fn stop(command: Command, enough: mpsc::Receiver<()>) {
    let (output, _) = run(command, Some(enough));
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
}

/// Runs until the camera has sent enough, then stops the recipe as Ctrl-C does.
pub fn finish_by_interrupt(command: Command, enough: mpsc::Receiver<()>) {
    let (output, text) = run(command, Some(enough));
    assert_no_error(&output);
    assert_ne!(
        output.status.signal(),
        Some(9),
        "the recipe did not end by itself:\n{text}"
    );
}

fn assert_no_error(output: &Output) {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!errors.contains("ERROR"), "{errors}");
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
        let mut patience = WATCHDOG;
        if interrupt.is_some_and(|enough| enough.recv_timeout(WATCHDOG).is_ok()) {
            kill("-INT");
            patience = STOPPING;
        }
        if watch.recv_timeout(patience) == Err(mpsc::RecvTimeoutError::Timeout) {
            kill("-KILL");
        }
    });
    let output = child.wait_with_output().expect("the recipe ends");
    drop(done);
    guard.join().expect("the watchdog ends");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (output, text)
}

/// The short scene as a recipe's `SOURCE`.
pub fn file_source() -> String {
    format!("filesrc location={} ! decodebin", short_scene().0.display())
}

/// An empty folder for one test.
pub fn folder(name: &str) -> PathBuf {
    let folder = scratch("pipelines").join(name);
    if folder.exists() {
        std::fs::remove_dir_all(&folder).expect("the last run's folder goes away");
    }
    std::fs::create_dir_all(&folder).expect("a folder can be made");
    folder
}

/// The frames' times in seconds, of a file that starts with a key frame and can be decoded to its end.
pub fn played(file: &Path) -> Vec<f64> {
    gst::init().expect("GStreamer starts");
    let line = format!(
        "filesrc location={} ! parsebin ! appsink name=sink sync=false",
        file.display()
    );
    let pipeline = gst::parse::launch(&line).expect("the pipeline is built");
    let sink = pipeline
        .downcast_ref::<gst::Bin>()
        .and_then(|bin| bin.by_name("sink"));
    let sink = sink.and_downcast::<gst_app::AppSink>().expect("the sink");
    pipeline
        .set_state(gst::State::Playing)
        .expect("the pipeline plays");
    let first = sink.pull_sample().expect("there is a frame");
    pipeline.set_state(gst::State::Null).expect("the pipeline stops");
    let flags = first.buffer().expect("a sample has a buffer").flags();
    assert!(
        !flags.contains(gst::BufferFlags::DELTA_UNIT),
        "{} starts without a key frame",
        file.display()
    );

    let times = frame_times(&uri(file));
    assert!(
        times.windows(2).all(|pair| pair[0] < pair[1]),
        "times do not rise: {times:?}"
    );
    times
}

/// The first frames are all there (learning), later ones are missing, and gaps stay within the keep-alive interval.
pub fn assert_thinned(times: &[f64], frames: usize) {
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
    let gap = times.windows(2).map(|pair| pair[1] - pair[0]).fold(0.0, f64::max);
    assert!(gap > 0.5, "nothing was dropped in a row: longest gap {gap} s");
    assert!(gap < 1.3, "the keep-alive interval of 1 s was broken: {gap} s");
}
