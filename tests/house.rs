//! The rules of the house, read from the source itself: which room may use which, and what stays in its room.
//!
//! Rust has no word for "this module must not know that one" short of a crate for each, so this test reads the paths.
//! `docs/architecture.md` says why the arrows point the way they do.
#![expect(clippy::unwrap_used, reason = "a test may stop where a program may not")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Room → the rooms that it may use besides itself. `main.rs` and `lib.rs` may use all.
///
/// `cli → server → engine → {reconcile, store, intercom, brevo}` with steps skipped at will;
/// `{cli, server, engine} → config → mapping`; `{engine, reconcile} → mapping`; `{engine, intercom, brevo} → http`;
/// `cli → sandbox`; all → `model`; the shell and the sandbox → `doors`.
const ARROWS: &[(&str, &[&str])] = &[
    (
        "cli",
        &[
            "server",
            "engine",
            "config",
            "mapping",
            "reconcile",
            "store",
            "intercom",
            "brevo",
            "http",
            "sandbox",
            "doors",
            "model",
        ],
    ),
    ("server", &["engine", "config", "mapping", "reconcile", "store", "intercom", "brevo", "http", "doors", "model"]),
    ("engine", &["config", "mapping", "reconcile", "store", "intercom", "brevo", "http", "doors", "model"]),
    ("config", &["mapping", "model"]),
    ("reconcile", &["mapping", "model"]),
    ("mapping", &["model"]),
    ("store", &["doors", "model"]),
    ("intercom", &["http", "doors", "model"]),
    ("brevo", &["http", "doors", "model"]),
    ("http", &["doors", "model"]),
    ("sandbox", &["doors", "model"]),
    ("doors", &[]),
    ("model", &[]),
];

/// What unit tests of a room may use besides: something to run against. The sandbox's own tests may not, because a
/// test of the double that goes through our client would share the client's misreadings.
const UNIT_TESTS_MAY_USE: &[&str] = &["sandbox", "http", "doors"];

/// Same input, same output, and nothing else happens: that is what lets a property test or a person understand them.
const PURE: &[&str] = &["mapping", "reconcile", "model"];

/// Longer files are cut.
const LONGEST_FILE: usize = 900;

// ---------------------------------------------------------------------------------------------------- the rules ----

/// What loosens consent needs a proof, and one rule makes it.
#[test]
fn only_one_rule_lets_an_opt_in_travel() {
    let makes = |file: &&SourceFile| {
        let text = fs::read_to_string(&file.path).unwrap();
        text.contains("OptIn::prove(")
    };
    let files = source_files();
    let found: Vec<String> = files.iter().filter(makes).map(|file| file.path.display().to_string()).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].ends_with("src/reconcile/resubscribe.rs"), "{found:?}");
}

#[test]
fn every_arrow_between_rooms_is_allowed() {
    let mut wrong = Vec::new();
    for file in source_files() {
        for found in arrows(&file) {
            if !allowed(&file.room, &found.to, found.in_test) {
                wrong.push(format!(
                    "{}:{}: `{}` must not use `{}`; it may use: {}",
                    file.path.display(),
                    found.line,
                    file.room,
                    found.to,
                    arrows_of(&file.room).join(", ")
                ));
            }
        }
    }
    none(&wrong, "arrows that the house does not allow");
}

#[test]
fn every_room_is_known_here_and_in_lib_rs() {
    let declared: BTreeSet<String> = fs::read_to_string(root().join("src/lib.rs"))
        .unwrap()
        .lines()
        .filter_map(|line| line.trim().strip_prefix("pub mod ")?.strip_suffix(';').map(str::to_owned))
        .collect();
    let known: BTreeSet<String> = ARROWS.iter().map(|(room, _)| (*room).to_owned()).collect();
    assert_eq!(declared, known, "a new room needs its arrows in tests/house.rs and its place in docs/architecture.md");
    let there: BTreeSet<String> = fs::read_dir(root().join("src"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !["lib.rs", "main.rs"].contains(&name.as_str()))
        .collect();
    assert_eq!(there, known, "what no module names is checked by nobody");
}

/// Of all crates that are built here, as Cargo.lock pins them.
#[test]
fn the_oldest_rust_that_we_name_builds_every_crate() {
    let host = std::process::Command::new("rustc").arg("-vV").output().unwrap();
    let host = String::from_utf8(host.stdout).unwrap();
    let host = host.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    let metadata = std::process::Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--offline", "--filter-platform", host])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(metadata.status.success(), "{}", String::from_utf8_lossy(&metadata.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&metadata.stdout).unwrap();
    let version = |text: &str| text.split('.').map(|part| part.parse::<u32>().unwrap()).collect::<Vec<_>>();
    let packages = metadata["packages"].as_array().unwrap();
    let ours = packages.iter().find(|package| package["name"] == env!("CARGO_PKG_NAME")).unwrap();
    let named = ours["rust_version"].as_str().unwrap();
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    assert!(readme.contains(&format!("Rust ({named} or newer)")), "README names another");
    for package in packages {
        let Some(needed) = package["rust_version"].as_str() else { continue };
        assert!(
            version(needed) <= version(named) || version(needed)[..2] <= version(named)[..],
            "{}: {needed}",
            package["name"]
        );
    }
}

#[test]
fn only_the_store_speaks_sql() {
    let keywords = ["SELECT ", "INSERT INTO", "UPDATE ", "DELETE FROM", "CREATE TABLE", "PRAGMA "];
    let mut wrong = Vec::new();
    for file in source_files().iter().filter(|file| file.room != "store") {
        for (line, text) in &file.source.strings {
            // A sentence may well say "UPDATE "; only a text that starts with the keyword is a statement.
            if keywords.iter().any(|keyword| text.trim_start().starts_with(keyword)) {
                wrong.push(format!("{}:{line}: {text:?}", file.path.display()));
            }
        }
    }
    none(&wrong, "SQL outside src/store/");
}

#[test]
fn the_digits_of_a_phone_are_taken_in_one_place() {
    let mut wrong = Vec::new();
    for file in source_files().iter().filter(|file| file.room != "sandbox" && !file.path.ends_with("model/phone.rs")) {
        let code: String = file.source.code.split_whitespace().collect();
        if code.contains(".filter(char::is_ascii_digit).collect") {
            wrong.push(file.path.display().to_string());
        }
    }
    none(&wrong, "digits taken without `model::phone_digits`");
}

#[test]
fn pure_rooms_do_nothing_but_compute() {
    let banned = [
        "async fn",
        "async move",
        "async {",
        ".await",
        "tokio::",
        "std::fs",
        "std::net",
        "std::env",
        "std::process",
        "std::thread",
        "reqwest",
        "rusqlite",
        "tracing::",
    ];
    let mut wrong = Vec::new();
    for file in source_files().iter().filter(|file| PURE.contains(&file.room.as_str())) {
        // The trait is how a pure room names what the impure ones do; it does nothing itself.
        if file.path.ends_with("model/side.rs") {
            continue;
        }
        for (number, line) in file.source.code.lines().enumerate() {
            if file.source.is_test(number + 1) {
                continue;
            }
            for word in banned.iter().filter(|word| line.contains(**word)) {
                wrong.push(format!("{}:{}: `{word}`", file.path.display(), number + 1));
            }
        }
    }
    none(&wrong, "the pure rooms do no I/O, know no clock and wait for nothing");
}

#[test]
fn no_source_file_outgrows_a_reader() {
    let mut wrong = Vec::new();
    for file in source_files() {
        let lines = file.source.code.lines().count();
        if lines > LONGEST_FILE {
            wrong.push(format!("{}: {lines} lines", file.path.display()));
        }
    }
    none(&wrong, &format!("files above {LONGEST_FILE} lines; cut them"));
}

#[test]
fn nothing_but_a_test_looks_outside_the_repository() {
    let outside = concat!("..", "/shared");
    let mut wrong = Vec::new();
    for path in files_below(&root(), &|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name != "target" && name != ".git" && name != "state"
    }) {
        let relative = path.strip_prefix(root()).unwrap_or(&path).to_path_buf();
        if relative.starts_with("tests") {
            continue;
        }
        let Ok(text) = fs::read_to_string(&path) else { continue };
        for (number, line) in text.lines().enumerate().filter(|(_, line)| line.contains(outside)) {
            wrong.push(format!("{}:{}: {}", relative.display(), number + 1, line.trim()));
        }
    }
    none(&wrong, "the repository stands alone");
}

fn none(wrong: &[String], what: &str) {
    assert!(wrong.is_empty(), "{what}:\n{}", wrong.join("\n"));
}

fn arrows_of(room: &str) -> &'static [&'static str] {
    ARROWS.iter().find(|(name, _)| *name == room).map_or(&[], |(_, to)| *to)
}

fn allowed(from: &str, to: &str, in_test: bool) -> bool {
    from.is_empty()
        || from == to
        || arrows_of(from).contains(&to)
        || in_test && from != "sandbox" && UNIT_TESTS_MAY_USE.contains(&to)
}

// -------------------------------------------------------------------------------------------- reading the source ----

/// One file below `src/`.
struct SourceFile {
    path: PathBuf,
    /// The folder (or file) right below `src/`; empty for `main.rs` and `lib.rs`.
    room: String,
    /// How many modules deep it stands: `src/http/caller.rs` is 2.
    depth: usize,
    source: Source,
}

/// Its text, taken apart. Line numbers stay.
struct Source {
    /// Code with comments and the insides of strings blanked.
    code: String,
    /// String literals with the line on which each starts.
    strings: Vec<(usize, String)>,
    /// Lines (from, to) that only tests compile.
    tests: Vec<(usize, usize)>,
}

impl Source {
    fn is_test(&self, line: usize) -> bool {
        self.tests.iter().any(|(from, to)| (*from..=*to).contains(&line))
    }
}

struct Arrow {
    to: String,
    line: usize,
    in_test: bool,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn files_below(folder: &Path, enter: &dyn Fn(&Path) -> bool) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            let kind = entry.file_type().unwrap();
            if kind.is_dir() && enter(&path) {
                folders.push(path);
            } else if kind.is_file() {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn source_files() -> Vec<SourceFile> {
    let src = root().join("src");
    let files: Vec<PathBuf> = files_below(&src, &|_| true)
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect();
    assert!(files.len() > 10, "found only {} files below {}", files.len(), src.display());
    let mut sources: BTreeMap<PathBuf, Source> =
        files.iter().map(|path| (path.clone(), take_apart(&fs::read_to_string(path).unwrap()))).collect();
    mark_files_that_only_tests_compile(&mut sources);
    sources
        .into_iter()
        .map(|(path, source)| {
            let inside = path.strip_prefix(&src).unwrap();
            let mut modules: Vec<String> =
                inside.with_extension("").components().map(|part| part.as_os_str().to_string_lossy().into()).collect();
            if modules.last().is_some_and(|last| last == "mod") {
                modules.pop();
            }
            let top = modules.len() == 1 && ["main", "lib"].contains(&modules[0].as_str());
            let room = if top { String::new() } else { modules[0].clone() };
            SourceFile { path: path.clone(), room, depth: if top { 0 } else { modules.len() }, source }
        })
        .collect()
}

/// `#[cfg(test)] mod name;` makes the whole file a test.
fn mark_files_that_only_tests_compile(sources: &mut BTreeMap<PathBuf, Source>) {
    let mut only_tests = Vec::new();
    for (path, source) in &*sources {
        let stem = path.file_stem().unwrap_or_default();
        let folder = path.parent().unwrap_or(path);
        let children = if stem == "mod" || stem == "lib" || stem == "main" { folder.into() } else { folder.join(stem) };
        for (number, line) in source.code.lines().enumerate() {
            let line = line.trim().trim_start_matches("pub ").trim_start_matches("pub(crate) ");
            let Some(name) = line.strip_prefix("mod ").and_then(|rest| rest.strip_suffix(';')) else { continue };
            if source.is_test(number + 1) {
                only_tests.push(children.join(format!("{name}.rs")));
                only_tests.push(children.join(name));
            }
        }
    }
    for (path, source) in sources {
        if only_tests.iter().any(|test| path == test || path.starts_with(test)) {
            source.tests = vec![(1, usize::MAX)];
        }
    }
}

/// Blanks comments and strings. Not a parser: enough for code that rustfmt has formatted.
fn take_apart(text: &str) -> Source {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut strings = Vec::new();
    let mut line = 1;
    let mut at = 0;
    let blank = |code: &mut String, line: &mut usize, from: usize, to: usize| {
        for &c in &chars[from..to] {
            if c == '\n' {
                *line += 1;
            }
            code.push(if c == '\n' { '\n' } else { ' ' });
        }
    };
    let starts = |at: usize, what: &str| what.chars().enumerate().all(|(i, c)| chars.get(at + i) == Some(&c));
    while at < chars.len() {
        let previous_is_word = at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_');
        if starts(at, "//") {
            let end = (at..chars.len()).find(|&i| chars[i] == '\n').unwrap_or(chars.len());
            blank(&mut code, &mut line, at, end);
            at = end;
        } else if starts(at, "/*") {
            let (mut depth, mut end) = (1, at + 2);
            while end < chars.len() && depth > 0 {
                if starts(end, "/*") {
                    depth += 1;
                } else if starts(end, "*/") {
                    depth -= 1;
                }
                end += if starts(end, "/*") || starts(end, "*/") { 2 } else { 1 };
            }
            let end = end.min(chars.len());
            blank(&mut code, &mut line, at, end);
            at = end;
        } else if let Some(hashes) = (!previous_is_word).then(|| raw_string(&chars, at)).flatten() {
            let open = (at..chars.len()).find(|&i| chars[i] == '"').unwrap_or(at) + 1;
            let close = (open..chars.len())
                .find(|&i| chars[i] == '"' && (1..=hashes).all(|n| chars.get(i + n) == Some(&'#')))
                .unwrap_or(chars.len());
            strings.push((line, chars[open..close].iter().collect()));
            let end = (close + 1 + hashes).min(chars.len());
            blank(&mut code, &mut line, at, end);
            at = end;
        } else if chars[at] == '"' {
            let mut end = at + 1;
            while end < chars.len() && chars[end] != '"' {
                end += if chars[end] == '\\' { 2 } else { 1 };
            }
            strings.push((line, chars[at + 1..end.min(chars.len())].iter().collect()));
            let end = (end + 1).min(chars.len());
            blank(&mut code, &mut line, at, end);
            at = end;
        } else if chars[at] == '\'' && (starts(at + 2, "'") || chars.get(at + 1) == Some(&'\\')) {
            // A character, not a lifetime: skip it, or '"' would open a string.
            let end = (at + 2..chars.len()).find(|&i| chars[i] == '\'').map_or(chars.len(), |i| i + 1);
            blank(&mut code, &mut line, at, end);
            at = end;
        } else {
            if chars[at] == '\n' {
                line += 1;
            }
            code.push(chars[at]);
            at += 1;
        }
    }
    let tests = test_regions(&code);
    Source { code, strings, tests }
}

/// The number of `#` if a raw string (`r"`, `r#"`, `br"` …) starts here.
fn raw_string(chars: &[char], at: usize) -> Option<usize> {
    let mut next = at;
    if matches!(chars.get(next), Some('b' | 'c')) {
        next += 1;
    }
    if chars.get(next) != Some(&'r') {
        return None;
    }
    next += 1;
    let hashes = chars[next..].iter().take_while(|c| **c == '#').count();
    (chars.get(next + hashes) == Some(&'"')).then_some(hashes)
}

/// From each `#[cfg(test)]` to the end of the item that it stands on.
fn test_regions(code: &str) -> Vec<(usize, usize)> {
    let mut regions = Vec::new();
    for (start, _) in code.match_indices("#[cfg(test)]") {
        let (mut depth, mut end) = (0_usize, code.len());
        for (offset, c) in code[start + "#[cfg(test)]".len()..].char_indices() {
            match c {
                '{' => depth += 1,
                '}' => {
                    depth = depth.saturating_sub(1);
                    if depth == 0 {
                        end = start + "#[cfg(test)]".len() + offset;
                        break;
                    }
                }
                ';' if depth == 0 => {
                    end = start + "#[cfg(test)]".len() + offset;
                    break;
                }
                _ => {}
            }
        }
        let line_of = |at: usize| code[..at].matches('\n').count() + 1;
        regions.push((line_of(start), line_of(end)));
    }
    regions
}

/// Every room that the file names by `crate::…`, `use crate::{…}`, or a chain of `super::` that reaches the top.
fn arrows(file: &SourceFile) -> Vec<Arrow> {
    let code = &file.source.code;
    let mut found = Vec::new();
    let mut add = |to: String, at: usize| {
        let line = code[..at].matches('\n').count() + 1;
        found.push(Arrow { to, line, in_test: file.source.is_test(line) });
    };
    for prefix in ["crate::", "linkspan::"] {
        for (at, _) in code.match_indices(prefix) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
                continue;
            }
            for name in first_names(&code[at + prefix.len()..]) {
                add(name, at);
            }
        }
    }
    for (at, chain) in super_chains(code) {
        let rest = &code[at + chain * "super::".len()..];
        for name in first_names(rest) {
            let a_room = ARROWS.iter().any(|(room, _)| *room == name);
            if chain >= file.depth && a_room && file.depth > 0 && !is_module_of(file, &name) {
                add(name, at);
            }
        }
    }
    found
}

/// Whether the room itself has a module of that name, so that `super::name` from an inner module means that one.
fn is_module_of(file: &SourceFile, name: &str) -> bool {
    let room = root().join("src").join(&file.room);
    room.join(format!("{name}.rs")).exists() || room.join(name).exists()
}

fn super_chains(code: &str) -> Vec<(usize, usize)> {
    let mut chains = Vec::new();
    let mut at = 0;
    while let Some(found) = code[at..].find("super::") {
        let start = at + found;
        let chain = code.as_bytes()[start..].chunks(7).take_while(|part| *part == b"super::").count();
        chains.push((start, chain));
        at = start + chain * 7;
    }
    chains
}

/// `model::Email` → `model`; `{model::{A, B}, doors}` → `model`, `doors`.
fn first_names(rest: &str) -> Vec<String> {
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    if !rest.starts_with('{') {
        return vec![word(rest)].into_iter().filter(|name| !name.is_empty()).collect();
    }
    let (mut depth, mut names, mut expects_name) = (0, Vec::new(), false);
    for (at, c) in rest.char_indices() {
        match c {
            '{' => {
                depth += 1;
                expects_name = depth == 1;
            }
            '}' => {
                depth -= 1;
                if depth == 0 {
                    break;
                }
            }
            ',' if depth == 1 => expects_name = true,
            c if expects_name && (c.is_alphabetic() || c == '_') => {
                names.push(word(&rest[at..]));
                expects_name = false;
            }
            _ => {}
        }
    }
    names
}

// ----------------------------------------------------------------------------------------- the test's own tests ----

fn file(room: &str, depth: usize, text: &str) -> SourceFile {
    SourceFile { path: PathBuf::from(format!("src/{room}/x.rs")), room: room.into(), depth, source: take_apart(text) }
}

fn names(file: &SourceFile) -> Vec<(String, usize, bool)> {
    arrows(file).into_iter().map(|arrow| (arrow.to, arrow.line, arrow.in_test)).collect()
}

#[test]
fn finds_arrows_in_every_spelling() {
    let text = "use crate::model::Email;\nuse crate::{doors, store::{Store, Page}};\nfn f() { crate::http::send() }\n\
                use super::super::engine::Run;\nuse super::wire;\n// use crate::cli;\nlet s = \"crate::server\";\n";
    let found: Vec<String> = names(&file("brevo", 2, text)).into_iter().map(|(to, ..)| to).collect();
    assert_eq!(found, ["model", "doors", "store", "http", "engine"]);
}

#[test]
fn knows_what_only_tests_compile() {
    let text = "use crate::model;\n#[cfg(test)]\nmod tests {\n    use crate::sandbox;\n}\nuse crate::store;\n";
    let found = names(&file("brevo", 2, text));
    assert_eq!(found, [("model".into(), 1, false), ("sandbox".into(), 4, true), ("store".into(), 6, false)]);
    assert!(allowed("brevo", "sandbox", true) && !allowed("brevo", "sandbox", false));
    assert!(!allowed("sandbox", "brevo", true) && !allowed("sandbox", "http", true));
    assert!(!allowed("store", "engine", true) && !allowed("reconcile", "store", false));
}

#[test]
fn strings_and_characters_do_not_confuse_it() {
    let source =
        take_apart("let a = '\"'; let b = r#\"SELECT \"x\"\"#; let c: &'static str = \"\\\"SELECT\"; // \"no\"\n");
    let strings: Vec<&str> = source.strings.iter().map(|(_, text)| text.as_str()).collect();
    assert_eq!(strings, ["SELECT \"x\"", "\\\"SELECT"]);
    assert!(source.code.contains("&'static str") && !source.code.contains("no"));
}
