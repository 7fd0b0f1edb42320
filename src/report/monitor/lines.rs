//! Where there is no terminal: one line per interval, or one JSON object.

use std::io::{self, Write, stdout};
use std::time::{Duration, Instant};

use crate::error::{Result, WrapErr};
use crate::observe::Watch;
use crate::observe::{Sample, seconds_in_words, span};
use crate::report::Format;
use crate::server::interrupt;
use crate::value::{Size, counted};

/// One sample per interval, until a signal or a closed standard output.
pub(super) fn line_by_line(watch: Watch, interval: Duration, format: Format) -> Result<()> {
    let mut sampler = watch.sampler;
    loop {
        let begun = Instant::now();
        let sample = sampler.sample();
        if interrupt::caught() {
            return Ok(());
        }
        let text = match format {
            Format::Json => json(&sample)?,
            _ => line(&sample),
        };
        let mut out = stdout().lock();
        match writeln!(out, "{text}").and_then(|()| out.flush()) {
            Ok(()) => {}
            // Whoever read has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            Err(error) => return Err(error).wrap_err("write to standard output"),
        }
        drop(out);
        if interrupt::sleep(interval.saturating_sub(begun.elapsed())).is_err() {
            return Ok(());
        }
    }
}

fn json(sample: &Sample) -> Result<String> {
    let mut fields = serde_json::to_value(sample).wrap_err("write the sample as JSON")?;
    if let Some(fields) = fields.as_object_mut() {
        fields.insert("command".into(), "monitor".into());
        fields.insert("ok".into(), true.into());
        fields.insert("changed".into(), false.into());
        fields.insert("error".into(), serde_json::Value::Null);
    }
    Ok(fields.to_string())
}

/// A sample in one line.
pub(super) fn line(sample: &Sample) -> String {
    let bytes = |value: Option<u64>| value.map_or("?".to_owned(), |it| Size(it).rounded());
    let mut line = format!(
        "{} {} lag {}",
        sample.time,
        sample.status,
        bytes(sample.lag_bytes)
    );
    if sample.lag_seconds.is_some() {
        let seconds = seconds_in_words(sample.lag_seconds, sample.lag_seconds_at_most);
        line += &format!(" {seconds}");
    }
    if let Some(parts) = sample.lag {
        line += &format!(
            " (not sent {}, on the way {}, not applied {})",
            bytes(Some(parts.unsent_bytes)),
            bytes(Some(parts.unwritten_bytes)),
            bytes(Some(parts.unapplied_bytes))
        );
    }
    if let Some(rates) = &sample.rates {
        let bytes = |rate: Option<f64>| bytes(rate.map(|it| it.max(0.0) as u64));
        line += &format!(
            ", writes {}/s, applies {}/s",
            bytes(rates.wal_bytes_per_second),
            bytes(rates.confirmed_bytes_per_second)
        );
    }
    line += &format!(", retains {}", bytes(sample.retained_wal_bytes));
    if let Some(hours) = sample.retention.and_then(|it| it.hours_left) {
        line += &format!(" ({} left)", span(hours * 3600.0));
    }
    if let Some(tables) = sample.tables {
        line += &format!(
            ", {} of {} ready",
            tables.ready,
            counted(tables.total, "table")
        );
    }
    if let Some(left) = sample.copying.as_ref().and_then(|it| it.seconds_left) {
        line += &format!(" ({} left)", span(left));
    }
    let errors = [&sample.publisher_error, &sample.subscriber_error];
    for words in errors.into_iter().flatten() {
        line += &format!("; {words}");
    }
    for cause in &sample.causes {
        line += &format!("; why: {cause}");
    }
    line.replace('\n', " ")
}
