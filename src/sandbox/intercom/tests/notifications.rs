//! Conversations, events and webhooks.

use super::*;

#[tokio::test]
async fn notifications_have_the_vendors_shape_and_signature() {
    let bench = Bench::new();
    let id = bench.contact("n@example.com");
    let webhook = bench.sandbox.take_webhooks().remove(0);
    let header =
        |name: &str| webhook.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.clone()).unwrap();
    assert_eq!(
        header("X-Hub-Signature"),
        crate::sandbox::intercom::webhooks::signature(bench.sandbox.client_secret(), &webhook.body)
    );
    // RFC 2202's second case pins the algorithm.
    assert_eq!(
        crate::sandbox::intercom::webhooks::signature("Jefe", b"what do ya want for nothing?"),
        "sha1=effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"
    );
    let body: Value = serde_json::from_slice(&webhook.body).unwrap();
    assert_eq!(body["type"], "notification_event");
    assert_eq!(body["topic"], "contact.user.created");
    assert!(body["id"].as_str().unwrap().starts_with("notif_"));
    assert_eq!((&body["delivery_status"], &body["delivered_at"]), (&json!("pending"), &json!(0)));
    assert_eq!(body["data"]["item"]["created_at"], "2026-03-10T20:00:00.000+00:00");
    assert_eq!(bench.get(&format!("/contacts/{id}")).await.body["created_at"], 1_773_172_800);
    bench.sandbox.ping();
    let body: Value = serde_json::from_slice(&bench.sandbox.take_webhooks()[0].body).unwrap();
    assert_eq!((&body["id"], &body["delivery_status"], &body["topic"]), (&Value::Null, &Value::Null, &json!("ping")));
}

#[tokio::test]
async fn what_changed_decides_the_topic() {
    let bench = Bench::new();
    let id = bench.contact("t@example.com");
    let lead = bench.sandbox.create_contact(ContactSeed { lead: true, ..ContactSeed::default() });
    assert_eq!(bench.topics(), ["contact.user.created", "contact.lead.created"]);
    bench.sandbox.edit_contact(&id, &json!({"name": "T"})).unwrap();
    bench.sandbox.set_email(&id, Some("t2@example.com")).unwrap();
    bench.sandbox.set_email(&lead, Some("l@example.com")).unwrap();
    bench.sandbox.unsubscribe(&id).unwrap();
    bench.sandbox.resubscribe(&id).unwrap();
    bench.sandbox.tag(&id, "VIP").unwrap();
    bench.sandbox.untag(&id, "VIP").unwrap();
    bench.sandbox.archive(&id).unwrap();
    bench.sandbox.unarchive(&id).unwrap();
    bench.sandbox.delete(&id).unwrap();
    let items = bench.items();
    let topics: Vec<&str> = items.iter().map(|(topic, _)| topic.as_str()).collect();
    assert_eq!(
        topics,
        [
            "contact.user.updated",
            "contact.email.updated",
            "contact.lead.added_email",
            "contact.unsubscribed",
            "contact.subscribed",
            "contact.user.tag.created",
            "contact.user.tag.deleted",
            "contact.archived",
            "contact.unarchive",
            "contact.deleted",
        ]
    );
    assert_eq!(items[3].1["contact"]["unsubscribed_from_emails"], true);
    assert_eq!(items[3].1["subscription_types"]["data"], json!([]));
    assert_eq!(items[9].1, json!({"type": "contact", "id": id, "external_id": "ext-t@example.com", "deleted": true}));
    // Writes over the API come back as webhooks too.
    bench.ask("PUT", &format!("/contacts/{lead}"), json!({"name": "L"}), &[]).await;
    assert_eq!(bench.topics(), ["contact.lead.updated"]);
}

#[tokio::test]
async fn conversations_live_and_are_searched_to_the_second() {
    let bench = Bench::new();
    let person = bench.contact("c@example.com");
    bench.sandbox.take_webhooks();
    let id = bench.sandbox.open_conversation(&person, "Hello").unwrap();
    bench.clock.forward(1);
    let other = bench.sandbox.open_conversation(&person, "Again").unwrap();
    let opened = 1_773_172_800;
    let query = json!({"query": {"field": "updated_at", "operator": ">", "value": opened}});
    let got = bench.post("/conversations/search", query).await.body;
    assert_eq!(got["conversations"][0]["id"], other.as_str());
    assert_eq!(got["total_count"], 1);
    assert!(got["conversations"][0].get("conversation_parts").is_none());
    bench.clock.forward(60);
    bench.sandbox.admin_reply(&id, "Hi").unwrap();
    bench.sandbox.snooze(&id, opened + 90_000).unwrap();
    assert_eq!(bench.get(&format!("/conversations/{id}")).await.body["open"], true);
    bench.sandbox.reply(&id, "And?").unwrap();
    bench.sandbox.close_conversation(&id).unwrap();
    bench.sandbox.rate(&id, 5, Some("great")).unwrap();
    let full = bench.get(&format!("/conversations/{id}")).await.body;
    assert_eq!((&full["state"], &full["open"]), (&json!("closed"), &json!(false)));
    assert_eq!(full["conversation_parts"]["total_count"], 4);
    assert_eq!(full["statistics"]["count_conversation_parts"], 5);
    assert_eq!(full["statistics"]["last_close_at"], opened + 61);
    assert_eq!(full["conversation_rating"]["rating"], 5);
    let items = bench.items();
    let topics: Vec<&str> = items.iter().map(|(topic, _)| topic.as_str()).collect();
    assert_eq!(
        topics,
        [
            "conversation.user.created",
            "conversation.user.created",
            "conversation.admin.replied",
            "conversation.admin.snoozed",
            "conversation.user.replied",
            "conversation.admin.closed",
            "conversation.rating.added",
        ]
    );
    let closed = &items[5].1;
    assert_eq!(closed["conversation_parts"]["total_count"], 1);
    assert_eq!(closed["statistics"]["last_close_at"], "2026-03-10T20:01:01.000Z");
    assert!(closed["teammates"]["admins"].is_array());
    bench.sandbox.webhook_generation(WebhookGeneration::V2_15);
    bench.sandbox.reply(&id, "Hm").unwrap();
    let (_, item) = bench.items().remove(0);
    assert_eq!(item["statistics"]["last_close_at"], opened + 61);
    assert_eq!(item["conversation_parts"]["conversation_parts"][0]["body"], "Hm");
    bench.sandbox.delete_conversation(&id).unwrap();
    assert_eq!(bench.items()[0].1, json!({"type": "conversation", "conversation_id": id}));
    assert_eq!(bench.get(&format!("/conversations/{id}")).await.status, 404);
}

#[tokio::test]
async fn a_snooze_ends_by_itself() {
    let bench = Bench::new();
    let person = bench.contact("s@example.com");
    let id = bench.sandbox.open_conversation(&person, "Later, please").unwrap();
    bench.sandbox.snooze(&id, bench.clock.now().timestamp() + 60).unwrap();
    bench.sandbox.take_webhooks();
    bench.clock.forward(59);
    assert_eq!(bench.get(&format!("/conversations/{id}")).await.body["state"], "snoozed");
    bench.clock.forward(1);
    let got = bench.get(&format!("/conversations/{id}")).await.body;
    assert_eq!((&got["state"], &got["snoozed_until"]), (&json!("open"), &Value::Null));
    assert_eq!(bench.topics(), ["conversation.admin.unsnoozed"]);
}

#[tokio::test]
async fn events_are_accepted_once() {
    let bench = Bench::new();
    let id = bench.contact("e@example.com");
    bench.sandbox.take_webhooks();
    let event = json!({"event_name": "ordered", "created_at": 1_773_172_000, "id": id});
    for _ in 0..2 {
        let got = bench.post("/events", event.clone()).await;
        assert_eq!((got.status, got.raw.len()), (202, 0));
    }
    assert_eq!(bench.topics(), ["event.created"]);
    assert_eq!(
        bench.post("/events", json!({"event_name": "x", "created_at": 1, "email": "no@example.com"})).await.status,
        404
    );
}

#[tokio::test]
async fn waiting_for_notifications_ends_when_one_comes() {
    let bench = Bench::new();
    let waiting = bench.sandbox.clone();
    let (got, ()) = tokio::join!(waiting.next_webhooks(), async {
        tokio::task::yield_now().await;
        bench.contact("w@example.com");
    });
    assert_eq!(got.len(), 1);
}
