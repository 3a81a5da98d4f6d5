//! People's hands: what contacts and colleagues do on both sides, at any moment.

use super::companies::{self, FirmEdit};
use super::world::{Dice, Source, some_name, some_phone, some_tag, some_tier, some_value};
use linkspan::sandbox::brevo::{BrevoSandbox, ContactSeed as BrevoSeed};
use linkspan::sandbox::intercom::{ContactSeed, IntercomSandbox};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// As typed, and as first and last name.
pub const NAMES: [(&str, &str, &str); 10] = [
    ("Jane Doe", "Jane", "Doe"),
    ("Jane Roe", "Jane", "Roe"),
    ("Cher", "Cher", ""),
    ("Ludwig van Beethoven", "Ludwig", "van Beethoven"),
    ("  Ann   Lee ", "Ann", "Lee"),
    ("José Ñandú", "José", "Ñandú"),
    ("王 小明", "王", "小明"),
    ("Zoë 🦄 Star", "Zoë 🦄", "Star"),
    ("O'Neil \"Quote\"", "O'Neil", "\"Quote\""),
    ("Ann Lee", "Ann", "Lee"),
];
/// As typed, and as digits once in E.164 (`None`: nobody's number).
pub const PHONES: [(&str, Option<&str>); 7] = [
    ("+4722225555", Some("4722225555")),
    ("+47 22 22 55 55", Some("4722225555")),
    ("+12025550123", Some("12025550123")),
    ("(202) 555-0123", Some("12025550123")),
    ("+33612345678", Some("33612345678")),
    ("12", None),
    ("call me", None),
];
pub const TIERS: [&str; 3] = ["Free", "Pro", "Größe L"];
/// What companies are called.
pub const COMPANIES: [&str; 4] = ["Blue Sun", "Initech", "Hooli, Inc.", "Größe & Söhne"];
pub const TAGS: [&str; 14] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "VIP", "beta"];
/// Addresses: few, so that people share and exchange them.
pub const ADDRESSES: u64 = 24;
/// How many values an edit in Brevo can choose from.
pub const BREVO_VALUES: usize = 5;

pub fn address(number: u64) -> String {
    let number = number % ADDRESSES;
    if number % 7 == 3 { format!("Person{number}@Example.com") } else { format!("person{number}@example.com") }
}

/// Trimmed and in lower case: what two addresses are compared by.
pub fn normal(address: &str) -> String {
    address.trim().to_lowercase()
}

/// One act. Whom it is about is a number that is taken modulo those who are there then.
#[derive(Debug, Clone, PartialEq)]
pub enum Edit {
    // Intercom
    Create {
        lead: bool,
        address: Option<u64>,
        named: bool,
        id: Option<u64>,
        out: bool,
    },
    Name(u64, Option<&'static str>),
    Phone(u64, Option<&'static str>),
    Tier(u64, Option<&'static str>),
    Seats(u64, Option<u64>),
    Admin(u64, Option<bool>),
    Tag(u64, &'static str),
    ManyTags(u64),
    Untag(u64, &'static str),
    Address(u64, Option<u64>),
    Swap(u64, u64),
    Unsubscribe(u64),
    Resubscribe(u64),
    Bounced(u64),
    Spam(u64),
    Archive(u64),
    Unarchive(u64),
    Delete(u64),
    Merge(u64, u64),
    SignUp(u64, u64),
    Seen(u64),
    Converse(u64),
    CloseConversation(u64),
    Rate(u64),
    RateAs(u64, i64),
    Snooze(u64),
    Reopen(u64),
    SmsOut(u64),
    Company(u64, usize),
    CompanyName(u64, usize),
    Attach(u64, u64),
    Detach(u64, u64),
    // Brevo
    BrevoCreate {
        address: u64,
        out: bool,
        named: bool,
    },
    BrevoValue(u64, u64, usize),
    BrevoUnsubscribe(u64),
    BrevoBlocklist(u64),
    BrevoBounce(u64),
    BrevoSpam(u64),
    BrevoResubscribe(u64),
    BrevoLeaveList(u64, u64),
    BrevoTakeOff(u64, u64),
    BrevoPutOn(u64, u64),
    BrevoAddress(u64, u64),
    BrevoDelete(u64),
    /// A field that may travel: what it is made of two numbers, of the contact with an Intercom contact's address.
    BrevoField(u64, Source, u64),
    BrevoVip(u64, bool),
    BrevoLeaveVip(u64),
    /// About a company.
    Firm(FirmEdit),
}

const EDITED: [&str; 8] =
    ["FIRSTNAME", "LASTNAME", "PLAN_TIER", "SEATS", "IS_ADMIN", "ROLE", "INTERCOM_USER_ID", "SMS"];
const LISTS: [&str; 3] = ["Users", "Leads", "VIPs"];

impl Edit {
    pub fn newcomer(dice: &mut Dice) -> Self {
        Self::Create {
            lead: dice.hits(0.35),
            address: dice.perhaps(0.85, |dice| dice.below(ADDRESSES)),
            named: dice.hits(0.8),
            id: dice.perhaps(0.4, |dice| dice.below(1_000_000)),
            out: dice.hits(0.1),
        }
    }

    pub fn stranger(dice: &mut Dice) -> Self {
        Self::BrevoCreate { address: dice.below(ADDRESSES), out: dice.hits(0.25), named: dice.hits(0.6) }
    }

    pub fn draw(dice: &mut Dice) -> Self {
        let (who, other) = (dice.next() >> 1, dice.next() >> 1);
        match dice.below(100) {
            0..=4 => Self::newcomer(dice),
            5..=13 => Self::Name(who, some_name(dice)),
            14..=18 => Self::Phone(who, some_phone(dice)),
            19..=27 => Self::Tier(who, some_tier(dice)),
            28..=32 => Self::Seats(who, dice.perhaps(0.8, |dice| dice.below(3))),
            33..=35 => Self::Admin(who, dice.perhaps(0.8, |dice| dice.hits(0.5))),
            36..=40 => Self::Tag(who, some_tag(dice)),
            41 => Self::ManyTags(who),
            42..=44 => Self::Untag(who, some_tag(dice)),
            45..=49 => Self::Address(who, dice.perhaps(0.9, |dice| dice.below(ADDRESSES))),
            50 => Self::Swap(who, other),
            51..=55 => Self::Unsubscribe(who),
            56..=58 => Self::Resubscribe(who),
            59 => Self::Bounced(who),
            60 => Self::Spam(who),
            61 => Self::Archive(who),
            62 => Self::Unarchive(who),
            63 => Self::Delete(who),
            64..=65 => Self::Merge(who, other),
            66..=67 => Self::SignUp(who, dice.below(1_000_000)),
            68 => Self::Seen(who),
            69..=71 => Self::Converse(who),
            72..=73 => Self::CloseConversation(who),
            74 => Self::Rate(who),
            75 => Self::stranger(dice),
            76..=82 => Self::BrevoValue(who, other, some_value(dice)),
            83..=85 => Self::BrevoUnsubscribe(who),
            86..=87 => Self::BrevoBlocklist(who),
            88 => Self::BrevoBounce(who),
            89..=91 => Self::BrevoResubscribe(who),
            92..=93 => Self::BrevoLeaveList(who, other),
            94..=95 => Self::BrevoTakeOff(who, other),
            96..=97 => Self::BrevoPutOn(who, other),
            98 => Self::BrevoAddress(who, dice.below(ADDRESSES)),
            _ => {
                if dice.hits(0.5) {
                    Self::BrevoDelete(who)
                } else {
                    Self::Seen(who)
                }
            }
        }
    }

    /// The same act upon somebody else.
    pub fn about(mut self, whom: u64) -> Self {
        match &mut self {
            Self::Create { .. } | Self::BrevoCreate { .. } | Self::Firm(_) => {}
            Self::Name(who, _) | Self::Phone(who, _) | Self::Tier(who, _) => *who = whom,
            Self::Seats(who, _) => *who = whom,
            Self::Admin(who, _) => *who = whom,
            Self::Tag(who, _) | Self::Untag(who, _) => *who = whom,
            Self::Address(who, _) => *who = whom,
            Self::Swap(who, _) | Self::Merge(who, _) | Self::SignUp(who, _) => *who = whom,
            Self::BrevoValue(who, _, _) => *who = whom,
            Self::BrevoLeaveList(who, _) | Self::BrevoTakeOff(who, _) | Self::BrevoPutOn(who, _) => *who = whom,
            Self::BrevoAddress(who, _) => *who = whom,
            Self::BrevoField(who, _, _) | Self::BrevoVip(who, _) => *who = whom,
            Self::RateAs(who, _) | Self::Attach(who, _) | Self::Detach(who, _) => *who = whom,
            Self::Company(who, _) | Self::CompanyName(who, _) => *who = whom,
            Self::ManyTags(who)
            | Self::Snooze(who)
            | Self::Reopen(who)
            | Self::SmsOut(who)
            | Self::Unsubscribe(who)
            | Self::Resubscribe(who)
            | Self::Bounced(who)
            | Self::Spam(who)
            | Self::Archive(who)
            | Self::Unarchive(who)
            | Self::Delete(who)
            | Self::Seen(who)
            | Self::Converse(who)
            | Self::CloseConversation(who)
            | Self::Rate(who)
            | Self::BrevoUnsubscribe(who)
            | Self::BrevoBlocklist(who)
            | Self::BrevoBounce(who)
            | Self::BrevoSpam(who)
            | Self::BrevoResubscribe(who)
            | Self::BrevoLeaveVip(who)
            | Self::BrevoDelete(who) => *who = whom,
        }
        self
    }

    /// For the counts: which kind it is.
    pub fn kind(&self) -> String {
        let text = if let Self::Firm(edit) = self { format!("{edit:?}") } else { format!("{self:?}") };
        text.split(['(', ' ', '{']).next().unwrap_or_default().to_owned()
    }
}

/// What an act means for consent in Brevo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// Nothing about Brevo's flag.
    None,
    /// The person (or a colleague) says so.
    Consent,
    /// Somebody changed an address, and the flag went with it.
    Rename,
}

/// What somebody gives for a field in Brevo: the values that people choose from in Intercom, or a part of a name.
fn given(source: Source, number: u64) -> Vec<(&'static str, Value)> {
    let nth = |length: usize| usize::try_from(number / 16).unwrap_or(0) % length;
    let blank = number % 16 < 2;
    let or_blank = |value: Value| if blank { Value::Null } else { value };
    match source {
        Source::Name => {
            let (_, first, last) = NAMES[nth(NAMES.len())];
            let parts = [("FIRSTNAME", or_blank(json!(first))), ("LASTNAME", or_blank(json!(last)))];
            match number % 16 {
                3..=5 => vec![parts[0].clone()],
                6..=7 => vec![parts[1].clone()],
                _ => parts.into(),
            }
        }
        Source::Phone => vec![("SMS", or_blank(json!(PHONES[nth(5)].1)))],
        Source::Tier => vec![("PLAN_TIER", or_blank(json!(TIERS[nth(TIERS.len())])))],
        Source::Seats => vec![("SEATS", or_blank(json!(nth(3))))],
        _ => vec![("IS_ADMIN", or_blank(json!(nth(2) == 0)))],
    }
}

#[expect(clippy::cast_possible_truncation, reason = "modulo a length")]
fn one_of<T: Clone>(all: &[T], who: u64) -> Option<T> {
    (!all.is_empty()).then(|| all[(who % all.len() as u64) as usize].clone())
}

/// Does it. What was done in words, or `None` if it could not be done.
pub fn act(
    edit: &Edit,
    intercom: &IntercomSandbox,
    brevo: &BrevoSandbox,
    ever: &[String],
) -> Option<(String, Meaning)> {
    let live = intercom.contact_ids();
    let someone = |who: u64| one_of(&live, who);
    let theirs: Vec<String> = brevo.contacts().into_iter().filter_map(|contact| contact.email).collect();
    let their = |who: u64| one_of(&theirs, who);
    let conversations = intercom.conversation_ids();
    let conversation = |who: u64| one_of(&conversations, who);
    let patch = |who: u64, patch: Value| {
        let id = someone(who)?;
        intercom.edit_contact(&id, &patch).ok()?;
        Some(format!("Intercom {id}: {patch}"))
    };
    let done = |id: &str, what: &str| format!("Intercom {id}: {what}");
    let list = |which: u64| {
        let name = LISTS[usize::try_from(which % 3).unwrap_or(0)];
        brevo.list_id(name).map(|id| (id, name))
    };
    // Somebody whom both sides know, if the contact in Intercom is one.
    let known_as = |who: u64| {
        let email = intercom.contact(&someone(who)?)?["email"].as_str().map(normal)?;
        theirs.iter().find(|their| normal(their) == email).cloned()
    };
    let text = match edit {
        Edit::Create { lead, address: at, named, id, out } => {
            // Only leads share an address with others; a user who does has an id of its own.
            let seed = ContactSeed {
                lead: *lead,
                external_id: id.filter(|_| !lead).map(|id| format!("user-{id}")),
                email: at.map(address),
                name: named.then(|| NAMES[usize::try_from(at.unwrap_or(0)).unwrap_or(0) % NAMES.len()].0.to_owned()),
                unsubscribed: *out,
                ..ContactSeed::default()
            };
            let text = format!("{seed:?}");
            let id = intercom.create_contact(seed);
            done(&id, &format!("created {text}"))
        }
        Edit::Name(who, name) => patch(*who, json!({"name": name}))?,
        Edit::Phone(who, phone) => patch(*who, json!({"phone": phone}))?,
        Edit::Tier(who, tier) => patch(*who, json!({"custom_attributes": {"plan_tier": tier}}))?,
        Edit::Seats(who, seats) => patch(*who, json!({"custom_attributes": {"seats": seats}}))?,
        Edit::Admin(who, admin) => patch(*who, json!({"custom_attributes": {"is_admin": admin}}))?,
        Edit::Tag(who, tag) => {
            let id = someone(*who)?;
            intercom.tag(&id, tag).ok()?;
            done(&id, &format!("tagged {tag}"))
        }
        Edit::ManyTags(who) => {
            let id = someone(*who)?;
            for tag in TAGS {
                intercom.tag(&id, tag).ok()?;
            }
            done(&id, "tagged with all")
        }
        Edit::Untag(who, tag) => {
            let id = someone(*who)?;
            intercom.untag(&id, tag).ok()?;
            done(&id, &format!("untagged {tag}"))
        }
        Edit::Address(who, new) => {
            let id = someone(*who)?;
            let new = new.map(address);
            intercom.set_email(&id, new.as_deref()).ok()?;
            done(&id, &format!("address now {new:?}"))
        }
        Edit::Swap(who, other) => {
            let (a, b) = (someone(*who)?, someone(*other)?);
            let of = |id: &str| intercom.contact(id)?["email"].as_str().map(str::to_owned);
            let (first, second) = (of(&a)?, of(&b)?);
            intercom.set_email(&a, Some(&second)).ok()?;
            intercom.set_email(&b, Some(&first)).ok()?;
            format!("Intercom {a} and {b} exchange {first} and {second}")
        }
        Edit::Unsubscribe(who) => {
            let id = someone(*who)?;
            intercom.unsubscribe(&id).ok()?;
            done(&id, "opts out")
        }
        Edit::Resubscribe(who) => {
            let id = someone(*who)?;
            intercom.resubscribe(&id).ok()?;
            done(&id, "opts in")
        }
        Edit::Bounced(who) => {
            let id = someone(*who)?;
            intercom.mark_bounced(&id).ok()?;
            done(&id, "bounced")
        }
        Edit::Spam(who) => {
            let id = someone(*who)?;
            intercom.mark_spam(&id).ok()?;
            done(&id, "spam")
        }
        Edit::Archive(who) => {
            let id = someone(*who)?;
            intercom.archive(&id).ok()?;
            done(&id, "archived")
        }
        Edit::Unarchive(who) => {
            let id = one_of(ever, *who)?;
            intercom.unarchive(&id).ok()?;
            done(&id, "brought back")
        }
        Edit::Delete(who) => {
            let id = someone(*who)?;
            intercom.delete(&id).ok()?;
            done(&id, "deleted")
        }
        Edit::Merge(who, other) => {
            let (lead, user) = (someone(*who)?, someone(*other)?);
            intercom.merge(&lead, &user).ok()?;
            format!("Intercom {lead} merged into {user}")
        }
        Edit::SignUp(who, number) => {
            let id = someone(*who)?;
            if intercom.contact(&id)?["role"] != "lead" {
                return None;
            }
            intercom.sign_up(&id, &format!("signed-{number}")).ok()?;
            done(&id, &format!("signs up as signed-{number}"))
        }
        Edit::Seen(who) => {
            let id = someone(*who)?;
            intercom.touch_last_seen(&id).ok()?;
            done(&id, "seen")
        }
        Edit::Converse(who) => {
            let id = someone(*who)?;
            let conversation = intercom.open_conversation(&id, "Hello").ok()?;
            done(&id, &format!("opens conversation {conversation}"))
        }
        Edit::CloseConversation(who) => {
            let id = conversation(*who)?;
            intercom.close_conversation(&id).ok()?;
            format!("Intercom conversation {id} closed")
        }
        Edit::Rate(who) => {
            let id = conversation(*who)?;
            intercom.rate(&id, 4, None).ok()?;
            format!("Intercom conversation {id} rated")
        }
        Edit::RateAs(who, score) => {
            let id = conversation(*who)?;
            intercom.rate(&id, *score, None).ok()?;
            format!("Intercom conversation {id} rated {score}")
        }
        Edit::Snooze(who) => {
            let id = conversation(*who)?;
            // In the year 2033: nobody wakes it up.
            intercom.snooze(&id, 2_000_000_000).ok()?;
            format!("Intercom conversation {id} snoozed")
        }
        Edit::Reopen(who) => {
            let id = conversation(*who)?;
            intercom.reopen(&id).ok()?;
            format!("Intercom conversation {id} opened again")
        }
        Edit::SmsOut(who) => {
            let id = someone(*who)?;
            intercom.unsubscribe_from_sms(&id).ok()?;
            done(&id, "opts out of text messages")
        }
        Edit::Company(number, name) => {
            let fields = json!({"company_id": format!("co-{}", number % 5), "name": COMPANIES[name % COMPANIES.len()]});
            let id = intercom.create_company(&fields).ok()?;
            format!("Intercom company {id}: {fields}")
        }
        Edit::CompanyName(who, name) => {
            let id = one_of(&intercom.company_ids(), *who)?;
            let fields = json!({"name": COMPANIES[name % COMPANIES.len()]});
            intercom.edit_company(&id, &fields).ok()?;
            format!("Intercom company {id}: {fields}")
        }
        Edit::Attach(who, which) => {
            let (id, company) = (someone(*who)?, one_of(&intercom.company_ids(), *which)?);
            intercom.attach_company(&id, &company).ok()?;
            done(&id, &format!("in company {company}"))
        }
        Edit::Detach(who, which) => {
            let id = someone(*who)?;
            let company = one_of(&intercom.contact_companies(&id), *which)?;
            intercom.detach_company(&id, &company).ok()?;
            done(&id, &format!("no longer in company {company}"))
        }
        Edit::BrevoCreate { address: at, out, named } => {
            let email = address(*at);
            let attributes: BTreeMap<String, Value> =
                if *named { [("FIRSTNAME".to_owned(), json!("Brevo"))].into() } else { BTreeMap::new() };
            let seed =
                BrevoSeed { email: Some(email.clone()), attributes, email_blacklisted: *out, ..BrevoSeed::default() };
            let id = brevo.create_contact(seed)?;
            return Some((format!("Brevo {id} made by hand: {email}, out: {out}, named: {named}"), Meaning::Consent));
        }
        Edit::BrevoValue(who, which, value) => {
            let email = their(*who)?;
            let name = EDITED[usize::try_from(which % EDITED.len() as u64).unwrap_or(0)];
            if !brevo.attribute_types().contains_key(name) {
                return None;
            }
            let new = match (name, value) {
                (_, 0) => Value::Null,
                ("SEATS", n) => json!(n),
                ("IS_ADMIN", n) => json!(n % 2 == 0),
                ("SMS", n) => json!(PHONES[n % 5].1),
                ("PLAN_TIER", n) if n % 2 == 0 => json!(TIERS[n % 3]),
                (_, n) => json!(format!("By hand {n}")),
            };
            brevo.edit_attributes(&email, &[(name, new.clone())]).then(|| format!("Brevo {email}: {name} = {new}"))?
        }
        Edit::BrevoUnsubscribe(who) => {
            let email = their(*who)?;
            return brevo.unsubscribe(&email).then(|| (format!("Brevo {email}: opts out"), Meaning::Consent));
        }
        Edit::BrevoBlocklist(who) => {
            let email = their(*who)?;
            return brevo.blocklist(&email).then(|| (format!("Brevo {email}: blocklisted by hand"), Meaning::Consent));
        }
        Edit::BrevoBounce(who) => {
            let email = their(*who)?;
            return brevo.hard_bounce(&email).then(|| (format!("Brevo {email}: hard bounce"), Meaning::Consent));
        }
        Edit::BrevoSpam(who) => {
            let email = their(*who)?;
            return brevo.spam(&email).then(|| (format!("Brevo {email}: reports spam"), Meaning::Consent));
        }
        Edit::BrevoResubscribe(who) => {
            let email = their(*who)?;
            return brevo.resubscribe(&email).then(|| (format!("Brevo {email}: opts in"), Meaning::Consent));
        }
        Edit::BrevoLeaveList(who, which) => {
            let (email, (id, name)) = (their(*who)?, list(*which)?);
            brevo.leave_list(&email, id).then(|| format!("Brevo {email}: leaves {name}"))?
        }
        Edit::BrevoTakeOff(who, which) => {
            let (email, (id, name)) = (their(*who)?, list(*which)?);
            brevo.remove_from_list(&email, id).then(|| format!("Brevo {email}: taken off {name}"))?
        }
        Edit::BrevoPutOn(who, which) => {
            let (email, (id, name)) = (their(*who)?, list(*which)?);
            brevo.add_to_list(&email, id).then(|| format!("Brevo {email}: put on {name}"))?
        }
        Edit::BrevoAddress(who, new) => {
            let (email, new) = (their(*who)?, address(*new));
            return brevo
                .change_email(&email, &new)
                .then(|| (format!("Brevo {email}: address now {new}"), Meaning::Rename));
        }
        Edit::BrevoDelete(who) => {
            let email = their(*who)?;
            brevo.delete(&email).then(|| format!("Brevo {email}: deleted"))?
        }
        Edit::BrevoField(who, source, number) => {
            let email = known_as(*who).or_else(|| their(*who))?;
            let new = given(*source, *number);
            if new.iter().any(|(name, _)| !brevo.attribute_types().contains_key(*name)) {
                return None;
            }
            brevo.edit_attributes(&email, &new).then(|| format!("Brevo {email}: {new:?}"))?
        }
        Edit::BrevoVip(who, on) => {
            let (email, id) = (known_as(*who).or_else(|| their(*who))?, brevo.list_id("VIPs")?);
            let done = if *on { brevo.add_to_list(&email, id) } else { brevo.remove_from_list(&email, id) };
            done.then(|| format!("Brevo {email}: {} VIPs", if *on { "put on" } else { "taken off" }))?
        }
        Edit::BrevoLeaveVip(who) => {
            let (email, id) = (known_as(*who).or_else(|| their(*who))?, brevo.list_id("VIPs")?);
            brevo.leave_list(&email, id).then(|| format!("Brevo {email}: leaves VIPs"))?
        }
        Edit::Firm(edit) => companies::act(edit, intercom, brevo)?,
    };
    Some((text, Meaning::None))
}
