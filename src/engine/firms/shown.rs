//! What was seen of a company on either side: its view, which it is, and what became of our writes.

use crate::engine::observe::{Source, pack_base};
use crate::model::{BrevoCompany, BrevoCompanyId, Company, IntercomCompanyId, SideName};
use crate::reconcile::company;
use crate::reconcile::person::{Base, Flights, Settled};
use crate::store::firms::Firm;
use crate::store::listings::NewFailure;
use crate::store::{Packed, Result as Stored, Tx};
use chrono::{DateTime, Utc};

/// How a company is named in lists.
pub(super) fn subject_of(company: &IntercomCompanyId) -> String {
    format!("company {company}")
}

/// What both sides agreed on. What cannot be read back is as if they had never agreed.
pub(super) fn base_of(firm: &Firm) -> Base {
    firm.base.as_ref().and_then(|base| base.unpack("firms.base").ok()).unwrap_or_default()
}

/// Our writes on their way.
pub(super) fn flights_of(firm: &Firm) -> Flights {
    firm.watched.as_ref().and_then(|watched| watched.unpack("firms.watched").ok()).unwrap_or_default()
}

/// Writes on their way as a row keeps them.
pub(super) fn pack_flights(tx: &Tx<'_>, flights: &Flights) -> Stored<Option<Packed>> {
    (!flights.fields.is_empty()).then(|| tx.pack("firms.watched", flights)).transpose()
}

/// Brevo shows a company.
pub(in crate::engine) fn brevo_company(source: &Source, tx: &Tx<'_>, seen: &BrevoCompany) -> Stored<bool> {
    let known = tx.brevo_company(&seen.id)?;
    if !source.authoritative && known.is_some_and(|known| known.modified_at > seen.modified_at) {
        return Ok(false);
    }
    let changed = tx.put_brevo_company(seen)?;
    let mut firm = match (tx.firm_by_brevo(&seen.id)?, seen.intercom()) {
        (Some(firm), _) => firm,
        (None, None) => return Ok(changed),
        (None, Some(ours)) => {
            let Some(firm) = tx.firm_of(&ours)? else { return Ok(changed) };
            if let Some(other) = &firm.brevo {
                // Nothing is unique there: somebody has copied it, or filled in the attribute by hand.
                let detail = format!("Brevo companies {other} (kept in step) and {} (left alone)", seen.id);
                tx.put_notice("company_twice", &subject_of(&ours), Some(&detail), source.now)?;
                return Ok(changed);
            }
            // What makes it has landed, and whole: what it does not show has been passed over.
            let made_by_us = firm.making.is_some() || firm.imported;
            let verify_after = if made_by_us { Some(source.read_began) } else { firm.verify_after };
            let (brevo, due) = (Some(seen.id.clone()), Some(source.now));
            let firm = Firm { brevo, making: None, imported: false, due, verify_after, ..firm };
            tx.put_firm(&firm)?;
            if made_by_us {
                tx.linked_contacts_land_by(firm.id, source.read_began)?;
            }
            firm
        }
    };
    if firm.gone == Some(SideName::Brevo) {
        // It was not gone after all.
        firm.gone = None;
        firm.due = Some(source.now);
        tx.clear_notice("brevo_company_gone", &subject_of(&firm.intercom))?;
        tx.put_firm(&firm)?;
    }
    if changed && firm.due.is_none() && firm.gone.is_none() {
        firm.due = Some(source.now);
        tx.put_firm(&firm)?;
    }
    tx.linked_contacts_shown(firm.id, &seen.contacts)?;
    if firm.ours_sent && seen.intercom().as_ref() == Some(&firm.intercom) {
        firm.ours_sent = false;
        tx.put_firm(&firm)?;
    }
    settle_brevo(source, tx, firm, seen)?;
    Ok(changed)
}

/// A read that began late enough tells what became of what was written to Brevo.
pub(super) fn settle_brevo(source: &Source, tx: &Tx<'_>, firm: Firm, seen: &BrevoCompany) -> Stored<()> {
    let Some(ready) = &source.ready.firms else { return Ok(()) };
    for row in tx.linked_contacts(firm.id)? {
        if row.off_until.is_some_and(|until| until <= source.read_began) && !seen.contacts.contains(&row.contact) {
            tx.drop_linked_contact(firm.id, row.contact)?;
        }
    }
    let late_enough = firm.verify_after.is_some_and(|after| after <= source.read_began);
    // (Of one that is changed by an import, only a read after its end comes late enough.)
    if !late_enough || firm.making.is_some() || firm.unanswered == Some(SideName::Intercom) {
        return Ok(());
    }
    let (base, flights) = (base_of(&firm), flights_of(&firm));
    let answered = firm.unanswered.is_none();
    let settled = company::settle(&base, &flights, answered, seen, &ready.mapping);
    settle_as(tx, firm, SideName::Brevo, &base, &settled, source.now)
}

/// Intercom shows a company.
pub(in crate::engine) fn intercom_company(source: &Source, tx: &Tx<'_>, seen: &Company, changed: bool) -> Stored<()> {
    let Some(ready) = &source.ready.firms else { return Ok(()) };
    tx.set_firm_gone(&seen.id, false)?;
    if changed {
        tx.mark_firm(&seen.id)?;
    }
    let Some(firm) = tx.firm_of(&seen.id)?.filter(|firm| firm.watched.is_some()) else { return Ok(()) };
    let late_enough = firm.verify_after.is_some_and(|after| after <= source.read_began);
    if !late_enough || firm.making.is_some() || firm.imported || firm.unanswered == Some(SideName::Brevo) {
        return Ok(());
    }
    let (base, flights) = (base_of(&firm), flights_of(&firm));
    let answered = firm.unanswered.is_none();
    let settled = company::settle_intercom(&base, &flights, answered, seen, &ready.mapping);
    settle_as(tx, firm, SideName::Intercom, &base, &settled, source.now)
}

fn settle_as(
    tx: &Tx<'_>,
    firm: Firm,
    side: SideName,
    before: &Base,
    settled: &Settled,
    now: DateTime<Utc>,
) -> Stored<()> {
    let answered = firm.unanswered.is_none();
    super::turn::put_conflicts(tx, &firm, &settled.lost, now)?;
    let subject = subject_of(&firm.intercom);
    for rule in &settled.refused {
        let message = "it accepted the request, but kept the old value; it is not sent again until the source, the \
                       mapping or the attribute changes";
        let failure = NewFailure::left_out(None, &subject, rule, message);
        tx.put_failure(&NewFailure { refused_by: Some(side), ..failure }, now)?;
    }
    let watched = pack_flights(tx, &settled.flights)?;
    let again = !answered || settled.edited || settled.base != *before || watched.is_some();
    tx.put_firm(&Firm {
        base: Some(pack_base(tx, &settled.base)?),
        verify_after: firm.verify_after.filter(|_| watched.is_some()),
        watched,
        unanswered: None,
        // What an import has lost goes alone.
        tries: if firm.imported { firm.tries.max(1) } else { firm.tries },
        imported: false,
        due: if again { firm.due.or(Some(now)) } else { firm.due },
        ..firm
    })
}

/// Brevo's company is gone: counted and listed, never made again.
pub(in crate::engine) fn brevo_company_gone(tx: &Tx<'_>, id: &BrevoCompanyId, now: DateTime<Utc>) -> Stored<bool> {
    tx.drop_brevo_company(id)?;
    let Some(firm) = tx.firm_by_brevo(id)?.filter(|firm| firm.gone.is_none()) else { return Ok(false) };
    tx.clear_failures_of(&subject_of(&firm.intercom), &[])?;
    tx.put_notice("brevo_company_gone", &subject_of(&firm.intercom), None, now)?;
    tx.put_firm(&Firm {
        gone: Some(SideName::Brevo),
        due: None,
        watched: None,
        unanswered: None,
        verify_after: None,
        ..firm
    })?;
    Ok(true)
}
