//! Both sides' views of contacts: what was last observed there.

use super::{Record, Result, Tx, links::Dirty, millis, rare::Rare};
use crate::model::{BrevoContact, BrevoContactId, Email, IntercomContact, IntercomContactId, phone_digits};
use rusqlite::{OptionalExtension as _, Row, params};

/// How an Intercom contact is doing there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContactState {
    /// There.
    Live,
    /// Archived: may come back.
    Archived,
    /// A read by id did not find it, and nothing says yet whether it was deleted or merged.
    Missing,
    /// Deleted.
    Deleted,
    /// Merged into another.
    Merged,
}

impl ContactState {
    fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Archived => "archived",
            Self::Missing => "missing",
            Self::Deleted => "deleted",
            Self::Merged => "merged",
        }
    }

    fn parse(text: &str) -> Self {
        match text {
            "archived" => Self::Archived,
            "missing" => Self::Missing,
            "deleted" => Self::Deleted,
            "merged" => Self::Merged,
            _ => Self::Live,
        }
    }
}

/// An Intercom contact as it is kept.
#[derive(Debug, Clone)]
pub struct IntercomRow {
    /// What was last observed.
    pub contact: IntercomContact,
    /// Whether it is there.
    pub state: ContactState,
    /// The survivor of a merge.
    pub merged_into: Option<IntercomContactId>,
    /// Its link.
    pub link: Option<i64>,
    /// Whether it gives its link's fields.
    pub is_primary: bool,
}

/// What is still to be read about a contact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wants {
    /// Which contact.
    pub id: IntercomContactId,
    /// Tags beyond the ten embedded.
    pub tags: bool,
    /// Companies beyond the ten embedded.
    pub companies: bool,
    /// How often webhooks named the contact since it was read by id; 0: it is not wanted.
    pub fetch: i64,
}

// Queries are put together when the program is built: they are asked several times for each contact.
macro_rules! intercom_where {
    ($condition:literal) => {
        concat!("SELECT record, state, merged_into, link, is_primary, id FROM intercom_contacts WHERE ", $condition)
    };
}
macro_rules! brevo_where {
    ($condition:literal) => {
        concat!("SELECT record, id FROM brevo_contacts WHERE ", $condition, " AND gone = 0 ORDER BY id LIMIT 1")
    };
}

type IntercomColumns = (Vec<u8>, String, Option<String>, Option<i64>, bool);

fn intercom_row(row: &Row<'_>) -> rusqlite::Result<IntercomColumns> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
}

fn to_intercom(tx: &Tx<'_>, id: &str, columns: IntercomColumns) -> Result<IntercomRow> {
    let (record, state, merged_into, link, is_primary) = columns;
    Ok(IntercomRow {
        contact: tx
            .kept(record)
            .unpack("intercom_contacts")
            .map_err(|error| error.of(Record::Intercom(IntercomContactId::new(id))))?,
        state: ContactState::parse(&state),
        merged_into: merged_into.map(IntercomContactId::new),
        link,
        is_primary,
    })
}

/// Who has a phone number that somebody else was to get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PhoneHolder {
    /// A Brevo contact shows it.
    Brevo(BrevoContactId),
    /// It was promised to another person.
    Link(i64),
}

impl Tx<'_> {
    /// The Intercom contact with this id.
    pub fn intercom_contact(&self, id: &IntercomContactId) -> Result<Option<IntercomRow>> {
        self.0
            .prepare_cached(intercom_where!("id = ?1"))?
            .query_row([id.as_str()], intercom_row)
            .optional()?
            .map(|columns| to_intercom(self, id.as_str(), columns))
            .transpose()
    }

    /// Whoever had this external id, and is not there any more.
    pub fn gone_with_external_id(&self, external_id: &str) -> Result<Option<IntercomRow>> {
        self.0
            .prepare_cached(intercom_where!("was_named = ?1 ORDER BY created_at DESC, id LIMIT 1"))?
            .query_row([external_id], |row| Ok((intercom_row(row)?, row.get::<_, String>(5)?)))
            .optional()?
            .map(|(columns, id)| to_intercom(self, &id, columns))
            .transpose()
    }

    /// The links of all who had this external id, and are not there any more.
    pub fn links_of_gone_with_external_id(&self, external_id: &str) -> Result<Vec<i64>> {
        let mut statement =
            self.0.prepare_cached("SELECT link FROM intercom_contacts WHERE was_named = ?1 AND link IS NOT NULL")?;
        let links = statement.query_map([external_id], |row| row.get(0))?;
        Ok(links.collect::<rusqlite::Result<_>>()?)
    }

    /// The address under which a contact is kept, whatever else of it can be read.
    pub fn intercom_email(&self, id: &IntercomContactId) -> Result<Option<Email>> {
        let email: Option<Option<String>> = self
            .0
            .prepare_cached("SELECT email FROM intercom_contacts WHERE id = ?1")?
            .query_row([id.as_str()], |row| row.get(0))
            .optional()?;
        Ok(email.flatten().map(Email::from_kept))
    }

    /// Keeps what was observed. The contact is live by that.
    pub fn put_intercom_contact(&self, contact: &IntercomContact, seen_in: i64) -> Result<()> {
        self.0
            .prepare_cached(
                "INSERT INTO intercom_contacts (id, email, created_at, updated_at, record, seen_in)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                 ON CONFLICT (id) DO UPDATE SET email = excluded.email, created_at = excluded.created_at,
                     updated_at = excluded.updated_at, record = excluded.record, state = 'live', merged_into = NULL,
                     was_named = NULL, seen_in = max(seen_in, excluded.seen_in)",
            )?
            .execute(params![
                contact.id.as_str(),
                contact.email.as_ref().map(Email::as_str),
                millis(contact.created_at),
                millis(contact.updated_at),
                self.pack("intercom_contacts", contact)?.bytes(),
                seen_in,
            ])?;
        Ok(())
    }

    /// Keeps a contact that was never seen before and gives its link's fields.
    pub fn put_newcomer(&self, contact: &IntercomContact, seen_in: i64, link: i64) -> Result<()> {
        self.0
            .prepare_cached(
                "INSERT INTO intercom_contacts (id, email, created_at, updated_at, record, seen_in, link, is_primary)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 1)",
            )?
            .execute(params![
                contact.id.as_str(),
                contact.email.as_ref().map(Email::as_str),
                millis(contact.created_at),
                millis(contact.updated_at),
                self.pack("intercom_contacts", contact)?.bytes(),
                seen_in,
                link,
            ])?;
        Ok(())
    }

    /// Notes that a sweep showed the contact.
    pub fn touch_intercom_contact(&self, id: &IntercomContactId, seen_in: i64) -> Result<()> {
        self.0
            .prepare_cached("UPDATE intercom_contacts SET seen_in = max(seen_in, ?2) WHERE id = ?1")?
            .execute(params![id.as_str(), seen_in])?;
        Ok(())
    }

    /// Marks a contact as gone, or back.
    pub fn set_intercom_state(
        &self,
        id: &IntercomContactId,
        state: ContactState,
        merged_into: Option<&IntercomContactId>,
    ) -> Result<()> {
        if merged_into.is_some() {
            self.fills(Rare::Merged);
        }
        let was_named = match self.intercom_contact(id) {
            // What it was called cannot be told.
            Err(error) if error.unreadable().is_some() => None,
            known => known?.and_then(|row| row.contact.external_id).filter(|_| state != ContactState::Live),
        };
        self.0
            .prepare_cached(
                "UPDATE intercom_contacts SET state = ?2, merged_into = ?3, was_named = ?4, wants_tags = 0,
                 wants_companies = 0, wants_fetch = 0 WHERE id = ?1",
            )?
            .execute(params![id.as_str(), state.as_str(), merged_into.map(IntercomContactId::as_str), was_named])?;
        self.mark_firms_of_contact(id)
    }

    /// Asks for identity to be decided (again).
    pub fn set_unplaced(&self, id: &IntercomContactId, urgency: Dirty) -> Result<()> {
        self.0
            .prepare_cached("UPDATE intercom_contacts SET unplaced = max(unplaced, ?2) WHERE id = ?1")?
            .execute(params![id.as_str(), urgency.as_int()])?;
        Ok(())
    }

    /// Identity is decided.
    pub fn set_placed(&self, id: &IntercomContactId) -> Result<()> {
        self.0.prepare_cached("UPDATE intercom_contacts SET unplaced = 0 WHERE id = ?1")?.execute([id.as_str()])?;
        Ok(())
    }

    /// Nothing is decided about a link's contacts until one of them changes.
    pub fn set_members_placed(&self, link: i64) -> Result<()> {
        self.0.prepare_cached("UPDATE intercom_contacts SET unplaced = 0 WHERE link = ?1")?.execute([link])?;
        Ok(())
    }

    /// Contacts whose identity is to be decided, eldest first, and how urgently.
    pub fn unplaced(&self, least: Dirty, limit: usize) -> Result<Vec<(IntercomContactId, Dirty)>> {
        let mut statement = self.0.prepare_cached(
            "SELECT id, unplaced FROM intercom_contacts WHERE unplaced > 0 AND unplaced >= ?1
             ORDER BY created_at, id LIMIT ?2",
        )?;
        let rows = statement.query_map(params![least.as_int(), limit], |row| {
            Ok((IntercomContactId::new(row.get::<_, String>(0)?), Dirty::parse(row.get(1)?)))
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Asks for sets that were embedded only in part. Whether the contact itself is wanted is another matter: a page
    /// that shows it does not stand in for the read that a webhook asked for.
    pub fn set_wants(&self, id: &IntercomContactId, tags: bool, companies: bool) -> Result<()> {
        self.0
            .prepare_cached("UPDATE intercom_contacts SET wants_tags = ?2, wants_companies = ?3 WHERE id = ?1")?
            .execute(params![id.as_str(), tags, companies])?;
        Ok(())
    }

    /// The contact was read by id after it had been named `named` times; named once more since, it stays wanted.
    pub fn contact_was_fetched(&self, id: &IntercomContactId, named: i64) -> Result<()> {
        self.0
            .prepare_cached("UPDATE intercom_contacts SET wants_fetch = 0 WHERE id = ?1 AND wants_fetch = ?2")?
            .execute(params![id.as_str(), named])?;
        Ok(())
    }

    /// What is still to be read about one contact.
    pub fn wants_of(&self, id: &IntercomContactId) -> Result<Option<Wants>> {
        Ok(self
            .0
            .prepare_cached("SELECT wants_tags, wants_companies, wants_fetch FROM intercom_contacts WHERE id = ?1")?
            .query_row([id.as_str()], |row| {
                Ok(Wants { id: id.clone(), tags: row.get(0)?, companies: row.get(1)?, fetch: row.get(2)? })
            })
            .optional()?)
    }

    /// Asks for the contact itself, keeping what else was asked for.
    pub fn want_contact(&self, id: &IntercomContactId) -> Result<bool> {
        let known = self
            .0
            .prepare_cached("UPDATE intercom_contacts SET wants_fetch = wants_fetch + 1 WHERE id = ?1")?
            .execute([id.as_str()])?;
        Ok(known > 0)
    }

    /// What is still to be read about contacts.
    pub fn wants(&self, limit: usize) -> Result<Vec<Wants>> {
        let mut statement = self.0.prepare_cached(
            "SELECT id, wants_tags, wants_companies, wants_fetch FROM intercom_contacts
             WHERE wants_tags + wants_companies + wants_fetch > 0 ORDER BY wants_fetch > 0 DESC, id LIMIT ?1",
        )?;
        let rows = statement.query_map([limit], |row| {
            Ok(Wants {
                id: IntercomContactId::new(row.get::<_, String>(0)?),
                tags: row.get(1)?,
                companies: row.get(2)?,
                fetch: row.get(3)?,
            })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Whether anybody is known to be in Intercom.
    pub fn has_intercom_contacts(&self) -> Result<bool> {
        let sql = "SELECT EXISTS (SELECT 1 FROM intercom_contacts WHERE state = 'live')";
        Ok(self.0.prepare_cached(sql)?.query_row([], |row| row.get(0))?)
    }

    /// The greatest id of Brevo's contacts: they are given in the order in which contacts are made.
    pub fn newest_brevo_contact(&self) -> Result<i64> {
        Ok(self.0.prepare_cached("SELECT coalesce(max(id), 0) FROM brevo_contacts")?.query_row([], |row| row.get(0))?)
    }

    /// The members of a link, live or not.
    pub fn members(&self, link: i64) -> Result<Vec<IntercomRow>> {
        let mut statement = self.0.prepare_cached(intercom_where!("link = ?1"))?;
        let rows = statement.query_map([link], |row| Ok((intercom_row(row)?, row.get::<_, String>(5)?)))?;
        let mut rows = rows.collect::<rusqlite::Result<Vec<_>>>()?;
        // Mostly there is one: SQLite would make a sorter for it.
        rows.sort_by(|(_, a), (_, b)| a.cmp(b));
        rows.into_iter().map(|(columns, id)| to_intercom(self, &id, columns)).collect()
    }

    /// Puts a contact into a link (or into none).
    pub fn set_member(&self, id: &IntercomContactId, link: Option<i64>, is_primary: bool) -> Result<()> {
        self.0
            .prepare_cached("UPDATE intercom_contacts SET link = ?2, is_primary = ?3 WHERE id = ?1")?
            .execute(params![id.as_str(), link, is_primary])?;
        self.mark_firms_of_contact(id)
    }

    /// The Brevo contact with this id, unless it is gone.
    pub fn brevo_contact(&self, id: BrevoContactId) -> Result<Option<BrevoContact>> {
        self.one_brevo_contact(brevo_where!("id = ?1"), &id.get())
    }

    /// The same, as it was last seen, whether it is gone or not.
    pub fn brevo_contact_as_it_was(&self, id: BrevoContactId) -> Result<Option<BrevoContact>> {
        self.one_brevo_contact("SELECT record, id FROM brevo_contacts WHERE id = ?1", &id.get())
    }

    /// The Brevo contact with this address.
    pub fn brevo_contact_by_email(&self, email: &Email) -> Result<Option<BrevoContact>> {
        self.one_brevo_contact(brevo_where!("email = ?1"), &email.as_str())
    }

    /// The Brevo contacts that showed this address when they were last seen: more than one if it has wandered since.
    pub fn brevo_ids_by_email(&self, email: &Email) -> Result<Vec<BrevoContactId>> {
        let mut statement =
            self.0.prepare_cached("SELECT id FROM brevo_contacts WHERE email = ?1 AND gone = 0 ORDER BY id")?;
        let ids = statement.query_map([email.as_str()], |row| row.get(0).map(BrevoContactId::new))?;
        Ok(ids.collect::<rusqlite::Result<_>>()?)
    }

    /// The Brevo contact with this external id.
    pub fn brevo_contact_by_ext_id(&self, ext_id: &str) -> Result<Option<BrevoContact>> {
        self.one_brevo_contact(brevo_where!("ext_id = ?1"), &ext_id)
    }

    /// The Brevo contact with this phone (digits only).
    pub fn brevo_contact_by_phone(&self, phone: &str) -> Result<Option<BrevoContact>> {
        self.one_brevo_contact(brevo_where!("phone = ?1"), &phone)
    }

    fn one_brevo_contact(&self, query: &str, value: &dyn rusqlite::ToSql) -> Result<Option<BrevoContact>> {
        let record: Option<(Vec<u8>, i64)> =
            self.0.prepare_cached(query)?.query_row([value], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        let Some((record, id)) = record else { return Ok(None) };
        let contact = self.kept(record).unpack("brevo_contacts");
        contact.map(Some).map_err(|error| error.of(Record::Brevo(BrevoContactId::new(id))))
    }

    /// Keeps what was observed, or what we have just made there (`provisional`: any later read replaces it).
    pub fn put_brevo_contact(&self, contact: &BrevoContact, seen_in: i64, provisional: bool) -> Result<()> {
        let phone = contact.attributes.get("SMS").map(|phone| phone_digits(&phone.to_string()));
        let modified_at = if provisional { 0 } else { millis(contact.modified_at) };
        self.0
            .prepare_cached(
                "INSERT INTO brevo_contacts (id, email, ext_id, phone, modified_at, seen_in, record)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
                 ON CONFLICT (id) DO UPDATE SET email = excluded.email, ext_id = excluded.ext_id,
                     phone = excluded.phone, modified_at = excluded.modified_at, gone = 0,
                     seen_in = max(seen_in, excluded.seen_in), record = excluded.record",
            )?
            .execute(params![
                contact.id.get(),
                contact.email.as_ref().map(Email::as_str),
                contact.ext_id,
                phone,
                modified_at,
                seen_in,
                self.pack("brevo_contacts", contact)?.bytes(),
            ])?;
        Ok(())
    }

    /// Marks a Brevo contact as gone.
    pub fn set_brevo_gone(&self, id: BrevoContactId) -> Result<()> {
        self.0.prepare_cached("UPDATE brevo_contacts SET gone = 1 WHERE id = ?1")?.execute([id.get()])?;
        Ok(())
    }

    /// Notes that a sweep showed the contact.
    pub fn touch_brevo_contact(&self, id: BrevoContactId, seen_in: i64) -> Result<()> {
        self.0
            .prepare_cached("UPDATE brevo_contacts SET seen_in = max(seen_in, ?2) WHERE id = ?1")?
            .execute(params![id.get(), seen_in])?;
        Ok(())
    }

    /// Says who gets this phone: `link`, unless another link or another Brevo contact has it; then that one is named.
    pub fn claim_phone(&self, phone: &str, link: i64, brevo: Option<BrevoContactId>) -> Result<Option<PhoneHolder>> {
        let phone = phone_digits(phone);
        let holder: Option<i64> = self
            .0
            .prepare_cached("SELECT id FROM brevo_contacts WHERE phone = ?1 AND gone = 0 LIMIT 1")?
            .query_row([&phone], |row| row.get(0))
            .optional()?;
        if let Some(holder) = holder.filter(|holder| Some(*holder) != brevo.map(BrevoContactId::get)) {
            return Ok(Some(PhoneHolder::Brevo(BrevoContactId::new(holder))));
        }
        self.0.prepare_cached("DELETE FROM phones WHERE link = ?1 AND phone <> ?2")?.execute(params![link, phone])?;
        self.0
            .prepare_cached(
                // Who has left Intercom or Brevo does not keep a number from others.
                "INSERT INTO phones (phone, link) VALUES (?1, ?2) ON CONFLICT (phone) DO UPDATE SET link = excluded.link
                   WHERE NOT EXISTS (SELECT 1 FROM links WHERE id = phones.link AND state = 'active')",
            )?
            .execute(params![phone, link])?;
        let owner: i64 =
            self.0.prepare_cached("SELECT link FROM phones WHERE phone = ?1")?.query_row([&phone], |row| row.get(0))?;
        Ok((owner != link).then_some(PhoneHolder::Link(owner)))
    }
}
