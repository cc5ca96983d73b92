//! Where results go besides the page and the database.
//!
//! All JSON messages are built here; `schema.json` describes them, and a test checks them against it.

pub mod kafka;
pub mod metrics;
pub mod mqtt;
pub mod outbox;

use gstvaeanomaly::FrameResult;
use gstvaeanomaly::detector::Label;
use serde_json::{Value, json};

use crate::state::{Camera, Losses, Millis, Notice, Status, Watch};

/// A frame: `{"type": "frame", ...}`.
pub fn frame(camera: &Camera, result: &FrameResult, losses: Losses, time: Millis) -> Value {
    let prediction = &result.prediction;
    let regions: Vec<_> = prediction
        .regions
        .iter()
        .map(|found| {
            json!({
                "id": found.id,
                "score": found.score,
                "cue": found.cue.as_str(),
                "x": found.region.x,
                "y": found.region.y,
                "width": found.region.width,
                "height": found.region.height,
            })
        })
        .collect();
    json!({
        "type": "frame",
        "camera": camera.id(),
        "source": camera.config.source.to_string(),
        "time": time,
        "frame": prediction.frame,
        "class": label(result),
        "score": prediction.score,
        "raw_score": prediction.raw_score,
        "threshold": prediction.threshold,
        "cue": prediction.cue.as_str(),
        "state": prediction.state.as_str(),
        "scored": result.scored,
        "event": result.event_id.map_or(0, u64::from),
        "losses": losses,
        "width": result.image_size.0,
        "height": result.image_size.1,
        "regions": regions,
    })
}

/// `normal`, `anomaly` or `unknown`.
pub fn label(result: &FrameResult) -> &'static str {
    result.prediction.label.map_or("unknown", Label::as_str)
}

/// A frame in the form of Intel DL Streamer's `gvametaconvert`: each region is a detected object.
///
/// `timestamp` is in nanoseconds since 1970, so that frames of several cameras can be compared.
pub fn dlstreamer(camera: &Camera, result: &FrameResult, timestamp: u64) -> Value {
    let (width, height) = result.image_size;
    let share = |value: u32, of: u32| f64::from(value) / f64::from(of.max(1));
    let objects: Vec<_> = result
        .prediction
        .regions
        .iter()
        .map(|found| {
            let region = found.region;
            json!({
                "detection": {
                    "bounding_box": {
                        "x_min": share(region.x, width),
                        "y_min": share(region.y, height),
                        "x_max": share(region.x + region.width, width),
                        "y_max": share(region.y + region.height, height),
                    },
                    "confidence": found.score,
                    "label": "anomaly",
                    "label_id": 0,
                },
                "id": found.id,
                "roi_type": "anomaly",
                "x": region.x,
                "y": region.y,
                "w": region.width,
                "h": region.height,
            })
        })
        .collect();
    json!({
        "objects": objects,
        "resolution": { "width": width, "height": height },
        "source": camera.config.source.to_string(),
        "tags": {
            "camera": camera.id(),
            "class": label(result),
            "score": result.prediction.score,
            "state": result.prediction.state.as_str(),
        },
        "timestamp": timestamp,
    })
}

/// What happened to an event: `{"type": "begin", "event": {...}}`. `None` for notices that are about no event.
pub fn event(notice: &Notice) -> Option<Value> {
    notice.event()?;
    serde_json::to_value(notice).ok()
}

/// The state of a camera: `{"type": "camera", "camera": ..., "status": {...}}`.
pub fn camera(camera: &Camera, status: &Status) -> Value {
    json!({
        "type": "camera",
        "camera": camera.id(),
        "name": camera.config.name,
        "source": camera.config.source.to_string(),
        "status": status,
    })
}

/// The camera that a notice is about, if its state may have changed.
fn changed<'a>(watch: &'a Watch, notice: &Notice) -> Option<&'a Camera> {
    match notice {
        Notice::Begin { event } | Notice::End { event } => watch.camera(&event.camera),
        Notice::Camera { camera } => watch.camera(camera),
        _ => None,
    }
    .map(AsRef::as_ref)
}
