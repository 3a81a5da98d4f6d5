//! Events whose answer was lost: Brevo is asked before one is sent again.

use crate::crashes::CrashAt;
use crate::harness::World;
use linkspan::engine::{Silent, SyncOptions};
use linkspan::sandbox::Fault;
use linkspan::sandbox::intercom::ContactSeed;
use linkspan::store::partings::Apart;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

const CONFIG: &str = "
connectors:
  intercom:
    sync: {contacts: true, conversations: true, events: true}
";

async fn seconds(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

/// Jane is in Brevo, and `conversations` of hers have just begun.
async fn with_conversations(world: &World, conversations: usize) {
    let seed = ContactSeed { email: Some("jane@example.com".into()), ..ContactSeed::default() };
    let jane = world.intercom.create_contact(seed);
    seconds(600).await;
    world.sync().await;
    seconds(600).await;
    for _ in 0..conversations {
        world.intercom.open_conversation(&jane, "help").unwrap();
        seconds(1).await;
    }
}

/// Requests for these paths, in order.
fn asked(world: &World, method: &str, part: &str) -> usize {
    let all = world.brevo.log().all();
    all.iter().filter(|request| request.method == method && request.target.contains(part)).count()
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_had_landed_is_not_sent_twice() {
    for conversations in [1, 3] {
        let world = World::new(CONFIG);
        with_conversations(&world, conversations).await;
        world.brevo.fail("/events", Fault::StatusAfterEffect(502));
        world.sync().await;
        assert_eq!(world.brevo.events().len(), conversations, "they landed, and nobody heard of it");
        // A late request could still land: nothing is asked or sent yet.
        seconds(30).await;
        world.sync().await;
        assert_eq!((asked(&world, "POST", "/events"), asked(&world, "GET", "/events")), (1, 0));
        seconds(120).await;
        world.sync().await;
        assert_eq!(asked(&world, "GET", "/events"), 1, "one look for all of them");
        assert_eq!(world.brevo.events().len(), conversations, "sent twice");
        seconds(600).await;
        world.sync().await;
        assert_eq!((asked(&world, "POST", "/events"), asked(&world, "GET", "/events")), (1, 1), "and settled");
        assert_eq!(world.store.read(|tx| tx.count_outbox()).await.unwrap(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_had_not_landed_is_sent_once() {
    let world = World::new(CONFIG);
    with_conversations(&world, 3).await;
    world.brevo.fail("/events", Fault::Html);
    world.sync().await;
    assert_eq!(world.brevo.events().len(), 0);
    for _ in 0..3 {
        seconds(120).await;
        world.sync().await;
    }
    assert_eq!(world.brevo.events().len(), 3);
    let mut keys: Vec<_> =
        world.brevo.events().into_iter().map(|event| event.properties["linkspan_key"].to_string()).collect();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 3, "each once");
    assert_eq!(asked(&world, "GET", "/events"), 1);
}

#[tokio::test(start_paused = true)]
async fn if_brevo_does_not_say_they_are_sent_again() {
    let world = World::new(CONFIG);
    with_conversations(&world, 2).await;
    world.brevo.fail("/events", Fault::StatusAfterEffect(502));
    world.sync().await;
    world.brevo.fail("/events?", Fault::Status(403, None));
    seconds(120).await;
    world.sync().await;
    assert_eq!(world.brevo.events().len(), 4, "at least once: twice, under the same keys");
    assert_eq!(world.store.read(|tx| tx.count_outbox()).await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn who_is_left_out_by_a_filter_is_told_nothing_of_and_where_it_cannot_tell_it_waits() {
    for (apart, sent) in [(Apart::LeftOut, 0), (Apart::Untold, 2)] {
        let world = World::new(CONFIG);
        with_conversations(&world, 2).await;
        world.brevo.fail("/events", Fault::Status(503, None));
        world.sync().await;
        let of_all =
            |apart: Option<Apart>| world.store.write(move |tx| (1..=2).try_for_each(|id| tx.set_apart(id, apart)));
        of_all(Some(apart)).await.unwrap();
        seconds(120).await;
        world.sync().await;
        assert_eq!(world.brevo.events().len(), 0, "{apart:?}");
        of_all(None).await.unwrap();
        seconds(120).await;
        world.sync().await;
        assert_eq!(world.brevo.events().len(), sent, "{apart:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn while_brevo_cannot_say_they_wait() {
    let world = World::new(CONFIG);
    with_conversations(&world, 2).await;
    world.brevo.fail("/events", Fault::StatusAfterEffect(502));
    world.sync().await;
    for _ in 0..10 {
        world.brevo.fail("/events?", Fault::Status(503, None));
    }
    seconds(120).await;
    world.sync().await;
    assert_eq!(world.brevo.events().len(), 2);
    for _ in 0..8 {
        seconds(600).await;
        world.sync().await;
    }
    assert_eq!(world.brevo.events().len(), 2, "asked again, and there they were");
    assert_eq!(world.store.read(|tx| tx.count_outbox()).await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
#[expect(clippy::disallowed_methods, reason = "the run is awaited; a task is what a crash can unwind")]
async fn a_crash_on_either_side_of_the_request_sends_each_once() {
    for place in ["after_events_intent", "after_events_sent"] {
        let crash = Arc::new(CrashAt::default());
        let mut world = World::with_crashes(CONFIG, crash.clone());
        with_conversations(&world, 3).await;
        crash.arm(place, 1);
        let connection = world.connection.clone();
        let run = tokio::spawn(async move { connection.sync(&SyncOptions::default(), &Silent).await.map(drop) });
        assert!(run.await.unwrap_err().is_panic() && crash.fired.load(Ordering::SeqCst));
        let landed = world.brevo.events().len();
        seconds(5).await;
        world.restart(CONFIG);
        world.sync().await;
        assert_eq!(world.brevo.events().len(), landed, "{place}: sent again although the first may still land");
        seconds(120).await;
        world.sync().await;
        assert_eq!(world.brevo.events().len(), 3, "{place}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_being_replaced_loses_no_event() {
    let world = World::new(CONFIG);
    with_conversations(&world, 2).await;
    for _ in 0..8 {
        world.brevo.knobs(|knobs| {
            knobs.common.faults.clear();
            knobs.common.faults.push_back(("/events".to_owned(), Fault::Status(401, None)));
        });
        assert!(world.connection.sync(&SyncOptions::default(), &Silent).await.is_err());
        seconds(300).await;
    }
    assert_eq!(world.store.read(|tx| tx.failures(10)).await.unwrap(), []);
    world.sync().await;
    assert_eq!(world.brevo.events().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_was_given_up_is_sent_when_somebody_asks() {
    let world = World::new(CONFIG);
    with_conversations(&world, 2).await;
    for _ in 0..5 {
        world.brevo.fail("/events", Fault::Status(400, None));
        world.sync().await;
        seconds(600).await;
    }
    world.sync().await;
    let failures = world.store.read(|tx| tx.failures(10)).await.unwrap();
    assert_eq!((failures.len(), world.brevo.events().len()), (2, 0), "given up");
    let one = Some(failures[0].id);
    assert_eq!(world.store.write(move |tx| tx.retry_failures(one)).await.unwrap(), 1);
    world.sync().await;
    assert_eq!(world.brevo.events().len(), 1);
    assert_eq!(world.store.write(|tx| tx.retry_failures(None)).await.unwrap(), 1);
    world.sync().await;
    assert_eq!(world.brevo.events().len(), 2);
    assert_eq!(world.store.read(|tx| tx.failures(10)).await.unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn events_that_wait_for_their_people_hold_up_no_others() {
    let world = World::new(CONFIG);
    with_conversations(&world, 0).await;
    let jane = world.intercom.contact_ids().remove(0);
    // Somebody without an address: in Brevo there is nobody yet.
    let lead = world.intercom.create_contact(ContactSeed { lead: true, ..ContactSeed::default() });
    for _ in 0..60 {
        world.intercom.open_conversation(&lead, "help").unwrap();
        seconds(1).await;
    }
    world.intercom.open_conversation(&jane, "help").unwrap();
    seconds(60).await;
    world.sync().await;
    assert_eq!(world.brevo.events().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_a_lead_did_before_they_were_merged_is_told_of_the_survivor() {
    let world = World::new(CONFIG);
    with_conversations(&world, 0).await;
    let jane = world.intercom.contact_ids()[0].clone();
    // Nobody can be found or made in Brevo by this one.
    let visitor = world.intercom.create_contact(ContactSeed { lead: true, ..ContactSeed::default() });
    seconds(600).await;
    world.intercom.open_conversation(&visitor, "help").unwrap();
    seconds(600).await;
    world.sync().await;
    assert_eq!(world.brevo.events().len(), 0, "it waits");
    world.intercom.merge(&visitor, &jane).unwrap();
    for _ in 0..3 {
        seconds(1_200).await;
        world.full().await;
    }
    let events = world.brevo.events();
    let hers = world.brevo.contact_by_email("jane@example.com").unwrap().id;
    assert_eq!(events.iter().map(|event| event.contact_id).collect::<Vec<_>>(), [Some(hers)]);
    assert_eq!(world.store.read(|tx| tx.count_outbox()).await.unwrap(), 0);
}

/// Three conversations, a few hours apart; the oldest of them began so long before it is seen.
async fn seen_late(yaml: &str) -> Vec<String> {
    let world = World::new(yaml);
    with_conversations(&world, 0).await;
    let jane = world.intercom.contact_ids()[0].clone();
    let mut began = Vec::new();
    for _ in 0..3 {
        began.push(world.intercom.open_conversation(&jane, "help").unwrap());
        seconds(3_600).await;
    }
    for _ in 0..2 {
        world.full().await;
        seconds(600).await;
    }
    assert_eq!(world.store.read(|tx| tx.count_outbox()).await.unwrap(), 0, "what is too old waits nowhere");
    let sent = world.brevo.events().into_iter().map(|event| event.properties["conversation_id"].clone());
    let sent: Vec<_> = sent.map(|id| id.as_str().map_or_else(|| id.to_string(), str::to_owned)).collect();
    began
        .iter()
        .filter(|id| sent.contains(id))
        .map(|id| format!("{}", began.iter().position(|b| b == id).unwrap()))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn what_is_older_than_max_age_when_it_is_first_seen_is_not_sent() {
    assert_eq!(seen_late(CONFIG).await, ["0", "1", "2"], "of the last day");
    // Seen after 3 h, 2 h and 1 h.
    assert_eq!(seen_late(&format!("{CONFIG}events: {{max_age: 150m}}\n")).await, ["1", "2"]);
    assert_eq!(seen_late(&format!("{CONFIG}events: {{max_age: 90m}}\n")).await, ["2"]);
    assert_eq!(seen_late(&format!("{CONFIG}events: {{max_age: 30m}}\n")).await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn in_the_outbox_age_no_longer_counts() {
    let world = World::new(&format!("{CONFIG}events: {{max_age: 1h}}\n"));
    with_conversations(&world, 2).await;
    world.brevo.knobs(|knobs| {
        for _ in 0..500 {
            knobs.common.faults.push_back(("/events".to_owned(), Fault::Status(503, None)));
        }
    });
    world.sync().await;
    assert_eq!((world.brevo.events().len(), world.store.read(|tx| tx.count_outbox()).await.unwrap()), (0, 2));
    // Brevo is away for three days.
    seconds(3 * 86_400).await;
    world.brevo.knobs(|knobs| knobs.common.faults.clear());
    for _ in 0..3 {
        world.sync().await;
        seconds(600).await;
    }
    assert_eq!(world.brevo.events().len(), 2, "seen in time, so they are sent, however late");
    assert_eq!(world.store.read(|tx| tx.count_outbox()).await.unwrap(), 0);
}
