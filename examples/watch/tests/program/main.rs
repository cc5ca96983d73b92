//! The program with real sources, real brokers and a real database.

mod common;
mod config;
mod events;
mod kafka;
mod publishing;
mod scale;
mod server;
mod soak;
mod sources;
mod storage;
