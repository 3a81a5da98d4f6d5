//! The program as its users run it: the real binary, its output, its exit codes, against both sandboxes over sockets.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "this whole file is a test; clippy only knows functions marked so"
)]

use assert_cmd::Command;
use linkspan::doors::SystemClock;
use linkspan::sandbox::brevo::{BrevoOptions, BrevoSandbox};
use linkspan::sandbox::intercom::{IntercomOptions, IntercomSandbox};
use linkspan::sandbox::{Serving, serve};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// The binary in a folder of its own, with an environment of its own.
fn linkspan(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_linkspan"));
    command.current_dir(folder).env_clear().timeout(Duration::from_secs(120));
    command
}

struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl Ran {
    fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error} in {:?}; {}", self.out, self.err))
    }
}

fn run(folder: &Path, arguments: &[&str]) -> Ran {
    let output = linkspan(folder).args(arguments).output().unwrap();
    Ran {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

fn folder_with(config: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.yaml"), config).unwrap();
    folder
}

const TOKEN: &str = "dG9rOnNlY3JldC10b2tlbi1vZi10aGUtdGVzdA==";
const KEY: &str = "xkeysib-secret-key-of-the-test";

/// Both doubles over sockets, on a runtime of their own, and a folder with a config for them.
struct World {
    runtime: tokio::runtime::Runtime,
    intercom: IntercomSandbox,
    brevo: BrevoSandbox,
    folder: TempDir,
    _serving: (Serving, Serving),
}

impl World {
    fn state(&self) -> std::path::PathBuf {
        self.folder.path().join("state/linkspan.db")
    }

    /// All rows of all tables of the state.
    fn tables(&self) -> BTreeMap<String, Vec<String>> {
        let state = rusqlite::Connection::open(self.state()).unwrap();
        let mut names = state.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'").unwrap();
        let names: Vec<String> = names.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        assert!(names.len() > 10, "{names:?}");
        let rows = |name: &String| {
            let mut statement = state.prepare(&format!("SELECT * FROM {name}")).unwrap();
            let columns = statement.column_count();
            let row = |row: &rusqlite::Row<'_>| {
                Ok((0..columns).map(|at| format!("{:?}", row.get_ref(at).unwrap())).collect::<Vec<_>>().join("|"))
            };
            statement.query_map([], row).unwrap().map(Result::unwrap).collect()
        };
        names.iter().map(|name| (name.clone(), rows(name))).collect()
    }

    /// The address of somebody in Intercom.
    fn somebody(&self) -> String {
        let ids = self.intercom.contact_ids();
        let emails: Vec<String> =
            ids.iter().filter_map(|id| Some(self.intercom.contact(id)?["email"].as_str()?.to_lowercase())).collect();
        let alone = |email: &&String| emails.iter().filter(|other| other == email).count() == 1;
        emails.iter().find(alone).unwrap().clone()
    }

    fn new(contacts: usize, more: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let intercom =
            IntercomSandbox::new(IntercomOptions { access_token: TOKEN.to_owned(), ..IntercomOptions::default() });
        let brevo = BrevoSandbox::new(BrevoOptions {
            api_key: KEY.to_owned(),
            import_delay: Duration::from_millis(100),
            ..BrevoOptions::new(1, Arc::new(SystemClock))
        });
        intercom.world(3, contacts);
        intercom.webhooks_on(false);
        let serving = runtime
            .block_on(async { (serve(intercom.router(), 0).await.unwrap(), serve(brevo.router(), 0).await.unwrap()) });
        let config = format!(
            "connectors:\n  intercom:\n    base_url: {}\n    access_token: {TOKEN}\n    lists: {{all_users: Users}}\n  \
             brevo:\n    base_url: {}/v3\n    api_key: {KEY}\nlimits:\n  brevo:\n    import_threshold: 5\nserver:\n  \
             listen: 127.0.0.1:0\n{more}",
            serving.0.base_url(),
            serving.1.base_url(),
        );
        Self { runtime, intercom, brevo, folder: folder_with(&config), _serving: serving }
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        run(self.folder.path(), arguments)
    }

    fn writes(&self) -> usize {
        self.brevo.log().writes().len() + self.intercom.log().writes().len()
    }

    /// Every secret, address, name and number of this world.
    fn private(&self) -> Vec<String> {
        let ids = self.intercom.contact_ids();
        let contacts = ids.iter().filter_map(|id| self.intercom.contact(id));
        let of_contacts = contacts.flat_map(|contact| {
            let text = |key: &str| contact[key].as_str().map(|text| text.trim().to_owned()).unwrap_or_default();
            let digits: String = text("phone").chars().filter(char::is_ascii_digit).collect();
            // A single short word may be part of any other.
            let name = if text("name").contains(' ') { text("name") } else { String::new() };
            [text("email"), name, text("phone"), digits]
        });
        let secrets = [TOKEN, KEY, self.intercom.client_secret()].map(str::to_owned);
        of_contacts.chain(secrets).filter(|text| text.len() > 5).collect()
    }

    fn assert_tells_nothing(&self, ran: &Ran) {
        for text in self.private() {
            assert!(!ran.out.contains(&text), "{text} was printed");
            assert!(!ran.err.contains(&text), "{text} was printed to standard error");
        }
    }
}

/// Without white space that nobody sees.
fn trimmed(text: &str) -> String {
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

// ------------------------------------------------------------------------------------------------ the command line --

#[test]
fn every_command_explains_itself() {
    let folder = tempfile::tempdir().unwrap();
    let help = run(folder.path(), &["--help"]);
    assert_eq!(help.code, 0);
    insta::assert_snapshot!("help", trimmed(&help.out));
    for command in
        ["run", "sync", "status", "test", "mapping", "config", "failed", "conflicts", "notices", "demo", "sandbox"]
    {
        assert_eq!(run(folder.path(), &[command, "--help"]).code, 0, "{command}");
    }
}

#[test]
fn a_wrong_command_line_is_exit_code_2_and_nothing_is_printed_as_data() {
    let folder = tempfile::tempdir().unwrap();
    for wrong in [
        &["snyc"][..],
        &["sync", "--since", "yesterday"],
        &["sync", "--resources", "contacts,deals"],
        &["sandbox", "--intercom-port", "70000"],
        &["failed", "retry", "all"],
    ] {
        let ran = run(folder.path(), wrong);
        assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{wrong:?}: {}", ran.err);
    }
}

#[test]
fn completions_are_made_for_each_shell() {
    let folder = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let ran = run(folder.path(), &["completions", shell]);
        assert_eq!(ran.code, 0, "{shell}");
        assert!(ran.out.contains("linkspan") && ran.out.contains("sandbox"), "{shell}");
    }
}

// ------------------------------------------------------------------------------------------------------ the config --

const WRONG: &str = "connectors:
  intercom:
    access_token: tok_abc
    region: uk
    acces_token: x
  brevo:
    api_key: xkeysib-1
schedule:
  contacts: {full: sometimes}
";

#[test]
fn a_good_config_is_fine() {
    let folder = folder_with("connectors:\n  intercom: {access_token: a}\n  brevo: {api_key: b}\n");
    let ran = run(folder.path(), &["config", "check"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    insta::assert_snapshot!("config_good", trimmed(&ran.out));
    let ran = run(folder.path(), &["config", "check", "--json"]);
    assert_eq!((ran.code, ran.json()["ok"].as_bool()), (0, Some(true)));
}

#[test]
fn a_bad_config_is_exit_code_78_with_every_mistake_and_nothing_is_written() {
    let folder = folder_with(WRONG);
    let ran = run(folder.path(), &["config", "check"]);
    assert_eq!((ran.code, ran.out.as_str()), (78, ""));
    insta::assert_snapshot!("config_bad", trimmed(&ran.err));
    let ran = run(folder.path(), &["--json", "config", "check"]);
    assert_eq!(ran.code, 78);
    assert!(ran.json()["errors"].as_array().unwrap().len() >= 3);
    for command in [&["sync"][..], &["run"], &["status"], &["test"], &["mapping", "test"], &["failed", "list"]] {
        assert_eq!(run(folder.path(), command).code, 78, "{command:?}");
    }
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["config.yaml"], "nothing was written");
}

#[test]
fn the_config_is_found_by_option_by_variable_and_by_name() {
    let folder = folder_with("connectors:\n  intercom: {access_token: a}\n  brevo: {api_key: b}\n");
    let other = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.yaml");
    let named = run(other.path(), &["-c", path.to_str().unwrap(), "config", "check"]);
    assert_eq!(named.code, 0);
    let variable = linkspan(other.path()).env("LINKSPAN_CONFIG", &path).args(["config", "check"]).output().unwrap();
    assert!(variable.status.success());
    let nothing = run(other.path(), &["config", "check"]);
    assert_eq!(nothing.code, 78);
    assert!(nothing.err.contains("config.yaml") && nothing.err.contains("-c"), "{}", nothing.err);
}

#[test]
fn missing_credentials_are_named_where_a_call_needs_them() {
    let folder = folder_with("connectors: {}\n");
    let ran = run(folder.path(), &["sync"]);
    assert_eq!(ran.code, 78);
    assert!(ran.err.contains("INTERCOM_ACCESS_TOKEN") && ran.err.contains("BREVO_API_KEY"), "{}", ran.err);
    assert_eq!(run(folder.path(), &["config", "check"]).code, 0, "checking needs none");
}

#[test]
fn the_schema_is_json_and_needs_no_config() {
    let folder = tempfile::tempdir().unwrap();
    let ran = run(folder.path(), &["config", "schema"]);
    assert!(ran.json()["properties"]["connectors"].is_object());
}

#[test]
fn the_examples_beside_a_mapping_are_run() {
    let good = "cases:\n  - name: a name\n    given: {name: Ada Lovelace}\n    expect: {FIRSTNAME: Ada}\n";
    let mapping = "field_mapping:\n  name: {to: [FIRSTNAME, LASTNAME], transform: split_name}\n";
    let config = "connectors:\n  intercom: {access_token: a}\n  brevo: {api_key: b}\nmappings: [m.yaml]\n";
    let folder = folder_with(config);
    std::fs::write(folder.path().join("m.yaml"), format!("{mapping}{good}")).unwrap();
    let ran = run(folder.path(), &["mapping", "test"]);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    assert!(ran.out.contains("✓ a name"), "{}", ran.out);
    std::fs::write(
        folder.path().join("m.yaml"),
        format!("{mapping}{}", good.replace("FIRSTNAME: Ada", "FIRSTNAME: Bo")),
    )
    .unwrap();
    let ran = run(folder.path(), &["mapping", "test"]);
    assert_eq!(ran.code, 1);
    assert!(ran.out.contains("expected “Bo”, got “Ada”"), "{}", ran.out);
}

// ------------------------------------------------------------------------------------------------------- the state --

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

// --------------------------------------------------------------------------------------------------- the sandboxes --

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
    assert_eq!(world.intercom.log().writes().len(), 0, "Intercom is only read");

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
fn what_status_counts_is_listed() {
    let world = World::new(60, "");
    assert_eq!(world.run(&["sync"]).code, 0);
    let without_email = world.intercom.truth().without_email;
    assert!(without_email > 1, "somebody to list");
    let status = world.run(&["status"]);
    assert!(status.out.contains("without email") && status.out.contains("linkspan notices"), "{}", status.out);

    let listed = world.run(&["notices", "without email", "--json"]);
    assert_eq!(listed.code, 0, "{}", listed.err);
    let rows = listed.json();
    assert_eq!(rows.as_array().unwrap().len(), without_email);
    for row in rows.as_array().unwrap() {
        assert_eq!(row["kind"], "without_email");
        assert!(row["subject"].as_str().unwrap().starts_with("contact ") && row["since"].is_string(), "{row}");
    }
    let few = world.run(&["notices", "without_email", "--limit", "1"]);
    assert!(few.out.contains("without email") && few.out.contains("contact "), "{}", few.out);
    assert!(few.err.contains("--limit"), "says that there are more: {}", few.err);
    let all = world.run(&["notices"]);
    assert_eq!(all.code, 0, "{}", all.err);
    world.assert_tells_nothing(&all);

    let unknown = world.run(&["notices", "without_mail"]);
    assert_eq!((unknown.code, unknown.out.as_str()), (1, ""));
    assert!(unknown.err.contains("without_email") && unknown.err.contains("kept_off_list"), "{}", unknown.err);
    let none = world.run(&["notices", "import_never_ended", "--json"]);
    assert_eq!((none.code, none.json()), (0, serde_json::json!([])));
}

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
fn full_and_since_contradict_each_other() {
    let folder = folder_with("");
    let ran = run(folder.path(), &["sync", "--full", "--since", "2024-01-01"]);
    assert_eq!(ran.code, 2, "{}", ran.err);
    assert!(ran.err.contains("--full") && ran.err.contains("--since"), "{}", ran.err);
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
    assert!(ran.out.contains("✓ Brevo API"), "the other side is tried all the same: {}", ran.out);
    for line in ["Intercom contacts readable", "Intercom companies readable", "State", "Mapping", "Lists of the config"]
    {
        let line = format!("✗ {line}: not asked: see Intercom API");
        assert!(ran.out.contains(&line), "no line is left out: {line}\n{}", ran.out);
    }
    let ran = world.run(&["sync"]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("help: The access token is wrong"), "{}", ran.err);
    let status = world.run(&["status"]);
    assert!(status.out.contains("Intercom: not let in") && status.out.contains("→ The access token"), "{}", status.out);
    let status = world.run(&["status", "--json"]).json();
    assert_eq!(
        (status["connected"].as_bool(), status["refusals"][0]["side"].as_str()),
        (Some(false), Some("intercom"))
    );

    std::fs::write(&path, good.replace(KEY, "xkeysib-wrong")).unwrap();
    let ran = world.run(&["test"]);
    assert!(ran.out.contains("✗ Brevo API") && ran.out.contains("API key is wrong"), "{}", ran.out);

    std::fs::write(&path, &good).unwrap();
    world.brevo.knobs(|knobs| knobs.ip_blocked = true);
    let ran = world.run(&["test"]);
    assert!(ran.out.contains("✗ Brevo API") && ran.out.contains("Authorised IPs"), "{}", ran.out);
    assert_eq!(world.writes(), 0);

    world.brevo.knobs(|knobs| knobs.ip_blocked = false);
    assert_eq!(world.run(&["sync"]).code, 0);
    let status = world.run(&["status", "--json"]).json();
    assert_eq!((status["connected"].as_bool(), status["refusals"].as_array().unwrap().len()), (Some(true), 0));
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

/// A daemon in the background. Its log is read as it is written.
#[cfg(unix)]
struct Background {
    process: std::process::Child,
    lines: std::sync::mpsc::Receiver<String>,
    log: String,
}

#[cfg(unix)]
impl Background {
    fn start(folder: &Path) -> Self {
        use std::io::{BufRead as _, BufReader};
        let mut process = std::process::Command::new(env!("CARGO_BIN_EXE_linkspan"))
            .current_dir(folder)
            .env_clear()
            .arg("run")
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(process.stderr.take().unwrap());
        let (sender, lines) = std::sync::mpsc::channel();
        std::thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { process, lines, log: String::new() }
    }

    /// Waits for a line of the log.
    fn says(&mut self, words: &str) {
        loop {
            match self.lines.recv_timeout(Duration::from_secs(60)) {
                Ok(line) => {
                    let found = line.contains(words);
                    self.log += &line;
                    self.log.push('\n');
                    if found {
                        return;
                    }
                }
                Err(error) => panic!("never said {words:?} ({error}):\n{}", self.log),
            }
        }
    }

    fn signal(&self, name: &str) {
        let id = self.process.id().to_string();
        assert!(std::process::Command::new("kill").args([name, &id]).status().unwrap().success());
    }
}

#[cfg(unix)]
impl Drop for Background {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

#[cfg(unix)]
#[test]
fn the_daemon_runs_reloads_and_stops_when_asked() {
    let world = World::new(20, "");
    let mut daemon = Background::start(world.folder.path());
    daemon.says("no Intercom client secret");
    let all = world.intercom.truth().distinct_emails as u64;
    let in_step = (0..2_000).any(|_| {
        let status = world.run(&["status", "--json"]);
        world.assert_tells_nothing(&status);
        let status = status.json();
        status["daemon"] == true
            && status["holder"].as_str().is_some_and(|who| who.contains("linkspan run"))
            && status["contactsSynced"].as_u64() == Some(all)
            && status["nextRun"].is_string()
    });
    assert!(in_step, "the daemon brings everybody over, and status shows it beside it");
    let second = world.run(&["run"]);
    assert_eq!(second.code, 75, "{}", second.err);
    assert!(second.err.contains(&daemon.process.id().to_string()), "names the holder: {}", second.err);

    for looks in [&["mapping", "preview"][..], &["sync", "--dry-run"]] {
        let ran = world.run(looks);
        assert_eq!(ran.code, 0, "beside the daemon, on a copy: {}", ran.err);
        assert!(ran.err.contains("a copy of it"), "{}", ran.err);
    }

    let path = world.folder.path().join("config.yaml");
    let good = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{good}nonsense: 1\n")).unwrap();
    for _ in 0..2 {
        // The same mistake is told again: compared is with what runs, not with the file as it was last read.
        daemon.log.clear();
        daemon.signal("-HUP");
        daemon.says("the old one stays");
        assert!(daemon.log.contains("nonsense"), "says why: {}", daemon.log);
    }
    std::fs::write(&path, &good).unwrap();
    daemon.signal("-HUP");
    daemon.says("config and mapping are unchanged");
    std::fs::write(&path, format!("{good}events: {{max_age: 12h}}\n")).unwrap();
    daemon.signal("-HUP");
    daemon.says("config and mapping reloaded");
    for _ in 0..2 {
        // What takes effect at the next start only does not run, however often it was read.
        std::fs::write(&path, format!("{good}events: {{max_age: 12h}}\n").replace(KEY, "xkeysib-another")).unwrap();
        daemon.signal("-HUP");
        daemon.says("`connectors.brevo.api_key` has changed");
        daemon.says("all else is unchanged");
    }
    std::fs::write(&path, &good).unwrap();
    daemon.signal("-HUP");
    daemon.says("config and mapping reloaded");
    assert!(!daemon.log.lines().last().unwrap().contains("api_key"), "it is what runs: {}", daemon.log);
    // A mapping that the account does not take: why, as often as it is asked for; and what runs is still what ran.
    world.brevo.create_attribute("SEEN", "boolean");
    std::fs::write(&path, format!("{good}field_mapping:\n  last_seen_at: {{to: SEEN, type: date}}\n")).unwrap();
    for _ in 0..2 {
        daemon.signal("-HUP");
        daemon.says("the new config is not used, the old one stays");
        daemon.says("SEEN");
    }
    std::fs::write(&path, &good).unwrap();
    daemon.signal("-HUP");
    daemon.says("config and mapping are unchanged");
    daemon.signal("-TERM");
    daemon.says("stopped");
    assert!(daemon.process.wait().unwrap().success());
    world.assert_tells_nothing(&Ran { code: 0, out: String::new(), err: daemon.log.clone() });
}

/// The config with Intercom's client secret, so that webhooks are received.
#[cfg(unix)]
fn with_secret(world: &World) -> String {
    let config = std::fs::read_to_string(world.folder.path().join("config.yaml")).unwrap();
    let secret = world.intercom.client_secret();
    config.replace("    lists:", &format!("    client_secret: {secret}\n    log_webhooks: true\n    lists:"))
}

/// What is acknowledged is kept in the state; so nothing may be for a state of other accounts.
#[cfg(unix)]
#[test]
fn nothing_is_received_for_a_state_of_other_accounts() {
    let world = World::new(20, "");
    std::fs::write(world.folder.path().join("config.yaml"), with_secret(&world)).unwrap();
    assert_eq!(world.run(&["sync"]).code, 0);
    for (key, code) in [("intercom", 1), ("brevo", 1)] {
        let state = rusqlite::Connection::open(world.state()).unwrap();
        let before: String = state.query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| row.get(0)).unwrap();
        state.execute("UPDATE meta SET value = 'another' WHERE key = ?1", [key]).unwrap();
        let tables = world.tables();
        let ran = world.run(&["run"]);
        assert_eq!(ran.code, code, "{}", ran.err);
        assert!(ran.err.contains("another") && ran.err.contains("it was not touched"), "{}", ran.err);
        assert!(!ran.err.contains("receiving"), "the receiver never opened: {}", ran.err);
        assert!(world.tables() == tables, "nothing was written");
        state.execute("UPDATE meta SET value = ?2 WHERE key = ?1", [key, &before]).unwrap();
    }
}

/// While both vendors are down, the state says whose it is, and webhooks are kept.
#[cfg(unix)]
#[test]
fn webhooks_are_received_while_the_vendors_are_down() {
    use hmac::{KeyInit as _, Mac as _};
    let world = World::new(20, "");
    let path = world.folder.path().join("config.yaml");
    let good = with_secret(&world);
    std::fs::write(&path, &good).unwrap();
    assert_eq!(world.run(&["sync"]).code, 0);
    // Nobody listens there.
    let down: Vec<String> = (good.lines())
        .map(|line| {
            let at = line.find("base_url:").map(|at| format!("{}base_url: http://127.0.0.1:9", &line[..at]));
            at.unwrap_or_else(|| line.to_owned())
        })
        .collect();
    std::fs::write(&path, down.join("\n")).unwrap();
    let mut daemon = Background::start(world.folder.path());
    daemon.says("receiving Intercom's webhooks");
    let address = daemon.log.lines().last().unwrap().split("address=").nth(1).unwrap().trim().to_owned();
    let body = r#"{"topic": "contact.user.updated", "id": "n1", "data": {"item": {"id": "5"}}}"#;
    let mut mac = hmac::Hmac::<sha1::Sha1>::new_from_slice(world.intercom.client_secret().as_bytes()).unwrap();
    mac.update(body.as_bytes());
    let hex = mac.finalize().into_bytes().iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    let request = reqwest::Client::new()
        .post(format!("http://{address}/webhooks/intercom"))
        .header("X-Hub-Signature", format!("sha1={hex}"))
        .body(body);
    let status = world.runtime.block_on(async { request.send().await.unwrap().status() });
    assert_eq!(status.as_u16(), 200);
    daemon.signal("-TERM");
    daemon.says("stopped");
    let kept = world.run(&["status", "--json"]).json();
    assert_eq!(kept["webhooksWaiting"], 1, "{kept}");
}

#[cfg(unix)]
#[test]
fn sync_and_retry_are_handed_to_the_daemon_that_has_the_state() {
    let world = World::new(20, "schedule:\n  brevo_contacts: {incremental: never}\n");
    assert_eq!(world.run(&["sync"]).code, 0);
    let mut daemon = Background::start(world.folder.path());
    let begun = (0..2_000).any(|_| world.run(&["status", "--json"]).json()["nextRun"].is_string());
    assert!(begun, "the daemon has planned its next runs");

    let id = world.intercom.contact_ids().into_iter().find(|id| {
        let email = world.intercom.contact(id).and_then(|contact| Some(contact["email"].as_str()?.to_lowercase()));
        email.is_some_and(|email| world.brevo.contact_by_email(&email).is_some())
    });
    world.intercom.edit_contact(&id.unwrap(), &serde_json::json!({"name": "Zora Quill"})).unwrap();
    let ran = world.run(&["sync", "--full"]);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    assert!(ran.out.contains("Sync ok"), "{}", ran.out);
    assert!(ran.out.contains("Intercom contacts"), "the same summary as its own: {}", ran.out);
    assert!(ran.err.contains("linkspan run") && ran.err.contains("Reading Intercom contacts"), "{}", ran.err);
    world.assert_tells_nothing(&ran);
    let arrived = |name: &str| {
        world.brevo.contacts().into_iter().any(|contact| contact.attributes.values().any(|value| value == name))
    };
    assert!(arrived("Zora"), "the run wrote what it found");
    daemon.says("a run begins, as ordered");

    let ran = world.run(&["sync", "--resources", "contacts", "--json"]);
    assert_eq!((ran.code, ran.json()["outcome"].as_str()), (0, Some("ok")), "{}{}", ran.out, ran.err);
    assert!(ran.json()["read"]["intercom contacts"]["pages"].is_u64() && ran.json()["seconds"].is_number());

    let ran = world.run(&["failed", "retry", "--json"]);
    assert_eq!((ran.code, ran.json()["retried"].as_u64()), (0, Some(0)), "{}{}", ran.out, ran.err);
    assert_eq!(world.run(&["failed", "retry", "4711"]).code, 1);

    world.brevo.knobs(|knobs| knobs.ip_blocked = true);
    let ran = world.run(&["sync"]);
    assert_eq!(ran.code, 1, "{}", ran.out);
    assert!(ran.err.contains("error: Brevo") && ran.err.contains("help:"), "with the remedy: {}", ran.err);
    assert!(ran.err.contains("Authorised IPs"), "{}", ran.err);
    let status = world.run(&["status", "--json"]).json();
    assert_eq!(status["refusals"][0]["side"], "brevo", "{status}");
    world.brevo.knobs(|knobs| knobs.ip_blocked = false);

    // The daemon goes while somebody waits for it.
    world.intercom.knobs(|knobs| knobs.latency = Duration::from_secs(30));
    let waiting = std::process::Command::new(env!("CARGO_BIN_EXE_linkspan"))
        .current_dir(world.folder.path())
        .env_clear()
        .args(["sync", "--full"])
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    daemon.says("a run begins, as ordered");
    daemon.says("a run begins, as ordered");
    daemon.says("a run begins, as ordered");
    daemon.signal("-KILL");
    let output = waiting.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("stopped before this was done"), "{said}");
}

#[cfg(unix)]
#[test]
fn a_webhook_reaches_brevo_through_the_daemon() {
    use linkspan::sandbox::{Deliverer, DeliveryRules};
    let world = World::new(20, "");
    let path = world.folder.path().join("config.yaml");
    let with_secret = std::fs::read_to_string(&path).unwrap().replace(
        "    lists:",
        &format!("    client_secret: {}\n    log_webhooks: true\n    lists:", world.intercom.client_secret()),
    );
    std::fs::write(&path, with_secret).unwrap();
    assert_eq!(world.run(&["sync"]).code, 0);
    world.intercom.webhooks_on(true);
    let mut daemon = Background::start(world.folder.path());
    daemon.says("receiving Intercom's webhooks");
    // The line names the address: the port was the system's choice.
    let address = daemon.log.lines().last().unwrap().split("address=").nth(1).unwrap().trim().to_owned();
    let url = format!("http://{address}/webhooks/intercom");
    let deliverer =
        Deliverer::to_url(&url, DeliveryRules::intercom(), tokio_util::sync::CancellationToken::new()).unwrap();
    let (id, email) = (world.intercom.contact_ids().into_iter())
        .find_map(|id| {
            let email = world.intercom.contact(&id)?["email"].as_str()?.to_lowercase();
            world.brevo.contact_by_email(&email).map(|_| (id, email))
        })
        .unwrap();
    world.intercom.unsubscribe(&id).unwrap();
    world.runtime.block_on(async {
        deliverer.deliver(world.intercom.take_webhooks());
        deliverer.idle().await;
        for _ in 0..3_000 {
            if world.brevo.contact_by_email(&email).is_some_and(|contact| contact.email_blacklisted) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the opt-out never arrived");
    });
    assert_eq!(deliverer.deliveries().failed_attempts, 0);
    daemon.signal("-INT");
    daemon.says("stopped");
    assert!(daemon.process.wait().unwrap().success());
    assert!(
        daemon.log.contains("topic=contact.unsubscribed") || daemon.log.contains("topic=contact."),
        "{}",
        daemon.log
    );
    let private = world.private();
    assert!(!private.iter().any(|text| daemon.log.contains(text)), "{}", daemon.log);
    assert!(!daemon.log.contains(world.intercom.client_secret()), "{}", daemon.log);
    let status = world.run(&["status", "--json"]).json();
    assert!(status["webhookSeenAt"].is_string(), "{status}");
    assert_eq!(status["daemon"], false);
}

/// What a JSON value is made of: keys and types. Of maps whose keys are names of something, one entry stands for all.
fn shape(json: &serde_json::Value, named: &str) -> serde_json::Value {
    use serde_json::Value as Json;
    const MAPS: [&str; 13] = [
        "read",
        "failedReads",
        "joins",
        "leaves",
        "attributes",
        "replaced",
        "problems",
        "notices",
        "nextRuns",
        "brevo",
        "write",
        "changed",
        "properties",
    ];
    // Each may be unknown at the moment.
    const PERHAPS: [&str; 2] = ["resetsAt", "nextRun"];
    match json {
        _ if PERHAPS.contains(&named) => "null or text".into(),
        Json::Object(fields) if MAPS.contains(&named) && fields.values().all(|value| !value.is_array()) => fields
            .values()
            .fold(serde_json::json!({}), |all, value| merged(all, serde_json::json!({"*": shape(value, "")}))),
        Json::Object(fields) => fields.iter().map(|(key, value)| (key.clone(), shape(value, key))).collect(),
        Json::Array(items) => {
            let one = items.iter().fold(Json::Null, |all, item| merged(all, shape(item, "")));
            if items.is_empty() { serde_json::json!([]) } else { serde_json::json!([one]) }
        }
        Json::Null => "null".into(),
        Json::Bool(_) => "flag".into(),
        Json::Number(_) => "number".into(),
        Json::String(text) => {
            // A value is a value, not JSON within a text.
            let within = serde_json::from_str::<Json>(text).is_ok_and(|json| json.is_object() || json.is_array());
            assert!(!within, "{named} is JSON in a text: {text}");
            "text".into()
        }
    }
}

fn merged(a: serde_json::Value, b: serde_json::Value) -> serde_json::Value {
    use serde_json::Value as Json;
    match (a, b) {
        (Json::Null, other) | (other, Json::Null) => other,
        (Json::Object(mut a), Json::Object(b)) => {
            for (key, value) in b {
                let before = a.remove(&key).unwrap_or_default();
                a.insert(key, merged(before, value));
            }
            Json::Object(a)
        }
        (Json::Array(a), Json::Array(b)) => {
            let all = a.into_iter().chain(b).fold(Json::Null, merged);
            if all.is_null() { Json::Array(Vec::new()) } else { Json::Array(vec![all]) }
        }
        (a, b) if a == b => a,
        (a, b) => {
            let words = |json: &Json| json.as_str().map_or_else(|| "nested".to_owned(), str::to_owned);
            let mut all: Vec<String> =
                [words(&a), words(&b)].iter().flat_map(|words| words.split(" or ")).map(str::to_owned).collect();
            all.sort();
            all.dedup();
            all.join(" or ").into()
        }
    }
}

/// Programs read `--json`: one line of JSON each, in a shape that does not change unnoticed.
#[test]
fn what_is_printed_for_programs_keeps_its_shape() {
    let mapping = "cases:\n  - {name: good, given: {name: Ada Lovelace}, expect: {FIRSTNAME: Ada}}\n  \
                   - {name: bad, given: {name: Ada Lovelace}, expect: {FIRSTNAME: Bo}}\n";
    let world = World::new(60, "phone: {default_region: US}\nmappings: [cases.yaml]\n");
    std::fs::write(world.folder.path().join("cases.yaml"), mapping).unwrap();
    // Values to be replaced, and a number that is somebody else's.
    let people: Vec<(String, Option<String>)> = (world.intercom.contact_ids().iter())
        .filter_map(|id| world.intercom.contact(id))
        .filter_map(|contact| {
            Some((contact["email"].as_str()?.to_owned(), contact["phone"].as_str().map(str::to_owned)))
        })
        .collect();
    let shares = linkspan::sandbox::brevo::WorldShares { conflicting: 0.6, phone_taken: 0.3, ..Default::default() };
    world.brevo.world(3, &people, &shares, 1);
    let told = world.run(&["sync", "--dry-run"]).out;
    for words in ["A sync would", "  replace ", "stands there", "(Brevo contact ", "whose number", "  note  "] {
        assert!(told.contains(words), "for people, {words:?}:\n{told}");
    }
    assert!(!told.contains('@'), "by id: {told}");
    let somebody = world.somebody();
    let mut shapes = std::collections::BTreeMap::new();
    for (arguments, code) in [
        (&["config", "check"][..], 0),
        (&["status"], 0),
        (&["test"], 0),
        (&["sync", "--dry-run"], 0),
        (&["mapping", "preview", somebody.as_str()], 0),
        (&["mapping", "test"], 1),
        (&["sync", "--full"], 0),
        (&["status"], 0),
        (&["failed", "list"], 0),
        (&["conflicts"], 0),
        (&["notices"], 0),
        (&["failed", "retry"], 0),
    ] {
        let ran = run(world.folder.path(), &[arguments, &["--json"]].concat());
        assert_eq!(ran.code, code, "{arguments:?}: {}{}", ran.out, ran.err);
        assert_eq!(ran.out.lines().count(), 1, "{arguments:?}");
        let name = arguments.iter().filter(|word| !word.contains('@')).copied().collect::<Vec<_>>().join(" ");
        let name = if shapes.contains_key(&name) { format!("{name} (later)") } else { name };
        let json = ran.json();
        if matches!(arguments[0], "failed" | "conflicts" | "notices") {
            assert!(json != serde_json::json!([]), "{name}: something to show");
        }
        shapes.insert(name, shape(&json, ""));
    }
    for ran in [
        world.run(&["--json", "mapping", "preview", "nobody@x.example"]),
        world.run(&["--json", "failed", "retry", "4711"]),
    ] {
        let said: serde_json::Value =
            ran.err.lines().last().map(|line| serde_json::from_str(line).unwrap()).unwrap_or_default();
        assert!(said["error"].is_string() || ran.code == 0, "{}", ran.err);
    }
    insta::assert_yaml_snapshot!("json", shapes);
}

#[test]
fn the_demo_shows_everything_and_ends_well() {
    let folder = tempfile::tempdir().unwrap();
    let ran = run(folder.path(), &["demo", "--contacts", "80", "--json"]);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    let shown = ran.json();
    assert_eq!(shown["ok"], true, "{}", ran.out);
    assert_eq!(shown["nextCycle"]["writes"], 0);
    assert_eq!(shown["intercomWrites"], 0);
    assert!(shown["firstRecord"]["secondsSinceStart"].as_f64().is_some_and(|seconds| seconds > 0.0), "{}", ran.out);
    let row = |words: &str| {
        let rows = shown["arrived"].as_array().unwrap().iter();
        rows.clone().find(|row| row["what"].as_str().unwrap().contains(words)).cloned().unwrap_or_default()
    };
    for words in ["company", "open conversations", "number of open", "last rating", "tagged VIP"] {
        let row = row(words);
        assert!(row["intercom"].as_u64().unwrap() > 0, "{words}: something to compare: {row}");
        assert_eq!((&row["arrived"], &row["missing"]), (&row["intercom"], &0.into()), "{row}");
    }
    assert_eq!(row("events")["arrived"], 0);
    for edit in shown["edits"].as_array().unwrap() {
        assert!(edit["milliseconds"].is_u64(), "{edit}");
    }
    assert!(shown["edits"].as_array().unwrap().len() >= 9);
}

#[test]
fn the_sandbox_says_where_it_is() {
    use std::io::{BufRead as _, BufReader};
    let mut sandbox = std::process::Command::new(env!("CARGO_BIN_EXE_linkspan"))
        .env_clear()
        .args(["sandbox", "--contacts", "20", "--seed", "9", "--json"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(sandbox.stdout.take().unwrap()).read_line(&mut line).unwrap();
    sandbox.kill().unwrap();
    sandbox.wait().unwrap();
    let said: serde_json::Value = serde_json::from_str(&line).unwrap();
    for (vendor, keys) in
        [("intercom", &["base_url", "access_token", "client_secret"][..]), ("brevo", &["base_url", "api_key"])]
    {
        for key in keys {
            assert!(said[vendor][key].as_str().is_some_and(|text| !text.is_empty()), "{vendor}.{key} in {line}");
        }
    }
}
