//! Durable queues: webhooks that came in, events on their way out, imports at work.

use super::{Result, Tx, decode, encode, instant, millis, rare::Rare};
use crate::model::{BrevoContactId, Email, IntercomContactId, ProcessId, SideName};
use chrono::{DateTime, TimeDelta, Utc};
use rusqlite::{OptionalExtension as _, params};
use std::collections::BTreeMap;

/// A webhook as it came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InboxRow {
    /// Its place in the queue.
    pub seq: i64,
    /// Who sent it.
    pub side: SideName,
    /// When it came, by our clock.
    pub received_at: DateTime<Utc>,
    /// Its topic.
    pub topic: String,
    /// Its body, byte for byte.
    pub body: Vec<u8>,
}

/// An event on its way to Brevo. `event` is the engine's, as JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxRow {
    /// Its key.
    pub key: String,
    /// Whose event it is.
    pub contact: IntercomContactId,
    /// What happened.
    pub event: String,
    /// Whether a request with it left without an answer.
    pub uncertain: bool,
    /// The Brevo contact under which it left.
    pub sent_to: Option<BrevoContactId>,
    /// Failed tries.
    pub tries: u32,
    /// Since when it waits.
    pub queued_at: DateTime<Utc>,
}

/// How far an import is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImportStage {
    /// Rows are being gathered. Whoever gathers them holds them in memory: without them, it is void.
    Filling,
    /// The request has left (or was about to); no answer is recorded.
    Sending,
    /// Brevo is at work.
    Running,
    /// Brevo is done: what landed is to be read.
    ReadingBack,
    /// Brevo came to no end in all the time that it is given: what landed is to be read, the rest may land later.
    GivenUp,
}

impl ImportStage {
    /// Whether Brevo is not waited for any more.
    pub fn is_over(self) -> bool {
        matches!(self, Self::ReadingBack | Self::GivenUp)
    }
}

/// An import that is not over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportRowState {
    /// Our id.
    pub id: i64,
    /// Brevo's.
    pub process: Option<ProcessId>,
    /// How far it is.
    pub stage: ImportStage,
    /// Whether it creates contacts.
    pub creates: bool,
    /// How many rows it has.
    pub rows: usize,
    /// Brevo's clock when it was accepted.
    pub started_at: Option<DateTime<Utc>>,
    /// Our clock when it left.
    pub sent_at: DateTime<Utc>,
    /// Our clock when its progress was asked for last.
    pub checked_at: Option<DateTime<Utc>>,
    /// Brevo's report files by reason.
    pub reports: BTreeMap<String, String>,
    /// Our clock: until when a request without an answer may land; `None`: four minutes after it left.
    pub landed_by: Option<DateTime<Utc>>,
}

impl Tx<'_> {
    /// Keeps a webhook before it is acknowledged. `false`: it is here already (Intercom sends some twice).
    pub fn put_inbox(&self, id: Option<&str>, topic: &str, body: &[u8], now: DateTime<Utc>) -> Result<bool> {
        self.put_inbox_of(SideName::Intercom, id, topic, body, now)
    }

    /// Keeps a webhook of Brevo's, one event or a batch of them. They carry no delivery id, so each is new.
    pub fn put_brevo_inbox(&self, topic: &str, body: &[u8], now: DateTime<Utc>) -> Result<()> {
        self.put_inbox_of(SideName::Brevo, None, topic, body, now).map(drop)
    }

    fn put_inbox_of(
        &self,
        side: SideName,
        id: Option<&str>,
        topic: &str,
        body: &[u8],
        now: DateTime<Utc>,
    ) -> Result<bool> {
        let inserted = self
            .0
            .prepare_cached(
                "INSERT OR IGNORE INTO inbox (side, id, topic, body, received_at) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![side.as_str(), id, topic, body, millis(now)])?;
        Ok(inserted > 0)
    }

    /// Webhooks that wait, in the order they came.
    pub fn open_inbox(&self, limit: usize) -> Result<Vec<InboxRow>> {
        let mut statement = self.0.prepare_cached(
            "SELECT seq, topic, body, side, received_at FROM inbox WHERE done_at IS NULL ORDER BY seq LIMIT ?1",
        )?;
        let rows = statement.query_map([limit], |row| {
            let side = row.get::<_, String>(3)?;
            Ok(InboxRow {
                seq: row.get(0)?,
                topic: row.get(1)?,
                body: row.get(2)?,
                side: if side == SideName::Brevo.as_str() { SideName::Brevo } else { SideName::Intercom },
                received_at: instant(row.get(4)?),
            })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// A webhook was acted on. Its body is not needed any more; its id is, for a while, to know a repeat.
    pub fn finish_inbox(&self, seq: i64, outcome: &str, now: DateTime<Utc>) -> Result<()> {
        self.0
            .prepare_cached("UPDATE inbox SET done_at = ?2, outcome = ?3, body = x'' WHERE seq = ?1")?
            .execute(params![seq, millis(now), outcome])?;
        Ok(())
    }

    /// Forgets webhooks that were done before `before`.
    pub fn prune_inbox(&self, before: DateTime<Utc>) -> Result<usize> {
        Ok(self.0.execute("DELETE FROM inbox WHERE done_at < ?1", [millis(before)])?)
    }

    /// How many webhooks wait; when the last one came.
    pub fn inbox_state(&self) -> Result<(u64, Option<DateTime<Utc>>)> {
        let open: i64 = self
            .0
            .prepare_cached("SELECT count(*) FROM inbox WHERE done_at IS NULL")?
            .query_row([], |row| row.get(0))?;
        let last: Option<i64> =
            self.0.prepare_cached("SELECT max(received_at) FROM inbox")?.query_row([], |row| row.get(0))?;
        Ok((open.unsigned_abs(), last.map(instant)))
    }

    /// Queues an event once: the key makes a webhook and a poll send one. `false`: it is known.
    pub fn put_outbox(&self, key: &str, contact: &IntercomContactId, event: &str, now: DateTime<Utc>) -> Result<bool> {
        let inserted = self
            .0
            .prepare_cached("INSERT OR IGNORE INTO outbox (key, contact, event, queued_at) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![key, contact.as_str(), event, millis(now)])?;
        Ok(inserted > 0)
    }

    /// Events that are due.
    pub fn open_outbox(&self, now: DateTime<Utc>, limit: usize) -> Result<Vec<OutboxRow>> {
        let mut statement = self.0.prepare_cached(
            "SELECT key, contact, event, state = 'sending', tries, queued_at, sent_to FROM outbox
             WHERE state IN ('open', 'sending') AND not_before <= ?1 ORDER BY not_before, queued_at, key LIMIT ?2",
        )?;
        let rows = statement.query_map(params![millis(now), limit], |row| {
            Ok(OutboxRow {
                key: row.get(0)?,
                contact: IntercomContactId::new(row.get::<_, String>(1)?),
                event: row.get(2)?,
                uncertain: row.get(3)?,
                tries: row.get(4)?,
                queued_at: instant(row.get(5)?),
                sent_to: row.get::<_, Option<i64>>(6)?.map(BrevoContactId::new),
            })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Notes how an event is doing: `open`, `sending`, `sent`, `dead`.
    pub fn set_outbox(&self, key: &str, state: &str, not_before: DateTime<Utc>, failed: bool) -> Result<()> {
        self.0
            .prepare_cached(
                "UPDATE outbox SET state = ?2, not_before = ?3, tries = tries + ?4,
                 sent_at = CASE WHEN ?2 = 'sent' THEN ?3 END WHERE key = ?1",
            )?
            .execute(params![key, state, millis(not_before), failed])?;
        Ok(())
    }

    /// An event is about to leave. Until its answer is recorded it counts as of unknown outcome, and what became of it is
    /// asked at `ask_at` at the earliest: only then can a request that timed out no longer land.
    pub fn outbox_leaves(&self, key: &str, to: BrevoContactId, ask_at: DateTime<Utc>) -> Result<()> {
        self.0
            .prepare_cached("UPDATE outbox SET state = 'sending', sent_to = ?2, not_before = ?3 WHERE key = ?1")?
            .execute(params![key, to.get(), millis(ask_at)])?;
        Ok(())
    }

    /// After a start: events that had left without an answer may still land for a while, counted from now.
    pub fn reopen_unanswered_events(&self, ask_at: DateTime<Utc>) -> Result<usize> {
        Ok(self
            .0
            .execute("UPDATE outbox SET not_before = max(not_before, ?1) WHERE state = 'sending'", [millis(ask_at)])?)
    }

    /// Forgets events that were queued before `before` and are over. Their keys are not needed any more: nothing that old
    /// is queued again.
    pub fn prune_outbox(&self, before: DateTime<Utc>) -> Result<usize> {
        Ok(self.0.execute("DELETE FROM outbox WHERE state IN ('sent', 'dead') AND queued_at < ?1", [millis(before)])?)
    }

    /// How many events wait.
    pub fn count_outbox(&self) -> Result<u64> {
        let open: i64 = self
            .0
            .prepare_cached("SELECT count(*) FROM outbox WHERE state IN ('open', 'sending')")?
            .query_row([], |row| row.get(0))?;
        Ok(open.unsigned_abs())
    }

    /// An import that rows are gathered for.
    pub fn new_import(&self, creates: bool, now: DateTime<Utc>) -> Result<i64> {
        self.0.execute(
            "INSERT INTO imports (state, kind, rows, sent_at) VALUES ('filling', ?1, 0, ?2)",
            params![if creates { "create" } else { "update" }, millis(now)],
        )?;
        Ok(self.0.last_insert_rowid())
    }

    /// The import is about to leave.
    pub fn import_leaves(&self, id: i64, rows: usize, now: DateTime<Utc>) -> Result<()> {
        self.0.execute(
            "UPDATE imports SET state = 'sending', rows = ?2, sent_at = ?3 WHERE id = ?1",
            params![id, rows, millis(now)],
        )?;
        Ok(())
    }

    /// Until when an import without an answer may still land.
    pub fn import_may_land(&self, id: i64, landed_by: DateTime<Utc>) -> Result<()> {
        self.0.execute("UPDATE imports SET landed_by = ?2 WHERE id = ?1", params![id, millis(landed_by)])?;
        Ok(())
    }

    /// After a start: what had left without an answer may still land for a while, counted from now, but no later than
    /// `longest` after it was handed over for sending.
    pub fn reopen_unanswered_imports(&self, landed_by: DateTime<Utc>, longest: TimeDelta) -> Result<usize> {
        Ok(self.0.execute(
            "UPDATE imports SET landed_by = min(?1, sent_at + ?2) WHERE state = 'sending'",
            [millis(landed_by), longest.num_milliseconds()],
        )?)
    }

    /// Imports that rows were gathered for.
    pub fn filling_imports(&self) -> Result<Vec<i64>> {
        let mut statement = self.0.prepare_cached("SELECT id FROM imports WHERE state = 'filling'")?;
        let ids = statement.query_map([], |row| row.get(0))?;
        Ok(ids.collect::<rusqlite::Result<_>>()?)
    }

    /// Notes how far an import is.
    pub fn put_import(&self, import: &ImportRowState) -> Result<()> {
        let state = match import.stage {
            ImportStage::Filling => "filling",
            ImportStage::Sending => "sending",
            ImportStage::Running => "running",
            ImportStage::ReadingBack => "reading_back",
            ImportStage::GivenUp => "given_up",
        };
        self.0
            .prepare_cached(
                "UPDATE imports SET process = ?2, state = ?3, started_at = ?4, checked_at = ?5, reports = ?6 WHERE id = ?1",
            )?
            .execute(params![
                import.id,
                import.process.map(ProcessId::get),
                state,
                import.started_at.map(millis),
                import.checked_at.map(millis),
                encode("imports", &import.reports)?,
            ])?;
        Ok(())
    }

    /// The import is read back.
    pub fn end_import(&self, id: i64) -> Result<()> {
        self.0.execute("UPDATE imports SET state = 'done' WHERE id = ?1", [id])?;
        Ok(())
    }

    /// When Brevo finished an import last. (One that was given up has not been looked at since.)
    pub fn last_import_end(&self) -> Result<Option<DateTime<Utc>>> {
        let last: Option<i64> = self
            .0
            .prepare_cached("SELECT max(checked_at) FROM imports WHERE state IN ('reading_back', 'done')")?
            .query_row([], |row| row.get(0))?;
        Ok(last.map(instant))
    }

    /// A row of an update import that was given up may still land, and undo what was written since. It lands on the
    /// contact, whosever that is by then.
    pub fn put_late_row(&self, contact: BrevoContactId, until: DateTime<Utc>) -> Result<()> {
        self.fills(Rare::LateRows);
        self.0
            .prepare_cached("INSERT OR REPLACE INTO late_rows (brevo_id, until) VALUES (?1, ?2)")?
            .execute(params![contact.get(), millis(until)])?;
        Ok(())
    }

    /// Whether a row of an import may still land on this contact.
    pub fn may_land_late(&self, contact: BrevoContactId) -> Result<bool> {
        Ok(self.holds(Rare::LateRows)?
            && self
                .0
                .prepare_cached("SELECT EXISTS (SELECT 1 FROM late_rows WHERE brevo_id = ?1)")?
                .query_row([contact.get()], |row| row.get(0))?)
    }

    /// A row of an import of which nobody knows what became may still land under this address, and make a contact if
    /// nobody there has it.
    pub fn put_late_address(&self, link: i64, email: &Email, until: DateTime<Utc>) -> Result<()> {
        self.fills(Rare::LateAddresses);
        self.0
            .prepare_cached("INSERT OR REPLACE INTO late_addresses (email, link, until) VALUES (?1, ?2, ?3)")?
            .execute(params![email.as_str(), link, millis(until)])?;
        Ok(())
    }

    /// Until when a row may still land under this address.
    pub fn late_address_until(&self, email: &Email, now: DateTime<Utc>) -> Result<Option<DateTime<Utc>>> {
        if !self.holds(Rare::LateAddresses)? {
            return Ok(None);
        }
        let until: Option<i64> = self
            .0
            .prepare_cached("SELECT max(until) FROM late_addresses WHERE email = ?1 AND until > ?2")?
            .query_row(params![email.as_str(), millis(now)], |row| row.get(0))?;
        Ok(until.map(instant))
    }

    /// Whom a row or a request that may land late would make a contact with this address.
    pub fn whose_late_address(&self, email: &Email) -> Result<Vec<i64>> {
        if !self.holds(Rare::LateAddresses)? {
            return Ok(Vec::new());
        }
        let mut statement = self.0.prepare_cached("SELECT link FROM late_addresses WHERE email = ?1 ORDER BY link")?;
        let links = statement.query_map([email.as_str()], |row| row.get(0))?;
        Ok(links.collect::<rusqlite::Result<_>>()?)
    }

    /// Another address under which a row of this person's may still land, and until when.
    pub fn late_address_of(
        &self,
        link: i64,
        but: Option<&Email>,
        now: DateTime<Utc>,
    ) -> Result<Option<(Email, DateTime<Utc>)>> {
        if !self.holds(Rare::LateAddresses)? {
            return Ok(None);
        }
        let late: Option<(String, i64)> = self
            .0
            .prepare_cached(
                "SELECT email, until FROM late_addresses WHERE link = ?1 AND email IS NOT ?2 AND until > ?3
                 ORDER BY until DESC LIMIT 1",
            )?
            .query_row(params![link, but.map(Email::as_str), millis(now)], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        Ok(late.and_then(|(email, until)| Some((Email::parse(&email).ok()?, instant(until)))))
    }

    /// Forgets rows that land no more.
    pub fn prune_late_rows(&self, now: DateTime<Utc>) -> Result<usize> {
        self.0.execute("DELETE FROM late_addresses WHERE until < ?1", [millis(now)])?;
        Ok(self.0.execute("DELETE FROM late_rows WHERE until < ?1", [millis(now)])?)
    }

    /// Imports that have left and are not over.
    pub fn open_imports(&self) -> Result<Vec<ImportRowState>> {
        let mut statement = self.0.prepare_cached(
            "SELECT id, process, state, kind, rows, started_at, sent_at, checked_at, reports, landed_by FROM imports
             WHERE state NOT IN ('done', 'filling') ORDER BY id",
        )?;
        let rows = statement.query_map([], |row| {
            let at = |index| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(index)?.map(instant));
            let import = ImportRowState {
                id: row.get(0)?,
                process: row.get::<_, Option<i64>>(1)?.map(ProcessId::new),
                stage: match row.get::<_, String>(2)?.as_str() {
                    "filling" => ImportStage::Filling,
                    "sending" => ImportStage::Sending,
                    "running" => ImportStage::Running,
                    "given_up" => ImportStage::GivenUp,
                    _ => ImportStage::ReadingBack,
                },
                creates: row.get::<_, String>(3)? == "create",
                rows: row.get(4)?,
                started_at: at(5)?,
                sent_at: instant(row.get(6)?),
                checked_at: at(7)?,
                reports: BTreeMap::new(),
                landed_by: at(9)?,
            };
            Ok((import, row.get::<_, Option<String>>(8)?))
        })?;
        rows.map(|row| {
            let (import, reports) = row?;
            let reports = reports.map(|text| decode("imports", &text)).transpose()?.unwrap_or_default();
            Ok(ImportRowState { reports, ..import })
        })
        .collect()
    }
}
