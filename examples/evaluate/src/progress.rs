//! The progress of a pass, as one line on standard error.

use std::io::{IsTerminal, Write};
use std::time::Instant;

/// Frames between two updates of the line.
const EVERY: u64 = 10;

/// Counts the frames of one pass.
pub struct Progress {
    title: String,
    frames: u64,
    started: Instant,
    terminal: bool,
}

impl Progress {
    /// Starts a pass.
    pub fn new(title: &str) -> Self {
        let terminal = std::io::stderr().is_terminal();
        Self {
            title: title.to_owned(),
            frames: 0,
            started: Instant::now(),
            terminal,
        }
    }

    /// Counts a frame of `clip`.
    pub fn step(&mut self, clip: &str) {
        self.frames += 1;
        if self.terminal && self.frames.is_multiple_of(EVERY) {
            self.write(&format!(
                "\r\x1b[K{}: {} frames, {:.0} frames/s, {clip}",
                self.title,
                self.frames,
                self.rate()
            ));
        }
    }

    /// Prints the final line.
    pub fn finish(self) {
        let clear = if self.terminal { "\r\x1b[K" } else { "" };
        self.write(&format!(
            "{clear}{}: {} frames, {:.0} frames/s\n",
            self.title,
            self.frames,
            self.rate()
        ));
    }

    fn rate(&self) -> f64 {
        self.frames as f64 / self.started.elapsed().as_secs_f64().max(1e-3)
    }

    fn write(&self, text: &str) {
        let mut out = std::io::stderr();
        // A closed terminal does not stop the evaluation.
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}
