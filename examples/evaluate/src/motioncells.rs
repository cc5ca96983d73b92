//! GStreamer's motion detector as a baseline, if it is installed.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use gst::prelude::*;

use crate::clips::Frames;
use crate::mask::Mask;
use crate::stream;

/// Cells per row and column.
const GRID: i32 = 32;

/// Share of moving cells in every frame of the stream; `None` if `motioncells` is not installed
/// (Debian package gstreamer1.0-opencv). Cells that show something ignored do not count.
pub fn scores(frames: Frames, count: usize, mask: &Mask) -> Result<Option<Vec<f64>>> {
    let Ok(detector) = gst::ElementFactory::make("motioncells")
        .property("display", false)
        .property("postallmotion", true)
        .property("gridx", GRID)
        .property("gridy", GRID)
        .build()
    else {
        return Ok(None);
    };
    let ignored = mask.cells(GRID as usize, GRID as usize);
    if !ignored.is_empty() {
        let cells: Vec<String> = ignored
            .iter()
            .map(|(row, column)| format!("{row}:{column}"))
            .collect();
        detector.set_property("motionmaskcellspos", cells.join(","));
    }
    let convert = gst::ElementFactory::make("videoconvert").build()?;
    let mut numbers = BTreeMap::new();
    let mut shares = BTreeMap::new();
    let chain = [convert, detector.clone()];
    stream::pump(frames, &chain, |id, sample| {
        let time = sample
            .buffer()
            .and_then(gst::BufferRef::pts)
            .context("a frame without a time")?;
        numbers.insert(time.nseconds(), id.number);
        read_messages(&detector, &mut shares)
    })?;
    let mut scores = vec![0.0; count];
    for (time, share) in shares {
        if let Some(score) = numbers.get(&time).and_then(|&n| scores.get_mut(n as usize)) {
            *score = share;
        }
    }
    Ok(Some(scores))
}

/// Collects the share of moving cells by time from the messages on the pipeline's bus.
fn read_messages(detector: &gst::Element, shares: &mut BTreeMap<u64, f64>) -> Result<()> {
    let pipeline = detector.parent().and_downcast::<gst::Pipeline>();
    let Some(bus) = pipeline.and_then(|p| p.bus()) else {
        return Ok(());
    };
    while let Some(message) = bus.pop_filtered(&[gst::MessageType::Element, gst::MessageType::Error]) {
        if let gst::MessageView::Error(error) = message.view() {
            bail!("motioncells: {}", error.error());
        }
        let Some(fields) = message.structure().filter(|s| s.has_name("motion")) else {
            continue;
        };
        let Ok(cells) = fields.get::<&str>("motion_cells_indices") else {
            continue;
        };
        let time = fields
            .get::<u64>("motion")
            .or_else(|_| fields.get::<u64>("motion_begin"));
        if let Ok(time) = time {
            let moving = cells.split(',').filter(|cell| !cell.is_empty()).count();
            shares.insert(time, moving as f64 / f64::from(GRID * GRID));
        }
    }
    Ok(())
}
