//! Progress for a person: a bar on a terminal, a line every ten seconds elsewhere, nothing for short work.

use std::io::{IsTerminal, Write, stderr};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::progress::{Eta, Part, Progress, Unit};
use crate::value::Size;

/// Work shorter than this shows nothing.
const SHORT: Duration = Duration::from_secs(2);
/// How often a line is written where there is no terminal.
const EVERY: Duration = Duration::from_secs(10);

/// Progress on standard error.
#[derive(Default)]
pub struct Terminal {
    running: Mutex<Option<Running>>,
    parts: Mutex<Vec<Part>>,
}

struct Running {
    what: String,
    since: Instant,
    said: Instant,
    bar: Option<ProgressBar>,
    eta: Eta,
}

impl Progress for Terminal {
    fn announce(&self, line: &str) {
        self.line(line);
    }

    fn step(&self, line: &str) {
        self.line(line);
    }

    fn parts(&self, parts: &[Part]) {
        *self.parts.lock().unwrap_or_else(|e| e.into_inner()) = parts.to_vec();
    }

    fn advance(&self, what: &str, done: u64, total: u64, unit: Unit) {
        let parts = std::mem::take(&mut *self.parts.lock().unwrap_or_else(|e| e.into_inner()));
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
            current.show((done, total, unit), left, now, &parts);
        }
    }
}

impl Running {
    fn show(
        &mut self,
        (done, total, unit): (u64, u64, Unit),
        left: Option<Duration>,
        now: Instant,
        parts: &[Part],
    ) {
        let left = in_words(left);
        if stderr().is_terminal() {
            let bar = self.bar.get_or_insert_with(|| bar(&self.what, total, unit));
            bar.set_length(total);
            bar.set_position(done);
            let parts = parts
                .iter()
                .map(|it| format!(", {} {}", it.what, in_words(it.left)));
            // The bar's own rate is taken from its first draw on, which comes late: it began with hundreds of gigabytes.
            let rate = match (unit, self.eta.rate()) {
                (Unit::Bytes, Some(rate)) => format!("{}/s ", Size(rate as u64).rounded()),
                _ => String::new(),
            };
            bar.set_message(format!("{rate}eta {left}{}", parts.collect::<String>()));
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
            for part in parts {
                let line = format!(
                    "    {}: {} of {}, about {} left",
                    part.what,
                    Size(part.done_bytes),
                    Size(part.total_bytes),
                    in_words(part.left)
                );
                writeln!(stderr(), "{line}").unwrap_or_default();
            }
        }
    }
}

fn in_words(left: Option<Duration>) -> String {
    left.map_or("?".to_owned(), |left| {
        humantime::format_duration(left).to_string()
    })
}

fn bar(what: &str, total: u64, unit: Unit) -> ProgressBar {
    let template = match unit {
        Unit::Bytes => "{prefix} {wide_bar} {bytes}/{total_bytes} {msg}",
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
