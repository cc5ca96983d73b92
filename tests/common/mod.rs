//! What the integration tests share.
#![allow(dead_code, unused_imports, reason = "every test binary uses its own part")]

pub mod rig;
pub mod scene;

pub use rig::{Item, Rig};
pub use scene::{Happening, SIZE, Scene};
