//! "This was normal": whether later events of a kind are flagged less once the first one was accepted.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, ensure};
use gst::prelude::*;
use gstvaeanomaly::FrameResult;

use crate::evaluation::{Run, Task};
use crate::progress::Progress;
use crate::stream::{self, Verdict};

/// Seconds after the end of an event at which it is accepted, if its clip lasts that long.
const DELAY: f64 = 2.0;

/// Events with their kinds, from a CSV file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kinds(Vec<KnownEvent>);

/// One event of the ground truth.
#[derive(Clone, Debug, PartialEq, Eq)]
struct KnownEvent {
    clip: String,
    kind: String,
    /// Its frames in the clip.
    frames: Range<usize>,
}

impl Kinds {
    /// Reads a file with the columns `clip`, `kind`, `first_frame` and `last_frame`, in any order and among others, as
    /// `street_scene` writes it.
    ///
    /// # Errors
    /// Every error names the line.
    pub fn read(path: &Path) -> Result<Self> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text).with_context(|| path.display().to_string())
    }

    fn parse(text: &str) -> Result<Self> {
        let mut lines = text.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty());
        let (header, _) = lines.next().context("the file is empty")?;
        let header: Vec<&str> = header.split(',').map(str::trim).collect();
        let column = |name: &str| {
            let position = header.iter().position(|column| *column == name);
            position.with_context(|| format!("line 1: there is no column {name}"))
        };
        let columns = [
            column("clip")?,
            column("kind")?,
            column("first_frame")?,
            column("last_frame")?,
        ];
        let mut events = Vec::new();
        for (line, number) in lines {
            let fields: Vec<&str> = line.split(',').map(str::trim).collect();
            let field = |column: usize| {
                let field = fields.get(columns[column]).copied();
                field.with_context(|| format!("line {number}: there is no {}", header[columns[column]]))
            };
            let frame = |column: usize| {
                let text = field(column)?;
                let frame = text.parse::<usize>().ok().filter(|frame| *frame < usize::MAX);
                frame.with_context(|| format!("line {number}: '{text}' is no frame number"))
            };
            let (first, last) = (frame(2)?, frame(3)?);
            ensure!(
                first <= last,
                "line {number}: the event ends at frame {last}, before its first frame {first}"
            );
            events.push(KnownEvent {
                clip: field(0)?.to_owned(),
                kind: field(1)?.to_owned(),
                frames: first..last + 1,
            });
        }
        Ok(Self(events))
    }

    /// Fails if an event is of a clip that is not evaluated.
    pub fn check_clips(&self, clips: &[crate::args::Clip]) -> Result<()> {
        for event in &self.0 {
            let known = clips.iter().any(|clip| clip.counted && clip.name == event.clip);
            ensure!(
                known,
                "--accept names the clip {}, which is not evaluated",
                event.clip
            );
        }
        Ok(())
    }
}

/// Flagged frames and events found, after the acceptance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flagged {
    /// Frames that are flagged.
    pub flagged: usize,
    /// All frames.
    pub frames: usize,
    /// Events with a flagged frame.
    pub found: usize,
    /// All events.
    pub events: usize,
}

impl Flagged {
    fn count(&mut self, verdicts: &[Verdict]) {
        let flagged = verdicts.iter().filter(|v| v.flagged).count();
        self.flagged += flagged;
        self.frames += verdicts.len();
        self.found += usize::from(flagged > 0);
        self.events += 1;
    }

    /// Share of the frames that are flagged.
    pub fn share(&self) -> Option<f64> {
        gstvaeanomaly::metrics::share(self.flagged as u64, self.frames as u64)
    }
}

/// All that comes after the acceptance of an event in one pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Later {
    /// Events of the accepted kind.
    pub same: Flagged,
    /// Events of other kinds.
    pub others: Flagged,
    /// Frames of no event.
    pub normal: Flagged,
}

/// One kind, of which the first event that was found is accepted.
#[derive(Clone, Debug)]
pub struct Acceptance {
    /// Name of the kind.
    pub kind: String,
    /// Clip and first frame of the accepted event.
    pub accepted: (String, usize),
    /// Without accepting it.
    pub without: Later,
    /// With accepting it.
    pub with: Later,
}

/// An event by its positions in the stream.
struct Placed<'a> {
    kind: &'a str,
    clip: &'a str,
    positions: Range<usize>,
    /// When it is accepted.
    decided: usize,
}

/// One more pass for each kind with a later event of the same kind. `run` is the pass without acceptance.
pub fn measure(task: &Task, kinds: &Kinds, run: &Run) -> Result<Vec<Acceptance>> {
    let events = place(task, kinds, run)?;
    let mut names: Vec<&str> = events.iter().map(|event| event.kind).collect();
    names.sort_unstable();
    names.dedup();
    let mut measured = Vec::new();
    for kind in names {
        let found = |event: &&Placed| {
            event.kind == kind
                && run.pass.verdicts[event.positions.start..event.decided]
                    .iter()
                    .any(|v| v.event != 0)
        };
        let Some(accepted) = events.iter().find(found) else {
            eprintln!("accept: no event of the kind {kind} was found");
            continue;
        };
        let is_later = |event: &&Placed| event.kind == kind && event.positions.start >= accepted.decided;
        if !events.iter().any(|event| is_later(&event)) {
            eprintln!("accept: there is no later event of the kind {kind}");
            continue;
        }
        let verdicts = pass(task, run.seed, kind, accepted)?;
        let later = |verdicts: &[Verdict]| later(verdicts, run, &events, accepted);
        measured.push(Acceptance {
            kind: kind.to_owned(),
            accepted: (
                accepted.clip.to_owned(),
                run.pass.verdicts[accepted.positions.start].index,
            ),
            without: later(&run.pass.verdicts),
            with: later(&verdicts),
        });
    }
    Ok(measured)
}

/// The events in the order of the stream.
fn place<'a>(task: &Task, kinds: &'a Kinds, run: &Run) -> Result<Vec<Placed<'a>>> {
    let verdicts = &run.pass.verdicts;
    let delay = run.counted.frames_in(DELAY);
    let mut events = Vec::new();
    for event in &kinds.0 {
        let is_clip = |v: &Verdict| task.clips[v.clip].counted && task.clips[v.clip].name == event.clip;
        let is_frame = |v: &&Verdict| is_clip(v) && event.frames.contains(&v.index);
        let start = verdicts.iter().position(|v| is_frame(&v));
        let start = start.with_context(|| {
            format!(
                "--accept: clip {} ends before frame {}",
                event.clip, event.frames.start
            )
        })?;
        let end = start + verdicts[start..].iter().take_while(is_frame).count();
        let after = verdicts[end..].iter().take(delay).take_while(|v| is_clip(v));
        events.push(Placed {
            kind: &event.kind,
            clip: &event.clip,
            positions: start..end,
            decided: end + after.count(),
        });
    }
    events.sort_by_key(|event| event.positions.start);
    Ok(events)
}

/// The stream once more. What the element reported in this event is accepted where that is decided, between two frames.
fn pass(task: &Task, seed: u64, kind: &str, event: &Placed<'_>) -> Result<Vec<Verdict>> {
    let element = stream::make_element(&task.settings(seed))?;
    let accepted = Arc::new(Mutex::new(BTreeSet::new()));
    let pad = element.static_pad("src").context("vaeanomaly has no src pad")?;
    let (from, decided) = (event.positions.start as u64, event.decided as u64);
    let reported = Mutex::new(BTreeSet::new());
    let by_probe = Arc::clone(&accepted);
    pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
        let result = info.buffer().and_then(|buffer| FrameResult::read(buffer));
        let element = pad.parent_element();
        if let (Some(result), Some(element), Ok(mut reported)) = (result, element, reported.lock()) {
            let frame = result.prediction.frame;
            if (from..decided).contains(&frame) {
                reported.extend(result.event_id);
            }
            if frame + 1 == decided {
                let ids = reported.iter().map(|id| id.get());
                let known = ids.filter(|id| element.emit_by_name::<bool>("accept-event", &[id]));
                if let Ok(mut accepted) = by_probe.lock() {
                    accepted.extend(known);
                }
            }
        }
        gst::PadProbeReturn::Ok
    });
    let mut progress = Progress::new(&format!("accept: {kind}"));
    let pass = stream::run_element(element, task.frames(&task.args.perturb), |frame, _| {
        progress.step(&task.clips[frame.clip].name);
        Ok(())
    })?;
    progress.finish();
    let is_accepted = accepted.lock().is_ok_and(|accepted| !accepted.is_empty());
    ensure!(
        is_accepted,
        "the element did not accept an event of the kind {kind}"
    );
    Ok(pass.verdicts)
}

fn later(verdicts: &[Verdict], run: &Run, events: &[Placed<'_>], accepted: &Placed<'_>) -> Later {
    let mut later = Later::default();
    let mut is_event = vec![false; verdicts.len()];
    for event in events {
        is_event[event.positions.clone()].fill(true);
        if event.positions.start >= accepted.decided {
            let sum = match event.kind == accepted.kind {
                true => &mut later.same,
                false => &mut later.others,
            };
            sum.count(&verdicts[event.positions.clone()]);
        }
    }
    if let Some(labels) = &run.counted.labels {
        for (&position, label) in run.counted.positions.iter().zip(labels) {
            is_event[position] |= label;
        }
    }
    let counted = run.counted.positions.iter().filter(|p| **p >= accepted.decided);
    for &position in counted.filter(|p| !is_event[**p]) {
        later.normal.frames += 1;
        later.normal.flagged += usize::from(verdicts[position].flagged);
    }
    later
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(
            text in r"((clip,|kind,|first_frame,|last_frame,?|x,){0,6}\n)?(([ab],c,[0-9]{1,2},[0-9]{1,3}\n)|([abé]?,?[0-9-]{0,30}[,\r\n ]?\n?)){0,30}"
        ) {
            if let Ok(kinds) = Kinds::parse(&text) {
                prop_assert!(kinds.0.iter().all(|event| !event.frames.is_empty()));
            }
        }
    }

    #[test]
    fn columns_may_be_in_any_order_and_mistakes_name_the_line() {
        let kinds =
            Kinds::parse("kind,clip,first_frame,last_frame,x\ncyclist,a,10,19,3\n\n cart , b,5,5\n").unwrap();
        let event = |clip: &str, kind: &str, frames| KnownEvent {
            clip: clip.into(),
            kind: kind.into(),
            frames,
        };
        assert_eq!(kinds.0, [event("a", "cyclist", 10..20), event("b", "cart", 5..6)]);
        let error = |text: &str| Kinds::parse(text).unwrap_err().to_string();
        let header = "clip,kind,first_frame,last_frame\n";
        assert_eq!(error(""), "the file is empty");
        assert_eq!(
            error("clip,first_frame,last_frame"),
            "line 1: there is no column kind"
        );
        assert_eq!(error(&format!("{header}a,b,1")), "line 2: there is no last_frame");
        assert_eq!(
            error(&format!("{header}\na,b,-1,2")),
            "line 3: '-1' is no frame number"
        );
        assert_eq!(
            error(&format!("{header}a,b,3,2")),
            "line 2: the event ends at frame 2, before its first frame 3"
        );
    }
}
