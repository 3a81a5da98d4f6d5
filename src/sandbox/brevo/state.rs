//! The account: everything that calls read and change.

use super::attributes::Attribute;
use super::companies::Crm;
use super::directory::{Directory, stamp};
use super::events::ReceivedEvent;
use super::imports::Process;
use super::limits::Limits;
use super::lists::Lists;
use super::webhooks::Webhooks;
use super::{BrevoKnobs, BrevoOptions};
use chrono::{DateTime, FixedOffset, Offset as _, SubsecRound as _, Utc};
use std::collections::BTreeMap;

/// Whose hand made a change. It decides what webhooks say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hand {
    Api,
    Import,
    Person,
}

pub(super) struct State {
    pub(super) now: DateTime<Utc>,
    pub(super) zone: FixedOffset,
    pub(super) options: BrevoOptions,
    pub(super) knobs: BrevoKnobs,
    pub(super) contacts: Directory,
    pub(super) attributes: Vec<Attribute>,
    pub(super) lists: Lists,
    pub(super) processes: BTreeMap<i64, Process>,
    /// The first process has the number after this.
    pub(super) no_process_yet: i64,
    pub(super) crm: Crm,
    pub(super) events: Vec<ReceivedEvent>,
    pub(super) webhooks: Webhooks,
    pub(super) limits: Limits,
}

impl State {
    pub(super) fn new(options: &BrevoOptions) -> Self {
        let now = options.clock.now().trunc_subsecs(3);
        Self {
            now,
            zone: FixedOffset::east_opt(options.utc_offset_minutes.saturating_mul(60)).unwrap_or(Utc.fix()),
            options: options.clone(),
            knobs: BrevoKnobs::default(),
            contacts: Directory::default(),
            attributes: Attribute::defaults(options.language),
            lists: Lists::new(now),
            processes: BTreeMap::new(),
            no_process_yet: 77,
            crm: Crm::new(options.seed),
            events: Vec::new(),
            webhooks: Webhooks::default(),
            limits: Limits::default(),
        }
    }

    /// Time comes in: imports that are due land, in the order of their ids, each at its own instant.
    pub(super) fn set_time(&mut self, now: DateTime<Utc>) {
        // Brevo keeps milliseconds, so that what it shows is what it compares with.
        let now = now.trunc_subsecs(3);
        self.land_imports(now);
        self.now = now;
    }

    pub(super) fn stamp(&self, instant: DateTime<Utc>) -> String {
        stamp(instant, self.zone)
    }
}
