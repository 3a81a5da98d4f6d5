//! What a preview shows, before it is written.

use crate::harness::{World, minutes};
use linkspan::model::Email;
use linkspan::sandbox::brevo::ContactSeed as BrevoSeed;
use linkspan::sandbox::intercom::ContactSeed;
use serde_json::json;

const CONFIG: &str = "
connectors:
  intercom:
    lists:
      all_users: Users
";

fn user(email: &str) -> ContactSeed {
    ContactSeed { email: Some(email.to_owned()), name: Some("Ann Lee".to_owned()), ..ContactSeed::default() }
}

#[tokio::test(start_paused = true)]
async fn lists_are_shown_by_name_and_notices_under_the_kinds_that_status_counts() {
    let world = World::new(CONFIG);
    world.intercom.create_contact(user("ann@x.example"));
    minutes(10).await;
    world.sync().await;
    let users = world.brevo.list_id("Users").unwrap();
    let ann = Email::parse("ann@x.example").unwrap();
    world.brevo.leave_list("ann@x.example", users);
    world.intercom.create_contact(user("bob@x.example"));
    minutes(10).await;
    world.full().await;
    let previews = world.connection.preview(Some(ann)).await.unwrap();
    assert_eq!(previews[0].notices, ["kept_off_list"]);
    let counts = world.store.read(|tx| tx.counts()).await.unwrap();
    assert!(counts.notices.contains_key("kept_off_list"), "{:?}", counts.notices);

    world.intercom.create_contact(user("cat@x.example"));
    minutes(10).await;
    let cat = Email::parse("cat@x.example").unwrap();
    world.connection.read_one(&cat).await.unwrap();
    let previews = world.connection.preview(Some(cat)).await.unwrap();
    assert_eq!(previews[0].lists, [format!("join “Users” (list {users})")]);
}

#[tokio::test(start_paused = true)]
async fn somebody_whom_the_state_does_not_know_is_read_on_both_sides() {
    let world = World::new(CONFIG);
    let ann = world.intercom.create_contact(user("ann@x.example"));
    world.intercom.create_contact(user("bob@x.example"));
    let attributes = [("FIRSTNAME".to_owned(), json!("Annie"))].into();
    world.brevo.create_contact(BrevoSeed {
        email: Some("ann@x.example".to_owned()),
        attributes,
        ..BrevoSeed::default()
    });
    minutes(10).await;
    world.connection.prepare(true).await.unwrap();
    let email = Email::parse("ann@x.example").unwrap();
    assert!(world.connection.preview(Some(email.clone())).await.unwrap().is_empty());
    world.connection.read_one(&email).await.unwrap();
    let previews = world.connection.preview(Some(email)).await.unwrap();
    assert_eq!(previews[0].intercom, ann);
    assert!(previews[0].brevo.is_some());
    assert_eq!(previews[0].lists, ["join “Users” (still to be made)"]);
    let counts = world.store.read(|tx| tx.counts()).await.unwrap();
    assert_eq!((counts.intercom_contacts, counts.brevo_contacts), (1, 1), "nobody else");
    assert_eq!(world.brevo_writes(), 0);
}

#[tokio::test(start_paused = true)]
async fn somebody_whose_brevo_contact_was_deleted_is_shown_with_that() {
    let world = World::new(CONFIG);
    let ann = world.intercom.create_contact(user("ann@x.example"));
    minutes(10).await;
    world.full().await;
    assert!(world.brevo.delete("ann@x.example"));
    minutes(10).await;
    world.full().await;
    let counts = world.store.read(|tx| tx.counts()).await.unwrap();
    assert!(counts.notices.contains_key("brevo_contact_gone"), "{:?}", counts.notices);
    let email = Email::parse("ann@x.example").unwrap();
    let before = world.brevo_writes();
    let previews = world.connection.preview(Some(email.clone())).await.unwrap();
    let preview = previews.first().expect("the person is shown");
    assert_eq!(preview.intercom, ann);
    assert!(preview.brevo.is_some() && preview.brevo_gone);
    assert_eq!(preview.notices, ["brevo_contact_gone"]);
    assert!(preview.lists.is_empty(), "{:?}", preview.lists);
    assert!(preview.fields.iter().any(|field| field.intercom == "Ann Lee"), "{:?}", preview.fields);
    assert!(preview.fields.iter().all(|field| field.write.is_empty() && field.why.contains("gone")));
    // And it stays so.
    minutes(10).await;
    world.full().await;
    assert_eq!(world.brevo_writes(), before);
    assert!(world.connection.preview(Some(email)).await.unwrap()[0].brevo_gone);
}

#[tokio::test(start_paused = true)]
async fn somebody_who_left_intercom_is_shown_with_what_holds() {
    let world = World::new(CONFIG);
    let ann = world.intercom.create_contact(user("ann@x.example"));
    minutes(10).await;
    world.full().await;
    world.intercom.archive(&ann).unwrap();
    // Whether it was merged into somebody is looked for a while.
    for _ in 0..3 {
        minutes(24 * 60).await;
        world.full().await;
    }
    let email = Email::parse("ann@x.example").unwrap();
    let previews = world.connection.preview(Some(email)).await.unwrap();
    let [preview] = previews.as_slice() else { panic!("{previews:?}") };
    let brevo = world.brevo.contact_by_email("ann@x.example").unwrap().id;
    assert_eq!((preview.intercom.as_str(), preview.brevo), (ann.as_str(), Some(brevo)));
    let left = preview.left.as_deref().unwrap();
    assert!(left.contains(&format!("{ann} was deleted or archived")) && left.contains("left alone"), "{left}");
    let name = preview.fields.iter().find(|field| field.rule.starts_with("name")).unwrap();
    assert_eq!((&name.brevo["FIRSTNAME"], name.write.len()), (&json!("Ann"), 0), "{name:?}");
    assert!(preview.lists.is_empty());
}
