//! Both vendors' webhooks, from the HTTP request that carries them to what they change.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "this whole file is a test; clippy only knows functions marked so"
)]

#[path = "webhooks/acted_on.rs"]
mod acted_on;
#[path = "webhooks/brevo.rs"]
mod brevo;
#[path = "webhooks/conversations.rs"]
mod conversations;
#[path = "webhooks/gone.rs"]
mod gone;
#[path = "webhooks/people.rs"]
mod people;
#[path = "webhooks/private.rs"]
mod private;
#[path = "webhooks/registrations.rs"]
mod registrations;
#[path = "webhooks/stops.rs"]
mod stops;
#[path = "webhooks/swaps.rs"]
mod swaps;
#[path = "webhooks/switches.rs"]
mod switches;
#[path = "webhooks/waits.rs"]
mod waits;
#[path = "webhooks/world.rs"]
mod world;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use bytes::Bytes;
use linkspan::server::Server;
use serde_json::json;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use world::{World, send, sign};

async fn waiting(world: &World) -> u64 {
    world.connection.store().read(|tx| tx.inbox_state()).await.unwrap().0
}

fn ping() -> Vec<u8> {
    json!({"type": "notification_event", "id": null, "topic": "ping", "data": {"item": {"type": "ping"}}})
        .to_string()
        .into_bytes()
}

#[tokio::test(start_paused = true)]
async fn only_what_intercom_signed_is_taken() {
    let world = World::new();
    let body = ping();
    let good = world.sign(&body);
    assert_eq!(world.post_with(&[], body.clone()).await, StatusCode::UNAUTHORIZED, "unsigned");
    let wrong = [
        sign("another secret", &body),
        sign("", &body),
        good.replace("sha1=", ""),
        good.replace("sha1=", "SHA1="),
        good.replace("sha1=", "sha256="),
        good[..good.len() - 2].to_owned(),
        format!("{good}00"),
        "sha1=".to_owned(),
        format!("sha1={}", "z".repeat(40)),
    ];
    for signature in &wrong {
        let status = world.post_with(&[("x-hub-signature", signature)], body.clone()).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{signature}");
    }
    let two = [("x-hub-signature", good.as_str()), ("x-hub-signature", good.as_str())];
    assert_eq!(world.post_with(&two, body.clone()).await, StatusCode::UNAUTHORIZED, "two signatures");
    let mut other = body.clone();
    other.push(b' ');
    assert_eq!(world.post_with(&[("x-hub-signature", &good)], other).await, StatusCode::UNAUTHORIZED, "other bytes");
    assert_eq!(waiting(&world).await, 0, "nothing of it is kept");
    assert_eq!(world.counter("webhook_refused_signature").await, 1, "counted as often as it is logged");

    assert_eq!(world.post_with(&[("X-Hub-Signature", &good)], body).await, StatusCode::OK);
    assert_eq!(waiting(&world).await, 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_notification_is_refused_and_nothing_is_lost() {
    let world = World::new();
    let bad: Vec<Vec<u8>> = vec![
        Vec::new(),
        b"not json".to_vec(),
        b"{\"topic\": \"ping\"".to_vec(),
        b"[]".to_vec(),
        b"null".to_vec(),
        b"{}".to_vec(),
        br#"{"topic": null}"#.to_vec(),
        br#"{"topic": ""}"#.to_vec(),
        br#"{"topic": 7}"#.to_vec(),
        format!(r#"{{"topic": "{}"}}"#, "x".repeat(5_000)).into_bytes(),
        [b"[".repeat(200_000), b"]".repeat(200_000)].concat(),
        [br#"{"topic":"ping","data":"#.to_vec(), br#"{"item":"#.repeat(10_000)].concat(),
        vec![0xff, 0xfe, 0x00],
    ];
    for body in bad {
        assert_eq!(world.post_signed(body.clone()).await, StatusCode::BAD_REQUEST, "{} bytes", body.len());
    }
    assert_eq!(waiting(&world).await, 0);
    assert_eq!(world.counter("webhook_refused_unreadable").await, 1);
    assert_eq!(world.post_signed(ping()).await, StatusCode::OK, "and it goes on");
}

/// The refusal repeats nothing of the body.
#[tokio::test(start_paused = true)]
async fn a_refusal_shows_nothing_of_the_body() {
    let world = World::new();
    let body = Bytes::from_static(b"{\"email\": \"somebody@secret.example\", ");
    let request = Request::post("/webhooks/intercom").header("x-hub-signature", world.sign(&body));
    let (status, _, words) = world.send(request.body(Body::from(body)).unwrap()).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(!words.contains("secret"), "{words}");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_too_long_is_not_held() {
    let world = World::new();
    let long = vec![b'x'; linkspan::engine::LONGEST_BODY + 1];
    let signature = world.sign(&long);
    assert_eq!(world.post_with(&[("x-hub-signature", &signature)], long).await, StatusCode::PAYLOAD_TOO_LARGE);

    // Announced: refused without a look at it. The body never ends, and nobody waits for it for long.
    let endless = || {
        Body::from_stream(futures_util::stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            Some((Ok::<_, std::io::Error>(Bytes::from(vec![b'x'; 1024])), ()))
        }))
    };
    let request = Request::post("/webhooks/intercom").header("x-hub-signature", &signature);
    let request = request.header("content-length", "52428800").body(endless()).unwrap();
    assert_eq!(world.send(request).await.0, StatusCode::PAYLOAD_TOO_LARGE);

    // A trickle is cut off before Intercom's five seconds are over.
    let began = tokio::time::Instant::now();
    let request = Request::post("/webhooks/intercom").header("x-hub-signature", &signature);
    assert_eq!(world.send(request.body(endless()).unwrap()).await.0, StatusCode::REQUEST_TIMEOUT);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(waiting(&world).await, 0);
}

#[tokio::test(start_paused = true)]
async fn too_many_at_once_come_again() {
    let world = World::new();
    let body = ping();
    let signature = world.sign(&body);
    let request =
        |body: Body| Request::post("/webhooks/intercom").header("x-hub-signature", &signature).body(body).unwrap();
    let mut crowd = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let (router, request) = (
            world.router.clone(),
            request(Body::from_stream(futures_util::stream::pending::<Result<Bytes, std::io::Error>>())),
        );
        crowd.spawn(async move { send(&router, request).await.0 });
    }
    tokio::time::sleep(Duration::from_millis(10)).await;
    let (status, headers, _) = world.send(request(Body::from(body.clone()))).await;
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
    assert!(headers.contains_key("retry-after"));
    while let Some(status) = crowd.join_next().await {
        assert_eq!(status.unwrap(), StatusCode::REQUEST_TIMEOUT);
    }
    assert_eq!(world.send(request(Body::from(body))).await.0, StatusCode::OK, "there is room again");
}

#[tokio::test(start_paused = true)]
async fn a_state_that_fails_makes_intercom_send_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("linkspan.db");
    drop(linkspan::store::Store::open(&path, linkspan::store::Calling::Inline).unwrap());
    // Open for reading only, it refuses every write, as a full disk does.
    let world = World::on(linkspan::store::Store::open_read_only(&path).unwrap());
    let body = ping();
    let request = Request::post("/webhooks/intercom").header("x-hub-signature", world.sign(&body));
    let (status, headers, _) = world.send(request.body(Body::from(body)).unwrap()).await;
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS, "a 5xx would be tried once more only");
    assert!(headers.contains_key("retry-after"));
}

#[tokio::test(start_paused = true)]
async fn intercom_may_look_before_it_sends() {
    let world = World::new();
    let ask = |method: &str, path: &str| Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
    assert_eq!(world.send(ask("HEAD", "/webhooks/intercom")).await.0, StatusCode::OK);
    assert_eq!(world.send(ask("PUT", "/webhooks/intercom")).await.0, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(world.send(ask("GET", "/health")).await.0, StatusCode::OK);
    let (status, _, body) = world.send(ask("GET", "/ready")).await;
    assert_eq!((status, body.as_str()), (StatusCode::SERVICE_UNAVAILABLE, r#"{"ready":false}"#));
    world.connection.prepare(false).await.unwrap();
    assert_eq!(world.send(ask("GET", "/ready")).await.0, StatusCode::OK);

    for secret in [None, Some("".into())] {
        let deaf = Server::new(world.connection.clone(), secret).router();
        assert_eq!(send(&deaf, ask("HEAD", "/webhooks/intercom")).await.0, StatusCode::NOT_FOUND);
        assert_eq!(send(&deaf, ask("POST", "/webhooks/intercom")).await.0, StatusCode::NOT_FOUND);
        assert_eq!(send(&deaf, ask("GET", "/health")).await.0, StatusCode::OK);
    }
}

/// Over a socket, in real time: a slow head, a long body, and the end.
#[tokio::test]
async fn over_sockets() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let world = World::new();
    let secret = world.intercom.client_secret().to_owned();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let server = Server::new(world.connection.clone(), Some(secret.clone().into()));
    let mut serving = tokio::task::JoinSet::new();
    serving.spawn(server.serve(listener, stop.clone()));

    let client = reqwest::Client::new();
    let url = format!("http://{address}/webhooks/intercom");
    assert_eq!(client.head(&url).send().await.unwrap().status(), 200);
    let body = ping();
    let post = |body: Vec<u8>| client.post(&url).header("X-Hub-Signature", sign(&secret, &body)).body(body);
    assert_eq!(post(body.clone()).send().await.unwrap().status(), 200);
    let long = client.post(&url).header("X-Hub-Signature", "sha1=00").body(vec![b' '; 50 << 20]).send().await;
    // The sender may also see the connection close before it is done with its fifty megabytes.
    assert!(long.is_err() || long.unwrap().status() == 413);

    // One in the middle of its body when the end comes: it is answered still.
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST /webhooks/intercom HTTP/1.1\r\nHost: here\r\nX-Hub-Signature: {}\r\nContent-Length: {}\r\n\r\n",
        sign(&secret, &body),
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&body[..5]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    stop.cancel();
    tokio::time::sleep(Duration::from_millis(50)).await;
    stream.write_all(&body[5..]).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    serving.join_next().await.unwrap().unwrap().unwrap();
    assert!(client.head(&url).send().await.is_err(), "nobody listens any more");
}

/// A sender that never finishes its first line is let go. (Paused time passes while the socket is silent.)
#[tokio::test(start_paused = true)]
async fn a_slow_head_is_cut_off() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let world = World::new();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let mut serving = tokio::task::JoinSet::new();
    serving.spawn(Server::new(world.connection.clone(), None).serve(listener, stop.clone()));
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(b"POST /webhooks/intercom HTTP/1.1\r\nX-").await.unwrap();
    let mut answer = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(60), stream.read_to_end(&mut answer)).await;
    assert!(ended.is_ok(), "the connection was closed");
    stop.cancel();
    serving.join_next().await.unwrap().unwrap().unwrap();
}

#[derive(Clone, Default)]
struct Log(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// The log of this thread, as long as the second part lives.
    fn of(filter: &str) -> (Self, (tracing::Dispatch, tracing::subscriber::DefaultGuard)) {
        let log = Self::default();
        let writer = log.clone();
        // As long as there is one subscriber only, `tracing` asks the thread that comes by a log line first whether
        // anybody wants it, for good; and the other tests' threads have none.
        let second = tracing::Dispatch::new(tracing_subscriber::registry());
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        (log, (second, tracing::subscriber::set_default(subscriber)))
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// With everything switched on: a line for each notification, field names at trace, and nobody's words anywhere.
#[tokio::test(start_paused = true)]
async fn the_log_names_notifications_and_nobody() {
    let (log, _logging) = Log::of("linkspan=trace");
    let mut world = World::new();
    let ada = world.intercom.create_contact(linkspan::sandbox::intercom::ContactSeed {
        email: Some("ada.lovelace@private.example".to_owned()),
        name: Some("Ada Lovelace".to_owned()),
        phone: Some("+353861234567".to_owned()),
        ..Default::default()
    });
    world.sync().await;
    world.run().await;
    world.intercom.edit_contact(&ada, &json!({"name": "Augusta King"})).unwrap();
    let talk = world.intercom.open_conversation(&ada, "my number is 12345").unwrap();
    world.intercom.rate(&talk, 5, Some("lovely people")).unwrap();
    let hooks = world.intercom.take_webhooks();
    for hook in &hooks {
        assert_eq!(world.post(hook).await, StatusCode::OK);
    }
    world::pass(30).await;
    for body in ["{\"email\": \"ada.lovelace@private.example\"}", "{\"topic\": \"x\", \"name\": \"Augusta King\""] {
        assert_eq!(world.post_signed(body).await, StatusCode::BAD_REQUEST);
        assert_eq!(world.post_with(&[], body).await, StatusCode::UNAUTHORIZED);
    }
    let text = log.text();
    for hook in &hooks {
        let id = serde_json::from_slice::<serde_json::Value>(&hook.body).unwrap()["id"].as_str().unwrap().to_owned();
        let line = text.lines().find(|line| line.contains(" INFO ") && line.contains(&id));
        assert!(line.is_some_and(|line| line.contains(&hook.topic)), "one line for {}", hook.topic);
    }
    assert!(text.contains(r#""email":"text""#), "field names at trace");
    assert_eq!(text.matches("webhook refused").count(), 2, "one line for each kind of refusal");
    for secret in [
        "lovelace",
        "Lovelace",
        "Augusta",
        "353861234567",
        "12345",
        "lovely",
        world.intercom.client_secret(),
        world.brevo.api_key(),
    ] {
        let line = text.lines().find(|line| line.contains(secret));
        assert!(line.is_none(), "{secret}: {line:?}");
    }
}

/// Intercom switches a subscription off for good when it is answered 410, so whatever comes is answered otherwise.
#[tokio::test(start_paused = true)]
async fn nothing_is_ever_answered_410() {
    let world = World::new();
    let gone = |status: StatusCode| assert_ne!(status, StatusCode::GONE);
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let bodies: [Vec<u8>; 8] = [
        Vec::new(),
        b"{}".to_vec(),
        b"null".to_vec(),
        b"\xff\xfe".to_vec(),
        deep.into_bytes(),
        vec![b' '; 9 * 1024 * 1024],
        br#"{"topic": "x.unheard.of", "id": "n", "data": {"item": {"id": "1"}}}"#.to_vec(),
        br#"{"topic": "contact.deleted", "id": "m", "app_id": "another", "data": {"item": {"id": "1"}}}"#.to_vec(),
    ];
    let mut answers = std::collections::BTreeSet::new();
    for body in &bodies {
        for signature in [world.sign(body), "sha1=00".to_owned(), String::new()] {
            let status = world.post_with(&[("x-hub-signature", &signature)], body.clone()).await;
            gone(status);
            answers.insert(status.as_u16());
        }
        gone(world.post_brevo(&[], body.clone()).await);
        gone(world.as_brevo(serde_json::from_slice(body).unwrap_or_default()).await);
    }
    assert_eq!(answers, [200, 400, 401, 413].into(), "of each kind something was asked");
    for path in ["/webhooks/intercom", "/webhooks/brevo", "/webhooks/none", "/"] {
        for method in ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"] {
            let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
            gone(world.send(request).await.0);
        }
    }
}
