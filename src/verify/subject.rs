//! What a verification of rows is about: the tables of one subscription, as its publication sends them.

use std::collections::BTreeSet;

use super::canonical::FloatText;
use super::pinned::Pinned;
use super::probe::Way;
use super::record::Signatures;
use super::table::{Catalog, Incomparable, Sent, Table, pair};
use crate::catalog::tables::{listed, names_of};
use crate::catalog::{publications, subscriptions};
use crate::error::{Failure, Result, WrapErr};
use crate::journal::Stream;
use crate::replicate::status_table;
use crate::server::{Session, params};
use crate::value::TableName;

/// The tables, ready to be compared, and how a position is awaited.
pub(super) struct Subject {
    pub(super) tables: Vec<Table>,
    pub(super) way: Way,
    pub(super) slot_name: String,
    /// The subscription's oid: what was verified of another one is no proof of this.
    pub(super) subscription: String,
    /// Tables whose rows on both sides say nothing about what was replicated.
    pub(super) unverified: Vec<Unverified>,
}

/// A table that is left out.
pub(super) struct Unverified {
    pub(super) name: TableName,
    pub(super) why: Incomparable,
}

/// What a publication sends of each table.
fn sent(session: &Session, major: i32, pubnames: &[String]) -> Result<Vec<Sent>> {
    let (columns, filter) = if major >= 15 {
        (
            "(SELECT jsonb_agg(a.attname) FROM pg_attribute a
           WHERE a.attrelid = c.oid AND a.attnum = ANY (t.attrs::int2[]))",
            "pg_get_expr(t.qual, t.relid)",
        )
    } else {
        ("NULL::jsonb", "NULL::text")
    };
    let sql = format!(
        "SELECT jsonb_build_object('schema', n.nspname, 'table', c.relname, 'attnames', {columns}, 'rowfilter', {filter},
                  'truncates', coalesce((to_jsonb(p) ->> 'pubtruncate')::bool, false))
           FROM pg_publication p, pg_get_publication_tables(p.pubname::text) t
           JOIN pg_class c ON c.oid = t.relid JOIN pg_namespace n ON n.oid = c.relnamespace
          WHERE p.pubname = ANY ($1::text[]::name[])"
    );
    session
        .list(&sql, params![pubnames.to_vec()])
        .wrap_err("read what the publication sends")
}

impl Subject {
    /// Reads both sides; the tables of `only`, or all.
    pub(super) fn read(
        publisher: &Pinned,
        subscriber: &Pinned,
        stream: &Stream,
        only: &[TableName],
    ) -> Result<Subject> {
        let subname = &stream.subname;
        let there = subscriber.session();
        let subscription = subscriptions::find(there, subname)?.ok_or_else(|| {
            Failure::new(format!(
                "compare the rows of {:?}: the side that follows has no subscription {subname:?}",
                stream.dbname
            ))
            .hint("flare status says where the migration stands")
        })?;
        if !subscription.subenabled {
            return Failure::new(format!(
                "compare the rows of {:?}: subscription {subname:?} is disabled, so nothing follows",
                stream.dbname
            ))
            .hint("flare status says where the migration stands")
            .err();
        }
        let relations = subscriptions::relations(there, subname)?;
        let sent = sent(
            publisher.session(),
            publisher.major(),
            &subscription.subpublications,
        )?;
        let published: BTreeSet<&TableName> =
            sent.iter().filter_map(|it| it.name.as_ref()).collect();
        let wanted: Vec<TableName> = if only.is_empty() {
            published
                .iter()
                .filter(|name| !is_own(name))
                .map(|name| (*name).clone())
                .collect()
        } else {
            let once: BTreeSet<&TableName> = only.iter().collect();
            once.into_iter().cloned().collect()
        };
        let unpublished: Vec<TableName> = wanted
            .iter()
            .filter(|name| !published.contains(name))
            .cloned()
            .collect();
        if !unpublished.is_empty() {
            return Failure::usage(format!(
                "compare {}: it is not published by {}",
                listed(&unpublished),
                subscription.subpublications.join(", ")
            ))
            .hint("names are exact: table, schema.table, quotes for names with dots; leaves of a partitioned table are published, not the table itself, unless the publication says publish_via_partition_root")
            .err();
        }
        let ready = |name: &TableName| {
            relations
                .iter()
                .any(|it| it.name == *name && it.srsubstate == 'r')
        };
        let twice = written_by_others(there, &wanted)?;
        let sides = Sides::read(publisher, subscriber, &wanted)?;
        let (mut tables, mut unverified) = (Vec::new(), Vec::new());
        for name in &wanted {
            let Some(how) = sent.iter().find(|it| it.name.as_ref() == Some(name)) else {
                continue;
            };
            let why = if !ready(name) {
                Some(unready(subname))
            } else if twice.contains(name) {
                Some(written_twice())
            } else {
                how.rowfilter.as_deref().map(filtered)
            };
            match why.map_or_else(|| sides.pair(how, name), Err) {
                Ok(table) => tables.push(table),
                Err(why) => unverified.push(Unverified {
                    name: name.clone(),
                    why,
                }),
            }
        }
        if tables.is_empty()
            && let Some(first) = unverified.first()
        {
            let names: Vec<TableName> = unverified.iter().map(|it| it.name.clone()).collect();
            return Failure::new(format!("compare {}: {}", listed(&names), first.why.words))
                .hint(&first.why.hint)
                .err();
        }
        tables.sort_by(|one, other| (other.bytes, &one.name).cmp(&(one.bytes, &other.name)));
        let slot_name = subscription.subslotname.unwrap_or_else(|| subname.clone());
        let own = published.iter().find(|name| status_table::is(name));
        let way = match own.filter(|own| ready(own)) {
            Some(own) => Way::Row((*own).clone()),
            None => Way::Slot,
        };
        Ok(Subject {
            tables,
            way,
            slot_name,
            subscription: subscription.oid,
            unverified,
        })
    }
}

fn unready(subname: &str) -> Incomparable {
    Incomparable {
        words: format!("not ready in subscription {subname:?}"),
        hint: "flare status says how far its copy is, and flare status --repair takes new tables; or compare others with --table".into(),
    }
}

fn written_twice() -> Incomparable {
    Incomparable {
        words: "more than one subscription writes it".into(),
        hint: "drop the other subscription: rows then come from one publisher alone".into(),
    }
}

fn filtered(filter: &str) -> Incomparable {
    Incomparable {
        words: format!("the publication sends only rows where {filter}"),
        hint: "a migration carries all rows: ALTER PUBLICATION .. SET TABLE without WHERE".into(),
    }
}

/// These tables as each side has them.
struct Sides {
    publisher: Catalog,
    subscriber: Catalog,
    floats: FloatText,
}

impl Sides {
    fn read(publisher: &Pinned, subscriber: &Pinned, names: &[TableName]) -> Result<Sides> {
        let of = |side: &Pinned| Catalog::of(side.session(), side.major(), names);
        Ok(Sides {
            publisher: of(publisher)?,
            subscriber: of(subscriber)?,
            floats: if (publisher.major() < 12) == (subscriber.major() < 12) {
                FloatText::Alike
            } else {
                FloatText::Differs
            },
        })
    }

    fn pair(&self, sent: &Sent, name: &TableName) -> std::result::Result<Table, Incomparable> {
        pair(sent, name, &self.publisher, &self.subscriber, self.floats)
    }
}

/// What each of these tables would be compared by now; those that could not be are left out.
pub(super) fn signatures(
    publisher: &Pinned,
    subscriber: &Pinned,
    stream: &Stream,
    tables: &[TableName],
) -> Result<Signatures> {
    let pubnames = std::slice::from_ref(&stream.pubname);
    let sent = sent(publisher.session(), publisher.major(), pubnames)?;
    let sides = Sides::read(publisher, subscriber, tables)?;
    let of = |it: &Sent| {
        let name = it.name.clone().filter(|name| tables.contains(name))?;
        if it.rowfilter.is_some() {
            return None;
        }
        let table = sides.pair(it, &name).ok()?;
        Some((name, table.signature()))
    };
    Ok(sent.iter().filter_map(of).collect())
}

/// The tables that are to be proven equal, and the oid of the subscription that carries them.
pub(super) fn published(
    publisher: &Session,
    subscriber: &Session,
    stream: &Stream,
) -> Result<(Vec<TableName>, String)> {
    let Some(subscription) = subscriptions::find(subscriber, &stream.subname)? else {
        return Ok((Vec::new(), String::new()));
    };
    let mut tables = publications::tables(publisher, &stream.pubname)?;
    tables.retain(|name| !is_own(name));
    Ok((tables, subscription.oid))
}

/// Whether a published table is flare's: its rows are not the same on both sides. Carried statements are on record with what
/// became of them on each side.
fn is_own(name: &TableName) -> bool {
    status_table::is(name) || (name.schema.as_str() == "flare" && name.table.as_str() == "ddl")
}

/// A table that a second subscription writes has no single order of commits.
fn written_by_others(session: &Session, wanted: &[TableName]) -> Result<Vec<TableName>> {
    session
        .list(
            "SELECT jsonb_build_object('schema', n.nspname, 'table', c.relname)
               FROM unnest($1::text[], $2::text[]) wanted(nspname, relname)
               JOIN pg_namespace n ON n.nspname = wanted.nspname
               JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = wanted.relname
              WHERE (SELECT count(*) FROM pg_subscription_rel r WHERE r.srrelid = c.oid) > 1",
            names_of(wanted),
        )
        .wrap_err("look for other subscriptions")
}
