//! Bugs that are put in on purpose: what they are (`mutants.yaml`), and how one is put into a source.

use serde::Deserialize;
use std::path::{Path, PathBuf};

/// One bug.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mutant {
    pub name: String,
    /// What it breaks, in words.
    pub breaks: String,
    /// In which worlds, if not in the default ones: `firms`, say.
    #[serde(default)]
    pub worlds: Option<String>,
    /// The test that fails with it, as `cargo test` names it, where the simulation has not found it.
    #[serde(default)]
    pub test: Option<String>,
    pub edits: Vec<MutantEdit>,
}

/// One place of it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MutantEdit {
    pub file: PathBuf,
    pub find: String,
    pub put: String,
}

/// All of them.
pub fn all() -> Vec<Mutant> {
    serde_yaml::from_str(include_str!("mutants.yaml")).unwrap()
}

impl Mutant {
    /// Puts it into the sources below `root`.
    pub fn apply(&self, root: &Path) -> Result<(), String> {
        for edit in &self.edits {
            let path = root.join(&edit.file);
            let source = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            let changed = edit.apply(&source).map_err(|why| format!("{}: {why}", self.name))?;
            std::fs::write(&path, changed).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        Ok(())
    }
}

impl MutantEdit {
    /// The source with it.
    fn apply(&self, source: &str) -> Result<String, String> {
        let file = self.file.display();
        match places(source, &self.find)[..] {
            [(from, to)] => Ok(format!("{}{}{}", &source[..from], self.put.trim_end(), &source[to..])),
            [] => Err(format!("{file} does not say {:?} any more", self.find)),
            _ => Err(format!("{file} says {:?} more than once", self.find)),
        }
    }
}

/// Where `source` says it, whatever white space is between the words: the formatter may break lines otherwise.
fn places(source: &str, find: &str) -> Vec<(usize, usize)> {
    let words: Vec<&str> = find.split_whitespace().collect();
    let Some(first) = words.first() else { return Vec::new() };
    let starts = source.match_indices(first).map(|(at, _)| at);
    starts.filter_map(|from| Some((from, end(source, from, &words)?))).collect()
}

fn end(source: &str, from: usize, words: &[&str]) -> Option<usize> {
    let mut at = from;
    for (nth, word) in words.iter().enumerate() {
        if nth > 0 {
            let rest = source[at..].trim_start();
            let next = source.len() - rest.len();
            if next == at {
                return None;
            }
            at = next;
        }
        at += source[at..].strip_prefix(word).map(|_| word.len())?;
    }
    Some(at)
}
