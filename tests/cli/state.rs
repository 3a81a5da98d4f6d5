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

#[test]
fn a_state_is_copied_checked_and_made_smaller() {
    let world = World::new(20, "");
    for command in [&["state", "backup", "copy.db"][..], &["state", "verify"], &["state", "vacuum"]] {
        let ran = world.run(command);
        assert_eq!(ran.code, 1, "{command:?}");
        assert!(ran.err.contains("there is no state yet"), "{}", ran.err);
    }
    assert!(!world.state().exists());
    assert_eq!(world.run(&["sync"]).code, 0);
    let copy = world.folder.path().join("copy.db");
    let name = copy.to_str().unwrap();

    // Somebody owns it, and reads and copies go on.
    let owner = linkspan::store::Owner::acquire(&world.state(), "`linkspan run` (process 4711)").unwrap();
    let ran = world.run(&["state", "backup", name]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.out.contains("copy.db: ") && ran.err.contains("personal data"), "{}{}", ran.out, ran.err);
    let again = world.run(&["state", "backup", name]);
    assert!(again.code == 1 && again.err.contains("already"), "{}", again.err);
    let ran = world.run(&["state", "verify"]);
    assert!(ran.code == 0 && ran.out.contains("records: sound"), "{}{}", ran.out, ran.err);
    assert_eq!(world.run(&["state", "vacuum"]).code, 75);
    drop(owner);

    let all = world.run(&["state", "verify", "--json"]).json();
    let copied = world.run(&["state", "verify", name, "--json"]).json();
    assert_eq!(all, copied, "the copy holds all of it");
    assert!(all["records"].as_u64() > Some(40), "{all}");
    let ran = world.run(&["state", "vacuum"]);
    assert!(ran.code == 0 && ran.out.contains(" → "), "{}{}", ran.out, ran.err);
    assert_eq!(world.run(&["state", "verify", "--json"]).json(), all);

    // A record that cannot be read, and then a page that nobody wrote.
    let damage = rusqlite::Connection::open(&copy).unwrap();
    damage.execute("UPDATE links SET base = x'00ff' WHERE id = (SELECT min(id) FROM links)", []).unwrap();
    drop(damage);
    let ran = world.run(&["state", "verify", name]);
    assert!(ran.code == 1 && ran.out.contains("link 1 cannot be read"), "{}{}", ran.out, ran.err);
    let mut bytes = std::fs::read(&copy).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 8_192].fill(0x5a);
    std::fs::write(&copy, bytes).unwrap();
    let ran = world.run(&["state", "verify", name]);
    assert!(ran.code == 1 && ran.err.contains("damaged"), "{}{}", ran.out, ran.err);
}
