//! Why a command failed, what to do about it, and the exit code that says so.

use crate::config::ConfigErrors;
use crate::engine::EngineError;
use crate::model::SideError;
use crate::store::StoreError;
use std::path::Path;

/// What to do about a damaged state, and what that costs.
const DAMAGED: &str = "Stop linkspan and put a backup of the file back (see `state.path`; with it go the files of the same \
    name that end in -wal and -shm). Without a backup, move all three away: the next sync reads both sides in full and \
    matches everybody anew. Lost are then what both sides had agreed on (an edit made in Brevo of a mapped field is \
    overwritten), who was taken off a list by hand (only who unsubscribed from it stays off), and what still waited: \
    webhooks, events, and the lists of failures, conflicts and notices.";

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The config is wrong, or lacks what the command needs.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// The engine stopped.
    #[error(transparent)]
    Engine(EngineError),
    /// The state cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The machine did not let us.
    #[error("{what}: {error}")]
    Io {
        /// Doing what.
        what: String,
        /// Why not.
        error: std::io::Error,
    },
    /// Config and accounts do not fit.
    #[error(transparent)]
    Unfit(EngineError),
    /// The config says that there is nothing to do.
    #[error("{0}")]
    SwitchedOff(String),
    /// The command line asks for something that cannot be.
    #[error("{0}")]
    Usage(String),
    /// Anything else, in words.
    #[error("{0}")]
    Failed(String),
    /// It has been said already.
    #[error("failed")]
    Said,
    /// It has been said already, and the config is to be changed.
    #[error("failed")]
    SaidOfConfig,
}

impl From<EngineError> for CliError {
    fn from(error: EngineError) -> Self {
        if error.is_config() { Self::Unfit(error) } else { Self::Engine(error) }
    }
}

impl From<Box<SideError>> for CliError {
    fn from(error: Box<SideError>) -> Self {
        Self::Engine(error.into())
    }
}

impl CliError {
    pub(super) fn failed(words: impl Into<String>) -> Self {
        Self::Failed(words.into())
    }

    /// The exit code.
    pub fn code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::Unfit(_) | Self::SwitchedOff(_) | Self::SaidOfConfig => 78,
            Self::Usage(_) => 2,
            Self::Store(StoreError::Owned { .. }) | Self::Engine(EngineError::Store(StoreError::Owned { .. })) => 75,
            _ => 1,
        }
    }

    /// What to do, where that is known.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Engine(EngineError::Side(error)) => error.remedy().map(str::to_owned),
            Self::Store(error) | Self::Engine(EngineError::Store(error)) => match error {
                StoreError::Owned { .. } => Some(
                    "One state has one owner. `linkspan status` shows what it is doing; stop it, or let it do the work."
                        .to_owned(),
                ),
                StoreError::OtherPair { .. } => {
                    Some("Name another `state.path` for this pair of accounts, or restore the credentials.".to_owned())
                }
                StoreError::Newer { .. } => Some("Use the linkspan that wrote it, or a newer one.".to_owned()),
                StoreError::Corrupt(_) => Some(DAMAGED.to_owned()),
                StoreError::Full => Some("Make room on the disk; nothing that was acknowledged is lost.".to_owned()),
                _ => None,
            },
            Self::SwitchedOff(_) => Some("Set it to true, or leave the line out.".to_owned()),
            _ => None,
        }
    }

    /// As the errors of a config, if it is about one. `config` is the file that lacks what nobody wrote.
    pub(super) fn of_config(&self, config: &Path) -> Option<ConfigErrors> {
        match self {
            Self::Config(errors) => Some(errors.clone()),
            Self::Unfit(EngineError::Unfit(misfits)) => Some(ConfigErrors::of_misfits(config, misfits)),
            _ => None,
        }
    }
}
