//! A world: contacts that were in Brevo before anybody connected it.

use super::BrevoSandbox;
use super::hands::ContactSeed;
use crate::doors::{Rng as _, SeededRng};
use serde_json::json;

/// Shares in `[0, 1]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WorldShares {
    /// Of the people given: who is in Brevo already.
    pub existing: f64,
    /// Of those: who is blocklisted.
    pub blocklisted: f64,
    /// Of those: whose name or phone differs from the other side's.
    pub conflicting: f64,
    /// Of those: who left a list.
    pub left_list: f64,
    /// Of those: who carries an `EXT_ID` from another tool.
    pub foreign_ext_id: f64,
    /// Of the people given: whose phone belongs to another, older contact in Brevo, so that writing it is refused.
    pub phone_taken: f64,
}

impl Default for WorldShares {
    fn default() -> Self {
        Self {
            existing: 0.5,
            blocklisted: 0.08,
            conflicting: 0.1,
            left_list: 0.05,
            foreign_ext_id: 0.02,
            phone_taken: 0.01,
        }
    }
}

const FIRST_NAMES: [&str; 12] =
    ["Ada", "Bo", "Chloé", "Dmitri", "Elif", "Farid", "Grete", "Hana", "Ines", "João", "Kemi", "Lars"];
const LAST_NAMES: [&str; 10] =
    ["Abel", "Brandt", "Costa", "Diallo", "Eriksen", "Fournier", "Günther", "Haddad", "Ito", "Jansen"];

impl BrevoSandbox {
    /// Contacts and imports that are made from now on get ids that no account given them at another time has: they go by
    /// the clock.
    pub fn new_ids_by_the_clock(&self) {
        /// The beginning of 2025, so that they are not longer than they must be.
        const BEGINNING: i64 = 1_735_689_600_000;
        self.with(|state| {
            let id = (state.now.timestamp_millis() - BEGINNING).max(0);
            state.contacts.count_on_from(id);
            state.no_process_yet = state.no_process_yet.max(id);
        });
    }

    /// Fills the account for these people (address, and perhaps a phone): the same seed and people make the same
    /// contacts. Returns the ids of those who are in it. `left_from` is the list that some of them left.
    pub fn world(
        &self,
        seed: u64,
        people: &[(String, Option<String>)],
        shares: &WorldShares,
        left_from: i64,
    ) -> Vec<i64> {
        let rng = SeededRng::new(seed ^ 0xb4e0);
        let pick = |of: &[&str]| {
            let index = usize::try_from(rng.next_u64() % of.len() as u64).unwrap_or(0);
            of.get(index).copied().unwrap_or_default().to_owned()
        };
        let (first, last) = self.0.options.language.names();
        let mut made = Vec::new();
        self.with(|state| {
            for (email, phone) in people {
                // The same number of draws for everybody, so that one person's fate does not move the others'.
                let (exists, blocked, conflicts, left) = (rng.unit(), rng.unit(), rng.unit(), rng.unit());
                let (foreign, taken) = (rng.unit(), rng.unit());
                let (first_name, last_name) = (pick(&FIRST_NAMES), pick(&LAST_NAMES));
                if phone.is_some() && taken < shares.phone_taken {
                    state.plant(ContactSeed {
                        email: Some(format!("former.{email}")),
                        phone: phone.clone(),
                        ..ContactSeed::default()
                    });
                }
                if exists >= shares.existing {
                    continue;
                }
                let mut planted = ContactSeed {
                    email: Some(email.clone()),
                    phone: phone.clone(),
                    email_blacklisted: blocked < shares.blocklisted,
                    list_ids: vec![2],
                    ..ContactSeed::default()
                };
                if conflicts < shares.conflicting {
                    planted.attributes.insert(first.to_owned(), json!(first_name));
                    planted.attributes.insert(last.to_owned(), json!(last_name));
                }
                if foreign < shares.foreign_ext_id {
                    planted.ext_id = Some(format!("legacy-{}", made.len() + 1));
                }
                if left < shares.left_list {
                    planted.list_unsubscribed = vec![left_from];
                }
                // A phone that somebody else has is left out, as a person at the screen would have had to.
                let id = state.plant(planted.clone()).or_else(|| {
                    planted.phone = None;
                    state.plant(planted)
                });
                made.extend(id);
            }
        });
        made
    }
}
