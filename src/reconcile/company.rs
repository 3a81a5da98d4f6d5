//! Which of a contact's companies speaks for it.

use crate::model::{Company, IntercomCompanyId};
use chrono::NaiveDate;
use std::cmp::Reverse;

/// The most recently active company, counted in days of UTC: `last_request_at` moves with every visit of anybody in
/// the company, so that a finer measure would make contacts flip between two companies all day long. On a tie the one
/// that speaks for the contact already, then the smallest id.
pub fn pick<'a>(companies: &'a [Company], present: Option<&IntercomCompanyId>) -> Option<&'a Company> {
    companies.iter().min_by_key(|company| {
        let day: Option<NaiveDate> = company.last_request_at.map(|at| at.date_naive());
        (Reverse(day), present != Some(&company.id), &company.id)
    })
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
}
