//! Somebody is forgotten, but for a keyed hash.

use crate::harness::{World, config, minutes};
use linkspan::engine::forget::{Forget, Forgotten, forget_in};
use linkspan::engine::{Daemon, Ended, Order, look, place};
use linkspan::model::{Email, SideName};
use linkspan::sandbox::intercom::ContactSeed;
use linkspan::store::{Calling, Store};
use serde_json::json;
use std::path::Path;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

const CONFIG: &str = "
connectors:
  intercom:
    lists:
      all_users: Users
";

const ADDRESS: &str = "jolanthe@forgotten.example";
const NAME: &str = "Jolanthe Quxworthy";

fn user(email: &str) -> ContactSeed {
    ContactSeed { email: Some(email.to_owned()), name: Some(NAME.to_owned()), ..ContactSeed::default() }
}

fn ask(even_if_there: bool) -> Forget {
    Forget { email: Email::parse(ADDRESS).unwrap(), even_if_there }
}

async fn forget(world: &World, even_if_there: bool) -> Forgotten {
    forget_in(&world.store, &world.doors, ask(even_if_there)).await.unwrap()
}

/// Until nobody looks for them any more.
async fn until_it_is_known(world: &World) {
    for _ in 0..3 {
        minutes(24 * 60).await;
        world.full().await;
    }
}

fn with_file(path: &Path) -> World {
    let mut world = World::new(CONFIG);
    world.store = Store::open(path, Calling::Inline).unwrap();
    world.restart(CONFIG);
    world
}

/// What the files of the state hold, all of them, as the disk has it.
fn bytes_of(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.map(|path| (path.display().to_string(), std::fs::read(path).unwrap())).collect()
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.to_ascii_lowercase().windows(text.len()).any(|window| window == text.to_lowercase().as_bytes())
}

#[tokio::test(start_paused = true)]
async fn who_is_gone_on_both_sides_is_forgotten_to_the_last_byte() {
    let folder = tempfile::tempdir().unwrap();
    let world = with_file(&folder.path().join("x.db"));
    let jo = world.intercom.create_contact(user(ADDRESS));
    let conversation = world.intercom.open_conversation(&jo, "hello").unwrap();
    world.intercom.rate(&conversation, 5, Some("Quxworthy was content")).unwrap();
    world.intercom.create_contact(ContactSeed { name: Some("Bob".to_owned()), ..user("bob@x.example") });
    minutes(20).await;
    world.full().await;
    world.brevo.edit_attributes(ADDRESS, &[("FIRSTNAME", json!("Quxworthy's own"))]);
    minutes(20).await;
    world.full().await;
    let before = bytes_of(folder.path());
    assert!(before.iter().any(|(_, bytes)| holds(bytes, ADDRESS)), "there is something to forget");
    assert!(matches!(forget(&world, false).await, Forgotten::There(there) if there.len() == 2));

    world.intercom.delete(&jo).unwrap();
    world.brevo.delete(ADDRESS);
    until_it_is_known(&world).await;
    let Forgotten::Done { intercom, brevo, rows, opted_out, there, scrubbed } = forget(&world, false).await else {
        panic!("not forgotten")
    };
    assert_eq!((intercom, brevo, opted_out, there.len(), scrubbed), (1, 1, false, 0, Ok(())));
    assert!(rows > 4, "{rows}");
    for (file, bytes) in bytes_of(folder.path()) {
        for text in [ADDRESS, "jolanthe", "quxworthy", jo.as_str()] {
            assert!(!holds(&bytes, text), "{file} holds {text}");
        }
    }
    assert_eq!(forget(&world, false).await, Forgotten::Nobody, "and nothing tells that they were there");
    // Nobody else is touched.
    let writes = world.brevo_writes();
    minutes(20).await;
    world.full().await;
    assert_eq!(world.brevo_writes(), writes);
    assert!(world.brevo.contact_by_email("bob@x.example").is_some());
}

#[tokio::test(start_paused = true)]
async fn an_opted_out_address_comes_back_opted_out_whichever_way_it_is_made() {
    for threshold in [1, 300] {
        let yaml = format!("{CONFIG}limits: {{brevo: {{import_threshold: {threshold}}}}}\n");
        let world = World::new(&yaml);
        let jo = world.intercom.create_contact(user(ADDRESS));
        world.intercom.unsubscribe(&jo).unwrap();
        minutes(20).await;
        world.full().await;
        assert!(world.brevo.contact_by_email(ADDRESS).unwrap().email_blacklisted);
        world.intercom.delete(&jo).unwrap();
        world.brevo.delete(ADDRESS);
        until_it_is_known(&world).await;
        assert!(matches!(forget(&world, false).await, Forgotten::Done { opted_out: true, .. }));
        // Another sign-up, at the same address, of which Intercom knows no opt-out.
        world.intercom.create_contact(user(ADDRESS));
        let bob = world.intercom.create_contact(user("bob@x.example"));
        minutes(20).await;
        world.full().await;
        let made = world.brevo.contact_by_email(ADDRESS).expect("made again: they came back themselves");
        assert!(made.email_blacklisted, "threshold {threshold}");
        assert!(!world.brevo.contact_by_email("bob@x.example").unwrap().email_blacklisted, "{bob}");
        // And it is quiet then.
        let writes = world.brevo_writes();
        minutes(20).await;
        world.full().await;
        assert_eq!(world.brevo_writes(), writes);
        // What they decide in Brevo after that is theirs.
        world.brevo.resubscribe(ADDRESS);
        minutes(20).await;
        world.full().await;
        assert!(!world.brevo.contact_by_email(ADDRESS).unwrap().email_blacklisted, "threshold {threshold}");
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_takes_an_opted_out_address_is_renamed_with_it() {
    let world = World::new(CONFIG);
    let jo = world.intercom.create_contact(user(ADDRESS));
    world.intercom.unsubscribe(&jo).unwrap();
    let bob = world.intercom.create_contact(user("bob@x.example"));
    minutes(20).await;
    world.full().await;
    world.intercom.delete(&jo).unwrap();
    world.brevo.delete(ADDRESS);
    until_it_is_known(&world).await;
    assert!(matches!(forget(&world, false).await, Forgotten::Done { .. }));
    world.intercom.set_email(&bob, Some(ADDRESS)).unwrap();
    minutes(20).await;
    world.full().await;
    let renamed = world.brevo.contact_by_email(ADDRESS).unwrap();
    assert!(renamed.email_blacklisted);
}

#[tokio::test(start_paused = true)]
async fn who_was_gone_in_brevo_is_not_made_there_again() {
    let world = World::new(CONFIG);
    let jo = world.intercom.create_contact(user(ADDRESS));
    minutes(20).await;
    world.full().await;
    world.brevo.delete(ADDRESS);
    minutes(20).await;
    world.full().await;
    let Forgotten::There(there) = forget(&world, false).await else { panic!("forgotten though there") };
    assert_eq!(there.iter().map(|there| (there.side, &there.id)).collect::<Vec<_>>(), [(SideName::Intercom, &jo)]);
    let Forgotten::Done { there, .. } = forget(&world, true).await else { panic!("not forgotten") };
    assert_eq!(there.len(), 1);
    assert_eq!(world.store.read(|tx| tx.counts()).await.unwrap().intercom_contacts, 0);
    for _ in 0..2 {
        minutes(20).await;
        world.full().await;
        assert_eq!(world.store.read(|tx| tx.counts()).await.unwrap().intercom_contacts, 1, "it is read again");
        assert!(world.brevo.contact_by_email(ADDRESS).is_none(), "and not made again");
    }
    let notices = world.store.read(|tx| tx.notices(Some("brevo_contact_gone"), 10)).await.unwrap();
    assert_eq!(notices.len(), 1);
    // Whoever signs up anew at that address is somebody who came back.
    world.intercom.delete(&jo).unwrap();
    until_it_is_known(&world).await;
    assert!(matches!(forget(&world, false).await, Forgotten::Done { .. }));
    world.intercom.create_contact(user(ADDRESS));
    minutes(20).await;
    world.full().await;
    assert!(world.brevo.contact_by_email(ADDRESS).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_webhook_that_waits_goes_on_without_them_and_its_opt_out_is_remembered() {
    let world = World::new(CONFIG);
    let jo = world.intercom.create_contact(user(ADDRESS));
    minutes(20).await;
    world.full().await;
    let event = |event: &str, email: &str| json!({"event": event, "email": email, "id": 1, "ts_event": 1_790_000_000});
    let batch = json!([event("unsubscribed", ADDRESS), event("contact_updated", "bob@x.example")]).to_string();
    let (now, alone) = (world.doors.clock.now(), event("opened", ADDRESS).to_string());
    world
        .store
        .write(move |tx| {
            tx.put_brevo_inbox("batch", batch.as_bytes(), now)?;
            tx.put_brevo_inbox("opened", alone.as_bytes(), now)?;
            tx.put_inbox(Some("notif"), "contact.user.tag.created", format!("{{\"id\":\"{jo}\"}}").as_bytes(), now)
        })
        .await
        .unwrap();
    assert!(matches!(forget(&world, true).await, Forgotten::Done { opted_out: true, .. }));
    let left = world.store.read(|tx| tx.open_inbox(10)).await.unwrap();
    let [batch] = left.as_slice() else { panic!("{left:?}") };
    let text = String::from_utf8(batch.body.clone()).unwrap();
    assert!(text.contains("bob@x.example") && !text.contains(ADDRESS), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_daemon_forgets_as_ordered_and_the_order_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.db");
    let world = with_file(&path);
    let jo = world.intercom.create_contact(user(ADDRESS));
    minutes(20).await;
    world.full().await;
    world.intercom.delete(&jo).unwrap();
    world.brevo.delete(ADDRESS);
    until_it_is_known(&world).await;
    let daemon = Daemon::new(Arc::clone(&world.connection), config(CONFIG).schedule);
    let (stop, mut tasks) = (CancellationToken::new(), tokio::task::JoinSet::new());
    let stopped = stop.clone();
    tasks.spawn(async move { daemon.run(stopped).await.unwrap() });
    minutes(5).await;
    let client = Store::open_beside(&path).unwrap();
    let id = place(&client, &Order::Forget(ask(false)), world.doors.clock.now()).await.unwrap();
    minutes(1).await;
    let ended = look(&client, id).await.unwrap().unwrap().end.expect("carried out within seconds");
    let Ended::Forgotten(outcome) = ended else { panic!("{ended:?}") };
    assert!(matches!(*outcome, Forgotten::Done { intercom: 1, brevo: 1, scrubbed: Ok(()), .. }), "{outcome:?}");
    for (file, bytes) in bytes_of(folder.path()) {
        assert!(!holds(&bytes, ADDRESS), "{file}");
    }
    stop.cancel();
    tasks.join_next().await.unwrap().unwrap();
}
