//! What a bug shows: where it is, and nothing of what it was about.

use std::process::Command;

const SECRET: &str = "jane.doe@secret.example";
const ASKED: &str = "LINKSPAN_TEST_PANICS";

/// Run by the test below in a process of its own, since a hook is the whole process's. By itself it does nothing.
#[test]
fn panics_about_somebody() {
    if std::env::vars_os().any(|(name, _)| name == ASKED) {
        linkspan::cli::logging::quiet_panics();
        panic!("no rule for {SECRET}");
    }
}

#[test]
fn a_panic_tells_its_place_and_never_its_words() {
    for backtrace in [None, Some("0"), Some("1"), Some("full")] {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "panics::panics_about_somebody", "--nocapture"]).env(ASKED, "1");
        command.env_remove("RUST_BACKTRACE").envs(backtrace.map(|value| ("RUST_BACKTRACE", value)));
        let output = command.output().unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(!output.status.success(), "it did not even panic: {said}");
        assert!(said.contains("linkspan: a bug at tests/cli/panics.rs:"), "{backtrace:?}: {said}");
        assert!(!said.contains("jane") && !said.contains("secret.example"), "{backtrace:?}: {said}");
        let frames = said.contains("panics::panics_about_somebody\n") && said.contains("tests/cli/panics.rs:");
        let shown = said.lines().any(|line| line.trim_start().starts_with("0:"));
        let asked = backtrace.is_some_and(|value| value != "0");
        assert_eq!((shown, frames || !asked), (asked, true), "{backtrace:?}: {said}");
    }
}
