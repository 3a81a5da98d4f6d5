//! `demo`.

use crate::world::run;

#[test]
fn the_demo_shows_everything_and_ends_well() {
    let folder = tempfile::tempdir().unwrap();
    let ran = run(folder.path(), &["demo", "--contacts", "80", "--json"]);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    let shown = ran.json();
    assert_eq!(shown["ok"], true, "{}", ran.out);
    assert_eq!(shown["nextCycle"]["writes"], 0);
    assert_eq!(shown["nextCycle"]["intercomWrites"], 0);
    assert_eq!((&shown["conflict"]["inIntercom"], &shown["conflict"]["kept"]), (&"gold".into(), &true.into()));
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
    // How long each took hangs on the machine and on what else it does (that we wait for less than a second is shown under
    // paused time: `an_edit_arrives_within_a_second`); that each arrived, and by its webhook, does not.
    for edit in shown["edits"].as_array().unwrap() {
        assert!(edit["milliseconds"].is_u64(), "{edit}");
    }
    assert!(shown["edits"].as_array().unwrap().len() >= 12);
}
