//! Stands in for the CUDA side in a build without it: there is no tensor on a GPU that could come here.

use std::ops::Range;

use candle_core::{CudaStorage, Device, Error, Layout, Result, Shape, Tensor};

use super::Parameters;
use super::adam::{Losses, Rates};
use super::convolve::{Convolve, Saved};
use super::enlarge::Enlarge;
use super::launch::Kernel;
use super::params::GradientSlot;

type Storage<'a> = (&'a CudaStorage, &'a Layout);

fn none<T>() -> Result<T> {
    Err(Error::NotCompiledWithCudaSupport)
}

/// Why there is no device.
pub(crate) fn open(_: Option<usize>) -> std::result::Result<(usize, Device), String> {
    Err("this build has no CUDA support".to_owned())
}

/// Nothing is lost that could not be let go of.
pub(crate) fn keep_alive(_: &Device) {}

/// Kernels and products that this thread has started.
pub(crate) fn launches() -> u64 {
    0
}

pub(super) fn pass<const N: usize>(_: Kernel<'_>, _: &Shape, _: [&Tensor; N]) -> Result<Tensor> {
    none()
}

pub(super) fn map<const N: usize>(
    _: Kernel<'_>,
    _: &Shape,
    _: [Storage<'_>; N],
    _: Option<&Tensor>,
) -> Result<(CudaStorage, Shape)> {
    none()
}

pub(super) fn reduce<const N: usize>(_: Kernel<'_>, _: [Storage<'_>; N]) -> Result<(CudaStorage, Shape)> {
    none()
}

pub(super) struct Windows;

impl From<&Convolve> for Windows {
    fn from(_: &Convolve) -> Self {
        Self
    }
}

impl From<&Enlarge> for Windows {
    fn from(_: &Enlarge) -> Self {
        Self
    }
}

impl Windows {
    pub(super) fn forward(&self, _: [Storage<'_>; 3], _: Option<&Tensor>) -> Result<(CudaStorage, Shape)> {
        none()
    }

    pub(super) fn backward(
        &self,
        _: Saved<'_, Tensor>,
        _: Option<&Tensor>,
        _: Option<&GradientSlot>,
        _: bool,
    ) -> Result<Option<Tensor>> {
        none()
    }
}

/// No gradients.
#[derive(Debug, Default)]
pub(super) struct Store;

impl Store {
    pub(super) fn clear(&self, _: &Device, _: usize) -> Result<()> {
        none()
    }

    pub(super) fn add(&self, _: Range<usize>, _: &Tensor) -> Result<()> {
        none()
    }
}

/// No moments: none can be made.
#[derive(Debug)]
pub(super) enum Moments {}

impl Moments {
    pub(super) fn new(_: &Parameters) -> Result<Self> {
        none()
    }

    pub(super) fn step(&mut self, _: &Parameters, _: &Losses, _: f64, _: Rates) -> Result<Tensor> {
        match *self {}
    }

    pub(super) fn read(&self) -> Result<(Vec<f32>, Vec<f32>)> {
        match *self {}
    }

    pub(super) fn write(&mut self, _: &[f32], _: &[f32]) -> Result<()> {
        match *self {}
    }
}

pub(super) fn follow(_: &Parameters, _: &Parameters, _: f32, _: Option<&Tensor>) -> Result<()> {
    none()
}

pub(super) fn read(_: &[Tensor]) -> Result<Vec<Vec<f32>>> {
    none()
}

/// Nothing is staged.
#[derive(Debug, Default)]
pub(super) struct Staging;

impl Staging {
    pub(super) fn upload(&mut self, _: &[&[f32]], _: &Device) -> Result<Tensor> {
        none()
    }
}
