//! YAML → rules. All errors at once, each with its place.

use super::paths::{self, Known, SourceKind};
use super::rule::{FieldRule, Step};
use super::{Mapping, MappingError, Section};
use serde_yaml::Value as Yaml;

/// What the mapping needs to know of the rest of the config.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// The region of phone numbers without a country code (`NO`).
    pub default_phone_region: Option<String>,
    /// The pinned version of Intercom's API.
    pub api_version: String,
}

/// Compiles all sections into one mapping; no section at all is the default mapping.
pub fn parse(sections: &[Section], options: &Options) -> Result<Mapping, Vec<MappingError>> {
    let mut parser = Parser { options, file: 0, mapping: Mapping::default(), errors: Vec::new() };
    if sections.is_empty() {
        parser.default_mapping();
    }
    for section in sections {
        parser.file = section.file;
        parser.fields(&section.path, &section.value);
    }
    if parser.errors.is_empty() { Ok(parser.mapping) } else { Err(parser.errors) }
}

struct Parser<'a> {
    options: &'a Options,
    file: usize,
    mapping: Mapping,
    errors: Vec<MappingError>,
}

impl Parser<'_> {
    fn note(&self, path: &[String], on_key: bool, message: impl Into<String>, help: Option<String>) -> MappingError {
        MappingError { file: self.file, path: path.to_vec(), on_key, message: message.into(), help }
    }

    fn error(&mut self, path: &[String], on_key: bool, message: impl Into<String>, help: Option<String>) {
        let error = self.note(path, on_key, message, help);
        self.errors.push(error);
    }

    fn default_mapping(&mut self) {
        let rule = |source: &str, kind, targets: &[&str]| FieldRule::new(source, kind, targets);
        let mut name = rule("name", SourceKind::Text, &["FIRSTNAME", "LASTNAME"]);
        name.steps.push(Step::SplitName);
        let mut phone = rule("phone", SourceKind::Text, &["SMS"]);
        phone.default_region.clone_from(&self.options.default_phone_region);
        let rules = [
            name,
            phone,
            rule("role", SourceKind::Text, &["ROLE"]),
            rule("company.name", SourceKind::Text, &["COMPANY_NAME"]),
            rule("signed_up_at", SourceKind::Instant, &["SIGNUP_DATE"]),
            rule("last_seen_at", SourceKind::Instant, &["LAST_ACTIVE"]),
        ];
        self.mapping.rules.extend(rules.into_iter().map(FieldRule::seal));
        self.mapping.all_custom_attributes = true;
    }

    fn fields(&mut self, path: &[String], value: &Yaml) {
        let Yaml::Mapping(entries) = value else {
            self.error(path, false, "expected a mapping of Intercom paths to Brevo attributes", None);
            return;
        };
        for (key, value) in entries {
            let Some(source) = key.as_str() else {
                self.error(path, false, "a key is not text", Some("put it in quotes".to_owned()));
                continue;
            };
            let mut here = path.to_vec();
            here.push(source.to_owned());
            let Some(attribute) = value.as_str() else {
                self.error(&here, false, "expected the name of a Brevo attribute", None);
                continue;
            };
            self.short(&here, source, attribute);
        }
    }

    fn short(&mut self, here: &[String], source: &str, attribute: &str) {
        if source == "email" && attribute.eq_ignore_ascii_case("email") {
            return; // names the identifier, not an attribute
        }
        let kind = match paths::lookup(source) {
            Known::Yes(kind) => kind,
            Known::Elsewhere(who) => {
                let message = format!(
                    "contacts of API version {} have no `{source}`: nothing will be written to {attribute}",
                    self.options.api_version
                );
                let warning = self.note(here, true, message, Some(who.to_owned()));
                self.mapping.warnings.push(warning);
                return;
            }
            Known::No { nearest } => {
                let help = nearest.map(|nearest| format!("did you mean `{nearest}`?"));
                self.error(here, true, format!("Intercom has no `{source}`"), help);
                return;
            }
        };
        let name = attribute.trim().to_uppercase();
        let mut rule = FieldRule::new(source, kind, &[&name]);
        rule.default_region.clone_from(&self.options.default_phone_region);
        self.mapping.rules.push(rule.seal());
    }
}
