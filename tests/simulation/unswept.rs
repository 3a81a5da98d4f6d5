//! Worlds in which nothing is swept after the first read: what changes is shown once, by a read of changes or by a webhook,
//! and what the program loses of that is lost for good. In all other worlds a sweep makes up for it sooner or later, and
//! hides it. A few people with an address each, edited in pairs as in clashing worlds; and their conversations, companies
//! and tags, as far as the vendors tell of them without a sweep.

use super::clashing;
use super::people::{COMPANIES, Edit, TAGS};
use super::world::{CRASH_POINTS, Dice, Hearing, Plan, Rates, Rule, Source, Upset, Way};
use std::time::Duration;

/// Longer than any world lasts.
const NEVER: u64 = 1_000_000;

pub fn unsweep(plan: &mut Plan) {
    clashing::clash(plan);
    let mut dice = Dice::new(plan.seed, "unswept");
    let hears = dice.hits(0.5);
    plan.setting.sweeps = false;
    if hears {
        (plan.setting.incremental, plan.setting.brevo_incremental) = (NEVER, NEVER);
        plan.setting.hearing = Some(Hearing { batched: dice.hits(0.25), knows_our_key: dice.hits(0.5) });
        (plan.rates.webhook_lost, plan.rates.webhook_late) = (0.0, 0.0);
    } else {
        plan.setting.incremental = *dice.pick(&[60, 300, 1_200]);
        plan.setting.brevo_incremental = *dice.pick(&[120, 600, 1_200]);
        plan.rates = Rates { webhook_lost: 1.0, ..plan.rates };
    }
    if plan.seed % 5 == 2 {
        // Longer than reads of changes overlap: what the first read loses of them no later one shows.
        plan.setting.known_for = 2_000;
    }
    for source in [Source::OpenConversations, Source::Conversations, Source::LastRating, Source::Company, Source::Tags]
    {
        let told = hears || source.is_figure();
        if told && dice.hits(0.7) {
            plan.rules.fields.push(Rule::of(source, dice.hits(0.5), false));
        }
    }
    plan.later = plan.rules.clone();
    for nth in 0..dice.between(0, 3) {
        let lead = Edit::Create { lead: true, address: Some(12 + nth), named: true, id: None, out: false };
        plan.before.push(lead);
    }
    if hears {
        for _ in 0..dice.between(0, 2) {
            plan.before.push(Edit::Company(dice.next() >> 1, dice.index(COMPANIES.len())));
        }
    }
    // Nothing but a sweep shows who was taken off a list or left it, and no read of changes shows a tag. What is edited on the
    // side that only takes is put right by sweeps.
    let rules = &plan.rules;
    let gives = |source: Source, takes: Way| rules.fields.iter().all(|rule| rule.source != source || rule.way != takes);
    plan.edits.retain(|(_, edit)| match edit {
        Edit::BrevoVip(_, false) | Edit::BrevoLeaveVip(_) => false,
        Edit::BrevoVip(..) => hears && rules.vip_way != Way::ToBrevo,
        Edit::Tag(..) | Edit::Untag(..) => hears && rules.vip_way != Way::ToIntercom,
        Edit::BrevoField(_, source, _) => gives(*source, Way::ToBrevo),
        Edit::Name(..) => gives(Source::Name, Way::ToIntercom),
        Edit::Phone(..) => gives(Source::Phone, Way::ToIntercom),
        Edit::Tier(..) => gives(Source::Tier, Way::ToIntercom),
        Edit::Seats(..) => gives(Source::Seats, Way::ToIntercom),
        Edit::Admin(..) => gives(Source::Admin, Way::ToIntercom),
        _ => true,
    });
    let last = plan.edits.iter().map(|(at, _)| *at).max().unwrap_or_default();
    let most = u64::try_from(last.as_millis()).unwrap_or(u64::MAX).max(600_000);
    for _ in 0..dice.between(4, 16) {
        let mut at = dice.between(0, most);
        for _ in 0..dice.between(1, 3) {
            let edit = told(&mut dice, hears);
            plan.edits.push((Duration::from_millis(at), edit));
            let wait = *dice.pick(&[1_000, 20_000, 300_000]);
            at += dice.below(wait + 1);
        }
    }
    plan.edits.sort_by_key(|(at, _)| *at);
    if dice.hits(0.5) {
        for _ in 0..dice.between(1, 3) {
            let (near, _) = dice.pick(&plan.edits).clone();
            let name = *dice.pick(&[
                "after_page",
                "after_inbox",
                "after_events_sent",
                "after_events_intent",
                CRASH_POINTS[12],
            ]);
            let nth = u32::try_from(dice.between(1, 2)).unwrap_or(1);
            plan.upsets.push((near, Upset::CrashPoint(name, nth, *dice.pick(&[1, 5, 30]))));
        }
        plan.upsets.sort_by_key(|(at, _)| *at);
    }
    if hears {
        // Intercom tries again after a minute, and then never.
        for (_, upset) in &mut plan.upsets {
            match upset {
                Upset::PowerOff(away)
                | Upset::CrashPoint(_, _, away)
                | Upset::InRequest(_, _, away)
                | Upset::Restart(away) => *away = (*away).min(30),
                Upset::Reload => {}
            }
        }
    }
}

/// What the vendors tell of.
fn told(dice: &mut Dice, hears: bool) -> Edit {
    let (who, other) = (dice.next() >> 1, dice.next() >> 1);
    match dice.below(if hears { 22 } else { 15 }) {
        0..=3 => Edit::Converse(who),
        4..=5 => Edit::CloseConversation(who),
        6 => Edit::Snooze(who),
        7..=8 => Edit::Reopen(who),
        9..=10 => Edit::RateAs(who, i64::try_from(dice.between(1, 5)).unwrap_or(1)),
        11 => Edit::SignUp(who, dice.below(1_000_000)),
        // Only a notification or a sweep shows whose conversations have gone to another contact.
        12 if hears => Edit::Merge(who, other),
        12 => Edit::Seen(who),
        13 => Edit::Unsubscribe(who),
        14 => Edit::BrevoUnsubscribe(who),
        15..=17 => Edit::CompanyName(who, dice.index(COMPANIES.len())),
        18 => Edit::Attach(who, other),
        19 => Edit::Detach(who, other),
        20 => Edit::Tag(who, dice.pick::<&str>(&TAGS[..12])),
        _ => Edit::Untag(who, dice.pick::<&str>(&TAGS[..12])),
    }
}
