//! Takes samples of one subscription: keeps a session on each side, and opens it again when it was lost.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::causes::{CauseKind, causes};
use super::copying::Copies;
use super::history::History;
use super::look::{stopped, third_server};
use super::rates::rates;
use super::retention::retention;
use super::sample::{Sample, Survey};
use super::side_session::{SideSession, sides};
use super::surveyor::Surveyor;
use super::suspects::{Suspect, in_words, suspects};
use super::unanswered::Unanswered;
use super::verdict::{found, is_unexplained};
use super::window::Window;
use crate::config::Config;
use crate::error::{Failure, Result, message_of};
use crate::journal::Direction;
use crate::server::{interrupt, is_identity_mismatch, params};

/// How often it is looked for what ends the workers.
const AGAIN: Duration = Duration::from_secs(10);

/// Samples one subscription of one database.
pub struct Sampler {
    direction: Direction,
    dbname: String,
    subname: String,
    publisher: SideSession,
    subscriber: SideSession,
    surveyor: Surveyor,
    survey: Survey,
    history: History,
    window: Window,
    copies: Copies,
    /// What ends the workers, and when it was looked for.
    suspects: (Option<Instant>, Vec<Suspect>),
    config: Arc<Config>,
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
            publisher: SideSession::publisher(config, application_name, direction)
                .again_and_again(),
            subscriber: SideSession::subscriber(config, application_name, direction, dbname)
                .again_and_again(),
            surveyor: Surveyor::of(config, application_name, direction, dbname),
            survey: Survey::default(),
            history: History::default(),
            window: Window::new(),
            copies: Copies::default(),
            suspects: (None, Vec::new()),
            config: config.clone(),
        };
        let opened = sampler.on_both(SideSession::open, SideSession::open);
        match opened {
            (Err(one), Err(other)) => Err(if is_identity_mismatch(&other) {
                other
            } else {
                one.wrap_err(format!("{}; and", message_of(&other)))
            }),
            (Err(report), _) | (_, Err(report)) if is_identity_mismatch(&report) => Err(report),
            _ => Ok(sampler),
        }
    }

    /// Which way the data flows.
    pub(crate) fn direction(&self) -> Direction {
        self.direction
    }

    /// One sample. What a side does not answer is in the sample as that side's error.
    pub fn sample(&mut self) -> Sample {
        let (dbname, subname) = (self.dbname.clone(), self.subname.clone());
        let (publisher, subscriber) = self.on_both(
            move |publisher| publisher.ask(params![dbname]),
            move |subscriber| subscriber.ask(params![subname]),
        );
        let mut sample = Sample::of(
            now(),
            self.direction,
            &self.dbname,
            &self.subname,
            publisher.map_err(|report| Unanswered::from(&report)),
            subscriber.map_err(|report| Unanswered::from(&report)),
        );
        if let Some(to) = self.subscriber.session() {
            sample.follows = third_server(&self.config, &sample, to);
        }
        let now = Instant::now();
        let age = self.history.lag_of(&sample, now);
        sample.with_age(age);
        self.surveyor.survey(
            &mut self.survey,
            &sample,
            self.publisher.session(),
            &self.subscriber,
        );
        sample.copying = self.copies.look(&sample, &self.survey, now);
        sample.notes = notes(&sample);
        let samples = self.window.push(sample.clone(), now);
        sample.rates = rates(samples);
        let growth = sample
            .rates
            .as_ref()
            .and_then(|it| it.retained_bytes_per_second);
        let config = self.config.clone();
        let limits = &config.lag;
        sample.retention = retention(&sample, growth, limits, self.survey.wal_directory_bytes);
        sample.causes = causes(samples, &self.survey);
        let restarts = sample
            .causes
            .iter()
            .find(|it| it.cause == CauseKind::WorkerRestarts);
        let trouble = restarts.map(|it| it.message.clone());
        self.explain(&mut sample, trouble.as_deref());
        let (status, words) = found(&sample, trouble.as_deref(), limits);
        (sample.status, sample.message) = (status, words.join("; "));
        sample
    }

    /// A sample with rates and causes, which take two looks: the second after this long.
    pub fn sample_twice(&mut self, interval: Duration) -> Result<Sample> {
        self.sample();
        interrupt::sleep(interval)?;
        Ok(self.sample())
    }

    /// Why its workers end: looked for once in a while, as long as they do.
    fn explain(&mut self, sample: &mut Sample, trouble: Option<&str>) {
        if !is_unexplained(sample, trouble) {
            self.suspects = (None, Vec::new());
            return;
        }
        let (looked_at, found) = &mut self.suspects;
        if looked_at.is_none_or(|at: Instant| at.elapsed() >= AGAIN)
            && let Some(to) = self.subscriber.session()
            && let Ok((from, _)) = self.publisher.enter(&self.dbname)
        {
            let as_owner = || self.subscriber.enter_as_owner(&self.dbname);
            *found = suspects(&stopped(&self.config, sample, (&from, to), &as_owner));
            *looked_at = Some(Instant::now());
        }
        sample.suspects.clone_from(found);
        let restarts = sample.causes.iter_mut();
        let mut restarts = restarts.filter(|it| it.cause == CauseKind::WorkerRestarts);
        if let (Some(cause), Some(words)) = (restarts.next(), in_words(found)) {
            cause.message = format!("{}: {words}", cause.message);
        }
    }

    fn on_both<P, S: Send>(
        &mut self,
        publisher: impl FnOnce(&mut SideSession) -> Result<P>,
        subscriber: impl FnOnce(&mut SideSession) -> Result<S> + Send,
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

/// What the roles in use may not see.
fn notes(sample: &Sample) -> Vec<String> {
    let (from, to) = sides(sample.direction);
    let blind = [
        (
            from,
            sample.publisher.as_ref().is_some_and(|it| !it.sees_all),
        ),
        (
            to,
            sample.subscriber.as_ref().is_some_and(|it| !it.sees_all),
        ),
    ];
    let blind = blind.into_iter().filter(|(_, blind)| *blind);
    blind
        .map(|(side, _)| {
            format!("on the {side} what others' sessions wait for cannot be seen: GRANT pg_read_all_stats to flare's administrator")
        })
        .collect()
}

/// This machine's clock, in UTC.
pub(super) fn now() -> String {
    humantime::format_rfc3339_millis(SystemTime::now()).to_string()
}
