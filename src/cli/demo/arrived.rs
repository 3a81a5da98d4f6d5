//! What a first sync brought over: counted in the sandboxes themselves, not by the program that is being shown.

use super::{ACTIVE, LEADS, Sandboxes, USERS, text};
use crate::sandbox::intercom::Truth;
use crate::store::listings::Counts;
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// One line of the table.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub(super) what: &'static str,
    pub(super) intercom: usize,
    pub(super) arrived: usize,
    /// Expected, but not there; there, but not expected.
    missing: usize,
    surplus: usize,
}

impl Row {
    fn sets<T: Ord>(what: &'static str, expected: &BTreeSet<T>, found: &BTreeSet<T>) -> Self {
        Self {
            what,
            intercom: expected.len(),
            arrived: found.len(),
            missing: expected.difference(found).count(),
            surplus: found.difference(expected).count(),
        }
    }

    fn counts(what: &'static str, expected: usize, found: usize) -> Self {
        let (missing, surplus) = (expected.saturating_sub(found), found.saturating_sub(expected));
        Self { what, intercom: expected, arrived: found, missing, surplus }
    }

    pub(super) fn holds(&self) -> bool {
        self.missing == 0 && self.surplus == 0
    }

    pub(super) fn note(&self) -> String {
        match (self.missing, self.surplus) {
            (0, 0) => String::new(),
            (missing, 0) => format!("{missing} missing"),
            (0, surplus) => format!("{surplus} too many"),
            (missing, surplus) => format!("{missing} missing, {surplus} too many"),
        }
    }
}

/// Everybody with one address: several contacts may share it.
struct Person {
    /// User before lead, then created first.
    rank: (bool, i64),
    plan: Option<String>,
    opted_out: bool,
    talking: bool,
}

/// What is expected of the sync, noted before it.
pub(super) struct Before {
    pub(super) truth: Truth,
    pub(super) brevo_contacts: usize,
    people: BTreeMap<String, Person>,
    /// Who had opted out in Brevo already.
    blocklisted: BTreeSet<String>,
    /// Who was there already.
    known: BTreeSet<String>,
}

impl Before {
    pub(super) fn look(sandboxes: &Sandboxes) -> Self {
        let (intercom, brevo) = (&sandboxes.intercom, &sandboxes.brevo);
        let mut talking: BTreeSet<String> = BTreeSet::new();
        for conversation in intercom.conversation_ids().iter().filter_map(|id| intercom.conversation(id)) {
            if text(&conversation, "state") == Some("open") {
                let contacts = conversation.pointer("/contacts/contacts").and_then(Value::as_array);
                talking
                    .extend(contacts.into_iter().flatten().filter_map(|contact| Some(text(contact, "id")?.to_owned())));
            }
        }
        let mut people: BTreeMap<String, Person> = BTreeMap::new();
        for contact in intercom.contact_ids().iter().filter_map(|id| intercom.contact(id)) {
            let Some(email) = text(&contact, "email").map(str::to_lowercase) else { continue };
            let flag = |name: &str| contact.get(name).and_then(Value::as_bool) == Some(true);
            let created = contact.get("created_at").and_then(Value::as_i64).unwrap_or(i64::MAX);
            let person = Person {
                rank: (text(&contact, "role") == Some("lead"), created),
                plan: contact.pointer("/custom_attributes/plan_tier").and_then(Value::as_str).map(str::to_owned),
                opted_out: ["unsubscribed_from_emails", "has_hard_bounced", "marked_email_as_spam"]
                    .into_iter()
                    .any(flag),
                talking: text(&contact, "id").is_some_and(|id| talking.contains(id)),
            };
            match people.get_mut(&email) {
                None => drop(people.insert(email, person)),
                Some(known) => {
                    known.opted_out |= person.opted_out;
                    known.talking |= person.talking;
                    if person.rank < known.rank {
                        (known.rank, known.plan) = (person.rank, person.plan);
                    }
                }
            }
        }
        let there = brevo.contacts();
        let blocked = |blocked: bool| {
            let chosen = there.iter().filter(move |contact| contact.email_blacklisted || !blocked);
            chosen.filter_map(|contact| contact.email.clone()).collect::<BTreeSet<String>>()
        };
        Self {
            truth: intercom.truth(),
            brevo_contacts: there.len(),
            people,
            blocklisted: blocked(true),
            known: blocked(false),
        }
    }

    /// What is there now, against what was to be expected.
    pub(super) fn compare(&self, sandboxes: &Sandboxes, counts: &Counts) -> Vec<Row> {
        let brevo = &sandboxes.brevo;
        let there = brevo.contacts();
        let by_id: BTreeMap<i64, &str> =
            there.iter().filter_map(|contact| Some((contact.id, contact.email.as_deref()?))).collect();
        let people = |chosen: &dyn Fn(&Person) -> bool| -> BTreeSet<&str> {
            self.people.iter().filter(|(_, person)| chosen(person)).map(|(email, _)| email.as_str()).collect()
        };
        let members = |name: &str| -> BTreeSet<&str> {
            let members = brevo.list_id(name).map(|id| brevo.list_members(id)).unwrap_or_default();
            members.iter().filter_map(|id| by_id.get(id).copied()).collect()
        };
        let everybody = people(&|_| true);
        // Contacts of Brevo's own that Intercom does not know are nobody's business here.
        let arrived = by_id.values().copied().filter(|email| everybody.contains(email) || !self.known.contains(*email));
        let mut opted_out = people(&|person| person.opted_out);
        opted_out.extend(self.blocklisted.iter().map(String::as_str));
        let blocklisted = there.iter().filter(|contact| contact.email_blacklisted);
        let plans: BTreeSet<(&str, &str)> =
            self.people.iter().filter_map(|(email, person)| Some((email.as_str(), person.plan.as_deref()?))).collect();
        let written: BTreeSet<(&str, &str)> = there
            .iter()
            .filter_map(|contact| Some((contact.email.as_deref()?, contact.attributes.get("PLAN_TIER")?.as_str()?)))
            .collect();
        vec![
            Row::sets("people with an e-mail address", &everybody, &arrived.collect()),
            Row::sets("on the list of users", &people(&|person| !person.rank.0), &members(USERS)),
            Row::sets("on the list of leads", &people(&|person| person.rank.0), &members(LEADS)),
            Row::sets("on the list of open conversations", &people(&|person| person.talking), &members(ACTIVE)),
            Row::sets(
                "opted out of e-mail, on either side",
                &opted_out,
                &blocklisted.filter_map(|contact| contact.email.as_deref()).collect(),
            ),
            Row::sets("with their plan", &plans, &written),
            Row::counts(
                "without e-mail address: listed, not written",
                self.truth.without_email,
                counts.notices.get("without_email").copied().and_then(|count| count.try_into().ok()).unwrap_or(0),
            ),
        ]
    }
}
