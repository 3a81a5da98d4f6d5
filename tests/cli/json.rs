//! What is printed for programs.

use crate::world::{World, run};

/// What a JSON value is made of: keys and types. Of maps whose keys are names of something, one entry stands for all.
fn shape(json: &serde_json::Value, named: &str) -> serde_json::Value {
    use serde_json::Value as Json;
    const MAPS: [&str; 14] = [
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
        "causes",
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
    let world = World::new(
        60,
        "phone: {default_region: US}\nconsent: {direction: intercom_to_brevo}\nmappings: [cases.yaml]\n",
    );
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
        (&["approve"], 0),
        (&["failed", "list"], 0),
        (&["conflicts"], 0),
        (&["notices"], 0),
        (&["explain", somebody.as_str()], 0),
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
