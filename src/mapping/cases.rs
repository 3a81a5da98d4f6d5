//! Examples beside a mapping, run like unit tests.

use super::{Mapping, Projection, convert};
use crate::model::{Fields, Value};
use std::collections::BTreeMap;

/// An example: what Intercom holds, and what Brevo ought to hold then.
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    /// Its name.
    pub name: String,
    /// A record by its paths.
    pub given: Fields,
    /// What is expected of attributes. Those that are not named are not looked at.
    pub expect: BTreeMap<String, Expected>,
}

/// What an example expects of an attribute.
#[derive(Debug, Clone, PartialEq)]
pub enum Expected {
    /// This value; `None`: nothing.
    Value(Option<Value>),
    /// The field cannot be mapped, for a reason that contains these words, in capitals or not.
    Problem(String),
}

impl Expected {
    /// Whether that is what came out.
    fn is_met_by(&self, found: &Result<Option<Value>, String>) -> bool {
        match (self, found) {
            (Self::Value(value), Ok(found)) => value == found,
            (Self::Problem(words), Err(problem)) => problem.to_lowercase().contains(&words.to_lowercase()),
            _ => false,
        }
    }
}

/// How an example went.
#[derive(Debug, Clone, PartialEq)]
pub struct CaseResult {
    /// Its name.
    pub name: String,
    /// Where the mapping gave something else. Empty: it passed.
    pub failures: Vec<CaseFailure>,
}

/// One attribute that came out differently.
#[derive(Debug, Clone, PartialEq)]
pub struct CaseFailure {
    /// The attribute.
    pub attribute: String,
    /// What was expected.
    pub expected: Expected,
    /// What came out, or why nothing did.
    pub found: Result<Option<Value>, String>,
}

/// Runs all examples of the mapping.
pub fn run_cases(mapping: &Mapping) -> Vec<CaseResult> {
    mapping.cases.iter().map(|case| run(mapping, case)).collect()
}

fn run(mapping: &Mapping, case: &Case) -> CaseResult {
    let mut failures = Vec::new();
    for (attribute, expected) in &case.expect {
        let mut found: Result<Option<Value>, String> = Ok(None);
        let mut expected = expected.clone();
        for rule in &mapping.rules {
            let Some(index) = rule.targets.iter().position(|target| target.attribute == *attribute) else { continue };
            match rule.project(&case.given) {
                Projection::NotApplicable => continue,
                Projection::Cells(cells) => found = Ok(cells.get(index).cloned().flatten()),
                Projection::Problem(problem) => found = Err(problem.message),
            }
            // `false` is nothing, a date may be written with a time: what counts is what Brevo would hold.
            expected = match (expected, rule.targets.get(index)) {
                (Expected::Value(Some(value)), Some(target)) => Expected::Value(convert::observed(&value, target)),
                (expected, _) => expected,
            };
            break;
        }
        let found = found.map(|cell| cell.filter(|value| *value != Value::Boolean(false)));
        if !expected.is_met_by(&found) {
            failures.push(CaseFailure { attribute: attribute.clone(), expected, found });
        }
    }
    CaseResult { name: case.name.clone(), failures }
}
