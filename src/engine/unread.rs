//! What has never been read whole is not known: that nobody has seen a conversation of somebody's is no reason to write
//! that they have none. What is made of it rests until it has been read once.

use super::Ready;
use crate::mapping::{FieldProblem, ListRule, Mapping};
use crate::model::{BrevoListId, Resource, SideName};
use crate::store::{Result, Tx};

/// What contacts' fields and lists are made of besides the contacts, and the paths where it stands.
const BESIDE: [(Resource, &str); 3] =
    [(Resource::Tags, "tags"), (Resource::Companies, "company"), (Resource::Conversations, "conversations")];

/// The mapping as long as something that it reads is not known.
pub(super) struct AtRest {
    pub(super) mapping: Mapping,
    pub(super) lists: Vec<(ListRule, BrevoListId)>,
    unread: Vec<(Resource, &'static str)>,
}

/// Whether fields and lists of contacts may be made of this resource, besides the contacts' own.
pub(super) fn is_beside(resource: Resource) -> bool {
    BESIDE.iter().any(|(beside, _)| *beside == resource)
}

/// What the mapping or the filter reads and nobody has read whole.
pub(super) fn unread(tx: &Tx<'_>, ready: &Ready) -> Result<Vec<(Resource, &'static str)>> {
    let mut unread = Vec::new();
    for (resource, path) in BESIDE {
        let reads = ready.mapping.rules.iter().any(|rule| rule.mentions(path))
            || ready.lists.iter().any(|(rule, _)| !rule.rests && rule.mentions(path))
            || ready.filter.brevo.as_ref().is_some_and(|filter| filter.mentions(path));
        if reads && tx.watermark(SideName::Intercom, resource)?.is_none_or(|read| read.full_at.is_none()) {
            unread.push((resource, path));
        }
    }
    Ok(unread)
}

impl AtRest {
    /// `None`: everything has been read once.
    pub(super) fn read(tx: &Tx<'_>, ready: &Ready) -> Result<Option<Self>> {
        let unread = unread(tx, ready)?;
        if unread.is_empty() {
            return Ok(None);
        }
        let paths: Vec<&str> = unread.iter().map(|(_, path)| *path).collect();
        let rest = |(rule, list): &(ListRule, BrevoListId)| {
            let rests = rule.rests || paths.iter().any(|path| rule.mentions(path));
            (ListRule { rests, ..rule.clone() }, *list)
        };
        let lists = ready.lists.iter().map(rest).collect();
        Ok(Some(Self { mapping: ready.mapping.at_rest(&paths), lists, unread }))
    }

    /// Why nobody can tell who takes part: the filter reads what has not been read.
    pub(super) fn hides_from(&self, ready: &Ready) -> Option<FieldProblem> {
        let filter = ready.filter.brevo.as_ref()?;
        let (resource, _) = self.unread.iter().find(|(_, path)| filter.mentions(path))?;
        Some(FieldProblem {
            field: "contacts.filter.intercom_to_brevo".to_owned(),
            message: format!("Intercom's {} have not been read whole yet", resource.as_str()),
            help: None,
        })
    }
}
