//! Links: who is whom, what both sides agreed on, our writes on their way, and what is to be planned.

use super::{Packed, Result, Tx, decode, encode, instant, millis};
use crate::model::{BrevoContactId, Email, IntercomCompanyId};
use chrono::{DateTime, Utc};
use rusqlite::{OptionalExtension as _, Row, params};
use std::collections::BTreeMap;

/// How a link is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkState {
    /// In step.
    Active,
    /// Its Brevo contact is gone: counted, listed, never made again.
    BrevoGone,
    /// Nobody of its address is left in Intercom: a tombstone; Brevo is left alone, once it has been told what they had said
    /// no to.
    Left,
}

impl LinkState {
    fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::BrevoGone => "brevo_gone",
            Self::Left => "left",
        }
    }

    fn parse(text: &str) -> Self {
        match text {
            "brevo_gone" => Self::BrevoGone,
            "left" => Self::Left,
            _ => Self::Active,
        }
    }
}

/// How urgent planning is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dirty {
    /// Nothing to plan.
    No,
    /// Sweeps and backfills.
    Backfill,
    /// Webhooks and incremental reads.
    Live,
    /// Somebody opted out: before anything else.
    Consent,
}

impl Dirty {
    pub(super) fn as_int(self) -> i64 {
        match self {
            Self::No => 0,
            Self::Backfill => 1,
            Self::Live => 2,
            Self::Consent => 3,
        }
    }

    pub(super) fn parse(number: i64) -> Self {
        match number {
            0 => Self::No,
            1 => Self::Backfill,
            2 => Self::Live,
            _ => Self::Consent,
        }
    }
}

/// A part of the backlog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// How urgent.
    pub dirty: Dirty,
    /// With a Brevo contact, or without one.
    pub linked: bool,
}

impl Stretch {
    /// All that is at least this urgent, the most urgent first; or, for backlogs that are worked off in bulk, all contacts
    /// that exist before those that are made.
    pub fn all(least: Dirty, bulk: bool) -> Vec<Self> {
        let mut all: Vec<Self> = [Dirty::Consent, Dirty::Live, Dirty::Backfill]
            .into_iter()
            .filter(|dirty| *dirty >= least)
            .flat_map(|dirty| [true, false].map(|linked| Self { dirty, linked }))
            .collect();
        if bulk {
            all.sort_by_key(|stretch| !stretch.linked);
        }
        all
    }
}

/// A link as it is kept. `base` and `flights` are the reconciler's, packed.
#[derive(Debug, Clone)]
pub struct LinkRow {
    /// Its id.
    pub id: i64,
    /// The person's address.
    pub email: Option<Email>,
    /// The Brevo contact.
    pub brevo_id: Option<BrevoContactId>,
    /// How it is doing.
    pub state: LinkState,
    /// What both sides agreed on (or will have, once the import that holds it has landed).
    pub base: Packed,
    /// Our writes on their way.
    pub flights: Option<Packed>,
    /// Whether they were answered with success.
    pub answered: bool,
    /// Only a read that begins later (our clock) settles them.
    pub verify_after: Option<DateTime<Utc>>,
    /// The unfinished import that holds it.
    pub import: Option<i64>,
    /// How urgent planning is.
    pub dirty: Dirty,
    /// How often something about the person has changed. A plan made under another number is out of date.
    pub marks: i64,
    /// Plan as in a sweep.
    pub sweep: bool,
    /// Identity has decided that the Brevo contact takes this address.
    pub rename_to: Option<Email>,
    /// Failed tries in a row.
    pub tries: u32,
    /// Rule key → the value that Brevo refuses.
    pub quarantined: BTreeMap<String, String>,
    /// The company whose fields the contact shows.
    pub company: Option<IntercomCompanyId>,
}

impl LinkRow {
    /// Nothing is on its way to Brevo any more: no request or row can still land, and what was answered has been read back.
    /// What is watched beyond that, for good (an opt-out may have been lifted), waits for the next plan.
    pub fn is_at_rest(&self) -> bool {
        let settled = self.answered && (self.verify_after.is_none() || self.brevo_id.is_none());
        self.import.is_none() && (self.flights.is_none() || settled)
    }
}

/// A query for links. It is put together when the program is built: links are read several times for each contact.
macro_rules! links_where {
    ($condition:literal) => {
        concat!(
            "SELECT id, email, brevo_id, state, coalesce(pending_base, base), flights, answered, verify_after, import, \
             dirty, sweep, rename_to, tries, quarantined, company, marks FROM links WHERE ",
            $condition
        )
    };
}

type Columns = (LinkRow, Option<String>);

fn link_row(tx: &Tx<'_>, row: &Row<'_>) -> rusqlite::Result<Columns> {
    let email = |text: Option<String>| text.map(Email::from_kept);
    let link = LinkRow {
        id: row.get(0)?,
        email: email(row.get(1)?),
        brevo_id: row.get::<_, Option<i64>>(2)?.map(BrevoContactId::new),
        state: LinkState::parse(row.get_ref(3)?.as_str()?),
        base: tx.kept(row.get(4)?),
        flights: row.get::<_, Option<Vec<u8>>>(5)?.map(|flights| tx.kept(flights)),
        answered: row.get(6)?,
        verify_after: row.get::<_, Option<i64>>(7)?.map(instant),
        import: row.get(8)?,
        dirty: Dirty::parse(row.get(9)?),
        marks: row.get(15)?,
        sweep: row.get(10)?,
        rename_to: email(row.get(11)?),
        tries: row.get(12)?,
        quarantined: BTreeMap::new(),
        company: row.get::<_, Option<String>>(14)?.map(IntercomCompanyId::new),
    };
    Ok((link, row.get(13)?))
}

fn finish((mut link, quarantined): Columns) -> LinkRow {
    if let Some(text) = quarantined {
        // What cannot be read is tried again, and refused again at worst.
        link.quarantined = decode("links.quarantined", &text).unwrap_or_default();
    }
    link
}

// The plus sign keeps SQLite from walking all members of links instead of the few contacts that are wanted.
const DIRTY_LINKS: &str = "SELECT id FROM links WHERE dirty = ?1 AND dirty > 0 AND (brevo_id IS NULL) = ?2 AND id > ?3
       AND not_before <= ?4 AND import IS NULL
       AND (flights IS NULL OR answered = 1 OR (dirty = 3 AND brevo_id IS NOT NULL))
       AND (dirty = 3 OR id NOT IN (SELECT link FROM intercom_contacts WHERE +link IS NOT NULL
              AND wants_tags + wants_companies + wants_fetch > 0 AND wants_tags + wants_companies > 0))
     ORDER BY id LIMIT ?5";

// The plus signs keep SQLite from walking all links in the order of their ids instead of the few that are watched.
const VERIFIABLE: &str = "SELECT id FROM links WHERE flights IS NOT NULL AND import IS NULL AND answered = ?1
       AND verify_after <= ?2 AND +id > ?3 ORDER BY +id LIMIT ?4";

impl Tx<'_> {
    /// The link with this id.
    pub fn link(&self, id: i64) -> Result<Option<LinkRow>> {
        self.one_link(links_where!("id = ?1"), &id)
    }

    /// Whether the link is still as it was when it was read.
    pub fn is_unchanged(&self, link: &LinkRow) -> Result<bool> {
        Ok(self
            .0
            .prepare_cached(
                "SELECT 1 FROM links WHERE id = ?1 AND marks = ?2 AND state = ?3 AND brevo_id IS ?4 AND import IS ?5
                   AND answered = ?6 AND coalesce(pending_base, base) = ?7 AND flights IS ?8 AND email IS ?9
                   AND rename_to IS ?10 AND tries = ?11",
            )?
            .exists(params![
                link.id,
                link.marks,
                link.state.as_str(),
                link.brevo_id.map(BrevoContactId::get),
                link.import,
                link.answered,
                link.base.bytes(),
                link.flights.as_ref().map(Packed::bytes),
                link.email.as_ref().map(Email::as_str),
                link.rename_to.as_ref().map(Email::as_str),
                link.tries,
            ])?)
    }

    /// The link of this address.
    pub fn link_by_email(&self, email: &Email) -> Result<Option<LinkRow>> {
        self.one_link(links_where!("email = ?1"), &email.as_str())
    }

    /// The link of this Brevo contact.
    pub fn link_by_brevo(&self, id: BrevoContactId) -> Result<Option<LinkRow>> {
        self.one_link(links_where!("brevo_id = ?1"), &id.get())
    }

    fn one_link(&self, query: &str, value: &dyn rusqlite::ToSql) -> Result<Option<LinkRow>> {
        Ok(self.0.prepare_cached(query)?.query_row([value], |row| link_row(self, row)).optional()?.map(finish))
    }

    /// A few links, for a look.
    pub fn some_links(&self, limit: usize) -> Result<Vec<i64>> {
        let mut statement =
            self.0.prepare_cached("SELECT id FROM links WHERE state = 'active' ORDER BY id LIMIT ?1")?;
        let ids = statement.query_map([limit], |row| row.get(0))?;
        Ok(ids.collect::<rusqlite::Result<_>>()?)
    }

    /// A new link, to be planned.
    pub fn new_link(&self, email: Option<&Email>, brevo: Option<BrevoContactId>, dirty: Dirty) -> Result<i64> {
        self.0.prepare_cached("INSERT INTO links (email, brevo_id, dirty) VALUES (?1, ?2, ?3)")?.execute(params![
            email.map(Email::as_str),
            brevo.map(BrevoContactId::get),
            dirty.as_int()
        ])?;
        Ok(self.0.last_insert_rowid())
    }

    /// Asks for a link to be planned. Never makes it less urgent; forgets a wait between tries if the cause is new.
    pub fn mark_dirty(&self, link: i64, dirty: Dirty) -> Result<()> {
        self.0
            .prepare_cached("UPDATE links SET dirty = max(dirty, ?2), marks = marks + 1, not_before = 0 WHERE id = ?1")?
            .execute(params![link, dirty.as_int()])?;
        Ok(())
    }

    /// Asks for every link to be planned.
    pub fn mark_all(&self, dirty: Dirty) -> Result<usize> {
        // Who is to be planned already may have been, and the write be on its way: that plan is out of date, too.
        let already = self
            .0
            .execute("UPDATE links SET marks = marks + 1 WHERE state = 'active' AND dirty >= ?1", [dirty.as_int()])?;
        let newly = self.0.execute(
            "UPDATE links SET dirty = ?1, marks = marks + 1 WHERE state = 'active' AND dirty < ?1",
            [dirty.as_int()],
        )?;
        Ok(already + newly)
    }

    /// Asks for every link to be planned as in a sweep. Who is in an import is once that is over: its row was planned before
    /// this, perhaps by other rules.
    pub fn mark_all_for_sweep(&self) -> Result<usize> {
        // Who could not be linked, or not under the present address, is looked at again: Brevo may have changed since.
        self.0.execute(
            "UPDATE intercom_contacts SET unplaced = max(unplaced, 1) WHERE state = 'live' AND
               (link IS NULL OR email IS NOT (SELECT l.email FROM links l WHERE l.id = intercom_contacts.link))",
            [],
        )?;
        // A rename that had to wait is tried again, unless the address is still that of somebody who is linked.
        self.0.execute(
            "UPDATE links SET rename_to = rename_held, rename_held = NULL, tries = 0, not_before = 0
             WHERE rename_held IS NOT NULL AND rename_held = email AND state = 'active' AND import IS NULL
               AND NOT EXISTS (SELECT 1 FROM brevo_contacts b JOIN links holder ON holder.brevo_id = b.id
                     WHERE b.email = links.rename_held AND b.gone = 0 AND holder.id <> links.id)",
            [],
        )?;
        // Of those who are gone nothing is planned but what they had said no to.
        self.0.execute(
            "UPDATE links SET dirty = max(dirty, 1), marks = marks + 1 WHERE state = 'left' AND brevo_id IS NOT NULL AND id IN
               (SELECT c.link FROM last_nos n JOIN intercom_contacts c ON c.id = n.contact WHERE c.state <> 'live')",
            [],
        )?;
        Ok(self.0.execute(
            "UPDATE links SET dirty = max(dirty, 1), marks = marks + 1, sweep = 1 WHERE state = 'active'",
            [],
        )?)
    }

    /// Links of one stretch of the backlog that can be planned, after `after`: with all their tags and companies (or
    /// somebody would be taken off a list for a tag that was merely not embedded; an opt-out does not wait for that), due,
    /// in no unfinished import, with no write of unknown outcome on its way (an opt-out of somebody who is in Brevo does
    /// not wait for that either).
    pub fn dirty_links(&self, stretch: Stretch, after: i64, limit: usize, now: DateTime<Utc>) -> Result<Vec<i64>> {
        let mut statement = self.0.prepare_cached(DIRTY_LINKS)?;
        let ids = statement
            .query_map(params![stretch.dirty.as_int(), !stretch.linked, after, millis(now), limit], |row| row.get(0))?;
        Ok(ids.collect::<rusqlite::Result<_>>()?)
    }

    /// How many links wait to be planned.
    pub fn count_dirty(&self, least: Dirty) -> Result<usize> {
        Ok(self
            .0
            .prepare_cached("SELECT count(*) FROM links WHERE dirty >= ?1 AND dirty > 0 AND import IS NULL")?
            .query_row([least.as_int()], |row| row.get(0))?)
    }

    /// When the next link of those that are more urgent than a sweep is due.
    pub fn next_due(&self) -> Result<Option<DateTime<Utc>>> {
        let next: Option<i64> = self
            .0
            .prepare_cached(
                "SELECT min(not_before) FROM links WHERE dirty > 0 AND dirty >= 2 AND import IS NULL
                   AND (flights IS NULL OR answered = 1 OR (dirty = 3 AND brevo_id IS NOT NULL))",
            )?
            .query_row([], |row| row.get(0))?;
        Ok(next.map(instant))
    }

    /// Settled: nothing is to be written; `base` is what both sides agree on now.
    pub fn keep_base(&self, link: i64, base: &Packed) -> Result<()> {
        self.0
            .prepare_cached(
                "UPDATE links SET base = ?2, pending_base = NULL, dirty = 0, sweep = 0, tries = 0, rename_to = NULL
                 WHERE id = ?1",
            )?
            .execute(params![link, base.bytes()])?;
        Ok(())
    }

    /// Intent before write: what is about to leave is on disk first. Until an answer is recorded it counts as of
    /// unknown outcome.
    pub fn put_intent(&self, link: i64, flights: &Packed, verify_after: DateTime<Utc>) -> Result<()> {
        self.0
            .prepare_cached("UPDATE links SET flights = ?2, answered = 0, verify_after = ?3 WHERE id = ?1")?
            .execute(params![link, flights.bytes(), millis(verify_after)])?;
        Ok(())
    }

    /// The write was accepted: base is what it set, watched until a verifying read. What was marked after it was
    /// planned (at `marks`) stays marked, and so does an address that came after `renamed`.
    pub fn accept_write(
        &self,
        link: i64,
        (base, flights): (&Packed, &Packed),
        verify_after: DateTime<Utc>,
        marks: i64,
        renamed: Option<&Email>,
    ) -> Result<()> {
        self.0
            .prepare_cached(
                "UPDATE links SET base = ?2, pending_base = NULL, flights = ?3, answered = 1, verify_after = ?4, tries = 0,
                 dirty = CASE WHEN marks = ?5 THEN 0 ELSE dirty END, sweep = CASE WHEN marks = ?5 THEN 0 ELSE sweep END,
                 rename_to = CASE WHEN rename_to IS ?6 THEN NULL ELSE rename_to END WHERE id = ?1",
            )?
            .execute(params![link, base.bytes(), flights.bytes(), millis(verify_after), marks, renamed.map(Email::as_str)])?;
        Ok(())
    }

    /// An opt-out went ahead of an earlier write of unknown outcome, and was accepted: consent is agreed on, the earlier
    /// write stays what it was, and all else about the person waits for the read that verifies it. (If one has meanwhile, this
    /// is verified for itself.)
    pub fn accept_opt_out(
        &self,
        link: i64,
        (base, flights): (&Packed, &Packed),
        verify_after: DateTime<Utc>,
        marks: i64,
    ) -> Result<()> {
        self.0
            .prepare_cached(
                "UPDATE links SET base = ?2, flights = ?3, answered = 0, verify_after = coalesce(verify_after, ?4),
                 dirty = CASE WHEN marks = ?5 THEN min(dirty, 2) ELSE dirty END WHERE id = ?1",
            )?
            .execute(params![link, base.bytes(), flights.bytes(), millis(verify_after), marks])?;
        Ok(())
    }

    /// There is no opt-out to be sent: the link is no more urgent than any live one.
    pub fn no_opt_out(&self, link: i64) -> Result<()> {
        self.0.prepare_cached("UPDATE links SET dirty = min(dirty, 2) WHERE id = ?1")?.execute([link])?;
        Ok(())
    }

    /// Nothing was done: the intent is void.
    pub fn drop_intent(&self, link: i64, before: Option<&Packed>, answered: bool) -> Result<()> {
        self.0.prepare_cached("UPDATE links SET flights = ?2, answered = ?3 WHERE id = ?1")?.execute(params![
            link,
            before.map(Packed::bytes),
            answered
        ])?;
        Ok(())
    }

    /// A verifying read has settled the writes.
    pub fn settle(&self, link: i64, base: &Packed, flights: Option<&Packed>) -> Result<()> {
        self.0
            .prepare_cached(
                "UPDATE links SET base = ?2, pending_base = NULL, flights = ?3, answered = 1, verify_after = NULL
                 WHERE id = ?1",
            )?
            .execute(params![link, base.bytes(), flights.map(Packed::bytes)])?;
        Ok(())
    }

    /// What is watched is known better.
    pub fn watch_as(&self, link: i64, flights: &Packed) -> Result<()> {
        self.0
            .prepare_cached("UPDATE links SET flights = ?2 WHERE id = ?1 AND flights IS NOT NULL")?
            .execute(params![link, flights.bytes()])?;
        Ok(())
    }

    /// The writes that are being watched are those that were `before`'s: answered or not, and until when they may land.
    pub fn watch_like(&self, link: i64, before: &LinkRow) -> Result<()> {
        self.0.prepare_cached("UPDATE links SET answered = ?2, verify_after = ?3 WHERE id = ?1")?.execute(params![
            link,
            before.answered,
            before.verify_after.map(millis)
        ])?;
        Ok(())
    }

    /// Tries again at `not_before`.
    pub fn postpone(&self, link: i64, not_before: DateTime<Utc>, failed: bool) -> Result<()> {
        self.0
            .prepare_cached("UPDATE links SET not_before = ?2, tries = tries + ?3 WHERE id = ?1")?
            .execute(params![link, millis(not_before), failed])?;
        Ok(())
    }

    /// Whether anybody waits to be written to until later than now.
    pub fn has_put_off(&self, now: DateTime<Utc>) -> Result<bool> {
        let sql = "SELECT EXISTS (SELECT 1 FROM links WHERE dirty > 0 AND not_before > ?1 AND import IS NULL)
                OR EXISTS (SELECT 1 FROM write_backs WHERE due > ?1)";
        Ok(self.0.prepare_cached(sql)?.query_row([millis(now)], |row| row.get(0))?)
    }

    /// A plan made at `marks` came to nothing: not planned again, unless something has changed since.
    pub fn give_up_at(&self, link: i64, marks: i64) -> Result<()> {
        self.0
            .prepare_cached("UPDATE links SET dirty = 0, sweep = 0 WHERE id = ?1 AND marks = ?2")?
            .execute([link, marks])?;
        Ok(())
    }

    /// Not planned again until something about the person changes, or `failed retry`.
    pub fn give_up(&self, link: i64) -> Result<()> {
        self.0.prepare_cached("UPDATE links SET dirty = 0, sweep = 0 WHERE id = ?1")?.execute([link])?;
        Ok(())
    }

    /// Rules whose present value is not to be sent for this person.
    pub fn set_quarantined(&self, link: i64, quarantined: &BTreeMap<String, String>) -> Result<()> {
        let text = if quarantined.is_empty() { None } else { Some(encode("links.quarantined", quarantined)?) };
        self.0.prepare_cached("UPDATE links SET quarantined = ?2 WHERE id = ?1")?.execute(params![link, text])?;
        Ok(())
    }

    /// Which Brevo contact the person is.
    pub fn set_brevo(&self, link: i64, brevo: Option<BrevoContactId>) -> Result<()> {
        self.0
            .prepare_cached("UPDATE links SET brevo_id = ?2 WHERE id = ?1")?
            .execute(params![link, brevo.map(BrevoContactId::get)])?;
        self.mark_firms_of_link(link)
    }

    /// Exchanges the Brevo contacts of two links.
    pub fn swap_brevo(&self, a: &LinkRow, b: &LinkRow) -> Result<()> {
        self.set_brevo(a.id, None)?;
        self.set_brevo(b.id, a.brevo_id)?;
        self.set_brevo(a.id, b.brevo_id)
    }

    /// Exchanges the imports that two links are in.
    pub fn swap_imports(&self, a: &LinkRow, b: &LinkRow) -> Result<()> {
        let mut put = self.0.prepare_cached("UPDATE links SET import = ?2 WHERE id = ?1")?;
        put.execute(params![a.id, b.import])?;
        put.execute(params![b.id, a.import])?;
        Ok(())
    }

    /// The person's address.
    pub fn set_link_email(&self, link: i64, email: Option<&Email>) -> Result<()> {
        self.0
            .prepare_cached("UPDATE links SET email = ?2 WHERE id = ?1")?
            .execute(params![link, email.map(Email::as_str)])?;
        Ok(())
    }

    /// Whether the Brevo contact is to take another address.
    pub fn set_rename(&self, link: i64, to: Option<&Email>) -> Result<()> {
        self.0
            .prepare_cached("UPDATE links SET rename_to = ?2, rename_held = NULL WHERE id = ?1")?
            .execute(params![link, to.map(Email::as_str)])?;
        Ok(())
    }

    /// Somebody else has the address in Brevo: the rename is tried again when that may have changed.
    pub fn hold_rename(&self, link: i64, to: &Email) -> Result<()> {
        self.0
            .prepare_cached("UPDATE links SET rename_to = NULL, rename_held = ?2 WHERE id = ?1")?
            .execute(params![link, to.as_str()])?;
        Ok(())
    }

    /// An address has become free in Brevo: whoever waits for it is looked at again. So is who has no contact, and was
    /// given up because the one with their address was another's.
    pub fn address_is_free(&self, email: &Email) -> Result<()> {
        self.0
            .prepare_cached(
                "UPDATE links SET rename_to = rename_held, rename_held = NULL, dirty = max(dirty, 2), marks = marks + 1,
                     tries = 0, not_before = 0 WHERE rename_held = ?1 AND email = ?1 AND state = 'active'",
            )?
            .execute([email.as_str()])?;
        self.0
            .prepare_cached(
                "UPDATE links SET dirty = 2, marks = marks + 1, not_before = 0 WHERE email = ?1 AND brevo_id IS NULL
                   AND dirty = 0 AND (flights IS NULL OR answered = 1) AND import IS NULL AND state = 'active'",
            )?
            .execute([email.as_str()])?;
        self.0
            .prepare_cached(
                "UPDATE intercom_contacts SET unplaced = max(unplaced, 2) WHERE email = ?1 AND state = 'live' AND
                   (link IS NULL OR email IS NOT (SELECT l.email FROM links l WHERE l.id = intercom_contacts.link))",
            )?
            .execute([email.as_str()])?;
        Ok(())
    }

    /// How the link is doing.
    pub fn set_link_state(&self, link: i64, state: LinkState) -> Result<()> {
        self.0.prepare_cached("UPDATE links SET state = ?2 WHERE id = ?1")?.execute(params![link, state.as_str()])?;
        // Who is gone cannot be linked with a company, and one whom it names is refused for all.
        self.mark_firms_of_link(link)
    }

    /// Base alone.
    pub fn set_base(&self, link: i64, base: &Packed) -> Result<()> {
        self.0
            .prepare_cached(
                "UPDATE links SET base = iif(pending_base IS NULL, ?2, base),
                 pending_base = iif(pending_base IS NULL, NULL, ?2) WHERE id = ?1",
            )?
            .execute(params![link, base.bytes()])?;
        Ok(())
    }

    /// The company whose fields the person shows.
    pub fn set_link_company(&self, link: i64, company: Option<&IntercomCompanyId>) -> Result<()> {
        self.0
            .prepare_cached("UPDATE links SET company = ?2 WHERE id = ?1 AND company IS NOT ?2")?
            .execute(params![link, company.map(IntercomCompanyId::as_str)])?;
        Ok(())
    }

    /// Links with writes on their way that a read begun at `read_began` may settle.
    pub fn verifiable(&self, answered: bool, read_began: DateTime<Utc>, after: i64, limit: usize) -> Result<Vec<i64>> {
        let mut statement = self.0.prepare_cached(VERIFIABLE)?;
        let ids = statement.query_map(params![answered, millis(read_began), after, limit], |row| row.get(0))?;
        Ok(ids.collect::<rusqlite::Result<_>>()?)
    }

    /// Links with answered writes that nothing has settled though a read may since then: after the one, at or before the other.
    pub fn unsettled(&self, after: DateTime<Utc>, until: DateTime<Utc>, limit: usize) -> Result<Vec<i64>> {
        let mut statement = self.0.prepare_cached(
            "SELECT id FROM links WHERE flights IS NOT NULL AND import IS NULL AND answered = 1
               AND verify_after > ?1 AND verify_after <= ?2 ORDER BY verify_after LIMIT ?3",
        )?;
        let ids = statement.query_map(params![millis(after), millis(until), limit], |row| row.get(0))?;
        Ok(ids.collect::<rusqlite::Result<_>>()?)
    }

    /// An answered write that a read has not settled is not looked at before others.
    pub fn look_later(&self, link: i64, verify_after: DateTime<Utc>) -> Result<()> {
        self.0
            .prepare_cached("UPDATE links SET verify_after = ?2 WHERE id = ?1 AND answered = 1 AND verify_after < ?2")?
            .execute(params![link, millis(verify_after)])?;
        Ok(())
    }

    /// After a start: what had left without an answer may still land for a while, counted from now.
    pub fn reopen_unanswered(&self, verify_after: DateTime<Utc>) -> Result<usize> {
        Ok(self.0.execute(
            "UPDATE links SET verify_after = max(coalesce(verify_after, 0), ?1)
             WHERE flights IS NOT NULL AND answered = 0 AND import IS NULL",
            [millis(verify_after)],
        )?)
    }

    /// Files a link under an import: what it will set, and base once it has landed. Until then base stays what it is. How it
    /// was to be planned is remembered: four more is as in a sweep.
    pub fn put_in_import(&self, link: i64, import: i64, base: &Packed, flights: &Packed) -> Result<()> {
        self.0
            .prepare_cached(
                "UPDATE links SET import = ?2, pending_base = ?3, flights = ?4, answered = 0,
                 import_dirty = dirty + 4 * sweep, dirty = 0, sweep = 0 WHERE id = ?1",
            )?
            .execute(params![link, import, base.bytes(), flights.bytes()])?;
        Ok(())
    }

    /// Links of an import that something has happened to since they were planned, or of whom somebody is gone by now.
    pub fn overtaken_in_import(&self, import: i64) -> Result<Vec<i64>> {
        let mut statement =
            self.0.prepare_cached("SELECT id FROM links WHERE import = ?1 AND (dirty > 0 OR state <> 'active')")?;
        let ids = statement.query_map([import], |row| row.get(0))?;
        Ok(ids.collect::<rusqlite::Result<_>>()?)
    }

    /// An import (or one link of it) that was never sent, or was refused as a whole: all is as before, and planned
    /// again, not before `not_before`. `failed`: counts as a try of each.
    ///
    /// Where it never left, what a link has been given to watch since it was filed (it has another contact by now, say) is
    /// none of its row's, and stays.
    pub fn release_import(
        &self,
        import: i64,
        link: Option<i64>,
        not_before: DateTime<Utc>,
        failed: bool,
    ) -> Result<usize> {
        // One of them is found by its id: after a reload all of a full import stay behind, one by one.
        let which = if link.is_some() { "id = ?2" } else { "?2 IS NULL" };
        for table in ["changes", "conflicts"] {
            self.0
                .prepare_cached(&format!(
                    "DELETE FROM {table} WHERE import = ?1
                       AND link IN (SELECT id FROM links WHERE import = ?1 AND {which})"
                ))?
                .execute(params![import, link])?;
        }
        let never_left = self.filling_imports()?.contains(&import);
        Ok(self
            .0
            .prepare_cached(&format!(
                "UPDATE links SET import = NULL, pending_base = NULL,
                 flights = iif(?5 AND pending_base IS NULL, flights, NULL),
                 answered = iif(?5 AND pending_base IS NULL, answered, 1),
                 verify_after = iif(?5 AND pending_base IS NULL, verify_after, NULL),
                 dirty = max(dirty, coalesce(import_dirty % 4, 1)), sweep = max(sweep, coalesce(import_dirty / 4, 0)),
                 marks = marks + 1, not_before = ?3, tries = tries + ?4
                 WHERE import = ?1 AND {which}"
            ))?
            .execute(params![import, link, millis(not_before), failed, never_left])?)
    }

    /// Links in unfinished imports whose person may have opted out since, after `after`.
    pub fn urgent_in_imports(&self, after: i64, limit: usize) -> Result<Vec<i64>> {
        let mut statement = self.0.prepare_cached(
            "SELECT id FROM links WHERE import IS NOT NULL AND dirty > 0 AND dirty = 3 AND +id > ?1 ORDER BY +id LIMIT ?2",
        )?;
        let ids = statement.query_map(params![after, limit], |row| row.get(0))?;
        Ok(ids.collect::<rusqlite::Result<_>>()?)
    }

    /// The links of an import, in pages.
    pub fn links_of_import(&self, import: i64, after: i64, limit: usize) -> Result<Vec<LinkRow>> {
        let mut statement = self.0.prepare_cached(links_where!("import = ?1 AND id > ?2 ORDER BY id LIMIT ?3"))?;
        let rows = statement.query_map(params![import, after, limit], |row| link_row(self, row))?;
        rows.map(|columns| Ok(finish(columns?))).collect()
    }

    /// The link's import has made this contact, and set all of what it was sent for: that is what both sides agree on now.
    pub fn land(&self, link: i64, brevo: BrevoContactId) -> Result<()> {
        self.0
            .prepare_cached(
                "UPDATE links SET import = NULL, brevo_id = ?2, base = coalesce(pending_base, base), pending_base = NULL,
                 flights = NULL, answered = 1, verify_after = NULL WHERE id = ?1",
            )?
            .execute(params![link, brevo.get()])?;
        self.mark_firms_of_link(link)
    }

    /// Takes a link out of its import, which has made this contact.
    pub fn leave_import_for(&self, link: i64, brevo: BrevoContactId) -> Result<()> {
        self.0
            .prepare_cached("UPDATE links SET import = NULL, brevo_id = ?2 WHERE id = ?1")?
            .execute(params![link, brevo.get()])?;
        self.mark_firms_of_link(link)
    }

    /// What was agreed on before the link's import left; `None`: nothing.
    pub fn base_before_import(&self, link: i64) -> Result<Option<Packed>> {
        let base: Option<Vec<u8>> = self
            .0
            .prepare_cached("SELECT base FROM links WHERE id = ?1")?
            .query_row([link], |row| row.get(0))
            .optional()?;
        Ok(base.filter(|base| !base.is_empty()).map(|base| self.kept(base)))
    }

    /// Takes a link out of its import, which has not brought what it was to: if that was a sweep's, it still is.
    pub fn leave_lost_import(&self, link: i64) -> Result<()> {
        self.0
            .prepare_cached(
                "UPDATE links SET import = NULL, sweep = max(sweep, coalesce(import_dirty / 4, 0)) WHERE id = ?1",
            )?
            .execute([link])?;
        Ok(())
    }

    /// Takes a link out of its import.
    pub fn leave_import(&self, link: i64) -> Result<()> {
        self.0.prepare_cached("UPDATE links SET import = NULL WHERE id = ?1")?.execute([link])?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Dirty;
    use crate::store::Store;
    use chrono::{DateTime, Utc};

    /// How SQLite means to carry out a query, a step a line.
    async fn query_plan(sql: &'static str) -> String {
        let plan = move |tx: &super::Tx<'_>| {
            let mut statement = tx.0.prepare(&format!("EXPLAIN QUERY PLAN {sql}"))?;
            let parameters = vec![1; statement.parameter_count()];
            let steps = statement.query_map(rusqlite::params_from_iter(parameters), |row| row.get::<_, String>(3))?;
            Ok(steps.collect::<rusqlite::Result<Vec<_>>>()?.join("\n"))
        };
        Store::in_memory().unwrap().read(plan).await.unwrap()
    }

    #[tokio::test]
    async fn the_backlog_is_walked_by_index() {
        let plan = query_plan(super::DIRTY_LINKS).await;
        assert!(plan.contains("SEARCH links USING INDEX links_dirty (dirty=? AND <expr>=? AND id>?)"), "{plan}");
        assert!(plan.contains("intercom_contacts USING INDEX intercom_contacts_wants"), "{plan}");
    }

    #[tokio::test]
    async fn who_is_in_an_import_is_planned_again_after_it() {
        let in_an_import = |tx: &super::Tx<'_>| {
            let link = tx.new_link(None, None, Dirty::Backfill)?;
            let packed = tx.pack("links.base", &0_u8)?;
            let import = tx.new_import(true, DateTime::<Utc>::default())?;
            tx.put_in_import(link, import, &packed, &packed)?;
            let planned = tx.link(link)?.map(|link| (link.dirty, link.sweep, link.marks));
            tx.mark_all_for_sweep()?;
            tx.mark_all(Dirty::Backfill)?;
            let marked = tx.link(link)?.map(|link| (link.dirty, link.sweep, link.marks));
            Ok((planned, marked))
        };
        let (planned, marked) = Store::in_memory().unwrap().write(in_an_import).await.unwrap();
        assert_eq!(planned, Some((Dirty::No, false, 0)));
        assert_eq!(marked, Some((Dirty::Backfill, true, 2)));
    }

    #[tokio::test]
    async fn what_is_watched_since_a_row_was_filed_outlives_it_if_it_never_left() {
        for leaves in [false, true] {
            let released = move |tx: &super::Tx<'_>| {
                let now = DateTime::<Utc>::default();
                let link = tx.new_link(None, None, Dirty::Backfill)?;
                let packed = tx.pack("links.base", &0_u8)?;
                let import = tx.new_import(true, now)?;
                tx.put_in_import(link, import, &packed, &packed)?;
                tx.settle(link, &packed, Some(&packed))?;
                if leaves {
                    tx.import_leaves(import, 1, now)?;
                }
                tx.release_import(import, Some(link), now, false)?;
                Ok(tx.link(link)?.map(|link| (link.import, link.flights.is_some())))
            };
            let left = Store::in_memory().unwrap().write(released).await.unwrap();
            assert_eq!(left, Some((None, !leaves)));
        }
    }

    #[tokio::test]
    async fn what_is_watched_is_found_by_index_though_rows_of_imports_are_not_in_it() {
        let plan = query_plan(super::VERIFIABLE).await;
        assert!(plan.contains("SEARCH links USING INDEX links_flights (verify_after<?)"), "{plan}");
    }
}
