//! The deterministic simulation, a fixed set of seeds of it. `cargo run --example simulate` runs on.

#[path = "sim.rs"]
mod sim;

use sim::{Plan, play};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// A world is made of small things that live shortly: the system's allocator takes a fifth of the time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Seeds that once found something.
const KEPT: &str = include_str!("seeds.txt");

fn run(seeds: impl Iterator<Item = u64>, draw: fn(u64) -> Plan) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for seed in seeds {
        let outcome = play(&draw(seed), false);
        assert!(
            outcome.violations.is_empty(),
            "seed {seed}:\n{}\nits story: cargo run --example simulate -- --seed {seed}",
            outcome.violations.join("\n")
        );
        for (what, count) in outcome.counts {
            *counts.entry(what).or_default() += count;
        }
    }
    counts
}

#[test]
fn no_seed_breaks_a_promise_and_all_that_should_comes_up() {
    // Two threads, so that two cores share the seeds.
    let mut counts = std::thread::scope(|scope| {
        // Wide ones and crossing ones.
        let wide = scope.spawn(|| run(0..36, Plan::wide));
        // And one in which both sides have values at the first link: that is seldom drawn.
        let mut counts = run((0..49).chain([70]), Plan::draw);
        for (what, count) in wide.join().unwrap() {
            *counts.entry(what).or_default() += count;
        }
        counts
    });
    counts.retain(|_, count| *count > 0);
    assert_eq!(sim::coverage::missing(&counts, false), Vec::<String>::new(), "of {counts:#?}");
}

#[test]
fn companies_are_kept_in_step_whatever_people_do_on_both_sides() {
    let counts = run([0, 1, 2, 4].into_iter(), Plan::firms);
    for what in ["a company made in Brevo", "a company's field agrees", "a member is linked"] {
        assert!(counts.contains_key(&format!("outcome: {what}")), "{what}, of {counts:#?}");
    }
}

#[test]
fn every_crash_point_of_the_engine_is_drawn() {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src/engine")];
    let mut named = BTreeSet::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let source = std::fs::read_to_string(path).unwrap();
            let points = source.split("crash.reach(\"").skip(1);
            named.extend(points.filter_map(|rest| Some(rest.split_once('"')?.0.to_owned())));
        }
    }
    let all = sim::world::CRASH_POINTS.iter().chain(&sim::companies::FIRM_CRASH_POINTS);
    let drawn: BTreeSet<String> = all.map(|point| (*point).to_owned()).collect();
    assert_eq!(named, drawn);
}

/// So many of those that were found last are always played, the others where there is more time.
const LATEST: usize = 20;

type Draw = fn(u64) -> Plan;

/// A seed that once found something, as a plan.
fn plan_of(line: &str) -> Option<Plan> {
    let word = line.split_whitespace().next().filter(|word| *word != "#")?;
    let draws: [(&str, Draw); 8] = [
        ("w", Plan::wide),
        ("c", Plan::crossing),
        ("b", Plan::bounded),
        ("d", Plan::draw),
        ("f", Plan::firms),
        ("x", Plan::clashing),
        ("u", Plan::unswept),
        ("", Plan::narrow),
    ];
    let (kind, draw) = draws.iter().find(|(kind, _)| word.starts_with(kind))?;
    Some(draw(word[kind.len()..].parse().ok()?))
}

/// Plays seeds that once found something, on two threads, so that two cores share them.
fn play_kept(kept: &[&str]) {
    std::thread::scope(|scope| {
        for half in [0, 1] {
            scope.spawn(move || {
                for line in kept.iter().skip(half).step_by(2) {
                    let outcome = plan_of(line).map(|plan| play(&plan, false));
                    let violations = outcome.map(|outcome| outcome.violations);
                    assert_eq!(violations, Some(Vec::new()), "{line}");
                }
            });
        }
    });
}

fn kept() -> Vec<&'static str> {
    KEPT.lines().filter(|line| !line.starts_with('#')).collect()
}

#[test]
fn what_failed_lately_holds() {
    let kept = kept();
    play_kept(&kept[kept.len() - LATEST..]);
}

#[test]
#[ignore = "more than a minute: CI plays it, with `cargo test --test simulation -- --ignored`"]
fn what_once_failed_holds() {
    let kept = kept();
    play_kept(&kept[..kept.len() - LATEST]);
}

#[test]
fn the_same_seed_is_the_same_run_byte_for_byte() {
    for seed in [3, 4, 5] {
        let (first, second) = (play(&Plan::draw(seed), true), play(&Plan::draw(seed), true));
        for (first, second) in first.lines.iter().zip(&second.lines) {
            assert_eq!(first, second, "seed {seed}");
        }
        assert_eq!(first.hash, second.hash, "seed {seed}");
    }
}

/// Whether a source below the folder says it.
fn says(folder: &Path, what: &str) -> bool {
    let Ok(entries) = std::fs::read_dir(folder) else { return false };
    entries.flatten().map(|entry| entry.path()).any(|path| {
        if path.is_dir() {
            says(&path, what)
        } else {
            std::fs::read_to_string(path).is_ok_and(|text| text.contains(what))
        }
    })
}

#[test]
fn every_bug_put_in_on_purpose_still_fits_the_source() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir().unwrap();
    let all = sim::mutants::all();
    for mutant in &all {
        for edit in &mutant.edits {
            let copy = folder.path().join(&edit.file);
            std::fs::create_dir_all(copy.parent().unwrap()).unwrap();
            std::fs::copy(root.join(&edit.file), copy).unwrap();
        }
        assert_eq!(mutant.apply(folder.path()), Ok(()));
    }
    let names: BTreeSet<&str> = all.iter().map(|mutant| mutant.name.as_str()).collect();
    assert_eq!(names.len(), all.len(), "each has a name of its own");
    for test in all.iter().filter_map(|mutant| mutant.test.as_deref()) {
        let function = format!("fn {}()", test.rsplit("::").next().unwrap_or(test));
        let is_there = ["src", "tests"].iter().any(|folder| says(&root.join(folder), &function));
        assert!(is_there, "{test} is a test of today");
    }
}
