//! What is kept about one person beside their views: for whoever asks about them.

use super::listings::{Failure, NoticeRow};
use super::{Result, Tx, instant};
use crate::model::{BrevoContactId, Email, IntercomContactId};
use chrono::{DateTime, Utc};
use rusqlite::{OptionalExtension as _, params};
use serde::Serialize;

/// What a link waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkWaits {
    /// It is not planned before.
    pub not_before: Option<DateTime<Utc>>,
    /// The address that its Brevo contact cannot take, because somebody else has it.
    pub rename_held: Option<Email>,
}

/// What is kept about an Intercom contact beside what was observed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContactWaits {
    /// What a notice said: archived, deleted.
    pub said_gone: Option<String>,
    /// Missing: when it is looked for under its other identifiers.
    pub gone_check_at: Option<DateTime<Utc>>,
    /// Who they are is to be decided (again).
    pub unplaced: bool,
    /// A full read did not show it, and it is to be asked for by id.
    pub to_confirm: bool,
}

/// An import, over or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ImportShown {
    /// Our number.
    pub id: i64,
    /// Brevo's.
    pub process: Option<i64>,
    /// filling, sending, running, `reading_back`, `given_up`, done.
    pub state: String,
    /// create, update.
    pub kind: String,
    /// How many people are in it.
    pub rows: u64,
    /// When it left, or rows began to be gathered for it.
    pub sent_at: DateTime<Utc>,
    /// Until when it may land, if its answer was lost.
    pub landed_by: Option<DateTime<Utc>>,
}

/// An event that was queued for Brevo. `event` is the engine's, as JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRow {
    /// Its key.
    pub key: String,
    /// Whose it is.
    pub contact: IntercomContactId,
    /// What happened.
    pub event: String,
    /// open, sending (outcome unknown), sent, dead.
    pub state: String,
    /// When it was queued.
    pub queued_at: DateTime<Utc>,
    /// When Brevo took it.
    pub sent_at: Option<DateTime<Utc>>,
    /// Failed tries.
    pub tries: u32,
    /// It is not sent before.
    pub not_before: Option<DateTime<Utc>>,
}

fn later(millis: i64) -> Option<DateTime<Utc>> {
    (millis > 0).then(|| instant(millis))
}

impl Tx<'_> {
    /// The Intercom contacts with this address, those that are gone included.
    pub fn intercom_ids_by_email(&self, email: &Email) -> Result<Vec<IntercomContactId>> {
        let mut statement = self.0.prepare_cached("SELECT id FROM intercom_contacts WHERE email = ?1 ORDER BY id")?;
        let ids = statement.query_map([email.as_str()], |row| row.get::<_, String>(0))?;
        Ok(ids.map(|id| id.map(IntercomContactId::new)).collect::<rusqlite::Result<_>>()?)
    }

    /// Whether a Brevo contact is known to be gone. `None`: nothing is known of it.
    pub fn is_brevo_gone(&self, id: BrevoContactId) -> Result<Option<bool>> {
        Ok(self
            .0
            .prepare_cached("SELECT gone FROM brevo_contacts WHERE id = ?1")?
            .query_row([id.get()], |row| row.get(0))
            .optional()?)
    }

    /// Whether a Brevo contact was made by us and has not been read back yet.
    pub fn is_brevo_provisional(&self, id: BrevoContactId) -> Result<bool> {
        let modified: Option<i64> = self
            .0
            .prepare_cached("SELECT modified_at FROM brevo_contacts WHERE id = ?1")?
            .query_row([id.get()], |row| row.get(0))
            .optional()?;
        Ok(modified == Some(0))
    }

    /// What a link waits for.
    pub fn link_waits(&self, link: i64) -> Result<Option<LinkWaits>> {
        Ok(self
            .0
            .prepare_cached("SELECT not_before, rename_held FROM links WHERE id = ?1")?
            .query_row([link], |row| {
                Ok(LinkWaits {
                    not_before: later(row.get(0)?),
                    rename_held: row.get::<_, Option<String>>(1)?.map(Email::from_kept),
                })
            })
            .optional()?)
    }

    /// What is kept about an Intercom contact beside what was observed.
    pub fn contact_waits(&self, id: &IntercomContactId) -> Result<Option<ContactWaits>> {
        Ok(self
            .0
            .prepare_cached(
                "SELECT said_gone, gone_check_at, unplaced > 0,
                        EXISTS (SELECT 1 FROM to_confirm WHERE side = 'intercom' AND id = c.id)
                 FROM intercom_contacts c WHERE id = ?1",
            )?
            .query_row([id.as_str()], |row| {
                Ok(ContactWaits {
                    said_gone: row.get(0)?,
                    gone_check_at: row.get::<_, Option<i64>>(1)?.and_then(later),
                    unplaced: row.get(2)?,
                    to_confirm: row.get(3)?,
                })
            })
            .optional()?)
    }

    /// An import, over or not.
    pub fn import_shown(&self, id: i64) -> Result<Option<ImportShown>> {
        Ok(self
            .0
            .prepare_cached("SELECT id, process, state, kind, rows, sent_at, landed_by FROM imports WHERE id = ?1")?
            .query_row([id], |row| {
                Ok(ImportShown {
                    id: row.get(0)?,
                    process: row.get(1)?,
                    state: row.get(2)?,
                    kind: row.get(3)?,
                    rows: row.get::<_, i64>(4)?.unsigned_abs(),
                    sent_at: instant(row.get(5)?),
                    landed_by: row.get::<_, Option<i64>>(6)?.map(instant),
                })
            })
            .optional()?)
    }

    /// A contact's events, the newest first.
    pub fn events_of(&self, contact: &IntercomContactId, limit: usize) -> Result<Vec<EventRow>> {
        let mut statement = self.0.prepare_cached(
            "SELECT key, contact, event, state, queued_at, sent_at, tries, not_before FROM outbox
             WHERE contact = ?1 ORDER BY state IN ('open', 'sending') DESC, queued_at DESC, key LIMIT ?2",
        )?;
        let rows = statement.query_map(params![contact.as_str(), limit], |row| {
            Ok(EventRow {
                key: row.get(0)?,
                contact: IntercomContactId::new(row.get::<_, String>(1)?),
                event: row.get(2)?,
                state: row.get(3)?,
                queued_at: instant(row.get(4)?),
                sent_at: row.get::<_, Option<i64>>(5)?.map(instant),
                tries: row.get(6)?,
                not_before: later(row.get(7)?),
            })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Webhooks that wait and whose body holds one of these words.
    pub fn webhooks_naming(&self, words: &[String]) -> Result<u64> {
        let mut statement = self.0.prepare_cached("SELECT body FROM inbox WHERE done_at IS NULL")?;
        let mut rows = statement.query([])?;
        let mut naming = 0;
        while let Some(row) = rows.next()? {
            let body = String::from_utf8_lossy(row.get_ref(0)?.as_bytes().unwrap_or_default()).to_lowercase();
            naming += u64::from(words.iter().any(|word| body.contains(word.as_str())));
        }
        Ok(naming)
    }

    /// Whether Brevo's webhooks named this address or contact, and nobody has read it since.
    pub fn is_named_by_brevo(&self, email: Option<&Email>, contact: Option<BrevoContactId>) -> Result<bool> {
        let id = contact.map(|id| format!("#{id}"));
        Ok(self
            .0
            .prepare_cached("SELECT EXISTS (SELECT 1 FROM brevo_hints WHERE name = ?1 OR name = ?2)")?
            .query_row(params![email.map(Email::as_str), id], |row| row.get(0))?)
    }

    /// What was refused or left out about a link or any of these records, the newest first.
    pub fn failures_about(&self, link: Option<i64>, subjects: &[String]) -> Result<Vec<Failure>> {
        let mut all = self.failures(usize::MAX)?;
        all.retain(|failure| (link.is_some() && failure.link == link) || subjects.contains(&failure.subject));
        Ok(all)
    }

    /// What people are told about any of these records.
    pub fn notices_about(&self, subjects: &[String]) -> Result<Vec<NoticeRow>> {
        let mut statement = self
            .0
            .prepare_cached("SELECT kind, subject, detail, since FROM notices WHERE subject = ?1 ORDER BY kind")?;
        let mut found = Vec::new();
        for subject in subjects {
            let rows = statement.query_map([subject], |row| {
                Ok(NoticeRow {
                    kind: row.get(0)?,
                    subject: row.get(1)?,
                    detail: row.get(2)?,
                    since: instant(row.get(3)?),
                })
            })?;
            found.extend(rows.collect::<rusqlite::Result<Vec<_>>>()?);
        }
        Ok(found)
    }
}
