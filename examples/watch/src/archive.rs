//! Keeps the storage folder within its bounds, and stores later what could not be stored at once.
//!
//! - Events that ended longer ago than `max-age` are removed with their files.
//! - When all clips together are larger than `max-bytes`, or the disk has less free space than `min-free`, the oldest clips
//!   are removed. Their events and thumbnails stay.
//! - While the database cannot be written, events wait in memory.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use crate::recorder::free_space;
use crate::state::{Event, Millis, Notice, Watch, now};
use crate::store::StoreError;

/// Events that wait for the database at most.
const BACKLOG: usize = 10_000;
/// Interval of the clean-up, and of attempts to store what waits.
const INTERVAL: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_secs(1);
/// A file that was written to this recently may still be open.
const IN_USE: Duration = Duration::from_secs(30);

/// Events that wait for the database, the newest state of each.
#[derive(Debug, Default)]
pub(crate) struct Backlog(VecDeque<Event>);

impl Backlog {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds an event; returns whether the oldest had to be discarded.
    pub(crate) fn push(&mut self, event: &Event) -> bool {
        if let Some(waiting) = self.0.iter_mut().find(|waiting| waiting.id == event.id) {
            *waiting = event.clone();
            return false;
        }
        let full = self.0.len() == BACKLOG;
        if full {
            self.0.pop_front();
        }
        self.0.push_back(event.clone());
        full
    }

    /// Stores events until one fails.
    pub(crate) fn store(&mut self, put: impl Fn(&Event) -> Result<(), StoreError>) -> Result<(), StoreError> {
        while let Some(event) = self.0.front() {
            put(event)?;
            self.0.pop_front();
        }
        Ok(())
    }
}

/// Cleans up until `stop` is set.
pub fn run(watch: &Watch, stop: &AtomicBool) {
    let mut cleaned: Option<Instant> = None;
    loop {
        if cleaned.is_none_or(|at| at.elapsed() >= INTERVAL) {
            let result = clean(watch, now());
            // While events wait, storing them decides whether the storage works.
            if result.is_err() || !watch.has_backlog() {
                watch.report_storage(result.map_err(|error| format!("{error:#}")));
            }
            cleaned = Some(Instant::now());
        }
        watch.retry();
        let until = Instant::now() + RETRY;
        while Instant::now() < until {
            if stop.load(Ordering::Relaxed) {
                watch.retry();
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// A file of a clip.
struct File {
    /// Below the storage folder.
    path: String,
    bytes: u64,
    modified: SystemTime,
}

/// Removes what is too old or too much.
///
/// # Errors
/// The disk is full and there is nothing to remove, or the database or a folder cannot be used.
pub fn clean(watch: &Watch, now: Millis) -> anyhow::Result<()> {
    let storage = &watch.storage;
    if let Some(age) = storage.max_age {
        let before = now - Millis::try_from(age.as_millis()).unwrap_or(Millis::MAX);
        for event in watch.store.ended_before(before)? {
            if let Some(thumbnail) = &event.thumbnail {
                remove(&watch.file(thumbnail))?;
            }
            if let Some(clip) = watch.store.remove(event.id)? {
                remove(&watch.file(&clip))?;
            }
            watch.notify(Notice::Removed { id: event.id });
        }
    }
    let mut files = clips(&storage.folder)?;
    files.sort_by_key(|file| file.modified);
    let mut total: u64 = files.iter().map(|file| file.bytes).sum();
    for file in files {
        let too_much = storage.max_bytes.is_some_and(|most| total > most);
        if !too_much && free_space(&storage.folder)? >= storage.min_free {
            break;
        }
        if file.modified.elapsed().is_ok_and(|age| age < IN_USE) && watch.store.is_clip_open(&file.path)? {
            continue;
        }
        remove(&storage.folder.join(&file.path))?;
        total -= file.bytes;
        for event in watch.store.remove_clip(&file.path)? {
            watch.notify(Notice::Update { event });
        }
    }
    let free = free_space(&storage.folder)?;
    if free < storage.min_free {
        let (free, least) = (free / 1_000_000, storage.min_free / 1_000_000);
        anyhow::bail!("the disk is full: {free} MB are free, {least} MB must stay free");
    }
    Ok(())
}

/// All files of clips.
fn clips(folder: &Path) -> std::io::Result<Vec<File>> {
    let mut files = Vec::new();
    for camera in list(&folder.join("clips"))? {
        for file in list(&camera)? {
            // It may be removed at the same time.
            let Ok(meta) = file.metadata() else { continue };
            let Ok(path) = file.strip_prefix(folder) else {
                continue;
            };
            files.push(File {
                path: path.to_string_lossy().into_owned(),
                bytes: meta.len(),
                modified: meta.modified()?,
            });
        }
    }
    Ok(files)
}

fn list(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    match std::fs::read_dir(folder) {
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn remove(file: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Starts the clean-up in a thread of its own.
///
/// # Errors
/// No thread can be started.
pub fn spawn(watch: &Arc<Watch>, stop: &Arc<AtomicBool>) -> std::io::Result<std::thread::JoinHandle<()>> {
    let (watch, stop) = (Arc::clone(watch), Arc::clone(stop));
    std::thread::Builder::new()
        .name("archive".to_owned())
        .spawn(move || run(&watch, &stop))
}
