//! The deterministic simulation, a fixed set of seeds of it. `cargo run --example simulate` runs on.

#[path = "sim.rs"]
mod sim;

use sim::{Plan, play};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

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
        let wide = scope.spawn(|| run(0..60, Plan::wide));
        let mut counts = run(0..50, Plan::draw);
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

#[test]
fn what_once_failed_holds() {
    // Two threads, so that two cores share the seeds.
    std::thread::scope(|scope| {
        scope.spawn(|| kept(0));
        kept(1);
    });
}

/// Plays every second of the seeds that once found something.
fn kept(half: usize) {
    let seeds = |kind: &'static str| {
        let words = KEPT.lines().skip(half).step_by(2).filter_map(|line| line.split_whitespace().next());
        words.filter_map(move |word| word.strip_prefix(kind)?.parse().ok())
    };
    run(seeds(""), Plan::narrow);
    run(seeds("w"), Plan::wide);
    run(seeds("c"), Plan::crossing);
    run(seeds("b"), Plan::bounded);
    run(seeds("d"), Plan::draw);
    run(seeds("f"), Plan::firms);
    run(seeds("x"), Plan::clashing);
    run(seeds("u"), Plan::unswept);
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
}
