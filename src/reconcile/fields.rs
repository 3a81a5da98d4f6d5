//! The three-way merge of one field, in whichever direction it travels.
//!
//! Each side is compared in its own terms: base keeps the cells of the Intercom side and those of the Brevo side, because
//! a mapping is not always a bijection (`name` → FIRSTNAME + LASTNAME, a time → its day). A side has changed a field
//! exactly when its view differs from base. Only where there is no base are the two compared across: they agree when
//! either makes the other (docs/decisions/0014).

mod judge;
#[cfg(test)]
mod laws;
#[cfg(test)]
mod tests;

pub use judge::{Verdict, judge};

use super::newest::Span;
use crate::model::{SideName, Sides, Value, pack};
use chrono::DateTime;
use minicbor::{Decode, Encode};

/// What a field holds on one side, in canonical form: one cell in Intercom, one per target in Brevo. `None` is blank.
pub type Cells = Vec<Option<Value>>;

/// What both sides agreed on for one field.
#[derive(Debug, Clone, Default, PartialEq, Encode, Decode)]
#[cbor(context_bound = "pack::Words")]
pub struct FieldBase {
    /// Fingerprint of the rule under which they agreed: under another rule, the field is planned afresh.
    #[n(0)]
    #[cbor(with = "pack::word")]
    pub rule: String,
    /// What really stands on each side. No cell at all: that is not known, and whatever the side shows is news.
    #[n(1)]
    pub agreed: Sides<Cells>,
    /// Cells that a side would not take: not sent there again until the source, the rule or the attribute changes.
    #[n(2)]
    pub refused: Sides<Option<Cells>>,
    /// On this side, a late write of ours has replaced what had been agreed: the other side's value is to be written
    /// there again.
    #[n(3)]
    pub overrun: Option<SideName>,
    /// On this side stands what somebody gave there, and the other had no part in it: a clear of that side's was kept from it,
    /// it stood there before the other, which gives, said anything; it was edited there, and is left so; or it came to be what
    /// the other was last seen to hold, nobody knows when. Nobody's value goes without a trace: if it is replaced, that is logged.
    #[n(4)]
    pub own: Option<SideName>,
    /// One side had come to hold by itself what goes with what the other was last seen to hold. So nothing was written, and
    /// nobody looked at the other: somebody may have edited it before that.
    #[n(5)]
    pub met: Option<Met>,
}

/// Which side had come to agree, and when (in milliseconds), as far as that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Met {
    #[n(0)]
    side: SideName,
    #[n(1)]
    after: Option<i64>,
    #[n(2)]
    until: i64,
}

impl Met {
    fn new(side: SideName, changed: Span) -> Self {
        let Span { after, until } = changed;
        Self { side, after: after.map(|after| after.timestamp_millis()), until: until.timestamp_millis() }
    }

    fn changed(&self) -> Option<Span> {
        let at = DateTime::from_timestamp_millis;
        Some(Span { after: self.after.and_then(at), until: at(self.until)? })
    }
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
    /// A value that it replaces although nobody had agreed to it, and why: for the conflict log, if no answer says that it
    /// was taken, but a read shows it.
    #[n(3)]
    pub replaces: Option<(Cells, String)>,
    /// It is no write: both sides were given what is `sent`, while the earlier ones may still land.
    #[n(4)]
    #[cbor(default)]
    pub given: bool,
}

/// Which way a field travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// This side gives, the other takes.
    From(SideName),
    /// Both give and take.
    Both(Wins),
}

/// Whose value stands where both sides have changed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wins {
    /// The later change's; where nobody can say which was later, this side's.
    Newest {
        /// Who wins a tie.
        tie: SideName,
    },
    /// Always this side's.
    Always(SideName),
}

/// What to do when a side goes from a value to blank.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clear {
    /// Leave what stands on the other.
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
    /// Which way it travels.
    pub flow: Flow,
    /// What to do about clears.
    pub clear: Clear,
    /// What to do about drift.
    pub drift: Drift,
    /// What each side shows.
    pub shown: Sides<Cells>,
    /// What each side ought to hold for what the *other* holds (a write on its way counts as having landed). `None`
    /// where that cannot be said: the field does not travel there, or the value cannot be mapped.
    pub desired: Sides<Option<Cells>>,
    /// What both agreed on; `None` at the first link.
    pub base: Option<&'a FieldBase>,
    /// Our own writes on their way.
    pub in_flight: Sides<Option<&'a InFlight>>,
    /// When each side came to hold what it shows, as far as that is known.
    pub changed: Sides<Option<Span>>,
    /// Whether this is a sweep, in which drift is restored.
    pub sweep: bool,
}

/// What to do about one field. Never more than one side is written.
#[derive(Debug, Clone, PartialEq)]
pub enum FieldStep {
    /// Nothing, and nothing to remember.
    Nothing,
    /// Nothing to write; remember this.
    Remember(FieldBase),
    /// This side's value would have to be carried over, and cannot be mapped. What was remembered stays.
    Unmapped(SideName),
    /// Write these cells; once accepted, remember this.
    Write {
        /// To which side.
        to: SideName,
        /// What to set, all cells of that side.
        cells: Cells,
        /// Base once accepted.
        base: FieldBase,
        /// A value of that side's that is replaced although nobody had agreed to it: for the conflict log.
        replaces: Option<Cells>,
        /// Why, in words for the history.
        cause: &'static str,
    },
}

/// Equal in canonical form, in Brevo: there, absent and `false` are one value for a boolean (an import drops `false`).
pub fn same_cell(a: Option<&Value>, b: Option<&Value>) -> bool {
    let blank_or_false = |value: Option<&Value>| matches!(value, None | Some(Value::Boolean(false)));
    a == b || (blank_or_false(a) && blank_or_false(b))
}

/// [`same_cell`] for all cells.
pub fn same_cells(a: &[Option<Value>], b: &[Option<Value>]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_cell(a.as_ref(), b.as_ref()))
}

/// Equal in this side's own terms.
pub fn same_on(side: SideName, a: &[Option<Value>], b: &[Option<Value>]) -> bool {
    match side {
        SideName::Intercom => a == b,
        SideName::Brevo => same_cells(a, b),
    }
}

/// No value at all. A lone `false` is a value: a source that says no is not a source that says nothing.
fn all_blank(cells: &[Option<Value>]) -> bool {
    cells.iter().all(Option::is_none)
}

/// Whether `whole` says everything that `part` says, and does not contradict it.
fn completes(part: &Cells, whole: &Cells) -> bool {
    part.len() == whole.len() && part.iter().zip(whole).all(|(part, whole)| part.is_none() || part == whole)
}

/// `desired` with its blank cells taken from `shown`.
fn fill_blanks(desired: &Cells, shown: &Cells) -> Cells {
    desired
        .iter()
        .enumerate()
        .map(|(index, cell)| cell.clone().or_else(|| shown.get(index).cloned().flatten()))
        .collect()
}

impl FieldBase {
    /// Whether a side would not take what the other has.
    pub fn is_refused(&self) -> bool {
        SideName::BOTH.iter().any(|side| self.refused[*side].is_some())
    }

    /// Whether this side has got something from the other that is not what the other was known to hold.
    fn is_owed(&self, side: SideName) -> bool {
        self.overrun == Some(side) || (!self.rule.is_empty() && self.agreed[side.other()].is_empty())
    }
}

/// Decides about one field.
pub fn decide(views: &FieldViews<'_>) -> FieldStep {
    let edited = |side: SideName| {
        views.in_flight[side].is_some_and(|write| judge(side, write, &views.shown[side]) == Verdict::Edited)
    };
    if SideName::BOTH.into_iter().any(edited) {
        // Somebody has edited what we had just written, and that may still land once more. When it cannot, this counts
        // like any edit: until then nothing may take its place.
        return FieldStep::Nothing;
    }
    let field = Field {
        views,
        // While our own write is on its way, a side counts as holding what we sent: neither the old value nor a stale
        // read of it is anybody's edit.
        shown: Sides::from_fn(|side| views.in_flight[side].map_or(&views.shown[side], |write| &write.sent)),
    };
    match views.base.filter(|base| base.rule == views.rule) {
        Some(base) => field.merge(base),
        None => match views.flow {
            Flow::From(source) => field.link_one_way(source),
            Flow::Both(wins) => field.link_two_way(wins),
        },
    }
}

struct Field<'a> {
    views: &'a FieldViews<'a>,
    shown: Sides<&'a Cells>,
}

impl Field<'_> {
    /// Both have agreed before, under the same rule.
    fn merge(&self, base: &FieldBase) -> FieldStep {
        let mut changed = Sides::from_fn(|side| self.moved(base, side));
        let mut times = self.views.changed;
        if let Some((side, span)) = self.met_before(base, changed) {
            (changed[side], times[side]) = (true, Some(span));
        }
        let (from, cause) = match self.views.flow {
            Flow::From(source) => (source, changed_on(source)),
            Flow::Both(wins) => match (changed.intercom, changed.brevo) {
                (false, false) => return FieldStep::Nothing,
                (true, false) => (SideName::Intercom, changed_on(SideName::Intercom)),
                (false, true) => (SideName::Brevo, changed_on(SideName::Brevo)),
                (true, true) => self.conflict(wins, &times),
            },
        };
        let to = from.other();
        if let (Some(refused), Some(desired)) = (&base.refused[to], &self.views.desired[to])
            && same_on(to, refused, desired)
        {
            // Refused: what really stands there is base, and nothing is resent until what would be sent changes. (Some
            // sources move with every visit while the value made of them stays.)
            return if changed.intercom || changed.brevo {
                FieldStep::Remember(FieldBase { refused: base.refused.clone(), own: base.own, ..self.as_shown() })
            } else {
                FieldStep::Nothing
            };
        }
        if changed[from] {
            // What a side would not take from the other, what a late write of ours put there: nobody had agreed to it.
            // And what stands where our value counts as refused may be somebody's who went back to it before any read.
            let disputed = changed[to] || base.is_refused() || base.overrun == Some(to) || base.own == Some(to);
            return self.carry(from, disputed, cause);
        }
        if changed[to] { self.drift(from) } else { FieldStep::Nothing }
    }

    /// The side that had come to agree with the other by itself, and when, if the other shows an edit now that is not surely a
    /// later one: then both have changed since they were last seen to agree.
    fn met_before(&self, base: &FieldBase, changed: Sides<bool>) -> Option<(SideName, Span)> {
        // Where a late write of ours stands by now, that is what the other side would stand against: it gives its value again,
        // which is no edit.
        let met = base.met.filter(|_| base.overrun.is_none() && matches!(self.views.flow, Flow::Both(_)))?;
        let (other, span) = (met.side.other(), met.changed()?);
        let later = self.views.changed[other].is_some_and(|edited| edited.is_later_than(&span));
        (changed[other] && !changed[met.side] && !later).then_some((met.side, span))
    }

    /// Takes a side's changed value to the other.
    fn carry(&self, from: SideName, disputed: bool, cause: &'static str) -> FieldStep {
        let to = from.other();
        let Some(desired) = &self.views.desired[to] else { return FieldStep::Unmapped(from) };
        if all_blank(desired) && self.views.clear == Clear::Keep {
            return FieldStep::Remember(FieldBase { own: Some(to).filter(|_| disputed), ..self.as_shown() });
        }
        if self.agree(from) {
            // Nothing goes over, so that nothing shows whether the other side still holds it. (What a write of ours that has
            // landed was made of is not known, and nobody's edit: the read that showed that has looked at the other side.)
            let both = matches!(self.views.flow, Flow::Both(_));
            let known = self.views.base.is_some_and(|base| !base.agreed[from].is_empty());
            let met = self.views.changed[from].filter(|_| both && (known || disputed)).map(|span| Met::new(from, span));
            let own = Some(from).filter(|_| known && !disputed && both && met.is_none());
            return FieldStep::Remember(FieldBase { own, met, ..self.as_shown() });
        }
        self.write(to, desired.clone(), disputed, cause)
    }

    /// Somebody edited a one-way field on its target.
    fn drift(&self, from: SideName) -> FieldStep {
        let to = from.other();
        let Some(desired) = &self.views.desired[to] else { return FieldStep::Unmapped(from) };
        // A restore never blanks: an empty source leaves the target alone.
        if self.views.drift == Drift::Leave || self.agree(from) {
            // What is left as it was edited the source had no part in.
            FieldStep::Remember(FieldBase { own: Some(to).filter(|_| !self.agree(from)), ..self.as_shown() })
        } else if self.says_nothing(from) {
            FieldStep::Remember(FieldBase { own: Some(to), ..self.as_shown() })
        } else if self.views.sweep {
            let cause = match to {
                SideName::Brevo => "edited in Brevo, restored",
                SideName::Intercom => "edited in Intercom, restored",
            };
            self.write(to, desired.clone(), true, cause)
        } else {
            FieldStep::Nothing
        }
    }

    /// First link, a new field, or a changed rule: the source wins where it has a value, and never blanks.
    fn link_one_way(&self, from: SideName) -> FieldStep {
        let to = from.other();
        let Some(desired) = &self.views.desired[to] else { return FieldStep::Unmapped(from) };
        let cells = match self.views.base {
            // But a source that has moved on since both agreed takes along what it gave, whatever the rule says now. (Also
            // when nobody touched the rule: Intercom declares an attribute with its first value, and only at the next
            // start its type is known.)
            Some(before)
                if (before.is_owed(to) || !all_blank(&before.agreed[from])) && self.moved_alone(before, from) =>
            {
                desired.clone()
            }
            _ if self.says_nothing(from) => self.shown[to].clone(),
            _ => fill_blanks(desired, self.shown[to]),
        };
        // Under a changed rule, what both had agreed on before is nobody's loss.
        let agreed_before = self.views.base.is_some_and(|base| {
            base.refused[to].is_none() && base.own != Some(to) && same_on(to, &base.agreed[to], self.shown[to])
        });
        if same_on(to, &cells, self.shown[to]) {
            // What stays there where the source says nothing, or less, the source has never given: also at a first link, and
            // where there is no record yet of which that could be known.
            let less = self.says_nothing(from) || !same_on(to, desired, self.shown[to]);
            let left = less && !all_blank(self.shown[to]) && !agreed_before;
            return FieldStep::Remember(FieldBase { own: Some(to).filter(|_| left), ..self.as_shown() });
        }
        let cause =
            if self.views.base.is_some() { "the rule changed" } else { "first link: the source's value stands" };
        self.write(to, cells, !agreed_before, cause)
    }

    /// The same where both give: who has a value fills the blank, else the rule decides.
    fn link_two_way(&self, wins: Wins) -> FieldStep {
        if self.agree(SideName::Intercom) {
            let stands = |base: &FieldBase, side: SideName| same_on(side, &base.agreed[side], self.shown[side]);
            let own = self.views.base.and_then(|base| base.own.filter(|side| stands(base, *side)));
            return FieldStep::Remember(FieldBase { own, ..self.as_shown() });
        }
        let only = |holds: &dyn Fn(SideName) -> bool| match SideName::BOTH.map(holds) {
            [true, false] => Some(SideName::Intercom),
            [false, true] => Some(SideName::Brevo),
            _ => None,
        };
        if let Some(before) = self.views.base
            && let Some(from) = only(&|side| self.moved_alone(before, side))
        {
            // Under another rule, what stands there may never have been this side's; what was there before a write of
            // ours that did not land (no rule at all) is nobody's loss.
            return self.carry(from, !before.rule.is_empty(), changed_on(from));
        }
        if let Some(from) = only(&|side| self.fills(side)) {
            let to = from.other();
            let Some(desired) = &self.views.desired[to] else { return FieldStep::Unmapped(from) };
            // What has come to stand there since is an edit, even if it says less: somebody may have taken a part away.
            let edited = self.views.base.is_some_and(|before| self.moved(before, to));
            let disputed = edited || !completes(self.shown[to], desired);
            return self.write(to, desired.clone(), disputed, "the other side had less, or nothing");
        }
        let (from, cause) = match self.views.base {
            // Both have moved on since they agreed under another rule.
            Some(before) if SideName::BOTH.iter().all(|side| self.moved(before, *side)) => {
                self.conflict(wins, &self.views.changed)
            }
            // Nothing tells which of two values that were never compared is newer.
            _ => untold(wins),
        };
        let to = from.other();
        match &self.views.desired[to] {
            None => FieldStep::Unmapped(from),
            Some(desired) if all_blank(desired) => FieldStep::Remember(self.as_shown()),
            Some(desired) => self.write(to, desired.clone(), true, cause),
        }
    }

    /// Both have changed it (then): whose value stands, and why.
    fn conflict(&self, wins: Wins, times: &Sides<Option<Span>>) -> (SideName, &'static str) {
        // A clear that does not travel is in nobody's way.
        if self.views.clear == Clear::Keep {
            for side in SideName::BOTH {
                if self.says_nothing(side) && !self.says_nothing(side.other()) {
                    return (side.other(), changed_on(side.other()));
                }
            }
        }
        match (wins, times.intercom, times.brevo) {
            (Wins::Newest { .. }, Some(intercom), Some(brevo)) if intercom.is_later_than(&brevo) => {
                (SideName::Intercom, "changed on both sides, later in Intercom")
            }
            (Wins::Newest { .. }, Some(intercom), Some(brevo)) if brevo.is_later_than(&intercom) => {
                (SideName::Brevo, "changed on both sides, later in Brevo")
            }
            _ => untold(wins),
        }
    }

    /// Whether, since both agreed (under another rule), this side has another value and the other still has its own.
    fn moved_alone(&self, before: &FieldBase, from: SideName) -> bool {
        let cleared = all_blank(self.shown[from]) && self.views.clear == Clear::Propagate;
        self.moved(before, from) && !self.moved(before, from.other()) && (cleared || !self.says_nothing(from))
    }

    /// Whether this side has another value than when both agreed; or has to give its own again.
    fn moved(&self, before: &FieldBase, side: SideName) -> bool {
        before.overrun == Some(side.other()) || !same_on(side, &before.agreed[side], self.shown[side])
    }

    /// Whether nothing would be made of what this side holds. In Brevo absence and `false` are one value: where nothing
    /// stands, nothing has been said, though a `false` could be made of it.
    fn says_nothing(&self, from: SideName) -> bool {
        let nothing_made = self.views.desired[from.other()].as_ref().is_some_and(|cells| all_blank(cells));
        nothing_made || (from == SideName::Brevo && all_blank(self.shown.brevo))
    }

    /// Whether this side's value says all that the other's says, and more.
    fn fills(&self, from: SideName) -> bool {
        let to = from.other();
        !all_blank(self.shown[from])
            && (self.views.desired[to]
                .as_ref()
                .map_or(all_blank(self.shown[to]), |made| completes(self.shown[to], made))
                || self.views.desired[from].as_ref().is_some_and(|made| completes(made, self.shown[from])))
    }

    /// Whether what stands on both sides is the same already. Where the field travels both ways, it is enough that
    /// either makes the other: a conversion may lose something, and the finer value stays until the coarser is edited.
    fn agree(&self, from: SideName) -> bool {
        let makes = |from: SideName| {
            let to = from.other();
            self.views.desired[to].as_ref().is_some_and(|cells| same_on(to, cells, self.shown[to]))
        };
        makes(from) || (matches!(self.views.flow, Flow::Both(_)) && makes(from.other()))
    }

    /// Base, if what stands there now is agreed on.
    fn as_shown(&self) -> FieldBase {
        self.agreeing_on(|side| self.shown[side].clone())
    }

    fn agreeing_on(&self, agreed: impl FnMut(SideName) -> Cells) -> FieldBase {
        FieldBase { rule: self.views.rule.to_owned(), agreed: Sides::from_fn(agreed), ..FieldBase::default() }
    }

    fn write(&self, to: SideName, cells: Cells, disputed: bool, cause: &'static str) -> FieldStep {
        let base = self.agreeing_on(|side| if side == to { cells.clone() } else { self.shown[side].clone() });
        let replaces = Some(self.shown[to]).filter(|cells| disputed && !all_blank(cells)).cloned();
        FieldStep::Write { to, cells, base, replaces, cause }
    }
}

/// Whose value stands where nothing tells which is newer.
fn untold(wins: Wins) -> (SideName, &'static str) {
    match wins {
        Wins::Always(SideName::Intercom) => {
            (SideName::Intercom, "both sides have values of their own: Intercom's stands")
        }
        Wins::Always(SideName::Brevo) => (SideName::Brevo, "both sides have values of their own: Brevo's stands"),
        Wins::Newest { tie: SideName::Intercom } => {
            (SideName::Intercom, "nobody knows which side's value is newer: a tie goes to Intercom")
        }
        Wins::Newest { tie: SideName::Brevo } => {
            (SideName::Brevo, "nobody knows which side's value is newer: a tie goes to Brevo")
        }
    }
}

fn changed_on(side: SideName) -> &'static str {
    match side {
        SideName::Intercom => "changed in Intercom",
        SideName::Brevo => "changed in Brevo",
    }
}
