//! `explain`: one person, from the state alone.

use crate::world::{World, trimmed};

/// Times, and what the doubles number by themselves.
fn settled(text: &str) -> String {
    trimmed(text)
}

#[test]
fn one_person_is_explained_without_the_network() {
    let world = World::new(30, "phone: {default_region: US}\n");
    assert_eq!(world.run(&["explain", "nobody@x.example"]).code, 1, "there is no state yet");
    assert!(!world.state().exists());
    let synced = world.run(&["sync"]);
    assert_eq!(synced.code, 0, "{}", synced.err);
    let email = world.somebody();
    let before = (world.tables(), world.intercom.log().len() + world.brevo.log().len());
    let ran = world.run(&["explain", &email]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    insta::with_settings!({filters => vec![
        (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", "[time]"),
        (r"process \d+", "process [number]"),
        (r"\d{4}-\d\d-\d\dT[\d:.]+Z", "[time]"),
        (r"\d{4}-\d\d-\d\d", "[day]"),
    ]}, {
        insta::assert_snapshot!("explained", settled(&ran.out));
    });

    // By any name.
    let json = world.run(&["explain", &email, "--json"]).json();
    let person = &json[0];
    let intercom = person["intercom"][0]["id"].as_str().unwrap().to_owned();
    let (brevo, link) = (person["brevo"]["id"].to_string(), person["link"].to_string());
    for who in [intercom.clone(), format!("intercom:{intercom}"), format!("brevo:{brevo}"), format!("link:{link}")] {
        let other = world.run(&["explain", &who, "--json"]).json();
        assert_eq!(other[0]["email"], person["email"], "{who}");
    }
    assert_eq!(world.run(&["explain", "link:x"]).code, 2);
    let nobody = world.run(&["explain", "nobody@x.example"]);
    assert_eq!(nobody.code, 1);
    assert!(nobody.err.contains("the state knows nobody like that"), "{}", nobody.err);
    assert_eq!(world.run(&["explain", "nobody@x.example", "--json"]).out.trim(), "[]");

    let after = (world.tables(), world.intercom.log().len() + world.brevo.log().len());
    assert!(before == after, "nothing is changed, and nobody is called");
}

#[test]
fn a_person_is_explained_beside_the_one_who_has_the_state() {
    let world = World::new(10, "");
    assert_eq!(world.run(&["sync"]).code, 0);
    let _owner = linkspan::store::Owner::acquire(&world.state(), "`linkspan run` (process 4711)").unwrap();
    let ran = world.run(&["explain", &world.somebody()]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.out.contains("in step"), "{}", ran.out);
}
