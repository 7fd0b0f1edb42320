//! What belongs to a database and is in no dump of its schema: its own properties, settings, roles, tablespaces, other
//! publications, versions of extensions, and where sequences stand.

mod configured;
mod database;
mod publications;
mod roles;

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use self::roles::concerned;
use super::schema::SchemaDifference;
use crate::catalog::databases::{self, Database};
use crate::catalog::{extensions, sequences};
use crate::error::{Failure, Result, WrapErr};
use crate::journal::Stream;
use crate::server::{Login, Pair, Server, Session, params};
use crate::value::{Ident, TableName, counted};

/// What to do about a property that no statement changes.
const FIXED: &str = "it is fixed when the database is made: until the cutover, drop the database on the subscriber and let flare replicate_schema make it";

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Beside {
    pub(super) differences: Vec<SchemaDifference>,
    pub(super) sequences: usize,
    pub(super) sequences_behind: usize,
    pub(super) notes: Vec<String>,
}

/// Compares it.
pub(super) fn compare(pair: &Pair, stream: &Stream) -> Result<Beside> {
    let dbname = &stream.dbname;
    let (publisher, subscriber) = (&pair.publisher, &pair.subscriber);
    let database = |server: &Server| -> Result<Database> {
        databases::database(server.admin(), dbname)?.ok_or_else(|| {
            Failure::new(format!("the {} has no database {dbname:?}", server.side())).into()
        })
    };
    let (ours, theirs) = (database(publisher)?, database(subscriber)?);
    let from = publisher.connect(Login::Superuser, dbname)?;
    let to = subscriber.connect(Login::Superuser, dbname)?;
    let flares = flares_roles(pair);
    let mut beside = Beside::default();
    beside.database(&ours, &theirs, &flares);
    let app_users = &publisher.declared().app_users;
    let mut concerned = concerned(&from, app_users)?;
    concerned.extend(roles::concerned(&to, app_users)?);
    beside.settings(pair, dbname, &concerned, &flares)?;
    beside.roles(&from, &to, &concerned, &flares)?;
    beside.tablespaces(&from, &to)?;
    beside.publications(&from, &to, stream, &flares)?;
    beside.extensions(&from, &to)?;
    beside.sequences(&from, &to)?;
    Ok(beside)
}

/// Whom flare works as: what they may do is not the user's schema.
fn flares_roles(pair: &Pair) -> BTreeSet<String> {
    let servers: [&Server; 2] = [&pair.publisher, &pair.subscriber];
    let names = servers.into_iter().flat_map(|server| {
        let declared = server.declared();
        let repl = declared.repl.as_ref().map(|it| it.user.clone());
        repl.into_iter().chain([declared.superuser.user.clone()])
    });
    names.collect()
}

impl Beside {
    fn differs(
        &mut self,
        kind: &str,
        object: impl Into<String>,
        publisher: Option<String>,
        subscriber: Option<String>,
        statement: Option<String>,
    ) {
        if publisher != subscriber {
            let advice = statement.is_none().then(|| FIXED.to_owned());
            self.differences.push(SchemaDifference {
                kind: kind.to_owned(),
                object: object.into(),
                publisher,
                subscriber,
                statement,
                advice,
            });
        }
    }

    fn tablespaces(&mut self, from: &Session, to: &Session) -> Result<()> {
        #[derive(Deserialize)]
        struct Placed {
            #[serde(flatten)]
            name: TableName,
            word: String,
            tablespace: String,
        }
        let read = |session: &Session| -> Result<BTreeMap<TableName, Placed>> {
            let found: Vec<Placed> = session
                .list(
                    "SELECT jsonb_build_object('schema', n.nspname, 'table', c.relname, 'tablespace', t.spcname,
                              'word', CASE WHEN c.relkind IN ('i', 'I') THEN 'INDEX' WHEN c.relkind = 'm' THEN 'MATERIALIZED VIEW' ELSE 'TABLE' END)
                       FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                       JOIN pg_tablespace t ON t.oid = c.reltablespace
                      WHERE n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'flare')
                        AND c.relkind IN ('r', 'p', 'i', 'I', 'm')",
                    params![],
                )
                .wrap_err("read the tablespaces")?;
            Ok(found.into_iter().map(|it| (it.name.clone(), it)).collect())
        };
        let (ours, theirs) = (read(from)?, read(to)?);
        let names: BTreeSet<&TableName> = ours.keys().chain(theirs.keys()).collect();
        for name in names {
            let (one, other) = (ours.get(name), theirs.get(name));
            let Some(any) = one.or(other) else {
                continue;
            };
            let wanted = one.map_or("pg_default", |it| &it.tablespace);
            self.differs(
                "tablespace",
                format!("{} {name}", any.word.to_lowercase()),
                one.map(|it| it.tablespace.clone()),
                other.map(|it| it.tablespace.clone()),
                Some(format!(
                    "ALTER {} {name} SET TABLESPACE {}",
                    any.word,
                    Ident::from(wanted)
                )),
            );
        }
        Ok(())
    }

    /// A newer server offers newer versions: said, and no difference.
    fn extensions(&mut self, from: &Session, to: &Session) -> Result<()> {
        let theirs = extensions::extensions(to)?;
        for ours in extensions::extensions(from)? {
            let there = theirs.iter().find(|it| it.extname == ours.extname);
            if let Some(there) = there.filter(|it| it.extversion != ours.extversion) {
                self.notes.push(format!(
                    "extension {} is {} on the side that is written and {} on the one that follows",
                    Ident::new(&ours.extname),
                    ours.extversion,
                    there.extversion
                ));
            }
        }
        Ok(())
    }

    fn sequences(&mut self, from: &Session, to: &Session) -> Result<()> {
        let theirs = sequences::read(to)?;
        let ours = sequences::read(from)?;
        self.sequences = ours.len();
        for one in &ours {
            let other = theirs.iter().find(|it| it.name == one.name);
            let behind = other.is_some_and(|other| {
                if one.increment < 0 {
                    other.next() > one.next()
                } else {
                    other.next() < one.next()
                }
            });
            self.sequences_behind += usize::from(behind && !one.cycle);
        }
        if self.sequences_behind > 0 {
            self.notes.push(format!(
                "{} of {} behind on the side that follows: replication carries none; the cutover sets them in the pause, flare replicate_sequences does so now",
                self.sequences_behind, counted(self.sequences, "sequence")
            ));
        }
        Ok(())
    }
}
