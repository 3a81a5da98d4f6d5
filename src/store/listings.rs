//! What people are told: failures, notices, conflicts, history, and counts.

use super::{Packed, Result, Tx, instant, millis, rare::Rare};
use crate::model::{SideError, SideName, pack};
use chrono::{DateTime, Utc};
use minicbor::{Decode, Encode};
use rusqlite::{OptionalExtension as _, ToSql, params};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Something that a vendor refused, or that we left out ourselves because it could not have gone well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// Its number, for `failed retry`.
    pub id: i64,
    /// The link, if it is about one.
    pub link: Option<i64>,
    /// Which record, by id.
    pub subject: String,
    /// The person's Brevo contact, if there is one.
    pub brevo: Option<i64>,
    /// Which field; empty: the whole record.
    pub field: String,
    /// Who refused it. `None`: nobody was asked, we left it out.
    pub refused_by: Option<SideName>,
    /// The words of who refused it, or why we left it out.
    pub message: String,
    /// HTTP status of a refusal, where there was one.
    pub status: Option<u16>,
    /// First seen.
    pub first_at: DateTime<Utc>,
    /// Last seen.
    pub last_at: DateTime<Utc>,
    /// How often.
    pub tries: u32,
    /// Given up until `failed retry`.
    pub dead: bool,
}

/// Opt-outs that are to reach Intercom, or may not have.
const CARRIED_PENDING: &str =
    "SELECT count(*) FROM carried WHERE due < 253370764800000 OR (until IS NOT NULL AND landed = 0)";

/// People with something to be written to Intercom, or of which nobody knows yet whether it was.
const WRITE_BACKS_PENDING: &str =
    "SELECT count(*) FROM write_backs WHERE due IS NOT NULL OR (watched IS NOT NULL AND answered = 0)";

/// The field under which an opt-out that Intercom refuses is listed.
pub const OPT_OUT_IN_INTERCOM: &str = "unsubscribed_from_emails";

/// Something that a vendor has just refused, or that we leave out.
#[derive(Debug, Clone, Copy)]
pub struct NewFailure<'a> {
    /// The link, if it is about one.
    pub link: Option<i64>,
    /// Which record, by id.
    pub subject: &'a str,
    /// Which field; empty: the whole record.
    pub field: &'a str,
    /// Who refused it. `None`: nobody was asked.
    pub refused_by: Option<SideName>,
    /// The words of who refused it, or why we leave it out.
    pub message: &'a str,
    /// HTTP status of a refusal, where there was one.
    pub status: Option<u16>,
    /// Given up until `failed retry`.
    pub dead: bool,
}

impl<'a> NewFailure<'a> {
    /// Something that we leave out ourselves, and do not try again by ourselves as long as nothing changes.
    pub fn left_out(link: Option<i64>, subject: &'a str, field: &'a str, message: &'a str) -> Self {
        Self { link, subject, field, refused_by: None, message, status: None, dead: true }
    }

    /// Something that a vendor refused, in its words, and that is not tried again as long as nothing changes.
    pub fn refused(link: Option<i64>, subject: &'a str, field: &'a str, error: &'a SideError) -> Self {
        let (refused_by, status) = (Some(error.side), error.status);
        Self { refused_by, status, ..Self::left_out(link, subject, field, &error.message) }
    }
}

/// What people are told about a record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NoticeRow {
    /// Its kind.
    pub kind: String,
    /// About whom or what.
    pub subject: String,
    /// More, where there is more.
    pub detail: Option<String>,
    /// Since when it is so.
    pub since: DateTime<Utc>,
}

/// A value that another replaced although nobody had agreed to that.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Conflict {
    /// Its number, for `conflicts pick`; 0 before it is kept.
    pub id: i64,
    /// Whose; below zero, a company's: less the number of its row.
    pub link: i64,
    /// Which field.
    pub field: String,
    /// Where the replaced value stood.
    pub side: SideName,
    /// What was replaced, as JSON.
    pub lost: String,
    /// By what, as JSON.
    pub kept: String,
    /// Why.
    pub rule: String,
    /// When.
    pub at: DateTime<Utc>,
    /// The import that carried it.
    pub import: Option<i64>,
}

/// A conflict with the person's records, for people who look it up.
#[derive(Debug, Clone, PartialEq)]
pub struct ListedConflict {
    /// The conflict.
    pub conflict: Conflict,
    /// The person's primary contact in Intercom.
    pub intercom: Option<String>,
    /// The person's contact in Brevo.
    pub brevo: Option<i64>,
    /// The Intercom company, if it is about one.
    pub company: Option<String>,
}

/// One change that we made, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// Whose.
    pub link: Option<i64>,
    /// When.
    pub at: DateTime<Utc>,
    /// The request, in words.
    pub what: String,
    /// Field → why.
    pub fields: BTreeMap<String, String>,
    /// What the vendor answered.
    pub answer: String,
    /// The import that carried it.
    pub import: Option<i64>,
    /// The request that carried it, in the vendor's own terms; `None`: the import's.
    pub request: Option<String>,
}

/// Field → why. The reasons are few, and so are the fields.
#[derive(Encode, Decode)]
#[cbor(context_bound = "pack::Words")]
pub struct Causes(
    #[n(0)]
    #[cbor(with = "pack::by_word")]
    BTreeMap<String, pack::Word>,
);

impl FromIterator<(String, String)> for Causes {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(causes: I) -> Self {
        Self(causes.into_iter().map(|(field, why)| (field, pack::Word(why))).collect())
    }
}

/// The state in numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// Intercom contacts that are there.
    pub intercom_contacts: u64,
    /// Brevo contacts that are there.
    pub brevo_contacts: u64,
    /// People in step: links with a Brevo contact and a base.
    pub contacts_synced: u64,
    /// Opt-outs on their way to Intercom.
    pub opt_outs_to_intercom: u64,
    /// People with other changes on their way to Intercom.
    pub changes_to_intercom: u64,
    /// Conversations read.
    pub conversations_synced: u64,
    /// Companies read.
    pub companies_synced: u64,
    /// People and events that wait to be written, or for the outcome of a write.
    pub pending: u64,
    /// Of these, people whose last write's outcome is to be verified.
    pub verifying: u64,
    /// Contacts that a full read did not show, still to be asked for by id.
    pub to_confirm: u64,
    /// Records and fields that were refused or left out.
    pub failed: u64,
    /// Of these, what no vendor has seen: left out by ourselves.
    pub left_out: u64,
    /// Notices by kind.
    pub notices: BTreeMap<String, u64>,
    /// Conflicts logged.
    pub conflicts: u64,
}

fn side_of(name: &str) -> SideName {
    if name == SideName::Intercom.as_str() { SideName::Intercom } else { SideName::Brevo }
}

impl Tx<'_> {
    /// Notes that something was refused.
    pub fn put_failure(&self, failure: &NewFailure<'_>, now: DateTime<Utc>) -> Result<()> {
        let NewFailure { link, subject, field, refused_by, message, status, dead } = *failure;
        self.0
            .prepare_cached(
                "INSERT INTO failures (link, subject, field, message, status, first_at, last_at, dead, refused_by)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6, ?7, ?8)
                 ON CONFLICT (subject, field) DO UPDATE SET message = excluded.message, status = excluded.status,
                     last_at = excluded.last_at, tries = tries + 1, dead = excluded.dead, link = excluded.link,
                     refused_by = excluded.refused_by",
            )?
            .execute(params![
                link,
                subject,
                field,
                message,
                status,
                millis(now),
                dead,
                refused_by.map(SideName::as_str)
            ])?;
        Ok(())
    }

    /// Somebody else speaks for a link: its failures are listed under them.
    pub fn refile_failures(&self, link: i64, subject: &str) -> Result<()> {
        self.0
            .prepare_cached("UPDATE OR REPLACE failures SET subject = ?2 WHERE link = ?1 AND subject <> ?2")?
            .execute(params![link, subject])?;
        Ok(())
    }

    /// The trouble is over: all of a link's failures, but for the fields named.
    pub fn clear_failures(&self, link: i64, but: &[&str]) -> Result<usize> {
        let mut cleared = 0;
        let mut statement = self.0.prepare_cached("SELECT id, field FROM failures WHERE link = ?1")?;
        let rows: Vec<(i64, String)> =
            statement.query_map([link], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<rusqlite::Result<_>>()?;
        for (id, field) in rows {
            if !but.contains(&field.as_str()) {
                cleared += self.0.prepare_cached("DELETE FROM failures WHERE id = ?1")?.execute([id])?;
            }
        }
        Ok(cleared)
    }

    /// All trouble of a person is over, and what was left out is tried again: left out without being listed, nobody would
    /// know of it.
    pub fn forget_failures(&self, link: i64) -> Result<()> {
        self.clear_failures(link, &[])?;
        self.set_quarantined(link, &BTreeMap::new())
    }

    /// One record's trouble with one field is over.
    pub fn clear_failure(&self, subject: &str, field: &str) -> Result<()> {
        self.0.prepare_cached("DELETE FROM failures WHERE subject = ?1 AND field = ?2")?.execute([subject, field])?;
        Ok(())
    }

    /// A link's trouble with one field is over, whichever record it is about.
    pub fn clear_failure_of_link(&self, link: i64, field: &str) -> Result<()> {
        self.0.prepare_cached("DELETE FROM failures WHERE link = ?1 AND field = ?2")?.execute(params![link, field])?;
        Ok(())
    }

    /// The trouble of a record that has no link is over, but for the fields named.
    pub fn clear_failures_of(&self, subject: &str, but: &[&str]) -> Result<()> {
        let mut statement = self.0.prepare_cached("SELECT field FROM failures WHERE subject = ?1")?;
        let fields: Vec<String> = statement.query_map([subject], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
        fields
            .iter()
            .filter(|field| !but.contains(&field.as_str()))
            .try_for_each(|field| self.clear_failure(subject, field))
    }

    /// What was refused or left out, newest first.
    pub fn failures(&self, limit: usize) -> Result<Vec<Failure>> {
        let mut statement = self.0.prepare_cached(
            "SELECT f.id, f.link, f.subject, f.field, f.message, f.status, f.first_at, f.last_at, f.tries, f.dead,
                    f.refused_by, l.brevo_id
             FROM failures f LEFT JOIN links l ON l.id = f.link ORDER BY f.last_at DESC, f.id DESC LIMIT ?1",
        )?;
        let rows = statement.query_map([i64::try_from(limit).unwrap_or(i64::MAX)], |row| {
            let refused_by = row.get::<_, Option<String>>(10)?;
            Ok(Failure {
                id: row.get(0)?,
                link: row.get(1)?,
                subject: row.get(2)?,
                brevo: row.get(11)?,
                field: row.get(3)?,
                refused_by: [SideName::Intercom, SideName::Brevo]
                    .into_iter()
                    .find(|side| refused_by.as_deref() == Some(side.as_str())),
                message: row.get(4)?,
                status: row.get(5)?,
                first_at: instant(row.get(6)?),
                last_at: instant(row.get(7)?),
                tries: row.get(8)?,
                dead: row.get(9)?,
            })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// What Brevo said when it refused this person's phone: words and HTTP status.
    pub fn refusal_of_phone(&self, link: i64) -> Result<Option<(String, Option<u16>)>> {
        Ok(self
            .0
            .prepare_cached(
                "SELECT message, status FROM failures
                 WHERE link = ?1 AND refused_by = 'brevo' AND field LIKE '%-> SMS' ORDER BY id LIMIT 1",
            )?
            .query_row([link], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?)
    }

    /// Tries refused records again: all, or one failure. How many people are planned again, and events sent again.
    pub fn retry_failures(&self, id: Option<i64>) -> Result<usize> {
        let links = self.0.execute(
            "UPDATE links SET dirty = max(dirty, 2), marks = marks + 1, not_before = 0, tries = 0, quarantined = NULL
             WHERE id IN (SELECT link FROM failures WHERE ?1 IS NULL OR id = ?1)",
            [id],
        )?;
        let events = self.0.execute(
            "UPDATE outbox SET state = 'open', not_before = 0, tries = 0 WHERE state = 'dead' AND key IN
               (SELECT substr(subject, 7) FROM failures WHERE subject GLOB 'event *' AND (?1 IS NULL OR id = ?1))",
            [id],
        )?;
        let opt_outs = self.0.execute(
            "UPDATE carried SET due = 0, tries = 0 WHERE told = 1 AND until IS NULL AND tries > 0 AND contact IN
               (SELECT substr(subject, 9) FROM failures
                WHERE subject GLOB 'contact *' AND field = ?2 AND (?1 IS NULL OR id = ?1))",
            params![id, OPT_OUT_IN_INTERCOM],
        )?;
        let companies = self.0.execute(
            "UPDATE firms SET due = 0, tries = 0, quarantined = NULL WHERE intercom IN
               (SELECT substr(subject, 9) FROM failures WHERE subject GLOB 'company *' AND (?1 IS NULL OR id = ?1))",
            [id],
        )?;
        self.0.execute(
            "DELETE FROM failures WHERE (?1 IS NULL OR id = ?1) AND
               (link IS NOT NULL OR field = ?2 OR subject GLOB 'company *'
                OR EXISTS (SELECT 1 FROM outbox WHERE key = substr(subject, 7) AND subject GLOB 'event *'))",
            params![id, OPT_OUT_IN_INTERCOM],
        )?;
        Ok(links + events + opt_outs + companies)
    }

    /// Tells people something about a record, once.
    pub fn put_notice(&self, kind: &str, subject: &str, detail: Option<&str>, now: DateTime<Utc>) -> Result<()> {
        self.fills(Rare::Notices);
        self.0
            .prepare_cached(
                "INSERT INTO notices (kind, subject, detail, since) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (kind, subject) DO UPDATE SET detail = excluded.detail",
            )?
            .execute(params![kind, subject, detail, millis(now)])?;
        Ok(())
    }

    /// It is no longer so.
    pub fn clear_notice(&self, kind: &str, subject: &str) -> Result<()> {
        if !self.holds(Rare::Notices)? {
            return Ok(());
        }
        self.0.prepare_cached("DELETE FROM notices WHERE kind = ?1 AND subject = ?2")?.execute([kind, subject])?;
        Ok(())
    }

    /// What was listed about one is about another.
    pub fn refile_notice(&self, kind: &str, from: &str, to: &str) -> Result<()> {
        if from == to || !self.holds(Rare::Notices)? {
            return Ok(());
        }
        self.0
            .prepare_cached("UPDATE OR REPLACE notices SET subject = ?3 WHERE kind = ?1 AND subject = ?2")?
            .execute([kind, from, to])?;
        Ok(())
    }

    /// Notices of a kind (or all): kind, subject, detail.
    pub fn notices(&self, kind: Option<&str>, limit: usize) -> Result<Vec<(String, String, Option<String>)>> {
        let mut statement = self.0.prepare_cached(
            "SELECT kind, subject, detail FROM notices WHERE ?1 IS NULL OR kind = ?1 ORDER BY kind, subject LIMIT ?2",
        )?;
        let rows = statement.query_map(params![kind, limit], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Notices of a kind (or all), with their time: the latest of each kind first.
    pub fn list_notices(&self, kind: Option<&str>, limit: usize) -> Result<Vec<NoticeRow>> {
        let mut statement = self.0.prepare_cached(
            "SELECT kind, subject, detail, since FROM notices WHERE ?1 IS NULL OR kind = ?1
             ORDER BY kind, since DESC, subject LIMIT ?2",
        )?;
        let rows = statement.query_map(params![kind, i64::try_from(limit).unwrap_or(i64::MAX)], |row| {
            Ok(NoticeRow { kind: row.get(0)?, subject: row.get(1)?, detail: row.get(2)?, since: instant(row.get(3)?) })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// The kinds of the notices that there are.
    pub fn notice_kinds(&self) -> Result<Vec<String>> {
        let mut statement = self.0.prepare_cached("SELECT DISTINCT kind FROM notices ORDER BY kind")?;
        let kinds = statement.query_map([], |row| row.get(0))?;
        Ok(kinds.collect::<rusqlite::Result<_>>()?)
    }

    /// Keeps a value that was replaced.
    pub fn put_conflict(&self, conflict: &Conflict) -> Result<()> {
        self.0
            .prepare_cached(
                "INSERT INTO conflicts (link, field, side, lost, kept, rule, at, import) VALUES (?1, ?2, ?8, ?3, ?4, ?5, ?6, ?7)",
            )?
            .execute(params![
                conflict.link,
                conflict.field,
                conflict.lost,
                conflict.kept,
                conflict.rule,
                millis(conflict.at),
                conflict.import,
                conflict.side.as_str()
            ])?;
        Ok(())
    }

    /// Values that were replaced, newest first.
    pub fn conflicts(&self, limit: usize) -> Result<Vec<Conflict>> {
        self.conflicts_of(None, limit)
    }

    fn conflicts_of(&self, link: Option<i64>, limit: usize) -> Result<Vec<Conflict>> {
        self.conflicts_where("?1 IS NULL OR link = ?1", link, limit)
    }

    fn conflicts_where(&self, condition: &str, value: Option<i64>, limit: usize) -> Result<Vec<Conflict>> {
        let mut statement = self.0.prepare_cached(&format!(
            "SELECT link, field, lost, kept, rule, at, import, side, id FROM conflicts WHERE {condition}
              ORDER BY id DESC LIMIT ?2"
        ))?;
        let rows = statement.query_map(params![value, i64::try_from(limit).unwrap_or(i64::MAX)], |row| {
            Ok(Conflict {
                link: row.get(0)?,
                field: row.get(1)?,
                lost: row.get(2)?,
                kept: row.get(3)?,
                rule: row.get(4)?,
                at: instant(row.get(5)?),
                import: row.get(6)?,
                side: side_of(&row.get::<_, String>(7)?),
                id: row.get(8)?,
            })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// A value that was replaced, by its number.
    pub fn conflict(&self, id: i64) -> Result<Option<Conflict>> {
        Ok(self.conflicts_where("id = ?1", Some(id), 1)?.pop())
    }

    /// Values that were replaced (of one link), with the person's records, newest first.
    pub fn list_conflicts(&self, link: Option<i64>, limit: usize) -> Result<Vec<ListedConflict>> {
        let mut primary = self
            .0
            .prepare_cached("SELECT id FROM intercom_contacts WHERE link = ?1 ORDER BY is_primary DESC, id LIMIT 1")?;
        let mut brevo = self.0.prepare_cached("SELECT brevo_id FROM links WHERE id = ?1")?;
        let listed = self.conflicts_of(link, limit)?.into_iter().map(|conflict| {
            let intercom = primary.query_row([conflict.link], |row| row.get(0)).optional()?;
            let brevo = brevo.query_row([conflict.link], |row| row.get(0)).optional()?.flatten();
            let company = self.firm(-conflict.link)?.map(|firm| firm.intercom.as_str().to_owned());
            Ok(ListedConflict { conflict, intercom, brevo, company })
        });
        listed.collect()
    }

    /// Keeps a change that we made.
    pub fn put_change(&self, change: &Change) -> Result<()> {
        let causes: Causes = change.fields.iter().map(|(field, why)| (field.clone(), why.clone())).collect();
        self.insert_change(params![
            change.link,
            millis(change.at),
            change.what,
            self.pack("changes", &causes)?.bytes(),
            change.answer,
            change.import,
            change.request
        ])
    }

    /// Keeps what an import carries for one link. Its fields are packed already.
    pub fn put_import_change(
        &self,
        (link, import): (i64, i64),
        what: &str,
        fields: &Packed,
        answer: &str,
        at: DateTime<Utc>,
    ) -> Result<()> {
        self.insert_change(params![link, millis(at), what, fields.bytes(), answer, import, None::<&str>])
    }

    fn insert_change(&self, columns: &[&dyn ToSql]) -> Result<()> {
        self.0
            .prepare_cached(
                "INSERT INTO changes (link, at, what, fields, answer, import, request) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?
            .execute(columns)?;
        Ok(())
    }

    /// The latest changes (of one link), newest first.
    pub fn changes(&self, link: Option<i64>, limit: usize) -> Result<Vec<Change>> {
        let mut statement = self.0.prepare_cached(
            "SELECT link, at, what, fields, answer, import, request FROM changes WHERE ?1 IS NULL OR link = ?1
             ORDER BY id DESC LIMIT ?2",
        )?;
        let rows = statement.query_map(params![link, limit], |row| {
            let fields: Vec<u8> = row.get(3)?;
            let request: Option<String> = row.get(6)?;
            Ok((row.get(0)?, row.get::<_, i64>(1)?, row.get(2)?, fields, row.get(4)?, row.get(5)?, request))
        })?;
        rows.map(|row| {
            let (link, at, what, fields, answer, import, request) = row?;
            let Causes(causes) = self.kept(fields).unpack("changes")?;
            let fields = causes.into_iter().map(|(field, why)| (field, why.0)).collect();
            Ok(Change { link, at: instant(at), what, fields, answer, import, request })
        })
        .collect()
    }

    /// Forgets history from before `before`.
    pub fn prune_changes(&self, before: DateTime<Utc>) -> Result<usize> {
        // They are in the order of time: the eldest are walked up to the first that stays, and no index is kept for it.
        Ok(self.0.execute(
            "DELETE FROM changes WHERE id <
               coalesce((SELECT id FROM changes WHERE at >= ?1 ORDER BY id LIMIT 1), 9223372036854775807)",
            [millis(before)],
        )?)
    }

    /// Adds to a named counter.
    pub fn count(&self, name: &str, more: i64) -> Result<()> {
        self.0
            .prepare_cached(
                "INSERT INTO counters (name, value) VALUES (?1, ?2)
                 ON CONFLICT (name) DO UPDATE SET value = value + excluded.value",
            )?
            .execute(params![name, more])?;
        Ok(())
    }

    /// A named counter.
    pub fn counter(&self, name: &str) -> Result<i64> {
        Ok(self
            .0
            .prepare_cached("SELECT value FROM counters WHERE name = ?1")?
            .query_row([name], |row| row.get(0))
            .optional()?
            .unwrap_or(0))
    }

    /// Whether anything waits: cheap, because it is asked every few seconds.
    pub fn has_work(&self) -> Result<bool> {
        Ok(self
            .0
            .prepare_cached(
                "SELECT EXISTS (SELECT 1 FROM links WHERE dirty > 0) OR EXISTS (SELECT 1 FROM imports WHERE state <> 'done')
                   OR EXISTS (SELECT 1 FROM intercom_contacts WHERE unplaced > 0)
                   OR EXISTS (SELECT 1 FROM intercom_contacts WHERE wants_tags + wants_companies + wants_fetch > 0)
                   OR EXISTS (SELECT 1 FROM outbox WHERE state IN ('open', 'sending'))
                   OR EXISTS (SELECT 1 FROM inbox WHERE done_at IS NULL)
                   OR EXISTS (SELECT 1 FROM carried WHERE due IS NOT NULL)
                   OR EXISTS (SELECT 1 FROM write_backs WHERE due IS NOT NULL)
                   OR EXISTS (SELECT 1 FROM to_confirm)",
            )?
            .query_row([], |row| row.get(0))?)
    }

    /// The state in numbers.
    pub fn counts(&self) -> Result<Counts> {
        let one = |sql: &str| -> Result<u64> {
            Ok(self.0.prepare_cached(sql)?.query_row([], |row| row.get::<_, i64>(0))?.unsigned_abs())
        };
        let mut statement = self.0.prepare_cached("SELECT kind, count(*) FROM notices GROUP BY kind")?;
        let notices = statement
            .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?.unsigned_abs())))?
            .collect::<rusqlite::Result<_>>()?;
        Ok(Counts {
            intercom_contacts: one("SELECT count(*) FROM intercom_contacts WHERE state = 'live'")?,
            brevo_contacts: one("SELECT count(*) FROM brevo_contacts WHERE gone = 0")?,
            contacts_synced: one(
                "SELECT count(*) FROM links WHERE state = 'active' AND brevo_id IS NOT NULL AND length(base) > 0
                   AND import IS NULL",
            )?,
            conversations_synced: one("SELECT count(*) FROM conversations WHERE gone = 0")?,
            companies_synced: one("SELECT count(*) FROM companies WHERE gone = 0")?,
            pending: one(
                "SELECT count(*) FROM links WHERE (dirty > 0 AND not_before < 253370764800000) OR import IS NOT NULL OR (flights IS NOT NULL AND answered = 0)",
            )? + self.count_outbox()?
                + one(CARRIED_PENDING)?
                + one(WRITE_BACKS_PENDING)?,
            opt_outs_to_intercom: one(CARRIED_PENDING)?,
            changes_to_intercom: one(WRITE_BACKS_PENDING)?,
            verifying: one("SELECT count(*) FROM links WHERE flights IS NOT NULL AND answered = 0")?,
            to_confirm: self.count_to_ask_for()?,
            failed: one("SELECT count(*) FROM failures")?,
            left_out: one("SELECT count(*) FROM failures WHERE refused_by IS NULL")?,
            notices,
            conflicts: one("SELECT count(*) FROM conflicts")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    #[tokio::test]
    async fn history_is_forgotten_up_to_the_first_that_stays() {
        let store = Store::in_memory().unwrap();
        let of = |at: i64| Change {
            link: Some(1),
            at: instant(at),
            what: at.to_string(),
            fields: BTreeMap::from([("SMS".to_owned(), "changed in Intercom".to_owned())]),
            answer: "accepted".to_owned(),
            import: None,
            request: None,
        };
        let left = store.write(move |tx| {
            let mut left = Vec::new();
            for at in [10, 20, 30] {
                tx.put_change(&of(at))?;
            }
            for before in [10, 25, 31] {
                tx.prune_changes(instant(before))?;
                left.push(tx.changes(None, 10)?.iter().map(|change| change.what.clone()).collect::<Vec<_>>().join(" "));
            }
            Ok(left)
        });
        assert_eq!(left.await.unwrap(), ["30 20 10", "30", ""]);
    }
}
