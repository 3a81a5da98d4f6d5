//! Live edits: a person's hands on one side of the sandbox, and the moment in which each shows on the other.

use super::{ACTIVE, LEADS, Printer, Sandboxes, USERS, VIP, since, text};
use crate::doors::Clock;
use crate::sandbox::brevo::Contact;
use crate::sandbox::intercom::{ContactSeed, HandsError};
use serde::Serialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;

/// How long an edit may take to arrive.
const PATIENCE_MS: u64 = 10_000;
/// How often Brevo's truth is looked at.
const LOOK: Duration = Duration::from_millis(2);

/// One edit, and how long it took to arrive; `None`: it did not.
#[derive(Debug, Serialize)]
pub(super) struct Edit {
    what: &'static str,
    becomes: &'static str,
    #[serde(rename = "milliseconds")]
    pub(super) took: Option<u64>,
}

/// Somebody to edit: an address that one Intercom contact has, and that may be mailed.
#[derive(Debug, Clone, Default)]
struct Somebody {
    id: String,
    email: String,
}

/// People of a role whose address nobody shares. Several, so that each edit has its own.
fn people(sandboxes: &Sandboxes, lead: bool) -> Vec<Somebody> {
    const ENOUGH: usize = 12;
    let (intercom, brevo) = (&sandboxes.intercom, &sandboxes.brevo);
    let contacts: Vec<_> = intercom.contact_ids().iter().filter_map(|id| intercom.contact(id)).collect();
    let mut holders: BTreeMap<String, usize> = BTreeMap::new();
    for contact in &contacts {
        if let Some(email) = text(contact, "email") {
            *holders.entry(email.to_lowercase()).or_default() += 1;
        }
    }
    let lists = [ACTIVE, VIP].map(|name| brevo.list_id(name).unwrap_or_default());
    let role = if lead { "lead" } else { "user" };
    let fit = contacts.iter().filter(|contact| text(contact, "role") == Some(role)).filter_map(|contact| {
        let email = text(contact, "email")?.to_lowercase();
        let there = brevo.contact_by_email(&email)?;
        let free = !there.email_blacklisted && !lists.iter().any(|list| there.list_ids.contains(list));
        (free && holders.get(&email) == Some(&1))
            .then(|| Some(Somebody { id: text(contact, "id")?.to_owned(), email }))?
    });
    fit.take(ENOUGH).collect()
}

struct Stage<'a> {
    sandboxes: &'a Sandboxes,
    clock: &'a dyn Clock,
    printer: &'a Printer,
    edits: Vec<Edit>,
}

impl Stage<'_> {
    fn brevo(&self, email: &str) -> Option<Contact> {
        self.sandboxes.brevo.contact_by_email(email)
    }

    fn on(&self, email: &str, list: &str) -> bool {
        let id = self.sandboxes.brevo.list_id(list);
        self.brevo(email).zip(id).is_some_and(|(contact, id)| contact.list_ids.contains(&id))
    }

    fn has(&self, email: &str, attribute: &str, value: &str) -> bool {
        self.brevo(email)
            .is_some_and(|contact| contact.attributes.get(attribute).and_then(serde_json::Value::as_str) == Some(value))
    }

    fn event(&self, email: &str, name: &str) -> bool {
        let Some(contact) = self.brevo(email) else { return false };
        self.sandboxes.brevo.events().iter().any(|event| event.name == name && event.contact_id == Some(contact.id))
    }

    /// Makes an edit and waits until the other side shows it.
    async fn edit<T>(
        &mut self,
        (what, becomes): (&'static str, &'static str),
        act: Result<T, impl std::fmt::Display>,
        shows: impl Fn(&Self) -> bool,
    ) -> Option<T> {
        let began = self.clock.now();
        let mut took = None;
        if act.is_ok() {
            while took.is_none() && since(self.clock, began) < PATIENCE_MS {
                if shows(self) {
                    took = Some(since(self.clock, began));
                } else {
                    tokio::time::sleep(LOOK).await;
                }
            }
        }
        if !self.printer.is_json() {
            let line = match (took, &act) {
                (Some(took), _) => format!("  {} {took:>5} ms  {what} → {becomes}", self.printer.tick()),
                (None, Ok(_)) => format!("  {} did not arrive: {what} → {becomes}", self.printer.cross()),
                (None, Err(error)) => format!("  {} {what}: {error}", self.printer.cross()),
            };
            self.printer.data(line);
        }
        self.edits.push(Edit { what, becomes, took });
        act.ok()
    }
}

pub(super) async fn in_intercom(sandboxes: &Sandboxes, clock: &dyn Clock, printer: &Printer) -> Vec<Edit> {
    let (users, leads) = (people(sandboxes, false), people(sandboxes, true));
    let user = |place: usize| users.get(place % users.len().max(1)).cloned().unwrap_or_default();
    let intercom = &sandboxes.intercom;
    let mut stage = Stage { sandboxes, clock, printer, edits: Vec::new() };

    let Somebody { id, email } = user(0);
    let act = intercom.edit_contact(&id, &json!({"name": "Ada Lovelace"}));
    let shows = |stage: &Stage<'_>| stage.has(&email, "FIRSTNAME", "Ada") && stage.has(&email, "LASTNAME", "Lovelace");
    stage.edit(("a user is renamed", "FIRSTNAME and LASTNAME"), act, shows).await;

    let Somebody { id, email } = user(1);
    let act = intercom.edit_contact(&id, &json!({"custom_attributes": {"plan_tier": "platinum"}}));
    stage.edit(("their plan changes", "PLAN_TIER"), act, |stage| stage.has(&email, "PLAN_TIER", "platinum")).await;

    let Somebody { id, email } = user(2);
    let act = intercom.tag(&id, "VIP");
    stage.edit(("a tag is put on", "on the list of VIPs"), act, |stage| stage.on(&email, VIP)).await;

    let Somebody { id, email } = user(3);
    let act = intercom.unsubscribe(&id);
    let shows = |stage: &Stage<'_>| stage.brevo(&email).is_some_and(|contact| contact.email_blacklisted);
    stage.edit(("somebody unsubscribes", "blocklisted"), act, shows).await;

    let Somebody { id, email } = user(4);
    let act = intercom.open_conversation(&id, "Hello, is anybody there?");
    let shows = |stage: &Stage<'_>| stage.on(&email, ACTIVE) && stage.event(&email, "intercom_conversation_created");
    let what = ("a conversation begins", "on the list of open conversations, and an event");
    if let Some(conversation) = stage.edit(what, act, shows).await {
        let act = intercom.close_conversation(&conversation);
        let shows =
            |stage: &Stage<'_>| !stage.on(&email, ACTIVE) && stage.event(&email, "intercom_conversation_closed");
        stage.edit(("it is closed", "off the list, and an event"), act, shows).await;
        let act = intercom.rate(&conversation, 5, Some("Thanks!"));
        let shows = |stage: &Stage<'_>| stage.event(&email, "intercom_conversation_rated");
        stage.edit(("it is rated", "an event"), act, shows).await;
    }

    let Somebody { id, email } = user(5);
    let (there, new) = (stage.brevo(&email).map(|contact| contact.id), "moved.house@example.org");
    let act = intercom.set_email(&id, Some(new));
    let shows = |stage: &Stage<'_>| there.is_some() && stage.brevo(new).map(|contact| contact.id) == there;
    stage.edit(("an address changes", "the same contact under the new one"), act, shows).await;

    if let Some(Somebody { id, email }) = leads.first() {
        let act = intercom.sign_up(id, "demo-signed-up");
        let shows = |stage: &Stage<'_>| stage.on(email, USERS) && !stage.on(email, LEADS);
        stage.edit(("a lead signs up", "from the list of leads to the list of users"), act, shows).await;
    }

    let email = "grace.hopper@example.org";
    let seed = ContactSeed {
        external_id: Some("demo-new".to_owned()),
        email: Some(email.to_owned()),
        name: Some("Grace Hopper".to_owned()),
        ..ContactSeed::default()
    };
    let act = Ok::<_, HandsError>(intercom.create_contact(seed));
    let shows = |stage: &Stage<'_>| stage.has(email, "LASTNAME", "Hopper") && stage.on(email, USERS);
    stage.edit(("a new user", "a new contact, on the list of users"), act, shows).await;
    stage.edits
}

/// What is done by hand in Brevo, if there is somebody to do it to.
fn done(done: bool) -> Result<(), &'static str> {
    done.then_some(()).ok_or("there is nobody of this address")
}

/// Somebody whom no other scene has touched.
pub(super) fn somebody_else(sandboxes: &Sandboxes) -> (String, String) {
    let last = people(sandboxes, false).pop().unwrap_or_default();
    (last.id, last.email)
}

pub(super) async fn in_brevo(sandboxes: &Sandboxes, clock: &dyn Clock, printer: &Printer) -> Vec<Edit> {
    let users = people(sandboxes, false);
    let user = |place: usize| users.get(users.len().saturating_sub(2 + place)).cloned().unwrap_or_default();
    let (intercom, brevo) = (&sandboxes.intercom, &sandboxes.brevo);
    let contact = |id: &str| intercom.contact(id).unwrap_or_default();
    let mut stage = Stage { sandboxes, clock, printer, edits: Vec::new() };

    let Somebody { id, email } = user(0);
    let values = [("FIRSTNAME", json!("Katherine")), ("LASTNAME", json!("Johnson"))];
    let act = done(brevo.edit_attributes(&email, &values));
    let shows = |_: &Stage<'_>| text(&contact(&id), "name") == Some("Katherine Johnson");
    stage.edit(("a contact is renamed", "the name in Intercom"), act, shows).await;

    let Somebody { id, email } = user(1);
    let act = done(brevo.list_id(VIP).is_some_and(|list| brevo.add_to_list(&email, list)));
    let shows = |_: &Stage<'_>| intercom.contact_tags(&id).iter().any(|tag| tag == "VIP");
    stage.edit(("somebody is put on the list of VIPs", "the tag in Intercom"), act, shows).await;

    let Somebody { id, email } = user(2);
    let act = done(brevo.unsubscribe(&email));
    let shows = |_: &Stage<'_>| contact(&id)["unsubscribed_from_emails"] == json!(true);
    stage.edit(("somebody unsubscribes from a newsletter", "unsubscribed in Intercom"), act, shows).await;
    stage.edits
}
