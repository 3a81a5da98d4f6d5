//! What the checker knows: what people did, what the vendors really show, and what the engine was told. It shares nothing
//! with the engine. What must hold at any moment is judged here; what must hold in the end, in `ending` and `happenings`.

use super::between::Between;
use super::departing::OnDelete;
use super::firms::Ledger;
use super::harm::Harm;
use super::people::{Meaning, PHONES, normal};
use super::sifting::Filter;
use super::world::{Limits, Source};
use bytes::Bytes;
use linkspan::sandbox::brevo::{BrevoSandbox, Contact};
use linkspan::sandbox::intercom::{Glance, IntercomSandbox};
use linkspan::store::listings::{Conflict, Failure};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// What the program lists for people.
pub struct Listed {
    pub failures: Vec<Failure>,
    pub notices: Vec<(String, String, Option<String>)>,
    pub conflicts: Vec<Conflict>,
}

/// Who changed something.
pub enum Cause {
    /// A person.
    Hand(Meaning),
    /// One request of the engine's, which left it at this time. `done`: it was carried out, whatever its answer says.
    Ours { left_at: i64, what: String, body: Bytes, status: u16, done: bool },
    /// Nobody just now: an import landed.
    Landing,
}

/// How long before a write the engine may last have looked. Neither vendor can write "only if unchanged".
pub const GAP: i64 = 60_000;

/// Who has been in Intercom for so long is found by a search: its index lags behind, and we look a moment before we make.
pub const FOUND: i64 = 420_000;

/// An Intercom contact.
#[derive(Debug, Clone, Default)]
pub struct Person {
    /// What was looked at last, so that only what changes is looked at again.
    glance: Option<Glance>,
    pub live: bool,
    pub email: Option<String>,
    /// All addresses that it ever had.
    pub addresses: BTreeSet<String>,
    /// All phones (digits) that it had while it had no address.
    pub phones: BTreeSet<String>,
    pub lead: bool,
    pub was_away: bool,
    /// The filter let it take part once.
    pub took_part: bool,
    /// Since when the filter lets it take part, and whether the engine was shown that.
    pub takes_part: Option<i64>,
    pub told_part: bool,
    /// It was merged into another.
    pub merged: bool,
    /// When it came to be there last.
    pub back_at: i64,
    pub values: BTreeMap<Source, Value>,
    pub tags: BTreeSet<String>,
    pub out: bool,
    /// When it opted out last.
    pub out_at: i64,
    /// When the engine was first told so since.
    pub told_out: Option<i64>,
    /// A notification that says so was answered with 2xx.
    pub acknowledged_out: bool,
    /// A notification that told of an opt-out of theirs was once answered with 2xx.
    pub out_by_notice: bool,
    /// Who has ever had an address at the same time.
    pub shared_with: BTreeSet<String>,
    /// Who was merged into it: it inherits the contact that they had in Brevo.
    pub heir_of: BTreeSet<String>,
    /// That was our write.
    pub out_by_us: bool,
    /// The last opt-out was our write, also if it has been taken back.
    pub last_out_by_us: bool,
    /// We made it.
    pub made_by_us: bool,
    /// The addresses that we gave it.
    given: BTreeSet<String>,
    /// When the person last took an opt-out back here.
    pub in_at: Option<i64>,
    /// When the person last took back here an opt-out that the engine had been shown, ours or their own.
    pub took_back_at: Option<i64>,
    /// When it came to its present address.
    pub here_since: i64,
    /// When the engine was first told of that.
    pub told_here: Option<i64>,
    /// The same by a notification.
    pub heard_here: Option<i64>,
    /// It opted out of text messages.
    pub sms_out: bool,
    /// It was a lead once.
    pub was_lead: bool,
    /// The names of its companies.
    pub companies: BTreeSet<String>,
    /// When a mapped field or the address changed last.
    pub changed_at: i64,
    /// The latest change that a notification told of which was answered with 2xx.
    pub told_until: i64,
}

/// An import that Brevo took.
#[derive(Debug)]
struct Import {
    left_at: i64,
    /// When its rows land.
    lands_at: i64,
    /// They had when Brevo was looked at last.
    landed: bool,
    /// The addresses in it.
    rows: BTreeSet<String>,
}

/// What somebody wrote into a Brevo contact, as long as it stands there.
#[derive(Debug, Clone)]
pub struct Edited {
    pub value: Value,
    /// What stood there before, if that was a value and ours.
    was: Option<Value>,
    /// When the engine was first shown it.
    told: Option<i64>,
}

/// Somebody left a list, or was taken off it.
#[derive(Debug, Clone)]
pub struct Left {
    at: i64,
    /// By their own hand.
    themselves: bool,
    /// We had put them on it long before.
    was_ours: bool,
    told: Option<i64>,
}

/// A Brevo contact.
#[derive(Debug, Clone)]
pub struct Card {
    pub now: Contact,
    pub gone: bool,
    /// When the engine was first shown that.
    pub told_gone: Option<i64>,
    pub by_hand: bool,
    pub addresses: BTreeSet<String>,
    pub renamed_by_hand: bool,
    /// Addresses that a hand took away from it, and when.
    taken_away: BTreeMap<String, i64>,
    /// What made it left us when nobody could know that a hand had taken its address away from the contact that had it.
    pub made_unknowing: bool,
    /// What people wrote.
    pub hand: BTreeMap<String, Vec<Value>>,
    /// All phones (digits) that it ever had.
    pub phones: BTreeSet<String>,
    pub listed_by_hand: BTreeSet<i64>,
    pub unlisted_by_hand: BTreeSet<i64>,
    /// When a person last said yes (`false`) or no (`true`) here.
    pub said: Option<(i64, bool)>,
    /// When a person last said yes here, whatever they have said since.
    pub yes_at: Option<i64>,
    pub out_at: i64,
    pub told_out: Option<i64>,
    /// A notification that says so was answered with 2xx.
    pub acknowledged_out: bool,
    /// It has opted out at some time.
    pub ever_out: bool,
    /// Since when a person's no stands here, as far as the engine could tell it from an earlier one.
    pub no_since: Option<i64>,
    /// When a no of ours left that fell on that one, before anybody could be expected to have looked.
    pub covered: Option<i64>,
    /// The engine was shown the yes after the last no.
    pub yes_shown: bool,
    /// When we first wrote it: from then on it is linked for sure.
    pub ours_since: Option<i64>,
    /// When the engine was first shown it under the address that it has.
    pub told_here: Option<i64>,
    /// The flag went without the person's saying so.
    pub loosened: Option<i64>,
    /// The address that it had when a changed one lifted its opt-out.
    lifted_at: Option<String>,
    pub edited: BTreeMap<String, Edited>,
    /// Attributes whose value we wrote last, and what we wrote.
    pub ours: BTreeMap<String, Value>,
    /// Values of people's that we replaced though we had been shown them: attribute and value.
    pub replaced: Vec<(String, Value)>,
    left: BTreeMap<i64, Left>,
    /// When we put them on a list.
    joined: BTreeMap<i64, i64>,
    /// Lists that we put them on again after a colleague had taken them off.
    pub put_back: BTreeSet<i64>,
}

/// Something that happened in a conversation, once: Brevo is to be told of it under a name made of `kind` and `mark`.
#[derive(Debug, Clone)]
pub struct Happening {
    pub kind: &'static str,
    /// When it began or was closed last, until when it is put off (all in seconds), or its rating.
    pub mark: i64,
    pub at: i64,
    /// Whose conversation it was then.
    pub contacts: BTreeSet<String>,
    /// A notification that shows it was answered with 2xx.
    pub acknowledged: bool,
}

/// An instant as the API shows it, or as some notifications do.
fn seconds(at: &Value) -> Option<i64> {
    let text = || Some(chrono::DateTime::parse_from_rfc3339(at.as_str()?).ok()?.timestamp());
    at.as_i64().or_else(text)
}

/// Whose a conversation is.
pub fn contacts_of(shown: &Value) -> BTreeSet<String> {
    let contacts = shown["contacts"]["contacts"].as_array().into_iter().flatten();
    contacts.filter_map(|contact| contact["id"].as_str().map(str::to_owned)).collect()
}

/// What a conversation shows of what has happened in it: kinds and marks.
pub fn happened(shown: &Value) -> Vec<(&'static str, i64)> {
    let until = seconds(&shown["snoozed_until"]).filter(|_| shown["state"] == "snoozed");
    let all = [
        ("created", seconds(&shown["created_at"])),
        ("closed", seconds(&shown["statistics"]["last_close_at"])),
        ("snoozed", until),
        ("rated", shown["conversation_rating"]["rating"].as_i64()),
    ];
    all.into_iter().filter_map(|(kind, mark)| Some((kind, mark?))).collect()
}

#[derive(Default)]
pub struct Model {
    pub people: BTreeMap<String, Person>,
    /// What happened in conversations, by their ids.
    pub talks: BTreeMap<String, Vec<Happening>>,
    pub cards: BTreeMap<i64, Card>,
    /// Who has ever had an address.
    pub holders: BTreeMap<String, BTreeSet<String>>,
    pub reloaded: bool,
    /// Who has no address is known by their phone.
    pub by_phone: bool,
    /// The imports that Brevo took.
    imports: Vec<Import>,
    /// How long it takes to land one.
    import_delay: i64,
    /// When requests were over the vendors' limits.
    pub over_limit: Vec<i64>,
    acknowledged: u64,
    /// When contacts were first searched: from then on the program is at work.
    pub first_search_at: Option<i64>,
    /// What became of a write to Brevo was unclear to the program at some time.
    pub unclear: bool,
    /// When an answer did not come, or the program died and what it had not kept of one was lost.
    pub unsettled: Vec<i64>,
    /// Times that Brevo could not say which events it had.
    pub failed_event_looks: u64,
    /// Who takes part.
    pub filter: Filter,
    /// Whom the filter leaves out leaves the lists.
    pub unlists: bool,
    /// Newer opt-ins are carried across.
    pub resubscribes: bool,
    /// What becomes of somebody on each side who is gone on the other.
    pub on_delete: OnDelete,
    /// What may travel to Intercom.
    pub between: Between,
    /// What is limited.
    pub harm: Harm,
    /// Companies that have objects in Brevo.
    pub firms: Ledger,
}

pub type Found = Vec<(bool, String)>;

/// Between our putting somebody on a list and the program's being sure of it.
const SURE: i64 = 600_000;

/// The phone of a Brevo contact, in digits.
fn phone_of(contact: &Contact) -> Option<String> {
    let phone = contact.attributes.get("SMS").filter(|phone| !phone.is_null())?.to_string();
    Some(phone.chars().filter(char::is_ascii_digit).collect()).filter(|digits: &String| !digits.is_empty())
}

impl Import {
    /// It has landed since Brevo was looked at last.
    fn lands_now(&self, now: i64) -> bool {
        !self.landed && self.lands_at <= now
    }
}

impl Card {
    /// Notes what a hand changed.
    fn edits(&mut self, before: &Contact, now: i64) {
        let names: BTreeSet<String> = before.attributes.keys().chain(self.now.attributes.keys()).cloned().collect();
        for name in names {
            let (old, new) = (before.attributes.get(&name), self.now.attributes.get(&name));
            if old == new {
                continue;
            }
            let old = old.filter(|old| !old.is_null() && *old != "").cloned();
            let earlier = self.edited.remove(&name).map(|edited| edited.was);
            let ours = self.ours.remove(&name).and(old);
            let was = earlier.unwrap_or(ours);
            let Some(value) = new.filter(|new| !new.is_null() && **new != "") else { continue };
            if was.as_ref() == Some(value) {
                // They went back to what we had written: that is what both sides agree on.
                self.ours.insert(name, value.clone());
            } else {
                self.edited.insert(name, Edited { value: value.clone(), was, told: None });
            }
        }
        for list in before.list_ids.difference(&self.now.list_ids) {
            let themselves = self.now.list_unsubscribed.contains(list);
            let was_ours = self.joined.remove(list).is_some_and(|joined| joined < now - SURE);
            self.left.insert(*list, Left { at: now, themselves, was_ours, told: None });
        }
        for list in self.now.list_ids.difference(&before.list_ids) {
            self.left.remove(list);
        }
    }

    /// When somebody left a list that we had put them on long before, or was taken off it.
    pub fn left_at(&self, list: i64) -> Option<i64> {
        self.left.get(&list).filter(|left| left.was_ours).map(|left| left.at)
    }

    /// Judges what a request of ours changed, which left us at that time.
    fn writes(&mut self, before: &Contact, left_at: i64, now: i64, found: &mut Found) {
        let names: BTreeSet<String> = before.attributes.keys().chain(self.now.attributes.keys()).cloned().collect();
        for name in names {
            if before.attributes.get(&name) == self.now.attributes.get(&name) {
                continue;
            }
            if let Some(edited) = self.edited.remove(&name)
                && edited.was.is_some()
                && edited.told.is_some_and(|told| told < left_at - GAP)
            {
                self.replaced.push((name.clone(), edited.value));
            }
            let value = self.now.attributes.get(&name).cloned().unwrap_or_default();
            self.ours.insert(name, value);
        }
        for list in self.now.list_ids.difference(&before.list_ids) {
            self.joined.insert(*list, now);
            let Some(left) = self.left.remove(list) else { continue };
            if left.told.is_none_or(|told| told >= left_at - GAP) {
                found.push((false, "put on a list that they had left unseen".to_owned()));
            } else if left.themselves {
                let (id, at) = (self.now.id, left.at);
                found.push((true, format!("P4: Brevo {id} left list {list} at {at} and was put on it again")));
            } else if left.was_ours {
                self.put_back.insert(*list);
            }
        }
        if before.sms_blacklisted && !self.now.sms_blacklisted {
            found.push((true, format!("P4: Brevo {} may get text messages again", self.now.id)));
        }
    }
}

impl Model {
    /// `by_phone`: who has no address is known by their phone. `import_delay`: for so many seconds Brevo queues an import.
    pub fn knowing(by_phone: bool, limits: Option<Limits>, import_delay: u64) -> Self {
        let import_delay = i64::try_from(import_delay).unwrap_or_default() * 1_000;
        Self { by_phone, harm: Harm::within(limits), import_delay, ..Self::default() }
    }

    pub fn intercom_ids(&self) -> Vec<String> {
        self.people.keys().cloned().collect()
    }

    /// A notification that was made at this time was answered with 2xx.
    pub fn acknowledged(&mut self, topic: &str, body: &[u8], made_at: i64, now: i64) {
        self.acknowledged += 1;
        self.firms.acknowledged(topic, body, now);
        if topic.starts_with("conversation.")
            && let Ok(body) = serde_json::from_slice::<Value>(body)
        {
            let item = &body["data"]["item"];
            let shown = if item["conversation"].is_object() { &item["conversation"] } else { item };
            let shows = happened(shown);
            for known in shown["id"].as_str().and_then(|id| self.talks.get_mut(id)).into_iter().flatten() {
                known.acknowledged |= shows.contains(&(known.kind, known.mark));
            }
        }
        if topic.starts_with("contact.")
            && let Ok(body) = serde_json::from_slice::<Value>(body)
        {
            let item = &body["data"]["item"];
            let id = item["contact"]["id"].as_str().or(item["id"].as_str());
            let shown = if item["contact"].is_object() { &item["contact"] } else { item };
            if let Some(person) = id.and_then(|id| self.people.get_mut(id)) {
                person.told_until = person.told_until.max(made_at);
                if person.here_since <= made_at && shown["email"].as_str().map(normal) == person.email {
                    person.heard_here.get_or_insert(now);
                }
                // One that is from before that says nothing about it.
                person.told_part |=
                    person.takes_part.is_some_and(|since| since <= made_at) && self.filter.takes_shown(shown);
            }
            self.between.told_intercom(shown, made_at, now);
            self.agreed_by_showing(shown);
        }
        if topic == "contact.unsubscribed"
            && let Ok(body) = serde_json::from_slice::<Value>(body)
            && let Some(id) = body["data"]["item"]["contact"]["id"].as_str()
            && let Some(person) = self.people.get_mut(id)
        {
            // Also of one that they have taken back before it was told.
            person.out_by_notice |= !person.last_out_by_us;
            if person.out && !person.out_by_us {
                person.told_out.get_or_insert(now);
                person.acknowledged_out = true;
            }
        }
    }

    /// A notification of Brevo's that was made at this time was answered with 2xx.
    pub fn acknowledged_from_brevo(&mut self, body: &[u8], made_at: i64, now: i64) {
        let Ok(body) = serde_json::from_slice::<Value>(body) else { return };
        let events = body.as_array().cloned().unwrap_or_else(|| vec![body]);
        for event in events {
            let Some(email) = event["email"].as_str().map(normal) else { continue };
            let kind = event["event"].as_str().unwrap_or_default();
            let opts_out = ["unsubscribed", "spam", "hard_bounce"].contains(&kind);
            if opts_out {
                self.harm.noticed.insert(email.clone());
            }
            for card in self.cards.values_mut() {
                let theirs = card.now.email.as_deref().map(normal).as_ref() == Some(&email);
                if kind == "contact_deleted" && card.gone && theirs {
                    card.told_gone.get_or_insert(now);
                }
                // One that is from before a yes says nothing about what stands.
                if opts_out && theirs && card.now.email_blacklisted && card.out_at <= made_at {
                    card.told_out.get_or_insert(now);
                    card.acknowledged_out = true;
                }
            }
        }
    }

    /// Brevo has told the engine that it knows nothing of this contact.
    pub fn told_gone(&mut self, path: &str, now: i64) {
        let id = path.rsplit_once("/contacts/").and_then(|(_, id)| id.parse().ok());
        if let Some(card) = id.and_then(|id: i64| self.cards.get_mut(&id)).filter(|card| card.gone) {
            card.told_gone.get_or_insert(now);
        }
    }

    /// What an answer has told the engine.
    pub fn told(&mut self, is_brevo: bool, path: &str, body: &[u8], now: i64) {
        self.firms.told(is_brevo, path, body, now);
        if !path.contains("/contacts") {
            return;
        }
        if path.ends_with("/contacts/search") {
            self.first_search_at.get_or_insert(now);
        }
        let Ok(body) = serde_json::from_slice::<Value>(body) else { return };
        if path.ends_with("/contacts/search") && body["pages"]["next"].is_null() {
            self.read_whole();
        }
        let many = body["contacts"].as_array().or_else(|| body["data"].as_array()).cloned();
        if many.is_some() && ["/contacts", "/contacts/search", "/v3/contacts"].contains(&path) {
            self.between.listed(is_brevo, now);
        }
        for shown in many.unwrap_or_else(|| vec![body]) {
            if is_brevo {
                let Some(card) = shown["id"].as_i64().and_then(|id| self.cards.get_mut(&id)) else { continue };
                self.between.told_brevo(card.now.id, &shown, now);
                if shown["email"].as_str().map(normal) == card.now.email.as_deref().map(normal) {
                    card.told_here.get_or_insert(now);
                }
                // What the server lifted at our doing is no opt-in: it is put back, and the no that stands then is the old one.
                card.yes_shown |=
                    shown["emailBlacklisted"] == false && !card.now.email_blacklisted && card.loosened.is_none();
                if shown["emailBlacklisted"] == true && card.now.email_blacklisted {
                    card.told_out.get_or_insert(now);
                }
                for (name, edited) in &mut card.edited {
                    if shown["attributes"][name] == edited.value {
                        edited.told.get_or_insert(now);
                    }
                }
                if let Some(lists) = shown["listIds"].as_array() {
                    for (list, left) in &mut card.left {
                        if !lists.contains(&Value::from(*list)) {
                            left.told.get_or_insert(now);
                        }
                    }
                }
            } else {
                let Some(person) = shown["id"].as_str().and_then(|id| self.people.get_mut(id)) else { continue };
                self.between.told_intercom(&shown, now, now);
                person.told_part |= person.takes_part.is_some() && self.filter.takes_shown(&shown);
                if shown["email"].as_str().map(normal) == person.email {
                    person.told_here.get_or_insert(now);
                }
                let out = ["unsubscribed_from_emails", "has_hard_bounced", "marked_email_as_spam"];
                if person.out && out.iter().any(|flag| shown[flag] == true) {
                    person.told_out.get_or_insert(now);
                }
                self.agreed_by_showing(&shown);
            }
        }
    }

    /// Looks at both vendors and notes what changed, and through whom. `true`: a violation; else something to count.
    pub fn look(&mut self, cause: &Cause, intercom: &IntercomSandbox, brevo: &BrevoSandbox, now: i64) -> Found {
        let mut found = self.firms.look(cause, intercom, brevo, now);
        match cause {
            Cause::Hand(_) => found.append(&mut self.look_at_intercom(intercom, None, now)),
            Cause::Ours { what, left_at, .. } if what.contains(" /contacts/") || what.contains(" /tags") => {
                found.append(&mut self.look_at_intercom(intercom, Some(*left_at), now));
            }
            Cause::Ours { what, left_at, .. } if what.ends_with(" /contacts") => {
                let known: BTreeSet<String> = self.people.keys().cloned().collect();
                found.append(&mut self.look_at_intercom(intercom, Some(*left_at), now));
                self.made(&known, *left_at, now, &mut found);
            }
            Cause::Ours { .. } | Cause::Landing => {}
        }
        if let Cause::Ours { left_at, what, body, done: true, .. } = cause {
            self.covers_a_no(what, body, *left_at);
        }
        let shown = brevo.contacts();
        let mut seen = BTreeSet::new();
        for contact in shown {
            seen.insert(contact.id);
            let lifts = match (self.cards.get(&contact.id), cause) {
                (Some(card), Cause::Ours { left_at, .. }) => {
                    let lifts = card.now.email_blacklisted && !contact.email_blacklisted;
                    lifts && card.now.email == contact.email && self.may_lift_in_brevo(card, *left_at)
                }
                _ => false,
            };
            match self.cards.get_mut(&contact.id) {
                Some(card) if card.now == contact => {}
                Some(card) if lifts => {
                    found.push((false, "outcome: we re-subscribed in Brevo".to_owned()));
                    (card.told_out, card.loosened, card.yes_shown) = (None, None, true);
                    card.now.clone_from(&contact);
                }
                Some(card) => {
                    let before = card.clone();
                    found.extend(self.harm_of_change(&before, &contact, cause).into_iter().map(|wrong| (true, wrong)));
                    let Some(card) = self.cards.get_mut(&contact.id) else { continue };
                    let import_left = Self::import_left(&self.imports, contact.email.as_deref(), now);
                    Self::changed(card, &contact, cause, import_left, now, &mut found);
                }
                None => self.appeared(contact, cause, now, &mut found),
            }
        }
        self.note_fill(now);
        let gone: Vec<i64> = self
            .cards
            .values()
            .filter(|card| !card.gone && !seen.contains(&card.now.id))
            .map(|card| card.now.id)
            .collect();
        for id in gone {
            if !matches!(cause, Cause::Hand(_)) {
                let left_at = if let Cause::Ours { left_at, .. } = cause { *left_at } else { now };
                let card = self.cards.get(&id).cloned();
                found.extend(card.map(|card| self.deleted_by_us(&card, left_at)));
            }
            if let Some(card) = self.cards.get_mut(&id) {
                card.gone = true;
            }
        }
        if let Cause::Ours { what, body, status: 200..=299, .. } = cause {
            self.agreed_by_writing(what, body);
        }
        let (by_hand, left_at) = match cause {
            Cause::Hand(_) => (true, now),
            Cause::Ours { left_at, .. } => (false, *left_at),
            Cause::Landing => {
                let landing = self.imports.iter().filter(|import| import.lands_now(now));
                (false, landing.map(|import| import.left_at).min().unwrap_or(now))
            }
        };
        self.between.look(&self.people, &self.cards, by_hand, left_at, now);
        for import in &mut self.imports {
            import.landed |= import.lands_at <= now;
        }
        if let Cause::Ours { left_at, what, body, done: true, .. } = cause
            && what.ends_with("/contacts/import")
        {
            let body: Value = serde_json::from_slice(body).unwrap_or_default();
            let rows = body["jsonBody"].as_array().cloned().unwrap_or_default();
            let rows = rows.iter().filter_map(|row| row["email"].as_str().map(normal)).collect();
            let (left_at, lands_at) = (*left_at, now + self.import_delay);
            self.imports.push(Import { left_at, lands_at, landed: false, rows });
        }
        found
    }

    /// `left_at`: when the request of ours left that has changed it, if it was one.
    pub fn look_at_intercom(&mut self, intercom: &IntercomSandbox, left_at: Option<i64>, now: i64) -> Found {
        let (mut found, ours) = (Found::new(), left_at.is_some());
        let (mut shared, mut sent_away, mut merged) = (Vec::new(), Vec::new(), Vec::new());
        for id in intercom.conversation_ids() {
            let Some(shown) = intercom.conversation(&id) else { continue };
            let known = self.talks.entry(id).or_default();
            for (kind, mark) in happened(&shown) {
                if !known.iter().any(|earlier| (earlier.kind, earlier.mark) == (kind, mark)) {
                    let contacts = contacts_of(&shown);
                    known.push(Happening { kind, mark, at: now, contacts, acknowledged: false });
                }
            }
        }
        let live: BTreeSet<String> = intercom.contact_ids().into_iter().collect();
        let known: BTreeSet<String> = live.iter().cloned().chain(self.people.keys().cloned()).collect();
        let mut lifted = Vec::new();
        let filter = self.filter;
        for id in known {
            let Some(shown) = intercom.glance(&id) else { continue };
            let person = self.people.entry(id.clone()).or_default();
            if person.glance.as_ref() == Some(&shown) {
                continue;
            }
            let was_there = std::mem::replace(&mut person.live, shown.live);
            if person.live && !was_there {
                person.back_at = now;
            }
            if was_there && !person.live && ours {
                sent_away.push(id.clone());
            }
            person.was_away |= !person.live;
            if let Some(survivor) = &shown.merged_into {
                person.merged = true;
                merged.push((survivor.clone(), id.clone()));
            }
            let before = (person.email.clone(), person.lead, person.values.clone());
            let email = shown.email.as_deref().map(normal).filter(|email| !email.is_empty());
            if person.email != email {
                person.here_since = now;
                (person.told_here, person.heard_here) = (None, None);
            }
            if let Some(email) = &email {
                person.addresses.insert(email.clone());
                self.holders.entry(email.clone()).or_default().insert(id.clone());
                if person.email.as_ref() != Some(email) {
                    if ours {
                        person.given.insert(email.clone());
                    } else {
                        person.given.remove(email);
                    }
                }
            }
            person.email = email;
            person.lead = shown.lead;
            person.was_lead |= person.lead;
            person.sms_out = shown.sms_opted_out;
            person.companies = shown.companies.iter().cloned().collect();
            let text = |text: &Option<String>| text.clone().map_or(Value::Null, Value::from);
            let custom = |name: &str| shown.custom_attributes.get(name).cloned().unwrap_or_default();
            for (source, value) in [
                (Source::Name, text(&shown.name)),
                (Source::Phone, text(&shown.phone)),
                (Source::ExternalId, text(&shown.external_id)),
                (Source::Tier, custom("plan_tier")),
                (Source::Seats, custom("seats")),
                (Source::Admin, custom("is_admin")),
            ] {
                person.values.insert(source, value);
            }
            if person.email.is_none() {
                let typed = shown.phone.as_deref().unwrap_or_default().trim();
                let known = PHONES.iter().find(|(phone, _)| *phone == typed).and_then(|(_, digits)| *digits);
                person.phones.extend(known.map(str::to_owned));
            }
            if before != (person.email.clone(), person.lead, person.values.clone()) && !ours {
                person.changed_at = now;
            }
            person.tags = shown.tags.iter().cloned().collect();
            let out = shown.opted_out;
            if out && !person.out {
                person.out_at = now;
                person.told_out = None;
                person.acknowledged_out = false;
                (person.out_by_us, person.last_out_by_us) = (ours, ours);
            }
            if !out && person.out {
                person.took_back_at = person.told_out.map_or(person.took_back_at, |_| Some(now));
                person.out_by_us = false;
                if ours {
                    lifted.push(id.clone());
                } else {
                    person.in_at = Some(now);
                }
            }
            person.out = out;
            person.takes_part = filter.takes(person).then(|| person.takes_part.unwrap_or(now));
            person.took_part |= person.takes_part.is_some();
            person.told_part &= person.takes_part.is_some();
            person.glance = Some(shown);
        }
        for id in lifted {
            let may = self.people.get(&id).is_some_and(|person| self.may_lift_in_intercom(person, left_at));
            found.push((
                !may,
                format!(
                    "{}we re-subscribed {}",
                    if may { "outcome: " } else { "P4: " },
                    if may { "in Intercom" } else { &id }
                ),
            ));
        }
        for holders in self.holders.values() {
            let here = |id: &&String| self.people.get(*id).is_some_and(|person| person.live);
            let emails = |id: &String| self.people.get(id).and_then(|person| person.email.clone());
            let present: Vec<&String> = holders.iter().filter(here).collect();
            for (one, other) in present.iter().flat_map(|one| present.iter().map(move |other| (*one, *other))) {
                if one != other && emails(one) == emails(other) {
                    shared.push((one.clone(), other.clone()));
                }
            }
        }
        for (one, other) in shared {
            self.people.entry(one).or_default().shared_with.insert(other);
        }
        for (survivor, id) in merged {
            self.people.entry(survivor).or_default().heir_of.insert(id);
        }
        found.extend(sent_away.iter().map(|id| self.sent_away_by_us(id, now)));
        found
    }

    /// Judges whom a request of ours made in Intercom.
    fn made(&mut self, known: &BTreeSet<String>, left_at: i64, now: i64, found: &mut Found) {
        let new: Vec<String> = self.people.keys().filter(|id| !known.contains(*id)).cloned().collect();
        for id in new {
            let Some(person) = self.people.get_mut(&id) else { continue };
            person.made_by_us = true;
            let (email, out) = (person.email.clone(), person.out);
            found.push((false, "outcome: made in Intercom".to_owned()));
            let others =
                self.people.iter().filter(|(other, person)| **other != id && person.live && person.email == email);
            for (other, person) in others {
                // A hand may have given another of our making the address just before, as it may anybody.
                if person.made_by_us && email.as_ref().is_none_or(|email| person.given.contains(email)) {
                    found.push((true, format!("P6: {id} is the second that we made of {email:?}, after {other}")));
                } else if person.here_since.max(person.back_at) < now - FOUND {
                    found.push((true, format!("P6: {id} was made although {other} has had {email:?} for long")));
                } else {
                    found.push((false, "made while somebody else made one".to_owned()));
                }
            }
            let told = |when: Option<i64>| when.is_some_and(|when| when < left_at - GAP);
            let card = self.cards.values().find(|card| {
                !card.gone && card.now.email_blacklisted && card.now.email.as_deref().map(normal) == email
            });
            if let Some(card) = card.filter(|card| !out && told(card.told_out) && told(card.told_here)) {
                let words =
                    format!("P4: {id} was made in Intercom subscribed, and Brevo {} is known to be out", card.now.id);
                found.push((true, words));
            }
        }
    }

    fn changed(card: &mut Card, contact: &Contact, cause: &Cause, import_left: i64, now: i64, found: &mut Found) {
        let before = std::mem::replace(&mut card.now, contact.clone());
        let unseen_here = card.told_here.is_none();
        card.addresses.extend(contact.email.as_deref().map(normal));
        card.phones.extend(phone_of(contact));
        if before.email != contact.email {
            card.told_here = None;
        }
        if !matches!(cause, Cause::Hand(_)) {
            card.ours_since.get_or_insert(now);
        }
        if let Cause::Hand(_) = cause {
            let names: BTreeSet<&String> = before.attributes.keys().chain(contact.attributes.keys()).collect();
            for name in names {
                if before.attributes.get(name) != contact.attributes.get(name) {
                    let value = contact.attributes.get(name).cloned().unwrap_or_default();
                    card.hand.entry(name.clone()).or_default().push(value);
                }
            }
            card.edits(&before, now);
            card.listed_by_hand.extend(contact.list_ids.difference(&before.list_ids));
            card.unlisted_by_hand.extend(before.list_ids.difference(&contact.list_ids));
            card.unlisted_by_hand.extend(&contact.list_unsubscribed);
            if before.email != contact.email {
                if before.email_blacklisted && !contact.email_blacklisted {
                    card.lifted_at.clone_from(&before.email);
                } else if card.lifted_at.take().is_some_and(|at| contact.email.as_ref() == Some(&at)) && unseen_here {
                    // There and back, and no look in between: nobody can tell what Brevo lifted from a person's yes.
                    card.told_out = None;
                    found.push((false, "loosened by an address that changed there and back unseen".to_owned()));
                }
                card.renamed_by_hand = true;
                card.taken_away.extend(before.email.as_deref().map(|email| (normal(email), now)));
            }
        }
        if !matches!(cause, Cause::Hand(_)) {
            let left_at = if let Cause::Ours { left_at, .. } = cause { *left_at } else { import_left };
            card.writes(&before, left_at, now, found);
        }
        if contact.email_blacklisted && !before.email_blacklisted {
            card.out_at = now;
            card.loosened = None;
            card.told_out = (!matches!(cause, Cause::Hand(_))).then_some(now);
            card.acknowledged_out = false;
            card.ever_out = true;
        }
        if contact.email_blacklisted && !before.email_blacklisted {
            // Where it was we who said no, an opt-in must show after that, or the person's own no is the one we know of.
            if card.yes_shown && matches!(cause, Cause::Hand(Meaning::Consent)) {
                (card.no_since, card.covered) = (Some(now), None);
            }
            card.yes_shown = false;
        }
        if let Cause::Hand(Meaning::Consent) = cause {
            card.said = Some((now, contact.email_blacklisted));
            card.yes_at = if contact.email_blacklisted { card.yes_at } else { Some(now) };
        }
        if before.email_blacklisted && !contact.email_blacklisted {
            let who = contact.email.clone().unwrap_or_default();
            let judge = |left_at: i64, what: &str, found: &mut Found| {
                let told = card.told_out.is_some_and(|told| told <= left_at);
                if told || card.out_at < left_at - GAP {
                    found.push((
                        true,
                        format!("P4: {what} (left at {left_at}) re-subscribed Brevo {} {who}", contact.id),
                    ));
                } else {
                    found.push((false, "loosened by the server in the gap".to_owned()));
                }
            };
            match cause {
                Cause::Hand(Meaning::Consent) => card.told_out = None,
                Cause::Hand(_) => card.loosened = Some(now),
                Cause::Ours { left_at, what, .. } => {
                    judge(*left_at, what, found);
                    card.loosened = Some(now);
                }
                Cause::Landing => {
                    judge(import_left, "an import", found);
                    card.loosened = Some(now);
                }
            }
        }
    }

    /// When the import that lands now left us. Its landing is seen when Brevo is looked at next; should several have landed
    /// since the last look, it was the first of them.
    fn import_left(imports: &[Import], email: Option<&str>, now: i64) -> i64 {
        let email = email.map(normal).unwrap_or_default();
        let of = imports.iter().filter(|import| import.lands_now(now) && import.rows.contains(&email));
        of.map(|import| import.left_at).min().unwrap_or(now)
    }

    fn appeared(&mut self, contact: Contact, cause: &Cause, now: i64, found: &mut Found) {
        let by_hand = matches!(cause, Cause::Hand(_));
        let email = contact.email.as_deref().map(normal);
        let left_at = match cause {
            Cause::Ours { left_at, .. } => *left_at,
            _ => Self::import_left(&self.imports, email.as_deref(), now),
        };
        let taken_away = |card: &Card| email.as_ref().and_then(|email| card.taken_away.get(email)).copied();
        let made_unknowing = self.cards.values().filter_map(taken_away).any(|at| at > left_at - GAP);
        if !by_hand && !made_unknowing {
            found.extend(self.harm_of_creation(&contact, left_at).map(|wrong| (true, wrong)));
        }
        if !by_hand && !contact.email_blacklisted {
            for (id, person) in &self.people {
                let told = |when: Option<i64>| when.is_some_and(|when| when < left_at - GAP);
                let known = told(person.told_out) && told(person.told_here);
                if person.live && person.out && person.email == email && known {
                    found.push((
                        true,
                        format!("P4: Brevo {} made subscribed although {id} is known to be out", contact.id),
                    ));
                }
            }
        }
        let hand = if by_hand {
            contact.attributes.iter().map(|(name, value)| (name.clone(), vec![value.clone()])).collect()
        } else {
            BTreeMap::new()
        };
        let card = Card {
            gone: false,
            told_gone: None,
            by_hand,
            addresses: email.into_iter().collect(),
            renamed_by_hand: false,
            taken_away: BTreeMap::new(),
            made_unknowing,
            hand,
            phones: phone_of(&contact).into_iter().collect(),
            listed_by_hand: BTreeSet::new(),
            unlisted_by_hand: BTreeSet::new(),
            said: by_hand.then_some((now, contact.email_blacklisted)),
            yes_at: (by_hand && !contact.email_blacklisted).then_some(now),
            out_at: now,
            told_out: (!by_hand && contact.email_blacklisted).then_some(now),
            acknowledged_out: false,
            ever_out: contact.email_blacklisted,
            no_since: (by_hand && contact.email_blacklisted).then_some(now),
            covered: None,
            yes_shown: !contact.email_blacklisted,
            ours_since: (!by_hand).then_some(now),
            told_here: (!by_hand).then_some(now),
            loosened: None,
            lifted_at: None,
            edited: BTreeMap::new(),
            ours: if by_hand { BTreeMap::new() } else { contact.attributes.clone() },
            replaced: Vec::new(),
            left: BTreeMap::new(),
            joined: if by_hand { BTreeMap::new() } else { contact.list_ids.iter().map(|list| (*list, now)).collect() },
            put_back: BTreeSet::new(),
            now: contact,
        };
        self.cards.insert(card.now.id, card);
    }

    /// P1, before any sweep could make up for what was forgotten: every opt-out whose notification was acknowledged is in
    /// Brevo by now, if the program knows who that is.
    ///
    /// `both`: opt-outs travel to Intercom, too.
    pub fn check_acknowledged(&self, both: bool) -> Vec<String> {
        let mut wrong = Vec::new();
        for card in
            self.cards.values().filter(|card| both && !card.gone && card.acknowledged_out && card.addresses.len() == 1)
        {
            let (Some((_, true)), Some(since), true) = (card.said, card.no_since, card.now.email_blacklisted) else {
                continue;
            };
            for (id, person) in &self.people {
                let theirs = person.live && person.email.as_ref().is_some_and(|email| card.addresses.contains(email));
                let plain = person.addresses.len() == 1 && !person.was_away && person.told_here.is_some();
                let linked = card.ours_since.is_some_and(|since| since < card.out_at);
                if theirs && plain && linked && !person.out && person.in_at.is_none_or(|at| at < since) {
                    wrong.push(format!(
                        "P1: the opt-out of Brevo {} was acknowledged, and {id} may be mailed",
                        card.now.id
                    ));
                }
            }
        }
        for (id, person) in
            self.people.iter().filter(|(_, person)| person.live && person.out && person.acknowledged_out)
        {
            let (Some(address), Some(_)) = (&person.email, person.told_here) else { continue };
            let card = self.cards.values().find(|card| {
                !card.gone && !card.renamed_by_hand && card.now.email.as_deref().map(normal).as_ref() == Some(address)
            });
            let Some(card) = card else { continue };
            // Only where there is no doubt about who is who.
            let plain = person.addresses.len() == 1 && !person.was_away && card.addresses.len() == 1;
            let said_since = card.said.is_some_and(|(at, out)| !out && at >= person.out_at);
            // Nobody looks in Brevo for whom the filter leaves out: they have none there before a read shows one. Nor for
            // whoever has, or had, another contact of the address, which was deleted there or has another by now.
            let other = |other: &Card| other.now.id != card.now.id && other.addresses.contains(address);
            let has_none = !self.filter.takes(person) || self.cards.values().any(other);
            let unknown = card.told_here.is_none() && has_none;
            if plain && !card.now.email_blacklisted && !said_since && !unknown {
                wrong.push(format!("P1: the opt-out of {id} ({address}) was acknowledged and is not in Brevo"));
            }
        }
        wrong
    }
}
