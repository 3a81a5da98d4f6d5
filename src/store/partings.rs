//! People who are gone on one side, and for whom something is therefore to be done on the other.

use super::{Result, Tx, harm::held_until, instant, millis};
use crate::model::{Email, SideName};
use chrono::{DateTime, TimeDelta, Utc};
use rusqlite::{OptionalExtension as _, Row, params};

/// How a filter leaves somebody out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Apart {
    /// They do not match.
    LeftOut,
    /// Whether they match cannot be told.
    Untold,
}

/// Somebody who is gone on one side. What is to be done about it is the config's when it is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parting {
    /// The person.
    pub link: i64,
    /// The side that is written to.
    pub side: SideName,
    /// Since when they are gone, as far as we know.
    pub since: DateTime<Utc>,
    /// When it is to be done, or tried again.
    pub due: DateTime<Utc>,
    /// Refusals in a row.
    pub tries: u32,
    /// A request has left, and may land until then.
    pub until: Option<DateTime<Utc>>,
    /// What that request was to do, in the config's words.
    pub sent: Option<String>,
    /// The requests that were counted against the limits on harm when that left.
    pub counted: Vec<String>,
}

const COLUMNS: &str = "link, side, since, due, tries, until, sent, counted";

/// Whether the person is still gone on the other side, and something is there to be done.
const STANDS: &str = "EXISTS (SELECT 1 FROM links l WHERE l.id = partings.link
       AND (l.brevo_id IS NOT NULL OR l.import IS NOT NULL OR l.flights IS NOT NULL)
       AND l.state = CASE partings.side WHEN 'brevo' THEN 'left' ELSE 'brevo_gone' END)";

/// How many records a row is about: the contact in Brevo, or each in Intercom.
const RECORDS: &str = "CASE partings.side WHEN 'brevo' THEN 1 ELSE (SELECT count(*) FROM intercom_contacts c
       WHERE c.link = partings.link AND c.state = 'live') END";

fn parting(row: &Row<'_>) -> rusqlite::Result<Parting> {
    Ok(Parting {
        link: row.get(0)?,
        side: if row.get::<_, String>(1)? == SideName::Brevo.as_str() { SideName::Brevo } else { SideName::Intercom },
        since: instant(row.get(2)?),
        due: instant(row.get(3)?),
        tries: row.get(4)?,
        until: row.get::<_, Option<i64>>(5)?.map(instant),
        sent: row.get(6)?,
        counted: row.get::<_, Option<String>>(7)?.map_or_else(Vec::new, |all| all.lines().map(str::to_owned).collect()),
    })
}

impl Tx<'_> {
    /// Somebody is gone: something is to be done on this side, from `due` on. What is known of that already stays, unless
    /// they had come back meanwhile (`anew`): then it is judged anew, too, since what had held it may be over by now.
    pub fn begin_parting(
        &self,
        link: i64,
        side: SideName,
        (since, due): (DateTime<Utc>, DateTime<Utc>),
        anew: bool,
    ) -> Result<()> {
        self.0
            .prepare_cached(
                "INSERT INTO partings (link, side, since, due, tries) VALUES (?1, ?2, ?3, ?4, 0)
                 ON CONFLICT (link, side) DO UPDATE SET since = excluded.since, held_as = NULL,
                   due = iif(held_as IS NULL, max(due, excluded.due), excluded.due) WHERE ?5 AND until IS NULL",
            )?
            .execute(params![link, side.as_str(), millis(since), millis(due), anew])?;
        Ok(())
    }

    /// Keeps how it is doing.
    pub fn put_parting(&self, row: &Parting) -> Result<()> {
        self.0
            .prepare_cached(
                "UPDATE partings SET due = ?3, tries = ?4, until = ?5, sent = ?6, counted = ?7, held_as = NULL
                 WHERE link = ?1 AND side = ?2",
            )?
            .execute(params![
                row.link,
                row.side.as_str(),
                millis(row.due),
                row.tries,
                row.until.map(millis),
                row.sent,
                (!row.counted.is_empty()).then(|| row.counted.join("\n"))
            ])?;
        Ok(())
    }

    /// What is to be done about somebody.
    pub fn parting(&self, link: i64, side: SideName) -> Result<Option<Parting>> {
        Ok(self
            .0
            .prepare_cached(&format!("SELECT {COLUMNS} FROM partings WHERE link = ?1 AND side = ?2"))?
            .query_row(params![link, side.as_str()], parting)
            .optional()?)
    }

    /// It is done, or there is nothing to be done any more.
    pub fn end_parting(&self, link: i64, side: SideName) -> Result<()> {
        self.0
            .prepare_cached("DELETE FROM partings WHERE link = ?1 AND side = ?2")?
            .execute(params![link, side.as_str()])?;
        Ok(())
    }

    /// Nothing is to be done on this side, but for what has left already.
    pub fn drop_partings(&self, side: SideName) -> Result<()> {
        self.0.prepare_cached("DELETE FROM partings WHERE side = ?1 AND until IS NULL")?.execute([side.as_str()])?;
        Ok(())
    }

    /// Who has come back meanwhile is not gone.
    pub fn drop_void_partings(&self) -> Result<()> {
        self.0.prepare_cached(&format!("DELETE FROM partings WHERE until IS NULL AND NOT {STANDS}"))?.execute([])?;
        Ok(())
    }

    /// Whom it is the turn of.
    pub fn partings_due(&self, now: DateTime<Utc>, limit: usize) -> Result<Vec<Parting>> {
        let mut statement = self
            .0
            .prepare_cached(&format!("SELECT {COLUMNS} FROM partings WHERE due <= ?1 ORDER BY due, link LIMIT ?2"))?;
        let rows = statement.query_map(params![millis(now), limit], parting)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// How many records are to be written on this side, now or later, of which nothing has left yet and that are not held.
    pub fn count_partings_to_do(&self, side: SideName) -> Result<u64> {
        let count: i64 = self
            .0
            .prepare_cached(&format!(
                "SELECT coalesce(sum({RECORDS}), 0) FROM partings
                 WHERE side = ?1 AND until IS NULL AND held_as IS NULL AND {STANDS}"
            ))?
            .query_row([side.as_str()], |row| row.get(0))?;
        Ok(count.unsigned_abs())
    }

    /// When the next is due.
    pub fn next_parting(&self) -> Result<Option<DateTime<Utc>>> {
        let next: Option<i64> = self
            .0
            .prepare_cached("SELECT min(due) FROM partings WHERE due < ?1")?
            .query_row([millis(held_until())], |row| row.get(0))?;
        Ok(next.map(instant))
    }

    /// Those of which nothing has left yet and that are not older than `most` wait until `until`.
    pub fn put_off_partings(
        &self,
        side: SideName,
        now: DateTime<Utc>,
        (most, until): (TimeDelta, DateTime<Utc>),
    ) -> Result<()> {
        self.0
            .prepare_cached(
                "UPDATE partings SET due = ?3 WHERE side = ?1 AND due <= ?2 AND until IS NULL AND since > ?4",
            )?
            .execute(params![side.as_str(), millis(now), millis(until), millis(now - most)])?;
        Ok(())
    }

    /// Nothing is done on this side until somebody approves it.
    pub fn hold_partings(&self, side: SideName, kind: &str) -> Result<()> {
        self.0
            .prepare_cached("UPDATE partings SET due = ?3, held_as = ?2 WHERE side = ?1 AND until IS NULL")?
            .execute(params![side.as_str(), kind, millis(held_until())])?;
        Ok(())
    }

    /// How many people wait for it.
    pub fn count_partings(&self) -> Result<u64> {
        let count: i64 = self.0.prepare_cached("SELECT count(*) FROM partings")?.query_row([], |row| row.get(0))?;
        Ok(count.unsigned_abs())
    }

    /// How many records are held so.
    pub fn count_held_partings(&self, kind: &str) -> Result<u64> {
        let count: i64 = self
            .0
            .prepare_cached(&format!(
                "SELECT coalesce(sum({RECORDS}), 0) FROM partings WHERE held_as = ?1 AND until IS NULL AND {STANDS}"
            ))?
            .query_row([kind], |row| row.get(0))?;
        Ok(count.unsigned_abs())
    }

    /// They go, but none within `lag` after they left.
    pub fn release_partings(&self, kind: &str, now: DateTime<Utc>, lag: TimeDelta) -> Result<()> {
        self.0
            .prepare_cached("UPDATE partings SET due = max(?2, since + ?3), held_as = NULL WHERE held_as = ?1")?
            .execute(params![kind, millis(now), lag.num_milliseconds()])?;
        Ok(())
    }

    /// Whether some are held on this side as what they would not be counted as any more.
    pub fn are_partings_held_otherwise(&self, side: SideName, kind: &str) -> Result<bool> {
        Ok(self
            .0
            .prepare_cached("SELECT 1 FROM partings WHERE side = ?1 AND until IS NULL AND held_as <> ?2 LIMIT 1")?
            .exists(params![side.as_str(), kind])?)
    }

    /// After a crash: what had left without an answer may land for as long as if it had left now.
    pub fn reopen_partings(&self, until: DateTime<Utc>) -> Result<usize> {
        Ok(self
            .0
            .prepare_cached("UPDATE partings SET until = ?1, due = max(due, ?1) WHERE until IS NOT NULL")?
            .execute([millis(until)])?)
    }

    /// Whether reads that are still to be made may show more people who are gone: on this side that means, gone on the
    /// other.
    pub fn more_may_be_gone(&self, written: SideName) -> Result<bool> {
        let query = match written {
            SideName::Brevo => {
                "SELECT EXISTS (SELECT 1 FROM to_confirm WHERE side = 'intercom')
                     OR EXISTS (SELECT 1 FROM inbox WHERE done_at IS NULL AND side = 'intercom')
                     OR EXISTS (SELECT 1 FROM intercom_contacts WHERE state = 'missing')
                     OR EXISTS (SELECT 1 FROM intercom_contacts WHERE wants_tags + wants_companies + wants_fetch > 0
                          AND wants_fetch > 0)"
            }
            SideName::Intercom => {
                "SELECT EXISTS (SELECT 1 FROM to_confirm WHERE side = 'brevo')
                     OR EXISTS (SELECT 1 FROM inbox WHERE done_at IS NULL AND side = 'brevo')
                     OR EXISTS (SELECT 1 FROM brevo_hints WHERE gone = 1)"
            }
        };
        Ok(self.0.prepare_cached(query)?.query_row([], |row| row.get(0))?)
    }

    /// Whether somebody who is not gone in Intercom has this address there.
    pub fn has_address_in_intercom(&self, email: &Email) -> Result<bool> {
        Ok(self
            .0
            .prepare_cached(
                "SELECT EXISTS (SELECT 1 FROM intercom_contacts WHERE email = ?1 AND state IN ('live', 'missing'))",
            )?
            .query_row([email.as_str()], |row| row.get(0))?)
    }

    /// Whether somebody has this address in Intercom who is not of the link.
    pub fn has_strangers(&self, email: &Email, link: i64) -> Result<bool> {
        Ok(self
            .0
            .prepare_cached(
                "SELECT EXISTS (SELECT 1 FROM intercom_contacts WHERE email = ?1 AND state IN ('live', 'missing')
                     AND link IS NOT ?2)",
            )?
            .query_row(params![email.as_str(), link], |row| row.get(0))?)
    }

    /// A filter leaves somebody out in Brevo, or does not.
    pub fn set_apart(&self, link: i64, apart: Option<Apart>) -> Result<()> {
        let Some(apart) = apart else {
            self.0.prepare_cached("DELETE FROM apart WHERE link = ?1")?.execute([link])?;
            return Ok(());
        };
        self.0
            .prepare_cached(
                "INSERT INTO apart (link, untold) VALUES (?1, ?2) ON CONFLICT (link) DO UPDATE SET untold = excluded.untold",
            )?
            .execute(params![link, apart == Apart::Untold])?;
        Ok(())
    }

    /// How a filter leaves somebody out in Brevo, if it does.
    pub fn apart(&self, link: i64) -> Result<Option<Apart>> {
        let untold: Option<bool> = self
            .0
            .prepare_cached("SELECT untold FROM apart WHERE link = ?1")?
            .query_row([link], |row| row.get(0))
            .optional()?;
        Ok(untold.map(|untold| if untold { Apart::Untold } else { Apart::LeftOut }))
    }

    /// There is no filter.
    pub fn drop_apart(&self) -> Result<()> {
        self.0.execute("DELETE FROM apart", [])?;
        Ok(())
    }

    /// How many people a filter leaves out in Brevo.
    pub fn count_apart(&self) -> Result<u64> {
        let count: i64 = self.0.prepare_cached("SELECT count(*) FROM apart")?.query_row([], |row| row.get(0))?;
        Ok(count.unsigned_abs())
    }

    /// The phone that was theirs may be somebody else's.
    pub fn free_phones(&self, link: i64) -> Result<()> {
        self.0.prepare_cached("DELETE FROM phones WHERE link = ?1")?.execute([link])?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::model::SideName;
    use crate::store::Store;
    use crate::store::links::Dirty;
    use chrono::{DateTime, TimeDelta, Utc};

    #[tokio::test]
    async fn who_comes_back_and_goes_again_is_not_held_by_what_is_over() {
        let (first, again) = (DateTime::<Utc>::default(), DateTime::<Utc>::default() + TimeDelta::hours(1));
        let goes = move |tx: &super::Tx<'_>| {
            let link = tx.new_link(None, None, Dirty::No)?;
            tx.begin_parting(link, SideName::Brevo, (first, first), true)?;
            tx.hold_partings(SideName::Brevo, "deletes")?;
            tx.begin_parting(link, SideName::Brevo, (again, again), false)?;
            let held = tx.next_parting()?;
            tx.begin_parting(link, SideName::Brevo, (again, again), true)?;
            Ok((held, tx.next_parting()?))
        };
        assert_eq!(Store::in_memory().unwrap().write(goes).await.unwrap(), (None, Some(again)));
    }
}
