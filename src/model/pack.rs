//! How records are kept: as CBOR, with numbers for the words that repeat in every record (paths, attribute names, rule
//! keys). The index of a field never changes its meaning, so that older states stay readable: new fields get new
//! indices, and what is missing is read as its default.

use super::{Number, Value};
use chrono::{DateTime, Datelike as _, NaiveDate, Utc};
use minicbor::data::{Tag, Type};
use minicbor::decode::Error as DecodeError;
use minicbor::encode::{Error as EncodeError, Write};
use minicbor::{Decode, Decoder, Encode, Encoder};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Words and their numbers. Whoever keeps records keeps these beside them.
pub trait Words {
    /// The word's number; a new one if it has none yet.
    fn number(&mut self, word: &str) -> u32;
    /// The word with this number.
    fn word(&mut self, number: u32) -> Option<Arc<str>>;
}

/// A calendar day: days since the beginning of our era.
const DAY: Tag = Tag::new(100);
/// An instant: milliseconds since 1970.
const INSTANT: Tag = Tag::new(1);
/// A structure: its JSON as text.
const STRUCTURE: Tag = Tag::new(262);

impl<C> Encode<C> for Value {
    fn encode<W: Write>(&self, e: &mut Encoder<W>, ctx: &mut C) -> Result<(), EncodeError<W::Error>> {
        match self {
            Self::Text(text) => e.str(text)?.ok(),
            Self::Number(Number::Whole(number)) => e.i64(*number)?.ok(),
            Self::Number(Number::Fraction(number)) => e.f64(*number)?.ok(),
            Self::Boolean(flag) => e.bool(*flag)?.ok(),
            Self::Date(day) => e.tag(DAY)?.i32(day.num_days_from_ce())?.ok(),
            Self::Instant(instant) => e.tag(INSTANT)?.i64(instant.timestamp_millis())?.ok(),
            Self::List(items) => items.encode(e, ctx),
            Self::Structure(json) => e.tag(STRUCTURE)?.str(&json.to_string())?.ok(),
        }
    }
}

impl<'b, C> Decode<'b, C> for Value {
    fn decode(d: &mut Decoder<'b>, ctx: &mut C) -> Result<Self, DecodeError> {
        Ok(match d.datatype()? {
            Type::String => Self::Text(d.str()?.to_owned()),
            Type::Bool => Self::Boolean(d.bool()?),
            Type::F16 | Type::F32 | Type::F64 => Self::Number(Number::Fraction(d.f64()?)),
            Type::Array => Self::List(Vec::decode(d, ctx)?),
            Type::Tag => match d.tag()? {
                DAY => {
                    let day = NaiveDate::from_num_days_from_ce_opt(d.i32()?);
                    Self::Date(day.ok_or_else(|| DecodeError::message("a day that no calendar has"))?)
                }
                INSTANT => Self::Instant(instant(d.i64()?)?),
                STRUCTURE => {
                    let json = serde_json::from_str(d.str()?);
                    Self::Structure(json.map_err(|_| DecodeError::message("a structure that is no JSON"))?)
                }
                _ => return Err(DecodeError::message("a value of an unknown kind")),
            },
            _ => Self::Number(Number::Whole(d.i64()?)),
        })
    }
}

fn instant(millis: i64) -> Result<DateTime<Utc>, DecodeError> {
    DateTime::from_timestamp_millis(millis).ok_or_else(|| DecodeError::message("an instant out of range"))
}

/// For `#[cbor(with = …)]`: an instant as milliseconds.
pub mod millis {
    use super::{DateTime, DecodeError, Decoder, EncodeError, Encoder, Utc, Write};

    /// Writes it.
    pub fn encode<C, W: Write>(
        instant: &DateTime<Utc>,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), EncodeError<W::Error>> {
        e.i64(instant.timestamp_millis())?.ok()
    }

    /// Reads it.
    pub fn decode<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<DateTime<Utc>, DecodeError> {
        super::instant(d.i64()?)
    }
}

/// For `#[cbor(with = …)]`: a word as its number.
pub mod word {
    use super::{DecodeError, Decoder, EncodeError, Encoder, Words, Write};

    /// Writes it.
    pub fn encode<C: Words, W: Write>(
        word: &str,
        e: &mut Encoder<W>,
        words: &mut C,
    ) -> Result<(), EncodeError<W::Error>> {
        e.u32(words.number(word))?.ok()
    }

    /// Reads it.
    pub fn decode<C: Words>(d: &mut Decoder<'_>, words: &mut C) -> Result<String, DecodeError> {
        let word = words.word(d.u32()?).ok_or_else(|| DecodeError::message("a word that is not in the state"))?;
        Ok((*word).to_owned())
    }
}

/// For `#[cbor(with = …)]`: a map whose keys are words.
pub mod by_word {
    use super::{BTreeMap, Decode, DecodeError, Decoder, Encode, EncodeError, Encoder, Words, Write, word};

    /// Writes it.
    pub fn encode<C: Words, W: Write, V: Encode<C>>(
        map: &BTreeMap<String, V>,
        e: &mut Encoder<W>,
        words: &mut C,
    ) -> Result<(), EncodeError<W::Error>> {
        e.map(map.len() as u64)?;
        for (key, value) in map {
            word::encode(key, e, words)?;
            value.encode(e, words)?;
        }
        Ok(())
    }

    /// Reads it.
    pub fn decode<'b, C: Words, V: Decode<'b, C>>(
        d: &mut Decoder<'b>,
        words: &mut C,
    ) -> Result<BTreeMap<String, V>, DecodeError> {
        let length = d.map()?.ok_or_else(|| DecodeError::message("a map without a length"))?;
        (0..length).map(|_| Ok((word::decode(d, words)?, V::decode(d, words)?))).collect()
    }
}

/// A word of its own, where a map's values are words too.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(transparent, context_bound = "Words")]
pub struct Word(
    #[n(0)]
    #[cbor(with = "word")]
    pub String,
);

/// A record as bytes.
///
/// # Errors
/// None that records of ours can cause.
pub fn pack<W: Words, T: Encode<W>>(record: &T, words: &mut W) -> Result<Vec<u8>, String> {
    minicbor::to_vec_with(record, words).map_err(|error| error.to_string())
}

/// A record from its bytes.
///
/// # Errors
/// If the bytes are not such a record.
pub fn unpack<W: Words, T: for<'b> Decode<'b, W>>(bytes: &[u8], words: &mut W) -> Result<T, String> {
    minicbor::decode_with(bytes, words).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[derive(Default)]
    struct Book(Vec<Arc<str>>);

    impl Words for Book {
        fn number(&mut self, word: &str) -> u32 {
            let known = self.0.iter().position(|there| &**there == word);
            let number = known.unwrap_or_else(|| {
                self.0.push(word.into());
                self.0.len() - 1
            });
            u32::try_from(number).unwrap()
        }

        fn word(&mut self, number: u32) -> Option<Arc<str>> {
            self.0.get(number as usize).cloned()
        }
    }

    #[derive(Debug, PartialEq, Encode, Decode)]
    #[cbor(context_bound = "Words")]
    struct Kept {
        #[n(0)]
        #[cbor(with = "by_word")]
        fields: BTreeMap<String, Value>,
    }

    #[test]
    fn every_kind_of_value_survives_and_words_are_kept_once() {
        let mut fields: BTreeMap<String, Value> = [
            json!("x"),
            json!(3),
            json!(-3),
            json!(2.5),
            json!(1e300),
            json!(true),
            json!(["a", "b"]),
            json!({"a": [1]}),
        ]
        .iter()
        .enumerate()
        .map(|(number, json)| (format!("custom_attributes.a_long_name_{number}"), Value::from_json(json).unwrap()))
        .collect();
        fields.insert("day".into(), Value::Date(NaiveDate::from_ymd_opt(-44, 3, 15).unwrap()));
        fields.insert("time".into(), Value::Instant(DateTime::from_timestamp_millis(1_763_000_000_123).unwrap()));
        let (kept, mut book) = (Kept { fields }, Book::default());
        let bytes = pack(&kept, &mut book).unwrap();
        assert!(bytes.len() < 100, "{}", bytes.len());
        assert_eq!(unpack::<_, Kept>(&bytes, &mut book).unwrap(), kept);
        assert_eq!(pack(&kept, &mut book).unwrap(), bytes, "no word is numbered twice");
    }

    #[test]
    fn what_is_no_record_is_an_error() {
        for bytes in [&b""[..], b"{}", &[0x81, 0xa1, 0x18], &[0xff; 40], &[0x81, 0xa1, 0x05, 0x01]] {
            assert!(unpack::<_, Kept>(bytes, &mut Book::default()).is_err());
        }
    }
}
