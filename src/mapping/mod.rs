//! The mapping language: which of Intercom's fields become which of Brevo's, and who is on which list.
//!
//! YAML goes in ([`parse`]), compiled rules come out, and [`Mapping::resolve`] fits them to the account. Everything in
//! here is pure: the same record gives the same values, every time.

mod cases;
mod convert;
mod direction;
mod expression;
mod inverse;
mod misfit;
mod names;
mod nearest;
mod parse;
pub mod paths;
mod phone;
mod resolve;
mod rule;
mod schema;
mod transform;

pub use cases::{Case, CaseFailure, CaseResult, Expected, run_cases};
pub use direction::{Direction, OnConflict, unwritable};
pub use expression::Expression;
pub use misfit::{About, Misfit, Spot};
pub use nearest::nearest;
pub use parse::{Options, parse};
pub use phone::{is_region, to_e164};
pub use resolve::Resolution;
pub use rule::{FieldProblem, FieldRule, OnClear, OnDrift, Projection, Target, ValueType};
pub use schema::{expectation, schema};

use crate::model::{BrevoListId, Fields, SideName, Value};

/// A piece of YAML that holds mapping rules: a `field_mapping:` node of the config, or a whole mapping file.
#[derive(Debug, Clone, PartialEq)]
pub struct Section {
    /// Which of the loaded files it comes from (the caller's own numbering).
    pub file: usize,
    /// Where in that file.
    pub path: Vec<String>,
    /// The piece itself.
    pub value: serde_yaml::Value,
}

/// Something wrong (or, as a warning, doubtful) in a mapping, with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MappingError {
    /// Which of the loaded files.
    pub file: usize,
    /// The keys that lead to the place; list entries by number.
    pub path: Vec<String>,
    /// Whether the key itself is meant, not its value.
    pub on_key: bool,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
}

/// Tells where something is written: a file's number, the keys that lead to it, and whether the last key is meant or
/// its value.
pub type Locate<'a> = &'a dyn Fn(usize, &[String], bool) -> Option<Spot>;

/// A compiled mapping.
#[derive(Debug, Clone, Default)]
pub struct Mapping {
    /// One rule per mapped path.
    pub rules: Vec<FieldRule>,
    /// Who is on which list.
    pub lists: Vec<ListRule>,
    /// Keys of the rules that rest: what they read is switched off. They write nothing, and what was agreed on stays.
    pub resting: Vec<String>,
    /// What loaded, but deserves a word.
    pub warnings: Vec<MappingError>,
    /// Whether each custom attribute that the account has gets a rule of its own (the default mapping).
    pub(crate) all_custom_attributes: bool,
    /// How rules travel that do not say it.
    pub(crate) defaults: Defaults,
    /// Examples that stand beside the rules.
    pub(crate) cases: Vec<Case>,
}

/// How fields travel that do not say it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Defaults {
    /// Which way. Those that cannot travel both ways stay with Intercom's value.
    pub direction: Direction,
    /// Whose value stands, where a field that travels both ways was changed on both sides.
    pub on_conflict: OnConflict,
    /// Who wins a tie there; `None`: Intercom.
    pub tie: Option<SideName>,
}

/// A Brevo list, as an operator names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum ListName {
    /// By its id: it must exist.
    Id(BrevoListId),
    /// By its name: made if missing.
    Name(String),
}

impl std::fmt::Display for ListName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// Who is on a list.
#[derive(Debug, Clone, PartialEq)]
pub enum Membership {
    /// Every contact with role `user`.
    AllUsers,
    /// Every lead.
    Leads,
    /// Everybody with an open conversation.
    ActiveConversations,
    /// Whoever carries the tag.
    Tag(String),
    /// Whoever has a conversation with the tag.
    ConversationTag(String),
    /// Whoever an expression of `record` holds for.
    When(Expression),
}

impl Membership {
    /// Whether its condition reads something at or below this path (`company`).
    pub fn mentions(&self, prefix: &str) -> bool {
        matches!(self, Self::When(condition) if condition.mentions(prefix))
    }
}

/// One list and who is on it.
#[derive(Debug, Clone)]
pub struct ListRule {
    /// Its stable name, such as `tag VIP -> 42`.
    pub key: String,
    /// Who is on it.
    pub membership: Membership,
    /// The list.
    pub list: ListName,
    /// Which follows which.
    pub direction: Direction,
    /// What it depends on is switched off: nobody joins or leaves because of it.
    pub rests: bool,
    /// Where the list is named.
    pub spot: Option<Spot>,
}

impl Mapping {
    /// Without what reads anything at or below these paths, because that is switched off. A value that is not read any
    /// more is not gone: nothing is blanked, and nobody leaves a list.
    #[must_use]
    pub fn at_rest(&self, prefixes: &[&str]) -> Self {
        let mut mapping = self.clone();
        let (resting, rules) = std::mem::take(&mut mapping.rules)
            .into_iter()
            .partition(|rule| prefixes.iter().any(|prefix| rule.mentions(prefix)));
        mapping.rules = rules;
        mapping.resting.extend(Vec::into_iter(resting).map(|rule: FieldRule| rule.key));
        for rule in &mut mapping.lists {
            rule.rests |= prefixes.iter().any(|prefix| rule.mentions(prefix));
        }
        mapping
    }
}

impl ListRule {
    /// A rule with its key made from what it says.
    pub fn new(membership: Membership, list: ListName) -> Self {
        let who = match &membership {
            Membership::AllUsers => "all_users".to_owned(),
            Membership::Leads => "leads".to_owned(),
            Membership::ActiveConversations => "active_conversations".to_owned(),
            Membership::Tag(tag) => format!("tag {tag}"),
            Membership::ConversationTag(tag) => format!("conversation tag {tag}"),
            Membership::When(condition) => format!("when {condition}"),
        };
        Self {
            key: format!("{who} -> {list}"),
            membership,
            list,
            direction: Direction::default(),
            rests: false,
            spot: None,
        }
    }

    /// With the place where it is written.
    #[must_use]
    pub fn at(self, spot: Option<Spot>) -> Self {
        Self { spot, ..self }
    }

    /// Who it is for, as the config says it (`leads`, `tag VIP`).
    pub fn who(&self) -> &str {
        self.key.strip_suffix(&format!(" -> {}", self.list)).unwrap_or(&self.key)
    }

    /// Whether membership depends on something at or below this path (`tags`, `company`).
    pub fn mentions(&self, prefix: &str) -> bool {
        match &self.membership {
            Membership::AllUsers | Membership::Leads => prefix == "role",
            Membership::ActiveConversations => paths::touches("conversations.open_count", prefix),
            Membership::Tag(_) => prefix == "tags",
            Membership::ConversationTag(_) => paths::touches("conversations.tags", prefix),
            Membership::When(condition) => condition.mentions(prefix),
        }
    }

    /// Whether this record belongs on the list. Tags are compared without regard to case, as Intercom does.
    /// A condition that fails does not hold; [`Self::try_holds`] says why.
    pub fn holds(&self, record: &Fields) -> bool {
        self.try_holds(record).unwrap_or(false)
    }

    /// As [`Self::holds`], but a condition that cannot be evaluated is a problem of its own: nobody should leave a list
    /// because of it.
    pub fn try_holds(&self, record: &Fields) -> Result<bool, FieldProblem> {
        let role_is = |wanted: &str| matches!(record.get("role"), Some(Value::Text(role)) if role == wanted);
        let tagged = |path: &str, wanted: &str| match record.get(path) {
            Some(Value::List(tags)) => tags.iter().any(|tag| tag.to_lowercase() == wanted.to_lowercase()),
            _ => false,
        };
        Ok(match &self.membership {
            Membership::AllUsers => role_is("user"),
            Membership::Leads => role_is("lead"),
            Membership::ActiveConversations => {
                matches!(record.get("conversations.open_count"), Some(Value::Number(count)) if count.as_f64() > 0.0)
            }
            Membership::Tag(tag) => tagged("tags", tag),
            Membership::ConversationTag(tag) => tagged("conversations.tags", tag),
            Membership::When(condition) => {
                return condition.holds(None, record).map_err(|message| FieldProblem {
                    field: self.key.clone(),
                    message,
                    help: None,
                });
            }
        })
    }
}

#[cfg(test)]
mod tests;
