//! What holds for every field, whatever the rule and whatever people do: played on two sides in memory, whose plans are
//! carried out by a few lines that know nothing of the rules.

use super::super::newest::Span;
use super::*;
use chrono::DateTime;
use proptest::prelude::*;

/// How the two sides' values become each other's.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    /// They are the same.
    Same,
    /// `a.1` is `a` on the coarser side, `a` is `a.0` on the finer one.
    Coarse,
    /// `a b` is two cells on the other side; cells are joined.
    Parts,
}

#[derive(Debug, Clone, Copy)]
struct Rule {
    name: &'static str,
    kind: Kind,
    /// Who holds the finer value, the whole.
    fine: SideName,
    flow: Flow,
    clear: Clear,
    drift: Drift,
}

fn text(cell: Option<&Option<Value>>) -> Option<String> {
    cell?.as_ref().map(ToString::to_string)
}

fn one(text: &str) -> Cells {
    vec![Value::text(text)]
}

impl Rule {
    /// The few values that people write on a side; the first is none, and `z` is one that no side takes from us.
    fn value(&self, side: SideName, number: u8) -> Cells {
        let pick = |texts: &[&str]| texts[usize::from(number) % texts.len()].to_owned();
        match (self.kind, side == self.fine) {
            (Kind::Coarse, true) => one(&pick(&["", "a.1", "a.2", "b.1", "z.1", "z.2"])),
            (Kind::Same, _) | (Kind::Coarse, false) => one(&pick(&["", "a", "b", "c", "z"])),
            (Kind::Parts, true) => one(&pick(&["", "a", "a b", "b c", "z"])),
            (Kind::Parts, false) => {
                let parts = [["", ""], ["a", ""], ["", "b"], ["a", "b"], ["z", "b"]];
                parts[usize::from(number) % parts.len()].map(Value::text).to_vec()
            }
        }
    }

    /// What a side holds when it takes the other's value; what it holds already stays, if that comes to the same.
    fn made(&self, to: SideName, from: &Cells, held: &Cells) -> Cells {
        match (self.kind, to == self.fine) {
            (Kind::Same, _) => from.clone(),
            (Kind::Coarse, false) => vec![text(from.first()).and_then(|text| Value::text(&text[..1]))],
            (Kind::Coarse, true) if self.made(to.other(), held, from) == *from => held.clone(),
            (Kind::Coarse, true) => vec![text(from.first()).and_then(|text| Value::text(format!("{text}.0")))],
            (Kind::Parts, true) => one(&from.iter().filter_map(|part| text(Some(part))).collect::<Vec<_>>().join(" ")),
            (Kind::Parts, false) => {
                let whole = text(from.first()).unwrap_or_default();
                let (first, last) = whole.split_once(' ').unwrap_or((&whole, ""));
                vec![Value::text(first), Value::text(last)]
            }
        }
    }

    fn swapped(self) -> Self {
        let flow = match self.flow {
            Flow::From(side) => Flow::From(side.other()),
            Flow::Both(Wins::Always(side)) => Flow::Both(Wins::Always(side.other())),
            Flow::Both(Wins::Newest { tie }) => Flow::Both(Wins::Newest { tie: tie.other() }),
        };
        Self { fine: self.fine.other(), flow, ..self }
    }

    fn is_two_way(&self) -> bool {
        matches!(self.flow, Flow::Both(_))
    }
}

/// One field of one record.
#[derive(Debug, Clone)]
struct World {
    rule: Rule,
    now: Sides<Cells>,
    changed: Sides<Option<Span>>,
    base: Option<FieldBase>,
    /// Whatever has stood on each side.
    stood: Sides<Vec<Cells>>,
    log: Vec<(SideName, Cells)>,
    clock: i64,
}

impl World {
    fn new(rule: Rule, intercom: u8, brevo: u8) -> Self {
        let now =
            Sides { intercom: rule.value(SideName::Intercom, intercom), brevo: rule.value(SideName::Brevo, brevo) };
        let stood = Sides::from_fn(|side| vec![now[side].clone()]);
        Self { rule, now, changed: Sides::default(), base: None, stood, log: Vec::new(), clock: 0 }
    }

    /// Somebody writes a value. `until` the next look, others may do so too.
    fn edit(&mut self, side: SideName, number: u8, look: bool) {
        self.now[side] = self.rule.value(side, number);
        let written = self.now[side].clone();
        self.stood[side].push(written);
        let at = |seconds| DateTime::from_timestamp(seconds, 0).unwrap();
        let span = Span { after: Some(at(self.clock)), until: at(self.clock + 1) };
        self.changed[side] = Some(self.changed[side].map_or(span, |earlier| earlier.joined(span)));
        self.clock += i64::from(look);
    }

    fn decide(&self, sweep: bool) -> FieldStep {
        let desired = Sides::from_fn(|side| match self.rule.flow {
            Flow::From(source) if source == side => None,
            _ => Some(self.rule.made(side, &self.now[side.other()], &self.now[side])),
        });
        decide(&FieldViews {
            rule: self.rule.name,
            flow: self.rule.flow,
            clear: self.rule.clear,
            drift: self.rule.drift,
            shown: self.now.clone(),
            desired,
            base: self.base.as_ref(),
            in_flight: Sides::default(),
            changed: self.changed,
            sweep,
        })
    }

    /// Carries a plan out: the side takes it, or keeps what it has. Whether anything was sent.
    fn apply(&mut self, step: FieldStep) -> bool {
        match step {
            FieldStep::Nothing => false,
            FieldStep::Unmapped(side) => panic!("{side:?} can be mapped"),
            FieldStep::Remember(base) => {
                self.base = Some(base);
                false
            }
            FieldStep::Write { to, cells, mut base, replaces, cause } => {
                let before = self.now[to].clone();
                let agreed = self.base.as_ref().is_some_and(|base| base.agreed[to] == before);
                // Nobody's value goes without a trace, unless the new one says it too.
                assert!(
                    agreed || all_blank(&before) || replaces.is_some() || completes(&before, &cells),
                    "{cause}: {before:?} is lost for {cells:?}"
                );
                let refused = self.base.as_ref().filter(|base| base.rule == self.rule.name);
                let refused = refused.and_then(|base| base.refused[to].as_ref());
                assert_ne!(refused, Some(&cells), "sent again, though it was refused");
                self.nothing_is_invented(to, &cells);
                self.log.extend(replaces.map(|lost| (to, lost)));
                if cells.iter().flatten().any(|cell| cell.to_string().contains('z')) {
                    base.agreed[to] = before;
                    base.refused[to] = Some(cells);
                } else {
                    self.stood[to].push(cells.clone());
                    self.now[to] = cells;
                }
                self.base = Some(base);
                true
            }
        }
    }

    /// Plans and carries out until nothing is sent any more.
    fn settle(&mut self) {
        for _ in 0..2 {
            let step = self.decide(true);
            if !self.apply(step) {
                break;
            }
        }
        let quiet = self.decide(true);
        assert!(!self.apply(quiet), "the third plan still writes: {self:?}");
        let again = self.decide(true);
        assert!(
            matches!(&again, FieldStep::Nothing)
                || matches!(&again, FieldStep::Remember(base) if Some(base) == self.base.as_ref()),
            "{again:?}"
        );
        self.changed = Sides::default();
        // Both sides have been looked at.
        self.clock += 1;
    }

    /// Whether either side's value makes the other's.
    fn agree(&self) -> bool {
        SideName::BOTH.into_iter().any(|to| self.rule.made(to, &self.now[to.other()], &self.now[to]) == self.now[to])
    }

    fn refused(&self) -> bool {
        self.base.as_ref().is_some_and(FieldBase::is_refused)
    }

    /// Each cell has stood there before, or is made of what has stood on the other side: nobody's name is put together
    /// from two people's, but that a blank part of it is left to whom it belongs.
    fn nothing_is_invented(&self, side: SideName, cells: &Cells) {
        let (own, others) = (&self.stood[side], &self.stood[side.other()]);
        let blank = self.rule.value(side, 0);
        let made = others.iter().flat_map(|cells| {
            let held = own.iter().chain([&blank]);
            held.map(|held| self.rule.made(side, cells, held)).collect::<Vec<_>>()
        });
        let known: Vec<Cells> = own.iter().cloned().chain(made).collect();
        for (index, cell) in cells.iter().enumerate().filter(|(_, cell)| cell.is_some()) {
            assert!(
                known.iter().any(|cells| cells.get(index) == Some(cell)),
                "{cell:?} in {side} is nobody's: {self:?}"
            );
        }
    }

    fn swapped(&self) -> Self {
        fn swap<T: Clone>(sides: &Sides<T>) -> Sides<T> {
            Sides { intercom: sides.brevo.clone(), brevo: sides.intercom.clone() }
        }
        Self {
            rule: self.rule.swapped(),
            now: swap(&self.now),
            changed: swap(&self.changed),
            base: self.base.as_ref().map(swapped_base),
            stood: swap(&self.stood),
            log: self.log.iter().map(|(side, lost)| (side.other(), lost.clone())).collect(),
            clock: self.clock,
        }
    }
}

fn swapped_base(base: &FieldBase) -> FieldBase {
    FieldBase {
        rule: base.rule.clone(),
        agreed: Sides { intercom: base.agreed.brevo.clone(), brevo: base.agreed.intercom.clone() },
        refused: Sides { intercom: base.refused.brevo.clone(), brevo: base.refused.intercom.clone() },
        overrun: base.overrun.map(SideName::other),
        own: base.own.map(SideName::other),
        met: base.met.map(|met| Met { side: met.side.other(), ..met }),
    }
}

/// A step without its words.
fn essence(step: FieldStep, swap: bool) -> (Option<SideName>, Option<Cells>, Option<FieldBase>, Option<Cells>) {
    let side = |side: SideName| if swap { side.other() } else { side };
    let base = |base: FieldBase| if swap { swapped_base(&base) } else { base };
    match step {
        FieldStep::Nothing => (None, None, None, None),
        FieldStep::Unmapped(from) => (Some(side(from)), None, None, None),
        FieldStep::Remember(agreed) => (None, None, Some(base(agreed)), None),
        FieldStep::Write { to, cells, base: agreed, replaces, .. } => {
            (Some(side(to)), Some(cells), Some(base(agreed)), replaces)
        }
    }
}

fn side() -> impl Strategy<Value = SideName> {
    prop_oneof![Just(SideName::Intercom), Just(SideName::Brevo)]
}

fn wins() -> impl Strategy<Value = Wins> {
    prop_oneof![side().prop_map(Wins::Always), side().prop_map(|tie| Wins::Newest { tie })]
}

fn flow() -> impl Strategy<Value = Flow> {
    prop_oneof![1 => side().prop_map(Flow::From), 2 => wins().prop_map(Flow::Both)]
}

fn rule_with(flow: impl Strategy<Value = Flow>) -> impl Strategy<Value = Rule> {
    let kind = prop_oneof![Just(Kind::Same), Just(Kind::Coarse), Just(Kind::Parts)];
    let clear = prop_oneof![Just(Clear::Keep), Just(Clear::Propagate)];
    let drift = prop_oneof![Just(Drift::Restore), Just(Drift::Leave)];
    (kind, side(), flow, clear, drift).prop_map(|(kind, fine, flow, clear, drift)| Rule {
        name: "r1",
        kind,
        fine,
        flow,
        clear,
        drift,
    })
}

fn rule() -> impl Strategy<Value = Rule> {
    rule_with(flow())
}

/// What happens to a field between two looks.
#[derive(Debug, Clone)]
enum Event {
    Edit { side: SideName, number: u8, look: bool },
    Plan,
    Settle,
    OtherRule(Flow, &'static str),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (side(), 0..6_u8, any::<bool>()).prop_map(|(side, number, look)| Event::Edit { side, number, look }),
        1 => Just(Event::Plan),
        2 => Just(Event::Settle),
        1 => (flow(), prop_oneof![Just("r1"), Just("r2")]).prop_map(|(flow, name)| Event::OtherRule(flow, name)),
    ]
}

fn history() -> impl Strategy<Value = Vec<Event>> {
    prop::collection::vec(event(), 0..8)
}

fn play(mut world: World, history: &[Event]) -> World {
    for event in history {
        match event {
            Event::Edit { side, number, look } => world.edit(*side, *number, *look),
            Event::Plan => {
                let step = world.decide(false);
                world.apply(step);
            }
            Event::Settle => world.settle(),
            Event::OtherRule(flow, name) => (world.rule.flow, world.rule.name) = (*flow, name),
        }
    }
    world
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 800, ..ProptestConfig::default() })]

    /// Whatever happened: it ends within three plans, the next writes nothing and remembers nothing new, nothing is
    /// lost without a trace, and no value is written that nobody had.
    #[test]
    fn it_comes_to_rest(rule in rule(), values in (0..6_u8, 0..6_u8), history in history()) {
        let mut world = play(World::new(rule, values.0, values.1), &history);
        world.settle();
    }

    /// Both ways, both sides agree in the end, unless one will not take the other's value; or is kept after a clear.
    #[test]
    fn both_sides_agree(rule in rule_with(wins().prop_map(Flow::Both)), values in (0..6_u8, 0..6_u8), history in history()) {
        let history: Vec<Event> =
            history.into_iter().filter(|event| !matches!(event, Event::OtherRule(Flow::From(_), _))).collect();
        let mut world = play(World::new(rule, values.0, values.1), &history);
        world.settle();
        let cleared = rule.clear == Clear::Keep && SideName::BOTH.iter().any(|side| all_blank(&world.now[*side]));
        prop_assert!(world.agree() || world.refused() || cleared, "{world:?}");
    }

    /// Swapping the sides and the rule swaps the plan.
    #[test]
    fn no_side_is_special(rule in rule(), values in (0..6_u8, 0..6_u8), history in history(), sweep: bool) {
        let world = play(World::new(rule, values.0, values.1), &history);
        prop_assert_eq!(essence(world.decide(sweep), false), essence(world.swapped().decide(sweep), true));
    }

    /// What one side alone has changed reaches the other, and stays.
    #[test]
    fn a_change_on_one_side_is_never_lost(
        rule in rule(), values in (0..6_u8, 0..6_u8), history in history(), on in side(), number in 0..4_u8,
    ) {
        let mut world = play(World::new(rule, values.0, values.1), &history);
        world.settle();
        let (before, rule) = (world.now.clone(), world.rule);
        let was_refused = world.refused();
        world.edit(on, number, true);
        let edited = world.now[on].clone();
        if edited == before[on] || rule.flow == Flow::From(on.other()) {
            return Ok(());
        }
        world.settle();
        prop_assert_eq!(&world.now[on], &edited);
        if all_blank(&edited) && rule.clear == Clear::Keep {
            prop_assert_eq!(&world.now[on.other()], &before[on.other()]);
        } else {
            let made = rule.made(on.other(), &edited, &before[on.other()]);
            prop_assert!(world.now[on.other()] == made || world.agree() || was_refused, "{world:?}");
        }
    }

    /// Where both have changed it, the rule's side stands (the later, if that is known), and the other's value is in the
    /// log.
    #[test]
    fn a_conflict_goes_by_the_rule_and_is_logged(
        rule in rule_with(wins().prop_map(Flow::Both)), value in 0..4_u8, edits in (1..4_u8, 1..4_u8), first in side(), apart: bool,
    ) {
        let mut world = World::new(rule, value, value);
        world.settle();
        let before = world.now.clone();
        world.edit(first, edits.0, apart);
        world.edit(first.other(), edits.1, true);
        if SideName::BOTH.iter().any(|side| world.now[*side] == before[*side]) || world.agree() {
            return Ok(());
        }
        let edited = world.now.clone();
        let winner = match rule.flow {
            Flow::Both(Wins::Newest { tie }) => if apart { first.other() } else { tie },
            Flow::Both(Wins::Always(side)) | Flow::From(side) => side,
        };
        world.log.clear();
        world.settle();
        prop_assert_eq!(&world.now[winner], &edited[winner]);
        prop_assert_eq!(&world.now[winner.other()], &rule.made(winner.other(), &edited[winner], &edited[winner.other()]));
        prop_assert_eq!(&world.log, &vec![(winner.other(), edited[winner.other()].clone())]);
        prop_assert!(rule.is_two_way());
    }

    /// The finer value stays until somebody edits the coarser one.
    #[test]
    fn the_finer_value_stays(
        wins in wins(), fine in side(), number in 1..4_u8, edits in prop::collection::vec(1..4_u8, 0..4),
    ) {
        let rule = Rule {
            name: "r1", kind: Kind::Coarse, fine, flow: Flow::Both(wins), clear: Clear::Keep, drift: Drift::Restore,
        };
        let mut world = World::new(rule, 0, 0);
        world.edit(fine, number, true);
        world.settle();
        for edit in edits {
            world.edit(fine, edit, true);
            let finer = world.now[fine].clone();
            world.settle();
            prop_assert_eq!(&world.now[fine], &finer, "whatever became of it on the other side");
            // The same coarse value, written once more, is no edit.
            let coarse = world.now[fine.other()].clone();
            world.now[fine.other()] = coarse;
            world.settle();
            prop_assert_eq!(&world.now[fine], &finer);
        }
        world.edit(fine.other(), 3, true);
        world.settle();
        prop_assert_eq!(text(world.now[fine].first()), Some("c.0".to_owned()));
    }

    /// Several fields of a record, whose plans are carried out in any order, some of them a round later, come to rest.
    #[test]
    fn plans_may_be_shuffled(
        rules in prop::collection::vec((rule(), 0..6_u8, 0..6_u8), 1..5),
        edits in prop::collection::vec((0..5_usize, side(), 0..6_u8), 0..6),
        order in prop::collection::vec(any::<prop::sample::Index>(), 3),
    ) {
        let mut worlds: Vec<World> = rules.into_iter().map(|(rule, one, other)| World::new(rule, one, other)).collect();
        let count = worlds.len();
        for world in &mut worlds {
            world.settle();
        }
        for (index, side, number) in edits {
            worlds[index % count].edit(side, number, true);
        }
        let mut writes = usize::MAX;
        for (round, start) in order.iter().enumerate() {
            let mut plans: Vec<(usize, FieldStep)> =
                worlds.iter().enumerate().map(|(index, world)| (index, world.decide(round > 0))).collect();
            plans.rotate_left(start.index(count));
            plans.reverse();
            writes = plans.into_iter().filter(|(index, step)| worlds[*index].apply(step.clone())).count();
        }
        prop_assert_eq!(writes, 0, "the third round still writes");
    }
}

/// While a write is on its way, its side counts as holding it, on either side.
#[test]
fn a_stale_view_is_nobodys_edit() {
    for to in SideName::BOTH {
        let sent = InFlight { sent: one("b"), before: one("a"), superseded: vec![], replaces: None, given: false };
        let base = FieldBase {
            rule: "r1".into(),
            agreed: Sides { intercom: one("b"), brevo: one("b") },
            ..FieldBase::default()
        };
        let views = FieldViews {
            rule: "r1",
            flow: Flow::Both(Wins::Always(to)),
            clear: Clear::Propagate,
            drift: Drift::Restore,
            shown: Sides::with(to, one("a"), one("b")),
            desired: Sides { intercom: Some(one("b")), brevo: Some(one("b")) },
            base: Some(&base),
            in_flight: Sides::with(to, Some(&sent), None),
            changed: Sides::default(),
            sweep: true,
        };
        assert_eq!(decide(&views), FieldStep::Nothing, "{to}");
    }
}

/// A late write of ours is replaced by what the other side has, never taken for an edit; and logged.
#[test]
fn a_late_write_of_ours_is_written_over() {
    for to in SideName::BOTH {
        for wins in [Wins::Always(to), Wins::Always(to.other()), Wins::Newest { tie: to }] {
            let base = FieldBase {
                rule: "r1".into(),
                agreed: Sides::with(to, one("late"), one("b")),
                overrun: Some(to),
                ..FieldBase::default()
            };
            let views = FieldViews {
                rule: "r1",
                flow: Flow::Both(wins),
                clear: Clear::Keep,
                drift: Drift::Restore,
                shown: Sides::with(to, one("late"), one("b")),
                desired: Sides::with(to, Some(one("b")), Some(one("late"))),
                base: Some(&base),
                in_flight: Sides::default(),
                changed: Sides::default(),
                sweep: false,
            };
            let FieldStep::Write { to: side, cells, replaces, base, .. } = decide(&views) else {
                panic!("not written")
            };
            assert_eq!((side, cells, replaces, base.overrun), (to, one("b"), Some(one("late")), None));
        }
    }
}

/// What cannot be mapped is not carried, and not written over either.
#[test]
fn a_value_that_cannot_be_mapped_waits() {
    let views = FieldViews {
        rule: "r1",
        flow: Flow::Both(Wins::Always(SideName::Intercom)),
        clear: Clear::Keep,
        drift: Drift::Restore,
        shown: Sides { intercom: one("nonsense"), brevo: one("b") },
        desired: Sides { intercom: Some(one("b")), brevo: None },
        base: None,
        in_flight: Sides::default(),
        changed: Sides::default(),
        sweep: true,
    };
    assert_eq!(decide(&views), FieldStep::Unmapped(SideName::Intercom));
    let brevo_wins = FieldViews { flow: Flow::Both(Wins::Always(SideName::Brevo)), ..views };
    assert!(matches!(decide(&brevo_wins), FieldStep::Write { to: SideName::Intercom, replaces: Some(_), .. }));
}
