//! What notifications change in Brevo.

use crate::world::{World, pass, until};
use axum::http::StatusCode;
use linkspan::model::IntercomContactId;
use linkspan::sandbox::intercom::{ContactSeed, WebhookGeneration};
use linkspan::store::contacts::ContactState;
use serde_json::{Value, json};
use std::time::Duration;

fn seed(email: &str, name: &str) -> ContactSeed {
    ContactSeed {
        email: Some(email.to_owned()),
        name: Some(name.to_owned()),
        external_id: Some(format!("ext-{name}")),
        ..ContactSeed::default()
    }
}

fn lead(email: &str, name: &str) -> ContactSeed {
    ContactSeed { lead: true, external_id: None, ..seed(email, name) }
}

async fn state_of(world: &World, id: &str) -> Option<ContactState> {
    let id = IntercomContactId::new(id);
    let row = world.connection.store().read(move |tx| tx.intercom_contact(&id)).await.unwrap();
    row.map(|row| row.state)
}

fn events(world: &World, name: &str) -> usize {
    world.brevo.events().iter().filter(|event| event.name == name).count()
}

#[tokio::test(start_paused = true)]
async fn an_edit_arrives_within_a_second() {
    let mut world = World::new();
    let ada = world.intercom.create_contact(seed("ada@x.example", "Ada"));
    world.sync().await;
    assert_eq!(world.attribute("ada@x.example", "FULLNAME"), "Ada");
    world.run().await;
    world.intercom.edit_contact(&ada, &json!({"name": "Ada King"})).unwrap();
    world.deliver().await;
    let took = until("the name", || world.attribute("ada@x.example", "FULLNAME") == "Ada King").await;
    // Under paused time this is what we wait on purpose, and no machine's speed.
    assert!(took < Duration::from_secs(1), "{took:?}");
    let bo = world.intercom.create_contact(seed("bo@x.example", "Bo"));
    world.deliver().await;
    until("a new contact", || world.attribute("bo@x.example", "FULLNAME") == "Bo").await;
    world.intercom.set_email(&bo, Some("bo@new.example")).unwrap();
    world.deliver().await;
    until("its new address", || world.brevo.contact_by_email("bo@new.example").is_some()).await;
    assert!(world.brevo.contact_by_email("bo@x.example").is_none());
    assert!(world.intercom.log().writes().is_empty(), "there is nothing for Intercom");
}

#[tokio::test(start_paused = true)]
async fn tags_and_companies_arrive() {
    let mut world = World::new();
    let ada = world.intercom.create_contact(seed("ada@x.example", "Ada"));
    world.sync().await;
    world.run().await;
    let tags = || world.attribute("ada@x.example", "INTERCOM_TAGS");
    world.intercom.tag(&ada, "vip").unwrap();
    world.deliver().await;
    until("a tag", || tags() == json!(["vip"])).await;
    world.intercom.tag(&ada, "beta").unwrap();
    world.deliver().await;
    until("another", || tags().as_array().is_some_and(|tags| tags.len() == 2)).await;
    world.intercom.untag(&ada, "vip").unwrap();
    world.deliver().await;
    until("the end of one", || tags() == json!(["beta"])).await;
    let acme = world.intercom.create_company(&json!({"company_id": "c1", "name": "Acme"})).unwrap();
    world.intercom.attach_company(&ada, &acme).unwrap();
    world.deliver().await;
    until("the company", || world.attribute("ada@x.example", "COMPANY_NAME") == "Acme").await;
    world.intercom.edit_company(&acme, &json!({"name": "Acme & Co"})).unwrap();
    world.deliver().await;
    until("the company's name", || world.attribute("ada@x.example", "COMPANY_NAME") == "Acme & Co").await;
}

#[tokio::test(start_paused = true)]
async fn an_opt_out_is_the_first_write() {
    let mut world = World::new();
    let ids: Vec<String> =
        (0..30).map(|n| world.intercom.create_contact(seed(&format!("p{n}@x.example"), "Ann"))).collect();
    world.sync().await;
    world.run().await;
    for id in &ids {
        world.intercom.edit_contact(id, &json!({"name": "Anna"})).unwrap();
    }
    // Told last, written first.
    world.intercom.unsubscribe(&ids[17]).unwrap();
    world.deliver().await;
    let out = || world.brevo.contact_by_email("p17@x.example").unwrap().email_blacklisted;
    until("the opt-out", out).await;
    until("the names", || (0..30).all(|n| world.attribute(&format!("p{n}@x.example"), "FULLNAME") == "Anna")).await;
    let writes = world.writes();
    assert_eq!(writes[0].1["emailBlacklisted"], json!(true), "{:?}", writes[0]);
    for (_, body) in &writes {
        assert_ne!(body["emailBlacklisted"], json!(false), "{body}");
    }
    let others = (0..30).filter(|n| *n != 17);
    assert!(
        others
            .map(|n| world.brevo.contact_by_email(&format!("p{n}@x.example")).unwrap())
            .all(|contact| !contact.email_blacklisted)
    );
}

#[tokio::test(start_paused = true)]
async fn a_lead_that_signs_up_moves_to_the_users() {
    let mut world = World::new();
    let id = world.intercom.create_contact(lead("lea@x.example", "Lea"));
    world.sync().await;
    assert!(world.is_on("Leads", "lea@x.example") && !world.is_on("Users", "lea@x.example"));
    world.run().await;
    world.intercom.sign_up(&id, "u-1").unwrap();
    world.deliver().await;
    until("the move", || world.is_on("Users", "lea@x.example") && !world.is_on("Leads", "lea@x.example")).await;
}

#[tokio::test(start_paused = true)]
async fn a_deletion_is_confirmed_and_brevo_left_alone() {
    let mut world = World::new();
    let ada = world.intercom.create_contact(seed("ada@x.example", "Ada"));
    let bo = world.intercom.create_contact(seed("bo@x.example", "Bo"));
    world.sync().await;
    let before = world.brevo.contacts();
    world.run().await;
    world.intercom.delete(&ada).unwrap();
    world.deliver().await;
    // Says that Bo is gone, but he is there: out of order, or wrong.
    let lie = world.notification("notif_lie", "contact.deleted", json!({"id": bo, "type": "contact", "deleted": true}));
    assert_eq!(world.post_signed(lie.to_string()).await, StatusCode::OK);
    pass(5).await;
    assert_eq!(state_of(&world, &ada).await, Some(ContactState::Deleted));
    assert_eq!(state_of(&world, &bo).await, Some(ContactState::Live));
    // An edit from before the deletion comes late, and changes nothing.
    let mut late = world.intercom.contact(&ada).unwrap();
    late["name"] = json!("Adele");
    late["updated_at"] = json!("2030-01-01T00:00:00.000+00:00");
    let late = world.notification("notif_late", "contact.user.updated", late);
    assert_eq!(world.post_signed(late.to_string()).await, StatusCode::OK);
    pass(5).await;
    assert_eq!(state_of(&world, &ada).await, Some(ContactState::Deleted), "a read decides, not the payload");
    assert_eq!(world.brevo.contacts(), before);
    assert!(world.writes().is_empty(), "{:?}", world.writes());
}

#[tokio::test(start_paused = true)]
async fn an_archived_contact_is_left_alone_until_it_is_back() {
    let mut world = World::new();
    let ada = world.intercom.create_contact(seed("ada@x.example", "Ada"));
    world.sync().await;
    world.run().await;
    world.intercom.archive(&ada).unwrap();
    world.deliver().await;
    pass(5).await;
    assert_ne!(state_of(&world, &ada).await, Some(ContactState::Live));
    assert!(world.writes().is_empty(), "{:?}", world.writes());
    world.intercom.unarchive(&ada).unwrap();
    world.intercom.edit_contact(&ada, &json!({"name": "Ada again"})).unwrap();
    world.deliver().await;
    until("the edit", || world.attribute("ada@x.example", "FULLNAME") == "Ada again").await;
}

#[tokio::test(start_paused = true)]
async fn a_merge_that_does_not_name_the_lost_one() {
    let mut world = World::new();
    let lea = world.intercom.create_contact(lead("lea@x.example", "Lea"));
    let una = world.intercom.create_contact(seed("una@x.example", "Una"));
    world.sync().await;
    world.run().await;
    world.intercom.merge(&lea, &una).unwrap();
    world.intercom.edit_contact(&una, &json!({"name": "Una Merged"})).unwrap();
    world.deliver().await;
    until("the survivor's name", || world.attribute("una@x.example", "FULLNAME") == "Una Merged").await;
    assert_eq!(world.brevo.contact_count(), 2, "nobody is deleted in Brevo");
}

#[tokio::test(start_paused = true)]
async fn repeats_are_acted_on_once() {
    let mut world = World::new();
    let ada = world.intercom.create_contact(seed("ada@x.example", "Ada"));
    world.sync().await;
    world.run().await;
    world.intercom.edit_contact(&ada, &json!({"name": "Ada King"})).unwrap();
    let hooks = world.intercom.take_webhooks();
    assert_eq!(hooks.len(), 1);
    for _ in 0..5 {
        assert_eq!(world.post(&hooks[0]).await, StatusCode::OK);
        pass(3).await;
    }
    assert_eq!(world.counter("webhook.contact.user.updated").await, 1);
    assert_eq!(world.writes().len(), 1, "{:?}", world.writes());
}

#[tokio::test(start_paused = true)]
async fn older_state_is_ignored() {
    let mut world = World::new();
    let ada = world.intercom.create_contact(seed("ada@x.example", "Ada"));
    world.sync().await;
    world.run().await;
    world.intercom.edit_contact(&ada, &json!({"name": "Second"})).unwrap();
    pass(2).await;
    world.intercom.edit_contact(&ada, &json!({"name": "Third"})).unwrap();
    let hooks = world.intercom.take_webhooks();
    assert_eq!(hooks.len(), 2);
    // Newest first, as after an incident.
    assert_eq!(world.post(&hooks[1]).await, StatusCode::OK);
    until("the newest", || world.attribute("ada@x.example", "FULLNAME") == "Third").await;
    assert_eq!(world.post(&hooks[0]).await, StatusCode::OK);
    pass(5).await;
    assert_eq!(world.attribute("ada@x.example", "FULLNAME"), "Third");
    assert_eq!(world.writes().len(), 1, "{:?}", world.writes());
}

/// Two edits within one second: the payloads cannot be ordered, so a read decides.
#[tokio::test(start_paused = true)]
async fn within_one_second_a_read_decides() {
    let mut world = World::new();
    let ada = world.intercom.create_contact(seed("ada@x.example", "Ada"));
    world.sync().await;
    world.run().await;
    world.intercom.edit_contact(&ada, &json!({"name": "Second"})).unwrap();
    world.intercom.edit_contact(&ada, &json!({"name": "Third"})).unwrap();
    let hooks = world.intercom.take_webhooks();
    for hook in hooks.iter().rev() {
        assert_eq!(world.post(hook).await, StatusCode::OK);
    }
    until("the last", || world.attribute("ada@x.example", "FULLNAME") == "Third").await;
    pass(5).await;
    assert_eq!(world.attribute("ada@x.example", "FULLNAME"), "Third");
}

#[tokio::test(start_paused = true)]
async fn what_is_not_for_us_is_kept_counted_and_changes_nothing() {
    let mut world = World::new();
    let ada = world.intercom.create_contact(seed("ada@x.example", "Ada"));
    world.sync().await;
    world.run().await;
    world.intercom.edit_contact(&ada, &json!({"name": "Foreign"})).unwrap();
    let hooks = world.intercom.take_webhooks();
    let mut foreign: Value = serde_json::from_slice(&hooks[0].body).unwrap();
    foreign["app_id"] = json!("another");
    assert_eq!(world.post_signed(foreign.to_string()).await, StatusCode::OK);
    let unknown = world.notification("notif_u", "planet.aligned", json!({"type": "planet", "id": ada}));
    assert_eq!(world.post_signed(unknown.to_string()).await, StatusCode::OK);
    world.intercom.ping();
    world.intercom.ping();
    assert_eq!(world.deliver().await, 2);
    pass(5).await;
    assert_eq!(world.counter("webhook_other_workspace").await, 1);
    assert_eq!(world.counter("webhook_unknown_topic").await, 1);
    assert_eq!(world.counter("webhook.ping").await, 2, "a ping has no id, so that none is a repeat");
    assert_eq!(world.attribute("ada@x.example", "FULLNAME"), "Ada");
    assert!(world.writes().is_empty());
    assert!(world.intercom.log().is_empty(), "nothing was read either: {:?}", world.intercom.log().all());
}

#[tokio::test(start_paused = true)]
async fn conversations_reach_their_contact() {
    for generation in [WebhookGeneration::V2_11, WebhookGeneration::V2_15] {
        let mut world = World::new();
        world.intercom.webhook_generation(generation);
        let ada = world.intercom.create_contact(seed("ada@x.example", "Ada"));
        world.sync().await;
        world.run().await;
        let id = world.intercom.open_conversation(&ada, "Hello?").unwrap();
        world.deliver().await;
        until("the list", || world.is_on("In touch", "ada@x.example")).await;
        until("created", || events(&world, "intercom_conversation_created") == 1).await;
        pass(2).await;
        world.intercom.snooze(&id, 1_900_000_000).unwrap();
        world.deliver().await;
        until("snoozed", || events(&world, "intercom_conversation_snoozed") == 1).await;
        pass(2).await;
        world.intercom.close_conversation(&id).unwrap();
        world.deliver().await;
        until("closed", || events(&world, "intercom_conversation_closed") == 1).await;
        until("off the list", || !world.is_on("In touch", "ada@x.example")).await;
        pass(2).await;
        world.intercom.rate(&id, 5, Some("thanks")).unwrap();
        world.deliver().await;
        until("rated", || events(&world, "intercom_conversation_rated") == 1).await;
        pass(30).await;
        assert_eq!(world.brevo.events().len(), 4, "{generation:?}: {:?}", world.brevo.events());
    }
}

#[tokio::test(start_paused = true)]
async fn a_webhook_and_a_poll_together_send_one_event() {
    let mut world = World::new();
    let ada = world.intercom.create_contact(seed("ada@x.example", "Ada"));
    world.sync().await;
    world.run().await;
    let id = world.intercom.open_conversation(&ada, "Hello?").unwrap();
    pass(5).await;
    world.intercom.close_conversation(&id).unwrap();
    let hooks = world.intercom.take_webhooks();
    for hook in &hooks {
        assert_eq!(world.post(hook).await, StatusCode::OK);
    }
    until("closed", || events(&world, "intercom_conversation_closed") == 1).await;
    // The poll sees it too; then the webhooks come again under other ids, as if Intercom had resent them so.
    world.sync().await;
    for (n, hook) in hooks.iter().enumerate() {
        let mut again: Value = serde_json::from_slice(&hook.body).unwrap();
        again["id"] = json!(format!("notif_again_{n}"));
        assert_eq!(world.post_signed(again.to_string()).await, StatusCode::OK);
    }
    pass(60).await;
    assert_eq!(events(&world, "intercom_conversation_created"), 1);
    assert_eq!(events(&world, "intercom_conversation_closed"), 1);
}

/// The first close is told late, when the conversation has long been opened and closed again: both count, once each.
#[tokio::test(start_paused = true)]
async fn what_happened_counts_even_if_the_state_is_old() {
    let mut world = World::new();
    let ada = world.intercom.create_contact(seed("ada@x.example", "Ada"));
    world.sync().await;
    world.run().await;
    let id = world.intercom.open_conversation(&ada, "Hello?").unwrap();
    world.deliver().await;
    pass(5).await;
    world.intercom.close_conversation(&id).unwrap();
    let late = world.intercom.take_webhooks();
    pass(5).await;
    world.intercom.reopen(&id).unwrap();
    // That it was opened again is never told, or the first close would show there.
    world.intercom.take_webhooks();
    pass(5).await;
    world.intercom.close_conversation(&id).unwrap();
    world.deliver().await;
    until("the second close", || events(&world, "intercom_conversation_closed") == 1).await;
    for hook in &late {
        assert_eq!(world.post(hook).await, StatusCode::OK);
    }
    until("the first close", || events(&world, "intercom_conversation_closed") == 2).await;
    pass(30).await;
    assert_eq!(events(&world, "intercom_conversation_closed"), 2);
    assert!(!world.is_on("In touch", "ada@x.example"), "the older state was not taken");
}

#[tokio::test(start_paused = true)]
async fn a_deleted_conversation_is_named_by_a_field_of_its_own() {
    let mut world = World::new();
    let ada = world.intercom.create_contact(seed("ada@x.example", "Ada"));
    let id = world.intercom.open_conversation(&ada, "Hello?").unwrap();
    world.sync().await;
    assert!(world.is_on("In touch", "ada@x.example"));
    world.run().await;
    world.intercom.delete_conversation(&id).unwrap();
    world.deliver().await;
    until("off the list", || !world.is_on("In touch", "ada@x.example")).await;
}

/// Payloads as they were captured, of contacts that nobody has seen yet (and of a workspace that is not ours, in some).
#[tokio::test(start_paused = true)]
async fn every_captured_payload_is_taken() {
    let mut world = World::new();
    world.sync().await;
    world.run().await;
    for (n, (topic, item)) in captured().into_iter().enumerate() {
        for whose in [world.intercom.app_id(), "abc123def".to_owned()] {
            let mut body = world.notification(&format!("notif_{whose}_{n}"), topic, item.clone());
            body["app_id"] = json!(whose);
            assert_eq!(world.post_signed(body.to_string()).await, StatusCode::OK, "{topic}");
        }
    }
    pass(30).await;
    let foreign = world.counter("webhook_other_workspace").await;
    assert_eq!(usize::try_from(foreign).unwrap(), captured().len());
    let (open, _) = world.connection.store().read(|tx| tx.inbox_state()).await.unwrap();
    assert_eq!(open, 0, "each was acted on");
    // And it goes on.
    let bo = world.intercom.create_contact(seed("bo@x.example", "Bo"));
    world.deliver().await;
    until("a new contact", || world.brevo.contact_by_email("bo@x.example").is_some()).await;
    assert!(state_of(&world, &bo).await.is_some());
}

fn captured() -> Vec<(&'static str, Value)> {
    let contact = json!({
        "type": "contact", "id": "6961d4041c1e12de4c5499cc", "workspace_id": "abc123def", "external_id": "24",
        "role": "user", "email": "user@example.com", "unsubscribed_from_emails": false,
        "created_at": "2026-01-10T04:22:28.240+00:00", "updated_at": "2026-01-10T04:22:28.238+00:00",
        "signed_up_at": null, "custom_attributes": {},
        "tags": {"type": "list", "data": [], "url": "/contacts/6961d4041c1e12de4c5499cc/tags", "total_count": 0, "has_more": false},
        "sms_consent": false, "unsubscribed_from_sms": false, "enabled_push_messaging": null,
    });
    let mut in_seconds = contact.clone();
    in_seconds["created_at"] = json!(1_768_018_948);
    in_seconds["updated_at"] = json!(1_768_018_950);
    let company = json!({
        "type": "company", "id": "6961d175205cf6a4438f0c21", "name": "Acme Enterprises", "app_id": "abc123def",
        "plan": null, "company_id": "6961d175205cf6a4438f0c22-qualification-company", "remote_created_at": null,
        "created_at": "2026-01-10T04:11:34.013+00:00", "updated_at": "2026-01-10T04:11:34.206+00:00",
        "last_request_at": null, "size": null, "website": null, "industry": null, "monthly_spend": 0,
        "session_count": 0, "user_count": 1, "custom_attributes": {}, "tag_ids": [],
    });
    let replied = json!({
        "type": "conversation", "id": "215472621202693", "created_at": 1_768_031_789, "updated_at": 1_768_031_793,
        "statistics": {"type": "conversation_statistics", "first_contact_reply_at": "2026-01-10T07:56:29.000Z", "count_conversation_parts": 3},
        "teammates": {"type": "admin.list", "admins": []},
        "conversation_parts": {"type": "conversation_part.list", "total_count": 1, "conversation_parts": [{
            "type": "conversation_part", "id": "37358121213", "part_type": "channel_and_reply_time_expectation",
            "created_at": 1_768_031_793, "author": {"id": "9608808", "type": "bot", "name": "Fin"}, "state": "open",
            "tags": [], "event_details": {}, "app_package_code": null}]},
    });
    let gone = |key: &str| json!({"id": "696122fb2591e0cadd20073a", "external_id": "1", "type": "contact", key: true});
    let tagged = json!({
        "type": "contact_tag", "tag": {"type": "tag", "id": "12934044", "name": "Feature Request"},
        "contact": {"type": "contact", "id": "6961d897719c606240178da8", "role": "lead",
            "updated_at": "2026-01-10T04:49:07.847+00:00",
            "tags": {"type": "list", "data": [{"id": "12934044", "type": "tag", "url": "/tags/12934044"}], "total_count": 1, "has_more": false}},
    });
    let unsubscribed = json!({
        "type": "contact_unsubscribe", "created_at": 1_768_022_508,
        "contact": {"type": "contact", "id": "6961e1e6d1965062ce6434d1", "email": "user@example.com",
            "unsubscribed_from_emails": true, "updated_at": "2026-01-10T05:21:48.255+00:00"},
        "subscription_types": {"type": "list", "data": []},
    });
    let granular = json!({
        "type": "granular_unsubscribe", "contact": contact, "created_at": 1_768_022_508,
        "subscription_types": {"data": [{"type": "subscription", "id": "93", "state": "live", "consent_type": "opt_out"}]},
    });
    let attached = json!({"company": company, "contact": contact});
    vec![
        ("contact.user.created", contact.clone()),
        ("contact.user.updated", in_seconds),
        ("contact.merged", contact),
        ("contact.deleted", gone("deleted")),
        ("contact.archived", gone("archived")),
        ("company.updated", company),
        ("company.contact.attached", attached),
        ("contact.lead.tag.created", tagged),
        ("contact.unsubscribed", unsubscribed),
        ("granular.unsubscribe", granular),
        ("conversation.operator.replied", replied.clone()),
        ("conversation.admin.closed", replied),
        ("conversation.deleted", json!({"type": "conversation", "conversation_id": "215472621305755"})),
        ("conversation_part.redacted", json!({"type": "conversation_part", "id": 3})),
        ("ping", json!({"type": "ping", "message": "something something interzen"})),
        // Known topics with nothing in them that names a record.
        ("contact.user.updated", json!({})),
        ("contact.deleted", Value::Null),
        ("conversation.admin.closed", json!([1, 2])),
        ("company.updated", json!("text")),
        ("contact.unsubscribed", json!({"contact": null})),
    ]
}

fn open(path: &std::path::Path) -> linkspan::store::Store {
    linkspan::store::Store::open(path, linkspan::store::Calling::Inline).unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_was_acknowledged_is_acted_on_after_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("linkspan.db");
    let mut world = World::on(open(&path));
    let ada = world.intercom.create_contact(seed("ada@x.example", "Ada"));
    world.sync().await;
    // Nothing runs but the server: it is kept, and the process dies.
    world.intercom.edit_contact(&ada, &json!({"name": "Ada King"})).unwrap();
    world.intercom.create_contact(seed("bo@x.example", "Bo"));
    world.deliver().await;
    assert_eq!(world.attribute("ada@x.example", "FULLNAME"), "Ada");
    world.restart(open(&path));
    world.run().await;
    until("the edit", || world.attribute("ada@x.example", "FULLNAME") == "Ada King").await;
    until("the new one", || world.attribute("bo@x.example", "FULLNAME") == "Bo").await;
}

/// A webhook names somebody new, and Intercom is down when he is to be read: he is read later, without another webhook.
#[tokio::test(start_paused = true)]
async fn what_a_webhook_named_is_read_once_intercom_is_back() {
    use linkspan::sandbox::Fault;
    let mut world = World::new();
    world.sync().await;
    world.run().await;
    let bo = world.intercom.create_contact(seed("bo@x.example", "Bo"));
    world.intercom.tag(&bo, "vip").unwrap();
    let hooks = world.intercom.take_webhooks();
    let tagged = hooks.iter().find(|hook| hook.topic == "contact.user.tag.created").unwrap();
    world.intercom.knobs(|knobs| {
        for _ in 0..1_000 {
            knobs.faults.push_back((format!("/contacts/{bo}"), Fault::Status(503, None)));
        }
    });
    assert_eq!(world.post(tagged).await, StatusCode::OK);
    pass(5).await;
    assert!(world.brevo.contact_by_email("bo@x.example").is_none());
    pass(300).await;
    world.intercom.knobs(|knobs| knobs.faults.clear());
    until("the new one", || world.attribute("bo@x.example", "INTERCOM_TAGS").to_string().contains("vip")).await;
}

/// One record that Intercom will not show does not hold up the rest.
#[tokio::test(start_paused = true)]
async fn a_record_that_is_refused_is_given_up() {
    use linkspan::sandbox::Fault;
    let mut world = World::new();
    let ada = world.intercom.create_contact(seed("ada@x.example", "Ada"));
    world.sync().await;
    world.run().await;
    let acme = world.intercom.create_company(&json!({"company_id": "c1", "name": "Acme"})).unwrap();
    world.intercom.edit_contact(&ada, &json!({"name": "Ada King"})).unwrap();
    world.intercom.knobs(|knobs| {
        for _ in 0..50 {
            knobs.faults.push_back((format!("/companies/{acme}"), Fault::Status(422, None)));
        }
    });
    world.deliver().await;
    until("the edit", || world.attribute("ada@x.example", "FULLNAME") == "Ada King").await;
}

#[tokio::test(start_paused = true)]
async fn a_known_record_that_is_refused_does_not_hold_up_the_rest() {
    use linkspan::sandbox::Fault;
    let mut world = World::new();
    let ada = world.intercom.create_contact(seed("ada@x.example", "Ada"));
    let bo = world.intercom.create_contact(seed("bo@x.example", "Bo"));
    world.sync().await;
    world.run().await;
    world.intercom.knobs(|knobs| {
        for _ in 0..500 {
            knobs.faults.push_back((format!("/contacts/{bo}"), Fault::Status(422, None)));
        }
    });
    world.intercom.tag(&bo, "vip").unwrap();
    world.deliver().await;
    pass(5).await;
    world.intercom.edit_contact(&ada, &json!({"name": "Ada King"})).unwrap();
    world.deliver().await;
    until("the edit", || world.attribute("ada@x.example", "FULLNAME") == "Ada King").await;
}

/// Nobody in Brevo is known yet, and somebody there has the address and has opted out.
#[tokio::test(start_paused = true)]
async fn a_webhook_may_come_before_the_first_read() {
    let mut world = World::new();
    world.brevo.create_contact(linkspan::sandbox::brevo::ContactSeed {
        email: Some("ada@x.example".to_owned()),
        email_blacklisted: true,
        ..Default::default()
    });
    let ada = world.intercom.create_contact(seed("ada@x.example", "Ada"));
    world.deliver().await;
    world.run().await;
    world.intercom.edit_contact(&ada, &json!({"name": "Ada King"})).unwrap();
    world.deliver().await;
    until("the edit", || world.attribute("ada@x.example", "FULLNAME") == "Ada King").await;
    assert_eq!(world.brevo.contact_count(), 1);
    assert!(world.brevo.contact_by_email("ada@x.example").unwrap().email_blacklisted, "who opted out stays out");
}

/// An opt-out does not wait until Intercom can be asked.
#[tokio::test(start_paused = true)]
async fn an_opt_out_is_written_while_intercom_is_down() {
    use linkspan::sandbox::Fault;
    let mut world = World::new();
    let ada = world.intercom.create_contact(seed("ada@x.example", "Ada"));
    world.sync().await;
    world.run().await;
    world.intercom.unsubscribe(&ada).unwrap();
    world.intercom.knobs(|knobs| {
        for _ in 0..10_000 {
            knobs.faults.push_back((String::new(), Fault::Status(503, None)));
        }
    });
    world.deliver().await;
    until("the opt-out", || world.brevo.contact_by_email("ada@x.example").unwrap().email_blacklisted).await;
}

#[tokio::test(start_paused = true)]
async fn many_at_once() {
    let mut world = World::new();
    let ids: Vec<String> =
        (0..50).map(|n| world.intercom.create_contact(seed(&format!("p{n}@x.example"), "Ann"))).collect();
    world.sync().await;
    world.run().await;
    for round in 0..5 {
        for id in &ids {
            world.intercom.edit_contact(id, &json!({"name": format!("Anna {round}")})).unwrap();
        }
    }
    assert_eq!(world.deliver().await, 250);
    until("the last", || (0..50).all(|n| world.attribute(&format!("p{n}@x.example"), "FULLNAME") == "Anna 4")).await;
    pass(30).await;
    assert_eq!(world.writes().len(), 50, "many edits of one person are one write");
    let reads = world.intercom.log().len();
    assert!(reads <= 50, "many doubtful payloads about one person are one read: {reads}");
}

/// About consent a payload is not believed, however new it says it is.
#[tokio::test(start_paused = true)]
async fn a_payload_does_not_lift_an_opt_out() {
    let mut world = World::new();
    let ada = world.intercom.create_contact(seed("ada@x.example", "Ada"));
    world.sync().await;
    world.run().await;
    let before = world.intercom.contact(&ada).unwrap();
    world.intercom.unsubscribe(&ada).unwrap();
    world.deliver().await;
    let out = || world.brevo.contact_by_email("ada@x.example").unwrap().email_blacklisted;
    until("the opt-out", out).await;
    let mut claim = before;
    claim["updated_at"] = json!("2031-01-01T00:00:00.000+00:00");
    claim["name"] = json!("Ada King");
    for (n, topic) in ["contact.user.updated", "contact.email.updated", "contact.subscribed"].into_iter().enumerate() {
        let claim = world.notification(&format!("notif_{n}"), topic, claim.clone());
        assert_eq!(world.post_signed(claim.to_string()).await, StatusCode::OK);
        pass(5).await;
        assert!(out(), "{topic}");
    }
    assert_eq!(world.attribute("ada@x.example", "FULLNAME"), "Ada", "the read decided about the rest, too");
}

/// An opt-out of one type of subscription is not one of all e-mail.
#[tokio::test(start_paused = true)]
async fn one_type_of_subscription_is_not_all_of_them() {
    let mut world = World::new();
    let ada = world.intercom.create_contact(seed("ada@x.example", "Ada"));
    world.sync().await;
    world.run().await;
    let contact = world.intercom.contact(&ada).unwrap();
    let types = json!({"type": "list", "data": [{"type": "subscription", "id": "93", "consent_type": "opt_out"}]});
    for (topic, kind) in
        [("granular.unsubscribe", "granular_unsubscribe"), ("contact.unsubscribed", "contact_unsubscribe")]
    {
        let item = json!({"type": kind, "contact": contact, "subscription_types": types});
        let hook = world.notification(&format!("notif_{kind}"), topic, item);
        assert_eq!(world.post_signed(hook.to_string()).await, StatusCode::OK);
    }
    pass(5).await;
    assert!(!world.brevo.contact_by_email("ada@x.example").unwrap().email_blacklisted);
}

struct CrashOnce(std::sync::atomic::AtomicBool);

impl linkspan::doors::CrashPoints for CrashOnce {
    fn reach(&self, name: &'static str) {
        if name == "after_inbox" && self.0.swap(false, std::sync::atomic::Ordering::SeqCst) {
            std::panic::resume_unwind(Box::new("the power went"));
        }
    }
}

/// The webhooks are done with, but what they named is not read yet: the power goes just then.
#[tokio::test(start_paused = true)]
async fn what_a_webhook_named_is_read_after_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("linkspan.db");
    let mut world = World::on(open(&path));
    let ada = world.intercom.create_contact(seed("ada@x.example", "Ada"));
    world.sync().await;
    world.run().await;
    let crash = std::sync::Arc::new(CrashOnce(false.into()));
    world.crash_at(crash.clone(), open(&path));
    world.run().await;
    world.intercom.edit_contact(&ada, &json!({"name": "Ada King"})).unwrap();
    let bo = world.intercom.create_contact(seed("bo@x.example", "Bo"));
    world.intercom.take_webhooks();
    // Both are only named, not shown: one that is known, one that is not.
    crash.0.store(true, std::sync::atomic::Ordering::SeqCst);
    for id in [&ada, &bo] {
        let item = json!({"type": "contact_unsubscribe", "contact": {"type": "contact", "id": id},
            "subscription_types": {"data": [{"id": "1"}]}});
        let hook = world.notification(&format!("notif_{id}"), "contact.unsubscribed", item);
        assert_eq!(world.post_signed(hook.to_string()).await, StatusCode::OK);
    }
    pass(60).await;
    assert!(!crash.0.load(std::sync::atomic::Ordering::SeqCst), "it crashed");
    assert!(world.brevo.contact_by_email("bo@x.example").is_none());
    world.restart(open(&path));
    world.run().await;
    until("the known one", || world.attribute("ada@x.example", "FULLNAME") == "Ada King").await;
    until("the new one", || world.attribute("bo@x.example", "FULLNAME") == "Bo").await;
}
