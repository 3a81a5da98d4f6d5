//! Orders: what other commands ask the owner of the state to do. A command places one row beside the owner; the owner
//! takes it, notes how far it is, and finishes it. An order outlives the command that placed it.

use super::{Result, Tx, instant, millis};
use chrono::{DateTime, Utc};
use rusqlite::{OptionalExtension as _, params};

/// How far an order is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrderState {
    /// Nobody has taken it yet.
    Open,
    /// The owner is at it.
    Taken,
    /// It has an end, good or bad: the result says which.
    Done,
    /// The owner stopped before its end, or it was withdrawn before anybody took it.
    Abandoned,
}

/// An order. What its texts mean is the engine's affair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderRow {
    /// Its number.
    pub id: i64,
    /// What is asked.
    pub ask: String,
    /// When it was placed.
    pub placed_at: DateTime<Utc>,
    /// How far it is.
    pub state: OrderState,
    /// The steps it has gone through.
    pub steps: Option<String>,
    /// What came of it.
    pub result: Option<String>,
}

impl Tx<'_> {
    /// Places an order; its number.
    pub fn place_order(&self, ask: &str, now: DateTime<Utc>) -> Result<i64> {
        self.0.execute("INSERT INTO orders (ask, placed_at) VALUES (?1, ?2)", params![ask, millis(now)])?;
        let id = self.0.last_insert_rowid();
        self.0.execute("DELETE FROM orders WHERE id <= ?1 - 200 AND state IN ('done', 'abandoned')", [id])?;
        Ok(id)
    }

    /// An order by its number.
    pub fn order(&self, id: i64) -> Result<Option<OrderRow>> {
        Ok(self
            .0
            .prepare_cached("SELECT id, ask, placed_at, state, steps, result FROM orders WHERE id = ?1")?
            .query_row([id], order)
            .optional()?)
    }

    /// Orders that nobody has taken, in the order they were placed. Cheap, because it is asked every second.
    pub fn open_orders(&self) -> Result<Vec<OrderRow>> {
        let mut statement = self.0.prepare_cached(
            "SELECT id, ask, placed_at, state, steps, result FROM orders WHERE state = 'open' ORDER BY id",
        )?;
        Ok(statement.query_map([], order)?.collect::<rusqlite::Result<_>>()?)
    }

    /// Whether the owner is at an order, or was when something went wrong.
    pub fn has_taken_order(&self) -> Result<bool> {
        Ok(self
            .0
            .prepare_cached("SELECT EXISTS (SELECT 1 FROM orders WHERE state = 'taken')")?
            .query_row([], |row| row.get(0))?)
    }

    /// Takes an order. `false`: it is no longer open.
    pub fn take_order(&self, id: i64, now: DateTime<Utc>) -> Result<bool> {
        let taken = self
            .0
            .prepare_cached("UPDATE orders SET state = 'taken', taken_at = ?2 WHERE id = ?1 AND state = 'open'")?
            .execute(params![id, millis(now)])?;
        Ok(taken > 0)
    }

    /// Notes how far an order is.
    pub fn note_order(&self, id: i64, steps: &str) -> Result<()> {
        self.0
            .prepare_cached("UPDATE orders SET steps = ?2 WHERE id = ?1 AND state = 'taken'")?
            .execute(params![id, steps])?;
        Ok(())
    }

    /// The order has its end.
    pub fn finish_order(&self, id: i64, steps: Option<&str>, result: &str, now: DateTime<Utc>) -> Result<()> {
        self.0
            .prepare_cached(
                "UPDATE orders SET state = 'done', ended_at = ?4, steps = coalesce(?2, steps), result = ?3 WHERE id = ?1",
            )?
            .execute(params![id, steps, result, millis(now)])?;
        Ok(())
    }

    /// Gives up what an owner had taken and did not bring to an end. How many.
    pub fn abandon_orders(&self, now: DateTime<Utc>) -> Result<usize> {
        Ok(self
            .0
            .execute("UPDATE orders SET state = 'abandoned', ended_at = ?1 WHERE state = 'taken'", [millis(now)])?)
    }

    /// Whoever placed the order does not want it any more. `false`: it had been taken, or is over.
    pub fn withdraw_order(&self, id: i64, now: DateTime<Utc>) -> Result<bool> {
        let withdrawn = self.0.execute(
            "UPDATE orders SET state = 'abandoned', ended_at = ?2, ask = '' WHERE id = ?1 AND state = 'open'",
            params![id, millis(now)],
        )?;
        Ok(withdrawn > 0)
    }
}

fn order(row: &rusqlite::Row<'_>) -> rusqlite::Result<OrderRow> {
    Ok(OrderRow {
        id: row.get(0)?,
        ask: row.get(1)?,
        placed_at: instant(row.get(2)?),
        state: match row.get::<_, String>(3)?.as_str() {
            "open" => OrderState::Open,
            "taken" => OrderState::Taken,
            "done" => OrderState::Done,
            _ => OrderState::Abandoned,
        },
        steps: row.get(4)?,
        result: row.get(5)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Calling, Store, StoreError};

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_790_000_000 + second, 0).unwrap()
    }

    #[tokio::test]
    async fn an_order_is_taken_once_and_ends_once() {
        let store = Store::in_memory().unwrap();
        store
            .write(|tx| {
                let first = tx.place_order("a", at(0))?;
                let second = tx.place_order("b", at(1))?;
                let open: Vec<_> = tx.open_orders()?.into_iter().map(|order| (order.id, order.ask)).collect();
                assert_eq!(open, [(first, "a".to_owned()), (second, "b".to_owned())]);
                assert!(tx.take_order(first, at(2))?);
                assert!(!tx.take_order(first, at(3))?);
                assert_eq!(tx.open_orders()?.len(), 1);
                tx.note_order(first, "half")?;
                assert_eq!(tx.order(first)?.unwrap().steps.as_deref(), Some("half"));
                tx.finish_order(first, None, "fine", at(4))?;
                tx.note_order(first, "too late")?;
                let order = tx.order(first)?.unwrap();
                assert_eq!((order.state, order.steps.as_deref()), (OrderState::Done, Some("half")));
                assert_eq!(order.result.as_deref(), Some("fine"));
                assert!(!tx.withdraw_order(first, at(5))? && tx.withdraw_order(second, at(5))?);
                assert!(!tx.take_order(second, at(6))?, "withdrawn");
                Ok(())
            })
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn after_a_crash_what_was_begun_is_given_up_and_what_waits_still_waits() {
        let store = Store::in_memory().unwrap();
        store
            .write(|tx| {
                let begun = tx.place_order("a", at(0))?;
                let waits = tx.place_order("b", at(0))?;
                tx.take_order(begun, at(1))?;
                assert_eq!(tx.abandon_orders(at(2))?, 1);
                assert_eq!(tx.order(begun)?.unwrap().state, OrderState::Abandoned);
                assert_eq!(tx.open_orders()?[0].id, waits);
                Ok(())
            })
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn orders_that_are_over_do_not_pile_up() {
        let store = Store::in_memory().unwrap();
        let left = store
            .write(|tx| {
                let waits = tx.place_order("waits", at(0))?;
                for n in 0..500 {
                    let id = tx.place_order("x", at(n))?;
                    tx.finish_order(id, None, "", at(n))?;
                }
                assert!(tx.order(waits)?.is_some(), "one that waits is kept");
                Ok(tx.0.query_row("SELECT count(*) FROM orders", [], |row| row.get::<_, i64>(0))?)
            })
            .await
            .unwrap();
        assert!(left <= 201, "{left}");
    }

    #[tokio::test]
    async fn an_order_is_placed_beside_the_owner_and_nothing_is_made() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.db");
        assert!(matches!(Store::open_beside(&path), Err(StoreError::Open { .. })));
        assert!(!path.exists());
        let owner = Store::open(&path, Calling::Inline).unwrap();
        let client = Store::open_beside(&path).unwrap();
        let id = client.write(|tx| tx.place_order("a", at(0))).await.unwrap();
        assert_eq!(owner.read(|tx| tx.open_orders()).await.unwrap()[0].id, id);
        owner.write(move |tx| tx.finish_order(id, None, "fine", at(1))).await.unwrap();
        let seen = client.read(move |tx| tx.order(id)).await.unwrap().unwrap();
        assert_eq!(seen.state, OrderState::Done);
    }
}
