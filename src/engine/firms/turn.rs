//! One company's turn: what is to be written, the intent, the request, and what it said. One request at a time.

use super::shown::{base_of, flights_of, pack_flights, subject_of};
use super::{Kept, ReadyFirms, Rehearsal};
use crate::engine::answers::MOST_TRIES;
use crate::engine::observe::{self, pack_base};
use crate::engine::unreadable::replaceable;
use crate::engine::{Connection, EngineError, LATE_LANDING};
use crate::mapping::FieldProblem;
use crate::model::{
    Answer, BrevoCompany, BrevoCompanyId, BrevoContactId, Company, ErrorKind, Fetched, Fields, NewCompany, Observation,
    Priority, SideError, SideName, Sides, Value, Write,
};
use crate::reconcile::company::{self, CompanyViews, Links};
use crate::reconcile::person::{self, Base, Flights, LostValue, PersonPlan};
use crate::reconcile::taking_part::{Part, parts};
use crate::store::firms::{Firm, LinkedContact};
use crate::store::links::Dirty;
use crate::store::listings::{Change, NewFailure};
use crate::store::{Result as Stored, Tx};
use chrono::{DateTime, TimeDelta, Utc};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

/// The most contacts that are linked, or taken off, in one request.
const CONTACTS_A_CALL: usize = 500;
/// When something is tried again that a vendor could not take for now.
const LATER: TimeDelta = TimeDelta::minutes(1);

/// How a turn went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Went {
    /// Something was written; there may be more.
    On,
    /// There is nothing (more) to do, for now.
    Done,
    /// The hour's budget is spent.
    NoBudget,
}

/// What there is about a company.
pub(super) struct Gathered {
    pub(super) firm: Firm,
    company: Company,
    brevo: Option<BrevoCompany>,
    base: Base,
    flights: Flights,
    wanted: BTreeSet<BrevoContactId>,
    linked: Vec<LinkedContact>,
    part: Sides<Part>,
    part_problem: Option<FieldProblem>,
    now: DateTime<Utc>,
}

/// One request.
#[derive(Debug, Clone)]
enum Request {
    Make(NewCompany),
    Update(BrevoCompanyId, BTreeMap<String, Option<Value>>),
    Link(BrevoCompanyId, Links),
    Back(BTreeMap<String, Option<Value>>),
}

impl Request {
    fn side(&self) -> SideName {
        if matches!(self, Self::Back(_)) { SideName::Intercom } else { SideName::Brevo }
    }
}

/// What leaves, with the plan that it is of.
struct Leaving {
    gathered: Gathered,
    plan: PersonPlan,
    request: Request,
}

/// `None`: Intercom's company is not known (any more).
pub(super) fn gather(tx: &Tx<'_>, firm: Firm, ready: &ReadyFirms, now: DateTime<Utc>) -> Stored<Option<Gathered>> {
    let Some(company) = replaceable(tx, tx.company(&firm.intercom))?.0 else { return Ok(None) };
    let brevo = firm.brevo.as_ref().map(|id| tx.brevo_company(id)).transpose()?.flatten();
    let (part, part_problem) = takes_part(&company, brevo.as_ref(), ready);
    let quarantined = company::still_quarantined(&firm.quarantined, &company, brevo.as_ref(), &ready.mapping);
    let firm = Firm { quarantined, ..firm };
    Ok(Some(Gathered {
        part,
        part_problem,
        company,
        brevo,
        base: base_of(&firm),
        flights: flights_of(&firm),
        wanted: tx.contacts_of_company(&firm.intercom)?,
        linked: tx.linked_contacts(firm.id)?,
        firm,
        now,
    }))
}

/// Whether a company takes part, in each direction. Where that cannot be told nothing is written.
fn takes_part(
    company: &Company,
    brevo: Option<&BrevoCompany>,
    ready: &ReadyFirms,
) -> (Sides<Part>, Option<FieldProblem>) {
    let unmatched = Sides::from_fn(|_| Part::Rests);
    parts(&ready.filter, "companies.filter", unmatched, |side| match side {
        SideName::Intercom => Some(Cow::Owned(company::record(company))),
        SideName::Brevo => brevo.map(|brevo| Cow::Borrowed(&brevo.attributes)),
    })
}

impl Gathered {
    /// Whether anything of it is written to Brevo.
    fn goes_to_brevo(&self) -> bool {
        self.part.brevo == Part::Takes
    }

    pub(super) fn plan(&self, ready: &ReadyFirms) -> PersonPlan {
        company::plan(
            &CompanyViews {
                intercom: &self.company,
                brevo: self.brevo.as_ref(),
                base: &self.base,
                flights: &self.flights,
                quarantined: &self.firm.quarantined,
                sweep: self.firm.sweep,
                ours_sent: self.firm.ours_sent,
                part: self.part,
                part_problem: self.part_problem.as_ref(),
            },
            &ready.mapping,
        )
    }

    fn links(&self) -> Links {
        if !self.goes_to_brevo() {
            return Links::default();
        }
        let ours = self.linked.iter().map(|row| row.contact).collect();
        let none = BTreeSet::new();
        let shown = self.brevo.as_ref().map_or(&none, |brevo| &brevo.contacts);
        let mut links = company::links(&self.wanted, shown, &ours);
        for row in self.linked.iter().filter(|row| row.does_not_stick()) {
            links.link.remove(&row.contact);
        }
        // Taken off is whom no request of ours can link any more: else nobody could tell later whether that had landed, or
        // somebody has linked them again.
        for (contact, _) in self.may_be_linked_late() {
            links.unlink.remove(&contact);
        }
        links
    }

    /// Whom a request of ours may still link, and until when.
    fn may_be_linked_late(&self) -> impl Iterator<Item = (BrevoContactId, DateTime<Utc>)> {
        let now = self.now;
        self.linked.iter().filter_map(move |row| Some((row.contact, row.sent_until.filter(|until| *until > now)?)))
    }

    /// When somebody can be taken off who is not to be there.
    fn taken_off_at(&self) -> Option<DateTime<Utc>> {
        let shown = self.brevo.as_ref().filter(|_| self.goes_to_brevo()).map(|brevo| &brevo.contacts)?;
        let leaves = |contact: &BrevoContactId| shown.contains(contact) && !self.wanted.contains(contact);
        self.may_be_linked_late().filter(|(contact, _)| leaves(contact)).map(|(_, until)| until).min()
    }

    /// Contacts that were sent, and that no read shows.
    fn unstuck(&self) -> usize {
        let shown = self.brevo.as_ref().map(|brevo| &brevo.contacts);
        let missing = |contact| shown.is_some_and(|shown| !shown.contains(contact));
        let rows = self.linked.iter().filter(|row| row.does_not_stick());
        rows.filter(|row| self.wanted.contains(&row.contact) && missing(&row.contact)).count()
    }

    /// As a new company; `None`: it has no name.
    pub(super) fn to_make(&self, plan: &PersonPlan) -> Option<NewCompany> {
        let set = plan.change.attributes.iter().filter_map(|(name, value)| Some((name.clone(), value.clone()?)));
        let attributes: Fields = set.collect();
        if !self.goes_to_brevo() {
            return None;
        }
        // The others are linked after it.
        let contacts = || self.wanted.iter().copied().take(CONTACTS_A_CALL).collect();
        attributes.contains_key(BrevoCompany::NAME).then(|| NewCompany { attributes, contacts: contacts() })
    }

    /// What an import can carry of what is to be changed; `None`: nothing, or not all of it.
    pub(super) fn to_import(&self, plan: &PersonPlan) -> Option<NewCompany> {
        self.brevo.as_ref()?;
        let mut attributes = Fields::new();
        for (name, value) in &plan.change.attributes {
            let value = value.clone().filter(|value| *value != Value::Boolean(false))?;
            attributes.insert(name.clone(), value);
        }
        let links = self.links();
        let something = !attributes.is_empty() || !links.link.is_empty();
        (something && links.unlink.is_empty()).then_some(NewCompany { attributes, contacts: links.link })
    }

    /// The next request; `None`: nothing is to be written.
    fn request(&self, plan: &PersonPlan) -> Option<Request> {
        let Some(id) = self.firm.brevo.clone() else { return self.to_make(plan).map(Request::Make) };
        // Without its view nothing can be compared: the next read shows it.
        self.brevo.as_ref()?;
        let mut links = self.links();
        links.link = links.link.into_iter().take(CONTACTS_A_CALL).collect();
        links.unlink = links.unlink.into_iter().take(CONTACTS_A_CALL).collect();
        let some = !links.link.is_empty() || !links.unlink.is_empty();
        let mut parts = [
            (!plan.change.attributes.is_empty()).then(|| Request::Update(id.clone(), plan.change.attributes.clone())),
            some.then_some(Request::Link(id, links)),
            (!plan.intercom.is_empty()).then(|| Request::Back(plan.intercom.clone())),
        ];
        // What was refused is not to keep the other parts from being written: the next comes first then.
        parts.rotate_left(self.firm.tries as usize % 3);
        parts.into_iter().flatten().next()
    }
}

impl Connection {
    pub(super) async fn take_turn(&self, id: i64, kept: &mut Kept) -> Result<Went, EngineError> {
        let mut fresh: BTreeSet<SideName> = BTreeSet::new();
        let leaving = loop {
            let Some((_, ready)) = self.ready_firms() else { return Ok(Went::Done) };
            let (ready_now, now) = (ready.clone(), self.now());
            let planned = self.store.write(move |tx| plan_turn(tx, id, &ready_now, now)).await?;
            let Some(leaving) = planned else { return Ok(Went::Done) };
            let side = leaving.request.side();
            if side == SideName::Brevo && !self.may_ask_about_companies() {
                return Ok(Went::NoBudget);
            }
            // Neither vendor has compare-and-set: what may be somebody's edit is looked at just before it is replaced.
            let looks = match &leaving.request {
                Request::Update(..) => ready.two_way,
                Request::Back(_) => true,
                Request::Make(_) | Request::Link(..) => false,
            };
            if !looks || fresh.contains(&side) {
                break leaving;
            }
            if !self.look_at(&leaving.gathered.firm, side).await? {
                return Ok(Went::Done);
            }
            fresh.insert(side);
        };
        let (until, before) = (self.late_landing(), leaving);
        // Intent before write.
        let leaving = self
            .store
            .write(move |tx| {
                put_intent(tx, &before, until)?;
                Ok(before)
            })
            .await?;
        self.doors.crash.reach("after_firm_intent");
        let began = self.now();
        let firm = &leaving.gathered.firm;
        let answer = match &leaving.request {
            Request::Make(new) => self.brevo.write(&Write::CreateCompany(new.clone()), Priority::Live).await,
            Request::Update(id, change) => {
                self.brevo.write(&Write::UpdateCompany(id.clone(), change.clone()), Priority::Live).await
            }
            Request::Link(id, links) => {
                let write = Write::LinkCompany(id.clone(), links.link.clone(), links.unlink.clone());
                self.brevo.write(&write, Priority::Live).await
            }
            Request::Back(change) => {
                let write = Write::UpdateIntercomCompany(firm.intercom.clone(), change.clone());
                self.intercom.write(&write, Priority::Live).await
            }
        };
        self.doors.crash.reach("after_firm_write");
        self.record_turn(leaving, answer, began, kept).await
    }

    /// Reads a company by id, on this side. `false`: it is gone.
    async fn look_at(&self, firm: &Firm, side: SideName) -> Result<bool, EngineError> {
        let read_began = self.now();
        let (found, gone) = match (side, &firm.brevo) {
            (SideName::Brevo, Some(id)) => {
                (self.brevo.fetch_brevo_company(id, Priority::Live).await?, Observation::BrevoCompanyGone(id.clone()))
            }
            (SideName::Brevo, None) => return Ok(true),
            (SideName::Intercom, _) => (
                self.intercom.fetch_company(&firm.intercom, Priority::Live).await?,
                Observation::CompanyGone(firm.intercom.clone()),
            ),
        };
        let source = self.source(0, true, read_began, Dirty::Live)?;
        let there = matches!(found, Fetched::Found(..));
        self.store
            .write(move |tx| match &found {
                Fetched::Found(observation, _) => source.apply(tx, observation),
                Fetched::Gone(_) => source.apply(tx, &gone),
            })
            .await?;
        Ok(there)
    }

    /// Reads what writes of unknown outcome have left behind.
    pub(super) async fn verify_firms(&self) -> Result<(), EngineError> {
        let mut in_a_row = 0;
        loop {
            let now = self.now();
            let some = self.store.read(move |tx| tx.firms_to_verify(now, super::SOME)).await?;
            if some.is_empty() {
                return Ok(());
            }
            for firm in some {
                self.go_on()?;
                let Some(side) = firm.unanswered else { continue };
                if side == SideName::Brevo && !self.may_ask_about_companies() {
                    return Ok(());
                }
                if let Err(error) = self.look_at(&firm, side).await {
                    let later = |firm, at| Firm { verify_after: Some(at), ..firm };
                    self.pass_over(&firm, error, &mut in_a_row, later).await?;
                    continue;
                }
                in_a_row = 0;
                // Whatever it showed, it is not asked again for the same write.
                self.store
                    .write(move |tx| {
                        let Some(row) = tx.firm(firm.id)?.filter(|row| row.unanswered == Some(side)) else {
                            return Ok(());
                        };
                        tx.put_firm(&Firm {
                            unanswered: None,
                            watched: None,
                            verify_after: None,
                            due: Some(now),
                            ..row
                        })
                    })
                    .await?;
            }
        }
    }

    /// Reads those that somebody has edited in Intercom while a write of ours could still land, once it cannot.
    pub(super) async fn look_at_edited(&self) -> Result<(), EngineError> {
        let Some((_, ready)) = self.ready_firms() else { return Ok(()) };
        let (now, mut in_a_row) = (self.now(), 0);
        let edited = self.store.read(move |tx| {
            let mut edited = Vec::new();
            for firm in tx.firms_to_look_at_again(now, super::SOME)? {
                let Some(gathered) = gather(tx, firm, &ready, now)? else { continue };
                if company::is_edited(&gathered.flights, &gathered.company, &ready.mapping) {
                    edited.push(gathered.firm);
                }
            }
            Ok(edited)
        });
        for firm in edited.await? {
            self.go_on()?;
            if let Err(error) = self.look_at(&firm, SideName::Intercom).await {
                self.pass_over(&firm, error, &mut in_a_row, |firm, at| Firm { due: Some(at), ..firm }).await?;
                continue;
            }
            in_a_row = 0;
        }
        Ok(())
    }

    async fn record_turn(
        &self,
        leaving: Leaving,
        answer: Result<Answer, Box<SideError>>,
        began: DateTime<Utc>,
        kept: &mut Kept,
    ) -> Result<Went, EngineError> {
        let (now, until) = (self.now(), self.late_landing());
        let source = self.source(0, false, began, Dirty::Live)?;
        let error = answer.as_ref().err().cloned();
        match (&leaving.request, &error) {
            (_, Some(error)) if is_put_off(error) => {}
            (_, Some(_)) => kept.failed += 1,
            (Request::Make(_), None) => kept.made += 1,
            (Request::Update(..), None) => kept.updated += 1,
            (Request::Link(..), None) => kept.linked += 1,
            (Request::Back(_), None) => kept.written_back += 1,
        }
        let company_may_be_gone = error.as_ref().is_some_and(|error| {
            matches!(error.kind, ErrorKind::NotFound | ErrorKind::Merged { .. })
                // Of a company that is not there, link-unlink says 400.
                || matches!((&error.kind, &leaving.request), (ErrorKind::Rejected { .. }, Request::Link(..)))
        });
        let (firm, side) = (leaving.gathered.firm.clone(), leaving.request.side());
        self.store
            .write(move |tx| match &answer {
                Ok(answer) => {
                    accepted(tx, &leaving, answer, source.ready.firms.as_ref(), began, until, now)?;
                    match answer {
                        Answer::BrevoCompany(shown, _) => {
                            source.apply(tx, &Observation::BrevoCompany(shown.clone())).map(drop)
                        }
                        Answer::IntercomCompany(shown, _) => {
                            source.apply(tx, &Observation::Company(shown.clone())).map(drop)
                        }
                        _ => Ok(()),
                    }
                }
                Err(error) => refused(tx, &leaving, error, source.ready.firms.as_ref(), until, now),
            })
            .await?;
        let Some(error) = error else { return Ok(Went::On) };
        if company_may_be_gone {
            self.look_at(&firm, side).await?;
            return Ok(Went::Done);
        }
        match error.kind {
            ErrorKind::Auth(_) => Err(EngineError::Side(error)),
            ErrorKind::Throttled if side == SideName::Brevo => Ok(Went::NoBudget),
            _ => Ok(Went::Done),
        }
    }

    /// Companies that a read of what has changed did not show have not changed: what is known of them is fresh.
    pub(super) async fn settle_unshown_firms(&self, read_began: DateTime<Utc>) -> Result<(), EngineError> {
        let mut after = 0;
        loop {
            let source = self.source(0, false, read_began, Dirty::Live)?;
            let from = after;
            let last = self
                .store
                .write(move |tx| {
                    let some = tx.firms_to_settle(read_began, from, super::SOME)?;
                    let last = some.last().map(|firm| firm.id);
                    for firm in some {
                        let shown = firm.brevo.as_ref().map(|id| tx.brevo_company(id)).transpose()?.flatten();
                        // Made by us and never shown yet: a read that shows it settles it.
                        if let Some(shown) = shown.filter(|shown| shown.modified_at.is_some()) {
                            super::shown::settle_brevo(&source, tx, firm, &shown)?;
                        }
                    }
                    Ok(last)
                })
                .await?;
            let Some(last) = last else { return Ok(()) };
            after = last;
        }
    }
}

/// It was not done, and can be once the vendor lets us.
fn is_put_off(error: &SideError) -> bool {
    matches!(error.kind, ErrorKind::Throttled | ErrorKind::Unavailable | ErrorKind::LostCursor | ErrorKind::Busy)
}

/// The last of the companies that were looked at, and those for which something is to be written.
pub(super) fn due(tx: &Tx<'_>, after: i64, ready: &ReadyFirms, now: DateTime<Utc>) -> Stored<(Option<i64>, Vec<i64>)> {
    let some = tx.firms_due(now, after, super::SOME)?;
    let last = some.last().map(|firm| firm.id);
    let mut due = Vec::new();
    for firm in some {
        if plan_turn(tx, firm.id, ready, now)?.is_some() {
            due.push(firm.id);
        }
    }
    Ok((last, due))
}

/// What would be written for the next of them.
pub(super) fn rehearse(
    tx: &Tx<'_>,
    after: i64,
    ready: &ReadyFirms,
    now: DateTime<Utc>,
) -> Stored<(Option<i64>, Rehearsal)> {
    let some = tx.firms_due(now, after, super::SOME)?;
    let last = some.last().map(|firm| firm.id);
    let mut would = Rehearsal::default();
    for firm in some {
        let Some(gathered) = gather(tx, firm, ready, now)? else { continue };
        let plan = gathered.plan(ready);
        if gathered.firm.brevo.is_none() {
            would.make += u64::from(gathered.to_make(&plan).is_some());
            continue;
        }
        let links = gathered.links();
        would.update += u64::from(!plan.change.attributes.is_empty());
        would.link += u64::from(!links.link.is_empty() || !links.unlink.is_empty());
        would.update_in_intercom += u64::from(!plan.intercom.is_empty());
    }
    Ok((last, would))
}

/// What is to be written next. `None`: nothing, which is noted.
fn plan_turn(tx: &Tx<'_>, id: i64, ready: &ReadyFirms, now: DateTime<Utc>) -> Stored<Option<Leaving>> {
    let Some(firm) = tx.firm(id)? else { return Ok(None) };
    let waits = firm.due.is_none_or(|due| due > now);
    if waits || firm.gone.is_some() || firm.imported || firm.making.is_some() || firm.unanswered.is_some() {
        return Ok(None);
    }
    let Some(gathered) = gather(tx, firm.clone(), ready, now)? else {
        tx.put_firm(&Firm { due: None, ..firm })?;
        return Ok(None);
    };
    let plan = gathered.plan(ready);
    if let Some(request) = gathered.request(&plan) {
        // What both sides show already is agreed on, however long what is to be written waits for the hour's budget: else who
        // edits another field meanwhile would meet a conflict.
        let mut agreed = gathered.base.clone();
        let others = plan.base.fields.iter().filter(|(rule, _)| !plan.causes.contains_key(*rule));
        agreed.fields.extend(others.map(|(rule, field)| (rule.clone(), field.clone())));
        let met = person::as_met(&gathered.flights, &plan);
        if gathered.firm.brevo.is_some() && (agreed != gathered.base || met.is_some()) {
            let watched = met.map_or_else(|| Ok(firm.watched.clone()), |met| pack_flights(tx, &met))?;
            tx.put_firm(&Firm { base: Some(pack_base(tx, &agreed)?), watched, ..firm })?;
            return plan_turn(tx, id, ready, now);
        }
        return Ok(Some(Leaving { gathered, plan, request }));
    }
    rest(tx, gathered, &plan, ready, now)?;
    Ok(None)
}

/// Nothing is to be written: what is agreed on is remembered, and what cannot be written is listed.
pub(super) fn rest(
    tx: &Tx<'_>,
    gathered: Gathered,
    plan: &PersonPlan,
    ready: &ReadyFirms,
    now: DateTime<Utc>,
) -> Stored<()> {
    let subject = subject_of(&gathered.firm.intercom);
    let mut listed: Vec<&str> = gathered.firm.quarantined.keys().map(String::as_str).collect();
    listed.extend(plan.base.fields.iter().filter(|(_, field)| field.is_refused()).map(|(rule, _)| rule.as_str()));
    for (rule, problem) in &plan.problems {
        tx.put_failure(&NewFailure::left_out(None, &subject, rule, &problem.message), now)?;
        listed.push(rule);
    }
    let nameless = gathered.goes_to_brevo() && gathered.firm.brevo.is_none() && gathered.to_make(plan).is_none();
    if nameless {
        let words = "the company has no name in Intercom, and Brevo takes none without; it is made once it has one";
        tx.put_failure(&NewFailure::left_out(None, &subject, "", words), now)?;
        listed.push("");
    }
    let unstuck = gathered.unstuck();
    if unstuck > 0 {
        let words = format!(
            "Brevo accepted to link {unstuck} contacts, and shows none of them; the next full read tries again"
        );
        tx.put_failure(&NewFailure::left_out(None, &subject, "contacts", &words), now)?;
        listed.push("contacts");
    }
    let ours = gathered.brevo.as_ref().map(BrevoCompany::intercom);
    if gathered.firm.ours_sent && ours.is_some_and(|ours| ours.as_ref() != Some(&gathered.firm.intercom)) {
        let words = "Brevo accepted Intercom's id, and does not show it; the next full read tries again";
        tx.put_failure(&NewFailure::left_out(None, &subject, BrevoCompany::OURS, words), now)?;
        listed.push(BrevoCompany::OURS);
    }
    tx.clear_failures_of(&subject, &listed)?;
    for contact in gathered.links().agreed {
        if !gathered.linked.iter().any(|row| row.contact == contact && row.off_until.is_none()) {
            tx.put_linked_contact(gathered.firm.id, contact, None)?;
        }
    }
    // Who is not to be there and is not: unless a late request links them once more, they are nobody's business.
    let shown = gathered.brevo.as_ref().map(|brevo| &brevo.contacts);
    for row in gathered.linked.iter().filter(|row| row.off_until.is_none()) {
        if !gathered.wanted.contains(&row.contact) && shown.is_some_and(|shown| !shown.contains(&row.contact)) {
            let off_until = Some(now + TimeDelta::from_std(LATE_LANDING).unwrap_or_default());
            tx.put_linked_contact(gathered.firm.id, row.contact, off_until)?;
        }
    }
    // Of companies without people Intercom shows nothing by itself: what was edited while a write of ours could still land is
    // read once it cannot.
    let edited = company::is_edited(&gathered.flights, &gathered.company, &ready.mapping);
    let edited = gathered.firm.verify_after.filter(|_| edited).map(|at| at.max(now + LATER));
    let due = edited.into_iter().chain(gathered.taken_off_at()).min();
    let mut firm = Firm { due, sweep: false, tries: 0, ..gathered.firm };
    if let Some(met) = person::as_met(&gathered.flights, plan) {
        firm.watched = pack_flights(tx, &met)?;
    }
    if plan.base == gathered.base || firm.brevo.is_none() {
        return tx.put_firm(&firm);
    }
    tx.put_firm(&Firm { base: Some(pack_base(tx, &plan.base)?), ..firm })
}

fn put_intent(tx: &Tx<'_>, leaving: &Leaving, until: DateTime<Utc>) -> Stored<()> {
    let firm = leaving.gathered.firm.clone();
    match &leaving.request {
        Request::Make(new) => intend_to_make(tx, firm, &leaving.plan, new, Some(until), until),
        Request::Update(_, change) => {
            let ours_sent = firm.ours_sent || change.contains_key(BrevoCompany::OURS);
            let plan = leaving.plan.clone().without_intercom(&leaving.gathered.base, &leaving.gathered.flights);
            let watched = pack_flights(tx, &plan.flights)?;
            // Nothing but our own attribute: then there is nothing to be judged.
            let unanswered = watched.is_some().then_some(SideName::Brevo);
            tx.put_firm(&Firm { watched, unanswered, verify_after: Some(until), ours_sent, ..firm })
        }
        Request::Link(_, links) => {
            for contact in &links.link {
                tx.sends_linked_contact(firm.id, *contact, until)?;
            }
            for contact in &links.unlink {
                tx.put_linked_contact(firm.id, *contact, Some(until))?;
            }
            Ok(())
        }
        Request::Back(_) => {
            let watched = pack_flights(tx, &leaving.plan.flights)?;
            tx.put_firm(&Firm { watched, unanswered: Some(SideName::Intercom), verify_after: Some(until), ..firm })
        }
    }
}

/// A request that makes it is about to leave: alone (it may land until then), or in an import.
pub(super) fn intend_to_make(
    tx: &Tx<'_>,
    firm: Firm,
    plan: &PersonPlan,
    new: &NewCompany,
    making: Option<DateTime<Utc>>,
    until: DateTime<Utc>,
) -> Stored<()> {
    for contact in &new.contacts {
        tx.sends_linked_contact(firm.id, *contact, until)?;
    }
    // Nothing is agreed on yet: what lands without an answer may lack fields, and that they lack is nobody's edit.
    let watched = pack_flights(tx, &plan.flights)?;
    tx.put_firm(&Firm {
        making,
        imported: making.is_none(),
        watched,
        unanswered: Some(SideName::Brevo),
        verify_after: Some(until),
        ours_sent: true,
        ..firm
    })
}

fn accepted(
    tx: &Tx<'_>,
    leaving: &Leaving,
    answer: &Answer,
    ready: Option<&ReadyFirms>,
    began: DateTime<Utc>,
    until: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Stored<()> {
    let Leaving { gathered, plan, request } = leaving;
    let Some(firm) = tx.firm(gathered.firm.id)? else { return Ok(()) };
    // What came meanwhile is for the next look.
    let firm = Firm { due: Some(now), tries: 0, verify_after: Some(until), ..firm };
    let brevo_part = || plan.clone().without_intercom(&gathered.base, &gathered.flights);
    let mut causes = plan.causes.clone();
    match request {
        Request::Make(new) => {
            let Answer::CompanyCreated(id) = answer else { return Ok(()) };
            let shown = BrevoCompany {
                id: id.clone(),
                modified_at: None,
                contacts: new.contacts.clone(),
                attributes: new.attributes.clone(),
            };
            if tx.brevo_company(id)?.is_none() {
                tx.put_brevo_company(&shown)?;
            }
            for contact in &new.contacts {
                // It is never sent again after a try without an answer.
                tx.linked_contact_may_land(firm.id, *contact, now)?;
            }
            let plan = brevo_part();
            tx.put_firm(&Firm {
                brevo: Some(id.clone()),
                making: None,
                unanswered: None,
                base: Some(pack_base(tx, &plan.base)?),
                ..firm
            })?;
        }
        Request::Update(id, change) => {
            let plan = brevo_part();
            if let Some(mut known) = tx.brevo_company(id)?.filter(|_| *answer == Answer::Done) {
                for (name, value) in change {
                    match value {
                        Some(value) => drop(known.attributes.insert(name.clone(), value.clone())),
                        None => drop(known.attributes.remove(name)),
                    }
                }
                tx.put_brevo_company(&known)?;
            }
            put_conflicts(tx, &firm, plan.lost_on(SideName::Brevo), now)?;
            let flights = plan.flights.clone().with_losses_logged();
            // What it shows in its answer it did not refuse: whoever goes back to the value before has edited it.
            let flights = match (answer, ready) {
                (Answer::BrevoCompany(shown, _), Some(ready)) => {
                    person::seen_in_brevos_answer(&flights, &shown.attributes, &ready.mapping)
                }
                _ => flights,
            };
            let watched = pack_flights(tx, &flights)?;
            tx.put_firm(&Firm { unanswered: None, base: Some(pack_base(tx, &plan.base)?), watched, ..firm })?;
        }
        Request::Link(id, links) => {
            if let Some(mut known) = tx.brevo_company(id)? {
                known.contacts.extend(&links.link);
                known.contacts.retain(|contact| !links.unlink.contains(contact));
                tx.put_brevo_company(&known)?;
            }
            for contact in &links.link {
                tx.linked_contact_may_land(firm.id, *contact, until)?;
            }
            // Whoever is there again after this was linked by somebody, unless a request of ours can still land.
            let landed = |row: &&LinkedContact| row.sent_until.is_none_or(|until| until <= began);
            for row in gathered.linked.iter().filter(|row| links.unlink.contains(&row.contact)).filter(landed) {
                tx.drop_linked_contact(firm.id, row.contact)?;
            }
            for (many, what) in [(&links.link, "linked"), (&links.unlink, "taken off")] {
                if !many.is_empty() {
                    causes.insert(format!("contacts {what}: {}", many.len()), "who belongs to it in Intercom");
                }
            }
            tx.put_firm(&Firm { verify_after: gathered.firm.verify_after, ..firm })?;
        }
        Request::Back(_) => {
            put_conflicts(tx, &firm, plan.lost_on(SideName::Intercom), now)?;
            let flights = plan.flights.clone().with_losses_logged();
            let flights = match (answer, ready) {
                (Answer::IntercomCompany(shown, _), Some(ready)) => {
                    person::seen_in_answer(&flights, &plan.back, &company::record(shown), &ready.mapping)
                }
                _ => flights,
            };
            let watched = pack_flights(tx, &flights)?;
            let base = pack_base(tx, &plan.base_with_intercom(&gathered.base))?;
            tx.put_firm(&Firm { unanswered: None, base: Some(base), watched, ..firm })?;
        }
    }
    let fields: BTreeMap<String, String> = causes
        .iter()
        .filter(|(rule, _)| {
            matches!(request, Request::Link(..))
                || (request.side() == SideName::Intercom) == plan.back.rules.contains(*rule)
        })
        .map(|(rule, cause)| (rule.clone(), (*cause).to_owned()))
        .collect();
    let subject = subject_of(&gathered.firm.intercom);
    for rule in fields.keys().map(String::as_str).chain([""]) {
        tx.clear_failure(&subject, rule)?;
    }
    let (what, request) = match request {
        Request::Make(_) => (format!("{subject} made in Brevo"), crate::brevo::company_request_for(None)),
        Request::Update(id, _) => {
            (format!("update of {subject} in Brevo"), crate::brevo::company_request_for(Some(id)))
        }
        Request::Link(id, _) => {
            (format!("contacts of {subject} in Brevo"), format!("PATCH /companies/link-unlink/{id}"))
        }
        Request::Back(_) => {
            (format!("update of {subject} in Intercom"), crate::intercom::company_request_for(&gathered.firm.intercom))
        }
    };
    tx.put_change(&Change {
        link: None,
        at: now,
        what,
        fields,
        answer: "accepted".to_owned(),
        import: None,
        request: Some(request),
    })
}

fn refused(
    tx: &Tx<'_>,
    leaving: &Leaving,
    error: &SideError,
    ready: Option<&ReadyFirms>,
    until: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Stored<()> {
    let Some(row) = tx.firm(leaving.gathered.firm.id)? else { return Ok(()) };
    let linked = match &leaving.request {
        Request::Make(new) => Some(&new.contacts),
        Request::Link(_, links) => Some(&links.link),
        Request::Update(..) | Request::Back(_) => None,
    };
    let refusal = matches!(
        error.kind,
        ErrorKind::Auth(_)
            | ErrorKind::NotFound
            | ErrorKind::Merged { .. }
            | ErrorKind::Rejected { .. }
            | ErrorKind::Conflict { .. }
            | ErrorKind::Unsupported
    );
    let sure = (refusal || is_put_off(error)) && !error.may_have_landed();
    for contact in linked.into_iter().flatten() {
        // What was not accepted says nothing about whether it sticks.
        tx.linked_contact_was_not_taken(row.id, *contact, (!sure).then_some(until))?;
    }
    if !sure {
        // It may have been done, or may still be (also where an earlier try was not answered, and this one is refused): a
        // look tells, once it cannot land any more.
        let making = row.making.map(|_| until);
        // Of contacts that were to be linked nothing else counts how often: ever more rarely.
        let tries = row.tries + u32::from(matches!(leaving.request, Request::Link(..)));
        let due = Some(now + LATER * i32::try_from(1_u32 << tries.saturating_sub(1).min(6)).unwrap_or(64));
        return tx.put_firm(&Firm { making, verify_after: Some(until), due, tries, ..row });
    }
    // As it was before the intent, but for what came meanwhile; who was to be linked and is not is found by the next
    // comparison.
    let intended = &leaving.gathered.firm;
    let before = match &leaving.request {
        Request::Link(..) => row,
        Request::Make(_) | Request::Update(..) | Request::Back(_) => Firm {
            making: intended.making,
            watched: intended.watched.clone(),
            unanswered: intended.unanswered,
            verify_after: intended.verify_after,
            ours_sent: intended.ours_sent && row.ours_sent,
            quarantined: intended.quarantined.clone(),
            ..row
        },
    };
    let subject = subject_of(&before.intercom);
    match &error.kind {
        _ if is_put_off(error) => {
            let wait = error.retry_after.and_then(|wait| TimeDelta::from_std(wait).ok()).unwrap_or(LATER);
            return tx.put_firm(&Firm { due: Some(now + wait.max(LATER)), ..before });
        }
        ErrorKind::Auth(_) => {
            tx.put_failure(&NewFailure::refused(None, &subject, "", error), now)?;
            return tx.put_firm(&Firm { due: Some(now + LATER * 5), ..before });
        }
        // A look by id tells whether it is gone. (Of contacts it may be one of them: that is a refusal like any.)
        ErrorKind::NotFound | ErrorKind::Merged { .. } if !matches!(leaving.request, Request::Link(..)) => {
            return tx.put_firm(&Firm { due: Some(now + LATER), ..before });
        }
        _ => {}
    }
    let tries = before.tries + 1;
    let mut quarantined = before.quarantined.clone();
    let side = leaving.request.side();
    if let Some(rule) = ready.and_then(|ready| at_fault(leaving, error, ready))
        && let Some(write) = leaving.plan.flights.field(side, &rule)
    {
        quarantined.insert(rule.clone(), person::quarantine_key(&write.sent));
        tx.put_failure(&NewFailure::refused(None, &subject, &rule, error), now)?;
    }
    if quarantined != before.quarantined {
        return tx.put_firm(&Firm { quarantined, due: Some(now), ..before });
    }
    let dead = tries >= MOST_TRIES;
    tx.put_failure(&NewFailure { dead, ..NewFailure::refused(None, &subject, "", error) }, now)?;
    let due = (!dead).then(|| now + LATER * i32::try_from(1_u32 << tries.min(6)).unwrap_or(64));
    tx.put_firm(&Firm { due, tries, ..before })
}

/// The one rule whose field a refusal is about, if it can be told.
fn at_fault(leaving: &Leaving, error: &SideError, ready: &ReadyFirms) -> Option<String> {
    let ErrorKind::Rejected { field } = &error.kind else { return None };
    let back = leaving.request.side() == SideName::Intercom;
    if !back && matches!(leaving.request, Request::Make(_) | Request::Update(..)) {
        // Brevo's own names of companies' attributes are lower-case: they are told from other words by the mapping alone.
        let words = |c: char| !(c.is_alphanumeric() || c == '_' || c == '-');
        let named = |target: &str| error.message.split(words).any(|word| word.eq_ignore_ascii_case(target));
        let rules = ready.mapping.rules.iter().filter(|rule| {
            let mut targets = rule.targets.iter().map(|target| target.attribute.as_str());
            targets.any(|target| target != BrevoCompany::NAME && named(target))
        });
        let mut keys = rules.map(|rule| rule.key.clone());
        if let (Some(key), None) = (keys.next(), keys.next()) {
            return Some(key);
        }
    }
    let field = field.as_ref()?;
    let own = |path: &str| path == field || path.strip_prefix("custom_attributes.") == Some(field);
    let rule = ready.mapping.rules.iter().find(|rule| {
        if back {
            own(rule.source.strip_prefix("company.").unwrap_or(&rule.source))
        } else {
            rule.targets.iter().any(|target| target.attribute.eq_ignore_ascii_case(field))
        }
    })?;
    // Without a name there is no company.
    let name = rule.targets.iter().any(|target| target.attribute == BrevoCompany::NAME);
    (!name || back).then(|| rule.key.clone())
}

/// Values that were replaced although nobody had agreed to it. Those of companies are kept under numbers below zero.
pub(super) fn put_conflicts<'a>(
    tx: &Tx<'_>,
    firm: &Firm,
    lost: impl IntoIterator<Item = &'a LostValue>,
    now: DateTime<Utc>,
) -> Stored<()> {
    observe::put_conflicts(tx, -firm.id, lost, None, now)
}
