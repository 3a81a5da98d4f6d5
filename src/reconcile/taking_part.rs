//! Who takes part: what is left of a plan for somebody whom a filter leaves out. Opt-outs always travel.

use super::person::{Flights, PersonPlan, PersonViews, ResolvedList};
use crate::mapping::{Direction, Expression, FieldProblem};
use crate::model::{BrevoListId, ContactChange, Fields, SideName, Sides};
use crate::reconcile::lists::ListBase;
use std::borrow::Cow;
use std::collections::BTreeSet;

/// Whether somebody's record is written on a side.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Part {
    /// It is.
    #[default]
    Takes,
    /// Nothing is written there but consent.
    Rests,
    /// The same, and they are taken off the lists that a rule had put them on.
    Leaves,
}

/// Whether a record takes part, by the filter of the direction that ends on each side. Where a filter cannot be evaluated the
/// record rests, and that is a problem.
///
/// `shown`: what a side shows of it; without a record there, nothing leaves from it. `unmatched`: what the filter keeps from
/// a side does there.
pub fn parts<'a>(
    filter: &Sides<Option<Expression>>,
    key: &str,
    unmatched: Sides<Part>,
    shown: impl Fn(SideName) -> Option<Cow<'a, Fields>>,
) -> (Sides<Part>, Option<FieldProblem>) {
    let mut problem = None;
    let part = Sides::from_fn(|side| {
        let Some(filter) = &filter[side] else { return Part::Takes };
        let Some(record) = shown(side.other()) else { return Part::Rests };
        match filter.holds(None, &record) {
            Ok(true) => Part::Takes,
            Ok(false) => unmatched[side],
            Err(message) => {
                let field = format!("{key}.{}_to_{side}", side.other());
                problem = Some(FieldProblem { field, message, help: None });
                Part::Rests
            }
        }
    });
    (part, problem)
}

/// The plan without what it writes to Brevo: of all that, what was agreed on and what is on its way is as before. Planned
/// before address and consent, which are decided about by themselves.
#[must_use]
pub fn without_brevo(mut plan: PersonPlan, views: &PersonViews<'_>) -> PersonPlan {
    let (back, before, watched) = (&plan.back, views.base, views.flights);
    let mut fields = before.fields.clone();
    let mut lists = before.lists.clone();
    let mut flights = Flights {
        lists: watched.lists.clone(),
        tags: plan.flights.tags.clone(),
        email: plan.flights.email.clone(),
        repeated: plan.flights.repeated.clone(),
        repeated_tags: plan.flights.repeated_tags.clone(),
        ..Flights::default()
    };
    for (key, writes) in &watched.fields {
        if let Some(write) = &writes.brevo {
            flights.fields.entry(key.clone()).or_default().brevo = Some(write.clone());
        }
    }
    for (key, writes) in &plan.flights.fields {
        if let Some(write) = &writes.intercom {
            flights.fields.entry(key.clone()).or_default().intercom = Some(write.clone());
        }
    }
    for key in &back.rules {
        if let Some(agreed) = plan.base.fields.get(key) {
            fields.insert(key.clone(), agreed.clone());
        }
    }
    for list in back.lists.keys() {
        if let Some(agreed) = plan.base.lists.get(list) {
            lists.insert(*list, *agreed);
        }
    }
    for (list, agreed) in &plan.base.lists {
        // Off on both sides is agreed on without a word: else a tag that is given after that would count as one whose list
        // they were taken off.
        if !agreed.wanted && !agreed.member && !plan.change.leave_lists.contains(list) {
            lists.insert(*list, *agreed);
        }
    }
    plan.causes.retain(|key, _| plan.back.rules.contains(key));
    plan.lost.retain(|lost| lost.side == SideName::Intercom);
    plan.problems.clear();
    plan.notices.clear();
    (plan.base.fields, plan.base.lists, plan.flights) = (fields, lists, flights);
    plan.change = ContactChange::default();
    plan.alone = false;
    plan
}

/// Whoever has stopped matching leaves the lists that a rule of ours had put them on. When they match again, they are wanted
/// there anew.
pub fn leave_lists(plan: &mut PersonPlan, views: &PersonViews<'_>, resolved: &[ResolvedList<'_>]) {
    let Some(contact) = views.brevo else { return };
    let ours: BTreeSet<BrevoListId> = resolved
        .iter()
        .filter(|resolved| resolved.rule.direction != Direction::BrevoToIntercom)
        .map(|resolved| resolved.list)
        .filter(|list| !plan.back.lists.contains_key(list))
        .collect();
    for list in ours {
        let wanted = views.base.lists.get(&list).is_some_and(|base| base.wanted);
        if !wanted {
            continue;
        }
        let on_its_way = views.flights.lists.get(&list).copied();
        // Who was taken off by somebody else is not put on it again, either.
        if on_its_way.unwrap_or_else(|| contact.lists.contains(&list)) {
            plan.base.lists.insert(list, ListBase { wanted: false, member: false });
            plan.change.leave_lists.insert(list);
            plan.flights.lists.insert(list, false);
        }
    }
}
