//! What the screen shows of the samples, whatever its size: decided here, drawn by ratatui.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{Block, Borders, Clear, Paragraph, Wrap};

use super::columns::shortened;
use super::graph::{Graph, Measure, Point};
use super::keys::{HELP, Wish};
use super::panel::Panel;
use super::theme::Theme;
use crate::config::Lag;
use crate::observe::{Headline, Ready, Watch};
use crate::observe::{LagStatus, Sample, span};
use crate::value::Size;

/// A day of samples, one each second.
const LONGEST: usize = 86_400;
/// How long a time the graphs may show.
const SPANS: [f64; 7] = [60.0, 300.0, 900.0, 3600.0, 14_400.0, 43_200.0, 86_400.0];
/// How often samples may be taken.
const INTERVALS: [f64; 9] = [0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0];

/// Where a panel stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Only this one fits.
    Alone,
    /// Beside others, and keys move in it.
    Chosen,
    Beside,
}

/// The state of the screen.
pub(super) struct View {
    name: String,
    limits: Lag,
    interval: Duration,
    paused: bool,
    help: bool,
    chosen: usize,
    scrolled: usize,
    span: usize,
    begun: Instant,
    points: VecDeque<Point>,
    taken_at: Instant,
    sample: Option<Sample>,
    pub(super) headline: Option<Headline>,
}

impl View {
    pub(super) fn new(watch: &Watch, interval: Duration) -> View {
        View::of(&watch.name, watch.limits, interval)
    }

    pub(super) fn of(name: &str, limits: Lag, interval: Duration) -> View {
        View {
            name: name.to_owned(),
            limits,
            interval,
            paused: false,
            help: false,
            chosen: 0,
            scrolled: 0,
            span: 1,
            begun: Instant::now(),
            points: VecDeque::new(),
            taken_at: Instant::now(),
            sample: None,
            headline: None,
        }
    }

    /// How often samples are wanted.
    pub(super) fn pace(&self) -> Option<Duration> {
        (!self.paused).then_some(self.interval)
    }

    pub(super) fn take(&mut self, sample: Sample) {
        self.taken_at = Instant::now();
        let at = self.taken_at.duration_since(self.begun).as_secs_f64();
        self.take_at(sample, at);
    }

    pub(super) fn take_at(&mut self, sample: Sample, at: f64) {
        self.points.push_back(Point {
            at,
            bytes: sample.lag_bytes.map(|it| it as f64),
            seconds: sample.lag_seconds,
        });
        if self.points.len() > LONGEST {
            self.points.pop_front();
        }
        self.points.make_contiguous();
        self.sample = Some(sample);
    }

    pub(super) fn grant(&mut self, wish: Wish) {
        let step = |by: i64, at: usize, len: usize| {
            usize::try_from(at as i64 + by).unwrap_or(0).min(len - 1)
        };
        match wish {
            Wish::Quit | Wish::Redraw => {}
            Wish::Pause => self.paused = !self.paused,
            Wish::Help => self.help = !self.help,
            Wish::Next => self.choose(1),
            Wish::Previous => self.choose(Panel::ALL.len() - 1),
            Wish::Down(by) => self.scrolled = self.scrolled.saturating_add(by),
            Wish::Up(by) => self.scrolled = self.scrolled.saturating_sub(by),
            Wish::Longer => self.span = step(1, self.span, SPANS.len()),
            Wish::Shorter => self.span = step(-1, self.span, SPANS.len()),
            Wish::Faster => self.interval = self.other_interval(|next, now| next < now, true),
            Wish::Slower => self.interval = self.other_interval(|next, now| next > now, false),
        }
    }

    fn choose(&mut self, by: usize) {
        self.chosen = (self.chosen + by) % Panel::ALL.len();
        self.scrolled = 0;
    }

    fn other_interval(&self, fits: impl Fn(f64, f64) -> bool, from_above: bool) -> Duration {
        let now = self.interval.as_secs_f64();
        let mut fitting = INTERVALS.into_iter().filter(|it| fits(*it, now));
        let next = match from_above {
            true => fitting.next_back(),
            false => fitting.next(),
        };
        Duration::from_secs_f64(next.unwrap_or(now))
    }

    pub(super) fn draw(&mut self, frame: &mut Frame<'_>, theme: &Theme) {
        let area = frame.area();
        let why = self.why(theme, area.width);
        let lines = u16::try_from(wrapped(&why, area.width)).unwrap_or(u16::MAX);
        let most = if area.height >= 40 { 10 } else { 6 };
        let [title, who, reasons, graphs, flow, panels, keys] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Length(1),
            Constraint::Length(lines.clamp(1, most)),
            Constraint::Percentage(34),
            Constraint::Length(2),
            Constraint::Min(5),
            Constraint::Length(1),
        ])
        .areas(area);
        frame.render_widget(self.title(theme, area.width), title);
        frame.render_widget(self.who(theme, area.width), who);
        frame.render_widget(
            Paragraph::new(Text::from(why)).wrap(Wrap { trim: true }),
            reasons,
        );
        self.draw_graphs(frame, graphs, theme);
        frame.render_widget(Paragraph::new(self.flow(theme, area.width)), flow);
        self.draw_panels(frame, panels, theme);
        frame.render_widget(self.keys(theme), keys);
        if self.help {
            draw_help(frame, theme);
        }
    }

    fn title(&self, theme: &Theme, width: u16) -> Line<'static> {
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

    fn who(&self, theme: &Theme, width: u16) -> Line<'static> {
        let Some(headline) = &self.headline else {
            return Line::styled("who can write where is being looked up", theme.faint());
        };
        let writable = format!("{}  {}: ", headline.writable, headline.question());
        let room = usize::from(width).saturating_sub(super::columns::width(&writable));
        let (status, ready) = match &headline.cut_over {
            Ready::Yes => (LagStatus::Ok, "yes".to_owned()),
            Ready::No(why) => {
                let whole = format!("no, because {}", clean(why));
                let short = super::columns::width(&whole) <= room;
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
    fn not_ready(&self, width: u16) -> Option<String> {
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
        (super::columns::width(&line) > usize::from(width) && !known).then_some(why)
    }

    /// What is wrong, and why it is slow.
    fn why(&self, theme: &Theme, width: u16) -> Vec<Line<'static>> {
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
        for warning in self.headline.iter().flat_map(|it| &it.warnings) {
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

    fn draw_graphs(&self, frame: &mut Frame<'_>, area: Rect, theme: &Theme) {
        let halves = Layout::horizontal([Constraint::Percentage(50), Constraint::Percentage(50)]);
        let areas: [Rect; 2] = halves.spacing(1).areas(area);
        let now = self.points.back().map_or(0.0, |it| it.at);
        let (warning, critical) = (&self.limits.warning, &self.limits.critical);
        let limits = [
            (
                Measure::Bytes,
                warning.bytes.0 as f64,
                critical.bytes.0 as f64,
            ),
            (Measure::Seconds, warning.seconds, critical.seconds),
        ];
        for (area, (measure, warning, critical)) in areas.into_iter().zip(limits) {
            let graph = Graph {
                measure,
                points: self.points.as_slices().0,
                now,
                span: SPANS[self.span],
                warning,
                critical,
            };
            graph.draw(frame, area, theme);
        }
    }

    /// Where the lag is, and what flows.
    fn flow(&self, theme: &Theme, width: u16) -> Vec<Line<'static>> {
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

    fn draw_panels(&mut self, frame: &mut Frame<'_>, area: Rect, theme: &Theme) {
        let Some(sample) = self.sample.clone() else {
            return;
        };
        if area.height >= 20 && area.width >= 120 {
            let rows: [Rect; 3] = Layout::vertical([Constraint::Ratio(1, 3); 3]).areas(area);
            let halves = Layout::horizontal([Constraint::Percentage(50); 2]).spacing(1);
            let [slots, errors]: [Rect; 2] = halves.areas(rows[1]);
            let [tables, sessions]: [Rect; 2] = halves.areas(rows[2]);
            let places = [rows[0], slots, tables, errors, sessions];
            for (at, (panel, place)) in Panel::ALL.into_iter().zip(places).enumerate() {
                let standing = match at == self.chosen {
                    true => Standing::Chosen,
                    false => Standing::Beside,
                };
                self.draw_panel(frame, place, panel, standing, &sample, theme);
            }
        } else {
            let panel = Panel::ALL[self.chosen];
            self.draw_panel(frame, area, panel, Standing::Alone, &sample, theme);
        }
    }

    fn draw_panel(
        &mut self,
        frame: &mut Frame<'_>,
        area: Rect,
        panel: Panel,
        standing: Standing,
        sample: &Sample,
        theme: &Theme,
    ) {
        let mut lines = unreachable(sample, theme);
        lines.extend(panel.lines(sample, theme));
        let room = usize::from(area.height.saturating_sub(1));
        let from = match standing {
            Standing::Alone | Standing::Chosen => {
                self.scrolled = self.scrolled.min(lines.len().saturating_sub(room));
                self.scrolled
            }
            Standing::Beside => 0,
        };
        let below = lines.len().saturating_sub(from + room);
        let mut title = vec![match standing {
            Standing::Alone | Standing::Chosen => {
                Span::styled(format!(" {} ", panel.title()), theme.chosen())
            }
            Standing::Beside => Span::styled(format!(" {} ", panel.title()), theme.strong()),
        }];
        // On a small screen the others are named, so that the Tab key is no secret.
        if standing == Standing::Alone {
            let at = Panel::ALL.iter().position(|it| *it == panel).unwrap_or(0);
            let others = (1..Panel::ALL.len()).map(|by| Panel::ALL[(at + by) % Panel::ALL.len()]);
            let others: Vec<&str> = others.map(Panel::title).collect();
            title.push(Span::styled(
                format!(" Tab: {} ", others.join(", ")),
                theme.faint(),
            ));
        }
        if below > 0 {
            title.push(Span::raw(format!(" {below} more below ")));
        }
        let block = Block::new().borders(Borders::TOP).title(Line::from(title));
        let text: Vec<Line<'_>> = lines.into_iter().skip(from).collect();
        frame.render_widget(Paragraph::new(text).block(block), area);
    }

    fn keys(&self, theme: &Theme) -> Line<'static> {
        let words = match self.paused {
            true => "p goes on  q quits  Tab panel  ? help",
            false => "q quits  p pauses  +/- interval  Tab panel  arrows move  ? help",
        };
        Line::styled(words, theme.faint())
    }
}

/// A side that does not answer, in front of everything else.
fn unreachable(sample: &Sample, theme: &Theme) -> Vec<Line<'static>> {
    let (from, to) = sample.sides();
    let errors = [
        (from, &sample.publisher_error),
        (to, &sample.subscriber_error),
    ];
    let errors = errors
        .into_iter()
        .filter_map(|(side, error)| Some((side, error.as_ref()?)));
    errors
        .map(|(side, _)| {
            let words = format!("the {side} does not answer; asked again with each sample");
            Line::styled(words, theme.text(LagStatus::Critical))
        })
        .collect()
}

fn draw_help(frame: &mut Frame<'_>, theme: &Theme) {
    let area = frame.area();
    let height = u16::try_from(HELP.len() + 2)
        .unwrap_or(area.height)
        .min(area.height);
    let width = 62.min(area.width);
    let place = Rect {
        x: (area.width - width) / 2,
        y: (area.height - height) / 2,
        width,
        height,
    };
    let lines = HELP.map(|(keys, words)| {
        Line::from(vec![
            Span::styled(format!(" {keys:<20}"), theme.strong()),
            Span::raw(words),
        ])
    });
    let help = Paragraph::new(Text::from(lines.to_vec())).block(Block::bordered().title(" Keys "));
    frame.render_widget(Clear, place);
    frame.render_widget(help, place);
}

/// How many lines these take, wrapped at about this width.
fn wrapped(lines: &[Line<'_>], width: u16) -> usize {
    let width = usize::from(width.max(1));
    lines
        .iter()
        .map(|line| line.width().div_ceil(width).max(1))
        .sum()
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
