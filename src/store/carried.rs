//! Opt-outs that Brevo has and that travel to Intercom: which contact was told, which is to be, and what is on its way.

use super::{Result, Tx, instant, millis, rare::Rare};
use crate::model::{BrevoContactId, IntercomContactId};
use chrono::{DateTime, Utc};
use rusqlite::{OptionalExtension as _, Row, params};

/// What became of a Brevo contact's opt-out at one Intercom contact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Carried {
    /// Which Intercom contact.
    pub contact: IntercomContactId,
    /// Its person.
    pub link: i64,
    /// Whose opt-out.
    pub brevo: BrevoContactId,
    /// It reached the contact, is on its way, or is to be sent.
    pub told: bool,
    /// When it is to be sent; `None`: it is not.
    pub due: Option<DateTime<Utc>>,
    /// A write of ours may still land until then (our clock).
    pub until: Option<DateTime<Utc>>,
    /// That write was answered with success, or its effect was seen.
    pub landed: bool,
    /// A read that begins after `until` has to tell what stands there.
    pub verify: bool,
    /// That the contact is opted out in Intercom is our doing.
    pub ours: bool,
    /// Refusals in a row.
    pub tries: u32,
}

impl Carried {
    /// Nothing has been done about it yet.
    pub fn new(contact: IntercomContactId, link: i64, brevo: BrevoContactId) -> Self {
        Self {
            contact,
            link,
            brevo,
            told: false,
            due: None,
            until: None,
            landed: false,
            verify: false,
            ours: false,
            tries: 0,
        }
    }

    /// A write of ours is on its way, or may be.
    pub fn is_watched(&self) -> bool {
        self.until.is_some()
    }
}

const COLUMNS: &str = "contact, link, brevo, told, due, until, landed, verify, ours, tries";

fn carried(row: &Row<'_>) -> rusqlite::Result<Carried> {
    Ok(Carried {
        contact: IntercomContactId::new(row.get::<_, String>(0)?),
        link: row.get(1)?,
        brevo: BrevoContactId::new(row.get(2)?),
        told: row.get(3)?,
        due: row.get::<_, Option<i64>>(4)?.map(instant),
        until: row.get::<_, Option<i64>>(5)?.map(instant),
        landed: row.get(6)?,
        verify: row.get(7)?,
        ours: row.get(8)?,
        tries: row.get(9)?,
    })
}

impl Tx<'_> {
    /// What became of Brevo's opt-out at this contact.
    pub fn carried(&self, contact: &IntercomContactId) -> Result<Option<Carried>> {
        Ok(self
            .0
            .prepare_cached(&format!("SELECT {COLUMNS} FROM carried WHERE contact = ?1"))?
            .query_row([contact.as_str()], carried)
            .optional()?)
    }

    /// Whether anybody of this person counts as told.
    pub fn are_told(&self, link: i64) -> Result<bool> {
        if !self.holds(Rare::Carried)? {
            return Ok(false);
        }
        Ok(self.0.prepare_cached("SELECT 1 FROM carried WHERE link = ?1 AND told = 1")?.exists([link])?)
    }

    /// Keeps it.
    pub fn put_carried(&self, row: &Carried) -> Result<()> {
        self.fills(Rare::Carried);
        self.0
            .prepare_cached(&format!(
                "INSERT OR REPLACE INTO carried ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)"
            ))?
            .execute(params![
                row.contact.as_str(),
                row.link,
                row.brevo.get(),
                row.told,
                row.due.map(millis),
                row.until.map(millis),
                row.landed,
                row.verify,
                row.ours,
                row.tries,
            ])?;
        Ok(())
    }

    /// The contact is gone, or there is nothing more to be remembered.
    pub fn drop_carried(&self, contact: &IntercomContactId) -> Result<()> {
        self.0.prepare_cached("DELETE FROM carried WHERE contact = ?1")?.execute([contact.as_str()])?;
        Ok(())
    }

    /// Another member of the person has opted out: that is a new opt-out for all the others.
    pub fn tell_anew(&self, link: i64, but: &IntercomContactId) -> Result<()> {
        self.0
            .prepare_cached("UPDATE carried SET told = 0 WHERE link = ?1 AND contact <> ?2 AND due IS NULL")?
            .execute(params![link, but.as_str()])?;
        Ok(())
    }

    /// Those that are to be sent now.
    pub fn carried_due(&self, now: DateTime<Utc>, limit: usize) -> Result<Vec<Carried>> {
        let mut statement = self
            .0
            .prepare_cached(&format!("SELECT {COLUMNS} FROM carried WHERE due <= ?1 ORDER BY due, contact LIMIT ?2"))?;
        let rows = statement.query_map(params![millis(now), limit], carried)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Those of which a read has to tell what became of them, and may by now.
    pub fn carried_to_verify(&self, now: DateTime<Utc>, after: &str, limit: usize) -> Result<Vec<Carried>> {
        let mut statement = self.0.prepare_cached(&format!(
            "SELECT {COLUMNS} FROM carried WHERE verify = 1 AND until <= ?1 AND contact > ?2 ORDER BY contact LIMIT ?3"
        ))?;
        let rows = statement.query_map(params![millis(now), after, limit], carried)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// After a crash: what had left without an answer may land until then.
    pub fn reopen_carried(&self, until: DateTime<Utc>) -> Result<usize> {
        Ok(self.0.execute("UPDATE carried SET until = ?1 WHERE until IS NOT NULL AND landed = 0", [millis(until)])?)
    }

    /// When something of this is next to be done.
    pub fn next_carried(&self) -> Result<Option<DateTime<Utc>>> {
        let next: Option<i64> = self
            .0
            .prepare_cached(
                "SELECT min(at) FROM (SELECT min(due) AS at FROM carried WHERE due IS NOT NULL
                 UNION ALL SELECT min(until) FROM carried WHERE verify = 1)",
            )?
            .query_row([], |row| row.get(0))?;
        Ok(next.map(instant))
    }

    /// Opt-outs do not travel any more: what has not left stays.
    pub fn hold_carried(&self) -> Result<()> {
        self.0.execute("UPDATE carried SET due = NULL, told = 0 WHERE due IS NOT NULL", [])?;
        Ok(())
    }
}
