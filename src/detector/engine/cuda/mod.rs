//! The CUDA engine: whole nets in one launch, those of all cameras of the process together. See `README.md`.
//!
//! ```text
//! CudaEngine (one a detector) --jobs--> server (one a device) --launch--> kernels (score, step)
//! ```

#![allow(
    unsafe_code,
    reason = "the driver's interface, addresses in descriptors and mapped memory; each use states why it is sound"
)]

#[cfg(not(feature = "cuda"))]
mod absent;
#[cfg(any(feature = "cuda", test))]
mod arena;
#[cfg(feature = "cuda")]
pub(crate) mod bench;
#[cfg(any(feature = "cuda", test))]
mod descriptor;
#[cfg(any(feature = "cuda", test))]
mod device;
#[cfg(feature = "cuda")]
mod driver;
#[cfg(any(feature = "cuda", test))]
mod engine;
#[cfg(feature = "cuda")]
mod reduce;
#[cfg(any(feature = "cuda", test))]
mod server;
#[cfg(test)]
mod tests;
#[cfg(any(feature = "cuda", test))]
mod ticket;
#[cfg(any(feature = "cuda", test))]
mod try_out;

#[cfg(not(feature = "cuda"))]
pub(crate) use absent::{ServerHandle, open, open_faster_than_cpu};
#[cfg(feature = "cuda")]
pub(crate) use driver::{open, open_faster_than_cpu};
#[cfg(feature = "cuda")]
pub(crate) use reduce::CudaReducer;

/// A client's way to the server of a GPU.
#[cfg(feature = "cuda")]
pub(crate) type ServerHandle = server::ServerHandle<driver::Gpu>;
