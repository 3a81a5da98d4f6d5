//! Phones as Brevo shows and finds them.

/// The digits of a phone, country code first: the form in which Brevo shows a phone, finds a contact by it, and in which
/// two of them are compared. `00` before the country code is the `+` of whoever wrote it: Brevo reads it so, too.
pub fn phone_digits(text: &str) -> String {
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    match digits.strip_prefix("00") {
        Some(rest) if !text.contains('+') => rest.to_owned(),
        _ => digits,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn however_it_is_written_it_is_one_number() {
        for text in ["+33 6 12 34 56 78", "0033612345678", "(33) 612-345-678", "33612345678"] {
            assert_eq!(phone_digits(text), "33612345678");
        }
        assert_eq!(phone_digits("none"), "");
    }
}
