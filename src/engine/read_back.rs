//! What imports left behind: read, compared row by row with what was sent, and settled.

use super::answers::{hold_apart, rename_if_moved};
use super::carry::made_with_their_no;
use super::imports::LONGEST_IMPORT;
use super::observe::{Applied, Source, base_of, flights_of, pack_base, pack_flights, settle_as, settle_now};
use super::place::{No, keep_no};
use super::unreadable::{sparing, sparing_each};
use super::{BATCH, Connection, EngineError, Ready};
use crate::mapping::{Direction, ListRule};
use crate::model::{
    BrevoContact, BrevoListId, Consent, ContactKey, Email, ErrorKind, Observation, Priority, ProcessId,
};
use crate::reconcile::harm::Kind;
use crate::reconcile::lists::ListBase;
use crate::reconcile::person::{self, Base};
use crate::store::links::{Dirty, LinkRow, LinkState};
use crate::store::queues::{ImportRowState, ImportStage};
use crate::store::{Result as Stored, Tx};
use chrono::{DateTime, TimeDelta, Utc};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How long a row of an import that was given up, or was never answered, may still land, as far as we look after it.
const LANDS_LATE: TimeDelta = TimeDelta::hours(24);
/// The notice about imports that were given up.
const NEVER_ENDED: &str = "import_never_ended";

/// The addresses that Brevo's own reports call rejected, by import.
type Rejected = BTreeMap<i64, BTreeSet<Email>>;

/// What was read back of imports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct ReadBack {
    pub(super) rows: u64,
    /// Of these, rows that had not landed.
    pub(super) lost: u64,
}

impl std::ops::AddAssign for ReadBack {
    fn add_assign(&mut self, more: Self) {
        self.rows += more.rows;
        self.lost += more.lost;
    }
}

impl Connection {
    /// Reads what the imports left behind, 1,000 contacts a request, and settles every row.
    pub(super) async fn read_back(&self, open: &[ImportRowState], priority: Priority) -> Result<ReadBack, EngineError> {
        let since = open.iter().map(since).min().unwrap_or_else(|| self.now());
        let mut rejected = Rejected::new();
        for import in open {
            let named = self.rejected(import).await;
            rejected.insert(import.id, named);
        }
        let rejected = Arc::new(rejected);
        let mut landing = Landing::of(open, &rejected);
        self.sweep_imports(since, &mut landing, priority).await?;
        let mut read_back = ReadBack::default();
        for import in open {
            read_back += self.settle_import(import, landing.rows_of(import.id), &rejected, priority).await?;
        }
        Ok(read_back)
    }

    /// The addresses that Brevo's own reports call rejected: of these there is nothing to look up, and whatever has changed
    /// of their contacts since, no row has. Without a report that cannot be had, what has changed counts as the row's.
    async fn rejected(&self, import: &ImportRowState) -> BTreeSet<Email> {
        let mut rejected = BTreeSet::new();
        for (reason, url) in &import.reports {
            match self.brevo.import_report(url).await {
                Ok(rows) => rejected.extend(rows.iter().filter_map(|row| Email::parse(row).ok())),
                Err(error) => tracing::debug!(import = import.id, reason, "no report: {error}"),
            }
        }
        rejected
    }

    /// Settles the rows that no page has settled: `landed` of them were.
    async fn settle_import(
        &self,
        import: &ImportRowState,
        mut landed: u64,
        rejected: &Arc<Rejected>,
        priority: Priority,
    ) -> Result<ReadBack, EngineError> {
        let ready = self.require_ready()?;
        let mut rows = landed;
        let mut after = 0;
        let mut missing: Vec<(i64, Option<Email>)> = Vec::new();
        loop {
            let (id, state, ready, now) = (import.id, import.clone(), Arc::clone(&ready), self.now());
            let reported = Arc::clone(rejected);
            let (count, last, lost) = self
                .store
                // Until the import has ended on the disk, it is read back again.
                .write_repeatable(move |tx| {
                    let links = tx.links_of_import(id, after, BATCH)?;
                    let mut lost = Vec::new();
                    let settled = sparing_each(tx, now, &links, |link| {
                        let landed = settle_row(tx, link, (&state, &*reported), None, &ready, now)?;
                        Ok((landed, if landed { None } else { sent_address(link, &base_of(link)?) }))
                    })?;
                    for (link, settled) in links.iter().zip(settled) {
                        match settled {
                            Some((true, _)) => {}
                            Some((false, address)) => lost.push((link.id, address)),
                            // What cannot be read is no proof that it landed.
                            None => lost.push((link.id, None)),
                        }
                    }
                    Ok((links.len(), links.last().map(|link| link.id), lost))
                })
                .await?;
            landed += (count - lost.len()) as u64;
            missing.extend(lost);
            rows += count as u64;
            let Some(last) = last else { break };
            after = last;
        }
        // A row that the read-back does not show is looked up once, never resent blindly.
        // Where Brevo never said that it had the import, and the read-back shows nothing of it, it never arrived.
        let arrived = import.process.is_some() || landed > 0;
        let given_up = import.stage == ImportStage::GivenUp;
        let missed = missing.len();
        let mut lost = 0;
        let named = rejected.get(&import.id);
        for (link, email) in missing {
            // An import that Brevo did not finish may have left out thousands: the read-back has shown what landed.
            let email =
                email.filter(|email| arrived && !given_up && !named.is_some_and(|rejected| rejected.contains(email)));
            let found = match email.map(ContactKey::BrevoEmail) {
                None => false,
                Some(key) => match self.look_up(&key, priority).await {
                    Ok(found) => found,
                    // An address that Brevo will not even look for has not landed.
                    Err(EngineError::Side(error))
                        if !error.is_transient() && !matches!(error.kind, ErrorKind::Auth(_)) =>
                    {
                        false
                    }
                    Err(error) => return Err(error),
                },
            };
            let (state, ready, now) = (import.clone(), Arc::clone(&ready), self.now());
            let reported = Arc::clone(rejected);
            lost += self
                .store
                .write(move |tx| {
                    let settled = sparing(tx, now, || {
                        let Some(row) = tx.link(link)? else { return Ok(0) };
                        let has_left = row.import.is_none()
                            || (found && settle_row(tx, &row, (&state, &*reported), None, &ready, now)?);
                        if !has_left {
                            if state.process.is_none() || given_up {
                                may_make_another(tx, &row, now)?;
                            }
                            lose_row(tx, &row, (arrived, state.creates), &ready, now)?;
                            if let Some(contact) = row.brevo_id.filter(|_| given_up && !state.creates) {
                                tx.put_late_row(contact, now + LANDS_LATE)?;
                            }
                        }
                        Ok(u64::from(!has_left))
                    })?;
                    // Nobody stays in an import that is over.
                    if settled.is_none() {
                        tx.leave_import(link)?;
                    }
                    Ok(settled.unwrap_or(0))
                })
                .await?;
        }
        let (id, process, now) = (import.id, import.process, self.now());
        self.store
            .write(move |tx| {
                if given_up {
                    let process = process.map_or_else(|| "unknown".to_owned(), |process| process.get().to_string());
                    let detail =
                        format!("Brevo's process {process} came to no end; {missed} of {rows} rows had not landed");
                    tx.put_notice(NEVER_ENDED, &format!("import {id}"), Some(&detail), now)?;
                } else if process.is_some() {
                    // Brevo finishes imports again.
                    for (_, subject, _) in tx.notices(Some(NEVER_ENDED), 1_000)? {
                        tx.clear_notice(NEVER_ENDED, &subject)?;
                    }
                }
                tx.end_import(id)
            })
            .await?;
        tracing::info!(rows, process = process.map(ProcessId::get), "import read back");
        Ok(ReadBack { rows, lost })
    }
}

/// Imports that are being read back, and how many of their rows have been seen to have landed.
pub(super) struct Landing {
    imports: Arc<[ImportRowState]>,
    rejected: Arc<Rejected>,
    landed: BTreeMap<i64, u64>,
}

/// The same for one page.
pub(super) struct LandingOfPage {
    imports: Arc<[ImportRowState]>,
    rejected: Arc<Rejected>,
}

impl Landing {
    fn of(imports: &[ImportRowState], rejected: &Arc<Rejected>) -> Self {
        Self { imports: imports.into(), rejected: Arc::clone(rejected), landed: BTreeMap::new() }
    }

    pub(super) fn of_page(&self) -> LandingOfPage {
        LandingOfPage { imports: Arc::clone(&self.imports), rejected: Arc::clone(&self.rejected) }
    }

    /// So many more rows of these imports have landed.
    pub(super) fn note(&mut self, landed: &BTreeMap<i64, u64>) {
        for (import, rows) in landed {
            *self.landed.entry(*import).or_default() += rows;
        }
    }

    fn rows_of(&self, import: i64) -> u64 {
        self.landed.get(&import).copied().unwrap_or_default()
    }
}

impl LandingOfPage {
    /// Settles the rows that a page shows, in its transaction: how many of each import have landed. Whoever is not found
    /// by what Brevo shows of them is settled when all is read.
    pub(super) fn settle(
        &self,
        tx: &Tx<'_>,
        source: &Source,
        page: &[Observation],
        applied: &[Option<Applied>],
    ) -> Stored<BTreeMap<i64, u64>> {
        let page: Vec<_> = page.iter().zip(applied).collect();
        let settled = sparing_each(tx, source.now, &page, |(observation, applied)| {
            let Observation::BrevoContact(contact) = observation else { return Ok(None) };
            let nobodys = applied.is_some_and(|applied| applied.is_nobodys);
            let link = if nobodys { None } else { tx.link_by_brevo(contact.id)? };
            let link = match (link, &contact.email) {
                (None, Some(email)) => tx.link_by_email(email)?,
                (link, _) => link,
            };
            let Some(link) = link else { return Ok(None) };
            let Some(import) = self.imports.iter().find(|import| link.import == Some(import.id)) else {
                return Ok(None);
            };
            let shown = applied.is_some_and(|applied| applied.as_shown).then_some(&**contact);
            let row = (import, &*self.rejected);
            Ok(settle_row(tx, &link, row, shown, &source.ready, source.now)?.then_some(import.id))
        })?;
        let mut landed = BTreeMap::new();
        for import in settled.into_iter().flatten().flatten() {
            *landed.entry(import).or_default() += 1;
        }
        Ok(landed)
    }
}

/// From when on what an import did shows: by Brevo's clock where we have it; by ours, with room for one that is off,
/// where the answer was lost.
pub(super) fn since(import: &ImportRowState) -> DateTime<Utc> {
    import.started_at.unwrap_or(import.sent_at - TimeDelta::minutes(10)) - TimeDelta::seconds(2)
}

/// What an import makes is made after this. Brevo's clock shows seconds.
pub(super) fn began(import: &ImportRowState) -> DateTime<Utc> {
    since(import) - TimeDelta::seconds(3)
}

/// The address that a row was sent with. The person may have moved to another meanwhile.
pub(super) fn sent_address(link: &LinkRow, base: &Base) -> Option<Email> {
    base.email.clone().or_else(|| link.email.clone())
}

/// Settles one row of an import against what was read back. `shown`: the contact, if it is at hand. `false`: the read-back
/// does not show it.
fn settle_row(
    tx: &Tx<'_>,
    link: &LinkRow,
    import: (&ImportRowState, &Rejected),
    shown: Option<&BrevoContact>,
    ready: &Ready,
    now: DateTime<Utc>,
) -> Stored<bool> {
    let landed = has_settled(tx, link, import, shown, ready, now)?;
    if landed && link.state == LinkState::Left {
        // Whoever is known by the address that its contact shows has waited for that.
        super::place::let_go(tx, link.id)?;
    }
    Ok(landed)
}

fn has_settled(
    tx: &Tx<'_>,
    link: &LinkRow,
    (import, rejected): (&ImportRowState, &Rejected),
    shown: Option<&BrevoContact>,
    ready: &Ready,
    now: DateTime<Utc>,
) -> Stored<bool> {
    let mut flights = flights_of(link)?;
    let theirs = |shown: &&BrevoContact| match link.brevo_id {
        Some(id) => id == shown.id,
        // The person may have moved to another address since the row was sent.
        None => shown.email.is_some() && shown.email == flights.email,
    };
    let kept = match (shown.filter(theirs), link.brevo_id) {
        (Some(shown), _) => Some(Cow::Borrowed(shown)),
        (None, Some(id)) => tx.brevo_contact(id)?.map(Cow::Owned),
        (None, None) => match sent_address(link, &base_of(link)?) {
            Some(email) => tx.brevo_contact_by_email(&email)?.map(Cow::Owned),
            None => None,
        },
    };
    let renamed = if kept.is_none() { made_and_renamed(tx, link, (import, rejected), &flights, ready)? } else { None };
    let kept = kept.or_else(|| renamed.as_ref().map(Cow::Borrowed));
    let Some(contact) = kept.as_deref() else { return Ok(false) };
    let answered = import.process.is_some();
    if link.brevo_id.is_none() {
        if let Some(holder) = tx.link_by_brevo(contact.id)? {
            hold_apart(tx, link.id, holder.id, now)?;
            return Ok(true);
        }
        // Or somebody else has made it after Brevo had refused the row: no row has put it on the list that each does.
        let older = contact.created_at < began(import)
            || (!contact.lists.contains(&ready.technical_list) && is_rejected(link, import, rejected)?);
        // Asked first: most rows have landed just so.
        let as_sent = answered && !older && person::landed_as_sent(&flights, contact, &ready.mapping);
        let existed = older
            || (answered
                && !as_sent
                && person::shows_nothing_of(&flights, contact, &ready.mapping)
                && !has_their_id(tx, link, contact)?);
        if as_sent {
            tx.land(link.id, contact.id)?;
        } else {
            tx.leave_import_for(link.id, contact.id)?;
        }
        if flights.opted_out && !existed {
            made_with_their_no(tx, link.id, contact.id, ready.tells_intercom, now)?;
        }
        // The address that somebody gave it is news, and so is what Brevo lifted with the old one.
        let another = base_of(link).map_or(true, |base| person::shows_another(&base, contact, &ready.mapping));
        if another || renamed.is_some() {
            tx.mark_dirty(link.id, Dirty::Live)?;
        }
        // What somebody else gave it is an edit in Brevo, and nobody has moved in Intercom.
        let made_with = if renamed.is_some() { sent_address(link, &base_of(link)?) } else { contact.email.clone() };
        if link.email != made_with {
            rename_if_moved(tx, link.id, made_with.as_ref())?;
        }
        if existed {
            // It was there before the row: the import left it alone, and it is first-linked, not overwritten. A no that the
            // person brings goes along.
            keep_no(tx, link.id, No::of(&before_import(tx, link)?, &Consent::default()))?;
            keep_lists(tx, link, contact)?;
            tx.mark_dirty(link.id, Dirty::Live)?;
        }
        if as_sent && flights.more {
            tx.mark_dirty(link.id, Dirty::Backfill)?;
        }
        if existed || as_sent {
            return Ok(true);
        }
    } else if import.started_at.is_some_and(|started| contact.modified_at < started - TimeDelta::seconds(2)) {
        return Ok(false);
    } else if is_rejected(link, import, rejected)?
        && !(contact.lists.contains(&ready.technical_list) && has_landed(&base_of(link)?, &flights, contact, ready))
    {
        // Somebody else has changed the contact, and Brevo has taken nothing of the row: whoever is not on its lists was taken
        // off none of them, and which value was at fault is found out by a request of its own.
        return Ok(false);
    } else if import.stage == ImportStage::GivenUp && !has_landed(&base_of(link)?, &flights, contact, ready) {
        // Somebody else has changed the contact; our row has not landed, which is no refusal.
        return Ok(false);
    } else {
        tx.leave_import(link.id)?;
    }
    let mut base = base_of(link)?;
    if !answered {
        if !import.creates {
            // Its request may have been late, and how long Brevo queues what came of it is not known: the row may still
            // land, and lift a blocklisting.
            tx.put_late_row(contact.id, now + LANDS_LATE)?;
            may_make_another(tx, link, now)?;
        }
        // Brevo never said that it had the import, and the row agreed on all of it beforehand: what it was to set is
        // planned again, which writes nothing where it has landed.
        base = person::forget_unlanded(&base, &before_import(tx, link)?, &flights);
    } else if made_by_another_row(tx, link, &flights)? {
        base = person::made_by_an_earlier_row(&base, contact, &ready.mapping);
        flights.fields.clear();
        tx.mark_dirty(link.id, Dirty::Live)?;
    }
    let again = settle_now(tx, link, (&base, &flights), answered, contact, ready, now)?;
    if again {
        tx.mark_dirty(link.id, Dirty::Backfill)?;
    }
    Ok(true)
}

/// Whether Brevo's own reports say that nothing has come of the row.
fn is_rejected(link: &LinkRow, import: &ImportRowState, rejected: &Rejected) -> Stored<bool> {
    let Some(rejected) = rejected.get(&import.id).filter(|rejected| !rejected.is_empty()) else { return Ok(false) };
    Ok(sent_address(link, &base_of(link)?).is_some_and(|email| rejected.contains(&email)))
}

/// An import leaves alone whoever is there already, but for its lists: on these they are by our rule, and whom that does not
/// want any more leaves them again. `link`: as it was in the import.
fn keep_lists(tx: &Tx<'_>, link: &LinkRow, contact: &BrevoContact) -> Stored<()> {
    let mut lists = match base_of(link) {
        Err(error) if error.unreadable().is_some() => return Ok(()),
        base => base?.lists,
    };
    lists.retain(|list, agreed| agreed.wanted && agreed.member && contact.lists.contains(list));
    let Some(link) = tx.link(link.id)?.filter(|_| !lists.is_empty()) else { return Ok(()) };
    let base = Base { lists, ..base_of(&link)? };
    tx.set_base(link.id, &pack_base(tx, &base)?)
}

/// What a row has made, and somebody gave another address before it was read back: nobody's contact that is no older than
/// the import, has the person's external id, and shows something of what the row set.
///
/// The id alone does not tell. Whoever leaves an address takes theirs along, and a row that was sent for those who stay may
/// have made a contact with it: under that address, which is still theirs, and so that Brevo refuses this row.
fn made_and_renamed(
    tx: &Tx<'_>,
    link: &LinkRow,
    (import, rejected): (&ImportRowState, &Rejected),
    flights: &person::Flights,
    ready: &Ready,
) -> Stored<Option<BrevoContact>> {
    if !import.creates || link.brevo_id.is_some() {
        return Ok(None);
    }
    // But an earlier row of the person's own may be why.
    if is_rejected(link, import, rejected)? && !made_by_another_row(tx, link, flights)? {
        return Ok(None);
    }
    let Some(ext_id) = their_id(tx, link)? else { return Ok(None) };
    let Some(contact) = tx.brevo_contact_by_ext_id(&ext_id)? else { return Ok(None) };
    // Somebody else may have made it with that id, because of which Brevo refused the row.
    let shown = person::made_by_row(flights, &contact, &ready.mapping);
    let as_sent = !shown.fields.is_empty() || !shown.lists.is_empty();
    let made = as_sent && contact.created_at >= began(import) && tx.link_by_brevo(contact.id)?.is_none();
    let anothers = super::place::who_has_its_address(tx, &contact)?.is_some_and(|holder| holder.id != link.id);
    Ok((made && !anothers).then_some(contact))
}

/// Whether a contact that this row was to make, and that is not as it was to make it, may be what an earlier row of the person's
/// has made, which landed after it was given up, or was never answered: this one has left it alone then.
fn made_by_another_row(tx: &Tx<'_>, link: &LinkRow, flights: &person::Flights) -> Stored<bool> {
    let sent = flights.email.as_ref().filter(|_| link.brevo_id.is_none());
    Ok(match sent {
        Some(email) => tx.whose_late_address(email)?.contains(&link.id),
        None => false,
    })
}

/// The person has taken up a contact that a row of theirs has made after all, which was given up or never answered: it is on the
/// technical list, and nothing but a row puts anybody there. What the row has put into it is nobody's edit.
pub(super) fn keep_what_a_late_row_put(tx: &Tx<'_>, link: i64, contact: &BrevoContact, ready: &Ready) -> Stored<()> {
    let Some(email) = contact.email.as_ref().filter(|_| contact.lists.contains(&ready.technical_list)) else {
        return Ok(());
    };
    if !tx.whose_late_address(email)?.contains(&link) {
        return Ok(());
    }
    let Some(row) = tx.link(link)? else { return Ok(()) };
    let Some(speaks) = tx.members(link)?.into_iter().find(|member| member.is_primary) else { return Ok(()) };
    let mut base = person::made_by_a_late_row(&base_of(&row)?, &speaks.contact.fields, contact, &ready.mapping);
    base.lists.extend(by_our_rules(&contact.lists, ready));
    tx.set_base(link, &pack_base(tx, &base)?)
}

/// A look shows another membership of lists than the one before it. Whom a row on its way had put on a list, and somebody has
/// taken off it, is meant to be off, though what became of the import is known only later. And on the technical list
/// nothing but a row puts anybody: one of the person's has landed after it was given up, or was never answered. It has left the
/// contact alone, but for its lists: there it is by our rule.
pub(super) fn note_lists(
    tx: &Tx<'_>,
    known: Option<&BrevoContact>,
    contact: &BrevoContact,
    ready: &Ready,
) -> Stored<()> {
    let Some(known) = known.filter(|known| known.lists != contact.lists) else { return Ok(()) };
    let joined: BTreeSet<BrevoListId> = contact.lists.difference(&known.lists).copied().collect();
    let left: BTreeSet<BrevoListId> = known.lists.difference(&contact.lists).copied().collect();
    let by_a_row = joined.contains(&ready.technical_list);
    if left.is_empty() && !by_a_row {
        return Ok(());
    }
    let link = match (tx.link_by_brevo(contact.id)?, &contact.email) {
        (None, Some(email)) => tx.link_by_email(email)?.filter(|link| link.brevo_id.is_none()),
        (link, _) => link,
    };
    let Some(link) = link else { return Ok(()) };
    if link.import.is_some() {
        let mut flights = match flights_of(&link) {
            Err(error) if error.unreadable().is_some() => return Ok(()),
            flights => flights?,
        };
        if link.brevo_id.is_none() && flights.email != contact.email {
            return Ok(());
        }
        let before = flights.lists.len();
        flights.lists.retain(|list, joined| !(*joined && left.contains(list)));
        if flights.lists.len() < before {
            tx.watch_as(link.id, &pack_flights(tx, &flights)?)?;
        }
        return Ok(());
    }
    let Some(email) = contact.email.as_ref().filter(|_| by_a_row && link.brevo_id.is_some()) else { return Ok(()) };
    if !tx.whose_late_address(email)?.contains(&link.id) {
        return Ok(());
    }
    let mut base = match base_of(&link) {
        Err(error) if error.unreadable().is_some() => return Ok(()),
        base => base?,
    };
    base.lists.extend(by_our_rules(&joined, ready));
    tx.set_base(link.id, &pack_base(tx, &base)?)
}

/// Those of these lists on which a rule of ours puts people, as agreed on with whoever is on them by it.
fn by_our_rules(lists: &BTreeSet<BrevoListId>, ready: &Ready) -> BTreeMap<BrevoListId, ListBase> {
    let puts = |rule: &ListRule| rule.direction != Direction::BrevoToIntercom;
    let ours = ready.lists.iter().filter(|(rule, list)| puts(rule) && lists.contains(list));
    ours.map(|(_, list)| (*list, ListBase { wanted: true, member: true })).collect()
}

/// The person's external id.
fn their_id(tx: &Tx<'_>, link: &LinkRow) -> Stored<Option<String>> {
    let primary = tx.members(link.id)?.into_iter().find(|member| member.is_primary);
    Ok(primary.and_then(|primary| primary.contact.external_id))
}

/// Whether a contact carries it.
fn has_their_id(tx: &Tx<'_>, link: &LinkRow, contact: &BrevoContact) -> Stored<bool> {
    Ok(contact.ext_id.is_some() && contact.ext_id == their_id(tx, link)?)
}

/// Whether Brevo shows what the row was to set.
fn has_landed(base: &Base, flights: &person::Flights, contact: &BrevoContact, ready: &Ready) -> bool {
    let joined = flights.lists.iter().all(|(list, joined)| contact.lists.contains(list) == *joined);
    joined && person::settle(base, flights, true, contact, &ready.mapping).refused.is_empty()
}

/// Nobody knows whether the row lands yet. It goes by its address, and if whoever has that in Brevo has been given another by
/// then, it makes a contact: so for as long as Brevo takes over an import at most, nobody is given another.
fn may_make_another(tx: &Tx<'_>, link: &LinkRow, now: DateTime<Utc>) -> Stored<()> {
    let shown = link.brevo_id.map(|contact| tx.brevo_contact(contact)).transpose()?.flatten();
    // Somebody may have given the contact another address since the row was sent.
    let mut sent: BTreeSet<Email> = shown.and_then(|contact| contact.email).into_iter().collect();
    sent.extend(flights_of(link)?.email.or(sent_address(link, &base_of(link)?)));
    sent.iter().try_for_each(|email| tx.put_late_address(link.id, email, now + LONGEST_IMPORT))
}

/// What had been agreed on when the link's row left. What cannot be read is nothing.
pub(super) fn before_import(tx: &Tx<'_>, link: &LinkRow) -> Stored<Base> {
    let Some(base) = tx.base_before_import(link.id)? else { return Ok(Base::default()) };
    match base_of(&LinkRow { base, ..link.clone() }) {
        Err(error) if error.unreadable().is_some() => Ok(Base::default()),
        base => base,
    }
}

/// The row did not land: what was agreed on for it is forgotten, and it is planned again, on its own.
/// `arrived`: Brevo has had the import; `creates`: it was to make contacts.
fn lose_row(
    tx: &Tx<'_>,
    link: &LinkRow,
    (arrived, creates): (bool, bool),
    ready: &Ready,
    now: DateTime<Utc>,
) -> Stored<()> {
    let (base, flights, before) = (base_of(link)?, flights_of(link)?, before_import(tx, link)?);
    tx.leave_lost_import(link.id)?;
    if link.brevo_id.is_none() {
        super::safety::give_back(tx, Kind::Creates, 1, now)?;
        // Nothing was agreed on; but a no that the person brings is theirs, whatever became of the row.
        keep_no(tx, link.id, No::of(&before, &Consent::default()))?;
    } else {
        // A no of theirs that went beside the row (`opt_out_in_import`) stands: looks that began before it show them as
        // subscribed, and that is nobody's opt-in.
        let went = flights.opted_out && flights.email.is_none();
        // Whoever was to be made and has a contact has taken that up since, and what is watched is none of the row's: a no that
        // they bring is still to be put to it.
        let brings = creates && flights.email.is_none();
        let no = person::Flights {
            opted_out: went,
            may_loosen: brings && flights.may_loosen,
            brings_sms_no: brings && flights.brings_sms_no,
            ..person::Flights::default()
        };
        let mut base = person::forget_unlanded(&base, &before, &flights);
        let shown = match link.brevo_id.map(|contact| tx.brevo_contact(contact)).transpose() {
            Err(error) if error.unreadable().is_some() => None,
            shown => shown?.flatten(),
        };
        if let Some(shown) = shown {
            // It may have landed all the same, and somebody have taken back the yes that it brought.
            person::keep_new_nos(&mut base, &flights, &shown, &ready.mapping);
        }
        settle_as(tx, link.id, &base, Some(&no).filter(|no| !no.is_empty()))?;
        if no.opted_out {
            let verify_after = Some(now + TimeDelta::from_std(super::LATE_LANDING).unwrap_or_default());
            tx.watch_like(link.id, &LinkRow { answered: true, verify_after, ..link.clone() })?;
        }
    }
    tx.mark_dirty(link.id, Dirty::Backfill)?;
    // The single request that follows names the field at fault; an import that never arrived says nothing about it.
    tx.postpone(link.id, now, arrived)
}
