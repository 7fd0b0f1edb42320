//! Settings of roles and databases as the user has them: what flare has set is left out, or is what it was before.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::EXISTS;
use super::state::Made;
use crate::catalog::settings::{Setting, settings};
use crate::error::{Result, WrapErr, message_of};
use crate::replicate::closed;
use crate::server::{Server, params};

/// A setting that flare has made.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Own {
    setting: Setting,
    was: Option<String>,
}

/// Every setting of roles and databases but flare's own, which end with a subscription and are no part of what moves.
pub(crate) fn users_settings(server: &Server) -> Result<Vec<Setting>> {
    let found = settings(server.admin())?;
    let mut own = recorded(server)?;
    own.extend(read_only_defaults(server, &found));
    Ok(without(found, &own))
}

fn without(found: Vec<Setting>, own: &[Own]) -> Vec<Setting> {
    let users = |it: Setting| match own.iter().find(|own| own.setting == it) {
        Some(own) => own.was.clone().map(|value| Setting { value, ..it }),
        None => Some(it),
    };
    found.into_iter().filter_map(users).collect()
}

/// Those on record of every database.
fn recorded(server: &Server) -> Result<Vec<Own>> {
    #[derive(Deserialize)]
    struct Of {
        dbname: String,
        made: Made,
    }
    let admin = server.admin();
    if !admin.value::<bool>(EXISTS, params![])? {
        return Ok(Vec::new());
    }
    // Privileges on ten thousand tables are not read for a few settings.
    let records: Vec<Of> = admin
        .list(
            "SELECT jsonb_build_object('dbname', d.datname, 'made', made)
               FROM flare.made m JOIN pg_database d ON d.oid = m.dboid
                    CROSS JOIN LATERAL jsonb_array_elements(m.record -> 'made') made
              WHERE made ->> 'made' = 'setting'",
            params![],
        )
        .wrap_err("read what flare has made, in table flare.made")?;
    let own = records.into_iter().filter_map(|of| match of.made {
        Made::Setting {
            role,
            name,
            was,
            is,
        } => Some(Own {
            setting: Setting {
                role: Some(role),
                dbname: Some(of.dbname),
                name,
                value: is,
            },
            was,
        }),
        _ => None,
    });
    Ok(own.collect())
}

/// Those of closed databases, which have a record of their own. A database that cannot be entered keeps its settings.
fn read_only_defaults(server: &Server, found: &[Setting]) -> Vec<Own> {
    let named = found.iter().filter(|it| it.name == closed::NAME);
    let dbnames: BTreeSet<&str> = named.filter_map(|it| it.dbname.as_deref()).collect();
    let mut own = Vec::new();
    for dbname in dbnames {
        let recorded = server
            .visit(dbname)
            .and_then(|session| closed::recorded(&session, dbname));
        let before = match recorded {
            Ok(Some(before)) => before,
            Ok(None) => continue,
            Err(report) => {
                log::info!(
                    "read what {dbname:?} was before it was closed: {}",
                    message_of(&report)
                );
                continue;
            }
        };
        let of = |role: Option<&str>, value: &str, was: &Option<String>| Own {
            setting: Setting {
                role: role.map(str::to_owned),
                dbname: Some(dbname.to_owned()),
                name: closed::NAME.to_owned(),
                value: value.to_owned(),
            },
            was: was.clone(),
        };
        own.push(of(None, "on", &before.setting));
        let exempt = before.exempt.iter();
        own.extend(exempt.map(|it| of(Some(&it.role), "off", &it.setting)));
    }
    own
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_flare_has_set_is_what_it_was_before_and_what_the_user_changed_since_is_the_users() {
        let of = |name: &str, value: &str| Setting {
            role: Some("repl".into()),
            dbname: Some("d".into()),
            name: name.into(),
            value: value.into(),
        };
        let own = |name: &str, was: Option<&str>| Own {
            setting: of(name, "0"),
            was: was.map(str::to_owned),
        };
        let found = vec![of("a", "0"), of("b", "0"), of("c", "5s"), of("d", "0")];
        let own = [own("a", None), own("b", Some("1s")), own("c", None)];
        assert_eq!(
            without(found, &own),
            [of("b", "1s"), of("c", "5s"), of("d", "0")]
        );
    }
}
