//! `notices`.

use crate::world::World;

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
