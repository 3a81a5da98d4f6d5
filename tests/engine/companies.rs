//! Which of several companies speaks for a person.

use crate::harness::{World, minutes};
use linkspan::sandbox::intercom::ContactSeed;
use serde_json::{Value, json};

const CONFIG: &str = "field_mapping: {email: email, name: FULLNAME, company.name: FIRM}\n";
const DAY: i64 = 86_400;

fn firm(world: &World) -> Option<Value> {
    world.attribute("ann@x.example", "FIRM")
}

fn ann(world: &World) -> String {
    world.intercom.create_contact(ContactSeed { email: Some("ann@x.example".into()), ..ContactSeed::default() })
}

/// A company that was last active then.
fn company(world: &World, name: &str, active: i64) -> String {
    let id = name.to_lowercase();
    world.intercom.create_company(&json!({"company_id": id, "name": name, "last_request_at": active})).unwrap()
}

fn now(world: &World) -> i64 {
    world.doors.clock.now().timestamp()
}

#[tokio::test(start_paused = true)]
async fn the_most_recently_active_by_day_and_on_a_tie_the_one_that_spoke_before() {
    let world = World::new(CONFIG);
    let ann = ann(&world);
    let at = now(&world);
    let (alpha, beta) = (company(&world, "Alpha", at - 2 * DAY), company(&world, "Beta", at - 3 * DAY));
    world.intercom.attach_company(&ann, &beta).unwrap();
    world.intercom.attach_company(&ann, &alpha).unwrap();
    minutes(10).await;
    world.sync().await;
    assert_eq!(firm(&world), Some(json!("Alpha")));

    // Beta's people come back.
    world.intercom.edit_company(&beta, &json!({"last_request_at": at - DAY})).unwrap();
    minutes(10).await;
    world.full().await;
    assert_eq!(firm(&world), Some(json!("Beta")));

    // Alpha's on the same day, and later on it: nobody flips between two all day long.
    let writes = world.brevo_writes();
    world.intercom.edit_company(&alpha, &json!({"last_request_at": at - DAY + 60})).unwrap();
    minutes(10).await;
    world.full().await;
    assert_eq!((firm(&world), world.brevo_writes()), (Some(json!("Beta")), writes));

    // The next day it is Alpha again; and without it, Beta.
    world.intercom.edit_company(&alpha, &json!({"last_request_at": at})).unwrap();
    minutes(10).await;
    world.full().await;
    assert_eq!(firm(&world), Some(json!("Alpha")));
    world.intercom.detach_company(&ann, &alpha).unwrap();
    minutes(10).await;
    world.full().await;
    assert_eq!(firm(&world), Some(json!("Beta")));
    world.is_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn one_beyond_the_ten_that_come_with_the_contact_speaks_all_the_same() {
    for busiest in [0, 10, 12] {
        let world = World::new(CONFIG);
        let ann = ann(&world);
        let at = now(&world);
        for n in 0..13 {
            let active = if n == busiest { at } else { at - (20 - n) * DAY };
            let id = company(&world, &format!("Firm {n}"), active);
            world.intercom.attach_company(&ann, &id).unwrap();
        }
        let shown = &world.intercom.contact(&ann).unwrap()["companies"];
        assert_eq!((shown["data"].as_array().unwrap().len(), &shown["total_count"]), (10, &json!(13)), "{shown}");
        minutes(10).await;
        world.sync().await;
        assert_eq!(firm(&world), Some(json!(format!("Firm {busiest}"))));
        world.is_quiet().await;
    }
}
