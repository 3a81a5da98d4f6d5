//! `mapping test`.

use crate::world::{folder_with, run};

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
    let phone = "phone: SMS\ncases:\n  - {given: {phone: '+1'}, expect: {SMS: {problem: a VALID phone}}}\n  \
                 - {name: other words, given: {phone: '+1'}, expect: {SMS: {problem: country}}}\n";
    std::fs::write(folder.path().join("m.yaml"), phone).unwrap();
    let ran = run(folder.path(), &["mapping", "test"]);
    assert_eq!(ran.code, 1, "{}{}", ran.out, ran.err);
    assert!(ran.out.contains("✓ case 1") && ran.out.contains("1 of 2 examples hold"), "{}", ran.out);
    let words = "SMS: expected a problem with “country” in it, got the problem “not a valid phone number”";
    assert!(ran.out.contains(words), "{}", ran.out);
    let ran = run(folder.path(), &["mapping", "test", "--json"]).json();
    assert_eq!(ran["cases"][1]["failures"][0]["expected"], serde_json::json!({"problem": "country"}));
}
