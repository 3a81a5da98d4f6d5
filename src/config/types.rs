//! The typed config: what the rest of the program reads.

use super::errors::{ConfigErrors, Diagnostic};
use crate::mapping::{Defaults, Expression};
use crate::model::{BrevoListId, Role, Sides};
use chrono::{DateTime, TimeDelta, Utc};
use secrecy::SecretString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use url::Url;

/// A whole config, checked and with its defaults filled in.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file it came from.
    pub source: PathBuf,
    /// `connectors.intercom`.
    pub intercom: IntercomConfig,
    /// `connectors.brevo`.
    pub brevo: BrevoConfig,
    /// `server`.
    pub server: ServerConfig,
    /// `state`.
    pub state: StateConfig,
    /// `schedule`.
    pub schedule: ScheduleConfig,
    /// `limits`.
    pub limits: LimitsConfig,
    /// `safety`.
    pub safety: SafetyConfig,
    /// `contacts` and `phone`.
    pub contacts: ContactsConfig,
    /// How opt-outs travel.
    pub consent: ConsentConfig,
    /// `events`.
    pub events: EventsConfig,
    /// `field_mapping` and `mappings`, or the default mapping.
    pub mapping: crate::mapping::Mapping,
    /// Which fields of company objects are kept in step; `None`: company objects are left alone.
    pub companies: Option<crate::mapping::Mapping>,
    /// What loads, but probably not as meant.
    pub warnings: Vec<Diagnostic>,
    /// Credentials that are nowhere to be found. Checking a config does not need them; calling an API does.
    pub(super) missing_credentials: Vec<Diagnostic>,
}

impl Config {
    /// Fails if a credential that a sync needs is neither in the file nor in the environment.
    pub fn require_credentials(&self) -> Result<(), ConfigErrors> {
        if self.missing_credentials.is_empty() {
            Ok(())
        } else {
            Err(ConfigErrors::new(self.missing_credentials.clone()))
        }
    }
}

/// The Intercom workspace.
#[derive(Debug, Clone)]
pub struct IntercomConfig {
    /// Whether anything is read from it.
    pub enabled: bool,
    /// Access token.
    pub access_token: Option<SecretString>,
    /// What webhooks are signed with. Without it the receiver does not start.
    pub client_secret: Option<SecretString>,
    /// Where the workspace's data lives.
    pub region: Region,
    /// `Intercom-Version` of every request (but the merge probe).
    pub api_version: String,
    /// Address of the API: the region's own, unless the config names another.
    pub base_url: Url,
    /// What is synced.
    pub sync: SyncSwitches,
    /// How fields travel that do not say it, and addresses.
    pub defaults: Defaults,
    /// Lists that contacts are put on.
    pub lists: ListsConfig,
    /// More detail in the log.
    pub debug: bool,
    /// How much is logged, if the config says.
    pub log_level: Option<LogLevel>,
    /// One line in the log for each notification.
    pub log_webhooks: bool,
}

/// Where a workspace's data lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Region {
    /// United States.
    Us,
    /// European Union.
    Eu,
    /// Australia.
    Au,
}

impl Region {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Us, Self::Eu, Self::Au];

    /// As the config writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Us => "us",
            Self::Eu => "eu",
            Self::Au => "au",
        }
    }

    /// The host of the region's API.
    pub fn host(self) -> &'static str {
        match self {
            Self::Us => "api.intercom.io",
            Self::Eu => "api.eu.intercom.io",
            Self::Au => "api.au.intercom.io",
        }
    }
}

/// What is synced. Each is on unless the config switches it off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SyncSwitches {
    /// Users and leads.
    pub contacts: bool,
    /// Conversations, as figures of their contacts.
    pub conversations: bool,
    /// Companies, as fields of their contacts.
    pub companies: bool,
    /// Events about conversations.
    pub events: bool,
    /// Tags of contacts, their companies and their conversations.
    pub tags: bool,
}

/// Lists that contacts are put on. `None`: not asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ListsConfig {
    /// Every contact with the role user.
    pub all_users: Option<ListRef>,
    /// Every lead, until it signs up.
    pub leads: Option<ListRef>,
    /// Everybody with an open conversation.
    pub active_conversations: Option<ListRef>,
}

/// A Brevo list.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum ListRef {
    /// By id: it has to exist.
    Id(BrevoListId),
    /// By name: created if missing, in a folder of ours.
    Name(String),
}

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// What an operator must act on.
    Error,
    /// What was unexpected.
    Warn,
    /// What happens.
    Info,
    /// How it happens; `verbose` too.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// As `tracing` writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// The Brevo account.
#[derive(Debug, Clone)]
pub struct BrevoConfig {
    /// API key (v3).
    pub api_key: Option<SecretString>,
    /// Address of the API, version included.
    pub base_url: Url,
    /// The key's name in Brevo, by which webhooks say who made a change.
    pub api_key_name: Option<String>,
    /// Brevo's webhooks.
    pub webhooks: BrevoWebhooks,
}

/// How Brevo's webhooks come.
#[derive(Debug, Clone)]
pub struct BrevoWebhooks {
    /// How Brevo proves that they are its own. Without it the receiver does not start.
    pub auth: Option<WebhookAuth>,
    /// Whether they are registered to come in batches.
    pub batched: bool,
    /// Whether opens, clicks and deliveries are registered, too.
    pub activity: bool,
}

/// How Brevo proves that a webhook is its own: it signs nothing, but sends a secret along.
#[derive(Debug, Clone)]
pub enum WebhookAuth {
    /// As a bearer token.
    Bearer(SecretString),
    /// As the password of this user.
    Basic(String, SecretString),
    /// In a header of this name.
    Header(http::HeaderName, SecretString),
}

/// The webhook receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerConfig {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Under which address the vendors reach it: what webhooks are registered with.
    pub public_url: Option<Url>,
}

/// What the program remembers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateConfig {
    /// The database. A relative path was resolved against the config file's folder.
    pub path: PathBuf,
}

/// When what is read.
#[derive(Debug, Clone)]
pub struct ScheduleConfig {
    /// Intercom contacts.
    pub contacts: ResourceSchedule,
    /// Intercom companies. They have no incremental reading: Intercom cannot tell which changed.
    pub companies: ResourceSchedule,
    /// Intercom conversations.
    pub conversations: ResourceSchedule,
    /// Brevo companies.
    pub brevo_companies: ResourceSchedule,
    /// Brevo contacts.
    pub brevo_contacts: ResourceSchedule,
    /// The part of an interval left to chance, from 0 to 1.
    pub jitter: f64,
}

/// When one resource is read.
#[derive(Debug, Clone)]
pub struct ResourceSchedule {
    /// What changed since last time.
    pub incremental: Every,
    /// Everything.
    pub full: Every,
}

/// When something recurs.
#[derive(Debug, Clone)]
pub enum Every {
    /// So long after the last time.
    Interval(Duration),
    /// At the times of a cron line, in a timezone.
    Cron(Box<croner::Cron>, chrono_tz::Tz),
    /// Only when somebody asks.
    Never,
}

impl Every {
    /// When it is due next after `last` (the beginning of the last time); `None` if never. An interval is stretched by
    /// up to `jitter` of itself, as `chance` (from 0 to 1) says; a cron line is a promise and is kept to the minute.
    pub fn next_after(&self, last: DateTime<Utc>, jitter: f64, chance: f64) -> Option<DateTime<Utc>> {
        match self {
            Self::Never => None,
            Self::Interval(interval) => {
                let stretch = interval.as_secs_f64() * (jitter * chance).clamp(0.0, 1.0);
                let stretch = Duration::try_from_secs_f64(stretch).unwrap_or_default();
                last.checked_add_signed(TimeDelta::from_std(interval.saturating_add(stretch)).ok()?)
            }
            Self::Cron(cron, zone) => {
                let next = cron.find_next_occurrence(&last.with_timezone(zone), false).ok()?;
                Some(next.with_timezone(&Utc))
            }
        }
    }
}

/// How much of each API's budget is used.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LimitsConfig {
    /// Intercom's.
    pub intercom: IntercomLimits,
    /// Brevo's.
    pub brevo: BrevoLimits,
}

/// How much of Intercom's budget is used.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct IntercomLimits {
    /// Sets a ceiling; without it, what the headers say holds.
    pub plan: Option<Plan>,
    /// Our share of it, above 0 and at most 1.
    pub share: f64,
}

/// An Intercom plan, for its ceiling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Plan {
    /// 20 requests per 10 seconds.
    Starter,
    /// 50 requests per 10 seconds.
    Pro,
    /// 100 requests per 10 seconds.
    Premium,
}

impl Plan {
    /// Requests per 10 seconds.
    pub fn ceiling(self) -> u32 {
        match self {
            Self::Starter => 20,
            Self::Pro => 50,
            Self::Premium => 100,
        }
    }
}

/// How much of Brevo's budget is used.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BrevoLimits {
    /// Our share of it, above 0 and at most 1.
    pub share: f64,
    /// From this many pending contacts on, they go by import.
    pub import_threshold: usize,
}

/// How much may be done before somebody is asked: in an hour, and ten times as much in a day.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SafetyConfig {
    /// Contacts made.
    pub max_creates: u64,
    /// Records deleted.
    pub max_deletes: u64,
    /// People opted out.
    pub max_optouts: u64,
    /// Contacts of which a field is cleared.
    pub max_blanked: u64,
    /// The most of each in a day, as a share of the people that are in step; above 0 and at most 1.
    pub max_share: f64,
}

/// How contacts are treated.
#[derive(Debug, Clone, PartialEq)]
pub struct ContactsConfig {
    /// Whose record is written on each side; `None`: everybody's.
    pub filter: Sides<Option<Expression>>,
    /// Who does not match any more is taken off the lists that the mapping had put them on.
    pub unlist_unmatched: bool,
    /// What becomes of somebody's records on each side once they are gone on the other.
    pub on_delete: Sides<OnDelete>,
    /// Those without an e-mail address.
    pub without_email: WithoutEmail,
    /// Country of phone numbers written without their country code: two capital letters.
    pub default_phone_region: Option<String>,
    /// Those that Intercom has and Brevo has not are made there.
    pub create_in_brevo: bool,
    /// As what those that Brevo has and Intercom has not are made there; `None`: they are not.
    pub create_in_intercom: Option<Role>,
    /// Contacts that exist in Brevo are changed; otherwise only opted out.
    pub update_in_brevo: bool,
    /// The same in Intercom.
    pub update_in_intercom: bool,
    /// Archived matches in Intercom.
    pub archived: Archived,
}

/// What becomes of an archived Intercom contact that is the match of a Brevo contact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Archived {
    /// Linked, and left archived.
    Link,
    /// Brought back.
    Unarchive,
    /// Left alone, and listed.
    Skip,
}

/// What becomes of a record of somebody who is gone on the other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum OnDelete {
    /// Nothing: it is listed.
    Keep,
    /// It is taken off the lists that the mapping puts people on; in Intercom, the tags that go with lists are taken away.
    Unlist,
    /// It is opted out of e-mail.
    Blocklist,
    /// It is archived, in Intercom.
    Archive,
    /// It is deleted.
    Delete,
}

impl OnDelete {
    /// As the config writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Unlist => "unlist",
            Self::Blocklist => "blocklist",
            Self::Archive => "archive",
            Self::Delete => "delete",
        }
    }

    pub(super) fn named(word: &str) -> Option<Self> {
        let all = [Self::Keep, Self::Unlist, Self::Blocklist, Self::Archive, Self::Delete];
        all.into_iter().find(|action| action.as_str() == word)
    }
}

/// What becomes of contacts without an e-mail address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum WithoutEmail {
    /// Counted and listed, not written.
    Skip,
    /// Matched and created by phone number.
    ByPhone,
}

/// How opt-outs travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConsentConfig {
    /// Between which sides.
    pub direction: ConsentDirection,
    /// Whether an opt-in travels, too, if it is newer than the opt-out.
    pub resubscribe: bool,
}

/// Which way an opt-out of e-mail travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConsentDirection {
    /// One found in Brevo stands there and is listed.
    IntercomToBrevo,
    /// One found in Brevo reaches Intercom, too.
    Both,
}

impl ConsentDirection {
    /// As the config writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::IntercomToBrevo => "intercom_to_brevo",
            Self::Both => "both",
        }
    }
}

/// Events sent to Brevo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventsConfig {
    /// What is older than this when first seen is not sent.
    pub max_age: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn an_interval_is_stretched_by_chance_and_never_shortened() {
        let every = Every::Interval(Duration::from_secs(100));
        let last = at("2026-01-01T00:00:00Z");
        let seconds = |jitter, chance| (every.next_after(last, jitter, chance).unwrap() - last).num_seconds();
        assert_eq!((seconds(0.0, 0.9), seconds(0.1, 0.0), seconds(0.1, 0.5)), (100, 100, 105));
        assert_eq!(Every::Never.next_after(last, 0.1, 0.5), None);
        assert_eq!(Every::Interval(Duration::MAX).next_after(last, 0.0, 0.0), None);
    }

    #[test]
    fn a_cron_line_is_meant_in_its_zone_summer_and_winter() {
        let every = Every::Cron(Box::new("30 3 * * *".parse().unwrap()), chrono_tz::Europe::Oslo);
        let next = |last| every.next_after(at(last), 0.5, 0.5).unwrap();
        assert_eq!(next("2026-01-10T00:00:00Z"), at("2026-01-10T02:30:00Z"));
        assert_eq!(next("2026-07-10T00:00:00Z"), at("2026-07-10T01:30:00Z"));
        assert_eq!(next("2026-07-10T01:30:00Z"), at("2026-07-11T01:30:00Z"));
    }

    #[test]
    fn an_hour_that_the_clocks_skip_or_repeat_is_no_trouble() {
        let every = Every::Cron(Box::new("30 2 * * *".parse().unwrap()), chrono_tz::Europe::Oslo);
        // 2026-03-29: 02:00 becomes 03:00. 2026-10-25: 03:00 becomes 02:00.
        for start in ["2026-03-28T12:00:00Z", "2026-10-24T12:00:00Z"] {
            let mut last = at(start);
            for _ in 0..4 {
                let next = every.next_after(last, 0.0, 0.0).unwrap();
                let hours = (next - last).num_hours();
                assert!(next > last && hours <= 49, "{last} → {next}");
                last = next;
            }
        }
    }
}
