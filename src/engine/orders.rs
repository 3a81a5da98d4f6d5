//! Orders: what other commands ask of the daemon that owns the state. The store hands them over; a run that was ordered
//! is the same run as `sync`'s own, between the schedule's jobs.

use super::observe::{from_json, to_json};
use super::{Connection, EngineError, Forget, Forgotten, Pick, Picked, Progress, Stage, Summary, SyncOptions};
use crate::mapping::Misfit;
use crate::model::SideError;
use crate::store::orders::{OrderRow, OrderState};
use crate::store::{Store, StoreError};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How often it is kept how far an ordered run is.
const NOTE: Duration = Duration::from_millis(500);
/// Steps that are kept of a run. Older ones have been seen long ago.
const MOST_STEPS: usize = 50;

/// What can be asked of a daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// A whole run.
    Sync(SyncOptions),
    /// Refused records are tried again: all, or the one with this number.
    Retry(Option<i64>),
    /// Somebody is forgotten.
    Forget(Forget),
    /// A conflict is settled by hand.
    Pick(Pick),
}

/// One stage that an ordered run went through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Its place among the run's steps.
    pub number: u64,
    /// Which stage.
    pub stage: Stage,
    /// How far it came.
    pub done: u64,
    /// Of how many, where known.
    pub total: Option<u64>,
}

/// What came of an order.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Ended {
    /// The run came to its end.
    Synced(Box<Summary>),
    /// So many people are written, and events sent, again.
    Retried(u64),
    /// What came of forgetting somebody.
    Forgotten(Box<Forgotten>),
    /// What came of settling a conflict.
    Picked(Picked),
    /// A vendor stopped it.
    Vendor(Box<SideError>),
    /// Config and account do not fit.
    Config(Vec<Misfit>),
    /// Anything else, in words.
    Failed(String),
}

impl From<&EngineError> for Ended {
    fn from(error: &EngineError) -> Self {
        match error {
            EngineError::Side(error) => Self::Vendor(error.clone()),
            EngineError::Unfit(misfits) => Self::Config(misfits.clone()),
            error => Self::Failed(error.to_string()),
        }
    }
}

/// How an order is doing.
#[derive(Debug, Clone)]
pub struct Looked {
    /// How far it is.
    pub state: OrderState,
    /// Its latest steps.
    pub steps: Vec<Step>,
    /// What came of it.
    pub end: Option<Ended>,
}

/// Places an order beside the state's owner; its number.
///
/// # Errors
/// If the state cannot be written.
pub async fn place(store: &Store, order: &Order, now: DateTime<Utc>) -> Result<i64, StoreError> {
    let ask = to_json("orders", order)?;
    store.write(move |tx| tx.place_order(&ask, now)).await
}

/// How an order is doing. `None`: there is no such order.
///
/// # Errors
/// If the state cannot be read.
pub async fn look(store: &Store, id: i64) -> Result<Option<Looked>, StoreError> {
    let Some(row) = store.read(move |tx| tx.order(id)).await? else { return Ok(None) };
    Ok(Some(Looked {
        state: row.state,
        steps: row.steps.map_or_else(|| Ok(Vec::new()), |text| from_json("orders", &text))?,
        end: row.result.map(|text| from_json("orders", &text)).transpose()?,
    }))
}

/// Remembers the steps of a run, for whoever waits for it.
#[derive(Default)]
struct Noted(Mutex<Notes>);

#[derive(Default)]
struct Notes {
    steps: Vec<Step>,
    changed: bool,
}

impl Noted {
    fn lock(&self) -> std::sync::MutexGuard<'_, Notes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The steps, if they have changed since they were asked for last.
    fn changed(&self) -> Option<Vec<Step>> {
        let mut notes = self.lock();
        std::mem::take(&mut notes.changed).then(|| notes.steps.clone())
    }
}

impl Progress for Noted {
    fn stage(&self, stage: Stage, done: u64, total: Option<u64>) {
        let mut notes = self.lock();
        notes.changed = true;
        let number = match notes.steps.last_mut() {
            Some(last) if last.stage == stage => {
                (last.done, last.total) = (done, total);
                return;
            }
            last => last.map_or(1, |last| last.number + 1),
        };
        if notes.steps.len() >= MOST_STEPS {
            notes.steps.remove(0);
        }
        notes.steps.push(Step { number, stage, done, total });
    }
}

impl Connection {
    /// Gives up the orders that were taken and did not come to their end.
    pub(super) async fn abandon_orders(&self) -> Result<(), EngineError> {
        let now = self.now();
        let abandoned = self.store.write(move |tx| tx.abandon_orders(now)).await?;
        if abandoned > 0 {
            tracing::warn!(abandoned, "orders were cut off; what they asked for goes on by schedule");
        }
        Ok(())
    }

    /// Carries out the orders that take but a moment. Whether there is one for a run.
    pub(super) async fn take_quick_orders(&self) -> Result<bool, EngineError> {
        let open = self.store.read(|tx| tx.open_orders()).await?;
        let mut runs = false;
        for row in open {
            let now = self.now();
            let (id, ended) = match read(&row) {
                Ok(Order::Sync(_)) => {
                    runs = true;
                    continue;
                }
                Ok(Order::Forget(ask)) => {
                    self.forget_as_ordered(&row, ask).await?;
                    continue;
                }
                Ok(Order::Pick(pick)) => {
                    if !self.store.write(move |tx| tx.take_order(row.id, now)).await? {
                        continue;
                    }
                    tracing::info!(
                        order = row.id,
                        conflict = pick.conflict,
                        "a conflict is settled by hand, as ordered"
                    );
                    (row.id, self.pick(pick).await.map_or_else(|error| Ended::from(&error), Ended::Picked))
                }
                Ok(Order::Retry(failure)) => {
                    tracing::info!(order = row.id, "refused records are tried again, as ordered");
                    self.store
                        .write(move |tx| {
                            // Together: an order that was withdrawn meanwhile changes nothing.
                            if tx.take_order(row.id, now)? {
                                let retried = tx.retry_failures(failure)? as u64;
                                tx.finish_order(row.id, None, &to_json("orders", &Ended::Retried(retried))?, now)?;
                            }
                            Ok(())
                        })
                        .await?;
                    self.bell.notify_one();
                    continue;
                }
                Err(error) => (row.id, Ended::Failed(format!("the order cannot be read: {error}"))),
            };
            let result = to_json("orders", &ended)?;
            self.store.write(move |tx| tx.finish_order(id, None, &result, now)).await?;
        }
        Ok(runs)
    }

    /// Whether a run has been ordered.
    pub(super) async fn has_ordered_run(&self) -> Result<bool, EngineError> {
        let open = self.store.read(|tx| tx.open_orders()).await?;
        Ok(open.iter().any(|row| matches!(read(row), Ok(Order::Sync(_)))))
    }

    /// Carries out the runs that were ordered, one after the other. What goes wrong with one is its result.
    pub(super) async fn carry_out_orders(&self) -> Result<(), EngineError> {
        // Nobody else takes runs: one that is still taken has ended, and its end could not be kept (a full disk). Whoever
        // placed it would wait for ever.
        if self.store.read(|tx| tx.has_taken_order()).await? {
            self.abandon_orders().await?;
        }
        loop {
            let open = self.store.read(|tx| tx.open_orders()).await?;
            let run = open.iter().find_map(|row| match read(row) {
                Ok(Order::Sync(options)) => Some((row.id, options)),
                _ => None,
            });
            let Some((id, options)) = run else { return Ok(()) };
            let now = self.now();
            if !self.store.write(move |tx| tx.take_order(id, now)).await? {
                continue;
            }
            tracing::info!(order = id, full = options.full, "a run begins, as ordered");
            let noted = Noted::default();
            let result = tokio::select! {
                biased;
                result = self.run_once(&options, &noted) => result,
                () = self.note(id, &noted) => Err(EngineError::Stopped),
            };
            let ended = match &result {
                Ok(summary) => {
                    summary.log("a run ended, as ordered");
                    Ended::Synced(Box::new(summary.clone()))
                }
                Err(error) => {
                    let help = error.arrow_to_remedy();
                    tracing::warn!(order = id, "the run that was ordered failed: {}{help}", error.for_log());
                    Ended::from(error)
                }
            };
            let (steps, ended, now) = (to_json("orders", &noted.lock().steps)?, to_json("orders", &ended)?, self.now());
            self.store.write(move |tx| tx.finish_order(id, Some(&steps), &ended, now)).await?;
        }
    }

    /// Keeps how far a run is, for as long as it is let.
    async fn note(&self, id: i64, noted: &Noted) {
        loop {
            tokio::time::sleep(NOTE).await;
            let Some(steps) = noted.changed() else { continue };
            let Ok(steps) = to_json("orders", &steps) else { continue };
            // A courtesy: the run's own writes say what is wrong with the store.
            if let Err(error) = self.store.write(move |tx| tx.note_order(id, &steps)).await {
                tracing::debug!("how far an order is could not be kept: {error}");
            }
        }
    }
}

fn read(row: &OrderRow) -> Result<Order, StoreError> {
    from_json("orders", &row.ask)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Resource, SideName};

    #[test]
    fn steps_of_one_stage_are_one_and_the_list_stays_short() {
        let noted = Noted::default();
        let reading = Stage::Reading(SideName::Brevo, Resource::Contacts);
        noted.stage(Stage::Preparing, 0, None);
        noted.stage(reading, 50, Some(100));
        noted.stage(reading, 100, Some(100));
        let steps = noted.changed().unwrap();
        assert_eq!(steps.iter().map(|step| (step.number, step.done)).collect::<Vec<_>>(), [(1, 0), (2, 100)]);
        assert!(noted.changed().is_none());
        for _ in 0..100 {
            noted.stage(Stage::Placing, 0, None);
            noted.stage(Stage::Writing, 0, None);
        }
        let steps = noted.changed().unwrap();
        assert_eq!((steps.len(), steps.last().unwrap().number), (MOST_STEPS, 202));
    }

    #[test]
    fn an_order_and_its_end_survive_the_store() {
        let order = Order::Sync(SyncOptions {
            full: true,
            since: Some("2026-01-01T00:00:00Z".parse().unwrap()),
            resources: [Resource::Contacts].into(),
        });
        let text = to_json("orders", &order).unwrap();
        assert_eq!(from_json::<Order>("orders", &text).unwrap(), order);
        let error = SideError::new(
            SideName::Brevo,
            crate::model::ErrorKind::Auth(crate::model::AuthProblem::BlockedIp),
            "unknown address",
        );
        let text = to_json("orders", &Ended::from(&EngineError::from(error))).unwrap();
        let Ended::Vendor(back) = from_json("orders", &text).unwrap() else { panic!("{text}") };
        assert_eq!(back.kind, crate::model::ErrorKind::Auth(crate::model::AuthProblem::BlockedIp));
    }

    #[test]
    fn what_does_not_fit_reaches_whoever_waits_with_its_place() {
        let misfit = Misfit {
            spot: Some(crate::mapping::Spot { file: "config.yaml".to_owned(), line: 5, column: 24 }),
            about: crate::mapping::About::List,
            message: "Brevo has no list 999".to_owned(),
            expected: "another".to_owned(),
            help: None,
        };
        let text = to_json("orders", &Ended::from(&EngineError::Unfit(vec![misfit.clone()]))).unwrap();
        let Ended::Config(back) = from_json("orders", &text).unwrap() else { panic!("{text}") };
        assert_eq!(back, [misfit]);
    }
}
