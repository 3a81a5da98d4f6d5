//! `config`, and how a config is found.

use crate::world::{folder_with, linkspan, run, trimmed};

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
