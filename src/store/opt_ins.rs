//! Opt-ins that are to travel to the other side: `consent.resubscribe: propagate`.

use super::{Result, Tx, instant, millis};
use crate::model::{BrevoContactId, Email, SideName};
use chrono::{DateTime, Utc};
use rusqlite::{OptionalExtension as _, Row, params};

/// Somebody has opted in on one side: on the other it is to be looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CarriedOptIn {
    /// The person.
    pub link: i64,
    /// The side that would be written.
    pub side: SideName,
    /// The address that they had.
    pub email: Option<Email>,
    /// The Brevo contact that was theirs.
    pub brevo: Option<BrevoContactId>,
    /// They opted in after this: until then the opt-out was still seen. The vendor's clock.
    pub after: DateTime<Utc>,
    /// Since when that is known; our clock.
    pub since: DateTime<Utc>,
    /// When it is looked at.
    pub due: DateTime<Utc>,
    /// A request has left, and may land until then.
    pub until: Option<DateTime<Utc>>,
}

const COLUMNS: &str = "link, side, after, since, due, until, email, brevo";

fn opt_in(row: &Row<'_>) -> rusqlite::Result<CarriedOptIn> {
    Ok(CarriedOptIn {
        link: row.get(0)?,
        side: if row.get::<_, String>(1)? == SideName::Brevo.as_str() { SideName::Brevo } else { SideName::Intercom },
        after: instant(row.get(2)?),
        since: instant(row.get(3)?),
        due: instant(row.get(4)?),
        until: row.get::<_, Option<i64>>(5)?.map(instant),
        email: row.get::<_, Option<String>>(6)?.map(Email::from_kept),
        brevo: row.get::<_, Option<i64>>(7)?.map(BrevoContactId::new),
    })
}

impl Tx<'_> {
    /// Keeps an opt-in, or how it is doing.
    pub fn put_opt_in(&self, row: &CarriedOptIn) -> Result<()> {
        self.0
            .prepare_cached(
                "INSERT OR REPLACE INTO opt_ins (link, side, after, since, due, until, email, brevo)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )?
            .execute(params![
                row.link,
                row.side.as_str(),
                millis(row.after),
                millis(row.since),
                millis(row.due),
                row.until.map(millis),
                row.email.as_ref().map(Email::as_str),
                row.brevo.map(BrevoContactId::get),
            ])?;
        Ok(())
    }

    /// An opt-in that is to be carried to this side.
    pub fn opt_in(&self, link: i64, side: SideName) -> Result<Option<CarriedOptIn>> {
        Ok(self
            .0
            .prepare_cached(&format!("SELECT {COLUMNS} FROM opt_ins WHERE link = ?1 AND side = ?2"))?
            .query_row(params![link, side.as_str()], opt_in)
            .optional()?)
    }

    /// It has been carried, or is not.
    pub fn end_opt_in(&self, link: i64, side: SideName) -> Result<()> {
        self.0
            .prepare_cached("DELETE FROM opt_ins WHERE link = ?1 AND side = ?2")?
            .execute(params![link, side.as_str()])?;
        Ok(())
    }

    /// None is carried any more.
    pub fn drop_opt_ins(&self) -> Result<()> {
        self.0.execute("DELETE FROM opt_ins WHERE until IS NULL", [])?;
        self.0.execute("DELETE FROM notices WHERE kind = 'opt_in_waits'", [])?;
        Ok(())
    }

    /// What had left cannot land any more.
    pub fn drop_landed_opt_ins(&self, now: DateTime<Utc>) -> Result<()> {
        self.0.prepare_cached("DELETE FROM opt_ins WHERE until <= ?1")?.execute([millis(now)])?;
        Ok(())
    }

    /// Whose turn it is.
    pub fn opt_ins_due(&self, now: DateTime<Utc>, limit: usize) -> Result<Vec<CarriedOptIn>> {
        let mut statement = self
            .0
            .prepare_cached(&format!("SELECT {COLUMNS} FROM opt_ins WHERE due <= ?1 ORDER BY due, link LIMIT ?2"))?;
        let rows = statement.query_map(params![millis(now), limit], opt_in)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// When the next is due.
    pub fn next_opt_in(&self) -> Result<Option<DateTime<Utc>>> {
        let next: Option<i64> =
            self.0.prepare_cached("SELECT min(due) FROM opt_ins")?.query_row([], |row| row.get(0))?;
        Ok(next.map(instant))
    }

    /// After a crash: what had left without an answer may land for as long as if it had left now.
    pub fn reopen_opt_ins(&self, until: DateTime<Utc>) -> Result<usize> {
        Ok(self
            .0
            .prepare_cached("UPDATE opt_ins SET until = ?1, due = max(due, ?1) WHERE until IS NOT NULL")?
            .execute([millis(until)])?)
    }
}
