//! The program as its users run it: the real binary, its output, its exit codes, against both sandboxes over sockets. One
//! file per command.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "this whole file is a test; clippy only knows functions marked so"
)]

mod approve;
mod command_line;
mod config;
mod demo;
mod explain;
mod forget;
mod json;
mod mapping;
mod notices;
mod panics;
#[cfg(unix)]
mod run;
mod sandbox;
#[cfg(unix)]
mod signals;
mod snippets;

mod state;
mod sync;
mod test;
mod webhooks;
mod world;
