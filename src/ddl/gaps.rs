//! Whether what is installed for `refuse` and `carry` is at work: a superuser may have disabled some of it, or dropped it.

use serde::Deserialize;

use super::installed::{AS_IT_IS, EVENT_TRIGGERS};
use crate::config::DdlMode;
use crate::error::{Result, WrapErr};
use crate::server::{Pair, Server, Session, params};
use crate::value::{Ident, ShellWord};

#[derive(Deserialize)]
struct Installed {
    disabled: Vec<String>,
    gone: Vec<String>,
    /// Whether the rest is as it was made.
    as_made: bool,
    /// Settings of the database by which no event trigger fires.
    overridden: Vec<String>,
}

const INSTALLED: &str = r"
    SELECT jsonb_build_object(
        'disabled', (SELECT coalesce(jsonb_agg(evtname ORDER BY evtname), '[]') FROM pg_event_trigger
                      WHERE evtname = ANY ($1) AND evtenabled NOT IN ('O', 'A')),
        'gone', (SELECT coalesce(jsonb_agg(name ORDER BY name), '[]') FROM unnest($1::text[]) name
                  WHERE NOT EXISTS (SELECT FROM pg_event_trigger WHERE evtname = name)),
        'as_made', position({is} IN made.prosrc) > 0,
        'overridden', (SELECT coalesce(jsonb_agg(DISTINCT split_part(one, '=', 1)), '[]')
                         FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase AND d.datname = current_database(), unnest(s.setconfig) one
                        WHERE s.setrole = 0 AND one ~ '^(event_triggers=(off|false|no|0)|session_replication_role=replica)$'))
      FROM pg_proc made JOIN pg_namespace n ON n.oid = made.pronamespace
     WHERE n.nspname = 'flare' AND made.proname = 'ddl_installed'";

/// What of it is not at work on either side, in words, each with what mends it; nothing where it was never put in place.
/// `pair` has the open side as its publisher.
pub(crate) fn gaps(
    pair: &Pair,
    (open, receiving): (&Session, &Session),
    dbname: &str,
    mode: DdlMode,
) -> Result<Vec<String>> {
    let sides: [(&Server, &Session); 2] = [(&pair.publisher, open), (&pair.subscriber, receiving)];
    let mut gaps = Vec::new();
    for (server, session) in sides {
        gaps.extend(of_side(server, session, dbname, mode)?);
    }
    Ok(gaps)
}

fn of_side(server: &Server, session: &Session, dbname: &str, mode: DdlMode) -> Result<Vec<String>> {
    let happens = match mode {
        DdlMode::Watch => return Ok(Vec::new()),
        DdlMode::Refuse => "statements are not refused",
        DdlMode::Carry => "statements are not carried",
    };
    let triggers = EVENT_TRIGGERS.map(str::to_owned).to_vec();
    let installed: Option<Installed> = session
        .first(&INSTALLED.replace("{is}", AS_IT_IS), params![triggers])
        .wrap_err("look whether flare's event triggers are at work")?;
    let Some(installed) = installed else {
        return Ok(Vec::new());
    };
    let side = server.side();
    let again = format!("flare ddl {} --retry", ShellWord(dbname));
    let mut gaps = Vec::new();
    for name in &installed.disabled {
        gaps.push(format!(
            "event trigger {name} of the {side} is disabled, {happens}: {again} puts it back"
        ));
    }
    for name in &installed.gone {
        gaps.push(format!(
            "event trigger {name} of the {side} is gone, {happens}: {again} puts it back"
        ));
    }
    if gaps.is_empty() && !installed.as_made {
        gaps.push(format!(
            "what flare has put in schema flare of the {side} is not as it was made, {happens} as they should be: {again} puts it back"
        ));
    }
    for setting in &installed.overridden {
        gaps.push(format!(
            "no event trigger fires on the {side}, {happens}: ALTER DATABASE {} RESET {setting}",
            Ident::new(dbname)
        ));
    }
    Ok(gaps)
}
