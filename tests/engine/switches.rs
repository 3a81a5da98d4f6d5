//! What the config switches off rests: it writes nothing, takes nothing back, and goes on where it was once it is on.

use crate::harness::World;
use linkspan::sandbox::intercom::ContactSeed;
use serde_json::json;
use std::time::Duration;

const ON: &str = "
field_mapping:
  email: email
  name: FULLNAME
  tags: {VIP: {list: VIP}, beta: {list: Beta}}
  conversation_tags: {refund: {list: Refunds}}
  conversations.last_tags: {to: LAST_TAGS, on_clear: propagate}
  conversations.total: TALKS
";

fn off() -> String {
    format!("connectors: {{intercom: {{sync: {{tags: false}}}}}}{ON}")
}

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

fn lists(world: &World, email: &str) -> Vec<&'static str> {
    let contact = world.brevo.contact_by_email(email).unwrap();
    let on = |name: &&str| world.brevo.list_id(name).is_some_and(|list| contact.list_ids.contains(&list));
    ["VIP", "Beta", "Refunds"].into_iter().filter(on).collect()
}

#[tokio::test(start_paused = true)]
async fn tags_of_contacts_and_of_conversations_rest_while_they_are_switched_off() {
    let mut world = World::new(ON);
    let seed = |email: &str| ContactSeed { email: Some(email.to_owned()), ..ContactSeed::default() };
    let ann = world.intercom.create_contact(seed("ann@x.example"));
    let bo = world.intercom.create_contact(seed("bo@x.example"));
    world.intercom.tag(&ann, "VIP").unwrap();
    let talk = world.intercom.open_conversation(&ann, "Money back").unwrap();
    world.intercom.tag_conversation(&talk, "refund").unwrap();
    pass(200).await;
    world.full().await;
    assert_eq!(lists(&world, "ann@x.example"), ["VIP", "Refunds"]);
    assert_eq!(world.attribute("ann@x.example", "LAST_TAGS").unwrap(), json!(["refund"]));
    pass(200).await;
    world.full().await;

    world.restart(&off());
    world.intercom.untag(&ann, "VIP").unwrap();
    let other = world.intercom.open_conversation(&ann, "Something else").unwrap();
    let talk = world.intercom.open_conversation(&bo, "Money back").unwrap();
    world.intercom.tag_conversation(&talk, "refund").unwrap();
    world.intercom.tag(&bo, "beta").unwrap();
    pass(1_000).await;
    world.full().await;
    assert_eq!(lists(&world, "ann@x.example"), ["VIP", "Refunds"], "nobody leaves");
    assert_eq!(lists(&world, "bo@x.example"), Vec::<&str>::new(), "nobody joins");
    assert_eq!(world.attribute("ann@x.example", "LAST_TAGS").unwrap(), json!(["refund"]), "nothing is cleared");
    assert_eq!(world.attribute("bo@x.example", "LAST_TAGS"), None, "nor set");
    assert_eq!(world.attribute("ann@x.example", "TALKS").unwrap(), 2, "other figures follow");
    let events = world.brevo.events();
    let about = |id: &str| events.iter().find(|event| event.properties["conversation_id"] == json!(id)).unwrap();
    assert!(about(&talk).properties.get("tags").is_none(), "{:?}", about(&talk).properties);
    pass(200).await;
    let before = world.brevo_writes();
    world.full().await;
    assert_eq!(world.brevo_writes(), before, "in step");

    world.restart(ON);
    world.intercom.tag_conversation(&other, "praise").unwrap();
    pass(1_000).await;
    world.full().await;
    assert_eq!(lists(&world, "ann@x.example"), ["Refunds"], "the reason to be on the list was gone");
    assert_eq!(lists(&world, "bo@x.example"), ["Beta", "Refunds"]);
    assert_eq!(world.attribute("ann@x.example", "LAST_TAGS").unwrap(), json!(["praise"]));
    assert_eq!(world.attribute("bo@x.example", "LAST_TAGS").unwrap(), json!(["refund"]));
}

#[tokio::test(start_paused = true)]
async fn what_is_never_read_is_not_told_as_nothing_and_comes_once_it_is_on() {
    let off = format!(
        "connectors: {{intercom: {{sync: {{conversations: false, companies: false}}}}}}{ON}  company.name: FIRM\n"
    );
    let mut world = World::new(&off);
    let email = Some("ann@x.example".to_owned());
    let ann = world.intercom.create_contact(ContactSeed { email, ..ContactSeed::default() });
    world.intercom.open_conversation(&ann, "Hello").unwrap();
    let firm = world.intercom.create_company(&json!({"company_id": "acme", "name": "Acme"})).unwrap();
    world.intercom.attach_company(&ann, &firm).unwrap();
    pass(200).await;
    world.full().await;
    assert_eq!(world.attribute("ann@x.example", "TALKS"), None, "not 0");
    assert_eq!(world.attribute("ann@x.example", "FIRM"), None);
    world.restart(&format!("{ON}  company.name: FIRM\n"));
    world.full().await;
    assert_eq!(world.attribute("ann@x.example", "TALKS").unwrap(), 1);
    assert_eq!(world.attribute("ann@x.example", "FIRM").unwrap(), "Acme");
}

/// Nobody has looked at tags yet, by the config or because Intercom would not show them: a list that somebody is on
/// meanwhile is no tag that was taken away.
#[tokio::test(start_paused = true)]
async fn who_was_on_a_list_before_tags_were_known_gets_the_tag_that_goes_with_it() {
    let on = ON.replace("VIP: {list: VIP}, beta", "VIP: {list: VIP, direction: both}, beta");
    let mut world = World::new(&format!("connectors: {{intercom: {{sync: {{tags: false}}}}}}{on}"));
    let seed = |email: &str| ContactSeed { email: Some(email.to_owned()), ..ContactSeed::default() };
    let ids = ["ann@x.example", "bo@x.example"].map(|email| world.intercom.create_contact(seed(email)));
    pass(200).await;
    world.full().await;
    let tags = |world: &World, of: usize| world.intercom.contact_tags(&ids[of]).into_iter().collect::<Vec<_>>();
    world.restart(&on);
    world.full().await;
    world.restart(&format!("connectors: {{intercom: {{sync: {{tags: false}}}}}}{on}"));
    world.intercom.tag(&ids[1], "VIP").unwrap();
    let list = world.brevo.list_id("VIP").unwrap();
    assert!(world.brevo.add_to_list("ann@x.example", list));
    pass(200).await;
    world.full().await;
    assert_eq!((tags(&world, 0), lists(&world, "bo@x.example").len()), (vec![], 0), "they rest");
    world.restart(&on);
    for _ in 0..2 {
        pass(200).await;
        world.full().await;
    }
    assert_eq!(tags(&world, 0), ["VIP"]);
    assert_eq!(lists(&world, "bo@x.example"), ["VIP"]);
    world.is_quiet().await;
}
