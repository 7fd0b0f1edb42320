//! stop: forward ends. The subscription of *to* takes nothing any more; what it has taken is complete.

use super::state::Pause;
use crate::error::{Result, WrapErr};
use crate::value::Ident;

/// Disables the subscriptions of all databases, at once.
pub(crate) fn disable(pause: &mut Pause<'_>) -> Result<()> {
    let mut started = Vec::new();
    for database in &pause.databases {
        let session = &database.sessions.subscription.session;
        let statement = format!(
            "ALTER SUBSCRIPTION {} DISABLE",
            Ident::new(&database.stream.subname)
        );
        let answer = session.start(move |client| client.batch_execute(&statement))?;
        started.push((database, answer));
    }
    for (database, answer) in started {
        database
            .sessions
            .subscription
            .session
            .wait(&answer, pause.deadline.timeout())
            .wrap_err_with(|| format!("disable subscription {:?}", database.stream.subname))?;
    }
    Ok(())
}
