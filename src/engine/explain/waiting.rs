//! What is still to happen to somebody.

use super::shown::{EventShown, Waiting};
use super::{MOST_LISTED, Teller};
use crate::model::{BrevoContactId, Email, IntercomContactId, SideName};
use crate::store::contacts::{ContactState, IntercomRow};
use crate::store::harm::held_until;
use crate::store::links::{Dirty, LinkRow};
use crate::store::{Result, Tx};
use serde_json::Value as Json;

impl Teller<'_> {
    /// What is still to happen, apart from events, imports and opt-outs for Intercom.
    pub(super) fn waiting(&self, tx: &Tx<'_>, link: &LinkRow, members: &[IntercomRow]) -> Result<Vec<Waiting>> {
        let waits = tx.link_waits(link.id)?;
        let held = waits.as_ref().and_then(|waits| waits.not_before).is_some_and(|at| at >= held_until());
        let not_before = waits.as_ref().and_then(|waits| waits.not_before).filter(|at| *at > self.now);
        let mut waiting = Vec::new();
        let how = match link.dirty {
            Dirty::No => None,
            Dirty::Backfill => Some("to be compared and written, with the rest of the backlog"),
            Dirty::Live => Some("to be compared and written, as a live change"),
            Dirty::Consent => Some("an opt-out to be written, before anything else"),
        };
        if let Some(how) = how.filter(|_| !held) {
            let tries = (link.tries > 0).then_some(link.tries);
            waiting.push(Waiting { not_before, tries, ..Waiting::new(how) });
        }
        if held {
            waiting.push(Waiting::new("held: a contact is to be made in Brevo, and `linkspan approve` lets it go"));
        }
        for (kind, side) in tx.held_for(link.id)? {
            let what = match kind.as_str() {
                "opt_outs" => "an opt-out is to be written",
                "deletes" => "they are to be taken off lists",
                _ => "a field is to be cleared",
            };
            let there = if side == "intercom" { "Intercom" } else { "Brevo" };
            waiting.push(Waiting::new(format!("held: {what} in {there}, and `linkspan approve` lets it go")));
        }
        for side in SideName::BOTH {
            if let Some(row) = tx.parting(link.id, side)? {
                let what = if row.due >= held_until() {
                    format!("held: what a deletion leads to in {side}, and `linkspan approve` lets it go")
                } else {
                    format!(
                        "they are gone in {}: in {side}, what `contacts.on_delete` says is to be done",
                        side.other()
                    )
                };
                let not_before = Some(row.due).filter(|due| *due > self.now && *due < held_until());
                waiting.push(Waiting { not_before, ..Waiting::new(what) });
            }
        }
        if link.sweep {
            waiting.push(Waiting::new("as in a full read: edits on the side that only takes a field are put back"));
        }
        match (&link.flights, link.answered, link.verify_after) {
            (Some(_), false, _) if link.import.is_some() => {}
            (Some(_), false, until) => {
                let what = "a write left and its outcome is not known: a read after this tells, and until then only an \
                            opt-out is written";
                waiting.push(Waiting { not_before: until, ..Waiting::new(what) });
            }
            (Some(_), true, Some(until)) => {
                let what = "the last write was accepted; a read after this shows what became of it";
                waiting.push(Waiting { not_before: Some(until), ..Waiting::new(what) });
            }
            _ => {}
        }
        if let Some(row) = tx.write_back(link.id)? {
            if let Some(due) = row.due {
                let what = format!("something is to be written to Intercom contact {}", row.contact);
                let (not_before, tries) =
                    (Some(due).filter(|due| *due > self.now), Some(row.tries).filter(|tries| *tries > 0));
                waiting.push(Waiting { not_before, tries, ..Waiting::new(what) });
            }
            if row.awaits_answer() {
                let what = "a write to Intercom left and its outcome is not known: a read after this tells";
                waiting.push(Waiting { not_before: row.verify_after, ..Waiting::new(what) });
            }
        }
        if let Some(email) = &link.rename_to {
            waiting.push(Waiting::new(format!("the Brevo contact is to take the address {}", email.as_str())));
        }
        if let Some(email) = waits.and_then(|waits| waits.rename_held) {
            let what = format!(
                "the Brevo contact is to take the address {}, which somebody else has in Brevo",
                email.as_str()
            );
            waiting.push(Waiting::new(what));
        }
        for row in members {
            contact_waits(tx, row, &mut waiting)?;
        }
        let ids: Vec<&IntercomContactId> = members.iter().map(|row| &row.contact.id).collect();
        named(tx, &ids, link.brevo_id, link.email.as_ref(), &mut waiting)?;
        Ok(waiting)
    }

    pub(super) fn events(&self, tx: &Tx<'_>, ids: &[&IntercomContactId]) -> Result<Vec<EventShown>> {
        let mut events = Vec::new();
        for id in ids {
            events.extend(tx.events_of(id, MOST_LISTED)?.into_iter().map(|row| {
                EventShown {
                    name: serde_json::from_str::<Json>(&row.event)
                        .ok()
                        .and_then(|event| event["name"].as_str().map(str::to_owned)),
                    state: if row.state == "open" { "waiting".to_owned() } else { row.state },
                    key: row.key,
                    queued_at: row.queued_at,
                    sent_at: row.sent_at,
                    tries: row.tries,
                    not_before: row.not_before.filter(|at| *at > self.now),
                }
            }));
        }
        Ok(events)
    }
}

pub(super) fn contact_waits(tx: &Tx<'_>, row: &IntercomRow, waiting: &mut Vec<Waiting>) -> Result<()> {
    let id = &row.contact.id;
    let Some(waits) = tx.contact_waits(id)? else { return Ok(()) };
    if waits.unplaced {
        waiting.push(Waiting::new(format!("Intercom contact {id}: who they are in Brevo is to be decided")));
    }
    if waits.to_confirm {
        let what = format!("Intercom contact {id}: a full read did not show it, and it is to be asked for by id");
        waiting.push(Waiting::new(what));
    }
    if let (ContactState::Missing, Some(at)) = (row.state, waits.gone_check_at) {
        let what = format!("Intercom contact {id}: to be looked for under its other identifiers");
        waiting.push(Waiting { not_before: Some(at), ..Waiting::new(what) });
    }
    if let Some(wants) = tx.wants_of(id)? {
        let parts =
            [(wants.fetch > 0, "the contact"), (wants.tags, "all its tags"), (wants.companies, "all its companies")];
        let parts: Vec<&str> = parts.into_iter().filter(|(wanted, _)| *wanted).map(|(_, what)| what).collect();
        if !parts.is_empty() {
            waiting.push(Waiting::new(format!("Intercom contact {id}: to be read: {}", parts.join(", "))));
        }
    }
    Ok(())
}

/// Webhooks that named them and were not acted on.
pub(super) fn named(
    tx: &Tx<'_>,
    ids: &[&IntercomContactId],
    brevo: Option<BrevoContactId>,
    email: Option<&Email>,
    waiting: &mut Vec<Waiting>,
) -> Result<()> {
    let words: Vec<String> = ids
        .iter()
        .map(|id| id.as_str().to_lowercase())
        .chain(email.map(|email| email.as_str().to_lowercase()))
        .collect();
    match tx.webhooks_naming(&words)? {
        0 => {}
        1 => waiting.push(Waiting::new("a webhook that names them is to be acted on")),
        count => waiting.push(Waiting::new(format!("{count} webhooks that name them are to be acted on"))),
    }
    if tx.is_named_by_brevo(email, brevo)? {
        waiting.push(Waiting::new("a webhook of Brevo's named them: to be read there"));
    }
    Ok(())
}
