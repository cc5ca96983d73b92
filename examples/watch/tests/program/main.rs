//! The program with real sources, a real broker and a real database.

mod common;
mod config;
mod events;
mod publishing;
mod server;
mod soak;
mod sources;
mod storage;
