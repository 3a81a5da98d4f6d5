//! Orders of other commands, carried out by a daemon under paused time.

use crate::harness::{World, config};
use linkspan::doors::Doors;
use linkspan::engine::{Daemon, Ended, Looked, Order, Stage, SyncOptions, look, place};
use linkspan::model::{Resource, SideName};
use linkspan::sandbox::intercom::ContactSeed;
use linkspan::store::listings::NewFailure;
use linkspan::store::orders::OrderState;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// After the first read, nothing is read by schedule.
const CONFIG: &str = "
connectors:
  intercom:
    lists:
      all_users: Users
schedule:
  contacts: { incremental: never, full: never }
  companies: { full: never }
  conversations: { incremental: never, full: never }
  brevo_contacts: { incremental: never, full: never }
";

struct Running {
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

fn start(world: &World) -> Running {
    let daemon = Daemon::new(Arc::clone(&world.connection), config(&world.config).schedule);
    let stop = CancellationToken::new();
    let mut tasks = JoinSet::new();
    let stopped = stop.clone();
    tasks.spawn(async move { daemon.run(stopped).await.unwrap() });
    Running { stop, tasks }
}

impl Running {
    async fn stop(mut self) {
        self.stop.cancel();
        self.tasks.join_next().await.unwrap().unwrap();
    }
}

async fn pass(millis: u64) {
    tokio::time::sleep(Duration::from_millis(millis)).await;
}

async fn order(world: &World, order: &Order) -> i64 {
    place(&world.store, order, now(&world.doors)).await.unwrap()
}

fn now(doors: &Doors) -> chrono::DateTime<chrono::Utc> {
    doors.clock.now()
}

async fn seen(world: &World, id: i64) -> Looked {
    look(&world.store, id).await.unwrap().unwrap()
}

async fn ended(world: &World, id: i64) -> Ended {
    for _ in 0..20_000 {
        let seen = seen(world, id).await;
        if let Some(end) = seen.end {
            return end;
        }
        assert_ne!(seen.state, OrderState::Abandoned);
        pass(100).await;
    }
    panic!("the order never ended");
}

fn seed(n: usize) -> ContactSeed {
    ContactSeed { email: Some(format!("p{n}@x.example")), name: Some("Ann".to_owned()), ..ContactSeed::default() }
}

fn sync(full: bool) -> Order {
    Order::Sync(SyncOptions { full, ..SyncOptions::default() })
}

#[tokio::test(start_paused = true)]
async fn a_sync_that_is_ordered_is_noticed_within_about_a_second_and_ends_as_its_own_would() {
    let world = World::new(CONFIG);
    let ann = world.intercom.create_contact(seed(1));
    // What is new cannot be searched for at once.
    pass(60_000).await;
    let daemon = start(&world);
    pass(600_000).await;
    assert!(world.brevo.contact_by_email("p1@x.example").is_some());
    world.intercom.edit_contact(&ann, &json!({"name": "Anna Lee"})).unwrap();
    world.intercom.take_webhooks();
    pass(120_000).await;
    let before = world.brevo_writes();
    let id = order(&world, &sync(true)).await;
    pass(1_500).await;
    assert_ne!(seen(&world, id).await.state, OrderState::Open, "taken within about a second");
    let Ended::Synced(summary) = ended(&world, id).await else { panic!("not a summary") };
    assert_eq!((summary.outcome(), summary.written.updated), ("ok", 1));
    assert_eq!(summary.read["intercom contacts"].rows, 1);
    assert_eq!(world.brevo_writes(), before + 1);
    assert_eq!(world.attribute("p1@x.example", "FIRSTNAME").unwrap(), "Anna");
    let steps = seen(&world, id).await.steps;
    let stages: Vec<Stage> = steps.iter().map(|step| step.stage).collect();
    assert_eq!(stages[0], Stage::Preparing);
    assert!(stages.contains(&Stage::Reading(SideName::Intercom, Resource::Contacts)), "{stages:?}");
    assert!(steps.windows(2).all(|two| two[0].number < two[1].number));
    // What another process would find at the next start: this one is still at work.
    let at_work = world.store.read(|tx| tx.meta("at_work")).await.unwrap();
    assert_eq!(at_work.as_deref(), Some("yes"));
    daemon.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_ordered_run_never_overlaps_a_run_of_the_schedule_nor_another_order() {
    let world = World::new(CONFIG);
    for n in 0..30 {
        world.intercom.create_contact(seed(n));
    }
    world.brevo.knobs(|knobs| knobs.common.latency = Duration::from_secs(2));
    world.intercom.knobs(|knobs| knobs.latency = Duration::from_secs(2));
    let daemon = start(&world);
    // In the middle of the first scheduled read.
    pass(27_000).await;
    let first = order(&world, &sync(true)).await;
    let second = order(&world, &sync(true)).await;
    for id in [first, second] {
        assert!(matches!(ended(&world, id).await, Ended::Synced(_)));
    }
    pass(600_000).await;
    let mut runs = world.store.read(|tx| tx.runs(100)).await.unwrap();
    runs.retain(|run| run.kind != "push");
    runs.reverse();
    assert!(runs.iter().filter(|run| run.kind == "sync --full").count() == 2 && runs.len() > 2, "{runs:#?}");
    for two in runs.windows(2) {
        assert!(two[0].ended_at.is_some_and(|end| end <= two[1].began_at), "{two:#?}");
    }
    daemon.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_begun_is_given_up_with_the_daemon_and_what_waits_is_carried_out_by_the_next() {
    let mut world = World::new(CONFIG);
    for n in 0..30 {
        world.intercom.create_contact(seed(n));
    }
    let daemon = start(&world);
    pass(600_000).await;
    world.intercom.knobs(|knobs| knobs.latency = Duration::from_secs(8));
    let begun = order(&world, &sync(true)).await;
    pass(3_000).await;
    let waits = order(&world, &sync(false)).await;
    assert_eq!(seen(&world, begun).await.state, OrderState::Taken);
    daemon.stop().await;
    assert_eq!(seen(&world, begun).await.state, OrderState::Abandoned);
    assert_eq!(seen(&world, waits).await.state, OrderState::Open);
    // As a power cut would leave it.
    world.store.write(move |tx| tx.take_order(waits, chrono::DateTime::default()).map(drop)).await.unwrap();
    let third = order(&world, &sync(false)).await;
    world.intercom.knobs(|knobs| knobs.latency = Duration::ZERO);
    let yaml = world.config.clone();
    world.restart(&yaml);
    let daemon = start(&world);
    // Whoever placed it is long gone.
    assert!(matches!(ended(&world, third).await, Ended::Synced(_)));
    assert_eq!(seen(&world, waits).await.state, OrderState::Abandoned);
    daemon.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_run_that_a_vendor_stops_says_so_in_the_order() {
    let world = World::new(CONFIG);
    world.intercom.create_contact(seed(1));
    let daemon = start(&world);
    pass(600_000).await;
    world.brevo.knobs(|knobs| knobs.ip_blocked = true);
    let id = order(&world, &sync(false)).await;
    let Ended::Vendor(error) = ended(&world, id).await else { panic!("not a vendor's refusal") };
    assert_eq!(error.side, SideName::Brevo);
    world.brevo.knobs(|knobs| knobs.ip_blocked = false);
    let id = order(&world, &sync(false)).await;
    assert!(matches!(ended(&world, id).await, Ended::Synced(_)), "the daemon goes on");
    daemon.stop().await;
}

#[tokio::test(start_paused = true)]
async fn refused_records_are_tried_again_at_once() {
    let world = World::new(CONFIG);
    let ann = world.intercom.create_contact(seed(1));
    // What is new cannot be searched for at once.
    pass(60_000).await;
    let daemon = start(&world);
    pass(600_000).await;
    let subject = format!("contact {ann}");
    let at = now(&world.doors);
    world
        .store
        .write(move |tx| {
            let link = tx.some_links(1)?[0];
            let failure = NewFailure {
                link: Some(link),
                subject: &subject,
                field: "name",
                refused_by: Some(linkspan::model::SideName::Brevo),
                message: "no",
                status: Some(400),
                dead: true,
            };
            tx.put_failure(&failure, at)
        })
        .await
        .unwrap();
    let none = order(&world, &Order::Retry(Some(4711))).await;
    let all = order(&world, &Order::Retry(None)).await;
    pass(1_500).await;
    assert!(matches!(seen(&world, none).await.end, Some(Ended::Retried(0))));
    assert!(matches!(seen(&world, all).await.end, Some(Ended::Retried(1))));
    pass(500).await;
    assert_eq!(world.store.read(|tx| tx.counts()).await.unwrap().pending, 0, "done at once, not at the next look");
    daemon.stop().await;
}

/// The end of a run could not be kept (a full disk): its order is taken for ever.
#[tokio::test(start_paused = true)]
async fn an_order_whose_end_is_lost_keeps_nobody_waiting() {
    let world = World::new(CONFIG);
    let daemon = start(&world);
    pass(600_000).await;
    let id = order(&world, &Order::Sync(SyncOptions::default())).await;
    let at = now(&world.doors);
    assert!(world.store.write(move |tx| tx.take_order(id, at)).await.unwrap());
    pass(60_000).await;
    assert_eq!(seen(&world, id).await.state, OrderState::Abandoned);
    daemon.stop().await;
}
