//! `conflicts`: what was replaced.

use super::{CliError, Context};
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
                conflict.lost.clone(),
                conflict.kept.clone(),
                conflict.rule.clone(),
            ]
        });
        printer.table(&["when", "link", "field", "replaced", "by", "why"], rows);
    }
    Ok(())
}
