//! Lines on the standard output, and a status line in a terminal.

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use gstvaeanomaly::FrameResult;
use indicatif::{ProgressBar, ProgressStyle};

use crate::publish;
use crate::state::{Camera, Connection, Millis, Notice, Watch, lock};

/// Lines that wait for whatever reads them.
const QUEUE: usize = 10_000;

/// How often a camera's frames are printed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Every {
    Frame,
    Second,
    /// Every n-th frame.
    Frames(u64),
}

impl std::str::FromStr for Every {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "frame" => Ok(Every::Frame),
            "second" => Ok(Every::Second),
            _ => match text.parse() {
                Ok(frames) if frames > 0 => Ok(Every::Frames(frames)),
                _ => Err(format!(
                    "must be frame, second or a number of frames from 1, got {text}"
                )),
            },
        }
    }
}

/// The form of the lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// A JSON object a line.
    Json,
    /// Frames as Intel DL Streamer's `gvametaconvert` writes them.
    DlStreamer,
}

/// Takes what is printed; printing is done by a thread of its own and never delays the analysis.
#[derive(Debug)]
pub struct Output {
    every: Every,
    format: Format,
    lines: SyncSender<String>,
    skipped: Arc<AtomicU64>,
}

impl Output {
    /// Starts printing. The thread ends when `stop` is set.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start(
        watch: &Arc<Watch>,
        every: Every,
        format: Format,
        stop: &Arc<AtomicBool>,
    ) -> std::io::Result<JoinHandle<()>> {
        let (lines, receiver) = sync_channel(QUEUE);
        let skipped = Arc::new(AtomicU64::new(0));
        let output = Output {
            every,
            format,
            lines,
            skipped: Arc::clone(&skipped),
        };
        // Printing is started once.
        let _ = watch.output.set(output);
        let (watch, stop) = (Arc::clone(watch), Arc::clone(stop));
        std::thread::Builder::new()
            .name("output".to_owned())
            .spawn(move || {
                print(&watch, &receiver, format, &skipped, &stop);
            })
    }

    /// A frame was analysed.
    pub(crate) fn frame(&self, camera: &Camera, result: &FrameResult, time: Millis) {
        let is_due = match self.every {
            Every::Frame => true,
            Every::Frames(frames) => result.prediction.frame.is_multiple_of(frames),
            Every::Second => {
                let last = camera.printed.load(Ordering::Relaxed);
                let due = time - last >= 1000 || time < last;
                if due {
                    camera.printed.store(time, Ordering::Relaxed);
                }
                due
            }
        };
        if !is_due {
            return;
        }
        let losses = camera.controls.losses();
        camera.update(|status| status.losses = losses);
        let line = match self.format {
            Format::Json => publish::frame(camera, result, losses, time).to_string(),
            Format::DlStreamer => {
                publish::dlstreamer(camera, result, time.unsigned_abs() * 1_000_000).to_string()
            }
            Format::Text => format!(
                "{} {} {} score {:.3} loss {:.5} reconstruction {:.5} kl {:.3} motion loss {:.5} {} {}",
                date(time),
                camera.id(),
                publish::label(result),
                result.prediction.score,
                losses.loss,
                losses.reconstruction,
                losses.kl,
                losses.motion_loss,
                result.prediction.state.as_str(),
                camera.config.source,
            ),
        };
        if self.lines.try_send(line).is_err() {
            self.skipped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Date and time in UTC, such as `2026-05-01 12:00:00.250`.
fn date(time: Millis) -> String {
    let text =
        gst::glib::DateTime::from_unix_utc(time.div_euclid(1000)).and_then(|date| date.format("%F %T"));
    match text {
        Ok(text) => format!("{text}.{:03}", time.rem_euclid(1000)),
        Err(_) => time.to_string(),
    }
}

fn print(watch: &Watch, lines: &Receiver<String>, format: Format, skipped: &AtomicU64, stop: &AtomicBool) {
    let mut notices = watch.notices();
    let bar = std::io::stderr().is_terminal().then(|| {
        let style = ProgressStyle::with_template("{spinner} {wide_msg}");
        ProgressBar::new_spinner().with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
    });
    let mut reported = 0;
    loop {
        let line = lines.recv_timeout(Duration::from_millis(100));
        let end = stop.load(Ordering::Relaxed) || line == Err(RecvTimeoutError::Disconnected);
        let mut all: Vec<String> = line.into_iter().chain(lines.try_iter()).collect();
        while let Ok(notice) = notices.try_recv() {
            all.extend(notice_line(watch, &notice, format));
        }
        let print = || {
            let mut out = std::io::stdout().lock();
            // Lines that nothing reads are lost; the analysis goes on.
            let _ = all
                .iter()
                .try_for_each(|line| writeln!(out, "{line}"))
                .and_then(|()| out.flush());
            let skipped = skipped.load(Ordering::Relaxed);
            if skipped > reported {
                eprintln!(
                    "watch: {} lines were not printed: the reader is too slow",
                    skipped - reported
                );
                reported = skipped;
            }
        };
        match &bar {
            Some(bar) => {
                bar.suspend(print);
                bar.set_message(summary(watch));
                bar.tick();
            }
            None => {
                let mut print = print;
                print();
            }
        }
        if end {
            break;
        }
    }
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
}

/// The line of a notice, if it has one in this format.
fn notice_line(watch: &Watch, notice: &Notice, format: Format) -> Option<String> {
    match (format, notice) {
        (Format::DlStreamer, _) => None,
        (Format::Json, Notice::Camera { camera }) => {
            let camera = watch.camera(camera)?;
            Some(publish::camera(camera, &camera.status()).to_string())
        }
        (Format::Json, _) => Some(publish::event(notice)?.to_string()),
        (Format::Text, Notice::Begin { event }) => Some(format!(
            "{} {} event {} begins",
            date(event.begin),
            event.camera,
            event.id
        )),
        (Format::Text, Notice::End { event }) => Some(format!(
            "{} {} event {} ends ({}), peak {:.3} ({})",
            date(event.end.unwrap_or(event.begin)),
            event.camera,
            event.id,
            event.reason.as_deref().unwrap_or_default(),
            event.peak,
            event.cue,
        )),
        (Format::Text, Notice::Clip { event }) => Some(format!(
            "{} {} event {} clip {}",
            date(event.end.unwrap_or(event.begin)),
            event.camera,
            event.id,
            watch.file(event.clip.as_deref()?).display(),
        )),
        (Format::Text, Notice::Camera { camera }) => {
            let camera = watch.camera(camera)?;
            let (time, line) = (date(crate::state::now()), connection_line(camera));
            // Most changes are of the life-cycle state, which the lines of frames show.
            let mut last = lock(&camera.connection_line);
            (*last != line).then(|| {
                *last = line.clone();
                format!("{time} {} {line}", camera.id())
            })
        }
        (Format::Text, Notice::Storage) => {
            let error = watch.storage_error().unwrap_or_else(|| "works again".to_owned());
            Some(format!("{} storage: {error}", date(crate::state::now())))
        }
        _ => None,
    }
}

/// The connection of a camera in words.
fn connection_line(camera: &Camera) -> String {
    let status = camera.status();
    let error = status.error.unwrap_or_default();
    match status.connection {
        Connection::Connecting => "connecting".to_owned(),
        Connection::Playing => "playing".to_owned(),
        Connection::Failed => format!("failed: {error}"),
        Connection::Finished => "finished".to_owned(),
        Connection::Stopped => "stopped".to_owned(),
    }
}

/// The status line.
fn summary(watch: &Watch) -> String {
    let all: Vec<_> = watch.cameras.iter().map(|camera| camera.status()).collect();
    let playing = all
        .iter()
        .filter(|status| status.connection == Connection::Playing)
        .count();
    let open = all.iter().filter(|status| status.event.is_some()).count();
    let fps: f64 = all.iter().map(|status| status.fps).sum();
    let mut text = format!(
        "{playing} of {} cameras, {fps:.1} frames/s, {} events, {open} open",
        all.len(),
        watch.new_events(),
    );
    if let Some(address) = watch.address() {
        text.push_str(", ");
        text.push_str(&address);
    }
    text
}
