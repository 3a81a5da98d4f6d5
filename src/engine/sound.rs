//! Whether all that the state keeps can be read back.

use super::observe::{base_of, flights_of};
use crate::store::upkeep::Kind;
use crate::store::{Record, Result, Store, Tx};

/// Records looked at in one transaction: short ones, so that the state's owner is never held up.
const AT_ONCE: usize = 500;
/// Records that are named.
const MOST_NAMED: usize = 100;

/// What a look at every record has found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sound {
    /// So many were looked at.
    pub records: u64,
    /// So many of them cannot be read.
    pub unreadable: u64,
    /// The first of those.
    pub named: Vec<Record>,
}

/// Reads each contact, company, conversation and link of the state, one short transaction after the other: its owner may go
/// on meanwhile, and what comes or goes then may be missed.
///
/// # Errors
/// If the state cannot be read at all.
pub async fn look_at_all(store: &Store) -> Result<Sound> {
    let mut looked = Sound::default();
    for kind in Kind::ALL {
        let mut last = None;
        loop {
            let after = last.clone();
            let (some, unreadable) = store.read(move |tx| look_at_some(tx, kind, after.as_ref())).await?;
            looked.records += some.len() as u64;
            looked.unreadable += unreadable.len() as u64;
            let room = MOST_NAMED.saturating_sub(looked.named.len());
            looked.named.extend(unreadable.into_iter().take(room));
            last = some.into_iter().last();
            if last.is_none() {
                break;
            }
        }
    }
    Ok(looked)
}

fn look_at_some(tx: &Tx<'_>, kind: Kind, after: Option<&Record>) -> Result<(Vec<Record>, Vec<Record>)> {
    let some = tx.some_after(kind, after, AT_ONCE)?;
    let mut unreadable = Vec::new();
    for record in &some {
        match look_at(tx, record) {
            Ok(()) => {}
            Err(error) => match error.unreadable() {
                Some(_) => unreadable.push(record.clone()),
                None => return Err(error),
            },
        }
    }
    Ok((some, unreadable))
}

fn look_at(tx: &Tx<'_>, record: &Record) -> Result<()> {
    match record {
        Record::Intercom(id) => tx.intercom_contact(id).map(drop),
        Record::Brevo(id) => tx.brevo_contact(*id).map(drop),
        Record::Company(id) => tx.company(id).map(drop),
        Record::Conversation(id) => tx.conversation(id).map(drop),
        Record::Link(id) => {
            let Some(link) = tx.link(*id)? else { return Ok(()) };
            base_of(&link)?;
            flights_of(&link).map(drop)
        }
    }
}
