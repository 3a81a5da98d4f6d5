//! Contacts, companies, attributes, the world.

use super::*;

#[tokio::test]
async fn a_409_names_the_id_and_whether_it_is_archived() {
    let bench = Bench::new();
    let id = bench.post("/contacts", json!({"role": "user", "email": "x@example.com"})).await.body["id"].clone();
    let id = id.as_str().unwrap();
    let got = bench.post("/contacts", json!({"role": "user", "email": "X@example.com"})).await;
    let message = got.body["errors"][0]["message"].as_str().unwrap();
    assert_eq!(message, format!("A contact matching those details already exists with id={id}"));
    assert_eq!(bench.post(&format!("/contacts/{id}/archive"), json!({})).await.body["archived"], true);
    assert_eq!(bench.get(&format!("/contacts/{id}")).await.status, 404);
    let got = bench.post("/contacts", json!({"email": "x@example.com"})).await;
    assert!(got.body["errors"][0]["message"].as_str().unwrap().starts_with("An archived contact matching"));
    assert_eq!(bench.post(&format!("/contacts/{id}/unarchive"), json!({})).await.body["archived"], false);
    assert_eq!(bench.ask("DELETE", &format!("/contacts/{id}"), Value::Null, &[]).await.body["deleted"], true);
    let got = bench.post(&format!("/contacts/{id}/unarchive"), json!({})).await;
    assert_eq!(got.status, 400);
    // Leads share e-mails freely.
    for _ in 0..2 {
        assert_eq!(bench.post("/contacts", json!({"role": "lead", "email": "x@example.com"})).await.status, 200);
    }
    // Users with different ids may share one too.
    for external in ["a", "b"] {
        let body = json!({"external_id": external, "email": "same@example.com"});
        assert_eq!(bench.post("/contacts", body).await.status, 200);
    }
}

#[tokio::test]
async fn ten_are_embedded_and_the_rest_is_behind_the_url() {
    let bench = Bench::new();
    let id = bench.contact("many@example.com");
    for number in 0..12 {
        bench.sandbox.tag(&id, &format!("tag {number}")).unwrap();
        let company = bench.sandbox.create_company(&json!({"company_id": number.to_string(), "plan": "Pro"})).unwrap();
        bench.sandbox.attach_company(&id, &company).unwrap();
    }
    let contact = bench.get(&format!("/contacts/{id}")).await.body;
    for list in ["tags", "companies"] {
        assert_eq!(contact[list]["data"].as_array().unwrap().len(), 10);
        assert_eq!(contact[list]["total_count"], 12);
        assert_eq!(contact[list]["has_more"], true);
        let whole = bench.get(contact[list]["url"].as_str().unwrap()).await.body;
        assert_eq!(whole["data"].as_array().unwrap().len(), 12, "{list}");
    }
    assert!(contact["tags"]["data"][0].get("name").is_none());
    let page = bench.get(&format!("/contacts/{id}/companies?per_page=5&page=2")).await.body;
    assert_eq!(page["data"].as_array().unwrap().len(), 5);
    assert!(page["pages"]["next"].as_str().unwrap().ends_with("page=3"));
    assert_eq!(page["data"][0]["plan"]["name"], "Pro");
    assert_eq!(bench.get(&format!("/contacts/{id}/companies?per_page=61")).await.status, 400);
}

#[tokio::test]
async fn a_merged_lead_is_404_up_to_2_15_and_410_with_a_link_from_2_16() {
    let bench = Bench::new();
    let lead = bench.sandbox.create_contact(ContactSeed {
        lead: true,
        email: Some("l@example.com".into()),
        ..ContactSeed::default()
    });
    let user = bench.contact("u@example.com");
    bench.sandbox.take_webhooks();
    bench.sandbox.merge(&lead, &user).unwrap();
    let (topic, item) = bench.items().remove(0);
    assert_eq!(topic, "contact.merged");
    assert_eq!(item["id"], user.as_str());
    assert!(item.get("merged_from").is_none());
    let got = bench.get(&format!("/contacts/{lead}")).await;
    assert_eq!((got.status, code(&got)), (404, "not_found"));
    let got = bench.ask("GET", &format!("/contacts/{lead}"), Value::Null, &[("intercom-version", "2.16")]).await;
    assert_eq!((got.status, code(&got)), (410, "contact_merged"));
    assert_eq!(got.headers["link"], format!("</contacts/{user}>; rel=\"canonical\"").as_str());
    let back = bench.post("/contacts/merge", json!({"from": user, "into": user})).await;
    assert_eq!(back.status, 400);
}

#[tokio::test]
async fn one_scroll_at_a_time_with_the_same_param_on_every_page() {
    let bench = Bench::new();
    let person = bench.contact("p@example.com");
    for number in 0..130 {
        let company = bench.sandbox.create_company(&json!({"company_id": number.to_string()})).unwrap();
        if number < 125 {
            bench.sandbox.attach_company(&person, &company).unwrap(); // the other five have nobody: not visible
        }
    }
    let first = bench.get("/companies/scroll").await.body;
    let param = first["scroll_param"].as_str().unwrap().to_owned();
    assert_eq!((first["data"].as_array().unwrap().len(), &first["total_count"]), (100, &Value::Null));
    let got = bench.get("/companies/scroll").await;
    assert_eq!((got.status, code(&got)), (400, "scroll_exists"));
    let next = format!("/companies/scroll?scroll_param={param}");
    let second = bench.get(&next).await.body;
    assert_eq!((second["data"].as_array().unwrap().len(), second["scroll_param"].as_str()), (25, Some(param.as_str())));
    let end = bench.get(&next).await.body;
    assert_eq!((&end["data"], end.get("scroll_param")), (&json!([]), None));
    // Idle for a minute: expired, and a new one may start.
    let param = bench.get("/companies/scroll").await.body["scroll_param"].as_str().unwrap().to_owned();
    bench.clock.forward(60);
    assert_eq!(bench.get(&format!("/companies/scroll?scroll_param={param}")).await.status, 404);
    assert_eq!(bench.get("/companies/scroll").await.status, 200);
}

#[tokio::test]
async fn the_company_list_ends_at_ten_thousand() {
    let bench = Bench::new();
    assert_eq!(bench.post("/companies/list?per_page=60&page=166", json!({})).await.status, 200);
    let got = bench.post("/companies/list?per_page=60&page=167", json!({})).await;
    assert_eq!(got.body["errors"][0]["message"], "page limit reached, please use scroll API");
}

#[tokio::test]
async fn companies_are_upserted_by_the_callers_id_and_refuse_unknown_keys() {
    let bench = Bench::new();
    let made = bench.post("/companies", json!({"company_id": "c1", "name": "Acme", "monthly_spend": 9.9})).await.body;
    let again = bench.post("/companies", json!({"company_id": "c1", "plan": "Pro"})).await.body;
    assert_eq!((&made["id"], &again["name"], &again["monthly_spend"]), (&again["id"], &json!("Acme"), &json!(9)));
    let got = bench.post("/companies", json!({"company_id": "c1", "test": 1})).await;
    assert_eq!(got.body["errors"][0]["message"], "bad 'test' parameter");
    assert_eq!(bench.get("/companies?company_id=c1").await.body["id"], made["id"]);
    assert_eq!(bench.get("/companies?name=Acme").await.body["id"], made["id"]);
    assert_eq!(code(&bench.get("/companies?company_id=nobody").await), "company_not_found");
    let id = made["id"].as_str().unwrap();
    assert_eq!(bench.ask("DELETE", &format!("/companies/{id}"), Value::Null, &[]).await.body["object"], "company");
}

#[tokio::test]
async fn custom_attributes_must_be_defined_first() {
    let bench = Bench::new();
    let body = json!({"email": "a@example.com", "custom_attributes": {"plan_tier": "pro"}});
    assert_eq!(bench.post("/contacts", body.clone()).await.status, 400);
    let attribute = json!({"name": "plan_tier", "model": "contact", "data_type": "string"});
    let made = bench.post("/data_attributes", attribute).await;
    assert_eq!((made.status, &made.body["full_name"]), (200, &json!("custom_attributes.plan_tier")));
    let got = bench.post("/contacts", body).await.body;
    assert_eq!(got["custom_attributes"]["plan_tier"], "pro");
    // The same name cannot serve companies as well.
    let taken = json!({"name": "plan_tier", "model": "company", "data_type": "string"});
    assert_eq!(bench.post("/data_attributes", taken).await.status, 400);
    let clear = json!({"custom_attributes": {"plan_tier": null}});
    let id = got["id"].as_str().unwrap();
    let got = bench.ask("PUT", &format!("/contacts/{id}"), clear, &[]).await.body;
    assert_eq!(got["custom_attributes"], json!({}));
}

#[tokio::test]
async fn a_user_never_becomes_a_lead_again() {
    let bench = Bench::new();
    let id = bench.contact("u@example.com");
    let got = bench.ask("PUT", &format!("/contacts/{id}"), json!({"role": "lead"}), &[]).await;
    assert_eq!((got.status, code(&got)), (400, "client_error"));
}

#[tokio::test]
async fn a_world_replays_and_holds_what_it_says() {
    let one = async || {
        let bench = Bench::new();
        let truth = bench.sandbox.world(42, 1_000);
        (truth, bench.get("/contacts?per_page=150").await.raw)
    };
    let ((truth, page), (again, same)) = (one().await, one().await);
    assert_eq!(truth, again);
    assert_eq!(page, same);
    assert_eq!(truth.users + truth.leads, truth.contacts);
    assert!(
        truth.leads > 150 && truth.without_email > 50 && truth.unsubscribed > 15 && truth.on_shared_email > 10,
        "{truth:?}"
    );
    assert!(
        truth.more_than_ten_tags >= 1 && truth.more_than_ten_companies == 1 && truth.with_open_conversation > 30,
        "{truth:?}"
    );
}
