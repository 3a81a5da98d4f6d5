//! What is not YAML, in words for people. The parser says where it gave up and why in its own terms; the lines there
//! tell what was probably meant. Nothing is quoted but single signs: what cannot be read may be a token.

/// What is wrong, where (in bytes), and what was expected.
pub(super) struct Explained {
    pub(super) at: usize,
    pub(super) message: String,
    pub(super) expected: String,
}

/// A line of the file.
struct Line<'a> {
    start: usize,
    text: &'a str,
}

impl Line<'_> {
    fn indent(&self) -> usize {
        self.text.chars().take_while(|letter| letter.is_whitespace()).count()
    }

    fn is_empty(&self) -> bool {
        let text = self.text.trim_start();
        text.is_empty() || text.starts_with('#')
    }

    /// Where a tab stands in its indentation.
    fn tab(&self) -> Option<usize> {
        let at = self.text.find(|letter: char| letter != ' ')?;
        self.text.get(at..)?.starts_with('\t').then_some(self.start + at)
    }

    /// Where a colon ends a key without the blank that belongs behind it.
    fn tight_colon(&self) -> Option<usize> {
        let key = self.text.trim_start().trim_start_matches("- ");
        let at = key.find(|letter: char| !letter.is_ascii_alphanumeric() && !['_', '.', '-'].contains(&letter))?;
        let behind = key.get(at..)?.strip_prefix(':')?;
        let tight = behind.starts_with(|letter: char| !letter.is_whitespace() && letter != '/');
        (at > 0 && tight).then_some(self.start + self.text.len() - key.len() + at)
    }
}

/// Explains why the parser gave up at `at`, for the reason `info`.
pub(super) fn explain(text: &str, at: usize, info: &str) -> Explained {
    let told = |at: usize, message: &str, expected: &str| Explained {
        at,
        message: message.to_owned(),
        expected: format!("expected {expected}"),
    };
    let mut start = 0;
    let lines: Vec<Line<'_>> = text
        .split('\n')
        .map(|text| {
            let line = Line { start, text };
            start += text.len() + 1;
            line
        })
        .collect();
    let number = lines.iter().rposition(|line| line.start <= at).unwrap_or(0);
    let mut near = lines.get(number.saturating_sub(1)..).unwrap_or_default().iter().take(3);
    if let Some(tab) = near.find_map(Line::tab) {
        return told(tab, "a tab stands in the indentation", "blanks: YAML takes no tabs there");
    }
    if info.contains("unknown anchor") {
        return told(
            at,
            "this alias repeats an anchor that is not there",
            "an anchor (`&name`) of this name before it",
        );
    }
    let here = text.get(at..).and_then(|rest| rest.chars().next());
    if let Some(sign) = here.filter(|sign| "*&!%@`".contains(*sign)) {
        return told(at, &format!("a value that begins with `{sign}` needs quotes"), "quotes around the whole value");
    }
    if info.contains("quoted scalar") {
        return told(at, "a quote is opened and not closed", "the same quote at the end of the value");
    }
    if info.contains("flow") {
        return told(at, "a `{` or `[` above is not closed", "its `}` or `]` before this line");
    }
    let Some(line) = lines.get(number) else { return unknown(at, info) };
    let above = || lines.iter().take(number).rev().filter(|line| !line.is_empty());
    if info.contains("mapping values are not allowed") {
        let before = text.get(line.start..at).unwrap_or_default();
        if before.contains(": ") {
            return told(at, "a value that holds `: ` needs quotes", "quotes around the whole value");
        }
        if let Some(colon) = above().next().and_then(Line::tight_colon) {
            return told(colon, "no blank stands behind the colon", "`key: value`, with a blank between");
        }
        return told(line.start + line.indent(), "a key stands below a value", "the indentation of the line above it");
    }
    // The blocks that are open here, by the indentation of their lines.
    let mut open: Vec<usize> = Vec::new();
    for line in above() {
        if open.last().is_none_or(|inner| line.indent() < *inner) {
            open.push(line.indent());
        }
    }
    if !open.is_empty() && !open.contains(&line.indent()) {
        open.reverse();
        let blanks: Vec<String> = open.iter().map(ToString::to_string).collect();
        let message = format!("the indentation of this line ({} blanks) is that of no block above it", line.indent());
        return told(line.start + line.indent(), &message, &format!("{} blanks before it", blanks.join(" or ")));
    }
    unknown(at, info)
}

fn unknown(at: usize, info: &str) -> Explained {
    Explained {
        at,
        message: format!("this is not YAML: {info}"),
        expected: "from here on it cannot be read".to_owned(),
    }
}
