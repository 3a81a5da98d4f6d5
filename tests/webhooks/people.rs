//! People whose notifications come in odd company.

use crate::world::{World, pass, until};
use linkspan::sandbox::intercom::ContactSeed;
use serde_json::json;

fn seed(email: Option<&str>, name: &str) -> ContactSeed {
    ContactSeed { email: email.map(str::to_owned), name: Some(name.to_owned()), ..ContactSeed::default() }
}

fn events(world: &World, name: &str) -> usize {
    world.brevo.events().iter().filter(|event| event.name == name).count()
}

/// The opt-out is all that is heard of her: she is made with it, in one request.
#[tokio::test(start_paused = true)]
async fn somebody_new_who_opted_out_is_never_let_in_for_a_moment() {
    let mut world = World::new();
    world.sync().await;
    world.run().await;
    let ada = world.intercom.create_contact(seed(Some("ada@x.example"), "Ada"));
    world.intercom.take_webhooks();
    world.intercom.unsubscribe(&ada).unwrap();
    world.deliver().await;
    until("her arrival", || world.brevo.contact_by_email("ada@x.example").is_some()).await;
    assert!(world.brevo.contact_by_email("ada@x.example").unwrap().email_blacklisted);
    let writes = world.writes();
    let creating: Vec<_> = writes.iter().filter(|(_, body)| body["email"] == "ada@x.example").collect();
    assert_eq!(creating.len(), 1, "{writes:?}");
    assert_eq!(creating[0].1["emailBlacklisted"], json!(true));
}

#[tokio::test(start_paused = true)]
async fn who_has_no_address_arrives_with_one() {
    let mut world = World::new();
    let lea = world.intercom.create_contact(ContactSeed { lead: true, ..seed(None, "Lea") });
    world.sync().await;
    world.run().await;
    let talk = world.intercom.open_conversation(&lea, "Hi").unwrap();
    world.deliver().await;
    pass(30).await;
    assert_eq!(world.brevo.contact_count(), 0, "skipped, and listed");
    assert!(world.brevo.log().len() < 20, "nobody asks in a circle: {}", world.brevo.log().len());
    world.intercom.set_email(&lea, Some("lea@x.example")).unwrap();
    world.deliver().await;
    until("her arrival", || world.brevo.contact_by_email("lea@x.example").is_some()).await;
    until("her lists", || world.is_on("Leads", "lea@x.example") && world.is_on("In touch", "lea@x.example")).await;
    world.intercom.close_conversation(&talk).unwrap();
    world.deliver().await;
    until("the close", || events(&world, "intercom_conversation_closed") == 1).await;
    until("off the list", || !world.is_on("In touch", "lea@x.example")).await;
}

/// Two contacts on one address are one person in Brevo, and the strictest of their consents counts.
#[tokio::test(start_paused = true)]
async fn two_on_one_address() {
    let mut world = World::new();
    let una = world.intercom.create_contact(seed(Some("team@x.example"), "Una"));
    world.sync().await;
    world.run().await;
    let lea = world.intercom.create_contact(ContactSeed { lead: true, ..seed(Some("team@x.example"), "Lea") });
    world.deliver().await;
    pass(20).await;
    assert_eq!(world.brevo.contact_count(), 1);
    assert_eq!(world.attribute("team@x.example", "FULLNAME"), "Una", "the user gives the fields");
    world.intercom.unsubscribe(&lea).unwrap();
    world.deliver().await;
    let out = || world.brevo.contact_by_email("team@x.example").unwrap().email_blacklisted;
    until("the opt-out", out).await;
    world.intercom.edit_contact(&una, &json!({"name": "Una K"})).unwrap();
    world.deliver().await;
    until("the name", || world.attribute("team@x.example", "FULLNAME") == "Una K").await;
    assert!(out());
}

#[tokio::test(start_paused = true)]
async fn who_opted_out_and_was_deleted_comes_back_opted_out() {
    let mut world = World::new();
    let ada = world.intercom.create_contact(seed(Some("ada@x.example"), "Ada"));
    world.sync().await;
    world.run().await;
    world.intercom.unsubscribe(&ada).unwrap();
    world.deliver().await;
    let out = || world.brevo.contact_by_email("ada@x.example").unwrap().email_blacklisted;
    until("the opt-out", out).await;
    world.intercom.delete(&ada).unwrap();
    world.deliver().await;
    pass(20).await;
    world.intercom.create_contact(seed(Some("ada@x.example"), "Ada Two"));
    world.deliver().await;
    pass(20).await;
    assert!(out(), "{:?}", world.writes());
    assert_eq!(world.brevo.contact_count(), 1);
}

/// He opted out in Brevo, which no notification tells; what comes from Intercom does not let him in again.
#[tokio::test(start_paused = true)]
async fn an_opt_out_in_brevo_stands() {
    let mut world = World::new();
    let bo = world.intercom.create_contact(seed(Some("bo@x.example"), "Bo"));
    world.sync().await;
    world.run().await;
    world.brevo.unsubscribe("bo@x.example");
    world.intercom.edit_contact(&bo, &json!({"name": "Bob"})).unwrap();
    world.deliver().await;
    until("the name", || world.attribute("bo@x.example", "FULLNAME") == "Bob").await;
    world.intercom.set_email(&bo, Some("bob@x.example")).unwrap();
    world.deliver().await;
    until("the address", || world.brevo.contact_by_email("bob@x.example").is_some()).await;
    pass(20).await;
    assert!(world.brevo.contact_by_email("bob@x.example").unwrap().email_blacklisted, "{:?}", world.writes());
}

#[tokio::test(start_paused = true)]
async fn who_is_gone_in_brevo_is_not_made_again() {
    let mut world = World::new();
    let bo = world.intercom.create_contact(seed(Some("bo@x.example"), "Bo"));
    world.sync().await;
    world.run().await;
    world.brevo.delete("bo@x.example");
    for name in ["Bob", "Robert"] {
        world.intercom.edit_contact(&bo, &json!({"name": name})).unwrap();
        world.deliver().await;
        pass(30).await;
    }
    assert_eq!(world.brevo.contact_count(), 0);
}

/// Who left a list is not put back on it by what a notification says.
#[tokio::test(start_paused = true)]
async fn nobody_is_put_back_on_a_list() {
    let mut world = World::new();
    let bo = world.intercom.create_contact(seed(Some("bo@x.example"), "Bo"));
    world.sync().await;
    world.run().await;
    let users = world.brevo.list_id("Users").unwrap();
    world.brevo.leave_list("bo@x.example", users);
    for name in ["Bob", "Robert"] {
        world.intercom.edit_contact(&bo, &json!({"name": name})).unwrap();
        world.deliver().await;
        until("the name", || world.attribute("bo@x.example", "FULLNAME") == name).await;
        pass(200).await;
    }
    assert!(!world.is_on("Users", "bo@x.example"));
}

#[tokio::test(start_paused = true)]
async fn two_swap_their_addresses() {
    let mut world = World::new();
    let a = world.intercom.create_contact(seed(Some("a@x.example"), "Ann"));
    let b = world.intercom.create_contact(seed(Some("b@x.example"), "Bo"));
    world.sync().await;
    world.run().await;
    for (id, email) in [(&a, "tmp@x.example"), (&b, "a@x.example"), (&a, "b@x.example")] {
        world.intercom.set_email(id, Some(email)).unwrap();
        pass(2).await;
    }
    world.deliver().await;
    until("the swap", || {
        world.attribute("b@x.example", "FULLNAME") == "Ann" && world.attribute("a@x.example", "FULLNAME") == "Bo"
    })
    .await;
    pass(200).await;
    assert_eq!(world.brevo.contact_count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_company_that_is_deleted_leaves_its_people() {
    let mut world = World::new();
    let ada = world.intercom.create_contact(seed(Some("ada@x.example"), "Ada"));
    let acme = world.intercom.create_company(&json!({"company_id": "c1", "name": "Acme"})).unwrap();
    world.intercom.attach_company(&ada, &acme).unwrap();
    world.sync().await;
    assert_eq!(world.attribute("ada@x.example", "COMPANY_NAME"), "Acme");
    world.run().await;
    let beta = world.intercom.create_company(&json!({"company_id": "c2", "name": "Beta"})).unwrap();
    world.intercom.attach_company(&ada, &beta).unwrap();
    world.intercom.detach_company(&ada, &acme).unwrap();
    world.intercom.delete_company(&acme).unwrap();
    world.deliver().await;
    until("the other company", || world.attribute("ada@x.example", "COMPANY_NAME") == "Beta").await;
}

/// Many changes go by import, which lets people in again unless they are left out of it.
#[tokio::test(start_paused = true)]
async fn an_opt_out_in_brevo_stands_when_many_change() {
    let limits = "limits: { brevo: { import_threshold: 5 } }";
    let mut world = World::with(limits, linkspan::store::Store::in_memory().unwrap());
    let ids: Vec<String> =
        (0..40).map(|n| world.intercom.create_contact(seed(Some(&format!("p{n}@x.example")), "Ann"))).collect();
    world.sync().await;
    world.run().await;
    world.brevo.unsubscribe("p7@x.example");
    for id in &ids {
        world.intercom.edit_contact(id, &json!({"name": "Anna"})).unwrap();
    }
    world.deliver().await;
    until("the names", || (0..40).all(|n| world.attribute(&format!("p{n}@x.example"), "FULLNAME") == "Anna")).await;
    pass(300).await;
    assert!(world.brevo.contact_by_email("p7@x.example").unwrap().email_blacklisted, "{:?}", world.writes());
    let imports: Vec<_> = world.writes().into_iter().filter(|(template, _)| template == "/contacts/import").collect();
    assert!(!imports.is_empty());
    assert!(imports.iter().all(|(_, body)| !body.to_string().contains("p7@x.example")), "not for a moment");
}

/// What an import has made is not linked before the import is read back, which may be an hour away.
#[tokio::test(start_paused = true)]
async fn an_opt_out_does_not_wait_for_the_end_of_the_import_that_made_the_contact() {
    let limits = "limits: { brevo: { import_threshold: 5 } }";
    let mut world = World::with(limits, linkspan::store::Store::in_memory().unwrap());
    world.sync().await;
    world.brevo.imports_take(std::time::Duration::from_secs(60));
    let ids: Vec<String> =
        (0..10).map(|n| world.intercom.create_contact(seed(Some(&format!("p{n}@x.example")), "Ann"))).collect();
    world.run().await;
    world.deliver().await;
    until("the import has landed", || world.brevo.contact_by_email("p3@x.example").is_some()).await;
    world.intercom.unsubscribe(&ids[3]).unwrap();
    world.deliver().await;
    let out = || world.brevo.contact_by_email("p3@x.example").is_some_and(|contact| contact.email_blacklisted);
    let took = until("the opt-out", out).await;
    assert!(took.as_secs() < 5, "{took:?}");
    pass(900).await;
    assert!(out());
}

/// A tag that Brevo has no option for is made there first: Brevo drops unknown options without a word.
#[tokio::test(start_paused = true)]
async fn a_tag_that_nobody_had_before_arrives() {
    let mut world = World::new();
    let ada = world.intercom.create_contact(seed(Some("ada@x.example"), "Ada"));
    let bo = world.intercom.create_contact(seed(Some("bo@x.example"), "Bo"));
    world.intercom.tag(&bo, "there from the start").unwrap();
    world.sync().await;
    assert_eq!(world.attribute("bo@x.example", "INTERCOM_TAGS"), json!(["there from the start"]));
    world.run().await;
    world.intercom.tag(&ada, "brand new").unwrap();
    world.deliver().await;
    until("the tag", || world.attribute("ada@x.example", "INTERCOM_TAGS") == json!(["brand new"])).await;
}

/// No topic tells that a tag was renamed: the next read of the tags does, and it shows on everybody who carries it.
#[tokio::test(start_paused = true)]
async fn a_tag_that_is_renamed() {
    use linkspan::engine::{Silent, SyncOptions};
    let mut world = World::new();
    let ada = world.intercom.create_contact(seed(Some("ada@x.example"), "Ada"));
    world.intercom.tag(&ada, "vip").unwrap();
    world.sync().await;
    world.run().await;
    // Nothing is left to do, so nothing else makes anybody look at her again.
    world.connection.sync(&SyncOptions::default(), &Silent).await.unwrap();
    let tag = world.intercom.contact(&ada).unwrap()["tags"]["data"][0]["id"].clone();
    let request = axum::http::Request::post("https://api.intercom.test/tags")
        .header("authorization", format!("Bearer {}", world.intercom.access_token()))
        .header("content-type", "application/json")
        .body(axum::body::Body::from(json!({"id": tag, "name": "gold"}).to_string()))
        .unwrap();
    let (status, _, answer) = crate::world::send(&world.intercom.router(), request).await;
    assert_eq!(status, 200, "{answer}");
    pass(60).await;
    world.connection.sync(&SyncOptions::default(), &Silent).await.unwrap();
    until("the new name", || world.attribute("ada@x.example", "INTERCOM_TAGS") == json!(["gold"])).await;
}
