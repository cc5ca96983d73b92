//! Live images: of several cameras over one connection, of one camera as MJPEG, and single ones.
//!
//! Browsers open only six connections to a server, so eight cameras as MJPEG would block each other. `/api/live` sends
//! frames of all cameras on one: the camera's number in `/api/cameras` and the length as big-endian `u32`, then the JPEG.
//!
//! A client that is slower than the cameras gets the newest image when it has room for one, and never holds one up.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, stream};
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};

use super::{App, Refusal};
use crate::state::Image;

/// A client that takes nothing for this long has gone.
pub(super) const STALLED: Duration = Duration::from_secs(30);
/// How long the first image may take; they are only made while somebody looks.
const FIRST_IMAGE: Duration = Duration::from_secs(5);

type Images = watch::Receiver<Option<Arc<Image>>>;

/// Room for one more stream.
pub(super) fn room(app: &App) -> Result<OwnedSemaphorePermit, Refusal> {
    let permit = Arc::clone(&app.streams).try_acquire_owned();
    permit.map_err(|_| {
        Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "too many clients receive live images",
        )
    })
}

/// A body of what arrives in a channel.
pub(super) fn body(mut chunks: mpsc::Receiver<Bytes>, permit: OwnedSemaphorePermit) -> Body {
    let chunks = stream::poll_fn(move |context| {
        // Released when the client has gone.
        let _ = &permit;
        chunks.poll_recv(context)
    });
    Body::from_stream(chunks.map(Ok::<_, Infallible>))
}

/// Sends every image of a camera for which the client has room.
async fn forward(mut images: Images, output: mpsc::Sender<Bytes>, encode: impl Fn(&Image) -> Bytes) {
    images.mark_changed();
    loop {
        tokio::select! {
            () = output.closed() => return,
            changed = images.changed() => if changed.is_err() { return },
        }
        let Ok(Ok(room)) = tokio::time::timeout(STALLED, output.reserve()).await else {
            return;
        };
        let image = images.borrow_and_update().clone();
        if let Some(image) = image {
            room.send(encode(&image));
        }
    }
}

/// Comma-separated ids.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Several {
    cameras: String,
}

pub(super) async fn several(
    State(app): State<App>,
    query: Result<Query<Several>, QueryRejection>,
) -> Result<Response, Refusal> {
    let Query(Several { cameras }) = query?;
    let mut numbers = Vec::new();
    for id in cameras.split(',') {
        let found = app.watch.cameras.iter().position(|camera| camera.id() == id);
        let number =
            found.ok_or_else(|| Refusal::new(StatusCode::NOT_FOUND, format!("there is no camera {id}")))?;
        if !numbers.contains(&number) {
            numbers.push(number);
        }
    }
    let permit = room(&app)?;
    let (output, chunks) = mpsc::channel(1);
    for number in numbers {
        let encode = move |image: &Image| {
            let mut frame = Vec::with_capacity(8 + image.jpeg.len());
            frame.extend((number as u32).to_be_bytes());
            frame.extend((image.jpeg.len() as u32).to_be_bytes());
            frame.extend(&image.jpeg);
            Bytes::from(frame)
        };
        tokio::spawn(forward(app.watch.cameras[number].live(), output.clone(), encode));
    }
    Ok((
        [(header::CONTENT_TYPE, "application/octet-stream")],
        body(chunks, permit),
    )
        .into_response())
}

pub(super) async fn mjpeg(
    State(app): State<App>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, Refusal> {
    let images = app.camera(&id?)?.live();
    let permit = room(&app)?;
    let (output, chunks) = mpsc::channel(1);
    tokio::spawn(async move {
        if output.send(Bytes::from_static(b"--frame\r\n")).await.is_ok() {
            forward(images, output, part).await;
        }
    });
    let kind = "multipart/x-mixed-replace; boundary=frame";
    Ok(([(header::CONTENT_TYPE, kind)], body(chunks, permit)).into_response())
}

/// A part of an MJPEG stream. Browsers show it when they see the boundary behind it.
fn part(image: &Image) -> Bytes {
    let head = format!(
        "Content-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n",
        image.jpeg.len()
    );
    [head.as_bytes(), &image.jpeg, b"\r\n--frame\r\n"].concat().into()
}

pub(super) async fn image(
    State(app): State<App>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, Refusal> {
    let mut images = app.camera(&id?)?.live();
    let _permit = room(&app)?;
    let first = tokio::time::timeout(FIRST_IMAGE, images.wait_for(Option::is_some)).await;
    let image = match first {
        Ok(Ok(image)) => image.clone(),
        _ => None,
    };
    let image =
        image.ok_or_else(|| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "the camera sends no images"))?;
    Ok(([(header::CONTENT_TYPE, "image/jpeg")], image.jpeg.clone()).into_response())
}
