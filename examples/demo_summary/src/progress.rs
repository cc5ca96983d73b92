//! Progress while the pipeline runs: one line that is redrawn on a terminal, a line now and then elsewhere.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use crate::messages::Frame;
use crate::summary::clock;

const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Number of scores drawn in the line.
const HISTORY: usize = 40;

pub struct Progress {
    /// Length of the stream in seconds, if known.
    length: Option<f64>,
    terminal: bool,
    history: Vec<f64>,
    time: f64,
    frames: u64,
    started: Instant,
    drawn: Option<Instant>,
    next_line: f64,
}

impl Progress {
    pub fn new(length: Option<f64>) -> Self {
        Self {
            length,
            terminal: std::io::stdout().is_terminal(),
            history: Vec::new(),
            time: 0.0,
            frames: 0,
            started: Instant::now(),
            drawn: None,
            next_line: 0.0,
        }
    }

    /// Stream time of the newest frame, in seconds.
    pub fn time(&self) -> f64 {
        self.time
    }

    pub fn frame(&mut self, frame: &Frame) {
        self.time = frame.time;
        self.frames += 1;
        self.history.push(frame.score);
        if self.history.len() > HISTORY {
            self.history.remove(0);
        }
        let due = match self.drawn {
            Some(at) if self.terminal => at.elapsed() > Duration::from_millis(100),
            _ => self.terminal || self.time >= self.next_line,
        };
        if due {
            self.draw(frame);
        }
    }

    fn draw(&mut self, frame: &Frame) {
        self.drawn = Some(Instant::now());
        self.next_line = self.time + self.length.map_or(10.0, |length| length / 10.0);
        let of = self
            .length
            .map_or(String::new(), |length| format!(" of {}", clock(length)));
        let rate = self.frames as f64 / self.started.elapsed().as_secs_f64().max(1e-3);
        let line = format!(
            "{}{of}  {:<11}  score {:.2}  {rate:.0} frames/s",
            clock(self.time),
            frame.state,
            frame.score
        );
        if self.terminal {
            let bars = self.history.iter().map(|s| BARS[((s * 8.0) as usize).min(7)]);
            print!("\r\x1b[K{line}  {}", bars.collect::<String>());
            // A closed terminal is reported by the next println!.
            let _ = std::io::stdout().flush();
        } else {
            println!("{line}");
        }
    }

    /// Prints a line that is not overwritten.
    pub fn note(&mut self, text: &str) {
        let clear = if self.terminal { "\r\x1b[K" } else { "" };
        println!("{clear}{text}");
    }

    pub fn done(&mut self) {
        if self.terminal {
            println!();
        }
    }
}
