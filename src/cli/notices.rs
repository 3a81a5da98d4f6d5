//! `notices`: what `status` counts, one by one.

use super::progress::notice_in_words;
use super::{CliError, Context};
use crate::engine::NOTICE_KINDS;
use crate::store::Store;
use std::collections::BTreeSet;

#[derive(Debug, Clone, clap::Args)]
pub(super) struct Arguments {
    /// Only of this kind, as `status` names it: "without email", or without_email
    kind: Option<String>,
    /// How many at most
    #[arg(long, default_value_t = 100)]
    limit: usize,
}

pub(super) async fn run(context: &Context, arguments: &Arguments) -> Result<(), CliError> {
    let printer = &context.printer;
    let store = Store::open_read_only(&context.config()?.state.path)?;
    let there = store.read(|tx| tx.notice_kinds()).await?;
    let kind = arguments.kind.as_deref().map(|words| kind_named(words, &there)).transpose()?;
    let (of, limit) = (kind.clone(), arguments.limit);
    // One more than asked for tells whether there are more.
    let mut notices = store.read(move |tx| tx.list_notices(of.as_deref(), limit.saturating_add(1))).await?;
    let more = notices.len() > limit;
    notices.truncate(limit);
    if printer.is_json() {
        printer.json(&notices);
    } else if notices.is_empty() && !more {
        printer.note(kind.map_or_else(
            || "there is no notice".to_owned(),
            |kind| format!("there is no notice “{}”", notice_in_words(&kind)),
        ));
    } else {
        let rows = notices.into_iter().map(|notice| {
            [
                notice_in_words(&notice.kind),
                notice.subject,
                notice.detail.unwrap_or_default(),
                notice.since.format("%Y-%m-%d %H:%M").to_string(),
            ]
        });
        printer.table(&["notice", "about", "detail", "since"], rows);
    }
    if more {
        printer.note(format!("there are more than these {limit}; `--limit` shows more"));
    }
    Ok(())
}

/// The kind that people name in the words of `status`, or as `--json` has it.
fn kind_named(words: &str, there: &[String]) -> Result<String, CliError> {
    let kind = words.trim().to_lowercase().replace([' ', '-'], "_");
    // What an older version left in the state can be asked for, too.
    let known: BTreeSet<&str> = NOTICE_KINDS.into_iter().chain(there.iter().map(String::as_str)).collect();
    if known.contains(kind.as_str()) {
        return Ok(kind);
    }
    let known: Vec<&str> = known.into_iter().collect();
    Err(CliError::failed(format!("there is no kind of notice “{words}”; the kinds are {}", known.join(", "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_named_in_the_words_of_status() {
        for kind in NOTICE_KINDS {
            assert_eq!(kind_named(&notice_in_words(kind), &[]).unwrap(), kind);
            assert_eq!(kind_named(kind, &[]).unwrap(), kind);
        }
        let error = kind_named("no mail", &[]).unwrap_err().to_string();
        assert!(error.contains("“no mail”") && error.contains("without_email"), "{error}");
        assert_eq!(kind_named("of old", &["of_old".to_owned()]).unwrap(), "of_old");
    }
}
