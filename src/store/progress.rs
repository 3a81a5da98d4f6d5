//! How far everything is: sweeps and watermarks, the schedule, runs, and the pair of accounts that the state is of.

use super::{Result, StoreError, Tx, decode, encode, instant, millis};
use crate::model::{Budget, Cursor, Resource, Scope, SideName};
use chrono::{DateTime, Utc};
use rusqlite::{OptionalExtension as _, params};

/// A sweep on its way. Durable: a crash loses a page, not a sweep.
#[derive(Debug, Clone, PartialEq)]
pub struct Sweep {
    /// What is swept.
    pub scope: Scope,
    /// Where to go on; `None` before the first page.
    pub cursor: Option<Cursor>,
    /// The vendor's clock at the first answer: the next watermark comes from it.
    pub started_at: Option<DateTime<Utc>>,
    /// Our clock when it began: writes that may land later are not settled by it.
    pub began_at: DateTime<Utc>,
    /// Its number: contacts remember the last full sweep that showed them.
    pub number: i64,
    /// Pages so far.
    pub pages: u64,
    /// Records so far.
    pub rows: u64,
    /// How many there are, by the vendor's latest word.
    pub total: Option<u64>,
    /// Fingerprint of the page before.
    pub last_page: Option<String>,
}

/// One finished or running run, for `status`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Run {
    /// What ran.
    pub kind: String,
    /// When it began.
    pub began_at: DateTime<Utc>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// `ok`, `partial`, `failed`.
    pub outcome: Option<String>,
    /// In words or JSON.
    pub summary: Option<String>,
}

/// From where the next incremental read starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watermark {
    /// The vendor's instant.
    pub at: DateTime<Utc>,
    /// When a full sweep ended last; `None`: never, so that nothing incremental makes sense yet.
    pub full_at: Option<DateTime<Utc>>,
}

/// When a job ran and runs next.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobTimes {
    /// Its last start.
    pub last_began: Option<DateTime<Utc>>,
    /// Its last end.
    pub last_ended: Option<DateTime<Utc>>,
    /// Its next start.
    pub next_at: Option<DateTime<Utc>>,
}

impl Tx<'_> {
    /// A remembered word.
    pub fn meta(&self, key: &str) -> Result<Option<String>> {
        Ok(self
            .0
            .prepare_cached("SELECT value FROM meta WHERE key = ?1")?
            .query_row([key], |row| row.get(0))
            .optional()?)
    }

    /// Remembers a word.
    pub fn set_meta(&self, key: &str, value: &str) -> Result<()> {
        self.0
            .prepare_cached(
                "INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            )?
            .execute([key, value])?;
        Ok(())
    }

    /// The state belongs to one pair of accounts, for ever: any other is refused before the first write.
    ///
    /// # Errors
    /// [`StoreError::OtherPair`].
    pub fn claim_pair(&self, intercom: &str, brevo: &str) -> Result<()> {
        match (self.meta("intercom")?, self.meta("brevo")?) {
            (Some(i), Some(b)) if i == intercom && b == brevo => Ok(()),
            (Some(intercom), Some(brevo)) => Err(StoreError::OtherPair { intercom, brevo }),
            _ => {
                self.set_meta("intercom", intercom)?;
                self.set_meta("brevo", brevo)
            }
        }
    }

    /// A number that no sweep had before.
    pub fn next_sweep_number(&self) -> Result<i64> {
        let next = self.meta("sweep_number")?.and_then(|text| text.parse().ok()).unwrap_or(0_i64) + 1;
        self.set_meta("sweep_number", &next.to_string())?;
        Ok(next)
    }

    /// The sweep on its way.
    pub fn sweep(&self, side: SideName, resource: Resource) -> Result<Option<Sweep>> {
        let found = self
            .0
            .prepare_cached(
                "SELECT scope, cursor, started_at, began_at, number, pages, rows, total, last_page FROM sweeps
                 WHERE side = ?1 AND resource = ?2",
            )?
            .query_row([side.as_str(), resource.as_str()], |row| {
                Ok((
                    row.get::<_, String>(0)?,
                    Sweep {
                        scope: Scope::Full,
                        cursor: row.get::<_, Option<String>>(1)?.map(Cursor),
                        started_at: row.get::<_, Option<i64>>(2)?.map(instant),
                        began_at: instant(row.get(3)?),
                        number: row.get(4)?,
                        pages: row.get::<_, i64>(5)?.unsigned_abs(),
                        rows: row.get::<_, i64>(6)?.unsigned_abs(),
                        total: row.get::<_, Option<i64>>(7)?.map(i64::unsigned_abs),
                        last_page: row.get(8)?,
                    },
                ))
            })
            .optional()?;
        found.map(|(scope, sweep)| Ok(Sweep { scope: decode("sweeps", &scope)?, ..sweep })).transpose()
    }

    /// Keeps how far a sweep is.
    pub fn put_sweep(&self, side: SideName, resource: Resource, sweep: &Sweep) -> Result<()> {
        let count = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        self.0
            .prepare_cached(
                "INSERT OR REPLACE INTO sweeps
                     (side, resource, scope, cursor, started_at, began_at, number, pages, rows, total, last_page)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
            )?
            .execute(params![
                side.as_str(),
                resource.as_str(),
                encode("sweeps", &sweep.scope)?,
                sweep.cursor.as_ref().map(|cursor| &cursor.0),
                sweep.started_at.map(millis),
                millis(sweep.began_at),
                sweep.number,
                count(sweep.pages),
                count(sweep.rows),
                sweep.total.map(count),
                sweep.last_page,
            ])?;
        Ok(())
    }

    /// The sweep is over (or given up).
    pub fn end_sweep(&self, side: SideName, resource: Resource) -> Result<()> {
        self.0
            .prepare_cached("DELETE FROM sweeps WHERE side = ?1 AND resource = ?2")?
            .execute([side.as_str(), resource.as_str()])?;
        Ok(())
    }

    /// From where the next incremental read starts, and when a full sweep ended last.
    pub fn watermark(&self, side: SideName, resource: Resource) -> Result<Option<Watermark>> {
        Ok(self
            .0
            .prepare_cached("SELECT instant, full_at FROM watermarks WHERE side = ?1 AND resource = ?2")?
            .query_row([side.as_str(), resource.as_str()], |row| {
                Ok(Watermark { at: instant(row.get(0)?), full_at: row.get::<_, Option<i64>>(1)?.map(instant) })
            })
            .optional()?)
    }

    /// Moves a watermark; `full_at` if a full sweep has just ended. A watermark never moves back.
    pub fn set_watermark(
        &self,
        side: SideName,
        resource: Resource,
        at: DateTime<Utc>,
        full_at: Option<DateTime<Utc>>,
    ) -> Result<()> {
        self.0
            .prepare_cached(
                "INSERT INTO watermarks (side, resource, instant, full_at) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (side, resource) DO UPDATE SET instant = max(instant, excluded.instant),
                     full_at = coalesce(excluded.full_at, full_at)",
            )?
            .execute(params![side.as_str(), resource.as_str(), millis(at), full_at.map(millis)])?;
        Ok(())
    }

    /// When a job ran and runs next.
    pub fn job(&self, job: &str) -> Result<JobTimes> {
        Ok(self
            .0
            .prepare_cached("SELECT last_began, last_ended, next_at FROM schedule WHERE job = ?1")?
            .query_row([job], |row| {
                let at = |index| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(index)?.map(instant));
                Ok(JobTimes { last_began: at(0)?, last_ended: at(1)?, next_at: at(2)? })
            })
            .optional()?
            .unwrap_or_default())
    }

    /// Keeps when a job ran and runs next.
    pub fn put_job(&self, job: &str, times: &JobTimes) -> Result<()> {
        self.0
            .prepare_cached(
                "INSERT OR REPLACE INTO schedule (job, last_began, last_ended, next_at) VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute(params![
                job,
                times.last_began.map(millis),
                times.last_ended.map(millis),
                times.next_at.map(millis)
            ])?;
        Ok(())
    }

    /// All jobs.
    pub fn jobs(&self) -> Result<Vec<(String, JobTimes)>> {
        let mut statement = self.0.prepare_cached("SELECT job FROM schedule ORDER BY job")?;
        let names: Vec<String> = statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
        names.into_iter().map(|name| Ok((name.clone(), self.job(&name)?))).collect()
    }

    /// A run begins.
    pub fn begin_run(&self, kind: &str, now: DateTime<Utc>) -> Result<i64> {
        self.0.execute("INSERT INTO runs (kind, began_at) VALUES (?1, ?2)", params![kind, millis(now)])?;
        let id = self.0.last_insert_rowid();
        self.0.execute("DELETE FROM runs WHERE id <= ?1 - 500", [id])?;
        Ok(id)
    }

    /// A run ends.
    pub fn end_run(&self, id: i64, outcome: &str, summary: &str, now: DateTime<Utc>) -> Result<()> {
        self.0.execute(
            "UPDATE runs SET ended_at = ?2, outcome = ?3, summary = ?4 WHERE id = ?1",
            params![id, millis(now), outcome, summary],
        )?;
        Ok(())
    }

    /// The latest runs, newest first.
    pub fn runs(&self, limit: usize) -> Result<Vec<Run>> {
        let mut statement = self
            .0
            .prepare_cached("SELECT kind, began_at, ended_at, outcome, summary FROM runs ORDER BY id DESC LIMIT ?1")?;
        let rows = statement.query_map([limit], |row| {
            Ok(Run {
                kind: row.get(0)?,
                began_at: instant(row.get(1)?),
                ended_at: row.get::<_, Option<i64>>(2)?.map(instant),
                outcome: row.get(3)?,
                summary: row.get(4)?,
            })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Keeps what is left of the budgets, for `status`.
    pub fn put_budgets(&self, side: SideName, budgets: &[Budget], now: DateTime<Utc>) -> Result<()> {
        let mut statement = self
            .0
            .prepare_cached("INSERT OR REPLACE INTO budgets (side, family, budget, at) VALUES (?1, ?2, ?3, ?4)")?;
        for budget in budgets {
            statement.execute(params![side.as_str(), budget.family, encode("budgets", budget)?, millis(now)])?;
        }
        Ok(())
    }

    /// What was left of the budgets, and when.
    pub fn budgets(&self) -> Result<Vec<(String, Budget, DateTime<Utc>)>> {
        let mut statement = self.0.prepare_cached("SELECT side, budget, at FROM budgets ORDER BY side, family")?;
        let rows = statement
            .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, i64>(2)?)))?;
        rows.map(|row| {
            let (side, budget, at) = row?;
            Ok((side, decode("budgets", &budget)?, instant(at)))
        })
        .collect()
    }
}
