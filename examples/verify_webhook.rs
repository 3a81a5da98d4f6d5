//! Somebody opts out in Intercom; the notification is signed as Intercom signs it, checked, and read.
//!
//! ```console
//! $ cargo run --example verify_webhook
//! contact.unsubscribed: genuine; an opt-out of …
//! with one byte changed: refused
//! ```

#![expect(clippy::print_stdout, reason = "a program whose result is what it prints")]

use anyhow::Context as _;
use linkspan::intercom::webhook::{Effect, Notification, verify};
use linkspan::sandbox::OutgoingWebhook;
use linkspan::sandbox::intercom::{ContactSeed, IntercomOptions, IntercomSandbox};
use secrecy::SecretString;

/// The notification of an opt-out, and the secret of the app that it was sent to.
///
/// # Errors
/// None in practice: the sandbox has such a topic.
pub fn opt_out() -> anyhow::Result<(OutgoingWebhook, SecretString)> {
    let sandbox = IntercomSandbox::new(IntercomOptions::default());
    let seed = ContactSeed { email: Some("ada@example.com".to_owned()), ..ContactSeed::default() };
    let id = sandbox.create_contact(seed);
    sandbox.unsubscribe(&id).map_err(|error| anyhow::anyhow!(error.0))?;
    let notice = sandbox.take_webhooks().into_iter().find(|hook| hook.topic == "contact.unsubscribed");
    Ok((notice.context("a notification of the opt-out")?, sandbox.client_secret().to_owned().into()))
}

/// What follows from a notification, if it is genuine.
///
/// # Errors
/// If it is not, or is no notification.
pub fn receive(notice: &OutgoingWebhook, secret: &SecretString) -> anyhow::Result<Vec<Effect>> {
    let is_signature = |(name, _): &&(String, String)| name.eq_ignore_ascii_case("x-hub-signature");
    let (_, signature) = notice.headers.iter().find(is_signature).context("not signed")?;
    // Over the bytes as they came, before anything is parsed.
    anyhow::ensure!(verify(secret, &notice.body, signature), "the signature does not fit");
    Ok(Notification::parse(&notice.body)?.effects())
}

/// Sends one, then a forged one.
pub fn main() -> anyhow::Result<()> {
    let (mut notice, secret) = opt_out()?;
    for effect in receive(&notice, &secret)? {
        if let Effect::OptedOut { contact, .. } = effect {
            println!("{}: genuine; an opt-out of {contact}", notice.topic);
        }
    }
    let mut forged = notice.body.to_vec();
    if let Some(last) = forged.last_mut() {
        *last = b' ';
    }
    notice.body = forged.into();
    println!("with one byte changed: {}", if receive(&notice, &secret).is_err() { "refused" } else { "taken" });
    Ok(())
}
