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
async fn an_edit_arrives_within_two_seconds() {
    let mut world = World::new();
    let ada = world.intercom.create_contact(seed("ada@x.example", "Ada"));
    world.sync().await;
    assert_eq!(world.attribute("ada@x.example", "FULLNAME"), "Ada");
    world.run().await;
    world.intercom.edit_contact(&ada, &json!({"name": "Ada King"})).unwrap();
    world.deliver().await;
    let took = until("the name", || world.attribute("ada@x.example", "FULLNAME") == "Ada King").await;
    assert!(took < Duration::from_secs(2), "{took:?}");
    let bo = world.intercom.create_contact(seed("bo@x.example", "Bo"));
    world.deliver().await;
    until("a new contact", || world.attribute("bo@x.example", "FULLNAME") == "Bo").await;
    world.intercom.set_email(&bo, Some("bo@new.example")).unwrap();
    world.deliver().await;
    until("its new address", || world.brevo.contact_by_email("bo@new.example").is_some()).await;
    assert!(world.brevo.contact_by_email("bo@x.example").is_none());
    assert!(world.intercom.log().writes().is_empty(), "Intercom is only read");
}

#[tokio::test(start_paused = true)]
async fn tags_and_companies_arrive() {
    let mut world = World::new();
    let ada = world.intercom.create_contact(seed("ada@x.example", "Ada"));
    world.sync().await;
    world.run().await;
    world.intercom.tag(&ada, "vip").unwrap();
    world.deliver().await;
    let tags = || world.attribute("ada@x.example", "INTERCOM_TAGS").to_string();
    until("the tag", || tags().contains("vip")).await;
    world.intercom.untag(&ada, "vip").unwrap();
    world.deliver().await;
    until("the tag's end", || !tags().contains("vip")).await;
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
    assert_eq!(state_of(&world, &ada).await, Some(ContactState::Archived));
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
