//! A session that has proven it is the declared server: identity, version, TLS, deadlines, short locks.
//!
//! Everything that speaks to a server goes through `Session`, and a `Session` exists only after
//! `pg_control_system()` has answered with the identifier of the configuration.

mod act_as;
mod address;
mod connect;
mod conninfo;
mod console;
mod credentials;
mod ddl;
mod facts;
mod failure;
pub(crate) mod interrupt;
mod pair;
mod param;
mod pulse;
mod query;
mod refusal;
mod session;
mod statement_log;
mod tls;
mod untested;
mod verified;
mod visit;

pub(crate) use act_as::ActAs;
pub use address::Endpoint;
pub(crate) use connect::{application_name, connect_unverified, session_options};
pub(crate) use conninfo::conninfo_for_subscriber;
pub(crate) use console::{Console, ConsoleAddress, Unanswered};
pub use credentials::Login;
pub(crate) use ddl::{Ddl, Statement, begin_before_autovacuum, is_contention};
pub(crate) use facts::{Facts, KNOWN_MAJORS};
pub use failure::SqlError;
pub(crate) use failure::{is_denied, is_lost, is_unreachable, sqlstate_of, timed_out};
pub(crate) use pair::{
    Opened, Pair, Publisher, Subscriber, at_once, open_both, open_both_visiting,
};
pub(crate) use param::{IntoParam, Param, params};
pub(crate) use pulse::while_they_answer;
pub(crate) use refusal::login_rejected;
pub(crate) use session::{Session, SimpleRow, Timeout};
pub(crate) use statement_log::{silence_session, silence_statement_log, silencing};
pub(crate) use untested::untested;
pub use verified::Side;
pub(crate) use verified::{Server, is_identity_mismatch};
