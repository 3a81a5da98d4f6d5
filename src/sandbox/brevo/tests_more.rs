//! Attributes, events, companies, webhooks, hands, the world.

use super::tests::{call, get, sandbox, seconds};
use super::*;
use serde_json::{Value, json};

#[tokio::test(start_paused = true)]
async fn attributes_are_made_once_and_keep_their_type() {
    let sandbox = sandbox();
    let path = "/v3/contacts/attributes/normal/plan_tier";
    let made = call(&sandbox, "POST", path, json!({"type": "text"})).await;
    assert_eq!((made.status, made.text.as_str()), (201, ""));
    assert_eq!(call(&sandbox, "POST", path, json!({"type": "float"})).await.status, 400);
    assert_eq!(call(&sandbox, "PUT", path, json!({"type": "float"})).await.status, 400);
    let category = json!({"type": "category", "enumeration": [{"value": 1, "label": "Gold"}]});
    assert_eq!(call(&sandbox, "POST", "/v3/contacts/attributes/category/TIER", category).await.status, 201);
    let choices = json!({"type": "multiple-choice", "multiCategoryOptions": ["x"]});
    assert_eq!(call(&sandbox, "POST", "/v3/contacts/attributes/normal/TAGS", choices).await.status, 201);
    let more = json!({"multiCategoryOptions": ["x", "y"]});
    assert_eq!(call(&sandbox, "PUT", "/v3/contacts/attributes/normal/TAGS", more).await.status, 204);
    let shown = get(&sandbox, "/v3/contacts/attributes").await.json();
    let named = |name: &str| {
        shown["attributes"].as_array().unwrap().iter().find(|a| a["name"] == name).cloned().unwrap_or_default()
    };
    assert_eq!(named("PLAN_TIER"), json!({"name": "PLAN_TIER", "category": "normal", "type": "text"}));
    assert_eq!(named("TIER")["enumeration"], json!([{"value": 1, "label": "Gold", "valueStr": "1"}]));
    assert_eq!(named("TAGS")["multiCategoryOptions"], json!(["x", "y"]));
    let body = json!({"email": "a@b.co", "attributes": {"TIER": "Gold", "PLAN_TIER": "p"}});
    call(&sandbox, "POST", "/v3/contacts", body).await;
    assert_eq!(call(&sandbox, "DELETE", path, Value::Null).await.status, 204);
    assert_eq!(json!(sandbox.contacts()[0].attributes), json!({"TIER": 1}));
    assert_eq!(call(&sandbox, "DELETE", path, Value::Null).await.status, 404);
}

#[test]
fn names_follow_the_accounts_language() {
    for (language, first) in [(AccountLanguage::French, "PRENOM"), (AccountLanguage::German, "VORNAME")] {
        let clock = Arc::new(crate::doors::SystemClock);
        let options = BrevoOptions { language, ..BrevoOptions::new(1, clock) };
        let types = BrevoSandbox::new(options).attribute_types();
        assert!(types.contains_key(first) && !types.contains_key("FIRSTNAME"));
    }
}

#[tokio::test(start_paused = true)]
async fn folders_take_their_lists_with_them() {
    let sandbox = sandbox();
    let folder = call(&sandbox, "POST", "/v3/contacts/folders", json!({"name": "Ours"})).await.json()["id"].clone();
    let body = json!({"name": "All users", "folderId": folder});
    let list = call(&sandbox, "POST", "/v3/contacts/lists", body).await.json()["id"].as_i64().unwrap();
    call(&sandbox, "POST", "/v3/contacts", json!({"email": "a@b.co", "listIds": [list]})).await;
    assert_eq!(get(&sandbox, &format!("/v3/contacts/folders/{folder}/lists")).await.json()["count"], 1);
    assert_eq!(get(&sandbox, &format!("/v3/contacts/lists/{list}")).await.json()["folderId"], folder);
    let renamed = json!({"name": "Everybody"});
    assert_eq!(call(&sandbox, "PUT", &format!("/v3/contacts/lists/{list}"), renamed).await.status, 204);
    assert_eq!(sandbox.list_id("Everybody"), Some(list));
    assert_eq!(call(&sandbox, "DELETE", &format!("/v3/contacts/folders/{folder}"), Value::Null).await.status, 204);
    assert_eq!(get(&sandbox, &format!("/v3/contacts/lists/{list}")).await.status, 404);
    assert!(sandbox.contacts()[0].list_ids.is_empty());
    assert_eq!(get(&sandbox, "/v3/contacts/segments").await.json()["count"], 0);
}

#[tokio::test(start_paused = true)]
async fn batches_of_events_are_taken_in_part() {
    let sandbox = sandbox();
    call(&sandbox, "POST", "/v3/contacts", json!({"email": "a@b.co", "ext_id": "e"})).await;
    let good = json!({"event_name": "closed", "identifiers": {"ext_id": "e"}, "event_properties": {"id": "215"},
                      "event_date": "2026-11-20T09:00:00Z"});
    let batch = |events: Value| call(&sandbox, "POST", "/v3/events/batch", json!({"events": events}));
    assert_eq!(batch(json!([good, good])).await.status, 202);
    let mixed = batch(json!([{"identifiers": {"ext_id": "e"}}, good, {"event_name": "x", "identifiers": {}}])).await;
    assert_eq!(
        (mixed.status, mixed.json()),
        (
            207,
            json!({"status": "partiallyQueued", "total_events": 3, "successful_events": 1, "failed_events": 2,
                   "errors": [{"eventIndex": [0], "message": "undefined event_name"},
                              {"eventIndex": [2], "message": "Please pass at least one identifier or contact id"}]})
        )
    );
    assert_eq!(batch(json!([{}])).await.json()["status"], "failed");
    let unknown = json!({"event_name": "x", "identifiers": {"email_id": "nobody@b.co"}});
    assert_eq!(call(&sandbox, "POST", "/v3/events", unknown).await.status, 204);
    assert_eq!(sandbox.events().len(), 4, "the same event sent twice is two events");
    let shown = get(&sandbox, "/v3/events?contact_id=1&event_name=closed&limit=2").await.json();
    assert_eq!((&shown["count"], &shown["events"][0]["event_properties"]["id"]), (&json!(3), &json!("215")));
    let early = "/v3/events?startDate=2026-11-01&endDate=2026-11-19";
    assert_eq!(get(&sandbox, early).await.json()["count"], 0);
    assert_eq!(get(&sandbox, "/v3/events?startDate=2026-11-01").await.status, 400);
}

#[tokio::test(start_paused = true)]
async fn companies_double_and_a_patch_replaces_their_contacts() {
    let sandbox = sandbox();
    for name in ["a", "b"] {
        call(&sandbox, "POST", "/v3/contacts", json!({"email": format!("{name}@b.co")})).await;
    }
    let made = call(&sandbox, "POST", "/v3/companies", json!({"name": "Acme", "linkedContactsIds": [1]})).await;
    assert_eq!(made.status, 200);
    let id = made.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(id.len(), 24);
    assert_eq!(call(&sandbox, "POST", "/v3/companies", json!({"name": "Acme"})).await.status, 200);
    let link = format!("/v3/companies/link-unlink/{id}");
    assert_eq!(call(&sandbox, "PATCH", &link, json!({"linkContactIds": [2]})).await.status, 204);
    let path = format!("/v3/companies/{id}");
    assert_eq!(get(&sandbox, &path).await.json()["linkedContactsIds"], json!([1, 2]));
    let replaced = call(&sandbox, "PATCH", &path, json!({"linkedContactsIds": [2]})).await;
    assert_eq!((replaced.status, &replaced.json()["linkedContactsIds"]), (200, &json!([2])));
    assert_eq!(replaced.json()["attributes"]["created_at"], "2026-11-21T11:00:00.777+02:00");
    let attribute = json!({"objectType": "companies", "label": "Intercom company id", "attributeType": "text"});
    assert_eq!(call(&sandbox, "POST", "/v3/crm/attributes", attribute).await.status, 200);
    let body = json!({"attributes": {"intercom_company_id": "c1"}});
    assert_eq!(call(&sandbox, "PATCH", &path, body).await.status, 200);
    for filter in [
        "filters=%7B%22attributes.intercom_company_id%22%3A%22c1%22%7D",
        "filters%5Battributes.intercom_company_id%5D=c1",
    ] {
        let found = get(&sandbox, &format!("/v3/companies?{filter}")).await.json();
        assert_eq!((found["items"].as_array().unwrap().len(), &found["items"][0]["id"]), (1, &json!(id)));
        assert!(found.get("count").is_none());
    }
    assert_eq!(
        get(&sandbox, "/v3/companies?page=2&limit=1&sort=asc").await.json()["items"].as_array().unwrap().len(),
        1
    );
    assert_eq!(call(&sandbox, "DELETE", &path, Value::Null).await.status, 204);
    assert_eq!(get(&sandbox, &path).await.status, 404);
}

async fn listen(sandbox: &BrevoSandbox) {
    let body = json!({
        "url": "https://sync.example/brevo", "type": "marketing", "auth": {"type": "bearer", "token": "t"},
        "headers": [{"key": "x-ours", "value": "1"}],
        "events": ["contactUpdated", "contactDeleted", "listAddition", "unsubscribed", "hardBounce", "spam"],
    });
    let made = call(sandbox, "POST", "/v3/webhooks", body).await;
    assert_eq!((made.status, made.json()), (201, json!({"id": 1})));
}

fn bodies(sandbox: &BrevoSandbox) -> Vec<Value> {
    sandbox.take_webhooks().iter().map(|webhook| serde_json::from_slice(&webhook.body).unwrap()).collect()
}

#[tokio::test(start_paused = true)]
async fn webhooks_of_no_such_type_are_a_400() {
    let sandbox = sandbox();
    listen(&sandbox).await;
    let none = get(&sandbox, "/v3/webhooks").await;
    assert_eq!((none.status, none.json()["code"].clone()), (400, json!("document_not_found")));
    let shown = get(&sandbox, "/v3/webhooks?type=marketing").await.json();
    assert_eq!(shown["webhooks"][0]["auth"], json!({"type": "bearer", "token": "t"}));
    let paused = json!({"events": ["spam"]});
    assert_eq!(call(&sandbox, "PUT", "/v3/webhooks/1", paused).await.status, 204);
    assert_eq!(get(&sandbox, "/v3/webhooks/1").await.json()["events"], json!(["spam"]));
    assert_eq!(call(&sandbox, "DELETE", "/v3/webhooks/1", Value::Null).await.status, 204);
    assert_eq!(call(&sandbox, "DELETE", "/v3/webhooks/1", Value::Null).await.status, 404);
    let wrong = json!({"url": "https://x.example", "type": "marketing", "events": ["contactCreated"]});
    assert_eq!(call(&sandbox, "POST", "/v3/webhooks", wrong).await.status, 400);
}

#[tokio::test(start_paused = true)]
async fn webhooks_have_three_shapes_and_name_the_key() {
    let sandbox = sandbox();
    call(&sandbox, "POST", "/v3/contacts", json!({"email": "a@b.co"})).await;
    assert!(sandbox.take_webhooks().is_empty(), "nobody listens yet");
    listen(&sandbox).await;
    call(&sandbox, "POST", "/v3/contacts", json!({"email": "b@b.co"})).await;
    assert!(bodies(&sandbox).is_empty(), "nothing tells of a creation");

    let path = "/v3/contacts/1?identifierType=contact_id";
    call(&sandbox, "PUT", path, json!({"attributes": {"FIRSTNAME": "A"}})).await;
    let sent = sandbox.take_deliveries();
    let (url, webhook) = &sent[0];
    assert_eq!((url.as_str(), webhook.topic.as_str()), ("https://sync.example/brevo", "contact_updated"));
    assert!(webhook.headers.contains(&("authorization".into(), "Bearer t".into())));
    assert!(webhook.headers.contains(&("x-ours".into(), "1".into())));
    let body: Value = serde_json::from_slice(&webhook.body).unwrap();
    assert_eq!(
        body,
        json!({"id": 1, "event": "contact_updated", "email": "a@b.co", "date": "2026-11-21 11:00:00",
               "ts": 1_795_251_600, "api_key_name": "linkspan",
               "content": [{"email": "a@b.co", "attributes": {"FIRSTNAME": "A"}}]})
    );

    call(&sandbox, "PUT", path, json!({"listIds": [2]})).await;
    let sent = bodies(&sandbox);
    assert_eq!(sent[0]["content"], json!({"emails": ["a@b.co"], "link_list_ids": [2]}));
    assert!(sent[0].get("email").is_none());
    assert_eq!(
        (&sent[1]["event"], &sent[1]["id"], &sent[1]["list_id"]),
        (&json!("list_addition"), &json!("1"), &json!([2]))
    );

    assert!(sandbox.unsubscribe("a@b.co"));
    let sent = bodies(&sandbox);
    assert_eq!(sent[0]["content"], json!([{"email": "a@b.co", "emailBlacklist": true}]));
    assert_eq!((&sent[0]["api_key_name"], &sent[1]["event"]), (&json!(""), &json!("unsubscribed")));

    assert!(sandbox.delete("a@b.co"));
    let sent = bodies(&sandbox);
    assert_eq!((&sent[0]["event"], &sent[0]["email"]), (&json!("contact_deleted"), &json!("a@b.co")));
    assert!(sent[0].get("api_key_name").is_none());
}

#[tokio::test(start_paused = true)]
async fn batched_webhooks_gather_for_five_minutes() {
    let sandbox = sandbox();
    listen(&sandbox).await;
    call(&sandbox, "PUT", "/v3/webhooks/1", json!({"batched": true})).await;
    let rows: Vec<Value> = (0..501).map(|n| json!({"email": format!("p{n}@b.co")})).collect();
    call(&sandbox, "POST", "/v3/contacts/import", json!({"listIds": [2], "jsonBody": rows})).await;
    seconds(5).await;
    assert!(bodies(&sandbox).is_empty());
    seconds(300).await;
    let sizes: Vec<usize> = bodies(&sandbox).iter().map(|body| body.as_array().unwrap().len()).collect();
    assert_eq!(sizes, [500, 1]);
}

#[tokio::test(start_paused = true)]
async fn imports_wake_the_one_who_waits_for_webhooks() {
    let sandbox = sandbox();
    listen(&sandbox).await;
    let body = json!({"listIds": [2], "jsonBody": [{"email": "a@b.co"}]});
    call(&sandbox, "POST", "/v3/contacts/import", body).await;
    seconds(5).await;
    get(&sandbox, "/v3/contacts").await;
    sandbox.webhooks_due().await;
    let sent = bodies(&sandbox);
    assert_eq!((&sent[0]["event"], &sent[0]["api_key_name"]), (&json!("list_addition"), &json!("")));
}

#[tokio::test(start_paused = true)]
async fn peoples_hands_do_what_screens_and_mailboxes_do() {
    let sandbox = sandbox();
    let list = sandbox.create_list("News");
    let planted = ContactSeed {
        email: Some("a@b.co".into()),
        phone: Some("+33612345678".into()),
        list_ids: vec![list],
        ..ContactSeed::default()
    };
    let id = sandbox.create_contact(planted.clone()).unwrap();
    assert_eq!(sandbox.create_contact(planted), None);
    assert!(sandbox.edit_attributes("a@b.co", &[("firstname", json!("A")), ("SMS", Value::Null)]));
    assert_eq!(json!(sandbox.contact(id).unwrap().attributes), json!({"FIRSTNAME": "A"}));
    let blocked = || sandbox.contact(id).unwrap().email_blacklisted;
    assert!(sandbox.hard_bounce("a@b.co") && blocked());
    assert!(sandbox.resubscribe("a@b.co") && !blocked());
    assert!(sandbox.spam("a@b.co") && blocked());
    assert!(sandbox.change_email("a@b.co", "c@b.co") && !blocked());
    assert!(sandbox.blocklist("c@b.co") && blocked());
    assert!(sandbox.remove_from_list("c@b.co", list) && sandbox.list_members(list).is_empty());
    assert!(sandbox.contact(id).unwrap().list_unsubscribed.is_empty());
    assert!(sandbox.delete("c@b.co") && sandbox.contact_count() == 0 && !sandbox.delete("c@b.co"));
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_makes_the_same_world() {
    let people: Vec<(String, Option<String>)> =
        (0..500).map(|n| (format!("p{n}@b.co"), (n % 2 == 0).then(|| format!("+336{n:08}")))).collect();
    let make = |seed| {
        let sandbox = sandbox();
        let list = sandbox.create_list("News");
        sandbox.world(seed, &people, &WorldShares::default(), list);
        sandbox.contacts()
    };
    let made = make(3);
    assert_eq!(made, make(3));
    assert_ne!(made, make(4));
    assert!((200..300).contains(&made.len()));
    for share in [
        made.iter().filter(|contact| contact.email_blacklisted).count(),
        made.iter().filter(|contact| !contact.list_unsubscribed.is_empty()).count(),
        made.iter().filter(|contact| contact.attributes.contains_key("FIRSTNAME")).count(),
        made.iter().filter(|contact| contact.attributes.contains_key("EXT_ID")).count(),
    ] {
        assert!((1..60).contains(&share), "{share}");
    }
}

#[tokio::test(start_paused = true)]
async fn twenty_thousand_rows_land_and_are_read_in_pages() {
    let sandbox = sandbox();
    let rows: Vec<Value> = (0..20_000)
        .map(|n| json!({"email": format!("p{n}@b.co"), "attributes": {"FIRSTNAME": "P", "SMS": format!("336{n:08}")}}))
        .collect();
    call(&sandbox, "POST", "/v3/contacts/import", json!({"listIds": [2], "jsonBody": rows})).await;
    seconds(5).await;
    let mut seen = 0;
    for page in 0..20 {
        let path = format!("/v3/contacts?limit=1000&sort=asc&offset={}", page * 1000);
        seen += get(&sandbox, &path).await.json()["contacts"].as_array().unwrap().len();
    }
    assert_eq!(seen, 20_000);
}
