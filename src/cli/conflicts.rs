//! `conflicts`: what was replaced.

use super::printer::value_in_words;
use super::{CliError, Context};
use crate::model::Value;
use crate::store::Store;
use crate::store::listings::ListedConflict;
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value as Json;

#[derive(Debug, Clone, clap::Args)]
pub(super) struct Arguments {
    /// How many at most
    #[arg(long, default_value_t = 100)]
    limit: usize,
}

/// A row for programs: values are JSON values, one for each attribute of the rule.
#[derive(Debug, Serialize)]
struct Shown {
    at: DateTime<Utc>,
    intercom: Option<String>,
    brevo: Option<i64>,
    field: String,
    lost: Vec<Json>,
    kept: Vec<Json>,
    rule: String,
    import: Option<i64>,
}

pub(super) async fn run(context: &Context, arguments: &Arguments) -> Result<(), CliError> {
    let printer = &context.printer;
    let store = Store::open_read_only(&context.config()?.state.path)?;
    let limit = arguments.limit;
    let conflicts = store.read(move |tx| tx.list_conflicts(None, limit)).await?;
    let rows = conflicts.into_iter().map(|ListedConflict { conflict, intercom, brevo }| Shown {
        at: conflict.at,
        intercom,
        brevo,
        field: conflict.field,
        lost: values(&conflict.lost),
        kept: values(&conflict.kept),
        rule: conflict.rule,
        import: conflict.import,
    });
    let rows: Vec<Shown> = rows.collect();
    if printer.is_json() {
        printer.json(&rows);
    } else if rows.is_empty() {
        printer.note("no value was replaced that somebody had not agreed to");
    } else {
        let rows = rows.into_iter().map(|row| {
            let intercom = row.intercom.map_or_else(|| "contact –".to_owned(), |id| format!("contact {id}"));
            let brevo = row.brevo.map(|id| format!("\n(Brevo contact {id})")).unwrap_or_default();
            [
                row.at.format("%Y-%m-%d %H:%M").to_string(),
                intercom + &brevo,
                row.field,
                in_words(&row.lost),
                in_words(&row.kept),
                row.rule,
            ]
        });
        printer.table(&["when", "record", "field", "replaced", "by", "why"], rows);
    }
    Ok(())
}

/// The cells that the state keeps, as plain JSON values.
fn values(cells: &str) -> Vec<Json> {
    match serde_json::from_str::<Vec<Option<Value>>>(cells) {
        Ok(cells) => cells.iter().map(|cell| cell.as_ref().map_or(Json::Null, Value::to_json)).collect(),
        Err(_) => vec![cells.into()],
    }
}

/// As people write them.
fn in_words(values: &[Json]) -> String {
    values.iter().map(value_in_words).collect::<Vec<_>>().join(" | ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn cells_are_values_and_are_shown_as_people_write_them() {
        let cells = serde_json::to_string(&[Value::text("Ada"), None, Some(Value::Boolean(true))]).unwrap();
        assert_eq!(values(&cells), [json!("Ada"), Json::Null, json!(true)]);
        assert_eq!(in_words(&values(&cells)), "Ada | – | true");
        assert_eq!(in_words(&[json!(["a", "b"]), json!(1.5)]), "a, b | 1.5");
        assert_eq!(in_words(&values("unreadable")), "unreadable");
    }
}
