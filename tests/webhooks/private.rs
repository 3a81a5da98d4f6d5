//! Nobody is named in a log at info, in the notes of runs, or in what is printed of errors: also where a vendor's refusal
//! repeats what it was sent.

use crate::Log;
use crate::world::{World, pass};
use axum::body::Body;
use axum::extract::Request;
use axum::http::{Method, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Response};
use linkspan::engine::{Silent, SyncOptions};
use linkspan::sandbox::brevo::WorldShares;
use linkspan::store::Store;
use serde_json::json;
use std::collections::BTreeSet;

/// A Brevo that refuses each contact with a phone, each option and each event, and repeats all that it was sent.
async fn talkative(request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let writes = matches!(*request.method(), Method::POST | Method::PUT);
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 24).await.unwrap();
    let text = String::from_utf8_lossy(&body).into_owned();
    let refused = writes
        && (path.contains("/events")
            || path.ends_with("/contacts/import")
            || (path.contains("/contacts") && !path.contains("/lists") && text.contains("\"SMS\"")));
    if !refused {
        return next.run(Request::from_parts(parts, Body::from(body))).await;
    }
    // Without the marks that JSON sets, which end what is an address or a number.
    let plain = text.replace(['"', '{', '}'], " ");
    let words = json!({"code": "invalid_parameter", "message": format!("not valid: {plain}")});
    (StatusCode::BAD_REQUEST, axum::Json(words)).into_response()
}

/// Every address, number, name and secret of the world.
fn private(world: &World) -> BTreeSet<String> {
    let mut all: BTreeSet<String> =
        [world.intercom.access_token(), world.intercom.client_secret(), world.brevo.api_key()]
            .map(str::to_owned)
            .into();
    for contact in world.intercom.contact_ids().iter().filter_map(|id| world.intercom.contact(id)) {
        let text = |key: &str| contact[key].as_str().map(|text| text.trim().to_owned()).unwrap_or_default();
        all.extend([text("email"), text("email").to_lowercase()]);
        // A single short word may be part of any other.
        all.extend(Some(text("name")).filter(|name| name.contains(' ')));
        let digits: String = text("phone").chars().filter(char::is_ascii_digit).collect();
        all.extend([text("phone"), digits].into_iter().filter(|phone| phone.len() >= 7));
    }
    all.retain(|text| text.len() > 4);
    all
}

#[tokio::test(start_paused = true)]
async fn a_log_at_info_names_nobody_whatever_a_vendor_says() {
    let (log, _logging) = Log::of("info");
    let more = "limits: {brevo: {import_threshold: 20}}\nphone: {default_region: US}\n";
    let mut world = World::with_before(more, Store::in_memory().unwrap(), |brevo| brevo.layer(from_fn(talkative)));
    world.intercom.world(3, 80);
    let people: Vec<(String, Option<String>)> = (world.intercom.contact_ids().iter())
        .filter_map(|id| world.intercom.contact(id))
        .filter_map(|contact| {
            Some((contact["email"].as_str()?.to_owned(), contact["phone"].as_str().map(str::to_owned)))
        })
        .collect();
    world.brevo.world(3, &people, &WorldShares { conflicting: 0.5, phone_taken: 0.2, ..WorldShares::default() }, 1);
    let mut said = Vec::new();
    for full in [true, false, true] {
        pass(600).await;
        let summary = world.connection.sync(&SyncOptions { full, ..SyncOptions::default() }, &Silent).await.unwrap();
        said.push(serde_json::to_string(&summary).unwrap());
    }
    world.run().await;
    world.intercom.take_webhooks();
    for id in world.intercom.contact_ids().iter().take(12) {
        world.intercom.edit_contact(id, &json!({"name": "Augusta Ada King", "phone": "+353861234567"})).unwrap();
        world.intercom.open_conversation(id, "my number is +353861234567").ok();
        world.intercom.unsubscribe(id).ok();
    }
    let hooks = world.intercom.take_webhooks();
    for hook in &hooks {
        assert_eq!(world.post(hook).await, StatusCode::OK);
        assert_eq!(world.post(hook).await, StatusCode::OK, "a repeat");
    }
    pass(900).await;
    let broken = json!({"topic": "contact.user.updated", "id": "n1", "data": {"item": {"email": people[0].0}}});
    assert_eq!(world.post_signed(broken.to_string()).await, StatusCode::OK);
    assert_eq!(world.post_signed(people[1].0.clone()).await, StatusCode::BAD_REQUEST);
    pass(60).await;

    let (failures, runs) = world.connection.store().read(|tx| Ok((tx.failures(1_000)?, tx.runs(500)?))).await.unwrap();
    assert!(failures.iter().any(|failure| failure.message.contains("not valid")), "some were refused: {failures:?}");
    said.push(serde_json::to_string(&runs).unwrap());
    said.push(log.text());
    assert!(log.text().contains("webhook") && log.text().contains("import was refused"), "{}", log.text());
    for text in private(&world) {
        for said in &said {
            let line = said.lines().find(|line| line.contains(&text));
            assert!(line.is_none(), "{text:?} in {line:?}");
        }
    }
}

/// What Intercom does not say must not be lost unseen: a topic that we know, about no record.
#[tokio::test(start_paused = true)]
async fn a_notification_of_a_known_topic_that_names_no_record_is_kept_counted_and_logged() {
    let (log, _logging) = Log::of("info");
    let mut world = World::new();
    world.run().await;
    let mut odd = vec![
        world.notification("n1", "contact.user.updated", json!({})),
        world.notification("n2", "conversation.admin.closed", json!({"email": "ann@x.example"})),
        world.notification("n3", "company.updated", json!(null)),
    ];
    odd[2]["data"] = json!(null);
    for body in &odd {
        assert_eq!(world.post_signed(body.to_string()).await, StatusCode::OK);
    }
    pass(10).await;
    assert_eq!(world.counter("webhook_unreadable").await, 3);
    let text = log.text();
    for (id, topic) in [("n1", "contact.user.updated"), ("n2", "conversation.admin.closed"), ("n3", "company.updated")]
    {
        let lines: Vec<&str> = text.lines().filter(|line| line.contains(&format!("\"{id}\""))).collect();
        let [line] = lines.as_slice() else { panic!("one line for {id}: {lines:?}") };
        assert!(line.contains(" WARN ") && line.contains(topic) && line.contains("names no record"), "{line}");
    }
    assert!(!text.contains("ann@x.example"));

    assert_eq!(world.post_signed(odd[0].to_string()).await, StatusCode::OK);
    pass(10).await;
    let repeated: Vec<String> =
        log.text().lines().filter(|line| line.contains("repeated")).map(str::to_owned).collect();
    assert!(
        matches!(repeated.as_slice(), [line] if line.contains("n1") && line.contains("contact.user.updated")),
        "{repeated:?}"
    );
    assert_eq!(world.counter("webhook_unreadable").await, 3, "acted on once");

    let before = log.text().matches("refused (400)").count();
    for _ in 0..3 {
        assert_eq!(world.post_signed("no notification").await, StatusCode::BAD_REQUEST);
    }
    assert_eq!(log.text().matches("refused (400)").count() - before, 3, "a line for each that Intercom has signed");
}
