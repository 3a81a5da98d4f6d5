//! Opt-outs that travel from Brevo to Intercom, judged in the end.

use super::model::{Listed, Model};
use super::people::normal;

impl Model {
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
