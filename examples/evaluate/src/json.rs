//! All figures as JSON, for scripts.

use gstvaeanomaly::metrics::{Confusion, EventReport, median};
use serde_json::{Map, Value, json};

use crate::acceptance::{Acceptance, Flagged, Later};
use crate::boxes::Localisation;
use crate::evaluation::{Competitor, Evaluation, Run, Task, aurocs};
use crate::figures::Figures;

/// The whole evaluation. With several seeds, top-level figures are means and `per_seed` has the single ones.
pub fn document(task: &Task, evaluation: &Evaluation) -> Value {
    let per_seed: Vec<Map<String, Value>> = evaluation.runs.iter().map(run).collect();
    let mut document = means(&per_seed);
    let kept = evaluation.kept;
    document.insert("bytes_kept_share".into(), json!(kept.and_then(|k| k.bytes)));
    if let Some(kept) = kept {
        document.insert("frames_kept_share".into(), json!(kept.frames));
        document.insert("encoder".into(), json!(kept.encoder));
    }
    document.insert("baselines".into(), json!(aurocs(&evaluation.baselines)));
    document.insert("ablations".into(), json!(aurocs(&evaluation.ablations)));
    document.insert(
        "rules".into(),
        rules(evaluation.baselines.iter().chain(&evaluation.ablations)),
    );
    let robustness = evaluation
        .robustness
        .iter()
        .map(|(name, f)| (name.clone(), Value::Object(figures(f, 0.0))));
    document.insert("robustness".into(), Value::Object(robustness.collect()));
    document.insert(
        "acceptances".into(),
        evaluation.acceptances.iter().map(acceptance).collect(),
    );
    document.insert("choices".into(), evaluation.choices.iter().map(choice).collect());
    document.insert("ignored_share".into(), json!(task.mask.share()));
    document.insert("settings".into(), settings(task));
    document.insert(
        "per_seed".into(),
        per_seed.into_iter().map(Value::Object).collect(),
    );
    Value::Object(document)
}

fn run(run: &Run) -> Map<String, Value> {
    let mut result = figures(&run.figures, run.counted.frame_rate);
    result.insert("seed".into(), json!(run.seed));
    result.insert("frames_per_second".into(), json!(run.pass.frames_per_second()));
    result
}

/// The figures of one run. Those that need a frame rate are null if it is 0.
fn figures(f: &Figures, frame_rate: f64) -> Map<String, Value> {
    let decisions = f.decisions;
    let events = f.events.as_ref();
    let ratio = |get: fn(&Confusion) -> Option<f64>| decisions.as_ref().and_then(get);
    let value = json!({
        "frames": f.frames,
        "anomalous_frames": f.anomalous_frames,
        "untrusted_frames": f.untrusted_frames,
        "auroc": f.auroc,
        "auroc_clip_normalised": f.auroc_clip_normalised,
        "average_precision": f.average_precision,
        "eer": f.eer,
        "precision": ratio(Confusion::precision),
        "recall": ratio(Confusion::recall),
        "f1": ratio(Confusion::f1),
        "best_f1": f.best.and_then(|b| b.f1()),
        "best_threshold": f.best.map(|b| b.threshold),
        "events": events.map(|e| e.events.len()),
        "events_detected": events.map(EventReport::detected),
        "median_delay_frames": events.and_then(EventReport::median_delay_frames),
        "median_delay_seconds": events.and_then(|e| e.median_delay_seconds(frame_rate)),
        "false_alarm_share": ratio(Confusion::false_alarm_share),
        "false_alarms": events.map(|e| e.false_alarms.len()),
        "false_alarms_per_hour": events.and_then(|e| e.false_alarms_per_hour(frame_rate)),
        "frames_kept_share": f.flagged_share,
    });
    let located = f.localisation.as_ref().map(localisation);
    [Some(value), located]
        .into_iter()
        .flatten()
        .filter_map(|value| match value {
            Value::Object(map) => Some(map),
            _ => None,
        })
        .flatten()
        .collect()
}

fn localisation(l: &Localisation) -> Value {
    let r = &l.report;
    json!({
        "tracks": r.tracks,
        "tracks_touched": r.touched,
        "strongest_region_overlaps_share": r.strongest_overlaps,
        "any_region_overlaps_share": r.any_overlaps,
        "worst_track_share": r.least_share,
        "mean_iou": r.mean_iou,
        "rbdc": r.rbdc,
        "tbdc": r.tbdc,
        "map_auroc": l.map_auroc,
        "map_aupro": l.map_aupro,
        "pixel_auroc": l.pixel_auroc,
        "pixel_aupro": l.pixel_aupro,
    })
}

/// The mean of every number over the seeds, of delays the median; null if it is missing for a seed.
fn means(per_seed: &[Map<String, Value>]) -> Map<String, Value> {
    let Some(first) = per_seed.first() else {
        return Map::new();
    };
    if per_seed.len() == 1 {
        return first
            .iter()
            .filter(|(name, _)| *name != "seed")
            .map(|(n, v)| (n.clone(), v.clone()))
            .collect();
    }
    let mean = |name: &String| {
        let values: Option<Vec<f64>> = per_seed.iter().map(|run| run.get(name)?.as_f64()).collect();
        let values = values?;
        if name.starts_with("median") {
            median(&values)
        } else {
            Some(values.iter().sum::<f64>() / values.len() as f64)
        }
    };
    first
        .keys()
        .filter(|name| *name != "seed")
        .map(|name| (name.clone(), json!(mean(name))))
        .collect()
}

/// Decisions of the competitors that have a decision rule.
fn rules<'a>(competitors: impl Iterator<Item = &'a Competitor>) -> Value {
    let with_rule = competitors.filter_map(|r| Some((r, r.decisions.as_ref()?)));
    let entry = |(competitor, decisions): (&Competitor, &Confusion)| {
        let events = competitor.events.as_ref();
        let value = json!({
            "f1": decisions.f1(),
            "false_alarm_share": decisions.false_alarm_share(),
            "events_detected": events.map(EventReport::detected),
        });
        (competitor.name.clone(), value)
    };
    Value::Object(with_rule.map(entry).collect())
}

fn acceptance(acceptance: &Acceptance) -> Value {
    let flagged = |f: Flagged| {
        json!({
            "frames": f.frames,
            "flagged": f.flagged,
            "events": f.events,
            "events_detected": f.found,
        })
    };
    let later = |later: &Later| {
        json!({
            "same_kind": flagged(later.same),
            "other_kinds": flagged(later.others),
            "normal": flagged(later.normal),
        })
    };
    json!({
        "kind": acceptance.kind,
        "clip": acceptance.accepted.0,
        "first_frame": acceptance.accepted.1,
        "without": later(&acceptance.without),
        "with": later(&acceptance.with),
    })
}

fn choice(choice: &crate::thresholds::Choice) -> Value {
    let decisions = choice.decisions.as_ref();
    json!({
        "setting": choice.setting,
        "threshold": choice.threshold,
        "precision": decisions.and_then(Confusion::precision),
        "recall": decisions.and_then(Confusion::recall),
        "f1": decisions.and_then(Confusion::f1),
        "false_alarm_share": decisions.and_then(Confusion::false_alarm_share),
        "events_detected": choice.events.as_ref().map(EventReport::detected),
        "frames_kept_share": choice.frames_kept,
        "bytes_kept_share": choice.bytes_kept,
    })
}

fn settings(task: &Task) -> Value {
    let args = &task.args;
    let set: Map<String, Value> = args
        .settings
        .iter()
        .map(|s| (s.name.clone(), json!(s.value)))
        .collect();
    json!({
        "warm": args.warm,
        "clips": args.clips,
        "labels": args.labels,
        "boxes": args.boxes,
        "masks": args.masks,
        "skip": args.skip,
        "device": args.device,
        "seeds": args.seeds,
        "perturb": args.perturb.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "set": set,
        "accept": args.accept,
        "mask": args.mask,
        "ignore_regions": args.ignore_regions,
    })
}
