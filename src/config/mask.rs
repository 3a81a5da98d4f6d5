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
        if let Some(colon) = line.find(": ").or_else(|| line.find(":\t"))
            && TELLING.iter().any(|word| line[..colon].to_ascii_lowercase().contains(word))
        {
            hidden.push((start + colon + 1, start + line.len()));
        }
        start += line.len();
    }
    let mut bytes = String::with_capacity(text.len());
    let mut keep_until = 0;
    for (at, letter) in text.char_indices() {
        if at >= keep_until
            && let Some(length) = reference(&text[at..])
        {
            keep_until = at + length;
        }
        let secret = hidden.iter().any(|&(from, to)| (from..to).contains(&at));
        let harmless = letter.is_whitespace() || matches!(letter, '"' | '\'' | '{' | '}' | ',' | '#');
        if secret && !harmless && at >= keep_until {
            bytes.extend(std::iter::repeat_n('*', letter.len_utf8()));
        } else {
            bytes.push(letter);
        }
    }
    bytes
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
    fn ranges_are_stars_and_keep_their_length() {
        let text = "a: grün ${X} ${Y:-geheim}";
        let masked = mask(text, [(3, text.len())].into_iter());
        assert_eq!(masked.len(), text.len());
        assert!(masked.contains("${X}") && !masked.contains("geheim") && !masked.contains("gr"));
    }
}
