//! `sandbox`.

use serde_json::Value;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};

/// Ended with the test, however that ends.
struct Sandbox {
    process: Child,
    said: Value,
}

impl Sandbox {
    fn start(seed: &str) -> Self {
        let mut process = std::process::Command::new(env!("CARGO_BIN_EXE_linkspan"))
            .env_clear()
            .args(["sandbox", "--contacts", "20", "--seed", seed, "--json"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { process, said: serde_json::from_str(&line).unwrap() }
    }

    fn get(&self, vendor: &str, path: &str) -> Value {
        let text = |key: &str| self.said[vendor][key].as_str().unwrap_or_default().to_owned();
        let request = reqwest::Client::new()
            .get(format!("{}{path}", text("base_url")))
            .header("authorization", format!("Bearer {}", text("access_token")))
            .header("intercom-version", "2.11")
            .header("api-key", text("api_key"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let body = runtime.block_on(async { request.send().await.unwrap().bytes().await.unwrap() });
        serde_json::from_slice(&body).unwrap()
    }

    /// Whose they are, and what is in them.
    fn accounts(&self) -> ([Value; 2], [Value; 2]) {
        let ids = |contacts: &Value| contacts.as_array().unwrap().iter().map(|contact| contact["id"].clone()).collect();
        let in_brevo = &self.get("brevo", "/contacts")["contacts"];
        assert!(!in_brevo.as_array().unwrap().is_empty());
        (
            [
                self.get("intercom", "/me")["app"]["id_code"].clone(),
                self.get("brevo", "/account")["organization_id"].clone(),
            ],
            [self.get("intercom", "/contacts")["data"].clone(), ids(in_brevo)],
        )
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

#[test]
fn the_sandbox_says_where_it_is() {
    let said = &Sandbox::start("9").said;
    for (vendor, keys) in
        [("intercom", &["base_url", "access_token", "client_secret"][..]), ("brevo", &["base_url", "api_key"])]
    {
        for key in keys {
            assert!(said[vendor][key].as_str().is_some_and(|text| !text.is_empty()), "{vendor}.{key} in {said}");
        }
    }
}

#[test]
fn the_same_seed_is_the_same_two_accounts_whenever_it_starts() {
    let (pair, records) = Sandbox::start("7").accounts();
    assert!(pair.iter().all(Value::is_string), "{pair:?}");
    assert!(records[0].as_array().is_some_and(|contacts| contacts.len() > 10), "{records:?}");
    let (other_pair, other_records) = Sandbox::start("8").accounts();
    assert!(pair.iter().zip(&other_pair).all(|(one, other)| one != other), "{pair:?} {other_pair:?}");
    assert_ne!(records[0], other_records[0]);
    // That a day between the two changes nothing either is shown under simulated time (`tests/engine/anew.rs`).
    assert_eq!(Sandbox::start("7").accounts(), (pair, records));
}
