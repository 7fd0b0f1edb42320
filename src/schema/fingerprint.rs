//! A short text for a whole dump, equal when it makes the same objects: for comparing what can no longer be dumped.

use std::io::BufRead;

use super::objects::{Object, Objects};
use super::tokens::Tokens;
use crate::error::Result;

/// 128 bits of FNV-1a: changes that people make are seen, those that somebody makes up to deceive need not be.
#[derive(Clone, Copy)]
struct Fnv(u128);

impl Fnv {
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;

    fn add(&mut self, bytes: &[u8]) {
        // The length keeps "ab", "c" apart from "a", "bc".
        let length = (bytes.len() as u64).to_le_bytes();
        for byte in bytes.iter().chain(&length) {
            self.0 = (self.0 ^ u128::from(*byte)).wrapping_mul(Self::PRIME);
        }
    }
}

/// The fingerprint of a rewritten dump. Order, blanks, comments, flare's own objects and replica identities, which flare
/// sets itself, do not count.
pub(crate) fn fingerprint(dump: impl BufRead) -> Result<String> {
    let mut sum: u128 = 0;
    for object in Objects::new(dump) {
        let Object { key, statements } = object?;
        let name = key.to_string();
        for statement in statements {
            let tokens = Tokens::of(&statement);
            if tokens.start("ALTER TABLE ONLY") && tokens.find("REPLICA IDENTITY").is_some() {
                continue;
            }
            let mut hash = Fnv(Fnv::OFFSET);
            hash.add(name.as_bytes());
            tokens.raws().iter().for_each(|token| hash.add(token));
            sum = sum.wrapping_add(hash.0);
        }
    }
    Ok(format!("{sum:032x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, statement: &str) -> String {
        format!("--\n-- Name: {name}; Type: TABLE; Schema: app; Owner: me\n--\n\n{statement}\n\n")
    }

    fn of(parts: &[String]) -> String {
        fingerprint(parts.concat().as_bytes()).unwrap()
    }

    #[test]
    fn only_what_is_made_counts() {
        let a = entry("a", "CREATE TABLE app.a (b int);");
        let b = entry("b", "CREATE TABLE app.b (c int);");
        let of_both = of(&[a.clone(), b.clone()]);
        let head = "-- Dumped by pg_dump\nSET x = 0;\n".to_owned();
        assert_eq!(of(&[head, b.clone(), a]), of_both);
        let spaced = entry("a", "CREATE  TABLE app.a (\n  b int -- c\n);");
        let identity = entry(
            "b",
            "CREATE TABLE app.b (c int);\nALTER TABLE ONLY app.b REPLICA IDENTITY FULL;",
        );
        assert_eq!(of(&[spaced, identity]), of_both);
        let other = entry("a", "CREATE TABLE app.a (b bigint);");
        assert_ne!(of(&[other, b]), of_both);
    }
}
