//! Brevo's webhooks: hints whose people are read, and opt-outs that are facts.

use crate::waiting;
use crate::world::{BREVO_SECRET, World, pass, until};
use axum::http::StatusCode;
use linkspan::brevo::webhook::Auth;
use linkspan::model::OptOutReason;
use linkspan::sandbox::brevo::ContactSeed as BrevoSeed;
use linkspan::sandbox::intercom::ContactSeed;
use linkspan::server::Server;
use linkspan::store::Store;
use serde_json::{Value, json};

const HINTS: [&str; 6] = ["contactUpdated", "contactDeleted", "listAddition", "unsubscribed", "hardBounce", "spam"];

/// Ada in both, linked; the daemon runs, and all of Brevo's webhooks are registered.
async fn with_ada(more: &str) -> World {
    let mut world = World::leaving(more, Store::in_memory().unwrap());
    let seed =
        ContactSeed { email: Some("ada@x.example".to_owned()), name: Some("Ada".to_owned()), ..Default::default() };
    world.intercom.create_contact(seed);
    world.sync().await;
    world.run().await;
    world.register("marketing", &HINTS, false).await;
    world.brevo.take_webhooks();
    world.brevo.log().clear();
    world
}

fn at(world: &World) -> i64 {
    world.connection.doors().clock.now().timestamp()
}

async fn fullname(world: &World, email: &str) -> String {
    let known = world.known(email).await.unwrap();
    known.attributes.get("FULLNAME").map(ToString::to_string).unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn an_edit_in_brevo_is_read_and_known() {
    let world = with_ada("").await;
    pass(5).await;
    world.brevo.edit_attributes("ada@x.example", &[("FULLNAME", json!("Ada L"))]);
    assert_eq!(world.deliver_brevo().await, 1);
    pass(1).await;
    assert_eq!(fullname(&world, "ada@x.example").await, "Ada L");
    assert_eq!(world.reads_of_brevo(), 1);
    assert_eq!(waiting(&world).await, 0);
    assert_eq!(world.counter("brevo_webhook.contact_updated").await, 1);
}

#[tokio::test(start_paused = true)]
async fn ten_webhooks_about_one_person_cost_one_read() {
    let world = with_ada("").await;
    let list = world.brevo.create_list("Fans");
    for n in 0..8 {
        world.brevo.edit_attributes("ada@x.example", &[("FULLNAME", json!(format!("Ada {n}")))]);
    }
    world.brevo.add_to_list("ada@x.example", list);
    assert_eq!(world.deliver_brevo().await, 10, "a list is told twice");
    pass(1).await;
    assert_eq!(fullname(&world, "ada@x.example").await, "Ada 7");
    assert_eq!(world.reads_of_brevo(), 1);
    // None of them is taken for a repeat of another.
    assert_eq!(world.counter("brevo_webhook.contact_updated").await, 9);
}

#[tokio::test(start_paused = true)]
async fn each_shape_names_its_people() {
    let world = with_ada("").await;
    let bob = BrevoSeed { email: Some("bob@x.example".to_owned()), ..BrevoSeed::default() };
    let bob = world.brevo.create_contact(bob).unwrap();
    world.brevo.take_webhooks();
    let change = json!([{"email": "bob@x.example", "attributes": {"work_phone": "1"}}]);
    let shapes = [
        json!({"id": 7, "event": "contact_updated", "email": "Bob@X.example", "ts": at(&world), "content": change}),
        json!({"event": "contact_updated", "content": {"emails": ["bob@x.example"], "link_list_ids": [41]}}),
        json!({"event": "contact_updated", "email": "bob@x.example",
               "content": [{"email": "bob@x.example", "emailBlacklist": false}]}),
        json!({"event": "contact.updated", "content": [{"email": "bob@x.example", "attributes": {}}]}),
        json!({"event": "list_addition", "id": "7", "email": "bob@x.example", "key": "k", "list_id": [1]}),
        json!({"event": "listAddition", "email": "bob@x.example"}),
        json!({"event": "contactUpdated", "contact_id": bob}),
        json!({"event": "contact_updated", "email": "old@x.example",
               "content": [{"email": "old@x.example", "attributes": {"EMAIL": "bob@x.example"}}]}),
    ];
    for (n, shape) in shapes.into_iter().enumerate() {
        let fresh = format!("Bob {n}");
        world.brevo.edit_attributes("bob@x.example", &[("FIRSTNAME", json!(fresh))]);
        world.brevo.take_webhooks();
        assert_eq!(world.as_brevo(shape.clone()).await, StatusCode::OK);
        pass(2).await;
        let known = world.known("bob@x.example").await.unwrap();
        assert_eq!(known.attributes["FIRSTNAME"].to_string(), fresh, "{shape}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_one_row_and_each_of_it_counts() {
    let world = with_ada("").await;
    world.brevo.edit_attributes("ada@x.example", &[("FULLNAME", json!("Ada L"))]);
    world.brevo.take_webhooks();
    let batch = json!([
        {"event": "contact_updated", "email": "ada@x.example"},
        {"event": "opened", "email": "ada@x.example"},
        {"no": "event"},
        {"event": "something_new", "email": "ada@x.example"},
        {"event": "unsubscribed", "email": "zoe@x.example", "ts_event": at(&world)},
    ]);
    assert_eq!(world.as_brevo(batch).await, StatusCode::OK, "what is no event must not cost the others");
    assert_eq!(waiting(&world).await, 1);
    pass(2).await;
    assert_eq!(waiting(&world).await, 0);
    assert_eq!(fullname(&world, "ada@x.example").await, "Ada L");
    assert_eq!(world.facts("zoe@x.example").await.len(), 1);
    assert_eq!(world.counter("brevo_webhook_unreadable").await, 1);
    assert_eq!(world.counter("brevo_webhook_unknown_event").await, 1);
    assert_eq!(world.counter("brevo_webhook.opened").await, 1);
}

#[tokio::test(start_paused = true)]
async fn batches_of_the_sandbox_arrive() {
    let world = with_ada("").await;
    world.register("marketing", &["contactUpdated"], true).await;
    world.brevo.edit_attributes("ada@x.example", &[("FULLNAME", json!("Ada L"))]);
    world.brevo.take_webhooks();
    assert_eq!(fullname(&world, "ada@x.example").await, "Ada");
    pass(5 * 60).await;
    assert_eq!(world.deliver_brevo().await, 1, "its window has closed");
    pass(2).await;
    assert_eq!(fullname(&world, "ada@x.example").await, "Ada L");
}

#[tokio::test(start_paused = true)]
async fn what_happens_to_mails_is_counted_and_costs_nothing() {
    let world = with_ada("").await;
    for event in ["opened", "click", "delivered", "soft_bounce", "softBounce", "unique_opened", "request", "blocked"] {
        let body = json!({"event": event, "email": "ada@x.example", "id": 1, "camp_id": 2, "ts_event": at(&world)});
        assert_eq!(world.as_brevo(body).await, StatusCode::OK);
    }
    pass(60).await;
    assert_eq!(world.brevo.log().len(), 0);
    assert_eq!(world.counter("brevo_webhook.soft_bounce").await, 2);
    assert_eq!(world.counter("brevo_webhook_unknown_event").await, 0);
}

#[tokio::test(start_paused = true)]
async fn opt_outs_are_known_at_once_and_stand_in_brevo() {
    for (reason, transactional) in [
        (OptOutReason::Unsubscribed, "unsubscribed"),
        (OptOutReason::HardBounced, "hard_bounce"),
        (OptOutReason::Spam, "spam"),
    ] {
        let world = with_ada("consent: {direction: intercom_to_brevo}\n").await;
        pass(5).await;
        // The read that follows does not show it yet.
        let body =
            json!({"event": transactional, "email": "ada@x.example", "message-id": "<1>", "ts_event": at(&world)});
        assert_eq!(world.as_brevo(body).await, StatusCode::OK);
        pass(2).await;
        assert_eq!(world.reads_of_brevo(), 1);
        assert!(!world.brevo.contact_by_email("ada@x.example").unwrap().email_blacklisted, "the index lags");
        let known = world.known("ada@x.example").await.unwrap();
        assert_eq!(known.consent.email_opt_outs.into_iter().collect::<Vec<_>>(), [reason]);
        let facts = world.facts("ada@x.example").await;
        assert_eq!((facts.len(), facts[0].reason, facts[0].over_at), (1, reason, None));
        assert_eq!(facts[0].contact.map(|id| id.get()), world.brevo.contact_by_email("ada@x.example").map(|c| c.id));
        assert_eq!(world.notices("consent_diverges").await, 1, "Intercom is only read");
        assert_eq!(world.writes(), [], "and nothing is written");
    }
}

#[tokio::test(start_paused = true)]
async fn an_unsubscription_in_the_sandbox_arrives_and_an_opt_in_ends_it() {
    let world = with_ada("").await;
    pass(5).await;
    for (out, event) in [
        (true, "unsubscribed"),
        (false, "contact_updated"),
        (true, "hard_bounce"),
        (false, "contact_updated"),
        (true, "spam"),
    ] {
        match event {
            "unsubscribed" => world.brevo.unsubscribe("ada@x.example"),
            "hard_bounce" => world.brevo.hard_bounce("ada@x.example"),
            "spam" => world.brevo.spam("ada@x.example"),
            _ => world.brevo.resubscribe("ada@x.example"),
        };
        world.deliver_brevo().await;
        pass(30).await;
        let known = world.known("ada@x.example").await.unwrap();
        assert_eq!(known.consent.email_opted_out(), out, "{event}");
        assert_eq!(world.facts("ada@x.example").await[0].over_at.is_none(), out, "{event}");
    }
    assert_eq!(world.writes(), [], "their own opt-in is not reverted");
}

#[tokio::test(start_paused = true)]
async fn a_late_opt_out_does_not_undo_a_newer_opt_in() {
    let world = with_ada("").await;
    pass(5).await;
    world.brevo.unsubscribe("ada@x.example");
    let late = world.brevo.take_webhooks();
    pass(60).await;
    world.brevo.resubscribe("ada@x.example");
    world.deliver_brevo().await;
    pass(5).await;
    for hook in late {
        let token = format!("Bearer {BREVO_SECRET}");
        assert_eq!(world.post_brevo(&[("authorization", &token)], hook.body).await, StatusCode::OK);
    }
    pass(5).await;
    assert!(!world.known("ada@x.example").await.unwrap().consent.email_opted_out());
    assert_eq!(world.writes(), []);
}

/// Only the webhook told of it: no read has shown it, and the address changes.
#[tokio::test(start_paused = true)]
async fn an_opt_out_that_only_a_webhook_told_of_survives_a_rename() {
    let world = with_ada("").await;
    pass(5).await;
    let body = json!({"event": "unsubscribed", "email": "ada@x.example", "ts_event": at(&world)});
    assert_eq!(world.as_brevo(body).await, StatusCode::OK);
    pass(2).await;
    let ada = world.intercom.contact_ids()[0].clone();
    world.intercom.set_email(&ada, Some("ada@y.example")).unwrap();
    world.deliver().await;
    until("the rename", || world.brevo.contact_by_email("ada@y.example").is_some()).await;
    assert!(world.brevo.contact_by_email("ada@y.example").unwrap().email_blacklisted, "{:?}", world.writes());
    let loosened = world.writes().iter().any(|(_, body)| body["emailBlacklisted"] == json!(false));
    assert!(!loosened);
}

/// Somebody changes the address in Brevo, which lifts the blocklisting: that is no opt-in.
#[tokio::test(start_paused = true)]
async fn what_a_changed_address_lifts_is_put_back() {
    let world = with_ada("").await;
    pass(5).await;
    world.brevo.unsubscribe("ada@x.example");
    world.deliver_brevo().await;
    pass(120).await;
    world.brevo.change_email("ada@x.example", "ada@z.example");
    assert!(!world.brevo.contact_by_email("ada@z.example").unwrap().email_blacklisted, "as Brevo does it");
    world.deliver_brevo().await;
    let out = || world.brevo.contacts().iter().all(|contact| contact.email_blacklisted);
    until("the blocklisting", out).await;
}

#[tokio::test(start_paused = true)]
async fn who_opted_out_before_they_were_anybody_is_made_so() {
    let world = with_ada("").await;
    let body = json!({"event": "unsubscribed", "email": "zoe@x.example", "ts_event": at(&world)});
    assert_eq!(world.as_brevo(body).await, StatusCode::OK);
    pass(5).await;
    let seed = ContactSeed { email: Some("zoe@x.example".to_owned()), ..Default::default() };
    world.intercom.create_contact(seed);
    world.deliver().await;
    until("her arrival", || world.brevo.contact_by_email("zoe@x.example").is_some()).await;
    assert!(world.brevo.contact_by_email("zoe@x.example").unwrap().email_blacklisted);
    let creating = world.writes().into_iter().find(|(_, body)| body["email"] == "zoe@x.example").unwrap().1;
    assert_eq!(creating["emailBlacklisted"], json!(true), "in the request that makes her");
}

#[tokio::test(start_paused = true)]
async fn a_deletion_is_asked_for_before_it_is_believed() {
    let world = with_ada("").await;
    let says = json!({"id": 1, "event": "contact_deleted", "email": "ada@x.example", "list_id": [], "ts": at(&world)});
    assert_eq!(world.as_brevo(says.clone()).await, StatusCode::OK);
    pass(2).await;
    assert!(world.known("ada@x.example").await.is_some());
    assert_eq!((world.reads_of_brevo(), world.notices("brevo_contact_gone").await), (1, 0));
    world.brevo.delete("ada@x.example");
    assert_eq!(world.deliver_brevo().await, 1);
    pass(2).await;
    assert_eq!(world.known("ada@x.example").await, None);
    assert_eq!((world.reads_of_brevo(), world.notices("brevo_contact_gone").await), (2, 1));
    let asked = world.brevo.log().all();
    assert!(asked.iter().all(|request| request.target.contains("contact_id")), "by id: {asked:?}");
    // Of nobody that we know, there is nothing to ask.
    let says = json!({"event": "contact_deleted", "email": "nobody@x.example"});
    assert_eq!(world.as_brevo(says).await, StatusCode::OK);
    pass(2).await;
    assert_eq!(world.reads_of_brevo(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_our_own_key_changed_is_counted_and_not_read() {
    let world = World::leaving("", Store::in_memory().unwrap());
    drop(world);
    let world = with_ada_and_key_name().await;
    let ours = json!({"event": "contact_updated", "email": "ada@x.example", "api_key_name": "linkspan"});
    let theirs = json!({"event": "contact_updated", "email": "ada@x.example", "api_key_name": ""});
    assert_eq!(world.as_brevo(ours).await, StatusCode::OK);
    pass(2).await;
    assert_eq!((world.reads_of_brevo(), world.counter("brevo_webhook_ours").await), (0, 1));
    assert_eq!(world.as_brevo(theirs).await, StatusCode::OK);
    pass(2).await;
    assert_eq!(world.reads_of_brevo(), 1);
    // An opt-out counts, whoever made it.
    let out = json!({"event": "contact_updated", "email": "ada@x.example", "api_key_name": "linkspan",
        "ts": at(&world), "content": [{"email": "ada@x.example", "emailBlacklist": true}]});
    assert_eq!(world.as_brevo(out).await, StatusCode::OK);
    pass(2).await;
    assert!(world.known("ada@x.example").await.unwrap().consent.email_opted_out());
}

async fn with_ada_and_key_name() -> World {
    let mut world = World::keyed("linkspan");
    let seed = ContactSeed { email: Some("ada@x.example".to_owned()), ..Default::default() };
    world.intercom.create_contact(seed);
    world.sync().await;
    world.run().await;
    world
}

/// More than anybody would read one by one: what has changed is read page by page instead.
#[tokio::test(start_paused = true)]
async fn a_flood_of_webhooks_is_one_read_of_what_has_changed() {
    let world = with_ada("").await;
    for n in 0..500 {
        let seed = BrevoSeed { email: Some(format!("p{n}@x.example")), ..BrevoSeed::default() };
        world.brevo.create_contact(seed).unwrap();
    }
    world.brevo.take_webhooks();
    let all: Vec<Value> =
        (0..500).map(|n| json!({"event": "list_addition", "email": format!("p{n}@x.example")})).collect();
    assert_eq!(world.as_brevo(json!(all)).await, StatusCode::OK);
    pass(60).await;
    assert!(world.known("p499@x.example").await.is_some());
    assert_eq!(world.connection.store().read(|tx| tx.count_brevo_hints()).await.unwrap(), 0);
    assert!(world.brevo.log().len() < 10, "{}", world.brevo.log().len());
}

#[tokio::test(start_paused = true)]
async fn what_came_before_a_crash_is_acted_on_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let open = || Store::open(&folder.path().join("state.db"), linkspan::store::Calling::Inline).unwrap();
    let mut world = World::leaving("", open());
    let seed = ContactSeed { email: Some("ada@x.example".to_owned()), ..Default::default() };
    world.intercom.create_contact(seed);
    world.sync().await;
    world.brevo.edit_attributes("ada@x.example", &[("FULLNAME", json!("Ada L"))]);
    let says = json!([{"event": "contact_updated", "email": "ada@x.example"},
                      {"event": "spam", "email": "eve@x.example", "ts_event": at(&world)}]);
    assert_eq!(world.as_brevo(says).await, StatusCode::OK);
    world.restart(open());
    world.run().await;
    assert_eq!(fullname(&world, "ada@x.example").await, "Ada L");
    assert_eq!(world.facts("eve@x.example").await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn only_who_knows_the_secret_is_heard() {
    let world = World::new();
    let body = || json!({"event": "contact_updated", "email": "a@x.example"}).to_string();
    let good = format!("Bearer {BREVO_SECRET}");
    let basic = "Basic bGlua3NwYW46YnJldm8ncy1zZWNyZXQ=".to_owned();
    let wrong = [BREVO_SECRET.to_owned(), "Bearer".into(), "Bearer ".into(), format!("{good}x"), basic.clone()];
    assert_eq!(world.post_brevo(&[], body()).await, StatusCode::UNAUTHORIZED);
    for header in &wrong {
        assert_eq!(world.post_brevo(&[("authorization", header)], body()).await, StatusCode::UNAUTHORIZED, "{header}");
    }
    let twice = [("authorization", good.as_str()), ("authorization", good.as_str())];
    assert_eq!(world.post_brevo(&twice, body()).await, StatusCode::UNAUTHORIZED);
    assert_eq!(waiting(&world).await, 0);
    assert_eq!(world.counter("brevo_webhook_refused_secret").await, 1, "counted as often as it is logged");
    assert_eq!(world.post_brevo(&[("authorization", &good)], body()).await, StatusCode::OK);
    assert_eq!(world.post_brevo(&[("authorization", &good.replace("Bearer", "bearer"))], body()).await, StatusCode::OK);
    assert_eq!(waiting(&world).await, 2, "two that are equal may be two changes");

    let secret = || BREVO_SECRET.to_owned().into();
    let ways = [
        (Auth::Basic("linkspan".to_owned(), secret()), "authorization", basic),
        (Auth::Header("x-linkspan-secret".parse().unwrap(), secret()), "x-linkspan-secret", BREVO_SECRET.to_owned()),
    ];
    for (auth, header, value) in ways {
        let router = Server::new(world.connection.clone(), None).with_brevo(Some(auth)).router();
        for (value, status) in [(value.clone(), 200), (good.clone(), 401), (format!("{value}="), 401)] {
            let request = axum::http::Request::post("/webhooks/brevo").header(header, value);
            let request = request.body(axum::body::Body::from(body())).unwrap();
            assert_eq!(crate::world::send(&router, request).await.0.as_u16(), status);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_secret_there_is_no_receiver() {
    let world = World::new();
    for auth in [None, Some(Auth::Bearer(String::new().into()))] {
        let router = Server::new(world.connection.clone(), None).with_brevo(auth).router();
        let request = axum::http::Request::post("/webhooks/brevo").header("authorization", "Bearer ");
        let request = request.body(axum::body::Body::from(r#"{"event":"spam","email":"a@x.example"}"#)).unwrap();
        assert_eq!(crate::world::send(&router, request).await.0, StatusCode::NOT_FOUND);
    }
}

#[tokio::test(start_paused = true)]
async fn garbage_is_refused_and_the_unknown_kept() {
    let world = World::new();
    let token = format!("Bearer {BREVO_SECRET}");
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let deep_inside = format!(r#"{{"event":"spam","content":{}1{}}}"#, "[".repeat(5_000), "]".repeat(5_000));
    let bad = [
        "",
        "x",
        "{",
        "[]",
        "{}",
        "null",
        "7",
        "[{}]",
        r#"{"event":""}"#,
        r#"{"event":7}"#,
        "[1,[]]",
        &deep,
        &deep_inside,
    ];
    for body in bad {
        let status = world.post_brevo(&[("authorization", &token)], body.to_owned()).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{}", &body[..body.len().min(40)]);
    }
    let long = format!(r#"{{"event":"spam","email":"{}"}}"#, "a".repeat(linkspan::brevo::webhook::LONGEST_BODY));
    assert_eq!(world.post_brevo(&[("authorization", &token)], long).await, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(waiting(&world).await, 0);
    assert_eq!(world.as_brevo(json!({"event": "brand_new", "whatever": [null]})).await, StatusCode::OK);
    assert_eq!(world.as_brevo(json!({"event": "contact_updated", "content": "odd", "email": 7})).await, StatusCode::OK);
    assert_eq!(waiting(&world).await, 2);
}

/// The import of an existing contact may lift a blocklisting; who opted out while it was on its way is put back.
#[tokio::test(start_paused = true)]
async fn an_opt_out_during_an_unfinished_import_survives_its_end() {
    let mut world = World::with("limits: { brevo: { import_threshold: 5 } }", Store::in_memory().unwrap());
    let named = |n: usize| format!("p{n}@x.example");
    let seed = |n| ContactSeed { email: Some(named(n)), name: Some("Ann".to_owned()), ..Default::default() };
    let ids: Vec<String> = (0..10).map(|n| world.intercom.create_contact(seed(n))).collect();
    world.sync().await;
    world.run().await;
    world.register("marketing", &HINTS, false).await;
    world.brevo.take_webhooks();
    world.brevo.imports_take(std::time::Duration::from_secs(120));
    for id in &ids {
        world.intercom.edit_contact(id, &json!({"name": "Anna"})).unwrap();
    }
    world.deliver().await;
    let imported = || world.writes().iter().any(|(template, _)| template == "/contacts/import");
    until("the import", imported).await;
    pass(5).await;
    world.brevo.unsubscribe("p3@x.example");
    world.deliver_brevo().await;
    pass(2).await;
    assert!(world.known("p3@x.example").await.unwrap().consent.email_opted_out());
    let changed = || (0..10).all(|n| world.attribute(&named(n), "FULLNAME") == "Anna");
    let mut waited = 0;
    while !changed() {
        assert!(waited < 600, "the names");
        pass(5).await;
        waited += 5;
    }
    world.deliver_brevo().await;
    pass(600).await;
    assert!(world.brevo.contact_by_email("p3@x.example").unwrap().email_blacklisted, "{:?}", world.writes());
}

/// What a webhook shows while a write is in flight is judged as any other read is: the write is not taken for an edit.
#[tokio::test(start_paused = true)]
async fn a_webhook_of_our_own_write_makes_no_echo() {
    let world = with_ada("").await;
    let ada = world.intercom.contact_ids()[0].clone();
    for n in 0..3 {
        world.intercom.edit_contact(&ada, &json!({"name": format!("Ada {n}")})).unwrap();
        world.deliver().await;
        until("the name", || world.attribute("ada@x.example", "FULLNAME") == format!("Ada {n}")).await;
        assert!(world.deliver_brevo().await > 0, "Brevo tells us of it");
        pass(1).await;
    }
    let writes = world.writes().len();
    pass(300).await;
    assert_eq!(world.writes().len(), writes, "{:?}", world.writes());
    assert_eq!(world.attribute("ada@x.example", "FULLNAME"), "Ada 2");
    let lost = world.connection.store().read(|tx| tx.counts()).await.unwrap().conflicts;
    assert_eq!(lost, 0);
}

#[tokio::test(start_paused = true)]
async fn no_log_names_whom_a_webhook_names() {
    let (log, _logging) = crate::Log::of("trace,h2=off,hyper=off,reqwest=off");
    let world = with_ada("").await;
    let odd =
        json!({"event": "unsubscribed", "email": "ada@x.example", "ts_event": at(&world), "reason": "Ada King said"});
    for body in [
        odd.clone(),
        json!([odd, {"email": "ada@x.example"}]),
        json!({"event": "contact_deleted", "email": "eve@x.example"}),
    ] {
        assert_eq!(world.as_brevo(body).await, StatusCode::OK);
    }
    let token = format!("Bearer {BREVO_SECRET}");
    let cut = r#"{"event":"spam","email":"ada@x.example"#;
    assert_eq!(world.post_brevo(&[("authorization", &token)], cut).await, StatusCode::BAD_REQUEST);
    assert_eq!(world.post_brevo(&[("authorization", "Bearer wrong-secret")], cut).await, StatusCode::UNAUTHORIZED);
    pass(5).await;
    let said = log.text();
    let lines: Vec<&str> = said.lines().filter(|line| line.to_lowercase().contains("webhook")).collect();
    assert!(lines.iter().any(|line| line.contains("unsubscribed")), "{lines:?}");
    for word in ["ada@", "eve@", "King", BREVO_SECRET, "wrong-secret"] {
        assert!(!lines.iter().any(|line| line.contains(word)), "{word}: {lines:#?}");
    }
}
