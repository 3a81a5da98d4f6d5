//! Linkspan keeps an Intercom workspace (support) and a Brevo account (marketing) in step.
//!
//! `docs/architecture.md` walks one contact through the rooms:
//!
//! | room | what it does |
//! |---|---|
//! | [`cli`] | one file per subcommand, and how results are printed |
//! | [`config`] | load, interpolate, validate → typed `Config` |
//! | [`model`] | the words everybody shares |
//! | [`mapping`] | the YAML mapping language → compiled mapping (pure) |
//! | [`reconcile`] | identity, three-way merge, consent, lists → plan (pure) |
//! | [`engine`] | the imperative shell: pull, push, schedule, runs |
//! | [`store`] | SQLite |
//! | [`intercom`], [`brevo`] | the two vendors, each behind [`model::Side`] |
//! | [`http`] | transport, retry, the governor of each API's budget |
//! | [`doors`] | clock, randomness, crash points |
//! | [`server`] | webhook receivers and health |
//! | [`sandbox`] | a faithful Intercom and Brevo to run against |

pub mod brevo;
pub mod cli;
pub mod config;
pub mod doors;
pub mod engine;
pub mod http;
pub mod intercom;
pub mod mapping;
pub mod model;
pub mod reconcile;
pub mod sandbox;
pub mod server;
pub mod store;
