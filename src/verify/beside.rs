//! What belongs to a database and is in no dump of its schema: its own properties, settings, roles, tablespaces, other
//! publications, versions of extensions, and where sequences stand.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::schema::SchemaDifference;
use crate::catalog::databases::{self, Database, Privilege};
use crate::catalog::settings::{self, Setting};
use crate::catalog::{extensions, sequences};
use crate::error::{Failure, Result, WrapErr};
use crate::journal::Stream;
use crate::replicate::setting;
use crate::server::{Login, Pair, Server, Session, params};
use crate::value::{Ident, Literal, TableName};

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
    let concerned = concerned(&from)?;
    beside.settings(
        &settings::settings(publisher.admin())?,
        &settings::settings(subscriber.admin())?,
        dbname,
        &concerned,
        &flares,
    );
    beside.roles(&from, &to, &concerned, &flares)?;
    beside.tablespaces(&from, &to)?;
    beside.publications(&from, &to, stream)?;
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

/// Roles that have to do with the database: they own something in it, hold a privilege, or have a setting for it, and
/// whoever is a member of such a role.
fn concerned(session: &Session) -> Result<BTreeSet<String>> {
    let names: Vec<String> = session
        .value(
            "WITH RECURSIVE named(oid) AS (
               SELECT s.refobjid FROM pg_shdepend s, pg_database d
                WHERE s.refclassid = 'pg_authid'::regclass AND d.datname = current_database()
                  AND (s.dbid = d.oid OR s.classid = 'pg_database'::regclass AND s.objid = d.oid)
               UNION SELECT s.setrole FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase
                      WHERE d.datname = current_database()
               UNION SELECT m.member FROM named n JOIN pg_auth_members m ON m.roleid = n.oid)
             SELECT array(SELECT r.rolname::text FROM pg_roles r JOIN named n ON n.oid = r.oid
                           WHERE r.oid <> 10 AND r.rolname !~ '^(pg_|rds)')",
            params![],
        )
        .wrap_err("read the roles of the database")?;
    Ok(names.into_iter().collect())
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Attributes {
    rolname: String,
    rolsuper: bool,
    rolinherit: bool,
    rolcreaterole: bool,
    rolcreatedb: bool,
    rolcanlogin: bool,
    rolreplication: bool,
    rolbypassrls: bool,
    rolconnlimit: i32,
    /// Those it is a member of.
    member_of: Vec<String>,
}

impl Attributes {
    fn words(&self) -> Vec<String> {
        let flags = [
            ("SUPERUSER", self.rolsuper),
            ("INHERIT", self.rolinherit),
            ("CREATEROLE", self.rolcreaterole),
            ("CREATEDB", self.rolcreatedb),
            ("LOGIN", self.rolcanlogin),
            ("REPLICATION", self.rolreplication),
            ("BYPASSRLS", self.rolbypassrls),
        ];
        let word = |(word, is): (&str, bool)| {
            if is {
                word.to_owned()
            } else {
                format!("NO{word}")
            }
        };
        let mut words: Vec<String> = flags.into_iter().map(word).collect();
        words.push(format!("CONNECTION LIMIT {}", self.rolconnlimit));
        words
    }
}

fn attributes(session: &Session, names: &BTreeSet<String>) -> Result<BTreeMap<String, Attributes>> {
    let names: Vec<String> = names.iter().cloned().collect();
    let found: Vec<Attributes> = session
        .list(
            "SELECT to_jsonb(r) || jsonb_build_object('member_of', (
                      SELECT coalesce(jsonb_agg(DISTINCT g.rolname), '[]') FROM pg_auth_members m
                        JOIN pg_roles g ON g.oid = m.roleid WHERE m.member = r.oid))
               FROM pg_roles r WHERE r.rolname = ANY ($1::text[]::name[])",
            params![names],
        )
        .wrap_err("read the roles")?;
    Ok(found
        .into_iter()
        .map(|it| (it.rolname.clone(), it))
        .collect())
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
            self.differences.push(SchemaDifference {
                kind: kind.to_owned(),
                object: object.into(),
                publisher,
                subscriber,
                statement,
            });
        }
    }

    fn database(&mut self, ours: &Database, theirs: &Database, flares: &BTreeSet<String>) {
        let dbname = Ident::new(&ours.datname);
        let mut facet = |what: &str, ours: Option<String>, theirs: Option<String>, mend| {
            self.differs("database", format!("{dbname} {what}"), ours, theirs, mend);
        };
        facet(
            "owner",
            Some(ours.owner.clone()),
            Some(theirs.owner.clone()),
            Some(format!(
                "ALTER DATABASE {dbname} OWNER TO {}",
                Ident::new(&ours.owner)
            )),
        );
        facet(
            "encoding",
            Some(ours.encoding_name.clone()),
            Some(theirs.encoding_name.clone()),
            None,
        );
        facet(
            "LC_COLLATE",
            Some(ours.datcollate.clone()),
            Some(theirs.datcollate.clone()),
            None,
        );
        facet(
            "LC_CTYPE",
            Some(ours.datctype.clone()),
            Some(theirs.datctype.clone()),
            None,
        );
        // Before 15 there is libc alone.
        let provider = |it: &Database| it.datlocprovider.clone().or(Some("c".to_owned()));
        facet("locale provider", provider(ours), provider(theirs), None);
        let locale = |it: &Database| it.datlocale.clone().or(it.daticulocale.clone());
        facet("locale", locale(ours), locale(theirs), None);
        facet(
            "ICU rules",
            ours.daticurules.clone(),
            theirs.daticurules.clone(),
            None,
        );
        facet(
            "connection limit",
            Some(ours.datconnlimit.to_string()),
            Some(theirs.datconnlimit.to_string()),
            Some(format!(
                "ALTER DATABASE {dbname} CONNECTION LIMIT {}",
                ours.datconnlimit
            )),
        );
        facet(
            "comment",
            ours.comment.clone(),
            theirs.comment.clone(),
            Some(format!(
                "COMMENT ON DATABASE {dbname} IS {}",
                ours.comment
                    .as_ref()
                    .map_or("NULL".to_owned(), |it| Literal(it).to_string())
            )),
        );
        // CONNECT is given and taken by pauses and the cutover; the owner's own privileges go with the owner.
        let counts = |it: &&Privilege, of: &Database| {
            it.privilege != "CONNECT"
                && it
                    .grantee
                    .as_ref()
                    .is_none_or(|role| !flares.contains(role) && *role != of.owner)
        };
        let held: BTreeSet<&Privilege> = ours.acl.iter().filter(|it| counts(it, ours)).collect();
        let there: BTreeSet<&Privilege> =
            theirs.acl.iter().filter(|it| counts(it, theirs)).collect();
        let grantee = |it: &Privilege| {
            it.grantee
                .as_ref()
                .map_or("PUBLIC".to_owned(), |role| Ident::new(role).to_string())
        };
        for it in held.symmetric_difference(&there) {
            let option = if it.grantable {
                " WITH GRANT OPTION"
            } else {
                ""
            };
            let granted = format!("{}{option}", it.privilege);
            let (to, privilege) = (grantee(it), &it.privilege);
            let (publisher, subscriber, statement) = match held.contains(*it) {
                true => (
                    Some(granted),
                    None,
                    format!("GRANT {privilege} ON DATABASE {dbname} TO {to}{option}"),
                ),
                false => (
                    None,
                    Some(granted),
                    format!("REVOKE {privilege} ON DATABASE {dbname} FROM {to}"),
                ),
            };
            self.differs(
                "grants",
                format!("DATABASE {dbname} to {to}"),
                publisher,
                subscriber,
                Some(statement),
            );
        }
    }

    fn settings(
        &mut self,
        ours: &[Setting],
        theirs: &[Setting],
        dbname: &str,
        concerned: &BTreeSet<String>,
        flares: &BTreeSet<String>,
    ) {
        // The fence of the side that follows.
        const READ_ONLY: &str = "default_transaction_read_only";
        let counts = |it: &&Setting| {
            let of_role = it
                .role
                .as_ref()
                .is_none_or(|role| concerned.contains(role) && !flares.contains(role));
            let of_database = it
                .dbname
                .as_deref()
                .map_or(it.role.is_some(), |it| it == dbname);
            of_role && of_database && it.name != READ_ONLY
        };
        type Whose<'a> = (&'a Option<String>, &'a Option<String>, &'a String);
        let by =
            |all: &'_ [Setting]| -> Vec<Setting> { all.iter().filter(counts).cloned().collect() };
        let (ours, theirs) = (by(ours), by(theirs));
        fn whose(it: &Setting) -> Whose<'_> {
            (&it.role, &it.dbname, &it.name)
        }
        let theirs: BTreeMap<Whose<'_>, &Setting> =
            theirs.iter().map(|it| (whose(it), it)).collect();
        let ours: BTreeMap<Whose<'_>, &Setting> = ours.iter().map(|it| (whose(it), it)).collect();
        let all: BTreeSet<&Whose<'_>> = ours.keys().chain(theirs.keys()).collect();
        for key in all {
            let (one, other) = (ours.get(key), theirs.get(key));
            let Some(any) = one.or(other) else {
                continue;
            };
            let statement = one.map_or_else(|| reset(any), |it| setting::statement(it));
            self.differs(
                "setting",
                setting::what(any),
                one.map(|it| it.value.clone()),
                other.map(|it| it.value.clone()),
                Some(statement),
            );
        }
    }

    fn roles(
        &mut self,
        from: &Session,
        to: &Session,
        concerned: &BTreeSet<String>,
        flares: &BTreeSet<String>,
    ) -> Result<()> {
        let names: BTreeSet<String> = concerned.difference(flares).cloned().collect();
        let (ours, theirs) = (attributes(from, &names)?, attributes(to, &names)?);
        for (name, one) in &ours {
            // One that is missing is named with the schema.
            let Some(other) = theirs.get(name) else {
                continue;
            };
            let role = Ident::new(name);
            let (wanted, there) = (one.words(), other.words());
            let only = |words: &[String], but: &[String]| -> Vec<String> {
                words
                    .iter()
                    .filter(|it| !but.contains(it))
                    .cloned()
                    .collect()
            };
            let lacking = only(&wanted, &there);
            if !lacking.is_empty() {
                let statement = format!("ALTER ROLE {role} {}", lacking.join(" "));
                self.differs(
                    "role",
                    role.to_string(),
                    Some(lacking.join(" ")),
                    Some(only(&there, &wanted).join(" ")),
                    Some(statement),
                );
            }
            for group in one
                .member_of
                .iter()
                .filter(|it| !other.member_of.contains(it))
            {
                let statement = format!("GRANT {} TO {role}", Ident::new(group));
                self.differs(
                    "membership",
                    format!("{role} in {group}"),
                    Some(String::from("member")),
                    None,
                    Some(statement),
                );
            }
            for group in other
                .member_of
                .iter()
                .filter(|it| !one.member_of.contains(it))
            {
                let statement = format!("REVOKE {} FROM {role}", Ident::new(group));
                self.differs(
                    "membership",
                    format!("{role} in {group}"),
                    None,
                    Some(String::from("member")),
                    Some(statement),
                );
            }
        }
        Ok(())
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

    /// The user's own publications: they do not follow the cutover.
    fn publications(&mut self, from: &Session, to: &Session, stream: &Stream) -> Result<()> {
        #[derive(Deserialize)]
        struct Other {
            pubname: String,
            definition: String,
        }
        let read = |session: &Session| -> Result<BTreeMap<String, String>> {
            let found: Vec<Other> = session
                .list(
                    "SELECT jsonb_build_object('pubname', p.pubname, 'definition',
                              CASE WHEN p.puballtables THEN 'FOR ALL TABLES' ELSE coalesce('FOR TABLE ' ||
                                (SELECT string_agg(format('%I.%I', n.nspname, c.relname), ', ' ORDER BY n.nspname, c.relname)
                                   FROM pg_publication_rel r JOIN pg_class c ON c.oid = r.prrelid
                                   JOIN pg_namespace n ON n.oid = c.relnamespace WHERE r.prpubid = p.oid), '') END)
                       FROM pg_publication p",
                    params![],
                )
                .wrap_err("read the publications")?;
            Ok(found
                .into_iter()
                .map(|it| (it.pubname, it.definition))
                .collect())
        };
        let (ours, theirs) = (read(from)?, read(to)?);
        let back = Stream::of(
            &stream.dbname,
            &stream.subname,
            &stream.pubname,
            crate::journal::Direction::Back,
        );
        let flares = |name: &str| {
            name == stream.pubname
                || name == back.pubname
                || stream.pubname.strip_suffix("_back") == Some(name)
        };
        for (name, definition) in ours.iter().filter(|(name, _)| !flares(name)) {
            let statement = format!("CREATE PUBLICATION {} {definition}", Ident::new(name));
            self.differs(
                "publication",
                Ident::new(name).to_string(),
                Some(definition.clone()),
                theirs.get(name).cloned(),
                Some(statement.trim_end().to_owned()),
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
                    "extension {} is {} on the publisher and {} on the subscriber",
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
            let behind = other.is_some_and(|other| match one.increment < 0 {
                true => other.next() > one.next(),
                false => other.next() < one.next(),
            });
            self.sequences_behind += usize::from(behind && !one.cycle);
        }
        if self.sequences_behind > 0 {
            self.notes.push(format!(
                "{} of {} sequences stand behind on the side that follows: replication carries none; the cutover sets them in the pause, flare replicate_sequences does so now",
                self.sequences_behind, self.sequences
            ));
        }
        Ok(())
    }
}

/// `ALTER ... RESET` of a setting that the publisher does not have.
fn reset(it: &Setting) -> String {
    let name = Ident::new(&it.name);
    match (&it.role, &it.dbname) {
        (Some(role), Some(dbname)) => format!(
            "ALTER ROLE {} IN DATABASE {} RESET {name}",
            Ident::new(role),
            Ident::new(dbname)
        ),
        (Some(role), None) => format!("ALTER ROLE {} RESET {name}", Ident::new(role)),
        (None, Some(dbname)) => format!("ALTER DATABASE {} RESET {name}", Ident::new(dbname)),
        (None, None) => format!("ALTER ROLE ALL RESET {name}"),
    }
}
