//! Which events Brevo has already.

use super::client::{Ask, BrevoClient, OTHER, encode};
use super::wire;
use super::{errors, read};
use crate::model::{ErrorKind, OutgoingEvent, Priority, SideError, SideName};
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use std::collections::BTreeSet;

/// Events on one page. Brevo allows ten times as many; a page's properties must stay within what an answer may weigh.
const PAGE: usize = 1000;
/// Pages in one look. So many events of a few people within days are a script's: then nothing can be said.
const MOST_PAGES: usize = 10;
/// How far around the events' own times is looked: Brevo may show a time in whole seconds or at another offset.
const AROUND: TimeDelta = TimeDelta::days(1);

impl BrevoClient {
    /// Brevo has no filter by property, so it is asked for the events of these names and contacts around these times,
    /// and our key among the properties tells which of them are ours.
    pub(super) async fn read_events_held(
        &self,
        events: &[OutgoingEvent],
        priority: Priority,
    ) -> Result<BTreeSet<String>, Box<SideError>> {
        let wanted: BTreeSet<&str> = events.iter().map(|event| event.key.as_str()).collect();
        let times = || events.iter().map(|event| event.happened_at);
        let (Some(first), Some(last)) = (times().min(), times().max()) else { return Ok(BTreeSet::new()) };
        let at = |instant: Option<DateTime<Utc>>, other: DateTime<Utc>| {
            encode(&instant.unwrap_or(other).to_rfc3339_opts(SecondsFormat::Secs, true))
        };
        let contacts: BTreeSet<_> = events.iter().map(|event| event.contact).collect();
        let names: BTreeSet<_> = events.iter().map(|event| event.name.as_str()).collect();
        let filter = [
            format!("startDate={}", at(first.checked_sub_signed(AROUND), first)),
            format!("endDate={}", at(last.checked_add_signed(AROUND), last)),
        ]
        .into_iter()
        .chain(contacts.into_iter().map(|contact| format!("contact_id={contact}")))
        .chain(names.into_iter().map(|name| format!("event_name={}", encode(name))))
        .collect::<Vec<_>>()
        .join("&");
        let mut held = BTreeSet::new();
        let mut offset = 0;
        for _ in 0..MOST_PAGES {
            let target = format!("/events?{filter}&limit={PAGE}&offset={offset}");
            let answer = self.send(Ask::get(target, OTHER, priority)).await?;
            let tree = read::json(&answer)?;
            let (rows, total) = wire::rows(tree.root(), "events").ok_or_else(|| errors::malformed(&answer))?;
            let keys = rows.iter().filter_map(|row| row.get("event_properties")?.get("linkspan_key")?.as_str());
            held.extend(keys.filter(|key| wanted.contains(key)).map(str::to_owned));
            offset += rows.len();
            // The latest come first, so a page that new events push down shows some twice and none too few.
            let all = total.map_or(rows.len() < PAGE, |total| u64::try_from(offset).is_ok_and(|seen| seen >= total));
            if rows.is_empty() || all || held.len() == wanted.len() {
                return Ok(held);
            }
        }
        let words = format!("more than {} events to look through", PAGE * MOST_PAGES);
        Err(SideError::new(SideName::Brevo, ErrorKind::Unsupported, words))
    }
}
