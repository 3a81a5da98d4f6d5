//! The daemon's schedule under paused time: what is overdue runs once, cron lines keep their minute, intervals their jitter.

use crate::harness::{World, config};
use chrono::{DateTime, TimeDelta, Timelike as _, Utc};
use linkspan::engine::Daemon;
use linkspan::sandbox::intercom::ContactSeed;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

const DAY: u64 = 86_400;

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

/// Lets time go by until the clock next shows this, in UTC.
async fn until(world: &World, hour: u32, minute: u32) {
    let now = world.doors.clock.now();
    let at = now.date_naive().and_hms_opt(hour, minute, 0).unwrap().and_utc();
    let at = if at > now { at } else { at + TimeDelta::days(1) };
    tokio::time::sleep((at - now).to_std().unwrap()).await;
}

/// A daemon's life of so many seconds on this state, as after a start of the process.
async fn live(world: &mut World, yaml: &str, seconds: u64) {
    world.restart(yaml);
    let daemon = Daemon::new(Arc::clone(&world.connection), config(yaml).schedule);
    let stop = CancellationToken::new();
    let mut tasks = JoinSet::new();
    let stopped = stop.clone();
    tasks.spawn(async move { daemon.run(stopped).await.unwrap() });
    pass(seconds).await;
    stop.cancel();
    tasks.join_next().await.unwrap().unwrap();
}

/// Scheduled reads that began since, by kind.
async fn reads_since(world: &World, since: DateTime<Utc>) -> BTreeMap<String, Vec<DateTime<Utc>>> {
    let mut runs = world.store.read(|tx| tx.runs(10_000)).await.unwrap();
    runs.reverse();
    let mut by_kind: BTreeMap<String, Vec<DateTime<Utc>>> = BTreeMap::new();
    for run in runs.into_iter().filter(|run| run.began_at >= since && run.kind != "push") {
        assert_eq!(run.outcome.as_deref(), Some("ok"), "{run:#?}");
        by_kind.entry(run.kind).or_default().push(run.began_at);
    }
    by_kind
}

fn counts(reads: &BTreeMap<String, Vec<DateTime<Utc>>>) -> Vec<(&str, usize)> {
    reads.iter().map(|(kind, began)| (kind.as_str(), began.len())).collect()
}

fn person(world: &World) {
    world.intercom.create_contact(ContactSeed { email: Some("ann@x.example".into()), ..ContactSeed::default() });
}

#[tokio::test(start_paused = true)]
async fn what_is_overdue_after_three_days_runs_once() {
    // With the defaults: contacts every 5 m, companies every 6 h, everything once a day. Dozens were missed of each.
    let mut world = World::new("");
    person(&world);
    live(&mut world, "", 3_600).await;
    pass(3 * DAY).await;
    let start = world.doors.clock.now();
    live(&mut world, "", 200).await;
    let reads = reads_since(&world, start).await;
    // The full read of a resource makes its incremental one superfluous.
    let once =
        ["brevo contacts full", "intercom companies full", "intercom contacts full", "intercom conversations full"];
    let fulls: Vec<_> = counts(&reads).into_iter().filter(|(kind, _)| kind.ends_with("full")).collect();
    assert_eq!(fulls, once.map(|kind| (kind, 1)));
    for (kind, began) in reads.iter().filter(|(kind, _)| kind.ends_with("incremental")) {
        assert!(began.len() <= 1, "{kind} was made up for more than once: {began:?}");
    }
    // And then the schedule goes on as if nothing had been.
    let start = world.doors.clock.now();
    live(&mut world, "", 3_600).await;
    let reads = reads_since(&world, start).await;
    assert!(reads.keys().all(|kind| kind.ends_with("incremental")), "{:?}", counts(&reads));
    let contacts = reads["intercom contacts incremental"].len();
    assert!((10..=12).contains(&contacts), "every five minutes, and up to a tenth more: {contacts} in an hour");
}

#[tokio::test(start_paused = true)]
async fn a_shorter_downtime_makes_up_only_for_what_was_due_in_it() {
    let mut world = World::new("");
    person(&world);
    live(&mut world, "", 3_600).await;
    pass(2 * 3_600).await;
    let start = world.doors.clock.now();
    live(&mut world, "", 200).await;
    let reads = reads_since(&world, start).await;
    let once = ["brevo contacts incremental", "intercom contacts incremental", "intercom conversations incremental"];
    assert_eq!(counts(&reads), once.map(|kind| (kind, 1)));
}

#[tokio::test(start_paused = true)]
async fn a_cron_line_is_kept_to_the_minute_in_its_zone_and_made_up_for_once() {
    // 03:00 in Oslo is 02:00 UTC in November. The world begins at 09:30 UTC.
    let yaml = "
schedule:
  timezone: Europe/Oslo
  contacts: { incremental: never, full: \"0 3 * * *\" }
  companies: { full: never }
  conversations: { incremental: never, full: never }
  brevo_contacts: { incremental: never, full: never }
";
    let mut world = World::new(yaml);
    person(&world);
    live(&mut world, yaml, 600).await;
    // Whatever the schedule says: without one read of everything nothing could be decided.
    let first = reads_since(&world, DateTime::default()).await;
    let everything =
        ["brevo contacts full", "intercom companies full", "intercom contacts full", "intercom conversations full"];
    assert_eq!(counts(&first), everything.map(|kind| (kind, 1)));
    // A daemon that is up for the half hour around it, three nights long (a whole night is long even in paused time).
    let start = world.doors.clock.now();
    for _ in 0..3 {
        until(&world, 1, 45).await;
        live(&mut world, yaml, 1_800).await;
    }
    let reads = reads_since(&world, start).await;
    assert_eq!(counts(&reads), [("intercom contacts full", 3)]);
    for began in &reads["intercom contacts full"] {
        assert_eq!((began.hour(), began.minute()), (2, 0), "{began}");
    }
    // Down over three nights: one read at once, and the next at its time.
    pass(3 * DAY).await;
    until(&world, 12, 0).await;
    let start = world.doors.clock.now();
    live(&mut world, yaml, 1_800).await;
    let began = &reads_since(&world, start).await["intercom contacts full"];
    assert!(began.len() == 1 && began[0] - start < TimeDelta::minutes(1), "{start}: {began:?}");
    until(&world, 1, 45).await;
    let start = world.doors.clock.now();
    live(&mut world, yaml, 1_800).await;
    let began = &reads_since(&world, start).await["intercom contacts full"];
    assert_eq!(began.iter().map(|at| (at.hour(), at.minute())).collect::<Vec<_>>(), [(2, 0)]);
}

#[tokio::test(start_paused = true)]
async fn an_interval_is_stretched_by_up_to_its_jitter() {
    let yaml = "
schedule:
  jitter: 0.5
  contacts: { incremental: 10m, full: never }
  companies: { full: never }
  conversations: { incremental: never, full: never }
  brevo_contacts: { incremental: never, full: never }
";
    let mut world = World::new(yaml);
    person(&world);
    live(&mut world, yaml, DAY / 2).await;
    let reads = reads_since(&world, DateTime::default()).await;
    let began = &reads["intercom contacts incremental"];
    let gaps: Vec<i64> = began.windows(2).map(|two| (two[1] - two[0]).num_seconds()).collect();
    assert!(gaps.len() > 50, "{}", gaps.len());
    assert!(gaps.iter().all(|gap| (600..=905).contains(gap)), "{gaps:?}");
    let (least, most) = (gaps.iter().min().unwrap(), gaps.iter().max().unwrap());
    assert!(*least < 650 && *most > 850, "spread over the whole of it: {least} to {most}");
}
