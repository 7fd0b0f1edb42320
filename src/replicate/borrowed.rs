//! Rights that the administrator of a managed server lends itself, and gives back in the same transaction.

use super::Plan;
use crate::error::Result;
use crate::server::{Login, Server, Statement};
use crate::value::Ident;

/// Roles whose member the administrator becomes for as long as it acts for them. A superuser never needs to.
#[derive(Clone, Debug)]
pub(super) struct Borrowed {
    roles: Vec<String>,
    administrator: String,
    major: i32,
}

impl Borrowed {
    /// For these roles, of which the administrator is no member.
    pub(super) fn of(server: &Server, roles: Vec<String>) -> Result<Borrowed> {
        Ok(Borrowed {
            roles,
            administrator: server.credentials(Login::Superuser)?.user().to_owned(),
            major: server.major(),
        })
    }

    pub(super) fn grants(&self) -> Vec<Statement> {
        let options = match self.major {
            16.. => " WITH INHERIT TRUE, SET TRUE",
            _ => "",
        };
        let grant = |role: &String| {
            Statement::new(
                format!("act for {role:?} for the moment"),
                format!(
                    "GRANT {} TO {}{options}",
                    Ident::new(role),
                    Ident::new(&self.administrator)
                ),
            )
        };
        self.roles.iter().map(grant).collect()
    }

    pub(super) fn revokes(&self) -> Vec<Statement> {
        let revoke = |role: &String| {
            Statement::new(
                format!("act for {role:?} no longer"),
                format!(
                    "REVOKE {} FROM {}",
                    Ident::new(role),
                    Ident::new(&self.administrator)
                ),
            )
        };
        self.roles.iter().map(revoke).collect()
    }

    /// The statements of a plan while the administrator acts for these roles.
    pub(super) fn around(&self, plan: Plan) -> Plan {
        plan.between(self.grants(), self.revokes())
    }

    /// For the head and the end of a script.
    pub(super) fn script(&self) -> (String, String) {
        let lines = |statements: Vec<Statement>| {
            statements
                .iter()
                .map(|statement| format!("{};\n", statement.shown))
                .collect::<String>()
        };
        (lines(self.grants()), lines(self.revokes()))
    }
}
