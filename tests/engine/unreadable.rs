//! Rows of the state that cannot be read back: they hold up nobody, and are read anew.

use crate::harness::{World, minutes};
use linkspan::engine::{Progress, Silent, Stage, SyncOptions};
use linkspan::sandbox::Fault;
use linkspan::sandbox::intercom::ContactSeed;
use linkspan::store::{Calling, Store};
use serde_json::json;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use tempfile::TempDir;

const CONFIG: &str = "
connectors:
  intercom:
    lists:
      all_users: Users
";

/// A world whose state is a file, so that it can be damaged.
struct Damaged {
    world: World,
    path: PathBuf,
    _folder: TempDir,
}

impl Damaged {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.db");
        let mut world = World::new(CONFIG);
        world.store = Store::open(&path, Calling::Inline).unwrap();
        world.restart(CONFIG);
        Self { world, path, _folder: folder }
    }

    fn user(&self, name: &str) -> String {
        let email = Some(format!("{name}@x.example"));
        self.world.intercom.create_contact(ContactSeed {
            email,
            name: Some(format!("{name} Old")),
            ..ContactSeed::default()
        })
    }

    fn rename(&self, id: &str) {
        self.world.intercom.edit_contact(id, &json!({"name": "New Name"})).unwrap();
    }

    fn damage(&self, sql: &str) {
        let state = rusqlite::Connection::open(&self.path).unwrap();
        assert_eq!(state.execute(sql, []).unwrap(), 1, "{sql}");
    }

    async fn listed(&self) -> Vec<String> {
        let failures = self.world.store.read(|tx| tx.failures(100)).await.unwrap();
        assert!(!format!("{failures:?}").contains("x.example"), "nothing personal: {failures:?}");
        let mut listed: Vec<String> = failures.into_iter().map(|failure| failure.subject).collect();
        listed.sort();
        listed
    }

    fn last_name(&self, name: &str) -> serde_json::Value {
        self.world.attribute(&format!("{name}@x.example"), "LASTNAME").unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn a_page_replaces_what_cannot_be_read_and_nobody_waits_for_it() {
    let state = Damaged::new();
    let [ann, bob, cat, dan] = ["ann", "bob", "cat", "dan"].map(|name| state.user(name));
    for _ in 0..2 {
        // After the second, Brevo shows no more what the first has written.
        minutes(10).await;
        state.world.sync().await;
    }
    let brevo_bob = state.world.brevo.contact_by_email("bob@x.example").unwrap().id;
    state.damage(&format!("UPDATE intercom_contacts SET record = x'ff' WHERE id = '{ann}'"));
    state.damage(&format!("UPDATE brevo_contacts SET record = x'8101' WHERE id = {brevo_bob}"));
    state.damage("UPDATE links SET base = x'ff00' WHERE email = 'cat@x.example'");
    for id in [&ann, &bob, &cat, &dan] {
        state.rename(id);
    }
    minutes(10).await;
    state.world.sync().await;
    assert_eq!(state.last_name("dan"), "Name", "nobody waits for what cannot be read");
    assert_eq!(state.last_name("ann"), "Name", "the page that shows her replaces what was there");
    let listed = state.listed().await;
    assert_eq!(listed.len(), 2, "{listed:?}");
    assert_eq!(listed[0], format!("Brevo contact {brevo_bob}"));
    assert!(listed[1].starts_with("link "), "{listed:?}");

    minutes(1).await;
    state.world.sync().await;
    assert_eq!(state.last_name("bob"), "Name", "read anew by id");
    assert_eq!(state.last_name("cat"), "Old", "what both agreed on cannot be read anew: left alone");
    let listed = state.listed().await;
    assert_eq!(listed.len(), 1, "no longer listed once it is replaced: {listed:?}");
    let writes = state.world.brevo_writes();
    state.world.full().await;
    state.world.full().await;
    assert_eq!(state.world.brevo_writes(), writes);
}

#[tokio::test(start_paused = true)]
async fn somebody_who_cannot_be_read_and_is_gone_is_gone() {
    let state = Damaged::new();
    let [ann, bob] = ["ann", "bob"].map(|name| state.user(name));
    minutes(10).await;
    state.world.sync().await;
    state.damage(&format!("UPDATE intercom_contacts SET record = x'ff' WHERE id = '{ann}'"));
    state.world.intercom.delete(&ann).unwrap();
    state.rename(&bob);
    minutes(10).await;
    for _ in 0..2 {
        state.world.full().await;
        minutes(20).await;
    }
    assert_eq!(state.last_name("bob"), "Name");
    let counts = state.world.store.read(|tx| tx.counts()).await.unwrap();
    assert_eq!(counts.notices.get("deleted_in_intercom"), Some(&1), "{:?}", counts.notices);
}

/// Damages the state once everything is on its way.
struct Vandal<'a>(&'a Damaged, AtomicBool);

impl Progress for Vandal<'_> {
    fn stage(&self, stage: Stage, _: u64, _: Option<u64>) {
        if stage == Stage::ReadingBack && !self.1.swap(true, Ordering::SeqCst) {
            self.0.damage("UPDATE links SET base = x'ff', pending_base = x'ff' WHERE email = 'p3@x.example'");
            self.0.damage("UPDATE links SET flights = x'ff' WHERE email = 'p4@x.example'");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_import_is_settled_for_all_but_those_who_cannot_be_read() {
    const PEOPLE: usize = 300;
    let state = Damaged::new();
    for n in 0..PEOPLE {
        state.user(&format!("p{n}"));
    }
    minutes(10).await;
    let vandal = Vandal(&state, AtomicBool::new(false));
    let summary = state.world.connection.sync(&SyncOptions::default(), &vandal).await.unwrap();
    assert!(vandal.1.load(Ordering::SeqCst) && summary.written.imported > 0, "{summary:?}");
    minutes(10).await;
    state.world.connection.sync(&SyncOptions { full: true, ..SyncOptions::default() }, &Silent).await.unwrap();
    let counts = state.world.store.read(|tx| tx.counts()).await.unwrap();
    assert_eq!((counts.contacts_synced, counts.pending), (PEOPLE as u64, 0), "nobody is left in the import");
    assert_eq!(state.listed().await.len(), 1, "only what both had agreed on cannot be had again");
    assert_eq!(state.world.brevo.contact_count(), PEOPLE);
}

/// What both sides agreed on says nothing about what somebody wants now.
#[tokio::test(start_paused = true)]
async fn a_new_opt_out_reaches_brevo_though_what_was_agreed_on_cannot_be_read() {
    let state = Damaged::new();
    let [ann, bob, cat, _dan] = ["ann", "bob", "cat", "dan"].map(|name| state.user(name));
    for _ in 0..2 {
        minutes(10).await;
        state.world.sync().await;
    }
    let out = |name: &str| state.world.brevo.contact_by_email(&format!("{name}@x.example")).unwrap().email_blacklisted;
    for name in ["ann", "bob", "cat", "dan"] {
        state.damage(&format!("UPDATE links SET base = x'ff00' WHERE email = '{name}@x.example'"));
    }
    // Found out before the opt-out, with it, and while Brevo is away.
    state.rename(&ann);
    minutes(10).await;
    state.world.sync().await;
    assert_eq!(state.listed().await.len(), 1);
    for id in [&ann, &bob] {
        state.world.intercom.unsubscribe(id).unwrap();
    }
    state.rename(&bob);
    minutes(10).await;
    state.world.sync().await;
    assert!(out("ann") && out("bob") && !out("dan"));
    assert_eq!(state.last_name("bob"), "Old", "nothing else is written");
    state.world.intercom.unsubscribe(&cat).unwrap();
    minutes(10).await;
    for _ in 0..10 {
        state.world.brevo.fail("identifierType=contact_id", Fault::Status(503, None));
    }
    state.world.sync().await;
    assert!(!out("cat"));
    state.world.brevo.knobs(|knobs| knobs.common.faults.clear());
    minutes(10).await;
    state.world.sync().await;
    assert!(out("cat"), "tried again");
    assert_eq!(state.listed().await.len(), 3, "and all are listed");

    // Their own opt-in in Brevo stands.
    state.world.brevo.resubscribe("ann@x.example");
    let writes = state.world.brevo_writes();
    for _ in 0..2 {
        minutes(10).await;
        state.world.full().await;
    }
    assert!(!out("ann"));
    assert_eq!(state.world.brevo_writes(), writes);
}
