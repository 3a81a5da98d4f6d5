//! Companies, against the double and by themselves.

use super::*;
use crate::brevo::BrevoOptions;
use crate::doors::{Doors, NoCrash, SeededRng, SimulatedClock};
use crate::http::InProcess;
use crate::model::{Side as _, Write};
use crate::sandbox::brevo::{BrevoOptions as Options, BrevoSandbox};
use std::sync::Arc;

fn connected() -> (BrevoSandbox, BrevoClient) {
    let clock = Arc::new(SimulatedClock::starting_at("2026-11-20T09:00:00Z".parse().unwrap()));
    let doors = Doors { clock: clock.clone(), rng: Arc::new(SeededRng::new(1)), crash: Arc::new(NoCrash) };
    let sandbox = BrevoSandbox::new(Options::new(1, clock));
    let mut options = BrevoOptions::new(sandbox.api_key().to_owned().into()).unwrap();
    options.base_url = "https://api.brevo.test/v3".parse().unwrap();
    let client = BrevoClient::new(options, Arc::new(InProcess::new(sandbox.router())), doors);
    (sandbox, client)
}

fn spec(name: &str, kind: AttributeKind, options: &[&str]) -> Write {
    let options = options.iter().map(|option| (*option).to_owned()).collect();
    Write::CreateCompanyAttribute(AttributeSpec { name: name.to_owned(), kind, options })
}

#[tokio::test(start_paused = true)]
async fn an_attribute_is_found_under_its_label_whatever_brevo_calls_it() {
    let (_, client) = connected();
    for _ in 0..2 {
        // Asked twice, because an answer was lost: it is there, and that is what was wanted.
        client.write(&spec(BrevoCompany::OURS, AttributeKind::Text, &[]), Priority::Live).await.unwrap();
    }
    client.write(&spec("SEATS", AttributeKind::Float, &[]), Priority::Live).await.unwrap();
    let attributes = client.company_attributes().await.unwrap();
    let found = |name: &str| attributes.iter().find(|attribute| attribute.name == name).cloned();
    assert_eq!(found(BrevoCompany::OURS).unwrap().kind, AttributeKind::Text);
    assert_eq!(found("SEATS").unwrap().kind, AttributeKind::Float);
    assert!(!found("OWNER").unwrap().writable && !found("NUMBER_OF_CONTACTS").unwrap().writable);
    let row = json!({"internalName": "lsid_7", "label": "Linkspan Intercom ID", "attributeTypeName": "text"});
    let (attribute, own) = attribute(Tree::from(&row).root()).unwrap();
    assert_eq!((attribute.name.as_str(), own.internal.as_str()), ("LSID_7", "lsid_7"));
    assert_eq!(in_capitals("Linkspan Intercom ID"), BrevoCompany::OURS);
}

#[tokio::test(start_paused = true)]
async fn a_company_is_found_by_our_attribute_and_never_by_accident() {
    let (sandbox, client) = connected();
    client.write(&spec(BrevoCompany::OURS, AttributeKind::Text, &[]), Priority::Live).await.unwrap();
    client.company_attributes().await.unwrap();
    let text = |text: &str| Value::Text(text.to_owned());
    let new = NewCompany {
        attributes: [(BrevoCompany::NAME.to_owned(), text("Acme")), (BrevoCompany::OURS.to_owned(), text("ic1"))]
            .into(),
        contacts: BTreeSet::new(),
    };
    let Answer::CompanyCreated(id) = client.write(&Write::CreateCompany(new), Priority::Live).await.unwrap() else {
        panic!("not made")
    };
    sandbox.create_company("Somebody else's");
    let found = client.companies_of(&IntercomCompanyId::new("ic1"), Priority::Live).await.unwrap();
    assert_eq!((found.len(), &found[0].id), (1, &id));
    assert!(client.companies_of(&IntercomCompanyId::new("ic2"), Priority::Live).await.unwrap().is_empty());
    sandbox.knobs(|knobs| knobs.companies_ignore_filters = true);
    let error = client.companies_of(&IntercomCompanyId::new("ic2"), Priority::Live).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Malformed, "all of them were shown: that says nothing");

    let change = BTreeMap::from([("DOMAIN".to_owned(), Some(text("acme.example"))), ("INDUSTRY".to_owned(), None)]);
    let answer = client.write(&Write::UpdateCompany(id, change), Priority::Live).await.unwrap();
    let Answer::BrevoCompany(shown, _) = answer else { panic!("not shown") };
    assert_eq!(shown.attributes.get("DOMAIN"), Some(&text("acme.example")));
    let nobody = client.fetch_brevo_company(&BrevoCompanyId::new("0".repeat(24)), Priority::Live).await.unwrap();
    assert_eq!(nobody, Fetched::Gone(Gone::Deleted));
    let odd = client.fetch_brevo_company(&BrevoCompanyId::new("../contacts"), Priority::Live).await.unwrap_err();
    assert!(matches!(odd.kind, ErrorKind::Rejected { .. }), "it would name something else");
}

#[test]
fn values_take_the_attributes_shape_there_and_back() {
    let own = |kind| CompanyAttribute {
        internal: "x".to_owned(),
        kind,
        options: vec![("Gold".to_owned(), "label_1".to_owned())],
    };
    let day = Value::Date("2026-05-04".parse().unwrap());
    let date = own(AttributeKind::Date);
    assert_eq!(to_wire(Some(&day), Some(&date)), json!("2026-05-04T12:00:00.000Z"));
    // Midnight in Delhi is the day before in London.
    assert_eq!(from_wire(Tree::from(&json!("2026-05-04T00:00:00+05:30")).root(), &date), Some(day));
    let gold = Value::Text("Gold".to_owned());
    assert_eq!(to_wire(Some(&gold), Some(&own(AttributeKind::Category))), json!("label_1"));
    let list = Value::list(["Gold".to_owned(), "Tin".to_owned()]).unwrap();
    assert_eq!(to_wire(Some(&list), Some(&own(AttributeKind::MultipleChoice))), json!(["label_1", "Tin"]));
    let number = Value::from_json(&json!(7)).unwrap();
    assert_eq!(to_wire(Some(&number), Some(&own(AttributeKind::Float))), json!(7));
    assert_eq!(to_wire(Some(&number), Some(&own(AttributeKind::Text))), json!("7"));
    assert_eq!(to_wire(None, Some(&own(AttributeKind::Float))), Json::Null);
    assert_eq!(to_wire(None, Some(&own(AttributeKind::Text))), json!(""));
}
