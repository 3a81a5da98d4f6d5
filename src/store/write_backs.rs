//! What travels from Brevo to Intercom, but for opt-outs: for whom something is to be written there, and what is on its
//! way. What it is is planned when it is sent.

use super::{Packed, Result, Tx, instant, millis};
use crate::model::{IntercomContactId, SideName};
use chrono::{DateTime, TimeDelta, Utc};
use rusqlite::{OptionalExtension as _, Row, params};

/// Who waits for a write to Intercom, or for what became of one.
#[derive(Debug, Clone)]
pub struct WriteBack {
    /// The person.
    pub link: i64,
    /// The Intercom contact that it is about.
    pub contact: IntercomContactId,
    /// When something is to be sent; `None`: nothing is.
    pub due: Option<DateTime<Utc>>,
    /// A full read asked for it: what was edited on a field's target is restored.
    pub sweep: bool,
    /// Refusals in a row.
    pub tries: u32,
    /// Our writes on their way, packed.
    pub watched: Option<Packed>,
    /// Whether they were answered with success.
    pub answered: bool,
    /// Only a read that begins later (our clock) settles them.
    pub verify_after: Option<DateTime<Utc>>,
}

impl WriteBack {
    /// Nothing has been sent yet.
    pub fn new(link: i64, contact: IntercomContactId) -> Self {
        Self { link, contact, due: None, sweep: false, tries: 0, watched: None, answered: true, verify_after: None }
    }

    /// Nobody knows yet what became of the last write.
    pub fn awaits_answer(&self) -> bool {
        self.watched.is_some() && !self.answered
    }
}

/// After the one (`None`: nobody knows), and at or before the other.
pub type Instants = (Option<DateTime<Utc>>, DateTime<Utc>);

/// A poll shows what was written: a read of its own is worth it only where none has for this long.
pub const LONG_UNSEEN: TimeDelta = TimeDelta::minutes(20);

/// Or where somebody waits for it: that is looked at for so long after a read may settle what was written.
pub const SETTLES_NOW: TimeDelta = TimeDelta::minutes(2);

const COLUMNS: &str = "link, contact, due, sweep, tries, watched, answered, verify_after";

fn write_back(tx: &Tx<'_>, row: &Row<'_>) -> rusqlite::Result<WriteBack> {
    Ok(WriteBack {
        link: row.get(0)?,
        contact: IntercomContactId::new(row.get::<_, String>(1)?),
        due: row.get::<_, Option<i64>>(2)?.map(instant),
        sweep: row.get(3)?,
        tries: row.get(4)?,
        watched: row.get::<_, Option<Vec<u8>>>(5)?.map(|watched| tx.kept(watched)),
        answered: row.get(6)?,
        verify_after: row.get::<_, Option<i64>>(7)?.map(instant),
    })
}

impl Tx<'_> {
    /// The person's.
    pub fn write_back(&self, link: i64) -> Result<Option<WriteBack>> {
        self.write_back_where("link = ?1", &link)
    }

    /// That of an Intercom contact.
    pub fn write_back_of(&self, contact: &IntercomContactId) -> Result<Option<WriteBack>> {
        self.write_back_where("contact = ?1", &contact.as_str())
    }

    fn write_back_where(&self, condition: &str, value: &dyn rusqlite::ToSql) -> Result<Option<WriteBack>> {
        Ok(self
            .0
            .prepare_cached(&format!("SELECT {COLUMNS} FROM write_backs WHERE {condition}"))?
            .query_row([value], |row| write_back(self, row))
            .optional()?)
    }

    /// Keeps it; forgets it where nothing is left to be remembered.
    pub fn put_write_back(&self, row: &WriteBack) -> Result<()> {
        if row.due.is_none() && row.watched.is_none() {
            return self.drop_write_back(row.link);
        }
        self.0
            .prepare_cached(&format!(
                "INSERT OR REPLACE INTO write_backs ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)"
            ))?
            .execute(params![
                row.link,
                row.contact.as_str(),
                row.due.map(millis),
                row.sweep,
                row.tries,
                row.watched.as_ref().map(Packed::bytes),
                row.answered,
                row.verify_after.map(millis),
            ])?;
        Ok(())
    }

    /// Nothing is to be written back for this person, and nothing is on its way.
    pub fn drop_write_back(&self, link: i64) -> Result<()> {
        self.0.prepare_cached("DELETE FROM write_backs WHERE link = ?1")?.execute([link])?;
        Ok(())
    }

    /// Nothing travels towards Intercom any more.
    pub fn drop_write_backs(&self) -> Result<()> {
        self.0.execute("DELETE FROM write_backs", [])?;
        self.0.execute("DELETE FROM spans", [])?;
        Ok(())
    }

    /// Whose turn it is: due, in no unfinished import, with all their tags, and with no write of unknown outcome on its
    /// way.
    pub fn write_backs_due(&self, now: DateTime<Utc>, limit: usize) -> Result<Vec<i64>> {
        let mut statement = self.0.prepare_cached(
            "SELECT w.link FROM write_backs w JOIN links l ON l.id = w.link
             WHERE w.due <= ?1 AND (w.watched IS NULL OR w.answered = 1) AND l.import IS NULL
               AND w.link NOT IN (SELECT link FROM intercom_contacts WHERE +link IS NOT NULL
                     AND wants_tags + wants_companies + wants_fetch > 0 AND wants_tags + wants_companies > 0)
             ORDER BY w.due, w.link LIMIT ?2",
        )?;
        let ids = statement.query_map(params![millis(now), limit], |row| row.get(0))?;
        Ok(ids.collect::<rusqlite::Result<_>>()?)
    }

    /// Those of which a read has to tell what became of them, and may by now; and those of which it may since lately.
    pub fn write_backs_to_verify(&self, now: DateTime<Utc>, after: i64, limit: usize) -> Result<Vec<WriteBack>> {
        let mut statement = self.0.prepare_cached(&format!(
            "SELECT {COLUMNS} FROM write_backs WHERE watched IS NOT NULL
               AND (verify_after <= iif(answered = 1, ?2, ?1) OR verify_after > ?5 AND verify_after <= ?1)
               AND link > ?3 ORDER BY link LIMIT ?4"
        ))?;
        let (long, lately) = (millis(now - LONG_UNSEEN), millis(now - SETTLES_NOW));
        let rows =
            statement.query_map(params![millis(now), long, after, limit, lately], |row| write_back(self, row))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// After a crash: what had left without an answer may land until then.
    pub fn reopen_write_backs(&self, until: DateTime<Utc>) -> Result<usize> {
        Ok(self.0.execute(
            "UPDATE write_backs SET verify_after = ?1 WHERE watched IS NOT NULL AND answered = 0",
            [millis(until)],
        )?)
    }

    /// When something of this is next to be done.
    pub fn next_write_back(&self) -> Result<Option<DateTime<Utc>>> {
        let next: Option<i64> = self
            .0
            .prepare_cached(
                "SELECT min(at) FROM (
                   SELECT min(due) AS at FROM write_backs WHERE due IS NOT NULL AND (watched IS NULL OR answered = 1)
                   UNION ALL SELECT min(verify_after) FROM write_backs WHERE watched IS NOT NULL AND answered = 0
                   UNION ALL SELECT min(verify_after) + ?1 FROM write_backs WHERE watched IS NOT NULL AND answered = 1)",
            )?
            .query_row([LONG_UNSEEN.num_milliseconds()], |row| row.get(0))?;
        Ok(next.map(instant))
    }

    /// When a person's record on this side came to be what it is, as far as that is known: after the one, at or before
    /// the other.
    pub fn span(&self, link: i64, side: SideName) -> Result<Option<Instants>> {
        Ok(self
            .0
            .prepare_cached("SELECT after, until FROM spans WHERE link = ?1 AND side = ?2")?
            .query_row(params![link, side.as_str()], |row| {
                Ok((row.get::<_, Option<i64>>(0)?.map(instant), instant(row.get(1)?)))
            })
            .optional()?)
    }

    /// Keeps it.
    pub fn put_span(&self, link: i64, side: SideName, (after, until): Instants) -> Result<()> {
        self.0
            .prepare_cached("INSERT OR REPLACE INTO spans (link, side, after, until) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![link, side.as_str(), after.map(millis), millis(until)])?;
        Ok(())
    }

    /// What had changed is agreed on.
    pub fn drop_spans(&self, link: i64) -> Result<()> {
        self.0.prepare_cached("DELETE FROM spans WHERE link = ?1")?.execute([link])?;
        Ok(())
    }

    /// What changed before that cannot meet an edit of the other side any more.
    pub fn prune_spans(&self, before: DateTime<Utc>) -> Result<usize> {
        Ok(self.0.execute("DELETE FROM spans WHERE until < ?1", [millis(before)])?)
    }
}
