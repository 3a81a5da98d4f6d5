//! Fitting a mapping to the account: the names, types and options that are really there.

use super::nearest::nearest;
use super::paths::SourceKind;
use super::rule::{FieldRule, Target, ValueType, hex};
use super::{About, Direction, Mapping, Misfit, convert};
use crate::model::{Attribute, AttributeKind, AttributeSpec};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};

/// A mapping that fits the account, and what must be made first.
#[derive(Debug, Clone, Default)]
pub struct Resolution {
    /// The mapping, with concrete names, types and options.
    pub mapping: Mapping,
    /// Attributes to create.
    pub create: Vec<AttributeSpec>,
    /// Attributes that lack options: all options that each must have.
    pub set_options: Vec<Attribute>,
    /// Attributes whose type does not fit: into them the values cannot safely be turned.
    pub clashes: Vec<Misfit>,
    /// What deserves a word.
    pub doubts: Vec<Misfit>,
}

/// What first and last name are called in accounts of other languages, and in the vendor's own examples.
const NAMES: &[(&str, &str)] = &[
    ("PRENOM", "NOM"),
    ("VORNAME", "NACHNAME"),
    ("FNAME", "LNAME"),
    ("NOMBRE", "APELLIDOS"),
    ("NOMBRE", "APELLIDO"),
    ("NOME", "COGNOME"),
    ("NOME", "SOBRENOME"),
    ("VOORNAAM", "ACHTERNAAM"),
];

/// Attributes that identify a contact: each is unique among all contacts, so no custom attribute may land there by the
/// accident of its name.
const IDENTIFIERS: &[&str] = &["EMAIL", "SMS", "WHATSAPP", "LANDLINE_NUMBER", "EXT_ID"];

impl Mapping {
    /// Fits the mapping to the account: `brevo` are its contact attributes, `intercom` the data attributes of contacts
    /// under their paths (`custom_attributes.plan`, `company.custom_attributes.tier`); an entry `tags` may carry the
    /// names of all tags as options. The same accounts give the same resolution, in whatever order they list things.
    pub fn resolve(&self, brevo: &[Attribute], intercom: &[Attribute]) -> Resolution {
        let brevo: BTreeMap<&str, &Attribute> = brevo.iter().map(|found| (found.name.as_str(), found)).collect();
        let intercom: BTreeMap<&str, &Attribute> = intercom.iter().map(|found| (found.name.as_str(), found)).collect();
        let mut resolution = Resolution { mapping: self.clone(), ..Resolution::default() };
        resolution.mapping.all_custom_attributes = false;
        let mut rules = std::mem::take(&mut resolution.mapping.rules);
        if self.all_custom_attributes {
            let custom = custom_rules(&rules, &intercom);
            rules.extend(custom.into_iter().filter_map(|rule| rule.by_default(self.defaults)));
        }
        if rules.iter().all(|rule| !rule.of_company) {
            localise(&mut rules, &brevo);
        }
        for rule in rules {
            let rule = resolution.rule(rule, &brevo, &intercom);
            resolution.mapping.rules.push(rule);
        }
        resolution
    }

    /// Custom attributes that rules write in Intercom and that the workspace has not: to be made there, with the type that
    /// the rule names or the Brevo attribute has.
    pub fn missing_in_intercom(&self, brevo: &[Attribute], intercom: &[Attribute]) -> Vec<AttributeSpec> {
        let mut missing: Vec<AttributeSpec> = Vec::new();
        for rule in self.rules.iter().filter(|rule| rule.direction != Direction::IntercomToBrevo) {
            let known = |name: &str| name == rule.source;
            let custom = if rule.of_company { "company.custom_attributes." } else { "custom_attributes." };
            if !rule.source.starts_with(custom)
                || intercom.iter().any(|found| known(&found.name))
                || missing.iter().any(|spec| known(&spec.name))
            {
                continue;
            }
            let target =
                rule.targets.first().and_then(|target| brevo.iter().find(|found| found.name == target.attribute));
            let kind = match (rule.value_type, target) {
                (Some(value_type), _) => value_type.attribute_kind(),
                (None, Some(found)) => found.kind.clone(),
                (None, None) => rule.implied_kind().0,
            };
            // Intercom has no choices that anybody may add to: it keeps the words.
            let kind = match kind {
                AttributeKind::Category | AttributeKind::MultipleChoice | AttributeKind::Other(_) => {
                    AttributeKind::Text
                }
                kind => kind,
            };
            missing.push(AttributeSpec { name: rule.source.clone(), kind, options: Vec::new() });
        }
        missing
    }
}

impl Resolution {
    fn rule(
        &mut self,
        mut rule: FieldRule,
        brevo: &BTreeMap<&str, &Attribute>,
        intercom: &BTreeMap<&str, &Attribute>,
    ) -> FieldRule {
        let declared = intercom.get(rule.source.as_str()).copied();
        if rule.source_kind == SourceKind::Unknown {
            match declared {
                Some(declared) => rule.source_kind = source_kind(&declared.kind),
                None if !intercom.is_empty() => self.warn_undeclared(&rule, intercom),
                None => {}
            }
        }
        let (wanted, certain) = rule.implied_kind();
        let labels: Vec<String> = if rule.options.is_empty() {
            declared.map(|found| found.options.iter().map(|(label, _)| label.clone()).collect()).unwrap_or_default()
        } else {
            rule.options.clone()
        };
        for index in 0..rule.targets.len() {
            let Some(target) = rule.targets.get_mut(index) else { break };
            let name = target.attribute.clone();
            let Some(found) = brevo.get(name.as_str()) else {
                target.kind = wanted.clone();
                let chosen = matches!(wanted, AttributeKind::Category | AttributeKind::MultipleChoice);
                target.options = if chosen { numbered(&wanted, &[], &labels) } else { Vec::new() };
                let options = target.options.iter().map(|(label, _)| label.clone()).collect();
                // Brevo's own: they are there, whether listed or not.
                if convert::is_phone(&name) && !rule.of_company {
                    continue;
                }
                if wanted == AttributeKind::Category && target.options.is_empty() {
                    self.doubts.push(Misfit {
                        spot: rule.spot.clone(),
                        about: About::Attribute,
                        message: format!("{name} is to be a category, and nothing says what its options are"),
                        expected: "a list of its options".to_owned(),
                        help: Some("add `options: […]`".to_owned()),
                    });
                }
                if self.create.iter().all(|spec| spec.name != name) {
                    self.create.push(AttributeSpec { name, kind: wanted.clone(), options });
                }
                continue;
            };
            target.kind = found.kind.clone();
            target.options.clone_from(&found.options);
            let unwritable = !found.writable || matches!(found.kind, AttributeKind::Other(_));
            if !convert::is_phone(&name) && (unwritable || !fits(&wanted, certain, &found.kind)) {
                let target = target.clone();
                self.clashes.push(clash(&rule, &target, &wanted, &found.kind, unwritable));
                continue;
            }
            self.complete(target, found, &labels);
        }
        // Only the account's types show of some fields that they cannot travel back.
        let rule = rule.seal();
        if rule.stays_one_way() { rule.one_way() } else { rule }
    }

    /// Adds the options that are known to come and that the attribute lacks.
    fn complete(&mut self, target: &mut Target, found: &Attribute, labels: &[String]) {
        if !matches!(found.kind, AttributeKind::Category | AttributeKind::MultipleChoice) {
            target.options.clear();
            return;
        }
        let missing: Vec<String> =
            labels.iter().filter(|label| convert::choice(label, target).is_none()).cloned().collect();
        if !missing.is_empty() {
            target.options = numbered(&found.kind, &found.options, &missing);
            self.set_options.retain(|known| known.name != found.name);
            self.set_options.push(Attribute { options: target.options.clone(), ..found.clone() });
        }
    }

    fn warn_undeclared(&mut self, rule: &FieldRule, intercom: &BTreeMap<&str, &Attribute>) {
        // Only the name behind the prefix is compared: of the whole path, much would always agree.
        let (prefix, own) = rule.source.split_once("custom_attributes.").unwrap_or(("", &rule.source));
        let prefix = format!("{prefix}custom_attributes.");
        let near = nearest(own, intercom.keys().filter_map(|name| name.strip_prefix(prefix.as_str())));
        self.doubts.push(Misfit {
            spot: rule.spot.clone(),
            about: About::Attribute,
            message: format!(
                "the workspace has no attribute `{}`: nothing will be written by `{}`",
                rule.source, rule.key
            ),
            expected: "an attribute that the workspace has".to_owned(),
            help: near.map(|name| format!("did you mean `{prefix}{name}`?")),
        });
    }
}

/// Both types by name, where it is written, and what can be done.
fn clash(rule: &FieldRule, target: &Target, wanted: &AttributeKind, found: &AttributeKind, unwritable: bool) -> Misfit {
    let (name, word, implied) = (&target.attribute, type_name(found), type_name(wanted));
    let message = format!("the Brevo attribute {name} is {word} there, the mapping (`{}`) implies {implied}", rule.key);
    let (expected, help) = if unwritable {
        (
            "an attribute that can be written".to_owned(),
            "Brevo lets nobody write it: map to another attribute".to_owned(),
        )
    } else {
        let way = format!("make the value a {word} with a `transform` and `type: {word}`");
        (format!("an attribute of type {implied}"), format!("map to another attribute, or {way}"))
    };
    let help = if rule.spot.is_some() {
        help
    } else {
        format!(
            "this rule is of the default mapping, which holds because the config maps no field; to change it, map all \
             fields yourself under `field_mapping` (mappings/contacts.yaml is a start): there, {help}"
        )
    };
    Misfit { spot: target.spot.clone(), about: About::Attribute, message, expected, help: Some(help) }
}

/// Existing options with new labels behind them. A category's keys are whole numbers; a multiple choice's are its
/// labels.
fn numbered(kind: &AttributeKind, existing: &[(String, String)], labels: &[String]) -> Vec<(String, String)> {
    let mut options = existing.to_vec();
    let mut next = existing.iter().filter_map(|(_, key)| key.parse::<i64>().ok()).max().unwrap_or(0).saturating_add(1);
    for label in labels {
        if options.iter().any(|(known, _)| known == label) {
            continue;
        }
        if *kind == AttributeKind::Category {
            options.push((label.clone(), next.to_string()));
            next = next.saturating_add(1);
        } else {
            options.push((label.clone(), label.clone()));
        }
    }
    options
}

/// The word for `type:` that gives this attribute type.
fn type_name(kind: &AttributeKind) -> &str {
    ValueType::NAMES
        .iter()
        .find(|(_, value_type)| value_type.attribute_kind() == *kind)
        .map_or_else(|| kind.name(), |(name, _)| name)
}

/// Whether every value of the one type can be turned into the other.
fn fits(wanted: &AttributeKind, certain: bool, found: &AttributeKind) -> bool {
    use AttributeKind::{Category, MultipleChoice, Other, Text};
    match (wanted, found) {
        (_, Other(_)) => false,
        (wanted, found) if wanted == found => true,
        // What only running tells is judged value by value.
        (_, _) if !certain => true,
        (_, Text) | (Category, MultipleChoice) => true,
        _ => false,
    }
}

fn source_kind(kind: &AttributeKind) -> SourceKind {
    match kind {
        AttributeKind::Text | AttributeKind::Category => SourceKind::Text,
        AttributeKind::Float => SourceKind::Number,
        AttributeKind::Boolean => SourceKind::Boolean,
        AttributeKind::Date => SourceKind::Date,
        AttributeKind::MultipleChoice => SourceKind::List,
        AttributeKind::Other(name) => match name.as_str() {
            "integer" | "float" | "number" => SourceKind::Number,
            "datetime" | "date-time" => SourceKind::Instant,
            "string" => SourceKind::Text,
            _ => SourceKind::Unknown,
        },
    }
}

/// Accounts call first and last name by the language that they were opened in. Where the usual name is missing and a
/// localised pair is there, the pair is meant, unless a rule of its own writes it.
fn localise(rules: &mut [FieldRule], brevo: &BTreeMap<&str, &Attribute>) {
    let written: BTreeSet<String> =
        rules.iter().flat_map(|rule| &rule.targets).map(|target| target.attribute.clone()).collect();
    if brevo.contains_key("FIRSTNAME") || brevo.contains_key("LASTNAME") {
        return;
    }
    let there = |name: &str| brevo.contains_key(name) && !written.contains(name);
    let Some((first, last)) = NAMES.iter().find(|(first, last)| there(first) && there(last)) else { return };
    for target in rules.iter_mut().flat_map(|rule| &mut rule.targets) {
        match target.attribute.as_str() {
            "FIRSTNAME" => (*first).clone_into(&mut target.attribute),
            "LASTNAME" => (*last).clone_into(&mut target.attribute),
            _ => {}
        }
    }
}

/// A rule for each custom attribute of a contact, under its own name in capitals. Names that meet get a few digits made
/// of their path, so that none depends on which others there are or how they are sorted; but the one whose name needs
/// no change keeps it.
fn custom_rules(rules: &[FieldRule], intercom: &BTreeMap<&str, &Attribute>) -> Vec<FieldRule> {
    let taken: BTreeSet<&str> = rules
        .iter()
        .flat_map(|rule| &rule.targets)
        .map(|target| target.attribute.as_str())
        .chain(IDENTIFIERS.iter().copied())
        .collect();
    let mut by_name: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for path in intercom.keys() {
        if let Some(own) = path.strip_prefix("custom_attributes.") {
            by_name.entry(in_capitals(own)).or_default().push(path);
        }
    }
    let mut made = Vec::new();
    for (name, paths) in by_name {
        let exact: Vec<&str> = paths
            .iter()
            .copied()
            .filter(|path| path.trim_start_matches("custom_attributes.").to_uppercase() == name)
            .collect();
        for path in &paths {
            let alone = paths.len() == 1 || exact == [*path];
            let mut attribute = if taken.contains(name.as_str()) { format!("INTERCOM_{name}") } else { name.clone() };
            if !alone {
                let digest = hex(&Sha256::digest(path.as_bytes())[..3]).to_uppercase();
                attribute = format!("{attribute}_{digest}");
            }
            made.push(FieldRule::new(path, SourceKind::Unknown, &[&attribute]).typed());
        }
    }
    made.sort_by(|one, other| one.source.cmp(&other.source));
    made
}

/// A custom attribute's name as Brevo would take it.
fn in_capitals(name: &str) -> String {
    let upper: String =
        name.trim().to_uppercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).take(80).collect();
    if upper.chars().all(|c| c == '_') { "CUSTOM_ATTRIBUTE".to_owned() } else { upper }
}
