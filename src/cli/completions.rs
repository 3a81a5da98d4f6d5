//! `completions`: for the shell.

use super::{Cli, Context};
use clap::CommandFactory as _;
use clap_complete::Shell;

#[derive(Debug, Clone, clap::Args)]
pub(super) struct Arguments {
    /// Which shell
    shell: Shell,
}

pub(super) fn run(context: &Context, arguments: &Arguments) {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "linkspan", &mut script);
    context.printer.data(String::from_utf8_lossy(&script).trim_end());
}
