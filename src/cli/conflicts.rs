//! `conflicts`: what was replaced.

use super::{CliError, Context};
use crate::model::Value;
use crate::store::Store;

#[derive(Debug, Clone, clap::Args)]
pub(super) struct Arguments {
    /// How many at most
    #[arg(long, default_value_t = 100)]
    limit: usize,
}

pub(super) async fn run(context: &Context, arguments: &Arguments) -> Result<(), CliError> {
    let printer = &context.printer;
    let store = Store::open_read_only(&context.config()?.state.path)?;
    let limit = arguments.limit;
    let conflicts = store.read(move |tx| tx.conflicts(limit)).await?;
    if printer.is_json() {
        printer.json(&conflicts);
    } else if conflicts.is_empty() {
        printer.note("no value was replaced that somebody had not agreed to");
    } else {
        let rows = conflicts.iter().map(|conflict| {
            [
                conflict.at.format("%Y-%m-%d %H:%M").to_string(),
                conflict.link.to_string(),
                conflict.field.clone(),
                in_words(&conflict.lost),
                in_words(&conflict.kept),
                conflict.rule.clone(),
            ]
        });
        printer.table(&["when", "link", "field", "replaced", "by", "why"], rows);
    }
    Ok(())
}

/// The cells that the state keeps as JSON, as people write them.
fn in_words(cells: &str) -> String {
    match serde_json::from_str::<Vec<Option<Value>>>(cells) {
        Ok(cells) => {
            let cells = cells.iter().map(|cell| cell.as_ref().map_or_else(|| "–".to_owned(), ToString::to_string));
            cells.collect::<Vec<_>>().join(" | ")
        }
        Err(_) => cells.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_shown_as_people_write_them() {
        let cells = serde_json::to_string(&[Value::text("Ada"), None]).unwrap();
        assert_eq!(in_words(&cells), "Ada | –");
        assert_eq!(in_words("unreadable"), "unreadable");
    }
}
