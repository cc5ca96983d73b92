//! Ground truth of a recorded scene: the `events.csv` that `street_scene` writes.

use std::path::Path;

use anyhow::{Context, Result, bail};

/// A planted anomaly: time of its first frame and end of its last frame, in seconds.
#[derive(Clone, Debug, PartialEq)]
pub struct Planted {
    pub kind: String,
    pub from: f64,
    pub to: f64,
}

/// Reads `events.csv` of a scene recorded at `fps` frames per second.
pub fn read(path: &Path, fps: f64) -> Result<Vec<Planted>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    text.lines()
        .enumerate()
        .skip(1)
        .map(|(i, line)| parse(line, fps).with_context(|| format!("{} line {}", path.display(), i + 1)))
        .collect()
}

fn parse(line: &str, fps: f64) -> Result<Planted> {
    let fields: Vec<&str> = line.split(',').collect();
    let [_, _, kind, first, last, ..] = fields[..] else {
        bail!("expected clip,event,kind,first_frame,last_frame,..., got {line:?}");
    };
    let frame = |text: &str| {
        text.parse::<u64>()
            .with_context(|| format!("{text:?} is not a frame number"))
    };
    let (first, last) = (frame(first)?, frame(last)?);
    Ok(Planted {
        kind: kind.to_owned(),
        from: first as f64 / fps,
        to: (last + 1) as f64 / fps,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn converts_frames_to_seconds() {
        let planted = parse("street,1,cyclist,603,640,381,160,52,59", 10.0).expect("a valid line");
        assert_eq!(
            planted,
            Planted {
                kind: "cyclist".into(),
                from: 60.3,
                to: 64.1
            }
        );
        assert!(parse("street,1,cyclist", 10.0).is_err());
        assert!(parse("street,1,cyclist,a,b", 10.0).is_err());
    }
}
