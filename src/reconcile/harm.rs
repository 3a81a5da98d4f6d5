//! Bounded harm: how many writes of a kind may go before somebody is asked, and a plan without what is held.
//!
//! What is counted is counted in slots of ten minutes. A rolling hour is taken to be the present slot and the six before
//! it, a rolling day the 144 before it: a little more than either, so that no hour and no day ever holds more than its limit.

#[cfg(test)]
mod tests;

use super::person::{Base, Flights, PersonPlan, UNIQUE_ATTRIBUTES};
use crate::mapping::Mapping;
use crate::model::{ContactChange, Fields, SideName, Value};
use std::collections::BTreeMap;

/// Seconds of a slot.
pub const SLOT: i64 = 600;
/// Slots before the present one that an hour reaches into.
pub const HOUR: i64 = 6;
/// And a day.
pub const DAY: i64 = 144;

/// What is counted apart, and pauses apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Contacts made in Brevo.
    Creates,
    /// What a deletion on one side, or a filter, leads to on the other: records deleted, archived or taken off lists.
    Deletes,
    /// People opted out, on either side, but for what a vendor's own notice of an opt-out carried.
    OptOuts,
    /// Records of which a field is cleared, on either side: each counts once a write, whatever it loses.
    Blanked,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::Creates, Self::Deletes, Self::OptOuts, Self::Blanked];

    /// As the state keeps it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Creates => "creates",
            Self::Deletes => "deletes",
            Self::OptOuts => "opt_outs",
            Self::Blanked => "blanked",
        }
    }

    /// What the state keeps.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    /// A share of a few people says nothing: so many may always go in a day. To make a contact does the least harm, and
    /// small accounts grow fast.
    pub fn always(self) -> u64 {
        if self == Self::Creates { 500 } else { 50 }
    }
}

/// What may be done in an hour without asking; in a day, ten times as much, but no more than the share.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Contacts made.
    pub creates: u64,
    /// Records deleted.
    pub deletes: u64,
    /// People opted out.
    pub opt_outs: u64,
    /// Records of which a field is cleared.
    pub blanked: u64,
    /// Of the people that are linked, from 0 to 1.
    pub share: f64,
}

impl Default for Limits {
    /// The share protects accounts of ordinary size; the numbers, those in which a tenth is a catastrophe.
    fn default() -> Self {
        Self { creates: 10_000, deletes: 500, opt_outs: 5_000, blanked: 5_000, share: 0.1 }
    }
}

impl Limits {
    /// In an hour.
    pub fn an_hour(&self, kind: Kind) -> u64 {
        match kind {
            Kind::Creates => self.creates,
            Kind::Deletes => self.deletes,
            Kind::OptOuts => self.opt_outs,
            Kind::Blanked => self.blanked,
        }
    }

    /// In a day, where so many people are linked.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of people: far below where a float is inexact, and never negative"
    )]
    pub fn a_day(&self, kind: Kind, people: u64) -> u64 {
        let share = (people as f64 * self.share.clamp(0.0, 1.0)).floor() as u64;
        self.an_hour(kind).saturating_mul(10).min(share.max(kind.always()))
    }
}

/// How many went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    /// In the last hour.
    pub hour: u64,
    /// In the last day.
    pub day: u64,
}

impl Counted {
    /// From the counts of slots.
    pub fn at(now: i64, slots: impl IntoIterator<Item = (i64, u64)>) -> Self {
        let mut counted = Self::default();
        for (slot, count) in slots {
            // What lies ahead was counted before the clock was set back.
            counted.hour += if slot >= now - HOUR { count } else { 0 };
            counted.day += if slot >= now - DAY { count } else { 0 };
        }
        counted
    }

    /// So many more.
    #[must_use]
    pub fn and(self, more: u64) -> Self {
        Self { hour: self.hour.saturating_add(more), day: self.day.saturating_add(more) }
    }
}

/// How many more may go now, where so many people are linked.
pub fn room(kind: Kind, limits: &Limits, counted: Counted, people: u64) -> u64 {
    let hour = limits.an_hour(kind).saturating_sub(counted.hour);
    let day = limits.a_day(kind, people).saturating_sub(counted.day);
    hour.min(day)
}

/// How many of those that want to be written go. Contacts are made as far as there is room; of all else, which nobody can
/// take back, all go or none.
pub fn go(kind: Kind, wanted: u64, room: u64) -> u64 {
    match kind {
        Kind::Creates => wanted.min(room),
        _ if wanted <= room => wanted,
        _ => 0,
    }
}

/// How many an approval lets through: what was held, and a little for what comes meanwhile.
pub fn approved(wanted: u64) -> u64 {
    wanted.saturating_add(wanted / 10).saturating_add(25)
}

fn put_back<K: Ord + Clone, V: Clone>(map: &mut BTreeMap<K, V>, key: &K, before: Option<&V>) {
    match before {
        Some(value) => drop(map.insert(key.clone(), value.clone())),
        None => drop(map.remove(key)),
    }
}

/// Whether a plan clears anything of what this side shows. `brevo`: the attributes there.
pub fn blanks(plan: &PersonPlan, side: SideName, brevo: Option<&Fields>) -> bool {
    match side {
        SideName::Brevo => {
            plan.change.attributes.keys().any(|name| is_cleared(plan, name, brevo))
                || plan.flights.fields.keys().any(|rule| clears_ours(plan, rule))
        }
        SideName::Intercom => plan.intercom.values().any(Option::is_none),
    }
}

/// A part of a name that is not there is sent as nothing with the other: that clears nothing.
fn is_cleared(plan: &PersonPlan, attribute: &str, brevo: Option<&Fields>) -> bool {
    let there = brevo.is_none_or(|brevo| brevo.contains_key(attribute));
    there && matches!(plan.change.attributes.get(attribute), Some(None))
}

/// Whether it clears what a write of ours has put there, though no look has shown that yet.
fn clears_ours(plan: &PersonPlan, rule: &str) -> bool {
    let writes = plan.causes.contains_key(rule) && !plan.back.rules.contains(rule);
    let Some(write) = plan.flights.field(SideName::Brevo, rule).filter(|_| writes) else { return false };
    let had = |cell: usize| write.superseded.iter().any(|earlier| earlier.get(cell).is_some_and(Option::is_some));
    write.sent.iter().enumerate().any(|(cell, sent)| sent.is_none() && had(cell))
}

/// The plan without the fields that it clears on this side. Of them, all is as before.
#[must_use]
pub fn without_blanks(
    mut plan: PersonPlan,
    (side, brevo): (SideName, Option<&Fields>),
    before: &Base,
    watched: &Flights,
    mapping: &Mapping,
) -> PersonPlan {
    for rule in &mapping.rules {
        let targets = || rule.targets.iter().map(|target| target.attribute.as_str());
        let cleared = match side {
            SideName::Brevo => {
                targets().any(|target| is_cleared(&plan, target, brevo)) || clears_ours(&plan, &rule.key)
            }
            SideName::Intercom => {
                plan.back.rules.contains(&rule.key) && matches!(plan.intercom.get(&rule.source), Some(None))
            }
        };
        if !cleared {
            continue;
        }
        match side {
            SideName::Brevo => targets().for_each(|target| drop(plan.change.attributes.remove(target))),
            SideName::Intercom => {
                plan.intercom.remove(&rule.source);
                plan.back.rules.remove(&rule.key);
            }
        }
        put_back(&mut plan.base.fields, &rule.key, before.fields.get(&rule.key));
        let earlier = watched.field(side, &rule.key).cloned();
        let writes = plan.flights.fields.entry(rule.key.clone()).or_default();
        writes[side] = earlier;
        if writes.intercom.is_none() && writes.brevo.is_none() {
            plan.flights.fields.remove(&rule.key);
        }
        plan.causes.remove(&rule.key);
        plan.lost.retain(|lost| lost.field != rule.key || lost.side != side);
    }
    settled(plan)
}

/// The plan without what takes somebody off lists. Of these, all is as before.
#[must_use]
pub fn without_leaving(mut plan: PersonPlan, before: &Base, watched: &Flights) -> PersonPlan {
    for list in std::mem::take(&mut plan.change.leave_lists) {
        put_back(&mut plan.base.lists, &list, before.lists.get(&list));
        put_back(&mut plan.flights.lists, &list, watched.lists.get(&list));
    }
    settled(plan)
}

/// The opt-outs of a plan that are counted: new to Brevo, and carried by no notice. What stands there already and rides
/// along with a new address, or is put back, is not among them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NewOptOuts {
    /// Of e-mail.
    pub email: bool,
    /// Of text messages.
    pub sms: bool,
}

impl NewOptOuts {
    /// Of either channel.
    pub fn any(self) -> bool {
        self.email || self.sms
    }
}

/// The plan without the new opt-outs that it brings to Brevo. All else goes, but nobody whose opt-out waits joins a list:
/// they would be mailed meanwhile. A flag that is no news stays: without it Brevo re-subscribes whoever takes another address.
#[must_use]
pub fn without_opt_out(mut plan: PersonPlan, new: NewOptOuts, before: &Base, watched: &Flights) -> PersonPlan {
    if new.email {
        plan.change.email_opted_out = false;
        plan.base.consent = before.consent;
        plan.flights.opted_out = watched.opted_out;
        plan.causes.remove("consent");
    }
    if new.sms {
        plan.change.sms_opted_out = false;
        plan.base.sms = before.sms;
    }
    for list in std::mem::take(&mut plan.change.join_lists) {
        put_back(&mut plan.base.lists, &list, before.lists.get(&list));
        put_back(&mut plan.flights.lists, &list, watched.lists.get(&list));
    }
    settled(plan)
}

/// What is left of a plan may be for an import by now. The external id rides along: alone it is not worth a request.
fn settled(mut plan: PersonPlan) -> PersonPlan {
    let change = &plan.change;
    let clears = |value: &Option<Value>| value.is_none() || *value == Some(Value::Boolean(false));
    plan.alone = change.email.is_some()
        || change.email_opted_out
        || change.sms_opted_out
        || change.attributes.iter().any(|(name, value)| clears(value) || UNIQUE_ATTRIBUTES.contains(&name.as_str()));
    let rest = ContactChange { ext_id: None, ..plan.change.clone() };
    if rest.is_empty() {
        plan.change = rest;
    }
    plan
}
