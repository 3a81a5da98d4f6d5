//! What an operator sees of the config: what loads, what it means, and what is said when it does not.

#![expect(clippy::panic, reason = "a test says why it fails")]

use linkspan::config::{
    Archived, Config, ConsentDirection, EXAMPLE, Every, ListRef, LogLevel, Plan, Region, WebhookAuth, WithoutEmail,
    schema,
};
use linkspan::model::{BrevoListId, Role};
use secrecy::ExposeSecret as _;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// From the public documentation of Tajo's Intercom connector, word for word.
const CONNECTORS: &str = include_str!("snippets/connectors.yaml");

/// The same, its second snippet.
const FIELD_MAPPING: &str = include_str!("snippets/field_mapping.yaml");

/// The same, its third snippet.
const DEBUG: &str = include_str!("snippets/debug.yaml");

fn env() -> BTreeMap<String, String> {
    [("INTERCOM_ACCESS_TOKEN", "dG9rOnRlc3Q="), ("INTERCOM_CLIENT_SECRET", "hush"), ("BREVO_API_KEY", "xkeysib-1")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}

fn parse(text: &str) -> Config {
    match Config::parse(text, Path::new("config.yaml"), &env()) {
        Ok(config) => config,
        Err(errors) => panic!("{}", errors.render(false)),
    }
}

fn refused(text: &str) -> String {
    match Config::parse(text, Path::new("config.yaml"), &env()) {
        Ok(_) => panic!("loaded:\n{text}"),
        Err(errors) => errors.render(false),
    }
}

fn targets(config: &Config) -> String {
    format!("{:?}", config.mapping.rules)
}

#[test]
fn the_connectors_snippet_loads_unchanged() {
    let config = parse(CONNECTORS);
    assert!(config.intercom.enabled);
    assert_eq!(config.intercom.access_token.as_ref().unwrap().expose_secret(), "dG9rOnRlc3Q=");
    assert_eq!(config.intercom.api_version, "2.11");
    assert_eq!(config.intercom.lists.all_users, Some(ListRef::Id(BrevoListId::new(35))));
    assert_eq!(config.intercom.lists.active_conversations, Some(ListRef::Id(BrevoListId::new(36))));
    assert_eq!(config.intercom.lists.leads, Some(ListRef::Id(BrevoListId::new(37))));
    assert_eq!(config.mapping.lists.len(), 3);
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    config.require_credentials().unwrap();
}

#[test]
fn the_field_mapping_snippet_loads_unchanged_with_a_warning_for_what_contacts_do_not_have() {
    let config = parse(FIELD_MAPPING);
    let warnings: Vec<String> = config.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].starts_with("config.yaml:9:3: "), "{warnings:?}");
    assert!(warnings[0].contains("session_count"), "{warnings:?}");
    let targets = targets(&config);
    assert!(targets.contains("COMPANY_PLAN") && !targets.contains("SESSION_COUNT"), "{targets}");
    // The secrets that the snippet leaves out are the environment's.
    assert_eq!(config.intercom.client_secret.unwrap().expose_secret(), "hush");
    assert_eq!(config.brevo.api_key.unwrap().expose_secret(), "xkeysib-1");
}

#[test]
fn what_would_do_less_than_it_says_is_warned_of() {
    let config = parse(&format!(
        "{CONNECTORS}consent: {{direction: intercom_to_brevo, resubscribe: propagate}}\ncontacts: {{on_unmatch: unlist}}\n"
    ));
    let warnings: Vec<String> = config.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].contains("opt-ins travel from Intercom to Brevo only"), "{warnings:?}");
    assert!(warnings[1].contains("nobody will be taken off a list"), "{warnings:?}");
    let config = parse(&format!(
        "{CONNECTORS}consent: {{resubscribe: propagate}}\ncontacts: {{filter: {{intercom_to_brevo: record.email}}, on_unmatch: unlist}}\n"
    ));
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
}

#[test]
fn the_debug_snippet_loads_unchanged() {
    let config = parse(DEBUG);
    assert!(config.intercom.debug && config.intercom.log_webhooks);
    assert_eq!(config.intercom.log_level, Some(LogLevel::Debug));
}

#[test]
fn the_snippets_load_merged_under_one_key() {
    let debug = DEBUG.strip_prefix("connectors:\n  intercom:\n").unwrap();
    let config = parse(&format!("{CONNECTORS}{debug}{FIELD_MAPPING}"));
    assert!(config.intercom.debug);
    assert_eq!(config.intercom.lists.all_users, Some(ListRef::Id(BrevoListId::new(35))));
    assert!(targets(&config).contains("PLAN_TIER"));
}

#[test]
fn the_snippets_one_after_the_other_have_a_key_twice() {
    insta::assert_snapshot!(refused(&format!("{CONNECTORS}{FIELD_MAPPING}{DEBUG}")));
}

#[test]
fn an_empty_config_is_all_defaults() {
    for text in ["", "# nothing\n", "connectors:\n  intercom:\n  brevo:\n", "---\n{}\n"] {
        let config = parse(text);
        assert_eq!(config.intercom.region, Region::Us);
        assert_eq!(config.intercom.base_url.as_str(), "https://api.intercom.io/");
        assert_eq!(config.brevo.base_url.as_str(), "https://api.brevo.com/v3");
        assert_eq!(config.server.listen.to_string(), "127.0.0.1:8484");
        assert_eq!(config.state.path, Path::new("state/linkspan.db"));
        assert_eq!(config.events.max_age, Duration::from_secs(86_400));
        assert_eq!(config.contacts.without_email, WithoutEmail::Skip);
        assert_eq!(config.limits.intercom.plan, None);
        assert_eq!(config.limits.brevo.import_threshold, 300);
        assert!(matches!(config.schedule.contacts.incremental, Every::Interval(every) if every.as_secs() == 300));
        assert!(matches!(config.schedule.companies.incremental, Every::Never));
    }
}

#[test]
fn every_region_has_its_host() {
    for (region, host) in [("us", "api.intercom.io"), ("eu", "api.eu.intercom.io"), ("au", "api.au.intercom.io")] {
        let config = parse(&format!("connectors: {{intercom: {{region: {region}}}}}"));
        assert_eq!(config.intercom.base_url.host_str(), Some(host));
    }
}

#[test]
fn the_example_loads_and_shows_the_defaults() {
    let config = match Config::load(Path::new("config.example.yaml"), &env()) {
        Ok(config) => config,
        Err(errors) => panic!("{}", errors.render(false)),
    };
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    let default = parse("");
    assert_eq!(config.intercom.base_url, default.intercom.base_url);
    assert_eq!(config.brevo.base_url, default.brevo.base_url);
    assert_eq!(config.server, default.server);
    assert_eq!(config.state, default.state);
    assert_eq!(config.events, default.events);
    assert_eq!(config.limits.brevo, default.limits.brevo);
    assert_eq!(format!("{:?}", config.schedule), format!("{:?}", default.schedule));
    assert_eq!(config.intercom.sync, default.intercom.sync);
}

#[test]
fn each_way_to_prove_a_webhook_is_understood_and_none_without_a_secret() {
    let webhooks = |more: &str| parse(&format!("connectors: {{brevo: {{webhooks: {{{more}}}}}}}")).brevo.webhooks.auth;
    let shown = |more: &str| match webhooks(more) {
        Some(WebhookAuth::Bearer(secret)) => format!("bearer {}", secret.expose_secret()),
        Some(WebhookAuth::Basic(user, secret)) => format!("basic {user} {}", secret.expose_secret()),
        Some(WebhookAuth::Header(name, secret)) => format!("header {name} {}", secret.expose_secret()),
        None => "none".to_owned(),
    };
    assert_eq!(shown("secret: abc"), "bearer abc");
    assert_eq!(shown("secret: abc, auth: basic"), "basic linkspan abc");
    assert_eq!(shown("secret: abc, auth: basic, user: brevo"), "basic brevo abc");
    assert_eq!(shown("secret: abc, auth: header"), "header x-linkspan-secret abc");
    assert_eq!(shown("secret: abc, auth: header, header: X-Mine"), "header x-mine abc");
    assert_eq!(shown("auth: header"), "none");
    assert_eq!(shown("secret: \"\""), "none", "a blank one would let anybody in");
    for bad in ["auth: digest", "header: \"X Y\"", "header: Content-Length", "user: \"a:b\"", "secret: \"a b\""] {
        let text = format!("connectors: {{brevo: {{webhooks: {{{bad}}}}}}}");
        assert!(Config::parse(&text, Path::new("config.yaml"), &env()).is_err(), "{bad}");
    }
    let public = |url: &str| Config::parse(&format!("server: {{public_url: \"{url}\"}}"), Path::new("c.yaml"), &env());
    assert_eq!(public("https://a.example/b").unwrap().server.public_url.unwrap().path(), "/b");
    assert!(public("http://a.example").is_err(), "the secret travels with every webhook");
    assert!(public("https://u:p@a.example").is_err());
}

#[test]
fn a_kitchen_sink_means_what_it_says() {
    let config = parse(
        r#"
x-every: &every {incremental: 30s, full: "30 3 * * 1-5"}
connectors:
  intercom:
    enabled: false
    access_token: abc
    client_secret: def
    region: eu
    api_version: "2.14"
    base_url: http://127.0.0.1:9001
    sync: {contacts: true, conversations: false, companies: false, events: false, tags: false}
    direction: intercom_to_brevo
    lists: {all_users: "All users", leads: "37", active_conversations: "${LIST:-36}"}
    debug: true
    log_level: trace
    log_webhooks: true
  brevo: {api_key: ghi, base_url: "http://localhost:9002/v3"}
field_mapping: {phone: SMS}
contacts: {without_email: by_phone}
events: {max_age: 1h30m}
phone: {default_region: NO}
server: {listen: "0.0.0.0:80"}
state: {path: /var/lib/linkspan/state.db}
schedule:
  timezone: Europe/Oslo
  jitter: 0
  contacts: *every
  companies: {full: never}
  conversations: {<<: *every, full: 7d}
  brevo_contacts: {incremental: "@hourly", full: never}
limits:
  intercom: {plan: premium, share: 1}
  brevo: {share: 0.25, import_threshold: 1}
"#,
    );
    let intercom = &config.intercom;
    assert!(!intercom.enabled);
    assert_eq!(intercom.access_token.as_ref().unwrap().expose_secret(), "abc");
    assert_eq!((intercom.region, intercom.api_version.as_str()), (Region::Eu, "2.14"));
    assert_eq!(intercom.base_url.as_str(), "http://127.0.0.1:9001/");
    assert!(!intercom.sync.tags && intercom.sync.contacts);
    assert_eq!(intercom.lists.all_users, Some(ListRef::Name("All users".to_owned())));
    assert_eq!(intercom.lists.active_conversations, Some(ListRef::Id(BrevoListId::new(36))));
    assert_eq!(intercom.log_level, Some(LogLevel::Trace));
    assert_eq!(config.brevo.base_url.as_str(), "http://localhost:9002/v3");
    assert_eq!(config.contacts.without_email, WithoutEmail::ByPhone);
    assert_eq!(config.contacts.default_phone_region.as_deref(), Some("NO"));
    assert_eq!(config.events.max_age, Duration::from_secs(5_400));
    assert_eq!(config.server.listen.to_string(), "0.0.0.0:80");
    assert_eq!(config.state.path, Path::new("/var/lib/linkspan/state.db"));
    assert!(matches!(&config.schedule.contacts.full, Every::Cron(_, zone) if zone.name() == "Europe/Oslo"));
    assert!(matches!(config.schedule.conversations.full, Every::Interval(every) if every.as_secs() == 7 * 86_400));
    assert!(matches!(config.schedule.conversations.incremental, Every::Interval(every) if every.as_secs() == 30));
    assert!(matches!(config.schedule.companies.full, Every::Never));
    assert_eq!((config.limits.intercom.plan, config.limits.intercom.share), (Some(Plan::Premium), 1.0));
    assert_eq!((config.limits.brevo.share, config.limits.brevo.import_threshold), (0.25, 1));
    // Switched off; another version than the tested one; a region beside an address; and a list that stays empty.
    assert_eq!(config.warnings.len(), 4, "{:?}", config.warnings);
}

#[test]
fn an_age_of_nothing_is_refused_with_the_way_to_send_no_events() {
    for none in ["0s", "0m", "0h"] {
        let told = refused(&format!("events:\n  max_age: {none}\n"));
        assert!(told.contains("config.yaml:2:12") && told.contains("`events.max_age`"), "{told}");
        assert!(told.contains("connectors.intercom.sync.events: false"), "{told}");
    }
    assert_eq!(parse("events: {max_age: 1s}").events.max_age, Duration::from_secs(1));
    assert!(!parse("connectors: {intercom: {sync: {events: false}}}").intercom.sync.events);
}

#[test]
fn all_mistakes_at_once_each_with_its_place() {
    insta::assert_snapshot!(refused(
        r#"
connectors:
  intercom:
    acess_token: c3VwZXJzZWNyZXQ=
    enabled: yes
    region: uk
    api_version: two
    base_url: http://api.intercom.io
    sync: {contact: true, tags: maybe}
    lists: [35, 36]
    log_level: verbsoe
  brevo:
    api_key: $BREVO_API_KEY
field_mapping:
  last_sen_at: LAST_ACTIVE
phone: {default_region: norway}
default_region: "NO"
server:
  listen: 8484
schedule:
  timezone: Europe/Olso
  jitter: 2
  contacts: {incremental: 5 minutes, full: "61 3 * * *"}
  companies: {incremental: 5m}
limits:
  intercom: {plan: por, share: 0}
  brevo: {import_threshold: -1}
events: {max_age: soon}
"#
    ));
}

#[test]
fn what_comes_later_is_refused_with_that_reason() {
    insta::assert_snapshot!(refused(
        "
companies: {on_delete: keep}
conversations: {on_unmatch: keep}
"
    ));
}

#[test]
fn conditions_read_what_their_records_have() {
    let config = parse(
        r#"
companies:
  filter: {intercom_to_brevo: "record.company.plan != 'Free'", brevo_to_intercom: "record.TIER == 'gold'"}
conversations: {filter: "record.state == 'open' and 'spam' not in (record.tags or [])"}
"#,
    );
    assert!(config.company_filter.brevo.is_some() && config.company_filter.intercom.is_some());
    assert!(config.conversation_filter.is_some());
    for (text, told) in [
        (r#"companies: {filter: {intercom_to_brevo: "record.role == 'user'"}}"#, "record.company.…"),
        (r#"companies: {filter: {brevo_to_intercom: "record.tier == 'x'"}}"#, "record.TIER"),
        (r#"conversations: {filter: "record.stat == 'open'"}"#, "did you mean `record.state`?"),
        (r#"conversations: {filter: "record.email == 'x'"}"#, "`waiting_since`"),
        (r#"conversations: {filter: "state == 'open'"}"#, "reads `record.state`"),
    ] {
        let words = refused(text);
        assert!(words.contains(told), "{text}: {words}");
    }
}

#[test]
fn who_is_made_and_changed_where_is_said_for_each_side() {
    let contacts = |text: &str| parse(text).contacts;
    let quiet = contacts("");
    assert!(quiet.create_in_brevo && quiet.update_in_brevo && quiet.update_in_intercom);
    assert_eq!((quiet.create_in_intercom, quiet.archived), (None, Archived::Link));
    let update_only = contacts("contacts: {create: {brevo: never}}");
    assert!(!update_only.create_in_brevo && update_only.update_in_brevo);
    let create_only = contacts("contacts: {update: {brevo: never, intercom: never}}");
    assert!(create_only.create_in_brevo && !create_only.update_in_brevo && !create_only.update_in_intercom);
    for (word, role) in [("lead", Some(Role::Lead)), ("user", Some(Role::User)), ("never", None)] {
        assert_eq!(contacts(&format!("contacts: {{create: {{intercom: {word}}}}}")).create_in_intercom, role);
    }
    assert_eq!(contacts("contacts: {archived: unarchive}").archived, Archived::Unarchive);
    assert_eq!(contacts("contacts: {archived: skip}").archived, Archived::Skip);
    let wrong = refused("contacts: {create: {intercom: always}}");
    assert!(wrong.contains("lead") && wrong.contains("user"), "{wrong}");
}

#[test]
fn opt_outs_travel_both_ways_unless_said_otherwise() {
    for (text, direction) in [
        ("", ConsentDirection::Both),
        ("consent: {}", ConsentDirection::Both),
        ("consent: {direction: intercom_to_brevo}", ConsentDirection::IntercomToBrevo),
        ("consent: {direction: both}", ConsentDirection::Both),
        ("consent: {direction: bidirectional}", ConsentDirection::Both),
    ] {
        assert_eq!(parse(text).consent.direction, direction, "{text}");
    }
    let wrong = refused("consent: {direction: brevo_to_intercom}");
    assert!(wrong.contains("intercom_to_brevo") && wrong.contains("both"), "{wrong}");
}

#[test]
fn a_filter_is_compiled_and_its_mistakes_are_said_where_they_stand() {
    let filter = |text: &str| parse(text).contacts.filter;
    assert!(filter("").brevo.is_none() && filter("").intercom.is_none());
    let both = "contacts: {filter: {intercom_to_brevo: \"record.role == 'user'\", brevo_to_intercom: \"record.PLAN\"}}";
    assert_eq!(filter(both).brevo.unwrap().to_string(), "record.role == 'user'");
    assert!(filter(both).intercom.is_some());
    assert!(parse("contacts: {on_unmatch: unlist}").contacts.unlist_unmatched);
    for (text, words) in [
        ("contacts: {filter: {intercom_to_brevo: \"role == 'user'\"}}", "record.role"),
        ("contacts: {filter: {intercom_to_brevo: \"record.rolle == 'user'\"}}", "record.role"),
        ("contacts: {filter: {intercom_to_brevo: \"record.role ==\"}}", "does not compile"),
        ("contacts: {filter: {brevo_to_intercom: \"record.plan\"}}", "record.PLAN"),
        ("contacts: {filter: {brevo_to_intercom: \"plan\"}}", "record.ATTRIBUTE"),
        ("contacts: {filter: {intercom_to_brevo: \"\"}}\ncontacts2: 1", "contacts2"),
        (
            "connectors: {intercom: {sync: {tags: false}}}\ncontacts: {filter: {intercom_to_brevo: \"'VIP' in record.tags\"}}",
            "sync.tags",
        ),
    ] {
        let refused = refused(text);
        assert!(refused.contains(words) && refused.contains("config.yaml:"), "{refused}");
    }
}

#[test]
fn an_opt_in_travels_only_if_asked() {
    assert!(!parse("").consent.resubscribe && !parse("consent: {resubscribe: keep}").consent.resubscribe);
    assert!(parse("consent: {resubscribe: propagate}").consent.resubscribe);
    assert!(refused("consent: {resubscribe: always}").contains("propagate"));
}

#[test]
fn on_delete_is_said_for_each_side_that_is_written_to() {
    use linkspan::config::OnDelete;
    let read = |text: &str| parse(text).contacts.on_delete;
    assert_eq!((read("").brevo, read("").intercom), (OnDelete::Keep, OnDelete::Keep));
    let both = read("contacts: {on_delete: {brevo: delete, intercom: archive}}");
    assert_eq!((both.brevo, both.intercom), (OnDelete::Delete, OnDelete::Archive));
    assert_eq!(read("contacts: {on_delete: {brevo: unlist}}").intercom, OnDelete::Keep);
    let wrong = refused("contacts: {on_delete: {brevo: archive}}");
    assert!(wrong.contains("blocklist") && wrong.contains("contacts.on_delete.brevo"), "{wrong}");
    assert!(refused("contacts: {on_delete: delete}").contains("`brevo`, `intercom`"));
}

#[test]
fn a_missing_variable_is_named() {
    insta::assert_snapshot!(refused(
        "connectors:\n  intercom:\n    access_token: \"${INTERCOM_TOKEN}\"\n    region: \"x${REGION}y\"\n  brevo:\n    \
         base_url: https://${HOST\n"
    ));
}

#[test]
fn a_missing_variable_in_a_mapping_is_said_once() {
    let errors = Config::parse("field_mapping: {phone: \"${ATTRIBUTE}\"}", Path::new("c.yaml"), &env()).unwrap_err();
    assert_eq!(errors.len(), 1, "{errors}");
}

#[test]
fn a_value_with_a_line_break_is_refused_without_being_shown() {
    let mut env = env();
    env.insert("TOKEN".to_owned(), "hushhush\nregion: eu".to_owned());
    let errors = Config::parse("connectors: {brevo: {api_key: \"${TOKEN}\"}}", Path::new("c.yaml"), &env).unwrap_err();
    let shown = errors.render(false) + &errors.to_string();
    assert!(shown.contains("`TOKEN` contains a line break") && !shown.contains("hushhush"), "{shown}");
}

#[test]
fn what_is_not_yaml_says_where() {
    insta::assert_snapshot!(refused("connectors:\n  intercom:\n\tregion: us\n"));
    for text in ["a: [", "a: 'b", "*x", "&a [*a]", "? [a]\n: b", "a: !own b", "--- a\n--- b\n", "- a", "x", "\u{0}"] {
        refused(text);
    }
}

/// What operators really write, and what they are told: where it is, and what was expected, in words for people.
#[test]
fn what_is_not_yaml_is_told_in_words_for_people() {
    let told: Vec<String> = [
        "connectors:\n  intercom:\n    region: us\n   brevo:\n    api_key: x\n",
        "connectors:\n  intercom:\n    region: us\n\tdebug: true\n",
        "schedule:\n  companies: {<<: *c}\n",
        "connectors:\n  intercom:\n    region:us\n    debug: true\n",
        "state:\n  path: a: b\n",
        "schedule:\n  contacts:\n    full: * 3 * * *\n",
        "schedule:\n  contacts:\n    full: @daily\n",
        "state:\n  path: \"abc\nserver: {}\n",
        "connectors: {intercom: {region: us}\nschedule:\n  timezone: UTC\n",
        "state: x\n  path: y\n",
        "state: {path: \u{0}}\n",
    ]
    .map(refused)
    .to_vec();
    insta::assert_snapshot!(told.join("────────\n"));
}

#[test]
fn what_is_no_text_says_where_and_how_to_mend_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.yaml");
    let load = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        Config::load(&path, &env()).unwrap_err()
    };
    let errors = load(b"field_mapping:\n  name: NAME # f\xfcr\n");
    let first = errors.iter().next().unwrap();
    assert_eq!((first.line, first.column), (Some(2), Some(17)), "{errors}");
    assert!(errors.to_string().contains("Save it as UTF-8"), "{errors}");
    assert!(load(b"\xff\xfec\0o\0").to_string().contains("UTF-16"));
    let large = load(&vec![b'#'; 5 << 20]).to_string();
    assert!(large.contains("4 MiB") && large.contains("right file"), "{large}");
    let many: String = "x-a:\n".to_owned() + &"  - a: b\n".repeat(150_000);
    assert!(load(many.as_bytes()).to_string().contains("too many values in one file; expected 200,000 at most"));
    std::fs::write(&path, "\u{feff}state:\r\n  paht: x\r\n").unwrap();
    let errors = Config::load(&path, &env()).unwrap_err();
    assert!(errors.to_string().contains("config.yaml:2:3: unknown key `paht`"), "{errors}");
}

#[test]
fn values_of_the_wrong_shape_say_what_was_expected() {
    insta::assert_snapshot!(
        refused(
            "field_mapping:\n  company:\n    name: COMPANY_NAME\n  custom_attributes: {plan: PLAN}\n  name:\n    - FIRSTNAME\n    \
         - LASTNAME\n  created_at:\n  tags: [VIP]\nserver: {listen: :8080}\nschedule: {jitter: 10%}\n"
        ) + &refused("field_mapping:\n  - name: FULLNAME\n")
    );
}

#[test]
fn aliases_cannot_blow_up_and_nesting_cannot_go_on() {
    let mut bomb = "x-a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let before = format!("*a{}, ", level - 1).repeat(10);
        bomb += &["x-a", &level.to_string(), ": &a", &level.to_string(), " [", &before, "]\n"].concat();
    }
    assert!(refused(&bomb).contains("aliases repeat too much"));
    assert!(refused(&"[".repeat(50_000)).contains("error"));
    let deep: String = (0..500).map(|level| " ".repeat(level) + "a:\n").collect();
    assert!(refused(&deep).contains("nested too deeply"));
}

#[test]
fn no_error_shows_a_secret() {
    let secret = "c3VwZXJzZWNyZXQ";
    for text in [
        format!("connectors: {{intercom: {{access_token: \"{secret} x\"}}}}"),
        format!("connectors: {{intercom: {{acces_tokne: {secret}, nonsense: 1}}}}"),
        format!("connectors: {{brevo: {{api_kye: {secret}}}}}"),
        format!("connectors: {{brevo: {{api_key: [{secret}]}}}}"),
        format!("connectors: {{brevo: {{api_key: {{a: {secret}}}}}}}"),
        format!("connectors: {{brevo: {{api_key: \"${{NOPE}}{secret}\"}}}}"),
        format!("connectors: {{brevo: {{api_key: \"${{NO-PE:-{secret}}}\"}}}}"),
        format!("connectors: {secret}"),
        format!("connectors: {{brevo: {{base_url: \"https://user:{secret}@api.brevo.com\"}}}}"),
        format!("connectors:\n  brevo:\n    api_key: {secret}\n   region: [\n"),
        format!("connectors:\n  brevo:\n    api_key: \"{secret}\n"),
        format!("connectors:\n  brevo:\n    api_key: a\n    api_key: {secret}\n"),
        format!("api_key {secret}"),
        format!("connectors: {{brevo: {{api_key: a, api_key: {secret}}}}}"),
        format!("connectors:\n  brevo: {{a: 1, api_key: {secret}\n  : ]\n"),
        format!("connectors:\n  brevo:\n    api_key:\n      {secret}\n      }}{secret}: [\n"),
    ] {
        let errors = Config::parse(&text, Path::new("config.yaml"), &env()).expect_err(&text);
        let shown = format!("{}{errors}{errors:?}{}", errors.render(true), serde_json::to_string(&errors).unwrap());
        assert!(!shown.contains(secret), "{text}\n{shown}");
    }
    let config = parse(&format!("connectors: {{brevo: {{api_key: {secret}}}}}"));
    assert!(!format!("{config:?}").contains(secret));
}

#[test]
fn credentials_are_needed_to_run_but_not_to_check() {
    let nothing = BTreeMap::new();
    let config = Config::parse("", Path::new("config.yaml"), &nothing).unwrap();
    insta::assert_snapshot!(config.require_credentials().unwrap_err().render(false));
    let mut blank = env();
    blank.insert("BREVO_API_KEY".to_owned(), "  ".to_owned());
    let config = Config::parse("connectors: {brevo: {api_key: \"${X:-}\"}}", Path::new("c.yaml"), &blank).unwrap();
    assert_eq!(config.require_credentials().unwrap_err().len(), 1);
}

#[test]
fn mapping_files_are_read_beside_the_config_and_their_mistakes_shown_in_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.yaml");
    std::fs::write(&path, "mappings: [mapping.yaml, gone.yaml]\nstate: {path: here.db}\n").unwrap();
    std::fs::write(folder.path().join("mapping.yaml"), "# mine\nphone: SMS\nrolle: ROLE\n").unwrap();
    let errors = Config::load(&path, &env()).unwrap_err();
    let lines = errors.to_string();
    assert!(lines.contains("config.yaml:1:26: the mapping file `gone.yaml` cannot be read"), "{lines}");
    assert!(lines.contains("mapping.yaml:3:1: "), "{lines}");
    std::fs::write(&path, "mappings: mapping.yaml\nstate: {path: here.db}\n").unwrap();
    std::fs::write(folder.path().join("mapping.yaml"), "phone: SMS\nrole: ROLE\n").unwrap();
    let config = Config::load(&path, &env()).unwrap();
    assert_eq!(config.mapping.rules.len(), 2);
    assert_eq!(config.state.path, folder.path().join("here.db"));
}

#[test]
fn the_starters_load_and_fit_the_schema() {
    let files = ["mappings/contacts.yaml", "mappings/companies.yaml", "mappings/conversations.yaml"];
    let read = |path: &Path| std::fs::read_to_string(path);
    let text = format!("mappings: [{}]", files.join(", "));
    match Config::parse_with(&text, Path::new("config.yaml"), &env(), &read) {
        Ok(config) => assert!(config.warnings.is_empty(), "{:?}", config.warnings),
        Err(errors) => panic!("{}", errors.render(false)),
    }
    let mut schema = schema();
    for part in ["type", "properties", "additionalProperties", "patternProperties"] {
        schema.as_object_mut().unwrap().remove(part);
    }
    schema["$ref"] = "#/$defs/mapping".into();
    let schema = jsonschema::validator_for(&schema).unwrap();
    for file in files {
        let mapping: serde_json::Value = serde_yaml::from_str(&read(Path::new(file)).unwrap()).unwrap();
        let errors: Vec<String> = schema.iter_errors(&mapping).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{file}: {errors:?}");
    }
}

#[test]
fn the_mistakes_of_a_mapping_stand_at_their_places() {
    insta::assert_snapshot!(refused(
        r#"
field_mapping:
  name: {to: [FIRSTNAME, LASTNAME], transfrom: split_name}
  phone:
    to: SMS
    direction: both
    when: "record.role =="
  custom_attributes.plan:
    to: PLAN
    type: categroy
    on_conflict: newest
    transform: [trim, uper]
  tags: {VIP: {lists: 42}}
  role: 5
"#
    ));
}

/// What people write for a name that does not exist, and what they are told.
#[test]
fn names_that_do_not_exist_lead_to_those_that_do() {
    insta::assert_snapshot!(refused(
        r#"
connectors: {intercom: {region: uk}}
field_mapping:
  sesion_count: A
  custom_atributes.plan: B
  companies: C
  company.foo: D
  company.custom_atribute.tier: E
  conversations.opn: F
  conversation.open: G
  contact.name: H
  user.emial: I
  Location.contry: J
  os: {to: K, transform: trunc}
  browser: {to: L, when: "record.role == 'user' and value | uper"}
  avatar: {to: M, when: "value is strng"}
  referrer: {to: N, transform: "value.upper()"}
  utm_term: {to: O, transform: "upper(value)"}
  utm_source: {to: P, when: "lenght(value) > 3"}
  utm_medium: {to: Q, type: integer}
  utm_content: {to: R, type: multi}
  nonsense: S
schedule: {timezone: PST, contacts: {incremental: 300, full: 24 hours}, conversations: {full: "0 3 * *"}}
limits: {intercom: {plan: professional}}
"#
    ));
}

#[test]
fn what_contradicts_itself_is_said_with_both_places() {
    let config = parse(
        "connectors:\n  intercom:\n    enabled: false\n    region: eu\n    base_url: http://localhost:9001\n    lists:\n      \
         all_users: 35\n      leads: 35\n      active_conversations: VIP\nfield_mapping:\n  tags:\n    vip: {list: VIP}\n    \
         gold: {list: Gold}\n    silver: {list: Gold}\n",
    );
    let warnings: String =
        config.warnings.iter().map(|warning| warning.render(false) + &format!("{warning}\n\n")).collect();
    insta::assert_snapshot!(warnings);
}

/// Lines of a file that are a comment and would be YAML, without the sign.
fn uncommented(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let inner = line.trim_start();
        let Some(inner) = inner.strip_prefix("# ") else { return line.to_owned() };
        let indent = &line[..line.len() - line.trim_start().len()];
        let entry = inner.trim_start();
        let item = entry.strip_prefix("- ").unwrap_or(entry);
        let key = item.split_once(':').map_or(item, |(key, _)| key);
        let one_word = !key.contains(' ') && key.starts_with(|letter: char| letter.is_ascii_lowercase());
        let yaml = one_word && (item.contains(':') || entry.starts_with("- ")) || key == "VIP";
        if yaml { format!("{indent}{inner}") } else { line.to_owned() }
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// What the example suggests can be followed: every line that is commented out may be put in, all at once, with all the
/// starters and what those suggest.
#[test]
fn what_the_example_and_the_starters_suggest_loads_together() {
    let changed = std::cell::Cell::new(0);
    let read = |path: &Path| {
        let text = std::fs::read_to_string(path)?;
        let all = uncommented(&text);
        changed.set(changed.get() + usize::from(all != text));
        Ok(all)
    };
    let example = uncommented(EXAMPLE);
    for file in ["contacts", "companies", "conversations"] {
        assert!(example.contains(&format!("\n  - mappings/{file}.yaml\n")), "{example}");
    }
    match Config::parse_with(&example, Path::new("config.yaml"), &env(), &read) {
        Ok(config) => {
            assert!(config.warnings.is_empty(), "{:?}", config.warnings);
            assert!(config.mapping.rules.len() > 35, "{}", config.mapping.rules.len());
            let cases = linkspan::mapping::run_cases(&config.mapping);
            assert!(cases.len() > 4 && cases.iter().all(|case| case.failures.is_empty()), "{cases:?}");
        }
        Err(errors) => panic!("{}", errors.render(false)),
    }
    assert_eq!(changed.get(), 3, "each starter suggests something");
    // As it is copied, it leaves the default mapping in place.
    let read = |path: &Path| std::fs::read_to_string(path);
    let copied = Config::parse_with(EXAMPLE, Path::new("config.yaml"), &env(), &read).unwrap();
    assert_eq!(format!("{:?}", copied.mapping.rules), format!("{:?}", parse("").mapping.rules));
}

#[test]
fn a_file_that_is_not_there_says_what_to_do() {
    let errors = Config::load(Path::new("no/such/config.yaml"), &env()).unwrap_err();
    let shown = errors.render(false);
    assert!(shown.contains("no/such/config.yaml") && shown.contains("config.example.yaml"), "{shown}");
}

#[test]
fn the_schema_accepts_what_loads_and_refuses_unknown_keys() {
    let schema = jsonschema::validator_for(&schema()).unwrap();
    let json = |text: &str| serde_yaml::from_str::<serde_json::Value>(text).unwrap();
    for text in [EXAMPLE, CONNECTORS, FIELD_MAPPING, DEBUG, "{}", "connectors: {intercom: {debug: \"${DEBUG}\"}}"] {
        let errors: Vec<String> = schema.iter_errors(&json(text)).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{errors:?}\n{text}");
    }
    for text in [
        "conectors: {}",
        "limits: {brevo: {share: 2}}",
        "contacts: {filter: x}",
        "safety: {max_share: 0}",
        "schedule: {companies: {incremental: 5m}}",
    ] {
        assert!(!schema.is_valid(&json(text)), "{text}");
    }
}

/// Every key below `schema`, with dots between.
fn keys_of(schema: &serde_json::Value, above: &str, into: &mut Vec<String>) {
    let Some(properties) = schema["properties"].as_object() else { return };
    for (key, below) in properties {
        let path = format!("{above}/{key}");
        if below["properties"].as_object().is_none() {
            into.push(path.clone());
        }
        keys_of(below, &path, into);
    }
}

#[test]
fn every_key_of_the_schema_stands_in_the_example_and_no_other_beside_it_is_taken() {
    let schema = schema();
    let example: serde_json::Value = serde_yaml::from_str(EXAMPLE).unwrap();
    let mut keys = Vec::new();
    keys_of(&schema, "", &mut keys);
    assert!(keys.len() > 30, "{keys:?}");
    let missing: Vec<&String> = keys.iter().filter(|key| example.pointer(key).is_none()).collect();
    assert!(missing.is_empty(), "config.example.yaml does not show {missing:?}");
    let validator = jsonschema::validator_for(&schema).unwrap();
    for key in &keys {
        let mut wrong = example.clone();
        let (above, _) = key.rsplit_once('/').unwrap();
        if !above.is_empty() {
            wrong.pointer_mut(above).unwrap()["no_such_key"] = true.into();
            assert!(!validator.is_valid(&wrong), "{above} takes any key");
        }
    }
}

proptest::proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "(connectors|intercom|lists|mappings|[-:{}\\[\\],&*!|>'\"%@`#?<$ \n\ta-z0-9é~.]|\\PC){0,60}") {
        match Config::parse(&text, Path::new("config.yaml"), &env()) {
            Ok(_) => {}
            Err(errors) => { assert!(!errors.is_empty(), "refused without a reason: {text:?}"); errors.render(true); }
        }
    }
}
