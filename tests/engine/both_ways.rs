//! Fields and tags that people edit on both sides.

use crate::crashes::{CrashAt, run_to_the_end};
use crate::harness::{World, config, minutes};
use linkspan::engine::{Daemon, Pick, Picked};
use linkspan::model::SideName;
use linkspan::sandbox::brevo::ContactSeed as BrevoSeed;
use linkspan::sandbox::intercom::ContactSeed;
use linkspan::sandbox::{Fault, LoggedRequest};
use serde_json::{Value as Json, json};
use std::sync::Arc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

const BOTH: &str = "
field_mapping:
  name: {to: [FIRSTNAME, LASTNAME], transform: split_name, direction: both}
  phone: {to: SMS, direction: both, on_conflict: brevo}
  custom_attributes.plan: {to: PLAN, direction: both, on_conflict: intercom, on_clear: propagate}
  custom_attributes.score: {to: SCORE, type: number, direction: brevo_to_intercom}
  signed_up_at: {to: SIGNUP, direction: both}
  tags:
    VIP: {list: Very important, direction: both}
    Beta: {list: Beta, direction: brevo_to_intercom}
phone:
  default_region: US
";

fn jane() -> ContactSeed {
    ContactSeed { email: Some("jane@example.com".to_owned()), name: Some("Jane Doe".to_owned()), ..Default::default() }
}

/// A world in which Jane is in step.
async fn in_step(yaml: &str) -> (World, String) {
    let world = World::new(yaml);
    let id = world.intercom.create_contact(jane());
    minutes(10).await;
    world.sync().await;
    minutes(10).await;
    world.sync().await;
    assert_eq!(world.attribute("jane@example.com", "FIRSTNAME"), Some(json!("Jane")));
    (world, id)
}

fn shown(world: &World, id: &str, path: &str) -> Json {
    path.split('.').fold(world.intercom.contact(id).unwrap(), |value, key| value[key].clone())
}

fn edit_brevo(world: &World, values: &[(&str, Json)]) {
    assert!(world.brevo.edit_attributes("jane@example.com", values));
}

fn writes(log: &[LoggedRequest]) -> Vec<String> {
    let told =
        |write: &LoggedRequest| format!("{} {} {}", write.method, write.target, String::from_utf8_lossy(&write.body));
    log.iter().map(told).collect()
}

/// No cycle writes anything any more, on either side.
async fn is_quiet(world: &World) {
    for full in [false, true, false] {
        minutes(6).await;
        let before = (world.brevo_writes(), world.intercom.log().write_count());
        let _ = if full { world.full().await } else { world.sync().await };
        assert_eq!(writes(&world.brevo.log().writes()[before.0..]), [""; 0], "a quiet cycle wrote to Brevo");
        assert_eq!(writes(&world.intercom.log().writes()[before.1..]), [""; 0], "a quiet cycle wrote to Intercom");
    }
}

async fn conflicts(world: &World) -> Vec<(String, String, String, String)> {
    let all = world.store.read(|tx| tx.conflicts(100)).await.unwrap();
    // The cells, in words.
    let words = |cells: &str| {
        let cells: Vec<Option<linkspan::model::Value>> = serde_json::from_str(cells).unwrap();
        cells
            .into_iter()
            .map(|cell| cell.map_or("–".to_owned(), |cell| cell.to_string()))
            .collect::<Vec<_>>()
            .join(" | ")
    };
    let row = |c: linkspan::store::listings::Conflict| (c.field, c.side.to_string(), words(&c.lost), words(&c.kept));
    all.into_iter().map(row).collect()
}

#[tokio::test(start_paused = true)]
async fn an_edit_in_brevo_reaches_intercom_and_comes_back_as_nobodys() {
    let (world, id) = in_step(BOTH).await;
    edit_brevo(&world, &[("FIRSTNAME", json!("Janet")), ("PLAN", json!("pro")), ("SCORE", json!(7))]);
    let summary = world.sync().await;
    assert_eq!((summary.written.written_back, summary.written.failed), (1, 0), "{summary:?}");
    assert_eq!(shown(&world, &id, "name"), json!("Janet Doe"));
    assert_eq!(shown(&world, &id, "custom_attributes.plan"), json!("pro"));
    assert_eq!(shown(&world, &id, "custom_attributes.score"), json!(7));
    is_quiet(&world).await;
    assert_eq!(conflicts(&world).await, []);
    // And back again to what had been there before: that is an edit, not an echo.
    edit_brevo(&world, &[("FIRSTNAME", json!("Jane"))]);
    world.sync().await;
    assert_eq!(shown(&world, &id, "name"), json!("Jane Doe"));
    world.intercom.edit_contact(&id, &json!({"name": "Janet Doe"})).unwrap();
    minutes(10).await;
    world.sync().await;
    assert_eq!(world.attribute("jane@example.com", "FIRSTNAME"), Some(json!("Janet")));
    is_quiet(&world).await;
}

#[tokio::test(start_paused = true)]
async fn edits_of_different_fields_on_both_sides_cross() {
    let (world, id) = in_step(BOTH).await;
    edit_brevo(&world, &[("LASTNAME", json!("Roe"))]);
    world.intercom.edit_contact(&id, &json!({"custom_attributes": {"plan": "free"}})).unwrap();
    minutes(10).await;
    world.sync().await;
    assert_eq!(shown(&world, &id, "name"), json!("Jane Roe"));
    assert_eq!(world.attribute("jane@example.com", "PLAN"), Some(json!("free")));
    is_quiet(&world).await;
    assert_eq!(conflicts(&world).await, []);
}

#[tokio::test(start_paused = true)]
async fn where_both_sides_changed_a_field_the_rule_decides_and_the_other_value_is_kept() {
    let (world, id) = in_step(BOTH).await;
    world.intercom.edit_contact(&id, &json!({"phone": "+12025550101", "custom_attributes": {"plan": "free"}})).unwrap();
    edit_brevo(&world, &[("SMS", json!("12025550102")), ("PLAN", json!("pro"))]);
    minutes(10).await;
    world.sync().await;
    assert_eq!(shown(&world, &id, "phone"), json!("+12025550102"), "Brevo's stands");
    assert_eq!(world.attribute("jane@example.com", "PLAN"), Some(json!("free")), "Intercom's stands");
    let mut kept = conflicts(&world).await;
    kept.sort();
    let row = |field: &str, side: &str, lost: &str, kept: &str| {
        (field.to_owned(), side.to_owned(), lost.to_owned(), kept.to_owned())
    };
    assert_eq!(
        kept,
        [
            row("custom_attributes.plan -> PLAN", "Brevo", "pro", "free"),
            row("phone -> SMS", "Intercom", "+12025550101", "+12025550102"),
        ]
    );
    is_quiet(&world).await;
}

/// Refuses requests of this kind until further notice: every one is tried more than once.
fn refuse_for_now(fail: impl Fn(Fault)) {
    for _ in 0..100 {
        fail(Fault::Status(503, None));
    }
}

#[tokio::test(start_paused = true)]
async fn the_newer_of_two_edits_stands_where_it_can_be_told() {
    let (world, id) = in_step(BOTH).await;
    // The first edit is seen, and cannot be carried for now; then the other side is edited.
    world.intercom.edit_contact(&id, &json!({"name": "Inga Doe"})).unwrap();
    minutes(10).await;
    refuse_for_now(|fault| world.brevo.fail("PUT /v3/contacts/", fault));
    world.sync().await;
    minutes(10).await;
    edit_brevo(&world, &[("FIRSTNAME", json!("Brita"))]);
    minutes(10).await;
    world.brevo.knobs(|knobs| knobs.common.faults.clear());
    world.sync().await;
    assert_eq!(shown(&world, &id, "name"), json!("Brita Doe"));
    is_quiet(&world).await;

    edit_brevo(&world, &[("FIRSTNAME", json!("Berit"))]);
    minutes(1).await;
    refuse_for_now(|fault| world.intercom.fail("PUT /contacts/", fault));
    world.sync().await;
    // What Intercom's watermark stands for lies a quarter of an hour back.
    minutes(20).await;
    refuse_for_now(|fault| world.intercom.fail("PUT /contacts/", fault));
    world.sync().await;
    minutes(1).await;
    world.intercom.edit_contact(&id, &json!({"name": "Ingrid Doe"})).unwrap();
    minutes(10).await;
    world.intercom.knobs(|knobs| knobs.faults.clear());
    world.sync().await;
    assert_eq!(world.attribute("jane@example.com", "FIRSTNAME"), Some(json!("Ingrid")));
    is_quiet(&world).await;
    let lost: Vec<_> = conflicts(&world).await.into_iter().map(|(_, side, lost, _)| (side, lost)).collect();
    let row = |side: &str, lost: &str| (side.to_owned(), lost.to_owned());
    assert_eq!(lost, [row("Brevo", "Berit | Doe"), row("Intercom", "Inga Doe")]);
}

#[tokio::test(start_paused = true)]
async fn where_nobody_looked_between_two_edits_it_is_a_tie() {
    for (tie, winner) in [("intercom", "Inga Doe"), ("brevo", "Brita Doe")] {
        let (world, id) = in_step(&format!("{BOTH}connectors: {{intercom: {{tie: {tie}}}}}\n")).await;
        edit_brevo(&world, &[("FIRSTNAME", json!("Brita"))]);
        minutes(60).await;
        world.intercom.edit_contact(&id, &json!({"name": "Inga Doe"})).unwrap();
        minutes(10).await;
        world.sync().await;
        assert_eq!(shown(&world, &id, "name"), json!(winner));
        assert_eq!(conflicts(&world).await.len(), 1);
        is_quiet(&world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_clear_travels_only_where_it_is_asked_to() {
    let (world, id) = in_step(BOTH).await;
    edit_brevo(&world, &[("PLAN", json!("pro"))]);
    world.sync().await;
    minutes(10).await;
    world.sync().await;
    edit_brevo(&world, &[("PLAN", json!("")), ("FIRSTNAME", json!("")), ("LASTNAME", json!(""))]);
    world.sync().await;
    assert_eq!(shown(&world, &id, "custom_attributes.plan"), Json::Null);
    assert_eq!(shown(&world, &id, "name"), json!("Jane Doe"));
    is_quiet(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_tag_follows_its_list_and_the_list_its_tag() {
    let (world, id) = in_step(BOTH).await;
    let vip = world.brevo.list_id("Very important").unwrap();
    let beta = world.brevo.list_id("Beta").unwrap();
    world.brevo.add_to_list("jane@example.com", vip);
    world.brevo.add_to_list("jane@example.com", beta);
    let summary = world.sync().await;
    assert_eq!(summary.written.failed, 0);
    assert_eq!(world.intercom.contact_tags(&id), ["Beta", "VIP"]);
    is_quiet(&world).await;
    world.brevo.remove_from_list("jane@example.com", vip);
    minutes(10).await;
    world.full().await;
    assert_eq!(world.intercom.contact_tags(&id), ["Beta"]);
    is_quiet(&world).await;
    world.intercom.tag(&id, "VIP").unwrap();
    minutes(10).await;
    world.full().await;
    is_quiet(&world).await;
    let jane = world.brevo.contact_by_email("jane@example.com").unwrap().id;
    assert!(world.brevo.list_members(vip).contains(&jane), "both had agreed that she is not on it: this is new");
    assert!(world.brevo.list_members(beta).contains(&jane));
    // But who leaves by themselves stays off, and loses the tag.
    world.brevo.leave_list("jane@example.com", vip);
    minutes(10).await;
    world.full().await;
    assert_eq!(world.intercom.contact_tags(&id), ["Beta"]);
    world.intercom.tag(&id, "VIP").unwrap();
    minutes(10).await;
    world.full().await;
    assert!(!world.brevo.list_members(vip).contains(&jane), "nobody is put back on a list they left");
    is_quiet(&world).await;
}

#[tokio::test(start_paused = true)]
async fn who_leaves_a_list_right_after_a_tag_has_put_them_on_it_loses_the_tag() {
    let (world, id) = in_step(BOTH).await;
    world.intercom.tag(&id, "VIP").unwrap();
    minutes(10).await;
    world.sync().await;
    let vip = world.brevo.list_id("Very important").unwrap();
    assert_eq!(world.brevo.list_members(vip).len(), 1);
    // Before any read has shown her on it.
    world.brevo.leave_list("jane@example.com", vip);
    minutes(10).await;
    world.full().await;
    assert_eq!(world.intercom.contact_tags(&id), [""; 0]);
    is_quiet(&world).await;
}

#[tokio::test(start_paused = true)]
async fn at_a_first_link_who_has_a_value_fills_the_blank() {
    let world = World::new(BOTH);
    let id = world.intercom.create_contact(ContactSeed { name: None, ..jane() });
    world.brevo.create_attribute("PLAN", "text");
    world.brevo.create_contact(BrevoSeed {
        email: Some("jane@example.com".to_owned()),
        attributes: [("FIRSTNAME".to_owned(), json!("Jane")), ("PLAN".to_owned(), json!("pro"))].into(),
        ..BrevoSeed::default()
    });
    minutes(10).await;
    world.sync().await;
    assert_eq!(shown(&world, &id, "name"), json!("Jane"));
    assert_eq!(shown(&world, &id, "custom_attributes.plan"), json!("pro"));
    is_quiet(&world).await;
}

#[tokio::test(start_paused = true)]
async fn what_intercom_refuses_is_listed_and_keeps_nothing_else_from_being_written() {
    let (world, id) = in_step(BOTH).await;
    // Intercom declares the attribute with its first value.
    edit_brevo(&world, &[("PLAN", json!("pro")), ("SMS", json!("12025550102"))]);
    world.intercom.fail(&format!("PUT /contacts/{id}"), Fault::Status(400, None));
    let summary = world.sync().await;
    assert_eq!(summary.written.failed, 1);
    minutes(10).await;
    world.sync().await;
    assert_eq!(shown(&world, &id, "phone"), json!("+12025550102"));
    is_quiet(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_power_cut_around_a_write_to_intercom_loses_nothing_and_doubles_nothing() {
    for place in ["after_write_back_intent", "after_write_back", "after_page"] {
        let crash = Arc::new(CrashAt::default());
        let mut world = World::with_crashes(BOTH, crash.clone());
        let id = world.intercom.create_contact(jane());
        minutes(10).await;
        world.sync().await;
        minutes(10).await;
        edit_brevo(&world, &[("FIRSTNAME", json!("Janet"))]);
        crash.arm(place, 1);
        run_to_the_end(&mut world, &crash).await;
        minutes(10).await;
        world.sync().await;
        assert_eq!(shown(&world, &id, "name"), json!("Janet Doe"), "{place}");
        assert_eq!(world.attribute("jane@example.com", "FIRSTNAME"), Some(json!("Janet")), "{place}");
        assert_eq!(conflicts(&world).await, [], "{place}");
        is_quiet(&world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_conflict_can_be_settled_the_other_way_by_hand() {
    let (world, id) = in_step(BOTH).await;
    world.intercom.edit_contact(&id, &json!({"phone": "+12025550101", "custom_attributes": {"plan": "free"}})).unwrap();
    edit_brevo(&world, &[("SMS", json!("12025550102")), ("PLAN", json!("pro"))]);
    minutes(10).await;
    world.sync().await;
    let all = world.store.read(|tx| tx.conflicts(10)).await.unwrap();
    let number = |field: &str| all.iter().find(|row| row.field.contains(field)).unwrap().id;
    let pick = async |conflict: i64, side: SideName| world.connection.pick(Pick { conflict, side }).await.unwrap();
    let not_done = |picked: &Picked, words: &str| match picked {
        Picked::NotDone(why) => assert!(why.contains(words), "{why}"),
        done @ Picked::Done { .. } => panic!("{done:?}"),
    };
    not_done(&pick(number("PLAN"), SideName::Brevo).await, "still being watched");
    minutes(10).await;
    world.sync().await;
    not_done(&pick(99, SideName::Brevo).await, "no conflict 99");
    not_done(&pick(number("PLAN"), SideName::Intercom).await, "is the one that stands");
    for (field, side) in [("PLAN", SideName::Brevo), ("SMS", SideName::Intercom)] {
        let Picked::Done { field: rule, side: where_to } = pick(number(field), side).await else { panic!("{field}") };
        assert!(rule.contains(field) && where_to == side);
    }
    minutes(10).await;
    world.sync().await;
    assert_eq!(shown(&world, &id, "custom_attributes.plan"), json!("pro"));
    assert_eq!(world.attribute("jane@example.com", "SMS"), Some(json!("12025550101")));
    assert_eq!(shown(&world, &id, "phone"), json!("+12025550101"));
    is_quiet(&world).await;
    assert_eq!(conflicts(&world).await.len(), 2, "nothing new was lost");
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_tells_beforehand_what_a_first_link_writes_and_replaces_in_intercom() {
    let world = World::new(BOTH);
    world.brevo.create_attribute("PLAN", "text");
    let jane = world.intercom.create_contact(ContactSeed { phone: Some("+12025550101".to_owned()), ..jane() });
    let vip = world.brevo.create_list("Very important");
    world.brevo.create_contact(BrevoSeed {
        email: Some("jane@example.com".to_owned()),
        attributes: [("SMS".to_owned(), json!("12025550102")), ("PLAN".to_owned(), json!("pro"))].into(),
        list_ids: [vip].into(),
        ..BrevoSeed::default()
    });
    minutes(10).await;
    let dry = world.before_the_first().await;
    assert_eq!(world.intercom.log().write_count(), 0);
    assert_eq!((dry.updates_in_intercom, dry.creates), (1, 0), "{dry:#?}");
    assert_eq!(dry.fields_in_intercom.keys().collect::<Vec<_>>(), ["custom_attributes.plan", "phone"]);
    assert_eq!(dry.new_attributes_in_intercom, ["custom_attributes.plan", "custom_attributes.score"]);
    let replaced = &dry.replaced_in_intercom["phone -> SMS"];
    assert_eq!((replaced.count, &replaced.examples[0].lost), (1, &vec![json!("+12025550101")]));
    world.sync().await;
    assert_eq!(shown(&world, &jane, "phone"), json!("+12025550102"));
    assert_eq!(shown(&world, &jane, "custom_attributes.plan"), json!("pro"));
    let given = world.intercom.contact_tags(&jane);
    assert_eq!(dry.tags_given.keys().cloned().collect::<Vec<_>>(), given);
    let lost: Vec<_> = conflicts(&world).await.into_iter().map(|(field, side, ..)| (field, side)).collect();
    assert_eq!(lost, [("phone -> SMS".to_owned(), "Intercom".to_owned())]);
    is_quiet(&world).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_edited_in_intercom_though_brevo_alone_gives_is_restored_by_a_full_read() {
    let (world, id) = in_step(BOTH).await;
    edit_brevo(&world, &[("SCORE", json!(7))]);
    world.sync().await;
    minutes(10).await;
    world.intercom.edit_contact(&id, &json!({"custom_attributes": {"score": 9}})).unwrap();
    minutes(10).await;
    world.sync().await;
    assert_eq!(shown(&world, &id, "custom_attributes.score"), json!(9));
    minutes(10).await;
    world.full().await;
    assert_eq!(shown(&world, &id, "custom_attributes.score"), json!(7));
    let lost: Vec<_> = conflicts(&world).await.into_iter().map(|(_, side, lost, _)| (side, lost)).collect();
    assert_eq!(lost, [("Intercom".to_owned(), "9".to_owned())]);
    is_quiet(&world).await;
}

#[tokio::test(start_paused = true)]
async fn what_a_write_without_an_answer_has_replaced_is_kept() {
    let phones = (json!({"phone": "+12025550101"}), ("SMS", json!("12025550102")), ("Intercom", "+12025550101"));
    let plans = (json!({"custom_attributes": {"plan": "free"}}), ("PLAN", json!("pro")), ("Brevo", "pro"));
    for (mine, theirs, (side, value)) in [phones, plans] {
        let (world, id) = in_step(BOTH).await;
        world.intercom.edit_contact(&id, &mine).unwrap();
        edit_brevo(&world, &[theirs]);
        minutes(10).await;
        // Each is tried more than once.
        for _ in 0..100 {
            world.intercom.fail("PUT /contacts/", Fault::StatusAfterEffect(502));
            world.brevo.fail("PUT /v3/contacts/", Fault::StatusAfterEffect(502));
        }
        world.sync().await;
        assert_eq!(shown(&world, &id, "phone").as_str().is_some(), side == "Intercom", "it has landed");
        world.brevo.knobs(|knobs| knobs.common.faults.clear());
        world.intercom.knobs(|knobs| knobs.faults.clear());
        for _ in 0..2 {
            minutes(10).await;
            world.sync().await;
        }
        let lost: Vec<_> = conflicts(&world).await.into_iter().map(|(_, side, lost, _)| (side, lost)).collect();
        assert_eq!(lost, [(side.to_owned(), value.to_owned())]);
        is_quiet(&world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_edit_of_what_we_have_just_written_is_not_written_over() {
    let seconds = |seconds| tokio::time::sleep(std::time::Duration::from_secs(seconds));
    let (world, id) = in_step(BOTH).await;
    world.intercom.edit_contact(&id, &json!({"phone": "+12025550101"})).unwrap();
    minutes(10).await;
    world.sync().await;
    // While what we have written may still land once more, somebody edits it, and that is seen.
    edit_brevo(&world, &[("SMS", json!("12025550102"))]);
    seconds(10).await;
    world.sync().await;
    world.intercom.edit_contact(&id, &json!({"phone": "+12025550103"})).unwrap();
    seconds(10).await;
    world.sync().await;
    minutes(10).await;
    world.sync().await;
    assert_eq!(shown(&world, &id, "phone"), json!("+12025550102"), "in a conflict Brevo's stands");
    assert_eq!(world.attribute("jane@example.com", "SMS"), Some(json!("12025550102")));
    let lost: Vec<_> = conflicts(&world).await.into_iter().map(|(_, side, lost, _)| (side, lost)).collect();
    assert_eq!(lost, [("Intercom".to_owned(), "+12025550103".to_owned())]);
    is_quiet(&world).await;
}

#[tokio::test(start_paused = true)]
async fn what_was_edited_in_intercom_and_not_shown_yet_is_looked_at_before_it_is_written_over() {
    let often =
        "schedule:\n  contacts: {incremental: never, full: never}\n  brevo_contacts: {incremental: 1m, full: never}\n";
    let (world, id) = in_step(&format!("{BOTH}{often}")).await;
    let daemon = Daemon::new(Arc::clone(&world.connection), config(&world.config).schedule);
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { daemon.run(stopped).await.unwrap() });
    minutes(5).await;
    world.intercom.edit_contact(&id, &json!({"custom_attributes": {"plan": "gold"}})).unwrap();
    minutes(10).await;
    assert_eq!(world.attribute("jane@example.com", "PLAN"), None, "nothing has shown it yet");
    edit_brevo(&world, &[("PLAN", json!("silver"))]);
    minutes(10).await;
    stop.cancel();
    tasks.join_all().await;
    assert_eq!(shown(&world, &id, "custom_attributes.plan"), "gold", "on_conflict: intercom");
    assert_eq!(world.attribute("jane@example.com", "PLAN"), Some(json!("gold")));
    assert_eq!(conflicts(&world).await.len(), 1, "what stood in Brevo is kept");
}

/// A write to Intercom is not answered in time, and its repetition is refused. What it was to set lands later.
#[tokio::test(start_paused = true)]
async fn what_lands_late_though_its_repetition_was_refused_is_nobodys_edit() {
    let both = "direction: both, on_conflict: intercom, on_clear: propagate";
    let yaml = BOTH.replace(both, "direction: brevo_to_intercom, on_drift: leave");
    let (world, id) = in_step(&yaml).await;
    edit_brevo(&world, &[("PLAN", json!("pro"))]);
    minutes(10).await;
    world.intercom.fail("PUT /contacts/", Fault::Status(504, None));
    world.intercom.fail("PUT /contacts/", Fault::Status(400, None));
    world.sync().await;
    assert_ne!(shown(&world, &id, "custom_attributes")["plan"], "pro");
    edit_brevo(&world, &[("PLAN", json!("free"))]);
    world.sync().await;
    world.intercom.edit_contact(&id, &json!({"custom_attributes": {"plan": "pro"}})).unwrap();
    for _ in 0..3 {
        minutes(10).await;
        world.sync().await;
    }
    assert_eq!(shown(&world, &id, "custom_attributes")["plan"], "free");
    assert_eq!(world.store.read(|tx| tx.failures(10)).await.unwrap(), []);
    is_quiet(&world).await;
}

/// A write to Intercom is not answered in time, its repetition is, and so is the next write. What the first was to set
/// lands after all that.
#[tokio::test(start_paused = true)]
async fn what_lands_after_the_answer_to_a_later_write_is_nobodys_edit() {
    let both = "direction: both, on_conflict: intercom, on_clear: propagate";
    let yaml = BOTH.replace(both, "direction: brevo_to_intercom, on_drift: leave");
    let (world, id) = in_step(&yaml).await;
    edit_brevo(&world, &[("PLAN", json!("pro"))]);
    minutes(10).await;
    world.intercom.fail("PUT /contacts/", Fault::Status(504, None));
    world.sync().await;
    assert_eq!(shown(&world, &id, "custom_attributes")["plan"], "pro", "it was sent again");
    edit_brevo(&world, &[("PLAN", json!("free"))]);
    world.sync().await;
    assert_eq!(shown(&world, &id, "custom_attributes")["plan"], "free");
    world.intercom.edit_contact(&id, &json!({"custom_attributes": {"plan": "pro"}})).unwrap();
    for _ in 0..3 {
        minutes(10).await;
        world.sync().await;
    }
    assert_eq!(shown(&world, &id, "custom_attributes")["plan"], "free");
    is_quiet(&world).await;
}
