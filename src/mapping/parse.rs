//! YAML → rules. All errors at once, each with its place.

use super::cases::{Case, Expected};
use super::expression::Expression;
use super::nearest::did_you_mean;
use super::paths::{self, Known, SourceKind};
use super::rule::{FieldRule, OnClear, OnDrift, ValueType};
use super::transform::Step;
use super::{Defaults, Direction, ListName, ListRule, Locate, Mapping, MappingError, Membership, OnConflict};
use super::{Section, convert, phone};
use crate::model::{BrevoCompany, BrevoListId, Fields, SideName, Value};
use serde_yaml::Value as Yaml;
use std::collections::{BTreeMap, BTreeSet};

/// What the mapping needs to know of the rest of the config.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// The region of phone numbers without a country code (`NO`).
    pub default_phone_region: Option<String>,
    /// The pinned version of Intercom's API.
    pub api_version: String,
    /// How fields travel that do not say it.
    pub defaults: Defaults,
    /// The mapping is of company objects: Intercom's company is the record, Brevo's company holds the attributes.
    pub of_companies: bool,
}

/// Attributes that identify a contact in Brevo and are no mapping's to write.
const IDENTIFIERS: &[&str] = &["EMAIL", "EXT_ID"];

/// What a company's own paths begin with, in a contact's record and here.
const COMPANY: &str = "company.";

/// The keys of the long form.
const ENTRY_KEYS: &[&str] =
    &["to", "type", "direction", "on_clear", "on_drift", "on_conflict", "tie", "transform", "when", "options"];

/// What other programs call our types.
const OTHER_WORDS: &[(&str, &str)] = &[
    ("string", "text"),
    ("str", "text"),
    ("integer", "number"),
    ("int", "number"),
    ("float", "number"),
    ("decimal", "number"),
    ("timestamp", "date-time"),
    ("time", "date-time"),
    ("enum", "category"),
    ("select", "category"),
    ("list", "multiple-choice"),
    ("array", "multiple-choice"),
    ("multi-select", "multiple-choice"),
];

/// Compiles all sections into one mapping; no section at all is the default mapping. `locate` tells rules where they
/// are written.
pub fn parse(sections: &[Section], options: &Options, locate: Locate<'_>) -> Result<Mapping, Vec<MappingError>> {
    let mut parser = Parser {
        options,
        locate,
        file: 0,
        mapping: Mapping { defaults: options.defaults, ..Mapping::default() },
        errors: Vec::new(),
        seen: BTreeSet::new(),
        maps_fields: false,
    };
    if let Some(region) = options.default_phone_region.as_deref().filter(|region| !phone::is_region(region)) {
        let help = Some("two capital letters, such as NO or US".to_owned());
        parser.error(&[], false, format!("`{region}` is no region that phone numbers are known for"), help);
    }
    for section in sections {
        parser.file = section.file;
        parser.section(&section.path, &section.value);
    }
    // A file that speaks of tags and lists only leaves the fields as they would be without it.
    if !parser.maps_fields {
        parser.default_mapping();
    }
    parser.check_cases();
    if parser.errors.is_empty() { Ok(parser.mapping) } else { Err(parser.errors) }
}

struct Parser<'a> {
    options: &'a Options,
    locate: Locate<'a>,
    file: usize,
    mapping: Mapping,
    errors: Vec<MappingError>,
    /// Attributes that a rule writes already, with whether all of their rules are conditional.
    seen: BTreeSet<(String, bool)>,
    /// Whether any field is mapped.
    maps_fields: bool,
}

fn join(path: &[String], key: impl Into<String>) -> Vec<String> {
    path.iter().cloned().chain([key.into()]).collect()
}

impl Parser<'_> {
    fn note(&self, path: &[String], on_key: bool, message: impl Into<String>, help: Option<String>) -> MappingError {
        MappingError { file: self.file, path: path.to_vec(), on_key, message: message.into(), help }
    }

    fn error(&mut self, path: &[String], on_key: bool, message: impl Into<String>, help: Option<String>) {
        let error = self.note(path, on_key, message, help);
        self.errors.push(error);
    }

    /// What every company of Brevo's can hold without an attribute of its own.
    fn default_mapping_of_companies(&mut self) {
        let rules = [
            ("company.name", SourceKind::Text, "NAME"),
            ("company.website", SourceKind::Text, "DOMAIN"),
            ("company.size", SourceKind::Number, "NUMBER_OF_EMPLOYEES"),
        ];
        for (source, kind, target) in rules {
            let mut rule = FieldRule::new(source, kind, &[target]);
            rule.of_company = true;
            self.mapping.rules.extend(rule.typed().by_default(self.options.defaults));
        }
    }

    fn default_mapping(&mut self) {
        if self.options.of_companies {
            return self.default_mapping_of_companies();
        }
        let rules = [
            ("name", SourceKind::Text, &["FIRSTNAME", "LASTNAME"] as &[&str]),
            ("phone", SourceKind::Text, &["SMS"]),
            ("role", SourceKind::Text, &["ROLE"]),
            ("company.name", SourceKind::Text, &["COMPANY_NAME"]),
            ("signed_up_at", SourceKind::Instant, &["SIGNUP_DATE"]),
            ("last_seen_at", SourceKind::Instant, &["LAST_ACTIVE"]),
        ];
        for (source, kind, targets) in rules {
            let mut rule = FieldRule::new(source, kind, targets);
            if source == "name" {
                rule.steps.push(Step::SplitName);
            }
            if source == "phone" {
                rule.default_region.clone_from(&self.options.default_phone_region);
            }
            self.mapping.rules.extend(rule.typed().by_default(self.options.defaults));
        }
        self.mapping.all_custom_attributes = true;
    }

    /// A whole file, or the entries themselves: the keys that are no paths tell them apart.
    fn section(&mut self, path: &[String], value: &Yaml) {
        match value {
            Yaml::Mapping(entries) => {
                for (key, value) in entries {
                    let Some(key) = key.as_str() else {
                        self.error(path, false, "a key is not text", Some("put it in quotes".to_owned()));
                        continue;
                    };
                    let here = join(path, key);
                    match key {
                        "field_mapping" => self.section(&here, value),
                        "tags" | "conversation_tags"
                            if !self.options.of_companies && value.is_mapping() && value.get("to").is_none() =>
                        {
                            self.tags(&here, key == "tags", value);
                        }
                        "lists" if !self.options.of_companies => self.lists(&here, value),
                        "cases" => self.cases(&here, value),
                        source => self.entry(&here, true, source, value),
                    }
                }
            }
            Yaml::Sequence(items) => {
                for (index, item) in items.iter().enumerate() {
                    let here = join(path, index.to_string());
                    if let Some(source) = item.get("from").and_then(Yaml::as_str) {
                        self.entry(&join(&here, "from"), false, source, item);
                    } else {
                        let help = "`- {from: name, to: FULLNAME}`, or all entries without dashes: `name: FULLNAME`";
                        self.error(&here, false, "expected `from:` with a path of Intercom's", Some(help.to_owned()));
                    }
                }
            }
            Yaml::Null => {}
            _ => self.error(path, false, "expected Intercom paths with the Brevo attributes that they become", None),
        }
    }

    /// One path and what becomes of it. `here` leads to the path: a key of its own, or the value of `from`.
    fn entry(&mut self, here: &[String], keyed: bool, source: &str, value: &Yaml) {
        self.maps_fields = true;
        let own = self.options.of_companies && !source.starts_with(COMPANY);
        let source = &if own { format!("{COMPANY}{source}") } else { source.to_owned() };
        let below = |key: &str| {
            if keyed { join(here, key) } else { join(here.split_last().map_or(here, |(_, parent)| parent), key) }
        };
        let targets: Vec<(Vec<String>, String)> = match value {
            Yaml::String(attribute) => vec![(here.to_vec(), attribute.clone())],
            Yaml::Mapping(_) => match value.get("to") {
                Some(Yaml::String(attribute)) => vec![(below("to"), attribute.clone())],
                Some(Yaml::Sequence(names)) if !names.is_empty() && names.iter().all(Yaml::is_string) => {
                    let place = |index: usize| join(&below("to"), index.to_string());
                    let names = names.iter().filter_map(Yaml::as_str).enumerate();
                    names.map(|(index, name)| (place(index), name.to_owned())).collect()
                }
                Some(_) => {
                    return self.error(
                        &below("to"),
                        false,
                        "expected the name of a Brevo attribute, or a list of names",
                        None,
                    );
                }
                None if paths::is_prefix(source) => {
                    let first = value.as_mapping().and_then(|entries| entries.keys().next()).and_then(Yaml::as_str);
                    let help =
                        format!("paths are written with dots: `{source}.{}: ATTRIBUTE`", first.unwrap_or("name"));
                    return self.error(here, keyed, format!("`{source}` is a group of fields"), Some(help));
                }
                None => return self.unplaced(here, keyed, source),
            },
            Yaml::Sequence(_) => {
                let help = Some(format!("several attributes are written `{source}: {{to: [A, B], transform: …}}`"));
                return self.error(here, false, "expected the name of a Brevo attribute, not a list", help);
            }
            _ => {
                let help = Some(format!("`{source}: ATTRIBUTE`, or `{source}: {{to: ATTRIBUTE, …}}`"));
                return self.error(here, false, "expected the name of a Brevo attribute", help);
            }
        };
        if source == "email" {
            // `email: email` names the identifier, which is always synced.
            if targets.iter().all(|(_, name)| name.eq_ignore_ascii_case("email")) {
                return;
            }
        }
        let names: Vec<String> = targets.iter().map(|(place, name)| self.attribute(place, name)).collect();
        let kind = match paths::lookup(source) {
            Known::Yes(kind) => kind,
            Known::Elsewhere(who) if self.options.of_companies => {
                return self.error(here, keyed, format!("companies have no `{source}`"), Some(who.to_owned()));
            }
            Known::Elsewhere(who) => {
                let version = if self.options.api_version.is_empty() { "2.11" } else { &self.options.api_version };
                let names = names.join(", ");
                let message =
                    format!("contacts of API version {version} have no `{source}`: nothing will be written to {names}");
                let warning = self.note(here, keyed, message, Some(who.to_owned()));
                self.mapping.warnings.push(warning);
                return;
            }
            Known::No(meant) => {
                return self.error(here, keyed, format!("Intercom has no field `{source}`"), meant.in_words(""));
            }
        };
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut rule = FieldRule::new(source, kind, &names);
        rule.of_company = self.options.of_companies;
        rule.spot = (self.locate)(self.file, here, keyed);
        rule.set_defaults(self.options.defaults);
        for (target, (place, _)) in rule.targets.iter_mut().zip(&targets) {
            target.spot = (self.locate)(self.file, place, false);
        }
        let errors = self.errors.len();
        if let Yaml::Mapping(entries) = value {
            for (key, value) in entries {
                let key = key.as_str().unwrap_or_default();
                self.setting(&below(key), keyed, key, value, &mut rule);
            }
        }
        self.directed(&below, value, &rule);
        let splits = rule.steps.contains(&Step::SplitName);
        if splits && (rule.targets.len() != 2 || rule.steps.iter().filter(|step| **step == Step::SplitName).count() > 1)
        {
            let help = Some("`to: [FIRSTNAME, LASTNAME]`".to_owned());
            self.error(&below("transform"), false, "`split_name` gives two values, for two attributes", help);
        }
        if rule.value_type == Some(ValueType::Category) && rule.options.is_empty() && kind != SourceKind::Unknown {
            let help = Some("add `options: [\u{2026}]`".to_owned());
            self.error(&below("type"), false, "a category needs the list of its options", help);
        }
        if rule.needs_to_text() {
            let message = format!("`{source}` is a structure, and an attribute holds single values");
            self.error(here, keyed, message, Some("add `transform: to_text`".to_owned()));
        }
        let phones = rule.targets.iter().any(|target| convert::is_phone(&target.attribute))
            || rule.steps.iter().any(|step| matches!(step, Step::Phone(_)));
        if phones {
            rule.default_region.clone_from(&self.options.default_phone_region);
        }
        for (place, name) in targets.iter().map(|(place, _)| place).zip(&names) {
            let taken = self.seen.contains(&((*name).to_owned(), false))
                || (rule.when.is_none() && self.seen.contains(&((*name).to_owned(), true)));
            if taken {
                let help = Some("give each of them a `when`, or another attribute".to_owned());
                self.error(place, false, format!("two rules write {name}"), help);
            }
        }
        self.seen.extend(names.iter().map(|name| ((*name).to_owned(), rule.when.is_some())));
        let mut rule = rule.typed();
        if rule.stays_one_way() {
            rule = rule.one_way();
        }
        if self.errors.len() == errors
            && let Some(misfit) = rule.misdirection()
        {
            self.error(&below("direction"), false, misfit.message, misfit.help);
        }
        if self.errors.len() == errors {
            let mut rule = rule;
            // Rules that share source and target under different conditions need names of their own.
            let same = self
                .mapping
                .rules
                .iter()
                .filter(|known| known.source == rule.source && known.key.starts_with(&rule.key));
            match same.count() {
                0 => {}
                others => rule.key = format!("{} ({})", rule.key, others + 1),
            }
            self.mapping.rules.push(rule);
        }
    }

    /// What only fields of one direction have, and what only those of both have.
    fn directed(&mut self, below: &dyn Fn(&str) -> Vec<String>, value: &Yaml, rule: &FieldRule) {
        if rule.direction == Direction::Both {
            if value.get("on_drift").is_some() {
                let help = Some("leave it out: an edit on either side travels to the other".to_owned());
                self.error(&below("on_drift"), true, "`on_drift` is for fields that travel one way", help);
            }
            return;
        }
        for key in ["on_conflict", "tie"] {
            if value.get(key).is_some() {
                let help = Some("`direction: both`, or leave it out".to_owned());
                self.error(&below(key), true, format!("`{key}` is for fields that travel both ways"), help);
            }
        }
    }

    fn unplaced(&mut self, here: &[String], keyed: bool, source: &str) {
        match paths::lookup(source) {
            Known::No(meant) => {
                self.error(here, keyed, format!("Intercom has no field `{source}`"), meant.in_words(""));
            }
            _ => {
                self.error(
                    here,
                    keyed,
                    format!("`{source}` has no `to:`"),
                    Some("name the Brevo attribute".to_owned()),
                );
            }
        }
    }

    /// The name of an attribute, in Brevo's capitals.
    fn attribute(&mut self, place: &[String], name: &str) -> String {
        let upper = name.trim().to_uppercase();
        let fits = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_' || c == '-';
        if self.options.of_companies && upper == BrevoCompany::OURS {
            let help = "it holds the id of Intercom's company, and is written by itself".to_owned();
            self.error(place, false, format!("{upper} tells whose the company is and cannot be mapped"), Some(help));
        } else if !self.options.of_companies && IDENTIFIERS.contains(&upper.as_str()) {
            let help = match upper.as_str() {
                "EMAIL" => "the address follows Intercom's by itself: `email: email`",
                _ => "it follows Intercom's `external_id` by itself",
            };
            self.error(
                place,
                false,
                format!("{upper} identifies the contact and cannot be mapped"),
                Some(help.to_owned()),
            );
        } else if upper.is_empty() || !upper.chars().all(fits) || upper.len() > 100 {
            let help = Some("letters A to Z, digits, `_` and `-`".to_owned());
            self.error(place, false, format!("`{name}` cannot be the name of a Brevo attribute"), help);
        }
        upper
    }

    fn setting(&mut self, place: &[String], keyed: bool, key: &str, value: &Yaml, rule: &mut FieldRule) {
        match key {
            "to" => {}
            "from" if !keyed => {}
            "type" => rule.value_type = self.one_of(place, value, ValueType::NAMES),
            "direction" => {
                rule.direction_given = true;
                rule.direction = self.one_of(place, value, Direction::NAMES).unwrap_or_default();
            }
            "on_conflict" => {
                rule.on_conflict = self.one_of(place, value, OnConflict::NAMES).unwrap_or_default();
            }
            "tie" => {
                let choices = SideName::BOTH.map(|side| (side.as_str(), side));
                rule.tie = self.one_of(place, value, &choices).unwrap_or(rule.tie);
            }
            "on_clear" => {
                let choices = [("keep", OnClear::Keep), ("propagate", OnClear::Propagate)];
                rule.on_clear = self.one_of(place, value, &choices).unwrap_or_default();
            }
            "on_drift" => {
                let choices = [("restore", OnDrift::Restore), ("leave", OnDrift::Leave)];
                rule.on_drift = self.one_of(place, value, &choices).unwrap_or_default();
            }
            "transform" => match value {
                Yaml::Sequence(steps) => {
                    for (index, step) in steps.iter().enumerate() {
                        self.step(&join(place, index.to_string()), step, rule);
                    }
                }
                step => self.step(place, step, rule),
            },
            "when" => {
                let Some(source) = value.as_str() else {
                    let help = Some("`when: record.role == 'user'`".to_owned());
                    return self.error(place, false, "expected an expression", help);
                };
                match Expression::compile(source) {
                    Ok(expression) => rule.when = Some(expression),
                    Err((message, help)) => self.error(place, false, message, help),
                }
            }
            "options" => {
                let options = value.as_sequence().filter(|items| !items.is_empty());
                let options: Option<Vec<String>> = options.and_then(|items| items.iter().map(plain_text).collect());
                match options {
                    Some(options) => {
                        if let Some(long) = options.iter().find(|option| option.chars().count() > 200) {
                            let start: String = long.chars().take(20).collect();
                            self.error(
                                place,
                                false,
                                format!("`{start}…` is longer than the 200 characters that Brevo allows"),
                                None,
                            );
                        }
                        rule.options = options;
                    }
                    None => self.error(place, false, "expected a list of options", None),
                }
            }
            unknown => {
                let keys = ENTRY_KEYS.iter().copied();
                let all = || format!("keys here: {}", keys.clone().collect::<Vec<_>>().join(", "));
                let help = did_you_mean(unknown, keys.clone()).unwrap_or_else(all);
                self.error(place, true, format!("a mapping entry has no key `{unknown}`"), Some(help));
            }
        }
    }

    fn step(&mut self, place: &[String], step: &Yaml, rule: &mut FieldRule) {
        match Step::parse(step) {
            Ok(step) => rule.steps.push(step),
            Err((message, help)) => self.error(place, false, message, help),
        }
    }

    fn one_of<T: Copy>(&mut self, place: &[String], value: &Yaml, choices: &[(&str, T)]) -> Option<T> {
        let word = value.as_str().unwrap_or_default();
        let norm = |word: &str| word.trim().to_lowercase().replace(['_', ' '], "-").replace("datetime", "date-time");
        let found = choices.iter().find(|(name, _)| norm(name) == norm(word));
        if found.is_none() {
            let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
            let known_as = OTHER_WORDS.iter().find(|(other, _)| *other == norm(word)).map(|(_, name)| *name);
            let help = match known_as.filter(|name| names.contains(name)) {
                Some(name) => Some(format!("did you mean `{name}`?")),
                None => did_you_mean(word, names.iter().copied()),
            };
            self.error(place, false, format!("expected one of {}", names.join(", ")), help);
        }
        found.map(|(_, choice)| *choice)
    }

    fn tags(&mut self, path: &[String], of_contacts: bool, value: &Yaml) {
        for (key, value) in value.as_mapping().into_iter().flatten() {
            let Some(tag) = plain_text(key) else {
                self.error(path, false, "the name of a tag is not text", Some("put it in quotes".to_owned()));
                continue;
            };
            let here = join(path, tag.clone());
            let Some(entries) = value.as_mapping().filter(|_| value.get("list").is_some()) else {
                let help = Some(format!("`{tag}: {{list: 42}}`"));
                self.error(&here, false, "expected the list that the tag's contacts are on", help);
                continue;
            };
            let mut direction = Direction::default();
            for (key, value) in entries {
                match key.as_str() {
                    Some("list") => {}
                    Some("direction") => {
                        let place = join(&here, "direction");
                        direction = self.one_of(&place, value, Direction::NAMES).unwrap_or_default();
                    }
                    key => {
                        let key = key.unwrap_or_default();
                        let message = format!("a tag has no key `{key}`");
                        self.error(&join(&here, key), true, message, Some("`list`".to_owned()));
                    }
                }
            }
            if let Some(list) = value.get("list").and_then(|list| self.list(&join(&here, "list"), list)) {
                let membership = if of_contacts { Membership::Tag(tag) } else { Membership::ConversationTag(tag) };
                let spot = (self.locate)(self.file, &join(&here, "list"), false);
                self.mapping.lists.push(ListRule { direction, ..ListRule::new(membership, list).at(spot) });
            }
        }
    }

    /// `lists: [{list: VIP, when: …}]`.
    fn lists(&mut self, path: &[String], value: &Yaml) {
        let Some(items) = value.as_sequence() else {
            let help = Some("`lists: [{list: VIP, when: \"record.company.plan == 'Pro'\"}]`".to_owned());
            return self.error(path, false, "expected a list of `list` and `when`", help);
        };
        for (index, item) in items.iter().enumerate() {
            let here = join(path, index.to_string());
            for key in item.as_mapping().into_iter().flatten().filter_map(|(key, _)| key.as_str()) {
                if !["list", "when"].contains(&key) {
                    let help = Some("`list` and `when`".to_owned());
                    self.error(&join(&here, key), true, format!("a list has no key `{key}`"), help);
                }
            }
            let (Some(list), Some(when)) = (item.get("list"), item.get("when").and_then(Yaml::as_str)) else {
                self.error(&here, false, "expected `list` and `when`", None);
                continue;
            };
            let list = self.list(&join(&here, "list"), list);
            match (Expression::compile(when), list) {
                (Ok(condition), Some(list)) => {
                    let spot = (self.locate)(self.file, &join(&here, "list"), false);
                    self.mapping.lists.push(ListRule::new(Membership::When(condition), list).at(spot));
                }
                (Err((message, help)), _) => self.error(&join(&here, "when"), false, message, help),
                (Ok(_), None) => {}
            }
        }
    }

    fn list(&mut self, place: &[String], value: &Yaml) -> Option<ListName> {
        let list = match value {
            Yaml::Number(_) => value.as_i64().filter(|id| *id > 0).map(|id| ListName::Id(BrevoListId::new(id))),
            Yaml::String(name) if !name.trim().is_empty() => Some(ListName::Name(name.trim().to_owned())),
            _ => None,
        };
        if list.is_none() {
            self.error(place, false, "expected a list's id or name", None);
        }
        list
    }

    fn cases(&mut self, path: &[String], value: &Yaml) {
        let Some(items) = value.as_sequence() else {
            return self.error(path, false, "expected a list of `name`, `given` and `expect`", None);
        };
        for (index, item) in items.iter().enumerate() {
            let here = join(path, index.to_string());
            for key in item.as_mapping().into_iter().flatten().filter_map(|(key, _)| key.as_str()) {
                if !["name", "given", "expect"].contains(&key) {
                    let help = did_you_mean(key, ["name", "given", "expect"].into_iter())
                        .or_else(|| Some("`name`, `given` and `expect`".to_owned()));
                    self.error(&join(&here, key), true, format!("a case has no key `{key}`"), help);
                }
            }
            let name = item.get("name").and_then(plain_text).unwrap_or_else(|| format!("case {}", index + 1));
            let mut given = Fields::new();
            match item.get("given") {
                Some(Yaml::Mapping(_)) => {}
                _ => self.error(&here, false, "expected `given:` with a record of Intercom's", None),
            }
            if let Some(fields) = item.get("given") {
                self.given(&join(&here, "given"), "", fields, &mut given);
            }
            let mut expect = BTreeMap::new();
            match item.get("expect") {
                Some(Yaml::Mapping(entries)) => {
                    for (key, value) in entries {
                        let key = key.as_str().unwrap_or_default();
                        if let Some(expected) = self.expected(&join(&join(&here, "expect"), key), value) {
                            expect.insert(key.trim().to_uppercase(), expected);
                        }
                    }
                }
                _ => self.error(&here, false, "expected `expect:` with attributes of Brevo's", None),
            }
            self.mapping.cases.push(Case { name, given, expect });
        }
    }

    /// A value, or `{problem: words of the reason}`: no attribute holds a table, so that nothing else is meant by one.
    fn expected(&mut self, place: &[String], value: &Yaml) -> Option<Expected> {
        let Yaml::Mapping(entries) = value else { return Some(Expected::Value(to_value(value))) };
        let words = value.get("problem").and_then(plain_text).map(|words| words.trim().to_owned());
        let words = words.filter(|words| !words.is_empty() && entries.len() == 1);
        if words.is_none() {
            let help = "a value, `null` for none, or `{problem: words of the reason}` where it cannot be mapped";
            self.error(place, false, "expected what the attribute holds then", Some(help.to_owned()));
        }
        words.map(Expected::Problem)
    }

    /// A record in YAML: paths dotted, nested, or both.
    fn given(&mut self, place: &[String], prefix: &str, value: &Yaml, fields: &mut Fields) {
        for (key, value) in value.as_mapping().into_iter().flatten() {
            let key = plain_text(key).unwrap_or_default();
            let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
            let here = join(place, key);
            match paths::lookup(&path) {
                Known::Yes(kind) => {
                    if let Some(value) = to_value(value).map(|value| convert::source(&value, kind)) {
                        fields.insert(path, value);
                    }
                }
                // YAML nests at most 128 levels, and a path that no known one starts with ends here.
                Known::No(_) if value.is_mapping() && prefix.split('.').count() < 3 => {
                    self.given(&here, &path, value, fields);
                }
                Known::No(meant) => {
                    self.error(&here, true, format!("Intercom has no field `{path}`"), meant.in_words(""));
                }
                Known::Elsewhere(who) => {
                    self.error(&here, true, format!("contacts have no `{path}`"), Some(who.to_owned()));
                }
            }
        }
    }

    /// What a case expects must be something that a rule writes.
    fn check_cases(&mut self) {
        let known: BTreeSet<&str> =
            self.mapping.rules.iter().flat_map(|rule| &rule.targets).map(|target| target.attribute.as_str()).collect();
        let mut errors = Vec::new();
        for case in &self.mapping.cases {
            for attribute in case.expect.keys().filter(|attribute| !known.contains(attribute.as_str())) {
                let help = did_you_mean(attribute, known.iter().copied());
                let message = format!("the case `{}` expects {attribute}, which no rule writes", case.name);
                errors.push(self.note(&["cases".to_owned()], true, message, help));
            }
        }
        // A rule that is wrong itself is not there to be expected.
        if self.errors.is_empty() {
            self.errors = errors;
        }
    }
}

fn plain_text(yaml: &Yaml) -> Option<String> {
    match yaml {
        Yaml::String(text) => Some(text.clone()),
        Yaml::Number(number) => Some(number.to_string()),
        Yaml::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}

fn to_value(yaml: &Yaml) -> Option<Value> {
    serde_json::to_value(yaml).ok().as_ref().and_then(Value::from_json)
}
