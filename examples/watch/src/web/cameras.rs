//! States of the cameras, as the page shows them.

use axum::Json;
use axum::extract::State;
use serde::Serialize;

use super::App;
use crate::state::{Camera, Connection, Millis, Recording, Watch};

/// What the page shows of a camera.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct View {
    id: String,
    name: String,
    /// Address of the source, without user and password.
    source: String,
    /// `connecting`, `lost`, `ended`, `stopped`, or the detector's life-cycle state.
    state: String,
    /// Why it is lost.
    detail: Option<String>,
    retry_at: Option<Millis>,
    /// Size of the analysed frames in pixels; 0 before the first.
    width: u32,
    height: u32,
    /// Frames a second, to one decimal place.
    fps: f64,
    recording: Recording,
    /// The open event.
    event: Option<i64>,
}

impl View {
    pub(super) fn new(camera: &Camera) -> Self {
        let status = camera.status();
        let state = match status.connection {
            Connection::Connecting => "connecting",
            Connection::Playing => &status.state,
            Connection::Failed => "lost",
            Connection::Finished => "ended",
            Connection::Stopped => "stopped",
        };
        Self {
            id: camera.id().to_owned(),
            name: camera.config.name.clone(),
            source: camera.config.source.to_string(),
            state: state.to_owned(),
            detail: status.error,
            retry_at: status.retry_at,
            width: status.width,
            height: status.height,
            fps: (status.fps * 10.0).round() / 10.0,
            recording: status.recording,
            event: status.event,
        }
    }
}

/// All cameras, and why nothing can be stored, if so.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Overview {
    pub(super) cameras: Vec<View>,
    storage_error: Option<String>,
}

impl Overview {
    pub(super) fn new(watch: &Watch) -> Self {
        Self {
            cameras: watch.cameras.iter().map(|camera| View::new(camera)).collect(),
            storage_error: watch.storage_error(),
        }
    }
}

pub(super) async fn list(State(app): State<App>) -> Json<Overview> {
    Json(Overview::new(&app.watch))
}
