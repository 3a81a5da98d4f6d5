//! What is wrong with a config, where, and how it is shown.

use super::document::{Content, Node, Place};
use crate::mapping::{Misfit, Spot};
use miette::{
    GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteError, MietteSpanContents, SourceCode, SourceSpan,
    SpanContents,
};
use serde::Serialize;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// Whether a config can be used in spite of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The config is refused.
    Error,
    /// It loads, but probably not as meant.
    Warning,
}

/// One thing to know about a config. It never holds a secret: not in its words, and not in the line it shows.
#[derive(Debug, Clone, Serialize)]
pub struct Diagnostic {
    /// Refused, or only doubtful.
    pub severity: Severity,
    /// What is wrong.
    pub message: String,
    /// What was expected instead, shown at the place.
    pub label: Option<String>,
    /// What to do.
    pub help: Option<String>,
    /// The file, as it was named to us.
    pub file: String,
    /// Line, counted from 1; absent if it is about the whole file.
    pub line: Option<usize>,
    /// Column in characters, counted from 1.
    pub column: Option<usize>,
    #[serde(skip)]
    picture: Option<Picture>,
}

/// The text to show, with its secrets masked, and the ranges to point at.
#[derive(Debug, Clone)]
struct Picture {
    source: Arc<ShownFile>,
    span: SourceSpan,
    also: Option<(SourceSpan, &'static str)>,
}

/// A file as it may be shown. Of its text, miette gets only the lines it points at: its neighbours may hold what is
/// nobody's business.
struct ShownFile {
    name: String,
    text: String,
}

impl fmt::Debug for ShownFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl SourceCode for ShownFile {
    /// Without context asked for, miette wants to know where a span begins; with context, what to show around it.
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        context_lines_before: usize,
        _context_lines_after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let (from, to) = (span.offset(), span.offset() + span.len());
        let before = self.text.get(..from).ok_or(MietteError::OutOfBounds)?;
        let after = self.text.get(to..).ok_or(MietteError::OutOfBounds)?;
        let (line, column) = line_and_column(&self.text, from);
        let (from, column) = match context_lines_before {
            0 => (from, column),
            _ => (before.rfind('\n').map_or(0, |at| at + 1), 1),
        };
        let to = if context_lines_before == 0 { to } else { to + after.find('\n').unwrap_or(after.len()) };
        let shown = self.text.get(from..to).unwrap_or_default().trim_end_matches('\r');
        Ok(Box::new(MietteSpanContents::new_named(
            self.name.clone(),
            shown.as_bytes(),
            (from, shown.len()).into(),
            line - 1,
            column - 1,
            shown.matches('\n').count() + 1,
        )))
    }
}

impl Diagnostic {
    /// Something about a file as a whole: it cannot be read, or lacks something.
    pub(super) fn about_file(file: &str, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            message: message.into(),
            label: None,
            help: None,
            file: file.to_owned(),
            line: None,
            column: None,
            picture: None,
        }
    }

    pub(super) fn at(self, line: usize, column: usize) -> Self {
        Self { line: Some(line), column: Some(column), ..self }
    }

    pub(super) fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// What only the accounts could tell. `config` is the file that lacks what nobody wrote.
    fn misfit(config: &str, misfit: &Misfit) -> Self {
        let (file, line, column) = match &misfit.spot {
            Some(spot) => (spot.file.as_str(), Some(spot.line), Some(spot.column)),
            None => (config, None, None),
        };
        Self {
            label: Some(format!("expected {}", misfit.expected)),
            help: misfit.help.clone(),
            line,
            column,
            ..Self::about_file(file, &misfit.message)
        }
    }

    fn place(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let (Some(line), Some(column)) = (self.line, self.column) {
            write!(f, ":{line}:{column}")?;
        }
        Ok(())
    }

    /// As a person reads it, over several lines, with the line of the file. Readable without colour.
    pub fn render(&self, color: bool) -> String {
        let theme = if color { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
        let mut out = String::new();
        let handler = GraphicalReportHandler::new_themed(theme).with_links(false).with_width(120);
        match handler.render_report(&mut out, &Headline(self)) {
            Ok(()) => out,
            Err(_) => format!("{self}\n"),
        }
    }
}

/// One line: `config.yaml:3:5: message; label; help`.
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.place(f)?;
        write!(f, ": {}", self.message)?;
        for more in [&self.label, &self.help].into_iter().flatten() {
            write!(f, "; {more}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostic {}

/// The same for miette's picture, which shows the place and the rest by itself.
#[derive(Debug)]
struct Headline<'a>(&'a Diagnostic);

impl fmt::Display for Headline<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.picture.is_some() {
            return f.write_str(&self.0.message);
        }
        // Without the file's text at hand, the place and what was expected are said in words.
        self.0.place(f)?;
        write!(f, ": {}", self.0.message)?;
        self.0.label.iter().try_for_each(|label| write!(f, "; {label}"))
    }
}

impl std::error::Error for Headline<'_> {}

impl miette::Diagnostic for Headline<'_> {
    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.0.severity {
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.0.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display + 'a>)
    }

    fn source_code(&self) -> Option<&dyn miette::SourceCode> {
        self.0.picture.as_ref().map(|picture| &*picture.source as &dyn miette::SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let picture = self.0.picture.as_ref()?;
        let here = LabeledSpan::new_primary_with_span(self.0.label.clone(), picture.span);
        let also = picture.also.map(|(span, label)| LabeledSpan::new_with_span(Some(label.to_owned()), span));
        Some(Box::new(also.into_iter().chain([here])))
    }
}

/// Everything that is wrong with a config, in the order of the files.
#[derive(Debug, Clone, Serialize)]
#[serde(transparent)]
pub struct ConfigErrors(Vec<Diagnostic>);

impl ConfigErrors {
    pub(super) fn new(diagnostics: Vec<Diagnostic>) -> Self {
        Self(diagnostics)
    }

    /// What the accounts say against a config, in the order of its files.
    pub fn of_misfits(config: &Path, misfits: &[Misfit]) -> Self {
        let mut misfits: Vec<&Misfit> = misfits.iter().collect();
        misfits.sort_by_key(|misfit| &misfit.spot);
        let config = config.display().to_string();
        Self(misfits.into_iter().map(|misfit| Diagnostic::misfit(&config, misfit)).collect())
    }

    /// Each of them.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.0.iter()
    }

    /// How many there are; never none.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none, which never happens.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them as a person reads them, with a count at the end.
    pub fn render(&self, color: bool) -> String {
        let count = match self.0.len() {
            1 => "1 error".to_owned(),
            many => format!("{many} errors"),
        };
        let pictures = self.0.iter().map(|diagnostic| diagnostic.render(color) + "\n");
        pictures.chain([format!("{count}; nothing was started or written.\n")]).collect()
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, diagnostic) in self.0.iter().enumerate() {
            if number > 0 {
                f.write_str("\n")?;
            }
            diagnostic.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

impl<'a> IntoIterator for &'a ConfigErrors {
    type Item = &'a Diagnostic;
    type IntoIter = std::slice::Iter<'a, Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

/// Something found while reading; becomes a [`Diagnostic`] once all secrets are known and masked.
#[derive(Debug)]
pub(super) struct Finding {
    severity: Severity,
    place: Place,
    message: String,
    label: Option<String>,
    help: Option<String>,
    also: Option<(Place, &'static str)>,
}

impl Finding {
    pub(super) fn label(&mut self, label: impl Into<String>) -> &mut Self {
        self.label = Some(label.into());
        self
    }

    pub(super) fn help(&mut self, help: impl Into<String>) -> &mut Self {
        self.help = Some(help.into());
        self
    }

    /// Another place that belongs to it, and what it is called there.
    pub(super) fn also(&mut self, place: Place, label: &'static str) -> &mut Self {
        self.also = Some((place, label));
        self
    }
}

/// Collects what is found, and what must not be shown.
#[derive(Debug, Default)]
pub(super) struct Findings {
    found: Vec<Finding>,
    secrets: Vec<Place>,
    broken: Vec<Place>,
}

impl Findings {
    pub(super) fn error(&mut self, place: Place, message: impl Into<String>) -> &mut Finding {
        self.push(Severity::Error, place, message.into())
    }

    pub(super) fn warning(&mut self, place: Place, message: impl Into<String>) -> &mut Finding {
        self.push(Severity::Warning, place, message.into())
    }

    fn push(&mut self, severity: Severity, place: Place, message: String) -> &mut Finding {
        let at = self.found.len();
        self.found.push(Finding { severity, place, message, label: None, help: None, also: None });
        &mut self.found[at]
    }

    /// The value here has been reported: whatever else is said of it would only follow from that.
    pub(super) fn give_up_on(&mut self, place: Place) {
        self.broken.push(place);
    }

    /// Whether the value here has been given up on.
    pub(super) fn gave_up_on(&self, place: Place) -> bool {
        self.broken.contains(&place)
    }

    /// This range is never shown.
    pub(super) fn hide(&mut self, place: Place) {
        self.secrets.push(place);
    }

    /// No value in here is ever shown.
    pub(super) fn hide_all(&mut self, node: &Node) {
        match &node.content {
            Content::Sequence(items) => items.iter().for_each(|item| self.hide_all(item)),
            Content::Mapping(entries) => entries.iter().for_each(|entry| self.hide_all(&entry.value)),
            Content::Scalar { .. } | Content::Broken { .. } => self.hide(node.place),
        }
    }

    /// Errors and warnings, in the order of the files, with pictures of the masked text.
    pub(super) fn finish(mut self, files: &[SourceFile]) -> (Vec<Diagnostic>, Vec<Diagnostic>) {
        let masked: Vec<Arc<ShownFile>> = files
            .iter()
            .enumerate()
            .map(|(number, file)| {
                let ranges =
                    self.secrets.iter().filter(|place| place.file == number).map(|place| (place.start, place.end));
                Arc::new(ShownFile { name: file.name.clone(), text: super::mask::mask(&file.text, ranges) })
            })
            .collect();
        self.found.sort_by_key(|finding| finding.place);
        let diagnostics = self.found.into_iter().filter_map(|finding| {
            let file = files.get(finding.place.file)?;
            let source = masked.get(finding.place.file)?;
            let (line, column) = line_and_column(&file.text, finding.place.start);
            let range = |place: Place| SourceSpan::from(first_line_of(&source.text, place));
            Some(Diagnostic {
                severity: finding.severity,
                message: finding.message,
                label: finding.label,
                help: finding.help,
                file: file.name.clone(),
                line: Some(line),
                column: Some(column),
                picture: Some(Picture {
                    source: Arc::clone(source),
                    span: range(finding.place),
                    also: finding
                        .also
                        .filter(|(also, _)| also.file == finding.place.file)
                        .map(|(also, label)| (range(also), label)),
                }),
            })
        });
        diagnostics.partition(|diagnostic| diagnostic.severity == Severity::Error)
    }
}

/// A file that was read.
#[derive(Debug)]
pub(super) struct SourceFile {
    pub(super) name: String,
    pub(super) text: String,
}

/// Where a place is, as people count.
pub(super) fn spot(place: Place, files: &[SourceFile]) -> Option<Spot> {
    let file = files.get(place.file)?;
    let (line, column) = line_and_column(&file.text, place.start);
    Some(Spot { file: file.name.clone(), line, column })
}

/// A range that spans lines is pointed at by its first one.
fn first_line_of(text: &str, place: Place) -> (usize, usize) {
    let start = place.start.min(text.len());
    let end = place.end.clamp(start, text.len());
    let length = text.get(start..end).map_or(0, |slice| slice.lines().next().unwrap_or_default().trim_end().len());
    (start, length)
}

pub(super) fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset.min(text.len())).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (line, column)
}
