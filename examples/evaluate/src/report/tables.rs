//! The tables of the report.

use std::fmt::Write as _;

use anyhow::Result;
use gst::prelude::*;
use gstvaeanomaly::metrics::Confusion;

use super::html_escape;
use crate::acceptance::Acceptance;
use crate::evaluation::{Competitor, Evaluation, Run, Task};
use crate::figures::Figures;
use crate::stream;
use crate::table::{flagged, found, found_later, number, percent};
use crate::thresholds::Choice;

/// Rows of cells; cells are HTML already. `ours` is the row of the element itself.
fn table(header: &[&str], rows: &[Vec<String>], ours: Option<usize>) -> String {
    let mut html = String::from("<table><tr>");
    for name in header {
        let _ = write!(html, "<th>{name}</th>");
    }
    for (i, row) in rows.iter().enumerate() {
        html.push_str(if ours == Some(i) {
            "</tr><tr class=ours>"
        } else {
            "</tr><tr>"
        });
        for cell in row {
            let _ = write!(html, "<td>{cell}</td>");
        }
    }
    html + "</tr></table>"
}

fn figures_row(name: &str, f: &Figures) -> Vec<String> {
    let decisions = f.decisions.as_ref();
    vec![
        html_escape(name),
        number(f.auroc),
        number(decisions.and_then(Confusion::f1)),
        found(f.events.as_ref()),
        percent(decisions.and_then(Confusion::false_alarm_share)),
    ]
}

fn competitor_row(competitor: &Competitor) -> Vec<String> {
    let decisions = competitor.decisions.as_ref();
    vec![
        html_escape(&competitor.name),
        number(competitor.auroc),
        number(decisions.and_then(Confusion::f1)),
        found(competitor.events.as_ref()),
        percent(decisions.and_then(Confusion::false_alarm_share)),
    ]
}

const HEADER: [&str; 5] = ["", "AUROC", "F1", "events found", "normal frames flagged"];

/// Baselines and ablations.
pub fn competitors(evaluation: &Evaluation, run: &Run) -> String {
    let mut html = String::new();
    if !evaluation.baselines.is_empty() {
        let mut rows = vec![figures_row("vaeanomaly", &run.figures)];
        rows.extend(evaluation.baselines.iter().map(competitor_row));
        let _ = write!(
            html,
            "<section><h2>Baselines</h2><p class=how>All methods processed the same frames in the same order, without \
             labels. A dash means that the method has a score but no decision rule.</p>{}\
             </section>",
            table(&HEADER, &rows, Some(0))
        );
    }
    if !evaluation.ablations.is_empty() {
        let rows: Vec<_> = evaluation.ablations.iter().map(competitor_row).collect();
        let _ = write!(
            html,
            "<section><h2>Ablations</h2><p class=how>Each row is the detector with a part removed. A part helps on this \
             video if its row is worse than the full design. These runs use the core with default settings, because \
             the element has no such switches.</p>{}</section>",
            table(&HEADER, &rows, Some(0))
        );
    }
    html
}

/// Figures under each disturbance.
pub fn robustness(rows: &[(String, Figures)]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let rows: Vec<_> = rows.iter().map(|(name, f)| figures_row(name, f)).collect();
    format!(
        "<section><h2>Disturbances</h2><p class=how>The same video with a disturbance; the closer a row is to the \
         first one, the more robust the detector. noise: standard deviation in grey levels; brightness: factor from the \
         time after @ on; jitter: camera shake in pixels; occlude: share of the image covered; fps: share of the frames \
         kept; jpeg: quality.</p>{}</section>",
        table(&HEADER, &rows, Some(0))
    )
}

/// Where the anomalies were found, also under each disturbance.
pub fn locations(evaluation: &Evaluation, run: &Run) -> String {
    let clean = [("vaeanomaly".to_owned(), run.figures.clone())];
    let all = if evaluation.robustness.is_empty() {
        &clean[..]
    } else {
        &evaluation.robustness
    };
    let rows: Vec<Vec<String>> = all
        .iter()
        .filter_map(|(name, figures)| {
            let l = figures.localisation.as_ref()?;
            let r = &l.report;
            let numbers = [
                r.mean_iou,
                r.rbdc,
                r.tbdc,
                l.map_auroc,
                l.map_aupro,
                l.pixel_auroc,
                l.pixel_aupro,
            ];
            let mut row = vec![
                html_escape(name),
                percent(r.strongest_overlaps),
                percent(r.least_share),
            ];
            row.extend(numbers.map(number));
            Some(row)
        })
        .collect();
    if rows.is_empty() {
        return String::new();
    }
    let header = [
        "",
        "strongest region overlaps",
        "worst track overlapped",
        "mean IoU",
        "RBDC",
        "TBDC",
        "map AUROC",
        "map AUPRO",
        "pixel AUROC",
        "pixel AUPRO",
    ];
    format!(
        "<section><h2>Location</h2><p class=how>Regions are compared with the boxes of the ground truth in flagged frames: \
         whether the strongest one overlaps a box, the smallest share of a track's frames with an overlapping region, \
         intersection over union, and the region- and track-based detection criteria at up to one false region a frame. The \
         anomaly maps are compared with the boxes cell by cell, and with masks, where there are any, pixel by pixel.</p>{}\
         </section>",
        table(&header, &rows, None)
    )
}

/// What was accepted as normal, and what was flagged after that.
pub fn acceptances(rows: &[Acceptance]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let header = [
        "accepted kind",
        "accepted",
        "its later frames flagged",
        "its later events found",
        "frames of other events flagged",
        "other events found",
        "normal frames flagged",
    ];
    let rows: Vec<_> = rows
        .iter()
        .map(|a| {
            vec![
                html_escape(&a.kind),
                format!("{}, frame {}", html_escape(&a.accepted.0), a.accepted.1),
                flagged(a, |later| later.same),
                found_later(a, |later| later.same),
                flagged(a, |later| later.others),
                found_later(a, |later| later.others),
                flagged(a, |later| later.normal),
            ]
        })
        .collect();
    format!(
        "<section><h2>This was normal</h2><p class=how>For each kind one more pass, in which the first event of it that \
         was found is accepted with <code>accept-event</code>, two seconds after its end or at the end of its clip. The \
         figures are of all that comes later, without and with the acceptance: the accepted kind should be flagged less, other \
         events as before.</p>{}</section>",
        table(&header, &rows, None)
    )
}

/// Every event with its delay and peak.
pub fn events(task: &Task, run: &Run) -> String {
    let Some(report) = &run.figures.events else {
        return String::new();
    };
    let verdicts = run.counted.pick(&run.pass.verdicts);
    let rows: Vec<Vec<String>> = report
        .events
        .iter()
        .map(|event| {
            let frames = &verdicts[event.frames.clone()];
            let peak = frames.iter().max_by(|a, b| a.raw_score.total_cmp(&b.raw_score));
            let flagged = frames.iter().filter(|v| v.flagged).count();
            let delay = event.delay_frames().map_or_else(
                || "missed".into(),
                |d| format!("{d} ({:.1} s)", d as f64 / run.counted.frame_rate),
            );
            vec![
                frames
                    .first()
                    .map_or_else(String::new, |v| html_escape(&task.clips[v.clip].name)),
                frames
                    .first()
                    .zip(frames.last())
                    .map_or_else(String::new, |(a, b)| format!("{} – {}", a.index, b.index)),
                delay,
                percent(Some(flagged as f64 / frames.len().max(1) as f64)),
                peak.map_or_else(String::new, |p| format!("{:.2} ({})", p.score, p.cue)),
            ]
        })
        .collect();
    format!(
        "<section><h2>Events</h2><p class=how>An event is a run of frames that are anomalous according to the ground \
         truth. The delay is from its first frame to the first flagged one.</p>{}</section>",
        table(
            &[
                "clip",
                "frames",
                "delay in frames",
                "share flagged",
                "peak score (cue)"
            ],
            &rows,
            None
        )
    )
}

/// Results of other thresholds.
pub fn choices(choices: &[Choice]) -> String {
    let rows: Vec<Vec<String>> = choices
        .iter()
        .map(|c| {
            let decisions = c.decisions.as_ref();
            vec![
                format!("<code>{}</code>", html_escape(&c.setting)),
                c.threshold.map_or_else(|| "-".into(), |t| format!("{t:.2}")),
                number(decisions.and_then(Confusion::recall)),
                percent(decisions.and_then(Confusion::false_alarm_share)),
                found(c.events.as_ref()),
                percent(Some(c.frames_kept)),
                percent(c.bytes_kept),
            ]
        })
        .collect();
    let header = [
        "setting",
        "threshold",
        "recall",
        "normal frames flagged",
        "events found",
        "frames kept",
        "bytes kept",
    ];
    format!(
        "<section><h2>Choosing a threshold</h2><p class=how>Pick the row with acceptable false alarms or bandwidth and \
         use its setting, or its threshold as <code>threshold=</code>. Flagged frames and the two seconds after them \
         are kept; bytes are estimated from the frame sizes of the full recording. The rows “at most N % false alarms” \
         are derived from the ground truth, so expect slightly worse results on other video.</p>{}</section>",
        table(&header, &rows, None)
    )
}

/// Command line and properties.
pub fn settings(task: &Task, evaluation: &Evaluation) -> Result<String> {
    let seed = evaluation.runs.first().map_or(0, |r| r.seed);
    let element = stream::make_element(&task.settings(seed))?;
    let mut rows = Vec::new();
    for property in element.list_properties() {
        let own = property.owner_type() == element.type_();
        if !own || !property.flags().contains(gst::glib::ParamFlags::READWRITE) {
            continue;
        }
        let value = element.property_value(property.name());
        let text = value.serialize().map(|s| s.to_string()).unwrap_or_default();
        rows.push(vec![
            format!("<code>{}</code>", property.name()),
            html_escape(&text),
        ]);
    }
    let command: Vec<String> = std::env::args().skip(1).map(|a| quoted(&a)).collect();
    let command = html_escape(&command.join(" "));
    Ok(format!(
        "<section><h2>Settings</h2><p class=how>The command and properties of this run.</p>\
         <p><code>cargo run --release -p evaluate -- {command}</code></p>{}</section>",
        table(&["property", "value"], &rows, None)
    ))
}

/// Quoted for a shell if necessary.
fn quoted(argument: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@".contains(c);
    if argument.chars().all(plain) {
        argument.to_owned()
    } else {
        format!("'{argument}'")
    }
}
