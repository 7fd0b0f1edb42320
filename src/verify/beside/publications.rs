//! The user's own publications: they do not follow the cutover.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::Beside;
use crate::error::{Result, WrapErr};
use crate::journal::Stream;
use crate::server::{Session, params};
use crate::value::{Ident, Literal};

/// As `CREATE PUBLICATION` takes them; what every version does by default is left out.
fn publications_of(major: i32) -> String {
    // Lists of columns, filters and schemas came with 15.
    let (columns, filter, schemas) = if major >= 15 {
        (
            "(SELECT format(' (%s)', string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum)) FROM pg_attribute a
               WHERE a.attrelid = c.oid AND a.attnum = ANY (r.prattrs::int2[]) HAVING count(*) > 0)",
            "' WHERE (' || pg_get_expr(r.prqual, c.oid) || ')'",
            "(SELECT 'TABLES IN SCHEMA ' || string_agg(quote_ident(n.nspname), ', ' ORDER BY n.nspname) FROM pg_publication_namespace x JOIN pg_namespace n ON n.oid = x.pnnspid WHERE x.pnpubid = p.oid)",
        )
    } else {
        ("NULL", "NULL", "NULL::text")
    };
    format!(
        "SELECT jsonb_build_object('pubname', p.pubname, 'owner', pg_get_userbyid(p.pubowner), 'comment', obj_description(p.oid, 'pg_publication'), 'definition', concat_ws(' ',
             CASE WHEN p.puballtables THEN 'FOR ALL TABLES' ELSE 'FOR ' || nullif(concat_ws(', ',
               (SELECT 'TABLE ' || string_agg(concat(CASE WHEN c.relkind = 'r' AND EXISTS (SELECT FROM pg_inherits i WHERE i.inhparent = c.oid) THEN 'ONLY ' END, format('%I.%I', n.nspname, c.relname),
                                              {columns}, {filter}), ', ' ORDER BY n.nspname, c.relname)
                  FROM pg_publication_rel r JOIN pg_class c ON c.oid = r.prrelid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE r.prpubid = p.oid), {schemas}), '') END,
             'WITH (' || nullif(concat_ws(', ',
                'publish = ' || quote_literal(nullif(concat_ws(', ', CASE WHEN p.pubinsert THEN 'insert' END, CASE WHEN p.pubupdate THEN 'update' END, CASE WHEN p.pubdelete THEN 'delete' END,
                                                     CASE WHEN coalesce((to_jsonb(p) ->> 'pubtruncate')::bool, true) THEN 'truncate' END), 'insert, update, delete, truncate')),
                CASE WHEN (to_jsonb(p) ->> 'pubviaroot')::bool THEN 'publish_via_partition_root = true' END,
                'publish_generated_columns = ' || CASE to_jsonb(p) ->> 'pubgencols' WHEN 's' THEN 'stored' END), '') || ')'))
           FROM pg_publication p"
    )
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Publication {
    pubname: String,
    definition: String,
    owner: String,
    comment: Option<String>,
}

impl Publication {
    fn owned(&self) -> String {
        format!(
            "ALTER PUBLICATION {} OWNER TO {}",
            Ident::new(&self.pubname),
            Ident::new(&self.owner)
        )
    }

    fn commented(&self) -> String {
        let text = match &self.comment {
            Some(text) => Literal(text).to_string(),
            None => "NULL".to_owned(),
        };
        format!(
            "COMMENT ON PUBLICATION {} IS {text}",
            Ident::new(&self.pubname)
        )
    }

    /// The publication with what belongs to it. Whoever flare works as makes it: that owner is no difference.
    fn made(&self, flares: &BTreeSet<String>) -> String {
        let made = format!(
            "CREATE PUBLICATION {} {}",
            Ident::new(&self.pubname),
            self.definition
        );
        let owned = (!flares.contains(&self.owner)).then(|| self.owned());
        let commented = self.comment.is_some().then(|| self.commented());
        let made = [Some(made.trim_end().to_owned()), owned, commented];
        made.into_iter().flatten().collect::<Vec<_>>().join("; ")
    }
}

fn publications(session: &Session, stream: &Stream) -> Result<BTreeMap<String, Publication>> {
    let found: Vec<Publication> = session
        .list(&publications_of(session.major()?), params![])
        .wrap_err("read the publications")?;
    let users = found
        .into_iter()
        .filter(|it| !stream.publishes_as(&it.pubname));
    Ok(users.map(|it| (it.pubname.clone(), it)).collect())
}

impl Beside {
    pub(super) fn publications(
        &mut self,
        from: &Session,
        to: &Session,
        stream: &Stream,
        flares: &BTreeSet<String>,
    ) -> Result<()> {
        let (ours, theirs) = (publications(from, stream)?, publications(to, stream)?);
        let names: BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
        for name in names {
            let pubname = Ident::new(name);
            let (one, other) = (ours.get(name), theirs.get(name));
            let gone = other.map(|_| format!("DROP PUBLICATION {pubname}"));
            let definition = |it: Option<&Publication>| it.map(|it| it.definition.clone());
            if definition(one) != definition(other) {
                let made = one.map(|it| it.made(flares));
                let statements: Vec<String> = gone.into_iter().chain(made).collect();
                self.differs(
                    "publication",
                    pubname.to_string(),
                    definition(one),
                    definition(other),
                    Some(statements.join("; ")),
                );
                continue;
            }
            let Some((one, other)) = one.zip(other) else {
                continue;
            };
            if !flares.contains(&one.owner) {
                self.differs(
                    "owner",
                    format!("publication {pubname}"),
                    Some(one.owner.clone()),
                    Some(other.owner.clone()),
                    Some(one.owned()),
                );
            }
            self.differs(
                "comment",
                format!("publication {pubname}"),
                one.comment.clone(),
                other.comment.clone(),
                Some(one.commented()),
            );
        }
        Ok(())
    }
}
