//! What a whole connection does, over both doubles, in process, under paused time.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "this whole file is a test; clippy only knows functions marked so"
)]
#![allow(missing_docs)]

mod anew;
mod both_ways;
mod companies;
mod confirm;
mod consent;
mod crashes;
mod dry_runs;
mod edits;
mod explain;
mod filters;
mod firms;
mod first_sync;
mod forget;
mod found;
mod harness;
mod imports;
mod last_nos;
mod newcomers;
mod notices;
mod options;
mod orders;
mod outbox;
mod parted;
mod partings;
mod previews;
mod races;
mod readdresses;
mod reloads;
mod resubscribe;
mod safety;
mod schedules;
mod since;
mod switches;
mod unreadable;
mod values;
mod waits;
mod without_email;
