//! The command line itself.

use crate::world::{run, trimmed};

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
