//! What the config switches off: notifications about it are kept and counted, and change nothing.

use crate::world::{World, pass, until};
use linkspan::sandbox::intercom::ContactSeed;
use linkspan::store::{Calling, Store};
use serde_json::json;

fn seed(email: &str, name: &str) -> ContactSeed {
    ContactSeed { email: Some(email.to_owned()), name: Some(name.to_owned()), ..ContactSeed::default() }
}

/// A world in step, with everything on; then the daemon runs under these switches.
struct Switched {
    world: World,
    folder: tempfile::TempDir,
}

impl Switched {
    fn new(more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let world = World::with(more, Store::open(&folder.path().join("x.db"), Calling::Inline).unwrap());
        Self { world, folder }
    }

    fn store(&self) -> Store {
        Store::open(&self.folder.path().join("x.db"), Calling::Inline).unwrap()
    }

    async fn switch(&mut self, sync: &str, more: &str) {
        let store = self.store();
        self.world.switch(sync, more, store);
        self.world.run().await;
    }
}

#[tokio::test(start_paused = true)]
async fn contacts_that_are_switched_off_follow_nothing_but_opt_outs() {
    let mut switched = Switched::new("");
    let world = &switched.world;
    let ada = world.intercom.create_contact(seed("ada@x.example", "Ada"));
    let bo = world.intercom.create_contact(seed("bo@x.example", "Bo"));
    world.sync().await;
    switched.switch("{contacts: false}", "").await;
    let world = &switched.world;
    world.intercom.edit_contact(&ada, &json!({"name": "Ada King"})).unwrap();
    world.intercom.create_contact(seed("cy@x.example", "Cy"));
    world.intercom.delete(&bo).unwrap();
    assert!(world.deliver().await >= 3, "each answered 200");
    pass(60).await;
    assert_eq!(world.intercom.log().len(), 0, "nothing is read");
    assert_eq!(world.writes(), [], "nothing is written");
    assert!(world.counter("webhook_switched_off").await >= 3);
    assert_eq!(world.connection.store().read(|tx| tx.inbox_state()).await.unwrap().0, 0, "none of them waits");

    // Brevo may still mail her: an opt-out is carried over, and nothing else about her with it.
    world.intercom.unsubscribe(&ada).unwrap();
    world.deliver().await;
    until("the opt-out", || world.brevo.contact_by_email("ada@x.example").unwrap().email_blacklisted).await;
    pass(60).await;
    assert_eq!(world.attribute("ada@x.example", "FULLNAME"), "Ada");
    assert_eq!((world.writes().len(), world.intercom.log().len()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn companies_and_conversations_that_are_switched_off_change_nothing() {
    let mut switched = Switched::new("");
    let world = &switched.world;
    let ada = world.intercom.create_contact(seed("ada@x.example", "Ada"));
    let acme = world.intercom.create_company(&json!({"company_id": "acme", "name": "Acme"})).unwrap();
    world.intercom.attach_company(&ada, &acme).unwrap();
    world.sync().await;
    assert_eq!(world.attribute("ada@x.example", "COMPANY_NAME"), "Acme");
    switched.switch("{companies: false, conversations: false}", "").await;
    let world = &switched.world;
    world.intercom.edit_company(&acme, &json!({"name": "Apex"})).unwrap();
    let talk = world.intercom.open_conversation(&ada, "Hello").unwrap();
    world.intercom.close_conversation(&talk).unwrap();
    world.intercom.detach_company(&ada, &acme).unwrap();
    assert!(world.deliver().await >= 4, "each answered 200");
    pass(60).await;
    assert_eq!((world.intercom.log().len(), world.writes().len()), (0, 0));
    assert_eq!(world.attribute("ada@x.example", "COMPANY_NAME"), "Acme");
    assert!(world.brevo.events().is_empty());
    // Contacts are followed all the same.
    world.intercom.edit_contact(&ada, &json!({"name": "Ada King"})).unwrap();
    world.deliver().await;
    until("the name", || world.attribute("ada@x.example", "FULLNAME") == "Ada King").await;
}

#[tokio::test(start_paused = true)]
async fn tags_that_are_switched_off_rest() {
    let mut switched = Switched::new("");
    let world = &switched.world;
    let ada = world.intercom.create_contact(seed("ada@x.example", "Ada"));
    world.intercom.tag(&ada, "VIP").unwrap();
    world.sync().await;
    assert_eq!(world.attribute("ada@x.example", "INTERCOM_TAGS"), json!(["VIP"]));
    switched.switch("{tags: false}", "").await;
    let world = &switched.world;
    world.intercom.untag(&ada, "VIP").unwrap();
    world.intercom.tag(&ada, "beta").unwrap();
    assert_eq!(world.deliver().await, 2);
    pass(60).await;
    assert_eq!((world.intercom.log().len(), world.writes().len()), (0, 0));
    assert_eq!(world.counter("webhook_switched_off").await, 2);
}

#[tokio::test(start_paused = true)]
async fn events_that_are_switched_off_are_neither_queued_nor_sent_and_the_rest_goes_on() {
    let mut switched = Switched::new("");
    let world = &switched.world;
    let ada = world.intercom.create_contact(seed("ada@x.example", "Ada"));
    world.sync().await;
    switched.switch("{events: false}", "").await;
    let world = &switched.world;
    let talk = world.intercom.open_conversation(&ada, "Hello").unwrap();
    world.deliver().await;
    until("the list", || world.is_on("In touch", "ada@x.example")).await;
    world.intercom.rate(&talk, 5, Some("great")).unwrap();
    world.intercom.close_conversation(&talk).unwrap();
    world.intercom.edit_contact(&ada, &json!({"name": "Ada King"})).unwrap();
    world.deliver().await;
    until("the list is left", || !world.is_on("In touch", "ada@x.example")).await;
    until("the name", || world.attribute("ada@x.example", "FULLNAME") == "Ada King").await;
    pass(300).await;
    let queued = async |world: &World| world.connection.store().read(|tx| tx.count_outbox()).await.unwrap();
    assert_eq!(queued(world).await, 0, "none waits");
    assert!(world.brevo.log().all().iter().all(|request| !request.target.contains("/events")), "none is sent");
    // Nor is it made up for once they are on: what happened from then on counts.
    switched.switch("{events: true}", "").await;
    let world = &switched.world;
    assert_eq!((queued(world).await, world.brevo.events().len()), (0, 0));
    world.intercom.reopen(&talk).unwrap();
    world.intercom.close_conversation(&talk).unwrap();
    world.deliver().await;
    until("the event", || !world.brevo.events().is_empty()).await;
    let names: Vec<String> = world.brevo.events().into_iter().map(|event| event.name).collect();
    assert_eq!(names, ["intercom_conversation_closed"]);
}
