//! What was added to worlds last: fields and tags that travel to Intercom, and people who edit them on both sides. Drawn
//! from a stream of its own, so that wide worlds stay as they were beneath it.

use super::people::{Edit, TAGS};
use super::world::{CRASH_POINTS, Dice, Plan, Rule, Rules, Source, Upset, Way, Wins, some_name, some_phone, some_tier};
use std::time::Duration;

/// What can travel to Intercom.
pub const SOURCES: [Source; 5] = [Source::Name, Source::Phone, Source::Tier, Source::Seats, Source::Admin];

pub fn cross(plan: &mut Plan) {
    let mut dice = Dice::new(plan.seed, "crossing");
    for source in SOURCES {
        // Who is known by their phone is known by what Intercom says.
        let travels = dice.hits(0.8) && !(source == Source::Phone && plan.setting.by_phone);
        let (way, wins) = (way(&mut dice), wins(&mut dice));
        let added = dice.perhaps(0.4, |dice| Rule::of(source, dice.hits(0.5), dice.hits(0.3)));
        let other = dice.perhaps(0.3, |dice| (self::way(dice), self::wins(dice)));
        for (rules, change) in [(&mut plan.rules, None), (&mut plan.later, other)] {
            if let Some(rule) = added.filter(|_| rules.fields.iter().all(|rule| rule.source != source)) {
                rules.fields.push(rule);
            }
            if travels {
                let (way, wins) = change.unwrap_or((way, wins));
                turn(rules, source, way, wins);
            }
        }
    }
    if dice.hits(0.5) {
        (plan.rules.vip, plan.later.vip) = (true, true);
    }
    plan.rules.vip_way = way(&mut dice);
    plan.later.vip_way = dice.perhaps(0.3, way).unwrap_or(plan.rules.vip_way);
    plan.setting.both |= dice.hits(0.4);
    if dice.hits(0.2) {
        plan.rates.rejected = dice.between(2, 15) as f64 / 100.0;
    }
    for (_, upset) in &mut plan.upsets {
        if let Upset::CrashPoint(name, _, _) = upset
            && dice.hits(0.3)
        {
            *name = dice.pick::<&str>(&CRASH_POINTS[..13]);
        }
    }
    let last = plan.edits.iter().map(|(at, _)| *at).max().unwrap_or_default();
    let most = u64::try_from(last.as_millis()).unwrap_or(u64::MAX).max(60_000);
    if dice.hits(0.4) {
        for _ in 0..dice.between(1, 2) {
            let at = Duration::from_millis(dice.between(0, most));
            let (name, nth) =
                (dice.pick::<&str>(&CRASH_POINTS[11..13]), u32::try_from(dice.between(1, 3)).unwrap_or(1));
            plan.upsets.push((at, Upset::CrashPoint(name, nth, *dice.pick(&[1, 5, 30, 200]))));
        }
        plan.upsets.sort_by_key(|(at, _)| *at);
    }
    for _ in 0..dice.between(4, 30) {
        let at = dice.between(0, most);
        let (who, source) = (dice.next() >> 1, *dice.pick(&SOURCES));
        let one = if dice.hits(0.3) { tag(&mut dice, who) } else { field(&mut dice, who, source) };
        plan.edits.push((Duration::from_millis(at), one));
        // The same field of the same person once more: at the same time, or before or after it was carried.
        if dice.hits(0.4) {
            let wait = *dice.pick(&[0, 200, 3_000, 40_000, 400_000, 1_500_000]);
            plan.edits.push((Duration::from_millis(at + dice.below(wait + 1)), field(&mut dice, who, source)));
        }
    }
    make(plan, most);
    plan.edits.sort_by_key(|(at, _)| *at);
}

/// Some make in Intercom whom Brevo alone has: by dice of its own, so that all other worlds stay as they were.
fn make(plan: &mut Plan, most: u64) {
    let mut dice = Dice::new(plan.seed, "making");
    if !dice.hits(0.35) {
        return;
    }
    plan.setting.makes = Some(*dice.pick(&["lead", "user", "user"]));
    for _ in 0..dice.between(1, 4) {
        plan.before.push(Edit::stranger(&mut dice));
    }
    for _ in 0..dice.between(1, 5) {
        let at = dice.between(0, most);
        plan.edits.push((Duration::from_millis(at), Edit::stranger(&mut dice)));
        if dice.hits(0.3) {
            // Somebody meets them in Intercom at about the same time.
            let wait = *dice.pick(&[0, 3_000, 250_000, 500_000]);
            plan.edits.push((Duration::from_millis(at + dice.below(wait + 1)), Edit::newcomer(&mut dice)));
        }
        if dice.hits(0.3) {
            let wait = *dice.pick(&[3_000, 330_000, 400_000, 800_000]);
            let (who, to) = (dice.next() >> 1, dice.next() >> 1);
            let edit = if dice.hits(0.5) { Edit::BrevoAddress(who, to) } else { Edit::BrevoUnsubscribe(who) };
            plan.edits.push((Duration::from_millis(at + dice.below(wait + 1)), edit));
        }
    }
    for _ in 0..dice.below(3) {
        let at = Duration::from_millis(dice.between(0, most));
        let (name, nth) = (dice.pick::<&str>(&CRASH_POINTS[13..15]), u32::try_from(dice.between(1, 2)).unwrap_or(1));
        plan.upsets.push((at, Upset::CrashPoint(name, nth, *dice.pick(&[1, 5, 30, 200]))));
    }
    plan.upsets.sort_by_key(|(at, _)| *at);
}

fn way(dice: &mut Dice) -> Way {
    *dice.pick(&[Way::Both, Way::Both, Way::Both, Way::ToIntercom, Way::ToIntercom, Way::ToBrevo])
}

fn wins(dice: &mut Dice) -> Wins {
    *dice.pick(&[Wins::Newest(false), Wins::Newest(true), Wins::Intercom, Wins::Brevo])
}

fn turn(rules: &mut Rules, source: Source, way: Way, wins: Wins) {
    for rule in rules.fields.iter_mut().filter(|rule| rule.source == source) {
        (rule.way, rule.wins) = (way, wins);
    }
}

pub fn field(dice: &mut Dice, who: u64, source: Source) -> Edit {
    if dice.hits(0.6) {
        return Edit::BrevoField(who, source, dice.next() >> 1);
    }
    match source {
        Source::Name => Edit::Name(who, some_name(dice)),
        Source::Phone => Edit::Phone(who, some_phone(dice)),
        Source::Tier => Edit::Tier(who, some_tier(dice)),
        Source::Seats => Edit::Seats(who, dice.perhaps(0.8, |dice| dice.below(3))),
        _ => Edit::Admin(who, dice.perhaps(0.8, |dice| dice.hits(0.5))),
    }
}

fn tag(dice: &mut Dice, who: u64) -> Edit {
    match dice.below(10) {
        0..=2 => Edit::BrevoVip(who, true),
        3..=4 => Edit::BrevoVip(who, false),
        5..=6 => Edit::Tag(who, "VIP"),
        7 => Edit::BrevoLeaveVip(who),
        8 => Edit::Tag(who, dice.pick::<&str>(&TAGS)),
        _ => Edit::Untag(who, "VIP"),
    }
}
