//! `config check` and `config schema`.

use super::printer::counted;
use super::{CliError, Context};
use serde_json::json;

#[derive(Debug, Clone, clap::Subcommand)]
pub(super) enum Command {
    /// Say everything that is wrong with the config, and where
    Check,
    /// Print the JSON Schema of a config file, for editors
    Schema,
}

pub(super) fn run(context: &Context, command: &Command) -> Result<(), CliError> {
    match command {
        Command::Check => check(context),
        Command::Schema => {
            context.printer.data(format!("{:#}", crate::config::schema()));
            Ok(())
        }
    }
}

fn check(context: &Context) -> Result<(), CliError> {
    let printer = &context.printer;
    let config = match context.config() {
        Ok(config) => config,
        Err(CliError::Config(errors)) if printer.is_json() => {
            printer.json(&json!({"ok": false, "errors": errors}));
            return Err(CliError::Config(errors));
        }
        Err(error) => return Err(error),
    };
    let missing = config.require_credentials().err();
    if printer.is_json() {
        let missing: Vec<_> = missing.iter().flatten().collect();
        printer.json(&json!({"ok": true, "warnings": config.warnings, "missingCredentials": missing}));
        return Ok(());
    }
    context.warn_about(config);
    for missing in missing.iter().flatten() {
        printer.note(format!("note: {missing}"));
    }
    let mapping = &config.mapping;
    printer.data(format!(
        "{}: fine ({}, {}{})",
        config.source.display(),
        counted(mapping.rules.len() as u64, "field rule"),
        counted(mapping.lists.len() as u64, "list"),
        match config.warnings.len() {
            0 => String::new(),
            many => format!(", {}", counted(many as u64, "warning")),
        }
    ));
    Ok(())
}
