//! Every small program of `examples/` is run, so that none rots; and what it would print is checked.

#[path = "../examples/map_a_contact.rs"]
mod map_a_contact;
#[path = "../examples/one_cycle.rs"]
mod one_cycle;
#[path = "../examples/read_contacts.rs"]
mod read_contacts;
#[path = "../examples/verify_webhook.rs"]
mod verify_webhook;

use linkspan::intercom::webhook::{Effect, OptOut};
use linkspan::model::Value;
use linkspan::sandbox::brevo::{BrevoOptions, BrevoSandbox};
use linkspan::sandbox::intercom::{IntercomOptions, IntercomSandbox};
use std::collections::BTreeSet;
use std::sync::Arc;

fn intercom(contacts: usize) -> IntercomSandbox {
    let sandbox = IntercomSandbox::new(IntercomOptions::default());
    sandbox.world(7, contacts);
    sandbox
}

#[tokio::test]
async fn read_contacts_counts_what_is_there() {
    let sandbox = intercom(500);
    let counts = read_contacts::count(&sandbox).await.unwrap();
    let truth = sandbox.truth();
    assert_eq!((counts.users, counts.leads), (truth.users, truth.leads));
    assert_eq!((counts.pages, counts.opted_out >= truth.unsubscribed), (truth.contacts.div_ceil(150), true));
}

#[tokio::test(start_paused = true)]
async fn one_cycle_brings_everybody_across_and_the_second_writes_nothing() {
    // Under paused time the limits cost nothing; what a sandbox's clock shows is all the same here.
    let intercom = intercom(120);
    let clock = Arc::new(linkspan::doors::SystemClock);
    let brevo = BrevoSandbox::new(BrevoOptions::new(7, clock));
    brevo.knobs(|knobs| knobs.common.unlimited = true);
    let (first, second) = one_cycle::two_cycles(&intercom, &brevo).await.unwrap();
    assert_eq!(first.read["intercom contacts"].rows, intercom.truth().contacts as u64);
    assert_eq!(first.written.created, intercom.truth().distinct_emails as u64, "{first:?}");
    assert_eq!((first.written.failed, second.written.requests), (0, 0), "{second:?}");
    let addresses: BTreeSet<String> = brevo.contacts().into_iter().filter_map(|contact| contact.email).collect();
    assert!(addresses.len() >= intercom.truth().distinct_emails);
}

#[test]
fn map_a_contact_gives_the_cells_of_its_mapping() {
    let cells = map_a_contact::map(map_a_contact::MAPPING, &map_a_contact::contact()).unwrap();
    let number = Value::from_json(&serde_json::json!(12));
    let expected = [
        ("FIRSTNAME", Value::text("Ludwig")),
        ("LASTNAME", Value::text("van Beethoven")),
        ("COUNTRY", Value::text("GERMANY")),
        ("SEATS", number),
    ];
    let found: BTreeSet<String> = cells.iter().map(|cell| format!("{cell:?}")).collect();
    let expected: BTreeSet<String> =
        expected.iter().map(|(name, value)| format!("{:?}", ((*name).to_owned(), value))).collect();
    assert_eq!(found, expected);
    assert!(map_a_contact::map("field_mapping: {nmae: FIRSTNAME}", &map_a_contact::contact()).is_err());
    map_a_contact::main().unwrap();
}

#[test]
fn verify_webhook_takes_what_is_genuine_and_nothing_else() {
    let (mut notice, secret) = verify_webhook::opt_out().unwrap();
    let effects = verify_webhook::receive(&notice, &secret).unwrap();
    assert!(effects.iter().any(|effect| matches!(effect, Effect::OptedOut { from: OptOut::Email, .. })), "{effects:?}");
    assert!(verify_webhook::receive(&notice, &"another secret".to_owned().into()).is_err());
    notice.body = bytes::Bytes::from_static(b"{}");
    assert!(verify_webhook::receive(&notice, &secret).is_err());
    verify_webhook::main().unwrap();
}

#[test]
fn the_examples_that_need_a_runtime_of_their_own_run_too() {
    read_contacts::main().unwrap();
    one_cycle::main().unwrap();
}

#[test]
fn every_example_is_run_here_and_described() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");
    let readme = std::fs::read_to_string(format!("{folder}/README.md")).unwrap();
    let this = include_str!("examples.rs");
    for entry in std::fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let Some(name) = name.strip_suffix(".rs") else { continue };
        assert!(readme.contains(&format!("`{name}`")), "examples/README.md does not mention {name}");
        // The benchmark takes minutes, and makes its table by itself; tests/simulation runs what the simulation runs.
        assert!(
            ["bench", "mutants", "simulate"].contains(&name) || this.contains(&format!("mod {name};")),
            "{name} is run by no test"
        );
    }
}
