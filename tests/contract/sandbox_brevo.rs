//! Every endpoint of the Brevo double, judged by Brevo's own descriptions.

use crate::deviations::Deviation;
use crate::exchange::{Driver, Judge};
use crate::openapi::Part;
use linkspan::doors::SimulatedClock;
use linkspan::sandbox::brevo::{BrevoOptions, BrevoSandbox, WorldShares};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// The vendor's own first; the one rebuilt from the vendor's SDK has what came after it.
const DESCRIPTIONS: &[&str] = &["brevo-2026-02.yaml", "brevo-2026-10.json"];

/// Where the description is wrong about the API.
static REVIEWED: &[Deviation] = &[
    Deviation {
        operation: "GET /contacts",
        part: Part::Response,
        pointer: "/contacts/*/listUnsubscribed",
        complaint: "null is not of type",
        fact: "null for a contact that never left a list, seen in a live account; described as an array",
    },
    Deviation {
        operation: "GET /contacts/lists/{listId}/contacts",
        part: Part::Response,
        pointer: "/contacts/*/listUnsubscribed",
        complaint: "null is not of type",
        fact: "null, as in GET /contacts",
    },
    Deviation {
        operation: "GET /contacts/{identifier}",
        part: Part::Response,
        pointer: "/listUnsubscribed",
        complaint: "null is not of type",
        fact: "null, as in GET /contacts",
    },
    Deviation {
        operation: "GET /processes",
        part: Part::Response,
        pointer: "/processes/*/info/import/*",
        complaint: "is not of types",
        fact: "the address of a CSV or null, says the vendor's SDK of October 2026; described as an integer",
    },
    Deviation {
        operation: "GET /processes/{processId}",
        part: Part::Response,
        pointer: "/info/import/*",
        complaint: "is not of types",
        fact: "the address of a CSV or null, as in GET /processes",
    },
];

fn driver() -> Option<(BrevoSandbox, Driver)> {
    let judge = Judge::load(DESCRIPTIONS)?;
    let start = "2026-11-20T09:00:00Z".parse().unwrap();
    let sandbox = BrevoSandbox::new(BrevoOptions::new(7, Arc::new(SimulatedClock::starting_at(start))));
    sandbox.knobs(|knobs| knobs.common.unlimited = true);
    let headers = vec![("api-key", sandbox.api_key().to_owned())];
    let driver = Driver::new(sandbox.router(), judge, "/v3", headers, REVIEWED);
    Some((sandbox, driver))
}

#[tokio::test(start_paused = true)]
async fn every_exchange_with_the_brevo_sandbox_fits_the_description() {
    let Some((sandbox, mut to)) = driver() else { return };

    to.expect(200, "GET", "/account", None).await;

    // Attributes: what is there, of every type, and options.
    to.expect(200, "GET", "/contacts/attributes", None).await;
    for (name, kind) in [("COMPANY_NAME", "text"), ("SESSIONS", "float"), ("SIGNUP_DATE", "date"), ("VIP", "boolean")] {
        let path = format!("/contacts/attributes/normal/{name}");
        to.expect(201, "POST", &path, Some(json!({"type": kind}))).await;
    }
    let options = json!({"type": "multiple-choice", "multiCategoryOptions": ["beta", "gold"]});
    to.expect(201, "POST", "/contacts/attributes/normal/TAGS", Some(options)).await;
    let options = json!({"multiCategoryOptions": ["beta", "gold", "silver"]});
    to.expect(204, "PUT", "/contacts/attributes/normal/TAGS", Some(options)).await;
    let enumeration =
        json!({"type": "category", "enumeration": [{"value": 1, "label": "user"}, {"value": 2, "label": "lead"}]});
    to.expect(201, "POST", "/contacts/attributes/category/ROLE", Some(enumeration)).await;
    let enumeration = json!({"enumeration": [{"value": 1, "label": "user"}, {"value": 2, "label": "lead"}, {"value": 3, "label": "visitor"}]});
    to.expect(204, "PUT", "/contacts/attributes/category/ROLE", Some(enumeration)).await;
    to.expect(400, "POST", "/contacts/attributes/normal/VIP", Some(json!({"type": "text"}))).await;
    to.expect(200, "GET", "/contacts/attributes", None).await;

    // Folders and lists.
    to.expect(200, "GET", "/contacts/folders?limit=50&offset=0&sort=asc", None).await;
    let folder = to.expect(201, "POST", "/contacts/folders", Some(json!({"name": "Linkspan"}))).await["id"].clone();
    let list = json!({"name": "All users", "folderId": folder});
    let list = to.expect(201, "POST", "/contacts/lists", Some(list)).await["id"].clone();
    to.expect(200, "GET", "/contacts/lists?limit=50&offset=0&sort=asc", None).await;
    to.expect(200, "GET", &format!("/contacts/lists/{list}"), None).await;
    to.expect(404, "GET", "/contacts/lists/999999", None).await;
    to.expect(200, "GET", &format!("/contacts/folders/{folder}/lists?limit=50&offset=0&sort=asc"), None).await;

    to.expect(204, "PUT", &format!("/contacts/lists/{list}"), Some(json!({"name": "Everybody"}))).await;
    to.expect(200, "GET", &format!("/contacts/folders/{folder}"), None).await;
    to.expect(204, "PUT", &format!("/contacts/folders/{folder}"), Some(json!({"name": "Sync"}))).await;
    to.expect(200, "GET", "/contacts/segments?limit=50&offset=0&sort=asc", None).await;

    // One contact: created, refused as a duplicate, read by every key, changed.
    let ann = json!({
        "email": "ann@example.com", "ext_id": "u-77", "updateEnabled": false, "listIds": [list],
        "attributes": {"FIRSTNAME": "Ann", "LASTNAME": "Lee", "SMS": "+33612345678", "TAGS": ["beta"], "VIP": true, "SESSIONS": 3},
    });
    let id = to.expect(201, "POST", "/contacts", Some(ann.clone())).await["id"].clone();
    to.expect(400, "POST", "/contacts", Some(ann)).await;
    to.expect(204, "POST", "/contacts", Some(json!({"email": "ann@example.com", "updateEnabled": true}))).await;
    to.expect(201, "POST", "/contacts", Some(json!({"email": "bob@example.com", "emailBlacklisted": true}))).await;
    to.expect(200, "GET", "/contacts/ann%40example.com?identifierType=email_id", None).await;
    to.expect(200, "GET", &format!("/contacts/{id}?identifierType=contact_id"), None).await;
    to.expect(200, "GET", "/contacts/u-77?identifierType=ext_id", None).await;
    to.expect(200, "GET", "/contacts/33612345678?identifierType=phone_id", None).await;
    to.expect(404, "GET", "/contacts/nobody%40example.com?identifierType=email_id", None).await;
    let change = json!({"attributes": {"EMAIL": "ann.lee@example.com", "VIP": false}, "emailBlacklisted": true});
    to.expect(204, "PUT", &format!("/contacts/{id}?identifierType=contact_id"), Some(change)).await;
    let twice = json!({"attributes": {"EMAIL": "bob@example.com"}});
    to.expect(400, "PUT", &format!("/contacts/{id}?identifierType=contact_id"), Some(twice)).await;
    to.expect(404, "PUT", "/contacts/999999?identifierType=contact_id", Some(json!({"ext_id": "x"}))).await;
    to.expect(200, "GET", "/contacts?limit=1000&offset=0&sort=asc", None).await;
    to.expect(200, "GET", "/contacts?limit=1000&sort=asc&modifiedSince=2026-11-20T08:00:00.000Z", None).await;

    // List membership, with a failure among the successes.
    let both = json!({"ids": [id, 999_999]});
    to.expect(201, "POST", &format!("/contacts/lists/{list}/contacts/remove"), Some(both.clone())).await;
    to.expect(201, "POST", &format!("/contacts/lists/{list}/contacts/add"), Some(both)).await;
    to.expect(400, "POST", &format!("/contacts/lists/{list}/contacts/add"), Some(json!({"ids": [id]}))).await;
    to.expect(200, "GET", &format!("/contacts/lists/{list}/contacts?limit=500&sort=asc"), None).await;

    // An import, from queued to completed.
    let import = json!({
        "listIds": [list], "updateExistingContacts": false, "emailBlacklist": false, "disableNotification": true,
        "jsonBody": [
            {"email": "carl@example.com", "attributes": {"FIRSTNAME": "Carl"}},
            {"email": "not an address", "attributes": {"FIRSTNAME": "Dora"}},
        ],
    });
    let process = to.expect(202, "POST", "/contacts/import", Some(import)).await["processId"].clone();
    to.expect(200, "GET", &format!("/processes/{process}"), None).await;
    tokio::time::sleep(Duration::from_secs(60)).await; // paused time: none passes
    to.expect(200, "GET", &format!("/processes/{process}"), None).await;
    to.expect(200, "GET", "/processes?limit=50&offset=0", None).await;
    to.expect(404, "GET", "/processes/999999", None).await;
    to.expect(400, "POST", "/contacts/import", Some(json!({"jsonBody": [{"email": "e@example.com"}]}))).await;

    // Events.
    let event = json!({
        "event_name": "intercom_conversation_closed", "event_date": "2026-11-20T09:00:00Z",
        "identifiers": {"contact_id": id}, "event_properties": {"conversation_id": "215", "rating": 5},
    });
    to.expect(204, "POST", "/events", Some(event.clone())).await;
    to.expect(202, "POST", "/events/batch", Some(json!({"events": [event.clone(), event.clone()]}))).await;
    let nameless = json!({"event_name": "", "identifiers": {"contact_id": id}});
    to.expect(207, "POST", "/events/batch", Some(json!({"events": [event, nameless]}))).await;
    to.expect(200, "GET", "/events?limit=100&offset=0", None).await;

    // Companies.
    let acme = json!({"name": "Acme", "attributes": {"domain": "acme.example"}});
    let company = to.expect(200, "POST", "/companies", Some(acme)).await["id"].as_str().unwrap().to_owned();
    to.expect(200, "GET", &format!("/companies/{company}"), None).await;
    to.expect(200, "PATCH", &format!("/companies/{company}"), Some(json!({"name": "Acme Ltd"}))).await;
    let link = json!({"linkContactIds": [id]});
    to.expect(204, "PATCH", &format!("/companies/link-unlink/{company}"), Some(link)).await;
    to.expect(200, "GET", "/companies?limit=50&page=1&sort=asc", None).await;
    to.expect(404, "GET", "/companies/000000000000000000000000", None).await;
    to.expect(204, "DELETE", &format!("/companies/{company}"), None).await;

    to.expect(200, "GET", "/crm/attributes/companies", None).await;
    let plan = json!({"objectType": "companies", "label": "Plan", "attributeType": "text"});
    let plan = to.expect(200, "POST", "/crm/attributes", Some(plan)).await["id"].as_str().unwrap().to_owned();
    to.expect(204, "DELETE", &format!("/crm/attributes/{plan}"), None).await;

    // Webhooks.
    let hook = json!({"url": "https://sync.example/brevo", "type": "marketing", "events": ["contactUpdated", "unsubscribed"], "description": "sync"});
    let hook = to.expect(201, "POST", "/webhooks", Some(hook)).await["id"].clone();
    to.expect(200, "GET", "/webhooks?type=marketing", None).await;
    to.expect(200, "GET", &format!("/webhooks/{hook}"), None).await;
    let change = json!({"events": ["contactUpdated", "contactDeleted"]});
    to.expect(204, "PUT", &format!("/webhooks/{hook}"), Some(change)).await;
    to.expect(204, "DELETE", &format!("/webhooks/{hook}"), None).await;
    to.expect(400, "GET", "/webhooks?type=marketing", None).await;

    // A whole world with its odd ones, read as a sync reads it.
    let people: Vec<(String, Option<String>)> =
        (0..400).map(|n| (format!("p{n}@example.com"), (n % 3 == 0).then(|| format!("+3361200{n:04}")))).collect();
    let made = sandbox.world(11, &people, &WorldShares { existing: 0.5, ..WorldShares::default() }, 1);
    assert!(made.len() > 100, "only {} contacts", made.len());
    to.expect(200, "GET", "/contacts?limit=1000&offset=0&sort=asc", None).await;
    for contact in made.iter().step_by(7) {
        to.expect(200, "GET", &format!("/contacts/{contact}?identifierType=contact_id"), None).await;
    }

    to.expect(204, "DELETE", &format!("/contacts/{id}?identifierType=contact_id"), None).await;
    to.expect(404, "DELETE", &format!("/contacts/{id}?identifierType=contact_id"), None).await;
    to.expect(204, "DELETE", &format!("/contacts/lists/{list}"), None).await;
    to.expect(204, "DELETE", &format!("/contacts/folders/{folder}"), None).await;
    to.expect(204, "DELETE", "/contacts/attributes/multiple-choice/TAGS/gold", None).await;
    to.expect(204, "DELETE", "/contacts/attributes/normal/TAGS", None).await;

    to.finish(60);
}

#[tokio::test(start_paused = true)]
async fn errors_that_every_call_can_meet_fit_too() {
    let Some(judge) = Judge::load(DESCRIPTIONS) else { return };
    let start = "2026-11-20T09:00:00Z".parse().unwrap();
    let sandbox = BrevoSandbox::new(BrevoOptions::new(7, Arc::new(SimulatedClock::starting_at(start))));
    let headers = vec![("api-key", "xkeysib-wrong".to_owned())];
    let mut stranger = Driver::new(sandbox.router(), judge, "/v3", headers, &[]);
    stranger.expect(401, "GET", "/account", None).await;
    stranger.expect(401, "GET", "/contacts?limit=10", None).await;
    stranger.finish(2);

    let judge = Judge::load(DESCRIPTIONS).unwrap();
    let headers = vec![("api-key", sandbox.api_key().to_owned())];
    let mut eager = Driver::new(sandbox.router(), judge, "/v3", headers, &[]);
    for _ in 0..10 {
        eager.expect(200, "GET", "/contacts?limit=10", None).await;
    }
    eager.expect(429, "GET", "/contacts?limit=10", None).await;
    sandbox.knobs(|knobs| knobs.too_early = 1);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    eager.expect(425, "POST", "/contacts", Some(json!({"email": "ann@example.com"}))).await;
    eager.finish(12);
}
