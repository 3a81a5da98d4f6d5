//! What Brevo's webhooks told: whom to read, and who opted out.

use super::{Result, Tx, instant, millis, rare::Rare};
use crate::model::{BrevoContactId, Email, OptOutReason};
use chrono::{DateTime, Utc};
use rusqlite::{Row, params};

/// How a webhook names a person.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum BrevoName {
    /// By address, as nearly always.
    Email(Email),
    /// By the contact's id.
    Id(BrevoContactId),
}

impl BrevoName {
    fn to_text(&self) -> String {
        match self {
            Self::Email(email) => email.as_str().to_owned(),
            Self::Id(id) => format!("#{id}"),
        }
    }

    /// No address begins with `#` and has digits only.
    fn from_text(text: String) -> Self {
        match text.strip_prefix('#').and_then(|id| id.parse().ok()) {
            Some(id) => Self::Id(BrevoContactId::new(id)),
            None => Self::Email(Email::from_kept(text)),
        }
    }
}

/// Somebody whom webhooks named and who has not been read since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrevoHint {
    /// Who.
    pub name: BrevoName,
    /// The last webhook that named them: one that comes while they are being read keeps them named.
    pub seq: i64,
    /// One of them said that the contact was deleted.
    pub gone: bool,
}

/// The source of an opt-out that a changed address has lifted from a contact that was nobody's, or is by now.
const LIFTED: &str = "a changed address";
/// The sources of opt-outs that somebody brings to an address which no contact has shown with them.
pub const FROM_A_MERGE: &str = "a merge";
/// The same of a contact that was never given the address.
pub const FROM_ONE_LEFT_BEHIND: &str = "a contact that was left behind";
/// The same of the contact of others, whom they have left.
pub const FROM_A_GROUP: &str = "a group that was left";

/// An opt-out that a webhook of Brevo's carried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrevoOptOut {
    /// Whose: consent belongs to the address.
    pub email: Email,
    /// The contact that had the address then, as far as we knew.
    pub contact: Option<BrevoContactId>,
    /// Why.
    pub reason: OptOutReason,
    /// When, by the vendor's clock.
    pub at: DateTime<Utc>,
    /// Which webhook carried it.
    pub source: String,
    /// The record time of a later read that showed the person subscribed again.
    pub over_at: Option<DateTime<Utc>>,
}

impl BrevoOptOut {
    /// No webhook carried it: a changed address has lifted it (`at`: the record that shows that), and nobody could put it
    /// back, since the contact was nobody's, or is by now. Whoever it becomes gets it back. It is of this contact alone, so
    /// it is kept under its id and no address.
    pub fn lifted(contact: BrevoContactId, reason: OptOutReason, at: DateTime<Utc>) -> Self {
        let email = Email::from_kept(BrevoName::Id(contact).to_text());
        Self { email, contact: Some(contact), reason, at, source: LIFTED.to_owned(), over_at: None }
    }

    /// No webhook carried it, and no contact of the address was opted out for it: somebody brings it there. `from`: one of the
    /// `FROM_` constants.
    pub fn brought(email: Email, reason: OptOutReason, at: DateTime<Utc>, from: &str) -> Self {
        Self { email, contact: None, reason, at, source: from.to_owned(), over_at: None }
    }

    /// A changed address has lifted it. The contact has been subscribed ever since: a record that shows it so is no opt-in.
    pub fn was_lifted(&self) -> bool {
        self.source == LIFTED
    }

    /// Somebody has brought it to the address: no contact there has ever been opted out for it, so that none counts as if it
    /// were. It is put to whoever is made or found there for them.
    pub fn was_brought(&self) -> bool {
        [FROM_A_MERGE, FROM_ONE_LEFT_BEHIND, FROM_A_GROUP].contains(&self.source.as_str())
    }
}

fn reason_as_str(reason: OptOutReason) -> &'static str {
    match reason {
        OptOutReason::Unsubscribed => "unsubscribed",
        OptOutReason::HardBounced => "hard_bounced",
        OptOutReason::Spam => "spam",
        OptOutReason::Blocklisted => "blocklisted",
    }
}

fn reason_from(text: &str) -> OptOutReason {
    match text {
        "unsubscribed" => OptOutReason::Unsubscribed,
        "hard_bounced" => OptOutReason::HardBounced,
        "spam" => OptOutReason::Spam,
        _ => OptOutReason::Blocklisted,
    }
}

fn opt_out(row: &Row<'_>) -> rusqlite::Result<BrevoOptOut> {
    Ok(BrevoOptOut {
        email: Email::from_kept(row.get(0)?),
        contact: row.get::<_, Option<i64>>(1)?.map(BrevoContactId::new),
        reason: reason_from(&row.get::<_, String>(2)?),
        at: instant(row.get(3)?),
        source: row.get(4)?,
        over_at: row.get::<_, Option<i64>>(5)?.map(instant),
    })
}

impl Tx<'_> {
    /// A webhook named somebody.
    pub fn put_brevo_hint(&self, hint: &BrevoHint, now: DateTime<Utc>) -> Result<()> {
        self.0
            .prepare_cached(
                "INSERT INTO brevo_hints (name, seq, gone, named_at) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (name) DO UPDATE SET seq = max(seq, excluded.seq), gone = gone OR excluded.gone,
                     named_at = max(named_at, excluded.named_at)",
            )?
            .execute(params![hint.name.to_text(), hint.seq, hint.gone, millis(now)])?;
        Ok(())
    }

    /// Whom webhooks named, those first who were named first.
    pub fn brevo_hints(&self, limit: usize) -> Result<Vec<BrevoHint>> {
        let mut statement =
            self.0.prepare_cached("SELECT name, seq, gone FROM brevo_hints ORDER BY seq, name LIMIT ?1")?;
        let rows = statement.query_map([limit], |row| {
            Ok(BrevoHint { name: BrevoName::from_text(row.get(0)?), seq: row.get(1)?, gone: row.get(2)? })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// How many are to be read.
    pub fn count_brevo_hints(&self) -> Result<u64> {
        let count: i64 = self.0.prepare_cached("SELECT count(*) FROM brevo_hints")?.query_row([], |row| row.get(0))?;
        Ok(count.unsigned_abs())
    }

    /// They have been read after that webhook; named again since, they stay named.
    pub fn brevo_hint_was_read(&self, hint: &BrevoHint) -> Result<()> {
        self.0
            .prepare_cached("DELETE FROM brevo_hints WHERE name = ?1 AND seq <= ?2")?
            .execute(params![hint.name.to_text(), hint.seq])?;
        Ok(())
    }

    /// A read of all that has changed, begun at `began`, has shown whoever was named before. It shows no deletion.
    pub fn brevo_hints_were_read(&self, began: DateTime<Utc>) -> Result<()> {
        self.0.prepare_cached("DELETE FROM brevo_hints WHERE gone = 0 AND named_at < ?1")?.execute([millis(began)])?;
        Ok(())
    }

    /// A record itself shows a Brevo contact as opted out.
    pub fn brevo_opt_out_is_shown(&self, id: BrevoContactId, email: Option<&Email>, at: DateTime<Utc>) -> Result<()> {
        if !self.holds(Rare::BrevoOptOuts)? {
            return Ok(());
        }
        self.0
            .prepare_cached(
                "UPDATE brevo_optouts SET shown_at = max(coalesce(shown_at, 0), ?3) WHERE contact = ?1 OR email = ?2",
            )?
            .execute(params![id.get(), email.map(Email::as_str), millis(at)])?;
        // What had been lifted stands again.
        self.0
            .prepare_cached(
                "UPDATE brevo_optouts SET over_at = ?2 WHERE contact = ?1 AND source = ?3 AND at < ?2 AND over_at IS NULL",
            )?
            .execute(params![id.get(), millis(at), LIFTED])?;
        Ok(())
    }

    /// Since when it is only by a webhook, and by no record, that a contact counted as opted out when its record was of
    /// this time.
    pub fn brevo_opted_out_by_notice(
        &self,
        id: BrevoContactId,
        email: Option<&Email>,
        known: DateTime<Utc>,
    ) -> Result<Option<DateTime<Utc>>> {
        if !self.holds(Rare::BrevoOptOuts)? {
            return Ok(None);
        }
        let since: Option<i64> = self
            .0
            .prepare_cached(
                "SELECT min(max(at, coalesce(shown_at, 0))) FROM brevo_optouts
                 WHERE (contact = ?1 OR email = ?2) AND max(at, coalesce(shown_at, 0)) < ?3",
            )?
            .query_row(params![id.get(), email.map(Email::as_str), millis(known)], |row| row.get(0))?;
        Ok(since.map(instant))
    }

    /// Keeps an opt-out that a webhook carried; the latest of an address counts. A bounce or a complaint stays one until the
    /// person is shown as subscribed again. One that was brought takes the place of none that stands, and stands for none that
    /// a webhook tells of; nor is it of the contact that one that is over was of.
    pub fn put_brevo_opt_out(&self, fact: &BrevoOptOut) -> Result<()> {
        self.fills(Rare::BrevoOptOuts);
        self.0
            .prepare_cached(
                "INSERT INTO brevo_optouts (email, contact, reason, at, source, over_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                 ON CONFLICT (email) DO UPDATE SET contact = iif(?7, NULL, coalesce(excluded.contact, contact)),
                     reason = CASE WHEN over_at IS NULL AND reason IN ('spam', 'hard_bounced') THEN reason
                         ELSE excluded.reason END, at = excluded.at, source = excluded.source, over_at = excluded.over_at
                     WHERE iif(?7, over_at IS NOT NULL AND excluded.at > at,
                         excluded.at > at OR (over_at IS NULL AND source IN (?8, ?9, ?10)))",
            )?
            .execute(params![
                fact.email.as_str(),
                fact.contact.map(BrevoContactId::get),
                reason_as_str(fact.reason),
                millis(fact.at),
                fact.source,
                fact.over_at.map(millis),
                fact.was_brought(),
                FROM_A_MERGE,
                FROM_ONE_LEFT_BEHIND,
                FROM_A_GROUP,
            ])?;
        Ok(())
    }

    /// What webhooks told of opt-outs of this contact or of this address, and what a changed address lifted from it.
    pub fn brevo_opt_outs(&self, contact: Option<BrevoContactId>, email: Option<&Email>) -> Result<Vec<BrevoOptOut>> {
        if !self.holds(Rare::BrevoOptOuts)? {
            return Ok(Vec::new());
        }
        let mut statement = self.0.prepare_cached(
            "SELECT email, contact, reason, at, source, over_at FROM brevo_optouts WHERE email = ?1 OR contact = ?2",
        )?;
        let rows = statement.query_map(params![email.map(Email::as_str), contact.map(BrevoContactId::get)], opt_out)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// A later read shows the person subscribed again.
    pub fn brevo_opt_out_is_over(&self, email: &Email, at: DateTime<Utc>) -> Result<()> {
        self.0
            .prepare_cached("UPDATE brevo_optouts SET over_at = ?2 WHERE email = ?1 AND over_at IS NULL")?
            .execute(params![email.as_str(), millis(at)])?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    #[tokio::test]
    async fn what_is_brought_takes_the_place_of_no_word_of_brevos() {
        let put = |tx: &Tx<'_>| {
            let email = Email::parse("jane@example.com").unwrap();
            let mut kept = Vec::new();
            for (source, at) in [(FROM_A_MERGE, 110), ("unsubscribe", 50), (FROM_A_GROUP, 120)] {
                tx.put_brevo_opt_out(&BrevoOptOut {
                    email: email.clone(),
                    contact: None,
                    reason: OptOutReason::Blocklisted,
                    at: instant(at),
                    source: source.to_owned(),
                    over_at: None,
                })?;
                kept.extend(tx.brevo_opt_outs(None, Some(&email))?.into_iter().map(|fact| fact.source));
            }
            Ok(kept)
        };
        let kept = Store::in_memory().unwrap().write(put).await.unwrap();
        assert_eq!(kept, [FROM_A_MERGE, "unsubscribe", "unsubscribe"]);
    }
}
