//! What must come up: what never came up was not tested.

use super::world::CRASH_POINTS;
use std::collections::BTreeMap;

/// Over so many seeds everything must come up, [`SELDOM`] too.
pub const MANY: u64 = 1_000;

/// What the few seeds of `cargo test` must bring, by how the names of the counts begin.
pub const OFTEN: &[&str] = &[
    "edit Address",
    "edit Admin",
    "edit Archive",
    "edit Attach",
    "edit BrevoBlocklist",
    "edit BrevoCreate",
    "edit BrevoLeaveList",
    "edit BrevoResubscribe",
    "edit BrevoTakeOff",
    "edit BrevoUnsubscribe",
    "edit BrevoValue",
    "edit CloseConversation",
    "edit Company",
    "edit Converse",
    "edit Create",
    "edit Delete",
    "edit Merge",
    "edit Name",
    "edit Phone",
    "edit RateAs",
    "edit Resubscribe",
    "edit Seats",
    "edit SmsOut",
    "edit Swap",
    "edit Tag",
    "edit Tier",
    "edit Unsubscribe",
    "edit Untag",
    "fault LostAnswer",
    "fault LostRequest",
    "fault Refused",
    "fault Served(Empty)",
    "fault Served(ErrorAfter",
    "fault Served(Error(",
    "fault Served(Html)",
    "fault Served(Throttled",
    "fault Served(Truncated)",
    "fault Zombie",
    "webhook acknowledged",
    "webhook first",
    "webhook late",
    "webhook lost",
    "webhook twice",
    "crash at ",
    "crash before a request",
    "crash after a request",
    "power off at an await",
    "restart",
    "reload",
    "write POST /contacts",
    "write POST /contacts/import",
    "write POST /events",
    "write PUT /contacts/{identifier}",
    "listed failure",
    "notice consent_diverges",
    "notice identity_conflict",
    "notice kept_off_list",
    "outcome: a replaced value is kept",
    "outcome: an event told once",
    "outcome: no text messages on both sides",
    "outcome: out on both sides",
    "checked simply",
    "checked as a group or after moves",
    "checked what was acknowledged before any sweep",
];

/// What is rarer.
pub const SELDOM: &[&str] = &[
    "edit Bounced",
    "edit BrevoAddress",
    "edit BrevoBounce",
    "edit BrevoDelete",
    "edit BrevoPutOn",
    "edit CompanyName",
    "edit Detach",
    "edit ManyTags",
    "edit Rate",
    "edit Reopen",
    "edit Seen",
    "edit SignUp",
    "edit Snooze",
    "edit Spam",
    "edit Unarchive",
    "write POST /contacts/lists/{id}/contacts/add",
    "write POST /contacts/lists/{id}/contacts/remove",
    "write PUT /contacts/attributes/{category}/{name}",
    "webhook undeliverable",
    "notice archived_in_intercom",
    "notice brevo_contact_gone",
    "notice deleted_in_intercom",
    "notice email_removed",
    "notice external_id_differs",
    "notice without_email",
    "outcome: gone in Brevo, listed",
    "outcome: identity conflict listed",
    "outcome: known by phone alone",
    "outcome: a field's updates are in the history",
    "outcome: opted in in Brevo, out in Intercom",
    "outcome: renamed by hand in Brevo",
    "loosened by the server in the gap",
];

/// What never came up. `many`: everything should have.
pub fn missing(counts: &BTreeMap<String, u64>, many: bool) -> Vec<String> {
    let came = |name: &str| counts.iter().any(|(what, count)| what.starts_with(name) && *count > 0);
    let points = CRASH_POINTS[..11].iter().flat_map(|point| {
        let crashed = many.then(|| format!("crash at {point}"));
        [Some(format!("reached {point}")), crashed].into_iter().flatten()
    });
    let names = OFTEN.iter().chain(SELDOM.iter().filter(|_| many)).map(|name| (*name).to_owned());
    names.chain(points).filter(|name| !came(name)).collect()
}
