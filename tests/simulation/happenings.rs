//! Conversations at the end: their figures, and the events that tell Brevo of them.

use super::ending::End;
use super::model::{Card, GAP, Happening, Person, contacts_of, happened};
use super::sifting::Filter;
use super::world::Source;
use linkspan::sandbox::brevo::BrevoSandbox;
use linkspan::sandbox::intercom::IntercomSandbox;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// How long before anything happens the program must have been at work, so that it counts: its clock may be off. No run
/// is so long that anything is too old when it is seen.
const MARGIN: i64 = 600_000;

/// One conversation as Intercom shows it.
struct Talk {
    contacts: BTreeSet<String>,
    open: bool,
    /// Milliseconds since the start of the run, as everything here.
    created: i64,
    rating: Option<i64>,
    /// What it shows of what has happened in it: kinds and marks.
    shows: Vec<(&'static str, i64)>,
}

#[derive(Default)]
pub struct Conversations(BTreeMap<String, Talk>);

impl Conversations {
    /// `start`: the start of the run in milliseconds.
    pub fn of(intercom: &IntercomSandbox, start: i64) -> Self {
        let talk = |shown: &Value| {
            Some(Talk {
                contacts: contacts_of(shown),
                open: shown["state"] == "open",
                created: shown["created_at"].as_i64()? * 1000 - start,
                shows: happened(shown),
                rating: shown["conversation_rating"]["rating"].as_i64(),
            })
        };
        let ids = intercom.conversation_ids();
        Self(ids.into_iter().filter_map(|id| Some((id.clone(), talk(&intercom.conversation(&id)?)?))).collect())
    }

    fn of_people<'a>(&'a self, ids: &'a BTreeSet<&String>) -> impl Iterator<Item = &'a Talk> {
        self.0.values().filter(|talk| talk.contacts.iter().any(|contact| ids.contains(contact)))
    }

    /// What a figure of these people may be.
    pub fn figure(&self, source: Source, ids: &BTreeSet<&String>) -> Vec<Option<Value>> {
        let count = |count: usize| vec![Some(Value::from(count))];
        match source {
            Source::OpenConversations => count(self.of_people(ids).filter(|talk| talk.open).count()),
            Source::Conversations => count(self.of_people(ids).count()),
            _ => {
                // That of the conversation that began last; several may have begun in one second.
                let rated = || self.of_people(ids).filter(|talk| talk.rating.is_some());
                let last = rated().map(|talk| talk.created).max();
                let ratings: Vec<Option<Value>> = rated()
                    .filter(|talk| Some(talk.created) == last)
                    .map(|talk| talk.rating.map(Value::from))
                    .collect();
                if ratings.is_empty() { vec![None] } else { ratings }
            }
        }
    }
}

/// An event as Brevo took it.
struct Event {
    contact: Option<i64>,
    name: String,
    at: i64,
    key: String,
    conversation: String,
    rating: Option<i64>,
    until: Option<i64>,
}

impl Event {
    /// Whether it tells of this. `start`: the start of the run in milliseconds.
    fn tells(&self, id: &str, what: &Happening, start: i64) -> bool {
        let mark = match what.kind {
            "created" | "closed" => Some((self.at + start) / 1000),
            "snoozed" => self.until,
            _ => self.rating,
        };
        self.conversation == id
            && self.name.strip_prefix("intercom_conversation_") == Some(what.kind)
            && mark == Some(what.mark)
    }
}

impl End<'_> {
    /// What happened is told once, of the right contact, and nothing is told that did not happen.
    pub fn events(&mut self, brevo: &BrevoSandbox, start: i64) {
        let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
        let until = |text: &str| Some(chrono::DateTime::parse_from_rfc3339(text).ok()?.timestamp());
        let events: Vec<Event> = brevo
            .events()
            .iter()
            .map(|event| Event {
                contact: event.contact_id,
                name: event.name.clone(),
                at: event.date.timestamp_millis() - start,
                key: text(event.properties.get("linkspan_key")),
                conversation: text(event.properties.get("conversation_id")),
                rating: event.properties.get("rating").and_then(Value::as_i64),
                until: event.properties.get("snoozed_until").and_then(Value::as_str).and_then(until),
            })
            .collect();
        let mut seen: BTreeMap<(&str, Option<i64>), u32> = BTreeMap::new();
        for event in &events {
            // Of nobody: the contact was deleted there, and that had not been seen. Brevo shows it to nobody, either.
            if event.contact.is_some() {
                *seen.entry((&event.key, event.contact)).or_default() += 1;
            }
            let Some(known) = self.model.talks.get(&event.conversation) else {
                self.wrong.push(format!("event {} tells of a conversation that is not there", event.key));
                continue;
            };
            if !known.iter().any(|what| event.tells(&event.conversation, what, start)) {
                self.wrong.push(format!("event {} tells of what did not happen", event.key));
            }
        }
        for ((key, _), times) in seen {
            if times == 1 {
                self.counts.push("outcome: an event told once".to_owned());
            } else if self.model.failed_event_looks > 0 {
                self.counts.push("outcome: an event told twice, Brevo would not say".to_owned());
            } else {
                self.wrong.push(format!("event {key} was told {times} times"));
            }
        }
        let Some(at_work) = self.model.first_search_at.map(|at| at + MARGIN) else { return };
        let (mut wrong, mut counts) = (Vec::new(), Vec::new());
        for (id, known) in &self.model.talks {
            let Some(talk) = self.talks.0.get(id) else { continue };
            for what in known.iter().filter(|what| what.at > at_work) {
                // What was over before anybody looked leaves no trace: only the last closing and rating are shown, and
                // whether it is put off now. But a notification that was acknowledged shows it.
                let lasts = talk.shows.contains(&(what.kind, what.mark));
                let told =
                    |card: i64| events.iter().any(|event| event.contact == Some(card) && event.tells(id, what, start));
                for contact in &what.contacts {
                    let told_nobody =
                        events.iter().any(|event| event.contact.is_none() && event.tells(id, what, start));
                    match self.heard(what, contact, talk, &told, told_nobody) {
                        None => {}
                        Some(true) => counts.push(format!("outcome: told of a conversation: {}", what.kind)),
                        Some(false) if lasts || what.acknowledged => wrong.push(format!(
                            "P2: Brevo was not told of {contact} that conversation {id} was {} ({}) at {}",
                            what.kind, what.mark, what.at
                        )),
                        Some(false) => {
                            counts.push(format!("outcome: over before anybody looked: {}", what.kind));
                        }
                    }
                }
            }
        }
        self.wrong.append(&mut wrong);
        self.counts.append(&mut counts);
    }

    /// Whether Brevo was told what happened to somebody in a conversation. `None`: it need not have been, or of whom is not
    /// clear. `told_nobody`: it was told of a contact that was not there any more.
    fn heard(
        &self,
        what: &Happening,
        contact: &str,
        talk: &Talk,
        told: &dyn Fn(i64) -> bool,
        told_nobody: bool,
    ) -> Option<bool> {
        let people = &self.model.people;
        let then = people.get(contact)?;
        let (id, person) = if then.live {
            (contact, then)
        } else {
            // Merged: the conversation is the survivor's since. Whoever is deleted or archived, and keeps it, is nobody's.
            let mut heirs = talk.contacts.iter().filter(|heir| !what.contacts.contains(*heir));
            let heir = heirs.next().filter(|_| !talk.contacts.contains(contact))?;
            (heir.as_str(), people.get(heir).filter(|heir| heir.live)?)
        };
        if person.was_away || (then.live && then.was_away) {
            return None;
        }
        let address = person.email.as_ref()?;
        let card = self.card(address).filter(|card| self.is_simple(address, card))?;
        // Nothing is told of whom the filter leaves out.
        let sifted = self.model.filter != Filter::Everybody;
        if sifted || card.ours_since.is_none() || self.noticed("identity_conflict", id) {
            return None;
        }
        let was_theirs = |person: &Person, card: &Card| card.addresses.intersection(&person.addresses).next().is_some();
        let by_phone = |person: &Person, card: &Card| self.model.by_phone && !person.phones.is_disjoint(&card.phones);
        let mut earlier = self.model.cards.values().filter(|other| {
            // Before the program knew of the merge, it told of the one who is merged, who may have had no address.
            (!then.live && (was_theirs(then, other) || by_phone(then, other)))
                // Before it was shown that they have an address, it told whom they were known as by their phone.
                || person.told_here.is_none_or(|at| at > what.at - GAP)
                // And before it was shown that another contact has the address by now, it told the one that had it.
                || (was_theirs(person, other) && card.told_here.is_none_or(|at| at > what.at - GAP))
        });
        // Of the contact that they had then, which was deleted unseen; another came up since.
        let deleted_unseen = |other: &Card| {
            let theirs = was_theirs(person, other) || (!then.live && was_theirs(then, other));
            other.gone && theirs && other.told_gone.is_none_or(|at| at > what.at - GAP)
        };
        let told_of_deleted = told_nobody && self.model.cards.values().any(deleted_unseen);
        Some(told(card.now.id) || told_of_deleted || earlier.any(|other| told(other.now.id)))
    }
}
