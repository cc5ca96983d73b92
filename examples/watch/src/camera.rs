//! A camera: its pipeline, started again whenever it fails.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use gst::prelude::*;

use crate::config::CameraConfig;
use crate::properties::{Element, Property, text};
use crate::state::{Event, Millis, lock};

/// Name of the application message that starts a camera's pipeline anew.
const RESTART: &str = "watch-restart";

/// What can be changed of a camera while it runs.
#[derive(Debug)]
pub struct Controls {
    /// Properties that were changed, with their values.
    changed: Mutex<Vec<(String, String)>>,
    mask: Mutex<Option<PathBuf>>,
    running: Mutex<Option<Running>>,
}

/// The pipeline that plays.
#[derive(Clone, Debug)]
pub(crate) struct Running {
    pub pipeline: gst::Pipeline,
    pub detector: gst::Element,
    pub gate: Option<gst::Element>,
    pub overlay: gst::Element,
    pub started: Millis,
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
    pub(crate) fn new(changed: Vec<(String, String)>) -> Self {
        Self {
            changed: Mutex::new(changed),
            mask: Mutex::new(None),
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

    /// Sets or removes the file of the mask.
    pub(crate) fn set_mask(&self, file: Option<&Path>) {
        *lock(&self.mask) = file.map(Path::to_owned);
        let running = lock(&self.running).clone();
        if let Some(running) = running {
            // The detector reads the file when the property is set, also to the same path.
            let location = file
                .map(|file| file.to_string_lossy().into_owned())
                .unwrap_or_default();
            running.detector.set_property("mask-location", location);
        }
    }

    /// Accepts an event; `false` if the detector does not know it any more.
    pub(crate) fn accept(&self, event: &Event) -> bool {
        let running = lock(&self.running).clone();
        running.is_some_and(|running| {
            event.begin >= running.started && running.detector.emit_by_name("accept-event", &[&event.number])
        })
    }

    pub(crate) fn set_running(&self, running: Option<Running>) {
        *lock(&self.running) = running;
    }

    /// The values of all properties that are configured or were changed.
    pub(crate) fn apply(&self, config: &CameraConfig, running: &Running) {
        let changed = self.changed();
        for (name, value) in config.properties.iter().chain(&changed) {
            if let Some(property) = Property::find(name)
                && let Ok(value) = property.parse(value)
            {
                running.set(&property, &value);
            }
        }
        if let Some(mask) = &*lock(&self.mask) {
            running
                .detector
                .set_property("mask-location", text(&mask.to_string_lossy().as_ref().to_value()));
        }
    }
}

/// Asks the camera's thread to start a new pipeline.
fn restart(pipeline: &gst::Pipeline) {
    let message = gst::message::Application::new(gst::Structure::new_empty(RESTART));
    // Fails only while the pipeline is shutting down.
    let _ = pipeline.post_message(message);
}
