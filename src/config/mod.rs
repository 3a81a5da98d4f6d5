//! Load, interpolate, validate: from YAML to a typed [`Config`], or to everything that is wrong with it.
//!
//! | file | what it does |
//! |---|---|
//! | `document` | YAML → a tree that knows where everything stands |
//! | `interpolate` | `${VAR}`, `${VAR:-default}`, `$$` |
//! | `keys` | the table of all keys, the walker that checks a tree against it, and the JSON Schema written from it |
//! | `load` | reads the files, runs the steps, builds the typed config |
//! | `types` | what the rest of the program reads |
//! | `unreadable` | what is not YAML, or not even text, in words for people |
//! | `errors`, `mask` | what is shown when something is wrong, and what is never shown |
//!
//! Checking is pure: it needs no network, no credentials and no clock, and it goes on after the first mistake.

mod document;
mod duration;
mod errors;
mod interpolate;
mod keys;
mod load;
mod mask;
mod types;
mod unreadable;

pub use errors::{ConfigErrors, Diagnostic, Severity};
pub use types::{
    Archived, BrevoConfig, BrevoLimits, BrevoWebhooks, Config, ConsentConfig, ConsentDirection, ContactsConfig,
    EventsConfig, Every, IntercomConfig, IntercomLimits, LimitsConfig, ListRef, ListsConfig, LogLevel, OnDelete, Plan,
    Region, ResourceSchedule, SafetyConfig, ScheduleConfig, ServerConfig, StateConfig, SyncSwitches, WebhookAuth,
    WithoutEmail,
};

/// The commented example that ships with the program: every key that works, once.
pub const EXAMPLE: &str = include_str!("../../config.example.yaml");

/// JSON Schema (draft 2020-12) of a config file, for editors and for `config schema`.
pub fn schema() -> serde_json::Value {
    keys::schema()
}
