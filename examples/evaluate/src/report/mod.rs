//! One self-contained page from which a newcomer understands where the detector is right and wrong.

mod charts;
mod gallery;
mod picture;
mod strips;
mod tables;

use std::fmt::Write as _;

use anyhow::{Context, Result};

use crate::evaluation::{Evaluation, Run, Task};
use crate::table::{delay, found, number, percent};
pub use chart::escape as html_escape;
pub use charts::roc_curve;
use gallery::{Card, Kind};
use gstvaeanomaly::metrics::Confusion;

const STYLE: &str = include_str!("style.css");

/// The page. Streams the clips once more through the core for its pictures.
pub fn html(task: &Task, evaluation: &Evaluation) -> Result<String> {
    let run = evaluation.runs.first().context("nothing was run")?;
    let (cards, deviation) = gallery::take_pictures(task, run, &gallery::choose(run))?;
    let mut page = format!(
        "<!doctype html><html lang=en><head><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
         <title>vaeanomaly: evaluation</title><style>{STYLE}</style></head><body><main>"
    );
    head(&mut page, evaluation, run);
    time(&mut page, task, run);
    curves(&mut page, evaluation, run);
    pictures(&mut page, run, &cards, deviation);
    page.push_str(&tables::rivals(evaluation, run));
    page.push_str(&tables::robustness(&evaluation.robustness));
    page.push_str(&tables::events(task, run));
    page.push_str(&tables::choices(&evaluation.choices));
    page.push_str(&tables::settings(task, evaluation)?);
    page.push_str("</main></body></html>\n");
    Ok(page)
}

fn head(page: &mut String, evaluation: &Evaluation, run: &Run) {
    let f = &run.figures;
    let seconds = f.frames as f64 / run.counted.frame_rate;
    let _ = write!(
        page,
        "<h1>How well does <code>vaeanomaly</code> see what is unusual here?</h1>"
    );
    let _ = write!(
        page,
        "<p class=lead>{}</p><p class=how>{} frames ({:.0} s of video) were streamed once through the element as one \
         camera. Every frame was scored before anything was learnt from it; the detector never saw a label.</p>",
        verdict(run),
        f.frames,
        seconds
    );
    let ratio = |get: fn(&Confusion) -> Option<f64>| f.decisions.as_ref().and_then(get);
    let events = f.events.as_ref();
    let mut tiles = vec![
        (
            "AUROC",
            number(f.auroc),
            "chance that an anomalous frame scores higher than a normal one; 0.5 is guessing, 1 is perfect",
        ),
        (
            "events found",
            found(events),
            "incidents with at least one flagged frame",
        ),
        (
            "median delay",
            delay(run),
            "from the begin of an incident to its first flagged frame",
        ),
        (
            "normal frames flagged",
            percent(ratio(Confusion::false_alarm_share)),
            "false alarms, as a share of all normal frames",
        ),
        (
            "F1",
            number(ratio(Confusion::f1)),
            "one number for decisions on frames: high only if both precision and recall are",
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
            "frames flagged or near",
            percent(f.flagged_share),
            "flagged frames and the two seconds after them",
        ));
    }
    if let Some(kept) = evaluation.kept {
        tiles.push((
            "bytes kept",
            percent(kept.bytes),
            "size of the encoded video with drop-normal, of the full recording",
        ));
    }
    let rate = run
        .pass
        .frames_per_second()
        .map_or_else(|| "-".into(), |r| format!("{r:.0}/s"));
    tiles.push((
        "frames",
        rate,
        "that the element gets through in a second of its own time",
    ));
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
fn verdict(run: &Run) -> String {
    let f = &run.figures;
    let (Some(events), Some(decisions)) = (&f.events, &f.decisions) else {
        let share = percent(f.flagged_share);
        return format!(
            "No ground truth was given. {share} of the frames were flagged or followed one that was."
        );
    };
    let alarms = percent(decisions.false_alarm_share());
    let when = match events.median_delay_seconds(run.counted.frame_rate) {
        Some(seconds) => format!(", half of them within {seconds:.1} s"),
        None => String::new(),
    };
    format!(
        "It found {} of {} incidents{when}, and flagged {alarms} of the normal frames.",
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
        "<section><h2>Score over time</h2><p class=how>How to read it: the blue line should be above the dashed \
         threshold where the background is red (something unusual happens, says the ground truth) and below it \
         elsewhere. The score is on a fixed scale: 0.5 is at the threshold.</p>{}",
        charts::overview(run)
    );
    let _ = write!(
        page,
        "<h3>Clip by clip</h3><p class=how>How to read it: the same, one row for each clip. The thin strip below each \
         row says how the decisions came out: green is right, orange a false alarm, red a miss; no colour is a normal \
         frame left in peace.</p>{}{strips}",
        key(&[
            ("unusual, says the ground truth", "#f6c7c3"),
            ("rightly flagged", "#2e8b57"),
            ("false alarm", "#e08a00"),
            ("missed", "#c0392b"),
        ])
    );
    if left_out > 0 {
        let _ = write!(page, "<p class=how>{left_out} more rows are not shown.</p>");
    }
    page.push_str("</section>");
}

fn curves(page: &mut String, evaluation: &Evaluation, run: &Run) {
    page.push_str("<section><h2>How far apart are normal and anomalous frames?</h2>");
    if let (Some((roc, names)), Some(pr)) = (charts::roc(evaluation, run), charts::precision_recall(run)) {
        let names: Vec<(&str, &str)> = names.iter().map(|(n, c)| (n.as_str(), *c)).collect();
        let _ = write!(
            page,
            "<div class=pair><div>{roc}{}<p class=how>How to read it: every point is one threshold. The nearer a curve \
             comes to the upper left corner, the more anomalies it finds for the same false alarms; the dot is the \
             threshold as configured.</p></div><div>{pr}<p class=how>How to read it: going right, more of the \
             anomalous frames are found; a curve that stays high does so without flagging normal ones. The grey line \
             is what flagging at random would give.</p></div></div>",
            key(&names)
        );
    }
    let _ = write!(
        page,
        "{}<p class=how>How to read it: the less the two colours overlap, the better the detector tells them apart. \
         What lies right of the threshold is flagged: grey there is a false alarm, red left of it a miss.</p></section>",
        charts::histogram(run)
    );
}

fn pictures(page: &mut String, run: &Run, cards: &[Card], deviation: f64) {
    page.push_str(
        "<section><h2>What it saw</h2><p class=how>How to read it: left the frame with the strongest place marked; in \
         the middle where the score comes from, from clear over yellow (at the threshold) to red; right the picture \
         that the appearance net expected. What is in the frame but not in the expectation is what looks wrong to it. \
         Motion is judged by another net, which expects speeds, not pictures.</p>",
    );
    if run.counted.labels.is_some() {
        page.push_str(&gallery::section(
            cards,
            Kind::Hit,
            "Strongest hits",
            "Incidents that were found, at the frame with the highest score.",
            "Nothing anomalous was flagged.",
        ));
        page.push_str(&gallery::section(
            cards,
            Kind::FalseAlarm,
            "Strongest false alarms",
            "Frames that are normal by the ground truth. Look whether it is wrong: labels often begin late or end early.",
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
            Kind::Found,
            "Strongest finds",
            "",
            "Nothing was flagged.",
        ));
    }
    let agreement = if deviation == 0.0 {
        "its raw scores are exactly the element's".to_owned()
    } else {
        format!("its raw scores differ from the element's by at most {deviation:.1e}")
    };
    let _ = write!(
        page,
        "<p class=how>Maps and expectations come from a second pass of the same frames through the detector core; \
         {agreement}.</p></section>"
    );
}
