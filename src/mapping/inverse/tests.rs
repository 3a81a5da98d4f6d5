//! What the way back promises.

use crate::mapping::{Direction, Mapping, OnConflict, Options, Projection, Section, parse};
use crate::model::{Attribute, AttributeKind, Fields, Number, SideName, Value};
use chrono::{DateTime, NaiveDate};
use proptest::prelude::*;
use serde_json::json;

fn read(yaml: &str) -> Result<Mapping, String> {
    let section = Section { file: 0, path: vec![], value: serde_yaml::from_str(yaml).unwrap() };
    let options =
        Options { default_phone_region: Some("NO".to_owned()), api_version: "2.11".to_owned(), ..Options::default() };
    parse(&[section], &options, &|_, _, _| None).map_err(|errors| {
        let line = |error: &crate::mapping::MappingError| {
            let help = error.help.as_ref().map_or(String::new(), |help| format!("\n    {help}"));
            format!("{}: {}{help}", error.path.join(" > "), error.message)
        };
        errors.iter().map(line).collect::<Vec<_>>().join("\n")
    })
}

/// A mapping fitted to a workspace that declares `custom_attributes.KIND` of each kind, and to an account without
/// attributes.
fn mapping(yaml: &str) -> Mapping {
    let kinds = [
        ("text", AttributeKind::Text),
        ("number", AttributeKind::Float),
        ("flag", AttributeKind::Boolean),
        ("date", AttributeKind::Date),
        ("set", AttributeKind::MultipleChoice),
    ];
    let declared = |(name, kind): (&str, AttributeKind)| Attribute {
        name: format!("custom_attributes.{name}"),
        kind,
        writable: true,
        options: vec![],
    };
    let mapping = read(yaml).unwrap().resolve(&[], &kinds.map(declared)).mapping;
    assert_eq!(mapping.misdirections(), vec![]);
    mapping
}

fn value(json: serde_json::Value) -> Option<Value> {
    Value::from_json(&json)
}

fn at(seconds: i64) -> Value {
    Value::Instant(DateTime::from_timestamp(seconds, 0).unwrap())
}

fn day(text: &str) -> Value {
    Value::Date(NaiveDate::parse_from_str(text, "%Y-%m-%d").unwrap())
}

/// What the one rule makes of these cells, where the record holds this.
fn back(mapping: &Mapping, cells: &[Option<Value>], held: Option<Value>) -> Result<Option<Value>, String> {
    let rule = &mapping.rules[0];
    let mut record = Fields::new();
    rule.put_source(&mut record, held);
    match rule.restore(cells, &record) {
        Projection::Cells(cells) => Ok(cells.into_iter().next().flatten()),
        Projection::Problem(problem) => Err(problem.message),
        Projection::NotApplicable => Err("not applicable".to_owned()),
    }
}

#[test]
fn what_brevo_holds_becomes_what_intercom_holds() {
    let midnight = at(1_772_323_200);
    for (yaml, cell, expected) in [
        ("phone: {to: SMS, direction: both}", value(json!("+4740000000")), value(json!("+4740000000"))),
        ("signed_up_at: {to: SINCE, direction: both}", Some(day("2026-03-01")), Some(midnight.clone())),
        ("custom_attributes.date: {to: D, direction: both}", Some(day("2026-03-01")), Some(midnight.clone())),
        (
            "custom_attributes.number: {to: D, type: date, direction: both}",
            Some(day("2026-03-01")),
            value(json!(1_772_323_200)),
        ),
        (
            "signed_up_at: {to: D, transform: date_time, direction: both}",
            value(json!("2026-03-01T00:00:00Z")),
            Some(midnight),
        ),
        (
            "custom_attributes.text: {to: D, type: date, direction: both}",
            Some(day("2026-03-01")),
            value(json!("2026-03-01")),
        ),
        ("custom_attributes.number: {to: N, direction: both}", value(json!(2.5)), value(json!(2.5))),
        ("custom_attributes.number: {to: N, type: text, direction: both}", value(json!("2.5")), value(json!(2.5))),
        ("custom_attributes.text: {to: N, transform: number, direction: both}", value(json!(7)), value(json!("7"))),
        ("custom_attributes.flag: {to: F, direction: both}", value(json!(true)), value(json!(true))),
        ("custom_attributes.flag: {to: F, direction: both}", None, None),
        ("custom_attributes.set: {to: S, direction: both}", value(json!(["a", "b"])), value(json!(["a", "b"]))),
        (
            "custom_attributes.text: {to: S, transform: split, direction: both}",
            value(json!(["a", "b"])),
            value(json!("a, b")),
        ),
        (
            "custom_attributes.text: {to: C, type: category, options: [Gold], direction: both}",
            value(json!("Gold")),
            value(json!("Gold")),
        ),
        (
            "custom_attributes.text: {to: C, transform: {map: {pro: VIP, free: Basic}}, direction: both}",
            value(json!("Basic")),
            value(json!("free")),
        ),
        (
            "custom_attributes.flag: {to: C, transform: {map: {true: Customer, false: Prospect}}, direction: both}",
            value(json!("Prospect")),
            value(json!(false)),
        ),
        (
            "custom_attributes.text: {to: P, transform: {map: {paying: true, trial: false}}, direction: both}",
            value(json!(true)),
            value(json!("paying")),
        ),
        (
            "custom_attributes.number: {to: T, transform: {map: {1: Gold, 2: Silver}}, direction: both}",
            value(json!("Silver")),
            value(json!(2)),
        ),
        ("custom_attributes.text: {to: T, direction: brevo_to_intercom}", None, None),
    ] {
        assert_eq!(back(&mapping(yaml), &[cell], None), Ok(expected), "{yaml}");
    }
    let name = mapping("name: {to: [FIRSTNAME, LASTNAME], transform: split_name, direction: both}");
    assert_eq!(
        back(&name, &[value(json!("Ludwig van")), value(json!("Beethoven"))], None),
        Ok(value(json!("Ludwig van Beethoven")))
    );
    assert_eq!(back(&name, &[None, value(json!(" Beethoven "))], None), Ok(value(json!("Beethoven"))));
    assert_eq!(back(&name, &[None, None], value(json!("Ludwig"))), Ok(None));
}

#[test]
fn the_finer_value_stays_until_the_coarser_one_is_edited() {
    let since = mapping("signed_up_at: {to: SINCE, direction: both}");
    let noon = at(1_772_366_400);
    assert_eq!(back(&since, &[Some(day("2026-03-01"))], Some(noon.clone())), Ok(Some(noon.clone())));
    assert_eq!(back(&since, &[Some(day("2026-03-02"))], Some(noon)), Ok(Some(at(1_772_409_600))));
    let phone = mapping("phone: {to: SMS, direction: both}");
    let local = value(json!("400 00 000"));
    assert_eq!(back(&phone, &[value(json!("+4740000000"))], local.clone()), Ok(local));
    let flag = mapping("custom_attributes.flag: {to: F, direction: both}");
    assert_eq!(back(&flag, &[None], value(json!(false))), Ok(value(json!(false))));
    assert_eq!(back(&flag, &[None], value(json!(true))), Ok(value(json!(false))), "no is not nothing");
    let paying =
        mapping("custom_attributes.text: {to: P, transform: {map: {paying: true, trial: false}}, direction: both}");
    assert_eq!(back(&paying, &[None], value(json!("paying"))), Ok(value(json!("trial"))));
}

#[test]
fn what_cannot_be_turned_back_is_a_problem_of_that_record() {
    for (yaml, cell) in [
        ("custom_attributes.text: {to: C, transform: {map: {pro: VIP}}, direction: both}", json!("Basic")),
        ("custom_attributes.number: {to: N, type: text, direction: both}", json!("a few")),
        ("signed_up_at: {to: D, transform: date_time, direction: both}", json!("last week")),
        ("custom_attributes.text: {to: X, transform: phone, direction: both}", json!("call me")),
        ("custom_attributes.text: {to: S, transform: split, direction: both}", json!(["a, b", "c"])),
    ] {
        let problem = back(&mapping(yaml), &[value(cell.clone())], None).unwrap_err();
        let text = cell.as_str().unwrap_or("a, b");
        assert!(problem.starts_with("back to Intercom: ") && !problem.contains(text), "{yaml}: {problem}");
    }
}

#[test]
fn what_has_no_way_back_is_told_with_the_ways_out() {
    insta::assert_snapshot!(
        read(
            "
company.name: {to: COMPANY, direction: both}
conversations.open_count: {to: OPEN, direction: brevo_to_intercom}
location.city: {to: CITY, direction: both}
has_hard_bounced: {to: BOUNCED, direction: both}
unsubscribed_from_emails: {to: OUT, direction: brevo_to_intercom}
unsubscribed_from_sms: {to: SMS_OUT, direction: both}
created_at: {to: CREATED, direction: both}
role: {to: ROLE, direction: both}
external_id: {to: CUSTOMER, direction: both}
tags: {to: TAGS, direction: both}
language_override: {to: LANGUAGE, direction: both}
phone: {to: PHONE, transform: upper, direction: both}
avatar: {to: PICTURE, transform: {truncate: 50}, direction: both}
owner_id: {to: OWNER, transform: 'value ~ \"!\"', direction: both}
name: {to: [A, B], direction: both}
custom_attributes.a: {to: FIRST, transform: first_name, direction: both}
custom_attributes.b: {to: B2, transform: {map: {x: One, y: one}}, direction: both}
custom_attributes.c: {to: C2, transform: {map: {x: One, '*': Two}}, direction: both}
custom_attributes.d: {to: D2, transform: {default: none}, direction: brevo_to_intercom}
signed_up_at: {to: N2, type: number, direction: both}
last_seen_at: {to: E2, direction: bidirectional, on_drift: leave}
custom_attributes.f: {to: F2, on_conflict: newest, tie: brevo}
custom_attributes.g: {to: G2, direction: sideways}
",
        )
        .unwrap_err()
    );
}

#[test]
fn two_rules_that_write_one_field_of_intercoms_are_told_apart_by_a_condition() {
    let two = "
- {from: name, to: [FIRSTNAME, LASTNAME], transform: split_name, direction: both}
- {from: name, to: FULLNAME, direction: both}
";
    let found = read(two).unwrap().misdirections();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].message, "two rules write `name` in Intercom");
    let one = two.replace("FULLNAME, direction: both", "FULLNAME");
    assert_eq!(read(&one).unwrap().misdirections(), vec![]);
}

#[test]
fn directions_are_read() {
    let yaml = "
name: {to: FULLNAME, direction: bidirectional, on_conflict: brevo}
phone: {to: SMS, direction: both, tie: brevo}
custom_attributes.x: {to: X, direction: brevo_to_intercom}
role: ROLE
";
    let mapping = read(yaml).unwrap();
    let rules: Vec<_> = mapping.rules.iter().map(|rule| (rule.direction, rule.on_conflict, rule.tie)).collect();
    assert_eq!(
        rules,
        [
            (Direction::Both, OnConflict::Brevo, SideName::Intercom),
            (Direction::Both, OnConflict::Newest, SideName::Brevo),
            (Direction::BrevoToIntercom, OnConflict::Newest, SideName::Intercom),
            (Direction::IntercomToBrevo, OnConflict::Newest, SideName::Intercom),
        ]
    );
    assert!(mapping.writes_intercom());
    // Another direction is another rule; who wins is not.
    let one_way = read("phone: SMS").unwrap();
    let other_winner = read("phone: {to: SMS, direction: both, on_conflict: intercom}").unwrap();
    assert_ne!(one_way.rules[0].fingerprint, mapping.rules[1].fingerprint);
    assert_eq!(other_winner.rules[0].fingerprint, mapping.rules[1].fingerprint);
}

/// Rules that lose something or nothing, what people may have in Intercom, and what Brevo may hold.
fn conversion() -> impl Strategy<Value = (&'static str, Value, Value)> {
    let words = || "[a-zæøå]{1,8}( [a-z]{1,8}){0,3}";
    let instant = || (0..4_000_000_000_i64).prop_map(at);
    let date = || {
        (0..40_000_i64).prop_map(|days| Value::Date(DateTime::from_timestamp(days * 86_400, 0).unwrap().date_naive()))
    };
    let number = || {
        prop_oneof![
            any::<i32>().prop_map(|whole| Value::Number(Number::Whole(whole.into()))),
            (-1e6..1e6).prop_map(|number: f64| Value::Number(Number::from_f64(number).unwrap())),
        ]
    };
    let text = || words().prop_map(Value::Text);
    let yes = Just(Value::Boolean(true));
    let phone = || (0..10_000_u32).prop_map(|number| Value::Text(format!("+47400{number:05}")));
    let set = || prop::collection::vec("[a-d]{1,2}", 1..4).prop_map(|items| Value::list(items).unwrap());
    let word =
        |words: &'static [&'static str]| prop::sample::select(words).prop_map(|word| Value::Text(word.to_owned()));
    prop_oneof![
        (Just("signed_up_at: {to: X, direction: both}"), instant(), date()),
        (Just("custom_attributes.date: {to: X, direction: both}"), instant(), date()),
        (Just("signed_up_at: {to: X, transform: date, direction: both}"), instant(), date()),
        (Just("custom_attributes.text: {to: X, direction: both}"), text(), text()),
        (Just("custom_attributes.text: {to: X, transform: trim, direction: both}"), text(), text()),
        (Just("custom_attributes.number: {to: X, direction: both}"), number(), number()),
        (
            Just("custom_attributes.text: {to: X, transform: number, direction: both}"),
            number().prop_map(|n| Value::Text(n.to_string())),
            number()
        ),
        (
            Just("custom_attributes.number: {to: X, type: text, direction: both}"),
            number(),
            number().prop_map(|n| Value::Text(n.to_string()))
        ),
        (Just("custom_attributes.flag: {to: X, direction: both}"), any::<bool>().prop_map(Value::Boolean), yes),
        (Just("phone: {to: SMS, direction: both}"), phone(), phone()),
        (Just("custom_attributes.set: {to: X, direction: both}"), set(), set()),
        (Just("custom_attributes.text: {to: X, transform: split, direction: both}"), text(), set()),
        (
            Just("custom_attributes.text: {to: X, transform: {map: {pro: VIP, free: Basic}}, direction: both}"),
            word(&["pro", "free"]),
            word(&["VIP", "Basic"]),
        ),
        (
            Just("custom_attributes.text: {to: X, type: category, options: [Gold, Silver], direction: both}"),
            word(&["Gold", "silver", " gold "]),
            word(&["Gold", "Silver"]),
        ),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn there_and_back((yaml, fine, coarse) in conversion(), held: bool) {
        let mapping = mapping(yaml);
        let rule = &mapping.rules[0];
        let mut record = Fields::new();
        // What Intercom holds stays, as long as nobody edits what was made of it.
        rule.put_source(&mut record, Some(fine));
        let Projection::Cells(made) = rule.project(&record) else { panic!("{yaml} maps") };
        prop_assert_eq!(rule.restore(&made, &record), Projection::Cells(vec![rule.source_value(&record)]));
        // What Brevo holds is what Intercom's new value makes, whatever Intercom held before.
        if !held {
            record.clear();
        }
        let cells = vec![Some(coarse)];
        let Projection::Cells(back) = rule.restore(&cells, &record) else { panic!("{yaml} can be turned back") };
        rule.put_source(&mut record, back[0].clone());
        prop_assert_eq!(rule.project(&record), Projection::Cells(cells.clone()));
        prop_assert_eq!(rule.restore(&cells, &record), Projection::Cells(back));
    }

    /// A name and its parts: the parts of a name are that name, white space aside, and stay so.
    #[test]
    fn a_name_is_its_parts(parts in ("[A-Z][a-z]{1,6}( [A-Z][a-z]{1,6})?", prop::option::of("(van |de )?[A-Z][a-z]{1,6}"))) {
        let mapping = mapping("name: {to: [FIRSTNAME, LASTNAME], transform: split_name, direction: both}");
        let rule = &mapping.rules[0];
        let cells = vec![Value::text(parts.0), parts.1.and_then(Value::text)];
        let Projection::Cells(whole) = rule.restore(&cells, &Fields::new()) else { panic!("a name") };
        let mut record = Fields::new();
        rule.put_source(&mut record, whole[0].clone());
        let Projection::Cells(made) = rule.project(&record) else { panic!("a name") };
        prop_assert_eq!(rule.restore(&made, &Fields::new()), Projection::Cells(whole));
    }
}
