//! `approve`: what the limits on harm hold.

use crate::world::{Ran, World};
use linkspan::sandbox::brevo::ContactSeed;

/// A line that says this, without the time.
fn line(ran: &Ran, words: &str) -> String {
    let all = format!("{}{}", ran.out, ran.err);
    let line = all.lines().find(|line| line.contains(words)).unwrap_or_else(|| panic!("no {words:?} in {all}"));
    line.split(" until ").next().and_then(|line| line.split(" ┆ 20").next()).unwrap_or_default().to_owned()
}

#[test]
fn what_is_held_is_shown_everywhere_and_goes_when_it_is_approved() {
    let world = World::new(150, "safety: {max_optouts: 1}\n");
    let contacts = world.intercom.contact_ids().into_iter().filter_map(|id| world.intercom.contact(&id));
    let out: Vec<String> = contacts
        .filter(|contact| contact["unsubscribed_from_emails"] == true)
        .filter_map(|contact| Some(contact["email"].as_str()?.trim().to_lowercase()))
        .collect();
    for email in &out {
        world.brevo.create_contact(ContactSeed { email: Some(email.clone()), ..ContactSeed::default() });
    }
    let blocked = || {
        let there =
            |email: &&String| world.brevo.contact_by_email(email).is_some_and(|contact| contact.email_blacklisted);
        out.iter().filter(there).count()
    };
    let mut told = Vec::new();
    told.push(line(&world.run(&["sync", "--dry-run"]), "ask first"));
    let synced = world.run(&["sync"]);
    assert_eq!((synced.code, blocked()), (0, 0), "{}{}", synced.out, synced.err);
    told.push(line(&synced, "  held "));
    let status = world.run(&["status"]);
    told.push(line(&status, "held"));
    world.assert_tells_nothing(&status);
    let json = world.run(&["status", "--json"]).json();
    assert_eq!((&json["held"][0]["kind"], &json["held"][0]["id"]), (&"opt_outs".into(), &1.into()), "{json}");
    let wanted = json["held"][0]["wanted"].as_u64().unwrap();
    assert!(wanted > 1, "{json}");
    assert_eq!(world.run(&["approve", "--list", "--json"]).json(), json["held"]);
    told.push(line(&world.run(&["approve"]), "held"));
    assert_eq!(world.run(&["approve", "7"]).code, 1);
    assert_eq!(world.run(&["approve", "1", "--list"]).code, 2);
    let approved = world.run(&["approve", "1"]);
    assert_eq!(approved.code, 0, "{}", approved.err);
    told.push(line(&approved, "approved"));
    told.push(line(&approved, "up to"));
    assert_eq!(line(&world.run(&["approve", "1"]), "nothing is held"), line(&world.run(&["approve", "1"]), "under 1"));
    assert_eq!(world.run(&["sync"]).code, 0);
    assert_eq!(blocked() as u64, wanted);
    told.push(line(&world.run(&["status"]), "more may go"));
    insta::assert_snapshot!("approved", told.join("\n"));
}

#[cfg(unix)]
#[test]
fn a_daemon_is_told_to_let_it_go() {
    let world = World::new(20, "safety: {max_optouts: 0}\n");
    std::fs::write(world.folder.path().join("config.yaml"), crate::world::with_secret(&world)).unwrap();
    assert_eq!(world.run(&["sync"]).code, 0);
    let mut daemon = crate::world::Background::start(world.folder.path());
    daemon.says("receiving Intercom's webhooks");
    let ran = world.run(&["approve", "3"]);
    assert_eq!(ran.code, 1, "{}", ran.out);
    assert!(ran.err.contains("nothing is held under 3"), "{}", ran.err);
}
