//! Brevo's JSON → our records. Takes what it needs and bears the rest: nulls, missing keys, new keys, numbers as text.

use crate::http::lean::Json;
use crate::model::{BrevoContact, BrevoContactId, BrevoListId, Consent, Email, OptOutReason};
use chrono::{DateTime, NaiveDateTime, Utc};
use std::collections::BTreeSet;

/// A whole number, also when written as text.
pub(super) fn whole(json: Json<'_>) -> Option<i64> {
    json.as_i64().or_else(|| json.as_str()?.trim().parse().ok())
}

/// Text that says something.
pub(super) fn text<'t>(json: Json<'t>, key: &str) -> Option<&'t str> {
    json.get(key)?.as_str().filter(|text| !text.trim().is_empty())
}

/// An instant. Brevo writes its account's local offset where its documentation says UTC, with or without milliseconds.
pub(super) fn instant(json: Json<'_>) -> Option<DateTime<Utc>> {
    let text = json.as_str()?.trim();
    let parsed =
        DateTime::parse_from_rfc3339(text).or_else(|_| DateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f%z"));
    let parsed = parsed.map(|instant| instant.to_utc()).ok();
    parsed.or_else(|| NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f").ok().map(|naive| naive.and_utc()))
}

/// The rows of a page, and how many there are in all. A page without its rows is empty only if it says "none": to take
/// any odd answer for the end of a sweep would make records look deleted.
pub(super) fn rows<'t>(page: Json<'t>, key: &str) -> Option<(Vec<Json<'t>>, Option<u64>)> {
    let total = page.get("count").and_then(whole).and_then(|count| u64::try_from(count).ok());
    match page.get(key) {
        Some(rows) if rows.is_array() => Some((rows.items().collect(), total)),
        None if total == Some(0) => Some((Vec::new(), total)),
        _ => None,
    }
}

fn ids(json: Json<'_>) -> BTreeSet<BrevoListId> {
    json.items().filter_map(whole).map(BrevoListId::new).collect()
}

/// A contact; `None` if it has no id, without which nothing can be done with it.
pub(super) fn contact(json: Json<'_>) -> Option<BrevoContact> {
    let (mut id, mut email, mut ext_id, mut ext_id_attribute) = (None, None, None, None);
    let (mut created_at, mut modified_at) = (None, None);
    let mut consent = Consent::default();
    let (mut lists, mut lists_left) = (BTreeSet::new(), BTreeSet::new());
    let mut attributes = Vec::with_capacity(16);
    for (name, json) in json.members() {
        match name {
            "id" => id = whole(json),
            "email" => email = json.as_str().and_then(|email| Email::parse(email).ok()),
            "ext_id" => ext_id = identifier(json),
            "createdAt" => created_at = instant(json),
            "modifiedAt" => modified_at = instant(json),
            "emailBlacklisted" if json.as_bool() == Some(true) => {
                consent.email_opt_outs.insert(OptOutReason::Blocklisted);
            }
            "smsBlacklisted" => consent.sms_opted_out = json.as_bool() == Some(true),
            "listIds" => lists = ids(json),
            "listUnsubscribed" => lists_left = ids(json),
            "attributes" => {
                for (name, json) in json.members() {
                    // Written in any case, read in upper case, and once documented in lower case.
                    let name = if name.is_ascii() { name.to_ascii_uppercase() } else { name.to_uppercase() };
                    match name.as_str() {
                        "EMAIL" => {}
                        "EXT_ID" => ext_id_attribute = ext_id_attribute.or_else(|| identifier(json)),
                        _ => attributes.extend(json.to_value().map(|value| (name, value))),
                    }
                }
            }
            _ => {}
        }
    }
    let modified_at = modified_at.or(created_at).unwrap_or(DateTime::UNIX_EPOCH);
    Some(BrevoContact {
        id: BrevoContactId::new(id?),
        email,
        ext_id: ext_id.or(ext_id_attribute),
        created_at: created_at.unwrap_or(modified_at),
        modified_at,
        consent,
        lists,
        lists_left,
        attributes: attributes.into_iter().collect(),
    })
}

/// The customer's own id, which some write as a number.
pub(super) fn identifier(json: Json<'_>) -> Option<String> {
    match json.as_str() {
        Some(text) => Some(text).filter(|text| !text.trim().is_empty()).map(str::to_owned),
        None => json.as_number().map(ToString::to_string),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::lean::Tree;
    use crate::model::{Number, Value};
    use serde_json::{Value as Plain, json};

    fn contact(json: &Plain) -> Option<BrevoContact> {
        super::contact(Tree::from(json).root())
    }

    #[test]
    fn a_live_contact_decodes() {
        let contact =
            contact(&json!({"id":1,"email":"AlexB@example.com","emailBlacklisted":false,"smsBlacklisted":false,
            "whatsappBlacklisted":false,"createdAt":"2026-08-01T19:43:31.777+02:00",
            "modifiedAt":"2026-08-01T19:45:17.088+02:00",
            "attributes":{"FIRSTNAME":"Alex","LASTNAME":"Bair","SMS":"14196056306","ext_id":"u-7","EMAIL":"x@y.z"},
            "listIds":[2],"listUnsubscribed":null,"subscriptions":{}}))
            .unwrap();
        assert_eq!(contact.email.unwrap().as_str(), "alexb@example.com");
        assert_eq!(contact.modified_at, "2026-08-01T17:45:17.088Z".parse::<DateTime<Utc>>().unwrap());
        assert_eq!(contact.ext_id.as_deref(), Some("u-7"));
        assert_eq!(contact.attributes.keys().collect::<Vec<_>>(), ["FIRSTNAME", "LASTNAME", "SMS"]);
        assert_eq!(contact.lists, BTreeSet::from([BrevoListId::new(2)]));
        assert!(contact.lists_left.is_empty() && !contact.consent.email_opted_out());
    }

    #[test]
    fn a_phone_only_contact_has_no_address() {
        let contact = contact(&json!({"email":"33058407248@mailin-sms.com","id":245,"emailBlacklisted":true,
            "smsBlacklisted":true,"createdAt":"2017-05-01T17:05:03Z","modifiedAt":"2017-05-01T17:05:03Z",
            "listIds":[43,58],"attributes":{"CIV":"MS","DOB":"1986-05-02","SMS":"33058407248"}}))
        .unwrap();
        assert_eq!(contact.email, None);
        assert!(contact.consent.email_opted_out() && contact.consent.sms_opted_out);
    }

    #[test]
    fn the_least_and_the_oddest_contact_decode() {
        let least = contact(&json!({"id": 7})).unwrap();
        assert_eq!((least.email, least.created_at), (None, DateTime::UNIX_EPOCH));
        let odd = contact(&json!({"id":"8","email":null,"attributes":{"AGE":3.0,"X":null,"EXT_ID":42},"listIds":null,
            "createdAt":12,"modifiedAt":"2026-08-01T19:45:17+0200","emailBlacklisted":null}))
        .unwrap();
        assert_eq!(odd.attributes.get("AGE"), Some(&Value::Number(Number::Whole(3))));
        assert_eq!((odd.ext_id.as_deref(), odd.attributes.len()), (Some("42"), 1));
        assert_eq!(odd.created_at, odd.modified_at);
        for hopeless in [json!({}), json!(null), json!([1]), json!({"id": null})] {
            assert_eq!(contact(&hopeless), None);
        }
    }

    #[test]
    fn only_a_page_that_says_none_is_empty() {
        let rows = |json: Plain, key| rows(Tree::from(&json).root(), key).map(|(rows, total)| (rows.len(), total));
        assert_eq!(rows(json!({"count": 0}), "lists"), Some((0, Some(0))));
        assert_eq!(rows(json!({"contacts": [], "count": 9}), "contacts"), Some((0, Some(9))));
        for odd in [json!({}), json!([]), json!({"count": 3}), json!({"contacts": {}, "count": 0}), json!("x")] {
            assert_eq!(rows(odd.clone(), "contacts"), None, "{odd}");
        }
    }
}
