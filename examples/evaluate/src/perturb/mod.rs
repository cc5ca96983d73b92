//! Disturbances of the video: what a real camera does to a clean recording.

mod jpeg;
mod pixels;

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};
use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use crate::clips::Frame;
use jpeg::JpegRoundTrip;
use pixels::{NoiseTable, Picture};

/// One `--perturb`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Perturbation {
    /// Gaussian sensor noise on luma, standard deviation in 8-bit grey levels.
    Noise(f64),
    /// Light multiplied by a factor.
    Brightness(f64, From),
    /// Camera shake: whole picture displaced by up to so many pixels in x and y, anew every frame.
    Jitter(u32),
    /// A flat dark rectangle over this share of the picture's area, lower left.
    Occlude(f64, From),
    /// Share of the frames that is kept, evenly spread; the frame rate falls with it.
    Fps(f64),
    /// JPEG round trip at this quality.
    Jpeg(u32),
}

/// Begin of a disturbance: seconds after the first counted frame, `None` = always.
pub type From = Option<f64>;

/// The set of `--robustness`; those with a begin start `half` seconds into the counted clips.
pub fn standard_set(half: f64) -> Vec<Perturbation> {
    vec![
        Perturbation::Noise(10.0),
        Perturbation::Brightness(0.6, Some(half)),
        Perturbation::Jitter(1),
        Perturbation::Occlude(0.1, Some(half)),
        Perturbation::Fps(0.5),
        Perturbation::Jpeg(40),
    ]
}

impl FromStr for Perturbation {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (kind, rest) = text
            .split_once(':')
            .with_context(|| format!("--perturb must be KIND:VALUE, got '{text}'"))?;
        let (value, from) = match rest.split_once('@') {
            Some((value, from)) => (value, Some(number(text, from, 0.0, f64::MAX)?)),
            None => (rest, None),
        };
        let result = match kind {
            "noise" => Self::Noise(number(text, value, 0.0, 128.0)?),
            "brightness" => Self::Brightness(number(text, value, 0.0, 4.0)?, from),
            "jitter" => Self::Jitter(number(text, value, 0.0, 64.0)? as u32),
            "occlude" => Self::Occlude(number(text, value, 0.0, 1.0)?, from),
            "fps" => Self::Fps(number(text, value, 0.01, 1.0)?),
            "jpeg" => Self::Jpeg(number(text, value, 1.0, 100.0)? as u32),
            _ => bail!("--perturb knows noise, brightness, jitter, occlude, fps and jpeg, got '{kind}'"),
        };
        let may_start_late = matches!(result, Self::Brightness(..) | Self::Occlude(..));
        ensure!(
            from.is_none() || may_start_late,
            "--perturb {kind} cannot begin late, got '{text}'"
        );
        Ok(result)
    }
}

fn number(text: &str, value: &str, low: f64, high: f64) -> Result<f64> {
    match value.parse() {
        Ok(number) if (low..=high).contains(&number) => Ok(number),
        _ if high == f64::MAX => bail!("--perturb {text}: begin must be seconds from 0 on, got '{value}'"),
        _ => bail!("--perturb {text}: value must be {low}..={high}, got '{value}'"),
    }
}

impl fmt::Display for Perturbation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let from = match self {
            Self::Noise(sigma) => return write!(f, "noise:{sigma}"),
            Self::Jitter(pixels) => return write!(f, "jitter:{pixels}"),
            Self::Fps(share) => return write!(f, "fps:{share}"),
            Self::Jpeg(quality) => return write!(f, "jpeg:{quality}"),
            Self::Brightness(factor, from) => {
                write!(f, "brightness:{factor}")?;
                from
            }
            Self::Occlude(share, from) => {
                write!(f, "occlude:{share}")?;
                from
            }
        };
        from.map_or(Ok(()), |seconds| write!(f, "@{seconds:.1}"))
    }
}

/// Applies perturbations in the order they were given; the same frames always get the same disturbance.
pub struct Perturber {
    list: Vec<Perturbation>,
    noise: NoiseTable,
    jpeg: Vec<(u32, JpegRoundTrip)>,
    seen: u64,
}

impl Perturber {
    /// Ready for the first frame of a stream.
    pub fn new(list: &[Perturbation]) -> Self {
        Self {
            list: list.to_vec(),
            noise: NoiseTable::new(),
            jpeg: Vec::new(),
            seen: 0,
        }
    }

    /// The disturbed frame, or `None` where it is left out. `since` = time since the first counted frame,
    /// `None` before it.
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
        let number = self.seen;
        self.seen += 1;
        for position in 0..self.list.len() {
            let step = self.list[position];
            if let Perturbation::Fps(share) = step {
                if (number as f64 * share).floor() == ((number + 1) as f64 * share).floor() {
                    return Ok(None);
                }
                frame = with_frame_rate(frame, share)?;
            } else if is_active(step, since) {
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
        let mut picture = Picture::copy_of(&frame)?;
        match step {
            Perturbation::Noise(sigma) => picture.add_noise(sigma, &self.noise, rng),
            Perturbation::Brightness(factor, _) => picture.scale_light(factor),
            Perturbation::Jitter(pixels) => {
                let reach = pixels as i32;
                picture.displace(rng.random_range(-reach..=reach), rng.random_range(-reach..=reach));
            }
            Perturbation::Occlude(share, _) => picture.cover(share),
            Perturbation::Fps(_) | Perturbation::Jpeg(_) => {}
        }
        picture.into_frame(&frame)
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
        Perturbation::Brightness(_, Some(from)) | Perturbation::Occlude(_, Some(from)) => {
            since.is_some_and(|time| time.nseconds() as f64 >= from * 1e9)
        }
        _ => true,
    }
}

/// The same picture with `share` of the frame rate in its caps.
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

    fn error(text: &str) -> String {
        text.parse::<Perturbation>().unwrap_err().to_string()
    }

    #[test]
    fn what_is_written_is_read_back() {
        for text in [
            "noise:10",
            "brightness:0.6@12.5",
            "brightness:1.2",
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
            "--perturb occlude:0.1@-1: begin must be seconds from 0 on, got '-1'"
        );
        assert!(
            error("blur:1").contains("knows noise, brightness, jitter, occlude, fps and jpeg, got 'blur'")
        );
        assert!(error("noise:1@5").contains("cannot begin late"));
    }

    #[test]
    fn late_disturbances_wait_for_their_time() {
        let late = Perturbation::Occlude(0.1, Some(2.0));
        assert!(!is_active(late, None));
        assert!(!is_active(late, Some(gst::ClockTime::from_mseconds(1999))));
        assert!(is_active(late, Some(gst::ClockTime::from_seconds(2))));
        assert!(is_active(Perturbation::Occlude(0.1, None), None));
    }
}
