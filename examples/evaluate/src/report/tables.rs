//! The tables of the report.

use std::fmt::Write as _;

use anyhow::Result;
use gst::prelude::*;
use gstvaeanomaly::metrics::Confusion;

use super::html_escape;
use crate::choose::Choice;
use crate::evaluation::{Evaluation, Rival, Run, Task};
use crate::figures::Figures;
use crate::stream;
use crate::table::{found, number, percent};

/// Rows of cells; cells are HTML already. `ours` marks the row of the element itself.
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

fn rival_row(rival: &Rival) -> Vec<String> {
    let decisions = rival.decisions.as_ref();
    vec![
        html_escape(&rival.name),
        number(rival.auroc),
        number(decisions.and_then(Confusion::f1)),
        found(rival.events.as_ref()),
        percent(decisions.and_then(Confusion::false_alarm_share)),
    ]
}

const HEADER: [&str; 5] = ["", "AUROC", "F1", "events found", "normal frames flagged"];

/// Baselines and ablations beside the element.
pub fn rivals(evaluation: &Evaluation, run: &Run) -> String {
    let mut html = String::new();
    if !evaluation.baselines.is_empty() {
        let mut rows = vec![figures_row("vaeanomaly", &run.figures)];
        rows.extend(evaluation.baselines.iter().map(rival_row));
        let _ = write!(
            html,
            "<section><h2>Against simpler methods</h2><p class=how>How to read it: all saw the same frames in the same \
             order, without labels. A dash means that the method has a score but no rule of its own when to flag.</p>{}\
             </section>",
            table(&HEADER, &rows, Some(0))
        );
    }
    if !evaluation.ablations.is_empty() {
        let rows: Vec<_> = evaluation.ablations.iter().map(rival_row).collect();
        let _ = write!(
            html,
            "<section><h2>What each part adds</h2><p class=how>How to read it: each row is the detector with something \
             taken away. A part earns its place where its row is worse than the full design; where it is not, this \
             video does not need it. Run through the core at the recipe's settings, because the element has no such \
             switches.</p>{}</section>",
            table(&HEADER, &rows, Some(0))
        );
    }
    html
}

/// What is left under each disturbance.
pub fn robustness(rows: &[(String, Figures)]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let rows: Vec<_> = rows.iter().map(|(name, f)| figures_row(name, f)).collect();
    format!(
        "<section><h2>Under disturbances</h2><p class=how>How to read it: the same video, made worse. A row near the \
         first one means that the disturbance does not matter. noise = grey levels of sensor noise, brightness = light \
         times this from the time after @ on, jitter = camera shake in pixels, occlude = share of the picture covered, \
         fps = share of the frames kept, jpeg = quality.</p>{}</section>",
        table(&HEADER, &rows, Some(0))
    )
}

/// Every incident with its delay and peak.
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
        "<section><h2>Every incident</h2><p class=how>How to read it: an incident is a run of frames that the ground \
         truth calls anomalous. The delay counts from its first frame to the first flagged one.</p>{}</section>",
        table(
            &[
                "clip",
                "frames",
                "delay in frames",
                "of it flagged",
                "peak score (cue)"
            ],
            &rows,
            None
        )
    )
}

/// What other thresholds would have given.
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
        "<section><h2>Which threshold to choose</h2><p class=how>How to read it: pick the row with the false alarms or \
         the bandwidth you can live with; its setting goes into the pipeline, or its threshold into \
         <code>threshold=</code>. Kept are flagged frames and two seconds after them; bytes are estimated from the \
         sizes of these frames in the full recording. The rows with at most so many false alarms need the ground truth \
         to be found, so expect a little less from them elsewhere.</p>{}</section>",
        table(&header, &rows, None)
    )
}

/// Command line and properties, enough to repeat the run.
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
        "<section><h2>Settings</h2><p class=how>What it takes to repeat this run.</p>\
         <p><code>cargo run --release -p evaluate -- {command}</code></p>{}</section>",
        table(&["property", "value"], &rows, None)
    ))
}

/// As a shell takes it.
fn quoted(argument: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@".contains(c);
    if argument.chars().all(plain) {
        argument.to_owned()
    } else {
        format!("'{argument}'")
    }
}
