//! Asks rarely what costs something for each table.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::sample::{Sample, Survey};
use super::side_session::SideSession;
use crate::config::Config;
use crate::error::{Result, message_of};
use crate::journal::Direction;
use crate::server::Session;

/// While tables are being copied.
const OFTEN: Duration = Duration::from_secs(10);
const RARELY: Duration = Duration::from_secs(60);
/// It takes no more than this share of the time: a thousandth of a server's core.
const SHARE: u32 = 1000;

/// The sessions it takes, and when it is time again.
pub(super) struct Surveyor {
    published: SideSession,
    done_at: Option<Instant>,
    took: Duration,
}

impl Surveyor {
    pub(super) fn of(
        config: &Arc<Config>,
        application_name: &str,
        direction: Direction,
        dbname: &str,
    ) -> Surveyor {
        Surveyor {
            published: SideSession::publisher(config, application_name, direction)
                .in_database(dbname),
            done_at: None,
            took: Duration::ZERO,
        }
    }

    fn is_due(&self, sample: &Sample) -> bool {
        let copies = sample.tables.is_some_and(|it| it.ready < it.total);
        let every = if copies { OFTEN } else { RARELY };
        let every = every.max(self.took.saturating_mul(SHARE));
        self.done_at.is_none_or(|at| at.elapsed() >= every)
    }

    /// Brings the survey up to date, when it is time; what cannot be asked stays as it was.
    pub(super) fn survey(
        &mut self,
        survey: &mut Survey,
        sample: &Sample,
        publisher: Option<&Session>,
        subscriber: &SideSession,
    ) {
        if sample.publisher.is_none() || sample.subscriber.is_none() || !self.is_due(sample) {
            return;
        }
        let begun = Instant::now();
        let subname = &sample.subname;
        if let Some(found) = kept(self.published(sample)) {
            survey.published = found;
        }
        if let Some(session) = publisher {
            survey.wal_directory_bytes = kept(Survey::wal_directory(session)).flatten();
        }
        if let Some(session) = subscriber.session() {
            if let Some(found) = kept(Survey::unindexed(session, subname, subscriber.major())) {
                survey.unindexed = found;
            }
            if let Some(found) = kept(Survey::uncopied(session, subname)) {
                survey.uncopied = found;
            }
        }
        self.done_at = Some(Instant::now());
        self.took = begun.elapsed();
    }

    fn published(&mut self, sample: &Sample) -> Result<Vec<super::sample::PublishedTable>> {
        let subscription = sample
            .subscriber
            .as_ref()
            .and_then(|it| it.subscription.as_ref());
        let pubnames = subscription.map_or(&[][..], |it| &it.subpublications);
        self.published
            .with_session(|session| Survey::published(session, pubnames))
    }
}

fn kept<T>(found: Result<T>) -> Option<T> {
    found
        .inspect_err(|report| log::debug!("{}", message_of(report)))
        .ok()
}
