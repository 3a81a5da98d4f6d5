//! Contacts that Brevo has and Intercom has not.

use crate::crashes::{CrashAt, run_to_the_end};
use crate::harness::{World, minutes};
use linkspan::doors::NoCrash;
use linkspan::sandbox::Fault;
use linkspan::sandbox::brevo::ContactSeed as BrevoSeed;
use linkspan::sandbox::intercom::ContactSeed;
use linkspan::store::carried::Carried;
use linkspan::store::newcomers::{Newcomer, Stage};
use serde_json::{Value as Json, json};
use std::sync::Arc;
use std::time::Duration;

const USERS: &str = "
contacts:
  create: {intercom: user}
field_mapping:
  name: {to: [FIRSTNAME, LASTNAME], transform: split_name, direction: both}
  phone: {to: SMS, direction: both}
  custom_attributes.plan: {to: PLAN, direction: both}
  tags:
    VIP: {list: Very important, direction: both}
phone:
  default_region: US
";

fn leads() -> String {
    USERS.replace("user", "lead")
}

fn ann(ext_id: Option<&str>) -> BrevoSeed {
    let mut attributes = std::collections::BTreeMap::from([
        ("FIRSTNAME".to_owned(), json!("Ann")),
        ("LASTNAME".to_owned(), json!("Lee")),
    ]);
    attributes.extend(ext_id.map(|id| ("EXT_ID".to_owned(), json!(id))));
    BrevoSeed { email: Some("ann@example.com".to_owned()), attributes, ..BrevoSeed::default() }
}

/// Everybody whom Intercom has with this address.
fn holders(world: &World, email: &str) -> Vec<Json> {
    let all = world.intercom.contact_ids();
    let shown = all.iter().filter_map(|id| world.intercom.contact(id));
    shown.filter(|contact| contact["email"].as_str().is_some_and(|shown| shown.eq_ignore_ascii_case(email))).collect()
}

fn only(world: &World, email: &str) -> Json {
    let mut all = holders(world, email);
    assert_eq!(all.len(), 1, "{email}");
    all.remove(0)
}

async fn notices(world: &World, kind: &'static str) -> Vec<String> {
    let all = world.store.read(move |tx| tx.notices(Some(kind), 100)).await.unwrap();
    all.into_iter().map(|(_, subject, _)| subject).collect()
}

#[tokio::test(start_paused = true)]
async fn who_is_missing_in_intercom_is_made_there_once_the_index_has_caught_up() {
    for (yaml, role) in [(USERS.to_owned(), "user"), (leads(), "lead")] {
        let world = World::new(&yaml);
        let vip = world.brevo.create_list("Very important");
        let seed = BrevoSeed { list_ids: [vip].into(), ..ann(Some("a1")) };
        world.brevo.create_contact(seed);
        let dry = world.before_the_first().await;
        assert_eq!((dry.creates_in_intercom, dry.creates), (1, 0), "{dry:#?}");
        assert_eq!(dry.fields_in_intercom.keys().collect::<Vec<_>>(), ["name"]);
        let summary = world.sync().await;
        assert_eq!(summary.written.created_in_intercom, 0, "it may only be missing from the search");
        assert_eq!(holders(&world, "ann@example.com").len(), 0);
        minutes(6).await;
        let summary = world.sync().await;
        assert_eq!((summary.written.created_in_intercom, summary.written.failed), (1, 0), "{summary:?}");
        let made = only(&world, "ann@example.com");
        assert_eq!((&made["role"], &made["name"]), (&json!(role), &json!("Ann Lee")));
        assert_eq!(made["external_id"], json!("a1"), "added by a request of its own");
        let id = made["id"].as_str().unwrap();
        let bodies: Vec<Json> =
            world.intercom.log().writes().iter().filter_map(|write| serde_json::from_slice(&write.body).ok()).collect();
        assert_eq!(bodies[1]["email"], "ann@example.com", "{bodies:?}");
        assert!(bodies[1].get("external_id").is_none(), "with a new one Intercom would make a second user");
        world.is_quiet().await;
        assert_eq!(world.intercom.contact_tags(id), ["VIP"]);
        assert_eq!(world.brevo.contact_count(), 1, "what came back was not made again in Brevo");
        // And it is an ordinary person from then on.
        assert!(world.brevo.edit_attributes("ann@example.com", &[("FIRSTNAME", json!("Anna"))]));
        minutes(10).await;
        world.sync().await;
        assert_eq!(only(&world, "ann@example.com")["name"], json!("Anna Lee"));
        world.is_quiet().await;
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_is_made_in_intercom_unless_asked() {
    let world = World::new(&USERS.replace("intercom: user", "intercom: never"));
    world.brevo.create_contact(ann(None));
    for _ in 0..3 {
        minutes(10).await;
        world.sync().await;
    }
    assert_eq!(world.intercom.contact_ids().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_was_there_before_is_made_when_it_is_asked_for_later() {
    let mut world = World::new(&USERS.replace("intercom: user", "intercom: never"));
    world.brevo.create_contact(ann(None));
    world.sync().await;
    world.restart(USERS);
    world.sync().await;
    minutes(6).await;
    world.sync().await;
    only(&world, "ann@example.com");
    world.is_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn an_opt_out_rides_in_the_request_that_makes_the_contact() {
    let world = World::new(USERS);
    world.brevo.create_contact(BrevoSeed { email_blacklisted: true, ..ann(None) });
    world.sync().await;
    minutes(6).await;
    world.sync().await;
    assert_eq!(only(&world, "ann@example.com")["unsubscribed_from_emails"], json!(true));
    assert_eq!(
        world.intercom.log().writes().iter().filter(|write| write.method == "POST").count(),
        2,
        "an attribute, and her"
    );
    world.is_quiet().await;
    assert!(world.brevo.contact_by_email("ann@example.com").unwrap().email_blacklisted);
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_makes_no_second_contact() {
    for yaml in [USERS.to_owned(), leads()] {
        for fault in
            [Fault::StatusAfterEffect(502), Fault::StatusAfterEffect(503), Fault::Truncated, Fault::Status(502, None)]
        {
            // The search does not show for long what was made.
            let world = World::with_lag(&yaml, Arc::new(NoCrash), Duration::from_secs(290));
            world.brevo.create_contact(ann(Some("a1")));
            world.sync().await;
            minutes(6).await;
            for _ in 0..5 {
                world.intercom.fail("POST /contacts ", fault.clone());
            }
            world.sync().await;
            world.intercom.knobs(|knobs| knobs.faults.clear());
            for _ in 0..20 {
                minutes(1).await;
                world.sync().await;
            }
            let made = only(&world, "ann@example.com");
            assert_eq!((&made["name"], &made["external_id"]), (&json!("Ann Lee"), &json!("a1")), "{fault:?}");
            assert_eq!(world.brevo.contact_count(), 1);
            world.is_quiet().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_power_cut_anywhere_makes_no_second_contact() {
    for place in ["after_newcomer_intent", "after_newcomer_sent", "after_page"] {
        let crash = Arc::new(CrashAt::default());
        let mut world = World::with_lag(&leads(), crash.clone(), Duration::from_secs(290));
        world.brevo.create_contact(ann(Some("a1")));
        world.sync().await;
        minutes(6).await;
        crash.arm(place, 1);
        run_to_the_end(&mut world, &crash).await;
        for _ in 0..20 {
            minutes(2).await;
            world.sync().await;
        }
        let made = only(&world, "ann@example.com");
        assert_eq!(made["external_id"], json!("a1"), "{place}");
        assert_eq!(world.brevo.contact_count(), 1, "{place}");
        world.is_quiet().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_made_without_an_answer_is_hers_though_her_address_has_changed_since() {
    let world = World::with_lag(&leads(), Arc::new(NoCrash), Duration::from_secs(290));
    world.brevo.create_contact(ann(None));
    world.sync().await;
    minutes(6).await;
    for _ in 0..5 {
        world.intercom.fail("POST /contacts ", Fault::StatusAfterEffect(502));
    }
    world.sync().await;
    world.intercom.knobs(|knobs| knobs.faults.clear());
    assert!(world.brevo.change_email("ann@example.com", "ann.lee@example.com"));
    for _ in 0..20 {
        minutes(2).await;
        world.sync().await;
    }
    assert_eq!(world.intercom.contact_ids().len(), 1, "nobody was made for her new address");
    assert_eq!(world.brevo.contact_count(), 1, "nor for her old one");
    world.is_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn whom_the_search_does_not_show_yet_is_linked_when_the_request_runs_into_them() {
    let world = World::with_lag(USERS, Arc::new(NoCrash), Duration::from_secs(3600));
    world.sync().await;
    world.brevo.create_contact(ann(None));
    // Intercom has her, and neither reads nor searches show her for an hour.
    let id = world.intercom.create_contact(ContactSeed {
        email: Some("ann@example.com".to_owned()),
        phone: Some("+12025550101".to_owned()),
        ..ContactSeed::default()
    });
    world.sync().await;
    minutes(6).await;
    let summary = world.sync().await;
    assert_eq!(summary.written.created_in_intercom, 0);
    minutes(6).await;
    world.sync().await;
    let ann = only(&world, "ann@example.com");
    assert_eq!((&ann["id"], &ann["name"]), (&json!(id), &json!("Ann Lee")));
    assert_eq!(world.attribute("ann@example.com", "SMS"), Some(json!("12025550101")));
    world.is_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn a_contact_that_is_somebody_elses_is_not_hers_because_it_has_her_external_id() {
    let world = World::new(USERS);
    let bob = world.intercom.create_contact(ContactSeed {
        email: Some("bob@example.com".to_owned()),
        external_id: Some("a1".to_owned()),
        ..ContactSeed::default()
    });
    let seed = BrevoSeed { email: Some("bob@example.com".to_owned()), ..BrevoSeed::default() };
    world.brevo.create_contact(seed);
    minutes(1).await;
    world.sync().await;
    world.brevo.create_contact(ann(Some("a1")));
    for _ in 0..6 {
        minutes(10).await;
        world.sync().await;
    }
    assert_eq!(world.intercom.contact_ids(), [bob]);
    assert_eq!(notices(&world, "identity_conflict").await.len(), 1, "it is listed");
    world.is_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn contacts_made_in_intercom_are_counted_and_held() {
    let world = World::new(&format!("{USERS}safety: {{max_creates: 2}}\n"));
    for number in 0..5 {
        let email = Some(format!("p{number}@example.com"));
        world.brevo.create_contact(BrevoSeed { email, ..BrevoSeed::default() });
    }
    let dry = world.before_the_first().await;
    assert_eq!((dry.creates_in_intercom, dry.would_hold.len()), (5, 1), "{:?}", dry.would_hold);
    world.sync().await;
    minutes(6).await;
    let summary = world.sync().await;
    assert_eq!(summary.written.created_in_intercom, 2);
    assert_eq!((summary.held.len(), summary.held[0].wanted), (1, 3), "{:?}", summary.held);
    minutes(180).await;
    assert_eq!(world.sync().await.written.created_in_intercom, 0, "time alone lets nobody go");
    let (id, now) = (summary.held[0].id, world.doors.clock.now());
    world.store.write(move |tx| linkspan::engine::approve_in(tx, id, now)).await.unwrap();
    assert_eq!(world.sync().await.written.created_in_intercom, 3);
    assert_eq!(world.intercom.contact_ids().len(), 5);
    world.is_quiet().await;
}

/// So many people whom only Brevo knows.
fn crowd(world: &World, who: &str, count: usize) {
    for number in 0..count {
        let email = Some(format!("{who}{number}@example.com"));
        world.brevo.create_contact(BrevoSeed { email, ..BrevoSeed::default() });
    }
}

#[tokio::test(start_paused = true)]
async fn an_empty_intercom_is_filled_whatever_share_that_is_and_one_in_use_is_not() {
    // Without a share to speak of, five hundred a day may be made.
    for in_use in [false, true] {
        let world = World::new(&format!("{USERS}safety: {{max_share: 0.01}}\n"));
        if in_use {
            let seed = ContactSeed { email: Some("ann@example.com".to_owned()), ..ContactSeed::default() };
            world.intercom.create_contact(seed);
            minutes(20).await;
        }
        crowd(&world, "p", 620);
        let dry = world.before_the_first().await;
        assert_eq!(dry.would_hold.len(), usize::from(in_use), "{:?}", dry.would_hold);
        world.sync().await;
        minutes(6).await;
        let summary = world.sync().await;
        let (made, held) = if in_use { (500, 1) } else { (620, 0) };
        assert_eq!((summary.written.created_in_intercom, summary.held.len()), (made, held), "{:?}", summary.held);
        if in_use {
            continue;
        }
        // That was the first fill: whoever comes after it is counted like anybody, and the fill is not held against them.
        minutes(30).await;
        world.sync().await;
        crowd(&world, "q", 510);
        minutes(30).await;
        world.sync().await;
        minutes(6).await;
        let summary = world.sync().await;
        assert_eq!(world.intercom.contact_ids().len(), 620 + 500, "{:?}", summary.held);
        assert_eq!((summary.held.len(), summary.held[0].wanted), (1, 10), "{:?}", summary.held);
    }
}

#[tokio::test(start_paused = true)]
async fn who_comes_to_brevo_while_intercom_is_being_filled_counts_like_anybody() {
    let world = World::new(&format!("{USERS}safety: {{max_share: 0.01}}\n"));
    crowd(&world, "p", 1);
    world.sync().await;
    minutes(6).await;
    world.intercom.fail("POST /contacts ", Fault::Status(403, None));
    world.sync().await;
    assert!(world.intercom.contact_ids().is_empty(), "the fill has begun, and is not over");
    crowd(&world, "q", 510);
    let mut held = Vec::new();
    for _ in 0..6 {
        minutes(20).await;
        held = world.sync().await.held;
    }
    assert_eq!((world.intercom.contact_ids().len(), held.len()), (1 + 500, 1), "{held:?}");
}

/// Ann has been archived in Intercom, before anybody looked.
fn archived(world: &World) -> String {
    let seed = ContactSeed { email: Some("ann@example.com".to_owned()), ..ContactSeed::default() };
    let id = world.intercom.create_contact(seed);
    world.intercom.archive(&id).unwrap();
    world.brevo.create_contact(ann(None));
    id
}

async fn some_cycles(world: &World) {
    for _ in 0..5 {
        minutes(10).await;
        world.sync().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_archived_match_is_linked_and_left_archived() {
    let world = World::new(USERS);
    let id = archived(&world);
    some_cycles(&world).await;
    assert_eq!(world.intercom.contact_ids().len(), 0);
    assert_eq!(notices(&world, "archived_in_intercom").await, [format!("contact {id}")]);
    world.is_quiet().await;
    // Brought back by somebody, it is hers.
    world.intercom.unarchive(&id).unwrap();
    minutes(10).await;
    world.full().await;
    assert_eq!(only(&world, "ann@example.com")["name"], json!("Ann Lee"));
    assert_eq!(notices(&world, "archived_in_intercom").await, [""; 0]);
    assert_eq!(world.brevo.contact_count(), 1);
    world.is_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn an_archived_match_is_brought_back_if_asked() {
    let world = World::new(&USERS.replace("contacts:", "contacts:\n  archived: unarchive"));
    let id = archived(&world);
    some_cycles(&world).await;
    let back = only(&world, "ann@example.com");
    assert_eq!((&back["id"], &back["name"]), (&json!(id), &json!("Ann Lee")));
    world.is_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn an_archived_match_that_cannot_be_brought_back_is_listed() {
    let world = World::new(&USERS.replace("contacts:", "contacts:\n  archived: unarchive"));
    let id = archived(&world);
    world.intercom.unarchive(&id).unwrap();
    world.intercom.delete(&id).unwrap();
    some_cycles(&world).await;
    assert_eq!(world.intercom.contact_ids().len(), 0);
    assert_eq!(notices(&world, "archived_in_intercom").await.len(), 1);
    world.is_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn an_archived_match_is_left_alone_and_listed_if_asked() {
    let world = World::new(&USERS.replace("contacts:", "contacts:\n  archived: skip"));
    archived(&world);
    some_cycles(&world).await;
    assert_eq!(world.intercom.contact_ids().len(), 0);
    assert_eq!(notices(&world, "archived_in_intercom").await.len(), 1);
    world.is_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn who_was_deleted_in_intercom_is_not_made_there_again() {
    let world = World::new(USERS);
    let id = world.intercom.create_contact(ContactSeed {
        email: Some("ann@example.com".to_owned()),
        name: Some("Ann Lee".to_owned()),
        ..ContactSeed::default()
    });
    minutes(10).await;
    world.sync().await;
    assert_eq!(world.brevo.contact_count(), 1);
    world.intercom.delete(&id).unwrap();
    for _ in 0..6 {
        minutes(10).await;
        world.full().await;
        assert!(world.brevo.edit_attributes("ann@example.com", &[("PLAN", json!("pro"))]));
    }
    assert_eq!(world.intercom.contact_ids().len(), 0);
    assert_eq!(world.brevo.contact_count(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_at_fault_is_left_out_and_the_contact_made_all_the_same() {
    let world = World::new(USERS);
    world.brevo.create_contact(ann(None));
    world.sync().await;
    minutes(6).await;
    world.intercom.fail("POST /contacts ", Fault::Status(400, None));
    world.sync().await;
    assert_eq!(only(&world, "ann@example.com")["email"], json!("ann@example.com"));
    world.is_quiet().await;
    assert_eq!(only(&world, "ann@example.com")["name"], json!("Ann Lee"), "by the write that follows");
}

#[tokio::test(start_paused = true)]
async fn where_brevo_only_updates_nobody_is_made_there_and_who_comes_is_linked() {
    let yaml = "contacts: {create: {brevo: never}}\nfield_mapping: {name: FIRSTNAME}\n";
    let world = World::new(yaml);
    let seed = ContactSeed {
        email: Some("ann@example.com".to_owned()),
        name: Some("Ann Lee".to_owned()),
        ..ContactSeed::default()
    };
    world.intercom.create_contact(seed);
    minutes(10).await;
    assert_eq!(world.before_the_first().await.creates, 0);
    world.sync().await;
    world.full().await;
    assert_eq!(world.brevo.contact_count(), 0);
    world.brevo.create_contact(BrevoSeed { email: Some("ann@example.com".to_owned()), ..BrevoSeed::default() });
    minutes(10).await;
    world.sync().await;
    assert_eq!(world.attribute("ann@example.com", "FIRSTNAME"), Some(json!("Ann Lee")));
    world.is_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn where_brevo_only_gains_contacts_those_it_has_stay_as_they_are_but_for_opt_outs() {
    let yaml = "contacts: {update: {brevo: never}}\nfield_mapping: {name: FIRSTNAME}\n";
    let world = World::new(yaml);
    let contact = |email: &str| ContactSeed {
        email: Some(email.to_owned()),
        name: Some("Ann Lee".to_owned()),
        ..ContactSeed::default()
    };
    let known = world.intercom.create_contact(contact("ann@example.com"));
    world.intercom.create_contact(contact("bob@example.com"));
    world.brevo.create_contact(BrevoSeed { email: Some("ann@example.com".to_owned()), ..BrevoSeed::default() });
    minutes(10).await;
    world.sync().await;
    assert_eq!(world.attribute("bob@example.com", "FIRSTNAME"), Some(json!("Ann Lee")), "made with all that it has");
    assert_eq!(world.attribute("ann@example.com", "FIRSTNAME"), None);
    world.intercom.unsubscribe(&known).unwrap();
    minutes(20).await;
    world.sync().await;
    assert!(world.brevo.contact_by_email("ann@example.com").unwrap().email_blacklisted);
    assert_eq!(world.attribute("ann@example.com", "FIRSTNAME"), None);
    world.is_quiet().await;
}

async fn cycles_after_a_lost_answer(world: &World, then: impl FnOnce()) {
    world.sync().await;
    minutes(6).await;
    for _ in 0..5 {
        world.intercom.fail("POST /contacts ", Fault::StatusAfterEffect(502));
    }
    world.sync().await;
    world.intercom.knobs(|knobs| knobs.faults.clear());
    then();
    for _ in 0..20 {
        minutes(2).await;
        world.sync().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_opt_out_that_rode_along_does_not_undo_a_later_opt_in() {
    let world = World::with_lag(USERS, Arc::new(NoCrash), Duration::from_secs(290));
    world.brevo.create_contact(BrevoSeed { email_blacklisted: true, ..ann(None) });
    cycles_after_a_lost_answer(&world, || assert!(world.brevo.resubscribe("ann@example.com"))).await;
    assert_eq!(only(&world, "ann@example.com")["unsubscribed_from_emails"], json!(true));
    assert!(!world.brevo.contact_by_email("ann@example.com").unwrap().email_blacklisted, "her own opt-in");
    world.is_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn an_address_given_while_the_answer_was_lost_is_followed() {
    let yaml = format!("connectors: {{intercom: {{direction: both}}}}\n{USERS}");
    let world = World::with_lag(&yaml, Arc::new(NoCrash), Duration::from_secs(290));
    world.brevo.create_contact(ann(None));
    let moves = || assert!(world.brevo.change_email("ann@example.com", "ann.lee@example.com"));
    cycles_after_a_lost_answer(&world, moves).await;
    only(&world, "ann.lee@example.com");
    assert!(world.brevo.contact_by_email("ann.lee@example.com").is_some());
    assert_eq!((world.intercom.contact_ids().len(), world.brevo.contact_count()), (1, 1));
    world.is_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn whom_a_request_may_have_made_is_looked_for_before_that_is_forgotten() {
    let world = World::new(USERS);
    let attributes = std::collections::BTreeMap::from([("SMS".to_owned(), json!("12025550101"))]);
    let brevo = world.brevo.create_contact(BrevoSeed { attributes, ..BrevoSeed::default() }).unwrap();
    world.sync().await;
    minutes(6).await;
    world.sync().await;
    let id = linkspan::model::BrevoContactId::new(brevo);
    let row = move |tx: &linkspan::store::Tx<'_>| {
        let row = Newcomer {
            brevo: id,
            stage: Stage::Unsure,
            due: chrono::DateTime::default(),
            email: Some(linkspan::model::Email::parse("ann@example.com").unwrap()),
            opted_out: false,
            ext_id: None,
            contact: None,
            tries: 0,
        };
        tx.put_newcomer_row(&row)
    };
    world.store.write(row).await.unwrap();
    world.sync().await;
    let asked =
        |request: &linkspan::sandbox::LoggedRequest| String::from_utf8_lossy(&request.body).contains("ann@example.com");
    assert!(world.intercom.log().all().iter().any(asked));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_names_nobody_is_listed_after_some_tries() {
    let world = World::new(USERS);
    world.brevo.create_contact(ann(None));
    world.sync().await;
    minutes(6).await;
    for _ in 0..50 {
        world.intercom.fail("POST /contacts ", Fault::Status(409, None));
    }
    some_cycles(&world).await;
    assert_eq!(notices(&world, "identity_conflict").await.len(), 1, "it is listed");
}

#[tokio::test(start_paused = true)]
async fn a_token_that_may_not_write_is_not_tried_for_each_of_them() {
    let world = World::new(USERS);
    for number in 0..100 {
        let email = Some(format!("p{number}@example.com"));
        world.brevo.create_contact(BrevoSeed { email, ..BrevoSeed::default() });
    }
    world.sync().await;
    minutes(6).await;
    for _ in 0..500 {
        world.intercom.fail("POST /contacts ", Fault::Status(403, None));
    }
    for _ in 0..3 {
        world.sync().await;
        minutes(1).await;
    }
    let creates = |request: &&linkspan::sandbox::LoggedRequest| request.target == "/contacts";
    let tried = world.intercom.log().writes().iter().filter(creates).count();
    assert!((1..=24).contains(&tried), "tried {tried} times");
}

#[tokio::test(start_paused = true)]
async fn an_archived_match_does_not_take_over_the_link_of_those_who_live() {
    let world = World::new(&USERS.replace("intercom: user", "intercom: user, brevo: never"));
    let seed = || ContactSeed {
        email: Some("bob@example.com".to_owned()),
        name: Some("Bob Roe".to_owned()),
        ..ContactSeed::default()
    };
    let user = world.intercom.create_contact(seed());
    world.intercom.create_contact(ContactSeed { lead: true, ..seed() });
    minutes(6).await;
    world.sync().await;
    // Nothing shows that it got her address before it was archived.
    world.intercom.set_email(&user, Some("ann@example.com")).unwrap();
    world.intercom.archive(&user).unwrap();
    world.brevo.create_contact(ann(None));
    some_cycles(&world).await;
    world.brevo.create_contact(BrevoSeed { email: Some("bob@example.com".to_owned()), ..BrevoSeed::default() });
    some_cycles(&world).await;
    assert_eq!(world.attribute("bob@example.com", "FIRSTNAME"), Some(json!("Bob")));
}

/// Bob, on both sides.
async fn with_bob(world: &World) -> (String, i64) {
    let email = Some("bob@example.com".to_owned());
    let id = world.intercom.create_contact(ContactSeed { email: email.clone(), ..ContactSeed::default() });
    let brevo = world.brevo.create_contact(BrevoSeed { email, ..BrevoSeed::default() });
    minutes(6).await;
    world.sync().await;
    (id, brevo.unwrap())
}

#[tokio::test(start_paused = true)]
async fn an_opt_out_does_not_wait_until_everybody_is_made() {
    let world = World::new(&format!("{USERS}safety: {{max_creates: 1000}}\n"));
    let (bob, brevo) = with_bob(&world).await;
    for number in 0..100 {
        let email = Some(format!("p{number}@example.com"));
        world.brevo.create_contact(BrevoSeed { email, ..BrevoSeed::default() });
    }
    world.sync().await;
    minutes(6).await;
    world.intercom.knobs(|knobs| knobs.latency = Duration::from_secs(1));
    let before = world.intercom.log().write_count();
    let opts_out = async {
        while world.intercom.log().write_count() == before {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        let (bob, now) = (linkspan::model::IntercomContactId::new(bob.clone()), world.doors.clock.now());
        let brevo = linkspan::model::BrevoContactId::new(brevo);
        let put = move |tx: &linkspan::store::Tx<'_>| {
            let link = tx.link_by_brevo(brevo)?.unwrap().id;
            tx.put_carried(&Carried { told: true, due: Some(now), ..Carried::new(bob, link, brevo) })
        };
        world.store.write(put).await.unwrap();
    };
    let (summary, ()) = tokio::join!(world.sync(), opts_out);
    assert_eq!(summary.written.created_in_intercom, 100);
    let writes = world.intercom.log().writes();
    let told = writes[before..].iter().position(|write| write.target.ends_with(&bob)).unwrap();
    assert!(told < 30, "after {told} others");
}

#[tokio::test(start_paused = true)]
async fn while_brevo_is_down_nobody_is_asked_for_in_vain() {
    let world = World::new(USERS);
    for number in 0..100 {
        let email = Some(format!("p{number}@example.com"));
        world.brevo.create_contact(BrevoSeed { email, ..BrevoSeed::default() });
    }
    world.sync().await;
    minutes(6).await;
    for _ in 0..2000 {
        world.brevo.fail("GET /v3/contacts/", Fault::Status(503, None));
    }
    let before = world.brevo.log().len();
    world.sync().await;
    let asked = world.brevo.log().len() - before;
    world.brevo.knobs(|knobs| knobs.common.faults.clear());
    assert!(asked < 60, "asked {asked} times");
    minutes(6).await;
    assert_eq!(world.sync().await.written.created_in_intercom, 100);
}

#[tokio::test(start_paused = true)]
async fn an_address_that_cannot_be_looked_for_is_listed_and_nobody_made() {
    let world = World::new(USERS);
    let id = world.brevo.create_contact(ann(Some("a1"))).unwrap();
    world.sync().await;
    minutes(6).await;
    let target = format!("/contacts/{id}");
    world.intercom.knobs(|knobs| knobs.latency = Duration::from_secs(1));
    world.brevo.knobs(|knobs| knobs.common.latency = Duration::from_secs(1));
    let before = world.brevo.log().len();
    // While she is looked for under her external id.
    let refuses = async {
        while !world.brevo.log().all()[before..].iter().any(|request| request.target.contains(&target)) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        world.intercom.fail("POST /contacts/search", Fault::Status(400, None));
    };
    tokio::join!(world.sync(), refuses);
    assert_eq!(notices(&world, "identity_conflict").await.len(), 1, "it is listed");
    assert_eq!(world.intercom.contact_ids().len(), 0);
}
