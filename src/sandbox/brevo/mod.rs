//! A stateful double of Brevo's API v3: contacts, lists, attributes, imports, companies, events and webhooks, with the
//! behaviour that loses data for a naive client.
//!
//! It is deterministic: ids are counted, time is the injected clock's, and whatever looks random comes from the seed. Where
//! ids must not come back in another life of the account, they are counted on from the clock (`new_ids_by_the_clock`).

mod attributes;
mod companies;
mod contacts;
mod directory;
mod events;
mod hands;
mod imports;
mod limits;
mod lists;
mod reply;
mod serve;
mod state;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_more;
mod webhooks;
mod world;

pub use companies::ShownCompany;
pub use directory::Contact;
pub use events::ReceivedEvent;
pub use hands::ContactSeed;
pub use world::WorldShares;

use crate::doors::Clock;
use crate::sandbox::shared::{Fault, Knobs, OutgoingWebhook, RequestLog};
use state::State;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The names that an account gives to the attributes for first and last name: its language when it was opened decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AccountLanguage {
    /// FIRSTNAME, LASTNAME.
    #[default]
    English,
    /// PRENOM, NOM.
    French,
    /// VORNAME, NACHNAME.
    German,
}

impl AccountLanguage {
    /// The attribute names for first and last name.
    pub fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::English => ("FIRSTNAME", "LASTNAME"),
            Self::French => ("PRENOM", "NOM"),
            Self::German => ("VORNAME", "NACHNAME"),
        }
    }
}

/// What the number of a page of companies counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CompanyPages {
    /// Pages from 1 on; 0 is 1, too.
    #[default]
    FromOne,
    /// Pages from 0 on.
    FromZero,
    /// Companies.
    Offset,
}

/// What kind of account to play.
#[derive(Clone)]
pub struct BrevoOptions {
    /// Makes company ids and the filled world.
    pub seed: u64,
    /// Wall time.
    pub clock: Arc<dyn Clock>,
    /// The one key that is let in.
    pub api_key: String,
    /// The key's name, as webhooks carry it when a change came through the API.
    pub api_key_name: String,
    /// The account's fingerprint.
    pub organization_id: String,
    /// The account's own contact, which cannot be deleted.
    pub owner_email: String,
    /// The offset of the account's zone, which its timestamps carry.
    pub utc_offset_minutes: i32,
    /// Decides the default attribute names.
    pub language: AccountLanguage,
    /// How long an import lies in the queue and is worked on.
    pub import_delay: Duration,
}

impl BrevoOptions {
    /// An English account in Paris summer time, with imports that take five seconds.
    pub fn new(seed: u64, clock: Arc<dyn Clock>) -> Self {
        Self {
            seed,
            clock,
            api_key: "xkeysib-sandbox".into(),
            api_key_name: "linkspan".into(),
            organization_id: "sandbox-organization".into(),
            owner_email: "owner@sandbox.example".into(),
            utc_offset_minutes: 120,
            language: AccountLanguage::English,
            import_delay: Duration::from_secs(5),
        }
    }
}

impl std::fmt::Debug for BrevoOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BrevoOptions").field("seed", &self.seed).finish_non_exhaustive()
    }
}

/// What can be turned while it runs. The defaults are the pessimistic reading where Brevo's behaviour is not known.
#[derive(Debug, Clone)]
pub struct BrevoKnobs {
    /// Latency, faults, limits: the same for both vendors.
    pub common: Knobs,
    /// Answer identifier conflicts with `invalid_parameter` instead of `duplicate_parameter`: Brevo changed from one to
    /// the other in 2026.
    pub duplicates_as_invalid: bool,
    /// Answer 400 to unknown attributes on POST and PUT; else skip them silently. Both were reported.
    pub refuse_unknown_attributes: bool,
    /// An import without `emailBlacklist: true` that updates existing contacts re-subscribes the blocklisted ones.
    pub import_resubscribes: bool,
    /// Text values are cut after that many characters, silently.
    pub text_limit: Option<usize>,
    /// How many coming writes of single contacts answer 425.
    pub too_early: u32,
    /// Every call answers 401 because of an unknown address.
    pub ip_blocked: bool,
    /// Answer list additions and removals as `{"success", "failure"}` without the outer `contacts`, as the vendor's
    /// examples show.
    pub flat_list_answers: bool,
    /// Show `listUnsubscribed: []`, as described, instead of the null that live accounts answer.
    pub described_list_unsubscribed: bool,
    /// Imports fire webhooks too (with an empty `api_key_name`).
    pub import_webhooks: bool,
    /// What the number of a page of companies counts: the description does not say.
    pub company_pages: CompanyPages,
    /// A page of companies shows no more than these, whatever was asked for.
    pub companies_a_page: Option<usize>,
    /// To ask for more companies a page than these is an error.
    pub most_companies_a_page: Option<usize>,
    /// Pass over filters of companies, as over any parameter that is not understood.
    pub companies_ignore_filters: bool,
    /// Linking a contact with a company is accepted, and nothing is done.
    pub company_links_do_not_stick: bool,
    /// Values of this attribute of companies are refused, and with them all else that the request says.
    pub company_refuses: Option<String>,
    /// An import of companies passes over this column without a word.
    pub company_imports_drop: Option<String>,
    /// Lists of companies show one only so long after it was made, as an index that lags.
    pub companies_listed_after: Duration,
    /// An import of companies links the contacts that its rows name; else it makes the companies only.
    pub company_imports_link: bool,
    /// An import of companies calls itself completed, and has changed none of those that are there.
    pub company_imports_change_nothing: bool,
    /// Requests per second on contacts and on POST /events; `None`: the published 10.
    pub per_second: Option<u32>,
    /// Requests per hour on everything else; `None`: the published 100.
    pub per_hour: Option<u32>,
}

impl Default for BrevoKnobs {
    fn default() -> Self {
        Self {
            companies_a_page: None,
            most_companies_a_page: None,
            common: Knobs::default(),
            duplicates_as_invalid: false,
            refuse_unknown_attributes: true,
            import_resubscribes: true,
            text_limit: None,
            too_early: 0,
            ip_blocked: false,
            flat_list_answers: false,
            described_list_unsubscribed: false,
            import_webhooks: true,
            company_pages: CompanyPages::FromOne,
            companies_ignore_filters: false,
            company_links_do_not_stick: false,
            company_refuses: None,
            company_imports_drop: None,
            companies_listed_after: Duration::ZERO,
            company_imports_link: true,
            company_imports_change_nothing: false,
            per_second: None,
            per_hour: None,
        }
    }
}

struct Inner {
    options: BrevoOptions,
    state: Mutex<State>,
    log: RequestLog,
    webhooks_out: tokio::sync::Notify,
}

/// A Brevo account that lives in memory. Clones are the same account.
#[derive(Clone)]
pub struct BrevoSandbox(Arc<Inner>);

impl std::fmt::Debug for BrevoSandbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BrevoSandbox")
    }
}

impl BrevoSandbox {
    /// An account without contacts, with the attributes, the folder and the list that every new account has.
    pub fn new(options: BrevoOptions) -> Self {
        let state = State::new(&options);
        Self(Arc::new(Inner {
            options,
            state: Mutex::new(state),
            log: RequestLog::default(),
            webhooks_out: tokio::sync::Notify::new(),
        }))
    }

    /// Serves the API under `/v3`, and the reports of imports beside it.
    pub fn router(&self) -> axum::Router {
        axum::Router::new().fallback(serve::serve).with_state(self.clone())
    }

    /// Every request that came.
    pub fn log(&self) -> RequestLog {
        self.0.log.clone()
    }

    /// The key that is let in.
    pub fn api_key(&self) -> &str {
        &self.0.options.api_key
    }

    /// The account's fingerprint, as GET /account shows it.
    pub fn organization_id(&self) -> &str {
        &self.0.options.organization_id
    }

    /// Turns knobs.
    pub fn knobs<T>(&self, turn: impl FnOnce(&mut BrevoKnobs) -> T) -> T {
        self.with(|state| turn(&mut state.knobs))
    }

    /// The next request whose method, path and query (`PUT /v3/contacts/7?…`) contain `part` meets this fault.
    pub fn fail(&self, part: &str, fault: Fault) {
        self.knobs(|knobs| knobs.common.faults.push_back((part.to_owned(), fault)));
    }

    /// The webhooks that are due, in order, each one once.
    pub fn take_webhooks(&self) -> Vec<OutgoingWebhook> {
        self.take_deliveries().into_iter().map(|(_, webhook)| webhook).collect()
    }

    /// As [`Self::take_webhooks`], each with the address that its registration names.
    pub fn take_deliveries(&self) -> Vec<(String, OutgoingWebhook)> {
        self.with(State::take_deliveries)
    }

    /// Waits until webhooks may be due. One waiter.
    pub async fn webhooks_due(&self) {
        self.0.webhooks_out.notified().await;
    }

    /// Waits for webhooks and takes them. A batch's window is looked at every second.
    pub async fn next_webhooks(&self) -> Vec<OutgoingWebhook> {
        loop {
            let due = self.0.webhooks_out.notified();
            let webhooks = self.take_webhooks();
            if !webhooks.is_empty() {
                return webhooks;
            }
            // Either: both lead to another look.
            drop(tokio::time::timeout(std::time::Duration::from_secs(1), due).await);
        }
    }

    /// Opens the account: time comes in and imports that are due land before anybody looks.
    fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.set_time(self.0.options.clock.now());
        let seen = look(&mut state);
        if state.has_deliveries() {
            self.0.webhooks_out.notify_one();
        }
        seen
    }
}
