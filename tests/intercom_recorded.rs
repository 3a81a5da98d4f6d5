//! Exchanges recorded from the real Intercom, and those of its official SDK's tests, through our client: everything that
//! concerns an endpoint we use decodes, and errors land in the right row.
//!
//! The data is not ours to ship: `LINKSPAN_FIXTURES` names its folder, by default one beside the checkout.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "this whole file is a test; clippy only knows functions marked so"
)]

use bytes::Bytes;
use linkspan::doors::Doors;
use linkspan::http::InProcess;
use linkspan::intercom::{IntercomClient, IntercomOptions, classify};
use linkspan::model::{
    AuthProblem, ContactKey, ConversationId, ErrorKind, Fetched, Gone, IntercomCompanyId, IntercomContactId,
    Observation, Priority, ReadRequest, Related, Resource, Scope, Side as _,
};
use serde_json::Value as Json;
use std::path::PathBuf;
use std::sync::Arc;

/// One request and its answer.
struct Exchange {
    method: String,
    path: String,
    status: u16,
    response: Json,
    headers: Vec<(String, String)>,
}

impl Exchange {
    fn from_json(json: &Json) -> Self {
        let text = |key: &str| json[key].as_str().unwrap_or_default().to_owned();
        let headers = json["headers"].as_object().into_iter().flatten();
        Self {
            method: text("method"),
            path: text("path"),
            status: u16::try_from(json["status"].as_u64().unwrap()).unwrap(),
            response: json["response"].clone(),
            headers: headers.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect(),
        }
    }

    /// The answer. Headers that describe the transfer are left out: it is another one.
    fn answer(&self) -> http::Response<Bytes> {
        let mut answer = http::Response::builder().status(self.status);
        for (name, value) in &self.headers {
            let transfer = ["transfer-encoding", "content-length", "connection", "content-encoding"];
            if !transfer.contains(&name.to_lowercase().as_str()) {
                answer = answer.header(name, value);
            }
        }
        let body = if self.response.is_null() { String::new() } else { self.response.to_string() };
        answer.body(Bytes::from(body)).unwrap()
    }

    /// A client whose every request is answered so.
    fn client(&self) -> IntercomClient {
        let answer = self.answer();
        let router = axum::Router::new().fallback(move || {
            let answer = answer.clone().map(axum::body::Body::from);
            async move { answer }
        });
        let options = IntercomOptions {
            base_url: "https://api.intercom.test/".parse().unwrap(),
            access_token: "token".to_owned().into(),
            api_version: "2.11".to_owned(),
            share: 1.0,
            plan: None,
        };
        IntercomClient::new(options, Arc::new(InProcess::new(router)), Doors::system())
    }

    fn items(&self, keys: &[&str]) -> usize {
        keys.iter().find_map(|key| self.response[*key].as_array()).map_or(0, Vec::len)
    }
}

/// The exchanges of one file, or nothing where the data is not at hand (a CI run must have it).
fn exchanges(file: &str) -> Vec<Exchange> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    #[expect(clippy::disallowed_methods, reason = "a test is told where its data is as CI tells it")]
    let (folder, ci) = (std::env::var("LINKSPAN_FIXTURES"), std::env::var("CI"));
    let path = folder.map_or_else(|_| root.join("../shared/fixtures"), PathBuf::from).join(file);
    let Ok(text) = std::fs::read_to_string(&path) else {
        assert!(ci.as_deref() != Ok("true"), "CI without {}: set LINKSPAN_FIXTURES", path.display());
        println!("note: {} is not there, so nothing was checked (set LINKSPAN_FIXTURES)", path.display());
        return Vec::new();
    };
    let json: Json = serde_json::from_str(&text).unwrap();
    match &json {
        Json::Object(files) => files.values().filter_map(Json::as_array).flatten().map(Exchange::from_json).collect(),
        Json::Array(all) => all.iter().map(Exchange::from_json).collect(),
        _ => panic!("not a file of exchanges"),
    }
}

fn request(resource: Resource) -> ReadRequest {
    let timezone = chrono_tz::UTC;
    ReadRequest { resource, scope: Scope::Full, cursor: None, timezone, priority: Priority::Live }
}

/// Decodes a success if it is of an endpoint we use; `false` if it is not.
async fn decodes(exchange: &Exchange) -> bool {
    let client = exchange.client();
    let what = format!("{} {}: {}", exchange.method, exchange.path, exchange.response);
    let path: Vec<&str> = exchange.path.trim_start_matches('/').split('/').collect();
    let read = async |resource: Resource, keys: &[&str]| {
        let page = client.read(&request(resource)).await.unwrap_or_else(|error| panic!("{error}: {what}"));
        assert_eq!(page.observations.len(), exchange.items(keys), "{what}");
        page
    };
    match (exchange.method.as_str(), &path[..]) {
        ("GET", ["me"]) => {
            let account = client.account().await.unwrap_or_else(|error| panic!("{error}: {what}"));
            assert_eq!(account.id, exchange.response["app"]["id_code"].as_str().unwrap());
        }
        // The SDK's generator fills some examples with the fields' own names; they show nothing of the wire.
        ("GET", ["contacts"]) if exchange.response["data"][0]["id"] == "id" => return false,
        ("POST", ["contacts", "search"]) | ("GET", ["contacts"]) => {
            let page = read(Resource::Contacts, &["data"]).await;
            assert_eq!(page.total, exchange.response["total_count"].as_u64());
            assert_eq!(page.server_time.is_some(), !exchange.headers.is_empty());
            for (observation, json) in page.observations.iter().zip(exchange.response["data"].as_array().unwrap()) {
                contact_matches(observation, json);
            }
        }
        ("GET", ["contacts", "find_by_external_id", _]) => return false,
        ("GET", ["contacts", id]) => {
            let key = ContactKey::Intercom(IntercomContactId::new(*id));
            match client.fetch(&key, Priority::Live).await.unwrap() {
                Fetched::Found(observation, _) => contact_matches(&observation, &exchange.response),
                gone @ Fetched::Gone(_) => panic!("{gone:?}: {what}"),
            }
        }
        ("GET", ["contacts", id, list @ ("tags" | "companies")]) => {
            let related = if *list == "tags" { Related::Tags } else { Related::Companies };
            let ids = client.related(&IntercomContactId::new(*id), related, Priority::Live).await.unwrap();
            assert_eq!(ids.len(), exchange.items(&["data", "companies", "tags"]), "{what}");
        }
        ("GET", ["tags"]) => drop(read(Resource::Tags, &["data"]).await),
        ("GET", ["data_attributes"]) => {
            let attributes = client.attributes().await.unwrap();
            let all = exchange.response["data"].as_array().unwrap();
            assert_eq!(attributes.len(), all.iter().filter(|json| json["archived"] != true).count(), "{what}");
        }
        ("POST", ["companies", "list"]) => drop(read(Resource::Companies, &["data"]).await),
        ("GET", ["companies", id]) if *id != "scroll" => {
            let fetched = client.fetch_company(&IntercomCompanyId::new(*id), Priority::Live).await.unwrap();
            assert!(matches!(fetched, Fetched::Found(..)), "{what}");
        }
        ("POST", ["conversations", "search"]) => drop(read(Resource::Conversations, &["conversations"]).await),
        ("GET", ["conversations", id]) => {
            let fetched = client.fetch_conversation(&ConversationId::new(*id), Priority::Live).await.unwrap();
            assert!(matches!(fetched, Fetched::Found(..)), "{what}");
        }
        _ => return false,
    }
    true
}

/// The record says what the wire said, checked against the plain JSON.
fn contact_matches(observation: &Observation, json: &Json) {
    let Observation::IntercomContact(contact) = observation else { panic!("{observation:?}") };
    assert_eq!(contact.id.as_str(), json["id"].as_str().unwrap());
    assert_eq!(contact.role.as_str(), json["role"].as_str().unwrap());
    assert_eq!(contact.external_id.as_deref(), json["external_id"].as_str());
    assert_eq!(Some(contact.updated_at.timestamp()), json["updated_at"].as_i64());
    assert_eq!(contact.email.is_some(), json["email"].as_str().is_some_and(|email| email.contains('@')));
    assert_eq!(
        contact.consent.email_opted_out(),
        ["unsubscribed_from_emails", "has_hard_bounced", "marked_email_as_spam"].iter().any(|flag| json[*flag] == true)
    );
    for (path, value) in &contact.fields {
        if let Some(name) = path.strip_prefix("custom_attributes.") {
            assert!(!json["custom_attributes"][name].is_null(), "{path}: {value}");
        }
    }
    let tags = json["tags"]["data"].as_array().map_or(0, Vec::len);
    assert_eq!(contact.tags.items.len(), tags);
    assert_eq!(contact.tags.complete, json["tags"].is_object() && json["tags"]["has_more"] != true);
}

/// An error lands in the row that its status, code and words belong to.
fn lands(exchange: &Exchange) {
    let error = classify(&exchange.answer(), exchange.method != "GET").unwrap_err();
    let what = format!("{} {} {}: {}", exchange.method, exchange.path, exchange.status, exchange.response);
    let code = exchange.response["errors"][0]["code"].as_str();
    assert_eq!((error.status, error.code.as_deref()), (Some(exchange.status), code), "{what}");
    assert!(!error.message.is_empty() && !error.message.contains('@'), "{what}");
    let right = match exchange.status {
        400 | 422 => matches!(error.kind, ErrorKind::Rejected { .. } | ErrorKind::Busy | ErrorKind::LostCursor),
        401 => error.kind == ErrorKind::Auth(AuthProblem::BadCredentials),
        403 if code == Some("api_plan_restricted") => error.kind == ErrorKind::Auth(AuthProblem::Plan),
        403 => error.kind == ErrorKind::Auth(AuthProblem::MissingScope),
        404 => error.kind == ErrorKind::NotFound,
        409 => {
            let words = exchange.response["errors"][0]["message"].as_str().unwrap_or_default();
            match &error.kind {
                ErrorKind::Conflict { holder, archived, .. } => {
                    holder.is_some() == words.contains("id=") && *archived == words.contains("archived")
                }
                _ => false,
            }
        }
        429 => error.kind == ErrorKind::Throttled,
        500.. if exchange.method == "GET" => error.kind == ErrorKind::Unavailable,
        500.. => matches!(error.kind, ErrorKind::Ambiguous | ErrorKind::Unavailable),
        _ => false,
    };
    assert!(right, "{:?} for {what}", error.kind);
}

async fn check(file: &str, least: usize) {
    let all = exchanges(file);
    let (mut decoded, mut refused) = (0, 0);
    for exchange in &all {
        if exchange.status >= 400 {
            lands(exchange);
            refused += 1;
        } else if decodes(exchange).await {
            decoded += 1;
        }
    }
    println!("{file}: {} exchanges, {decoded} decoded, {refused} errors in their rows", all.len());
    assert!(all.is_empty() || decoded >= least, "only {decoded} of {} concern us", all.len());
}

#[tokio::test(start_paused = true)]
async fn what_the_real_intercom_answered_decodes() {
    check("intercom-recorded-2021.json", 300).await;
}

#[tokio::test(start_paused = true)]
async fn what_the_official_sdk_expects_decodes() {
    check("intercom-sdk-wire.json", 15).await;
}

#[tokio::test(start_paused = true)]
async fn a_recorded_404_is_an_answer_not_an_error() {
    for exchange in exchanges("intercom-recorded-2021.json").iter().filter(|exchange| exchange.status == 404) {
        let id = exchange.path.rsplit('/').next().unwrap();
        let key = ContactKey::Intercom(IntercomContactId::new(id));
        let fetched = exchange.client().fetch(&key, Priority::Live).await.unwrap();
        assert_eq!(fetched, Fetched::Gone(Gone::Deleted));
    }
}
