//! The command line: one file per subcommand, and how results are printed.
//!
//! Data goes to standard output, everything else to standard error. Exit codes: 0 done, 1 failed, 2 the command line is
//! wrong, 75 the state is in use, 78 the config is wrong.

mod approve;
mod completions;
mod config;
mod conflicts;
mod connect;
mod demo;
mod errors;
mod explain;
mod failed;
mod forget;
pub mod logging;
mod mapping;
mod notices;
mod order;
mod printer;
mod progress;
mod run;
mod sandbox;
mod signals;
mod state;
mod status;
mod sync;
mod test;
mod webhooks;

pub use errors::CliError;
pub use printer::Printer;

use crate::config::{Config, ConfigErrors};
use crate::doors::Doors;
use clap::{Parser, Subcommand};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

/// Names the config file where `-c` does not.
const CONFIG_VARIABLE: &str = "LINKSPAN_CONFIG";
const DEFAULT_CONFIG: &str = "config.yaml";

/// Keeps an Intercom workspace and a Brevo account in step.
#[derive(Debug, Clone, Parser)]
#[command(name = "linkspan", version, arg_required_else_help = true, max_term_width = 100)]
#[command(after_help = "Exit codes: 0 done, 1 failed, 2 wrong command line, 75 the state is in use, 78 wrong config.")]
pub struct Cli {
    /// Config file [default: $LINKSPAN_CONFIG, else config.yaml]
    #[arg(short, long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Results and log lines as JSON
    #[arg(long, global = true)]
    json: bool,
    /// More detail in the log; twice: everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Clone, Subcommand)]
enum Command {
    /// Run the daemon: on schedule, and on webhooks at once
    Run,
    /// Read both sides and write what differs, once
    Sync(sync::Arguments),
    /// What the state knows, also while the daemon runs
    Status(status::Arguments),
    /// One person: both sides, what was agreed on, what waits, and what was done; also while the daemon runs
    Explain(explain::Arguments),
    /// Try both accounts: one line each, with the remedy
    Test,
    /// See what the mapping does
    #[command(subcommand)]
    Mapping(mapping::Command),
    /// Check the config, or print its JSON Schema
    #[command(subcommand)]
    Config(config::Command),
    /// Records and fields that a vendor refused
    #[command(subcommand)]
    Failed(failed::Command),
    /// Values that another replaced although nobody had agreed to that
    Conflicts(conflicts::Arguments),
    /// What people should know, counted in `status`, one by one
    Notices(notices::Arguments),
    /// Let go what the limits on harm hold, or list it
    Approve(approve::Arguments),
    /// Erase somebody from the state and its history, but for a keyed hash that remembers an opt-out
    Forget(forget::Arguments),
    /// Copy the state, check it, or make it smaller
    #[command(subcommand)]
    State(state::Command),
    /// Register webhooks in Brevo, and see what Intercom is to be told
    #[command(subcommand)]
    Webhooks(webhooks::Command),
    /// Watch a whole workspace arrive, and live edits follow: no account, no network
    Demo(demo::Arguments),
    /// Serve a filled Intercom and Brevo on this machine, to try things against
    Sandbox(sandbox::Arguments),
    /// Print shell completions
    Completions(completions::Arguments),
}

impl Command {
    fn needs_config(&self) -> bool {
        !matches!(self, Self::Completions(_) | Self::Demo(_) | Self::Sandbox(_) | Self::Config(config::Command::Schema))
    }

    /// Runs for long, and its log is what people look at.
    fn is_daemon(&self) -> bool {
        matches!(self, Self::Run)
    }
}

/// What every command is given.
pub struct Context {
    command: Command,
    printer: Printer,
    environment: BTreeMap<String, String>,
    config_path: PathBuf,
    config: Option<Result<Config, ConfigErrors>>,
    verbose: u8,
    doors: Doors,
}

impl Context {
    /// From the command line and the environment. Reads the config, if the command needs one.
    pub fn new(cli: &Cli, environment: BTreeMap<String, String>) -> Self {
        let named = || environment.get(CONFIG_VARIABLE).filter(|name| !name.is_empty()).map(PathBuf::from);
        let config_path = cli.config.clone().or_else(named).unwrap_or_else(|| PathBuf::from(DEFAULT_CONFIG));
        let config = cli.command.needs_config().then(|| Config::load(&config_path, &environment));
        Self {
            command: cli.command.clone(),
            printer: Printer::new(cli.json, &environment),
            environment,
            config_path,
            config,
            verbose: cli.verbose,
            doors: Doors::system(),
        }
    }

    /// The config, or what is wrong with it.
    fn config(&self) -> Result<&Config, CliError> {
        match &self.config {
            Some(Ok(config)) => Ok(config),
            Some(Err(errors)) => Err(errors.clone().into()),
            None => Err(CliError::failed("this command has no config")),
        }
    }

    /// The config with all credentials that a call needs. Its warnings are shown.
    fn usable_config(&self) -> Result<&Config, CliError> {
        let config = self.config()?;
        self.warn_about(config);
        config.require_credentials()?;
        Ok(config)
    }

    fn warn_about(&self, config: &Config) {
        for warning in &config.warnings {
            self.printer.diagnostic(warning);
        }
    }

    /// Says what went wrong, and with which code the process ends.
    pub fn fail(&self, error: &CliError) -> ExitCode {
        self.printer.error(error, error.of_config(&self.config_path).as_ref());
        ExitCode::from(error.code())
    }
}

/// Does what the command line asks for.
pub async fn run(context: &Context) -> ExitCode {
    let done = match &context.command {
        Command::Run => run::run(context).await,
        Command::Test => test::run(context).await,
        Command::Mapping(command) => mapping::run(context, command).await,
        Command::Sync(arguments) => Box::pin(sync::run(context, arguments)).await,
        Command::Status(arguments) => status::run(context, arguments).await,
        Command::Explain(arguments) => explain::run(context, arguments).await,
        Command::Approve(arguments) => approve::run(context, arguments).await,
        Command::Forget(arguments) => forget::run(context, arguments).await,
        Command::Config(command) => config::run(context, command),
        Command::Failed(command) => failed::run(context, command).await,
        Command::Conflicts(arguments) => conflicts::run(context, arguments).await,
        Command::Notices(arguments) => notices::run(context, arguments).await,
        Command::State(command) => state::run(context, command).await,
        Command::Webhooks(command) => webhooks::run(context, command).await,
        Command::Demo(arguments) => Box::pin(demo::run(context, arguments)).await,
        Command::Sandbox(arguments) => sandbox::run(context, arguments).await,
        Command::Completions(arguments) => {
            completions::run(context, arguments);
            Ok(())
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => context.fail(&error),
    }
}
