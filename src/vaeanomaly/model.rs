//! The model file of an element: where it is, when it is written, and the thread that writes it.

use std::collections::{BTreeSet, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use crate::detector::store::{self, Model, Refusal};
use crate::detector::{Error, Result};
use crate::gstutil::lock;

/// Something to report about a model file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ModelReport {
    Saved {
        location: PathBuf,
        frames: u64,
        bytes: u64,
        at: u64,
    },
    Loaded {
        location: PathBuf,
        frames: u64,
        bytes: u64,
        began: u64,
        saved: u64,
    },
    Refused(Refusal),
    /// It could not be written, for the first time since the last success for this kind of reason.
    Failed {
        location: PathBuf,
        reason: String,
    },
}

impl ModelReport {
    pub(super) fn loaded(location: &Path, model: &Model, bytes: u64) -> Self {
        Self::Loaded {
            location: location.to_owned(),
            frames: model.learnt.frames(),
            bytes,
            began: model.began,
            saved: model.saved,
        }
    }
}

/// Unix time in seconds.
pub(super) fn unix_time() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// A location as users write it: `%s` is the name of the element, in which `/` becomes `_`, and `%%` is a `%`.
///
/// # Errors
/// Any other escape.
pub(super) fn expand(location: &str, element: &str) -> Result<PathBuf> {
    let mut path = String::new();
    let mut characters = location.chars();
    while let Some(c) = characters.next() {
        match (c, c == '%') {
            (c, false) => path.push(c),
            _ => match characters.next() {
                Some('s') => path.push_str(&element.replace('/', "_")),
                Some('%') => path.push('%'),
                other => {
                    let got = format!("%{} in \"{location}\"", other.map_or(String::new(), String::from));
                    return Err(Error::Setting {
                        name: "model-location",
                        allowed: "a path in which % is followed by s or %".to_owned(),
                        got,
                    });
                }
            },
        }
    }
    Ok(path.into())
}

/// The right to write to a location, which one element of a process has.
#[derive(Debug)]
struct Claim(PathBuf);

static CLAIMED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

impl Claim {
    fn new(location: &Path) -> Result<Self> {
        let path = std::path::absolute(location).unwrap_or_else(|_| location.to_owned());
        match lock(&CLAIMED).insert(path.clone()) {
            true => Ok(Self(path)),
            false => Err(Error::Setting {
                name: "model-location",
                allowed: "a file of its own for each element (%s is the element's name)".to_owned(),
                got: format!("{}, which another element uses", path.display()),
            }),
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        lock(&CLAIMED).remove(&self.0);
    }
}

enum Job {
    Save(Box<Model>),
    /// What is at the location is of another camera.
    SetAside {
        reason: String,
    },
}

/// The model file of one element between start and stop.
#[derive(Debug)]
pub(super) struct ModelFile {
    location: PathBuf,
    /// What was loaded at start, until the caps are known.
    loaded: Option<(Model, u64)>,
    jobs: mpsc::Sender<Job>,
    /// Jobs that are not done yet.
    pending: Arc<AtomicUsize>,
    /// Whether the last one could not be written.
    failed: Arc<AtomicBool>,
    writer: JoinHandle<()>,
    /// When the last save was asked for.
    last: Instant,
    /// Whether there is a file that could neither be loaded nor moved: nothing is written over it.
    protected: bool,
    _claim: Claim,
}

impl ModelFile {
    /// Loads what is at `location`, and starts the thread that writes to it. `report` is called in that thread.
    ///
    /// # Errors
    /// Another element uses the location, or there can be no more threads.
    pub(super) fn open(
        location: PathBuf,
        report: impl Fn(ModelReport) + Send + 'static,
    ) -> Result<(Self, Vec<Refusal>)> {
        let claim = Claim::new(&location)?;
        let loaded = store::load(&location);
        let (jobs, queue) = mpsc::channel();
        let pending = Arc::new(AtomicUsize::new(0));
        let failed = Arc::new(AtomicBool::new(false));
        let (done, last_failed) = (Arc::clone(&pending), Arc::clone(&failed));
        let path = location.clone();
        let writer = std::thread::Builder::new()
            .name("vaeanomaly-model".to_owned())
            .spawn(move || run(&path, &queue, (&done, &last_failed), &report))
            .map_err(|error| Error::File {
                path: location.clone(),
                error,
            })?;
        let file = Self {
            location,
            loaded: loaded.model,
            jobs,
            pending,
            failed,
            writer,
            last: Instant::now(),
            protected: loaded.refused.iter().any(|refusal| refusal.kept_as.is_none()),
            _claim: claim,
        };
        Ok((file, loaded.refused))
    }

    pub(super) fn location(&self) -> &Path {
        &self.location
    }

    /// What was loaded at start; once.
    pub(super) fn take_loaded(&mut self) -> Option<(Model, u64)> {
        self.loaded.take()
    }

    /// Whether it is time to save again; never while the thread is still writing.
    pub(super) fn is_due(&self, interval: Duration) -> bool {
        !self.protected
            && !interval.is_zero()
            && self.last.elapsed() >= interval
            && self.pending.load(Ordering::Relaxed) == 0
    }

    /// Whether the last model could not be written.
    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// Lets the thread write a model.
    pub(super) fn save(&mut self, model: Model) {
        self.last = Instant::now();
        if self.protected {
            return;
        }
        self.send(Job::Save(Box::new(model)));
    }

    /// Lets the thread move the file to another name, after everything before.
    pub(super) fn set_aside(&mut self, reason: String) {
        self.send(Job::SetAside { reason });
    }

    /// Moves the file that was loaded, but is of another camera, to another name.
    pub(super) fn refuse(&mut self, reason: String) -> ModelReport {
        let refusal = set_aside(&self.location, reason);
        self.protected |= refusal.kept_as.is_none();
        ModelReport::Refused(refusal)
    }

    fn send(&self, job: Job) {
        self.pending.fetch_add(1, Ordering::Relaxed);
        // The thread ends when this does.
        let _ = self.jobs.send(job);
    }

    /// Waits until everything is written.
    pub(super) fn close(self) {
        drop(self.jobs);
        // A panic there has been reported.
        let _ = self.writer.join();
    }
}

fn run(
    location: &Path,
    queue: &mpsc::Receiver<Job>,
    (pending, failed): (&AtomicUsize, &AtomicBool),
    report: &dyn Fn(ModelReport),
) {
    let mut warned: HashSet<io::ErrorKind> = HashSet::new();
    while let Ok(job) = queue.recv() {
        match job {
            Job::Save(model) => match write(location, *model) {
                Ok(saved) => {
                    warned.clear();
                    failed.store(false, Ordering::Relaxed);
                    report(saved);
                }
                Err((kind, reason)) => {
                    failed.store(true, Ordering::Relaxed);
                    if warned.insert(kind) {
                        report(ModelReport::Failed {
                            location: location.to_owned(),
                            reason,
                        });
                    }
                }
            },
            Job::SetAside { reason } => report(ModelReport::Refused(set_aside(location, reason))),
        }
        pending.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Writes a model to a file.
///
/// # Errors
/// The kind of failure, and a sentence.
pub(super) fn write(
    location: &Path,
    model: Model,
) -> std::result::Result<ModelReport, (io::ErrorKind, String)> {
    let (frames, at) = (model.learnt.frames(), model.saved);
    let content = store::write(model).map_err(|e| (io::ErrorKind::InvalidData, e.to_string()))?;
    store::save(location, &content).map_err(|e| (e.kind(), e.to_string()))?;
    Ok(ModelReport::Saved {
        location: location.to_owned(),
        frames,
        bytes: content.len() as u64,
        at,
    })
}

/// Moves a file that is not used to another name.
fn set_aside(location: &Path, reason: String) -> Refusal {
    Refusal {
        location: location.to_owned(),
        reason,
        kept_as: store::set_aside(location).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_the_element_is_a_part_of_the_path() {
        let path = |location| expand(location, "gate/cam-1").map(|path| path.display().to_string());
        assert_eq!(
            path("/models/%s.safetensors").unwrap(),
            "/models/gate_cam-1.safetensors"
        );
        assert_eq!(path("100%%/%s%s").unwrap(), "100%/gate_cam-1gate_cam-1");
        for (wrong, named) in [("a%d", "got %d in \"a%d\""), ("a%", "got % in \"a%\"")] {
            let message = path(wrong).unwrap_err().to_string();
            assert!(
                message.contains("model-location must be a path") && message.contains(named),
                "{message}"
            );
        }
    }

    #[test]
    fn one_element_at_a_time_uses_a_location() {
        let folder = tempfile::tempdir().unwrap();
        let location = folder.path().join("model");
        let open = || ModelFile::open(location.clone(), |_| ());
        let (first, _) = open().unwrap();
        let message = open().unwrap_err().to_string();
        assert!(message.contains("which another element uses"), "{message}");
        first.close();
        open().unwrap().0.close();
    }
}
