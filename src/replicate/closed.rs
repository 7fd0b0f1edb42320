//! A database that only replication writes: the fence on its tables, and sessions that are read-only by default.
//!
//! The subscriber is closed from its subscription on, so that no client that knows both servers writes there. The fence
//! stops everybody, superusers included; the default leads clients that ask for `target_session_attrs=read-write` to the
//! other server. The subscription's owner is exempt from the default, else triggers that write under apply stop it; where
//! the application logs in as that role, it is exempt only while there are such triggers.

use serde::{Deserialize, Serialize};

use super::{Change, Plan, Run, fence, status_table};
use crate::catalog::privileges::owner_login;
use crate::catalog::tables::listed;
use crate::error::{Result, WrapErr};
use crate::server::{ActAs, Login, Server, Session, Statement, params};
use crate::value::{Ident, Literal, TableName, counted};

/// How many tables are fenced in one transaction: each needs a lock of its own.
const AT_ONCE: usize = 500;

/// Closes a database to everybody but replication; what is closed already stays so. `tables` are those that the
/// subscription writes; `exempt` is its owner, and `login` the account that may change that role's settings.
pub(crate) fn close(
    server: &Server,
    dbname: &str,
    tables: &[TableName],
    (exempt, login): (&str, Login),
    run: &Run,
) -> Result<Change> {
    let what = || format!("close database {dbname:?} of the {}", server.side());
    let session = server.visit_as(ActAs::Tables, dbname).wrap_err_with(what)?;
    let tables: Vec<TableName> = tables
        .iter()
        .filter(|name| !status_table::is(name))
        .cloned()
        .collect();
    let unfenced = fence::unfenced(&session, &tables)?;
    let mut fences = Plan::new(server.side(), dbname);
    if !unfenced.is_empty() {
        fences.step(
            format!(
                "fence {} ({})",
                counted(unfenced.len(), "table"),
                listed(&unfenced)
            ),
            format!("{} and so on", fence::trigger_on(&unfenced[0])),
        );
    } else if !fence::is_there(&session).wrap_err_with(what)? {
        // Of a database without tables: those that come are given their triggers then.
        fences.step("make the function of the fence", fence::closed());
    }
    let fenced = fences
        .carry_out_by(run, |_| {
            let without_tables: [&[TableName]; 1] = [&[]];
            let some = unfenced.chunks(AT_ONCE);
            let none = without_tables
                .into_iter()
                .take(usize::from(unfenced.is_empty()));
            for tables in some.chain(none) {
                let mut sql = format!("CREATE SCHEMA IF NOT EXISTS flare; {}", fence::closed());
                for table in tables {
                    sql.push(';');
                    sql.push_str(&fence::trigger_on(table));
                }
                run.ddl
                    .run(&session, &[Statement::new("fence the tables", sql)])?;
            }
            Ok(())
        })
        .wrap_err_with(what)?;
    let exempt = exempts(server, &session, exempt)
        .wrap_err_with(what)?
        .then_some(exempt);
    let read_only = default_read_only(server, &session, dbname, (exempt, login), run);
    Ok(fenced.and(read_only.wrap_err_with(what)?))
}

/// What `default_transaction_read_only` was in a database before flare closed it: the comment of the fence's function.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReadOnlyDefault {
    #[serde(skip)]
    pub(crate) dbname: String,
    /// Of the database; none: it was not set.
    pub(crate) setting: Option<String>,
    /// Roles whose sessions may write: the subscription's owner, for what triggers do under apply.
    pub(crate) exempt: Vec<Exempt>,
}

/// A role that the default does not hold for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Exempt {
    pub(crate) role: String,
    /// Its own setting in the database before; none: it was not set.
    pub(crate) setting: Option<String>,
}

pub(super) const NAME: &str = "default_transaction_read_only";

/// How the comment begins; JSON follows.
const RECORD: &str =
    "made by flare, and taken away by its drop_subscription and cleanup; before it: ";

impl ReadOnlyDefault {
    /// Puts on record what stood before.
    pub(crate) fn recording(&self) -> String {
        let json = serde_json::json!(self);
        format!(
            "COMMENT ON FUNCTION flare.fence() IS {}",
            Literal(&format!("{RECORD}{json}"))
        )
    }

    /// New sessions are read-only, unless they say otherwise.
    pub(crate) fn closing(&self) -> String {
        format!(
            "ALTER DATABASE {} SET {NAME} = on",
            Ident::from(self.dbname.as_str())
        )
    }

    /// New sessions are as they were before.
    pub(crate) fn reopening(&self) -> String {
        let database = Ident::from(self.dbname.as_str());
        match &self.setting {
            None => format!("ALTER DATABASE {database} RESET {NAME}"),
            Some(value) => format!("ALTER DATABASE {database} SET {NAME} = {}", Literal(value)),
        }
    }
}

impl Exempt {
    fn exempting(&self, dbname: &str) -> String {
        format!("{} SET {NAME} = off", self.alter(dbname))
    }

    fn restoring(&self, dbname: &str) -> String {
        match &self.setting {
            None => format!("{} RESET {NAME}", self.alter(dbname)),
            Some(value) => format!("{} SET {NAME} = {}", self.alter(dbname), Literal(value)),
        }
    }

    fn alter(&self, dbname: &str) -> String {
        format!(
            "ALTER ROLE {} IN DATABASE {}",
            Ident::from(self.role.as_str()),
            Ident::from(dbname)
        )
    }
}

/// What stood before, as the database of the session has it on record; none where flare has not closed it.
pub(crate) fn recorded(session: &Session, dbname: &str) -> Result<Option<ReadOnlyDefault>> {
    let comment: Option<String> = session
        .first(
            "SELECT to_jsonb(coalesce(obj_description(p.oid, 'pg_proc'), '')) FROM pg_proc p
               JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = 'flare' AND p.proname = 'fence'",
            params![],
        )
        .wrap_err("read the comment of function flare.fence()")?;
    on_record(comment.as_deref(), dbname)
}

/// The same, by the comment of the fence's function.
pub(crate) fn on_record(comment: Option<&str>, dbname: &str) -> Result<Option<ReadOnlyDefault>> {
    let Some(json) = comment.and_then(|it| it.strip_prefix(RECORD)) else {
        return Ok(None);
    };
    let recorded: ReadOnlyDefault =
        serde_json::from_str(json).wrap_err("read the comment of function flare.fence()")?;
    Ok(Some(ReadOnlyDefault {
        dbname: dbname.to_owned(),
        ..recorded
    }))
}

/// What the settings of a database, and of a role in it, are now.
pub(crate) fn now(session: &Session, dbname: &str, role: Option<&str>) -> Result<ReadOnlyDefault> {
    const NOW: &str = "
        SELECT jsonb_build_object('setting', max(value) FILTER (WHERE setrole = 0),
                 'exempt', CASE WHEN $2::text IS NULL THEN '[]' ELSE jsonb_build_array(jsonb_build_object(
                     'role', $2::text, 'setting', max(value) FILTER (WHERE setrole <> 0))) END)
          FROM (SELECT s.setrole, substr(c, strpos(c, '=') + 1) AS value
                  FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase, unnest(s.setconfig) c
                 WHERE d.datname = $1 AND split_part(c, '=', 1) = 'default_transaction_read_only'
                   AND (s.setrole = 0 OR s.setrole = (SELECT oid FROM pg_roles WHERE rolname = $2))) settings";
    let role = role.map(str::to_owned);
    let now: Option<ReadOnlyDefault> = session
        .first(NOW, params![dbname, role])
        .wrap_err_with(|| format!("read the settings of database {dbname:?}"))?;
    Ok(ReadOnlyDefault {
        dbname: dbname.to_owned(),
        ..now.unwrap_or_default()
    })
}

/// Whether the subscription's owner is exempt: an application that logs in as it would stay on the side that is left, whose
/// sessions would seem writable to it.
fn exempts(server: &Server, session: &Session, owner: &str) -> Result<bool> {
    let declared = server.declared();
    let is_application = declared.app_users.iter().any(|it| it == owner);
    // Carried statements run in a trigger, which comes after the side is closed.
    Ok(!is_application
        || declared.carries
        || session.value(
            "SELECT EXISTS (SELECT FROM pg_trigger WHERE tgenabled IN ('A', 'R') AND (NOT tgisinternal OR tgconstraint = 0))",
            params![],
        )?)
}

/// Sessions are read-only by default, but those of the exempt role. The fence's function is there already.
fn default_read_only(
    server: &Server,
    session: &Session,
    dbname: &str,
    (exempt, login): (Option<&str>, Login),
    run: &Run,
) -> Result<Change> {
    let now = now(session, dbname, exempt)?;
    let recorded = recorded(session, dbname)?;
    let mut plan = Plan::new(server.side(), "postgres");
    if now.setting.as_deref() != Some("on") {
        plan.step(
            format!("make sessions in {dbname:?} read-only by default"),
            now.closing(),
        );
    }
    let exempted = now
        .exempt
        .iter()
        .all(|it| it.setting.as_deref() == Some("off"));
    if !exempted {
        for role in &now.exempt {
            plan.step(
                format!("except those of {:?}, the subscription's owner", role.role),
                role.exempting(dbname),
            );
        }
    }
    plan.carry_out_by(run, |statements| {
        if recorded.is_none() {
            session.batch(&now.recording())?;
        }
        let owner = owner_login(server, &[dbname])?;
        for statement in statements {
            let of_role = statement.shown.starts_with("ALTER ROLE");
            let session = server.visit_as(if of_role { login } else { owner }, "postgres")?;
            statement.run(&session)?;
        }
        Ok(())
    })
}

/// Exempts one more role from the default of a database that is closed, and puts on record what its own setting was.
pub(crate) fn exempt(server: &Server, dbname: &str, (role, login): (&str, Login)) -> Result<()> {
    let what = || format!("exempt {role:?} from the read-only default of {dbname:?}");
    let session = server.visit_as(ActAs::Tables, dbname).wrap_err_with(what)?;
    if !exempts(server, &session, role).wrap_err_with(what)? {
        return Ok(());
    }
    let now = now(&session, dbname, Some(role))?;
    let mut record = recorded(&session, dbname)?.unwrap_or_else(|| ReadOnlyDefault {
        exempt: Vec::new(),
        ..now.clone()
    });
    for own in now.exempt {
        if own.setting.as_deref() == Some("off") {
            continue;
        }
        let statement = own.exempting(dbname);
        if !record.exempt.iter().any(|known| known.role == own.role) {
            record.exempt.push(own);
        }
        session.batch(&record.recording()).wrap_err_with(what)?;
        server
            .visit_as(login, "postgres")?
            .batch(&statement)
            .wrap_err_with(what)?;
    }
    Ok(())
}

/// Opens a database that flare has closed, as it was before; nothing where it has not.
pub(crate) fn open(server: &Server, dbname: &str, run: &Run) -> Result<Change> {
    let what = || format!("open database {dbname:?} of the {}", server.side());
    if !status_table::has_database(server, dbname)? {
        return Ok(Change::none(run));
    }
    let session = server.visit_as(ActAs::Tables, dbname).wrap_err_with(what)?;
    open_by(server, &session, dbname, run)
}

/// Takes a fence away that stops nobody, from a side that is open; nothing where there is none.
pub(crate) fn take_fence_off(server: &Server, dbname: &str, run: &Run) -> Result<Change> {
    let session = server.visit_as(ActAs::Tables, dbname)?;
    drop_fence(server, &session, dbname, run).wrap_err_with(|| {
        format!(
            "take the fence of {dbname:?} away from the {}",
            server.side()
        )
    })
}

/// The same by a session that is there already.
pub(crate) fn open_by(
    server: &Server,
    session: &Session,
    dbname: &str,
    run: &Run,
) -> Result<Change> {
    let what = || format!("open database {dbname:?} of the {}", server.side());
    let mut plan = Plan::new(server.side(), "postgres");
    let recorded = recorded(session, dbname)?;
    if let Some(closed) = &recorded {
        plan.step(
            format!("let sessions in {dbname:?} write again by default"),
            closed.reopening(),
        );
        for role in &closed.exempt {
            plan.step(
                format!("give {:?} its own default back", role.role),
                role.restoring(dbname),
            );
        }
    }
    let opened = plan.carry_out_by(run, |_| restore_defaults(server, recorded.as_ref()));
    let opened = opened.wrap_err_with(what)?;
    Ok(opened.and(drop_fence(server, session, dbname, run).wrap_err_with(what)?))
}

/// Gives the database and the exempt roles their own settings back.
pub(crate) fn restore_defaults(server: &Server, closed: Option<&ReadOnlyDefault>) -> Result<()> {
    let Some(closed) = closed else {
        return Ok(());
    };
    let dbname = closed.dbname.as_str();
    server
        .visit_as(owner_login(server, &[dbname])?, "postgres")?
        .batch(&closed.reopening())
        .wrap_err("let sessions write again by default")?;
    for role in &closed.exempt {
        // A role may change its own settings; others take a superuser.
        let is_owner = role.role == server.declared().db_owner.user;
        let login = Login::owner_if(!server.facts().superuser && is_owner);
        server
            .visit_as(login, "postgres")?
            .batch(&role.restoring(dbname))
            .wrap_err_with(|| format!("give {:?} its own default back", role.role))?;
    }
    Ok(())
}

/// Takes the fence off every table that has one.
fn drop_fence(server: &Server, session: &Session, dbname: &str, run: &Run) -> Result<Change> {
    if !fence::is_there(session)? {
        return Ok(Change::none(run));
    }
    let fenced = fence::fenced(session)?;
    let mut plan = Plan::new(server.side(), dbname);
    plan.step(
        format!("take the fence off {}", counted(fenced.len(), "table")),
        format!("DROP TRIGGER {} ON each of them", fence::TRIGGER),
    );
    let mut left = Vec::new();
    let change = plan.carry_out_by(run, |_| {
        // Open for all at once first: a table that is in use keeps a trigger that stops nobody.
        fence::open(session)?;
        left = fence::remove(server, session)?;
        Ok(())
    })?;
    Ok(if left.is_empty() {
        change
    } else {
        change.with_note(format!(
            "tables of the {} that are in use all the time keep an open fence, which stops nobody ({}): flare cleanup takes it away, or flare drop_subscription, once they are less busy",
            server.side(),
            listed(&left)
        ))
    })
}
