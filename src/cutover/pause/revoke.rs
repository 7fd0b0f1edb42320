//! revoke: no new session. CONNECT is taken from everyone but those who stay, new sessions are read-only by default, and
//! the journal has `paused`, all in one transaction.

use std::time::Duration;

use crate::cutover::pause::batch::{self, Durable, Sent};
use crate::cutover::pause::connect_privileges::ConnectPrivileges;
use crate::cutover::pause::signal::Signal;
use crate::cutover::report::StepName;
use crate::cutover::state::Pause;
use crate::error::{Failure, Result, WrapErr};
use crate::journal::Transition;
use crate::server::{Session, params};
use crate::value::Literal;

/// Sends the batch.
pub(in crate::cutover) fn send<'a>(pause: &'a Pause<'_>) -> Result<Sent<'a>> {
    let mut body = format!(
        "{};
         IF NOT FOUND THEN RAISE EXCEPTION 'another flare has ended this run'; END IF;",
        Transition::Pause.winning(pause.run())
    );
    for database in &pause.databases {
        let privileges = &database.privileges;
        body.push_str(&unchanged(privileges));
        for statement in privileges.revoking() {
            body.push_str(&format!("EXECUTE {};", Literal(&statement)));
        }
        body.push_str(&format!(
            "EXECUTE {};",
            Literal(&database.default_before.closing())
        ));
        body.push_str(&nobody_is_left(privileges));
    }
    let block = batch::block(
        pause.deadline.left(),
        "tries int := 0; welcome text;",
        "",
        &again_while_row_is_busy(&body),
    );
    batch::send_committing(
        StepName::Revoke,
        "take CONNECT from everyone but those who stay",
        &pause.sessions.connect,
        &block,
        // The probe row is durable before it arrives, and with it all that was committed before. After a crash that came
        // earlier the run is not paused, and nothing is revoked.
        Durable::WithTheNext,
        Signal::Revoked,
    )
}

/// Asks who could connect, as the batch will.
pub(in crate::cutover) fn rehearse<'a>(pause: &'a Pause<'_>) -> Result<Sent<'a>> {
    let looks: String = pause
        .databases
        .iter()
        .map(|database| unchanged(&database.privileges) + &still_welcome(&database.privileges))
        .collect();
    batch::rehearse(
        &pause.sessions.connect,
        StepName::Revoke,
        "welcome text;",
        &looks,
        &[Signal::Revoked],
    )
}

/// `tuple concurrently updated`: another session changed the row of the database at the same moment. It has no SQLSTATE of
/// its own, and its words are the server's language.
pub(in crate::cutover) fn again_while_row_is_busy(body: &str) -> String {
    format!(
        "LOOP
           BEGIN
             {body}
             EXIT;
           EXCEPTION WHEN internal_error THEN
             tries := tries + 1;
             IF tries > 100 THEN RAISE; END IF;
           END;
         END LOOP;"
    )
}

fn unchanged(privileges: &ConnectPrivileges) -> String {
    let before = privileges.before();
    let written = match &before.written {
        Some(written) => Literal(written).to_string(),
        None => "NULL".to_owned(),
    };
    format!(
        "IF (SELECT datacl::text FROM pg_database WHERE datname = {dbname}) IS DISTINCT FROM {written} THEN
           RAISE EXCEPTION 'the privileges of database % have just been changed by someone else', quote_ident({dbname})
             USING HINT = 'run the command again';
         END IF;",
        dbname = Literal(&before.dbname),
    )
}

/// Fails when somebody else can still connect; asked in the transaction that revoked.
fn nobody_is_left(privileges: &ConnectPrivileges) -> String {
    format!(
        "{welcome}
         IF welcome IS NOT NULL THEN
           RAISE EXCEPTION 'database %: % could still connect, as members of roles that stay', quote_ident({dbname}), welcome
             USING HINT = 'name them in cutover.keep_users, or take that membership away';
         END IF;",
        welcome = still_welcome(privileges),
        dbname = Literal(&privileges.before().dbname),
    )
}

/// Reads who else could connect, in a block.
fn still_welcome(privileges: &ConnectPrivileges) -> String {
    format!("welcome := ({});", welcome(privileges))
}

/// Login roles that could still connect: neither superusers nor among those who stay. Membership counts.
fn welcome(privileges: &ConnectPrivileges) -> String {
    let keep: Vec<&String> = privileges.keep().iter().collect();
    format!(
        "SELECT string_agg(quote_ident(rolname), ', ' ORDER BY rolname) FROM pg_roles
          WHERE rolcanlogin AND NOT rolsuper
            AND NOT rolname IN (SELECT jsonb_array_elements_text({keep}))
            AND has_database_privilege(oid, {dbname}, 'CONNECT')",
        keep = Literal(serde_json::json!(keep).to_string()),
        dbname = Literal(&privileges.before().dbname),
    )
}

/// Takes CONNECT from everyone but those who stay, in the session's transaction: for the side that is left for good.
pub(in crate::cutover) fn revoke_now(
    session: &Session,
    privileges: &ConnectPrivileges,
) -> Result<()> {
    let dbname = privileges.before().dbname.as_str();
    let statements = privileges.revoking();
    session
        .batch(&statements.join("; "))
        .wrap_err_with(|| format!("take CONNECT on {dbname:?} from everyone but those who stay"))?;
    let welcome: Option<String> = session.value(&welcome(privileges), params![])?;
    let Some(welcome) = welcome else {
        return Ok(());
    };
    Failure::new(format!(
        "database {dbname:?}: {welcome} could still connect, as members of roles that stay"
    ))
    .hint("name them in cutover.keep_users, or take that membership away")
    .err()
}

/// How long a batch of a run that is past the deadline may still take: it fails by the server's clock first.
pub(in crate::cutover) const GRACE: Duration = Duration::from_millis(200);
