//! Search, cursors and lists.

use super::*;

#[tokio::test]
async fn dates_match_by_the_workspaces_day() {
    let bench = Bench::with(|options| options.index_lag = Duration::ZERO);
    // 20:00 UTC on the 10th is 13:00 of the 10th in Los Angeles; the next one is already the 11th in UTC.
    let first = bench.contact("first@example.com");
    bench.clock.forward(6 * 3600);
    let second = bench.contact("second@example.com");
    let noon = 1_773_172_800; // 2026-03-10T20:00:00Z
    let is = |op: &str, value: Value| json!({"field": "updated_at", "operator": op, "value": value});
    // `>` skips the rest of the watermark's own day: both are gone.
    assert!(ids(&bench.search(is(">", json!(noon - 3600))).await).is_empty());
    // `=` is the whole day, and a string will do.
    assert_eq!(ids(&bench.search(is("=", json!((noon - 3600).to_string()))).await).len(), 2);
    // The day before: `>` begins with the 10th.
    assert_eq!(ids(&bench.search(is(">", json!(noon - 86_400))).await).len(), 2);
    // `<` ends before the day begins.
    assert!(ids(&bench.search(is("<", json!(noon + 3600))).await).is_empty());
    let both = json!({"operator": "OR", "value": [is(">", json!(noon)), is("=", json!(noon))]});
    let sorted = json!({"query": both, "sort": {"field": "updated_at", "order": "ascending"}});
    assert_eq!(ids(&bench.post("/contacts/search", sorted).await), [first, second.clone()]);
    let got = bench.search(is(">=", json!(noon))).await;
    assert_eq!(got.status, 422);
    // 2.17 matches to the second.
    let exact = json!({"query": is(">", json!(noon))});
    let got = bench.ask("POST", "/contacts/search", exact, &[("intercom-version", "2.17")]).await;
    assert_eq!(ids(&got), [second]);
}

#[tokio::test]
async fn the_day_follows_the_zone_over_a_change_of_clocks() {
    // In Berlin the 29th of March 2026 has 23 hours.
    let (start, end) = crate::sandbox::intercom::search::day(1_774_778_400, chrono_tz::Tz::Europe__Berlin); // 10:00 UTC
    assert_eq!(end - start, 23 * 3_600_000);
}

#[tokio::test]
async fn search_has_limits() {
    let bench = Bench::new();
    let one = json!({"field": "email", "operator": "=", "value": "a@example.com"});
    let sixteen = json!({"operator": "OR", "value": vec![one.clone(); 16]});
    assert_eq!(bench.search(sixteen).await.status, 400);
    let wrap = |inner: Value| json!({"operator": "AND", "value": [inner]});
    assert_eq!(bench.search(wrap(wrap(one.clone()))).await.status, 200);
    assert_eq!(bench.search(wrap(wrap(wrap(one.clone())))).await.status, 400);
    let got = bench.search(json!({"field": "session_count", "operator": "=", "value": 1})).await;
    assert_eq!(code(&got), "invalid_field");
    let got = bench.post("/contacts/search", json!({"query": one, "pagination": {"per_page": 151}})).await;
    assert_eq!(got.status, 400);
    assert_eq!(bench.post("/contacts/search", json!({})).await.status, 400);
}

#[tokio::test]
async fn every_operator_means_what_it_says() {
    let bench = Bench::with(|options| options.index_lag = Duration::ZERO);
    let ada = bench.contact("ada@example.com");
    bench.sandbox.edit_contact(&ada, &json!({"name": "Ada Lovelace", "custom_attributes": {"usage": 5}})).unwrap();
    bench.sandbox.tag(&ada, "VIP").unwrap();
    let bob = bench.contact("bob@example.org");
    bench.sandbox.edit_contact(&bob, &json!({"name": "Bob", "custom_attributes": {"usage": 9}})).unwrap();
    let tag = bench.get("/tags").await.body["data"][0]["id"].clone();
    for (field, operator, value, expected) in [
        ("email", "=", json!("ADA@example.com"), vec![&ada]),
        ("email", "!=", json!("ada@example.com"), vec![&bob]),
        ("email", "IN", json!(["ada@example.com", "bob@example.org"]), vec![&bob, &ada]),
        ("email", "NIN", json!(["ada@example.com"]), vec![&bob]),
        ("email_domain", "=", json!("example.org"), vec![&bob]),
        ("name", "~", json!("love"), vec![&ada]),
        ("name", "!~", json!("love"), vec![&bob]),
        ("name", "^", json!("ada"), vec![&ada]),
        ("name", "$", json!("ob"), vec![&bob]),
        ("custom_attributes.usage", ">", json!(5), vec![&bob]),
        ("custom_attributes.usage", ">=", json!(5), vec![&bob, &ada]),
        ("custom_attributes.usage", "<", json!(9), vec![&ada]),
        ("tag_id", "=", tag, vec![&ada]),
        ("phone", "=", Value::Null, vec![&bob, &ada]),
        ("role", "=", json!("lead"), vec![]),
        ("external_id", "=", json!("ext-bob@example.org"), vec![&bob]),
        ("id", "=", json!(bob), vec![&bob]),
        ("unsubscribed_from_emails", "=", json!(false), vec![&bob, &ada]),
    ] {
        let got = bench.search(json!({"field": field, "operator": operator, "value": value})).await;
        assert_eq!(got.status, 200, "{field} {operator}");
        let expected: BTreeSet<&String> = expected.into_iter().collect();
        let found = ids(&got);
        assert_eq!(found.iter().collect::<BTreeSet<_>>(), expected, "{field} {operator}");
        assert_eq!(got.body["total_count"], found.len(), "{field} {operator}");
    }
}

#[tokio::test]
async fn new_contacts_are_late_in_search_but_not_elsewhere() {
    let bench = Bench::new();
    let id = bench.contact("late@example.com");
    let query = json!({"field": "email", "operator": "=", "value": "late@example.com"});
    assert!(ids(&bench.search(query.clone()).await).is_empty());
    assert_eq!(bench.get(&format!("/contacts/{id}")).await.status, 200);
    let got = bench.post("/contacts", json!({"email": "late@example.com"})).await;
    assert_eq!(got.status, 409);
    bench.clock.forward(3);
    assert_eq!(ids(&bench.search(query).await), [id]);
}

#[tokio::test]
async fn cursors_are_stateless_and_only_the_body_counts() {
    let bench = Bench::with(|options| options.index_lag = Duration::ZERO);
    for number in 0..5 {
        bench.contact(&format!("c{number}@example.com"));
        bench.clock.forward(10);
    }
    let all = json!({"field": "role", "operator": "=", "value": "user"});
    let ask = |after: Value| json!({"query": all, "pagination": {"per_page": 2, "starting_after": after}, "sort": {"field": "updated_at", "order": "ascending"}});
    let first = bench.post("/contacts/search", ask(Value::Null)).await;
    assert_eq!(first.body["total_count"], 5);
    assert_eq!(first.body["pages"]["total_pages"], 3);
    let cursor = first.body["pages"]["next"]["starting_after"].as_str().unwrap().to_owned();
    // In the query string it is not even looked at.
    let again = bench.post(&format!("/contacts/search?starting_after={cursor}"), ask(Value::Null)).await;
    assert_eq!(ids(&again), ids(&first));
    // One that is touched between two pages moves behind the cursor's end: seen twice.
    let seen = ids(&first)[0].clone();
    bench.sandbox.touch_last_seen(&seen).unwrap();
    let mut rest = Vec::new();
    let mut after = json!(cursor);
    loop {
        let page = bench.post("/contacts/search", ask(after)).await;
        rest.extend(ids(&page));
        after = page.body["pages"]["next"]["starting_after"].clone();
        if after.is_null() {
            assert!(page.body["pages"].get("next").is_none());
            break;
        }
    }
    assert_eq!(rest.len(), 4);
    assert!(rest.contains(&seen));
    let got = bench.post("/contacts/search", ask(json!("garbage"))).await;
    assert_eq!(got.status, 400);
}

#[tokio::test]
async fn the_list_gives_everybody_once() {
    let bench = Bench::new();
    let truth = bench.sandbox.world(7, 333);
    let mut seen = BTreeSet::new();
    let mut target = "/contacts?per_page=150".to_owned();
    loop {
        let page = bench.get(&target).await;
        assert_eq!(page.body["total_count"], truth.contacts);
        seen.extend(ids(&page));
        match page.body["pages"]["next"]["starting_after"].as_str() {
            Some(cursor) => target = format!("/contacts?per_page=150&starting_after={}", cursor.replace('=', "%3D")),
            None => break,
        }
    }
    assert_eq!(seen.len(), truth.contacts);
    assert_eq!(seen, bench.sandbox.contact_ids().into_iter().collect());
}
