//! What a run would do: it reads and plans as one, and sends no write.

use super::create_back;
use super::people::{self, Names, Rehearsed};
use super::safety::WouldHold;
use super::unreadable::sparing;
use super::{BATCH, Connection, EngineError, Progress, Stage, Summary, SyncOptions};
use crate::config::OnDelete;
use crate::model::{BrevoContactId, BrevoListId, IntercomContactId, Priority, SideName, Sides, Value};
use crate::reconcile::harm::Kind;
use crate::store::links::{Dirty, Stretch};
use serde_json::Value as Json;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Examples of replaced values that are kept of a rule: enough to see what it is about.
const EXAMPLES_OF_A_RULE: usize = 3;
/// And of all rules together.
const MOST_EXAMPLES: usize = 60;
/// Labels of an attribute that are kept by name.
const MOST_LABELS: usize = 100;

/// What `sync --dry-run` would do. No write was sent.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DryRun {
    /// Brevo contacts that would be made.
    pub creates: u64,
    /// Brevo contacts that would be changed.
    pub updates: u64,
    /// Of both, those whose opt-out of e-mail would be written.
    pub opt_outs: u64,
    /// Intercom contacts that would be opted out there.
    pub opt_outs_in_intercom: u64,
    /// Intercom contacts that would be made: Brevo contacts that nobody there is known to be.
    pub creates_in_intercom: u64,
    /// Intercom contacts that would be changed there.
    pub updates_in_intercom: u64,
    /// How often each field of Intercom's would be set, by path.
    pub fields_in_intercom: BTreeMap<String, u64>,
    /// Tags that would be given, and how often.
    pub tags_given: BTreeMap<String, u64>,
    /// Tags that would be taken away, and how often.
    pub tags_taken: BTreeMap<String, u64>,
    /// Of both, those whose opt-out of SMS would be written.
    pub sms_opt_outs: u64,
    /// Brevo contacts that would be given another address.
    pub renames: u64,
    /// Events that would be sent.
    pub events: u64,
    /// People that each list would gain (list automations mail them too).
    pub joins: BTreeMap<String, u64>,
    /// People that each list would lose.
    pub leaves: BTreeMap<String, u64>,
    /// How often each attribute would be set, EXT_ID included.
    pub attributes: BTreeMap<String, u64>,
    /// Values of Brevo's that would be replaced although nobody had agreed to them, by rule.
    pub replaced: BTreeMap<String, Replaced>,
    /// The same of Intercom's values.
    pub replaced_in_intercom: BTreeMap<String, Replaced>,
    /// Fields that cannot be written, by rule.
    pub problems: BTreeMap<String, u64>,
    /// Phones that would be left out because another contact has them, by rule: Brevo would refuse the whole contact.
    pub phones_taken: BTreeMap<String, u64>,
    /// Attributes that would be made.
    pub new_attributes: Vec<String>,
    /// Attributes that would be made in Intercom.
    pub new_attributes_in_intercom: Vec<String>,
    /// Lists that would be made.
    pub new_lists: Vec<String>,
    /// Options that would be made, by attribute.
    pub new_options: BTreeMap<String, NewOptions>,
    /// Records on each side about which something would be done because their people are gone on the other.
    pub on_delete: Sides<u64>,
    /// Company objects.
    pub companies: super::Rehearsal,
    /// Notices by kind.
    pub notices: BTreeMap<String, u64>,
    /// What a run would have to ask for first: `linkspan approve`.
    pub would_hold: Vec<WouldHold>,
    /// Resources that could not be read, and why: what they would lead to is not in here.
    pub failed_reads: BTreeMap<String, String>,
}

/// What a rule would replace.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Replaced {
    /// How many contacts' values.
    pub count: u64,
    /// The first of them.
    pub examples: Vec<Replacement>,
}

/// One value that would be replaced.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Replacement {
    /// Whose.
    pub intercom: IntercomContactId,
    /// Where.
    pub brevo: BrevoContactId,
    /// What stands there, one value a target.
    pub lost: Vec<Json>,
    /// What would replace it.
    pub kept: Vec<Json>,
}

/// Options that an attribute lacks.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NewOptions {
    /// Their labels, a hundred at most.
    pub labels: BTreeSet<String>,
    /// There are more.
    pub more: bool,
}

impl Connection {
    /// Reads as a run would, plans as a run would, and sends no write at all. What it reads, places and claims for that
    /// stays in the state that it was given: a copy.
    ///
    /// # Errors
    /// As [`Self::sync`].
    pub async fn dry_run(&self, options: &SyncOptions, progress: &dyn Progress) -> Result<DryRun, EngineError> {
        progress.stage(Stage::Preparing, 0, None);
        let ready = self.prepare(true).await?;
        self.mark_for_changed_rules(&ready).await?;
        let mut summary = Summary::default();
        self.read_all(options, &mut summary, progress).await?;
        if options.full {
            // In a sweep, drift is restored.
            self.store.write(|tx| tx.mark_all_for_sweep().and_then(|_| tx.mark_all_firms())).await?;
        }
        self.confirm_some(true, Priority::Backfill).await?;
        self.look_for_missing(Priority::Backfill).await?;
        self.take_in().await?;
        progress.stage(Stage::Completing, 0, None);
        self.read_what_was_named(Priority::Backfill).await?;
        self.hydrate(Priority::Backfill, true).await?;
        progress.stage(Stage::Placing, 0, None);
        self.place(Dirty::Backfill).await?;
        let mut tally = Tally {
            dry: DryRun {
                new_attributes: ready.missing_attributes.clone(),
                new_lists: ready.missing_lists.clone(),
                new_attributes_in_intercom: ready.missing_in_intercom.clone(),
                failed_reads: summary.failed_reads,
                ..DryRun::default()
            },
            lists: ready
                .lists
                .iter()
                .map(|(rule, id)| (*id, rule.key.rsplit(" -> ").next().unwrap_or_default().to_owned()))
                .collect(),
            examples: 0,
            harm: BTreeMap::new(),
        };
        for stretch in Stretch::all(Dirty::Backfill, false) {
            let mut after = 0;
            loop {
                let (ready, now) = (Arc::clone(&ready), self.now());
                let (last, people) = self
                    .store
                    .write(move |tx| {
                        let links = tx.dirty_links(stretch, after, BATCH, now)?;
                        let names = Names::read(tx, &ready)?;
                        let mut people = Vec::with_capacity(links.len());
                        for link in &links {
                            let person = sparing(tx, now, || match people::gather(tx, *link, &ready, &names)? {
                                Some(person) => person.rehearse(tx, &ready, now),
                                None => Ok(None),
                            })?;
                            people.extend(person.flatten());
                        }
                        Ok((links.last().copied(), people))
                    })
                    .await?;
                let Some(last) = last else { break };
                after = last;
                for person in people {
                    tally.add(person);
                }
            }
        }
        self.rehearse_newcomers(&mut tally).await?;
        let settings = self.settings();
        let (partings, harm) = self
            .store
            .read(move |tx| {
                let (mut counts, mut harm) = (Sides::default(), BTreeMap::new());
                for side in SideName::BOTH {
                    let action = settings.on_delete[side];
                    if action != OnDelete::Keep {
                        counts[side] = tx.count_partings_to_do(side)?;
                        *harm.entry(super::partings::kind_of(action)).or_insert(0) += counts[side];
                    }
                }
                Ok((counts, harm))
            })
            .await?;
        for (kind, count) in harm.into_iter().filter(|(_, count)| *count > 0) {
            *tally.harm.entry(kind).or_default() += count;
        }
        let mut dry = tally.dry;
        dry.on_delete = partings;
        dry.companies = self.rehearse_firms().await?;
        dry.would_hold = self.would_hold(tally.harm, dry.creates_in_intercom).await?;
        (dry.notices, dry.events) = self.store.read(|tx| Ok((tx.counts()?.notices, tx.count_outbox()?))).await?;
        Ok(dry)
    }
}

impl Connection {
    /// Whom Brevo alone has. Intercom is not asked for each of them: who is found there after all is linked instead.
    async fn rehearse_newcomers(&self, tally: &mut Tally) -> Result<(), EngineError> {
        let mut after = 0;
        loop {
            let ((settings, ready), now) = (self.require_told()?, self.now());
            let (last, made) = self
                .store
                .write(move |tx| {
                    let ids = tx.newcomers_waiting(after, BATCH)?;
                    let mut made = Vec::new();
                    for id in &ids {
                        let one = sparing(tx, now, || create_back::rehearse(tx, *id, &settings, &ready))?;
                        made.extend(one.flatten());
                    }
                    Ok((ids.last().map(|id| id.get()), made))
                })
                .await?;
            let Some(last) = last else { return Ok(()) };
            after = last;
            for one in made {
                tally.dry.creates_in_intercom += 1;
                tally.dry.opt_outs_in_intercom += u64::from(one.opted_out);
                for path in one.fields {
                    *tally.dry.fields_in_intercom.entry(path).or_default() += 1;
                }
            }
        }
    }
}

/// The sum of what would be done: as large as the mapping, not as the accounts.
struct Tally {
    dry: DryRun,
    lists: BTreeMap<BrevoListId, String>,
    examples: usize,
    /// How many do what is counted.
    harm: BTreeMap<Kind, u64>,
}

impl Tally {
    fn add(&mut self, person: Rehearsed) {
        let Rehearsed { primary, brevo, plan, phone_taken, new_options, harm } = person;
        for (kind, count) in harm {
            *self.harm.entry(kind).or_default() += count;
        }
        let dry = &mut self.dry;
        let one_more = |counts: &mut BTreeMap<String, u64>, what: &str| match counts.get_mut(what) {
            Some(count) => *count += 1,
            None => drop(counts.insert(what.to_owned(), 1)),
        };
        let change = &plan.change;
        dry.creates += u64::from(brevo.is_none());
        dry.updates += u64::from(brevo.is_some() && !change.is_empty());
        dry.updates_in_intercom += u64::from(plan.writes_back());
        for path in plan.intercom.keys() {
            one_more(&mut dry.fields_in_intercom, path);
        }
        for (tag, give) in &plan.tags {
            one_more(if *give { &mut dry.tags_given } else { &mut dry.tags_taken }, tag);
        }
        dry.opt_outs += u64::from(change.email_opted_out);
        dry.opt_outs_in_intercom += plan.opt_outs_in_intercom() as u64;
        dry.sms_opt_outs += u64::from(change.sms_opted_out);
        dry.renames += u64::from(brevo.is_some() && change.email.is_some());
        for (lists, counts) in [(&change.join_lists, &mut dry.joins), (&change.leave_lists, &mut dry.leaves)] {
            for list in lists {
                match self.lists.get(list) {
                    Some(name) => one_more(counts, name),
                    None => one_more(counts, &list.to_string()),
                }
            }
        }
        for (attribute, value) in &change.attributes {
            // A contact that is made has nothing to clear.
            if brevo.is_some() || value.is_some() {
                one_more(&mut dry.attributes, attribute);
            }
        }
        if change.ext_id.is_some() {
            one_more(&mut dry.attributes, "EXT_ID");
        }
        for rule in plan.problems.keys() {
            one_more(&mut dry.problems, rule);
        }
        for rule in &phone_taken {
            one_more(&mut dry.phones_taken, rule);
        }
        for (attribute, label) in new_options {
            let new = dry.new_options.entry(attribute).or_default();
            if new.labels.len() < MOST_LABELS || new.labels.contains(&label) {
                new.labels.insert(label);
            } else {
                new.more = true;
            }
        }
        let Some(brevo) = brevo else { return };
        for lost in plan.lost {
            let replaced = match lost.side {
                SideName::Brevo => &mut dry.replaced,
                SideName::Intercom => &mut dry.replaced_in_intercom,
            };
            let replaced = replaced.entry(lost.field).or_default();
            replaced.count += 1;
            if replaced.examples.len() < EXAMPLES_OF_A_RULE && self.examples < MOST_EXAMPLES {
                self.examples += 1;
                let values = |cells: &[Option<Value>]| {
                    cells.iter().map(|cell| cell.as_ref().map_or(Json::Null, Value::to_json)).collect()
                };
                replaced.examples.push(Replacement {
                    intercom: primary.clone(),
                    brevo,
                    lost: values(&lost.lost),
                    kept: values(&lost.kept),
                });
            }
        }
    }
}
