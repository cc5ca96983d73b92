//! Where the nets compute.

use std::fmt;
use std::str::FromStr;

use super::engine::{CpuEngine, Engine, WithFallback, cuda};
use super::{Error, Result};

/// The device to compute on: `auto`, `cpu`, `cuda` or `cuda:N`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// The first usable CUDA device, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// CUDA device `N`, or the first usable one; never the CPU.
    Cuda(Option<usize>),
}

impl FromStr for DeviceChoice {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let number = |n: &str| n.parse::<u32>().ok().map(|n| Self::Cuda(Some(n as usize)));
        let choice = match name {
            "auto" => Some(Self::Auto),
            "cpu" => Some(Self::Cpu),
            "cuda" => Some(Self::Cuda(None)),
            _ => name.strip_prefix("cuda:").and_then(number),
        };
        choice.ok_or_else(|| Error::setting("device", "auto, cpu, cuda or cuda:N", format!("\"{name}\"")))
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => write!(f, "auto"),
            Self::Cpu => write!(f, "cpu"),
            Self::Cuda(None) => write!(f, "cuda"),
            Self::Cuda(Some(number)) => write!(f, "cuda:{number}"),
        }
    }
}

impl DeviceChoice {
    /// Opens the device.
    ///
    /// # Errors
    /// [`Error::Device`]: a CUDA device was asked for by name, with what is missing. `Auto` never fails.
    pub fn open(self) -> Result<ComputeDevice> {
        let gpu = match self {
            Self::Cpu => return Ok(ComputeDevice::cpu()),
            Self::Auto => cuda::open_faster_than_cpu(),
            Self::Cuda(number) => cuda::open(number),
        };
        match (gpu, self) {
            (Ok((number, server)), _) => Ok(ComputeDevice {
                engines: Engines::Cuda(server),
                name: format!("cuda:{number}"),
                note: None,
            }),
            (Err(reason), Self::Auto) => Ok(ComputeDevice {
                note: Some(format!("computing on the CPU: {reason}")),
                ..ComputeDevice::cpu()
            }),
            (Err(reason), _) => Err(Error::Device {
                asked: self.to_string(),
                reason,
            }),
        }
    }
}

/// A device that is ready to use.
#[derive(Clone, Debug)]
pub struct ComputeDevice {
    engines: Engines,
    name: String,
    note: Option<String>,
}

/// Where engines come from.
#[derive(Clone, Debug)]
enum Engines {
    Cpu,
    Cuda(cuda::ServerHandle),
}

impl ComputeDevice {
    /// The CPU.
    pub fn cpu() -> Self {
        Self {
            engines: Engines::Cpu,
            name: "cpu".to_owned(),
            note: None,
        }
    }

    /// `cpu` or `cuda:N`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Why `auto` chose the CPU, as a sentence.
    pub fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }

    /// An engine for the nets of one detector; one on a GPU continues on the CPU when that fails.
    pub(crate) fn engine(&self) -> Box<dyn Engine> {
        match &self.engines {
            Engines::Cpu => Box::new(CpuEngine::default()),
            Engines::Cuda(server) => cuda_engine(server),
        }
    }
}

#[cfg_attr(
    not(feature = "cuda"),
    allow(unreachable_code, reason = "without the feature there is no server")
)]
fn cuda_engine(server: &cuda::ServerHandle) -> Box<dyn Engine> {
    Box::new(WithFallback::new(server.engine()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for name in ["auto", "cpu", "cuda", "cuda:0", "cuda:12"] {
            assert_eq!(name.parse::<DeviceChoice>().unwrap().to_string(), name);
        }
        for name in ["", "gpu", "cuda:", "cuda:x", "cuda:-1", "CPU"] {
            let message = name.parse::<DeviceChoice>().unwrap_err().to_string();
            let want = format!("device must be auto, cpu, cuda or cuda:N, got \"{name}\"");
            assert_eq!(message, want);
        }
    }

    #[test]
    fn auto_always_opens_and_a_named_gpu_that_is_not_there_is_an_error() {
        assert_eq!(DeviceChoice::Cpu.open().unwrap().name(), "cpu");
        let auto = DeviceChoice::Auto.open().unwrap();
        assert_eq!(auto.name() == "cpu", auto.note().is_some());
        let message = DeviceChoice::Cuda(Some(99)).open().unwrap_err().to_string();
        assert!(message.starts_with("device is cuda:99, but "), "{message}");
        assert!(message.ends_with("; use auto or cpu"), "{message}");
    }
}
