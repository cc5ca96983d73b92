//! Events on their way to a broker: the same rule for all brokers.
//!
//! Each event is sent when the broker has confirmed the one before, so that none is lost and none overtakes another; after a
//! lost connection the last one may come twice. While the broker is away events wait, up to a bound; beyond it the oldest
//! are discarded.

use std::collections::VecDeque;
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::time::Instant;

use crate::backoff;
use crate::publish;
use crate::state::{Notice, Watch};

/// How long the end of the program waits for the last messages.
pub const FAREWELL: Duration = Duration::from_secs(5);

/// What happened to an event of a camera, as JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub camera: String,
    pub payload: String,
}

/// Messages that the broker has not confirmed.
#[derive(Debug)]
struct Queue {
    waiting: VecDeque<Message>,
    bound: usize,
    /// The first one was sent.
    sent: bool,
    /// Messages discarded because too many waited.
    discarded: u64,
}

impl Queue {
    fn push(&mut self, message: Message) {
        if self.waiting.len() >= self.bound {
            // The first one may be on its way.
            self.waiting.remove(usize::from(self.sent));
            self.discarded += 1;
        }
        self.waiting.push_back(message);
    }

    /// The broker has confirmed the first one.
    fn confirm(&mut self) {
        if std::mem::take(&mut self.sent) {
            self.waiting.pop_front();
        }
    }
}

/// The events of a program for one broker.
#[derive(Debug)]
pub struct Outbox {
    notices: broadcast::Receiver<Arc<Notice>>,
    queue: Queue,
    /// `MQTT` or `Kafka`.
    protocol: &'static str,
}

impl Outbox {
    /// Takes all events from now on; keeps `bound` at most.
    pub fn new(watch: &Watch, protocol: &'static str, bound: usize) -> Self {
        Self {
            notices: watch.notices(),
            queue: Queue {
                waiting: VecDeque::new(),
                bound,
                sent: false,
                discarded: 0,
            },
            protocol,
        }
    }

    /// The next notice; an event in it waits to be sent from then on. `None` when there will be no more.
    pub async fn receive(&mut self) -> Option<Arc<Notice>> {
        loop {
            match self.notices.recv().await {
                Ok(notice) => {
                    self.put(&notice);
                    return Some(notice);
                }
                Err(RecvError::Lagged(missed)) => self.discard(missed),
                Err(RecvError::Closed) => return None,
            }
        }
    }

    /// Takes all that has happened until now.
    pub fn drain(&mut self) {
        loop {
            match self.notices.try_recv() {
                Ok(notice) => self.put(&notice),
                Err(TryRecvError::Lagged(missed)) => self.discard(missed),
                Err(TryRecvError::Empty | TryRecvError::Closed) => return,
            }
        }
    }

    fn put(&mut self, notice: &Notice) {
        if let (Some(event), Some(payload)) = (notice.event(), publish::event(notice)) {
            let before = self.queue.discarded;
            self.queue.push(Message {
                camera: event.camera.clone(),
                payload: payload.to_string(),
            });
            self.report_first(before);
        }
    }

    fn discard(&mut self, messages: u64) {
        let before = self.queue.discarded;
        self.queue.discarded += messages;
        self.report_first(before);
    }

    /// Reports that messages are discarded, once until the broker confirms one again.
    fn report_first(&self, before: u64) {
        if before == 0 && self.queue.discarded > 0 {
            eprintln!(
                "watch: more than {} events wait for {}: the oldest are discarded",
                self.queue.bound, self.protocol
            );
        }
    }

    /// The message to send now, if there is one; it counts as sent until it is confirmed or the connection is lost.
    pub fn send(&mut self) -> Option<Message> {
        if self.queue.sent {
            return None;
        }
        let message = self.queue.waiting.front().cloned();
        self.queue.sent = message.is_some();
        message
    }

    /// The broker has confirmed the message that was sent.
    pub fn confirm(&mut self) {
        self.queue.confirm();
        let discarded = std::mem::take(&mut self.queue.discarded);
        if discarded > 0 {
            eprintln!("watch: {discarded} events were not sent over {}", self.protocol);
        }
    }

    /// What was sent is not known to have arrived, and is sent again.
    pub fn resend(&mut self) {
        self.queue.sent = false;
    }

    /// Whether the broker has confirmed everything.
    pub fn is_empty(&self) -> bool {
        self.queue.waiting.is_empty()
    }
}

impl Drop for Outbox {
    /// Reports what the program ends without having sent.
    fn drop(&mut self) {
        let unsent = self.queue.discarded + self.queue.waiting.len() as u64;
        if unsent > 0 {
            eprintln!("watch: {unsent} events were not sent over {}", self.protocol);
        }
    }
}

/// Attempts to reach a broker.
#[derive(Debug)]
pub struct Attempts {
    broker: String,
    failures: u32,
    next: Instant,
}

impl Attempts {
    /// `broker` is for messages.
    pub fn new(broker: String) -> Self {
        Self {
            broker,
            failures: 0,
            next: Instant::now(),
        }
    }

    /// Whether the pause after the last failure is over.
    pub fn is_due(&self) -> bool {
        self.next <= Instant::now()
    }

    /// When the pause is over.
    pub fn next(&self) -> Instant {
        self.next
    }

    /// The broker cannot be reached. The first failure is reported.
    pub fn fail(&mut self, error: &(impl Display + ?Sized)) {
        if self.failures == 0 {
            eprintln!("watch: {}: {error}", self.broker);
        }
        self.failures += 1;
        self.next = Instant::now() + backoff::pause(self.failures);
    }

    /// The broker answers.
    pub fn succeed(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_gives_up_the_oldest_that_was_not_sent() {
        let mut queue = Queue {
            waiting: VecDeque::new(),
            bound: 3,
            sent: false,
            discarded: 0,
        };
        let message = |number: u32| Message {
            camera: "door".to_owned(),
            payload: number.to_string(),
        };
        (0..3).for_each(|number| queue.push(message(number)));
        queue.sent = true;
        queue.push(message(3));
        let payloads = |queue: &Queue| {
            let waiting = queue.waiting.iter().map(|message| message.payload.clone());
            waiting.collect::<Vec<_>>()
        };
        assert_eq!(payloads(&queue), ["0", "2", "3"]);
        assert_eq!(queue.discarded, 1);
        queue.confirm();
        queue.confirm();
        assert_eq!(payloads(&queue), ["2", "3"], "only what was sent is confirmed");
    }
}
