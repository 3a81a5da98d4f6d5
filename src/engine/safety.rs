//! Bounded harm (docs/decisions/0017): what may go without asking, what is held, and what `linkspan approve` lets go.
//!
//! `reconcile::harm` decides; here it is asked, in the transaction that is about to let something go, and remembered whom
//! it holds. Plans that opt people out or clear fields are set aside while a backlog is planned, unless all of the backlog
//! would fit, and decided on together: of those that would be too many, none goes.

mod gate;

pub(super) use gate::{
    Gate, Judged, intercom_has_been_filled, intercom_is_filled, intercom_may_be_filled_anew, rehearse,
};

use super::people::Planned;
use super::{Connection, EngineError, Ready};
use crate::model::{BrevoContact, BrevoContactId, Fields, Resource, SideError, SideName};
use crate::reconcile::harm::{self, Kind, Limits, NewOptOuts};
use crate::reconcile::person::{Base, Flights};
use crate::store::harm::HoldState;
use crate::store::links::Dirty;
use crate::store::{Result as Stored, Tx};
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// For how long an approval holds: what was held has gone by then, however slow a vendor is.
const APPROVED_FOR: TimeDelta = TimeDelta::hours(24);
/// In the state's `meta`, once everything has been made that was there to be made at first.
const FILLED: &str = "first_fill_over";

/// The limits, and how many people are linked, counted once a slot at most.
#[derive(Clone)]
pub(super) struct Bounds {
    limits: Limits,
    people: People,
}

/// How many people are linked, and when that was counted.
pub(super) type People = Arc<Mutex<Option<(i64, u64)>>>;

impl Bounds {
    fn people(&self, tx: &Tx<'_>, slot: i64) -> Stored<u64> {
        let mut known = self.people.lock().unwrap_or_else(PoisonError::into_inner);
        match *known {
            Some((at, people)) if at == slot => Ok(people),
            _ => {
                let people = tx.count_linked()?;
                *known = Some((slot, people));
                Ok(people)
            }
        }
    }
}

/// What a plan does of what is counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Harm {
    pub(super) create: bool,
    pub(super) opt_out: bool,
    pub(super) blank: bool,
    /// Takes somebody off lists because a filter leaves them out.
    pub(super) unlist: bool,
}

impl Harm {
    fn kinds(self) -> impl Iterator<Item = Kind> {
        let all = [
            (self.create, Kind::Creates),
            (self.opt_out, Kind::OptOuts),
            (self.blank, Kind::Blanked),
            (self.unlist, Kind::Deletes),
        ];
        all.into_iter().filter(|(does, _)| *does).map(|(_, kind)| kind)
    }

    /// It came to nothing: it is not counted.
    pub(super) fn take_back(self, tx: &Tx<'_>, now: DateTime<Utc>) -> Stored<()> {
        self.kinds().try_for_each(|kind| give_back(tx, kind, 1, now))
    }
}

/// Whether the vendor has done nothing of what it answered so.
pub(super) fn did_nothing(error: &SideError) -> bool {
    !error.may_have_landed()
}

/// People whose plans wait until the whole backlog is planned, with what those do.
pub(super) type Aside = BTreeMap<i64, Harm>;

/// What was decided on together may go: so many of each kind. They are counted already.
pub(super) type Permits = BTreeMap<Kind, u64>;

/// How far a backlog is known.
#[derive(Debug, Clone)]
pub(super) enum Pass {
    /// Of these kinds all of the backlog would fit: they go as they come. Others are set aside.
    Known(Vec<Kind>),
    /// All of the backlog was planned.
    Decided(Permits),
}

/// A hold that has just begun.
pub(super) struct Begun {
    id: i64,
    kind: Kind,
    wanted: u64,
    may: u64,
}

impl Begun {
    fn tell(&self) {
        let Self { id, kind, wanted, may } = self;
        tracing::warn!(
            hold = id,
            kind = kind.as_str(),
            wanted,
            may,
            "held: {}, and the limits of `safety` leave room for {may}; `linkspan approve {id}` lets them go, `linkspan \
             status` shows what waits",
            wants(*kind, *wanted)
        );
    }
}

/// What a hold wants to do, in words.
pub fn wants(kind: Kind, count: u64) -> String {
    let contacts = if count == 1 { "contact" } else { "contacts" };
    let want = if count == 1 { "wants" } else { "want" };
    match kind {
        Kind::Creates => format!("{count} {contacts} {want} to be made"),
        Kind::Deletes => format!("{count} {contacts} {want} to be deleted, archived or taken off lists"),
        Kind::OptOuts if count == 1 => "1 opt-out wants to be written".to_owned(),
        Kind::OptOuts => format!("{count} opt-outs want to be written"),
        Kind::Blanked => format!("{count} {contacts} {want} to lose a field's value"),
    }
}

/// How many of what a hold holds want to be written by now.
fn wanted_of(tx: &Tx<'_>, kind: &str, now: DateTime<Utc>) -> Stored<u64> {
    let apart = match Kind::parse(kind) {
        Some(Kind::Creates) => return tx.hold_creates(),
        Some(Kind::OptOuts) => tx.hold_opt_outs_to_intercom(now)?,
        _ => 0,
    };
    Ok(apart + tx.count_held(kind)? + tx.count_held_partings(kind)?)
}

fn slot_of(now: DateTime<Utc>) -> i64 {
    now.timestamp().div_euclid(harm::SLOT)
}

/// Forgets what no limit looks at any more.
pub(super) fn prune(tx: &Tx<'_>, now: DateTime<Utc>) -> Stored<()> {
    let slot = slot_of(now);
    tx.prune_harm(slot - harm::DAY, slot + harm::DAY, now)
}

/// What came to nothing is not counted.
pub(super) fn give_back(tx: &Tx<'_>, kind: Kind, count: u64, now: DateTime<Utc>) -> Stored<()> {
    if count == 0 || (kind == Kind::Creates && tx.meta(FILLED)?.is_none()) {
        return Ok(());
    }
    take_off(tx, kind, count, now)
}

/// A contact that was to be made in Intercom was not.
pub(super) fn give_back_newcomer(tx: &Tx<'_>, brevo: BrevoContactId, now: DateTime<Utc>) -> Stored<()> {
    if gate::is_of_the_fill(tx, brevo)? {
        tx.uncount_harm(gate::FILL, slot_of(now) - harm::HOUR, 1)
    } else {
        take_off(tx, Kind::Creates, 1, now)
    }
}

fn take_off(tx: &Tx<'_>, kind: Kind, count: u64, now: DateTime<Utc>) -> Stored<()> {
    let approved =
        tx.current_holds(now)?.into_iter().find(|hold| hold.state == HoldState::Approved && hold.kind == kind.as_str());
    match approved {
        Some(hold) => tx.use_approval(hold.id, -i64::try_from(count).unwrap_or(i64::MAX)),
        None => tx.uncount_harm(kind.as_str(), slot_of(now) - harm::HOUR, count),
    }
}

/// An import (or one link of it) came to nothing: contacts that it was to make are not counted.
pub(super) fn give_back_import(tx: &Tx<'_>, import: i64, rows: usize, now: DateTime<Utc>) -> Stored<()> {
    if rows > 0 && tx.import_creates(import)? { give_back(tx, Kind::Creates, rows as u64, now) } else { Ok(()) }
}

/// A read has shown what became of a write of unknown outcome: what has not landed is planned again, and counted then. What
/// is watched along with it, and an answer had said was done (base holds that), somebody has undone since: it was done.
pub(super) fn not_landed(
    tx: &Tx<'_>,
    (base, flights): (&Base, &Flights),
    contact: &BrevoContact,
    ready: &Ready,
    now: DateTime<Utc>,
) -> Stored<()> {
    let was_done = base.consent.is_some_and(|consent| consent.brevo_out);
    let opt_out = flights.counted && !was_done && !contact.consent.email_opted_out();
    let blank = flights.fields.iter().any(|(key, writes)| {
        writes.brevo.as_ref().is_some_and(|write| {
            let clears = write.sent.iter().zip(&write.before).any(|(sent, before)| sent.is_none() && before.is_some());
            let done = base.fields.get(key).is_some_and(|known| known.agreed.brevo == write.sent);
            let rule = ready.mapping.rules.iter().find(|rule| rule.key == *key);
            clears && !done && rule.is_some_and(|rule| rule.observed(&contact.attributes) == write.before)
        })
    });
    Harm { opt_out, blank, ..Harm::default() }.take_back(tx, now)
}

/// The same for a write to Intercom.
pub(super) fn not_landed_back(
    tx: &Tx<'_>,
    (base, flights): (&Base, &Flights),
    record: &Fields,
    ready: &Ready,
    now: DateTime<Utc>,
) -> Stored<()> {
    let blank = flights.fields.iter().any(|(key, writes)| {
        writes.intercom.as_ref().is_some_and(|write| {
            let clears = write.sent.iter().all(Option::is_none) && write.before.iter().any(Option::is_some);
            let done = base.fields.get(key).is_some_and(|known| known.agreed.intercom == write.sent);
            let rule = ready.mapping.rules.iter().find(|rule| rule.key == *key);
            clears && !done && rule.is_some_and(|rule| rule.source_value(record).is_some())
        })
    });
    Harm { blank, ..Harm::default() }.take_back(tx, now)
}

pub(super) fn tell(begun: &[Begun]) {
    begun.iter().for_each(Begun::tell);
}

/// What a push begins with.
pub(super) struct Opening {
    /// Kinds of which the whole backlog would fit.
    fits: Vec<Kind>,
    /// Opt-outs of which it is known that they are some: they would fit.
    urgent_fit: bool,
    holds: bool,
    fills: bool,
}

impl Opening {
    /// What may go as it comes, in this part of the backlog.
    pub(super) fn pass(&self, dirty: Dirty) -> Pass {
        let mut fits = self.fits.clone();
        if dirty == Dirty::Consent && self.urgent_fit {
            fits.push(Kind::OptOuts);
        }
        Pass::Known(fits)
    }
}

impl Connection {
    pub(super) fn bounds(&self) -> Bounds {
        Bounds { limits: self.settings().safety, people: Arc::clone(&self.people) }
    }

    /// Before a backlog is planned; its size.
    pub(super) async fn open_safety(&self, least: Dirty) -> Result<(usize, Opening), EngineError> {
        let (now, bounds) = (self.now(), self.bounds());
        let (backlog, opening) = self
            .store
            .read(move |tx| {
                let backlog = tx.count_dirty(least)?;
                let mut gate = Gate::open(tx, bounds, Pass::Known(Vec::new()), now)?;
                let mut fits = Vec::new();
                for kind in [Kind::OptOuts, Kind::Blanked, Kind::Deletes] {
                    if backlog > 0 && gate.room(tx, kind, backlog as u64)? >= backlog as u64 {
                        fits.push(kind);
                    }
                }
                let urgent = if backlog > 0 { tx.count_dirty(Dirty::Consent)? as u64 } else { 0 };
                let urgent_fit = urgent > 0 && gate.room(tx, Kind::OptOuts, urgent)? >= urgent;
                let read = tx.watermark(SideName::Intercom, Resource::Contacts)?;
                let fills =
                    least == Dirty::Backfill && !gate.is_filled(tx)? && read.is_some_and(|read| read.full_at.is_some());
                Ok((backlog, Opening { fits, urgent_fit, holds: !gate.open.is_empty(), fills }))
            })
            .await?;
        if opening.holds {
            self.count_held().await?;
        }
        Ok((backlog, opening))
    }

    /// After it was written.
    pub(super) async fn close_safety(&self, opening: &Opening) -> Result<(), EngineError> {
        if opening.fills {
            self.store
                .write(|tx| {
                    // All that was there has been made, but for a few that are tried again.
                    let over = tx.count_to_create()? <= Kind::Creates.always();
                    if over { tx.set_meta(FILLED, "yes") } else { Ok(()) }
                })
                .await?;
        }
        self.count_held().await
    }

    /// How many wait by now. A hold of which nothing is left is over.
    pub(super) async fn count_held(&self) -> Result<(), EngineError> {
        let now = self.now();
        let open = self.store.read(move |tx| tx.current_holds(now)).await?;
        if open.iter().all(|hold| hold.state != HoldState::Open) {
            return Ok(());
        }
        let over = self
            .store
            .write(move |tx| {
                let mut over = Vec::new();
                for hold in tx.current_holds(now)?.into_iter().filter(|hold| hold.state == HoldState::Open) {
                    let wanted = wanted_of(tx, &hold.kind, now)?;
                    tx.set_hold_wanted(hold.id, wanted)?;
                    if wanted == 0 {
                        tx.end_hold(hold.id, now)?;
                        // Nobody stays held for whom nothing is to be let go any more: who comes back is judged anew.
                        release(tx, &hold.kind, now)?;
                        over.push(hold);
                    }
                }
                Ok(over)
            })
            .await?;
        for hold in over {
            tracing::info!(hold = hold.id, kind = hold.kind, "nothing of what was held wants to be written any more");
        }
        Ok(())
    }

    /// What was set aside is decided on together: all of a kind may go, or none.
    pub(super) async fn decide_aside(&self, aside: &Aside) -> Result<Permits, EngineError> {
        let (now, bounds) = (self.now(), self.bounds());
        let mut wanted: BTreeMap<Kind, u64> = BTreeMap::new();
        for kind in aside.values().flat_map(|does| does.kinds()) {
            *wanted.entry(kind).or_default() += 1;
        }
        let (permits, begun) = self
            .store
            .write(move |tx| {
                let mut gate = Gate::open(tx, bounds, Pass::Known(Vec::new()), now)?;
                let mut permits = Permits::new();
                for (kind, wanted) in wanted {
                    if gate.open.contains_key(&kind) {
                        continue;
                    }
                    let room = gate.room(tx, kind, wanted)?;
                    if harm::go(kind, wanted, room) == wanted {
                        gate.spend(kind, wanted);
                        permits.insert(kind, wanted);
                    } else {
                        gate.begin(tx, kind, wanted, room)?;
                    }
                }
                let (_, _, begun) = gate.close(tx)?;
                Ok((permits, begun))
            })
            .await?;
        tell(&begun);
        Ok(permits)
    }

    /// What of the permits nobody used is not counted.
    pub(super) async fn give_back(&self, permits: Permits) -> Result<(), EngineError> {
        if permits.values().all(|left| *left == 0) {
            return Ok(());
        }
        let now = self.now();
        self.store
            .write(move |tx| permits.into_iter().try_for_each(|(kind, left)| give_back(tx, kind, left, now)))
            .await?;
        Ok(())
    }

    /// Which of the new opt-outs of somebody who is in an unfinished import may go beside it, and what is counted for
    /// them. Those that may not are planned after it. `None`: none may.
    pub(super) async fn may_opt_out_beside_import(
        &self,
        link: i64,
        new: NewOptOuts,
    ) -> Result<Option<(NewOptOuts, Harm)>, EngineError> {
        let (now, bounds) = (self.now(), self.bounds());
        Ok(self
            .store
            .write(move |tx| {
                let mut untold = new;
                for member in tx.members(link)? {
                    gate::leave_untold(tx, &member.contact.id, &mut untold)?;
                }
                if !untold.any() {
                    return Ok(Some((new, Harm::default())));
                }
                let mut gate = Gate::open(tx, bounds, Pass::Known(Vec::new()), now)?;
                let urgent = (tx.count_urgent_in_imports()?).max(1);
                if gate.room(tx, Kind::OptOuts, urgent)? >= urgent {
                    gate.spend(Kind::OptOuts, 1);
                    gate.close(tx)?;
                    return Ok(Some((new, Harm { opt_out: true, ..Harm::default() })));
                }
                let told = NewOptOuts { email: new.email && !untold.email, sms: new.sms && !untold.sms };
                if told.any() {
                    return Ok(Some((told, Harm::default())));
                }
                tx.no_opt_out(link)?;
                Ok(None)
            })
            .await?)
    }

    /// What a run would have to ask for, of so many of each kind.
    /// `newcomers`: contacts that would be made in Intercom.
    pub(super) async fn would_hold(
        &self,
        mut wanted: BTreeMap<Kind, u64>,
        newcomers: u64,
    ) -> Result<Vec<WouldHold>, EngineError> {
        let (now, bounds) = (self.now(), self.bounds());
        Ok(self
            .store
            .read(move |tx| {
                let mut gate = Gate::open(tx, bounds.clone(), Pass::Known(Vec::new()), now)?;
                let mut held = Vec::new();
                if !gate.is_filled(tx)? {
                    wanted.remove(&Kind::Creates);
                }
                let fills = newcomers > 0 && gate::would_fill_intercom(tx)?;
                if newcomers > 0 && !fills {
                    *wanted.entry(Kind::Creates).or_default() += newcomers;
                }
                if fills {
                    let may = gate::room_to_fill(tx, &bounds.limits, slot_of(now))?;
                    if may < newcomers {
                        held.push(WouldHold { kind: Kind::Creates.as_str().to_owned(), wanted: newcomers, may });
                    }
                }
                for (kind, wanted) in wanted {
                    let may = gate.room(tx, kind, wanted)?;
                    if may < wanted {
                        held.push(WouldHold { kind: kind.as_str().to_owned(), wanted, may });
                    }
                }
                Ok(held)
            })
            .await?)
    }
}

/// What `sync --dry-run` says of a hold that a run would begin, or run into.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WouldHold {
    /// Its kind.
    pub kind: String,
    /// How many of it would be written.
    pub wanted: u64,
    /// How many may be, without asking.
    pub may: u64,
}

/// What a run leaves held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Held {
    /// Its number.
    pub id: i64,
    /// Its kind.
    pub kind: String,
    /// How many want to be written.
    pub wanted: u64,
}

/// What came of an approval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Approved {
    /// So many may go.
    #[serde(rename_all = "camelCase")]
    Done {
        /// Which hold.
        id: i64,
        /// What it holds.
        kind: String,
        /// How many it held.
        wanted: u64,
        /// How many may go, with those that come meanwhile.
        may: u64,
        /// For so long.
        until: DateTime<Utc>,
    },
    /// There is no such hold, or it is over.
    NotHeld,
}

/// Lets go what is held under this number: as many as are held, and a little more, for a day.
///
/// # Errors
/// If the state cannot be written.
pub fn approve_in(tx: &Tx<'_>, id: i64, now: DateTime<Utc>) -> Stored<Approved> {
    let Some(hold) = tx.hold(id)?.filter(|hold| hold.state == HoldState::Open) else { return Ok(Approved::NotHeld) };
    let (may, until) = (harm::approved(hold.wanted), now + APPROVED_FOR);
    tx.approve_hold(id, may, until)?;
    release(tx, &hold.kind, now)?;
    Ok(Approved::Done { id, kind: hold.kind, wanted: hold.wanted, may, until })
}

/// Nothing of this kind is held any more.
fn release(tx: &Tx<'_>, kind: &str, now: DateTime<Utc>) -> Stored<()> {
    match Kind::parse(kind) {
        Some(Kind::Creates) => tx.release_creates(now)?,
        Some(Kind::OptOuts) => tx.release_opt_outs_to_intercom(now)?,
        _ => {}
    }
    tx.release_held(kind)?;
    tx.release_partings(kind, now, super::missing::INDEX_LAG)
}

impl Planned {
    /// What is watched until it is answered. What of it is counted is given back should a read show that it came to nothing.
    pub(super) fn intent(&self) -> Cow<'_, Flights> {
        let flights = &self.plan.flights;
        if self.harm.opt_out && self.plan.change.email_opted_out {
            Cow::Owned(Flights { counted: true, ..flights.clone() })
        } else {
            Cow::Borrowed(flights)
        }
    }

    /// It is not sent: it is planned again, and counted then.
    pub(super) fn is_not_sent(&self, tx: &Tx<'_>, now: DateTime<Utc>) -> Stored<()> {
        self.harm.take_back(tx, now)
    }
}
