//! What was added to worlds later: companies, figures of conversations, conditions, text messages, people known by phone
//! alone, small pages. Drawn from a stream of its own, so that the worlds of earlier seeds stay as they were beneath it.

use super::people::{COMPANIES, Edit};
use super::world::{CRASH_POINTS, Dice, Plan, Rule, Rules, Source, Upset, some_phone};
use std::time::Duration;

/// What only wide worlds map.
const SOURCES: [Source; 4] = [Source::Company, Source::OpenConversations, Source::Conversations, Source::LastRating];

pub fn widen(plan: &mut Plan) {
    let mut dice = Dice::new(plan.seed, "wide");
    for source in SOURCES {
        if dice.hits(0.4) {
            let rule = Rule::of(source, dice.hits(0.5), dice.hits(0.3));
            plan.rules.fields.push(rule);
            plan.later.fields.push(rule);
        }
    }
    for source in [Source::Name, Source::Tier, Source::Seats, Source::Company] {
        if dice.hits(0.15) {
            users_only(&mut plan.rules, source);
            users_only(&mut plan.later, source);
        }
    }
    plan.rules.blue = dice.hits(0.3);
    plan.later.blue = plan.rules.blue;
    plan.setting.by_phone = dice.hits(0.3);
    // By dice of its own: all else about these worlds stays as it was.
    plan.setting.both = Dice::new(plan.seed, "consent").hits(0.3);
    plan.setting.page = dice.perhaps(0.4, |dice| *dice.pick(&[2, 3, 7]));
    for (_, upset) in &mut plan.upsets {
        if let Upset::CrashPoint(name, _, _) = upset
            && dice.hits(0.5)
        {
            *name = dice.pick::<&str>(&CRASH_POINTS[..11]);
        }
    }
    // Some are known by phone alone: newcomers have none yet.
    if plan.setting.by_phone {
        let mut dice = Dice::new(plan.seed, "phones");
        for _ in 0..dice.between(1, 6) {
            plan.before.push(Edit::Phone(dice.next() >> 1, some_phone(&mut dice)));
        }
    }
    let companies = dice.between(0, 3);
    for _ in 0..companies {
        plan.before.push(Edit::Company(dice.next() >> 1, dice.index(COMPANIES.len())));
        plan.before.push(Edit::Attach(dice.next() >> 1, dice.next() >> 1));
    }
    let last = plan.edits.iter().map(|(at, _)| *at).max().unwrap_or_default();
    let most = u64::try_from(last.as_millis()).unwrap_or(u64::MAX).max(60_000);
    for _ in 0..dice.between(0, 24) {
        let at = Duration::from_millis(dice.between(0, most));
        let edit = one(&mut dice);
        plan.edits.push((at, edit));
    }
    plan.edits.sort_by_key(|(at, _)| *at);
}

fn users_only(rules: &mut Rules, source: Source) {
    for rule in rules.fields.iter_mut().filter(|rule| rule.source == source) {
        rule.users_only = true;
    }
}

fn one(dice: &mut Dice) -> Edit {
    let (who, other) = (dice.next() >> 1, dice.next() >> 1);
    match dice.below(20) {
        0..=1 => Edit::Company(who, dice.index(COMPANIES.len())),
        2..=3 => Edit::CompanyName(who, dice.index(COMPANIES.len())),
        4..=6 => Edit::Attach(who, other),
        7 => Edit::Detach(who, other),
        8..=10 => Edit::Converse(who),
        11..=12 => Edit::CloseConversation(who),
        13 => Edit::Snooze(who),
        14..=15 => Edit::Reopen(who),
        16..=17 => Edit::RateAs(who, i64::try_from(dice.between(1, 5)).unwrap_or(1)),
        _ => Edit::SmsOut(who),
    }
}
