//! What people do in Intercom after the first sync, and what becomes of it in Brevo.

use crate::harness::{World, minutes};
use linkspan::model::SideName;
use linkspan::sandbox::Fault;
use linkspan::sandbox::brevo::ContactSeed as BrevoSeed;
use linkspan::sandbox::intercom::ContactSeed;
use serde_json::json;

const CONFIG: &str = "
connectors:
  intercom:
    lists:
      all_users: Users
      leads: Leads
      active_conversations: Active
phone:
  default_region: US
consent:
  direction: intercom_to_brevo
";

fn user(email: &str, name: &str) -> ContactSeed {
    ContactSeed { email: Some(email.to_owned()), name: Some(name.to_owned()), ..ContactSeed::default() }
}

fn lead(email: &str, name: &str) -> ContactSeed {
    ContactSeed { lead: true, ..user(email, name) }
}

async fn writes_nothing_more(world: &World) {
    minutes(5).await;
    world.sync().await;
    let before = world.brevo_writes();
    for full in [false, true] {
        minutes(5).await;
        let _ = if full { world.full().await } else { world.sync().await };
        let more: Vec<String> = world.brevo.log().writes()[before..]
            .iter()
            .map(|write| format!("{} {} {}", write.method, write.target, String::from_utf8_lossy(&write.body)))
            .collect();
        assert!(more.is_empty(), "a quiet cycle (full: {full}) wrote\n{}", more.join("\n"));
    }
    assert_eq!(world.intercom.log().writes().len(), 0, "Intercom is only read");
}

#[tokio::test(start_paused = true)]
async fn an_edit_follows_and_only_what_changed_is_sent() {
    let world = World::new(CONFIG);
    let jane = world.intercom.create_contact(user("jane@example.com", "Jane Doe"));
    minutes(10).await;
    world.sync().await;
    assert_eq!(world.attribute("jane@example.com", "LASTNAME"), Some(json!("Doe")));
    minutes(10).await;
    world.intercom.edit_contact(&jane, &json!({"name": "Jane Roe"})).unwrap();
    let before = world.brevo_writes();
    world.sync().await;
    let writes = world.brevo.log().writes();
    let bodies: Vec<String> =
        writes[before..].iter().map(|write| String::from_utf8_lossy(&write.body).into_owned()).collect();
    // The whole name: beside an edit of one part that nothing has shown yet, the other would make one that neither side had.
    assert_eq!(bodies, [r#"{"attributes":{"FIRSTNAME":"Jane","LASTNAME":"Roe"}}"#]);
    writes_nothing_more(&world).await;
}

#[tokio::test(start_paused = true)]
async fn an_opt_out_reaches_brevo_and_an_opt_in_stays_where_it_was_given() {
    let world = World::new(CONFIG);
    let jane = world.intercom.create_contact(user("jane@example.com", "Jane Doe"));
    let joe = world.intercom.create_contact(user("joe@example.com", "Joe"));
    minutes(10).await;
    world.sync().await;
    minutes(10).await;
    world.intercom.unsubscribe(&jane).unwrap();
    world.brevo.unsubscribe("joe@example.com");
    world.sync().await;
    assert!(world.brevo.contact_by_email("jane@example.com").unwrap().email_blacklisted);
    assert!(world.brevo.contact_by_email("joe@example.com").unwrap().email_blacklisted, "an opt-out in Brevo stands");
    minutes(10).await;
    world.sync().await;
    let listed = world.store.read(|tx| tx.notices(Some("consent_diverges"), 10)).await.unwrap();
    assert_eq!(listed.len(), 1, "and is listed: {listed:?}");
    minutes(10).await;
    // Both change their mind, each where they are: nothing is carried across, nothing is reverted.
    world.intercom.resubscribe(&jane).unwrap();
    world.intercom.edit_contact(&joe, &json!({"name": "Joe Bloggs"})).unwrap();
    world.sync().await;
    assert!(world.brevo.contact_by_email("jane@example.com").unwrap().email_blacklisted);
    assert!(world.brevo.contact_by_email("joe@example.com").unwrap().email_blacklisted);
    world.brevo.resubscribe("jane@example.com");
    minutes(10).await;
    world.full().await;
    assert!(!world.brevo.contact_by_email("jane@example.com").unwrap().email_blacklisted);
    writes_nothing_more(&world).await;
    assert!(!world.brevo.contact_by_email("jane@example.com").unwrap().email_blacklisted);
}

#[tokio::test(start_paused = true)]
async fn a_changed_address_takes_its_brevo_contact_along_and_stays_opted_out() {
    let world = World::new(CONFIG);
    let jane = world.intercom.create_contact(user("jane@old.example", "Jane Doe"));
    minutes(10).await;
    world.sync().await;
    let id = world.brevo.contact_by_email("jane@old.example").unwrap().id;
    // Opted out in Brevo alone: Brevo would re-subscribe her when the address changes.
    world.brevo.unsubscribe("jane@old.example");
    minutes(10).await;
    world.intercom.set_email(&jane, Some("jane@new.example")).unwrap();
    world.sync().await;
    let now = world.brevo.contact(id).unwrap();
    assert_eq!(now.email.as_deref(), Some("jane@new.example"));
    assert!(now.email_blacklisted, "re-subscribed by a rename");
    assert_eq!(world.brevo.contact_count(), 1);
    writes_nothing_more(&world).await;
}

#[tokio::test(start_paused = true)]
async fn one_who_was_away_and_comes_back_with_another_address_takes_the_brevo_contact_along() {
    let world = World::new(CONFIG);
    let jane = world.intercom.create_contact(user("jane@old.example", "Jane Doe"));
    minutes(10).await;
    world.sync().await;
    let id = world.brevo.contact_by_email("jane@old.example").unwrap().id;
    world.intercom.set_email(&jane, Some("jane@new.example")).unwrap();
    world.intercom.archive(&jane).unwrap();
    minutes(10).await;
    world.full().await;
    world.intercom.unarchive(&jane).unwrap();
    minutes(10).await;
    world.full().await;
    assert_eq!(world.brevo.contact(id).unwrap().email.as_deref(), Some("jane@new.example"));
    writes_nothing_more(&world).await;
}

#[tokio::test(start_paused = true)]
async fn two_people_who_exchange_addresses_are_exchanged_and_nobody_is_renamed() {
    let world = World::new(CONFIG);
    let a = world.intercom.create_contact(user("a@example.com", "Ann Alpha"));
    let b = world.intercom.create_contact(user("b@example.com", "Bob Beta"));
    minutes(10).await;
    world.sync().await;
    let (contact_a, contact_b) = (
        world.brevo.contact_by_email("a@example.com").unwrap().id,
        world.brevo.contact_by_email("b@example.com").unwrap().id,
    );
    minutes(10).await;
    world.intercom.set_email(&a, Some("c@example.com")).unwrap();
    world.intercom.set_email(&b, Some("a@example.com")).unwrap();
    world.intercom.set_email(&a, Some("b@example.com")).unwrap();
    world.sync().await;
    assert_eq!(world.brevo.contact_by_email("a@example.com").unwrap().id, contact_a);
    assert_eq!(world.brevo.contact_by_email("b@example.com").unwrap().id, contact_b);
    assert_eq!(world.attribute("a@example.com", "FIRSTNAME"), Some(json!("Bob")));
    assert_eq!(world.attribute("b@example.com", "FIRSTNAME"), Some(json!("Ann")));
    assert_eq!(world.brevo.contact_count(), 2);
    writes_nothing_more(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_chain_of_renames_runs_from_its_free_end() {
    let world = World::new(CONFIG);
    let a = world.intercom.create_contact(user("a@example.com", "Ann"));
    let b = world.intercom.create_contact(user("b@example.com", "Bob"));
    minutes(10).await;
    world.sync().await;
    let ids = |world: &World| {
        world.brevo.contacts().into_iter().map(|contact| (contact.id, contact.email.unwrap())).collect::<Vec<_>>()
    };
    minutes(10).await;
    world.intercom.set_email(&b, Some("c@example.com")).unwrap();
    world.intercom.set_email(&a, Some("b@example.com")).unwrap();
    world.sync().await;
    let after = ids(&world);
    assert_eq!(after.iter().map(|(_, email)| email.as_str()).collect::<Vec<_>>(), ["b@example.com", "c@example.com"]);
    assert_eq!(world.attribute("b@example.com", "FIRSTNAME"), Some(json!("Ann")));
    assert_eq!(world.attribute("c@example.com", "FIRSTNAME"), Some(json!("Bob")));
    writes_nothing_more(&world).await;
}

#[tokio::test(start_paused = true)]
async fn an_unlinked_holder_of_the_new_address_is_adopted_with_the_stricter_consent() {
    let world = World::new(CONFIG);
    let jane = world.intercom.create_contact(user("jane@old.example", "Jane Doe"));
    minutes(10).await;
    world.sync().await;
    world.brevo.unsubscribe("jane@old.example");
    world.brevo.create_contact(BrevoSeed { email: Some("jane@new.example".into()), ..BrevoSeed::default() }).unwrap();
    minutes(10).await;
    world.sync().await;
    world.intercom.set_email(&jane, Some("jane@new.example")).unwrap();
    minutes(10).await;
    world.sync().await;
    let now = world.brevo.contact_by_email("jane@new.example").unwrap();
    assert_eq!(now.attributes.get("LASTNAME"), Some(&json!("Doe")));
    assert!(now.email_blacklisted, "the opt-out did not survive the address");
    assert_eq!(world.brevo.contact_count(), 2, "the old contact is left alone");
    writes_nothing_more(&world).await;
}

#[tokio::test(start_paused = true)]
async fn several_contacts_on_one_address_are_one_brevo_contact() {
    let world = World::new(CONFIG);
    world.intercom.create_contact(lead("team@example.com", "A Lead"));
    minutes(1).await;
    let user_id = world.intercom.create_contact(user("Team@Example.com", "The User"));
    minutes(10).await;
    world.sync().await;
    assert_eq!(world.brevo.contact_count(), 1);
    assert_eq!(world.attribute("team@example.com", "FIRSTNAME"), Some(json!("The")), "user before lead");
    // A member's deletion is not the Brevo contact's: the lead speaks for the address now.
    minutes(10).await;
    world.intercom.delete(&user_id).unwrap();
    world.full().await;
    assert_eq!(world.brevo.contact_count(), 1);
    assert_eq!(world.attribute("team@example.com", "ROLE"), Some(json!("lead")));
    writes_nothing_more(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_merged_lead_leaves_its_link_to_the_user() {
    let world = World::new(CONFIG);
    let lead_id = world.intercom.create_contact(lead("lead@example.com", "Jane"));
    minutes(10).await;
    world.sync().await;
    let id = world.brevo.contact_by_email("lead@example.com").unwrap().id;
    world.brevo.unsubscribe("lead@example.com");
    let user_id = world.intercom.create_contact(ContactSeed { email: None, ..user("x", "Jane Doe") });
    minutes(10).await;
    world.intercom.set_email(&user_id, Some("jane@example.com")).unwrap();
    world.intercom.merge(&lead_id, &user_id).unwrap();
    minutes(10).await;
    world.full().await;
    minutes(10).await;
    world.sync().await;
    assert_eq!(world.brevo.contact_count(), 1, "{:#?}", world.brevo.contacts());
    let now = world.brevo.contact(id).unwrap();
    assert_eq!(now.email.as_deref(), Some("jane@example.com"), "the survivor inherits the link");
    assert!(now.email_blacklisted, "with the stricter consent");
    writes_nothing_more(&world).await;
}

#[tokio::test(start_paused = true)]
async fn who_shares_the_survivors_address_goes_along_and_so_does_their_no() {
    let world = World::new("contacts: {create: {brevo: never}}\nfield_mapping: {name: FIRSTNAME}\n");
    world.brevo.create_contact(BrevoSeed { email: Some("lead@example.com".to_owned()), ..BrevoSeed::default() });
    let merged = world.intercom.create_contact(lead("lead@example.com", "Jane"));
    let survivor = world.intercom.create_contact(user("jane@example.com", "Jane Doe"));
    let other = world.intercom.create_contact(lead("jane@example.com", "Jane D"));
    minutes(10).await;
    world.sync().await;
    assert_eq!(world.brevo.contact_count(), 1, "nobody of the other address is there");
    world.intercom.unsubscribe(&other).unwrap();
    minutes(10).await;
    world.sync().await;
    world.intercom.merge(&merged, &survivor).unwrap();
    minutes(20).await;
    world.full().await;
    let now = world.brevo.contact_by_email("jane@example.com").unwrap();
    assert!(now.email_blacklisted, "it is given that address, of which somebody had said no");
}

#[tokio::test(start_paused = true)]
async fn what_is_gone_is_marked_and_left_alone_or_never_made_again() {
    let world = World::new(CONFIG);
    let jane = world.intercom.create_contact(user("jane@example.com", "Jane"));
    let joe = world.intercom.create_contact(user("joe@example.com", "Joe"));
    world.intercom.create_contact(user("ann@example.com", "Ann"));
    minutes(10).await;
    world.sync().await;
    minutes(10).await;
    world.intercom.delete(&jane).unwrap();
    world.intercom.archive(&joe).unwrap();
    world.brevo.delete("ann@example.com");
    world.full().await;
    assert!(world.brevo.contact_by_email("jane@example.com").is_some(), "left alone in Brevo");
    assert!(world.brevo.contact_by_email("joe@example.com").is_some());
    assert!(world.brevo.contact_by_email("ann@example.com").is_none(), "never made again");
    let counts = world.store.read(|tx| tx.counts()).await.unwrap();
    for (kind, people) in [("missing_in_intercom", 2), ("brevo_contact_gone", 1)] {
        assert_eq!(counts.notices.get(kind).copied(), Some(people), "{kind}: {:?}", counts.notices);
    }
    // Only once nobody is found under their other identifiers either. (A read by id cannot tell archived from deleted;
    // only the webhook can.)
    minutes(20).await;
    world.sync().await;
    let counts = world.store.read(|tx| tx.counts()).await.unwrap();
    assert_eq!(counts.notices.get("deleted_in_intercom").copied(), Some(2), "{:?}", counts.notices);
    assert_eq!(counts.notices.get("missing_in_intercom"), None);
    writes_nothing_more(&world).await;
    assert!(world.brevo.contact_by_email("ann@example.com").is_none());
}

#[tokio::test(start_paused = true)]
async fn a_lead_that_signs_up_moves_and_nobody_is_put_back_on_a_list() {
    let world = World::new(CONFIG);
    let ann = world.intercom.create_contact(lead("ann@example.com", "Ann"));
    let bob = world.intercom.create_contact(user("bob@example.com", "Bob"));
    let cat = world.intercom.create_contact(user("cat@example.com", "Cat"));
    minutes(10).await;
    world.sync().await;
    let (users, leads) = (world.brevo.list_id("Users").unwrap(), world.brevo.list_id("Leads").unwrap());
    world.brevo.leave_list("bob@example.com", users);
    world.brevo.remove_from_list("cat@example.com", users);
    minutes(10).await;
    world.intercom.sign_up(&ann, "ann-1").unwrap();
    world.intercom.edit_contact(&bob, &json!({"name": "Bob B"})).unwrap();
    world.intercom.edit_contact(&cat, &json!({"name": "Cat C"})).unwrap();
    world.sync().await;
    minutes(10).await;
    world.full().await;
    let members = |list| world.brevo.list_members(list);
    let id = |email: &str| world.brevo.contact_by_email(email).unwrap().id;
    assert!(members(users).contains(&id("ann@example.com")) && !members(leads).contains(&id("ann@example.com")));
    assert!(!members(users).contains(&id("bob@example.com")), "left by his own hand");
    assert!(!members(users).contains(&id("cat@example.com")), "taken off by somebody");
    writes_nothing_more(&world).await;
    assert!(!members(users).contains(&id("bob@example.com")) && !members(users).contains(&id("cat@example.com")));
}

#[tokio::test(start_paused = true)]
async fn an_edit_in_brevo_of_a_one_way_field_is_restored_by_the_sweep_and_logged() {
    let world = World::new(CONFIG);
    world.intercom.create_contact(user("jane@example.com", "Jane Doe"));
    minutes(10).await;
    world.sync().await;
    world.brevo.edit_attributes("jane@example.com", &[("LASTNAME", json!("Mine"))]);
    minutes(10).await;
    world.sync().await;
    assert_eq!(world.attribute("jane@example.com", "LASTNAME"), Some(json!("Mine")), "not before the sweep");
    minutes(10).await;
    world.full().await;
    assert_eq!(world.attribute("jane@example.com", "LASTNAME"), Some(json!("Doe")));
    let conflicts = world.store.read(|tx| tx.conflicts(10)).await.unwrap();
    assert!(conflicts.iter().any(|conflict| conflict.lost.contains("Mine")), "the losing value is kept: {conflicts:?}");
    writes_nothing_more(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_phone_that_another_contact_has_does_not_hold_the_person_up() {
    let world = World::new(CONFIG);
    world
        .brevo
        .create_contact(BrevoSeed {
            email: Some("old@example.com".into()),
            phone: Some("12025550123".into()),
            ..BrevoSeed::default()
        })
        .unwrap();
    world
        .intercom
        .create_contact(ContactSeed { phone: Some("+1 202 555 0123".into()), ..user("jane@example.com", "Jane") });
    minutes(10).await;
    world.sync().await;
    assert_eq!(world.attribute("jane@example.com", "FIRSTNAME"), Some(json!("Jane")));
    assert_eq!(world.attribute("jane@example.com", "SMS"), None);
    let failures = world.store.read(|tx| tx.failures(10)).await.unwrap();
    let [failure] = failures.as_slice() else { panic!("{failures:?}") };
    let holder = world.brevo.contact_by_email("old@example.com").unwrap().id;
    assert!(failure.message.contains(&format!("Brevo contact {holder} has this phone number")), "{failure:?}");
    // Brevo never saw it: nobody refused it, and no status is made up.
    assert_eq!((failure.refused_by, failure.status, failure.field.as_str()), (None, None, "phone -> SMS"));
    assert_eq!(failure.brevo, world.brevo.contact_by_email("jane@example.com").map(|contact| contact.id));
    let summary = world.sync().await;
    assert_eq!((summary.failed, summary.left_out), (1, 1), "counted as left out, not as refused");
    writes_nothing_more(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_phone_that_brevo_has_refused_to_its_holder_is_listed_with_brevos_words() {
    let world = World::new(CONFIG);
    let [jane, jim] =
        ["jane@example.com", "jim@example.com"].map(|email| world.intercom.create_contact(user(email, "Jane Doe")));
    minutes(10).await;
    world.sync().await;
    minutes(10).await;
    world.intercom.edit_contact(&jane, &json!({"phone": "+12025550123"})).unwrap();
    minutes(10).await;
    world.brevo.fail("/contacts/", Fault::Status(400, None));
    world.sync().await;
    let failures = world.store.read(|tx| tx.failures(10)).await.unwrap();
    let [first] = failures.as_slice() else { panic!("{failures:?}") };
    assert_eq!((first.refused_by, first.status), (Some(SideName::Brevo), Some(400)), "{first:?}");

    world.intercom.edit_contact(&jim, &json!({"phone": "+12025550123"})).unwrap();
    minutes(10).await;
    let summary = world.sync().await;
    assert_eq!((summary.failed, summary.left_out), (2, 0));
    let failures = world.store.read(|tx| tx.failures(10)).await.unwrap();
    let second = failures.iter().find(|failure| failure.subject.contains(&jim)).unwrap();
    assert_eq!((second.refused_by, second.status), (Some(SideName::Brevo), Some(400)), "{second:?}");
    assert!(second.message.starts_with(&first.message) && second.message.contains(&jane), "{second:?}");
    writes_nothing_more(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_verified_and_nobody_is_made_twice() {
    for fault in [Fault::StatusAfterEffect(502), Fault::Truncated, Fault::Status(503, None)] {
        let world = World::new(CONFIG);
        world.sync().await;
        let jane = world.intercom.create_contact(user("jane@example.com", "Jane Doe"));
        minutes(10).await;
        world.brevo.fail("/contacts", fault.clone());
        // The first read of contacts gets it, then the write.
        world.sync().await;
        minutes(10).await;
        world.sync().await;
        assert_eq!(world.brevo.contact_count(), 1, "{fault:?}");
        assert_eq!(world.attribute("jane@example.com", "LASTNAME"), Some(json!("Doe")), "{fault:?}");
        world.intercom.edit_contact(&jane, &json!({"name": "Jane Roe"})).unwrap();
        minutes(10).await;
        world.brevo.fail("/contacts/", fault.clone());
        world.sync().await;
        minutes(10).await;
        world.sync().await;
        assert_eq!(world.attribute("jane@example.com", "LASTNAME"), Some(json!("Roe")), "{fault:?}");
        writes_nothing_more(&world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn conversations_become_figures_events_and_a_list() {
    let world = World::new(&format!(
        "{CONFIG}
field_mapping:
  email: email
  conversations.open_count: OPEN_CONVERSATIONS
  conversations.last_state: LAST_STATE
"
    ));
    let jane = world.intercom.create_contact(user("jane@example.com", "Jane"));
    let old = world.intercom.open_conversation(&jane, "before we began").unwrap();
    world.intercom.close_conversation(&old).unwrap();
    minutes(10).await;
    world.sync().await;
    assert_eq!(world.brevo.events().len(), 0, "a backfill sends none");
    minutes(10).await;
    let id = world.intercom.open_conversation(&jane, "help").unwrap();
    world.sync().await;
    let active = world.brevo.list_id("Active").unwrap();
    let contact = world.brevo.contact_by_email("jane@example.com").unwrap();
    assert!(world.brevo.list_members(active).contains(&contact.id));
    assert_eq!(world.attribute("jane@example.com", "OPEN_CONVERSATIONS"), Some(json!(1)));
    minutes(10).await;
    world.intercom.close_conversation(&id).unwrap();
    minutes(1).await;
    world.intercom.rate(&id, 5, Some("thanks")).unwrap();
    world.sync().await;
    assert_eq!(world.attribute("jane@example.com", "LAST_STATE"), Some(json!("closed")));
    assert!(!world.brevo.list_members(active).contains(&contact.id));
    writes_nothing_more(&world).await;
    let mut names: Vec<String> = world.brevo.events().into_iter().map(|event| event.name).collect();
    names.sort();
    assert_eq!(
        names,
        ["intercom_conversation_closed", "intercom_conversation_created", "intercom_conversation_rated"],
        "each once"
    );
}

#[tokio::test(start_paused = true)]
async fn conversations_that_do_not_count_are_in_no_figure_no_list_and_no_event() {
    let world = World::new(&format!(
        "{CONFIG}
field_mapping:
  email: email
  conversations.open_count: OPEN_CONVERSATIONS
conversations:
  filter: \"'spam' not in (record.tags or [])\"
"
    ));
    let jane = world.intercom.create_contact(user("jane@example.com", "Jane"));
    minutes(10).await;
    world.sync().await;
    minutes(10).await;
    let spam = world.intercom.open_conversation(&jane, "buy").unwrap();
    world.intercom.tag_conversation(&spam, "spam").unwrap();
    world.sync().await;
    let active = world.brevo.list_id("Active").unwrap();
    let contact = world.brevo.contact_by_email("jane@example.com").unwrap();
    assert!(!world.brevo.list_members(active).contains(&contact.id));
    assert_eq!(world.attribute("jane@example.com", "OPEN_CONVERSATIONS"), Some(json!(0)));
    assert_eq!(world.brevo.events().len(), 0);
    minutes(10).await;
    let real = world.intercom.open_conversation(&jane, "help").unwrap();
    world.sync().await;
    assert_eq!(world.attribute("jane@example.com", "OPEN_CONVERSATIONS"), Some(json!(1)));
    assert!(world.brevo.list_members(active).contains(&contact.id));
    assert_eq!(world.brevo.events().len(), 1);
    // What stops counting leaves figure and list with it.
    minutes(10).await;
    world.intercom.tag_conversation(&real, "spam").unwrap();
    minutes(10).await;
    world.sync().await;
    minutes(10).await;
    world.full().await;
    assert_eq!(world.attribute("jane@example.com", "OPEN_CONVERSATIONS"), Some(json!(0)));
    assert!(!world.brevo.list_members(active).contains(&contact.id));
    writes_nothing_more(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_new_tag_becomes_an_option_before_it_is_written() {
    let world = World::new(
        "
field_mapping:
  email: email
  tags: {to: TAGS, type: multiple-choice}
",
    );
    let jane = world.intercom.create_contact(user("jane@example.com", "Jane"));
    world.intercom.tag(&jane, "VIP").unwrap();
    minutes(10).await;
    world.sync().await;
    assert_eq!(world.attribute("jane@example.com", "TAGS"), Some(json!(["VIP"])));
    for number in 0..14 {
        world.intercom.tag(&jane, &format!("tag {number}")).unwrap();
    }
    minutes(10).await;
    world.sync().await;
    let tags = world.attribute("jane@example.com", "TAGS").unwrap();
    assert_eq!(tags.as_array().map(Vec::len), Some(15), "all of them, beyond the ten embedded: {tags}");
    writes_nothing_more(&world).await;
}
