//! The database itself, created from `pg_database`: `pg_dump --create` writes options that older servers reject.

use std::time::{Duration, Instant};

use super::borrowed::Borrowed;
use super::{Plan, Run};
use crate::catalog::databases::{self, Database};
use crate::catalog::roles::foreign_roles;
use crate::error::{Advise, Failure, Report, Result, WrapErr, message_of};
use crate::server::{
    Login, Server, Session, Side, Subscriber, Timeout, interrupt, params, sqlstate_of,
};
use crate::value::{Ident, Literal};

/// The database's locale as CREATE DATABASE says it, or why the subscriber cannot have it.
fn locale_options(source: &Database, major: i32) -> Result<String> {
    let Database {
        datname,
        datcollate,
        datctype,
        ..
    } = source;
    let libc = format!(
        "LC_COLLATE {} LC_CTYPE {}",
        Literal(datcollate),
        Literal(datctype)
    );
    let refused = |needs: &str, since: i32| {
        Failure::new(format!(
            "create database {datname:?}: its locale is {needs}, which exists only from PostgreSQL {since} on, and the subscriber runs {major}"
        ))
        .hint("create the database on the subscriber yourself with a locale that it has; flare loads into an empty database")
    };
    let locale = source
        .datlocale
        .as_ref()
        .or(source.daticulocale.as_ref())
        .map(Literal);
    match (source.datlocprovider.as_deref(), locale) {
        (Some("i"), Some(locale)) if major >= 15 => {
            let rules = match &source.daticurules {
                Some(_) if major < 16 => return refused("ICU with rules", 16).err(),
                Some(rules) => format!(" ICU_RULES {}", Literal(rules)),
                None => String::new(),
            };
            Ok(format!(
                "LOCALE_PROVIDER icu ICU_LOCALE {locale}{rules} {libc}"
            ))
        }
        (Some("i"), _) => refused("of ICU", 15).err(),
        (Some("b"), Some(locale)) if major >= 17 => Ok(format!(
            "LOCALE_PROVIDER builtin BUILTIN_LOCALE {locale} {libc}"
        )),
        (Some("b"), _) => refused("builtin", 17).err(),
        _ if major >= 15 => Ok(format!("LOCALE_PROVIDER libc {libc}")),
        _ => Ok(libc),
    }
}

/// CREATE DATABASE as the publisher has it, for a subscriber of this version.
pub(super) fn create_statement(source: &Database, major: i32, owner: Owner) -> Result<String> {
    let owner = match owner {
        Owner::Source => format!("OWNER {} ", Ident::new(&source.owner)),
        Owner::Creator => String::new(),
    };
    Ok(format!(
        "CREATE DATABASE {} {owner}TEMPLATE template0 ENCODING {} {}",
        Ident::new(&source.datname),
        Literal(&source.encoding_name),
        locale_options(source, major)?
    ))
}

/// The publisher's database; an error when there is none of this name.
pub(super) fn source(publisher: &Server, dbname: &str) -> Result<Database> {
    databases::database(publisher.admin(), dbname)?.ok_or_else(|| {
        let message = format!("read database {dbname:?} of the publisher: it does not exist");
        Failure::new(message)
            .hint("correct publications in the configuration, or create the database there")
            .into()
    })
}

/// The error for roles that the subscriber lacks.
pub(super) fn refuse_missing_roles(dbname: &str, missing: &[String]) -> Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    Failure::new(format!(
        "replicate database {dbname:?}: the subscriber lacks roles that own objects or hold privileges there: {}; nothing was created",
        missing.join(", ")
    ))
    .hint("run flare replicate_roles first; a role that it leaves alone has to be created by hand, or its objects given to another owner")
    .err()
}

/// Who owns a new database at first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Source,
    /// The creator may not act for the owner yet.
    Creator,
}

/// How long a statement of a flare that was killed may take to come to its end.
const OTHERS_END_WITHIN: Duration = Duration::from_secs(120);

/// A session that creates or drops a database, and no other one of flare's at the same time. The server goes on with the
/// statement of a flare that was killed, and until it has ended the database is neither there nor gone.
pub(super) fn alone_with(subscriber: &Subscriber, dbname: &str) -> Result<Session> {
    const CLASS: i32 = 0x666c_6172;
    let session = subscriber.connect(Login::Superuser, "postgres")?;
    let since = Instant::now();
    loop {
        let taken: bool = session.value(
            "SELECT pg_try_advisory_lock($1, hashtext($2))",
            params![CLASS, dbname],
        )?;
        if taken {
            return Ok(session.with_timeout(Timeout::WhileServerAnswers));
        }
        if since.elapsed() > OTHERS_END_WITHIN {
            return Failure::new(format!(
                "wait for another flare, or what the server still does for one that was killed: it has been creating or dropping database {dbname:?} for {}",
                humantime::format_duration(OTHERS_END_WITHIN)
            ))
            .hint("end that session on the subscriber (pg_stat_activity has it, pg_terminate_backend ends it), then run the command again")
            .err();
        }
        interrupt::sleep(Duration::from_millis(50))?;
    }
}

/// Creates the database, owned as on the publisher. It fails before anything is there.
pub(super) fn create(subscriber: &Subscriber, source: &Database, run: &Run) -> Result<()> {
    let dbname = &source.datname;
    let foreign = foreign_roles(subscriber, std::slice::from_ref(&source.owner))?;
    let owner = if foreign.is_empty() {
        Owner::Source
    } else {
        Owner::Creator
    };
    let statement = create_statement(source, subscriber.major(), owner)?;
    let created = alone_with(subscriber, dbname)?
        .batch(&statement)
        .wrap_err_with(|| format!("create database {dbname:?}"));
    if let Err(report) = created {
        // Interrupted or lost, the statement may have come to its end all the same.
        let answered = sqlstate_of(&report).is_some();
        let report = if answered {
            report
        } else {
            undone(subscriber, source, report)
        };
        return Err(report).hint(|| {
            "when the subscriber's system lacks the locale, install it there, or create the database yourself with one that it has: flare loads into an empty database".into()
        });
    }
    run.progress
        .step(&format!("created database {dbname:?} on the subscriber"));
    if owner == Owner::Creator {
        let mut plan = Plan::new(Side::Subscriber, "postgres");
        plan.step(
            format!("give database {dbname:?} to {:?}", source.owner),
            format!(
                "ALTER DATABASE {} OWNER TO {}",
                Ident::new(dbname),
                Ident::new(&source.owner)
            ),
        );
        let plan = Borrowed::of(subscriber, foreign)?.around(plan);
        if let Err(report) = plan.carry_out(subscriber.admin(), run) {
            return Err(undone(subscriber, source, report));
        }
    }
    Ok(())
}

/// Drops the database that this run created, after a failure. Never call it for one that was there before.
pub(super) fn undone(subscriber: &Subscriber, source: &Database, cause: Report) -> Report {
    let _shield = interrupt::Shield::raise();
    let dbname = &source.datname;
    match drop_created(subscriber, source) {
        Ok(()) => {
            log::info!("dropped database {dbname:?} again");
            cause
        }
        Err(undo) => {
            let left = format!(
                "database {dbname:?}, created by this run, is still on the subscriber ({}): drop it, or run the command again",
                message_of(&undo)
            );
            cause.wrap_err(left)
        }
    }
}

/// Drops it, where it was created by flare and nothing is in it.
pub(super) fn drop_created(subscriber: &Subscriber, source: &Database) -> Result<()> {
    subscriber.end_visits();
    // The session may be the one that broke.
    let session = alone_with(subscriber, &source.datname)?;
    let Some(found) = databases::database(&session, &source.datname)? else {
        return Ok(());
    };
    let foreign = foreign_roles(subscriber, &[found.owner])?;
    let borrowed = Borrowed::of(subscriber, foreign)?;
    // A killed psql's backend may still be at its last statement.
    session.value::<i64>(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
          WHERE datname = $1 AND usename = current_user AND pid <> pg_backend_pid()",
        params![&source.datname],
    )?;
    for statement in borrowed.grants() {
        statement.run(&session)?;
    }
    let dropped = session.batch(&format!(
        "DROP DATABASE IF EXISTS {}",
        Ident::new(&source.datname)
    ));
    for statement in borrowed.revokes() {
        statement.run(&session)?;
    }
    dropped
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeSet;

    use super::*;

    pub(in crate::replicate) fn shop() -> Database {
        Database {
            datname: "sh\"op".into(),
            owner: "own".into(),
            encoding_name: "UTF8".into(),
            datcollate: "C".into(),
            datctype: "en_US.UTF-8".into(),
            datlocprovider: None,
            datlocale: None,
            daticulocale: None,
            daticurules: None,
            datconnlimit: -1,
            comment: None,
            acl: BTreeSet::new(),
        }
    }

    #[test]
    fn each_version_hears_of_its_own_locale_options() {
        let old = shop();
        assert_eq!(
            create_statement(&old, 14, Owner::Source).unwrap(),
            r#"CREATE DATABASE "sh""op" OWNER "own" TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'en_US.UTF-8'"#
        );
        let create = |provider: &str, locale: &str, major| {
            let source = Database {
                datlocprovider: Some(provider.into()),
                datlocale: Some(locale.into()),
                ..shop()
            };
            create_statement(&source, major, Owner::Creator)
        };
        let text = create("i", "de-DE", 18).unwrap();
        assert!(
            text.contains("LOCALE_PROVIDER icu ICU_LOCALE 'de-DE' LC_COLLATE 'C'"),
            "{text}"
        );
        let text = create("b", "C.UTF-8", 17).unwrap();
        assert!(
            text.contains("LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8'"),
            "{text}"
        );
        assert!(create("i", "de-DE", 14).is_err());
        assert!(create("b", "C.UTF-8", 16).is_err());
        assert!(
            create("c", "", 18)
                .unwrap()
                .contains("LOCALE_PROVIDER libc")
        );
    }
}
