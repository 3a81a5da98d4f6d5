//! `webhooks`: registers Brevo's webhooks through its API, and says what Intercom's Developer Hub is to be told, which
//! has no API for it.

use super::{CliError, Context, connect};
use crate::brevo::BrevoClient;
use crate::brevo::registrations::{Kind, Registered, Wanted};
use crate::brevo::webhook::Auth;
use crate::config::Config;
use crate::intercom::webhook::Topic;
use crate::server::{BREVO_PATH, INTERCOM_PATH};
use serde_json::{Value, json};
use url::Url;

#[derive(Debug, Clone, clap::Subcommand)]
pub(super) enum Command {
    /// Register Brevo's webhooks, or change what differs; and print what Intercom is to be told
    Register,
    /// List the webhooks that are registered in Brevo: ours and others
    List,
    /// Remove ours from Brevo
    Remove,
}

/// The kinds that we register.
const OURS: [Kind; 2] = [Kind::Marketing, Kind::Transactional];

pub(super) async fn run(context: &Context, command: &Command) -> Result<(), CliError> {
    let config = context.usable_config()?;
    let brevo = connect::brevo(config, &context.doors)?;
    match command {
        Command::Register => register(context, config, &brevo).await,
        Command::List => list(context, config, &brevo).await,
        Command::Remove => remove(context, config, &brevo).await,
    }
}

/// Where a vendor reaches us.
fn address(config: &Config, path: &str) -> Option<Url> {
    let base = config.server.public_url.as_ref()?;
    Url::parse(&format!("{}{path}", base.as_str().trim_end_matches('/'))).ok()
}

fn our_address(config: &Config) -> Result<Url, CliError> {
    address(config, BREVO_PATH).ok_or_else(|| {
        CliError::failed(
            "server.public_url is not set: it is the address under which Brevo reaches `server.listen`, such as \
             https://linkspan.example.com",
        )
    })
}

async fn all(brevo: &BrevoClient) -> Result<Vec<Registered>, CliError> {
    let mut all = Vec::new();
    for kind in Kind::ALL {
        all.extend(brevo.webhooks(kind).await?);
    }
    Ok(all)
}

fn shown(webhook: &Registered, ours: bool) -> Value {
    json!({
        "id": webhook.id, "type": webhook.kind, "ours": ours, "address": webhook.address(), "events": webhook.events,
        "batched": webhook.batched, "description": webhook.description,
    })
}

/// The webhooks that we want registered in Brevo.
fn wanted(config: &Config, url: &Url, auth: &Auth) -> Vec<Wanted> {
    let wanted = |kind: Kind| Wanted {
        kind,
        url: url.clone(),
        auth: auth.clone(),
        events: kind.events(config.brevo.webhooks.activity),
        batched: config.brevo.webhooks.batched,
    };
    OURS.into_iter().map(wanted).collect()
}

/// Registers them in an account that has none of ours yet.
pub(super) async fn register_at(config: &Config, brevo: &BrevoClient, url: &Url, auth: &Auth) -> Result<(), CliError> {
    for wanted in wanted(config, url, auth) {
        brevo.create_webhook(&wanted).await?;
    }
    Ok(())
}

async fn register(context: &Context, config: &Config, brevo: &BrevoClient) -> Result<(), CliError> {
    let printer = &context.printer;
    let url = our_address(config)?;
    let Some(auth) = connect::webhook_auth(config) else {
        return Err(CliError::failed(
            "there is no secret by which Brevo's webhooks could be told from anybody's: set \
             connectors.brevo.webhooks.secret or BREVO_WEBHOOK_SECRET to a long random text",
        ));
    };
    let mut done = Vec::new();
    for wanted in wanted(config, &url, &auth) {
        let kind = wanted.kind;
        let mut ours = brevo.webhooks(kind).await?.into_iter().filter(|webhook| webhook.goes_to(&url));
        let (id, outcome, changed) = match ours.next() {
            None => (brevo.create_webhook(&wanted).await?, "registered", Vec::new()),
            Some(old) => match old.differences(&wanted) {
                same if same.is_empty() => (old.id, "already registered", same),
                differ => (brevo.change_webhook(&old, &wanted).await?, "changed", differ),
            },
        };
        // Two of a kind would tell everything twice.
        for twin in ours {
            brevo.delete_webhook(twin.id).await?;
        }
        let what = if changed.is_empty() { String::new() } else { format!(" ({})", changed.join(", ")) };
        let events: Vec<&str> = wanted.events.iter().copied().collect();
        if !printer.is_json() {
            let kind = kind.as_str();
            printer.data(format!("Brevo, {kind}: {outcome}{what}, webhook {id} to {url}: {}", events.join(", ")));
        }
        done.push(json!({
            "id": id, "type": kind, "outcome": outcome, "changed": changed, "address": url.as_str(), "events": events,
            "batched": wanted.batched,
        }));
    }
    let intercom = address(config, INTERCOM_PATH).map(String::from).unwrap_or_default();
    let topics: Vec<&str> = Topic::ALL.iter().filter(|topic| **topic != Topic::Ping).map(Topic::as_str).collect();
    if printer.is_json() {
        printer.json(&json!({"brevo": done, "intercom": {"address": intercom, "topics": topics}}));
        return Ok(());
    }
    printer.note("\nIntercom takes its webhooks in the Developer Hub only: your app, Configure, Webhooks.");
    printer.data(format!("Endpoint URL: {intercom}\nTopics:"));
    printer.data(topics.iter().map(|topic| format!("  {topic}")).collect::<Vec<_>>().join("\n"));
    if config.intercom.client_secret.is_none() {
        printer.note(
            "Without connectors.intercom.client_secret (or INTERCOM_CLIENT_SECRET) they are not received: copy it from \
             Basic information.",
        );
    }
    Ok(())
}

async fn list(context: &Context, config: &Config, brevo: &BrevoClient) -> Result<(), CliError> {
    let printer = &context.printer;
    let url = address(config, BREVO_PATH);
    let ours = |webhook: &Registered| url.as_ref().is_some_and(|url| webhook.goes_to(url));
    let all = all(brevo).await?;
    if printer.is_json() {
        printer.json(&all.iter().map(|webhook| shown(webhook, ours(webhook))).collect::<Vec<_>>());
        return Ok(());
    }
    if all.is_empty() {
        printer.note("no webhook is registered in Brevo; `linkspan webhooks register` registers ours");
    } else {
        let rows = all.iter().map(|webhook| {
            [
                webhook.id.to_string(),
                if ours(webhook) { "ours" } else { "another's" }.to_owned(),
                webhook.kind.as_str().to_owned(),
                webhook.address(),
                webhook.events.iter().map(String::as_str).collect::<Vec<_>>().join(", "),
                if webhook.batched { "batched" } else { "" }.to_owned(),
            ]
        });
        printer.table(&["id", "whose", "type", "address", "events", ""], rows);
    }
    if url.is_none() {
        printer.note("without server.public_url none can be told to be ours");
    }
    Ok(())
}

async fn remove(context: &Context, config: &Config, brevo: &BrevoClient) -> Result<(), CliError> {
    let printer = &context.printer;
    let url = our_address(config)?;
    let mut removed = Vec::new();
    for webhook in all(brevo).await?.into_iter().filter(|webhook| webhook.goes_to(&url)) {
        brevo.delete_webhook(webhook.id).await?;
        if !printer.is_json() {
            printer.data(format!("removed webhook {} ({})", webhook.id, webhook.kind.as_str()));
        }
        removed.push(shown(&webhook, true));
    }
    if printer.is_json() {
        printer.json(&json!({"removed": removed}));
    } else if removed.is_empty() {
        printer.note(format!("no webhook to {url} is registered in Brevo"));
    }
    Ok(())
}
