//! Puts bugs in on purpose and looks whether the simulation finds them:
//! `cargo run --release --example mutants -- [--seeds N] [--from N] [--minutes M] [--dev] [name …]`.
//!
//! To be run from the folder of the repository. Each bug of `tests/simulation/mutants.yaml` goes into a copy of the sources in `target/mutants/tree`, which is built in
//! `target/mutants` (or `CARGO_TARGET_DIR`) and simulated from seed 0 until a promise is broken, or, where the table names
//! a test, judged by that. Exits 1 if one is not found.
#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    missing_docs,
    reason = "a program for developers, with a wall clock of its own"
)]

#[path = "../tests/simulation/mutants.rs"]
mod mutants;

use mutants::Mutant;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

/// What a build of the simulation is made of.
const SOURCES: [&str; 7] = ["Cargo.toml", "Cargo.lock", "src", "tests", "examples", "mappings", "config.example.yaml"];

struct Options {
    seeds: u64,
    from: u64,
    minutes: u64,
    /// Built in less time, slower in running.
    dev: bool,
    names: Vec<String>,
}

fn options() -> Result<Options, String> {
    let mut options = Options { seeds: 2_000, from: 0, minutes: 10, dev: false, names: Vec::new() };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || words.next().and_then(|text| text.parse().ok()).ok_or(format!("{word} needs a number"));
        match word.as_str() {
            "--seeds" => options.seeds = number()?,
            "--from" => options.from = number()?,
            "--minutes" => options.minutes = number()?,
            "--dev" => options.dev = true,
            other if other.starts_with('-') => {
                return Err(format!("{other}? --seeds N, --from N, --minutes M, --dev, names"));
            }
            name => options.names.push(name.to_owned()),
        }
    }
    Ok(options)
}

/// Copies what differs, so that only what was changed is built again.
fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    if from.is_dir() {
        std::fs::create_dir_all(to)?;
        for entry in std::fs::read_dir(from)? {
            let entry = entry?;
            copy(&entry.path(), &to.join(entry.file_name()))?;
        }
        return Ok(());
    }
    let new = std::fs::read(from)?;
    if std::fs::read(to).ok().as_ref() == Some(&new) { Ok(()) } else { std::fs::write(to, new) }
}

enum Found {
    /// At this seed, with these words.
    At(u64, String),
    /// By this test.
    By(String),
    Nowhere(String),
    DoesNotBuild(String),
}

fn try_one(mutant: &Mutant, options: &Options, root: &Path, target: &Path) -> Result<Found, String> {
    let tree = &root.join("target/mutants/tree");
    std::fs::create_dir_all(tree).map_err(|error| error.to_string())?;
    for source in SOURCES {
        let from = root.join(source);
        if from.exists() {
            copy(&from, &tree.join(source)).map_err(|error| format!("{source}: {error}"))?;
        }
    }
    mutant.apply(tree)?;
    let cargo = |arguments: &[&str]| {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.current_dir(tree).env("CARGO_TARGET_DIR", target).env("CARGO_PROFILE_RELEASE_INCREMENTAL", "true");
        command.args(arguments).output().map_err(|error| error.to_string())
    };
    if let Some(test) = &mutant.test {
        let run = cargo(&["test", "--lib", "--test", "engine", "--test", "webhooks", test, "--", "--exact"])?;
        let told = String::from_utf8_lossy(&run.stdout);
        let played = |how: &str| told.contains(&format!("test {test} ... {how}"));
        return Ok(if played("FAILED") {
            Found::By(test.clone())
        } else if played("ok") {
            Found::Nowhere(format!("{test} does not mind"))
        } else {
            Found::DoesNotBuild(String::from_utf8_lossy(&run.stderr).into_owned())
        });
    }
    let built = cargo(&[
        "build",
        "--quiet",
        "--profile",
        if options.dev { "dev" } else { "release" },
        "--example",
        "simulate",
    ])?;
    if !built.status.success() {
        return Ok(Found::DoesNotBuild(String::from_utf8_lossy(&built.stderr).into_owned()));
    }
    let (seeds, from, minutes) = (options.seeds.to_string(), options.from.to_string(), options.minutes.to_string());
    let run =
        Command::new(target.join(if options.dev { "debug/examples/simulate" } else { "release/examples/simulate" }))
            .args(mutant.worlds.as_ref().map(|worlds| format!("--{worlds}")))
            .args(["--no-shrink", "--seeds", &seeds, "--from", &from, "--minutes", &minutes])
            .output()
            .map_err(|error| error.to_string())?;
    let told = String::from_utf8_lossy(&run.stdout);
    let seed = told.lines().find_map(|line| {
        let (seed, words) = line.strip_prefix("seed ")?.split_once([':', ' '])?;
        Some(Found::At(seed.parse().ok()?, words.trim().to_owned()))
    });
    let last = told.lines().last().unwrap_or_default().to_owned();
    Ok(seed.unwrap_or(Found::Nowhere(last)))
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(why) => {
            println!("{why}");
            return ExitCode::from(2);
        }
    };
    let Ok(root) = std::env::current_dir() else { return ExitCode::from(2) };
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target/mutants"), PathBuf::from);
    let mut left = 0;
    println!("| bug | what it breaks | found at seed | seconds | by |\n|---|---|---|---|---|");
    for mutant in mutants::all().iter().filter(|m| options.names.is_empty() || options.names.contains(&m.name)) {
        let began = Instant::now();
        let found = try_one(mutant, &options, &root, &target);
        let (at, by) = match found {
            Ok(Found::At(seed, words)) => (seed.to_string(), words.chars().take(110).collect()),
            Ok(Found::By(test)) => ("a test".to_owned(), test),
            Ok(Found::Nowhere(last)) => ("**not found**".to_owned(), last),
            Ok(Found::DoesNotBuild(why)) => ("**does not build**".to_owned(), why.chars().take(2_000).collect()),
            Err(why) => ("**not tried**".to_owned(), why),
        };
        left += u32::from(at.starts_with('*'));
        let seconds = began.elapsed().as_secs();
        println!("| `{}` | {} | {at} | {seconds} | {} |", mutant.name, mutant.breaks, by.replace('|', "/"));
        std::io::stdout().flush().ok();
    }
    if left == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
