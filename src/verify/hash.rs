//! How a row becomes 64 bits, the same on both servers.

use crate::error::{Result, WrapErr};
use crate::server::{Session, params};

/// The function of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hash {
    /// From 11 on, with a seed of the run.
    Seeded(i64),
    /// With 10 on one side: two halves of 32 bits.
    Halves,
    /// Where the servers' own functions differ, as on machines of another byte order.
    Md5,
}

impl Hash {
    /// The expression that hashes `record`, a bytea. `Halves` reads it twice: it must be a column of a subquery that is
    /// not pulled up.
    pub(super) fn of(self, record: &str) -> String {
        match self {
            Hash::Seeded(seed) => format!("hash_array_extended(ARRAY[{record}], {seed})"),
            Hash::Halves => format!(
                "(hash_array(ARRAY[{record}])::bigint << 32 \
                 | (hash_array(ARRAY['\\x01'::bytea || {record}])::bigint & 4294967295))"
            ),
            Hash::Md5 => format!("('x' || left(md5({record}), 16))::bit(64)::bigint"),
        }
    }

    /// Whether the record is read twice.
    pub(super) fn reads_twice(self) -> bool {
        self == Hash::Halves
    }

    /// What both servers compute alike: tried with a constant.
    pub(super) fn agreed(publisher: (&Session, i32), subscriber: (&Session, i32)) -> Result<Hash> {
        let native = match publisher.1.min(subscriber.1) {
            ..=10 => Hash::Halves,
            _ => Hash::Seeded((uuid::Uuid::new_v4().as_u128() >> 66) as i64),
        };
        let sql = format!(
            "SELECT {}",
            native.of("'\\x00017f80ff0a0b0c0d0e0f1011'::bytea")
        );
        let of = |session: &Session| -> Result<i64> {
            session
                .value(&sql, params![])
                .wrap_err("hash a constant to see whether both servers do it alike")
        };
        if of(publisher.0)? == of(subscriber.0)? {
            Ok(native)
        } else {
            Ok(Hash::Md5)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_hashes_twice_to_have_64_bits() {
        assert!(Hash::Halves.of("b").matches("hash_array(").count() == 2);
        assert_eq!(Hash::Seeded(7).of("b"), "hash_array_extended(ARRAY[b], 7)");
    }
}
