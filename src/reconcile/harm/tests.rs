use super::*;
use proptest::prelude::*;

const PEOPLE: u64 = 1_000;

fn kinds() -> impl Strategy<Value = Kind> {
    proptest::sample::select(Kind::ALL.to_vec())
}

fn limits() -> impl Strategy<Value = Limits> {
    (0..200_u64, 0..200_u64, 0..200_u64, 0..200_u64, 0.0..1.0_f64)
        .prop_map(|(creates, deletes, opt_outs, blanked, share)| Limits { creates, deletes, opt_outs, blanked, share })
}

proptest! {
    /// Whatever wants to go, and whenever: no hour and no day sees more than its limit.
    #[test]
    fn never_more_than_the_limit_in_any_window(
        kind in kinds(),
        limits in limits(),
        waves in prop::collection::vec((0..40_000_i64, 0..300_u64), 1..60),
    ) {
        let mut slots: BTreeMap<i64, u64> = BTreeMap::new();
        let mut gone: Vec<(i64, u64)> = Vec::new();
        let mut second = 1_790_000_000;
        for (later, wanted) in waves {
            second += later;
            let now = second.div_euclid(SLOT);
            let counted = Counted::at(now, slots.iter().map(|(slot, count)| (*slot, *count)));
            let went = go(kind, wanted, room(kind, &limits, counted, PEOPLE));
            prop_assert!(went <= wanted);
            *slots.entry(now).or_default() += went;
            gone.push((second, went));
            for (window, most) in [(3_600, limits.an_hour(kind)), (86_400, limits.a_day(kind, PEOPLE))] {
                let within: u64 = gone.iter().filter(|(at, _)| *at > second - window).map(|(_, count)| count).sum();
                prop_assert!(within <= most, "{within} of {most} in {window} s");
            }
        }
    }

    /// More room never lets fewer go, more that went before never lets more go, and of what cannot be taken back all or none.
    #[test]
    fn it_is_monotone(
        kind in kinds(),
        (limits, other) in (limits(), limits()),
        hour in 0..300_u64,
        (before, more) in (0..300_u64, 0..300_u64),
        wanted in 0..300_u64,
    ) {
        let counted = Counted { hour: hour.min(before), day: before };
        let there = room(kind, &limits, counted, PEOPLE);
        prop_assert!(room(kind, &limits, counted.and(more), PEOPLE) <= there);
        prop_assert!(room(kind, &limits, counted, PEOPLE + more) >= there);
        let wider = Limits {
            creates: limits.creates.max(other.creates),
            deletes: limits.deletes.max(other.deletes),
            opt_outs: limits.opt_outs.max(other.opt_outs),
            blanked: limits.blanked.max(other.blanked),
            share: limits.share.max(other.share),
        };
        prop_assert!(room(kind, &wider, counted, PEOPLE) >= there);
        prop_assert!(go(kind, wanted, there + more) >= go(kind, wanted, there));
        let went = go(kind, wanted, there);
        prop_assert!(kind == Kind::Creates || went == wanted || went == 0);
        prop_assert!(approved(wanted) >= wanted);
    }
}

#[test]
fn a_share_counts_where_there_are_enough_people_to_have_one() {
    let limits = Limits::default();
    let room = |kind, people| room(kind, &limits, Counted::default(), people);
    assert_eq!((room(Kind::OptOuts, 5), room(Kind::OptOuts, 2_000), room(Kind::OptOuts, 1_000_000)), (50, 200, 5_000));
    assert_eq!((room(Kind::Creates, 5), room(Kind::Creates, 20_000)), (500, 2_000));
    let none = Limits { opt_outs: 0, ..limits };
    assert_eq!(super::room(Kind::OptOuts, &none, Counted::default(), 1_000_000), 0, "nothing without asking");
}

#[test]
fn an_hour_rolls_and_so_does_a_day() {
    let slots = [(1_000, 5), (994, 7), (993, 11), (856, 13), (855, 17)];
    assert_eq!(Counted::at(1_000, slots), Counted { hour: 12, day: 36 });
    assert_eq!(Counted::at(1_001, slots), Counted { hour: 5, day: 23 });
}

#[test]
fn kinds_are_kept_by_name() {
    for kind in Kind::ALL {
        assert_eq!(Kind::parse(kind.as_str()), Some(kind));
    }
    assert_eq!(Kind::parse("else"), None);
}
