//! What the mapping language promises.

use super::*;
use crate::model::{Attribute, AttributeKind, Number};
use serde_json::json;

fn section(yaml: &str) -> Section {
    Section { file: 0, path: vec![], value: serde_yaml::from_str(yaml).unwrap() }
}

/// A place for everything that is written.
#[expect(clippy::unnecessary_wraps, reason = "not everybody who asks for places has files")]
fn here(file: usize, path: &[String], _: bool) -> Option<Spot> {
    Some(Spot { file: format!("{file}.yaml"), line: path.len(), column: 1 })
}

fn options() -> Options {
    Options { default_phone_region: Some("NO".to_owned()), api_version: "2.11".to_owned(), ..Options::default() }
}

fn mapping(yaml: &str) -> Mapping {
    parse(&[section(yaml)], &options(), &here).unwrap_or_else(|errors| panic!("{errors:#?}"))
}

fn record(json: serde_json::Value) -> Fields {
    let fields = json.as_object().unwrap().iter();
    fields.filter_map(|(path, value)| Some((path.clone(), Value::from_json(value)?))).collect()
}

/// What a Brevo account would hold of these attributes afterwards, as a read shows it.
fn written(mapping: &Mapping, record: &Fields) -> std::collections::BTreeMap<String, serde_json::Value> {
    let mut held = std::collections::BTreeMap::new();
    for rule in &mapping.rules {
        match rule.project(record) {
            Projection::Cells(cells) => {
                for (target, cell) in rule.targets.iter().zip(cells) {
                    held.insert(target.attribute.clone(), cell.map_or(json!(null), |cell| cell.to_json()));
                }
            }
            Projection::NotApplicable => {}
            Projection::Problem(problem) => {
                held.insert(rule.key.clone(), json!(format!("! {}", problem.message)));
            }
        }
    }
    held
}

fn of(yaml: &str, fields: serde_json::Value) -> serde_json::Value {
    json!(written(&mapping(yaml), &record(fields)))
}

fn complaints(yaml: &str) -> String {
    let errors = parse(&[section(yaml)], &options(), &here).expect_err("this should not load");
    let line = |error: &MappingError| {
        let help = error.help.as_ref().map_or(String::new(), |help| format!("\n    {help}"));
        format!("{}{}: {}{help}", error.path.join(" > "), if error.on_key { " (key)" } else { "" }, error.message)
    };
    errors.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn attribute(name: &str, kind: AttributeKind) -> Attribute {
    Attribute { name: name.to_owned(), kind, writable: true, options: vec![] }
}

/// From the public documentation of another connector: it must load as it is.
const SNIPPET: &str = "
field_mapping:
  # Standard fields
  email: email
  name: FULLNAME
  phone: SMS
  # Engagement fields
  signed_up_at: SIGNUP_DATE
  last_seen_at: LAST_ACTIVE
  session_count: SESSION_COUNT
  unsubscribed_from_emails: UNSUBSCRIBED
  # Company fields
  company.name: COMPANY_NAME
  company.plan: COMPANY_PLAN
  company.size: COMPANY_SIZE
  # Custom attributes
  custom_attributes.plan_tier: PLAN_TIER
  custom_attributes.feature_usage: FEATURE_USAGE
";

#[test]
fn the_short_form_says_what_it_says() {
    let mapping = mapping(SNIPPET);
    let keys: Vec<&str> = mapping.rules.iter().map(|rule| rule.key.as_str()).collect();
    assert_eq!(keys.len(), 10, "{keys:?}");
    assert_eq!(mapping.warnings.len(), 1);
    assert_eq!(mapping.warnings[0].path, ["field_mapping", "session_count"]);
    let held = written(
        &mapping,
        &record(json!({
            "email": "ada@example.com", "name": "Ada King", "phone": "22225555", "signed_up_at": 1_717_243_200,
            "unsubscribed_from_emails": false, "company.plan": "Pro", "company.size": 12, "session_count": 3,
            "custom_attributes.plan_tier": "gold",
        })),
    );
    assert_eq!(
        json!(held),
        json!({
            "FULLNAME": "Ada King", "SMS": "+4722225555", "SIGNUP_DATE": "2024-06-01", "LAST_ACTIVE": null,
            "UNSUBSCRIBED": false, "COMPANY_NAME": null, "COMPANY_PLAN": "Pro", "COMPANY_SIZE": 12,
            "PLAN_TIER": "gold", "FEATURE_USAGE": null,
        })
    );
}

#[test]
fn without_a_mapping_there_is_one() {
    let mapping = parse(&[], &options(), &here).unwrap();
    let intercom = [
        attribute("custom_attributes.plan-tier", AttributeKind::Text),
        attribute("custom_attributes.Seats", AttributeKind::Float),
        attribute("custom_attributes.trial_end", AttributeKind::Date),
        attribute("custom_attributes.sms", AttributeKind::Text),
        attribute("company.custom_attributes.tier", AttributeKind::Text),
    ];
    let brevo = [
        attribute("PRENOM", AttributeKind::Text),
        attribute("NOM", AttributeKind::Text),
        attribute("SMS", AttributeKind::Text),
    ];
    let resolution = mapping.resolve(&brevo, &intercom);
    assert_eq!(resolution.clashes, []);
    let made: Vec<(&str, &str)> = resolution.create.iter().map(|spec| (spec.name.as_str(), spec.kind.name())).collect();
    assert_eq!(
        made,
        [
            ("ROLE", "text"),
            ("COMPANY_NAME", "text"),
            ("SIGNUP_DATE", "date"),
            ("LAST_ACTIVE", "date"),
            ("SEATS", "float"),
            ("PLAN_TIER", "text"),
            ("INTERCOM_SMS", "text"),
            ("TRIAL_END", "date"),
        ]
    );
    let held = written(
        &resolution.mapping,
        &record(json!({
            "name": "María del Carmen García", "role": "lead", "last_seen_at": 1_717_243_200,
            "custom_attributes.trial_end": 1_717_243_200, "custom_attributes.Seats": 4,
        })),
    );
    assert_eq!(held["PRENOM"], "María");
    assert_eq!(held["NOM"], "del Carmen García");
    assert_eq!(held["LAST_ACTIVE"], "2024-06-01");
    assert_eq!(held["TRIAL_END"], "2024-06-01");
    assert_eq!(held["SEATS"], 4);
}

#[test]
fn names_that_meet_do_not_depend_on_order() {
    let mapping = parse(&[], &options(), &here).unwrap();
    let one = attribute("custom_attributes.plan tier", AttributeKind::Text);
    let two = attribute("custom_attributes.plan_tier", AttributeKind::Text);
    let names = |intercom: &[Attribute]| -> Vec<String> {
        let resolved = mapping.resolve(&[], intercom).mapping;
        resolved.rules.iter().skip(6).map(|rule| rule.targets[0].attribute.clone()).collect()
    };
    let forth = names(&[one.clone(), two.clone()]);
    assert_eq!(forth, names(&[two.clone(), one]));
    assert_eq!(forth.len(), 2);
    assert!(forth.contains(&"PLAN_TIER".to_owned()), "{forth:?}");
    assert_eq!(names(&[two]), ["PLAN_TIER"]);
}

#[test]
fn the_readme_lists_every_path() {
    let readme = include_str!("../../mappings/README.md");
    let missing: Vec<&str> =
        paths::all().map(|(path, _)| path).filter(|path| !readme.contains(&format!("`{path}`"))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn a_clash_names_both_types() {
    let rules = mapping("{company.size: SIZE, signed_up_at: SINCE, role: ROLE, tags: TAGS, name: KIND}");
    let brevo = [
        attribute("SIZE", AttributeKind::Date),
        attribute("SINCE", AttributeKind::Float),
        attribute("ROLE", AttributeKind::Text),
        attribute("TAGS", AttributeKind::Text),
        Attribute { writable: false, ..attribute("KIND", AttributeKind::Float) },
    ];
    let clashes = rules.resolve(&brevo, &[]).clashes;
    let text: Vec<String> =
        clashes.iter().map(|clash| format!("{clash}\n    {}", clash.help.as_deref().unwrap_or_default())).collect();
    insta::assert_snapshot!(text.join("\n"));
}

#[test]
fn mistakes_are_told_all_at_once() {
    insta::assert_snapshot!(complaints(
        "
nmae: FULLNAME
phone: EMAIL
role: {to: ROLE, typ: text}
created_at: {to: CREATED, type: dat}
company.name: {to: COMPANY, direction: both}
company.plan: {to: PLAN, on_conflict: newest}
company.size: {to: SIZE, transform: uper}
owner_id: {to: OWNER, transform: {truncate: ten}}
browser: {to: BROWSER, transform: 'value |'}
os: {to: OS, transform: 'value | uper'}
location.city: {to: CITY, when: record.locaton.city}
location.region: {to: CITY2, when: city == 'Oslo'}
name: {to: [FIRST, MIDDLE, LAST], transform: split_name}
avatar: 17
utm_term: {type: text}
utm_source: SAME
utm_medium: SAME
utm_campaign: 'NOT GOOD'
language_override: {to: LANGUAGE, type: category}
referrer: {to: R, on_clear: wipe}
tags: {VIP: {lst: 3}, Beta: {list: true}}
lists: [{list: 3}]
cases: [{name: x, given: {nmae: y}, expect: {}}]
"
    ));
}

#[test]
fn the_list_form_works_too() {
    let yaml = "
- {from: name, to: [FIRSTNAME, LASTNAME], transform: split_name}
- {from: role, to: ROLE, transform: upper}
";
    assert_eq!(
        of(yaml, json!({"name": "Cher", "role": "user"})),
        json!({"FIRSTNAME": "Cher", "LASTNAME": null, "ROLE": "USER"})
    );
    insta::assert_snapshot!(complaints("- {from: nam, to: X}\n- {to: Y}\n- {from: name, to: Z, wen: x}"));
}

#[test]
fn transforms_transform() {
    let one = |transform: &str, value: serde_json::Value| {
        let yaml = format!("custom_attributes.x: {{to: X, transform: {transform}}}");
        let held = of(&yaml, json!({"custom_attributes.x": value}));
        held.get("X").or_else(|| held.get("custom_attributes.x -> X")).cloned().unwrap()
    };
    for (transform, value, expected) in [
        ("upper", json!("straße"), json!("STRASSE")),
        ("lower", json!("ÅSE"), json!("åse")),
        ("trim", json!("  a "), json!("a")),
        ("capitalize", json!("ægir"), json!("Ægir")),
        ("first_name", json!("Ludwig van Beethoven"), json!("Ludwig")),
        ("first_name", json!("van Beethoven"), json!(null)),
        ("last_name", json!("van Beethoven"), json!("van Beethoven")),
        ("last_name", json!("Ludwig van Beethoven"), json!("van Beethoven")),
        ("last_name", json!("Cher"), json!(null)),
        ("{truncate: 3}", json!("añoß"), json!("año")),
        ("{round: 1}", json!(2.25), json!(2.3)),
        ("number", json!("12.5"), json!(12.5)),
        ("boolean", json!("yes"), json!(true)),
        ("boolean", json!("no"), json!(false)),
        ("date", json!("2026-05-01T23:30:00Z"), json!("2026-05-01")),
        ("date", json!(1_717_243_200), json!("2024-06-01")),
        ("date_time", json!(1_717_243_200), json!("2024-06-01T12:00:00Z")),
        ("{join: '; '}", json!(["b", "a"]), json!("a; b")),
        ("[{split: ';'}, {join: '|'}]", json!("b;a"), json!("a|b")),
        ("{map: {gold: VIP, '*': other}}", json!("gold"), json!("VIP")),
        ("{map: {gold: VIP, '*': other}}", json!("tin"), json!("other")),
        ("{map: {gold: VIP}}", json!("tin"), json!("! the value is not in the `map` table")),
        ("{default: none yet}", json!(null), json!("none yet")),
        ("email_domain", json!("Ada@Example.COM"), json!("example.com")),
        ("to_text", json!({"a": [1]}), json!("{\"a\":[1]}")),
        ("value ~ '!'", json!("hey"), json!("hey!")),
        ("value.nope", json!("x"), json!("! the expression gives something that is not defined")),
        ("phone", json!("22 22 55 55"), json!("+4722225555")),
        ("{phone: FR}", json!("01 42 68 53 00"), json!("+33142685300")),
        ("phone", json!("12"), json!("! not a valid phone number")),
    ] {
        assert_eq!(one(transform, value.clone()), expected, "{transform} of {value}");
    }
}

#[test]
fn a_structure_becomes_text_only_if_asked() {
    let held = of("custom_attributes.x: X", json!({"custom_attributes.x": {"a": 1}}));
    assert!(held["custom_attributes.x -> X"].as_str().unwrap().contains("to_text"), "{held}");
    // Where it is known to be one for everybody, it is refused at load: else each record would have the same problem.
    for yaml in [
        "social_profiles: S",
        "social_profiles: {to: S, type: text}",
        "social_profiles: {to: S, transform: upper}",
        "social_profiles: {to: S, transform: [{default: none}, {truncate: 20}, to_text]}",
    ] {
        let told = complaints(yaml);
        assert!(told.contains("`social_profiles` is a structure") && told.contains("transform: to_text"), "{told}");
    }
    let fine = "
- {from: social_profiles, to: A, transform: to_text}
- {from: social_profiles, to: B, transform: [{default: none}, to_text, {truncate: 5}]}
- {from: social_profiles, to: C, transform: value|length}
";
    assert_eq!(of(fine, json!({"social_profiles": [{"name": "X"}]}))["A"], json!("[{\"name\":\"X\"}]"));
}

#[test]
fn an_expression_reads_the_record_and_a_blank_is_none() {
    let yaml = "role: {to: X, transform: \"record.company.plan or 'no plan'\", when: \"record.tags and 'vip' in record.tags\"}";
    assert_eq!(of(yaml, json!({"role": "user", "tags": ["vip"]})), json!({"X": "no plan"}));
    assert_eq!(of(yaml, json!({"role": "user", "tags": ["vip"], "company.plan": "Pro"})), json!({"X": "Pro"}));
    assert_eq!(of(yaml, json!({"role": "user"})), json!({}));
}

#[test]
fn a_runaway_expression_is_a_problem() {
    let yaml = "role: {to: X, transform: \"range(9999)|map('upper')|join(value)|upper\"}";
    let held = of(yaml, json!({"role": "user"}));
    assert!(held.as_object().unwrap().values().all(|value| value.as_str().unwrap().starts_with("! ")), "{held}");
}

#[test]
fn hostile_expressions_end_soon() {
    for source in [
        "value * 999999999",
        "'abc' * 99999999999",
        "10 ** 10 ** 10",
        "2 ** 99999",
        "range(999999999)|list",
        "range(9999)|map('string')|list|join('x' * 9999)",
        "[1] * 999999999",
        "(value ~ value) * 100000",
        "9223372036854775807 + 1",
        "1 // 0",
        "1 % 0",
        "-9223372036854775808 // -1",
        "value[99999999999999]",
        "value[::0]",
        "value|indent(999999999)",
        "'%999999999d'|format(1)",
    ] {
        let step = super::transform::Step::parse(&serde_yaml::Value::String(source.to_owned()));
        let Ok(step) = step else { continue };
        let value = step.apply(Value::text("a".repeat(100)), &Fields::new(), None);
        if let Ok(Some(value)) = value {
            assert!(value.to_string().len() <= 80_000, "{source}");
        }
    }
    let deep = format!("{}value{}", "(".repeat(1000), ")".repeat(1000));
    drop(super::transform::Step::parse(&serde_yaml::Value::String(deep)));
    let deep = format!("{}value", "not ".repeat(900));
    drop(super::transform::Step::parse(&serde_yaml::Value::String(deep)));
}

#[test]
fn problems_name_no_values() {
    for (yaml, value) in [
        ("custom_attributes.x: SMS", "secret-555"),
        ("custom_attributes.x: {to: X, type: number}", "secret-555"),
        ("custom_attributes.x: {to: X, type: date}", "secret-555"),
        ("custom_attributes.x: {to: X, type: category, options: [a]}", "secret-555"),
        ("custom_attributes.x: {to: X, transform: 'value + 1'}", "secret-555"),
        ("custom_attributes.x: {to: X, transform: 'value|int'}", "secret-555"),
        ("custom_attributes.x: {to: X, transform: {map: {a: b}}}", "secret-555"),
    ] {
        let Projection::Problem(problem) =
            mapping(yaml).rules[0].project(&record(json!({"custom_attributes.x": value})))
        else {
            panic!("{yaml} should be a problem")
        };
        assert!(!format!("{problem:?}").contains("secret"), "{problem:?}");
    }
}

#[test]
fn what_brevo_holds_is_read_in_its_own_forms() {
    let rules = mapping(
        "
phone: SMS
signed_up_at: SINCE
has_hard_bounced: BOUNCED
company.size: SIZE
role: {to: ROLE, type: category, options: [user, lead]}
tags: TAGS
",
    );
    let role = Attribute {
        options: vec![("User".to_owned(), "1".to_owned()), ("Lead".to_owned(), "2".to_owned())],
        ..attribute("ROLE", AttributeKind::Category)
    };
    let rules = rules.resolve(&[role], &[]).mapping;
    let held = record(json!({
        "SMS": "4722225555", "SINCE": "2024-06-01T00:00:00Z", "BOUNCED": false, "SIZE": "85", "ROLE": 2,
        "TAGS": ["b", "a"],
    }));
    let read: Vec<Option<Value>> = rules.rules.iter().flat_map(|rule| rule.observed(&held)).collect();
    let text = |text: &str| Some(Value::Text(text.to_owned()));
    assert_eq!(
        read,
        [
            text("+4722225555"),
            Some(Value::Date(chrono::NaiveDate::from_ymd_opt(2024, 6, 1).unwrap())),
            None,
            Some(Value::Number(Number::Whole(85))),
            text("Lead"),
            Value::list(["a".to_owned(), "b".to_owned()]),
        ]
    );
    // And what is written is the account's own spelling.
    assert_eq!(rules.rules[4].project(&record(json!({"role": "lead"}))), Projection::Cells(vec![text("Lead")]));
}

#[test]
fn options_that_are_missing_are_asked_for() {
    let rules = mapping("{tags: TAGS, custom_attributes.stage: {to: STAGE, type: category}}");
    let brevo = [
        Attribute { options: vec![("vip".into(), "vip".into())], ..attribute("TAGS", AttributeKind::MultipleChoice) },
        Attribute { options: vec![("Trial".into(), "4".into())], ..attribute("STAGE", AttributeKind::Category) },
    ];
    let stage = Attribute {
        options: vec![("Trial".into(), "Trial".into()), ("Paying".into(), "Paying".into())],
        ..attribute("custom_attributes.stage", AttributeKind::Text)
    };
    let resolution = rules.resolve(&brevo, &[stage]);
    assert_eq!(resolution.clashes, []);
    assert_eq!(resolution.set_options.len(), 1);
    assert_eq!(resolution.set_options[0].options, [("Trial".into(), "4".into()), ("Paying".into(), "5".into())]);
    let tagged = record(json!({"tags": ["VIP", "new"]}));
    assert_eq!(resolution.mapping.rules[0].missing_options(&tagged), [("TAGS".to_owned(), "new".to_owned())]);
}

#[test]
fn a_rule_that_means_something_else_has_another_fingerprint() {
    let print = |yaml: &str| mapping(yaml).rules[0].fingerprint.clone();
    let plain = print("role: ROLE");
    assert_eq!(plain, print("{name: NAME, role: {to: role, on_clear: keep}}").replace(&print("name: NAME"), &plain));
    for other in ["role: {to: ROLE, transform: upper}", "role: ROLES", "role: {to: ROLE, when: value}", "os: ROLE"] {
        assert_ne!(plain, print(other), "{other}");
    }
}

#[test]
fn lists_hold_whom_they_should() {
    let rules = mapping(
        "tags: {VIP: {list: 42}}\nconversation_tags: {refund: {list: Refunds}}\nlists: [{list: Pro, when: record.company.plan == 'Pro'}]",
    );
    let holds = |fields: serde_json::Value| {
        let fields = record(fields);
        rules.lists.iter().map(|list| list.holds(&fields)).collect::<Vec<_>>()
    };
    assert_eq!(holds(json!({"tags": ["vip"]})), [true, false, false]);
    let leads = ListRule::new(Membership::Leads, ListName::Name("l".to_owned()));
    assert!(leads.holds(&record(json!({"role": "lead"}))) && !leads.holds(&record(json!({"role": "user"}))));
    let open = ListRule::new(Membership::ActiveConversations, ListName::Name("l".to_owned()));
    assert!(open.holds(&record(json!({"conversations.open_count": 1}))));
    assert!(!open.holds(&record(json!({"conversations.open_count": 0}))));
}

#[test]
fn starters_load_and_their_cases_pass() {
    let files = [
        include_str!("../../mappings/contacts.yaml"),
        include_str!("../../mappings/companies.yaml"),
        include_str!("../../mappings/conversations.yaml"),
    ];
    let together: Vec<Section> = files.iter().map(|yaml| section(yaml)).collect();
    let alone = files.iter().map(|yaml| vec![section(yaml)]);
    for sections in alone.chain([together]) {
        let mapping = parse(&sections, &options(), &here).unwrap_or_else(|errors| panic!("{errors:#?}"));
        assert!(mapping.warnings.is_empty());
        let results = run_cases(&mapping);
        assert!(!results.is_empty());
        for result in results {
            assert_eq!(result.failures, [], "{}", result.name);
        }
    }
}

#[test]
fn the_schema_takes_what_loads() {
    let schema = schema();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let starters = ["contacts", "companies", "conversations"]
        .map(|name| std::fs::read_to_string(format!("{}/mappings/{name}.yaml", env!("CARGO_MANIFEST_DIR"))).unwrap());
    for yaml in
        starters.iter().map(String::as_str).chain([SNIPPET, "[{from: name, to: X, transform: [trim, {truncate: 3}]}]"])
    {
        let json: serde_json::Value = serde_yaml::from_str(yaml).unwrap();
        let errors: Vec<String> = validator.iter_errors(&json).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{errors:?}");
    }
    for wrong in ["nmae: X", "name: {to: X, typ: text}", "name: 17", "tags: {VIP: 3}"] {
        assert!(!validator.is_valid(&serde_yaml::from_str(wrong).unwrap()), "{wrong}");
    }
}

#[test]
fn brevos_own_phone_attributes_are_not_made() {
    let resolution = mapping("{phone: SMS, custom_attributes.whatsapp: WHATSAPP}").resolve(&[], &[]);
    assert_eq!(resolution.create, []);
    let held = written(&resolution.mapping, &record(json!({"custom_attributes.whatsapp": "+47 22 22 55 55"})));
    assert_eq!(held["WHATSAPP"], "+4722225555");
}

#[test]
fn a_rule_knows_what_it_reads() {
    let rules = mapping(
        "
role: {to: A, when: record.company.plan == 'Pro'}
company.name: B
tags: C
os: {to: D, transform: 'value ~ (record.tags|length)'}
browser: {to: E, transform: 'record|length'}
",
    );
    let mentions = |prefix: &str| rules.rules.iter().map(|rule| rule.mentions(prefix)).collect::<Vec<_>>();
    assert_eq!(mentions("company"), [true, true, false, false, true]);
    assert_eq!(mentions("tags"), [false, false, true, true, true]);
}

#[test]
fn a_file_of_lists_only_leaves_the_default_fields() {
    assert_eq!(mapping("tags: {VIP: {list: 42}}").rules.len(), 6);
    assert_eq!(mapping("{tags: {VIP: {list: 42}}, role: ROLE}").rules.len(), 1);
}

#[test]
fn what_the_readme_shows_loads() {
    let readme = include_str!("../../mappings/README.md");
    let blocks: Vec<&str> = readme.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert_eq!(blocks.len(), 7);
    for block in blocks {
        if block.starts_with("companies:") {
            let block: serde_yaml::Value = serde_yaml::from_str(block).unwrap();
            let value = block["companies"]["field_mapping"].clone();
            let rules = of_companies(Section { file: 0, path: vec![], value }).unwrap();
            assert_eq!(rules.rules.len(), 5);
            continue;
        }
        let mapping = mapping(block);
        assert!(run_cases(&mapping).iter().all(|result| result.failures.is_empty()), "{block}");
    }
    for name in super::transform::NAMES {
        assert!(readme.contains(&format!("`{name}")), "{name} is not explained");
    }
}

fn of_companies(section: Section) -> Result<Mapping, Vec<MappingError>> {
    parse(&[section], &Options { of_companies: true, ..options() }, &here)
}

#[test]
fn company_objects_have_paths_and_attributes_of_their_own() {
    let rules = of_companies(section("{name: name, company.size: number_of_employees}")).unwrap();
    let keys: Vec<&str> = rules.rules.iter().map(|rule| rule.key.as_str()).collect();
    assert_eq!(keys, ["company.name -> NAME", "company.size -> NUMBER_OF_EMPLOYEES"]);
    let held = written(&rules, &record(json!({"company.name": "Acme", "company.size": 7})));
    assert_eq!((&held["NAME"], &held["NUMBER_OF_EMPLOYEES"]), (&json!("Acme"), &json!(7)));
    let defaults = parse(&[], &Options { of_companies: true, ..options() }, &here).unwrap();
    let targets: Vec<&str> = defaults.rules.iter().map(|rule| rule.targets[0].attribute.as_str()).collect();
    assert_eq!(targets, ["NAME", "DOMAIN", "NUMBER_OF_EMPLOYEES"]);
    let both = of_companies(section("name: {to: name, direction: both}")).unwrap();
    assert!(both.misdirections().is_empty(), "of the company itself, it can be written");
    let missing = of_companies(section("custom_attributes.tier: {to: tier, direction: both}")).unwrap();
    assert_eq!(missing.missing_in_intercom(&[], &[])[0].name, "company.custom_attributes.tier");

    for (yaml, words) in [
        ("nmae: name", "Intercom has no field `company.nmae`"),
        ("email: email", "Intercom has no field `company.email`"),
        ("name: linkspan_intercom_id", "tells whose the company is"),
        ("user_count: {to: users, direction: both}", "Intercom counts it itself"),
        ("tags: {VIP: {list: 42}}", "`company.tags` has no `to:`"),
    ] {
        let errors = of_companies(section(yaml)).expect_err("this should not load");
        assert!(errors[0].message.contains(words), "{yaml}: {errors:?}");
    }
}

#[test]
fn a_case_that_fails_says_what_came_out() {
    let rules = mapping("role: ROLE\ncases: [{name: shouting, given: {role: user}, expect: {ROLE: USER}}]");
    let failure = &run_cases(&rules)[0].failures[0];
    assert_eq!(failure.expected, Expected::Value(Value::text("USER")));
    assert_eq!(failure.found, Ok(Value::text("user")));
}

#[test]
fn a_case_may_expect_a_problem() {
    let run = |given: &str, expect: &str| {
        let yaml = format!("phone: SMS\ncases: [{{name: x, given: {{phone: '{given}'}}, expect: {{SMS: {expect}}}}}]");
        run_cases(&mapping(&yaml)).remove(0).failures
    };
    assert_eq!(run("+1", "{problem: not a Valid phone number}"), []);
    // Neither a number, nor nothing, nor another problem is what was expected.
    assert_eq!(run("+4722225555", "{problem: phone}").len(), 1);
    assert_eq!(run("", "{problem: phone}").len(), 1);
    let failures = run("+1", "{problem: country code}");
    assert_eq!(failures[0].expected, Expected::Problem("country code".to_owned()));
    assert_eq!(failures[0].found, Err("not a valid phone number".to_owned()));
    assert_eq!(run("+1", "null").len(), 1);
    for wrong in ["{problem: ''}", "{problem: x, value: y}", "{value: y}", "{}", "{problem: [x]}"] {
        let yaml = format!("phone: SMS\ncases: [{{given: {{phone: x}}, expect: {{SMS: {wrong}}}}}]");
        assert!(complaints(&yaml).contains("{problem: words of the reason}"), "{wrong}");
    }
}

mod properties {
    use super::*;
    use proptest::prelude::*;

    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(json!(null)),
            any::<bool>().prop_map(|flag| json!(flag)),
            any::<i64>().prop_map(|number| json!(number)),
            any::<f64>().prop_map(|number| json!(number)),
            ".{0,12}".prop_map(|text| json!(text)),
            "[0-9+() -]{0,16}".prop_map(|text| json!(text)),
            "[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2}:[0-9]{2}Z)?".prop_map(|text| json!(text)),
        ];
        leaf.prop_recursive(2, 8, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(|items| json!(items)),
                prop::collection::btree_map("[a-z]{1,3}", inner, 0..3).prop_map(|fields| json!(fields)),
            ]
        })
    }

    const RULES: &str = "
- {from: custom_attributes.x, to: [FIRST, LAST], transform: split_name}
- {from: custom_attributes.x, to: SMS}
- {from: custom_attributes.x, to: A}
- {from: custom_attributes.x, to: B, type: number}
- {from: custom_attributes.x, to: C, type: boolean}
- {from: custom_attributes.x, to: D, type: date}
- {from: custom_attributes.x, to: E, type: date-time}
- {from: custom_attributes.x, to: F, type: category, options: [a, b]}
- {from: custom_attributes.x, to: G, type: multiple-choice}
- {from: custom_attributes.x, to: H, transform: to_text}
- {from: custom_attributes.x, to: I, transform: [{round: 3}]}
- {from: custom_attributes.x, to: J, transform: [{split: ','}, join, capitalize, {truncate: 4}]}
- {from: custom_attributes.x, to: K, transform: value}
- {from: custom_attributes.x, to: L, transform: date_time}
- {from: custom_attributes.x, to: M, transform: phone}
";

    proptest! {
        #[test]
        fn what_is_written_reads_as_what_was_meant(json in any_json()) {
            let mapping = mapping(RULES);
            let fields: Fields =
                Value::from_json(&json).map(|value| ("custom_attributes.x".to_owned(), value)).into_iter().collect();
            for rule in &mapping.rules {
                let projection = rule.project(&fields);
                prop_assert_eq!(&projection, &rule.project(&fields));
                let Projection::Cells(cells) = projection else { continue };
                // Through the wire, as Brevo would show it: blanks absent, phones without their plus.
                let held: Fields = rule
                    .targets
                    .iter()
                    .zip(&cells)
                    .filter_map(|(target, cell)| {
                        let mut wire = cell.as_ref()?.to_json();
                        if target.attribute == "SMS" {
                            wire = json!(wire.as_str().unwrap().trim_start_matches('+'));
                        }
                        Some((target.attribute.clone(), Value::from_json(&wire)?))
                    })
                    .collect();
                // Brevo's `false` is nothing.
                let meant: Vec<Option<Value>> =
                    cells.into_iter().map(|cell| cell.filter(|value| *value != Value::Boolean(false))).collect();
                prop_assert_eq!(rule.observed(&held), meant, "{}", rule.key);
            }
        }

        #[test]
        fn arbitrary_attributes_never_panic(json in any_json()) {
            let mapping = mapping(RULES);
            for rule in &mapping.rules {
                let held = rule
                    .targets
                    .iter()
                    .filter_map(|target| Some((target.attribute.clone(), Value::from_json(&json)?)))
                    .collect();
                assert_eq!(rule.observed(&held).len(), rule.targets.len());
            }
        }

        #[test]
        fn arbitrary_yaml_never_panics(json in any_json(), key in "[a-z_.]{0,12}", source in ".{0,20}") {
            let value: serde_yaml::Value = serde_yaml::to_value(&json).unwrap();
            drop(parse(&[Section { file: 0, path: vec![], value }], &options(), &here));
            for key in [key.as_str(), "role", "tags", "lists", "cases", "conversation_tags", "field_mapping"] {
                let value = serde_yaml::to_value(json!({ key: json })).unwrap();
                drop(parse(&[Section { file: 0, path: vec![], value }], &options(), &here));
            }
            for setting in ["to", "type", "transform", "when", "options", "direction", "on_clear"] {
                let value = serde_yaml::to_value(json!({"role": {"to": "X", setting: json}})).unwrap();
                drop(parse(&[Section { file: 0, path: vec![], value }], &options(), &here));
            }
            let value = serde_yaml::to_value(json!({"role": {"to": "X", "transform": source}})).unwrap();
            drop(parse(&[Section { file: 0, path: vec![], value }], &options(), &here));
        }

        #[test]
        fn a_split_name_joins_to_the_name(words in prop::collection::vec("[\\p{L}'’.-]{1,8}", 1..6)) {
            let (first, last) = names::split(&words.join("  "));
            let joined: Vec<String> = [first, last].into_iter().flatten().collect();
            prop_assert_eq!(joined.join(" "), words.join(" "));
        }
    }
}
