//! Phone numbers in the form that both vendors understand: E.164.

use crate::model::phone_digits;
use std::str::FromStr;

/// Why a number was not taken. The number itself is never repeated: it is personal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PhoneError {
    /// No country code, and no default region to add one.
    #[error("the phone number has no country code, and no default phone region is set")]
    NoCountry,
    /// Not a number that exists in its country's plan.
    #[error("not a valid phone number")]
    Invalid,
}

/// Loads what is known of the world's numbering plans, which takes a few tenths of a second of one core, so that the
/// first phone number need not wait for it.
pub fn warm_up() {
    // What becomes of it is of no interest.
    drop(to_e164("+12025550123", None));
}

/// Whether this is a region that phone numbers are known for (`NO`, `FR`, `US` …).
pub fn is_region(region: &str) -> bool {
    phonenumber::country::Id::from_str(region).is_ok()
}

/// `+` and digits. A leading `00` counts as `+`, as Brevo reads it too.
pub fn to_e164(text: &str, default_region: Option<&str>) -> Result<String, PhoneError> {
    let text = text.trim();
    // A number of hundreds of digits is nobody's; refuse before parsing.
    if text.chars().count() > 60 {
        return Err(PhoneError::Invalid);
    }
    let international = text.strip_prefix("00").map_or_else(|| text.to_owned(), |rest| format!("+{rest}"));
    let region = default_region.and_then(|region| phonenumber::country::Id::from_str(region).ok());
    let has_country = international.starts_with(['+', '＋']) || international.starts_with("tel:+");
    if region.is_none() && !has_country {
        return Err(PhoneError::NoCountry);
    }
    // The default region is for numbers without a country only. Given both, the library takes the region's trunk prefix
    // off another country's number: +49 151… became +49 51… where the region was US.
    let region = if has_country { None } else { region };
    let number = phonenumber::parse(region, &international).map_err(|_| PhoneError::Invalid)?;
    if !number.is_valid() {
        return Err(PhoneError::Invalid);
    }
    let formatted = number.format().mode(phonenumber::Mode::E164).to_string();
    // A number that came with its country is never turned into another one: better none than somebody else's. Only a
    // trunk zero in brackets, as in +44 (0)7400…, may go.
    if has_country && !international.contains('(') && phone_digits(&formatted) != phone_digits(&international) {
        return Err(PhoneError::Invalid);
    }
    Ok(formatted)
}

/// The form in which Brevo's read of `SMS` is compared: `+` and digits (Brevo drops the `+`).
pub fn observed(text: &str) -> Option<String> {
    let digits = phone_digits(text);
    if digits.is_empty() { None } else { Some(format!("+{digits}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_with_its_country_stays_what_it_is_whatever_the_default_region() {
        for region in [None, Some("US"), Some("DE"), Some("FR"), Some("GB")] {
            for number in ["+4915163007470", "+12025550123", "+33612345678", "+447400123456", "+390612345678"] {
                assert_eq!(to_e164(number, region).as_deref(), Ok(number), "{region:?}");
            }
        }
        assert_eq!(to_e164("+44 (0)7400 123456", Some("US")).as_deref(), Ok("+447400123456"));
    }
}
