//! `sandbox`: a filled Intercom and Brevo on this machine, to try things against.

use super::{CliError, Context};
use crate::doors::SystemClock;
use crate::sandbox::brevo::{BrevoOptions, BrevoSandbox, WorldShares};
use crate::sandbox::intercom::{IntercomOptions, IntercomSandbox};
use crate::sandbox::{Deliverer, DeliveryRules, Serving, serve};
use chrono::DateTime;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

#[derive(Debug, Clone, clap::Args)]
pub(super) struct Arguments {
    /// Port of the sandbox's Intercom; 0 takes a free one
    #[arg(long, default_value_t = 0, value_name = "P")]
    intercom_port: u16,
    /// Port of the sandbox's Brevo; 0 takes a free one
    #[arg(long, default_value_t = 0, value_name = "P")]
    brevo_port: u16,
    /// Contacts in Intercom
    #[arg(long, default_value_t = 2_000, value_name = "N")]
    contacts: usize,
    /// The same seed (and number of contacts) makes the same two accounts, with the same records under the same ids, whenever
    /// it starts; what was changed in them before is gone, and another seed is another pair of accounts
    #[arg(long, default_value_t = 1, value_name = "S")]
    seed: u64,
    /// Deliver Intercom's webhooks to this address, such as http://127.0.0.1:8484/webhooks/intercom
    #[arg(long, value_name = "URL")]
    webhooks: Option<String>,
}

/// Both doubles, being served.
pub(super) struct Sandboxes {
    pub(super) intercom: IntercomSandbox,
    pub(super) brevo: BrevoSandbox,
    pub(super) intercom_at: Serving,
    pub(super) brevo_at: Serving,
}

impl Sandboxes {
    /// Where Brevo's API is: under its version, as with the vendor.
    pub(super) fn brevo_url(&self) -> String {
        format!("{}/v3", self.brevo_at.base_url())
    }

    /// Lets requests under way finish, then ends.
    pub(super) async fn stop(self) {
        self.intercom_at.stop().await;
        self.brevo_at.stop().await;
    }
}

/// How the two are set up.
pub(super) struct Setup {
    pub(super) contacts: usize,
    pub(super) seed: u64,
    pub(super) ports: (u16, u16),
    pub(super) import_delay: Duration,
    /// How long a new Intercom contact is missing from search.
    pub(super) index_lag: Duration,
}

/// The key that the sandbox's Brevo lets in.
pub(super) const API_KEY: &str = "xkeysib-sandbox";

/// When the workspace's past ends (2025-06-01): fixed, so that one seed tells one story whenever it is told.
const PAST_ENDS: i64 = 1_748_736_000;

/// Fills and serves both. Ids come from the seed: who keeps a state and starts the same sandbox anew finds the same two
/// accounts as they were at first, as if a backup had been restored. What is made later has an id of its own each time, so
/// that it is not taken for what was there under it before.
pub(super) async fn start(setup: &Setup) -> Result<Sandboxes, CliError> {
    let whose = format!("sandbox-{}-{}", setup.seed, setup.contacts);
    let intercom = IntercomSandbox::new(IntercomOptions {
        seed: setup.seed,
        app_id: whose.clone(),
        index_lag: setup.index_lag,
        ..IntercomOptions::default()
    });
    let brevo = BrevoSandbox::new(BrevoOptions {
        api_key: API_KEY.to_owned(),
        organization_id: whose,
        import_delay: setup.import_delay,
        ..BrevoOptions::new(setup.seed, Arc::new(SystemClock))
    });
    let end = DateTime::from_timestamp(PAST_ENDS, 0).unwrap_or_default();
    intercom.world_until(end, setup.seed, setup.contacts);
    let text = |contact: &Value, key: &str| {
        contact.get(key).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
    };
    let people: Vec<(String, Option<String>)> = intercom
        .contact_ids()
        .iter()
        .filter_map(|id| intercom.contact(id))
        .filter_map(|contact| Some((text(&contact, "email")?, text(&contact, "phone"))))
        .collect();
    // A tenth of them got newsletters before anybody connected the two.
    let newsletter = brevo.create_list("Newsletter");
    brevo.world(setup.seed, &people, &WorldShares { existing: 0.1, ..WorldShares::default() }, newsletter);
    brevo.new_ids_by_the_clock();
    let busy = |what: &'static str| move |error| CliError::Io { what: format!("serving the sandbox's {what}"), error };
    let intercom_at = serve(intercom.router(), setup.ports.0).await.map_err(busy("Intercom"))?;
    let brevo_at = serve(brevo.router(), setup.ports.1).await.map_err(busy("Brevo"))?;
    Ok(Sandboxes { intercom, brevo, intercom_at, brevo_at })
}

pub(super) async fn run(context: &Context, arguments: &Arguments) -> Result<(), CliError> {
    let printer = &context.printer;
    // Heard before anybody is told that it is ready: who stops it then lets requests under way finish.
    let asked_to_stop = super::signals::stop_asked();
    let sandboxes = start(&Setup {
        contacts: arguments.contacts,
        seed: arguments.seed,
        ports: (arguments.intercom_port, arguments.brevo_port),
        import_delay: Duration::from_secs(2),
        index_lag: Duration::from_secs(3),
    })
    .await?;
    let (intercom, brevo) = (sandboxes.intercom_at.base_url(), sandboxes.brevo_url());
    let (token, secret) = (sandboxes.intercom.access_token(), sandboxes.intercom.client_secret());
    if printer.is_json() {
        printer.json(&json!({
            "intercom": {"base_url": intercom, "access_token": token, "client_secret": secret},
            "brevo": {"base_url": brevo, "api_key": API_KEY},
        }));
    } else {
        let config = format!(
            "connectors:\n  intercom:\n    base_url: {intercom}\n    access_token: \"{token}\"\n    client_secret: \
             \"{secret}\"\n  brevo:\n    base_url: {brevo}\n    api_key: {API_KEY}"
        );
        printer.note(format!("{} contacts; a config for them:\n", sandboxes.intercom.truth().contacts));
        printer.data(config);
        printer.note("\nCtrl-C ends it.");
    }
    let stop = CancellationToken::new();
    // Brevo's go to whatever address they are registered with.
    let registered = Deliverer::to_registered(DeliveryRules::brevo(), stop.clone())
        .map_err(|error| CliError::failed(format!("webhooks cannot be delivered: {error}")))?;
    let brevo = sandboxes.brevo.clone();
    let registered = registered.run(|| brevo.next_webhooks());
    if let Some(url) = &arguments.webhooks {
        let deliverer = Deliverer::to_url(url, DeliveryRules::intercom(), stop.clone())
            .map_err(|error| CliError::failed(format!("webhooks cannot be delivered: {error}")))?;
        tokio::select! {
            () = deliverer.run(|| sandboxes.intercom.next_webhooks()) => {}
            () = registered => {}
            () = asked_to_stop => stop.cancel(),
        }
    } else {
        sandboxes.intercom.webhooks_on(false);
        tokio::select! {
            () = registered => {}
            () = asked_to_stop => stop.cancel(),
        }
    }
    sandboxes.stop().await;
    Ok(())
}
