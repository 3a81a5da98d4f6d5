//! Bounded harm: what was counted against the limits, what is held until somebody approves it, and for whom.

use super::{Result, Tx, instant, millis};
use crate::model::SideName;
use chrono::{DateTime, Utc};
use rusqlite::{OptionalExtension as _, Row, params};

/// What is held is due then: in the year 9999, in milliseconds.
const NEVER: i64 = 253_370_764_800_000;

/// When what is held is due: never, until it is approved.
pub fn held_until() -> DateTime<Utc> {
    instant(NEVER)
}

/// How a hold is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HoldState {
    /// Nothing of its kind is written.
    Open,
    /// Somebody let it go.
    Approved,
    /// It is over.
    Ended,
}

/// Writes of a kind that wait for somebody's word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// Its number.
    pub id: i64,
    /// What it holds.
    pub kind: String,
    /// When it began.
    pub since: DateTime<Utc>,
    /// How many want to be written.
    pub wanted: u64,
    /// How many could have gone when it began.
    pub may: u64,
    /// How it is doing.
    pub state: HoldState,
    /// Approved: how many more may go.
    pub left: u64,
    /// Approved: for so long.
    pub until: Option<DateTime<Utc>>,
}

const COLUMNS: &str = "id, kind, since, wanted, may, state, left, until";

/// Opt-outs on their way to Intercom that a notice of Brevo's carried. (None carried what a changed address has lifted:
/// that is kept under no address.)
const TOLD_BY_NOTICE: &str = "(EXISTS (SELECT 1 FROM brevo_optouts o
              WHERE o.contact = carried.brevo AND o.over_at IS NULL AND o.email NOT GLOB '#*')
     OR EXISTS (SELECT 1 FROM links l JOIN brevo_optouts o ON o.email = l.email
                WHERE l.id = carried.link AND o.over_at IS NULL))";

fn hold(row: &Row<'_>) -> rusqlite::Result<Hold> {
    Ok(Hold {
        id: row.get(0)?,
        kind: row.get(1)?,
        since: instant(row.get(2)?),
        wanted: row.get::<_, i64>(3)?.unsigned_abs(),
        may: row.get::<_, i64>(4)?.unsigned_abs(),
        state: match row.get::<_, String>(5)?.as_str() {
            "open" => HoldState::Open,
            "approved" => HoldState::Approved,
            _ => HoldState::Ended,
        },
        left: row.get::<_, i64>(6)?.unsigned_abs(),
        until: row.get::<_, Option<i64>>(7)?.map(instant),
    })
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

impl Tx<'_> {
    /// What was counted of a kind since this slot, slot by slot.
    pub fn harm_counts(&self, kind: &str, since: i64) -> Result<Vec<(i64, u64)>> {
        let mut statement =
            self.0.prepare_cached("SELECT slot, count FROM harm_counts WHERE kind = ?1 AND slot >= ?2")?;
        let rows =
            statement.query_map(params![kind, since], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?.unsigned_abs())))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// So many of what was counted since this slot came to nothing. The oldest are forgotten: from a later slot they would take
    /// what has gone there, and what was counted in vain would be forgotten before that.
    pub fn uncount_harm(&self, kind: &str, since: i64, count: u64) -> Result<()> {
        let mut left = count;
        let mut slots = self.harm_counts(kind, since)?;
        slots.sort_unstable();
        for (slot, counted) in slots {
            let taken = left.min(counted);
            if taken > 0 {
                self.count_harm(kind, slot, -signed(taken))?;
            }
            left -= taken;
        }
        Ok(())
    }

    /// Counts so many more of a kind in a slot, or takes back so many.
    pub fn count_harm(&self, kind: &str, slot: i64, more: i64) -> Result<()> {
        self.0
            .prepare_cached(
                "INSERT INTO harm_counts (kind, slot, count) VALUES (?1, ?2, max(?3, 0))
                 ON CONFLICT (kind, slot) DO UPDATE SET count = max(count + ?3, 0)",
            )?
            .execute(params![kind, slot, more])?;
        Ok(())
    }

    /// Forgets counts that are of no window any more, what a clock that ran ahead has left, and approvals that are over.
    pub fn prune_harm(&self, before: i64, after: i64, now: DateTime<Utc>) -> Result<()> {
        self.0.execute("DELETE FROM harm_counts WHERE slot < ?1 OR slot > ?2", [before, after])?;
        self.0.execute(
            "UPDATE held SET state = 'ended', ended_at = ?1 WHERE state = 'approved' AND until <= ?1",
            [millis(now)],
        )?;
        Ok(())
    }

    /// Holds that are open, or approved and not used up.
    pub fn current_holds(&self, now: DateTime<Utc>) -> Result<Vec<Hold>> {
        let mut statement = self.0.prepare_cached(&format!(
            "SELECT {COLUMNS} FROM held WHERE state <> 'ended' AND (state = 'open' OR (until > ?1 AND left > 0)) ORDER BY id"
        ))?;
        let rows = statement.query_map([millis(now)], hold)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// A hold by its number.
    pub fn hold(&self, id: i64) -> Result<Option<Hold>> {
        Ok(self
            .0
            .prepare_cached(&format!("SELECT {COLUMNS} FROM held WHERE id = ?1"))?
            .query_row([id], hold)
            .optional()?)
    }

    /// A hold begins; what was approved of the kind before is used up. Its number.
    pub fn begin_hold(&self, kind: &str, wanted: u64, may: u64, now: DateTime<Utc>) -> Result<i64> {
        self.0
            .prepare_cached("UPDATE held SET state = 'ended', ended_at = ?2 WHERE kind = ?1 AND state = 'approved'")?
            .execute(params![kind, millis(now)])?;
        self.0
            .prepare_cached("INSERT INTO held (kind, since, wanted, may) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![kind, millis(now), signed(wanted), signed(may)])?;
        Ok(self.0.last_insert_rowid())
    }

    /// How many want to be written by now.
    pub fn set_hold_wanted(&self, id: i64, wanted: u64) -> Result<()> {
        self.0
            .prepare_cached("UPDATE held SET wanted = ?2 WHERE id = ?1 AND wanted <> ?2")?
            .execute(params![id, signed(wanted)])?;
        Ok(())
    }

    /// Nothing of it wants to be written any more.
    pub fn end_hold(&self, id: i64, now: DateTime<Utc>) -> Result<()> {
        self.0
            .prepare_cached("UPDATE held SET state = 'ended', ended_at = ?2 WHERE id = ?1")?
            .execute(params![id, millis(now)])?;
        Ok(())
    }

    /// Somebody lets it go: so many, for so long.
    pub fn approve_hold(&self, id: i64, left: u64, until: DateTime<Utc>) -> Result<()> {
        self.0
            .prepare_cached(
                "UPDATE held SET state = 'approved', left = ?2, until = ?3 WHERE id = ?1 AND state = 'open'",
            )?
            .execute(params![id, signed(left), millis(until)])?;
        Ok(())
    }

    /// So many of what was approved have gone, or (less than none) came to nothing.
    pub fn use_approval(&self, id: i64, count: i64) -> Result<()> {
        self.0.prepare_cached("UPDATE held SET left = max(left - ?2, 0) WHERE id = ?1")?.execute([id, count])?;
        Ok(())
    }

    /// People that are linked.
    pub fn count_linked(&self) -> Result<u64> {
        // Over the index: a link whose contact is gone counts along.
        let count: i64 = self
            .0
            .prepare_cached("SELECT count(*) FROM links WHERE brevo_id IS NOT NULL")?
            .query_row([], |row| row.get(0))?;
        Ok(count.unsigned_abs())
    }

    /// Something of this kind is held for this person.
    pub fn mark_held(&self, kind: &str, side: SideName, link: i64) -> Result<()> {
        self.0
            .prepare_cached("INSERT OR IGNORE INTO held_links (kind, side, link) VALUES (?1, ?2, ?3)")?
            .execute(params![kind, side.as_str(), link])?;
        Ok(())
    }

    /// Nothing of this kind is held for this person any more.
    pub fn unmark_held(&self, kind: &str, side: SideName, link: i64) -> Result<()> {
        self.0
            .prepare_cached("DELETE FROM held_links WHERE kind = ?1 AND side = ?2 AND link = ?3")?
            .execute(params![kind, side.as_str(), link])?;
        Ok(())
    }

    /// The kinds that are held for this person, with the side to which each would be written.
    pub fn held_for(&self, link: i64) -> Result<Vec<(String, String)>> {
        let mut statement =
            self.0.prepare_cached("SELECT kind, side FROM held_links WHERE link = ?1 ORDER BY kind, side")?;
        let rows = statement.query_map([link], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// For how many people something of this kind is held. Nothing is written for those who are gone on a side, but what they
    /// had said no to in Intercom.
    pub fn count_held(&self, kind: &str) -> Result<u64> {
        let count: i64 = self
            .0
            .prepare_cached(
                "SELECT count(*) FROM held_links h JOIN links l ON l.id = h.link
                 WHERE h.kind = ?1 AND (l.state = 'active' OR (l.state = 'left' AND h.kind = 'opt_outs'
                   AND l.brevo_id IS NOT NULL AND EXISTS (SELECT 1 FROM intercom_contacts c
                         JOIN last_nos n ON n.contact = c.id WHERE c.link = l.id AND c.state <> 'live')))",
            )?
            .query_row([kind], |row| row.get(0))?;
        Ok(count.unsigned_abs())
    }

    /// Whoever something of this kind is held for is planned again, and it is held no more.
    pub fn release_held(&self, kind: &str) -> Result<()> {
        self.0.execute(
            "UPDATE links SET dirty = max(dirty, 2), marks = marks + 1, not_before = 0
             WHERE id IN (SELECT link FROM held_links WHERE kind = ?1)",
            [kind],
        )?;
        self.0.execute("DELETE FROM held_links WHERE kind = ?1", [kind])?;
        Ok(())
    }

    /// No contact is made: whoever waits for one waits longer. How many do.
    pub fn hold_creates(&self) -> Result<u64> {
        self.0
            .prepare_cached(
                "UPDATE links SET not_before = ?1 WHERE dirty > 0 AND brevo_id IS NULL AND import IS NULL
                   AND not_before < ?1 AND (flights IS NULL OR answered = 1)",
            )?
            .execute([NEVER])?;
        // Somebody else made it, and it was found.
        self.0
            .prepare_cached(
                "UPDATE links SET not_before = 0 WHERE dirty > 0 AND brevo_id IS NOT NULL AND not_before >= ?1",
            )?
            .execute([NEVER])?;
        let count: i64 = self
            .0
            .prepare_cached("SELECT count(*) FROM links WHERE dirty > 0 AND brevo_id IS NULL AND not_before >= ?1")?
            .query_row([NEVER], |row| row.get(0))?;
        Ok(count.unsigned_abs() + self.hold_newcomers()?)
    }

    /// Contacts are made again.
    pub fn release_creates(&self, now: DateTime<Utc>) -> Result<()> {
        self.release_newcomers(now)?;
        self.0.execute(
            "UPDATE links SET not_before = 0, dirty = max(dirty, 2) WHERE dirty > 0 AND not_before >= ?1",
            [NEVER],
        )?;
        Ok(())
    }

    /// People for whom a contact is to be made, as far as that is known.
    pub fn count_to_create(&self) -> Result<u64> {
        let count: i64 = self
            .0
            .prepare_cached("SELECT count(*) FROM links WHERE dirty > 0 AND brevo_id IS NULL AND import IS NULL")?
            .query_row([], |row| row.get(0))?;
        Ok(count.unsigned_abs())
    }

    /// How many people in unfinished imports may have opted out since.
    pub fn count_urgent_in_imports(&self) -> Result<u64> {
        let count: i64 = self
            .0
            .prepare_cached("SELECT count(*) FROM links WHERE import IS NOT NULL AND dirty > 0 AND dirty = 3")?
            .query_row([], |row| row.get(0))?;
        Ok(count.unsigned_abs())
    }

    /// Whether an import makes contacts.
    pub fn import_creates(&self, import: i64) -> Result<bool> {
        Ok(self
            .0
            .prepare_cached("SELECT EXISTS (SELECT 1 FROM imports WHERE id = ?1 AND kind = 'create')")?
            .query_row([import], |row| row.get(0))?)
    }

    /// Opt-outs that are to be sent to Intercom now: all, and those of them that no notice carried.
    pub fn count_carried_due(&self, now: DateTime<Utc>) -> Result<(u64, u64)> {
        let (all, bulk): (i64, i64) = self
            .0
            .prepare_cached(&format!(
                "SELECT count(*), coalesce(sum(NOT {TOLD_BY_NOTICE}), 0) FROM carried WHERE due <= ?1"
            ))?
            .query_row([millis(now)], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok((all.unsigned_abs(), bulk.unsigned_abs()))
    }

    /// Whether a notice of Brevo's carried the opt-out of this contact.
    pub fn is_told_by_notice(&self, contact: &str) -> Result<bool> {
        Ok(self
            .0
            .prepare_cached(&format!("SELECT EXISTS (SELECT 1 FROM carried WHERE contact = ?1 AND {TOLD_BY_NOTICE})"))?
            .query_row([contact], |row| row.get(0))?)
    }

    /// Opt-outs that no notice carried are not sent to Intercom; one that a notice has brought meanwhile is. How many wait.
    pub fn hold_opt_outs_to_intercom(&self, now: DateTime<Utc>) -> Result<u64> {
        self.0.execute(
            &format!("UPDATE carried SET due = ?1 WHERE due >= ?2 AND {TOLD_BY_NOTICE}"),
            [millis(now), NEVER],
        )?;
        self.0.execute(
            &format!("UPDATE carried SET due = ?2 WHERE due <= ?1 AND NOT {TOLD_BY_NOTICE}"),
            [millis(now), NEVER],
        )?;
        self.count_opt_outs_held_for_intercom()
    }

    /// How many opt-outs for Intercom wait.
    pub fn count_opt_outs_held_for_intercom(&self) -> Result<u64> {
        let count: i64 = self
            .0
            .prepare_cached("SELECT count(*) FROM carried WHERE due >= ?1")?
            .query_row([NEVER], |row| row.get(0))?;
        Ok(count.unsigned_abs())
    }

    /// They are sent.
    pub fn release_opt_outs_to_intercom(&self, now: DateTime<Utc>) -> Result<()> {
        self.0.execute("UPDATE carried SET due = ?1 WHERE due >= ?2", [millis(now), NEVER])?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::store::Store;

    #[tokio::test]
    async fn what_came_to_nothing_is_taken_off_the_oldest() {
        let counts = |tx: &super::Tx<'_>| {
            for (slot, count) in [(0, 4), (2, 1), (4, 2)] {
                tx.count_harm("creates", slot, count)?;
            }
            tx.uncount_harm("creates", 1, 2)?;
            tx.harm_counts("creates", 0)
        };
        let mut counts = Store::in_memory().unwrap().write(counts).await.unwrap();
        counts.sort_unstable();
        assert_eq!(counts, [(0, 4), (2, 0), (4, 1)]);
    }
}
