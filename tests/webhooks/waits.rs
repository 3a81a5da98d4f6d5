//! Who waits for Intercom's reads, and who does not.

use crate::world::{World, pass, until};
use linkspan::engine::{Silent, SyncOptions};
use linkspan::sandbox::Fault;
use linkspan::sandbox::intercom::ContactSeed;
use linkspan::store::Store;
use serde_json::json;
use std::time::Duration;

fn seed(email: &str, name: &str) -> ContactSeed {
    ContactSeed { email: Some(email.to_owned()), name: Some(name.to_owned()), ..ContactSeed::default() }
}

fn break_reads(world: &World, part: &str, fault: &Fault, times: usize) {
    world.intercom.knobs(|knobs| {
        for _ in 0..times {
            knobs.faults.push_back((part.to_owned(), fault.clone()));
        }
    });
}

fn is_out(world: &World, email: &str) -> bool {
    world.brevo.contact_by_email(email).unwrap().email_blacklisted
}

fn conversations_read(world: &World) -> usize {
    let all = world.intercom.log().all();
    all.iter().filter(|read| read.template == "/conversations/{id}" && read.status == 200).count()
}

#[tokio::test(start_paused = true)]
async fn a_record_that_cannot_be_read_holds_up_no_other() {
    for fault in [Fault::Status(503, None), Fault::Html] {
        let mut world = World::new();
        let ada = world.intercom.create_contact(seed("ada@x.example", "Ada"));
        let bo = world.intercom.create_contact(seed("bo@x.example", "Bo"));
        let broken: Vec<String> = (0..5).map(|_| world.intercom.open_conversation(&bo, "Hello?").unwrap()).collect();
        let sound = world.intercom.open_conversation(&ada, "Hello?").unwrap();
        world.sync().await;
        world.run().await;
        assert!(world.is_on("In touch", "ada@x.example"));
        for id in &broken {
            break_reads(&world, &format!("/conversations/{id}"), &fault, 10_000);
            world.intercom.close_conversation(id).unwrap();
        }
        world.intercom.close_conversation(&sound).unwrap();
        world.intercom.edit_contact(&ada, &json!({"name": "Ada King"})).unwrap();
        world.deliver().await;
        until("the edit", || world.attribute("ada@x.example", "FULLNAME") == "Ada King").await;
        until("the other conversation", || !world.is_on("In touch", "ada@x.example")).await;
        pass(600).await;
        world.intercom.edit_contact(&ada, &json!({"name": "Ada Byron"})).unwrap();
        world.deliver().await;
        until("the next edit", || world.attribute("ada@x.example", "FULLNAME") == "Ada Byron").await;
        world.intercom.knobs(|knobs| knobs.faults.clear());
        until("the broken ones", || !world.is_on("In touch", "bo@x.example")).await;
    }
}

/// The same for somebody whom the store does not know.
#[tokio::test(start_paused = true)]
async fn somebody_new_who_cannot_be_read_holds_up_nobody() {
    let mut world = World::new();
    world.sync().await;
    world.run().await;
    let all: Vec<String> =
        (0..6).map(|n| world.intercom.create_contact(seed(&format!("p{n}@x.example"), "Ann"))).collect();
    world.intercom.take_webhooks();
    for (n, id) in all.iter().enumerate() {
        if n < 5 {
            break_reads(&world, &format!("/contacts/{id}"), &Fault::Status(503, None), 10_000);
        }
        let item = json!({"type": "contact", "id": id});
        let hook = world.notification(&format!("notif_{n}"), "contact.subscribed", item);
        world.post_signed(hook.to_string()).await;
    }
    until("the last", || world.brevo.contact_by_email("p5@x.example").is_some()).await;
}

#[tokio::test(start_paused = true)]
async fn an_opt_out_does_not_wait_for_intercoms_budget() {
    for told_before in [true, false] {
        let mut world = World::new();
        let ada = world.intercom.create_contact(seed("ada@x.example", "Ada"));
        let id = world.intercom.open_conversation(&ada, "Hello?").unwrap();
        world.sync().await;
        world.run().await;
        break_reads(&world, "", &Fault::Status(429, Some(300)), 1);
        world.intercom.close_conversation(&id).unwrap();
        if told_before {
            world.intercom.unsubscribe(&ada).unwrap();
            world.deliver().await;
        } else {
            world.deliver().await;
            pass(10).await;
            world.intercom.unsubscribe(&ada).unwrap();
            world.deliver().await;
        }
        let took = until("the opt-out", || is_out(&world, "ada@x.example")).await;
        assert!(took < Duration::from_secs(2), "{took:?}");
        assert_eq!(conversations_read(&world), 0, "the read still waits");
        pass(400).await;
        assert!(conversations_read(&world) > 0);
    }
}

/// A thousand conversations are minutes of reads: somebody's edit does not wait for all of them.
#[tokio::test(start_paused = true)]
async fn an_edit_does_not_wait_for_all_conversations() {
    let mut world = World::new();
    let ada = world.intercom.create_contact(seed("ada@x.example", "Ada"));
    let all: Vec<String> = (0..400).map(|_| world.intercom.open_conversation(&ada, "Hello?").unwrap()).collect();
    world.sync().await;
    world.run().await;
    world.intercom.knobs(|knobs| knobs.rate_limit = Some(20));
    for id in &all {
        world.intercom.close_conversation(id).unwrap();
    }
    world.deliver().await;
    pass(5).await;
    world.intercom.edit_contact(&ada, &json!({"name": "Ada King"})).unwrap();
    world.deliver().await;
    until("the edit", || world.attribute("ada@x.example", "FULLNAME") == "Ada King").await;
    let read = conversations_read(&world);
    assert!((90..300).contains(&read), "{read}");
    pass(200).await;
    assert!(conversations_read(&world) >= 400, "the others follow without a pause");
}

/// Somebody opts out while a run writes for a minute, of which it has planned a part at once.
#[tokio::test(start_paused = true)]
async fn an_opt_out_does_not_wait_for_the_writes_of_a_run() {
    let more = "limits: {brevo: {import_threshold: 100000}}\n";
    let mut world = World::with(more, Store::in_memory().unwrap());
    let all: Vec<String> =
        (0..400).map(|n| world.intercom.create_contact(seed(&format!("p{n}@x.example"), "Ann"))).collect();
    world.sync().await;
    world.run().await;
    for id in &all[1..] {
        world.intercom.edit_contact(id, &json!({"name": "Anna"})).unwrap();
    }
    pass(60).await;
    world.intercom.take_webhooks();
    let full = SyncOptions { full: true, ..SyncOptions::default() };
    let (ended, ()) = tokio::join!(world.connection.sync(&full, &Silent), async {
        until("the first write", || !world.writes().is_empty()).await;
        // One of whom nothing is to be written, one who comes last.
        for (id, email) in [(&all[0], "p0@x.example"), (&all[399], "p399@x.example")] {
            pass(5).await;
            world.intercom.unsubscribe(id).unwrap();
            world.deliver().await;
            let took = until("the opt-out", || is_out(&world, email)).await;
            assert!(took < Duration::from_secs(5), "{email} {took:?}");
        }
        assert!(world.writes().len() < 300, "the run is not over");
    });
    ended.unwrap();
    assert_eq!(world.attribute("p399@x.example", "FULLNAME"), "Anna");
}

/// Somebody opts out while what webhooks brought about three hundred others is being written, nine a second.
#[tokio::test(start_paused = true)]
async fn an_opt_out_does_not_wait_for_the_live_writes_before_it() {
    let more = "limits: {brevo: {import_threshold: 100000}}\n";
    let mut world = World::with(more, Store::in_memory().unwrap());
    let all: Vec<String> =
        (0..301).map(|n| world.intercom.create_contact(seed(&format!("p{n}@x.example"), "Ann"))).collect();
    world.sync().await;
    world.run().await;
    for id in &all[1..] {
        world.intercom.edit_contact(id, &json!({"name": "Anna"})).unwrap();
    }
    world.deliver().await;
    until("the first write", || !world.writes().is_empty()).await;
    // One of whom nothing is to be written, one who comes last, one who comes soon.
    for (n, email) in [(0, "p0@x.example"), (300, "p300@x.example"), (140, "p140@x.example")] {
        pass(5).await;
        world.intercom.unsubscribe(&all[n]).unwrap();
        world.deliver().await;
        let took = until("the opt-out", || is_out(&world, email)).await;
        assert!(took < Duration::from_millis(2_500), "{email} {took:?}");
    }
    assert!(world.writes().len() < 250, "the others are not over: {}", world.writes().len());
    until("the last", || world.attribute("p300@x.example", "FULLNAME") == "Anna").await;
    pass(60).await;
    assert!((1..=300).all(|n| world.attribute(&format!("p{n}@x.example"), "FULLNAME") == "Anna"));
}

/// Intercom says "not for ten minutes": what is known already is written meanwhile.
#[tokio::test(start_paused = true)]
async fn an_edit_that_is_known_does_not_wait_for_intercoms_budget() {
    let mut world = World::new();
    let ada = world.intercom.create_contact(seed("ada@x.example", "Ada"));
    let id = world.intercom.open_conversation(&ada, "Hello?").unwrap();
    world.sync().await;
    world.run().await;
    break_reads(&world, "", &Fault::Status(429, Some(600)), 1);
    world.intercom.close_conversation(&id).unwrap();
    world.deliver().await;
    pass(30).await;
    world.intercom.edit_contact(&ada, &json!({"name": "Ada King"})).unwrap();
    world.deliver().await;
    let took = until("the edit", || world.attribute("ada@x.example", "FULLNAME") == "Ada King").await;
    assert!(took < Duration::from_secs(40), "{took:?}");
    assert_eq!(conversations_read(&world), 0, "the read still waits");
    pass(660).await;
    assert!(conversations_read(&world) > 0, "and is made then");
    let asked = world.intercom.log().all().len();
    assert!(asked < 20, "not asked again and again: {asked}");
}
