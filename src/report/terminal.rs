//! Progress for a person: a bar on a terminal, a line every ten seconds elsewhere, nothing for short work.

use std::collections::VecDeque;
use std::io::{IsTerminal, Write, stderr};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::progress::{Progress, Unit};
use crate::value::Size;

/// Work shorter than this shows nothing.
const SHORT: Duration = Duration::from_secs(2);
/// How often a line is written where there is no terminal.
const EVERY: Duration = Duration::from_secs(10);
/// The rate is taken over this long.
const WINDOW: Duration = Duration::from_secs(60);

/// Progress on standard error.
#[derive(Default)]
pub struct Terminal {
    running: Mutex<Option<Running>>,
}

struct Running {
    what: String,
    since: Instant,
    said: Instant,
    bar: Option<ProgressBar>,
    eta: Eta,
}

/// How long is left: by the rate of the last minute, and never more than was said before while work goes on.
#[derive(Default)]
struct Eta {
    samples: VecDeque<(Instant, u64)>,
    left: Option<Duration>,
}

impl Eta {
    fn look(&mut self, now: Instant, done: u64, total: u64) -> Option<Duration> {
        let flows = self.samples.back().is_none_or(|(_, before)| done > *before);
        self.samples.push_back((now, done));
        while self
            .samples
            .get(1)
            .is_some_and(|(at, _)| now - *at >= WINDOW)
        {
            self.samples.pop_front();
        }
        let (since, from) = *self.samples.front()?;
        let seconds = (now - since).as_secs_f64();
        let rate = done.saturating_sub(from) as f64 / seconds;
        if rate.is_finite() && rate > 0.0 {
            let left =
                Duration::from_secs((total.saturating_sub(done) as f64 / rate).min(1e9) as u64);
            self.left = Some(match self.left {
                Some(said) if flows => said.min(left),
                _ => left,
            });
        }
        self.left
    }
}

impl Progress for Terminal {
    fn announce(&self, line: &str) {
        self.line(line);
    }

    fn step(&self, line: &str) {
        self.line(line);
    }

    fn advance(&self, what: &str, done: u64, total: u64, unit: Unit) {
        let mut running = self.running.lock().unwrap_or_else(|e| e.into_inner());
        let now = Instant::now();
        let current = match running.take() {
            Some(current) if current.what == what => current,
            _ => Running {
                what: what.to_owned(),
                since: now,
                said: now,
                bar: None,
                eta: Eta::default(),
            },
        };
        let current = running.insert(current);
        let left = current.eta.look(now, done, total);
        if done >= total {
            if let Some(bar) = current.bar.take() {
                bar.finish_and_clear();
            }
            *running = None;
        } else if now - current.since >= SHORT {
            current.show(done, total, unit, left, now);
        }
    }
}

impl Running {
    fn show(&mut self, done: u64, total: u64, unit: Unit, left: Option<Duration>, now: Instant) {
        let left = left.map_or("?".to_owned(), |left| {
            humantime::format_duration(left).to_string()
        });
        if stderr().is_terminal() {
            let bar = self.bar.get_or_insert_with(|| bar(&self.what, total, unit));
            bar.set_length(total);
            bar.set_position(done);
            bar.set_message(format!("eta {left}"));
        } else if now - self.said >= EVERY {
            self.said = now;
            let (done_words, total_words) = match unit {
                Unit::Bytes => (Size(done).to_string(), Size(total).to_string()),
                Unit::Tables | Unit::Items => (done.to_string(), total.to_string()),
            };
            let line = format!(
                "{}: {done_words} of {total_words}, about {left} left",
                self.what
            );
            writeln!(stderr(), "{line}").unwrap_or_default();
        }
    }
}

fn bar(what: &str, total: u64, unit: Unit) -> ProgressBar {
    let template = match unit {
        Unit::Bytes => "{prefix} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {msg}",
        Unit::Tables => "{prefix} {wide_bar} {pos}/{len} tables, {msg}",
        Unit::Items => "{prefix} {wide_bar} {pos}/{len}, {msg}",
    };
    let style =
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(total)
        .with_style(style)
        .with_prefix(what.to_owned())
}

impl Terminal {
    fn line(&self, line: &str) {
        // Standard error may be closed; then there is nobody to tell.
        writeln!(stderr(), "{line}").unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_never_grows_while_work_goes_on() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let mut eta = Eta::default();
        assert_eq!(eta.look(at(0), 0, 1000), None);
        let fast = eta.look(at(10), 500, 1000).unwrap();
        assert_eq!(fast.as_secs(), 10);
        // Slower, to a tenth of the rate: what was said stays.
        for second in 11..200 {
            let left = eta.look(at(second), 500 + second, 1000).unwrap();
            assert!(left <= fast, "{second}: {left:?}");
        }
        // What stands still may be said to take longer.
        let mut last = Duration::ZERO;
        for second in 200..230 {
            last = eta.look(at(second), 699, 1000).unwrap();
        }
        assert!(last > fast, "{last:?}");
    }
}
