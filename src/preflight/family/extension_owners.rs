//! Members of extensions whose owner was changed: a dump has CREATE EXTENSION alone, which makes them its own.

use std::collections::BTreeSet;

use serde::Deserialize;

use crate::preflight::finding::Finding;
use crate::preflight::question::{Place, Question};
use crate::preflight::registry::{Before, Check};
use crate::preflight::view::Ends;
use crate::value::Ident;

pub(crate) const CHECKS: &[Check] = &[Check {
    id: "extension_owners",
    title: "members of extensions belong to the same roles on both sides",
    before: Before::Setup,
    place: Place::Database,
    asks: &[OWNED.on_both()],
    judge: |view| match (view.publisher, view.subscriber) {
        (Some(publisher), Some(subscriber)) => Ok(given_away(
            &publisher.rows(&OWNED)?,
            &subscriber.rows(&OWNED)?,
            view.ends(),
        )),
        _ => Ok(Vec::new()),
    },
}];

/// A member of an extension that is not owned by the extension's owner.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
struct Member {
    extname: String,
    /// What kind it is, as ALTER has it.
    kind: String,
    identity: String,
    owner: String,
}

/// What the first superuser owns is not in `pg_shdepend`: a trusted extension's members are, whoever made it.
const OWNED: Question<Member> = Question::database(
    "owners of extensions' members",
    "SELECT jsonb_build_object('extname', e.extname, 'kind', upper(i.type), 'identity', i.identity, 'owner', pg_get_userbyid(s.refobjid))
       FROM pg_extension e JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.deptype = 'e'
       JOIN pg_shdepend s ON s.classid = d.classid AND s.objid = d.objid AND s.deptype = 'o' AND s.refclassid = 'pg_authid'::regclass
        AND s.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
      CROSS JOIN LATERAL pg_identify_object(d.classid, d.objid, 0) i
      WHERE s.refobjid <> e.extowner ORDER BY 1",
);

fn given_away(here: &[Member], there: &[Member], Ends { from, to }: Ends) -> Vec<Finding> {
    let there: BTreeSet<&Member> = there.iter().collect();
    let lost: Vec<&Member> = here.iter().filter(|it| !there.contains(it)).collect();
    let Some(first) = lost.first() else {
        return Vec::new();
    };
    let words = |it: &&Member| {
        let kind = it.kind.to_lowercase();
        format!("{kind} {} of {} ({})", it.identity, it.extname, it.owner)
    };
    vec![
        Finding::warning(format!(
            "members of extensions have another owner on the {from} than the extension: on the {to} they are the extension's owner's, which no dump changes"
        ))
        .objects(lost.iter().map(words))
        .fix(format!(
            "on the {to}, once the extension is there: ALTER {} {} OWNER TO {}",
            first.kind,
            first.identity,
            Ident::new(&first.owner)
        )),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_that_is_the_same_on_both_sides_is_no_finding() {
        let member = Member {
            extname: "lo".into(),
            kind: "FUNCTION".into(),
            identity: "public.lo_oid(public.lo)".into(),
            owner: "App".into(),
        };
        let mine = [member.clone()];
        assert!(given_away(&mine, &mine, Ends::FORWARD).is_empty());
        assert!(given_away(&[], &mine, Ends::FORWARD).is_empty());
        let found = given_away(&mine, &[], Ends::FORWARD);
        assert_eq!(found.len(), 1);
        let fix = found[0].fix.as_deref().unwrap_or_default();
        assert!(
            fix.contains("ALTER FUNCTION public.lo_oid(public.lo) OWNER TO \"App\""),
            "{fix}"
        );
    }
}
