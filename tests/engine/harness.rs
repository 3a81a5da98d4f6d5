//! A whole connection over both doubles, in process, under paused time.

use chrono::{DateTime, Utc};
use linkspan::brevo::{BrevoClient, BrevoOptions as BrevoClientOptions};
use linkspan::config::Config;
use linkspan::doors::{CrashPoints, Doors, NoCrash, SeededRng, SimulatedClock};
use linkspan::engine::{Connection, DryRun, Settings, Silent, Summary, SyncOptions};
use linkspan::http::InProcess;
use linkspan::intercom::{IntercomClient, IntercomOptions};
use linkspan::sandbox::brevo::{BrevoOptions, BrevoSandbox};
use linkspan::sandbox::intercom::{self as double, IntercomSandbox};
use linkspan::store::Store;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub struct World {
    pub intercom: IntercomSandbox,
    pub brevo: BrevoSandbox,
    pub doors: Doors,
    pub store: Store,
    pub connection: Arc<Connection>,
    pub config: String,
}

/// Users and leads on lists of their own.
pub const USERS_AND_LEADS: &str = "
connectors:
  intercom:
    lists:
      all_users: Users
      leads: Leads
phone:
  default_region: US
";

/// Lets virtual time go by.
pub async fn minutes(minutes: u64) {
    tokio::time::sleep(Duration::from_secs(60 * minutes)).await;
}

/// A config as a user writes it, around `more`.
pub fn config(more: &str) -> Config {
    let env = BTreeMap::new();
    match Config::parse(more, Path::new("test.yaml"), &env) {
        Ok(config) => config,
        Err(errors) => panic!("{}", errors.render(false)),
    }
}

impl World {
    pub fn new(yaml: &str) -> Self {
        Self::with_crashes(yaml, Arc::new(NoCrash))
    }

    pub fn with_crashes(yaml: &str, crash: Arc<dyn CrashPoints>) -> Self {
        Self::with_lag(yaml, crash, double::IntercomOptions::default().index_lag)
    }

    /// Intercom's search shows nobody before so long after they were made.
    pub fn with_lag(yaml: &str, crash: Arc<dyn CrashPoints>, index_lag: Duration) -> Self {
        let start: DateTime<Utc> = "2026-11-20T09:30:00Z".parse().unwrap();
        let clock = Arc::new(SimulatedClock::starting_at(start));
        let intercom = IntercomSandbox::new(double::IntercomOptions {
            clock: clock.clone(),
            index_lag,
            ..double::IntercomOptions::default()
        });
        let brevo = BrevoSandbox::new(BrevoOptions::new(1, clock.clone()));
        let doors = Doors { clock, rng: Arc::new(SeededRng::new(1)), crash };
        let store = Store::in_memory().unwrap();
        let connection = connect(&intercom, &brevo, &doors, &store, yaml);
        Self { intercom, brevo, doors, store, connection, config: yaml.to_owned() }
    }

    /// The same accounts and state under another config, as after a restart.
    pub fn restart(&mut self, yaml: &str) {
        self.connection = connect(&self.intercom, &self.brevo, &self.doors, &self.store, yaml);
        yaml.clone_into(&mut self.config);
    }

    pub async fn sync(&self) -> Summary {
        self.sync_with(SyncOptions::default()).await
    }

    pub async fn full(&self) -> Summary {
        self.sync_with(SyncOptions { full: true, ..SyncOptions::default() }).await
    }

    pub async fn sync_with(&self, options: SyncOptions) -> Summary {
        self.connection.sync(&options, &Silent).await.unwrap()
    }

    /// What the first sync would do, in a state that nothing else sees.
    pub async fn before_the_first(&self) -> DryRun {
        let passing = Store::passing().unwrap();
        let connection = connect(&self.intercom, &self.brevo, &self.doors, &passing, &self.config);
        connection.dry_run(&SyncOptions::default(), &Silent).await.unwrap()
    }

    /// Once all has settled, a full cycle writes nothing to either side.
    pub async fn is_quiet(&self) {
        minutes(40).await;
        self.sync().await;
        minutes(40).await;
        let before = (self.brevo_writes(), self.intercom.log().write_count());
        self.full().await;
        let told: Vec<String> = self.intercom.log().writes()[before.1..].iter().map(|w| w.target.clone()).collect();
        assert_eq!(told, [""; 0], "a quiet cycle wrote to Intercom");
        assert_eq!(self.brevo_writes(), before.0, "a quiet cycle wrote to Brevo");
    }

    /// How many writes Brevo has got so far.
    pub fn brevo_writes(&self) -> usize {
        self.brevo.log().write_count()
    }

    pub fn attribute(&self, email: &str, name: &str) -> Option<serde_json::Value> {
        self.brevo.contact_by_email(email)?.attributes.get(name).cloned()
    }
}

fn connect(
    intercom: &IntercomSandbox,
    brevo: &BrevoSandbox,
    doors: &Doors,
    store: &Store,
    yaml: &str,
) -> Arc<Connection> {
    let options = IntercomOptions {
        base_url: "https://api.intercom.test/".parse().unwrap(),
        access_token: intercom.access_token().to_owned().into(),
        api_version: "2.11".to_owned(),
        share: 0.9,
        plan: None,
    };
    let support = IntercomClient::new(options, Arc::new(InProcess::new(intercom.router())), doors.clone());
    let mut options = BrevoClientOptions::new(brevo.api_key().to_owned().into()).unwrap();
    options.base_url = "https://api.brevo.test/v3".parse().unwrap();
    let marketing = BrevoClient::new(options, Arc::new(InProcess::new(brevo.router())), doors.clone());
    Connection::new(
        Arc::new(support),
        Arc::new(marketing),
        store.clone(),
        doors.clone(),
        Settings::from_config(&config(yaml)),
    )
}
