//! The daemon's end and its start under bad conditions.

use crate::world::{World, pass, until};
use axum::http::StatusCode;
use linkspan::sandbox::Fault;
use linkspan::sandbox::intercom::ContactSeed;
use serde_json::json;
use std::time::Duration;

fn seed(n: usize) -> ContactSeed {
    ContactSeed { email: Some(format!("p{n}@x.example")), name: Some("Ann".to_owned()), ..ContactSeed::default() }
}

/// A daemon that has been writing 250 edits for three seconds to a Brevo this slow.
async fn amid_edits(latency: Duration) -> World {
    let mut world = World::new();
    let ids: Vec<String> = (0..250).map(|n| world.intercom.create_contact(seed(n))).collect();
    world.sync().await;
    world.run().await;
    world.brevo.knobs(|knobs| knobs.common.latency = latency);
    for id in &ids {
        world.intercom.edit_contact(id, &json!({"name": "Anna"})).unwrap();
    }
    world.deliver().await;
    pass(3).await;
    world
}

#[tokio::test(start_paused = true)]
async fn it_stops_within_ten_seconds_whatever_waits() {
    let mut world = amid_edits(Duration::from_secs(2)).await;
    let took = world.stop().await;
    assert!(took < Duration::from_secs(10), "{took:?}");
}

/// Writes that are dropped half-way would be of unknown outcome: their people would wait until they cannot land any more.
#[tokio::test(start_paused = true)]
async fn what_is_in_flight_is_answered_and_recorded() {
    let mut world = amid_edits(Duration::from_millis(400)).await;
    let before = world.writes().len();
    let took = world.stop().await;
    assert!(took < Duration::from_secs(5), "{took:?}");
    let counts = world.connection.store().read(|tx| tx.counts()).await.unwrap();
    let sent = world.writes().len();
    assert!(before > 10 && sent < 200, "in the middle of them: {before}, {sent}");
    assert_eq!(counts.verifying, 0, "no write is left without an answer");
    assert!(counts.pending > 0, "the others wait for the next start");
}

#[tokio::test(start_paused = true)]
async fn it_stops_within_ten_seconds_while_intercom_is_down() {
    let mut world = World::new();
    let ada = world.intercom.create_contact(seed(1));
    world.sync().await;
    world.run().await;
    world.intercom.knobs(|knobs| {
        for _ in 0..10_000 {
            knobs.faults.push_back((String::new(), Fault::Status(503, None)));
        }
    });
    world.intercom.unsubscribe(&ada).unwrap();
    world.deliver().await;
    pass(1).await;
    let took = world.stop().await;
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn it_stops_within_ten_seconds_while_it_has_not_begun() {
    let mut world = World::new();
    world.intercom.knobs(|knobs| {
        for _ in 0..10_000 {
            knobs.faults.push_back((String::new(), Fault::Status(503, None)));
        }
    });
    world.begin();
    pass(3).await;
    let took = world.stop().await;
    assert!(took < Duration::from_secs(10), "{took:?}");
}

/// What webhooks had named cannot be read when it starts: it starts all the same, and reads that later.
#[tokio::test(start_paused = true)]
async fn it_starts_although_one_record_cannot_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("linkspan.db");
    let open = || linkspan::store::Store::open(&path, linkspan::store::Calling::Inline).unwrap();
    let mut world = World::on(open());
    world.sync().await;
    world.run().await;
    let bo = world.intercom.create_contact(seed(7));
    world.intercom.take_webhooks();
    let broken = |world: &World| {
        world.intercom.knobs(|knobs| {
            for _ in 0..1_000 {
                knobs.faults.push_back((format!("/contacts/{bo}"), Fault::Status(503, None)));
            }
        });
    };
    broken(&world);
    let item = json!({"type": "contact", "id": bo});
    let hook = world.notification("notif_1", "contact.subscribed", item);
    assert_eq!(world.post_signed(hook.to_string()).await, StatusCode::OK);
    pass(30).await;
    world.restart(open());
    world.begin();
    pass(30).await;
    world.intercom.knobs(|knobs| knobs.faults.clear());
    until("the new one", || world.brevo.contact_by_email("p7@x.example").is_some()).await;
}
