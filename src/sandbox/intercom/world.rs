//! A world with everything in it that connectors stumble over, made from a seed.

use super::IntercomSandbox;
use super::misc::FIRST_ADMIN;
use super::state::{
    AiAgent, AppliedTag, Author, Contact, Conversation, ConversationState, Location, Part, Rating, Role, Slot, State,
    Statistics, mix,
};
use super::{attributes, companies};
use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};

/// How the world is mixed: shares are from 0 to 1.
#[derive(Debug, Clone, PartialEq)]
pub struct WorldOptions {
    /// Contacts that are leads.
    pub leads: f64,
    /// Leads without an e-mail (users without one are a tenth as many).
    pub without_email: f64,
    /// Leads on a user's e-mail.
    pub shared_email: f64,
    /// Contacts with a phone.
    pub phones: f64,
    /// Contacts with somebody else's phone.
    pub shared_phone: f64,
    /// Phones that nobody can dial.
    pub malformed_phone: f64,
    /// Contacts who opted out of e-mail.
    pub unsubscribed: f64,
    /// Hard bounces.
    pub bounced: f64,
    /// Spam complaints.
    pub spam: f64,
    /// Names in other scripts, with emoji, with odd spaces.
    pub odd_names: f64,
    /// Names of one word.
    pub single_names: f64,
    /// Names with particles: Ludwig van Beethoven.
    pub particles: f64,
    /// Contacts with more than ten tags.
    pub many_tags: f64,
    /// Contacts in a company.
    pub in_company: f64,
    /// Contacts with a conversation.
    pub conversations: f64,
    /// Archived contacts.
    pub archived: f64,
    /// How far back the oldest contact was created, in days.
    pub days: i64,
}

impl Default for WorldOptions {
    fn default() -> Self {
        Self {
            leads: 0.25,
            without_email: 0.3,
            shared_email: 0.05,
            phones: 0.5,
            shared_phone: 0.01,
            malformed_phone: 0.02,
            unsubscribed: 0.04,
            bounced: 0.01,
            spam: 0.003,
            odd_names: 0.03,
            single_names: 0.05,
            particles: 0.02,
            many_tags: 0.005,
            in_company: 0.6,
            conversations: 0.3,
            archived: 0.005,
            days: 730,
        }
    }
}

/// What is true of the workspace now, counted from its state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Truth {
    /// Contacts that are there.
    pub contacts: usize,
    /// Of them users.
    pub users: usize,
    /// Of them leads.
    pub leads: usize,
    /// Without an e-mail.
    pub without_email: usize,
    /// Different e-mails, lower case.
    pub distinct_emails: usize,
    /// Contacts whose e-mail another contact has too.
    pub on_shared_email: usize,
    /// Opted out of e-mail.
    pub unsubscribed: usize,
    /// Bounced for good.
    pub bounced: usize,
    /// Complained.
    pub spam: usize,
    /// Archived, deleted or merged: in no list.
    pub gone: usize,
    /// With a phone, good or bad.
    pub with_phone: usize,
    /// With more tags than are embedded.
    pub more_than_ten_tags: usize,
    /// With more companies than are embedded.
    pub more_than_ten_companies: usize,
    /// Companies, with people or without.
    pub companies: usize,
    /// Conversations.
    pub conversations: usize,
    /// Open or snoozed ones.
    pub open_conversations: usize,
    /// Contacts with at least one conversation in the state `open`.
    pub with_open_conversation: usize,
    /// Rated conversations.
    pub rated: usize,
}

const FIRST: [&str; 16] = [
    "Emma", "Liam", "Olivia", "Noah", "Ava", "Lucas", "Mia", "Hugo", "Zoë", "Björn", "Chloé", "Łukasz", "Siobhán",
    "José", "Anaïs", "Jürgen",
];
const LAST: [&str; 16] = [
    "Martin",
    "Schmidt",
    "Johnson",
    "García",
    "Rossi",
    "Dubois",
    "Müller",
    "Novák",
    "O'Brien",
    "Kowalski",
    "Andersson",
    "Smith-Jones",
    "Ñúñez",
    "Yılmaz",
    "Lefèvre",
    "Brown",
];
const PARTICLES: [&str; 6] = [
    "Ludwig van Beethoven",
    "Vincent van der Berg",
    "Maria de la Cruz",
    "Otto von Bismarck",
    "Leonardo da Vinci",
    "Aisha bint Khalid",
];
const SINGLE: [&str; 5] = ["Madonna", "Prince", "Björk", "Pelé", "support"];
const ODD: [&str; 8] = [
    "山田 太郎",
    "Владимир Иванов",
    "محمد علي",
    "🦄 Rainbow Dash",
    "Zoe\u{301} Combining",
    "  Spaced   Out  ",
    "Robert'); DROP TABLE--",
    "=SUM(A1:A9)",
];
const MALFORMED: [&str; 6] = ["call me", "12", "+1", "n/a", "0000000000", "+49 (0) 30 / 12 34 x5"];
const TAGS: [&str; 16] = [
    "VIP",
    "Beta",
    "Churn risk",
    "Newsletter",
    "Webinar",
    "Partner",
    "Trial",
    "Enterprise",
    "Feature Request",
    "Bug",
    "Referral",
    "Onboarding",
    "Upsell",
    "Press",
    "Student",
    "Café ☕",
];
const PLANS: [&str; 4] = ["Free", "Starter", "Pro", "Enterprise"];
const TIERS: [&str; 3] = ["starter", "pro", "enterprise"];
const INTERESTS: [&str; 4] = ["Product", "Pricing", "Support", "Integrations"];
const COUNTRIES: [(&str, &str, &str, &str); 4] = [
    ("United States", "US", "California", "San Francisco"),
    ("Germany", "DE", "Berlin", "Berlin"),
    ("France", "FR", "Île-de-France", "Paris"),
    ("United Kingdom", "GB", "England", "London"),
];

/// A dice of its own, so that the world does not depend on what was drawn before.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end.max(1)).unwrap_or(1)).unwrap_or(0)
    }

    fn between(&mut self, from: i64, to: i64) -> i64 {
        let span = u64::try_from((to - from).max(1)).unwrap_or(1);
        from + i64::try_from(self.next() % span).unwrap_or(0)
    }

    fn hits(&mut self, share: f64) -> bool {
        (self.next() >> 11) as f64 / ((1_u64 << 53) as f64) < share
    }

    fn pick<T: Copy>(&mut self, from: &[T], default: T) -> T {
        from.get(self.below(from.len())).copied().unwrap_or(default)
    }

    fn phone(&mut self) -> String {
        let digits = self.between(0, 10_000_000);
        match self.below(4) {
            0 => format!("+1202555{:04}", digits % 10_000),
            1 => format!("+49151{digits:07}0"),
            2 => format!("+336{:08}", digits + 10_000_000),
            _ => format!("+447400{:06}", digits % 1_000_000),
        }
    }

    fn name(&mut self, options: &WorldOptions) -> String {
        let roll = (self.next() >> 11) as f64 / (1_u64 << 53) as f64;
        if roll < options.odd_names {
            return self.pick(&ODD, "").to_owned();
        }
        if roll < options.odd_names + options.single_names {
            return self.pick(&SINGLE, "").to_owned();
        }
        if roll < options.odd_names + options.single_names + options.particles {
            return self.pick(&PARTICLES, "").to_owned();
        }
        format!("{} {}", self.pick(&FIRST, ""), self.pick(&LAST, ""))
    }
}

impl IntercomSandbox {
    /// Adds `n` contacts with companies, tags and conversations, the same for the same seed but for their times, which go
    /// by the clock. No notifications are queued, and search knows all of it at once.
    pub fn world(&self, seed: u64, n: usize) -> Truth {
        self.world_with(seed, n, &WorldOptions::default())
    }

    /// As [`Self::world`], mixed differently.
    pub fn world_with(&self, seed: u64, n: usize, options: &WorldOptions) -> Truth {
        self.fill(|state| {
            let now = state.now_ms;
            fill(state, seed, n, options, Times { now, awake: now.div_euclid(1000) + 86_400 });
        })
    }

    /// As [`Self::world`], but nothing in it has happened since `end` (or since now, if that is earlier): whenever it is
    /// made, it is the same to the second. What is made later gets ids that no world made at another time gives.
    pub fn world_until(&self, end: DateTime<Utc>, seed: u64, n: usize) -> Truth {
        self.fill(|state| {
            let now = state.now_ms.min(end.timestamp_millis());
            // Who is snoozed stays so: waking up is a change of its own.
            let times = Times { now, awake: now.div_euclid(1000) + 3_650 * 86_400 };
            fill(state, seed, n, &WorldOptions::default(), times);
            state.counter = state.counter.max(u64::try_from(state.now_ms).unwrap_or(0));
        })
    }

    fn fill(&self, make: impl FnOnce(&mut State)) -> Truth {
        {
            let mut state = self.lock();
            let on = std::mem::replace(&mut state.webhooks_on, false);
            state.filling = true;
            make(&mut state);
            state.filling = false;
            state.webhooks_on = on;
        }
        self.truth()
    }

    /// What is true now.
    pub fn truth(&self) -> Truth {
        count(&self.lock())
    }
}

/// When the world's past ends, in milliseconds, and when those who are snoozed wake up, in seconds.
#[derive(Clone, Copy)]
struct Times {
    now: i64,
    awake: i64,
}

fn fill(state: &mut State, seed: u64, n: usize, options: &WorldOptions, times: Times) {
    let mut dice = Dice(mix(seed));
    for (name, data_type, values) in [
        ("plan_tier", "string", &[][..]),
        ("feature_usage", "integer", &[]),
        ("is_admin", "boolean", &[]),
        ("trial_ends_at", "date", &[]),
        ("health_score", "float", &[]),
        ("main_interest", "string", &INTERESTS[..]),
    ] {
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        attributes::define(state, "contact", name, data_type, values).ok(); // there already in a second world
    }
    let tags: Vec<String> = TAGS.iter().map(|name| state.tag_named(name)).collect();
    let company_ids =
        fill_companies(state, &mut dice, seed, (n / 20).clamp(1, 20_000).max(if n >= 30 { 12 } else { 1 }), times.now);
    let first = state.contacts.len();
    let mut emails: Vec<String> = Vec::new();
    let mut phones: Vec<String> = Vec::new();
    let now = times.now;
    let oldest = now - options.days.max(1) * 86_400_000;
    // A batch job touched a twentieth of them in the same second.
    let batch = now - 3 * 86_400_000;
    for place in 0..n {
        let created = oldest
            + (now - 3_600_000 - oldest) / i64::try_from(n.max(1)).unwrap_or(1) * i64::try_from(place).unwrap_or(0);
        let role = if dice.hits(options.leads) { Role::Lead } else { Role::User };
        let mut contact = Contact::blank(state.object_id(created), role, created);
        contact.updated = if dice.hits(0.05) { batch.max(created) } else { dice.between(created, now - 60_000) };
        contact.external_id = match role {
            Role::User => Some(format!("user-{seed}-{}", first + place)),
            Role::Lead => Some(state.uuid()),
        };
        contact.name = (!dice.hits(0.03)).then(|| dice.name(options));
        let none = dice.hits(if role == Role::Lead { options.without_email } else { options.without_email / 10.0 });
        contact.email = if none {
            // Both are seen where there is no address: null and the empty text.
            (role == Role::Lead && dice.hits(0.5)).then(String::new)
        } else if role == Role::Lead && !emails.is_empty() && dice.hits(options.shared_email) {
            emails.get(dice.below(emails.len())).cloned()
        } else {
            let host = dice.pick(&["example.com", "example.org", "mail.example.net"], "example.com");
            let (word, plus) = (
                dice.pick(&["emma", "liam", "Olivia", "noah", "o'brien"], "emma"),
                if dice.hits(0.03) { "+news" } else { "" },
            );
            Some(format!("{word}.{seed}.{}{plus}@{host}", first + place))
        };
        if role == Role::User
            && let Some(email) = &contact.email
        {
            emails.push(email.clone());
        }
        if dice.hits(options.phones) {
            let phone = if !phones.is_empty() && dice.hits(options.shared_phone) {
                phones.get(dice.below(phones.len())).cloned().unwrap_or_default()
            } else if dice.hits(options.malformed_phone) {
                dice.pick(&MALFORMED, "12").to_owned()
            } else {
                dice.phone()
            };
            phones.push(phone.clone());
            contact.phone = Some(phone);
        }
        details(&mut contact, &mut dice, options, now);
        put_tags(&mut contact, &mut dice, options, &tags, place, n);
        let joins: Vec<String> = if place == n / 2 && company_ids.len() > 10 {
            company_ids.iter().take(12).cloned().collect() // one contact in more companies than are embedded
        } else if dice.hits(options.in_company) {
            let second = dice.hits(0.05).then(|| dice.below(company_ids.len()));
            let mut places = vec![dice.below(company_ids.len())];
            places.extend(second.filter(|place| *place != places[0]));
            places.into_iter().filter_map(|place| company_ids.get(place).cloned()).collect()
        } else {
            Vec::new()
        };
        contact.companies.clone_from(&joins);
        let archived = dice.hits(options.archived);
        if archived {
            contact.standing = super::state::Standing::Archived;
        }
        let slot = state.insert(contact, false);
        for id in joins {
            if let Some(company) = state.companies.get_mut(&id) {
                company.members.insert(slot);
            }
        }
        if !archived && dice.hits(options.conversations) {
            let many = if dice.hits(0.2) { 3 } else { 1 };
            for _ in 0..many {
                converse(state, &mut dice, slot, created, times, &tags);
            }
        }
    }
}

fn details(contact: &mut Contact, dice: &mut Dice, options: &WorldOptions, now: i64) {
    let (created_s, now_s) = (contact.created.div_euclid(1000), now.div_euclid(1000));
    if contact.role == Role::User {
        contact.signed_up = Some(created_s);
    }
    if dice.hits(0.8) {
        contact.last_seen = Some(dice.between(created_s, now_s));
        contact.browser = Some("chrome".to_owned());
        contact.browser_version = Some("130.0".to_owned());
        contact.browser_language = Some(dice.pick(&["en", "de", "fr"], "en").to_owned());
        contact.os = Some(dice.pick(&["Windows", "OS X", "Android"], "Windows").to_owned());
        let (country, code, region, city) = dice.pick(&COUNTRIES, COUNTRIES[0]);
        contact.location = Location {
            country: Some(country.to_owned()),
            country_code: Some(code.to_owned()),
            region: Some(region.to_owned()),
            city: Some(city.to_owned()),
            continent_code: Some(if code == "US" { "NA" } else { "EU" }.to_owned()),
        };
    }
    contact.last_contacted = dice.hits(0.4).then(|| dice.between(created_s, now_s));
    contact.last_email_opened = dice.hits(0.3).then(|| dice.between(created_s, now_s));
    contact.owner_id = dice.hits(0.1).then_some(FIRST_ADMIN);
    contact.unsubscribed = dice.hits(options.unsubscribed);
    contact.bounced = dice.hits(options.bounced);
    contact.spam = dice.hits(options.spam);
    let mut custom = Map::new();
    if dice.hits(0.7) {
        custom.insert("plan_tier".to_owned(), dice.pick(&TIERS, "pro").into());
        custom.insert("feature_usage".to_owned(), dice.between(0, 500).into());
        custom.insert("is_admin".to_owned(), dice.hits(0.5).into());
    }
    if dice.hits(0.2) {
        custom.insert("trial_ends_at".to_owned(), dice.between(created_s, now_s + 2_592_000).into());
    }
    if dice.hits(0.2) {
        custom.insert("main_interest".to_owned(), dice.pick(&INTERESTS, "Product").into());
    }
    if dice.hits(0.1) {
        custom.insert("health_score".to_owned(), json!((dice.between(0, 1000) as f64) / 10.0));
    }
    contact.custom = custom;
}

fn put_tags(contact: &mut Contact, dice: &mut Dice, options: &WorldOptions, tags: &[String], place: usize, n: usize) {
    let count = if dice.hits(options.many_tags) || place == n / 3 {
        11 + dice.below(4)
    } else if dice.hits(0.3) {
        1 + dice.below(3)
    } else {
        0
    };
    let start = dice.below(tags.len());
    let applied_at = contact.updated.div_euclid(1000);
    contact.tags = tags
        .iter()
        .cycle()
        .skip(start)
        .take(count.min(tags.len()))
        .map(|id| AppliedTag { id: id.clone(), applied_at })
        .collect();
}

fn fill_companies(state: &mut State, dice: &mut Dice, seed: u64, count: usize, now_ms: i64) -> Vec<String> {
    attributes::define(state, "company", "segment_code", "string", Vec::new()).ok(); // there already in a second world
    let now = now_ms.div_euclid(1000);
    let mut ids = Vec::with_capacity(count);
    for place in 0..count {
        let name = format!("{} {} {place}", dice.pick(&LAST, ""), dice.pick(&["GmbH", "Inc", "SARL", "& Sons"], "Inc"));
        let mut fields = json!({
            "company_id": format!("company-{seed}-{place}"),
            "name": name,
            "monthly_spend": dice.between(0, 5000),
        });
        // Some were born of a lead's qualification: no name, no plan.
        if dice.hits(0.02) {
            fields["name"] = Value::Null;
            fields["company_id"] = format!("{:024x}-qualification-company", dice.next()).into();
        } else {
            fields["plan"] = dice.pick(&PLANS, "Free").into();
            fields["size"] = dice.between(1, 5000).into();
            fields["industry"] = "manufacturing".into();
            fields["website"] = format!("https://company{place}.example.com").into();
        }
        if dice.hits(0.9) {
            fields["last_request_at"] = dice.between(now - 90 * 86_400, now).into();
        }
        if dice.hits(0.8) {
            fields["remote_created_at"] = dice.between(now - 900 * 86_400, now).into();
        }
        if let Ok(id) = companies::upsert(state, &fields) {
            if let Some(company) = state.companies.get_mut(&id) {
                company.session_count = dice.between(0, 900);
                (company.created, company.updated) = (now_ms, now_ms);
            }
            ids.push(id);
        }
    }
    ids
}

fn converse(state: &mut State, dice: &mut Dice, slot: Slot, contact_created: i64, times: Times, tags: &[String]) {
    let now = times.now;
    let created = dice.between(contact_created, now - 1_800_000);
    let updated = dice.between(created, now - 60_000);
    let (start, last) = (created.div_euclid(1000), updated.div_euclid(1000));
    let id = 215_472_000_000_000 + state.next();
    let standing = match dice.below(10) {
        0..=2 => ConversationState::Open,
        3 => ConversationState::Snoozed,
        _ => ConversationState::Closed,
    };
    let closed = standing == ConversationState::Closed;
    let ai = dice.hits(0.3);
    let part = Part {
        id: 37_358_000_000 + state.next(),
        kind: if closed { "close" } else { "comment" },
        body: Some("<p>Thanks for writing in &amp; have a nice day</p>".to_owned()),
        created: updated,
        author: if ai { Author::Bot } else { Author::Admin(FIRST_ADMIN) },
        assigned_to: None,
    };
    let rating = (closed && dice.hits(0.4)).then(|| Rating {
        score: dice.between(1, 6),
        remark: dice.hits(0.5).then(|| "Quick & friendly".to_owned()),
        at: last,
        contact: slot,
        teammate: (!ai).then_some(FIRST_ADMIN),
    });
    let conversation = Conversation {
        id,
        created,
        updated,
        title: dice.hits(0.3).then(|| "Question about billing".to_owned()),
        state: standing,
        read: dice.hits(0.7),
        priority: dice.hits(0.1),
        waiting_since: (standing == ConversationState::Open).then_some(last),
        snoozed_until: (standing == ConversationState::Snoozed).then_some(times.awake),
        admin_assignee: dice.hits(0.6).then_some(FIRST_ADMIN),
        tags: if dice.hits(0.3) {
            tags.get(dice.below(tags.len()))
                .map(|id| AppliedTag { id: id.clone(), applied_at: last })
                .into_iter()
                .collect()
        } else {
            Vec::new()
        },
        source_type: dice.pick(&["conversation", "email", "whatsapp"], "conversation"),
        delivered_as: dice.pick(&["customer_initiated", "admin_initiated", "automated"], "customer_initiated"),
        subject: String::new(),
        body: "<p>Hello, how do I <b>export</b> my data?</p>".to_owned(),
        author: Author::Contact(slot),
        contacts: vec![slot],
        rating,
        custom: Map::new(),
        statistics: Statistics {
            first_contact_reply: Some(start),
            last_contact_reply: Some(start),
            first_admin_reply: Some(last),
            last_admin_reply: Some(last),
            first_close: closed.then_some(last),
            last_close: closed.then_some(last),
            last_closed_by: closed.then_some(FIRST_ADMIN),
            ..Statistics::default()
        },
        sla: dice.hits(0.2).then(|| ("First response", dice.pick(&["hit", "missed", "active"], "hit"))),
        ai_agent: ai.then(|| AiAgent {
            resolution: Some(
                dice.pick(&["assumed_resolution", "confirmed_resolution", "routed_to_team", "abandoned"], "abandoned"),
            ),
            answer: Some("ai_answer"),
            rating: None,
        }),
        parts: vec![part],
    };
    state.insert_conversation(conversation);
    // A reply moves the contact too, though not its updated_at in this past.
    if let Some(contact) = state.contacts.get_mut(slot as usize) {
        contact.last_replied = contact.last_replied.max(Some(start));
    }
}

fn count(state: &State) -> Truth {
    let mut truth =
        Truth { companies: state.companies.len(), conversations: state.conversations.len(), ..Truth::default() };
    for contact in &state.contacts {
        if !contact.is_live() {
            truth.gone += 1;
            continue;
        }
        truth.contacts += 1;
        match contact.role {
            Role::User => truth.users += 1,
            Role::Lead => truth.leads += 1,
        }
        truth.without_email += usize::from(contact.email.as_deref().unwrap_or("").is_empty());
        truth.unsubscribed += usize::from(contact.unsubscribed);
        truth.bounced += usize::from(contact.bounced);
        truth.spam += usize::from(contact.spam);
        truth.with_phone += usize::from(contact.phone.is_some());
        truth.more_than_ten_tags += usize::from(contact.tags.len() > 10);
        truth.more_than_ten_companies += usize::from(contact.companies.len() > 10);
    }
    for (email, slots) in &state.by_email {
        let live = slots.iter().filter(|slot| state.contact(**slot).is_some_and(Contact::is_live)).count();
        if email.is_empty() || live == 0 {
            continue;
        }
        truth.distinct_emails += 1;
        truth.on_shared_email += if live > 1 { live } else { 0 };
    }
    let mut open_of = std::collections::BTreeSet::new();
    for conversation in state.conversations.values() {
        truth.rated += usize::from(conversation.rating.is_some());
        truth.open_conversations += usize::from(conversation.state != ConversationState::Closed);
        if conversation.state == ConversationState::Open {
            open_of.extend(conversation.contacts.iter().copied());
        }
    }
    truth.with_open_conversation =
        open_of.into_iter().filter(|slot| state.contact(*slot).is_some_and(Contact::is_live)).count();
    truth
}
