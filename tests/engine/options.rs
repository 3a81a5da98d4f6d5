//! Lists of options are replaced as a whole: one that lands late, or was made from an old look, takes options away.

use crate::crashes::CrashAt;
use crate::harness::World;
use linkspan::engine::{Silent, SyncOptions};
use linkspan::sandbox::Fault;
use linkspan::sandbox::intercom::ContactSeed;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

const CONFIG: &str = "
field_mapping:
  tags: {to: INTERCOM_TAGS, on_drift: leave}
";

const OPTIONS: &str = "/attributes/normal/INTERCOM_TAGS";

async fn seconds(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

fn user(email: &str) -> ContactSeed {
    ContactSeed { email: Some(email.to_owned()), ..ContactSeed::default() }
}

/// The lists of options that Brevo got, with the second in which each came.
fn lists(world: &World) -> Vec<Value> {
    let writes = world.brevo.log().writes();
    let puts = writes.iter().filter(|write| write.method == "PUT" && write.target.contains(OPTIONS));
    puts.map(|write| serde_json::from_slice::<Value>(&write.body).unwrap()["multiCategoryOptions"].clone()).collect()
}

#[tokio::test(start_paused = true)]
async fn no_longer_list_is_sent_while_an_earlier_one_may_still_land() {
    let world = World::new(CONFIG);
    let jane = world.intercom.create_contact(user("jane@example.com"));
    let joe = world.intercom.create_contact(user("joe@example.com"));
    seconds(600).await;
    world.sync().await;
    seconds(600).await;
    world.intercom.tag(&jane, "a").unwrap();
    seconds(300).await;
    world.brevo.fail(OPTIONS, Fault::StatusAfterEffect(502));
    let before = lists(&world).len();
    world.sync().await;
    world.intercom.tag(&joe, "b").unwrap();
    world.intercom.unsubscribe(&joe).unwrap();
    seconds(40).await;
    world.sync().await;
    assert!(world.brevo.contact_by_email("joe@example.com").unwrap().email_blacklisted, "an opt-out waits for nothing");
    assert!(lists(&world)[before..].iter().all(|list| *list == json!(["a"])), "{:?}", lists(&world));
    assert_eq!(world.attribute("joe@example.com", "INTERCOM_TAGS"), None, "nor is written what has no option yet");
    for _ in 0..3 {
        seconds(300).await;
        world.sync().await;
    }
    assert_eq!(lists(&world).last(), Some(&json!(["a", "b"])));
    assert_eq!(world.attribute("jane@example.com", "INTERCOM_TAGS"), Some(json!(["a"])));
    assert_eq!(world.attribute("joe@example.com", "INTERCOM_TAGS"), Some(json!(["b"])));
}

#[tokio::test(start_paused = true)]
async fn what_a_process_before_has_sent_may_still_land() {
    let crash = Arc::new(CrashAt::default());
    let mut world = World::with_crashes(CONFIG, crash.clone());
    let jane = world.intercom.create_contact(user("jane@example.com"));
    seconds(600).await;
    world.sync().await;
    seconds(600).await;
    world.intercom.tag(&jane, "a").unwrap();
    seconds(300).await;
    crash.arm("after_options_intent", 1);
    let connection = world.connection.clone();
    #[expect(clippy::disallowed_methods, reason = "the run is awaited; a task is what a crash can unwind")]
    let run = tokio::spawn(async move { connection.sync(&SyncOptions::default(), &Silent).await.map(drop) });
    assert!(run.await.unwrap_err().is_panic() && crash.fired.load(Ordering::SeqCst));
    let before = lists(&world).len();
    world.restart(CONFIG);
    world.intercom.tag(&jane, "b").unwrap();
    seconds(5).await;
    world.sync().await;
    assert!(lists(&world)[before..].iter().all(|list| *list == json!(["a"])), "{:?}", lists(&world));
    for _ in 0..2 {
        seconds(600).await;
        world.sync().await;
    }
    assert_eq!(world.attribute("jane@example.com", "INTERCOM_TAGS"), Some(json!(["a", "b"])));
}

#[tokio::test(start_paused = true)]
async fn an_option_that_a_person_has_added_in_brevo_stays() {
    let world = World::new(CONFIG);
    let jane = world.intercom.create_contact(user("jane@example.com"));
    seconds(600).await;
    world.sync().await;
    world.brevo.set_options("INTERCOM_TAGS", &["by hand"]);
    world.intercom.tag(&jane, "a").unwrap();
    seconds(600).await;
    world.sync().await;
    assert_eq!(lists(&world).last(), Some(&json!(["by hand", "a"])));
    assert_eq!(world.attribute("jane@example.com", "INTERCOM_TAGS"), Some(json!(["a"])));
}

/// Something happened to somebody while their opt-out was on its way: that is no opt-out, and may need options.
#[tokio::test(start_paused = true)]
async fn a_tag_that_comes_while_an_opt_out_is_on_its_way_is_written_after_it() {
    let world = World::new(CONFIG);
    let jane = world.intercom.create_contact(user("jane@example.com"));
    seconds(600).await;
    world.sync().await;
    seconds(600).await;
    world.intercom.unsubscribe(&jane).unwrap();
    world.intercom.tag(&jane, "a").unwrap();
    seconds(300).await;
    world.sync().await;
    let now = world.brevo.contact_by_email("jane@example.com").unwrap();
    assert!(now.email_blacklisted);
    assert_eq!(now.attributes.get("INTERCOM_TAGS"), Some(&json!(["a"])));

    world.intercom.tag(&jane, "b").unwrap();
    seconds(300).await;
    let email = linkspan::model::Email::parse("jane@example.com").unwrap();
    let urgent = move |tx: &linkspan::store::Tx<'_>| {
        let link = tx.link_by_email(&email)?.unwrap();
        tx.mark_dirty(link.id, linkspan::store::links::Dirty::Consent)
    };
    world.store.write(urgent).await.unwrap();
    world.sync().await;
    assert_eq!(world.attribute("jane@example.com", "INTERCOM_TAGS"), Some(json!(["a", "b"])));
}
