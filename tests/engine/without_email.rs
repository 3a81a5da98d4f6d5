//! People without an address: skipped and listed, or known by their phone.

use crate::harness::{World, minutes};
use linkspan::sandbox::brevo::{Contact as BrevoContact, ContactSeed as BrevoSeed};
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

/// The names that Brevo shows, by number.
fn by_number(world: &World) -> std::collections::BTreeMap<String, String> {
    let of = |contact: BrevoContact| {
        let text = |name: &str| contact.attributes[name].as_str().unwrap_or_default().to_owned();
        (text("SMS"), text("FULLNAME"))
    };
    world.brevo.contacts().into_iter().map(of).collect()
}

#[tokio::test(start_paused = true)]
async fn who_gets_a_number_of_their_own_is_one_person_with_nobody() {
    let world = World::new(&format!("{SKIP}contacts: {{without_email: by_phone}}\n"));
    let ann = world.intercom.create_contact(caller("Ann Lee", Some("+12025550123")));
    minutes(10).await;
    world.sync().await;
    // Bob mistypes his number, and is taken for Ann. Then it is put right.
    let bob = world.intercom.create_contact(caller("Bob Ray", Some("+12025550123")));
    minutes(10).await;
    world.sync().await;
    assert_eq!(world.brevo.contact_count(), 1);
    world.intercom.edit_contact(&bob, &json!({"phone": "(202) 555-0123"})).unwrap();
    minutes(10).await;
    world.sync().await;
    assert_eq!(world.brevo.contact_count(), 1, "the same number, written otherwise");
    world.intercom.edit_contact(&bob, &json!({"phone": "+12025550124"})).unwrap();
    minutes(10).await;
    world.sync().await;
    let names = |all: &[(&str, &str)]| all.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
    assert_eq!(by_number(&world), names(&[("12025550123", "Ann Lee"), ("12025550124", "Bob Ray")]));
    // The other way round: whoever stays keeps the contact in Brevo, also if it is not who gave the fields.
    world.intercom.edit_contact(&bob, &json!({"phone": "+12025550123"})).unwrap();
    minutes(10).await;
    world.sync().await;
    let cid = world.intercom.create_contact(caller("Cid Poe", Some("+12025550123")));
    minutes(10).await;
    world.sync().await;
    world.intercom.edit_contact(&ann, &json!({"phone": "+12025550125"})).unwrap();
    minutes(10).await;
    world.sync().await;
    let now = by_number(&world);
    assert_eq!((now["12025550123"].as_str(), now["12025550125"].as_str()), ("Cid Poe", "Ann Lee"), "{now:?}");
    // Whoever has it alone is given the new one.
    world.intercom.edit_contact(&cid, &json!({"phone": "+12025550126"})).unwrap();
    minutes(10).await;
    world.sync().await;
    assert_eq!(by_number(&world)["12025550126"], "Cid Poe");
    world.is_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn who_was_found_by_the_number_of_somebody_with_an_address_leaves_them_with_it() {
    let world = World::new(&format!("{SKIP}contacts: {{without_email: by_phone}}\n"));
    let dan = ContactSeed { email: Some("dan@shop.example".to_owned()), ..caller("Dan Fox", Some("+12025550123")) };
    world.intercom.create_contact(dan);
    minutes(10).await;
    world.sync().await;
    let eve = world.intercom.create_contact(caller("Eve Oak", Some("+12025550123")));
    minutes(10).await;
    world.sync().await;
    assert_eq!(world.brevo.contact_count(), 1);
    world.intercom.edit_contact(&eve, &json!({"phone": "+12025550124"})).unwrap();
    minutes(10).await;
    world.sync().await;
    let now = by_number(&world);
    assert_eq!((now["12025550123"].as_str(), now["12025550124"].as_str()), ("Dan Fox", "Eve Oak"), "{now:?}");
    // Without a number they are listed like anybody who has neither.
    world.intercom.create_contact(caller("Fay Elm", Some("+12025550124")));
    minutes(10).await;
    world.sync().await;
    world.intercom.edit_contact(&eve, &json!({"phone": null})).unwrap();
    minutes(10).await;
    world.sync().await;
    assert_eq!((by_number(&world)["12025550124"].as_str(), listed(&world).await), ("Fay Elm", 1));
    world.is_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn who_loses_the_address_that_others_keep_takes_its_opt_out_along() {
    let world = World::new(&format!(
        "{SKIP}contacts: {{without_email: by_phone}}\nconsent: {{direction: intercom_to_brevo}}\n"
    ));
    let at = |name: &str, phone: &str| ContactSeed {
        email: Some("home@shop.example".to_owned()),
        ..caller(name, Some(phone))
    };
    world.intercom.create_contact(at("Ann Lee", "+12025550123"));
    minutes(1).await;
    let bob = world.intercom.create_contact(ContactSeed { lead: true, ..at("Bob Ray", "+12025550124") });
    minutes(10).await;
    world.sync().await;
    assert!(world.brevo.unsubscribe("home@shop.example"));
    for _ in 0..2 {
        minutes(10).await;
        world.sync().await;
    }
    world.intercom.set_email(&bob, None).unwrap();
    minutes(10).await;
    world.sync().await;
    world.intercom.set_email(&bob, Some("bob@shop.example")).unwrap();
    for _ in 0..2 {
        minutes(10).await;
        world.sync().await;
    }
    let theirs = world.brevo.contact_by_email("bob@shop.example").unwrap();
    assert_eq!((theirs.attributes["FULLNAME"].as_str(), theirs.email_blacklisted), (Some("Bob Ray"), true));
    world.is_quiet().await;
}

/// Ann was found by her number before anybody with the address of that contact was there.
#[tokio::test(start_paused = true)]
async fn who_comes_with_the_address_of_a_contact_found_by_its_number_is_one_person_with_it() {
    let world = World::new(&format!("{SKIP}contacts: {{without_email: by_phone}}\n"));
    let held = BrevoSeed { email: Some("ann@shop.example".to_owned()), ..BrevoSeed::default() };
    let held = BrevoSeed { phone: Some("12025550123".to_owned()), ..held };
    let held = world.brevo.create_contact(held).unwrap();
    world.intercom.create_contact(caller("Ann Lee", Some("(202) 555-0123")));
    minutes(10).await;
    world.sync().await;
    assert_eq!(world.brevo.contact(held).unwrap().attributes["FULLNAME"], "Ann Lee");
    let comes = ContactSeed { email: Some("ann@shop.example".to_owned()), ..caller("Ann Roe", None) };
    let comes = world.intercom.create_contact(comes);
    for _ in 0..2 {
        minutes(10).await;
        world.sync().await;
    }
    assert_eq!(world.store.read(|tx| tx.notices(Some("identity_conflict"), 10)).await.unwrap(), []);
    let contact = world.brevo.contact(held).unwrap();
    assert_eq!(
        (&contact.attributes["FULLNAME"], &contact.attributes["SMS"]),
        (&json!("Ann Roe"), &json!("12025550123"))
    );
    // Consent is the address's.
    world.intercom.unsubscribe(&comes).unwrap();
    for _ in 0..2 {
        minutes(10).await;
        world.sync().await;
    }
    assert!(world.brevo.contact(held).unwrap().email_blacklisted);
    assert_eq!(world.brevo.contact_count(), 1);
    world.is_quiet().await;
}
