//! The threads that look at the servers while the screen is drawn.

use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TryRecvError, unbounded};

use crate::error::{Result, WrapErr};
use crate::observe::Sample;
use crate::observe::{Headline, Watch};
use crate::server::interrupt;

/// How often it is asked whether the line on top has changed.
const HEADLINE_EVERY: Duration = Duration::from_secs(2);

/// What a thread has to say.
pub(super) enum News {
    Sample(Box<Sample>),
    Headline(Headline),
    /// The thread is gone.
    Ended,
}

/// How often a sample is wanted; none: not now.
pub(super) type Pace = Option<Duration>;

/// The samples as they come. Nobody waits for the threads at the end: one may be waiting for a frozen server.
pub(super) struct Samples {
    news: Receiver<News>,
    pace: Sender<Pace>,
}

impl Samples {
    pub(super) fn start(watch: Watch, interval: Duration) -> Result<Samples> {
        let (say, news) = unbounded();
        let (pace, paced) = unbounded();
        let headlines = say.clone();
        let mut sampler = watch.sampler;
        let mut headline = watch.headline;
        let named = |name: &str| std::thread::Builder::new().name(name.into());
        named("headline")
            .spawn(move || {
                let mut known = None;
                loop {
                    let now = headline();
                    let sent = if known.as_ref() == Some(&now) {
                        Ok(())
                    } else {
                        headlines.send(News::Headline(now.clone()))
                    };
                    known = Some(now);
                    if sent.is_err() || interrupt::sleep(HEADLINE_EVERY).is_err() {
                        return;
                    }
                }
            })
            .wrap_err("start a thread")?;
        named("sampler")
            .spawn(move || {
                // Said however the thread ends, a panic included.
                let _ended = Ended(say.clone());
                let mut wanted: Pace = Some(interval);
                loop {
                    let begun = Instant::now();
                    if wanted.is_some()
                        && say.send(News::Sample(Box::new(sampler.sample()))).is_err()
                    {
                        return;
                    }
                    loop {
                        let next = match wanted {
                            Some(interval) => interval.saturating_sub(begun.elapsed()),
                            None => Duration::from_secs(3600),
                        };
                        match paced.recv_timeout(next) {
                            Ok(other) if other == wanted => {}
                            Ok(other) => {
                                // Going on after a pause: at once.
                                let goes_on = wanted.is_none();
                                wanted = other;
                                if goes_on {
                                    break;
                                }
                            }
                            Err(crossbeam_channel::RecvTimeoutError::Timeout) => break,
                            Err(crossbeam_channel::RecvTimeoutError::Disconnected) => return,
                        }
                    }
                }
            })
            .wrap_err("start a thread")?;
        Ok(Samples { news, pace })
    }

    /// What has come since.
    pub(super) fn news(&self) -> Option<News> {
        match self.news.try_recv() {
            Ok(news) => Some(news),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(News::Ended),
        }
    }

    pub(super) fn pace(&self, pace: Pace) {
        // A thread that is gone has said so.
        self.pace.send(pace).unwrap_or_default();
    }
}

struct Ended(Sender<News>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.send(News::Ended).unwrap_or_default();
    }
}
