//! What a connection is told to do, as far as the engine needs it.

use crate::config::{Config, ConsentDirection, SyncSwitches, WithoutEmail};
use crate::mapping::Mapping;
use crate::reconcile::harm::Limits;
use std::time::Duration;

/// What a connection is told to do.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Fields and lists, not fitted to the account yet.
    pub mapping: Mapping,
    /// What is synced.
    pub sync: SyncSwitches,
    /// What becomes of contacts without an address.
    pub without_email: WithoutEmail,
    /// Events older than this when first seen are not sent.
    pub events_max_age: Duration,
    /// From this many pending contacts on, they go by import.
    pub import_threshold: usize,
    /// How much may be done before somebody is asked.
    pub safety: Limits,
    /// Opt-outs travel from Brevo to Intercom, too.
    pub tells_intercom: bool,
    /// Our API key's name in Brevo: what webhooks say that it changed needs no read.
    pub brevo_key_name: Option<String>,
    /// Log one line for each notification.
    pub log_webhooks: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mapping: Mapping::default(),
            sync: SyncSwitches { contacts: true, conversations: true, companies: true, events: true, tags: true },
            without_email: WithoutEmail::Skip,
            events_max_age: Duration::from_secs(24 * 60 * 60),
            import_threshold: 300,
            safety: Limits::default(),
            tells_intercom: true,
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
            sync: config.intercom.sync,
            without_email: config.contacts.without_email,
            events_max_age: config.events.max_age,
            import_threshold: config.limits.brevo.import_threshold,
            safety: Limits {
                creates: config.safety.max_creates,
                deletes: config.safety.max_deletes,
                opt_outs: config.safety.max_optouts,
                blanked: config.safety.max_blanked,
                share: config.safety.max_share,
            },
            tells_intercom: config.consent.direction == ConsentDirection::Both,
            brevo_key_name: config.brevo.api_key_name.clone(),
            log_webhooks: config.intercom.log_webhooks,
        }
    }
}
