//! Token, version, limits, faults, serving.

use super::*;
use base64::Engine as _;

#[tokio::test]
async fn tokens_versions_and_unknown_paths_are_refused_in_the_vendors_shape() {
    let bench = Bench::new();
    let got = bench.ask("GET", "/me", Value::Null, &[("authorization", "Bearer wrong")]).await;
    assert_eq!((got.status, code(&got)), (401, "unauthorized"));
    assert_eq!(got.body["type"], "error.list");
    assert!(got.body["request_id"].is_string());
    let got = bench.ask("GET", "/me", Value::Null, &[("accept", "text/html")]).await;
    assert_eq!(got.status, 406);
    let got = bench.ask("GET", "/me", Value::Null, &[("intercom-version", "9.9")]).await;
    assert_eq!((got.status, code(&got)), (400, "intercom_version_invalid"));
    let got = bench.get("/no/such/thing").await;
    assert_eq!((got.status, code(&got)), (404, "not_found"));
    let got = bench.get("/me").await;
    assert_eq!(got.body["app"]["timezone"], "America/Los_Angeles");
    assert_eq!(got.headers["date"], "Tue, 10 Mar 2026 20:00:00 GMT");
}

#[tokio::test]
async fn limits_are_announced_and_hold_for_ten_seconds() {
    let bench = Bench::new();
    bench.sandbox.knobs(|knobs| {
        knobs.unlimited = false;
        knobs.rate_limit = Some(2);
    });
    let first = bench.get("/me").await;
    assert_eq!(first.headers["x-ratelimit-limit"], "2");
    assert_eq!(first.headers["x-ratelimit-remaining"], "1");
    let reset: i64 = first.headers["x-ratelimit-reset"].to_str().unwrap().parse().unwrap();
    assert!((1..=10).contains(&(reset - bench.clock.now().timestamp())));
    bench.get("/me").await;
    let third = bench.get("/me").await;
    assert_eq!((third.status, code(&third)), (429, "rate_limit_exceeded"));
    assert!(third.headers.get("retry-after").is_none());
    bench.clock.forward(10);
    assert_eq!(bench.get("/me").await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn faults_and_latency_are_as_ordered() {
    let bench = Bench::new();
    bench.sandbox.knobs(|knobs| {
        knobs.latency = Duration::from_secs(2);
        knobs.faults.push_back(("/contacts".to_owned(), Fault::StatusAfterEffect(502)));
        knobs.faults.push_back((String::new(), Fault::Status(429, Some(7))));
        knobs.faults.push_back((String::new(), Fault::Html));
        knobs.faults.push_back((String::new(), Fault::Empty));
        knobs.faults.push_back((String::new(), Fault::Truncated));
    });
    let got = bench.post("/contacts", json!({"email": "e@example.com"})).await;
    assert_eq!(got.status, 502);
    assert_eq!(bench.sandbox.truth().contacts, 1);
    let got = bench.get("/me").await;
    assert_eq!((got.status, got.headers["retry-after"].to_str().unwrap()), (429, "7"));
    assert!(bench.get("/me").await.raw.starts_with(b"<html>"));
    assert!(bench.get("/me").await.raw.is_empty());
    let got = bench.get("/me").await;
    assert!(got.status == 200 && !got.raw.is_empty() && got.body.is_null());
    let log = bench.sandbox.log();
    assert_eq!((log.len(), log.writes().len()), (5, 1));
    assert_eq!(log.all()[0].template, "/contacts");
}

#[tokio::test]
async fn it_is_served_over_http_as_well() {
    let bench = Bench::new();
    let serving = crate::sandbox::serve(bench.sandbox.router(), 0).await.unwrap();
    let answer = reqwest::Client::new()
        .get(format!("{}/me", serving.base_url()))
        .bearer_auth(bench.sandbox.access_token())
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    // One date, the vendor's.
    assert_eq!(answer.headers().get_all("date").iter().collect::<Vec<_>>(), ["Tue, 10 Mar 2026 20:00:00 GMT"]);
    serving.stop().await;
}

#[tokio::test]
async fn absurd_numbers_and_bodies_are_refused_not_fatal() {
    let bench = Bench::new();
    let id = bench.contact("a@example.com");
    let company = bench.sandbox.create_company(&json!({"company_id": "c"})).unwrap();
    let huge = u64::MAX;
    for target in [
        format!("/contacts/{id}/companies?page={huge}"),
        format!("/contacts/{id}/notes?page={huge}"),
        format!("/companies/{company}/contacts?page={huge}"),
        format!("/contacts?per_page={huge}"),
        "/contacts?per_page=0".to_owned(),
        "/contacts?per_page=-1".to_owned(),
        "/contacts?starting_after=%00".to_owned(),
    ] {
        assert_eq!(bench.get(&target).await.status, 400, "{target}");
    }
    let edge = base64::engine::general_purpose::STANDARD.encode(format!("[{},{huge},{huge}]", i64::MIN));
    let query = json!({"field": "role", "operator": "=", "value": "user"});
    for path in ["/contacts/search", "/conversations/search"] {
        let query = if path.starts_with("/conv") {
            json!({"field": "state", "operator": "=", "value": "open"})
        } else {
            query.clone()
        };
        let body = json!({"query": query, "pagination": {"starting_after": edge}});
        assert_eq!(bench.post(path, body).await.status, 200);
    }
    for seconds in [i64::MIN, i64::MAX] {
        for operator in ["=", "<", ">"] {
            let got = bench.search(json!({"field": "updated_at", "operator": operator, "value": seconds})).await;
            assert_eq!(got.status, 200);
        }
    }
    let deep = format!("{}{}", "[".repeat(5_000), "]".repeat(5_000));
    let request = axum::http::Request::post("/contacts/search")
        .header("authorization", format!("Bearer {}", bench.sandbox.access_token()))
        .body(Body::from(deep))
        .unwrap();
    assert_eq!(bench.sandbox.router().oneshot(request).await.unwrap().status(), 400);
}

#[tokio::test]
async fn without_limits_none_is_announced_either() {
    let bench = Bench::new();
    bench.sandbox.knobs(|knobs| {
        knobs.unlimited = true;
        knobs.rate_limit = Some(1);
    });
    for _ in 0..3 {
        let answer = bench.get("/me").await;
        assert_eq!((answer.status, answer.headers["x-ratelimit-remaining"].to_str().unwrap()), (200, "10000000"));
    }
}
