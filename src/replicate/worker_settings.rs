//! Settings under which rows travel: those of the role that sends and of the role that writes, in this database only, so
//! that no setting of the database, the role or the server mangles a value or ends a copy. They are on record, and go with
//! the subscription.

use serde::Deserialize;

use super::{Change, Plan, Run, made};
use crate::error::{Failure, Result, WrapErr, message_of};
use crate::server::{Login, Pair, Server, Session, Statement, params};
use crate::value::{Ident, Literal};

/// Timeouts end a long COPY, which then begins again for ever.
const TIMEOUTS: [&str; 4] = [
    "statement_timeout",
    "lock_timeout",
    "idle_in_transaction_session_timeout",
    "transaction_timeout",
];

/// A setting, and what it has to be.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wanted {
    name: &'static str,
    value: String,
}

/// The role on one side, and the account of ours that it is.
pub(super) struct Worker<'a> {
    pub(super) server: &'a Server,
    pub(super) role: &'a str,
    pub(super) login: Login,
}

/// What one side says of a role's settings in a database.
#[derive(Debug, Deserialize)]
struct Now {
    encoding: String,
    /// Of the server, as the session's role gets it.
    lc_monetary: String,
    has_money: bool,
    /// Whether a trigger of the user's fires at logins (17+), the sender's among them.
    has_login_triggers: bool,
    /// Whether the files of the server may be read, which say what nobody has set.
    sees_files: bool,
    /// As the role gets them in this database, lower-case names; what nobody has set is not named.
    set: std::collections::BTreeMap<String, String>,
    known: Vec<String>,
}

/// Of several settings the one of the role in the database wins, then the role's, the database's, everybody's.
const NOW: &str = "
    SELECT jsonb_build_object('encoding', getdatabaseencoding(), 'lc_monetary', current_setting('lc_monetary'),
        'sees_files', $2,
        'has_money', EXISTS (SELECT FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid WHERE c.relkind IN ('r', 'p') AND a.atttypid IN ('money'::regtype, 'money[]'::regtype) AND NOT a.attisdropped),
        'has_login_triggers', EXISTS (SELECT FROM pg_event_trigger WHERE evtevent = 'login' AND evtenabled <> 'D'),
        'known', (SELECT jsonb_agg(lower(name)) FROM pg_settings),
        'set', (SELECT coalesce(jsonb_object_agg(name, value), '{}') FROM (
            SELECT DISTINCT ON (name) name, value FROM (
                SELECT lower(split_part(c, '=', 1)) AS name, substr(c, strpos(c, '=') + 1) AS value, CASE WHEN s.setrole <> 0 AND s.setdatabase <> 0 THEN 1 WHEN s.setrole <> 0 THEN 2 WHEN s.setdatabase <> 0 THEN 3 ELSE 4 END AS rank
                  FROM pg_db_role_setting s, unnest(s.setconfig) c
                 WHERE s.setrole IN (0, (SELECT oid FROM pg_roles WHERE rolname = $1)) AND s.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
                %FILES%) all_of_them ORDER BY name, rank) first))";

const FILES: &str = "UNION ALL SELECT lower(name), setting, 5 FROM pg_file_settings WHERE applied";

impl Now {
    fn read(session: &Session, worker: &Worker) -> Result<Now> {
        let sees_files = worker.server.facts().superuser;
        let sql = NOW.replace("%FILES%", if sees_files { FILES } else { "" });
        let now: Option<Now> = session
            .first(&sql, params![worker.role, sees_files])
            .wrap_err_with(|| format!("read the settings of {:?}", worker.role))?;
        now.ok_or_else(|| {
            crate::error::Failure::new("the server said nothing of its settings").into()
        })
    }

    /// The settings that are not as they have to be.
    fn lacking(&self, wanted: Vec<Wanted>) -> Vec<Wanted> {
        let is_so = |wanted: &Wanted| match self.set.get(&wanted.name.to_lowercase()) {
            Some(value) => value.eq_ignore_ascii_case(&wanted.value),
            None => {
                wanted.name != "event_triggers" && (self.sees_files || wanted.name == "lc_monetary")
            }
        };
        let known = |wanted: &Wanted| {
            self.known
                .iter()
                .any(|name| *name == wanted.name.to_lowercase())
        };
        wanted
            .into_iter()
            .filter(|it| known(it) && !is_so(it))
            .collect()
    }
}

fn timeouts() -> impl Iterator<Item = Wanted> {
    TIMEOUTS.into_iter().map(|name| Wanted {
        name,
        value: "0".into(),
    })
}

/// What values are written as on the sending side. A login trigger that raises, or writes where nothing may be written, ends
/// the stream: an account that does nothing but replicate is kept out of its sight.
fn of_sender(now: &Now, login: Login) -> Vec<Wanted> {
    let mut all: Vec<Wanted> = timeouts().collect();
    if now.has_login_triggers && login == Login::Replication {
        all.push(Wanted {
            name: "event_triggers",
            value: "off".into(),
        });
    }
    now.lacking(all)
}

/// What values are read as on the side that writes: in the encoding that they are asked for in, whatever the database
/// tells its clients to use.
fn of_receiver(now: &Now, sender: &Now) -> Vec<Wanted> {
    let wanted = |name, value: &str| Wanted {
        name,
        value: value.to_owned(),
    };
    let mut all: Vec<Wanted> = timeouts().collect();
    all.extend([
        wanted("client_encoding", &now.encoding),
        wanted("array_nulls", "on"),
        wanted("xmloption", "content"),
        // Carried statements are tried, and what fails of them is caught.
        wanted("exit_on_error", "off"),
    ]);
    let mut lacking = now.lacking(all);
    if (now.has_money || sender.has_money) && now.lc_monetary != sender.lc_monetary {
        let value = sender.set.get("lc_monetary").unwrap_or(&sender.lc_monetary);
        lacking.push(wanted("lc_monetary", value));
    }
    // What nobody has set is what the server was built with, unless a file says otherwise.
    let built_in = |it: &Wanted| {
        !TIMEOUTS.contains(&it.name)
            && it.name != "lc_monetary"
            && !now.set.contains_key(&it.name.to_lowercase())
    };
    lacking.retain(|it| !built_in(it));
    lacking
}

/// Sets what is not as it has to be, for the role that sends and the role that writes.
pub(super) fn settle(
    pair: &Pair,
    dbname: &str,
    sender: &Worker,
    receiver: &Worker,
    run: &Run,
) -> Result<Change> {
    let (from, to) = pair.visit(dbname)?;
    let (sending, receiving) = (Now::read(&from, sender)?, Now::read(&to, receiver)?);
    let sent = set(sender, dbname, of_sender(&sending, sender.login), run)?;
    Ok(sent.and(set(
        receiver,
        dbname,
        of_receiver(&receiving, &sending),
        run,
    )?))
}

fn set(worker: &Worker, dbname: &str, wanted: Vec<Wanted>, run: &Run) -> Result<Change> {
    let mut plan = Plan::new(worker.server.side(), dbname);
    for Wanted { name, value } in wanted {
        plan.step(
            format!(
                "set {name} of {:?} in database {dbname:?} while it replicates",
                worker.role
            ),
            format!(
                "ALTER ROLE {} IN DATABASE {} SET {} = {}",
                Ident::from(worker.role),
                Ident::from(dbname),
                Ident::from(name),
                Literal(&value)
            ),
        );
    }
    if plan.is_empty() {
        return Ok(Change::none(run));
    }
    let mut denied = Vec::new();
    let change = made::recording(worker.server, dbname, run, || {
        plan.carry_out_by(run, |statements| {
            // A role may change its own settings; others take a superuser, or who administers the role.
            let mut own = None;
            for statement in statements {
                let Err(report) = run_one(worker.server.admin(), statement, run) else {
                    continue;
                };
                let session =
                    own.get_or_insert_with(|| worker.server.connect(worker.login, dbname));
                let by_itself = match session {
                    Ok(session) => run_one(session, statement, run),
                    Err(report) => Failure::new(message_of(report)).err(),
                };
                if let Err(refused) = by_itself {
                    log::info!("{:?} itself: {refused:#}", worker.role);
                    denied.push(format!("{} is not permitted: {report:#}", statement.shown));
                }
            }
            Ok(())
        })
    })?;
    Ok(denied.into_iter().fold(change, Change::with_note))
}

fn run_one(session: &Session, statement: &Statement, run: &Run) -> Result<()> {
    run.ddl.run(session, std::slice::from_ref(statement))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now(set: &[(&str, &str)], sees_files: bool) -> Now {
        let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let known = TIMEOUTS.iter().chain(&[
            "client_encoding",
            "array_nulls",
            "xmloption",
            "lc_monetary",
            "event_triggers",
        ]);
        Now {
            encoding: "UTF8".into(),
            lc_monetary: "C".into(),
            has_money: true,
            has_login_triggers: false,
            sees_files,
            set: set.iter().map(pair).collect(),
            known: known
                .map(|it| (*it).to_owned())
                .filter(|it| it != "transaction_timeout")
                .collect(),
        }
    }

    #[test]
    fn only_what_would_hurt_is_set() {
        let names = |found: Vec<Wanted>| -> Vec<&str> { found.iter().map(|it| it.name).collect() };
        assert!(of_sender(&now(&[], true), Login::Replication).is_empty());
        assert_eq!(
            names(of_sender(
                &now(&[("statement_timeout", "5s")], true),
                Login::Superuser
            )),
            ["statement_timeout"]
        );
        assert_eq!(
            names(of_sender(
                &now(&[("lock_timeout", "0")], false),
                Login::Superuser
            )),
            ["statement_timeout", "idle_in_transaction_session_timeout"]
        );
        let mut at_logins = now(&[], true);
        at_logins.has_login_triggers = true;
        assert!(of_sender(&at_logins, Login::Superuser).is_empty());
        assert_eq!(
            names(of_sender(&at_logins, Login::Replication)),
            ["event_triggers"]
        );
        let hostile = now(
            &[("client_encoding", "LATIN1"), ("xmloption", "document")],
            true,
        );
        assert_eq!(
            names(of_receiver(&hostile, &now(&[], true))),
            ["client_encoding", "xmloption"]
        );
        let mut other = now(&[], true);
        other.lc_monetary = "de_DE.UTF-8".into();
        assert_eq!(names(of_receiver(&now(&[], true), &other)), ["lc_monetary"]);
    }
}
