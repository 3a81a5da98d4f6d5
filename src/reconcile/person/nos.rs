//! A no that somebody says in Brevo. Compared, that is what absence is (an import drops it); but whoever says it has given a
//! value, and that can be looked up when it is replaced.

use super::{Base, FieldViews, Flights, PersonViews};
use crate::mapping::{FieldRule, Mapping, Target};
use crate::model::{AttributeKind, BrevoContact, Fields, SideName, Sides, Value};
use crate::reconcile::fields::{self, Cells, FieldBase, InFlight, Verdict};

/// The no that is said there.
fn said_no(target: &Target, attributes: &Fields) -> Option<Value> {
    let said = attributes.get(&target.attribute).filter(|_| target.kind == AttributeKind::Boolean);
    said.filter(|said| **said == Value::Boolean(false)).cloned()
}

/// What a contact in Brevo shows of a field, with what is no there.
pub fn with_nos(rule: &FieldRule, attributes: &Fields) -> Cells {
    let shown = rule.observed(attributes).into_iter().zip(&rule.targets);
    shown.map(|(cell, target)| cell.or_else(|| said_no(target, attributes))).collect()
}

/// Whether somebody says no where there was nothing before a write of ours. `shown`: [`with_nos`].
pub(super) fn is_new(write: &InFlight, shown: &[Option<Value>]) -> bool {
    shown.iter().zip(&write.before).any(|(shown, before)| *shown == Some(Value::Boolean(false)) && before.is_none())
}

/// What a write to Brevo replaces where somebody has said no there. Nobody has lost a no that both had agreed on, or that stood
/// for nothing; but whoever took back a yes has a value that can be looked up.
pub(super) fn taken_back(
    compared: &FieldViews<'_>,
    to: SideName,
    views: &PersonViews<'_>,
    rule: &FieldRule,
) -> Option<Cells> {
    let base = compared.base.filter(|_| to == SideName::Brevo && compared.in_flight.brevo.is_none())?;
    // What stands there after a refusal may be somebody's who went back to it before any read. And what is somebody's own, or
    // came in the place of what was agreed on, looks as if it had been agreed on.
    let disputed = base.refused.brevo.is_some() || base.own == Some(to) || base.overrun == Some(to);
    if !disputed && fields::same_cells(&base.agreed.brevo, &compared.shown.brevo) {
        return None;
    }
    let attributes = &views.brevo?.attributes;
    let said: Cells = rule.targets.iter().map(|target| said_no(target, attributes)).collect();
    said.iter().any(Option::is_some).then_some(said)
}

/// Brevo does not show the yes of a write whose outcome is not known: so that counts as not landed, and is planned again.
/// But who says no by now, where nothing was said before it, may have taken it back: that is somebody's own.
pub fn keep_new_nos(base: &mut Base, flights: &Flights, contact: &BrevoContact, mapping: &Mapping) {
    for rule in &mapping.rules {
        let Some(write) = flights.field(SideName::Brevo, &rule.key) else { continue };
        let shown = rule.observed(&contact.attributes);
        let is_yes_gone = fields::judge(SideName::Brevo, write, &shown) == Verdict::Refused;
        if is_yes_gone && is_new(write, &with_nos(rule, &contact.attributes)) {
            // Where nothing had been agreed on, whatever Intercom shows is to be taken along, as ever.
            let agreed = Sides { intercom: Cells::new(), brevo: shown };
            let unknown = FieldBase { agreed, ..FieldBase::default() };
            base.fields.entry(rule.key.clone()).or_insert(unknown).own = Some(SideName::Brevo);
        }
    }
}
