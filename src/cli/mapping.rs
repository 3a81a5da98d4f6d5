//! `mapping preview` and `mapping test`.

use super::printer::value_in_words;
use super::progress::notice_in_words;
use super::{CliError, Context, connect};
use crate::mapping::{Expected, run_cases};
use crate::model::{Email, Value};
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;

#[derive(Debug, Clone, clap::Subcommand)]
pub(super) enum Command {
    /// Show both sides' values, what would be written, and why; somebody whom the state does not know is read on both
    /// sides, and nothing is written anywhere
    Preview {
        /// Whose; without it, of a few people whom the state knows
        email: Option<String>,
    },
    /// Run the examples (`cases:`) that stand beside the mapping
    Test,
}

pub(super) async fn run(context: &Context, command: &Command) -> Result<(), CliError> {
    match command {
        Command::Preview { email } => preview(context, email.as_deref()).await,
        Command::Test => test(context),
    }
}

async fn preview(context: &Context, email: Option<&str>) -> Result<(), CliError> {
    let printer = &context.printer;
    let email = email
        .map(Email::parse)
        .transpose()
        .map_err(|error| CliError::failed(format!("the address cannot be used: {error}")))?;
    let config = context.usable_config()?;
    let connected = connect::open_to_look(context, config)?;
    connected.connection.prepare(true).await?;
    let asked = email.is_some();
    let mut previews = connected.connection.preview(email.clone()).await?;
    let nobody = previews.iter().all(|preview| preview.left.is_some());
    if let (true, Some(email)) = (nobody, email) {
        // Into the copy: before a first sync, and for somebody new or back again, too, it can be seen what would be written.
        connected.connection.read_one(&email).await?;
        previews = connected.connection.preview(Some(email)).await?;
    }
    if printer.is_json() {
        printer.json(&previews);
    }
    if previews.is_empty() {
        return Err(CliError::failed(if asked {
            "neither the state nor Intercom knows anybody under this address"
        } else {
            "the state knows nobody yet; `linkspan mapping preview` with an address reads this one person on both sides"
        }));
    }
    if printer.is_json() {
        return Ok(());
    }
    for preview in previews {
        let brevo = preview.brevo.map_or_else(|| "none yet".to_owned(), |id| id.to_string());
        let gone = if preview.brevo_gone { " (deleted in Brevo; it is never made again)" } else { "" };
        printer.data(format!("Intercom {} → Brevo {brevo}{gone}", preview.intercom));
        if let Some(left) = &preview.left {
            printer.data(format!("  {left}"));
        }
        let all = |values: &BTreeMap<String, Json>, none: &str| {
            let words: Vec<String> = values
                .values()
                .map(|value| if value.is_null() { none.to_owned() } else { value_in_words(value) })
                .collect();
            if words.is_empty() { "–".to_owned() } else { words.join(" | ") }
        };
        let rows = preview.fields.into_iter().map(|field| {
            let (brevo, mut write) = (all(&field.brevo, "–"), all(&field.write, "(cleared)"));
            if !field.write_intercom.is_empty() {
                write = format!("to Intercom: {}", all(&field.write_intercom, "(cleared)"));
            }
            [field.rule, value_in_words(&field.intercom), brevo, write, field.why]
        });
        printer.table(&["rule", "Intercom", "Brevo", "would write", "why"], rows);
        printer.data(format!("  consent: {}", preview.consent));
        for list in &preview.lists {
            printer.data(format!("  list: {list}"));
        }
        for notice in &preview.notices {
            printer.data(format!("  notice: {}", notice_in_words(notice)));
        }
        printer.data("");
    }
    Ok(())
}

fn test(context: &Context) -> Result<(), CliError> {
    let printer = &context.printer;
    let config = context.config()?;
    context.warn_about(config);
    let results = run_cases(&config.mapping);
    let shown =
        |value: &Option<Value>| value.as_ref().map_or_else(|| "nothing".to_owned(), |value| format!("“{value}”"));
    let failed = results.iter().filter(|result| !result.failures.is_empty()).count();
    if printer.is_json() {
        let cases: Vec<_> = results
            .iter()
            .map(|result| {
                let failures: Vec<_> = result
                    .failures
                    .iter()
                    .map(|failure| {
                        json!({
                            "attribute": failure.attribute,
                            "expected": match &failure.expected {
                                Expected::Value(value) => json!(value.as_ref().map(Value::to_json)),
                                Expected::Problem(words) => json!({"problem": words}),
                            },
                            "found": failure.found.as_ref().ok().and_then(Option::as_ref).map(Value::to_json),
                            "problem": failure.found.as_ref().err(),
                        })
                    })
                    .collect();
                json!({"name": result.name, "ok": failures.is_empty(), "failures": failures})
            })
            .collect();
        printer.json(&json!({"ok": failed == 0, "cases": cases}));
    } else {
        for result in &results {
            let mark = if result.failures.is_empty() { printer.tick() } else { printer.cross() };
            printer.data(format!("{mark} {}", result.name));
            for failure in &result.failures {
                let found = match &failure.found {
                    Ok(value) => shown(value),
                    Err(problem) => format!("the problem “{problem}”"),
                };
                let expected = match &failure.expected {
                    Expected::Value(value) => shown(value),
                    Expected::Problem(words) => format!("a problem with “{words}” in it"),
                };
                printer.data(format!("    {}: expected {expected}, got {found}", failure.attribute));
            }
        }
        match results.len() {
            0 => printer.note("the mapping has no `cases:` yet; mappings/README.md shows how they are written"),
            all => printer.data(format!("{} of {all} examples hold", all - failed)),
        }
    }
    if failed == 0 { Ok(()) } else { Err(CliError::Said) }
}
