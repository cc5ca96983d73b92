//! The events of a camera, from the detector's messages to the database.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::frames::{Frames, WallClock};
use crate::recorder::{Report, is_playable};
use crate::state::{Camera, Event, Millis, Notice, Watch, now, write_whole};

/// Changes of an open event are stored at most this often.
const INTERVAL: Duration = Duration::from_secs(1);
/// An event without a clip after this time gets none.
const PATIENCE: Millis = 300_000;

/// An event and the state of its files.
#[derive(Debug)]
struct Tracked {
    event: Event,
    /// Time of the image that is stored as the thumbnail.
    image: Option<Millis>,
    /// It has changed since it was stored.
    changed: bool,
}

/// Follows the events of a camera.
#[derive(Debug)]
pub struct Tracker {
    watch: Arc<Watch>,
    camera: Arc<Camera>,
    clock: Arc<WallClock>,
    /// Open events, and closed ones whose clip is not complete.
    events: Vec<Tracked>,
    /// The clip that is being written, and the time of its first frame.
    clip: Option<(String, Millis)>,
    stored: Instant,
}

impl Tracker {
    pub fn new(watch: &Arc<Watch>, camera: &Arc<Camera>, clock: &Arc<WallClock>) -> Self {
        Self {
            watch: Arc::clone(watch),
            camera: Arc::clone(camera),
            clock: Arc::clone(clock),
            events: Vec::new(),
            clip: None,
            stored: Instant::now(),
        }
    }

    /// An event begins: the message `anomaly-begin`.
    pub fn begin(&mut self, fields: &gst::StructureRef, frames: &Frames) {
        let running = fields.get::<gst::ClockTime>("running-time").unwrap_or_default();
        let begin = self.clock.at(running);
        let size = self.camera.update(|status| (status.width, status.height));
        let event = Event {
            id: self.watch.next_event(),
            camera: self.camera.id().to_owned(),
            number: fields.get("event-id").unwrap_or_default(),
            begin,
            end: None,
            reason: None,
            peak: fields.get("peak-score").unwrap_or_default(),
            peak_time: begin,
            cue: fields.get("cue").unwrap_or_default(),
            width: size.0,
            height: size.1,
            regions: Vec::new(),
            thumbnail: None,
            clip: self.clip.as_ref().map(|(path, _)| path.clone()),
            clip_begin: self.clip.as_ref().map(|(_, begin)| *begin),
            clip_done: false,
            accepted: false,
        };
        self.camera.update(|status| status.event = Some(event.id));
        let mut tracked = Tracked {
            event,
            image: None,
            changed: false,
        };
        self.follow(&mut tracked, frames);
        tracked.changed = false;
        self.watch.put(&tracked.event);
        self.watch.notify(Notice::Begin {
            event: tracked.event.clone(),
        });
        self.events.push(tracked);
    }

    /// An event ends: the message `anomaly-end`.
    pub fn end(&mut self, fields: &gst::StructureRef, frames: &Frames) {
        let running = fields.get::<gst::ClockTime>("running-time").unwrap_or_default();
        let duration = fields.get::<gst::ClockTime>("duration").unwrap_or_default();
        let end = self.clock.at(running + duration);
        let number = fields.get::<u64>("event-id").unwrap_or_default();
        let peak = fields.get::<f64>("peak-score").ok();
        let reason = fields
            .get::<String>("reason")
            .unwrap_or_else(|_| "over".to_owned());
        self.close(frames, &reason, |event| {
            (event.number == number).then_some((end, peak))
        });
    }

    /// The source has failed or the program is stopping: closes what is open.
    pub fn interrupt(&mut self, frames: &Frames) {
        self.close(frames, "interrupted", |_| Some((now(), None)));
        self.camera.update(|status| status.event = None);
    }

    /// Closes open events that `end` knows the time of.
    fn close(
        &mut self,
        frames: &Frames,
        reason: &str,
        end: impl Fn(&Event) -> Option<(Millis, Option<f64>)>,
    ) {
        let mut events = std::mem::take(&mut self.events);
        for tracked in events.iter_mut().filter(|tracked| tracked.event.end.is_none()) {
            let Some((time, peak)) = end(&tracked.event) else {
                continue;
            };
            self.follow(tracked, frames);
            let event = &mut tracked.event;
            event.end = Some(time.max(event.begin));
            event.reason = Some(reason.to_owned());
            event.peak = peak.unwrap_or(event.peak).max(event.peak);
            tracked.changed = false;
            self.watch.put(&tracked.event);
            self.watch.notify(Notice::End {
                event: tracked.event.clone(),
            });
            self.camera.update(|status| {
                if status.event == Some(tracked.event.id) {
                    status.event = None;
                }
            });
        }
        self.events = events;
    }

    /// Called several times a second.
    pub fn tick(&mut self, frames: &Frames) {
        if self.events.is_empty() || self.stored.elapsed() < INTERVAL {
            return;
        }
        self.stored = Instant::now();
        let mut events = std::mem::take(&mut self.events);
        let now = now();
        // Without a recording there is no clip to wait for.
        let patience = if self.camera.config.record { PATIENCE } else { 0 };
        events.retain(|tracked| {
            tracked.event.end.is_none() || (!tracked.event.clip_done && tracked.event.id > now - patience)
        });
        for tracked in &mut events {
            if tracked.event.end.is_none() {
                self.follow(tracked, frames);
            }
            if std::mem::take(&mut tracked.changed) {
                self.watch.put(&tracked.event);
                self.watch.notify(Notice::Update {
                    event: tracked.event.clone(),
                });
            }
        }
        self.events = events;
    }

    /// Takes over the strongest frame of an event so far, and stores its image.
    fn follow(&self, tracked: &mut Tracked, frames: &Frames) {
        let Some(peak) = frames.peak(tracked.event.number) else {
            return;
        };
        let event = &mut tracked.event;
        if peak.score > event.peak || event.regions.is_empty() {
            event.peak = event.peak.max(peak.score);
            event.peak_time = peak.time;
            event.cue = peak.cue;
            (event.width, event.height) = peak.size;
            event.regions = peak.regions;
            tracked.changed = true;
        }
        if let Some(image) = peak.image
            && tracked.image != Some(image.time)
        {
            let path = format!("thumbnails/{}/{}.jpg", event.camera, event.id);
            match write_whole(&self.watch.file(&path), &image.jpeg) {
                Ok(()) => {
                    tracked.image = Some(image.time);
                    event.thumbnail = Some(path);
                    tracked.changed = true;
                }
                Err(error) => self.watch.report_storage(Err(format!("{path}: {error}"))),
            }
        }
    }

    /// The recorder reports about a clip.
    pub fn clip(&mut self, report: Report) {
        match report {
            Report::Opened { path, begin } => {
                self.clip = Some((path, self.clock.at(begin)));
                self.assign();
            }
            Report::Done { path } => {
                self.assign();
                self.clip = None;
                let mut used = false;
                for tracked in &mut self.events {
                    if tracked.event.clip.as_deref() == Some(path.as_str()) {
                        used = true;
                        tracked.event.clip_done = true;
                        self.watch.put(&tracked.event);
                        self.watch.notify(Notice::Clip {
                            event: tracked.event.clone(),
                        });
                    }
                }
                if !used {
                    // An anomaly that was too short to be an event. Retention removes what remains here.
                    let _ = std::fs::remove_file(self.watch.file(&path));
                }
            }
            Report::Failed { path, .. } => {
                let Some(path) = path else { return };
                self.clip = None;
                // What was written can be played up to its last fragment.
                let file = self.watch.file(&path);
                let written = is_playable(&file);
                if !written {
                    // There may be none.
                    let _ = std::fs::remove_file(file);
                }
                for tracked in &mut self.events {
                    if tracked.event.clip.as_deref() == Some(path.as_str()) {
                        tracked.event.clip_done = written;
                        if !written {
                            (tracked.event.clip, tracked.event.clip_begin) = (None, None);
                        }
                        self.watch.put(&tracked.event);
                        self.watch.notify(Notice::Update {
                            event: tracked.event.clone(),
                        });
                    }
                }
            }
        }
    }

    /// Gives the clip that is being written to the events that it shows.
    fn assign(&mut self) {
        let Some((path, begin)) = &self.clip else { return };
        for tracked in &mut self.events {
            let event = &mut tracked.event;
            if event.clip.is_none() && event.end.is_none_or(|end| end >= *begin) {
                (event.clip, event.clip_begin) = (Some(path.clone()), Some(*begin));
                self.watch.put(event);
                self.watch.notify(Notice::Update { event: event.clone() });
            }
        }
    }
}
