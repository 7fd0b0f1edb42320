//! The database's own properties and privileges.

use std::collections::BTreeSet;

use super::Beside;
use crate::catalog::databases::{Database, Privilege};
use crate::schema::same_icu_locale;
use crate::value::{Ident, Literal};

impl Beside {
    pub(super) fn database(
        &mut self,
        ours: &Database,
        theirs: &Database,
        flares: &BTreeSet<String>,
    ) {
        let dbname = Ident::new(&ours.datname);
        let mut facet = |what: &str, ours: Option<String>, theirs: Option<String>, mend| {
            self.differs("database", format!("{dbname} {what}"), ours, theirs, mend);
        };
        facet(
            "owner",
            Some(ours.owner.clone()),
            Some(theirs.owner.clone()),
            Some(format!(
                "ALTER DATABASE {dbname} OWNER TO {}",
                Ident::new(&ours.owner)
            )),
        );
        facet(
            "encoding",
            Some(ours.encoding_name.clone()),
            Some(theirs.encoding_name.clone()),
            None,
        );
        facet(
            "LC_COLLATE",
            Some(ours.datcollate.clone()),
            Some(theirs.datcollate.clone()),
            None,
        );
        facet(
            "LC_CTYPE",
            Some(ours.datctype.clone()),
            Some(theirs.datctype.clone()),
            None,
        );
        // Before 15 there is libc alone.
        let provider = |it: &Database| it.datlocprovider.clone().or(Some("c".to_owned()));
        facet("locale provider", provider(ours), provider(theirs), None);
        let locale = |it: &Database| it.datlocale.clone().or(it.daticulocale.clone());
        let (here, there) = (locale(ours), locale(theirs));
        let named_alike = here.as_ref().zip(there.as_ref());
        if !named_alike.is_some_and(|(here, there)| same_icu_locale(here, there)) {
            facet("locale", here, there, None);
        }
        facet(
            "ICU rules",
            ours.daticurules.clone(),
            theirs.daticurules.clone(),
            None,
        );
        facet(
            "connection limit",
            Some(ours.datconnlimit.to_string()),
            Some(theirs.datconnlimit.to_string()),
            Some(format!(
                "ALTER DATABASE {dbname} CONNECTION LIMIT {}",
                ours.datconnlimit
            )),
        );
        facet(
            "comment",
            ours.comment.clone(),
            theirs.comment.clone(),
            Some(format!(
                "COMMENT ON DATABASE {dbname} IS {}",
                ours.comment
                    .as_ref()
                    .map_or("NULL".to_owned(), |it| Literal(it).to_string())
            )),
        );
        // CONNECT is given and taken by pauses and the cutover; the owner's own privileges go with the owner.
        let counts = |it: &&Privilege, of: &Database| {
            it.privilege != "CONNECT"
                && it
                    .grantee
                    .as_ref()
                    .is_none_or(|role| !flares.contains(role) && *role != of.owner)
        };
        let held: BTreeSet<&Privilege> = ours.acl.iter().filter(|it| counts(it, ours)).collect();
        let there: BTreeSet<&Privilege> =
            theirs.acl.iter().filter(|it| counts(it, theirs)).collect();
        let grantee = |it: &Privilege| {
            it.grantee
                .as_ref()
                .map_or("PUBLIC".to_owned(), |role| Ident::new(role).to_string())
        };
        for it in held.symmetric_difference(&there) {
            let option = if it.grantable {
                " WITH GRANT OPTION"
            } else {
                ""
            };
            let granted = format!("{}{option}", it.privilege);
            let (to, privilege) = (grantee(it), &it.privilege);
            let (publisher, subscriber, statement) = if held.contains(*it) {
                (
                    Some(granted),
                    None,
                    format!("GRANT {privilege} ON DATABASE {dbname} TO {to}{option}"),
                )
            } else {
                (
                    None,
                    Some(granted),
                    format!("REVOKE {privilege} ON DATABASE {dbname} FROM {to}"),
                )
            };
            self.differs(
                "grants",
                format!("DATABASE {dbname} to {to}"),
                publisher,
                subscriber,
                Some(statement),
            );
        }
    }
}
