//! Contacts that a full read did not show are asked for by id, however many they are.

use crate::harness::{World, config};
use linkspan::engine::Daemon;
use linkspan::sandbox::intercom::ContactSeed;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

const CONFIG: &str = "
connectors:
  intercom:
    lists:
      all_users: Users
schedule:
  contacts: { incremental: never, full: 6h }
  companies: { full: never }
  conversations: { incremental: never, full: never }
  brevo_contacts: { incremental: never, full: never }
";

const PEOPLE: usize = 450;

#[tokio::test(start_paused = true)]
async fn deletions_beyond_one_cycles_share_are_found_in_the_next_cycles_and_not_the_next_day() {
    let world = World::new(CONFIG);
    let ids: Vec<String> = (0..PEOPLE)
        .map(|n| {
            let email = Some(format!("p{n}@x.example"));
            world.intercom.create_contact(ContactSeed { email, ..ContactSeed::default() })
        })
        .collect();
    tokio::time::sleep(Duration::from_secs(600)).await;
    world.sync().await;
    for id in &ids {
        world.intercom.delete(id).unwrap();
    }
    world.intercom.take_webhooks();
    let daemon = Daemon::new(Arc::clone(&world.connection), config(&world.config).schedule);
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { daemon.run(stopped).await.unwrap() });
    let mut left = Vec::new();
    for _ in 0..1_500 {
        tokio::time::sleep(Duration::from_secs(15)).await;
        let counts = world.store.read(|tx| tx.counts()).await.unwrap();
        let gone = counts.notices.get("missing_in_intercom").copied().unwrap_or(0)
            + counts.notices.get("deleted_in_intercom").copied().unwrap_or(0);
        if gone > 0 {
            left.push(counts.to_confirm);
        }
        if gone == PEOPLE as u64 {
            break;
        }
    }
    assert_eq!(left.last(), Some(&0), "{left:?}");
    assert!(left[0] > 0, "a share in each cycle, and the rest is counted: {left:?}");
    assert!(left.len() < 12, "within minutes: {left:?}");
    stop.cancel();
    tasks.join_next().await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_contact_that_cannot_be_asked_for_holds_up_nobody() {
    let world = World::new(CONFIG);
    let ids: Vec<String> = ["ann@x.example", "bob@x.example"]
        .into_iter()
        .map(|email| {
            world.intercom.create_contact(ContactSeed { email: Some(email.to_owned()), ..ContactSeed::default() })
        })
        .collect();
    tokio::time::sleep(Duration::from_secs(600)).await;
    world.sync().await;
    let (ann, odd) = (ids[0].clone(), "brevo");
    world
        .store
        .write(move |tx| {
            use linkspan::model::{ContactKey, IntercomContactId};
            tx.ask_for(&ContactKey::Intercom(IntercomContactId::new(ann)))?;
            tx.ask_for(&ContactKey::Intercom(IntercomContactId::new(odd)))
        })
        .await
        .unwrap();
    world.intercom.delete(&ids[0]).unwrap();
    world.sync().await;
    let counts = world.store.read(|tx| tx.counts()).await.unwrap();
    assert_eq!(counts.to_confirm, 0);
    assert_eq!(counts.notices.get("missing_in_intercom"), Some(&1), "{:?}", counts.notices);
}
