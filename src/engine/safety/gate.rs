//! The gate before everything that is counted: asked in the transaction that is about to let it go.

use super::{Aside, Begun, Bounds, FILLED, Harm, Pass, slot_of};
use crate::engine::Ready;
use crate::engine::missing::INDEX_LAG;
use crate::engine::people::Person;
use crate::model::{BrevoContactId, Fields, IntercomContactId, SideName};
use crate::reconcile::consent::ConsentBase;
use crate::reconcile::harm::{self, Counted, Kind, NewOptOuts};
use crate::reconcile::person::PersonPlan;
use crate::store::facts::Channel;
use crate::store::harm::{Hold, HoldState, held_until};
use crate::store::{Result as Stored, Tx};
use chrono::{DateTime, Utc};
use std::collections::BTreeMap;

/// How far a plan may go.
pub(in crate::engine) enum Judged {
    /// All of it.
    AsItIs,
    /// Without what is held.
    Without(Box<PersonPlan>),
    /// Not now: it is planned again once the whole backlog is.
    Aside,
}

/// What one transaction may let go.
pub(in crate::engine) struct Gate {
    bounds: Bounds,
    now: DateTime<Utc>,
    slot: i64,
    pub(super) open: BTreeMap<Kind, i64>,
    /// Approved: which hold, and how many more may go.
    approved: BTreeMap<Kind, (i64, u64)>,
    counted: BTreeMap<Kind, Counted>,
    /// Counted against the limits, and against an approval.
    spent: BTreeMap<Kind, (u64, u64)>,
    filled: Option<bool>,
    begun: Vec<Begun>,
    pub(in crate::engine) pass: Pass,
    pub(in crate::engine) aside: Aside,
}

impl Gate {
    pub(in crate::engine) fn open(tx: &Tx<'_>, bounds: Bounds, pass: Pass, now: DateTime<Utc>) -> Stored<Self> {
        let (mut open, mut approved) = (BTreeMap::new(), BTreeMap::new());
        for Hold { id, kind, state, left, .. } in tx.current_holds(now)? {
            let Some(kind) = Kind::parse(&kind) else { continue };
            match state {
                HoldState::Open => drop(open.insert(kind, id)),
                HoldState::Approved => drop(approved.insert(kind, (id, left))),
                HoldState::Ended => {}
            }
        }
        Ok(Self {
            bounds,
            now,
            slot: slot_of(now),
            open,
            approved,
            counted: BTreeMap::new(),
            spent: BTreeMap::new(),
            filled: None,
            begun: Vec::new(),
            pass,
            aside: Aside::new(),
        })
    }

    /// How many more of this kind may go; `wanted`, or more, if all of them may.
    pub(super) fn room(&mut self, tx: &Tx<'_>, kind: Kind, wanted: u64) -> Stored<u64> {
        if self.open.contains_key(&kind) {
            return Ok(0);
        }
        let counted = if let Some(counted) = self.counted.get(&kind) {
            *counted
        } else {
            let counted = Counted::at(self.slot, tx.harm_counts(kind.as_str(), self.slot - harm::DAY)?);
            self.counted.insert(kind, counted);
            counted
        };
        let left = self.approved.get(&kind).map_or(0, |(_, left)| *left);
        // How many people there are is only counted where it matters.
        let least = left.saturating_add(harm::room(kind, &self.bounds.limits, counted, 0));
        if wanted <= least {
            return Ok(least);
        }
        let people = self.bounds.people(tx, self.slot)?;
        Ok(left.saturating_add(harm::room(kind, &self.bounds.limits, counted, people)))
    }

    /// So many go: they count from now on.
    pub(super) fn spend(&mut self, kind: Kind, count: u64) {
        let (limits, approval) = self.spent.entry(kind).or_default();
        let mut rest = count;
        if let Some((_, left)) = self.approved.get_mut(&kind) {
            let taken = rest.min(*left);
            (*left, *approval, rest) = (*left - taken, *approval + taken, rest - taken);
        }
        *limits += rest;
        if let Some(counted) = self.counted.get_mut(&kind) {
            *counted = counted.and(rest);
        }
    }

    /// Nothing of this kind goes any more.
    pub(super) fn begin(&mut self, tx: &Tx<'_>, kind: Kind, wanted: u64, may: u64) -> Stored<()> {
        let id = tx.begin_hold(kind.as_str(), wanted, may, self.now)?;
        self.open.insert(kind, id);
        self.begun.push(Begun { id, kind, wanted, may });
        Ok(())
    }

    /// How far a plan for Brevo may go.
    pub(in crate::engine) fn judge(
        &mut self,
        tx: &Tx<'_>,
        person: &Person,
        plan: &PersonPlan,
        ready: &Ready,
    ) -> Stored<Judged> {
        let link = person.link.id;
        if person.brevo.is_none() {
            // What was held for a contact that they had is none of the one that is made.
            for kind in [Kind::OptOuts, Kind::Blanked, Kind::Deletes] {
                self.is_held(tx, kind, SideName::Brevo, link, &mut false)?;
            }
            return Ok(Judged::AsItIs);
        }
        let (mut does, mut less) = (harm_of(tx, person, plan)?, None);
        if self.is_held(tx, Kind::OptOuts, SideName::Brevo, link, &mut does.opt_out)? {
            let new = new_opt_outs(tx, person, plan)?;
            less = Some(harm::without_opt_out(plan.clone(), new, &person.base, &person.flights));
        }
        if self.is_held(tx, Kind::Blanked, SideName::Brevo, link, &mut does.blank)? {
            let plan = less.unwrap_or_else(|| plan.clone());
            let (base, flights) = (&person.base, &person.flights);
            less = Some(harm::without_blanks(plan, (SideName::Brevo, shown_of(person)), base, flights, &ready.mapping));
        }
        if self.is_held(tx, Kind::Deletes, SideName::Brevo, link, &mut does.unlist)? {
            let plan = less.unwrap_or_else(|| plan.clone());
            less = Some(harm::without_leaving(plan, &person.base, &person.flights));
        }
        if !self.may(tx, does)? {
            self.aside.insert(link, does);
            return Ok(Judged::Aside);
        }
        Ok(less.map_or(Judged::AsItIs, |less| Judged::Without(Box::new(less))))
    }

    /// The same for what goes to Intercom.
    pub(in crate::engine) fn judge_back(
        &mut self,
        tx: &Tx<'_>,
        person: &Person,
        mut plan: PersonPlan,
        ready: &Ready,
    ) -> Stored<Option<(PersonPlan, Harm)>> {
        let mut does = Harm { blank: harm::blanks(&plan, SideName::Intercom, None), ..Harm::default() };
        let link = person.link.id;
        if self.is_held(tx, Kind::Blanked, SideName::Intercom, link, &mut does.blank)? {
            plan =
                harm::without_blanks(plan, (SideName::Intercom, None), &person.base, &person.flights, &ready.mapping);
        }
        if self.may(tx, does)? {
            self.take(does);
            return Ok(Some((plan, does)));
        }
        self.aside.insert(link, does);
        Ok(None)
    }

    /// Whether something of this kind is held for the person, which is kept; then they do nothing of the kind.
    fn is_held(&self, tx: &Tx<'_>, kind: Kind, side: SideName, link: i64, does: &mut bool) -> Stored<bool> {
        if !self.open.contains_key(&kind) {
            return Ok(false);
        }
        if *does {
            tx.mark_held(kind.as_str(), side, link)?;
        } else {
            tx.unmark_held(kind.as_str(), side, link)?;
        }
        Ok(std::mem::take(does))
    }

    fn may(&mut self, tx: &Tx<'_>, does: Harm) -> Stored<bool> {
        for kind in does.kinds() {
            let may = match &self.pass {
                Pass::Known(fits) => fits.contains(&kind) && self.room(tx, kind, 1)? > 0,
                Pass::Decided(permits) => permits.get(&kind).is_some_and(|left| *left > 0),
            };
            if !may {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn take(&mut self, does: Harm) {
        for kind in does.kinds() {
            match &mut self.pass {
                Pass::Decided(permits) if kind != Kind::Creates => {
                    if let Some(left) = permits.get_mut(&kind) {
                        *left = left.saturating_sub(1);
                    }
                }
                _ => self.spend(kind, 1),
            }
        }
    }

    /// A plan goes: what it does counts.
    pub(in crate::engine) fn goes(&mut self, tx: &Tx<'_>, person: &Person, plan: &PersonPlan) -> Stored<Option<Harm>> {
        let mut does = harm_of(tx, person, plan)?;
        if does.create {
            if !self.is_filled(tx)? {
                // The first fill: everybody is new.
                does.create = false;
            } else if self.room(tx, Kind::Creates, 1)? == 0 {
                if !self.open.contains_key(&Kind::Creates) {
                    self.begin(tx, Kind::Creates, 1, 0)?;
                }
                tx.postpone(person.link.id, held_until(), false)?;
                return Ok(None);
            }
        }
        self.take(does);
        Ok(Some(does))
    }

    /// A contact is about to be made in Intercom. `false`: not now.
    pub(in crate::engine) fn makes_newcomer(&mut self, tx: &Tx<'_>, brevo: BrevoContactId) -> Stored<bool> {
        if !self.open.contains_key(&Kind::Creates) && fills_intercom(tx, brevo)? {
            if room_to_fill(tx, &self.bounds.limits, self.slot)? > 0 {
                tx.count_harm(FILL, self.slot, 1)?;
                return Ok(true);
            }
            // The number is used up: the share is none of an empty side.
            if self.approved.get(&Kind::Creates).is_none_or(|(_, left)| *left == 0) {
                self.begin(tx, Kind::Creates, 1, 0)?;
                return Ok(false);
            }
        }
        if self.room(tx, Kind::Creates, 1)? > 0 {
            self.spend(Kind::Creates, 1);
            return Ok(true);
        }
        if !self.open.contains_key(&Kind::Creates) {
            self.begin(tx, Kind::Creates, 1, 0)?;
        }
        Ok(false)
    }

    pub(super) fn is_filled(&mut self, tx: &Tx<'_>) -> Stored<bool> {
        let filled = match self.filled {
            Some(filled) => filled,
            None => tx.meta(FILLED)?.is_some(),
        };
        self.filled = Some(filled);
        Ok(filled)
    }

    /// Opt-outs to Intercom that are due are written as far as they may be: all that no notice carried, or none.
    pub(in crate::engine) fn judge_told(&mut self, tx: &Tx<'_>) -> Stored<()> {
        if !self.open.contains_key(&Kind::OptOuts) {
            let (_, bulk) = tx.count_carried_due(self.now)?;
            let room = self.room(tx, Kind::OptOuts, bulk)?;
            if harm::go(Kind::OptOuts, bulk, room) == bulk {
                return Ok(());
            }
            self.begin(tx, Kind::OptOuts, bulk, room)?;
        }
        if let Some(id) = self.open.get(&Kind::OptOuts) {
            let held = tx.hold_opt_outs_to_intercom(self.now)?;
            tx.set_hold_wanted(*id, held + tx.count_held(Kind::OptOuts.as_str())?)?;
        }
        Ok(())
    }

    /// One of them is about to leave.
    pub(in crate::engine) fn tell(&mut self, tx: &Tx<'_>, contact: &str) -> Stored<()> {
        if !tx.is_told_by_notice(contact)? {
            self.spend(Kind::OptOuts, 1);
        }
        Ok(())
    }

    /// What deletions lead to on this side goes as far as it may: all of it, or none.
    pub(in crate::engine) fn judge_partings(&mut self, tx: &Tx<'_>, side: SideName, kind: Kind) -> Stored<()> {
        if !self.open.contains_key(&kind) {
            let wanted = tx.count_partings_to_do(side)?;
            let room = self.room(tx, kind, wanted)?;
            if harm::go(kind, wanted, room) == wanted {
                return Ok(());
            }
            self.begin(tx, kind, wanted, room)?;
        }
        tx.hold_partings(side, kind.as_str())?;
        if let Some(id) = self.open.get(&kind) {
            tx.set_hold_wanted(*id, super::wanted_of(tx, kind.as_str(), self.now)?)?;
        }
        Ok(())
    }

    /// What deletions lead to was held on this side as something else that the config said before: it stays held, as what it
    /// is now, until somebody approves that.
    pub(in crate::engine) fn hold_partings_anew(&mut self, tx: &Tx<'_>, side: SideName, kind: Kind) -> Stored<()> {
        tx.hold_partings(side, kind.as_str())?;
        let wanted = super::wanted_of(tx, kind.as_str(), self.now)?;
        if !self.open.contains_key(&kind) {
            if wanted == 0 {
                return tx.release_partings(kind.as_str(), self.now, INDEX_LAG);
            }
            let room = self.room(tx, kind, wanted)?;
            self.begin(tx, kind, wanted, room)?;
        }
        if let Some(id) = self.open.get(&kind) {
            tx.set_hold_wanted(*id, wanted)?;
        }
        Ok(())
    }

    /// So many are about to leave. `false`: not now.
    pub(in crate::engine) fn go_by(&mut self, tx: &Tx<'_>, kind: Kind, count: u64) -> Stored<bool> {
        let may = self.room(tx, kind, count)? >= count;
        if may {
            self.spend(kind, count);
        }
        Ok(may)
    }

    /// Keeps what was counted. What is left of the permits and whom it set aside is handed back.
    pub(in crate::engine) fn close(self, tx: &Tx<'_>) -> Stored<(Pass, Aside, Vec<Begun>)> {
        for (kind, (limits, approval)) in self.spent {
            if limits > 0 {
                tx.count_harm(kind.as_str(), self.slot, i64::try_from(limits).unwrap_or(i64::MAX))?;
            }
            if let Some((id, _)) = self.approved.get(&kind).filter(|_| approval > 0) {
                tx.use_approval(*id, i64::try_from(approval).unwrap_or(i64::MAX))?;
            }
        }
        let mut begun = self.begun;
        for hold in begun.iter_mut().filter(|hold| hold.kind == Kind::Creates) {
            hold.wanted = tx.hold_creates()?;
            tx.set_hold_wanted(hold.id, hold.wanted)?;
        }
        Ok((self.pass, self.aside, begun))
    }
}

/// How contacts are counted that fill an empty Intercom: apart, or nobody could be made the day after it.
pub(super) const FILL: &str = "fill";
/// Which of Brevo's contacts fill an empty Intercom (up to this id), once that is known.
const FILLS_INTERCOM: &str = "fills_intercom";
const OVER: &str = "over";
const UNKNOWN: &str = "unknown";

/// Up to which of Brevo's contacts those fill Intercom that were there when the first was to be made, if nobody was in Intercom
/// then: whoever comes to Brevo later is an everyday newcomer. `None`: nobody fills it (any more).
fn fills_up_to(tx: &Tx<'_>) -> Stored<(Option<i64>, bool)> {
    match tx.meta(FILLS_INTERCOM)?.as_deref() {
        Some(OVER) => Ok((None, true)),
        Some(known) if known.parse::<i64>().is_ok() => Ok((known.parse().ok(), true)),
        _ if tx.has_intercom_contacts()? => Ok((None, false)),
        _ => Ok((Some(tx.newest_brevo_contact()?), false)),
    }
}

/// Whether this contact is one of those that fill an empty Intercom. It is noted who is.
fn fills_intercom(tx: &Tx<'_>, brevo: BrevoContactId) -> Stored<bool> {
    let (up_to, noted) = fills_up_to(tx)?;
    if !noted {
        tx.set_meta(FILLS_INTERCOM, &up_to.map_or_else(|| OVER.to_owned(), |id| id.to_string()))?;
    }
    Ok(up_to.is_some_and(|id| brevo.get() <= id))
}

/// Whether contacts that are there now would fill an empty Intercom, without noting it.
pub(super) fn would_fill_intercom(tx: &Tx<'_>) -> Stored<bool> {
    Ok(fills_up_to(tx)?.0.is_some())
}

/// Whether this one does, or did.
pub(super) fn is_of_the_fill(tx: &Tx<'_>, brevo: BrevoContactId) -> Stored<bool> {
    Ok(fills_up_to(tx)?.0.is_some_and(|id| brevo.get() <= id))
}

/// How many more may be made, by `max_creates` alone.
pub(super) fn room_to_fill(tx: &Tx<'_>, limits: &harm::Limits, slot: i64) -> Stored<u64> {
    let counted = Counted::at(slot, tx.harm_counts(FILL, slot - harm::DAY)?);
    Ok(harm::room(Kind::Creates, &harm::Limits { share: 1.0, ..*limits }, counted, u64::MAX))
}

/// All that were to be made have been.
pub(in crate::engine) fn intercom_has_been_filled(tx: &Tx<'_>) -> Stored<bool> {
    match fills_up_to(tx)? {
        (Some(id), true) => Ok(!tx.newcomers_wait(id)?),
        _ => Ok(false),
    }
}

/// From now on, contacts that are made are counted like any.
pub(in crate::engine) fn intercom_is_filled(tx: &Tx<'_>) -> Stored<()> {
    tx.set_meta(FILLS_INTERCOM, OVER)
}

/// Nobody is made there any more. Should somebody be again, it is looked then whether it is empty.
pub(in crate::engine) fn intercom_may_be_filled_anew(tx: &Tx<'_>) -> Stored<()> {
    if tx.meta(FILLS_INTERCOM)?.is_some() { tx.set_meta(FILLS_INTERCOM, UNKNOWN) } else { Ok(()) }
}

/// What a plan for Brevo does of what is counted.
pub(in crate::engine) fn harm_of(tx: &Tx<'_>, person: &Person, plan: &PersonPlan) -> Stored<Harm> {
    if person.brevo.is_none() {
        return Ok(Harm { create: true, ..Harm::default() });
    }
    let opt_out = new_opt_outs(tx, person, plan)?.any();
    let unlist = person.leaves_lists() && !plan.change.leave_lists.is_empty();
    Ok(Harm { opt_out, blank: harm::blanks(plan, SideName::Brevo, shown_of(person)), unlist, ..Harm::default() })
}

fn shown_of(person: &Person) -> Option<&Fields> {
    person.brevo.as_ref().map(|contact| &contact.attributes)
}

/// What a plan opts somebody out of in Brevo who was not, and that no notice of Intercom's carried. What stood there before,
/// and something of ours or a changed address has lifted, is put back: nobody is opted out by that. Nor by what they bring from
/// a contact that they had before: base holds it as if it had stood here.
fn new_opt_outs(tx: &Tx<'_>, person: &Person, plan: &PersonPlan) -> Stored<NewOptOuts> {
    let Some(contact) = &person.brevo else { return Ok(NewOptOuts::default()) };
    let (shown, change) = (&contact.consent, &plan.change);
    let stood = |base: Option<ConsentBase>| base.is_some_and(|base| base.brevo_out);
    let mut new = NewOptOuts {
        email: change.email_opted_out
            && !shown.email_opted_out()
            && !person.flights.opted_out
            && !stood(person.base.consent),
        sms: change.sms_opted_out && !shown.sms_opted_out && !stood(person.base.sms),
    };
    if new.any() {
        for id in person.members.iter().map(|member| &member.id).chain([&person.primary]) {
            leave_untold(tx, id, &mut new)?;
        }
    }
    Ok(new)
}

/// Without those that a notice of Intercom's told of this contact: a notice of text messages says nothing of e-mail.
pub(super) fn leave_untold(tx: &Tx<'_>, contact: &IntercomContactId, new: &mut NewOptOuts) -> Stored<()> {
    for fact in tx.opt_outs(contact)?.iter().filter(|fact| fact.over_at.is_none()) {
        new.email &= fact.channel != Channel::Email;
        new.sms &= fact.channel != Channel::Sms;
    }
    Ok(())
}

/// What a plan would have counted, on both sides.
pub(in crate::engine) fn rehearse(tx: &Tx<'_>, person: &Person, plan: &PersonPlan) -> Stored<Vec<(Kind, u64)>> {
    let does = harm_of(tx, person, plan)?;
    let mut all: Vec<(Kind, u64)> = does.kinds().map(|kind| (kind, 1)).collect();
    if harm::blanks(plan, SideName::Intercom, None) {
        all.push((Kind::Blanked, 1));
    }
    let told = plan.opt_outs_in_intercom() as u64;
    let by_notice = person.brevo.as_ref().map_or(Ok(false), |contact| {
        let facts = tx.brevo_opt_outs(Some(contact.id), person.link.email.as_ref())?;
        Stored::Ok(facts.iter().any(|fact| fact.over_at.is_none() && !fact.was_lifted()))
    })?;
    if told > 0 && !by_notice {
        all.push((Kind::OptOuts, told));
    }
    Ok(all)
}
