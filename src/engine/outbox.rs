//! Events: things that happened, not state. A durable row each, sent at least once, under a key that makes a webhook and
//! a poll of the same happening one row.

use super::observe::{QueuedEvent, from_json};
use super::{Connection, EngineError};
use crate::model::{Answer, ErrorKind, OutgoingEvent, Priority, Write};
use crate::store::links::LinkState;
use crate::store::listings::NewFailure;
use crate::store::queues::OutboxRow;
use chrono::TimeDelta;

/// Events in one request. Brevo publishes no limit.
const BATCH: usize = 50;
/// Failed tries after which an event is given up and listed.
const MOST_TRIES: u32 = 5;
/// How long an event waits for its person to become a contact in Brevo.
const LONGEST_WAIT: TimeDelta = TimeDelta::days(7);

impl Connection {
    /// Sends the events that are due. How many were accepted.
    pub(super) async fn send_events(&self, priority: Priority) -> Result<u64, EngineError> {
        // Live work and a run may both come by: the second one leaves the events to the first.
        let Ok(_ours) = self.events.try_lock() else { return Ok(0) };
        let mut sent = 0;
        loop {
            let now = self.now();
            // Whose Brevo contact is not known yet waits, and is asked for again with the next cycle.
            let due: Vec<(OutboxRow, OutgoingEvent)> = self
                .store
                .write(move |tx| {
                    let mut due = Vec::new();
                    for row in tx.open_outbox(now, BATCH)? {
                        let link = tx.intercom_contact(&row.contact)?.and_then(|contact| contact.link);
                        let link = link.map(|link| tx.link(link)).transpose()?.flatten();
                        match link.as_ref().and_then(|link| {
                            link.brevo_id.filter(|_| link.import.is_none() && link.state != LinkState::BrevoGone)
                        }) {
                            Some(contact) => {
                                let event: QueuedEvent = from_json("outbox", &row.event)?;
                                tx.set_outbox(&row.key, "sending", now, false)?;
                                let event = OutgoingEvent {
                                    key: row.key.clone(),
                                    name: event.name,
                                    happened_at: event.happened_at,
                                    contact,
                                    properties: event.properties,
                                };
                                due.push((row, event));
                            }
                            // Somebody without an address, perhaps for ever.
                            None if now - row.queued_at > LONGEST_WAIT => {
                                tx.set_outbox(&row.key, "dead", now, false)?;
                                tx.put_failure(
                                    &NewFailure {
                                        link: None,
                                        subject: &format!("event {}", row.key),
                                        field: "",
                                        message: "its person is no contact in Brevo",
                                        status: None,
                                        dead: true,
                                    },
                                    now,
                                )?;
                            }
                            None => tx.set_outbox(&row.key, "open", now + TimeDelta::seconds(60), false)?,
                        }
                    }
                    Ok(due)
                })
                .await?;
            if due.is_empty() {
                return Ok(sent);
            }
            let events: Vec<OutgoingEvent> = due.iter().map(|(_, event)| event.clone()).collect();
            let answer = self.brevo.write(&Write::SendEvents(events), priority).await;
            self.doors.crash.reach("after_events_sent");
            let now = self.now();
            let fatal = match &answer {
                Err(error) if matches!(error.kind, ErrorKind::Auth(_)) => Some(error.clone()),
                _ => None,
            };
            let throttled = matches!(&answer, Err(error) if error.is_transient());
            sent += self
                .store
                .write(move |tx| {
                    let mut sent = 0;
                    for (index, (row, _)) in due.iter().enumerate() {
                        let trouble = match &answer {
                            Ok(Answer::EventsAccepted { failed }) => failed
                                .iter()
                                .find(|(place, _)| *place == index)
                                .map(|(_, words)| (words.clone(), false)),
                            Ok(_) => None,
                            Err(error) => Some((error.to_string(), error.is_transient())),
                        };
                        match trouble {
                            None => {
                                sent += 1;
                                tx.set_outbox(&row.key, "sent", now, false)?;
                            }
                            Some((words, transient)) => {
                                let dead = !transient && row.tries + 1 >= MOST_TRIES;
                                let wait = TimeDelta::seconds(30 << row.tries.min(6));
                                tx.set_outbox(&row.key, if dead { "dead" } else { "open" }, now + wait, true)?;
                                if dead {
                                    tx.put_failure(
                                        &NewFailure {
                                            link: None,
                                            subject: &format!("event {}", row.key),
                                            field: "",
                                            message: &words,
                                            status: None,
                                            dead: true,
                                        },
                                        now,
                                    )?;
                                }
                            }
                        }
                    }
                    Ok(sent)
                })
                .await?;
            if let Some(error) = fatal {
                return Err(error.into());
            }
            if throttled {
                return Ok(sent);
            }
        }
    }
}
