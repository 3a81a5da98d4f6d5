//! One whole sync between two sandboxed accounts, in memory, then a second one, which has nothing to do.
//!
//! ```console
//! $ cargo run --example one_cycle
//! first:  read 40 contacts, made 33 in Brevo
//! second: 0 writes
//! ```

#![expect(clippy::print_stdout, reason = "a program whose result is what it prints")]

use linkspan::brevo::{BrevoClient, BrevoOptions};
use linkspan::doors::Doors;
use linkspan::engine::{Connection, Settings, Silent, Summary, SyncOptions};
use linkspan::http::InProcess;
use linkspan::intercom::{IntercomClient, IntercomOptions};
use linkspan::mapping::{self, Section};
use linkspan::sandbox::brevo::BrevoSandbox;
use linkspan::sandbox::intercom::IntercomSandbox;
use linkspan::store::Store;
use std::sync::Arc;

/// What is synced: the config's `field_mapping`.
const MAPPING: &str = "
field_mapping:
  name:
    to: [FIRSTNAME, LASTNAME]
    transform: split_name
  role: ROLE
  location.country: COUNTRY
";

/// Puts a connection together: two clients, a state, the machine's clock and randomness, and what to do.
///
/// # Errors
/// None with the mapping above.
pub fn connect(intercom: &IntercomSandbox, brevo: &BrevoSandbox) -> anyhow::Result<Arc<Connection>> {
    let section = Section { file: 0, path: Vec::new(), value: serde_yaml::from_str(MAPPING)? };
    let options = mapping::Options { api_version: "2.11".to_owned(), ..mapping::Options::default() };
    let mapping =
        mapping::parse(&[section], &options, &|_, _, _| None).map_err(|errors| anyhow::anyhow!("{errors:?}"))?;
    let doors = Doors::system();
    let support = IntercomOptions {
        base_url: "https://api.intercom.io/".parse()?,
        access_token: intercom.access_token().to_owned().into(),
        api_version: "2.11".to_owned(),
        share: 0.9,
        plan: None,
    };
    let marketing = BrevoOptions::new(brevo.api_key().to_owned().into())?;
    Ok(Connection::new(
        // In process; over sockets it would be `linkspan::http::Reqwest`.
        Arc::new(IntercomClient::new(support, Arc::new(InProcess::new(intercom.router())), doors.clone())),
        Arc::new(BrevoClient::new(marketing, Arc::new(InProcess::new(brevo.router())), doors.clone())),
        Store::in_memory()?,
        doors,
        // Few enough contacts to be written one by one; more would go by import, which takes Brevo a while.
        Settings { mapping, ..Settings::default() },
    ))
}

/// Two cycles; what each of them did.
///
/// # Errors
/// If an account does not let us in or the state cannot be written.
pub async fn two_cycles(intercom: &IntercomSandbox, brevo: &BrevoSandbox) -> anyhow::Result<(Summary, Summary)> {
    let connection = connect(intercom, brevo)?;
    let first = connection.sync(&SyncOptions::default(), &Silent).await?;
    let second = connection.sync(&SyncOptions { full: true, ..SyncOptions::default() }, &Silent).await?;
    Ok((first, second))
}

/// Fills a workspace, syncs it into an empty account.
#[tokio::main(flavor = "current_thread")]
pub async fn main() -> anyhow::Result<()> {
    let intercom = IntercomSandbox::new(linkspan::sandbox::intercom::IntercomOptions::default());
    intercom.world(7, 40);
    let clock = Arc::new(linkspan::doors::SystemClock);
    let brevo = BrevoSandbox::new(linkspan::sandbox::brevo::BrevoOptions::new(7, clock));
    let (first, second) = two_cycles(&intercom, &brevo).await?;
    let read = first.read.get("intercom contacts").map_or(0, |swept| swept.rows);
    println!("first:  read {read} contacts, made {} in Brevo", first.written.created + first.written.imported);
    println!("second: {} writes", second.written.requests);
    Ok(())
}
