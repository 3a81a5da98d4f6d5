//! What is left of somebody who was forgotten (a keyed hash), and taking all the rest out of the file.

use super::{Result, Store, Tx, decode, encode, instant, millis, transact};
use crate::model::{BrevoContactId, Conversation, ConversationId, Email, IntercomContactId, SideName};
use chrono::{DateTime, Utc};
use rusqlite::{Connection, OptionalExtension as _, ToSql, params, params_from_iter};
use std::collections::BTreeSet;

/// What is left of somebody who was forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tombstone {
    /// They were opted out of e-mail.
    pub email_out: bool,
    /// The same of SMS.
    pub sms_out: bool,
    /// Their contact in Brevo was gone: for this Intercom contact, none is made again.
    pub gone_in_brevo: bool,
    /// When they were forgotten.
    pub at: DateTime<Utc>,
}

/// Whose rows are taken out.
#[derive(Debug, Clone, Default)]
pub struct Erasure {
    /// Links.
    pub links: BTreeSet<i64>,
    /// Intercom contacts.
    pub intercom: BTreeSet<IntercomContactId>,
    /// Brevo contacts.
    pub brevo: BTreeSet<BrevoContactId>,
    /// Addresses.
    pub emails: BTreeSet<Email>,
}

/// A webhook that waits and names somebody.
#[derive(Debug, Clone)]
pub struct WaitingWebhook {
    /// Its place in the queue.
    pub seq: i64,
    /// Who sent it.
    pub side: SideName,
    /// Its topic.
    pub topic: String,
    /// Its body.
    pub body: Vec<u8>,
}

impl Store {
    /// Runs `work` like [`write`](Self::write); what it deletes is overwritten in the file.
    ///
    /// # Errors
    /// Whatever `work` or SQLite says; nothing was kept then.
    pub async fn write_erasing<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Tx<'_>) -> Result<T> + Send + 'static,
    {
        let (words, beside) = (self.words.clone(), self.beside);
        self.call(move |connection| {
            secure(connection, true)?;
            let done = transact(connection, &words, beside, work);
            secure(connection, false)?;
            done
        })
        .await
    }

    /// Builds the file anew and empties its log, so that nothing is left of what was deleted at any time before: not in
    /// free pages, not between rows. `false`: somebody reads beside us, and the log keeps its old pages until they are
    /// done. Nobody can write meanwhile.
    ///
    /// # Errors
    /// If the disk is full (it takes room for a copy), or SQLite says no.
    pub async fn scrub(&self) -> Result<bool> {
        self.call(|connection| {
            secure(connection, true)?;
            let built = rebuild(connection);
            secure(connection, false)?;
            built?;
            empty_log(connection)
        })
        .await
    }

    /// Empties the file's log. `false`: somebody reads beside us.
    ///
    /// # Errors
    /// If SQLite says no.
    pub async fn empty_log(&self) -> Result<bool> {
        self.call(|connection| empty_log(connection)).await
    }
}

/// Builds the file anew, without what is nobody's any more.
pub(super) fn rebuild(connection: &Connection) -> Result<()> {
    // The copy may be large: on the disk, in a file without a name, not in memory.
    connection.pragma_update(None, "temp_store", "FILE")?;
    let built = connection.execute_batch("VACUUM");
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    Ok(built?)
}

fn secure(connection: &Connection, on: bool) -> Result<()> {
    // It answers with the new value.
    connection.query_row(&format!("PRAGMA secure_delete = {}", if on { "ON" } else { "OFF" }), [], |_| Ok(()))?;
    Ok(())
}

pub(super) fn empty_log(connection: &Connection) -> Result<bool> {
    let busy: i64 = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
    Ok(busy == 0)
}

impl Tx<'_> {
    /// Whether anybody was ever forgotten.
    pub fn has_tombstones(&self) -> Result<bool> {
        Ok(self.0.prepare_cached("SELECT EXISTS (SELECT 1 FROM tombstones)")?.query_row([], |row| row.get(0))?)
    }

    /// What is left under this hash.
    pub fn tombstone(&self, hash: &[u8]) -> Result<Option<Tombstone>> {
        Ok(self
            .0
            .prepare_cached("SELECT email_out, sms_out, gone_in_brevo, at FROM tombstones WHERE hash = ?1")?
            .query_row([hash], |row| {
                Ok(Tombstone {
                    email_out: row.get(0)?,
                    sms_out: row.get(1)?,
                    gone_in_brevo: row.get(2)?,
                    at: instant(row.get(3)?),
                })
            })
            .optional()?)
    }

    /// Leaves this under a hash. It never becomes looser than what is there already.
    pub fn put_tombstone(&self, hash: &[u8], left: Tombstone) -> Result<()> {
        self.0
            .prepare_cached(
                "INSERT INTO tombstones (hash, email_out, sms_out, gone_in_brevo, at) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT (hash) DO UPDATE SET email_out = email_out OR excluded.email_out,
                     sms_out = sms_out OR excluded.sms_out, gone_in_brevo = gone_in_brevo OR excluded.gone_in_brevo,
                     at = excluded.at",
            )?
            .execute(params![hash, left.email_out, left.sms_out, left.gone_in_brevo, millis(left.at)])?;
        Ok(())
    }

    /// The Intercom contacts that were merged into this one.
    pub fn merged_into(&self, survivor: &IntercomContactId) -> Result<Vec<IntercomContactId>> {
        let mut statement = self.0.prepare_cached("SELECT id FROM intercom_contacts WHERE merged_into = ?1")?;
        let ids = statement.query_map([survivor.as_str()], |row| row.get::<_, String>(0))?;
        Ok(ids.map(|id| id.map(IntercomContactId::new)).collect::<rusqlite::Result<_>>()?)
    }

    /// Webhooks that wait and hold one of these words, in lower case.
    pub fn waiting_webhooks(&self, words: &[String]) -> Result<Vec<WaitingWebhook>> {
        let mut statement =
            self.0.prepare_cached("SELECT seq, side, topic, body FROM inbox WHERE done_at IS NULL ORDER BY seq")?;
        let mut rows = statement.query([])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let body = row.get_ref(3)?.as_bytes().unwrap_or_default();
            let text = String::from_utf8_lossy(body).to_lowercase();
            if words.iter().any(|word| text.contains(word.as_str())) {
                let brevo = row.get_ref(1)?.as_str().is_ok_and(|side| side == SideName::Brevo.as_str());
                found.push(WaitingWebhook {
                    seq: row.get(0)?,
                    side: if brevo { SideName::Brevo } else { SideName::Intercom },
                    topic: row.get(2)?,
                    body: body.to_vec(),
                });
            }
        }
        Ok(found)
    }

    /// What is left of a webhook's body once somebody was taken out of it.
    pub fn put_webhook_body(&self, seq: i64, body: &[u8]) -> Result<()> {
        self.0.execute("UPDATE inbox SET body = ?2 WHERE seq = ?1", params![seq, body])?;
        Ok(())
    }

    /// Takes out what an order asks for: it may name somebody.
    pub fn erase_ask(&self, order: i64) -> Result<()> {
        self.0.execute("UPDATE orders SET ask = '' WHERE id = ?1", [order])?;
        Ok(())
    }

    /// Takes out every row that is about them, and what names their addresses elsewhere. How many rows.
    pub fn erase(&self, who: &Erasure) -> Result<u64> {
        let mut rows = 0;
        let emails: Vec<&str> = who.emails.iter().map(Email::as_str).collect();
        let contacts: Vec<&str> = who.intercom.iter().map(IntercomContactId::as_str).collect();
        let brevo: Vec<i64> = who.brevo.iter().map(|id| id.get()).collect();
        let links: Vec<i64> = who.links.iter().copied().collect();
        rows += self.erase_conversations(&contacts)?;
        let mut subjects: Vec<String> = contacts.iter().map(|id| format!("contact {id}")).collect();
        subjects.extend(brevo.iter().map(|id| format!("Brevo contact {id}")));
        subjects.extend(links.iter().map(|id| format!("link {id}")));
        let mut events = self.0.prepare("SELECT 'event ' || key FROM outbox WHERE contact = ?1")?;
        for contact in &contacts {
            let keys = events.query_map([contact], |row| row.get(0))?;
            subjects.extend(keys.collect::<rusqlite::Result<Vec<String>>>()?);
        }
        let names: Vec<String> =
            emails.iter().map(|&email| email.to_owned()).chain(brevo.iter().map(|id| format!("#{id}"))).collect();
        for contact in &contacts {
            // They are of another person, who stays.
            self.0.execute("UPDATE intercom_contacts SET merged_into = NULL WHERE merged_into = ?1", [contact])?;
        }
        rows += self.delete("contact_companies", "contact", &contacts)?;
        rows += self.delete("contact_tags", "contact", &contacts)?;
        rows += self.delete("outbox", "contact", &contacts)?;
        rows += self.delete("optouts", "contact", &contacts)?;
        rows += self.delete("optouts", "email", &emails)?;
        rows += self.delete("last_nos", "contact", &contacts)?;
        rows += self.delete("carried", "contact", &contacts)?;
        rows += self.delete("carried", "link", &links)?;
        rows += self.delete("write_backs", "link", &links)?;
        rows += self.delete("write_backs", "contact", &contacts)?;
        rows += self.delete("spans", "link", &links)?;
        rows += self.delete("partings", "link", &links)?;
        rows += self.delete("apart", "link", &links)?;
        rows += self.delete("opt_ins", "link", &links)?;
        rows += self.delete("newcomers", "brevo", &brevo)?;
        rows += self.delete("readdresses", "contact", &contacts)?;
        rows += self.delete("readdresses", "link", &links)?;
        rows += self.delete("readdresses", "email", &emails)?;
        rows += self.delete("readdresses", "new_email", &emails)?;
        rows += self.delete("newcomers", "email", &emails)?;
        rows += self.delete("newcomers", "contact", &contacts)?;
        rows += self.delete("to_confirm", "side = 'intercom' AND id", &contacts)?;
        rows += self.delete("to_confirm", "side = 'brevo' AND CAST(id AS INTEGER)", &brevo)?;
        rows += self.delete("brevo_optouts", "email", &emails)?;
        rows += self.delete("brevo_optouts", "contact", &brevo)?;
        rows += self.delete("brevo_hints", "name", &names)?;
        rows += self.delete("late_rows", "brevo_id", &brevo)?;
        rows += self.delete("firm_contacts", "contact", &brevo)?;
        rows += self.delete("late_addresses", "email", &emails)?;
        rows += self.delete("late_addresses", "link", &links)?;
        rows += self.delete("phones", "link", &links)?;
        rows += self.delete("failures", "link", &links)?;
        rows += self.delete("failures", "subject", &subjects)?;
        rows += self.delete("notices", "subject", &subjects)?;
        rows += self.delete("conflicts", "link", &links)?;
        rows += self.delete("changes", "link", &links)?;
        rows += self.delete("intercom_contacts", "id", &contacts)?;
        rows += self.delete("brevo_contacts", "id", &brevo)?;
        self.update_in("UPDATE intercom_contacts SET link = NULL WHERE link", &links)?;
        rows += self.delete("held_links", "link", &links)?;
        rows += self.delete("links", "id", &links)?;
        // Whatever else names an address: words of a vendor about somebody else, a value in another person's field.
        for email in &emails {
            for (table, text) in [
                ("failures", "message"),
                ("notices", "coalesce(detail, '') || subject"),
                ("conflicts", "lost || kept"),
                ("outbox", "event"),
            ] {
                let sql = format!("DELETE FROM {table} WHERE instr(lower({text}), ?1) > 0");
                rows += self.0.execute(&sql, [email])? as u64;
            }
            self.0.execute("UPDATE runs SET summary = NULL WHERE instr(lower(summary), ?1) > 0", [email])?;
            self.0.execute(
                "UPDATE orders SET ask = '', steps = NULL WHERE state <> 'open' AND instr(lower(ask || coalesce(steps, '')), ?1) > 0",
                [email],
            )?;
        }
        Ok(rows)
    }

    /// Deletes the rows in which `column` is one of these.
    fn delete<T: ToSql>(&self, table: &str, column: &str, values: &[T]) -> Result<u64> {
        self.update_in(&format!("DELETE FROM {table} WHERE {column}"), values)
    }

    fn update_in<T: ToSql>(&self, sql: &str, values: &[T]) -> Result<u64> {
        /// SQLite takes so many variables in any build.
        const AT_ONCE: usize = 500;
        let mut rows = 0;
        for values in values.chunks(AT_ONCE) {
            let marks = vec!["?"; values.len()].join(", ");
            rows += self.0.execute(&format!("{sql} IN ({marks})"), params_from_iter(values))? as u64;
        }
        Ok(rows)
    }

    /// Conversations with nobody else go; those with others go on without them.
    fn erase_conversations(&self, contacts: &[&str]) -> Result<u64> {
        let gone: BTreeSet<IntercomContactId> = contacts.iter().map(|id| IntercomContactId::new(*id)).collect();
        let mut found: BTreeSet<String> = BTreeSet::new();
        let mut statement = self.0.prepare("SELECT conversation FROM conversation_contacts WHERE contact = ?1")?;
        for contact in contacts {
            let ids = statement.query_map([contact], |row| row.get(0))?;
            found.extend(ids.collect::<rusqlite::Result<Vec<String>>>()?);
        }
        let mut rows = 0;
        for id in found {
            let text: Option<String> = self
                .0
                .query_row("SELECT record FROM conversations WHERE id = ?1", [&id], |row| row.get(0))
                .optional()?;
            // What cannot be read cannot be divided: it is read anew where Intercom shows it.
            let Some(Ok(mut rest)) = text.map(|text| decode::<Conversation>("conversations", &text)) else {
                rows += self.erase_conversation(&ConversationId::new(id))?;
                continue;
            };
            rest.contacts.retain(|contact| !gone.contains(contact));
            if rest.contacts.is_empty() {
                rows += self.erase_conversation(&rest.id)?;
                continue;
            }
            // Whoever of them rated it: what they wrote may be theirs.
            if let Some(rating) = &mut rest.rating {
                rating.remark = None;
            }
            let text = encode("conversations", &rest)?;
            self.0.execute("UPDATE conversations SET record = ?2 WHERE id = ?1", params![id, text])?;
        }
        rows += self.delete("conversation_contacts", "contact", contacts)?;
        Ok(rows)
    }

    fn erase_conversation(&self, id: &ConversationId) -> Result<u64> {
        self.0.execute("DELETE FROM conversation_contacts WHERE conversation = ?1", [id.as_str()])?;
        Ok(self.0.execute("DELETE FROM conversations WHERE id = ?1", [id.as_str()])? as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_tombstone_never_becomes_looser() {
        let store = Store::in_memory().unwrap();
        let at = DateTime::from_timestamp(1_790_000_000, 0).unwrap();
        let stone = move |email_out, gone_in_brevo| Tombstone { email_out, sms_out: false, gone_in_brevo, at };
        store
            .write(move |tx| {
                assert!(!tx.has_tombstones()?);
                tx.put_tombstone(b"x", stone(true, false))?;
                tx.put_tombstone(b"x", stone(false, true))?;
                assert_eq!(tx.tombstone(b"x")?, Some(stone(true, true)));
                assert_eq!(tx.tombstone(b"y")?, None);
                assert!(tx.has_tombstones()?);
                Ok(())
            })
            .await
            .unwrap();
    }
}
