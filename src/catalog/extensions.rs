//! Extensions: those a database has, and those a server offers.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::error::Result;
use crate::server::{Session, params};

/// An extension of a database.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Extension {
    pub(crate) extname: String,
    pub(crate) extversion: String,
    pub(crate) extrelocatable: bool,
    pub(crate) schema: String,
    pub(crate) schema_owner: String,
    /// The extensions it needs.
    pub(crate) requires: BTreeSet<String>,
}

const EXTENSIONS: &str = "
    SELECT to_jsonb(e) || jsonb_build_object(
             'schema', n.nspname,
             'schema_owner', pg_get_userbyid(n.nspowner),
             'requires', (SELECT coalesce(jsonb_agg(r.extname), '[]')
                            FROM pg_depend d JOIN pg_extension r ON r.oid = d.refobjid
                           WHERE d.classid = 'pg_extension'::regclass AND d.objid = e.oid
                             AND d.refclassid = 'pg_extension'::regclass))
      FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
     ORDER BY e.extname";

/// The extensions of the session's database.
pub(crate) fn extensions(session: &Session) -> Result<Vec<Extension>> {
    session.list(EXTENSIONS, params![])
}

/// What a server offers of one extension.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Offer {
    pub(crate) default_version: Option<String>,
    pub(crate) versions: Vec<String>,
}

const OFFERS: &str = "
    SELECT jsonb_build_object('name', a.name, 'default_version', a.default_version,
             'versions', (SELECT coalesce(jsonb_agg(v.version ORDER BY v.version), '[]')
                            FROM pg_available_extension_versions v WHERE v.name = a.name))
      FROM pg_available_extensions a";

/// What the session's server offers, by the extension's name.
pub(crate) fn offers(session: &Session) -> Result<BTreeMap<String, Offer>> {
    #[derive(Deserialize)]
    struct Named {
        name: String,
        #[serde(flatten)]
        offer: Offer,
    }
    let offers: Vec<Named> = session.list(OFFERS, params![])?;
    Ok(offers
        .into_iter()
        .map(|named| (named.name, named.offer))
        .collect())
}
