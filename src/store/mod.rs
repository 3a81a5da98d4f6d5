//! The state: one SQLite file per pair of accounts. All SQL of the program is in this room.
//!
//! | file | tables |
//! |---|---|
//! | `migrations` | the schema |
//! | [`contacts`] | both sides' views of contacts |
//! | `confirm` | contacts that are to be asked for by id |
//! | [`links`] | who is whom, base, our writes on their way, what is to be planned |
//! | [`activity`] | companies, conversations, tags |
//! | [`progress`] | cursors, watermarks, schedule, runs, the pair of accounts |
//! | [`orders`] | what other commands ask the owner of the state to do |
//! | [`queues`] | webhook inbox, event outbox, imports |
//! | [`hints`] | whom Brevo's webhooks named, and who opted out by them |
//! | [`carried`], [`write_backs`] | what travels to Intercom: opt-outs; fields and tags |
//! | [`opt_ins`] | opt-ins that are to travel to the other side |
//! | [`partings`] | who is gone on one side, and what is to be done on the other |
//! | [`harm`] | what was counted against the limits on harm, and what is held |
//! | [`listings`] | failures, notices, conflicts, history, counts |
//! | `rare` | tables that are asked for every contact and mostly are empty |
//! | [`about`] | what is kept about one person, for whoever asks |
//! | [`forget`] | what is left of somebody who was forgotten, and taking out all the rest |
//! | [`upkeep`] | a copy of the file, whether it is sound, room that nobody uses |
//! | `words` | the words that packed records hold numbers for |
//! | `worker` | the thread on which the state is used |

pub mod about;
pub mod activity;
pub mod carried;
mod confirm;
pub mod contacts;
pub mod facts;
pub mod firms;
pub mod forget;
pub mod harm;
pub mod hints;
pub mod links;
pub mod listings;
mod migrations;
pub mod newcomers;
pub mod opt_ins;
pub mod orders;
mod owner;
pub mod partings;
pub mod progress;
pub mod queues;
mod rare;
pub mod readdresses;
pub mod upkeep;
mod words;
mod worker;
pub mod write_backs;

pub use owner::Owner;
use words::Dictionary;
pub use words::{Packed, Packer, Shared};
use worker::Worker;

use crate::model::{BrevoContactId, ConversationId, IntercomCompanyId, IntercomContactId};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Why the state could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk is full: nothing more can be acknowledged until there is room.
    #[error("the disk that holds the state is full")]
    Full,
    /// Another process holds the file for longer than we wait.
    #[error("the state is busy: another process holds it")]
    Busy,
    /// The file is damaged.
    #[error("the state is damaged: {0}")]
    Corrupt(String),
    /// The file was written by a newer version.
    #[error(
        "the state was written by a newer version of linkspan (schema {found}, this one knows {known}); it was not touched"
    )]
    Newer {
        /// Schema version in the file.
        found: usize,
        /// The newest that this program knows.
        known: usize,
    },
    /// The file belongs to another pair of accounts.
    #[error(
        "the state belongs to Intercom workspace {intercom} and Brevo account {brevo}; the configured credentials open another pair; it was not touched"
    )]
    OtherPair {
        /// The workspace it belongs to.
        intercom: String,
        /// The account it belongs to.
        brevo: String,
    },
    /// Another linkspan owns the state.
    #[error("the state is in use by {holder}")]
    Owned {
        /// Who, in words: process id and since when.
        holder: String,
    },
    /// A row cannot be read back.
    #[error("the state holds something unreadable in {what}: {cause}")]
    Decode {
        /// Which table.
        what: &'static str,
        /// Why.
        cause: String,
    },
    /// One record cannot be read back: it holds up nobody else.
    #[error("the state holds something unreadable of {record}: {cause}")]
    Unreadable {
        /// Which.
        record: Record,
        /// Why.
        cause: String,
    },
    /// The file or its folder cannot be opened.
    #[error("cannot open the state at {path}: {cause}")]
    Open {
        /// Where.
        path: PathBuf,
        /// Why.
        cause: String,
    },
    /// Anything else SQLite says.
    #[error("state: {0}")]
    Sqlite(rusqlite::Error),
    /// The system gives no thread for it.
    #[error("state: no thread can be started for it: {0}")]
    Thread(String),
    /// The program is shutting down.
    #[error("state: the program is shutting down")]
    ShutDown,
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full,
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy,
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Corrupt(error.to_string()),
            _ => Self::Sqlite(error),
        }
    }
}

/// A record of the state, by id: nothing personal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// Intercom's view of a contact.
    Intercom(IntercomContactId),
    /// Brevo's view of a contact.
    Brevo(BrevoContactId),
    /// A company.
    Company(IntercomCompanyId),
    /// A conversation.
    Conversation(ConversationId),
    /// What both sides agreed on about a person, or our writes on their way to them.
    Link(i64),
}

impl std::fmt::Display for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Intercom(id) => write!(f, "contact {id}"),
            Self::Brevo(id) => write!(f, "Brevo contact {id}"),
            Self::Company(id) => write!(f, "company {id}"),
            Self::Conversation(id) => write!(f, "conversation {id}"),
            Self::Link(id) => write!(f, "link {id}"),
        }
    }
}

impl StoreError {
    /// The same, where it is known which record could not be read.
    #[must_use]
    pub fn of(self, record: Record) -> Self {
        match self {
            Self::Decode { cause, .. } => Self::Unreadable { record, cause },
            other => other,
        }
    }

    /// The record that could not be read, if that was all.
    pub fn unreadable(&self) -> Option<&Record> {
        match self {
            Self::Unreadable { record, .. } => Some(record),
            _ => None,
        }
    }
}

/// Result of a store call.
pub type Result<T> = std::result::Result<T, StoreError>;

/// How calls reach SQLite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Calling {
    /// On the calling thread: tests, short commands.
    Inline,
    /// The same, and nobody else opens the file meanwhile: it is locked once, not for each transaction. Simulation.
    Alone,
    /// On a thread of its own: production.
    Blocking,
}

/// A handle on the state. Clones share one connection: SQLite has one writer anyway.
#[derive(Clone)]
pub struct Store {
    connection: Arc<Mutex<Connection>>,
    /// Where calls are carried out; `None`: on the calling thread.
    worker: Option<Arc<Worker>>,
    words: Dictionary,
    /// Another process may own the state, and add words.
    beside: bool,
}

/// One transaction. Its methods are spread over this room's files.
pub struct Tx<'a>(&'a Connection, &'a Dictionary, rare::Filled);

impl Store {
    /// Opens or makes the state at `path` for writing, with file mode 0600.
    ///
    /// # Errors
    /// If it cannot be opened, is damaged, or is newer than this program.
    pub fn open(path: &Path, calling: Calling) -> Result<Self> {
        let fail = |cause: String| StoreError::Open { path: path.to_owned(), cause };
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(|error| fail(error.to_string()))?;
        }
        owner::create_private(path).map_err(|error| fail(error.to_string()))?;
        let connection = Connection::open(path).map_err(|error| fail(error.to_string()))?;
        Self::prepare(connection, calling, true)
    }

    /// Opens the state beside a running daemon, for reading only.
    ///
    /// # Errors
    /// If there is none, or it cannot be read.
    pub fn open_read_only(path: &Path) -> Result<Self> {
        let fail = |cause: String| StoreError::Open { path: path.to_owned(), cause };
        if !path.exists() {
            return Err(fail("there is no state yet; `linkspan sync` or `linkspan run` makes it".to_owned()));
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(|error| fail(error.to_string()))?;
        connection.busy_timeout(std::time::Duration::from_secs(5))?;
        migrations::check(&connection)?;
        let connection = Arc::new(Mutex::new(connection));
        Ok(Self { connection, worker: None, words: Dictionary::default(), beside: true })
    }

    /// Opens the state beside its owner, to place an order: makes nothing and migrates nothing.
    ///
    /// # Errors
    /// If there is none, it cannot be written, or its owner is another version of this program.
    pub fn open_beside(path: &Path) -> Result<Self> {
        let fail = |cause: String| StoreError::Open { path: path.to_owned(), cause };
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(|error| fail(error.to_string()))?;
        connection.busy_timeout(std::time::Duration::from_secs(5))?;
        migrations::check(&connection)?;
        if !migrations::is_current(&connection)? {
            return Err(fail("its owner has not brought it up to this version".to_owned()));
        }
        // An order that was confirmed is on the disk.
        connection.pragma_update(None, "synchronous", "FULL")?;
        let connection = Arc::new(Mutex::new(connection));
        Ok(Self { connection, worker: None, words: Dictionary::default(), beside: true })
    }

    /// A passing copy of the state at `path`, taken beside its owner: for finding out what would happen.
    ///
    /// # Errors
    /// If there is none, or it cannot be read.
    pub fn copy_of(path: &Path) -> Result<Self> {
        let source = Self::open_read_only(path)?;
        let mut copy = passing()?;
        let source = source.connection.lock().unwrap_or_else(PoisonError::into_inner);
        // All pages in one step: between steps the owner could write, and the copy would begin anew.
        rusqlite::backup::Backup::new(&source, &mut copy)?.run_to_completion(
            std::ffi::c_int::MAX,
            std::time::Duration::ZERO,
            None,
        )?;
        Self::prepare(copy, Calling::Inline, false)
    }

    /// An empty state that is gone with its last handle: for finding out what would happen before there is any.
    ///
    /// # Errors
    /// If SQLite cannot make one.
    pub fn passing() -> Result<Self> {
        Self::prepare(passing()?, Calling::Inline, false)
    }

    /// A state in memory.
    ///
    /// # Errors
    /// If SQLite cannot make one.
    pub fn in_memory() -> Result<Self> {
        Self::prepare(Connection::open_in_memory()?, Calling::Inline, false)
    }

    fn prepare(mut connection: Connection, calling: Calling, durable: bool) -> Result<Self> {
        connection.busy_timeout(std::time::Duration::from_secs(5))?;
        // More than there are.
        connection.set_prepared_statement_cache_capacity(1_000);
        // Else SQLite plans a statement anew whenever a value is bound that its plan could depend on, such as any `LIMIT ?`:
        // half of what the store cost. The plans that are tested are the plans that are used.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        // Refused before anything is touched, the journal mode included.
        migrations::check(&connection)?;
        if calling == Calling::Alone {
            connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        }
        if durable {
            connection.pragma_update(None, "journal_mode", "WAL")?;
            // "Acknowledged means kept", power loss included: every commit reaches the disk (but for `write_repeatable`).
            connection.pragma_update(None, "synchronous", "FULL")?;
            // A backfill touches the same pages again and again: checkpoints each 32 MB write each page less often.
            connection.pragma_update(None, "wal_autocheckpoint", 8_000)?;
        }
        connection.pragma_update(None, "foreign_keys", true)?;
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        // 16 MiB of pages: enough for the indexes that every row touches, little enough to stay light.
        connection.pragma_update(None, "cache_size", -16_384)?;
        migrations::run(&mut connection)?;
        let words = Dictionary::default();
        words.catch_up(&connection)?;
        let worker = match calling {
            Calling::Inline | Calling::Alone => None,
            Calling::Blocking => {
                Some(Arc::new(Worker::start().map_err(|error| StoreError::Thread(error.to_string()))?))
            }
        };
        Ok(Self { connection: Arc::new(Mutex::new(connection)), worker, words, beside: false })
    }

    /// Runs `work` in one transaction: all of it is kept, or nothing.
    ///
    /// # Errors
    /// Whatever `work` or SQLite says; nothing was kept then.
    pub async fn write<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Tx<'_>) -> Result<T> + Send + 'static,
    {
        let (words, beside) = (self.words.clone(), self.beside);
        self.call(move |connection| transact(connection, &words, beside, work)).await
    }

    /// Like [`write`](Self::write), for what would simply be read or planned again: a power loss may take the last of
    /// these with it, always from the newest back. The next [`write`](Self::write) brings them to the disk with it.
    ///
    /// # Errors
    /// Whatever `work` or SQLite says; nothing was kept then.
    pub async fn write_repeatable<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Tx<'_>) -> Result<T> + Send + 'static,
    {
        let (words, beside) = (self.words.clone(), self.beside);
        self.call(move |connection| {
            run(connection, "PRAGMA synchronous = NORMAL")?;
            let done = catch_unwind(AssertUnwindSafe(|| transact(connection, &words, beside, work)));
            run(connection, "PRAGMA synchronous = FULL")?;
            done.unwrap_or_else(|panic| resume_unwind(panic))
        })
        .await
    }

    /// What packs records before the transaction that keeps them: so much less to do for the thread of the state.
    pub fn packer(&self) -> Packer {
        Packer(self.words.clone())
    }

    /// Runs `work` on one consistent view of the state.
    ///
    /// # Errors
    /// Whatever `work` or SQLite says.
    pub async fn read<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Tx<'_>) -> Result<T> + Send + 'static,
    {
        let (words, beside) = (self.words.clone(), self.beside);
        self.call(move |connection| {
            let open = Open::begin(connection, "BEGIN")?;
            if beside {
                words.catch_up(open.0)?;
            }
            work(&Tx(open.0, &words, rare::Filled::default()))
        })
        .await
    }

    /// Runs `work` in one transaction of which nothing is kept: to find out, beside a state's owner, what would happen. No
    /// copy is made for it, and nobody else can write meanwhile, so it must be short.
    ///
    /// # Errors
    /// Whatever `work` or SQLite says.
    pub async fn try_out<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Tx<'_>) -> Result<T> + Send + 'static,
    {
        let (words, beside) = (self.words.clone(), self.beside);
        self.call(move |connection| {
            let open = Open::begin(connection, "BEGIN IMMEDIATE")?;
            if beside {
                words.catch_up(open.0)?;
            }
            let found = work(&Tx(open.0, &words, rare::Filled::default()));
            open.end("ROLLBACK")?;
            found
        })
        .await
    }

    async fn call<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Connection) -> Result<T> + Send + 'static,
    {
        let connection = Arc::clone(&self.connection);
        let run = move || work(&mut connection.lock().unwrap_or_else(PoisonError::into_inner));
        match &self.worker {
            None => run(),
            Some(worker) => worker.run(run).await.ok_or(StoreError::ShutDown)?,
        }
    }
}

/// A database of SQLite's own for as long as it is open: what does not fit into its cache is in a file in the folder for
/// temporary files, which only its owner may read, and which has no name from the moment when it is made, so that not
/// even a kill leaves it behind. A transaction that is rolled back would need no copy, but it would have to stay open
/// over all the reads of the accounts, and the state's owner could not write meanwhile.
fn passing() -> Result<Connection> {
    let connection = Connection::open("")?;
    // The file is made when it is needed first: is there a folder for it?
    connection.execute_batch("BEGIN; CREATE TABLE probe (x)")?;
    let flushed = connection.cache_flush();
    connection.execute_batch("ROLLBACK")?;
    match flushed {
        Ok(()) => Ok(connection),
        Err(_) => Ok(Connection::open_in_memory()?),
    }
}

fn transact<T>(
    connection: &mut Connection,
    words: &Dictionary,
    beside: bool,
    work: impl FnOnce(&Tx<'_>) -> Result<T>,
) -> Result<T> {
    let open = Open::begin(connection, "BEGIN IMMEDIATE")?;
    if beside {
        words.catch_up(open.0)?;
    }
    let result = work(&Tx(open.0, words, rare::Filled::default()))?;
    let saved = words.save(open.0)?;
    open.end("COMMIT")?;
    words.saved(saved);
    Ok(result)
}

/// Runs a statement that gives nothing back. It stays prepared: SQLite would take as long to read it as to do it.
fn run(connection: &Connection, statement: &str) -> rusqlite::Result<()> {
    connection.prepare_cached(statement)?.raw_query().next().map(drop)
}

/// A transaction that is rolled back unless it is ended.
struct Open<'a>(&'a Connection);

impl<'a> Open<'a> {
    fn begin(connection: &'a Connection, statement: &str) -> rusqlite::Result<Self> {
        run(connection, statement)?;
        Ok(Self(connection))
    }

    /// Ends it. If that fails, nothing is kept.
    fn end(self, statement: &str) -> rusqlite::Result<()> {
        run(self.0, statement)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        // Ended, or rolled back by SQLite itself: then there is none.
        if !self.0.is_autocommit()
            && let Err(error) = run(self.0, "ROLLBACK")
        {
            tracing::error!("a transaction cannot be rolled back: {error}");
        }
    }
}

impl Tx<'_> {
    /// Runs `work` as a part of the transaction that is kept whole or not at all; the rest of it goes on.
    ///
    /// # Errors
    /// Whatever `work` says; nothing of it was kept then.
    pub fn attempt<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.0.prepare_cached("SAVEPOINT part")?.execute([])?;
        let done = work();
        if done.is_err() {
            self.0.prepare_cached("ROLLBACK TO part")?.execute([])?;
        }
        self.0.prepare_cached("RELEASE part")?.execute([])?;
        done
    }

    /// What packs records outside of transactions, for what was not packed there.
    pub fn packer(&self) -> Packer {
        Packer(self.1.clone())
    }

    /// A record, to be kept: base and writes on their way.
    ///
    /// # Errors
    /// None that records of ours can cause.
    pub fn pack<T: for<'w> minicbor::Encode<Shared<'w>>>(&self, what: &'static str, record: &T) -> Result<Packed> {
        self.1.pack(what, record)
    }

    /// A record as it was kept.
    fn kept(&self, bytes: Vec<u8>) -> Packed {
        self.1.kept(bytes)
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Store")
    }
}

/// A value as JSON text for a column.
fn encode<T: serde::Serialize>(what: &'static str, value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|error| StoreError::Decode { what, cause: error.to_string() })
}

/// A value from a column's JSON text.
fn decode<T: serde::de::DeserializeOwned>(what: &'static str, text: &str) -> Result<T> {
    // The parser's own words repeat what it could not take, which may be personal.
    let cause = |error: &serde_json::Error| format!("{:?} at column {}", error.classify(), error.column());
    serde_json::from_str(text).map_err(|error| StoreError::Decode { what, cause: cause(&error) })
}

/// An instant as milliseconds for a column.
fn millis(instant: chrono::DateTime<chrono::Utc>) -> i64 {
    instant.timestamp_millis()
}

/// An instant from a column's milliseconds.
fn instant(millis: i64) -> chrono::DateTime<chrono::Utc> {
    chrono::DateTime::from_timestamp_millis(millis).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn after_a_repeatable_write_every_commit_reaches_the_disk_again() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("x.db"), Calling::Blocking).unwrap();
        let how = || store.call(|connection| Ok(connection.pragma_query_value(None, "synchronous", |row| row.get(0))?));
        let (normal, full) = (1_i64, 2_i64);
        assert_eq!(how().await.unwrap(), full);
        let meanwhile = store
            .write_repeatable(|tx| {
                tx.set_meta("who", "it")?;
                Ok(tx.0.pragma_query_value(None, "synchronous", |row| row.get::<_, i64>(0))?)
            })
            .await;
        assert_eq!((meanwhile.unwrap(), how().await.unwrap()), (normal, full));
        assert_eq!(store.read(|tx| tx.meta("who")).await.unwrap().as_deref(), Some("it"));
        let failed: Result<()> = store.write_repeatable(|_| Err(StoreError::ShutDown)).await;
        assert!(failed.is_err());
        assert_eq!(how().await.unwrap(), full);
        let panicked: Result<()> = store.write_repeatable(|_| panic!("on purpose")).await;
        assert!(panicked.is_err());
        assert_eq!(how().await.unwrap(), full);
    }

    #[tokio::test]
    async fn a_copy_is_taken_beside_the_owner_and_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.db");
        let store = Store::open(&path, Calling::Inline).unwrap();
        store.write(|tx| tx.set_meta("who", "the owner")).await.unwrap();
        let copy = Store::copy_of(&path).unwrap();
        assert_eq!(copy.read(|tx| tx.meta("who")).await.unwrap().as_deref(), Some("the owner"));
        copy.write(|tx| tx.set_meta("who", "somebody else")).await.unwrap();
        assert_eq!(store.read(|tx| tx.meta("who")).await.unwrap().as_deref(), Some("the owner"));
        assert!(Store::copy_of(&folder.path().join("none.db")).is_err());
    }

    /// What this process has open of files that have no name any more.
    #[cfg(target_os = "linux")]
    fn nameless() -> usize {
        let open = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
        let targets = open.filter_map(|entry| std::fs::read_link(entry.path()).ok());
        targets.filter(|target| target.to_string_lossy().contains("etilqs_")).count()
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_passing_state_is_in_a_file_without_a_name() {
        let store = Store::passing().unwrap();
        store.write(|tx| tx.set_meta("who", "nobody")).await.unwrap();
        assert!(nameless() > 0);
        let left = std::env::temp_dir().read_dir().unwrap().flatten();
        assert!(!left.into_iter().any(|file| file.file_name().to_string_lossy().starts_with("etilqs_")));
        assert_eq!(store.read(|tx| tx.meta("who")).await.unwrap().as_deref(), Some("nobody"));
    }
}
