//! What is told about one person.

use crate::harness::{World, config, minutes};
use linkspan::engine::Settings;
use linkspan::engine::explain::shown::Explained;
use linkspan::engine::explain::{Whom, explain};
use linkspan::model::{Email, IntercomContactId};
use linkspan::sandbox::brevo::ContactSeed as BrevoSeed;
use linkspan::sandbox::intercom::ContactSeed;
use serde_json::json;

const CONFIG: &str = "
connectors:
  intercom:
    lists:
      all_users: Users
phone:
  default_region: US
consent: {direction: both}
";

fn user(email: &str) -> ContactSeed {
    ContactSeed { email: Some(email.to_owned()), name: Some("Ann Lee".to_owned()), ..ContactSeed::default() }
}

async fn told(world: &World, whom: Whom) -> Vec<Explained> {
    let (settings, now) = (Settings::from_config(&config(&world.config)), world.doors.clock.now());
    world.store.try_out(move |tx| explain(tx, &settings, &whom, now)).await.unwrap()
}

async fn of(world: &World, email: &str) -> Explained {
    let mut all = told(world, Whom::Email(Email::parse(email).unwrap())).await;
    assert_eq!(all.len(), 1);
    all.remove(0)
}

#[tokio::test(start_paused = true)]
async fn a_change_is_told_with_its_cause_its_request_and_the_answer() {
    let world = World::new(CONFIG);
    let ann = world.intercom.create_contact(user("ann@x.example"));
    minutes(20).await;
    world.full().await;
    let made = of(&world, "ann@x.example").await;
    assert_eq!(made.standing, "in step");
    assert_eq!(made.changes[0].request.as_deref(), Some("POST /contacts"));
    world.intercom.edit_contact(&ann, &json!({"name": "Anna Lee"})).unwrap();
    minutes(20).await;
    world.full().await;
    let person = of(&world, "ann@x.example").await;
    let brevo = world.brevo.contact_by_email("ann@x.example").unwrap().id;
    let change = &person.changes[0];
    assert_eq!((change.what.as_str(), change.answer.as_str()), ("update in Brevo", "accepted"));
    assert_eq!(change.request, Some(format!("PUT /contacts/{brevo}")));
    assert!(change.causes.contains_key("name -> FIRSTNAME+LASTNAME"), "{change:?}");
    assert_eq!(told(&world, Whom::Intercom(IntercomContactId::new(ann))).await[0].link, person.link);

    // What was seen and is not written yet; base says what had been agreed on.
    world.brevo.edit_attributes("ann@x.example", &[("FIRSTNAME", json!("Anne"))]);
    world.connection.read_one(&Email::parse("ann@x.example").unwrap()).await.unwrap();
    let before = world.store.read(|tx| tx.link_by_email(&Email::parse("ann@x.example").unwrap())).await.unwrap();
    let person = of(&world, "ann@x.example").await;
    let name = person.fields.iter().find(|field| field.rule.starts_with("name")).unwrap();
    assert_eq!(name.brevo["FIRSTNAME"], "Anne");
    assert_eq!(name.agreed.as_ref().unwrap().brevo[0], "Anna");
    assert!(person.waiting.iter().any(|waiting| waiting.what.contains("to be compared")), "{:?}", person.waiting);
    let after = world.store.read(|tx| tx.link_by_email(&Email::parse("ann@x.example").unwrap())).await.unwrap();
    assert_eq!(format!("{before:?}"), format!("{after:?}"), "to tell changes nothing");
}

#[tokio::test(start_paused = true)]
async fn what_is_left_out_and_who_is_gone_is_told() {
    let world = World::new(CONFIG);
    world.brevo.create_contact(BrevoSeed {
        email: Some("other@x.example".to_owned()),
        attributes: [("SMS".to_owned(), json!("12015550123"))].into(),
        ..BrevoSeed::default()
    });
    world.intercom.create_contact(ContactSeed { phone: Some("+12015550123".to_owned()), ..user("ann@x.example") });
    minutes(20).await;
    world.full().await;
    let person = of(&world, "ann@x.example").await;
    let phone = person.fields.iter().find(|field| field.rule == "phone -> SMS").unwrap();
    assert_eq!(phone.status, "held back");
    assert!(phone.failure.as_deref().unwrap().contains("Brevo allows each number once"), "{phone:?}");
    assert_eq!(person.failures.len(), 1);

    // In Brevo alone.
    let other = of(&world, "other@x.example").await;
    assert!(other.link.is_none() && other.standing.starts_with("not linked"), "{}", other.standing);

    // An opt-out of Brevo's that reached Intercom.
    world.brevo.unsubscribe("ann@x.example");
    minutes(20).await;
    world.full().await;
    minutes(20).await;
    world.full().await;
    let person = of(&world, "ann@x.example").await;
    assert!(!person.consent.brevo.unwrap().email.is_empty());
    let [carried] = person.consent.carried.as_slice() else { panic!("{:?}", person.consent.carried) };
    assert!(carried.told && carried.ours, "{carried:?}");
    let told = person.changes.iter().find(|change| change.what.starts_with("opt-out")).unwrap();
    assert!(told.request.as_deref().unwrap().starts_with("PUT /contacts/"), "{told:?}");

    world.brevo.delete("ann@x.example");
    minutes(20).await;
    world.full().await;
    let person = of(&world, "ann@x.example").await;
    assert!(person.standing.starts_with("gone in Brevo"), "{}", person.standing);
    assert!(person.brevo.unwrap().gone);
    assert_eq!(person.notices[0].kind, "brevo_contact_gone");
    assert!(person.fields.iter().all(|field| field.write.is_empty()));
}

#[tokio::test(start_paused = true)]
async fn what_travels_to_intercom_is_told_too() {
    let yaml = "
field_mapping:
  email: email
  name: {to: FULLNAME, direction: both, on_conflict: brevo}
";
    let world = World::new(yaml);
    let ann = world.intercom.create_contact(user("ann@x.example"));
    minutes(20).await;
    world.full().await;
    minutes(20).await;
    world.full().await;
    world.brevo.edit_attributes("ann@x.example", &[("FULLNAME", json!("Ann B. Lee"))]);
    world.connection.read_one(&Email::parse("ann@x.example").unwrap()).await.unwrap();
    let person = of(&world, "ann@x.example").await;
    let name = &person.fields[0];
    assert_eq!(
        (name.status.as_str(), &name.write_intercom["name"]),
        ("to be written", &json!("Ann B. Lee")),
        "{name:?}"
    );
    minutes(20).await;
    world.full().await;
    let person = of(&world, "ann@x.example").await;
    let change = &person.changes[0];
    assert_eq!(change.what, format!("update of contact {ann} in Intercom"));
    assert_eq!(change.request, Some(format!("PUT /contacts/{ann}")));
}
