//! Takes samples of one subscription: keeps a session on each side, and opens it again when it was lost.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use super::history::History;
use super::sample::Sample;
use super::watched::Watched;
use crate::config::Config;
use crate::error::{Failure, Report, Result, message_of};
use crate::journal::Direction;
use crate::server::{is_identity_mismatch, params};

/// Samples one subscription of one database.
pub struct Sampler {
    direction: Direction,
    dbname: String,
    subname: String,
    publisher: Watched,
    subscriber: Watched,
    history: History,
}

impl Sampler {
    /// Opens both servers. One that cannot be reached is tried again with every sample; a wrong one is an error, as is
    /// reaching neither.
    pub(crate) fn open(
        config: &Arc<Config>,
        application_name: &str,
        direction: Direction,
        dbname: &str,
        subname: &str,
    ) -> Result<Sampler> {
        let mut sampler = Sampler {
            direction,
            dbname: dbname.to_owned(),
            subname: subname.to_owned(),
            publisher: Watched::publisher(config, application_name, direction),
            subscriber: Watched::subscriber(config, application_name, direction, dbname),
            history: History::default(),
        };
        let opened = sampler.on_both(Watched::open, Watched::open);
        match opened {
            (Err(one), Err(other)) => Err(match is_identity_mismatch(&other) {
                true => other,
                false => one.wrap_err(format!("{}; and", message_of(&other))),
            }),
            (Err(report), _) | (_, Err(report)) if is_identity_mismatch(&report) => Err(report),
            _ => Ok(sampler),
        }
    }

    /// One sample. What a side does not answer is in the sample as that side's error.
    pub fn sample(&mut self) -> Sample {
        let (dbname, subname) = (self.dbname.clone(), self.subname.clone());
        let (publisher, subscriber) = self.on_both(
            move |publisher| publisher.ask(params![dbname]),
            move |subscriber| subscriber.ask(params![subname]),
        );
        let words = |report: Report| message_of(&report);
        let mut sample = Sample::of(
            now(),
            self.direction,
            &self.dbname,
            &self.subname,
            publisher.map_err(words),
            subscriber.map_err(words),
        );
        sample.lag_seconds = self.history.lag_of(&sample, Instant::now());
        sample
    }

    fn on_both<P, S: Send>(
        &mut self,
        publisher: impl FnOnce(&mut Watched) -> Result<P>,
        subscriber: impl FnOnce(&mut Watched) -> Result<S> + Send,
    ) -> (Result<P>, Result<S>) {
        std::thread::scope(|scope| {
            let side = &mut self.subscriber;
            let asked = scope.spawn(move || subscriber(side));
            let publisher = publisher(&mut self.publisher);
            let subscriber = asked
                .join()
                .unwrap_or_else(|_| Failure::new("sample: a thread has ended").err());
            (publisher, subscriber)
        })
    }
}

/// This machine's clock, in UTC.
pub(super) fn now() -> String {
    humantime::format_rfc3339_millis(SystemTime::now()).to_string()
}
