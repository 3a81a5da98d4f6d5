//! Where the vendors' descriptions are wrong about their own API, and we follow the API: a reviewed table.
//!
//! A deviation that no longer occurs is an error too, so that the table stays as short as it can be.

use crate::openapi::{Part, Problem};
use std::collections::BTreeSet;

/// One reviewed disagreement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deviation {
    /// `GET /contacts/{id}`; `*` for all; a last `*` for all that start so.
    pub operation: &'static str,
    /// Which part of the exchange.
    pub part: Part,
    /// JSON pointer in which `*` stands for one segment and a last `**` for any number of them; a query parameter's
    /// name for [`Part::Query`].
    pub pointer: &'static str,
    /// A part of the validator's complaint, so that a row covers nothing else that goes wrong there.
    pub complaint: &'static str,
    /// What the API really does, and how that is known.
    pub fact: &'static str,
}

impl Deviation {
    fn covers(&self, problem: &Problem) -> bool {
        let operation_fits = match self.operation.strip_suffix('*') {
            Some(start) => problem.operation.starts_with(start),
            None => problem.operation == self.operation,
        };
        operation_fits
            && self.part == problem.part
            && pointer_fits(self.pointer, &problem.pointer)
            && problem.message.contains(self.complaint)
    }
}

/// A table in use: remembers which rows were needed.
pub struct Reviewed {
    table: &'static [Deviation],
    used: BTreeSet<usize>,
}

impl Reviewed {
    /// Nothing used yet.
    pub fn new(table: &'static [Deviation]) -> Self {
        Self { table, used: BTreeSet::new() }
    }

    /// The problems that no row covers.
    pub fn filter(&mut self, problems: Vec<Problem>) -> Vec<Problem> {
        let mut rest = Vec::new();
        for problem in problems {
            match self.table.iter().position(|deviation| deviation.covers(&problem)) {
                Some(row) => _ = self.used.insert(row),
                None => rest.push(problem),
            }
        }
        rest
    }

    /// Rows that covered nothing: either the double no longer does it, or the row never fitted.
    pub fn unused(&self) -> Vec<&'static Deviation> {
        self.table.iter().enumerate().filter(|(row, _)| !self.used.contains(row)).map(|(_, row)| row).collect()
    }
}

fn pointer_fits(pattern: &str, pointer: &str) -> bool {
    let mut pattern = pattern.split('/');
    let mut pointer = pointer.split('/');
    loop {
        match (pattern.next(), pointer.next()) {
            (Some("**"), _) | (None, None) => return true,
            (Some(want), Some(is)) if want == "*" || want == is => {}
            _ => return false,
        }
    }
}

#[test]
fn pointers_fit_by_segment() {
    assert!(pointer_fits("/data/*/email", "/data/3/email"));
    assert!(pointer_fits("/data/**", "/data/3/email"));
    assert!(!pointer_fits("/data/*", "/data/3/email"));
    assert!(pointer_fits("", ""));
    assert!(!pointer_fits("/data", ""));
}

#[test]
fn a_row_that_covers_nothing_is_reported() {
    static TABLE: &[Deviation] = &[
        Deviation { operation: "*", part: Part::Response, pointer: "/a/*", complaint: "null", fact: "seen live" },
        Deviation { operation: "GET /b", part: Part::Response, pointer: "/a", complaint: "", fact: "seen live" },
    ];
    let problem = |operation: &str, pointer: &str| Problem {
        operation: operation.into(),
        part: Part::Response,
        status: 200,
        pointer: pointer.into(),
        message: "null is not of type \"array\"".into(),
    };
    let mut reviewed = Reviewed::new(TABLE);
    let rest = reviewed.filter(vec![problem("GET /x", "/a/1"), problem("GET /x", "/a")]);
    assert_eq!(rest.iter().map(|problem| problem.pointer.as_str()).collect::<Vec<_>>(), ["/a"]);
    assert_eq!(reviewed.unused(), [&TABLE[1]]);
}
