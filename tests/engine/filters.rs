//! Who takes part: `contacts.filter` and `contacts.on_unmatch`.

use crate::harness::{World, minutes};
use linkspan::engine::approve_in;
use linkspan::sandbox::brevo::ContactSeed as BrevoSeed;
use linkspan::sandbox::intercom::ContactSeed;
use serde_json::json;

fn config(more: &str) -> String {
    format!(
        "
connectors:
  intercom:
    lists:
      all_users: Users
field_mapping:
  name: {{to: FULLNAME, direction: both, on_conflict: newest}}
  custom_attributes.plan: PLAN
contacts:
{more}"
    )
}

const PRO: &str = "  filter: {intercom_to_brevo: \"record.custom_attributes.plan == 'pro'\"}\n";

fn user(email: &str, plan: &str) -> ContactSeed {
    ContactSeed {
        email: Some(email.to_owned()),
        name: Some("Jane".to_owned()),
        custom_attributes: std::iter::once(("plan".to_owned(), json!(plan))).collect(),
        ..ContactSeed::default()
    }
}

const JANE: &str = "jane@example.com";
const JOE: &str = "joe@example.com";

async fn world(more: &str) -> (World, Vec<String>) {
    let world = World::new(&config(more));
    world.intercom.define_attribute("contact", "plan", "string", &[]).unwrap();
    let ids = vec![world.intercom.create_contact(user(JANE, "pro")), world.intercom.create_contact(user(JOE, "free"))];
    minutes(10).await;
    world.sync().await;
    minutes(10).await;
    world.sync().await;
    (world, ids)
}

async fn cycle(world: &World) {
    minutes(10).await;
    world.sync().await;
    minutes(10).await;
    world.full().await;
}

async fn is_quiet(world: &World) {
    let writes = || (world.intercom.log().write_count(), world.brevo_writes());
    let before = writes();
    cycle(world).await;
    assert_eq!(writes(), before, "a quiet cycle wrote");
}

#[tokio::test(start_paused = true)]
async fn who_does_not_match_is_not_made_until_they_do() {
    let (world, ids) = world(PRO).await;
    assert!(world.brevo.contact_by_email(JANE).is_some() && world.brevo.contact_by_email(JOE).is_none());
    assert_eq!(world.store.read(|tx| tx.count_apart()).await.unwrap(), 1);
    is_quiet(&world).await;
    world.intercom.edit_contact(&ids[1], &json!({"custom_attributes": {"plan": "pro"}})).unwrap();
    cycle(&world).await;
    assert_eq!(world.attribute(JOE, "PLAN"), Some(json!("pro")));
    assert_eq!(world.store.read(|tx| tx.count_apart()).await.unwrap(), 0);
    is_quiet(&world).await;
}

#[tokio::test(start_paused = true)]
async fn who_stops_matching_is_kept_as_they_were_but_for_opt_outs() {
    let (world, ids) = world(PRO).await;
    let users = world.brevo.list_id("Users").unwrap();
    let edit = json!({"name": "Jane Doe", "custom_attributes": {"plan": "free"}});
    world.intercom.edit_contact(&ids[0], &edit).unwrap();
    cycle(&world).await;
    assert_eq!(
        (world.attribute(JANE, "PLAN"), world.attribute(JANE, "FULLNAME")),
        (Some(json!("pro")), Some(json!("Jane")))
    );
    assert!(world.brevo.contact_by_email(JANE).unwrap().list_ids.contains(&users));
    is_quiet(&world).await;
    world.intercom.unsubscribe(&ids[0]).unwrap();
    cycle(&world).await;
    let there = world.brevo.contact_by_email(JANE).unwrap();
    assert!(there.email_blacklisted && there.attributes["PLAN"] == "pro");
    is_quiet(&world).await;
    // What has changed meanwhile is news once they match again.
    world.intercom.edit_contact(&ids[0], &json!({"custom_attributes": {"plan": "pro"}})).unwrap();
    cycle(&world).await;
    assert_eq!(world.attribute(JANE, "FULLNAME"), Some(json!("Jane Doe")));
    is_quiet(&world).await;
}

#[tokio::test(start_paused = true)]
async fn who_stops_matching_may_be_taken_off_the_lists_of_ours() {
    let (world, ids) = world(&format!("{PRO}  on_unmatch: unlist\n")).await;
    let (users, callers) = (world.brevo.list_id("Users").unwrap(), world.brevo.create_list("Callers"));
    world.brevo.add_to_list(JANE, callers);
    let lists = || world.brevo.contact_by_email(JANE).unwrap().list_ids;
    world.intercom.edit_contact(&ids[0], &json!({"custom_attributes": {"plan": "free"}})).unwrap();
    cycle(&world).await;
    assert!(!lists().contains(&users) && lists().contains(&callers));
    is_quiet(&world).await;
    world.intercom.edit_contact(&ids[0], &json!({"custom_attributes": {"plan": "pro"}})).unwrap();
    cycle(&world).await;
    assert!(lists().contains(&users), "their reason to be on it is back");
    // Whom a colleague takes off is not put back by this.
    assert!(world.brevo.remove_from_list(JANE, users));
    cycle(&world).await;
    for plan in ["free", "pro"] {
        world.intercom.edit_contact(&ids[0], &json!({"custom_attributes": {"plan": plan}})).unwrap();
        cycle(&world).await;
        assert!(!lists().contains(&users), "{plan}");
    }
    is_quiet(&world).await;
}

#[tokio::test(start_paused = true)]
async fn whom_a_mistyped_filter_would_take_off_lists_waits_until_that_is_approved() {
    let limits = "  on_unmatch: unlist\nsafety: {max_deletes: 5}\n";
    let right = config(&format!("{PRO}{limits}"));
    let mut world = World::new(&right);
    world.intercom.define_attribute("contact", "plan", "string", &[]).unwrap();
    for number in 0..8 {
        world.intercom.create_contact(user(&format!("person{number}@example.com"), "pro"));
    }
    cycle(&world).await;
    let users = world.brevo.list_id("Users").unwrap();
    let members = |world: &World| world.brevo.list_members(users).len();
    assert_eq!(members(&world), 8);
    let wrong = right.replace("== 'pro'", "== 'Pro'");
    world.restart(&wrong);
    cycle(&world).await;
    assert_eq!(members(&world), 8, "all of them would be more than five, so none goes");
    let now = world.doors.clock.now();
    let holds = world.store.read(move |tx| tx.current_holds(now)).await.unwrap();
    assert_eq!(holds.iter().map(|hold| (hold.kind.as_str(), hold.wanted)).collect::<Vec<_>>(), [("deletes", 8)]);
    is_quiet(&world).await;

    // The filter is mended: nobody wants to leave any more.
    world.restart(&right);
    cycle(&world).await;
    let holds = world.store.read(move |tx| tx.current_holds(now)).await.unwrap();
    assert_eq!((members(&world), holds), (8, Vec::new()));

    // Meant, it is approved.
    world.restart(&wrong);
    cycle(&world).await;
    let now = world.doors.clock.now();
    let hold = world.store.read(move |tx| tx.current_holds(now)).await.unwrap().remove(0);
    world.store.write(move |tx| approve_in(tx, hold.id, now)).await.unwrap();
    cycle(&world).await;
    assert_eq!(members(&world), 0);
    is_quiet(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_condition_that_cannot_be_told_writes_nothing_and_takes_nobody_off() {
    let filter =
        "  filter: {intercom_to_brevo: \"record.custom_attributes.plan | upper == 'PRO'\"}\n  on_unmatch: unlist\n";
    let (world, ids) = world(filter).await;
    let users = world.brevo.list_id("Users").unwrap();
    world.intercom.edit_contact(&ids[0], &json!({"name": "Other", "custom_attributes": {"plan": null}})).unwrap();
    cycle(&world).await;
    let there = world.brevo.contact_by_email(JANE).unwrap();
    let listed = world.store.read(|tx| tx.failures(10)).await.unwrap();
    // (`none | upper` is text to MiniJinja, or it is not: either way nothing else happens.)
    if !listed.is_empty() {
        assert_eq!(listed[0].field, "contacts.filter.intercom_to_brevo");
        assert!(there.list_ids.contains(&users));
    }
    assert_eq!(there.attributes["FULLNAME"], "Jane");
    is_quiet(&world).await;
}

#[tokio::test(start_paused = true)]
async fn the_other_direction_has_a_filter_of_its_own() {
    let (world, ids) = world("  filter: {brevo_to_intercom: \"record.PLAN == 'pro' and record.EMAIL\"}\n").await;
    for email in [JANE, JOE] {
        world.brevo.edit_attributes(email, &[("FULLNAME", json!("Edited"))]);
    }
    cycle(&world).await;
    let name = |id: &str| world.intercom.contact(id).unwrap()["name"].clone();
    assert_eq!((name(&ids[0]), name(&ids[1])), (json!("Edited"), json!("Jane")));
    // Opt-outs travel all the same.
    world.brevo.unsubscribe(JOE);
    cycle(&world).await;
    assert_eq!(world.intercom.contact(&ids[1]).unwrap()["unsubscribed_from_emails"], true);
    is_quiet(&world).await;
}

#[tokio::test(start_paused = true)]
async fn consent_is_made_one_at_the_first_link_whoever_takes_part() {
    let world = World::new(&config(PRO));
    world.intercom.define_attribute("contact", "plan", "string", &[]).unwrap();
    let joe = world.intercom.create_contact(user(JOE, "free"));
    let jane = world.intercom.create_contact(user(JANE, "free"));
    world.intercom.unsubscribe(&joe).unwrap();
    for (email, out) in [(JOE, false), (JANE, true)] {
        let (email, email_blacklisted) = (Some(email.to_owned()), out);
        world.brevo.create_contact(BrevoSeed { email, email_blacklisted, ..BrevoSeed::default() });
    }
    minutes(10).await;
    world.sync().await;
    cycle(&world).await;
    let there = world.brevo.contact_by_email(JOE).unwrap();
    assert!(there.email_blacklisted && there.attributes.is_empty(), "{there:?}");
    assert_eq!(world.intercom.contact(&jane).unwrap()["unsubscribed_from_emails"], true);
    is_quiet(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_contact_that_somebody_makes_for_one_who_is_left_out_is_theirs_all_the_same() {
    for out_in_brevo in [true, false] {
        let (world, ids) = world(PRO).await;
        if !out_in_brevo {
            world.intercom.unsubscribe(&ids[1]).unwrap();
        }
        world.brevo.create_contact(BrevoSeed {
            email: Some(JOE.to_owned()),
            email_blacklisted: out_in_brevo,
            ..BrevoSeed::default()
        });
        cycle(&world).await;
        assert_eq!(world.intercom.contact(&ids[1]).unwrap()["unsubscribed_from_emails"], json!(true));
        assert!(world.brevo.contact_by_email(JOE).unwrap().email_blacklisted, "opt-outs travel for everybody");
        assert_eq!(world.attribute(JOE, "FULLNAME"), None, "and nothing else does");
        is_quiet(&world).await;
    }
}

/// Ann was deleted in Intercom, and her Brevo contact is given the address of Joe by hand, which lifts a blocklisting. He has
/// none, for the filter leaves him out.
#[tokio::test(start_paused = true)]
async fn an_opt_out_stays_with_a_contact_that_becomes_somebodys_whom_the_filter_leaves_out() {
    for who_is_out in ["joe", "ann", "ann, afterwards", "ann, and in again", "nobody"] {
        let (world, ids) = world(PRO).await;
        let out = |world: &World| world.brevo.unsubscribe(JANE);
        let again = async |world: &World| {
            for _ in 0..2 {
                minutes(20).await;
                world.full().await;
            }
        };
        match who_is_out {
            "joe" => world.intercom.unsubscribe(&ids[1]).unwrap(),
            "ann" => assert!(out(&world)),
            _ => {}
        }
        again(&world).await;
        world.intercom.delete(&ids[0]).unwrap();
        again(&world).await;
        if who_is_out.starts_with("ann,") {
            assert!(out(&world));
            again(&world).await;
        }
        if who_is_out == "ann, and in again" {
            assert!(world.brevo.resubscribe(JANE));
            again(&world).await;
        }
        let contact = world.brevo.contact_by_email(JANE).unwrap().id;
        assert!(world.brevo.change_email(JANE, JOE));
        again(&world).await;
        let there = world.brevo.contact(contact).unwrap();
        let expected = !["nobody", "ann, and in again"].contains(&who_is_out);
        assert_eq!(there.email_blacklisted, expected, "{who_is_out}");
        is_quiet(&world).await;
    }
}
