//! Contacts that are to be asked for by id before anything is concluded about them: those that a full read did not show,
//! and those whose row here cannot be read. Durable, so that however many there are, each cycle goes on where the last
//! one stopped.

use super::{Result, Tx};
use crate::model::{BrevoContactId, ContactKey, IntercomContactId, SideName};
use rusqlite::params;

/// Side and id as columns; `None` for keys that are no ids.
fn columns(key: &ContactKey) -> Option<(&'static str, String)> {
    match key {
        ContactKey::Intercom(id) => Some((SideName::Intercom.as_str(), id.to_string())),
        ContactKey::Brevo(id) => Some((SideName::Brevo.as_str(), id.to_string())),
        _ => None,
    }
}

impl Tx<'_> {
    /// The full read `number` has ended: what it did not show is to be asked for. What an earlier one did not show either
    /// counts only if this one did not. Brevo contacts that nobody is linked to are simply forgotten, all of them: a first
    /// link to one that is gone would count as a linked contact that is gone, and a read that shows them brings them back.
    pub fn ask_for_unseen(&self, side: SideName, number: i64) -> Result<()> {
        self.0.prepare_cached("DELETE FROM to_confirm WHERE side = ?1")?.execute([side.as_str()])?;
        match side {
            SideName::Intercom => {
                self.0
                    .prepare_cached(
                        "INSERT INTO to_confirm (side, id)
                         SELECT ?1, id FROM intercom_contacts WHERE state = 'live' AND seen_in < ?2",
                    )?
                    .execute(params![side.as_str(), number])?;
            }
            SideName::Brevo => {
                self.0
                    .prepare_cached(
                        "UPDATE brevo_contacts SET gone = 1 WHERE gone = 0 AND seen_in < ?1
                           AND NOT EXISTS (SELECT 1 FROM links WHERE brevo_id = brevo_contacts.id)",
                    )?
                    .execute([number])?;
                self.0
                    .prepare_cached(
                        "INSERT INTO to_confirm (side, id)
                         SELECT ?1, b.id FROM brevo_contacts b JOIN links l ON l.brevo_id = b.id
                         WHERE b.gone = 0 AND b.seen_in < ?2",
                    )?
                    .execute(params![side.as_str(), number])?;
            }
        }
        Ok(())
    }

    /// Asks for one contact.
    pub fn ask_for(&self, key: &ContactKey) -> Result<()> {
        if let Some((side, id)) = columns(key) {
            self.0
                .prepare_cached("INSERT OR IGNORE INTO to_confirm (side, id) VALUES (?1, ?2)")?
                .execute([side, &id])?;
        }
        Ok(())
    }

    /// It has been asked for.
    pub fn was_asked_for(&self, key: &ContactKey) -> Result<()> {
        if let Some((side, id)) = columns(key) {
            self.0.prepare_cached("DELETE FROM to_confirm WHERE side = ?1 AND id = ?2")?.execute([side, &id])?;
        }
        Ok(())
    }

    /// Some of those that are to be asked for.
    pub fn to_ask_for(&self, limit: usize) -> Result<Vec<ContactKey>> {
        let mut statement = self.0.prepare_cached("SELECT side, id FROM to_confirm ORDER BY side, id LIMIT ?1")?;
        let rows = statement.query_map([limit], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
        let mut keys = Vec::new();
        for row in rows {
            let (side, id) = row?;
            if side == SideName::Intercom.as_str() {
                keys.push(ContactKey::Intercom(IntercomContactId::new(id)));
            } else if let Ok(id) = id.parse() {
                keys.push(ContactKey::Brevo(BrevoContactId::new(id)));
            }
        }
        Ok(keys)
    }

    /// How many are to be asked for.
    pub fn count_to_ask_for(&self) -> Result<u64> {
        let count =
            self.0.prepare_cached("SELECT count(*) FROM to_confirm")?.query_row([], |row| row.get::<_, i64>(0))?;
        Ok(count.unsigned_abs())
    }
}
