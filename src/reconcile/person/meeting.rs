//! Writes that somebody has edited since, where the other side has come to hold just that.

use super::{Flights, InFlight, MOST_SUPERSEDED, PersonPlan, PersonViews};
use crate::mapping::{Direction, FieldRule, Projection};
use crate::model::{SideName, Sides};
use crate::reconcile::fields::{self, Verdict};

/// What is on its way to a side where it has been edited since, while the other side holds what goes with that. Then both
/// agree on it, and whoever changes one of the two has changed it from there: were that forgotten until our write cannot land
/// any more, an older edit would stand against a newer one. What we had sent may still land in its place, as an earlier write.
pub(super) fn met(views: &PersonViews<'_>, rule: &FieldRule) -> Sides<Option<InFlight>> {
    Sides::from_fn(|side| met_on(side, views, rule))
}

fn met_on(side: SideName, views: &PersonViews<'_>, rule: &FieldRule) -> Option<InFlight> {
    let goes = rule.direction == Direction::Both && !rule.reads_record();
    let write = views.flights.field(side, &rule.key).filter(|_| goes)?;
    let brevo = rule.observed(&views.brevo?.attributes);
    let shown = Sides { intercom: vec![rule.source_value(views.record)], brevo };
    let verdict = |side: SideName, write: &InFlight| fields::judge(side, write, &shown[side]);
    let others = views.flights.field(side.other(), &rule.key);
    if verdict(side, write) != Verdict::Edited
        || others.is_some_and(|others| verdict(side.other(), others) != Verdict::Adopted)
    {
        return None;
    }
    let makes = |to: SideName, made: &Projection| match made {
        Projection::Cells(cells) => fields::same_on(to, cells, &shown[to]),
        _ => false,
    };
    let agree = makes(SideName::Brevo, &rule.project(views.record))
        || makes(SideName::Intercom, &rule.restore(&shown.brevo, views.record));
    if !agree {
        return None;
    }
    // First, so that it is among those that are remembered.
    let sent = std::iter::once(&write.sent);
    let superseded = sent.chain(&write.superseded).take(MOST_SUPERSEDED).cloned().collect();
    let (stands, replaces) = (shown[side].clone(), write.replaces.clone());
    // Nobody has refused it: whoever goes back to what had stood there has edited it.
    Some(InFlight { sent: stands.clone(), before: stands, superseded, replaces, given: true })
}

/// Puts that into the plan, in which what is on its way was kept as it is.
pub(super) fn put(plan: &mut PersonPlan, rule: &FieldRule, met: Sides<Option<InFlight>>) {
    let Some(writes) = plan.flights.fields.get_mut(&rule.key) else { return };
    writes.intercom = met.intercom.or_else(|| writes.intercom.take());
    writes.brevo = met.brevo.or_else(|| writes.brevo.take());
}

/// What is watched, as a plan knows it better (but for what that is to send itself). `None`: it does not.
pub fn as_met(watched: &Flights, plan: &PersonPlan) -> Option<Flights> {
    let mut met = watched.clone();
    for (key, writes) in met.fields.iter_mut().filter(|(key, _)| !plan.causes.contains_key(*key)) {
        for side in SideName::BOTH {
            // Of something else that has left since, the plan knows nothing.
            if let Some(known) = &writes[side]
                && let Some(write) = plan.flights.field(side, key)
                && write.superseded.contains(&known.sent)
            {
                writes[side] = Some(write.clone());
            }
        }
    }
    (met != *watched).then_some(met)
}
