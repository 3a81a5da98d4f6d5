//! Options of categories and multiple choices: Brevo drops a value that is none of an attribute's options, so a new tag or
//! a new plan is made an option before it is written.

use super::observe::to_json;
use super::people::Person;
use super::{Connection, EngineError, LATE_LANDING, Ready, Told};
use crate::model::{Attribute, AttributeKind, ErrorKind, Priority, Write};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// How often a list of options is sent in a row, if there is no answer.
const MOST_TRIES: u32 = 3;
/// How long after a try the next one goes.
const PAUSE: Duration = Duration::from_secs(1);

impl Connection {
    /// Adds the options that these people need and that are missing. Returns what the connection knows afterwards.
    pub(super) async fn ensure_options(
        &self,
        ready: Arc<Ready>,
        people: &[Person],
        priority: Priority,
    ) -> Result<Arc<Ready>, EngineError> {
        let chosen = |kind: &AttributeKind| matches!(kind, AttributeKind::Category | AttributeKind::MultipleChoice);
        if !ready.mapping.rules.iter().any(|rule| rule.targets.iter().any(|target| chosen(&target.kind))) {
            return Ok(ready);
        }
        // One at a time, each upon what the one before has added: Brevo replaces a category's options as a whole.
        let _alone = self.options.lock().await;
        let ready = self.ready().unwrap_or(ready);
        let mut missing: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for person in people {
            for (attribute, label) in ready.mapping.rules.iter().flat_map(|rule| rule.missing_options(&person.record)) {
                missing.entry(attribute).or_default().insert(label);
            }
        }
        if missing.is_empty() {
            return Ok(ready);
        }
        // What stands there now: a list is replaced as a whole, and what people have added to it since must stay.
        let shown = match self.brevo.attributes().await {
            Ok(shown) => shown,
            Err(error) if matches!(error.kind, ErrorKind::Auth(_)) => return Err(error.into()),
            // Those who need them wait.
            Err(error) => {
                tracing::warn!("options could not be added yet: {}", error.for_log());
                return Ok(ready);
            }
        };
        let mut next = Ready::clone(&ready);
        for (name, labels) in missing {
            let targets = ready.mapping.rules.iter().flat_map(|rule| &rule.targets);
            let Some(target) = targets.into_iter().find(|target| target.attribute == name) else { continue };
            let stand = shown.iter().find(|attribute| attribute.name.eq_ignore_ascii_case(&name));
            let mut options = stand.map_or_else(|| target.options.clone(), |attribute| attribute.options.clone());
            for (label, key) in self.on_its_way(&name).await?.map_or_else(Vec::new, |sent| sent.options) {
                add(&mut options, &target.kind, label, Some(key));
            }
            for label in labels {
                add(&mut options, &target.kind, label, None);
            }
            let attribute =
                Attribute { name: name.clone(), kind: target.kind.clone(), writable: true, options: options.clone() };
            // Others may be there since that are needed.
            if stand.is_none_or(|stand| stand.options != options) {
                tracing::info!(attribute = %name, options = options.len(), "adding options to a Brevo attribute");
                match self.replace_options(&attribute, priority).await {
                    Ok(Replaced::Done) => {}
                    // Those who need them wait.
                    Ok(Replaced::NotBefore(at)) => {
                        tracing::info!(attribute = %name, %at, "an earlier list of options may still land: added then");
                        continue;
                    }
                    Err(EngineError::Side(error)) if matches!(error.kind, ErrorKind::Auth(_)) => {
                        return Err(error.into());
                    }
                    Err(EngineError::Side(error)) if error.is_transient() => {
                        tracing::warn!(attribute = %name, "options could not be added yet: {}", error.for_log());
                        continue;
                    }
                    // Refused for good, they count as there: a value that Brevo drops is found by the verifying read, and
                    // listed.
                    Err(EngineError::Side(error)) => {
                        tracing::warn!(attribute = %name, "options could not be added: {}", error.for_log());
                    }
                    Err(error) => return Err(error),
                }
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

    /// Replaces an attribute's list of options. The caller holds `options`.
    ///
    /// The request sets the whole list: should one that timed out land after a longer one, it would take options away,
    /// and Brevo would drop them from whatever is written then, and say nothing. So what is sent is on disk before it
    /// leaves, and while its outcome is unknown no other list is sent than the same.
    pub(super) async fn replace_options(
        &self,
        attribute: &Attribute,
        priority: Priority,
    ) -> Result<Replaced, EngineError> {
        let earlier = self.on_its_way(&attribute.name).await?;
        if let Some(earlier) = &earlier
            && earlier.options != attribute.options
        {
            return Ok(Replaced::NotBefore(earlier.lands_by.unwrap_or_else(|| self.late_landing())));
        }
        let sent = SentOptions { options: attribute.options.clone(), lands_by: None };
        self.keep_sent(&attribute.name, Some(&sent)).await?;
        self.doors.crash.reach("after_options_intent");
        let (mut may_land, mut tries) = (earlier, 0);
        let answer = loop {
            let answer = self.brevo.write(&Write::SetAttributeOptions(attribute.clone()), priority).await;
            tries += 1;
            if !matches!(&answer, Err(error) if error.may_have_landed()) {
                break answer;
            }
            may_land = Some(SentOptions { lands_by: Some(self.late_landing()), ..sent.clone() });
            // The same list once more changes nothing, whenever either lands.
            if tries == MOST_TRIES {
                break answer;
            }
            tokio::time::sleep(PAUSE).await;
        };
        self.keep_sent(&attribute.name, may_land.as_ref()).await?;
        answer?;
        Ok(Replaced::Done)
    }

    /// The list that may still land on this attribute. The caller holds `options`.
    async fn on_its_way(&self, attribute: &str) -> Result<Option<SentOptions>, EngineError> {
        let name = key_of(attribute);
        let kept = self.store.read(move |tx| tx.meta(&name)).await?;
        let Some(mut sent) = kept.and_then(|text| serde_json::from_str::<SentOptions>(&text).ok()) else {
            return Ok(None);
        };
        let longest = self.late_landing();
        if let Some(by) = sent.lands_by {
            // A clock that has been put back must not make this last.
            return Ok((self.now() < by && by <= longest).then_some(sent));
        }
        // Nobody is sending it any more: whoever did has crashed.
        sent.lands_by = Some(longest);
        self.keep_sent(attribute, Some(&sent)).await?;
        Ok(Some(sent))
    }

    async fn keep_sent(&self, attribute: &str, sent: Option<&SentOptions>) -> Result<(), EngineError> {
        let text = sent.map(|sent| to_json("meta", sent)).transpose()?.unwrap_or_default();
        let name = key_of(attribute);
        Ok(self.store.write(move |tx| tx.set_meta(&name, &text)).await?)
    }

    /// Before the mapping is fitted to the account's attributes: a list that may still land counts as there, so that it
    /// takes nothing away from what is added to it. The caller holds `options`.
    pub(super) async fn count_in_what_may_land(&self, attributes: &mut [Attribute]) -> Result<(), EngineError> {
        for attribute in attributes {
            if !matches!(attribute.kind, AttributeKind::Category | AttributeKind::MultipleChoice) {
                continue;
            }
            let Some(sent) = self.on_its_way(&attribute.name).await? else { continue };
            let mut options = sent.options;
            for (label, key) in &attribute.options {
                add(&mut options, &attribute.kind, label.clone(), Some(key.clone()));
            }
            if attribute.options != options {
                attribute.options.clone_from(&options);
                self.insist_on_options(attribute).await?;
            }
        }
        Ok(())
    }

    /// Replaces an attribute's options, waiting for an earlier list to land where it must.
    pub(super) async fn insist_on_options(&self, attribute: &Attribute) -> Result<(), EngineError> {
        loop {
            let Replaced::NotBefore(at) = self.replace_options(attribute, Priority::Live).await? else { return Ok(()) };
            tracing::info!(attribute = %attribute.name, %at, "waiting: an earlier list of options may still land");
            tokio::time::sleep((at - self.now()).to_std().unwrap_or_default().min(LATE_LANDING)).await;
        }
    }
}

/// A list of options that was sent and of which no answer is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct SentOptions {
    /// Labels and keys.
    options: Vec<(String, String)>,
    /// When it can no longer land; `None` while it is in somebody's hands.
    lands_by: Option<DateTime<Utc>>,
}

/// What came of replacing options.
pub(super) enum Replaced {
    /// They are there.
    Done,
    /// Nothing was sent: an earlier list may land until then.
    NotBefore(DateTime<Utc>),
}

fn key_of(attribute: &str) -> String {
    format!("options of {attribute}")
}

/// Adds an option, unless its label is there.
fn add(options: &mut Vec<(String, String)>, kind: &AttributeKind, label: String, key: Option<String>) {
    if options.iter().any(|(known, _)| *known == label) {
        return;
    }
    let is_free = |key: &String| options.iter().all(|(_, used)| used != key);
    // A category's keys are numbers; a multiple choice's are its labels.
    let key = key.filter(is_free).unwrap_or_else(|| match kind {
        AttributeKind::Category => {
            let used = options.iter().filter_map(|(_, key)| key.parse::<u64>().ok());
            (used.max().unwrap_or(0) + 1).to_string()
        }
        _ => label.clone(),
    });
    options.push((label, key));
}
