use super::*;
use serde_json::json;

fn notification(topic: &str, item: Json) -> Notification {
    let body = json!({"type": "notification_event", "app_id": "abc123def", "id": "notif_1", "topic": topic,
        "data": {"type": "notification_event_data", "item": item}, "created_at": 1_768_022_508});
    Notification::parse(body.to_string().as_bytes()).unwrap()
}

fn effects(topic: &str, item: Json) -> Vec<Effect> {
    notification(topic, item).effects()
}

fn fetch(id: &str) -> Effect {
    Effect::NeedsFetch(ToFetch::Contact(IntercomContactId::new(id)))
}

fn at(seconds: i64) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(seconds, 0)
}

fn user() -> Json {
    json!({"type":"contact","id":"6961d4041c1e12de4c5499cc","workspace_id":"abc123def","external_id":"24","role":"user",
        "email":"user@example.com","unsubscribed_from_emails":false,"created_at":"2026-01-10T04:22:28.240+00:00",
        "updated_at":"2026-01-10T04:22:28.238+00:00","signed_up_at":null,"custom_attributes":{},
        "tags":{"type":"list","data":[],"url":"/x","total_count":0,"has_more":false}})
}

fn talk() -> Json {
    json!({"type":"conversation","id":"215472621202693","created_at":1_768_031_789,"updated_at":1_768_031_793,"state":"closed",
        "open":false,"source":{"type":"conversation","author":{"type":"user"}},"tags":{"type":"tag.list","tags":[]},
        "contacts":{"type":"contact.list","contacts":[{"type":"contact","id":"c1"}]},
        "statistics":{"last_close_at":"2026-01-10T07:56:29.500Z"},"teammates":{"type":"admin.list","admins":[]},
        "conversation_rating":{"rating":4,"remark":"ok"},"snoozed_until":1_768_100_000})
}

#[test]
fn a_signature_covers_the_raw_bytes() {
    let secret = SecretString::from("Jefe");
    let body = b"what do ya want for nothing?"; // RFC 2202, test case 2
    let good = "sha1=effcdf6ae5eb2fa2d27416d5f184df9c259a7c79";
    assert!(verify(&secret, body, good));
    assert!(verify(&secret, body, &good.to_uppercase().replace("SHA1", "sha1")));
    let nul = SecretString::from("");
    for header in [
        "",
        "sha1=",
        &good[5..],
        "sha256=effcdf6ae5eb2fa2d27416d5f184df9c259a7c79",
        "sha1=éffcdf6ae5eb2fa2d27416d5f184df9c259a7c7",
    ] {
        assert!(!verify(&secret, body, header), "{header}");
    }
    assert!(!verify(&secret, b"what do ya want for nothing!", good));
    assert!(!verify(&SecretString::from("other"), body, good));
    assert!(!verify(&nul, b"", "sha1=fbdb1d1b18aa6c08324b7d64b71fb76370690e1d"), "an empty secret signs nothing");
}

#[test]
fn topics_know_their_old_names() {
    for topic in Topic::ALL {
        assert_eq!(&Topic::parse(topic.as_str()), topic);
    }
    for (alias, topic) in [
        ("conversation.created", Topic::ConversationUserCreated),
        ("conversation.closed", Topic::ConversationAdminClosed),
        ("conversation.rating.added", Topic::ConversationRatingAdded),
        ("conversation.snoozed", Topic::ConversationAdminSnoozed),
        ("contact.created", Topic::ContactUserCreated),
        ("contact.updated", Topic::ContactUserUpdated),
        ("contact.deleted", Topic::ContactDeleted),
        ("contact.tag.created", Topic::ContactUserTagCreated),
        ("user.created", Topic::ContactUserCreated),
        ("user.email.updated", Topic::ContactEmailUpdated),
        ("user.unsubscribed", Topic::ContactUnsubscribed),
    ] {
        assert_eq!(Topic::parse(alias), topic, "{alias}");
    }
    assert_eq!(Topic::parse("ticket.created"), Topic::Unknown("ticket.created".into()));
}

#[test]
fn a_ping_has_no_id_and_no_effect() {
    let body = br#"{"type":"notification_event","app_id":"i6wc9ipe","data":{"type":"notification_event_data","item":{"type":"ping","message":"something something interzen"}},"links":{},"id":null,"topic":"ping","delivery_status":null,"delivery_attempts":1,"delivered_at":0,"first_sent_at":1553288147,"created_at":1553288147,"self":null}"#;
    let ping = Notification::parse(body).unwrap();
    assert_eq!((ping.id.clone(), ping.topic.clone(), ping.effects()), (None, Topic::Ping, vec![]));
}

#[test]
fn garbage_is_refused_without_repeating_it() {
    assert_eq!(Notification::parse(b"[]"), Err(ParseError::NotAnObject));
    assert_eq!(Notification::parse(b"{}"), Err(ParseError::NoTopic));
    assert_eq!(Notification::parse(br#"{"topic":" "}"#), Err(ParseError::NoTopic));
    assert_eq!(Notification::parse(br#"{"topic":7}"#), Err(ParseError::BadTopic));
    assert_eq!(
        Notification::parse(format!(r#"{{"topic":"{}"}}"#, "x".repeat(300)).as_bytes()),
        Err(ParseError::BadTopic)
    );
    assert!(matches!(Notification::parse(b"\xff\x00"), Err(ParseError::NotJson { .. })));
    let deep = format!(r#"{{"topic":"ping","data":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    assert!(matches!(Notification::parse(deep.as_bytes()), Err(ParseError::NotJson { .. })));
    assert_eq!(Notification::parse(&vec![b' '; LONGEST_BODY + 1]), Err(ParseError::TooLong));
    for topic in Topic::ALL {
        for item in [json!(null), json!([]), json!({}), json!({"id": []}), json!({"contact": 3, "id": null})] {
            assert_eq!(effects(topic.as_str(), item), vec![], "{topic:?}");
        }
    }
}

#[test]
fn a_whole_contact_is_observed_and_a_part_is_read() {
    let seen = effects("contact.user.created", user());
    let [Effect::Observed { observation: Observation::IntercomContact(contact), at: when }] = &seen[..] else {
        panic!("{seen:?}")
    };
    assert_eq!((contact.external_id.as_deref(), Some(*when)), (Some("24"), at(1_768_018_948)));
    assert_eq!(effects("contact.user.updated", json!({"id": "c1", "role": "lead"})), [fetch("c1")]);
}

#[test]
fn deletion_merging_tags_and_consent_are_read_not_believed() {
    let gone = effects("contact.deleted", json!({"id":"c1","external_id":"1","type":"contact","deleted":true}));
    let report = Observation::IntercomContactGone(IntercomContactId::new("c1"), Gone::Deleted);
    assert_eq!(gone, [Effect::Gone(report), fetch("c1")]);
    let archived = effects("contact.archived", json!({"id":"c1","type":"contact","archived":true}));
    assert!(matches!(&archived[0], Effect::Gone(Observation::IntercomContactGone(_, Gone::Archived))));
    let tag = json!({"type":"contact_tag","tag":{"type":"tag","id":"1","name":"x"},"contact":user()});
    assert_eq!(effects("contact.lead.tag.created", tag), [fetch("6961d4041c1e12de4c5499cc")]);
    assert_eq!(effects("contact.merged", user()), [fetch("6961d4041c1e12de4c5499cc")], "a capture names no loser");
    let mut named = user();
    named["merged_from"] = json!({"type": "contact", "id": "lost"});
    assert_eq!(effects("contact.merged", named), [fetch("lost"), fetch("6961d4041c1e12de4c5499cc")]);
    let talk = effects("conversation.deleted", json!({"type":"conversation","conversation_id":"215472621305755"}));
    let id = ConversationId::new("215472621305755");
    assert_eq!(
        talk,
        [Effect::Gone(Observation::ConversationGone(id.clone())), Effect::NeedsFetch(ToFetch::Conversation(id))]
    );
}

#[test]
fn unsubscribing_from_everything_is_a_fact_and_from_one_type_is_not() {
    let item = |types: Json| {
        json!({"type":"contact_unsubscribe","contact":{"type":"contact","id":"c1","email":"user@example.com",
            "unsubscribed_from_emails":true},"subscription_types":{"type":"list","data":types},"created_at":1_768_022_500})
    };
    let out = Effect::OptedOut { contact: IntercomContactId::new("c1"), from: OptOut::Email, at: at(1_768_022_500) };
    assert_eq!(effects("contact.unsubscribed", item(json!([]))), [out, fetch("c1")]);
    assert_eq!(effects("contact.unsubscribed", item(json!([{"id": "93"}]))), [fetch("c1")]);
    assert_eq!(effects("granular.unsubscribe", item(json!([{"id": "93"}]))), [fetch("c1")]);
    let sms = effects("contact.unsubscribed_from_sms", user());
    assert!(matches!(&sms[0], Effect::OptedOut { from: OptOut::Sms, at: when, .. } if *when == at(1_768_022_508)));
}

#[test]
fn a_conversations_topic_counts_with_the_key_that_a_poll_shows_too() {
    let transition = |topic: &str| {
        let all = effects(topic, talk());
        assert!(all.iter().any(|effect| matches!(effect, Effect::Observed { .. })), "{all:?}");
        all.into_iter().find_map(|effect| match effect {
            Effect::Transition { transition, contacts, .. } => {
                assert_eq!(contacts.len(), 1);
                Some(transition)
            }
            _ => None,
        })
    };
    assert_eq!(transition("conversation.user.created"), Some(Transition::Created { at: at(1_768_031_789) }));
    assert_eq!(transition("conversation.closed"), Some(Transition::Closed { at: at(1_768_031_789) }));
    assert_eq!(transition("conversation.admin.snoozed"), Some(Transition::Snoozed { until: at(1_768_100_000) }));
    let rated = Transition::Rated { score: Some(4), remark: Some("ok".into()) };
    assert_eq!(transition("conversation.rating.added"), Some(rated));
    assert_eq!(transition("conversation.operator.replied"), None);
}

#[test]
fn a_conversation_shown_in_part_still_tells_what_happened_and_is_read() {
    let part = json!({"type":"conversation","id":"7","created_at":1_768_031_789,"updated_at":1_768_031_793});
    let all = effects("conversation.admin.closed", part);
    assert!(matches!(&all[0], Effect::Transition { transition: Transition::Closed { at: None }, .. }));
    assert_eq!(all[1..], [Effect::NeedsFetch(ToFetch::Conversation(ConversationId::new("7")))]);
}

#[test]
fn a_company_without_a_plan_is_read_because_webhooks_leave_it_out() {
    let mut company = json!({"type":"company","id":"6961d175205cf6a4438f0c21","name":"Acme","plan":null,
        "company_id":"6961d175205cf6a4438f0c22-qualification-company","created_at":"2026-01-10T04:11:34.013+00:00",
        "updated_at":"2026-01-10T04:11:34.206+00:00","custom_attributes":{},"tag_ids":[]});
    let id = IntercomCompanyId::new("6961d175205cf6a4438f0c21");
    assert_eq!(effects("company.updated", company.clone()), [Effect::NeedsFetch(ToFetch::Company(id.clone()))]);
    company["plan"] = json!({"type":"plan","id":"1","name":"Pro"});
    let seen = effects("company.updated", company.clone());
    assert!(matches!(&seen[..], [Effect::Observed { observation: Observation::Company(_), .. }]));
    let attached = effects("company.contact.attached", json!({"company": company, "contact": user()}));
    assert_eq!(attached, [fetch("6961d4041c1e12de4c5499cc"), Effect::NeedsFetch(ToFetch::Company(id))]);
}

#[test]
fn debug_output_shows_nobody() {
    let text = format!("{:?}", notification("contact.user.created", user()));
    assert!(!text.contains("example.com") && text.contains("notif_1"), "{text}");
}

/// JSON with the keys that matter and anything at all behind them.
fn anything() -> impl proptest::strategy::Strategy<Value = Json> {
    use proptest::prelude::*;
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        any::<f64>().prop_map(Json::from),
        "\\PC{0,12}".prop_map(Json::from),
        Just(json!("2026-01-10T04:22:28.240+00:00")),
        Just(json!("user")),
    ];
    let key = proptest::sample::select(vec![
        "id",
        "type",
        "contact",
        "conversation",
        "company",
        "created_at",
        "updated_at",
        "contacts",
        "data",
        "tags",
        "state",
        "open",
        "source",
        "author",
        "email",
        "role",
        "plan",
        "name",
        "custom_attributes",
        "conversation_rating",
        "rating",
        "statistics",
        "last_close_at",
        "snoozed_until",
        "subscription_types",
        "merged_from",
        "conversation_id",
        "item",
        "unsubscribed_from_emails",
        "companies",
        "has_more",
        "total_count",
        "location",
        "avatar",
        "owner_id",
        "topic",
    ]);
    leaf.prop_recursive(4, 64, 8, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
            proptest::collection::btree_map(key.clone().prop_map(str::to_owned), inner, 0..8)
                .prop_map(|map| Json::Object(map.into_iter().collect())),
        ]
    })
}

proptest::proptest! {
    #[test]
    fn no_payload_panics(topic in proptest::sample::select(Topic::ALL), item in anything()) {
        let body = json!({"topic": topic.as_str(), "data": {"item": item.clone()}, "created_at": item.clone(), "id": item});
        let notification = Notification::parse(body.to_string().as_bytes()).unwrap();
        proptest::prop_assert!(notification.effects().len() <= 4);
    }

    #[test]
    fn no_body_panics(body in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..64), header in "\\PC{0,50}") {
        proptest::prop_assert!(Notification::parse(&body).is_err());
        proptest::prop_assert!(!verify(&SecretString::from("s"), &body, &header));
    }
}
