//! The element's messages, read from what `gst-launch-1.0 -m` prints.

use std::str::FromStr;

/// One `vaeanomaly` element message of kind `frame`.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    /// Running time in seconds.
    pub time: f64,
    /// 0..1, 0.5 = at the threshold.
    pub score: f64,
    /// `normal`, `anomaly`, or `unknown` while the element assigns no label.
    pub label: String,
    /// Life-cycle state, such as `detecting`.
    pub state: String,
    /// The event the frame belongs to, 0 = none.
    pub event_id: u64,
    /// Strongest region: x, y, width, height in pixels.
    pub region: [f64; 4],
}

impl Frame {
    /// Whether the element labelled this frame.
    pub fn is_labelled(&self) -> bool {
        self.label == "normal" || self.label == "anomaly"
    }

    pub fn is_flagged(&self) -> bool {
        self.label == "anomaly"
    }
}

/// One line of the launcher's output.
#[derive(Clone, Debug, PartialEq)]
pub enum Line {
    Frame(Frame),
    /// An anomaly began.
    Begin {
        id: u64,
        time: f64,
    },
    /// An anomaly ended.
    End {
        id: u64,
        time: f64,
    },
    /// The life-cycle state changed, the scene changed, the view is blocked.
    Notice(String),
    /// The stream has ended.
    EndOfStream,
    /// The pipeline failed.
    Error(String),
    Other,
}

/// Parses one line.
pub fn parse(line: &str) -> Line {
    if line.starts_with("ERROR") {
        return Line::Error(line.to_owned());
    }
    let Some(rest) = line.strip_prefix("Got message #") else {
        return Line::Other;
    };
    let Some((head, body)) = rest.split_once("): ").or_else(|| rest.split_once(") : ")) else {
        let ended = rest.contains("(eos)");
        return if ended { Line::EndOfStream } else { Line::Other };
    };
    match head.rsplit('(').next() {
        Some("eos") => Line::EndOfStream,
        Some("element") if body.starts_with("vaeanomaly,") => {
            gst::Structure::from_str(body.trim()).map_or(Line::Other, |message| element_message(&message))
        }
        _ => Line::Other,
    }
}

fn element_message(message: &gst::Structure) -> Line {
    let text = |name: &str| message.get::<String>(name).ok();
    let time = seconds(message, "running-time")
        .or_else(|| seconds(message, "timestamp"))
        .unwrap_or(0.0);
    let id = number(message, "event-id").unwrap_or(0.0) as u64;
    match text("event").as_deref() {
        Some("frame") => Line::Frame(Frame {
            time,
            score: number(message, "score").unwrap_or(0.0),
            label: text("label").unwrap_or_default(),
            state: text("state").unwrap_or_default(),
            event_id: id,
            region: ["x", "y", "width", "height"].map(|name| number(message, name).unwrap_or(0.0)),
        }),
        Some("anomaly-begin") => Line::Begin { id, time },
        // All messages of an event carry the time of its begin; its duration grows.
        Some("anomaly-end") => Line::End {
            id,
            time: time + seconds(message, "duration").unwrap_or(0.0),
        },
        Some("state-changed") => Line::Notice(text("state").unwrap_or_default()),
        Some(name @ ("scene-change" | "view-blocked")) => Line::Notice(name.to_owned()),
        _ => Line::Other,
    }
}

/// Any numeric field as a float.
fn number(message: &gst::Structure, name: &str) -> Option<f64> {
    let value = message.value(name).ok()?;
    value
        .get::<f64>()
        .ok()
        .or_else(|| value.transform::<f64>().ok()?.get().ok())
}

/// A time field (nanoseconds) in seconds; `None` when absent or unset.
fn seconds(message: &gst::Structure, name: &str) -> Option<f64> {
    let value = message.value(name).ok()?;
    let nanoseconds = value
        .get::<u64>()
        .ok()
        .or_else(|| value.transform::<u64>().ok()?.get().ok())?;
    (nanoseconds != u64::MAX).then_some(nanoseconds as f64 / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_frames_and_ends() {
        gst::init().expect("GStreamer starts");
        let line = "Got message #71 from element \"vaeanomaly0\" (element): vaeanomaly, event=(string)frame, \
                    event-id=(guint64)3, score=(double)0.75, label=(string)anomaly, state=(string)detecting, running-time=(guint64)1500000000, \
                    x=(uint)10, y=(uint)20, width=(uint)30, height=(uint)40;";
        let Line::Frame(frame) = parse(line) else {
            panic!("not a frame")
        };
        assert_eq!((frame.time, frame.score, frame.event_id), (1.5, 0.75, 3));
        assert_eq!(frame.region, [10.0, 20.0, 30.0, 40.0]);
        assert!(frame.is_flagged());
        let line = "Got message #8 from element \"a\" (element): vaeanomaly, event=(string)anomaly-end, \
                    event-id=(guint64)3, running-time=(guint64)2000000000, duration=(guint64)500000000;";
        assert_eq!(parse(line), Line::End { id: 3, time: 2.5 });
        assert_eq!(
            parse("Got message #9 from element \"pipeline0\" (eos): no message details"),
            Line::EndOfStream
        );
        assert_eq!(parse("Setting pipeline to PLAYING ..."), Line::Other);
    }
}
