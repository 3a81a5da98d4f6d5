//! Reads single values: from what is written to what is meant, or to what was expected instead.

use super::super::document::{Content, Node};
use super::super::duration;
use super::super::types::ListRef;
use super::every::every;
use super::{Choice, Kind};
use crate::mapping::{is_region, nearest};
use crate::model::BrevoListId;
use secrecy::SecretString;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;
use url::Url;

/// A value that was read.
#[derive(Debug)]
pub(in super::super) enum Leaf {
    Flag(bool),
    Secret(SecretString),
    Word(&'static str),
    Text(String),
    Header(http::HeaderName),
    Count(u64),
    Share(f64),
    Duration(Duration),
    Cron(Box<croner::Cron>),
    Never,
    Timezone(chrono_tz::Tz),
    Url(Url),
    Address(SocketAddr),
    Path(PathBuf),
    List(ListRef),
}

/// Why a value cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// What is wrong with it, to follow "`key`: ".
    pub(super) problem: String,
    /// What was expected.
    pub(super) expected: String,
    /// What else helps.
    pub(super) help: Option<String>,
}

impl Refusal {
    pub(super) fn new(problem: impl Into<String>, expected: impl Into<String>) -> Self {
        Self { problem: problem.into(), expected: format!("expected {}", expected.into()), help: None }
    }

    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// What people call zones by; the letters alone would be taken for the nearest other ones.
const SHORT_ZONES: [(&str, &str); 10] = [
    ("PST", "America/Los_Angeles"),
    ("PDT", "America/Los_Angeles"),
    ("MDT", "America/Denver"),
    ("CST", "America/Chicago"),
    ("CDT", "America/Chicago"),
    ("EDT", "America/New_York"),
    ("BST", "Europe/London"),
    ("CEST", "Europe/Berlin"),
    ("IST", "Asia/Kolkata"),
    ("AEST", "Australia/Sydney"),
];

/// Headers that say something else about a request.
const TAKEN_HEADERS: [&str; 8] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "transfer-encoding",
    "user-agent",
];

/// A duration without unit, or with a longer word for it.
fn with_unit(refusal: Refusal, text: &str) -> Refusal {
    let number: String = text.chars().take_while(char::is_ascii_digit).collect();
    let unit = text.get(number.len()..).unwrap_or_default().trim().to_lowercase();
    let unit = match unit.as_str() {
        _ if number.is_empty() || number.len() > 6 => return refusal,
        "" => return refusal.help(format!("A unit is missing: `{number}s` are seconds, `{number}m` minutes.")),
        "s" | "sec" | "secs" | "second" | "seconds" => "s",
        "m" | "min" | "mins" | "minute" | "minutes" => "m",
        "h" | "hr" | "hrs" | "hour" | "hours" => "h",
        "d" | "day" | "days" => "d",
        "w" | "week" | "weeks" => "w",
        _ => return refusal,
    };
    refusal.help(format!("Did you mean `{number}{unit}`?"))
}

/// Reads one value of the given kind. Blocks and lists are not values; the walker handles those that may be.
pub(super) fn read(kind: &Kind, node: &Node) -> Result<Leaf, Refusal> {
    let expected = expected(kind);
    let Content::Scalar { text, plain } = &node.content else {
        return Err(Refusal::new(format!("{} stands where one value belongs", node.kind_name()), expected));
    };
    let text = text.trim();
    let wrong = || match kind {
        Kind::Secret => Refusal::new("it cannot be read", &*expected),
        _ => Refusal::new(format!("`{}` is not understood", shorten(text)), &*expected),
    };
    match kind {
        Kind::Flag => match (text, *plain) {
            ("true" | "True" | "TRUE", _) => Ok(Leaf::Flag(true)),
            ("false" | "False" | "FALSE", _) => Ok(Leaf::Flag(false)),
            ("yes" | "on" | "Yes" | "On" | "YES" | "ON", _) => {
                Err(wrong().help("YAML 1.2 knows only `true` and `false`."))
            }
            _ => Err(wrong()),
        },
        Kind::Secret => secret(text, expected),
        Kind::Choice(choices) => word(choices, text, expected),
        Kind::Count(from, to) => match text.parse() {
            Ok(number) if (*from..=*to).contains(&number) => Ok(Leaf::Count(number)),
            _ => Err(wrong()),
        },
        Kind::Share { zero } => match text.parse::<f64>() {
            Ok(share) if share <= 1.0 && (share > 0.0 || *zero && share == 0.0) => Ok(Leaf::Share(share)),
            _ => match text.strip_suffix('%').map(str::parse::<u8>) {
                Some(Ok(percent @ 1..=100)) => {
                    Err(wrong().help(format!("Did you mean `{}`?", f64::from(percent) / 100.0)))
                }
                _ => Err(wrong()),
            },
        },
        Kind::Duration => duration::parse(text).map(Leaf::Duration).ok_or_else(|| with_unit(wrong(), text)),
        Kind::Every => every(text).ok_or_else(|| with_unit(wrong(), text))?,
        Kind::Timezone => text.parse().map(Leaf::Timezone).map_err(|_| {
            let known = chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name());
            let short = SHORT_ZONES.iter().find(|(short, _)| short.eq_ignore_ascii_case(text));
            match short.map(|(_, zone)| *zone).or_else(|| nearest(text, known)) {
                Some(zone) => wrong().help(format!("Did you mean `{zone}`?")),
                None => wrong(),
            }
        }),
        Kind::Country => {
            let capitals = text.to_ascii_uppercase();
            match is_region(&capitals) {
                true if capitals == *text => Ok(Leaf::Text(capitals)),
                true => Err(wrong().help(format!("Did you mean `{capitals}`?"))),
                false => Err(wrong()),
            }
        }
        // A colon ends the user's name in `Authorization: Basic`.
        Kind::Name if text.is_empty() || text.len() > 100 || text.contains(|c: char| c.is_control() || c == ':') => {
            Err(wrong())
        }
        Kind::Condition if text.trim().is_empty() => Err(wrong()),
        Kind::Name | Kind::Condition => Ok(Leaf::Text(text.to_owned())),
        Kind::Header => match text.parse::<http::HeaderName>() {
            Ok(name) if TAKEN_HEADERS.contains(&name.as_str()) => {
                Err(wrong().help("That header has a meaning of its own: take one that begins with `X-`."))
            }
            Ok(name) => Ok(Leaf::Header(name)),
            Err(_) => Err(wrong()),
        },
        Kind::ApiVersion => match text.strip_prefix("2.").map(str::parse::<u8>) {
            Some(Ok(_)) => Ok(Leaf::Text(text.to_owned())),
            _ => Err(wrong()),
        },
        Kind::Url => api_address(text, &expected),
        Kind::Address => {
            let numeric = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
            match numeric.as_deref().unwrap_or(text).parse() {
                Ok(address) => Ok(Leaf::Address(address)),
                Err(_) => match text.trim_start_matches(':').parse::<u16>() {
                    Ok(port) => Err(wrong().help(format!(
                        "For this machine only `127.0.0.1:{port}`, for every network `0.0.0.0:{port}`."
                    ))),
                    Err(_) => Err(wrong()),
                },
            }
        }
        Kind::Path if text.is_empty() => Err(wrong()),
        Kind::Path => Ok(Leaf::Path(PathBuf::from(text))),
        Kind::List => match (text.parse::<i64>(), *plain) {
            (Ok(id), _) if id > 0 => Ok(Leaf::List(ListRef::Id(BrevoListId::new(id)))),
            (Ok(_), _) => Err(wrong()),
            (Err(_), _) if text.is_empty() || text.len() > 50 => Err(wrong()),
            (Err(_), _) => Ok(Leaf::List(ListRef::Name(text.to_owned()))),
        },
        Kind::Block(_) | Kind::Mapping | Kind::MappingFiles | Kind::Later(_) | Kind::Never(_) => Err(wrong()),
    }
}

/// What a kind of value looks like.
pub(super) fn expected(kind: &Kind) -> String {
    match kind {
        Kind::Flag => "`true` or `false`".to_owned(),
        Kind::Secret => "a token on one line, best as a reference such as `\"${BREVO_API_KEY}\"`".to_owned(),
        Kind::Choice(choices) => {
            let words: Vec<String> = choices.iter().map(|choice| format!("`{}`", choice.word)).collect();
            match words.len() {
                1 => words.concat(),
                _ => format!("one of {}", words.join(", ")),
            }
        }
        Kind::Count(from, to) => format!("a whole number from {from} to {to}"),
        Kind::Share { zero: true } => "a number from 0 to 1".to_owned(),
        Kind::Share { zero: false } => "a number above 0, and at most 1".to_owned(),
        Kind::Duration => duration::EXPECTED.to_owned(),
        Kind::Every => {
            "a duration such as `5m`, a cron line such as `0 3 * * *` (minute, hour, day, month, weekday), or `never`"
                .to_owned()
        }
        Kind::Timezone => "an IANA timezone such as `Europe/Oslo`".to_owned(),
        Kind::Country => "a country's two letters such as `NO`".to_owned(),
        Kind::Name => "a name of at most 100 characters, without a colon".to_owned(),
        Kind::Condition => "a condition such as `record.role == 'user'`".to_owned(),
        Kind::Header => "the name of an HTTP header such as `X-Linkspan-Secret`".to_owned(),
        Kind::ApiVersion => "an API version such as `\"2.11\"`".to_owned(),
        Kind::Url => "an address such as `https://api.example.com`".to_owned(),
        Kind::Address => "an address and port such as `127.0.0.1:8484`".to_owned(),
        Kind::Path => "a file's path".to_owned(),
        Kind::List => "a list's id, or its name of at most 50 characters".to_owned(),
        Kind::MappingFiles => "a list of files such as `[mappings/contacts.yaml]`".to_owned(),
        Kind::Block(_) | Kind::Mapping => "a block of keys".to_owned(),
        Kind::Later(_) | Kind::Never(_) => "nothing".to_owned(),
    }
}

fn secret(text: &str, expected: String) -> Result<Leaf, Refusal> {
    if text.chars().any(|letter| !letter.is_ascii_graphic()) {
        return Err(Refusal::new("a token has no blanks or unusual characters", expected));
    }
    let bare = text.strip_prefix('$');
    if let Some(name) = bare
        && name.chars().all(|letter| letter.is_ascii_uppercase() || letter.is_ascii_digit() || letter == '_')
    {
        return Err(Refusal::new("a variable is written in braces", format!("`${{{name}}}`")));
    }
    Ok(Leaf::Secret(SecretString::from(text.to_owned())))
}

fn word(choices: &'static [Choice], text: &str, expected: String) -> Result<Leaf, Refusal> {
    if let Some(choice) = choices.iter().find(|choice| choice.word == text) {
        return Ok(Leaf::Word(choice.word));
    }
    let refusal = Refusal::new(format!("`{}` is not understood", shorten(text)), expected);
    Err(match nearest(text, choices.iter().map(|choice| choice.word)) {
        Some(near) => refusal.help(format!("Did you mean `{near}`?")),
        None => refusal,
    })
}

/// A token travels with every request, so in the clear it may only go to this machine.
fn api_address(text: &str, expected: &str) -> Result<Leaf, Refusal> {
    let wrong = |problem: &str| Refusal::new(problem, expected);
    let url = Url::parse(text).map_err(|error| wrong(&format!("this is not an address: {error}")))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("an API's address holds no user name or password"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("an API's address ends with its path"));
    }
    let loopback = match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => IpAddr::from(address).is_loopback(),
        Some(url::Host::Ipv6(address)) => IpAddr::from(address).is_loopback(),
        None => return Err(wrong("this is not the address of an API")),
    };
    match url.scheme() {
        "https" => Ok(Leaf::Url(url)),
        "http" if loopback => Ok(Leaf::Url(url)),
        "http" => Err(Refusal::new("plain http would show the token to everybody on the way", "https")
            .help("Plain http is allowed to this machine only (localhost, 127.0.0.1, [::1]).")),
        other => Err(wrong(&format!("`{other}` is not a way to call an API"))),
    }
}

/// Enough of a value to recognise it.
pub(super) fn shorten(text: &str) -> String {
    const ENOUGH: usize = 60;
    if text.chars().count() <= ENOUGH { text.to_owned() } else { text.chars().take(ENOUGH).chain(['…']).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_only_goes_to_this_machine() {
        for fine in ["https://api.eu.intercom.io", "http://127.0.0.1:9", "http://localhost:9/v3", "http://[::1]:9"] {
            assert!(api_address(fine, "").is_ok(), "{fine}");
        }
        for bad in [
            "http://api.intercom.io",
            "http://localhost.evil.example",
            "http://127.0.0.1.evil.example",
            "https://u:p@api.brevo.com",
            "https://api.brevo.com?key=1",
            "ftp://api.brevo.com",
            "api.brevo.com",
            "localhost:80",
        ] {
            assert!(api_address(bad, "").is_err(), "{bad}");
        }
    }
}
