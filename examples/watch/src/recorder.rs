//! Writes the clips that the gate lets through, one MP4 file each.
//!
//! A thread of its own does it, so that a slow or full disk never delays the analysis. A clip is written in fragments of a
//! second and completed at its end: until then, also after the process was killed, it can be played up to the last fragment.

use std::fs;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use anyhow::{Context, Result, anyhow, bail};
use gst::prelude::*;

/// Encoded frames that wait for the disk, over half a minute at 25 frames/s.
const QUEUE: usize = 1000;

/// What the pipeline sends to the recorder.
#[derive(Debug)]
enum Input {
    /// A clip starts with the next frame.
    Begin,
    /// A clip starts with the last key frame, unless one is being written.
    Arm,
    Frame(gst::Sample),
    /// The clip ended with the last frame.
    End,
    Stop,
}

/// What the recorder reports.
#[derive(Debug)]
pub enum Report {
    /// A file is being written; its first frame has this running time.
    Opened { path: String, begin: gst::ClockTime },
    /// It is complete.
    Done { path: String },
    /// It is incomplete, or nothing could be written.
    Failed { path: Option<String>, reason: String },
}

/// Where files go and what they are called.
#[derive(Debug)]
pub struct Settings {
    /// The storage folder.
    pub folder: PathBuf,
    /// The camera's id.
    pub camera: String,
    /// Free space that must be left, in bytes.
    pub min_free: u64,
}

/// The pipeline's end of a running recorder.
#[derive(Debug)]
pub struct Recorder {
    input: SyncSender<Input>,
    thread: JoinHandle<()>,
}

/// Sends to a recorder from the streaming thread.
#[derive(Clone, Debug)]
pub struct Sink {
    input: SyncSender<Input>,
    reports: Sender<Report>,
}

impl Recorder {
    /// Starts the thread. `name` makes a file's name of the running time at which it begins.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start(
        settings: Settings,
        name: impl Fn(gst::ClockTime) -> String + Send + 'static,
        reports: Sender<Report>,
    ) -> Result<(Self, Sink)> {
        let (input, receiver) = sync_channel(QUEUE);
        let sink = Sink {
            input: input.clone(),
            reports: reports.clone(),
        };
        let mut writer = Writer {
            settings,
            name: Box::new(name),
            reports,
            armed: false,
            recent: Vec::new(),
            clip: None,
        };
        let thread = std::thread::Builder::new()
            .name("recorder".to_owned())
            .spawn(move || writer.run(&receiver))
            .context("no thread can be started")?;
        Ok((Self { input, thread }, sink))
    }

    /// Begins a clip with the last key frame, unless one is being written: the gate reports no begin where it lets everything
    /// through, as it does while the detector is learning.
    pub fn arm(&self) {
        // A full queue is reported with the next frame.
        let _ = self.input.try_send(Input::Arm);
    }

    /// Completes the clip and ends the thread.
    pub fn finish(self) {
        // Fails only when the thread has ended already.
        let _ = self.input.send(Input::Stop);
        // A panic was printed by the thread.
        let _ = self.thread.join();
    }
}

impl Sink {
    /// Handles a message of the gate.
    pub fn message(&self, message: &gst::StructureRef) {
        let kept = |reason: &str| matches!(reason, "event" | "pre-roll" | "reference");
        let input = match message.get::<&str>("event") {
            // What is kept while the detector is still learning is no event.
            Ok("clip-begin") if message.get::<&str>("reason").is_ok_and(kept) => Input::Begin,
            Ok("clip-end") => Input::End,
            _ => return,
        };
        self.send(input);
    }

    /// A frame that the gate let through.
    pub fn frame(&self, sample: gst::Sample) {
        self.send(Input::Frame(sample));
    }

    fn send(&self, input: Input) {
        if let Err(TrySendError::Full(_)) = self.input.try_send(input) {
            // The camera's thread is gone only when all stops.
            let _ = self.reports.send(Report::Failed {
                path: None,
                reason: "the disk is too slow: frames of a clip are missing".to_owned(),
            });
        }
    }
}

struct Writer {
    settings: Settings,
    name: Box<dyn Fn(gst::ClockTime) -> String + Send>,
    reports: Sender<Report>,
    /// A clip begins with the next key frame.
    armed: bool,
    /// Frames since the last key frame that belong to no clip.
    recent: Vec<gst::Sample>,
    clip: Option<Clip>,
}

impl Writer {
    fn run(&mut self, input: &Receiver<Input>) {
        for input in input {
            match input {
                Input::Begin => {
                    self.armed = self.clip.is_none();
                    self.recent.clear();
                }
                Input::Arm => {
                    self.armed = self.clip.is_none();
                    for sample in std::mem::take(&mut self.recent) {
                        self.frame(&sample);
                    }
                }
                Input::Frame(sample) => self.frame(&sample),
                Input::End => {
                    self.armed = false;
                    self.recent.clear();
                    self.end();
                }
                Input::Stop => break,
            }
        }
        self.end();
    }

    fn report(&self, report: Report) {
        // The camera's thread is gone only when all stops.
        let _ = self.reports.send(report);
    }

    fn frame(&mut self, sample: &gst::Sample) {
        if self.clip.as_ref().is_some_and(|clip| !clip.accepts(sample)) {
            // The camera has changed its format.
            self.end();
            self.armed = true;
        }
        if let Some(clip) = &self.clip {
            if let Err(error) = clip.write(sample) {
                self.fail(&error);
            }
            return;
        }
        let key = sample
            .buffer()
            .is_some_and(|buffer| !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT));
        if !self.armed {
            self.keep(sample, key);
        }
        if !self.armed || !key {
            return;
        }
        self.armed = false;
        match self.open(sample) {
            Ok(clip) => {
                self.report(Report::Opened {
                    path: clip.path.clone(),
                    begin: clip.begin,
                });
                self.clip = Some(clip);
            }
            Err(error) => self.fail(&error),
        }
    }

    /// Keeps a frame that belongs to no clip, for one that begins before the next key frame.
    fn keep(&mut self, sample: &gst::Sample, key: bool) {
        if key || self.recent.len() == QUEUE {
            self.recent.clear();
        }
        if key || !self.recent.is_empty() {
            self.recent.push(sample.clone());
        }
    }

    fn open(&self, sample: &gst::Sample) -> Result<Clip> {
        let segment = sample
            .segment()
            .and_then(|segment| segment.downcast_ref::<gst::ClockTime>());
        let begin = sample
            .buffer()
            .and_then(|buffer| segment?.to_running_time(buffer.pts()));
        let begin = begin.unwrap_or_default();
        let Settings {
            folder,
            camera,
            min_free,
        } = &self.settings;
        fs::create_dir_all(folder.join("clips").join(camera))?;
        let free = free_space(folder)?;
        if free < *min_free {
            bail!(
                "the disk is full: {} MB are free, {} MB must stay free",
                free / 1_000_000,
                min_free / 1_000_000
            );
        }
        let name = (self.name)(begin);
        let path = (1..)
            .map(|number| match number {
                1 => format!("clips/{camera}/{name}.mp4"),
                _ => format!("clips/{camera}/{name}-{number}.mp4"),
            })
            .find(|path| !folder.join(path).exists())
            .context("all names are taken")?;
        let clip = Clip::create(&folder.join(&path), path, begin, sample)?;
        clip.write(sample)?;
        Ok(clip)
    }

    fn end(&mut self) {
        let Some(clip) = self.clip.take() else {
            return;
        };
        let path = clip.path.clone();
        match clip.finish() {
            Ok(()) => self.report(Report::Done { path }),
            Err(error) => self.report(Report::Failed {
                path: Some(path),
                reason: format!("{error:#}"),
            }),
        }
    }

    fn fail(&mut self, error: &anyhow::Error) {
        let path = self.clip.take().map(|clip| clip.path.clone());
        self.report(Report::Failed {
            path,
            reason: format!("{error:#}"),
        });
    }
}

/// Free bytes on the disk of a folder.
///
/// # Errors
/// The folder is not there.
pub fn free_space(folder: &Path) -> std::io::Result<u64> {
    let disk = rustix::fs::statvfs(folder)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// Whether a file has video that can be played, if it was not completed: a whole fragment.
pub fn is_playable(file: &Path) -> bool {
    fs::File::open(file)
        .and_then(|file| has_media(&file))
        .unwrap_or(false)
}

/// Whether an MP4 file has a whole `mdat` box with something in it.
fn has_media(mut file: &fs::File) -> io::Result<bool> {
    let length = file.metadata()?.len();
    let mut at = 0;
    loop {
        file.seek(SeekFrom::Start(at))?;
        let mut header = [0; 8];
        file.read_exact(&mut header)?;
        let [a, b, c, d, kind @ ..] = header;
        let (size, empty) = match u32::from_be_bytes([a, b, c, d]) {
            0 => (length - at, 8),
            // A large size follows.
            1 => {
                file.read_exact(&mut header)?;
                (u64::from_be_bytes(header), 16)
            }
            size => (size.into(), 8),
        };
        let end = at.checked_add(size).filter(|end| size >= empty && *end <= length);
        match end {
            Some(_) if kind == *b"mdat" && size > empty => return Ok(true),
            Some(end) => at = end,
            None => return Ok(false),
        }
    }
}

/// The file of the current clip.
struct Clip {
    pipeline: gst::Pipeline,
    input: gst_app::AppSrc,
    caps: Option<gst::Caps>,
    path: String,
    begin: gst::ClockTime,
}

impl Clip {
    fn create(file: &Path, path: String, begin: gst::ClockTime, sample: &gst::Sample) -> Result<Self> {
        let pipeline = gst::Pipeline::new();
        let input = gst_app::AppSrc::builder()
            .format(gst::Format::Time)
            .handle_segment_change(true)
            .max_bytes(0)
            .build();
        let caps = sample.caps_owned();
        input.set_caps(caps.as_ref());
        let muxer = gst::ElementFactory::make("mp4mux")
            .property("fragment-duration", 1000_u32)
            .build()?;
        muxer.set_property_from_str("fragment-mode", "first-moov-then-finalise");
        let output = gst::ElementFactory::make("filesink")
            .property("location", file.to_str().context("the path is not UTF-8")?)
            .property_from_str("buffer-mode", "unbuffered")
            .build()?;
        pipeline.add_many([input.upcast_ref(), &muxer, &output])?;
        input.link_pads(Some("src"), &muxer, Some("video_%u"))?;
        muxer.link(&output)?;
        let clip = Self {
            pipeline,
            input,
            caps,
            path,
            begin,
        };
        match clip.pipeline.set_state(gst::State::Playing) {
            Ok(_) => Ok(clip),
            Err(error) => Err(clip.failure().unwrap_or(error.into())),
        }
    }

    /// Whether the format is still the same.
    fn accepts(&self, sample: &gst::Sample) -> bool {
        sample.caps_owned() == self.caps
    }

    fn write(&self, sample: &gst::Sample) -> Result<()> {
        match self.failure() {
            Some(failure) => Err(failure),
            None => self
                .input
                .push_sample(sample)
                .map(drop)
                .context("the file was closed"),
        }
    }

    /// The error on the bus, if there is one.
    fn failure(&self) -> Option<anyhow::Error> {
        let message = self.pipeline.bus()?.pop_filtered(&[gst::MessageType::Error])?;
        match message.view() {
            gst::MessageView::Error(error) => Some(reason(error)),
            _ => None,
        }
    }

    /// Completes the file.
    fn finish(self) -> Result<()> {
        self.input.end_of_stream().context("the file was closed")?;
        let bus = self.pipeline.bus().context("a pipeline has a bus")?;
        let ends = [gst::MessageType::Eos, gst::MessageType::Error];
        let message = bus.timed_pop_filtered(gst::ClockTime::from_seconds(30), &ends);
        match message.as_ref().map(|message| message.view()) {
            Some(gst::MessageView::Eos(_)) => Ok(()),
            Some(gst::MessageView::Error(error)) => Err(reason(error)),
            _ => Err(anyhow!("the file could not be completed in 30 s")),
        }
    }
}

impl Drop for Clip {
    fn drop(&mut self) {
        // Nothing can be done if stopping fails.
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

/// An error in words.
pub fn reason(error: &gst::message::Error) -> anyhow::Error {
    if error.error().matches(gst::ResourceError::NoSpaceLeft) {
        return anyhow!("the disk is full");
    }
    anyhow!("{}", error.error())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames in H.264, every tenth a key frame.
    fn samples(count: u32) -> Vec<gst::Sample> {
        gst::init().unwrap();
        let description = format!(
            "videotestsrc num-buffers={count} ! video/x-raw,width=64,height=64,framerate=10/1 ! x264enc tune=zerolatency \
             key-int-max=10 ! h264parse ! video/x-h264,stream-format=avc,alignment=au ! appsink name=sink sync=false"
        );
        let pipeline = gst::parse::launch(&description).unwrap();
        let sink = pipeline.downcast_ref::<gst::Bin>().unwrap().by_name("sink");
        let sink = sink.unwrap().downcast::<gst_app::AppSink>().unwrap();
        pipeline.set_state(gst::State::Playing).unwrap();
        let samples = std::iter::from_fn(|| sink.pull_sample().ok()).collect();
        pipeline.set_state(gst::State::Null).unwrap();
        samples
    }

    #[test]
    fn a_clip_that_is_armed_late_begins_with_the_last_key_frame() {
        let samples = samples(40);
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings {
            folder: folder.path().to_owned(),
            camera: "door".to_owned(),
            min_free: 0,
        };
        let (reports, received) = std::sync::mpsc::channel();
        let (recorder, sink) =
            Recorder::start(settings, |begin| begin.nseconds().to_string(), reports).unwrap();
        let (before, after) = samples.split_at(25);
        before.iter().for_each(|sample| sink.frame(sample.clone()));
        recorder.arm();
        after.iter().for_each(|sample| sink.frame(sample.clone()));
        recorder.finish();
        let reports: Vec<_> = received.try_iter().collect();
        let [Report::Opened { path, begin }, Report::Done { .. }] = &reports[..] else {
            panic!("{reports:?}");
        };
        let key = samples[20].buffer().and_then(|buffer| buffer.pts()).unwrap();
        let segment = samples[0]
            .segment()
            .unwrap()
            .downcast_ref::<gst::ClockTime>()
            .unwrap()
            .clone();
        assert_eq!(Some(*begin), segment.to_running_time(key));
        let content = fs::read(folder.path().join(path)).unwrap();
        // Number of frames: in the only entry of the table of durations.
        let table = content.windows(4).rposition(|bytes| bytes == b"stts").unwrap();
        assert_eq!(content[table + 8..table + 16], [0, 0, 0, 1, 0, 0, 0, 20]);
    }

    #[test]
    fn a_clip_can_be_played_from_its_first_whole_fragment_on() {
        fn part(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
            let size = 8 + content.len() as u32;
            [&size.to_be_bytes()[..], kind, content].concat()
        }
        let header = [part(b"ftyp", b"iso5"), part(b"moov", &[0; 40])].concat();
        let fragment = [part(b"moof", &[0; 30]), part(b"mdat", b"frames")].concat();
        let whole = [header.clone(), fragment].concat();
        let large = [&1_u32.to_be_bytes()[..], b"mdat", &20_u64.to_be_bytes(), b"more"].concat();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("clip.mp4");
        let is_playable = |content: &[u8]| {
            fs::write(&file, content).unwrap();
            super::is_playable(&file)
        };
        assert!(is_playable(&whole));
        assert!(!is_playable(&whole[..whole.len() - 1]));
        assert!(!is_playable(&header));
        assert!(!is_playable(b""));
        assert!(!is_playable(&[header.clone(), part(b"mdat", b"")].concat()));
        assert!(!is_playable(
            &[header.clone(), vec![0, 0, 0, 3, b'f', b'r', b'e', b'e']].concat()
        ));
        assert!(is_playable(&[header.clone(), large.clone()].concat()));
        assert!(!is_playable(&[header, large[..18].to_vec()].concat()));
        assert!(!super::is_playable(&folder.path().join("none.mp4")));
    }
}
