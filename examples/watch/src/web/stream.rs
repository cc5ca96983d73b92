//! What changes, as server-sent events.
//!
//! - `hello`: all cameras with the scores of the last minute; at the begin, and when a client was too slow for the events.
//! - `cameras`: all cameras, when something of them has changed.
//! - `scores`: new scores by camera: `[time, score, whether it is an anomaly]`.
//! - `event`: an event that has begun, changed or ended.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use super::cameras::Overview;
use super::events::EventView;
use super::live::{STALLED, body, room};
use super::{App, Refusal};
use crate::state::{Millis, Watch, now};

/// Interval of the scores.
const INTERVAL: Duration = Duration::from_millis(200);
/// A comment this often shows the client that the connection is alive.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Scores by the camera's id.
type Scores<'a> = BTreeMap<&'a str, Vec<(Millis, f32, bool)>>;

#[derive(Serialize)]
struct Hello<'a> {
    now: Millis,
    #[serde(flatten)]
    overview: &'a Overview,
    scores: Scores<'a>,
}

#[derive(Serialize)]
struct NewScores<'a> {
    now: Millis,
    scores: Scores<'a>,
}

pub(super) async fn follow(State(app): State<App>) -> Result<Response, Refusal> {
    let permit = room(&app)?;
    let (output, chunks) = mpsc::channel(16);
    tokio::spawn(async move {
        let mut client = Client {
            overview: Overview::new(&app.watch),
            last: vec![0; app.watch.cameras.len()],
            output,
        };
        // Ends when the client has gone.
        client.follow(&app.watch).await;
    });
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, body(chunks, permit)).into_response())
}

/// What a client has.
struct Client {
    overview: Overview,
    /// Number of the last score of each camera.
    last: Vec<u64>,
    output: mpsc::Sender<Bytes>,
}

impl Client {
    /// Returns when the client has gone.
    async fn follow(&mut self, watch: &Watch) -> Option<()> {
        let mut notices = watch.notices();
        self.hello(watch).await?;
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut alive = tokio::time::interval(KEEP_ALIVE);
        loop {
            tokio::select! {
                () = self.output.closed() => return None,
                _ = ticks.tick() => self.changes(watch).await?,
                _ = alive.tick() => self.send(Bytes::from_static(b":\n\n")).await?,
                notice = notices.recv() => match notice {
                    Ok(notice) => if let Some(event) = notice.event() {
                        self.event("event", &EventView::new(event)).await?;
                    },
                    Err(RecvError::Lagged(_)) => self.hello(watch).await?,
                    Err(RecvError::Closed) => return None,
                },
            }
        }
    }

    async fn hello(&mut self, watch: &Watch) -> Option<()> {
        self.overview = Overview::new(watch);
        self.last.fill(0);
        let scores = self.scores(watch);
        let hello = Hello {
            now: now(),
            overview: &self.overview,
            scores,
        };
        let message = message("hello", &hello)?;
        self.send(message).await
    }

    async fn changes(&mut self, watch: &Watch) -> Option<()> {
        let overview = Overview::new(watch);
        if overview != self.overview {
            self.event("cameras", &overview).await?;
            self.overview = overview;
        }
        let scores = self.scores(watch);
        if scores.is_empty() {
            return Some(());
        }
        let message = message("scores", &NewScores { now: now(), scores })?;
        self.send(message).await
    }

    /// Scores that the client does not have.
    fn scores<'a>(&mut self, watch: &'a Watch) -> Scores<'a> {
        let mut all = Scores::new();
        for (camera, last) in watch.cameras.iter().zip(&mut self.last) {
            let (newest, scores) = camera.scores(*last);
            *last = newest;
            if !scores.is_empty() {
                let scores = scores
                    .iter()
                    .map(|score| (score.time, score.score, score.anomaly));
                all.insert(camera.id(), scores.collect());
            }
        }
        all
    }

    async fn event(&self, name: &str, data: &impl Serialize) -> Option<()> {
        let message = message(name, data)?;
        self.send(message).await
    }

    async fn send(&self, message: Bytes) -> Option<()> {
        tokio::time::timeout(STALLED, self.output.send(message))
            .await
            .ok()?
            .ok()
    }
}

fn message(name: &str, data: &impl Serialize) -> Option<Bytes> {
    let data = serde_json::to_string(data).ok()?;
    Some(format!("event: {name}\ndata: {data}\n\n").into())
}
