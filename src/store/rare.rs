//! Tables that are asked for every contact and mostly are empty: whether they hold anything is found out once a
//! transaction.

use super::{Result, Tx};
use std::cell::Cell;

/// Such a table.
#[derive(Debug, Clone, Copy)]
pub(super) enum Rare {
    BrevoOptOuts,
    Carried,
    Conversations,
    Firms,
    LastNos,
    LateAddresses,
    LateRows,
    Merged,
    Newcomers,
    Notices,
    OptOuts,
}

impl Rare {
    fn query(self) -> &'static str {
        match self {
            Self::BrevoOptOuts => "SELECT EXISTS (SELECT 1 FROM brevo_optouts)",
            Self::Carried => "SELECT EXISTS (SELECT 1 FROM carried)",
            Self::Conversations => "SELECT EXISTS (SELECT 1 FROM conversation_contacts)",
            Self::Firms => "SELECT EXISTS (SELECT 1 FROM firms)",
            Self::LastNos => "SELECT EXISTS (SELECT 1 FROM last_nos)",
            Self::LateAddresses => "SELECT EXISTS (SELECT 1 FROM late_addresses)",
            Self::LateRows => "SELECT EXISTS (SELECT 1 FROM late_rows)",
            Self::Merged => "SELECT EXISTS (SELECT 1 FROM intercom_contacts WHERE merged_into IS NOT NULL)",
            Self::Newcomers => "SELECT EXISTS (SELECT 1 FROM newcomers)",
            Self::Notices => "SELECT EXISTS (SELECT 1 FROM notices)",
            Self::OptOuts => "SELECT EXISTS (SELECT 1 FROM optouts)",
        }
    }
}

/// What a transaction knows of them.
#[derive(Default)]
pub(super) struct Filled([Cell<Option<bool>>; 11]);

impl Tx<'_> {
    /// Whether the table holds anything.
    pub(super) fn holds(&self, table: Rare) -> Result<bool> {
        let known = self.filled(table);
        if let Some(known) = known.get() {
            return Ok(known);
        }
        let holds = self.0.prepare_cached(table.query())?.query_row([], |row| row.get(0))?;
        known.set(Some(holds));
        Ok(holds)
    }

    /// Something is put into the table. (Should it be undone, it is asked for more than needed, no more.)
    pub(super) fn fills(&self, table: Rare) {
        self.filled(table).set(Some(true));
    }

    fn filled(&self, table: Rare) -> &Cell<Option<bool>> {
        &self.2.0[table as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    #[tokio::test]
    async fn what_is_put_into_an_empty_table_is_there_at_once() {
        let store = Store::in_memory().unwrap();
        let left = store.write(|tx| {
            tx.clear_notice("kind", "subject")?;
            assert!(!tx.holds(Rare::Notices)?);
            tx.put_notice("kind", "subject", None, chrono::DateTime::default())?;
            assert_eq!(tx.notices(None, 10)?.len(), 1);
            tx.clear_notice("kind", "subject")?;
            tx.notices(None, 10)
        });
        assert_eq!(left.await.unwrap(), []);
    }
}
