//! The words that records repeat (paths, attribute names, rule keys, fingerprints), kept once: records hold their
//! numbers.

use super::{Result, StoreError};
use crate::model::pack::{self, Words};
use minicbor::{Decode, Encode};
use rusqlite::Connection;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// All words of one state. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Dictionary(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    numbers: BTreeMap<Arc<str>, u32>,
    words: Vec<Arc<str>>,
    /// How many of them are in the file. A word that a failed transaction brought keeps its number, and goes into the
    /// file with the next one that succeeds.
    saved: usize,
    /// Which word came after each when it was asked for last: records of a kind ask for the same words in the same order,
    /// and to compare one word is quicker than to look among all.
    followers: Vec<u32>,
    last: usize,
}

impl Inner {
    fn at(&self, number: u32) -> Option<&Arc<str>> {
        self.words.get(usize::try_from(number).ok()?)
    }

    fn look_up(&mut self, word: &str) -> u32 {
        if let Some(number) = self.numbers.get(word) {
            return *number;
        }
        let word: Arc<str> = word.into();
        let number = u32::try_from(self.words.len()).unwrap_or(u32::MAX);
        self.words.push(Arc::clone(&word));
        self.followers.push(0);
        self.numbers.insert(word, number);
        number
    }
}

impl Words for Inner {
    fn number(&mut self, word: &str) -> u32 {
        let follower =
            self.followers.get(self.last).copied().filter(|number| self.at(*number).is_some_and(|it| **it == *word));
        let number = follower.unwrap_or_else(|| self.look_up(word));
        if follower.is_none()
            && let Some(follower) = self.followers.get_mut(self.last)
        {
            *follower = number;
        }
        self.last = usize::try_from(number).unwrap_or(0);
        number
    }

    fn word(&mut self, number: u32) -> Option<Arc<str>> {
        self.at(number).cloned()
    }
}

impl Dictionary {
    /// Reads words that are in the file and not known yet: those of a running owner, for whoever reads beside it.
    pub(super) fn catch_up(&self, connection: &Connection) -> Result<()> {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = i64::try_from(inner.words.len()).unwrap_or(i64::MAX);
        let mut statement = connection.prepare_cached("SELECT word FROM words WHERE id >= ?1 ORDER BY id")?;
        let words = statement.query_map([known], |row| row.get::<_, String>(0))?;
        for word in words {
            inner.number(&word?);
        }
        inner.saved = inner.words.len();
        Ok(())
    }

    /// Writes the words that are not in the file yet, before a commit. How many there are then.
    pub(super) fn save(&self, connection: &Connection) -> Result<usize> {
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (number, word) in inner.words.iter().enumerate().skip(inner.saved) {
            connection
                .prepare_cached("INSERT INTO words (id, word) VALUES (?1, ?2)")?
                .execute((i64::try_from(number).unwrap_or(i64::MAX), &**word))?;
        }
        Ok(inner.words.len())
    }

    /// After the commit.
    pub(super) fn saved(&self, words: usize) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).saved = words;
    }

    /// A record, to be kept.
    pub(super) fn pack<T: for<'w> Encode<Shared<'w>>>(&self, what: &'static str, record: &T) -> Result<Packed> {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = pack::pack(record, &mut Shared(&mut inner)).map_err(|cause| StoreError::Decode { what, cause })?;
        Ok(Packed { bytes, words: self.clone() })
    }

    /// A record as it was kept.
    pub(super) fn kept(&self, bytes: Vec<u8>) -> Packed {
        Packed { bytes, words: self.clone() }
    }
}

/// Packs records, on whichever thread: what it gives is to be kept by a transaction that begins later.
#[derive(Debug, Clone)]
pub struct Packer(pub(super) Dictionary);

impl Packer {
    /// A record, to be kept.
    ///
    /// # Errors
    /// None that records of ours can cause.
    pub fn pack<T: for<'w> Encode<Shared<'w>>>(&self, what: &'static str, record: &T) -> Result<Packed> {
        self.0.pack(what, record)
    }
}

/// The words while a record is packed or unpacked.
pub struct Shared<'a>(&'a mut Inner);

impl Words for Shared<'_> {
    fn number(&mut self, word: &str) -> u32 {
        self.0.number(word)
    }

    fn word(&mut self, number: u32) -> Option<Arc<str>> {
        self.0.word(number)
    }
}

/// A record as it is kept.
#[derive(Clone)]
pub struct Packed {
    bytes: Vec<u8>,
    words: Dictionary,
}

impl Packed {
    /// The record.
    ///
    /// # Errors
    /// If it is not what `what` says.
    pub fn unpack<T>(&self, what: &'static str) -> Result<T>
    where
        T: for<'b, 'w> Decode<'b, Shared<'w>>,
    {
        let mut inner = self.words.0.lock().unwrap_or_else(PoisonError::into_inner);
        pack::unpack(&self.bytes, &mut Shared(&mut inner)).map_err(|cause| StoreError::Decode { what, cause })
    }

    /// Nothing has been kept yet.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// How many bytes it takes.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Records are personal: only their size is shown.
impl std::fmt::Debug for Packed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_has_one_number_in_whatever_order_it_is_asked_for() {
        let mut inner = Inner::default();
        for order in ["abcabc", "cbaabc", "bbacca"] {
            let numbers: Vec<u32> =
                order.split("").filter(|word| !word.is_empty()).map(|word| inner.number(word)).collect();
            let expected: Vec<u32> = order.bytes().map(|letter| u32::from(letter - b'a')).collect();
            assert_eq!(numbers, expected, "{order}");
        }
        assert_eq!(inner.words.len(), 3);
    }
}
