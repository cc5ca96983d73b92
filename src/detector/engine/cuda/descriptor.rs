//! From a net as data to what the kernels read of it: [`Plan`].
//!
//! The structures are those of `kernels/layout.cuh`; a test holds them together.

use crate::detector::nn::AdamConfig;
use crate::detector::vae::{self, LayerRole, ScoreMap, ScoringWeights, VaeConfig};

/// Threads of a block.
pub(super) const THREADS: usize = 512;
const MAX_LAYERS: usize = 15;

/// Kinds of [`Net::score_map`].
const SQUARED_ERROR: i32 = 0;
const LEVEL: i32 = 1;

/// A layer of a [`Net`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Layer {
    pub(super) dense: i32,
    pub(super) kernel: i32,
    pub(super) stride: i32,
    pub(super) upsample: i32,
    pub(super) padding: i32,
    pub(super) input: i32,
    pub(super) input_height: i32,
    pub(super) input_width: i32,
    pub(super) input_quads: i32,
    pub(super) extra: i32,
    pub(super) extra_quads: i32,
    pub(super) upsampled_height: i32,
    pub(super) upsampled_width: i32,
    pub(super) output: i32,
    pub(super) output_height: i32,
    pub(super) output_width: i32,
    pub(super) output_quads: i32,
    pub(super) weight: i32,
    pub(super) bias: i32,
    pub(super) staged: i32,
    pub(super) last_rows: i32,
    pub(super) last_columns: i32,
    pub(super) box_height: i32,
    pub(super) box_width: i32,
    pub(super) output_splits: i32,
    pub(super) input_grad_splits: i32,
    pub(super) weight_splits: i32,
    pub(super) extra_splits: i32,
    pub(super) bias_splits: i32,
    pub(super) negative_slope: f32,
}

/// A net, for one purpose and largest batch.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Net {
    pub(super) layers: i32,
    pub(super) heads: i32,
    pub(super) gates: i32,
    pub(super) clip: i32,
    pub(super) height: i32,
    pub(super) width: i32,
    pub(super) channels: i32,
    pub(super) condition_channels: i32,
    pub(super) image: i32,
    pub(super) image_quads: i32,
    pub(super) condition: i32,
    pub(super) condition_quads: i32,
    pub(super) latent: i32,
    pub(super) latent_dim: i32,
    pub(super) latent_quads: i32,
    pub(super) cells: i32,
    pub(super) joined: i32,
    pub(super) joined_grad: i32,
    pub(super) cell_states: i32,
    pub(super) cell_grad: i32,
    pub(super) features: i32,
    pub(super) noise: i32,
    pub(super) mask: i32,
    pub(super) base_image: i32,
    pub(super) moving_average: i32,
    pub(super) score_map: i32,
    pub(super) score_box: i32,
    pub(super) kl_share: f32,
    pub(super) parameters: i32,
    pub(super) grad: i32,
    pub(super) partial: i32,
    pub(super) extra_partial: i32,
    pub(super) bias_partial: i32,
    pub(super) boxes: i32,
    pub(super) map: i32,
    pub(super) log_var_min: f32,
    pub(super) log_var_max: f32,
    pub(super) inverse_scale: f32,
    pub(super) reconstruction_weight: f32,
    pub(super) beta1: f32,
    pub(super) one_minus_beta1: f32,
    pub(super) beta2: f32,
    pub(super) one_minus_beta2: f32,
    pub(super) epsilon: f32,
    pub(super) max_norm: f32,
    pub(super) layer: [Layer; MAX_LAYERS],
}

/// A score or a training step; fields that are a `u64` are addresses.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Job {
    pub(super) net: u64,
    pub(super) weights: u64,
    pub(super) first_moment: u64,
    pub(super) second_moment: u64,
    pub(super) average: u64,
    pub(super) prediction: u64,
    pub(super) target: u64,
    pub(super) condition: u64,
    pub(super) noise: u64,
    pub(super) mask: u64,
    pub(super) state: u64,
    pub(super) next_state: u64,
    pub(super) output: u64,
    pub(super) batch: i32,
    pub(super) step_size: f32,
    pub(super) inv_sqrt_bias2: f32,
    pub(super) kl_weight: f32,
    pub(super) average_rate: f32,
    pub(super) unused: i32,
}

/// What a training step writes to its output.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Report {
    pub(super) loss: f32,
    pub(super) reconstruction: f32,
    pub(super) kl: f32,
    pub(super) grad_norm: f32,
    /// 0 where a value was not finite: parameters and moments are as before.
    pub(super) accepted: f32,
}

/// What a plan is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// One image.
    Scoring,
    /// A step on so many images at most.
    Training {
        /// Images.
        batch: usize,
    },
}

/// A net's descriptor with all sizes that follow from it.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) net: Net,
    /// Floats of a block's workspace.
    pub(super) workspace: usize,
    /// Floats of a block's shared memory.
    pub(super) shared: usize,
    /// Multiplications of one job, for the order of the jobs of a launch.
    pub(super) cost: u64,
}

/// Where a net's parameters are in each array of its slot.
#[derive(Clone, Debug)]
pub(super) struct ParameterMap {
    /// Index in a [`Checkpoint`](vae::Checkpoint) -> offset in the array.
    offsets: Vec<u32>,
    /// Floats of the array.
    padded: usize,
}

/// Channels filled up to whole quads.
const fn fill_up(channels: usize) -> usize {
    channels.div_ceil(4) * 4
}

/// Index `i` of a flattened image of `channels`, where each pixel's channels are filled up.
const fn flattened(i: usize, channels: usize) -> usize {
    i / channels * fill_up(channels) + i % channels
}

/// Into how many partial sums the work of `tasks` threads is split.
fn splits(tasks: usize, limit: usize) -> usize {
    (THREADS / tasks.max(1)).min(limit).max(1)
}

/// Floats of a temporal layer's state: hidden and cell state of one image.
pub(super) fn state_floats(config: &VaeConfig) -> usize {
    let [height, width, channels] = config.bottleneck();
    config
        .temporal
        .map_or(0, |_| 2 * height * width * fill_up(channels))
}

/// A layer with its channels filled up; both heads are one.
struct Sized<'a> {
    layer: &'a vae::Layer,
    /// Mean and log-variance side by side.
    heads: bool,
    inputs: usize,
    extra: usize,
    outputs: usize,
}

impl Sized<'_> {
    fn weights(&self) -> usize {
        self.layer.kernel * self.layer.kernel * (self.inputs + self.extra) * self.outputs
    }

    /// Floats of the staged weights in shared memory.
    fn staged(&self) -> usize {
        let taps = self.layer.kernel * self.layer.kernel;
        match self.layer.kernel == 3 && self.layer.upsample == 2 && self.layer.stride == 1 {
            // The rows of the kernel added up for each parity of the output's row.
            true => (12 * self.inputs + taps * self.extra) * self.outputs,
            false => self.weights(),
        }
    }

    fn positions(&self) -> usize {
        self.layer.output_size.iter().product()
    }
}

fn sized<'a>(config: &VaeConfig, layers: &'a [vae::Layer]) -> Vec<Sized<'a>> {
    let [height, width, channels] = config.bottleneck();
    let flat = height * width * fill_up(channels);
    layers
        .iter()
        .filter(|layer| layer.role != LayerRole::LogVar)
        .map(|layer| {
            let heads = layer.role == LayerRole::Mean;
            Sized {
                layer,
                heads,
                inputs: match layer.role {
                    LayerRole::Mean if layer.dense => flat,
                    // Input and hidden state, each filled up.
                    LayerRole::Gates => 2 * fill_up(channels),
                    _ => fill_up(layer.inputs),
                },
                extra: fill_up(layer.extra),
                outputs: match layer.role {
                    LayerRole::FromLatent if layer.dense => flat,
                    LayerRole::Mean => 2 * fill_up(layer.outputs),
                    LayerRole::Gates => 4 * fill_up(channels),
                    _ => fill_up(layer.outputs),
                },
            }
        })
        .collect()
}

impl ParameterMap {
    pub(super) fn new(config: &VaeConfig) -> Self {
        let layers = config.layers();
        let sized = sized(config, &layers);
        let channels = config.bottleneck()[2];
        let mut offsets = Vec::with_capacity(config.parameters());
        let mut padded = 0;
        for layer in &sized {
            let (weight, bias) = (padded, padded + layer.weights());
            padded = bias + layer.outputs;
            let flat_inputs = layer.layer.dense && layer.heads;
            let flat_outputs = layer.layer.dense && layer.layer.role == LayerRole::FromLatent;
            let gates = layer.layer.role == LayerRole::Gates;
            let row = |i: usize| match i.checked_sub(layer.layer.inputs) {
                _ if flat_inputs || gates => flattened(i, channels),
                Some(extra) => layer.inputs + extra,
                None => i,
            };
            // Log-variances are behind the means.
            let halves = if layer.heads { 2 } else { 1 };
            for half in 0..halves {
                let column = |o: usize| match flat_outputs {
                    true => flattened(o, channels),
                    false if gates => flattened(o, channels),
                    false => half * layer.outputs / 2 + o,
                };
                let inputs = layer.layer.inputs + layer.layer.extra;
                for tap in 0..layer.layer.kernel * layer.layer.kernel {
                    for i in 0..inputs {
                        let start = weight + (tap * (layer.inputs + layer.extra) + row(i)) * layer.outputs;
                        offsets.extend((0..layer.layer.outputs).map(|o| (start + column(o)) as u32));
                    }
                }
                offsets.extend((0..layer.layer.outputs).map(|o| (bias + column(o)) as u32));
            }
        }
        if config.base_image {
            let values = 0..config.target_values();
            offsets.extend(values.map(|i| (padded + flattened(i, config.channels)) as u32));
            padded += config.size[0] * config.size[1] * fill_up(config.channels);
        }
        Self { offsets, padded }
    }

    /// Floats of each array of the slot.
    pub(super) fn padded(&self) -> usize {
        self.padded
    }

    /// Writes `values` to their offsets in `array`, which is zero elsewhere.
    pub(super) fn pack(&self, values: &[f32], array: &mut [f32]) {
        for (&offset, &value) in self.offsets.iter().zip(values) {
            array[offset as usize] = value;
        }
    }

    /// The inverse of [`ParameterMap::pack`].
    pub(super) fn unpack(&self, array: &[f32]) -> Vec<f32> {
        self.offsets
            .iter()
            .map(|&offset| array[offset as usize])
            .collect()
    }
}

/// Hands out the parts of a workspace; each starts on a cache line of its own.
#[derive(Default)]
struct Workspace(usize);

impl Workspace {
    fn part(&mut self, floats: usize) -> i32 {
        let start = self.0;
        self.0 += floats.next_multiple_of(32);
        to_i32(start)
    }
}

/// Sizes above are found out by [`Plan::new`] at the end.
fn to_i32(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

impl Plan {
    /// The descriptor of a net; `shared` floats of shared memory are there for the weights of convolutions.
    ///
    /// # Errors
    /// The kernels have no such net, or it is too large for their 32-bit indices.
    pub(super) fn new(config: &VaeConfig, purpose: Purpose, shared: usize) -> Result<Self, String> {
        let layers = config.layers();
        let sized = sized(config, &layers);
        check(config, &sized)?;
        let [height, width] = config.size;
        let [rows, columns, features] = config.bottleneck();
        let (batch, training) = match purpose {
            Purpose::Scoring => (1, false),
            Purpose::Training { batch } => (batch, true),
        };
        let adam = AdamConfig::default();
        let (dims, cells) = (config.latent.dim(), config.latent_values() / config.latent.dim());
        let image_channels = fill_up(config.channels + config.condition);
        let mut workspace = Workspace::default();
        let image = workspace.part(batch * height * width * image_channels);
        let condition = match config.condition {
            0 => -1,
            channels => workspace.part(batch * height * width * fill_up(channels)),
        };
        let heads = sized.iter().position(|s| s.heads).unwrap_or(0);
        let gates = sized.iter().position(|s| s.layer.role == LayerRole::Gates);
        // Floats of a bottleneck, filled up.
        let bottleneck = rows * columns * fill_up(features);
        let mut net = Net {
            layers: to_i32(sized.len()),
            heads: to_i32(heads),
            gates: gates.map_or(-1, to_i32),
            clip: to_i32(config.clip()),
            height: to_i32(height),
            width: to_i32(width),
            channels: to_i32(config.channels),
            condition_channels: to_i32(config.condition),
            image,
            image_quads: to_i32(image_channels / 4),
            condition,
            condition_quads: to_i32(config.condition.div_ceil(4)),
            latent: workspace.part(batch * cells * fill_up(dims)),
            latent_dim: to_i32(dims),
            latent_quads: to_i32(dims.div_ceil(4)),
            cells: to_i32(cells),
            features: to_i32(features),
            base_image: -1,
            moving_average: i32::from(config.scoring_weights == ScoringWeights::MovingAverage),
            score_map: match config.score_map {
                ScoreMap::SquaredError => SQUARED_ERROR,
                ScoreMap::Level { .. } => LEVEL,
            },
            kl_share: match config.score_map {
                ScoreMap::SquaredError => 0.0,
                ScoreMap::Level { kl_share } => kl_share,
            },
            score_box: to_i32(config.score_box),
            log_var_min: config.log_var_range[0],
            log_var_max: config.log_var_range[1],
            inverse_scale: (1.0 / (3.0 * config.residual_scale * config.residual_scale)) as f32,
            reconstruction_weight: config.reconstruction_weight as f32,
            beta1: adam.beta1 as f32,
            one_minus_beta1: (1.0 - adam.beta1) as f32,
            beta2: adam.beta2 as f32,
            one_minus_beta2: (1.0 - adam.beta2) as f32,
            epsilon: adam.eps as f32,
            max_norm: adam.max_norm as f32,
            ..Net::default()
        };
        let mut hidden = 0;
        if gates.is_some() {
            net.joined = workspace.part(2 * batch * bottleneck);
            net.cell_states = workspace.part(batch * bottleneck);
            hidden = workspace.part(batch * bottleneck);
            if training {
                let clips = batch.div_ceil(config.clip());
                net.joined_grad = workspace.part(2 * clips * bottleneck);
                net.cell_grad = workspace.part(clips * bottleneck);
            }
        }
        let mut partial = Partials::default();
        // A score reads the output of a layer in the next one alone, but that of the heads and the last one also for the
        // map: two parts of the workspace serve the other layers by turns.
        let kept = |i: usize| training || i == heads || i + 1 == sized.len();
        let parts = [0, 1].map(|parity| {
            let sizes = sized
                .iter()
                .enumerate()
                .filter(|&(i, _)| i % 2 == parity && !kept(i));
            sizes
                .map(|(_, s)| s.positions() * s.outputs)
                .max()
                .map(|floats| workspace.part(floats))
        });
        let (mut parameters, mut input, mut cost) = (0, image, 0);
        for (i, s) in sized.iter().enumerate() {
            if i == heads + 1 {
                input = net.latent;
            }
            let output = match parts[i % 2] {
                Some(part) if !kept(i) => part,
                _ => workspace.part(batch * s.positions() * s.outputs),
            };
            let mut layer = geometry(s);
            layer.input = if gates == Some(i) { net.joined } else { input };
            layer.extra = if s.extra > 0 { condition } else { 0 };
            layer.output = output;
            layer.weight = to_i32(parameters);
            layer.bias = to_i32(parameters + s.weights());
            layer.staged = -1;
            parameters += s.weights() + s.outputs;
            partial.add(s, &layer, batch, training);
            net.layer[i] = layer;
            input = if gates == Some(i) { hidden } else { output };
            cost += (batch * s.positions() * s.weights()) as u64 * if training { 3 } else { 1 };
        }
        if config.base_image {
            net.base_image = to_i32(parameters);
            parameters += height * width * fill_up(config.channels);
        }
        net.parameters = to_i32(parameters);
        net.partial = workspace.part(partial.partial);
        if training {
            net.noise = workspace.part(batch * config.latent_values());
            net.mask = workspace.part(batch * config.features());
            net.grad = workspace.part(parameters);
            net.extra_partial = workspace.part(partial.extra);
            net.bias_partial = workspace.part(partial.bias);
            net.boxes = workspace.part(partial.boxes);
        } else {
            net.map = workspace.part(height * width);
        }
        let shared = stage(&mut net, &sized, shared);
        if workspace.0 > i32::MAX as usize {
            let megabytes = workspace.0 / 250_000;
            return Err(format!(
                "the net needs {megabytes} MB for its activations, more than the kernels can address"
            ));
        }
        Ok(Self {
            net,
            workspace: workspace.0,
            shared,
            cost,
        })
    }
}

/// Refuses what the kernels do not do.
fn check(config: &VaeConfig, sized: &[Sized<'_>]) -> Result<(), String> {
    let [height, width] = config.size;
    if sized.len() > MAX_LAYERS {
        return Err(format!(
            "the net has {} layers, the kernels take {MAX_LAYERS}",
            sized.len()
        ));
    }
    if config.encoder.is_empty() || config.decoder.is_empty() {
        return Err("the net has no encoder or no decoder".to_owned());
    }
    for s in sized {
        if s.extra > 0 && s.layer.upsampled_size != config.size {
            return Err(format!("{}: the condition joins at full size only", s.layer.name));
        }
    }
    let halved = [height.div_ceil(2), width.div_ceil(2)];
    let [rows, columns, _] = config.bottleneck();
    let mapped = matches!(config.latent, vae::Latent::Map(_)) && [rows, columns] == halved;
    if matches!(config.score_map, ScoreMap::Level { .. }) && !mapped {
        return Err("level maps need a latent map of half the image's size".to_owned());
    }
    Ok(())
}

/// All of a layer's sizes.
fn geometry(s: &Sized<'_>) -> Layer {
    let layer = s.layer;
    let [input_height, input_width] = layer.input_size;
    let [upsampled_height, upsampled_width] = layer.upsampled_size;
    let [output_height, output_width] = layer.output_size;
    let taps = if layer.kernel == 3 {
        3
    } else {
        layer.kernel * layer.kernel
    };
    let (inputs, extra, outputs) = (s.inputs / 4, s.extra / 4, s.outputs / 4);
    // Upsampled rows of the last input row, and rows of the box sums: those of whole input rows, and one a tap for a last
    // row that was cropped.
    let boxes = |input: usize, upsampled: usize| {
        let last = upsampled - layer.upsample * (input - 1);
        let cropped = if last < layer.upsample { layer.kernel } else { 0 };
        (last, layer.upsample * (input - 1) + layer.kernel + cropped)
    };
    let (last_rows, box_height) = boxes(input_height, upsampled_height);
    let (last_columns, box_width) = boxes(input_width, upsampled_width);
    Layer {
        dense: i32::from(layer.dense),
        kernel: to_i32(layer.kernel),
        stride: to_i32(layer.stride),
        upsample: to_i32(layer.upsample),
        padding: to_i32(layer.kernel / 2),
        input_height: to_i32(input_height),
        input_width: to_i32(input_width),
        input_quads: to_i32(inputs),
        extra_quads: to_i32(extra),
        upsampled_height: to_i32(upsampled_height),
        upsampled_width: to_i32(upsampled_width),
        output_height: to_i32(output_height),
        output_width: to_i32(output_width),
        output_quads: to_i32(outputs),
        last_rows: to_i32(last_rows),
        last_columns: to_i32(last_columns),
        box_height: to_i32(box_height),
        box_width: to_i32(box_width),
        output_splits: to_i32(splits(outputs, s.inputs)),
        input_grad_splits: to_i32(splits(s.inputs, outputs)),
        weight_splits: to_i32(splits(outputs * inputs * taps, 1024)),
        extra_splits: to_i32(splits(outputs * extra * taps, 1024)),
        bias_splits: to_i32(splits(outputs, 64)),
        negative_slope: layer.negative_slope,
        ..Layer::default()
    }
}

/// Floats of the partial and box sums that the largest layer needs.
#[derive(Default)]
struct Partials {
    partial: usize,
    extra: usize,
    bias: usize,
    boxes: usize,
}

impl Partials {
    fn add(&mut self, s: &Sized<'_>, layer: &Layer, batch: usize, training: bool) {
        let grow = |to: &mut usize, splits: i32, floats: usize| *to = (*to).max(splits as usize * floats);
        let taps = s.layer.kernel * s.layer.kernel;
        if s.layer.dense {
            grow(&mut self.partial, layer.output_splits, batch * s.outputs);
        }
        if !training {
            return;
        }
        match s.layer.dense {
            true => grow(&mut self.partial, layer.input_grad_splits, batch * s.inputs),
            false => {
                grow(
                    &mut self.partial,
                    layer.weight_splits,
                    taps * s.inputs * s.outputs,
                );
                grow(&mut self.extra, layer.extra_splits, taps * s.extra * s.outputs);
                grow(&mut self.bias, layer.bias_splits, s.outputs);
            }
        }
        if s.layer.upsample > 1 {
            grow(
                &mut self.boxes,
                layer.box_height * layer.box_width,
                batch * s.outputs,
            );
        }
    }
}

/// Assigns the weights of convolutions to `limit` floats of shared memory, the smallest first; the floats used.
fn stage(net: &mut Net, sized: &[Sized<'_>], limit: usize) -> usize {
    let mut order: Vec<usize> = (0..sized.len()).filter(|&i| !sized[i].layer.dense).collect();
    order.sort_by_key(|&i| sized[i].staged());
    let mut used = 0;
    for i in order {
        let floats = sized[i].staged();
        if used + floats <= limit {
            net.layer[i].staged = to_i32(used);
            used += floats;
        }
    }
    used
}
