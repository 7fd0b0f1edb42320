//! The generator's own tables, and whether a database holds them and nothing else.

use serde::Deserialize;

use super::DBNAME;
use super::dsn::Dsn;
use crate::error::{Advise, Failure, Report, Result, WrapErr};
use crate::server::SqlError;

/// The original's tables.
pub(super) const ITEMS: &str =
    "CREATE TABLE public.items (id text PRIMARY KEY, name text NOT NULL)";
pub(super) const SESSIONS: &str =
    "CREATE TABLE public.sessions (id text PRIMARY KEY, last_keepalive_at timestamptz NOT NULL)";

/// What else may stand in the database: flare's own.
const FLARES_TABLE: &str = "flare_replication_status";
const FLARES_SCHEMA: &str = "flare";

/// A relation of the users' schemas, with its columns as `name type [not null] [key]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Relation {
    pub(super) schema: String,
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) columns: Vec<String>,
}

const RELATIONS: &str = "
    SELECT jsonb_build_object('schema', n.nspname, 'name', c.relname, 'kind', c.relkind::text, 'columns',
             (SELECT coalesce(jsonb_agg(
                       concat_ws(' ', a.attname, format_type(a.atttypid, a.atttypmod),
                                 CASE WHEN a.attnotnull THEN 'not null' END,
                                 CASE WHEN a.attnum = ANY (k.indkey) THEN 'key' END)
                       ORDER BY a.attnum), '[]')
                FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped))
      FROM pg_class c
      JOIN pg_namespace n ON n.oid = c.relnamespace
      LEFT JOIN pg_index k ON k.indrelid = c.oid AND k.indisprimary
     WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
       AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%'
     ORDER BY n.nspname, c.relname";

pub(super) fn relations(client: &mut postgres::Client) -> Result<Vec<Relation>> {
    let rows = client.query(RELATIONS, &[]).map_err(SqlError::from)?;
    let relations = rows.iter().map(|row| {
        let value: serde_json::Value = row.try_get(0).map_err(SqlError::from)?;
        serde_json::from_value(value).wrap_err("read a row of the catalog")
    });
    relations.collect()
}

fn wanted(name: &str) -> Option<[&'static str; 2]> {
    match name {
        "items" => Some(["id text not null key", "name text not null"]),
        "sessions" => Some([
            "id text not null key",
            "last_keepalive_at timestamp with time zone not null",
        ]),
        _ => None,
    }
}

impl Relation {
    /// Whether it is one of the generator's tables, exactly.
    pub(super) fn is_own(&self) -> bool {
        self.schema == "public"
            && self.kind == "r"
            && wanted(&self.name).is_some_and(|wanted| self.columns == wanted)
    }

    /// Whether it bears the name of one of the generator's tables, whatever it is.
    pub(super) fn is_namesake(&self) -> bool {
        self.schema == "public" && wanted(&self.name).is_some()
    }

    fn is_flares(&self) -> bool {
        self.schema == FLARES_SCHEMA || (self.schema == "public" && self.name == FLARES_TABLE)
    }

    fn described(&self) -> String {
        format!(
            "{}.{} ({})",
            self.schema,
            self.name,
            self.columns.join(", ")
        )
    }
}

/// The relations that are neither the generator's nor flare's: a database that holds such is not dropped.
pub(super) fn unexpected_relations(relations: &[Relation]) -> Vec<String> {
    let strange = relations
        .iter()
        .filter(|relation| !relation.is_own() && !relation.is_flares());
    strange.map(Relation::described).collect()
}

/// Refuses a database that is not the generator's to write to.
pub(super) fn check(client: &mut postgres::Client, dsn: &Dsn) -> Result<()> {
    let found =
        relations(client).wrap_err_with(|| format!("look at the tables of {}", dsn.shown))?;
    let refused = |why: String| format!("attack {}: {why}; nothing was written", dsn.shown);
    let hint = "create the tables with flare create_attack_db, and correct --dsn";
    match objection(&dsn.dbname, &found) {
        None => Ok(()),
        Some(Objection::Foreign(why)) => Failure::new(refused(why)).hint(hint).err(),
        Some(Objection::Empty(why)) => Err(Report::msg(refused(why))).hint(|| hint.into()),
    }
}

/// Why a database is not written to.
#[derive(Debug, PartialEq, Eq)]
enum Objection {
    /// It is another's, and stays so.
    Foreign(String),
    /// It is the generator's, but its tables do not exist yet.
    Empty(String),
}

fn objection(dbname: &str, relations: &[Relation]) -> Option<Objection> {
    let namesakes = relations.iter().filter(|relation| relation.is_namesake());
    if let Some(other) = namesakes.clone().find(|relation| !relation.is_own()) {
        let why = format!("its table {} is not flare's", other.described());
        return Some(Objection::Foreign(why));
    }
    match namesakes.count() {
        2 => None,
        _ if dbname == DBNAME => Some(Objection::Empty(
            "it has no tables public.items and public.sessions".into(),
        )),
        _ => Some(Objection::Foreign(format!(
            "it is neither {DBNAME:?} nor holds the tables public.items and public.sessions"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(schema: &str, name: &str, columns: &[&str]) -> Relation {
        Relation {
            schema: schema.into(),
            name: name.into(),
            kind: "r".into(),
            columns: columns.iter().map(|&column| column.to_owned()).collect(),
        }
    }

    fn own() -> Vec<Relation> {
        ["items", "sessions"]
            .map(|name| table("public", name, &wanted(name).unwrap()))
            .to_vec()
    }

    #[test]
    fn only_tables_of_exactly_the_own_shape_are_written_to() {
        assert_eq!(objection("shop", &own()), None);
        let refused = |dbname, relations: &[Relation]| match objection(dbname, relations) {
            Some(Objection::Foreign(why)) => why,
            other => panic!("{dbname}: {other:?}"),
        };
        let empty = objection("flare_test", &[]);
        assert!(matches!(empty, Some(Objection::Empty(_))));
        let mut wider = own();
        wider[0].columns.push("price numeric".into());
        assert!(refused("flare_test", &wider).contains("price"));
        assert!(refused("shop", &own()[..1]).contains("neither"));
        let mut elsewhere = own();
        elsewhere[1].schema = "app".into();
        assert!(refused("shop", &elsewhere).contains("neither"));
    }

    #[test]
    fn a_database_with_anything_else_in_it_is_a_strangers() {
        let mut found = own();
        found.push(table("public", "flare_replication_status", &["a text"]));
        found.push(table("flare", "journal", &["a text"]));
        assert!(unexpected_relations(&found).is_empty());
        found.push(table("public", "invoices", &["id bigint"]));
        assert_eq!(
            unexpected_relations(&found),
            ["public.invoices (id bigint)"]
        );
    }
}
