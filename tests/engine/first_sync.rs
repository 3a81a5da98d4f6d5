//! A first full sync: everybody arrives, nobody is re-subscribed, and the next cycle writes nothing.

use crate::harness::World;
use linkspan::engine::{Silent, SyncOptions};
use linkspan::sandbox::brevo::{BrevoOptions, BrevoSandbox, WorldShares};
use linkspan::sandbox::intercom::ContactSeed;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

const LISTS: &str = "
connectors:
  intercom:
    lists:
      all_users: Users
      leads: Leads
      active_conversations: Active
phone:
  default_region: US
consent:
  direction: intercom_to_brevo
";

/// One address of the workspace, read from the sandbox itself and not through our client.
#[derive(Debug, Default)]
struct Expected {
    opted_out: bool,
    /// The primary's: user before lead, then created first.
    primary: Option<(bool, i64, Value)>,
}

fn expected(world: &World) -> BTreeMap<String, Expected> {
    let mut people: BTreeMap<String, Expected> = BTreeMap::new();
    for id in world.intercom.contact_ids() {
        let contact = world.intercom.contact(&id).unwrap();
        let Some(email) = contact["email"].as_str().map(|email| email.trim().to_lowercase()).filter(|e| !e.is_empty())
        else {
            continue;
        };
        if contact["archived"] == Value::Bool(true) {
            continue;
        }
        let person = people.entry(email).or_default();
        for flag in ["unsubscribed_from_emails", "has_hard_bounced", "marked_email_as_spam"] {
            person.opted_out |= contact[flag] == Value::Bool(true);
        }
        let rank = (contact["role"] == "lead", contact["created_at"].as_i64().unwrap());
        if person.primary.as_ref().is_none_or(|(lead, created, _)| rank < (*lead, *created)) {
            person.primary = Some((rank.0, rank.1, contact));
        }
    }
    people
}

/// Everybody is there, as the rules say; nobody else was made.
fn check(world: &World, existing: &BTreeSet<String>, left: &BTreeSet<String>) {
    let people = expected(world);
    let users = world.brevo.list_members(world.brevo.list_id("Users").unwrap());
    let leads = world.brevo.list_members(world.brevo.list_id("Leads").unwrap());
    let mut wrong = Vec::new();
    for (email, person) in &people {
        let Some(there) = world.brevo.contact_by_email(email) else {
            wrong.push(format!("{email} did not arrive"));
            continue;
        };
        let (lead, _, contact) = person.primary.as_ref().unwrap();
        if person.opted_out && !there.email_blacklisted {
            wrong.push(format!("{email} opted out and may be mailed"));
        }
        if !person.opted_out && there.email_blacklisted && !existing.contains(email) {
            wrong.push(format!("{email} was blocklisted for nothing"));
        }
        let on = if *lead { &leads } else { &users };
        if !on.contains(&there.id) && !left.contains(email) {
            wrong.push(format!("{email} is not on its list"));
        }
        let off = if *lead { &users } else { &leads };
        if off.contains(&there.id) {
            wrong.push(format!("{email} is on the wrong list"));
        }
        let role = there.attributes.get("ROLE").and_then(Value::as_str);
        if role != Some(if *lead { "lead" } else { "user" }) {
            wrong.push(format!("{email} has the role {role:?}"));
        }
        if let Some(plan) = contact["custom_attributes"]["plan_tier"].as_str() {
            let theirs = there.attributes.get("PLAN_TIER").and_then(Value::as_str);
            if theirs != Some(plan) {
                wrong.push(format!("{email} has the plan {theirs:?}, not {plan}"));
            }
        }
        if let Some(name) = contact["name"].as_str().filter(|name| !name.trim().is_empty()) {
            let part = |attribute: &str| there.attributes.get(attribute).and_then(Value::as_str).unwrap_or_default();
            let whole: String = format!("{}{}", part("FIRSTNAME"), part("LASTNAME"));
            let squeeze = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
            if squeeze(&whole) != squeeze(name) && !existing.contains(email) {
                wrong.push(format!("{name:?} became {whole:?}"));
            }
        }
        if let Some(id) = contact["external_id"].as_str() {
            let theirs = there.attributes.get("EXT_ID").and_then(Value::as_str);
            if theirs != Some(id) && !existing.contains(email) {
                wrong.push(format!("{email} has the external id {theirs:?}, not {id}"));
            }
        }
    }
    let made = world.brevo.contacts().len() - existing.len();
    let expected_new = people.keys().filter(|email| !existing.contains(*email)).count();
    if made != expected_new {
        wrong.push(format!("{made} contacts were made for {expected_new} people"));
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

async fn writes_nothing_more(world: &World) {
    let before = world.brevo_writes();
    for full in [false, true] {
        let summary = if full { world.full().await } else { world.sync().await };
        let more: Vec<String> = world.brevo.log().writes()[before..]
            .iter()
            .map(|write| format!("{} {} {}", write.method, write.target, String::from_utf8_lossy(&write.body)))
            .collect();
        assert!(more.is_empty(), "the next cycle (full: {full}) wrote\n{}\n{summary:#?}", more.join("\n"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_small_workspace_arrives_and_the_next_cycle_writes_nothing() {
    let world = World::new(LISTS);
    let truth = world.intercom.world(3, 60);
    let summary = world.sync().await;
    assert_eq!(summary.outcome(), "ok", "{summary:#?}");
    check(&world, &BTreeSet::new(), &BTreeSet::new());
    let counts = world.store.read(|tx| tx.counts()).await.unwrap();
    assert_eq!(counts.notices.get("without_email").copied(), Some(truth.without_email as u64), "counted and listed");
    writes_nothing_more(&world).await;
    assert_eq!(world.intercom.log().writes().len(), 0, "Intercom is only read");
}

#[tokio::test(start_paused = true)]
async fn a_larger_workspace_goes_by_import() {
    let world = World::new(LISTS);
    let truth = world.intercom.world(5, 1_500);
    let summary = world.sync().await;
    assert_eq!(summary.outcome(), "ok", "{summary:#?}");
    assert_eq!(summary.written.imported, truth.distinct_emails as u64);
    assert_eq!(summary.written.created, 0, "nobody goes alone: {summary:#?}");
    check(&world, &BTreeSet::new(), &BTreeSet::new());
    writes_nothing_more(&world).await;
    assert_eq!(world.intercom.log().writes().len(), 0, "Intercom is only read");
}

#[tokio::test(start_paused = true)]
async fn people_who_are_in_brevo_already_are_linked_and_nobody_is_resubscribed() {
    for (seed, contacts) in [(11, 80), (12, 900)] {
        let world = World::new(LISTS);
        world.intercom.world(seed, contacts);
        let people: Vec<(String, Option<String>)> = expected(&world).into_keys().map(|email| (email, None)).collect();
        let users = world.brevo.create_list("Users");
        world.brevo.world(seed, &people, &WorldShares { foreign_ext_id: 0.0, ..WorldShares::default() }, users);
        let before: BTreeMap<String, (bool, BTreeSet<i64>)> = world
            .brevo
            .contacts()
            .into_iter()
            .map(|contact| (contact.email.unwrap(), (contact.email_blacklisted, contact.list_unsubscribed)))
            .collect();
        let existing: BTreeSet<String> = before.keys().cloned().collect();
        let left: BTreeSet<String> =
            before.iter().filter(|(_, (_, left))| left.contains(&users)).map(|(email, _)| email.clone()).collect();
        assert!(!left.is_empty() && before.values().any(|(blocked, _)| *blocked), "a world that tests something");
        let summary = world.sync().await;
        assert_eq!(summary.outcome(), "ok", "{summary:#?}");
        for (email, (blocked, left)) in &before {
            let now = world.brevo.contact_by_email(email).unwrap();
            assert!(now.email_blacklisted || !blocked, "{email} was re-subscribed");
            assert!(left.is_subset(&now.list_unsubscribed), "{email} was put back on a list it had left");
        }
        check(&world, &existing, &left);
        writes_nothing_more(&world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_state_of_another_pair_of_accounts_is_not_touched() {
    let mut world = World::new(LISTS);
    world.intercom.create_contact(ContactSeed { email: Some("jane@example.com".into()), ..ContactSeed::default() });
    world.sync().await;
    let (runs, at_work) = world.store.read(|tx| Ok((tx.runs(100)?, tx.meta("at_work")?))).await.unwrap();
    let options =
        BrevoOptions { organization_id: "another".to_owned(), ..BrevoOptions::new(1, world.doors.clock.clone()) };
    world.brevo = BrevoSandbox::new(options);
    world.restart(LISTS);
    let refused = world.connection.sync(&SyncOptions::default(), &Silent).await.unwrap_err();
    assert!(refused.to_string().contains("it was not touched"), "{refused}");
    assert_eq!(world.brevo_writes(), 0);
    let after = world.store.read(|tx| Ok((tx.runs(100)?, tx.meta("at_work")?))).await.unwrap();
    assert_eq!((format!("{:?}", after.0), after.1), (format!("{runs:?}"), at_work));
}
