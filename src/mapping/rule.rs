//! One rule: a source path, what becomes of its value, and the attributes that hold it.

use super::expression::Expression;
use super::paths::{self, SourceKind};
use super::transform::{Gives, Step};
use super::{Direction, OnConflict, Spot, convert, inverse};
use crate::model::{AttributeKind, Fields, SideName, Value};
use sha2::{Digest, Sha256};

/// What happens in Brevo when the source loses its value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnClear {
    /// Nothing.
    #[default]
    Keep,
    /// The attribute loses its value too.
    Propagate,
}

/// What happens when somebody edits a one-way field in Brevo.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnDrift {
    /// The source's value is put back at the next sweep.
    #[default]
    Restore,
    /// The edit stays until the source changes.
    Leave,
}

/// The type that a rule asks for (`type:` of the long form).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueType {
    /// Any text.
    Text,
    /// A number.
    Number,
    /// Yes or no.
    Boolean,
    /// A calendar day, in UTC.
    Date,
    /// An instant. Brevo has no type for it: text in RFC 3339.
    DateTime,
    /// One of an enumeration.
    Category,
    /// Any of a set of options.
    MultipleChoice,
}

impl ValueType {
    /// All of them, by the name they have in YAML.
    pub const NAMES: &'static [(&'static str, Self)] = &[
        ("text", Self::Text),
        ("number", Self::Number),
        ("boolean", Self::Boolean),
        ("date", Self::Date),
        ("date-time", Self::DateTime),
        ("category", Self::Category),
        ("multiple-choice", Self::MultipleChoice),
    ];

    /// The Brevo attribute type that holds it.
    pub fn attribute_kind(self) -> AttributeKind {
        match self {
            Self::Text | Self::DateTime => AttributeKind::Text,
            Self::Number => AttributeKind::Float,
            Self::Boolean => AttributeKind::Boolean,
            Self::Date => AttributeKind::Date,
            Self::Category => AttributeKind::Category,
            Self::MultipleChoice => AttributeKind::MultipleChoice,
        }
    }
}

/// A Brevo attribute that a rule writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its UPPER-CASE name.
    pub attribute: String,
    /// Its type: what the mapping implies, and after [`super::Mapping::resolve`] what the account has.
    pub kind: AttributeKind,
    /// Labels of a category with their stored keys, or options of a multiple choice.
    pub options: Vec<(String, String)>,
    /// Where its name is written. `None` in the default mapping.
    pub spot: Option<Spot>,
}

/// A field that could not be mapped. The words hold no personal data.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct FieldProblem {
    /// The rule's key.
    pub field: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
}

/// What Brevo ought to hold.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Projection {
    /// The rule does not speak about this record (`when` is false, or the rule is inert).
    #[default]
    NotApplicable,
    /// One cell per target, canonical. `Some(false)` is a source that says no, though [`FieldRule::observed`] cannot
    /// tell it from nothing; `None` in some cells while others have a value is a source that says "empty" there (a name
    /// without a family name).
    Cells(Vec<Option<Value>>),
    /// The value could not be mapped.
    Problem(FieldProblem),
}

/// A compiled rule.
#[derive(Debug, Clone)]
pub struct FieldRule {
    /// Stable name: `custom_attributes.plan_tier -> PLAN_TIER`.
    pub key: String,
    /// The path on the Intercom side.
    pub source: String,
    /// The attributes on the Brevo side.
    pub targets: Vec<Target>,
    /// Which way it travels.
    pub direction: Direction,
    /// The rule says so itself; else it follows the config's default as far as it can.
    pub(crate) direction_given: bool,
    /// Whose value stands where both sides changed it.
    pub on_conflict: OnConflict,
    /// Who wins where nobody can say whose value is newer.
    pub tie: SideName,
    /// What a source without value does.
    pub on_clear: OnClear,
    /// What an edit on the side that only takes does.
    pub on_drift: OnDrift,
    /// Changes when the rule's meaning changes.
    pub fingerprint: String,
    /// The type that was asked for.
    pub value_type: Option<ValueType>,
    /// It is of a company object, not of a contact.
    pub(crate) of_company: bool,
    /// What the source holds.
    pub(crate) source_kind: SourceKind,
    pub(crate) steps: Vec<Step>,
    pub(crate) when: Option<Expression>,
    /// Options that the operator listed: then no others exist.
    pub(crate) options: Vec<String>,
    pub(crate) default_region: Option<String>,
    /// Where it is written. `None` in the default mapping.
    pub spot: Option<Spot>,
}

impl FieldRule {
    /// A plain rule.
    pub(crate) fn new(source: &str, source_kind: SourceKind, attributes: &[&str]) -> Self {
        let mut rule = Self {
            key: format!("{source} -> {}", attributes.join("+")),
            source: source.to_owned(),
            targets: Vec::new(),
            direction: Direction::default(),
            direction_given: false,
            on_conflict: OnConflict::default(),
            tie: SideName::Intercom,
            on_clear: OnClear::default(),
            on_drift: OnDrift::default(),
            fingerprint: String::new(),
            value_type: None,
            of_company: false,
            source_kind,
            steps: Vec::new(),
            when: None,
            options: Vec::new(),
            default_region: None,
            spot: None,
        };
        rule.targets = attributes
            .iter()
            .map(|name| Target {
                attribute: (*name).to_owned(),
                kind: AttributeKind::Text,
                options: Vec::new(),
                spot: None,
            })
            .collect();
        rule
    }

    /// Whether what goes into the attribute would be a structure for everybody: nobody has asked for it as text.
    pub(crate) fn needs_to_text(&self) -> bool {
        let first = self.steps.iter().find(|step| !matches!(step, Step::Default(_)));
        self.source_kind == SourceKind::Structure && !matches!(first, Some(Step::ToText | Step::Expression(_)))
    }

    /// The Brevo type that the rule implies, and whether that is certain (an expression's is not).
    pub(crate) fn implied_kind(&self) -> (AttributeKind, bool) {
        if let Some(value_type) = self.value_type {
            return (value_type.attribute_kind(), true);
        }
        for step in self.steps.iter().rev() {
            match step.gives() {
                Gives::Same => {}
                Gives::Kind(kind) => return (kind, true),
                Gives::Anything => return (AttributeKind::Text, false),
            }
        }
        match self.source_kind {
            SourceKind::Number => (AttributeKind::Float, true),
            SourceKind::Boolean => (AttributeKind::Boolean, true),
            SourceKind::Date | SourceKind::Instant => (AttributeKind::Date, true),
            SourceKind::List => (AttributeKind::MultipleChoice, true),
            SourceKind::Text | SourceKind::Structure => (AttributeKind::Text, true),
            SourceKind::Unknown => (AttributeKind::Text, false),
        }
    }

    /// Finishes a rule as parsed: its targets get the implied type.
    pub(crate) fn typed(mut self) -> Self {
        let (kind, _) = self.implied_kind();
        for target in &mut self.targets {
            target.kind = kind.clone();
            target.options = self.options.iter().map(|option| (option.clone(), option.clone())).collect();
        }
        self.seal()
    }

    /// Computes the fingerprint anew. The account's options are left out: that somebody adds one changes no value.
    pub(crate) fn seal(mut self) -> Self {
        let targets: Vec<_> = self.targets.iter().map(|target| (&target.attribute, target.kind.name())).collect();
        let meaning = format!(
            "{:?}{}",
            (
                &self.source,
                self.source_kind,
                targets,
                self.value_type,
                &self.steps,
                &self.when,
                &self.options,
                &self.default_region
            ),
            // A field that begins to travel another way is planned afresh; who wins a conflict is for later conflicts.
            match self.direction {
                Direction::IntercomToBrevo => "",
                Direction::BrevoToIntercom => "back",
                Direction::Both => "both",
            }
        );
        self.fingerprint = hex(&Sha256::digest(meaning.as_bytes())[..8]);
        self
    }

    /// Whether the rule reads something at or below this path (`company`, `tags`), in its source or its expressions.
    pub fn mentions(&self, prefix: &str) -> bool {
        paths::touches(&self.source, prefix)
            || self.when.as_ref().is_some_and(|when| when.mentions(prefix))
            || self.steps.iter().any(|step| matches!(step, Step::Expression(expression) if expression.mentions(prefix)))
    }

    /// Whether an expression of the rule may look at more of the record than its source.
    pub fn reads_record(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::Expression(expression) if expression.reads_record()))
    }

    /// The canonical value on the Intercom side.
    pub fn source_value(&self, record: &Fields) -> Option<Value> {
        Some(convert::source(record.get(&self.source)?, self.source_kind))
    }

    /// The record as if this value stood at the rule's source.
    pub fn put_source(&self, record: &mut Fields, value: Option<Value>) {
        match value {
            Some(value) => drop(record.insert(self.source.clone(), value)),
            None => drop(record.remove(&self.source)),
        }
    }

    /// What Intercom ought to hold, as one cell, for what Brevo holds. A value that makes just these cells stays: Brevo's
    /// may be the coarser one.
    pub fn restore(&self, cells: &[Option<Value>], record: &Fields) -> Projection {
        match self.project(record) {
            Projection::NotApplicable => return Projection::NotApplicable,
            Projection::Cells(made) if same_in_brevo(&made, cells) => {
                return Projection::Cells(vec![self.source_value(record)]);
            }
            Projection::Cells(_) | Projection::Problem(_) => {}
        }
        match inverse::invert(self, cells) {
            Ok(value) => Projection::Cells(vec![value]),
            Err(message) => Projection::Problem(FieldProblem {
                field: self.key.clone(),
                message: format!("back to Intercom: {message}"),
                help: None,
            }),
        }
    }

    /// What Brevo ought to hold for this record.
    pub fn project(&self, record: &Fields) -> Projection {
        let problem = |message| Projection::Problem(FieldProblem { field: self.key.clone(), message, help: None });
        if let Some(when) = &self.when {
            match when.holds(self.source_value(record).as_ref(), record) {
                Ok(true) => {}
                Ok(false) => return Projection::NotApplicable,
                Err(message) => return problem(format!("`when`: {message}")),
            }
        }
        match self.cells(record) {
            Ok(cells) => Projection::Cells(cells),
            Err(message) => problem(message),
        }
    }

    fn cells(&self, record: &Fields) -> Result<Vec<Option<Value>>, String> {
        let region = self.default_region.as_deref();
        let mut values = vec![self.source_value(record)];
        for step in &self.steps {
            if *step == Step::SplitName {
                let whole = values.first().cloned().flatten();
                values = vec![
                    Step::FirstName.apply(whole.clone(), record, region)?,
                    Step::LastName.apply(whole, record, region)?,
                ];
            } else {
                values = values.into_iter().map(|value| step.apply(value, record, region)).collect::<Result<_, _>>()?;
            }
        }
        let days = self.implied_kind().0 == AttributeKind::Date;
        let unix = matches!(self.value_type, Some(ValueType::Date | ValueType::DateTime));
        self.targets
            .iter()
            .enumerate()
            .map(|(index, target)| {
                let Some(mut value) = values.get(index).or_else(|| values.first()).cloned().flatten() else {
                    return Ok(None);
                };
                if unix {
                    value = convert::instant_of(&value);
                }
                if self.value_type == Some(ValueType::DateTime) && !matches!(value, Value::Instant(_)) {
                    return Err("expected a date with a time".to_owned());
                }
                // A day stays a day even where an older attribute of type text holds it: an instant would be written
                // anew with each visit.
                if days && let Value::Instant(instant) = value {
                    value = Value::Date(instant.date_naive());
                }
                convert::to_cell(&value, target, region, !self.options.is_empty())
            })
            .collect()
    }

    /// Options that must be added to attributes (category, multiple choice) before this record can be written: pairs of
    /// attribute and label.
    pub fn missing_options(&self, record: &Fields) -> Vec<(String, String)> {
        let has_options =
            |target: &Target| matches!(target.kind, AttributeKind::Category | AttributeKind::MultipleChoice);
        if !self.targets.iter().any(has_options) {
            return Vec::new();
        }
        let Projection::Cells(cells) = self.project(record) else { return Vec::new() };
        let mut missing = Vec::new();
        for (target, cell) in self.targets.iter().zip(cells) {
            let labels = match (&target.kind, cell) {
                (AttributeKind::Category, Some(Value::Text(label))) => vec![label],
                (AttributeKind::MultipleChoice, Some(Value::List(labels))) => labels,
                _ => continue,
            };
            let unknown = labels.into_iter().filter(|label| convert::choice(label, target).is_none());
            missing.extend(unknown.map(|label| (target.attribute.clone(), label)));
        }
        missing
    }

    /// What Brevo holds, in canonical form, one cell per target.
    pub fn observed(&self, attributes: &Fields) -> Vec<Option<Value>> {
        self.targets
            .iter()
            .map(|target| attributes.get(&target.attribute).and_then(|value| convert::observed(value, target)))
            .collect()
    }
}

/// In Brevo, absent and `false` are one value.
fn same_in_brevo(made: &[Option<Value>], held: &[Option<Value>]) -> bool {
    let canonical = |cell: &Option<Value>| cell.clone().filter(|value| *value != Value::Boolean(false));
    made.len() == held.len() && made.iter().zip(held).all(|(made, held)| canonical(made) == canonical(held))
}

/// Bytes as hex digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        for half in [byte >> 4, byte & 15] {
            text.extend(char::from_digit(u32::from(half), 16));
        }
        text
    })
}
