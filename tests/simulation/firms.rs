//! The checker for companies that have objects in Brevo: what people gave on each side, which of Brevo's companies we made for
//! which of Intercom's, whom people linked by hand, and what must stand in the end. It shares nothing with the engine.

use super::companies::{FirmRule, Firms, OURS, Source};
use super::model::{Cause, Found, GAP, Listed};
use super::people::normal;
use super::world::{Way, Wins};
use linkspan::model::SideName;
use linkspan::sandbox::brevo::{BrevoSandbox, ShownCompany};
use linkspan::sandbox::intercom::IntercomSandbox;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Sides that have agreed for so long, and were both shown to the program since, have agreed for it, too.
const LONG: i64 = 1_200_000;

/// So long after a request the program takes what it sees for a late one of its own.
const LATE: i64 = 180_000;

/// Intercom's side, and Brevo's.
const SIDES: [usize; 2] = [0, 1];
const NAMES: [&str; 2] = ["Intercom", "Brevo"];

/// As both sides can be compared: numbers as numbers, nothing as nothing.
fn plain(value: Option<&Value>) -> Value {
    match value {
        Some(Value::Number(number)) => number.as_f64().map_or(Value::Null, Value::from),
        Some(Value::String(text)) if text.is_empty() => Value::Null,
        Some(value) => value.clone(),
        None => Value::Null,
    }
}

/// What Intercom's company holds.
fn held(shown: &Value, source: Source) -> Value {
    match source.path().strip_prefix("custom_attributes.") {
        Some(name) => plain(shown["custom_attributes"].get(name)),
        None => plain(shown.get(source.path())),
    }
}

/// What a person gave on one side, while it stands there.
#[derive(Debug, Clone)]
struct Gave {
    /// When the program was first shown it.
    told: Option<i64>,
    /// The other side has held the same since.
    crossed: bool,
    /// The other side held nothing at some time since.
    beside_blank: bool,
    /// It is what the program was shown last: that it had been something else meanwhile nobody told.
    unchanged: bool,
}

/// One side of a field.
#[derive(Debug, Clone, Default)]
struct Half {
    stands: Value,
    gave: Option<Gave>,
    /// What a person gave last, and when, whether or not it stands.
    last: Option<(i64, Value)>,
    /// What was there by our doing, or with the other's agreement.
    known: Value,
    /// And before that: whoever goes back to it, unseen or before it was carried, has not edited it.
    earlier: Value,
    /// When the program was last shown what stands.
    told: Option<i64>,
    /// What the program was shown last.
    shown: Value,
    /// A person edited it since both agreed.
    edited: bool,
    /// A write of ours replaced what a person gave before the program could know of it.
    lost_unseen: bool,
}

/// One field of a pair.
#[derive(Debug, Clone, Default)]
struct Field {
    halves: [Half; 2],
    equal_since: Option<i64>,
    /// What both sides held, for long.
    agreed: Option<Value>,
}

impl Half {
    fn knows(&mut self, value: Value) {
        if self.known != value {
            self.earlier = std::mem::replace(&mut self.known, value);
        }
    }
}

impl Field {
    fn agrees_for_long(&self, now: i64) -> bool {
        let Some(since) = self.equal_since.filter(|since| *since <= now - LONG) else { return false };
        self.halves.iter().all(|half| half.told.is_some_and(|told| told > since + 2 * GAP && told < now - GAP))
    }

    /// A side has come to hold something else. What was lost of a person's though the program knew of it.
    fn stands(&mut self, side: usize, value: Value, by_hand: bool, left_at: i64, now: i64) -> Option<Value> {
        if self.halves[side].stands == value {
            return None;
        }
        if by_hand && self.agrees_for_long(now) {
            self.agreed = Some(self.halves[side].stands.clone());
            for half in &mut self.halves {
                (half.edited, half.lost_unseen) = (false, false);
                half.known = half.stands.clone();
            }
        }
        let other = self.halves[1 - side].stands.clone();
        let half = &mut self.halves[side];
        let old = std::mem::replace(&mut half.stands, value.clone());
        let given = half.gave.take();
        half.told = None;
        let mut lost = None;
        if by_hand {
            half.edited = true;
            half.lost_unseen = false;
            half.last = Some((now, value.clone()));
            half.gave = Some(Gave {
                told: None,
                crossed: false,
                beside_blank: other.is_null(),
                unchanged: half.shown == value,
            });
        } else {
            if let Some(gave) = given.filter(|gave| !gave.crossed) {
                if gave.told.is_none_or(|told| told >= left_at - GAP) {
                    half.lost_unseen = true;
                } else if !old.is_null()
                    && old != half.known
                    && old != half.earlier
                    && !gave.beside_blank
                    && !gave.unchanged
                {
                    lost = Some(old);
                }
            }
            half.knows(value);
        }
        self.compare(now);
        lost
    }

    fn compare(&mut self, now: i64) {
        let equal = self.halves[0].stands == self.halves[1].stands;
        let blank = self.halves.iter().any(|half| half.stands.is_null());
        self.equal_since = if equal { self.equal_since.or(Some(now)) } else { None };
        for half in &mut self.halves {
            if let Some(gave) = &mut half.gave {
                gave.crossed |= equal;
                gave.beside_blank |= blank;
            }
            if equal {
                half.knows(half.stands.clone());
            }
        }
    }

    fn told(&mut self, side: usize, shown: &Value, now: i64) {
        let beside_blank = self.halves[1 - side].shown.is_null();
        let half = &mut self.halves[side];
        half.shown = shown.clone();
        if half.stands != *shown {
            return;
        }
        half.told = Some(now);
        if let Some(gave) = &mut half.gave {
            gave.told.get_or_insert(now);
            // As far as the program knew.
            gave.beside_blank |= beside_blank;
        }
    }
}

/// A company of Intercom's.
#[derive(Debug, Clone, Default)]
struct Company {
    live: bool,
    /// When the program was first shown that it is gone.
    told_gone: Option<i64>,
    /// The program was shown it.
    told: bool,
    /// The filter left it out last, or at some time.
    out: bool,
    ever_out: bool,
    /// It took part at some time.
    ever_in: bool,
    fields: BTreeMap<Source, Field>,
    /// Brevo's contacts of its members.
    members: BTreeSet<i64>,
    /// Brevo's company that we made for it first.
    card: Option<String>,
}

/// A company of Brevo's.
#[derive(Debug, Clone)]
struct Card {
    now: ShownCompany,
    gone: bool,
    /// The program knows its id.
    told: bool,
    by_hand: bool,
    /// Which of Intercom's it is, by our making.
    company: Option<String>,
    /// The domain leaves it out, now or at some time.
    ever_out: bool,
    out: bool,
    /// Whom a person linked who has been no member since.
    by_hand_linked: BTreeSet<i64>,
    /// Whom a person linked, and who was a member since, or had just been taken off by us: theirs or ours.
    either: BTreeSet<i64>,
    /// When we took whom off.
    taken_off: BTreeMap<i64, i64>,
}

/// What is known of companies.
#[derive(Default)]
pub struct Ledger {
    firms: Option<Firms>,
    companies: BTreeMap<String, Company>,
    cards: BTreeMap<String, Card>,
    import_left: i64,
    /// Values of people's that we replaced though we had been shown them: company, side, value, attribute.
    replaced: Vec<(String, usize, Value, Source)>,
}

impl Firms {
    /// Whether what we write to one of Intercom's companies may travel there.
    pub fn lets(&self, body: &Value) -> bool {
        let back = |path: &str| self.rules.iter().any(|rule| rule.way != Way::ToBrevo && rule.source.path() == path);
        body.as_object().is_some_and(|body| {
            body.iter().all(|(key, value)| match value.as_object().filter(|_| key == "custom_attributes") {
                Some(all) => all.keys().all(|name| back(&format!("custom_attributes.{name}"))),
                None => back(key),
            })
        })
    }
}

/// The contacts of Brevo that Intercom's contacts are, by their addresses.
fn members(intercom: &IntercomSandbox, brevo: &BrevoSandbox) -> BTreeMap<String, BTreeSet<i64>> {
    let contacts = brevo.contacts();
    let addresses: BTreeMap<String, i64> =
        contacts.iter().filter_map(|contact| Some((normal(contact.email.as_deref()?), contact.id))).collect();
    let mut members: BTreeMap<String, BTreeSet<i64>> = BTreeMap::new();
    for id in intercom.contact_ids() {
        let companies = intercom.contact_companies(&id);
        if companies.is_empty() {
            continue;
        }
        let email = intercom.glance(&id).and_then(|shown| shown.email.as_deref().map(normal));
        let Some(contact) = email.and_then(|email| addresses.get(&email)) else { continue };
        for company in companies {
            members.entry(company).or_default().insert(*contact);
        }
    }
    members
}

impl Ledger {
    pub fn of(&mut self, firms: Option<Firms>) {
        self.firms = firms;
    }

    /// What stands on both sides now, with whoever changed it.
    pub fn look(&mut self, cause: &Cause, intercom: &IntercomSandbox, brevo: &BrevoSandbox, now: i64) -> Found {
        let mut found = Found::new();
        let Some(firms) = self.firms.clone() else { return found };
        let (by_hand, left_at) = match cause {
            Cause::Hand(_) => (true, now),
            Cause::Ours { left_at, what, done, .. } => {
                if *done && what.ends_with("/companies/import") {
                    self.import_left = *left_at;
                }
                (false, *left_at)
            }
            Cause::Landing => (false, self.import_left),
        };
        // Of requests, only those about companies change any; but contacts come and go with others.
        self.look_at_intercom(&firms, intercom, by_hand, left_at, now, &mut found);
        self.look_at_brevo(&firms, brevo, by_hand, left_at, now, &mut found);
        let mut members = members(intercom, brevo);
        for (id, company) in &mut self.companies {
            company.members = members.remove(id).unwrap_or_default();
            let Some(card) = company.card.as_ref().and_then(|card| self.cards.get_mut(card)) else { continue };
            for member in &company.members {
                if card.by_hand_linked.remove(member) {
                    card.either.insert(*member);
                }
            }
        }
        found
    }

    fn look_at_intercom(
        &mut self,
        firms: &Firms,
        intercom: &IntercomSandbox,
        by_hand: bool,
        left_at: i64,
        now: i64,
        found: &mut Found,
    ) {
        let live: BTreeSet<String> = intercom.company_ids().into_iter().collect();
        for (id, company) in self.companies.iter_mut().filter(|(id, company)| company.live && !live.contains(*id)) {
            company.live = false;
            if !by_hand {
                found.push((true, format!("Intercom company {id} was deleted by us")));
            }
        }
        for id in live {
            let Some(shown) = intercom.company(&id) else { continue };
            if !by_hand && !self.companies.contains_key(&id) {
                found.push((true, format!("Intercom company {id} was made by us")));
            }
            let company = self.companies.entry(id.clone()).or_default();
            company.live = true;
            company.out = firms.sifts && shown["custom_attributes"]["segment"] == "out";
            company.ever_out |= company.out;
            company.ever_in |= !company.out;
            for rule in &firms.rules {
                let field = company.fields.entry(rule.source).or_default();
                if let Some(lost) = field.stands(0, held(&shown, rule.source), by_hand, left_at, now) {
                    self.replaced.push((id.clone(), 0, lost, rule.source));
                }
            }
        }
    }

    fn look_at_brevo(
        &mut self,
        firms: &Firms,
        brevo: &BrevoSandbox,
        by_hand: bool,
        left_at: i64,
        now: i64,
        found: &mut Found,
    ) {
        let shown = brevo.companies();
        let live: BTreeSet<&str> = shown.iter().map(|card| card.id.as_str()).collect();
        for (id, card) in self.cards.iter_mut().filter(|(id, card)| !card.gone && !live.contains(id.as_str())) {
            card.gone = true;
            if !by_hand {
                found.push((true, format!("Brevo company {id} was deleted by us")));
            }
        }
        for shown in shown {
            let id = shown.id.clone();
            if !self.cards.contains_key(&id) {
                self.made(&shown, by_hand, left_at, found);
            }
            let Some(card) = self.cards.get_mut(&id) else { continue };
            card.out = firms.sifts_back && shown.attributes.get("domain").is_some_and(|domain| domain == "out.example");
            card.ever_out |= card.out;
            let before = std::mem::replace(&mut card.now, shown.clone());
            let linked: Vec<i64> = shown.contacts.difference(&before.contacts).copied().collect();
            let unlinked: Vec<i64> = before.contacts.difference(&shown.contacts).copied().collect();
            let changed = before.attributes != shown.attributes || !linked.is_empty();
            for contact in unlinked {
                // (A contact that is deleted leaves by itself.)
                if card.by_hand_linked.remove(&contact) && !by_hand && brevo.contact(contact).is_some() {
                    found
                        .push((true, format!("Brevo company {id}: {contact} was linked by hand, and taken off by us")));
                }
                card.either.remove(&contact);
                if !by_hand {
                    card.taken_off.insert(contact, now);
                }
            }
            if by_hand {
                for contact in linked {
                    // Until then a late request of ours may have linked them.
                    let just_taken_off = card.taken_off.get(&contact).is_some_and(|at| *at > now - LATE);
                    if just_taken_off { &mut card.either } else { &mut card.by_hand_linked }.insert(contact);
                }
            } else if changed && card.by_hand {
                found.push((true, format!("P6: Brevo company {id} is somebody else's, and was written to by us")));
            }
            let Some(company) = card.company.as_ref().and_then(|company| self.companies.get_mut(company)) else {
                continue;
            };
            if !by_hand && changed && company.told_gone.is_some_and(|told| told < left_at - LONG) {
                // (A request that was throttled may wait for a while before it leaves once more.)
                found.push((true, format!("Brevo company {id} was written to, and Intercom's is gone")));
            }
            for rule in &firms.rules {
                let field = company.fields.entry(rule.source).or_default();
                let value = plain(shown.attributes.get(rule.source.attribute()));
                if let Some(lost) = field.stands(1, value, by_hand, left_at, now) {
                    self.replaced.push((card.company.clone().unwrap_or_default(), 1, lost, rule.source));
                }
            }
        }
    }

    /// A company is there in Brevo that was not.
    fn made(&mut self, shown: &ShownCompany, by_hand: bool, left_at: i64, found: &mut Found) {
        let id = shown.id.clone();
        let ours = shown.attributes.get(OURS).and_then(Value::as_str).map(str::to_owned);
        let mut card = Card {
            now: ShownCompany { contacts: BTreeSet::new(), ..shown.clone() },
            gone: false,
            told: false,
            by_hand,
            company: None,
            ever_out: false,
            out: false,
            by_hand_linked: BTreeSet::new(),
            either: BTreeSet::new(),
            taken_off: BTreeMap::new(),
        };
        if by_hand
            && let Some((ours, company)) = ours
                .as_ref()
                .and_then(|ours| Some((ours, self.companies.get_mut(ours).filter(|company| company.card.is_none())?)))
        {
            // Somebody has joined the two: from then on it is as if we had made it.
            (card.by_hand, card.company, company.card) = (false, Some(ours.clone()), Some(id.clone()));
        } else if !by_hand {
            card.company.clone_from(&ours);
            match ours.as_ref().and_then(|ours| self.companies.get_mut(ours)) {
                None => found.push((true, format!("P6: Brevo company {id} was made for none of Intercom's: {ours:?}"))),
                Some(company) => {
                    let ours = ours.unwrap_or_default();
                    match company.card.as_ref().and_then(|earlier| self.cards.get(earlier)) {
                        Some(earlier) if !earlier.gone => {
                            found.push((
                                true,
                                format!("P6: company {ours} was made twice in Brevo: {}, {id}", earlier.now.id),
                            ));
                        }
                        Some(earlier) if earlier.told => {
                            let words = format!(
                                "P6: company {ours} was deleted in Brevo as {}, and made again",
                                earlier.now.id
                            );
                            found.push((true, words));
                        }
                        Some(_) => found.push((false, "outcome: made again, for it was deleted unseen".to_owned())),
                        None => found.push((false, "outcome: a company made in Brevo".to_owned())),
                    }
                    if company.told_gone.is_some_and(|told| told < left_at - GAP) {
                        found.push((true, format!("company {ours} is gone in Intercom, and was made in Brevo")));
                    }
                    if !company.ever_in {
                        found.push((true, format!("company {ours} never took part, and was made in Brevo")));
                    }
                    company.card = Some(id.clone());
                    // What stood in one that was made before is of the past.
                    for field in company.fields.values_mut() {
                        field.halves[1] = Half::default();
                    }
                }
            }
        }
        self.cards.insert(id, card);
    }

    /// What an answer has told the program.
    pub fn told(&mut self, is_brevo: bool, path: &str, body: &[u8], now: i64) {
        if self.firms.is_none() || !path.contains("/companies") {
            return;
        }
        let Ok(body) = serde_json::from_slice::<Value>(body) else { return };
        let many = ["items", "data", "companies"].iter().find_map(|name| body[*name].as_array());
        for shown in many.unwrap_or(&vec![body.clone()]) {
            let Some(id) = shown["id"].as_str() else { continue };
            if is_brevo {
                self.told_card(id, shown, now);
            } else {
                self.told_company(id, shown, now);
            }
        }
    }

    fn told_card(&mut self, id: &str, shown: &Value, now: i64) {
        let Some(card) = self.cards.get_mut(id) else { return };
        card.told = true;
        let Some(company) = card.company.as_ref().and_then(|company| self.companies.get_mut(company)) else { return };
        if !shown["attributes"].is_object() {
            return;
        }
        for (source, field) in &mut company.fields {
            field.told(1, &plain(shown["attributes"].get(source.attribute())), now);
        }
    }

    fn told_company(&mut self, id: &str, shown: &Value, now: i64) {
        let Some(company) = self.companies.get_mut(id) else { return };
        company.told = true;
        for (source, field) in &mut company.fields {
            field.told(0, &held(shown, *source), now);
        }
    }

    /// A vendor knows nothing of it.
    pub fn told_gone(&mut self, path: &str, now: i64) {
        let id = path.rsplit_once("/companies/").map(|(_, id)| id).unwrap_or_default();
        if let Some(company) = self.companies.get_mut(id).filter(|company| !company.live) {
            company.told_gone.get_or_insert(now);
        }
    }

    /// A notification of Intercom's was answered with 2xx.
    pub fn acknowledged(&mut self, topic: &str, body: &[u8], now: i64) {
        if self.firms.is_none() || !topic.starts_with("company.") {
            return;
        }
        let Ok(body) = serde_json::from_slice::<Value>(body) else { return };
        let item = &body["data"]["item"];
        let item = if item["company"].is_object() { &item["company"] } else { item };
        let Some(id) = item["id"].as_str() else { return };
        if topic == "company.deleted" {
            self.told_gone(&format!("/companies/{id}"), now);
        } else {
            self.told_company(id, item, now);
        }
    }

    /// What must hold in the end: what does not, and what came up.
    pub fn check(
        &mut self,
        listed: &Listed,
        intercom: &IntercomSandbox,
        brevo: &BrevoSandbox,
    ) -> (Vec<String>, Vec<String>) {
        let (mut wrong, mut counts) = (Vec::new(), Vec::new());
        let Some(firms) = self.firms.clone() else { return (wrong, counts) };
        let visible: BTreeSet<String> =
            intercom.contact_ids().iter().flat_map(|contact| intercom.contact_companies(contact)).collect();
        for (id, company) in &self.companies {
            let cards: Vec<&Card> = self
                .cards
                .values()
                .filter(|card| !card.gone && !card.by_hand && card.company.as_ref() == Some(id))
                .collect();
            if cards.len() > 1 {
                wrong.push(format!("P6: {} companies in Brevo are Intercom's {id}", cards.len()));
            }
            let ours = |card: &&Card| card.now.attributes.get(OURS).and_then(Value::as_str) == Some(id);
            if let Some(card) = cards.iter().find(|card| !ours(card)) {
                wrong.push(format!("P6: Brevo company {} does not say that it is Intercom's {id}", card.now.id));
            }
            if !company.live {
                counts.push(format!(
                    "outcome: gone in Intercom, {}",
                    if cards.is_empty() { "never made" } else { "stays in Brevo" }
                ));
                continue;
            }
            let Some(card) = cards.first() else {
                let deleted = company.card.is_some();
                let seen = company.told || visible.contains(id);
                if deleted {
                    counts.push("outcome: deleted in Brevo, and not made again".to_owned());
                } else if company.out {
                    counts.push("outcome: left out by the filter, not made in Brevo".to_owned());
                } else if !seen {
                    counts.push("outcome: a company that nobody shows".to_owned());
                } else {
                    wrong.push(format!("P2: company {id} is not in Brevo"));
                }
                continue;
            };
            for rule in &firms.rules {
                if let Some(field) = company.fields.get(&rule.source) {
                    let path = format!("company.{} ->", rule.source.path());
                    let about = |failure: &&linkspan::store::listings::Failure| {
                        failure.subject == format!("company {id}") && failure.field.starts_with(&path)
                    };
                    if listed.failures.iter().any(|failure| about(&failure)) {
                        counts.push("outcome: a company's field is refused, listed".to_owned());
                        continue;
                    }
                    let intercoms = &field.halves[0];
                    if !visible.contains(id) && (!company.told || intercoms.shown != intercoms.stands) {
                        // Intercom lists no company without people, and the notification was lost.
                        counts.push("outcome: a change that nobody shows".to_owned());
                        continue;
                    }
                    let what = Judged {
                        rule,
                        field,
                        out: [card.out, company.out],
                        ever_out: card.ever_out || company.ever_out,
                    };
                    match what.judge() {
                        Err(words) => wrong
                            .push(format!("P2: company {id} ({}), {:?}: {words}; {field:?}", card.now.id, rule.source)),
                        Ok(words) => counts.push(format!("outcome: {words}")),
                    }
                }
            }
            if company.out {
                counts.push("outcome: left out by the filter, stays in Brevo".to_owned());
            } else {
                Self::links(id, company, card, brevo, &mut wrong, &mut counts);
            }
        }
        for (company, side, value, source) in &self.replaced {
            let of = |conflict: &&linkspan::store::listings::Conflict| {
                let where_it_stood = usize::from(conflict.side == SideName::Brevo);
                conflict.link < 0 && where_it_stood == *side && mentions(&conflict.lost, value)
            };
            let rule = firms.rule(*source);
            // What was left as it is was agreed on by that.
            if rule.is_some_and(|rule| rule.way != Way::Both && rule.leaves) {
                continue;
            }
            if listed.conflicts.iter().any(|conflict| of(&conflict)) {
                counts.push(format!("outcome: a company's value replaced in {} is kept", NAMES[*side]));
            } else {
                let words =
                    format!("P5: company {company}: {value} was replaced in {}, and nothing keeps it", NAMES[*side]);
                wrong.push(words);
            }
        }
        (wrong, counts)
    }

    fn links(
        id: &str,
        company: &Company,
        card: &Card,
        brevo: &BrevoSandbox,
        wrong: &mut Vec<String>,
        counts: &mut Vec<String>,
    ) {
        let shown = &card.now.contacts;
        for missing in company.members.difference(shown) {
            wrong.push(format!("P2: contact {missing} is not linked with Brevo company {} ({id})", card.now.id));
        }
        for _ in company.members.intersection(shown) {
            counts.push("outcome: a member is linked".to_owned());
        }
        for other in shown.difference(&company.members) {
            if card.by_hand_linked.contains(other) {
                counts.push("outcome: linked by hand, stays".to_owned());
            } else if !card.either.contains(other) {
                wrong.push(format!("P2: contact {other} is still linked with Brevo company {} ({id})", card.now.id));
            }
        }
        for gone in card.by_hand_linked.difference(shown).filter(|contact| brevo.contact(**contact).is_some()) {
            wrong.push(format!(
                "contact {gone} was linked with Brevo company {} by hand, and is not any more",
                card.now.id
            ));
        }
    }
}

fn any(kept: &Value, same: &dyn Fn(&Value) -> bool) -> bool {
    same(kept)
        || kept.as_array().is_some_and(|all| all.iter().any(|kept| any(kept, same)))
        || kept.as_object().is_some_and(|all| all.values().any(|kept| any(kept, same)))
}

/// Whether a value is in what the conflict log keeps, which is JSON.
fn mentions(kept: &str, value: &Value) -> bool {
    let number = value.as_f64();
    let Ok(kept) = serde_json::from_str::<Value>(kept) else { return false };
    let same = |kept: &Value| kept == value || (number.is_some() && kept.as_f64() == number);
    any(&kept, &same)
}

/// One field of a pair, in the end.
struct Judged<'a> {
    rule: &'a FirmRule,
    field: &'a Field,
    /// Nothing is written to this side.
    out: [bool; 2],
    ever_out: bool,
}

impl Judged<'_> {
    fn judge(&self) -> Result<&'static str, String> {
        let Self { rule, field, .. } = self;
        let [intercom, brevo] = &field.halves;
        let stand = [&intercom.stands, &brevo.stands];
        match rule.way {
            Way::ToBrevo => self.one_way(0)?,
            Way::ToIntercom => self.one_way(1)?,
            Way::Both if self.out.contains(&true) => return Ok("left out by a filter"),
            Way::Both if stand[0] != stand[1] => {
                if rule.clears || stand.iter().all(|value| !value.is_null()) {
                    return Err("the sides differ".to_owned());
                }
            }
            Way::Both => {}
        }
        if self.ever_out || field.agreed.is_none() {
            return Ok("a company's field agrees");
        }
        let gives = |side: usize| rule.way == Way::Both || (rule.way == Way::ToBrevo) == (side == 0);
        let edited = SIDES.map(|side| field.halves[side].edited);
        for side in SIDES.into_iter().filter(|side| gives(*side) && edited[*side] && !edited[1 - *side]) {
            let half = &field.halves[side];
            if half.lost_unseen {
                return Ok("edited on one side, overwritten in the gap");
            }
            let Some((_, value)) = &half.last else { continue };
            if *value == half.earlier {
                return Ok("gone back to what stood there before");
            }
            if *value != half.stands {
                return Err(format!("{value} was given in {} alone, and does not stand there", NAMES[side]));
            }
            return Ok("edited on one side, and carried");
        }
        if rule.way == Way::Both && edited == [true, true] {
            self.conflict()?;
            return Ok("edited on both sides");
        }
        Ok("a company's field agrees")
    }

    /// What travels from this side only.
    fn one_way(&self, from: usize) -> Result<(), String> {
        let Self { rule, field, out, .. } = self;
        let (source, target) = (&field.halves[from], &field.halves[1 - from]);
        if out[1 - from] || source.stands == target.stands {
            return Ok(());
        }
        let by_hand = target.gave.is_some();
        if source.stands.is_null() {
            // What a person put on the target of nothing is never blanked, nor what was there before anything was agreed.
            return if !rule.clears || by_hand || field.agreed.as_ref().is_none_or(Value::is_null) {
                Ok(())
            } else {
                Err(format!("was cleared in {}, and stands on the other side", NAMES[from]))
            };
        }
        if rule.leaves && by_hand {
            Ok(())
        } else {
            Err(format!("what {} gives does not stand on the other side", NAMES[from]))
        }
    }

    /// Both sides were edited since they agreed.
    fn conflict(&self) -> Result<(), String> {
        let Self { rule, field, .. } = self;
        let [intercom, brevo] = &field.halves;
        let (Some((i_at, i)), Some((b_at, b))) = (&intercom.last, &brevo.last) else { return Ok(()) };
        let stands = &intercom.stands;
        if stands != i && stands != b && !stands.is_null() {
            // An older one of either may have been carried just before the other was edited.
            let cleared = i.is_null() || b.is_null();
            return if cleared || intercom.lost_unseen || brevo.lost_unseen {
                Ok(())
            } else {
                Err("neither side's last value stands".to_owned())
            };
        }
        let (winner, at, other_at, value) = match rule.wins {
            Wins::Intercom | Wins::Newest(false) => (intercom, i_at, b_at, i),
            Wins::Brevo | Wins::Newest(true) => (brevo, b_at, i_at, b),
        };
        let sure = at > other_at && !winner.lost_unseen && !value.is_null() && Some(value) != field.agreed.as_ref();
        if sure && stands != value {
            return Err(format!("{value} was given later on the side that wins, and does not stand"));
        }
        Ok(())
    }
}
