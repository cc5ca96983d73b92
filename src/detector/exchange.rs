//! Between the cues and the device that their nets are on: what a frame shows all nets goes there with one transfer,
//! and what they make of it comes back with one. A GPU that fails is left within the frame.

use candle_core::{Device, Result, Tensor};

use super::cue::{Cue, Frame, Lecture, StepReport, Turn};
use super::error::words;
use super::nn::{Staging, keep_alive, read};

/// The way to the nets' device.
#[derive(Debug)]
pub(crate) struct Exchange {
    device: Device,
    frames: Staging,
    lectures: Staging,
    /// What each net was shown of the last frame, where it is; empty where that has to be shown again.
    shown: Vec<Vec<Tensor>>,
    failure: Option<String>,
}

type Cues<'a, 'b> = &'a mut [&'b mut dyn Cue];

impl Exchange {
    pub(crate) fn new(device: &Device) -> Self {
        Self {
            device: device.clone(),
            frames: Staging::default(),
            lectures: Staging::default(),
            shown: Vec::new(),
            failure: None,
        }
    }

    /// Why a GPU had to be left since this was asked last.
    pub(crate) fn take_failure(&mut self) -> Option<String> {
        self.failure.take()
    }

    /// The raw score of each cue, `None` while it has seen too few frames.
    pub(crate) fn score(
        &mut self,
        cues: Cues<'_, '_>,
        frame: &Frame<'_>,
        learn: bool,
    ) -> Result<Vec<Option<f64>>> {
        cues.iter_mut().for_each(|cue| cue.look(frame, learn));
        self.shown.clear();
        let told = self.steadily(cues, Self::ask)?;
        let answers = cues.iter_mut().zip(&told);
        answers
            .map(|(cue, told)| cue.conclude(told, frame, learn))
            .collect()
    }

    /// Makes the steps of the cues whose turn it is; what each has learnt.
    pub(crate) fn learn(&mut self, cues: Cues<'_, '_>, turns: &[Turn]) -> Result<Vec<Option<StepReport>>> {
        let mut lessons: Vec<_> = turns
            .iter()
            .map(|turn| matches!(turn, Turn::Done).then(StepReport::default))
            .collect();
        self.steadily(cues, |this, cues| this.teach(cues, turns, &mut lessons))?;
        Ok(lessons)
    }

    fn show(&mut self, cues: Cues<'_, '_>) -> Result<()> {
        let shown: Vec<Vec<&[f32]>> = cues.iter().map(|cue| cue.shown()).collect();
        let mut there = self.frames.upload(&shown.concat(), &self.device)?.into_iter();
        self.shown = shown
            .iter()
            .map(|arrays| there.by_ref().take(arrays.len()).collect())
            .collect();
        Ok(())
    }

    /// What each cue's net tells of the frame.
    fn ask(&mut self, cues: Cues<'_, '_>) -> Result<Vec<Vec<Vec<f32>>>> {
        self.show(cues)?;
        let (mut counts, mut answers) = (Vec::new(), Vec::new());
        for (cue, shown) in cues.iter_mut().zip(&self.shown) {
            let answer = match shown.is_empty() {
                true => Vec::new(),
                false => cue.predict(shown, &self.device)?,
            };
            counts.push(answer.len());
            answers.extend(answer);
        }
        let mut told = read(&answers)?.into_iter();
        Ok(counts.iter().map(|&n| told.by_ref().take(n).collect()).collect())
    }

    /// Makes the steps that are not made yet.
    fn teach(
        &mut self,
        cues: Cues<'_, '_>,
        turns: &[Turn],
        lessons: &mut [Option<StepReport>],
    ) -> Result<()> {
        let open: Vec<(usize, &Lecture)> = turns
            .iter()
            .enumerate()
            .filter_map(|(i, turn)| match turn {
                Turn::Step(lecture) if lessons[i].is_none() => Some((i, lecture)),
                _ => None,
            })
            .collect();
        if open.is_empty() {
            return Ok(());
        }
        if self.shown.is_empty() {
            self.show(cues)?;
        }
        let arrays: Vec<&[f32]> = open.iter().flat_map(|(_, lecture)| lecture.arrays()).collect();
        let mut given = self.lectures.upload(&arrays, &self.device)?.into_iter();
        for (i, lecture) in open {
            let given: Vec<Tensor> = given.by_ref().take(lecture.arrays().count()).collect();
            lessons[i] = Some(cues[i].learn(&self.shown[i], lecture, &given, &self.device)?);
        }
        Ok(())
    }

    /// Does `work`; when a GPU fails, all nets leave it and the work is done again.
    fn steadily<R>(
        &mut self,
        cues: Cues<'_, '_>,
        mut work: impl FnMut(&mut Self, Cues<'_, '_>) -> Result<R>,
    ) -> Result<R> {
        match work(self, cues) {
            Err(e) if self.device.is_cuda() || cues.iter().any(|cue| cue.may_leave()) => {
                self.leave(cues)?;
                self.failure = Some(words(e));
                work(self, cues)
            }
            result => result,
        }
    }

    fn leave(&mut self, cues: Cues<'_, '_>) -> Result<()> {
        if self.device.synchronize().is_err() {
            keep_alive(&self.device);
        }
        cues.iter_mut().try_for_each(|cue| cue.leave_gpu())?;
        *self = Self::new(&Device::Cpu);
        Ok(())
    }
}
