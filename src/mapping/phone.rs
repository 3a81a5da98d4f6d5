//! Phone numbers in the form that both vendors understand: E.164.

use crate::model::phone_digits;
use rlibphonenumber::{PHONE_NUMBER_UTIL, PhoneNumberFormat, Region};

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

/// The digits of the shortest numbers that there are, country code included (Niue's).
const SHORTEST: usize = 7;

/// Whether this is a region that phone numbers are known for (`NO`, `FR`, `US` …), in capitals.
pub fn is_region(region: &str) -> bool {
    region_of(region).is_some()
}

fn region_of(region: &str) -> Option<Region> {
    // The library takes small letters too, and `001` for numbers of no country.
    if region.len() != 2 || !region.bytes().all(|letter| letter.is_ascii_uppercase()) {
        return None;
    }
    let region = Region::from_code(region).ok()?;
    PHONE_NUMBER_UTIL.get_supported_regions().any(|known| known == region).then_some(region)
}

/// `+` and digits. A leading `00` counts as `+`, as Brevo reads it too.
pub fn to_e164(text: &str, default_region: Option<&str>) -> Result<String, PhoneError> {
    let text = text.trim();
    // A number of hundreds of digits is nobody's; refuse before parsing.
    if text.chars().count() > 60 {
        return Err(PhoneError::Invalid);
    }
    let international = text.strip_prefix("00").map_or_else(|| text.to_owned(), |rest| format!("+{rest}"));
    let region = default_region.and_then(region_of);
    let has_country = international.starts_with(['+', '＋']) || international.starts_with("tel:+");
    if region.is_none() && !has_country {
        return Err(PhoneError::NoCountry);
    }
    // The default region is for numbers without a country only. Given both, the library takes the region's trunk prefix
    // off another country's number: +49 151… became +49 51… where the region was US.
    let region = if has_country { None } else { region };
    let number = PHONE_NUMBER_UTIL.parse(&international, region).map_err(|_| PhoneError::Invalid)?;
    if !PHONE_NUMBER_UTIL.is_valid_number(&number) {
        return Err(PhoneError::Invalid);
    }
    let formatted = PHONE_NUMBER_UTIL.format(&number, PhoneNumberFormat::E164).into_owned();
    // The library knows places where a few digits are a number; no country hands out less than this with its code.
    if formatted.len() <= SHORTEST {
        return Err(PhoneError::Invalid);
    }
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

    #[test]
    fn a_national_number_gets_its_country_from_the_default_region() {
        assert_eq!(to_e164("0151 63007470", Some("DE")).as_deref(), Ok("+4915163007470"));
        assert_eq!(to_e164("0049 151 63007470", Some("US")).as_deref(), Ok("+4915163007470"));
        assert_eq!(to_e164("0151 63007470", None), Err(PhoneError::NoCountry));
        assert_eq!(to_e164("12345", Some("DE")), Err(PhoneError::Invalid));
        assert_eq!(to_e164("١٦٤٠", Some("DE")), Err(PhoneError::Invalid), "+491640 is nobody's");
        assert_eq!(to_e164("+6834002", None).as_deref(), Ok("+6834002"));
    }

    #[test]
    fn regions_are_two_capitals_that_have_numbers() {
        assert!(is_region("NO") && is_region("FR") && is_region("US"));
        for wrong in ["no", "", "XX", "ZZ", "001", "NOR", "Norway"] {
            assert!(!is_region(wrong), "{wrong}");
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_typed_comes_out_as_plus_and_digits_or_not_at_all(
            text in "[+0-9０-９٠-٩ ()./;=a-z-]{0,70}|\\PC{0,70}",
            region in 0..4_usize,
        ) {
            if let Ok(number) = to_e164(&text, [None, Some("US"), Some("DE"), Some("IT")][region]) {
                let digits = number.strip_prefix('+').unwrap_or_default();
                proptest::prop_assert!((7..=15).contains(&digits.len()), "{number}");
                proptest::prop_assert!(digits.bytes().all(|digit| digit.is_ascii_digit()), "{number}");
                // What it came to is what it comes to again.
                proptest::prop_assert_eq!(to_e164(&number, Some("US")), Ok(number));
            }
        }
    }
}
