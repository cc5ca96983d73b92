//! The report: one self-contained HTML page that explains its figures.

mod charts;
mod gallery;
mod strips;
mod tables;
mod thumbnail;

use std::fmt::Write as _;

use anyhow::{Context, Result};

use crate::evaluation::{Evaluation, Run, Task};
use crate::table::{delay, found, number, percent};
pub use chart::escape as html_escape;
pub use charts::roc_curve;
use gallery::{Card, Kind};
use gstvaeanomaly::metrics::Confusion;

const STYLE: &str = include_str!("style.css");

/// The page. Streams the clips through the core again for its images.
pub fn html(task: &Task, evaluation: &Evaluation) -> Result<String> {
    let run = evaluation.runs.first().context("there was no run")?;
    let (cards, deviation) = gallery::render_cards(task, run, &gallery::choose(run))?;
    let mut page = format!(
        "<!doctype html><html lang=en><head><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
         <title>vaeanomaly: evaluation</title><style>{STYLE}</style></head><body><main>"
    );
    head(&mut page, task, evaluation, run);
    time(&mut page, task, run);
    curves(&mut page, evaluation, run);
    images(&mut page, run, &cards, deviation);
    page.push_str(&tables::competitors(evaluation, run));
    page.push_str(&tables::robustness(&evaluation.robustness));
    page.push_str(&tables::locations(evaluation, run));
    page.push_str(&tables::acceptances(&evaluation.acceptances));
    page.push_str(&tables::events(task, run));
    page.push_str(&tables::choices(&evaluation.choices));
    page.push_str(&tables::settings(task, evaluation)?);
    page.push_str("</main></body></html>\n");
    Ok(page)
}

fn head(page: &mut String, task: &Task, evaluation: &Evaluation, run: &Run) {
    let f = &run.figures;
    let seconds = f.frames as f64 / run.counted.frame_rate;
    let _ = write!(page, "<h1>Evaluation of <code>vaeanomaly</code></h1>");
    let _ = write!(
        page,
        "<p class=lead>{}</p><p class=how>{} frames ({:.0} s of video) were streamed once through the element as one \
         camera. Every frame was scored before the element learnt from it, and the labels were used for the figures only.</p>",
        result(run),
        f.frames,
        seconds
    );
    if !task.mask.is_empty() {
        let _ = write!(
            page,
            "<p class=how>{} of the frame were ignored, by the element, the ablations and all baselines. The labels are those \
             of the whole frame: an anomaly that only the ignored part shows counts as missed. Ignored parts are dark in the \
             images.</p>",
            percent(Some(task.mask.share()))
        );
    }
    let ratio = |get: fn(&Confusion) -> Option<f64>| f.decisions.as_ref().and_then(get);
    let events = f.events.as_ref();
    let mut tiles = vec![
        (
            "AUROC",
            number(f.auroc),
            "probability that an anomalous frame scores higher than a normal one; 0.5 is chance, 1 is perfect",
        ),
        (
            "events found",
            found(events),
            "events with at least one flagged frame",
        ),
        (
            "median delay",
            delay(run),
            "from the begin of an event to its first flagged frame",
        ),
        (
            "normal frames flagged",
            percent(ratio(Confusion::false_alarm_share)),
            "false alarms, as a share of all normal frames",
        ),
        (
            "F1",
            number(ratio(Confusion::f1)),
            "harmonic mean of precision and recall",
        ),
        (
            "precision / recall",
            format!(
                "{} / {}",
                number(ratio(Confusion::precision)),
                number(ratio(Confusion::recall))
            ),
            "flagged frames that are anomalous / anomalous frames that are flagged",
        ),
    ];
    if f.decisions.is_none() {
        tiles.clear();
        tiles.push((
            "frames kept",
            percent(f.flagged_share),
            "flagged frames and the two seconds after them",
        ));
    }
    if let Some(l) = &f.localisation {
        tiles.push((
            "regions on their anomaly",
            percent(l.report.strongest_overlaps),
            "flagged frames whose strongest region overlaps a box of the ground truth",
        ));
        tiles.push((
            "mean IoU",
            number(l.report.mean_iou),
            "intersection of the strongest region and the box over their union",
        ));
    }
    if let Some(kept) = evaluation.kept {
        tiles.push((
            "bytes kept",
            percent(kept.bytes),
            "encoded size with drop-normal, as a share of the full recording",
        ));
    }
    let rate = run
        .pass
        .frames_per_second()
        .map_or_else(|| "-".into(), |r| format!("{r:.0}/s"));
    tiles.push(("frames", rate, "per second of the time spent in the element"));
    page.push_str("<div class=tiles>");
    for (name, value, meaning) in tiles {
        let _ = write!(
            page,
            "<div class=tile><b>{value}</b><span>{name}</span><small>{meaning}</small></div>"
        );
    }
    page.push_str("</div>");
}

/// The result in one sentence.
fn result(run: &Run) -> String {
    let f = &run.figures;
    let (Some(events), Some(decisions)) = (&f.events, &f.decisions) else {
        let share = percent(f.flagged_share);
        return format!(
            "There is no ground truth. {share} of the frames were flagged or followed a flagged frame within two seconds."
        );
    };
    let alarms = percent(decisions.false_alarm_share());
    let when = match events.median_delay_seconds(run.counted.frame_rate) {
        Some(seconds) => format!(", half of them within {seconds:.1} s"),
        None => String::new(),
    };
    format!(
        "{} of {} events were found{when}; {alarms} of the normal frames were flagged.",
        events.detected(),
        events.events.len()
    )
}

fn key(entries: &[(&str, &str)]) -> String {
    let entry = |(name, colour): &(&str, &str)| {
        format!(
            "<span><i style=\"background:{colour}\"></i>{}</span>",
            html_escape(name)
        )
    };
    format!(
        "<p class=key>{}</p>",
        entries.iter().map(entry).collect::<String>()
    )
}

fn time(page: &mut String, task: &Task, run: &Run) {
    let (strips, left_out) = strips::draw(task, run);
    let _ = write!(
        page,
        "<section><h2>Score over time</h2><p class=how>The blue line should be above the dashed threshold where the \
         background is red (anomalous according to the ground truth) and below it elsewhere. The scale is fixed: 0.5 \
         is the threshold.</p>{}",
        charts::overview(run)
    );
    let _ = write!(
        page,
        "<h3>Clip by clip</h3><p class=how>The same, with one row per clip. The thin strip below each row shows the \
         decisions: green for a hit, orange for a false alarm, red for a miss, no colour for a normal frame that was not \
         flagged.</p>{}{strips}",
        key(&[
            ("anomalous (ground truth)", "#f6c7c3"),
            ("hit", "#2e8b57"),
            ("false alarm", "#e08a00"),
            ("miss", "#c0392b"),
        ])
    );
    if left_out > 0 {
        let _ = write!(page, "<p class=how>{left_out} more rows are not shown.</p>");
    }
    page.push_str("</section>");
}

fn curves(page: &mut String, evaluation: &Evaluation, run: &Run) {
    page.push_str("<section><h2>Separation of normal and anomalous frames</h2>");
    if let (Some((roc, names)), Some(pr)) = (charts::roc(evaluation, run), charts::precision_recall(run)) {
        let names: Vec<(&str, &str)> = names.iter().map(|(n, c)| (n.as_str(), *c)).collect();
        let _ = write!(
            page,
            "<div class=pair><div>{roc}{}<p class=how>Every point is one threshold. The closer a curve is to the upper left \
             corner, the more anomalies are found for the same false alarms; the dot is the configured threshold.</p></div><div>{pr}<p class=how>Further right, more of the anomalous \
             frames are found; the higher the curve, the fewer normal frames are flagged. The grey line is random \
             flagging.</p></div></div>",
            key(&names)
        );
    }
    let _ = write!(
        page,
        "{}<p class=how>The less the two colours overlap, the better. Frames right of the threshold are flagged: grey there \
         is a false alarm, red left of it a miss.</p></section>",
        charts::histogram(run)
    );
}

fn images(page: &mut String, run: &Run, cards: &[Card], deviation: f64) {
    page.push_str(
        "<section><h2>Examples</h2><p class=how>Left: the frame with its strongest region. Middle: the anomaly map, from \
         transparent over yellow (the threshold) to red. Right: the reconstruction of the appearance net; what it \
         lacks is what the net considers anomalous. Motion is scored by another net, which predicts speeds.</p>",
    );
    if run.counted.labels.is_some() {
        page.push_str(&gallery::section(
            cards,
            Kind::Hit,
            "Strongest hits",
            "Events that were found, at the frame with the highest score.",
            "Nothing anomalous was flagged.",
        ));
        page.push_str(&gallery::section(
            cards,
            Kind::FalseAlarm,
            "Strongest false alarms",
            "Frames that are normal according to the ground truth. Labels often begin late or end early.",
            "There are none.",
        ));
        page.push_str(&gallery::section(
            cards,
            Kind::Miss,
            "Clearest misses",
            "Anomalous frames that were not flagged, at the lowest score.",
            "There are none.",
        ));
    } else {
        page.push_str(&gallery::section(
            cards,
            Kind::Unlabelled,
            "Strongest anomalies",
            "",
            "Nothing was flagged.",
        ));
    }
    let agreement = if deviation == 0.0 {
        "its raw scores equal those of the element".to_owned()
    } else {
        format!("its raw scores differ from the element's by at most {deviation:.1e}")
    };
    let _ = write!(
        page,
        "<p class=how>Maps and reconstructions come from a second pass of the same frames through the detector core; \
         {agreement}.</p></section>"
    );
}
