//! Deletions that lead to nothing, for nobody is gone; and what is kept in mind of those that lead to something.

use crate::harness::{World, minutes};
use crate::partings::{JANE, JOE, cycles, done, in_step, is_quiet, is_there, lead, notices, on_delete, user};
use linkspan::engine::approve_in;
use linkspan::model::IntercomContactId;
use linkspan::sandbox::Fault;
use linkspan::sandbox::brevo::ContactSeed as BrevoSeed;
use linkspan::sandbox::intercom::ContactSeed;

fn in_brevo(email: &str, ext_id: Option<&str>) -> BrevoSeed {
    BrevoSeed { email: Some(email.to_owned()), ext_id: ext_id.map(str::to_owned), ..BrevoSeed::default() }
}

async fn rounds(world: &World, count: usize) {
    for _ in 0..count {
        minutes(10).await;
        world.full().await;
    }
}

async fn listed(world: &World) -> usize {
    let failures = world.store.read(|tx| tx.failures(100)).await.unwrap();
    failures.iter().filter(|failure| failure.field == "on_delete").count()
}

async fn waiting(world: &World) -> u64 {
    world.store.read(|tx| tx.count_partings()).await.unwrap()
}

/// Two duplicates are merged in Brevo: the one that is kept has the external id.
#[tokio::test(start_paused = true)]
async fn who_is_in_brevo_by_external_id_is_not_gone() {
    let world = World::new(&on_delete("keep", "delete"));
    let jane = world.intercom.create_contact(ContactSeed { external_id: Some("crm-1".to_owned()), ..user(JANE) });
    let joe = world.intercom.create_contact(ContactSeed { external_id: Some("crm-2".to_owned()), ..user(JOE) });
    minutes(10).await;
    world.sync().await;
    rounds(&world, 1).await;
    for email in [JANE, JOE] {
        assert!(world.brevo.delete(email));
    }
    world.brevo.create_contact(in_brevo("jane@work.example", Some("crm-1"))).unwrap();
    cycles(&world).await;
    assert!(is_there(&world, &jane), "Brevo has her by her external id");
    assert!(!is_there(&world, &joe), "him it has not");
    assert_eq!((waiting(&world).await, notices(&world).await), (0, vec!["brevo_contact_gone".to_owned()]));
    is_quiet(&world).await;
}

#[tokio::test(start_paused = true)]
async fn whose_address_is_another_by_now_is_not_who_was_deleted() {
    let (world, ids) = in_step(&on_delete("keep", "delete")).await;
    // A colleague gives Joe's contact an address that Jane takes in Intercom: hers cannot be followed.
    assert!(world.brevo.change_email(JOE, "both@example.com"));
    rounds(&world, 1).await;
    world.intercom.set_email(&ids[0], Some("both@example.com")).unwrap();
    rounds(&world, 1).await;
    assert!(world.brevo.delete(JANE));
    cycles(&world).await;
    assert!(is_there(&world, &ids[0]), "Brevo has a contact of the address that she has");
    assert_eq!(waiting(&world).await, 0);
}

/// Scripts delete somebody and make them again; a search does not find them at once.
#[tokio::test(start_paused = true)]
async fn nothing_follows_before_the_search_index_has_caught_up() {
    for (brevo, intercom) in [("delete", "keep"), ("keep", "delete")] {
        let (world, ids) = in_step(&on_delete(brevo, intercom)).await;
        let theirs = world.brevo.contact_by_email(JANE).unwrap().id;
        let side = brevo == "delete";
        if side {
            world.intercom.delete(&ids[0]).unwrap();
            // As its notice says.
            let id = IntercomContactId::new(ids[0].clone());
            world.store.write(move |tx| tx.say_gone(&id, true)).await.unwrap();
        } else {
            world.brevo.delete(JANE);
        }
        world.full().await;
        assert_eq!(waiting(&world).await, 1);
        world.full().await;
        let there = || world.brevo.contact(theirs).is_some() && (!side || world.brevo.contact_by_email(JANE).is_some());
        if side {
            assert!(there(), "at once");
            world.intercom.create_contact(user(JANE));
        } else {
            assert!(is_there(&world, &ids[0]), "at once");
            world.brevo.create_contact(in_brevo(JANE, None)).unwrap();
        }
        cycles(&world).await;
        assert!(if side { there() } else { is_there(&world, &ids[0]) });
        assert_eq!((waiting(&world).await, done(&world).await.len()), (0, 0));
        is_quiet(&world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn who_comes_back_and_goes_again_has_gone_only_then() {
    let (world, ids) = in_step(&on_delete("delete", "keep")).await;
    let id = IntercomContactId::new(ids[0].clone());
    for _ in 0..2 {
        world.intercom.archive(&ids[0]).unwrap();
        let archived = id.clone();
        world.store.write(move |tx| tx.say_gone(&archived, false)).await.unwrap();
        minutes(9).await;
        world.full().await;
        world.intercom.unarchive(&ids[0]).unwrap();
        minutes(1).await;
        world.full().await;
    }
    world.intercom.archive(&ids[0]).unwrap();
    world.store.write(move |tx| tx.say_gone(&id, false)).await.unwrap();
    world.full().await;
    minutes(8).await;
    world.full().await;
    assert!(world.brevo.contact_by_email(JANE).is_some(), "eight minutes ago");
    minutes(8).await;
    world.full().await;
    assert!(world.brevo.contact_by_email(JANE).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_search_that_is_refused_says_nothing_and_is_listed() {
    let (world, ids) = in_step(&on_delete("delete", "keep")).await;
    world.intercom.archive(&ids[0]).unwrap();
    let id = IntercomContactId::new(ids[0].clone());
    world.store.write(move |tx| tx.say_gone(&id, false)).await.unwrap();
    world.full().await;
    assert_eq!(waiting(&world).await, 1);
    let refused = || {
        for _ in 0..50 {
            world.intercom.knobs(|knobs| {
                knobs.faults.push_back(("POST /contacts/search".to_owned(), Fault::Status(400, None)));
            });
        }
    };
    refused();
    rounds(&world, 3).await;
    assert!(world.brevo.contact_by_email(JANE).is_some(), "whether somebody has come to her address is not known");
    rounds(&world, 3).await;
    assert_eq!((waiting(&world).await, listed(&world).await), (1, 1));
    world.intercom.knobs(|knobs| knobs.faults.clear());
    cycles(&world).await;
    assert!(world.brevo.contact_by_email(JANE).is_none());
    assert_eq!((waiting(&world).await, listed(&world).await), (0, 0));
    is_quiet(&world).await;
}

/// It is asked about them when it is done, not only when they were last compared.
#[tokio::test(start_paused = true)]
async fn a_filter_that_comes_meanwhile_counts() {
    let limits = "safety: {max_deletes: 1}\n";
    let mut world = World::new(&format!("{}{limits}", on_delete("delete", "delete")));
    let leads: Vec<String> = (0..3).map(|n| world.intercom.create_contact(lead(&format!("l{n}@x.example")))).collect();
    let user_too = world.intercom.create_contact(user("u@x.example"));
    let others = [world.intercom.create_contact(user(JANE)), world.intercom.create_contact(user(JOE))];
    minutes(10).await;
    world.sync().await;
    rounds(&world, 1).await;
    for id in leads.iter().chain([&user_too]) {
        world.intercom.delete(id).unwrap();
    }
    for email in [JANE, JOE] {
        world.brevo.delete(email);
    }
    cycles(&world).await;
    let filter =
        "  filter: {intercom_to_brevo: \"record.role == 'user'\", brevo_to_intercom: \"record.FIRSTNAME == 'No'\"}\n";
    let with_filter = format!("{}{filter}{limits}", on_delete("delete", "delete"));
    world.restart(&with_filter);
    let now = world.doors.clock.now();
    let holds = world.store.read(move |tx| tx.current_holds(now)).await.unwrap();
    assert!(!holds.is_empty());
    for hold in holds {
        world.store.write(move |tx| approve_in(tx, hold.id, now)).await.unwrap();
    }
    cycles(&world).await;
    for n in 0..3 {
        assert!(world.brevo.contact_by_email(&format!("l{n}@x.example")).is_some(), "a lead does not take part");
    }
    assert!(world.brevo.contact_by_email("u@x.example").is_none());
    assert!(others.iter().all(|id| is_there(&world, id)), "nor do they in what comes from Brevo");
    assert_eq!(waiting(&world).await, 0);
    is_quiet(&world).await;
}

/// Nor does it wait for their turn to be compared.
#[tokio::test(start_paused = true)]
async fn a_filter_counts_for_whom_it_was_never_asked_about() {
    let mut world = World::new(&on_delete("delete", "keep"));
    let jane = world.intercom.create_contact(lead(JANE));
    minutes(10).await;
    world.sync().await;
    rounds(&world, 1).await;
    world.intercom.delete(&jane).unwrap();
    let id = IntercomContactId::new(jane.clone());
    world.store.write(move |tx| tx.say_gone(&id, true)).await.unwrap();
    let filter = "  filter: {intercom_to_brevo: \"record.role == 'user'\"}\n";
    world.restart(&format!("{}{filter}", on_delete("delete", "keep")));
    cycles(&world).await;
    assert!(world.brevo.contact_by_email(JANE).is_some() && done(&world).await.is_empty());
}

/// A customer's user under another address.
#[tokio::test(start_paused = true)]
async fn whose_external_id_somebody_has_is_not_gone() {
    let world = World::new(&on_delete("delete", "keep"));
    let with_id = |email: &str, id: &str| ContactSeed { external_id: Some(id.to_owned()), ..user(email) };
    let ids =
        [world.intercom.create_contact(with_id(JANE, "crm-1")), world.intercom.create_contact(with_id(JOE, "crm-2"))];
    minutes(10).await;
    world.sync().await;
    rounds(&world, 1).await;
    for id in &ids {
        world.intercom.delete(id).unwrap();
        let id = IntercomContactId::new(id.clone());
        world.store.write(move |tx| tx.say_gone(&id, true)).await.unwrap();
    }
    let new = world.intercom.create_contact(with_id("jane@new.example", "crm-1"));
    cycles(&world).await;
    assert!(world.brevo.contact_by_email(JANE).is_some(), "she is there under another address");
    assert!(world.brevo.contact_by_email(JOE).is_none());
    assert_eq!(waiting(&world).await, 0);
    is_quiet(&world).await;
    world.intercom.delete(&new).unwrap();
    let new = IntercomContactId::new(new);
    world.store.write(move |tx| tx.say_gone(&new, true)).await.unwrap();
    cycles(&world).await;
    assert!(world.brevo.contact_by_email(JANE).is_none(), "nor under that any more");
    is_quiet(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_list_that_a_tag_follows_is_brevos_own() {
    let config = on_delete("unlist", "keep").replace("direction: both", "direction: brevo_to_intercom");
    let (world, ids) = in_step(&config).await;
    let (users, vips) = (world.brevo.list_id("Users").unwrap(), world.brevo.create_list("VIPs"));
    world.brevo.add_to_list(JANE, vips);
    rounds(&world, 2).await;
    world.intercom.archive(&ids[0]).unwrap();
    cycles(&world).await;
    let lists = world.brevo.contact_by_email(JANE).unwrap().list_ids;
    assert!(lists.contains(&vips) && !lists.contains(&users));
    is_quiet(&world).await;
}

#[tokio::test(start_paused = true)]
async fn who_was_taken_off_without_an_answer_joins_again_by_the_rule() {
    for fault in [Fault::StatusAfterEffect(502), Fault::Status(502, None)] {
        let (world, ids) = in_step(&on_delete("unlist", "keep")).await;
        world.intercom.tag(&ids[0], "VIP").unwrap();
        rounds(&world, 2).await;
        let lists = [world.brevo.list_id("Users").unwrap(), world.brevo.list_id("VIPs").unwrap()];
        world.intercom.archive(&ids[0]).unwrap();
        for method in ["PUT", "POST"] {
            for _ in 0..8 {
                let request = format!("{method} /v3/contacts");
                world.brevo.knobs(|knobs| knobs.common.faults.push_back((request, fault.clone())));
            }
        }
        rounds(&world, 5).await;
        world.brevo.knobs(|knobs| knobs.common.faults.clear());
        cycles(&world).await;
        let off = world.brevo.contact_by_email(JANE).unwrap().list_ids;
        assert!(lists.iter().all(|list| !off.contains(list)), "{off:?}");
        world.intercom.unarchive(&ids[0]).unwrap();
        cycles(&world).await;
        let on = world.brevo.contact_by_email(JANE).unwrap().list_ids;
        assert!(lists.iter().all(|list| on.contains(list)), "{on:?}");
        assert_eq!(world.intercom.contact_tags(&ids[0]), ["VIP"]);
        is_quiet(&world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_state_knows_ends_it_without_reads() {
    let (world, ids) = in_step(&on_delete("delete", "keep")).await;
    // The address that a colleague gives her contact is that of two people.
    world.intercom.create_contact(user("two@example.com"));
    world.intercom.create_contact(lead("two@example.com"));
    assert!(world.brevo.change_email(JANE, "two@example.com"));
    rounds(&world, 1).await;
    world.intercom.delete(&ids[0]).unwrap();
    cycles(&world).await;
    assert_eq!((waiting(&world).await, done(&world).await.len()), (0, 0), "somebody has the address");
    assert!(world.brevo.contact_by_email("two@example.com").is_some());
    assert_eq!(listed(&world).await, 0, "no search was needed, which would find several");
}

#[tokio::test(start_paused = true)]
async fn a_user_who_began_as_a_lead_is_followed() {
    let world = World::new(&on_delete("delete", "keep"));
    let first = world.intercom.create_contact(lead(JANE));
    minutes(10).await;
    world.sync().await;
    rounds(&world, 1).await;
    let second = world.intercom.create_contact(user(JANE));
    rounds(&world, 1).await;
    world.intercom.merge(&first, &second).unwrap();
    cycles(&world).await;
    assert!(world.brevo.contact_by_email(JANE).is_some(), "a merge is no deletion");
    world.intercom.delete(&second).unwrap();
    cycles(&world).await;
    assert!(world.brevo.contact_by_email(JANE).is_none(), "whoever the lead became is gone");
    is_quiet(&world).await;
}

#[tokio::test(start_paused = true)]
async fn our_own_deletion_is_ours_whatever_the_config_says_by_then() {
    let (mut world, ids) = in_step(&on_delete("delete", "keep")).await;
    world.intercom.delete(&ids[0]).unwrap();
    for _ in 0..50 {
        let request = "DELETE /v3/contacts".to_owned();
        world.brevo.knobs(|knobs| knobs.common.faults.push_back((request, Fault::StatusAfterEffect(502))));
    }
    for _ in 0..60 {
        minutes(1).await;
        world.full().await;
        if world.brevo.contact_by_email(JANE).is_none() {
            break;
        }
    }
    world.brevo.knobs(|knobs| knobs.common.faults.clear());
    world.restart(&on_delete("keep", "keep"));
    cycles(&world).await;
    assert_eq!(notices(&world).await, ["deleted_in_intercom"]);
    world.intercom.create_contact(user(JANE));
    cycles(&world).await;
    assert!(world.brevo.contact_by_email(JANE).is_some(), "nobody in Brevo has decided against her");
    is_quiet(&world).await;
}

#[tokio::test(start_paused = true)]
async fn what_was_held_as_opt_outs_is_not_let_go_as_deletions() {
    let limits = "safety: {max_optouts: 1}\n";
    let (mut world, ids) = in_step(&format!("{}{limits}", on_delete("blocklist", "keep"))).await;
    for id in &ids {
        world.intercom.delete(id).unwrap();
    }
    cycles(&world).await;
    let now = world.doors.clock.now();
    let holds = world.store.read(move |tx| tx.current_holds(now)).await.unwrap();
    assert_eq!((holds.len(), holds[0].kind.as_str()), (1, "opt_outs"));
    world.restart(&format!("{}{limits}", on_delete("delete", "keep")));
    rounds(&world, 1).await;
    let held_before = holds[0].id;
    world.store.write(move |tx| approve_in(tx, held_before, now)).await.unwrap();
    cycles(&world).await;
    assert!([JANE, JOE].iter().all(|email| world.brevo.contact_by_email(email).is_some()), "that was no word for it");
    let now = world.doors.clock.now();
    let holds = world.store.read(move |tx| tx.current_holds(now)).await.unwrap();
    let held = holds.iter().find(|hold| hold.kind == "deletes").unwrap();
    let (id, wanted) = (held.id, held.wanted);
    assert_eq!(wanted, 2);
    world.store.write(move |tx| approve_in(tx, id, now)).await.unwrap();
    cycles(&world).await;
    assert!([JANE, JOE].iter().all(|email| world.brevo.contact_by_email(email).is_none()));
    is_quiet(&world).await;
}
