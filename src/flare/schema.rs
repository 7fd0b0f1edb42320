//! What is there before replication: roles, schema, extensions.

use std::fs::File;

use super::Flare;
use super::direction::oriented;
use crate::error::{Error, Result};
use crate::journal::Direction;
use crate::preflight::Before;
use crate::replicate::{
    ExtensionList, ExtensionsChange, MissingLoaded, RolesChange, RolesOptions, SchemaChange, drift,
    extensions, roles, schema,
};
use crate::server::{Login, Pair};

impl Flare {
    /// Creates and updates the publisher's roles on the subscriber, as one transaction.
    pub fn replicate_roles(&self, options: RolesOptions) -> Result<RolesChange, Error> {
        let pair = self.pair(&["postgres"])?;
        self.roles_go_forward(&pair)?;
        Ok(roles::replicate(
            &pair,
            &self.config.tools,
            options,
            &self.run,
        )?)
    }

    /// Once the application is on the subscriber its roles are changed there: refused when no database is left that
    /// could go there yet.
    fn roles_go_forward(&self, pair: &Pair) -> Result<()> {
        let dbnames: Vec<&str> = self
            .config
            .publications
            .keys()
            .map(String::as_str)
            .collect();
        let journals = self.settle(pair, &dbnames)?;
        let (left, gone): (Vec<&str>, Vec<&str>) = dbnames
            .into_iter()
            .partition(|it| journals.flow(it).direction == Direction::Forward);
        if left.is_empty() {
            return self.forward_only(&journals, &gone);
        }
        if !gone.is_empty() {
            log::warn!(
                "{gone:?} has been cut over: roles get the publisher's attributes and passwords, whatever was changed on the subscriber since"
            );
        }
        Ok(())
    }

    /// The publisher's roles as SQL, at its start; with password hashes unless the options leave them out.
    pub fn dump_roles(&self, options: RolesOptions) -> Result<File, Error> {
        let pair = self.open().both()?;
        Ok(roles::print(&pair, &self.config.tools, options)?)
    }

    /// Creates a database on the subscriber with the publisher's schema.
    pub fn replicate_schema(&self, dbname: &str, login: Login) -> Result<SchemaChange, Error> {
        self.config.publication(dbname)?;
        let pair = self.pair(&[dbname])?;
        if !self.warned {
            let (from, to) = (&pair.publisher, &pair.subscriber);
            self.clear(from, Some(to), dbname, Before::Setup)?;
        }
        Ok(schema::replicate(
            &pair,
            &self.config.tools,
            dbname,
            login,
            &self.run,
        )?)
    }

    /// Makes what the database that follows only lacks of the one that is written: the subscriber's before a cutover, the
    /// publisher's after it.
    pub fn replicate_missing(&self, dbname: &str) -> Result<MissingLoaded, Error> {
        Ok(self.make_missing(dbname, |pair| self.on_the_way(pair, dbname))?)
    }

    /// The same, but for what carried statements that are on their way make.
    pub(super) fn make_missing(
        &self,
        dbname: &str,
        on_the_way: impl FnOnce(&Pair) -> Result<Vec<String>>,
    ) -> Result<MissingLoaded> {
        self.config.publication(dbname)?;
        let pair = self.open().both()?;
        let direction = self.settle(&pair, &[dbname])?.flow(dbname).direction;
        self.begin_in(direction, &[&pair.publisher, &pair.subscriber], &[dbname])?;
        let pair = oriented(&pair, direction);
        drift::load_missing(&pair, dbname, &on_the_way(&pair)?, &self.run)
    }

    /// The SQL that [`Flare::replicate_schema`] loads into a new database, the database's own statements first.
    pub fn dump_schema(&self, dbname: &str, login: Login) -> Result<File, Error> {
        self.config.publication(dbname)?;
        let pair = self.open().both()?;
        Ok(schema::print(&pair, &self.config.tools, dbname, login)?)
    }

    /// Creates the publisher's extensions in the subscriber's database, and the database when it is not there.
    pub fn install_extensions(
        &self,
        dbname: &str,
        login: Login,
    ) -> Result<ExtensionsChange, Error> {
        self.config.publication(dbname)?;
        let pair = self.pair(&[dbname])?;
        Ok(extensions::install(&pair, dbname, login, &self.run)?)
    }

    /// The publisher's extensions and what the subscriber has of them.
    pub fn list_extensions(&self, dbname: &str, login: Login) -> Result<ExtensionList, Error> {
        self.config.publication(dbname)?;
        let pair = self.open().both()?;
        Ok(extensions::list(&pair, dbname, login)?)
    }
}
