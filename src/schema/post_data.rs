//! What pg_dump loads after the rows, taken apart into pieces that may run beside each other.
//!
//! A statement of its own for each index; a PRIMARY KEY or UNIQUE constraint in two, since ADD CONSTRAINT as it is dumped
//! locks out every other index of its table while it builds its own.

use std::io::BufRead;
use std::sync::Arc;

use super::entry::Entry;
use super::statement::{Item, Kind, Statements};
use super::tokens::Tokens;
use crate::error::Result;
use crate::value::TableName;

/// Statements in the order of the dump.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PostData {
    /// Settings that every session makes first.
    pub(crate) settings: String,
    pub(crate) pieces: Vec<Piece>,
}

/// The statements of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// For people: `INDEX a_b_idx in schema public`.
    pub(crate) what: String,
    /// The same on every run.
    pub(crate) id: String,
    pub(crate) sql: String,
    pub(crate) stage: Stage,
}

/// When a piece runs; each stage begins when the one before it has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Beside each other.
    Index {
        table: TableName,
        split: Option<Split>,
    },
    /// One after the other: what needs the indexes, and what foreign keys need.
    Attach,
    /// Beside each other.
    ForeignKey,
    /// One after the other, in the order of the dump.
    Last,
}

/// A constraint as an index and what makes a constraint of it. Not for partitioned tables, which have no USING INDEX.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Split {
    pub(crate) index: String,
    pub(crate) constraint: String,
}

/// Takes a script apart; `None` where it holds text that is not UTF-8, which only psql can send.
pub(crate) fn post_data(script: impl BufRead) -> Result<Option<PostData>> {
    let mut found = PostData::default();
    let mut tablespace = String::new();
    let mut group: Option<(Arc<Entry>, Vec<String>)> = None;
    for item in Statements::new(script) {
        let item = item?;
        if item.kind != Kind::Statement {
            continue;
        }
        let Item { text, entry, .. } = item;
        let Ok(text) = String::from_utf8(text) else {
            return Ok(None);
        };
        let head = Tokens::head(text.as_bytes(), 3);
        if head.start("SET default_tablespace") {
            close(&mut found, group.take());
            tablespace = text;
            continue;
        }
        if head.start("SET default_table_access_method") {
            continue;
        }
        let Some(entry) = entry else {
            found.settings.push_str(&text);
            continue;
        };
        match &mut group {
            Some((known, statements)) if Arc::ptr_eq(known, &entry) => statements.push(text),
            _ => {
                close(&mut found, group.take());
                let set = (!tablespace.is_empty()).then(|| tablespace.clone());
                group = Some((entry, set.into_iter().chain([text]).collect()));
            }
        }
    }
    close(&mut found, group);
    Ok(Some(found))
}

fn close(found: &mut PostData, group: Option<(Arc<Entry>, Vec<String>)>) {
    if let Some((entry, statements)) = group {
        found.pieces.push(Piece::of(&entry, &statements));
    }
}

impl Piece {
    fn of(entry: &Entry, statements: &[String]) -> Piece {
        let sql = statements.concat();
        let stage = match entry.kind.as_str() {
            "INDEX" => match index_of(statements) {
                Some(table) => Stage::Index { table, split: None },
                None => Stage::Last,
            },
            "CONSTRAINT" => constraint_of(statements),
            "INDEX ATTACH" => Stage::Attach,
            "FK CONSTRAINT" => Stage::ForeignKey,
            _ => Stage::Last,
        };
        Piece {
            what: entry.to_string(),
            id: format!("{:016x}", fnv(sql.as_bytes())),
            sql,
            stage,
        }
    }
}

/// FNV-1a, the same in every build.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// `schema.table` at this token.
fn table_at(tokens: &Tokens, index: usize) -> Option<TableName> {
    if tokens.is(index + 1, ".") {
        Some(TableName::new(tokens.name(index)?, tokens.name(index + 2)?))
    } else {
        None
    }
}

fn index_of(statements: &[String]) -> Option<TableName> {
    let creation = statements.iter().find(|it| it.starts_with("CREATE"))?;
    let tokens = Tokens::head(creation.as_bytes(), 12);
    let on = tokens.find("ON")?;
    let from = on + 1 + usize::from(tokens.is(on + 1, "ONLY"));
    table_at(&tokens, from)
}

fn constraint_of(statements: &[String]) -> Stage {
    let Some(at) = statements
        .iter()
        .position(|it| it.starts_with("ALTER TABLE"))
    else {
        return Stage::Last;
    };
    let tokens = Tokens::of(statements[at].as_bytes());
    let only = usize::from(tokens.is(2, "ONLY"));
    let Some(table) = table_at(&tokens, 2 + only) else {
        return Stage::Last;
    };
    let add = 5 + only;
    if !tokens.are(add, "ADD CONSTRAINT") {
        return Stage::Last;
    }
    let kind = add + 3;
    let split = match () {
        () if tokens.is(kind, "EXCLUDE") => None,
        () if tokens.are(kind, "PRIMARY KEY (") => split(&tokens, statements, at, kind + 2),
        () if tokens.are(kind, "UNIQUE (") => split(&tokens, statements, at, kind + 1),
        () if tokens.is(kind, "UNIQUE") || tokens.is(kind, "PRIMARY") => None,
        () => return Stage::Last,
    };
    Stage::Index { table, split }
}

/// `open` is the parenthesis before the columns.
fn split(tokens: &Tokens, statements: &[String], at: usize, open: usize) -> Option<Split> {
    let close = (0..tokens.len()).rev().find(|it| tokens.is(*it, ")"))?;
    // WITHOUT OVERLAPS (18) is an exclusion, which no unique index makes.
    if (open..close).any(|it| tokens.are(it, "WITHOUT OVERLAPS")) {
        return None;
    }
    let text = |first: usize, last: usize| String::from_utf8_lossy(tokens.between(first, last));
    let only = usize::from(tokens.is(2, "ONLY"));
    let table = text(2 + only, 4 + only);
    let name = text(7 + only, 7 + only);
    let kind = text(8 + only, open - 1);
    let before: String = statements[..at].concat();
    let after: String = statements[at + 1..].concat();
    let end = text(close + 1, tokens.len() - 1);
    Some(Split {
        index: format!(
            "{before}CREATE UNIQUE INDEX {name} ON {table} {};\n",
            text(open, close)
        ),
        constraint: format!(
            "ALTER TABLE ONLY {table} ADD CONSTRAINT {name} {kind} USING INDEX {name} {end}\n{after}"
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: &str = r#"
SET statement_timeout = 0;
SELECT pg_catalog.set_config('search_path', '', false);

SET default_tablespace = '';

--
-- Name: a a_pkey; Type: CONSTRAINT; Schema: public; Owner: o
--

ALTER TABLE ONLY public.a
    ADD CONSTRAINT a_pkey PRIMARY KEY (id, "we)ird") INCLUDE (x) WITH (fillfactor='90') DEFERRABLE INITIALLY DEFERRED;

ALTER TABLE ONLY public.a REPLICA IDENTITY USING INDEX a_pkey;


--
-- Name: b b_check; Type: CONSTRAINT; Schema: public; Owner: o
--

ALTER TABLE public.b
    ADD CONSTRAINT b_check CHECK ((a > 0)) NOT VALID;


--
-- Name: a_v; Type: INDEX; Schema: public; Owner: o
--

CREATE UNIQUE INDEX a_v ON public."A.b" USING btree (v);

SET default_tablespace = fast;

--
-- Name: p_k; Type: INDEX; Schema: public; Owner: o
--

CREATE INDEX p_k ON ONLY public.p USING btree (k);


SET default_tablespace = '';

--
-- Name: a fk; Type: FK CONSTRAINT; Schema: public; Owner: o
--

ALTER TABLE ONLY public.a
    ADD CONSTRAINT fk FOREIGN KEY (x) REFERENCES public.b(a);


--
-- Name: a t; Type: CONSTRAINT; Schema: public; Owner: o
--

ALTER TABLE ONLY public.a
    ADD CONSTRAINT t PRIMARY KEY (id, at WITHOUT OVERLAPS);
"#;

    #[test]
    fn pieces_know_when_they_run() {
        let found = post_data(SCRIPT.as_bytes()).unwrap().unwrap();
        assert!(
            found.settings.contains("statement_timeout") && found.settings.contains("search_path")
        );
        let [key, check, index, parent, foreign, overlaps] = found.pieces.as_slice() else {
            panic!("{found:?}");
        };
        let Stage::Index {
            table,
            split: Some(split),
        } = &key.stage
        else {
            panic!("{key:?}");
        };
        assert_eq!(*table, TableName::new("public", "a"));
        assert_eq!(
            split.index,
            "SET default_tablespace = '';\nCREATE UNIQUE INDEX a_pkey ON public.a (id, \"we)ird\") INCLUDE (x) WITH (fillfactor='90');\n"
        );
        assert_eq!(
            split.constraint,
            "ALTER TABLE ONLY public.a ADD CONSTRAINT a_pkey PRIMARY KEY USING INDEX a_pkey DEFERRABLE INITIALLY DEFERRED;\nALTER TABLE ONLY public.a REPLICA IDENTITY USING INDEX a_pkey;\n"
        );
        assert_eq!(check.stage, Stage::Last);
        let table = |piece: &Piece| match &piece.stage {
            Stage::Index { table, split: None } => table.to_string(),
            other => panic!("{other:?}"),
        };
        assert_eq!(table(index), r#""public"."A.b""#);
        assert_eq!(table(parent), r#""public"."p""#);
        assert!(parent.sql.starts_with("SET default_tablespace = fast;\n"));
        assert_eq!(foreign.stage, Stage::ForeignKey);
        assert_eq!(table(overlaps), r#""public"."a""#);
        assert_ne!(key.id, check.id);
    }

    #[test]
    fn what_is_not_utf8_is_left_to_psql() {
        let script = b"--\n-- Name: a; Type: COMMENT; Schema: p; Owner: o\n--\nCOMMENT ON INDEX p.a IS '\xff';\n";
        assert_eq!(post_data(script.as_slice()).unwrap(), None);
    }
}
