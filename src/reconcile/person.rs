//! The plan for one person: all fields, consent, lists, address and external id together, as one change of one Brevo
//! contact, with the base that holds once it is accepted.

mod less;
mod meeting;
mod nos;
mod settle;
#[cfg(test)]
mod tests;

pub use meeting::as_met;
pub use nos::{keep_new_nos, with_nos};
pub use settle::{
    Settled, forget_unlanded, handed_over, is_in_doubt, landed_as_sent, lists_have_moved, made_by_a_late_row,
    made_by_an_earlier_row, made_by_row, not_logged_yet, overrun, seen_in_answer, seen_in_brevos_answer, settle,
    settle_intercom, shows_another, shows_nothing_of,
};

use super::{
    consent::{self, ConsentBase, ConsentViews, MemberStep, MemberViews},
    fields::{self, Cells, Clear, Drift, FieldBase, FieldStep, FieldViews, Flow, InFlight, Wins},
    lists::{self, Follows, ListBase, ListStep, ListViews},
    newest::Span,
    taking_part::{self, Part},
};
use crate::mapping::{
    Direction, FieldProblem, FieldRule, Mapping, Membership, OnClear, OnConflict, OnDrift, Projection,
};
use crate::model::{
    BrevoContact, BrevoListId, Consent, ContactChange, Email, Fields, IntercomContactId, NewContact, SideName, Sides,
    Value, pack,
};
use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

/// What both sides agreed on about one person.
#[derive(Debug, Clone, Default, PartialEq, Encode, Decode)]
#[cbor(context_bound = "pack::Words")]
pub struct Base {
    /// By rule key.
    #[n(0)]
    #[cbor(with = "pack::by_word")]
    pub fields: BTreeMap<String, FieldBase>,
    /// By Brevo list.
    #[n(1)]
    pub lists: BTreeMap<BrevoListId, ListBase>,
    /// May be e-mailed.
    #[n(2)]
    pub consent: Option<ConsentBase>,
    /// The same for SMS.
    #[n(3)]
    pub sms: Option<ConsentBase>,
    /// The Brevo contact's address when consent was last seen: another one since may have lifted a blocklisting.
    #[n(4)]
    pub email: Option<Email>,
    /// The address that both had agreed on, where Brevo's contact shows another by now that is not followed (yet).
    #[n(5)]
    pub agreed_email: Option<Email>,
    /// The address that Brevo's contact shows and that the person is not to have: refused in Intercom, or decided against.
    #[n(6)]
    pub declined_email: Option<Email>,
    /// Who spoke for the person then, in Intercom, where anything travels there: what Brevo alone gives was given to this
    /// contact.
    #[n(7)]
    pub spoke: Option<IntercomContactId>,
}

impl Base {
    /// This contact speaks for the person. Where it is another than before, it has been given nothing yet of what Brevo alone
    /// gives: that it holds something else is nobody's edit.
    pub fn spoken_for_by(&mut self, primary: &IntercomContactId, mapping: &Mapping) {
        if self.spoke.as_ref().is_some_and(|spoke| spoke != primary) {
            for rule in mapping.rules.iter().filter(|rule| rule.direction == Direction::BrevoToIntercom) {
                self.fields.remove(&rule.key);
            }
        }
        self.spoke = Some(primary.clone());
    }
}

/// Our own writes that no verifying read has settled, by rule key.
#[derive(Debug, Clone, Default, PartialEq, Encode, Decode)]
#[cbor(context_bound = "pack::Words")]
pub struct Flights {
    /// Fields, by the side that they were written to.
    #[n(0)]
    #[cbor(with = "pack::by_word")]
    pub fields: BTreeMap<String, Sides<Option<InFlight>>>,
    /// Lists joined (`true`) or left.
    #[n(1)]
    pub lists: BTreeMap<BrevoListId, bool>,
    /// The write could lift a blocklisting: it renamed the contact, or was an import of existing contacts.
    #[n(2)]
    pub may_loosen: bool,
    /// The address with which it was to make a contact.
    #[n(3)]
    pub email: Option<Email>,
    /// It set `emailBlacklisted`.
    #[n(4)]
    pub opted_out: bool,
    /// Something about the person was left for a request of its own, after this one.
    #[n(5)]
    pub more: bool,
    /// Tags given (`true`) or taken away in Intercom, by the list that goes with them.
    #[n(6)]
    pub tags: BTreeMap<BrevoListId, bool>,
    /// The addresses that the contact was to be given, the newest last.
    #[n(7)]
    #[cbor(default)]
    pub renames: Vec<Email>,
    /// It has no answer yet, and that it opts somebody out was counted against the limits on harm.
    #[n(8)]
    #[cbor(default)]
    pub counted: bool,
    /// A no to text messages is brought from another contact: that this one shows none is nobody's yes.
    #[n(9)]
    #[cbor(default)]
    pub brings_sms_no: bool,
    /// As `lists`, of each request that was answered when it had been sent twice: the first may still land, after another that
    /// did the opposite.
    #[n(10)]
    #[cbor(default)]
    pub repeated: BTreeSet<(BrevoListId, bool)>,
    /// The same of `tags`.
    #[n(11)]
    #[cbor(default)]
    pub repeated_tags: BTreeSet<(BrevoListId, bool)>,
    /// It set `emailBlacklisted`, and a look that began after its answer has shown the contact as subscribed.
    #[n(12)]
    #[cbor(default)]
    pub seen_subscribed: bool,
}

impl Flights {
    /// Nothing is on its way.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What of it is on its way to Brevo. A link keeps it; what goes to Intercom is kept apart.
    pub fn to_brevo(&self) -> Cow<'_, Self> {
        let tags = !self.tags.is_empty() || !self.repeated_tags.is_empty();
        if !tags && self.fields.values().all(|writes| writes.intercom.is_none()) {
            return Cow::Borrowed(self);
        }
        let mut own = Self { tags: BTreeMap::new(), repeated_tags: BTreeSet::new(), ..self.clone() };
        own.fields.retain(|_, writes| {
            writes.intercom = None;
            writes.brevo.is_some()
        });
        Cow::Owned(own)
    }

    /// The contact shows an address that it was to be given before the newest: that request has landed late.
    pub fn renamed_late(&self, contact: &BrevoContact) -> bool {
        let (Some((newest, earlier)), Some(shown)) = (self.renames.split_last(), &contact.email) else { return false };
        shown != newest && earlier.contains(shown)
    }

    /// What is on its way to this side for a rule.
    pub fn field(&self, side: SideName, key: &str) -> Option<&InFlight> {
        self.fields.get(key).and_then(|writes| writes[side].as_ref())
    }
}

/// The three views of one person, and what else the plan depends on.
#[derive(Debug, Clone)]
pub struct PersonViews<'a> {
    /// The record of the primary with the group's unions (tags, conversation figures), as the mapping sees it.
    pub record: &'a Fields,
    /// The address of the person.
    pub email: Option<&'a Email>,
    /// The customer's own id.
    pub external_id: Option<&'a str>,
    /// The strictest of the group, with that of whoever has the address and is nobody's.
    pub consent: &'a Consent,
    /// Each Intercom contact of the address, as far as consent is concerned.
    pub members: &'a [Member],
    /// Opt-outs travel from Brevo to Intercom, too.
    pub tells: bool,
    /// What Brevo shows; `None`: no contact there yet.
    pub brevo: Option<&'a BrevoContact>,
    /// What both agreed on.
    pub base: &'a Base,
    /// Our writes on their way.
    pub flights: &'a Flights,
    /// Nobody knows yet what became of those to Intercom: what they are about is decided when that is known.
    pub waits_for_intercom: bool,
    /// The Brevo contact is to take this address (identity has decided that it may).
    pub rename_to: Option<&'a Email>,
    /// Rules that must not be written for this person: a value that Brevo refuses because another contact owns it.
    pub quarantined: &'a BTreeMap<String, String>,
    /// When each side changed last, as far as that is known: for fields whose newest value stands.
    pub changed: Sides<Option<Span>>,
    /// Whether drift is restored.
    pub sweep: bool,
    /// What is known of Brevo may be from long before what is known of Intercom: no full read has just shown it.
    pub brevo_may_be_old: bool,
    /// Whether the person's record is written on each side.
    pub part: Sides<Part>,
    /// Why nobody can tell whether they take part.
    pub part_problem: Option<&'a FieldProblem>,
}

/// One Intercom contact of the person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Which.
    pub id: IntercomContactId,
    /// What is known of its consent.
    pub views: MemberViews,
}

/// A list rule with its list found.
#[derive(Debug, Clone, Copy)]
pub struct ResolvedList<'a> {
    /// The rule.
    pub rule: &'a crate::mapping::ListRule,
    /// Its list in the account.
    pub list: BrevoListId,
}

/// A value that a plan replaces although nobody had agreed to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LostValue {
    /// The rule's key.
    pub field: String,
    /// Where it stood.
    pub side: SideName,
    /// What stood there.
    pub lost: Cells,
    /// What replaces it.
    pub kept: Cells,
    /// Why it won.
    pub rule: String,
}

/// Something people should know about this person; counted and listed by kind, with what is known of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Notice {
    /// Brevo has another external id: kept.
    ExternalIdDiffers {
        /// Intercom's.
        intercom: String,
        /// What the person's Brevo contact has; `None`: nothing, because another contact has Intercom's.
        brevo: Option<String>,
    },
    /// The sides differ about e-mail consent, and that is accepted.
    ConsentDiverges {
        /// Who says that the person opted out. The other side says nothing of the kind.
        opted_out_in: SideName,
    },
    /// A list wants the person, but they are not put back on it.
    KeptOffList {
        /// Which.
        list: BrevoListId,
        /// They unsubscribed from it; otherwise somebody took them off.
        left: bool,
    },
}

impl Notice {
    /// All kinds.
    pub const KINDS: [&'static str; 3] = ["external_id_differs", "consent_diverges", "kept_off_list"];

    /// The kind under which it is kept and counted.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::ExternalIdDiffers { .. } => "external_id_differs",
            Self::ConsentDiverges { .. } => "consent_diverges",
            Self::KeptOffList { .. } => "kept_off_list",
        }
    }
}

/// Which parts of a plan are for Intercom.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Back {
    /// Rules, by key.
    pub rules: BTreeSet<String>,
    /// Lists whose tag is given or taken away, with its name.
    pub lists: BTreeMap<BrevoListId, String>,
}

/// What to do for one person.
#[derive(Debug, Clone, PartialEq)]
pub struct PersonPlan {
    /// What to send to Brevo; empty when nothing is to be written there.
    pub change: ContactChange,
    /// What to set in the primary Intercom contact, by path: a value sets, `None` clears.
    pub intercom: BTreeMap<String, Option<Value>>,
    /// Tags to give (`true`) or to take away there.
    pub tags: BTreeMap<String, bool>,
    /// What of the plan is for Intercom.
    pub back: Back,
    /// Base once it is accepted (and at once, where nothing is written).
    pub base: Base,
    /// What is on its way once it leaves.
    pub flights: Flights,
    /// For the conflict log.
    pub lost: Vec<LostValue>,
    /// Fields that cannot be written, by rule key.
    pub problems: BTreeMap<String, FieldProblem>,
    /// For people.
    pub notices: BTreeSet<Notice>,
    /// Why, by rule key, for the history.
    pub causes: BTreeMap<String, &'static str>,
    /// An import cannot carry it: consent, `true` → `false`, clears, address or phone changes, leaving a list.
    pub alone: bool,
    /// What an opt-out in Brevo leads to for Intercom's contacts; those for whom it is nothing are left out.
    pub tell: Vec<(IntercomContactId, MemberStep)>,
}

impl PersonPlan {
    /// Nothing is to be sent.
    pub fn writes_nothing(&self) -> bool {
        self.change.is_empty() && self.intercom.is_empty() && self.tags.is_empty()
    }

    /// What it replaces on this side although nobody had agreed to it.
    pub fn lost_on(&self, side: SideName) -> impl Iterator<Item = &LostValue> {
        self.lost.iter().filter(move |lost| lost.side == side)
    }

    /// Something is to be written to the primary Intercom contact.
    pub fn writes_back(&self) -> bool {
        !self.intercom.is_empty() || !self.tags.is_empty()
    }

    /// The plan without what goes to Intercom, which is sent by itself: until it is answered, that is as it was.
    #[must_use]
    pub fn without_intercom(mut self, before: &Base, watched: &Flights) -> Self {
        if !self.writes_back() {
            return self;
        }
        let back = std::mem::take(&mut self.back);
        for key in &back.rules {
            self.causes.remove(key);
            put_or_remove(&mut self.base.fields, key, before.fields.get(key));
            let earlier = watched.field(SideName::Intercom, key).cloned();
            self.flights.fields.entry(key.clone()).or_default().intercom = earlier;
        }
        self.flights.fields.retain(|_, writes| writes.intercom.is_some() || writes.brevo.is_some());
        for list in back.lists.keys() {
            put_or_remove(&mut self.base.lists, list, before.lists.get(list));
            put_or_remove(&mut self.flights.tags, list, watched.tags.get(list));
        }
        self.lost.retain(|lost| lost.side == SideName::Brevo);
        (self.intercom, self.tags) = (BTreeMap::new(), BTreeMap::new());
        self
    }

    /// The first request's part of what is for Intercom: all fields, or one tag. `true`: there is more.
    #[must_use]
    pub fn first_of_back(mut self, before: &Base, watched: &Flights) -> (Self, bool) {
        let keep = usize::from(self.intercom.is_empty());
        let more = self.tags.len() > keep;
        let first = self.tags.keys().next().filter(|_| keep == 1).cloned();
        self.tags.retain(|name, _| Some(name) == first.as_ref());
        for (list, tag) in std::mem::take(&mut self.back.lists) {
            if Some(&tag) == first.as_ref() {
                self.back.lists.insert(list, tag);
            } else {
                put_or_remove(&mut self.base.lists, &list, before.lists.get(&list));
                put_or_remove(&mut self.flights.tags, &list, watched.tags.get(&list));
            }
        }
        (self, more)
    }

    /// Base once Intercom has taken its part of the plan, from what it is by then.
    #[must_use]
    pub fn base_with_intercom(&self, now: &Base) -> Base {
        let mut base = now.clone();
        for key in &self.back.rules {
            put_or_remove(&mut base.fields, key, self.base.fields.get(key));
        }
        for list in self.back.lists.keys() {
            put_or_remove(&mut base.lists, list, self.base.lists.get(list));
        }
        base
    }

    /// How many Intercom contacts are opted out there.
    pub fn opt_outs_in_intercom(&self) -> usize {
        self.tell.iter().filter(|(_, step)| *step == MemberStep::Tell).count()
    }

    /// Only what this says about consent, for a contact that Brevo refuses to change otherwise: an opt-out waits for
    /// nothing else about the person.
    pub fn only_opt_out(self, before: &Base, watched: &Flights) -> Self {
        let Self { change, base, mut causes, flights, tell, .. } = self;
        causes.retain(|rule, _| rule == "consent");
        Self {
            change: ContactChange {
                email_opted_out: change.email_opted_out,
                sms_opted_out: change.sms_opted_out,
                ..ContactChange::default()
            },
            intercom: BTreeMap::new(),
            tags: BTreeMap::new(),
            back: Back::default(),
            base: Base { consent: base.consent, sms: base.sms, ..before.clone() },
            flights: Flights {
                opted_out: flights.opted_out,
                seen_subscribed: flights.seen_subscribed,
                ..watched.clone()
            },
            lost: Vec::new(),
            problems: BTreeMap::new(),
            notices: BTreeSet::new(),
            causes,
            alone: true,
            tell,
        }
    }

    /// The plan as a new contact.
    pub fn as_new_contact(&self, email: Option<Email>) -> NewContact {
        NewContact {
            email,
            ext_id: self.change.ext_id.clone(),
            attributes: self
                .change
                .attributes
                .iter()
                .filter_map(|(name, value)| Some((name.clone(), value.clone()?)))
                .collect(),
            lists: self.change.join_lists.clone(),
            email_opted_out: self.change.email_opted_out,
            sms_opted_out: self.change.sms_opted_out,
        }
    }
}

/// The attributes whose values are unique across a Brevo account, besides EMAIL and EXT_ID.
pub(super) const UNIQUE_ATTRIBUTES: [&str; 3] = ["SMS", "WHATSAPP", "LANDLINE_NUMBER"];

/// Plans for one person.
pub fn plan(views: &PersonViews<'_>, mapping: &Mapping, resolved_lists: &[ResolvedList<'_>]) -> PersonPlan {
    let mut plan = PersonPlan {
        change: ContactChange::default(),
        intercom: BTreeMap::new(),
        tags: BTreeMap::new(),
        back: Back::default(),
        base: Base { email: views.base.email.clone(), spoke: views.base.spoke.clone(), ..Base::default() },
        flights: Flights {
            email: views.email.filter(|_| views.brevo.is_none()).cloned(),
            repeated: views.flights.repeated.clone(),
            repeated_tags: views.flights.repeated_tags.clone(),
            ..Flights::default()
        },
        lost: Vec::new(),
        problems: BTreeMap::new(),
        notices: BTreeSet::new(),
        causes: BTreeMap::new(),
        alone: false,
        tell: Vec::new(),
    };
    for rule in &mapping.rules {
        plan_field(&mut plan, views, rule);
    }
    for key in &mapping.resting {
        if let Some(agreed) = views.base.fields.get(key) {
            plan.base.fields.insert(key.clone(), agreed.clone());
        }
    }
    plan_lists(&mut plan, views, resolved_lists);
    if views.part.intercom != Part::Takes {
        plan = plan.without_intercom(views.base, views.flights);
        plan.back = Back::default();
    }
    if views.part.brevo != Part::Takes {
        plan = taking_part::without_brevo(plan, views);
        if views.part.brevo == Part::Leaves {
            taking_part::leave_lists(&mut plan, views, resolved_lists);
        }
    }
    plan_address(&mut plan, views);
    plan_consent(&mut plan, views);
    if views.part.brevo == Part::Takes {
        plan_external_id(&mut plan, views);
    }
    if let Some(problem) = views.part_problem {
        plan.problems.insert(problem.field.clone(), problem.clone());
    }
    plan
}

fn plan_field(plan: &mut PersonPlan, views: &PersonViews<'_>, rule: &FieldRule) {
    let base = views.base.fields.get(&rule.key);
    if views.waits_for_intercom && views.flights.field(SideName::Intercom, &rule.key).is_some() {
        // Taken for landed, it would become what both agreed on, and if it was lost, the old value a person's edit.
        return keep_as_is(plan, views, rule);
    }
    let met = meeting::met(views, rule);
    let in_flight = Sides::from_fn(|side| met[side].as_ref().or_else(|| views.flights.field(side, &rule.key)));
    let blank = || vec![None; rule.targets.len()];
    // What is on its way counts as having landed, also for what is made of it.
    let mut record = Cow::Borrowed(views.record);
    if let Some(write) = in_flight.intercom {
        rule.put_source(record.to_mut(), write.sent.first().cloned().flatten());
    }
    let brevo = views.brevo.map_or_else(blank, |contact| rule.observed(&contact.attributes));
    let mut made = Sides { intercom: Projection::NotApplicable, brevo: rule.project(&record) };
    if made.brevo != Projection::NotApplicable && rule.direction != Direction::IntercomToBrevo {
        made.intercom = rule.restore(in_flight.brevo.map_or(&brevo, |write| &write.sent), &record);
    }
    let flow = match rule.direction {
        Direction::IntercomToBrevo => Flow::From(SideName::Intercom),
        Direction::BrevoToIntercom => Flow::From(SideName::Brevo),
        Direction::Both => Flow::Both(match rule.on_conflict {
            OnConflict::Newest => Wins::Newest { tie: rule.tie },
            OnConflict::Intercom => Wins::Always(SideName::Intercom),
            OnConflict::Brevo => Wins::Always(SideName::Brevo),
        }),
    };
    let keep = |plan: &mut PersonPlan| keep_as_is(plan, views, rule);
    let mut problems = Sides::<Option<FieldProblem>>::default();
    let mut desired = match flow {
        Flow::From(source) => {
            let to = source.other();
            match std::mem::take(&mut made[to]) {
                Projection::NotApplicable => return keep(plan),
                Projection::Problem(problem) => {
                    plan.problems.insert(rule.key.clone(), problem);
                    return keep(plan);
                }
                Projection::Cells(cells) => Sides::with(to, Some(cells), None),
            }
        }
        Flow::Both(_) if made.brevo == Projection::NotApplicable => return keep(plan),
        Flow::Both(_) => Sides::from_fn(|side| match std::mem::take(&mut made[side]) {
            Projection::Cells(cells) => Some(cells),
            Projection::NotApplicable => None,
            Projection::Problem(problem) => {
                problems[side] = Some(problem);
                None
            }
        }),
    };
    let is_quarantined = |cells: &Option<Cells>| match (views.quarantined.get(&rule.key), cells) {
        (Some(refused), Some(cells)) => *refused == quarantine_key(cells),
        _ => false,
    };
    for side in SideName::BOTH {
        if is_quarantined(&desired[side]) {
            // It is not sent, but where both give, an edit of the side that would not take it travels.
            desired[side] = None;
            if matches!(flow, Flow::From(_)) {
                return keep(plan);
            }
        }
    }
    // An expression may look beyond its source: then what it makes of the record is the view that is compared.
    let intercom = match &desired.brevo {
        Some(made) if rule.reads_record() => serde_json::to_value(made).ok().map(Value::Structure),
        _ => rule.source_value(views.record),
    };
    let shown = Sides { intercom: vec![intercom], brevo };
    let compared = FieldViews {
        rule: &rule.fingerprint,
        flow,
        clear: match rule.on_clear {
            OnClear::Keep => Clear::Keep,
            OnClear::Propagate => Clear::Propagate,
        },
        drift: match rule.on_drift {
            OnDrift::Restore => Drift::Restore,
            OnDrift::Leave => Drift::Leave,
        },
        shown,
        desired,
        base,
        in_flight,
        changed: views.changed,
        sweep: views.sweep,
    };
    match fields::decide(&compared) {
        FieldStep::Nothing => {
            keep(plan);
            meeting::put(plan, rule, met);
        }
        FieldStep::Unmapped(from) => {
            if let Some(problem) = problems[from.other()].take() {
                plan.problems.insert(rule.key.clone(), problem);
            }
            keep(plan);
        }
        FieldStep::Remember(agreed) => {
            keep(plan);
            plan.base.fields.insert(rule.key.clone(), agreed);
            meeting::put(plan, rule, met);
        }
        FieldStep::Write { to, cells, base: agreed, replaces, cause } => {
            let (shown, in_flight) = (&compared.shown[to], in_flight[to]);
            set_cells(plan, views, rule, (to, &cells, in_flight.map_or(shown, |write| &write.sent)));
            let replaces = replaces.or_else(|| nos::taken_back(&compared, to, views, rule));
            let replaced = replaces.clone().map(|lost| (lost, cause.to_owned()));
            if let Some(lost) = replaces {
                let kept = cells.clone();
                plan.lost.push(LostValue { field: rule.key.clone(), side: to, lost, kept, rule: cause.to_owned() });
            }
            let superseded = in_flight.map_or_else(Vec::new, |earlier| {
                let mut all = earlier.superseded.clone();
                all.push(earlier.sent.clone());
                all.truncate(MOST_SUPERSEDED);
                all
            });
            let before = match (in_flight, views.brevo) {
                (Some(earlier), _) => earlier.before.clone(),
                (None, Some(contact)) if to == SideName::Brevo => with_nos(rule, &contact.attributes),
                (None, _) => shown.clone(),
            };
            let mut writes = views.flights.fields.get(&rule.key).cloned().unwrap_or_default();
            writes[to] = Some(InFlight { sent: cells, before, superseded, replaces: replaced, given: false });
            plan.flights.fields.insert(rule.key.clone(), writes);
            plan.base.fields.insert(rule.key.clone(), agreed);
            plan.causes.insert(rule.key.clone(), cause);
        }
    }
}

/// Nothing is decided about the field: what was agreed on stays, and so does what is on its way.
fn keep_as_is(plan: &mut PersonPlan, views: &PersonViews<'_>, rule: &FieldRule) {
    if let Some(base) = views.base.fields.get(&rule.key) {
        plan.base.fields.insert(rule.key.clone(), base.clone());
    }
    if let Some(writes) = views.flights.fields.get(&rule.key) {
        plan.flights.fields.insert(rule.key.clone(), writes.clone());
    }
}

fn put_or_remove<K: Ord + Clone, V: Clone>(map: &mut BTreeMap<K, V>, key: &K, value: Option<&V>) {
    match value {
        Some(value) => drop(map.insert(key.clone(), value.clone())),
        None => drop(map.remove(key)),
    }
}

/// Adds a field to what is sent: those of its cells that a side does not show; of a field of several, such as a name, all of
/// them. Else somebody's edit of another part, which no read has shown yet, and ours would make a value that neither side had.
fn set_cells(
    plan: &mut PersonPlan,
    views: &PersonViews<'_>,
    rule: &FieldRule,
    (to, cells, shown): (SideName, &Cells, &Cells),
) {
    if to == SideName::Intercom {
        plan.intercom.insert(rule.source.clone(), cells.first().cloned().flatten());
        plan.back.rules.insert(rule.key.clone());
        return;
    }
    let cell = |of: &Cells, index: usize| of.get(index).cloned().flatten();
    let differs = |index: usize| !fields::same_cell(cell(cells, index).as_ref(), cell(shown, index).as_ref());
    let whole = views.brevo.is_some() && (0..rule.targets.len()).any(differs);
    // A part that neither has is sent as nothing, which no import does: not at the first link, when all was read just before.
    let known = views.base.fields.contains_key(&rule.key);
    for (index, target) in rule.targets.iter().enumerate() {
        let new = cell(cells, index);
        if !differs(index) && !(whole && (known || new.is_some())) {
            continue;
        }
        let clears = new.is_none() || new == Some(Value::Boolean(false));
        let unique = UNIQUE_ATTRIBUTES.contains(&target.attribute.as_str());
        // An import neither clears nor sets `false`, and one duplicate phone there loses the whole row.
        plan.alone |= views.brevo.is_some() && (clears || unique);
        plan.change.attributes.insert(target.attribute.clone(), new);
    }
}

/// How many earlier unsettled values of a field are remembered; more changes than this within minutes are a script's.
const MOST_SUPERSEDED: usize = 8;

/// How a refused value is remembered: by its text, for comparison only.
pub fn quarantine_key(cells: &Cells) -> String {
    serde_json::to_string(cells).unwrap_or_default()
}

/// Whether a value that a side refused would still be sent. What the mapping makes of another value may be tried, and the same
/// value may come from the other side later; but what both sides hold by now is sent to neither. `brevo`: the attributes of the
/// record there, if it has one.
pub fn is_still_refused(rule: &FieldRule, refused: &str, record: &Fields, brevo: Option<&Fields>) -> bool {
    let same = |made: &Projection| match made {
        Projection::Cells(cells) => quarantine_key(cells) == refused,
        _ => false,
    };
    let made = rule.project(record);
    let goes_back = rule.direction != Direction::IntercomToBrevo;
    let shown = brevo.map(|attributes| rule.observed(attributes));
    if let (Projection::Cells(made), Some(shown)) = (&made, &shown)
        && fields::same_cells(made, shown)
    {
        return false;
    }
    let shown = shown.filter(|_| goes_back);
    let undecided = !goes_back && !matches!(made, Projection::Cells(_));
    undecided || same(&made) || shown.is_some_and(|shown| same(&rule.restore(&shown, record)))
}

fn plan_lists(plan: &mut PersonPlan, views: &PersonViews<'_>, resolved: &[ResolvedList<'_>]) {
    let mut wanted: BTreeMap<BrevoListId, bool> = BTreeMap::new();
    let mut following: BTreeMap<BrevoListId, (Follows, &str)> = BTreeMap::new();
    // Of lists with no other rule nothing is known, and so nothing new is agreed on: once there is, who is on one without our
    // doing has come to it since.
    let mut known: BTreeSet<BrevoListId> = BTreeSet::new();
    for ResolvedList { rule, list } in resolved {
        let as_before = views.base.lists.get(list).is_some_and(|base| base.wanted);
        if rule.rests {
            *wanted.entry(*list).or_default() |= as_before;
            continue;
        }
        known.insert(*list);
        if let (Some(follows), Membership::Tag(tag)) = (follows(rule.direction), &rule.membership) {
            following.insert(*list, (follows, tag));
            if let Some(given) = views.flights.tags.get(list) {
                *wanted.entry(*list).or_default() |= *given;
                continue;
            }
        }
        match rule.try_holds(views.record) {
            Ok(holds) => *wanted.entry(*list).or_default() |= holds,
            // Nobody leaves a list because a condition cannot be evaluated.
            Err(problem) => {
                plan.problems.insert(rule.key.clone(), problem);
                *wanted.entry(*list).or_default() |= as_before;
            }
        }
    }
    for (list, wanted) in wanted {
        let on_its_way = views.flights.lists.get(&list).copied();
        let member = views.brevo.map(|contact| on_its_way.unwrap_or_else(|| contact.lists.contains(&list)));
        let left = views.brevo.is_some_and(|contact| contact.lists_left.contains(&list));
        let base = views.base.lists.get(&list).copied();
        let (follows, tag) = following.get(&list).copied().unwrap_or_default();
        if let Some(given) = views.flights.tags.get(&list) {
            plan.flights.tags.insert(list, *given);
            if views.waits_for_intercom {
                put_or_remove(&mut plan.base.lists, &list, base.as_ref());
                put_or_remove(&mut plan.flights.lists, &list, on_its_way.as_ref());
                continue;
            }
        }
        let agreed = match lists::decide(ListViews { follows, wanted, member, left, base }) {
            ListStep::Remember(agreed) => {
                if let Some(joined) = on_its_way {
                    plan.flights.lists.insert(list, joined);
                }
                agreed
            }
            ListStep::Tag(agreed) | ListStep::Untag(agreed) => {
                if let Some(joined) = on_its_way {
                    plan.flights.lists.insert(list, joined);
                }
                plan.tags.insert(tag.to_owned(), agreed.wanted);
                plan.back.lists.insert(list, tag.to_owned());
                plan.flights.tags.insert(list, agreed.wanted);
                agreed
            }
            ListStep::KeptOff(agreed) => {
                plan.notices.insert(Notice::KeptOffList { list, left });
                agreed
            }
            ListStep::Join(agreed) => {
                plan.change.join_lists.insert(list);
                plan.flights.lists.insert(list, true);
                agreed
            }
            ListStep::Leave(agreed) => {
                plan.change.leave_lists.insert(list);
                plan.flights.lists.insert(list, false);
                agreed
            }
        };
        if !known.contains(&list) {
            put_or_remove(&mut plan.base.lists, &list, base.as_ref());
            continue;
        }
        // A list that never mattered to this person takes no space.
        if agreed.wanted || agreed.member || base.is_some() {
            plan.base.lists.insert(list, agreed);
        }
    }
}

/// Whether a tag follows its list; `None` where only the list follows.
fn follows(direction: Direction) -> Option<Follows> {
    match direction {
        Direction::IntercomToBrevo => None,
        Direction::BrevoToIntercom => Some(Follows::Tag),
        Direction::Both => Some(Follows::Both),
    }
}

fn plan_address(plan: &mut PersonPlan, views: &PersonViews<'_>) {
    plan.flights.renames.clone_from(&views.flights.renames);
    if let (Some(contact), Some(new)) = (views.brevo, views.rename_to)
        && contact.email.as_ref() != Some(new)
    {
        plan.change.email = Some(new.clone());
        if plan.flights.renames.last() != Some(new) {
            plan.flights.renames.push(new.clone());
            let oldest = plan.flights.renames.len().saturating_sub(MOST_SUPERSEDED);
            plan.flights.renames.drain(..oldest);
        }
        plan.alone = true;
        plan.causes.insert("email".to_owned(), "changed in Intercom");
    }
}

fn plan_consent(plan: &mut PersonPlan, views: &PersonViews<'_>) {
    let renames = plan.change.email.is_some();
    let address_moved = views.base.email.is_some()
        && views.brevo.is_some_and(|contact| contact.email.as_ref() != views.base.email.as_ref());
    let may_be_our_doing = views.flights.may_loosen || address_moved;
    let brevo_out = views.brevo.map(|contact| contact.consent.email_opted_out() || views.flights.opted_out);
    let members: Vec<MemberViews> = views.members.iter().map(|member| member.views).collect();
    // What we wrote to Intercom ourselves is no opt-out that Brevo has to learn of. A contact that is made anew gets it all
    // the same.
    let intercom_out = views.consent.email_opted_out();
    let step = consent::decide(ConsentViews {
        intercom_out: intercom_out && (brevo_out.is_none() || !consent::only_ours(&members)),
        brevo_out,
        base: views.base.consent,
        may_be_our_doing,
        brevo_may_be_old: views.brevo_may_be_old,
    });
    plan.change.email_opted_out = step.opt_out_in_brevo
        // Brevo re-subscribes a blocklisted contact whose address changes: the flag rides along.
        || (renames && (brevo_out == Some(true) || views.base.consent.is_some_and(|base| base.brevo_out)));
    if step.opt_out_in_brevo {
        plan.causes.insert("consent".to_owned(), "opted out in Intercom, or lifted by an address change");
    }
    plan.alone |= plan.change.email_opted_out && views.brevo.is_some();
    plan.flights.opted_out = plan.change.email_opted_out || views.flights.opted_out;
    plan.flights.seen_subscribed = views.flights.seen_subscribed && !plan.change.email_opted_out;
    plan.flights.may_loosen = renames || views.flights.may_loosen;
    plan.base.consent = Some(step.base);
    let own = !views.flights.may_blocklist() && views.brevo.is_some_and(|contact| contact.consent.email_opted_out());
    let before = views.base.consent_with_contact(views.brevo_may_be_old);
    for member in views.members.iter().filter(|_| views.brevo.is_some()) {
        let step = consent::tell(member.views, step.base.brevo_out, own, before);
        if step == MemberStep::Forget || (views.tells && step != MemberStep::Nothing) {
            plan.tell.push((member.id.clone(), step));
        }
    }
    // Who is about to be told differs no more.
    let intercom_out = intercom_out || plan.opt_outs_in_intercom() > 0;
    if intercom_out != step.base.brevo_out {
        let opted_out_in = if intercom_out { SideName::Intercom } else { SideName::Brevo };
        plan.notices.insert(Notice::ConsentDiverges { opted_out_in });
    }
    let shown = views.brevo.and_then(|contact| contact.email.as_ref());
    let agreed =
        views.base.agreed_email.as_ref().filter(|agreed| Some(*agreed) == views.email && Some(*agreed) != shown);
    plan.base.agreed_email = agreed.cloned();
    plan.base.declined_email = views.base.declined_email.as_ref().filter(|declined| Some(*declined) == shown).cloned();
    plan.base.email = match (&plan.change.email, views.brevo) {
        (Some(new), _) => Some(new.clone()),
        (None, Some(contact)) => contact.email.clone(),
        (None, None) => views.email.cloned(),
    };

    let sms = consent::decide(ConsentViews {
        intercom_out: views.consent.sms_opted_out,
        brevo_out: views.brevo.map(|contact| contact.consent.sms_opted_out),
        base: views.base.sms,
        may_be_our_doing: views.flights.brings_sms_no,
        brevo_may_be_old: views.brevo_may_be_old,
    });
    plan.flights.brings_sms_no = views.flights.brings_sms_no;
    plan.change.sms_opted_out = sms.opt_out_in_brevo;
    plan.alone |= sms.opt_out_in_brevo && views.brevo.is_some();
    if sms.base.intercom_out || sms.base.brevo_out {
        plan.base.sms = Some(sms.base);
    }
}

/// EXT_ID is set where Brevo's is empty, riding on another write: alone it is not worth a request a contact.
fn plan_external_id(plan: &mut PersonPlan, views: &PersonViews<'_>) {
    let Some(external_id) = views.external_id else { return };
    match views.brevo.map(|contact| contact.ext_id.as_deref()) {
        Some(Some(theirs)) if theirs != external_id => {
            plan.notices
                .insert(Notice::ExternalIdDiffers { intercom: external_id.to_owned(), brevo: Some(theirs.to_owned()) });
        }
        Some(Some(_)) => {}
        Some(None) if plan.change.is_empty() => {}
        Some(None) | None if views.quarantined.contains_key("external_id") => {}
        Some(None) | None => plan.change.ext_id = Some(external_id.to_owned()),
    }
}
