//! An application that embeds the element and reads its metadata and messages.
//!
//! ```sh
//! cargo run --release --example read_meta -- street.mp4
//! ```

use anyhow::{Context, Result, bail};
use gst::prelude::*;
use gstvaeanomaly::{FrameResult, MESSAGE_NAME};

fn main() -> Result<()> {
    let file = std::env::args().nth(1).context("usage: read_meta FILE-OR-URI")?;
    gst::init()?;
    // The element is linked into this program: no plugin path is needed.
    gstvaeanomaly::plugin_register_static()?;

    let uri = if file.contains("://") {
        file
    } else {
        gst::glib::filename_to_uri(std::path::absolute(&file)?, None)?.to_string()
    };
    let description = "uridecodebin name=source ! videoconvert ! vaeanomaly name=detector attach-map=true ! fakesink name=sink";
    let pipeline = gst::parse::launch(description)?
        .downcast::<gst::Pipeline>()
        .expect("a pipeline");
    let element = |name: &str| pipeline.by_name(name).with_context(|| format!("element {name}"));
    element("source")?.set_property("uri", uri);

    let pad = element("sink")?.static_pad("sink").context("a sink has a pad")?;
    pad.add_probe(gst::PadProbeType::BUFFER, |_pad, info| {
        if let Some(found) = info.buffer().and_then(|buffer| FrameResult::read(buffer)) {
            println!(
                "frame {:6}  score {:.2}  {:?}  {}  {:?}",
                found.prediction.frame,
                found.prediction.score,
                found.prediction.state,
                found
                    .prediction
                    .label
                    .map_or("-".into(), |label| format!("{label:?}")),
                found.prediction.region,
            );
            for region in &found.prediction.regions {
                println!(
                    "  region {:3}  score {:.2}  {}  {:?}",
                    region.id, region.score, region.cue, region.region
                );
            }
            if let Some(map) = found.anomaly_map {
                let highest = map.pixels.iter().max().copied().unwrap_or(0);
                println!("  map {}x{}  highest {highest}", map.width, map.height);
            }
        }
        gst::PadProbeReturn::Ok
    });

    pipeline.set_state(gst::State::Playing)?;
    let bus = pipeline.bus().context("a pipeline has a bus")?;
    for message in bus.iter_timed(gst::ClockTime::NONE) {
        match message.view() {
            gst::MessageView::Element(m) => match m.structure() {
                Some(s) if s.name() == MESSAGE_NAME => println!("message {s}"),
                _ => {}
            },
            gst::MessageView::Eos(_) => break,
            gst::MessageView::Error(e) => bail!("{}: {}", e.error(), e.debug().unwrap_or_default()),
            _ => {}
        }
    }
    println!("{}", element("detector")?.property::<gst::Structure>("stats"));
    pipeline.set_state(gst::State::Null)?;
    Ok(())
}
