//! Watches many cameras from one configuration file.
//!
//! - [`config`]: the file; [`ini`]: its text; [`properties`]: element properties as text, with their ranges.
//! - [`state`]: what is known of all cameras, and commands to them; shared by everything below.
//! - [`program`]: starts and stops everything below.
//! - [`camera`]: a thread per source, which starts its pipeline again when it fails; [`backoff`]: the pauses.
//! - [`pipeline`]: from the source to the detector, the live images and the gate; [`street`]: a rendered source.
//! - [`frames`]: what is done with every frame; [`tracker`]: from the detector's messages to events.
//! - [`recorder`]: the clips; [`store`]: the database of events; [`archive`]: retention.
//! - [`output`]: lines on the standard output; [`publish`]: messages for other programs.
//! - [`web`]: the page, and the interface that it uses.

pub mod archive;
pub mod backoff;
pub mod camera;
pub mod config;
pub mod frames;
pub mod ini;
pub mod output;
pub mod pipeline;
pub mod program;
pub mod properties;
pub mod publish;
pub mod recorder;
pub mod state;
pub mod store;
pub mod street;
pub mod tracker;
pub mod web;
