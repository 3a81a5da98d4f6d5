//! Expressions in the operator's own words: MiniJinja's, with `value` and `record`.

use super::nearest::nearest;
use super::paths::{self, Known};
use crate::model::{Fields, Value};
use minijinja::value::{Object, Serde, Value as Jinja};
use minijinja::{Environment, ErrorKind, UndefinedBehavior};
use std::fmt;
use std::sync::{Arc, LazyLock};

mod names;

/// Instructions that one evaluation may spend: far above any honest expression, far below a noticeable delay.
const FUEL: u64 = 20_000;
/// Characters that a result may have.
const LONGEST: usize = 20_000;
/// Characters that an expression may have.
const LONGEST_SOURCE: usize = 4_000;

static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(50);
    // Debug information would carry the record's values into error messages.
    environment.set_debug(false);
    // Fuel counts instructions, and one call of these can fill the memory (`value|indent(999999999)`).
    for filter in ["indent", "format", "pprint"] {
        environment.remove_filter(filter);
    }
    environment
});

/// A compiled expression.
#[derive(Clone)]
pub struct Expression {
    source: String,
    /// The paths of the record that it reads; an empty one if it reads the record as a whole.
    reads: Vec<String>,
    /// The record is a Brevo contact: its attributes by their names.
    of_brevo: bool,
    compiled: Arc<minijinja::Expression<'static, 'static>>,
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

/// Its source, which is also its meaning: fingerprints are made of it.
impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Expression({:?})", self.source)
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

impl Expression {
    /// Compiles. The error is what is wrong, and what to do.
    pub(crate) fn compile(source: &str) -> Result<Self, (String, Option<String>)> {
        Self::compile_over(source, false)
    }

    /// The same of a condition over a Brevo contact: `record.PLAN == 'pro'`.
    pub(crate) fn compile_of_brevo(source: &str) -> Result<Self, (String, Option<String>)> {
        Self::compile_over(source, true)
    }

    fn compile_over(source: &str, of_brevo: bool) -> Result<Self, (String, Option<String>)> {
        if source.chars().count() > LONGEST_SOURCE {
            return Err((format!("the expression is longer than {LONGEST_SOURCE} characters"), None));
        }
        let compiled = ENVIRONMENT
            .compile_expression_owned(source.to_owned())
            .map_err(|error| (format!("the expression does not compile: {}", words(&error)), None))?;
        names::check(source, &ENVIRONMENT)?;
        let mut names: Vec<String> = compiled.undeclared_variables(true).into_iter().collect();
        names.sort();
        for name in &names {
            if of_brevo { check_attribute(name)? } else { check_name(name)? }
        }
        let reads = names
            .iter()
            .filter_map(|name| name.strip_prefix("record"))
            .map(|rest| rest.trim_start_matches('.').to_owned())
            .collect();
        Ok(Self { source: source.to_owned(), reads, of_brevo, compiled: Arc::new(compiled) })
    }

    /// Whether it reads other fields than its own.
    pub(crate) fn reads_record(&self) -> bool {
        !self.reads.is_empty()
    }

    /// Whether it may read something at or below this path.
    pub fn mentions(&self, prefix: &str) -> bool {
        self.reads.iter().any(|path| path.is_empty() || paths::touches(path, prefix))
    }

    fn run(&self, value: Option<&Value>, record: &Fields) -> Result<Jinja, minijinja::Error> {
        let value = value.map_or_else(|| Jinja::from(()), to_jinja);
        let record = if self.reads_record() {
            let (fields, any) = (Arc::new(record.clone()), self.of_brevo);
            Jinja::from_object(RecordView { fields, prefix: String::new(), any })
        } else {
            Jinja::from(())
        };
        self.compiled.eval(minijinja::context! { value, record })
    }

    /// The value that it gives. Errors name no values: they are somebody's.
    pub(crate) fn evaluate(&self, value: Option<&Value>, record: &Fields) -> Result<Option<Value>, String> {
        let result = self.run(value, record).map_err(|error| failure(&error))?;
        if result.is_undefined() {
            return Err("the expression gives something that is not defined".to_owned());
        }
        if let Some(text) = result.as_str()
            && text.chars().count() > LONGEST
        {
            return Err(format!("the expression gives more than {LONGEST} characters"));
        }
        let json =
            serde_json::to_value(&result).map_err(|_| "the expression gives something that is no value".to_owned())?;
        Ok(Value::from_json(&json))
    }

    /// Whether it holds.
    ///
    /// # Errors
    /// If it cannot be evaluated; in words that name no value.
    pub fn holds(&self, value: Option<&Value>, record: &Fields) -> Result<bool, String> {
        let result = self.run(value, record).map_err(|error| failure(&error))?;
        if result.is_undefined() {
            return Err("the condition gives something that is not defined".to_owned());
        }
        Ok(result.is_true())
    }
}

fn to_jinja(value: &Value) -> Jinja {
    Jinja::from(Serde(&value.to_json()))
}

/// What went wrong while compiling: the operator's own text may be quoted.
fn words(error: &minijinja::Error) -> String {
    error.detail().map_or_else(|| error.kind().to_string(), |detail| format!("{}: {detail}", error.kind()))
}

/// What went wrong while running: details may quote the record, so they stay out.
fn failure(error: &minijinja::Error) -> String {
    match error.kind() {
        ErrorKind::OutOfFuel => "the expression takes too many steps".to_owned(),
        kind => format!("the expression failed: {kind}"),
    }
}

/// A name that the expression reads: `value…`, `record.<known path>`, or one of MiniJinja's own functions.
fn check_name(name: &str) -> Result<(), (String, Option<String>)> {
    let root = name.split('.').next().unwrap_or(name);
    if root == "value" || name == "record" || ENVIRONMENT.globals().any(|(global, _)| global == root) {
        return Ok(());
    }
    let Some(path) = name.strip_prefix("record.") else {
        let help = if super::transform::NAMES.contains(&root) {
            format!("`{root}` is a transform: write `transform: [{{{root}: …}}]`")
        } else if let Some(root) = nearest(root, ["value", "record"].into_iter()) {
            format!("did you mean `{root}`?")
        } else if let Known::Yes(_) = paths::lookup(name) {
            format!("did you mean `record.{name}`?")
        } else {
            "an expression can read `value` and `record`; text is written in quotes".to_owned()
        };
        return Err((format!("the expression reads `{root}`, which does not exist"), Some(help)));
    };
    // `record.name.x` and `record.custom_attributes.a.b` reach into a value.
    let mut prefix = path;
    loop {
        if is_namespace(prefix) || matches!(paths::lookup(prefix), Known::Yes(_)) {
            return Ok(());
        }
        match prefix.rsplit_once('.') {
            Some((shorter, _)) if !is_namespace(shorter) => prefix = shorter,
            _ => break,
        }
    }
    let help = match paths::lookup(path) {
        Known::Elsewhere(who) => Some(who.to_owned()),
        Known::No(meant) => meant.in_words("record."),
        Known::Yes(_) => None,
    };
    Err((format!("the expression reads `{name}`, but a record has no `{path}`"), help))
}

/// A name that a condition over a Brevo contact reads: `record.ATTRIBUTE`.
fn check_attribute(name: &str) -> Result<(), (String, Option<String>)> {
    let root = name.split('.').next().unwrap_or(name);
    if name == "record" || ENVIRONMENT.globals().any(|(global, _)| global == root) {
        return Ok(());
    }
    let attribute = name.strip_prefix("record.").map(|rest| rest.split('.').next().unwrap_or(rest));
    let is_name = |name: &str| {
        name.starts_with(|letter: char| letter.is_ascii_uppercase())
            && name.chars().all(|letter| letter.is_ascii_uppercase() || letter.is_ascii_digit() || letter == '_')
    };
    match attribute {
        Some(attribute) if is_name(attribute) => Ok(()),
        Some(attribute) => {
            let help = format!("did you mean `record.{}`?", attribute.to_uppercase());
            Err((format!("Brevo's attributes are written in capitals, and `{attribute}` is not"), Some(help)))
        }
        None => {
            let help =
                "a condition over Brevo's contacts reads `record.ATTRIBUTE`; text is written in quotes".to_owned();
            Err((format!("the condition reads `{root}`, which does not exist"), Some(help)))
        }
    }
}

/// Whether paths continue below this one.
fn is_namespace(path: &str) -> bool {
    let below = |known: &str| known.strip_prefix(path).is_some_and(|rest| rest.starts_with('.'));
    ["custom_attributes", "company.custom_attributes"].contains(&path) || paths::all().any(|(known, _)| below(known))
}

/// A record by its paths: `record.company.plan`. A known path without value is `none`; an unknown one is undefined.
#[derive(Debug)]
struct RecordView {
    fields: Arc<Fields>,
    prefix: String,
    /// A name without value is `none`, whatever it is.
    any: bool,
}

impl Object for RecordView {
    fn get_value(self: &Arc<Self>, key: &Jinja) -> Option<Jinja> {
        let path = format!("{}{}", self.prefix, key.as_str()?);
        if let Some(value) = self.fields.get(&path) {
            Some(to_jinja(value))
        } else if self.any {
            Some(Jinja::from(()))
        } else if is_namespace(&path) {
            Some(Jinja::from_object(Self { fields: Arc::clone(&self.fields), prefix: format!("{path}."), any: false }))
        } else {
            matches!(paths::lookup(&path), Known::Yes(_)).then(|| Jinja::from(()))
        }
    }
}
