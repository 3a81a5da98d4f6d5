//! `sync`.

use crate::world::{World, folder_with, run};
use linkspan::sandbox::Fault;
use linkspan::sandbox::intercom::ContactSeed;

#[test]
fn a_dry_run_sends_no_write_and_a_sync_writes_once() {
    let world = World::new(60, "");
    let dry = world.run(&["sync", "--full", "--dry-run", "--json"]);
    assert_eq!(dry.code, 0, "{}", dry.err);
    assert_eq!(world.writes(), 0, "a dry run sends no write at all");
    let truth = world.intercom.truth();
    assert_eq!(dry.json()["creates"], truth.distinct_emails);
    assert!(dry.json()["joins"]["Users"].as_u64().unwrap() > 0, "{}", dry.out);
    world.assert_tells_nothing(&dry);
    assert!(!world.state().exists(), "and makes no state");

    let nobody = world.run(&["mapping", "preview"]);
    assert_eq!(nobody.code, 1, "{}", nobody.out);
    assert!(nobody.err.contains("mapping preview"), "says what helps: {}", nobody.err);
    let preview = world.run(&["mapping", "preview", &world.somebody()]);
    assert_eq!(preview.code, 0, "{}", preview.err);
    assert!(preview.out.contains("would write"), "{}", preview.out);
    assert_eq!(world.writes(), 0, "nor does a preview");
    assert!(!world.state().exists());

    let sync = world.run(&["sync"]);
    assert_eq!(sync.code, 0, "{}{}", sync.out, sync.err);
    assert!(sync.out.contains("Sync ok"), "{}", sync.out);
    assert!(sync.err.contains("Reading Intercom contacts"), "plain lines without a terminal: {}", sync.err);
    assert!(!sync.err.contains('\u{1b}') && !sync.out.contains('\u{1b}'), "no colour without a terminal");
    world.assert_tells_nothing(&sync);
    assert_eq!(world.brevo.contact_count(), truth.distinct_emails);
    assert_eq!(world.intercom.log().writes().len(), 0, "there is nothing for Intercom");

    let before = world.writes();
    let quiet = world.run(&["sync"]);
    assert!(!quiet.err.contains("Reading imports back"), "there is none: {}", quiet.err);
    let again = world.run(&["sync", "--full", "--json"]);
    assert_eq!((again.code, again.json()["outcome"].as_str()), (0, Some("ok")));
    assert_eq!(world.writes(), before, "in step, so nothing is written");

    // What a dry run reads changes nothing: the next real run reads and writes it.
    let id = world.intercom.contact_ids().remove(0);
    world.intercom.edit_contact(&id, &serde_json::json!({"name": "Zora Quill"})).unwrap();
    let tables = world.tables();
    let dry = world.run(&["sync", "--full", "--dry-run"]);
    assert_eq!(dry.code, 0, "{}", dry.err);
    assert_eq!(world.run(&["mapping", "preview"]).code, 0);
    assert_eq!(world.writes(), before);
    for (name, rows) in world.tables() {
        assert_eq!(Some(&rows), tables.get(&name), "{name}");
    }

    let status = world.run(&["status", "--json"]);
    let seen = status.json();
    assert_eq!(
        (seen["connected"].as_bool(), seen["contactsSynced"].as_u64()),
        (Some(true), Some(truth.distinct_emails as u64))
    );
    assert_eq!(seen["conversationsSynced"], truth.conversations);
    assert!(seen["apiBudget"].as_array().is_some_and(|budgets| !budgets.is_empty()));
    assert_eq!(seen["notices"]["without_email"], truth.without_email);
    world.assert_tells_nothing(&status);
    let words = world.run(&["status"]);
    assert!(words.out.contains("custom events: come with a later version"), "{}", words.out);
    world.assert_tells_nothing(&words);
    assert_eq!(world.run(&["failed", "list", "--json"]).code, 0);
    assert_eq!(world.run(&["conflicts", "--json"]).code, 0);
}

#[test]
fn full_and_since_contradict_each_other() {
    let folder = folder_with("");
    let ran = run(folder.path(), &["sync", "--full", "--since", "2024-01-01"]);
    assert_eq!(ran.code, 2, "{}", ran.err);
    assert!(ran.err.contains("--full") && ran.err.contains("--since"), "{}", ran.err);
}

#[test]
fn since_a_time_that_is_still_to_come_is_a_wrong_command_line() {
    let world = World::new(20, "");
    for dry in [&[][..], &["--dry-run"]] {
        let ran = world.run(&[&["sync", "--since", "2999-01-01"], dry].concat());
        assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{}", ran.err);
        assert!(ran.err.contains("--since") && ran.err.contains("2999-01-01") && ran.err.contains("still to come"));
    }
    assert_eq!(world.brevo.log().len() + world.intercom.log().len(), 0, "nobody was called");
    assert!(!world.state().exists());
    // Older than anything that is there: all of it.
    let ran = world.run(&["sync", "--since", "1999-01-01", "--json"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.json()["read"]["intercom contacts"]["rows"].as_u64().is_some_and(|rows| rows > 0), "{}", ran.out);
}

/// As a script sees it that has nothing but the exit code.
#[test]
fn a_run_in_which_every_record_failed_is_a_failed_run() {
    let world = World::new(0, "");
    // Attributes and lists are made; and of nobody, nobody is refused.
    assert_eq!(world.run(&["sync"]).code, 0);
    for name in ["ann", "bob", "cat"] {
        let seed = ContactSeed { email: Some(format!("{name}@x.example")), ..ContactSeed::default() };
        world.intercom.create_contact(seed);
    }
    world.brevo.knobs(|knobs| {
        for _ in 0..100 {
            knobs.common.faults.push_back(("POST /v3/contacts".to_owned(), Fault::Status(400, None)));
            knobs.common.faults.push_back(("PUT /v3/contacts/".to_owned(), Fault::Status(400, None)));
        }
    });
    let ran = world.run(&["sync"]);
    assert_eq!(ran.code, 1, "{}{}", ran.out, ran.err);
    assert_eq!(world.brevo.contact_count(), 0);
    let failed = world.run(&["failed", "list", "--json"]).json();
    assert_eq!(failed.as_array().or_else(|| failed["failed"].as_array()).map(Vec::len), Some(3), "{failed}");
    let status = world.run(&["status", "--json"]).json();
    assert_eq!(status["connected"], true, "that they were refused is not that nobody let us in: {status}");
    world.assert_tells_nothing(&ran);

    // One that is taken makes it a run that worked in part.
    world.brevo.knobs(|knobs| knobs.common.faults.clear());
    let seed = ContactSeed { email: Some("dan@x.example".to_owned()), ..ContactSeed::default() };
    world.intercom.create_contact(seed);
    let ran = world.run(&["sync"]);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    assert!(world.brevo.contact_by_email("dan@x.example").is_some());
}
