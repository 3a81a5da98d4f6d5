//! `sandbox`.

#[test]
fn the_sandbox_says_where_it_is() {
    use std::io::{BufRead as _, BufReader};
    let mut sandbox = std::process::Command::new(env!("CARGO_BIN_EXE_linkspan"))
        .env_clear()
        .args(["sandbox", "--contacts", "20", "--seed", "9", "--json"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(sandbox.stdout.take().unwrap()).read_line(&mut line).unwrap();
    sandbox.kill().unwrap();
    sandbox.wait().unwrap();
    let said: serde_json::Value = serde_json::from_str(&line).unwrap();
    for (vendor, keys) in
        [("intercom", &["base_url", "access_token", "client_secret"][..]), ("brevo", &["base_url", "api_key"])]
    {
        for key in keys {
            assert!(said[vendor][key].as_str().is_some_and(|text| !text.is_empty()), "{vendor}.{key} in {line}");
        }
    }
}
