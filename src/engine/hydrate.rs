//! Reads by id: what pages and webhooks show only in part. Coalesced: however often a record was named, it is read once.

use super::inbox::{is_refusal, unless_refused};
use super::{Connection, EngineError};
use crate::model::{
    ContactKey, ConversationId, ErrorKind, Fetched, IntercomCompanyId, IntercomTagId, Observation, Priority, Related,
};
use crate::store::contacts::Wants;
use crate::store::links::Dirty;
use crate::store::listings::NewFailure;
use futures_util::StreamExt as _;
use std::collections::BTreeSet;

/// Records read in one go.
const BATCH: usize = 100;
/// Reads under way at once; the governor sets the pace.
const AT_ONCE: usize = 8;

impl Connection {
    /// Reads everything that is wanted, or a first batch of it (what webhooks named comes first). How many requests that
    /// took.
    pub(super) async fn hydrate(&self, priority: Priority, all: bool) -> Result<u64, EngineError> {
        let mut requests = 0;
        loop {
            let wants = self.store.read(|tx| tx.wants(BATCH)).await?;
            if wants.is_empty() {
                break;
            }
            let before = wants.clone();
            let mut reads =
                futures_util::stream::iter(wants.into_iter().map(|wants| self.complete_or_note(wants, priority)))
                    .buffer_unordered(AT_ONCE);
            while let Some(done) = reads.next().await {
                requests += done?;
            }
            drop(reads);
            // What could not be had stays wanted: it is left for the next cycle, not asked for in a circle.
            if !all || self.store.read(|tx| tx.wants(BATCH)).await? == before {
                break;
            }
        }
        loop {
            let wanted = self.store.read(|tx| tx.wanted_conversations(BATCH)).await?;
            if wanted.is_empty() {
                return Ok(requests);
            }
            for id in wanted {
                requests += 1;
                let read = self.fetch_conversation(&id, priority).await;
                if read.is_err() {
                    unless_refused("conversation", read)?;
                    let named = self.named(&id).await?;
                    self.store.write(move |tx| tx.conversation_was_fetched(&id, named)).await?;
                }
            }
        }
    }

    /// One contact that cannot be read for good holds up nobody: it is listed, and the sweeps go on showing it.
    async fn complete_or_note(&self, wants: Wants, priority: Priority) -> Result<u64, EngineError> {
        let (id, named) = (wants.id.clone(), wants.fetch);
        match self.complete(wants, priority).await {
            Err(EngineError::Store(error)) => {
                self.spare::<()>(Err(error.into())).await?;
                // It is read anew as a whole.
                self.store.write(move |tx| tx.set_wants(&id, false, false)).await?;
                Ok(1)
            }
            Err(error) if is_refusal(&error) => {
                let not_found = matches!(&error, EngineError::Side(error) if error.kind == ErrorKind::NotFound);
                let (words, now) = (error.to_string(), self.now());
                self.store
                    .write(move |tx| {
                        tx.set_wants(&id, false, false)?;
                        tx.contact_was_fetched(&id, named)?;
                        if not_found && named == 0 {
                            // Its sets are not there: is it?
                            tx.want_contact(&id)?;
                            return Ok(());
                        }
                        let link = tx.intercom_contact(&id)?.and_then(|row| row.link);
                        let subject = format!("contact {id}");
                        let failure = NewFailure {
                            link,
                            subject: &subject,
                            field: "read",
                            message: &words,
                            status: None,
                            dead: true,
                        };
                        tx.put_failure(&failure, now)
                    })
                    .await?;
                Ok(1)
            }
            done => done,
        }
    }

    async fn complete(&self, wants: Wants, priority: Priority) -> Result<u64, EngineError> {
        let mut requests = 0;
        let mut wants = wants;
        if wants.fetch > 0 {
            requests += 1;
            self.confirm(ContactKey::Intercom(wants.id.clone()), priority).await?;
            let (id, named) = (wants.id.clone(), wants.fetch);
            let again = self
                .store
                .write(move |tx| {
                    tx.contact_was_fetched(&id, named)?;
                    tx.wants_of(&id)
                })
                .await?;
            let Some(again) = again else { return Ok(requests) };
            wants = again;
        }
        let tags = if wants.tags {
            requests += 1;
            Some(self.intercom.related(&wants.id, Related::Tags, priority).await?)
        } else {
            None
        };
        let companies = if wants.companies {
            requests += 1;
            Some(self.intercom.related(&wants.id, Related::Companies, priority).await?)
        } else {
            None
        };
        if tags.is_none() && companies.is_none() {
            return Ok(requests);
        }
        self.store
            .write(move |tx| {
                let Some(mut row) = tx.intercom_contact(&wants.id)? else { return Ok(()) };
                if let Some(tags) = tags {
                    row.contact.tags.items = tags.into_iter().map(IntercomTagId::new).collect::<BTreeSet<_>>();
                    row.contact.tags.complete = true;
                    tx.set_contact_tags(&wants.id, &row.contact.tags.items)?;
                }
                if let Some(companies) = companies {
                    row.contact.companies.items = companies.into_iter().map(IntercomCompanyId::new).collect();
                    row.contact.companies.complete = true;
                    tx.set_contact_companies(&wants.id, &row.contact.companies.items)?;
                }
                tx.put_intercom_contact(&row.contact, 0)?;
                tx.set_wants(&wants.id, false, false)?;
                match row.link {
                    Some(link) => tx.mark_dirty(link, Dirty::Live),
                    None => Ok(()),
                }
            })
            .await?;
        Ok(requests)
    }

    /// Reads one conversation, which decides.
    pub(super) async fn fetch_conversation(&self, id: &ConversationId, priority: Priority) -> Result<(), EngineError> {
        let read_began = self.now();
        let named = self.named(id).await?;
        let found = self.intercom.fetch_conversation(id, priority).await?;
        let source = self.source(0, true, read_began, Dirty::Live)?;
        let id = id.clone();
        self.store
            .write(move |tx| {
                match found {
                    Fetched::Found(observation, _) => source.apply(tx, &observation)?,
                    Fetched::Gone(_) => source.apply(tx, &Observation::ConversationGone(id.clone()))?,
                };
                tx.conversation_was_fetched(&id, named)
            })
            .await?;
        Ok(())
    }

    async fn named(&self, id: &ConversationId) -> Result<i64, EngineError> {
        let id = id.clone();
        Ok(self.store.read(move |tx| tx.conversation_named(&id)).await?)
    }

    /// Reads one company, which decides.
    pub(super) async fn fetch_company(&self, id: &IntercomCompanyId, priority: Priority) -> Result<(), EngineError> {
        let read_began = self.now();
        let found = self.intercom.fetch_company(id, priority).await?;
        let source = self.source(0, true, read_began, Dirty::Live)?;
        let id = id.clone();
        self.store
            .write(move |tx| match found {
                Fetched::Found(observation, _) => source.apply(tx, &observation),
                Fetched::Gone(_) => source.apply(tx, &Observation::CompanyGone(id)),
            })
            .await?;
        Ok(())
    }
}
