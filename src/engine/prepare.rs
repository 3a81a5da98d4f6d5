//! Before the first write: which accounts these are, which attributes and lists exist, and what must be made first.

use super::observe::{from_json, to_json};
use super::{Connection, EngineError, ReadyFirms, Settings, Told};
use crate::mapping::{About, Defaults, Direction, Expression, FieldRule, ListName, ListRule, Mapping, Misfit, nearest};
use crate::model::{
    Answer, Attribute, AttributeSpec, BrevoListId, Cursor, ErrorKind, Observation, Priority, ReadRequest, Resource,
    Role, Scope, Side, SideError, SideName, Sides, Write,
};
use crate::store::{Result as Stored, StoreError, Tx};
use chrono::{DateTime, Utc};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Every contact that an import touches joins this list, because Brevo's import demands one. Nobody mails it.
pub const TECHNICAL_LIST: &str = "Linkspan: imported (do not mail)";

/// What a connection needs to know about its accounts.
#[derive(Debug, Clone)]
pub struct Ready {
    /// The mapping, fitted to the account.
    pub mapping: Mapping,
    /// List rules with their lists.
    pub lists: Vec<(ListRule, BrevoListId)>,
    /// The list that an import demands; nobody mails it.
    pub technical_list: BrevoListId,
    /// The workspace's timezone: Intercom's contact search counts days in it.
    pub timezone: chrono_tz::Tz,
    /// The workspace: notifications of any other change nothing.
    pub workspace: String,
    /// The connection's first start, by Intercom's clock: what happened before sends no events.
    pub first_start: DateTime<Utc>,
    /// Whether any rule looks at tags.
    pub uses_tags: bool,
    /// Whether any rule looks at companies, or company objects are kept in step.
    pub uses_companies: bool,
    /// Company objects, if they are kept in step.
    pub firms: Option<ReadyFirms>,
    /// Whether opt-outs travel from Brevo to Intercom, too.
    pub tells_intercom: bool,
    /// Whose record is written on each side; `None`: everybody's.
    pub filter: Sides<Option<Expression>>,
    /// Which conversations count; `None`: all.
    pub conversation_filter: Option<Expression>,
    /// Who does not match any more is taken off the lists that the mapping had put them on.
    pub unlist_unmatched: bool,
    /// Who is missing in Brevo is made there.
    pub makes_in_brevo: bool,
    /// As what whoever is missing in Intercom is made there.
    pub makes_in_intercom: Option<Role>,
    /// Whether contacts that exist are changed; if not, they are still opted out.
    pub updates: Sides<bool>,
    /// Whether an address that is changed in Brevo is followed in Intercom, and whose stands where both changed it.
    pub addresses: Defaults,
    /// Whether fields or tags travel from Brevo to Intercom.
    pub writes_back: bool,
    /// Whether some field travels both ways: then it matters when records changed.
    pub weighs_times: bool,
    /// Attributes that do not exist yet (a dry run makes none).
    pub missing_attributes: Vec<String>,
    /// Custom attributes that do not exist yet in Intercom.
    pub missing_in_intercom: Vec<String>,
    /// Lists that do not exist yet, by name.
    pub missing_lists: Vec<String>,
    /// What fits and is probably not meant so: an attribute that the workspace has not.
    pub doubts: Vec<Misfit>,
}

/// Where the store keeps the attributes that both accounts had when they were looked at last.
const ATTRIBUTES: &str = "attributes";

/// What the config says of the accounts as they were when they were looked at last: asks nobody, makes nothing. Beside it
/// what does not fit. `None`: nobody has looked at them yet.
pub(super) fn from_kept(tx: &Tx<'_>, settings: &Settings) -> Stored<Option<(Ready, Vec<Misfit>)>> {
    let (Some(text), Some(workspace)) = (tx.meta(ATTRIBUTES)?, tx.meta("intercom")?) else { return Ok(None) };
    let [brevo, intercom]: [Vec<Attribute>; 2] = from_json("meta", &text)?;
    let mapping = at_rest(settings);
    let mut intercom = intercom;
    let made_in_intercom = mapping.missing_in_intercom(&brevo, &intercom);
    intercom.extend(made_in_intercom.iter().map(AttributeSpec::as_attribute));
    let resolution = mapping.resolve(&brevo, &intercom);
    let existing = tx.lists()?;
    let mut misfits = resolution.clashes;
    let mapping = resolution.mapping;
    misfits.extend(mapping.misdirections());
    misfits.extend(mapping.lists.iter().filter_map(|rule| no_such_list(rule, &existing)));
    let mut missing_lists: Vec<String> = Vec::new();
    let mut by_name = |name: &str| match existing.iter().find(|(_, known)| *known == name) {
        Some((id, _)) => *id,
        None => to_be_made(name, &mut missing_lists),
    };
    let lists = mapping.lists.iter().map(|rule| match &rule.list {
        ListName::Id(id) => (rule.clone(), *id),
        ListName::Name(name) => (rule.clone(), by_name(name)),
    });
    let lists = lists.collect();
    let technical_list = by_name(TECHNICAL_LIST);
    let (uses_tags, uses_companies) = looks_at(settings, &mapping);
    let (writes_back, weighs_times) = goes_back(&mapping);
    let ready = Ready {
        mapping,
        lists,
        technical_list,
        timezone: chrono_tz::UTC,
        workspace,
        first_start: DateTime::<Utc>::default(),
        uses_tags,
        uses_companies,
        firms: None,
        tells_intercom: settings.tells_intercom,
        filter: settings.filter.clone(),
        conversation_filter: settings.conversation_filter.clone(),
        unlist_unmatched: settings.unlist_unmatched,
        makes_in_brevo: settings.creates_in_brevo,
        makes_in_intercom: settings.creates_in_intercom,
        updates: settings.updates,
        addresses: settings.addresses,
        writes_back,
        weighs_times,
        missing_attributes: resolution.create.into_iter().map(|spec| spec.name).collect(),
        missing_in_intercom: made_in_intercom.into_iter().map(|spec| spec.name).collect(),
        missing_lists,
        doubts: resolution.doubts,
    };
    Ok(Some((ready, misfits)))
}

/// The mapping without the rules that read what is switched off.
fn at_rest(settings: &Settings) -> Mapping {
    let mut off: Vec<&str> = Vec::new();
    if !settings.sync.tags {
        off.extend(crate::mapping::paths::TAGS);
    }
    if !settings.sync.companies {
        off.push("company");
    }
    if !settings.sync.conversations {
        // Nobody is said to have had no conversation because none is read.
        off.push("conversations");
    }
    settings.mapping.at_rest(&off)
}

/// Whether anything travels to Intercom, and whether it matters when it was changed.
fn goes_back(mapping: &Mapping) -> (bool, bool) {
    (mapping.writes_intercom(), mapping.rules.iter().any(FieldRule::weighs_times))
}

/// Whether any rule looks at tags, and whether any looks at companies.
fn looks_at(settings: &Settings, mapping: &Mapping) -> (bool, bool) {
    let sifts = |prefix: &str| settings.filter.brevo.as_ref().is_some_and(|filter| filter.mentions(prefix));
    let uses = |prefix: &str| sifts(prefix) || mapping.rules.iter().any(|rule| rule.mentions(prefix));
    let tags = uses("tags")
        || mapping.lists.iter().any(|rule| {
            matches!(rule.membership, crate::mapping::Membership::Tag(_) | crate::mapping::Membership::When(_))
        });
    let companies = settings.companies.is_some()
        || uses("company")
        || mapping.lists.iter().any(|rule| rule.membership.mentions("company"));
    (settings.sync.tags && tags, settings.sync.companies && companies)
}

/// Stands for a list that a real run would make: no list has a negative id.
fn to_be_made(name: &str, missing: &mut Vec<String>) -> BrevoListId {
    let already = missing.iter().position(|known| known == name);
    let place = already.unwrap_or(missing.len());
    if already.is_none() {
        missing.push(name.to_owned());
    }
    BrevoListId::new(-1 - i64::try_from(place).unwrap_or(0))
}

impl Ready {
    /// A list as people know it: by its name, with its id beside it.
    pub(super) fn list_in_words(&self, list: BrevoListId, names: &BTreeMap<BrevoListId, String>) -> String {
        let to_be_made = || {
            self.lists.iter().find_map(|(rule, id)| match &rule.list {
                ListName::Name(name) if *id == list => Some(format!("“{name}” (still to be made)")),
                _ => None,
            })
        };
        names
            .get(&list)
            .map(|name| format!("“{name}” (list {list})"))
            .or_else(to_be_made)
            .unwrap_or_else(|| format!("list {list}"))
    }
}

/// Lists that are named in a message, at most.
const MOST_NAMED: usize = 12;

/// What is to be said of a rule whose list is named by an id that the account has not.
fn no_such_list(rule: &ListRule, existing: &BTreeMap<BrevoListId, String>) -> Option<Misfit> {
    let ListName::Id(id) = &rule.list else { return None };
    if existing.contains_key(id) {
        return None;
    }
    let in_words = |(id, name): (&BrevoListId, &String)| format!("{id} “{name}”");
    let ids: BTreeMap<String, (&BrevoListId, &String)> =
        existing.iter().map(|(id, name)| (id.to_string(), (id, name))).collect();
    let near = nearest(&id.to_string(), ids.keys().map(String::as_str)).and_then(|id| ids.get(id));
    let help = match (near, existing.len()) {
        (Some(near), _) => format!("did you mean {}?", in_words(*near)),
        (None, 0) => "the account has no list yet; one that is named by its name is made".to_owned(),
        (None, count) => {
            let named: Vec<String> = existing.iter().take(MOST_NAMED).map(in_words).collect();
            let more = count.checked_sub(MOST_NAMED).filter(|more| *more > 0);
            let more =
                more.map(|more| format!(" and {more} more (in Brevo under Contacts, Lists)")).unwrap_or_default();
            format!("there are {}{more}", named.join(", "))
        }
    };
    Some(Misfit {
        spot: rule.spot.clone(),
        about: About::List,
        message: format!("Brevo has no list {id}, which is named for `{}`", rule.who()),
        expected: "the id of a list that is there, or a name: a list named by name is made if missing".to_owned(),
        help: Some(help),
    })
}

impl Connection {
    /// Finds out about the accounts and makes what is missing (not in a dry run).
    ///
    /// # Errors
    /// If a side does not let us in, the state is of another pair of accounts, or the mapping does not fit.
    pub async fn prepare(&self, dry_run: bool) -> Result<Arc<Ready>, EngineError> {
        let _turn = self.preparing.lock().await;
        self.swap(self.settings(), dry_run).await
    }

    /// Whether the accounts are those that the state is of, as far as they answer: changes nothing. A state that is of
    /// nobody yet becomes theirs with [`Self::prepare`].
    ///
    /// # Errors
    /// If an account is another one, or the state cannot be read.
    pub async fn check_pair(&self) -> Result<(), EngineError> {
        let kept = self.store.read(|tx| Ok((tx.meta("intercom")?, tx.meta("brevo")?))).await?;
        let (Some(intercom), Some(brevo)) = kept else { return Ok(()) };
        let check = |side: Arc<dyn Side>, known: String| {
            let other = StoreError::OtherPair { intercom: intercom.clone(), brevo: brevo.clone() };
            async move {
                match side.account().await {
                    Ok(account) if account.id != known => Err(EngineError::Store(other)),
                    // Who does not answer is told of when the work begins.
                    _ => Ok(()),
                }
            }
        };
        let intercom_is = check(Arc::clone(&self.intercom), intercom.clone());
        let brevo_is = check(Arc::clone(&self.brevo), brevo.clone());
        tokio::try_join!(intercom_is, brevo_is).map(drop)
    }

    /// The same for new settings: they hold once all is found out, or the old ones stay.
    pub(super) async fn prepare_with(&self, settings: Arc<Settings>) -> Result<Arc<Ready>, EngineError> {
        let _turn = self.preparing.lock().await;
        self.swap(settings, false).await
    }

    async fn swap(&self, settings: Arc<Settings>, dry_run: bool) -> Result<Arc<Ready>, EngineError> {
        let ready = match self.fit(&settings, dry_run).await {
            Ok(ready) => Arc::new(ready),
            Err(error) => {
                self.note_refusal(&error).await;
                return Err(error);
            }
        };
        self.note_let_in(&[SideName::Intercom, SideName::Brevo]).await?;
        let before = self.told.swap(Arc::new(Told { settings, ready: Some(Arc::clone(&ready)) }));
        // Only now: marked earlier, somebody might be planned by the old rules and count as done.
        if !dry_run && let Err(error) = self.mark_for_changed_rules(&ready).await {
            self.told.store(before);
            return Err(error);
        }
        Ok(ready)
    }

    /// A changed rule re-plans every record: the source wins where it is one-way.
    pub(super) async fn mark_for_changed_rules(&self, ready: &Ready) -> Result<(), EngineError> {
        let rules = ready.mapping.rules.iter().map(|rule| format!("{}={}\n", rule.key, rule.fingerprint));
        let fingerprint: String = rules
            .chain(ready.lists.iter().map(|(rule, id)| {
                let rests = if rule.rests { " (rests)" } else { "" };
                let way = match rule.direction {
                    Direction::IntercomToBrevo => "",
                    Direction::BrevoToIntercom => " (the tag follows)",
                    Direction::Both => " (both follow)",
                };
                format!("{}={id}{way}{rests}\n", rule.key)
            }))
            .chain(ready.tells_intercom.then(|| "consent=both\n".to_owned()))
            .chain(SideName::BOTH.into_iter().filter_map(|side| {
                let (filter, unlist) = (ready.filter[side].as_ref()?, ready.unlist_unmatched);
                Some(format!("filter to {side}={filter} ({unlist})\n"))
            }))
            .chain(ready.conversation_filter.iter().map(|filter| format!("conversations={filter}\n")))
            .chain((!ready.makes_in_brevo).then(|| "create.brevo=never\n".to_owned()))
            .chain(
                SideName::BOTH
                    .iter()
                    .filter(|side| !ready.updates[**side])
                    .map(|side| format!("update.{}=never\n", side.as_str())),
            )
            .collect();
        let firms = ready.firms.iter().flat_map(|firms| &firms.mapping.rules);
        let sifted = SideName::BOTH
            .into_iter()
            .filter_map(|side| Some(format!("filter to {side}={}", ready.firms.as_ref()?.filter[side].as_ref()?)));
        let firms: Vec<String> = firms.map(|rule| format!("{}={}", rule.key, rule.fingerprint)).chain(sifted).collect();
        let firms = firms.join("\n");
        let resubscribes = self.settings().resubscribes;
        let (tells, writes_back, sifts) = (ready.tells_intercom, ready.writes_back, ready.filter.brevo.is_some());
        let keeps_companies = ready.firms.is_some();
        let (makes, now) = (ready.makes_in_intercom, self.now());
        self.store
            .write(move |tx| {
                if !tells {
                    tx.hold_carried()?;
                }
                if !writes_back {
                    tx.drop_write_backs()?;
                }
                if !resubscribes {
                    tx.drop_opt_ins()?;
                }
                if !sifts {
                    tx.drop_apart()?;
                }
                super::create_back::switch(tx, makes, now)?;
                if !keeps_companies {
                    super::firms::no_more_reads(tx)?;
                }
                if tx.meta("company_mapping")?.unwrap_or_default() != firms {
                    tx.set_meta("company_mapping", &firms)?;
                    tx.mark_all_firms()?;
                }
                let before = tx.meta("mapping")?;
                if before.as_deref() != Some(fingerprint.as_str()) {
                    tx.set_meta("mapping", &fingerprint)?;
                    if before.is_some() {
                        tx.mark_all_for_sweep()?;
                    }
                }
                Ok(())
            })
            .await?;
        Ok(())
    }

    async fn fit(&self, settings: &Settings, dry_run: bool) -> Result<Ready, EngineError> {
        let workspace = self.intercom.account().await?;
        let account = self.brevo.account().await?;
        let timezone = match &workspace.timezone {
            None => chrono_tz::UTC,
            Some(name) => name.parse().map_err(|_| EngineError::Timezone(name.clone()))?,
        };
        let now = workspace.server_time.unwrap_or_else(|| self.now());
        let (intercom_id, brevo_id) = (workspace.id.clone(), account.id.clone());
        let first_start = self
            .store
            .write(move |tx| {
                tx.claim_pair(&intercom_id, &brevo_id)?;
                match tx.meta("first_start")?.and_then(|text| text.parse().ok()) {
                    Some(known) => Ok(known),
                    // A dry run starts nothing: what happens until the first real run sends no events.
                    None if dry_run => Ok(now),
                    None => tx.set_meta("first_start", &now.to_rfc3339()).map(|()| now),
                }
            })
            .await?;

        // Nobody adds options meanwhile.
        let _options = self.options.lock().await;
        let mut attributes = self.brevo.attributes().await?;
        if !dry_run {
            self.count_in_what_may_land(&mut attributes).await?;
        }
        let mut custom = self.intercom.attributes().await?;
        let mapping = at_rest(settings);
        if !mapping.resting.is_empty() {
            tracing::info!(rules = %mapping.resting.join(", "), "rules rest, because what they read is switched off");
        }
        // What is to be written in Intercom and is not there yet is made there, with the type that it has in Brevo.
        let made_in_intercom = mapping.missing_in_intercom(&attributes, &custom);
        custom.extend(made_in_intercom.iter().map(AttributeSpec::as_attribute));
        self.keep_attributes(&attributes, &custom).await?;
        let resolution = mapping.resolve(&attributes, &custom);
        let existing = self.read_lists().await?;
        // All that does not fit is told at once, before anything is made.
        let mut misfits = resolution.clashes;
        misfits.extend(resolution.mapping.misdirections());
        misfits.extend(mapping.lists.iter().filter_map(|rule| no_such_list(rule, &existing)));
        let firms = self.look_at_companies(settings, &mut misfits).await?;
        if !misfits.is_empty() {
            return Err(EngineError::Unfit(misfits));
        }
        for doubt in &resolution.doubts {
            tracing::warn!(help = doubt.help.as_deref().unwrap_or_default(), "{doubt}");
        }
        let missing_attributes: Vec<String> = resolution.create.iter().map(|spec| spec.name.clone()).collect();
        let missing_in_intercom = made_in_intercom.iter().map(|spec| spec.name.clone()).collect();
        if !dry_run {
            for spec in made_in_intercom {
                tracing::info!(attribute = %spec.name, kind = spec.kind.name(), "creating an Intercom attribute");
                self.intercom.write(&Write::CreateAttribute(spec), Priority::Live).await?;
            }
            for spec in resolution.create {
                tracing::info!(attribute = %spec.name, kind = spec.kind.name(), "creating a Brevo attribute");
                self.brevo.write(&Write::CreateAttribute(spec), Priority::Live).await?;
            }
            for attribute in resolution.set_options {
                tracing::info!(attribute = %attribute.name, "adding options to a Brevo attribute");
                self.insist_on_options(&attribute).await?;
            }
        }
        let mapping = resolution.mapping;
        let mut missing_lists = Vec::new();
        let mut lists = Vec::new();
        for rule in &mapping.lists {
            let id = match &rule.list {
                // Nothing is made for what rests.
                ListName::Name(name) if rule.rests && !existing.values().any(|known| known == name) => continue,
                ListName::Id(id) => *id,
                ListName::Name(name) => self.list_by_name(name, &existing, dry_run, &mut missing_lists).await?,
            };
            lists.push((rule.clone(), id));
        }
        let technical_list = self.list_by_name(TECHNICAL_LIST, &existing, dry_run, &mut missing_lists).await?;

        let firms = match firms {
            Some(found) => Some(self.ready_for_companies(settings, found, dry_run).await?),
            None => None,
        };
        let (uses_tags, uses_companies) = looks_at(settings, &mapping);
        let (writes_back, weighs_times) = goes_back(&mapping);
        Ok(Ready {
            mapping,
            lists,
            technical_list,
            timezone,
            workspace: workspace.id,
            first_start,
            uses_tags,
            uses_companies,
            firms,
            tells_intercom: settings.tells_intercom,
            filter: settings.filter.clone(),
            conversation_filter: settings.conversation_filter.clone(),
            unlist_unmatched: settings.unlist_unmatched,
            makes_in_brevo: settings.creates_in_brevo,
            makes_in_intercom: settings.creates_in_intercom,
            updates: settings.updates,
            addresses: settings.addresses,
            writes_back,
            weighs_times,
            missing_attributes,
            missing_in_intercom,
            missing_lists,
            doubts: resolution.doubts,
        })
    }

    /// What exists in the accounts, for whoever fits a mapping without asking them ([`from_kept`]).
    async fn keep_attributes(&self, brevo: &[Attribute], intercom: &[Attribute]) -> Result<(), EngineError> {
        let text = to_json("meta", &[brevo, intercom])?;
        self.store
            .write(
                move |tx| {
                    if tx.meta(ATTRIBUTES)?.as_ref() == Some(&text) { Ok(()) } else { tx.set_meta(ATTRIBUTES, &text) }
                },
            )
            .await?;
        Ok(())
    }

    async fn read_lists(&self) -> Result<BTreeMap<BrevoListId, String>, EngineError> {
        const MOST_PAGES: usize = 1_000;
        let mut cursor: Option<Cursor> = None;
        let mut found = BTreeMap::new();
        for _ in 0..MOST_PAGES {
            let page = self
                .brevo
                .read(&ReadRequest {
                    resource: Resource::Lists,
                    scope: Scope::Full,
                    cursor: cursor.clone(),
                    timezone: chrono_tz::UTC,
                    priority: Priority::Live,
                })
                .await?;
            for observation in page.observations {
                if let Observation::BrevoList { id, name } = observation {
                    found.insert(id, name);
                }
            }
            match page.next {
                Some(next) if Some(&next) != cursor.as_ref() => cursor = Some(next),
                Some(_) => {
                    return Err(EngineError::Sweep {
                        side: SideName::Brevo,
                        resource: "lists",
                        why: "the same page came twice".to_owned(),
                    });
                }
                None => break,
            }
        }
        let kept = found.clone();
        self.store
            .write(move |tx| {
                tx.clear_lists()?;
                kept.iter().try_for_each(|(id, name)| tx.put_list(*id, name))
            })
            .await?;
        Ok(found)
    }

    async fn list_by_name(
        &self,
        name: &str,
        existing: &BTreeMap<BrevoListId, String>,
        dry_run: bool,
        missing: &mut Vec<String>,
    ) -> Result<BrevoListId, EngineError> {
        if let Some((id, _)) = existing.iter().find(|(_, known)| known.as_str() == name) {
            return Ok(*id);
        }
        let stand_in = to_be_made(name, missing);
        if dry_run {
            return Ok(stand_in);
        }
        let known = self.store.read(|tx| tx.lists()).await?;
        if let Some((id, _)) = known.iter().find(|(_, known)| known.as_str() == name) {
            return Ok(*id);
        }
        tracing::info!(list = name, "creating a Brevo list");
        let Answer::ListCreated(id) = self.brevo.write(&Write::CreateList(name.to_owned()), Priority::Live).await?
        else {
            let words = format!("the list “{name}” was to be made, and the answer names none");
            return Err(SideError::new(SideName::Brevo, ErrorKind::Malformed, words).into());
        };
        let kept = name.to_owned();
        self.store.write(move |tx| tx.put_list(id, &kept)).await?;
        Ok(id)
    }
}
