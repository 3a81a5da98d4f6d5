//! Plays a plan: the daemon in a task that can die at any await, people and upsets around it, then healing and the check.

use super::between;
use super::companies::Firms;
use super::departing::OnDelete;
use super::faults::{CrashDoor, Network, PowerCut, Shared};
use super::model::Listed;
use super::people::Edit;
use super::world::{BREVO_SECRET, Plan, Rates, Rules, Upset};
use linkspan::brevo::webhook::Auth;
use linkspan::brevo::{BrevoClient, BrevoOptions as BrevoClientOptions};
use linkspan::config::Config;
use linkspan::doors::{Clock, Doors, SeededRng, SimulatedClock};
use linkspan::engine::{Approved, Connection, Daemon, EngineError, Settings, Silent, SyncOptions, approve_in};
use linkspan::intercom::{IntercomClient, IntercomOptions};
use linkspan::model::SideName;
use linkspan::sandbox::brevo::{BrevoOptions, BrevoSandbox};
use linkspan::sandbox::intercom::{self as double, IntercomSandbox};
use linkspan::server::Server;
use linkspan::store::harm::HoldState;
use linkspan::store::{Calling, Store};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// What came of a plan.
#[derive(Debug, Clone)]
pub struct Outcome {
    pub hash: u64,
    pub violations: Vec<String>,
    pub counts: BTreeMap<String, u64>,
    pub lines: Vec<String>,
    pub virtual_seconds: i64,
}

/// Plays it, in this thread.
pub fn play(plan: &Plan, keep: bool) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let shared_memory = Path::new("/dev/shm");
    let folder = if shared_memory.is_dir() { shared_memory.to_owned() } else { std::env::temp_dir() };
    let folder = tempfile::Builder::new().prefix("linkspan-sim").tempdir_in(folder).unwrap();
    runtime.block_on(async { Play::new(plan, keep, folder.path()).play().await })
}

/// The daemon's own clock, which may be off.
struct Skewed(Arc<SimulatedClock>, chrono::TimeDelta);

impl Clock for Skewed {
    fn now(&self) -> chrono::DateTime<chrono::Utc> {
        self.0.now() + self.1
    }
}

struct Play<'a> {
    plan: &'a Plan,
    shared: Arc<Shared>,
    path: PathBuf,
    rules: Rules,
    process: Option<Process>,
    /// When it comes back, if it is down.
    back_at: Option<Instant>,
    /// How long it stays away after the next crash.
    away: u64,
    starts: u64,
    /// Nothing goes wrong in this plan.
    undisturbed: bool,
    /// When somebody looks next what the limits on harm hold.
    next_look: Option<Instant>,
}

async fn listed(store: &Store) -> Listed {
    let read = store.read(|tx| {
        Ok(Listed {
            failures: tx.failures(1_000)?,
            notices: tx.notices(None, 1_000)?,
            conflicts: tx.conflicts(10_000)?,
        })
    });
    read.await.unwrap()
}

struct Process {
    connection: Arc<Connection>,
    daemon: Arc<Daemon>,
    tasks: JoinSet<Result<(), EngineError>>,
    stop: CancellationToken,
}

fn parse(plan: &Plan, rules: &Rules) -> Config {
    let (yaml, mapping) = (plan.config(rules), Plan::mapping(rules));
    match Config::parse_with(&yaml, Path::new("sim.yaml"), &BTreeMap::new(), &|_| Ok(mapping.clone())) {
        Ok(config) => config,
        Err(errors) => panic!("{yaml}\n{}", errors.render(false)),
    }
}

impl<'a> Play<'a> {
    fn new(plan: &'a Plan, keep: bool, folder: &Path) -> Self {
        let start = "2026-11-20T20:30:00Z".parse().unwrap();
        let runtime_clock = Arc::new(SimulatedClock::starting_at(start));
        let setting = &plan.setting;
        let intercom = IntercomSandbox::new(double::IntercomOptions {
            clock: runtime_clock.clone(),
            seed: plan.seed,
            index_lag: Duration::from_secs(setting.index_lag),
            ..double::IntercomOptions::default()
        });
        if plan.rules.cross() || plan.later.cross() {
            // Their first value may be that there is none, which says nothing about their kind.
            intercom.define_attribute("contact", "is_admin", "boolean", &[]).unwrap();
            intercom.define_attribute("contact", "seats", "float", &[]).unwrap();
        }
        let mut options = BrevoOptions::new(plan.seed, runtime_clock.clone());
        options.import_delay = Duration::from_secs(setting.import_delay);
        let brevo = BrevoSandbox::new(options);
        brevo.knobs(|knobs| {
            knobs.import_resubscribes = setting.import_resubscribes;
            knobs.import_webhooks = setting.import_webhooks;
            knobs.flat_list_answers = setting.flat_list_answers;
            knobs.described_list_unsubscribed = setting.described_lists;
            knobs.duplicates_as_invalid = setting.duplicates_as_invalid;
        });
        if let Some(firms) = &setting.firms {
            firms.prepare(&intercom, &brevo);
        }
        let shared = Shared::new(plan, keep, runtime_clock, (intercom, brevo));
        {
            let mut model = shared.model();
            model.firms.of(setting.firms.clone());
            (model.on_delete, model.filter) = (setting.on_delete, setting.filter);
            (model.unlists, model.resubscribes) = (setting.unlists, setting.resubscribes);
        }
        Self {
            plan,
            shared,
            path: folder.join("state.db"),
            rules: plan.rules.clone(),
            process: None,
            back_at: None,
            away: 5,
            starts: 0,
            undisturbed: plan.rates == Rates::NONE && plan.upsets.is_empty(),
            next_look: None,
        }
    }

    fn connect(&mut self) -> (Arc<Connection>, Config) {
        self.starts += 1;
        let shared = &self.shared;
        let config = parse(self.plan, &self.rules);
        let doors = Doors {
            clock: Arc::new(Skewed(shared.clock.clone(), chrono::TimeDelta::seconds(self.plan.setting.skew))),
            rng: Arc::new(SeededRng::new(self.plan.seed.wrapping_mul(1_000).wrapping_add(self.starts))),
            crash: Arc::new(CrashDoor(Arc::clone(shared))),
        };
        let options = IntercomOptions {
            base_url: "https://api.intercom.test/".parse().unwrap(),
            access_token: shared.intercom.access_token().to_owned().into(),
            api_version: "2.11".to_owned(),
            share: 0.8,
            plan: None,
        };
        let network = |is_brevo: bool, router| Network { shared: Arc::clone(shared), is_brevo, router };
        let support = Arc::new(network(false, shared.intercom.router()));
        let support = IntercomClient::new(options, support, doors.clone());
        let mut options = BrevoClientOptions::new(shared.brevo.api_key().to_owned().into()).unwrap();
        options.base_url = "https://api.brevo.test/v3".parse().unwrap();
        let marketing = BrevoClient::new(options, Arc::new(network(true, shared.brevo.router())), doors.clone());
        let store = Store::open(&self.path, Calling::Alone).unwrap();
        let settings = Settings::from_config(&config);
        (Connection::new(Arc::new(support), Arc::new(marketing), store, doors, settings), config)
    }

    fn start(&mut self) {
        let (connection, config) = self.connect();
        self.shared.tell("### started");
        let server = Server::new(connection.clone(), config.intercom.client_secret.clone());
        let hears = self.plan.setting.hearing.map(|_| Auth::Bearer(BREVO_SECRET.to_owned().into()));
        let server = server.with_brevo(hears);
        self.shared.receiver(Some(server.router()));
        let daemon = Arc::new(Daemon::new(connection.clone(), config.schedule.clone()));
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let (running, token) = (Arc::clone(&daemon), stop.clone());
        tasks.spawn(async move { running.run(token).await });
        self.process = Some(Process { connection, daemon, tasks, stop });
        self.back_at = None;
    }

    fn down(&mut self, away: u64) {
        self.process = None;
        self.shared.receiver(None);
        self.back_at = Some(Instant::now() + Duration::from_secs(away));
    }

    /// Lets time pass until `at`, and looks after the process.
    async fn until(&mut self, at: Instant) {
        loop {
            let Some(process) = &mut self.process else {
                let back_at = self.back_at.unwrap_or(at);
                tokio::time::sleep_until(back_at.min(at)).await;
                if back_at > at {
                    return;
                }
                self.start();
                continue;
            };
            let ended = tokio::select! {
                biased;
                ended = process.tasks.join_next() => ended,
                () = tokio::time::sleep_until(at) => return,
            };
            self.ended(ended);
        }
    }

    fn ended(&mut self, ended: Option<Result<Result<(), EngineError>, tokio::task::JoinError>>) {
        let shared = Arc::clone(&self.shared);
        match ended {
            None | Some(Ok(Ok(()))) => shared.violate("the daemon stopped by itself".to_owned()),
            Some(Ok(Err(error))) => {
                shared.count("the daemon gave up");
                shared.tell(&format!("### the daemon gave up: {error}"));
                if !matches!(error, EngineError::Side(_)) {
                    shared.violate(format!("the daemon gave up: {error}"));
                }
            }
            Some(Err(error)) => {
                if let Ok(payload) = error.try_into_panic()
                    && !payload.is::<PowerCut>()
                {
                    let text = payload.downcast_ref::<String>().cloned().unwrap_or_default();
                    shared.violate(format!("the daemon panicked: {text}"));
                }
            }
        }
        let away = std::mem::replace(&mut self.away, 5);
        self.down(away);
    }

    async fn upset(&mut self, upset: &Upset) {
        let shared = Arc::clone(&self.shared);
        match upset {
            Upset::PowerOff(away) => {
                if self.process.is_some() {
                    shared.count("power off at an await");
                    shared.tell("### power off");
                    let now = shared.now();
                    shared.model().unclear = true;
                    shared.model().unsettled.push(now);
                    self.down(*away);
                }
            }
            Upset::CrashPoint(name, nth, away) => {
                self.away = *away;
                shared.crash.at_point(name, *nth);
            }
            Upset::InRequest(nth, after, away) => {
                self.away = *away;
                shared.crash.in_request(*nth, *after);
            }
            Upset::Restart(away) => {
                shared.count("restart");
                self.stop().await;
                self.down(*away);
            }
            Upset::Reload => {
                shared.count("reload");
                shared.tell("### the mapping is changed");
                self.rules = self.plan.later.clone();
                shared.model().reloaded = true;
                let config = parse(self.plan, &self.rules);
                let Some(process) = &self.process else { return };
                let (daemon, settings) = (Arc::clone(&process.daemon), Settings::from_config(&config));
                let schedule = config.schedule.clone();
                // In a task of its own, because the power may go meanwhile.
                let mut aside = JoinSet::new();
                aside.spawn(async move { daemon.reload(settings, schedule).await });
                match aside.join_next().await {
                    Some(Ok(Ok(()))) => {}
                    Some(Ok(Err(error))) => {
                        // As an operator would: with a restart.
                        shared.tell(&format!("### reload failed: {error}"));
                        self.stop().await;
                        self.down(1);
                    }
                    _ => self.down(5),
                }
            }
        }
    }

    /// Somebody looks what is held and lets it go: `all` of it, or what is held longest.
    async fn approve(&mut self, all: bool) {
        let patience = self.plan.setting.limits.map_or(0, |limits| limits.patience);
        self.next_look = Some(Instant::now() + Duration::from_secs(patience));
        let Some(process) = &self.process else { return };
        let connection = Arc::clone(&process.connection);
        self.let_go(&connection, all).await;
    }

    async fn is_held(&self, connection: &Arc<Connection>) -> bool {
        let now = connection.doors().clock.now();
        let held = connection.store().read(move |tx| tx.current_holds(now)).await.unwrap();
        held.iter().any(|hold| hold.state == HoldState::Open)
    }

    async fn let_go(&self, connection: &Arc<Connection>, all: bool) {
        let shared = &self.shared;
        let now = connection.doors().clock.now();
        let held = connection.store().read(move |tx| tx.current_holds(now)).await.unwrap();
        for hold in held.into_iter().filter(|hold| hold.state == HoldState::Open).take(if all { 9 } else { 1 }) {
            let approved = connection.store().write(move |tx| approve_in(tx, hold.id, now)).await.unwrap();
            shared.count(format!("held and approved: {}", hold.kind));
            shared.tell(&format!("*** the operator lets go what is held: {approved:?}"));
            if let Approved::Done { may, .. } = approved {
                let at = shared.now();
                shared.model().harm.approved(&hold.kind, may, at);
            }
        }
    }

    /// Asks it to stop, and waits.
    async fn stop(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        self.shared.tell("### asked to stop");
        process.stop.cancel();
        let ended = tokio::time::timeout(Duration::from_secs(60), process.tasks.join_next()).await;
        match ended {
            Ok(Some(Ok(Ok(())))) => {}
            Ok(Some(Err(error))) if error.is_panic() => {}
            other => self.shared.violate(format!("did not stop well: {other:?}")),
        }
        self.shared.receiver(None);
    }

    async fn play(mut self) -> Outcome {
        let shared = Arc::clone(&self.shared);
        let began = Instant::now();
        if let Some(hearing) = self.plan.setting.hearing {
            shared.hear_brevo(hearing.batched).await;
        }
        for edit in &self.plan.before {
            shared.hand(edit);
            tokio::time::sleep(Duration::from_millis(700)).await;
        }
        tokio::time::sleep(Duration::from_secs(self.plan.setting.known_for)).await;
        let zero = Instant::now();
        let patience = self.plan.setting.limits.map(|limits| Duration::from_secs(limits.patience));
        self.next_look = patience.map(|patience| zero + patience);
        self.start();
        let mut edits = self.plan.edits.iter().peekable();
        let mut upsets = self.plan.upsets.iter().peekable();
        loop {
            let edit_at = edits.peek().map(|(at, _)| *at);
            let upset_at = upsets.peek().map(|(at, _)| *at);
            let Some(at) = edit_at.into_iter().chain(upset_at).min() else { break };
            while let Some(look) = self.next_look.filter(|look| *look < zero + at) {
                self.until(look).await;
                self.approve(false).await;
            }
            self.until(zero + at).await;
            if edit_at == Some(at) {
                let edit: Option<&(Duration, Edit)> = edits.next();
                if let Some((_, edit)) = edit {
                    shared.hand(edit);
                }
            } else if let Some((_, upset)) = upsets.next() {
                self.upset(upset).await;
            }
        }
        // Half of the worlds are healed at once, half get the time to see the last edits through the faults.
        if self.plan.seed.is_multiple_of(2) {
            self.until(Instant::now() + Duration::from_secs(400)).await;
        }
        self.heal().await;
        self.check().await;
        let mut story = shared.story();
        let virtual_seconds = i64::try_from(began.elapsed().as_secs()).unwrap_or(i64::MAX);
        Outcome {
            hash: story.hash(),
            violations: std::mem::take(&mut story.violations),
            counts: std::mem::take(&mut story.counts),
            lines: story.lines().to_vec(),
            virtual_seconds,
        }
    }

    /// Edits and faults stop. What is on its way arrives; the daemon goes on for a while.
    async fn heal(&mut self) {
        self.shared.tell("### edits and faults stop");
        self.shared.heal();
        loop {
            self.until(Instant::now() + Duration::from_secs(60)).await;
            self.shared.pump();
            if self.shared.is_quiet() {
                break;
            }
        }
        if self.plan.setting.limits.is_some() {
            // What is shown and told by now is held by now, or soon after it was let go.
            for _ in 0..4 {
                self.until(Instant::now() + Duration::from_secs(60)).await;
                self.approve(true).await;
            }
        }
        let while_longer = self.plan.setting.firms.as_ref().map_or(300, Firms::takes);
        self.until(Instant::now() + Duration::from_secs(while_longer)).await;
        let forgotten = self.shared.model().check_acknowledged(self.plan.setting.both);
        for what in forgotten {
            self.shared.violate(what);
        }
        self.stop().await;
        if !self.shared.model().unclear {
            self.shared.count("checked what was acknowledged before any sweep");
            let listed = listed(&Store::open(&self.path, Calling::Alone).unwrap()).await;
            let wrong = self.shared.model().check_before_sweeps(&self.rules, &listed, true);
            for what in wrong {
                self.shared.violate(what);
            }
        }
        // Brevo's hourly budget fills again.
        tokio::time::sleep(Duration::from_secs(3_700)).await;
    }

    async fn cycle(&mut self, connection: &Arc<Connection>, full: bool) {
        tokio::time::sleep(Duration::from_secs(300)).await;
        self.shared.tell(&format!("### sync{}", if full { " --full" } else { "" }));
        let options = SyncOptions { full, ..SyncOptions::default() };
        for _ in 0..4 {
            if let Err(error) = connection.sync(&options, &Silent).await {
                self.shared.violate(format!("no progress after healing: {error}"));
            }
            if self.plan.setting.limits.is_none() || !self.is_held(connection).await {
                break;
            }
            self.let_go(connection, true).await;
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
    }

    /// P9: the history names what the vendor took: one row at least for each contact of our making, each with a cause or
    /// a list and with an answer.
    async fn history(&self, connection: &Arc<Connection>) {
        let changes = connection.store().read(|tx| tx.changes(None, 100_000)).await.unwrap();
        for change in &changes {
            if change.what.is_empty() || change.answer.is_empty() {
                self.shared.violate(format!("P9: a change without its request or answer: {change:?}"));
            }
        }
        let writes = self.shared.brevo.log().writes();
        let single = |method: &str, template: &str| {
            let taken = |status: u16| (200..300).contains(&status);
            writes.iter().filter(|w| w.method == method && w.template == template && taken(w.status)).count()
        };
        let updates = single("PUT", "/contacts/{identifier}");
        if self.undisturbed {
            let mut sent: BTreeMap<String, usize> = BTreeMap::new();
            for write in writes.iter().filter(|w| w.method == "PUT" && w.template == "/contacts/{identifier}") {
                let body: serde_json::Value = serde_json::from_slice(&write.body).unwrap_or_default();
                let names = body["attributes"].as_object().map(|all| all.keys().cloned().collect::<Vec<_>>());
                let names = names.unwrap_or_default().into_iter().filter(|_| (200..300).contains(&write.status));
                for name in names {
                    *sent.entry(if name == "EMAIL" { "email".to_owned() } else { name }).or_default() += 1;
                }
            }
            for (name, times) in sent {
                let rows = changes.iter().filter(|change| change.fields.keys().any(|key| key.contains(&name))).count();
                self.shared.count("outcome: a field's updates are in the history");
                if rows < times {
                    let words = format!("P9: {name} was written {times} times, the history names it in {rows} rows");
                    self.shared.violate(words);
                }
            }
        }
        // What was cut off by a crash or a lost answer may be missing or counted once for several tries.
        if self.undisturbed && changes.len() < updates {
            self.shared.violate(format!("P9: {updates} updates were taken, the history has {} rows", changes.len()));
        }
    }

    async fn check(&mut self) {
        let (connection, _) = self.connect();
        let shared = Arc::clone(&self.shared);
        self.cycle(&connection, false).await;
        let early = listed(connection.store()).await;
        let wrong = shared.model().check_before_sweeps(&self.rules, &early, false);
        for what in wrong {
            shared.violate(what);
        }
        let sweeps = self.plan.setting.sweeps;
        for full in [sweeps, false, sweeps] {
            self.cycle(&connection, full).await;
        }
        let missing = |listed: &Listed| listed.notices.iter().any(|notice| notice.0 == "missing_in_intercom");
        if self.plan.setting.on_delete != OnDelete::KEEP || missing(&listed(connection.store()).await) {
            // Who was found gone by a full read is looked for once the index has caught up: what is to be told of them,
            // and what a deletion carries, waits until then.
            for _ in 0..3 {
                tokio::time::sleep(Duration::from_secs(700)).await;
                self.cycle(&connection, false).await;
            }
        }
        if self.plan.setting.limits.is_some() && self.is_held(&connection).await {
            shared.violate("P7: something is held though everything was let go".to_owned());
        }
        let listed = listed(connection.store()).await;
        for notice in &listed.notices {
            shared.count(format!("notice {}", notice.0));
            shared.tell(&format!("    listed: {notice:?}"));
        }
        for failure in &listed.failures {
            shared.count(format!("listed failure of {}", failure.field));
            let (subject, field, message) = (&failure.subject, &failure.field, &failure.message);
            shared.tell(&format!("    listed: {subject}, {field:?}: {message} (link {:?})", failure.link));
        }
        for conflict in &listed.conflicts {
            shared.count(format!("conflict: {}", conflict.rule));
        }
        if listed.failures.iter().any(|failure| failure.refused_by == Some(SideName::Intercom)) {
            shared.count("outcome: refused by Intercom, listed");
        }
        let (sides, times) = ((&shared.intercom, &shared.brevo), (shared.start(), shared.now()));
        let (wrong, counts) =
            shared.model().check(&self.rules, &listed, sides, times, self.plan.setting.makes.is_some());
        for what in wrong {
            shared.violate(what);
        }
        for what in counts {
            shared.count(what);
        }
        if self.plan.setting.both {
            let (wrong, counts) = shared.model().check_told(&listed);
            for what in wrong {
                shared.violate(what);
            }
            for what in counts {
                shared.count(what);
            }
        }
        let (wrong, counts) = shared.model().firms.check(&listed, &shared.intercom, &shared.brevo);
        for what in wrong {
            shared.violate(what);
        }
        for what in counts {
            shared.count(what);
        }
        let told = shared.intercom.log().write_count();
        let before = shared.brevo.log().write_count();
        for full in [false, true] {
            self.cycle(&connection, full).await;
        }
        let after = shared.brevo.log().write_count();
        if after > before {
            let writes = shared.brevo.log().writes();
            let more: Vec<String> = writes[writes.len() - (after - before)..]
                .iter()
                .map(|write| format!("{} {} {}", write.method, write.target, String::from_utf8_lossy(&write.body)))
                .collect();
            shared.violate(format!("P3: a quiet cycle wrote {}", more.join(" | ")));
        }
        let writes = shared.intercom.log().writes();
        let more: Vec<String> = writes[told.min(writes.len())..]
            .iter()
            .map(|write| format!("{} {} {}", write.method, write.target, String::from_utf8_lossy(&write.body)))
            .collect();
        if !more.is_empty() {
            shared.violate(format!("P3: a quiet cycle wrote to Intercom {}", more.join(" | ")));
        }
        self.history(&connection).await;
        for what in between::written(&shared.intercom, [&self.plan.rules, &self.plan.later], &self.plan.setting) {
            shared.violate(what);
        }
        for ((method, template), count) in shared.intercom.log().counts() {
            for _ in 0..count.writes {
                shared.count(format!("write to Intercom {method} {template}"));
            }
        }
        let over = shared.model().over_limit.len();
        // A new process knows the pace only after its first answers.
        if over as u64 > self.starts * 2 {
            shared.violate(format!("P8: {over} requests were over the limits, in {} starts", self.starts));
        }
        for ((method, template), count) in shared.brevo.log().counts() {
            if count.writes > 0 {
                for _ in 0..count.writes {
                    shared.count(format!("write {method} {template}"));
                }
            }
        }
    }
}
