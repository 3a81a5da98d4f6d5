//! `forget`: nothing is left in the files of the state.

use crate::world::World;
#[cfg(unix)]
use crate::world::{Background, with_secret};

/// The files of the state that hold this text, in any case.
fn that_hold(world: &World, text: &str) -> Vec<String> {
    let folder = world.state().parent().unwrap().to_owned();
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let text = text.to_lowercase();
    let holding = files.filter(|path| {
        let bytes = std::fs::read(path).unwrap().to_ascii_lowercase();
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    });
    holding.map(|path| path.display().to_string()).collect()
}

fn name_of(world: &World, email: &str) -> String {
    let ids = world.intercom.contact_ids();
    let contacts = ids.iter().filter_map(|id| world.intercom.contact(id));
    let mut named =
        contacts.filter(|contact| contact["email"].as_str().is_some_and(|text| text.to_lowercase() == *email));
    named.next().and_then(|contact| contact["name"].as_str().map(str::to_owned)).unwrap_or_default()
}

#[test]
fn somebody_is_forgotten_to_the_last_byte() {
    let world = World::new(30, "");
    assert_eq!(world.run(&["forget", "nobody@x.example", "--yes"]).code, 1, "there is no state yet");
    assert!(!world.state().exists());
    assert_eq!(world.run(&["sync"]).code, 0);
    let email = world.somebody();
    let name = name_of(&world, &email);
    assert!(!that_hold(&world, &email).is_empty());

    let unasked = world.run(&["forget", &email]);
    assert_eq!(unasked.code, 2, "{}", unasked.err);
    assert!(unasked.err.contains("--yes"), "{}", unasked.err);
    let there = world.run(&["forget", &email, "--yes"]);
    assert_eq!(there.code, 1);
    for words in ["Intercom contact", "Brevo contact", "Delete them there first", "--even-if-there"] {
        assert!(there.err.contains(words), "{words}: {}", there.err);
    }
    let nobody = world.run(&["forget", "nobody@x.example", "--yes"]);
    assert_eq!(nobody.code, 1);
    assert!(nobody.err.contains("knows nobody"), "{}", nobody.err);

    let calls = world.intercom.log().len() + world.brevo.log().len();
    let ran = world.run(&["forget", &email, "--yes", "--even-if-there"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.out.contains("forgotten: 1 Intercom contact, 1 Brevo contact"), "{}", ran.out);
    assert!(ran.err.contains("come back with the next read"), "{}", ran.err);
    assert_eq!(that_hold(&world, &email), [""; 0]);
    if name.contains(' ') {
        assert_eq!(that_hold(&world, &name), [""; 0]);
    }
    assert_eq!(world.run(&["explain", &email]).code, 1);
    assert_eq!(world.intercom.log().len() + world.brevo.log().len(), calls, "nobody was called");
    // They are there, and so they come back, as the same people.
    let people = world.brevo.contact_count();
    assert_eq!(world.run(&["sync", "--full"]).code, 0);
    assert_eq!(world.run(&["explain", &email]).code, 0);
    assert_eq!(world.brevo.contact_count(), people);
}

#[cfg(unix)]
#[test]
fn a_daemon_is_told_to_forget() {
    let world = World::new(10, "");
    std::fs::write(world.folder.path().join("config.yaml"), with_secret(&world)).unwrap();
    assert_eq!(world.run(&["sync"]).code, 0);
    let email = world.somebody();
    let mut daemon = Background::start(world.folder.path());
    daemon.says("receiving Intercom's webhooks");
    // Without a request, they do not come back at once: nobody's contact has changed.
    let ran = world.run(&["--json", "forget", &email, "--yes", "--even-if-there"]);
    assert_eq!(ran.code, 0, "{}{}", ran.err, daemon.log);
    let json = ran.json();
    assert_eq!((&json["forgotten"]["intercom"], &json["scrubbed"]), (&1.into(), &true.into()), "{json}");
    assert_eq!(json["still_there"][0]["side"], "intercom");
}
