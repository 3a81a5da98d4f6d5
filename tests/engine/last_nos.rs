//! What somebody had said no to in Intercom who is gone before Brevo was told.

use crate::harness::{World, minutes};
use crate::partings::{JANE, JOE, cycles, in_step, is_quiet, lead, on_delete};
use linkspan::engine::approve_in;
use linkspan::sandbox::Fault;

fn is_out(world: &World, email: &str) -> bool {
    world.brevo.contact_by_email(email).unwrap().email_blacklisted
}

/// Somebody says no, and Brevo does not answer.
async fn says_no_in_vain(world: &World, id: &str, fault: &Fault) {
    world.intercom.unsubscribe(id).unwrap();
    minutes(10).await;
    world.brevo.knobs(|knobs| {
        for _ in 0..8 {
            knobs.common.faults.push_back(("PUT /v3/contacts".to_owned(), fault.clone()));
        }
    });
    world.sync().await;
    world.brevo.knobs(|knobs| knobs.common.faults.clear());
}

#[tokio::test(start_paused = true)]
async fn who_says_no_and_is_gone_is_out_in_brevo() {
    for fault in [Fault::Status(502, None), Fault::StatusAfterEffect(502)] {
        for deleted in [true, false] {
            let (world, ids) = in_step(&on_delete("keep", "keep")).await;
            says_no_in_vain(&world, &ids[0], &fault).await;
            let goes = if deleted { world.intercom.delete(&ids[0]) } else { world.intercom.archive(&ids[0]) };
            goes.unwrap();
            cycles(&world).await;
            assert!(is_out(&world, JANE) && !is_out(&world, JOE), "{fault:?}, deleted: {deleted}");
            is_quiet(&world).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_limits_hold_waits_for_its_approval_though_they_are_gone() {
    let config = format!("{}safety: {{max_optouts: 1}}\n", on_delete("keep", "keep"));
    let (mut world, ids) = in_step(&config).await;
    for id in &ids {
        world.intercom.unsubscribe(id).unwrap();
    }
    minutes(10).await;
    world.sync().await;
    for id in &ids {
        world.intercom.delete(id).unwrap();
    }
    cycles(&world).await;
    world.restart(&config);
    cycles(&world).await;
    assert!(!is_out(&world, JANE) && !is_out(&world, JOE), "two are too many");
    let now = world.doors.clock.now();
    let holds = world.store.read(move |tx| tx.current_holds(now)).await.unwrap();
    assert_eq!((holds.len(), holds[0].kind.as_str(), holds[0].wanted), (1, "opt_outs", 2));
    let id = holds[0].id;
    world.store.write(move |tx| approve_in(tx, id, now)).await.unwrap();
    cycles(&world).await;
    assert!(is_out(&world, JANE) && is_out(&world, JOE));
    is_quiet(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_yes_in_brevo_is_not_reverted_when_somebody_goes() {
    let (world, ids) = in_step(&on_delete("keep", "keep")).await;
    // Her no is her own, his is ours.
    world.intercom.unsubscribe(&ids[0]).unwrap();
    world.brevo.unsubscribe(JOE);
    for _ in 0..2 {
        minutes(10).await;
        world.sync().await;
    }
    assert!(is_out(&world, JANE) && is_out(&world, JOE));
    for email in [JANE, JOE] {
        world.brevo.resubscribe(email);
    }
    for _ in 0..2 {
        minutes(10).await;
        world.sync().await;
    }
    for id in &ids {
        world.intercom.delete(id).unwrap();
    }
    cycles(&world).await;
    assert!(!is_out(&world, JANE) && !is_out(&world, JOE));
    is_quiet(&world).await;
}

#[tokio::test(start_paused = true)]
async fn the_no_of_one_of_an_address_who_is_gone_counts_for_the_address() {
    let (world, _) = in_step(&on_delete("keep", "keep")).await;
    let second = world.intercom.create_contact(lead(JANE));
    cycles(&world).await;
    says_no_in_vain(&world, &second, &Fault::Status(502, None)).await;
    world.intercom.delete(&second).unwrap();
    cycles(&world).await;
    assert!(is_out(&world, JANE));
    is_quiet(&world).await;
}
