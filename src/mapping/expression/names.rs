//! The filters, tests and functions that an expression names: all looked up at load. MiniJinja itself would complain only
//! when it comes to one, and `role == 'user' and value | uper` comes to it for users alone.

use super::super::nearest::{did_you_mean, nearest};
use minijinja::{Environment, ErrorKind};

/// MiniJinja's filters that we leave in, for guesses; whether one exists, MiniJinja says.
const FILTERS: &[&str] = &[
    "abs",
    "batch",
    "bool",
    "capitalize",
    "default",
    "dictsort",
    "first",
    "float",
    "groupby",
    "int",
    "items",
    "join",
    "last",
    "length",
    "lines",
    "list",
    "lower",
    "map",
    "max",
    "min",
    "reject",
    "rejectattr",
    "replace",
    "reverse",
    "round",
    "select",
    "selectattr",
    "slice",
    "sort",
    "split",
    "string",
    "sum",
    "title",
    "tojson",
    "trim",
    "unique",
    "upper",
    "zip",
];

/// Its tests.
const TESTS: &[&str] = &[
    "boolean",
    "defined",
    "divisibleby",
    "endingwith",
    "eq",
    "even",
    "false",
    "filter",
    "float",
    "ge",
    "gt",
    "in",
    "integer",
    "iterable",
    "le",
    "lower",
    "lt",
    "mapping",
    "ne",
    "none",
    "number",
    "odd",
    "sameas",
    "sequence",
    "startingwith",
    "string",
    "test",
    "true",
    "undefined",
    "upper",
];

/// What an expression names, and as what.
#[derive(Debug, PartialEq, Eq)]
enum Named<'a> {
    Filter(&'a str),
    Test(&'a str),
    Function(&'a str),
    Method(&'a str),
}

/// Checks each name. The error is what is wrong, and what to do.
pub(super) fn check(source: &str, environment: &Environment<'_>) -> Result<(), (String, Option<String>)> {
    for named in scan(source) {
        match named {
            Named::Filter(name) if !exists(environment, &format!("none|{name}"), ErrorKind::UnknownFilter) => {
                let help = if super::super::transform::NAMES.contains(&name) && !FILTERS.contains(&name) {
                    format!("`{name}` is a transform, a step of its own: `transform: [{name}, …]`")
                } else {
                    did_you_mean(name, FILTERS.iter().copied())
                        .unwrap_or_else(|| format!("filters are {}", FILTERS.join(", ")))
                };
                return Err((format!("an expression has no filter `{name}`"), Some(help)));
            }
            Named::Test(name) if !exists(environment, &format!("none is {name}"), ErrorKind::UnknownTest) => {
                let help = did_you_mean(name, TESTS.iter().copied())
                    .unwrap_or_else(|| format!("to compare, write `==`; tests are {}", TESTS.join(", ")));
                return Err((format!("an expression has no test `{name}`"), Some(help)));
            }
            Named::Function(name) if environment.globals().all(|(global, _)| global != name) => {
                let names: Vec<&str> = environment.globals().map(|(name, _)| name).collect();
                let help = if FILTERS.contains(&name) {
                    format!("it is a filter: write `value | {name}`")
                } else if super::super::transform::NAMES.contains(&name) {
                    format!("`{name}` is a transform: write `transform: [{{{name}: …}}]`")
                } else {
                    let filter = || {
                        Some(format!("did you mean the filter `value | {}`?", nearest(name, FILTERS.iter().copied())?))
                    };
                    did_you_mean(name, names.iter().copied()).or_else(filter).unwrap_or_else(|| {
                        format!("functions are {}; most else is a filter: `value | lower`", names.join(", "))
                    })
                };
                return Err((format!("an expression has no function `{name}`"), Some(help)));
            }
            Named::Method(name) => {
                let near = did_you_mean(name, FILTERS.iter().copied());
                let help = match near {
                    Some(_) if FILTERS.contains(&name) => format!("write it as a filter: `value | {name}`"),
                    Some(near) => format!("filters do such things (`value | lower`); {near}"),
                    None => "filters do such things: `value | lower`".to_owned(),
                };
                return Err((format!("values have no methods, so there is no `{name}(…)`"), Some(help)));
            }
            Named::Filter(_) | Named::Test(_) | Named::Function(_) => {}
        }
    }
    Ok(())
}

fn exists(environment: &Environment<'_>, probe: &str, unknown: ErrorKind) -> bool {
    let ran = environment.compile_expression(probe).and_then(|probe| probe.eval(()));
    !ran.is_err_and(|error| error.kind() == unknown)
}

/// The names, in order. The source compiles, so only what tells names apart is looked at: strings are passed by; behind
/// `|` stands a filter, behind `is` or `is not` a test, before `(` a function or, behind a dot, a method.
fn scan(source: &str) -> Vec<Named<'_>> {
    #[derive(Clone, Copy, PartialEq)]
    enum Before {
        Pipe,
        Is,
        Dot,
        Else,
    }
    let mut found = Vec::new();
    let mut before = Before::Else;
    let mut rest = source;
    while let Some(letter) = rest.chars().next() {
        if letter == '"' || letter == '\'' {
            rest = behind_string(rest, letter);
            before = Before::Else;
        } else if letter.is_alphabetic() || letter == '_' {
            let end = rest.find(|letter: char| !letter.is_alphanumeric() && letter != '_').unwrap_or(rest.len());
            let (word, tail) = rest.split_at(end);
            rest = tail;
            let called = tail.trim_start().starts_with('(');
            before = match (before, word) {
                (Before::Is, "not") | (Before::Else, "is") => Before::Is,
                (Before::Pipe, name) => {
                    found.push(Named::Filter(name));
                    Before::Else
                }
                (Before::Is, name) => {
                    found.push(Named::Test(name));
                    Before::Else
                }
                (Before::Dot, name) => {
                    if called {
                        found.push(Named::Method(name));
                    }
                    Before::Else
                }
                (Before::Else, "and" | "or" | "not" | "in" | "if" | "else") => Before::Else,
                (Before::Else, name) => {
                    if called {
                        found.push(Named::Function(name));
                    }
                    Before::Else
                }
            };
        } else if letter.is_ascii_digit() {
            // With its dot: `1.5` names nothing.
            let end = rest.find(|letter: char| !letter.is_alphanumeric() && !['.', '_'].contains(&letter));
            rest = rest.get(end.unwrap_or(rest.len())..).unwrap_or_default();
            before = Before::Else;
        } else {
            rest = rest.get(letter.len_utf8()..).unwrap_or_default();
            before = match letter {
                '|' => Before::Pipe,
                '.' => Before::Dot,
                blank if blank.is_whitespace() => before,
                _ => Before::Else,
            };
        }
    }
    found
}

/// What stands behind the string that begins here.
fn behind_string(text: &str, quote: char) -> &str {
    let mut escaped = false;
    for (at, letter) in text.char_indices().skip(1) {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            letter if letter == quote => return text.get(at + 1..).unwrap_or_default(),
            _ => {}
        }
    }
    ""
}

#[cfg(test)]
mod tests {
    use super::super::ENVIRONMENT;
    use super::*;

    #[test]
    fn names_are_found_where_they_stand_and_strings_are_passed_by() {
        use Named::{Filter, Function, Method, Test};
        for (source, expected) in [
            ("value", vec![]),
            ("value | upper", vec![Filter("upper")]),
            ("value|replace('|x', \"is y(\")|trim", vec![Filter("replace"), Filter("trim")]),
            ("value is not none and record.role is string", vec![Test("none"), Test("string")]),
            ("'it\\'s | no' ~ range(3)", vec![Function("range")]),
            ("value.upper () or (record.x)", vec![Method("upper")]),
            ("not (value in (1.5, 2)) if (value) else (3)", vec![]),
            ("value is divisibleby(3)", vec![Test("divisibleby")]),
            ("record.is.x | a", vec![Filter("a")]),
        ] {
            assert_eq!(scan(source), expected, "{source}");
        }
    }

    #[test]
    fn the_names_for_guesses_all_exist() {
        let unknown = |names: &[&'static str], probe: &str, kind| -> Vec<&str> {
            names.iter().copied().filter(|name| !exists(&ENVIRONMENT, &format!("{probe}{name}"), kind)).collect()
        };
        let filters = unknown(FILTERS, "none|", ErrorKind::UnknownFilter);
        let tests = unknown(TESTS, "none is ", ErrorKind::UnknownTest);
        assert!(filters.is_empty() && tests.is_empty(), "{filters:?} {tests:?}");
    }
}
