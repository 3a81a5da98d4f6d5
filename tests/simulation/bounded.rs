//! What was added to worlds last: limits on harm, with somebody who lets go what they hold, and Brevo's webhooks. Drawn from
//! a stream of its own, so that crossing worlds stay as they were beneath it.

use super::people::Edit;
use super::world::{Dice, Hearing, Limits, Plan};
use std::time::Duration;

pub fn bound(plan: &mut Plan) {
    let mut dice = Dice::new(plan.seed, "bounded");
    plan.setting.hearing =
        dice.perhaps(0.6, |dice| Hearing { batched: dice.hits(0.25), knows_our_key: dice.hits(0.5) });
    plan.setting.limits = dice.perhaps(0.6, |dice| {
        let [creates, opt_outs, blanked] = [(); 3].map(|()| *dice.pick(&[1, 2, 4, 4, 1_000]));
        Limits { creates, opt_outs, blanked, deletes: 1_000, patience: *dice.pick(&[120, 600, 2_400]) }
    });
    let last = plan.edits.iter().map(|(at, _)| *at).max().unwrap_or_default();
    let most = u64::try_from(last.as_millis()).unwrap_or(u64::MAX).max(60_000);
    for _ in 0..dice.between(0, 6) {
        let at = Duration::from_millis(dice.between(0, most));
        let who = dice.next() >> 1;
        plan.edits.push((at, if dice.hits(0.5) { Edit::BrevoSpam(who) } else { Edit::BrevoUnsubscribe(who) }));
    }
    if plan.setting.limits.is_some() {
        // A script that runs over many at once.
        for _ in 0..dice.between(1, 3) {
            let (at, kind) = (dice.between(0, most), dice.below(4));
            for nth in 0..dice.between(2, 9) {
                let who = dice.next() >> 1;
                let edit = match kind {
                    0 => Edit::newcomer(&mut dice),
                    1 => Edit::Unsubscribe(who),
                    2 if nth % 2 == 0 => Edit::Tier(who, None),
                    2 => Edit::Name(who, None),
                    _ => Edit::BrevoBlocklist(who),
                };
                plan.edits.push((Duration::from_millis(at + nth * 30), edit));
            }
        }
    }
    plan.edits.sort_by_key(|(at, _)| *at);
}
