//! The three-way merge of one field, and the judgement of what a server made of our write.
//!
//! Each side is compared in its own terms: base keeps the value on the Intercom side and the cells on the Brevo side,
//! because a mapping is not always a bijection (`name` → FIRSTNAME + LASTNAME). A side has changed a field exactly
//! when its view differs from base.

use crate::model::{Value, pack};
use minicbor::{Decode, Encode};

/// What a rule's targets hold in Brevo, one cell per target, in canonical form. `None` is blank.
pub type Cells = Vec<Option<Value>>;

/// What both sides agreed on for one field.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
#[cbor(context_bound = "pack::Words")]
pub struct FieldBase {
    /// Fingerprint of the rule under which they agreed: under another rule, the field is planned afresh.
    #[n(0)]
    #[cbor(with = "pack::word")]
    pub rule: String,
    /// The value on the Intercom side.
    #[n(1)]
    pub intercom: Option<Value>,
    /// The cells on the Brevo side: what really stands there.
    #[n(2)]
    pub brevo: Cells,
    /// Cells that Brevo would not take: not sent again until the source, the rule or the attribute changes.
    #[n(3)]
    pub refused: Option<Cells>,
}

/// A write that left (or was about to leave) and that no verifying read has settled yet.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct InFlight {
    /// What it sets.
    #[n(0)]
    pub sent: Cells,
    /// What stood there before.
    #[n(1)]
    pub before: Cells,
    /// What earlier writes, not settled either, set: a late one may still land.
    #[n(2)]
    pub superseded: Vec<Cells>,
}

/// What to do when the source goes from a value to blank.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clear {
    /// Leave what stands in Brevo.
    Keep,
    /// Blank it there too.
    Propagate,
}

/// What to do when somebody edits a one-way field on its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drift {
    /// Write the source's value again at the next sweep.
    Restore,
    /// Accept it.
    Leave,
}

/// All that the decision about one field depends on.
#[derive(Debug, Clone)]
pub struct FieldViews<'a> {
    /// The rule's fingerprint.
    pub rule: &'a str,
    /// What to do about clears.
    pub clear: Clear,
    /// What to do about drift.
    pub drift: Drift,
    /// The value on the Intercom side.
    pub intercom: Option<Value>,
    /// What Brevo ought to hold for it.
    pub desired: Cells,
    /// What Brevo shows.
    pub brevo: Cells,
    /// What both agreed on; `None` at the first link.
    pub base: Option<&'a FieldBase>,
    /// Our own write on its way.
    pub in_flight: Option<&'a InFlight>,
    /// Whether this is a sweep, in which drift is restored.
    pub sweep: bool,
}

/// What to do about one field.
#[derive(Debug, Clone, PartialEq)]
pub enum FieldStep {
    /// Nothing, and nothing to remember.
    Nothing,
    /// Nothing to write; remember this.
    Remember(FieldBase),
    /// Write these cells; once accepted, remember this.
    Write {
        /// What to set, one cell per target.
        cells: Cells,
        /// Base once accepted.
        base: FieldBase,
        /// A value of Brevo's that is replaced although nobody had agreed to it: for the conflict log.
        replaces: Option<Cells>,
        /// Why, in words for the history.
        cause: &'static str,
    },
}

/// Equal in canonical form. For a boolean in Brevo, absent and `false` are one value (an import drops `false`).
pub fn same_cell(a: Option<&Value>, b: Option<&Value>) -> bool {
    let blank_or_false = |value: Option<&Value>| matches!(value, None | Some(Value::Boolean(false)));
    a == b || (blank_or_false(a) && blank_or_false(b))
}

/// [`same_cell`] for all cells.
pub fn same_cells(a: &[Option<Value>], b: &[Option<Value>]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_cell(a.as_ref(), b.as_ref()))
}

/// No value at all. A lone `false` is a value: a source that says no is not a source that says nothing.
fn all_blank(cells: &[Option<Value>]) -> bool {
    cells.iter().all(Option::is_none)
}

/// Decides about one one-way field (Intercom → Brevo).
pub fn decide(views: &FieldViews<'_>) -> FieldStep {
    // While our own write is on its way, Brevo counts as holding what we sent: neither the old value nor a stale read
    // of it is anybody's edit.
    let shown = views.in_flight.map_or(&views.brevo, |write| &write.sent);
    let agreed = |brevo: &Cells| FieldBase {
        rule: views.rule.to_owned(),
        intercom: views.intercom.clone(),
        brevo: brevo.clone(),
        refused: None,
    };
    let write = |cells: Cells, replaces: Option<Cells>, cause| {
        let replaces = replaces.filter(|cells| !all_blank(cells));
        FieldStep::Write { base: agreed(&cells), cells, replaces, cause }
    };

    let Some(base) = views.base.filter(|base| base.rule == views.rule) else {
        // First link, a new field, or a changed rule: the source wins where it has a value, and never blanks.
        let cells = match views.base {
            // But a source that has moved on since both agreed takes along what it gave, whatever the rule says now. (Also
            // when nobody touched the rule: Intercom declares an attribute with its first value, and only at the next
            // start its type is known.)
            Some(before) if moved_on(before, views, shown) => views.desired.clone(),
            _ => fill_blanks(&views.desired, shown),
        };
        if same_cells(&cells, shown) {
            return FieldStep::Remember(agreed(shown));
        }
        // Under a changed rule, what both had agreed on before is nobody's loss.
        let agreed_before = views.base.is_some_and(|base| same_cells(&base.brevo, shown));
        let lost = (!agreed_before).then(|| shown.clone());
        let cause = if views.base.is_some() { "the rule changed" } else { "first link: the source's value stands" };
        return write(cells, lost, cause);
    };

    let source_changed = base.intercom != views.intercom;
    let target_changed = !same_cells(&base.brevo, shown);
    let lost = || (target_changed && !all_blank(shown)).then(|| shown.clone());

    if let Some(refused) = &base.refused
        && same_cells(refused, &views.desired)
    {
        // Refused: what really stands there is base, and nothing is resent until what would be sent changes. (Some
        // sources move with every visit while the value made of them stays.)
        return if target_changed || source_changed {
            FieldStep::Remember(FieldBase { intercom: views.intercom.clone(), brevo: shown.clone(), ..base.clone() })
        } else {
            FieldStep::Nothing
        };
    }
    if source_changed {
        if all_blank(&views.desired) && views.clear == Clear::Keep {
            return FieldStep::Remember(agreed(shown));
        }
        if same_cells(&views.desired, shown) {
            return FieldStep::Remember(agreed(shown));
        }
        return write(views.desired.clone(), lost(), "changed in Intercom");
    }
    if target_changed {
        // Drift. A restore never blanks: an empty source leaves the target alone.
        let restore = views.drift == Drift::Restore && !all_blank(&views.desired);
        return match (restore, views.sweep) {
            (true, _) if same_cells(&views.desired, shown) => FieldStep::Remember(agreed(shown)),
            (true, true) => write(views.desired.clone(), Some(shown.clone()), "edited in Brevo, restored"),
            (true, false) => FieldStep::Nothing,
            (false, _) => FieldStep::Remember(agreed(shown)),
        };
    }
    FieldStep::Nothing
}

/// Whether, under another rule than the one both agreed under, the source has another value than then, and Brevo still
/// holds what it gave.
fn moved_on(before: &FieldBase, views: &FieldViews<'_>, shown: &Cells) -> bool {
    let changed = before.intercom.is_some() && before.intercom != views.intercom;
    let cleared = views.intercom.is_none() && views.clear == Clear::Propagate;
    changed && same_cells(&before.brevo, shown) && (cleared || !all_blank(&views.desired))
}

/// `desired` with its blank cells taken from `shown`.
fn fill_blanks(desired: &Cells, shown: &Cells) -> Cells {
    desired
        .iter()
        .enumerate()
        .map(|(index, cell)| cell.clone().or_else(|| shown.get(index).cloned().flatten()))
        .collect()
}

/// What a server made of a write, judged on the first fresh observation after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It took it (perhaps cut to a length): what stands there is base.
    Adopted,
    /// It kept what stood there before: refused.
    Refused,
    /// A late earlier write of ours stands there: write the current value again.
    Superseded,
    /// Somebody else's value stands there.
    Edited,
}

/// A server that cuts text off does so at a limit; below this many characters a shorter text is somebody's edit.
const SHORTEST_TRUNCATION: usize = 100;

/// Judges what `observed` says about `write`.
pub fn judge(write: &InFlight, observed: &Cells) -> Verdict {
    if same_cells(&write.sent, observed) || truncated(&write.sent, observed) {
        Verdict::Adopted
    } else if write.superseded.iter().any(|earlier| same_cells(earlier, observed)) {
        // Also where it is what stood there at first: if it was refused after all, the next judgement says so.
        Verdict::Superseded
    } else if same_cells(&write.before, observed) || partly_refused(write, observed) {
        Verdict::Refused
    } else {
        Verdict::Edited
    }
}

/// Each cell is what we sent or a truncation of it, and at least one is a truncation.
fn truncated(sent: &Cells, observed: &Cells) -> bool {
    sent.len() == observed.len()
        && sent.iter().zip(observed).all(|(sent, observed)| match (sent, observed) {
            (Some(Value::Text(sent)), Some(Value::Text(observed))) if sent != observed => {
                observed.chars().count() >= SHORTEST_TRUNCATION && sent.starts_with(observed.trim_end())
            }
            (sent, observed) => same_cell(sent.as_ref(), observed.as_ref()),
        })
}

/// Each cell is what we sent or what stood there before.
fn partly_refused(write: &InFlight, observed: &Cells) -> bool {
    observed.len() == write.sent.len()
        && write.before.len() == write.sent.len()
        && observed.iter().enumerate().all(|(index, cell)| {
            same_cell(cell.as_ref(), write.sent[index].as_ref())
                || same_cell(cell.as_ref(), write.before[index].as_ref())
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(text: &str) -> Option<Value> {
        Value::text(text)
    }

    fn views<'a>(intercom: &str, brevo: &str, base: Option<&'a FieldBase>) -> FieldViews<'a> {
        FieldViews {
            rule: "r1",
            clear: Clear::Keep,
            drift: Drift::Restore,
            intercom: text(intercom),
            desired: vec![text(intercom)],
            brevo: vec![text(brevo)],
            base,
            in_flight: None,
            sweep: false,
        }
    }

    fn base(intercom: &str, brevo: &str) -> FieldBase {
        FieldBase { rule: "r1".into(), intercom: text(intercom), brevo: vec![text(brevo)], refused: None }
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
        assert!(matches!(decide(&views("", "b", None)), FieldStep::Remember(base) if base.brevo == vec![text("b")]));
        let mut name = views("", "", None);
        name.intercom = text("Cher");
        name.desired = vec![text("Cher"), None];
        name.brevo = vec![None, text("Sarkisian")];
        assert_eq!(written(&decide(&name)), Some(&vec![text("Cher"), text("Sarkisian")]));
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
        clear.brevo = vec![text("z")];
        assert!(matches!(decide(&clear), FieldStep::Remember(_)));
        // A rule that makes nothing of a value that is still there has not lost its source.
        let mut nothing = views("a", "a", Some(&agreed));
        (nothing.clear, nothing.desired) = (Clear::Propagate, vec![None]);
        assert!(matches!(decide(&nothing), FieldStep::Remember(_)));
        // Part of it went away.
        let whole = FieldBase { brevo: vec![text("Jane"), text("Doe")], ..agreed.clone() };
        let mut name = views("Cher", "", Some(&whole));
        (name.desired, name.brevo) = (vec![text("Cher"), None], vec![text("Jane"), text("Doe")]);
        assert_eq!(written(&decide(&name)), Some(&vec![text("Cher"), None]));
    }

    #[test]
    fn true_to_false_is_a_write_not_a_clear() {
        let agreed = FieldBase {
            rule: "r1".into(),
            intercom: Some(Value::Boolean(true)),
            brevo: vec![Some(Value::Boolean(true))],
            refused: None,
        };
        let mut views = views("", "", Some(&agreed));
        views.intercom = Some(Value::Boolean(false));
        views.desired = vec![Some(Value::Boolean(false))];
        views.brevo = vec![Some(Value::Boolean(true))];
        assert_eq!(written(&decide(&views)), Some(&vec![Some(Value::Boolean(false))]));
        views.brevo = vec![None];
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
        assert!(matches!(decide(&drift), FieldStep::Remember(_)));
        let agreed = base("", "a");
        let mut empty = views("", "z", Some(&agreed));
        empty.sweep = true;
        assert!(matches!(decide(&empty), FieldStep::Remember(_)));
    }

    #[test]
    fn our_own_write_on_its_way_is_nobodys_edit() {
        let agreed = base("b", "b");
        let write = InFlight { sent: vec![text("b")], before: vec![text("a")], superseded: vec![] };
        let mut stale = views("b", "a", Some(&agreed));
        stale.sweep = true;
        stale.in_flight = Some(&write);
        assert_eq!(decide(&stale), FieldStep::Nothing);
    }

    #[test]
    fn a_refused_value_is_not_resent_until_something_changes() {
        let mut refused = base("long", "old");
        refused.refused = Some(vec![text("long")]);
        let mut same = views("long", "old", Some(&refused));
        same.sweep = true;
        assert_eq!(decide(&same), FieldStep::Nothing);
        // The source moved, but not to another value for Brevo: a time of which only the day is written.
        same.intercom = text("longer");
        assert!(matches!(decide(&same), FieldStep::Remember(base) if base.intercom == text("longer")));
        assert_eq!(written(&decide(&views("other", "old", Some(&refused)))), Some(&vec![text("other")]));
    }

    #[test]
    fn a_server_is_judged_by_what_stands_there_afterwards() {
        let long = "x".repeat(150);
        let write =
            InFlight { sent: vec![text(&long)], before: vec![text("old")], superseded: vec![vec![text("mid")]] };
        assert_eq!(judge(&write, &vec![text(&long)]), Verdict::Adopted);
        assert_eq!(judge(&write, &vec![text(&long[..100])]), Verdict::Adopted);
        assert_eq!(judge(&write, &vec![text(&long[..99])]), Verdict::Edited);
        assert_eq!(judge(&write, &vec![text("old")]), Verdict::Refused);
        assert_eq!(judge(&write, &vec![text("mid")]), Verdict::Superseded);
        let back = InFlight { superseded: vec![vec![text("mid")], vec![text("old")]], ..write.clone() };
        assert_eq!(judge(&back, &vec![text("old")]), Verdict::Superseded, "it may be the second that came late");
        assert_eq!(judge(&write, &vec![text("new")]), Verdict::Edited);
    }

    fn cell() -> impl Strategy<Value = Option<Value>> {
        prop_oneof![
            Just(None),
            "[a-c]".prop_map(Value::text),
            any::<bool>().prop_map(|flag| Some(Value::Boolean(flag))),
        ]
    }

    proptest! {
        /// Plan, pretend it was accepted, plan again: the second plan is empty, whatever the views were.
        #[test]
        fn a_second_plan_writes_nothing(
            source in cell(), shown in cell(), base_source in cell(), base_shown in cell(),
            has_base: bool, keep: bool, restore: bool, sweep: bool,
        ) {
            let agreed = FieldBase { rule: "r1".into(), intercom: base_source, brevo: vec![base_shown], refused: None };
            let mut views = FieldViews {
                rule: "r1",
                clear: if keep { Clear::Keep } else { Clear::Propagate },
                drift: if restore { Drift::Restore } else { Drift::Leave },
                intercom: source.clone(),
                desired: vec![source],
                brevo: vec![shown.clone()],
                base: has_base.then_some(&agreed),
                in_flight: None,
                sweep,
            };
            let (after, shown) = match decide(&views) {
                FieldStep::Write { cells, base, .. } => (Some(base), cells),
                FieldStep::Remember(base) => (Some(base), vec![shown]),
                FieldStep::Nothing => (views.base.cloned(), vec![shown]),
            };
            views.base = after.as_ref();
            views.brevo = shown;
            let writes_again = matches!(decide(&views), FieldStep::Write { .. });
            prop_assert!(!writes_again);
        }

        /// Whatever is written is the source's value (or what already stood in a cell that the source leaves blank).
        #[test]
        fn never_a_value_that_neither_side_had(source in cell(), shown in cell(), base_source in cell(), sweep: bool) {
            let agreed =
                FieldBase { rule: "r1".into(), intercom: base_source.clone(), brevo: vec![base_source], refused: None };
            let views = FieldViews {
                rule: "r1", clear: Clear::Propagate, drift: Drift::Restore, intercom: source.clone(),
                desired: vec![source.clone()], brevo: vec![shown.clone()], base: Some(&agreed), in_flight: None, sweep,
            };
            if let FieldStep::Write { cells, .. } = decide(&views) {
                prop_assert!(cells[0] == source || cells[0] == shown);
            }
        }
    }
}
