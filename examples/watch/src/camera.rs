//! A camera: its pipeline, started again whenever it fails, and what can be changed of it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use gst::prelude::*;

use crate::backoff;
use crate::config::{CameraConfig, Source};
use crate::frames::Frames;
use crate::pipeline;
use crate::properties::{Element, Property};
use crate::recorder::{self, Recorder, Report};
use crate::state::{Camera, Connection, Event, Losses, Millis, Notice, Recording, Watch, lock, now};
use crate::tracker::Tracker;

/// How often the camera's thread looks at what happened.
const TICK: gst::ClockTime = gst::ClockTime::from_mseconds(100);
/// A source that has played for this long starts with the shortest pause again.
const STABLE: Duration = Duration::from_secs(20);

/// Name of the application message that starts a camera's pipeline anew.
const RESTART: &str = "watch-restart";

/// What can be changed of a camera while it runs.
#[derive(Debug)]
pub struct Controls {
    /// Properties that were changed, with their values.
    changed: Mutex<Vec<(String, String)>>,
    running: Mutex<Option<Running>>,
}

/// The pipeline that plays.
#[derive(Clone, Debug)]
pub(crate) struct Running {
    pub pipeline: gst::Pipeline,
    pub detector: gst::Element,
    pub gate: Option<gst::Element>,
    pub overlay: gst::Element,
    pub since: Millis,
}

impl Running {
    fn element(&self, element: Element) -> Option<&gst::Element> {
        match element {
            Element::Detector => Some(&self.detector),
            Element::Gate => self.gate.as_ref(),
            Element::Overlay => Some(&self.overlay),
        }
    }

    /// Sets a property whose value was checked.
    fn set(&self, property: &Property, value: &gst::glib::Value) {
        if let Some(element) = self.element(property.element) {
            element.set_property_from_value(property.spec.name(), value);
        }
    }
}

impl Controls {
    /// `changed` is of an earlier run.
    pub(crate) fn new(changed: Vec<(String, String)>) -> Self {
        Self {
            changed: Mutex::new(changed),
            running: Mutex::new(None),
        }
    }

    /// Properties that were changed, with their values.
    pub(crate) fn changed(&self) -> Vec<(String, String)> {
        lock(&self.changed).clone()
    }

    /// Sets a property, or resets it to the configuration's value. The value was checked.
    pub(crate) fn set(&self, config: &CameraConfig, property: &Property, value: Option<&str>) {
        let name = property.name();
        {
            let mut changed = lock(&self.changed);
            changed.retain(|(key, _)| *key != name);
            changed.extend(value.map(|value| (name.clone(), value.to_owned())));
        }
        let configured = config.properties.iter().find(|(key, _)| *key == name);
        let value = match value.or(configured.map(|(_, value)| value.as_str())) {
            Some(value) => property.parse(value).ok(),
            None => Some(property.spec.default_value().clone()),
        };
        let running = lock(&self.running).clone();
        if let (Some(running), Some(value)) = (running, value) {
            match property.is_mutable() {
                true => running.set(property, &value),
                false => restart(&running.pipeline),
            }
        }
    }

    /// Accepts an event; `false` if the detector does not know it any more.
    pub(crate) fn accept(&self, event: &Event) -> bool {
        let running = lock(&self.running).clone();
        running.is_some_and(|running| {
            event.begin >= running.since && running.detector.emit_by_name("accept-event", &[&event.number])
        })
    }

    /// The last losses; 0 before the first step.
    pub(crate) fn losses(&self) -> Losses {
        let running = lock(&self.running).clone();
        running.map_or_else(Losses::default, |running| {
            losses(&running.detector.property::<gst::Structure>("stats"))
        })
    }

    fn set_running(&self, running: Option<Running>) {
        *lock(&self.running) = running;
    }

    /// Sets the values of all properties that are configured or were changed.
    fn apply(&self, config: &CameraConfig, running: &Running) {
        let changed = self.changed();
        for (name, value) in config.properties.iter().chain(&changed) {
            if let Some(property) = Property::find(name)
                && let Ok(value) = property.parse(value)
            {
                running.set(&property, &value);
            }
        }
    }
}

/// Asks the camera's thread to start a new pipeline.
fn restart(pipeline: &gst::Pipeline) {
    let message = gst::message::Application::new(gst::Structure::new_empty(RESTART));
    // Fails only while the pipeline is shutting down.
    let _ = pipeline.post_message(message);
}

/// Why a pipeline ended.
enum End {
    /// The program is stopping.
    Stop,
    /// Settings need a new pipeline.
    Restart,
    /// A file has ended.
    Finished,
}

/// Runs a camera until `stop` is set; started again whenever it fails.
pub fn run(watch: &Arc<Watch>, camera: &Arc<Camera>, stop: &AtomicBool) {
    let mut attempts = 0;
    while !stop.load(Ordering::Relaxed) {
        camera.update(|status| status.connection = Connection::Connecting);
        notify(watch, camera);
        let start = Instant::now();
        let ended = Session::start(watch, camera).and_then(|mut session| {
            let ended = session.run(stop);
            session.stop();
            ended
        });
        let error = match ended {
            Ok(End::Stop) => break,
            Ok(End::Restart) => continue,
            Ok(End::Finished) => {
                camera.update(|status| status.connection = Connection::Finished);
                notify(watch, camera);
                return;
            }
            Err(error) => error,
        };
        if start.elapsed() > STABLE {
            attempts = 0;
        }
        attempts += 1;
        let pause = backoff::pause(attempts);
        camera.update(|status| {
            status.connection = Connection::Failed;
            status.error = Some(format!("{error:#}"));
            status.attempts = attempts;
            status.retry_at = Some(now() + pause.as_millis() as Millis);
            status.fps = 0.0;
            status.restarts += 1;
        });
        notify(watch, camera);
        let until = Instant::now() + pause;
        while !stop.load(Ordering::Relaxed) && Instant::now() < until {
            std::thread::sleep(until.saturating_duration_since(Instant::now()).min(TICK.into()));
        }
    }
    camera.update(|status| status.connection = Connection::Stopped);
    notify(watch, camera);
}

fn notify(watch: &Watch, camera: &Camera) {
    watch.notify(Notice::Camera {
        camera: camera.id().to_owned(),
    });
}

/// A pipeline that plays, until it fails or ends.
struct Session<'a> {
    watch: &'a Arc<Watch>,
    camera: &'a Arc<Camera>,
    running: Running,
    frames: Arc<Frames>,
    tracker: Tracker,
    recorder: Option<Recorder>,
    reports: mpsc::Receiver<Report>,
    counted: (Instant, u64),
}

impl<'a> Session<'a> {
    fn start(watch: &'a Arc<Watch>, camera: &'a Arc<Camera>) -> Result<Self> {
        let config = &camera.config;
        let clock = Arc::new(crate::frames::WallClock::new(config.realtime));
        let frames = Arc::new(Frames::new(watch, camera, &clock));
        let (sender, reports) = mpsc::channel();
        let (recorder, sink) = match config.record {
            true => {
                let settings = recorder::Settings {
                    folder: watch.storage.folder.clone(),
                    camera: camera.id().to_owned(),
                    min_free: watch.storage.min_free,
                };
                let clock = Arc::clone(&clock);
                let name = move |begin| file_name(clock.at(begin));
                let (recorder, sink) = Recorder::start(settings, name, sender)?;
                (Some(recorder), Some(sink))
            }
            false => (None, None),
        };
        let built = pipeline::build(config, &frames, sink)?;
        let running = Running {
            pipeline: built.pipeline,
            detector: built.detector,
            gate: built.gate,
            overlay: built.overlay,
            since: now(),
        };
        let models = watch.storage.folder.join("models");
        std::fs::create_dir_all(&models).with_context(|| format!("cannot create {}", models.display()))?;
        let model = models.join(format!("{}.vae", camera.id()));
        running
            .detector
            .set_property("model-location", model.to_string_lossy().as_ref());
        camera.controls.apply(config, &running);
        let session = Self {
            tracker: Tracker::new(watch, camera, &clock),
            watch,
            camera,
            frames,
            recorder,
            reports,
            counted: (Instant::now(), camera.status().frames),
            running,
        };
        if let Err(error) = session.running.pipeline.set_state(gst::State::Playing) {
            let failure = session.failure();
            session.stop();
            return Err(failure.unwrap_or(error.into()));
        }
        camera.controls.set_running(Some(session.running.clone()));
        Ok(session)
    }

    /// The first error on the bus.
    fn failure(&self) -> Option<anyhow::Error> {
        let message = self
            .running
            .pipeline
            .bus()?
            .pop_filtered(&[gst::MessageType::Error])?;
        match message.view() {
            gst::MessageView::Error(error) => Some(recorder::reason(error)),
            _ => None,
        }
    }

    fn run(&mut self, stop: &AtomicBool) -> Result<End> {
        let bus = self.running.pipeline.bus().context("a pipeline has a bus")?;
        let mut last_frame = Instant::now();
        let mut frames = self.frames.count();
        loop {
            if stop.load(Ordering::Relaxed) {
                return Ok(End::Stop);
            }
            // An event is known before its clip: the messages that came before a report are handled before it.
            let first = bus.timed_pop(TICK);
            let reports: Vec<_> = self.reports.try_iter().collect();
            let mut messages = first.into_iter().chain(std::iter::from_fn(|| bus.pop()));
            let ended = messages.find_map(|message| self.message(&message).transpose());
            reports.into_iter().for_each(|report| self.report(report));
            if let Some(ended) = ended {
                return ended;
            }
            self.frames.clock().update(&self.running.pipeline);
            self.tracker.tick(&self.frames);
            let count = self.frames.count();
            if count != frames {
                (frames, last_frame) = (count, Instant::now());
                self.playing();
            } else if last_frame.elapsed() > self.camera.config.timeout {
                let seconds = self.camera.config.timeout.as_secs_f64();
                return Err(anyhow!("no frame for {seconds} s"));
            }
            self.measure();
        }
    }

    /// Frames arrive.
    fn playing(&self) {
        let began = self.camera.update(|status| {
            let began = status.connection != Connection::Playing;
            status.connection = Connection::Playing;
            (status.error, status.retry_at, status.attempts) = (None, None, 0);
            began
        });
        if began {
            notify(self.watch, self.camera);
        }
    }

    /// Measures the frame rate, and reads the detector's statistics.
    fn measure(&mut self) {
        let (since, before) = self.counted;
        let elapsed = since.elapsed();
        if elapsed < Duration::from_secs(1) {
            return;
        }
        let statistics = self.running.detector.property::<gst::Structure>("stats");
        self.camera.update(|status| {
            status.losses = losses(&statistics);
            status.fps = (status.frames - before) as f64 / elapsed.as_secs_f64();
            status.unscored = statistics.get("unscored").unwrap_or(status.unscored);
            self.counted = (Instant::now(), status.frames);
        });
    }

    fn message(&mut self, message: &gst::Message) -> Result<Option<End>> {
        match message.view() {
            gst::MessageView::Error(error) => return Err(recorder::reason(error)),
            gst::MessageView::Eos(_) => match self.camera.config.source {
                Source::Uri(_) | Source::Street { .. } if self.camera.config.repeat && self.rewind() => {}
                Source::Uri(_) | Source::Street { .. } if !self.camera.config.repeat => {
                    return Ok(Some(End::Finished));
                }
                _ => return Err(anyhow!("the source has ended")),
            },
            gst::MessageView::Latency(_) => {
                // Fails while the pipeline is starting, which distributes the latency anyway.
                let _ = self.running.pipeline.recalculate_latency();
            }
            gst::MessageView::Application(_) => {
                let restart = message.structure().is_some_and(|fields| fields.name() == RESTART);
                return Ok(restart.then_some(End::Restart));
            }
            gst::MessageView::Element(_) => {
                if let Some(fields) = message
                    .structure()
                    .filter(|s| s.name() == gstvaeanomaly::MESSAGE_NAME)
                {
                    self.detector_message(fields);
                }
            }
            _ => {}
        }
        Ok(None)
    }

    fn rewind(&self) -> bool {
        let flags = gst::SeekFlags::FLUSH | gst::SeekFlags::KEY_UNIT;
        self.running
            .pipeline
            .seek_simple(flags, gst::ClockTime::ZERO)
            .is_ok()
    }

    fn detector_message(&mut self, fields: &gst::StructureRef) {
        match fields.get::<&str>("event") {
            Ok("anomaly-begin") => {
                self.tracker.begin(fields, &self.frames);
                if let Some(recorder) = &self.recorder {
                    recorder.arm();
                }
            }
            Ok("anomaly-end") => self.tracker.end(fields, &self.frames),
            Ok("state-changed") => notify(self.watch, self.camera),
            _ => {}
        }
    }

    fn report(&mut self, report: Report) {
        let recording = match &report {
            Report::Opened { .. } => Recording::Writing,
            Report::Done { .. } => Recording::Idle,
            Report::Failed { reason, .. } => Recording::Failed(reason.clone()),
        };
        self.tracker.clip(report);
        let changed = self
            .camera
            .update(|status| std::mem::replace(&mut status.recording, recording.clone()) != recording);
        if changed {
            notify(self.watch, self.camera);
        }
    }

    /// Stops the pipeline, and completes the clip and the events that are open.
    fn stop(mut self) {
        self.camera.controls.set_running(None);
        // Nothing can be done if stopping fails.
        let _ = self.running.pipeline.set_state(gst::State::Null);
        if let Some(bus) = self.running.pipeline.bus() {
            while let Some(message) = bus.pop_filtered(&[gst::MessageType::Element]) {
                if let Some(fields) = message
                    .structure()
                    .filter(|s| s.name() == gstvaeanomaly::MESSAGE_NAME)
                {
                    self.detector_message(fields);
                }
            }
            bus.unset_sync_handler();
        }
        if let Some(recorder) = self.recorder.take() {
            recorder.finish();
        }
        while let Ok(report) = self.reports.try_recv() {
            self.report(report);
        }
        self.tracker.interrupt(&self.frames);
    }
}

fn losses(statistics: &gst::StructureRef) -> Losses {
    let loss = |name: &str| statistics.get::<f64>(name).unwrap_or_default();
    Losses {
        loss: loss("loss"),
        reconstruction: loss("reconstruction"),
        kl: loss("kl"),
        motion_loss: loss("motion-loss"),
    }
}

/// A file's name: date and time in UTC.
fn file_name(time: Millis) -> String {
    let date = gst::glib::DateTime::from_unix_utc(time.div_euclid(1000));
    let text = date.and_then(|date| date.format("%Y-%m-%d_%H-%M-%S"));
    match text {
        Ok(text) => format!("{text}.{:03}", time.rem_euclid(1000)),
        Err(_) => time.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_named_by_their_time() {
        assert_eq!(file_name(1_700_000_000_042), "2023-11-14_22-13-20.042");
    }
}
