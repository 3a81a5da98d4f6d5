//! Which way a field travels, and whether it can.

use super::{About, Defaults, FieldRule, Mapping, Membership, Misfit, inverse};
use std::collections::BTreeMap;

/// Which way a field travels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Direction {
    /// Intercom gives, Brevo takes.
    #[default]
    IntercomToBrevo,
    /// Brevo gives, Intercom takes.
    BrevoToIntercom,
    /// Both give and take.
    Both,
}

impl Direction {
    /// All of them, by the name they have in YAML. `bidirectional` is another word for `both`.
    pub const NAMES: &'static [(&'static str, Self)] = &[
        ("intercom_to_brevo", Self::IntercomToBrevo),
        ("brevo_to_intercom", Self::BrevoToIntercom),
        ("both", Self::Both),
        ("bidirectional", Self::Both),
    ];
}

/// Whose value stands where both sides have changed a field that travels both ways.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnConflict {
    /// The later change's. Where nobody can say which was later, it is a tie.
    #[default]
    Newest,
    /// Intercom's.
    Intercom,
    /// Brevo's.
    Brevo,
}

impl OnConflict {
    /// All of them, by the name they have in YAML.
    pub const NAMES: &'static [(&'static str, Self)] =
        &[("newest", Self::Newest), ("intercom", Self::Intercom), ("brevo", Self::Brevo)];
}

/// Why a path cannot be written in Intercom: `None` if it can.
pub fn unwritable(path: &str) -> Option<(&'static str, Option<&'static str>)> {
    // What `PUT /contacts/{id}` of API version 2.11 takes, without what has rules of its own.
    const WRITABLE: &[&str] = &["name", "phone", "avatar", "owner_id", "signed_up_at", "last_seen_at"];
    if WRITABLE.contains(&path) || path.starts_with("custom_attributes.") {
        return None;
    }
    let root = path.split('.').next().unwrap_or(path);
    Some(match (root, path) {
        (_, "unsubscribed_from_emails" | "unsubscribed_from_sms" | "sms_consent") => {
            ("it is consent: opt-outs travel by themselves, and opt-ins stay where people gave them", None)
        }
        (_, "has_hard_bounced" | "marked_email_as_spam") => {
            ("Intercom finds that out itself, and lets nobody set it; opt-outs travel by themselves", None)
        }
        (_, "email" | "external_id") => {
            ("it says who the contact is, and follows by rules of its own", Some("leave it out of the mapping"))
        }
        (_, "role") => ("whether somebody is a lead or a user is not for an attribute to say", None),
        (_, "tags") => {
            ("tags are not written from an attribute", Some("map each tag to a list: `tags: {VIP: {list: 42}}`"))
        }
        ("company", _) => ("it is the company's, and other contacts share it", None),
        ("conversations", _) => ("it is counted from the contact's conversations", None),
        ("location", _) => ("Intercom makes it of the visitor's address, and lets nobody set it", None),
        (_, "language_override") => ("it can be written from version 2.15 of Intercom's API on", None),
        _ => ("Intercom lets nobody set it", None),
    })
}

/// The same for companies: what `PUT /companies/{id}` takes.
fn unwritable_of_company(path: &str) -> Option<(&'static str, Option<&'static str>)> {
    let own = path.strip_prefix("company.").unwrap_or(path);
    if ["name", "plan", "size", "website", "industry", "monthly_spend"].contains(&own)
        || own.starts_with("custom_attributes.")
    {
        return None;
    }
    Some(match own {
        "id" | "company_id" => ("it says which company this is", Some("leave it out of the mapping")),
        "tags" | "segments" => ("it is not written from an attribute", None),
        _ => ("Intercom counts it itself, and lets nobody set it", None),
    })
}

impl FieldRule {
    /// Whether it matters when the field was changed on which side: whose value is newer, or whether both changed at all.
    pub fn weighs_times(&self) -> bool {
        self.direction == Direction::Both
    }

    /// What holds where the rule itself does not say it.
    pub(crate) fn set_defaults(&mut self, defaults: Defaults) {
        (self.direction, self.on_conflict) = (defaults.direction, defaults.on_conflict);
        self.tie = defaults.tie.unwrap_or(self.tie);
    }

    /// As a rule of the default mapping, which leaves out what cannot travel the way that all else does.
    pub(crate) fn by_default(mut self, defaults: Defaults) -> Option<Self> {
        self.set_defaults(defaults);
        let rule = if self.stays_one_way() { self.one_way() } else { self.seal() };
        rule.misdirection().is_none().then_some(rule)
    }

    /// It is to travel both ways by default, and cannot: then it stays with Intercom's value.
    pub(crate) fn stays_one_way(&self) -> bool {
        self.direction == Direction::Both && !self.direction_given && self.misdirection().is_some()
    }

    /// The same rule, with Intercom's value.
    pub(crate) fn one_way(self) -> Self {
        Self { direction: Direction::IntercomToBrevo, ..self }.seal()
    }

    /// Why the rule cannot travel the way it is asked to; the ways out are its help.
    pub fn misdirection(&self) -> Option<Misfit> {
        if self.direction == Direction::IntercomToBrevo {
            return None;
        }
        let unwritable = if self.of_company { unwritable_of_company(&self.source) } else { unwritable(&self.source) };
        let (why, instead, expected) = if let Some((why, instead)) = unwritable {
            (why.to_owned(), instead.map(str::to_owned), "a field that can be written in Intercom")
        } else {
            let none = inverse::check(self).err()?;
            (none.what, none.instead, "a transform that can be undone")
        };
        let mut ways = vec!["`direction: intercom_to_brevo`".to_owned()];
        ways.extend(instead);
        if expected.starts_with("a field") && !matches!(self.source.as_str(), "email" | "external_id") {
            let prefix = if self.of_company { "company." } else { "" };
            ways.push(format!("for a value of Brevo's own, a custom attribute: `{prefix}custom_attributes.NAME`"));
        }
        Some(Misfit {
            spot: self.spot.clone(),
            about: About::Attribute,
            message: format!("`{}` cannot travel to Intercom: {why}", self.source),
            expected: expected.to_owned(),
            help: Some(ways.join("; or ")),
        })
    }
}

impl Mapping {
    /// Rules that cannot travel the way they are asked to. Asked twice: when the mapping is read, and when it has been
    /// fitted to the account, whose types decide too.
    pub fn misdirections(&self) -> Vec<Misfit> {
        let mut found: Vec<Misfit> = self.rules.iter().filter_map(FieldRule::misdirection).collect();
        let mut writers: BTreeMap<&str, Vec<&FieldRule>> = BTreeMap::new();
        for rule in self.rules.iter().filter(|rule| rule.direction != Direction::IntercomToBrevo) {
            writers.entry(&rule.source).or_default().push(rule);
        }
        for (source, rules) in writers {
            let Some(second) = rules.get(1).filter(|_| rules.iter().any(|rule| rule.when.is_none())) else { continue };
            found.push(Misfit {
                spot: second.spot.clone(),
                about: About::Attribute,
                message: format!("two rules write `{source}` in Intercom"),
                expected: "one that does".to_owned(),
                help: Some(
                    "let the others say `direction: intercom_to_brevo`, or give each of them a `when`".to_owned(),
                ),
            });
        }
        for rule in self.lists.iter().filter(|rule| rule.direction != Direction::IntercomToBrevo) {
            let why = if !matches!(rule.membership, Membership::Tag(_)) {
                "only a contact's tag can follow a list"
            } else if self.lists.iter().filter(|other| other.list == rule.list).count() > 1 {
                "more than one rule puts people on it, and nothing tells which tag they should carry"
            } else {
                continue;
            };
            found.push(Misfit {
                spot: rule.spot.clone(),
                about: About::List,
                message: format!("membership of `{}` cannot travel to Intercom: {why}", rule.list),
                expected: "one tag with a list of its own".to_owned(),
                help: Some("`direction: intercom_to_brevo`, or a list of its own for the tag".to_owned()),
            });
        }
        found
    }

    /// Whether anything travels towards Intercom.
    pub fn writes_intercom(&self) -> bool {
        let directions = self.rules.iter().map(|rule| rule.direction);
        let lists = self.lists.iter().map(|rule| rule.direction);
        directions.chain(lists).any(|direction| direction != Direction::IntercomToBrevo)
    }
}
