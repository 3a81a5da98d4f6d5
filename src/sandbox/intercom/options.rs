//! How the workspace is set up.

use crate::doors::{Clock, SystemClock};
use std::sync::Arc;
use std::time::Duration;

/// Which form conversation payloads have in webhooks. It follows the app's setting, not the request's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WebhookGeneration {
    /// Up to 2.14: ISO strings in the statistics, HTML in bodies.
    #[default]
    V2_11,
    /// From 2.15: unix seconds, plain text.
    V2_15,
}

/// How the workspace is set up.
#[derive(Clone)]
pub struct IntercomOptions {
    /// The same seed gives the same world with the same ids, and, under the same clock, the same ids later, too.
    pub seed: u64,
    /// The vendor's clock: `Date` headers, `updated_at`, windows.
    pub clock: Arc<dyn Clock>,
    /// The zone whose days contact search goes by.
    pub timezone: chrono_tz::Tz,
    /// The workspace's id (`app.id_code`, webhooks' `app_id`).
    pub app_id: String,
    /// The only token that is let in.
    pub access_token: String,
    /// Signs webhooks.
    pub client_secret: String,
    /// How long a new contact is missing from search.
    pub index_lag: Duration,
    /// How the company scroll ends: `false` with an empty page (as documented), `true` with 404 (as one connector saw).
    pub scroll_ends_with_404: bool,
    /// The app's version, for webhooks' payloads.
    pub webhook_generation: WebhookGeneration,
    /// Requests per 10 seconds that the headers announce.
    pub rate_limit: u32,
}

impl Default for IntercomOptions {
    fn default() -> Self {
        Self {
            seed: 1,
            clock: Arc::new(SystemClock),
            timezone: chrono_tz::Tz::America__Los_Angeles,
            app_id: "sbx1ntrc".to_owned(),
            access_token: "dG9rOnNhbmRib3gtaW50ZXJjb20=".to_owned(),
            client_secret: "sandbox-intercom-client-secret".to_owned(),
            index_lag: Duration::from_secs(3),
            scroll_ends_with_404: false,
            webhook_generation: WebhookGeneration::V2_11,
            rate_limit: 1_666,
        }
    }
}

impl std::fmt::Debug for IntercomOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IntercomOptions")
            .field("seed", &self.seed)
            .field("timezone", &self.timezone)
            .finish_non_exhaustive()
    }
}
