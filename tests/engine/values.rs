//! What Brevo does to values without a word, in each of the ways that were seen.

use crate::harness::{World, minutes};
use axum::body::Body;
use axum::http::Request;
use linkspan::sandbox::intercom::ContactSeed;
use serde_json::json;
use tower::ServiceExt as _;

const CONFIG: &str = "field_mapping: {email: email, name: FULLNAME, custom_attributes.tier: TIER}\n";

/// The rules under which something is listed as failed.
async fn failed(world: &World) -> Vec<String> {
    world.store.read(|tx| tx.failures(10)).await.unwrap().into_iter().map(|failure| failure.field).collect()
}

/// Brevo cuts long texts. What it has kept of one is as good as it gets; a text of which next to nothing is left was not
/// cut, but is another.
#[tokio::test(start_paused = true)]
async fn a_text_that_brevo_cuts_is_neither_sent_for_ever_nor_a_failure_unless_little_is_left() {
    for (limit, listed) in [(120, &[][..]), (100, &[]), (50, &["name -> FULLNAME"])] {
        let world = World::new(CONFIG);
        world.brevo.knobs(|knobs| knobs.text_limit = Some(limit));
        let email = Some("ann@x.example".to_owned());
        let id = world.intercom.create_contact(ContactSeed { email, ..ContactSeed::default() });
        minutes(10).await;
        world.sync().await;
        let long = "abcdefghi ".repeat(30);
        world.intercom.edit_contact(&id, &json!({"name": long.trim(), "custom_attributes": {"tier": "gold"}})).unwrap();
        for _ in 0..3 {
            minutes(30).await;
            world.full().await;
        }
        let kept = world.attribute("ann@x.example", "FULLNAME");
        let kept = kept.as_ref().and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
        assert!(long.starts_with(&kept) && kept.len() <= limit && kept.len() + 1 >= limit, "{limit}: {kept:?}");
        assert_eq!(world.attribute("ann@x.example", "TIER"), Some(json!("gold")));
        assert_eq!(failed(&world).await, listed, "cut to {limit}");
        world.is_quiet().await;
    }
}

/// Somebody deletes an attribute while we run: Brevo refuses the whole write, or takes it and drops the value.
#[tokio::test(start_paused = true)]
async fn an_attribute_that_is_no_longer_there_holds_up_nothing_else_in_either_form() {
    for refuse in [true, false] {
        let world = World::new(CONFIG);
        world.brevo.knobs(|knobs| knobs.refuse_unknown_attributes = refuse);
        let email = Some("ann@x.example".to_owned());
        let seed = ContactSeed { email, name: Some("Ann".to_owned()), ..ContactSeed::default() };
        let id = world.intercom.create_contact(seed);
        minutes(10).await;
        world.sync().await;
        assert_eq!(world.attribute("ann@x.example", "FULLNAME"), Some(json!("Ann")));
        let request =
            Request::delete("/v3/contacts/attributes/normal/FULLNAME").header("api-key", world.brevo.api_key());
        let answer = world.brevo.router().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.status());
        minutes(30).await;
        world.intercom.edit_contact(&id, &json!({"name": "Anna", "custom_attributes": {"tier": "gold"}})).unwrap();
        for _ in 0..3 {
            minutes(30).await;
            world.sync().await;
        }
        assert_eq!(world.attribute("ann@x.example", "TIER"), Some(json!("gold")), "refuse: {refuse}");
        assert_eq!(world.attribute("ann@x.example", "FULLNAME"), None);
        assert_eq!(failed(&world).await, ["name -> FULLNAME"], "refuse: {refuse}");
    }
}
