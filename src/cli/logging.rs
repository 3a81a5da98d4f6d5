//! The log: to standard error, one line an event, JSON if asked.

use super::{Context, Printer};
use std::backtrace::Backtrace;
use std::io::Write;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// Starts the log. `RUST_LOG` wins over `-v`, that over the config's `log_level`; without any, a daemon tells what
/// happens, and a command only what is unexpected.
pub fn start(context: &Context) {
    let filter = context
        .environment
        .get("RUST_LOG")
        .filter(|text| !text.is_empty())
        .and_then(|text| EnvFilter::try_new(text).ok())
        .unwrap_or_else(|| EnvFilter::new(directives(context)));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(AboveBars(context.printer.clone()))
        .with_ansi(false);
    if context.printer.is_json() {
        builder.json().init();
    } else {
        builder.with_target(false).init();
    }
}

fn directives(context: &Context) -> String {
    let intercom = context.config().ok().map(|config| &config.intercom);
    let level = match (context.verbose, intercom.and_then(|intercom| intercom.log_level)) {
        (0, Some(level)) => level.as_str(),
        (0, None) if context.command.is_daemon() => "info",
        (0, None) => "warn",
        (1, _) => "debug",
        _ => "trace",
    };
    let debug = if intercom.is_some_and(|intercom| intercom.debug) && matches!(level, "error" | "warn" | "info") {
        ",linkspan::intercom=debug"
    } else {
        ""
    };
    // Libraries say at debug what we must not: headers, bodies, addresses.
    format!("warn,linkspan={level}{debug}")
}

/// A panic's own words may quote a record, so only its place is told; with `RUST_BACKTRACE`, the way there, too. The words
/// stay out in any case: hosts set that variable for all that they run.
pub fn quiet_panics() {
    let asked = std::env::vars_os().any(|(name, value)| name == "RUST_BACKTRACE" && value != "0");
    std::panic::set_hook(Box::new(move |panic| {
        let place = panic.location().map(|place| format!(" at {}:{}", place.file(), place.line())).unwrap_or_default();
        let way = if asked {
            format!("; please report it with this:\n{}", Backtrace::force_capture())
        } else {
            "; please report it (RUST_BACKTRACE=1 tells more)".to_owned()
        };
        writeln!(std::io::stderr(), "linkspan: a bug{place}{way}").ok();
    }));
}

/// Lines go above the progress bars instead of through them.
struct AboveBars(Printer);

impl<'a> MakeWriter<'a> for AboveBars {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { printer: &self.0, text: Vec::new() }
    }
}

/// One event, written as a whole when it is complete.
struct Line<'a> {
    printer: &'a Printer,
    text: Vec<u8>,
}

impl Write for Line<'_> {
    fn write(&mut self, part: &[u8]) -> std::io::Result<usize> {
        self.text.extend_from_slice(part);
        Ok(part.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        self.printer.note(String::from_utf8_lossy(&self.text).trim_end());
    }
}
