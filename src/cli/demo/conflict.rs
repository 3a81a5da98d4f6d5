//! A field that was changed on both sides while nothing ran: the rule decides, and the other value is kept.

use super::{Printer, Sandboxes, edits};
use crate::cli::CliError;
use crate::engine::{Connection, Silent, SyncOptions};
use crate::sandbox::intercom::HandsError;
use serde::Serialize;
use serde_json::{Value, json};
use std::sync::Arc;

const IN_INTERCOM: &str = "silver";
const IN_BREVO: &str = "gold";

/// What came of it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Conflict {
    in_intercom: Option<Value>,
    in_brevo: Option<Value>,
    /// The value that lost is in the conflict log.
    kept: bool,
}

impl Conflict {
    /// Brevo's stands on both sides, as the config says, and Intercom's is kept.
    pub(super) fn holds(&self) -> bool {
        let stands = |value: &Option<Value>| value.as_ref().and_then(Value::as_str) == Some(IN_BREVO);
        stands(&self.in_intercom) && stands(&self.in_brevo) && self.kept
    }
}

pub(super) async fn play(
    connection: &Arc<Connection>,
    sandboxes: &Sandboxes,
    printer: &Printer,
) -> Result<Conflict, CliError> {
    let (id, email) = edits::somebody_else(sandboxes);
    let (intercom, brevo) = (&sandboxes.intercom, &sandboxes.brevo);
    let hands = |error: HandsError| CliError::failed(format!("the plan cannot be changed in Intercom: {error}"));
    intercom.edit_contact(&id, &json!({"custom_attributes": {"plan_tier": IN_INTERCOM}})).map_err(hands)?;
    brevo.edit_attributes(&email, &[("PLAN_TIER", json!(IN_BREVO))]);
    // Intercom's search shows it after a while only; a sync by hand reads what it shows.
    tokio::time::sleep(std::time::Duration::from_secs(4)).await;
    connection.sync(&SyncOptions::default(), &Silent).await?;
    let log = connection.store().read(|tx| tx.conflicts(10)).await?;
    let conflict = Conflict {
        in_intercom: intercom.contact(&id).map(|contact| contact["custom_attributes"]["plan_tier"].clone()),
        in_brevo: brevo.contact_by_email(&email).and_then(|contact| contact.attributes.get("PLAN_TIER").cloned()),
        kept: log.iter().any(|row| row.lost.contains(IN_INTERCOM) && row.kept.contains(IN_BREVO)),
    };
    if !printer.is_json() {
        let mark = if conflict.holds() { printer.tick() } else { printer.cross() };
        let shown = |value: &Option<Value>| value.as_ref().and_then(Value::as_str).unwrap_or("–").to_owned();
        printer.data(format!(
            "  {mark} “{IN_INTERCOM}” in Intercom, “{IN_BREVO}” in Brevo; the rule says `on_conflict: brevo` → “{}” and “{}”{}",
            shown(&conflict.in_intercom),
            shown(&conflict.in_brevo),
            if conflict.kept { "; `linkspan conflicts` shows what lost" } else { "; what lost is not kept" },
        ));
    }
    Ok(conflict)
}
