//! Materialized views of *to*, refreshed once more while the application does not wait for it.

use crate::cutover::state::Database;
use crate::error::{Advise, Result};
use crate::replicate::Run;
use crate::replicate::views::{self, Failed, Which};
use crate::server::{ActAs, Pair, Timeout};

/// Refreshes those that can be read on *from*; what is older than it could be is said.
///
/// # Errors
/// When one could not be read on *to* at all.
pub(in crate::cutover) fn refresh(
    pair: &Pair,
    database: &Database,
    left_behind: &[String],
    run: &Run,
) -> Result<Vec<String>> {
    let dbname = database.dbname();
    let from = pair.publisher.visit(dbname)?;
    let to = pair.subscriber.connect(ActAs::Tables, dbname)?;
    let to = to.with_timeout(Timeout::WhileServerAnswers);
    let refreshed = views::refresh((&from, &to), Which::All, left_behind, run)?;
    let (old, empty): (Vec<Failed>, Vec<Failed>) =
        refreshed.failed.into_iter().partition(|it| it.filled);
    if let Some(first) = empty.into_iter().next() {
        let name = first.name.plain();
        return Err(first.why.wrap_err(format!(
            "refresh materialized view {name}, which cannot be read on the {} before",
            pair.subscriber.side()
        )))
        .hint(|| {
            format!(
                "mend what the server says, or name {name} in publications.{dbname}.leave_behind"
            )
        });
    }
    Ok(old.iter().map(Failed::in_words).collect())
}
