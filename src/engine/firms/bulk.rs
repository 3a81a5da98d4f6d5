//! Many companies at once: the import that makes them, and the looks that tell what has been made.

use super::turn::{gather, intend_to_make, rest};
use super::{BY_IMPORT, SOME};
use crate::engine::imports::lands_by;
use crate::engine::{Connection, EngineError};
use crate::model::{Answer, ErrorKind, ImportState, NewCompany, Observation, Priority, ProcessId, Write};
use crate::store::firms::{CompanyImport, Firm};
use crate::store::links::Dirty;
use crate::store::listings::{Change, NewFailure};
use chrono::TimeDelta;
use std::collections::BTreeMap;

/// The most companies in one import.
const ROWS: usize = 5_000;
/// How often Brevo is asked about it.
const ASK: TimeDelta = TimeDelta::seconds(60);
/// An import that is not over by then is given up: what it made is read, and the rest looked up.
const LONGEST: TimeDelta = TimeDelta::hours(1);
/// Beyond so many, reading all of Brevo's companies is cheaper than asking for each.
const MOST_LOOKED_UP: usize = 20;
/// When an import that was refused as a whole is tried again.
const AFTER_REFUSAL: TimeDelta = TimeDelta::hours(1);
/// Under which subject it is listed.
const SUBJECT: &str = "import of companies";

impl Connection {
    /// Makes many companies by import. How many were sent.
    pub(super) async fn import_firms(&self, failed: &mut u64) -> Result<u64, EngineError> {
        let Some((_, ready)) = self.ready_firms() else { return Ok(0) };
        let now = self.now();
        let until = lands_by(now);
        let rows: Vec<NewCompany> = self
            .store
            .write(move |tx| {
                if tx.company_import()?.is_some() || tx.firms_to_make(now)? <= BY_IMPORT {
                    return Ok(Vec::new());
                }
                let (mut rows, mut after) = (Vec::new(), 0);
                while rows.len() < ROWS {
                    let some = tx.firms_due(now, after, SOME)?;
                    let Some(last) = some.last() else { break };
                    after = last.id;
                    for firm in some.into_iter().filter(|firm| firm.brevo.is_none()) {
                        let Some(gathered) = gather(tx, firm.clone())? else { continue };
                        let plan = gathered.plan(&ready);
                        match gathered.to_make(&plan) {
                            Some(new) => {
                                intend_to_make(tx, firm, &plan, &new, None, until)?;
                                rows.push(new);
                            }
                            None => rest(tx, gathered, &plan, now)?,
                        }
                    }
                }
                if !rows.is_empty() {
                    let import =
                        CompanyImport { process: None, sent_at: now, checked_at: None, landed_at: Some(until) };
                    tx.put_company_import(Some(&import))?;
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
                        for firm in tx.firms_in_import()? {
                            tx.put_firm(&Firm { unanswered: None, ..firm })?;
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
                Ok(count)
            }
            Err(error) => {
                *failed += 1;
                let now = self.now();
                let refused = matches!(error.kind, ErrorKind::Rejected { .. });
                let again = now + if refused { AFTER_REFUSAL } else { ASK };
                let listed = error.clone();
                self.store
                    .write(move |tx| {
                        if refused {
                            tx.put_failure(&NewFailure::refused(None, SUBJECT, "", &listed), now)?;
                        }
                        for firm in tx.firms_in_import()? {
                            tx.put_firm(&Firm { due: Some(again), ..as_before(firm) })?;
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
            if import.checked_at.is_some_and(|checked| now - checked < ASK) {
                return Ok(());
            }
            import.landed_at = self.has_ended(process, import.sent_at).await?.then_some(now);
            import.checked_at = Some(now);
            self.store.write(move |tx| tx.put_company_import(Some(&import))).await?;
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
        self.store
            .write(move |tx| {
                // A row that the read does not show is looked up before it is made again.
                for firm in tx.firms_in_import()? {
                    tx.put_firm(&Firm { imported: false, making: Some(now), ..firm })?;
                }
                tx.put_company_import(None)
            })
            .await?;
        Ok(())
    }

    async fn has_ended(&self, process: ProcessId, sent_at: chrono::DateTime<chrono::Utc>) -> Result<bool, EngineError> {
        let states = self.brevo.import_states(&[process]).await?;
        Ok(match states.get(&process) {
            Some(ImportState::Finished { .. }) => true,
            // "Completed" says nothing of the rows; and of one that is never over, what it made is read all the same.
            Some(ImportState::Running) | None => self.now() - sent_at > LONGEST,
        })
    }

    /// After a lost answer nothing is made again before a look by our attribute.
    pub(super) async fn look_up_firms(&self) -> Result<(), EngineError> {
        let now = self.now();
        let some = self.store.read(move |tx| tx.firms_to_look_up(now, MOST_LOOKED_UP + 1)).await?;
        if some.len() > MOST_LOOKED_UP {
            return self.look_at_all().await;
        }
        for firm in some {
            self.go_on()?;
            if !self.may_ask_about_companies() {
                return Ok(());
            }
            let read_began = self.now();
            let found = self.brevo.companies_of(&firm.intercom, Priority::Live).await?;
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

/// As it was before a request that made nothing.
fn as_before(firm: Firm) -> Firm {
    Firm { imported: false, making: None, base: None, watched: None, unanswered: None, verify_after: None, ..firm }
}

/// A look has not shown it: it may be made.
fn not_made(firm: Option<Firm>, put: impl FnOnce(&Firm) -> crate::store::Result<()>) -> crate::store::Result<()> {
    match firm.filter(|firm| firm.making.is_some()) {
        Some(firm) if firm.brevo.is_none() => put(&Firm { due: firm.making, ..as_before(firm) }),
        Some(firm) => put(&Firm { making: None, ..firm }),
        None => Ok(()),
    }
}
