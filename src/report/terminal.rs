//! Progress for a person: a bar on a terminal, a line every ten seconds elsewhere, nothing for short work.

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
            },
        };
        let current = running.insert(current);
        if done >= total {
            if let Some(bar) = current.bar.take() {
                bar.finish_and_clear();
            }
            *running = None;
        } else if now - current.since >= SHORT {
            current.show(done, total, unit, now);
        }
    }
}

impl Running {
    fn show(&mut self, done: u64, total: u64, unit: Unit, now: Instant) {
        if stderr().is_terminal() {
            let bar = self.bar.get_or_insert_with(|| bar(&self.what, total, unit));
            bar.set_length(total);
            bar.set_position(done);
        } else if now - self.said >= EVERY {
            self.said = now;
            let (done_words, total_words) = match unit {
                Unit::Bytes => (Size(done).to_string(), Size(total).to_string()),
                Unit::Tables | Unit::Items => (done.to_string(), total.to_string()),
            };
            let rate = done as f64 / (now - self.since).as_secs_f64();
            let left = Duration::from_secs(
                ((total - done) as f64 / rate.max(f64::MIN_POSITIVE)).min(1e9) as u64,
            );
            let line = format!(
                "{}: {done_words} of {total_words}, about {} left",
                self.what,
                humantime::format_duration(left)
            );
            writeln!(stderr(), "{line}").unwrap_or_default();
        }
    }
}

fn bar(what: &str, total: u64, unit: Unit) -> ProgressBar {
    let template = match unit {
        Unit::Bytes => "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} eta {eta}",
        Unit::Tables => "{msg} {wide_bar} {pos}/{len} tables, eta {eta}",
        Unit::Items => "{msg} {wide_bar} {pos}/{len}, eta {eta}",
    };
    let style =
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(total)
        .with_style(style)
        .with_message(what.to_owned())
}

impl Terminal {
    fn line(&self, line: &str) {
        // Standard error may be closed; then there is nobody to tell.
        writeln!(stderr(), "{line}").unwrap_or_default();
    }
}
