//! `test`, and each refusal with its remedy.

use crate::world::{KEY, Ran, TOKEN, World, trimmed};
use linkspan::doors::{Clock, SystemClock};
use linkspan::sandbox::intercom::{IntercomOptions, IntercomSandbox};
use linkspan::sandbox::serve;
use std::sync::Arc;

#[test]
fn a_test_has_one_line_for_each_thing_and_writes_nothing() {
    let world = World::new(20, "");
    let ran = world.run(&["test"]);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    let lines: Vec<&str> = ran.out.lines().map(|line| line.split(':').next().unwrap()).collect();
    insta::assert_snapshot!("test_good", lines.join("\n"));
    assert_eq!(world.writes(), 0);
    world.assert_tells_nothing(&ran);
}

/// What `sync` refuses before its first write, `test` shows before: each with what helps, and nothing is written.
#[test]
fn a_test_shows_what_a_sync_would_refuse() {
    let world = World::new(20, "");
    let path = world.folder.path().join("config.yaml");
    let good = std::fs::read_to_string(&path).unwrap();
    let both = |config: &str| {
        std::fs::write(&path, config).unwrap();
        let tested = world.run(&["test"]);
        assert_eq!(world.writes(), 0, "{}", tested.out);
        assert!(!world.state().exists(), "and makes no state");
        assert_eq!(tested.code, 78, "{}{}", tested.out, tested.err);
        assert!(!tested.out.contains("a sync works") && !tested.err.contains("a sync works"), "{}", tested.err);
        tested.out
    };

    world.brevo.create_attribute("SIGNUP_DATE", "date");
    let clash = both(&format!("{good}field_mapping:\n  name: SIGNUP_DATE\n"));
    let line = clash.lines().find(|line| line.starts_with("✗ Mapping: ")).unwrap_or_else(|| panic!("{clash}"));
    assert!(line.contains("SIGNUP_DATE") && line.contains(" → "), "{line}");

    let lists = both(&good.replace("{all_users: Users}", "{all_users: 999, leads: 998}"));
    for (id, rule) in [("999", "all_users"), ("998", "leads")] {
        let named =
            |line: &&str| line.starts_with("✗ Lists of the config: ") && line.contains(id) && line.contains(rule);
        assert!(lists.lines().find(named).is_some_and(|line| line.contains(" → ")), "{id} in {lists}");
    }
    assert!(lists.contains("✓ Mapping: fits"), "{lists}");
    // An attribute and two lists: all at once, each where it is written.
    let wrong = good.replace("{all_users: Users}", "{all_users: 999, leads: 998}");
    let all = both(&format!("{wrong}field_mapping:\n  name: SIGNUP_DATE\n"));
    assert_eq!(all.lines().filter(|line| line.starts_with("✗ ") && line.contains(" config.yaml:")).count(), 3, "{all}");
    let before = world.brevo.log().writes().len();
    for command in ["sync", "run"] {
        let refused = world.run(&[command]);
        assert_eq!(refused.code, 78, "{}", refused.err);
        let told = refused.err.find("  ×").and_then(|at| refused.err.get(at..)).unwrap_or_default();
        insta::assert_snapshot!("misfits", trimmed(told));
        let refused = world.run(&[command, "--json"]);
        let line = refused.err.lines().find(|line| line.starts_with("{\"errors\"")).unwrap();
        let errors: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!((&errors["errors"][2]["line"], &errors["errors"][2]["column"]), (&15.into(), &9.into()), "{errors}");
    }
    assert_eq!((world.brevo.contact_count(), world.brevo.log().writes().len()), (0, before), "nothing was made");
}

/// Only the workspace can tell that it has no such attribute. It is no reason not to start.
#[test]
fn a_test_doubts_an_attribute_that_the_workspace_has_not() {
    let world = World::new(5, "field_mapping:\n  custom_attributes.plan_teir: PLAN\n");
    let ran = world.run(&["test"]);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    let line = ran.out.lines().find(|line| line.starts_with("✗ Mapping: config.yaml:15:3: "));
    assert!(line.is_some_and(|line| line.ends_with("did you mean `custom_attributes.plan_tier`?")), "{}", ran.out);
    let synced = world.run(&["sync"]);
    assert!(synced.err.contains("config.yaml:15:3: the workspace has no attribute"), "{}", synced.err);
}

/// The default mapping stands nowhere; that is said instead of a place.
#[test]
fn a_clash_with_the_default_mapping_says_that_nobody_wrote_it() {
    let world = World::new(5, "");
    world.brevo.create_attribute("SIGNUP_DATE", "boolean");
    let refused = world.run(&["sync"]);
    assert_eq!(refused.code, 78, "{}", refused.err);
    insta::assert_snapshot!("misfit_of_the_default_mapping", trimmed(&refused.err));
}

#[test]
fn a_connector_that_is_switched_off_is_said_and_not_ticked() {
    let world = World::new(5, "");
    let path = world.folder.path().join("config.yaml");
    let good = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, good.replace("  intercom:\n", "  intercom:\n    enabled: false\n")).unwrap();
    let asked = world.intercom.log().len();
    for command in ["test", "run", "sync"] {
        let ran = world.run(&[command]);
        assert_eq!(ran.code, 78, "{}{}", ran.out, ran.err);
        assert!(ran.err.contains("config.yaml:3:14") && ran.err.contains("nothing will be synced"), "{}", ran.err);
        if command == "test" {
            assert!(ran.out.starts_with("✗ Intercom connector: switched off"), "{}", ran.out);
        } else {
            assert!(ran.err.contains("enabled is false"), "{}", ran.err);
        }
    }
    assert_eq!(world.intercom.log().len(), asked);
}

#[test]
fn a_test_shows_that_the_state_is_of_other_accounts_and_leaves_it_as_it_is() {
    let world = World::new(20, "");
    assert_eq!(world.run(&["sync"]).code, 0);
    assert_eq!(world.run(&["test"]).code, 0);
    let state = rusqlite::Connection::open(world.state()).unwrap();
    assert_eq!(state.execute("UPDATE meta SET value = 'another' WHERE key = 'intercom'", []).unwrap(), 1);
    drop(state);
    let (tables, before) = (world.tables(), world.writes());
    let ran = world.run(&["test"]);
    assert_eq!(ran.code, 1, "{}{}", ran.out, ran.err);
    let line = ran.out.lines().find(|line| line.starts_with("✗ State: ")).unwrap_or_else(|| panic!("{}", ran.out));
    assert!(line.contains("another") && line.contains("→ Name another `state.path`"), "{line}");
    assert!(ran.out.contains("✓ Mapping: fits"), "the accounts are looked at all the same: {}", ran.out);
    assert_eq!((world.tables() == tables, world.writes()), (true, before), "nothing was written");
    let retried = world.run(&["failed", "retry"]);
    assert_eq!(retried.code, 1, "{}{}", retried.out, retried.err);
    assert!(world.tables() == tables, "nothing was taken up again");
    assert_eq!(world.run(&["sync"]).code, 1);
}

#[test]
fn each_refusal_has_its_own_remedy() {
    let world = World::new(20, "");
    let path = world.folder.path().join("config.yaml");
    let good = std::fs::read_to_string(&path).unwrap();

    std::fs::write(&path, good.replace(TOKEN, "dG9rOndyb25n")).unwrap();
    let ran = world.run(&["test"]);
    assert_eq!(ran.code, 1);
    assert!(ran.out.contains("✗ Intercom API") && ran.out.contains("access token is wrong"), "{}", ran.out);
    let once = |said: &str, words: &str| {
        assert_eq!(said.to_lowercase().matches(words).count(), 1, "what helps is said once: {said}");
    };
    once(&ran.out, "token is wrong");
    assert!(ran.out.contains("✓ Brevo API"), "the other side is tried all the same: {}", ran.out);
    for line in ["Intercom contacts readable", "Intercom companies readable", "Mapping", "Lists of the config"] {
        let line = format!("✗ {line}: not asked: see Intercom API");
        assert!(ran.out.contains(&line), "no line is left out: {line}\n{}", ran.out);
    }
    assert!(ran.out.contains("✓ State: none yet"), "the state needs no API: {}", ran.out);
    let ran = world.run(&["sync"]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("help: The access token is wrong"), "{}", ran.err);
    once(&ran.err, "token is wrong");
    let status = world.run(&["status"]);
    once(&status.out, "token is wrong");
    assert!(status.out.contains("Intercom: not let in") && status.out.contains("→ The access token"), "{}", status.out);
    let status = world.run(&["status", "--json"]).json();
    assert_eq!(
        (status["connected"].as_bool(), status["refusals"][0]["side"].as_str()),
        (Some(false), Some("intercom"))
    );

    std::fs::write(&path, good.replace(KEY, "xkeysib-wrong")).unwrap();
    let ran = world.run(&["test"]);
    assert!(ran.out.contains("✗ Brevo API") && ran.out.contains("API key is wrong"), "{}", ran.out);
    once(&ran.out, "key is wrong");

    std::fs::write(&path, &good).unwrap();
    world.brevo.knobs(|knobs| knobs.ip_blocked = true);
    let ran = world.run(&["test"]);
    assert!(ran.out.contains("✗ Brevo API") && ran.out.contains("Authorised IPs"), "{}", ran.out);
    once(&ran.out, "authorised ips");
    assert_eq!(world.writes(), 0);

    world.brevo.knobs(|knobs| knobs.ip_blocked = false);
    assert_eq!(world.run(&["sync"]).code, 0);
    let status = world.run(&["status", "--json"]).json();
    assert_eq!((status["connected"].as_bool(), status["refusals"].as_array().unwrap().len()), (Some(true), 0));
}

/// The same account an hour away from this machine's clock.
#[derive(Debug)]
struct Off(i64);

impl Clock for Off {
    fn now(&self) -> chrono::DateTime<chrono::Utc> {
        SystemClock.now() + chrono::TimeDelta::seconds(self.0)
    }
}

#[test]
fn a_clock_that_is_off_is_crossed_and_stops_nothing() {
    let world = World::new(5, "");
    let good = std::fs::read_to_string(world.folder.path().join("config.yaml")).unwrap();
    let clock = |ran: &Ran| ran.out.lines().find(|line| line.contains(" Clock: ")).unwrap_or_default().to_owned();
    let ran = world.run(&["test"]);
    assert!(clock(&ran).starts_with("✓ Clock: "), "{}", ran.out);
    for (off, words) in [(3_600, "behind"), (-3_600, "ahead")] {
        let intercom = IntercomSandbox::new(IntercomOptions {
            access_token: TOKEN.to_owned(),
            clock: Arc::new(Off(off)),
            ..IntercomOptions::default()
        });
        let serving = world.runtime.block_on(async { serve(intercom.router(), 0).await.unwrap() });
        let config = good.replace(&world.serving.0.base_url(), &serving.base_url());
        std::fs::write(world.folder.path().join("config.yaml"), config).unwrap();
        let ran = world.run(&["test"]);
        let line = clock(&ran);
        assert!(line.starts_with("✗ Clock: this machine is 3") && line.contains(&format!(" s {words} → ")), "{line}");
        assert!(line.contains("NTP"), "{line}");
        assert_eq!(ran.code, 0, "nothing hangs on it: {}{}", ran.out, ran.err);
        assert!(ran.err.contains("a sync works"), "{}", ran.err);
        world.runtime.block_on(serving.stop());
    }
}

/// While Intercom is down, whether the state can be used is known all the same.
#[test]
fn the_state_is_looked_at_while_a_vendor_is_down() {
    let world = World::new(5, "");
    assert_eq!(world.run(&["sync"]).code, 0);
    let path = world.folder.path().join("config.yaml");
    let good = std::fs::read_to_string(&path).unwrap();
    for (down, whose) in [(world.serving.0.base_url(), "Intercom API"), (world.serving.1.base_url(), "Brevo API")] {
        // Nobody listens there.
        std::fs::write(&path, good.replace(&down, "http://127.0.0.1:9")).unwrap();
        let ran = world.run(&["test"]);
        assert_eq!(ran.code, 1, "{}", ran.out);
        let line = format!("✓ State: sound and of this version; of which accounts is not known: see {whose}");
        assert!(ran.out.contains(&line), "{}", ran.out);
    }
    let state = rusqlite::Connection::open(world.state()).unwrap();
    state.pragma_update(None, "user_version", 99).unwrap();
    drop(state);
    let ran = world.run(&["test"]);
    assert!(ran.out.contains("✗ State: ") && ran.out.contains("newer"), "{}", ran.out);
}
