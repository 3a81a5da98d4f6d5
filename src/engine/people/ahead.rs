//! Opt-outs that go by themselves: ahead of a write whose outcome is not known yet, and of people who are gone.

use super::{Names, Person, Planned, gather};
use crate::engine::observe::{base_of, flights_of};
use crate::engine::safety::{Gate, Harm, Judged};
use crate::engine::{Ready, carry, place};
use crate::model::{Consent, Fields, OptOutReason, Sides};
use crate::reconcile::consent::ConsentBase;
use crate::reconcile::person::PersonPlan;
use crate::store::contacts::ContactState;
use crate::store::facts::LastNo;
use crate::store::links::{LinkRow, LinkState};
use crate::store::{Result, Tx};

/// Gathers a person of whom something may be written to Brevo: also one whom nobody is left of, if Brevo has not been told
/// what they had said no to. `None`: nothing is to be planned for this link (and it is marked so).
pub(in crate::engine) fn gather_to_push(tx: &Tx<'_>, id: i64, ready: &Ready, names: &Names) -> Result<Option<Person>> {
    let nos = tx.last_nos(id)?;
    let gone = if nos.is_empty() { None } else { gather_gone(tx, id, nos)? };
    if gone.is_some() { Ok(gone) } else { gather(tx, id, ready, names) }
}

/// Who is gone, as far as their consent is concerned. `None`: somebody is there, or the contact in Brevo is not, or is
/// another's by now.
fn gather_gone(tx: &Tx<'_>, id: i64, nos: Vec<LastNo>) -> Result<Option<Person>> {
    let is_theirs = |link: &LinkRow| link.state != LinkState::BrevoGone && link.import.is_none();
    let Some(link) = tx.link(id)?.filter(is_theirs) else { return Ok(None) };
    let Some(brevo) = link.brevo_id.map(|brevo| tx.brevo_contact(brevo)).transpose()?.flatten() else {
        return Ok(None);
    };
    if tx.members(id)?.iter().any(|row| row.state == ContactState::Live) {
        return Ok(None);
    }
    // Somebody gave it another address by hand, by which somebody else is known.
    if let Some(shown) = brevo.email.as_ref().filter(|shown| link.email.as_ref() != Some(shown))
        && tx.has_address_in_intercom(shown)?
    {
        return Ok(None);
    }
    let Some(primary) = nos.first().map(|no| no.contact.clone()) else { return Ok(None) };
    let (base, mut flights) = (base_of(&link)?, flights_of(&link)?);
    // What a row lifts that lands late is put back as long as they are not told.
    flights.may_loosen |= tx.may_land_late(brevo.id)?;
    // What had been agreed on stays so: should they come back, it is no news.
    let agreed = |consent: Option<ConsentBase>| consent.is_some_and(|consent| consent.intercom_out);
    let email_out = nos.iter().any(|no| no.email) || agreed(base.consent);
    let consent = Consent {
        email_opt_outs: email_out.then_some(OptOutReason::Unsubscribed).into_iter().collect(),
        sms_opted_out: nos.iter().any(|no| no.sms) || agreed(base.sms),
    };
    Ok(Some(Person {
        link,
        base,
        flights,
        record: Fields::new(),
        consent,
        external_id: None,
        brevo: Some(brevo),
        primary,
        members: nos.into_iter().map(|no| carry::is_heard(no.contact, no.email)).collect(),
        tells: false,
        waits_for_intercom: false,
        waits: false,
        takes_no_row: true,
        changed: Sides::default(),
        brevo_may_be_old: true,
        part: Sides::default(),
        part_problem: None,
        at_rest: None,
        gone: true,
    }))
}

impl Person {
    /// While the outcome of a write is not known, nothing is planned but an opt-out: it sets one flag, whatever the
    /// earlier write did or still does. That one goes on being watched as it was; should it land late and lift the
    /// blocklisting (a rename does), the read that verifies it shows that, and the opt-out is written again.
    pub(super) fn plan_ahead(
        self,
        plan: PersonPlan,
        tx: &Tx<'_>,
        ready: &Ready,
        gate: &mut Gate,
    ) -> Result<Option<Planned>> {
        let mut plan = plan.only_opt_out(&self.base, &self.flights);
        match gate.judge(tx, &self, &plan, ready)? {
            Judged::AsItIs => {}
            Judged::Without(less) => plan = *less,
            Judged::Aside => return Ok(None),
        }
        if !self.opts_out(&plan) {
            // Urgent for nothing: what else there is waits for the verifying read, which marks the link again.
            tx.no_opt_out(self.link.id)?;
            return Ok(None);
        }
        let Some(harm) = gate.goes(tx, &self, &plan)? else { return Ok(None) };
        Ok(Some(self.goes_alone(plan, harm, true)))
    }

    /// Brevo is told what somebody had said no to who is gone, and nothing else. It is to be told until it has accepted that.
    pub(super) fn plan_last_no(
        self,
        plan: PersonPlan,
        tx: &Tx<'_>,
        ready: &Ready,
        gate: &mut Gate,
    ) -> Result<Option<Planned>> {
        let (link, ahead) = (self.link.id, self.awaits_answer());
        let mut plan = plan.only_opt_out(&self.base, &self.flights);
        if ahead && !self.opts_out(&plan) {
            // It may have landed, or still may: the read that tells marks the link again.
            tx.no_opt_out(link)?;
            return Ok(None);
        }
        if plan.change.is_empty() {
            // It was told beside an import, or by another write. But a row that lands late may lift it.
            let may_be_lifted = self.brevo.as_ref().map_or(Ok(false), |contact| tx.may_land_late(contact.id))?;
            if !may_be_lifted {
                tx.last_nos_are_told(link, true, true)?;
            }
            tx.give_up(link)?;
            return place::let_go(tx, link).map(|()| None);
        }
        match gate.judge(tx, &self, &plan, ready)? {
            Judged::AsItIs => {}
            Judged::Without(less) => plan = *less,
            Judged::Aside => return Ok(None),
        }
        if plan.change.is_empty() {
            // Held. Whoever lets it go marks the link again.
            tx.give_up(link)?;
            return Ok(None);
        }
        let Some(harm) = gate.goes(tx, &self, &plan)? else { return Ok(None) };
        Ok(Some(self.goes_alone(plan, harm, ahead)))
    }

    fn goes_alone(self, plan: PersonPlan, harm: Harm, ahead: bool) -> Planned {
        Planned {
            only_opt_out: true,
            ahead,
            harm,
            link: self.link.id,
            plan,
            email: self.link.email,
            brevo: self.brevo,
            importable: false,
            marks: self.link.marks,
            rename_to: None,
            watched: self.link.flights,
            parcel: None,
        }
    }
}
