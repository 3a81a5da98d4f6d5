//! Pages through the contacts of a sandboxed Intercom workspace, as a sync does, and counts them.
//!
//! ```console
//! $ cargo run --example read_contacts
//! 499 contacts on 4 pages: 365 users, 134 leads; 20 opted out of e-mail
//! ```
//!
//! To read a real workspace, give the client `linkspan::http::Reqwest` as its transport, `https://api.intercom.io/` as
//! its address, and an access token of yours. Nothing here writes.

#![expect(clippy::print_stdout, reason = "a program whose result is what it prints")]

use linkspan::doors::Doors;
use linkspan::http::InProcess;
use linkspan::intercom::{IntercomClient, IntercomOptions};
use linkspan::model::{Observation, Priority, ReadRequest, Resource, Role, Scope, Side as _};
use linkspan::sandbox::intercom::IntercomSandbox;
use std::sync::Arc;

/// What was seen.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Pages.
    pub pages: usize,
    /// Users.
    pub users: usize,
    /// Leads.
    pub leads: usize,
    /// Who opted out of e-mail.
    pub opted_out: usize,
}

/// Reads all contacts of `sandbox`.
///
/// # Errors
/// What the API answered, in the terms of `linkspan::model::ErrorKind`.
pub async fn count(sandbox: &IntercomSandbox) -> anyhow::Result<Counts> {
    let options = IntercomOptions {
        base_url: "https://api.intercom.io/".parse()?,
        access_token: sandbox.access_token().to_owned().into(),
        api_version: "2.11".to_owned(),
        // Nine tenths of the rate limit that the answers' headers announce.
        share: 0.9,
        plan: None,
    };
    // The sandbox is called in process: no sockets.
    let client = IntercomClient::new(options, Arc::new(InProcess::new(sandbox.router())), Doors::system());
    let account = client.account().await?;
    let mut request = ReadRequest {
        resource: Resource::Contacts,
        scope: Scope::Full,
        cursor: None,
        // Intercom's contact search counts days in the workspace's zone.
        timezone: account.timezone.as_deref().unwrap_or("UTC").parse()?,
        priority: Priority::Backfill,
    };
    let mut counts = Counts::default();
    loop {
        // Pace, rate limits and retries are the client's business.
        let page = client.read(&request).await?;
        counts.pages += 1;
        for observation in page.observations {
            let Observation::IntercomContact(contact) = observation else { continue };
            match contact.role {
                Role::User => counts.users += 1,
                Role::Lead => counts.leads += 1,
            }
            counts.opted_out += usize::from(contact.consent.email_opted_out());
        }
        // The cursor could be kept on disk and continued after a restart.
        let Some(next) = page.next else { return Ok(counts) };
        request.cursor = Some(next);
    }
}

/// Fills a workspace and reads it.
#[tokio::main(flavor = "current_thread")]
pub async fn main() -> anyhow::Result<()> {
    let sandbox = IntercomSandbox::new(linkspan::sandbox::intercom::IntercomOptions::default());
    sandbox.world(7, 500);
    let Counts { pages, users, leads, opted_out } = count(&sandbox).await?;
    let all = users + leads;
    println!("{all} contacts on {pages} pages: {users} users, {leads} leads; {opted_out} opted out of e-mail");
    Ok(())
}
