//! People who are no longer there: archived, merged, or deleted; and opt-outs that a read does not show yet.

use crate::world::{World, pass, until};
use axum::http::StatusCode;
use linkspan::model::IntercomContactId;
use linkspan::sandbox::Fault;
use linkspan::sandbox::intercom::ContactSeed;
use linkspan::store::contacts::ContactState;
use serde_json::json;

fn seed(email: &str, name: &str) -> ContactSeed {
    let (email, name) = (Some(email.to_owned()), Some(name.to_owned()));
    ContactSeed { email, name, ..ContactSeed::default() }
}

fn lead(email: &str, name: &str) -> ContactSeed {
    ContactSeed { lead: true, ..seed(email, name) }
}

async fn state_of(world: &World, id: &str) -> Option<ContactState> {
    let id = IntercomContactId::new(id);
    let row = world.connection.store().read(move |tx| tx.intercom_contact(&id)).await.unwrap();
    row.map(|row| row.state)
}

async fn notice(world: &World, kind: &'static str) -> usize {
    world.connection.store().read(move |tx| tx.notices(Some(kind), 10)).await.unwrap().len()
}

fn out(world: &World, email: &str) -> Option<bool> {
    world.brevo.contact_by_email(email).map(|contact| contact.email_blacklisted)
}

/// Something about this contact is heard that has it read by id.
async fn hint(world: &World, notification: &str, id: &str) {
    let item = json!({"type": "contact_tag", "contact": {"type": "contact", "id": id}});
    let hint = world.notification(notification, "contact.lead.tag.created", item);
    assert_eq!(world.post_signed(hint.to_string()).await, StatusCode::OK);
    pass(10).await;
}

#[tokio::test(start_paused = true)]
async fn archived_and_deleted_are_told_apart_by_the_notice() {
    let mut world = World::new();
    let ada = world.intercom.create_contact(seed("ada@x.example", "Ada"));
    let bo = world.intercom.create_contact(seed("bo@x.example", "Bo"));
    world.sync().await;
    world.run().await;
    world.intercom.archive(&ada).unwrap();
    world.intercom.delete(&bo).unwrap();
    world.deliver().await;
    pass(5).await;
    assert_eq!(state_of(&world, &ada).await, Some(ContactState::Archived));
    assert_eq!(state_of(&world, &bo).await, Some(ContactState::Deleted), "said and confirmed");
    assert_eq!((notice(&world, "archived_in_intercom").await, notice(&world, "deleted_in_intercom").await), (1, 1));
    world.intercom.unarchive(&ada).unwrap();
    world.deliver().await;
    pass(5).await;
    assert_eq!(state_of(&world, &ada).await, Some(ContactState::Live));
    assert_eq!(notice(&world, "archived_in_intercom").await, 0);
    // What was said before she came back counts no more: the next time nobody says how.
    world.intercom.delete(&ada).unwrap();
    world.intercom.take_webhooks();
    hint(&world, "notif_hint", &ada).await;
    assert_eq!(state_of(&world, &ada).await, Some(ContactState::Missing));
    pass(20 * 60).await;
    assert_eq!(state_of(&world, &ada).await, Some(ContactState::Deleted));
    assert!(world.writes().is_empty(), "{:?}", world.writes());
}

/// The notice comes when the absence has been noticed, and even judged, already.
#[tokio::test(start_paused = true)]
async fn a_late_notice_still_says_how() {
    let mut world = World::new();
    let ada = world.intercom.create_contact(seed("ada@x.example", "Ada"));
    world.sync().await;
    world.run().await;
    world.intercom.archive(&ada).unwrap();
    hint(&world, "notif_hint", &ada).await;
    pass(20 * 60).await;
    assert_eq!(state_of(&world, &ada).await, Some(ContactState::Deleted));
    world.deliver().await;
    pass(5).await;
    assert_eq!(state_of(&world, &ada).await, Some(ContactState::Archived));
    assert_eq!((notice(&world, "archived_in_intercom").await, notice(&world, "deleted_in_intercom").await), (1, 0));
}

/// The survivor is somebody of whom nothing was ever heard.
#[tokio::test(start_paused = true)]
async fn a_survivor_never_seen_is_read_at_once_and_inherits() {
    let mut world = World::new();
    let lea = world.intercom.create_contact(lead("lea@x.example", "Lea"));
    world.sync().await;
    world.run().await;
    let contact = world.brevo.contact_by_email("lea@x.example").unwrap().id;
    world.intercom.unsubscribe(&lea).unwrap();
    world.deliver().await;
    until("the opt-out", || out(&world, "lea@x.example") == Some(true)).await;
    let una = world.intercom.create_contact(seed("una@x.example", "Una"));
    world.intercom.merge(&lea, &una).unwrap();
    world.intercom.take_webhooks();
    hint(&world, "notif_hint", &lea).await;
    until("the survivor", || world.brevo.contact_by_email("una@x.example").is_some()).await;
    pass(60).await;
    let now = world.brevo.contact(contact).unwrap();
    assert_eq!(now.email.as_deref(), Some("una@x.example"), "the link is inherited");
    assert!(now.email_blacklisted, "with the stricter consent");
    assert_eq!(world.brevo.contact_count(), 1);
    assert_eq!(state_of(&world, &lea).await, Some(ContactState::Merged));
}

/// A workspace that does not know the version which tells merged from deleted.
async fn merged_without_a_probe(survivor: ContactSeed) -> (World, i64, String, String) {
    let mut world = World::new();
    let lea = world.intercom.create_contact(lead("lea@x.example", "Lea"));
    world.sync().await;
    world.run().await;
    let contact = world.brevo.contact_by_email("lea@x.example").unwrap().id;
    let una = world.intercom.create_contact(survivor);
    world.intercom.merge(&lea, &una).unwrap();
    world.intercom.take_webhooks();
    world.intercom.knobs(|knobs| {
        for status in [404, 400] {
            knobs.faults.push_back((format!("/contacts/{lea}"), Fault::Status(status, None)));
        }
    });
    hint(&world, "notif_hint", &lea).await;
    assert_eq!(state_of(&world, &lea).await, Some(ContactState::Missing));
    assert_eq!(notice(&world, "missing_in_intercom").await, 1);
    pass(10 * 60).await;
    assert_eq!(state_of(&world, &lea).await, Some(ContactState::Missing), "the index may still lag");
    (world, contact, lea, una)
}

#[tokio::test(start_paused = true)]
async fn a_survivor_is_found_by_address_once_the_index_has_caught_up() {
    let survivor = ContactSeed { email: None, ..seed("", "Una") };
    let (world, contact, lea, una) = merged_without_a_probe(survivor).await;
    pass(10 * 60).await;
    assert_eq!(state_of(&world, &lea).await, Some(ContactState::Merged));
    assert_eq!(notice(&world, "missing_in_intercom").await, 0);
    assert_eq!(notice(&world, "deleted_in_intercom").await, 0);
    assert_eq!(world.attribute("lea@x.example", "FULLNAME"), "Una");
    assert_eq!(world.brevo.contact_by_email("lea@x.example").unwrap().id, contact);
    world.intercom.edit_contact(&una, &json!({"name": "Una K"})).unwrap();
    world.deliver().await;
    until("her name", || world.attribute("lea@x.example", "FULLNAME") == "Una K").await;
    assert_eq!(world.brevo.contact_count(), 1);
}

/// Nobody has the address or the id any more: only now it is a deletion.
#[tokio::test(start_paused = true)]
async fn without_a_survivor_it_is_a_deletion() {
    let (world, contact, lea, _) = merged_without_a_probe(seed("una@x.example", "Una")).await;
    pass(10 * 60).await;
    assert_eq!(state_of(&world, &lea).await, Some(ContactState::Deleted));
    assert_eq!((notice(&world, "missing_in_intercom").await, notice(&world, "deleted_in_intercom").await), (0, 1));
    assert_eq!(world.brevo.contact(contact).unwrap().email.as_deref(), Some("lea@x.example"), "left alone");
}

/// Another contact of the same address is no survivor: the group goes on with it, and nobody was merged.
#[tokio::test(start_paused = true)]
async fn a_group_loses_a_member_and_nobody_was_merged() {
    let mut world = World::new();
    let lea = world.intercom.create_contact(lead("team@x.example", "Lea"));
    world.intercom.create_contact(seed("team@x.example", "Una"));
    world.sync().await;
    world.run().await;
    world.intercom.delete(&lea).unwrap();
    world.intercom.take_webhooks();
    hint(&world, "notif_hint", &lea).await;
    pass(20 * 60).await;
    assert_eq!(state_of(&world, &lea).await, Some(ContactState::Deleted));
    assert_eq!(world.attribute("team@x.example", "FULLNAME"), "Una");
    assert_eq!(world.brevo.contact_count(), 1);
}

/// The read that the notice asks for is answered from a cache: it shows the person as before.
#[tokio::test(start_paused = true)]
async fn an_opt_out_survives_a_read_that_is_older() {
    let mut world = World::new();
    let ada = world.intercom.create_contact(seed("ada@x.example", "Ada"));
    world.sync().await;
    world.run().await;
    let item = json!({
        "type": "contact_unsubscribe", "contact": {"type": "contact", "id": ada, "unsubscribed_from_emails": true},
        "subscription_types": {"type": "list", "data": []},
    });
    let told = world.notification("notif_out", "contact.unsubscribed", item);
    assert_eq!(world.post_signed(told.to_string()).await, StatusCode::OK);
    until("the opt-out", || out(&world, "ada@x.example") == Some(true)).await;
    pass(60).await;
    let id = IntercomContactId::new(ada.as_str());
    let row = world.connection.store().read(move |tx| tx.intercom_contact(&id)).await.unwrap().unwrap();
    assert!(row.contact.consent.email_opted_out(), "lost to a read that is older than it");
    let email = linkspan::model::Email::parse("ada@x.example").unwrap();
    let shown = world.connection.preview(Some(email)).await.unwrap().remove(0).consent;
    assert!(shown.contains("contact.unsubscribed told of an opt-out of e-mail at 2026-"), "{shown}");
    // A newer record that shows her subscribed is her own doing; it is not carried across.
    world.intercom.edit_contact(&ada, &json!({"name": "Ada L"})).unwrap();
    world.deliver().await;
    until("her name", || world.attribute("ada@x.example", "FULLNAME") == "Ada L").await;
    pass(10).await;
    let id = IntercomContactId::new(ada.as_str());
    let row = world.connection.store().read(move |tx| tx.intercom_contact(&id)).await.unwrap().unwrap();
    assert!(!row.contact.consent.email_opted_out());
    assert_eq!(out(&world, "ada@x.example"), Some(true));
}

/// Somebody new opts out, and the first read of the record does not show it yet.
#[tokio::test(start_paused = true)]
async fn somebody_new_is_made_with_the_opt_out_that_was_told() {
    let mut world = World::new();
    world.sync().await;
    world.run().await;
    let ada = world.intercom.create_contact(seed("ada@x.example", "Ada"));
    world.intercom.take_webhooks();
    pass(5).await;
    let told = world.notification("notif_out", "contact.unsubscribed", json!({"type": "contact", "id": ada}));
    assert_eq!(world.post_signed(told.to_string()).await, StatusCode::OK);
    until("her arrival", || out(&world, "ada@x.example").is_some()).await;
    assert_eq!(out(&world, "ada@x.example"), Some(true));
    // Another address, and a record that shows her subscribed under it: an address is no opt-in.
    world.intercom.set_email(&ada, Some("ada@y.example")).unwrap();
    world.deliver().await;
    until("her address", || out(&world, "ada@y.example").is_some()).await;
    pass(60).await;
    assert_eq!(out(&world, "ada@y.example"), Some(true), "{:?}", world.writes());
}

/// The search does not take the address of one of two who are missing, and takes the other's.
#[tokio::test(start_paused = true)]
async fn one_who_cannot_be_looked_for_holds_up_nobody() {
    for fault in [Fault::Status(400, None), Fault::Status(503, None)] {
        let mut world = World::new();
        let people = [("a@x.example", "Ann"), ("b@x.example", "Bo")]
            .map(|(email, name)| world.intercom.create_contact(lead(email, name)));
        world.sync().await;
        world.run().await;
        for (n, id) in people.iter().enumerate() {
            let una = world.intercom.create_contact(seed(&format!("una{n}@x.example"), "Una"));
            world.intercom.merge(id, &una).unwrap();
            world.intercom.take_webhooks();
            world.intercom.knobs(|knobs| {
                for status in [404, 400] {
                    knobs.faults.push_back((format!("/contacts/{id}"), Fault::Status(status, None)));
                }
            });
            hint(&world, &format!("notif_{n}"), id).await;
            assert_eq!(state_of(&world, id).await, Some(ContactState::Missing));
        }
        pass(14 * 60).await;
        // The first search is Ann's.
        let tries = if fault == Fault::Status(400, None) { 1 } else { 6 };
        world.intercom.knobs(|knobs| {
            for _ in 0..tries {
                knobs.faults.push_back(("/contacts/search".to_owned(), fault.clone()));
            }
        });
        pass(3 * 60).await;
        assert_eq!(state_of(&world, &people[1]).await, Some(ContactState::Deleted));
        if tries == 1 {
            assert_eq!(state_of(&world, &people[0]).await, Some(ContactState::Missing), "that is no answer");
        }
        pass(70 * 60).await;
        assert_eq!(state_of(&world, &people[0]).await, Some(ContactState::Deleted));
    }
}
