//! Companies: which of several speaks for a contact, and what is to be written where one is kept in step with a company
//! of Brevo's.

use super::fields;
use super::person::{self, Base, Flights, PersonPlan, PersonViews, Settled};
use super::taking_part::Part;
use crate::mapping::{FieldProblem, Mapping};
use crate::model::{
    BrevoCompany, BrevoContact, BrevoContactId, Company, Consent, Fields, IntercomCompanyId, SideName, Sides, Value,
};
use chrono::{DateTime, NaiveDate};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// The most recently active company, counted in days of UTC: `last_request_at` moves with every visit of anybody in
/// the company, so that a finer measure would make contacts flip between two companies all day long. On a tie the one
/// that speaks for the contact already, then the smallest id.
pub fn pick<'a>(companies: &'a [Company], present: Option<&IntercomCompanyId>) -> Option<&'a Company> {
    companies.iter().min_by_key(|company| {
        let day: Option<NaiveDate> = company.last_request_at.map(|at| at.date_naive());
        (Reverse(day), present != Some(&company.id), &company.id)
    })
}

/// The three views of a company, and what else the plan depends on.
#[derive(Debug, Clone)]
pub struct CompanyViews<'a> {
    /// What Intercom shows.
    pub intercom: &'a Company,
    /// What Brevo shows; `None`: there is none yet.
    pub brevo: Option<&'a BrevoCompany>,
    /// What both agreed on.
    pub base: &'a Base,
    /// Our writes on their way.
    pub flights: &'a Flights,
    /// Values that a side refused, by rule.
    pub quarantined: &'a BTreeMap<String, String>,
    /// Whether drift is restored.
    pub sweep: bool,
    /// Our own attribute was sent, and no read has shown it since.
    pub ours_sent: bool,
    /// Whether it is written, on each side.
    pub part: Sides<Part>,
    /// Why that cannot be told.
    pub part_problem: Option<&'a FieldProblem>,
}

/// What the mapping sees of a company: its fields under the paths that a contact's record has them under.
pub fn record(company: &Company) -> Fields {
    company.fields.iter().map(|(path, value)| (format!("company.{path}"), value.clone())).collect()
}

/// Brevo's company as somebody of whom nothing is known but attributes: fields are decided about as those of people are.
fn stand_in(company: &BrevoCompany) -> BrevoContact {
    BrevoContact {
        id: BrevoContactId::new(0),
        email: None,
        ext_id: None,
        created_at: DateTime::UNIX_EPOCH,
        modified_at: company.modified_at.unwrap_or(DateTime::UNIX_EPOCH),
        consent: Consent::default(),
        lists: BTreeSet::new(),
        lists_left: BTreeSet::new(),
        attributes: company.attributes.clone(),
    }
}

/// Plans for one company: all fields, in whichever direction they travel. Of the plan only what is about fields is used.
pub fn plan(views: &CompanyViews<'_>, mapping: &Mapping) -> PersonPlan {
    let brevo = views.brevo.map(stand_in);
    let record = record(views.intercom);
    let mut plan = person::plan(
        &PersonViews {
            record: &record,
            email: None,
            external_id: None,
            consent: &Consent::default(),
            members: &[],
            tells: false,
            brevo: brevo.as_ref(),
            base: views.base,
            flights: views.flights,
            waits_for_intercom: false,
            rename_to: None,
            quarantined: views.quarantined,
            // Nobody notes when companies changed: where both sides did, the tie's rule decides.
            changed: Sides::default(),
            sweep: views.sweep,
            brevo_may_be_old: false,
            part: views.part,
            part_problem: views.part_problem,
        },
        mapping,
        &[],
    );
    (plan.base.consent, plan.base.sms) = (None, None);
    // A company without a name is none: Brevo refuses the request, and with it all else that it says.
    if plan.change.attributes.get(BrevoCompany::NAME) == Some(&None) {
        plan.change.attributes.remove(BrevoCompany::NAME);
    }
    // Whose it is is said again where somebody has changed it.
    let ours = views.brevo.and_then(BrevoCompany::intercom);
    let goes = views.part.brevo == Part::Takes;
    if goes && ours.as_ref() != Some(&views.intercom.id) && !(views.ours_sent && views.brevo.is_some()) {
        let id = Value::text(views.intercom.id.as_str());
        plan.change.attributes.insert(BrevoCompany::OURS.to_owned(), id);
    }
    plan
}

/// Settles the writes on their way to Brevo's company against what it shows.
pub fn settle(base: &Base, flights: &Flights, answered: bool, shown: &BrevoCompany, mapping: &Mapping) -> Settled {
    person::settle(base, flights, answered, &stand_in(shown), mapping)
}

/// The same for the writes on their way to Intercom's.
pub fn settle_intercom(base: &Base, flights: &Flights, answered: bool, shown: &Company, mapping: &Mapping) -> Settled {
    person::settle_intercom(base, flights, answered, &record(shown), mapping, &[])
}

/// Values that a side refused and that would still be sent.
pub fn still_quarantined(
    quarantined: &BTreeMap<String, String>,
    intercom: &Company,
    brevo: Option<&BrevoCompany>,
    mapping: &Mapping,
) -> BTreeMap<String, String> {
    let mut left = quarantined.clone();
    if left.is_empty() {
        return left;
    }
    let record = record(intercom);
    left.retain(|key, refused| {
        let Some(rule) = mapping.rules.iter().find(|rule| rule.key == *key) else { return false };
        person::is_still_refused(rule, refused, &record, brevo.map(|company| &company.attributes))
    });
    left
}

/// Whether somebody has edited in Intercom what a write of ours set that no read has settled.
pub fn is_edited(flights: &Flights, shown: &Company, mapping: &Mapping) -> bool {
    let record = record(shown);
    mapping.rules.iter().any(|rule| {
        let write = flights.fields.get(&rule.key).and_then(|writes| writes.intercom.as_ref());
        write.is_some_and(|write| {
            fields::judge(SideName::Intercom, write, &vec![rule.source_value(&record)]) == fields::Verdict::Edited
        })
    })
}

/// Which contacts are to be linked with Brevo's company, and which taken off it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Links {
    /// To link.
    pub link: BTreeSet<BrevoContactId>,
    /// To take off.
    pub unlink: BTreeSet<BrevoContactId>,
    /// There already, as they are to be: ours from now on.
    pub agreed: BTreeSet<BrevoContactId>,
}

/// Who belongs to a company is Intercom's to say. Whom people in Brevo have linked themselves stays linked; taken off is
/// only who is there by our doing.
pub fn links(
    wanted: &BTreeSet<BrevoContactId>,
    shown: &BTreeSet<BrevoContactId>,
    ours: &BTreeSet<BrevoContactId>,
) -> Links {
    Links {
        link: wanted.difference(shown).copied().collect(),
        unlink: ours.difference(wanted).filter(|contact| shown.contains(contact)).copied().collect(),
        agreed: wanted.intersection(shown).copied().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{TimeZone, Utc};

    fn company(id: &str, active: Option<(u32, u32)>) -> Company {
        Company {
            id: IntercomCompanyId::new(id),
            company_id: None,
            updated_at: None,
            last_request_at: active.map(|(day, hour)| Utc.with_ymd_and_hms(2026, 5, day, hour, 0, 0).unwrap()),
            fields: std::collections::BTreeMap::default(),
        }
    }

    fn picked(companies: &[Company], present: Option<&str>) -> Option<String> {
        pick(companies, present.map(IntercomCompanyId::new).as_ref()).map(|company| company.id.to_string())
    }

    #[test]
    fn the_most_recently_active_day_wins() {
        let companies = [company("a", None), company("b", Some((1, 0))), company("c", Some((2, 0)))];
        assert_eq!(picked(&companies, Some("b")).as_deref(), Some("c"));
        assert_eq!(picked(&[], None), None);
    }

    #[test]
    fn within_a_day_the_present_one_stays() {
        let companies = [company("a", Some((2, 1))), company("b", Some((2, 23)))];
        assert_eq!(picked(&companies, Some("a")).as_deref(), Some("a"));
        assert_eq!(picked(&companies, Some("b")).as_deref(), Some("b"));
        assert_eq!(picked(&companies, Some("gone")).as_deref(), Some("a"));
        assert_eq!(picked(&companies, None).as_deref(), Some("a"));
    }

    #[test]
    fn only_who_is_there_by_our_doing_is_taken_off() {
        let ids = |ids: &[i64]| ids.iter().copied().map(BrevoContactId::new).collect::<BTreeSet<_>>();
        // 1 stays, 2 is new, 3 has left, 4 was linked by hand, 5 has left and somebody has taken it off already.
        let links = links(&ids(&[1, 2]), &ids(&[1, 3, 4]), &ids(&[1, 3, 5]));
        assert_eq!(links, Links { link: ids(&[2]), unlink: ids(&[3]), agreed: ids(&[1]) });
    }
}
