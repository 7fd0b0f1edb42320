//! Positions in the write-ahead log (manual: `pg_lsn` type).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Failure};

/// A log sequence number; as text `16/B374D848`, as PostgreSQL prints it.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(into = "String", try_from = "String")]
pub struct Lsn(pub u64);

impl Lsn {
    /// Bytes of write-ahead log from `earlier` to here; 0 when `earlier` is not earlier.
    pub fn bytes_since(self, earlier: Lsn) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

impl From<Lsn> for String {
    fn from(lsn: Lsn) -> String {
        lsn.to_string()
    }
}

impl TryFrom<String> for Lsn {
    type Error = Error;
    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl FromStr for Lsn {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        let halves = text.split_once('/').and_then(|(high, low)| {
            let high = u32::from_str_radix(high, 16).ok()?;
            let low = u32::from_str_radix(low, 16).ok()?;
            Some((u64::from(high) << 32) | u64::from(low))
        });
        halves.map(Lsn).ok_or_else(|| {
            Failure::new(format!(
                "read the LSN {text:?}: it is not written like 16/B374D848"
            ))
            .into()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn text_comes_back_as_it_was(position: u64) {
            prop_assert_eq!(Lsn(position).to_string().parse::<Lsn>().unwrap(), Lsn(position));
        }
    }

    #[test]
    fn distance_is_never_negative() {
        let [a, b]: [Lsn; 2] = ["0/16B3748", "1/0"].map(|text| text.parse().unwrap());
        assert_eq!(b.bytes_since(a), (1 << 32) - 0x16B3748);
        assert_eq!(a.bytes_since(b), 0);
        assert!("16".parse::<Lsn>().is_err() && "x/1".parse::<Lsn>().is_err());
    }
}
