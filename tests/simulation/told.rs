//! Opt-outs that travel from Brevo to Intercom, judged in the end.

use super::model::{Card, GAP, Listed, Model, Person};
use super::people::normal;
use serde_json::Value;

impl Model {
    /// A no of ours lands in Brevo on a person's own, of less than a minute before it left, that no look has shown: what Brevo
    /// shows from then on is what we wrote. To be called before it is looked at what the request has changed.
    pub fn covers_a_no(&mut self, what: &str, body: &[u8], left_at: i64) {
        let id = what.strip_prefix("PUT ").and_then(|path| path.rsplit_once("/contacts/")).map(|(_, id)| id.parse());
        let Some(card) = id.and_then(Result::ok).and_then(|id: i64| self.cards.get_mut(&id)) else { return };
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let unseen = card.told_out.is_none() && card.no_since.is_some_and(|since| since >= left_at - GAP);
        if unseen && card.now.email_blacklisted && body["emailBlacklisted"] == true {
            card.covered.get_or_insert(left_at);
        }
    }

    /// Whoever last said no in Brevo is out in Intercom, as each contact of the address; unless it said yes there later.
    pub fn check_told(&self, listed: &Listed) -> (Vec<String>, Vec<String>) {
        let (mut wrong, mut counts) = (Vec::new(), Vec::new());
        for card in self.cards.values().filter(|card| !card.gone && card.now.email_blacklisted && !card.renamed_by_hand)
        {
            let (Some((_, true)), Some(since)) = (card.said, card.no_since) else { continue };
            let Some(address) = card.now.email.as_deref().map(normal) else { continue };
            let members =
                self.people.iter().filter(|(_, person)| person.live && person.email.as_ref() == Some(&address));
            for (id, person) in members {
                let subject = format!("contact {id}");
                let held =
                    listed.notices.iter().any(|(kind, about, _)| kind == "identity_conflict" && *about == subject)
                        || listed.failures.iter().any(|failure| failure.subject == subject);
                if person.out && person.out_by_us {
                    counts.push("outcome: told in Intercom".to_owned());
                } else if person.out {
                    counts.push("outcome: knew in Intercom".to_owned());
                } else if person.in_at.is_some_and(|at| at >= since) {
                    counts.push("outcome: told, and opted in in Intercom since".to_owned());
                } else if held {
                    counts.push("outcome: not told, and listed".to_owned());
                } else if could_not_know(card, person) {
                    counts.push("outcome: not told, for our own no covered it".to_owned());
                } else {
                    wrong.push(format!(
                        "P4: Brevo {} ({address}) opted out at {since}, and {id} may be mailed from Intercom",
                        card.now.id
                    ));
                }
            }
        }
        (wrong, counts)
    }
}

/// They had taken back their no in Intercom when that, on its way to Brevo, fell on the one that they had said there since: all
/// of it within a minute, and no notice of Brevo's tells of it. What stands in Brevo then is the no that they took back.
fn could_not_know(card: &Card, person: &Person) -> bool {
    let taken_back = |left_at: i64| person.in_at.is_some_and(|at| at >= left_at - GAP);
    !card.acknowledged_out && card.covered.is_some_and(taken_back)
}
