//! Serves both sandboxes on this machine, filled with a small world, and prints one line of JSON that says where they
//! are and what opens them. Any Intercom or Brevo client can be pointed there.
//!
//! ```console
//! $ cargo run --example serve_sandbox
//! {"brevo":{"api_key":"…","base_url":"http://127.0.0.1:…/v3"},"intercom":{"access_token":"…", …}}
//! $ curl -H 'api-key: …' http://127.0.0.1:…/v3/account
//! ```
//!
//! It ends with Ctrl-C.

#![expect(clippy::print_stdout, reason = "the line is what it is run for")]

use linkspan::doors::SystemClock;
use linkspan::sandbox::brevo::{BrevoOptions, BrevoSandbox};
use linkspan::sandbox::intercom::{IntercomOptions, IntercomSandbox};
use linkspan::sandbox::{Serving, serve};
use std::sync::Arc;

/// Both sandboxes at work. Dropping it ends them.
pub struct Sandboxes {
    /// Where Intercom is played.
    pub intercom: Serving,
    /// Where Brevo is played.
    pub brevo: Serving,
    /// Where they are and what opens them.
    pub line: serde_json::Value,
}

/// Starts both on free ports, with so many contacts in Intercom.
pub async fn start(contacts: usize) -> std::io::Result<Sandboxes> {
    let intercom = IntercomSandbox::new(IntercomOptions::default());
    intercom.world(7, contacts);
    // Nobody takes these notifications away, so none are queued.
    intercom.webhooks_on(false);
    let brevo = BrevoSandbox::new(BrevoOptions::new(7, Arc::new(SystemClock)));
    // The published hundred requests an hour are spent quickly when one tries things out.
    brevo.knobs(|knobs| knobs.per_hour = Some(10_000));
    let (intercom_serving, brevo_serving) = (serve(intercom.router(), 0).await?, serve(brevo.router(), 0).await?);
    let line = serde_json::json!({
        "intercom": {
            "base_url": intercom_serving.base_url(),
            "access_token": intercom.access_token(),
            "client_secret": intercom.client_secret(),
        },
        "brevo": {"base_url": format!("{}/v3", brevo_serving.base_url()), "api_key": brevo.api_key()},
    });
    Ok(Sandboxes { intercom: intercom_serving, brevo: brevo_serving, line })
}

/// Runs until the end is asked for.
#[tokio::main(flavor = "current_thread")]
pub async fn main() -> std::io::Result<()> {
    let sandboxes = start(400).await?;
    println!("{}", sandboxes.line);
    tokio::signal::ctrl_c().await?;
    sandboxes.intercom.stop().await;
    sandboxes.brevo.stop().await;
    Ok(())
}
