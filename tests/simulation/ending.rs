//! The checker at the end: what must hold once everything has come to rest. It never looks at the program's state but for
//! what that lists for people: refusals, failures, notices, conflicts.

use super::happenings::Conversations;
use super::model::{Card, Cause, Listed, Model, Person};
use super::people::{NAMES, PHONES, normal};
use super::sifting::Filter;
use super::world::{Rule, Rules, Source, Way};
use linkspan::sandbox::brevo::BrevoSandbox;
use linkspan::sandbox::intercom::IntercomSandbox;
use serde_json::Value;
use std::collections::BTreeSet;

pub fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned)
}

pub type Cells = Vec<Option<Value>>;

/// What a rule's targets may hold: one of these. `Err`: the value cannot be mapped, and must be listed.
fn expected(source: Source, person: &Person) -> Result<Vec<Cells>, ()> {
    if source == Source::Company {
        let names = person.companies.iter().map(|name| vec![Some(Value::from(name.as_str()))]);
        let names: Vec<Cells> = names.collect();
        return Ok(if names.is_empty() { vec![vec![None]] } else { names });
    }
    field_of(source, person).map(|cells| vec![cells])
}

/// A name that nobody typed as one: the family name is its last word, with the "van" that leads up to it. A single word is
/// a first name.
fn in_parts(name: &str) -> (&str, &str) {
    if name.starts_with("van ") {
        return ("", name);
    }
    let van = name.find(" van ").map(|at| (&name[..at], &name[at + 1..]));
    van.or_else(|| name.rsplit_once(' ')).unwrap_or((name, ""))
}

fn field_of(source: Source, person: &Person) -> Result<Cells, ()> {
    let value = person.values.get(&source).cloned().unwrap_or_default();
    Ok(match source {
        Source::Name => {
            let name = value.as_str().unwrap_or_default().trim();
            let known = NAMES.iter().find(|(typed, _, _)| typed.trim() == name).map(|(_, first, last)| (*first, *last));
            // Of parts that somebody gave in Brevo, when the name still travelled both ways.
            let parts = known.unwrap_or_else(|| in_parts(name));
            let part = |part: &str| Some(part).filter(|part| !part.is_empty()).map(Value::from);
            vec![part(parts.0), part(parts.1)]
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
        Source::Tags | Source::Company | Source::OpenConversations | Source::Conversations | Source::LastRating => {
            unreachable!("not the person's own")
        }
    })
}

/// A cell as Brevo holds it, in the form that [`expected`] gives.
pub fn standing(attribute: &str, value: Option<&Value>) -> Option<Value> {
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

pub fn same(a: Option<&Value>, b: Option<&Value>) -> bool {
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
    /// Before any sweep could make up for what was forgotten: what is wrong. `acknowledged`: look only at people whose
    /// last change was acknowledged as a notification; else an incremental read has just been made, which must have
    /// shown every change.
    pub fn check_before_sweeps(&self, rules: &Rules, listed: &Listed, acknowledged: bool) -> Vec<String> {
        let none = Conversations::default();
        let mut end = End { model: self, rules, listed, talks: &none, wrong: Vec::new(), counts: Vec::new() };
        end.gone();
        let mut wrong = std::mem::take(&mut end.wrong);
        let name = if acknowledged { "P1: acknowledged, and" } else { "P2: after an incremental read" };
        for (id, person) in self.people.iter().filter(|(_, person)| person.live && !person.was_away) {
            if acknowledged && person.told_until < person.changed_at {
                continue;
            }
            let Some(address) = &person.email else { continue };
            let Some(card) = end.card(address).filter(|card| end.is_simple(address, card)) else { continue };
            let doubtful = self.filter != Filter::Everybody || end.noticed("identity_conflict", id);
            if card.ours_since.is_none() || doubtful {
                continue;
            }
            let members = [(id, person)];
            for rule in &rules.fields {
                let own = !matches!(
                    rule.source,
                    Source::Tags
                        | Source::Company
                        | Source::OpenConversations
                        | Source::Conversations
                        | Source::LastRating
                );
                let by_hand = rule.source.attributes().iter().any(|name| card.hand.contains_key(*name));
                let own = own && rule.way == Way::ToBrevo;
                if own
                    && !by_hand
                    && let Some(text) = end.field(rule, &members, card, true)
                {
                    wrong.push(format!("{name} {id} (Brevo {}): {text}", card.now.id));
                }
            }
        }
        wrong
    }

    /// After everything has come to rest: what is wrong, and what is to be counted.
    pub fn check(
        &mut self,
        rules: &Rules,
        listed: &Listed,
        (intercom, brevo): (&IntercomSandbox, &BrevoSandbox),
        (start, now): (i64, i64),
        makes: bool,
    ) -> (Vec<String>, Vec<String>) {
        let mut found = self.look(&Cause::Landing, intercom, brevo, now);
        self.look_at_intercom(intercom, None, now);
        let talks = Conversations::of(intercom, start);
        let mut end = End { model: self, rules, listed, talks: &talks, wrong: Vec::new(), counts: Vec::new() };
        let addresses: Vec<String> = end.model.holders.keys().cloned().collect();
        for address in &addresses {
            end.address(address, brevo);
        }
        if makes {
            end.newcomers();
        }
        end.consent();
        end.text_messages();
        end.duplicates();
        end.gone();
        end.departed(brevo);
        end.opt_ins();
        end.lost_values();
        end.lists_left(brevo);
        end.events(brevo, start);
        if end.model.by_phone {
            end.known_by_phone();
        }
        let End { mut wrong, mut counts, .. } = end;
        for (violation, text) in found.drain(..) {
            if violation { &mut wrong } else { &mut counts }.push(text);
        }
        (wrong, counts)
    }
}

pub struct End<'a> {
    pub model: &'a Model,
    pub rules: &'a Rules,
    pub listed: &'a Listed,
    pub talks: &'a Conversations,
    pub wrong: Vec<String>,
    pub counts: Vec<String>,
}

impl<'a> End<'a> {
    fn members(&self, address: &str) -> Vec<(&'a String, &'a Person)> {
        let at = |(_, person): &(&'a String, &'a Person)| person.live && person.email.as_deref() == Some(address);
        self.model.people.iter().filter(at).collect()
    }

    pub fn card(&self, address: &str) -> Option<&'a Card> {
        self.model
            .cards
            .values()
            .find(|card| !card.gone && card.now.email.as_deref().map(normal).as_deref() == Some(address))
    }

    pub fn noticed(&self, kind: &str, id: &str) -> bool {
        let subject = format!("contact {id}");
        self.listed.notices.iter().any(|(of, about, _)| of == kind && *about == subject)
    }

    /// Whether something about a field (or the whole record) of one of these is listed as refused.
    /// Whoever spoke for the address then is named.
    pub fn refused(&self, members: &[(&String, &Person)], rule: &Rule) -> bool {
        let addresses = members.iter().filter_map(|(_, person)| person.email.as_ref());
        let ever = addresses.filter_map(|email| self.model.holders.get(email)).flatten();
        // Who has no address, and is of the group by their phone, may speak for it as well.
        let ever: BTreeSet<&String> = ever.chain(members.iter().map(|(id, _)| *id)).collect();
        self.listed.failures.iter().any(|failure| {
            ever.iter().any(|id| failure.subject == format!("contact {id}"))
                && (failure.field.is_empty()
                    || failure.field.contains(rule.source.path())
                    || rule.source.attributes().iter().any(|attribute| failure.field.contains(attribute)))
        })
    }

    /// One person, one address, always; and nobody ever put another address on the Brevo contact.
    pub fn is_simple(&self, address: &str, card: &Card) -> bool {
        let holders = self.model.holders.get(address);
        holders.is_some_and(|holders| {
            holders.len() == 1
                && holders.iter().all(|id| {
                    self.model.people.get(id).is_some_and(|person| person.addresses.len() == 1 && !person.was_away)
                })
        }) && card.addresses.len() == 1
            && !card.renamed_by_hand
            && self.by_its_phone(address, card).next().is_none()
    }

    /// Who has, or once had, nothing but a phone, which the contact has or once had: they may be of the group, or it may have
    /// been theirs.
    fn by_its_phone(&self, address: &str, card: &Card) -> impl Iterator<Item = (&'a String, &'a Person)> {
        let model = self.model;
        let others = model.people.iter().filter(move |(_, person)| person.email.as_deref() != Some(address));
        others.filter(move |(_, person)| model.by_phone && !person.phones.is_disjoint(&card.phones))
    }

    pub fn nobody_by_phone(&self, address: &str, card: &Card) -> bool {
        self.by_its_phone(address, card).next().is_none()
    }

    /// The other contacts that may have been somebody's while they had nothing but a phone, which these have or once had.
    pub fn others_by_number(&self, person: &Person, card: &Card) -> impl Iterator<Item = &'a Card> {
        let model = self.model;
        let others = model.cards.values().filter(move |other| other.now.id != card.now.id);
        others.filter(move |other| model.by_phone && !person.phones.is_disjoint(&other.phones))
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
        if self.sifted(address, &members, brevo) {
            return;
        }
        let holders = self.model.holders.get(address);
        let lost = self.model.cards.values().filter(|card| card.gone && card.addresses.contains(address));
        let gone = lost.flat_map(|card| self.by_its_phone(address, card)).map(|(id, _)| id);
        let gone = gone.chain(holders.into_iter().flatten()).any(|id| self.noticed("brevo_contact_gone", id));
        if gone {
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
        // Whom the filter left out for a while has what was edited meanwhile decided about later than it was made.
        let simple = self.is_simple(address, card) && self.model.filter == Filter::Everybody;
        let by_phone = self.by_its_phone(address, card).filter(|(_, person)| person.live);
        let with_those_by_phone: Vec<_> = members.iter().copied().chain(by_phone).collect();
        let mut wrong = Vec::new();
        let rules = self.rules;
        for rule in rules.fields.iter().filter(|rule| rule.way != Way::ToBrevo) {
            self.crossing(rule, &with_those_by_phone, card, simple);
        }
        if let Some(list) = brevo.list_id("VIPs").filter(|_| rules.vip && rules.vip_way != Way::ToBrevo) {
            self.tag_and_list(&members, card, list, simple);
        }
        for rule in rules.fields.iter().filter(|rule| rule.way == Way::ToBrevo) {
            if let Some(text) = self.field(rule, &members, card, simple)
                && self.field(rule, &with_those_by_phone, card, simple).is_some()
            {
                wrong.push(format!("P2: {address} ({ids:?}, Brevo {}): {text}", card.now.id));
            }
        }
        let lists = [
            (self.rules.users, "Users"),
            (self.rules.leads, "Leads"),
            (self.rules.vip && self.rules.vip_way == Way::ToBrevo, "VIPs"),
            (self.rules.blue, "Blue"),
        ];
        for (on, name) in lists {
            let Some(list) = brevo.list_id(name).filter(|_| on) else { continue };
            let wanted = |person: &Person| match name {
                "Users" => !person.lead,
                "Leads" => person.lead,
                "Blue" => person.companies.contains("Blue Sun"),
                _ => person.tags.contains("VIP"),
            };
            let (any, all) = if name == "Blue" {
                // Of several companies one speaks for the person, and of several people one for the address.
                let only = |person: &Person| person.companies.len() == 1 && wanted(person);
                let any = members.iter().any(|(_, person)| wanted(person));
                (any, members.iter().all(|(_, person)| only(person)))
            } else if name == "VIPs" {
                let any = members.iter().any(|(_, person)| wanted(person));
                (any, any)
            } else {
                (members.iter().any(|(_, person)| wanted(person)), members.iter().all(|(_, person)| wanted(person)))
            };
            let on_it = card.now.list_ids.contains(&list);
            // Whose tag had followed the list counts as taken off it, and is listed.
            let kept_off =
                self.model.reloaded && name == "VIPs" && ids.iter().any(|id| self.noticed("kept_off_list", id));
            if all && !on_it && !card.unlisted_by_hand.contains(&list) && !kept_off {
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
        if rule.source.is_figure() {
            // Whose conversations became whose by a merge, and when that was seen, is another question.
            let ids: BTreeSet<&String> = members.iter().map(|(id, _)| *id).collect();
            let wanted = self.talks.figure(rule.source, &ids);
            let have = have.first().cloned().flatten();
            let fine = !simple
                || wanted.iter().any(|want| same(want.as_ref(), have.as_ref()))
                || ((rule.leaves || self.model.reloaded) && by_hand)
                || self.refused(members, rule);
            return (!fine).then(|| format!("{attributes:?} is {} instead of {}", show(&[have]), show(&wanted)));
        }
        let mut wanted = Vec::new();
        for (_, person) in members {
            if rule.users_only && person.lead {
                // The rule says nothing about them.
                return None;
            }
            let Ok(alternatives) = expected(rule.source, person) else {
                return (!self.refused(members, rule) && members.len() == 1)
                    .then(|| format!("{} cannot be mapped and is not listed", rule.source.path()));
            };
            for want in alternatives {
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
            } else if person.out_by_us {
                counts.push("outcome: told by us, opted in in Brevo since".to_owned());
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
        // So is one of somebody who is gone since, if a notification told of it, and the contact was and is theirs alone.
        for (id, person) in &self.model.people {
            let said_no = person.out && !person.out_by_us && person.acknowledged_out;
            let is_gone = !person.live && !person.merged && person.addresses.len() == 1;
            let Some(address) = person.email.as_ref().filter(|_| said_no && is_gone) else { continue };
            let alone = self.model.holders.get(address).is_some_and(|holders| holders.len() == 1);
            let theirs: Vec<&Card> =
                self.model.cards.values().filter(|card| card.addresses.contains(address)).collect();
            let [card] = theirs[..] else { continue };
            let plain = !card.gone && card.addresses.len() == 1 && !card.renamed_by_hand;
            let linked = card.ours_since.is_some_and(|since| since < person.out_at);
            if !alone || !plain || !linked || !self.nobody_by_phone(address, card) {
                continue;
            }
            if card.now.email_blacklisted {
                counts.push("outcome: out in Brevo, and gone in Intercom".to_owned());
            } else if card.said.is_some_and(|(at, out)| !out && at >= person.out_at) {
                counts.push("outcome: gone in Intercom, and opted in in Brevo".to_owned());
            } else {
                wrong.push(format!(
                    "P4: {id} ({address}) opted out in Intercom at {}, is gone, and Brevo {} may be mailed",
                    person.out_at, card.now.id
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

    /// Who opted out of text messages in Intercom gets none from Brevo. (Nobody opts in to them in these worlds.)
    fn text_messages(&mut self) {
        for (id, person) in self.model.people.iter().filter(|(_, person)| person.live && person.sms_out) {
            let Some(address) = &person.email else { continue };
            let Some(card) = self.card(address).filter(|card| !card.renamed_by_hand) else { continue };
            if self.noticed("identity_conflict", id) {
                continue;
            }
            if card.now.sms_blacklisted {
                self.counts.push("outcome: no text messages on both sides".to_owned());
            } else {
                let words = format!("P4: {id} opted out of text messages, and Brevo {} may get them", card.now.id);
                self.wrong.push(words);
            }
        }
    }

    /// Nobody is listed as gone who has been there all the time.
    fn gone(&mut self) {
        for (kind, subject, _) in &self.listed.notices {
            let Some(id) = subject.strip_prefix("contact ") else { continue };
            let Some(person) = self.model.people.get(id).filter(|person| person.live && !person.was_away) else {
                continue;
            };
            // The contact that was deleted (or wandered off) had shown an address of theirs, or of somebody who shared an
            // address with them, or was merged into them: those are one person in Brevo.
            let shared = person.shared_with.iter().chain(&person.heir_of).filter_map(|id| self.model.people.get(id));
            let theirs: BTreeSet<&String> = shared.chain([person]).flat_map(|person| person.addresses.iter()).collect();
            // Or, of somebody without an address, their phone: they may have been merged into this one, too.
            let heir_of = person.heir_of.iter().filter_map(|id| self.model.people.get(id));
            let phones: BTreeSet<&String> = heir_of.chain([person]).flat_map(|person| person.phones.iter()).collect();
            let by_phone = |card: &Card| card.phones.iter().any(|phone| phones.contains(phone));
            let was_there = |card: &Card| {
                (card.gone || card.renamed_by_hand)
                    && (card.addresses.iter().any(|address| theirs.contains(address)) || by_phone(card))
            };
            let wrong = match kind.as_str() {
                "deleted_in_intercom" | "archived_in_intercom" | "missing_in_intercom" => true,
                "brevo_contact_gone" => !self.model.cards.values().any(was_there),
                _ => false,
            };
            if wrong {
                self.wrong.push(format!("P6: {kind} is listed of {id}, who has been there all the time"));
            }
        }
    }

    /// P5: a person's value that we replaced though we had seen it can be looked up.
    fn lost_values(&mut self) {
        for card in self.model.cards.values() {
            let address = card.now.email.as_deref().map(normal).unwrap_or_default();
            if self.model.reloaded || self.model.filter != Filter::Everybody || !self.is_simple(&address, card) {
                continue;
            }
            for (attribute, value) in &card.replaced {
                let rule = self.rules.fields.iter().find(|rule| rule.source.attributes().contains(&attribute.as_str()));
                if !rule.is_some_and(|rule| {
                    rule.way == Way::ToBrevo && !rule.leaves && !rule.users_only && !rule.source.is_figure()
                }) {
                    continue;
                }
                let value = standing(attribute, Some(value));
                let words = match &value {
                    Some(Value::String(text)) => text.clone(),
                    Some(other) => other.to_string(),
                    None => continue,
                };
                let kept = |conflict: &linkspan::store::listings::Conflict| {
                    // It is kept as JSON.
                    conflict.field.contains(attribute.as_str()) && conflict.lost.replace("\\\"", "\"").contains(&words)
                };
                if self.listed.conflicts.iter().any(kept) {
                    self.counts.push("outcome: a replaced value is kept".to_owned());
                } else {
                    let id = card.now.id;
                    self.wrong
                        .push(format!("P5: {attribute} of Brevo {id} was {words:?} by hand, and nothing keeps it"));
                }
            }
        }
    }

    /// Nobody is put back on a list that a colleague took them off, while the reason to be on it lasts.
    fn lists_left(&mut self, brevo: &BrevoSandbox) {
        let (users, leads) = (brevo.list_id("Users"), brevo.list_id("Leads"));
        for card in self.model.cards.values().filter(|card| !card.put_back.is_empty()) {
            let Some(address) = card.now.email.as_deref().map(normal) else { continue };
            if self.model.reloaded || !self.is_simple(&address, card) {
                continue;
            }
            let members = self.members(&address);
            let [(id, person)] = members[..] else { continue };
            let lasts = |list: i64| {
                (Some(list) == users && !person.was_lead && self.rules.users)
                    || (Some(list) == leads && person.lead && self.rules.leads)
            };
            if let Some(list) = card.put_back.iter().find(|list| lasts(**list)) {
                self.wrong.push(format!("P4: {id} was taken off list {list} in Brevo and was put on it again by us"));
            }
        }
    }

    /// Who has no address is in Brevo by their phone, or is listed.
    fn known_by_phone(&mut self) {
        let rule = self.rules.fields.iter().find(|rule| rule.source == Source::Phone && !rule.users_only);
        let Some(rule) = rule else { return };
        for (id, person) in &self.model.people {
            if !person.live || person.was_away || !person.addresses.is_empty() || !self.model.filter.takes(person) {
                continue;
            }
            let Ok(cells) = field_of(Source::Phone, person) else { continue };
            let Some(Some(digits)) = cells.first() else { continue };
            let has = |card: &&Card| standing("SMS", card.now.attributes.get("SMS")).as_ref() == Some(digits);
            let subject = format!("contact {id}");
            // A phone that a contact with an address has, say.
            let listed = self.listed.failures.iter().any(|failure| failure.subject == subject)
                || self.listed.notices.iter().any(|(kind, about, _)| *about == subject && kind != "without_email");
            // Two who have nothing but the same number are one person, and listed once.
            let gone_as_one = self.model.people.iter().any(|(other, theirs)| {
                let about_other = format!("contact {other}");
                let gone = |(kind, about, _): &(String, String, Option<String>)| {
                    *about == about_other && kind == "brevo_contact_gone"
                };
                let same = |cells: Vec<Option<Value>>| cells.first().is_some_and(|cell| cell.as_ref() == Some(digits));
                other != id
                    && theirs.live
                    && theirs.addresses.is_empty()
                    && field_of(Source::Phone, theirs).is_ok_and(same)
                    && self.listed.notices.iter().any(gone)
            });
            let listed = listed || gone_as_one;
            // Their contact had the number, until somebody took it away there or put another: drift that stays.
            let drifted = rule.leaves
                && self.model.cards.values().any(|card| {
                    !card.gone
                        && card.ours_since.is_some()
                        && digits.as_str().is_some_and(|digits| card.phones.contains(digits))
                        && card.hand.contains_key("SMS")
                        && !card.ours.contains_key("SMS")
                        && !self.is_linked(card)
                });
            if self.model.cards.values().any(|card| has(&card)) {
                self.counts.push("outcome: known by phone alone".to_owned());
            } else if drifted {
                self.counts.push("outcome: known by phone alone, and the number is another in Brevo".to_owned());
            } else if !listed && !self.model.reloaded {
                self.wrong.push(format!("P2: {id}, who has no address but the phone {digits}, is not in Brevo"));
            }
        }
    }

    /// Whether somebody live in Intercom has one of its addresses.
    fn is_linked(&self, card: &Card) -> bool {
        card.now.email.as_deref().map(normal).is_some_and(|address| !self.members(&address).is_empty())
    }

    /// P2: whom Brevo alone has is in Intercom, too, or is listed.
    fn newcomers(&mut self) {
        for card in self.model.cards.values().filter(|card| !card.gone && card.by_hand) {
            let Some(address) = card.now.email.as_deref().map(normal) else { continue };
            // Of those who were there once, another rule decides.
            let holders = self.model.holders.get(&address);
            let members = self.members(&address);
            let subject = format!("Brevo contact {}", card.now.id);
            let listed = self.listed.notices.iter().any(|(_, about, _)| *about == subject)
                || self.listed.failures.iter().any(|failure| failure.subject == subject);
            if members.iter().any(|(_, person)| person.made_by_us) {
                self.counts.push("outcome: in Intercom by our making".to_owned());
            } else if self.by_its_phone(&address, card).next().is_some() {
                self.counts.push("outcome: in Intercom by their phone".to_owned());
            } else if holders.is_none() && !listed && card.addresses.len() == 1 {
                let words = format!("P2: Brevo {} ({address}) is nobody in Intercom, and is not listed", card.now.id);
                self.wrong.push(words);
            }
        }
    }

    /// P6: nobody who only ever had addresses of their own has two Brevo contacts of our making.
    fn duplicates(&mut self) {
        let alone = |address: &String| self.model.holders.get(address).is_some_and(|holders| holders.len() == 1);
        let mut wrong = Vec::new();
        for (id, person) in &self.model.people {
            if !person.live || person.was_away || person.addresses.len() < 2 || !person.addresses.iter().all(alone) {
                continue;
            }
            let theirs = |card: &Card| card.addresses.iter().any(|address| person.addresses.contains(address));
            let ours: Vec<(i64, &Option<String>)> = self
                .model
                .cards
                .values()
                // Neither vendor can write "only if unchanged", and an import's row goes by its address: where people take
                // that away from the contact that has it while the row is queued, it makes a contact.
                // And one that somebody gave this address in Brevo was not made for it.
                .filter(|card| !card.gone && !card.by_hand && !card.made_unknowing && !card.renamed_by_hand)
                .filter(|card| theirs(card))
                .map(|card| (card.now.id, &card.now.email))
                .collect();
            if ours.len() > 1 {
                wrong.push(format!("P6: {id} has {ours:?} in Brevo"));
            }
        }
        self.wrong.append(&mut wrong);
    }
}

pub fn show(cells: &[Option<Value>]) -> String {
    let cells: Vec<String> =
        cells.iter().map(|cell| cell.as_ref().map_or_else(|| "nothing".to_owned(), Value::to_string)).collect();
    cells.join(" + ")
}
