//! Where we follow what live accounts do and the official description says otherwise.

/// Method and path, the place in the body, and the fact.
pub const DEVIATIONS: &[(&str, &str, &str)] = &[
    (
        "GET /contacts",
        "contacts[].listUnsubscribed",
        "null for contacts that never left a list (seen in a live account); the description says array",
    ),
    ("GET /contacts/{identifier}", "listUnsubscribed", "null for contacts that never left a list, as in GET /contacts"),
    (
        "GET /contacts/lists/{listId}/contacts",
        "contacts[].listUnsubscribed",
        "null for contacts that never left a list, as in GET /contacts",
    ),
    (
        "GET /processes",
        "processes[].info.import",
        "each report is the URL of a CSV, or null (vendor SDK of 2026-10); the description of 2026-02 says integer",
    ),
    ("GET /processes/{processId}", "info.import", "each report is the URL of a CSV, or null, as in GET /processes"),
    (
        "POST /contacts/lists/{listId}/contacts/add",
        "contacts.success, contacts.failure",
        "an empty array matches both branches of the description's oneOf, and extIds (2026) come back as plain texts",
    ),
    (
        "POST /contacts/lists/{listId}/contacts/add",
        "contacts",
        "the vendor's own examples show success and failure without the outer object (knob flat_list_answers)",
    ),
    ("POST /contacts/lists/{listId}/contacts/remove", "contacts.success, contacts.failure", "as in …/contacts/add"),
    ("POST /contacts/lists/{listId}/contacts/remove", "contacts", "as in …/contacts/add"),
    (
        "GET /webhooks",
        "status 400",
        "an account without a webhook of the asked type answers 400 document_not_found, not an empty array",
    ),
    (
        "GET /contacts/attributes",
        "attributes[].enumeration[].valueStr",
        "added in 2026; value is 0 for non-numeric keys",
    ),
    ("DELETE /contacts/{identifier}", "status 403", "Cloudflare answers HTML to paths that end like a file name"),
    ("POST /contacts/batch", "status 410", "deprecated since 2026-10-30; the description still has it"),
    ("GET /events", "(whole)", "newer than the description of 2026-02; in the one of 2026-10"),
    ("POST /events/batch", "(whole)", "newer than the description of 2026-02; in the one of 2026-10"),
    ("*", "status 401", "a missing or wrong key, and an unknown address: seen everywhere, hardly described"),
    ("*", "status 429", "every path is limited; described for few"),
];
