//! The lines on top: how it fares, who can write where, what is wrong and why it is slow, where the lag is.

use std::time::Duration;

use ratatui::text::{Line, Span};

use super::View;
use crate::observe::{LagStatus, Ready, span};
use crate::report::monitor::columns::{self, shortened};
use crate::report::monitor::theme::Theme;
use crate::value::Size;

impl View {
    pub(super) fn title(&self, theme: &Theme, width: u16) -> Line<'static> {
        let status = self
            .sample
            .as_ref()
            .map_or(LagStatus::Unknown, |it| it.status);
        let silent = self.taken_at.elapsed();
        let late = !self.paused
            && self.sample.is_some()
            && silent > self.interval + Duration::from_secs(2);
        let when = match (&self.sample, self.paused, late) {
            (None, ..) => "waits for the first sample".to_owned(),
            (Some(sample), true, _) => format!("PAUSED at {}", clock(&sample.time)),
            (Some(_), false, true) => format!("no answer for {}", span(silent.as_secs_f64())),
            (Some(sample), false, false) => {
                format!(
                    "{} every {}",
                    clock(&sample.time),
                    humantime::format_duration(self.interval)
                )
            }
        };
        let room = usize::from(width).saturating_sub(when.len() + 14);
        Line::from(vec![
            Span::styled(format!(" {status} "), theme.badge(status)),
            Span::styled(
                format!(" {}  ", shortened(&self.name, room.max(8))),
                theme.strong(),
            ),
            Span::raw(when),
        ])
    }

    pub(super) fn who(&self, theme: &Theme, width: u16) -> Line<'static> {
        let Some(headline) = &self.headline else {
            return Line::styled("who can write where is being looked up", theme.faint());
        };
        let writable = format!("{}  {}: ", headline.writable, headline.question());
        let room = usize::from(width).saturating_sub(columns::width(&writable));
        let (status, ready) = match &headline.cut_over {
            Ready::Yes => (LagStatus::Ok, "yes".to_owned()),
            Ready::No(why) => {
                let whole = format!("no, because {}", clean(why));
                let short = columns::width(&whole) <= room;
                // Else the reason has lines of its own.
                (
                    LagStatus::Warning,
                    if short {
                        whole
                    } else {
                        "no, see below".to_owned()
                    },
                )
            }
            Ready::Done(what) => (LagStatus::Ok, what.clone()),
        };
        Line::from(vec![
            Span::raw(writable),
            Span::styled(shortened(&ready, room), theme.text(status)),
        ])
    }

    /// Why it cannot be cut over now, when that does not fit beside the answer.
    pub(super) fn not_ready(&self, width: u16) -> Option<String> {
        let headline = self.headline.as_ref()?;
        let Ready::No(why) = &headline.cut_over else {
            return None;
        };
        let why = clean(why);
        let line = format!(
            "{}  {}: no, because {why}",
            headline.writable,
            headline.question()
        );
        // What is broken is said already.
        let known = self
            .sample
            .as_ref()
            .is_some_and(|it| why.contains(&it.message) && !it.message.is_empty());
        (columns::width(&line) > usize::from(width) && !known).then_some(why)
    }

    /// What is wrong, and why it is slow.
    pub(super) fn why(&self, theme: &Theme, width: u16) -> Vec<Line<'static>> {
        let mut lines = Vec::new();
        let Some(sample) = &self.sample else {
            return vec![Line::raw("")];
        };
        if sample.status != LagStatus::Ok {
            lines.push(Line::styled(
                clean(&sample.message),
                theme.text(sample.status),
            ));
        }
        let after = |word: &'static str, words: &str| {
            Line::from(vec![
                Span::styled(word, theme.strong()),
                Span::raw(clean(words)),
            ])
        };
        lines.extend(
            sample
                .causes
                .iter()
                .map(|cause| after("why: ", &cause.message)),
        );
        lines.extend(self.not_ready(width).map(|why| after("not ready: ", &why)));
        // One that is the reason is said as such.
        let said = match self.headline.as_ref().map(|it| &it.cut_over) {
            Some(Ready::No(why)) => clean(why),
            _ => String::new(),
        };
        let warnings = self.headline.iter().flat_map(|it| &it.warnings);
        for warning in warnings.filter(|it| !said.contains(&clean(it))) {
            lines.push(Line::styled(
                clean(warning),
                theme.text(LagStatus::Critical),
            ));
        }
        if lines.is_empty() {
            lines.push(Line::styled("all is well", theme.text(LagStatus::Ok)));
        }
        lines
    }

    /// Where the lag is, and what flows.
    pub(super) fn flow(&self, theme: &Theme, width: u16) -> Vec<Line<'static>> {
        let Some(sample) = &self.sample else {
            return Vec::new();
        };
        let size = |bytes: u64| Size(bytes).rounded();
        let parts = sample.lag.map_or(
            "where the lag is: unknown without a walsender".to_owned(),
            |it| {
                let bar = bar(
                    [it.unsent_bytes, it.unwritten_bytes, it.unapplied_bytes],
                    12,
                );
                format!(
                    "{bar} not sent {} █  on the way {} ▒  not applied {} ░",
                    size(it.unsent_bytes),
                    size(it.unwritten_bytes),
                    size(it.unapplied_bytes)
                )
            },
        );
        let per_second = |value: Option<f64>| {
            value.map_or("-".to_owned(), |it| {
                format!("{}/s", size(it.max(0.0) as u64))
            })
        };
        let rows = |value: Option<f64>| value.map_or("-".to_owned(), |it| format!("{it:.0}"));
        let rates = sample.rates.clone().unwrap_or_default();
        let mut flow = format!(
            "writes {} {} rows/s  applies {} {} rows/s",
            per_second(rates.wal_bytes_per_second),
            rows(rates.publisher_rows_per_second),
            per_second(rates.confirmed_bytes_per_second),
            rows(rates.subscriber_rows_per_second)
        );
        if let Some(seconds) = rates.catch_up_seconds.filter(|it| *it >= 2.0) {
            flow += &format!("  caught up in {}", span(seconds));
        }
        let width = usize::from(width);
        vec![
            Line::raw(shortened(&parts, width)),
            Line::styled(shortened(&flow, width), theme.strong()),
        ]
    }
}

/// Proportions, told apart by their pattern; what is there has a cell at least.
fn bar(parts: [u64; 3], width: u64) -> String {
    let all: u64 = parts.iter().sum();
    let mut bar = String::new();
    for (part, pattern) in parts.into_iter().zip(["█", "▒", "░"]) {
        let cells = match (part, all) {
            (0, _) | (_, 0) => 0,
            (part, all) => (u128::from(part) * u128::from(width) / u128::from(all)).max(1),
        };
        bar += &pattern.repeat(usize::try_from(cells).unwrap_or(0));
    }
    let length = bar.chars().count();
    bar + &"·".repeat((width as usize).saturating_sub(length))
}

/// The time of day in a timestamp.
fn clock(time: &str) -> &str {
    time.get(11..19).unwrap_or(time)
}

/// Messages of servers may hold anything.
fn clean(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
