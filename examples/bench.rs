//! The whole, measured: one command makes the table in `docs/benchmarks.md`.
//!
//! ```sh
//! cargo run --release --example bench
//! ```
//!
//! Both sandboxes run in a process of their own and are asked over loopback; this process is the daemon, so that its
//! time and memory are its own. Requests are counted by the sandboxes, and the fewest possible is worked out from their
//! ground truth, never from what the daemon says.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that prints a table")]

use anyhow::{Context as _, Result, ensure};
use linkspan::brevo::{BrevoClient, BrevoOptions as BrevoClientOptions};
use linkspan::config::Config;
use linkspan::doors::{Doors, SystemClock};
use linkspan::engine::{Connection, Progress, Settings, Silent, Stage, SyncOptions};
use linkspan::http::Reqwest;
use linkspan::intercom::{IntercomClient, IntercomOptions};
use linkspan::sandbox::brevo::{BrevoOptions, BrevoSandbox, ContactSeed};
use linkspan::sandbox::intercom::{IntercomOptions as DoubleOptions, IntercomSandbox, WorldOptions};
use linkspan::sandbox::serve;
use linkspan::store::{Calling, Store};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

const CONFIG: &str = "
connectors:
  intercom:
    sync: {contacts: true, conversations: false, companies: false, events: false, tags: false}
    lists: {all_users: Users, leads: Leads}
phone:
  default_region: US
";

/// The world: b = n/10 all among the n; 4 % opted out, half with a `false`, 1 % sharing a phone, two lists.
const WORLD: WorldOptions = WorldOptions {
    leads: 0.25,
    without_email: 0.0,
    shared_email: 0.0,
    phones: 0.5,
    shared_phone: 0.01,
    malformed_phone: 0.0,
    unsubscribed: 0.04,
    bounced: 0.0,
    spam: 0.0,
    odd_names: 0.03,
    single_names: 0.05,
    particles: 0.02,
    many_tags: 0.0,
    in_company: 0.0,
    conversations: 0.0,
    archived: 0.0,
    days: 730,
};

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some("--serve") => {
            let contacts: usize = arguments.next().context("how many contacts?")?.parse()?;
            runtime()?.block_on(serve_world(contacts))
        }
        Some(what @ ("--measure" | "--speed")) => {
            let contacts: usize = arguments.next().context("how many contacts?")?.parse()?;
            let measured = runtime()?.block_on(measure(contacts, what == "--measure"))?;
            println!("{}", serde_json::to_string(&measured)?);
            Ok(())
        }
        Some(other) => anyhow::bail!("what is {other}?"),
        None => table(),
    }
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}

/// What the table shows: in words, by its key, and what it is to be.
const ROWS: [(&str, &str, &str); 13] = [
    ("requests of a first full sync", "requests", ""),
    ("… the fewest possible", "fewest", ""),
    ("… ratio", "ratio", "≤ 1.2 at 10,000"),
    ("… records that must go alone", "alone", ""),
    ("contacts per second, end to end, median", "contacts_per_second", "≥ 5,000"),
    ("… of so many runs", "runs", ""),
    ("… slowest", "slowest", ""),
    ("… fastest", "fastest", ""),
    ("… CPU seconds of the daemon", "cpu_seconds", ""),
    ("peak memory of the daemon, MiB", "peak_mib", "≤ 100 at 100,000"),
    ("state on disk, bytes per contact", "bytes_per_contact", ""),
    ("requests of a cycle without changes", "quiet_requests", ""),
    ("… of these writes", "quiet_writes", "0"),
];

/// How often a size is measured: a run of two seconds says more about the machine's mood than one of fifteen.
const SIZES: [(usize, usize); 2] = [(10_000, 5), (100_000, 1)];

/// Each run in a process of its own, so that peak memory is that size's.
fn table() -> Result<()> {
    let mut rows = Vec::new();
    for (contacts, runs) in SIZES {
        let mut row = run("--measure", contacts)?;
        let mut speeds = vec![speed(&row)];
        for _ in 1..runs {
            speeds.push(speed(&run("--speed", contacts)?));
        }
        speeds.sort_by(f64::total_cmp);
        row.insert("contacts_per_second", json!(speeds[speeds.len() / 2]));
        row.insert("slowest", json!(speeds[0]));
        row.insert("fastest", json!(speeds[speeds.len() - 1]));
        row.insert("runs", json!(runs));
        eprintln!("{contacts}: {}", serde_json::to_string(&row)?);
        rows.push(row);
    }
    let sizes = SIZES.map(|(contacts, _)| contacts);
    println!("| | {} | target |", sizes.map(|size| format!("{size} contacts")).join(" | "));
    println!("|---|{}---|", "---|".repeat(sizes.len()));
    for (name, key, target) in ROWS {
        let cells: Vec<String> =
            rows.iter().map(|row| row.get(key).map_or("–".to_owned(), ToString::to_string)).collect();
        println!("| {name} | {} | {target} |", cells.join(" | "));
    }
    Ok(())
}

/// A run of this program with these arguments, and what it has measured.
fn run(what: &str, contacts: usize) -> Result<BTreeMap<&'static str, Value>> {
    let output = Command::new(std::env::current_exe()?).arg(what).arg(contacts.to_string()).output()?;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{told}");
    eprint!("{told}");
    let row: BTreeMap<String, Value> = serde_json::from_slice(&output.stdout)?;
    Ok(ROWS.iter().filter_map(|(_, key, _)| Some((*key, row.get(*key)?.clone()))).collect())
}

fn speed(row: &BTreeMap<&'static str, Value>) -> f64 {
    row.get("contacts_per_second").and_then(Value::as_f64).unwrap_or_default()
}

/// The other process: both sandboxes, and a line of JSON for each line on standard input.
async fn serve_world(contacts: usize) -> Result<()> {
    let clock = Arc::new(SystemClock);
    let intercom = IntercomSandbox::new(DoubleOptions { clock: clock.clone(), ..DoubleOptions::default() });
    intercom.webhooks_on(false);
    intercom.world_with(1, contacts, &WORLD);
    intercom.knobs(|knobs| knobs.unlimited = true);
    let brevo =
        BrevoSandbox::new(BrevoOptions { import_delay: Duration::from_millis(200), ..BrevoOptions::new(1, clock) });
    brevo.knobs(|knobs| knobs.common.unlimited = true);
    brevo.create_list("Users");
    brevo.create_list("Leads");
    for (name, kind) in [
        ("ROLE", "text"),
        ("SIGNUP_DATE", "date"),
        ("LAST_ACTIVE", "date"),
        ("COMPANY_NAME", "text"),
        ("PLAN_TIER", "text"),
        ("FEATURE_USAGE", "float"),
        ("IS_ADMIN", "boolean"),
    ] {
        brevo.create_attribute(name, kind);
    }
    let alone = fill_brevo(&intercom, &brevo);
    intercom.log().keep_bodies(false);
    brevo.log().keep_bodies(false);
    let (support, marketing) = (serve(intercom.router(), 0).await?, serve(brevo.router(), 0).await?);
    println!(
        "{}",
        json!({"intercom": support.base_url(), "brevo": format!("{}/v3", marketing.base_url()), "alone": alone,
            "token": intercom.access_token(), "key": brevo.api_key()})
    );
    let mut before = (0, 0);
    loop {
        let line = tokio::task::spawn_blocking(|| std::io::stdin().lock().lines().next()).await?;
        let Some(Ok(_)) = line else { return Ok(()) };
        let requests = intercom.log().len() + brevo.log().len();
        let writes = intercom.log().write_count() + brevo.log().write_count();
        let brevo_contacts = brevo.contact_count();
        let counted = intercom.log().counts().into_iter().chain(brevo.log().counts());
        let by: BTreeMap<String, usize> =
            counted.map(|((method, template), count)| (format!("{method} {template}"), count.all)).collect();
        println!(
            "{}",
            json!({"requests": requests - before.0, "writes": writes - before.1, "brevo_contacts": brevo_contacts,
                "by": by})
        );
        before = (requests, writes);
    }
}

/// A tenth of the people is in Brevo already. Returns how many of them the vendors' rules force to go alone: an opt-out
/// must be written for them (imports have no flag per row), or a phone.
fn fill_brevo(intercom: &IntercomSandbox, brevo: &BrevoSandbox) -> usize {
    let mut alone = 0;
    let mut phones = BTreeSet::new();
    for (index, id) in intercom.contact_ids().into_iter().enumerate() {
        let Some(contact) = intercom.contact(&id) else { continue };
        let typed = contact["phone"].as_str().unwrap_or_default();
        let digits: String = typed.chars().filter(char::is_ascii_digit).collect();
        // The first who has a number gets it, on both sides.
        let phone = Some(digits).filter(|digits| !digits.is_empty() && phones.insert(digits.clone()));
        if index % 10 != 0 {
            continue;
        }
        let email = contact["email"].as_str().unwrap_or_default().to_owned();
        brevo.create_contact(ContactSeed {
            email: Some(email.clone()),
            phone: phone.clone(),
            ..ContactSeed::default()
        });
        let there = brevo.contact_by_email(&email).and_then(|there| there.attributes.get("SMS").cloned());
        // A phone that Brevo did not take as it was typed changes with the first sync: that goes alone, too.
        let phone_changes = phone.is_some() && there != phone.map(Value::from);
        alone += usize::from(phone_changes || contact["unsubscribed_from_emails"] == json!(true));
    }
    brevo.settle();
    alone
}

struct Other {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Other {
    fn start(contacts: usize) -> Result<(Self, Value)> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("--serve")
            .arg(contacts.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdin = child.stdin.take().context("no standard input")?;
        let stdout = BufReader::new(child.stdout.take().context("no standard output")?);
        let mut other = Self { child, stdin, stdout };
        let ready = other.line()?;
        Ok((other, ready))
    }

    fn line(&mut self) -> Result<Value> {
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        Ok(serde_json::from_str(&line)?)
    }

    fn count(&mut self) -> Result<Value> {
        writeln!(self.stdin)?;
        self.stdin.flush()?;
        self.line()
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait().map(drop)) {
            eprintln!("the sandbox process: {error}");
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
async fn measure(contacts: usize, quiet: bool) -> Result<BTreeMap<&'static str, Value>> {
    let (mut other, ready) = Other::start(contacts)?;
    let text = |key: &str| ready[key].as_str().unwrap_or_default().to_owned();
    let doors = Doors::system();
    let transport = Arc::new(Reqwest::new(Duration::from_secs(30))?);
    let options = IntercomOptions {
        base_url: text("intercom").parse()?,
        access_token: text("token").into(),
        api_version: "2.11".to_owned(),
        share: 1.0,
        plan: None,
    };
    let support = IntercomClient::new(options, transport.clone(), doors.clone());
    let mut options = BrevoClientOptions::new(text("key").into())?;
    options.base_url = text("brevo").parse()?;
    options.paced = false;
    options.share = 1.0;
    let marketing = BrevoClient::new(options, transport, doors.clone());
    let folder = std::env::temp_dir().join(format!("linkspan-bench-{}", std::process::id()));
    let path = folder.join("state.db");
    let store = Store::open(&path, Calling::Blocking)?;
    let config = Config::parse(CONFIG, Path::new("bench.yaml"), &BTreeMap::new())
        .map_err(|errors| anyhow::anyhow!(errors.render(false)))?;
    let settings = Settings::from_config(&config);
    let connection = Connection::new(Arc::new(support), Arc::new(marketing), store, doors, settings);

    let began = Instant::now();
    let phases = Phases::default();
    let summary = connection.sync(&SyncOptions::default(), &phases).await?;
    let took = began.elapsed();
    eprintln!("{contacts}: {}", phases.told());
    ensure!(summary.outcome() == "ok" && summary.pending == 0, "{summary:#?}");
    let cpu = cpu_seconds()?;
    let first = other.count()?;
    eprintln!("{contacts}: {:.2} s, {cpu:.2} s of CPU, {:.0} MiB, {}", took.as_secs_f64(), peak_mib()?, first["by"]);
    ensure!(first["brevo_contacts"] == json!(contacts), "not everybody arrived: {first}");
    let quiet = if quiet {
        // An incremental read goes two minutes back: until then it would show what the first sync has just written.
        tokio::time::sleep(Duration::from_secs(130)).await;
        connection.sync(&SyncOptions::default(), &Silent).await?;
        other.count()?;
        connection.sync(&SyncOptions::default(), &Silent).await?;
        other.count()?
    } else {
        Value::Null
    };

    let n = contacts as u64;
    let alone = ready["alone"].as_u64().unwrap_or(0);
    // Rows of about 300 bytes; two sets of lists, each in creations and updates alike.
    let imports = 2 * (n * 150).div_ceil(8_000_000);
    let fewest = n.div_ceil(150) + (n / 10).div_ceil(1_000) + imports + n.div_ceil(1_000) + alone;
    let requests = first["requests"].as_u64().unwrap_or(0);
    // Closed, it is one file: what was last committed is in another one until then.
    drop(connection);
    let bytes = std::fs::metadata(&path)?.len();
    std::fs::remove_dir_all(&folder)?;
    let round = |number: f64| (number * 100.0).round() / 100.0;
    Ok(BTreeMap::from([
        ("requests", json!(requests)),
        ("fewest", json!(fewest)),
        ("alone", json!(alone)),
        ("ratio", json!(round(requests as f64 / fewest as f64))),
        ("seconds", json!(round(took.as_secs_f64()))),
        ("contacts_per_second", json!((contacts as f64 / took.as_secs_f64()).round())),
        ("cpu_seconds", json!(round(cpu))),
        ("peak_mib", json!(round(peak_mib()?))),
        ("bytes_per_contact", json!(bytes / n)),
        ("quiet_requests", quiet["requests"].clone()),
        ("quiet_writes", quiet["writes"].clone()),
    ]))
}

/// How long a run was busy with what.
#[derive(Default)]
struct Phases(Mutex<Timed>);

#[derive(Default)]
struct Timed {
    current: Option<(Stage, Instant)>,
    times: BTreeMap<Stage, Duration>,
}

impl Progress for Phases {
    #[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
    fn stage(&self, stage: Stage, _done: u64, _total: Option<u64>) {
        let mut timed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if let Some((stage, since)) = timed.current.replace((stage, now)) {
            *timed.times.entry(stage).or_default() += now - since;
        }
    }
}

impl Phases {
    fn told(&self) -> String {
        let timed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let told: Vec<String> =
            timed.times.iter().map(|(stage, time)| format!("{stage:?} {:.2} s", time.as_secs_f64())).collect();
        told.join(", ")
    }
}

/// User and system time of this process.
fn cpu_seconds() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
    Ok((ticks(11) + ticks(12)) / 100.0)
}

/// The most memory that this process has held.
fn peak_mib() -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).context("no VmHWM")?;
    let kib: f64 = line.split_whitespace().nth(1).context("no number")?.parse()?;
    Ok(kib / 1024.0)
}
