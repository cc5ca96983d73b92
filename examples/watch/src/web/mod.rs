//! The page, and the interface that it uses: HTTP/1.1, JSON, server-sent events.
//!
//! | request | answer |
//! |---|---|
//! | `GET /` | the page; all of its files are part of the program |
//! | `GET /api/cameras` | states of all cameras |
//! | `GET /api/stream` | server-sent events `hello`, `cameras`, `scores`, `event` |
//! | `GET /api/live?cameras=ID,ID` | live images of several cameras over one connection, see [`live`] |
//! | `GET /api/cameras/ID/live`, `…/image` | live images as MJPEG, and one as JPEG |
//! | `GET`, `PUT /api/cameras/ID/masks` | `{"polygons": [[[x, y], …], …]}`, corners as fractions of width and height |
//! | `GET`, `PATCH /api/cameras/ID/settings` | properties that change at once; `{"threshold": 1.9}`, `null` returns to the configuration |
//! | `GET /api/events?camera=&from=&to=&before=&limit=` | events, the newest first; times in ms since 1970 |
//! | `GET /api/events/ID`, `…/clip`, `…/thumbnail` | an event and its files, with byte ranges |
//! | `POST /api/events/ID/accept` | accepts the event as normal |
//! | `GET /metrics` | Prometheus |
//!
//! A refusal is `{"error": "a sentence"}`. Who may ask is decided in [`guard`].

mod assets;
mod cameras;
mod events;
mod guard;
mod live;
mod masks;
mod settings;
mod stream;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::state::{Camera, CommandError, Watch};
use guard::Guard;

/// Connections at a time; others wait.
const CONNECTIONS: usize = 256;
/// Clients that receive live images or server-sent events at a time; others are refused.
const STREAMS: usize = 64;
/// How long a client may take for the headers of a request, and for its body with the work on it.
const HEADERS_WITHIN: Duration = Duration::from_secs(10);
const ANSWERED_WITHIN: Duration = Duration::from_secs(30);
/// Largest body in bytes: 64 polygons of 64 corners fit.
const LARGEST_BODY: usize = 256 * 1024;
/// Largest headers in bytes.
const LARGEST_HEADERS: usize = 32 * 1024;

/// What all handlers share.
#[derive(Clone)]
struct App {
    watch: Arc<Watch>,
    streams: Arc<Semaphore>,
}

impl App {
    fn camera(&self, id: &str) -> Result<&Arc<Camera>, Refusal> {
        let found = self.watch.camera(id);
        found.ok_or_else(|| CommandError::NoCamera(id.to_owned()).into())
    }

    /// Runs what waits for the database, a file or a detector.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Watch) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let watch = Arc::clone(&self.watch);
        let done = tokio::task::spawn_blocking(move || work(&watch)).await;
        done.unwrap_or_else(|error| Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())))
    }
}

/// A refused request.
#[derive(Debug)]
struct Refusal {
    status: StatusCode,
    reason: String,
}

impl Refusal {
    fn new(status: StatusCode, reason: impl Into<String>) -> Self {
        Self {
            status,
            reason: reason.into(),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = serde_json::json!({ "error": self.reason });
        let mut response = (self.status, axum::Json(body)).into_response();
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            let headers = response.headers_mut();
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
        }
        response
    }
}

impl From<CommandError> for Refusal {
    fn from(error: CommandError) -> Self {
        let status = match &error {
            CommandError::NoCamera(_) | CommandError::NoEvent(_) | CommandError::NoProperty(_) => {
                StatusCode::NOT_FOUND
            }
            CommandError::Value(_) => StatusCode::UNPROCESSABLE_ENTITY,
            CommandError::TooLate(_) => StatusCode::CONFLICT,
            CommandError::Store(error) if error.is_full() => StatusCode::INSUFFICIENT_STORAGE,
            CommandError::File(error) if error.kind() == io::ErrorKind::StorageFull => {
                StatusCode::INSUFFICIENT_STORAGE
            }
            CommandError::Store(_) | CommandError::File(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, error.to_string())
    }
}

impl From<JsonRejection> for Refusal {
    fn from(rejection: JsonRejection) -> Self {
        Self::new(rejection.status(), rejection.body_text())
    }
}

impl From<QueryRejection> for Refusal {
    fn from(rejection: QueryRejection) -> Self {
        Self::new(rejection.status(), rejection.body_text())
    }
}

impl From<PathRejection> for Refusal {
    fn from(rejection: PathRejection) -> Self {
        Self::new(rejection.status(), rejection.body_text())
    }
}

/// The server, bound to its address.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    router: Router,
}

impl Server {
    /// Binds to an address. With a token every client must present it.
    ///
    /// # Errors
    /// The address cannot be bound, or other machines could reach it without a token.
    pub async fn bind(watch: Arc<Watch>, listen: SocketAddr, token: Option<&str>) -> io::Result<Self> {
        if token.is_none() && !listen.ip().is_loopback() {
            let reason = format!("{listen} can be reached from other machines: set a token");
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, reason));
        }
        Ok(Self {
            listener: TcpListener::bind(listen).await?,
            router: router(watch, Guard::new(token)),
        })
    }

    /// The address, also where port 0 was asked for.
    ///
    /// # Errors
    /// The system cannot report it.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until it is dropped, which also ends all connections.
    pub async fn run(self) {
        let room = Arc::new(Semaphore::new(CONNECTIONS));
        let mut connections = JoinSet::new();
        loop {
            let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
                return;
            };
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(_) => {
                    // The client has gone again, or there are no free descriptors.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            // Only delays small messages if it fails.
            let _ = stream.set_nodelay(true);
            let service = TowerToHyperService::new(self.router.clone());
            connections.spawn(async move {
                // A connection that fails has no other listener than the client.
                let _ = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEADERS_WITHIN)
                    .max_buf_size(LARGEST_HEADERS)
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
                drop(permit);
            });
            while connections.try_join_next().is_some() {}
        }
    }
}

fn router(watch: Arc<Watch>, guard: Guard) -> Router {
    let app = App {
        watch,
        streams: Arc::new(Semaphore::new(STREAMS)),
    };
    assets::routes(Router::new())
        .route("/api/cameras", get(cameras::list))
        .route("/api/cameras/{id}/live", get(live::mjpeg))
        .route("/api/cameras/{id}/image", get(live::image))
        .route("/api/cameras/{id}/masks", get(masks::read).put(masks::write))
        .route(
            "/api/cameras/{id}/settings",
            get(settings::read).patch(settings::write),
        )
        .route("/api/live", get(live::several))
        .route("/api/stream", get(stream::follow))
        .route("/api/events", get(events::list))
        .route("/api/events/{id}", get(events::one))
        .route("/api/events/{id}/clip", get(events::clip))
        .route("/api/events/{id}/thumbnail", get(events::thumbnail))
        .route("/api/events/{id}/accept", post(events::accept))
        .route("/metrics", get(metrics))
        .fallback(async || Refusal::new(StatusCode::NOT_FOUND, "there is nothing at this address"))
        .method_not_allowed_fallback(async || {
            Refusal::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "this address does not take this method",
            )
        })
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .layer(middleware::from_fn(in_time))
        .layer(middleware::from_fn_with_state(Arc::new(guard), guard::check))
        .with_state(app)
}

/// Ends a request whose body does not arrive.
async fn in_time(request: Request, next: Next) -> Response {
    let answered = tokio::time::timeout(ANSWERED_WITHIN, next.run(request)).await;
    answered.unwrap_or_else(|_| {
        Refusal::new(StatusCode::REQUEST_TIMEOUT, "the request took too long").into_response()
    })
}

async fn metrics(State(app): State<App>) -> Response {
    let text = crate::publish::metrics::render(&app.watch);
    (
        [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
        text,
    )
        .into_response()
}
