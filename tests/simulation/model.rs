//! The checker: what must hold, told from what people did and what the vendors really show. It shares nothing with the
//! engine, and never looks at its state but for what that lists for people: refusals, failures, notices.

use super::people::{Meaning, NAMES, PHONES, normal};
use super::world::{Rule, Rules, Source};
use bytes::Bytes;
use linkspan::sandbox::brevo::{BrevoSandbox, Contact};
use linkspan::sandbox::intercom::IntercomSandbox;
use linkspan::store::listings::Failure;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// What the program lists for people.
pub struct Listed {
    pub failures: Vec<Failure>,
    pub notices: Vec<(String, String, Option<String>)>,
}

/// Who changed something.
pub enum Cause {
    /// A person.
    Hand(Meaning),
    /// One request of the engine's, which left it at this time.
    Ours { left_at: i64, what: String, body: Bytes, status: u16, faulty: bool },
    /// Nobody just now: an import landed.
    Landing,
}

/// How long before a write the engine may last have looked. Neither vendor can write "only if unchanged".
const GAP: i64 = 60_000;

/// An Intercom contact.
#[derive(Debug, Clone, Default)]
struct Person {
    live: bool,
    email: Option<String>,
    /// All addresses that it ever had.
    addresses: BTreeSet<String>,
    lead: bool,
    was_away: bool,
    values: BTreeMap<Source, Value>,
    tags: BTreeSet<String>,
    out: bool,
    /// When it opted out last.
    out_at: i64,
    /// When the engine was first told so since.
    told_out: Option<i64>,
    /// A notification that says so was answered with 2xx.
    acknowledged_out: bool,
    /// When it came to its present address.
    here_since: i64,
    /// When the engine was first told of that.
    told_here: Option<i64>,
}

/// A Brevo contact.
#[derive(Debug, Clone)]
struct Card {
    now: Contact,
    gone: bool,
    by_hand: bool,
    addresses: BTreeSet<String>,
    renamed_by_hand: bool,
    /// What people wrote.
    hand: BTreeMap<String, Vec<Value>>,
    listed_by_hand: BTreeSet<i64>,
    unlisted_by_hand: BTreeSet<i64>,
    /// When a person last said yes (`false`) or no (`true`) here.
    said: Option<(i64, bool)>,
    out_at: i64,
    told_out: Option<i64>,
    /// When we first wrote it: from then on it is linked for sure.
    ours_since: Option<i64>,
    /// The flag went without the person's saying so.
    loosened: Option<i64>,
}

#[derive(Default)]
pub struct Model {
    people: BTreeMap<String, Person>,
    cards: BTreeMap<i64, Card>,
    /// Who has ever had an address.
    holders: BTreeMap<String, BTreeSet<String>>,
    pub reloaded: bool,
    /// Imports, by when they left, with the addresses in them.
    imports: Vec<(i64, BTreeSet<String>)>,
    /// When requests were over the vendors' limits.
    pub over_limit: Vec<i64>,
    acknowledged: u64,
}

type Found = Vec<(bool, String)>;

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned)
}

/// What a rule's targets should hold. `Err`: the value cannot be mapped, and must be listed.
fn expected(source: Source, person: &Person) -> Result<Vec<Option<Value>>, ()> {
    let value = person.values.get(&source).cloned().unwrap_or_default();
    Ok(match source {
        Source::Name => {
            let parts = value.as_str().and_then(|name| NAMES.iter().find(|(typed, _, _)| typed.trim() == name.trim()));
            let part = |part: Option<&str>| part.filter(|part| !part.is_empty()).map(Value::from);
            vec![part(parts.map(|parts| parts.1)), part(parts.map(|parts| parts.2))]
        }
        Source::Phone => match text(&value) {
            None => vec![None],
            Some(typed) => {
                let known = PHONES.iter().find(|(phone, _)| *phone == typed).and_then(|(_, digits)| *digits);
                vec![Some(Value::from(known.ok_or(())?))]
            }
        },
        Source::Role => vec![Some(Value::from(if person.lead { "lead" } else { "user" }))],
        Source::ExternalId | Source::Tier => vec![text(&value).map(Value::from)],
        Source::Seats => vec![Some(value).filter(|value| !value.is_null())],
        Source::Admin => vec![value.as_bool().map(Value::from)],
        Source::Tags => unreachable!("tags are the whole group's"),
    })
}

/// A cell as Brevo holds it, in the form that [`expected`] gives.
fn standing(attribute: &str, value: Option<&Value>) -> Option<Value> {
    let value = value.filter(|value| !value.is_null())?;
    match attribute {
        "SMS" => {
            let digits: String = value.to_string().chars().filter(char::is_ascii_digit).collect();
            Some(Value::from(digits))
        }
        "IS_ADMIN" => Some(value.clone()),
        "INTERCOM_TAGS" => Some(value.clone()),
        _ => match value {
            Value::String(found) => text(value).map(Value::from).filter(|_| !found.is_empty()),
            other => Some(other.clone()),
        },
    }
}

fn same(a: Option<&Value>, b: Option<&Value>) -> bool {
    let no = |value: Option<&Value>| matches!(value, None | Some(Value::Bool(false)));
    match (a, b) {
        (Some(a), Some(b)) if a.is_number() && b.is_number() => a.as_f64() == b.as_f64(),
        _ => a == b || (no(a) && no(b)),
    }
}

fn labels(value: Option<&Value>) -> BTreeSet<String> {
    match value {
        Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        Some(Value::String(all)) => {
            all.split(',').map(str::trim).filter(|l| !l.is_empty()).map(str::to_owned).collect()
        }
        _ => BTreeSet::new(),
    }
}

impl Model {
    pub fn intercom_ids(&self) -> Vec<String> {
        self.people.keys().cloned().collect()
    }

    pub fn acknowledged(&mut self, topic: &str, body: &[u8], now: i64) {
        self.acknowledged += 1;
        if topic == "contact.unsubscribed"
            && let Ok(body) = serde_json::from_slice::<Value>(body)
            && let Some(id) = body["data"]["item"]["contact"]["id"].as_str()
            && let Some(person) = self.people.get_mut(id)
            && person.out
        {
            person.told_out.get_or_insert(now);
            person.acknowledged_out = true;
        }
    }

    /// What an answer has told the engine.
    pub fn told(&mut self, is_brevo: bool, path: &str, body: &[u8], now: i64) {
        if !path.contains("/contacts") {
            return;
        }
        let Ok(body) = serde_json::from_slice::<Value>(body) else { return };
        let many = body["contacts"].as_array().or_else(|| body["data"].as_array()).cloned();
        for shown in many.unwrap_or_else(|| vec![body]) {
            if is_brevo {
                let Some(card) = shown["id"].as_i64().and_then(|id| self.cards.get_mut(&id)) else { continue };
                if shown["emailBlacklisted"] == true && card.now.email_blacklisted {
                    card.told_out.get_or_insert(now);
                }
            } else {
                let Some(person) = shown["id"].as_str().and_then(|id| self.people.get_mut(id)) else { continue };
                if shown["email"].as_str().map(normal) == person.email {
                    person.told_here.get_or_insert(now);
                }
                let out = ["unsubscribed_from_emails", "has_hard_bounced", "marked_email_as_spam"];
                if person.out && out.iter().any(|flag| shown[flag] == true) {
                    person.told_out.get_or_insert(now);
                }
            }
        }
    }

    /// Looks at both vendors and notes what changed, and through whom. `true`: a violation; else something to count.
    pub fn look(&mut self, cause: &Cause, intercom: &IntercomSandbox, brevo: &BrevoSandbox, now: i64) -> Found {
        let mut found = Found::new();
        if matches!(cause, Cause::Hand(_)) {
            self.look_at_intercom(intercom, now);
        }
        let shown = brevo.contacts();
        let mut seen = BTreeSet::new();
        for contact in shown {
            seen.insert(contact.id);
            match self.cards.get_mut(&contact.id) {
                Some(card) if card.now == contact => {}
                Some(card) => {
                    let import_left = Self::import_left(&self.imports, contact.email.as_deref(), now);
                    Self::changed(card, &contact, cause, import_left, now, &mut found);
                }
                None => self.appeared(contact, cause, now, &mut found),
            }
        }
        for (id, card) in &mut self.cards {
            if !card.gone && !seen.contains(id) {
                card.gone = true;
                if !matches!(cause, Cause::Hand(_)) {
                    found.push((true, format!("Brevo contact {id} was deleted by us")));
                }
            }
        }
        if let Cause::Ours { left_at, what, body, .. } = cause
            && what.ends_with("/contacts/import")
        {
            let body: Value = serde_json::from_slice(body).unwrap_or_default();
            let rows = body["jsonBody"].as_array().cloned().unwrap_or_default();
            self.imports.push((*left_at, rows.iter().filter_map(|row| row["email"].as_str().map(normal)).collect()));
        }
        found
    }

    fn look_at_intercom(&mut self, intercom: &IntercomSandbox, now: i64) {
        let live: BTreeSet<String> = intercom.contact_ids().into_iter().collect();
        let known: BTreeSet<String> = live.iter().cloned().chain(self.people.keys().cloned()).collect();
        for id in known {
            let Some(shown) = intercom.contact(&id) else { continue };
            let person = self.people.entry(id.clone()).or_default();
            person.live = live.contains(&id);
            person.was_away |= !person.live;
            let email = shown["email"].as_str().map(normal).filter(|email| !email.is_empty());
            if person.email != email {
                person.here_since = now;
                person.told_here = None;
            }
            if let Some(email) = &email {
                person.addresses.insert(email.clone());
                self.holders.entry(email.clone()).or_default().insert(id.clone());
            }
            person.email = email;
            person.lead = shown["role"] == "lead";
            for (source, field) in [
                (Source::Name, &shown["name"]),
                (Source::Phone, &shown["phone"]),
                (Source::ExternalId, &shown["external_id"]),
                (Source::Tier, &shown["custom_attributes"]["plan_tier"]),
                (Source::Seats, &shown["custom_attributes"]["seats"]),
                (Source::Admin, &shown["custom_attributes"]["is_admin"]),
            ] {
                person.values.insert(source, field.clone());
            }
            person.tags = intercom.contact_tags(&id).into_iter().collect();
            let flags = ["unsubscribed_from_emails", "has_hard_bounced", "marked_email_as_spam"];
            let out = flags.iter().any(|flag| shown[flag] == true);
            if out && !person.out {
                person.out_at = now;
                person.told_out = None;
                person.acknowledged_out = false;
            }
            person.out = out;
        }
    }

    fn changed(card: &mut Card, contact: &Contact, cause: &Cause, import_left: i64, now: i64, found: &mut Found) {
        let before = std::mem::replace(&mut card.now, contact.clone());
        card.addresses.extend(contact.email.as_deref().map(normal));
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
            card.listed_by_hand.extend(contact.list_ids.difference(&before.list_ids));
            card.unlisted_by_hand.extend(before.list_ids.difference(&contact.list_ids));
            card.unlisted_by_hand.extend(&contact.list_unsubscribed);
            card.renamed_by_hand |= before.email != contact.email;
        }
        if contact.email_blacklisted && !before.email_blacklisted {
            card.out_at = now;
            card.loosened = None;
            card.told_out = (!matches!(cause, Cause::Hand(_))).then_some(now);
        }
        if let Cause::Hand(Meaning::Consent) = cause {
            card.said = Some((now, contact.email_blacklisted));
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

    /// When the import that lands now left us. Its landing is seen when Brevo is looked at next.
    fn import_left(imports: &[(i64, BTreeSet<String>)], email: Option<&str>, now: i64) -> i64 {
        let email = email.map(normal).unwrap_or_default();
        let of = imports.iter().filter(|(left_at, rows)| *left_at > now - 3_600_000 && rows.contains(&email));
        of.map(|(left_at, _)| *left_at).min().unwrap_or(now)
    }

    fn appeared(&mut self, contact: Contact, cause: &Cause, now: i64, found: &mut Found) {
        let by_hand = matches!(cause, Cause::Hand(_));
        let email = contact.email.as_deref().map(normal);
        if !by_hand && !contact.email_blacklisted {
            let left_at = match cause {
                Cause::Ours { left_at, .. } => *left_at,
                _ => Self::import_left(&self.imports, email.as_deref(), now),
            };
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
            by_hand,
            addresses: email.into_iter().collect(),
            renamed_by_hand: false,
            hand,
            listed_by_hand: BTreeSet::new(),
            unlisted_by_hand: BTreeSet::new(),
            said: by_hand.then_some((now, contact.email_blacklisted)),
            out_at: now,
            told_out: (!by_hand && contact.email_blacklisted).then_some(now),
            ours_since: (!by_hand).then_some(now),
            loosened: None,
            now: contact,
        };
        self.cards.insert(card.now.id, card);
    }

    /// P1, before any sweep could make up for what was forgotten: every opt-out whose notification was acknowledged is in
    /// Brevo by now, if the program knows who that is.
    pub fn check_acknowledged(&self) -> Vec<String> {
        let mut wrong = Vec::new();
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
            if plain && !card.now.email_blacklisted && !said_since {
                wrong.push(format!("P1: the opt-out of {id} ({address}) was acknowledged and is not in Brevo"));
            }
        }
        wrong
    }

    /// After everything has come to rest: what is wrong, and what is to be counted.
    pub fn check(
        &mut self,
        rules: &Rules,
        listed: &Listed,
        intercom: &IntercomSandbox,
        brevo: &BrevoSandbox,
        now: i64,
    ) -> (Vec<String>, Vec<String>) {
        let mut found = self.look(&Cause::Landing, intercom, brevo, now);
        self.look_at_intercom(intercom, now);
        let mut end = End { model: self, rules, listed, wrong: Vec::new(), counts: Vec::new() };
        let addresses: Vec<String> = end.model.holders.keys().cloned().collect();
        for address in &addresses {
            end.address(address, brevo);
        }
        end.consent();
        end.duplicates();
        let End { mut wrong, mut counts, .. } = end;
        for (violation, text) in found.drain(..) {
            if violation { &mut wrong } else { &mut counts }.push(text);
        }
        (wrong, counts)
    }
}

struct End<'a> {
    model: &'a Model,
    rules: &'a Rules,
    listed: &'a Listed,
    wrong: Vec<String>,
    counts: Vec<String>,
}

impl End<'_> {
    fn members(&self, address: &str) -> Vec<(&String, &Person)> {
        let at = |(_, person): &(&String, &Person)| person.live && person.email.as_deref() == Some(address);
        self.model.people.iter().filter(at).collect()
    }

    fn card(&self, address: &str) -> Option<&Card> {
        self.model
            .cards
            .values()
            .find(|card| !card.gone && card.now.email.as_deref().map(normal).as_deref() == Some(address))
    }

    fn noticed(&self, kind: &str, id: &str) -> bool {
        let subject = format!("contact {id}");
        self.listed.notices.iter().any(|(of, about, _)| of == kind && *about == subject)
    }

    /// Whether something about a field (or the whole record) of one of these is listed as refused.
    /// Whoever spoke for the address then is named.
    fn refused(&self, members: &[(&String, &Person)], rule: &Rule) -> bool {
        let addresses = members.iter().filter_map(|(_, person)| person.email.as_ref());
        let ever: BTreeSet<&String> = addresses.filter_map(|email| self.model.holders.get(email)).flatten().collect();
        self.listed.failures.iter().any(|failure| {
            ever.iter().any(|id| failure.subject == format!("contact {id}"))
                && (failure.field.is_empty()
                    || failure.field.contains(rule.source.path())
                    || rule.source.attributes().iter().any(|attribute| failure.field.contains(attribute)))
        })
    }

    /// One person, one address, always; and nobody ever put another address on the Brevo contact.
    fn is_simple(&self, address: &str, card: &Card) -> bool {
        let holders = self.model.holders.get(address);
        holders.is_some_and(|holders| {
            holders.len() == 1
                && holders.iter().all(|id| {
                    self.model.people.get(id).is_some_and(|person| person.addresses.len() == 1 && !person.was_away)
                })
        }) && card.addresses.len() == 1
            && !card.renamed_by_hand
    }

    fn address(&mut self, address: &str, brevo: &BrevoSandbox) {
        let members = self.members(address);
        if members.is_empty() {
            return;
        }
        let ids: Vec<&String> = members.iter().map(|(id, _)| *id).collect();
        // Not linked, and listed so.
        if ids.iter().any(|id| self.noticed("identity_conflict", id)) {
            self.counts.push("outcome: identity conflict listed".to_owned());
            return;
        }
        let holders = self.model.holders.get(address);
        if holders.is_some_and(|ids| ids.iter().any(|id| self.noticed("brevo_contact_gone", id))) {
            // Deleted by somebody in Brevo: not made again, and listed, under whoever spoke for the address then.
            self.counts.push("outcome: gone in Brevo, listed".to_owned());
            return;
        }
        let renamed = self.model.cards.values().any(|card| card.addresses.contains(address) && card.renamed_by_hand);
        let Some(card) = self.card(address) else {
            if renamed {
                self.counts.push("outcome: renamed by hand in Brevo".to_owned());
            } else if self.listed.failures.iter().any(|failure| {
                failure.field.is_empty() && ids.iter().any(|id| failure.subject == format!("contact {id}"))
            }) {
                self.counts.push("outcome: record listed as failed".to_owned());
            } else {
                self.wrong.push(format!("P2: {address} of {ids:?} is not in Brevo"));
            }
            return;
        };
        if card.renamed_by_hand {
            self.counts.push("outcome: renamed by hand in Brevo".to_owned());
            return;
        }
        let simple = self.is_simple(address, card);
        let mut wrong = Vec::new();
        for rule in &self.rules.fields {
            if let Some(text) = self.field(rule, &members, card, simple) {
                wrong.push(format!("P2: {address} ({ids:?}, Brevo {}): {text}", card.now.id));
            }
        }
        for (on, name) in [(self.rules.users, "Users"), (self.rules.leads, "Leads"), (self.rules.vip, "VIPs")] {
            let Some(list) = brevo.list_id(name).filter(|_| on) else { continue };
            let wanted = |person: &Person| match name {
                "Users" => !person.lead,
                "Leads" => person.lead,
                _ => person.tags.contains("VIP"),
            };
            let (any, all) = if name == "VIPs" {
                let any = members.iter().any(|(_, person)| wanted(person));
                (any, any)
            } else {
                (members.iter().any(|(_, person)| wanted(person)), members.iter().all(|(_, person)| wanted(person)))
            };
            let on_it = card.now.list_ids.contains(&list);
            if all && !on_it && !card.unlisted_by_hand.contains(&list) {
                wrong.push(format!("P2: {address} ({ids:?}, Brevo {}) is not on {name}", card.now.id));
            }
            if !any && on_it && !card.listed_by_hand.contains(&list) && simple {
                wrong.push(format!("P2: {address} ({ids:?}, Brevo {}) is still on {name}", card.now.id));
            }
        }
        self.wrong.append(&mut wrong);
        self.counts.push(if simple { "checked simply" } else { "checked as a group or after moves" }.to_owned());
    }

    /// What is wrong with one field.
    fn field(&self, rule: &Rule, members: &[(&String, &Person)], card: &Card, simple: bool) -> Option<String> {
        let attributes = rule.source.attributes();
        let have: Vec<Option<Value>> =
            attributes.iter().map(|name| standing(name, card.now.attributes.get(*name))).collect();
        let by_hand = attributes.iter().any(|name| card.hand.contains_key(*name));
        if rule.source == Source::Tags {
            let want: BTreeSet<String> = members.iter().flat_map(|(_, person)| person.tags.clone()).collect();
            let have = labels(have.first().and_then(Option::as_ref));
            let fine = want == have
                || (want.is_empty() && (!rule.clears || by_hand || !simple || self.model.reloaded))
                || ((rule.leaves || self.model.reloaded) && by_hand)
                || self.refused(members, rule);
            return (!fine).then(|| format!("INTERCOM_TAGS is {have:?} instead of {want:?}"));
        }
        let mut wanted = Vec::new();
        for (_, person) in members {
            let Ok(want) = expected(rule.source, person) else {
                return (!self.refused(members, rule) && members.len() == 1)
                    .then(|| format!("{} cannot be mapped and is not listed", rule.source.path()));
            };
            let equal = |(want, have): (&Option<Value>, &Option<Value>)| same(want.as_ref(), have.as_ref());
            let blank = want.iter().all(Option::is_none);
            let fits = want.iter().zip(&have).all(equal)
                // What nobody gave a value for may be somebody's from before.
                || (!blank && !simple || by_hand) && want.iter().zip(&have).all(|(want, have)| want.is_none() || same(want.as_ref(), have.as_ref()))
                || (blank && (!rule.clears || by_hand || !simple || self.model.reloaded));
            if fits {
                return None;
            }
            wanted.push(want);
        }
        // A drift that one rule has accepted is agreed on, also under a later rule that would have restored it.
        if ((rule.leaves || self.model.reloaded) && by_hand) || self.refused(members, rule) {
            return None;
        }
        Some(format!(
            "{attributes:?} is {} instead of {}",
            show(&have),
            wanted.iter().map(|w| show(w)).collect::<Vec<_>>().join(" or ")
        ))
    }

    fn consent(&mut self) {
        // An opt-out in Intercom is in Brevo, unless the person has opted in there since.
        let mut wrong = Vec::new();
        let mut counts = Vec::new();
        for (id, person) in &self.model.people {
            let Some(address) = person.email.as_ref().filter(|_| person.live && person.out) else { continue };
            if self.noticed("identity_conflict", id) {
                continue;
            }
            let Some(card) = self.card(address) else { continue };
            let since = person.out_at;
            let opted_in = card.said.is_some_and(|(at, out)| !out && at >= since);
            // Who came later to an address whose person has opted in there brings no opt-out that was made just now.
            let moved_in = card.said.is_some_and(|(_, out)| !out) && person.here_since > since;
            if card.now.email_blacklisted {
                counts.push("outcome: out on both sides".to_owned());
            } else if opted_in || moved_in {
                counts.push("outcome: opted in in Brevo, out in Intercom".to_owned());
            } else if card.renamed_by_hand {
                counts.push("outcome: out in Intercom, contact renamed by hand in Brevo".to_owned());
            } else {
                wrong.push(format!(
                    "P4: {id} ({address}) opted out in Intercom at {since}, and Brevo {} may be mailed",
                    card.now.id
                ));
            }
        }
        for card in self.model.cards.values().filter(|card| !card.gone && !card.now.email_blacklisted) {
            let Some(loosened) = card.loosened else { continue };
            if card.said.is_some_and(|(at, out)| !out && at > card.out_at) {
                continue;
            }
            if card.told_out.is_some_and(|told| told <= loosened) {
                if self.is_linked(card) && card.ours_since.is_some_and(|since| since <= loosened) {
                    wrong.push(format!(
                        "P4: Brevo {} {:?} was out at {}, we were told at {:?}, it was loosened at {loosened} and not put back",
                        card.now.id, card.now.email, card.out_at, card.told_out
                    ));
                } else {
                    counts.push("outcome: loosened while nobody's".to_owned());
                }
            } else {
                counts.push("outcome: loosened before anybody could know".to_owned());
            }
        }
        self.wrong.append(&mut wrong);
        self.counts.append(&mut counts);
    }

    /// Whether somebody live in Intercom has one of its addresses.
    fn is_linked(&self, card: &Card) -> bool {
        card.now.email.as_deref().map(normal).is_some_and(|address| !self.members(&address).is_empty())
    }

    /// P6: nobody who only ever had addresses of their own has two Brevo contacts of our making.
    fn duplicates(&mut self) {
        let alone = |address: &String| self.model.holders.get(address).is_some_and(|holders| holders.len() == 1);
        let mut wrong = Vec::new();
        for (id, person) in &self.model.people {
            if !person.live || person.was_away || person.addresses.len() < 2 || !person.addresses.iter().all(alone) {
                continue;
            }
            let ours: Vec<(i64, &Option<String>)> = self
                .model
                .cards
                .values()
                .filter(|card| !card.gone && !card.by_hand && !card.renamed_by_hand)
                .filter(|card| card.addresses.iter().any(|address| person.addresses.contains(address)))
                .map(|card| (card.now.id, &card.now.email))
                .collect();
            if ours.len() > 1 {
                wrong.push(format!("P6: {id} has {ours:?} in Brevo"));
            }
        }
        self.wrong.append(&mut wrong);
    }
}

fn show(cells: &[Option<Value>]) -> String {
    let cells: Vec<String> =
        cells.iter().map(|cell| cell.as_ref().map_or_else(|| "nothing".to_owned(), Value::to_string)).collect();
    cells.join(" + ")
}
