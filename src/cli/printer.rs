//! The one place that prints. Data on standard output, everything else on standard error; readable without colour.

use super::CliError;
use crate::config::{ConfigErrors, Diagnostic};
use comfy_table::{Table, presets};
use indicatif::{MultiProgress, ProgressDrawTarget};
use serde::Serialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};

/// Prints.
#[derive(Debug, Clone)]
pub struct Printer {
    json: bool,
    color_out: bool,
    color_err: bool,
    /// Progress bars live below everything that is said meanwhile.
    bars: MultiProgress,
}

impl Printer {
    /// For this process's streams.
    pub fn new(json: bool, environment: &BTreeMap<String, String>) -> Self {
        let plain = environment.get("NO_COLOR").is_some_and(|value| !value.is_empty())
            || environment.get("TERM").is_some_and(|term| term == "dumb");
        let target = if json { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        Self {
            json,
            color_out: !plain && !json && std::io::stdout().is_terminal(),
            color_err: !plain && !json && std::io::stderr().is_terminal(),
            bars: MultiProgress::with_draw_target(target),
        }
    }

    /// Whether results are to be JSON.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Whether somebody sits at standard error's terminal, so that bars make sense.
    pub fn has_terminal(&self) -> bool {
        !self.json && std::io::stderr().is_terminal()
    }

    /// Where bars are added.
    pub fn bars(&self) -> &MultiProgress {
        &self.bars
    }

    /// Data, with a line break.
    pub fn data(&self, text: impl AsRef<str>) {
        // A reader that went away (`| head`) is no reason to fail.
        self.bars.suspend(|| {
            let mut out = std::io::stdout().lock();
            writeln!(out, "{}", text.as_ref()).and_then(|()| out.flush()).ok();
        });
    }

    /// Data as JSON on one line.
    pub fn json<T: Serialize>(&self, value: &T) {
        match serde_json::to_string(value) {
            Ok(text) => self.data(text),
            Err(error) => self.note(format!("the result cannot be written as JSON: {error}")),
        }
    }

    /// Anything that is not data.
    pub fn note(&self, text: impl AsRef<str>) {
        self.bars.suspend(|| writeln!(std::io::stderr().lock(), "{}", text.as_ref()).ok());
    }

    /// A warning about the config.
    pub(super) fn diagnostic(&self, diagnostic: &Diagnostic) {
        if self.json {
            self.note(json!({"warning": diagnostic}).to_string());
        } else {
            self.note(diagnostic.render(self.color_err).trim_end());
        }
    }

    /// What went wrong; with the places in the config, where it is about those.
    pub(super) fn error(&self, error: &CliError, of_config: Option<&ConfigErrors>) {
        let help = error.help();
        let text = match (error, of_config) {
            (CliError::Said | CliError::SaidOfConfig, _) => return,
            (_, Some(errors)) if self.json => json!({"errors": errors}).to_string(),
            (_, Some(errors)) => errors.render(self.color_err).trim_end().to_owned(),
            (error, None) if self.json => json!({"error": error.to_string(), "help": help}).to_string(),
            (error, None) => {
                let head = if self.color_err { "\u{1b}[31merror:\u{1b}[0m" } else { "error:" };
                let help = help.map(|help| format!("\n  help: {help}")).unwrap_or_default();
                format!("{head} {error}{help}")
            }
        };
        self.note(text);
    }

    /// `✓`, green where there is colour.
    pub fn tick(&self) -> &'static str {
        if self.color_out { "\u{1b}[32m✓\u{1b}[0m" } else { "✓" }
    }

    /// `✗`, red where there is colour.
    pub fn cross(&self) -> &'static str {
        if self.color_out { "\u{1b}[31m✗\u{1b}[0m" } else { "✗" }
    }

    /// A table, as data.
    pub fn table<R: IntoIterator<Item = String>>(&self, header: &[&str], rows: impl IntoIterator<Item = R>) {
        let mut table = Table::new();
        table.load_style(presets::UTF8_FULL_CONDENSED).set_header(header.iter().copied());
        for row in rows {
            table.add_row(row);
        }
        self.data(table.to_string());
    }

    /// Aligned `name  value` lines, as data.
    pub fn pairs(&self, pairs: &[(&str, String)]) {
        let width = pairs.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        for (name, value) in pairs {
            self.data(format!("{name:width$}  {value}").trim_end());
        }
    }
}

/// `1 list`, `2 lists`.
pub(super) fn counted(count: u64, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

/// `1 person`, `2 people`.
pub(super) fn people(count: u64) -> String {
    if count == 1 { "1 person".to_owned() } else { format!("{count} people") }
}

/// A value as people write it.
pub(super) fn value_in_words(value: &serde_json::Value) -> String {
    use serde_json::Value as Json;
    match value {
        Json::Null => "–".to_owned(),
        Json::String(text) => text.clone(),
        Json::Array(items) if items.iter().all(Json::is_string) => {
            items.iter().filter_map(Json::as_str).collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}
