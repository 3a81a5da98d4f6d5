//! What was added to worlds after fields had learned to cross: `contacts.on_delete`, with people who go and come back. Drawn
//! from a stream of its own. And what must hold of it.

use super::ending::End;
use super::model::{Card, FOUND, GAP, Model, Person};
use super::people::{Edit, normal};
use super::world::{CRASH_POINTS, Dice, Plan, Upset, Way};
use linkspan::sandbox::brevo::BrevoSandbox;
use std::collections::BTreeSet;
use std::time::Duration;

/// What becomes of somebody on each side who is gone on the other, as the config says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OnDelete {
    pub brevo: &'static str,
    pub intercom: &'static str,
}

impl OnDelete {
    pub const KEEP: Self = Self { brevo: "keep", intercom: "keep" };
}

impl Default for OnDelete {
    fn default() -> Self {
        Self::KEEP
    }
}

pub fn depart(plan: &mut Plan) {
    let mut dice = Dice::new(plan.seed, "departing");
    if !dice.hits(0.4) {
        return;
    }
    plan.setting.on_delete = OnDelete {
        brevo: dice.pick::<&str>(&["keep", "unlist", "blocklist", "delete", "delete"]),
        intercom: dice.pick::<&str>(&["keep", "unlist", "blocklist", "archive", "delete"]),
    };
    let last = plan.edits.iter().map(|(at, _)| *at).max().unwrap_or_default();
    let most = u64::try_from(last.as_millis()).unwrap_or(u64::MAX).max(60_000);
    for _ in 0..dice.between(1, 6) {
        let at = dice.between(0, most);
        let who = dice.next() >> 1;
        let edit = match dice.below(8) {
            0..=1 => Edit::Delete(who),
            2..=4 => Edit::Archive(who),
            _ => Edit::BrevoDelete(who),
        };
        plan.edits.push((Duration::from_millis(at), edit));
        if dice.hits(0.5) {
            // Back, at once or after what their going has led to.
            let wait = *dice.pick(&[500, 5_000, 60_000, 600_000, 2_400_000]);
            plan.edits.push((Duration::from_millis(at + dice.below(wait + 1)), Edit::Unarchive(who)));
        }
        if dice.hits(0.25) {
            // The same person goes on the other side, too, or loses the address first.
            let wait = *dice.pick(&[0, 500, 5_000, 60_000]);
            let also = match dice.below(3) {
                0 => Edit::Delete(who),
                1 => Edit::BrevoDelete(who),
                _ => Edit::Merge(who, dice.next() >> 1),
            };
            plan.edits.push((Duration::from_millis(at + dice.below(wait + 1)), also));
        }
    }
    if let Some(limits) = &mut plan.setting.limits {
        limits.deletes = *dice.pick(&[1, 2, 4, 1_000]);
        // A script that runs over many at once.
        let (at, kind) = (dice.between(0, most), dice.below(3));
        for nth in 0..dice.between(2, 6) {
            let who = dice.next() >> 1;
            let edit = match kind {
                0 => Edit::Delete(who),
                1 => Edit::Archive(who),
                _ => Edit::BrevoDelete(who),
            };
            plan.edits.push((Duration::from_millis(at + nth * 30), edit));
        }
    }
    plan.edits.sort_by_key(|(at, _)| *at);
    if dice.hits(0.5) {
        let at = Duration::from_millis(dice.between(0, most));
        let (name, nth) = (dice.pick::<&str>(&CRASH_POINTS[15..19]), u32::try_from(dice.between(1, 2)).unwrap_or(1));
        plan.upsets.push((at, Upset::CrashPoint(name, nth, *dice.pick(&[1, 5, 30, 200]))));
        plan.upsets.sort_by_key(|(at, _)| *at);
    }
}

impl Person {
    /// Whether a request that left then should have reckoned with their having the address that they have. A search does not
    /// find whoever is new in Intercom, but the engine may have been told.
    pub fn is_known_here(&self, left_at: i64) -> bool {
        let told = [self.told_here, self.heard_here].into_iter().flatten().any(|at| at <= left_at - GAP);
        let is_new = !self.was_away && self.back_at > left_at - FOUND;
        self.here_since <= left_at - GAP && (told || !is_new)
    }
}

impl Model {
    /// We deleted a Brevo contact, by a request that left then.
    pub fn deleted_by_us(&mut self, card: &Card, left_at: i64) -> (bool, String) {
        let id = card.now.id;
        if self.on_delete.brevo != "delete" {
            return (true, format!("Brevo contact {id} was deleted by us"));
        }
        // Whoever has lost their address before they went is of the contact all the same.
        let shows = |person: &Person| {
            !person.addresses.is_disjoint(&card.addresses) || !person.phones.is_disjoint(&card.phones)
        };
        let now = card.now.email.as_deref().map(normal);
        for (who, person) in self.people.iter().filter(|(_, person)| person.live && person.email == now) {
            if person.email.is_some() && person.back_at <= left_at - GAP && person.is_known_here(left_at) {
                return (true, format!("P6: Brevo contact {id} was deleted by us while {who} has its address"));
            }
        }
        if !self.people.values().any(|person| !person.live && !person.merged && shows(person))
            && !self.people.values().any(|person| person.was_away && shows(person))
        {
            return (true, format!("P6: Brevo contact {id} was deleted by us, and nobody of it is gone"));
        }
        if let Some(wrong) = self.harm.goes("deletes", left_at) {
            return (true, wrong);
        }
        (false, "outcome: deleted in Brevo, for they are gone in Intercom".to_owned())
    }

    /// We archived or deleted an Intercom contact.
    pub fn sent_away_by_us(&mut self, id: &str, left_at: i64) -> (bool, String) {
        let person = self.people.get(id);
        // Whoever was merged into them has left them the contact in Brevo.
        let heir_of = person.into_iter().flat_map(|person| &person.heir_of).filter_map(|id| self.people.get(id));
        let all: Vec<&Person> = person.into_iter().chain(heir_of).collect();
        let theirs: BTreeSet<&String> = all.iter().flat_map(|person| &person.addresses).collect();
        let phones: BTreeSet<&String> = all.iter().flat_map(|person| &person.phones).collect();
        let gone = |card: &Card| card.gone && card.addresses.iter().any(|address| theirs.contains(address));
        let by_phone = |card: &Card| card.gone && card.phones.iter().any(|phone| phones.contains(phone));
        if !matches!(self.on_delete.intercom, "archive" | "delete") {
            (true, format!("Intercom contact {id} was archived or deleted by us"))
        } else if self.cards.values().any(|card| gone(card) || by_phone(card)) {
            if let Some(wrong) = self.harm.goes("deletes", left_at) {
                return (true, wrong);
            }
            (false, format!("outcome: {} in Intercom, for they are gone in Brevo", self.on_delete.intercom))
        } else {
            (
                true,
                format!("P6: Intercom contact {id} was archived or deleted by us, and nobody of it is gone in Brevo"),
            )
        }
    }
}

impl End<'_> {
    /// Who is gone on one side is on the other what the config says.
    pub fn departed(&mut self, brevo: &BrevoSandbox) {
        let (mut wrong, mut counts) = (Vec::new(), Vec::new());
        let action = self.model.on_delete;
        let lists: Vec<i64> = [
            (self.rules.users, "Users"),
            (self.rules.leads, "Leads"),
            // A list that a tag follows is Brevo's own.
            (self.rules.vip && self.rules.vip_way != Way::ToIntercom, "VIPs"),
            (self.rules.blue, "Blue"),
        ]
        .into_iter()
        .filter_map(|(on, name)| brevo.list_id(name).filter(|_| on))
        .collect();
        for card in self.model.cards.values().filter(|card| !card.gone && card.ours_since.is_some()) {
            let Some(address) = card.now.email.as_deref().map(normal) else { continue };
            let holders: Vec<(&String, &Person)> =
                self.model.people.iter().filter(|(_, person)| person.addresses.contains(&address)).collect();
            let left = |person: &Person| !person.live && !person.merged && person.addresses.len() == 1;
            let plain = card.addresses.len() == 1 && !card.renamed_by_hand && self.nobody_by_phone(&address, card);
            if holders.is_empty() || !holders.iter().all(|(_, person)| left(person)) || !plain {
                continue;
            }
            // Whom the filter leaves out is left alone: of them nothing but consent is written there. (Of several, one speaks
            // for the others.)
            if !holders.iter().all(|(_, person)| self.model.takes_as_shown(person)) {
                counts.push("outcome: gone in Intercom, left out by the filter".to_owned());
                continue;
            }
            // Brought back and gone again, or never the person's: what is listed, or was made by hand, is looked at there.
            let doubtful = card.by_hand || self.listed.failures.iter().any(|failure| failure.field == "on_delete");
            let done = match action.brevo {
                "unlist" => {
                    !lists.iter().any(|list| card.now.list_ids.contains(list) && !card.listed_by_hand.contains(list))
                }
                "blocklist" => card.now.email_blacklisted || card.said.is_some_and(|(_, out)| !out),
                "delete" => false,
                _ => continue,
            };
            if done {
                counts.push(format!("outcome: {} in Brevo, for they are gone in Intercom", action.brevo));
            } else if !doubtful {
                let who: Vec<&String> = holders.iter().map(|(id, _)| *id).collect();
                wrong.push(format!("P2: {who:?} are gone in Intercom, and Brevo {} is there as before", card.now.id));
            }
        }
        for (id, person) in self.model.people.iter().filter(|(_, person)| person.live && !person.was_away) {
            let Some(address) = person.email.as_ref().filter(|_| person.addresses.len() == 1) else { continue };
            let alone = self.model.holders.get(address).is_some_and(|holders| holders.len() == 1);
            let theirs: Vec<&Card> =
                self.model.cards.values().filter(|card| card.addresses.contains(address)).collect();
            let [card] = theirs[..] else { continue };
            let plain = card.gone && card.addresses.len() == 1 && !card.renamed_by_hand;
            if !alone || !plain || !self.noticed("brevo_contact_gone", id) || !self.nobody_by_phone(address, card) {
                continue;
            }
            match action.intercom {
                "unlist" if self.rules.vip && self.rules.vip_way != Way::ToBrevo && !person.tags.contains("VIP") => {
                    counts.push("outcome: unlist in Intercom, for they are gone".to_owned());
                }
                // Who was out after the contact had gone, and said yes to that here, has the last word.
                "blocklist"
                    if person.out || person.took_back_at.zip(card.told_gone).is_some_and(|(yes, gone)| yes > gone) =>
                {
                    counts.push("outcome: blocklist in Intercom, for they are gone".to_owned());
                }
                "blocklist" | "archive" | "delete"
                    if !self.listed.failures.iter().any(|failure| failure.field == "on_delete") =>
                {
                    wrong.push(format!("P2: {id} is gone in Brevo, and in Intercom as before"));
                }
                _ => {}
            }
        }
        self.wrong.append(&mut wrong);
        self.counts.append(&mut counts);
    }
}
