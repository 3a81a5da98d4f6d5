//! Who is in a conversation, and the topics about conversations that say no more than "look".

use crate::world::{World, pass, until};
use linkspan::intercom::webhook::Topic;
use linkspan::sandbox::intercom::ContactSeed;
use serde_json::{Value, json};

fn seed(name: &str) -> ContactSeed {
    ContactSeed { email: Some(format!("{name}@x.example")), name: Some(name.to_owned()), ..ContactSeed::default() }
}

/// `CONFIG` ends with the schedule, so figures come by a mapping of their own.
async fn two_people() -> (World, String, String) {
    let mut world = World::figures();
    let ada = world.intercom.create_contact(seed("ada"));
    let bo = world.intercom.create_contact(seed("bo"));
    world.sync().await;
    world.run().await;
    (world, ada, bo)
}

fn talks(world: &World, name: &str) -> Value {
    world.attribute(&format!("{name}@x.example"), "TALKS")
}

#[tokio::test(start_paused = true)]
async fn who_joins_a_conversation_or_leaves_it_gains_and_loses_its_figures_and_its_list() {
    let (world, ada, bo) = two_people().await;
    let talk = world.intercom.open_conversation(&ada, "Hello").unwrap();
    world.deliver().await;
    until("hers", || world.is_on("In touch", "ada@x.example") && talks(&world, "ada") == 1).await;
    assert!(!world.is_on("In touch", "bo@x.example"));

    world.intercom.join_conversation(&talk, &bo).unwrap();
    assert_eq!(world.deliver().await, 1);
    until("his, too", || world.is_on("In touch", "bo@x.example") && talks(&world, "bo") == 1).await;
    assert!(world.is_on("In touch", "ada@x.example"));

    world.intercom.leave_conversation(&talk, &bo).unwrap();
    assert_eq!(world.deliver().await, 1);
    until("no longer", || !world.is_on("In touch", "bo@x.example") && talks(&world, "bo") == 0).await;
    assert_eq!((world.is_on("In touch", "ada@x.example"), talks(&world, "ada")), (true, json!(1)), "hers stays");

    // Whoever is left with nobody's webhook is found by nothing else; and closing it concerns those who are in it.
    world.intercom.close_conversation(&talk).unwrap();
    world.deliver().await;
    until("closed", || !world.is_on("In touch", "ada@x.example")).await;
    pass(120).await;
    let closed = world.brevo.events().into_iter().filter(|event| event.name == "intercom_conversation_closed");
    assert_eq!(closed.count(), 1, "one for the one who is in it");
}

/// The sandbox has no cause to send these; each carries a conversation as it is now, or a part of it.
#[tokio::test(start_paused = true)]
async fn each_topic_about_a_conversation_brings_what_it_shows() {
    for topic in [
        "conversation.company.updated",
        "conversation.admin.open.assigned",
        "conversation.admin.replied.translated",
        "conversation.contact.attached",
        "conversation.contact.detached",
    ] {
        assert!(!matches!(Topic::parse(topic), Topic::Unknown(_)), "{topic}");
        let (world, ada, _) = two_people().await;
        let talk = world.intercom.open_conversation(&ada, "Hello").unwrap();
        world.intercom.take_webhooks();
        let item = world.intercom.conversation(&talk).unwrap();
        let body = world.notification("n1", topic, item).to_string();
        assert_eq!(world.post_signed(body).await, 200);
        until(topic, || world.is_on("In touch", "ada@x.example") && talks(&world, "ada") == 1).await;
    }
    // Of a part, only the conversation's id is known: it is read.
    let (world, ada, _) = two_people().await;
    let talk = world.intercom.open_conversation(&ada, "Hello").unwrap();
    world.intercom.take_webhooks();
    let part = json!({"type": "conversation_part", "id": "9", "part_type": "comment", "conversation_id": talk,
        "tags": {"type": "tag.list", "tags": [{"type": "tag", "id": "5", "name": "refund"}]}});
    assert_eq!(
        world.post_signed(world.notification("n2", "conversation_part.tag.created", part).to_string()).await,
        200
    );
    pass(60).await;
    let (open, _) = world.connection.store().read(|tx| tx.inbox_state()).await.unwrap();
    assert_eq!(open, 0, "acted on");
}

#[tokio::test(start_paused = true)]
async fn a_visitor_who_signs_up_is_a_user_from_then_on() {
    let (world, _, _) = two_people().await;
    let cy = world.intercom.create_contact(seed("cy"));
    world.intercom.take_webhooks();
    let item = world.intercom.contact(&cy).unwrap();
    assert_eq!(world.post_signed(world.notification("n1", "visitor.signed_up", item).to_string()).await, 200);
    until("the contact", || world.brevo.contact_by_email("cy@x.example").is_some()).await;
    until("the list", || world.is_on("Users", "cy@x.example")).await;
}
