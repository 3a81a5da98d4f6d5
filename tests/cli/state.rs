//! The state file: there is none, it is damaged, somebody else has it.

use crate::world::{World, folder_with, run, trimmed};

#[test]
fn status_without_a_state_says_so_and_makes_none() {
    let folder = folder_with("connectors:\n  intercom: {access_token: a}\n  brevo: {api_key: b}\n");
    let ran = run(folder.path(), &["status"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    insta::assert_snapshot!("status_without_a_state", trimmed(&ran.out));
    let ran = run(folder.path(), &["status", "--json"]);
    let status = ran.json();
    for key in
        ["connected", "lastSync", "contactsSynced", "conversationsSynced", "companiesSynced", "pending", "failed"]
    {
        assert!(status.get(key).is_some(), "{key}");
    }
    assert_eq!(status["connected"], false);
    assert!(!folder.path().join("state").exists());
    assert_eq!(run(folder.path(), &["failed", "list"]).code, 1);
    assert_eq!(run(folder.path(), &["failed", "retry"]).code, 1);
    assert!(!folder.path().join("state").exists());
}

#[test]
fn a_damaged_state_says_what_to_do_and_what_it_costs() {
    let world = World::new(5, "");
    std::fs::create_dir_all(world.state().parent().unwrap()).unwrap();
    std::fs::write(world.state(), "this is no database, and long enough to be taken for a header of one".repeat(40))
        .unwrap();
    for command in ["sync", "status", "run"] {
        let ran = world.run(&[command]);
        assert_eq!(ran.code, 1, "{}{}", ran.out, ran.err);
        assert!(
            ran.err.contains("damaged") && ran.err.contains("backup") && ran.err.contains("Lost are"),
            "{}",
            ran.err
        );
    }
    let tested = world.run(&["test"]);
    assert!(tested.out.contains("✗ State: the state is damaged") && tested.out.contains("→ Stop"), "{}", tested.out);
}

#[test]
fn a_second_one_on_a_state_is_told_who_holds_it() {
    let world = World::new(20, "");
    let state = world.folder.path().join("state/linkspan.db");
    let owner = linkspan::store::Owner::acquire(&state, "`linkspan run` (process 4711)").unwrap();
    for command in [&["run"][..], &["sync"]] {
        let ran = world.run(command);
        assert_eq!(ran.code, 75, "{command:?}: {}", ran.err);
        assert!(ran.err.contains("process 4711"), "{}", ran.err);
    }
    assert_eq!(world.brevo.log().len() + world.intercom.log().len(), 0, "nobody was called");
    drop(owner);
}

/// What a newer version has written may mean anything: every command refuses it, and changes nothing.
#[test]
fn a_state_of_a_newer_version_is_refused_and_left_as_it_is() {
    let world = World::new(20, "");
    assert_eq!(world.run(&["sync"]).code, 0);
    let state = rusqlite::Connection::open(world.state()).unwrap();
    let known: i64 = state.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    state.pragma_update(None, "user_version", known + 7).unwrap();
    drop(state);
    let (tables, writes) = (world.tables(), world.writes());
    let commands = [
        &["sync"][..],
        &["sync", "--dry-run"],
        &["run"],
        &["status"],
        &["mapping", "preview"],
        &["failed", "list"],
        &["failed", "retry"],
        &["conflicts"],
    ];
    for command in commands {
        let ran = world.run(command);
        assert_eq!(ran.code, 1, "{command:?}: {}{}", ran.out, ran.err);
        assert!(ran.err.contains("newer"), "{command:?}: {}", ran.err);
    }
    assert_eq!(world.writes(), writes, "nothing was sent");
    let state = rusqlite::Connection::open(world.state()).unwrap();
    let version: i64 = state.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    assert_eq!(version, known + 7);
    assert!(world.tables() == tables, "and nothing was written");
}
