//! The checker of the limits on harm (P7): what our requests did of what is counted, against what may go without asking and
//! what somebody let go. It counts what is counted for sure, and allows for what was planned a while before it left.

use super::model::{Card, Cause, Model, Person};
use super::people::normal;
use super::world::Limits;
use linkspan::sandbox::brevo::Contact;
use std::collections::{BTreeMap, BTreeSet};

/// An hour, less what may lie between the planning of a write (when it is counted) and its leaving.
const HOUR: i64 = 3_000_000;
/// An approval lasts for a day; what goes under it may be on its way a little longer.
const APPROVED: i64 = 25 * 3_600_000;
/// After everybody had been made who was there at first, the program needs so long to note it.
const NOTED: i64 = 1_800_000;

#[derive(Default)]
pub struct Harm {
    pub limits: Option<Limits>,
    /// By kind: when each left.
    went: BTreeMap<&'static str, Vec<i64>>,
    /// Kind, how many, when.
    let_go: Vec<(String, u64, i64)>,
    /// Who was there when contacts had first been read whole, until all of them are in Brevo.
    first: Option<BTreeSet<String>>,
    /// Since when the first fill is over.
    filled_at: Option<i64>,
    /// Addresses of which a notice of Brevo's told an opt-out that was acknowledged.
    pub noticed: BTreeSet<String>,
}

impl Harm {
    pub fn within(limits: Option<Limits>) -> Self {
        Self { limits, ..Self::default() }
    }

    pub fn approved(&mut self, kind: &str, may: u64, now: i64) {
        self.let_go.push((kind.to_owned(), may, now));
    }

    pub fn goes(&mut self, kind: &'static str, left_at: i64) -> Option<String> {
        let limits = self.limits?;
        let limit = match kind {
            "creates" => limits.creates,
            "opt_outs" => limits.opt_outs,
            "deletes" => limits.deletes,
            _ => limits.blanked,
        };
        let went = self.went.entry(kind).or_default();
        went.push(left_at);
        let count = went.iter().filter(|at| **at > left_at - HOUR && **at <= left_at).count() as u64;
        let let_go = self.let_go.iter().filter(|(what, _, at)| what == kind && *at > left_at - APPROVED);
        let may = limit + let_go.map(|(_, may, _)| may).sum::<u64>();
        (count > may).then(|| format!("P7: {count} {kind} within an hour, {may} may go"))
    }
}

fn is_blank(contact: &Contact, name: &str) -> bool {
    contact.attributes.get(name).is_none_or(|value| value.is_null() || value == "")
}

impl Model {
    /// Judges what a request of ours changed in a Brevo contact.
    pub fn harm_of_change(&mut self, card: &Card, contact: &Contact, cause: &Cause) -> Vec<String> {
        let Cause::Ours { left_at, .. } = cause else { return Vec::new() };
        let mut wrong = Vec::new();
        let gone = |name: &&str| !is_blank(&card.now, name) && is_blank(contact, name);
        if ["PLAN_TIER", "SEATS", "IS_ADMIN"].iter().any(gone) {
            wrong.extend(self.harm.goes("blanked", *left_at));
        }
        if contact.email_blacklisted && !card.now.email_blacklisted && !card.ever_out {
            let addresses: BTreeSet<String> =
                card.addresses.iter().cloned().chain(contact.email.as_deref().map(normal)).collect();
            // Who has no address may be known by their phone.
            let theirs = |person: &&Person| {
                let by_phone = self.by_phone && person.email.is_none() && !person.phones.is_disjoint(&card.phones);
                !person.addresses.is_disjoint(&addresses) || by_phone
            };
            // So does the address, from a contact that it had before: what stood there is put back.
            let stood = |other: &Card| other.ever_out && !other.addresses.is_disjoint(&addresses);
            let by_notice = !self.harm.noticed.is_disjoint(&addresses)
                || self.cards.values().any(stood)
                || self.people.values().filter(theirs).any(|person| person.out_by_notice || self.brings_no(person));
            if !by_notice {
                wrong.extend(self.harm.goes("opt_outs", *left_at));
            }
        }
        wrong
    }

    /// Who moves to another address brings the opt-out that they had: nobody is opted out anew. So does who was known by their
    /// phone until then, and whoever inherits from somebody who was merged into them, if the contact of those is known to have
    /// been opted out.
    fn brings_no(&self, person: &Person) -> bool {
        let was_out = |was: &Person| {
            let by_phone = |card: &Card| self.by_phone && !was.phones.is_disjoint(&card.phones);
            let theirs = |card: &Card| !was.addresses.is_disjoint(&card.addresses) || by_phone(card);
            self.cards.values().any(|card| card.ever_out && theirs(card))
        };
        let mut heir_of = person.heir_of.iter().filter_map(|id| self.people.get(id));
        person.addresses.len() > 1 || was_out(person) || heir_of.any(was_out)
    }

    /// Judges a contact that we made.
    pub fn harm_of_creation(&mut self, contact: &Contact, left_at: i64) -> Option<String> {
        let email = contact.email.as_deref().map(normal)?;
        // A row for a contact that was deleted meanwhile makes it again, which nobody can know.
        let again = self.cards.values().any(|card| card.addresses.contains(&email));
        let counted = self.harm.filled_at.is_some_and(|at| left_at > at + NOTED) && !again;
        if counted { self.harm.goes("creates", left_at) } else { None }
    }

    /// Contacts have been read whole.
    pub fn read_whole(&mut self) {
        let there = self.people.values().filter(|person| person.live).filter_map(|person| person.email.clone());
        self.harm.first.get_or_insert_with(|| there.collect());
    }

    /// Whether the first fill is over.
    pub fn note_fill(&mut self, now: i64) {
        let Some(first) = self.harm.first.as_ref().filter(|_| self.harm.filled_at.is_none()) else { return };
        let made = |email: &String| self.cards.values().any(|card| card.addresses.contains(email));
        let waits = |email: &String| {
            self.people.values().any(|person| person.live && person.email.as_ref() == Some(email)) && !made(email)
        };
        if !first.iter().any(waits) {
            self.harm.filled_at = Some(now);
        }
    }
}
