//! Parses the command line, sets up the log, hands over.

use clap::Parser as _;
use linkspan::cli::{self, Cli};
use std::collections::BTreeMap;
use std::process::ExitCode;

/// A first sync allocates much and briefly: docs/benchmarks.md has what this is worth.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::logging::quiet_panics();
    // The one place where the environment is read. Values that are not text cannot be meant for us.
    let environment: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let context = cli::Context::new(&Cli::parse(), environment);
    cli::logging::start(&context);
    // Two workers: the work is waiting for two vendors. SQLite has threads of its own.
    match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => {
            let code = runtime.block_on(cli::run(&context));
            // What still waits on a socket or on the disk is not waited for: what matters is in the store.
            runtime.shutdown_background();
            code
        }
        Err(error) => context.fail(&cli::CliError::Io { what: "starting".to_owned(), error }),
    }
}
