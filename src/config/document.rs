//! A YAML document as a tree that knows where everything stands.
//!
//! `serde_yaml` reports one error and forgets positions once it has built its values. People who write a config want
//! every mistake at once, each with its line and column, so the tree is built from the events of a parser that marks
//! them; duplicate keys are found on the way. How a plain scalar reads (`true`, `0x10`, `NO`) stays `serde_yaml`'s
//! decision, so that both agree.

use super::errors::Findings;
use super::unreadable;
use saphyr_parser::{Event, Parser, ScalarStyle, Span as Mark, StrInput, Tag};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Nesting beyond this is nobody's config; it bounds every recursion over the tree.
const MAX_DEPTH: usize = 64;
/// Aliases repeat what they name: ten lines of them can stand for billions of values.
const MAX_NODES: usize = 200_000;
/// The largest file we read, in bytes.
pub(super) const MAX_BYTES: usize = 4 << 20;

/// Where something stands: a file (by number) and a range of bytes in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) file: usize,
    pub(super) start: usize,
    pub(super) end: usize,
}

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) content: Content,
    /// Values in it, itself included.
    size: usize,
    /// Levels in it, itself included.
    depth: usize,
}

#[derive(Debug, Clone)]
pub(super) enum Content {
    /// One value as written. Only a `plain` one (without quotes) can be anything but text.
    Scalar { text: String, plain: bool },
    /// A scalar already reported (a missing variable): what is in it is not judged again.
    Broken { text: String },
    /// A list.
    Sequence(Vec<Node>),
    /// Keys and values in the order of the file.
    Mapping(Vec<Entry>),
}

#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_place: Place,
    pub(super) value: Node,
}

impl Node {
    pub(super) fn scalar(place: Place, text: String, plain: bool) -> Self {
        Self { place, content: Content::Scalar { text, plain }, size: 1, depth: 1 }
    }

    fn sequence(place: Place, items: Vec<Node>) -> Self {
        let (size, depth) = measure(items.iter());
        Self { place, content: Content::Sequence(items), size, depth }
    }

    fn mapping(place: Place, entries: Vec<Entry>) -> Self {
        let (size, depth) = measure(entries.iter().map(|entry| &entry.value));
        Self { place, content: Content::Mapping(entries), size, depth }
    }

    /// `key:` with nothing behind it, `~` or `null`.
    pub(super) fn is_null(&self) -> bool {
        matches!(&self.content, Content::Scalar { text, plain: true } if resolve_plain(text).is_null())
    }

    /// No value, or a blank one: `${NAME:-}` says "if there is one".
    pub(super) fn is_blank(&self) -> bool {
        self.is_null() || matches!(&self.content, Content::Scalar { text, .. } if text.trim().is_empty())
    }

    /// The value without its positions.
    pub(super) fn to_value(&self) -> serde_yaml::Value {
        use serde_yaml::Value;
        match &self.content {
            Content::Scalar { text, plain: true } => resolve_plain(text),
            Content::Scalar { text, plain: false } | Content::Broken { text } => Value::String(text.clone()),
            Content::Sequence(items) => Value::Sequence(items.iter().map(Self::to_value).collect()),
            Content::Mapping(entries) => Value::Mapping(
                entries.iter().map(|entry| (Value::String(entry.key.clone()), entry.value.to_value())).collect(),
            ),
        }
    }

    /// Where the value at `path` stands, or with `on_key` its key. A path that leads further than the document goes
    /// answers with the last place on the way.
    pub(super) fn locate(&self, path: &[String], on_key: bool) -> Place {
        let (mut node, mut place) = (self, self.place);
        for (depth, step) in path.iter().enumerate() {
            let last = depth + 1 == path.len();
            match &node.content {
                Content::Mapping(entries) => {
                    let Some(entry) = entries.iter().find(|entry| entry.key == *step) else { break };
                    let empty = entry.value.place.start == entry.value.place.end;
                    let container = !matches!(entry.value.content, Content::Scalar { .. } | Content::Broken { .. });
                    // What is wrong with a whole block is best shown at its name, not at its first line.
                    let show_key = !last || on_key || empty || container;
                    place = if show_key { entry.key_place } else { entry.value.place };
                    node = &entry.value;
                }
                Content::Sequence(items) => {
                    let Some(item) = step.parse::<usize>().ok().and_then(|index| items.get(index)) else { break };
                    place = item.first_line();
                    node = item;
                }
                Content::Scalar { .. } | Content::Broken { .. } => break,
            }
        }
        place
    }

    /// A place for messages about the whole node: its first key if it is a block.
    pub(super) fn first_line(&self) -> Place {
        match &self.content {
            Content::Mapping(entries) => entries.first().map_or(self.place, |entry| entry.key_place),
            Content::Sequence(items) => items.first().map_or(self.place, Self::first_line),
            Content::Scalar { .. } | Content::Broken { .. } => self.place,
        }
    }

    /// What it is, as people say it.
    pub(super) fn kind_name(&self) -> &'static str {
        match &self.content {
            Content::Sequence(_) => "a list",
            Content::Mapping(_) => "a block of keys",
            Content::Scalar { text, plain: true } => match resolve_plain(text) {
                serde_yaml::Value::Null => "nothing",
                serde_yaml::Value::Bool(_) => "a yes-or-no value",
                serde_yaml::Value::Number(_) => "a number",
                _ => "text",
            },
            Content::Scalar { .. } | Content::Broken { .. } => "text",
        }
    }
}

fn measure<'a>(children: impl Iterator<Item = &'a Node>) -> (usize, usize) {
    children.fold((1, 1), |(size, depth), child| (size.saturating_add(child.size), depth.max(child.depth + 1)))
}

/// How a scalar without quotes reads.
fn resolve_plain(text: &str) -> serde_yaml::Value {
    use serde_yaml::Value;
    // A value from the environment may look like more than a scalar; it is none the less one.
    let scalar = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '+' | '-' | '.' | '_' | '~');
    if !text.chars().all(scalar) || text.starts_with("---") || text.starts_with("...") {
        return Value::String(text.to_owned());
    }
    match serde_yaml::from_str::<Value>(text) {
        Ok(value @ (Value::Null | Value::Bool(_) | Value::Number(_))) => value,
        _ => Value::String(text.to_owned()),
    }
}

/// Why a document is not read on, and what was expected.
type TooMuch = (&'static str, &'static str);

const TOO_DEEP: TooMuch = ("nested too deeply", "64 levels at most");

/// Reads one file into a tree. What is wrong with it goes to `findings`; `None` if it cannot be read at all.
pub(super) fn parse(file: usize, text: &str, findings: &mut Findings) -> Option<Node> {
    Builder::new(file, text).build(text, findings)
}

/// A collection that is not closed yet.
struct Frame {
    anchor: usize,
    place: Place,
    filling: Filling,
}

enum Filling {
    Sequence(Vec<Node>),
    Mapping { entries: Vec<Entry>, key: Option<Node> },
}

struct Builder {
    file: usize,
    /// Byte offset of each character: the parser counts characters, error pictures count bytes.
    offsets: Vec<usize>,
    stack: Vec<Frame>,
    anchors: BTreeMap<usize, Node>,
    nodes: usize,
    root: Option<Node>,
}

impl Builder {
    fn new(file: usize, text: &str) -> Self {
        let offsets = text.char_indices().map(|(offset, _)| offset).chain([text.len()]).collect();
        Self { file, offsets, stack: Vec::new(), anchors: BTreeMap::new(), nodes: 0, root: None }
    }

    fn offset(&self, index: usize) -> usize {
        self.offsets.get(index).or_else(|| self.offsets.last()).copied().unwrap_or(0)
    }

    fn place(&self, mark: Mark) -> Place {
        let start = self.offset(mark.start.index());
        Place { file: self.file, start, end: self.offset(mark.end.index()).max(start) }
    }

    fn build(mut self, text: &str, findings: &mut Findings) -> Option<Node> {
        let mut parser: Parser<'_, StrInput<'_>> = Parser::new_from_str(text);
        let mut documents = 0;
        while let Some(event) = parser.next_event() {
            let (event, mark) = match event {
                Ok(event) => event,
                Err(error) => {
                    let explained = unreadable::explain(text, self.offset(error.marker().index()), error.info());
                    let place = Place { file: self.file, start: explained.at, end: explained.at };
                    // Nothing is known of what stands there, so nothing is shown that may be a token.
                    for (from, to) in super::mask::token_like(text) {
                        findings.hide(Place { file: self.file, start: from, end: to });
                    }
                    findings
                        .error(place, explained.message)
                        .label(explained.expected)
                        .help("What stands below it was not looked at: it cannot be read before this is mended.");
                    return None;
                }
            };
            let place = self.place(mark);
            let step = match event {
                Event::DocumentStart(_) => {
                    documents += 1;
                    if documents > 1 {
                        findings
                            .error(Place { end: place.start, ..place }, "a second document in one file")
                            .label("expected one document per file, without `---`");
                        return self.root;
                    }
                    Ok(())
                }
                Event::Alias(anchor) => match self.anchors.get(&anchor).cloned() {
                    Some(node) => self.add(node, 0, findings),
                    None => Err(("an alias (`*name`) without an anchor (`&name`) before it", "its anchor before it")),
                },
                Event::Scalar(text, style, anchor, tag) => {
                    let tag = Self::check_tag(place, tag, findings);
                    let plain = style == ScalarStyle::Plain && !tag;
                    self.add(Node::scalar(place, text.into_owned(), plain), anchor, findings)
                }
                Event::SequenceStart(anchor, tag) => {
                    Self::check_tag(place, tag, findings);
                    self.open(Frame { anchor, place, filling: Filling::Sequence(Vec::new()) })
                }
                Event::MappingStart(anchor, tag) => {
                    Self::check_tag(place, tag, findings);
                    self.open(Frame { anchor, place, filling: Filling::Mapping { entries: Vec::new(), key: None } })
                }
                Event::SequenceEnd | Event::MappingEnd => self.close(place, findings),
                Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
            };
            if let Err((message, expected)) = step {
                findings.error(place, message).label(format!("expected {expected}"));
                return None;
            }
        }
        let end = Place { file: self.file, start: 0, end: 0 };
        Some(self.root.unwrap_or_else(|| Node::scalar(end, String::new(), true)))
    }

    /// Whether the tag makes a scalar text. Tags of one's own mean nothing here.
    fn check_tag(place: Place, tag: Option<Cow<'_, Tag>>, findings: &mut Findings) -> bool {
        let Some(tag) = tag else { return false };
        if !tag.is_yaml_core_schema() {
            findings
                .error(place, format!("the tag `{tag}` means nothing here"))
                .label("expected a plain value, list or block");
        }
        tag.is_yaml_core_schema() && tag.suffix == "str"
    }

    fn open(&mut self, frame: Frame) -> Result<(), TooMuch> {
        if self.stack.len() >= MAX_DEPTH {
            return Err(TOO_DEEP);
        }
        self.stack.push(frame);
        Ok(())
    }

    fn close(&mut self, end: Place, findings: &mut Findings) -> Result<(), TooMuch> {
        let Some(frame) = self.stack.pop() else { return Ok(()) };
        let place = Place { end: end.end.max(frame.place.start), ..frame.place };
        let node = match frame.filling {
            Filling::Sequence(items) => Node::sequence(place, items),
            Filling::Mapping { entries, .. } => Node::mapping(place, merge(entries, findings)),
        };
        self.add(node, frame.anchor, findings)
    }

    fn add(&mut self, node: Node, anchor: usize, findings: &mut Findings) -> Result<(), TooMuch> {
        self.nodes = self.nodes.saturating_add(node.size);
        if self.nodes > MAX_NODES {
            let message = if self.anchors.is_empty() {
                "too many values in one file"
            } else {
                "too many values: aliases repeat too much"
            };
            return Err((message, "200,000 at most"));
        }
        if self.stack.len() + node.depth > MAX_DEPTH {
            return Err(TOO_DEEP);
        }
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        match self.stack.last_mut().map(|frame| &mut frame.filling) {
            None => self.root = Some(node),
            Some(Filling::Sequence(items)) => items.push(node),
            Some(Filling::Mapping { entries, key }) => match key.take() {
                None => *key = Some(node),
                Some(name) => {
                    let key_place = name.first_line();
                    match name.content {
                        Content::Scalar { text, .. } | Content::Broken { text } => {
                            add_entry(entries, Entry { key: text, key_place, value: node }, findings);
                        }
                        Content::Sequence(_) | Content::Mapping(_) => {
                            findings.error(key_place, "a list or block cannot be a key").label("expected a name");
                        }
                    }
                }
            },
        }
        Ok(())
    }
}

fn add_entry(entries: &mut Vec<Entry>, entry: Entry, findings: &mut Findings) {
    match entries.iter().find(|earlier| earlier.key == entry.key) {
        Some(earlier) => {
            let first = earlier.key_place;
            findings.hide_all(&entry.value); // nobody will look at what it is
            findings
                .error(entry.key_place, format!("the key `{}` is given twice in one block", entry.key))
                .label("the second one")
                .also(first, "the first one")
                .help("Put both under one key: of two, one would be silently lost.");
        }
        None => entries.push(entry),
    }
}

/// Applies YAML's merge key: `<<: *defaults` brings in what the block does not say itself.
fn merge(entries: Vec<Entry>, findings: &mut Findings) -> Vec<Entry> {
    if entries.iter().all(|entry| entry.key != "<<") {
        return entries;
    }
    let (merged, mut own): (Vec<Entry>, Vec<Entry>) = entries.into_iter().partition(|entry| entry.key == "<<");
    for entry in merged {
        let sources = match entry.value.content {
            Content::Sequence(items) => items,
            _ => vec![entry.value],
        };
        for source in sources {
            let Content::Mapping(inherited) = source.content else {
                findings
                    .error(entry.key_place, "`<<` merges a block of keys")
                    .label("expected an alias of a block, such as `*defaults`");
                continue;
            };
            for inherited in inherited {
                if own.iter().all(|entry| entry.key != inherited.key) {
                    own.push(inherited);
                }
            }
        }
    }
    own
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Node, Findings) {
        let mut findings = Findings::default();
        (parse(0, text, &mut findings).unwrap(), findings)
    }

    fn shown<'a>(text: &'a str, path: &[&str], on_key: bool) -> &'a str {
        let path: Vec<String> = path.iter().map(|step| (*step).to_owned()).collect();
        let place = read(text).0.locate(&path, on_key);
        &text[place.start..place.end]
    }

    #[test]
    fn values_and_keys_are_found_where_they_stand() {
        let text = "é: ü\r\nlist:\r\n  - a.b: 1\r\n  - {c: 'two'} # three\r\n";
        assert_eq!(shown(text, &["é"], false), "ü");
        assert_eq!(shown(text, &["list", "0", "a.b"], false), "1");
        assert_eq!(shown(text, &["list", "0", "a.b"], true), "a.b");
        assert_eq!(shown(text, &["list", "1", "c"], false), "'two'");
        assert_eq!(shown(text, &["list"], false), "list");
        assert_eq!(shown(text, &["list", "1"], false), "c");
        assert_eq!(shown(text, &["list", "7", "x"], false), "list", "as far as it goes");
    }

    #[test]
    fn scalars_read_as_serde_yaml_reads_them() {
        for text in [
            "true",
            "True",
            "yes",
            "NO",
            "no",
            "on",
            "null",
            "~",
            "12",
            "0x1F",
            "0o17",
            "012",
            "1e3",
            "1_000",
            ".inf",
            "+4712345678",
            "2.11",
            "2.10",
            "2024-01-01",
            "'12'",
            "\"true\"",
            "!!str 12",
            "-",
            "a: 1",
            "[1, '1']",
            "",
        ] {
            let reference: serde_yaml::Value = serde_yaml::from_str(&format!("k: {text}\n")).unwrap_or_default();
            let mut findings = Findings::default();
            if let Some(node) = parse(0, &format!("k: {text}\n"), &mut findings)
                && !reference.is_null()
            {
                assert_eq!(node.to_value(), reference, "{text}");
            }
        }
    }

    #[test]
    fn the_environment_cannot_make_more_than_a_scalar() {
        for text in ["&a 3", "3 # x", "[1]", "{a: 1}", "!!int 3", "---", "- 3", "a: b"] {
            assert_eq!(resolve_plain(text), serde_yaml::Value::String(text.to_owned()), "{text}");
        }
    }

    #[test]
    fn merge_keys_bring_in_what_a_block_does_not_say() {
        let (node, _) = read("a: &a {x: 1, y: 1}\nb: &b {y: 2, z: 2}\nc: {<<: [*a, *b], x: 3}\n");
        let expected: serde_yaml::Value = serde_yaml::from_str("{x: 3, y: 1, z: 2}").unwrap();
        assert_eq!(node.to_value()["c"], expected);
    }
}
