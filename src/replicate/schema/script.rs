//! The script that psql is given: the publisher's dump, rewritten for the subscriber, between what lets the administrator
//! act for the owners and what takes that back.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufReader, Write};

use super::Work;
use crate::catalog::objects::{self, SchemaOwners};
use crate::catalog::roles::foreign_roles;
use crate::error::{Advise, Report, Result, WrapErr};
use crate::replicate::borrowed::Borrowed;
use crate::schema::{DumpReport, DumpTarget, Loader, Restrict, rewrite_dump};
use crate::server::{Login, Server};
use crate::tools::{Toolbox, WRITING, written};
use crate::value::Ident;

/// What psql is given.
pub(crate) struct Script {
    pub(super) toolbox: Toolbox,
    pub(super) file: File,
    pub(super) report: DumpReport,
}

impl Work<'_> {
    pub(super) fn dump(&self, toolbox: &Toolbox, server: &Server, more: &[&str]) -> Result<File> {
        toolbox
            .dump
            .on(server, self.login, self.dbname)?
            .args(self.args.iter())
            .args(more.iter().copied())
            .dump()
            .wrap_err_with(|| {
                format!(
                    "dump the schema of database {:?} of the {}",
                    self.dbname,
                    server.side()
                )
            })
            // Which statement failed, and why, is in the server's language.
            .map_err(|report| match self.login {
                Login::Superuser if server.facts().superuser => report,
                login => hinted(report, server, login),
            })
    }

    pub(super) fn rewrite(
        &self,
        dumped: File,
        output: &mut impl Write,
        schemas: BTreeSet<String>,
        opened: BTreeMap<String, String>,
    ) -> Result<DumpReport> {
        let subscriber = &self.pair.subscriber;
        let target = DumpTarget {
            major: subscriber.major().unsigned_abs(),
            loader: if subscriber.facts().superuser {
                Loader::Superuser
            } else {
                Loader::Ordinary
            },
            restrict: Restrict::Keep,
            schemas,
            opened,
            without_object: self.without_object.clone(),
        };
        rewrite_dump(BufReader::new(dumped), output, &target)
            .wrap_err("rewrite the schema for the subscriber")
    }

    /// The script that is loaded: the administrator acts for the owners while it runs.
    pub(super) fn script(
        &self,
        schemas: BTreeSet<String>,
        has_status_table: bool,
    ) -> Result<Script> {
        let toolbox = self.toolbox(self.pair.publisher.release())?;
        let ours: &[&str] = if has_status_table {
            &["--exclude-table=*.flare_replication_status"]
        } else {
            &[]
        };
        let dumped = self.dump(&toolbox, &self.pair.publisher, ours)?;
        let (file, report) = self.enclosed(dumped, schemas, "")?;
        Ok(Script {
            toolbox,
            file,
            report,
        })
    }

    /// A dump of a part of the schema as it is loaded, with `tail` at its end.
    pub(super) fn script_of(
        &self,
        toolbox: &Toolbox,
        dumped: File,
        schemas: BTreeSet<String>,
        tail: &str,
    ) -> Result<Script> {
        let (file, report) = self.enclosed(dumped, schemas, tail)?;
        Ok(Script {
            toolbox: toolbox.clone(),
            file,
            report,
        })
    }

    /// A dump, rewritten, while the administrator acts for the owners.
    fn enclosed(
        &self,
        dumped: File,
        schemas: BTreeSet<String>,
        more: &str,
    ) -> Result<(File, DumpReport)> {
        let subscriber = &self.pair.subscriber;
        let borrowed = Borrowed::of(subscriber, foreign_roles(subscriber, &self.roles.owners)?)?;
        let (mut head, mut tail) = borrowed.script();
        let mut opened = BTreeMap::new();
        if !subscriber.facts().superuser {
            let schemas = OwnersSchemas::read(self)?;
            opened = schemas.opened();
            head.extend(opened.remove("public"));
            tail.insert_str(0, &schemas.closed());
        }
        if !objects::has_schema(&*self.pair.publisher.visit(self.dbname)?, "public")? {
            tail.push_str(WITHOUT_PUBLIC);
        }
        written(|output| {
            write!(output, "SET TRANSACTION READ WRITE;\n{head}").wrap_err(WRITING)?;
            let report = self.rewrite(dumped, output, schemas, opened)?;
            output.write_all(tail.as_bytes()).wrap_err(WRITING)?;
            output.write_all(more.as_bytes()).wrap_err(WRITING)?;
            Ok(report)
        })
    }

    /// A dump as it is loaded into a new database, whatever the subscriber's already has.
    pub(super) fn canonical(&self, dumped: File) -> Result<(File, DumpReport)> {
        let public = BTreeSet::from(["public".to_owned()]);
        written(|output| self.rewrite(dumped, output, public, BTreeMap::new()))
    }
}

/// Every new database has a schema public, and no dump says that the publisher's has none. What is in use stays.
const WITHOUT_PUBLIC: &str = "DO $$ BEGIN DROP SCHEMA IF EXISTS public; \
     EXCEPTION WHEN dependent_objects_still_exist OR insufficient_privilege THEN NULL; END $$;\n";

/// pg_dump locks every table it describes, which needs a privilege on it.
fn hinted(report: Report, server: &Server, login: Login) -> Report {
    let advice = match login {
        Login::Superuser => "dump as the owner with --use-db-owner, or grant",
        _ => "grant",
    };
    let advice = format!(
        "pg_dump needs SELECT on every table and USAGE on every schema of the {}: {advice} this role what it lacks there, or membership in the owners",
        server.side()
    );
    Err::<(), _>(report).hint(|| advice).unwrap_err()
}

/// Schemas while an ordinary role gives what it makes in them to its owners: each of them needs CREATE there, which
/// pg_dump grants only at the end, and which somebody may have lost since.
struct OwnersSchemas(Vec<SchemaOwners>);

impl OwnersSchemas {
    /// In public, which is the subscriber's own until it is loaded, all owners are let in but the database's.
    fn read(work: &Work) -> Result<OwnersSchemas> {
        let session = work.pair.publisher.visit_as(work.login, work.dbname)?;
        let mut schemas = objects::schema_owners(&session)?;
        let known = schemas.iter().position(|it| it.nspname == "public");
        let mut public = known.map(|at| schemas.remove(at)).unwrap_or_default();
        public.nspname = "public".to_owned();
        public.owners = work.roles.owners.clone();
        public.owners.retain(|owner| *owner != work.source.owner);
        schemas.push(public);
        Ok(OwnersSchemas(schemas))
    }

    /// By schema: its owners are let in.
    fn opened(&self) -> BTreeMap<String, String> {
        let schemas = self.0.iter().map(|schema| {
            let name = Ident::new(&schema.nspname);
            let grant =
                |owner| format!("GRANT CREATE ON SCHEMA {name} TO {};\n", Ident::new(owner));
            (
                schema.nspname.clone(),
                schema.owners.iter().map(grant).collect(),
            )
        });
        schemas.collect()
    }

    fn closed(&self) -> String {
        let revokes = self.0.iter().flat_map(|schema| {
            let name = Ident::new(&schema.nspname);
            let only_now = |owner: &&String| !schema.creators.contains(owner);
            let revoke = move |owner| {
                format!(
                    "REVOKE CREATE ON SCHEMA {name} FROM {};\n",
                    Ident::new(owner)
                )
            };
            schema.owners.iter().filter(only_now).map(revoke)
        });
        revokes.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemas_are_open_to_owners_only_while_they_are_loaded() {
        let schemas = OwnersSchemas(vec![SchemaOwners {
            nspname: "s p".into(),
            owners: vec!["a\"b".into(), "app".into()],
            creators: vec!["app".into()],
        }]);
        assert_eq!(
            schemas.opened()["s p"],
            "GRANT CREATE ON SCHEMA \"s p\" TO \"a\"\"b\";\nGRANT CREATE ON SCHEMA \"s p\" TO \"app\";\n"
        );
        assert_eq!(
            schemas.closed(),
            "REVOKE CREATE ON SCHEMA \"s p\" FROM \"a\"\"b\";\n"
        );
    }
}
