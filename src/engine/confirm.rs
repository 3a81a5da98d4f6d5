//! Reads of contacts by id, which decide. A record that a full read did not show is never a deletion: each is asked for
//! first, some a cycle, until all are.

use super::cycle::stops_everything;
use super::inbox::is_refusal;
use super::{Connection, EngineError};
use crate::model::{
    ContactKey, Email, ErrorKind, Fetched, Gone, IntercomCompanyId, Observation, Priority, Resource, Scope, SideName,
};
use crate::store::links::Dirty;
use crate::store::listings::NewFailure;
use chrono::{DateTime, Utc};
use futures_util::StreamExt as _;
use std::collections::BTreeSet;

/// Contacts asked for in one cycle: cycles are half a minute apart at most, and what else a cycle has to do must not wait
/// for thousands of reads. 5,000 deletions take a daemon a quarter of an hour.
const MOST: usize = 200;
/// Batches of these in a run that somebody started and that is not followed by another cycle.
const BATCHES_OF_A_RUN: usize = 10;
/// Reads under way at once; the governor sets the pace.
const AT_ONCE: usize = 8;

impl Connection {
    /// Asks for contacts that a full read did not show (or whose row cannot be read), a batch of them. How many that were.
    pub(super) async fn confirm_some(&self, whole_run: bool, priority: Priority) -> Result<u64, EngineError> {
        let mut asked = 0;
        for _ in 0..if whole_run { BATCHES_OF_A_RUN } else { 1 } {
            let keys = self.store.read(|tx| tx.to_ask_for(MOST)).await?;
            if keys.is_empty() {
                break;
            }
            let mut reads = futures_util::stream::iter(keys.into_iter().map(|key| self.confirm_or_note(key, priority)))
                .buffer_unordered(AT_ONCE);
            while let Some(done) = reads.next().await {
                match done {
                    Ok(()) => asked += 1,
                    Err(error) if matches!(&error, EngineError::Side(_)) && !stops_everything(&error) => {
                        tracing::warn!(
                            "contacts that a full read did not show cannot be asked for yet: {}",
                            error.for_log()
                        );
                        return Ok(asked);
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(asked)
    }

    /// One contact that cannot be read for good holds up nobody: it is listed, and the next full read asks again.
    async fn confirm_or_note(&self, key: ContactKey, priority: Priority) -> Result<(), EngineError> {
        let refusal = match self.confirm(key.clone(), priority).await {
            Ok(_) => None,
            Err(EngineError::Store(error)) => {
                self.spare::<()>(Err(error.into())).await?;
                None
            }
            Err(error) if !is_refusal(&error) => return Err(error),
            Err(EngineError::Side(error)) => Some(error),
            Err(error) => return Err(error),
        };
        let now = self.now();
        self.store
            .write(move |tx| {
                tx.was_asked_for(&key)?;
                let Some(error) = refusal else { return Ok(()) };
                let subject = match &key {
                    ContactKey::Brevo(id) => format!("Brevo contact {id}"),
                    ContactKey::Intercom(id) => format!("contact {id}"),
                    _ => return Ok(()),
                };
                tx.put_failure(&NewFailure::refused(None, &subject, "read", &error), now)
            })
            .await?;
        Ok(())
    }

    /// Reads one person on both sides, by address, and what their fields are made of: for a preview of somebody whom the
    /// state does not know.
    ///
    /// # Errors
    /// As [`Self::sync`].
    pub async fn read_one(&self, email: &Email) -> Result<(), EngineError> {
        const PRIORITY: Priority = Priority::Live;
        let ready = self.require_ready()?;
        if ready.uses_tags {
            self.sweep(SideName::Intercom, Resource::Tags, Scope::Full, PRIORITY, &super::Silent).await?;
        }
        let mut keys = vec![ContactKey::BrevoEmail(email.clone()), ContactKey::IntercomEmail(email.clone())];
        while let Some(key) = keys.pop() {
            let read_began = self.now();
            let Fetched::Found(shown, _) = self.side(key.side()).fetch(&key, PRIORITY).await? else { continue };
            let source = self.source(0, true, read_began, Dirty::Backfill)?;
            let mut companies: Vec<IntercomCompanyId> = Vec::new();
            if let Observation::IntercomContact(contact) = &*shown {
                keys.extend(contact.external_id.clone().map(ContactKey::BrevoExtId));
                companies.extend(contact.companies.items.iter().filter(|_| ready.uses_companies).cloned());
            }
            self.store.write(move |tx| source.apply(tx, &shown)).await?;
            for company in companies {
                self.fetch_company(&company, PRIORITY).await?;
            }
        }
        self.hydrate(PRIORITY, true).await?;
        self.place(Dirty::Backfill).await.map(drop)
    }

    /// Reads one contact by id and takes what comes for the truth.
    pub(super) async fn confirm(&self, key: ContactKey, priority: Priority) -> Result<bool, EngineError> {
        let read_began = self.now();
        let found = self.side(key.side()).fetch(&key, priority).await?;
        let survivor = self.unseen_survivor(&found, priority).await?;
        let source = self.source(0, true, read_began, Dirty::Live)?;
        Ok(self
            .store
            .write(move |tx| match (found, key) {
                (Fetched::Found(observation, _), key) => {
                    if let ContactKey::Intercom(id) = &key {
                        tx.forget_said_gone(id)?;
                    }
                    source.apply(tx, &observation)
                }
                (Fetched::Gone(how), ContactKey::Intercom(id)) => {
                    if let Some(survivor) = survivor {
                        source.apply(tx, &survivor)?;
                    }
                    source.apply(tx, &Observation::IntercomContactGone(id, how))
                }
                (Fetched::Gone(_), ContactKey::Brevo(id)) => source.apply(tx, &Observation::BrevoContactGone(id)),
                (Fetched::Gone(_), ContactKey::BrevoEmail(email)) => {
                    // Whoever had it in Brevo has another by now, or is gone: it is asked for by id which of them.
                    Ok(tx.brevo_contact_by_email(&email)?.is_some())
                }
                (Fetched::Gone(_), _) => Ok(false),
            })
            .await?)
    }

    /// Asks both sides for a person, right before something is written that cannot be taken back: by the ids that are known,
    /// and by address for whoever has come to it since on the side that is not `written`. `false`: more have it in Intercom
    /// than a search shows. A search that is refused says nothing: it is an error.
    pub(super) async fn ask_both(&self, id: i64, written: SideName, priority: Priority) -> Result<bool, EngineError> {
        let (ids, addresses) = self
            .store
            .read(move |tx| {
                let Some(link) = tx.link(id)? else { return Ok((Vec::new(), BTreeSet::new())) };
                let mut ids: Vec<ContactKey> = link.brevo_id.map(ContactKey::Brevo).into_iter().collect();
                ids.extend(tx.members(id)?.into_iter().map(|row| ContactKey::Intercom(row.contact.id)));
                let shown = link.brevo_id.map(|brevo| tx.brevo_contact(brevo)).transpose()?.flatten();
                let addresses: BTreeSet<Email> = link.email.into_iter().chain(shown.and_then(|it| it.email)).collect();
                Ok((ids, addresses))
            })
            .await?;
        let in_brevo = ids.iter().find(|key| matches!(key, ContactKey::Brevo(_))).cloned();
        for key in ids {
            self.confirm(key, priority).await?;
        }
        let mut all = true;
        for email in addresses {
            if written == SideName::Intercom {
                // That may have changed since it was asked for by id: the answers of the other side can take a minute.
                let news = self.confirm(ContactKey::BrevoEmail(email), priority).await?;
                if let Some(key) = in_brevo.clone().filter(|_| news) {
                    self.confirm(key, priority).await?;
                }
                continue;
            }
            let read_began = self.now();
            let (shown, whole) = self.intercom.find_all(&ContactKey::IntercomEmail(email), priority).await?;
            self.keep_found(shown, read_began).await?;
            all &= whole;
        }
        Ok(all)
    }

    /// Keeps whom a search has shown, each of them: that somebody else has the same address hides nobody. It lags behind: what
    /// it shows of somebody whom we know better counts for nothing.
    pub(super) async fn keep_found(
        &self,
        shown: Vec<Observation>,
        read_began: DateTime<Utc>,
    ) -> Result<(), EngineError> {
        if shown.is_empty() {
            return Ok(());
        }
        let source = self.source(0, false, read_began, Dirty::Live)?;
        let news = self
            .store
            .write(move |tx| {
                let mut news = false;
                for shown in &shown {
                    news |= source.apply(tx, shown)?;
                }
                Ok(news)
            })
            .await?;
        if news {
            self.bell.notify_one();
        }
        Ok(())
    }

    /// The survivor of a merge whom we have never seen is read at once: known too late, it would be taken for somebody
    /// new and linked by first-link rules, and the history and the opt-outs of the one it absorbed would be left behind.
    async fn unseen_survivor(
        &self,
        found: &Fetched,
        priority: Priority,
    ) -> Result<Option<Box<Observation>>, EngineError> {
        let Fetched::Gone(Gone::Merged { into: Some(survivor) }) = found else { return Ok(None) };
        let id = survivor.clone();
        if self.store.read(move |tx| tx.intercom_contact(&id)).await?.is_some() {
            return Ok(None);
        }
        match self.intercom.fetch(&ContactKey::Intercom(survivor.clone()), priority).await {
            Ok(Fetched::Found(observation, _)) => Ok(Some(observation)),
            // Gone as well: whoever absorbed it is found when it is itself asked for.
            Ok(Fetched::Gone(_)) => Ok(None),
            Err(error) if error.is_transient() || matches!(error.kind, ErrorKind::Auth(_)) => Err(error.into()),
            // Refused for good: the merge is known all the same, and the sweeps may show the survivor.
            Err(error) => {
                tracing::warn!("the survivor of a merge cannot be read: {}", error.for_log());
                Ok(None)
            }
        }
    }
}
