//! The descriptions judge themselves first: their examples against their schemas. Some contradict, which is known
//! and no fault of ours; but a validator that finds all or none wrong would be broken.

use crate::openapi::Spec;
use serde_json::json;
use std::collections::BTreeSet;

fn judge(name: &str, most: usize) {
    let Some(spec) = Spec::load(name) else { return };
    let (examples, contradictions) = spec.contradictory_examples();
    let bodies: BTreeSet<&str> = contradictions.iter().map(|(body, _)| body.as_str()).collect();
    eprintln!("{name}: {examples} examples, {} bodies contradict their schema:", bodies.len());
    for (_, problem) in &contradictions {
        eprintln!("  {problem}"); // shown when the test fails, or with `-- --show-output`
    }
    let broken = contradictions.iter().find(|(_, problem)| problem.contains("cannot be compiled"));
    assert_eq!(broken, None, "{name}: a schema does not compile");
    assert!(examples > 150, "{name}: only {examples} examples were found");
    assert!(!bodies.is_empty() && bodies.len() <= most, "{name}: {} bodies contradict their schema", bodies.len());
}

#[test]
fn intercoms_examples_fit_for_the_most_part() {
    judge("intercom-2.11.yaml", 90);
}

#[test]
fn brevos_examples_fit_for_the_most_part() {
    judge("brevo-2026-02.yaml", 90);
}

#[test]
fn the_newest_brevo_description_compiles_and_knows_what_came_late() {
    let Some(spec) = Spec::load("brevo-2026-10.json") else { return };
    let body = json!({ "events": [{ "event_name": "seen", "identifiers": { "email_id": "a@example.com" } }] });
    let problems = spec.check_exchange("POST", "/v3/events/batch", Some(&body), 202, None);
    assert!(problems.iter().all(|problem| problem.part == crate::openapi::Part::Response), "{problems:?}");
}
