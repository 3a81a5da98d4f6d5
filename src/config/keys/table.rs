//! The table itself.

use super::{Choice, Key, Kind};

const fn key(name: &'static str, kind: Kind, doc: &'static str) -> Key {
    Key { name, kind, doc, default: None }
}

const fn or(name: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Key {
    Key { name, kind, doc, default: Some(default) }
}

const fn later(name: &'static str, reason: &'static str) -> Key {
    Key { name, kind: Kind::Later(reason), doc: "", default: None }
}

const fn works(word: &'static str) -> Choice {
    Choice { word }
}

const NO_COMPANIES: &str =
    "companies are made and changed as `companies.filter` says, and none is deleted, in this version";
const NO_CONVERSATIONS: &str =
    "conversations are figures and events of their contacts: there is nothing of theirs to be made, left or deleted";

/// The whole document.
pub(super) static ROOT: &[Key] = &[
    key("connectors", Kind::Block(CONNECTORS), "The two accounts."),
    key(
        "field_mapping",
        Kind::Mapping,
        "Which Intercom field goes to which Brevo attribute: `path: ATTRIBUTE`, or the long form.",
    ),
    key(
        "mappings",
        Kind::MappingFiles,
        "Mapping files, relative to this file. Without them and without `field_mapping`, a mapping for common fields holds.",
    ),
    key("contacts", Kind::Block(CONTACTS), "How contacts are treated."),
    key("companies", Kind::Block(COMPANIES), "How companies are treated."),
    key("conversations", Kind::Block(CONVERSATIONS), "How conversations are treated."),
    key("events", Kind::Block(EVENTS), "Events sent to Brevo about conversations."),
    key("phone", Kind::Block(PHONE), "How phone numbers are read."),
    key("server", Kind::Block(SERVER), "The webhook receiver."),
    key("state", Kind::Block(STATE), "What the program remembers."),
    key("schedule", Kind::Block(SCHEDULE), "When what is read."),
    key("limits", Kind::Block(LIMITS), "How much of each API's budget is used."),
    key("safety", Kind::Block(SAFETY), "How much may be done before somebody is asked: `linkspan approve`."),
    key(
        "consent",
        Kind::Block(CONSENT),
        "Whom an opt-out reaches. None is ever lifted, unless `resubscribe` lets a newer opt-in travel.",
    ),
];

static CONNECTORS: &[Key] = &[
    key("intercom", Kind::Block(INTERCOM), "The Intercom workspace."),
    key("brevo", Kind::Block(BREVO), "The Brevo account."),
];

static INTERCOM: &[Key] = &[
    or("enabled", Kind::Flag, "true", "Whether anything is read from this workspace."),
    key(
        "access_token",
        Kind::Secret,
        "Access token of the app in Intercom's Developer Hub. Without it, INTERCOM_ACCESS_TOKEN is read from the environment.",
    ),
    key(
        "client_secret",
        Kind::Secret,
        "Client secret of the app, with which Intercom signs webhooks. Without it, INTERCOM_CLIENT_SECRET is read; without both, no webhooks are received.",
    ),
    or("region", Kind::Choice(&[works("us"), works("eu"), works("au")]), "us", "Where the workspace's data lives."),
    or(
        "api_version",
        Kind::ApiVersion,
        "\"2.11\"",
        "Version of Intercom's API, sent with every request. Only 2.11 is tested.",
    ),
    key("base_url", Kind::Url, "Address of the API, instead of the region's own: for a proxy or a sandbox."),
    key("sync", Kind::Block(SYNC), "What is synced."),
    or(
        "direction",
        Kind::Choice(&[works("intercom_to_brevo"), works("brevo_to_intercom"), works("both"), works("bidirectional")]),
        "intercom_to_brevo",
        "Which way fields travel that do not say it themselves. With `both`, those that cannot travel back (a company's name, figures) stay with Intercom's value. Unless it is `intercom_to_brevo`, an address that is changed in Brevo reaches Intercom, too.",
    ),
    key("lists", Kind::Block(LISTS), "Brevo lists that contacts are put on."),
    or("debug", Kind::Flag, "false", "More detail in the log, about this connector."),
    key(
        "log_level",
        Kind::Choice(&[works("error"), works("warn"), works("info"), works("verbose"), works("debug"), works("trace")]),
        "How much is logged. `verbose` is another word for `debug`.",
    ),
    or(
        "log_webhooks",
        Kind::Flag,
        "false",
        "One line in the log for each webhook, of Brevo's too: topic, id, outcome.",
    ),
    or(
        "on_conflict",
        Kind::Choice(&[works("newest"), works("intercom"), works("brevo")]),
        "newest",
        "Whose value stands where a field that travels both ways was changed on both sides. The other one is kept: `linkspan conflicts`.",
    ),
    or(
        "tie",
        Kind::Choice(&[works("intercom"), works("brevo")]),
        "intercom",
        "Who wins where nobody can tell which change is newer.",
    ),
];

static SYNC: &[Key] = &[
    or("contacts", Kind::Flag, "true", "Users and leads."),
    or("conversations", Kind::Flag, "true", "Conversations, as figures of their contacts."),
    or("companies", Kind::Flag, "true", "Companies, as fields of their contacts."),
    or("events", Kind::Flag, "true", "Events about conversations."),
    or("tags", Kind::Flag, "true", "Tags of contacts, their companies and their conversations."),
];

static LISTS: &[Key] = &[
    key("all_users", Kind::List, "Every contact with the role user."),
    key("leads", Kind::List, "Every lead, until it signs up."),
    key("active_conversations", Kind::List, "Everybody with an open conversation."),
];

static BREVO: &[Key] = &[
    key("api_key", Kind::Secret, "API key (v3). Without it, BREVO_API_KEY is read from the environment."),
    or("base_url", Kind::Url, "https://api.brevo.com/v3", "Address of the API: for a proxy or a sandbox."),
    key(
        "api_key_name",
        Kind::Name,
        "The API key's name in Brevo, if nothing else uses the key: webhooks about changes that it made are then counted and not followed.",
    ),
    key("webhooks", Kind::Block(BREVO_WEBHOOKS), "Brevo's webhooks."),
];

static BREVO_WEBHOOKS: &[Key] = &[
    or(
        "auth",
        Kind::Choice(&[works("bearer"), works("basic"), works("header")]),
        "bearer",
        "How Brevo proves that a webhook is its own: a bearer token, a user and password, or a header. It signs nothing.",
    ),
    key(
        "secret",
        Kind::Secret,
        "The token, the password, or the header's value: any long random text. Without it, BREVO_WEBHOOK_SECRET is read; without both, no webhooks of Brevo's are received.",
    ),
    or("user", Kind::Name, "linkspan", "The user, for `basic`."),
    or("header", Kind::Header, "X-Linkspan-Secret", "The header's name, for `header`."),
    or(
        "batched",
        Kind::Flag,
        "false",
        "Registered to come in batches, every five minutes: fewer requests, but changes and opt-outs arrive later.",
    ),
    or(
        "activity",
        Kind::Flag,
        "false",
        "Opens, clicks and deliveries are registered, too. In this version they are only counted.",
    ),
];

static CONTACTS: &[Key] = &[
    or(
        "without_email",
        Kind::Choice(&[works("skip"), works("by_phone")]),
        "skip",
        "Contacts without an e-mail address: counted and listed only, or matched and created by phone number.",
    ),
    key("filter", Kind::Block(FILTER), "Who takes part, by direction. Opt-outs travel all the same."),
    or(
        "on_unmatch",
        Kind::Choice(&[works("keep"), works("unlist")]),
        "keep",
        "What becomes in Brevo of somebody whom `filter.intercom_to_brevo` does not hold for any more: nothing more is written, or they are taken off the lists that the mapping had put them on, too.",
    ),
    key("on_delete", Kind::Block(ON_DELETE), "What becomes of somebody's record once they are gone on the other side."),
    key(
        "create",
        Kind::Block(CREATE),
        "Whether a contact that one side has and the other has not is made there. Never in Intercom unless asked: people there cost money.",
    ),
    key(
        "update",
        Kind::Block(UPDATE),
        "Whether contacts that exist are changed. With `never`, a side only gains contacts: opt-outs reach it all the same.",
    ),
    or(
        "archived",
        Kind::Choice(&[works("link"), works("unarchive"), works("skip")]),
        "link",
        "An archived Intercom contact that is the match of a Brevo contact: linked and left archived, brought back, or left alone and listed.",
    ),
];

static CREATE: &[Key] = &[
    or(
        "brevo",
        Kind::Choice(&[works("always"), works("never")]),
        "always",
        "Intercom contacts that Brevo has not. With `never`, only contacts that exist in Brevo are updated.",
    ),
    or(
        "intercom",
        Kind::Choice(&[works("never"), works("lead"), works("user")]),
        "never",
        "Brevo contacts that Intercom has not, with an e-mail address or an external id: made as leads or as users. The app needs the permission to write users then.",
    ),
];

static UPDATE: &[Key] = &[
    or("brevo", Kind::Choice(&[works("always"), works("never")]), "always", "Contacts that exist in Brevo."),
    or("intercom", Kind::Choice(&[works("always"), works("never")]), "always", "Contacts that exist in Intercom."),
];

static FILTER: &[Key] = &[
    key(
        "intercom_to_brevo",
        Kind::Condition,
        "Whose Intercom record is written to Brevo: a condition over `record`, as in the mapping. Nobody else is made there, or changed.",
    ),
    key(
        "brevo_to_intercom",
        Kind::Condition,
        "Whose Brevo record is written to Intercom: a condition over the contact's attributes, `record.PLAN == 'pro'`.",
    ),
];

static COMPANY_FILTER: &[Key] = &[
    key(
        "intercom_to_brevo",
        Kind::Condition,
        "Which of Intercom's companies are made, changed and linked in Brevo: a condition such as `record.company.plan != 'Free'`.",
    ),
    key(
        "brevo_to_intercom",
        Kind::Condition,
        "What of Brevo's companies is written to Intercom: a condition over their attributes, `record.TIER == 'gold'`.",
    ),
];

static ON_DELETE: &[Key] = &[
    or(
        "brevo",
        Kind::Choice(&[works("keep"), works("unlist"), works("blocklist"), works("delete")]),
        "keep",
        "The Brevo contact, once nobody of its address is left in Intercom (deleted or archived; a merge is no deletion): kept and listed, taken off the lists that the mapping puts people on, blocklisted, or deleted.",
    ),
    or(
        "intercom",
        Kind::Choice(&[works("keep"), works("unlist"), works("blocklist"), works("archive"), works("delete")]),
        "keep",
        "The Intercom contacts, once their Brevo contact was deleted: kept and listed, without the tags that go with lists, unsubscribed, archived, or deleted.",
    ),
];

static CONSENT: &[Key] = &[
    or(
        "direction",
        Kind::Choice(&[works("both"), works("bidirectional"), works("intercom_to_brevo")]),
        "both",
        "Which way opt-outs of e-mail travel. With `both`, whoever is blocklisted in Brevo is unsubscribed in Intercom, too; the app needs the permission to write users. With `intercom_to_brevo` that is only listed.",
    ),
    or(
        "resubscribe",
        Kind::Choice(&[works("keep"), works("propagate")]),
        "keep",
        "What becomes of an opt-in: it stays where it was given, or it reaches the other side, too, if it is proven to be newer than the opt-out there. What is not proven is listed.",
    ),
];

static COMPANIES: &[Key] = &[
    or(
        "objects",
        Kind::Flag,
        "false",
        "Whether each Intercom company has a company object in Brevo's CRM, linked with its contacts. Costs requests of the 100 an hour that Brevo allows for all but contacts and events.",
    ),
    key(
        "field_mapping",
        Kind::Mapping,
        "Which field of an Intercom company goes to which attribute of Brevo's company: `name: name`, or the long form. Without it, name, website (domain) and size (number_of_employees).",
    ),
    key("filter", Kind::Block(COMPANY_FILTER), "Which companies have objects that are kept in step, by direction."),
    later("on_unmatch", NO_COMPANIES),
    later("create", NO_COMPANIES),
    later("on_delete", NO_COMPANIES),
    later("archived", NO_COMPANIES),
];

static CONVERSATIONS: &[Key] = &[
    key(
        "filter",
        Kind::Condition,
        "Which conversations count: a condition over `record`, `record.state == 'open'`. The others are in no figure and no list, and no event tells of them.",
    ),
    later("on_unmatch", NO_CONVERSATIONS),
    later("create", NO_CONVERSATIONS),
    later("on_delete", NO_CONVERSATIONS),
    later("archived", NO_CONVERSATIONS),
];

static EVENTS: &[Key] = &[or(
    "max_age",
    Kind::Duration,
    "24h",
    "What happened longer ago than this when it is first seen is not sent: a backfill starts no automations.",
)];

static PHONE: &[Key] = &[key(
    "default_region",
    Kind::Country,
    "Country of phone numbers that are written without their country code, such as `NO`.",
)];

static SERVER: &[Key] = &[
    or("listen", Kind::Address, "127.0.0.1:8484", "Address and port for webhooks and health."),
    key(
        "public_url",
        Kind::Url,
        "The address under which Intercom and Brevo reach `listen`, through a TLS proxy. `linkspan webhooks` registers webhooks with it.",
    ),
];

static STATE: &[Key] =
    &[or("path", Kind::Path, "state/linkspan.db", "The database, relative to this file. One per pair of accounts.")];

static SCHEDULE: &[Key] = &[
    or("timezone", Kind::Timezone, "UTC", "The zone in which cron lines are meant."),
    or(
        "jitter",
        Kind::Share { zero: true },
        "0.1",
        "How much of an interval is left to chance, so that not all start at once.",
    ),
    key(
        "contacts",
        Kind::Block(&[
            or("incremental", Kind::Every, "5m", "Intercom contacts that changed."),
            or("full", Kind::Every, "24h", "All Intercom contacts."),
        ]),
        "Intercom contacts.",
    ),
    key(
        "companies",
        Kind::Block(&[
            Key {
                name: "incremental",
                kind: Kind::Never(
                    "Intercom cannot tell which companies changed; webhooks and `full` bring the changes",
                ),
                doc: "",
                default: None,
            },
            or("full", Kind::Every, "6h", "All Intercom companies."),
        ]),
        "Intercom companies.",
    ),
    key(
        "conversations",
        Kind::Block(&[
            or("incremental", Kind::Every, "5m", "Intercom conversations that changed."),
            or("full", Kind::Every, "24h", "All Intercom conversations."),
        ]),
        "Intercom conversations.",
    ),
    key(
        "brevo_companies",
        Kind::Block(&[
            or("incremental", Kind::Every, "30m", "Brevo companies that changed."),
            or("full", Kind::Every, "7d", "All Brevo companies."),
        ]),
        "Brevo companies, if company objects are kept in step.",
    ),
    key(
        "brevo_contacts",
        Kind::Block(&[
            or("incremental", Kind::Every, "15m", "Brevo contacts that changed."),
            or(
                "full",
                Kind::Every,
                "24h",
                "All Brevo contacts: finds opt-outs, list changes and contacts that are gone.",
            ),
        ]),
        "Brevo contacts, read for matching and opt-outs.",
    ),
];

static LIMITS: &[Key] = &[
    key(
        "intercom",
        Kind::Block(&[
            key(
                "plan",
                Kind::Choice(&[works("starter"), works("pro"), works("premium")]),
                "Ceiling of 20, 50 or 100 requests per 10 seconds. Without it, what Intercom's headers say holds.",
            ),
            or(
                "share",
                Kind::Share { zero: false },
                "0.8",
                "Share of Intercom's limit that is ours; the rest is for other integrations.",
            ),
        ]),
        "Intercom's budget.",
    ),
    key(
        "brevo",
        Kind::Block(&[
            or(
                "share",
                Kind::Share { zero: false },
                "0.8",
                "Share of Brevo's limit that is ours; the rest is for other integrations.",
            ),
            or(
                "import_threshold",
                Kind::Count(1, 1_000_000),
                "300",
                "From this many pending contacts on, they go by import instead of one by one.",
            ),
        ]),
        "Brevo's budget.",
    ),
];

static SAFETY: &[Key] = &[
    or(
        "max_creates",
        Kind::Count(0, 100_000_000),
        "10000",
        "Contacts made in an hour, on either side; in a day, ten times as many. The first fill of Brevo is not counted.",
    ),
    or(
        "max_deletes",
        Kind::Count(0, 100_000_000),
        "500",
        "Records deleted, archived or taken off lists in an hour because of `on_delete` or `on_unmatch`; in a day, ten times as many.",
    ),
    or(
        "max_optouts",
        Kind::Count(0, 100_000_000),
        "5000",
        "People opted out in an hour, on either side; in a day, ten times as many. An opt-out that a vendor's webhook tells of always goes.",
    ),
    or(
        "max_blanked",
        Kind::Count(0, 100_000_000),
        "5000",
        "Contacts of which a field is cleared in an hour, on either side; in a day, ten times as many.",
    ),
    or(
        "max_share",
        Kind::Share { zero: false },
        "0.1",
        "The most of each in a day, as a share of the people that are in step; fifty (five hundred creates) may always go.",
    ),
];

/// The dotted paths of all keys that hold a value which works.
#[cfg(test)]
pub(in super::super) fn paths() -> Vec<String> {
    fn collect(keys: &[Key], prefix: &str, out: &mut Vec<String>) {
        for key in keys {
            let path = if prefix.is_empty() { key.name.to_owned() } else { format!("{prefix}.{}", key.name) };
            match key.kind {
                Kind::Block(keys) => collect(keys, &path, out),
                Kind::Later(_) | Kind::Never(_) | Kind::Mapping | Kind::MappingFiles => {}
                _ => out.push(path),
            }
        }
    }
    let mut out = Vec::new();
    collect(ROOT, "", &mut out);
    out
}
