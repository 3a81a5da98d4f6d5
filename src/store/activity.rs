//! Companies, conversations, tags and lists.

use super::{Record, Result, Tx, decode, encode, links::Dirty, millis, rare::Rare};
use crate::model::{
    BrevoListId, Company, Conversation, ConversationId, IntercomCompanyId, IntercomContactId, IntercomTagId, Tag,
};
use rusqlite::{OptionalExtension as _, params};
use std::collections::{BTreeMap, BTreeSet};

impl Tx<'_> {
    /// The company with this id, unless it is gone.
    pub fn company(&self, id: &IntercomCompanyId) -> Result<Option<Company>> {
        let text: Option<String> = self
            .0
            .prepare_cached("SELECT record FROM companies WHERE id = ?1 AND gone = 0")?
            .query_row([id.as_str()], |row| row.get(0))
            .optional()?;
        text.map(|text| decode("companies", &text).map_err(|error| error.of(Record::Company(id.clone())))).transpose()
    }

    /// Whether a company was ever shown, be it gone by now.
    pub fn knows_company(&self, id: &IntercomCompanyId) -> Result<bool> {
        Ok(self
            .0
            .prepare_cached("SELECT EXISTS (SELECT 1 FROM companies WHERE id = ?1)")?
            .query_row([id.as_str()], |row| row.get(0))?)
    }

    /// Keeps what was observed; `true` if it is new or differs.
    pub fn put_company(&self, company: &Company) -> Result<bool> {
        let known = match self.company(&company.id) {
            // What cannot be read is replaced.
            Err(error) if error.unreadable().is_some() => None,
            known => known?,
        };
        let changed = known.as_ref() != Some(company);
        self.0
            .prepare_cached(
                "INSERT INTO companies (id, updated_at, record) VALUES (?1, ?2, ?3)
                 ON CONFLICT (id) DO UPDATE SET updated_at = excluded.updated_at, record = excluded.record, gone = 0,
                     wants_fetch = 0",
            )?
            .execute(params![company.id.as_str(), company.updated_at.map(millis), encode("companies", company)?])?;
        Ok(changed)
    }

    /// Marks a company as gone.
    pub fn set_company_gone(&self, id: &IntercomCompanyId) -> Result<()> {
        self.0
            .prepare_cached("UPDATE companies SET gone = 1, wants_fetch = 0 WHERE id = ?1")?
            .execute([id.as_str()])?;
        Ok(())
    }

    /// Which companies a contact belongs to; `true` if that is new.
    pub fn set_contact_companies(
        &self,
        contact: &IntercomContactId,
        companies: &BTreeSet<IntercomCompanyId>,
    ) -> Result<bool> {
        let before: BTreeSet<IntercomCompanyId> = self.contact_companies(contact)?.into_iter().collect();
        if before == *companies {
            return Ok(false);
        }
        for company in before.symmetric_difference(companies) {
            self.mark_firm(company)?;
        }
        self.0.prepare_cached("DELETE FROM contact_companies WHERE contact = ?1")?.execute([contact.as_str()])?;
        let mut insert =
            self.0.prepare_cached("INSERT OR IGNORE INTO contact_companies (contact, company) VALUES (?1, ?2)")?;
        for company in companies {
            insert.execute([contact.as_str(), company.as_str()])?;
        }
        Ok(true)
    }

    /// The companies of a contact.
    pub fn contact_companies(&self, contact: &IntercomContactId) -> Result<Vec<IntercomCompanyId>> {
        let mut statement =
            self.0.prepare_cached("SELECT company FROM contact_companies WHERE contact = ?1 ORDER BY company")?;
        let ids = statement.query_map([contact.as_str()], |row| row.get::<_, String>(0))?;
        Ok(ids.map(|id| id.map(IntercomCompanyId::new)).collect::<rusqlite::Result<_>>()?)
    }

    /// Asks for the links of a company's contacts to be planned.
    pub fn mark_company_dirty(&self, company: &IntercomCompanyId, dirty: Dirty) -> Result<usize> {
        Ok(self
            .0
            .prepare_cached(
                "UPDATE links SET dirty = max(dirty, ?2), marks = marks + 1 WHERE id IN
                   (SELECT c.link FROM contact_companies cc JOIN intercom_contacts c ON c.id = cc.contact
                    WHERE cc.company = ?1 AND c.link IS NOT NULL AND c.is_primary = 1)",
            )?
            .execute(params![company.as_str(), dirty.as_int()])?)
    }

    /// The conversation with this id.
    pub fn conversation(&self, id: &ConversationId) -> Result<Option<Conversation>> {
        let text: Option<String> = self
            .0
            .prepare_cached("SELECT record FROM conversations WHERE id = ?1 AND gone = 0")?
            .query_row([id.as_str()], |row| row.get(0))
            .optional()?;
        text.map(|text| decode("conversations", &text).map_err(|error| error.of(Record::Conversation(id.clone()))))
            .transpose()
    }

    /// Keeps what was observed.
    pub fn put_conversation(&self, conversation: &Conversation) -> Result<()> {
        self.fills(Rare::Conversations);
        self.0
            .prepare_cached(
                "INSERT INTO conversations (id, updated_at, record) VALUES (?1, ?2, ?3)
                 ON CONFLICT (id) DO UPDATE SET updated_at = excluded.updated_at, record = excluded.record, gone = 0",
            )?
            .execute(params![
                conversation.id.as_str(),
                millis(conversation.updated_at),
                encode("conversations", conversation)?
            ])?;
        self.0
            .prepare_cached("DELETE FROM conversation_contacts WHERE conversation = ?1")?
            .execute([conversation.id.as_str()])?;
        let mut insert = self
            .0
            .prepare_cached("INSERT OR IGNORE INTO conversation_contacts (contact, conversation) VALUES (?1, ?2)")?;
        for contact in &conversation.contacts {
            insert.execute([contact.as_str(), conversation.id.as_str()])?;
        }
        Ok(())
    }

    /// Asks for the conversation itself; `false` if it is not known.
    pub fn want_conversation(&self, id: &ConversationId) -> Result<bool> {
        let known = self
            .0
            .prepare_cached("UPDATE conversations SET wants_fetch = wants_fetch + 1 WHERE id = ?1")?
            .execute([id.as_str()])?;
        Ok(known > 0)
    }

    /// Conversations that a webhook named.
    pub fn wanted_conversations(&self, limit: usize) -> Result<Vec<ConversationId>> {
        let mut statement =
            self.0.prepare_cached("SELECT id FROM conversations WHERE wants_fetch > 0 ORDER BY id LIMIT ?1")?;
        let ids = statement.query_map([limit], |row| row.get::<_, String>(0))?;
        Ok(ids.map(|id| id.map(ConversationId::new)).collect::<rusqlite::Result<_>>()?)
    }

    /// How often webhooks named a conversation since it was read by id.
    pub fn conversation_named(&self, id: &ConversationId) -> Result<i64> {
        Ok(self
            .0
            .prepare_cached("SELECT wants_fetch FROM conversations WHERE id = ?1")?
            .query_row([id.as_str()], |row| row.get(0))
            .optional()?
            .unwrap_or(0))
    }

    /// The conversation was read by id after it had been named `named` times; named once more since, it stays wanted.
    pub fn conversation_was_fetched(&self, id: &ConversationId, named: i64) -> Result<()> {
        self.0
            .prepare_cached("UPDATE conversations SET wants_fetch = 0 WHERE id = ?1 AND wants_fetch = ?2")?
            .execute(params![id.as_str(), named])?;
        Ok(())
    }

    /// Marks a conversation as gone: it no longer counts.
    pub fn set_conversation_gone(&self, id: &ConversationId) -> Result<()> {
        self.0
            .prepare_cached("UPDATE conversations SET gone = 1, wants_fetch = 0 WHERE id = ?1")?
            .execute([id.as_str()])?;
        Ok(())
    }

    /// Asks for the links of a conversation's contacts to be planned.
    pub fn mark_conversation_dirty(&self, id: &ConversationId, dirty: Dirty) -> Result<usize> {
        Ok(self
            .0
            .prepare_cached(
                "UPDATE links SET dirty = max(dirty, ?2), marks = marks + 1 WHERE id IN
                   (SELECT c.link FROM conversation_contacts cc JOIN intercom_contacts c ON c.id = cc.contact
                    WHERE cc.conversation = ?1 AND c.link IS NOT NULL)",
            )?
            .execute(params![id.as_str(), dirty.as_int()])?)
    }

    /// The conversations in which a contact takes part.
    pub fn conversations_of(&self, contact: &IntercomContactId) -> Result<Vec<Conversation>> {
        if !self.holds(Rare::Conversations)? {
            return Ok(Vec::new());
        }
        let mut statement = self.0.prepare_cached(
            "SELECT c.record, c.id FROM conversation_contacts cc JOIN conversations c ON c.id = cc.conversation
             WHERE cc.contact = ?1 AND c.gone = 0 ORDER BY c.id",
        )?;
        let rows =
            statement.query_map([contact.as_str()], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
        rows.map(|row| {
            let (text, id) = row?;
            decode("conversations", &text).map_err(|error| error.of(Record::Conversation(ConversationId::new(id))))
        })
        .collect()
    }

    /// Keeps a tag's name; `true` if it is new or was renamed.
    pub fn put_tag(&self, tag: &Tag) -> Result<bool> {
        let changed = self
            .0
            .prepare_cached(
                "INSERT INTO tags (id, name) VALUES (?1, ?2)
                 ON CONFLICT (id) DO UPDATE SET name = excluded.name WHERE name <> excluded.name",
            )?
            .execute([tag.id.as_str(), tag.name.as_str()])?;
        Ok(changed > 0)
    }

    /// Which tags a contact has.
    pub fn set_contact_tags(&self, contact: &IntercomContactId, tags: &BTreeSet<IntercomTagId>) -> Result<()> {
        self.0.prepare_cached("DELETE FROM contact_tags WHERE contact = ?1")?.execute([contact.as_str()])?;
        let mut insert = self.0.prepare_cached("INSERT INTO contact_tags (contact, tag) VALUES (?1, ?2)")?;
        for tag in tags {
            insert.execute([contact.as_str(), tag.as_str()])?;
        }
        Ok(())
    }

    /// Asks for the links of a tag's contacts to be planned: it is new, or was renamed.
    pub fn mark_tag_dirty(&self, tag: &IntercomTagId, dirty: Dirty) -> Result<usize> {
        Ok(self
            .0
            .prepare_cached(
                "UPDATE links SET dirty = max(dirty, ?2), marks = marks + 1 WHERE id IN
                   (SELECT c.link FROM contact_tags t JOIN intercom_contacts c ON c.id = t.contact
                    WHERE t.tag = ?1 AND c.link IS NOT NULL)",
            )?
            .execute(params![tag.as_str(), dirty.as_int()])?)
    }

    /// All tags by id.
    pub fn tags(&self) -> Result<BTreeMap<IntercomTagId, String>> {
        let mut statement = self.0.prepare_cached("SELECT id, name FROM tags")?;
        let rows = statement.query_map([], |row| Ok((IntercomTagId::new(row.get::<_, String>(0)?), row.get(1)?)))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Keeps a Brevo list's name.
    pub fn put_list(&self, id: BrevoListId, name: &str) -> Result<()> {
        self.0
            .prepare_cached(
                "INSERT INTO lists (id, name) VALUES (?1, ?2) ON CONFLICT (id) DO UPDATE SET name = excluded.name",
            )?
            .execute(params![id.get(), name])?;
        Ok(())
    }

    /// Forgets all lists, before they are read anew.
    pub fn clear_lists(&self) -> Result<()> {
        self.0.execute("DELETE FROM lists", [])?;
        Ok(())
    }

    /// Brevo's lists by id.
    pub fn lists(&self) -> Result<BTreeMap<BrevoListId, String>> {
        let mut statement = self.0.prepare_cached("SELECT id, name FROM lists")?;
        let rows = statement.query_map([], |row| Ok((BrevoListId::new(row.get(0)?), row.get(1)?)))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }
}
