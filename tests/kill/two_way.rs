//! People edit on both sides while the daemon is killed again and again.

use super::{World, eventually, people};
use linkspan::sandbox::{Deliverer, DeliveryRules, OutgoingWebhook};
use serde_json::{Value, json};

/// How often it is killed, unless LINKSPAN_KILLS says otherwise.
const KILLS: usize = 5;
/// Who is edited in each round: in turn in Intercom and in Brevo, and the last of each side opts out there.
const A_ROUND: usize = 6;

const BOTH: &str = "consent: {direction: both}
field_mapping:
  name: {to: [FIRSTNAME, LASTNAME], transform: split_name, direction: both}
";

fn kills() -> usize {
    // What the environment says is for people who run it for long.
    #[expect(clippy::disallowed_methods, reason = "a test's own knob")]
    let asked = std::env::var("LINKSPAN_KILLS").ok().and_then(|text| text.parse().ok());
    asked.unwrap_or(KILLS)
}

impl World {
    /// Posts all that waits to be told, of either vendor, as long as the daemon is there. How many were acknowledged.
    fn post_both(&self, url: &str, webhooks: &mut Vec<(bool, OutgoingWebhook)>) {
        webhooks.extend(self.intercom.take_webhooks().into_iter().map(|webhook| (true, webhook)));
        webhooks.extend(self.brevo.take_webhooks().into_iter().map(|webhook| (false, webhook)));
        let stop = tokio_util::sync::CancellationToken::new;
        let intercom = Deliverer::to_url(url, DeliveryRules::intercom(), stop()).unwrap();
        let brevo = Deliverer::to_url(&url.replace("intercom", "brevo"), DeliveryRules::brevo(), stop()).unwrap();
        self.runtime.block_on(async {
            let mut left = Vec::new();
            for (of_intercom, webhook) in webhooks.drain(..) {
                let deliverer = if of_intercom { &intercom } else { &brevo };
                // What is not acknowledged comes again, as the vendors do it.
                if deliverer.attempt(&webhook).await != Some(200) {
                    left.push((of_intercom, webhook));
                }
            }
            *webhooks = left;
        });
    }

    /// Everybody of a round gets a name of their own, where it is their turn.
    fn edit_round(&self, round: usize, people: &[(String, String)]) {
        for (place, (id, email)) in people.iter().enumerate() {
            let last = place + 2 >= people.len();
            if place % 2 == 0 {
                self.intercom.edit_contact(id, &json!({"name": name(round, place)})).unwrap();
                if last {
                    self.intercom.unsubscribe(id).unwrap();
                }
            } else {
                let values =
                    [("FIRSTNAME", json!(format!("Round{round}"))), ("LASTNAME", json!(format!("Place{place}")))];
                assert!(self.brevo.edit_attributes(email, &values));
                if last {
                    assert!(self.brevo.unsubscribe(email));
                }
            }
        }
    }

    /// What is not on both sides yet.
    fn missing(&self, rounds: &[Vec<(String, String)>]) -> Vec<String> {
        let mut missing = Vec::new();
        for (round, people) in rounds.iter().enumerate() {
            for (place, (id, email)) in people.iter().enumerate() {
                let last = place + 2 >= people.len();
                let intercom = self.intercom.contact(id).unwrap();
                let brevo = self.brevo.contact_by_email(email).unwrap();
                let first = brevo.attributes.get("FIRSTNAME").and_then(Value::as_str).unwrap_or_default();
                let family = brevo.attributes.get("LASTNAME").and_then(Value::as_str).unwrap_or_default();
                let name = name(round, place);
                let out = (intercom["unsubscribed_from_emails"] == json!(true), brevo.email_blacklisted);
                if intercom["name"] != json!(name)
                    || format!("{first} {family}") != name
                    || (last && out != (true, true))
                {
                    missing.push(format!("{id}: {name} is {} and {first} {family}, out {out:?}", intercom["name"]));
                }
            }
        }
        missing
    }
}

fn name(round: usize, place: usize) -> String {
    format!("Round{round} Place{place}")
}

#[test]
fn killed_again_and_again_in_two_way_traffic_it_loses_and_doubles_nothing() {
    let kills = kills();
    let mut world = World::with(A_ROUND * (kills + 4) * 2, BOTH);
    // Each start asks what counts against the hundred an hour that all else shares.
    world.brevo.knobs(|knobs| knobs.per_hour = Some(100_000));
    let mut registered = world.start(&["webhooks", "register", "--json"]);
    assert!(registered.wait().success(), "{}", world.said("stderr"));
    world.sync();
    let all = people(&world, A_ROUND * kills * 2);
    let free = |(_, email): &(String, String)| !world.brevo.contact_by_email(email).unwrap().email_blacklisted;
    let all: Vec<_> = all.into_iter().filter(free).collect();
    let rounds: Vec<Vec<(String, String)>> = all.chunks_exact(A_ROUND).take(kills).map(<[_]>::to_vec).collect();
    assert_eq!(rounds.len(), kills, "{} people", all.len());
    world.brevo.take_webhooks();
    world.intercom.webhooks_on(true);
    let mut waiting = Vec::new();
    for (round, people) in rounds.iter().enumerate() {
        let (mut daemon, url) = world.run();
        world.edit_round(round, people);
        let before = world.writes();
        world.post_both(&url, &mut waiting);
        // In the middle of what follows from it: after none of its writes, or some, or all.
        let some = [3, 0, 5, 1, 4, 2][round % 6];
        assert!(eventually(|| world.writes() >= before + some), "{some}: {}", world.said("stderr"));
        daemon.kill();
        world.nobody_is_doubled_or_comes_back();
    }
    let (mut daemon, url) = world.run();
    world.post_both(&url, &mut waiting);
    assert!(waiting.is_empty(), "{} were not acknowledged", waiting.len());
    daemon.kill();
    // What had no answer waits until it cannot land any more.
    for _ in 0..3 {
        world.a_while_passes();
        world.sync();
    }
    assert_eq!(world.missing(&rounds), Vec::<String>::new());
    assert_eq!(world.brevo.contact_count(), world.truth.distinct_emails, "as many contacts as distinct addresses");
    let before = world.writes();
    assert_eq!(world.sync()["pending"], 0);
    assert_eq!(world.writes(), before, "the next run wrote");
}
