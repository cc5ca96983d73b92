//! Disturbances of the video, as a real camera would cause them.

mod jpeg;
mod pixels;

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};
use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use crate::clips::Frame;
use jpeg::JpegRoundTrip;
use pixels::{NoiseTable, Planes};

/// One `--perturb`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Perturbation {
    /// Gaussian sensor noise on luma, standard deviation in 8-bit grey levels.
    Noise(f64),
    /// Light intensity multiplied by a factor.
    Brightness(f64, Period),
    /// Camera shake: every frame is displaced at random by up to this many pixels in x and y.
    Jitter(u32),
    /// A dark rectangle over this share of the image area, lower left.
    Occlude(f64, Period),
    /// Share of the frames that is kept, evenly spread. The frame rate of the caps is reduced accordingly, unless it is for
    /// a period.
    Fps(f64, Period),
    /// JPEG round trip at this quality.
    Jpeg(u32),
}

/// When a disturbance lasts; `None` = always.
pub type Period = Option<Span>;

/// Seconds after the first evaluated frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Span {
    begin: f64,
    /// Infinite where it lasts to the end of the stream.
    end: f64,
}

impl Span {
    fn from(begin: f64) -> Self {
        Self {
            begin,
            end: f64::INFINITY,
        }
    }
}

/// The disturbances of `--robustness`; those with a begin start `half` seconds into the evaluated clips.
pub fn standard_set(half: f64) -> Vec<Perturbation> {
    vec![
        Perturbation::Noise(10.0),
        Perturbation::Brightness(0.6, Some(Span::from(half))),
        Perturbation::Jitter(1),
        Perturbation::Occlude(0.1, Some(Span::from(half))),
        Perturbation::Fps(0.5, None),
        Perturbation::Jpeg(40),
    ]
}

impl FromStr for Perturbation {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (kind, rest) = text
            .split_once(':')
            .with_context(|| format!("--perturb must be KIND:VALUE, got '{text}'"))?;
        let (value, period) = match rest.split_once('@') {
            Some((value, period)) => (value, Some(span(text, period)?)),
            None => (rest, None),
        };
        let result = match kind {
            "noise" => Self::Noise(number(text, value, 0.0, 128.0)?),
            "brightness" => Self::Brightness(number(text, value, 0.0, 4.0)?, period),
            "jitter" => Self::Jitter(number(text, value, 0.0, 64.0)? as u32),
            "occlude" => Self::Occlude(number(text, value, 0.0, 1.0)?, period),
            "fps" => Self::Fps(number(text, value, 0.01, 1.0)?, period),
            "jpeg" => Self::Jpeg(number(text, value, 1.0, 100.0)? as u32),
            _ => bail!(
                "--perturb must be one of noise, brightness, jitter, occlude, fps and jpeg, got '{kind}'"
            ),
        };
        let has_begin = matches!(result, Self::Brightness(..) | Self::Occlude(..) | Self::Fps(..));
        ensure!(
            period.is_none() || has_begin,
            "--perturb {kind} has no begin, got '{text}'"
        );
        Ok(result)
    }
}

/// `BEGIN` or `BEGIN-END`.
fn span(text: &str, period: &str) -> Result<Span> {
    let Some((begin, end)) = period.split_once('-').filter(|(begin, _)| !begin.is_empty()) else {
        return Ok(Span::from(number(text, period, 0.0, f64::MAX)?));
    };
    let begin = number(text, begin, 0.0, f64::MAX)?;
    let end: Option<f64> = end.parse().ok().filter(|end| *end > begin);
    let end = end.with_context(|| format!("--perturb {text}: the end must be after the begin"))?;
    Ok(Span { begin, end })
}

fn number(text: &str, value: &str, low: f64, high: f64) -> Result<f64> {
    match value.parse() {
        Ok(number) if (low..=high).contains(&number) => Ok(number),
        _ if high == f64::MAX => bail!("--perturb {text}: begin must be at least 0 seconds, got '{value}'"),
        _ => bail!("--perturb {text}: value must be {low}..={high}, got '{value}'"),
    }
}

impl fmt::Display for Perturbation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let period = match self {
            Self::Noise(sigma) => return write!(f, "noise:{sigma}"),
            Self::Jitter(pixels) => return write!(f, "jitter:{pixels}"),
            Self::Jpeg(quality) => return write!(f, "jpeg:{quality}"),
            Self::Brightness(factor, period) => {
                write!(f, "brightness:{factor}")?;
                period
            }
            Self::Occlude(share, period) => {
                write!(f, "occlude:{share}")?;
                period
            }
            Self::Fps(share, period) => {
                write!(f, "fps:{share}")?;
                period
            }
        };
        let Some(Span { begin, end }) = period else {
            return Ok(());
        };
        write!(f, "@{begin:.1}")?;
        match end.is_finite() {
            true => write!(f, "-{end:.1}"),
            false => Ok(()),
        }
    }
}

/// Applies perturbations in the given order; deterministic per frame number.
pub struct Perturber {
    list: Vec<Perturbation>,
    noise: NoiseTable,
    jpeg: Vec<(u32, JpegRoundTrip)>,
    frames: u64,
}

impl Perturber {
    /// For a new stream.
    pub fn new(list: &[Perturbation]) -> Self {
        Self {
            list: list.to_vec(),
            noise: NoiseTable::new(),
            jpeg: Vec::new(),
            frames: 0,
        }
    }

    /// The disturbed frame, or `None` if it is dropped. `since`: time since the first evaluated frame, `None` before it.
    pub fn apply(
        &mut self,
        sample: &gst::Sample,
        clip: usize,
        index: usize,
        since: Option<gst::ClockTime>,
    ) -> Result<Option<Frame>> {
        let caps = sample.caps().context("a frame without caps")?;
        let info = gst_video::VideoInfo::from_caps(caps).context("a frame without video caps")?;
        let mut frame = Frame {
            clip,
            index,
            sample: sample.clone(),
            info,
        };
        let number = self.frames;
        self.frames += 1;
        for position in 0..self.list.len() {
            let step = self.list[position];
            if !is_active(step, since) {
                continue;
            }
            if let Perturbation::Fps(share, period) = step {
                if (number as f64 * share).floor() == ((number + 1) as f64 * share).floor() {
                    return Ok(None);
                }
                if period.is_none() {
                    frame = with_frame_rate(frame, share)?;
                }
            } else {
                let mut rng = Xoshiro256PlusPlus::seed_from_u64(number * 64 + position as u64);
                frame = self.disturb(frame, step, &mut rng)?;
            }
        }
        Ok(Some(frame))
    }

    fn disturb(&mut self, frame: Frame, step: Perturbation, rng: &mut Xoshiro256PlusPlus) -> Result<Frame> {
        if let Perturbation::Jpeg(quality) = step {
            return self.jpeg_stage(quality)?.apply(frame);
        }
        let mut planes = Planes::copy_of(&frame)?;
        match step {
            Perturbation::Noise(sigma) => planes.add_noise(sigma, &self.noise, rng),
            Perturbation::Brightness(factor, _) => planes.scale_light(factor),
            Perturbation::Jitter(pixels) => {
                let range = -(pixels as i32)..=pixels as i32;
                planes.displace(rng.random_range(range.clone()), rng.random_range(range));
            }
            Perturbation::Occlude(share, _) => planes.cover(share),
            Perturbation::Fps(..) | Perturbation::Jpeg(_) => {}
        }
        planes.into_frame(&frame)
    }

    fn jpeg_stage(&mut self, quality: u32) -> Result<&mut JpegRoundTrip> {
        let position = match self.jpeg.iter().position(|(q, _)| *q == quality) {
            Some(position) => position,
            None => {
                self.jpeg.push((quality, JpegRoundTrip::new(quality)?));
                self.jpeg.len() - 1
            }
        };
        Ok(&mut self.jpeg[position].1)
    }
}

fn is_active(step: Perturbation, since: Option<gst::ClockTime>) -> bool {
    match step {
        Perturbation::Brightness(_, Some(span))
        | Perturbation::Occlude(_, Some(span))
        | Perturbation::Fps(_, Some(span)) => {
            since.is_some_and(|time| (span.begin..span.end).contains(&(time.nseconds() as f64 * 1e-9)))
        }
        _ => true,
    }
}

/// The same image with `share` of the frame rate in its caps.
fn with_frame_rate(mut frame: Frame, share: f64) -> Result<Frame> {
    let fps = frame.info.fps();
    if fps.numer() == 0 {
        return Ok(frame);
    }
    let scaled = gst::Fraction::approximate_f64(f64::from(fps.numer()) / f64::from(fps.denom()) * share)
        .context("frame rate out of range")?;
    let mut caps = frame.sample.caps_owned().context("a frame without caps")?;
    caps.make_mut().set("framerate", scaled);
    frame.info = gst_video::VideoInfo::from_caps(&caps)?;
    let buffer = frame.sample.buffer_owned().context("a frame without a buffer")?;
    frame.sample = gst::Sample::builder().buffer(&buffer).caps(&caps).build();
    Ok(frame)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn error(text: &str) -> String {
        text.parse::<Perturbation>().unwrap_err().to_string()
    }

    proptest! {
        #[test]
        fn any_text_is_a_disturbance_or_refused(
            text in "(noise|brightness|jitter|occlude|fps|jpeg|é|):?[0-9.eE+-]{0,12}(@[0-9.eE-]{0,12}|@nan|@inf-)?"
        ) {
            if let Ok(perturbation) = text.parse::<Perturbation>() {
                let _ = perturbation.to_string();
            }
        }
    }

    #[test]
    fn display_and_parse_round_trip() {
        for text in [
            "noise:10",
            "brightness:0.6@12.5",
            "brightness:1.2",
            "brightness:0.5@2.0-3.5",
            "jitter:1",
            "occlude:0.1@3.0",
            "fps:0.5",
            "jpeg:40",
        ] {
            assert_eq!(text.parse::<Perturbation>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn errors_name_value_and_range() {
        assert_eq!(error("noise"), "--perturb must be KIND:VALUE, got 'noise'");
        assert_eq!(error("fps:2"), "--perturb fps:2: value must be 0.01..=1, got '2'");
        assert_eq!(
            error("jpeg:x"),
            "--perturb jpeg:x: value must be 1..=100, got 'x'"
        );
        assert_eq!(
            error("occlude:0.1@-1"),
            "--perturb occlude:0.1@-1: begin must be at least 0 seconds, got '-1'"
        );
        assert!(error("occlude:0.1@3-2").ends_with("the end must be after the begin"));
        assert!(
            error("blur:1").contains("one of noise, brightness, jitter, occlude, fps and jpeg, got 'blur'")
        );
        assert!(error("noise:1@5").contains("has no begin"));
    }

    #[test]
    fn disturbances_with_a_begin_start_then() {
        let late = Perturbation::Occlude(0.1, Some(Span::from(2.0)));
        assert!(!is_active(late, None));
        assert!(!is_active(late, Some(gst::ClockTime::from_mseconds(1999))));
        assert!(is_active(late, Some(gst::ClockTime::from_seconds(2))));
        assert!(is_active(Perturbation::Occlude(0.1, None), None));
        let short: Perturbation = "brightness:0.5@2-3".parse().unwrap();
        let at = |ms| is_active(short, Some(gst::ClockTime::from_mseconds(ms)));
        assert_eq!([1900, 2000, 2900, 3000].map(at), [false, true, true, false]);
    }
}
