//! `${VAR}`, `${VAR:-default}` and `$$` in values.
//!
//! It happens on scalars after parsing, so nothing in the environment can add a key, a list or a comment. A value with
//! a line break is refused all the same: no setting of ours has one, and a secret with one is a damaged secret that
//! would break the header it goes into.

use super::document::{Content, Node, Place};
use super::errors::Findings;
use std::collections::BTreeMap;

/// The environment, read once in `main` and handed on.
pub(super) type Env = BTreeMap<String, String>;

/// Replaces references in all values of the tree. Keys stay as they are.
pub(super) fn interpolate(node: &mut Node, text: &str, env: &Env, findings: &mut Findings) {
    match &mut node.content {
        Content::Sequence(items) => {
            for item in items {
                interpolate(item, text, env, findings);
            }
        }
        Content::Mapping(entries) => {
            for entry in entries {
                interpolate(&mut entry.value, text, env, findings);
            }
        }
        Content::Broken { .. } => {}
        Content::Scalar { text: value, .. } if !value.contains('$') => {}
        Content::Scalar { text: value, .. } => match expand(value, env) {
            Ok(expanded) => *value = expanded,
            Err(problem) => {
                let finding = findings.error(problem.within(node.place, text), problem.message());
                finding.label(problem.label());
                if let Some(help) = problem.help(env) {
                    finding.help(help);
                }
                findings.give_up_on(node.place);
                node.content = Content::Broken { text: std::mem::take(value) };
            }
        },
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Problem {
    Missing(String),
    LineBreak(String),
    BadName(String),
    Unclosed,
    Nested(String),
}

impl Problem {
    fn message(&self) -> String {
        match self {
            Self::Missing(name) => format!("the environment variable `{name}` is not set"),
            Self::LineBreak(name) => format!("the value of the environment variable `{name}` contains a line break"),
            Self::BadName(name) => format!("`${{{name}}}` does not name a variable"),
            Self::Unclosed => "`${` without its `}`".to_owned(),
            Self::Nested(name) => format!("the default of `{name}` contains another `${{`"),
        }
    }

    fn label(&self) -> String {
        match self {
            Self::Missing(name) => format!("expected `{name}` in the environment, or a default: `${{{name}:-…}}`"),
            Self::LineBreak(_) => "expected a value of one line".to_owned(),
            Self::BadName(_) => "expected letters, digits and `_`, such as `${BREVO_API_KEY}`".to_owned(),
            Self::Unclosed => "expected `${NAME}`; a dollar sign itself is written `$$`".to_owned(),
            Self::Nested(_) => "expected a plain default".to_owned(),
        }
    }

    fn help(&self, env: &Env) -> Option<String> {
        let Self::Missing(name) = self else { return None };
        let nearest = crate::mapping::nearest(name, env.keys().map(String::as_str))?;
        Some(format!("The environment has `{nearest}`."))
    }

    /// The reference itself, where it can be found as written.
    fn within(&self, place: Place, text: &str) -> Place {
        let needle = match self {
            Self::Missing(name) | Self::LineBreak(name) | Self::BadName(name) | Self::Nested(name) => {
                format!("${{{name}")
            }
            Self::Unclosed => "${".to_owned(),
        };
        let found = text.get(place.start..place.end).and_then(|raw| raw.find(&needle));
        match found {
            None => place,
            Some(at) => {
                let start = place.start + at;
                let tail = text.get(start..place.end).unwrap_or_default();
                let end = tail.find('}').map_or(place.end, |brace| start + brace + 1);
                Place { start, end, ..place }
            }
        }
    }
}

fn expand(value: &str, env: &Env) -> Result<String, Problem> {
    let mut out = String::with_capacity(value.len());
    let mut rest = value;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(tail) = rest.strip_prefix('$') {
            out.push('$');
            rest = tail;
        } else if let Some(tail) = rest.strip_prefix('{') {
            let end = tail.find('}').ok_or(Problem::Unclosed)?;
            out.push_str(&look_up(&tail[..end], env)?);
            rest = &tail[end + 1..];
        } else {
            out.push('$'); // a lone dollar sign is only itself
        }
    }
    out.push_str(rest);
    Ok(out)
}

fn look_up(reference: &str, env: &Env) -> Result<String, Problem> {
    let (name, default) = match reference.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (reference, None),
    };
    let well_formed = name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
        && name.starts_with(|letter: char| !letter.is_ascii_digit());
    if !well_formed {
        return Err(Problem::BadName(name.to_owned()));
    }
    if default.is_some_and(|default| default.contains("${")) {
        return Err(Problem::Nested(name.to_owned()));
    }
    match (env.get(name), default) {
        (Some(value), _) if value.contains(['\n', '\r']) => Err(Problem::LineBreak(name.to_owned())),
        // As in a shell, `:-` also stands in for a variable that is set to nothing.
        (Some(value), Some(default)) if value.is_empty() => Ok(default.to_owned()),
        (Some(value), _) => Ok(value.clone()),
        (None, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err(Problem::Missing(name.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env() -> Env {
        [("A", "one"), ("EMPTY", ""), ("LINES", "a\nb: c"), ("YAML", "x: [y] # z")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into()
    }

    #[test]
    fn references_defaults_and_dollars() {
        for (given, expected) in [
            ("${A}", "one"),
            ("<${A}|${A}>", "<one|one>"),
            ("${B:-two}", "two"),
            ("${EMPTY:-two}", "two"),
            ("${EMPTY}", ""),
            ("${B:-}", ""),
            ("$${A} costs 5$", "${A} costs 5$"),
            ("$A", "$A"),
            ("${YAML}", "x: [y] # z"),
        ] {
            assert_eq!(expand(given, &env()), Ok(expected.to_owned()), "{given}");
        }
    }

    #[test]
    fn what_cannot_be_replaced_is_named() {
        for (given, expected) in [
            ("${B}", Problem::Missing("B".to_owned())),
            ("${LINES}", Problem::LineBreak("LINES".to_owned())),
            ("${1A}", Problem::BadName("1A".to_owned())),
            ("${}", Problem::BadName(String::new())),
            ("${A", Problem::Unclosed),
            ("${B:-${A}}", Problem::Nested("B".to_owned())),
        ] {
            assert_eq!(expand(given, &env()), Err(expected), "{given}");
        }
    }
}
