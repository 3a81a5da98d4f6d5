//! Events: things that happened, not state. A durable row each, sent at least once, under a key that makes a webhook and
//! a poll of the same happening one row.
//!
//! Brevo doubles an event that is sent twice. So one whose answer was lost (a time-out, a crash between the sending and
//! the answer) is not sent again before Brevo was asked whether it has it, which is not before a late request can no
//! longer land. Only if Brevo will not say is it sent again on the chance: at least once, not at most once.

use super::observe::{QueuedEvent, from_json};
use super::{Connection, EngineError};
use crate::model::{
    Answer, BrevoContactId, ErrorKind, IntercomContactId, OutgoingEvent, Priority, SideError, SideName, Write,
};
use crate::store::contacts::ContactState;
use crate::store::links::{LinkRow, LinkState};
use crate::store::listings::NewFailure;
use crate::store::partings::Apart;
use crate::store::queues::OutboxRow;
use crate::store::{Result as Stored, Tx};
use chrono::{DateTime, TimeDelta, Utc};
use std::collections::BTreeSet;

/// Events in one request. Brevo publishes no limit.
const BATCH: usize = 50;
/// Failed tries after which an event is given up and listed.
const MOST_TRIES: u32 = 5;
/// How long events wait while Brevo does not let us in at all.
const AFTER_REFUSAL: TimeDelta = TimeDelta::seconds(30);
/// How often Brevo is asked whether it has an event while it cannot answer; then the event is sent again.
const MOST_LOOKS: u32 = 5;
/// How long an event waits for its person to become a contact in Brevo.
const LONGEST_WAIT: TimeDelta = TimeDelta::days(7);

/// Rows with the events that they become.
type Due = Vec<(OutboxRow, OutgoingEvent)>;

impl Connection {
    /// Sends the events that are due. How many were accepted.
    pub(super) async fn send_events(&self, priority: Priority) -> Result<u64, EngineError> {
        // Live work and a run may both come by: the second one leaves the events to the first.
        let Ok(_ours) = self.events.try_lock() else { return Ok(0) };
        let mut sent = 0;
        loop {
            self.go_on()?;
            let now = self.now();
            let (read, doubtful, mut due) = self
                .store
                .write(move |tx| {
                    let rows = tx.open_outbox(now, BATCH)?;
                    let read = rows.len();
                    let (doubtful, new): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| row.uncertain);
                    let mut events = (read, Due::new(), Due::new());
                    for row in doubtful {
                        match row.sent_to {
                            Some(contact) => events.1.push(event_of(row, contact)?),
                            // Never left.
                            None => events.2.extend(addressed(tx, row, now)?),
                        }
                    }
                    for row in new {
                        events.2.extend(addressed(tx, row, now)?);
                    }
                    Ok(events)
                })
                .await?;
            if doubtful.is_empty() && due.is_empty() {
                // Those that wait for their people are due later now: there may be others behind them.
                if read < BATCH {
                    return Ok(sent);
                }
                continue;
            }
            if !doubtful.is_empty() {
                due.extend(self.without_held(doubtful, priority).await?);
            }
            if due.is_empty() {
                continue;
            }
            let ask_at = self.late_landing();
            let leaving: Vec<(String, BrevoContactId)> =
                due.iter().map(|(row, event)| (row.key.clone(), event.contact)).collect();
            self.store
                .write(move |tx| leaving.iter().try_for_each(|(key, contact)| tx.outbox_leaves(key, *contact, ask_at)))
                .await?;
            self.doors.crash.reach("after_events_intent");
            let events: Vec<OutgoingEvent> = due.iter().map(|(_, event)| event.clone()).collect();
            let answer = self.brevo.write(&Write::SendEvents(events), priority).await;
            self.doors.crash.reach("after_events_sent");
            let fatal = match &answer {
                Err(error) if matches!(error.kind, ErrorKind::Auth(_)) => Some(error.clone()),
                _ => None,
            };
            let throttled = matches!(&answer, Err(error) if error.is_transient());
            let (now, ask_at) = (self.now(), self.late_landing());
            sent += self.store.write(move |tx| record(tx, &due, &answer, now, ask_at)).await?;
            if let Some(error) = fatal {
                return Err(error.into());
            }
            if throttled {
                return Ok(sent);
            }
        }
    }

    /// Of events whose answer was lost, those that Brevo does not have: they are to be sent again.
    async fn without_held(&self, doubtful: Due, priority: Priority) -> Result<Due, EngineError> {
        let events: Vec<OutgoingEvent> = doubtful.iter().map(|(_, event)| event.clone()).collect();
        let now = self.now();
        match self.brevo.events_held(&events, priority).await {
            Ok(held) => {
                let landed: Vec<String> = held.iter().cloned().collect();
                self.store
                    .write(move |tx| landed.iter().try_for_each(|key| tx.set_outbox(key, "sent", now, false)))
                    .await?;
                let missing: BTreeSet<String> =
                    doubtful.iter().map(|(row, _)| row.key.clone()).filter(|key| !held.contains(key)).collect();
                if missing.is_empty() {
                    return Ok(Due::new());
                }
                // The person may be another contact by now.
                let rows = doubtful.into_iter().map(|(row, _)| row).filter(|row| missing.contains(&row.key));
                self.readdressed(rows.collect(), now).await
            }
            Err(error) if matches!(error.kind, ErrorKind::Auth(problem) if !only_this(problem)) => Err(error.into()),
            Err(error) => {
                let patient = error.is_transient();
                let (later, again): (Vec<_>, Vec<_>) =
                    doubtful.into_iter().map(|(row, _)| row).partition(|row| patient && row.tries < MOST_LOOKS);
                if !later.is_empty() {
                    tracing::warn!(
                        events = later.len(),
                        "Brevo cannot say now whether it has events whose answer was lost; asked again later: {}",
                        error.for_log()
                    );
                    self.store
                        .write(move |tx| {
                            later.iter().try_for_each(|row| {
                                let wait = TimeDelta::seconds(30 << row.tries.min(6));
                                tx.set_outbox(&row.key, "sending", now + wait, true)
                            })
                        })
                        .await?;
                }
                if again.is_empty() {
                    return Ok(Due::new());
                }
                tracing::warn!(
                    events = again.len(),
                    "Brevo does not say whether it has events whose answer was lost; they are sent again and may be there \
                     twice, each under the same linkspan_key: {}",
                    error.for_log()
                );
                self.readdressed(again, now).await
            }
        }
    }

    /// Events that have not landed, for the contacts that their people are by now.
    async fn readdressed(&self, rows: Vec<OutboxRow>, now: DateTime<Utc>) -> Result<Due, EngineError> {
        Ok(self
            .store
            .write(move |tx| {
                let mut due = Due::new();
                for row in rows {
                    due.extend(addressed(tx, row, now)?);
                }
                Ok(due)
            })
            .await?)
    }
}

/// Brevo lets us in, but not to its events.
fn only_this(problem: crate::model::AuthProblem) -> bool {
    matches!(problem, crate::model::AuthProblem::MissingScope | crate::model::AuthProblem::Plan)
}

/// An event with its person's Brevo contact; `None`: it waits, or is given up.
fn addressed(tx: &Tx<'_>, row: OutboxRow, now: DateTime<Utc>) -> Stored<Option<(OutboxRow, OutgoingEvent)>> {
    let link = link_of(tx, &row.contact)?;
    let apart = link.as_ref().map_or(Ok(None), |link| tx.apart(link.id))?;
    if apart == Some(Apart::LeftOut) {
        // Nothing about somebody whom the filter leaves out is sent.
        tx.set_outbox(&row.key, "dead", now, false)?;
        return Ok(None);
    }
    let contact = link
        .as_ref()
        // Where the filter cannot tell, it waits until it can.
        .filter(|_| apart.is_none())
        .and_then(|link| link.brevo_id.filter(|_| link.import.is_none() && link.state != LinkState::BrevoGone));
    match contact {
        Some(contact) => event_of(row, contact).map(Some),
        // Somebody without an address, perhaps for ever.
        None if now - row.queued_at > LONGEST_WAIT => {
            tx.set_outbox(&row.key, "dead", now, false)?;
            list_dead(tx, &row.key, None, now)?;
            Ok(None)
        }
        // Whose Brevo contact is not known yet waits, and is asked for again with the next cycle.
        None => {
            tx.set_outbox(&row.key, "open", now + TimeDelta::seconds(60), false)?;
            Ok(None)
        }
    }
}

/// The link of the person that a contact is by now: who was merged (a lead without an address, say, who signed in) is the
/// survivor, and would never become a contact in Brevo.
fn link_of(tx: &Tx<'_>, contact: &IntercomContactId) -> Stored<Option<LinkRow>> {
    const LONGEST: usize = 10;
    let (mut id, mut link) = (contact.clone(), None);
    for _ in 0..LONGEST {
        let Some(row) = tx.intercom_contact(&id)? else { break };
        link = row.link.map(|own| tx.link(own)).transpose()?.flatten().or(link);
        match row.merged_into.filter(|_| row.state == ContactState::Merged) {
            Some(survivor) => id = survivor,
            None => break,
        }
    }
    Ok(link)
}

fn event_of(row: OutboxRow, contact: BrevoContactId) -> Stored<(OutboxRow, OutgoingEvent)> {
    let event: QueuedEvent = from_json("outbox", &row.event)?;
    let event = OutgoingEvent {
        key: row.key.clone(),
        name: event.name,
        happened_at: event.happened_at,
        contact,
        properties: event.properties,
    };
    Ok((row, event))
}

/// Lists an event that is given up: with what Brevo says, if it was asked.
fn list_dead(tx: &Tx<'_>, key: &str, refusal: Option<(&str, Option<u16>)>, now: DateTime<Utc>) -> Stored<()> {
    let subject = format!("event {key}");
    let left_out = NewFailure::left_out(None, &subject, "", "its person has been no contact in Brevo for seven days");
    let failure = match refusal {
        Some((message, status)) => NewFailure { refused_by: Some(SideName::Brevo), message, status, ..left_out },
        None => left_out,
    };
    tx.put_failure(&failure, now)
}

/// What became of a request; how many events were accepted.
fn record(
    tx: &Tx<'_>,
    due: &Due,
    answer: &Result<Answer, Box<SideError>>,
    now: DateTime<Utc>,
    ask_at: DateTime<Utc>,
) -> Stored<u64> {
    let mut sent = 0;
    for (index, (row, _)) in due.iter().enumerate() {
        let refused = match answer {
            Ok(Answer::EventsAccepted { failed }) => failed.iter().find(|(place, _)| *place == index),
            _ => None,
        };
        let (words, status, transient) = match (answer, refused) {
            (_, Some((_, words))) => (words.as_str(), None, false),
            (Ok(_), None) => {
                sent += 1;
                tx.set_outbox(&row.key, "sent", now, false)?;
                continue;
            }
            // It may have landed, or still land: not sent again before Brevo was asked.
            (Err(error), None) if matches!(error.kind, ErrorKind::Ambiguous | ErrorKind::Malformed) => {
                tx.set_outbox(&row.key, "sending", ask_at, false)?;
                continue;
            }
            // While Brevo does not let us in, that says nothing about the event.
            (Err(error), None) if matches!(error.kind, ErrorKind::Auth(problem) if !only_this(problem)) => {
                tx.set_outbox(&row.key, "open", now + AFTER_REFUSAL, false)?;
                continue;
            }
            (Err(error), None) => (error.message.as_str(), error.status, error.is_transient()),
        };
        let dead = !transient && row.tries + 1 >= MOST_TRIES;
        let wait = TimeDelta::seconds(30 << row.tries.min(6));
        tx.set_outbox(&row.key, if dead { "dead" } else { "open" }, now + wait, true)?;
        if dead {
            list_dead(tx, &row.key, Some((words, status)), now)?;
        }
    }
    Ok(sent)
}
