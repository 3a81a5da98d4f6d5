//! One person's views, gathered from the store, and the plan for them.

mod ahead;

pub(super) use self::ahead::gather_to_push;
use super::filling::Parcel;
use super::filters::{counts, takes_part};
use super::forget::{self, Tombstones};
use super::observe::{base_of, flights_of, no_was_told, pack_base, subject_of};
use super::place::{self, Knot};
use super::readdress;
use super::safety::{self, Gate, Harm, Judged};
use super::unread::AtRest;
use super::{Ready, carry, pull, write_back};
use crate::mapping::{FieldProblem, Projection};
use crate::model::{
    BrevoContact, BrevoContactId, Company, Consent, Email, Fields, IntercomContactId, IntercomTagId, SideName, Sides,
    Value,
};
use crate::reconcile::consent::ConsentBase;
use crate::reconcile::harm::Kind;
use crate::reconcile::newest::Span;
use crate::reconcile::person::{self, Base, Flights, Member, Notice, PersonPlan, PersonViews, ResolvedList};
use crate::reconcile::taking_part::Part;
use crate::reconcile::{company, figures};
use crate::store::contacts::{ContactState, IntercomRow, PhoneHolder};
use crate::store::links::{Dirty, LinkRow, LinkState};
use crate::store::listings::NewFailure;
use crate::store::partings::Apart;
use crate::store::{Packer, Result, Tx};
use chrono::{DateTime, Utc};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A person as the planner sees them.
pub(super) struct Person {
    pub(super) link: LinkRow,
    pub(super) base: Base,
    pub(super) flights: Flights,
    pub(super) record: Fields,
    pub(super) consent: Consent,
    pub(super) external_id: Option<String>,
    pub(super) brevo: Option<BrevoContact>,
    pub(super) primary: IntercomContactId,
    pub(super) members: Vec<Member>,
    tells: bool,
    waits_for_intercom: bool,
    /// Somebody or something comes first before their address can be followed: only an opt-out goes ahead of that.
    pub(super) waits: bool,
    /// A row of an import could make or reach another Brevo contact, or make one that misses a no.
    takes_no_row: bool,
    changed: Sides<Option<Span>>,
    brevo_may_be_old: bool,
    part: Sides<Part>,
    part_problem: Option<FieldProblem>,
    at_rest: Option<Arc<AtRest>>,
    /// Nobody of them is in Intercom any more: nothing is planned but what they had said no to.
    gone: bool,
}

/// When somebody is looked at again for whom it was too early.
const NOT_NOW: chrono::TimeDelta = chrono::TimeDelta::seconds(30);

/// A plan, ready to be sent.
pub(super) struct Planned {
    pub(super) link: i64,
    pub(super) email: Option<Email>,
    pub(super) brevo: Option<BrevoContact>,
    pub(super) plan: PersonPlan,
    /// What it does of what is counted.
    pub(super) harm: Harm,
    /// Only an opt-out is sent: the rest is planned afterwards.
    pub(super) only_opt_out: bool,
    /// It goes ahead of a write whose outcome is not known yet.
    pub(super) ahead: bool,
    /// An import can carry it.
    pub(super) importable: bool,
    /// The link's marks when this was planned.
    pub(super) marks: i64,
    /// The address that the Brevo contact was to take when this was planned.
    pub(super) rename_to: Option<Email>,
    /// The writes that were being watched already.
    pub(super) watched: Option<crate::store::Packed>,
    /// What an import and the state are to hold of it, if that has been packed.
    pub(super) parcel: Option<Parcel>,
}

/// What a run would do for a person.
pub(super) struct Rehearsed {
    pub(super) primary: IntercomContactId,
    /// `None`: a contact would be made.
    pub(super) brevo: Option<BrevoContactId>,
    pub(super) plan: PersonPlan,
    /// The rules whose phone would be left out, because another contact has it.
    pub(super) phone_taken: Vec<String>,
    /// Options that its values need and that are missing, by attribute.
    pub(super) new_options: Vec<(String, String)>,
    /// What of it is counted.
    pub(super) harm: Vec<(Kind, u64)>,
}

/// A plan, and what was packed of it.
struct Drafted {
    plan: PersonPlan,
    parcel: Option<Parcel>,
}

impl Drafted {
    /// Nothing is packed yet.
    fn unpacked(plan: PersonPlan) -> Self {
        Self { plan, parcel: None }
    }

    /// The plan, to be changed: what was packed of it does not hold any more.
    fn reopen(&mut self) -> &mut PersonPlan {
        self.parcel = None;
        &mut self.plan
    }
}

impl std::ops::Deref for Drafted {
    type Target = PersonPlan;

    fn deref(&self) -> &PersonPlan {
        &self.plan
    }
}

/// A plan of which nothing is on disk yet.
pub(super) struct Draft {
    person: Person,
    plan: Drafted,
    quarantined: BTreeMap<String, String>,
}

impl Draft {
    pub(super) fn link(&self) -> i64 {
        self.person.link.id
    }

    /// Makes it a plan, if nothing has happened to the person since they were gathered: claims the phone, notes what
    /// people should know, and keeps base where nothing is to be written. `None`: nothing to send.
    pub(super) fn settle(
        self,
        tx: &Tx<'_>,
        ready: &Ready,
        gate: &mut Gate,
        now: DateTime<Utc>,
    ) -> Result<Option<Planned>> {
        let Self { person, mut plan, quarantined } = self;
        if !tx.is_unchanged(&person.link)? {
            // It is still marked: it is gathered again.
            return Ok(None);
        }
        if person.gone {
            return person.plan_last_no(plan.plan, tx, ready, gate);
        }
        let (link, brevo) = (person.link.id, person.brevo.as_ref().map(|contact| contact.id));
        let tell = std::mem::take(&mut plan.plan.tell);
        // What stands in Brevo is told in Intercom whatever becomes of the rest; what this plan is yet to bring there, once it
        // leaves: it may be held.
        let leaves_first = person.opts_out_of_email(&plan);
        if let Some(brevo) = brevo.filter(|_| !leaves_first) {
            carry::keep_steps(tx, link, brevo, &tell, now)?;
        }
        if ready.writes_back && !person.awaits_answer() && !person.waits {
            // Sent by itself, beside what goes to Brevo.
            let sweep = person.link.sweep;
            write_back::queue(tx, person.link.id, &person.primary, &plan, sweep, now)?;
        }
        if plan.writes_back() {
            plan = Drafted::unpacked(plan.plan.without_intercom(&person.base, &person.flights));
        }
        let planned = if person.awaits_answer() {
            person.plan_ahead(plan.plan, tx, ready, gate)?
        } else {
            person.plan(plan, quarantined, tx, ready, gate, now)?
        };
        if let (Some(planned), Some(brevo)) = (&planned, brevo)
            && leaves_first
            && planned.plan.change.email_opted_out
        {
            carry::keep_steps(tx, link, brevo, &tell, now)?;
        }
        Ok(planned)
    }
}

/// Tag names, what is left of people who were forgotten, and which rules rest: read once a batch.
pub(super) struct Names {
    tags: BTreeMap<IntercomTagId, String>,
    forgotten: Option<Tombstones>,
    at_rest: Option<Arc<AtRest>>,
}

impl Names {
    pub(super) fn read(tx: &Tx<'_>, ready: &Ready) -> Result<Self> {
        let at_rest = AtRest::read(tx, ready)?.map(Arc::new);
        Ok(Self { at_rest, ..Self::without_a_plan(tx)? })
    }

    /// Where nothing is planned: nobody has prepared yet.
    pub(super) fn without_a_plan(tx: &Tx<'_>) -> Result<Self> {
        Ok(Self { tags: tx.tags()?, forgotten: Tombstones::read(tx)?, at_rest: None })
    }

    /// A tag by its name, or by its id where that is not known.
    pub(super) fn name_of(&self, id: &IntercomTagId) -> String {
        self.tags.get(id).cloned().unwrap_or_else(|| id.to_string())
    }

    /// The tag of this name. Intercom takes names for the same whatever their case.
    pub(super) fn tag_named(&self, name: &str) -> Option<IntercomTagId> {
        let exact = self.tags.iter().find(|(_, known)| *known == name);
        let found = exact.or_else(|| self.tags.iter().find(|(_, known)| known.to_lowercase() == name.to_lowercase()));
        found.map(|(id, _)| id.clone())
    }
}

/// Gathers a person. `None`: nothing is to be planned for this link (and it is marked so).
pub(super) fn gather(tx: &Tx<'_>, id: i64, ready: &Ready, names: &Names) -> Result<Option<Person>> {
    gather_in(tx, id, ready, names, LinkState::Active)
}

/// Somebody to be shown in a preview: also one whose Brevo contact is gone, for whom nothing is planned any more.
pub(super) fn gather_to_show(tx: &Tx<'_>, id: i64, ready: &Ready, names: &Names) -> Result<Option<Person>> {
    let person = gather(tx, id, ready, names)?;
    if person.is_some() { Ok(person) } else { gather_in(tx, id, ready, names, LinkState::BrevoGone) }
}

fn gather_in(tx: &Tx<'_>, id: i64, ready: &Ready, names: &Names, state: LinkState) -> Result<Option<Person>> {
    let Some(mut link) = tx.link(id)? else { return Ok(None) };
    let rows = tx.members(id)?;
    let live: Vec<&IntercomRow> = rows.iter().filter(|row| row.state == ContactState::Live).collect();
    let primary = live.iter().find(|row| row.is_primary).or(live.first());
    let (Some(primary), true) = (primary, link.state == state) else {
        tx.give_up(id)?;
        if link.state == LinkState::Left {
            // What was on its way to its contact may be over.
            place::let_go(tx, id)?;
        }
        return Ok(None);
    };
    let mut waits = false;
    if state == LinkState::Active && live.iter().any(|row| row.contact.email == link.email) {
        link = place::adopt_present_holder(tx, link)?;
        (link, waits) = readdress::follow(tx, link, &live, ready)?;
    }
    let present = place::present(tx, &link, &live)?;
    let mut added = Fields::new();

    if ready.uses_tags {
        let tags: BTreeSet<&IntercomTagId> = present.iter().flat_map(|row| &row.contact.tags.items).collect();
        let tags = tags.into_iter().filter_map(|tag| names.tags.get(tag).cloned());
        if let Some(tags) = Value::list(tags) {
            added.insert("tags".to_owned(), tags);
        }
    }
    if ready.uses_companies {
        let companies: Vec<Company> = tx
            .contact_companies(&primary.contact.id)?
            .iter()
            .filter_map(|id| tx.company(id).transpose())
            .collect::<Result<_>>()?;
        let picked = company::pick(&companies, link.company.as_ref());
        if picked.map(|company| &company.id) != link.company.as_ref() {
            tx.set_link_company(id, picked.map(|company| &company.id))?;
            link.company = picked.map(|company| company.id.clone());
        }
        if let Some(picked) = picked {
            added.extend(picked.fields.iter().map(|(path, value)| (format!("company.{path}"), value.clone())));
        }
    }
    let mut conversations = Vec::new();
    let mut seen = BTreeSet::new();
    for row in &present {
        for conversation in tx.conversations_of(&row.contact.id)? {
            if seen.insert(conversation.id.clone()) && counts(tx, &conversation, ready.conversation_filter.as_ref())? {
                conversations.push(conversation);
            }
        }
    }
    added.extend(figures::figures(&conversations, &primary.contact.fields));

    let consent = live.iter().fold(Consent::default(), |all, row| all.stricter(&row.contact.consent));
    let (consent, strangers, unheard) = carry::heed_strangers(tx, &link, &rows, consent)?;
    waits |= !strangers.is_empty() && place::is_made_elsewhere(&link, &live);
    let ahead = pull::is_ahead_of_brevo(tx, &live)?;
    let brevo = match link.brevo_id {
        Some(brevo) => tx.brevo_contact(brevo)?,
        None => None,
    };
    if state == LinkState::Active && link.brevo_id.is_some() && brevo.is_none() {
        super::observe::mark_brevo_gone(tx, &link, DateTime::<Utc>::default())?;
        return Ok(None);
    }
    if state == LinkState::Active
        && link.brevo_id.is_none()
        && let Some(tombstones) = &names.forgotten
        && let Some(since) = tombstones.gone_in_brevo(tx, live.iter().map(|row| &row.contact.id))?
    {
        // Forgotten when their Brevo contact had been deleted, and still in Intercom: not made again.
        super::observe::mark_brevo_gone(tx, &link, since)?;
        return Ok(None);
    }
    let mut flights = flights_of(&link)?;
    // A row that lands late may lift a blocklisting: that is not the person's own opt-in.
    flights.may_loosen |= link.brevo_id.map_or(Ok(false), |contact| tx.may_land_late(contact))?;
    let mut base = base_of(&link)?;
    let mut sms_out = false;
    if brevo.as_ref().is_none_or(|contact| !contact.consent.email_opted_out()) {
        // An opt-out that a webhook of Brevo's told of and that no read has undone: whoever comes (back) to that address
        // comes opted out, and what a changed address or a write of ours may have lifted is put back.
        let address = if brevo.is_some() { link.rename_to.as_ref() } else { link.email.as_ref() };
        let (email_out, sms_was_out) = forget::opted_out_before(tx, names.forgotten.as_ref(), address)?;
        if email_out || no_was_told(tx, &link, &base, brevo.as_ref())? {
            let none = ConsentBase { intercom_out: false, brevo_out: false };
            base.consent.get_or_insert(none).brevo_out = true;
            flights.may_loosen = true;
        }
        sms_out = (sms_was_out || base.sms.is_some_and(|sms| sms.brevo_out)) && brevo.is_none();
    }
    let consent = Consent { sms_opted_out: consent.sms_opted_out || sms_out, ..consent };
    let said_no = base.consent.is_some_and(|consent| consent.brevo_out)
        || brevo.as_ref().is_some_and(|contact| contact.consent.email_opted_out())
        || consent.email_opted_out()
        // Or it was to be brought to Brevo, never came there, and was taken back: the next one is another.
        || tx.are_told(id)?;
    // Where nobody has ever said no, nobody was told.
    let mut members = if said_no { carry::members_of(tx, link.brevo_id, live.iter().copied())? } else { Vec::new() };
    members.extend(strangers);
    let primary = primary.contact.id.clone();
    let Some(contact) = rows.into_iter().map(|row| row.contact).find(|contact| contact.id == primary) else {
        return Ok(None);
    };
    let mut record = contact.fields;
    record.extend(added);
    let (external_id, tells) = (contact.external_id, ready.tells_intercom);
    let waits_for_intercom = if ready.writes_back {
        base.give_tags_to(&primary, &record, &ready.lists);
        base.spoken_for_by(&primary, &ready.mapping);
        let (to_intercom, awaits_answer) = write_back::flights_to_intercom(tx, id, &primary)?;
        flights.add_to_intercom(to_intercom);
        awaits_answer
    } else {
        false
    };
    let takes_no_row = carry::takes_no_row(tx, brevo.as_ref(), names.forgotten.as_ref(), unheard)?;
    let (mut part, mut part_problem) = takes_part(&record, brevo.as_ref(), ready);
    if let Some(problem) = names.at_rest.as_ref().and_then(|at_rest| at_rest.hides_from(ready)) {
        (part.brevo, part_problem) = (Part::Rests, Some(problem));
    }
    let changed = if ready.weighs_times { write_back::spans(tx, id)? } else { Sides::default() };
    let brevo_may_be_old = link.dirty >= Dirty::Live || ahead;
    Ok(Some(Person {
        link,
        base,
        flights,
        record,
        consent,
        external_id,
        brevo,
        primary,
        members,
        tells,
        waits_for_intercom,
        waits,
        takes_no_row,
        changed,
        brevo_may_be_old,
        part,
        part_problem,
        at_rest: names.at_rest.clone(),
        gone: false,
    }))
}

/// The fields whose trouble is not over with this plan.
pub(super) fn still_failing<'a>(plan: &'a PersonPlan, quarantined: &'a BTreeMap<String, String>) -> Vec<&'a str> {
    let refused = plan.base.fields.iter().filter(|(_, base)| base.is_refused()).map(|(key, _)| key.as_str());
    let quarantined = quarantined.keys().map(String::as_str);
    plan.problems.keys().map(String::as_str).chain(refused).chain(quarantined).collect()
}

impl Person {
    fn views<'a>(&'a self, quarantined: &'a BTreeMap<String, String>) -> PersonViews<'a> {
        PersonViews {
            record: &self.record,
            email: self.link.email.as_ref(),
            external_id: self.external_id.as_deref(),
            consent: &self.consent,
            members: &self.members,
            tells: self.tells,
            brevo: self.brevo.as_ref(),
            base: &self.base,
            flights: &self.flights,
            rename_to: self.link.rename_to.as_ref(),
            quarantined,
            waits_for_intercom: self.waits_for_intercom,
            changed: self.changed,
            sweep: self.link.sweep,
            brevo_may_be_old: self.brevo_may_be_old,
            part: self.part,
            part_problem: self.part_problem.as_ref(),
        }
    }

    fn plan_with(&self, ready: &Ready, quarantined: &BTreeMap<String, String>) -> PersonPlan {
        let (mapping, lists) = match &self.at_rest {
            Some(at_rest) => (&at_rest.mapping, &at_rest.lists),
            None => (&ready.mapping, &ready.lists),
        };
        let lists: Vec<ResolvedList<'_>> =
            lists.iter().map(|(rule, list)| ResolvedList { rule, list: *list }).collect();
        let mut plan = person::plan(&self.views(quarantined), mapping, &lists);
        if self.brevo.is_some() && !ready.updates.brevo {
            plan = plan.without_brevo(&self.base, &self.flights);
        }
        if !ready.updates.intercom {
            plan = plan.without_intercom(&self.base, &self.flights);
        }
        plan
    }

    /// The same person, of whom a full read has shown drift.
    pub(super) fn in_a_sweep(mut self) -> Self {
        self.link.sweep = true;
        self
    }

    /// The plan as it would be, without claiming or noting anything.
    pub(super) fn dry_plan(&self, ready: &Ready) -> PersonPlan {
        self.plan_with(ready, &self.link.quarantined)
    }

    /// The plan as it is right now, without claiming or noting anything.
    pub(super) fn plan_now(&self, ready: &Ready) -> PersonPlan {
        self.plan_with(ready, &self.still_quarantined(ready))
    }

    /// The plan as far as it needs nothing but what was gathered. `bulk`: an import is to carry as much as it can, and that
    /// is packed already.
    pub(super) fn draft(self, ready: &Ready, bulk: Option<&Packer>) -> Draft {
        if self.awaits_answer() {
            let plan = Drafted::unpacked(self.dry_plan(ready));
            return Draft { quarantined: self.link.quarantined.clone(), person: self, plan };
        }
        let quarantined = self.still_quarantined(ready);
        let mut plan = self.plan_with(ready, &quarantined);
        let mut parcel = None;
        if let Some(packer) = bulk {
            if let Some(most) = self.without_phone(ready, &plan, &quarantined) {
                plan = most;
            }
            if self.importable(&plan) && !plan.writes_back() {
                // What cannot be packed is packed again where somebody hears of it.
                parcel = Parcel::of(packer, &plan, self.link.email.as_ref(), self.brevo.as_ref()).ok().flatten();
            }
        }
        Draft { person: self, plan: Drafted { plan, parcel }, quarantined }
    }

    /// A filter leaves them out, and takes them off the lists that the mapping had put them on.
    pub(super) fn leaves_lists(&self) -> bool {
        self.part.brevo == Part::Leaves
    }

    /// There is something to be planned, and nothing on its way that it would have to wait for.
    pub(super) fn may_be_planned(&self) -> bool {
        let urgent = self.link.dirty == Dirty::Consent && self.brevo.is_some();
        self.link.dirty != Dirty::No && self.link.import.is_none() && (urgent || !self.awaits_answer())
    }

    /// The outcome of an earlier write is not known yet.
    pub(super) fn awaits_answer(&self) -> bool {
        self.link.flights.is_some() && !self.link.answered
    }

    /// Claims the phone, notes what people should know, and keeps base where nothing is to be written.
    /// `None`: nothing to send.
    fn plan(
        self,
        mut plan: Drafted,
        mut quarantined: BTreeMap<String, String>,
        tx: &Tx<'_>,
        ready: &Ready,
        gate: &mut Gate,
        now: DateTime<Utc>,
    ) -> Result<Option<Planned>> {
        if self.waits && !self.opts_out(&plan) {
            if self.link.dirty == Dirty::Consent {
                // Urgent for nothing (any more).
                tx.no_opt_out(self.link.id)?;
            }
            tx.postpone(self.link.id, now + NOT_NOW, false)?;
            return Ok(None);
        }
        if quarantined != self.link.quarantined {
            tx.set_quarantined(self.link.id, &quarantined)?;
        }
        if self.claim_unique(&mut plan, &mut quarantined, tx, ready, now)? {
            plan = Drafted::unpacked(plan.plan.without_intercom(&self.base, &self.flights));
        }
        let knot = if plan.change.email.is_some() { place::unknot(tx, self.link.id)? } else { Knot::None };
        if knot == Knot::Undone {
            return Ok(None);
        }
        if ready.filter.brevo.is_some() {
            let apart = if self.part_problem.is_some() { Apart::Untold } else { Apart::LeftOut };
            tx.set_apart(self.link.id, (self.part.brevo != Part::Takes).then_some(apart))?;
        }
        if self.is_not_made(tx, now)? {
            return Ok(None);
        }
        self.note(tx, ready, &plan, now)?;
        if self.brevo.is_none() && !ready.makes_in_brevo {
            tx.give_up(self.link.id)?;
            return Ok(None);
        }
        if self.has_no_identifier(&plan, tx, now)? {
            return Ok(None);
        }
        if self.brevo.is_none() && self.held_by_another(tx, now)? {
            return Ok(None);
        }
        match gate.judge(tx, &self, &plan, ready)? {
            Judged::AsItIs => {}
            Judged::Without(less) => *plan.reopen() = *less,
            Judged::Aside => return Ok(None),
        }
        // A contact that does not exist yet is made even if it has nothing but its address.
        if plan.writes_nothing() && self.brevo.is_some() {
            tx.keep_base(self.link.id, &pack_base(tx, &plan.base)?)?;
            if let Some(watched) = person::as_met(&flights_of(&self.link)?, &plan) {
                tx.watch_as(self.link.id, &super::observe::pack_flights(tx, &watched)?)?;
            }
            tx.clear_failures(self.link.id, &still_failing(&plan, &quarantined))?;
            if self.link.flights.is_some()
                && !self.flights.is_empty()
                && self.link.answered
                && self.link.verify_after.is_none()
            {
                tx.drop_intent(self.link.id, None, true)?;
            }
            return Ok(None);
        }
        // Something of an earlier try was refused: the opt-out goes alone and first.
        let opts_out = self.opts_out(&plan);
        // What changed after options were looked for may need others. Brevo would drop them and say nothing.
        let lacks_options = ready.mapping.rules.iter().any(|rule| {
            rule.targets.iter().any(|target| plan.change.attributes.contains_key(&target.attribute))
                && !rule.missing_options(&self.record).is_empty()
        });
        let late_row = self.rename_waits_until(&plan, tx, now)?;
        let must_wait = self.waits || lacks_options || knot == Knot::Busy || late_row.is_some();
        if must_wait && !opts_out {
            if self.link.dirty == Dirty::Consent {
                // For opt-outs no options are made: this is none (any more), and comes after them.
                tx.no_opt_out(self.link.id)?;
            } else {
                let until = late_row.unwrap_or(now + chrono::TimeDelta::seconds(30));
                tx.postpone(self.link.id, until, false)?;
            }
            return Ok(None);
        }
        let only_opt_out = opts_out && (self.link.tries > 0 || must_wait);
        if only_opt_out {
            plan = Drafted::unpacked(plan.plan.only_opt_out(&self.base, &self.flights));
        }
        let Some(harm) = gate.goes(tx, &self, &plan)? else { return Ok(None) };
        if self.brevo.is_none()
            && let Some((email, until)) = tx.late_address_of(self.link.id, self.link.email.as_ref(), now)?
        {
            // A row of an import may still make them under the address that they had: that is looked for first.
            let Flights { may_loosen, brings_sms_no, .. } = self.flights;
            let flights = Flights { email: Some(email), may_loosen, brings_sms_no, ..Flights::default() };
            tx.put_intent(self.link.id, &super::observe::pack_flights(tx, &flights)?, until)?;
            return Ok(None);
        }
        Ok(Some(Planned {
            importable: self.importable(&plan),
            harm,
            only_opt_out,
            ahead: false,
            link: self.link.id,
            email: self.link.email,
            brevo: self.brevo,
            plan: plan.plan,
            parcel: plan.parcel,
            marks: self.link.marks,
            rename_to: self.link.rename_to.filter(|_| !only_opt_out),
            watched: self.link.flights,
        }))
    }

    /// Until when a row of an import may land that would make another contact, were the person's renamed now.
    fn rename_waits_until(&self, plan: &Drafted, tx: &Tx<'_>, now: DateTime<Utc>) -> Result<Option<DateTime<Utc>>> {
        let shown = self.brevo.as_ref().and_then(|contact| contact.email.as_ref());
        match shown.filter(|_| plan.change.email.is_some()) {
            Some(shown) => tx.late_address_until(shown, now),
            None => Ok(None),
        }
    }

    /// Leaves out what Brevo allows once in an account and another contact has. `true`: the phone was left out.
    fn claim_unique(
        &self,
        plan: &mut Drafted,
        quarantined: &mut BTreeMap<String, String>,
        tx: &Tx<'_>,
        ready: &Ready,
        now: DateTime<Utc>,
    ) -> Result<bool> {
        // A phone that another contact has would make Brevo refuse the whole contact: it is written without.
        if let Some(Some(phone)) = plan.change.attributes.get("SMS")
            && let Some(holder) = tx.claim_phone(&phone.to_string(), self.link.id, self.link.brevo_id)?
        {
            quarantined.extend(self.phone_rules(ready));
            tx.set_quarantined(self.link.id, quarantined)?;
            *plan = Drafted::unpacked(self.plan_with(ready, quarantined));
            self.list_phone(tx, ready, holder, now)?;
            return Ok(true);
        }
        if let Some(ext_id) = &plan.change.ext_id
            && tx.brevo_contact_by_ext_id(ext_id)?.is_some_and(|holder| Some(holder.id) != self.link.brevo_id)
        {
            let notice = Notice::ExternalIdDiffers { intercom: ext_id.clone(), brevo: None };
            let plan = plan.reopen();
            plan.notices.insert(notice);
            plan.change.ext_id = None;
        }
        Ok(false)
    }

    /// Nobody is made in Brevo who does not take part.
    fn is_not_made(&self, tx: &Tx<'_>, now: DateTime<Utc>) -> Result<bool> {
        let not = self.brevo.is_none() && self.part.brevo != Part::Takes;
        if not {
            for kind in Notice::KINDS {
                tx.clear_notice(kind, &format!("contact {}", self.primary))?;
            }
            tx.give_up(self.link.id)?;
            tx.forget_failures(self.link.id)?;
            if let Some(problem) = &self.part_problem {
                let subject = format!("contact {}", self.primary);
                let failure = NewFailure::left_out(Some(self.link.id), &subject, &problem.field, &problem.message);
                tx.put_failure(&failure, now)?;
            }
        }
        Ok(not)
    }

    /// Without an address, and without a phone that it may have, a contact cannot be made: listed, and left.
    fn has_no_identifier(&self, plan: &PersonPlan, tx: &Tx<'_>, now: DateTime<Utc>) -> Result<bool> {
        let without = self.link.email.is_none() && !plan.change.attributes.contains_key("SMS");
        if self.brevo.is_some() || !without {
            return Ok(false);
        }
        tx.put_notice("without_email", &format!("contact {}", self.primary), None, now)?;
        tx.give_up(self.link.id)?;
        Ok(true)
    }

    /// What a run would do for this person first, on a copy of the state: the phone is claimed there, and noted what
    /// people should know, but base stays, and nobody is put off. `None`: nothing can be written.
    pub(super) fn rehearse(self, tx: &Tx<'_>, ready: &Ready, now: DateTime<Utc>) -> Result<Option<Rehearsed>> {
        if self.waits {
            return Ok(None);
        }
        let mut phone_taken = Vec::new();
        if self.brevo.is_none() && self.part.brevo != Part::Takes {
            return Ok(None);
        }
        let plan = if self.awaits_answer() {
            self.dry_plan(ready)
        } else {
            let mut quarantined = self.still_quarantined(ready);
            let mut plan = Drafted::unpacked(self.plan_with(ready, &quarantined));
            if self.claim_unique(&mut plan, &mut quarantined, tx, ready, now)? {
                phone_taken = self.phone_rules(ready).map(|(rule, _)| rule).collect();
            }
            self.note(tx, ready, &plan, now)?;
            if self.brevo.is_none() && !ready.makes_in_brevo || self.has_no_identifier(&plan, tx, now)? {
                return Ok(None);
            }
            // Who is about to leave the address has left it by the time that this one is made.
            if self.brevo.is_none()
                && let Some(holder) = self.holder_of_address(tx)?
                && holder.rename_to.is_none()
            {
                super::answers::hold_apart(tx, self.link.id, holder.id, now)?;
                return Ok(None);
            }
            plan.plan
        };
        let rules = ready.mapping.rules.iter();
        let new_options = rules.flat_map(|rule| rule.missing_options(&self.record)).collect();
        let harm = safety::rehearse(tx, &self, &plan)?;
        let brevo = self.brevo.map(|contact| contact.id);
        Ok(Some(Rehearsed { primary: self.primary, brevo, plan, phone_taken, new_options, harm }))
    }

    /// The plan says something new about consent to a contact that is there.
    fn opts_out(&self, plan: &PersonPlan) -> bool {
        let shown = self.brevo.as_ref().map(|contact| &contact.consent);
        self.opts_out_of_email(plan) || shown.is_some_and(|shown| plan.change.sms_opted_out && !shown.sms_opted_out)
    }

    /// The same of e-mail. A flag that merely rides along with a new address is no news.
    fn opts_out_of_email(&self, plan: &PersonPlan) -> bool {
        let shown = self.brevo.as_ref().map(|contact| &contact.consent);
        plan.change.email_opted_out && !self.flights.opted_out && shown.is_some_and(|shown| !shown.email_opted_out())
    }

    /// The plan without the phone, if that makes one for an import. A new phone of a contact that exists must go alone;
    /// planned once more, after everything else, it may be found to be somebody else's, and cost no request.
    fn without_phone(
        &self,
        ready: &Ready,
        plan: &PersonPlan,
        quarantined: &BTreeMap<String, String>,
    ) -> Option<PersonPlan> {
        if self.brevo.is_none() || !matches!(plan.change.attributes.get("SMS"), Some(Some(_))) {
            return None;
        }
        let mut quarantined = quarantined.clone();
        quarantined.extend(self.phone_rules(ready));
        let mut most = self.plan_with(ready, &quarantined);
        most.flights.more = true;
        (self.importable(&most) && !most.writes_nothing()).then_some(most)
    }

    /// What the rules of the phone make of this person, as quarantine remembers it.
    fn phone_rules<'a>(&'a self, ready: &'a Ready) -> impl Iterator<Item = (String, String)> + 'a {
        let rules = ready.mapping.rules.iter();
        let rules = rules.filter(|rule| rule.targets.iter().any(|target| target.attribute == "SMS"));
        rules.filter_map(|rule| match rule.project(&self.record) {
            Projection::Cells(cells) => Some((rule.key.clone(), person::quarantine_key(&cells))),
            _ => None,
        })
    }

    /// Lists that the phone is left out because of whom it belongs to: with Brevo's own words, if it has refused the
    /// number to that one already.
    fn list_phone(&self, tx: &Tx<'_>, ready: &Ready, holder: PhoneHolder, now: DateTime<Utc>) -> Result<()> {
        let subject = format!("contact {}", self.primary);
        let (who, refusal) = match holder {
            PhoneHolder::Brevo(id) => (format!("Brevo contact {id}"), None),
            PhoneHolder::Link(id) => {
                let who = tx.link(id)?.map(|link| subject_of(tx, &link)).transpose()?;
                (who.unwrap_or_else(|| "another contact".to_owned()), tx.refusal_of_phone(id)?)
            }
        };
        let (message, refused_by, status) = match refusal {
            Some((words, status)) => {
                (format!("{words} [said of {who}, which has the same number]"), Some(SideName::Brevo), status)
            }
            None => (format!("{who} has this phone number, and Brevo allows each number once"), None, None),
        };
        for (rule, _) in self.phone_rules(ready) {
            let failure = NewFailure::left_out(Some(self.link.id), &subject, &rule, &message);
            tx.put_failure(&NewFailure { refused_by, status, ..failure }, now)?;
        }
        Ok(())
    }

    /// An import can carry it without harm: no clears, no consent of an existing contact, nobody blocklisted, first try.
    fn importable(&self, plan: &PersonPlan) -> bool {
        let PersonPlan { change, base, alone, .. } = plan;
        let first = self.link.tries == 0 && self.link.flights.is_none();
        if !first || *alone || self.link.email.is_none() || change.sms_opted_out {
            return false;
        }
        let says_no = |consent: &Consent| consent.email_opted_out() || consent.sms_opted_out;
        self.brevo.as_ref().is_none_or(|contact| {
            // An import finds its rows by address: under one that is no longer the contact's it makes a second one, which
            // knows nothing of a no that waits, or reaches another, who may have opted out.
            !says_no(&contact.consent)
                && !says_no(&self.consent)
                && contact.email == self.link.email
                && !self.takes_no_row
                && change.leave_lists.is_empty()
                && !base.consent.is_some_and(|consent| consent.brevo_out)
        })
    }

    /// Values that Brevo refuses and that would still be sent.
    fn still_quarantined(&self, ready: &Ready) -> BTreeMap<String, String> {
        let mut left = self.link.quarantined.clone();
        left.retain(|key, refused| {
            let Some(rule) = ready.mapping.rules.iter().find(|rule| rule.key == *key) else {
                return key == "external_id";
            };
            let brevo = self.brevo.as_ref().map(|contact| &contact.attributes);
            person::is_still_refused(rule, refused, &self.record, brevo)
        });
        left
    }

    /// Whether another person's Brevo contact shows the address, because somebody gave it that by hand: then Brevo
    /// would refuse to make one, at every sweep anew.
    fn held_by_another(&self, tx: &Tx<'_>, now: DateTime<Utc>) -> Result<bool> {
        match self.holder_of_address(tx)? {
            Some(holder) if holder.rename_to.is_some() => {
                // It is about to leave the address.
                tx.postpone(self.link.id, now + chrono::TimeDelta::seconds(60), false)?;
                Ok(true)
            }
            Some(holder) => {
                if let Some((email, brevo)) = self.link.email.as_ref().zip(holder.brevo_id)
                    && place::take_from_deserted(tx, &self.link, &holder, brevo, email)?
                {
                    tx.mark_dirty(self.link.id, Dirty::Live)?;
                    return Ok(true);
                }
                super::answers::hold_apart(tx, self.link.id, holder.id, now)?;
                Ok(true)
            }
            None => {
                tx.clear_notice("identity_conflict", &format!("contact {}", self.primary))?;
                Ok(false)
            }
        }
    }

    /// The link of another person whose Brevo contact shows the address.
    fn holder_of_address(&self, tx: &Tx<'_>) -> Result<Option<LinkRow>> {
        let Some(email) = &self.link.email else { return Ok(None) };
        let Some(shown) = tx.brevo_contact_by_email(email)? else { return Ok(None) };
        Ok(tx.link_by_brevo(shown.id)?.filter(|holder| holder.id != self.link.id))
    }

    fn note(&self, tx: &Tx<'_>, ready: &Ready, plan: &PersonPlan, now: DateTime<Utc>) -> Result<()> {
        let subject = format!("contact {}", self.primary);
        for kind in Notice::KINDS {
            let mut details = Vec::new();
            for notice in plan.notices.iter().filter(|notice| notice.kind() == kind) {
                details.push(self.in_words(notice, tx, ready)?);
            }
            if details.is_empty() {
                tx.clear_notice(kind, &subject)?;
            } else {
                tx.put_notice(kind, &subject, Some(&details.join("; ")), now)?;
            }
        }
        for (rule, problem) in &plan.problems {
            tx.put_failure(&NewFailure::left_out(Some(self.link.id), &subject, rule, &problem.message), now)?;
        }
        Ok(())
    }

    /// What is known of a notice.
    fn in_words(&self, notice: &Notice, tx: &Tx<'_>, ready: &Ready) -> Result<String> {
        let there = self.link.brevo_id.map_or_else(|| "in Brevo".to_owned(), |id| format!("in Brevo (contact {id})"));
        Ok(match notice {
            Notice::ExternalIdDiffers { intercom, brevo: Some(brevo) } => {
                format!("“{intercom}” in Intercom, “{brevo}” {there}")
            }
            Notice::ExternalIdDiffers { intercom, brevo: None } => match tx.brevo_contact_by_ext_id(intercom)? {
                Some(holder) => format!("“{intercom}” in Intercom, which another contact in Brevo has ({})", holder.id),
                None => format!("“{intercom}” in Intercom"),
            },
            Notice::ConsentDiverges { opted_out_in: SideName::Intercom } => {
                format!("opted out in Intercom, not {there}")
            }
            Notice::ConsentDiverges { opted_out_in: SideName::Brevo } => format!("opted out {there}, not in Intercom"),
            Notice::KeptOffList { list, left } => {
                let how = if *left { "left it" } else { "was taken off" };
                format!("{}: {how}", ready.list_in_words(*list, &tx.lists()?))
            }
        })
    }
}
