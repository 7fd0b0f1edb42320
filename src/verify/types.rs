//! The types that columns are made of, down to what domains, arrays, ranges and composites consist of.

use super::canonical::{TypeInfo, Types};
use crate::error::{Result, WrapErr};
use crate::server::{Session, params};

const TYPES: &str = "
    SELECT jsonb_build_object(
             'oid', t.oid::int8, 'schema', n.nspname, 'name', t.typname, 'written', format_type(t.oid, -1),
             'typtype', t.typtype, 'has_send', t.typsend <> 0,
             'element', CASE WHEN t.typoutput::oid = 'array_out'::regproc THEN t.typelem::int8 END,
             'base', CASE WHEN t.typtype = 'd' THEN t.typbasetype::int8 END,
             'subtype', (SELECT r.rngsubtype::int8 FROM pg_range r WHERE r.rngtypid = t.oid),
             'fields', (SELECT coalesce(jsonb_agg(jsonb_build_object('name', a.attname, 'type', a.atttypid::int8)
                                                  ORDER BY a.attnum), '[]')
                          FROM pg_attribute a WHERE t.typtype = 'c' AND a.attrelid = t.typrelid
                           AND a.attnum > 0 AND NOT a.attisdropped))
      FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
     WHERE t.oid::int8 = ANY ($1)";

/// Describes these types and all that they consist of.
pub(super) fn describe(session: &Session, oids: impl IntoIterator<Item = u32>) -> Result<Types> {
    let mut types = Types::new();
    let mut wanted: Vec<u32> = oids.into_iter().collect();
    loop {
        wanted.retain(|oid| !types.contains_key(oid));
        wanted.sort_unstable();
        wanted.dedup();
        if wanted.is_empty() {
            return Ok(types);
        }
        let asked: Vec<i64> = wanted.iter().map(|oid| i64::from(*oid)).collect();
        let found: Vec<TypeInfo> = session
            .list(TYPES, params![asked])
            .wrap_err("read the types of the columns")?;
        if found.is_empty() {
            return Ok(types);
        }
        for info in found {
            wanted.extend(
                [info.element, info.base, info.subtype]
                    .into_iter()
                    .flatten(),
            );
            wanted.extend(info.fields.iter().map(|field| field.type_oid));
            types.insert(info.oid, info);
        }
    }
}
