//! Companies that are kept in step: which of Intercom's is which of Brevo's, what is to be written, what is on its way. And
//! Brevo's companies as they were seen last.

use super::{Packed, Result, Tx, decode, encode, instant, millis, rare::Rare};
use crate::model::{
    BrevoCompany, BrevoCompanyId, BrevoContactId, IntercomCompanyId, IntercomContactId, ProcessId, SideName,
};
use chrono::{DateTime, Utc};
use rusqlite::{OptionalExtension as _, Row, params};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Under which key the import of companies is kept that is not over yet.
const IMPORT: &str = "company_import";

/// A company of Intercom's with its company of Brevo's.
#[derive(Debug, Clone)]
pub struct Firm {
    /// Its number.
    pub id: i64,
    /// Intercom's company.
    pub intercom: IntercomCompanyId,
    /// Brevo's; `None`: none yet.
    pub brevo: Option<BrevoCompanyId>,
    /// The side whose company is gone: it is left alone, and never made again.
    pub gone: Option<SideName>,
    /// When it is to be looked at; `None`: not before something changes.
    pub due: Option<DateTime<Utc>>,
    /// A full read asked for it: what was edited on a field's target is restored.
    pub sweep: bool,
    /// Refusals in a row.
    pub tries: u32,
    /// What both sides agreed on, packed.
    pub base: Option<Packed>,
    /// Our writes on their way, packed.
    pub watched: Option<Packed>,
    /// The side whose answer nobody has seen: one write at a time is on its way.
    pub unanswered: Option<SideName>,
    /// Only a read that begins later (our clock) settles them.
    pub verify_after: Option<DateTime<Utc>>,
    /// A request to make it in Brevo has left, and was not answered: it may land until then.
    pub making: Option<DateTime<Utc>>,
    /// It is in the import that is not over yet.
    pub imported: bool,
    /// Values that a side refused, by rule.
    pub quarantined: BTreeMap<String, String>,
    /// Our own attribute was sent, and no read has shown it since.
    pub ours_sent: bool,
}

/// A contact that is linked with a company by our doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkedContact {
    /// Which.
    pub contact: BrevoContactId,
    /// We have taken it off again; until then (our clock) a late request may link it once more. `None`: it belongs there.
    pub off_until: Option<DateTime<Utc>>,
    /// How often it was sent and no read has shown it since.
    pub sends: u32,
    /// A request that links it may land until then (our clock).
    pub sent_until: Option<DateTime<Utc>>,
}

impl LinkedContact {
    /// So often one is sent that no read shows.
    const MOST_SENDS: u32 = 3;

    /// It is sent, and does not stick: not before the next sweep again.
    pub fn does_not_stick(&self) -> bool {
        self.sends >= Self::MOST_SENDS
    }
}

/// The import of companies that is not over yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompanyImport {
    /// Brevo's number for it; `None`: no answer came.
    pub process: Option<ProcessId>,
    /// When it left (our clock).
    pub sent_at: DateTime<Utc>,
    /// When Brevo was asked about it last.
    pub checked_at: Option<DateTime<Utc>>,
    /// Over, or cannot land any more: what it made is to be read, by a read that begins after this.
    pub landed_at: Option<DateTime<Utc>>,
}

impl CompanyImport {
    /// One that is about to leave. Without an answer, it may land until then.
    pub fn leaving(now: DateTime<Utc>, until: DateTime<Utc>) -> Self {
        Self { process: None, sent_at: now, checked_at: None, landed_at: Some(until) }
    }
}

/// Companies in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FirmCounts {
    /// In step, or on the way there.
    pub all: u64,
    /// With a company in Brevo.
    pub linked: u64,
    /// Waiting to be made in Brevo.
    pub to_make: u64,
    /// Others for which something is to be written.
    pub waiting: u64,
    /// In an import that is not over yet.
    pub in_import: u64,
}

const COLUMNS: &str = "id, intercom, brevo, gone, due, sweep, tries, base, watched, unanswered, verify_after, making, imported, \
                       quarantined, ours_sent";

fn firm(tx: &Tx<'_>, row: &Row<'_>) -> rusqlite::Result<Firm> {
    let quarantined: Option<String> = row.get(13)?;
    Ok(Firm {
        id: row.get(0)?,
        intercom: IntercomCompanyId::new(row.get::<_, String>(1)?),
        brevo: row.get::<_, Option<String>>(2)?.map(BrevoCompanyId::new),
        gone: row.get::<_, Option<String>>(3)?.map(|side| side_of(&side)),
        due: row.get::<_, Option<i64>>(4)?.map(instant),
        sweep: row.get(5)?,
        tries: row.get(6)?,
        base: row.get::<_, Option<Vec<u8>>>(7)?.map(|base| tx.kept(base)),
        watched: row.get::<_, Option<Vec<u8>>>(8)?.map(|watched| tx.kept(watched)),
        unanswered: row.get::<_, Option<String>>(9)?.map(|side| side_of(&side)),
        verify_after: row.get::<_, Option<i64>>(10)?.map(instant),
        making: row.get::<_, Option<i64>>(11)?.map(instant),
        imported: row.get(12)?,
        quarantined: quarantined.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default(),
        ours_sent: row.get(14)?,
    })
}

fn side_of(name: &str) -> SideName {
    if name == SideName::Intercom.as_str() { SideName::Intercom } else { SideName::Brevo }
}

/// Where the firms' due times lie that mean "as soon as it can be".
const AT_ONCE: i64 = 0;

impl Tx<'_> {
    /// Every company of Intercom's that is there and is not among them yet.
    pub fn add_firms(&self) -> Result<usize> {
        let added = self.0.execute(
            "INSERT INTO firms (intercom, due) SELECT c.id, 0 FROM companies c
             WHERE c.gone = 0 AND NOT EXISTS (SELECT 1 FROM firms f WHERE f.intercom = c.id)",
            [],
        )?;
        if added > 0 {
            self.fills(Rare::Firms);
        }
        // Whose company of Intercom's is gone has no use for one that somebody has given to another by hand.
        let released = self.0.execute(
            "UPDATE firms SET brevo = NULL, base = NULL, watched = NULL, unanswered = NULL, verify_after = NULL
             WHERE gone = 'intercom' AND EXISTS
               (SELECT 1 FROM brevo_companies b JOIN firms h ON h.intercom = b.intercom
                WHERE b.id = firms.brevo AND h.id <> firms.id
                  AND h.brevo IS NULL AND h.gone IS NULL AND h.making IS NULL AND h.imported = 0)",
            [],
        )?;
        if released > 0 {
            let sql = "DELETE FROM firm_contacts WHERE firm IN (SELECT id FROM firms WHERE brevo IS NULL AND gone = 'intercom')";
            self.0.execute(sql, [])?;
        }
        // Those that Brevo has shown already say themselves which they are. (Of several, the oldest; and none that is kept
        // in step with another company, whatever somebody has written there.)
        self.0.execute(
            "UPDATE firms SET due = 0, brevo = (SELECT min(b.id) FROM brevo_companies b
               WHERE b.intercom = firms.intercom AND NOT EXISTS (SELECT 1 FROM firms o WHERE o.brevo = b.id))
             WHERE brevo IS NULL AND gone IS NULL AND making IS NULL AND imported = 0 AND EXISTS
               (SELECT 1 FROM brevo_companies b
                WHERE b.intercom = firms.intercom AND NOT EXISTS (SELECT 1 FROM firms o WHERE o.brevo = b.id))",
            [],
        )?;
        Ok(added)
    }

    fn one_firm(&self, condition: &str, value: &dyn rusqlite::ToSql) -> Result<Option<Firm>> {
        if !self.holds(Rare::Firms)? {
            return Ok(None);
        }
        Ok(self
            .0
            .prepare_cached(&format!("SELECT {COLUMNS} FROM firms WHERE {condition}"))?
            .query_row([value], |row| firm(self, row))
            .optional()?)
    }

    /// By its number.
    pub fn firm(&self, id: i64) -> Result<Option<Firm>> {
        self.one_firm("id = ?1", &id)
    }

    /// That of an Intercom company.
    pub fn firm_of(&self, company: &IntercomCompanyId) -> Result<Option<Firm>> {
        self.one_firm("intercom = ?1", &company.as_str())
    }

    /// That of a Brevo company.
    pub fn firm_by_brevo(&self, company: &BrevoCompanyId) -> Result<Option<Firm>> {
        self.one_firm("brevo = ?1", &company.as_str())
    }

    /// Keeps it.
    pub fn put_firm(&self, firm: &Firm) -> Result<()> {
        let quarantined = (!firm.quarantined.is_empty()).then(|| encode("firms", &firm.quarantined)).transpose()?;
        self.0
            .prepare_cached(
                "UPDATE firms SET brevo = ?2, gone = ?3, due = ?4, sweep = ?5, tries = ?6, base = ?7, watched = ?8,
                   unanswered = ?9, verify_after = ?10, making = ?11, imported = ?12, quarantined = ?13, ours_sent = ?14 WHERE id = ?1",
            )?
            .execute(params![
                firm.id,
                firm.brevo.as_ref().map(BrevoCompanyId::as_str),
                firm.gone.map(SideName::as_str),
                firm.due.map(millis),
                firm.sweep,
                firm.tries,
                firm.base.as_ref().map(Packed::bytes),
                firm.watched.as_ref().map(Packed::bytes),
                firm.unanswered.map(SideName::as_str),
                firm.verify_after.map(millis),
                firm.making.map(millis),
                firm.imported,
                quarantined,
                firm.ours_sent,
            ])?;
        Ok(())
    }

    fn mark_firms(&self, which: &str, value: &dyn rusqlite::ToSql) -> Result<()> {
        if self.holds(Rare::Firms)? {
            let sql = format!("UPDATE firms SET due = {AT_ONCE}, tries = 0 WHERE gone IS NULL AND {which}");
            self.0.prepare_cached(&sql)?.execute([value])?;
        }
        Ok(())
    }

    /// Intercom's company has changed.
    pub fn mark_firm(&self, company: &IntercomCompanyId) -> Result<()> {
        self.mark_firms("intercom = ?1", &company.as_str())
    }

    /// Intercom's company is gone, or there again.
    pub fn set_firm_gone(&self, company: &IntercomCompanyId, gone: bool) -> Result<()> {
        if !self.holds(Rare::Firms)? {
            return Ok(());
        }
        let sql = if gone {
            "UPDATE firms SET gone = 'intercom', due = NULL WHERE intercom = ?1 AND gone IS NULL"
        } else {
            "UPDATE firms SET gone = NULL, due = 0 WHERE intercom = ?1 AND gone = 'intercom'"
        };
        self.0.prepare_cached(sql)?.execute([company.as_str()])?;
        Ok(())
    }

    /// A person has a Brevo contact now, or another one: it is to be linked with the person's companies.
    pub(super) fn mark_firms_of_link(&self, link: i64) -> Result<()> {
        self.mark_firms(
            "intercom IN (SELECT cc.company FROM contact_companies cc
               JOIN intercom_contacts c ON c.id = cc.contact WHERE c.link = ?1)",
            &link,
        )
    }

    /// An Intercom contact belongs to another person now, or is gone.
    pub(super) fn mark_firms_of_contact(&self, contact: &IntercomContactId) -> Result<()> {
        self.mark_firms("intercom IN (SELECT company FROM contact_companies WHERE contact = ?1)", &contact.as_str())
    }

    /// All of them are looked at, as in a sweep: what was edited on a field's target is restored, and who belongs to which
    /// company is compared anew. What was given up, or did not stick, is tried once more.
    pub fn mark_all_firms(&self) -> Result<()> {
        self.0.execute(
            "UPDATE firms SET due = coalesce(min(due, 0), 0), sweep = 1, ours_sent = 0 WHERE gone IS NULL",
            [],
        )?;
        self.0.execute("UPDATE firm_contacts SET sends = 2 WHERE sends > 2", [])?;
        Ok(())
    }

    /// Whose turn it is: those that are due and on whose last writes to Brevo's company nothing waits.
    pub fn firms_due(&self, now: DateTime<Utc>, after: i64, limit: usize) -> Result<Vec<Firm>> {
        self.firms_where(
            "due <= ?1 AND id > ?2 AND gone IS NULL AND imported = 0 AND making IS NULL AND unanswered IS NULL",
            params![millis(now), after, limit],
        )
    }

    /// Those that may have been made, and of which a look tells by now.
    pub fn firms_to_look_up(&self, now: DateTime<Utc>, limit: usize) -> Result<Vec<Firm>> {
        self.firms_where("making <= ?1 AND id > ?2 AND brevo IS NULL AND imported = 0", params![millis(now), 0, limit])
    }

    /// Those with a write of unknown outcome, of which a read tells by now.
    pub fn firms_to_verify(&self, now: DateTime<Utc>, limit: usize) -> Result<Vec<Firm>> {
        self.firms_where(
            "verify_after <= ?1 AND id > ?2 AND unanswered IS NOT NULL AND making IS NULL AND imported = 0 AND gone IS NULL",
            params![millis(now), 0, limit],
        )
    }

    /// Those that are due, and whose writes were answered and no read has settled, though none can land any more.
    pub fn firms_to_look_at_again(&self, now: DateTime<Utc>, limit: usize) -> Result<Vec<Firm>> {
        self.firms_where(
            "verify_after <= ?1 AND due <= ?1 AND id > ?2 AND watched IS NOT NULL AND unanswered IS NULL AND making IS NULL
               AND imported = 0 AND gone IS NULL",
            params![millis(now), 0, limit],
        )
    }

    /// Those with writes that no read has settled, and that none can follow any more that began by then.
    pub fn firms_to_settle(&self, read_began: DateTime<Utc>, after: i64, limit: usize) -> Result<Vec<Firm>> {
        self.firms_where(
            "verify_after <= ?1 AND id > ?2 AND watched IS NOT NULL AND brevo IS NOT NULL",
            params![millis(read_began), after, limit],
        )
    }

    /// Those in the import that is not over yet.
    pub fn firms_in_import(&self) -> Result<Vec<Firm>> {
        self.firms_where("imported = 1 AND id > ?1 AND id > ?2", params![0, 0, i64::MAX])
    }

    fn firms_where(&self, condition: &str, values: impl rusqlite::Params) -> Result<Vec<Firm>> {
        if !self.holds(Rare::Firms)? {
            return Ok(Vec::new());
        }
        let sql = format!("SELECT {COLUMNS} FROM firms WHERE {condition} ORDER BY id LIMIT ?3");
        let mut statement = self.0.prepare_cached(&sql)?;
        let rows = statement.query_map(values, |row| firm(self, row))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// How many are due and have not been refused or lost: to be made in Brevo, and others.
    pub fn firms_waiting(&self, now: DateTime<Utc>) -> Result<(u64, u64)> {
        if !self.holds(Rare::Firms)? {
            return Ok((0, 0));
        }
        let sql = "SELECT count(*) FILTER (WHERE brevo IS NULL), count(*) FILTER (WHERE brevo IS NOT NULL) FROM firms
                   WHERE due <= ?1 AND gone IS NULL AND imported = 0 AND making IS NULL AND unanswered IS NULL AND tries = 0";
        Ok(self.0.prepare_cached(sql)?.query_row([millis(now)], |row| {
            Ok((row.get::<_, i64>(0)?.unsigned_abs(), row.get::<_, i64>(1)?.unsigned_abs()))
        })?)
    }

    /// When something of this is next to be done.
    pub fn next_firm(&self) -> Result<Option<DateTime<Utc>>> {
        if !self.holds(Rare::Firms)? {
            return Ok(None);
        }
        let next: Option<i64> = self
            .0
            .prepare_cached(
                "SELECT min(at) FROM (
                   SELECT min(due) AS at FROM firms
                     WHERE gone IS NULL AND imported = 0 AND making IS NULL AND unanswered IS NULL
                   UNION ALL SELECT min(making) FROM firms WHERE imported = 0
                   UNION ALL SELECT min(verify_after) FROM firms
                     WHERE unanswered IS NOT NULL AND making IS NULL AND imported = 0 AND gone IS NULL)",
            )?
            .query_row([], |row| row.get(0))?;
        Ok(next.map(instant))
    }

    /// After a crash: what had left without an answer may land until then.
    pub fn reopen_firms(&self, until: DateTime<Utc>) -> Result<usize> {
        let made = self.0.execute("UPDATE firms SET making = ?1 WHERE making IS NOT NULL", [millis(until)])?;
        let written = self.0.execute(
            "UPDATE firms SET verify_after = ?1 WHERE unanswered IS NOT NULL AND making IS NULL AND imported = 0",
            [millis(until)],
        )?;
        Ok(made + written)
    }

    /// In numbers. Without any, none are kept in step.
    pub fn firm_counts(&self) -> Result<FirmCounts> {
        let sql = "SELECT count(*), count(brevo),
                     count(*) FILTER (WHERE brevo IS NULL AND imported = 0 AND (due IS NOT NULL OR making IS NOT NULL)),
                     count(*) FILTER (WHERE brevo IS NOT NULL AND (due IS NOT NULL OR unanswered IS NOT NULL)),
                     count(*) FILTER (WHERE imported = 1)
                   FROM firms WHERE gone IS NULL";
        let count = |row: &Row<'_>, at: usize| row.get::<_, i64>(at).map(i64::unsigned_abs);
        Ok(self.0.prepare_cached(sql)?.query_row([], |row| {
            Ok(FirmCounts {
                all: count(row, 0)?,
                linked: count(row, 1)?,
                to_make: count(row, 2)?,
                waiting: count(row, 3)?,
                in_import: count(row, 4)?,
            })
        })?)
    }

    /// The Brevo contacts that belong to a company: those of the people whose contacts Intercom shows there.
    pub fn contacts_of_company(&self, company: &IntercomCompanyId) -> Result<BTreeSet<BrevoContactId>> {
        let mut statement = self.0.prepare_cached(
            "SELECT DISTINCT l.brevo_id FROM contact_companies cc
               JOIN intercom_contacts c ON c.id = cc.contact JOIN links l ON l.id = c.link
             WHERE cc.company = ?1 AND c.state = 'live' AND l.brevo_id IS NOT NULL AND l.state = 'active'",
        )?;
        let ids = statement.query_map([company.as_str()], |row| row.get(0))?;
        Ok(ids.map(|id| id.map(BrevoContactId::new)).collect::<rusqlite::Result<_>>()?)
    }

    /// The contacts that are linked with it by our doing.
    pub fn linked_contacts(&self, firm: i64) -> Result<Vec<LinkedContact>> {
        let mut statement = self.0.prepare_cached(
            "SELECT contact, off_until, sends, sent_until FROM firm_contacts WHERE firm = ?1 ORDER BY contact",
        )?;
        let rows = statement.query_map([firm], |row| {
            let off_until = row.get::<_, Option<i64>>(1)?.map(instant);
            let sent_until = row.get::<_, Option<i64>>(3)?.map(instant);
            Ok(LinkedContact { contact: BrevoContactId::new(row.get(0)?), off_until, sends: row.get(2)?, sent_until })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// It is linked by our doing, or (`off_until`) has been taken off again.
    pub fn put_linked_contact(
        &self,
        firm: i64,
        contact: BrevoContactId,
        off_until: Option<DateTime<Utc>>,
    ) -> Result<()> {
        let sql = "INSERT INTO firm_contacts (firm, contact, off_until) VALUES (?1, ?2, ?3)
                   ON CONFLICT DO UPDATE SET off_until = excluded.off_until";
        self.0.prepare_cached(sql)?.execute(params![firm, contact.get(), off_until.map(millis)])?;
        Ok(())
    }

    /// It is about to be linked, by a request that may land until then.
    pub fn sends_linked_contact(&self, firm: i64, contact: BrevoContactId, until: DateTime<Utc>) -> Result<()> {
        let sql = "INSERT INTO firm_contacts (firm, contact, sends, sent_until) VALUES (?1, ?2, 1, ?3)
                   ON CONFLICT DO UPDATE SET off_until = NULL, sends = sends + 1, sent_until = excluded.sent_until";
        self.0.prepare_cached(sql)?.execute(params![firm, contact.get(), millis(until)])?;
        Ok(())
    }

    /// The request that linked it was answered; an earlier try of it may land until then.
    pub fn linked_contact_may_land(&self, firm: i64, contact: BrevoContactId, until: DateTime<Utc>) -> Result<()> {
        let sql = "UPDATE firm_contacts SET sent_until = ?3 WHERE firm = ?1 AND contact = ?2";
        self.0.prepare_cached(sql)?.execute(params![firm, contact.get(), millis(until)])?;
        Ok(())
    }

    /// The request that was to link it was not accepted: it counts as never sent, but that it may land until then (`None`: it
    /// cannot).
    pub fn linked_contact_was_not_taken(
        &self,
        firm: i64,
        contact: BrevoContactId,
        until: Option<DateTime<Utc>>,
    ) -> Result<()> {
        let sql = "UPDATE firm_contacts SET sends = max(sends - 1, 0), sent_until = coalesce(?3, sent_until)
                   WHERE firm = ?1 AND contact = ?2";
        self.0.prepare_cached(sql)?.execute(params![firm, contact.get(), until.map(millis)])?;
        Ok(())
    }

    /// Whatever was to link anybody with it cannot land later than then.
    pub fn linked_contacts_land_by(&self, firm: i64, until: DateTime<Utc>) -> Result<()> {
        self.0
            .prepare_cached("UPDATE firm_contacts SET sent_until = ?2 WHERE firm = ?1 AND sent_until > ?2")?
            .execute(params![firm, millis(until)])?;
        Ok(())
    }

    /// A read shows these: what was sent has stuck.
    pub fn linked_contacts_shown(&self, firm: i64, shown: &BTreeSet<BrevoContactId>) -> Result<()> {
        for row in self.linked_contacts(firm)?.into_iter().filter(|row| row.sends > 0 && shown.contains(&row.contact)) {
            let sql = "UPDATE firm_contacts SET sends = 0 WHERE firm = ?1 AND contact = ?2";
            self.0.prepare_cached(sql)?.execute(params![firm, row.contact.get()])?;
        }
        Ok(())
    }

    /// It is not linked, and nothing of ours can link it any more.
    pub fn drop_linked_contact(&self, firm: i64, contact: BrevoContactId) -> Result<()> {
        self.0
            .prepare_cached("DELETE FROM firm_contacts WHERE firm = ?1 AND contact = ?2")?
            .execute(params![firm, contact.get()])?;
        Ok(())
    }

    /// Brevo's company as it was seen last.
    pub fn brevo_company(&self, id: &BrevoCompanyId) -> Result<Option<BrevoCompany>> {
        let text: Option<String> = self
            .0
            .prepare_cached("SELECT record FROM brevo_companies WHERE id = ?1")?
            .query_row([id.as_str()], |row| row.get(0))
            .optional()?;
        // What cannot be read back is as if it had never been seen: the next full read shows it.
        Ok(text.and_then(|text| decode("brevo_companies", &text).ok()))
    }

    /// Keeps what was observed; `true` if it is new or differs.
    pub fn put_brevo_company(&self, company: &BrevoCompany) -> Result<bool> {
        let (record, ours) = (encode("brevo_companies", company)?, company.intercom());
        let changed = self
            .0
            .prepare_cached(
                "INSERT INTO brevo_companies (id, intercom, record) VALUES (?1, ?2, ?3)
                 ON CONFLICT (id) DO UPDATE SET intercom = excluded.intercom, record = excluded.record
                   WHERE record <> excluded.record",
            )?
            .execute(params![company.id.as_str(), ours.as_ref().map(IntercomCompanyId::as_str), record])?;
        Ok(changed > 0)
    }

    /// Brevo's company is gone.
    pub fn drop_brevo_company(&self, id: &BrevoCompanyId) -> Result<()> {
        self.0.prepare_cached("DELETE FROM brevo_companies WHERE id = ?1")?.execute([id.as_str()])?;
        Ok(())
    }

    /// How many of Brevo's companies have been seen.
    pub fn count_brevo_companies(&self) -> Result<u64> {
        let sql = "SELECT count(*) FROM brevo_companies";
        Ok(self.0.prepare_cached(sql)?.query_row([], |row| row.get::<_, i64>(0))?.unsigned_abs())
    }

    /// Brevo's companies that say that they are this one, as far as they have been seen: the oldest first.
    pub fn brevo_companies_of(&self, company: &IntercomCompanyId) -> Result<Vec<BrevoCompanyId>> {
        let mut statement = self.0.prepare_cached("SELECT id FROM brevo_companies WHERE intercom = ?1 ORDER BY id")?;
        let ids = statement.query_map([company.as_str()], |row| row.get::<_, String>(0))?;
        Ok(ids.map(|id| id.map(BrevoCompanyId::new)).collect::<rusqlite::Result<_>>()?)
    }

    /// The import that is not over yet.
    pub fn company_import(&self) -> Result<Option<CompanyImport>> {
        self.meta(IMPORT)?.filter(|text| !text.is_empty()).map(|text| decode("meta", &text)).transpose()
    }

    /// Keeps it; `None`: there is none any more.
    pub fn put_company_import(&self, import: Option<&CompanyImport>) -> Result<()> {
        let text = import.map(|import| encode("meta", import)).transpose()?;
        self.set_meta(IMPORT, &text.unwrap_or_default())
    }
}
