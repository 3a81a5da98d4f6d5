//! Brevo's webhooks as our client registers them, and what the sandbox then sends to our receiver.

use crate::waiting;
use crate::world::{World, pass, send};
use axum::body::Body;
use axum::http::{Request, StatusCode};
use linkspan::brevo::registrations::{Kind, Wanted};
use linkspan::brevo::webhook::Auth;
use linkspan::brevo::{BrevoClient, BrevoOptions};
use linkspan::http::InProcess;
use linkspan::sandbox::brevo::ContactSeed;
use linkspan::sandbox::{Deliverer, DeliveryRules};
use linkspan::server::{BREVO_PATH, Server};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

fn client(world: &World) -> BrevoClient {
    let options = BrevoOptions::new(world.brevo.api_key().to_owned().into()).unwrap();
    BrevoClient::new(options, Arc::new(InProcess::new(world.brevo.router())), world.connection.doors().clone())
}

fn wanted(auth: Auth, batched: bool) -> Wanted {
    let url = "https://linkspan.example.com/webhooks/brevo".parse().unwrap();
    Wanted { kind: Kind::Marketing, url, auth, events: Kind::Marketing.events(false), batched }
}

fn ways() -> [Auth; 3] {
    // What an address cannot carry as it is, too.
    let secret = || "s3cr:et/@?".to_owned().into();
    [
        Auth::Bearer(secret()),
        Auth::Basic("linkspan".to_owned(), secret()),
        Auth::Header("x-linkspan-secret".parse().unwrap(), secret()),
    ]
}

#[tokio::test(start_paused = true)]
async fn what_is_registered_reaches_our_receiver_each_way_alone_and_in_batches() {
    for auth in ways() {
        for batched in [false, true] {
            let world = World::new();
            let client = client(&world);
            client.create_webhook(&wanted(auth.clone(), batched)).await.unwrap();
            for name in ["ada", "bob"] {
                let seed = ContactSeed { email: Some(format!("{name}@x.example")), ..ContactSeed::default() };
                world.brevo.create_contact(seed).unwrap();
                world.brevo.unsubscribe(&format!("{name}@x.example"));
            }
            if batched {
                assert_eq!(world.brevo.take_webhooks(), [], "its window is open");
                pass(301).await;
            }
            let router = Server::new(world.connection.clone(), None).with_brevo(Some(auth.clone())).router();
            let stop = CancellationToken::new();
            let deliverer = Deliverer::to_router(router, BREVO_PATH, DeliveryRules::brevo(), stop);
            let hooks = world.brevo.take_webhooks();
            assert!(
                hooks.iter().all(|hook| hook.url.as_deref() == Some("https://linkspan.example.com/webhooks/brevo"))
            );
            let posts = hooks.len() as u64;
            deliverer.deliver(hooks);
            deliverer.idle().await;
            assert_eq!((deliverer.deliveries().accepted, deliverer.deliveries().lost), (posts, 0), "{auth:?}");
            assert_eq!(waiting(&world).await, posts);
            assert_eq!(posts == 1, batched);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_differs_is_seen_and_changed_and_nothing_else() {
    let world = World::new();
    let client = client(&world);
    assert!(client.webhooks(Kind::Marketing).await.unwrap().is_empty(), "none is a 400 there");
    for before in ways() {
        for after in ways() {
            let id = client.create_webhook(&wanted(before.clone(), false)).await.unwrap();
            let old = client.webhooks(Kind::Marketing).await.unwrap().remove(0);
            assert!(old.goes_to(&wanted(before.clone(), false).url));
            assert_eq!(old.address(), "https://linkspan.example.com/webhooks/brevo", "without a password");
            assert_eq!(old.differences(&wanted(before.clone(), false)), Vec::<&str>::new(), "{before:?}");
            assert_eq!(old.differences(&wanted(before.clone(), true)), ["batched"]);
            let mut more = wanted(after.clone(), true);
            more.events = Kind::Marketing.events(true);
            assert_eq!(old.differences(&more)[..2], ["events", "batched"]);
            let changed = client.change_webhook(&old, &more).await.unwrap();
            let mut now = client.webhooks(Kind::Marketing).await.unwrap();
            assert_eq!(now.len(), 1, "never two, and never none");
            let now = now.remove(0);
            assert_eq!((now.id, now.differences(&more)), (changed, Vec::new()), "{before:?} → {after:?}");
            assert!(!format!("{now:?}").contains("s3cr"), "{now:?}");
            let same_way = std::mem::discriminant(&before) == std::mem::discriminant(&after);
            assert!(!same_way || changed == id, "changed in place");
            client.delete_webhook(changed).await.unwrap();
            client.delete_webhook(changed).await.unwrap();
        }
    }
}

/// A receiver that cannot keep what comes says "later", which brings all of it back; whatever Brevo discards is final.
#[tokio::test(start_paused = true)]
async fn what_cannot_be_kept_comes_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let store = linkspan::store::Store::open(&path, linkspan::store::Calling::Inline).unwrap();
    let world = World::on(store);
    // Somebody else writes to the file, and goes on for longer than the state waits.
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let body = r#"{"event":"spam","email":"a@x.example"}"#;
    let token = format!("Bearer {}", crate::world::BREVO_SECRET);
    let request = Request::post(BREVO_PATH).header("authorization", &token).body(Body::from(body)).unwrap();
    let (status, headers, words) = send(&world.router, request).await;
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS, "{words}");
    assert!(headers.contains_key("retry-after"));
    other.execute_batch("ROLLBACK").unwrap();
    let request = Request::post(BREVO_PATH).header("authorization", &token).body(Body::from(body)).unwrap();
    assert_eq!(send(&world.router, request).await.0, StatusCode::OK);
    assert_eq!(waiting(&world).await, 1);
}
