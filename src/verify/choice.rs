//! Which way a table is gone through, and whose keys bound its chunks.

use super::data::DataOptions;
use super::pinned::Pinned;
use super::report::Walk;
use super::table::Table;
use crate::error::{Result, WrapErr};
use crate::server::{Side, params};

/// Below this correlation a range of the key is all over the disk.
const RANDOM: f64 = 0.5;

pub(super) fn cached_bytes(pinned: &Pinned) -> Result<i64> {
    pinned
        .session()
        .value(
            "SELECT pg_size_bytes(current_setting('shared_buffers'))",
            params![],
        )
        .wrap_err("read shared_buffers")
}

/// Whose keys bound the chunks: the subscriber's, which has less to do, unless the publisher's encoding cannot spell all.
pub(super) fn bounding(publisher: &Pinned, subscriber: &Pinned) -> Result<Side> {
    let encoding = |pinned: &Pinned| -> Result<String> {
        pinned
            .session()
            .value("SELECT current_setting('server_encoding')", params![])
            .wrap_err("read the encoding")
    };
    let ours = encoding(publisher)?;
    Ok(if ours == "UTF8" || ours == encoding(subscriber)? {
        Side::Subscriber
    } else {
        Side::Publisher
    })
}

/// How a table is gone through.
pub(super) fn walk_of(table: &Table, options: &DataOptions, cached_bytes: i64) -> Walk {
    let random = table
        .correlation
        .is_some_and(|it| it.abs() < RANDOM && table.bytes > cached_bytes / 4);
    match (&table.key, random && options.sample_percent.is_none()) {
        (None, _) => Walk::Rows,
        (Some(_), true) => Walk::Buckets,
        (Some(_), false) => Walk::Ranges,
    }
}
