//! What was probably meant by a name that does not exist. One measure for all: keys, words, paths, filters, timezones.

/// A shorter word than this says too little to guess from.
const SHORTEST: usize = 3;

/// The name that was probably meant, if one is near enough: a slip of the pen, a part of the name (`trunc`), or one of
/// its words (`token`).
pub fn nearest<'a>(written: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = plain(written);
    names
        .filter_map(|name| Some((distance(&wanted, name)?, name.len(), name)))
        .min_by_key(|(distance, length, _)| (*distance, *length))
        .map(|(_, _, name)| name)
}

/// `did you mean …?`, if something was.
pub fn did_you_mean<'a>(written: &str, names: impl Iterator<Item = &'a str>) -> Option<String> {
    nearest(written, names).map(|name| format!("did you mean `{name}`?"))
}

/// Without what people get wrong first: case and the sign between words.
fn plain(name: &str) -> String {
    name.trim().to_lowercase().replace(['-', '_', ' '], "")
}

/// How many slips there may be in so many letters.
fn allowed(letters: usize) -> usize {
    if letters < SHORTEST { 0 } else { (letters / 3).clamp(1, 4) }
}

/// How far a name is from what was written (as [`plain`] gives it); `None` if it is another name altogether. A slip is
/// nearer than a part, a part nearer than a word among others.
fn distance(wanted: &str, name: &str) -> Option<usize> {
    let letters = wanted.chars().count();
    let slips = |name: &str| {
        let slips = strsim::damerau_levenshtein(wanted, name);
        // `x` is no slip of `os`: nothing would be left of it.
        (slips <= allowed(letters) && slips < name.chars().count()).then_some(slips)
    };
    let whole = plain(name);
    if let Some(slips) = slips(&whole) {
        return Some(slips);
    }
    if letters < SHORTEST {
        return None;
    }
    let begins = whole.starts_with(wanted) || whole.chars().count() >= SHORTEST && wanted.starts_with(whole.as_str());
    if begins {
        return Some(10 + whole.len().abs_diff(wanted.len()));
    }
    let words = name.split(['_', '-', ' ', '.', '/']).filter(|word| word.chars().count() >= SHORTEST);
    words.enumerate().filter_map(|(place, word)| Some(100 + 10 * place + slips(&plain(word))?)).min()
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_slip_is_recognised_and_a_stranger_is_not() {
        let names = ["access_token", "api_version", "region"];
        for slip in ["acess_token", "accessToken", "access-token", "access_tokne", "token", "access"] {
            assert_eq!(nearest(slip, names.into_iter()), Some("access_token"), "{slip}");
        }
        for stranger in ["webhook", "x", "", "colour", "é", "---"] {
            assert_eq!(nearest(stranger, names.into_iter()), None, "{stranger}");
        }
    }

    #[test]
    fn two_letters_are_no_ground_for_a_guess_but_capitals_are_none_either() {
        let regions = ["us", "eu", "au"];
        assert_eq!(nearest("uk", regions.into_iter()), None);
        assert_eq!(nearest("EU", regions.into_iter()), Some("eu"));
    }

    #[test]
    fn slips_come_before_parts_and_parts_before_words() {
        let names = ["open_count", "opening", "last_open", "truncate"];
        assert_eq!(nearest("open", names.into_iter()), Some("opening"));
        assert_eq!(nearest("opne_count", names.into_iter()), Some("open_count"));
        assert_eq!(nearest("opn", ["last_open", "open_count"].into_iter()), Some("open_count"));
        assert_eq!(nearest("trunc", names.into_iter()), Some("truncate"));
        assert_eq!(nearest("professional", ["starter", "pro"].into_iter()), Some("pro"));
        assert_eq!(nearest("Oslo", ["Europe/Paris", "Europe/Oslo"].into_iter()), Some("Europe/Oslo"));
    }
}
