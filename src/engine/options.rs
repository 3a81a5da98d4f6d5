//! Options of categories and multiple choices: Brevo drops a value that is none of an attribute's options, so a new tag or
//! a new plan is made an option before it is written.

use super::people::{self, Names};
use super::{Connection, EngineError, Ready, Told};
use crate::model::{Attribute, AttributeKind, Priority, Write};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

impl Connection {
    /// Adds the options that these people need and that are missing. Returns what the connection knows afterwards.
    pub(super) async fn ensure_options(
        &self,
        ready: Arc<Ready>,
        links: &[i64],
        priority: Priority,
    ) -> Result<Arc<Ready>, EngineError> {
        let chosen = |kind: &AttributeKind| matches!(kind, AttributeKind::Category | AttributeKind::MultipleChoice);
        if !ready.mapping.rules.iter().any(|rule| rule.targets.iter().any(|target| chosen(&target.kind))) {
            return Ok(ready);
        }
        // One at a time, each upon what the one before has added: Brevo replaces a category's options as a whole.
        let _alone = self.options.lock().await;
        let ready = self.ready().unwrap_or(ready);
        let (links, asking) = (links.to_vec(), Arc::clone(&ready));
        let missing: BTreeMap<String, BTreeSet<String>> = self
            .store
            .write(move |tx| {
                let names = Names::read(tx)?;
                let mut missing: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
                for link in links {
                    // What cannot be read is noted when it is planned.
                    let person = match people::gather(tx, link, &asking, &names) {
                        Err(error) if error.unreadable().is_some() => continue,
                        person => person?,
                    };
                    let Some(person) = person else { continue };
                    for (attribute, label) in
                        asking.mapping.rules.iter().flat_map(|rule| rule.missing_options(&person.record))
                    {
                        missing.entry(attribute).or_default().insert(label);
                    }
                }
                Ok(missing)
            })
            .await?;
        if missing.is_empty() {
            return Ok(ready);
        }
        let mut next = Ready::clone(&ready);
        for (name, labels) in missing {
            let targets = ready.mapping.rules.iter().flat_map(|rule| &rule.targets);
            let Some(target) = targets.into_iter().find(|target| target.attribute == name) else { continue };
            let mut options = target.options.clone();
            for label in labels {
                // A category's keys are numbers; a multiple choice's are its labels.
                let key = match target.kind {
                    AttributeKind::Category => {
                        let used = options.iter().filter_map(|(_, key)| key.parse::<u64>().ok());
                        (used.max().unwrap_or(0) + 1).to_string()
                    }
                    _ => label.clone(),
                };
                options.push((label, key));
            }
            let attribute =
                Attribute { name: name.clone(), kind: target.kind.clone(), writable: true, options: options.clone() };
            tracing::info!(attribute = %name, options = options.len(), "adding options to a Brevo attribute");
            match self.brevo.write(&Write::SetAttributeOptions(attribute), priority).await {
                Ok(_) => {}
                Err(error) if matches!(error.kind, crate::model::ErrorKind::Auth(_)) => return Err(error.into()),
                // Those who need them wait.
                Err(error) if error.is_transient() => {
                    tracing::warn!(attribute = %name, "options could not be added yet: {}",
 error.for_log());
                    continue;
                }
                // Refused for good, they count as there: a value that Brevo drops is found by the verifying read, and
                // listed.
                Err(error) => tracing::warn!(attribute = %name, "options could not be added: {}",
 error.for_log()),
            }
            let targets = next.mapping.rules.iter_mut().flat_map(|rule| &mut rule.targets);
            for target in targets.filter(|target| target.attribute == name) {
                target.options.clone_from(&options);
            }
        }
        let next = Arc::new(next);
        // Unless there was a reload meanwhile: then the new mapping finds the options itself.
        self.told.rcu(|told| match &told.ready {
            Some(known) if Arc::ptr_eq(known, &ready) => {
                Arc::new(Told { settings: Arc::clone(&told.settings), ready: Some(Arc::clone(&next)) })
            }
            _ => Arc::clone(told),
        });
        Ok(next)
    }
}
