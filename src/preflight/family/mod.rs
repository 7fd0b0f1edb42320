//! The families of checks: each a file with its questions, its judgements and its entries of the registry.

pub(super) mod app_connect;
pub(super) mod beside;
pub(super) mod capacity;
pub(super) mod constraints;
pub(super) mod coverage;
pub(super) mod databases;
pub(super) mod expressions;
pub(super) mod extension_owners;
pub(super) mod extensions;
pub(super) mod generated;
pub(super) mod gone;
mod hba;
pub(super) mod identity;
pub(super) mod locale;
pub(super) mod locks;
pub(super) mod logins;
pub(super) mod members;
pub(super) mod needs;
pub(super) mod other_subscriptions;
pub(super) mod own_names;
pub(super) mod owners;
pub(super) mod partial;
pub(super) mod published;
pub(super) mod records;
pub(super) mod replication_user;
pub(super) mod results;
pub(super) mod role_settings;
pub(super) mod row_security;
pub(super) mod sequences;
pub(super) mod session_limits;
pub(super) mod slots;
pub(super) mod subscription;
pub(super) mod target;
pub(super) mod timeouts;
pub(super) mod transactions;
pub(super) mod triggers;
pub(super) mod versions;

/// A table with a primary key and some rows.
#[cfg(test)]
fn table(name: &str) -> published::Table {
    published::Table {
        name: name.parse().unwrap(),
        relkind: 'r',
        relpersistence: 'p',
        relreplident: 'd',
        has_primary_key: true,
        identity_index: None,
        usable_index: None,
        owner: "o".into(),
        bytes: 0,
        has_rows: true,
        changes: 0,
        ancestors: vec![],
    }
}

/// A publication for all tables.
#[cfg(test)]
fn wanted() -> crate::config::Publication {
    crate::config::Publication {
        pubname: "p".into(),
        tables: None,
        listed: false,
        replica_identity_full_tables: vec![],
        allow_no_identity: vec![],
        leave_behind: vec![],
    }
}

/// A database that moves, with its publication.
#[cfg(test)]
fn moving(publication: &crate::config::Publication) -> crate::preflight::view::Moving<'_> {
    crate::preflight::view::Moving {
        dbname: "d",
        publication,
        pubname: "p",
        subname: Some("s"),
    }
}

/// A table without a key.
#[cfg(test)]
fn keyless(name: &str) -> published::Table {
    published::Table {
        has_primary_key: false,
        ..table(name)
    }
}

/// A publication for all tables, whose keyless ones `full` and `log` are excused.
#[cfg(test)]
fn wanted_with_exceptions() -> crate::config::Publication {
    crate::config::Publication {
        replica_identity_full_tables: vec!["full".parse().unwrap()],
        allow_no_identity: vec!["log".parse().unwrap()],
        ..wanted()
    }
}
