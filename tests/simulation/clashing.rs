//! Worlds in which a few people, each with an address of their own, have the same fields edited on both sides, in pairs, and
//! in which little else happens: nothing muddles who is who, so that the checker can say whose value must stand, and what a
//! write of ours that was lost, late or doubled has done. Not a step on the way to the default worlds, but worlds of their own.

use super::crossing::{SOURCES, field};
use super::departing::OnDelete;
use super::people::Edit;
use super::sifting::Filter;
use super::world::{CRASH_POINTS, Dice, Plan, Rates, Rule, Source, Upset, Way, Wins};
use std::time::Duration;

const MINUTE: u64 = 60_000;

pub fn clash(plan: &mut Plan) {
    let mut dice = Dice::new(plan.seed, "clashing");
    let people = dice.between(2, 4);
    let newcomer = |number| Edit::Create { lead: false, address: Some(number), named: true, id: None, out: false };
    plan.before = (0..people).map(newcomer).collect();
    plan.rules.fields.clear();
    for source in SOURCES {
        let way = *dice.pick(&[Way::Both, Way::Both, Way::Both, Way::Both, Way::ToIntercom, Way::ToBrevo]);
        let wins = *dice.pick(&[Wins::Newest(false), Wins::Newest(true), Wins::Intercom, Wins::Brevo]);
        let rule = Rule::of(source, dice.hits(0.5), dice.hits(0.3));
        plan.rules.fields.push(Rule { way, wins, ..rule });
    }
    (plan.rules.users, plan.rules.leads, plan.rules.vip, plan.rules.blue) =
        (dice.hits(0.5), false, dice.hits(0.7), false);
    plan.rules.vip_way = *dice.pick(&[Way::Both, Way::Both, Way::ToIntercom, Way::ToBrevo]);
    plan.later = plan.rules.clone();
    let setting = &mut plan.setting;
    setting.incremental = *dice.pick(&[60, 60, 300]);
    setting.brevo_incremental = *dice.pick(&[120, 120, 300]);
    setting.full = 900;
    setting.index_lag = *dice.pick(&[1, 3, 30]);
    (setting.webhooks_only, setting.by_phone, setting.unlists, setting.resubscribes) = (false, false, false, false);
    (setting.filter, setting.on_delete) = (Filter::Everybody, OnDelete::KEEP);
    (setting.makes, setting.page, setting.limits) = (None, None, None);

    plan.edits.clear();
    // First all agree, and then there are rounds, each long enough after the one before that all agree again.
    let mut at = 10 * MINUTE;
    for _ in 0..dice.between(3, 8) {
        at += dice.between(15, 40) * MINUTE;
        for _ in 0..dice.between(1, 2) {
            pair(plan, &mut dice, at, people);
        }
    }
    plan.edits.sort_by_key(|(at, _)| *at);
    plan.rates = if dice.hits(0.2) { Rates::NONE } else { plan.rates };
    plan.rates.rejected = 0.0;
    plan.upsets.clear();
    for _ in 0..dice.below(5) {
        // While a pair is on its way.
        let (near, _) = dice.pick(&plan.edits).clone();
        let upset_at = near + Duration::from_millis(dice.between(0, 90_000));
        let away = *dice.pick(&[1, 5, 30, 200]);
        let nth = u32::try_from(dice.between(1, 3)).unwrap_or(1);
        plan.upsets.push((
            upset_at,
            match dice.below(4) {
                0 => Upset::PowerOff(away),
                1 => Upset::InRequest(nth, dice.hits(0.6), away),
                _ => Upset::CrashPoint(dice.pick::<&str>(&CRASH_POINTS[..13]), nth, away),
            },
        ));
    }
    plan.upsets.sort_by_key(|(at, _)| *at);
}

/// Somebody's field is edited on one side, and on the other before or after that could be carried; perhaps once more.
fn pair(plan: &mut Plan, dice: &mut Dice, at: u64, people: u64) {
    let (who, source) = (dice.below(people), *dice.pick(&SOURCES));
    let mut at = at + dice.below(MINUTE);
    for _ in 0..dice.between(1, 3) {
        let edit = if source == Source::Tier && dice.hits(0.1) { tag(dice, who) } else { field(dice, who, source) };
        plan.edits.push((Duration::from_millis(at), edit));
        let wait = *dice.pick(&[500, 3_000, 20_000, 100_000, 200_000]);
        at += dice.below(wait + 1);
    }
    if dice.hits(0.3) {
        plan.edits.push((Duration::from_millis(at), tag(dice, who)));
    }
}

fn tag(dice: &mut Dice, who: u64) -> Edit {
    match dice.below(5) {
        0 => Edit::BrevoVip(who, true),
        1 => Edit::BrevoVip(who, false),
        2 => Edit::BrevoLeaveVip(who),
        3 => Edit::Untag(who, "VIP"),
        _ => Edit::Tag(who, "VIP"),
    }
}
