//! `state`: a copy of the state, whether it is sound, and the room that nobody uses.

use super::printer::counted;
use super::{CliError, Context, connect};
use crate::engine::look_at_all;
use crate::store::{Calling, Store};
use serde_json::json;
use std::path::{Path, PathBuf};

#[derive(Debug, Clone, clap::Subcommand)]
pub(super) enum Command {
    /// Write a copy of the state to a file, also while the daemon runs
    Backup {
        /// Where to; it must not exist yet
        file: PathBuf,
    },
    /// Read all of the state, or of a copy: is it sound? Also while the daemon runs
    Verify {
        /// A copy [default: the state itself]
        file: Option<PathBuf>,
    },
    /// Give the room back that nobody uses any more; the daemon must not run
    Vacuum,
}

pub(super) async fn run(context: &Context, command: &Command) -> Result<(), CliError> {
    let path = &context.config()?.state.path;
    match command {
        Command::Backup { file } => back_up(context, path, file).await,
        Command::Verify { file } => verify(context, file.as_ref().unwrap_or(path)).await,
        Command::Vacuum => vacuum(context, path).await,
    }
}

async fn back_up(context: &Context, path: &Path, to: &Path) -> Result<(), CliError> {
    let bytes = Store::open_read_only(path)?.back_up(to).await?;
    let printer = &context.printer;
    if printer.is_json() {
        printer.json(&json!({"backup": to, "bytes": bytes}));
        return Ok(());
    }
    printer.data(format!("{}: {}", to.display(), size(bytes)));
    printer.note(
        "it holds personal data, and nobody forgets anybody in it: keep it as long as you need it. To go back to it: stop \
         linkspan, move the state away (see `state.path`) with its -wal and -shm, put this in its place, and run \
         `linkspan sync --full`",
    );
    Ok(())
}

async fn verify(context: &Context, path: &Path) -> Result<(), CliError> {
    let store = Store::open_read_only(path)?;
    let faults = store.faults().await?;
    // In a file that is not sound whatever is read may be something else.
    let looked = if faults.is_empty() { look_at_all(&store).await? } else { crate::engine::Sound::default() };
    let sound = faults.is_empty() && looked.unreadable == 0;
    let printer = &context.printer;
    let named: Vec<String> = looked.named.iter().map(ToString::to_string).collect();
    if printer.is_json() {
        printer.json(&json!({
            "sound": sound,
            "faults": faults,
            "records": looked.records,
            "unreadable": looked.unreadable,
            "unreadable_records": named,
        }));
        return if sound { Ok(()) } else { Err(CliError::Said) };
    }
    if sound {
        printer.data(format!("{} {}: sound", printer.tick(), counted(looked.records, "record")));
        return Ok(());
    }
    for fault in &faults {
        printer.data(format!("{} {fault}", printer.cross()));
    }
    for record in &named {
        printer.data(format!("{} {record} cannot be read", printer.cross()));
    }
    if faults.is_empty() {
        return Err(CliError::failed(format!(
            "{} of {} cannot be read. Contacts, companies and conversations are read anew by the next `linkspan sync --full`; \
             a link that cannot be read is in `failed list`, and its person is left alone but for opt-outs",
            looked.unreadable,
            counted(looked.records, "record")
        )));
    }
    Err(crate::store::StoreError::Corrupt(format!("SQLite names {}", counted(faults.len() as u64, "fault"))).into())
}

async fn vacuum(context: &Context, path: &Path) -> Result<(), CliError> {
    // Opened for reading first, so that no state is made or migrated here.
    drop(Store::open_read_only(path)?);
    let _owner = connect::own(context, context.config()?, "state vacuum")?;
    let (before, after) = Store::open(path, Calling::Blocking)?.vacuum().await?;
    let printer = &context.printer;
    if printer.is_json() {
        printer.json(&json!({"bytes_before": before, "bytes": after}));
        return Ok(());
    }
    match after {
        Some(after) => printer.data(format!("{} → {}", size(before), size(after))),
        None => printer.data("built anew; somebody reads beside us, and the file shrinks once they are done"),
    }
    Ok(())
}

/// In words, as people count.
fn size(bytes: u64) -> String {
    let tenths = |unit: u64| format!("{}.{}", bytes / unit, bytes % unit * 10 / unit);
    match bytes {
        0..1_024 => counted(bytes, "byte"),
        1_024..1_048_576 => format!("{} KiB", tenths(1_024)),
        _ => format!("{} MiB", tenths(1_048_576)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_said_as_people_count() {
        assert_eq!(size(1), "1 byte");
        assert_eq!(size(1_536), "1.5 KiB");
        assert_eq!(size(3 * 1_048_576 + 104_858), "3.1 MiB");
    }
}
