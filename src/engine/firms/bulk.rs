//! Many companies at once: the import that makes them, and the looks that tell what has been made.

use super::shown::pack_flights;
use super::turn::{gather, intend_to_make, rest};
use super::{BY_IMPORT, ReadyFirms, SOME};
use crate::engine::{Connection, EngineError, LATE_LANDING};
use crate::model::{
    Answer, BrevoCompany, BrevoCompanyId, ErrorKind, ImportState, NewCompany, Observation, Priority, ProcessId,
    SideName, Write,
};
use crate::reconcile::person::PersonPlan;
use crate::store::firms::{CompanyImport, Firm};
use crate::store::links::Dirty;
use crate::store::listings::{Change, NewFailure};
use crate::store::{Result as Stored, Tx};
use chrono::{DateTime, TimeDelta, Utc};
use std::collections::BTreeMap;

/// The most companies in one import.
const ROWS: usize = 5_000;
/// How often Brevo is asked about it.
const ASK: TimeDelta = TimeDelta::seconds(60);
/// So long an import may land of which Brevo says nothing: its answer was lost, or its process is not listed. (It queues
/// behind others.) After that what it made is read, and the rest looked up.
const LONGEST: TimeDelta = TimeDelta::hours(1);
/// How often Brevo is asked about one that takes longer.
const ASK_LATE: TimeDelta = TimeDelta::minutes(15);
/// Beyond so many, reading all of Brevo's companies is cheaper than asking for each.
const MOST_LOOKED_UP: usize = 20;
/// Under which subject it is listed.
const SUBJECT: &str = "import of companies";

impl Connection {
    /// Makes many companies by import, or changes many. How many were sent.
    pub(super) async fn import_firms(&self, failed: &mut u64) -> Result<u64, EngineError> {
        let Some((_, ready)) = self.ready_firms() else { return Ok(0) };
        let now = self.now();
        let until = now + LONGEST;
        let rows: Vec<(Option<BrevoCompanyId>, NewCompany)> = self
            .store
            .write(move |tx| {
                if tx.company_import()?.is_some() {
                    return Ok(Vec::new());
                }
                let (to_make, others) = tx.firms_waiting(now)?;
                if to_make <= BY_IMPORT {
                    if others <= BY_IMPORT {
                        return Ok(Vec::new());
                    }
                    let rows = changes(tx, &ready, now)?;
                    if rows.len() as u64 <= BY_IMPORT {
                        return Ok(Vec::new());
                    }
                    tx.put_company_import(Some(&CompanyImport::leaving(now, until)))?;
                    return intend_to_change(tx, rows, until);
                }
                let (mut rows, mut after) = (Vec::new(), 0);
                while rows.len() < ROWS {
                    let some = tx.firms_due(now, after, SOME)?;
                    let Some(last) = some.last() else { break };
                    after = last.id;
                    for firm in some.into_iter().filter(|firm| firm.brevo.is_none() && firm.tries == 0) {
                        let Some(gathered) = gather(tx, firm.clone(), &ready, now)? else { continue };
                        let plan = gathered.plan(&ready);
                        match gathered.to_make(&plan) {
                            Some(new) => {
                                intend_to_make(tx, firm, &plan, &new, None, until)?;
                                rows.push((None, new));
                            }
                            None => rest(tx, gathered, &plan, &ready, now)?,
                        }
                    }
                }
                if !rows.is_empty() {
                    tx.put_company_import(Some(&CompanyImport::leaving(now, until)))?;
                }
                Ok(rows)
            })
            .await?;
        if rows.is_empty() {
            return Ok(0);
        }
        let count = rows.len() as u64;
        self.doors.crash.reach("after_firms_import_intent");
        let answer = self.brevo.write(&Write::ImportCompanies(rows), Priority::Live).await;
        self.doors.crash.reach("after_firms_import");
        match answer {
            Ok(answer) => {
                let Answer::ImportStarted(process, _) = answer else { return Ok(count) };
                tracing::info!(companies = count, "companies sent by import");
                let now = self.now();
                self.store
                    .write(move |tx| {
                        tx.clear_failures_of(SUBJECT, &[])?;
                        // Which of them have landed is told by a read after its end, and by nothing else; of those that
                        // it makes, by the one that shows them first. None counts as accepted: rows may lose fields.
                        for firm in tx.firms_in_import()? {
                            tx.put_firm(&Firm { verify_after: Some(now + LONGEST * 2), ..firm })?;
                        }
                        tx.put_change(&Change {
                            link: None,
                            at: now,
                            what: format!("import of {count} companies to Brevo"),
                            fields: BTreeMap::new(),
                            answer: format!("accepted as process {process}"),
                            import: None,
                            request: Some("POST /companies/import".to_owned()),
                        })?;
                        let import = CompanyImport {
                            process: Some(process),
                            sent_at: now,
                            checked_at: Some(now),
                            landed_at: None,
                        };
                        tx.put_company_import(Some(&import))
                    })
                    .await?;
                Ok(count)
            }
            // It may have been taken: what it made is read once it cannot land any more.
            Err(error) if matches!(error.kind, ErrorKind::Ambiguous | ErrorKind::Malformed) => {
                tracing::warn!(
                    "the import of companies was not answered, what it made is read later: {}",
                    error.for_log()
                );
                // Whatever it waited for before, it has left by now.
                let now = self.now();
                self.store.write(move |tx| reopen_import(tx, now)).await?;
                Ok(count)
            }
            Err(error) => {
                *failed += 1;
                let now = self.now();
                let refused = matches!(error.kind, ErrorKind::Rejected { .. });
                let (again, landed_by) = (now + ASK, self.late_landing());
                let listed = error.clone();
                self.store
                    .write(move |tx| {
                        if refused {
                            tx.put_failure(&NewFailure::refused(None, SUBJECT, "", &listed), now)?;
                        }
                        for firm in tx.firms_in_import()? {
                            // What was not accepted says nothing about whether it sticks, nor can it land any more.
                            for row in tx.linked_contacts(firm.id)? {
                                if row.sent_until.is_some_and(|until| until > landed_by) {
                                    tx.linked_contact_was_not_taken(firm.id, row.contact, Some(landed_by))?;
                                }
                            }
                            // One row may be at fault for all: they go alone.
                            let tries = firm.tries.max(u32::from(refused));
                            let due = Some(if refused { now } else { again });
                            tx.put_firm(&Firm { due, tries, ..as_before(firm) })?;
                        }
                        tx.put_company_import(None)
                    })
                    .await?;
                if refused { Ok(0) } else { Err(EngineError::Side(error)) }
            }
        }
    }

    /// Looks after the import that is not over, and reads what it made.
    pub(super) async fn watch_company_import(&self) -> Result<(), EngineError> {
        let Some(mut import) = self.store.read(|tx| tx.company_import()).await? else { return Ok(()) };
        if !self.may_ask_about_companies() {
            return Ok(());
        }
        let now = self.now();
        if let (Some(process), None) = (import.process, import.landed_at) {
            let late = now - import.sent_at > LONGEST;
            if import.checked_at.is_some_and(|checked| now - checked < if late { ASK_LATE } else { ASK }) {
                return Ok(());
            }
            import.checked_at = Some(now);
            let ended = match self.has_ended(process, import.sent_at).await {
                Ok(ended) => ended,
                Err(error) => {
                    self.store.write(move |tx| tx.put_company_import(Some(&import))).await?;
                    return Err(error);
                }
            };
            import.landed_at = ended.then_some(now);
            let landed_by = self.late_landing();
            self.store
                .write(move |tx| {
                    match import.landed_at {
                        None if late => {
                            let words = format!(
                                "process {process} has been queued or at work for more than an hour; its companies \
                                 are not made again before Brevo calls it over"
                            );
                            tx.put_failure(&NewFailure::left_out(None, SUBJECT, "", &words), now)?;
                        }
                        None => {}
                        Some(_) => tx.clear_failures_of(SUBJECT, &[])?,
                    }
                    if let Some(landed) = import.landed_at {
                        for firm in tx.firms_in_import()?.into_iter().filter(|firm| firm.brevo.is_some()) {
                            tx.linked_contacts_land_by(firm.id, landed_by)?;
                            tx.put_firm(&Firm { verify_after: Some(landed), ..firm })?;
                        }
                    }
                    tx.put_company_import(Some(&import))
                })
                .await?;
        }
        if import.landed_at.is_none_or(|landed| landed > now) {
            return Ok(());
        }
        // What the pages show is linked by our attribute.
        // Only a read that began once it had landed shows all that it made.
        let read = self.read_brevo_companies(false, &crate::engine::Silent).await?;
        if read.is_none() || read < import.landed_at {
            return Ok(());
        }
        // Its list may show what has landed only after a while: the look that counts comes later.
        let looked_up = import.landed_at.unwrap_or(now) + TimeDelta::from_std(LATE_LANDING).unwrap_or_default();
        self.store
            .write(move |tx| {
                // A row that the read does not show is looked up before it is made again.
                for firm in tx.firms_in_import()? {
                    let firm = match firm.brevo {
                        // What an import that was taken has passed over goes alone.
                        None => {
                            let tries = u32::from(import.process.is_some());
                            Firm { imported: false, making: Some(looked_up), tries, ..firm }
                        }
                        Some(_) => Firm { due: Some(now), tries: 1, ..as_before(firm) },
                    };
                    tx.put_firm(&firm)?;
                }
                tx.put_company_import(None)
            })
            .await?;
        Ok(())
    }

    async fn has_ended(&self, process: ProcessId, sent_at: DateTime<Utc>) -> Result<bool, EngineError> {
        let states = self.brevo.import_states(&[process]).await?;
        Ok(match states.get(&process) {
            Some(ImportState::Finished { .. }) => true,
            // It may still make all of them, however long it takes.
            Some(ImportState::Running) => false,
            None => self.now() - sent_at > LONGEST,
        })
    }

    /// After a lost answer nothing is made again before a look by our attribute.
    pub(super) async fn look_up_firms(&self) -> Result<(), EngineError> {
        let now = self.now();
        let some = self.store.read(move |tx| tx.firms_to_look_up(now, MOST_LOOKED_UP + 1)).await?;
        if some.len() > MOST_LOOKED_UP {
            return self.look_at_all().await;
        }
        let mut in_a_row = 0;
        for firm in some {
            self.go_on()?;
            if !self.may_ask_about_companies() {
                return Ok(());
            }
            let read_began = self.now();
            let found = match self.brevo.companies_of(&firm.intercom, Priority::Live).await {
                Ok(found) => found,
                // It does not filter by the attribute: then only a look at all of them tells.
                Err(error) if error.kind == ErrorKind::Malformed => return self.look_at_all().await,
                Err(error) => {
                    let later = |firm, at| Firm { making: Some(at), ..firm };
                    self.pass_over(&firm, error.into(), &mut in_a_row, later).await?;
                    continue;
                }
            };
            in_a_row = 0;
            let source = self.source(0, true, read_began, Dirty::Live)?;
            self.store
                .write(move |tx| {
                    for company in found {
                        source.apply(tx, &Observation::BrevoCompany(Box::new(company)))?;
                    }
                    not_made(tx.firm(firm.id)?, |firm| tx.put_firm(firm))
                })
                .await?;
        }
        Ok(())
    }

    /// The same for many: all of Brevo's companies are read.
    async fn look_at_all(&self) -> Result<(), EngineError> {
        let Some(began) = self.read_brevo_companies(true, &crate::engine::Silent).await? else { return Ok(()) };
        self.store
            .write(move |tx| {
                for firm in tx.firms_to_look_up(began, usize::MAX >> 1)? {
                    not_made(Some(firm), |firm| tx.put_firm(firm))?;
                }
                Ok(())
            })
            .await?;
        Ok(())
    }
}

/// An import whose answer is lost (or was, in a crash) was on its way at this time: so long it may land.
pub(in crate::engine) fn reopen_import(tx: &Tx<'_>, now: DateTime<Utc>) -> Stored<()> {
    let Some(import) = tx.company_import()?.filter(|import| import.process.is_none()) else { return Ok(()) };
    let until = now + LONGEST;
    for firm in tx.firms_in_import()? {
        tx.put_firm(&Firm { verify_after: Some(until), ..firm })?;
    }
    tx.put_company_import(Some(&CompanyImport { landed_at: Some(until), ..import }))
}

/// What an import can change, of what is to be changed: it can neither clear nor say no, and takes nobody off.
fn changes(tx: &Tx<'_>, ready: &ReadyFirms, now: DateTime<Utc>) -> Stored<Vec<(Firm, PersonPlan, NewCompany)>> {
    let (mut rows, mut after) = (Vec::new(), 0);
    while rows.len() < ROWS {
        let some = tx.firms_due(now, after, SOME)?;
        let Some(last) = some.last() else { break };
        after = last.id;
        // What is on its way already is watched by itself.
        let some = some.into_iter().filter(|firm| firm.brevo.is_some() && firm.tries == 0 && firm.watched.is_none());
        for firm in some {
            let Some(gathered) = gather(tx, firm, ready, now)? else { continue };
            let plan = gathered.plan(ready);
            // What travels both ways is read before it is written, lest somebody's edit be lost. Who belongs to it does not.
            // (And what is to be written to Intercom no import carries: it would count as on its way, and then as refused.)
            if ready.two_way && !(plan.change.attributes.is_empty() && plan.intercom.is_empty()) {
                continue;
            }
            if let Some(change) = gathered.to_import(&plan) {
                rows.push((gathered.firm, plan, change));
            }
        }
    }
    Ok(rows)
}

/// Intent before write.
fn intend_to_change(
    tx: &Tx<'_>,
    rows: Vec<(Firm, PersonPlan, NewCompany)>,
    until: DateTime<Utc>,
) -> Stored<Vec<(Option<BrevoCompanyId>, NewCompany)>> {
    let mut leaving = Vec::with_capacity(rows.len());
    for (firm, plan, change) in rows {
        for contact in &change.contacts {
            tx.sends_linked_contact(firm.id, *contact, until)?;
        }
        let watched = pack_flights(tx, &plan.flights)?;
        let (unanswered, verify_after) = (Some(SideName::Brevo), Some(until));
        let ours_sent = firm.ours_sent || change.attributes.contains_key(BrevoCompany::OURS);
        leaving.push((firm.brevo.clone(), change));
        tx.put_firm(&Firm { imported: true, ours_sent, watched, unanswered, verify_after, ..firm })?;
    }
    Ok(leaving)
}

/// As it was before a request that made nothing.
fn as_before(firm: Firm) -> Firm {
    // One that has not been made has nothing that was agreed on.
    let base = firm.base.clone().filter(|_| firm.brevo.is_some());
    Firm { imported: false, making: None, base, watched: None, unanswered: None, verify_after: None, ..firm }
}

/// A look has not shown it: it may be made.
fn not_made(firm: Option<Firm>, put: impl FnOnce(&Firm) -> Stored<()>) -> Stored<()> {
    match firm.filter(|firm| firm.making.is_some()) {
        Some(firm) if firm.brevo.is_none() => put(&Firm { due: firm.making, ..as_before(firm) }),
        Some(firm) => put(&Firm { making: None, ..firm }),
        None => Ok(()),
    }
}
