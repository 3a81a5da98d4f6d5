//! The power goes at any named place; the program starts again on the same file and ends where an undisturbed run ends.

use crate::harness::{USERS_AND_LEADS, World};
use linkspan::doors::CrashPoints;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Stops at the nth time that a place is reached, as if the power had gone: by a panic that unwinds the task. What was
/// in a transaction is rolled back, what was in memory is lost.
#[derive(Default)]
pub struct CrashAt {
    place: Mutex<Option<(&'static str, usize)>>,
    seen: AtomicUsize,
    pub fired: AtomicBool,
    reached: Mutex<BTreeMap<&'static str, usize>>,
}

impl CrashAt {
    pub fn arm(&self, place: &'static str, nth: usize) {
        *self.place.lock().unwrap() = Some((place, nth));
        self.seen.store(0, Ordering::SeqCst);
        self.fired.store(false, Ordering::SeqCst);
    }
}

impl CrashPoints for CrashAt {
    fn reach(&self, name: &'static str) {
        *self.reached.lock().unwrap().entry(name).or_default() += 1;
        let armed = *self.place.lock().unwrap();
        if let Some((place, nth)) = armed
            && place == name
            && self.seen.fetch_add(1, Ordering::SeqCst) + 1 == nth
        {
            *self.place.lock().unwrap() = None;
            self.fired.store(true, Ordering::SeqCst);
            std::panic::resume_unwind(Box::new("the power went"));
        }
    }
}

type Account = BTreeMap<String, (bool, Vec<(String, String)>, Vec<i64>)>;

/// What counts: absent and `false` are one value, and the technical list only says that somebody went by import.
fn account(world: &World) -> Account {
    let lists = [world.brevo.list_id("Users"), world.brevo.list_id("Leads")];
    world
        .brevo
        .contacts()
        .into_iter()
        .map(|contact| {
            let values = contact.attributes.iter().filter(|(_, value)| **value != serde_json::Value::Bool(false));
            let values = values.map(|(name, value)| (name.clone(), value.to_string())).collect();
            let on = contact.list_ids.into_iter().filter(|list| lists.contains(&Some(*list))).collect();
            (contact.email.unwrap(), (contact.email_blacklisted, values, on))
        })
        .collect()
}

#[expect(clippy::disallowed_methods, reason = "the run is awaited; a task is what a crash can unwind")]
pub async fn run_to_the_end(world: &mut World, crash: &Arc<CrashAt>) {
    let connection = world.connection.clone();
    let run = tokio::spawn(async move {
        connection.sync(&linkspan::engine::SyncOptions::default(), &linkspan::engine::Silent).await.map(drop)
    });
    match run.await {
        Ok(result) => {
            result.unwrap();
            *crash.place.lock().unwrap() = None;
        }
        Err(gone) => {
            assert!(gone.is_panic() && crash.fired.load(Ordering::SeqCst));
            tokio::time::sleep(Duration::from_secs(5)).await;
            let yaml = world.config.clone();
            world.restart(&yaml);
            world.sync().await;
        }
    }
    // Writes without an answer are verified once they cannot land any more.
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_secs(300)).await;
        world.sync().await;
    }
}

async fn crash_everywhere(contacts: usize, places: &[&'static str]) {
    let undisturbed = {
        let mut world = World::new(USERS_AND_LEADS);
        world.intercom.world(21, contacts);
        let crash = Arc::new(CrashAt::default());
        run_to_the_end(&mut world, &crash).await;
        account(&world)
    };
    for place in places {
        for nth in [1, 2, 5] {
            let crash = Arc::new(CrashAt::default());
            let mut world = World::with_crashes(USERS_AND_LEADS, crash.clone());
            world.intercom.world(21, contacts);
            crash.arm(place, nth);
            run_to_the_end(&mut world, &crash).await;
            if nth == 1 {
                assert!(crash.fired.load(Ordering::SeqCst), "{place} was never reached");
            }
            let now = account(&world);
            let odd: Vec<_> = undisturbed
                .keys()
                .chain(now.keys())
                .filter(|email| undisturbed.get(*email) != now.get(*email))
                .map(|email| format!("{email}: {:?}\n  instead of {:?}", now.get(email), undisturbed.get(email)))
                .collect();
            assert!(odd.is_empty(), "after a crash at {place} ({nth}), {} differ:\n{}", odd.len(), odd.join("\n"));
            let before = world.brevo_writes();
            world.sync().await;
            assert_eq!(world.brevo_writes(), before, "{place} ({nth}): the next cycle wrote");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_crash_in_a_small_sync_changes_nothing_about_its_end() {
    crash_everywhere(60, &["after_page", "after_intent", "after_remote_write"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_crash_in_a_backfill_changes_nothing_about_its_end() {
    crash_everywhere(700, &["after_page", "after_import_intent", "after_import_sent"]).await;
}
