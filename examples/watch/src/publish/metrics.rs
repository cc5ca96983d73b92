//! Metrics in the text format of Prometheus.

use std::fmt::Write;

use crate::recorder::free_space;
use crate::state::{Camera, Connection, Recording, Status, Watch};

/// Renders all metrics. The content type is `text/plain; version=0.0.4`.
pub fn render(watch: &Watch) -> String {
    let cameras: Vec<(&Camera, Status)> = watch
        .cameras
        .iter()
        .map(|camera| (camera.as_ref(), camera.status()))
        .collect();
    let mut text = String::new();
    let mut each = |name: &str, kind: &str, help: &str, value: &dyn Fn(&Status) -> f64| {
        header(&mut text, name, kind, help);
        for (camera, status) in &cameras {
            let _ = writeln!(text, "{name}{{camera=\"{}\"}} {}", camera.id(), value(status));
        }
    };
    let flag = |on: bool| f64::from(u8::from(on));
    each(
        "vaeanomaly_up",
        "gauge",
        "Whether the camera sends frames.",
        &|status| flag(status.connection == Connection::Playing),
    );
    each(
        "vaeanomaly_frames_total",
        "counter",
        "Frames analysed.",
        &|status| status.frames as f64,
    );
    each(
        "vaeanomaly_unscored_frames_total",
        "counter",
        "Frames not scored because of load.",
        &|status| status.unscored as f64,
    );
    each(
        "vaeanomaly_restarts_total",
        "counter",
        "Failures of the source.",
        &|status| status.restarts as f64,
    );
    each("vaeanomaly_frame_rate", "gauge", "Frames a second.", &|status| {
        status.fps
    });
    each(
        "vaeanomaly_score",
        "gauge",
        "Score of the last frame; 0.5 is the threshold.",
        &|status| status.score,
    );
    each(
        "vaeanomaly_anomaly",
        "gauge",
        "Whether an event is open.",
        &|status| flag(status.event.is_some()),
    );
    each(
        "vaeanomaly_loss",
        "gauge",
        "Last loss of the appearance model.",
        &|status| status.losses.loss,
    );
    each(
        "vaeanomaly_motion_loss",
        "gauge",
        "Last loss of the motion model.",
        &|status| status.losses.motion_loss,
    );
    each(
        "vaeanomaly_recording_failed",
        "gauge",
        "Whether no clip can be written.",
        &|status| flag(matches!(status.recording, Recording::Failed(_))),
    );
    let mut one = |name: &str, kind: &str, help: &str, value: f64| {
        header(&mut text, name, kind, help);
        let _ = writeln!(text, "{name} {value}");
    };
    one(
        "vaeanomaly_events_total",
        "counter",
        "Events since the start.",
        watch.new_events() as f64,
    );
    one(
        "vaeanomaly_lost_events_total",
        "counter",
        "Events that could not be stored.",
        watch.lost_events() as f64,
    );
    one(
        "vaeanomaly_storage_failed",
        "gauge",
        "Whether nothing can be stored.",
        flag(watch.storage_error().is_some()),
    );
    if let Ok(free) = free_space(&watch.storage.folder) {
        one(
            "vaeanomaly_free_bytes",
            "gauge",
            "Free space for clips.",
            free as f64,
        );
    }
    if let Ok(count) = watch.store.count() {
        one(
            "vaeanomaly_stored_events",
            "gauge",
            "Events in the database.",
            count as f64,
        );
    }
    text
}

fn header(text: &mut String, name: &str, kind: &str, help: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}
