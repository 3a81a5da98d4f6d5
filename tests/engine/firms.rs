//! Company objects: each of Intercom's with one of Brevo's.

use crate::crashes::{CrashAt, run_to_the_end};
use crate::harness::{World, config, minutes};
use linkspan::engine::Daemon;
use linkspan::model::SideName;
use linkspan::sandbox::Fault;
use linkspan::sandbox::brevo::{CompanyPages, ShownCompany};
use linkspan::sandbox::intercom::ContactSeed;
use serde_json::{Value as Json, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const OBJECTS: &str = "
field_mapping: {name: NAME}
companies:
  objects: true
";

const TWO_WAY: &str = "
field_mapping: {name: NAME}
companies:
  objects: true
  field_mapping:
    name: name
    industry: {to: sector, direction: both}
    custom_attributes.tier: {to: tier, direction: both, on_conflict: brevo}
    custom_attributes.owner: {to: sales_owner, direction: brevo_to_intercom}
    size: {to: number_of_employees, on_clear: propagate}
";

fn person(world: &World, email: &str) -> String {
    world.intercom.create_contact(ContactSeed {
        email: Some(email.to_owned()),
        name: Some("A Person".to_owned()),
        ..ContactSeed::default()
    })
}

/// A company with these people.
fn company(world: &World, fields: &Json, people: &[&str]) -> String {
    let id = world.intercom.create_company(fields).unwrap();
    for person in people {
        world.intercom.attach_company(person, &id).unwrap();
    }
    id
}

fn brevo_id(world: &World, email: &str) -> i64 {
    world.brevo.contact_by_email(email).unwrap().id
}

fn only(world: &World) -> ShownCompany {
    let mut all = world.brevo.companies();
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

/// Requests to Brevo's companies so far, but for reads.
fn writes(world: &World) -> Vec<String> {
    let log = world.brevo.log().all();
    let about = log.iter().filter(|request| request.write && request.target.contains("/companies"));
    about.map(|request| format!("{} {}", request.method, String::from_utf8_lossy(&request.body))).collect()
}

/// No cycle writes anything any more, on either side.
async fn is_quiet(world: &World) {
    for full in [false, true, false] {
        minutes(16).await;
        let (brevo, intercom) = (world.brevo.log().write_count(), world.intercom.log().write_count());
        if full {
            world.full().await
        } else {
            world.sync().await
        };
        let wrote: Vec<_> = world.brevo.log().all().into_iter().filter(|request| request.write).skip(brevo).collect();
        assert!(wrote.is_empty(), "{wrote:?}");
        assert_eq!(world.intercom.log().write_count(), intercom);
    }
}

/// Two people of one company, in step.
async fn in_step(yaml: &str) -> (World, String) {
    let world = World::new(yaml);
    let (ann, bob) = (person(&world, "ann@example.com"), person(&world, "bob@example.com"));
    let fields = json!({"company_id": "a-1", "name": "Acme", "size": 7, "website": "acme.example", "industry": "Tools",
        "custom_attributes": {"tier": "gold"}});
    let acme = company(&world, &fields, &[&ann, &bob]);
    minutes(20).await;
    world.sync().await;
    minutes(5).await;
    world.sync().await;
    (world, acme)
}

#[tokio::test(start_paused = true)]
async fn a_company_is_made_once_with_its_contacts_and_follows() {
    let (world, acme) = in_step(OBJECTS).await;
    let made = only(&world);
    assert_eq!(made.attributes["name"], "Acme");
    assert_eq!(made.attributes["domain"], "acme.example");
    assert_eq!(made.attributes["number_of_employees"], 7);
    assert_eq!(made.attributes["linkspan_intercom_id"], json!(acme));
    let both = BTreeSet::from([brevo_id(&world, "ann@example.com"), brevo_id(&world, "bob@example.com")]);
    assert_eq!(made.contacts, both);
    assert_eq!(writes(&world).len(), 1, "one request: {:?}", writes(&world));
    is_quiet(&world).await;

    world.intercom.edit_company(&acme, &json!({"name": "Acme Ltd"})).unwrap();
    minutes(5).await;
    world.full().await;
    assert_eq!(only(&world).attributes["name"], "Acme Ltd");
    assert_eq!(only(&world).contacts, both, "a change of fields replaces nobody");
    assert!(writes(&world).iter().all(|write| !write.starts_with("PATCH") || !write.contains("linkedContactsIds")));
    is_quiet(&world).await;
}

#[tokio::test(start_paused = true)]
async fn company_objects_are_left_alone_unless_asked_for() {
    let (world, _) = in_step("field_mapping: {name: NAME}").await;
    assert!(world.brevo.companies().is_empty());
    let log = world.brevo.log().all();
    assert!(log.iter().all(|request| !request.target.contains("/companies") && !request.target.contains("/crm/")));
}

#[tokio::test(start_paused = true)]
async fn who_belongs_to_it_follows_and_whom_people_linked_themselves_stays() {
    let (world, acme) = in_step(OBJECTS).await;
    let by_hand = {
        person(&world, "eve@example.com");
        minutes(20).await;
        world.sync().await;
        brevo_id(&world, "eve@example.com")
    };
    assert!(world.brevo.link_company(&only(&world).id, by_hand, true));
    let cy = person(&world, "cy@example.com");
    let ann = world
        .intercom
        .contact_ids()
        .into_iter()
        .find(|id| world.intercom.contact(id).unwrap()["email"] == "ann@example.com");
    let ann = ann.unwrap();
    world.intercom.attach_company(&cy, &acme).unwrap();
    world.intercom.detach_company(&ann, &acme).unwrap();
    minutes(20).await;
    world.full().await;
    minutes(20).await;
    world.full().await;
    let now = ["bob@example.com", "cy@example.com", "eve@example.com"].map(|email| brevo_id(&world, email));
    assert_eq!(only(&world).contacts, BTreeSet::from(now));
    is_quiet(&world).await;

    // Somebody in Brevo takes off whom Intercom shows there: Intercom says who belongs to it.
    assert!(world.brevo.link_company(&only(&world).id, now[0], false));
    minutes(5).await;
    world.sync().await;
    assert_eq!(only(&world).contacts, BTreeSet::from(now));
    is_quiet(&world).await;
}

#[tokio::test(start_paused = true)]
async fn after_a_lost_answer_it_is_looked_up_before_it_is_made_again() {
    for (fault, lost) in [(Fault::StatusAfterEffect(502), false), (Fault::Status(503, None), true)] {
        let world = World::new(OBJECTS);
        let ann = person(&world, "ann@example.com");
        company(&world, &json!({"name": "Acme"}), &[&ann]);
        minutes(20).await;
        world.brevo.fail("POST /v3/companies", fault.clone());
        world.sync().await;
        assert_eq!(world.brevo.companies().len(), usize::from(!lost));
        // Before it cannot land any more, nothing is made.
        world.sync().await;
        assert_eq!(world.brevo.companies().len(), usize::from(!lost));
        minutes(5).await;
        world.sync().await;
        minutes(5).await;
        world.sync().await;
        assert_eq!(only(&world).contacts, BTreeSet::from([brevo_id(&world, "ann@example.com")]), "{fault:?}");
        if lost {
            let log = world.brevo.log().all();
            let made = log.iter().filter(|r| r.template == "/companies" && r.method == "POST").count();
            assert_eq!(made, 2);
            let looked = |r: &linkspan::sandbox::LoggedRequest| r.target.contains("filters");
            let first = log.iter().position(looked).unwrap();
            let last = log.iter().rposition(|r| r.template == "/companies" && r.method == "POST").unwrap();
            assert!(first < last);
        }
        is_quiet(&world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn filters_that_brevo_passes_over_prove_nothing() {
    let world = World::new(OBJECTS);
    world.brevo.create_company("Somebody else's");
    world.brevo.knobs(|knobs| knobs.companies_ignore_filters = true);
    let ann = person(&world, "ann@example.com");
    company(&world, &json!({"name": "Acme"}), &[&ann]);
    minutes(20).await;
    world.brevo.fail("POST /v3/companies", Fault::Status(503, None));
    world.brevo.fail("GET /v3/companies?", Fault::Status(503, None));
    for _ in 0..2 {
        world.sync().await;
        assert_eq!(world.brevo.companies().len(), 1, "nobody knows whether it has been made");
        minutes(1).await;
    }
    // A read of all of them tells.
    for _ in 0..4 {
        minutes(5).await;
        world.sync().await;
    }
    assert_eq!(world.brevo.companies().len(), 2);
    is_quiet(&world).await;
}

#[tokio::test(start_paused = true)]
async fn one_company_that_fails_keeps_nobody_else_waiting() {
    for status in [403, 404] {
        let (world, acme) = in_step(TWO_WAY).await;
        let first = only(&world).id;
        let cy = person(&world, "cy@example.com");
        let others: Vec<_> = (0..2)
            .map(|n| company(&world, &json!({"company_id": format!("b{n}"), "name": format!("B {n}")}), &[&cy]))
            .collect();
        minutes(20).await;
        world.sync().await;
        assert_eq!(world.brevo.companies().len(), 3);
        minutes(20).await;
        world.sync().await;
        for id in others.iter().chain([&acme]) {
            world.intercom.edit_company(id, &json!({"name": "Another"})).unwrap();
        }
        minutes(5).await;
        for _ in 0..4 {
            world.brevo.fail(&format!("GET /v3/companies/{first}"), Fault::Status(status, None));
        }
        world.full().await;
        let all = world.brevo.companies();
        let changed = all.iter().filter(|company| company.attributes["name"] == "Another").count();
        assert_eq!(changed, 2, "{status}: {all:?}");
        let asked = world.brevo.log().all().iter().filter(|r| r.target.contains(&first) && r.status == status).count();
        assert_eq!(asked, 1, "{status}");
        let failures = world.store.read(|tx| tx.failures(10)).await.unwrap();
        assert_eq!(failures.len(), usize::from(status == 403), "{failures:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_import_is_not_sent_again_and_again() {
    let world = World::new(OBJECTS);
    let ann = person(&world, "ann@example.com");
    for n in 0..60 {
        company(&world, &json!({"company_id": format!("c{n}"), "name": format!("Company {n}")}), &[&ann]);
    }
    minutes(20).await;
    for _ in 0..9 {
        world.brevo.fail("POST /v3/companies/import", Fault::Status(400, None));
    }
    for _ in 0..5 {
        world.sync().await;
        minutes(60).await;
    }
    let sent = world.brevo.log().all().iter().filter(|r| r.template == "/companies/import").count();
    assert_eq!((sent, world.brevo.companies().len()), (1, 60));
}

#[tokio::test(start_paused = true)]
async fn what_does_not_stick_is_listed_and_not_sent_for_ever() {
    let (world, acme) = in_step(OBJECTS).await;
    let id = only(&world).id;
    world.brevo.knobs(|knobs| knobs.company_links_do_not_stick = true);
    world.brevo.retype_company_attribute("linkspan_intercom_id", "number");
    let cy = person(&world, "cy@example.com");
    world.intercom.attach_company(&cy, &acme).unwrap();
    assert!(world.brevo.edit_company(&id, "linkspan_intercom_id", json!(null)));
    let before = writes(&world).len();
    for _ in 0..12 {
        minutes(20).await;
        assert!(world.brevo.edit_company(&id, "industry", json!("It is shown anew")));
        let read = world.connection.store().read(|tx| tx.count_brevo_companies()).await.unwrap();
        assert_eq!(read, 1);
        world.sync().await;
    }
    let sent = writes(&world).len() - before;
    assert!((2..=4).contains(&sent), "{:?}", &writes(&world)[before..]);
    let failures = world.store.read(|tx| tx.failures(10)).await.unwrap();
    assert!(failures.iter().any(|failure| failure.field == "LINKSPAN_INTERCOM_ID"), "{failures:?}");
    // The next full read tries once more.
    world.brevo.knobs(|knobs| knobs.company_links_do_not_stick = false);
    world.brevo.retype_company_attribute("linkspan_intercom_id", "text");
    minutes(20).await;
    world.full().await;
    minutes(20).await;
    world.full().await;
    assert_eq!((only(&world).contacts.len(), &only(&world).attributes["linkspan_intercom_id"]), (3, &json!(acme)));
    assert!(world.store.read(|tx| tx.failures(10)).await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_refused_value_stays_out_and_all_else_is_written() {
    let world = World::new(OBJECTS);
    let ann = person(&world, "ann@example.com");
    world.brevo.knobs(|knobs| knobs.company_refuses = Some("number_of_employees".to_owned()));
    let fields = json!({"company_id": "a-1", "name": "Acme", "size": 7, "website": "acme.example"});
    company(&world, &fields, &[&ann]);
    minutes(20).await;
    world.sync().await;
    minutes(10).await;
    world.sync().await;
    let made = only(&world);
    assert_eq!((&made.attributes["name"], made.contacts.len()), (&json!("Acme"), 1));
    assert_eq!(made.attributes.get("number_of_employees"), None);
    let failures = world.store.read(|tx| tx.failures(10)).await.unwrap();
    assert!(failures.iter().any(|failure| failure.field.contains("size")), "{failures:?}");
}

#[tokio::test(start_paused = true)]
async fn a_refused_update_keeps_no_contact_from_being_linked_and_is_tried_again_by_a_full_read() {
    let (world, acme) = in_step(OBJECTS).await;
    let cy = person(&world, "cy@example.com");
    world.intercom.attach_company(&cy, &acme).unwrap();
    world.intercom.edit_company(&acme, &json!({"name": "Acme Ltd"})).unwrap();
    for _ in 0..4 {
        world.brevo.fail(&format!("PATCH /v3/companies/{}", only(&world).id), Fault::Status(400, None));
    }
    minutes(20).await;
    for _ in 0..10 {
        world.sync().await;
        minutes(20).await;
    }
    assert_eq!((only(&world).contacts.len(), &only(&world).attributes["name"]), (3, &json!("Acme")));
    let failures = world.store.read(|tx| tx.failures(10)).await.unwrap();
    assert!(failures.iter().any(|failure| failure.dead), "{failures:?}");
    world.full().await;
    minutes(20).await;
    world.full().await;
    assert_eq!(only(&world).attributes["name"], "Acme Ltd");
}

#[tokio::test(start_paused = true)]
async fn a_new_state_finds_again_what_it_had_made() {
    let (world, acme) = in_step(OBJECTS).await;
    let before = only(&world);
    let mut anew = World::new(OBJECTS);
    (anew.intercom, anew.brevo) = (world.intercom.clone(), world.brevo.clone());
    anew.doors = world.doors.clone();
    anew.restart(OBJECTS);
    anew.sync().await;
    assert_eq!(only(&anew), before);
    anew.intercom.edit_company(&acme, &json!({"name": "Acme Ltd"})).unwrap();
    minutes(5).await;
    anew.full().await;
    assert_eq!((only(&anew).id, only(&anew).attributes["name"].clone()), (before.id, json!("Acme Ltd")));
}

#[tokio::test(start_paused = true)]
async fn who_is_given_the_company_of_another_by_hand_stops_nobody() {
    let (world, acme) = in_step(OBJECTS).await;
    let kept = only(&world).id;
    // Somebody writes the id of a new company into the attribute of one that is kept in step: that stays whose it was.
    let other = company(&world, &json!({"company_id": "b-1", "name": "Brisk"}), &[&person(&world, "cy@example.com")]);
    assert!(world.brevo.edit_company(&kept, "linkspan_intercom_id", json!(other)));
    let _ = world.before_the_first().await;
    for _ in 0..3 {
        minutes(20).await;
        world.full().await;
    }
    let all = world.brevo.companies();
    assert_eq!(all.len(), 2, "{all:?}");
    let of = |id: &str| all.iter().find(|company| company.attributes["linkspan_intercom_id"] == json!(id)).unwrap();
    assert_eq!((of(&acme).id.as_str(), &of(&other).attributes["name"]), (kept.as_str(), &json!("Brisk")));

    // Of one whose own company is gone it is the new one's.
    world.intercom.delete_company(&acme).unwrap();
    let gone = linkspan::model::IntercomCompanyId::new(acme);
    world.store.write(move |tx| tx.set_firm_gone(&gone, true)).await.unwrap();
    let third = company(&world, &json!({"company_id": "c-1", "name": "Crisp"}), &[&person(&world, "di@example.com")]);
    assert!(world.brevo.edit_company(&kept, "linkspan_intercom_id", json!(third)));
    for _ in 0..3 {
        minutes(20).await;
        world.full().await;
    }
    let all = world.brevo.companies();
    assert_eq!(all.len(), 2, "{all:?}");
    let now = all.iter().find(|company| company.id == kept).unwrap();
    assert_eq!((&now.attributes["linkspan_intercom_id"], &now.attributes["name"]), (&json!(third), &json!("Crisp")));
}

#[tokio::test(start_paused = true)]
async fn fields_travel_both_ways() {
    let (world, acme) = in_step(TWO_WAY).await;
    let id = only(&world).id;
    assert_eq!(only(&world).attributes["sector"], "Tools");
    assert_eq!(only(&world).attributes["tier"], "gold");
    is_quiet(&world).await;

    assert!(world.brevo.edit_company(&id, "sector", json!("Rockets")));
    assert!(world.brevo.edit_company(&id, "sales_owner", json!("Kim")));
    minutes(5).await;
    world.sync().await;
    let shown = world.intercom.company(&acme).unwrap();
    assert_eq!(shown["industry"], "Rockets");
    assert_eq!(shown["custom_attributes"]["owner"], "Kim");
    is_quiet(&world).await;

    // One-way: restored at the next sweep; and a clear travels where it is asked for.
    assert!(world.brevo.edit_company(&id, "name", json!("Somebody's words")));
    world.intercom.edit_company(&acme, &json!({"size": null, "industry": "Boats"})).unwrap();
    minutes(16).await;
    world.full().await;
    minutes(16).await;
    world.full().await;
    let now = only(&world).attributes;
    assert_eq!((&now["name"], &now["sector"]), (&json!("Acme"), &json!("Boats")));
    assert_eq!(now.get("number_of_employees"), None);
    is_quiet(&world).await;
}

#[tokio::test(start_paused = true)]
async fn whoever_goes_back_to_what_stood_before_our_write_has_edited_it() {
    // Brevo's answer shows that it took the write, so that the old value is nobody's refusal.
    let (world, acme) = in_step(TWO_WAY).await;
    let id = only(&world).id;
    is_quiet(&world).await;
    world.intercom.edit_company(&acme, &json!({"industry": "Boats", "name": "Acme Ltd"})).unwrap();
    minutes(5).await;
    world.full().await;
    assert_eq!(only(&world).attributes["sector"], "Boats");
    assert!(world.brevo.edit_company(&id, "sector", json!("Tools")));
    assert!(world.brevo.edit_company(&id, "name", json!("Acme")));
    for _ in 0..3 {
        minutes(16).await;
        world.full().await;
    }
    assert_eq!(world.intercom.company(&acme).unwrap()["industry"], "Tools");
    assert_eq!(only(&world).attributes["name"], "Acme Ltd", "one-way: restored");
    assert_eq!(world.store.read(|tx| tx.failures(10)).await.unwrap(), []);
    is_quiet(&world).await;
}

#[tokio::test(start_paused = true)]
async fn whom_somebody_links_again_whom_we_had_just_taken_off_stays() {
    let (world, acme) = in_step(OBJECTS).await;
    let (id, bob) = (only(&world).id, brevo_id(&world, "bob@example.com"));
    is_quiet(&world).await;
    let people = world.intercom.contact_ids();
    let bobs = people.iter().find(|id| world.intercom.contact(id).unwrap()["email"] == "bob@example.com").unwrap();
    world.intercom.detach_company(bobs, &acme).unwrap();
    minutes(16).await;
    world.full().await;
    assert!(!only(&world).contacts.contains(&bob), "they have left");
    // Before anybody has looked at the company again.
    minutes(5).await;
    assert!(world.brevo.link_company(&id, bob, true));
    for _ in 0..3 {
        minutes(16).await;
        world.full().await;
    }
    assert!(only(&world).contacts.contains(&bob), "by hand");
    is_quiet(&world).await;
}

#[tokio::test(start_paused = true)]
async fn an_edit_on_top_of_our_write_is_carried_even_of_a_company_that_no_list_shows() {
    let (world, acme) = in_step(TWO_WAY).await;
    is_quiet(&world).await;
    let id = only(&world).id;
    assert!(world.brevo.edit_company(&id, "sector", json!("Boats")));
    minutes(5).await;
    world.sync().await;
    assert_eq!(world.intercom.company(&acme).unwrap()["industry"], "Boats");
    // Somebody edits what we have just written, and that is seen at once: it might still be a late write of ours.
    world.intercom.edit_company(&acme, &json!({"industry": "Rockets"})).unwrap();
    world.full().await;
    assert_eq!(only(&world).attributes["sector"], "Boats");
    // Intercom lists no company without people.
    for person in world.intercom.contact_ids() {
        world.intercom.detach_company(&person, &acme).ok();
    }
    world.full().await;
    for _ in 0..3 {
        minutes(5).await;
        world.sync().await;
    }
    assert_eq!(only(&world).attributes["sector"], "Rockets");
}

#[tokio::test(start_paused = true)]
async fn what_intercom_once_refused_may_be_sent_to_brevo_later() {
    let yaml = TWO_WAY.replace("size: {to: number_of_employees,", "size: {to: number_of_employees, direction: both,");
    let (world, acme) = in_step(&yaml).await;
    let id = only(&world).id;
    // Intercom has no empty number: that is listed.
    assert!(world.brevo.edit_company(&id, "number_of_employees", Json::Null));
    minutes(5).await;
    world.full().await;
    assert_eq!(world.intercom.company(&acme).unwrap()["size"], 7);
    assert_eq!(world.store.read(|tx| tx.failures(10)).await.unwrap().len(), 1);
    assert!(world.brevo.edit_company(&id, "number_of_employees", json!(8)));
    for _ in 0..2 {
        minutes(16).await;
        world.full().await;
    }
    assert_eq!(world.intercom.company(&acme).unwrap()["size"], 8);
    assert_eq!(world.store.read(|tx| tx.failures(10)).await.unwrap(), []);
    // Now somebody blanks it in Intercom, and Brevo takes that.
    world.intercom.edit_company(&acme, &json!({"size": null})).unwrap();
    minutes(5).await;
    world.full().await;
    assert_eq!(only(&world).attributes.get("number_of_employees"), None);
    is_quiet(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_filter_says_which_companies_take_part_in_each_direction() {
    let yaml = TWO_WAY.to_owned()
        + "    plan: plan\n  filter: {intercom_to_brevo: \"record.company.plan != 'Free'\", brevo_to_intercom: \"record.TIER == 'gold'\"}\n";
    let world = World::new(&yaml);
    let (ann, bob) = (person(&world, "ann@example.com"), person(&world, "bob@example.com"));
    let fields = |id: &str, plan: &str| {
        json!({"company_id": id, "name": id, "plan": plan, "industry": "Tools",
        "custom_attributes": {"tier": "gold"}})
    };
    let paying = company(&world, &fields("Acme", "Pro"), &[&ann]);
    let free = company(&world, &fields("Free riders", "Free"), &[&bob]);
    minutes(20).await;
    assert_eq!(world.before_the_first().await.companies.make, 1);
    world.sync().await;
    minutes(5).await;
    world.sync().await;
    let made = only(&world);
    assert_eq!(made.attributes["name"], "Acme");
    is_quiet(&world).await;
    assert_eq!(world.store.read(|tx| tx.failures(10)).await.unwrap(), []);

    // Another tier, and nothing travels back any more; what is Intercom's still goes there.
    assert!(world.brevo.edit_company(&made.id, "tier", json!("silver")));
    assert!(world.brevo.edit_company(&made.id, "sector", json!("Rockets")));
    minutes(5).await;
    world.sync().await;
    assert_eq!(world.intercom.company(&paying).unwrap()["industry"], "Tools");
    // Who pays joins; who stops paying stays as they are, with whoever is linked.
    world.intercom.edit_company(&free, &json!({"plan": "Pro"})).unwrap();
    world.intercom.edit_company(&paying, &json!({"plan": "Free", "name": "Acme Ltd"})).unwrap();
    minutes(16).await;
    world.full().await;
    minutes(16).await;
    world.full().await;
    let mut names: Vec<_> = world.brevo.companies().iter().map(|company| company.attributes["name"].clone()).collect();
    names.sort_by_key(ToString::to_string);
    assert_eq!(names, ["Acme", "Free riders"]);
    assert!(world.brevo.companies().iter().all(|company| company.contacts.len() == 1));
    is_quiet(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_figure_that_intercom_would_cut_off_is_listed_and_stays_where_it_was_given() {
    let yaml = TWO_WAY.to_owned() + "    monthly_spend: {to: revenue, direction: both, on_clear: propagate}\n";
    let (world, acme) = in_step(&yaml).await;
    let id = only(&world).id;
    world.intercom.edit_company(&acme, &json!({"monthly_spend": 49})).unwrap();
    minutes(5).await;
    world.full().await;
    assert_eq!(only(&world).attributes["revenue"], json!(49));

    for (given, why) in [(json!(9.9), "whole numbers"), (json!(null), "no empty number")] {
        assert!(world.brevo.edit_company(&id, "revenue", given.clone()));
        minutes(5).await;
        world.sync().await;
        minutes(16).await;
        world.full().await;
        let stands = only(&world).attributes.get("revenue").cloned().unwrap_or_default();
        assert_eq!((&stands, &world.intercom.company(&acme).unwrap()["monthly_spend"]), (&given, &json!(49)));
        let failures = world.store.read(|tx| tx.failures(10)).await.unwrap();
        assert!(failures.iter().any(|failure| format!("{failure:?}").contains(why)), "{failures:?}");
        is_quiet(&world).await;
    }
    // What can be kept there is, and the trouble is over.
    assert!(world.brevo.edit_company(&id, "revenue", json!(12)));
    minutes(5).await;
    world.sync().await;
    assert_eq!(world.intercom.company(&acme).unwrap()["monthly_spend"], 12);
    minutes(16).await;
    world.full().await;
    assert_eq!(world.store.read(|tx| tx.failures(10)).await.unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn a_conflict_is_settled_by_rule_and_the_other_value_is_kept() {
    let (world, acme) = in_step(TWO_WAY).await;
    let id = only(&world).id;
    minutes(5).await;
    assert!(world.brevo.edit_company(&id, "tier", json!("silver")));
    assert!(world.brevo.edit_company(&id, "sector", json!("Rockets")));
    world.intercom.edit_company(&acme, &json!({"industry": "Boats", "custom_attributes": {"tier": "bronze"}})).unwrap();
    minutes(5).await;
    world.full().await;
    let shown = world.intercom.company(&acme).unwrap();
    // `on_conflict: brevo`; and a tie, which is Intercom's.
    assert_eq!(
        (&only(&world).attributes["tier"], &shown["custom_attributes"]["tier"]),
        (&json!("silver"), &json!("silver"))
    );
    assert_eq!((&only(&world).attributes["sector"], &shown["industry"]), (&json!("Boats"), &json!("Boats")));
    let kept = world.store.read(|tx| tx.list_conflicts(None, 10)).await.unwrap();
    let told: Vec<_> = kept.iter().map(|kept| (kept.conflict.side, kept.conflict.lost.clone())).collect();
    assert_eq!(told.len(), 2, "{kept:?}");
    assert!(told.iter().any(|(side, lost)| *side == SideName::Intercom && lost.contains("bronze")));
    assert!(told.iter().any(|(side, lost)| *side == SideName::Brevo && lost.contains("Rockets")));
    is_quiet(&world).await;
}

#[tokio::test(start_paused = true)]
async fn many_go_by_import_and_what_it_leaves_out_is_made_after_a_look() {
    for (links, delay) in [(true, 5), (false, 200)] {
        let world = World::new(OBJECTS);
        world.brevo.knobs(|knobs| knobs.company_imports_link = links);
        world.brevo.imports_take(Duration::from_secs(delay));
        let ann = person(&world, "ann@example.com");
        for n in 0..120 {
            let name = if n == 7 { json!(null) } else { json!(format!("Company {n}, \"Inc\"")) };
            company(&world, &json!({"company_id": format!("c{n}"), "name": name, "size": n}), &[&ann]);
        }
        minutes(20).await;
        let summary = world.sync().await;
        // Who has not been linked by the one goes by another, and only then alone.
        assert_eq!(summary.companies.imported, if links { 119 } else { 238 });
        assert_eq!((summary.companies.made, summary.companies.failed), (0, 0));
        assert_eq!((summary.companies.waiting == 0, summary.companies.linked == 0), (links, links), "{summary:?}");
        assert_eq!(world.brevo.companies().len(), 119);
        let posts = world.brevo.log().all();
        assert_eq!(posts.iter().filter(|r| r.template == "/companies/import").count(), if links { 1 } else { 2 });
        assert_eq!(posts.iter().filter(|r| r.method == "POST" && r.template == "/companies").count(), 0);
        let failures = world.store.read(|tx| tx.failures(10)).await.unwrap();
        assert_eq!(failures.len(), 1, "{failures:?}");
        // What the import did not link is linked one by one, as far as the hour's budget goes.
        for _ in 0..5 {
            minutes(60).await;
            world.sync().await;
        }
        let own = BTreeSet::from([brevo_id(&world, "ann@example.com")]);
        assert!(world.brevo.companies().iter().all(|company| company.contacts == own));
        is_quiet(&world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_import_without_an_answer_makes_nobody_twice() {
    for fault in [Fault::StatusAfterEffect(502), Fault::Status(503, None)] {
        let world = World::new(OBJECTS);
        let ann = person(&world, "ann@example.com");
        for n in 0..60 {
            company(&world, &json!({"company_id": format!("c{n}"), "name": format!("Company {n}")}), &[&ann]);
        }
        minutes(20).await;
        world.brevo.fail("POST /v3/companies/import", fault);
        for _ in 0..12 {
            world.sync().await;
            minutes(10).await;
        }
        let names: BTreeSet<_> = world.brevo.companies().iter().map(|c| c.attributes["name"].to_string()).collect();
        assert_eq!((names.len(), world.brevo.companies().len()), (60, 60));
    }
}

#[tokio::test(start_paused = true)]
async fn what_an_import_drops_goes_alone_and_is_not_taken_for_refused() {
    let world = World::new(OBJECTS);
    let ann = person(&world, "ann@example.com");
    for n in 0..60 {
        let fields = json!({"company_id": format!("c{n}"), "name": format!("Company {n}"), "size": n + 1});
        company(&world, &fields, &[&ann]);
    }
    minutes(20).await;
    world.brevo.knobs(|knobs| knobs.company_imports_drop = Some("number_of_employees".to_owned()));
    for _ in 0..6 {
        world.sync().await;
        minutes(60).await;
    }
    let all = world.brevo.companies();
    assert_eq!(all.len(), 60);
    assert!(all.iter().all(|company| company.attributes.contains_key("number_of_employees")), "{:?}", all[0]);
    assert!(world.store.read(|tx| tx.failures(10)).await.unwrap().is_empty());
    is_quiet(&world).await;
}

#[tokio::test(start_paused = true)]
async fn an_import_that_lands_late_makes_nobody_twice() {
    // (Its answer is lost; minutes until it lands; minutes until the list shows it.)
    for (lost, queued, lag) in [(true, 25, 0), (false, 150, 0), (false, 1, 1), (true, 45, 1)] {
        let world = World::new(OBJECTS);
        let ann = person(&world, "ann@example.com");
        for n in 0..60 {
            company(&world, &json!({"company_id": format!("c{n}"), "name": format!("Company {n}")}), &[&ann]);
        }
        minutes(20).await;
        // Contacts first, which have imports of their own.
        world.brevo.knobs(|knobs| knobs.companies_listed_after = Duration::from_secs(lag * 60));
        world.brevo.imports_take(Duration::from_secs(queued * 60));
        if lost {
            world.brevo.fail("POST /v3/companies/import", Fault::StatusAfterEffect(502));
        }
        for round in 0..40 {
            world.sync().await;
            minutes(5).await;
            assert!(world.brevo.companies().len() <= 60, "{lost} {queued} {lag}: round {round}");
        }
        let names: BTreeSet<_> = world.brevo.companies().iter().map(|c| c.attributes["name"].to_string()).collect();
        assert_eq!((names.len(), world.brevo.companies().len()), (60, 60), "{lost} {queued} {lag}");
        let counts = world.store.read(|tx| tx.firm_counts()).await.unwrap();
        assert_eq!((counts.linked, counts.in_import), (60, 0), "{lost} {queued} {lag}");
        assert!(world.store.read(|tx| tx.failures(10)).await.unwrap().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn many_changes_go_by_import_and_what_it_passes_over_goes_alone() {
    for (lands, links) in [(true, true), (true, false), (false, true)] {
        let world = World::new(OBJECTS);
        let (ann, bob) = (person(&world, "ann@example.com"), person(&world, "bob@example.com"));
        let mut ids = Vec::new();
        for n in 0..70 {
            let fields = json!({"company_id": format!("c{n}"), "name": format!("Company {n}"), "size": n + 1});
            ids.push(company(&world, &fields, &[&ann]));
        }
        minutes(20).await;
        world.sync().await;
        minutes(60).await;
        world.sync().await;
        is_quiet(&world).await;
        let before = world.brevo.companies();
        world.brevo.knobs(|knobs| {
            knobs.company_imports_change_nothing = !lands;
            knobs.company_imports_link = links;
        });
        for id in &ids {
            world.intercom.edit_company(id, &json!({"size": 500})).unwrap();
            world.intercom.attach_company(&bob, id).unwrap();
        }
        let from = world.brevo.log().all().len();
        minutes(60).await;
        world.full().await;
        for _ in 0..4 {
            minutes(60).await;
            world.sync().await;
        }
        let log = world.brevo.log().all();
        let count = |method: &str, part: &str| {
            log[from..].iter().filter(|r| r.method == method && r.template.starts_with(part)).count()
        };
        assert_eq!(count("POST", "/companies/import"), 1);
        if lands {
            assert_eq!(count("PATCH", "/companies/{id}"), 0);
            assert_eq!(count("PATCH", "/companies/link-unlink"), if links { 0 } else { 70 });
        }
        let both = BTreeSet::from([brevo_id(&world, "ann@example.com"), brevo_id(&world, "bob@example.com")]);
        for (now, before) in world.brevo.companies().iter().zip(&before) {
            assert_eq!((&now.id, &now.attributes["name"]), (&before.id, &before.attributes["name"]));
            assert_eq!((&now.attributes["number_of_employees"], &now.contacts), (&json!(500), &both));
        }
        assert!(world.store.read(|tx| tx.failures(10)).await.unwrap().is_empty());
        is_quiet(&world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_says_what_would_become_of_companies_and_writes_none() {
    let world = World::new(OBJECTS);
    let ann = person(&world, "ann@example.com");
    company(&world, &json!({"name": "Acme"}), &[&ann]);
    company(&world, &json!({"name": null}), &[&ann]);
    minutes(20).await;
    let would = world.before_the_first().await.companies;
    assert_eq!(
        (would.make, would.update, would.new_attributes.as_slice()),
        (1, 0, &["LINKSPAN_INTERCOM_ID".to_owned()][..])
    );
    assert_eq!(world.brevo.log().write_count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_spent_hour_stops_it_and_the_next_goes_on() {
    let world = World::new(OBJECTS);
    let ann = person(&world, "ann@example.com");
    for n in 0..40 {
        company(&world, &json!({"company_id": format!("c{n}"), "name": format!("Company {n}")}), &[&ann]);
    }
    minutes(20).await;
    world.brevo.knobs(|knobs| knobs.per_hour = Some(50));
    let began = tokio::time::Instant::now();
    let summary = world.sync().await;
    assert!(began.elapsed() < Duration::from_secs(600), "a run waits for no hour");
    assert!(summary.companies.waiting > 0, "{:?}", summary.companies);
    assert_eq!(world.brevo.companies().len() as u64, summary.companies.made);
    // A daemon goes on by itself, and leaves others their share.
    let stop = CancellationToken::new();
    let daemon = Daemon::new(Arc::clone(&world.connection), config(OBJECTS).schedule);
    let (ended, ()) = tokio::join!(daemon.run(stop.clone()), async {
        for _ in 0..6 {
            minutes(60).await;
        }
        stop.cancel();
    });
    ended.unwrap();
    assert_eq!(world.brevo.companies().len(), 40);
    let refused = world.brevo.log().all().iter().filter(|request| request.status == 429).count();
    assert_eq!(refused, 0, "the limit was met");
    let counts = world.store.read(|tx| tx.firm_counts()).await.unwrap();
    assert_eq!((counts.all, counts.linked, counts.to_make, counts.waiting), (40, 40, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_crash_at_any_place_makes_no_second_one() {
    for place in ["after_firm_intent", "after_firm_write", "after_page"] {
        for nth in [1, 2, 3] {
            let crash = Arc::new(CrashAt::default());
            let mut world = World::with_crashes(OBJECTS, crash.clone());
            let ann = person(&world, "ann@example.com");
            for n in 0..3 {
                company(&world, &json!({"company_id": format!("c{n}"), "name": format!("Company {n}")}), &[&ann]);
            }
            minutes(20).await;
            crash.arm(place, nth);
            run_to_the_end(&mut world, &crash).await;
            let all = world.brevo.companies();
            assert_eq!(all.len(), 3, "{place} {nth}");
            let own = BTreeSet::from([brevo_id(&world, "ann@example.com")]);
            assert!(all.iter().all(|company| company.contacts == own));
            is_quiet(&world).await;
        }
    }
    for place in ["after_firms_import_intent", "after_firms_import"] {
        let crash = Arc::new(CrashAt::default());
        let mut world = World::with_crashes(OBJECTS, crash.clone());
        let ann = person(&world, "ann@example.com");
        for n in 0..60 {
            company(&world, &json!({"company_id": format!("c{n}"), "name": format!("Company {n}")}), &[&ann]);
        }
        minutes(20).await;
        crash.arm(place, 1);
        run_to_the_end(&mut world, &crash).await;
        // So long it may still land.
        for _ in 0..4 {
            minutes(30).await;
            world.sync().await;
        }
        assert_eq!(world.brevo.companies().len(), 60, "{place}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_crash_between_a_write_and_its_record_is_nobodys_edit() {
    for place in ["after_firm_intent", "after_firm_write"] {
        let crash = Arc::new(CrashAt::default());
        let mut world = World::with_crashes(TWO_WAY, crash.clone());
        let ann = person(&world, "ann@example.com");
        let fields = json!({"name": "Acme", "industry": "Tools", "custom_attributes": {"tier": "gold"}});
        let acme = company(&world, &fields, &[&ann]);
        minutes(20).await;
        world.sync().await;
        minutes(5).await;
        world.sync().await;
        world.intercom.edit_company(&acme, &json!({"custom_attributes": {"tier": "bronze"}})).unwrap();
        let id = only(&world).id;
        assert!(world.brevo.edit_company(&id, "sector", json!("Rockets")));
        minutes(5).await;
        world
            .connection
            .store()
            .write(|tx| tx.end_sweep(SideName::Intercom, linkspan::model::Resource::Companies))
            .await
            .unwrap();
        crash.arm(place, 1);
        run_to_the_end(&mut world, &crash).await;
        world.full().await;
        let shown = world.intercom.company(&acme).unwrap();
        assert_eq!(
            (&only(&world).attributes["tier"], &shown["custom_attributes"]["tier"]),
            (&json!("bronze"), &json!("bronze")),
            "{place}"
        );
        assert_eq!(
            (&only(&world).attributes["sector"], &shown["industry"]),
            (&json!("Rockets"), &json!("Rockets")),
            "{place}"
        );
        assert!(world.store.read(|tx| tx.list_conflicts(None, 10)).await.unwrap().is_empty());
        is_quiet(&world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_brevo_deleted_is_not_made_again_and_what_it_refuses_is_listed() {
    let (world, acme) = in_step(OBJECTS).await;
    assert!(world.brevo.delete_company(&only(&world).id));
    world.intercom.edit_company(&acme, &json!({"name": "Acme Ltd"})).unwrap();
    minutes(5).await;
    world.full().await;
    minutes(5).await;
    world.full().await;
    assert!(world.brevo.companies().is_empty());
    let notices = world.store.read(|tx| tx.notices(Some("brevo_company_gone"), 10)).await.unwrap();
    assert_eq!(notices.len(), 1);

    let ann = person(&world, "dan@example.com");
    company(&world, &json!({"name": "Refused"}), &[&ann]);
    minutes(20).await;
    for _ in 0..3 {
        world.brevo.fail("POST /v3/companies", Fault::Status(400, None));
    }
    // (A full read would try it again.)
    for _ in 0..8 {
        world.sync().await;
        minutes(10).await;
    }
    let failures = world.store.read(|tx| tx.failures(10)).await.unwrap();
    assert!(failures.iter().any(|failure| failure.subject.starts_with("company ") && failure.dead), "{failures:?}");
    world.store.write(|tx| tx.retry_failures(None)).await.unwrap();
    world.sync().await;
    assert_eq!(only(&world).attributes["name"], "Refused");
    assert!(world.store.read(|tx| tx.failures(10)).await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_value_that_brevo_passes_over_is_listed_and_not_sent_again() {
    let (world, acme) = in_step(TWO_WAY).await;
    let id = only(&world).id;
    // Somebody makes a number of the attribute's value type meanwhile: the double drops what does not fit.
    world.brevo.retype_company_attribute("tier", "number");
    world.intercom.edit_company(&acme, &json!({"custom_attributes": {"tier": "platinum"}})).unwrap();
    minutes(5).await;
    world.full().await;
    minutes(5).await;
    world.full().await;
    minutes(5).await;
    world.full().await;
    let failures = world.store.read(|tx| tx.failures(10)).await.unwrap();
    assert!(failures.iter().any(|failure| failure.field.ends_with("-> TIER")), "{failures:?}");
    let sent = writes(&world).iter().filter(|write| write.contains("platinum")).count();
    assert_eq!((sent, world.brevo.companies()[0].id.clone()), (1, id));
    is_quiet(&world).await;
}

#[tokio::test(start_paused = true)]
async fn all_companies_are_read_whatever_pages_count() {
    for pages in [CompanyPages::FromOne, CompanyPages::FromZero, CompanyPages::Offset] {
        let world = World::new(OBJECTS);
        world.brevo.knobs(|knobs| knobs.company_pages = pages);
        for n in 0..1_203 {
            world.brevo.create_company(&format!("Company {n}"));
        }
        world.sync().await;
        let seen = world.store.read(|tx| tx.count_brevo_companies()).await.unwrap();
        assert_eq!(seen, 1_203, "{pages:?}");
        let reads = world.brevo.log().all().iter().filter(|r| r.method == "GET" && r.template == "/companies").count();
        assert!(reads <= 5, "{pages:?}: {reads}");
    }
}

#[tokio::test(start_paused = true)]
async fn all_companies_are_read_whatever_a_page_holds() {
    for pages in [CompanyPages::FromOne, CompanyPages::FromZero, CompanyPages::Offset] {
        for (given, most, companies) in
            [(Some(20), None, 65), (Some(100), None, 250), (None, Some(50), 130), (None, None, 7)]
        {
            let world = World::new(OBJECTS);
            world.brevo.knobs(|knobs| {
                knobs.company_pages = pages;
                (knobs.companies_a_page, knobs.most_companies_a_page) = (given, most);
            });
            for n in 0..companies {
                world.brevo.create_company(&format!("Company {n}"));
            }
            world.sync().await;
            let seen = world.store.read(|tx| tx.count_brevo_companies()).await.unwrap();
            assert_eq!(seen, companies, "{pages:?} {given:?} {most:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_of_all_companies_leaves_others_their_part_of_the_hour_and_goes_on_in_the_next() {
    let world = World::new(OBJECTS);
    world.brevo.knobs(|knobs| {
        knobs.companies_a_page = Some(20);
        knobs.per_hour = Some(50);
    });
    for n in 0..900 {
        world.brevo.create_company(&format!("Company {n}"));
    }
    let read = || async {
        let log = world.brevo.log().all();
        log.iter().filter(|request| request.template == "/companies").count()
    };
    world.sync().await;
    let first = read().await;
    // Of fifty, nine tenths are ours, and six tenths of these companies'.
    assert!((15..=27).contains(&first), "{first} pages");
    minutes(61).await;
    // What is due by then is not begun from the first page, nor is a read of changes put in its place.
    world.sync().await;
    minutes(61).await;
    world.sync().await;
    let seen = world.store.read(|tx| tx.count_brevo_companies()).await.unwrap();
    assert_eq!(seen, 900);
    assert!(read().await <= 50, "{} pages for 45 and a few", read().await);
}
