//! The nets of one detector on a server's device.

use std::ops::Range;
use std::sync::Arc;

use candle_core::{Error, Result, bail};

use super::arena::Block;
use super::descriptor::{Job, ParameterMap, Purpose, Report, state_floats};
use super::device::{Device, Kernel};
use super::server::{LoadedPlan, QueuedJob, ServerHandle};
use super::ticket::Ticket;
use crate::detector::StepReport;
use crate::detector::engine::{Engine, InferenceJob, Inputs, NetId, StateUpdate, TrainingJob};
use crate::detector::nn::AdamConfig;
use crate::detector::vae::{Checkpoint, ScoringWeights, VaeConfig};

/// Clips of a training step that room is made for when a net is added; with its first step it has what it needs.
const FIRST_CLIPS: usize = 2;

/// A client of a server.
#[derive(Debug)]
pub(crate) struct CudaEngine<D: Device> {
    server: ServerHandle<D>,
    nets: Vec<Net<D>>,
    /// Host memory of the last call for scores, to be used again.
    staged: Option<Arc<Block<D>>>,
    submitted: Option<Submitted<D>>,
}

#[derive(Debug)]
struct Net<D: Device> {
    config: VaeConfig,
    parameters: Arc<ParameterMap>,
    /// Device memory: weights, first moment, second moment, moving average where the net has one, prediction, and the states
    /// of a temporal layer.
    slot: Arc<Block<D>>,
    /// Host memory: a [`Report`].
    report: Arc<Block<D>>,
    scoring: Arc<LoadedPlan<D>>,
    training: Arc<LoadedPlan<D>>,
    /// Images that the training plan is for.
    batch: usize,
    /// Without the pending step.
    steps: u32,
    pending: Option<Ticket>,
    last: StepReport,
    inferred: bool,
    states: States,
}

/// Which states of a temporal layer are in the slot: that after step `i` since the last restart is in place `i` modulo one more
/// than a clip has images.
#[derive(Clone, Copy, Debug, Default)]
struct States {
    /// Steps before the current image.
    steps: usize,
    /// Whether the current image is a step.
    advance: bool,
}

impl States {
    fn next(&mut self, update: StateUpdate) {
        if update.restart {
            *self = Self::default();
        }
        self.steps += usize::from(self.advance);
        self.advance = update.advance;
    }

    /// The places of the states before and after the current image; `None` = zero.
    fn around_image(self, clip: usize) -> (Option<usize>, usize) {
        let places = clip + 1;
        let before = (self.steps > 0).then_some(self.steps % places);
        (before, (self.steps + 1) % places)
    }

    /// The place of the state before a clip that ends with the current image; `None` = zero.
    fn before_clip(self, clip: usize) -> Option<usize> {
        let steps = (self.steps + 1).checked_sub(clip).filter(|&steps| steps > 0)?;
        Some(steps % (clip + 1))
    }
}

/// Scores that were asked for.
#[derive(Debug)]
struct Submitted<D: Device> {
    ticket: Ticket,
    block: Arc<Block<D>>,
    /// Where each job's map is.
    maps: Vec<Range<usize>>,
}

/// Offsets of the arrays in a slot.
#[derive(Clone, Copy)]
struct SlotLayout {
    array: usize,
    average: bool,
    prediction: usize,
    state: usize,
    states: usize,
}

impl SlotLayout {
    fn new(config: &VaeConfig, parameters: &ParameterMap) -> Self {
        Self {
            array: parameters.padded(),
            average: config.scoring_weights == ScoringWeights::MovingAverage,
            prediction: config.target_values(),
            state: state_floats(config),
            states: config.clip() + 1,
        }
    }

    fn arrays(self) -> usize {
        if self.average { 4 } else { 3 }
    }

    fn prediction(self) -> usize {
        self.array * self.arrays()
    }

    /// The state in this place; aligned to 16 bytes.
    fn state(self, place: usize) -> usize {
        (self.prediction() + self.prediction).next_multiple_of(4) + place * self.state
    }

    /// Floats of the slot.
    fn floats(self) -> usize {
        self.state(self.states)
    }
}

/// Lays arrays out one behind the other in a block of host memory, each aligned to 16 bytes.
#[derive(Default)]
struct Staging(usize);

impl Staging {
    fn part(&mut self, floats: usize) -> usize {
        let start = self.0;
        self.0 += floats.next_multiple_of(4);
        start
    }
}

/// Copies images of `len` values each, which are clips one after the other, in the order of the kernels: the first images of all
/// clips, then the second ones.
fn copy_steps(values: &mut [f32], start: usize, parts: &[&[f32]], (len, clip): (usize, usize)) {
    if clip == 1 || len == 0 {
        return copy(values, start, parts);
    }
    let images: Vec<&[f32]> = parts.iter().flat_map(|part| part.chunks_exact(len)).collect();
    let by_step = (0..clip).flat_map(|step| images.iter().skip(step).step_by(clip));
    for (to, image) in values[start..].chunks_exact_mut(len).zip(by_step) {
        to.copy_from_slice(image);
    }
}

fn copy(values: &mut [f32], start: usize, parts: &[&[f32]]) {
    let mut at = start;
    for part in parts {
        values[at..at + part.len()].copy_from_slice(part);
        at += part.len();
    }
}

impl<D: Device> CudaEngine<D> {
    pub(super) fn new(server: ServerHandle<D>) -> Self {
        Self {
            server,
            nets: Vec::new(),
            staged: None,
            submitted: None,
        }
    }

    fn net(&mut self, NetId(index): NetId) -> Result<&mut Net<D>> {
        match self.nets.get_mut(index) {
            Some(net) => Ok(net),
            None => bail!("there is no net {index}"),
        }
    }

    /// Fails before [`Self::collect`]: until then the nets may be in use.
    fn check_collected(&self) -> Result<()> {
        match self.submitted {
            None => Ok(()),
            Some(_) => bail!("scores have not been collected"),
        }
    }

    /// Waits for the net's step in flight, and takes its report.
    fn settle(&mut self, NetId(index): NetId) -> Result<&mut Net<D>> {
        self.check_collected()?;
        let Some(net) = self.nets.get_mut(index) else {
            bail!("there is no net {index}");
        };
        if let Some(ticket) = net.pending.take() {
            self.server.wait(Kernel::Step, &ticket).map_err(Error::msg)?;
            // SAFETY: the step is done.
            let values = unsafe { net.report.values() };
            // SAFETY: the block holds at least the five floats of a report, aligned.
            let report = unsafe { values.as_ptr().cast::<Report>().read() };
            let rejected = report.accepted == 0.0;
            net.steps += u32::from(!rejected);
            net.last = StepReport {
                loss: f64::from(report.loss),
                reconstruction: net.config.reconstruction_weight * f64::from(report.reconstruction),
                kl: f64::from(report.kl),
                rejected,
            };
        }
        Ok(net)
    }

    /// Asks for scores, and does not wait for them. Until they are collected, all other calls fail.
    ///
    /// # Errors
    /// Inputs of wrong sizes, no memory, or a lost device.
    pub(super) fn submit(&mut self, jobs: &[InferenceJob<'_>]) -> Result<()> {
        self.server.check().map_err(Error::msg)?;
        self.check_collected()?;
        let mut staging = Staging::default();
        let mut parts = Vec::with_capacity(jobs.len());
        for job in jobs {
            // A score sees all that was learnt before.
            let net = self.settle(job.net)?;
            net.check_inputs(job.inputs)?;
            if net.config.temporal.is_some() && jobs.iter().filter(|other| other.net == job.net).count() > 1 {
                bail!("two images of a net with a temporal layer in one call");
            }
            let pixels = net.config.size.iter().product();
            parts.push(
                [job.inputs.target.len(), job.inputs.condition.len(), pixels]
                    .map(|floats| staging.part(floats)),
            );
        }
        let mut block = match self.staged.take() {
            Some(block) if block.floats() >= staging.0 && Arc::strong_count(&block) == 1 => block,
            _ => {
                let block = self.server.staging().allocate(staging.0);
                Arc::new(block.map_err(|e| self.failed(&e))?)
            }
        };
        let Some(staged) = Arc::get_mut(&mut block) else {
            bail!("the memory of a call for scores is in use");
        };
        // SAFETY: no job has the block, so nothing in flight uses it.
        let values = unsafe { staged.values_mut() };
        for (job, [target, condition, _]) in jobs.iter().zip(&parts) {
            copy(values, *target, &[job.inputs.target]);
            copy(values, *condition, &[job.inputs.condition]);
        }
        let ticket = Ticket::new(jobs.len());
        let mut queued = Vec::with_capacity(jobs.len());
        let mut maps = Vec::with_capacity(jobs.len());
        for (i, (job, &[target, condition, map])) in jobs.iter().zip(&parts).enumerate() {
            let last = jobs[i + 1..].iter().all(|other| other.net != job.net);
            let net = self.net(job.net)?;
            net.inferred = true;
            net.states.next(job.update);
            let (state, next_state) = net.around_image();
            maps.push(map..map + net.config.size.iter().product::<usize>());
            let shared = net.job();
            queued.push(QueuedJob {
                job: Job {
                    net: net.scoring.address(),
                    target: block.at(target),
                    condition: block.at(condition),
                    output: block.at(map),
                    // Of several images of a net, the last one's prediction is stored.
                    prediction: if last { shared.prediction } else { 0 },
                    state,
                    next_state,
                    batch: 1,
                    ..shared
                },
                plan: net.scoring.clone(),
                blocks: [net.slot.clone(), block.clone(), block.clone()],
                ticket: ticket.clone(),
            });
        }
        // SAFETY: all addresses are in the slots and the block; no step of these nets is in flight, and none can be queued
        // before the jobs are done.
        unsafe { self.server.submit(Kernel::Score, queued) }.map_err(Error::msg)?;
        self.submitted = Some(Submitted { ticket, block, maps });
        Ok(())
    }

    /// Whether [`Self::collect`] returns at once.
    pub(super) fn is_done(&self) -> bool {
        self.submitted
            .as_ref()
            .is_none_or(|submitted| submitted.ticket.is_done())
    }

    /// Waits for the scores that were submitted; the map of each job.
    ///
    /// # Errors
    /// The device failed, or nothing was submitted.
    pub(super) fn collect(&mut self) -> Result<Vec<Vec<f32>>> {
        let Some(Submitted { ticket, block, maps }) = self.submitted.take() else {
            bail!("no scores have been submitted");
        };
        self.server.wait(Kernel::Score, &ticket).map_err(Error::msg)?;
        // SAFETY: the jobs are done.
        let values = unsafe { block.values() };
        let maps = maps.into_iter().map(|map| values[map].to_vec()).collect();
        self.staged = Some(block);
        Ok(maps)
    }

    /// A message of a failed call; a lost device ends the server.
    fn failed(&self, error: &super::device::DeviceError) -> Error {
        Error::msg(self.server.fail(error))
    }

    /// Inputs, noise and mask of a step in a block of host memory, and the job.
    fn stage_step(&mut self, job: &TrainingJob<'_>) -> Result<(Job, Block<D>, usize)> {
        let server = self.server.clone();
        let net = self.net(job.net)?;
        let Inputs { target, condition } = job.inputs;
        let batch = job.batch;
        net.check_inputs(job.inputs)?;
        let (config, clip) = (&net.config, net.config.clip());
        let replayed = batch.replayed_target.len() / config.target_values();
        let images = clip + replayed;
        let want = [
            (clip - 1) * config.target_values(),
            (clip - 1) * config.condition_values(),
            replayed.next_multiple_of(clip) * config.target_values(),
            replayed * config.condition_values(),
            images * config.latent_values(),
        ];
        let got = [
            &batch.previous_target,
            &batch.previous_condition,
            &batch.replayed_target,
            &batch.replayed_condition,
            &batch.noise,
        ]
        .map(Vec::len);
        let masked = !batch.dropout_mask.is_empty();
        if got != want || masked && batch.dropout_mask.len() != images * config.features() {
            bail!(
                "a step on {images} images needs {want:?} values, got {got:?} and a mask of {}",
                batch.dropout_mask.len()
            );
        }
        let mut staging = Staging::default();
        let [target_at, condition_at, noise_at, mask_at] = [
            images * config.target_values(),
            images * config.condition_values(),
            batch.noise.len(),
            batch.dropout_mask.len(),
        ]
        .map(|floats| staging.part(floats));
        let allocated = server.staging().allocate(staging.0);
        let mut block = allocated.map_err(|e| Error::msg(server.fail(&e)))?;
        // SAFETY: the block is new.
        let values = unsafe { block.values_mut() };
        let targets = [&batch.previous_target, target, &batch.replayed_target];
        let conditions = [&batch.previous_condition, condition, &batch.replayed_condition];
        copy_steps(values, target_at, &targets, (config.target_values(), clip));
        copy_steps(
            values,
            condition_at,
            &conditions,
            (config.condition_values(), clip),
        );
        copy_steps(values, noise_at, &[&batch.noise], (config.latent_values(), clip));
        copy_steps(values, mask_at, &[&batch.dropout_mask], (config.features(), clip));
        let staged = Job {
            target: block.at(target_at),
            condition: block.at(condition_at),
            noise: block.at(noise_at),
            mask: if masked { block.at(mask_at) } else { 0 },
            state: net.before_clip(),
            batch: images as i32,
            kl_weight: batch.kl_weight as f32,
            average_rate: batch.average_rate as f32,
            ..net.job()
        };
        Ok((staged, block, images))
    }
}

impl<D: Device> Net<D> {
    fn layout(&self) -> SlotLayout {
        SlotLayout::new(&self.config, &self.parameters)
    }

    /// The addresses that all jobs of the net share.
    fn job(&self) -> Job {
        let layout = self.layout();
        Job {
            weights: self.slot.at(0),
            first_moment: self.slot.at(layout.array),
            second_moment: self.slot.at(2 * layout.array),
            average: if layout.average {
                self.slot.at(3 * layout.array)
            } else {
                0
            },
            prediction: self.slot.at(layout.prediction()),
            ..Job::default()
        }
    }

    /// The addresses of the states before and after the current image; 0 where there is none.
    fn around_image(&self) -> (u64, u64) {
        if self.config.temporal.is_none() {
            return (0, 0);
        }
        let at = |place| self.slot.at(self.layout().state(place));
        let (before, after) = self.states.around_image(self.config.clip());
        (before.map_or(0, at), at(after))
    }

    /// The address of the state before a clip that ends with the current image; 0 for zero.
    fn before_clip(&self) -> u64 {
        let place = self.states.before_clip(self.config.clip());
        let place = place.filter(|_| self.config.temporal.is_some());
        place.map_or(0, |place| self.slot.at(self.layout().state(place)))
    }

    fn check_inputs(&self, inputs: Inputs<'_>) -> Result<()> {
        let got = [inputs.target.len(), inputs.condition.len()];
        let want = [self.config.target_values(), self.config.condition_values()];
        match got == want {
            true => Ok(()),
            false => bail!("the net takes {want:?} values, got {got:?}"),
        }
    }

    /// Adam's rates of the next step (Kingma & Ba 2015, section 2).
    fn rates(&self, learning_rate: f64) -> (f32, f32) {
        let AdamConfig { beta1, beta2, .. } = AdamConfig::default();
        let step = f64::from(self.steps.saturating_add(1));
        let step_size = learning_rate / (1.0 - beta1.powf(step));
        (step_size as f32, (1.0 / (1.0 - beta2.powf(step)).sqrt()) as f32)
    }
}

impl<D: Device> Engine for CudaEngine<D> {
    fn create(&mut self, config: &VaeConfig, checkpoint: &Checkpoint) -> Result<NetId> {
        self.server.check().map_err(Error::msg)?;
        let parameters = ParameterMap::new(config);
        let layout = SlotLayout::new(config, &parameters);
        checkpoint.validate(config)?;
        let batch = FIRST_CLIPS * config.clip();
        let purpose = Purpose::Training { batch };
        let scoring = self.server.plan(config, Purpose::Scoring).map_err(Error::msg)?;
        let training = self.server.plan(config, purpose).map_err(Error::msg)?;
        self.server.reserve(Kernel::Score, &scoring).map_err(Error::msg)?;
        self.server.reserve(Kernel::Step, &training).map_err(Error::msg)?;
        let slot = self
            .server
            .slots()
            .allocate(layout.floats())
            .map_err(|e| self.failed(&e))?;
        let report = self
            .server
            .staging()
            .allocate(size_of::<Report>() / 4)
            .map_err(|e| self.failed(&e))?;
        let mut arrays = vec![0.0; layout.prediction()];
        let values = [
            &checkpoint.weights,
            &checkpoint.first_moment,
            &checkpoint.second_moment,
            &checkpoint.average,
        ];
        for (array, values) in arrays.chunks_exact_mut(layout.array).zip(values) {
            parameters.pack(values, array);
        }
        // SAFETY: the slot is new, and has room for all arrays.
        unsafe { self.server.device().upload(slot.address(), &arrays) }.map_err(|e| self.failed(&e))?;
        self.nets.push(Net {
            config: config.clone(),
            parameters: Arc::new(parameters),
            slot: Arc::new(slot),
            report: Arc::new(report),
            scoring,
            training,
            batch,
            steps: checkpoint.steps,
            pending: None,
            last: StepReport::default(),
            inferred: false,
            states: States::default(),
        });
        Ok(NetId(self.nets.len() - 1))
    }

    fn infer(&mut self, jobs: &[InferenceJob<'_>]) -> Result<Vec<Vec<f32>>> {
        self.submit(jobs)?;
        self.collect()
    }

    fn train(&mut self, jobs: &[TrainingJob<'_>]) -> Result<Vec<StepReport>> {
        self.server.check().map_err(Error::msg)?;
        let mut queued = Vec::with_capacity(jobs.len());
        let mut reports = Vec::with_capacity(jobs.len());
        for (i, job) in jobs.iter().enumerate() {
            if jobs[..i].iter().any(|other| other.net == job.net) {
                bail!("two steps of net {} in one call", job.net.0);
            }
            // Before the wait for the step before.
            let (staged, block, images) = self.stage_step(job)?;
            let server = self.server.clone();
            let net = self.settle(job.net)?;
            if images > net.batch {
                net.training = server
                    .plan(&net.config, Purpose::Training { batch: images })
                    .map_err(Error::msg)?;
                net.batch = images;
            }
            let (step_size, inv_sqrt_bias2) = net.rates(job.batch.learning_rate);
            let ticket = Ticket::new(1);
            reports.push(net.last);
            queued.push((
                job.net,
                QueuedJob {
                    job: Job {
                        net: net.training.address(),
                        output: net.report.address(),
                        step_size,
                        inv_sqrt_bias2,
                        ..staged
                    },
                    plan: net.training.clone(),
                    blocks: [net.slot.clone(), Arc::new(block), net.report.clone()],
                    ticket,
                },
            ));
        }
        let tickets: Vec<(NetId, Ticket)> = queued
            .iter()
            .map(|(net, job)| (*net, job.ticket.clone()))
            .collect();
        let queued = queued.into_iter().map(|(_, job)| job);
        // SAFETY: all addresses are in the jobs' blocks, nothing of these nets is in flight, and nothing is queued or
        // read before their steps have been waited for.
        unsafe { self.server.submit(Kernel::Step, queued) }.map_err(Error::msg)?;
        for (net, ticket) in tickets {
            self.net(net)?.pending = Some(ticket);
        }
        Ok(reports)
    }

    fn reconstruction(&mut self, net: NetId) -> Result<Option<Vec<f32>>> {
        self.server.check().map_err(Error::msg)?;
        self.check_collected()?;
        let (device, net) = (self.server.clone(), self.net(net)?);
        if !net.inferred {
            return Ok(None);
        }
        let mut values = vec![0.0; net.config.target_values()];
        let at = net.slot.at(net.layout().prediction());
        // SAFETY: only scores write there, and none is in flight.
        let read = unsafe { device.device().download(at, &mut values) };
        read.map_err(|e| self.failed(&e))?;
        Ok(Some(values))
    }

    fn checkpoint(&mut self, net: NetId) -> Result<Checkpoint> {
        self.server.check().map_err(Error::msg)?;
        let server = self.server.clone();
        let net = self.settle(net)?;
        let layout = net.layout();
        let mut arrays = vec![0.0; layout.prediction()];
        // SAFETY: no step is in flight, and only those write there.
        unsafe { server.device().download(net.slot.address(), &mut arrays) }
            .map_err(|e| Error::msg(server.fail(&e)))?;
        let mut arrays = arrays
            .chunks_exact(layout.array)
            .map(|array| net.parameters.unpack(array));
        let mut array = || arrays.next().unwrap_or_default();
        Ok(Checkpoint {
            weights: array(),
            first_moment: array(),
            second_moment: array(),
            average: array(),
            steps: net.steps,
        })
    }
}

impl<D: Device> Drop for CudaEngine<D> {
    fn drop(&mut self) {
        // Steps in flight hold the memory that they use.
        self.server.engine_dropped();
    }
}
