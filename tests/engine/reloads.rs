//! New settings in a running daemon: all of them, or none.

use crate::harness::{World, config};
use linkspan::engine::{Daemon, EngineError, Settings};
use linkspan::sandbox::intercom::ContactSeed;
use std::sync::Arc;
use std::time::Duration;

const CONFIG: &str = "
connectors: {intercom: {lists: {all_users: Users}}}
field_mapping: {email: email, name: FULLNAME}
limits: {brevo: {import_threshold: 5}}
";

/// One rule more, which clashes with an attribute SEEN that is a yes or no.
const CLASHING: &str = "
connectors: {intercom: {lists: {all_users: Users}}}
field_mapping: {email: email, name: FULLNAME, last_seen_at: {to: SEEN, type: date}}
limits: {brevo: {import_threshold: 7}}
";

fn daemon(world: &World) -> Daemon {
    Daemon::new(Arc::clone(&world.connection), config(&world.config).schedule)
}

fn settings(yaml: &str) -> Settings {
    Settings::from_config(&config(yaml))
}

fn rules(world: &World) -> usize {
    world.connection.ready().unwrap().mapping.rules.len()
}

#[tokio::test(start_paused = true)]
async fn settings_and_what_was_found_out_under_them_change_together() {
    let world = World::new(CONFIG);
    world.sync().await;
    let daemon = daemon(&world);
    let old = rules(&world);
    world.intercom.knobs(|knobs| knobs.latency = Duration::from_secs(5));
    let pair = || (world.connection.settings().import_threshold, rules(&world));
    let watch = async {
        let mut seen = std::collections::BTreeSet::new();
        loop {
            seen.insert(pair());
            if pair().0 == 7 {
                return seen;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let (reloaded, seen) = tokio::join!(daemon.reload(settings(CLASHING), config(CLASHING).schedule), watch);
    reloaded.unwrap();
    assert_eq!(seen, [(5, old), (7, old + 1)].into(), "never the new settings with what was found out under the old");
}

#[tokio::test(start_paused = true)]
async fn settings_that_do_not_fit_the_account_change_nothing() {
    let mut world = World::new(CONFIG);
    world.sync().await;
    // Another connection makes the attribute as a yes or no.
    world.restart(&CLASHING.replace("last_seen_at: {to: SEEN, type: date}", "has_hard_bounced: SEEN"));
    world.sync().await;
    world.restart(CONFIG);
    world.sync().await;
    let daemon = daemon(&world);
    let old = rules(&world);
    let marks = world.store.read(|tx| tx.meta("mapping")).await.unwrap();
    let error = daemon.reload(settings(CLASHING), config(CLASHING).schedule).await.unwrap_err();
    assert!(matches!(error, EngineError::Unfit(_)), "{error}");
    assert_eq!((world.connection.settings().import_threshold, rules(&world)), (5, old));
    assert_eq!(world.store.read(|tx| tx.meta("mapping")).await.unwrap(), marks);
}

#[tokio::test(start_paused = true)]
async fn from_the_threshold_on_people_go_by_import() {
    for (people, imported) in [(4, 0), (5, 5)] {
        let world = World::new(CONFIG);
        for n in 0..people {
            world
                .intercom
                .create_contact(ContactSeed { email: Some(format!("p{n}@x.example")), ..ContactSeed::default() });
        }
        tokio::time::sleep(Duration::from_secs(60)).await;
        let summary = world.full().await;
        assert_eq!((summary.written.imported, summary.written.created), (imported, people - imported));
    }
}
