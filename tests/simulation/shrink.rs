//! A smaller plan that still fails.

use super::run::play;
use super::world::Plan;

/// Whether it still goes wrong in the same way (by the first word of a violation, such as `P4:`).
fn fails(plan: &Plan, kind: &str) -> bool {
    let violations = std::panic::catch_unwind(|| play(plan, false).violations);
    violations.is_ok_and(|violations| violations.iter().any(|violation| violation.starts_with(kind)))
}

/// Cuts a list down by halves, quarters, … and single items for as long as the plan fails.
fn cut<T: Clone>(plan: &mut Plan, kind: &str, left: &mut u32, list: impl Fn(&mut Plan) -> &mut Vec<T>) {
    let mut size = list(plan).len().div_ceil(2);
    while size > 0 {
        let mut from = 0;
        while from < list(plan).len() && *left > 0 {
            let mut smaller = plan.clone();
            let end = (from + size).min(list(&mut smaller).len());
            list(&mut smaller).drain(from..end);
            *left -= 1;
            if fails(&smaller, kind) {
                *plan = smaller;
            } else {
                from += size;
            }
        }
        size = if size == 1 { 0 } else { size.div_ceil(2) };
    }
}

/// Fewer edits, upsets, newcomers and kinds of faults; at most `tries` runs.
pub fn shrink(plan: &Plan, violation: &str, tries: u32) -> Plan {
    let kind = violation.split_whitespace().next().unwrap_or_default().to_owned();
    let (mut plan, mut left) = (plan.clone(), tries);
    for nth in 0..plan.rates.classes().len() {
        let mut smaller = plan.clone();
        let classes = smaller.rates.classes();
        if *classes[nth].1 == 0.0 || left == 0 {
            continue;
        }
        *classes[nth].1 = 0.0;
        left -= 1;
        if fails(&smaller, &kind) {
            plan = smaller;
        }
    }
    for _ in 0..2 {
        cut(&mut plan, &kind, &mut left, |plan| &mut plan.upsets);
        cut(&mut plan, &kind, &mut left, |plan| &mut plan.edits);
        cut(&mut plan, &kind, &mut left, |plan| &mut plan.before);
        cut(&mut plan, &kind, &mut left, |plan| &mut plan.rules.fields);
    }
    plan
}
