//! Events and their files.

use std::path::{Component, Path as FilePath};

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tower_http::services::ServeFile;

use super::{App, Refusal};
use crate::state::{CommandError, Event, Millis, RegionInfo};
use crate::store::Filter;

/// Events in one answer, at most.
const LIMIT: u32 = 200;

/// What the page shows of an event: no paths.
#[derive(Debug, Serialize)]
pub(super) struct EventView<'a> {
    id: i64,
    camera: &'a str,
    begin: Millis,
    end: Option<Millis>,
    reason: Option<&'a str>,
    peak: f64,
    peak_time: Millis,
    cue: &'a str,
    width: u32,
    height: u32,
    regions: &'a [RegionInfo],
    /// Whether there is one.
    thumbnail: bool,
    /// Whether it is complete.
    clip: bool,
    /// Time of its first frame; several events can be in one clip.
    clip_begin: Option<Millis>,
    accepted: bool,
}

impl<'a> EventView<'a> {
    pub(super) fn new(event: &'a Event) -> Self {
        Self {
            id: event.id,
            camera: &event.camera,
            begin: event.begin,
            end: event.end,
            reason: event.reason.as_deref(),
            peak: event.peak,
            peak_time: event.peak_time,
            cue: &event.cue,
            width: event.width,
            height: event.height,
            regions: &event.regions,
            thumbnail: event.thumbnail.is_some(),
            clip: event.clip.is_some() && event.clip_done,
            clip_begin: event.clip_begin,
            accepted: event.accepted,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    camera: Option<String>,
    from: Option<Millis>,
    to: Option<Millis>,
    before: Option<i64>,
    limit: Option<u32>,
}

pub(super) async fn list(
    State(app): State<App>,
    query: Result<Query<Wanted>, QueryRejection>,
) -> Result<Response, Refusal> {
    let Query(query) = query?;
    if let Some(camera) = &query.camera {
        app.camera(camera)?;
    }
    let filter = Filter {
        camera: query.camera,
        from: query.from,
        to: query.to,
        before: query.before,
        limit: query.limit.unwrap_or(LIMIT).clamp(1, LIMIT),
    };
    let events = app
        .blocking(move |watch| {
            watch
                .store
                .events(&filter)
                .map_err(|error| CommandError::from(error).into())
        })
        .await?;
    let events: Vec<_> = events.iter().map(EventView::new).collect();
    Ok(Json(serde_json::json!({ "events": events })).into_response())
}

/// The event of a path.
async fn find(app: &App, id: Result<Path<i64>, PathRejection>) -> Result<Event, Refusal> {
    let Path(id) = id?;
    app.blocking(move |watch| {
        let found = watch.store.event(id).map_err(CommandError::from)?;
        Ok(found.ok_or(CommandError::NoEvent(id))?)
    })
    .await
}

pub(super) async fn one(
    State(app): State<App>,
    id: Result<Path<i64>, PathRejection>,
) -> Result<Response, Refusal> {
    let event = find(&app, id).await?;
    Ok(Json(EventView::new(&event)).into_response())
}

pub(super) async fn accept(
    State(app): State<App>,
    id: Result<Path<i64>, PathRejection>,
) -> Result<Response, Refusal> {
    let Path(id) = id?;
    let event = app.blocking(move |watch| Ok(watch.accept(id)?)).await?;
    Ok(Json(EventView::new(&event)).into_response())
}

pub(super) async fn clip(
    State(app): State<App>,
    id: Result<Path<i64>, PathRejection>,
    request: Request,
) -> Result<Response, Refusal> {
    let event = find(&app, id).await?;
    let clip = event.clip.filter(|_| event.clip_done);
    serve(&app, clip, "clip", "video/mp4", request).await
}

pub(super) async fn thumbnail(
    State(app): State<App>,
    id: Result<Path<i64>, PathRejection>,
    request: Request,
) -> Result<Response, Refusal> {
    let event = find(&app, id).await?;
    serve(&app, event.thumbnail, "thumbnail", "image/jpeg", request).await
}

/// Sends a file below the storage folder, or the range of it that was asked for.
async fn serve(
    app: &App,
    path: Option<String>,
    what: &str,
    kind: &'static str,
    request: Request,
) -> Result<Response, Refusal> {
    let missing = || Refusal::new(StatusCode::NOT_FOUND, format!("there is no {what} of this event"));
    let path = path.ok_or_else(missing)?;
    // Paths come from the database; one that leaves the folder, or is the folder, is not served anyway.
    let inside = FilePath::new(&path)
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    if path.is_empty() || !inside {
        return Err(missing());
    }
    let file = ServeFile::new(app.watch.file(&path)).try_call(request).await;
    let mut response = match file {
        Ok(response) if response.status() != StatusCode::NOT_FOUND => response.into_response(),
        Ok(_) => return Err(missing()),
        Err(error) => return Err(CommandError::from(error).into()),
    };
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    Ok(response)
}
