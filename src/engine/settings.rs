//! What a connection is told to do, as far as the engine needs it.

use crate::config::{Archived, Config, ConsentDirection, OnDelete, SyncSwitches, WithoutEmail};
use crate::mapping::{Defaults, Expression, Mapping};
use crate::model::{Role, Sides};
use crate::reconcile::harm::Limits;
use std::time::Duration;

/// What a connection is told to do.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Fields and lists, not fitted to the account yet.
    pub mapping: Mapping,
    /// Which fields of company objects, not fitted to the accounts yet; `None`: they are not kept in step.
    pub companies: Option<Mapping>,
    /// What is synced.
    pub sync: SyncSwitches,
    /// What becomes of contacts without an address.
    pub without_email: WithoutEmail,
    /// Events older than this when first seen are not sent.
    pub events_max_age: Duration,
    /// Country of phones that are written without their country code.
    pub phone_region: Option<String>,
    /// From this many pending contacts on, they go by import.
    pub import_threshold: usize,
    /// How much may be done before somebody is asked.
    pub safety: Limits,
    /// Opt-outs travel from Brevo to Intercom, too.
    pub tells_intercom: bool,
    /// Opt-ins travel, too.
    pub resubscribes: bool,
    /// Whose record is written on each side; `None`: everybody's.
    pub filter: Sides<Option<Expression>>,
    /// The same of companies.
    pub company_filter: Sides<Option<Expression>>,
    /// Which conversations count.
    pub conversation_filter: Option<Expression>,
    /// Who does not match any more is taken off the lists that the mapping had put them on.
    pub unlist_unmatched: bool,
    /// What becomes of somebody's records on each side once they are gone on the other.
    pub on_delete: Sides<OnDelete>,
    /// Who is missing in Brevo is made there.
    pub creates_in_brevo: bool,
    /// As what whoever is missing in Intercom is made there; `None`: they are not.
    pub creates_in_intercom: Option<Role>,
    /// Whether contacts that exist are changed; if not, they are still opted out.
    pub updates: Sides<bool>,
    /// Archived matches in Intercom.
    pub archived: Archived,
    /// Whether an address that is changed in Brevo is followed in Intercom, and whose stands where both changed it.
    pub addresses: Defaults,
    /// Our API key's name in Brevo: what webhooks say that it changed needs no read.
    pub brevo_key_name: Option<String>,
    /// Log one line for each notification.
    pub log_webhooks: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mapping: Mapping::default(),
            companies: None,
            sync: SyncSwitches { contacts: true, conversations: true, companies: true, events: true, tags: true },
            without_email: WithoutEmail::Skip,
            events_max_age: Duration::from_secs(24 * 60 * 60),
            phone_region: None,
            import_threshold: 300,
            safety: Limits::default(),
            creates_in_brevo: true,
            creates_in_intercom: None,
            updates: Sides { intercom: true, brevo: true },
            archived: Archived::Link,
            addresses: Defaults::default(),
            tells_intercom: true,
            resubscribes: false,
            filter: Sides::default(),
            company_filter: Sides::default(),
            conversation_filter: None,
            unlist_unmatched: false,
            on_delete: Sides { intercom: OnDelete::Keep, brevo: OnDelete::Keep },
            brevo_key_name: None,
            log_webhooks: false,
        }
    }
}

impl Settings {
    /// What a config says.
    pub fn from_config(config: &Config) -> Self {
        // The lists of `connectors.intercom.lists` are among the mapping's already.
        Self {
            mapping: config.mapping.clone(),
            companies: config.companies.clone().filter(|_| config.intercom.sync.companies),
            sync: config.intercom.sync,
            without_email: config.contacts.without_email,
            events_max_age: config.events.max_age,
            phone_region: config.contacts.default_phone_region.clone(),
            import_threshold: config.limits.brevo.import_threshold,
            safety: Limits {
                creates: config.safety.max_creates,
                deletes: config.safety.max_deletes,
                opt_outs: config.safety.max_optouts,
                blanked: config.safety.max_blanked,
                share: config.safety.max_share,
            },
            tells_intercom: config.consent.direction == ConsentDirection::Both,
            resubscribes: config.consent.resubscribe,
            filter: config.contacts.filter.clone(),
            company_filter: config.company_filter.clone(),
            conversation_filter: config.conversation_filter.clone(),
            unlist_unmatched: config.contacts.unlist_unmatched,
            on_delete: config.contacts.on_delete,
            creates_in_brevo: config.contacts.create_in_brevo,
            creates_in_intercom: config.contacts.create_in_intercom,
            updates: Sides { intercom: config.contacts.update_in_intercom, brevo: config.contacts.update_in_brevo },
            archived: config.contacts.archived,
            addresses: config.intercom.defaults,
            brevo_key_name: config.brevo.api_key_name.clone(),
            log_webhooks: config.intercom.log_webhooks,
        }
    }
}
