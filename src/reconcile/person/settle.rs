//! What became of our writes: base and what is still on its way, once a read has shown the record.

use super::{Back, Base, Flights, LostValue, ResolvedList, nos};
use crate::mapping::{Direction, FieldRule, Mapping};
use crate::model::{BrevoContact, BrevoListId, Fields, SideName, Sides, Value};
use crate::reconcile::consent::ConsentBase;
use crate::reconcile::fields::{self, Cells, FieldBase};
use crate::reconcile::lists::ListBase;
use std::collections::BTreeMap;

/// Why a value was lost that somebody gave after a write of ours had left.
const LANDED_LATE: &str = "given after a write of ours had left, which landed later";

/// Base after a write that is known not to have landed (a row that an import lost), so that the fields it set are planned
/// again. `before`: what had been agreed on when it left: for those holds that again, also where the source is cleared by now.
/// Where nothing had been, or the write replaced what nobody had agreed to and that has been logged, what stood there is
/// nobody's loss.
pub fn forget_unlanded(base: &Base, before: &Base, flights: &Flights) -> Base {
    let mut base = base.clone();
    for (key, writes) in &flights.fields {
        let Some(write) = &writes.brevo else { continue };
        if let Some(agreed) = before.fields.get(key).filter(|_| write.replaces.is_none()) {
            base.fields.insert(key.clone(), agreed.clone());
            continue;
        }
        // No cell at all is no value: whatever Intercom shows is to be taken along.
        let agreed = Sides { intercom: Vec::new(), brevo: write.before.clone() };
        base.fields.insert(key.clone(), FieldBase { agreed, ..FieldBase::default() });
    }
    for list in flights.lists.keys() {
        base.lists.remove(list);
    }
    // A row says no for nobody but whom it makes: the no of somebody who was there was answered for itself. One that its person
    // had brought is theirs, whatever became of the row.
    if flights.opted_out && flights.email.is_some() {
        base.consent = before.consent;
    }
    base
}

/// What was agreed on about the fields of a Brevo contact, for whoever takes it over in an exchange of addresses: what stands
/// there counts as unchanged and what Intercom shows of them as news, also that it shows nothing; what that replaces is
/// logged. What nobody in Intercom had given is planned as at a first link.
pub fn handed_over(base: &Base) -> BTreeMap<String, FieldBase> {
    let given = base.fields.iter().filter(|(_, field)| {
        let intercom = &field.agreed.intercom;
        // No cell: it has been handed over before, and not been given anew since.
        !field.rule.is_empty() && (intercom.is_empty() || intercom.iter().any(Option::is_some))
    });
    given
        .map(|(key, field)| {
            let agreed = Sides { intercom: Cells::new(), brevo: field.agreed.brevo.clone() };
            let overrun = Some(SideName::Brevo);
            (key.clone(), FieldBase { rule: field.rule.clone(), agreed, overrun, ..FieldBase::default() })
        })
        .collect()
}

/// What an import's row has put into a contact that it made, because the one that it was sent for was not there any
/// more. None of that is anybody's but ours: it counts as unchanged, and what Intercom shows of it as news, also that it
/// shows nothing. The row may carry along what only the other contact had.
pub fn made_by_row(flights: &Flights, contact: &BrevoContact, mapping: &Mapping) -> Base {
    let mut base = Base::default();
    for rule in &mapping.rules {
        let Some(write) = flights.field(SideName::Brevo, &rule.key) else { continue };
        let shown = rule.observed(&contact.attributes);
        if shown.iter().any(Option::is_some) && fields::same_on(SideName::Brevo, &write.sent, &shown) {
            base.fields.insert(rule.key.clone(), put_by_a_row(rule, shown));
        }
    }
    for (list, joined) in &flights.lists {
        if *joined && contact.lists.contains(list) {
            base.lists.insert(*list, ListBase { wanted: true, member: true });
        }
    }
    base
}

/// Base after a row that was to make a contact has run into one that an earlier row, of which nobody knew what became, may have
/// made: what stands there in place of what this one was to set is nobody's edit. It counts as unchanged, and what Intercom shows
/// by now goes over it; should somebody have given it all the same, it is in the conflict log.
pub fn made_by_an_earlier_row(base: &Base, contact: &BrevoContact, mapping: &Mapping) -> Base {
    let mut base = base.clone();
    for rule in mapping.rules.iter().filter(|rule| rule.direction != Direction::BrevoToIntercom) {
        let shown = rule.observed(&contact.attributes);
        let Some(field) = base.fields.get_mut(&rule.key).filter(|field| field.rule == rule.fingerprint) else {
            continue;
        };
        let sent = &field.agreed.brevo;
        if sent.iter().any(Option::is_some) && !fields::same_on(SideName::Brevo, sent, &shown) {
            *field = put_by_a_row(rule, shown);
        }
    }
    base
}

/// The same where nothing was to make the contact any more, and all that is known is that an earlier row has: of what is there
/// of the person in Intercom (`record`).
pub fn made_by_a_late_row(base: &Base, record: &Fields, contact: &BrevoContact, mapping: &Mapping) -> Base {
    let mut base = base.clone();
    for rule in mapping.rules.iter().filter(|rule| rule.direction != Direction::BrevoToIntercom) {
        let shown = rule.observed(&contact.attributes);
        if rule.source_value(record).is_some() && shown.iter().any(Option::is_some) {
            base.fields.insert(rule.key.clone(), put_by_a_row(rule, shown));
        }
    }
    base
}

/// What stands in Brevo is nobody's but ours, and what it was made of is not known any more.
fn put_by_a_row(rule: &FieldRule, shown: Cells) -> FieldBase {
    let (agreed, overrun) = (Sides { intercom: Cells::new(), brevo: shown }, Some(SideName::Brevo));
    FieldBase { rule: rule.fingerprint.clone(), agreed, overrun, ..FieldBase::default() }
}

/// What writes to this side replace, or have replaced, although nobody had agreed to it, and no answer has told yet.
pub fn not_logged_yet(flights: &Flights, side: SideName) -> Vec<LostValue> {
    let lost = flights.fields.keys().filter_map(|key| {
        let write = flights.field(side, key)?;
        let (lost, rule) = write.replaces.clone()?;
        Some(LostValue { field: key.clone(), side, lost, kept: write.sent.clone(), rule })
    });
    lost.collect()
}

/// What became of our writes, once a read that began after the time in which a late request can still land shows the
/// contact as it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Settled {
    /// Base as the observation corrects it.
    pub base: Base,
    /// What is still to be watched.
    pub flights: Flights,
    /// Rules whose value Brevo would not take.
    pub refused: Vec<String>,
    /// What a write without an answer has replaced although nobody had agreed to it.
    pub lost: Vec<LostValue>,
    /// Somebody has edited what we had written: what was waited for counts now.
    pub edited: bool,
}

/// Settles the writes on their way to Brevo against what Brevo shows. `answered`: Brevo had answered the write with
/// success; a write without an answer that did not land is simply planned again, never taken for a refusal.
pub fn settle(base: &Base, flights: &Flights, answered: bool, contact: &BrevoContact, mapping: &Mapping) -> Settled {
    let mut settled =
        settle_fields(base, flights, (SideName::Brevo, answered), mapping, |rule| rule.observed(&contact.attributes));
    let base = &mut settled.base;
    if !answered {
        nos::keep_new_nos(base, flights, contact, mapping);
    }
    for (list, joined) in &flights.lists {
        let member = contact.lists.contains(list);
        let answered = (answered || is_agreed(base, *list, *joined)) && !is_turned(flights, contact, *list, *joined);
        match base.lists.get_mut(list) {
            // Who has left it since had been put on it.
            Some(agreed) if answered => agreed.member = member || (*joined && contact.lists_left.contains(list)),
            // Whether it landed or not: who is on the list is there by our rule, and who is not was taken off by nobody.
            _ if !answered => drop(base.lists.insert(*list, ListBase { wanted: member, member })),
            _ => {}
        }
    }
    if (!answered && flights.may_loosen || flights.renamed_late(contact)) && base.email.is_some() {
        // Perhaps it was a rename, and has landed (or an earlier one after it): that is nobody's edit.
        base.email.clone_from(&contact.email);
    }
    // An opt-out that did not stick, or a blocklisting that our write lifted, stays ours to mend.
    let still_loose = (flights.may_loosen || flights.opted_out)
        && base.consent.is_some_and(|consent| consent.brevo_out)
        && !contact.consent.email_opted_out();
    // The same of one that is to be brought here.
    let brings_sms_no =
        flights.brings_sms_no && base.sms.is_some_and(|sms| sms.brevo_out) && !contact.consent.sms_opted_out;
    let Flights { fields, tags, .. } = settled.flights;
    Settled {
        flights: Flights { fields, tags, may_loosen: still_loose, brings_sms_no, ..Flights::default() },
        ..settled
    }
}

/// Whether an earlier request of ours has landed once more, after another that did the opposite with the list: nobody else has
/// moved the contact. (Not so who unsubscribed from it: no request of ours does that.)
fn is_turned(flights: &Flights, contact: &BrevoContact, list: BrevoListId, joined: bool) -> bool {
    let left = joined && contact.lists_left.contains(&list);
    flights.list_may_turn(list, joined) && contact.lists.contains(&list) != joined && !left
}

/// Whether base holds of a list, or of the tag that goes with it, what a write was to make of it: an answer has said that it
/// was done, and it is watched along with a later write that has none. (Nobody is put on a list who was wanted there before,
/// and so on: without its answer, base is another.)
fn is_agreed(base: &Base, list: BrevoListId, on: bool) -> bool {
    base.lists.get(&list) == Some(&ListBase { wanted: on, member: on })
}

/// What became of lists for which a request of the contact's own was answered (a row of an import may have failed for
/// itself). Brevo refuses none in silence: who is not on one that was joined, or is on one that was left, has been
/// taken off, or put on, since. Agreed on is what was answered, so that this counts as an edit where a tag follows the
/// list. `answered`: all of them were; else those of which base, as it was settled, still wants what was answered. `true`:
/// there is any.
pub fn lists_have_moved(base: &mut Base, flights: &Flights, contact: &BrevoContact, answered: bool) -> bool {
    let mut moved = false;
    for (list, joined) in flights.lists.iter().filter(|(list, joined)| contact.lists.contains(*list) != **joined) {
        if is_turned(flights, contact, *list, *joined) {
            continue;
        }
        if let Some(agreed) = base.lists.get_mut(list).filter(|agreed| answered || agreed.wanted == *joined) {
            agreed.member = *joined;
            moved = true;
        }
    }
    moved
}

/// Brevo shows all of what the writes on their way to it were to set, and nothing else is on its way: [`settle`] would
/// leave base as it was planned, and nothing to be watched.
pub fn landed_as_sent(flights: &Flights, contact: &BrevoContact, mapping: &Mapping) -> bool {
    let fields = || {
        flights.fields.iter().all(|(key, writes)| {
            let rule = mapping.rules.iter().find(|rule| rule.key == *key);
            match (rule, &writes.brevo, &writes.intercom) {
                (Some(rule), Some(write), None) => {
                    fields::same_on(SideName::Brevo, &write.sent, &rule.observed(&contact.attributes))
                }
                _ => false,
            }
        })
    };
    let loose = flights.may_loosen || flights.opted_out;
    let lists = || flights.lists.iter().all(|(list, joined)| contact.lists.contains(list) == *joined);
    !loose && flights.tags.is_empty() && lists() && fields()
}

/// Whether a side was last seen to hold what somebody may have given there since a write of ours: what they gave waits until a
/// read settles that. And as long as an earlier write is looked out for, whoever gives just its value is taken for it; so it is
/// of whoever moves a contact on a list, or a tag, as an earlier request may.
pub fn is_in_doubt(
    flights: &Flights,
    side: SideName,
    mapping: &Mapping,
    observed: impl Fn(&FieldRule) -> Cells,
) -> bool {
    let may_turn = match side {
        SideName::Brevo => flights.lists.iter().any(|(list, joined)| flights.list_may_turn(*list, *joined)),
        SideName::Intercom => flights.tags.iter().any(|(list, given)| flights.tag_may_turn(*list, *given)),
    };
    may_turn
        || mapping.rules.iter().any(|rule| {
            flights.field(side, &rule.key).is_some_and(|write| {
                let taken_for_ours = rule.direction == Direction::Both && !write.superseded.is_empty();
                taken_for_ours || fields::judge(side, write, &observed(rule)) == fields::Verdict::Edited
            })
        })
}

/// What people gave on a side after writes of ours had left, as it was last shown there, and in whose place one of those stands
/// by now: it has landed late, or once more, and nobody had agreed to that.
pub fn overrun(
    flights: &Flights,
    side: SideName,
    mapping: &Mapping,
    before: impl Fn(&FieldRule) -> Cells,
    now: impl Fn(&FieldRule) -> Cells,
) -> Vec<LostValue> {
    let mut overrun = Vec::new();
    for rule in &mapping.rules {
        let Some(write) = flights.field(side, &rule.key) else { continue };
        let (lost, kept) = (before(rule), now(rule));
        let stands = fields::judge(side, write, &kept);
        let given = match fields::judge(side, write, &lost) {
            fields::Verdict::Edited => true,
            // Both were given that: it may have been shown before the write left that stands in its place now.
            fields::Verdict::Adopted => write.given && stands == fields::Verdict::Superseded,
            // A no in Brevo is what nothing is, which had stood there.
            fields::Verdict::Refused => nos::is_new(write, &lost),
            fields::Verdict::Superseded => false,
        };
        let ours = matches!(stands, fields::Verdict::Adopted | fields::Verdict::Superseded);
        if given && ours && lost.iter().any(Option::is_some) {
            let (field, rule) = (rule.key.clone(), LANDED_LATE.to_owned());
            overrun.push(LostValue { field, side, lost, kept, rule });
        }
    }
    overrun
}

/// Whether a contact shows nothing of the fields that a row of ours was to set, though it was to set some: then somebody else
/// has made it, and the row, which came later, has left it alone. (Lists say nothing: who is there already is put on them.)
pub fn shows_nothing_of(flights: &Flights, contact: &BrevoContact, mapping: &Mapping) -> bool {
    // An import drops a no.
    let is_set = |cell: &Option<Value>| !matches!(cell, None | Some(Value::Boolean(false)));
    let mut sets = false;
    for rule in &mapping.rules {
        let write = flights.field(SideName::Brevo, &rule.key);
        let Some(write) = write.filter(|write| write.sent.iter().any(is_set)) else { continue };
        let shown = rule.observed(&contact.attributes);
        // Of a name, somebody may have edited a part since; and a long text may have been cut off.
        let shows_part = write.sent.iter().zip(&shown).any(|(sent, shown)| is_set(sent) && sent == shown);
        if shows_part || fields::judge(SideName::Brevo, write, &shown) == fields::Verdict::Adopted {
            return false;
        }
        sets = true;
    }
    sets
}

/// Whether a contact that a row of ours has made shows what the row has no part in: somebody's edit of a field that travels
/// to Intercom, of a list, or an opt-out. Nothing was linked to it yet when that was shown. `base`: what the row agreed on.
pub fn shows_another(base: &Base, contact: &BrevoContact, mapping: &Mapping) -> bool {
    let edited = |rule: &FieldRule| {
        let shown = rule.observed(&contact.attributes);
        match base.fields.get(&rule.key) {
            Some(field) => !fields::same_on(SideName::Brevo, &field.agreed.brevo, &shown),
            None => shown.iter().any(Option::is_some),
        }
    };
    let out = |base: Option<ConsentBase>, shown: bool| shown && !base.is_some_and(|base| base.brevo_out);
    out(base.consent, contact.consent.email_opted_out())
        || out(base.sms, contact.consent.sms_opted_out)
        || base.lists.iter().any(|(list, agreed)| contact.lists.contains(list) != agreed.member)
        || mapping.rules.iter().filter(|rule| rule.direction != Direction::IntercomToBrevo).any(edited)
}

/// As [`settle`], for the writes on their way to Intercom, against what the contact's record shows there. What is on its way
/// to Brevo stays.
pub fn settle_intercom(
    base: &Base,
    flights: &Flights,
    answered: bool,
    record: &Fields,
    mapping: &Mapping,
    resolved: &[ResolvedList<'_>],
) -> Settled {
    let mut settled =
        settle_fields(base, flights, (SideName::Intercom, answered), mapping, |rule| vec![rule.source_value(record)]);
    settled.flights.tags.clear();
    settled.flights.repeated_tags.clear();
    for (list, given) in &flights.tags {
        let Some(found) = resolved.iter().find(|resolved| resolved.list == *list) else { continue };
        let wanted = found.rule.holds(record);
        let is_turned = wanted != *given && flights.tag_may_turn(*list, *given);
        if !is_turned && (answered || is_agreed(base, *list, *given)) {
            // Intercom refuses no tag in silence: it has been given or taken away since, and that is an edit.
            settled.edited |= wanted != *given;
        } else {
            // Whether it landed or not, or an earlier one once more: nobody but us has touched the tag.
            settled.base.lists.insert(*list, ListBase { wanted, member: wanted });
        }
    }
    settled
}

/// Writes on their way to Intercom, once the answer to one has shown the record: what it took, it did not refuse. Whoever
/// goes back to the value before has edited it.
pub fn seen_in_answer(flights: &Flights, written: &Back, record: &Fields, mapping: &Mapping) -> Flights {
    let mut flights = flights.clone();
    for rule in mapping.rules.iter().filter(|rule| written.rules.contains(&rule.key)) {
        if let Some(write) = flights.fields.get_mut(&rule.key).and_then(|writes| writes.intercom.as_mut())
            && fields::judge(SideName::Intercom, write, &vec![rule.source_value(record)]) == fields::Verdict::Adopted
        {
            write.before.clone_from(&write.sent);
        }
    }
    flights
}

/// The same for writes on their way to Brevo, where its answer shows what stands there (of companies it does), or a read that
/// began after it.
pub fn seen_in_brevos_answer(flights: &Flights, shown: &Fields, mapping: &Mapping) -> Flights {
    let mut flights = flights.clone();
    for rule in &mapping.rules {
        if let Some(write) = flights.fields.get_mut(&rule.key).and_then(|writes| writes.brevo.as_mut())
            && fields::judge(SideName::Brevo, write, &rule.observed(shown)) == fields::Verdict::Adopted
        {
            write.before.clone_from(&write.sent);
        }
    }
    flights
}

fn settle_fields(
    base: &Base,
    flights: &Flights,
    (side, answered): (SideName, bool),
    mapping: &Mapping,
    observed: impl Fn(&FieldRule) -> Cells,
) -> Settled {
    let mut settled =
        Settled { base: base.clone(), flights: flights.clone(), refused: Vec::new(), lost: Vec::new(), edited: false };
    settled.flights.fields.retain(|_, writes| {
        writes[side] = None;
        writes[side.other()].is_some()
    });
    for (key, writes) in &flights.fields {
        let Some(write) = &writes[side] else { continue };
        let Some(rule) = mapping.rules.iter().find(|rule| rule.key == *key) else {
            // The rule is gone since it left, and nothing tells what became of it: what it may have replaced is kept.
            if let (false, Some((lost, rule))) = (answered, &write.replaces) {
                let (field, kept) = (key.clone(), write.sent.clone());
                settled.lost.push(LostValue { field, side, lost: lost.clone(), kept, rule: rule.clone() });
            }
            continue;
        };
        let observed = observed(rule);
        let verdict = fields::judge(side, write, &observed);
        // Also where somebody has edited it since, or an earlier write of ours stands there: whether this one had
        // landed before is not known, and if it had, nothing else tells what it replaced.
        if let (false, Some((lost, rule))) = (answered, &write.replaces)
            && (verdict == fields::Verdict::Adopted || !fields::same_on(side, lost, &observed))
        {
            let (field, kept) = (key.clone(), write.sent.clone());
            settled.lost.push(LostValue { field, side, lost: lost.clone(), kept, rule: rule.clone() });
        }
        settled.edited |= verdict == fields::Verdict::Edited;
        let fields = &mut settled.base.fields;
        let unknown = fields.get(key).is_none_or(|agreed| agreed.rule.is_empty());
        if verdict == fields::Verdict::Adopted
            && !write.given
            && (unknown || !answered)
            && (!unknown || write.sent.iter().any(Option::is_some))
        {
            // A write of unknown outcome has landed. What it was made of is not known any more, and it may have changed
            // since, or be what was agreed on before: whatever the source shows, or that it shows nothing, is news.
            let agreed = Sides::with(side, observed, Cells::new());
            fields.insert(key.clone(), FieldBase { rule: rule.fingerprint.clone(), agreed, ..FieldBase::default() });
            continue;
        }
        let Some(agreed) = fields.get_mut(key) else { continue };
        match verdict {
            fields::Verdict::Adopted if fields::same_on(side, &agreed.agreed[side], &observed) => {}
            fields::Verdict::Adopted => agreed.agreed[side] = observed,
            fields::Verdict::Refused if answered => {
                agreed.agreed[side] = observed;
                agreed.refused[side] = Some(write.sent.clone());
                settled.refused.push(key.clone());
            }
            // A late write of ours stands there: the current value is written again (or cleared again), and what it
            // replaces is logged.
            fields::Verdict::Superseded => {
                agreed.agreed[side] = observed;
                agreed.overrun = Some(side);
            }
            // It left because the other side had moved on, and whether it landed before the edit nobody knows: who is back
            // there at what had been agreed on has given that anew.
            fields::Verdict::Edited
                if !answered
                    && rule.direction == Direction::Both
                    && agreed.rule == rule.fingerprint
                    && !fields::same_on(side, &agreed.agreed[side], &write.sent) =>
            {
                agreed.agreed[side.other()] = Cells::new();
            }
            fields::Verdict::Refused | fields::Verdict::Edited => {}
        }
    }
    settled
}
