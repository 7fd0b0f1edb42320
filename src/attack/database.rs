//! `create_attack_db`: the database `flare_test` with its tables.

use std::fmt;

use postgres::Client;
use serde::Serialize;

use super::dsn::Dsn;
use super::shape::{self, Relation};
use super::{DBNAME, shape::ITEMS, shape::SESSIONS};
use crate::error::{Advise, Error, Failure, Result, WrapErr};
use crate::server::{SqlError, application_name, connect_unverified};
use crate::value::Ident;

/// What happens to a `flare_test` that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// It is kept; what it lacks is added.
    Keep,
    /// It is dropped and made anew.
    Drop,
}

/// Where the database is to be, and whose it is.
#[derive(Clone)]
pub struct AttackDatabase {
    /// Any database of the server; its role has to be allowed to create databases.
    pub base_dsn: String,
    /// The role that is granted everything on the tables.
    pub app_user: String,
    /// What happens to a `flare_test` that exists.
    pub existing: Existing,
    /// Whether it is only shown what would be done.
    pub dry_run: bool,
}

/// A statement and what it is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Step {
    /// What it is for.
    pub what: String,
    /// The statement.
    pub sql: String,
}

/// What was done, or in a dry run would be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Created {
    /// The database.
    pub dbname: String,
    /// The role that may write to its tables.
    pub app_user: String,
    /// Whether this was a dry run.
    pub dry_run: bool,
    /// Whether anything was changed.
    pub changed: bool,
    /// The statements, in order.
    pub statements: Vec<Step>,
}

/// What the server holds already.
#[derive(Debug, Default)]
struct Found {
    /// The relations of `flare_test`, when it exists.
    relations: Option<Vec<Relation>>,
    /// Whether the application's role holds every privilege on both tables.
    granted: bool,
}

/// Statements of the server's, and those of the new database.
#[derive(Debug, Default)]
struct Plan {
    on_server: Vec<Step>,
    in_database: Vec<Step>,
}

const GRANTED: &str = "
    SELECT coalesce(bool_and(has_table_privilege($1::name, to_regclass(name), privilege)), false)
      FROM unnest(ARRAY['public.items', 'public.sessions']) name,
           unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) privilege";

impl AttackDatabase {
    /// Creates it; what is there already as wanted is left alone.
    ///
    /// # Errors
    /// When the application's role is missing, or a `flare_test` holds what is not the generator's: nothing was changed.
    pub fn create(&self) -> Result<Created, Error> {
        Ok(self.carry_out()?)
    }

    fn carry_out(&self) -> Result<Created> {
        let base = Dsn::read(&self.base_dsn)?;
        let (postgres, own) = (base.with_dbname("postgres")?, base.with_dbname(DBNAME)?);
        let mut server = connect(&postgres)?;
        let found = look(&mut server, &own, &self.app_user)?;
        let plan = plan(&found, &self.app_user, self.existing, &own.shown)?;
        let statements = [plan.on_server.clone(), plan.in_database.clone()].concat();
        if !self.dry_run {
            for step in &plan.on_server {
                run(&mut server, step, &postgres)?;
            }
            if !plan.in_database.is_empty() {
                let mut client = connect(&own)?;
                let mut transaction = client.transaction().map_err(SqlError::from)?;
                for step in &plan.in_database {
                    transaction
                        .batch_execute(&step.sql)
                        .map_err(SqlError::from)
                        .wrap_err_with(|| format!("{} in {}", step.what, own.shown))?;
                }
                transaction.commit().map_err(SqlError::from)?;
            }
        }
        Ok(Created {
            dbname: DBNAME.to_owned(),
            app_user: self.app_user.clone(),
            dry_run: self.dry_run,
            changed: !self.dry_run && !statements.is_empty(),
            statements,
        })
    }
}

fn connect(dsn: &Dsn) -> Result<Client> {
    connect_unverified(dsn.reveal(), &application_name("create_attack_db"))
        .wrap_err_with(|| format!("connect to {}", dsn.shown))
        .hint(|| {
            "correct --base-dsn: a role that may create databases, on the server to test".into()
        })
}

fn run(client: &mut Client, step: &Step, dsn: &Dsn) -> Result<()> {
    client
        .batch_execute(&step.sql)
        .map_err(SqlError::from)
        .wrap_err_with(|| format!("{} on {}", step.what, dsn.shown))
}

fn look(server: &mut Client, own: &Dsn, app_user: &str) -> Result<Found> {
    let row = server
        .query_one(
            "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1),
                    EXISTS (SELECT FROM pg_database WHERE datname = $2)",
            &[&app_user, &DBNAME],
        )
        .map_err(SqlError::from)
        .wrap_err("look for the role and the database")?;
    let (role, database): (bool, bool) = (row.get(0), row.get(1));
    if !role {
        return Failure::new(format!(
            "grant access to the application's role {app_user:?}: there is no such role at {}; nothing was changed",
            own.shown
        ))
        .hint(format!("create it (createuser --login {app_user}), or name another with --app-user"))
        .err();
    }
    if !database {
        return Ok(Found::default());
    }
    let mut client = connect(own)?;
    let relations = shape::relations(&mut client)
        .wrap_err_with(|| format!("look at the tables of {}", own.shown))?;
    let granted = client
        .query_one(GRANTED, &[&app_user])
        .map_err(SqlError::from)
        .wrap_err("look at the privileges")?
        .get(0);
    Ok(Found {
        relations: Some(relations),
        granted,
    })
}

fn plan(found: &Found, app_user: &str, existing: Existing, shown: &str) -> Result<Plan> {
    let step = |what: &str, sql: String| Step {
        what: what.to_owned(),
        sql,
    };
    let mut plan = Plan::default();
    let mut tables: Vec<&str> = Vec::new();
    if let Some(relations) = &found.relations {
        let unexpected_relations = match existing {
            Existing::Drop => shape::unexpected_relations(relations),
            Existing::Keep => {
                let namesakes = relations.iter().filter(|relation| relation.is_namesake());
                shape::unexpected_relations(&namesakes.cloned().collect::<Vec<_>>())
            }
        };
        if !unexpected_relations.is_empty() {
            return Failure::new(format!(
                "use the database {shown}: it holds what flare did not put there: {}; nothing was changed",
                unexpected_relations.join("; ")
            ))
            .hint("move these away, or drop the database yourself if it may go")
            .err();
        }
        match existing {
            Existing::Drop => plan.on_server.push(step(
                "drop the database",
                format!("DROP DATABASE {}", Ident::from(DBNAME)),
            )),
            Existing::Keep => {
                let own = relations.iter().filter(|relation| relation.is_own());
                tables = own.map(|relation| relation.name.as_str()).collect();
            }
        }
    }
    if found.relations.is_none() || existing == Existing::Drop {
        plan.on_server.push(step(
            "create the database",
            format!("CREATE DATABASE {}", Ident::from(DBNAME)),
        ));
    }
    for (name, sql) in [("items", ITEMS), ("sessions", SESSIONS)] {
        if !tables.contains(&name) {
            plan.in_database
                .push(step(&format!("create the table {name}"), sql.to_owned()));
        }
    }
    if tables.len() < 2 || !found.granted {
        plan.in_database.push(step(
            &format!("grant everything on the tables to {app_user:?}"),
            format!(
                "GRANT ALL ON ALL TABLES IN SCHEMA public TO {}",
                Ident::new(app_user)
            ),
        ));
    }
    Ok(plan)
}

impl fmt::Display for Created {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.statements.is_empty() {
            return write!(
                f,
                "nothing to change: the database {:?} is as wanted",
                self.dbname
            );
        }
        for Step { what, sql } in &self.statements {
            if self.dry_run {
                writeln!(f, "would {what}\n    {sql};")?
            } else {
                writeln!(f, "done: {what}")?
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relation(name: &str, columns: &[&str]) -> Relation {
        Relation {
            schema: "public".into(),
            name: name.into(),
            kind: "r".into(),
            columns: columns.iter().map(|&column| column.to_owned()).collect(),
        }
    }

    fn own() -> Vec<Relation> {
        vec![
            relation("items", &["id text not null key", "name text not null"]),
            relation(
                "sessions",
                &[
                    "id text not null key",
                    "last_keepalive_at timestamp with time zone not null",
                ],
            ),
        ]
    }

    fn words(found: &Found, existing: Existing) -> Vec<String> {
        let plan = plan(found, "app", existing, "h:1/flare_test").unwrap();
        let steps = [plan.on_server, plan.in_database].concat();
        steps.into_iter().map(|step| step.sql).collect()
    }

    #[test]
    fn only_what_is_missing_is_made() {
        let all = words(&Found::default(), Existing::Keep);
        assert_eq!(all.len(), 4);
        let mut found = Found {
            relations: Some(own()),
            granted: true,
        };
        assert!(words(&found, Existing::Keep).is_empty());
        found.granted = false;
        assert_eq!(
            words(&found, Existing::Keep),
            [r#"GRANT ALL ON ALL TABLES IN SCHEMA public TO "app""#]
        );
        let dropped = words(&found, Existing::Drop);
        assert_eq!(dropped[0], r#"DROP DATABASE "flare_test""#);
        assert_eq!(dropped.len(), 5);
    }

    #[test]
    fn what_holds_other_tables_is_not_dropped() {
        let mut relations = own();
        relations.push(relation("invoices", &["id bigint"]));
        let found = Found {
            relations: Some(relations),
            granted: true,
        };
        let error = plan(&found, "app", Existing::Drop, "h:1/flare_test").unwrap_err();
        assert!(crate::error::message_of(&error).contains("public.invoices"));
        assert!(words(&found, Existing::Keep).is_empty());
    }
}
