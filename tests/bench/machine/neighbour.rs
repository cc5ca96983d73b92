//! A process beside this one that does on another core what an element does here.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::crowd::{Camera, TURN};

/// What starts this program as a neighbour.
pub const ARGUMENT: &str = "neighbour";

/// Frames that outlast the other's turn.
const FRAMES: usize = 3 * TURN;

/// Plays for every line that comes, and answers when it begins and when it has ended.
pub fn serve() {
    let mut camera = Camera::learn(0);
    camera.watch(1920, 1080, 0);
    for _ in std::io::stdin().lines() {
        println!("begin");
        camera.play(FRAMES);
        println!("end");
    }
}

pub struct Neighbour {
    process: Child,
    tell: ChildStdin,
    hear: BufReader<ChildStdout>,
}

impl Neighbour {
    pub fn start() -> Self {
        let program = std::env::current_exe().expect("this program");
        let mut process = Command::new(program)
            .arg(ARGUMENT)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a process");
        let tell = process.stdin.take().expect("a pipe");
        let hear = BufReader::new(process.stdout.take().expect("a pipe"));
        let mut neighbour = Self { process, tell, hear };
        // Learnt, once it answers.
        neighbour.begin();
        neighbour.end();
        neighbour
    }

    pub fn begin(&mut self) {
        self.tell.write_all(b"\n").expect("a neighbour that listens");
        self.answer();
    }

    pub fn end(&mut self) {
        self.answer();
    }

    fn answer(&mut self) {
        let mut line = String::new();
        let read = self.hear.read_line(&mut line).expect("a neighbour that answers");
        assert!(read > 0, "the neighbour has ended");
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        // Nothing is left to be lost; a process that has ended already is as good.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
