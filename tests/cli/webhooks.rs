//! `webhooks register`, `list` and `remove`.

use crate::world::{KEY, World, run};

/// What is registered in Brevo: `(type, address, batched)`.
fn registered(world: &World) -> Vec<(String, String, bool)> {
    let listed = run(world.folder.path(), &["webhooks", "list", "--json"]).json();
    let text = |webhook: &serde_json::Value, key: &str| webhook[key].as_str().unwrap().to_owned();
    let listed = listed.as_array().unwrap().iter();
    let mut all: Vec<_> = listed
        .filter(|webhook| webhook["ours"] == true)
        .map(|webhook| (text(webhook, "type"), text(webhook, "address"), webhook["batched"] == true))
        .collect();
    all.sort();
    all
}

#[test]
fn webhooks_are_registered_once_changed_listed_and_removed() {
    let world = World::new(0, "");
    let folder = world.folder.path();
    let without = run(folder, &["webhooks", "register"]);
    assert_eq!(without.code, 1);
    assert!(without.err.contains("server.public_url is not set"), "{}", without.err);
    let config = std::fs::read_to_string(folder.join("config.yaml")).unwrap();
    let with = |more: &str| {
        let hooks = format!("  brevo:\n    webhooks: {{{more}}}\n    base_url");
        let server = "  listen: 127.0.0.1:0\n  public_url: https://linkspan.example.com/sub/\n";
        let config =
            config.replacen("  brevo:\n    base_url", &hooks, 1).replacen("  listen: 127.0.0.1:0\n", server, 1);
        std::fs::write(folder.join("config.yaml"), config).unwrap();
    };
    with("");
    let without = run(folder, &["webhooks", "register"]);
    assert_eq!(without.code, 1);
    assert!(without.err.contains("BREVO_WEBHOOK_SECRET"), "{}", without.err);
    assert!(registered(&world).is_empty());

    with("secret: aVerySecretText");
    let first = run(folder, &["webhooks", "register"]);
    assert_eq!(first.code, 0, "{}", first.err);
    assert!(first.out.contains("marketing: registered, webhook 1"), "{}", first.out);
    assert!(first.out.contains("https://linkspan.example.com/sub/webhooks/intercom"), "{}", first.out);
    assert!(first.out.contains("contact.unsubscribed"), "{}", first.out);
    let again = run(folder, &["webhooks", "register", "--json"]).json();
    let outcomes = |ran: &serde_json::Value| -> Vec<String> {
        ran["brevo"].as_array().unwrap().iter().map(|one| one["outcome"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(outcomes(&again), ["already registered", "already registered"]);
    assert!(again["intercom"]["topics"].as_array().unwrap().len() > 20);
    let address = "https://linkspan.example.com/sub/webhooks/brevo".to_owned();
    let ours = |batched| {
        vec![("marketing".to_owned(), address.clone(), batched), ("transactional".to_owned(), address.clone(), batched)]
    };
    assert_eq!(registered(&world), ours(false));

    // Other ways to prove it, and back.
    for more in ["secret: another, batched: true", "secret: another, auth: basic", "secret: x1, auth: header"] {
        with(more);
        let changed = run(folder, &["webhooks", "register", "--json"]);
        assert_eq!(outcomes(&changed.json()), ["changed", "changed"], "{more}");
        assert_eq!(registered(&world), ours(more.contains("batched")), "{more}");
        let listed = run(folder, &["webhooks", "list"]);
        assert!(!listed.out.contains("another:") && !changed.out.contains("another"), "no secret: {}", listed.out);
    }

    // Somebody else's stay.
    let theirs = serde_json::json!({
        "url": "https://crm.example.com/hooks", "type": "marketing", "events": ["spam"], "description": "CRM"
    });
    let request = reqwest::Client::new().post(format!("{}/v3/webhooks", world.serving.1.base_url()));
    let request = request.header("api-key", KEY).header("content-type", "application/json").body(theirs.to_string());
    world.runtime.block_on(request.send()).unwrap().error_for_status().unwrap();
    let removed = run(folder, &["webhooks", "remove", "--json"]).json();
    assert_eq!(removed["removed"].as_array().unwrap().len(), 2);
    assert!(registered(&world).is_empty());
    let listed = run(folder, &["webhooks", "list"]).out;
    assert!(listed.contains("https://crm.example.com/hooks") && listed.contains("another's"), "{listed}");
    assert_eq!(run(folder, &["webhooks", "remove"]).code, 0);
}
