//! What the workspace holds, and its indexes.

use super::options::{IntercomOptions, WebhookGeneration};
use crate::sandbox::OutgoingWebhook;
use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A contact's place in [`State::contacts`]. Also its rank by creation, which breaks ties between equal instants.
pub(super) type Slot = u32;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    User,
    Lead,
}

impl Role {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Lead => "lead",
        }
    }
}

/// What became of a contact. The row stays in every case: `POST /contacts` answers 409 for archived and deleted ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    Live,
    Archived,
    Deleted,
    Merged(Slot),
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Location {
    pub country: Option<String>,
    pub region: Option<String>,
    pub city: Option<String>,
    pub country_code: Option<String>,
    pub continent_code: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AppliedTag {
    pub id: String,
    pub applied_at: i64,
}

/// Instants are unix milliseconds for `created`/`updated` (webhooks show them), unix seconds elsewhere.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Contact {
    pub id: String,
    pub external_id: Option<String>,
    pub role: Role,
    pub email: Option<String>,
    pub phone: Option<String>,
    pub name: Option<String>,
    pub avatar: Option<String>,
    pub owner_id: Option<i64>,
    pub bounced: bool,
    pub spam: bool,
    pub unsubscribed: bool,
    pub sms_unsubscribed: bool,
    pub created: i64,
    pub updated: i64,
    pub signed_up: Option<i64>,
    pub last_seen: Option<i64>,
    pub last_replied: Option<i64>,
    pub last_contacted: Option<i64>,
    pub last_email_opened: Option<i64>,
    pub last_email_clicked: Option<i64>,
    pub language_override: Option<String>,
    pub browser: Option<String>,
    pub browser_version: Option<String>,
    pub browser_language: Option<String>,
    pub os: Option<String>,
    pub location: Location,
    pub custom: Map<String, Value>,
    pub tags: Vec<AppliedTag>,
    pub companies: Vec<String>,
    pub notes: Vec<String>,
    /// Explicit choices only: (subscription type, whether opted in).
    pub subscriptions: Vec<(String, bool)>,
    pub standing: Standing,
    /// A deletion's or merge's victim cannot be brought back; the vendor gives the reason.
    pub blocked_restore: Option<&'static str>,
}

impl Contact {
    pub(super) fn blank(id: String, role: Role, now_ms: i64) -> Self {
        Self {
            id,
            external_id: None,
            role,
            email: None,
            phone: None,
            name: None,
            avatar: None,
            owner_id: None,
            bounced: false,
            spam: false,
            unsubscribed: false,
            sms_unsubscribed: false,
            created: now_ms,
            updated: now_ms,
            signed_up: None,
            last_seen: None,
            last_replied: None,
            last_contacted: None,
            last_email_opened: None,
            last_email_clicked: None,
            language_override: None,
            browser: None,
            browser_version: None,
            browser_language: None,
            os: None,
            location: Location::default(),
            custom: Map::new(),
            tags: Vec::new(),
            companies: Vec::new(),
            notes: Vec::new(),
            subscriptions: Vec::new(),
            standing: Standing::Live,
            blocked_restore: None,
        }
    }

    pub(super) fn is_live(&self) -> bool {
        self.standing == Standing::Live
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Company {
    pub id: String,
    pub remote_id: String,
    pub name: Option<String>,
    pub plan: Option<String>,
    pub size: Option<i64>,
    pub website: Option<String>,
    pub industry: Option<String>,
    pub monthly_spend: i64,
    pub session_count: i64,
    pub remote_created: Option<i64>,
    pub created: i64,
    pub updated: i64,
    pub last_request: Option<i64>,
    pub custom: Map<String, Value>,
    pub tags: Vec<String>,
    pub members: BTreeSet<Slot>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Note {
    pub id: String,
    pub contact: Slot,
    pub body: String,
    pub created: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Author {
    Contact(Slot),
    Admin(i64),
    Bot,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    pub id: u64,
    pub kind: &'static str,
    pub body: Option<String>,
    pub created: i64,
    pub author: Author,
    pub assigned_to: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rating {
    pub score: i64,
    pub remark: Option<String>,
    pub at: i64,
    pub contact: Slot,
    pub teammate: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AiAgent {
    pub resolution: Option<&'static str>,
    pub answer: Option<&'static str>,
    pub rating: Option<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ConversationState {
    Open,
    Closed,
    Snoozed,
}

impl ConversationState {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Closed => "closed",
            Self::Snoozed => "snoozed",
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Statistics {
    pub first_contact_reply: Option<i64>,
    pub first_admin_reply: Option<i64>,
    pub first_close: Option<i64>,
    pub first_assignment: Option<i64>,
    pub last_assignment: Option<i64>,
    pub last_assignment_admin_reply: Option<i64>,
    pub last_contact_reply: Option<i64>,
    pub last_admin_reply: Option<i64>,
    pub last_close: Option<i64>,
    pub last_closed_by: Option<i64>,
    pub reopens: i64,
    pub assignments: i64,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Conversation {
    pub id: u64,
    pub created: i64,
    pub updated: i64,
    pub title: Option<String>,
    pub state: ConversationState,
    pub read: bool,
    pub priority: bool,
    pub waiting_since: Option<i64>,
    pub snoozed_until: Option<i64>,
    pub admin_assignee: Option<i64>,
    pub tags: Vec<AppliedTag>,
    pub source_type: &'static str,
    pub delivered_as: &'static str,
    pub subject: String,
    pub body: String,
    pub author: Author,
    pub contacts: Vec<Slot>,
    pub rating: Option<Rating>,
    pub custom: Map<String, Value>,
    pub statistics: Statistics,
    pub sla: Option<(&'static str, &'static str)>,
    pub ai_agent: Option<AiAgent>,
    pub parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Attribute {
    /// Custom ones only.
    pub id: Option<i64>,
    pub model: String,
    pub name: String,
    pub full_name: String,
    pub label: String,
    pub description: String,
    pub data_type: String,
    pub options: Vec<String>,
    pub api_writable: bool,
    pub messenger_writable: bool,
    pub archived: bool,
    pub created: i64,
    pub updated: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scroll {
    pub param: String,
    /// Names handed out so far: the next page starts behind this company.
    pub after: String,
    pub last_used: i64,
}

/// Everything. One lock around it.
#[derive(Debug, Default)]
pub(super) struct State {
    pub now_ms: i64,
    pub contacts: Vec<Contact>,
    pub by_id: BTreeMap<String, Slot>,
    pub by_email: BTreeMap<String, BTreeSet<Slot>>,
    pub by_external: BTreeMap<String, BTreeSet<Slot>>,
    /// Live contacts only, as the next two.
    pub by_created: BTreeSet<(i64, Slot)>,
    pub by_updated: BTreeSet<(i64, Slot)>,
    pub by_seen: BTreeSet<(i64, Slot)>,
    /// Not yet in the search index, oldest first.
    pub lagging: VecDeque<(i64, Slot)>,
    pub lagging_slots: BTreeSet<Slot>,
    pub companies: BTreeMap<String, Company>,
    pub company_by_remote: BTreeMap<String, String>,
    /// Plan name → id.
    pub plans: BTreeMap<String, u32>,
    pub conversations: BTreeMap<u64, Conversation>,
    pub conversations_by_updated: BTreeSet<(i64, u64)>,
    pub conversations_of: BTreeMap<Slot, BTreeSet<u64>>,
    /// When a snooze ends: (unix seconds, conversation).
    pub snoozes: BTreeSet<(i64, u64)>,
    pub notes: BTreeMap<String, Note>,
    /// id → name.
    pub tags: BTreeMap<String, String>,
    pub tag_by_name: BTreeMap<String, String>,
    pub attributes: Vec<Attribute>,
    pub events: Vec<Value>,
    pub scroll: Option<Scroll>,
    /// Moves with every change; counts are kept per version.
    pub version: u64,
    pub count_cache: Option<(u64, String, usize)>,
    pub window: (i64, u32),
    pub counter: u64,
    /// A world is being made: its ids come from the seed alone.
    pub filling: bool,
    pub outbox: VecDeque<OutgoingWebhook>,
    pub dropped_webhooks: u64,
    pub webhooks_on: bool,
    pub generation: WebhookGeneration,
    pub options: IntercomOptions,
}

/// A receiver that is never emptied must not fill the memory of a long demo.
const MOST_WAITING_WEBHOOKS: usize = 200_000;

impl State {
    pub(super) fn new(options: IntercomOptions) -> Self {
        let mut state = Self {
            generation: options.webhook_generation,
            webhooks_on: true,
            attributes: super::attributes::standard(),
            options,
            ..Self::default()
        };
        state.tick();
        state
    }

    /// Reads the clock, and lets contacts whose lag is over into the search index.
    pub(super) fn tick(&mut self) {
        self.now_ms = self.options.clock.now().timestamp_millis();
        while let Some(&(at, slot)) = self.lagging.front() {
            if at > self.now_ms {
                break;
            }
            self.lagging.pop_front();
            self.lagging_slots.remove(&slot);
            self.version += 1;
        }
        while let Some((until, id)) = self.snoozes.first().copied().filter(|(until, _)| *until <= self.now()) {
            self.snoozes.remove(&(until, id));
            let due = self.conversations.get(&id).is_some_and(|found| found.snoozed_until == Some(until));
            if due {
                super::conversations::unsnooze(self, id);
            }
        }
    }

    pub(super) fn now(&self) -> i64 {
        self.now_ms.div_euclid(1000)
    }

    pub(super) fn now_utc(&self) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(self.now_ms).unwrap_or_default()
    }

    pub(super) fn next(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    /// 64 bits that depend on the seed and on how many were drawn before (splitmix64).
    pub(super) fn random(&mut self) -> u64 {
        let step = self.next();
        mix(self.options.seed.wrapping_add(step.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    }

    /// 24 hexadecimal digits that begin with the time, as the vendor's do. In a world that is being made it is a time of
    /// its own, in which a second passes with each id, so that the seed alone decides.
    pub(super) fn object_id(&mut self, at_ms: i64) -> String {
        let count = self.next() & 0xff_ffff;
        let seconds = if self.filling {
            0x6500_0000 + count
        } else {
            u64::try_from(at_ms.div_euclid(1000)).unwrap_or(0) & 0xffff_ffff
        };
        let place = mix(self.options.seed) & 0xff_ffff_ffff;
        format!("{seconds:08x}{place:010x}{count:06x}")
    }

    pub(super) fn uuid(&mut self) -> String {
        let (high, low) = (self.random(), self.random());
        format!(
            "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
            high >> 32,
            (high >> 16) & 0xffff,
            high & 0xfff,
            0x8000 | (low >> 48) & 0x3fff,
            low & 0xffff_ffff_ffff
        )
    }

    pub(super) fn contact(&self, slot: Slot) -> Option<&Contact> {
        self.contacts.get(slot as usize)
    }

    pub(super) fn slot_of(&self, id: &str) -> Option<Slot> {
        self.by_id.get(id).copied()
    }

    /// The live contact of this id.
    pub(super) fn live(&self, id: &str) -> Option<Slot> {
        self.slot_of(id).filter(|slot| self.contact(*slot).is_some_and(Contact::is_live))
    }

    /// Follows a merge, three hops at most as the vendor does.
    pub(super) fn canonical(&self, mut slot: Slot) -> Slot {
        for _ in 0..3 {
            match self.contact(slot).map(|contact| contact.standing) {
                Some(Standing::Merged(into)) => slot = into,
                _ => break,
            }
        }
        slot
    }

    /// Takes in a new contact. `lag`: whether the search index hears of it late.
    pub(super) fn insert(&mut self, contact: Contact, lag: bool) -> Slot {
        let slot = Slot::try_from(self.contacts.len()).unwrap_or(Slot::MAX);
        self.by_id.insert(contact.id.clone(), slot);
        self.contacts.push(contact);
        self.index(slot);
        let wait = i64::try_from(self.options.index_lag.as_millis()).unwrap_or(i64::MAX);
        if lag && wait > 0 {
            self.lagging.push_back((self.now_ms.saturating_add(wait), slot));
            self.lagging_slots.insert(slot);
        }
        self.version += 1;
        slot
    }

    fn index(&mut self, slot: Slot) {
        let Some(contact) = self.contacts.get(slot as usize) else { return };
        if let Some(email) = &contact.email {
            self.by_email.entry(email.to_lowercase()).or_default().insert(slot);
        }
        if let Some(external) = &contact.external_id {
            self.by_external.entry(external.clone()).or_default().insert(slot);
        }
        if contact.is_live() {
            self.by_created.insert((contact.created, slot));
            self.by_updated.insert((contact.updated, slot));
            self.by_seen.insert((contact.last_seen.unwrap_or(0) * 1000, slot));
        }
    }

    fn unindex(&mut self, slot: Slot) {
        let Some(contact) = self.contacts.get(slot as usize) else { return };
        if let Some(email) = &contact.email
            && let Some(slots) = self.by_email.get_mut(&email.to_lowercase())
        {
            slots.remove(&slot);
        }
        if let Some(external) = &contact.external_id
            && let Some(slots) = self.by_external.get_mut(external)
        {
            slots.remove(&slot);
        }
        self.by_created.remove(&(contact.created, slot));
        self.by_updated.remove(&(contact.updated, slot));
        self.by_seen.remove(&(contact.last_seen.unwrap_or(0) * 1000, slot));
    }

    /// Changes a contact and keeps the indexes right; `updated_at` moves to now.
    pub(super) fn change(&mut self, slot: Slot, change: impl FnOnce(&mut Contact)) {
        self.unindex(slot);
        let now = self.now_ms;
        if let Some(contact) = self.contacts.get_mut(slot as usize) {
            change(contact);
            contact.updated = now.max(contact.created);
        }
        self.index(slot);
        self.version += 1;
    }

    pub(super) fn insert_conversation(&mut self, conversation: Conversation) {
        for slot in &conversation.contacts {
            self.conversations_of.entry(*slot).or_default().insert(conversation.id);
        }
        self.conversations_by_updated.insert((conversation.updated, conversation.id));
        self.snoozes.extend(conversation.snoozed_until.map(|until| (until, conversation.id)));
        self.conversations.insert(conversation.id, conversation);
        self.version += 1;
    }

    /// Changes a conversation; `updated_at` moves to now.
    pub(super) fn change_conversation(&mut self, id: u64, change: impl FnOnce(&mut Conversation)) {
        let now = self.now_ms;
        if let Some(conversation) = self.conversations.get_mut(&id) {
            self.conversations_by_updated.remove(&(conversation.updated, id));
            change(conversation);
            conversation.updated = now.max(conversation.created);
            self.conversations_by_updated.insert((conversation.updated, id));
            self.snoozes.extend(conversation.snoozed_until.map(|until| (until, id)));
            self.version += 1;
        }
    }

    /// The tag of this name (names are case insensitive), made if there is none.
    pub(super) fn tag_named(&mut self, name: &str) -> String {
        if let Some(id) = self.tag_by_name.get(&name.to_lowercase()) {
            return id.clone();
        }
        let id = (12_900_000 + self.next()).to_string();
        self.tags.insert(id.clone(), name.to_owned());
        self.tag_by_name.insert(name.to_lowercase(), id.clone());
        id
    }

    pub(super) fn queue(&mut self, webhook: OutgoingWebhook) {
        if self.outbox.len() >= MOST_WAITING_WEBHOOKS {
            self.outbox.pop_front();
            self.dropped_webhooks += 1;
        }
        self.outbox.push_back(webhook);
    }
}

/// Scatters bits (the finaliser of splitmix64).
pub(super) fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}
