//! The deterministic simulation, a fixed set of seeds of it. `cargo run --example simulate` runs on.

#[path = "sim.rs"]
mod sim;

use sim::{Plan, play};
use std::path::Path;

/// Seeds that once found something.
const KEPT: &str = include_str!("seeds.txt");

fn run(seeds: impl Iterator<Item = u64>, draw: fn(u64) -> Plan) {
    for seed in seeds {
        let outcome = play(&draw(seed), false);
        assert!(
            outcome.violations.is_empty(),
            "seed {seed}:\n{}\nits story: cargo run --example simulate -- --seed {seed}",
            outcome.violations.join("\n")
        );
    }
}

// Two tests, so that two cores share the seeds.
#[test]
fn no_even_seed_breaks_a_promise() {
    run((0..60).step_by(2), Plan::draw);
}

#[test]
fn no_odd_seed_breaks_a_promise() {
    run((1..60).step_by(2), Plan::draw);
}

#[test]
fn what_once_failed_holds() {
    let seeds = |wide: bool| {
        let words = KEPT.lines().filter_map(|line| line.split_whitespace().next());
        words
            .filter(move |word| word.starts_with('w') == wide)
            .filter_map(|word| word.trim_start_matches('w').parse().ok())
    };
    run(seeds(false), Plan::narrow);
    run(seeds(true), Plan::draw);
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
    let names: std::collections::BTreeSet<&str> = all.iter().map(|mutant| mutant.name.as_str()).collect();
    assert_eq!(names.len(), all.len(), "each has a name of its own");
}
