//! Privileges on the publisher: for the administrator who creates publications, and for the replication user.

use super::{Change, Plan, Run};
use crate::error::Result;
use crate::server::{Login, Publisher, Side, params};
use crate::value::Ident;

/// Grants CREATE and CONNECT on a database to the superuser of the configuration.
pub(crate) fn grant_create(
    publisher: &Publisher,
    dbname: &str,
    login: Login,
    run: &Run,
) -> Result<Change> {
    let grantee = &publisher.declared().superuser.user;
    let session = publisher.connect(login, dbname)?;
    let held: Vec<String> = session.value(
        "SELECT array(SELECT privilege FROM unnest(ARRAY['CREATE', 'CONNECT']) privilege
          WHERE has_database_privilege($1, $2, privilege))",
        params![grantee, dbname],
    )?;
    create_plan(dbname, grantee, &held).carry_out(&session, run)
}

fn create_plan(dbname: &str, grantee: &str, held: &[String]) -> Plan {
    let mut plan = Plan::new(Side::Publisher, dbname);
    for privilege in ["CREATE", "CONNECT"] {
        match held.iter().any(|held| held == privilege) {
            true => plan.note(format!(
                "{grantee:?} holds {privilege} on database {dbname:?} already"
            )),
            false => plan.step(
                format!("grant {privilege} on database {dbname:?} to {grantee:?}"),
                format!(
                    "GRANT {privilege} ON DATABASE {} TO {}",
                    Ident::from(dbname),
                    Ident::new(grantee)
                ),
            ),
        }
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_missing_is_granted() {
        let plan = create_plan("a\"b", "adm", &["CONNECT".into()]);
        let statements: Vec<&str> = plan.statements().iter().map(|s| s.shown.as_str()).collect();
        assert_eq!(statements, [r#"GRANT CREATE ON DATABASE "a""b" TO "adm""#]);
    }
}
