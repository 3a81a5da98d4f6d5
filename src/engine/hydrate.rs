//! Reads by id: what pages and webhooks show only in part. Coalesced: however often a record was named, it is read once.

use super::inbox::{is_refusal, unless_refused};
use super::unreadable::replaceable;
use super::{Connection, EngineError};
use crate::model::{
    ContactKey, ConversationId, ErrorKind, Fetched, IntercomCompanyId, IntercomContactId, IntercomTagId, Observation,
    Priority, Related,
};
use crate::store::contacts::{ContactState, Wants};
use crate::store::links::Dirty;
use crate::store::listings::NewFailure;
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::StreamExt as _;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

/// Records read in one go.
const BATCH: usize = 100;
/// Reads under way at once; the governor sets the pace.
const AT_ONCE: usize = 8;
/// Failed reads in a row after which it is taken for Intercom's trouble, not the records'.
const MOST_IN_A_ROW: usize = 3;
/// After this a record that could not be read is asked for again.
const AGAIN: TimeDelta = TimeDelta::seconds(60);

/// For so long a failure is remembered.
const REMEMBERED: TimeDelta = TimeDelta::hours(1);

/// Records that could not be read for now, and when that was. Only in memory: after a start, all are alike.
#[derive(Debug, Default)]
pub(super) struct PutOff(Mutex<BTreeMap<String, DateTime<Utc>>>);

impl PutOff {
    fn with<T>(&self, act: impl FnOnce(&mut BTreeMap<String, DateTime<Utc>>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// As it is at `now`.
    pub(super) fn at(&self, now: DateTime<Utc>) -> Later {
        let failed = self.with(|all| {
            all.retain(|_, failed| now - *failed < REMEMBERED);
            all.clone()
        });
        Later { failed, now }
    }
}

/// Which records others go before.
pub(super) struct Later {
    failed: BTreeMap<String, DateTime<Utc>>,
    now: DateTime<Utc>,
}

impl Later {
    /// Those that may be asked for now: first those that did not fail, then those that failed longest ago. Each gets its
    /// turn so, even if one request a minute is all that a dead API gets.
    pub(super) fn in_turn<T>(&self, mut records: Vec<T>, name: impl Fn(&T) -> String) -> Vec<T> {
        records.retain(|record| self.failed.get(&name(record)).is_none_or(|failed| self.now - *failed >= AGAIN));
        records.sort_by_cached_key(|record| self.failed.get(&name(record)).copied());
        records
    }

    fn len(&self) -> usize {
        self.failed.len()
    }
}

/// Reads of many records, of which one that always fails holds up no other.
#[derive(Default)]
pub(super) struct Reads {
    failed_in_a_row: usize,
    failed: Option<EngineError>,
}

impl Reads {
    /// What became of one read. A failure that may pass is kept for the end, and the record is put off. `None`: the
    /// read failed so.
    pub(super) fn note<T>(
        &mut self,
        connection: &Connection,
        record: String,
        read: Result<T, EngineError>,
    ) -> Result<Option<T>, EngineError> {
        match read {
            Err(EngineError::Side(error)) if error.is_transient() => {
                tracing::debug!(record, "cannot be read for now: {error}");
                if error.attempts == 0 {
                    // Nothing was asked (the breaker is open): that is no trouble of this record's.
                    self.failed_in_a_row = MOST_IN_A_ROW;
                } else {
                    connection.put_off.with(|all| all.insert(record, connection.now()));
                    self.failed_in_a_row += 1;
                }
                self.failed.get_or_insert(error.into());
                Ok(None)
            }
            Err(error) => Err(error),
            Ok(done) => {
                connection.put_off.with(|all| all.remove(&record));
                self.failed_in_a_row = 0;
                Ok(Some(done))
            }
        }
    }

    /// Whether there is any point in going on.
    pub(super) fn go_on(&self) -> bool {
        self.failed_in_a_row < MOST_IN_A_ROW
    }

    /// The first failure, if there was one.
    pub(super) fn end<T>(self, done: T) -> Result<T, EngineError> {
        self.failed.map_or(Ok(done), Err)
    }
}

impl Connection {
    /// Reads everything that is wanted, or a first batch of it (what webhooks named comes first). How many requests that
    /// took. One that cannot be read for now is passed by; that is told at the end.
    pub(super) async fn hydrate(&self, priority: Priority, all: bool) -> Result<u64, EngineError> {
        let mut requests = 0;
        let mut outcome = Reads::default();
        loop {
            let wants = self.wants().await?;
            if wants.is_empty() {
                break;
            }
            let before = wants.clone();
            let mut reads = futures_util::stream::iter(wants.into_iter().map(|wants| async move {
                let record = contact(&wants.id);
                (record, self.complete_or_note(wants, priority).await)
            }))
            .buffer_unordered(AT_ONCE);
            while let Some((record, done)) = reads.next().await {
                requests += outcome.note(self, record, done)?.unwrap_or(1);
                if !outcome.go_on() {
                    return outcome.end(requests);
                }
            }
            drop(reads);
            // What could not be had stays wanted: it is left for the next cycle, not asked for in a circle.
            if !all || self.wants().await? == before {
                break;
            }
        }
        loop {
            let wanted = self.wanted_conversations().await?;
            if wanted.is_empty() {
                break;
            }
            for id in wanted {
                requests += 1;
                let read = match self.fetch_conversation(&id, priority).await {
                    Err(error) if is_refusal(&error) => {
                        unless_refused("conversation", Err(error))?;
                        let named = self.named(&id).await?;
                        let id = id.clone();
                        self.store.write(move |tx| tx.conversation_was_fetched(&id, named)).await?;
                        Ok(())
                    }
                    read => read,
                };
                outcome.note(self, conversation(&id), read)?;
                if !outcome.go_on() {
                    return outcome.end(requests);
                }
            }
            if !all {
                break;
            }
        }
        outcome.end(requests)
    }

    async fn wants(&self) -> Result<Vec<Wants>, EngineError> {
        let later = self.put_off.at(self.now());
        let most = BATCH + later.len();
        let wants = self.store.read(move |tx| tx.wants(most)).await?;
        let mut wants = later.in_turn(wants, |wants| contact(&wants.id));
        wants.truncate(BATCH);
        Ok(wants)
    }

    /// Conversations that are to be read now, the first of them.
    pub(super) async fn wanted_conversations(&self) -> Result<Vec<ConversationId>, EngineError> {
        let later = self.put_off.at(self.now());
        let most = BATCH + later.len();
        let wanted = self.store.read(move |tx| tx.wanted_conversations(most)).await?;
        let mut wanted = later.in_turn(wanted, conversation);
        wanted.truncate(BATCH);
        Ok(wanted)
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
                let EngineError::Side(refusal) = error else { return Ok(1) };
                let now = self.now();
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
                        tx.put_failure(&NewFailure::refused(link, &subject, "read", &refusal), now)
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
            let companies = self.intercom.related(&wants.id, Related::Companies, priority).await?;
            let companies: BTreeSet<_> = companies.into_iter().map(IntercomCompanyId::new).collect();
            requests += self.read_unknown(&companies, priority).await?;
            Some(companies)
        } else {
            None
        };
        if tags.is_none() && companies.is_none() {
            return Ok(requests);
        }
        self.store
            .write(move |tx| {
                let Some(mut row) = tx.intercom_contact(&wants.id)? else { return Ok(()) };
                if row.state != ContactState::Live {
                    // Found gone since: keeping it would make it live again.
                    return tx.set_wants(&wants.id, false, false);
                }
                if let Some(tags) = tags {
                    row.contact.tags.items = tags.into_iter().map(IntercomTagId::new).collect::<BTreeSet<_>>();
                    row.contact.tags.complete = true;
                    tx.set_contact_tags(&wants.id, &row.contact.tags.items)?;
                }
                if let Some(companies) = companies {
                    row.contact.companies.items = companies;
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

    /// Reads the companies of a contact that nothing has shown yet: their notifications may be lost, and no list shows
    /// them any more once their last contact has gone. How many requests that took.
    async fn read_unknown(
        &self,
        companies: &BTreeSet<IntercomCompanyId>,
        priority: Priority,
    ) -> Result<u64, EngineError> {
        let all: Vec<IntercomCompanyId> = companies.iter().cloned().collect();
        let unknown = self
            .store
            .read(move |tx| {
                let mut unknown = Vec::new();
                for id in all {
                    if !tx.knows_company(&id)? {
                        unknown.push(id);
                    }
                }
                Ok(unknown)
            })
            .await?;
        let mut requests = 0;
        for id in unknown {
            requests += 1;
            unless_refused("company", self.fetch_company(&id, priority).await)?;
        }
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
                if let (Fetched::Found(shown, _), Some(known)) = (&found, replaceable(tx, tx.conversation(&id))?.0)
                    && let Observation::Conversation(shown) = &**shown
                    && known.updated_at.timestamp() > shown.updated_at.timestamp()
                {
                    // It was on its way when something newer came, and takes the place of that: the next read shows it again.
                    tx.want_conversation(&id)?;
                }
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

/// The name under which a contact is put off.
pub(super) fn contact(id: &IntercomContactId) -> String {
    format!("contact {id}")
}

/// The name under which a conversation is put off.
pub(super) fn conversation(id: &ConversationId) -> String {
    format!("conversation {id}")
}

/// The name under which a company is put off.
pub(super) fn company(id: &IntercomCompanyId) -> String {
    format!("company {id}")
}
