//! Ground truth per frame, and the CSV files that `evaluate` and the demo read.

use std::fmt::Write as _;

use super::{Kind, Rect, Scene};

/// One recorded anomaly. Frames count from 0, pixels from the top left corner.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Event {
    pub kind: Kind,
    pub first_frame: u64,
    pub last_frame: u64,
    /// Its bounding box in the middle of the event.
    pub region: Rect,
}

/// Ground truth of a recording.
#[derive(Clone, Debug)]
pub struct Labels {
    /// Whether an anomaly is visible, for each frame.
    pub frames: Vec<bool>,
    /// Bounding box of the anomaly, for each frame in which one is visible.
    pub boxes: Vec<Option<Rect>>,
    pub events: Vec<Event>,
}

impl Labels {
    /// The ground truth of `scene` recorded at `fps` frames per second; frame i is at i / fps seconds.
    pub fn new(scene: &Scene, fps: f64) -> Self {
        let count = (scene.duration() * fps).round() as u64;
        let truths: Vec<_> = (0..count).map(|frame| scene.truth(frame as f64 / fps)).collect();
        let mut events = Vec::new();
        let last = truths.iter().flatten().map(|truth| truth.event).max();
        for index in 0..last.map_or(0, |last| last + 1) {
            let visible: Vec<_> = (0..count)
                .filter(|f| truths[*f as usize].is_some_and(|truth| truth.event == index))
                .collect();
            let middle = visible
                .get(visible.len() / 2)
                .and_then(|frame| truths[*frame as usize]);
            if let (Some(truth), Some(first), Some(last)) = (middle, visible.first(), visible.last()) {
                let (first_frame, last_frame) = (*first, *last);
                events.push(Event {
                    kind: truth.kind,
                    first_frame,
                    last_frame,
                    region: truth.region,
                });
            }
        }
        Self {
            frames: truths.iter().map(Option::is_some).collect(),
            boxes: truths
                .iter()
                .map(|truth| truth.map(|truth| truth.region))
                .collect(),
            events,
        }
    }

    /// `clip,frame,label` with label 1 if an anomaly is visible.
    pub fn frames_csv(&self, clip: &str) -> String {
        let mut csv = String::from("clip,frame,label\n");
        for (frame, label) in self.frames.iter().enumerate() {
            let _ = writeln!(csv, "{clip},{frame},{}", u8::from(*label));
        }
        csv
    }

    /// `clip,frame,x,y,w,h` of every visible anomaly, the box in whole pixels.
    pub fn boxes_csv(&self, clip: &str) -> String {
        let mut csv = String::from("clip,frame,x,y,w,h\n");
        for (frame, region) in self.boxes.iter().enumerate() {
            if let Some([x, y, width, height]) = region.map(whole_pixels) {
                let _ = writeln!(csv, "{clip},{frame},{x},{y},{width},{height}");
            }
        }
        csv
    }

    /// `clip,event,kind,first_frame,last_frame,x,y,width,height`, the box in whole pixels.
    pub fn events_csv(&self, clip: &str) -> String {
        let mut csv = String::from("clip,event,kind,first_frame,last_frame,x,y,width,height\n");
        for (number, event) in self.events.iter().enumerate() {
            let [x, y, width, height] = whole_pixels(event.region);
            let _ = writeln!(
                csv,
                "{clip},{},{},{},{},{x},{y},{width},{height}",
                number + 1,
                event.kind.name(),
                event.first_frame,
                event.last_frame
            );
        }
        csv
    }
}

/// x, y, width and height of the smallest box of whole pixels around a box.
fn whole_pixels(region: Rect) -> [u32; 4] {
    let Rect {
        left,
        top,
        right,
        bottom,
    } = region;
    let (x, y) = (left.floor() as u32, top.floor() as u32);
    [x, y, right.ceil() as u32 - x, bottom.ceil() as u32 - y]
}
