//! Brevo contacts that nobody in Intercom is linked to and that are to be made there.

use super::harm::held_until;
use super::rare::Rare;
use super::{Result, Tx, instant, millis};
use crate::model::{BrevoContactId, Email, IntercomContactId};
use chrono::{DateTime, Utc};
use rusqlite::{OptionalExtension as _, Row, params};

/// How far it is with one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Looked for in Intercom when it is due; then made.
    Waiting,
    /// The request that makes it has left, and no answer was kept.
    Sent,
    /// That request may have made it: it is looked for first.
    Unsure,
    /// It is there: its external id is still to be added.
    Made,
    /// It cannot be made, which is listed; it is looked at again when it changes, and now and then.
    Listed,
    /// It is left alone: whose it was has another contact by now.
    Alone,
}

impl Stage {
    fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Sent => "sent",
            Self::Unsure => "unsure",
            Self::Made => "made",
            Self::Listed => "listed",
            Self::Alone => "alone",
        }
    }

    fn parse(text: &str) -> Self {
        match text {
            "sent" => Self::Sent,
            "unsure" => Self::Unsure,
            "made" => Self::Made,
            "listed" => Self::Listed,
            "alone" => Self::Alone,
            _ => Self::Waiting,
        }
    }
}

/// A Brevo contact that is to be made in Intercom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Newcomer {
    /// Which.
    pub brevo: BrevoContactId,
    /// How far it is.
    pub stage: Stage,
    /// When something is done about it next.
    pub due: DateTime<Utc>,
    /// The address with which the request left that made it, or may have.
    pub email: Option<Email>,
    /// An opt-out rode along in that request.
    pub opted_out: bool,
    /// What was made.
    pub contact: Option<IntercomContactId>,
    /// The external id that the Brevo contact had then, and that nobody was found by.
    pub ext_id: Option<String>,
    /// Refusals in a row.
    pub tries: u32,
}

const COLUMNS: &str = "brevo, stage, due, email, contact, tries, opted_out, ext_id";

// This is asked at each push while a hold stands: it must cost as much as there are newcomers, whoever else is linked.
const DROP_LINKED: &str = "DELETE FROM newcomers WHERE stage = 'waiting'
    AND EXISTS (SELECT 1 FROM links WHERE brevo_id = newcomers.brevo)";
const HOLD: &str = "UPDATE newcomers SET due = ?1 WHERE stage = 'waiting' AND due < ?1";
const COUNT_WAITING: &str = "SELECT count(*) FROM newcomers WHERE stage = 'waiting'";

fn newcomer(row: &Row<'_>) -> rusqlite::Result<Newcomer> {
    Ok(Newcomer {
        brevo: BrevoContactId::new(row.get(0)?),
        stage: Stage::parse(&row.get::<_, String>(1)?),
        due: instant(row.get(2)?),
        email: row.get::<_, Option<String>>(3)?.map(Email::from_kept),
        contact: row.get::<_, Option<String>>(4)?.map(IntercomContactId::new),
        tries: row.get(5)?,
        opted_out: row.get(6)?,
        ext_id: row.get(7)?,
    })
}

impl Tx<'_> {
    /// A Brevo contact that is nobody's was seen, new or changed: it is looked at from then on.
    pub fn note_newcomer(&self, brevo: BrevoContactId, due: DateTime<Utc>) -> Result<()> {
        self.fills(Rare::Newcomers);
        self.0
            .prepare_cached(
                "INSERT INTO newcomers (brevo, stage, due) VALUES (?1, 'waiting', ?2)
                 ON CONFLICT (brevo) DO UPDATE SET stage = 'waiting', due = excluded.due, tries = 0 WHERE stage = 'listed'",
            )?
            .execute(params![brevo.get(), millis(due)])?;
        Ok(())
    }

    /// All that are nobody's by now are looked at from then on.
    pub fn note_all_newcomers(&self, due: DateTime<Utc>) -> Result<usize> {
        self.fills(Rare::Newcomers);
        Ok(self.0.execute(
            "INSERT OR IGNORE INTO newcomers (brevo, stage, due)
             SELECT id, 'waiting', ?1 FROM brevo_contacts WHERE gone = 0 AND (email IS NOT NULL OR ext_id IS NOT NULL)
               AND id NOT IN (SELECT brevo_id FROM links WHERE brevo_id IS NOT NULL)",
            [millis(due)],
        )?)
    }

    /// Nobody is made any more. Of what has left, it is still found out what became of it.
    pub fn drop_newcomers(&self) -> Result<()> {
        self.0.execute(
            "DELETE FROM notices WHERE subject IN (SELECT 'Brevo contact ' || brevo FROM newcomers WHERE stage = 'listed')",
            [],
        )?;
        self.0.execute("DELETE FROM newcomers WHERE stage IN ('waiting', 'listed')", [])?;
        Ok(())
    }

    /// This one is nobody's, and stays so.
    pub fn leave_alone(&self, brevo: BrevoContactId) -> Result<()> {
        self.put_newcomer_row(&Newcomer {
            brevo,
            stage: Stage::Alone,
            due: held_until(),
            email: None,
            opted_out: false,
            contact: None,
            ext_id: None,
            tries: 0,
        })
    }

    /// Whether somebody up to this contact is still to be made.
    pub fn newcomers_wait(&self, up_to: i64) -> Result<bool> {
        Ok(self.0.prepare_cached("SELECT 1 FROM newcomers WHERE stage = 'waiting' AND brevo <= ?1")?.exists([up_to])?)
    }

    /// One of them.
    pub fn newcomer(&self, brevo: BrevoContactId) -> Result<Option<Newcomer>> {
        Ok(self
            .0
            .prepare_cached(&format!("SELECT {COLUMNS} FROM newcomers WHERE brevo = ?1"))?
            .query_row([brevo.get()], newcomer)
            .optional()?)
    }

    /// The one that was, or may have been, made with this address.
    pub fn newcomer_sent_with(&self, email: &Email) -> Result<Option<Newcomer>> {
        if !self.holds(Rare::Newcomers)? {
            return Ok(None);
        }
        Ok(self
            .0
            .prepare_cached(&format!("SELECT {COLUMNS} FROM newcomers WHERE email = ?1 ORDER BY brevo LIMIT 1"))?
            .query_row([email.as_str()], newcomer)
            .optional()?)
    }

    /// Keeps how far it is.
    pub fn put_newcomer_row(&self, row: &Newcomer) -> Result<()> {
        self.fills(Rare::Newcomers);
        self.0
            .prepare_cached(&format!(
                "INSERT OR REPLACE INTO newcomers ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)"
            ))?
            .execute(params![
                row.brevo.get(),
                row.stage.as_str(),
                millis(row.due),
                row.email.as_ref().map(Email::as_str),
                row.contact.as_ref().map(IntercomContactId::as_str),
                row.tries,
                row.opted_out,
                row.ext_id,
            ])?;
        Ok(())
    }

    /// Nothing is to be done about it any more.
    pub fn drop_newcomer(&self, brevo: BrevoContactId) -> Result<()> {
        self.0.prepare_cached("DELETE FROM newcomers WHERE brevo = ?1")?.execute([brevo.get()])?;
        Ok(())
    }

    /// Whose turn it is.
    pub fn newcomers_due(&self, now: DateTime<Utc>, limit: usize) -> Result<Vec<BrevoContactId>> {
        let mut statement =
            self.0.prepare_cached("SELECT brevo FROM newcomers WHERE due <= ?1 ORDER BY due, brevo LIMIT ?2")?;
        let ids = statement.query_map(params![millis(now), limit], |row| row.get(0).map(BrevoContactId::new))?;
        Ok(ids.collect::<rusqlite::Result<_>>()?)
    }

    /// All that are due by then are due later.
    pub fn put_off_newcomers(&self, by: DateTime<Utc>, until: DateTime<Utc>) -> Result<()> {
        self.0
            .prepare_cached("UPDATE newcomers SET due = ?2 WHERE due <= ?1")?
            .execute(params![millis(by), millis(until)])?;
        Ok(())
    }

    /// Who waits, whenever it is due, in pages.
    pub fn newcomers_waiting(&self, after: i64, limit: usize) -> Result<Vec<BrevoContactId>> {
        let mut statement = self.0.prepare_cached(
            "SELECT brevo FROM newcomers WHERE stage IN ('waiting', 'unsure') AND brevo > ?1 ORDER BY brevo LIMIT ?2",
        )?;
        let ids = statement.query_map(params![after, limit], |row| row.get(0).map(BrevoContactId::new))?;
        Ok(ids.collect::<rusqlite::Result<_>>()?)
    }

    /// When something is next to be done.
    pub fn next_newcomer(&self) -> Result<Option<DateTime<Utc>>> {
        let next: Option<i64> = self
            .0
            .prepare_cached("SELECT min(due) FROM newcomers WHERE due < ?1")?
            .query_row([millis(held_until())], |row| row.get(0))?;
        Ok(next.map(instant))
    }

    /// Nobody is made: who waits, waits longer. How many do.
    pub fn hold_newcomers(&self) -> Result<u64> {
        let never = millis(held_until());
        self.0.prepare_cached(DROP_LINKED)?.execute([])?;
        self.0.prepare_cached(HOLD)?.execute([never])?;
        let count: i64 = self.0.prepare_cached(COUNT_WAITING)?.query_row([], |row| row.get(0))?;
        Ok(count.unsigned_abs())
    }

    /// They are made again.
    pub fn release_newcomers(&self, now: DateTime<Utc>) -> Result<()> {
        self.0.execute(
            "UPDATE newcomers SET due = ?1 WHERE stage = 'waiting' AND due >= ?2",
            [millis(now), millis(held_until())],
        )?;
        Ok(())
    }

    /// How many wait to be made in Intercom.
    pub fn count_newcomers(&self) -> Result<u64> {
        let count: i64 = self.0.query_row(
            "SELECT count(*) FROM newcomers WHERE stage IN ('waiting', 'sent', 'unsure')
               AND brevo NOT IN (SELECT brevo_id FROM links WHERE brevo_id IS NOT NULL)",
            [],
            |row| row.get(0),
        )?;
        Ok(count.unsigned_abs())
    }

    /// Whether a decision about who the contact is waits for another.
    pub fn is_unplaced(&self, id: &IntercomContactId) -> Result<bool> {
        Ok(self
            .0
            .prepare_cached("SELECT EXISTS (SELECT 1 FROM intercom_contacts WHERE id = ?1 AND unplaced > 0)")?
            .query_row([id.as_str()], |row| row.get(0))?)
    }
}

#[cfg(test)]
mod tests {
    use crate::store::Store;

    #[tokio::test]
    async fn a_hold_looks_at_no_more_than_at_who_waits() {
        for sql in [super::DROP_LINKED, super::HOLD, super::COUNT_WAITING] {
            let plan = move |tx: &crate::store::Tx<'_>| {
                let mut statement = tx.0.prepare(&format!("EXPLAIN QUERY PLAN {sql}"))?;
                let parameters = vec![1; statement.parameter_count()];
                let steps =
                    statement.query_map(rusqlite::params_from_iter(parameters), |row| row.get::<_, String>(3))?;
                Ok(steps.collect::<rusqlite::Result<Vec<_>>>()?.join("\n"))
            };
            let plan = Store::in_memory().unwrap().read(plan).await.unwrap();
            assert!(plan.contains("newcomers_waiting"), "{plan}");
            assert!(!plan.contains("SCAN links"), "{plan}");
        }
    }
}
