//! A rendered street as a source, so that the program runs without a camera.

use std::time::{Duration, Instant};

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
    // Takes a while, in which no frame is expected.
    let mut scene = Scene::new(&config).map_err(|reason| anyhow!(reason))?;
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
        .do_timestamp(realtime)
        .block(true)
        .max_buffers(4)
        .build();
    bin.add(&source)?;
    let (pipeline, output) = (bin.downgrade(), source.clone());
    let render = move || {
        // The source is flushing once the pipeline stops.
        let _ = run(&mut scene, &pipeline, &output, realtime);
    };
    std::thread::Builder::new()
        .name("street".to_owned())
        .spawn(render)
        .context("no thread can be started")?;
    Ok(source.upcast())
}

fn run(
    scene: &mut Scene,
    pipeline: &gst::glib::WeakRef<gst::Pipeline>,
    output: &gst_app::AppSrc,
    realtime: bool,
) -> Result<()> {
    while output.current_state() < gst::State::Paused {
        pipeline.upgrade().context("the pipeline was not started")?;
        std::thread::sleep(Duration::from_millis(10));
    }
    let start = Instant::now();
    let count = (scene.duration() * FPS as f64) as u64;
    for number in 0..count {
        let at = Duration::from_nanos(number * 1_000_000_000 / FPS);
        let mut buffer = gst::Buffer::from_mut_slice(scene.render(at.as_secs_f64()).to_vec());
        let fields = buffer.get_mut().context("the new buffer is shared")?;
        fields.set_duration(gst::ClockTime::SECOND / FPS);
        if realtime {
            std::thread::sleep((start + at).saturating_duration_since(Instant::now()));
        } else {
            fields.set_pts(gst::ClockTime::from_nseconds(at.as_nanos() as u64));
        }
        output.push_buffer(buffer)?;
    }
    output.end_of_stream()?;
    Ok(())
}
