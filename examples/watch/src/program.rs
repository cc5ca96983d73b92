//! Starts and stops everything that a configuration asks for.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle as Task;

use crate::config::Config;
use crate::output::{Every, Format, Output};
use crate::state::{Connection, Watch};
use crate::web::Server;
use crate::{archive, camera, publish};

/// What is printed.
#[derive(Clone, Copy, Debug)]
pub struct Lines {
    pub every: Every,
    pub format: Format,
}

/// The running program.
#[derive(Debug)]
pub struct Program {
    pub watch: Arc<Watch>,
    stop: Arc<AtomicBool>,
    /// Stops the helpers, which have work until all cameras have stopped.
    stop_helpers: Arc<AtomicBool>,
    cameras: Vec<JoinHandle<()>>,
    helpers: Vec<JoinHandle<()>>,
    runtime: Runtime,
    stopping: watch::Sender<bool>,
    tasks: Vec<Task<()>>,
    page: Option<(SocketAddr, Task<()>)>,
}

impl Program {
    /// Starts all cameras. GStreamer is initialised and the plugin registered.
    ///
    /// # Errors
    /// The storage folder or the page's address cannot be used, or no thread can be started.
    pub fn start(config: Config, lines: Option<Lines>) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        let watch = Watch::new(config.cameras, config.storage)?;
        let page = config.web.listen.map(|listen| {
            let server = Server::bind(Arc::clone(&watch), listen, config.web.token.as_deref());
            let server = runtime.block_on(server);
            let server = server.with_context(|| format!("the page cannot listen at {listen}"))?;
            let address = server.address()?;
            watch.set_address(format!("http://{address}/"));
            anyhow::Ok((address, runtime.spawn(server.run())))
        });
        let page = page.transpose()?;
        let stop = Arc::new(AtomicBool::new(false));
        let stop_helpers = Arc::new(AtomicBool::new(false));
        let (stopping, stopped) = watch::channel(false);
        let mut helpers = Vec::new();
        if let Some(lines) = lines {
            helpers.push(Output::start(&watch, lines.every, lines.format, &stop_helpers)?);
        }
        helpers.push(archive::spawn(&watch, &stop_helpers)?);
        let mut tasks = Vec::new();
        if let Some(mqtt) = config.mqtt {
            tasks.push(runtime.spawn(publish::mqtt::run(Arc::clone(&watch), mqtt, stopped.clone())));
        }
        if let Some(kafka) = config.kafka {
            tasks.push(runtime.spawn(publish::kafka::run(Arc::clone(&watch), kafka, stopped)));
        }
        let cameras = watch.cameras.iter().map(|camera| {
            let (watch, camera, stop) = (Arc::clone(&watch), Arc::clone(camera), Arc::clone(&stop));
            let thread = std::thread::Builder::new().name(format!("camera {}", camera.id()));
            thread.spawn(move || camera::run(&watch, &camera, &stop))
        });
        let cameras = cameras.collect::<Result<_, _>>()?;
        Ok(Self {
            watch,
            stop,
            stop_helpers,
            cameras,
            helpers,
            runtime,
            stopping,
            tasks,
            page,
        })
    }

    /// Where the page is, if there is one.
    pub fn page(&self) -> Option<SocketAddr> {
        self.page.as_ref().map(|(address, _)| *address)
    }

    /// The runtime of everything that waits for the network.
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Whether every source is a file that has ended.
    pub fn is_finished(&self) -> bool {
        let mut cameras = self.watch.cameras.iter();
        cameras.all(|camera| camera.status().connection == Connection::Finished)
    }

    /// Stops all cameras; completes clips and events, and publishes them.
    pub fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some((_, page)) = self.page {
            page.abort();
        }
        // What panicked has printed it.
        for thread in self.cameras {
            let _ = thread.join();
        }
        self.stopping.send_replace(true);
        for task in self.tasks {
            let _ = self.runtime.block_on(task);
        }
        self.stop_helpers.store(true, Ordering::Relaxed);
        for thread in self.helpers {
            let _ = thread.join();
        }
    }
}
