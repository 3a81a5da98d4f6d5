use super::*;
use crate::http::lean::Tree;
use serde_json::{Value as Plain, json};

fn contact(json: Plain) -> Result<IntercomContact, WireError> {
    super::contact(Tree::from(&json).root())
}

fn company(json: Plain) -> Result<Company, WireError> {
    super::company(Tree::from(&json).root())
}

fn conversation(json: Plain) -> Result<Conversation, WireError> {
    super::conversation(Tree::from(&json).root())
}

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(seconds, 0).unwrap()
}

#[test]
fn one_instant_is_one_value_however_it_is_written() {
    for written in [
        json!(1_768_018_948),
        json!(1_768_018_948.24),
        json!("1768018948"),
        json!(1_768_018_948_240_i64),
        json!("2026-01-10T04:22:28.240+00:00"),
        json!("2026-01-10T04:22:28Z"),
        json!("2026-01-10 04:22:28 UTC"),
        json!("2026-01-10T05:22:28+01:00"),
    ] {
        assert_eq!(instant(Tree::from(&written).root()), Some(at(1_768_018_948)), "{written}");
    }
    assert_eq!(instant(Tree::from(&json!(-86_400)).root()), Some(at(-86_400)), "before 1970");
    for nothing in
        [json!(null), json!(""), json!("soon"), json!(true), json!({}), json!("NaN"), json!(1e300), json!(i64::MIN)]
    {
        assert_eq!(instant(Tree::from(&nothing).root()), None, "{nothing}");
    }
}

#[test]
fn a_rest_contact_and_a_webhooks_are_one_record() {
    let rest = json!({"type":"contact","id":"6961d4041c1e12de4c5499cc","external_id":"24","role":"user","email":"User@Example.com",
        "phone":null,"name":"Jo","avatar":{"type":"avatar","image_url":"https://x.test/a.png"},"owner_id":127,
        "unsubscribed_from_emails":false,"has_hard_bounced":false,"created_at":1_768_018_948,"updated_at":1_768_018_948,
        "signed_up_at":null,"location":{"type":"location","country":"Ireland","region":null,"city":"Dublin"},
        "custom_attributes":{"plan_tier":"pro","seats":3,"paid":true,"none":null,"Order":{"type":"Order.list","instances":[]}},
        "social_profiles":{"type":"list","data":[]},
        "tags":{"type":"list","data":[{"type":"tag","id":"2"},{"type":"tag","id":4}],"total_count":2,"has_more":false}});
    let mut hook = rest.clone();
    hook["created_at"] = json!("2026-01-10T04:22:28.240+00:00");
    hook["updated_at"] = json!("2026-01-10T04:22:28.238+00:00");
    hook["owner_id"] = json!("127");
    hook["avatar"] = json!("https://x.test/a.png");
    let rest = contact(rest).unwrap();
    assert_eq!(rest, contact(hook).unwrap());
    assert_eq!(rest.email.as_ref().unwrap().as_str(), "user@example.com");
    assert_eq!(rest.role, Role::User);
    assert_eq!(rest.fields["location.city"], Value::Text("Dublin".into()));
    assert_eq!(rest.fields["custom_attributes.seats"], Value::Number(Number::Whole(3)));
    assert!(rest.fields["custom_attributes.Order"].kind() == "structure");
    assert!(!rest.fields.contains_key("phone") && !rest.fields.contains_key("location.type"));
    assert!(rest.tags.complete && rest.tags.items.len() == 2);
    assert!(!rest.companies.complete, "a list that is not shown says nothing");
}

#[test]
fn an_embedded_list_is_whole_only_if_it_says_so() {
    let of = |list: Plain| partial(Some(Tree::from(&list).root()), "tags", IntercomTagId::new).complete;
    let items = |n: usize| (0..n).map(|id| json!({"id": id})).collect::<Vec<_>>();
    assert!(of(json!({"data": items(10), "total_count": 10, "has_more": false})));
    assert!(!of(json!({"data": items(10), "total_count": 14, "has_more": true})));
    assert!(!of(json!({"data": items(10), "total_count": 14})));
    assert!(of(json!({"data": items(9)})), "version 2.0 shows no counts");
    assert!(!of(json!({"data": items(10)})));
    assert!(!of(json!(null)));
}

#[test]
fn every_reason_not_to_mail_counts() {
    let consent = |fields: Plain| {
        let mut json = json!({"id": "1"});
        json.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        contact(json).unwrap().consent
    };
    assert!(consent(json!({"unsubscribed_from_emails": true})).email_opted_out());
    assert!(consent(json!({"has_hard_bounced": true})).email_opted_out());
    assert!(consent(json!({"marked_email_as_spam": true})).email_opted_out());
    assert!(consent(json!({"unsubscribed_from_sms": true})).sms_opted_out);
    assert!(!consent(json!({"sms_consent": false})).sms_opted_out, "no consent asked for is no opt-out");
}

#[test]
fn a_bad_address_is_kept_to_be_shown_but_names_nobody() {
    let record = contact(json!({"id": "1", "email": "jane@"})).unwrap();
    assert_eq!((record.email, record.fields["email"].clone()), (None, Value::Text("jane@".into())));
    assert!(!contact(json!({"id": "1", "email": ""})).unwrap().fields.contains_key("email"));
}

#[test]
fn a_companys_plan_is_its_name_in_every_shape() {
    let plan = |plan: Plain| company(json!({"id": "c", "plan": plan})).unwrap().fields.get("plan").cloned();
    assert_eq!(plan(json!({"type": "plan", "id": "1", "name": "Pro"})), Some(Value::Text("Pro".into())));
    assert_eq!((plan(json!({})), plan(json!(null))), (None, None));
}

#[test]
fn a_conversation_of_either_generation_reads_the_same() {
    let old = json!({"type":"conversation","id":215_472_621_202_693_i64,"created_at":1_768_031_789,"updated_at":1_768_031_793,"open":true,
        "state":"snoozed","snoozed_until":1_768_100_000,"priority":"not_priority",
        "source":{"type":"email","delivered_as":"customer_initiated","body":"<p>x</p>","author":{"type":"lead","id":"1"}},
        "contacts":{"type":"contact.list","contacts":[{"type":"contact","id":"667d60bb8a68186f43bafdc5"}]},
        "tags":{"type":"tag.list","tags":[{"type":"tag","id":"9","name":"VIP"}]},
        "conversation_rating":{"rating":5,"remark":"great"},"sla_applied":{"type":"x","sla_name":"Gold","sla_status":"hit"},
        "statistics":{"last_close_at":"2026-01-10T07:56:29.000Z","time_to_admin_reply":42},
        "teammates":{"type":"admin.list","admins":[]},
        "ai_agent_participated":true,"ai_agent":{"resolution_state":"routed_to_team","rating":4}});
    let mut new = old.clone();
    new["id"] = json!("215472621202693");
    new["statistics"]["last_close_at"] = json!(1_768_031_789);
    let record = conversation(old).unwrap();
    assert_eq!(record, conversation(new).unwrap());
    assert_eq!(record.state, ConversationState::Snoozed, "though it says open");
    assert_eq!(record.rating, Some(Rating { score: 5, remark: Some("great".into()) }));
    assert!(record.started_by_contact && record.tags.contains("VIP"));
    assert_eq!((record.time_to_first_reply, record.ai_rating), (Some(42), Some(4)));
    assert_eq!(record.last_close_at, Some(at(1_768_031_789)));
}

/// From 2.15 the AI agent's endings, from 2.16 the priorities have other words: they are told as they are.
#[test]
fn the_newer_versions_words_are_told_as_they_are() {
    let of = |priority: &str, resolution: Plain, rating: Plain| {
        conversation(json!({"type": "conversation", "id": "7", "created_at": 1, "updated_at": 2, "state": "closed",
            "priority": priority, "conversation_rating": rating, "ai_agent_participated": true,
            "ai_agent": {"resolution_state": resolution, "rating": null}}))
        .unwrap()
    };
    for resolution in
        ["assumed_resolution", "confirmed_resolution", "escalated", "negative_feedback", "procedure_handoff"]
    {
        let record = of("high", json!(resolution), json!(null));
        assert_eq!(record.ai_resolution.as_deref(), Some(resolution));
        assert_eq!((record.ai_participated, record.ai_rating, record.rating), (Some(true), None, None));
    }
    for priority in ["none", "low", "medium", "high", "urgent"] {
        assert_eq!(of(priority, json!(null), json!(null)).priority.as_deref(), Some(priority));
    }
    assert_eq!(of("none", json!(null), json!(null)).ai_resolution, None);
    // Asked for, and not answered yet.
    let asked = json!({"rating": null, "remark": null, "created_at": 1, "contact": null, "teammate": null});
    assert_eq!(of("low", json!(null), asked).rating, None);
    let answered = json!({"rating": 2, "remark": null});
    assert_eq!(of("low", json!(null), answered).rating, Some(Rating { score: 2, remark: None }));
}

#[test]
fn a_lists_end_is_where_no_next_is() {
    let next =
        |pages: Plain| list(Tree::from(&json!({"data": [], "pages": pages})).root(), &["data"], "things").unwrap().next;
    assert_eq!(next(json!(null)), Next::End);
    assert_eq!(next(json!({"page": 1, "total_pages": 0})), Next::End);
    assert_eq!(next(json!({"next": null})), Next::End);
    assert_eq!(next(json!({"next": {"page": 2, "starting_after": "W10="}})), Next::After("W10=".into()));
    assert_eq!(next(json!({"next": {"page": 2, "per_page": 60}})), Next::Page(2));
    let url = "https://api.intercom.io/contacts/1/companies?page=3&per_page=60";
    assert_eq!(next(json!({"next": url})), Next::Page(3));
    assert_eq!(next(json!({"next": "/x?starting_after=a%3Db"})), Next::After("a=b".into()));
    assert_eq!(next(json!({"next": "next", "page": 1, "total_pages": 1})), Next::End);
    assert_eq!(next(json!({"next": "next", "page": 1, "total_pages": 2})), Next::Page(2));
    assert_eq!(next(json!({"next": 7})), Next::Unsaid);
    assert!(
        list(Tree::from(&json!({"type": "list"})).root(), &["data"], "things").is_err(),
        "no list is not an empty list"
    );
}

#[test]
fn garbage_is_an_error_or_nothing_and_never_a_panic() {
    for json in [json!(null), json!([]), json!("x"), json!({}), json!({"id": null}), json!({"id": {}})] {
        assert!(contact(json.clone()).is_err() && company(json.clone()).is_err() && conversation(json).is_err());
    }
    let odd = json!({"id": 7, "role": [], "email": {}, "created_at": {}, "tags": [], "companies": "x", "location": [],
        "custom_attributes": [], "avatar": 3, "owner_id": {}, "statistics": 1, "ai_agent": [], "source": "x",
        "contacts": 1, "conversation_rating": [], "plan": 1, "sla_applied": []});
    assert_eq!(contact(odd.clone()).unwrap().id.as_str(), "7");
    assert!(company(odd.clone()).is_ok() && conversation(odd).is_ok());
}
