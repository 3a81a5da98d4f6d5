//! Limits on harm: what would be too much waits until somebody approves it.

use crate::harness::{World, minutes};
use linkspan::engine::{Approved, approve_in};
use linkspan::sandbox::brevo::ContactSeed as BrevoSeed;
use linkspan::sandbox::intercom::ContactSeed;
use linkspan::store::harm::{Hold, HoldState};
use serde_json::{Value as Json, json};

const PEOPLE: usize = 12;

const CONFIG: &str = "
field_mapping:
  name: FULLNAME
  custom_attributes.plan: {to: PLAN, on_clear: propagate}
consent: {direction: both}
safety: {max_blanked: 5, max_optouts: 5, max_creates: 4}
";

const BACK: &str = "
field_mapping:
  name: FULLNAME
  custom_attributes.score: {to: SCORE, direction: brevo_to_intercom, on_clear: propagate}
  custom_attributes.level: {to: LEVEL, direction: brevo_to_intercom}
safety: {max_blanked: 5}
";

fn email(n: usize) -> String {
    format!("p{n}@x.example")
}

fn somebody(n: usize) -> ContactSeed {
    ContactSeed { email: Some(email(n)), name: Some("Ann Ash".to_owned()), ..ContactSeed::default() }
}

/// A world in which people with a plan are in step.
async fn in_step(yaml: &str) -> (World, Vec<String>) {
    let world = World::new(yaml);
    world.intercom.define_attribute("contact", "plan", "string", &[]).unwrap();
    let ids: Vec<String> = (0..PEOPLE).map(|n| world.intercom.create_contact(somebody(n))).collect();
    for id in &ids {
        world.intercom.edit_contact(id, &json!({"custom_attributes": {"plan": "gold"}})).unwrap();
    }
    settled(&world).await;
    for n in 0..PEOPLE {
        assert_eq!(world.attribute(&email(n), "PLAN"), Some(json!("gold")), "a first fill is not held");
    }
    assert_eq!(open(&world).await, []);
    (world, ids)
}

/// Two runs, and time before each.
async fn settled(world: &World) {
    for _ in 0..2 {
        minutes(10).await;
        world.sync().await;
    }
}

async fn holds(world: &World) -> Vec<Hold> {
    let now = world.doors.clock.now();
    world.store.read(move |tx| tx.current_holds(now)).await.unwrap()
}

/// What is held: kind and how many.
async fn open(world: &World) -> Vec<(String, u64)> {
    let open = holds(world).await.into_iter().filter(|hold| hold.state == HoldState::Open);
    open.map(|hold| (hold.kind, hold.wanted)).collect()
}

async fn approve(world: &World) -> Approved {
    let (id, now) = (holds(world).await.first().unwrap().id, world.doors.clock.now());
    world.store.write(move |tx| approve_in(tx, id, now)).await.unwrap()
}

fn count(world: &World, name: &str, value: Option<&Json>) -> usize {
    (0..PEOPLE).filter(|n| world.attribute(&email(*n), name).filter(|value| !value.is_null()).as_ref() == value).count()
}

fn blocked(world: &World) -> usize {
    (0..PEOPLE).filter(|n| world.brevo.contact_by_email(&email(*n)).unwrap().email_blacklisted).count()
}

fn out(world: &World, ids: &[String]) -> usize {
    ids.iter().filter(|id| world.intercom.contact(id).unwrap()["unsubscribed_from_emails"] == json!(true)).count()
}

fn empty_plans(world: &World, ids: &[String]) {
    for id in ids {
        let edit = json!({"name": "Ann Birch", "custom_attributes": {"plan": null}});
        world.intercom.edit_contact(id, &edit).unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_that_was_emptied_blanks_nobody_until_that_is_approved() {
    let (mut world, ids) = in_step(CONFIG).await;
    empty_plans(&world, &ids);
    minutes(10).await;
    let summary = world.sync().await;
    assert_eq!((summary.held[0].kind.as_str(), summary.held[0].wanted, summary.pending), ("blanked", 12, 0));
    assert_eq!(count(&world, "PLAN", Some(&json!("gold"))), PEOPLE, "none of them, not the first five");
    assert_eq!(count(&world, "FULLNAME", Some(&json!("Ann Birch"))), PEOPLE, "all else goes");
    // Nothing tries again, a restart changes nothing, and neither does time.
    let writes = world.brevo_writes();
    world.restart(CONFIG);
    world.full().await;
    minutes(60 * 25).await;
    world.full().await;
    assert_eq!((world.brevo_writes(), open(&world).await), (writes, vec![("blanked".to_owned(), 12)]));

    let Approved::Done { wanted, may, .. } = approve(&world).await else { panic!("not held") };
    assert!(wanted == 12 && (12..50).contains(&may), "{wanted}, {may}");
    settled(&world).await;
    assert_eq!((count(&world, "PLAN", None), open(&world).await), (PEOPLE, vec![]));
    assert_eq!(world.store.write(|tx| approve_in(tx, 1, tx_now())).await.unwrap(), Approved::NotHeld);
    // What was approved is over with its day: the next accident is held again.
    for id in &ids {
        world.intercom.edit_contact(id, &json!({"custom_attributes": {"plan": "silver"}})).unwrap();
    }
    settled(&world).await;
    minutes(60 * 25).await;
    empty_plans(&world, &ids);
    settled(&world).await;
    assert_eq!(count(&world, "PLAN", Some(&json!("silver"))), PEOPLE);
    assert_eq!(open(&world).await, [("blanked".to_owned(), 12)]);
    // The source is repaired: nothing is left of the hold.
    for id in &ids {
        world.intercom.edit_contact(id, &json!({"custom_attributes": {"plan": "silver"}})).unwrap();
    }
    settled(&world).await;
    assert_eq!(open(&world).await, []);
}

fn tx_now() -> chrono::DateTime<chrono::Utc> {
    chrono::DateTime::from_timestamp(1_790_000_000, 0).unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_fits_goes_and_is_counted_over_a_restart_until_the_hour_is_over() {
    let (mut world, ids) = in_step(CONFIG).await;
    empty_plans(&world, &ids[..3]);
    minutes(10).await;
    world.sync().await;
    assert_eq!(count(&world, "PLAN", None), 3);
    world.restart(CONFIG);
    // Three have gone: of three more only two would fit, and so none goes.
    empty_plans(&world, &ids[3..6]);
    minutes(10).await;
    world.sync().await;
    assert_eq!((count(&world, "PLAN", None), open(&world).await), (3, vec![("blanked".to_owned(), 3)]));
    approve(&world).await;
    settled(&world).await;
    assert_eq!((count(&world, "PLAN", None), open(&world).await), (6, vec![]));
    // What was approved is not counted; the hour of the first three is over.
    minutes(90).await;
    world.store.write(|tx| tx.use_approval(1, 1_000)).await.unwrap();
    empty_plans(&world, &ids[6..10]);
    settled(&world).await;
    assert_eq!((count(&world, "PLAN", None), open(&world).await), (10, vec![]));
}

#[tokio::test(start_paused = true)]
async fn opt_outs_of_everybody_wait_and_those_of_notices_never_do() {
    let (world, ids) = in_step(CONFIG).await;
    for id in &ids {
        world.intercom.unsubscribe(id).unwrap();
        world.intercom.edit_contact(id, &json!({"name": "Ann Birch"})).unwrap();
    }
    minutes(10).await;
    world.sync().await;
    assert_eq!((blocked(&world), open(&world).await), (0, vec![("opt_outs".to_owned(), 12)]));
    assert_eq!(count(&world, "FULLNAME", Some(&json!("Ann Birch"))), PEOPLE, "all else goes");
    // A notice of Intercom's tells of one of them.
    let told = ids[4].clone();
    world
        .store
        .write(move |tx| {
            let contact = linkspan::model::IntercomContactId::new(told);
            let fact = linkspan::store::facts::OptOutFact {
                channel: linkspan::store::facts::Channel::Email,
                at: tx_now(),
                email: None,
                source: "contact.unsubscribed".to_owned(),
                over_at: None,
            };
            tx.put_opt_out(&contact, &fact)?;
            let link = tx.intercom_contact(&contact)?.and_then(|row| row.link).unwrap();
            tx.mark_dirty(link, linkspan::store::links::Dirty::Consent)
        })
        .await
        .unwrap();
    world.sync().await;
    assert_eq!((blocked(&world), open(&world).await), (1, vec![("opt_outs".to_owned(), 11)]));
    approve(&world).await;
    settled(&world).await;
    assert_eq!((blocked(&world), open(&world).await), (PEOPLE, vec![]));
}

#[tokio::test(start_paused = true)]
async fn whose_opt_out_waits_and_who_opts_in_again_is_told_of_the_next_no_in_brevo() {
    let (world, ids) = in_step(CONFIG).await;
    for id in &ids {
        world.intercom.unsubscribe(id).unwrap();
    }
    minutes(10).await;
    world.sync().await;
    assert_eq!((blocked(&world), open(&world).await), (0, vec![("opt_outs".to_owned(), 12)]));
    for id in &ids {
        world.intercom.resubscribe(id).unwrap();
    }
    minutes(10).await;
    world.sync().await;
    assert!(world.brevo.blocklist(&email(3)));
    settled(&world).await;
    assert_eq!((out(&world, &ids), blocked(&world)), (1, 1), "theirs alone: nobody else says no any more");
    assert_eq!(open(&world).await, [], "and nothing waits");
}

#[tokio::test(start_paused = true)]
async fn a_flag_that_rides_along_with_an_address_never_waits() {
    let (world, ids) = in_step(CONFIG).await;
    assert!(world.brevo.blocklist(&email(3)));
    settled(&world).await;
    for id in &ids {
        world.intercom.unsubscribe_from_sms(id).unwrap();
    }
    world.intercom.set_email(&ids[3], Some("moved@example.com")).unwrap();
    minutes(10).await;
    world.sync().await;
    assert_eq!(open(&world).await.first().map(|(kind, _)| kind.as_str()), Some("opt_outs"), "those of text messages");
    assert!(world.brevo.contact_by_email("moved@example.com").unwrap().email_blacklisted, "never lifted");
}

#[tokio::test(start_paused = true)]
async fn opt_outs_towards_intercom_wait_too() {
    let (world, ids) = in_step(CONFIG).await;
    for n in 0..PEOPLE {
        assert!(world.brevo.blocklist(&email(n)));
    }
    settled(&world).await;
    assert_eq!((out(&world, &ids), open(&world).await), (0, vec![("opt_outs".to_owned(), 12)]));
    // One that a notice of Brevo's carried does not.
    let at = world.doors.clock.now();
    let contact = world.brevo.contact_by_email(&email(3)).unwrap().id;
    world
        .store
        .write(move |tx| {
            let fact = linkspan::store::hints::BrevoOptOut {
                email: linkspan::model::Email::parse(&email(3)).unwrap(),
                contact: Some(linkspan::model::BrevoContactId::new(contact)),
                reason: linkspan::model::OptOutReason::Unsubscribed,
                at,
                source: "unsubscribe".to_owned(),
                over_at: None,
            };
            tx.put_brevo_opt_out(&fact).map(drop)
        })
        .await
        .unwrap();
    settled(&world).await;
    assert_eq!((out(&world, &ids), open(&world).await), (1, vec![("opt_outs".to_owned(), 11)]));
    approve(&world).await;
    settled(&world).await;
    assert_eq!((out(&world, &ids), open(&world).await), (PEOPLE, vec![]));
    assert_eq!(blocked(&world), PEOPLE);
}

#[tokio::test(start_paused = true)]
async fn contacts_are_made_as_far_as_there_is_room_and_the_rest_waits() {
    for threshold in [3, 300] {
        let yaml = format!("{CONFIG}limits: {{brevo: {{import_threshold: {threshold}}}}}\n");
        let (mut world, _) = in_step(&yaml).await;
        let before = world.brevo.contact_count();
        for n in 100..110 {
            world.intercom.create_contact(somebody(n));
        }
        settled(&world).await;
        assert_eq!(world.brevo.contact_count() - before, 4, "import from {threshold} on");
        assert_eq!(open(&world).await, [("creates".to_owned(), 6)]);
        world.restart(&yaml);
        minutes(60 * 25).await;
        let summary = world.full().await;
        assert_eq!((world.brevo.contact_count() - before, summary.pending), (4, 0));
        approve(&world).await;
        settled(&world).await;
        assert_eq!((world.brevo.contact_count() - before, open(&world).await), (10, vec![]));
    }
}

#[tokio::test(start_paused = true)]
async fn fields_that_brevo_has_lost_blank_nobody_in_intercom() {
    let world = World::new(BACK);
    for name in ["score", "level"] {
        world.intercom.define_attribute("contact", name, "string", &[]).unwrap();
        assert!(world.brevo.create_attribute(&name.to_uppercase(), "text"));
    }
    let ids: Vec<String> = (0..PEOPLE).map(|n| world.intercom.create_contact(somebody(n))).collect();
    for n in 0..PEOPLE {
        world.brevo.create_contact(BrevoSeed { email: Some(email(n)), ..BrevoSeed::default() }).unwrap();
        assert!(world.brevo.edit_attributes(&email(n), &[("SCORE", json!("9")), ("LEVEL", json!("low"))]));
    }
    settled(&world).await;
    let shown = |name: &str, value: Json| {
        ids.iter().filter(|id| world.intercom.contact(id).unwrap()["custom_attributes"][name] == value).count()
    };
    assert_eq!(shown("score", json!("9")), PEOPLE);
    for n in 0..PEOPLE {
        assert!(world.brevo.edit_attributes(&email(n), &[("SCORE", json!("")), ("LEVEL", json!("high"))]));
    }
    settled(&world).await;
    assert_eq!((shown("score", json!("9")), shown("level", json!("high"))), (PEOPLE, PEOPLE));
    assert_eq!(open(&world).await, [("blanked".to_owned(), 12)]);
    approve(&world).await;
    settled(&world).await;
    assert_eq!((shown("score", Json::Null), open(&world).await), (PEOPLE, vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_says_what_a_run_would_have_to_ask_for() {
    let world = World::new("field_mapping: {name: FULLNAME}\nsafety: {max_optouts: 5}\n");
    for n in 0..PEOPLE {
        let id = world.intercom.create_contact(somebody(n));
        world.intercom.unsubscribe(&id).unwrap();
        world.brevo.create_contact(BrevoSeed { email: Some(email(n)), ..BrevoSeed::default() }).unwrap();
    }
    minutes(10).await;
    let dry = world.before_the_first().await;
    let held: Vec<_> = dry.would_hold.iter().map(|held| (held.kind.as_str(), held.wanted, held.may)).collect();
    assert_eq!(held, [("opt_outs", 12, 5)]);
    world.sync().await;
    assert_eq!((blocked(&world), open(&world).await), (0, vec![("opt_outs".to_owned(), 12)]));
}
