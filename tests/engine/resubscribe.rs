//! Opt-ins that travel: `consent.resubscribe: propagate`.

use crate::harness::{World, minutes};
use linkspan::model::{BrevoContactId, Email, SideName};
use linkspan::sandbox::Fault;
use linkspan::sandbox::intercom::ContactSeed;
use linkspan::store::opt_ins::CarriedOptIn;
use serde_json::json;

const PROPAGATE: &str = "consent: {resubscribe: propagate}";
const JANE: &str = "jane@example.com";

fn user(email: &str) -> ContactSeed {
    ContactSeed { email: Some(email.to_owned()), name: Some("Jane".to_owned()), ..ContactSeed::default() }
}

async fn cycle(world: &World) {
    minutes(20).await;
    world.sync().await;
}

/// Jane, in step, and out on both sides since `side` said so: long enough ago.
async fn out(config: &str, in_brevo: bool) -> (World, String) {
    let world = World::new(config);
    let jane = world.intercom.create_contact(user(JANE));
    cycle(&world).await;
    cycle(&world).await;
    if in_brevo {
        world.brevo.unsubscribe(JANE);
    } else {
        world.intercom.unsubscribe(&jane).unwrap();
    }
    for _ in 0..3 {
        cycle(&world).await;
    }
    assert!(is_out(&world, &jane) && is_blocked(&world));
    (world, jane)
}

fn is_out(world: &World, id: &str) -> bool {
    world.intercom.contact(id).unwrap()["unsubscribed_from_emails"] == json!(true)
}

fn is_blocked(world: &World) -> bool {
    world.brevo.contact_by_email(JANE).unwrap().email_blacklisted
}

/// Bodies that loosened anything.
fn loosened(world: &World) -> Vec<String> {
    let (intercom, brevo) = (world.intercom.log().writes(), world.brevo.log().writes());
    let bodies = intercom.iter().chain(&brevo).map(|write| String::from_utf8_lossy(&write.body).into_owned());
    bodies.filter(|body| body.contains("_emails\":false") || body.contains("Blacklisted\":false")).collect()
}

async fn diverges(world: &World) -> u64 {
    world.store.read(|tx| tx.counts()).await.unwrap().notices.get("consent_diverges").copied().unwrap_or(0)
}

async fn is_quiet(world: &World) {
    let writes = || (world.intercom.log().write_count(), world.brevo_writes());
    let before = writes();
    for full in [false, true, false] {
        minutes(20).await;
        let _ = if full { world.full().await } else { world.sync().await };
    }
    assert_eq!(writes(), before, "a quiet cycle wrote");
}

#[tokio::test(start_paused = true)]
async fn a_newer_opt_in_reaches_the_other_side_once() {
    for out_in_brevo in [true, false] {
        for in_in_brevo in [true, false] {
            let (world, jane) = out(PROPAGATE, out_in_brevo).await;
            if in_in_brevo {
                assert!(world.brevo.resubscribe(JANE));
            } else {
                world.intercom.resubscribe(&jane).unwrap();
            }
            cycle(&world).await;
            cycle(&world).await;
            assert!(!is_out(&world, &jane) && !is_blocked(&world), "{out_in_brevo} {in_in_brevo}");
            assert_eq!(loosened(&world).len(), 1);
            let changes = world.store.read(|tx| tx.changes(None, 100)).await.unwrap();
            assert!(changes.iter().any(|change| change.what.starts_with("opt-in of ")));
            is_quiet(&world).await;
            assert_eq!(diverges(&world).await, 0);
            // And the next opt-out is one like any other, on whichever side.
            if in_in_brevo {
                world.intercom.unsubscribe(&jane).unwrap();
            } else {
                world.brevo.unsubscribe(JANE);
            }
            cycle(&world).await;
            assert!(is_blocked(&world) && is_out(&world, &jane));
            is_quiet(&world).await;
            assert_eq!(loosened(&world).len(), 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn by_default_it_stays_where_it_was_given() {
    for in_in_brevo in [true, false] {
        let (world, jane) = out("", true).await;
        if in_in_brevo {
            world.brevo.resubscribe(JANE);
        } else {
            world.intercom.resubscribe(&jane).unwrap();
        }
        is_quiet(&world).await;
        assert_eq!((loosened(&world).len(), diverges(&world).await), (0, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_proven_is_not_carried_and_listed() {
    // Both within what the clocks of two vendors may differ by, and within one look.
    let (world, jane) = out(PROPAGATE, true).await;
    world.intercom.resubscribe(&jane).unwrap();
    world.brevo.edit_attributes(JANE, &[("FIRSTNAME", json!("Touched"))]);
    for _ in 0..2 {
        cycle(&world).await;
    }
    assert!(!is_out(&world, &jane) && is_blocked(&world), "something about the contact changed after the last look");
    assert_eq!((loosened(&world).len(), diverges(&world).await), (0, 1));
    // What was touched is restored by a full read.
    minutes(20).await;
    world.full().await;
    is_quiet(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_later_opt_out_stands() {
    let (world, jane) = out(PROPAGATE, true).await;
    world.intercom.resubscribe(&jane).unwrap();
    minutes(1).await;
    // In Brevo they go back and forth, unseen.
    world.brevo.resubscribe(JANE);
    minutes(1).await;
    world.brevo.unsubscribe(JANE);
    cycle(&world).await;
    cycle(&world).await;
    assert!(is_blocked(&world));
    assert_eq!(loosened(&world).len(), 0);
}

#[tokio::test(start_paused = true)]
async fn nobody_of_the_address_may_be_out() {
    let (world, jane) = out(PROPAGATE, true).await;
    let other = world.intercom.create_contact(ContactSeed { lead: true, ..user(JANE) });
    cycle(&world).await;
    cycle(&world).await;
    assert!(is_out(&world, &other));
    world.intercom.resubscribe(&jane).unwrap();
    cycle(&world).await;
    cycle(&world).await;
    assert!(is_blocked(&world) && is_out(&world, &other));
    world.intercom.resubscribe(&other).unwrap();
    cycle(&world).await;
    cycle(&world).await;
    assert!(!is_blocked(&world), "now all of them say so");
    is_quiet(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_complaint_is_not_lifted() {
    let (world, jane) = out(PROPAGATE, false).await;
    world.intercom.mark_spam(&jane).unwrap();
    cycle(&world).await;
    world.brevo.resubscribe(JANE);
    cycle(&world).await;
    cycle(&world).await;
    assert!(is_out(&world, &jane));
    assert_eq!(loosened(&world).len(), 0);
    is_quiet(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_asked_about() {
    for acts in [true, false] {
        let (world, jane) = out(PROPAGATE, true).await;
        let fault = if acts { Fault::StatusAfterEffect(502) } else { Fault::Status(502, None) };
        world.brevo.knobs(|knobs| {
            for _ in 0..8 {
                knobs.common.faults.push_back(("PUT /v3/contacts".to_owned(), fault.clone()));
            }
        });
        world.intercom.resubscribe(&jane).unwrap();
        cycle(&world).await;
        world.brevo.knobs(|knobs| knobs.common.faults.clear());
        for _ in 0..3 {
            cycle(&world).await;
        }
        assert!(!is_out(&world, &jane) && !is_blocked(&world), "acts: {acts}");
        is_quiet(&world).await;
    }
}

/// The request that opts somebody in again lands after they have opted out once more: that one stands. `looked`: a read has
/// shown the opt-out before; else a notice told of it.
async fn a_late_opt_in(towards_brevo: bool) {
    let (world, jane) = out(PROPAGATE, true).await;
    let fault = || Fault::Status(502, None);
    for _ in 0..200 {
        world.brevo.knobs(|knobs| knobs.common.faults.push_back(("PUT /v3/contacts".to_owned(), fault())));
        world.intercom.knobs(|knobs| knobs.faults.push_back(("PUT /contacts".to_owned(), fault())));
    }
    if towards_brevo {
        world.intercom.resubscribe(&jane).unwrap();
    } else {
        world.brevo.resubscribe(JANE);
    }
    cycle(&world).await;
    world.brevo.knobs(|knobs| knobs.common.faults.clear());
    world.intercom.knobs(|knobs| knobs.faults.clear());
    assert_eq!((is_blocked(&world), is_out(&world, &jane)), (towards_brevo, !towards_brevo), "it has not landed yet");
    // They say no once more, where the request is on its way to, and a read shows it.
    let say = |no: bool| match (towards_brevo, no) {
        (true, true) => assert!(world.brevo.resubscribe(JANE) && world.brevo.unsubscribe(JANE)),
        (true, false) => assert!(world.brevo.resubscribe(JANE)),
        (false, true) => {
            world.intercom.resubscribe(&jane).unwrap();
            world.intercom.unsubscribe(&jane).unwrap();
        }
        (false, false) => world.intercom.resubscribe(&jane).unwrap(),
    };
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    say(true);
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    world.sync().await;
    // Now it lands.
    say(false);
    for _ in 0..3 {
        cycle(&world).await;
    }
    // (In Intercom nobody has been shown that they had said yes in between: in Brevo their yes stands.)
    assert_eq!((is_blocked(&world), is_out(&world, &jane)), (towards_brevo, !towards_brevo));
    is_quiet(&world).await;
}

#[tokio::test(start_paused = true)]
async fn an_opt_out_that_a_late_opt_in_of_ours_lifts_in_brevo_is_put_back() {
    a_late_opt_in(true).await;
}

#[tokio::test(start_paused = true)]
async fn an_opt_out_that_a_late_opt_in_of_ours_lifts_in_intercom_is_put_back() {
    a_late_opt_in(false).await;
}

#[tokio::test(start_paused = true)]
async fn an_opt_in_older_than_the_opt_out_is_not_carried_however_late_it_shows() {
    for apart in [0, 1, 30, 59] {
        // Intercom's index lags, so that the opt-in shows after the opt-out in Brevo.
        let world = World::with_lag(
            PROPAGATE,
            std::sync::Arc::new(linkspan::doors::NoCrash),
            std::time::Duration::from_secs(240),
        );
        let jane = world.intercom.create_contact(user(JANE));
        cycle(&world).await;
        cycle(&world).await;
        world.intercom.unsubscribe(&jane).unwrap();
        for _ in 0..3 {
            cycle(&world).await;
        }
        assert!(is_blocked(&world));
        // In Brevo they had come back, and say no again just after they said yes in Intercom.
        world.intercom.resubscribe(&jane).unwrap();
        tokio::time::sleep(std::time::Duration::from_secs(apart)).await;
        world.brevo.resubscribe(JANE);
        world.brevo.unsubscribe(JANE);
        for _ in 0..4 {
            minutes(3).await;
            world.sync().await;
        }
        cycle(&world).await;
        assert!(is_blocked(&world), "{apart}");
        assert_eq!(loosened(&world).len(), 0);
        is_quiet(&world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn somebody_of_the_address_who_is_not_known_yet_may_have_said_no() {
    let (world, jane) = out(PROPAGATE, true).await;
    world.intercom.resubscribe(&jane).unwrap();
    // The opt-in is seen, and another contact of hers comes after the read that shows it, and before its turn.
    minutes(20).await;
    let other = world.intercom.create_contact(ContactSeed { lead: true, ..user(JANE) });
    world.intercom.unsubscribe(&other).unwrap();
    minutes(4).await;
    world.sync().await;
    cycle(&world).await;
    cycle(&world).await;
    assert!(is_blocked(&world), "one of them is out");
    assert_eq!(loosened(&world), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_bounce_that_is_cleared_is_nobodys_opt_in() {
    let (world, jane) = out(PROPAGATE, true).await;
    // Intercom says no for a bounce alone, Brevo because she said so.
    world.intercom.resubscribe(&jane).unwrap();
    world.intercom.mark_bounced(&jane).unwrap();
    cycle(&world).await;
    cycle(&world).await;
    let before = loosened(&world).len();
    world.brevo.unsubscribe(JANE);
    cycle(&world).await;
    world.intercom.clear_bounce(&jane).unwrap();
    cycle(&world).await;
    cycle(&world).await;
    assert!(is_blocked(&world));
    assert_eq!(loosened(&world).len(), before);
}

#[tokio::test(start_paused = true)]
async fn an_opt_in_is_about_the_address_and_the_contact_that_it_was_given_for() {
    for (email, other) in [("old@example.com", false), (JANE, true)] {
        let (world, jane) = out(PROPAGATE, true).await;
        world.intercom.resubscribe(&jane).unwrap();
        let contact = world.brevo.contact_by_email(JANE).unwrap().id;
        let now = world.doors.clock.now();
        // One that waits since she had another address, or another contact.
        let row = CarriedOptIn {
            link: 1,
            side: SideName::Brevo,
            email: Email::parse(email).ok(),
            brevo: Some(BrevoContactId::new(if other { contact + 1 } else { contact })),
            after: now + chrono::TimeDelta::hours(1),
            since: now,
            due: now,
            until: None,
        };
        world.store.write(move |tx| tx.put_opt_in(&row)).await.unwrap();
        cycle(&world).await;
        cycle(&world).await;
        assert!(is_blocked(&world));
        assert_eq!(loosened(&world), Vec::<String>::new());
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_has_no_address_any_more_is_not_opted_in_by_it() {
    let (world, jane) = out(PROPAGATE, false).await;
    world.intercom.set_email(&jane, None).unwrap();
    cycle(&world).await;
    assert!(world.brevo.resubscribe(JANE));
    for _ in 0..3 {
        cycle(&world).await;
    }
    assert!(is_out(&world, &jane));
    assert_eq!(loosened(&world), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn who_has_no_address_any_more_says_yes_for_nobody() {
    let (world, jane) = out(PROPAGATE, false).await;
    world.intercom.set_email(&jane, None).unwrap();
    cycle(&world).await;
    world.intercom.resubscribe(&jane).unwrap();
    for _ in 0..3 {
        cycle(&world).await;
    }
    assert!(is_blocked(&world));
    assert_eq!(loosened(&world), Vec::<String>::new());
}
