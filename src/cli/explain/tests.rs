use super::*;
use crate::engine::explain::shown::{Carrying, ConflictShown, FlightShown, OptOutShown, ReadUntil};
use crate::store::listings::{Failure, NoticeRow};
use serde_json::json;

fn at(minute: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_790_000_000 + 60 * minute, 0).unwrap()
}

fn field(rule: &str, status: &str, why: &str) -> FieldShown {
    FieldShown {
        rule: rule.to_owned(),
        status: status.to_owned(),
        intercom: json!("Ann Lee"),
        brevo: [("FULLNAME".to_owned(), json!("Anne"))].into(),
        agreed: Some(Sides { intercom: vec![json!("Ann")], brevo: vec![json!("Ann")] }),
        refused: None,
        held_back: None,
        in_flight: Sides::default(),
        write: BTreeMap::new(),
        write_intercom: BTreeMap::new(),
        why: why.to_owned(),
        failure: None,
    }
}

fn fields_in_trouble() -> Vec<FieldShown> {
    let values = |text: &str| vec![json!(text)];
    let flight = FlightShown { sent: values("Ann Lee"), before: vec![Json::Null] };
    vec![
        FieldShown {
            write: [("FULLNAME".to_owned(), json!("Ann Lee"))].into(),
            ..field("name -> FULLNAME", "to be written", "changed in Intercom")
        },
        FieldShown {
            write_intercom: [("custom_attributes.note".to_owned(), Json::Null)].into(),
            intercom: json!("a\nlong text ".repeat(20)),
            ..field("custom_attributes.note -> NOTE", "to be written", "blanked in Brevo")
        },
        FieldShown {
            in_flight: Sides { intercom: None, brevo: Some(flight) },
            ..field("role -> ROLE", "on its way", "in step")
        },
        FieldShown {
            refused: Some(Sides { intercom: None, brevo: Some(values("x")) }),
            failure: Some("it accepted the request, but kept the old value".to_owned()),
            ..field("custom_attributes.plan -> PLAN", "refused", "in step")
        },
        FieldShown {
            held_back: Some(values("+12015550123")),
            agreed: None,
            ..field("phone -> SMS", "held back", "in step")
        },
        field("signed_up_at -> SINCE", "in step", "in step"),
    ]
}

fn in_intercom(id: &str, state: &str) -> SeenInIntercom {
    SeenInIntercom {
        id: id.to_owned(),
        role: "user".to_owned(),
        primary: id == "65a",
        state: state.to_owned(),
        merged_into: (state == "merged").then(|| "65a".to_owned()),
        said_gone: None,
        email: Some("ann@x.example".to_owned()),
        external_id: Some("7".to_owned()),
        created_at: at(0),
        changed_at: at(1),
        consent: OnOneSide { email: Vec::new(), sms_opted_out: false },
        tags: vec!["VIP".to_owned()],
        companies: Vec::new(),
        conversations: 2,
    }
}

fn troubled() -> Explained {
    let out = OnOneSide { email: vec![OptOutReason::Unsubscribed], sms_opted_out: true };
    let read = ReadUntil { changes_until: at(5), in_full_at: None };
    let import = ImportShown {
        id: 3,
        process: Some(77),
        state: "running".to_owned(),
        kind: "update".to_owned(),
        rows: 400,
        sent_at: at(6),
        landed_by: Some(at(9)),
    };
    let failure = Failure {
        id: 12,
        link: Some(4),
        subject: "contact 65a".to_owned(),
        brevo: Some(4711),
        field: "phone -> SMS".to_owned(),
        refused_by: Some(SideName::Brevo),
        message: "Invalid phone number".to_owned(),
        status: Some(400),
        first_at: at(2),
        last_at: at(4),
        tries: 2,
        dead: true,
    };
    let event = EventShown {
        key: "k".to_owned(),
        name: Some("conversation_closed".to_owned()),
        state: "sending".to_owned(),
        queued_at: at(3),
        sent_at: None,
        tries: 1,
        not_before: Some(at(8)),
    };
    let change = ChangeShown {
        at: at(4),
        what: "update in Brevo".to_owned(),
        causes: [("role -> ROLE".to_owned(), "changed in Intercom".to_owned())].into(),
        request: Some("PUT /contacts/4711".to_owned()),
        answer: "accepted".to_owned(),
        import: None,
    };
    let told = OptOutShown {
        side: SideName::Brevo,
        contact: Some("4711".to_owned()),
        channel: "email".to_owned(),
        reason: Some(OptOutReason::Spam),
        email: Some("ann@x.example".to_owned()),
        notice: "spam".to_owned(),
        at: at(2),
        taken_back_at: Some(at(3)),
    };
    let carrying = Carrying {
        contact: "65a".to_owned(),
        told: true,
        due: None,
        may_land_until: Some(at(8)),
        held: false,
        ours: true,
        tries: 1,
    };
    Explained {
        as_of: at(7),
        link: Some(4),
        email: Some("ann@x.example".to_owned()),
        standing: "in an import that is not over".to_owned(),
        matched: Some(
            "by their ids, whatever changes; now the external ids agree, and the addresses differ".to_owned(),
        ),
        intercom: vec![in_intercom("65a", "there"), in_intercom("65b", "merged")],
        brevo: Some(SeenInBrevo {
            id: 4711,
            gone: false,
            not_read_yet: true,
            email: Some("anne@x.example".to_owned()),
            ext_id: Some("7".to_owned()),
            created_at: None,
            changed_at: None,
            consent: Some(out.clone()),
            lists: Vec::new(),
            lists_left: Vec::new(),
        }),
        also_at_the_address: Vec::new(),
        read: Sides { intercom: Some(read), brevo: None },
        fields: fields_in_trouble(),
        consent: ConsentShown {
            words: Some("opted out in Brevo: that is written to Intercom; and more".to_owned()),
            intercom: Some(OnOneSide { email: Vec::new(), sms_opted_out: false }),
            brevo: Some(out),
            agreed: Some(Sides { intercom: false, brevo: true }),
            agreed_sms: None,
            told: vec![told],
            carried: vec![carrying],
        },
        lists: vec![ListShown {
            list: 3,
            name: Some("Users".to_owned()),
            rules: vec!["all_users -> Users".to_owned()],
            member: Some(false),
            unsubscribed: true,
            agreed_member: Some(false),
            wanted_then: Some(true),
            in_flight: None,
        }],
        lists_to_write: vec!["join “VIP” (list 9)".to_owned()],
        waiting: vec![Waiting {
            what: "to be compared and written, as a live change".to_owned(),
            not_before: Some(at(8)),
            tries: Some(2),
        }],
        events: vec![event],
        import: Some(import.clone()),
        failures: vec![failure],
        notices: vec![NoticeRow {
            kind: "kept_off_list".to_owned(),
            subject: "contact 65a".to_owned(),
            detail: Some("“Users” (list 3): left it".to_owned()),
            since: at(1),
        }],
        conflicts: vec![ConflictShown {
            at: at(1),
            field: "name -> FULLNAME".to_owned(),
            side: SideName::Brevo,
            lost: vec![json!("Annie")],
            kept: vec![json!("Ann")],
            rule: "first link: the source's value stands".to_owned(),
            import: None,
        }],
        changes: vec![change.clone(), ChangeShown { request: None, import: Some(import), ..change }],
        unknown: vec!["what a run would write, until config and accounts fit: Brevo has no list 9".to_owned()],
    }
}

#[test]
fn somebody_with_every_trouble_is_told_in_plain_words() {
    insta::assert_snapshot!(in_words(&troubled()));
}

#[test]
fn what_is_asked_may_mean_several_things() {
    let email = Whom::Email(Email::parse("a@x.example").unwrap());
    assert_eq!(readings(" A@x.example ").unwrap(), [email]);
    let (brevo, link) = (Whom::Brevo(BrevoContactId::new(12)), Whom::Link(12));
    let intercom = |id: &str| Whom::Intercom(IntercomContactId::new(id));
    assert_eq!(readings("12").unwrap(), [brevo.clone(), intercom("12"), link.clone()]);
    assert_eq!(readings("65a").unwrap(), [intercom("65a")]);
    assert_eq!(readings("brevo:12").unwrap(), [brevo]);
    assert_eq!(readings("link:12").unwrap(), [link]);
    assert!(readings("link:a").is_err() && readings("@").is_err());
}

#[test]
fn long_values_are_cut() {
    assert_eq!(cut("a\n b", 9), "a b");
    assert_eq!(cut("äöüäöü", 4), "äöü…");
    assert_eq!(values(&[], 9), "–");
}
