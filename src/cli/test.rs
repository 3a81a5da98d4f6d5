//! `test`: whether both accounts can be used, one line each, with the remedy beside what is wrong. Nothing is written.

use super::connect::Clients;
use super::{CliError, Context, connect};
use crate::config::{Config, ConsentDirection, Region};
use crate::engine::{BREVO_WEBHOOK_SEEN, EngineError};
use crate::mapping::{About, Misfit};
use crate::model::{
    AccountInfo, AuthProblem, ErrorKind, Priority, ReadRequest, Resource, Scope, Side, SideError, SideName,
};
use crate::store::{Store, StoreError};
use chrono::{DateTime, Utc};
use serde::Serialize;

/// A clock that is off by more than this makes logs hard to compare with the vendors'. Nothing else hangs on it:
/// watermarks are the vendors' own instants.
const MOST_SKEW_SECONDS: i64 = 60;

const CONNECTOR: &str = "Intercom connector";
const INTERCOM: &str = "Intercom API";
const BREVO: &str = "Brevo API";
const BREVO_CONTACTS: &str = "Brevo contacts readable";
const BREVO_ATTRIBUTES: &str = "Brevo attributes writable";
const BREVO_LISTS: &str = "Brevo lists writable";
const STATE: &str = "State";
const NO_STATE: &str = "none yet; the first run makes it";
const MAPPING: &str = "Mapping";
const LISTS: &str = "Lists of the config";

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Check {
    name: &'static str,
    ok: bool,
    /// A sync works without it.
    optional: bool,
    /// It is the config that is to be changed.
    #[serde(skip)]
    of_config: bool,
    detail: String,
    remedy: Option<String>,
}

impl Check {
    fn good(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, ok: true, optional: false, of_config: false, detail: detail.into(), remedy: None }
    }

    fn bad(name: &'static str, detail: impl Into<String>, remedy: impl Into<Option<String>>) -> Self {
        Self { name, ok: false, optional: false, of_config: false, detail: detail.into(), remedy: remedy.into() }
    }

    /// What cannot be known while something else is wrong.
    fn not_asked(name: &'static str, because_of: &'static str) -> Self {
        Self::bad(name, format!("not asked: see {because_of}"), None)
    }

    fn refused(name: &'static str, error: &SideError) -> Self {
        Self::bad(name, error.to_string(), error.remedy().map(str::to_owned))
    }
}

pub(super) async fn run(context: &Context) -> Result<(), CliError> {
    let config = context.usable_config()?;
    let clients = connect::clients(config, &context.doors)?;
    let (intercom, brevo) = (clients.intercom.as_ref(), clients.brevo.as_ref());
    let mut checks = Vec::new();

    let workspace = if config.intercom.enabled {
        match intercom.account().await {
            Err(error) if error.kind == ErrorKind::Auth(AuthProblem::BadCredentials) => {
                let lives_in = connect::region_that_knows_the_token(config, &context.doors).await;
                checks.push(not_let_in(&error, config.intercom.region, lives_in));
                None
            }
            told => account(told, INTERCOM, &mut checks),
        }
    } else {
        checks.push(Check {
            of_config: true,
            ..Check::bad(
                CONNECTOR,
                "switched off (connectors.intercom.enabled: false): `run` and `sync` would do nothing, so Intercom was not \
                 asked",
                "Set it to true, or leave the line out.".to_owned(),
            )
        });
        None
    };
    let organisation = account(brevo.account().await, BREVO, &mut checks);
    let whose = if config.intercom.enabled { INTERCOM } else { CONNECTOR };
    for (name, resource) in [
        ("Intercom contacts readable", Resource::Contacts),
        ("Intercom conversations readable", Resource::Conversations),
        ("Intercom companies readable", Resource::Companies),
    ] {
        checks.push(match &workspace {
            Some(workspace) => {
                let zone = workspace.timezone.as_deref().and_then(|name| name.parse().ok()).unwrap_or(chrono_tz::UTC);
                readable(intercom, name, resource, zone).await
            }
            None => Check::not_asked(name, whose),
        });
    }
    if organisation.is_none() {
        checks.extend([BREVO_CONTACTS, BREVO_ATTRIBUTES, BREVO_LISTS].map(|name| Check::not_asked(name, BREVO)));
    } else {
        checks.push(readable(brevo, BREVO_CONTACTS, Resource::Contacts, chrono_tz::UTC).await);
        // A key of Brevo's has no scopes: what it may read, it may write. A trial write could set off automations.
        let inferred = "by reading; a Brevo key that may read may write, and nothing was written to try";
        checks.push(match brevo.attributes().await {
            Ok(attributes) => {
                let writable = attributes.iter().filter(|attribute| attribute.writable).count();
                Check::good(BREVO_ATTRIBUTES, format!("{writable} there; {inferred}"))
            }
            Err(error) => Check::refused(BREVO_ATTRIBUTES, &error),
        });
        let mut lists = readable(brevo, BREVO_LISTS, Resource::Lists, chrono_tz::UTC).await;
        if lists.ok {
            lists.detail = format!("{}; {inferred}", lists.detail);
        }
        checks.push(lists);
    }
    if workspace.is_some() && organisation.is_some() {
        start(context, config, clients, &mut checks).await;
    } else {
        let whose = if workspace.is_none() { whose } else { BREVO };
        checks.push(state_alone(config, whose));
        checks.extend([MAPPING, LISTS].map(|name| Check::not_asked(name, whose)));
    }
    checks.push(opt_outs(config));
    if config.intercom.enabled {
        checks.push(webhooks(config).await);
        checks.push(brevo_webhooks(config).await);
    }
    checks.extend(skew(context, &[workspace, organisation]));
    show(context, &checks)
}

/// Intercom refuses a good token at another region's address with the words that it has for a wrong one, so the others
/// are asked.
fn not_let_in(error: &SideError, asked: Region, lives_in: Option<Region>) -> Check {
    let Some(region) = lives_in.map(Region::as_str) else { return Check::refused(INTERCOM, error) };
    let detail = format!("the token is right, but its workspace lives in region {region}, not {}", asked.as_str());
    Check { of_config: true, ..Check::bad(INTERCOM, detail, format!("Set connectors.intercom.region: {region}.")) }
}

fn account(
    told: Result<AccountInfo, Box<SideError>>,
    name: &'static str,
    checks: &mut Vec<Check>,
) -> Option<AccountInfo> {
    match told {
        Ok(account) => {
            let region = account.region.as_deref().map(|region| format!(", region {region}")).unwrap_or_default();
            let title = account.name.as_deref().map(|name| format!("{name} ")).unwrap_or_default();
            checks.push(Check::good(name, format!("{title}({}{region})", account.id)));
            Some(account)
        }
        Err(error) => {
            checks.push(Check::refused(name, &error));
            None
        }
    }
}

async fn readable(side: &dyn Side, name: &'static str, resource: Resource, timezone: chrono_tz::Tz) -> Check {
    let request = ReadRequest { resource, scope: Scope::Full, cursor: None, timezone, priority: Priority::Live };
    match side.read(&request).await {
        Ok(page) => {
            let shown = page.observations.len() as u64;
            let count = page.total.map_or_else(
                || if page.next.is_some() { format!("more than {shown}") } else { shown.to_string() },
                |total| total.to_string(),
            );
            Check::good(name, format!("{count} there"))
        }
        Err(error) => {
            let mut check = Check::refused(name, &error);
            if error.side == SideName::Intercom && error.kind == ErrorKind::Auth(AuthProblem::MissingScope) {
                check.detail = format!("{}; what is missing: read access to {}", check.detail, resource.as_str());
            }
            check
        }
    }
}

fn unusable(error: StoreError) -> Check {
    let help = CliError::Store(error);
    Check::bad(STATE, help.to_string(), help.help())
}

/// What the file says by itself, while an account cannot say who it is.
fn state_alone(config: &Config, because_of: &'static str) -> Check {
    match connect::copy(config) {
        Ok(_) if config.state.path.exists() => {
            let words = format!("sound and of this version; of which accounts is not known: see {because_of}");
            Check::good(STATE, words)
        }
        Ok(_) => Check::good(STATE, NO_STATE),
        Err(error) => unusable(error),
    }
}

/// What a sync finds out before its first write, on a copy of the state: it refuses what it cannot work with, and that
/// is to be known before.
async fn start(context: &Context, config: &Config, clients: Clients, checks: &mut Vec<Check>) {
    let mut outcome = match connect::copy(config) {
        Ok(store) => connect::connection(context, config, clients.clone(), store).prepare(true).await,
        Err(error) => Err(EngineError::Store(error)),
    };
    if let Err(EngineError::Store(error)) = outcome {
        checks.push(unusable(error));
        // Whether the accounts fit the mapping does not hang on the state.
        outcome = match Store::in_memory() {
            Ok(store) => connect::connection(context, config, clients, store).prepare(true).await,
            Err(_) => return,
        };
    } else if matches!(outcome, Ok(_) | Err(EngineError::Unfit(_))) {
        let there = if config.state.path.exists() { "of these two accounts" } else { NO_STATE };
        checks.push(Check::good(STATE, there));
    }
    match outcome {
        Ok(ready) => {
            let to_make = |missing: &[String]| match missing.len() {
                0 => "all there".to_owned(),
                count => format!("{count} to be made by the first sync"),
            };
            checks.push(Check::good(MAPPING, format!("fits; attributes: {}", to_make(&ready.missing_attributes))));
            checks.extend(
                ready.doubts.iter().map(|doubt| Check {
                    optional: true,
                    ..Check::bad(MAPPING, doubt.to_string(), doubt.help.clone())
                }),
            );
            checks.push(Check::good(LISTS, to_make(&ready.missing_lists)));
        }
        Err(EngineError::Unfit(misfits)) => {
            for (name, about, well) in [(MAPPING, About::Attribute, "fits"), (LISTS, About::List, "all there")] {
                let found: Vec<&Misfit> = misfits.iter().filter(|misfit| misfit.about == about).collect();
                if found.is_empty() {
                    checks.push(Check::good(name, well));
                }
                checks.extend(found.into_iter().map(|misfit| Check {
                    of_config: true,
                    ..Check::bad(name, misfit.to_string(), misfit.help.clone())
                }));
            }
        }
        Err(error) => {
            let error = CliError::from(error);
            let words = error.to_string();
            // One refusal is told once: the lines above have asked for some of the same.
            if !checks.iter().any(|check| !check.ok && check.detail.starts_with(&words)) {
                checks.push(Check::bad(MAPPING, words, error.help()));
            }
        }
    }
}

/// Which way opt-outs travel. Whether a token may write is seen by writing only.
fn opt_outs(config: &Config) -> Check {
    Check::good(
        "Opt-outs",
        match config.consent.direction {
            ConsentDirection::Both => {
                "travel both ways (consent.direction: both), so the app needs the permission to write users; Intercom does \
                 not tell whether it has it, and nothing was written to try: what it refuses is listed, and stops nothing else"
            }
            ConsentDirection::IntercomToBrevo => {
                "travel to Brevo only (consent.direction: intercom_to_brevo); one made in Brevo is listed"
            }
        },
    )
}

async fn webhooks(config: &Config) -> Check {
    let name = "Webhooks seen";
    let optional = |check: Check| Check { optional: true, ..check };
    if config.intercom.client_secret.is_none() {
        return optional(Check::bad(
            name,
            "without the client secret none are received; changes arrive with the next scheduled read",
            "Copy it from Intercom's Developer Hub (your app, Basic information) into connectors.intercom.client_secret \
             or INTERCOM_CLIENT_SECRET."
                .to_owned(),
        ));
    }
    match seen_at(config, "webhook_seen_at").await {
        Some(at) => optional(Check::good(name, format!("the last one at {}", at.format("%Y-%m-%d %H:%M:%S UTC")))),
        None => optional(Check::bad(
            name,
            "none yet",
            format!(
                "While `linkspan run` listens on {}, make https://<your host>{} reach it, and set that address in \
                 Intercom's Developer Hub (your app, Webhooks); Intercom's test request counts.",
                config.server.listen,
                crate::server::INTERCOM_PATH
            ),
        )),
    }
}

async fn brevo_webhooks(config: &Config) -> Check {
    let name = "Brevo's webhooks seen";
    let optional = |check: Check| Check { optional: true, ..check };
    if config.brevo.webhooks.auth.is_none() {
        return optional(Check::bad(
            name,
            "without a secret none are received; opt-outs and edits in Brevo arrive with the next scheduled read",
            "Set connectors.brevo.webhooks.secret or BREVO_WEBHOOK_SECRET to a long random text.".to_owned(),
        ));
    }
    match seen_at(config, BREVO_WEBHOOK_SEEN).await {
        Some(at) => optional(Check::good(name, format!("the last one at {}", at.format("%Y-%m-%d %H:%M:%S UTC")))),
        None => optional(Check::bad(
            name,
            "none yet",
            "Set server.public_url, start `linkspan run`, and let `linkspan webhooks register` register them."
                .to_owned(),
        )),
    }
}

async fn seen_at(config: &Config, key: &'static str) -> Option<DateTime<Utc>> {
    let store = Store::open_read_only(&config.state.path).ok()?;
    store.read(move |tx| tx.meta(key)).await.ok().flatten()?.parse().ok()
}

fn skew(context: &Context, accounts: &[Option<AccountInfo>]) -> Option<Check> {
    let times = accounts.iter().flatten().filter_map(|account| account.server_time);
    let now = context.doors.clock.now();
    let worst = times.map(|time| (now - time).num_seconds()).max_by_key(|seconds| seconds.abs())?;
    let detail = format!("this machine is {} s {}", worst.abs(), if worst < 0 { "behind" } else { "ahead" });
    let check = if worst.abs() <= MOST_SKEW_SECONDS {
        Check::good("Clock", detail)
    } else {
        Check::bad("Clock", detail, "Let the system's time service (NTP) set the clock.".to_owned())
    };
    Some(Check { optional: true, ..check })
}

fn show(context: &Context, checks: &[Check]) -> Result<(), CliError> {
    let printer = &context.printer;
    let good = checks.iter().all(|check| check.ok || check.optional);
    if printer.is_json() {
        printer.json(&serde_json::json!({"ok": good, "checks": checks}));
    } else {
        for check in checks {
            let mark = if check.ok { printer.tick() } else { printer.cross() };
            let remedy = check.remedy.as_deref().map(|remedy| format!(" → {remedy}")).unwrap_or_default();
            printer.data(format!("{mark} {}: {}{remedy}", check.name, check.detail));
        }
        if good && checks.iter().any(|check| !check.ok) {
            printer.note("a sync works; what is marked ✗ makes it better");
        }
    }
    // Another try is of no use before the config is changed.
    match checks.iter().any(|check| check.of_config) {
        _ if good => Ok(()),
        true => Err(CliError::SaidOfConfig),
        false => Err(CliError::Said),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_of_another_region_is_told_from_a_wrong_one() {
        let kind = ErrorKind::Auth(AuthProblem::BadCredentials);
        let error = SideError::new(SideName::Intercom, kind, "Access Token Invalid");
        let elsewhere = not_let_in(&error, Region::Us, Some(Region::Eu));
        assert!(elsewhere.detail.contains("lives in region eu, not us"), "{}", elsewhere.detail);
        assert_eq!(elsewhere.remedy.as_deref(), Some("Set connectors.intercom.region: eu."));
        let wrong = not_let_in(&error, Region::Us, None);
        assert!(wrong.remedy.unwrap().contains("wrong or revoked"));
    }
}
