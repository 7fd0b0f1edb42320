//! Functions of the system's whose result has other columns on a newer version, where a view reads it: a view over a function
//! names all columns of its result, by their places.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::preflight::finding::Finding;
use crate::preflight::question::{Place, Question};
use crate::preflight::registry::{Before, Check};
use crate::preflight::view::Ends;

pub(crate) const CHECKS: &[Check] = &[Check {
    id: "moved_results",
    title: "functions of the system's that views read have the same columns on the subscriber",
    before: Before::Setup,
    place: Place::Database,
    asks: &[READ.on_publisher(), RESULTS.on_subscriber()],
    judge: |view| match (view.publisher, view.subscriber) {
        (Some(publisher), Some(subscriber)) => Ok(moved(
            &publisher.rows(&READ)?,
            &subscriber.rows(&RESULTS)?,
            view.ends(),
        )),
        _ => Ok(Vec::new()),
    },
}];

/// A column of a result: name and type.
type Column = (String, String);

/// An object of the user's that has a function of the system's in its FROM.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
struct Read {
    object: String,
    function: String,
    columns: Vec<Column>,
}

/// Of functions that come with the server no dependency is on record: the stored queries are searched.
const READ: Question<Read> = Question::database(
    "results that views read",
    r"WITH query(object, words) AS (
         SELECT format(CASE c.relkind WHEN 'v' THEN 'view %s' WHEN 'm' THEN 'materialized view %s' ELSE 'rule of %s' END, c.oid::regclass), r.ev_action::text
           FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class
          WHERE c.oid >= 16384 AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
         UNION ALL SELECT format('function %s', p.oid::regprocedure), to_jsonb(p) ->> 'prosqlbody' FROM pg_proc p
          WHERE p.oid >= 16384 AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')),
     used(object, funcid) AS (
         SELECT q.object, m.m[1]::oid FROM query q, regexp_matches(q.words, '\{RANGETBLFUNCTION :funcexpr \{FUNCEXPR :funcid (\d+)\M', 'g') m(m)
          WHERE q.words LIKE '%{RANGETBLFUNCTION %')
     SELECT DISTINCT jsonb_build_object('object', u.object, 'function', format('%s(%s)', p.proname, oidvectortypes(p.proargtypes)),
              'columns', (SELECT jsonb_agg(jsonb_build_array(p.proargnames[a.n], format_type(a.t, NULL)) ORDER BY a.n)
                            FROM unnest(p.proallargtypes) WITH ORDINALITY a(t, n) WHERE p.proargmodes[a.n] IN ('o', 'b', 't')))
       FROM used u JOIN pg_proc p ON p.oid = u.funcid
      WHERE p.oid < 16384 AND p.pronamespace = 'pg_catalog'::regnamespace AND p.proargmodes && '{o,b,t}'",
);

/// A function of the system's that has columns.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Returned {
    function: String,
    columns: Vec<Column>,
}

const RESULTS: Question<Returned> = Question::server(
    "results of functions",
    "SELECT jsonb_build_object('function', format('%s(%s)', p.proname, oidvectortypes(p.proargtypes)),
              'columns', (SELECT jsonb_agg(jsonb_build_array(p.proargnames[a.n], format_type(a.t, NULL)) ORDER BY a.n)
                            FROM unnest(p.proallargtypes) WITH ORDINALITY a(t, n) WHERE p.proargmodes[a.n] IN ('o', 'b', 't')))
       FROM pg_proc p
      WHERE p.oid < 16384 AND p.pronamespace = 'pg_catalog'::regnamespace AND p.proargmodes && '{o,b,t}'",
);

/// Whether the columns have other places, types or are fewer; a new name in the same place is read as before, and more behind
/// the last are not named.
fn differ(old: &[Column], new: &[Column]) -> bool {
    if new.len() < old.len() {
        return true;
    }
    old.iter().zip(new).any(|((name, kind), (here, now))| {
        kind != now || name != here && new.iter().any(|(there, _)| there == name)
    })
}

fn moved(read: &[Read], there: &[Returned], Ends { from, to }: Ends) -> Vec<Finding> {
    let there: BTreeMap<&str, &[Column]> = there
        .iter()
        .map(|it| (it.function.as_str(), it.columns.as_slice()))
        .collect();
    let mut moved: Vec<&Read> = read
        .iter()
        .filter(|it| {
            let now = there.get(it.function.as_str());
            now.is_some_and(|now| differ(&it.columns, now))
        })
        .collect();
    moved.sort();
    if moved.is_empty() {
        return Vec::new();
    }
    vec![
        Finding::blocker(format!(
            "functions of the system's have other columns on the {to}'s version, and these read them by their places: the schema cannot be loaded with them, or they would read something else"
        ))
        .objects(moved.iter().map(|it| format!("{} (reads {})", it.object, it.function)))
        .fix(format!(
            "write them over the system's view of the same (pg_stat_activity for pg_stat_get_activity) or with the column's name, (f()).c, on the {from}; or drop them, and make them anew after the cutover"
        )),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(of: &str) -> Vec<Column> {
        let each = of.split(',').map(|it| it.split_once(' ').unwrap());
        each.map(|(name, kind)| (name.into(), kind.into()))
            .collect()
    }

    #[test]
    fn columns_that_stay_in_their_places_are_read_as_before() {
        let differs = |new: &str| differ(&columns("a int,b text,c int"), &columns(new));
        assert!(!differs("a int,b text,c int,d int"));
        assert!(!differs("a int,b text,renamed int"));
        assert!(differs("a int,b text"));
        assert!(differs("a int,b bigint,c int"));
        assert!(differs("c int,b text,a int"));
        assert!(differs("a int,new int,b text,c int"));
    }

    #[test]
    fn what_reads_them_is_named() {
        let read = |function: &str| Read {
            object: "view v".into(),
            function: function.into(),
            columns: columns("a int,b int"),
        };
        let there = [Returned {
            function: "f()".into(),
            columns: columns("b int"),
        }];
        let found = moved(&[read("f()"), read("gone()")], &there, Ends::FORWARD);
        assert_eq!(found[0].objects, ["view v (reads f())"]);
        assert!(moved(&[read("gone()")], &there, Ends::FORWARD).is_empty());
    }
}
