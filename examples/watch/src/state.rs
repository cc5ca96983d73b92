//! What is known of all cameras, shared by everything that shows or publishes it.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use gstvaeanomaly::FrameResult;
use serde::{Deserialize, Serialize};
use tokio::sync::{broadcast, watch};

use crate::archive::Backlog;
use crate::camera::Controls;
use crate::config::{CameraConfig, StorageConfig};
use crate::output::Output;
use crate::properties::Property;
use crate::store::{Store, StoreError};

/// Scores kept for the strip of a camera: a minute at 10 frames/s.
pub const STRIP: usize = 600;

/// Milliseconds since 1970-01-01 00:00 UTC.
pub type Millis = i64;

/// Now.
pub fn now() -> Millis {
    millis(SystemTime::now())
}

/// A time in milliseconds since 1970.
pub fn millis(time: SystemTime) -> Millis {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
        Err(_) => 0,
    }
}

/// Locks what no thread leaves half-changed, also after a panic elsewhere.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Whether a camera sends frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Connection {
    /// It is being opened.
    Connecting,
    /// Frames arrive.
    Playing,
    /// It has failed and is tried again at `retry_at`.
    Failed,
    /// A file has ended.
    Finished,
    /// The program is stopping.
    Stopped,
}

/// What the recording of a camera does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state", content = "reason")]
pub enum Recording {
    /// Switched off in the configuration.
    Off,
    /// It waits for an event.
    Idle,
    /// A clip is being written.
    Writing,
    /// No clip can be written, for this reason; the next event tries again.
    Failed(String),
}

/// The last losses of the appearance model and of the motion model; 0 before the first step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Losses {
    pub loss: f64,
    pub reconstruction: f64,
    pub kl: f64,
    pub motion_loss: f64,
}

/// The state of a camera at one moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Status {
    pub connection: Connection,
    /// Why it has failed, while it has.
    pub error: Option<String>,
    /// Failures since the last frame.
    pub attempts: u32,
    /// When it is tried again.
    pub retry_at: Option<Millis>,
    /// Life-cycle state of the detector.
    pub state: String,
    /// `normal`, `anomaly` or `unknown`.
    pub label: String,
    /// 0 to 1; 0.5 is the threshold.
    pub score: f64,
    pub raw_score: f64,
    pub threshold: f64,
    pub cue: String,
    pub losses: Losses,
    /// Size of the analysed frames in pixels.
    pub width: u32,
    pub height: u32,
    /// Frames a second, over the last seconds.
    pub fps: f64,
    /// Frames since the program started.
    pub frames: u64,
    /// Frames that were not scored because the machine was too slow.
    pub unscored: u64,
    /// Restarts of the source.
    pub restarts: u64,
    pub recording: Recording,
    /// The open event.
    pub event: Option<i64>,
    /// Time of the last frame.
    pub updated: Millis,
}

/// A score in the strip.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Score {
    pub time: Millis,
    pub score: f32,
    /// Whether the frame was labelled as an anomaly.
    pub anomaly: bool,
}

/// An image as JPEG.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    pub time: Millis,
    pub jpeg: Vec<u8>,
}

/// A region of an anomalous frame in pixels of the analysed frame.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RegionInfo {
    pub id: u64,
    pub score: f64,
    pub cue: String,
    pub x: u32,
    pub y: u32,
    pub width: u32,
    pub height: u32,
}

/// An anomaly from its begin to its end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Unique and rising over all cameras and restarts.
    pub id: i64,
    /// The camera's id.
    pub camera: String,
    /// The detector's number of the event, for `accept-event`.
    pub number: u64,
    pub begin: Millis,
    /// `None` while it is open.
    pub end: Option<Millis>,
    /// Why it ended: `over`, `absorbed`, or `interrupted` by a failure of the source or of the program.
    pub reason: Option<String>,
    /// Highest score, 0 to 1.
    pub peak: f64,
    pub peak_time: Millis,
    pub cue: String,
    /// Size of the analysed frames, which the regions refer to.
    pub width: u32,
    pub height: u32,
    /// The regions at the peak, the strongest first.
    pub regions: Vec<RegionInfo>,
    /// Path of a JPEG file below the storage folder.
    pub thumbnail: Option<String>,
    /// Path of an MP4 file below the storage folder; several events can be in one.
    pub clip: Option<String>,
    /// Time of the clip's first frame.
    pub clip_begin: Option<Millis>,
    /// Whether the clip is complete.
    pub clip_done: bool,
    /// Accepted as normal.
    pub accepted: bool,
}

/// Something happened.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "type")]
pub enum Notice {
    Begin {
        event: Event,
    },
    /// A new peak, thumbnail or clip of an open event.
    Update {
        event: Event,
    },
    End {
        event: Event,
    },
    /// The clip of an event is complete.
    Clip {
        event: Event,
    },
    Accepted {
        event: Event,
    },
    /// It was too old and was removed.
    Removed {
        id: i64,
    },
    /// Connection, life-cycle state or recording of a camera has changed.
    Camera {
        camera: String,
    },
    /// The storage has failed or works again; see [`Watch::storage_error`].
    Storage,
}

impl Notice {
    /// The event that it is about.
    pub fn event(&self) -> Option<&Event> {
        match self {
            Notice::Begin { event }
            | Notice::Update { event }
            | Notice::End { event }
            | Notice::Clip { event }
            | Notice::Accepted { event } => Some(event),
            Notice::Removed { .. } | Notice::Camera { .. } | Notice::Storage => None,
        }
    }
}

/// A property of a camera with its present value.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Setting {
    /// Name with prefix, such as `threshold` or `gate.pre-roll`.
    pub name: String,
    pub value: String,
    /// The value of the configuration file, or the element's default.
    pub default: String,
    /// The allowed values in words.
    pub range: String,
    pub description: String,
    /// Whether a change applies at once; other changes restart the camera.
    pub immediate: bool,
}

/// Why a command to a camera was refused.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    #[error("there is no camera {0}")]
    NoCamera(String),
    #[error("there is no event {0}")]
    NoEvent(i64),
    #[error("there is no property {0}")]
    NoProperty(String),
    /// A value out of range, with the range.
    #[error("{0}")]
    Value(String),
    #[error(
        "event {0} can no longer be accepted: the camera was restarted since, or 64 later events were seen"
    )]
    TooLate(i64),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{0}")]
    File(#[from] std::io::Error),
}

/// One camera.
#[derive(Debug)]
pub struct Camera {
    pub config: CameraConfig,
    status: Mutex<Status>,
    /// Number of the last score ever, and the last scores.
    strip: Mutex<(u64, VecDeque<Score>)>,
    live: watch::Sender<Option<Arc<Image>>>,
    pub(crate) controls: Controls,
    /// Time of the frame that was last printed.
    pub(crate) printed: AtomicI64,
    /// What was last printed of its connection.
    pub(crate) connection_line: Mutex<String>,
}

impl Camera {
    pub(crate) fn new(config: CameraConfig, changed: Vec<(String, String)>) -> Self {
        let recording = match config.record {
            true => Recording::Idle,
            false => Recording::Off,
        };
        Self {
            status: Mutex::new(Status {
                connection: Connection::Connecting,
                error: None,
                attempts: 0,
                retry_at: None,
                state: "warming-up".to_owned(),
                label: "unknown".to_owned(),
                score: 0.0,
                raw_score: 0.0,
                threshold: 0.0,
                cue: "motion".to_owned(),
                losses: Losses::default(),
                width: 0,
                height: 0,
                fps: 0.0,
                frames: 0,
                unscored: 0,
                restarts: 0,
                recording,
                event: None,
                updated: 0,
            }),
            strip: Mutex::new((0, VecDeque::with_capacity(STRIP))),
            live: watch::Sender::new(None),
            printed: AtomicI64::new(0),
            connection_line: Mutex::default(),
            controls: Controls::new(changed),
            config,
        }
    }

    /// The camera's id, for paths and topics.
    pub fn id(&self) -> &str {
        &self.config.id
    }

    /// A copy of the state.
    pub fn status(&self) -> Status {
        lock(&self.status).clone()
    }

    pub(crate) fn update<T>(&self, change: impl FnOnce(&mut Status) -> T) -> T {
        change(&mut lock(&self.status))
    }

    /// Scores after number `after` (0: all that are kept), the oldest first, and the number of the last one.
    pub fn scores(&self, after: u64) -> (u64, Vec<Score>) {
        let strip = lock(&self.strip);
        let (last, scores) = &*strip;
        let new = usize::try_from(last.saturating_sub(after)).unwrap_or(usize::MAX);
        let skip = scores.len().saturating_sub(new);
        (*last, scores.iter().skip(skip).copied().collect())
    }

    pub(crate) fn push_score(&self, score: Score) {
        let mut strip = lock(&self.strip);
        strip.0 += 1;
        if strip.1.len() == STRIP {
            strip.1.pop_front();
        }
        strip.1.push_back(score);
    }

    /// Live images with the overlay. They are made only while there is a receiver: the first may take a moment.
    pub fn live(&self) -> watch::Receiver<Option<Arc<Image>>> {
        self.live.subscribe()
    }

    pub(crate) fn is_viewed(&self) -> bool {
        self.live.receiver_count() > 0
    }

    pub(crate) fn show(&self, image: Arc<Image>) {
        self.live.send_replace(Some(image));
    }

    /// All properties with their present values.
    pub fn settings(&self) -> Vec<Setting> {
        let configured = |name: &str| {
            let found = self.config.properties.iter().find(|(key, _)| key == name);
            found.map(|(_, value)| value.clone())
        };
        let changed = self.controls.changed();
        Property::all()
            .into_iter()
            .map(|property| {
                let name = property.name();
                let default = configured(&name).unwrap_or_else(|| property.default());
                let change = changed.iter().find(|(key, _)| *key == name);
                Setting {
                    value: change.map_or_else(|| default.clone(), |(_, value)| value.clone()),
                    default,
                    range: property.range(),
                    description: property.spec.blurb().unwrap_or_default().to_owned(),
                    immediate: property.is_mutable(),
                    name,
                }
            })
            .collect()
    }
}

/// All cameras, their events and where these are kept.
#[derive(Debug)]
pub struct Watch {
    pub cameras: Vec<Arc<Camera>>,
    pub store: Store,
    pub storage: StorageConfig,
    notices: broadcast::Sender<Arc<Notice>>,
    last_event: AtomicI64,
    /// Why events or clips cannot be stored at the moment.
    storage_error: Mutex<Option<String>>,
    /// Events that could not be stored.
    backlog: Mutex<Backlog>,
    /// Events that were discarded because too many waited.
    lost: AtomicU64,
    /// Events since the start.
    events: AtomicU64,
    pub started: Millis,
    /// Where the page is, once it is served.
    address: Mutex<Option<String>>,
    /// Prints a line for frames.
    pub(crate) output: OnceLock<Output>,
}

impl Watch {
    /// Opens the storage folder.
    ///
    /// # Errors
    /// The folder or the database cannot be opened.
    pub fn new(cameras: Vec<CameraConfig>, storage: StorageConfig) -> anyhow::Result<Arc<Self>> {
        let store = Store::open(&storage.folder)?;
        let changed = store.settings()?;
        let cameras = cameras.into_iter().map(|config| {
            let of_camera = changed.iter().filter(|(camera, ..)| *camera == config.id);
            let changed = of_camera.map(|(_, name, value)| (name.clone(), value.clone()));
            let changed = changed.collect();
            Arc::new(Camera::new(config, changed))
        });
        Ok(Arc::new(Self {
            cameras: cameras.collect(),
            last_event: AtomicI64::new(store.last_event()?),
            store,
            storage,
            notices: broadcast::Sender::new(1024),
            storage_error: Mutex::new(None),
            backlog: Mutex::default(),
            lost: AtomicU64::new(0),
            events: AtomicU64::new(0),
            started: now(),
            address: Mutex::new(None),
            output: OnceLock::new(),
        }))
    }

    /// The camera with this id.
    pub fn camera(&self, id: &str) -> Option<&Arc<Camera>> {
        self.cameras.iter().find(|camera| camera.id() == id)
    }

    /// All that happens from now on. A receiver that is too slow loses the oldest.
    pub fn notices(&self) -> broadcast::Receiver<Arc<Notice>> {
        self.notices.subscribe()
    }

    pub(crate) fn notify(&self, notice: Notice) {
        // Without receivers nothing is sent.
        let _ = self.notices.send(Arc::new(notice));
    }

    /// A new event's id.
    pub(crate) fn next_event(&self) -> i64 {
        self.events.fetch_add(1, Ordering::Relaxed);
        let time = now();
        let next = |last: i64| time.max(last + 1);
        let last = self
            .last_event
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(next(last)));
        // The closure always returns a value.
        next(last.unwrap_or_else(|last| last))
    }

    /// Where the page is, if it is served.
    pub fn address(&self) -> Option<String> {
        lock(&self.address).clone()
    }

    /// Publishes where the page is.
    pub fn set_address(&self, address: String) {
        *lock(&self.address) = Some(address);
    }

    /// Why nothing can be stored at the moment, if so.
    pub fn storage_error(&self) -> Option<String> {
        lock(&self.storage_error).clone()
    }

    /// Events since the start.
    pub fn new_events(&self) -> u64 {
        self.events.load(Ordering::Relaxed)
    }

    /// Events that could neither be stored nor kept in memory.
    pub fn lost_events(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Publishes whether storing works.
    pub(crate) fn report_storage(&self, result: Result<(), String>) {
        let error = result.err();
        let changed = {
            let mut current = lock(&self.storage_error);
            let changed = *current != error;
            *current = error;
            changed
        };
        if changed {
            self.notify(Notice::Storage);
        }
    }

    /// Stores an event, now or as soon as it is possible.
    pub(crate) fn put(&self, event: &Event) {
        let mut backlog = lock(&self.backlog);
        // Nothing overtakes what waits.
        let stored = match backlog.is_empty() {
            true => self.store.put(event),
            false => backlog
                .store(|event| self.store.put(event))
                .and_then(|()| self.store.put(event)),
        };
        if let Err(error) = stored {
            if backlog.push(event) {
                self.lost.fetch_add(1, Ordering::Relaxed);
            }
            drop(backlog);
            self.report_storage(Err(error.to_string()));
        }
    }

    /// Whether events wait for the database.
    pub(crate) fn has_backlog(&self) -> bool {
        !lock(&self.backlog).is_empty()
    }

    /// Stores what waits.
    pub(crate) fn retry(&self) {
        let mut backlog = lock(&self.backlog);
        if backlog.is_empty() {
            return;
        }
        let stored = backlog.store(|event| self.store.put(event));
        drop(backlog);
        self.report_storage(stored.map_err(|error| error.to_string()));
    }

    /// A frame was analysed.
    pub(crate) fn frame(&self, camera: &Arc<Camera>, result: &FrameResult, time: Millis) {
        if let Some(output) = self.output.get() {
            output.frame(camera, result, time);
        }
    }

    /// The file of a path from an [`Event`].
    pub fn file(&self, path: &str) -> PathBuf {
        self.storage.folder.join(path)
    }

    /// Sets a property of a camera; kept over restarts of the program. `None` returns to the configuration file's value.
    ///
    /// # Errors
    /// No such camera or property, a value out of range, or it cannot be stored.
    pub fn set_property(&self, camera: &str, name: &str, value: Option<&str>) -> Result<(), CommandError> {
        let camera = self.find(camera)?;
        let property = Property::find(name).ok_or_else(|| CommandError::NoProperty(name.to_owned()))?;
        let name = property.name();
        if let Some(value) = value {
            property.parse(value).map_err(CommandError::Value)?;
            camera.config.check(&name, value).map_err(CommandError::Value)?;
        }
        self.store.set_setting(camera.id(), &name, value)?;
        camera.controls.set(&camera.config, &property, value);
        Ok(())
    }

    /// Accepts an event as normal: the detector learns it.
    ///
    /// # Errors
    /// No such event, it is too old, or it cannot be stored.
    pub fn accept(&self, id: i64) -> Result<Event, CommandError> {
        let mut event = self.store.event(id)?.ok_or(CommandError::NoEvent(id))?;
        let camera = self.find(&event.camera)?;
        if !camera.controls.accept(&event) {
            return Err(CommandError::TooLate(id));
        }
        self.store.accept(id)?;
        event.accepted = true;
        self.notify(Notice::Accepted { event: event.clone() });
        Ok(event)
    }

    fn find(&self, id: &str) -> Result<&Arc<Camera>, CommandError> {
        self.camera(id)
            .ok_or_else(|| CommandError::NoCamera(id.to_owned()))
    }
}

/// Writes a file so that it is whole at any time.
pub(crate) fn write_whole(file: &Path, content: &[u8]) -> std::io::Result<()> {
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let part = file.with_extension("part");
    std::fs::write(&part, content)?;
    std::fs::rename(part, file)
}
