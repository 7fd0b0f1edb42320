//! Proof that both sides agree.
//!
//! # Rows, while the application writes
//!
//! Both servers hash the rows of a chunk in one [canonical form](canonical) and sum the hashes. Statements start on both
//! at once, so a chunk differs only by what is under way. The rows of a chunk that differs are candidates, and each is
//! looked at in rounds until something is proven about it ([`evidence`]). A round is:
//!
//! 1. *before*: one statement on the publisher: hash, version (`xmin`, `ctid`) and `xmax = 0` of every candidate, and the
//!    snapshot's xmin and xmax;
//! 2. a probe row, committed on the publisher, is awaited on the subscriber;
//! 3. *subscriber*: hash and version of the same keys there;
//! 4. *after*: as 1. Every transaction that the subscriber can have applied by 3 has an id below this snapshot's xmax, T0.
//!
//! **Equal**: the subscriber's row, or its absence, is among those that the publisher has shown in this check.
//!
//! **Different**: one of
//! - *before* and *after* are one version, nobody has set its xmax, and the subscriber has another row;
//! - the publisher's version is that of an earlier round's *before*, this snapshot's xmin has reached that round's T0, and
//!   that round's subscriber had another row;
//! - the subscriber's version is that of an earlier round, this snapshot's xmin has reached that round's T0, and *before*
//!   is another row (this is how rows are found that the publisher does not have).
//!
//! **Undecided**: neither within ten rounds, nor when a row that keeps changing is [followed](hot) as fast as probes go.
//!
//! *No false alarm.* One subscription applies transactions in the order of their commits, so the subscriber always shows
//! the publisher as of one commit. By the probe, that commit is not before *before*. It may be later than what *after*
//! sees: a commit that waits for a synchronous standby is applied there and not seen here. But such a transaction has left
//! its id in the xmax of a row that it changed, which the first rule looks at; and once xmin has reached T0 it has ended,
//! and is seen, which the second and third rules wait for. An unchanged version on both sides of the subscriber's commit
//! means that nobody has touched the row between, so the subscriber must have shown it. Likewise an unchanged version on
//! the subscriber on both sides of the publisher's snapshot. In a table [without a key](bags) equal rows may come and go
//! between, so there only the side that stayed and has more rows proves. What only spelling differs in, the
//! [arbiter](arbiter) lets go.
//!
//! *No miss.* A difference that stays makes the sums of its chunk differ, but for a chance of 2^-64, and is accepted as
//! equal only if the subscriber's row was the publisher's during the check. Ranges cover every key whatever the order:
//! the first and the last are open, and between two bounds on either side of a key some range holds it.

mod arbiter;
mod bags;
mod beside;
mod buckets;
mod canonical;
mod carry;
mod choice;
mod data;
mod evidence;
mod findings;
mod following;
mod hash;
mod hot;
mod lookup;
mod pace;
mod pinned;
mod probe;
mod ranges;
mod record;
mod report;
mod rounds;
mod schema;
mod settle;
mod state;
mod statement;
mod subject;
mod table;
mod types;
mod workers;

pub use data::DataOptions;
pub(crate) use data::verify;
pub use findings::{ColumnDifference, KeyValue, Kind, RowDifference, Shown};
pub use record::{LastVerification, Resume};
pub(crate) use record::{Proof, forget, listed};
pub use report::{DataVerification, TableStatus, VerifiedTable, Walk};
pub(crate) use schema::verify_schema;
pub use schema::{SchemaDifference, SchemaMethod, SchemaVerification};
pub use settle::Values;

use self::pinned::Pinned;
use crate::error::Result;
use crate::journal::{Direction, Stream};
use crate::server::{Pair, at_once};

/// What is on record of a stream's rows: whether every published table was found equal, as they are carried now.
/// `configured` is the configuration's pair, `pair` has the side that is written as its publisher.
pub(crate) fn missing_proof(
    configured: &Pair,
    pair: &Pair,
    stream: &Stream,
    direction: Direction,
) -> Result<Proof> {
    let open = |server| Pinned::open(server, &stream.dbname);
    let (from, to) = at_once(|| open(&pair.publisher), || open(&pair.subscriber));
    let (from, to) = (from?, to?);
    let (tables, subscription) = subject::published(from.session(), to.session(), stream)?;
    record::proof(
        configured,
        &stream.dbname,
        direction,
        &subscription,
        &tables,
        || subject::signatures(&from, &to, stream, &tables),
    )
}
