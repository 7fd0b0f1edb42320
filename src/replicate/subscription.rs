//! The subscription: everything is checked first, then the slot is made by a session that has proven where it is,
//! then the subscription is created on that slot; or the one that is there takes what its publication has gained.

mod after_copy;
mod checks;
mod completion;
mod creation;

use std::collections::HashMap;
use std::sync::Arc;

pub(crate) use after_copy::{Begin, create_after_copy};
pub(crate) use checks::check_room;

use super::nudge::Nudge;
use super::options::Options;
use super::{Change, Mode, Run, not_valid, status_table, watch};
use crate::catalog::publications;
use crate::catalog::subscriptions;
use crate::catalog::tables;
use crate::config::Subscription;
use crate::error::{Failure, Result, WrapErr};
use crate::observe::Stopped;
use crate::server::{ActAs, Login, Pair, Session};
use crate::value::{ShellWord, TableName, counted};

/// Whether `create_subscription` waits for the copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// The subscription copies by itself.
    No,
    /// Until every table is ready.
    UntilReady,
}

/// What the application may do on the subscriber while it follows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Target {
    /// Nothing but read: only replication writes there until the cutover.
    #[default]
    Closed,
    /// What it could before, as the original leaves it.
    LeftOpen,
}

/// What is being created.
struct Wanted<'a> {
    pair: &'a Pair,
    subname: &'a str,
    declared: &'a Subscription,
    /// Whom the subscriber connects to the publisher as.
    login: Login,
    target: Target,
    options: Options,
    published: Vec<TableName>,
    on_publisher: Arc<Session>,
    on_subscriber: Arc<Session>,
}

/// Creates the subscription, or completes the one that is there; `before_waiting` is called while tables may still be copied.
pub(crate) fn create(
    pair: &Pair,
    subname: &str,
    declared: &Subscription,
    (login, target): (Login, Target),
    wait: Wait,
    run: &Run,
    before_waiting: impl FnOnce() -> Result<Change>,
) -> Result<Change> {
    let attempt = || format!("create subscription {subname:?}");
    let options = Options::read(subname, &declared.options, pair.subscriber.major())?;
    let wanted = Wanted::read(pair, subname, declared, (login, target), options)?;
    let change = match subscriptions::find(&wanted.on_subscriber, subname)? {
        Some(existing) => wanted.complete(&existing, run),
        None => wanted.create(run),
    };
    let created = change.wrap_err_with(attempt)?;
    let finish = || -> Result<Change> {
        let mut change = created.and(before_waiting()?);
        if run.mode == Mode::DryRun {
            return Ok(change);
        }
        if wait == Wait::UntilReady {
            let tables = wanted.wait(run)?;
            change = change.with_note(format!(
                "every table is ready ({})",
                counted(tables, "table")
            ));
        }
        let made_again = not_valid::make_again(&pair.subscriber, &declared.dbname, run);
        Ok(change.and(made_again.wrap_err_with(attempt)?))
    };
    watch::goes_on(finish(), subname)
}

impl<'a> Wanted<'a> {
    /// Reads what there is; an error when database or publication are missing.
    fn read(
        pair: &'a Pair,
        subname: &'a str,
        declared: &'a Subscription,
        (login, target): (Login, Target),
        options: Options,
    ) -> Result<Self> {
        let Subscription {
            dbname, pubname, ..
        } = declared;
        let attempt = || format!("create subscription {subname:?}");
        pair.publisher.credentials(login)?;
        if !status_table::has_database(&pair.subscriber, dbname)? {
            return Failure::new(format!(
                "{}: the subscriber has no database {dbname:?}",
                attempt()
            ))
            .hint(format!("run flare replicate_schema {}", ShellWord(dbname)))
            .err();
        }
        let on_publisher = pair.publisher.visit(dbname)?;
        if publications::find(&on_publisher, pubname)?.is_none() {
            return Failure::new(format!(
                "{}: the publisher has no publication {pubname:?} in database {dbname:?}",
                attempt()
            ))
            .hint(format!(
                "run flare create_publication {}",
                ShellWord(dbname)
            ))
            .err();
        }
        Ok(Wanted {
            pair,
            subname,
            declared,
            login,
            target,
            options,
            published: publications::tables(&on_publisher, pubname)?,
            on_publisher,
            on_subscriber: pair.subscriber.visit(dbname)?,
        })
    }
}

impl Wanted<'_> {
    fn dbname(&self) -> &str {
        &self.declared.dbname
    }

    fn as_db_owner(&self) -> Result<Arc<Session>> {
        self.pair.subscriber.visit_as(ActAs::Owner, self.dbname())
    }

    fn wait(&self, run: &Run) -> Result<usize> {
        let bytes = tables::bytes(&self.on_publisher, &self.published)?;
        let sizes: HashMap<TableName, i64> = self.published.iter().cloned().zip(bytes).collect();
        let pubname = &self.declared.pubname;
        let mut nudge = Nudge::new(&self.pair.publisher, self.dbname(), pubname);
        let as_owner = || {
            let subscriber = &self.pair.subscriber;
            subscriber.connect(Login::DbOwner, self.dbname())
        };
        let copied = Stopped {
            from: &self.on_publisher,
            to: &self.on_subscriber,
            as_owner: &as_owner,
            db_owner: &self.pair.subscriber.declared().db_owner.user,
            subname: self.subname,
            repl: self.pair.publisher.credentials(self.login)?.user(),
            sides: (self.pair.publisher.side(), self.pair.subscriber.side()),
        };
        watch::until_ready((self.pair, self.dbname()), &copied, &sizes, &mut nudge, run)
    }
}
