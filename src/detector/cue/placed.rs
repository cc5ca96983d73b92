//! A learner on a device, and its way back to the CPU when a GPU fails.

use candle_core::{Device, Result, Tensor};

use crate::detector::nn::AdamState;

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
    /// What its last step told, where that has not come from the device yet.
    fn pending(&self) -> Option<&Tensor>;
    /// Takes what was read of [`Learner::pending`].
    fn settle(&mut self, told: &[f32]) -> Result<()>;
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
    /// A new one on `device`.
    pub(super) fn new(plan: L::Plan, device: &Device) -> Result<Self> {
        let learner = L::make(&plan, device)?;
        let mut placed = Self {
            plan,
            learner,
            device: device.clone(),
            copy: Memory::default(),
            steps: 0,
            #[cfg(test)]
            fault: None,
        };
        if placed.may_leave() {
            placed.copy = placed.memory()?;
        }
        Ok(placed)
    }

    pub(super) fn learner(&self) -> &L {
        &self.learner
    }

    /// Runs `work`.
    fn run<R>(&mut self, work: impl FnOnce(&mut L) -> Result<R>) -> Result<R> {
        #[cfg(test)]
        match &mut self.fault {
            Some(Fault { after: 0, .. }) => candle_core::bail!("injected fault"),
            Some(fault) => fault.after -= 1,
            None => {}
        }
        work(&mut self.learner)
    }

    /// As [`Placed::run`], for a map; behind it comes what is to be read with it of the last step.
    pub(super) fn predict(&mut self, work: impl FnOnce(&mut L) -> Result<Tensor>) -> Result<Vec<Tensor>> {
        let map = self.run(work)?;
        Ok([map].into_iter().chain(self.learner.pending().cloned()).collect())
    }

    /// Takes what was read of [`Placed::predict`]'s but for the map.
    pub(super) fn settle(&mut self, told: &[Vec<f32>]) -> Result<()> {
        told.iter().try_for_each(|told| self.learner.settle(told))
    }

    /// As [`Placed::run`], for a training step: what is known is copied now and then.
    pub(super) fn train<R>(&mut self, work: impl FnOnce(&mut L) -> Result<R>) -> Result<R> {
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
        let memory = self.memory().unwrap_or_else(|_| std::mem::take(&mut self.copy));
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

    /// Whether it is on a GPU, or on what stands in for one.
    pub(super) fn may_leave(&self) -> bool {
        #[cfg(test)]
        if self.fault.is_some() {
            return true;
        }
        self.device.is_cuda()
    }

    fn memory(&self) -> Result<Memory> {
        #[cfg(test)]
        if let Some(Fault {
            after: 0,
            readable: false,
        }) = self.fault
        {
            candle_core::bail!("injected fault");
        }
        let memory = self.learner.memory()?;
        // What fails only now would leave numbers that nobody computed.
        self.device.synchronize()?;
        Ok(memory)
    }
}

#[cfg(test)]
impl<L: Learner> Placed<L> {
    /// Lets the CPU fail as a GPU would.
    pub(super) fn inject(&mut self, fault: Fault) {
        self.copy = self.learner.memory().expect("the CPU can be read");
        self.fault = Some(fault);
    }

    /// Goes on from what another one knows.
    #[cfg(feature = "cuda")]
    pub(super) fn follow(&mut self, other: &Self) -> Result<()> {
        if let Some(told) = self.learner.pending() {
            let told: Vec<f32> = told.to_vec1()?;
            self.learner.settle(&told)?;
        }
        self.learner.restore(&other.learner.memory()?)
    }
}
