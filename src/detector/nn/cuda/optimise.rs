//! Gradients, moments and weights of a net that stay on the GPU.

use std::ops::Range;
use std::sync::{Mutex, OnceLock, PoisonError};

use candle_core::cuda::WrapErr;
use candle_core::cuda::cudarc::driver::CudaSlice;
use candle_core::{CudaDevice, Device, Result, Tensor, bail};

use super::super::Parameters;
use super::super::adam::{Losses, REPORTED, Rates};
use super::{THREADS, Value, allocate, launch, launch_each, size, start_of, tensor, with_arrays};

/// Most blocks that add up the squares of a gradient.
const PARTIALS: usize = 64;

/// The device, where it is a GPU.
pub(super) fn gpu(device: &Device) -> Result<&CudaDevice> {
    match device {
        Device::Cuda(device) => Ok(device),
        other => bail!("values must be on a GPU, not on {other:?}"),
    }
}

/// What a set of parameters has on the GPU besides them.
#[derive(Debug, Default)]
pub(in super::super) struct Store {
    gradients: Mutex<Option<CudaSlice<f32>>>,
    table: OnceLock<Table>,
}

/// Where each parameter is, for kernels that go over all of them at once.
#[derive(Debug)]
struct Table {
    /// First value of each, were they one behind the other.
    starts: CudaSlice<i32>,
    addresses: CudaSlice<u64>,
    count: usize,
    values: usize,
}

impl Table {
    fn new(params: &Parameters, device: &CudaDevice) -> Result<Self> {
        let (mut starts, mut addresses) = (Vec::new(), Vec::new());
        let mut values = 0;
        for (_, var) in params.iter() {
            // A variable is only ever written in place: it stays where it is.
            addresses.push(with_arrays([var.as_tensor()], |_, [at]| Ok(at))?);
            starts.push(values as i32);
            values += var.elem_count();
        }
        size(values)?;
        Ok(Self {
            starts: device.clone_htod(&starts)?,
            addresses: device.clone_htod(&addresses)?,
            count: starts.len(),
            values,
        })
    }
}

impl Store {
    /// Sets `count` gradients to zero.
    pub(in super::super) fn clear(&self, device: &Device, count: usize) -> Result<()> {
        let device = gpu(device)?;
        let mut gradients = self.gradients.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *gradients {
            Some(gradients) if gradients.len() == count => {
                let stream = device.cuda_stream();
                stream.memset_zeros(gradients).w()
            }
            other => {
                *other = Some(device.alloc_zeros::<f32>(count)?);
                Ok(())
            }
        }
    }

    /// Where the gradient of value `start` is.
    pub(in super::super) fn address(&self, start: usize) -> Result<u64> {
        let gradients = self.gradients.lock().unwrap_or_else(PoisonError::into_inner);
        match &*gradients {
            Some(gradients) if start < gradients.len() => Ok(start_of(&gradients.slice(start..))),
            _ => bail!("gradients must be cleared before a way back"),
        }
    }

    /// Adds `gradient` to those of the values in `range`.
    pub(in super::super) fn add(&self, range: Range<usize>, gradient: &Tensor) -> Result<()> {
        if gradient.elem_count() != range.len() {
            bail!(
                "{} gradients do not belong to {} values",
                gradient.elem_count(),
                range.len()
            );
        }
        let sums = self.address(range.start)?;
        with_arrays([gradient], |device, [from]| {
            let values = [Value::Address(from), Value::Address(sums), size(range.len())?];
            launch_each(device, "accumulate", range.len(), &values)
        })
    }

    /// All gradients.
    #[cfg(test)]
    pub(in super::super) fn read(&self) -> Result<Vec<f32>> {
        let gradients = self.gradients.lock().unwrap_or_else(PoisonError::into_inner);
        match &*gradients {
            Some(gradients) => gradients.stream().clone_dtoh(gradients).w(),
            None => Ok(Vec::new()),
        }
    }

    fn table(&self, params: &Parameters, device: &CudaDevice) -> Result<&Table> {
        if self.table.get().is_none() {
            // Two threads may make it: both are the same.
            let _ = self.table.set(Table::new(params, device)?);
        }
        match self.table.get() {
            Some(table) if table.values == params.count() => Ok(table),
            _ => bail!("a parameter was added after the first step"),
        }
    }
}

/// Adam's moments, and what a step needs room for.
#[derive(Debug)]
pub(in super::super) struct Moments {
    device: CudaDevice,
    first: CudaSlice<f32>,
    second: CudaSlice<f32>,
    partials: CudaSlice<f64>,
}

impl Moments {
    /// Moments of zero for every parameter.
    pub(in super::super) fn new(params: &Parameters) -> Result<Self> {
        let device = gpu(params.device())?;
        let count = params.count();
        Ok(Self {
            device: device.clone(),
            first: device.alloc_zeros(count)?,
            second: device.alloc_zeros(count)?,
            partials: device.alloc_zeros(PARTIALS)?,
        })
    }

    /// One step down the gradients in the parameters' store, unless a number is not finite. Nothing waits: what the
    /// step tells, for [`Report::read`], is known once it is over.
    pub(in super::super) fn step(
        &mut self,
        params: &Parameters,
        losses: &Losses,
        max_norm: f64,
        rates: Rates,
    ) -> Result<Tensor> {
        let count = params.count();
        let gradient = params.store().address(0)?;
        let blocks = count.div_ceil(THREADS).min(PARTIALS);
        let partials = start_of(&self.partials);
        let values = [Value::Address(gradient), Value::Address(partials), size(count)?];
        launch(&self.device, "squares", blocks, &values)?;
        let report = allocate(&self.device, REPORTED)?;
        let told = start_of(&report);
        with_arrays(losses.each(), |device, losses| {
            let mut values = vec![Value::Address(partials)];
            values.extend(losses.map(Value::Address));
            values.push(Value::Address(told));
            values.extend([size(blocks)?, Value::Number(max_norm as f32)]);
            launch(device, "report", 1, &values)
        })?;
        self.update(params, [told, gradient], rates)?;
        Ok(tensor(report, REPORTED, &self.device))
    }

    fn update(&self, params: &Parameters, [report, gradient]: [u64; 2], rates: Rates) -> Result<()> {
        let device = &self.device;
        let table = params.store().table(params, device)?;
        let [keep, take] = [rates.keep, rates.take];
        let values = [
            Value::Address(report),
            Value::Address(gradient),
            Value::Address(start_of(&table.starts)),
            Value::Address(start_of(&table.addresses)),
            Value::Address(start_of(&self.first)),
            Value::Address(start_of(&self.second)),
            size(table.values)?,
            size(table.count)?,
            Value::Number(keep[0]),
            Value::Number(keep[1]),
            Value::Number(take[0]),
            Value::Number(take[1]),
            Value::Number(rates.step),
            Value::Number(rates.root),
            Value::Number(rates.eps),
        ];
        launch_each(device, "adam", table.values, &values)
    }

    /// Running means of gradient and squared gradient.
    pub(in super::super) fn read(&self) -> Result<(Vec<f32>, Vec<f32>)> {
        Ok((
            self.device.clone_dtoh(&self.first)?,
            self.device.clone_dtoh(&self.second)?,
        ))
    }

    /// Goes on from what [`Moments::read`] gave; there are as many as before.
    pub(in super::super) fn write(&mut self, first: &[f32], second: &[f32]) -> Result<()> {
        self.device.memcpy_htod(first, &mut self.first)?;
        self.device.memcpy_htod(second, &mut self.second)
    }
}

/// Moves every value of `to` a part of the way to `from`'s, unless the step there that told `report` was not made;
/// both have the same parameters.
pub(in super::super) fn follow(
    to: &Parameters,
    from: &Parameters,
    rate: f32,
    report: Option<&Tensor>,
) -> Result<()> {
    let device = gpu(to.device())?;
    let theirs = from.store().table(from, device)?;
    let mine = to.store().table(to, device)?;
    if mine.values != theirs.values {
        bail!("{} values cannot follow {}", mine.values, theirs.values);
    }
    let Some(report) = report else {
        bail!("there was no step to follow");
    };
    with_arrays([report], |device, [report]| {
        let values = [
            Value::Address(report),
            Value::Address(start_of(&mine.starts)),
            Value::Address(start_of(&theirs.addresses)),
            Value::Address(start_of(&mine.addresses)),
            size(mine.values)?,
            size(mine.count)?,
            Value::Number(rate),
        ];
        launch_each(device, "follow", mine.values, &values)
    })
}
