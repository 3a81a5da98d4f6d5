//! What a deletion on one side leads to on the other.

use crate::crashes::{CrashAt, run_to_the_end};
use crate::harness::{World, minutes};
use linkspan::engine::approve_in;
use linkspan::sandbox::Fault;
use linkspan::sandbox::intercom::ContactSeed;
use std::sync::Arc;

pub fn on_delete(brevo: &str, intercom: &str) -> String {
    format!(
        "
connectors:
  intercom:
    lists:
      all_users: Users
field_mapping:
  name: FIRSTNAME
  tags: {{VIP: {{list: VIPs, direction: both}}}}
contacts:
  on_delete: {{brevo: {brevo}, intercom: {intercom}}}
"
    )
}

pub fn user(email: &str) -> ContactSeed {
    ContactSeed { email: Some(email.to_owned()), name: Some("Jane".to_owned()), ..ContactSeed::default() }
}

pub fn lead(email: &str) -> ContactSeed {
    ContactSeed { lead: true, ..user(email) }
}

pub const JANE: &str = "jane@example.com";
pub const JOE: &str = "joe@example.com";

/// Jane and Joe, in step.
pub async fn in_step(config: &str) -> (World, Vec<String>) {
    let world = World::new(config);
    let ids = vec![world.intercom.create_contact(user(JANE)), world.intercom.create_contact(user(JOE))];
    minutes(10).await;
    world.sync().await;
    minutes(10).await;
    world.sync().await;
    (world, ids)
}

/// Long enough for a deletion to be believed, and what it leads to to be done.
pub async fn cycles(world: &World) {
    for _ in 0..6 {
        minutes(10).await;
        world.full().await;
    }
}

/// Live in Intercom.
pub fn is_there(world: &World, id: &str) -> bool {
    world.intercom.contact_ids().iter().any(|there| there == id)
}

fn writes(world: &World) -> (usize, usize) {
    (world.intercom.log().write_count(), world.brevo_writes())
}

pub async fn is_quiet(world: &World) {
    let before = writes(world);
    cycles(world).await;
    assert_eq!(writes(world), before, "a quiet cycle wrote");
}

pub async fn notices(world: &World) -> Vec<String> {
    let rows = world.store.read(|tx| tx.notices(None, 100)).await.unwrap();
    rows.into_iter().map(|(kind, ..)| kind).collect()
}

/// What the history says was done because of a deletion.
pub async fn done(world: &World) -> Vec<(String, String)> {
    let changes = world.store.read(|tx| tx.changes(None, 1_000)).await.unwrap();
    let because = changes.into_iter().filter(|change| change.fields.contains_key("on_delete"));
    because.map(|change| (change.what, change.request.unwrap_or_default())).collect()
}

#[tokio::test(start_paused = true)]
async fn by_default_a_deletion_leads_to_nothing() {
    let (world, ids) = in_step(&on_delete("keep", "keep")).await;
    world.intercom.delete(&ids[0]).unwrap();
    world.brevo.delete(JOE);
    let before = writes(&world);
    cycles(&world).await;
    assert_eq!(writes(&world), before);
    assert!(world.brevo.contact_by_email(JANE).is_some() && is_there(&world, &ids[1]));
    assert_eq!(notices(&world).await, ["brevo_contact_gone", "deleted_in_intercom"]);
}

#[tokio::test(start_paused = true)]
async fn a_deletion_in_intercom_deletes_in_brevo_and_who_comes_back_is_made_anew() {
    let (world, ids) = in_step(&on_delete("delete", "keep")).await;
    let theirs = world.brevo.contact_by_email(JANE).unwrap().id;
    world.brevo.unsubscribe(JANE);
    minutes(10).await;
    world.sync().await;
    world.intercom.delete(&ids[0]).unwrap();
    cycles(&world).await;
    assert!(world.brevo.contact_by_email(JANE).is_none());
    assert_eq!(
        done(&world).await,
        [(format!("deletion of Brevo contact {theirs}"), format!("DELETE /contacts/{theirs}"))]
    );
    assert_eq!(notices(&world).await, ["deleted_in_intercom"], "our own deletion is no news");
    is_quiet(&world).await;
    // Nobody in Brevo has decided against her.
    world.intercom.create_contact(user(JANE));
    cycles(&world).await;
    let anew = world.brevo.contact_by_email(JANE).unwrap();
    assert!(anew.id != theirs && anew.email_blacklisted, "opted out, as she was");
    is_quiet(&world).await;
}

#[tokio::test(start_paused = true)]
async fn who_is_archived_is_gone_and_may_come_back() {
    for action in ["unlist", "blocklist", "delete"] {
        let (world, ids) = in_step(&on_delete(action, "keep")).await;
        let users = world.brevo.list_id("Users").unwrap();
        let callers = world.brevo.create_list("Callers");
        world.brevo.add_to_list(JANE, callers);
        world.intercom.archive(&ids[0]).unwrap();
        cycles(&world).await;
        let there = world.brevo.contact_by_email(JANE);
        match action {
            "unlist" => {
                let there = there.unwrap();
                assert!(
                    !there.list_ids.contains(&users) && there.list_ids.contains(&callers) && !there.email_blacklisted
                );
            }
            "blocklist" => assert!(there.unwrap().email_blacklisted),
            _ => assert!(there.is_none()),
        }
        assert_eq!(done(&world).await.len(), 1, "{action}");
        is_quiet(&world).await;
        world.intercom.unarchive(&ids[0]).unwrap();
        cycles(&world).await;
        let there = world.brevo.contact_by_email(JANE).unwrap();
        assert!(there.list_ids.contains(&users), "{action}: on the list again");
        assert_eq!(there.email_blacklisted, action == "blocklist", "{action}: nothing of ours subscribes anybody");
        is_quiet(&world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_deletion_in_brevo_reaches_each_member_in_intercom() {
    for action in ["unlist", "blocklist", "archive", "delete"] {
        let (world, ids) = in_step(&on_delete("delete", action)).await;
        let more = world.intercom.create_contact(lead(JANE));
        world.intercom.tag(&ids[0], "VIP").unwrap();
        world.intercom.tag(&ids[0], "Other").unwrap();
        cycles(&world).await;
        assert!(world.brevo.delete(JANE));
        let before = world.brevo_writes();
        cycles(&world).await;
        for id in [&ids[0], &more] {
            assert_eq!(is_there(&world, id), ["unlist", "blocklist"].contains(&action), "{action}");
            if action == "blocklist" {
                assert_eq!(world.intercom.contact(id).unwrap()["unsubscribed_from_emails"], true);
            }
        }
        if action == "unlist" {
            assert_eq!(world.intercom.contact_tags(&ids[0]), ["Other"], "only what goes with a list");
        }
        assert_eq!(done(&world).await.len(), if action == "unlist" { 1 } else { 2 }, "{action}");
        assert_eq!(world.brevo_writes(), before, "nothing comes back to Brevo");
        let gone = ["archive", "delete"].contains(&action);
        assert_eq!(notices(&world).await, if gone { vec![] } else { vec!["brevo_contact_gone"] }, "{action}");
        assert!(is_there(&world, &ids[1]), "nobody else");
        is_quiet(&world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_brevo_contact_goes_with_the_last_of_its_address_and_never_with_a_merge() {
    let (world, ids) = in_step(&on_delete("delete", "keep")).await;
    let second = world.intercom.create_contact(lead(JANE));
    cycles(&world).await;
    world.intercom.delete(&ids[0]).unwrap();
    cycles(&world).await;
    assert!(world.brevo.contact_by_email(JANE).is_some(), "one of the address is left");
    // Merged away: Jane lives on as Joe.
    world.intercom.merge(&second, &ids[1]).unwrap();
    cycles(&world).await;
    assert!(world.brevo.contact_by_email(JANE).is_some());
    assert!(done(&world).await.is_empty());
    is_quiet(&world).await;
}

#[tokio::test(start_paused = true)]
async fn who_moved_or_whose_address_is_somebodys_is_not_gone() {
    let (world, ids) = in_step(&on_delete("delete", "delete")).await;
    // Somebody gives Joe's contact Jane's old address, and Jane's is deleted in Intercom.
    world.intercom.set_email(&ids[0], Some("new@example.com")).unwrap();
    cycles(&world).await;
    assert!(world.brevo.change_email("new@example.com", "third@example.com"));
    world.intercom.create_contact(user("third@example.com"));
    world.intercom.delete(&ids[0]).unwrap();
    cycles(&world).await;
    assert!(
        world.brevo.contact_by_email("third@example.com").is_some(),
        "it shows the address of somebody who is there"
    );
    assert!(done(&world).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn too_many_deletions_wait_for_a_word() {
    let world = World::new(&format!("{}safety: {{max_deletes: 3}}\n", on_delete("delete", "keep")));
    let ids: Vec<String> = (0..8).map(|n| world.intercom.create_contact(user(&format!("p{n}@x.example")))).collect();
    minutes(10).await;
    world.sync().await;
    for id in &ids[..5] {
        world.intercom.delete(id).unwrap();
    }
    cycles(&world).await;
    assert_eq!(world.brevo.contact_count(), 8, "of five, none goes");
    let now = world.doors.clock.now();
    let holds = world.store.read(move |tx| tx.current_holds(now)).await.unwrap();
    assert_eq!((holds.len(), holds[0].kind.as_str(), holds[0].wanted), (1, "deletes", 5));
    // One comes back: four are left.
    world.intercom.create_contact(user("p0@x.example"));
    minutes(10).await;
    world.full().await;
    let id = holds[0].id;
    let wanted = world.store.read(move |tx| tx.hold(id)).await.unwrap().unwrap().wanted;
    assert_eq!(wanted, 4);
    world.store.write(move |tx| approve_in(tx, id, now)).await.unwrap();
    cycles(&world).await;
    assert_eq!(world.brevo.contact_count(), 4);
    is_quiet(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_asked_about() {
    for acts in [true, false] {
        let (world, ids) = in_step(&on_delete("delete", "archive")).await;
        world.brevo.delete(JOE);
        world.intercom.delete(&ids[0]).unwrap();
        let fault = if acts { Fault::StatusAfterEffect(502) } else { Fault::Status(502, None) };
        for name in ["DELETE /contacts", "POST /contacts"] {
            for _ in 0..8 {
                let in_brevo = name.replace("/contacts", "/v3/contacts");
                world.brevo.knobs(|knobs| knobs.common.faults.push_back((in_brevo, fault.clone())));
                world.intercom.knobs(|knobs| knobs.faults.push_back((name.to_owned(), fault.clone())));
            }
        }
        minutes(20).await;
        world.full().await;
        world.brevo.knobs(|knobs| knobs.common.faults.clear());
        world.intercom.knobs(|knobs| knobs.faults.clear());
        cycles(&world).await;
        assert!(world.brevo.contact_by_email(JANE).is_none() && !is_there(&world, &ids[1]));
        is_quiet(&world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_crash_anywhere_ends_where_none_ends() {
    for place in ["after_parting_intent", "after_parting"] {
        let crash = Arc::new(CrashAt::default());
        let mut world = World::with_crashes(&on_delete("blocklist", "delete"), crash.clone());
        let ids: Vec<String> =
            (0..20).map(|n| world.intercom.create_contact(user(&format!("p{n}@x.example")))).collect();
        minutes(10).await;
        world.sync().await;
        for (n, id) in ids.iter().enumerate() {
            if n % 2 == 0 {
                world.intercom.delete(id).unwrap();
            } else {
                world.brevo.delete(&format!("p{n}@x.example"));
            }
        }
        minutes(10).await;
        world.full().await;
        minutes(16).await;
        crash.arm(place, 1);
        run_to_the_end(&mut world, &crash).await;
        cycles(&world).await;
        for (n, id) in ids.iter().enumerate() {
            let there = world.brevo.contact_by_email(&format!("p{n}@x.example"));
            assert!(!is_there(&world, id) && there.is_none_or(|there| there.email_blacklisted), "{place} {n}");
        }
        is_quiet(&world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn gone_on_both_sides_at_once_leads_to_nothing() {
    for (brevo, intercom) in [("delete", "delete"), ("blocklist", "archive")] {
        let (world, ids) = in_step(&on_delete(brevo, intercom)).await;
        world.intercom.delete(&ids[0]).unwrap();
        world.brevo.delete(JANE);
        cycles(&world).await;
        assert_eq!(done(&world).await, []);
        assert!(is_there(&world, &ids[1]) && world.brevo.contact_by_email(JOE).is_some());
        is_quiet(&world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn whom_somebody_brings_back_in_intercom_is_not_archived_again() {
    let (world, ids) = in_step(&on_delete("keep", "archive")).await;
    world.brevo.delete(JANE);
    cycles(&world).await;
    assert!(!is_there(&world, &ids[0]));
    world.intercom.unarchive(&ids[0]).unwrap();
    cycles(&world).await;
    assert!(is_there(&world, &ids[0]), "somebody wants them there");
    assert!(world.brevo.contact_by_email(JANE).is_none(), "what a person deleted in Brevo is not made again");
    assert_eq!(done(&world).await.len(), 1);
    assert_eq!(notices(&world).await, ["brevo_contact_gone"]);
    is_quiet(&world).await;
}

#[tokio::test(start_paused = true)]
async fn whoever_comes_to_the_address_before_the_word_is_given_keeps_the_contact() {
    let world = World::new(&format!("{}safety: {{max_deletes: 1}}\n", on_delete("delete", "delete")));
    let ids: Vec<String> = (0..6).map(|n| world.intercom.create_contact(user(&format!("p{n}@x.example")))).collect();
    minutes(10).await;
    world.sync().await;
    minutes(10).await;
    world.sync().await;
    let before: Vec<i64> =
        (0..6).map(|n| world.brevo.contact_by_email(&format!("p{n}@x.example")).unwrap().id).collect();
    for id in &ids[..2] {
        world.intercom.delete(id).unwrap();
    }
    for n in 3..5 {
        world.brevo.delete(&format!("p{n}@x.example"));
    }
    cycles(&world).await;
    assert!(is_there(&world, &ids[3]) && world.brevo.contact(before[0]).is_some(), "held, on both sides");
    let now = world.doors.clock.now();
    let holds = world.store.read(move |tx| tx.current_holds(now)).await.unwrap();
    assert_eq!(holds.iter().map(|hold| hold.wanted).sum::<u64>(), 4);
    // Both come back as somebody new, and nobody has been read since.
    world.intercom.create_contact(user("p0@x.example"));
    world.brevo.create_contact(linkspan::sandbox::brevo::ContactSeed {
        email: Some("p3@x.example".to_owned()),
        ..linkspan::sandbox::brevo::ContactSeed::default()
    });
    tokio::time::sleep(std::time::Duration::from_secs(30)).await;
    for hold in holds {
        world.store.write(move |tx| approve_in(tx, hold.id, now)).await.unwrap();
    }
    cycles(&world).await;
    assert!(world.brevo.contact(before[0]).is_some() && world.brevo.contact(before[1]).is_none());
    assert!(is_there(&world, &ids[3]) && !is_there(&world, &ids[4]));
    is_quiet(&world).await;
}

/// Whose record a filter leaves out is not what a deletion is followed by, either.
#[tokio::test(start_paused = true)]
async fn nothing_follows_for_somebody_whom_the_filter_leaves_out() {
    let filter =
        "  filter: {intercom_to_brevo: \"record.role == 'user'\", brevo_to_intercom: \"record.FIRSTNAME == 'Jane'\"}\n";
    let world = World::new(&format!("{}{filter}", on_delete("delete", "delete")));
    for (n, name) in ["Jane", "Joe"].into_iter().enumerate() {
        for role in ["user", "lead"] {
            let email = format!("{role}{n}@x.example");
            let lead = role == "lead";
            world.intercom.create_contact(ContactSeed { lead, name: Some(name.to_owned()), ..user(&email) });
            world.brevo.create_contact(linkspan::sandbox::brevo::ContactSeed {
                email: Some(email),
                attributes: [("FIRSTNAME".to_owned(), serde_json::json!(name))].into(),
                ..linkspan::sandbox::brevo::ContactSeed::default()
            });
        }
    }
    minutes(10).await;
    world.sync().await;
    cycles(&world).await;
    let ids: Vec<String> = world.intercom.contact_ids();
    let of = |email: &str| ids.iter().find(|id| world.intercom.contact(id).unwrap()["email"] == email).unwrap().clone();
    for email in ["user0@x.example", "lead0@x.example"] {
        world.intercom.delete(&of(email)).unwrap();
    }
    let joe = of("user1@x.example");
    world.brevo.delete("user1@x.example");
    cycles(&world).await;
    assert!(world.brevo.contact_by_email("user0@x.example").is_none());
    assert!(world.brevo.contact_by_email("lead0@x.example").is_some(), "a lead does not take part");
    assert!(is_there(&world, &joe), "Joe does not take part in what comes from Brevo");
    is_quiet(&world).await;
}

#[tokio::test(start_paused = true)]
async fn whoever_speaks_for_the_person_is_listed_for_a_contact_that_is_gone() {
    let (world, ids) = in_step(&on_delete("keep", "keep")).await;
    let second = world.intercom.create_contact(lead(JANE));
    cycles(&world).await;
    world.brevo.delete(JANE);
    cycles(&world).await;
    let listed = || async {
        let rows = world.store.read(|tx| tx.notices(Some("brevo_contact_gone"), 100)).await.unwrap();
        rows.into_iter().map(|(_, subject, _)| subject).collect::<Vec<_>>()
    };
    assert_eq!(listed().await, [format!("contact {}", ids[0])]);
    // She goes on to another address, and the lead is left.
    world.intercom.set_email(&ids[0], Some("new@example.com")).unwrap();
    cycles(&world).await;
    assert_eq!(listed().await, [format!("contact {second}")]);
    assert!(world.brevo.contact_by_email("new@example.com").is_some() && world.brevo.contact_by_email(JANE).is_none());
    is_quiet(&world).await;
}
