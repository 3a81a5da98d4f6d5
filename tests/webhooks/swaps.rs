//! Two people exchange their addresses while one of them, or both, are in an import that is not over.

use crate::world::{World, pass, until};
use linkspan::sandbox::Fault;
use linkspan::sandbox::brevo::ContactSeed as BrevoSeed;
use linkspan::sandbox::intercom::ContactSeed;
use linkspan::store::Store;
use serde_json::{Value, json};
use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    /// Both are made by the import.
    BothNew,
    /// One is made by it, the other has long been in Brevo.
    OneNew,
    /// Both have, and it is to change one of them.
    OneChanged,
    /// Or both.
    BothChanged,
}

#[derive(Debug, Clone, Copy)]
struct Case {
    who: Who,
    /// Each step is told of before the next.
    stepwise: bool,
    /// It has landed, though that is not known yet.
    landed: bool,
    /// Brevo refuses the row.
    refused: bool,
    /// The one in the import opts out just before.
    out: bool,
}

fn person(world: &World, name: &str) -> String {
    world.intercom.create_contact(ContactSeed {
        email: Some(format!("{name}@x.example")),
        name: Some(format!("{name} one")),
        external_id: Some(format!("id-{name}")),
        ..ContactSeed::default()
    })
}

async fn told(world: &World, case: Case) {
    if case.stepwise {
        world.deliver().await;
        pass(3).await;
    }
}

async fn plays(case: Case) -> Result<(), String> {
    let mut world = World::leaving("limits: {brevo: {import_threshold: 5}}\n", Store::in_memory().unwrap());
    let here = match case.who {
        Who::BothNew => vec![],
        Who::OneNew => vec!["b"],
        Who::OneChanged | Who::BothChanged => vec!["a", "b", "c", "d", "e", "f", "g"],
    };
    for name in &here {
        person(&world, name);
    }
    world.sync().await;
    world.run().await;
    world.brevo.imports_take(Duration::from_secs(60));
    let mut strangers = 0;
    if case.refused {
        let ext_id = Some("id-a".to_owned());
        world
            .brevo
            .create_contact(BrevoSeed { email: Some("z@x.example".into()), ext_id, ..Default::default() })
            .unwrap();
        strangers = 1;
    }
    for name in ["a", "b", "c", "d", "e", "f", "g"].iter().filter(|name| !here.contains(name)) {
        person(&world, name);
    }
    let id = |name: &str| {
        let is = |id: &String| world.intercom.contact(id).unwrap()["external_id"] == json!(format!("id-{name}"));
        world.intercom.contact_ids().into_iter().find(is).unwrap()
    };
    let (a, b) = (id("a"), id("b"));
    if here.len() > 1 {
        for name in
            ["a", "c", "d", "e", "f", "g"].iter().chain(if case.who == Who::BothChanged { &["b"][..] } else { &[] })
        {
            world.intercom.edit_contact(&id(name), &json!({"name": format!("{name} two")})).unwrap();
        }
    }
    world.deliver().await;
    until("the import", || world.brevo.log().writes().iter().any(|w| w.template == "/contacts/import")).await;
    if case.landed {
        for _ in 0..1_000 {
            world.brevo.fail("/processes", Fault::Status(503, None));
        }
        pass(61).await;
    } else {
        pass(5).await;
    }
    if case.out {
        world.intercom.unsubscribe(&a).unwrap();
        told(&world, case).await;
    }
    world.intercom.set_email(&a, Some("between@x.example")).unwrap();
    told(&world, case).await;
    world.intercom.set_email(&b, Some("a@x.example")).unwrap();
    told(&world, case).await;
    world.intercom.set_email(&a, Some("b@x.example")).unwrap();
    world.deliver().await;
    pass(10).await;
    world.brevo.knobs(|knobs| knobs.common.faults.clear());
    pass(900).await;
    world.stop().await;
    for _ in 0..2 {
        pass(600).await;
        world.sync().await;
    }
    let mut wrong = Vec::new();
    for (who, email) in [(&a, "b@x.example"), (&b, "a@x.example")] {
        let name = world.intercom.contact(who).unwrap()["name"].clone();
        let shown = world
            .brevo
            .contact_by_email(email)
            .map_or(Value::Null, |c| c.attributes.get("FULLNAME").cloned().unwrap_or_default());
        if name != shown {
            wrong.push(format!("{email} is {shown} instead of {name}"));
        }
    }
    let count = world.brevo.contact_count();
    if count != 7 + strangers {
        wrong.push(format!("{count} contacts"));
    }
    if case.out && !world.brevo.contact_by_email("b@x.example").is_some_and(|c| c.email_blacklisted) {
        wrong.push("the opt-out is lost".to_owned());
    }
    let notices = world.connection.store().read(|tx| tx.notices(Some("identity_conflict"), 10)).await.unwrap();
    if !notices.is_empty() && !case.refused {
        wrong.push(format!("{notices:?}"));
    }
    if wrong.is_empty() { Ok(()) } else { Err(format!("{case:?}: {}", wrong.join("; "))) }
}

async fn all(who: Who) {
    let mut wrong = Vec::new();
    for bits in 0..16_u8 {
        let bit = |n: u8| bits & (1 << n) != 0;
        let case = Case { who, stepwise: bit(0), landed: bit(1), refused: bit(2), out: bit(3) };
        if case.refused && matches!(who, Who::OneChanged | Who::BothChanged) {
            continue;
        }
        wrong.extend(plays(case).await.err());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(start_paused = true)]
async fn an_exchange_of_addresses_by_two_whom_an_import_makes() {
    all(Who::BothNew).await;
}

#[tokio::test(start_paused = true)]
async fn an_exchange_of_addresses_with_one_whom_an_import_makes() {
    all(Who::OneNew).await;
}

#[tokio::test(start_paused = true)]
async fn an_exchange_of_addresses_with_one_whom_an_import_changes() {
    all(Who::OneChanged).await;
}

#[tokio::test(start_paused = true)]
async fn an_exchange_of_addresses_by_two_whom_an_import_changes() {
    all(Who::BothChanged).await;
}
