//! How far a run is: bars on a terminal, plain lines otherwise.

use super::Printer;
use crate::doors::Clock;
use crate::engine::{Progress, Stage};
use crate::model::{Resource, SideName};
use chrono::{DateTime, TimeDelta, Utc};
use indicatif::{ProgressBar, ProgressStyle};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Shows the stages of a run.
pub(super) struct Stages {
    printer: Printer,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    bars: BTreeMap<Stage, ProgressBar>,
    current: Option<Stage>,
    /// Without a terminal: the stage that is on, when a line was last written for it, and how far it was then and is.
    on: Option<On>,
}

#[derive(Clone, Copy)]
struct On {
    stage: Stage,
    said_at: DateTime<Utc>,
    said: Option<u64>,
    done: u64,
    total: Option<u64>,
}

/// What a stage is called. The short ones between (deciding, completing) are only a spinner's word.
fn title(stage: Stage) -> String {
    match stage {
        Stage::Preparing => "Preparing".to_owned(),
        Stage::Reading(side, resource) => format!("Reading {side} {}", resource.as_str()),
        Stage::Completing => "Completing records".to_owned(),
        Stage::Placing => "Matching people".to_owned(),
        // Everybody is looked at; how many are written, the summary says.
        Stage::Writing => "Comparing, and writing to Brevo".to_owned(),
        Stage::ReadingBack => "Reading imports back".to_owned(),
        Stage::AwaitingLanding(until) => {
            let until = until.format("%H:%M:%S UTC");
            format!("Waiting until {until}: an import's answer was lost, and until then it may still land")
        }
        Stage::AwaitingImport(until) => {
            format!("Waiting for Brevo to finish an import, until {} at most", until.format("%H:%M:%S UTC"))
        }
        Stage::Events => "Sending events".to_owned(),
    }
}

/// The stages that count something get a bar of their own, which stays.
fn counts(stage: Stage) -> bool {
    matches!(stage, Stage::Reading(..) | Stage::Writing)
}

impl Stages {
    pub(super) fn new(printer: &Printer, clock: Arc<dyn Clock>) -> Self {
        Self { printer: printer.clone(), clock, state: Mutex::default() }
    }

    /// All stages are over: the bars stay as they are, and nothing moves any more.
    pub(super) fn finish(&self) {
        let state = std::mem::take(&mut *self.lock());
        for (stage, bar) in state.bars {
            if counts(stage) { bar.abandon() } else { bar.finish_and_clear() }
        }
        if let Some(on) = state.on {
            self.say_end(on);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn say(&self, stage: Stage, done: u64, total: Option<u64>) {
        if self.printer.is_json() {
            return;
        }
        let title = title(stage);
        match total {
            Some(total) if total > 0 => self.printer.note(format!("{title}: {done} of {total}")),
            _ if done > 0 => self.printer.note(format!("{title}: {done}")),
            _ => self.printer.note(title),
        }
    }

    fn draw(&self, state: &mut State, stage: Stage, done: u64, total: Option<u64>) {
        if state.current != Some(stage) {
            if let Some(before) = state.current.and_then(|before| state.bars.get(&before).map(|bar| (before, bar))) {
                if counts(before.0) { before.1.abandon() } else { before.1.set_message("") }
            }
            state.current = Some(stage);
        }
        // One spinner serves all stages that do not count.
        let key = if counts(stage) { stage } else { Stage::Preparing };
        let bars = self.printer.bars();
        let bar = state.bars.entry(key).or_insert_with(|| {
            let bar = bars.add(ProgressBar::new(0).with_style(style(counts(stage))));
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        bar.set_message(title(stage));
        if counts(stage) {
            bar.set_length(total.unwrap_or(0).max(done));
            bar.set_position(done);
        }
    }

    /// A line when a stage begins, every few seconds while it lasts, and when it ends.
    fn write(&self, state: &mut State, stage: Stage, done: u64, total: Option<u64>) {
        const OFTEN_ENOUGH: TimeDelta = TimeDelta::seconds(5);
        let now = self.clock.now();
        match &mut state.on {
            Some(on) if on.stage == stage => {
                (on.done, on.total) = (done, total);
                if now - on.said_at >= OFTEN_ENOUGH {
                    (on.said_at, on.said) = (now, Some(done));
                    self.say(stage, done, total);
                }
            }
            before => {
                let wrote = before.is_some_and(|on| on.stage == Stage::Writing && on.done > 0);
                if let Some(on) = *before {
                    self.say_end(on);
                }
                // The short stages of each round pass unsaid; waiting for imports may take minutes.
                let worth_it = match stage {
                    Stage::Preparing | Stage::Reading(..) | Stage::AwaitingLanding(_) | Stage::AwaitingImport(_) => {
                        true
                    }
                    Stage::Writing => total.is_some_and(|total| total > 1),
                    Stage::ReadingBack => wrote,
                    _ => false,
                };
                if worth_it {
                    self.say(stage, done, total);
                }
                *before = Some(On { stage, said_at: now, said: worth_it.then_some(done), done, total });
            }
        }
    }

    fn say_end(&self, on: On) {
        if counts(on.stage) && on.done > 0 && on.said != Some(on.done) {
            self.say(on.stage, on.done, on.total);
        }
    }
}

impl Progress for Stages {
    fn stage(&self, stage: Stage, done: u64, total: Option<u64>) {
        let mut state = self.lock();
        if self.printer.has_terminal() {
            self.draw(&mut state, stage, done, total);
        } else {
            self.write(&mut state, stage, done, total);
        }
    }
}

fn style(counting: bool) -> ProgressStyle {
    let template = if counting { "  {msg:32} {bar:28} {pos:>7}/{len:<7} {elapsed:>4}" } else { "{spinner} {msg}" };
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━╸─")
}

/// The resources that `--resources` takes.
pub(super) fn resource_named(name: &str) -> Option<Resource> {
    [Resource::Contacts, Resource::Companies, Resource::Conversations, Resource::Tags]
        .into_iter()
        .find(|resource| resource.as_str() == name)
}

/// A notice as people read it, by its kind.
pub(super) fn notice_in_words(kind: &str) -> String {
    kind.replace('_', " ")
}

/// `intercom contacts` as `Intercom contacts`.
pub(super) fn side_in_words(text: &str) -> String {
    match text.split_once(' ') {
        Some(("intercom", rest)) => format!("{} {rest}", SideName::Intercom),
        Some(("brevo", rest)) => format!("{} {rest}", SideName::Brevo),
        _ => text.to_owned(),
    }
}
