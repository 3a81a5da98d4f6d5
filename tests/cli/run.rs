//! `run`: the daemon, and what other commands hand to it.

use crate::world::{Background, KEY, Ran, World, with_secret};
use std::time::Duration;

#[test]
fn the_daemon_runs_reloads_and_stops_when_asked() {
    let world = World::new(20, "");
    let mut daemon = Background::start(world.folder.path());
    daemon.says("no Intercom client secret");
    let all = world.intercom.truth().distinct_emails as u64;
    let in_step = (0..2_000).any(|_| {
        let status = world.run(&["status", "--json"]);
        world.assert_tells_nothing(&status);
        let status = status.json();
        status["daemon"] == true
            && status["holder"].as_str().is_some_and(|who| who.contains("linkspan run"))
            && status["contactsSynced"].as_u64() == Some(all)
            && status["nextRun"].is_string()
    });
    assert!(in_step, "the daemon brings everybody over, and status shows it beside it");
    let second = world.run(&["run"]);
    assert_eq!(second.code, 75, "{}", second.err);
    assert!(second.err.contains(&daemon.process.id().to_string()), "names the holder: {}", second.err);

    for looks in [&["mapping", "preview"][..], &["sync", "--dry-run"]] {
        let ran = world.run(looks);
        assert_eq!(ran.code, 0, "beside the daemon, on a copy: {}", ran.err);
        assert!(ran.err.contains("a copy of it"), "{}", ran.err);
    }

    let path = world.folder.path().join("config.yaml");
    let good = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{good}nonsense: 1\n")).unwrap();
    for _ in 0..2 {
        // The same mistake is told again: compared is with what runs, not with the file as it was last read.
        daemon.log.clear();
        daemon.signal("-HUP");
        daemon.says("the old one stays");
        assert!(daemon.log.contains("nonsense"), "says why: {}", daemon.log);
    }
    std::fs::write(&path, &good).unwrap();
    daemon.signal("-HUP");
    daemon.says("config and mapping are unchanged");
    std::fs::write(&path, format!("{good}events: {{max_age: 12h}}\n")).unwrap();
    daemon.signal("-HUP");
    daemon.says("config and mapping reloaded");
    for _ in 0..2 {
        // What takes effect at the next start only does not run, however often it was read.
        std::fs::write(&path, format!("{good}events: {{max_age: 12h}}\n").replace(KEY, "xkeysib-another")).unwrap();
        daemon.signal("-HUP");
        daemon.says("`connectors.brevo.api_key` has changed");
        daemon.says("all else is unchanged");
    }
    std::fs::write(&path, &good).unwrap();
    daemon.signal("-HUP");
    daemon.says("config and mapping reloaded");
    assert!(!daemon.log.lines().last().unwrap().contains("api_key"), "it is what runs: {}", daemon.log);
    // A mapping that the account does not take: why, as often as it is asked for; and what runs is still what ran.
    world.brevo.create_attribute("SEEN", "boolean");
    std::fs::write(&path, format!("{good}field_mapping:\n  last_seen_at: {{to: SEEN, type: date}}\n")).unwrap();
    for _ in 0..2 {
        daemon.signal("-HUP");
        daemon.says("the new config is not used, the old one stays");
        daemon.says("SEEN");
    }
    std::fs::write(&path, &good).unwrap();
    daemon.signal("-HUP");
    daemon.says("config and mapping are unchanged");
    daemon.signal("-TERM");
    daemon.says("stopped");
    assert!(daemon.process.wait().unwrap().success());
    world.assert_tells_nothing(&Ran { code: 0, out: String::new(), err: daemon.log.clone() });
}

/// What is acknowledged is kept in the state; so nothing may be for a state of other accounts.
#[test]
fn nothing_is_received_for_a_state_of_other_accounts() {
    let world = World::new(20, "");
    std::fs::write(world.folder.path().join("config.yaml"), with_secret(&world)).unwrap();
    assert_eq!(world.run(&["sync"]).code, 0);
    for (key, code) in [("intercom", 1), ("brevo", 1)] {
        let state = rusqlite::Connection::open(world.state()).unwrap();
        let before: String = state.query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| row.get(0)).unwrap();
        state.execute("UPDATE meta SET value = 'another' WHERE key = ?1", [key]).unwrap();
        let tables = world.tables();
        let ran = world.run(&["run"]);
        assert_eq!(ran.code, code, "{}", ran.err);
        assert!(ran.err.contains("another") && ran.err.contains("it was not touched"), "{}", ran.err);
        assert!(!ran.err.contains("receiving"), "the receiver never opened: {}", ran.err);
        assert!(world.tables() == tables, "nothing was written");
        state.execute("UPDATE meta SET value = ?2 WHERE key = ?1", [key, &before]).unwrap();
    }
}

/// While both vendors are down, the state says whose it is, and webhooks are kept.
#[test]
fn webhooks_are_received_while_the_vendors_are_down() {
    use hmac::{KeyInit as _, Mac as _};
    let world = World::new(20, "");
    let path = world.folder.path().join("config.yaml");
    let good = with_secret(&world);
    std::fs::write(&path, &good).unwrap();
    assert_eq!(world.run(&["sync"]).code, 0);
    // Nobody listens there.
    let down: Vec<String> = (good.lines())
        .map(|line| {
            let at = line.find("base_url:").map(|at| format!("{}base_url: http://127.0.0.1:9", &line[..at]));
            at.unwrap_or_else(|| line.to_owned())
        })
        .collect();
    std::fs::write(&path, down.join("\n")).unwrap();
    let mut daemon = Background::start(world.folder.path());
    daemon.says("receiving Intercom's webhooks");
    let address = daemon.log.lines().last().unwrap().split("address=").nth(1).unwrap().trim().to_owned();
    let body = r#"{"topic": "contact.user.updated", "id": "n1", "data": {"item": {"id": "5"}}}"#;
    let mut mac = hmac::Hmac::<sha1::Sha1>::new_from_slice(world.intercom.client_secret().as_bytes()).unwrap();
    mac.update(body.as_bytes());
    let hex = mac.finalize().into_bytes().iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    let request = reqwest::Client::new()
        .post(format!("http://{address}/webhooks/intercom"))
        .header("X-Hub-Signature", format!("sha1={hex}"))
        .body(body);
    let status = world.runtime.block_on(async { request.send().await.unwrap().status() });
    assert_eq!(status.as_u16(), 200);
    daemon.signal("-TERM");
    daemon.says("stopped");
    let kept = world.run(&["status", "--json"]).json();
    assert_eq!(kept["webhooksWaiting"], 1, "{kept}");
}

#[test]
fn sync_and_retry_are_handed_to_the_daemon_that_has_the_state() {
    let world = World::new(20, "schedule:\n  brevo_contacts: {incremental: never}\n");
    assert_eq!(world.run(&["sync"]).code, 0);
    let mut daemon = Background::start(world.folder.path());
    let begun = (0..2_000).any(|_| world.run(&["status", "--json"]).json()["nextRun"].is_string());
    assert!(begun, "the daemon has planned its next runs");

    let id = world.intercom.contact_ids().into_iter().find(|id| {
        let email = world.intercom.contact(id).and_then(|contact| Some(contact["email"].as_str()?.to_lowercase()));
        email.is_some_and(|email| world.brevo.contact_by_email(&email).is_some())
    });
    world.intercom.edit_contact(&id.unwrap(), &serde_json::json!({"name": "Zora Quill"})).unwrap();
    let ran = world.run(&["sync", "--full"]);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    assert!(ran.out.contains("Sync ok"), "{}", ran.out);
    assert!(ran.out.contains("Intercom contacts"), "the same summary as its own: {}", ran.out);
    assert!(ran.err.contains("linkspan run") && ran.err.contains("Reading Intercom contacts"), "{}", ran.err);
    world.assert_tells_nothing(&ran);
    let arrived = |name: &str| {
        world.brevo.contacts().into_iter().any(|contact| contact.attributes.values().any(|value| value == name))
    };
    assert!(arrived("Zora"), "the run wrote what it found");
    daemon.says("a run begins, as ordered");
    daemon.says("a run ended, as ordered outcome=\"ok\"");

    let ran = world.run(&["sync", "--resources", "contacts", "--json"]);
    assert_eq!((ran.code, ran.json()["outcome"].as_str()), (0, Some("ok")), "{}{}", ran.out, ran.err);
    assert!(ran.json()["read"]["intercom contacts"]["pages"].is_u64() && ran.json()["seconds"].is_number());

    let ran = world.run(&["failed", "retry", "--json"]);
    assert_eq!((ran.code, ran.json()["retried"].as_u64()), (0, Some(0)), "{}{}", ran.out, ran.err);
    assert_eq!(world.run(&["failed", "retry", "4711"]).code, 1);

    world.brevo.knobs(|knobs| knobs.ip_blocked = true);
    let ran = world.run(&["sync"]);
    assert_eq!(ran.code, 1, "{}", ran.out);
    assert!(ran.err.contains("error: Brevo") && ran.err.contains("help:"), "with the remedy: {}", ran.err);
    assert!(ran.err.contains("Authorised IPs"), "{}", ran.err);
    let status = world.run(&["status", "--json"]).json();
    assert_eq!(status["refusals"][0]["side"], "brevo", "{status}");
    world.brevo.knobs(|knobs| knobs.ip_blocked = false);

    // The daemon goes while somebody waits for it.
    world.intercom.knobs(|knobs| knobs.latency = Duration::from_secs(30));
    let waiting = std::process::Command::new(env!("CARGO_BIN_EXE_linkspan"))
        .current_dir(world.folder.path())
        .env_clear()
        .args(["sync", "--full"])
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    daemon.says("a run begins, as ordered");
    daemon.says("a run begins, as ordered");
    daemon.says("a run begins, as ordered");
    daemon.signal("-KILL");
    let output = waiting.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("stopped before this was done"), "{said}");
}

#[test]
fn a_webhook_reaches_brevo_through_the_daemon() {
    use linkspan::sandbox::{Deliverer, DeliveryRules};
    let world = World::new(20, "");
    let path = world.folder.path().join("config.yaml");
    let with_secret = std::fs::read_to_string(&path).unwrap().replace(
        "    lists:",
        &format!("    client_secret: {}\n    log_webhooks: true\n    lists:", world.intercom.client_secret()),
    );
    std::fs::write(&path, with_secret).unwrap();
    assert_eq!(world.run(&["sync"]).code, 0);
    world.intercom.webhooks_on(true);
    let mut daemon = Background::start(world.folder.path());
    daemon.says("receiving Intercom's webhooks");
    // The line names the address: the port was the system's choice.
    let address = daemon.log.lines().last().unwrap().split("address=").nth(1).unwrap().trim().to_owned();
    let url = format!("http://{address}/webhooks/intercom");
    let deliverer =
        Deliverer::to_url(&url, DeliveryRules::intercom(), tokio_util::sync::CancellationToken::new()).unwrap();
    let (id, email) = (world.intercom.contact_ids().into_iter())
        .find_map(|id| {
            let email = world.intercom.contact(&id)?["email"].as_str()?.to_lowercase();
            world.brevo.contact_by_email(&email).map(|_| (id, email))
        })
        .unwrap();
    world.intercom.unsubscribe(&id).unwrap();
    world.runtime.block_on(async {
        deliverer.deliver(world.intercom.take_webhooks());
        deliverer.idle().await;
        for _ in 0..3_000 {
            if world.brevo.contact_by_email(&email).is_some_and(|contact| contact.email_blacklisted) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the opt-out never arrived");
    });
    assert_eq!(deliverer.deliveries().failed_attempts, 0);
    daemon.signal("-INT");
    daemon.says("stopped");
    assert!(daemon.process.wait().unwrap().success());
    assert!(
        daemon.log.contains("topic=contact.unsubscribed") || daemon.log.contains("topic=contact."),
        "{}",
        daemon.log
    );
    let private = world.private();
    assert!(!private.iter().any(|text| daemon.log.contains(text)), "{}", daemon.log);
    assert!(!daemon.log.contains(world.intercom.client_secret()), "{}", daemon.log);
    let status = world.run(&["status", "--json"]).json();
    assert!(status["webhookSeenAt"].is_string(), "{status}");
    assert_eq!(status["daemon"], false);
}
