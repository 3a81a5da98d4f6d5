//! Options of multiple-choice attributes that nobody had before: a tag made this morning, say. Brevo drops unknown
//! options without a word, so they are made before the first value that needs them leaves.

use super::people::Planned;
use super::{Connection, EngineError, Ready};
use crate::model::{Attribute, AttributeKind, Priority, Value, Write};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

impl Connection {
    /// Makes the options that these plans need and Brevo lacks.
    pub(super) async fn make_options(&self, planned: &[Planned], priority: Priority) -> Result<(), EngineError> {
        // What is known now, not when the plans were made: the other loop may have made them meanwhile.
        let ready = self.require_ready()?;
        let missing = missing(planned, &ready);
        if missing.is_empty() {
            return Ok(());
        }
        // All options are written at once, so those that people made by hand since the start must not be forgotten.
        let existing = self.brevo.attributes().await?;
        let mut made: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
        for (name, labels) in missing {
            let Some(found) = existing.iter().find(|attribute| attribute.name == name) else { continue };
            let mut options = found.options.clone();
            options.extend(
                labels.into_iter().filter(|label| !has(&found.options, label)).map(|label| (label.clone(), label)),
            );
            if options.len() > found.options.len() {
                tracing::info!(attribute = %name, count = options.len() - found.options.len(), "adding options to a Brevo attribute");
                let attribute = Attribute { options: options.clone(), ..found.clone() };
                match self.brevo.write(&Write::SetAttributeOptions(attribute), priority).await {
                    Ok(_) => {}
                    // The values are written without them, and listed as not taken.
                    Err(error) if super::inbox::is_refusal(&EngineError::Side(error.clone())) => {
                        tracing::warn!(attribute = %name, "Brevo refuses new options: {error}");
                        continue;
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            made.insert(name, options);
        }
        let mut ready = Ready::clone(&ready);
        for target in ready.mapping.rules.iter_mut().flat_map(|rule| &mut rule.targets) {
            if let Some(options) = made.get(&target.attribute) {
                target.options.clone_from(options);
            }
        }
        self.ready.store(Some(Arc::new(ready)));
        Ok(())
    }
}

/// The labels that are to be written and are no options yet, by attribute.
fn missing(planned: &[Planned], ready: &Ready) -> BTreeMap<String, BTreeSet<String>> {
    let mut missing: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let open = ready
        .mapping
        .rules
        .iter()
        .flat_map(|rule| &rule.targets)
        .filter(|target| target.kind == AttributeKind::MultipleChoice);
    for target in open {
        for planned in planned {
            if let Some(Some(Value::List(labels))) = planned.plan.change.attributes.get(&target.attribute) {
                let new = labels.iter().filter(|label| !has(&target.options, label)).cloned();
                missing.entry(target.attribute.clone()).or_default().extend(new);
            }
        }
    }
    missing.retain(|_, labels| !labels.is_empty());
    missing
}

fn has(options: &[(String, String)], label: &str) -> bool {
    options.iter().any(|(known, _)| known == label)
}
