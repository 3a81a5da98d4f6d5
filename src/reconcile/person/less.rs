//! Parts of a plan, and of what is on its way.

use super::{Base, Flights, InFlight, PersonPlan, put_or_remove};
use crate::mapping::{Direction, ListRule, Mapping};
use crate::model::{BrevoListId, ContactChange, Fields, IntercomContactId, SideName, Sides};
use crate::reconcile::consent::ConsentBase;
use crate::reconcile::lists::ListBase;
use std::collections::BTreeSet;

impl Base {
    /// What was agreed on about consent with the contact that is there. As long as that is nothing but a no that the person
    /// brings, it says nothing of what the contact shows itself: that is news. And who was out in Intercom before that may
    /// have said yes there since, so they do not count as knowing of it. `may_be_old`: no full read has just shown both.
    pub fn consent_with_contact(&self, may_be_old: bool) -> Option<ConsentBase> {
        let has_met = self.email.is_some() || !self.fields.is_empty() || !self.lists.is_empty();
        let agreed = self.consent.filter(|agreed| has_met || !agreed.brevo_out);
        agreed.or((may_be_old && !has_met).then_some(ConsentBase::NEITHER))
    }

    /// Where another speaks for the person than before ([`Self::spoken_for_by`] comes after this), who has not the tag of a
    /// list that gives it: it had been given to whoever spoke for them, and nobody has taken it away from this one.
    pub fn give_tags_to(&mut self, primary: &IntercomContactId, record: &Fields, lists: &[(ListRule, BrevoListId)]) {
        if self.spoke.as_ref().is_none_or(|spoke| spoke == primary) {
            return;
        }
        for (rule, list) in lists {
            if rule.direction == Direction::BrevoToIntercom
                && !rule.rests
                && !rule.holds(record)
                && let Some(agreed) = self.lists.get_mut(list).filter(|agreed| agreed.wanted)
            {
                *agreed = ListBase::default();
            }
        }
    }
}

impl Flights {
    /// What of it is on its way to Intercom.
    #[must_use]
    pub fn to_intercom(&self) -> Self {
        let fields = self.fields.iter().filter_map(|(key, writes)| {
            let write = writes.intercom.clone()?;
            Some((key.clone(), Sides { intercom: Some(write), brevo: None }))
        });
        let (tags, repeated_tags) = (self.tags.clone(), self.repeated_tags.clone());
        Self { fields: fields.collect(), tags, repeated_tags, ..Self::default() }
    }

    /// Adds what is on its way to Intercom.
    pub fn add_to_intercom(&mut self, others: Self) {
        for (key, writes) in others.fields {
            self.fields.entry(key).or_default().intercom = writes.intercom;
        }
        self.tags.extend(others.tags);
        self.repeated_tags.extend(others.repeated_tags);
    }

    /// The opposite of what is on its way for a list was sent twice, before that: the first of the two may land after it.
    pub fn list_may_turn(&self, list: BrevoListId, joined: bool) -> bool {
        self.repeated.contains(&(list, !joined))
    }

    /// The same of the tag that goes with a list.
    pub fn tag_may_turn(&self, list: BrevoListId, given: bool) -> bool {
        self.repeated_tags.contains(&(list, !given))
    }

    /// A no that Brevo shows may be ours.
    pub fn may_blocklist(&self) -> bool {
        self.opted_out && !self.seen_subscribed
    }

    /// Something that nobody had agreed to is being replaced.
    pub fn replaces_any(&self) -> bool {
        let replaces = |write: &Option<InFlight>| write.as_ref().is_some_and(|write| write.replaces.is_some());
        self.fields.values().any(|writes| replaces(&writes.intercom) || replaces(&writes.brevo))
    }

    /// The same once an answer has said that all of it was taken: what that replaced is in the conflict log.
    #[must_use]
    pub fn with_losses_logged(mut self) -> Self {
        for write in self.fields.values_mut().flat_map(|writes| [&mut writes.intercom, &mut writes.brevo]).flatten() {
            write.replaces = None;
        }
        self
    }

    /// The same of a request that has made a contact without an address. Brevo makes none without something to know it
    /// by, so it has taken the number: where none stands by now, somebody has taken that away, and nothing was refused.
    #[must_use]
    pub fn with_number_taken(mut self, mapping: &Mapping) -> Self {
        for rule in &mapping.rules {
            let Some(write) = self.fields.get_mut(&rule.key).and_then(|writes| writes.brevo.as_mut()) else { continue };
            for ((target, sent), before) in rule.targets.iter().zip(&write.sent).zip(&mut write.before) {
                if target.attribute == "SMS" {
                    before.clone_from(sent);
                }
            }
        }
        self
    }
}

impl PersonPlan {
    /// What this does with lists has been done, but it was sent twice, and the first may still land.
    pub fn may_move_lists_again(&mut self) {
        let joined = self.change.join_lists.iter().map(|list| (*list, true));
        let left = self.change.leave_lists.iter().map(|list| (*list, false));
        self.flights.repeated.extend(joined.chain(left));
    }

    /// The plan without what it would change in a Brevo contact that is to be left as it is, but for opt-outs: of the rest,
    /// what was agreed on stays what it was.
    #[must_use]
    pub fn without_brevo(mut self, before: &Base, watched: &Flights) -> Self {
        let written = |key: &&String| self.flights.field(SideName::Brevo, key) != watched.field(SideName::Brevo, key);
        let rules: BTreeSet<String> = self.flights.fields.keys().filter(written).cloned().collect();
        for key in &rules {
            self.causes.remove(key);
            put_or_remove(&mut self.base.fields, key, before.fields.get(key));
            let earlier = watched.field(SideName::Brevo, key).cloned();
            self.flights.fields.entry(key.clone()).or_default().brevo = earlier;
        }
        self.flights.fields.retain(|_, writes| writes.intercom.is_some() || writes.brevo.is_some());
        for list in self.change.join_lists.iter().chain(&self.change.leave_lists) {
            put_or_remove(&mut self.base.lists, list, before.lists.get(list));
            put_or_remove(&mut self.flights.lists, list, watched.lists.get(list));
        }
        if self.change.email.is_some() {
            self.causes.remove("email");
            self.base.email.clone_from(&before.email);
            self.flights.may_loosen = watched.may_loosen;
            self.flights.renames.clone_from(&watched.renames);
        }
        let (email_opted_out, sms_opted_out) = (self.change.email_opted_out, self.change.sms_opted_out);
        self.change = ContactChange { email_opted_out, sms_opted_out, ..ContactChange::default() };
        self.lost.retain(|lost| lost.side == SideName::Intercom);
        self
    }
}
