//! Checks a document against the table: every key known, every value read, everything else reported at its place.

use super::super::document::{Content, Entry, Node, Place};
use super::super::errors::Findings;
use super::values::{Leaf, expected, read};
use super::{Key, Kind, table::ROOT};
use crate::mapping::nearest;
use std::collections::BTreeMap;

/// What a document says, once it has been checked.
#[derive(Debug, Default)]
pub(in super::super) struct Walk {
    /// Values by dotted path.
    pub(in super::super) leaves: BTreeMap<String, Leaf>,
    /// Where each of them stands.
    pub(in super::super) places: BTreeMap<String, Place>,
    /// Blocks in the mapping language.
    pub(in super::super) sections: Vec<Section>,
    /// Mapping files, as written.
    pub(in super::super) files: Vec<(String, Place)>,
}

/// A block in the mapping language.
#[derive(Debug)]
pub(in super::super) struct Section {
    /// Where in the document it stands.
    pub(in super::super) path: Vec<String>,
    /// The block.
    pub(in super::super) value: serde_yaml::Value,
}

/// Walks a whole document.
pub(in super::super) fn walk(root: &Node, findings: &mut Findings) -> Walk {
    let mut walker = Walker { findings, walk: Walk::default(), path: Vec::new() };
    walker.block(ROOT, root);
    walker.walk
}

struct Walker<'a> {
    findings: &'a mut Findings,
    walk: Walk,
    path: Vec<String>,
}

impl Walker<'_> {
    fn block(&mut self, keys: &'static [Key], node: &Node) {
        if node.is_null() {
            return; // a block whose keys are all commented out
        }
        let Content::Mapping(entries) = &node.content else {
            let at = if self.path.is_empty() { "the config".to_owned() } else { format!("`{}`", self.path.join(".")) };
            let names = list(keys);
            self.findings
                .error(node.first_line(), format!("{at} is {}", node.kind_name()))
                .label(format!("expected a block of keys: {names}"));
            self.findings.hide_all(node);
            return;
        };
        for entry in entries {
            match keys.iter().find(|key| key.name == entry.key) {
                Some(key) => {
                    self.path.push(entry.key.clone());
                    self.value(key, entry);
                    self.path.pop();
                }
                // A place for anchors, as other programs have it.
                None if self.path.is_empty() && entry.key.starts_with("x-") => {}
                None => self.unknown(keys, entry),
            }
        }
    }

    fn value(&mut self, key: &'static Key, entry: &Entry) {
        let node = &entry.value;
        let path = self.path.join(".");
        match &key.kind {
            Kind::Block(keys) => self.block(keys, node),
            Kind::Later(reason) => {
                self.findings
                    .error(entry.key_place, format!("`{path}` is not supported yet"))
                    .label("remove it")
                    .help(format!("It comes with a later version: {reason}."));
            }
            Kind::Never(reason) => {
                self.findings
                    .error(entry.key_place, format!("`{path}` does not exist"))
                    .label("remove it")
                    .help(format!("{reason}."));
            }
            _ if node.is_blank() => {}
            Kind::Mapping => self.walk.sections.push(Section { path: self.path.clone(), value: node.to_value() }),
            Kind::MappingFiles => self.files(&path, &key.kind, node),
            kind => {
                // An address with a user in it holds a password.
                let in_address = matches!(&node.content, Content::Scalar { text, .. } if text.contains(['@', '?']));
                if matches!(kind, Kind::Secret) || matches!(kind, Kind::Url) && in_address {
                    self.findings.hide_all(node);
                }
                if matches!(node.content, Content::Broken { .. }) {
                    return; // its variable is missing, which has been said
                }
                match read(kind, node) {
                    Ok(leaf) => {
                        self.walk.places.insert(path.clone(), node.place);
                        self.walk.leaves.insert(path, leaf);
                    }
                    Err(refusal) => {
                        let finding = self.findings.error(node.first_line(), format!("`{path}`: {}", refusal.problem));
                        finding.label(refusal.expected);
                        if let Some(help) = refusal.help {
                            finding.help(help);
                        }
                    }
                }
            }
        }
    }

    fn files(&mut self, path: &str, kind: &Kind, node: &Node) {
        let items = match &node.content {
            Content::Sequence(items) => items.as_slice(),
            _ => std::slice::from_ref(node),
        };
        for item in items {
            match &item.content {
                Content::Scalar { text, .. } if !text.trim().is_empty() => {
                    self.walk.files.push((text.trim().to_owned(), item.place));
                }
                Content::Broken { .. } => {}
                _ => {
                    self.findings
                        .error(item.first_line(), format!("`{path}`: {} stands where a file belongs", item.kind_name()))
                        .label(format!("expected {}", expected(kind)));
                }
            }
        }
    }

    fn unknown(&mut self, keys: &'static [Key], entry: &Entry) {
        // What an unknown key means is unknown too: it may be a token behind a slip of the pen.
        self.findings.hide_all(&entry.value);
        let at = match self.path.join(".") {
            top if top.is_empty() => "at the top of the config".to_owned(),
            path => format!("in `{path}`"),
        };
        let near = nearest(&entry.key, keys.iter().map(|key| key.name));
        let elsewhere = if near.is_none() { find_path(ROOT, &entry.key, "") } else { None };
        let finding = self.findings.error(entry.key_place, format!("unknown key `{}` {at}", entry.key));
        match (near, elsewhere) {
            (Some(near), _) => finding.label(format!("did you mean `{near}`?")),
            (None, Some(path)) => finding.label(format!("did you mean `{path}`?")),
            (None, None) => finding.label("no such key"),
        };
        finding.help(format!("Keys here: {}.", list(keys)));
    }
}

/// The names of keys that may be written, for messages.
fn list(keys: &[Key]) -> String {
    let names: Vec<String> = keys
        .iter()
        .filter(|key| !matches!(key.kind, Kind::Later(_) | Kind::Never(_)))
        .map(|key| format!("`{}`", key.name))
        .collect();
    if names.is_empty() { "none in this version".to_owned() } else { names.join(", ") }
}

/// Where a key of this name lives, for one that was written in the wrong block.
fn find_path(keys: &[Key], name: &str, prefix: &str) -> Option<String> {
    keys.iter().find_map(|key| {
        let path = if prefix.is_empty() { key.name.to_owned() } else { format!("{prefix}.{}", key.name) };
        match key.kind {
            Kind::Later(_) | Kind::Never(_) => None,
            _ if key.name == name => Some(path),
            Kind::Block(keys) => find_path(keys, name, &path),
            _ => None,
        }
    })
}
