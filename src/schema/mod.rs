//! Dumped SQL: taken apart statement by statement, rewritten for the server it goes to, and compared.
//!
//! Pure text, but for `drift`, which asks two servers for their catalogs: everything else reads from a `BufRead` and writes
//! to a `Write`, one statement in memory at a time, as bytes, since a database in SQL_ASCII may hold text that is not
//! UTF-8.

mod calls;
mod compare;
mod difference;
pub(crate) mod drift;
mod dump;
mod entry;
mod failure;
mod fewer;
mod icu_locale;
mod keywords;
mod lexer;
mod objects;
mod post_data;
mod redact;
mod roles;
mod spelling;
mod statement;
mod tokens;

pub(crate) use compare::compare;
pub(crate) use difference::Difference;
pub(crate) use dump::{DumpReport, DumpTarget, Loader, rewrite_dump};
pub(crate) use failure::psql_failure;
pub(crate) use fewer::together;
pub(crate) use icu_locale::same_icu_locale;
pub(crate) use keywords::SINCE_10 as KEYWORDS_SINCE_10;
pub(crate) use post_data::{PostData, Stage, post_data};
pub(crate) use redact::redact;
pub(crate) use roles::{
    Executor, MaySet, RdsOptions, Reach, RolesReport, RolesTarget, Setting, Standing, Use,
    rewrite_roles, strip_role_options_for_rds,
};
pub(crate) use spelling::Spelling;
pub(crate) use statement::{Kind, Statements, statement_at};
pub(crate) use tokens::Tokens;

/// What becomes of `\restrict` and `\unrestrict`, which a psql older than the dump does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Restrict {
    /// psql is as new as the dump and holds the dump to SQL.
    Keep,
    /// psql would stop at them.
    Remove,
}
