//! What was added to worlds with `contacts.filter` and `consent.resubscribe`: drawn from a stream of its own. And what must
//! hold of them.

use super::ending::End;
use super::model::{Card, GAP, Model, Person};
use super::people::{Edit, TIERS, normal};
use super::world::{Dice, Plan, Source, some_tier};
use linkspan::sandbox::brevo::BrevoSandbox;
use serde_json::Value;
use std::time::Duration;

/// Who takes part.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Filter {
    #[default]
    Everybody,
    Users,
    /// Those of the first two tiers.
    Tiers,
}

impl Filter {
    /// The condition, as a user writes it.
    pub fn words(self) -> Option<String> {
        match self {
            Self::Everybody => None,
            Self::Users => Some("record.role == 'user'".to_owned()),
            Self::Tiers => Some(format!("record.custom_attributes.plan_tier in ['{}', '{}']", TIERS[0], TIERS[1])),
        }
    }

    pub fn takes(self, person: &Person) -> bool {
        match self {
            Self::Everybody => true,
            Self::Users => !person.lead,
            Self::Tiers => {
                let tier = person.values.get(&Source::Tier).and_then(Value::as_str);
                tier.is_some_and(|tier| TIERS[..2].contains(&tier))
            }
        }
    }

    /// The same of a contact as the API and notifications show it. A minimal one shows nothing of it.
    pub fn takes_shown(self, shown: &Value) -> bool {
        match self {
            Self::Everybody => true,
            Self::Users => shown["role"] == "user",
            Self::Tiers => {
                shown["custom_attributes"]["plan_tier"].as_str().is_some_and(|tier| TIERS[..2].contains(&tier))
            }
        }
    }
}

pub fn sift(plan: &mut Plan) {
    let mut dice = Dice::new(plan.seed, "sifting");
    if dice.hits(0.25) {
        plan.setting.filter = *dice.pick(&[Filter::Users, Filter::Tiers, Filter::Tiers]);
        plan.setting.unlists = dice.hits(0.5);
        let last = plan.edits.iter().map(|(at, _)| *at).max().unwrap_or_default();
        let most = u64::try_from(last.as_millis()).unwrap_or(u64::MAX).max(60_000);
        for _ in 0..dice.between(2, 10) {
            let at = Duration::from_millis(dice.between(0, most));
            plan.edits.push((at, Edit::Tier(dice.next() >> 1, some_tier(&mut dice))));
        }
        plan.edits.sort_by_key(|(at, _)| *at);
    }
    if dice.hits(0.3) {
        plan.setting.resubscribes = true;
        // Opt-ins long after the opt-outs that they answer, and some at once.
        let last = plan.edits.iter().map(|(at, _)| *at).max().unwrap_or_default();
        let most = u64::try_from(last.as_millis()).unwrap_or(u64::MAX).max(60_000);
        for _ in 0..dice.between(1, 5) {
            let (at, who) = (dice.between(0, most), dice.next() >> 1);
            let (out, back) = match dice.below(4) {
                0 => (Edit::Unsubscribe(who), Edit::Resubscribe(who)),
                1 => (Edit::Unsubscribe(who), Edit::BrevoResubscribe(who)),
                2 => (Edit::BrevoUnsubscribe(who), Edit::Resubscribe(who)),
                _ => (Edit::BrevoUnsubscribe(who), Edit::BrevoResubscribe(who)),
            };
            plan.edits.push((Duration::from_millis(at), out));
            let wait = *dice.pick(&[1_000, 60_000, 1_500_000, 3_000_000]);
            plan.edits.push((Duration::from_millis(at + wait), back));
        }
        plan.edits.sort_by_key(|(at, _)| *at);
    }
}

impl Model {
    /// Whether the filter takes somebody who is gone, by what the engine was last shown: of them nothing can be read any more.
    pub fn takes_as_shown(&self, person: &Person) -> bool {
        self.filter.takes(person) && (self.filter == Filter::Everybody || person.told_part)
    }

    /// We lifted Brevo's no by a request that left then: because somebody of the address had said yes in Intercom since.
    pub fn may_lift_in_brevo(&self, card: &Card, left_at: i64) -> bool {
        let address = card.now.email.as_deref().map(normal);
        let members =
            || self.people.values().filter(|person| person.live && person.email == address && address.is_some());
        self.resubscribes
            && members().any(|person| person.in_at.is_some_and(|at| at > card.out_at))
            && !members().any(|person| person.out && person.out_at < left_at - GAP && person.is_known_here(left_at))
    }

    /// The same in Intercom. Who says no on either side while it is on its way has said yes in Brevo before that.
    pub fn may_lift_in_intercom(&self, person: &Person, left_at: Option<i64>) -> bool {
        let theirs = |card: &&Card| !card.gone && card.now.email.as_deref().map(normal) == person.email;
        let told_out = |left_at: i64| person.told_out.is_some_and(|told| told <= left_at);
        let unseen = left_at.is_some_and(|left_at| person.out_at >= left_at - GAP && !told_out(left_at));
        let said_yes = |card: &Card| {
            let told = |left_at: i64| card.told_out.is_some_and(|told| told <= left_at);
            let known = |at: i64| left_at.is_none_or(|left_at| at < left_at - GAP || told(left_at));
            let said_no = card.said.is_some_and(|(at, out)| out && known(at));
            !said_no && card.yes_at.is_some_and(|at| at > person.out_at || unseen)
        };
        self.resubscribes && self.cards.values().filter(theirs).any(said_yes)
    }
}

impl End<'_> {
    /// Opt-ins that have not been carried across, since the opt-out on the other side is newer.
    pub fn opt_ins(&mut self) {
        if !self.model.resubscribes {
            return;
        }
        for card in self.model.cards.values().filter(|card| !card.gone) {
            let Some(address) = card.now.email.as_deref().map(normal) else { continue };
            let theirs = |person: &&Person| person.live && person.email.as_ref() == Some(&address);
            for person in self.model.people.values().filter(theirs) {
                let older =
                    card.now.email_blacklisted && !person.out && person.in_at.is_some_and(|at| at < card.out_at);
                if older {
                    self.counts.push("outcome: an opt-in in Intercom is older than the no in Brevo".to_owned());
                }
                let said_yes = card.said.is_some_and(|(at, out)| !out && at < person.out_at);
                if person.out && !person.out_by_us && card.now.email_blacklisted && said_yes {
                    self.counts.push("outcome: an opt-in in Brevo is older than the no in Intercom".to_owned());
                }
            }
        }
    }

    /// Whether nothing is to be said about the fields of these: the filter leaves one of them out.
    pub fn sifted(&mut self, address: &str, members: &[(&String, &Person)], brevo: &BrevoSandbox) -> bool {
        let filter = self.model.filter;
        if members.iter().all(|(_, person)| filter.takes(person)) {
            return false;
        }
        let Some(card) = self.card(address) else {
            self.counts.push("outcome: left out by the filter, not made".to_owned());
            return true;
        };
        let [(id, person)] = members[..] else { return true };
        let simple = self.is_simple(address, card);
        if simple && !person.took_part && !card.by_hand {
            self.wrong.push(format!("P2: {id}, whom the filter leaves out, was made in Brevo ({})", card.now.id));
        }
        if simple && self.model.unlists && !self.model.reloaded {
            let rules = self.rules;
            let lists = [(rules.users, "Users"), (rules.leads, "Leads"), (rules.blue, "Blue")];
            for list in lists.into_iter().filter_map(|(on, name)| brevo.list_id(name).filter(|_| on)) {
                if card.now.list_ids.contains(&list) && !card.listed_by_hand.contains(&list) {
                    self.wrong.push(format!("P2: {id}, whom the filter leaves out, is still on list {list} in Brevo"));
                }
            }
            self.counts.push("outcome: left out by the filter, off the lists".to_owned());
        }
        self.counts.push("outcome: left out by the filter".to_owned());
        true
    }
}
