//! The imperative shell around the pure core: observe, plan, push, and remember. The store holds the work; tasks only
//! wake each other.
//!
//! | file | does |
//! |---|---|
//! | `access` | whether the vendors let us in, for `status` |
//! | `prepare` | which accounts these are, which attributes and lists exist, what must be made first |
//! | `pull` | sweeps: page after page into the store, with a durable cursor |
//! | `observe` | one observation → views, dirty marks, events, all in the page's transaction |
//! | `hydrate` | reads by id: what pages and webhooks show only in part |
//! | `confirm` | reads of contacts by id: what a full read did not show |
//! | `missing` | contacts that are not there any more: merged, or deleted? |
//! | `place` | identity: new contacts and changed addresses → links |
//! | `people` | one person's views, gathered from the store, and the plan for them |
//! | `preview` | the same for `mapping preview` |
//! | `explain` | all that is known about one person |
//! | `forget` | somebody is forgotten, but for a keyed hash |
//! | `options` | options of categories and multiple choices, made before they are used |
//! | `push` | plans → requests, by the cheapest route that keeps the promises |
//! | `carry` | opt-outs from Brevo to Intercom |
//! | `write_back` | fields and tags from Brevo to Intercom |
//! | `partings` | what a deletion on one side leads to on the other |
//! | `resubscribe` | opt-ins that travel to the other side |
//! | `readdress` | addresses from Brevo to Intercom |
//! | `create_back` | contacts that Brevo has and Intercom has not |
//! | `firms` | company objects: each of Intercom's with one of Brevo's |
//! | `pick` | conflicts settled by hand |
//! | `answers` | what became of a write |
//! | `verify` | writes of unknown outcome |
//! | `filters` | what the operator's filters say of a record |
//! | `filling` | imports that wait until they are full |
//! | `imports` | bulk writes: sent and watched |
//! | `read_back` | what imports left behind |
//! | `outbox` | events |
//! | `safety` | limits on harm: what may go, and what is held |
//! | `inbox` | webhooks: kept, and Intercom's acted on |
//! | `hints` | Brevo's webhooks acted on |
//! | `cycle` | a whole run: `sync` |
//! | `dry_run` | what a run would do |
//! | `orders` | what other commands ask of a running daemon |
//! | `unread` | what has never been read whole, and rests |
//! | `unreadable` | rows of the state that cannot be read back |
//! | `daemon` | `run`: the schedule, and live work beside it |

mod access;
mod answers;
mod carry;
mod confirm;
mod create_back;
mod cycle;
mod daemon;
mod dry_run;
pub mod explain;
mod filling;
mod filters;
mod firms;
pub mod forget;
mod hints;
mod hydrate;
mod imports;
mod inbox;
mod missing;
mod observe;
mod options;
mod orders;
mod outbox;
mod partings;
mod people;
mod pick;
mod place;
mod prepare;
mod preview;
mod pull;
mod push;
mod read_back;
mod readdress;
mod resubscribe;
mod safety;
mod settings;
mod sound;
mod unread;
mod unreadable;
mod verify;
mod write_back;

pub use access::{Refusal, refusals};
pub use cycle::{Progress, Silent, Stage, Summary, SyncOptions};
pub use daemon::Daemon;
pub use dry_run::{DryRun, NewOptions, Replaced, Replacement};
pub use explain::{Explained, Whom};
pub use firms::{Kept, ReadyFirms, Rehearsal, estimate as company_estimate, spare_of as companies_may_use};
pub use forget::{Forget, Forgotten};
pub use hints::{
    BREVO_LONGEST_BODY, BREVO_WEBHOOK_OURS, BREVO_WEBHOOK_SEEN, BREVO_WEBHOOK_UNKNOWN_EVENT, BREVO_WEBHOOK_UNREADABLE,
};
pub use inbox::{LONGEST_BODY, Received, WEBHOOK_OTHER_WORKSPACE, WEBHOOK_UNKNOWN_TOPIC, WEBHOOK_UNREADABLE};
pub use orders::{Ended, Looked, Order, Step, look, place};
pub use pick::{Pick, Picked};
pub use prepare::Ready;
pub use preview::Preview;
pub use safety::{Approved, Held, WouldHold, approve_in, wants};
pub use settings::Settings;
pub use sound::{Sound, look_at_all};
pub use unreadable::FIELD as UNREADABLE_FIELD;

use crate::doors::Doors;
use crate::mapping::Misfit;
use crate::model::{Side, SideError};
use crate::store::{Store, StoreError};
use arc_swap::ArcSwap;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// How long what is in flight may take to end, once we are asked to stop.
pub const GRACE: Duration = Duration::from_secs(6);

/// Links that are looked at in one transaction.
const BATCH: usize = 500;

/// How long a request that timed out may still land. A read settles our writes only if it began after this, counted
/// from the last attempt (or from the start, after a crash): the client waits 30 s for an answer, and a server or a
/// proxy may hold a request about as long again.
pub const LATE_LANDING: Duration = Duration::from_secs(90);

/// Every kind of notice that is kept for people.
pub const NOTICE_KINDS: [&str; 14] = [
    "archived_in_intercom",
    "brevo_company_gone",
    "brevo_contact_gone",
    "company_twice",
    "consent_diverges",
    "deleted_in_intercom",
    "email_removed",
    "external_id_differs",
    "identity_conflict",
    "import_never_ended",
    "kept_off_list",
    "malformed_email",
    "missing_in_intercom",
    "without_email",
];

/// Why the engine stopped.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A vendor.
    #[error(transparent)]
    Side(#[from] Box<SideError>),
    /// The state.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Attributes of another type than the mapping implies, and lists named by id that are not there: all of them, so
    /// that one look at the config is enough.
    #[error("config and accounts do not fit: {}", in_lines(.0))]
    Unfit(Vec<Misfit>),
    /// A sweep that cannot end well.
    #[error("{side} {resource}: {why}; the sweep was given up and starts again at the next run")]
    Sweep {
        /// Whose.
        side: crate::model::SideName,
        /// Of what.
        resource: &'static str,
        /// What was wrong.
        why: String,
    },
    /// Intercom named no timezone that we know.
    #[error("Intercom names the timezone {0:?}, which is not in the timezone database")]
    Timezone(String),
    /// Asked to stop.
    #[error("stopped")]
    Stopped,
    /// The run came to its end, but every write failed.
    #[error("{}; `linkspan failed list` says why", if *.0 == 1 { "the only write failed".to_owned() } else { format!("every one of {} writes failed", .0) })]
    EverythingFailed(u64),
}

/// One misfit a line, each with what helps.
fn in_lines(misfits: &[Misfit]) -> String {
    let line = |misfit: &Misfit| {
        let help = misfit.help.as_ref().map(|help| format!("; {help}")).unwrap_or_default();
        format!("\n  {misfit}{help}")
    };
    misfits.iter().map(line).collect()
}

impl EngineError {
    /// For the log: without what a vendor says of a record.
    pub(crate) fn for_log(&self) -> String {
        match self {
            Self::Side(error) => error.for_log(),
            other => other.to_string(),
        }
    }

    /// ` → ` and what helps against a vendor's refusal, for those who tell an error in one line. Nothing where it passes:
    /// work goes on by itself.
    fn arrow_to_remedy(&self) -> String {
        let remedy = match self {
            Self::Side(error) if !error.is_transient() => error.remedy(),
            _ => None,
        };
        remedy.map(|remedy| format!(" → {remedy}")).unwrap_or_default()
    }

    /// Whether it is config or mapping that must be changed.
    pub fn is_config(&self) -> bool {
        matches!(self, Self::Unfit(_))
    }
}

/// What a connection is told to do, and what it found out about its accounts under just that. One value: a reload swaps
/// both or neither, and nobody works with half of it.
struct Told {
    settings: Arc<Settings>,
    ready: Option<Arc<Ready>>,
}

/// One Intercom workspace and one Brevo account, kept in step: a value, not a global.
pub struct Connection {
    intercom: Arc<dyn Side>,
    brevo: Arc<dyn Side>,
    store: Store,
    doors: Doors,
    told: ArcSwap<Told>,
    /// Held while the accounts are looked at: a start that takes long must not undo a reload.
    preparing: tokio::sync::Mutex<()>,
    /// Links whose writes are being sent right now, so that live work and a sweep never write one person at once.
    busy: Mutex<BTreeSet<i64>>,
    /// Imports that a push is filling.
    filling: filling::Filling,
    /// How many people are linked, for limits that are shares of them.
    people: safety::People,
    /// Whether what an earlier process left without an answer has been looked after.
    recovered: std::sync::atomic::AtomicBool,
    /// Records that Intercom could not show for now.
    put_off: hydrate::PutOff,
    /// Held while events are being sent: an event that is on its way must not be taken for one that waits.
    events: tokio::sync::Mutex<()>,
    /// Held while opt-outs are being written to Intercom, or verified there.
    telling: tokio::sync::Mutex<()>,
    /// Held while fields and tags are being written to Intercom, or verified there.
    writing_back: tokio::sync::Mutex<()>,
    /// Held while opt-ins are being carried across.
    resubscribing: tokio::sync::Mutex<()>,
    /// Held while what deletions lead to is being done.
    parting: tokio::sync::Mutex<()>,
    /// Held while contacts are being made in Intercom.
    making: tokio::sync::Mutex<()>,
    /// Held while company objects are being kept in step.
    keeping_firms: tokio::sync::Mutex<firms::Round>,
    /// When a read of what has changed in Intercom began last that was read to its end.
    intercom_read_at: Mutex<Option<chrono::DateTime<chrono::Utc>>>,
    /// Rung when there may be something for Intercom.
    tell_bell: Notify,
    /// Held while whom Brevo's webhooks named is being read: nobody is read twice.
    naming: tokio::sync::Mutex<()>,
    /// Held while options are being added to attributes.
    options: tokio::sync::Mutex<()>,
    /// Asked to stop: what is in flight is finished, nothing more is begun.
    winding_down: std::sync::atomic::AtomicBool,
    /// Rung when a webhook has been kept.
    pub(crate) bell: Arc<Notify>,
}

impl Connection {
    /// Puts the parts together. Touches neither network nor disk.
    pub fn new(
        intercom: Arc<dyn Side>,
        brevo: Arc<dyn Side>,
        store: Store,
        doors: Doors,
        settings: Settings,
    ) -> Arc<Self> {
        Arc::new(Self {
            intercom,
            brevo,
            store,
            doors,
            told: ArcSwap::from_pointee(Told { settings: Arc::new(settings), ready: None }),
            preparing: tokio::sync::Mutex::new(()),
            busy: Mutex::default(),
            filling: filling::Filling::default(),
            people: safety::People::default(),
            recovered: std::sync::atomic::AtomicBool::new(false),
            put_off: hydrate::PutOff::default(),
            events: tokio::sync::Mutex::new(()),
            telling: tokio::sync::Mutex::new(()),
            writing_back: tokio::sync::Mutex::new(()),
            resubscribing: tokio::sync::Mutex::new(()),
            parting: tokio::sync::Mutex::new(()),
            making: tokio::sync::Mutex::new(()),
            keeping_firms: tokio::sync::Mutex::default(),
            intercom_read_at: Mutex::default(),
            tell_bell: Notify::new(),
            naming: tokio::sync::Mutex::new(()),
            options: tokio::sync::Mutex::new(()),
            winding_down: std::sync::atomic::AtomicBool::new(false),
            bell: Arc::new(Notify::new()),
        })
    }

    /// The state.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Intercom.
    pub fn intercom(&self) -> &Arc<dyn Side> {
        &self.intercom
    }

    /// Brevo.
    pub fn brevo(&self) -> &Arc<dyn Side> {
        &self.brevo
    }

    /// The doors.
    pub fn doors(&self) -> &Doors {
        &self.doors
    }

    /// What it is told to do.
    pub fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.told.load().settings)
    }

    /// What [`Self::prepare`] found out, if it has run.
    pub fn ready(&self) -> Option<Arc<Ready>> {
        self.told.load().ready.clone()
    }

    /// Settings and what was found out under them, of one moment.
    fn require_told(&self) -> Result<(Arc<Settings>, Arc<Ready>), EngineError> {
        let told = self.told.load();
        let ready = told.ready.clone().ok_or(EngineError::Stopped)?;
        Ok((Arc::clone(&told.settings), ready))
    }

    /// Asks to stop: what is in flight is finished and recorded, nothing more is begun, and whatever is at work ends with
    /// [`EngineError::Stopped`] at its next step.
    pub fn wind_down(&self) {
        self.winding_down.store(true, std::sync::atomic::Ordering::Relaxed);
    }

    /// Nothing is at work any more: the connection may be used again.
    fn wound_down(&self) {
        self.winding_down.store(false, std::sync::atomic::Ordering::Relaxed);
    }

    /// Between two steps.
    fn go_on(&self) -> Result<(), EngineError> {
        let stopped = self.winding_down.load(std::sync::atomic::Ordering::Relaxed);
        if stopped { Err(EngineError::Stopped) } else { Ok(()) }
    }

    /// Rings when a webhook has been kept.
    pub fn bell(&self) -> Arc<Notify> {
        Arc::clone(&self.bell)
    }

    fn now(&self) -> chrono::DateTime<chrono::Utc> {
        self.doors.clock.now()
    }

    /// Claims links for sending; those that somebody else is sending stay out.
    fn claim(&self, links: impl IntoIterator<Item = i64>) -> Claim<'_> {
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        let claimed = links.into_iter().filter(|link| busy.insert(*link)).collect();
        Claim { busy: &self.busy, claimed }
    }
}

/// Links that are ours to send until this is dropped.
struct Claim<'a> {
    busy: &'a Mutex<BTreeSet<i64>>,
    claimed: BTreeSet<i64>,
}

impl Claim<'_> {
    /// Gives back all but these.
    fn keep(&mut self, these: &BTreeSet<i64>) {
        let done: Vec<i64> = self.claimed.difference(these).copied().collect();
        self.release(done);
    }

    /// Gives these back.
    fn release(&mut self, these: impl IntoIterator<Item = i64>) {
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        for link in these {
            if self.claimed.remove(&link) {
                busy.remove(&link);
            }
        }
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.keep(&BTreeSet::new());
    }
}
