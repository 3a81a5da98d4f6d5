//! The descriptions judge themselves first: their examples against their schemas. Some contradict, which is known
//! and no fault of ours; but a validator that finds all or none wrong would be broken.

use crate::openapi::Spec;
use serde_json::json;

fn judge(name: &str, most_contradictions_per_example: f64) {
    let Some(spec) = Spec::load(name) else { return };
    let (examples, contradictions) = spec.contradictory_examples();
    let mut operations: Vec<&str> = contradictions.iter().map(|(operation, _)| operation.as_str()).collect();
    operations.dedup();
    eprintln!("{name}: {examples} examples, {} contradictions in {} bodies", contradictions.len(), operations.len());
    if std::env::args().any(|argument| argument == "--show-output") {
        for (_, problem) in &contradictions {
            eprintln!("  {problem}");
        }
    }
    let broken = contradictions.iter().find(|(_, problem)| problem.contains("cannot be compiled"));
    assert_eq!(broken, None, "{name}: a schema does not compile");
    assert!(examples > 100, "{name}: only {examples} examples were found");
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rough bound")]
    let bound = (examples as f64 * most_contradictions_per_example) as usize;
    assert!(contradictions.len() <= bound, "{name}: {} contradictions in {examples} examples", contradictions.len());
}

#[test]
fn intercoms_examples_fit_for_the_most_part() {
    judge("intercom-2.11.yaml", 0.6);
}

#[test]
fn brevos_examples_fit_for_the_most_part() {
    judge("brevo-2026-02.yaml", 0.6);
}

#[test]
fn the_newest_brevo_description_compiles_and_knows_what_came_late() {
    let Some(spec) = Spec::load("brevo-2026-10.json") else { return };
    let body = json!({ "events": [{ "event_name": "seen", "identifiers": { "email_id": "a@example.com" } }] });
    let problems = spec.check_exchange("POST", "/v3/events/batch", Some(&body), 202, None);
    assert!(problems.iter().all(|problem| problem.part == crate::openapi::Part::Response), "{problems:?}");
}
