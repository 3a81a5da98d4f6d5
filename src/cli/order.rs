//! Handing an order to the daemon that has the state, and waiting for what comes of it.

use super::progress::{Stages, side_in_words};
use super::{CliError, Context, connect, signals};
use crate::config::Config;
use crate::engine::{self, Ended, EngineError, Order, Progress as _, Step};
use crate::store::orders::OrderState;
use crate::store::{Owner, Store, StoreError};
use std::time::Duration;

/// How often the order is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// Every so many looks it is checked that the daemon is still there: that is a try at its lock.
const LOOKS_A_CHECK: u32 = 5;
/// After so many looks without anything happening, it is said what the daemon is at.
const LOOKS_UNTIL_SAID: u32 = 15;

/// Has the daemon carry out an order, and shows how far it is.
///
/// # Errors
/// What went wrong with the order; that the daemon stopped; that somebody asked this process to.
pub(super) async fn carry_out(
    context: &Context,
    config: &Config,
    holder: String,
    order: &Order,
) -> Result<Ended, CliError> {
    let path = &config.state.path;
    let store = match Store::open_beside(path) {
        Ok(store) => store,
        // It is about to make the state, or another version of this program runs: then it can only be named.
        Err(StoreError::Open { .. } | StoreError::Newer { .. }) => return Err(StoreError::Owned { holder }.into()),
        Err(error) => return Err(error.into()),
    };
    // From now on, so that Ctrl-C says what becomes of the order.
    let mut stop_asked = std::pin::pin!(signals::stop_asked());
    let id = engine::place(&store, order, context.doors.clock.now()).await?;
    say(context, format!("the state is in use by {holder}, which does this now"));
    let stages = Stages::new(&context.printer, context.doors.clock.clone());
    let waiting = Waiting { context, config, store: &store, stages: &stages, id };
    let outcome = tokio::select! {
        outcome = waiting.until_over(holder.clone()) => outcome,
        () = &mut stop_asked => Err(CliError::failed(format!(
            "no longer waiting; {holder} carries it out all the same, and `linkspan status` shows what came of it"
        ))),
    };
    stages.finish();
    match outcome? {
        Ended::Vendor(error) => Err(EngineError::Side(error).into()),
        Ended::Config(misfits) => Err(EngineError::Unfit(misfits).into()),
        Ended::Failed(words) => Err(CliError::Failed(words)),
        ended => Ok(ended),
    }
}

fn say(context: &Context, text: impl AsRef<str>) {
    if !context.printer.is_json() {
        context.printer.note(text);
    }
}

struct Waiting<'a> {
    context: &'a Context,
    config: &'a Config,
    store: &'a Store,
    stages: &'a Stages,
    id: i64,
}

impl Waiting<'_> {
    async fn until_over(&self, mut holder: String) -> Result<Ended, CliError> {
        let mut shown: Option<Step> = None;
        for looks in 1_u32.. {
            tokio::time::sleep(LOOK).await;
            // Asked before the order is looked at: a daemon that ends it and then stops has ended it.
            let there = if looks % LOOKS_A_CHECK == 0 {
                Owner::holder(&self.config.state.path).filter(|holder| connect::is_daemon(holder))
            } else {
                Some(holder.clone())
            };
            let Some(order) = engine::look(self.store, self.id).await? else {
                return Err(CliError::failed("the order is gone from the state; has somebody put an older copy back?"));
            };
            for step in order.steps {
                let newer = shown
                    .is_none_or(|shown| step.number > shown.number || (step.number == shown.number && step != shown));
                if newer {
                    self.stages.stage(step.stage, step.done, step.total);
                    shown = Some(step);
                }
            }
            match (order.state, order.end) {
                (_, Some(end)) => return Ok(end),
                (OrderState::Abandoned, None) => return Err(cut_off(&holder)),
                _ => {}
            }
            // A new daemon carries out what still waits, and gives up what the one before had begun.
            let Some(now) = there else { return Err(self.left_alone(&holder).await?) };
            holder = now;
            if looks == LOOKS_UNTIL_SAID && shown.is_none() && order.state == OrderState::Open {
                self.say_what_keeps_it().await?;
            }
        }
        Err(cut_off(&holder))
    }

    /// No daemon is there any more. What to say, after taking back what none has begun.
    async fn left_alone(&self, holder: &str) -> Result<CliError, StoreError> {
        let (id, now) = (self.id, self.context.doors.clock.now());
        let withdrawn = self.store.write(move |tx| tx.withdraw_order(id, now)).await?;
        Ok(if withdrawn {
            CliError::failed(format!(
                "{holder} stopped before it came to this: nothing was done. Start it again, or run this without it"
            ))
        } else {
            cut_off(holder)
        })
    }

    /// What the daemon is at while the order waits.
    async fn say_what_keeps_it(&self) -> Result<(), StoreError> {
        let runs = self.store.read(|tx| tx.runs(1)).await?;
        let busy = runs.into_iter().find(|run| run.ended_at.is_none()).map(|run| side_in_words(&run.kind));
        say(
            self.context,
            match busy {
                Some(kind) => format!("waiting for the daemon to end what it is at ({kind})"),
                None => "waiting for the daemon: it is writing what it found, or cannot reach a vendor; its log tells"
                    .to_owned(),
            },
        );
        Ok(())
    }
}

fn cut_off(holder: &str) -> CliError {
    CliError::failed(format!(
        "{holder} stopped before this was done; what it had done is kept, and the next run goes on from there"
    ))
}
