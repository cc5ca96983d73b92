//! Watches many cameras from one configuration file.
//!
//! - [`config`]: the file; [`ini`]: its text; [`properties`]: element properties as text, with their ranges.
//! - [`state`]: what is known of all cameras, and commands to them; shared by everything below.
//! - [`camera`]: a pipeline per source, started again when it fails.
//! - [`store`]: the database of events.

pub mod camera;
pub mod config;
pub mod ini;
pub mod properties;
pub mod state;
pub mod store;
