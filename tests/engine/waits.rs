//! One record or one side in trouble, and all others that do not wait for it.

use crate::harness::World;
use linkspan::engine::{Silent, SyncOptions};
use linkspan::sandbox::Fault;
use linkspan::sandbox::intercom::ContactSeed;
use std::time::Duration;

const CONFIG: &str = "
connectors:
  intercom:
    lists:
      all_users: Users
field_mapping:
  name: FIRSTNAME
  tags: INTERCOM_TAGS
";

async fn seconds(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

fn user(email: &str, name: &str) -> ContactSeed {
    ContactSeed { email: Some(email.to_owned()), name: Some(name.to_owned()), ..ContactSeed::default() }
}

#[tokio::test(start_paused = true)]
async fn somebody_whose_tags_cannot_be_read_holds_up_nobody() {
    let world = World::new(CONFIG);
    let jane = world.intercom.create_contact(user("jane@example.com", "Jane"));
    for n in 0..15 {
        world.intercom.tag(&jane, &format!("tag {n}")).unwrap();
    }
    world.intercom.create_contact(user("joe@example.com", "Joe"));
    seconds(600).await;
    world.intercom.knobs(|knobs| {
        for _ in 0..1_000 {
            knobs.faults.push_back((format!("/contacts/{jane}/tags"), Fault::Status(503, None)));
        }
    });
    let ended = world.connection.sync(&SyncOptions::default(), &Silent).await;
    assert!(ended.unwrap_err().to_string().contains("503"), "it is told at the end");
    assert!(world.brevo.contact_by_email("joe@example.com").is_some());
    assert!(world.brevo.contact_by_email("jane@example.com").is_none(), "not with half of her tags");
    world.intercom.knobs(|knobs| knobs.faults.clear());
    seconds(600).await;
    world.sync().await;
    assert!(world.brevo.contact_by_email("jane@example.com").is_some());
}
