//! People without an address: skipped and listed, or known by their phone.

use crate::harness::{World, minutes};
use linkspan::sandbox::brevo::ContactSeed as BrevoSeed;
use linkspan::sandbox::intercom::ContactSeed;
use serde_json::json;

const SKIP: &str = "
connectors: {intercom: {lists: {all_users: Users}}}
field_mapping: {email: email, name: FULLNAME, phone: SMS}
phone: {default_region: US}
";

fn caller(name: &str, phone: Option<&str>) -> ContactSeed {
    ContactSeed { phone: phone.map(str::to_owned), name: Some(name.to_owned()), ..ContactSeed::default() }
}

/// About how many the state says that they have no address.
async fn listed(world: &World) -> usize {
    world.store.read(|tx| tx.notices(Some("without_email"), 10)).await.unwrap().len()
}

#[tokio::test(start_paused = true)]
async fn by_phone_they_are_matched_made_and_followed_by_their_number() {
    let mut world = World::new(&format!("{SKIP}contacts: {{without_email: by_phone}}\n"));
    let held = BrevoSeed { email: Some("ann@shop.example".to_owned()), ..BrevoSeed::default() };
    let held = BrevoSeed { phone: Some("12025550123".to_owned()), ..held };
    let held = world.brevo.create_contact(held).unwrap();
    let ann = world.intercom.create_contact(caller("Ann Lee", Some("(202) 555-0123")));
    world.intercom.create_contact(caller("Bob Ray", Some("+1 202 555 0124")));
    world.intercom.create_contact(caller("Nobody", None));
    minutes(10).await;
    let summary = world.sync().await;
    assert_eq!((summary.outcome(), summary.written.created), ("ok", 1), "{summary:#?}");
    let contact = world.brevo.contact(held).unwrap();
    assert_eq!(contact.attributes["FULLNAME"], "Ann Lee", "found by her number");
    assert_eq!(contact.email.as_deref(), Some("ann@shop.example"), "whose address in Brevo stays");
    let made = world.brevo.contacts().into_iter().find(|contact| contact.id != held).unwrap();
    assert_eq!(made.attributes["FULLNAME"], "Bob Ray");
    // What Brevo itself gives to those who have only a number.
    assert_eq!(made.email.as_deref(), Some("12025550124@mailin-sms.com"));
    assert_eq!(made.attributes["SMS"], "12025550124");
    let users = world.brevo.list_members(world.brevo.list_id("Users").unwrap());
    assert_eq!(users, [held, made.id].into());
    assert_eq!(listed(&world).await, 1, "who has neither is counted and listed");

    // What they do later follows.
    minutes(10).await;
    world.intercom.edit_contact(&ann, &json!({"name": "Ann Roe"})).unwrap();
    minutes(10).await;
    world.sync().await;
    assert_eq!(world.brevo.contact(held).unwrap().attributes["FULLNAME"], "Ann Roe");
    world.is_quiet().await;
    assert_eq!(world.brevo.contact_count(), 2, "nobody is made twice");

    // Switched back, those who are linked stay so.
    world.restart(SKIP);
    world.full().await;
    assert_eq!(world.brevo.contact_count(), 2);
}

#[tokio::test(start_paused = true)]
async fn skipped_they_are_counted_and_listed_and_nothing_is_written() {
    let mut world = World::new(SKIP);
    world.intercom.create_contact(caller("Ann Lee", Some("(202) 555-0123")));
    world.intercom.create_contact(caller("Nobody", None));
    minutes(10).await;
    let summary = world.sync().await;
    assert_eq!((summary.outcome(), world.brevo.contact_count()), ("ok", 0), "{summary:#?}");
    assert_eq!(listed(&world).await, 2);
    // Once asked for, who has a number arrives.
    world.restart(&format!("{SKIP}contacts: {{without_email: by_phone}}\n"));
    minutes(10).await;
    world.full().await;
    assert_eq!(
        world.brevo.contacts().iter().map(|contact| &contact.attributes["FULLNAME"]).collect::<Vec<_>>(),
        ["Ann Lee"]
    );
    assert_eq!(listed(&world).await, 1);
}
