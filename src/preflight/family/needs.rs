//! What the schema needs of the subscriber beside its version and extensions: settings that functions set, files of text
//! search, collations that come with the server, and methods of compression that it was built with.

use serde::Deserialize;

use super::capacity::{SETTINGS, Settings};
use crate::catalog::settings::UNLISTED;
use crate::preflight::finding::Finding;
use crate::preflight::question::{Place, Question};
use crate::preflight::registry::{Before, Check};
use crate::preflight::view::Ends;

pub(crate) const CHECKS: &[Check] = &[
    Check {
        id: "function_settings",
        title: "the subscriber knows every setting that functions set",
        before: Before::Setup,
        place: Place::Database,
        asks: &[SET_BY_FUNCTIONS.on_publisher(), SETTINGS.on_subscriber()],
        judge: |view| match (view.publisher, view.subscriber) {
            // Others are not shown every setting.
            (Some(publisher), Some(subscriber)) if subscriber.superuser && !view.subscribed => {
                Ok(unknown(
                    &publisher.rows(&SET_BY_FUNCTIONS)?,
                    &Settings::of(subscriber)?,
                    view.ends(),
                ))
            }
            _ => Ok(Vec::new()),
        },
    },
    Check {
        id: "text_search_files",
        title: "the subscriber has the files that text search dictionaries read",
        before: Before::Setup,
        place: Place::Database,
        asks: &[FILES_READ.on_publisher(), FILES.on_subscriber()],
        judge: |view| match (view.publisher, view.subscriber) {
            (Some(publisher), Some(subscriber)) if !view.subscribed => Ok(without_file(
                &publisher.rows(&FILES_READ)?,
                &subscriber.rows(&FILES)?,
                view.ends(),
            )),
            _ => Ok(Vec::new()),
        },
    },
    Check {
        id: "collations",
        title: "the subscriber has the collations that objects use",
        before: Before::Setup,
        place: Place::Database,
        asks: &[COLLATED.on_publisher(), COLLATIONS.on_subscriber()],
        judge: |view| match (view.publisher, view.subscriber) {
            (Some(publisher), Some(subscriber)) if !view.subscribed => Ok(not_collated(
                &publisher.rows(&COLLATED)?,
                &subscriber.rows(&COLLATIONS)?,
                view.ends(),
            )),
            _ => Ok(Vec::new()),
        },
    },
    Check {
        id: "compression",
        title: "the subscriber was built with the compression that columns have",
        before: Before::Setup,
        place: Place::Database,
        asks: &[COMPRESSED.on_publisher(), METHODS.on_subscriber()],
        judge: |view| match (view.publisher, view.subscriber) {
            (Some(publisher), Some(subscriber)) if !view.subscribed => Ok(not_compressed(
                &publisher.rows(&COMPRESSED)?,
                &subscriber.rows(&METHODS)?,
                view.ends(),
            )),
            _ => Ok(Vec::new()),
        },
    },
];

/// An object, and what it needs by name.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Need {
    object: String,
    needs: String,
}

impl Need {
    fn in_words(&self) -> String {
        format!("{} ({})", self.object, self.needs)
    }
}

/// With a dot it is whatever a library or the application makes of it.
const SET_BY_FUNCTIONS: Question<Need> = Question::database(
    "settings of functions",
    "SELECT jsonb_build_object('object', p.oid::regprocedure, 'needs', lower(split_part(c, '=', 1)))
       FROM pg_proc p, unnest(p.proconfig) c
      WHERE p.oid >= 16384 AND strpos(split_part(c, '=', 1), '.') = 0
        AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')
      ORDER BY 1",
);

/// Options that name a file, by the templates that come with the server and with unaccent and dict_xsyn.
const FILES_READ: Question<Need> = Question::database(
    "files of text search",
    r#"SELECT jsonb_build_object('object', d.oid::regdictionary, 'needs', o.o[2] || CASE lower(o.o[1])
                WHEN 'dictfile' THEN CASE t.tmplname WHEN 'thesaurus' THEN '.ths' ELSE '.dict' END
                WHEN 'afffile' THEN '.affix' WHEN 'stopwords' THEN '.stop' WHEN 'synonyms' THEN '.syn' ELSE '.rules' END)
       FROM pg_ts_dict d JOIN pg_ts_template t ON t.oid = d.dicttemplate,
            regexp_matches(d.dictinitoption, '(\w+) = ''([^'']*)''', 'g') o(o)
      WHERE d.oid >= 16384 AND lower(o.o[1]) IN ('dictfile', 'afffile', 'stopwords', 'synonyms', 'rules')
        AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_ts_dict'::regclass AND e.objid = d.oid AND e.deptype = 'e')
      ORDER BY 1"#,
);

const FILES: Question<String> = Question::server(
    "tsearch_data",
    "SELECT to_jsonb(f) FROM pg_config c, pg_ls_dir(c.setting || '/tsearch_data') f WHERE c.name = 'SHAREDIR'",
)
.since(11)
.privileged();

/// Those of the system's catalog: what the user has made is in the dump. What the server itself is built with is everywhere.
/// Of COLLATE in an expression no dependency on a collation of the system's is on record: the stored expressions are searched.
const COLLATED: Question<Need> = Question::database(
    "collations in use",
    r"WITH expression(object, words) AS (
         SELECT format(CASE c.relkind WHEN 'v' THEN 'view %s' WHEN 'm' THEN 'materialized view %s' ELSE 'rule of %s' END, c.oid::regclass), concat(r.ev_qual, r.ev_action)
           FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class WHERE c.oid >= 16384
         UNION ALL SELECT format('default of %s.%I', d.adrelid::regclass, a.attname), d.adbin::text FROM pg_attrdef d JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
         UNION ALL SELECT format('constraint %I of %s', n.conname, CASE n.conrelid WHEN 0 THEN n.contypid::regtype::text ELSE n.conrelid::regclass::text END), n.conbin::text
           FROM pg_constraint n WHERE n.contype = 'c' AND n.oid >= 16384
         UNION ALL SELECT format('index %s', i.indexrelid::regclass), concat(i.indexprs, i.indpred) FROM pg_index i WHERE i.indexrelid >= 16384
         UNION ALL SELECT format('policy %I of %s', p.polname, p.polrelid::regclass), concat(p.polqual, p.polwithcheck) FROM pg_policy p
         UNION ALL SELECT format('trigger %I of %s', g.tgname, g.tgrelid::regclass), g.tgqual::text FROM pg_trigger g
         UNION ALL SELECT format('partition key of %s', k.partrelid::regclass), k.partexprs::text FROM pg_partitioned_table k
         UNION ALL SELECT format('function %s', p.oid::regprocedure), to_jsonb(p) ->> 'prosqlbody' FROM pg_proc p WHERE p.oid >= 16384
         UNION ALL SELECT format('statistics %I of %s', s.stxname, s.stxrelid::regclass), to_jsonb(s) ->> 'stxexprs' FROM pg_statistic_ext s),
     collated(object, coll) AS (
         SELECT format('column %s.%I', c.oid::regclass, a.attname), a.attcollation FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
          WHERE c.relkind IN ('r', 'p', 'f', 'm', 'c') AND c.oid >= 16384 AND a.attnum > 0 AND NOT a.attisdropped
         UNION ALL SELECT format('domain %s', t.oid::regtype), t.typcollation FROM pg_type t WHERE t.typtype = 'd' AND t.oid >= 16384
         UNION ALL SELECT format('range %s', r.rngtypid::regtype), r.rngcollation FROM pg_range r WHERE r.rngtypid >= 16384
         UNION ALL SELECT format('partition key of %s', k.partrelid::regclass), x.x FROM pg_partitioned_table k, unnest(k.partcollation::oid[]) x(x)
         UNION ALL SELECT format('index %s', i.indexrelid::regclass), x.x FROM pg_index i, unnest(i.indcollation::oid[]) x(x) WHERE i.indexrelid >= 16384
         UNION ALL SELECT e.object, m.m[1]::oid FROM expression e, regexp_matches(e.words, ':collOid (\d+)', 'g') m(m) WHERE e.words LIKE '%:collOid %')
     SELECT DISTINCT jsonb_build_object('object', u.object, 'needs', o.collname)
       FROM collated u JOIN pg_collation o ON o.oid = u.coll
      WHERE o.collnamespace = 'pg_catalog'::regnamespace AND o.oid NOT IN (100, 950, 951)
      ORDER BY 1",
);

const COLLATIONS: Question<String> = Question::server(
    "names of collations",
    "SELECT to_jsonb(collname) FROM pg_collation WHERE collnamespace = 'pg_catalog'::regnamespace",
);

/// A column and the method that its values are compressed with, as SQL quotes the names.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Compressed {
    table: String,
    column: String,
    method: String,
}

/// `pglz` is built in everywhere.
const COMPRESSED: Question<Compressed> = Question::database(
    "compression of columns",
    "SELECT jsonb_build_object('table', c.oid::regclass, 'column', quote_ident(a.attname), 'method', 'lz4')
       FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
      WHERE a.attcompression = 'l' AND NOT a.attisdropped AND c.oid >= 16384 AND c.relkind IN ('r', 'p', 'm', 'f') AND c.relpersistence <> 't'
        AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
      ORDER BY 1",
)
.since(14);

const METHODS: Question<String> = Question::server(
    "methods of compression",
    "SELECT to_jsonb(v) FROM pg_settings s, unnest(s.enumvals) v WHERE s.name = 'default_toast_compression'",
)
.since(14);

fn not_compressed(
    columns: &[Compressed],
    there: &[String],
    Ends { from, to }: Ends,
) -> Vec<Finding> {
    // `pglz` is always there: none means that nobody could look.
    let missing: Vec<&Compressed> = columns
        .iter()
        .filter(|it| !there.is_empty() && !there.contains(&it.method))
        .collect();
    let Some(first) = missing.first() else {
        return Vec::new();
    };
    vec![
        Finding::blocker(format!(
            "columns have a compression that the {to} was not built with: the schema cannot be loaded with them"
        ))
        .objects(missing.iter().map(|it| format!("{}.{} ({})", it.table, it.column, it.method)))
        .fix(format!(
            "ALTER TABLE {} ALTER {} SET COMPRESSION default on the {from} (and default_toast_compression = pglz), or run a {to} that was built with {}",
            first.table, first.column, first.method
        )),
    ]
}

fn unknown(set: &[Need], there: &Settings, Ends { from, to }: Ends) -> Vec<Finding> {
    let known = |it: &str| UNLISTED.contains(&it) || there.folded(it).is_some();
    let unknown: Vec<&Need> = set.iter().filter(|it| !known(&it.needs)).collect();
    let Some(first) = unknown.first() else {
        return Vec::new();
    };
    vec![
        Finding::blocker(format!(
            "functions set what the {to}'s version has no setting for: they cannot be made there"
        ))
        .objects(unknown.iter().map(|it| it.in_words()))
        .fix(format!(
            "ALTER FUNCTION {} RESET {} on the {from}",
            first.object, first.needs
        )),
    ]
}

fn without_file(read: &[Need], there: &[String], Ends { from, to }: Ends) -> Vec<Finding> {
    // The server's own are always there: none means that nobody could look.
    let missing: Vec<&Need> = read
        .iter()
        .filter(|it| !there.is_empty() && !there.contains(&it.needs))
        .collect();
    if missing.is_empty() {
        return Vec::new();
    }
    vec![
        Finding::blocker(format!(
            "text search dictionaries read files that the {to} does not have: they cannot be made there"
        ))
        .objects(missing.iter().map(|it| it.in_words()))
        .fix(format!(
            "copy them from $(pg_config --sharedir)/tsearch_data of the {from}'s machine to the {to}'s"
        )),
    ]
}

fn not_collated(used: &[Need], there: &[String], Ends { from, to }: Ends) -> Vec<Finding> {
    let missing: Vec<&Need> = used
        .iter()
        .filter(|it| !there.contains(&it.needs))
        .collect();
    let Some(first) = missing.first() else {
        return Vec::new();
    };
    vec![
        Finding::blocker(format!(
            "the {to} does not have collations that objects use: the schema cannot be loaded with them"
        ))
        .objects(missing.iter().map(|it| it.in_words()))
        .fix(format!(
            "give them another collation than {:?} on the {from} (ALTER COLUMN ... TYPE ... COLLATE; CREATE COLLATION makes one of your own), or initdb the {to} anew where its machine has the locale",
            first.needs
        )),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn need(object: &str, needs: &str) -> Need {
        Need {
            object: object.into(),
            needs: needs.into(),
        }
    }

    #[test]
    fn what_the_subscriber_lacks_is_named_with_what_needs_it() {
        let there = Settings::from(&[("TimeZone", "UTC")]);
        let set = [
            need("f()", "timezone"),
            need("g()", "role"),
            need("h()", "force_parallel_mode"),
        ];
        let found = unknown(&set, &there, Ends::FORWARD);
        assert_eq!(found[0].objects, ["h() (force_parallel_mode)"]);
        let read = [need("d", "own.syn"), need("e", "english.stop")];
        let files = ["english.stop".to_owned()];
        let found = without_file(&read, &files, Ends::FORWARD);
        assert_eq!(found[0].objects, ["d (own.syn)"]);
        assert!(without_file(&read, &[], Ends::FORWARD).is_empty());
        let used = [need("column t.a", "de-x-icu"), need("column t.b", "xx")];
        let found = not_collated(&used, &["de-x-icu".to_owned()], Ends::FORWARD);
        assert_eq!(found[0].objects, ["column t.b (xx)"]);
    }
}
