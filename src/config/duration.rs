//! Durations as people write them: `5m`, `1h30m`, `24h`.

use std::time::Duration;

/// What a duration looks like, for messages.
pub(super) const EXPECTED: &str = "a duration such as `30s`, `5m`, `1h30m` or `7d`";

const UNITS: [(&str, u64); 5] = [("w", 604_800), ("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];

/// Ten years: what is longer is a slip, and would only overflow somewhere else.
const LONGEST: u64 = 10 * 365 * 86_400;

/// Reads a duration; `None` if it is none. Units go from large to small, each at most once, so that `1m1h` is noticed.
pub(super) fn parse(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    let mut units = UNITS.iter();
    let mut seconds: u64 = 0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let (name, size) = units.by_ref().find(|(name, _)| rest.starts_with(name))?;
        rest = rest[name.len()..].trim_start();
        seconds = seconds.checked_add(number.checked_mul(*size)?)?;
    }
    (seconds <= LONGEST).then(|| Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        for (text, seconds) in
            [("5m", 300), ("1h30m", 5_400), ("1h 30m", 5_400), ("24h", 86_400), ("7d", 604_800), ("0s", 0), ("90s", 90)]
        {
            assert_eq!(parse(text), Some(Duration::from_secs(seconds)), "{text}");
        }
    }

    #[test]
    fn refuses_what_could_be_misread() {
        for text in [
            "",
            "5",
            "5 m",
            "m",
            "1m1h",
            "5m5m",
            "-5m",
            "1.5h",
            "5min",
            "5ms",
            "999999w",
            "99999999999999999999w",
            "٣m",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
