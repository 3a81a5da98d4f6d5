//! The three snippets of Tajo's documentation, word for word, in one config: what a sync makes of them.

use crate::world::{KEY, Ran, TOKEN, World, linkspan};
use linkspan::sandbox::intercom::ContactSeed;
use linkspan::sandbox::{Fault, brevo};
use serde_json::{Value, json};

const CONNECTORS: &str = include_str!("../snippets/connectors.yaml");
const FIELD_MAPPING: &str = include_str!("../snippets/field_mapping.yaml");
const DEBUG: &str = include_str!("../snippets/debug.yaml");

/// Where the two are, which the snippets leave to the vendors' own addresses.
fn config(world: &World, debug: &str) -> String {
    format!(
        "{CONNECTORS}{debug}    base_url: {}\n  brevo:\n    base_url: {}/v3\n{FIELD_MAPPING}",
        world.serving.0.base_url(),
        world.serving.1.base_url()
    )
}

fn run(world: &World, config: &str, arguments: &[&str]) -> Ran {
    std::fs::write(world.folder.path().join("config.yaml"), config).unwrap();
    let secrets = [("INTERCOM_ACCESS_TOKEN", TOKEN), ("BREVO_API_KEY", KEY)];
    let output = linkspan(world.folder.path()).envs(secrets).args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
}

fn person(name: &str) -> ContactSeed {
    let custom = json!({"plan_tier": "gold", "feature_usage": 17});
    ContactSeed {
        email: Some(format!("{name}@x.example")),
        name: Some(format!("{name} Vale")),
        phone: Some("+12025550123".to_owned()),
        signed_up_at: Some(1_700_000_000),
        custom_attributes: custom.as_object().unwrap().clone(),
        ..ContactSeed::default()
    }
}

fn there(world: &World, name: &str) -> brevo::Contact {
    world.brevo.contact_by_email(&format!("{name}@x.example")).unwrap()
}

#[test]
fn the_three_snippets_together_mean_what_they_say() {
    let world = World::new(0, "");
    for (id, name) in [(35, "Everybody"), (36, "In touch"), (37, "Prospects")] {
        world.brevo.ensure_list(id, name);
    }
    let ann = world.intercom.create_contact(ContactSeed { unsubscribed: true, ..person("ann") });
    world.intercom.create_contact(ContactSeed { lead: true, phone: None, ..person("bob") });
    let acme = json!({"company_id": "acme", "name": "Acme", "plan": "Growth", "size": 40});
    let acme = world.intercom.create_company(&acme).unwrap();
    world.intercom.attach_company(&ann, &acme).unwrap();
    world.intercom.touch_last_seen(&ann).unwrap();
    world.intercom.open_conversation(&ann, "Hello").unwrap();

    let debug = DEBUG.strip_prefix("connectors:\n  intercom:\n").unwrap();
    let config = config(&world, debug);
    let ran = run(&world, &config, &["sync"]);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    let line = 1 + config.lines().position(|line| line.contains("session_count")).unwrap();
    let warning = ran.err.split("session_count").next().unwrap_or_default();
    assert!(warning.len() < ran.err.len() && ran.err.contains(&format!("config.yaml:{line}:3")), "{}", ran.err);

    let contact = there(&world, "ann");
    let got = |name: &str| contact.attributes.get(name).cloned();
    for (name, value) in [
        ("FULLNAME", json!("ann Vale")),
        ("SMS", json!("12025550123")),
        ("SIGNUP_DATE", json!("2023-11-14")),
        ("UNSUBSCRIBED", json!(true)),
        ("COMPANY_NAME", json!("Acme")),
        ("COMPANY_PLAN", json!("Growth")),
        ("COMPANY_SIZE", json!(40)),
        ("PLAN_TIER", json!("gold")),
        ("FEATURE_USAGE", json!(17)),
    ] {
        let is = got(name).is_some_and(|is| is == value || is.as_f64().is_some_and(|is| value.as_f64() == Some(is)));
        assert!(is, "{name}: {:?}, not {value}", got(name));
    }
    assert!(got("LAST_ACTIVE").and_then(|date| date.as_str().map(str::len)) == Some(10), "{:?}", got("LAST_ACTIVE"));
    assert_eq!(got("SESSION_COUNT"), None, "contacts have none, so nothing is written");
    assert!(!world.brevo.attribute_types().contains_key("SESSION_COUNT"), "nor made");
    assert!(contact.email_blacklisted, "an opt-out first, whatever is mapped");
    let lists = |name: &str| there(&world, name).list_ids;
    assert_eq!((lists("ann"), lists("bob")), ([35, 36].into(), [37].into()));
    assert!(there(&world, "bob").attributes.get("UNSUBSCRIBED").is_none_or(|flag| *flag == Value::Bool(false)));
}

/// `debug: true`, `log_level: verbose`: how it happens is logged, of our own code only, and nobody's data with it.
#[test]
fn the_debug_snippet_says_how_it_happens() {
    let world = World::new(20, "");
    for (id, name) in [(35, "Everybody"), (36, "In touch"), (37, "Prospects")] {
        world.brevo.ensure_list(id, name);
    }
    let debug = DEBUG.strip_prefix("connectors:\n  intercom:\n").unwrap();
    for (lines, told) in [("", false), (debug, true)] {
        // A request that has to be sent again is worth a line at `debug` only.
        world.intercom.fail("/me", Fault::Status(503, None));
        let ran = run(&world, &config(&world, lines), &["sync", "--full"]);
        assert_eq!(ran.code, 0, "{}", ran.err);
        let said = ran.err.lines().any(|line| line.contains("DEBUG") && line.contains("will try again"));
        assert_eq!(said, told, "{}", ran.err);
        assert_eq!(ran.err.contains("DEBUG"), told, "{}", ran.err);
        assert!(
            !ran.err.contains("TRACE") && !ran.err.contains("hyper") && !ran.err.contains("reqwest"),
            "{}",
            ran.err
        );
        world.assert_tells_nothing(&ran);
    }
}
