//! A difference between two schemas, and the kinds of difference that flare makes itself.

use serde::Serialize;

use super::statement::{Kind, Statements};
use super::tokens::Tokens;

/// An object that is not the same on both sides: its statements that the other side does not have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Difference {
    /// `TABLE`, `FK CONSTRAINT`, ...: what `object` begins with.
    #[serde(skip)]
    pub(crate) kind: String,
    pub(crate) object: String,
    pub(crate) publisher: Option<String>,
    pub(crate) subscriber: Option<String>,
}

impl Difference {
    /// Whether both sides differ in nothing but the table's replica identity.
    pub(crate) fn is_of_identity(&self) -> bool {
        self.is_only(|tokens| {
            tokens.start("ALTER TABLE ONLY") && tokens.find("REPLICA IDENTITY").is_some()
        })
    }

    /// Whether both sides differ in nothing but what one of these roles is granted, now or by default.
    pub(crate) fn is_of_grants_to(&self, roles: &[&str]) -> bool {
        self.is_only(|tokens| {
            let end = tokens.len().saturating_sub(1);
            let granted = tokens.start("GRANT")
                || tokens.start("ALTER DEFAULT PRIVILEGES") && tokens.find("GRANT").is_some();
            let to_one = end >= 2 && tokens.is(end, ";") && tokens.is(end - 2, "TO");
            let to = tokens.name(end.saturating_sub(1)).unwrap_or_default();
            tokens.start("SET SESSION AUTHORIZATION")
                || granted && to_one && roles.contains(&to.as_str())
        })
    }

    /// Whether the subscriber lacks nothing but a constraint that is NOT VALID.
    pub(crate) fn is_of_not_valid(&self) -> bool {
        self.subscriber.is_none()
            && self.is_only(|tokens| {
                tokens.start("SET SESSION AUTHORIZATION")
                    || tokens.start("RESET SESSION AUTHORIZATION")
                    || tokens.start("ALTER")
                        && tokens.find("ADD CONSTRAINT").is_some()
                        && tokens.find("NOT VALID").is_some()
            })
    }

    fn is_only(&self, known: impl Fn(&Tokens) -> bool) -> bool {
        let sides = [&self.publisher, &self.subscriber];
        let mut statements = sides
            .into_iter()
            .flatten()
            .flat_map(|text| Statements::new(text.as_bytes()));
        statements.all(|item| {
            item.is_ok_and(|item| item.kind == Kind::Comment || known(&Tokens::of(&item.text)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::objects::tests::entry;
    use super::super::{Spelling, compare};

    #[test]
    fn what_the_replication_user_was_granted_is_known() {
        let acl = |sql: &str| entry("ACL", "public", "TABLE a", sql);
        let granted = |sql: &str| {
            let found = compare(acl(sql).as_bytes(), &b""[..], Spelling::OneVersion).unwrap();
            found
                .iter()
                .all(|found| found.is_of_grants_to(&["Re\"pl", "other"]))
        };
        assert!(granted("GRANT ALL ON TABLE public.a TO \"Re\"\"pl\";"));
        assert!(granted(
            "SET SESSION AUTHORIZATION o;\nGRANT SELECT ON TABLE public.a TO other;\nRESET SESSION AUTHORIZATION;"
        ));
        assert!(granted(
            "ALTER DEFAULT PRIVILEGES FOR ROLE o IN SCHEMA public GRANT ALL ON TABLES TO other;"
        ));
        assert!(!granted(
            "GRANT ALL ON TABLE public.a TO other;\nGRANT SELECT ON TABLE public.a TO app;"
        ));
        assert!(!granted("REVOKE ALL ON TABLE public.a FROM other;"));
        assert!(!granted("GRANT ALL ON TABLE public.a TO re;"));
    }

    #[test]
    fn a_constraint_that_is_not_valid_is_known() {
        let is_of_not_valid = |sql: &str| {
            let dump = entry("CHECK CONSTRAINT", "public", "a c", sql);
            let found = compare(dump.as_bytes(), &b""[..], Spelling::OneVersion).unwrap();
            found.len() == 1 && found.iter().all(super::Difference::is_of_not_valid)
        };
        assert!(is_of_not_valid(
            "ALTER TABLE public.a ADD CONSTRAINT c CHECK ((x > 0)) NOT VALID;"
        ));
        assert!(!is_of_not_valid(
            "ALTER TABLE public.a ADD CONSTRAINT c CHECK ((x > 0));"
        ));
    }
}
