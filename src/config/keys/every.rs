//! How often something is done: `5m`, a cron line, `never`.

use super::super::duration;
use super::values::{Leaf, Refusal, shorten};
use crate::mapping::nearest;

/// The fields of a cron line, and what each may hold.
const FIELDS: [(&str, &str); 5] = [
    ("minute", "0 to 59"),
    ("hour", "0 to 23"),
    ("day of the month", "1 to 31, or L for the last"),
    ("month", "1 to 12, or JAN to DEC"),
    ("weekday", "0 to 7 (0 and 7 are Sunday), or SUN to SAT"),
];
/// The field that may stand in front of them.
const SECOND: (&str, &str) = ("second", "0 to 59");

const NICKNAMES: [&str; 6] = ["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@hourly"];

/// What a cron line looks like.
const CRON: &str = "minute, hour, day, month, weekday, such as `0 3 * * *` (a sixth field in front is the second)";

/// Reads it; `None` if it is nothing of the kind.
pub(super) fn every(text: &str) -> Option<Result<Leaf, Refusal>> {
    if text == "never" {
        return Some(Ok(Leaf::Never));
    }
    if let Some(duration) = duration::parse(text) {
        return Some(if duration.is_zero() {
            Err(Refusal::new("an interval of nothing", "at least `1s`; to switch it off, write `never`"))
        } else {
            Ok(Leaf::Duration(duration))
        });
    }
    looks_like_cron(text).then(|| match text.parse::<croner::Cron>() {
        _ if text.split_whitespace().count() > 6 => Err(refuse(text)),
        Ok(cron) if !occurs(&cron) => Err(Refusal::new(
            format!("the cron line `{}` never comes true", shorten(text)),
            "a day that exists, such as `0 3 1 * *`",
        )),
        Ok(cron) => Ok(Leaf::Cron(Box::new(cron))),
        Err(_) => Err(refuse(text)),
    })
}

/// Whether somebody meant a cron line: `5 minutes` is none, `0 3 * *` is one with a field too few.
fn looks_like_cron(text: &str) -> bool {
    let fields = text.split_whitespace().count();
    let letter = |letter: char| letter.is_ascii_digit() || "*,-/?#".contains(letter) || letter.is_whitespace();
    text.starts_with('@') || fields >= 5 || fields >= 2 && (text.contains('*') || text.chars().all(letter))
}

/// Whether there is such a time at all: not on 30 February. Any start will do that has a leap year ahead.
fn occurs(cron: &croner::Cron) -> bool {
    cron.find_next_occurrence(&chrono::DateTime::<chrono::Utc>::UNIX_EPOCH, false).is_ok()
}

/// What is wrong with a cron line, in our words: which field it is, each tried alone among stars.
fn refuse(text: &str) -> Refusal {
    let line = shorten(text);
    if text.starts_with('@') {
        let refusal =
            Refusal::new(format!("the cron line `{line}` is no nickname"), format!("one of {}", NICKNAMES.join(", ")));
        return match nearest(text, NICKNAMES.into_iter()) {
            Some(near) => refusal.help(format!("Did you mean `{near}`?")),
            None => refusal,
        };
    }
    let fields: Vec<&str> = text.split_whitespace().collect();
    let names: Vec<(&str, &str)> = match fields.len() {
        5 => FIELDS.to_vec(),
        6 => [SECOND].into_iter().chain(FIELDS).collect(),
        count => return Refusal::new(format!("the cron line `{line}` has {count} fields, not 5 or 6"), CRON),
    };
    let alone = |at: usize, field: &str| {
        let line: Vec<&str> = (0..names.len()).map(|other| if other == at { field } else { "*" }).collect();
        line.join(" ").parse::<croner::Cron>()
    };
    for (at, (field, (name, range))) in fields.iter().zip(&names).enumerate() {
        if alone(at, field).is_err() {
            let problem = format!("the cron line `{line}` cannot be read: `{}` is no {name}", shorten(field));
            return Refusal::new(problem, format!("{range}; or `*`, a list `1,2`, a range `1-5`, steps `*/5`"))
                .help(format!("A cron line here is {CRON}."));
        }
    }
    Refusal::new(format!("the cron line `{line}` cannot be read"), CRON)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_is_a_duration_a_cron_line_or_never() {
        assert!(matches!(every("5m"), Some(Ok(Leaf::Duration(_)))));
        assert!(matches!(every("0 3 * * *"), Some(Ok(Leaf::Cron(_)))));
        assert!(matches!(every("30 0 3 * * MON-FRI"), Some(Ok(Leaf::Cron(_)))));
        assert!(matches!(every("@daily"), Some(Ok(Leaf::Cron(_)))));
        assert!(matches!(every("never"), Some(Ok(Leaf::Never))));
        assert!(matches!(every("0s"), Some(Err(_))));
        assert!(matches!(every("0 0 30 2 *"), Some(Err(_))));
        assert!(matches!(every("0 0 29 2 *"), Some(Ok(_))));
        assert!(every("sometimes").is_none() && every("5 minutes").is_none() && every("").is_none());
        for nickname in NICKNAMES {
            assert!(matches!(every(nickname), Some(Ok(Leaf::Cron(_)))), "{nickname}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_cron_line_is_said_in_our_words() {
        let told: Vec<String> = [
            "61 3 * * *",
            "0 24 * * *",
            "0 3 32 * *",
            "0 3 * 13 *",
            "0 3 * * 8",
            "0 3 * * Monday",
            "0 3 * *",
            "0 3 1 1",
            "0 0 3 * * * 2030",
            "99 0 3 * * *",
            "*/0 * * * *",
            "5-1 * * * *",
            "0 3 * * * # nightly",
            "@dayly",
            "@reboot",
        ]
        .iter()
        .map(|text| match every(text) {
            Some(Err(refusal)) => {
                let help = refusal.help.map(|help| format!("\n    {help}")).unwrap_or_default();
                format!("{}\n    {}{help}", refusal.problem, refusal.expected)
            }
            other => panic!("{text}: {other:?}"),
        })
        .collect();
        insta::assert_snapshot!(told.join("\n"));
    }
}
