//! What a statement is to both sides: decided by its first words, before anything runs.

use crate::schema::Tokens;

/// Which side commits first.
///
/// What only adds something commits on the side that receives first, so that no row arrives before its place. What changes
/// the shape of rows commits on the open side first: everything written before has arrived by then, and when flare dies in
/// between, the statement can still be run on the other side, whereas rows of the old shape could never be applied there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum First {
    Receiving,
    Open,
}

/// How a statement is brought to both sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// In a transaction on each side.
    Both(First),
    /// PostgreSQL runs it outside of transactions only.
    Outside(First),
    /// It changes rows: on the open side alone, replication carries them.
    Rows,
    /// A session's setting, for the statements that follow in a file.
    Setting,
    /// Neither side gets it, and why.
    Refused(&'static str),
}

const ABOVE: &str =
    "it concerns the whole server: run it on both by hand, or flare replicate_roles";
const FLARES: &str = "publications and subscriptions are flare's while it moves this database";
const CONTROL: &str =
    "each statement is a transaction of its own here: take BEGIN, COMMIT and the like out";

/// What is created or dropped above databases.
const SHARED: [&str; 6] = ["DATABASE", "ROLE", "USER", "GROUP", "TABLESPACE", "SYSTEM"];

/// What a statement is; `majors` are the versions of the open and of the receiving side.
pub(super) fn kind_of(text: &str, majors: (i32, i32)) -> Kind {
    let tokens = Tokens::of(text.as_bytes());
    if let Some(refused) = flares_own(&tokens) {
        return refused;
    }
    let word = String::from_utf8_lossy(tokens.raw(0)).to_ascii_uppercase();
    match word.as_str() {
        "INSERT" | "UPDATE" | "DELETE" | "MERGE" => Kind::Rows,
        "WITH" => {
            if ["INSERT", "UPDATE", "DELETE", "MERGE"]
                .iter()
                .any(|word| tokens.find(word).is_some())
            {
                Kind::Rows
            } else {
                Kind::Refused("it changes nothing")
            }
        }
        "TRUNCATE" if majors.0 >= 11 && majors.1 >= 11 => Kind::Rows,
        "TRUNCATE" => Kind::Refused("PostgreSQL 10 does not replicate it: use DELETE"),
        "SET" if tokens.is(1, "LOCAL") || tokens.is(1, "TRANSACTION") => Kind::Refused(CONTROL),
        "SET" | "RESET" => Kind::Setting,
        "SELECT" if tokens.find("set_config").is_some_and(|at| at <= 4) => Kind::Setting,
        "SELECT" if tokens.find("INTO").is_some() => {
            Kind::Refused("CREATE TABLE ... AS says the same, and can be brought to both sides")
        }
        "BEGIN" | "START" | "COMMIT" | "END" | "ROLLBACK" | "ABORT" | "SAVEPOINT" | "RELEASE" => {
            Kind::Refused(CONTROL)
        }
        "PREPARE" if tokens.is(1, "TRANSACTION") => Kind::Refused(CONTROL),
        "CREATE" | "ALTER" | "DROP" => definition(&tokens, majors),
        "COMMENT" | "SECURITY" => {
            if on_shared(&tokens) {
                Kind::Refused(ABOVE)
            } else {
                Kind::Both(First::Receiving)
            }
        }
        "GRANT" | "REVOKE" => {
            if tokens.find("ON").is_none() || on_shared(&tokens) {
                Kind::Refused(ABOVE)
            } else {
                Kind::Both(First::Receiving)
            }
        }
        // It may change the shape of rows; what it only adds can wait for the other side.
        "DO" => Kind::Both(First::Open),
        "IMPORT" | "REFRESH" | "CLUSTER" => Kind::Both(First::Receiving),
        "REINDEX" => {
            if tokens.find("CONCURRENTLY").is_some() || tokens.is(1, "DATABASE") {
                Kind::Outside(First::Receiving)
            } else {
                Kind::Both(First::Receiving)
            }
        }
        "REASSIGN" => Kind::Refused("the other side's role may own something else"),
        _ => Kind::Refused("it defines nothing that both sides share"),
    }
}

/// CREATE, ALTER and DROP.
fn definition(tokens: &Tokens<'_>, majors: (i32, i32)) -> Kind {
    let second = String::from_utf8_lossy(tokens.raw(1)).to_ascii_uppercase();
    let mapping = second == "USER" && tokens.is(2, "MAPPING");
    if SHARED.contains(&second.as_str()) && !mapping {
        return Kind::Refused(ABOVE);
    }
    let creates = tokens.is(0, "CREATE");
    let indexes = (1..4).any(|at| tokens.is(at, "INDEX"));
    match second.as_str() {
        "PUBLICATION" | "SUBSCRIPTION" => return Kind::Refused(FLARES),
        "OWNED" => return Kind::Refused("the other side's role may own something else"),
        "TEMP" | "TEMPORARY" | "LOCAL" | "GLOBAL" if creates => {
            return Kind::Refused("a temporary object ends with the session");
        }
        _ => {}
    }
    if indexes && tokens.find("CONCURRENTLY").is_some_and(|at| at <= 4) {
        // A row that a new unique index forbids must not be written any more when the other side gets it.
        return Kind::Outside(if creates {
            First::Open
        } else {
            First::Receiving
        });
    }
    if tokens.start("ALTER TABLE") && is_detach_concurrently(tokens) {
        return match majors.0.min(majors.1) {
            ..=13 => Kind::Refused(
                "PostgreSQL before 14 detaches partitions without CONCURRENTLY only: take the word out",
            ),
            _ => Kind::Outside(First::Open),
        };
    }
    if tokens.start("ALTER TYPE") && tokens.find("ADD VALUE").is_some() {
        return match majors.0.min(majors.1) {
            ..=11 => Kind::Outside(First::Receiving),
            _ => Kind::Both(First::Receiving),
        };
    }
    if creates && !indexes {
        Kind::Both(First::Receiving)
    } else {
        Kind::Both(First::Open)
    }
}

fn is_detach_concurrently(tokens: &Tokens<'_>) -> bool {
    tokens.find("DETACH PARTITION").is_some() && tokens.find("CONCURRENTLY").is_some()
}

/// Whether it is ON something above databases.
fn on_shared(tokens: &Tokens<'_>) -> bool {
    let on = tokens.find("ON");
    on.is_some_and(|on| {
        [
            "DATABASE",
            "ROLE",
            "TABLESPACE",
            "PARAMETER",
            "SUBSCRIPTION",
            "PUBLICATION",
        ]
        .iter()
        .any(|word| tokens.is(on + 1, word))
    })
}

/// Refused when it names what flare itself has put there.
fn flares_own(tokens: &Tokens<'_>) -> Option<Kind> {
    let own = (0..tokens.len()).any(|at| {
        let name = tokens.name(at).unwrap_or_default();
        name.starts_with("flare_replication_status")
            || ["flare_fence", "flare_truncate"].contains(&name.as_str())
            || (name == "flare"
                && (tokens.is(at + 1, ".") || tokens.is(at.wrapping_sub(1), "SCHEMA")))
    });
    own.then_some(Kind::Refused("it names an object of flare's own"))
}

/// Whether a statement makes a table out of a query, whose rows the other side gets by a copy.
pub(super) fn makes_table_of_query(text: &str) -> bool {
    let tokens = Tokens::of(text.as_bytes());
    let table = tokens.start("CREATE TABLE") || tokens.start("CREATE UNLOGGED TABLE");
    // PARTITION OF, LIKE and column lists have no AS before a query.
    let query = ["SELECT", "TABLE", "VALUES", "WITH", "EXECUTE", "("];
    table
        && (2..tokens.len()).any(|at| {
            tokens.is(at, "AS")
                && query.iter().any(|word| tokens.is(at + 1, word))
                && !tokens.is(at.wrapping_sub(1), "ALWAYS")
        })
}

/// The same without rows.
pub(super) fn without_rows(text: &str) -> String {
    let tokens = Tokens::of(text.as_bytes());
    let last = tokens.len();
    let says = |words: &str, count: usize| last >= count && tokens.are(last - count, words);
    if says("WITH NO DATA", 3) {
        return text.to_owned();
    }
    let kept = if says("WITH DATA", 2) {
        tokens.between(0, last - 3)
    } else {
        tokens.between(0, last - 1)
    };
    format!("{} WITH NO DATA", String::from_utf8_lossy(kept))
}

/// Whether it makes a foreign key, which is checked for the rows that are there.
pub(super) fn refers_to_rows(text: &str) -> bool {
    Tokens::of(text.as_bytes()).find("REFERENCES").is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Kind {
        kind_of(text, (14, 15))
    }

    #[test]
    fn what_adds_commits_on_the_receiving_side_first_and_what_changes_rows_on_the_open_one() {
        for text in [
            "CREATE TABLE t (id int)",
            "/* x */ create or replace view v as select 1",
            "CREATE TYPE e AS ENUM ('begin')",
            "ALTER TYPE e ADD VALUE 'x'",
            "COMMENT ON TABLE t IS 'on database'",
            "GRANT SELECT ON t TO app",
        ] {
            assert_eq!(of(text), Kind::Both(First::Receiving), "{text}");
        }
        for text in [
            "ALTER TABLE t RENAME TO u",
            "DROP TABLE t",
            "ALTER TABLE t ADD c int",
            "CREATE UNIQUE INDEX i ON t (id)",
            "ALTER TABLE \"concurrently\" ADD c int",
            "DO $$ begin commit; end $$",
        ] {
            assert_eq!(of(text), Kind::Both(First::Open), "{text}");
        }
    }

    #[test]
    fn what_postgresql_runs_outside_of_transactions_is_known() {
        for text in [
            "CREATE UNIQUE INDEX CONCURRENTLY i ON t (id)",
            "ALTER TABLE t DETACH PARTITION p CONCURRENTLY",
        ] {
            assert_eq!(of(text), Kind::Outside(First::Open), "{text}");
        }
        assert_eq!(
            of("drop index concurrently if exists i"),
            Kind::Outside(First::Receiving)
        );
        assert_eq!(
            kind_of("ALTER TYPE e ADD VALUE 'x'", (18, 10)),
            Kind::Outside(First::Receiving)
        );
    }

    #[test]
    fn rows_go_by_replication_and_the_rest_is_refused() {
        for text in [
            "INSERT INTO t VALUES (1)",
            "with a as (select 1) update t set x = 1",
            "TRUNCATE t",
        ] {
            assert_eq!(of(text), Kind::Rows, "{text}");
        }
        for text in [
            "BEGIN",
            "COMMIT",
            "SELECT 1",
            "CREATE ROLE r",
            "ALTER SYSTEM SET x = 1",
            "GRANT a TO b",
            "GRANT CONNECT ON DATABASE d TO r",
            "DROP OWNED BY r",
            "CREATE TEMP TABLE t ()",
            "CREATE PUBLICATION p",
            "DROP TABLE public.flare_replication_status",
            "DROP SCHEMA flare CASCADE",
            "VACUUM",
            "COPY t FROM STDIN",
        ] {
            assert!(matches!(of(text), Kind::Refused(_)), "{text}");
        }
        assert!(matches!(kind_of("TRUNCATE t", (10, 18)), Kind::Refused(_)));
        let detach = "ALTER TABLE t DETACH PARTITION p CONCURRENTLY";
        assert!(matches!(kind_of(detach, (13, 18)), Kind::Refused(_)));
        assert_eq!(
            of("CREATE USER MAPPING FOR r SERVER s"),
            Kind::Both(First::Receiving)
        );
        assert_eq!(of("SET search_path = app"), Kind::Setting);
    }

    #[test]
    fn a_table_of_a_query_comes_without_rows() {
        assert!(makes_table_of_query("CREATE TABLE a AS SELECT 1"));
        assert!(makes_table_of_query("create table a (x) as (select 1)"));
        assert!(!makes_table_of_query(
            "CREATE TABLE a (b int GENERATED ALWAYS AS (1) STORED)"
        ));
        assert_eq!(
            without_rows("CREATE TABLE a AS SELECT 1 with data -- x"),
            "CREATE TABLE a AS SELECT 1 WITH NO DATA"
        );
        assert_eq!(
            without_rows("CREATE TABLE a AS SELECT 1 ;"),
            "CREATE TABLE a AS SELECT 1 ; WITH NO DATA"
        );
    }
}
