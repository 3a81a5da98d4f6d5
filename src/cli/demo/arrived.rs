//! What a first sync brought over: counted in the sandboxes themselves, not by the program that is being shown.

use super::{ACTIVE, LEADS, Sandboxes, USERS, VIP, text};
use crate::sandbox::brevo::Contact;
use crate::sandbox::intercom::IntercomSandbox;
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

/// What Intercom holds of one contact's conversations.
#[derive(Default, Clone)]
struct Talks {
    open: BTreeSet<String>,
    /// The rating of the last conversation that has one, with what makes it the last.
    rated: Option<(i64, String, i64)>,
}

impl Talks {
    fn join(&mut self, other: Self) {
        self.open.extend(other.open);
        self.rated = self.rated.take().max(other.rated);
    }

    /// By contact.
    fn count(intercom: &IntercomSandbox) -> BTreeMap<String, Self> {
        let mut all: BTreeMap<String, Self> = BTreeMap::new();
        for conversation in intercom.conversation_ids().iter().filter_map(|id| intercom.conversation(id)) {
            let id = text(&conversation, "id").unwrap_or_default().to_owned();
            let created = conversation.get("created_at").and_then(Value::as_i64).unwrap_or(0);
            let score = conversation.pointer("/conversation_rating/rating").and_then(Value::as_i64);
            let talk = Self {
                open: (text(&conversation, "state") == Some("open")).then(|| id.clone()).into_iter().collect(),
                rated: score.map(|score| (created, id, score)),
            };
            let contacts = conversation.pointer("/contacts/contacts").and_then(Value::as_array);
            for contact in contacts.into_iter().flatten().filter_map(|contact| text(contact, "id")) {
                all.entry(contact.to_owned()).or_default().join(talk.clone());
            }
        }
        all
    }
}

/// The name of the company that speaks for a contact: the one that was active on the latest day, then the smallest id.
fn company(intercom: &IntercomSandbox, contact: &str) -> Option<String> {
    const DAY: i64 = 24 * 60 * 60;
    let companies = intercom.contact_companies(contact).into_iter();
    let companies = companies.filter_map(|id| Some((intercom.company(&id)?, id)));
    let day = |company: &Value| company.get("last_request_at").and_then(Value::as_i64).map(|at| at.div_euclid(DAY));
    let picked = companies.min_by_key(|(company, id)| (std::cmp::Reverse(day(company)), id.clone()));
    picked.and_then(|(company, _)| text(&company, "name").map(str::to_owned))
}

/// Everybody with one address: several contacts may share it.
struct Person {
    /// User before lead, then created first.
    rank: (bool, i64),
    plan: Option<String>,
    company: Option<String>,
    opted_out: bool,
    tagged: bool,
    talks: Talks,
}

/// A number of Brevo's, which may have a point and nothing behind it.
fn whole(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| format!("{:.0}", value.as_f64()?).parse().ok())
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
        let mut talks = Talks::count(intercom);
        let mut people: BTreeMap<String, Person> = BTreeMap::new();
        for contact in intercom.contact_ids().iter().filter_map(|id| intercom.contact(id)) {
            let Some(email) = text(&contact, "email").map(str::to_lowercase) else { continue };
            let flag = |name: &str| contact.get(name).and_then(Value::as_bool) == Some(true);
            let id = text(&contact, "id").unwrap_or_default();
            let created = contact.get("created_at").and_then(Value::as_i64).unwrap_or(i64::MAX);
            let person = Person {
                rank: (text(&contact, "role") == Some("lead"), created),
                plan: contact.pointer("/custom_attributes/plan_tier").and_then(Value::as_str).map(str::to_owned),
                opted_out: ["unsubscribed_from_emails", "has_hard_bounced", "marked_email_as_spam"]
                    .into_iter()
                    .any(flag),
                tagged: intercom.contact_tags(id).iter().any(|tag| tag == "VIP"),
                company: company(intercom, id),
                talks: talks.remove(id).unwrap_or_default(),
            };
            match people.get_mut(&email) {
                None => drop(people.insert(email, person)),
                Some(known) => {
                    known.opted_out |= person.opted_out;
                    known.tagged |= person.tagged;
                    known.talks.join(person.talks);
                    if person.rank < known.rank {
                        (known.rank, known.plan, known.company) = (person.rank, person.plan, person.company);
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
        let texts = |value: &dyn Fn(&Person) -> Option<&str>| -> BTreeSet<(&str, String)> {
            let people = self.people.iter();
            people.filter_map(|(email, person)| Some((email.as_str(), value(person)?.to_owned()))).collect()
        };
        let numbers = |value: &dyn Fn(&Person) -> Option<i64>| -> BTreeSet<(&str, i64)> {
            self.people.iter().filter_map(|(email, person)| Some((email.as_str(), value(person)?))).collect()
        };
        let written = |attribute: &str| -> BTreeSet<(&str, String)> {
            let text = |contact: &'_ Contact| contact.attributes.get(attribute)?.as_str().map(str::to_owned);
            there.iter().filter_map(|contact| Some((contact.email.as_deref()?, text(contact)?))).collect()
        };
        // Nobody's zero is counted: whoever has no conversation has it, too.
        let counted = |attribute: &str| -> BTreeSet<(&str, i64)> {
            let number = |contact: &'_ Contact| whole(contact.attributes.get(attribute)?).filter(|number| *number != 0);
            there.iter().filter_map(|contact| Some((contact.email.as_deref()?, number(contact)?))).collect()
        };
        let open = |person: &Person| i64::try_from(person.talks.open.len()).ok().filter(|open| *open > 0);
        vec![
            Row::sets("people with an e-mail address", &everybody, &arrived.collect()),
            Row::sets("on the list of users", &people(&|person| !person.rank.0), &members(USERS)),
            Row::sets("on the list of leads", &people(&|person| person.rank.0), &members(LEADS)),
            Row::sets("on the list of open conversations", &people(&|person| open(person).is_some()), &members(ACTIVE)),
            Row::sets("tagged VIP, on the list of VIPs", &people(&|person| person.tagged), &members(VIP)),
            Row::sets(
                "opted out of e-mail, on either side",
                &opted_out,
                &blocklisted.filter_map(|contact| contact.email.as_deref()).collect(),
            ),
            Row::sets("with their plan", &texts(&|person| person.plan.as_deref()), &written("PLAN_TIER")),
            Row::sets("with their company", &texts(&|person| person.company.as_deref()), &written("COMPANY_NAME")),
            Row::sets("with their number of open conversations", &numbers(&open), &counted("OPEN_CONVERSATIONS")),
            Row::sets(
                "with the last rating that they gave",
                &numbers(&|person| person.talks.rated.as_ref().map(|(_, _, score)| *score)),
                &counted("LAST_RATING"),
            ),
            Row::counts("events of what happened before: none is sent", 0, brevo.events().len()),
            Row::counts(
                "without e-mail address: listed, not written",
                self.truth.without_email,
                counts.notices.get("without_email").copied().and_then(|count| count.try_into().ok()).unwrap_or(0),
            ),
        ]
    }
}
