//! Finding what a command names in what the file declares.

use indexmap::IndexMap;

use super::source::nearest;
use super::{Config, Publication, Subscription};
use crate::error::{Error, Failure, Result};

impl Config {
    /// What a database publishes.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`](crate::ErrorKind::Usage) when the file declares no publication for it: the error names those it does.
    pub fn publication(&self, dbname: &str) -> Result<&Publication, Error> {
        self.publications
            .get(dbname)
            .ok_or_else(|| self.undeclared("publications", "database", dbname, &self.publications))
            .map_err(Into::into)
    }

    /// What the cutover may leave on the old side of a database.
    pub(crate) fn left_behind(&self, dbname: &str) -> &[String] {
        let publication = self.publications.get(dbname);
        publication.map_or(&[], |it| it.leave_behind.as_slice())
    }

    /// A subscription by its name.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`](crate::ErrorKind::Usage) when the file does not declare it: the error names those it does.
    pub fn subscription(&self, subname: &str) -> Result<&Subscription, Error> {
        self.subscriptions
            .get(subname)
            .ok_or_else(|| {
                self.undeclared(
                    "subscriptions",
                    "subscription",
                    subname,
                    &self.subscriptions,
                )
            })
            .map_err(Into::into)
    }

    /// The subscription of a database: the named one, or the only one.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`](crate::ErrorKind::Usage) when it is not declared, is another database's, or when there is more than one to choose from.
    pub fn subscription_of<'c>(
        &'c self,
        dbname: &str,
        subname: Option<&'c str>,
    ) -> Result<(&'c str, &'c Subscription), Error> {
        if let Some(subname) = subname {
            let subscription = self.subscription(subname)?;
            return if subscription.dbname == dbname {
                Ok((subname, subscription))
            } else {
                Failure::usage(format!(
                "find subscription {subname:?} of database {dbname:?}: {} declares it for database {:?}",
                self.path.display(),
                subscription.dbname
            ))
            .hint(format!("name database {:?}, or a subscription of {dbname:?}", subscription.dbname))
            .err()
            };
        }
        let matching: Vec<(&str, &Subscription)> = self
            .subscriptions
            .iter()
            .filter(|(_, subscription)| subscription.dbname == dbname)
            .map(|(subname, subscription)| (subname.as_str(), subscription))
            .collect();
        let attempt = format!("find the subscription of database {dbname:?}");
        let file = self.path.display();
        match matching.as_slice() {
            [only] => Ok(*only),
            [] => {
                let databases = self.subscriptions.values().map(|sub| sub.dbname.as_str());
                let failure = Failure::usage(format!("{attempt}: {file} declares none"));
                match nearest(dbname, databases) {
                    Some(near) => failure.hint(format!("did you mean {near:?}?")).err(),
                    None => failure
                        .hint(format!("declare one under subscriptions in {file}"))
                        .err(),
                }
            }
            many => {
                let names = listed(many.iter().map(|(subname, _)| *subname));
                Failure::usage(format!("{attempt}: {file} declares {names}"))
                    .hint("name one of them after the database")
                    .err()
            }
        }
    }

    fn undeclared<T>(
        &self,
        section: &str,
        what: &str,
        name: &str,
        declared: &IndexMap<String, T>,
    ) -> Failure {
        let file = self.path.display();
        let names = declared.keys().map(String::as_str);
        let there = if declared.is_empty() {
            "nothing".to_owned()
        } else {
            listed(names.clone())
        };
        let hint = match nearest(name, names) {
            Some(near) => format!("did you mean {near:?}?"),
            None => format!("declare it under {section} in {file}"),
        };
        Failure::usage(format!(
            "find {what} {name:?}: {file} has {there} under {section}"
        ))
        .hint(hint)
    }
}

fn listed<'n>(names: impl Iterator<Item = &'n str>) -> String {
    let quoted: Vec<String> = names.map(|name| format!("{name:?}")).collect();
    quoted.join(", ")
}
