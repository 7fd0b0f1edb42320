//! Pausing writes and letting them go on.

use std::time::Duration;

use super::Flare;
use crate::cutover::{self, PauseReport, PauseRequest, ResumeReport, Terminating, Wanted};
use crate::error::{Error, Result};
use crate::journal::{Direction, Purpose};

/// How writes are paused; what is not said comes from the configuration's `cutover`.
#[derive(Clone, Debug)]
pub struct PauseOptions {
    /// Whose sessions are ended; empty: `cutover.app_users`, or everyone but superusers.
    pub app_users: Vec<String>,
    /// The replication has to have run this long.
    pub allowed_rep_duration: Duration,
    /// The pause is undone when it has taken this long; none: `cutover.max_pause`.
    pub max_pause: Option<Duration>,
}

impl Default for PauseOptions {
    fn default() -> Self {
        PauseOptions {
            app_users: Vec::new(),
            allowed_rep_duration: Duration::from_secs(60),
            max_pause: None,
        }
    }
}

impl Flare {
    /// Pauses writes to a database on the publisher until [`Flare::resume_write`].
    ///
    /// # Errors
    /// When the pause could not begin. One that began and was undone is a report with that outcome.
    pub fn pause_write(
        &self,
        dbname: &str,
        subname: Option<&str>,
        options: &PauseOptions,
    ) -> Result<PauseReport, Error> {
        let (subname, subscription) = self.config.subscription_of(dbname, subname)?;
        let declared = &self.config.cutover;
        let app_users = if options.app_users.is_empty() {
            &declared.app_users
        } else {
            &options.app_users
        };
        let request = PauseRequest {
            purpose: Purpose::PauseWrite,
            direction: Direction::Forward,
            databases: vec![Wanted {
                dbname: dbname.to_owned(),
                subname: subname.to_owned(),
                pubname: subscription.pubname.clone(),
            }],
            terminating: if app_users.is_empty() {
                Terminating::EveryoneButSuperusers
            } else {
                Terminating::Roles(app_users.iter().cloned().collect())
            },
            keep_users: declared.keep_users.iter().cloned().collect(),
            allowed_rep_duration: options.allowed_rep_duration,
            max_pause: options.max_pause.unwrap_or(declared.max_pause),
            reverse: false,
        };
        let pair = self.pair(&[dbname])?;
        Ok(cutover::pause_write(
            &pair,
            &self.config,
            &request,
            &self.run,
        )?)
    }

    /// Gives CONNECT on a paused database back, with the privileges as they were. Needs only the publisher.
    pub fn resume_write(&self, dbname: &str) -> Result<ResumeReport, Error> {
        let opened = self.open().any()?;
        let journals = self.journals(&opened)?;
        self.forward_only(&journals, &[dbname])?;
        let publisher = opened.publisher()?;
        self.begin(&[&publisher], &[dbname])?;
        Ok(cutover::resume_write(&publisher, dbname, &self.run)?)
    }
}
