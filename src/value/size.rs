//! Sizes as people write them, with PostgreSQL's units: `64MB`, multiples of 1024.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Failure};

const UNITS: [(&str, u64); 5] = [
    ("TB", 1 << 40),
    ("GB", 1 << 30),
    ("MB", 1 << 20),
    ("kB", 1 << 10),
    ("B", 1),
];

/// A number of bytes. Read from `64MB`, `10 GB` or a plain number; written as the number in JSON, with a unit for people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "u64", try_from = "Written")]
pub struct Size(pub u64);

#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Bytes(u64),
    Text(String),
}

impl TryFrom<Written> for Size {
    type Error = Error;
    fn try_from(written: Written) -> Result<Self, Error> {
        match written {
            Written::Bytes(bytes) => Ok(Size(bytes)),
            Written::Text(text) => text.parse(),
        }
    }
}

impl From<Size> for u64 {
    fn from(size: Size) -> u64 {
        size.0
    }
}

impl FromStr for Size {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        let refused = || {
            Failure::usage(format!(
                "read the size {text:?}: it is a number and B, kB, MB, GB or TB, like 64MB"
            ))
        };
        let digits = text
            .trim()
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(text.trim().len());
        let (number, unit) = text.trim().split_at(digits);
        let unit = match unit.trim() {
            "" => 1,
            unit => {
                UNITS
                    .iter()
                    .find(|(name, _)| name.eq_ignore_ascii_case(unit))
                    .ok_or_else(refused)?
                    .1
            }
        };
        let number: f64 = number.parse().map_err(|_| refused())?;
        Ok(Size((number * unit as f64) as u64))
    }
}

impl Size {
    /// To three digits at most, for what changes all the time: `7.2 MB`, `118 MB`.
    pub(crate) fn rounded(self) -> String {
        let largest = UNITS.into_iter().find(|(_, unit)| self.0 >= *unit);
        let (name, unit) = largest.unwrap_or(("B", 1));
        match self.0 as f64 / unit as f64 {
            value if unit == 1 || value >= 10.0 => format!("{value:.0} {name}"),
            value => format!("{value:.1} {name}"),
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, unit) = UNITS
            .into_iter()
            .find(|(_, unit)| self.0 >= *unit)
            .unwrap_or(("B", 1));
        match self.0 % unit {
            0 => write!(f, "{} {name}", self.0 / unit),
            _ => write!(f, "{:.1} {name}", self.0 as f64 / unit as f64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        let read = |text: &str| text.parse::<Size>().map(|size| size.0);
        assert_eq!(read("64MB").unwrap(), 64 << 20);
        assert_eq!(read("1.5 gb").unwrap(), 3 << 29);
        assert_eq!(read("8192").unwrap(), 8192);
        assert!(read("-1MB").is_err() && read("64 parsecs").is_err() && read("").is_err());
        assert_eq!(Size(64 << 20).to_string(), "64 MB");
        assert_eq!(Size(1536).to_string(), "1.5 kB");
        assert_eq!(Size(0).to_string(), "0 B");
    }
}
