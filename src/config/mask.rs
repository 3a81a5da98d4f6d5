//! Masks what must not be shown in a picture of the file, without moving anything.

/// Words in a key that make its value a secret, whatever the key turns out to be.
const TELLING: [&str; 6] = ["token", "secret", "key", "password", "passwd", "authorization"];

/// The text with the given ranges, and the values of keys that sound secret, as stars. Lengths in bytes stay, so that
/// every place still points at what it pointed at. References to variables (`${NAME}`) stay readable.
pub(super) fn mask(text: &str, ranges: impl Iterator<Item = (usize, usize)>) -> String {
    let mut hidden: Vec<(usize, usize)> = ranges.collect();
    // By line too: a file that is not YAML has no ranges, and it may hold secrets all the same.
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let lower = line.to_ascii_lowercase();
        let told = TELLING.iter().filter_map(|word| lower.find(word)).min();
        if let Some(colon) = told.and_then(|told| line[told..].find(':').map(|colon| told + colon)) {
            hidden.push((start + colon + 1, start + line.len()));
        }
        start += line.len();
    }
    let mut secret = vec![false; text.len()];
    for (from, to) in hidden {
        let to = to.min(text.len());
        secret[from.min(to)..to].fill(true);
    }
    let mut shown = String::with_capacity(text.len());
    let mut keep_until = 0;
    for (at, letter) in text.char_indices() {
        if at >= keep_until
            && let Some(length) = reference(&text[at..])
        {
            keep_until = at + length;
        }
        let harmless = letter.is_whitespace() || matches!(letter, '"' | '\'' | '{' | '}' | ',' | '#');
        if secret[at] && !harmless && at >= keep_until {
            shown.extend(std::iter::repeat_n('*', letter.len_utf8()));
        } else if letter.is_control() && !matches!(letter, '\n' | '\r' | '\t') {
            // A terminal would obey it.
            shown.extend(std::iter::repeat_n('?', letter.len_utf8()));
        } else {
            shown.push(letter);
        }
    }
    shown
}

/// The runs in a text that look like tokens: long, without blanks or path separators.
pub(super) fn token_like(text: &str) -> impl Iterator<Item = (usize, usize)> {
    const LONG: usize = 12;
    let part = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '+' | '/' | '=' | '_' | '-');
    let mut start = 0;
    text.split_inclusive(move |letter| !part(letter)).filter_map(move |run| {
        let from = start;
        start += run.len();
        let length = run.trim_end_matches(|letter| !part(letter)).len();
        let key = text[from + length..].starts_with(':')
            && run[..length].chars().all(|letter| letter.is_ascii_lowercase() || letter == '_');
        (length >= LONG && !key).then_some((from, from + length))
    })
}

/// Length of a `${NAME}` that the text begins with. One with a default is no mere reference: the default is a value.
fn reference(text: &str) -> Option<usize> {
    let name = text.strip_prefix("${")?;
    let end = name.find('}')?;
    name[..end].chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_').then_some(end + 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_keys_that_sound_secret_are_stars_even_in_broken_files() {
        let text = "a: 1\nacess_token: dG9rOmFi\napi_key: \"${BREVO}\"\nx: [ {key: abc}\n";
        let masked = mask(text, std::iter::empty());
        assert_eq!(
            masked,
            "a: 1\nacess_token: ********\napi_key: \"${BREVO}\"\nx: [ {key: abc}\n".replace("abc", "***")
        );
    }

    #[test]
    fn what_looks_like_a_token_is_found_but_not_keys() {
        let text = "access_token_of_mine: [xkeysib-0a1b2c3d4e, short]";
        let found: Vec<&str> = token_like(text).map(|(from, to)| &text[from..to]).collect();
        assert_eq!(found, ["xkeysib-0a1b2c3d4e"]);
    }

    #[test]
    fn ranges_are_stars_and_keep_their_length() {
        let text = "a: grün ${X} ${Y:-geheim}";
        let masked = mask(text, [(3, text.len())].into_iter());
        assert_eq!(masked.len(), text.len());
        assert!(masked.contains("${X}") && !masked.contains("geheim") && !masked.contains("gr"));
    }
}
