//! A second process that keeps another core busy with the same work as an element.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::scaling::{BLOCK, Camera};

/// Argument that starts this program as such a process.
pub const ARGUMENT: &str = "background";

/// More frames than a measured block has, so that the work outlasts it.
const FRAMES: usize = 3 * BLOCK;

/// Processes [`FRAMES`] frames for every line on standard input; prints a line at their begin and at their end.
pub fn serve() {
    let mut camera = Camera::train(0);
    camera.switch_to(1920, 1080, 0);
    for _ in std::io::stdin().lines() {
        println!("begin");
        camera.process(FRAMES);
        println!("end");
    }
}

pub struct BackgroundLoad {
    process: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl BackgroundLoad {
    /// Starts the process and waits until its element is trained.
    pub fn start() -> Self {
        let program = std::env::current_exe().expect("this program has a path");
        let mut process = Command::new(program)
            .arg(ARGUMENT)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the process starts");
        let stdin = process.stdin.take().expect("stdin is a pipe");
        let stdout = BufReader::new(process.stdout.take().expect("stdout is a pipe"));
        let mut load = Self {
            process,
            stdin,
            stdout,
        };
        load.begin();
        load.end();
        load
    }

    /// Returns once the process is busy.
    pub fn begin(&mut self) {
        self.stdin.write_all(b"\n").expect("the process reads its input");
        self.wait_for_line();
    }

    /// Returns once the process is idle again.
    pub fn end(&mut self) {
        self.wait_for_line();
    }

    fn wait_for_line(&mut self) {
        let mut line = String::new();
        let read = self.stdout.read_line(&mut line).expect("the output is readable");
        assert!(read > 0, "the background process has ended");
    }
}

impl Drop for BackgroundLoad {
    fn drop(&mut self) {
        // Fails only if the process has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
