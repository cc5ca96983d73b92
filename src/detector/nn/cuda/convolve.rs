//! Convolution as windows laid out in rows, and a product.

use candle_core::backend::BackendStorage;
use candle_core::cuda::WrapErr;
use candle_core::cuda::cudarc::cublas::{result::sgemm, sys::cublasOperation_t};
use candle_core::{CudaDevice, CudaStorage, Result, Shape, Tensor, bail};

use super::super::convolve::{Convolve, Saved};
use super::super::enlarge::Enlarge;
use super::super::params::GradientSlot;
use super::{
    Array, Value, address, allocate, count_launch, launch, launch_each, size, start_of, storage, tensor,
    with_arrays,
};

/// Windows over a picture, which may be one enlarged by two, with other channels behind its own.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Windows {
    batch: usize,
    /// The picture that the windows see: height and width.
    size: [usize; 2],
    /// 1 where that is twice as large as the one that is held, or one less than twice.
    shift: usize,
    channels: usize,
    extra: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
    /// Windows: rows and columns.
    cells: [usize; 2],
    outputs: usize,
    slope: f32,
}

impl From<&Convolve> for Windows {
    fn from(sizes: &Convolve) -> Self {
        Self {
            batch: sizes.batch,
            size: sizes.input,
            shift: 0,
            channels: sizes.inputs,
            extra: 0,
            kernel: sizes.kernel,
            stride: sizes.stride,
            padding: sizes.padding,
            cells: sizes.output(),
            outputs: sizes.outputs,
            slope: sizes.slope,
        }
    }
}

impl From<&Enlarge> for Windows {
    fn from(sizes: &Enlarge) -> Self {
        Self {
            batch: sizes.batch,
            size: sizes.enlarged,
            shift: 1,
            channels: sizes.inputs,
            extra: sizes.extra,
            kernel: sizes.kernel,
            stride: 1,
            padding: sizes.padding,
            cells: sizes.output(),
            outputs: sizes.outputs,
            slope: sizes.slope,
        }
    }
}

impl Windows {
    /// Rows of the product: one for each window.
    fn rows(&self) -> usize {
        self.batch * self.cells[0] * self.cells[1]
    }

    /// Values in a window.
    fn run(&self) -> usize {
        self.kernel.pow(2) * (self.channels + self.extra)
    }

    /// Whether each pixel is a window, so that there is nothing to lay out.
    fn is_plain(&self) -> bool {
        (self.kernel, self.stride, self.padding, self.shift, self.extra) == (1, 1, 0, 0, 0)
    }

    fn values(&self, arrays: &[u64], count: usize) -> Result<Vec<Value>> {
        let mut values: Vec<Value> = arrays.iter().map(|&a| Value::Address(a)).collect();
        let sizes = [
            count,
            self.size[0],
            self.size[1],
            self.channels,
            self.extra,
            self.shift,
            self.kernel,
            self.stride,
            self.padding,
            self.cells[0],
            self.cells[1],
        ];
        for n in sizes {
            values.push(size(n)?);
        }
        Ok(values)
    }

    /// Runs `work` on the windows, one a row: `[B * H' * W', k * k * (C + extra)]`.
    fn with_rows<R>(
        &self,
        device: &CudaDevice,
        input: u64,
        extra: u64,
        work: impl FnOnce(u64) -> Result<R>,
    ) -> Result<R> {
        if self.is_plain() {
            return work(input);
        }
        let count = self.rows() * self.run();
        let rows = allocate(device, count)?;
        let at = start_of(&rows);
        launch_each(
            device,
            "windows",
            count,
            &self.values(&[input, extra, at], count)?,
        )?;
        work(at)
    }

    /// # Shapes
    /// `[B, h, w, C]`, `[k * k * (C + extra), outputs]`, `[outputs]` -> `[B * H' * W' * outputs]`
    pub(in super::super) fn forward(
        &self,
        [input, weight, bias]: [Array<'_>; 3],
        extra: Option<&Tensor>,
    ) -> Result<(CudaStorage, Shape)> {
        let device = input.0.device();
        let [input, weight, bias] = [address(input)?, address(weight)?, address(bias)?];
        let count = self.rows() * self.outputs;
        let out = allocate(device, count)?;
        let at = start_of(&out);
        with_extra(extra, |extra| {
            self.with_rows(device, input, extra, |rows| {
                let sizes = [self.rows(), self.outputs, self.run()];
                product(device, sizes, Rows(rows), Rows(weight), at, 0.0)
            })
        })?;
        let values = [
            Value::Address(bias),
            Value::Address(at),
            size(count)?,
            size(self.outputs)?,
            Value::Number(self.slope),
        ];
        launch_each(device, "bias_activation", count, &values)?;
        Ok((storage(out, device), Shape::from(count)))
    }

    /// Adds the gradients of weight and bias to `slot`, and gives the input's if that is wanted.
    pub(in super::super) fn backward(
        &self,
        saved: Saved<'_, Tensor>,
        extra: Option<&Tensor>,
        slot: Option<&GradientSlot>,
        need_input: bool,
    ) -> Result<Option<Tensor>> {
        let tensors = [saved.input, saved.weight, saved.output, saved.gradient];
        with_arrays(tensors, |device, [input, weight, output, gradient]| {
            let delta = allocate(device, self.rows() * self.outputs)?;
            let delta_at = start_of(&delta);
            let sums = slot.map(GradientSlot::address).transpose()?;
            let weights = self.run() * self.outputs;
            let bias = sums.map_or(0, |at| at + (weights * size_of::<f32>()) as u64);
            self.before_activation(device, [gradient, output, delta_at, bias], sums.is_some())?;
            if let Some(sums) = sums {
                with_extra(extra, |extra| {
                    self.with_rows(device, input, extra, |rows| {
                        let sizes = [self.run(), self.outputs, self.rows()];
                        product(device, sizes, Columns(rows), Rows(delta_at), sums, 1.0)
                    })
                })?;
            }
            match need_input {
                true => self
                    .input_gradient(device, delta_at, weight, saved.input.shape())
                    .map(Some),
                false => Ok(None),
            }
        })
    }

    fn before_activation(&self, device: &CudaDevice, arrays: [u64; 4], train: bool) -> Result<()> {
        let mut values: Vec<Value> = arrays.map(Value::Address).to_vec();
        values.extend([
            size(self.rows())?,
            size(self.outputs)?,
            Value::Number(self.slope),
            Value::Size(i32::from(train)),
        ]);
        launch(device, "before_activation", self.outputs, &values)
    }

    fn input_gradient(&self, device: &CudaDevice, delta: u64, weight: u64, shape: &Shape) -> Result<Tensor> {
        let rows = allocate(device, self.rows() * self.run())?;
        let at = start_of(&rows);
        let sizes = [self.rows(), self.run(), self.outputs];
        product(device, sizes, Rows(delta), Columns(weight), at, 0.0)?;
        if self.is_plain() {
            return Ok(tensor(rows, shape, device));
        }
        let count = shape.elem_count();
        let out = allocate(device, count)?;
        let values = self.values(&[at, start_of(&out)], count)?;
        launch_each(device, "windows_slope", count, &values)?;
        Ok(tensor(out, shape, device))
    }
}

/// Runs `work` on where the channels behind a picture are; 0 where there are none.
fn with_extra<R>(extra: Option<&Tensor>, work: impl FnOnce(u64) -> Result<R>) -> Result<R> {
    match extra {
        Some(extra) => with_arrays([extra], |_, [extra]| work(extra)),
        None => work(0),
    }
}

/// A factor of a product: as it lies in memory, row by row, or transposed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Factor {
    Rows(u64),
    Columns(u64),
}
pub(super) use Factor::{Columns, Rows};

impl Factor {
    /// Address, cuBLAS's operation, and values from one row in memory to the next.
    fn parts(self, rows: i32, columns: i32) -> (*const f32, cublasOperation_t, i32) {
        match self {
            Rows(at) => (at as *const f32, cublasOperation_t::CUBLAS_OP_N, columns),
            Columns(at) => (at as *const f32, cublasOperation_t::CUBLAS_OP_T, rows),
        }
    }
}

/// `out = a b + keep out` with `a` of m x k and `b` of k x n values, `[m, n, k]` the sizes.
pub(super) fn product(
    device: &CudaDevice,
    sizes: [usize; 3],
    a: Factor,
    b: Factor,
    out: u64,
    keep: f32,
) -> Result<()> {
    let [Ok(m), Ok(n), Ok(k)] = sizes.map(i32::try_from) else {
        bail!("a product of {sizes:?} values is too large");
    };
    // cuBLAS counts along columns: what is row by row here is transposed there, and so is the product.
    let (a, turn_a, step_a) = a.parts(m, k);
    let (b, turn_b, step_b) = b.parts(k, n);
    let blas = device.cublas_handle();
    // Unlike launches and allocations, cuBLAS takes the thread's context as it is.
    device.cuda_stream().context().bind_to_thread().w()?;
    count_launch();
    // SAFETY: the factors and the result have the sizes that are given; see the head of `cuda`.
    unsafe {
        sgemm(
            *blas.handle(),
            turn_b,
            turn_a,
            n,
            m,
            k,
            &1.0,
            b,
            step_b,
            a,
            step_a,
            &keep,
            out as *mut f32,
            n,
        )
    }
    .w()?;
    Ok(())
}
