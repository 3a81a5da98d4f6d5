//! Something of which there is one on each side.

use super::SideName;
use minicbor::decode::Error as DecodeError;
use minicbor::encode::{Error as EncodeError, Write};
use minicbor::{Decode, Decoder, Encode, Encoder};
use serde::{Deserialize, Serialize};
use std::ops::{Index, IndexMut};

/// One for each side. Packed, Brevo's comes first, and Intercom's takes no space where there is none: most of what is
/// kept by side is about what we write, and most of that goes to Brevo.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sides<T> {
    /// Intercom's.
    pub intercom: T,
    /// Brevo's.
    pub brevo: T,
}

impl<T> Sides<T> {
    /// Made from each side's name.
    pub fn from_fn(mut make: impl FnMut(SideName) -> T) -> Self {
        Self { intercom: make(SideName::Intercom), brevo: make(SideName::Brevo) }
    }

    /// This one on this side, that one on the other.
    pub fn with(side: SideName, own: T, others: T) -> Self {
        match side {
            SideName::Intercom => Self { intercom: own, brevo: others },
            SideName::Brevo => Self { intercom: others, brevo: own },
        }
    }

    /// Each side's, by reference.
    pub fn as_ref(&self) -> Sides<&T> {
        Sides { intercom: &self.intercom, brevo: &self.brevo }
    }
}

impl<T> Index<SideName> for Sides<T> {
    type Output = T;

    fn index(&self, side: SideName) -> &T {
        match side {
            SideName::Intercom => &self.intercom,
            SideName::Brevo => &self.brevo,
        }
    }
}

impl<T> IndexMut<SideName> for Sides<T> {
    fn index_mut(&mut self, side: SideName) -> &mut T {
        match side {
            SideName::Intercom => &mut self.intercom,
            SideName::Brevo => &mut self.brevo,
        }
    }
}

impl<C, T: Encode<C>> Encode<C> for Sides<T> {
    fn encode<W: Write>(&self, e: &mut Encoder<W>, ctx: &mut C) -> Result<(), EncodeError<W::Error>> {
        if self.intercom.is_nil() {
            e.array(1)?;
            return self.brevo.encode(e, ctx);
        }
        e.array(2)?;
        self.brevo.encode(e, ctx)?;
        self.intercom.encode(e, ctx)
    }

    fn is_nil(&self) -> bool {
        self.intercom.is_nil() && self.brevo.is_nil()
    }
}

impl<'b, C, T: Decode<'b, C>> Decode<'b, C> for Sides<T> {
    fn decode(d: &mut Decoder<'b>, ctx: &mut C) -> Result<Self, DecodeError> {
        let wrong = || DecodeError::message("not a pair of sides");
        let length = d.array()?;
        let brevo = T::decode(d, ctx)?;
        let intercom = match length {
            Some(1) => T::nil().ok_or_else(wrong)?,
            Some(2) => T::decode(d, ctx)?,
            _ => return Err(wrong()),
        };
        Ok(Self { intercom, brevo })
    }

    fn nil() -> Option<Self> {
        Some(Self { intercom: T::nil()?, brevo: T::nil()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Encode, Decode)]
    struct Kept {
        #[n(0)]
        both: Sides<Vec<u8>>,
        #[n(1)]
        perhaps: Sides<Option<u8>>,
    }

    #[test]
    fn what_is_absent_takes_no_space() {
        for (intercom, brevo, length) in
            [(None, None, 5), (None, Some(7), 7), (Some(7), None, 8), (Some(7), Some(8), 8)]
        {
            let kept = Kept { both: Sides { intercom: vec![1], brevo: vec![] }, perhaps: Sides { intercom, brevo } };
            let bytes = minicbor::to_vec(&kept).unwrap();
            assert_eq!(bytes.len(), length, "{kept:?}: {bytes:?}");
            assert_eq!(minicbor::decode::<Kept>(&bytes).unwrap(), kept);
        }
        assert!(minicbor::decode::<Sides<Vec<u8>>>(&[0x80]).is_err(), "nothing is no pair");
    }
}
