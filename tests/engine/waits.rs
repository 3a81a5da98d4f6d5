//! One record or one side in trouble, and all others that do not wait for it.

use crate::harness::{World, config};
use linkspan::engine::{Daemon, Progress, Silent, Stage, SyncOptions};
use linkspan::model::{BrevoContactId, Email};
use linkspan::sandbox::Fault;
use linkspan::sandbox::intercom::ContactSeed;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const CONFIG: &str = "
connectors:
  intercom:
    lists:
      all_users: Users
field_mapping:
  name: FIRSTNAME
  tags: INTERCOM_TAGS
";

async fn seconds(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

fn user(email: &str, name: &str) -> ContactSeed {
    ContactSeed { email: Some(email.to_owned()), name: Some(name.to_owned()), ..ContactSeed::default() }
}

#[tokio::test(start_paused = true)]
async fn somebody_whose_tags_cannot_be_read_holds_up_nobody() {
    let world = World::new(CONFIG);
    let jane = world.intercom.create_contact(user("jane@example.com", "Jane"));
    for n in 0..15 {
        world.intercom.tag(&jane, &format!("tag {n}")).unwrap();
    }
    world.intercom.create_contact(user("joe@example.com", "Joe"));
    seconds(600).await;
    world.intercom.knobs(|knobs| {
        for _ in 0..1_000 {
            knobs.faults.push_back((format!("/contacts/{jane}/tags"), Fault::Status(503, None)));
        }
    });
    let ended = world.connection.sync(&SyncOptions::default(), &Silent).await;
    assert!(ended.unwrap_err().to_string().contains("503"), "it is told at the end");
    assert!(world.brevo.contact_by_email("joe@example.com").is_some());
    assert!(world.brevo.contact_by_email("jane@example.com").is_none(), "not with half of her tags");
    world.intercom.knobs(|knobs| knobs.faults.clear());
    seconds(600).await;
    world.sync().await;
    assert!(world.brevo.contact_by_email("jane@example.com").is_some());
}

/// Rings when the run has come to placing people, after which it verifies.
#[derive(Default)]
struct Placing(AtomicBool);

impl Progress for Placing {
    fn stage(&self, stage: Stage, _: u64, _: Option<u64>) {
        self.0.fetch_or(stage == Stage::Placing, Ordering::SeqCst);
    }
}

/// The other loop gives a person another Brevo contact while the old one is asked for, which turns out to be gone.
#[tokio::test(start_paused = true)]
async fn what_was_read_of_another_contact_says_nothing() {
    let world = World::new(CONFIG);
    let stray = linkspan::sandbox::brevo::ContactSeed { email: Some("stray@example.com".into()), ..Default::default() };
    world.brevo.create_contact(stray).unwrap();
    let jane = world.intercom.create_contact(user("jane@example.com", "Jane"));
    seconds(600).await;
    world.sync().await;
    let id = |email| BrevoContactId::new(world.brevo.contact_by_email(email).unwrap().id);
    let (hers, other) = (id("jane@example.com"), id("stray@example.com"));
    seconds(600).await;
    world.intercom.edit_contact(&jane, &serde_json::json!({"name": "Joan"})).unwrap();
    for _ in 0..9 {
        world.brevo.fail(&format!("PUT /v3/contacts/{hers}"), Fault::Status(502, None));
    }
    world.sync().await;
    world.brevo.knobs(|knobs| knobs.common.faults.clear());
    assert_eq!(world.store.read(|tx| tx.counts()).await.unwrap().verifying, 1);
    seconds(300).await;
    world.brevo.delete("jane@example.com");
    world.brevo.knobs(|knobs| knobs.common.latency = Duration::from_secs(5));
    let placing = Placing::default();
    let options = SyncOptions::default();
    let (ended, ()) = tokio::join!(world.connection.sync(&options, &placing), async {
        while !placing.0.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        seconds(2).await;
        let email = Email::parse("jane@example.com").unwrap();
        world
            .store
            .write(move |tx| {
                let link = tx.link_by_email(&email)?.unwrap();
                assert_eq!((link.brevo_id, link.answered), (Some(hers), false), "it is being verified");
                tx.set_brevo(link.id, Some(other))
            })
            .await
            .unwrap();
    });
    ended.unwrap();
    let counts = world.store.read(|tx| tx.counts()).await.unwrap();
    assert_eq!(counts.notices.get("brevo_contact_gone"), None, "{:?}", counts.notices);
}

/// A read on schedule that Intercom does not let us make for ten minutes: the import that is on its way is settled all the
/// same, and the read goes on when it may.
#[tokio::test(start_paused = true)]
async fn an_import_is_settled_while_intercom_holds_us_back() {
    const SCHEDULED: &str = "
field_mapping: {name: FIRSTNAME}
schedule:
  contacts: {incremental: 60s, full: never}
  companies: {full: never}
  conversations: {incremental: never, full: never}
  brevo_contacts: {incremental: never, full: never}
limits: {brevo: {import_threshold: 5}}
";
    let world = World::new(SCHEDULED);
    for n in 0..8 {
        world.intercom.create_contact(user(&format!("p{n}@example.com"), "Ann"));
    }
    seconds(600).await;
    world.brevo.imports_take(Duration::from_secs(90));
    let daemon = Daemon::new(world.connection.clone(), config(SCHEDULED).schedule);
    let stop = CancellationToken::new();
    let ((), ended) = tokio::join!(
        async {
            seconds(20).await;
            assert!(world.brevo.log().writes().iter().any(|write| write.template == "/contacts/import"));
            world.intercom.knobs(|knobs| knobs.faults.push_back((String::new(), Fault::Status(429, Some(600)))));
            seconds(280).await;
            let held = world.intercom.log().all().iter().any(|read| read.status == 429);
            assert!(held, "the read was made, and is held back");
            let counts = world.store.read(|tx| tx.counts()).await.unwrap();
            assert_eq!((counts.contacts_synced, counts.pending), (8, 0), "{counts:?}");
            world.intercom.create_contact(user("late@example.com", "Late"));
            seconds(500).await;
            assert!(world.brevo.contact_by_email("late@example.com").is_some(), "the schedule goes on");
            stop.cancel();
        },
        daemon.run(stop.clone())
    );
    ended.unwrap();
}
