//! Runs the simulation on and on: `cargo run --release --example simulate -- --seeds 10000 [--from N] [--minutes M]`.
//! `--seed S` plays one seed and tells its story. Exits 1 on a violation, with the seed's story, shrunk.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a program for developers, with a wall clock of its own"
)]

#[path = "../tests/simulation/sim.rs"]
mod sim;

use sim::{Plan, play, run::Outcome, shrink::shrink};
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// A world is made of small things that live shortly: the system's allocator takes a fifth of the time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

struct Options {
    seeds: u64,
    from: u64,
    minutes: Option<u64>,
    seed: Option<u64>,
    /// How many seeds are played side by side.
    threads: usize,
    /// Go on after a violation, and only count them.
    all: bool,
    shrink: bool,
    /// Tell of reads, too.
    reads: bool,
    /// A line per seed with its trace's hash, so that two builds can be compared.
    hashes: bool,
    /// Worlds as they were before they grew.
    narrow: bool,
    wide: bool,
    crossing: bool,
    bounded: bool,
    clashing: bool,
    unswept: bool,
    /// Worlds in which companies have objects in Brevo.
    firms: bool,
}

fn options() -> Result<Options, String> {
    let mut options = Options {
        seeds: 1_000,
        from: 0,
        minutes: None,
        threads: std::thread::available_parallelism().map_or(1, usize::from),
        seed: None,
        all: false,
        shrink: true,
        reads: false,
        hashes: false,
        narrow: false,
        wide: false,
        crossing: false,
        bounded: false,
        clashing: false,
        unswept: false,
        firms: false,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || words.next().and_then(|text| text.parse().ok()).ok_or(format!("{word} needs a number"));
        match word.as_str() {
            "--seeds" => options.seeds = number()?,
            "--from" => options.from = number()?,
            "--minutes" => options.minutes = Some(number()?),
            "--threads" => options.threads = usize::try_from(number()?.max(1)).unwrap_or(1),
            "--seed" => options.seed = Some(number()?),
            "--all" => options.all = true,
            "--reads" => options.reads = true,
            "--hashes" => options.hashes = true,
            "--narrow" => options.narrow = true,
            "--wide" => options.wide = true,
            "--crossing" => options.crossing = true,
            "--bounded" => options.bounded = true,
            "--firms" => options.firms = true,
            "--clashing" => options.clashing = true,
            "--unswept" => options.unswept = true,
            "--no-shrink" => options.shrink = false,
            other => {
                return Err(format!(
                    "{other}? --seeds N, --from N, --minutes M, --threads T, --seed S, --all, --no-shrink, --reads, --hashes, --firms, --bounded, --clashing, --unswept, --crossing, --wide, --narrow"
                ));
            }
        }
    }
    Ok(options)
}

/// Plays it and tells its story, with or without what was only read.
fn tell(plan: &Plan, reads: bool) -> bool {
    let outcome = play(plan, true);
    println!("{:?}\n{}\n{}", plan.setting, plan.config(&plan.rules), Plan::mapping(&plan.rules));
    let read = |line: &str| {
        let read = [" GET /", "POST /contacts/search", "POST /conversations/search", "POST /companies/list"];
        read.iter().any(|part| line.contains(part))
    };
    for line in outcome.lines.iter().filter(|line| reads || !read(line)) {
        println!("{line}");
    }
    println!("\nseed {}, hash {:016x}", plan.seed, outcome.hash);
    for violation in &outcome.violations {
        println!("VIOLATION {violation}");
    }
    outcome.violations.is_empty()
}

/// Plays seed after seed, as long as there are any and there is time.
fn play_on(
    options: &Options,
    draw: fn(u64) -> Plan,
    (next, began): (&AtomicU64, Instant),
    report: &SyncSender<(u64, Option<Outcome>)>,
) {
    let end = options.from.saturating_add(options.seeds);
    let late = || options.minutes.is_some_and(|minutes| began.elapsed() > Duration::from_secs(60 * minutes));
    while !late() {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        // Past the end, or somebody has found something.
        if !(options.from..end).contains(&seed) {
            return;
        }
        let outcome = std::panic::catch_unwind(|| play(&draw(seed), false)).ok();
        if report.send((seed, outcome)).is_err() {
            return;
        }
    }
}

/// So often a run that lasts says how far it is.
const PROGRESS: u64 = 500;

fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(why) => {
            println!("{why}");
            return ExitCode::from(2);
        }
    };
    let draw = match (options.narrow, options.wide) {
        (true, _) => Plan::narrow,
        (_, true) => Plan::wide,
        _ if options.crossing => Plan::crossing,
        _ if options.bounded => Plan::bounded,
        _ if options.clashing => Plan::clashing,
        _ if options.unswept => Plan::unswept,
        _ if options.firms => Plan::firms,
        _ => Plan::draw,
    };
    if let Some(seed) = options.seed {
        return if tell(&draw(seed), options.reads) { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let began = Instant::now();
    let next = AtomicU64::new(options.from);
    let (report, reports) = sync_channel(64);
    let (mut played, mut failed, mut hours) = (0_u64, Vec::new(), 0_i64);
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    let mut broken = None;
    // Each seed is played in one thread; seeds have nothing to do with each other.
    std::thread::scope(|scope| {
        for _ in 0..options.threads {
            let (options, next, report) = (&options, &next, report.clone());
            scope.spawn(move || play_on(options, draw, (next, began), &report));
        }
        drop(report);
        for (seed, played_out) in reports {
            let Some(outcome) = played_out else {
                println!("seed {seed} panicked");
                failed.push(seed);
                continue;
            };
            if options.hashes {
                println!("seed {seed} {:016x}", outcome.hash);
            }
            played += 1;
            if played % PROGRESS == 0 {
                let rate = played as f64 / began.elapsed().as_secs_f64();
                eprintln!("{played} seeds, {rate:.1} a second, {} failed", failed.len());
            }
            hours += outcome.virtual_seconds;
            for (what, count) in outcome.counts {
                *counts.entry(what).or_default() += count;
            }
            if let Some(first) = outcome.violations.first() {
                failed.push(seed);
                println!("seed {seed}: {}", outcome.violations.join("\n    "));
                if !options.all && broken.is_none() {
                    next.store(u64::MAX / 2, Ordering::Relaxed);
                    broken = Some((seed, first.clone()));
                }
            }
        }
    });
    if let Some((seed, first)) = broken.filter(|_| options.shrink) {
        println!("shrinking …");
        tell(&shrink(&draw(seed), &first, 300), options.reads);
    }
    failed.sort_unstable();
    let seconds = began.elapsed().as_secs_f64();
    println!("\n{:>9}  what", "times");
    for (what, count) in &counts {
        println!("{count:>9}  {what}");
    }
    println!(
        "\n{played} seeds in {seconds:.0} s: {:.1} a second; {} virtual hours; {} failed: {failed:?}",
        played as f64 / seconds,
        hours / 3_600,
        failed.len()
    );
    let missing = sim::coverage::missing(&counts, true);
    if played >= sim::coverage::MANY
        && !options.narrow
        && !options.wide
        && !options.crossing
        && !options.bounded
        && !options.clashing
        && !options.unswept
        && !options.firms
        && !missing.is_empty()
    {
        println!("never came up: {missing:#?}");
        return ExitCode::FAILURE;
    }
    let missing = sim::coverage::missing_of_firms(&counts);
    if played >= sim::coverage::MANY && options.firms && !missing.is_empty() {
        println!("never came up: {missing:#?}");
        return ExitCode::FAILURE;
    }
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
