//! A rendered street as a source, so that the program runs without a camera.

use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use gst::prelude::*;
use street_scene::scene::{Config, Scene};

/// Frames a second.
const FPS: u64 = 10;

/// A street of an hour: the first anomaly after a minute, then about one a minute.
fn config(seed: u64) -> Config {
    Config {
        seed,
        lead_in: 60.0,
        events: 50,
        duration: Some(3600.0),
        ..Config::default()
    }
}

/// Adds a source of the street to a bin; its frames come from a thread that ends with the pipeline.
///
/// In real time the source is live, otherwise it renders as fast as the frames are taken.
///
/// # Errors
/// An element is missing, or the thread cannot be started.
pub fn source(bin: &gst::Pipeline, seed: u64, realtime: bool) -> Result<gst::Element> {
    let config = config(seed);
    let caps = gst::Caps::builder("video/x-raw")
        .field("format", "RGBx")
        .field("width", config.width as i32)
        .field("height", config.height as i32)
        .field("framerate", gst::Fraction::new(FPS as i32, 1))
        .build();
    let source = gst_app::AppSrc::builder()
        .caps(&caps)
        .format(gst::Format::Time)
        .is_live(realtime)
        .block(true)
        .max_buffers(4)
        .build();
    bin.add(&source)?;
    let (pipeline, output) = (bin.downgrade(), source.clone());
    let render = move || {
        // The source is flushing once the pipeline stops.
        let _ = run(&config, &pipeline, &output, realtime);
    };
    std::thread::Builder::new()
        .name("street".to_owned())
        .spawn(render)
        .context("no thread can be started")?;
    Ok(source.upcast())
}

fn run(
    config: &Config,
    pipeline: &gst::glib::WeakRef<gst::Pipeline>,
    output: &gst_app::AppSrc,
    realtime: bool,
) -> Result<()> {
    let mut scene = Scene::new(config).map_err(|reason| anyhow!(reason))?;
    let count = (scene.duration() * FPS as f64) as u64;
    for number in 0..count {
        let at = gst::ClockTime::from_nseconds(number * gst::ClockTime::SECOND.nseconds() / FPS);
        if realtime {
            wait(pipeline, at)?;
        }
        let mut buffer = gst::Buffer::from_mut_slice(scene.render(number as f64 / FPS as f64).to_vec());
        let fields = buffer.get_mut().context("the new buffer is shared")?;
        fields.set_pts(at);
        fields.set_duration(gst::ClockTime::SECOND / FPS);
        output.push_buffer(buffer)?;
    }
    output.end_of_stream()?;
    Ok(())
}

/// Waits until the pipeline plays and its running time is `until`.
fn wait(pipeline: &gst::glib::WeakRef<gst::Pipeline>, until: gst::ClockTime) -> Result<()> {
    loop {
        let pipeline = pipeline.upgrade().context("the pipeline is gone")?;
        let state = pipeline.current_state();
        let now = pipeline.current_running_time();
        let pending = pipeline.pending_state();
        drop(pipeline);
        let left = match now {
            Some(now) if state == gst::State::Playing => match until.checked_sub(now) {
                None | Some(gst::ClockTime::ZERO) => return Ok(()),
                Some(left) => Duration::from(left).min(Duration::from_millis(100)),
            },
            _ => {
                anyhow::ensure!(pending != gst::State::Null, "the pipeline is stopping");
                Duration::from_millis(10)
            }
        };
        std::thread::sleep(left);
    }
}
