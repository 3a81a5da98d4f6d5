//! Intercom contacts that are to take the address that somebody gave their Brevo contact.

use super::{Result, Tx, instant, millis};
use crate::model::{Email, IntercomContactId};
use chrono::{DateTime, Utc};
use rusqlite::{OptionalExtension as _, Row, params};

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readdress {
    /// Which contact.
    pub contact: IntercomContactId,
    /// Whose.
    pub link: i64,
    /// The address that it shows.
    pub from: Email,
    /// The one that it is to have.
    pub to: Email,
    /// When it is to be written.
    pub due: DateTime<Utc>,
    /// Refusals in a row.
    pub tries: u32,
}

const COLUMNS: &str = "contact, link, email, new_email, due, tries";

fn readdress(row: &Row<'_>) -> rusqlite::Result<Readdress> {
    Ok(Readdress {
        contact: IntercomContactId::new(row.get::<_, String>(0)?),
        link: row.get(1)?,
        from: Email::from_kept(row.get(2)?),
        to: Email::from_kept(row.get(3)?),
        due: instant(row.get(4)?),
        tries: row.get(5)?,
    })
}

impl Tx<'_> {
    /// What is to become of a contact's address.
    pub fn readdress(&self, contact: &IntercomContactId) -> Result<Option<Readdress>> {
        Ok(self
            .0
            .prepare_cached(&format!("SELECT {COLUMNS} FROM readdresses WHERE contact = ?1"))?
            .query_row([contact.as_str()], readdress)
            .optional()?)
    }

    /// Keeps it.
    pub fn put_readdress(&self, row: &Readdress) -> Result<()> {
        self.0
            .prepare_cached(&format!("INSERT OR REPLACE INTO readdresses ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6)"))?
            .execute(params![
                row.contact.as_str(),
                row.link,
                row.from.as_str(),
                row.to.as_str(),
                millis(row.due),
                row.tries
            ])?;
        Ok(())
    }

    /// It is done, or not to be done any more.
    pub fn drop_readdress(&self, contact: &IntercomContactId) -> Result<()> {
        self.0.prepare_cached("DELETE FROM readdresses WHERE contact = ?1")?.execute([contact.as_str()])?;
        Ok(())
    }

    /// Whose turn it is.
    pub fn readdresses_due(&self, now: DateTime<Utc>, limit: usize) -> Result<Vec<Readdress>> {
        let mut statement = self.0.prepare_cached(&format!(
            "SELECT {COLUMNS} FROM readdresses WHERE due <= ?1 ORDER BY due, contact LIMIT ?2"
        ))?;
        let rows = statement.query_map(params![millis(now), limit], readdress)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// When something of this is next to be done.
    pub fn next_readdress(&self) -> Result<Option<DateTime<Utc>>> {
        let next: Option<i64> =
            self.0.prepare_cached("SELECT min(due) FROM readdresses")?.query_row([], |row| row.get(0))?;
        Ok(next.map(instant))
    }
}
