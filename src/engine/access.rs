//! Whether the vendors let us in, as the last request told: kept for `status`, which calls nobody.

use super::cycle::stops_everything;
use super::observe::{from_json, to_json};
use super::{Connection, EngineError};
use crate::model::{SideError, SideName};
use crate::store::{Result as Stored, Tx};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// A vendor does not let us in.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Refusal {
    /// What it said.
    pub error: Box<SideError>,
    /// When.
    pub at: DateTime<Utc>,
}

/// The vendors that did not let us in when they were asked last.
///
/// # Errors
/// If the state cannot be read.
pub fn refusals(tx: &Tx<'_>) -> Stored<Vec<Refusal>> {
    let mut found = Vec::new();
    for side in [SideName::Intercom, SideName::Brevo] {
        if let Some(text) = tx.meta(key(side))?.filter(|text| !text.is_empty()) {
            found.push(from_json("meta", &text)?);
        }
    }
    Ok(found)
}

fn key(side: SideName) -> &'static str {
    match side {
        SideName::Intercom => "refused.intercom",
        SideName::Brevo => "refused.brevo",
    }
}

impl Connection {
    /// Keeps that a vendor does not let us in, if that is what went wrong. What lacks but a permission is told elsewhere.
    pub(super) async fn note_refusal(&self, error: &EngineError) {
        let EngineError::Side(side) = error else { return };
        if !stops_everything(error) {
            return;
        }
        let refusal = Refusal { error: side.clone(), at: self.now() };
        let key = key(side.side);
        let kept = match to_json("meta", &refusal) {
            Ok(text) => self.store.write(move |tx| tx.set_meta(key, &text)).await,
            Err(error) => Err(error),
        };
        if let Err(error) = kept {
            tracing::debug!("that a vendor refused us could not be kept: {error}");
        }
    }

    /// These vendors have let us in.
    pub(super) async fn note_let_in(&self, sides: &[SideName]) -> Result<(), EngineError> {
        for side in sides {
            let key = key(*side);
            if self.store.read(move |tx| tx.meta(key)).await?.is_some_and(|text| !text.is_empty()) {
                self.store.write(move |tx| tx.set_meta(key, "")).await?;
            }
        }
        Ok(())
    }
}
