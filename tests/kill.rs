//! The program is killed with SIGKILL at chosen moments, started again on the same state file, and ends where an
//! undisturbed run ends.
//!
//! The moments are conditions, not delays: a gate in front of the sandboxes keeps back the nth request of a kind or its
//! answer, and the kill comes while the program waits for it.

#![cfg(unix)]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "this whole file is a test; clippy only knows functions marked so"
)]

use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use chrono::{DateTime, Utc};
use linkspan::doors::{Clock, SystemClock};
use linkspan::sandbox::brevo::{BrevoOptions, BrevoSandbox, ContactSeed};
use linkspan::sandbox::intercom::{IntercomOptions, IntercomSandbox, Truth};
use linkspan::sandbox::{Deliverer, DeliveryRules, Serving, serve};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;
use tempfile::TempDir;

#[path = "kill/two_way.rs"]
mod two_way;

const TOKEN: &str = "dG9rOnNlY3JldC10b2tlbi1vZi10aGUtdGVzdA==";
const KEY: &str = "xkeysib-secret-key-of-the-test";
/// What the longest condition may take before the test gives up.
const PATIENCE: Duration = Duration::from_secs(120);
/// The instant at which every world of this test is made, so that two of them are alike to the second.
static MADE_AT: LazyLock<DateTime<Utc>> = LazyLock::new(|| SystemClock.now());

/// Stands still while a world is made, and then is the machine's clock.
#[derive(Default)]
struct WorldClock {
    runs: AtomicBool,
}

impl Clock for WorldClock {
    fn now(&self) -> DateTime<Utc> {
        if self.runs.load(Ordering::SeqCst) { SystemClock.now() } else { *MADE_AT }
    }
}

// ------------------------------------------------------------------------------------------------------- the gate --

/// Whether the sandbox has carried out a request that is held up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hold {
    /// It never gets the request.
    Request,
    /// It has done what was asked, and the answer never arrives.
    Answer,
}

#[derive(Debug)]
struct Armed {
    hold: Hold,
    method: &'static str,
    /// `{}` stands for any one part of a path.
    template: &'static str,
    /// From this one on, counted from when the gate was armed.
    nth: usize,
    seen: usize,
    held: usize,
}

/// A template's `?part` asks for that part in the query.
fn fits(template: &str, path: &str, query: &str) -> bool {
    let (template, asked) = template.split_once('?').unwrap_or((template, ""));
    if !query.contains(asked) {
        return false;
    }
    let (template, path): (Vec<&str>, Vec<&str>) = (template.split('/').collect(), path.split('/').collect());
    template.len() == path.len() && template.iter().zip(path).all(|(part, given)| *part == "{}" || *part == given)
}

/// Lets everything through, but what it is armed for.
#[derive(Clone, Default)]
struct Gate(Arc<Mutex<Option<Armed>>>);

impl Gate {
    fn arm(&self, hold: Hold, method: &'static str, template: &'static str, nth: usize) {
        *self.0.lock().unwrap() = Some(Armed { hold, method, template, nth, seen: 0, held: 0 });
    }

    fn open(&self) {
        *self.0.lock().unwrap() = None;
    }

    fn holds(&self, method: &str, path: &str, query: &str) -> Option<Hold> {
        let mut armed = self.0.lock().unwrap();
        let armed = armed.as_mut().filter(|armed| armed.method == method && fits(armed.template, path, query))?;
        armed.seen += 1;
        (armed.seen >= armed.nth).then_some(armed.hold)
    }

    /// Keeps the caller waiting until it hangs up.
    async fn keep(&self) -> Response {
        if let Some(armed) = self.0.lock().unwrap().as_mut() {
            armed.held += 1;
        }
        std::future::pending().await
    }

    /// How many are being kept.
    fn held(&self) -> usize {
        self.0.lock().unwrap().as_ref().map_or(0, |armed| armed.held)
    }
}

async fn pass(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    let hold = gate.holds(request.method().as_str(), request.uri().path(), request.uri().query().unwrap_or_default());
    if hold == Some(Hold::Request) {
        return gate.keep().await;
    }
    let response = next.run(request).await;
    if hold.is_some() { gate.keep().await } else { response }
}

// ------------------------------------------------------------------------------------------------------- the world --

/// What counts about a Brevo contact: blocklisted, values (absent and `false` are one), the config's lists.
type Account = BTreeMap<String, (bool, Vec<(String, String)>, Vec<String>)>;

struct World {
    runtime: tokio::runtime::Runtime,
    intercom: IntercomSandbox,
    brevo: BrevoSandbox,
    gate: Gate,
    truth: Truth,
    /// Everybody who was ever seen blocklisted in Brevo.
    out: BTreeSet<String>,
    folder: TempDir,
    _serving: (Serving, Serving),
}

const LISTS: [&str; 3] = ["Users", "Leads", "Active"];

impl World {
    fn new(contacts: usize) -> Self {
        Self::with(contacts, "consent: {direction: intercom_to_brevo}\n")
    }

    /// With this at the end of its config.
    fn with(contacts: usize, more: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let clock = Arc::new(WorldClock::default());
        let intercom = IntercomSandbox::new(IntercomOptions {
            access_token: TOKEN.to_owned(),
            clock: clock.clone(),
            index_lag: Duration::ZERO,
            ..IntercomOptions::default()
        });
        let brevo = BrevoSandbox::new(BrevoOptions {
            api_key: KEY.to_owned(),
            import_delay: Duration::from_millis(500),
            ..BrevoOptions::new(1, clock.clone())
        });
        let truth = intercom.world(11, contacts);
        intercom.webhooks_on(false);
        // An account with a raised limit: it saves the test the wait.
        brevo.knobs(|knobs| knobs.per_second = Some(100));
        let mut out = BTreeSet::new();
        // Some are in Brevo already, and have opted out there: an import that updates them would lift that.
        for (place, id) in intercom.contact_ids().iter().enumerate() {
            let email = intercom.contact(id).and_then(|contact| Some(contact["email"].as_str()?.to_lowercase()));
            if let Some(email) = email.filter(|email| place % 25 == 0 && email.contains('@')) {
                let seed =
                    ContactSeed { email: Some(email.clone()), email_blacklisted: true, ..ContactSeed::default() };
                if brevo.create_contact(seed).is_some() {
                    out.insert(email);
                }
            }
        }
        assert!(out.len() >= contacts / 50, "{} of {contacts}", out.len());
        clock.runs.store(true, Ordering::SeqCst);
        let gate = Gate::default();
        let through = |router: axum::Router| router.layer(from_fn_with_state(gate.clone(), pass));
        let serving = runtime.block_on(async {
            let intercom = serve(through(intercom.router()), 0).await.unwrap();
            (intercom, serve(through(brevo.router()), 0).await.unwrap())
        });
        let config = format!(
            "connectors:\n  intercom:\n    base_url: {}\n    access_token: {TOKEN}\n    client_secret: {}\n    \
             lists: {{all_users: Users, leads: Leads, active_conversations: Active}}\n  \
             brevo:\n    base_url: {}/v3\n    api_key: {KEY}\n    webhooks: {{secret: hush}}\nphone:\n  default_region: US\nserver:\n  \
             listen: 127.0.0.1:0\n  public_url: https://linkspan.example.com\n{more}",
            serving.0.base_url(),
            intercom.client_secret(),
            serving.1.base_url(),
        );
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.yaml"), config).unwrap();
        Self { runtime, intercom, brevo, gate, truth, out, folder, _serving: serving }
    }

    fn start(&self, arguments: &[&str]) -> Process {
        let stream = |name| std::fs::File::create(self.folder.path().join(name)).unwrap();
        let started = Command::new(env!("CARGO_BIN_EXE_linkspan"))
            .current_dir(self.folder.path())
            .env_clear()
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(stream("stdout"))
            .stderr(stream("stderr"))
            .spawn();
        Process(started.unwrap())
    }

    fn said(&self, stream: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(stream)).unwrap()
    }

    /// A whole `sync`, which must end well; its summary.
    fn sync(&mut self) -> Value {
        let mut process = self.start(&["sync", "--json"]);
        let status = process.wait();
        let (out, err) = (self.said("stdout"), self.said("stderr"));
        assert!(status.success(), "{status:?}: {out}{err}");
        self.nobody_is_doubled_or_comes_back();
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{err}"))
    }

    /// A `sync` right after a kill: it ends well, and says that the outcome of some writes is still open.
    fn sync_leaves_some_pending(&mut self) {
        let summary = self.sync();
        assert_eq!(
            (summary["outcome"].as_str(), summary["pending"].as_u64() > Some(0)),
            (Some("ok"), true),
            "{summary}"
        );
        let status = self.start(&["status", "--json"]).wait();
        let shown: Value = serde_json::from_str(&self.said("stdout")).unwrap();
        assert!(status.success() && shown["pending"].as_u64() > Some(0), "{shown}");
    }

    /// A `sync` that is killed while it waits for what the gate holds.
    fn sync_killed(&mut self, hold: Hold, method: &'static str, template: &'static str, nth: usize) {
        self.gate.arm(hold, method, template, nth);
        let mut process = self.start(&["sync", "--json"]);
        let reached = eventually(|| process.0.try_wait().unwrap().is_some() || self.gate.held() > 0);
        let over = process.0.try_wait().unwrap();
        assert!(
            reached && over.is_none(),
            "{method} {template} did not come {nth} times ({over:?}):\n{}{}",
            self.said("stdout"),
            self.said("stderr")
        );
        process.kill();
        self.gate.open();
        self.nobody_is_doubled_or_comes_back();
    }

    fn account(&self) -> Account {
        let lists: BTreeMap<i64, &str> =
            LISTS.into_iter().filter_map(|name| Some((self.brevo.list_id(name)?, name))).collect();
        let contacts = self.brevo.contacts();
        let one = |contact: linkspan::sandbox::brevo::Contact| {
            let values = contact.attributes.iter().filter(|(_, value)| **value != Value::Bool(false));
            let values = values.map(|(name, value)| (name.clone(), value.to_string())).collect();
            let on = contact.list_ids.iter().filter_map(|id| lists.get(id).map(ToString::to_string)).collect();
            (contact.email.unwrap_or_default(), (contact.email_blacklisted, values, on))
        };
        contacts.into_iter().map(one).collect()
    }

    /// Holds at every moment, also in the middle of things.
    fn nobody_is_doubled_or_comes_back(&mut self) {
        let account = self.account();
        assert_eq!(account.len(), self.brevo.contact_count(), "an address twice, or a contact without one");
        let now: BTreeSet<String> = account.into_iter().filter(|(_, (out, ..))| *out).map(|(email, _)| email).collect();
        let back: Vec<_> = self.out.difference(&now).collect();
        assert!(back.is_empty(), "re-subscribed: {back:?}");
        self.out = now;
    }

    fn writes(&self) -> usize {
        self.brevo.log().write_count() + self.intercom.log().write_count()
    }

    /// The state, as if everything in it had happened an hour earlier: what was under way when the program
    /// was killed cannot land any more. It saves the test the wait.
    fn a_while_passes(&self) {
        let state = rusqlite::Connection::open(self.folder.path().join("state/linkspan.db")).unwrap();
        let earlier = "UPDATE links SET verify_after = verify_after - 3600000; UPDATE imports SET sent_at = sent_at - 3600000; \
             UPDATE write_backs SET verify_after = verify_after - 3600000; UPDATE carried SET until = until - 3600000";
        state.execute_batch(earlier).unwrap();
    }

    /// The last word: everything as in `expected`, and a further run has nothing to write.
    fn assert_ends_like(&mut self, expected: &Account) {
        assert_eq!(self.brevo.contact_count(), self.truth.distinct_emails, "as many contacts as distinct addresses");
        assert_same(&self.account(), expected);
        let before = self.writes();
        let summary = self.sync();
        assert_eq!(self.writes(), before, "the next run wrote: {summary}");
        assert_eq!(
            (summary["pending"].as_u64(), summary["failedReads"].as_object().map(|all| all.len())),
            (Some(0), Some(0))
        );
        assert_eq!(self.intercom.log().write_count(), 0, "Intercom is only read");
    }
}

fn assert_same(now: &Account, expected: &Account) {
    let emails: BTreeSet<&String> = expected.keys().chain(now.keys()).collect();
    let odd: Vec<String> = (emails.into_iter().filter(|email| expected.get(*email) != now.get(*email)))
        .map(|email| format!("{email}: {:?}\n  instead of {:?}", now.get(email), expected.get(email)))
        .collect();
    assert!(odd.is_empty(), "{} differ:\n{}", odd.len(), odd.join("\n"));
}

/// How many pages of contacts Intercom was asked for.
fn searches(world: &World) -> usize {
    let counts = world.intercom.log().counts();
    counts.get(&("POST".to_owned(), "/contacts/search".to_owned())).map_or(0, |count| count.all)
}

/// The program at work. It does not outlive the test.
struct Process(Child);

impl Process {
    fn kill(&mut self) {
        self.0.kill().unwrap();
        assert_eq!(self.0.wait().unwrap().signal(), Some(9), "it was still at work");
    }

    /// Waits for the end, but not for ever.
    fn wait(&mut self) -> std::process::ExitStatus {
        if !eventually(|| self.0.try_wait().unwrap().is_some()) {
            self.0.kill().ok();
        }
        self.0.wait().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Looks until it is so, or until it has taken too long.
#[expect(clippy::disallowed_methods, reason = "another process is waited for, and the sandboxes have their own thread")]
fn eventually(mut so: impl FnMut() -> bool) -> bool {
    let pause = Duration::from_millis(3);
    (0..PATIENCE.as_millis() / pause.as_millis()).any(|_| {
        let now = so();
        if !now {
            std::thread::sleep(pause);
        }
        now
    })
}

// ------------------------------------------------------------------------------------------------------- the tests --

const CONTACTS: usize = 600;
const NEWCOMERS: usize = 12;

/// What an undisturbed program makes of a world.
struct Undisturbed {
    /// After the first run.
    first: Account,
    /// After a second one, which brings [`edit`] over.
    edited: Account,
    /// The pages of contacts that the first run read.
    searches: usize,
}

static UNDISTURBED: LazyLock<Undisturbed> = LazyLock::new(|| {
    let mut world = World::new(CONTACTS);
    world.sync();
    let (first, searches) = (world.account(), searches(&world));
    edit(&world);
    world.sync();
    Undisturbed { first, edited: world.account(), searches }
});

/// The first `count` of Intercom's contacts that have an address and a contact in Brevo: id and address.
fn people(world: &World, count: usize) -> Vec<(String, String)> {
    let mut seen = BTreeSet::new();
    let known = |id: String| {
        let email = world.intercom.contact(&id)?["email"].as_str()?.to_lowercase();
        world.brevo.contact_by_email(&email)?;
        seen.insert(email.clone()).then_some((id, email))
    };
    world.intercom.contact_ids().into_iter().filter_map(known).take(count).collect()
}

/// A few changes and newcomers: too few for an import, so each is a write of its own.
fn edit(world: &World) {
    for (place, (id, _)) in people(world, 12).into_iter().enumerate() {
        world.intercom.edit_contact(&id, &json!({"name": format!("Edited Person{place}")})).unwrap();
    }
    for place in 0..NEWCOMERS {
        world.intercom.create_contact(linkspan::sandbox::intercom::ContactSeed {
            email: Some(format!("newcomer{place}@example.org")),
            name: Some(format!("New Comer{place}")),
            unsubscribed: place % 3 == 0,
            ..Default::default()
        });
    }
}

fn killed_while_it_reads_and_while_imports_run() {
    let mut world = World::new(CONTACTS);
    // The third page of contacts never arrives: two are kept.
    world.sync_killed(Hold::Answer, "POST", "/contacts/search", 3);
    assert_eq!((searches(&world), world.writes() > 0), (3, true), "attributes and lists are made first");
    // The second run goes on where the first one was.
    world.sync_killed(Hold::Request, "POST", "/conversations/search", 2);
    let second = searches(&world) - 3;
    assert!(second < UNDISTURBED.searches, "{second} pages were read again, of {}", UNDISTURBED.searches);
    // The page before may or may not have been kept when the next one was asked for.
    assert!(second == UNDISTURBED.searches - 2 || second == UNDISTURBED.searches - 1, "{second}");
    // All imports are sent, and none was looked after yet.
    world.sync_killed(Hold::Answer, "GET", "/v3/processes", 1);
    let sent = imports(&world);
    assert!(sent > 1, "{sent} imports");
    // The read-back never arrives (a run reads what has changed first).
    world.sync_killed(Hold::Answer, "GET", "/v3/contacts?limit=1000", 2);
    world.sync();
    assert_eq!(imports(&world), sent, "no import was sent twice");
    world.assert_ends_like(&UNDISTURBED.first);
}

fn killed_before_an_import_is_answered() {
    let mut world = World::new(CONTACTS);
    // Brevo has it, and nobody knows its number.
    world.sync_killed(Hold::Answer, "POST", "/v3/contacts/import", 1);
    world.a_while_passes();
    // Brevo never got this one.
    world.sync_killed(Hold::Request, "POST", "/v3/contacts/import", 1);
    world.a_while_passes();
    world.sync();
    world.assert_ends_like(&UNDISTURBED.first);
}

fn killed_among_single_updates() {
    let mut world = World::new(CONTACTS);
    world.sync_killed(Hold::Answer, "PUT", "/v3/contacts/{}", 5);
    // Nobody knows yet which of them landed, or still will. The others need not wait for that.
    world.sync_leaves_some_pending();
    assert_eq!(world.brevo.contact_count(), world.truth.distinct_emails);
    world.a_while_passes();
    assert_eq!(world.sync()["pending"], 0);
    world.assert_ends_like(&UNDISTURBED.first);
}

fn killed_among_single_creations() {
    let mut world = World::new(CONTACTS);
    world.sync();
    edit(&world);
    world.truth.distinct_emails += NEWCOMERS;
    world.sync_killed(Hold::Answer, "POST", "/v3/contacts", 4);
    let there = world.brevo.contact_count();
    assert!(there < world.truth.distinct_emails, "in the middle of it");
    world.sync_leaves_some_pending();
    world.a_while_passes();
    assert_eq!(world.sync()["pending"], 0);
    world.assert_ends_like(&UNDISTURBED.edited);
}

/// At once, because they spend most of their time waiting for Brevo's limits and imports.
#[test]
fn killed_anywhere_it_ends_where_an_undisturbed_run_ends() {
    let scenarios: [(&str, fn()); 5] = [
        ("undisturbed", || _ = LazyLock::force(&UNDISTURBED)),
        ("killed while it reads and while imports run", killed_while_it_reads_and_while_imports_run),
        ("killed before an import is answered", killed_before_an_import_is_answered),
        ("killed among single updates", killed_among_single_updates),
        ("killed among single creations", killed_among_single_creations),
    ];
    let start = |(name, scenario): (&str, fn())| {
        (name.to_owned(), std::thread::Builder::new().name(name.to_owned()).spawn(scenario).unwrap())
    };
    let started = scenarios.map(start);
    let failed: Vec<String> =
        started.into_iter().filter_map(|(name, thread)| thread.join().err().map(|_| name)).collect();
    assert!(failed.is_empty(), "{failed:?}: see above");
}

fn imports(world: &World) -> usize {
    let counts = world.brevo.log().counts();
    counts.get(&("POST".to_owned(), "/contacts/import".to_owned())).map_or(0, |count| count.all)
}

// ------------------------------------------------------------------------------------------------------ the daemon --

impl World {
    /// A daemon, and the address at which it takes webhooks.
    fn run(&self) -> (Process, String) {
        let process = self.start(&["run"]);
        let mut address = None;
        eventually(|| {
            address = self.said("stderr").split("address=").nth(1).and_then(|rest| {
                let (address, more) = rest.split_once(char::is_whitespace)?;
                (!more.is_empty() || rest.ends_with('\n')).then(|| address.to_owned())
            });
            address.is_some()
        });
        let address = address.unwrap_or_else(|| panic!("it never listened: {}", self.said("stderr")));
        (process, format!("http://{address}/webhooks/intercom"))
    }

    /// Posts every notification that waits; each one must be acknowledged.
    fn post_all(&self, url: &str) -> usize {
        let webhooks = self.intercom.take_webhooks();
        let deliverer =
            Deliverer::to_url(url, DeliveryRules::intercom(), tokio_util::sync::CancellationToken::new()).unwrap();
        self.runtime.block_on(async {
            for webhook in &webhooks {
                assert_eq!(deliverer.attempt(webhook).await, Some(200), "{}", webhook.topic);
            }
        });
        webhooks.len()
    }

    /// Each gets this first name; every third opts out.
    fn change(&self, people: &[(String, String)], first_name: &str) {
        for (place, (id, _)) in people.iter().enumerate() {
            self.intercom.edit_contact(id, &json!({"name": format!("{first_name} Changed")})).unwrap();
            if place % 3 == 0 {
                self.intercom.unsubscribe(id).unwrap();
            }
        }
    }

    /// Whose change is in Brevo.
    fn arrived(&self, people: &[(String, String)], first_name: &str) -> usize {
        let there = |(place, (_, email)): (usize, &(String, String))| {
            self.brevo.contact_by_email(email).is_some_and(|contact| {
                contact.attributes.get("FIRSTNAME") == Some(&json!(first_name))
                    && (place % 3 != 0 || contact.email_blacklisted)
            })
        };
        people.iter().enumerate().filter(|person| there(*person)).count()
    }
}

#[test]
fn a_daemon_that_is_killed_after_the_last_webhook_loses_none() {
    let mut world = World::new(50);
    world.sync();
    world.intercom.webhooks_on(true);
    let people = people(&world, 30);
    assert_eq!(people.len(), 30);

    // Nothing is done about them yet: the daemon still waits for what it asks Intercom first.
    world.gate.arm(Hold::Request, "GET", "/me", 1);
    let (mut daemon, url) = world.run();
    world.change(&people, "Once");
    assert!(world.post_all(&url) >= people.len());
    daemon.kill();
    world.gate.open();
    assert_eq!(world.arrived(&people, "Once"), 0);
    let (mut daemon, _) = world.run();
    let all = eventually(|| world.arrived(&people, "Once") == people.len());
    assert!(all, "{} of {}: {}", world.arrived(&people, "Once"), people.len(), world.said("stderr"));
    daemon.kill();
    world.nobody_is_doubled_or_comes_back();

    // Some are on their way to Brevo, and are not answered before the kill.
    world.gate.arm(Hold::Answer, "PUT", "/v3/contacts/{}", 3);
    let (mut daemon, url) = world.run();
    world.change(&people, "Twice");
    world.post_all(&url);
    assert!(eventually(|| world.gate.held() > 0), "{}", world.said("stderr"));
    daemon.kill();
    world.gate.open();
    // Those wait until they cannot land any more; the others do not wait for them.
    world.sync();
    world.a_while_passes();
    assert_eq!(world.sync()["pending"], 0);
    assert_eq!(world.arrived(&people, "Twice"), people.len());
    let before = world.writes();
    world.sync();
    assert_eq!(world.writes(), before);
}
