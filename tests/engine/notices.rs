//! What is told about people beside what is written: each notice with what is known of it.

use crate::harness::{World, minutes};
use linkspan::sandbox::brevo::ContactSeed as BrevoSeed;
use linkspan::sandbox::intercom::ContactSeed;
use serde_json::json;

const CONFIG: &str = "
connectors:
  intercom:
    lists:
      all_users: Users
field_mapping:
  name: FIRSTNAME
  tags: {VIP: {list: Callers}}
consent:
  direction: intercom_to_brevo
";

fn user(name: &str) -> ContactSeed {
    ContactSeed { email: Some(format!("{name}@x.example")), name: Some(name.to_owned()), ..ContactSeed::default() }
}

/// About whom → what is known.
async fn told(world: &World, kind: &'static str) -> Vec<(String, String)> {
    let rows = world.store.read(move |tx| tx.notices(Some(kind), 10)).await.unwrap();
    rows.into_iter().map(|(_, subject, detail)| (subject, detail.unwrap_or_default())).collect()
}

#[tokio::test(start_paused = true)]
async fn a_notice_says_which_list_which_side_and_which_ids() {
    let world = World::new(CONFIG);
    let ann = world.intercom.create_contact(user("ann"));
    world.intercom.tag(&ann, "VIP").unwrap();
    let bob = world.intercom.create_contact(user("bob"));
    let cat = world.intercom.create_contact(ContactSeed { external_id: Some("crm-3".to_owned()), ..user("cat") });
    let theirs = world.brevo.create_contact(BrevoSeed {
        email: Some("cat@x.example".to_owned()),
        ext_id: Some("shop-9".to_owned()),
        ..BrevoSeed::default()
    });
    minutes(10).await;
    world.sync().await;
    let (theirs, about) = (theirs.unwrap(), |id: &str| format!("contact {id}"));
    assert_eq!(
        told(&world, "external_id_differs").await,
        [(about(&cat), format!("“crm-3” in Intercom, “shop-9” in Brevo (contact {theirs})"))]
    );

    let (users, callers) = (world.brevo.list_id("Users").unwrap(), world.brevo.list_id("Callers").unwrap());
    world.brevo.leave_list("ann@x.example", users);
    assert!(world.brevo.remove_from_list("ann@x.example", callers));
    world.brevo.unsubscribe("bob@x.example");
    let requests = world.intercom.log().len() + world.brevo.log().len();
    minutes(10).await;
    world.full().await;
    let first = world.intercom.log().len() + world.brevo.log().len() - requests;
    let kept_off = told(&world, "kept_off_list").await;
    let both = format!("“Callers” (list {callers}): was taken off; “Users” (list {users}): left it");
    assert_eq!(kept_off, [(about(&ann), both)]);
    let brevo = world.brevo.contact_by_email("bob@x.example").unwrap().id;
    let only_brevo = format!("opted out in Brevo (contact {brevo}), not in Intercom");
    assert_eq!(told(&world, "consent_diverges").await, [(about(&bob), only_brevo)]);

    // It costs no request, and is gone with its reason.
    world.brevo.resubscribe("bob@x.example");
    minutes(10).await;
    let requests = world.intercom.log().len() + world.brevo.log().len();
    world.full().await;
    assert!(world.intercom.log().len() + world.brevo.log().len() - requests <= first);
    assert_eq!(told(&world, "consent_diverges").await, []);

    // An opt-out in Intercom that Brevo was talked out of.
    world.intercom.unsubscribe(&bob).unwrap();
    for _ in 0..2 {
        minutes(10).await;
        world.sync().await;
    }
    assert!(world.brevo.contact_by_email("bob@x.example").unwrap().email_blacklisted);
    world.brevo.resubscribe("bob@x.example");
    minutes(10).await;
    world.full().await;
    let only_intercom = format!("opted out in Intercom, not in Brevo (contact {brevo})");
    assert_eq!(told(&world, "consent_diverges").await, [(about(&bob), only_intercom)]);
}

#[tokio::test(start_paused = true)]
async fn an_external_id_that_another_contact_has_names_that_contact() {
    let world = World::new(CONFIG);
    let cat = world.intercom.create_contact(user("cat"));
    minutes(10).await;
    world.sync().await;
    let email = Some("old@x.example".to_owned());
    let holder = BrevoSeed { ext_id: Some("crm-3".to_owned()), email, ..BrevoSeed::default() };
    let holder = world.brevo.create_contact(holder).unwrap();
    world.intercom.edit_contact(&cat, &json!({"external_id": "crm-3", "name": "Cat"})).unwrap();
    minutes(10).await;
    world.sync().await;
    let words = format!("“crm-3” in Intercom, which another contact in Brevo has ({holder})");
    assert_eq!(told(&world, "external_id_differs").await, [(format!("contact {cat}"), words)]);
    assert_eq!(world.attribute("cat@x.example", "FIRSTNAME"), Some(json!("Cat")), "the rest goes on");
}
