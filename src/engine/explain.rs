//! All that the state knows about one person, and what it leads to: for `explain`. Reads the state alone, calls nobody.

pub mod shown;
mod waiting;

pub use shown::Explained;
use shown::{
    Carrying, ChangeShown, ConflictShown, ConsentShown, FieldShown, FlightShown, ListShown, OnOneSide, OptOutShown,
    ReadUntil, SeenInBrevo, SeenInIntercom,
};

use super::observe::{base_of, flights_of, subject_of};
use super::people::{self, Names};
use super::preview::{self, Preview};
use super::{Ready, Settings, prepare, write_back};
use crate::mapping::Misfit;
use crate::model::{BrevoContact, BrevoContactId, Consent, Email, IntercomContactId, Resource, SideName, Sides, Value};
use crate::reconcile::fields::Cells;
use crate::reconcile::person::{Base, Flights};
use crate::store::contacts::{ContactState, IntercomRow};
use crate::store::facts::Channel;
use crate::store::harm::held_until;
use crate::store::links::{Dirty, LinkRow, LinkState};
use crate::store::{Result, Tx};
use chrono::{DateTime, Utc};
use serde_json::Value as Json;
use std::collections::{BTreeMap, BTreeSet};

/// Changes, conflicts and events that are shown.
const MOST_LISTED: usize = 20;

/// Who is asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whom {
    /// Whoever has this address.
    Email(Email),
    /// An Intercom contact.
    Intercom(IntercomContactId),
    /// A Brevo contact.
    Brevo(BrevoContactId),
    /// A link.
    Link(i64),
}

/// Explains everybody to whom this may refer: mostly one person, nobody if the state knows nobody. To be called in a
/// transaction of which nothing is kept (`Store::try_out`): what is planned for a person notes things in the state.
///
/// # Errors
/// If the state cannot be read.
pub fn explain(tx: &Tx<'_>, settings: &Settings, whom: &Whom, now: DateTime<Utc>) -> Result<Vec<Explained>> {
    let kept = prepare::from_kept(tx, settings)?;
    let names = match &kept {
        Some((ready, _)) => Names::read(tx, ready)?,
        None => Names::without_a_plan(tx)?,
    };
    let teller = Teller { kept: kept.as_ref(), names: &names, now };
    let found = find(tx, whom)?;
    let mut all = Vec::new();
    for link in found.links {
        all.extend(teller.person(tx, link)?);
    }
    for id in found.intercom {
        all.extend(teller.unlinked(tx, Some(&id), None)?);
    }
    for id in found.brevo {
        all.extend(teller.unlinked(tx, None, Some(id))?);
    }
    Ok(all)
}

/// Whom something refers to.
#[derive(Debug, Default)]
struct Found {
    links: BTreeSet<i64>,
    /// Contacts that are in no link.
    intercom: BTreeSet<IntercomContactId>,
    brevo: BTreeSet<BrevoContactId>,
}

fn find(tx: &Tx<'_>, whom: &Whom) -> Result<Found> {
    let mut found = Found::default();
    let (mut intercom, mut brevo) = (Vec::new(), Vec::new());
    match whom {
        Whom::Email(email) => {
            found.links.extend(tx.link_by_email(email)?.map(|link| link.id));
            intercom = tx.intercom_ids_by_email(email)?;
            brevo = tx.brevo_ids_by_email(email)?;
        }
        Whom::Intercom(id) => intercom.push(id.clone()),
        Whom::Brevo(id) => brevo.push(*id),
        Whom::Link(id) => found.links.extend(tx.link(*id)?.map(|link| link.id)),
    }
    for id in intercom {
        match tx.intercom_contact(&id)? {
            Some(IntercomRow { link: Some(link), .. }) => drop(found.links.insert(link)),
            Some(_) => drop(found.intercom.insert(id)),
            None => {}
        }
    }
    for id in brevo {
        match tx.link_by_brevo(id)? {
            Some(link) => drop(found.links.insert(link.id)),
            None if tx.is_brevo_gone(id)?.is_some() => drop(found.brevo.insert(id)),
            None => {}
        }
    }
    Ok(found)
}

fn text_of(email: &Email) -> String {
    email.as_str().to_owned()
}

fn json_of(value: Option<&Value>) -> Json {
    value.map_or(Json::Null, Value::to_json)
}

fn cells_of(cells: &Cells) -> Vec<Json> {
    cells.iter().map(|cell| json_of(cell.as_ref())).collect()
}

fn reasons(consent: &Consent) -> OnOneSide {
    OnOneSide { email: consent.email_opt_outs.iter().copied().collect(), sms_opted_out: consent.sms_opted_out }
}

struct Teller<'a> {
    kept: Option<&'a (Ready, Vec<Misfit>)>,
    names: &'a Names,
    now: DateTime<Utc>,
}

impl Teller<'_> {
    /// Somebody who is in a link.
    fn person(&self, tx: &Tx<'_>, id: i64) -> Result<Option<Explained>> {
        let Some(link) = tx.link(id)? else { return Ok(None) };
        let (base, mut flights) = (base_of(&link)?, flights_of(&link)?);
        let members = tx.members(id)?;
        if let Some(primary) = members.iter().find(|row| row.is_primary) {
            flights.add_to_intercom(write_back::flights_to_intercom(tx, id, &primary.contact.id)?.0);
        }
        let ids: Vec<&IntercomContactId> = members.iter().map(|row| &row.contact.id).collect();
        let brevo = match link.brevo_id {
            Some(brevo) => Some(seen_in_brevo(tx, brevo)?),
            None => None,
        };
        // Before anything is planned: that notes things.
        let waiting = self.waiting(tx, &link, &members)?;
        let mut subjects: Vec<String> = ids.iter().map(|id| format!("contact {id}")).collect();
        subjects.push(subject_of(tx, &link)?);
        let events = self.events(tx, &ids)?;
        subjects.extend(events.iter().map(|event| format!("event {}", event.key)));
        let about = About::read(tx, Some(id), subjects)?;
        let told = told(tx, &ids, link.brevo_id, link.email.as_ref())?;
        let carried = carried(tx, &ids)?;
        let mut explained = Explained {
            as_of: self.now,
            link: Some(id),
            email: link.email.as_ref().map(text_of),
            standing: standing(&link),
            matched: matched(&link, &members, brevo.as_ref()),
            intercom: members.iter().map(|row| self.seen_in_intercom(tx, row)).collect::<Result<_>>()?,
            brevo,
            also_at_the_address: also_at_the_address(tx, &link)?,
            read: read_until(tx)?,
            fields: Vec::new(),
            consent: ConsentShown {
                words: None,
                intercom: (!members.is_empty()).then(|| {
                    let live = members.iter().filter(|row| row.state == ContactState::Live);
                    reasons(&live.fold(Consent::default(), |all, row| all.stricter(&row.contact.consent)))
                }),
                brevo: link.brevo_id.map(|id| tx.brevo_contact(id)).transpose()?.flatten().map(|c| reasons(&c.consent)),
                agreed: base.consent.map(|agreed| Sides { intercom: agreed.intercom_out, brevo: agreed.brevo_out }),
                agreed_sms: base.sms.map(|agreed| Sides { intercom: agreed.intercom_out, brevo: agreed.brevo_out }),
                told,
                carried,
            },
            lists: Vec::new(),
            lists_to_write: Vec::new(),
            waiting,
            events,
            import: link.import.map(|import| tx.import_shown(import)).transpose()?.flatten(),
            failures: about.failures,
            notices: about.notices,
            conflicts: about.conflicts,
            changes: about.changes,
            unknown: self.unknown(),
        };
        self.plan(tx, &link, (&base, &flights), &mut explained)?;
        Ok(Some(explained))
    }

    /// Somebody who is in no link (yet).
    fn unlinked(
        &self,
        tx: &Tx<'_>,
        intercom: Option<&IntercomContactId>,
        brevo: Option<BrevoContactId>,
    ) -> Result<Option<Explained>> {
        let row = intercom.map(|id| tx.intercom_contact(id)).transpose()?.flatten();
        let seen = brevo.map(|id| seen_in_brevo(tx, id)).transpose()?;
        let email = row.as_ref().and_then(|row| row.contact.email.clone());
        let email = email.as_ref().map(text_of).or_else(|| seen.as_ref()?.email.clone());
        let address = email.clone().map(Email::from_kept);
        let ids: Vec<&IntercomContactId> = intercom.into_iter().collect();
        let subjects = (ids.iter().map(|id| format!("contact {id}")))
            .chain(brevo.map(|id| format!("Brevo contact {id}")))
            .collect();
        let about = About::read(tx, None, subjects)?;
        let standing = match (&row, brevo) {
            (Some(_), _) => "not linked: who this is in Brevo has not been decided, or could not be (see the notices)",
            (None, _) => {
                "not linked: nobody in Intercom is this Brevo contact, as far as we have read; it is left alone"
            }
        };
        let mut waiting = Vec::new();
        if let Some(row) = &row {
            waiting::contact_waits(tx, row, &mut waiting)?;
        }
        waiting::named(tx, &ids, brevo, address.as_ref(), &mut waiting)?;
        let brevo_consent = brevo.map(|id| tx.brevo_contact(id)).transpose()?.flatten();
        Ok(Some(Explained {
            as_of: self.now,
            link: None,
            email,
            standing: standing.to_owned(),
            matched: None,
            consent: ConsentShown {
                words: None,
                intercom: row.as_ref().map(|row| reasons(&row.contact.consent)),
                brevo: brevo_consent.map(|contact| reasons(&contact.consent)),
                agreed: None,
                agreed_sms: None,
                told: told(tx, &ids, brevo, address.as_ref())?,
                carried: carried(tx, &ids)?,
            },
            intercom: row.iter().map(|row| self.seen_in_intercom(tx, row)).collect::<Result<_>>()?,
            brevo: seen,
            also_at_the_address: Vec::new(),
            read: read_until(tx)?,
            fields: Vec::new(),
            lists: Vec::new(),
            lists_to_write: Vec::new(),
            waiting,
            events: self.events(tx, &ids)?,
            import: None,
            failures: about.failures,
            notices: about.notices,
            conflicts: about.conflicts,
            changes: about.changes,
            unknown: self.unknown(),
        }))
    }

    fn seen_in_intercom(&self, tx: &Tx<'_>, row: &IntercomRow) -> Result<SeenInIntercom> {
        let contact = &row.contact;
        let waits = tx.contact_waits(&contact.id)?;
        Ok(SeenInIntercom {
            id: contact.id.to_string(),
            role: contact.role.as_str().to_owned(),
            primary: row.is_primary,
            state: match row.state {
                ContactState::Live => "there",
                ContactState::Archived => "archived",
                ContactState::Missing => "missing",
                ContactState::Deleted => "deleted",
                ContactState::Merged => "merged",
            }
            .to_owned(),
            merged_into: row.merged_into.as_ref().map(ToString::to_string),
            said_gone: waits.and_then(|waits| waits.said_gone),
            email: contact.email.as_ref().map(text_of),
            external_id: contact.external_id.clone(),
            created_at: contact.created_at,
            changed_at: contact.updated_at,
            consent: reasons(&contact.consent),
            tags: contact.tags.items.iter().map(|tag| self.names.name_of(tag)).collect(),
            companies: tx.contact_companies(&contact.id)?.iter().map(ToString::to_string).collect(),
            conversations: tx.conversations_of(&contact.id)?.len(),
        })
    }

    /// What the plan for them says, rule by rule.
    fn plan(
        &self,
        tx: &Tx<'_>,
        link: &LinkRow,
        (base, flights): (&Base, &Flights),
        explained: &mut Explained,
    ) -> Result<()> {
        let Some((ready, _)) = self.kept else { return Ok(()) };
        let shown = link.brevo_id.map(|id| tx.brevo_contact(id)).transpose()?.flatten();
        explained.lists = lists(tx, ready, base, flights, shown.as_ref())?;
        let preview = match people::gather_to_show(tx, link.id, ready, self.names)? {
            Some(person) => Some(person.preview(tx, ready)?),
            None => preview::show_left(tx, link.id, ready)?,
        };
        let Some(preview) = preview else { return Ok(()) };
        if let Some(left) = &preview.left {
            explained.standing.clone_from(left);
        }
        explained.consent.words = Some(preview.consent.clone());
        explained.lists_to_write.clone_from(&preview.lists);
        explained.fields = fields(preview, link, base, flights, &explained.failures);
        Ok(())
    }

    /// What cannot be said.
    fn unknown(&self) -> Vec<String> {
        match self.kept {
            None => vec![
                "what would be written: nobody has looked at the accounts since this version is here; the next \
                 `linkspan sync` or `run` does"
                    .to_owned(),
            ],
            Some((_, misfits)) => misfits
                .iter()
                .map(|misfit| format!("what a run would write, until config and accounts fit: {misfit}"))
                .collect(),
        }
    }
}

/// What is listed about them.
struct About {
    failures: Vec<crate::store::listings::Failure>,
    notices: Vec<crate::store::listings::NoticeRow>,
    conflicts: Vec<ConflictShown>,
    changes: Vec<ChangeShown>,
}

impl About {
    fn read(tx: &Tx<'_>, link: Option<i64>, mut subjects: Vec<String>) -> Result<Self> {
        subjects.sort();
        subjects.dedup();
        let conflicts = link.map(|link| tx.list_conflicts(Some(link), MOST_LISTED)).transpose()?.unwrap_or_default();
        let changes = link.map(|link| tx.changes(Some(link), MOST_LISTED)).transpose()?.unwrap_or_default();
        Ok(Self {
            failures: tx.failures_about(link, &subjects)?,
            notices: tx.notices_about(&subjects)?,
            conflicts: conflicts.into_iter().map(|listed| ConflictShown::from(listed.conflict)).collect(),
            changes: changes.into_iter().map(|change| ChangeShown::read(tx, change)).collect::<Result<_>>()?,
        })
    }
}

/// Until when each side's contacts have been read.
fn read_until(tx: &Tx<'_>) -> Result<Sides<Option<ReadUntil>>> {
    let of = |side: SideName| -> Result<Option<ReadUntil>> {
        Ok(tx
            .watermark(side, Resource::Contacts)?
            .map(|mark| ReadUntil { changes_until: mark.at, in_full_at: mark.full_at }))
    };
    Ok(Sides { intercom: of(SideName::Intercom)?, brevo: of(SideName::Brevo)? })
}

fn standing(link: &LinkRow) -> String {
    match link.state {
        LinkState::BrevoGone => {
            "gone in Brevo: the contact was deleted there, nothing is written, and none is made again".to_owned()
        }
        LinkState::Left => "gone in Intercom: nobody of this address is there any more; Brevo is left alone".to_owned(),
        LinkState::Active if link.import.is_some() => "in an import that is not over".to_owned(),
        LinkState::Active if link.brevo_id.is_none() => "not in Brevo yet".to_owned(),
        LinkState::Active if link.dirty != Dirty::No => "something is still to be compared or written".to_owned(),
        LinkState::Active if link.flights.is_some() && !link.answered => {
            "a write's outcome is still to be found out".to_owned()
        }
        LinkState::Active if link.base.is_empty() => "linked, and nothing has been agreed on yet".to_owned(),
        LinkState::Active => "in step".to_owned(),
    }
}

/// By what the two sides' records belong together.
fn matched(link: &LinkRow, members: &[IntercomRow], brevo: Option<&SeenInBrevo>) -> Option<String> {
    let brevo = brevo?;
    let primary = members.iter().find(|row| row.is_primary).or(members.first())?;
    let external = match (&primary.contact.external_id, &brevo.ext_id) {
        (Some(ours), Some(theirs)) if ours == theirs => "the external ids agree",
        (Some(_), Some(_)) => "the external ids differ",
        _ => "not both have an external id",
    };
    let email = match (&link.email, &brevo.email) {
        (Some(ours), Some(theirs)) if ours.as_str() == theirs => "the addresses agree",
        (Some(_), Some(_)) => "the addresses differ",
        _ => "not both have an address",
    };
    Some(format!("by their ids, whatever changes; now {external}, and {email}"))
}

fn seen_in_brevo(tx: &Tx<'_>, id: BrevoContactId) -> Result<SeenInBrevo> {
    let gone = SeenInBrevo {
        id: id.get(),
        gone: true,
        not_read_yet: false,
        email: None,
        ext_id: None,
        created_at: None,
        changed_at: None,
        consent: None,
        lists: Vec::new(),
        lists_left: Vec::new(),
    };
    let Some(contact) = tx.brevo_contact(id)? else { return Ok(gone) };
    let names = tx.lists()?;
    let named = |list: &crate::model::BrevoListId| names.get(list).map_or_else(|| format!("list {list}"), Clone::clone);
    let known = |at: DateTime<Utc>| (at > DateTime::<Utc>::default()).then_some(at);
    Ok(SeenInBrevo {
        gone: false,
        not_read_yet: tx.is_brevo_provisional(id)?,
        email: contact.email.as_ref().map(text_of),
        ext_id: contact.ext_id.clone(),
        created_at: known(contact.created_at),
        changed_at: known(contact.modified_at),
        consent: Some(reasons(&contact.consent)),
        lists: contact.lists.iter().map(named).collect(),
        lists_left: contact.lists_left.iter().map(named).collect(),
        ..gone
    })
}

/// Brevo contacts that show the person's address and are not theirs.
fn also_at_the_address(tx: &Tx<'_>, link: &LinkRow) -> Result<Vec<SeenInBrevo>> {
    let Some(email) = &link.email else { return Ok(Vec::new()) };
    let others = tx.brevo_ids_by_email(email)?.into_iter().filter(|id| Some(*id) != link.brevo_id);
    others.map(|id| seen_in_brevo(tx, id)).collect()
}

/// The opt-outs that notices carried.
fn told(
    tx: &Tx<'_>,
    ids: &[&IntercomContactId],
    brevo: Option<BrevoContactId>,
    email: Option<&Email>,
) -> Result<Vec<OptOutShown>> {
    let mut told = Vec::new();
    for id in ids {
        told.extend(tx.opt_outs(id)?.into_iter().map(|fact| OptOutShown {
            side: SideName::Intercom,
            contact: Some(id.to_string()),
            channel: if fact.channel == Channel::Sms { "sms" } else { "email" }.to_owned(),
            reason: None,
            email: fact.email.as_ref().map(text_of),
            notice: fact.source,
            at: fact.at,
            taken_back_at: fact.over_at,
        }));
    }
    if brevo.is_some() || email.is_some() {
        told.extend(tx.brevo_opt_outs(brevo, email)?.into_iter().map(|fact| OptOutShown {
            side: SideName::Brevo,
            contact: fact.contact.map(|id| id.to_string()),
            channel: "email".to_owned(),
            reason: Some(fact.reason),
            email: (!fact.was_lifted()).then(|| text_of(&fact.email)),
            notice: fact.source,
            at: fact.at,
            taken_back_at: fact.over_at,
        }));
    }
    told.sort_by_key(|fact| fact.at);
    Ok(told)
}

fn carried(tx: &Tx<'_>, ids: &[&IntercomContactId]) -> Result<Vec<Carrying>> {
    let mut all = Vec::new();
    for id in ids {
        all.extend(tx.carried(id)?.map(|row| Carrying {
            contact: row.contact.to_string(),
            told: row.told,
            due: row.due.filter(|due| *due < held_until()),
            held: row.due.is_some_and(|due| due >= held_until()),
            may_land_until: row.until.filter(|_| !row.landed),
            ours: row.ours,
            tries: row.tries,
        }));
    }
    Ok(all)
}

fn flight_of(flights: &Flights, side: SideName, rule: &str) -> Option<FlightShown> {
    let write = flights.field(side, rule)?;
    Some(FlightShown { sent: cells_of(&write.sent), before: cells_of(&write.before) })
}

fn fields(
    preview: Preview,
    link: &LinkRow,
    base: &Base,
    flights: &Flights,
    failures: &[crate::store::listings::Failure],
) -> Vec<FieldShown> {
    let shown = preview.fields.into_iter().map(|field| {
        let agreed = base.fields.get(&field.rule);
        let held_back = link.quarantined.get(&field.rule).map(|kept| match serde_json::from_str::<Cells>(kept) {
            Ok(cells) => cells_of(&cells),
            Err(_) => vec![kept.as_str().into()],
        });
        let in_flight = Sides::from_fn(|side| flight_of(flights, side, &field.rule));
        let status = if agreed.is_some_and(crate::reconcile::fields::FieldBase::is_refused) {
            "refused"
        } else if held_back.is_some() {
            "held back"
        } else if in_flight.intercom.is_some() || in_flight.brevo.is_some() {
            "on its way"
        } else if !field.write.is_empty() || !field.write_intercom.is_empty() {
            "to be written"
        } else if field.why != "in step" {
            "not written"
        } else if agreed.is_none() {
            "nothing yet"
        } else {
            "in step"
        };
        let failure = failures.iter().find(|failure| failure.field == field.rule);
        FieldShown {
            status: status.to_owned(),
            agreed: agreed.map(|agreed| Sides {
                intercom: cells_of(&agreed.agreed.intercom),
                brevo: cells_of(&agreed.agreed.brevo),
            }),
            refused: agreed.map(|agreed| Sides::from_fn(|side| agreed.refused[side].as_ref().map(cells_of))),
            held_back,
            in_flight,
            failure: failure.map(|failure| failure.message.clone()),
            rule: field.rule,
            intercom: field.intercom,
            brevo: field.brevo,
            write: field.write,
            write_intercom: field.write_intercom,
            why: field.why,
        }
    });
    shown.collect()
}

/// Their lists: those that the mapping names, those that they are on, and those that were agreed on.
fn lists(
    tx: &Tx<'_>,
    ready: &Ready,
    base: &Base,
    flights: &Flights,
    contact: Option<&BrevoContact>,
) -> Result<Vec<ListShown>> {
    let names = tx.lists()?;
    let mut rules: BTreeMap<_, Vec<String>> = BTreeMap::new();
    for (rule, list) in &ready.lists {
        rules.entry(*list).or_default().push(rule.key.clone());
    }
    let on = contact.map(|contact| contact.lists.clone()).unwrap_or_default();
    let left = contact.map(|contact| contact.lists_left.clone()).unwrap_or_default();
    let mut all: BTreeSet<_> = rules.keys().chain(&on).chain(&left).chain(base.lists.keys()).copied().collect();
    all.remove(&ready.technical_list);
    let shown = all.into_iter().map(|list| ListShown {
        list: list.get(),
        name: names.get(&list).cloned(),
        rules: rules.get(&list).cloned().unwrap_or_default(),
        member: contact.map(|_| on.contains(&list)),
        unsubscribed: left.contains(&list),
        agreed_member: base.lists.get(&list).map(|agreed| agreed.member),
        wanted_then: base.lists.get(&list).map(|agreed| agreed.wanted),
        in_flight: flights.lists.get(&list).copied(),
    });
    Ok(shown.collect())
}
