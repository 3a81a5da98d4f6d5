//! One direction: Intercom gives, Brevo takes.

use super::*;
use proptest::prelude::*;

fn text(text: &str) -> Option<Value> {
    Value::text(text)
}

fn to_brevo(cells: Cells) -> Sides<Option<Cells>> {
    Sides { intercom: None, brevo: Some(cells) }
}

fn agreed_on(intercom: Option<Value>, brevo: Cells) -> FieldBase {
    FieldBase { rule: "r1".into(), agreed: Sides { intercom: vec![intercom], brevo }, ..FieldBase::default() }
}

fn views<'a>(intercom: &str, brevo: &str, base: Option<&'a FieldBase>) -> FieldViews<'a> {
    FieldViews {
        rule: "r1",
        flow: Flow::From(SideName::Intercom),
        clear: Clear::Keep,
        drift: Drift::Restore,
        shown: Sides { intercom: vec![text(intercom)], brevo: vec![text(brevo)] },
        desired: to_brevo(vec![text(intercom)]),
        base,
        in_flight: Sides::default(),
        changed: Sides::default(),
        sweep: false,
    }
}

fn base(intercom: &str, brevo: &str) -> FieldBase {
    agreed_on(text(intercom), vec![text(brevo)])
}

fn written(step: &FieldStep) -> Option<&Cells> {
    match step {
        FieldStep::Write { cells, .. } => Some(cells),
        _ => None,
    }
}

#[test]
fn first_link_takes_the_source_and_logs_what_it_replaces() {
    match decide(&views("a", "b", None)) {
        FieldStep::Write { cells, replaces, .. } => {
            assert_eq!(cells, vec![text("a")]);
            assert_eq!(replaces, Some(vec![text("b")]));
        }
        step => panic!("{step:?}"),
    }
}

#[test]
fn first_link_never_blanks() {
    assert!(matches!(decide(&views("", "b", None)), FieldStep::Remember(base) if base.agreed.brevo == vec![text("b")]));
    let mut name = views("", "", None);
    name.shown.intercom = vec![text("Cher")];
    name.desired = to_brevo(vec![text("Cher"), None]);
    name.shown.brevo = vec![None, text("Sarkisian")];
    assert_eq!(written(&decide(&name)), Some(&vec![text("Cher"), text("Sarkisian")]));
}

#[test]
fn what_a_first_link_left_there_is_logged_when_it_is_replaced() {
    let FieldStep::Remember(left) = decide(&views("", "z", None)) else { panic!("written") };
    assert!(matches!(decide(&views("b", "z", Some(&left))), FieldStep::Write { replaces: Some(_), .. }));
    // What both said is nobody's loss.
    let FieldStep::Remember(same) = decide(&views("a", "a", None)) else { panic!("written") };
    assert!(matches!(decide(&views("b", "a", Some(&same))), FieldStep::Write { replaces: None, .. }));
    // Nor does a part of a name go without a trace.
    let mut name = views("Cher", "", None);
    (name.desired, name.shown.brevo) = (to_brevo(vec![text("Cher"), None]), vec![text("Cher"), text("Sarkisian")]);
    let FieldStep::Remember(left) = decide(&name) else { panic!("written") };
    name.base = Some(&left);
    (name.shown.intercom, name.desired) = (vec![text("Jane Roe")], to_brevo(vec![text("Jane"), text("Roe")]));
    assert!(matches!(decide(&name), FieldStep::Write { replaces: Some(_), .. }));
}

#[test]
fn what_is_left_of_a_write_without_an_answer_is_logged_when_it_is_completed() {
    // Nothing had stood there before the write, and the first name has been taken away since.
    let agreed = Sides { intercom: Cells::new(), brevo: vec![None, None] };
    let before = FieldBase { agreed, ..FieldBase::default() };
    let mut name = views("Jane Roe", "", Some(&before));
    name.flow = Flow::Both(Wins::Newest { tie: SideName::Brevo });
    name.shown.brevo = vec![None, text("Roe")];
    name.desired = Sides { intercom: Some(vec![text("Roe")]), brevo: Some(vec![text("Jane"), text("Roe")]) };
    assert!(matches!(decide(&name), FieldStep::Write { to: SideName::Brevo, replaces: Some(_), .. }));
    // At a first link nobody loses anything by that.
    name.base = None;
    assert!(matches!(decide(&name), FieldStep::Write { to: SideName::Brevo, replaces: None, .. }));
}

#[test]
fn a_change_in_intercom_is_written_and_a_lost_edit_in_brevo_is_kept() {
    let agreed = base("a", "a");
    match decide(&views("b", "c", Some(&agreed))) {
        FieldStep::Write { cells, replaces, .. } => {
            assert_eq!((cells, replaces), (vec![text("b")], Some(vec![text("c")])));
        }
        step => panic!("{step:?}"),
    }
    match decide(&views("b", "a", Some(&agreed))) {
        FieldStep::Write { replaces, .. } => assert_eq!(replaces, None, "an agreed value is nobody's loss"),
        step => panic!("{step:?}"),
    }
}

#[test]
fn a_clear_is_kept_unless_asked() {
    let agreed = base("a", "a");
    assert!(matches!(decide(&views("", "a", Some(&agreed))), FieldStep::Remember(_)));
    let mut clear = views("", "a", Some(&agreed));
    clear.clear = Clear::Propagate;
    assert_eq!(written(&decide(&clear)), Some(&vec![None]));
}

#[test]
fn a_clear_is_a_clear_under_another_rule_too() {
    let mut agreed = base("a", "a");
    agreed.rule = "r0".into();
    let mut clear = views("", "a", Some(&agreed));
    assert!(matches!(decide(&clear), FieldStep::Remember(_)), "kept");
    clear.clear = Clear::Propagate;
    assert_eq!(written(&decide(&clear)), Some(&vec![None]));
    // Somebody's own value in Brevo is not blanked by a rule that is new.
    clear.shown.brevo = vec![text("z")];
    assert!(matches!(decide(&clear), FieldStep::Remember(_)));
    // A rule that makes nothing of a value that is still there has not lost its source.
    let mut nothing = views("a", "a", Some(&agreed));
    (nothing.clear, nothing.desired) = (Clear::Propagate, to_brevo(vec![None]));
    assert!(matches!(decide(&nothing), FieldStep::Remember(_)));
    // Part of it went away.
    let mut whole = agreed.clone();
    whole.agreed.brevo = vec![text("Jane"), text("Doe")];
    let mut name = views("Cher", "", Some(&whole));
    (name.desired, name.shown.brevo) = (to_brevo(vec![text("Cher"), None]), vec![text("Jane"), text("Doe")]);
    assert_eq!(written(&decide(&name)), Some(&vec![text("Cher"), None]));
}

#[test]
fn an_edit_that_a_kept_clear_left_there_is_logged_when_it_is_replaced() {
    let agreed = base("a", "a");
    let FieldStep::Remember(kept) = decide(&views("", "z", Some(&agreed))) else { panic!("written") };
    assert!(matches!(decide(&views("b", "z", Some(&kept))), FieldStep::Write { replaces: Some(_), .. }));
    // Also if the rule has changed meanwhile, or only Intercom's word for the attribute.
    let before = FieldBase { rule: "r0".into(), ..kept };
    let FieldStep::Remember(kept) = decide(&views("", "z", Some(&before))) else { panic!("written") };
    assert!(matches!(decide(&views("b", "z", Some(&kept))), FieldStep::Write { replaces: Some(_), .. }));
    // What both had agreed on is nobody's loss.
    let FieldStep::Remember(kept) = decide(&views("", "a", Some(&agreed))) else { panic!("written") };
    assert!(matches!(decide(&views("b", "a", Some(&kept))), FieldStep::Write { replaces: None, .. }));
}

#[test]
fn a_value_given_again_is_logged_when_an_edit_that_was_not_seen_then_replaces_it() {
    let both = |mut views: FieldViews<'_>| {
        views.flow = Flow::Both(Wins::Always(SideName::Intercom));
        views.desired = Sides { intercom: Some(views.shown.brevo.clone()), brevo: Some(views.shown.intercom.clone()) };
        decide(&views)
    };
    let agreed = base("a", "a");
    let FieldStep::Remember(cleared) = both(views("", "a", Some(&agreed))) else { panic!("written") };
    let FieldStep::Remember(again) = both(views("a", "a", Some(&cleared))) else { panic!("written") };
    match both(views("a", "z", Some(&again))) {
        FieldStep::Write { to, replaces, .. } => {
            assert_eq!((to, replaces), (SideName::Intercom, Some(vec![text("a")])));
        }
        step => panic!("{step:?}"),
    }
}

#[test]
fn true_to_false_is_a_write_not_a_clear() {
    let yes = Some(Value::Boolean(true));
    let agreed = agreed_on(yes.clone(), vec![yes.clone()]);
    let mut views = views("", "", Some(&agreed));
    views.shown = Sides { intercom: vec![Some(Value::Boolean(false))], brevo: vec![yes] };
    views.desired = to_brevo(vec![Some(Value::Boolean(false))]);
    assert_eq!(written(&decide(&views)), Some(&vec![Some(Value::Boolean(false))]));
    views.shown.brevo = vec![None];
    assert!(written(&decide(&views)).is_none(), "absent and false are one value");
}

#[test]
fn drift_is_restored_in_a_sweep_only_and_never_blanks() {
    let agreed = base("a", "a");
    let mut drift = views("a", "z", Some(&agreed));
    assert_eq!(decide(&drift), FieldStep::Nothing);
    drift.sweep = true;
    assert_eq!(written(&decide(&drift)), Some(&vec![text("a")]));
    drift.drift = Drift::Leave;
    let FieldStep::Remember(left) = decide(&drift) else { panic!("it is left") };
    let moved_on = views("b", "z", Some(&left));
    assert!(matches!(decide(&moved_on), FieldStep::Write { replaces: Some(_), .. }), "nobody had agreed to it");
    let agreed = base("", "a");
    let mut empty = views("", "z", Some(&agreed));
    empty.sweep = true;
    assert!(matches!(decide(&empty), FieldStep::Remember(_)));
}

#[test]
fn our_own_write_on_its_way_is_nobodys_edit() {
    let agreed = base("b", "b");
    let write =
        InFlight { sent: vec![text("b")], before: vec![text("a")], superseded: vec![], replaces: None, given: false };
    let mut stale = views("b", "a", Some(&agreed));
    stale.sweep = true;
    stale.in_flight.brevo = Some(&write);
    assert_eq!(decide(&stale), FieldStep::Nothing);
}

#[test]
fn a_refused_value_is_not_resent_until_something_changes() {
    let mut refused = base("long", "old");
    refused.refused.brevo = Some(vec![text("long")]);
    let mut same = views("long", "old", Some(&refused));
    same.sweep = true;
    assert_eq!(decide(&same), FieldStep::Nothing);
    // The source moved, but not to another value for Brevo: a time of which only the day is written.
    same.shown.intercom = vec![text("longer")];
    assert!(matches!(decide(&same), FieldStep::Remember(base) if base.agreed.intercom == vec![text("longer")]));
    assert_eq!(written(&decide(&views("other", "old", Some(&refused)))), Some(&vec![text("other")]));
}

#[test]
fn a_server_is_judged_by_what_stands_there_afterwards() {
    let long = "x".repeat(150);
    let write = InFlight {
        sent: vec![text(&long)],
        before: vec![text("old")],
        superseded: vec![vec![text("mid")]],
        replaces: None,
        given: false,
    };
    assert_eq!(judge(SideName::Brevo, &write, &vec![text(&long)]), Verdict::Adopted);
    assert_eq!(judge(SideName::Brevo, &write, &vec![text(&long[..100])]), Verdict::Adopted);
    assert_eq!(judge(SideName::Brevo, &write, &vec![text(&long[..99])]), Verdict::Edited);
    assert_eq!(judge(SideName::Brevo, &write, &vec![text("old")]), Verdict::Refused);
    assert_eq!(judge(SideName::Brevo, &write, &vec![text("mid")]), Verdict::Superseded);
    let back = InFlight { superseded: vec![vec![text("mid")], vec![text("old")]], ..write.clone() };
    assert_eq!(
        judge(SideName::Brevo, &back, &vec![text("old")]),
        Verdict::Superseded,
        "it may be the second that came late"
    );
    assert_eq!(judge(SideName::Brevo, &write, &vec![text("new")]), Verdict::Edited);
}

#[test]
fn an_edit_that_may_be_older_than_an_agreement_nobody_looked_at_is_a_conflict() {
    let at = |seconds| DateTime::from_timestamp(seconds, 0).unwrap();
    let seen = |after, until| Some(Span { after: Some(at(after)), until: at(until) });
    let both = |brevo: &str, base| FieldViews {
        flow: Flow::Both(Wins::Always(SideName::Intercom)),
        desired: Sides { intercom: Some(vec![text(brevo)]), brevo: Some(vec![text("a")]) },
        ..views("a", brevo, base)
    };
    // It was blanked in Intercom, which stayed there; now it is given again.
    let cleared = agreed_on(None, vec![text("a")]);
    let mut again = both("a", Some(&cleared));
    again.changed.intercom = seen(10, 20);
    let FieldStep::Remember(met) = decide(&again) else { panic!("they agree") };
    let mut edited = both("b", Some(&met));
    for (span, to, lost) in [
        (None, SideName::Brevo, Some(vec![text("b")])),
        (seen(15, 30), SideName::Brevo, Some(vec![text("b")])),
        (seen(20, 30), SideName::Intercom, None),
    ] {
        edited.changed.brevo = span;
        match decide(&edited) {
            FieldStep::Write { to: side, replaces, base, .. } => {
                assert_eq!((side, replaces, base.met), (to, lost, None), "{span:?}");
            }
            step => panic!("{step:?}"),
        }
    }
    // But a late write of ours that stands where they came to agree is nobody's edit, whoever wins.
    let late = FieldBase {
        agreed: Sides { intercom: vec![text("late")], brevo: vec![text("a")] },
        overrun: Some(SideName::Intercom),
        ..met.clone()
    };
    let mut overrun = both("a", Some(&late));
    (overrun.shown.intercom, overrun.desired.brevo) = (vec![text("late")], Some(vec![text("late")]));
    match decide(&overrun) {
        FieldStep::Write { to, replaces, .. } => {
            assert_eq!((to, replaces), (SideName::Intercom, Some(vec![text("late")])));
        }
        step => panic!("{step:?}"),
    }
    // A write of ours had landed without an answer, as a read has shown: since then that side has been looked at.
    let mut landed = agreed_on(None, vec![text("a")]);
    landed.agreed.intercom = Cells::new();
    let mut after = both("a", Some(&landed));
    after.changed.intercom = seen(10, 20);
    let FieldStep::Remember(agreed) = decide(&after) else { panic!("they agree") };
    let mut edited = both("b", Some(&agreed));
    edited.changed.brevo = seen(15, 30);
    assert!(matches!(decide(&edited), FieldStep::Write { to: SideName::Intercom, replaces: None, .. }));
}

fn cell() -> impl Strategy<Value = Option<Value>> {
    prop_oneof![Just(None), "[a-c]".prop_map(Value::text), any::<bool>().prop_map(|flag| Some(Value::Boolean(flag))),]
}

proptest! {
    /// Plan, pretend it was accepted, plan again: the second plan is empty, whatever the views were.
    #[test]
    fn a_second_plan_writes_nothing(
        source in cell(), shown in cell(), base_source in cell(), base_shown in cell(),
        has_base: bool, keep: bool, restore: bool, sweep: bool,
    ) {
        let agreed = agreed_on(base_source, vec![base_shown]);
        let mut views = FieldViews {
            rule: "r1",
            flow: Flow::From(SideName::Intercom),
            clear: if keep { Clear::Keep } else { Clear::Propagate },
            drift: if restore { Drift::Restore } else { Drift::Leave },
            shown: Sides { intercom: vec![source.clone()], brevo: vec![shown.clone()] },
            desired: to_brevo(vec![source]),
            base: has_base.then_some(&agreed),
            in_flight: Sides::default(),
            changed: Sides::default(),
            sweep,
        };
        let (after, shown) = match decide(&views) {
            FieldStep::Write { cells, base, .. } => (Some(base), cells),
            FieldStep::Remember(base) => (Some(base), vec![shown]),
            FieldStep::Nothing => (views.base.cloned(), vec![shown]),
            FieldStep::Unmapped(side) => panic!("{side:?} can be mapped"),
        };
        views.base = after.as_ref();
        views.shown.brevo = shown;
        let writes_again = matches!(decide(&views), FieldStep::Write { .. });
        prop_assert!(!writes_again);
    }

    /// Whatever is written is the source's value (or what already stood in a cell that the source leaves blank).
    #[test]
    fn never_a_value_that_neither_side_had(source in cell(), shown in cell(), base_source in cell(), sweep: bool) {
        let agreed = agreed_on(base_source.clone(), vec![base_source]);
        let views = FieldViews {
            rule: "r1",
            flow: Flow::From(SideName::Intercom),
            clear: Clear::Propagate,
            drift: Drift::Restore,
            shown: Sides { intercom: vec![source.clone()], brevo: vec![shown.clone()] },
            desired: to_brevo(vec![source.clone()]),
            base: Some(&agreed),
            in_flight: Sides::default(),
            changed: Sides::default(),
            sweep,
        };
        if let FieldStep::Write { cells, .. } = decide(&views) {
            prop_assert!(cells[0] == source || cells[0] == shown);
        }
    }
}
