//! The printed tables.

use std::fmt::Write as _;

use gstvaeanomaly::metrics::{Confusion, EventReport};

use crate::acceptance::{Acceptance, Flagged, Later};
use crate::evaluation::{Competitor, Evaluation, Run};
use crate::figures::Figures;
use crate::thresholds::Choice;

/// A number with three digits, or a dash.
pub fn number(value: Option<f64>) -> String {
    value.map_or_else(|| "-".into(), |v| format!("{v:.3}"))
}

/// A share as a percentage, or a dash.
pub fn percent(value: Option<f64>) -> String {
    value.map_or_else(|| "-".into(), |v| format!("{:.1} %", 100.0 * v))
}

/// Events found of all, or a dash.
pub fn found(events: Option<&EventReport>) -> String {
    events.map_or_else(
        || "-".into(),
        |e| format!("{} of {}", e.detected(), e.events.len()),
    )
}

/// All tables.
pub fn text(evaluation: &Evaluation) -> String {
    let mut out = String::new();
    for run in &evaluation.runs {
        summary(&mut out, run);
    }
    if let Some(kept) = evaluation.kept {
        let full = kept.full_bytes as f64 / 1e6;
        let (frames, bytes) = (percent(kept.frames), percent(kept.bytes));
        let _ = writeln!(
            out,
            "drop-normal keeps {frames} of the frames, {bytes} of {full:.2} MB ({})\n",
            kept.encoder
        );
    }
    competitors(&mut out, "baseline", &evaluation.baselines);
    competitors(&mut out, "ablation (through the core)", &evaluation.ablations);
    robustness(&mut out, &evaluation.robustness);
    acceptances(&mut out, &evaluation.acceptances);
    choices(&mut out, &evaluation.choices);
    out
}

fn summary(out: &mut String, run: &Run) {
    let f = &run.figures;
    let ratio = |get: fn(&Confusion) -> Option<f64>| f.decisions.as_ref().and_then(get);
    let events = f.events.as_ref();
    let rows = [
        ("frames evaluated", f.frames.to_string()),
        ("AUROC", number(f.auroc)),
        ("AUROC, clips normalised", number(f.auroc_clip_normalised)),
        ("average precision", number(f.average_precision)),
        ("equal error rate", percent(f.eer)),
        ("precision", number(ratio(Confusion::precision))),
        ("recall", number(ratio(Confusion::recall))),
        ("F1", number(ratio(Confusion::f1))),
        ("best F1 (threshold)", best(f)),
        ("events found", found(events)),
        ("median delay", delay(run)),
        (
            "normal frames flagged",
            percent(ratio(Confusion::false_alarm_share)),
        ),
        (
            "false alarms per hour",
            number(events.and_then(|e| e.false_alarms_per_hour(run.counted.frame_rate))),
        ),
        ("frames flagged or in post-roll", percent(f.flagged_share)),
        (
            "frames per second in the element",
            run.pass
                .frames_per_second()
                .map_or_else(String::new, |r| format!("{r:.0}")),
        ),
    ];
    let _ = writeln!(out, "seed {}", run.seed);
    for (name, value) in rows.into_iter().chain(localisation(f)) {
        let _ = writeln!(out, "  {name:<34}{value:>16}");
    }
    out.push('\n');
}

/// Figures of the location; none without boxes and masks.
pub fn localisation(f: &Figures) -> Vec<(&'static str, String)> {
    let Some(l) = &f.localisation else {
        return Vec::new();
    };
    let r = &l.report;
    vec![
        (
            "tracks with an overlapping region",
            format!("{} of {}", r.touched, r.tracks),
        ),
        ("flagged frames, strongest region", percent(r.strongest_overlaps)),
        ("flagged frames, any region", percent(r.any_overlaps)),
        ("the same of the worst track", percent(r.least_share)),
        ("mean IoU of the strongest region", number(r.mean_iou)),
        ("RBDC / TBDC", format!("{} / {}", number(r.rbdc), number(r.tbdc))),
        (
            "map: AUROC / AUPRO",
            format!("{} / {}", number(l.map_auroc), number(l.map_aupro)),
        ),
        (
            "pixels: AUROC / AUPRO",
            format!("{} / {}", number(l.pixel_auroc), number(l.pixel_aupro)),
        ),
    ]
}

fn best(f: &Figures) -> String {
    f.best.map_or_else(
        || "-".into(),
        |b| format!("{} ({:.2})", number(b.f1()), b.threshold),
    )
}

/// Median delay in frames and seconds.
pub fn delay(run: &Run) -> String {
    let events = run.figures.events.as_ref();
    let frames = events.and_then(EventReport::median_delay_frames);
    let seconds = events.and_then(|e| e.median_delay_seconds(run.counted.frame_rate));
    match (frames, seconds) {
        (Some(frames), Some(seconds)) => format!("{frames} fr, {seconds:.2} s"),
        _ => "-".into(),
    }
}

fn competitors(out: &mut String, title: &str, competitors: &[Competitor]) {
    if competitors.is_empty() {
        return;
    }
    let _ = writeln!(
        out,
        "{title:<30}{:>8}{:>8}{:>14}{:>14}",
        "AUROC", "F1", "events", "false alarms"
    );
    for r in competitors {
        let f1 = number(r.decisions.as_ref().and_then(Confusion::f1));
        let alarms = percent(r.decisions.as_ref().and_then(Confusion::false_alarm_share));
        let events = found(r.events.as_ref());
        let _ = writeln!(
            out,
            "  {:<28}{:>8}{f1:>8}{events:>14}{alarms:>14}",
            r.name,
            number(r.auroc)
        );
    }
    out.push('\n');
}

fn robustness(out: &mut String, rows: &[(String, Figures)]) {
    if rows.is_empty() {
        return;
    }
    let _ = writeln!(
        out,
        "{:<30}{:>8}{:>8}{:>14}{:>14}",
        "disturbance", "AUROC", "F1", "events", "false alarms"
    );
    for (name, f) in rows {
        let f1 = number(f.decisions.as_ref().and_then(Confusion::f1));
        let alarms = percent(f.decisions.as_ref().and_then(Confusion::false_alarm_share));
        let events = found(f.events.as_ref());
        let _ = writeln!(
            out,
            "  {name:<28}{:>8}{f1:>8}{events:>14}{alarms:>14}",
            number(f.auroc)
        );
    }
    out.push('\n');
}

/// Flagged frames without and with the acceptance.
pub fn flagged(acceptance: &Acceptance, of: impl Fn(&Later) -> Flagged) -> String {
    let (without, with) = (of(&acceptance.without), of(&acceptance.with));
    format!("{} -> {}", percent(without.share()), percent(with.share()))
}

/// Events found without and with the acceptance, of all.
pub fn found_later(acceptance: &Acceptance, of: impl Fn(&Later) -> Flagged) -> String {
    let (without, with) = (of(&acceptance.without), of(&acceptance.with));
    format!("{} -> {} of {}", without.found, with.found, with.events)
}

fn acceptances(out: &mut String, rows: &[Acceptance]) {
    if rows.is_empty() {
        return;
    }
    let _ = writeln!(
        out,
        "{:<18}{:>20}{:>18}{:>20}{:>18}{:>20}",
        "accepted kind", "its frames flagged", "its events", "other frames", "other events", "normal frames"
    );
    for a in rows {
        let _ = writeln!(
            out,
            "  {:<16}{:>20}{:>18}{:>20}{:>18}{:>20}",
            a.kind,
            flagged(a, |later| later.same),
            found_later(a, |later| later.same),
            flagged(a, |later| later.others),
            found_later(a, |later| later.others),
            flagged(a, |later| later.normal)
        );
    }
    out.push('\n');
}

fn choices(out: &mut String, rows: &[Choice]) {
    let _ = writeln!(
        out,
        "{:<32}{:>10}{:>8}{:>14}{:>14}{:>12}{:>12}",
        "what if", "threshold", "recall", "false alarms", "events", "frames kept", "bytes kept"
    );
    for c in rows {
        let decisions = c.decisions.as_ref();
        let _ = writeln!(
            out,
            "  {:<30}{:>10}{:>8}{:>14}{:>14}{:>12}{:>12}",
            c.setting,
            c.threshold.map_or_else(String::new, |t| format!("{t:.2}")),
            number(decisions.and_then(Confusion::recall)),
            percent(decisions.and_then(Confusion::false_alarm_share)),
            found(c.events.as_ref()),
            percent(Some(c.frames_kept)),
            percent(c.bytes_kept),
        );
    }
}
