//! What notifications told as facts, beside the views: who is said to be gone, and who opted out when.

use super::contacts::ContactState;
use super::{Result, Tx, instant, millis, rare::Rare};
use crate::model::{Email, IntercomContactId};
use chrono::{DateTime, Utc};
use rusqlite::{OptionalExtension as _, params};

/// What somebody opted out of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    /// E-mail.
    Email,
    /// SMS.
    Sms,
}

impl Channel {
    fn as_str(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Sms => "sms",
        }
    }

    fn parse(text: &str) -> Self {
        if text == "sms" { Self::Sms } else { Self::Email }
    }
}

/// An opt-out that a vendor's notice carried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OptOutFact {
    /// Of what.
    pub channel: Channel,
    /// When, by the vendor's clock.
    pub at: DateTime<Utc>,
    /// The address that the person had then.
    pub email: Option<Email>,
    /// Which notice carried it.
    pub source: String,
    /// The record time of a later read that showed the person subscribed again.
    pub over_at: Option<DateTime<Utc>>,
}

/// What somebody who is gone in Intercom had said no to there, as far as Brevo has not been told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastNo {
    /// Who.
    pub contact: IntercomContactId,
    /// To e-mail.
    pub email: bool,
    /// To text messages.
    pub sms: bool,
}

impl Tx<'_> {
    /// A notice says that a contact is gone. A deletion is for good: what says "archived" after it came late.
    pub fn say_gone(&self, id: &IntercomContactId, deleted: bool) -> Result<()> {
        let said = if deleted { "deleted" } else { "archived" };
        self.0
            .prepare_cached("UPDATE intercom_contacts SET said_gone = ?2 WHERE id = ?1 AND said_gone IS NOT 'deleted'")?
            .execute([id.as_str(), said])?;
        Ok(())
    }

    /// A read by id shows the contact: whatever was said before is over.
    pub fn forget_said_gone(&self, id: &IntercomContactId) -> Result<()> {
        self.0
            .prepare_cached("UPDATE intercom_contacts SET said_gone = NULL WHERE id = ?1 AND said_gone IS NOT NULL")?
            .execute([id.as_str()])?;
        Ok(())
    }

    /// How a contact is said to be gone.
    pub fn said_gone(&self, id: &IntercomContactId) -> Result<Option<ContactState>> {
        let said: Option<String> = self
            .0
            .prepare_cached("SELECT said_gone FROM intercom_contacts WHERE id = ?1")?
            .query_row([id.as_str()], |row| row.get(0))
            .optional()?
            .flatten();
        Ok(said.map(|said| if said == "deleted" { ContactState::Deleted } else { ContactState::Archived }))
    }

    /// When a contact that is missing is to be looked for under its other identifiers.
    pub fn set_gone_check(&self, id: &IntercomContactId, at: DateTime<Utc>) -> Result<()> {
        self.0
            .prepare_cached("UPDATE intercom_contacts SET gone_check_at = ?2 WHERE id = ?1")?
            .execute(params![id.as_str(), millis(at)])?;
        Ok(())
    }

    /// Missing contacts that are to be looked for now.
    pub fn missing_due(&self, now: DateTime<Utc>, limit: usize) -> Result<Vec<IntercomContactId>> {
        let mut statement = self.0.prepare_cached(
            "SELECT id FROM intercom_contacts WHERE state = 'missing' AND gone_check_at <= ?1
             ORDER BY gone_check_at, id LIMIT ?2",
        )?;
        let ids = statement.query_map(params![millis(now), limit], |row| row.get::<_, String>(0))?;
        Ok(ids.map(|id| id.map(IntercomContactId::new)).collect::<rusqlite::Result<_>>()?)
    }

    /// The link of somebody who was merged into this contact, if nobody is left there.
    pub fn link_of_merged_into(&self, survivor: &IntercomContactId) -> Result<Option<i64>> {
        if !self.holds(Rare::Merged)? {
            return Ok(None);
        }
        Ok(self
            .0
            .prepare_cached(
                // The link of the row with the least id. To order them would cost a sorter for each newcomer.
                "SELECT link, min(id) FROM intercom_contacts lost
                 WHERE merged_into = ?1 AND state = 'merged' AND link IS NOT NULL
                   AND NOT EXISTS (SELECT 1 FROM intercom_contacts m WHERE m.link = lost.link AND m.state = 'live')",
            )?
            .query_row([survivor.as_str()], |row| row.get(0))?)
    }

    /// A record itself shows a contact as opted out of e-mail.
    pub fn opt_out_is_shown(&self, contact: &IntercomContactId, at: DateTime<Utc>) -> Result<()> {
        if !self.holds(Rare::OptOuts)? {
            return Ok(());
        }
        self.0
            .prepare_cached(
                "UPDATE optouts SET shown_at = max(coalesce(shown_at, 0), ?2) WHERE contact = ?1 AND channel = 'email'",
            )?
            .execute(params![contact.as_str(), millis(at)])?;
        Ok(())
    }

    /// Since when it is only by a notice, and by no record, that a contact counted as opted out of e-mail when its record was
    /// of this time: that record's time is then no proof that it was.
    pub fn opted_out_by_notice(
        &self,
        contact: &IntercomContactId,
        known: DateTime<Utc>,
    ) -> Result<Option<DateTime<Utc>>> {
        if !self.holds(Rare::OptOuts)? {
            return Ok(None);
        }
        Ok(self
            .0
            .prepare_cached(
                "SELECT max(at, coalesce(shown_at, 0)) FROM optouts
                 WHERE contact = ?1 AND channel = 'email' AND max(at, coalesce(shown_at, 0)) < ?2",
            )?
            .query_row(params![contact.as_str(), millis(known)], |row| row.get(0))
            .optional()?
            .map(instant))
    }

    /// Keeps an opt-out that a notice carried; the latest of its kind counts.
    pub fn put_opt_out(&self, contact: &IntercomContactId, fact: &OptOutFact) -> Result<()> {
        self.fills(Rare::OptOuts);
        self.0
            .prepare_cached(
                "INSERT INTO optouts (contact, channel, at, email, source) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT (contact, channel) DO UPDATE SET at = excluded.at, email = excluded.email,
                     source = excluded.source, over_at = NULL WHERE excluded.at > at",
            )?
            .execute(params![
                contact.as_str(),
                fact.channel.as_str(),
                millis(fact.at),
                fact.email.as_ref().map(Email::as_str),
                fact.source,
            ])?;
        Ok(())
    }

    /// What a contact opted out of, by notice.
    pub fn opt_outs(&self, contact: &IntercomContactId) -> Result<Vec<OptOutFact>> {
        if !self.holds(Rare::OptOuts)? {
            return Ok(Vec::new());
        }
        let mut statement = self.0.prepare_cached(
            "SELECT channel, at, email, source, over_at FROM optouts WHERE contact = ?1 ORDER BY channel",
        )?;
        let rows = statement.query_map([contact.as_str()], |row| {
            Ok(OptOutFact {
                channel: Channel::parse(&row.get::<_, String>(0)?),
                at: instant(row.get(1)?),
                email: row.get::<_, Option<String>>(2)?.and_then(|text| Email::parse(&text).ok()),
                source: row.get(3)?,
                over_at: row.get::<_, Option<i64>>(4)?.map(instant),
            })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Somebody is gone whose no Brevo has not been told: it is still to be.
    pub fn put_last_no(&self, no: &LastNo) -> Result<()> {
        self.fills(Rare::LastNos);
        self.0
            .prepare_cached(
                "INSERT INTO last_nos (contact, email, sms) VALUES (?1, ?2, ?3)
                 ON CONFLICT (contact) DO UPDATE SET email = max(email, excluded.email), sms = max(sms, excluded.sms)",
            )?
            .execute(params![no.contact.as_str(), no.email, no.sms])?;
        Ok(())
    }

    /// What is still to be told of those of a link who are gone.
    pub fn last_nos(&self, link: i64) -> Result<Vec<LastNo>> {
        if !self.holds(Rare::LastNos)? {
            return Ok(Vec::new());
        }
        let mut statement = self.0.prepare_cached(
            "SELECT n.contact, n.email, n.sms FROM intercom_contacts c JOIN last_nos n ON n.contact = c.id
             WHERE c.link = ?1 AND c.state <> 'live' ORDER BY n.contact",
        )?;
        let rows = statement.query_map([link], |row| {
            let contact = IntercomContactId::new(row.get::<_, String>(0)?);
            Ok(LastNo { contact, email: row.get(1)?, sms: row.get(2)? })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Brevo has been told.
    pub fn last_nos_are_told(&self, link: i64, email: bool, sms: bool) -> Result<()> {
        if !(email || sms) || !self.holds(Rare::LastNos)? {
            return Ok(());
        }
        self.0
            .prepare_cached(
                "UPDATE last_nos SET email = email AND NOT ?2, sms = sms AND NOT ?3
                 WHERE contact IN (SELECT id FROM intercom_contacts WHERE link = ?1)",
            )?
            .execute(params![link, email, sms])?;
        self.0.prepare_cached("DELETE FROM last_nos WHERE email = 0 AND sms = 0")?.execute([])?;
        Ok(())
    }

    /// Whoever was gone is back, and says by themselves what they say.
    pub fn drop_last_no(&self, contact: &IntercomContactId) -> Result<()> {
        if self.holds(Rare::LastNos)? {
            self.0.prepare_cached("DELETE FROM last_nos WHERE contact = ?1")?.execute([contact.as_str()])?;
        }
        Ok(())
    }

    /// A later read shows the person subscribed again.
    pub fn opt_out_is_over(&self, contact: &IntercomContactId, channel: Channel, at: DateTime<Utc>) -> Result<()> {
        self.0
            .prepare_cached("UPDATE optouts SET over_at = ?3 WHERE contact = ?1 AND channel = ?2 AND over_at IS NULL")?
            .execute(params![contact.as_str(), channel.as_str(), millis(at)])?;
        Ok(())
    }
}
