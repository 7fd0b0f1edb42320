//! One session on a thread of its own, behind a channel with a deadline.
//!
//! On a frozen server a query returns only when the server thaws, whatever `tcp_user_timeout` says. So the client lives
//! on a thread that may be abandoned: whoever asked waits no longer than its timeout, and never joins.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, select, unbounded};
pub(crate) use postgres::SimpleQueryRow as SimpleRow;
use postgres::{CancelToken, Client};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::pulse::{Pulse, silent};
use super::{Endpoint, SqlError, interrupt};
use crate::error::{Failure, Report, Result, WrapErr};

/// How long whoever asked waits for the server's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timeout {
    /// This long, but not on a server that no longer answers new connections.
    For(Duration),
    /// Until a moment that several sessions share: the deadline of a pause.
    Until(Instant),
    /// As long as it takes, but not on a server that no longer answers new connections.
    WhileServerAnswers,
}

/// For what reads a catalog or writes a row: on a live server it takes milliseconds.
pub(crate) const SHORT: Timeout = Timeout::For(Duration::from_secs(30));
/// How often a server is asked for a sign of life while something is waited for.
const SIGN_OF_LIFE_EVERY: Duration = Duration::from_secs(10);

type Job = Box<dyn FnOnce(&mut Client) + Send>;
type SignOfLife = Box<dyn Fn() -> Result<()> + Send + Sync>;

/// A verified session. It closes when dropped.
pub(crate) struct Session {
    endpoint: Endpoint,
    jobs: Option<Sender<Job>>,
    ended: Receiver<()>,
    canceller: Canceller,
    sign_of_life: SignOfLife,
    pulse: Arc<Pulse>,
    timeout: Mutex<Timeout>,
    failed: AtomicBool,
    major: OnceLock<i32>,
}

/// What stops a statement that runs on the server.
#[derive(Clone)]
pub(crate) struct Canceller {
    pub(crate) token: CancelToken,
    pub(crate) tls: MakeRustlsConnect,
}

/// A server that did not answer in time: what was asked may or may not happen. How long it had, or nothing where several
/// had until one moment.
#[derive(Debug)]
pub(crate) struct TimedOut(pub(crate) Option<Duration>);

/// To the tenth of a second, or the millisecond of one.
fn in_words(waited: Duration) -> Duration {
    let ms = waited.as_millis() as u64;
    Duration::from_millis(if ms < 1000 { ms } else { ms / 100 * 100 })
}

impl fmt::Display for TimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(waited) => write!(
                f,
                "no answer within {}",
                humantime::format_duration(in_words(waited))
            ),
            None => f.write_str("no answer in the time that all of it may take"),
        }
    }
}

impl std::error::Error for TimedOut {}

impl Canceller {
    /// Asks the server to stop what it does; does not wait, since a frozen server does not answer this either.
    fn cancel(&self) {
        let canceller = self.clone();
        std::thread::spawn(move || {
            if let Err(error) = canceller.token.cancel_query(canceller.tls) {
                log::debug!("cancel a statement: {error}");
            }
        });
    }
}

impl Session {
    /// Takes a client that has connected to a thread of its own.
    pub(crate) fn adopt(
        client: Client,
        endpoint: Endpoint,
        tls: MakeRustlsConnect,
        sign_of_life: SignOfLife,
    ) -> Session {
        let canceller = Canceller {
            token: client.cancel_token(),
            tls,
        };
        let (jobs, inbox) = unbounded::<Job>();
        let (alive, ended) = bounded::<()>(0);
        std::thread::spawn(move || {
            let mut client = client;
            for job in inbox {
                job(&mut client);
            }
            drop(client);
            drop(alive);
        });
        Session {
            endpoint,
            jobs: Some(jobs),
            ended,
            canceller,
            sign_of_life,
            pulse: Arc::default(),
            timeout: Mutex::new(SHORT),
            failed: AtomicBool::new(false),
            major: OnceLock::new(),
        }
    }

    /// Where this session is.
    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The server's major version, 10 to 18; asked once.
    pub(crate) fn major(&self) -> Result<i32> {
        if let Some(major) = self.major.get() {
            return Ok(*major);
        }
        let major = self.value(
            "SELECT current_setting('server_version_num')::int / 10000",
            Vec::new(),
        )?;
        Ok(*self.major.get_or_init(|| major))
    }

    /// The same session, knowing what others of its server know.
    pub(super) fn with_pulse(mut self, pulse: &Arc<Pulse>) -> Session {
        self.pulse = Arc::clone(pulse);
        self
    }

    pub(super) fn pulse(&self) -> &Pulse {
        &self.pulse
    }

    /// What the server has said of itself.
    pub(super) fn is_of_major(&self, major: i32) {
        self.major.get_or_init(|| major);
    }

    /// The same session, waiting differently from now on.
    pub(crate) fn with_timeout(self, timeout: Timeout) -> Session {
        self.set_timeout(timeout);
        self
    }

    /// Whether anything that was asked of it has failed.
    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// Waits differently from now on.
    pub(crate) fn set_timeout(&self, timeout: Timeout) {
        *self.timeout.lock().unwrap_or_else(|e| e.into_inner()) = timeout;
    }

    fn timeout(&self) -> Timeout {
        *self.timeout.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Runs work on the session's thread and waits for it, with the session's timeout.
    pub(crate) fn run<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Client) -> std::result::Result<T, postgres::Error> + Send + 'static,
    {
        self.run_for(self.timeout(), work)
    }

    /// Runs work on the session's thread and waits for it with this timeout.
    pub(crate) fn run_for<T, F>(&self, timeout: Timeout, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Client) -> std::result::Result<T, postgres::Error> + Send + 'static,
    {
        let answer = self.start(work)?;
        self.wait(&answer, timeout)
    }

    /// Starts work on the session's thread without waiting; [`Session::wait`] takes the answer.
    pub(crate) fn start<T, F>(&self, work: F) -> Result<Receiver<Result<T, postgres::Error>>>
    where
        T: Send + 'static,
        F: FnOnce(&mut Client) -> std::result::Result<T, postgres::Error> + Send + 'static,
    {
        interrupt::check()?;
        let (reply, answer) = bounded(1);
        let job: Job = Box::new(move |client| {
            // The asker may have given up: then nobody listens, and that is all right.
            reply.send(work(client)).unwrap_or_default();
        });
        let jobs = self.jobs.as_ref().map(|jobs| jobs.send(job));
        match jobs {
            Some(Ok(())) => Ok(answer),
            _ => Err(self.context(Failure::new("the session has ended").into())),
        }
    }

    /// Waits for the answer to work that was started.
    pub(crate) fn wait<T>(
        &self,
        answer: &Receiver<Result<T, postgres::Error>>,
        timeout: Timeout,
    ) -> Result<T> {
        let awaited = self.await_answer(answer, timeout);
        self.failed.fetch_or(awaited.is_err(), Ordering::Relaxed);
        awaited
    }

    fn await_answer<T>(
        &self,
        answer: &Receiver<Result<T, postgres::Error>>,
        timeout: Timeout,
    ) -> Result<T> {
        let since = Instant::now();
        let silence = self.pulse.silence();
        loop {
            let slice = match timeout {
                Timeout::For(limit) => limit
                    .saturating_sub(since.elapsed())
                    .min(SIGN_OF_LIFE_EVERY),
                Timeout::Until(moment) => moment.saturating_duration_since(Instant::now()),
                Timeout::WhileServerAnswers => SIGN_OF_LIFE_EVERY,
            };
            select! {
                recv(answer) -> outcome => {
                    return match outcome {
                        Ok(Ok(value)) => Ok(value),
                        Ok(Err(error)) => Err(self.context(SqlError::from(error).into())),
                        Err(_) => Err(self.context(Failure::new("the session has ended").into())),
                    };
                }
                recv(interrupt::channel()) -> _ => {
                    self.canceller.cancel();
                    return Err(interrupt::interrupted());
                }
                recv(silence) -> _ => {
                    self.canceller.cancel();
                    return Err(self.context(silent(since).into()));
                }
                default(slice) => match timeout {
                    Timeout::For(limit) => {
                        let gone = || (self.sign_of_life)().err();
                        if since.elapsed() >= limit || gone().is_some() {
                            self.canceller.cancel();
                            return Err(self.context(TimedOut(Some(since.elapsed())).into()));
                        }
                    }
                    Timeout::Until(_) => {
                        self.canceller.cancel();
                        return Err(self.context(TimedOut(None).into()));
                    }
                    Timeout::WhileServerAnswers => {
                        (self.sign_of_life)().wrap_err("wait for an answer")?;
                    }
                },
            }
        }
    }

    /// Looks whether the answer has come within `limit`; unlike [`Session::wait`], nothing is cancelled when it has not.
    pub(crate) fn poll<T>(
        &self,
        answer: &Receiver<Result<T, postgres::Error>>,
        limit: Duration,
    ) -> Result<Option<T>> {
        select! {
            recv(answer) -> outcome => match outcome {
                Ok(Ok(value)) => Ok(Some(value)),
                Ok(Err(error)) => Err(self.context(SqlError::from(error).into())),
                Err(_) => Err(self.context(Failure::new("the session has ended").into())),
            },
            recv(interrupt::channel()) -> _ => Err(interrupt::interrupted()),
            default(limit) => Ok(None),
        }
    }

    pub(super) fn context(&self, report: Report) -> Report {
        report.wrap_err(self.endpoint.to_string())
    }

    /// Asks the server to stop what the session does, without waiting for that.
    pub(crate) fn cancel(&self) {
        self.canceller.cancel();
    }

    /// The error of an answer that did not come by the moment that several have.
    pub(crate) fn timed_out<T>(&self) -> Result<T> {
        Err(self.context(TimedOut(None).into()))
    }

    /// Says goodbye without waiting for it to arrive; dropping the session waits. For several that end together.
    pub(crate) fn say_goodbye(&mut self) {
        self.jobs = None;
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.say_goodbye();
        // Long enough for the goodbye to a live server, so that its log stays clean; a frozen one is left alone.
        select! {
            recv(self.ended) -> _ => {}
            default(Duration::from_millis(200)) => {}
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Session({})", self.endpoint)
    }
}
