//! Fields and tags that travel to Intercom: what people gave on each side, what the engine was shown of it, and what must
//! stand in the end. It shares nothing with the engine.

use super::crossing::SOURCES;
use super::ending::{Cells, End, same, show, standing, text};
use super::model::{Card, GAP, Model, Person};
use super::people::{NAMES, PHONES, normal};
use super::world::{Rule, Rules, Setting, Source, Way, Wins};
use linkspan::model::SideName;
use linkspan::sandbox::brevo::Contact;
use linkspan::sandbox::intercom::IntercomSandbox;
use serde_json::Value;
use std::collections::BTreeMap;

/// Sides that have agreed for so long have been seen to, whatever went wrong meanwhile.
const LONG: i64 = 1_200_000;
/// What changed so long before a list of Intercom's contacts, or of Brevo's, that or an earlier one has shown: they overlap.
const OVERLAPS: [i64; 2] = [960_000, 180_000];
/// For so long after it landed an answer may be waited for.
const UNANSWERED: i64 = 35_000;

/// What a person gave last.
#[derive(Debug, Clone)]
pub struct Gave {
    at: i64,
    cells: Cells,
    /// When the engine was first shown it.
    told: Option<i64>,
    /// When the other side was first seen to agree with it.
    crossed: Option<i64>,
    /// A write of ours replaced it before the engine could know of it.
    lost_unseen: bool,
    /// The other side held nothing meanwhile: where that one alone gives, it is accepted as it is.
    beside_blank: bool,
    /// It is what had stood there before a write of ours: when that left, and when it landed.
    back: Option<(i64, i64)>,
    /// What stood there before.
    before: Cells,
    /// Somebody had edited it already since both sides had agreed for long.
    edited: bool,
    /// What they had given before that, if nothing of it was shown.
    earlier: Option<Box<Gave>>,
}

/// One side of a field.
#[derive(Debug, Clone, Default)]
pub struct Half {
    stands: Cells,
    gave: Option<Gave>,
    /// The last that was not blank.
    value: Option<Cells>,
    /// A person blanked it.
    blanked: bool,
    /// What a write of ours has made of what a person gave just before.
    mixed: Option<Cells>,
    /// All that people gave.
    ever: Vec<Cells>,
    /// Somebody edited it since both sides had agreed for long.
    edited: bool,
    /// What stood there before the last write of ours; when that left, and when it landed.
    before_ours: Option<(Cells, i64, i64)>,
}

impl Half {
    fn stands(&mut self, cells: Cells, by_hand: bool, left_at: i64, now: i64) -> Option<(Cells, bool)> {
        if self.stands == cells {
            return None;
        }
        let old = std::mem::replace(&mut self.stands, cells.clone());
        if by_hand {
            let blank = is_blank(&cells);
            self.blanked |= blank && !is_blank(&old);
            if !blank {
                self.value = Some(cells.clone());
            }
            self.ever.push(cells.clone());
            let edited = std::mem::replace(&mut self.edited, true);
            let back = self.before_ours.take().filter(|(before, ..)| *before == cells);
            let back = back.map(|(_, left_at, landed)| (left_at, landed));
            if self.is_back(&cells) {
                return None;
            }
            let mut earlier = self.gave.take();
            if let Some(shown) = earlier.as_mut().filter(|earlier| earlier.told.is_some()) {
                shown.earlier = None;
            }
            let earlier = earlier.map(Box::new);
            let (told, crossed, before) = (None, None, old);
            let (lost_unseen, beside_blank) = (false, false);
            let at = now;
            self.gave =
                Some(Gave { at, cells, told, crossed, lost_unseen, beside_blank, back, before, edited, earlier });
            return None;
        }
        self.before_ours = Some((old.clone(), left_at, now));
        if let Some(gave) = &mut self.gave {
            // Whoever goes back now goes back from what we wrote.
            (gave.before, gave.earlier) = (Cells::new(), None);
        }
        let gave = self.gave.as_mut().filter(|gave| gave.cells == old && gave.crossed.is_none())?;
        if gave.told.is_none_or(|told| told >= left_at - GAP) {
            gave.lost_unseen = true;
            // Only what differed was sent: a part of a name that came in between stays beside it.
            self.mixed = Some(cells).filter(|cells| cells.len() > 1);
            return None;
        }
        Some((old, gave.beside_blank))
    }

    /// Whether somebody gives what had stood there before all that the engine was not shown: they were there and back, and
    /// nobody can know. Then what counts is what had been given before that.
    fn is_back(&mut self, cells: &Cells) -> bool {
        let mut gave = self.gave.as_ref();
        while let Some(unseen) = gave.filter(|gave| gave.told.is_none()) {
            let earlier = unseen.earlier.as_deref();
            if unseen.before == *cells {
                // Nor have they edited it.
                self.edited = unseen.edited;
                self.gave = earlier.cloned();
                return true;
            }
            gave = earlier;
        }
        false
    }

    /// What the engine was last shown of what has been given, where somebody has given something else since.
    fn known(&mut self) -> Option<&mut Gave> {
        let mut gave = self.gave.as_mut().filter(|gave| gave.told.is_none())?.earlier.as_deref_mut();
        while let Some(earlier) = gave {
            if earlier.told.is_some() {
                return Some(earlier);
            }
            gave = earlier.earlier.as_deref_mut();
        }
        None
    }

    /// `of`: what is shown is of that time.
    fn shown(&mut self, cells: &Cells, of: i64, now: i64) {
        if let Some(gave) = self.gave.as_mut().filter(|gave| gave.cells == *cells && gave.at <= of) {
            gave.told.get_or_insert(now);
        }
    }

    fn gave_any(&self) -> impl Iterator<Item = &Cells> {
        self.gave.iter().map(|gave| &gave.cells).chain(&self.value).chain(&self.mixed)
    }
}

/// A field of a person.
#[derive(Debug, Clone, Default)]
pub struct Pair {
    intercom: Half,
    brevo: Half,
    card: Option<i64>,
    /// People had edited the contact before it was the person's.
    old: bool,
    /// It had more than one contact in Brevo.
    muddled: bool,
    agreed_since: Option<i64>,
    /// Through a hand, on this side.
    met: Option<SideName>,
    /// They have agreed for long once, and that was seen to.
    once: bool,
    /// Values of people's that we replaced though we had been shown them.
    replaced: Vec<(SideName, Cells, bool)>,
    /// What Intercom shows, as it was typed.
    typed: Option<Value>,
    /// What the engine was last shown of that.
    shown: Option<Value>,
}

/// All of them, by the Intercom contact.
#[derive(Debug, Default)]
pub struct Between {
    pairs: BTreeMap<(String, Source), Pair>,
    /// When somebody gave a person the tag last.
    tagged: BTreeMap<String, i64>,
    untagged: BTreeMap<String, i64>,
    vip: BTreeMap<String, bool>,
    /// When contacts were last listed: Intercom's, Brevo's.
    listed_at: [Option<i64>; 2],
    /// What was looked at last, so that only what changes is looked at again.
    looked: BTreeMap<String, (BTreeMap<Source, Value>, Option<Contact>)>,
    /// For each request, what it is about.
    pub counts: Vec<&'static str>,
}

fn is_blank(cells: &Cells) -> bool {
    cells.iter().all(Option::is_none)
}

/// Whether all that stood there stands there still, and more beside it.
fn is_filled_up(before: &Cells, now: &Cells) -> bool {
    before.len() == now.len() && before.iter().zip(now).all(|(before, now)| before.is_none() || before == now)
}

/// What Intercom shows, without what does not matter.
fn held(source: Source, value: &Value) -> Cells {
    vec![match source {
        Source::Seats => Some(value.clone()).filter(|value| !value.is_null()),
        Source::Admin => Some(Value::from(value.as_bool() == Some(true))).filter(|value| *value == true),
        _ => text(value).map(|text| Value::from(text.split_whitespace().collect::<Vec<_>>().join(" "))),
    }]
}

fn of_card(source: Source, card: &Card) -> Cells {
    shown_by(source, |name| card.now.attributes.get(name))
}

/// Whether it was this contact that gave what stands in Intercom.
fn gave(source: Source, mine: &Cells, card: &Card) -> bool {
    let by_hand = |name: &&str| {
        let mut values = card.hand.get(*name).into_iter().flatten();
        values.any(|value| agree(source, mine, &shown_by(source, |other| (other == *name).then_some(value))))
    };
    agree(source, mine, &of_card(source, card)) || source.attributes().iter().any(by_hand)
}

fn shown_by<'a>(source: Source, attribute: impl Fn(&str) -> Option<&'a Value>) -> Cells {
    let cell = |name: &&str| standing(name, attribute(name)).filter(|value| *value != false);
    source.attributes().iter().map(cell).collect()
}

fn field_of(source: Source, shown: &Value) -> &Value {
    match source {
        Source::Name => &shown["name"],
        Source::Phone => &shown["phone"],
        Source::Tier => &shown["custom_attributes"]["plan_tier"],
        Source::Seats => &shown["custom_attributes"]["seats"],
        _ => &shown["custom_attributes"]["is_admin"],
    }
}

/// The Brevo contact that we made somebody of, where it was deleted while the request was on its way, and nobody could know:
/// another that takes its place (a row of an import of ours makes one) is not their first.
fn made_of(person: &Person, cards: &BTreeMap<i64, Card>) -> Option<i64> {
    let email = person.email.as_ref().filter(|_| person.made_by_us)?;
    let unknown = |card: &&Card| card.told_gone.is_none_or(|told| told > person.back_at - GAP);
    let mut gone = cards.values().rev().filter(|card| card.gone && card.addresses.contains(email));
    gone.find(unknown).map(|card| card.now.id)
}

/// The parts of a name, as Intercom shows them.
fn joined(parts: &Cells) -> String {
    parts.iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>().join(" ")
}

/// What was typed, as Brevo shows it.
fn digits(typed: &str) -> Option<&str> {
    let known = PHONES.iter().find(|(phone, _)| *phone == typed).and_then(|(_, digits)| *digits);
    known.or(typed.strip_prefix('+'))
}

/// Whether both, of the same side, are one value on the other: a number typed in two ways, a name divided in two ways.
fn alike(source: Source, one: &Cells, other: &Cells) -> bool {
    let number = |cells: &Cells| {
        let typed = cells.first().and_then(Option::as_ref).and_then(Value::as_str);
        typed.and_then(digits).map(str::to_owned)
    };
    match source {
        Source::Name => joined(one) == joined(other),
        Source::Phone => one == other || number(one).is_some_and(|digits| number(other) == Some(digits)),
        _ => one == other,
    }
}

/// Whether what stands in one is what the rule makes of the other, or its way back.
fn agree(source: Source, intercom: &Cells, brevo: &Cells) -> bool {
    let Some(value) = intercom.first().cloned().flatten() else { return is_blank(brevo) };
    match source {
        Source::Name => {
            let parts = joined(brevo);
            let whole = value.as_str().unwrap_or_default();
            let typed = |name: &str| name.split_whitespace().collect::<Vec<_>>().join(" ");
            let known = NAMES.iter().find(|(name, _, _)| typed(name) == whole);
            let part = |part: &str| Some(Value::from(part)).filter(|_| !part.is_empty());
            typed(&parts) == whole || known.is_some_and(|(_, first, last)| *brevo == [part(first), part(last)])
        }
        Source::Phone => {
            let typed = value.as_str().unwrap_or_default();
            let digits = digits(typed);
            digits.is_some() && brevo.first().and_then(Option::as_ref).and_then(Value::as_str) == digits
        }
        _ => same(Some(&value), brevo.first().and_then(Option::as_ref)),
    }
}

impl Between {
    /// What stands on both sides now, and through whom.
    pub fn look(
        &mut self,
        people: &BTreeMap<String, Person>,
        cards: &BTreeMap<i64, Card>,
        by_hand: bool,
        left_at: i64,
        now: i64,
    ) {
        let by_address: BTreeMap<String, &Card> = cards
            .values()
            .filter(|card| !card.gone)
            .filter_map(|card| Some((normal(card.now.email.as_deref()?), card)))
            .collect();
        let listed_at = self.listed_at;
        for (id, person) in people.iter().filter(|(_, person)| person.live) {
            let vip = person.tags.contains("VIP");
            if self.vip.insert(id.clone(), vip).unwrap_or(false) != vip && by_hand {
                if vip { &mut self.tagged } else { &mut self.untagged }.insert(id.clone(), now);
            }
            let card = person.email.as_ref().and_then(|email| by_address.get(email));
            let looked = self.looked.get(id);
            if looked
                .is_some_and(|(values, shown)| *values == person.values && shown.as_ref() == card.map(|card| &card.now))
            {
                continue;
            }
            let had = if looked.is_none() && card.is_none() { made_of(person, cards) } else { None };
            self.looked.insert(id.clone(), (person.values.clone(), card.map(|card| card.now.clone())));
            for source in SOURCES {
                let pair = self.pairs.entry((id.clone(), source)).or_default();
                pair.card = pair.card.or(had);
                let mine = held(source, person.values.get(&source).unwrap_or(&Value::Null));
                let theirs = card.map(|card| of_card(source, card));
                if pair.intercom.stands.is_empty() && is_blank(&mine) {
                    pair.intercom.stands.clone_from(&mine);
                }
                // A no is held like nothing, and one space like two; but in Intercom each is a value, and who says it has edited.
                let typed = person.values.get(&source).cloned().unwrap_or_default();
                let another = pair.typed.replace(typed.clone()).is_some_and(|before| before != typed);
                let said = another && by_hand && pair.intercom.stands == mine;
                if !said
                    && pair.intercom.stands == mine
                    && theirs.as_ref().is_none_or(|theirs| pair.brevo.stands == *theirs)
                {
                    continue;
                }
                let moved = usize::from(!said && pair.intercom.stands == mine);
                let side = SideName::BOTH[moved];
                // Where a hand made them agree, nobody has looked at the other side: until it has been listed, what comes
                // there may be from before that.
                let seen = |since: i64| {
                    let listed = listed_at[moved].is_some_and(|at| at > since + OVERLAPS[moved]);
                    listed || pair.met.is_none_or(|met| met == side)
                };
                // An agreement of long standing ends: what comes now is judged by it.
                if pair.agreed_since.is_some_and(|since| since < now - LONG && seen(since))
                    && card.is_some_and(|card| card.ours_since.is_some_and(|since| since < now - LONG))
                {
                    (pair.intercom.edited, pair.brevo.edited, pair.once) = (false, false, true);
                }
                if said {
                    // What both sides agree on is another thing from now on.
                    (pair.intercom.edited, pair.agreed_since) = (true, None);
                    if let Some(gave) = &mut pair.intercom.gave {
                        (gave.at, gave.cells) = (now, mine.clone());
                        (gave.told, gave.crossed, gave.lost_unseen) = (None, None, false);
                        (gave.before, gave.earlier) = (Cells::new(), None);
                    }
                }
                let back_at_nothing = by_hand && is_blank(&mine);
                if let Some((lost, alone)) = pair.intercom.stands(mine, by_hand, left_at, now) {
                    pair.replaced.push((SideName::Intercom, lost, alone));
                }
                // Who says no where nothing stood when the engine looked last has edited that, whatever came in between.
                pair.intercom.edited |= back_at_nothing && pair.shown.as_ref().is_some_and(|shown| *shown != typed);
                if let (Some(card), Some(theirs)) = (card, theirs) {
                    pair.muddled |= pair.card.is_some_and(|id| id != card.now.id);
                    let by_hand_before = || source.attributes().iter().any(|name| card.hand.contains_key(*name));
                    pair.old |= pair.card.is_none() && by_hand_before();
                    pair.card = Some(card.now.id);
                    if pair.brevo.stands.is_empty() && is_blank(&theirs) {
                        pair.brevo.stands.clone_from(&theirs);
                    }
                    // Nobody loses the part of a name that a first link leaves as it is, and puts the other part beside.
                    let first = card.ours_since == Some(now);
                    if let Some((lost, alone)) = pair.brevo.stands(theirs, by_hand, left_at, now)
                        && !(first && is_filled_up(&lost, &pair.brevo.stands))
                    {
                        pair.replaced.push((SideName::Brevo, lost, alone));
                    }
                    let (mine, theirs) = (is_blank(&pair.intercom.stands), is_blank(&pair.brevo.stands));
                    for (gave, blank) in [(&mut pair.intercom.gave, theirs), (&mut pair.brevo.gave, mine)] {
                        if let Some(gave) = gave {
                            gave.beside_blank |= blank;
                        }
                    }
                    // As far as the engine knew.
                    let unseen = pair.brevo.gave.as_ref().is_some_and(|gave| gave.told.is_none());
                    if let Some(gave) = pair.intercom.gave.as_mut().filter(|gave| gave.at == now && unseen) {
                        gave.beside_blank = true;
                    }
                    if agree(source, &pair.intercom.stands, &pair.brevo.stands) {
                        if pair.agreed_since.is_none() {
                            // What was there before the first list is looked at then.
                            pair.met = Some(side).filter(|_| by_hand && listed_at[1 - moved].is_some());
                        }
                        pair.agreed_since.get_or_insert(now);
                        for gave in [&mut pair.intercom.gave, &mut pair.brevo.gave].into_iter().flatten() {
                            gave.crossed.get_or_insert(now);
                        }
                    } else {
                        pair.agreed_since = None;
                    }
                }
            }
        }
    }

    /// The engine was shown a list of a side's contacts.
    pub fn listed(&mut self, is_brevo: bool, now: i64) {
        self.listed_at[usize::from(is_brevo)] = Some(now);
    }

    /// The engine was shown an Intercom contact as it was then: a notification may be late, and shows what somebody has gone
    /// back to since as they had it before.
    pub fn told_intercom(&mut self, shown: &Value, of: i64, now: i64) {
        let Some(id) = shown["id"].as_str() else { return };
        for source in SOURCES {
            if let Some(pair) = self.pairs.get_mut(&(id.to_owned(), source)) {
                let mine = held(source, field_of(source, shown));
                pair.intercom.shown(&mine, of, now);
                // Both agree, for all that the engine can know. Should somebody go back to that before it is shown what came
                // in between, nobody has given it anew.
                if pair.intercom.stands == mine
                    && let Some(theirs) = pair.brevo.known().filter(|theirs| agree(source, &mine, &theirs.cells))
                {
                    theirs.crossed.get_or_insert(now);
                }
                pair.shown = Some(field_of(source, shown).clone());
            }
        }
    }

    /// The engine was shown a Brevo contact.
    pub fn told_brevo(&mut self, id: i64, shown: &Value, now: i64) {
        for ((_, source), pair) in self.pairs.iter_mut().filter(|(_, pair)| pair.card == Some(id)) {
            let cells = shown_by(*source, |name| shown["attributes"].get(name));
            pair.brevo.shown(&cells, now, now);
            if pair.brevo.stands == cells
                && let Some(mine) = pair.intercom.known().filter(|mine| agree(*source, &mine.cells, &cells))
            {
                mine.crossed.get_or_insert(now);
            }
        }
    }

    /// What a hand gave in Brevo, Intercom came to hold since, and the engine is now shown there: whose contact, and what.
    fn met(&self, shown: &Value) -> Vec<(i64, Source)> {
        let Some(id) = shown["id"].as_str() else { return Vec::new() };
        let met = |source: &Source| {
            let pair = self.pairs.get(&(id.to_owned(), *source))?;
            let gave = pair.brevo.gave.as_ref().filter(|gave| gave.cells == pair.brevo.stands)?;
            let mine = held(*source, field_of(*source, shown));
            (gave.crossed.is_some() && agree(*source, &mine, &gave.cells)).then_some((pair.card?, *source))
        };
        SOURCES.iter().filter_map(met).collect()
    }
}

impl Model {
    /// What a request of ours sets and a hand had set just so is what both sides agree on: an edit of nobody's any more.
    pub fn agreed_by_writing(&mut self, what: &str, body: &[u8]) {
        let id = what.strip_prefix("PUT ").and_then(|path| path.rsplit_once("/contacts/")).map(|(_, id)| id.parse());
        let Some(card) = id.and_then(Result::ok).and_then(|id: i64| self.cards.get_mut(&id)) else { return };
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        for (name, value) in body["attributes"].as_object().into_iter().flatten() {
            if card.edited.get(name).is_some_and(|edited| edited.value == *value) {
                card.edited.remove(name);
                card.ours.insert(name.clone(), value.clone());
            }
        }
    }

    /// So is what a hand had set in Brevo, and another one in Intercom, where the engine is shown it.
    pub fn agreed_by_showing(&mut self, shown: &Value) {
        for (id, source) in self.between.met(shown) {
            let Some(card) = self.cards.get_mut(&id) else { continue };
            for name in source.attributes() {
                if let Some(edited) = card.edited.remove(*name) {
                    card.ours.insert((*name).to_owned(), edited.value);
                }
            }
        }
    }
}

impl End<'_> {
    /// What is wrong with one field that may be written in Intercom.
    pub fn crossing(&mut self, rule: &Rule, members: &[(&String, &Person)], card: &Card, simple: bool) {
        let source = rule.source;
        let theirs = of_card(source, card);
        let name = source.path();
        let mut fine = self.refused(members, rule);
        if rule.users_only && members.iter().any(|(_, person)| person.was_lead) {
            return;
        }
        let mut shown = Vec::new();
        let mut given_elsewhere = false;
        for (id, person) in members {
            let mine = held(source, person.values.get(&source).unwrap_or(&Value::Null));
            let pair = self.model.between.pairs.get(&((*id).clone(), source));
            let blanked = |half: fn(&Pair) -> &Half| pair.is_some_and(|pair| half(pair).blanked);
            fine |= agree(source, &mine, &theirs);
            // A clear that stays where it was made.
            let stays = !rule.clears || self.model.reloaded || !simple;
            fine |= stays && is_blank(&mine) && (blanked(|pair| &pair.intercom) || !simple);
            fine |= stays && is_blank(&theirs) && (blanked(|pair| &pair.brevo) || !simple);
            // Part of a name that nobody gave here.
            fine |= !simple && source == Source::Name;
            // The contact that gave what stands was deleted, and another took its place (made by hand, or by a row of an import
            // that was still queued): what one without a value is linked to for the first time is never blanked.
            let deleted =
                |card: &Card| card.gone && person.email.as_ref().is_some_and(|its| card.addresses.contains(its));
            let anew = pair.is_some_and(|pair| pair.muddled) && self.model.cards.values().any(deleted);
            fine |= rule.way == Way::ToIntercom && anew && is_blank(&theirs);
            // The same where it was not deleted: somebody gave it another address, under which it was still the person's until
            // that other one came.
            let wandered = |other: &Card| {
                other.renamed_by_hand
                    && other.now.id != card.now.id
                    && person.email.as_ref().is_some_and(|its| other.addresses.contains(its))
                    && gave(source, &mine, other)
            };
            // And of whoever had no address, and was known by the number of another, until they came to the address of this one:
            // as long as nobody has given anything here since, which would be no first link's any more.
            let numbered = || {
                pair.is_none_or(|pair| pair.brevo.gave.is_none())
                    && self.others_by_number(person, card).any(|other| gave(source, &mine, other))
            };
            given_elsewhere |= rule.way == Way::ToIntercom
                && is_blank(&theirs)
                && !is_blank(&mine)
                && (self.model.cards.values().any(wandered) || numbered());
            fine |= given_elsewhere;
            if rule.way == Way::ToIntercom || self.model.reloaded {
                // Drift that stays, and a restore never blanks.
                let edited = pair.is_some_and(|pair| !pair.intercom.ever.is_empty());
                fine |= edited && (rule.leaves || self.model.reloaded || is_blank(&theirs));
                let edited = pair.is_some_and(|pair| !pair.brevo.ever.is_empty());
                fine |= edited && self.model.reloaded;
            }
            shown.push(show(&mine));
        }
        let whose =
            format!("{name} of {:?} (Brevo {})", members.iter().map(|(id, _)| *id).collect::<Vec<_>>(), card.now.id);
        if !fine {
            let (mine, theirs) = (shown.join(" or "), show(&theirs));
            self.wrong.push(format!("P2: {whose} is {mine} in Intercom and {theirs} in Brevo ({:?})", rule.way));
            return;
        }
        let [(id, person)] = members[..] else { return };
        let Some(pair) = self.model.between.pairs.get(&(id.clone(), source)) else { return };
        if !simple || pair.muddled || given_elsewhere || self.refused(members, rule) {
            return;
        }
        // What another contact gave while they were known by its number, and what of that was agreed on, was not looked at.
        let numbered = self.others_by_number(person, card).next().is_some();
        self.counts.push("checked between the sides".to_owned());
        if !pair.old && !numbered {
            self.given(rule, pair, &whose);
        }
        if !self.model.reloaded {
            self.decided(rule, pair, &whose);
            if !numbered {
                self.kept(rule, pair, &whose);
            }
        }
    }

    /// What stands is what a person gave last on one of the sides.
    fn given(&mut self, rule: &Rule, pair: &Pair, whose: &str) {
        let source = rule.source;
        let (mine, theirs) = (&pair.intercom.stands, &pair.brevo.stands);
        let reloaded = self.model.reloaded;
        let gave = |half: &'static str| {
            let half = if half == "intercom" { &pair.intercom } else { &pair.brevo };
            // A clear that stays where it was made leaves there what both had agreed on before, whatever stood for a moment
            // between that and the clear.
            let cleared = !rule.clears && is_blank(&half.stands);
            let ever = half.ever.iter().filter(|_| reloaded || cleared);
            half.gave_any().chain(ever).cloned().collect::<Vec<_>>()
        };
        // Where a changed rule lets the other side give, what this one had given it comes back over what stands here since, in
        // the words of the other: a number in E.164, however it was typed. Only what had it already is not written so.
        let came_back = |half: &Half| {
            let had = half.before_ours.as_ref().is_some_and(|(before, ..)| alike(source, before, &half.stands));
            let unseen = half.gave.as_ref().is_some_and(|gave| gave.lost_unseen);
            reloaded && (!had || unseen) && half.ever.iter().any(|cells| alike(source, cells, &half.stands))
        };
        let (here, there) = (gave("intercom"), gave("brevo"));
        let mine_known = here.contains(mine) || there.iter().any(|cells| agree(source, mine, cells));
        let theirs_known = there.contains(theirs) || here.iter().any(|cells| agree(source, cells, theirs));
        let known = (is_blank(mine) || mine_known || came_back(&pair.intercom))
            && (is_blank(theirs) || theirs_known || came_back(&pair.brevo));
        if !known {
            let words = format!("P5: {whose} is {} and {}, which nobody gave last", show(mine), show(theirs));
            self.wrong.push(words);
        }
    }

    /// Whose value stands.
    fn decided(&mut self, rule: &Rule, pair: &Pair, whose: &str) {
        let Pair { intercom, brevo, .. } = pair;
        let winner = match (rule.way, &intercom.gave, &brevo.gave) {
            (Way::ToBrevo, ..) => None,
            (Way::ToIntercom, _, gave) => gave.as_ref().map(|gave| (SideName::Brevo, gave, "it alone gives")),
            (Way::Both, Some(gave), _) if pair.once && intercom.edited && !brevo.edited => {
                Some((SideName::Intercom, gave, "it alone was edited"))
            }
            (Way::Both, _, Some(gave)) if pair.once && brevo.edited && !intercom.edited => {
                Some((SideName::Brevo, gave, "it alone was edited"))
            }
            (Way::Both, Some(mine), Some(theirs)) => {
                let (side, gave, other) = match rule.wins {
                    Wins::Intercom => (SideName::Intercom, mine, theirs),
                    Wins::Brevo => (SideName::Brevo, theirs, mine),
                    Wins::Newest(_) => return,
                };
                let told = gave.told.filter(|_| !gave.lost_unseen);
                let first = gave.at < other.at;
                let before = told.is_some_and(|told| other.told.is_none_or(|other| told + GAP < other));
                let crossed = gave.crossed.is_some_and(|crossed| crossed <= other.at);
                let sure = told.is_some() && pair.once && (!first || (before && !crossed));
                // Who goes back to what stood there before a write of ours of which the program has no answer shows it just
                // what it would see if that had never landed.
                let unknown = |(left_at, landed): (i64, i64)| {
                    let unsettled = &self.model.unsettled;
                    unsettled.iter().any(|at| (left_at..landed + UNANSWERED).contains(at))
                };
                let sure = sure && !gave.back.is_some_and(unknown);
                sure.then_some((side, gave, "the rule says so"))
            }
            _ => None,
        };
        let Some((side, gave, why)) = winner else { return };
        let stands = if side == SideName::Intercom { &intercom.stands } else { &brevo.stands };
        if *stands == gave.cells || (is_blank(&gave.cells) && !rule.clears) {
            self.counts.push(format!("outcome: {why}"));
        } else {
            let (stands, gave) = (show(stands), show(&gave.cells));
            self.wrong.push(format!("P5: {whose} is {stands} in {side}, and was given {gave} there last: {why}"));
        }
    }

    /// A person's value that we replaced though we had been shown it can be looked up.
    fn kept(&mut self, rule: &Rule, pair: &Pair, whose: &str) {
        if rule.users_only || rule.way == Way::ToBrevo {
            return;
        }
        for (side, cells, alone) in &pair.replaced {
            if rule.way == Way::ToIntercom && (*alone || rule.leaves) {
                continue;
            }
            let word = |cell: &Value| cell.as_str().map_or_else(|| cell.to_string(), str::to_owned);
            let words: Vec<String> = cells.iter().flatten().map(word).collect();
            if words.is_empty() {
                continue;
            }
            let holds = |lost: &str| {
                // As typed: white space may be more, and a phone written otherwise.
                let lost = lost.split_whitespace().collect::<Vec<_>>().join(" ").replace("\\\"", "\"");
                rule.source == Source::Phone || words.iter().all(|word| lost.contains(word))
            };
            let kept = |conflict: &linkspan::store::listings::Conflict| {
                conflict.side == *side && conflict.field.contains(rule.source.path()) && holds(&conflict.lost)
            };
            if self.listed.conflicts.iter().any(kept) {
                self.counts.push(format!("outcome: a value replaced in {side} is kept"));
            } else {
                self.wrong.push(format!("P5: {whose} was {} in {side}, and nothing keeps it", words.join(" + ")));
            }
        }
    }

    /// A tag and its list.
    pub fn tag_and_list(&mut self, members: &[(&String, &Person)], card: &Card, list: i64, simple: bool) {
        let way = self.rules.vip_way;
        let on_it = card.now.list_ids.contains(&list);
        let tagged = members.iter().any(|(_, person)| person.tags.contains("VIP"));
        let [(id, person)] = members[..] else { return };
        if !simple
            || self.model.reloaded
            || self.listed.failures.iter().any(|failure| failure.subject == format!("contact {id}"))
        {
            return;
        }
        let between = &self.model.between;
        let (given, taken) = (between.tagged.get(id), between.untagged.get(id));
        let left = card.left_at(list);
        // A first link takes nothing away: the tag may be of a contact that had the address before this one, or that was theirs
        // by their number while they had no address.
        let listed = |other: &Card| other.now.list_ids.contains(&list) || other.listed_by_hand.contains(&list);
        let first =
            self.model.cards.values().any(|other| {
                other.now.id != card.now.id && other.gone && !other.addresses.is_disjoint(&card.addresses)
            }) || self.others_by_number(person, card).any(listed);
        let mut wrong = Vec::new();
        if on_it && !tagged && (way == Way::Both || taken.is_none()) && !card.gone {
            wrong.push("is on VIPs and has no tag");
        }
        if tagged && !on_it && way == Way::ToIntercom && given.is_none() && !first {
            wrong.push("has a tag that nobody gave, and is not on VIPs");
        }
        if tagged && !on_it && way == Way::Both && !card.unlisted_by_hand.contains(&list) {
            wrong.push("has the tag and is not on VIPs");
        }
        if tagged && !on_it && left.is_some_and(|left| given.is_none_or(|given| *given < left)) {
            wrong.push("left VIPs, or was taken off it, and kept the tag");
        }
        for what in wrong {
            self.wrong.push(format!("P2: {id} (Brevo {}) {what} ({way:?})", card.now.id));
        }
        self.counts.push("checked a tag with its list".to_owned());
    }
}

/// Writes to Intercom that must not be: those that say something else than what travels there.
pub fn written(intercom: &IntercomSandbox, rules: [&Rules; 2], setting: &Setting) -> Vec<String> {
    let gone = setting.on_delete.intercom;
    let opt_outs = setting.both || gone == "blocklist";
    let makes = setting.makes;
    let mut paths: Vec<&str> = Vec::new();
    for rules in rules {
        paths.extend(rules.fields.iter().filter(|rule| rule.way != Way::ToBrevo).map(|rule| rule.source.path()));
    }
    let tags = rules.iter().any(|rules| rules.vip && rules.vip_way != Way::ToBrevo);
    let lets = |body: &Value| {
        let Some(body) = body.as_object() else { return false };
        body.iter().all(|(key, value)| match key.as_str() {
            "unsubscribed_from_emails" if body.contains_key("role") => value == true,
            "unsubscribed_from_emails" => {
                let back = setting.both && setting.resubscribes && value == false;
                body.len() == 1 && (back || (opt_outs && value == true))
            }
            "email" => body.contains_key("role"),
            "role" => makes.is_some_and(|role| *value == role),
            "custom_attributes" => value
                .as_object()
                .is_some_and(|all| all.keys().all(|key| paths.contains(&format!("custom_attributes.{key}").as_str()))),
            key => paths.contains(&key),
        })
    };
    let wrong = |write: &&linkspan::sandbox::LoggedRequest| {
        let body: Value = serde_json::from_slice(&write.body).unwrap_or_default();
        !match (write.method.as_str(), write.template.as_str()) {
            ("PUT", "/contacts/{id}") => lets(&body) && body.get("role").is_none(),
            ("POST", "/contacts") => lets(&body) && body.get("role").is_some(),
            ("POST", "/data_attributes") => {
                paths.contains(&format!("custom_attributes.{}", body["name"].as_str().unwrap_or_default()).as_str())
            }
            ("POST", "/tags") => tags && body == serde_json::json!({"name": "VIP"}),
            ("PUT", "/companies/{id}") => setting.firms.as_ref().is_some_and(|firms| firms.lets(&body)),
            ("POST", "/contacts/{id}/archive") => gone == "archive",
            ("DELETE", "/contacts/{id}") => gone == "delete",
            ("POST", "/contacts/{id}/tags") | ("DELETE", "/contacts/{id}/tags/{tag_id}") => tags,
            _ => false,
        }
    };
    let words = |write: &linkspan::sandbox::LoggedRequest| {
        format!(
            "wrote to Intercom: {} {} ({}) {}",
            write.method,
            write.target,
            write.template,
            String::from_utf8_lossy(&write.body)
        )
    };
    intercom.log().writes().iter().filter(wrong).map(words).collect()
}
