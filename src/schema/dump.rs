//! The schema of one database, rewritten so that the target's version and the role that loads it can read it.
//!
//! pg_dump writes for its own version, which may be newer than the target's. Seen with clients 15, 17 and 18 on targets
//! 10 to 18: settings that older servers lack, and the `FUNCTION` of event triggers and operators, which 10 calls `PROCEDURE`.

mod version;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, Write};

use crate::error::Result;

use super::Restrict;
use super::statement::{Item, Kind, Statements};
use super::tokens::Tokens;
use version::{column_version, older_words, setting};

/// Who loads the dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loader {
    Superuser,
    /// An ordinary role: the database's owner, or the master user of a managed server.
    Ordinary,
}

/// The server that the schema goes to.
#[derive(Clone, Debug)]
pub(crate) struct DumpTarget {
    pub(crate) major: u32,
    pub(crate) loader: Loader,
    pub(crate) restrict: Restrict,
    /// Schemas that the database has already: `public`, and those that extensions were installed in.
    pub(crate) schemas: BTreeSet<String>,
    /// What is to follow once a schema has its owner.
    pub(crate) opened: BTreeMap<String, String>,
    /// Schema and name of entries whose privileges are on nothing that it has.
    pub(crate) without_object: BTreeSet<(String, String)>,
}

/// What was changed on the way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DumpReport {
    /// Statements read.
    pub(crate) statements: u64,
    /// Statements left out, by reason.
    pub(crate) removed: BTreeMap<String, u64>,
    /// Statements written differently, by reason.
    pub(crate) rewritten: BTreeMap<String, u64>,
}

enum Verdict {
    Keep,
    Remove(String),
    Rewrite(Vec<u8>, &'static str),
}

/// Rewrites `pg_dump --schema-only` (without `--create`) for its target.
pub(crate) fn rewrite_dump(
    input: impl BufRead,
    output: &mut impl Write,
    target: &DumpTarget,
) -> Result<DumpReport> {
    let mut report = DumpReport::default();
    for item in Statements::new(input) {
        let item = item?;
        report.statements += u64::from(item.kind == Kind::Statement);
        match target.verdict(&item) {
            Verdict::Keep => {
                output.write_all(&item.text)?;
                if let Some(opened) = target.opens(&item) {
                    output.write_all(opened.as_bytes())?;
                }
            }
            Verdict::Remove(why) => {
                log::debug!(
                    "leave out line {}, {}: {why}",
                    item.first_line,
                    item.summary()
                );
                *report.removed.entry(why).or_default() += 1;
            }
            Verdict::Rewrite(text, why) => {
                log::debug!(
                    "rewrite line {}, {}: {why}",
                    item.first_line,
                    item.summary()
                );
                *report.rewritten.entry(why.to_owned()).or_default() += 1;
                output.write_all(&text)?;
            }
        }
    }
    Ok(report)
}

impl DumpTarget {
    fn verdict(&self, item: &Item) -> Verdict {
        match item.kind {
            Kind::Comment => return Verdict::Keep,
            Kind::Backslash => {
                return match self.restrict {
                    Restrict::Keep => Verdict::Keep,
                    Restrict::Remove => Verdict::Remove("this psql does not know it".into()),
                };
            }
            Kind::Statement => {}
        }
        let head = Tokens::head(&item.text, 6);
        let reason = setting(&head, self.major)
            .or_else(|| self.existing_schema(&head))
            .or_else(|| replication(&head))
            .or_else(|| self.privileges_on_nothing(item))
            .or_else(|| self.superusers(&head, item));
        match reason {
            Some(why) => Verdict::Remove(why),
            None => match column_version(&head, item) {
                Verdict::Keep => older_words(&head, item, self.major),
                verdict => verdict,
            },
        }
    }

    /// What follows `ALTER SCHEMA s OWNER TO r`.
    fn opens(&self, item: &Item) -> Option<&str> {
        let head = Tokens::head(&item.text, 6);
        let owned =
            item.kind == Kind::Statement && head.start("ALTER SCHEMA") && head.are(3, "OWNER TO");
        let opened = self.opened.get(&head.name(2).filter(|_| owned)?)?;
        Some(opened.as_str())
    }

    fn existing_schema(&self, head: &Tokens) -> Option<String> {
        let creates = head.start("CREATE SCHEMA") && self.schemas.contains(&head.name(2)?);
        creates.then(|| "the schema exists".to_owned())
    }

    fn privileges_on_nothing(&self, item: &Item) -> Option<String> {
        let entry = item.entry.as_deref().filter(|entry| entry.kind == "ACL")?;
        let key = (entry.schema.clone(), entry.name.clone());
        self.without_object.contains(&key).then(|| {
            format!(
                "privileges on {} of schema {}, which the subscriber's version has not",
                entry.name, entry.schema
            )
        })
    }

    /// What only a superuser, or the owner of what the server made itself, may run.
    fn superusers(&self, head: &Tokens, item: &Item) -> Option<String> {
        if self.loader == Loader::Superuser {
            return None;
        }
        let is_public = |index: usize| head.name(index).as_deref() == Some("public");
        let entry = item.entry.as_deref();
        let catalog =
            entry.is_some_and(|entry| entry.schema == "pg_catalog" && entry.kind == "ACL");
        // From 15 on it belongs to the database's owner; before, to the bootstrap superuser, and a GRANT is only warned about.
        let public = self.major < 15
            && entry.is_some_and(|entry| entry.kind == "ACL" && entry.name == "SCHEMA public");
        if head.start("COMMENT ON EXTENSION") {
            Some("an extension may belong to another role".into())
        } else if (head.start("COMMENT ON SCHEMA") && is_public(3))
            || (head.start("ALTER SCHEMA") && is_public(2) && head.are(3, "OWNER TO"))
            || public
        {
            Some("schema public may belong to another role".into())
        } else if head.start("SET SESSION AUTHORIZATION")
            || head.start("RESET SESSION AUTHORIZATION")
        {
            Some("granting as another role needs superuser".into())
        } else if catalog {
            Some("privileges on system catalogs need superuser".into())
        } else {
            None
        }
    }
}

/// Publications and subscriptions are flare's business, never the dump's.
fn replication(head: &Tokens) -> Option<String> {
    const VERBS: [&str; 4] = ["CREATE", "ALTER", "COMMENT ON", "GRANT"];
    let about = |kind: &str| {
        VERBS
            .iter()
            .any(|verb| head.start(&format!("{verb} {kind}")))
    };
    let label = head.start("SECURITY LABEL")
        && (head.find("ON PUBLICATION").is_some() || head.find("ON SUBSCRIPTION").is_some());
    (about("PUBLICATION") || about("SUBSCRIPTION") || label)
        .then(|| "publications and subscriptions are made by flare".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SCHEMA: &[u8] = include_bytes!("../../fixtures/dumps/schema-pg_dump-18.sql");

    fn target(major: u32, loader: Loader) -> DumpTarget {
        DumpTarget {
            major,
            loader,
            restrict: Restrict::Remove,
            schemas: BTreeSet::from(["public".to_owned()]),
            opened: BTreeMap::new(),
            without_object: BTreeSet::new(),
        }
    }

    #[test]
    fn privileges_on_what_is_gone_are_left_out_and_named() {
        let acl = |name: &str| {
            format!(
                "--\n-- Name: FUNCTION {name}; Type: ACL; Schema: pg_catalog; Owner: postgres\n--\n\nGRANT ALL ON FUNCTION pg_catalog.{name} TO mon;\n"
            )
        };
        let dump = acl("pg_start_backup(label text)") + &acl("pg_switch_wal()");
        let gone = ("pg_catalog", "FUNCTION pg_start_backup(label text)");
        let target = DumpTarget {
            without_object: BTreeSet::from([(gone.0.to_owned(), gone.1.to_owned())]),
            ..target(18, Loader::Superuser)
        };
        let (output, report) = rewrite(dump.as_bytes(), &target);
        let output = String::from_utf8(output).unwrap();
        assert!(!output.contains("GRANT ALL ON FUNCTION pg_catalog.pg_start_backup"));
        assert!(output.contains("GRANT ALL ON FUNCTION pg_catalog.pg_switch_wal"));
        let why = report.removed.keys().next().unwrap();
        assert!(
            why.starts_with("privileges on FUNCTION pg_start_backup(label text)"),
            "{why}"
        );
    }

    #[test]
    fn a_schema_is_opened_once_it_has_its_owner() {
        let dump = "CREATE SCHEMA \"a b\";\n\n\nALTER SCHEMA \"a b\" OWNER TO o;\n\nALTER SCHEMA c OWNER TO o;\n";
        let opens = DumpTarget {
            opened: BTreeMap::from([("a b".to_owned(), "GRANT x;\n".to_owned())]),
            ..target(18, Loader::Ordinary)
        };
        let (output, _) = rewrite(dump.as_bytes(), &opens);
        let output = String::from_utf8(output).unwrap();
        let (before, after) = output.split_once("GRANT x;\n").unwrap();
        assert!(
            before.trim_end().ends_with("\"a b\" OWNER TO o;"),
            "{output}"
        );
        assert!(after.trim_start().starts_with("ALTER SCHEMA c"), "{output}");
    }

    fn rewrite(dump: &[u8], target: &DumpTarget) -> (Vec<u8>, DumpReport) {
        let mut output = Vec::new();
        let report = rewrite_dump(dump, &mut output, target).unwrap();
        (output, report)
    }

    #[test]
    fn only_what_the_target_cannot_read_is_touched() {
        let (output, report) = rewrite(SCHEMA, &target(18, Loader::Superuser));
        let gone = |line: &&[u8]| !output.split(|b| *b == b'\n').any(|kept| kept == *line);
        let gone: Vec<_> = SCHEMA
            .split(|b| *b == b'\n')
            .filter(gone)
            .map(String::from_utf8_lossy)
            .collect();
        assert_eq!(
            gone,
            [
                "\\restrict key",
                "CREATE PUBLICATION pub FOR ALL TABLES WITH (publish = 'insert, update, delete, truncate');",
                "ALTER PUBLICATION pub OWNER TO postgres;",
                "\\unrestrict key",
            ]
        );
        assert_eq!(report.rewritten, BTreeMap::new());
        assert_eq!(report.removed.values().sum::<u64>(), 4);
    }

    #[test]
    fn the_version_of_a_column_is_left_out() {
        let dump = "ALTER TABLE ONLY public.t ALTER COLUMN a SET (pg_attver '3');
ALTER TABLE ONLY public.t ALTER COLUMN b SET (n_distinct '5',
    pg_attver '3');
ALTER TABLE ONLY public.t ALTER COLUMN c SET (pg_attver '3',
    n_distinct '5');
ALTER TABLE ONLY public.t ALTER COLUMN pg_attver SET (n_distinct '5');
COMMENT ON TABLE public.t IS 'SET (pg_attver ''3'')';
";
        let (output, _) = rewrite(dump.as_bytes(), &target(18, Loader::Superuser));
        assert_eq!(
            String::from_utf8(output).unwrap(),
            "ALTER TABLE ONLY public.t ALTER COLUMN b SET (n_distinct '5');
ALTER TABLE ONLY public.t ALTER COLUMN c SET (n_distinct '5');
ALTER TABLE ONLY public.t ALTER COLUMN pg_attver SET (n_distinct '5');
COMMENT ON TABLE public.t IS 'SET (pg_attver ''3'')';
"
        );
    }

    #[test]
    fn older_versions_get_older_words() {
        let (output, report) = rewrite(SCHEMA, &target(10, Loader::Superuser));
        let output = String::from_utf8(output).unwrap();
        assert!(!output.contains("transaction_timeout"));
        assert!(!output.contains("default_table_access_method"));
        assert!(output.contains("EXECUTE PROCEDURE app.etrg();"));
        assert!(output.contains("    PROCEDURE = int4eq,"), "{output}");
        assert!(output.contains("EXECUTE PROCEDURE app.trg('arg;''', 'b\\');"));
        assert_eq!(report.rewritten.values().sum::<u64>(), 3);
        let (output, _) = rewrite(SCHEMA, &target(16, Loader::Superuser));
        assert!(
            !String::from_utf8(output)
                .unwrap()
                .contains("\nSET transaction_timeout")
        );
    }

    #[test]
    fn privileges_on_public_are_the_owners_from_15_on() {
        let dump = b"--\n-- Name: SCHEMA public; Type: ACL; Schema: -; Owner: pg_database_owner\n--\n\nGRANT CREATE ON SCHEMA public TO app;\n";
        let kept = |major, loader| {
            let (output, _) = rewrite(dump, &target(major, loader));
            String::from_utf8_lossy(&output).contains("GRANT")
        };
        assert!(kept(15, Loader::Ordinary) && kept(14, Loader::Superuser));
        assert!(!kept(14, Loader::Ordinary));
    }

    #[test]
    fn an_ordinary_role_is_spared_what_it_may_not() {
        let (output, _) = rewrite(SCHEMA, &target(18, Loader::Ordinary));
        let output = String::from_utf8(output).unwrap();
        for gone in [
            "SESSION AUTHORIZATION",
            "COMMENT ON EXTENSION",
            "ALTER SCHEMA public",
            "pg_proc TO",
        ] {
            assert!(!output.contains(gone), "{gone}");
        }
        assert!(output.contains("GRANT SELECT ON TABLE app.customers TO nopw;"));
    }

    #[test]
    fn schemas_that_are_there_are_not_created() {
        let dump = b"CREATE SCHEMA public;\nCREATE SCHEMA \"a\"\"b\";\nCREATE SCHEMA c;\n";
        let mut target = target(18, Loader::Superuser);
        target.schemas.insert("a\"b".to_owned());
        let (output, _) = rewrite(dump, &target);
        assert_eq!(output, b"CREATE SCHEMA c;\n");
    }

    #[test]
    fn words_inside_strings_and_bytes_that_are_not_utf8_stay() {
        let dump =
            b"COMMENT ON TABLE a IS 'SET transaction_timeout = 0;\n\xff\xfe\n\\restrict x\n';\n";
        let (output, report) = rewrite(dump, &target(10, Loader::Ordinary));
        assert_eq!(output, dump);
        assert_eq!(report.statements, 1);
    }

    proptest! {
        #[test]
        fn rewriting_twice_changes_nothing(major in 10u32..19, ordinary: bool) {
            let loader = if ordinary { Loader::Ordinary } else { Loader::Superuser };
            let target = target(major, loader);
            let (once, _) = rewrite(SCHEMA, &target);
            let (twice, report) = rewrite(&once, &target);
            prop_assert!(once == twice);
            prop_assert!(report.removed.is_empty() && report.rewritten.is_empty());
        }
    }
}
