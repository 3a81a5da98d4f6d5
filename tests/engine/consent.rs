//! Opt-outs that are made in Brevo and travel to Intercom.

use crate::crashes::{CrashAt, run_to_the_end};
use crate::harness::{World, minutes};
use linkspan::sandbox::Fault;
use linkspan::sandbox::brevo::ContactSeed as BrevoSeed;
use linkspan::sandbox::intercom::ContactSeed;
use serde_json::json;
use std::sync::Arc;

const BOTH: &str = "
connectors:
  intercom:
    lists:
      all_users: Users
consent:
  direction: both
";

fn user(email: &str) -> ContactSeed {
    ContactSeed { email: Some(email.to_owned()), name: Some("Jane Doe".to_owned()), ..ContactSeed::default() }
}

fn lead(email: &str) -> ContactSeed {
    ContactSeed { lead: true, ..user(email) }
}

/// A world in which these are in step.
async fn in_step(seeds: Vec<ContactSeed>) -> (World, Vec<String>) {
    let world = World::new(BOTH);
    let ids = seeds.into_iter().map(|seed| world.intercom.create_contact(seed)).collect();
    minutes(10).await;
    world.sync().await;
    minutes(10).await;
    world.sync().await;
    assert_eq!(world.intercom.log().write_count(), 0);
    (world, ids)
}

fn is_out(world: &World, id: &str) -> bool {
    world.intercom.contact(id).unwrap()["unsubscribed_from_emails"] == json!(true)
}

fn is_blocked(world: &World, email: &str) -> bool {
    world.brevo.contact_by_email(email).unwrap().email_blacklisted
}

/// What was written to Intercom since.
fn told(world: &World, since: usize) -> Vec<String> {
    let told = |write: &linkspan::sandbox::LoggedRequest| {
        format!("{} {} {}", write.method, write.target, String::from_utf8_lossy(&write.body))
    };
    world.intercom.log().writes()[since..].iter().map(told).collect()
}

/// No cycle writes anything any more, and nothing ever said that somebody may be mailed again.
async fn is_quiet(world: &World) {
    for full in [false, true, false] {
        minutes(6).await;
        let before = (world.brevo_writes(), world.intercom.log().write_count());
        let _ = if full { world.full().await } else { world.sync().await };
        let brevo: Vec<String> = world.brevo.log().writes()[before.0..]
            .iter()
            .map(|write| format!("{} {}", write.target, String::from_utf8_lossy(&write.body)))
            .collect();
        assert!(brevo.is_empty(), "a quiet cycle wrote {brevo:?}");
        assert_eq!(told(world, before.1), [""; 0], "a quiet cycle wrote to Intercom");
    }
    never_looser(world);
}

fn never_looser(world: &World) {
    for write in world.intercom.log().writes() {
        let body = String::from_utf8_lossy(&write.body).into_owned();
        assert_eq!(body, r#"{"unsubscribed_from_emails":true}"#, "{}", write.target);
    }
}

async fn notices(world: &World) -> u64 {
    world.store.read(|tx| tx.counts()).await.unwrap().notices.get("consent_diverges").copied().unwrap_or(0)
}

#[tokio::test(start_paused = true)]
async fn an_opt_out_in_brevo_reaches_intercom_once() {
    let (world, ids) = in_step(vec![user("jane@example.com"), user("joe@example.com")]).await;
    world.brevo.unsubscribe("jane@example.com");
    let summary = world.sync().await;
    assert_eq!((summary.written.opted_out, summary.written.failed), (1, 0));
    let expected = format!(r#"PUT /contacts/{} {{"unsubscribed_from_emails":true}}"#, ids[0]);
    assert_eq!(told(&world, 0), [expected]);
    assert!(is_out(&world, &ids[0]) && !is_out(&world, &ids[1]));
    is_quiet(&world).await;
    assert_eq!(notices(&world).await, 0);
}

#[tokio::test(start_paused = true)]
async fn with_one_direction_intercom_is_only_read() {
    let mut world = World::new("consent: {direction: intercom_to_brevo}");
    let jane = world.intercom.create_contact(user("jane@example.com"));
    minutes(10).await;
    world.sync().await;
    world.brevo.unsubscribe("jane@example.com");
    minutes(10).await;
    world.full().await;
    assert_eq!((world.intercom.log().write_count(), notices(&world).await), (0, 1));
    // Once opt-outs travel, as they do by default, those that stand there do.
    world.restart("");
    minutes(10).await;
    world.sync().await;
    assert!(is_out(&world, &jane));
    is_quiet(&world).await;
    assert_eq!(notices(&world).await, 0);
}

#[tokio::test(start_paused = true)]
async fn at_the_first_link_the_stricter_wins_on_both_sides() {
    let world = World::new(BOTH);
    let jane = world.intercom.create_contact(user("jane@example.com"));
    let joe = world.intercom.create_contact(user("joe@example.com"));
    world.intercom.unsubscribe(&joe).unwrap();
    for email in ["jane@example.com", "joe@example.com"] {
        world.brevo.create_contact(BrevoSeed { email: Some(email.to_owned()), ..BrevoSeed::default() });
    }
    world.brevo.hard_bounce("jane@example.com");
    minutes(10).await;
    let dry = world.before_the_first().await;
    assert_eq!((dry.opt_outs, dry.opt_outs_in_intercom), (1, 1));
    assert_eq!(world.intercom.log().write_count(), 0, "a dry run writes nothing");
    world.sync().await;
    assert!(is_out(&world, &jane) && is_blocked(&world, "joe@example.com"));
    assert_eq!(told(&world, 0).len(), 1);
    is_quiet(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_later_opt_in_stays_where_it_was_given() {
    let (world, ids) = in_step(vec![user("jane@example.com"), user("joe@example.com")]).await;
    world.brevo.unsubscribe("jane@example.com");
    world.brevo.unsubscribe("joe@example.com");
    world.sync().await;
    minutes(10).await;
    world.intercom.resubscribe(&ids[0]).unwrap();
    world.brevo.resubscribe("joe@example.com");
    is_quiet(&world).await;
    assert!(!is_out(&world, &ids[0]) && is_blocked(&world, "jane@example.com"));
    assert!(is_out(&world, &ids[1]) && !is_blocked(&world, "joe@example.com"));
    assert_eq!(notices(&world).await, 2);
    // And what they say after that is said anew.
    world.intercom.unsubscribe(&ids[0]).unwrap();
    world.brevo.unsubscribe("joe@example.com");
    minutes(10).await;
    world.sync().await;
    assert!(is_out(&world, &ids[0]) && is_blocked(&world, "jane@example.com"));
    assert!(is_out(&world, &ids[1]) && is_blocked(&world, "joe@example.com"));
    is_quiet(&world).await;
    assert_eq!(notices(&world).await, 0);
}

/// Jane has said no before she is made in Brevo, and takes that back in Intercom before anything is read there.
#[tokio::test(start_paused = true)]
async fn who_takes_back_the_no_that_a_contact_was_made_with_is_not_told_of_it() {
    for imports in ["", "limits: {brevo: {import_threshold: 1}}\n"] {
        let world = World::new(&format!("{BOTH}{imports}"));
        let jane = world.intercom.create_contact(ContactSeed { unsubscribed: true, ..user("jane@example.com") });
        minutes(10).await;
        world.sync().await;
        assert!(is_blocked(&world, "jane@example.com"), "{imports}");
        world.intercom.resubscribe(&jane).unwrap();
        is_quiet(&world).await;
        assert!(!is_out(&world, &jane) && is_blocked(&world, "jane@example.com"), "{imports}");
    }
}

/// And in Brevo, where she was made with it: nothing of ours has lifted that.
#[tokio::test(start_paused = true)]
async fn who_takes_back_in_brevo_the_no_that_they_were_made_with_has_said_so() {
    let world = World::new(BOTH);
    let jane = world.intercom.create_contact(ContactSeed { unsubscribed: true, ..user("jane@example.com") });
    minutes(10).await;
    world.sync().await;
    assert!(world.brevo.resubscribe("jane@example.com"));
    is_quiet(&world).await;
    assert!(is_out(&world, &jane) && !is_blocked(&world, "jane@example.com"));
    // What she says there after that is another no.
    world.intercom.resubscribe(&jane).unwrap();
    minutes(10).await;
    world.sync().await;
    world.brevo.unsubscribe("jane@example.com");
    minutes(10).await;
    world.sync().await;
    assert!(is_out(&world, &jane));
}

#[tokio::test(start_paused = true)]
async fn each_member_of_an_address_is_told_once() {
    let email = "jane@example.com";
    let (world, ids) = in_step(vec![user(email), lead(email), lead(email)]).await;
    world.brevo.unsubscribe(email);
    world.sync().await;
    assert!(ids.iter().all(|id| is_out(&world, id)));
    minutes(10).await;
    world.intercom.resubscribe(&ids[1]).unwrap();
    is_quiet(&world).await;
    assert!(!is_out(&world, &ids[1]) && is_out(&world, &ids[0]) && is_blocked(&world, email));
    // Who comes later has not been told.
    let late = world.intercom.create_contact(lead(email));
    minutes(10).await;
    world.sync().await;
    assert!(is_out(&world, &late) && !is_out(&world, &ids[1]));
    is_quiet(&world).await;
}

#[tokio::test(start_paused = true)]
async fn one_members_opt_out_reaches_brevo_and_the_other_members() {
    let email = "jane@example.com";
    let (world, ids) = in_step(vec![user(email), lead(email)]).await;
    world.intercom.unsubscribe(&ids[1]).unwrap();
    world.sync().await;
    assert!(is_blocked(&world, email) && is_out(&world, &ids[0]));
    assert_eq!(told(&world, 0).len(), 1, "who said so is not told");
    is_quiet(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_bounce_is_another_no_whoever_of_the_address_had_said_one_before() {
    let email = "jane@example.com";
    for bounces in [0, 1] {
        let (world, ids) = in_step(vec![user(email), lead(email)]).await;
        world.intercom.unsubscribe(&ids[1]).unwrap();
        world.sync().await;
        assert!(is_blocked(&world, email) && is_out(&world, &ids[0]));
        is_quiet(&world).await;
        world.brevo.resubscribe(email);
        minutes(10).await;
        world.sync().await;
        assert!(!is_blocked(&world, email), "their own opt-in");
        world.intercom.mark_bounced(&ids[bounces]).unwrap();
        minutes(10).await;
        world.sync().await;
        assert!(is_blocked(&world, email), "which is older than the bounce of {bounces}");
        is_quiet(&world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_no_persons_edit_and_is_asked_about() {
    let (world, ids) = in_step(vec![user("jane@example.com")]).await;
    world.brevo.unsubscribe("jane@example.com");
    world.intercom.knobs(|knobs| {
        for _ in 0..8 {
            knobs.faults.push_back(("PUT /contacts".to_owned(), Fault::StatusAfterEffect(502)));
        }
    });
    let before = world.brevo_writes();
    world.sync().await;
    assert!(is_out(&world, &ids[0]), "it acted");
    world.intercom.knobs(|knobs| knobs.faults.clear());
    let asked = told(&world, 0).len();
    minutes(5).await;
    world.sync().await;
    is_quiet(&world).await;
    assert_eq!(told(&world, 0).len(), asked, "what has landed is not sent again");
    assert_eq!(world.brevo_writes(), before, "our own write is no opt-out that Brevo has to learn of");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_never_arrived_is_sent_again() {
    let (world, ids) = in_step(vec![user("jane@example.com")]).await;
    world.brevo.unsubscribe("jane@example.com");
    world.intercom.knobs(|knobs| {
        for _ in 0..8 {
            knobs.faults.push_back(("PUT /contacts".to_owned(), Fault::Status(502, None)));
        }
    });
    world.sync().await;
    assert!(!is_out(&world, &ids[0]));
    world.intercom.knobs(|knobs| knobs.faults.clear());
    for _ in 0..3 {
        minutes(5).await;
        world.sync().await;
    }
    assert!(is_out(&world, &ids[0]));
    is_quiet(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_token_that_may_not_write_stops_nothing_else_and_is_listed() {
    let (world, ids) = in_step(vec![user("jane@example.com"), user("joe@example.com")]).await;
    world.brevo.unsubscribe("jane@example.com");
    world.intercom.edit_contact(&ids[1], &json!({"name": "Joe Roe"})).unwrap();
    world.intercom.knobs(|knobs| {
        knobs.faults.push_back(("PUT /contacts".to_owned(), Fault::Status(403, None)));
    });
    let summary = world.sync().await;
    assert_eq!((summary.written.failed, summary.outcome()), (1, "partial"));
    assert_eq!(world.attribute("joe@example.com", "LASTNAME"), Some(json!("Roe")));
    let listed = world.store.read(|tx| tx.failures(10)).await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].field.as_str(), listed[0].status), ("unsubscribed_from_emails", Some(403)));
    minutes(6).await;
    world.sync().await;
    assert!(is_out(&world, &ids[0]));
    assert!(world.store.read(|tx| tx.failures(10)).await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn who_was_merged_away_is_told_as_who_they_are_now() {
    let email = "jane@example.com";
    let (world, ids) = in_step(vec![lead(email)]).await;
    let survivor = world.intercom.create_contact(user("other@example.com"));
    minutes(10).await;
    world.sync().await;
    world.intercom.merge(&ids[0], &survivor).unwrap();
    world.intercom.set_email(&survivor, Some(email)).unwrap();
    world.brevo.unsubscribe(email);
    for _ in 0..4 {
        minutes(10).await;
        world.full().await;
    }
    assert!(is_out(&world, &survivor));
    is_quiet(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_rename_that_lifts_the_blocklist_says_nothing_to_intercom() {
    let (world, ids) = in_step(vec![user("jane@example.com")]).await;
    world.brevo.unsubscribe("jane@example.com");
    world.sync().await;
    minutes(10).await;
    world.intercom.resubscribe(&ids[0]).unwrap();
    world.brevo.change_email("jane@example.com", "jane@example.org");
    minutes(10).await;
    world.full().await;
    minutes(10).await;
    world.full().await;
    is_quiet(&world).await;
    assert!(!is_out(&world, &ids[0]), "she has been told, and has answered");
}

#[tokio::test(start_paused = true)]
async fn what_a_changed_address_lifts_from_a_contact_that_is_nobodys_is_put_back_for_whoever_comes() {
    let (world, ids) = in_step(vec![user("jane@example.com")]).await;
    let by_hand = |email: &str| BrevoSeed { email: Some(email.to_owned()), ..BrevoSeed::default() };
    world.brevo.create_contact(by_hand("kim@example.com"));
    world.brevo.blocklist("kim@example.com");
    world.intercom.unsubscribe(&ids[0]).unwrap();
    for _ in 0..2 {
        minutes(10).await;
        world.sync().await;
    }
    // Jane gets another contact before hers, which has another address by now, is put out again.
    world.brevo.change_email("jane@example.com", "joe@example.com");
    world.brevo.create_contact(by_hand("jane@example.com"));
    world.brevo.change_email("kim@example.com", "kay@example.com");
    minutes(10).await;
    world.sync().await;
    for email in ["joe@example.com", "kay@example.com"] {
        assert!(!is_blocked(&world, email), "nothing is written to whoever is nobody's");
        world.brevo.edit_attributes(email, &[("FIRSTNAME", json!("By hand"))]);
    }
    minutes(10).await;
    world.sync().await;
    let came = ["joe@example.com", "kay@example.com"].map(|email| world.intercom.create_contact(user(email)));
    minutes(10).await;
    world.sync().await;
    for email in ["jane@example.com", "joe@example.com", "kay@example.com"] {
        assert!(is_blocked(&world, email), "{email}");
    }
    is_quiet(&world).await;
    // What they say after that is theirs.
    assert!(came.iter().all(|id| is_out(&world, id)));
    world.brevo.resubscribe("joe@example.com");
    is_quiet(&world).await;
    assert!(!is_blocked(&world, "joe@example.com"));
}

#[tokio::test(start_paused = true)]
async fn a_crash_anywhere_ends_where_none_ends() {
    for place in ["after_opt_out_intent", "after_opt_out_write", "after_page"] {
        for nth in [1, 2] {
            let crash = Arc::new(CrashAt::default());
            let mut world = World::with_crashes(BOTH, crash.clone());
            let ids: Vec<String> =
                (0..30).map(|n| world.intercom.create_contact(user(&format!("p{n}@example.com")))).collect();
            minutes(10).await;
            world.sync().await;
            for n in 0..30 {
                world.brevo.unsubscribe(&format!("p{n}@example.com"));
            }
            minutes(10).await;
            crash.arm(place, nth);
            let brevo = world.brevo_writes();
            run_to_the_end(&mut world, &crash).await;
            assert!(ids.iter().all(|id| is_out(&world, id)), "{place} {nth}");
            assert_eq!(world.brevo_writes(), brevo, "{place} {nth}: our own writes are no news for Brevo");
            is_quiet(&world).await;
        }
    }
}
