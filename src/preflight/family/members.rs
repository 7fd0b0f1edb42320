//! Members of contrib's extensions that the subscriber's version of them has no more, where objects of the user's need them.

use std::collections::BTreeSet;

use serde::Deserialize;

use crate::catalog::withdrawn::is_withdrawn;
use crate::preflight::finding::Finding;
use crate::preflight::question::{Place, Question};
use crate::preflight::registry::{Before, Check};
use crate::server::Side;

pub(crate) const CHECKS: &[Check] = &[Check {
    id: "gone_members",
    title: "objects use what the subscriber's versions of extensions still have",
    before: Before::Setup,
    place: Place::Database,
    asks: &[USED.on_publisher()],
    judge: |view| match (view.publisher, view.subscriber) {
        (Some(publisher), Some(subscriber)) => Ok(gone(
            &publisher.rows(&USED)?,
            (publisher.side, publisher.major),
            (subscriber.side, subscriber.major),
        )),
        _ => Ok(Vec::new()),
    },
}];

/// A member of an extension, and an object of the user's that needs it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
struct Used {
    object: String,
    extension: String,
    /// As `catalog::withdrawn` has it.
    member: String,
}

/// A dependency on a member of an extension is on record, other than on what comes with the server.
const USED: Question<Used> = Question::database(
    "members of extensions in use",
    "WITH member(classid, objid, extname) AS (
         SELECT d.classid, d.objid, e.extname FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
          WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
            AND e.extname IN ('cube', 'hstore', 'intarray', 'seg', 'pg_stat_statements', 'pg_walinspect')),
     needed(classid, objid, sub, extname, member) AS (
         SELECT m.classid, m.objid, 0, m.extname, 'operator ' || o.oprname FROM member m JOIN pg_operator o ON m.classid = 'pg_operator'::regclass AND o.oid = m.objid
         UNION ALL SELECT m.classid, m.objid, 0, m.extname, format('function %s(%s)', p.proname, oidvectortypes(p.proargtypes))
           FROM member m JOIN pg_proc p ON m.classid = 'pg_proc'::regclass AND p.oid = m.objid
         UNION ALL SELECT m.classid, m.objid, 0, m.extname, format('result of %s(%s)', p.proname, oidvectortypes(p.proargtypes))
           FROM member m JOIN pg_proc p ON m.classid = 'pg_proc'::regclass AND p.oid = m.objid AND p.proretset
         UNION ALL SELECT m.classid, m.objid, a.attnum, m.extname, 'column ' || a.attname
           FROM member m JOIN pg_class c ON m.classid = 'pg_class'::regclass AND c.oid = m.objid AND c.relkind = 'v' JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0)
     SELECT DISTINCT jsonb_build_object('object', CASE WHEN v.oid IS NOT NULL THEN format('%s %s', CASE v.relkind WHEN 'm' THEN 'materialized view' WHEN 'v' THEN 'view' ELSE 'rule of' END, v.oid::regclass)
              ELSE pg_describe_object(d.classid, d.objid, d.objsubid) END, 'extension', n.extname, 'member', n.member)
       FROM needed n JOIN pg_depend d ON d.refclassid = n.classid AND d.refobjid = n.objid AND (n.sub = 0 OR d.refobjsubid = n.sub) AND d.deptype IN ('n', 'a')
       LEFT JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid LEFT JOIN pg_class v ON v.oid = r.ev_class
      WHERE d.classid NOT IN ('pg_amop'::regclass, 'pg_amproc'::regclass)
        AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.deptype = 'e' AND e.refclassid = 'pg_extension'::regclass
              AND (e.classid = d.classid AND e.objid = d.objid OR e.classid = 'pg_class'::regclass AND e.objid = v.oid))",
);

fn gone(used: &[Used], (from, old): (Side, i32), (to, new): (Side, i32)) -> Vec<Finding> {
    let gone: BTreeSet<&Used> = used
        .iter()
        .filter(|it| is_withdrawn(&it.extension, &it.member, old, new))
        .collect();
    let Some(first) = gone.first() else {
        return Vec::new();
    };
    let fix = if first.member.starts_with("operator") {
        format!("write @> for @ and <@ for ~ in them, on the {from}: both versions know these")
    } else {
        format!(
            "drop them on the {from}, and make them anew in the words of the {to}'s version after the cutover; ALTER EXTENSION {} UPDATE there where its own server offers that version",
            first.extension
        )
    };
    vec![
        Finding::blocker(format!("objects use what the {to}'s version of an extension has no more, or has otherwise: the schema cannot be loaded with them"))
            .objects(gone.iter().map(|it| format!("{} ({}: {})", it.object, it.extension, it.member)))
            .fix(fix),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_subscribers_version_lacks_is_named() {
        let used = |member: &str| Used {
            object: "view v".into(),
            extension: "hstore".into(),
            member: member.into(),
        };
        let all = [used("operator @"), used("operator @>")];
        let on = |major| gone(&all, (Side::Publisher, 10), (Side::Subscriber, major));
        assert!(on(13).is_empty());
        assert_eq!(on(14)[0].objects, ["view v (hstore: operator @)"]);
    }
}
