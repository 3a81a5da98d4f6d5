//! Imports that Brevo does not answer, or does not finish.

use crate::crashes::CrashAt;
use crate::harness::World;
use linkspan::engine::{Progress, Stage, Summary, SyncOptions};
use linkspan::sandbox::Fault;
use linkspan::sandbox::intercom::ContactSeed;
use serde_json::json;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const CONFIG: &str = "
field_mapping: {email: email, name: FULLNAME}
limits: {brevo: {import_threshold: 5}}
";

const PEOPLE: usize = 8;

#[derive(Default)]
struct Seen(Mutex<Vec<Stage>>);

impl Progress for Seen {
    fn stage(&self, stage: Stage, _done: u64, _total: Option<u64>) {
        self.0.lock().unwrap().push(stage);
    }
}

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

async fn people(world: &World) -> Vec<String> {
    let ids = (0..PEOPLE)
        .map(|n| {
            let (email, name) = (Some(format!("p{n}@x.example")), Some("Ann".to_owned()));
            world.intercom.create_contact(ContactSeed { email, name, ..ContactSeed::default() })
        })
        .collect();
    pass(60).await;
    ids
}

async fn notices(world: &World) -> Vec<(String, String, Option<String>)> {
    world.store.read(|tx| tx.notices(Some("import_never_ended"), 10)).await.unwrap()
}

async fn rename_all(world: &World, ids: &[String], name: &str) {
    for id in ids {
        world.intercom.edit_contact(id, &json!({"name": name})).unwrap();
    }
    pass(200).await;
}

#[tokio::test(start_paused = true)]
async fn a_sync_says_what_it_waits_for_after_a_crash_and_until_when() {
    let crash = Arc::new(CrashAt::default());
    let mut world = World::with_crashes(CONFIG, crash.clone());
    people(&world).await;
    crash.arm("after_import_sent", 1);
    let connection = world.connection.clone();
    #[expect(clippy::disallowed_methods, reason = "the run is awaited; a task is what a crash can unwind")]
    let run = tokio::spawn(async move { connection.sync(&SyncOptions::default(), &Seen::default()).await.map(drop) });
    assert!(run.await.unwrap_err().is_panic() && crash.fired.load(Ordering::SeqCst));
    world.restart(CONFIG);
    let seen = Seen::default();
    let began = world.doors.clock.now();
    world.connection.sync(&SyncOptions::default(), &seen).await.unwrap();
    let took = (world.doors.clock.now() - began).num_seconds();
    assert!((150..300).contains(&took), "{took} s");
    let untils: Vec<_> = seen
        .0
        .lock()
        .unwrap()
        .iter()
        .filter_map(|stage| match stage {
            Stage::AwaitingLanding(until) => Some(*until),
            _ => None,
        })
        .collect();
    let first = *untils.first().expect("it is said");
    assert!(untils.iter().all(|until| *until == first));
    assert!((first - began).num_seconds() >= 150 && first < world.doors.clock.now());
}

/// A request that never left is no refusal of what it was to set.
#[tokio::test(start_paused = true)]
async fn an_update_import_that_never_left_is_sent_again() {
    let crash = Arc::new(CrashAt::default());
    let mut world = World::with_crashes(CONFIG, crash.clone());
    let ids = people(&world).await;
    world.sync().await;
    rename_all(&world, &ids, "Bo").await;
    crash.arm("after_import_intent", 1);
    let connection = world.connection.clone();
    #[expect(clippy::disallowed_methods, reason = "the run is awaited; a task is what a crash can unwind")]
    let run = tokio::spawn(async move { connection.sync(&SyncOptions::default(), &Seen::default()).await.map(drop) });
    assert!(run.await.unwrap_err().is_panic() && crash.fired.load(Ordering::SeqCst));
    world.restart(CONFIG);
    world.sync().await;
    pass(200).await;
    let summary = world.sync().await;
    for n in 0..PEOPLE {
        assert_eq!(world.attribute(&format!("p{n}@x.example"), "FULLNAME"), Some(json!("Bo")), "{summary:?}");
    }
    assert_eq!(summary.failed, 0);
}

/// What is cleared while nobody knows whether a row has landed is cleared, though the row never did.
#[tokio::test(start_paused = true)]
async fn a_clear_while_an_import_may_have_left_is_a_clear() {
    let config = "
field_mapping: {email: email, custom_attributes.plan: {to: PLAN, on_clear: propagate, on_drift: leave}}
limits: {brevo: {import_threshold: 5}}
";
    let crash = Arc::new(CrashAt::default());
    let mut world = World::with_crashes(config, crash.clone());
    world.intercom.define_attribute("contact", "plan", "string", &[]).unwrap();
    let ids = people(&world).await;
    let plan_all = async |plan: serde_json::Value| {
        for id in &ids {
            world.intercom.edit_contact(id, &json!({"custom_attributes": {"plan": plan}})).unwrap();
        }
        pass(200).await;
    };
    plan_all(json!("pro")).await;
    world.sync().await;
    assert_eq!(world.attribute("p0@x.example", "PLAN"), Some(json!("pro")));
    plan_all(json!("free")).await;
    crash.arm("after_import_intent", 1);
    let connection = world.connection.clone();
    #[expect(clippy::disallowed_methods, reason = "the run is awaited; a task is what a crash can unwind")]
    let run = tokio::spawn(async move { connection.sync(&SyncOptions::default(), &Seen::default()).await.map(drop) });
    assert!(run.await.unwrap_err().is_panic() && crash.fired.load(Ordering::SeqCst));
    plan_all(json!(null)).await;
    world.restart(config);
    for _ in 0..2 {
        world.sync().await;
        pass(200).await;
    }
    for n in 0..PEOPLE {
        let plan = world.attribute(&format!("p{n}@x.example"), "PLAN").filter(|plan| *plan != json!(""));
        assert_eq!(plan, None, "{n}");
    }
}

/// Everybody's row leaves by import, whose answer is lost in a crash, and which Brevo queues for ten minutes. Meanwhile the
/// first is given another address. Back comes the world half an hour after the row could have landed.
async fn moved_while_a_row_may_land(linked: bool) -> World {
    let crash = Arc::new(CrashAt::default());
    let mut world = World::with_crashes(CONFIG, crash.clone());
    let ids = people(&world).await;
    if linked {
        world.sync().await;
        rename_all(&world, &ids, "Bo").await;
    }
    world.brevo.imports_take(Duration::from_secs(600));
    crash.arm("after_import_sent", 1);
    let connection = world.connection.clone();
    #[expect(clippy::disallowed_methods, reason = "the run is awaited; a task is what a crash can unwind")]
    let run = tokio::spawn(async move { connection.sync(&SyncOptions::default(), &Seen::default()).await.map(drop) });
    assert!(run.await.unwrap_err().is_panic() && crash.fired.load(Ordering::SeqCst));
    world.restart(CONFIG);
    world.intercom.set_email(&ids[0], Some("moved@x.example")).unwrap();
    if linked {
        world.intercom.unsubscribe(&ids[0]).unwrap();
    }
    pass(60).await;
    world.sync().await;
    pass(120).await;
    world.sync().await;
    assert!(world.brevo.contact_by_email("moved@x.example").is_none(), "it waits");
    if linked {
        assert!(world.brevo.contact_by_email("p0@x.example").unwrap().email_blacklisted, "an opt-out does not");
    }
    pass(45 * 60).await;
    world.sync().await;
    world.sync().await;
    world
}

#[tokio::test(start_paused = true)]
async fn nobody_is_renamed_while_a_row_may_land_that_would_make_another_contact() {
    let world = moved_while_a_row_may_land(true).await;
    assert_eq!(world.brevo.contact_count(), PEOPLE);
    let moved = world.brevo.contact_by_email("moved@x.example").unwrap();
    assert!(moved.email_blacklisted);
    assert_eq!(world.attribute("moved@x.example", "FULLNAME"), Some(json!("Bo")));
}

#[tokio::test(start_paused = true)]
async fn nobody_is_made_under_another_address_than_that_of_a_row_that_may_land() {
    let world = moved_while_a_row_may_land(false).await;
    assert_eq!(world.brevo.contact_count(), PEOPLE);
    assert_eq!(world.attribute("moved@x.example", "FULLNAME"), Some(json!("Ann")));
}

/// That we are not let in says nothing about the rows: they may go by import again.
#[tokio::test(start_paused = true)]
async fn an_import_that_the_key_did_not_open_is_sent_again_as_an_import() {
    let world = World::new(CONFIG);
    world.sync().await;
    people(&world).await;
    world.brevo.fail("/contacts/import", Fault::Status(401, None));
    assert!(world.connection.sync(&SyncOptions::default(), &Seen::default()).await.is_err());
    pass(200).await;
    let summary = world.sync().await;
    assert_eq!((summary.written.imported, summary.written.created), (PEOPLE as u64, 0));
}

#[tokio::test(start_paused = true)]
async fn an_import_that_brevo_never_finishes_is_given_up_and_its_people_are_written_singly() {
    let world = World::new(CONFIG);
    people(&world).await;
    world.brevo.imports_take(Duration::from_secs(3 * 60 * 60));
    let seen = Seen::default();
    let began = world.doors.clock.now();
    let summary = world.connection.sync(&SyncOptions::default(), &seen).await.unwrap();
    let took = (world.doors.clock.now() - began).num_minutes();
    assert!((30..40).contains(&took), "{took} minutes");
    assert_eq!((summary.written.imported, summary.written.created), (PEOPLE as u64, PEOPLE as u64));
    assert_eq!(world.brevo.contact_count(), PEOPLE);
    let told = notices(&world).await;
    assert!(told.len() == 1 && told[0].2.as_ref().unwrap().contains("8 of 8 rows"), "{told:?}");
    let awaited = seen.0.lock().unwrap().iter().any(|stage| matches!(stage, Stage::AwaitingImport(_)));
    assert!(awaited, "it is said");

    // It lands after all, and changes nothing; the next import ends, and the notice with it.
    pass(4 * 60 * 60).await;
    world.brevo.imports_take(Duration::from_secs(5));
    let before = world.brevo_writes();
    world.full().await;
    assert_eq!((world.brevo.contact_count(), world.brevo_writes()), (PEOPLE, before));
    for n in 100..110 {
        let email = Some(format!("p{n}@x.example"));
        world.intercom.create_contact(ContactSeed { email, ..ContactSeed::default() });
    }
    pass(60).await;
    world.sync().await;
    assert_eq!(notices(&world).await, []);
}

#[tokio::test(start_paused = true)]
async fn imports_that_end_one_after_the_other_are_not_given_up() {
    let world = World::new(CONFIG);
    people(&world).await;
    world.brevo.imports_take(Duration::from_secs(25 * 60));
    let summary = world.sync().await;
    assert_eq!((summary.written.imported, summary.written.created), (PEOPLE as u64, 0));
    assert_eq!(notices(&world).await, []);
}

/// Everybody is renamed, by an import that takes three hours and re-subscribes: it was given up, and they were written to
/// one by one.
async fn with_late_rows() -> (World, Vec<String>, Summary) {
    let world = World::new(CONFIG);
    let ids = people(&world).await;
    world.sync().await;
    pass(600).await;
    world.brevo.knobs(|knobs| knobs.import_resubscribes = true);
    world.brevo.imports_take(Duration::from_secs(3 * 60 * 60));
    rename_all(&world, &ids, "Bea").await;
    let summary = world.sync().await;
    (world, ids, summary)
}

/// What lands late must not put anybody back on the mailing, and what it overwrites is restored by the next sweep.
#[tokio::test(start_paused = true)]
async fn a_late_row_resubscribes_nobody_and_is_undone_by_the_sweep() {
    let (world, ids, summary) = with_late_rows().await;
    assert_eq!((summary.written.imported, summary.written.updated), (PEOPLE as u64, PEOPLE as u64));
    assert_eq!(world.attribute("p0@x.example", "FULLNAME").unwrap(), "Bea");
    assert_eq!(world.store.read(|tx| tx.counts()).await.unwrap().failed, 0, "nothing was refused");
    world.brevo.imports_take(Duration::from_secs(5));
    pass(600).await;
    world.intercom.unsubscribe(&ids[0]).unwrap();
    world.intercom.edit_contact(&ids[1], &json!({"name": "Cleo"})).unwrap();
    pass(200).await;
    world.sync().await;
    let out = || world.brevo.contact_by_email("p0@x.example").unwrap().email_blacklisted;
    assert!(out());
    pass(600).await;
    world.sync().await;

    pass(3 * 60 * 60).await;
    assert!(!out(), "the late row has lifted it");
    assert_eq!(world.attribute("p1@x.example", "FULLNAME").unwrap(), "Bea");
    world.full().await;
    assert!(out(), "and it is put back");
    assert_eq!(world.attribute("p1@x.example", "FULLNAME").unwrap(), "Cleo");
}

/// The row lands on the contact of the address, whosever that is by then.
#[tokio::test(start_paused = true)]
async fn a_late_row_resubscribes_nobody_who_has_taken_over_the_address() {
    let (world, ids, _) = with_late_rows().await;
    world.brevo.imports_take(Duration::from_secs(5));
    pass(600).await;
    // The first has one row that is late; whoever comes to the address has one too, unless it is somebody new.
    let (email, name) = (Some("new@x.example".to_owned()), Some("Bea".to_owned()));
    let newcomer = world.intercom.create_contact(ContactSeed { email, name, ..ContactSeed::default() });
    pass(200).await;
    world.sync().await;
    pass(600).await;
    world.intercom.set_email(&ids[0], Some("new@x.example")).unwrap();
    world.intercom.set_email(&newcomer, Some("p0@x.example")).unwrap();
    pass(200).await;
    world.sync().await;
    pass(600).await;
    world.sync().await;
    world.intercom.unsubscribe(&newcomer).unwrap();
    pass(200).await;
    world.sync().await;
    let out = || world.brevo.contact_by_email("p0@x.example").unwrap().email_blacklisted;
    assert!(out());
    pass(600).await;
    world.sync().await;

    pass(3 * 60 * 60).await;
    assert!(!out(), "the late row has lifted it");
    world.full().await;
    assert!(out(), "and it is put back");
}
