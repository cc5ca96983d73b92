//! A learner on a device, and its way back to the CPU when a GPU fails.

use candle_core::{Device, Result};

use crate::detector::error::words;
use crate::detector::nn::{AdamState, keep_alive};

/// Training steps between two copies of what a learner on a GPU knows. A GPU that is lost takes what was learnt since
/// with it: ten seconds of the start and twenty of what follows, at 25 frames a second. A copy reads back three
/// values for every weight, under a megabyte by default: far less than the hundred steps move.
const COPY_INTERVAL: u32 = 100;

/// All that a learner knows, wherever it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Memory {
    pub(super) weights: Vec<f32>,
    /// Weights that follow the others, where there are such.
    pub(super) slow: Vec<f32>,
    pub(super) adam: AdamState,
}

/// Nets and what trains them.
pub(super) trait Learner: Sized {
    /// What it is made from.
    type Plan;

    /// A new one.
    fn make(plan: &Self::Plan, device: &Device) -> Result<Self>;
    /// What it knows.
    fn memory(&self) -> Result<Memory>;
    /// Goes on from what another one of the same plan knew.
    fn restore(&mut self, memory: &Memory) -> Result<()>;
}

/// A [`Learner`] and where it is.
#[derive(Debug)]
pub(super) struct Placed<L: Learner> {
    plan: L::Plan,
    learner: L,
    device: Device,
    copy: Memory,
    steps: u32,
    failure: Option<String>,
    #[cfg(test)]
    fault: Option<Fault>,
}

/// Stands in for a GPU that fails.
#[cfg(test)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    /// Runs that go well before.
    pub(crate) after: u32,
    /// Whether the device can be read after that.
    pub(crate) readable: bool,
}

impl<L: Learner> Placed<L> {
    /// On `device`; on the CPU where that fails.
    pub(super) fn new(plan: L::Plan, device: &Device) -> Result<Self> {
        let make = |device: &Device| {
            let learner = L::make(&plan, device)?;
            let copy = match device.is_cuda() {
                true => learner.memory()?,
                false => Memory::default(),
            };
            Ok::<_, candle_core::Error>((learner, copy, device.clone()))
        };
        let ((learner, copy, device), failure) = match make(device) {
            Err(e) if device.is_cuda() => {
                keep_alive(device);
                (make(&Device::Cpu)?, Some(words(e)))
            }
            made => (made?, None),
        };
        Ok(Self {
            plan,
            learner,
            device,
            copy,
            steps: 0,
            failure,
            #[cfg(test)]
            fault: None,
        })
    }

    pub(super) fn learner(&self) -> &L {
        &self.learner
    }

    /// Why it had to leave a GPU, once.
    pub(super) fn take_failure(&mut self) -> Option<String> {
        self.failure.take()
    }

    /// Runs `work`; when a GPU fails it is run again on the CPU, with what was known.
    pub(super) fn run<R>(&mut self, mut work: impl FnMut(&mut L, &Device) -> Result<R>) -> Result<R> {
        match self.attempt(&mut work) {
            Err(e) if self.may_leave() => {
                self.leave()?;
                self.failure = Some(words(e));
                work(&mut self.learner, &self.device)
            }
            result => result,
        }
    }

    /// As [`Placed::run`], for a training step: what is known is copied now and then.
    pub(super) fn train<R>(&mut self, work: impl FnMut(&mut L, &Device) -> Result<R>) -> Result<R> {
        let result = self.run(work)?;
        self.steps = self.steps.wrapping_add(1);
        if self.steps.is_multiple_of(COPY_INTERVAL) && self.may_leave() {
            // Should this fail, so will the next run.
            if let Ok(memory) = self.memory() {
                self.copy = memory;
            }
        }
        Ok(result)
    }

    /// Moves to the CPU: with what is known on the GPU, or, if that cannot be read any more, with the last copy.
    pub(super) fn leave(&mut self) -> Result<()> {
        if !self.may_leave() {
            return Ok(());
        }
        let memory = self.memory().unwrap_or_else(|_| {
            keep_alive(&self.device);
            std::mem::take(&mut self.copy)
        });
        self.device = Device::Cpu;
        self.learner = L::make(&self.plan, &self.device)?;
        self.learner.restore(&memory)?;
        self.copy = Memory::default();
        #[cfg(test)]
        {
            self.fault = None;
        }
        Ok(())
    }
}

#[cfg(not(test))]
impl<L: Learner> Placed<L> {
    fn may_leave(&self) -> bool {
        self.device.is_cuda()
    }

    fn attempt<R>(&mut self, work: &mut impl FnMut(&mut L, &Device) -> Result<R>) -> Result<R> {
        work(&mut self.learner, &self.device)
    }

    fn memory(&self) -> Result<Memory> {
        self.learner.memory()
    }
}

#[cfg(test)]
impl<L: Learner> Placed<L> {
    /// Lets the CPU fail as a GPU would.
    pub(super) fn inject(&mut self, fault: Fault) -> Result<()> {
        self.copy = self.learner.memory()?;
        self.fault = Some(fault);
        Ok(())
    }

    /// Goes on from what another one knows.
    #[cfg(feature = "cuda")]
    pub(super) fn follow(&mut self, other: &Self) -> Result<()> {
        self.learner.restore(&other.learner.memory()?)
    }

    fn may_leave(&self) -> bool {
        self.device.is_cuda() || self.fault.is_some()
    }

    fn attempt<R>(&mut self, work: &mut impl FnMut(&mut L, &Device) -> Result<R>) -> Result<R> {
        match &mut self.fault {
            Some(Fault { after: 0, .. }) => candle_core::bail!("injected fault"),
            Some(fault) => fault.after -= 1,
            None => {}
        }
        work(&mut self.learner, &self.device)
    }

    fn memory(&self) -> Result<Memory> {
        match self.fault {
            Some(Fault {
                after: 0,
                readable: false,
            }) => candle_core::bail!("injected fault"),
            _ => self.learner.memory(),
        }
    }
}
